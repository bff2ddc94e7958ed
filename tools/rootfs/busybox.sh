#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes the busybox root: an ext4 image with one static program in it, and with
# those that are named.
#
#   tools/rootfs/busybox.sh OUTPUT [SIZE [PROGRAM...]]
#
# Needs no root: mke2fs copies a directory into the image.
set -euo pipefail

die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

(($# >= 1)) || die "usage: tools/rootfs/busybox.sh output [size [program...]]"
output=$1 size=${2:-256M}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
busybox=$(command -v busybox) || die "no busybox (Debian package busybox-static): run 'make setup'"

mkdir -p "$(dirname "$output")"
tree=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$tree" "$output.new"' EXIT

umask 022
mkdir -p "$tree"/{bin,dev,etc/init.d,mnt,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin,var}
chmod 755 "$tree"
chmod 1777 "$tree/tmp"
chmod 700 "$tree/root"
ln -s ../run "$tree/var/run"
ln -s ../tmp "$tree/var/tmp"
cp "$busybox" "$tree/bin/busybox"
chmod 755 "$tree/bin/busybox"
"$busybox" --list-full | while read -r applet; do
	[[ $applet == */busybox ]] || ln -s /bin/busybox "$tree/$applet"
done
cp -R --no-preserve=mode,ownership "$here/busybox/." "$tree/etc/"
chmod 755 "$tree"/etc/init.d/*
for program in "${@:3}"; do
	cp "$program" "$tree/usr/bin/"
	chmod 755 "$tree/usr/bin/${program##*/}"
done
printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$tree/etc/passwd"
printf '%s\n' root:x:0: disk:x:6: nogroup:x:65534: >"$tree/etc/group"

# mke2fs takes the files' owner with their other attributes, and all here is
# root's: a name space in which we are root says so, and when there is none
# debugfs does.
if ((EUID == 0)); then
	as_root=()
else
	as_root=(unshare --user --map-root-user)
	"${as_root[@]}" true 2>/dev/null || as_root=()
fi
rm -f "$output.new"
truncate -s "$size" "$output.new"
chmod 644 "$output.new"
"${as_root[@]}" mke2fs -q -F -t ext4 -b 4096 -L ubd-root -m 0 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 \
	-d "$tree" "$output.new"
if ((EUID != 0)) && ((${#as_root[@]} == 0)); then
	(cd "$tree" && find . -mindepth 1 -printf 'set_inode_field "%P" uid 0\nset_inode_field "%P" gid 0\n') |
		debugfs -w -f - "$output.new" >/dev/null 2>&1
fi
mv "$output.new" "$output"
