#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Cache modes: how each is asked for, what the guest is told, what the host's page
# cache and its disk see of it, and what is done where O_DIRECT cannot be had.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"
. "$guest_dir/witness.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}
modes='writeback none writethrough directsync unsafe'

is_direct() {
	[ "$1" = none ] || [ "$1" = directsync ]
}

# Where the tests' files lie O_DIRECT has to be more than a word.
needs_direct() {
	case $(findmnt -n -o FSTYPE -T "$work") in
	ext4 | xfs) ;;
	*) skip "here the images lie on a file system of which it is not known what O_DIRECT does" ;;
	esac
}

# descriptors NAME FILE: how often the guest has it open with O_DIRECT, and how
# often without
descriptors() {
	local fd flags
	local direct=0 plain=0

	for fd in "/proc/${guest_pid[$1]}/fd"/*; do
		[ "$(readlink "$fd")" = "$2" ] || continue
		flags=$(awk '$1 == "flags:" { print $2 }' "${fd/\/fd\//\/fdinfo\/}")
		if [ $((flags & 040000)) = 0 ]; then
			plain=$((plain + 1))
		else
			direct=$((direct + 1))
		fi
	done
	echo "$direct $plain"
}

# KiB of a file in the host's page cache
cached() {
	echo $(($(fincore --bytes --noheadings --output RES "$1") / 1024))
}

# Takes a file out of there.
uncache() {
	sync "$1"
	dd if="$1" of=/dev/null iflag=nocache count=0 status=none
}

# base [MIB]: a backing file full of what does not repeat
base() {
	image base.img "${1:-16}M" >/dev/null
	noise base.img "${1:-16}"
}

# All modes in one guest, each on a raw disk and on a COW disk.
test_modes() {
	local mode
	local n=0
	local words=()

	needs_direct
	base
	for mode in $modes; do
		image "$mode.img" 16M >/dev/null
		words+=("ubd=cache:$mode" "ubd$n=$work/$mode.img" "ubd$((n + 1))=$work/$mode.cow,$work/base.img")
		n=$((n + 2))
	done
	guest_start one "${words[@]}" <<-'EOF'
		# told WORD RAW_FUA DISK: what the block layer knows
		told() {
			same "$3 write_cache" "$(cat /sys/block/$3/queue/write_cache)" "$1"
			same "$3 fua" "$(cat /sys/block/$3/queue/fua)" "$2"
		}
		load
		told 'write back' 1 ubda
		told 'write back' 0 ubdb
		told 'write back' 1 ubdc
		told 'write back' 0 ubdd
		for disk in ubde ubdf ubdg ubdh ubdi ubdj; do
			told 'write through' 0 $disk
		done
		n=0
		for disk in ubda ubdb ubdc ubdd ubde ubdf ubdg ubdh ubdi ubdj; do
			n=$((n + 1))
			"$tool" pattern write /dev/$disk 1000 24000 $n
			"$tool" pattern check /dev/$disk 1000 24000 $n
			dd if=/dev/urandom of=/dev/$disk bs=4k count=1 seek=4000 oflag=direct conv=notrunc,fsync status=none
			blkdiscard -z -o $((25000 * 512)) -l 65536 /dev/$disk
			"$tool" zeros /dev/$disk 25000 128
			blkdiscard -o $((25200 * 512)) -l 65536 /dev/$disk
			same "$disk errors" "$(stat_of $disk errors)" 0
		done
		# Whoever is asked for durability gives it, or was never asked.
		for disk in ubda ubdb ubdc ubdd; do
			[ "$(stat_of $disk host_syncs)" -gt 0 ] || die "$disk: no fdatasync"
		done
		for disk in ubde ubdg; do
			[ "$(stat_of $disk host_dsync_writes)" -gt 5 ] || die "$disk: writes are not durable"
		done
		for disk in ubdf ubdh; do
			[ "$(stat_of $disk host_syncs)" -gt 5 ] || die "$disk: writes are not durable"
			same "$disk: sectors of which the file does not know" "$(stat_of $disk dirty_sectors)" 0
		done
		for disk in ubdi ubdj; do
			same "$disk syncs" "$(stat_of $disk host_syncs)" 0
			same "$disk durable writes" "$(stat_of $disk host_dsync_writes)" 0
		done
		touch $work/up
		until_file $work/go
		unload
	EOF
	guest_await one up
	for mode in $modes; do
		if is_direct "$mode"; then
			expect_eq "descriptors of the raw disk, $mode" "$(descriptors one "$work/$mode.img")" '2 1'
			expect_eq "descriptors of the COW disk, $mode" "$(descriptors one "$work/$mode.cow")" '1 2'
			# What was looked at when they were opened, and bits.
			[ "$(cached "$mode.img")" -le 256 ] || fail "$mode: the host caches $(cached "$mode.img") KiB"
			[ "$(cached "$mode.cow")" -le 256 ] || fail "$mode: the host caches $(cached "$mode.cow") KiB"
		else
			expect_eq "descriptors of the raw disk, $mode" "$(descriptors one "$work/$mode.img")" '0 2'
			expect_eq "descriptors of the COW disk, $mode" "$(descriptors one "$work/$mode.cow")" '0 2'
			[ "$(cached "$mode.img")" -ge 10000 ] || fail "$mode: the host caches $(cached "$mode.img") KiB"
			[ "$(cached "$mode.cow")" -ge 10000 ] || fail "$mode: the host caches $(cached "$mode.cow") KiB"
		fi
	done
	expect_eq 'descriptors of the backing file' "$(descriptors one "$work/base.img")" '2 5'
	touch go
	guest_wait one
	expect_eq status "$status" 0
	n=0
	for mode in $modes; do
		expect_once one "ubda?[a-z]: $work/$mode.img: 16777216 bytes .*, $mode, io_uring, 512-byte blocks"
		expect_once one "ubd[a-z]: $work/$mode.cow over .*, $mode, io_uring, 512-byte blocks"
		n=$((n + 1))
		"$tool" pattern check "$mode.img" 1000 24000 $n
		n=$((n + 1))
		"$ubd_cow" check "$mode.cow" >said
		"$ubd_cow" merge "$mode.cow" --into merged
		"$tool" pattern check merged 1000 24000 $n
		cmp -n 512000 merged base.img || fail "$mode: what was not written differs from the backing file"
		rm merged
	done
}

# Reads do not fill the host's page cache either: neither with the file nor with
# its backing file.
test_direct_reads() {
	needs_direct
	base
	image a.img 16M >/dev/null
	noise a.img 16
	uncache a.img
	uncache base.img
	guest one "ubd0=$work/a.img" "ubd1=$work/a.cow,$work/base.img" <<-'EOF'
		load cache=none
		for disk in ubda ubdb; do
			sha256sum </dev/$disk >$work/$disk
		done
		unload
	EOF
	[ "$(cached a.img)" -le 256 ] || fail "the host caches $(cached a.img) KiB"
	[ "$(cached base.img)" -le 256 ] || fail "the host caches $(cached base.img) KiB of the backing file"
	expect_eq 'content of the file' "$(cut -d ' ' -f 1 ubda)" "$(checksum a.img)"
	expect_eq 'content of the backing file' "$(cut -d ' ' -f 1 ubdb)" "$(checksum base.img)"
}

# Words are for what follows them, the parameter is for what has none, and s is
# heard in each.
test_words() {
	local i

	needs_direct
	for i in 0 1 2 3 4 5 6 7 8; do
		image "$i.img" 4M >/dev/null
	done
	guest one "ubd0=$work/0.img" ubd=sync "ubd1=$work/1.img" ubd=cache:unsafe "ubd2=$work/2.img" \
		"ubd3s=$work/3.img" ubd=cache:none "ubd4s=$work/4.img" "ubd5r=$work/5.img" <<-'EOF'
		load cache=none "device=6=$work/6.img" device==cache:writethrough "device=7=$work/7.img" \
			device=ubd=cache:writeback "device=8=$work/8.img"
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 9
		dd if=/dev/ubdf of=/dev/null bs=64k status=none
		unload
		load snapshot=1 cache=none
		"$tool" pattern write /dev/ubda 0 100 1
		"$tool" pattern check /dev/ubda 0 100 1
		unload
		for bad in '' None nones direct, writeback, "$(printf 'x%.0s' $(seq 100))"; do
			refused load "cache=$bad"
		done
		refused load cache
	EOF
	expect_once one 'ubda: .*0\.img: .*, none, io_uring'
	expect_once one 'ubdb: .*1\.img: .*, directsync, io_uring'
	expect_once one 'ubdc: .*2\.img: .*, unsafe, io_uring'
	expect_once one 'ubdd: .*3\.img: .*, writethrough, io_uring'
	expect_once one 'ubde: .*4\.img: .*, directsync, io_uring'
	# Of what is to be read only there is no snapshot.
	expect_eq 'lines of ubdf' "$(log_count one 'ubdf: .*5\.img: .*, none, io_uring, read-only')" 2
	expect_once one 'ubdg: .*6\.img: .*, none, io_uring'
	expect_once one 'ubdh: .*7\.img: .*, writethrough, io_uring'
	expect_once one 'ubdi: .*8\.img: .*, writeback, io_uring'
	expect_once one 'ubda: .*0\.img: .*, snapshot, io_uring'
	expect_eq 'complaints' "$(log_count one 'ubd: cache=.* is none of writeback, none, writethrough, directsync, unsafe$')" 6
	expect_once one 'ubd: cache= is none of'
	expect_once one 'ubd: cache=x{40} is none of'
}

fio_common='--thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --group_reporting'

# Many sizes, several at a time.
test_fio() {
	local mode
	local n=0
	local words=()

	base 48
	for mode in none directsync unsafe; do
		image "$mode.img" 48M >/dev/null
		words+=("ubd=cache:$mode" "ubd$n=$work/$mode.img" "ubd$((n + 1))=$work/$mode.cow,$work/base.img")
		n=$((n + 2))
	done
	guest one "${words[@]}" <<-EOF
		load
		fio $fio_common --direct=1 --rw=randwrite --bsrange=512-256k --size=40M --io_size=16M --ioengine=libaio \
			--iodepth=16 --name=a --filename=/dev/ubda --name=b --filename=/dev/ubdb --name=c --filename=/dev/ubdc \
			--name=d --filename=/dev/ubdd --name=e --filename=/dev/ubde --name=f --filename=/dev/ubdf \
			--output=\$work/fio.out || { tail -n 5 \$work/fio.out; die 'fio found errors'; }
		! grep -qE 'verify:|error' \$work/fio.out || die 'fio found errors'
		for disk in ubda ubdb ubdc ubdd ubde ubdf; do
			same "\$disk errors" \$(stat_of \$disk errors) 0
			same "\$disk in flight" \$(stat_of \$disk in_flight) 0
		done
		unload
	EOF
}

# A COW disk with sectors of both files in a mix, and memory anywhere that the
# guest may have it.
test_model() {
	image base.img 24M >/dev/null
	noise base.img 24
	made_cow a.cow 3 model.img 1
	guest one "ubd0=$work/a.cow" <<-'EOF'
		load cache=none
		same dma_alignment "$(cat /sys/block/ubda/queue/dma_alignment)" 511
		"$tool" model /dev/ubda $work/model.img 3000 6 512 1
		"$tool" model /dev/ubda $work/model.img 6000 6 512 2 changes
		unload
		load cache=writeback
		cmp /dev/ubda $work/model.img
		unload
	EOF
	"$ubd_cow" check a.cow >said
}

# Truncated while in use, in the middle of a sector: by O_DIRECT too what is left
# is there, and nothing after it.
test_truncated() {
	local img

	needs_direct
	img=$(image a.img 16M)
	"$tool" pattern write "$img" 0 32768 1
	guest_start one "ubd0=$img" <<-'EOF'
		load cache=none
		touch $work/ready
		until_file $work/truncated
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 2049 1
		"$tool" peek /dev/ubda 2049 >$work/part
		"$tool" peek /dev/ubda 2050 | cmp -n 512 - /dev/zero
		"$tool" zeros /dev/ubda 2050 30718
		[ "$(stat_of ubda zeroed_reads)" -gt 0 ]
		same errors "$(stat_of ubda errors)" 0
		touch $work/seen
		until_file $work/grown
		"$tool" pattern write /dev/ubda 2049 30719 1
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 1
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	guest_await one ready
	truncate -s $((2049 * 512 + 100)) "$img"
	touch truncated
	guest_await one seen
	cmp -n 100 part <(tail -c 100 "$img") || fail "the part of a sector is wrong"
	cmp <(tail -c 412 part) <(head -c 412 /dev/zero) || fail "the rest of that sector is not zero"
	truncate -s 16M "$img"
	touch grown
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $img: the file ends before the device does .*truncate -s"
	"$tool" pattern check "$img" 0 32768 1
}

# expect_instead DISK FILE MODE OTHER REASON: the one message, and the mode it has
expect_instead() {
	expect_once one "$1: $2: cache=$3 needs O_DIRECT, but $5; cache=$4 takes its place"
	expect_once one "$1: $2.*, $4, io_uring"
}

# In older COW files data begin anywhere; where it is at a page, it is right.
test_old_headers() {
	needs_direct
	base
	made_cow v1.cow 1
	made_cow v2.cow 2
	mv base.img 16.img
	ln 16.img base.img
	truncate -s 16384000 other.img
	(
		ln -f other.img base.img
		made_cow even.cow 2
	)
	rm base.img
	guest_start one ubd=cache:none "ubd0=$work/v1.cow,$work/16.img" ubd=sync "ubd1=$work/v2.cow,$work/16.img" \
		"ubd2=$work/even.cow,$work/other.img" <<-'EOF'
		load
		for disk in ubda ubdb ubdc; do
			"$tool" pattern write /dev/$disk 1000 5000 7
			"$tool" pattern check /dev/$disk 1000 5000 7
			same "$disk dma_alignment" "$(cat /sys/block/$disk/queue/dma_alignment)" $([ $disk = ubdc ] && echo 511 || echo 7)
		done
		cmp -n 512000 /dev/ubda $work/16.img
		touch $work/up
		until_file $work/go
		unload
	EOF
	guest_await one up
	expect_eq 'descriptors of the COW file' "$(descriptors one "$work/v1.cow")" '0 2'
	expect_eq 'descriptors of its backing file' "$(descriptors one "$work/16.img")" '0 2'
	expect_eq 'descriptors where data are at a page' "$(descriptors one "$work/even.cow")" '1 2'
	touch go
	guest_wait one
	expect_eq status "$status" 0
	expect_instead ubda "$work/v1.cow" none writeback 'its data begin at byte [0-9]+, which is no multiple of 4096 \(ubd-cow convert .*\)'
	expect_instead ubdb "$work/v2.cow" directsync writethrough 'its data begin at byte [0-9]+, .*'
	expect_once one "ubdc: $work/even.cow over .*, directsync, io_uring"
	expect_silent one 'ubdc: .*takes its place'
}

# What this module has open is not taken for the kernel's own driver's.
test_beside_own_driver() {
	needs_direct
	base
	use_compare
	guest one <<-'EOF'
		load cache=none "device=0=$work/a.cow,$work/base.img" "device=1=$work/b.cow,$work/base.img" \
			"device=2r=$work/base.img"
		same disks "$(cd /sys/block && echo aubd*)" 'aubda aubdb aubdc'
		for disk in aubda aubdb; do
			"$tool" pattern write /dev/$disk 1000 500 1
			"$tool" pattern check /dev/$disk 1000 500 1
		done
		cmp /dev/aubdc $work/base.img
		unload
	EOF
	expect_eq 'disks' "$(log_count one 'ubd: aubd.: .*, none, io_uring')" 3
}

# A file system that has no O_DIRECT, for the file or for its backing file.
test_no_direct() {
	local how=-m

	[ "$(id -u)" = 0 ] || how=-Urm
	base
	mkdir ram
	unshare $how mount -t ramfs ramfs ram 2>/dev/null || skip "no ramfs may be mounted here (unshare $how)"
	launcher=(unshare $how bash -c "mount -t ramfs ramfs $work/ram && cp -p $work/base.img $work/ram/base.img &&
		truncate -s 8M $work/ram/a.img && exec \"\$@\"" --)
	guest one ubd=cache:none "ubd0=$work/ram/a.img" "ubd1=$work/ram/b.cow,$work/base.img" \
		"ubd2=$work/c.cow,$work/ram/base.img" ubd=cache:directsync "ubd3=$work/ram/d.cow,$work/ram/base.img" \
		ubd=cache:unsafe "ubd4=$work/ram/e.cow,$work/ram/base.img" <<-'EOF'
		load
		for disk in ubda ubdb ubdc ubdd ubde; do
			"$tool" pattern write /dev/$disk 1000 5000 7
			sync /dev/$disk
			"$tool" pattern check /dev/$disk 1000 5000 7
			same "$disk errors" "$(stat_of $disk errors)" 0
		done
		[ "$(stat_of ubdd host_syncs)" -gt 1 ] || die 'writes are not durable'
		unload
	EOF
	expect_instead ubda "$work/ram/a.img" none writeback "the host's file system has none"
	expect_instead ubdb "$work/ram/b.cow" none writeback "the host's file system has none"
	expect_instead ubdc "$work/c.cow" none writeback "the host's file system has none of the backing file"
	expect_instead ubdd "$work/ram/d.cow" directsync writethrough "the host's file system has none"
	expect_once one 'ubde: .*, unsafe, io_uring'
	expect_eq 'messages' "$(log_count one 'takes its place')" 4
}

# Those that know of O_DIRECT's wishes as they make their requests: XFS takes
# memory for some of them that is not whole pages.
file_system='
# file_system DISK MAKE CHECK
file_system() {
	"$2" -q /dev/$1
	mount /dev/$1 $mnt
	mkdir $mnt/dir
	for i in $(seq 300); do
		echo $i >$mnt/dir/$i
	done
	dd if=/dev/urandom of=$mnt/file bs=50001 count=100 status=none
	sha256sum <$mnt/file >$work/sum
	sync
	rm $mnt/dir/1*
	umount $mnt
	mount /dev/$1 $mnt
	same "$1: a file" "$(sha256sum <$mnt/file)" "$(cat $work/sum)"
	umount $mnt
	$3 /dev/$1
	same "$1: errors" "$(stat_of $1 errors)" 0
}
'

test_file_systems() {
	image base.img 320M >/dev/null
	image a.img 320M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/a.cow,$work/base.img" <<-EOF
		$file_system
		load cache=none
		file_system ubda mkfs.xfs 'xfs_repair -n'
		file_system ubdb mkfs.xfs 'xfs_repair -n'
		unload
	EOF
	xfs_repair -n a.img || fail 'the host finds the file system broken'
}

# A disk of the host that has blocks of 4096 bytes, as it is and with a file system.
test_large_blocks() {
	local loop disk

	[ "$(id -u)" = 0 ] || skip "a host block device (a loop device) needs root"
	image disk.img 512M >/dev/null
	loop=$(losetup -f --show -b 4096 "$(image loop.img 16M)" 2>/dev/null) || skip "the host lets no loop device of 4096-byte blocks be made"
	at_end "losetup -d $loop"
	disk=$(losetup -f --show -b 4096 disk.img)
	at_end "losetup -d $disk"
	mkfs.ext4 -q "$disk"
	mkdir fs
	mount "$disk" fs
	at_end "umount $work/fs"
	truncate -s 16M fs/a.img fs/base.img
	truncate -s $((16777216 + 512)) fs/odd.img
	truncate -s 320M fs/xfs.img
	noise fs/base.img 16
	guest one ubd=cache:none "ubd0=$work/fs/a.img" "ubd1=$loop" "ubd2=$work/fs/a.cow,$work/fs/base.img" \
		"ubd3=$work/fs/odd.img" "ubd4=$work/fs/xfs.img" <<-EOF
		load
		for disk in ubda ubdb ubdc; do
			same "\$disk block" "\$(cat /sys/block/\$disk/queue/logical_block_size)" 4096
			same "\$disk dma_alignment" "\$(cat /sys/block/\$disk/queue/dma_alignment)" 4095
			refused dd if=/dev/zero of=/dev/\$disk bs=512 count=1 oflag=direct status=none
			"\$tool" pattern write /dev/\$disk 1000 24000 7
			"\$tool" pattern check /dev/\$disk 1000 24000 7
			fio --thread --verify=crc32c --verify_state_save=0 --direct=1 --rw=randwrite --bsrange=4k-256k --ba=4k \
				--size=16M --io_size=8M --ioengine=libaio --iodepth=16 --name=a --filename=/dev/\$disk \
				--mem_align=4096 --output=\$work/fio.out || die "\$(tail -n 5 \$work/fio.out)"
			same "\$disk errors" "\$(stat_of \$disk errors)" 0
		done
		$file_system
		file_system ubde mkfs.xfs 'xfs_repair -n'
		file_system ubda mkfs.ext4 'e2fsck -fn'
		same 'odd block' "\$(cat /sys/block/ubdd/queue/logical_block_size)" 512
		unload
		# Who asks for blocks of 512 bytes gets them, and parts of a block in the file.
		load block_size=512 cmdline=0 cache=directsync "device=1=\$work/fs/a.img" "device=2=\$work/fs/a.cow"
		"\$tool" pattern write /dev/ubdb 1001 7 8
		"\$tool" pattern check /dev/ubdb 1001 7 8
		unload
		# All of this COW file was written before; here is one that was not.
		load cmdline=0 block_size=512 "device=0=\$work/fs/b.cow,\$work/fs/base.img"
		dd if=\$work/loop.img of=/dev/ubda bs=512 count=7 skip=1001 seek=1001 oflag=direct conv=notrunc status=none
		unload
		load cmdline=0 cache=none "device=3=\$work/fs/b.cow"
		cmp -i \$((1001 * 512)) -n \$((7 * 512)) /dev/ubdd \$work/loop.img
		unload
	EOF
	expect_once one "ubda: $work/fs/a.img: .*, none, io_uring, 4096-byte blocks"
	expect_once one "ubdb: $loop: .*, none, io_uring, 4096-byte blocks"
	expect_once one "ubdc: $work/fs/a.cow over .*, none, io_uring, 4096-byte blocks"
	expect_instead ubdd "$work/fs/odd.img" none writeback 'that wants blocks of 4096 bytes there, and the device has 16777728 bytes'
	expect_instead ubdb "$work/fs/a.img" directsync writethrough 'that wants blocks of 4096 bytes there, and block_size=512 was asked for'
	expect_instead ubdc "$work/fs/a.cow" directsync writethrough '.*block_size=512 was asked for'
	expect_instead ubdd "$work/fs/b.cow" none writeback 'that wants blocks of 4096 bytes there, and of some only a part was written'
}

# A file that is cut within a block of 4096 bytes.
test_large_blocks_truncated() {
	local disk

	[ "$(id -u)" = 0 ] || skip "a host block device (a loop device) needs root"
	image disk.img 64M >/dev/null
	disk=$(losetup -f --show -b 4096 disk.img 2>/dev/null) || skip "the host lets no loop device of 4096-byte blocks be made"
	at_end "losetup -d $disk"
	mkfs.ext4 -q "$disk"
	mkdir fs
	mount "$disk" fs
	at_end "umount $work/fs"
	truncate -s 8M fs/a.img
	"$tool" pattern write fs/a.img 0 16384 1
	guest_start one "ubd0=$work/fs/a.img" <<-'EOF'
		load cache=none
		touch $work/ready
		until_file $work/truncated
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 2053 1
		"$tool" zeros /dev/ubda 2053 14331
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	guest_await one ready
	truncate -s $((2053 * 512)) fs/a.img
	touch truncated
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $work/fs/a.img: the file ends before the device does"
	expect_once one "ubda: $work/fs/a.img: .*, none, io_uring, 4096-byte blocks"
}

# Not one fsync reaches the host; but all bits do, when the disk goes.
test_unsafe() {
	base
	"$ubd_cow" create a.cow base.img
	start_witness a.cow || echo "no witness: $no_witness"
	guest one "ubd0=$work/a.cow" <<-'EOF'
		load cache=unsafe commit_ms=500
		"$tool" pattern write /dev/ubda 1000 5000 7
		"$tool" syncs /dev/ubda 25 sync
		"$tool" syncs /dev/ubda 25 fua
		mkfs.ext4 -q -F -E offset=$((8 << 20)) /dev/ubda 4M
		sync /dev/ubda
		# In the background, too.
		while [ "$(stat_of ubda dirty_sectors)" != 0 ]; do
			sleep 0.1
		done
		[ "$(stat_of ubda commits)" -gt 0 ] || die 'nothing was committed'
		"$tool" pattern write /dev/ubda 30000 1000 8
		[ "$(stat_of ubda dirty_sectors)" -gt 0 ] || die 'bits were written at once'
		same syncs "$(stat_of ubda host_syncs)" 0
		unload
	EOF
	expect_witnessed 0
	"$ubd_cow" merge a.cow --into merged
	"$tool" pattern check merged 1000 5000 7
	"$tool" pattern check merged 30000 1000 8
	expect_witnessed 0
	# The witness is one.
	guest two "ubd0=$work/a.cow" <<-'EOF'
		load
		"$tool" syncs /dev/ubda 5 sync
		unload
	EOF
	[ -z "$witness" ] || [ "$(witnessed)" -ge 5 ] || fail "the witness sees nothing"
}

# What had landed in a guest that is killed is there, and so is what had landed in
# one that is rebooted; and no fsync either.
test_unsafe_killed() {
	local round

	image base.img 64M >/dev/null
	image raw.img 64M >/dev/null
	"$tool" stream new base.img 0 a
	"$tool" stream new raw.img 0 r
	"$ubd_cow" create a.cow base.img
	start_witness a.cow || echo "no witness: $no_witness"
	for round in $(seq 0 8); do
		rm -f a.up r.up
		expect_unlocked "$work/a.cow"
		guest_start_bare "r$round" "ubd0=$work/a.cow" "ubd1=$work/raw.img" -- streams \
			"$module:cache=unsafe:commit_ms=$((round % 2 * 50))" "land=/dev/ubda=0=$work/a" "land=/dev/ubdb=0=$work/r" end
		streams_await "r$round" a r
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
		kill -KILL "${guest_pid[r$round]}"
		wait "${guest_pid[r$round]}" 2>/dev/null || true
		forget_guest "r$round"
		streams_right "r$round"
	done
	expect_unlocked "$work/a.cow"
	expect_witnessed 0
	awk '/^stream/ { n += $3 } END { printf "8 guests killed in unsafe mode, after %d landed records\n", n; exit !n }' found >figures
}

# And the same at a reboot.
test_unsafe_reboot() {
	base
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load cache=unsafe commit_ms=0
		if [ -e $work/second ]; then
			"$tool" pattern check /dev/ubda 1000 5000 7
			exit 0
		fi
		touch $work/second
		"$tool" pattern write /dev/ubda 1000 5000 7
		"$tool" power restart
	EOF
}

# Each write is durable before it ends: the host sees it, as flushes and FUA writes
# are seen in other modes.
test_directsync() {
	needs_direct
	image a.img 8M >/dev/null
	start_witness a.img || echo "no witness: $no_witness"
	guest one "ubd0=$work/a.img" <<-'EOF'
		load cache=directsync
		for i in $(seq 0 29); do
			dd if=/dev/urandom of=/dev/ubda bs=4k count=1 seek=$((i * 17)) oflag=direct conv=notrunc status=none
		done
		same 'durable writes' "$(stat_of ubda host_dsync_writes)" 30
		same 'flushes' "$(stat_of ubda flush_requests)" 0
		unload
	EOF
	expect_witnessed 30
}

# By O_DIRECT, with errors and all that passes by itself, under the debug kernel.
limit[debug]=240
test_debug() {
	use_debug
	patience=200
	image base.img 24M >/dev/null
	noise base.img 24
	made_cow a.cow 3 model.img 1
	image b.img 24M >/dev/null
	guest one "ubd0=$work/a.cow" "ubd1s=$work/b.img" ubd=cache:unsafe "ubd2=$work/c.cow,$work/base.img" <<-'EOF'
		echo scan >/sys/kernel/debug/kmemleak
		echo clear >/sys/kernel/debug/kmemleak
		load cache=none commit_ms=50
		"$tool" model /dev/ubda $work/model.img 800 4 512 1 changes
		fault ubda 'read short chance=30; write short chance=30; any errno=11 chance=5; sync errno=4 chance=20'
		fault ubdb 'any short chance=30'
		"$tool" model /dev/ubda $work/model.img 800 4 512 2 changes
		fault ubda off
		for disk in ubdb ubdc; do
			"$tool" pattern write /dev/$disk 100 30000 1
			"$tool" pattern check /dev/$disk 100 30000 1
			blkdiscard -z -o 1M -l 1M /dev/$disk
			"$tool" zeros /dev/$disk 2048 2048
			"$tool" syncs /dev/$disk 20 sync
		done
		same zeroed_reads "$(stat_of ubda zeroed_reads)" 0
		unload
		load cache=writeback
		cmp /dev/ubda $work/model.img
		unload
		no_leaks
		lockdep_is_on
	EOF
	"$ubd_cow" check a.cow >said
	"$ubd_cow" check c.cow >said
}

run_tests "$@"
