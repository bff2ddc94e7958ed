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

# lives_on_our_disk SIZE MAKE CHECK: a file system is made, filled, looked at by
# its own checker in the guest and on the host, and read by another guest.
lives_on_our_disk() {
	local make=$2
	local look=$3
	local img

	img=$(image a.img "$1")
	guest one "ubd0=$img" <<-EOF
		$fill_script
		load
		$make /dev/ubda
		mount /dev/ubda \$mnt
		fill \$mnt
		umount \$mnt
		$look /dev/ubda
		mount /dev/ubda \$mnt
		check \$mnt
		fstrim -v \$mnt
		check \$mnt
		umount \$mnt
	EOF
	$look "$img" || fail "the host finds the file system broken"
	guest two "ubd0=$img" <<-EOF
		$fill_script
		load
		mount /dev/ubda \$mnt
		check \$mnt
		umount \$mnt
		unload
	EOF
}

test_ext4() {
	lives_on_our_disk 256M 'mkfs.ext4 -q' 'e2fsck -fn'
}

test_xfs() {
	lives_on_our_disk 320M 'mkfs.xfs -q' 'xfs_repair -n'
}

run_tests "$@"
