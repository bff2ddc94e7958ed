#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What the command line can say of a device: numbers, letters, flags, serial.
. "$(dirname "$0")/lib.sh"

version=$(sed -n 's/^#define UBD_VERSION "\(.*\)"$/\1/p' "$top/include/ubd/version.h")

test_read_only() {
	local img
	local before

	img=$(image a.img 16M)
	noise "$img" 16
	before=$(checksum "$img")
	guest one "ubd0r=$img" <<-'EOF'
		load
		same getro "$(blockdev --getro /dev/ubda)" 1
		same ro "$(cat /sys/block/ubda/ro)" 1
		refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 oflag=direct
		refused blkdiscard /dev/ubda
		refused blkdiscard -z /dev/ubda
		refused mkfs.ext4 -q -F /dev/ubda
		# Not even when the guest changes its mind.
		blockdev --setrw /dev/ubda || true
		refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 oflag=direct conv=fsync
		refused blkdiscard -z /dev/ubda
		cmp $work/a.img /dev/ubda
		unload
	EOF
	expect_once one 'ubda: .*a\.img: 16777216 bytes.*read-only'
	expect_eq checksum "$(checksum "$img")" "$before"
}

test_read_only_shared() {
	local img

	img=$(image a.img 16M)
	noise "$img" 16
	guest_start one "ubd0r=$img" <<-'EOF'
		load
		cmp $work/a.img /dev/ubda
		touch $work/ready
		until_file $work/go
	EOF
	guest_await one ready
	guest two "ubd0r=$img" <<-'EOF'
		load
		cmp $work/a.img /dev/ubda
		unload
	EOF
	# A writer has to wait until the readers are gone.
	guest three "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'the image is being read by another guest'
		unload
	EOF
	expect_once three 'ubda: .*a\.img: is locked by process [0-9]+'
	touch go
	guest_wait one
	expect_eq status "$status" 0
}

# The same image twice in one guest: both read only, or not at all.
test_read_only_twice() {
	local img

	img=$(image a.img 8M)
	noise "$img" 8
	guest one "ubd0r=$img" "ubd1r=$img" "ubd2=$img" <<-'EOF'
		load
		cmp $work/a.img /dev/ubda
		cmp $work/a.img /dev/ubdb
		[ ! -e /dev/ubdc ] || die 'one image for reading and for writing'
		unload
	EOF
	expect_once one 'ubdc: .*a\.img'
}

test_no_discard() {
	local img

	img=$(image a.img 8M)
	noise "$img" 8
	guest one "ubd0t=$img" <<-'EOF'
		load
		same discard_max "$(cat /sys/block/ubda/queue/discard_max_bytes)" 0
		refused blkdiscard /dev/ubda
		cmp $work/a.img /dev/ubda
		unload
	EOF
	[ "$(allocated "$img")" -ge 8192 ] || fail "flag t, and yet blocks were freed"
}

sync_script='
same write_cache "$(cat /sys/block/ubda/queue/write_cache)" "write through"
dd if=/dev/urandom of=/dev/ubda bs=64k seek=1 count=16 oflag=direct status=none
[ "$(stat_of ubda host_dsync_writes)" -ge 16 ] || die "writes are not durable"
same "writes and durable writes" "$(stat_of ubda host_dsync_writes)" "$(stat_of ubda write_requests)"
before=$(stat_of ubda host_syncs)
blkdiscard -z -o 0 -l 65536 /dev/ubda
[ "$(stat_of ubda host_syncs)" -gt "$before" ] || die "zeroes are not durable"
"$tool" zeros /dev/ubda 0 128
unload
'

test_sync_flag() {
	local img

	img=$(image a.img 8M)
	guest one "ubd0s=$img" <<-EOF
		load
		$sync_script
	EOF
	expect_once one 'ubda: .*writethrough'
}

test_sync_for_all() {
	local img

	img=$(image a.img 8M)
	guest one ubd=sync "ubd0=$img" <<-EOF
		load
		$sync_script
	EOF
}

# A guest's root makes a COW file of its plain disk, whose backing file is one that only
# the host's user is to read, and starts anew.
test_no_header_by_the_guest() {
	image a.img 16M >/dev/null
	image d.img 16M >/dev/null
	echo 'nobody in the guest is to read this' >secret
	truncate -s 8M secret
	"$top/build/ubd-cow" create evil.cow secret
	expect_eq 'what it begins with' "$(head -c 4 evil.cow)" OOOM
	guest_start one "ubd0=$work/a.img" "ubd1d=$work/d.img" <<-'EOF'
		load
		if [ ! -e $work/second ]; then
			touch $work/second
			"$tool" pattern write /dev/ubda 8 8192 1
			refused dd if=$work/evil.cow of=/dev/ubda bs=8192 count=1 oflag=direct conv=notrunc 2>/dev/null
			# In whatever piece, and by the page cache.
			refused dd if=$work/evil.cow of=/dev/ubda bs=512 count=1 oflag=direct conv=notrunc 2>/dev/null
			refused dd if=$work/evil.cow of=/dev/ubda bs=64k count=1 conv=notrunc,fsync 2>/dev/null
			same errors "$(stat_of ubda errors)" 3
			blockdev --flushbufs /dev/ubda
			# Everywhere else it is data, and so is what comes there otherwise.
			dd if=$work/evil.cow of=/dev/ubda bs=512 count=1 seek=1 oflag=direct conv=notrunc status=none
			"$tool" pattern write /dev/ubda 0 1 1
			"$tool" pattern check /dev/ubda 8 8192 1
			dd if=$work/evil.cow of=/dev/ubdb bs=8192 count=1 oflag=direct conv=notrunc status=none
			"$tool" power restart
		fi
		[ "$(cat /sys/block/ubda/ubd/backing)" = '' ] || die 'it has a backing file'
		"$tool" pattern check /dev/ubda 0 1 1
		"$tool" pattern check /dev/ubda 8 8192 1
		! grep -aq 'nobody in the guest' /dev/ubda || die 'it reads a file of the host'
		# What d is for.
		same size "$(cat /sys/block/ubdb/size)" 32768
		dd if=/dev/ubdb bs=8192 count=1 iflag=direct status=none | cmp -n 8192 - $work/evil.cow
		unload
	EOF
	guest_wait one
	expect_eq status "$status" 0
	[ "$(log_count one "ubda: $work/a.img: what begins as a COW file is not written to sector 0: .*; give it the d flag")" -ge 1 ] ||
		fail 'it does not say why'
}

# c: two guests on one file, if somebody insists
test_no_locks() {
	local img

	img=$(image a.img 16M)
	guest_start one "ubd0c=$img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 1024 1
		touch $work/ready
		until_file $work/go
	EOF
	guest_await one ready
	expect_unlocked "$img"
	guest two "ubd0c=$img" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 0 1024 1
	EOF
	touch go
	guest_wait one
	expect_eq status "$status" 0
}

# Numbers in the bases that C has, letters, the last number there is, flags in
# any order.
test_names() {
	local i

	for i in 0 1 2 3 4 5 6; do
		image "$i.img" $((i + 1))M >/dev/null
	done
	guest one "ubda=$work/0.img" "ubd1dt=$work/1.img" "ubd0x2=$work/2.img" "ubd010=$work/3.img" \
		"ubdzd=$work/4.img" "ubd1023=$work/5.img" "ubdert=$work/6.img" <<-'EOF'
		load
		size() {
			same "size of $1" "$(blockdev --getsize64 /dev/$1)" $(($2 << 20))
		}
		size ubda 1
		size ubdb 2
		size ubdc 3
		size ubdi 4
		size ubdz 5
		size ubdamj 6
		size ubde 7
		same 'ubda number' "$(cat /sys/block/ubda/dev)" 98:0
		same 'ubdb number' "$(cat /sys/block/ubdb/dev)" 98:16
		same 'ubdamj number' "$(cat /sys/block/ubdamj/dev)" 98:16368
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 7
		unload
	EOF
	expect_eq 'lines of devices' "$(log_count one 'ubd: ubd[a-z]+: /.*-byte blocks')" 7
}

test_serial() {
	local img

	img=$(image a.img 64M)
	image b.img 8M >/dev/null
	image c.img 8M >/dev/null
	guest one "ubd0=$img,,serial-0123456789" "ubd1=$work/b.img::colon-serial" "ubd2=$work/c.img" <<-'EOF'
		load
		same serial "$(cat /sys/block/ubda/serial)" serial-0123456789
		same serial "$(cat /sys/block/ubdb/serial)" colon-serial
		[ ! -e /sys/block/ubdc/serial ] || die 'a serial that nobody gave'
		"$tool" identity /dev/ubda >$work/identity
		cat $work/identity
		grep -qx 'serial serial-0123456789' $work/identity
		grep -qx 'model UML ubd' $work/identity
		grep -qx 'identity cylinders 32' $work/identity
		grep -qx 'geometry 32 128 32 start 0' $work/identity
		# Without udev it looks in /sys/block/*/device.
		lsblk -d -P -o NAME,MODEL,SERIAL,REV,DISC-GRAN,PHY-SEC,LOG-SEC /dev/ubd[abc] >$work/lsblk
	EOF
	expect_eq lsblk "$(cat lsblk)" "$(
		for serial in a:serial-0123456789 b:colon-serial c:; do
			echo "NAME=\"ubd${serial%:*}\" MODEL=\"UML ubd\" SERIAL=\"${serial#*:}\" REV=\"$version\"" \
				'DISC-GRAN="4K" PHY-SEC="4096" LOG-SEC="512"'
		done
	)"
}

test_many_devices() {
	local i
	local words=()

	for i in $(seq 0 19) 26 700; do
		words+=("ubd$i=$(image "$i.img" 4M)")
	done
	guest one "${words[@]}" <<-'EOF'
		load
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 22
		n=0
		for path in /sys/block/ubd*; do
			n=$((n + 1))
			"$tool" pattern write /dev/${path##*/} 0 1024 $n &
		done
		wait
		n=0
		for path in /sys/block/ubd*; do
			n=$((n + 1))
			"$tool" pattern check /dev/${path##*/} 0 1024 $n
		done
		[ -b /dev/ubdt ] && [ -b /dev/ubdaa ] && [ -b /dev/ubdzy ]
		unload
		[ ! -e /dev/ubdaa ]
	EOF
}

# device= alone, as often as wanted, with and without the leading ubd
test_device_parameter() {
	image a.img 4M >/dev/null
	image b.img 4M >/dev/null
	image c.img 4M >/dev/null
	image d.img 4M >/dev/null
	guest one "ubd0=$work/a.img" <<-'EOF'
		load "device=1=$work/b.img" "device=ubd2r=$work/c.img" "device=d=$work/d.img,,s4"
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 4
		same ro "$(blockdev --getro /dev/ubdc)" 1
		same serial "$(cat /sys/block/ubdd/serial)" s4
		unload
		load cmdline=0 "device=1=$work/b.img"
		[ -b /dev/ubdb ] && [ ! -e /dev/ubda ] || die 'cmdline=0 took the command line'
		unload
		load prefix=disk
		[ -b /dev/diska ] && [ ! -e /dev/ubda ] || die 'prefix= has no effect'
		unload
		refused load prefix=a/b
		refused load prefix=
		refused load prefix=an-endless-prefix-of-names
	EOF
}

# Nobody asked for a disk: not a word but which driver this is.
test_no_devices() {
	guest one <<-'EOF'
		load
		same disks "$(ls -d /sys/block/ubd* 2>/dev/null | wc -l || true)" 0
		unload
	EOF
	expect_silent one 'ubd: (ubd|option|cannot|[^lv])'
	expect_once one "ubd: version $version$"
}

run_tests "$@"
