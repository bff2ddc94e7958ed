#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Disks that grow while they are used: the attribute `resize` has the driver look at
# the size of the host's file again.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

mib=1048576
ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# In the guest.
# shellcheck disable=SC2016 # expanded there
resize_script='
mib=1048576
resize() {
	echo 1 >/sys/block/$1/ubd/resize
}
# size_is DISK BYTES
size_is() {
	same "size of $1" "$(blockdev --getsize64 /dev/$1)" "$2"
}
# In the background: writes and verifies until file $mnt/stop is there.
fio_until_stop() {
	while [ ! -e $mnt/stop ]; do
		fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --direct=1 \
			--rw=randwrite --bsrange=512-128k --ioengine=libaio --iodepth=16 --name=a --filename=/dev/$1 \
			--size=$2 --io_size=4M --randseed=$RANDOM --output=$work/fio.out || exit 1
		! grep -qE "verify:|error" $work/fio.out || exit 1
		touch $mnt/ran
	done
}
'

# base MIB: a backing file without a zero sector
base() {
	image base.img "$1M" >/dev/null
	noise base.img "$1"
}

# A raw disk grows under load; everybody is told. What is refused changes nothing.
limit[raw]=240
test_raw() {
	local img

	img=$(image a.img 32M)
	guest one "ubd0=$img" <<-EOF
		$resize_script
		load
		"\$tool" uevents \$work/events &
		listener=\$!
		until_file \$work/events
		fio_until_stop ubda 24M &
		load=\$!
		until_file \$mnt/ran
		truncate -s 48M $img
		size_is ubda $((32 * mib))
		resize ubda
		size_is ubda $((48 * mib))
		"\$tool" pattern write /dev/ubda $((47 * 2048)) 2048 1
		# Nothing to be done, and done well.
		resize ubda
		size_is ubda $((48 * mib))
		rm \$mnt/ran
		until_file \$mnt/ran
		truncate -s 47M $img
		refused resize ubda
		truncate -s $((48 * mib + 100)) $img
		refused resize ubda
		truncate -s 48M $img
		for bad in 0 2 11 rescan '' '1 1' -1; do
			refused eval 'echo "\$bad" >/sys/block/ubda/ubd/resize'
		done
		refused dd if=/dev/zero of=/sys/block/ubda/ubd/resize bs=4096 count=1 status=none
		size_is ubda $((48 * mib))
		same mode "\$(stat -c %a /sys/block/ubda/ubd/resize)" 200
		touch \$mnt/stop
		wait \$load
		kill \$listener
		same events "\$(grep -c '^change@.*/ubda .* RESIZE=1' \$work/events)" 1
		# Two at a time, and one while the disk goes.
		for n in \$(seq 49 56); do
			truncate -s \${n}M $img
			resize ubda &
			other=\$!
			resize ubda
			wait \$other
			size_is ubda \$((n * mib))
		done
		while resize ubda; do
			touch \$mnt/resized
		done 2>/dev/null &
		other=\$!
		until_file \$mnt/resized
		unload
		wait \$other || true
	EOF
	expect_eq 'capacity changes' "$(log_count one 'ubda: detected capacity change')" 9
	expect_once one "ubda: $img: the device keeps its 50331648 bytes, the file has 49283072: a disk in use does not shrink"
	expect_once one "ubda: $img: the device keeps its 50331648 bytes, the file has 50331748: that is no multiple"
	expect_eq 'lines about what it takes' "$(log_count one 'ubda: resize takes 1')" 8
}

# grow_cow MODULE_PARAMETER...: a COW disk grows twice while fio writes and verifies: in
# place, and into another file, with a name that is a symbolic link, and an owner and
# a mode of its own. Then the guest ends, and another one finds all that there was.
grow_cow() {
	base 15
	"$ubd_cow" create real.cow base.img
	chmod 640 real.cow
	[ "$(id -u)" != 0 ] || chown 1234:4321 real.cow
	mkdir names
	ln -s ../real.cow names/a.cow
	guest_start one "ubd0=$work/names/a.cow" <<-EOF
		$resize_script
		load $*
		"\$tool" pattern write /dev/ubda 28000 1000 1
		"\$tool" zero /dev/ubda 26000 1000 zero
		fio_until_stop ubda 12M &
		load=\$!
		until_file \$mnt/ran
		cp --sparse=always $work/base.img $work/before.img
		before=\$(stat -c '%i %u %g %a' $work/real.cow)
		truncate -s 16M $work/base.img
		resize ubda
		size_is ubda $((16 * mib))
		same 'the file, grown in place' "\$(stat -c '%i %u %g %a' $work/real.cow)" "\$before"
		"\$tool" pattern write /dev/ubda 32000 500 2
		rm \$mnt/ran
		until_file \$mnt/ran
		truncate -s 600M $work/base.img
		resize ubda
		size_is ubda $((600 * mib))
		[ "\$(stat -c %i $work/real.cow)" != "\${before%% *}" ] || die 'the data did not move'
		same 'owner and mode' "\$(stat -c '%u %g %a' $work/real.cow)" "\${before#* }"
		"\$tool" pattern check /dev/ubda 28000 1000 1
		"\$tool" zeros /dev/ubda 26000 1000
		"\$tool" pattern check /dev/ubda 32000 500 2
		"\$tool" pattern write /dev/ubda $((599 * 2048)) 2048 3
		"\$tool" zeros /dev/ubda $((100 * 2048)) 2048
		# Once more: nobody writes near these bits again.
		truncate -s 700M $work/base.img
		resize ubda
		size_is ubda $((700 * mib))
		"\$tool" pattern check /dev/ubda $((599 * 2048)) 2048 3
		rm \$mnt/ran
		until_file \$mnt/ran
		touch \$work/grown
		until_file \$work/checked
		touch \$mnt/stop
		wait \$load
		same errors "\$(stat_of ubda errors)" 0
		sync /dev/ubda
		[ "\$(cat /sys/block/ubda/ubd/mode)" = unsafe ] || same dirty "\$(stat_of ubda dirty_sectors)" 0
		dd if=/dev/ubda of=$work/seen.img bs=1M status=none conv=sparse
		cmp -n ${mib} -i 25M:0 /dev/ubda /dev/zero
		unload
	EOF
	guest_await one grown
	# It is the new one that is locked.
	status=0
	"$ubd_cow" check real.cow >said 2>&1 || status=$?
	expect_eq 'status of ubd-cow check while it is used' "$status" 5
	touch checked
	guest_wait one
	expect_eq 'status of guest one' "$status" 0
	expect_eq 'what is left in the directory' "$(compgen -G '*.new-*' || true)" ''
	"$ubd_cow" check real.cow
	"$ubd_cow" merge real.cow --into merged.img
	cmp merged.img seen.img || fail 'the file does not have what the guest had'
	cmp -n $((15 * mib)) base.img before.img || fail 'the backing file was written to'
	guest two "ubd0=$work/names/a.cow" <<-EOF
		load $*
		cmp /dev/ubda $work/seen.img
		unload
	EOF
	expect_eq 'capacity changes' "$(log_count one 'ubda: detected capacity change')" 3
}

limit[cow]=300
test_cow() {
	patience=200
	grow_cow commit_ms=200
}

# Who may use the file that grows may use the new one, and nobody else may.
test_acl() {
	local mib=40

	base 15
	mkdir own
	"$ubd_cow" create own/a.cow base.img
	guest_start one "ubd0=$work/own/a.cow" <<-EOF
		$resize_script
		load
		for size in 40 80; do
			until_file \$work/grow.\$size
			truncate -s \${size}M $work/base.img
			resize ubda
			size_is ubda \$((size * mib))
			touch \$work/grown.\$size
		done
		unload
	EOF
	grow() {
		touch grow.$mib
		guest_await one grown.$mib
		mib=$((mib * 2))
	}
	keeps_acl own/a.cow grow
	guest_wait one
	expect_eq 'status of guest one' "$status" 0
	"$ubd_cow" check own/a.cow
}

limit[cow_direct]=300
test_cow_direct() {
	patience=200
	grow_cow cache=none
	expect_once one 'ubda: .*, none, '
}

limit[cow_through]=300
property[cow_through]=full
test_cow_through() {
	patience=200
	grow_cow cache=writethrough
}

limit[cow_unsafe]=300
property[cow_unsafe]=full
test_cow_unsafe() {
	patience=200
	grow_cow cache=unsafe
}

# All under the debug kernel: no warning, and no memory is left.
limit[debug]=400
property[debug]=alone
test_debug() {
	use_debug
	patience=350
	image raw.img 16M >/dev/null
	base 15
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/raw.img" <<-EOF
		$resize_script
		echo scan >/sys/kernel/debug/kmemleak
		echo clear >/sys/kernel/debug/kmemleak
		load commit_ms=100
		fio_until_stop ubda 10M &
		load=\$!
		until_file \$mnt/ran
		for size in 16 40 300; do
			truncate -s \${size}M $work/base.img $work/raw.img
			resize ubda
			resize ubdb
			size_is ubda \$((size * mib))
			size_is ubdb \$((size * mib))
			cat /sys/block/ubda/ubd/* >/dev/null 2>&1 || true
			rm -f \$mnt/ran
			until_file \$mnt/ran
		done
		touch \$mnt/stop
		wait \$load
		unload
		no_leaks
		lockdep_is_on
	EOF
	"$ubd_cow" check a.cow
}

# Requests that the host holds, and a commit, are waited for, but not for ever.
limit[waits]=240
test_waits() {
	use_debug
	patience=200
	base 15
	guest one "ubd0=$work/a.cow,$work/base.img" <<-EOF
		$resize_script
		load commit_ms=0
		"\$tool" pattern write /dev/ubda 0 100 1
		# waits STATE BYTES: until there is something in that state
		waits() {
			local resizer

			until [ "\$(stat_of ubda \$1)" -gt 0 ]; do sleep 0.05; done
			resize ubda &
			resizer=\$!
			sleep 1
			size_is ubda \$2
			fault ubda off
			wait \$resizer
		}
		truncate -s 40M $work/base.img
		fault ubda 'write drop'
		"\$tool" pattern write /dev/ubda 1000 100 2 &
		holder=\$!
		waits in_flight_host $((15 * mib))
		wait \$holder
		size_is ubda $((40 * mib))
		"\$tool" pattern check /dev/ubda 0 100 1
		"\$tool" pattern check /dev/ubda 1000 100 2
		# A commit that nobody asked for.
		unload
		load commit_ms=200
		truncate -s 2M $work/piece
		"\$tool" pattern write $work/piece 2000 100 3
		truncate -s 80M $work/base.img
		fault ubda 'sync drop'
		dd if=$work/piece of=/dev/ubda skip=2000 seek=2000 count=100 oflag=direct status=none
		waits committing $((40 * mib))
		size_is ubda $((80 * mib))
		"\$tool" pattern check /dev/ubda 2000 100 3
		fault ubda 'read drop'
		dd if=/dev/ubda of=/dev/null bs=4k count=1 iflag=direct status=none &
		reader=\$!
		until [ "\$(stat_of ubda in_flight_host)" -gt 0 ]; do sleep 0.05; done
		truncate -s 100M $work/base.img
		refused resize ubda
		fault ubda off
		wait \$reader
		size_is ubda $((80 * mib))
		"\$tool" pattern write /dev/ubda 3000 100 4
		sleep 1
		same dirty "\$(stat_of ubda dirty_sectors)" 0
		resize ubda
		size_is ubda $((100 * mib))
		"\$tool" pattern check /dev/ubda 3000 100 4
		unload
		lockdep_is_on
	EOF
	expect_once one 'ubda: .*: requests have not ended for 30 s'
	"$ubd_cow" check a.cow
}

# What cannot grow stays as it was, and says why.
test_refused() {
	local name

	base 15
	for name in a b c d e; do
		"$ubd_cow" create $name.cow base.img
	done
	ln b.cow b2.cow
	guest one "ubd0=$work/a.cow" "ubd1=$work/b.cow" "ubd2c=$work/c.cow" "ubd3r=$work/d.cow" "ubd4=$work/e.cow" <<-EOF
		$resize_script
		load
		rm $work/e.cow
		for disk in ubda ubdb ubdc ubde; do
			"\$tool" pattern write /dev/\$disk 100 100 1
		done
		truncate -s 14M $work/base.img
		refused resize ubda
		truncate -s $((40 * mib + 100)) $work/base.img
		refused resize ubda
		truncate -s 40M $work/base.img
		for disk in ubdb ubdc ubdd ubde; do
			refused resize \$disk
			size_is \$disk $((15 * mib))
		done
		for disk in ubda ubdb ubdc ubde; do
			"\$tool" pattern check /dev/\$disk 100 100 1
			"\$tool" pattern write /dev/\$disk 1000 100 1
			sync /dev/\$disk
		done
		rm $work/b2.cow
		resize ubdb
		"\$tool" pattern check /dev/ubdb 1000 100 1
		unload
		load snapshot=1
		truncate -s 41M $work/base.img
		refused resize ubdb
		unload
	EOF
	expect_once one "ubda: $work/base.img: the device keeps its 15728640 bytes, the file has 14680064: a disk in use"
	expect_once one "ubda: $work/base.img: the device keeps its 15728640 bytes, the file has 41943140: that is no multiple"
	expect_once one "ubdb: $work/b.cow: its data have to move .* only one of its names; remove its hard links"
	expect_once one "ubdc: $work/base.img: .* by the c flag others may use the COW file"
	expect_once one "ubdd: $work/base.img: .* the COW file is not to be written; .*ubd-cow resize FILE"
	expect_once one "ubde: $work/e.cow: its data have to move .* no name any more"
	expect_once one "ubdb: $work/base.img: .* temporary file, which keeps its size"
	# Who is left behind learns what to do, and it helps.
	expect_once one "ubda: $work/a.cow: is for a backing file of 15728640 bytes, but $work/base.img has 41943040; .*: ubd-cow resize $work/a.cow$"
	"$ubd_cow" resize a.cow
	"$ubd_cow" check a.cow
	guest two "ubd0=$work/a.cow" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 100 100 1
		"$tool" pattern check /dev/ubda 1000 100 1
		unload
	EOF
}

# What somebody has cut off is not made good by zeros: in place or by another file. If
# nothing was lost, it does not matter.
test_cut() {
	base 15
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/b.cow,$work/base.img" <<-EOF
		$resize_script
		load
		"\$tool" pattern write /dev/ubda 20000 1000 1
		"\$tool" pattern write /dev/ubdb 0 1000 1
		sync /dev/ubda /dev/ubdb
		truncate -s -10M $work/a.cow $work/b.cow
		for size in 16 40; do
			truncate -s \${size}M $work/base.img
			refused resize ubda
			size_is ubda $((15 * mib))
			resize ubdb
			size_is ubdb \$((size * mib))
		done
		"\$tool" pattern check /dev/ubdb 0 1000 1
		"\$tool" pattern write /dev/ubda 20000 1000 2
		resize ubda
		size_is ubda $((40 * mib))
		"\$tool" pattern check /dev/ubda 20000 1000 2
		unload
	EOF
	expect_eq 'complaints' "$(log_count one "ubda: $work/a.cow: is cut short: by its bitmap it has sectors behind its end at byte $((12288 + 5 * mib)), which are lost")" 2
	"$ubd_cow" check a.cow
	"$ubd_cow" check b.cow
}

# One on a block device, which has to grow before.
test_block_device() {
	local disk

	base 15
	"$ubd_cow" create a.cow base.img
	disk=$(losetup -f --show a.cow 2>/dev/null) || skip "the host lets no loop device be made"
	at_end "losetup -d $disk"
	guest_start one "ubd0=$disk" <<-EOF
		$resize_script
		load
		"\$tool" pattern write /dev/ubda 20000 1000 1
		truncate -s 16M $work/base.img
		refused resize ubda
		size_is ubda $((15 * mib))
		touch \$work/refused
		until_file \$work/grown
		resize ubda
		size_is ubda $((16 * mib))
		"\$tool" pattern check /dev/ubda 20000 1000 1
		"\$tool" pattern write /dev/ubda 32000 768 2
		unload
	EOF
	guest_await one refused
	truncate -s +1M a.cow
	losetup -c "$disk"
	touch grown
	guest_wait one
	expect_eq 'status of guest one' "$status" 0
	expect_once one "ubda: $disk: is on a block device that is too small for it; grow that first"
	"$ubd_cow" check "$disk"
}

# The host is full before the new file is whole: nothing has changed, and nothing is
# left; with room again it grows.
test_host_full() {
	base 15
	small_host 24M <<-EOF
		true
	EOF
	guest one "ubd0=$work/small/a.cow,$work/base.img" <<-EOF
		$resize_script
		load
		"\$tool" pattern write /dev/ubda 0 20000 1
		dd if=/dev/zero of=$work/small/filler bs=1M count=8 status=none
		truncate -s 40M $work/base.img
		refused resize ubda
		size_is ubda $((15 * mib))
		same files "\$(echo $work/small/*)" "$work/small/a.cow $work/small/filler"
		"\$tool" pattern check /dev/ubda 0 20000 1
		"\$tool" pattern write /dev/ubda 100 1000 2
		sync /dev/ubda
		rm $work/small/filler
		resize ubda
		size_is ubda $((40 * mib))
		"\$tool" pattern check /dev/ubda 100 1000 2
		"\$tool" pattern check /dev/ubda 2000 18000 1
		unload
		load
		"\$tool" pattern check /dev/ubda 100 1000 2
		"\$tool" pattern check /dev/ubda 2000 18000 1
		unload
	EOF
	expect_once one "ubda: $work/small/a.cow: its data have to move to a new file, which cannot be made: No space left"
}

# Where the host's file system can share blocks, a new file takes no space: there would
# not be enough.
test_reflink() {
	[ "$(id -u)" = 0 ] || skip "only root may mount a file system that can share blocks"
	truncate -s 400M fs.img
	mkfs.xfs -q -m reflink=1 fs.img || skip "no XFS can be made that shares blocks (mkfs.xfs -m reflink=1)"
	mkdir fs
	unshare -m mount -o loop fs.img fs 2>/dev/null || skip "the host mounts no XFS on a loop device"
	launcher=(unshare -m bash -c "mount -o loop $work/fs.img $work/fs && exec \"\$@\"" --)
	image base.img 300M >/dev/null
	guest one "ubd0=$work/fs/a.cow,$work/base.img" <<-EOF
		$resize_script
		load
		"\$tool" pattern write /dev/ubda 7 460001 1
		truncate -s 500M $work/base.img
		resize ubda
		size_is ubda $((500 * mib))
		"\$tool" pattern check /dev/ubda 7 460001 1
		"\$tool" pattern write /dev/ubda 1000000 100 2
		unload
		load
		"\$tool" pattern check /dev/ubda 7 460001 1
		"\$tool" pattern check /dev/ubda 1000000 100 2
		"\$tool" zeros /dev/ubda 460008 100000
		unload
	EOF
}

# The guest is killed while a COW file grows: it is the old one or the new one, and has
# all that was written. With much to copy, and at any moment.
limit[killed]=400
test_killed() {
	local rounds=12
	local round size old=0 new=0

	for round in $(seq $rounds); do
		image base.img 128M >/dev/null
		guest_start "r$round" "ubd0=$work/a.cow,$work/base.img" <<-EOF
			$resize_script
			load commit_ms=0
			"\$tool" pattern write /dev/ubda 0 200000 $round
			sync /dev/ubda
			# Not committed: for the relay.
			"\$tool" pattern write /dev/ubda 220000 1000 $round
			truncate -s 300M $work/base.img
			touch \$work/begins
			resize ubda
			"\$tool" pattern write /dev/ubda 500000 1000 $round
			touch \$work/ended
			until_file \$work/never
		EOF
		guest_await "r$round" begins
		# From before its beginning to behind its end.
		if [ "$round" = $rounds ]; then
			guest_await "r$round" ended
		else
			sleep "0.$((RANDOM % 5))$((RANDOM % 10))$((RANDOM % 10))"
		fi
		kill -KILL "${guest_pid[r$round]}"
		wait "${guest_pid[r$round]}" 2>/dev/null || true
		forget_guest "r$round"
		expect_unlocked a.cow
		expect_eq 'what is left in the directory' "$(compgen -G '*.new-*' || true)" ''
		size=$("$ubd_cow" info --json a.cow | python3 -c 'import json, sys; print(json.load(sys.stdin)["bytes"])')
		case $size in
		$((128 * mib))) old=$((old + 1)) && "$ubd_cow" resize a.cow ;;
		$((300 * mib))) new=$((new + 1)) ;;
		*) fail "the disk has $size bytes" ;;
		esac
		"$ubd_cow" check a.cow
		"$ubd_cow" merge a.cow --into seen.img
		"$tool" pattern check seen.img 0 200000 "$round"
		"$tool" pattern check seen.img 220000 1000 "$round"
		[ ! -e ended ] || "$tool" pattern check seen.img 500000 1000 "$round"
		rm -f a.cow seen.img begins ended
	done
	echo "killed: $old old, $new new"
	[ "$new" -gt 0 ] || fail 'none has grown'
}

# A guest that waits for the lock of a COW file gets that of the file which has just
# been replaced: it must not take it.
test_waited_for() {
	base 15
	guest_start one "ubd0=$work/a.cow,$work/base.img" <<-EOF
		$resize_script
		load
		touch \$work/locked
		until_file \$work/go
		truncate -s 40M $work/base.img
		resize ubda
		touch \$work/grown
		until_file \$work/done
		unload
	EOF
	guest_await one locked
	guest_start two "ubd0=$work/a.cow" <<-'EOF'
		touch $work/waits
		load
		[ ! -e /sys/block/ubda ] || die 'a disk that another guest has'
		unload
	EOF
	guest_await two waits
	sleep 1
	touch go
	guest_await one grown
	guest_wait two
	expect_eq 'status of guest two' "$status" 0
	expect_once two "ubda: $work/a.cow: was replaced by another file while it was opened; try again"
	touch done
	guest_wait one
	expect_eq 'status of guest one' "$status" 0
	"$ubd_cow" check a.cow
}

# One that was attached by configfs, and that goes and comes meanwhile.
test_plugged() {
	mkdir images
	base 15
	mv base.img images
	guest one "ubd=hotplug:$work/images" <<-EOF
		$resize_script
		load
		plug one path=a.cow backing=base.img
		"\$tool" pattern write /dev/\$disk 0 1000 1
		while :; do
			resize ubda || true
		done 2>/dev/null &
		for size in 16 40 80; do
			truncate -s \${size}M $work/images/base.img
			until [ "\$(blockdev --getsize64 /dev/\$disk)" = \$((size * mib)) ]; do sleep 0.01; done
			"\$tool" pattern check /dev/\$disk 0 1000 1
			unplug one
			plug one path=a.cow
			size_is \$disk \$((size * mib))
		done
		kill %1
		unplug one
		unload
	EOF
	"$ubd_cow" check images/a.cow
}

# The last partition, and the file system in it, while it is mounted; swap on a COW
# disk that grows while it is full.
limit[mounted]=240
test_mounted() {
	local img

	patience=200
	img=$(image a.img 64M)
	image base.img 128M >/dev/null
	mem=96M
	# Else not even resize2fs may open what is mounted.
	guest one "ubd0=$img" "ubd1=$work/swap.cow,$work/base.img" bdev_allow_write_mounted=1 <<-EOF
		$resize_script
		load
		printf 'size=8M\n,\n' | sfdisk -q --label gpt /dev/ubda
		mkfs.ext4 -q -L grows /dev/ubda2
		mount /dev/ubda2 \$mnt
		dd if=/dev/urandom of=\$mnt/file bs=1M count=20 status=none
		sum=\$(sha256sum <\$mnt/file)
		swap_to /dev/ubdb
		"\$tool" hog 96 2 &
		hog=\$!
		until [ "\$(stat_of ubdb write_requests)" -gt 500 ]; do sleep 0.05; done
		truncate -s 300M $work/base.img
		resize ubdb
		size_is ubdb $((300 * mib))
		truncate -s 128M $img
		resize ubda
		before=\$(cat /sys/block/ubda/ubda2/size)
		# The table's copy lies at the end.
		sfdisk -q --relocate gpt-bak-std /dev/ubda --no-reread
		echo ', +' | sfdisk -q -N 2 --no-reread --no-tell-kernel /dev/ubda
		# It is mounted: the whole table cannot be read anew.
		refused blockdev --rereadpt /dev/ubda
		partx -u /dev/ubda
		[ "\$(cat /sys/block/ubda/ubda2/size)" -gt \$((before + 120000)) ]
		resize2fs /dev/ubda2
		[ "\$(df -B1M --output=size \$mnt | tail -n 1)" -gt 90 ]
		dd if=/dev/urandom of=\$mnt/more bs=1M count=60 status=none
		more=\$(sha256sum <\$mnt/more)
		wait \$hog
		swapoff /dev/ubdb
		umount \$mnt
		mount /dev/ubda2 \$mnt
		same file "\$(sha256sum <\$mnt/file)" "\$sum"
		same more "\$(sha256sum <\$mnt/more)" "\$more"
		umount \$mnt
		same blkid "\$(blkid -p -o value -s LABEL /dev/ubda2)" grows
		same lsblk "\$(lsblk -bnro SIZE /dev/ubda | xargs)" "$((128 * mib)) $((8 * mib)) \$((512 * \$(cat /sys/block/ubda/ubda2/size)))"
		truncate -s 129M $img
		resize ubda
		blockdev --rereadpt /dev/ubda
		same partitions "\$(ls -d /sys/block/ubda/ubda? | wc -l)" 2
		same errors "\$(stat_of ubda errors) \$(stat_of ubdb errors)" '0 0'
		unload
	EOF
}

# The kernel's own driver reads a file that has grown in a guest of ours, and ours one
# of any version that it has grown, and one of the kernel's.
test_others() {
	local version

	base 15
	for version in 1 2 3 padded; do
		made_cow "$version.cow" $version "$version.img" 5
	done
	# One whose bitmap grows in place over several blocks, with what was left there.
	python3 - <<-'EOF'
		import struct
		with open("3.cow", "rb") as old, open("64k.cow", "wb") as new:
		    header = bytearray(old.read(4128))
		    struct.pack_into(">I", header, 24, 65536)
		    old.seek(8192)
		    new.write(header)
		    new.seek(65536)
		    new.write(old.read(15 * 256) + b"\377" * (65536 - 15 * 256))
		    old.seek(12288)
		    new.write(old.read())
	EOF
	cp 3.img 64k.img
	guest one "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/3.cow" "ubd3=$work/padded.cow" \
		"ubd4=$work/64k.cow" <<-EOF
		$resize_script
		load
		before=15
		for size in 16 40; do
			# What is new is no zeros, as those would be that a wrong bit makes.
			dd if=/dev/urandom of=$work/base.img bs=1M seek=\$before count=\$((size - before)) status=none
			before=\$size
			for disk in ubda ubdb ubdc ubdd ubde; do
				resize \$disk
				size_is \$disk \$((size * mib))
				"\$tool" pattern write /dev/\$disk \$((2048 * size - 100)) 100 \$size
			done
		done
		unload
	EOF
	for version in 1 2 3 padded 64k; do
		cp base.img want
		dd if=$version.img of=want bs=1M conv=notrunc status=none
		"$tool" pattern write want $((2048 * 16 - 100)) 100 16
		"$tool" pattern write want $((2048 * 40 - 100)) 100 40
		"$ubd_cow" check $version.cow
		uml_moo $version.cow moo.img
		cmp moo.img want || fail "uml_moo sees something else in version $version"
		rm moo.img
		cp want $version.img
	done
	use_compare
	guest two "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/3.cow" "ubd3=$work/padded.cow" \
		"ubd4=$work/64k.cow" <<-EOF
		for n in e:64k a:1 b:2 c:3 d:padded; do
			same "size of ubd\${n%:*}" "\$(blockdev --getsize64 /dev/ubd\${n%:*})" $((40 * mib))
			# By single sectors, which the driver reads right.
			for at in 0 5000 \$((2048 * 16 - 100)) \$((2048 * 40 - 1)); do
				dd if=/dev/ubd\${n%:*} of=\$work/sector bs=512 skip=\$at count=1 iflag=direct status=none
				cmp -n 512 -i 0:\$((at * 512)) \$work/sector $work/\${n#*:}.img
			done
		done
	EOF
}

run_tests "$@"
