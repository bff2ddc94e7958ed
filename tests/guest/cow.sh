#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# COW files over a shared backing file: made, found, refused, committed, shared,
# and exchanged with the kernel's own driver and with uml-utilities.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# base [MIB]: a backing file full of what does not repeat
base() {
	image base.img "${1:-16}M" >/dev/null
	noise base.img "${1:-16}"
	base_sum=$(checksum base.img)
}

base_untouched() {
	expect_eq 'content of the backing file' "$(checksum base.img)" "$base_sum"
}

# The first use makes the file; what is written is there the next time, and the
# backing file is as it was.
test_first_use() {
	base
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		cmp /dev/ubda $work/base.img
		"$tool" pattern write /dev/ubda 1000 5000 7
		"$tool" pattern check /dev/ubda 1000 5000 7
		cmp -n $((1000 * 512)) /dev/ubda $work/base.img
		cmp -i $((6000 * 512)) /dev/ubda $work/base.img
		sync /dev/ubda
		blockdev --flushbufs /dev/ubda
		"$tool" syncs /dev/ubda 1 sync
		same dirty "$(stat_of ubda dirty_sectors)" 0
		[ "$(stat_of ubda commits)" -gt 0 ] || die 'nothing was committed'
		unload
		# Given alone it is found to be one.
		load
		"$tool" pattern check /dev/ubda 1000 5000 7
		unload
	EOF
	base_untouched
	expect_once one "ubda: $work/a.cow: made, a COW file over $work/base.img"
	[ "$(allocated a.cow)" -lt 4000 ] || fail "the COW file has $(allocated a.cow) KiB"
	guest two "ubd0=$work/a.cow" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 5000 7
		cmp -i $((6000 * 512)) /dev/ubda $work/base.img
		unload
	EOF
	base_untouched
}

# A merge into the backing file was killed: that, and no other cause, is named for
# the time that does not fit.
test_merge_not_ended() {
	strace -o /dev/null true 2>/dev/null || skip "nothing may be traced here (strace)"
	base
	touch -d '2020-02-02' base.img
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/b.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 500 7
		unload
	EOF
	strace -qq -o /dev/null -e trace=fsync -e inject=fsync:signal=KILL:when=1 \
		"${UBD_COW:-$top/build/ubd-cow}" merge a.cow || true
	guest two "ubd0=$work/a.cow" "ubd1=$work/b.cow" <<-'EOF'
		load
		[ ! -b /dev/ubda ] || die 'its backing file has another time'
		unload
	EOF
	expect_once two "ubda: $work/a.cow: a merge into its backing file $work/base.img was begun and not ended; .* ubd-cow merge $work/a.cow$"
	expect_once two "ubdb: $work/b.cow: its backing file $work/base.img was changed at"
	"${UBD_COW:-$top/build/ubd-cow}" merge a.cow
	guest three "ubd0=$work/a.cow" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 500 7
		cmp /dev/ubda $work/base.img
		unload
	EOF
}

# What the command line and the header say of the backing file.
test_backing_names() {
	base
	image other.img 16M >/dev/null
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 500 7
		unload
	EOF
	cp -p base.img copy.img
	ln -s base.img link.img
	cp a.cow before.cow
	# The same file by another name changes nothing, one alike is taken instead.
	guest two "ubd0=$work/a.cow,$work/link.img" <<-'EOF'
		load
		cmp -n 512000 /dev/ubda $work/base.img
		unload
	EOF
	cmp a.cow before.cow || fail 'the header was written'
	guest three "ubd0=$work/a.cow,$work/copy.img" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 500 7
		unload
		rm $work/base.img
		load "device=1=$work/a.cow"
		unload
	EOF
	expect_once three "ubd: ubda: $work/a.cow: backing file is now $work/copy.img, no longer $work/base.img"
	expect_eq 'name in the header' "$(dd if=a.cow bs=1 skip=$name_at count=4096 status=none | tr -d '\0')" "$work/copy.img"
	guest four "ubd0=$work/a.cow" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 500 7
		cmp -n 512000 /dev/ubda $work/copy.img
		unload
	EOF
	# One that was written to since, and one of another size.
	touch -d '2001-01-01' copy.img
	truncate -s 17M larger.img
	cp a.cow before.cow
	guest five "ubd0=$work/a.cow" "ubd1=$work/a.cow,$work/larger.img" "ubd2=$work/a.cow,$work/missing.img" \
		"ubd3=$work/other.img,$work/copy.img" "ubd4=$work/none.cow" "ubd5=$work/none.cow,$work/missing.img" <<-'EOF'
		load
		same disks "$(ls -d /sys/block/ubd* 2>/dev/null | wc -l || true)" 0
		unload
	EOF
	cmp a.cow before.cow || fail 'the header was written'
	[ ! -e none.cow ] || fail 'a COW file was made over nothing'
	expect_once five "ubda: $work/a.cow: its backing file $work/copy.img was changed at .*ubd-cow rebase --trust"
	expect_once five "ubdb: $work/a.cow: is for a backing file of 16777216 bytes, but .* has 17825792"
	expect_once five "ubdc: $work/missing.img: cannot find the file: No such file"
	expect_once five "ubdd: $work/other.img: is no COW file"
	expect_once five "ubde: $work/none.cow: cannot find the file"
	expect_once five "ubdf: $work/missing.img: cannot find the file"
}

# d takes it as data; r reads, and changes nothing; c locks nothing.
test_flags() {
	base
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 500 7
		unload
	EOF
	cp a.cow before.cow
	guest two "ubd0d=$work/a.cow" "ubd1r=$work/before.cow" <<-'EOF'
		load
		cmp /dev/ubda $work/a.cow
		same read-only "$(blockdev --getro /dev/ubdb)" 1
		"$tool" pattern check /dev/ubdb 1000 500 7
		refused dd if=/dev/zero of=/dev/ubdb bs=4k count=1 oflag=direct status=none
		same fua "$(cat /sys/block/ubdb/queue/fua)" 0
		unload
		load "device=2c=$work/a.cow" "device=3r=$work/none.cow,$work/base.img" || true
		[ -b /dev/ubdc ] && die 'a file that is open elsewhere'
		unload
	EOF
	cmp a.cow before.cow || fail 'somebody wrote'
	[ ! -e none.cow ] || fail 'a file was made for reading only'
	expect_once two "ubdd: $work/none.cow: does not exist, and is to be read only"
}

# What only looks like a COW file: each its message, and nothing happens.
test_hostile_files() {
	local i

	base
	guest one "ubd0=$work/good.cow,$work/base.img" <<-'EOF'
		load
		unload
	EOF
	for i in 0 1 2 3 4 5 6 7 8 9; do
		cp good.cow $i.cow
	done
	bytes_at 0.cow 7 '\x09' # version
	bytes_at 1.cow $size_at '\xff\xff\xff\xff\xff\xff\xff\xff'
	bytes_at 2.cow $size_at '\0\0\0\0\0\0\0\0'
	bytes_at 3.cow 20 '\0\0\x10\0' # sectors
	bytes_at 4.cow 24 '\0\0\0\0' # alignment
	bytes_at 5.cow $format_at '\0\0\0\1'
	dd if=/dev/zero bs=1 count=4096 status=none | tr '\0' 'a' | dd of=6.cow bs=1 seek=$name_at conv=notrunc status=none
	bytes_at 7.cow $name_at "$work/7.cow\\0" # itself
	truncate -s 9000 8.cow
	truncate -s 1000 9.cow
	mkfifo fifo
	cp good.cow a.cow
	bytes_at a.cow $name_at "$work/fifo\\0"
	cp good.cow b.cow
	bytes_at b.cow $name_at "$work\\0"
	guest two "ubd0=$work/0.cow" "ubd1=$work/1.cow" "ubd2=$work/2.cow" "ubd3=$work/3.cow" "ubd4=$work/4.cow" \
		"ubd5=$work/5.cow" "ubd6=$work/6.cow" "ubd7=$work/7.cow" "ubd8=$work/8.cow" "ubd9=$work/9.cow" \
		"ubd10=$work/a.cow" "ubd11=$work/b.cow" "ubd12=$work/good.cow" <<-'EOF'
		load
		same disks "$(cd /sys/block && ls -d ubd*)" ubdm
		cmp /dev/ubdm $work/base.img
		unload
	EOF
	for i in a b c d e f g; do
		expect_once two "ubd$i: $work/.*: is a COW file, but .*; look at it with ubd-cow check"
	done
	expect_once two "ubdh: $work/7.cow: names itself as its backing file"
	expect_once two "ubdi: $work/8.cow: is cut short: its bitmap is not whole"
	expect_once two "ubdj: $work/9.cow: is a COW file, but its header is cut short"
	expect_once two "ubdk: $work/fifo: is neither a regular file nor a block device"
	expect_once two "ubdl: $work: is a directory"
	base_untouched
}

# Beside the kernel's own driver, which has the first of these files.
test_beside_own_driver() {
	base
	cp -p base.img own.img
	use_compare
	guest one "ubd0=$work/k.cow,$work/base.img" <<-'EOF'
		load "device=0=$work/a.cow,$work/own.img" "device=1=$work/b.cow,$work/own.img" \
			"device=2=$work/c.cow,$work/base.img" "device=3=$work/k.cow"
		same disks "$(cd /sys/block && echo aubd*)" 'aubda aubdb'
		for d in aubda aubdb ubda; do
			"$tool" pattern write /dev/$d 1000 500 1
			"$tool" pattern check /dev/$d 1000 500 1
			cmp -n 512000 /dev/$d $work/own.img
		done
		unload
	EOF
	expect_once one "aubdc: $work/base.img: this UML process has the file open already"
	expect_once one "aubdd: $work/k.cow: this UML process has the file open already"
	[ ! -e c.cow ] || fail 'a COW file was made'
	base_untouched
}

# Many share one backing file; nobody may write to it meanwhile.
test_locks() {
	local pid

	base
	image raw.img 16M >/dev/null
	guest_start one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/b.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 500 1
		"$tool" pattern write /dev/ubdb 0 500 2
		"$tool" pattern check /dev/ubda 0 500 1
		touch $work/up
		until_file $work/go
		unload
	EOF
	guest_await one up
	pid=${guest_pid[one]}
	guest two "ubd0=$work/c.cow,$work/base.img" "ubd1=$work/base.img" "ubd2=$work/a.cow" "ubd3r=$work/base.img" \
		"ubd4=$work/raw.img" <<-'EOF'
		load "device=5=$work/d.cow,$work/raw.img"
		same disks "$(cd /sys/block && echo ubd*)" 'ubda ubdd ubde'
		unload
	EOF
	guest three "ubd0=$work/base.img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'a backing file is written to'
		unload
	EOF
	touch go
	guest_wait one
	expect_eq status "$status" 0
	expect_once two "ubdb: $work/base.img: the file is in use already as ubda"
	expect_once two "ubdc: $work/a.cow: is locked by process ${pid} \(linux\) of the host; stop that guest"
	expect_once two "ubdf: $work/raw.img: another disk of this guest has the file"
	expect_once three "ubda: $work/base.img: is locked by process ${pid} \(linux\) of the host; stop that guest"
	base_untouched
	expect_unlocked "$work/base.img"
	expect_unlocked "$work/a.cow"
}

# Somebody writes to the file: nobody may build upon it.
test_base_written_to() {
	local pid

	base
	guest_start one "ubd0=$work/base.img" <<-'EOF'
		load
		touch $work/up
		until_file $work/go
	EOF
	guest_await one up
	pid=${guest_pid[one]}
	guest two "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'a backing file is written to'
		unload
	EOF
	touch go
	guest_wait one
	expect_eq status "$status" 0
	expect_once two "ubda: $work/base.img: is locked by process $pid \(linux\) of the host; it may be writing there, and a backing file must not change"
	[ ! -e a.cow ] || fail 'a COW file was made over it'
}

# What was written goes into the backing files, so the next guest makes new
# overlays, and each record needs new bits.
new_overlays() {
	local name

	for name in a l; do
		expect_unlocked "$work/$name.cow"
		"$ubd_cow" merge "$name.cow" >merged
		rm "$name.cow"
	done
}

# How the disks are opened.
cache=writeback

# killed_guests ROUNDS SECONDS: guests that write streams of records, each killed
# at any moment, so many or as long as that; each finds what the last one was
# told, and writes on. Two processes write and flush (a, b), on another disk one
# only writes (l: the relay commits for the dead guest), and to a raw disk one
# writes with FUA (f). What they are over has a record in each place: zeros are
# always wrong. Half of the relays are killed, too: then there is what was flushed,
# and more is not promised.
killed_guests() {
	local until=$((SECONDS + $2))
	local round=0
	local relay land

	truncate -s 64M base.img landed.img raw.img
	"$tool" stream new base.img 0 a
	"$tool" stream new base.img 4 b
	"$tool" stream new landed.img 0 l
	"$tool" stream new raw.img 0 f
	# The last one finds what the last but one was told.
	while [ "$round" -le "$1" ] || [ "$SECONDS" -lt "$until" ]; do
		[ $((round % 2)) = 0 ] || new_overlays
		rm -f f.up l.up a.up b.up
		land=land
		[ $((round / 2 % 2)) = 0 ] || land=try
		guest_start_bare "r$round" "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/l.cow,$work/landed.img" \
			"ubd2=$work/raw.img" -- streams "$module:cache=$cache${test_args:+:$test_args}" \
			"write=/dev/ubda=0=$work/a" \
			"write=/dev/ubda=4=$work/b" "$land=/dev/ubdb=0=$work/l" "fua=/dev/ubdc=0=$work/f" end
		streams_await "r$round" a b l f
		expect_eq 'disks in that mode' "$(log_count "r$round" "ubd: ubd[abc]: .*, $cache, ")" 3
		relay=$(relay_of "r$round")
		sleep "0.$((RANDOM % 2))$((RANDOM % 10))$((RANDOM % 10))"
		[ $land = land ] || kill -KILL "$relay"
		kill -KILL "${guest_pid[r$round]}"
		wait "${guest_pid[r$round]}" 2>/dev/null || true
		# Only a relay gives free what such a process holds.
		[ $land = land ] || end_leftovers
		forget_guest "r$round"
		streams_right "r$round"
		round=$((round + 1))
	done
	echo $((round - 1)) >rounds
}

# killed ROUNDS: a guest that begins, or waits for the host's disk, leaves the
# host's CPUs idle; so there are several at once.
killed() {
	local lanes lane

	lanes=$(nproc)
	[ "$lanes" -le 4 ] || lanes=4
	for lane in $(seq "$lanes"); do
		(
			work=$work/lane$lane
			mkdir "$work"
			cd "$work" || exit 1
			trap end_guests EXIT
			trap 'exit 143' TERM
			killed_guests $((($1 + lanes - 1) / lanes)) "$soak_seconds"
		) &
		at_end "kill $! 2>/dev/null; wait $!"
	done
	for lane in $(seq "$lanes"); do
		wait -n || fail 'a guest was killed, and something is wrong'
	done
	awk '{ if (FILENAME ~ /rounds$/) rounds += $1; else sum[substr($2, length($2) - 1, 1)] += $3 }
		END { printf "%d guests killed (cache='$cache'), after %d flushed, %d FUA and %d landed records\n",
			rounds, sum["a"] + sum["b"], sum["f"], sum["l"] }' lane*/found lane*/rounds >figures
}

property[killed]=alone
limit[killed]=$((300 + soak_seconds))
test_killed() {
	killed "${UBD_KILL_ROUNDS:-100}"
}

# It is killed, and its parent has waited for it, after the relay saw completions and
# before it sends the signal, which then reaches nobody.
test_killed_before_signal() {
	local disk="ubd0=$work/l.cow,$work/landed.img"
	local tracing=0

	truncate -s 64M landed.img
	"$tool" stream new landed.img 0 l
	guest_start_bare one "$disk" -- streams "$module:commit_ms=0${test_args:+:$test_args}" "land=/dev/ubda=0=$work/l" end
	streams_await one l
	until [ -s l.ack ]; do
		sleep 0.05
	done
	"$tool" kill-at-signal "$(relay_of one)" "${guest_pid[one]}" || tracing=$?
	[ "$tracing" != 77 ] || skip 'a process may trace none but its own children here'
	expect_eq 'status of the tool' "$tracing" 0
	wait "${guest_pid[one]}" 2>/dev/null || true
	forget_guest one
	expect_unlocked l.cow
	"$ubd_cow" merge l.cow --into view.img
	"$tool" stream find view.img 0 l >found || fail "what had landed is lost: $(cat found)"
	! grep -q ' 0 records acknowledged' found || fail 'nothing had landed'
}

# The same by O_DIRECT.
property[killed_direct]=alone
limit[killed_direct]=$((300 + soak_seconds))
test_killed_direct() {
	cache=none
	killed "$((${UBD_KILL_ROUNDS:-100} / 4))"
}

property[killed_long]='alone full'
limit[killed_long]=900
test_killed_long() {
	killed 400
}

# No space on the host: the write fails, the old content stays, all else goes on.
test_host_full() {
	base 8
	small_host 3M <<-EOF
		cp --sparse=always $work/base.img /dev/null
	EOF
	guest one "ubd0=$work/small/a.cow,$work/base.img" <<-'EOF'
		load
		refused dd if=/dev/urandom of=/dev/ubda bs=64k oflag=direct status=none
		# Each block is its old or its new content: the backing file's, or not its.
		{ cmp -l /dev/ubda $work/base.img || true; } | awk '{ n[int(($1 - 1) / 65536)]++ }
			END { for (b in n) if (n[b] < 60000) { print "block " b " is mixed: " n[b]; bad = 1 } exit bad }'
		errors=$(stat_of ubda errors)
		[ "$errors" -gt 0 ] || die 'no error'
		# What is there already goes on, and so does reading.
		dd if=/dev/urandom of=/dev/ubda bs=64k count=8 oflag=direct status=none
		dd if=/dev/ubda of=/dev/null bs=1M status=none
		cmp -i 7M /dev/ubda $work/base.img
		unload
	EOF
	expect_log one 'ubda: .*: write of .* failed: No space left on device \(28\); free space'
	base_untouched
}

# What was written before the disk was full can be flushed when it is: a write is
# accepted only when its bits have their space, too. Here each write lies in
# another block of the bitmap.
test_host_full_flush() {
	image base.img 1G >/dev/null
	noise piece 1
	small_host 3M <<-'EOF'
		true
	EOF
	guest one "ubd0=$work/small/a.cow,$work/base.img" <<-'EOF'
		load commit_ms=0
		n=0
		while dd if=$work/piece of=/dev/ubda bs=64k count=1 seek=$((256 * n)) oflag=direct status=none; do
			n=$((n + 1))
			[ $n -lt 64 ] || die 'the disk is not full'
		done
		[ "$(stat_of ubda dirty_sectors)" = $((128 * n)) ] || die 'bits were committed early'
		sync /dev/ubda
		same dirty_sectors "$(stat_of ubda dirty_sectors)" 0
		[ "$(stat_of ubda bitmap_allocations)" -gt 1 ] || die 'no space was made for bits'
		unload
		load
		while [ $n -gt 0 ]; do
			n=$((n - 1))
			dd if=/dev/ubda bs=64k count=1 skip=$((256 * n)) status=none | cmp -n 64k - $work/piece
		done
		unload
	EOF
	expect_silent one ': (flush|commit of the COW bitmap) failed'
}

# A file system, a reboot, and another one after a kill without warning.
test_file_system() {
	local how

	image base.img 64M >/dev/null
	mkfs.ext4 -q base.img
	base_sum=$(checksum base.img)
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		mount /dev/ubda $mnt
		dd if=/dev/urandom of=$mnt/file bs=1M count=20 status=none
		sha256sum <$mnt/file >$work/sum
		sync
		rm -rf $mnt/lost+found
		fstrim $mnt
		umount $mnt
		e2fsck -fn /dev/ubda
		mount /dev/ubda $mnt
		same sum "$(sha256sum <$mnt/file)" "$(cat $work/sum)"
		dd if=/dev/urandom of=$mnt/other bs=1M count=5 conv=fsync status=none
		# Not unmounted, not unloaded.
	EOF
	guest two "ubd0=$work/a.cow" <<-'EOF'
		load
		mount /dev/ubda $mnt
		same sum "$(sha256sum <$mnt/file)" "$(cat $work/sum)"
		same size "$(stat -c %s $mnt/other)" $((5 << 20))
		umount $mnt
		e2fsck -fn /dev/ubda
		unload
	EOF
	base_untouched
}

# Bits are committed without a flush, too: after some seconds, and by rmmod.
test_background_commit() {
	image base.img 16M >/dev/null
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" records land /dev/ubda $work/ack 5
		same dirty "$(stat_of ubda dirty_sectors)" 80
		for i in $(seq 100); do
			[ "$(stat_of ubda dirty_sectors)" != 0 ] || break
			sleep 0.1
		done
		same dirty "$(stat_of ubda dirty_sectors)" 0
		same commits "$(stat_of ubda commits)" 1
		same flushes "$(stat_of ubda flush_requests)" 0
		cp $work/a.cow $work/b.cow
		"$tool" records land /dev/ubda $work/ack 10
		unload
		cp $work/a.cow $work/c.cow
		load "device=1=$work/b.cow" "device=2=$work/c.cow"
		cmp -i 49152 -n 1000000 /dev/ubdb $work/base.img
		"$tool" records verify /dev/ubdc 10
	EOF
}

# Ours, the kernel's own and uml-utilities': each reads what the others wrote.
test_others_files() {
	local name

	base
	cp -p base.img theirs.img
	uml_mkcow -f u.cow base.img >/dev/null
	guest one "ubd0=$work/o.cow,$work/base.img" "ubd1=$work/u.cow" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 500 1
		"$tool" pattern write /dev/ubdb 2000 500 2
		unload
	EOF
	# The same header as the other tool's, and as the kernel's.
	cmp -n 4128 o.cow u.cow || fail 'our header is not that of uml_mkcow'
	use_compare
	guest two "ubd0=$work/o.cow" "ubd1=$work/u.cow" "ubd2=$work/k.cow,$work/base.img" <<-'EOF'
		"$tool" pattern check /dev/ubda 1000 500 1
		"$tool" pattern check /dev/ubdb 2000 500 2
		"$tool" pattern write /dev/ubda 3000 500 3
		"$tool" pattern write /dev/ubdc 4000 500 4
	EOF
	use_release
	# Behind the name it writes what its memory held before.
	name="$work/base.img"
	cmp -n $((name_at + ${#name} + 1)) o.cow k.cow || fail "our header is not that of the kernel's own driver"
	guest three "ubd0=$work/o.cow" "ubd1=$work/k.cow" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 500 1
		"$tool" pattern check /dev/ubda 3000 500 3
		"$tool" pattern check /dev/ubdb 4000 500 4
		cmp -i $((4500 * 512)) /dev/ubdb $work/base.img
		dd if=/dev/ubda of=$work/seen bs=1M status=none
		unload
	EOF
	# Merged by uml_moo it is what the guest saw.
	uml_moo o.cow merged.img >/dev/null
	cmp merged.img seen || fail 'uml_moo makes something else of our file'
	base_untouched
}

# A COW file is no backing file, and a raw one may lie on a file that is too short.
test_stacked_and_short() {
	local i

	base
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 512 7
		unload
	EOF
	cp a.cow short.cow
	# Bits and some data are there; the rest was never written.
	truncate -s $((12288 + 512 * 512)) short.cow
	cp short.cow read.cow
	cp short.cow cut.cow
	truncate -s -1 cut.cow
	guest two "ubd0=$work/b.cow,$work/a.cow" "ubd1=$work/short.cow" "ubd2r=$work/read.cow" \
		"ubd3=$work/cut.cow" "ubd4r=$work/cut.cow" <<-'EOF'
		load
		same disks "$(cd /sys/block && echo ubd*)" 'ubdb ubdc'
		for d in ubdb ubdc; do
			"$tool" pattern check /dev/$d 0 512 7
			cmp -i 262144 /dev/$d $work/base.img
		done
		"$tool" pattern write /dev/ubdb 32000 512 8
		unload
		load
		"$tool" pattern check /dev/ubdb 32000 512 8
		unload
	EOF
	[ ! -e b.cow ] || fail 'a COW file was made over a COW file'
	expect_log two "ubda: $work/a.cow: is a COW file itself, and can be no backing file; merge it first"
	for i in d e; do
		expect_log two "ubd$i: $work/cut.cow: is cut short: by its bitmap it has sectors behind its end at byte 274431, .* truncate -s 16789504 $work/cut.cow$"
	done
	expect_eq 'length that was cut' "$(stat -c %s cut.cow)" 274431
	expect_eq 'length that was read only' "$(stat -c %s read.cow)" $((12288 + 512 * 512))
	expect_eq 'length' "$(stat -c %s short.cow)" "$(stat -c %s a.cow)"
	base_untouched
}

# A relative name in the header: from where UML was started, as the kernel's own
# driver has it, else from where the COW file is.
test_relative_names() {
	local dir

	base
	mkdir started beside
	for dir in started beside; do
		cp base.img $dir/rel.img
		printf "$dir" | dd of=$dir/rel.img conv=notrunc status=none
		touch -r base.img $dir/rel.img
	done
	uml_mkcow -f beside/a.cow base.img >/dev/null
	bytes_at beside/a.cow $name_at 'rel.img\0'
	cp beside/a.cow alone.cow
	(cd started && guest one "ubd0=$work/beside/a.cow" <<-'EOF'
		load
		same content "$(head -c 7 /dev/ubda)" started
		unload
	EOF
	)
	guest two "ubd0=$work/beside/a.cow" "ubd1=$work/alone.cow" <<-'EOF'
		load
		same content "$(head -c 6 /dev/ubda)" beside
		unload
		load cmdline=0 device=0=beside/a.cow
		same content "$(head -c 6 /dev/ubda)" beside
		unload
	EOF
	expect_silent one 'taken from'
	expect_once two "ubda: $work/beside/a.cow: its backing file rel.img is not in the directory that UML was started in"
	expect_once two 'ubdb: rel.img: cannot find the file: No such file or directory \(2\); correct its name'
}

# differences BYTES FILE FILE: in how many of them they differ
differences() {
	{ cmp -ln "$@" || true; } | wc -l
}

# Old versions are written in place: their header stays what it is, and the
# kernel's own driver reads what we wrote.
test_old_versions() {
	local v
	declare -A header=([1]=280 [2]=4120 [padded]=4136)

	base
	cp -p base.img copy.img
	for v in 1 2 padded; do
		made_cow $v.cow $v
		cp $v.cow $v.before
	done
	guest one "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/padded.cow" <<-'EOF'
		load
		for d in ubda ubdb ubdc; do
			cmp /dev/$d $work/base.img
			"$tool" pattern write /dev/$d 1001 5003 7
			"$tool" pattern write /dev/$d 32760 8 8
		done
		unload
	EOF
	for v in 1 2 padded; do
		cmp -n ${header[$v]} $v.cow $v.before || fail "the header of version $v was changed"
		expect_eq 'length' "$(stat -c %s $v.cow)" "$(stat -c %s $v.before)"
	done
	use_compare
	guest two "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/padded.cow" <<-'EOF'
		for d in ubda ubdb ubdc; do
			"$tool" pattern check /dev/$d 1001 5003 7
			"$tool" pattern check /dev/$d 32760 8 8
			"$tool" pattern write /dev/$d 20000 100 9
		done
	EOF
	for v in 1 2 padded; do
		uml_moo $v.cow $v.img >/dev/null
		"$tool" pattern check $v.img 1001 5003 7
		"$tool" pattern check $v.img 20000 100 9
		"$tool" pattern check $v.img 32760 8 8
		cmp -n 512512 $v.img base.img || fail "uml_moo sees something else in version $v"
	done
	use_release
	# A switch of the backing file changes the name and nothing else.
	guest three "ubd0=$work/1.cow,$work/copy.img" "ubd1=$work/2.cow,$work/copy.img" "ubd2=$work/padded.cow,$work/copy.img" <<-'EOF'
		load
		unload
		rm $work/base.img
		load cmdline=0 "device=0=$work/1.cow" "device=1=$work/2.cow" "device=2=$work/padded.cow"
		for d in ubda ubdb ubdc; do
			"$tool" pattern check /dev/$d 1001 5003 7
			"$tool" pattern check /dev/$d 20000 100 9
			"$tool" pattern check /dev/$d 32760 8 8
			cmp -n 512512 /dev/$d $work/copy.img
		done
		unload
	EOF
	for v in 1 2 padded; do
		expect_eq "bytes of version $v that changed" "$(differences ${header[$v]} $v.cow $v.before)" 4
	done
}

# Both files may be block devices of the host.
test_block_devices() {
	local cow backing small

	base
	backing=$(losetup -f --show base.img 2>/dev/null) || skip "the host lets no loop device be made"
	at_end "losetup -d $backing"
	guest zero "ubd0=$work/a.cow,$backing" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 504 7
		unload
	EOF
	cp a.cow small.cow
	truncate -s 20M a.cow
	truncate -s 16M small.cow
	cow=$(losetup -f --show a.cow)
	at_end "losetup -d $cow"
	small=$(losetup -f --show small.cow)
	at_end "losetup -d $small"
	touch "$backing" # its node's time says nothing
	guest one "ubd0=$cow" "ubd1=$small" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 1000 504 7
		"$tool" pattern write /dev/ubda 32000 512 8
		[ ! -e /dev/ubdb ] || die 'its end is missing'
		unload
		load
		"$tool" pattern check /dev/ubda 32000 512 8
		cmp -n 512000 /dev/ubda $work/base.img
		unload
	EOF
	expect_log one "ubdb: $small: is on a block device that is too small for it; take a larger one"
	base_untouched
}

# No space to make the file, or no directory: nothing is left behind.
test_cannot_be_made() {
	base 8
	small_host 1M <<-EOF
		dd if=/dev/zero of=$work/small/fill bs=1k status=none 2>/dev/null || true
	EOF
	guest one "ubd0=$work/small/a.cow,$work/base.img" "ubd1=$work/nowhere/a.cow,$work/base.img" "ubd2=$work/b.cow,$work/base.img" <<-'EOF'
		load
		same disks "$(cd /sys/block && echo ubd*)" ubdc
		same files "$(ls $work/small)" fill
		unload
	EOF
	expect_once one "ubda: .*/small/a.cow: cannot be made: No space left on device \\(28\\); free space"
	expect_once one "ubdb: .*/nowhere/a.cow: cannot be made: No such file or directory \\(2\\); make its directory"
	[ -z "$(find . -name '*.new*')" ] || fail 'something is left behind'
}

# unnamed_files DIRECTORY: how many of these guest "one" has opened twice
unnamed_files() {
	find "/proc/${guest_pid[one]}/fd" -lname "$(realpath "$1")/#*(deleted)" -printf '%l\n' | sort | uniq -d | wc -l
}

# What is written goes with the guest, whatever it is over.
test_snapshot() {
	local sums

	base
	mkdir tmp
	guest zero "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 1000 500 7
		unload
	EOF
	sums=$(sha256sum a.cow base.img)
	TMPDIR=$work/tmp guest_start one "ubd0=$work/base.img" "ubd1=$work/a.cow" "ubd2=$work/none.cow,$work/base.img" \
		"ubd3d=$work/a.cow" "ubd4r=$work/base.img" "ubd5s=$work/base.img" <<-'EOF'
		seen() {
			for d in ubda ubdc ubde ubdf; do
				cmp /dev/$d $work/base.img
			done
			cmp /dev/ubdd $work/a.cow
			cmp -n 512000 /dev/ubdb $work/base.img
			"$tool" pattern check /dev/ubdb 1000 500 7
		}
		load snapshot=1
		seen
		for d in ubda ubdb ubdc ubdd ubdf; do
			same cache "$(cat /sys/block/$d/queue/write_cache)" 'write through'
			"$tool" pattern write /dev/$d 2000 5000 8
			"$tool" pattern check /dev/$d 2000 5000 8
			same commits "$(stat_of $d commits)" 0
			same syncs "$(stat_of $d host_syncs)" 0
		done
		touch $work/written
		until_file $work/looked
		unload
		load snapshot=1 snapshot_dir=$work
		seen
		touch $work/again
		until_file $work/looked_again
		# And powered off, with something to lose.
		"$tool" pattern write /dev/ubda 2000 5000 8
	EOF
	guest_await one written
	# Five have a file of their own, without a name and opened twice.
	expect_eq 'temporary files' "$(unnamed_files tmp)" 5
	expect_eq 'names in the directory' "$(find tmp -mindepth 1 ! -name 'ubd-test.*' ! -path '*/ubd-test.*')" ''
	# Others may read the base as well.
	guest two "ubd0=$work/b.cow,$work/base.img" "ubd1r=$work/a.cow" <<-'EOF'
		load
		cmp /dev/ubda $work/base.img
		"$tool" pattern check /dev/ubdb 1000 500 7
		unload
	EOF
	touch looked
	guest_await one again
	expect_eq 'temporary files of snapshot_dir=' "$(unnamed_files .)" 5
	touch looked_again
	guest_wait one
	expect_eq status "$status" 0
	expect_silent one 'was removed on the host'
	expect_eq 'the files' "$(sha256sum a.cow base.img)" "$sums"
	[ ! -e none.cow ] || fail 'a COW file was made'
	expect_log one "ubda: $work/base.img: .*, snapshot, (io_uring|threads)"
	expect_log one "ubdb: $work/a.cow over $work/base.img: .*, snapshot, (io_uring|threads)"
	guest three "ubd0=$work/base.img" <<-'EOF'
		load snapshot=1 snapshot_dir=$work/nowhere
		[ ! -e /dev/ubda ] || die 'a disk without a place to write to'
		unload
	EOF
	expect_once three "ubda: .*: no temporary file can be made for what is written: No such file or directory \\(2\\); name another directory by snapshot_dir="
}

# The copy of a COW file shares its blocks where the host's file system can.
test_snapshot_reflink() {
	local copy shared

	[ "$(id -u)" = 0 ] || skip "only root may mount a file system that can share blocks"
	truncate -s 1G fs.img
	mkfs.xfs -q -m reflink=1 fs.img || skip "no XFS can be made that shares blocks (mkfs.xfs -m reflink=1)"
	mkdir fs
	unshare -m mount -o loop fs.img fs 2>/dev/null || skip "the host mounts no XFS on a loop device"
	base
	made_cow a.cow 3 want.img 1
	# shellcheck disable=SC2016 # its own words
	launcher=(unshare -m bash -c "mount -o loop $work/fs.img $work/fs && cp --sparse=always $work/a.cow $work/fs &&"' exec "$@"' --)
	guest_start one "ubd0=$work/fs/a.cow" <<-'EOF'
		load snapshot=1 snapshot_dir=$work/fs
		cmp /dev/ubda $work/want.img
		touch $work/up
		until_file $work/go
		"$tool" model /dev/ubda $work/want.img 400 8 8 1 changes
		unload
		load cmdline=0 device=0r=$work/fs/a.cow
		cmp /dev/ubda $work/before.img
		unload
	EOF
	cp want.img before.img
	guest_await one up
	# The guest opens and closes others meanwhile.
	copy=$(find "/proc/${guest_pid[one]}/fd" -ignore_readdir_race -lname '*(deleted)' \
		-exec sh -c '[ "$(stat -Lc %s "$1")" = "$2" ]' - {} "$(stat -c %s a.cow)" \; -print -quit) || true
	[ -n "$copy" ] || fail 'there is no temporary copy'
	sync -f "$copy"
	shared=$(filefrag -v "$copy" | awk '/shared/ { n += $6 } END { print int(n / 256) }')
	touch go
	guest_wait one
	expect_eq status "$status" 0
	[ "$shared" -ge 8 ] || fail "the copy shares $shared MiB"
}

# block_size=: what guests see as the smallest unit.
test_block_size() {
	base
	truncate -s $(((16 << 20) + 512)) odd.img
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/base2.img" "ubd2=$work/odd.cow,$work/odd.img" \
		"ubd3=$work/odd.img" <<-'EOF'
		truncate -s 16M $work/base2.img
		load block_size=4096
		for d in ubda ubdb; do
			same logical "$(blockdev --getss /dev/$d)" 4096
			same physical "$(blockdev --getpbsz /dev/$d)" 4096
			refused dd if=/dev/zero of=/dev/$d bs=512 count=1 oflag=direct status=none
			"$tool" pattern write /dev/$d 8 800 1
			"$tool" pattern check /dev/$d 8 800 1
		done
		same disks "$(cd /sys/block && echo ubd*)" 'ubda ubdb'
		unload
		load block_size=512
		same disks "$(cd /sys/block && echo ubd*)" 'ubda ubdb ubdc'
		same logical "$(blockdev --getss /dev/ubda)" 512
		"$tool" pattern check /dev/ubda 8 800 1
		unload
		refused load block_size=1024
	EOF
	expect_once one "ubdc: $work/odd.cow: the device has 16777728 bytes, which is no multiple of the block size 4096; give block_size=512"
	expect_once one "ubdd: $work/odd.img: the device has 16777728 bytes, .*, or round it up with truncate"
	expect_once one 'block_size=1024 is neither 512 nor 4096'
	base_untouched
}

# A flush failed for good: what the host lost must not be given out as written,
# by no commit, whoever makes it.
test_poisoned() {
	local end

	use_debug
	base
	for end in killed removed; do
		guest_start $end "ubd0=$work/$end.cow,$work/base.img" <<-EOF
			load commit_ms=0
			"\$tool" records land /dev/ubda $work/ack 10
			same dirty "\$(stat_of ubda dirty_sectors)" 160
			fault ubda 'sync errno=5'
			refused "\$tool" syncs /dev/ubda 1 sync
			fault ubda off
			touch $work/$end.up
			[ $end = killed ] || unload
			until_file $work/$end.go
		EOF
		guest_await $end $end.up
		if [ $end = killed ]; then
			kill -KILL "${guest_pid[$end]}"
			wait "${guest_pid[$end]}" || true
			forget_guest $end
		else
			touch $end.go
			guest_wait $end
		fi
		expect_unlocked "$work/$end.cow"
		cmp -n 512 -i 8192:0 $end.cow /dev/zero || fail "bits were committed ($end)"
	done
	base_untouched
}

# landed HOW: writes records that are never flushed; then the guest ends so, and
# the next one finds them all.
landed() {
	image base.img 16M >/dev/null
	guest_start one "ubd0=$work/a.cow,$work/base.img" "${@:2}" <<-EOF
		load commit_ms=0
		if [ -e $work/ended ]; then
			"\$tool" records verify /dev/ubda 700
			touch $work/verified
			unload
			exit 0
		fi
		"\$tool" records land /dev/ubda $work/ack 700
		same commits "\$(stat_of ubda commits)" 0
		touch $work/ended
		case $1 in
		SIGKILL) touch $work/up; sleep 1000 ;;
		poweroff) "\$tool" power off ;;
		reboot) "\$tool" power restart ;;
		*) echo $1 >/proc/sysrq-trigger ;;
		esac
		sleep 1000
	EOF
	if [ "$1" = SIGKILL ]; then
		guest_await one up
		kill -KILL "${guest_pid[one]}"
	fi
	guest_wait one
	if [ ! -e verified ]; then
		guest two "ubd0=$work/a.cow" <<-'EOF'
			load
			"$tool" records verify /dev/ubda 700
			touch $work/verified
			unload
		EOF
	fi
	[ -e verified ] || fail 'no second guest came'
	expect_no_trace
	expect_unlocked "$work/a.cow"
	expect_unlocked "$work/base.img"
}

test_landed_SIGKILL() { landed SIGKILL; }
test_landed_poweroff() { landed poweroff; }
test_landed_reboot() { landed reboot; }
test_landed_sysrq_b() { landed b; }
test_landed_panic() {
	expected_complaint='Kernel panic|Call Trace'
	landed c panic=1
}

run_tests "$@"
