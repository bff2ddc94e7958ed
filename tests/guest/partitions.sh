#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Partition tables: primary and logical partitions, and a GPT with more of them
# than a disk has minors.
. "$(dirname "$0")/lib.sh"

test_mbr() {
	local img

	img=$(image a.img 96M)
	"$tool" mbr "$img"
	guest one "ubd0=$img" <<-'EOF'
		load
		for n in 1 2 5 6 7; do
			[ -b /dev/ubda$n ] || die "no ubda$n"
		done
		same 'number of 7' "$(cat /sys/block/ubda/ubda7/dev)" 98:7
		same 'start of 1' "$(cat /sys/block/ubda/ubda1/start)" 2048
		same 'start of 6' "$(cat /sys/block/ubda/ubda6/start)" $((133120 + 10240 + 2048))
		same 'size of 7' "$(cat /sys/block/ubda/ubda7/size)" 8192
		for n in 1 2; do
			mkfs.ext4 -q /dev/ubda$n
			mkdir $mnt/$n
			mount /dev/ubda$n $mnt/$n
			dd if=/dev/urandom of=$mnt/$n/file bs=1M count=8 status=none
			sha256sum <$mnt/$n/file >$mnt/$n/sum
		done
		refused unload
		umount $mnt/1 $mnt/2
		for n in 1 2; do
			mount /dev/ubda$n $mnt/$n
			same "checksum on $n" "$(sha256sum <$mnt/$n/file)" "$(cat $mnt/$n/sum)"
		done
		umount $mnt/1 $mnt/2
		# What a partition writes lies where the table says.
		"$tool" pattern write /dev/ubda5 0 8192 5
		unload
	EOF
	dd if="$img" of=5 bs=512 skip=$((133120 + 2048)) count=8192 status=none
	"$tool" pattern check 5 0 8192 5
	e2fsck -fn "$img?offset=$((2048 * 512))"
	e2fsck -fn "$img?offset=$((67584 * 512))"
}

test_gpt() {
	local img

	img=$(image a.img 64M)
	"$tool" gpt "$img" 24
	guest one "ubd0=$img" <<-'EOF'
		load
		for n in $(seq 24); do
			[ -b /dev/ubda$n ] || die "no ubda$n"
			"$tool" pattern write /dev/ubda$n 0 2048 $n
		done
		for n in $(seq 24); do
			"$tool" pattern check /dev/ubda$n 0 2048 $n
		done
		unload
		load
		"$tool" pattern check /dev/ubda24 0 2048 24
	EOF
}

# A table that the guest writes is read anew when it asks.
test_reread() {
	local img

	img=$(image a.img 96M)
	guest one "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda1 ] || die 'a partition without a table'
		"$tool" mbr /dev/ubda
		blockdev --rereadpt /dev/ubda
		[ -b /dev/ubda7 ] || die 'no partition after the table was written'
		dd if=/dev/zero of=/dev/ubda bs=512 count=1 status=none
		blockdev --rereadpt /dev/ubda
		[ ! -e /dev/ubda1 ] || die 'a partition after the table was removed'
	EOF
}

run_tests "$@"
