#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# File systems on a device: made, filled, checked from inside and from outside.
. "$(dirname "$0")/lib.sh"

# Many files of many sizes, removed in part, with a checksum list beside.
fill_script='
fill() {
	local i
	for i in $(seq 60); do
		head -c $((i * i * 139)) /dev/urandom >"$1/f$i"
	done
	mkdir "$1/dir"
	for i in $(seq 500); do
		echo "$i" >"$1/dir/$i"
	done
	dd if=/dev/urandom of="$1/big" bs=1M count=48 status=none
	rm "$1"/f*7
	(cd "$1" && find . -type f ! -name sums -exec sha256sum {} + >sums)
}
check() {
	(cd "$1" && sha256sum --quiet -c sums)
}
'

test_ext4() {
	local img

	img=$(image a.img 256M)
	guest one "ubd0=$img" <<-EOF
		$fill_script
		load
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda \$mnt
		fill \$mnt
		umount \$mnt
		e2fsck -fn /dev/ubda
		mount /dev/ubda \$mnt
		check \$mnt
		fstrim -v \$mnt
		check \$mnt
		umount \$mnt
	EOF
	e2fsck -fn "$img" || fail "the host finds the file system broken"
	guest two "ubd0=$img" <<-EOF
		$fill_script
		load
		mount /dev/ubda \$mnt
		check \$mnt
		umount \$mnt
		unload
	EOF
}

test_xfs() {
	local img

	img=$(image a.img 320M)
	guest one "ubd0=$img" <<-EOF
		$fill_script
		load
		mkfs.xfs -q /dev/ubda
		mount /dev/ubda \$mnt
		fill \$mnt
		umount \$mnt
		xfs_repair -n /dev/ubda
		mount /dev/ubda \$mnt
		check \$mnt
		fstrim -v \$mnt
		check \$mnt
		umount \$mnt
	EOF
	xfs_repair -n "$img" || fail "the host finds the file system broken"
	guest two "ubd0=$img" <<-EOF
		$fill_script
		load
		mount /dev/ubda \$mnt
		check \$mnt
		umount \$mnt
		unload
	EOF
}

run_tests "$@"
