#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes the initramfs: our init, ubd.ko, and busybox for the shell that opens
# when there is no root to go to.
#
#   tools/initramfs.sh OUTPUT INIT [UBD_KO]
#
# Installed it is /usr/lib/ubd/initramfs.sh, with init beside it.
#
# gen_init_cpio of the kernel that the project builds writes the archive, since
# it makes device nodes without being root. The same input makes the same
# archive, and an output that would not change keeps its date.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# It lies beside this script where that is installed.
generator=$here/gen_init_cpio
[[ ! -x $here/kernel/build.sh ]] || generator=$("$here/kernel/build.sh" --path release)/usr/gen_init_cpio

die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

(($# >= 2)) || die "usage: tools/initramfs.sh output init [ubd.ko]"
output=$1 init=$2 module=${3:-}
busybox=$(command -v busybox) || die "no busybox (Debian package busybox-static): run 'make setup'"
[[ $init$module$busybox != *[[:space:]]* ]] || die "the names of files must have no blanks, which gen_init_cpio cannot bear: $init $module"
[[ -x $generator ]] || die "no $generator: run 'make kernel-release', or install it anew"

list()
{
	local directory applet
	for directory in /bin /dev /etc /newroot /proc /root /run /sys /tmp; do
		echo "dir $directory 0755 0 0"
	done
	echo "nod /dev/console 0600 0 0 c 5 1"
	echo "nod /dev/null 0666 0 0 c 1 3"
	echo "file /init $init 0755 0 0"
	echo "file /bin/busybox $busybox 0755 0 0"
	[[ -z $module ]] || echo "file /ubd.ko $module 0644 0 0"
	for applet in $("$busybox" --list); do
		[[ $applet == busybox ]] || echo "slink /bin/$applet busybox 0777 0 0"
	done
}

trap 'rm -f "$output.list" "$output.new"' EXIT
list >"$output.list"
"$generator" -t 0 "$output.list" | gzip -n -6 >"$output.new"
if ! cmp -s "$output.new" "$output"; then
	mv "$output.new" "$output"
fi
