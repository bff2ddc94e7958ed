#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The host's power fails, or its disk stops answering: guests and ubd-cow on a
# file system of the test's own (forgetful.cc), which loses what was not made
# durable, and on which an fdatasync may hang.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/forgetful.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# power_fails GUEST WORD...: first the power, then the guest, which sees nothing of
# it. The words are what the disk is told: off, or off-at-sync FILE.
power_fails() {
	local until=$((SECONDS + patience))
	local before

	before=$(grep -c '^power failed' power.log || true)
	tell_disk "${*:2}"
	while [ "$(grep -c '^power failed' power.log)" = "$before" ]; do
		[ "$SECONDS" -lt "$until" ] || fail 'the power does not fail'
		sleep 0.01
	done
	kill -KILL "${guest_pid[$1]}"
	kill "$disk_pid"
	wait "${guest_pid[$1]}" 2>/dev/null || true
	forget_guest "$1"
	unplug
}

# What was written goes into the backing files, so the next guest makes new
# overlays, and each record needs new bits.
new_overlays() {
	local name

	for name in a u; do
		"$ubd_cow" merge "$mnt/$name.cow"
		rm "$mnt/$name.cow"
	done
	sync "$mnt"
}

# How the disks are opened, and what makes those of the streams durable that are
# to be: an fdatasync (write), FUA, or that a write has ended (land).
cache=writeback
flushing='write'
fua='fua'
# What else the guest is started with.
boot_words=()

# power_fails_often ROUNDS SECONDS: so often, or as long as that.
# Guests that write streams of records, until the power fails at any moment: the
# next one finds all that was flushed, and nothing that was never written. On a
# COW file two processes write and flush (a, b), while one writes only (t), as on
# another COW file, whose bits are committed all the same (u); on a raw disk one
# flushes (w), one writes with FUA (f). Each second time the COW files are to be
# made first. Each second time the power fails just when a commit is to make
# something durable, and some of that is there nevertheless; else at any moment.
power_fails_often() {
	local until=$((SECONDS + $2))
	local round=0
	local seed when

	make_disk
	truncate -s 64M disk/base.img disk/other.img disk/raw.img
	"$tool" stream new disk/base.img 0 a
	"$tool" stream new disk/base.img 4 b
	"$tool" stream new disk/base.img 8 t
	"$tool" stream new disk/other.img 0 u
	"$tool" stream new disk/raw.img 0 w
	"$tool" stream new disk/raw.img 4 f
	# The last one finds what the last but one was told.
	while [ "$round" -le "$1" ] || [ "$SECONDS" -lt "$until" ]; do
		rm -f ./*.up
		case $((round / 2 % 4)) in
		0) seed=0 when=off ;;
		1) seed=$((RANDOM + 1)) when='off-at-sync a.cow' ;;
		2) seed=$((RANDOM + 1)) when=off ;;
		3) seed=$((RANDOM + 1)) when='off-at-sync u.cow' ;;
		esac
		power_on "$seed" 2
		if [ "$round" != 0 ]; then
			"$ubd_cow" check "$mnt/a.cow"
			"$ubd_cow" check "$mnt/u.cow"
		fi
		[ $((round % 2)) = 0 ] || new_overlays
		guest_start_bare "r$round" "ubd0=$mnt/a.cow,$mnt/base.img" "ubd1=$mnt/raw.img" \
			"ubd2=$mnt/u.cow,$mnt/other.img" "${boot_words[@]}" -- \
			streams "$module:commit_ms=30:cache=$cache${test_args:+:$test_args}" \
			"$flushing=/dev/ubda=0=$work/a" "$flushing=/dev/ubda=4=$work/b" "try=/dev/ubda=8=$work/t" \
			"try=/dev/ubdc=0=$work/u" "$flushing=/dev/ubdb=0=$work/w" "$fua=/dev/ubdb=4=$work/f" end
		streams_await "r$round" a b t u w f
		expect_eq 'disks in that mode' "$(log_count "r$round" "ubd: ubd[abc]: .*, $cache, ")" 3
		[ ${#boot_words[@]} = 0 ] || expect_log "r$round" 'Brought up 1 node, 2 CPUs'
		sleep "0.$((RANDOM % 2))$((RANDOM % 10))$((RANDOM % 10))"
		power_fails "r$round" "$when"
		streams_right "r$round"
		round=$((round + 1))
	done
	awk -v rounds=$((round - 1)) '/^power failed/ { lost += $6; all += $8 }
		/^stream/ { sum[substr($2, length($2) - 1, 1)] += $3 }
		END { printf "power failed %d times (cache='$cache'), after %d records by '$flushing' and %d by '$fua'; %d of %d unsynced sectors lost\n",
			rounds, sum["a"] + sum["b"] + sum["w"], sum["f"], lost, all
			exit !lost }' power.log found >figures || fail 'nothing was lost: this was no test'
}

limit[records]=$((240 + soak_seconds))
test_records() {
	power_fails_often "${UBD_KILL_ROUNDS:-16}" "$soak_seconds"
}

# By O_DIRECT: what has landed is nearly always on the disk, but not always, and
# bits go another way.
limit[records_direct]=$((240 + soak_seconds))
test_records_direct() {
	cache=none
	power_fails_often "${UBD_KILL_ROUNDS:-16}" "$soak_seconds"
}

# Nobody flushes: what has ended is durable.
limit[records_directsync]=$((240 + soak_seconds))
test_records_directsync() {
	cache=directsync
	flushing=land
	fua=land
	power_fails_often "${UBD_KILL_ROUNDS:-16}" "$soak_seconds"
}

# The writers are on two CPUs, now on this and now on that one: what a flush is for
# may have gone by another queue.
property[records_smp]=full
limit[records_smp]=240
test_records_smp() {
	use_smp
	boot_words=("${two_cpus[@]}")
	power_fails_often 16 0
}

property[records_long]=full
limit[records_long]=900
test_records_long() {
	power_fails_often 200 0
}

# The same disk under the kernel's own driver, whose flush does nothing: here it
# is seen that the disk forgets, and that these streams see it. First all is lost,
# then some.
test_own_driver() {
	local seed

	make_disk
	use_compare
	for seed in 0 $((RANDOM + 1)); do
		rm -f disk/* ./*.up ./*.ack
		truncate -s 64M disk/base.img disk/raw.img
		"$tool" stream new disk/base.img 0 c
		"$tool" stream new disk/raw.img 0 r
		power_on $seed
		# Its own would not be there when the power has failed.
		"$ubd_cow" create "$mnt/c.cow" "$mnt/base.img"
		guest_start_bare one "ubd0=$mnt/c.cow,$mnt/base.img" "ubd1=$mnt/raw.img" -- streams - \
			"write=/dev/ubda=0=$work/c" "write=/dev/ubdb=0=$work/r" end
		streams_await one c r
		sleep 0.3
		power_fails one off
		streams_right one
		power_on
		rm -f c.img
		"$ubd_cow" merge "$mnt/c.cow" --into c.img
		unplug
		! "$tool" stream find c.img 0 c >>lost || fail 'the disk did not forget (COW)'
		! "$tool" stream find disk/raw.img 0 r >>lost || fail 'the disk did not forget (raw)'
	done
	sed "s/^stream c: /the kernel's own driver, COW: /; s/^stream r: /the kernel's own driver, raw: /" lost >figures
}

# small_overlay: base.img, and a.cow over it with some sectors of its own; want.img
# is what is to be seen. All of it is durable, and kept in first/.
small_overlay() {
	make_disk
	truncate -s 1M disk/base.img
	dd if=/dev/urandom of=disk/base.img bs=1K seek=200 count=500 conv=notrunc status=none
	cp disk/base.img want.img
	dd if=/dev/urandom of=want.img bs=1K count=1 conv=notrunc status=none
	dd if=/dev/urandom of=want.img bs=1K seek=250 count=40 conv=notrunc status=none
	dd if=/dev/urandom of=want.img bs=1K seek=900 count=30 conv=notrunc status=none
	cp disk/base.img disk/other.img
	dd if=/dev/urandom of=disk/other.img bs=1K seek=100 count=200 conv=notrunc status=none
	touch -d '2020-02-02 02:02:02' disk/*
	power_on
	"$ubd_cow" convert --backing "$mnt/base.img" want.img "$mnt/a.cow"
	unplug
	cp -pr disk first
}

# same_view: a.cow shows what it showed
same_view() {
	rm -f view.img
	"$ubd_cow" merge "$mnt/a.cow" --into view.img
	cmp view.img want.img || fail 'a.cow shows something else'
}

# What somebody does before the command, and makes nothing of it durable.
unsynced=true

# power_fails_everywhere TIMES EXPECTATION WORD...: it fails before each call of
# the command that changes or syncs something, and after the last. Once all that
# was not durable is lost, and so many times some of it. The function says whether
# all is well.
power_fails_everywhere() {
	local times=$1
	local expectation=$2
	local n i failed intact
	local losses=0

	shift 2
	for n in $(seq 0 1000); do
		for i in $(seq 0 "$times"); do
			rm -f disk/*
			cp -p first/* disk
			power_on $((i == 0 ? 0 : RANDOM + 1))
			$unsynced
			tell_disk "off-after $n"
			failed=""
			intact=""
			"$ubd_cow" "$@" >said 2>&1 || failed=yes
			{ tell_disk off; } 2>/dev/null && intact=yes
			[ -z "$failed" ] || [ -z "$intact" ] || fail "it failed by itself: $(cat said)"
			unplug
			power_on
			"$expectation"
			unplug
			losses=$((losses + 1))
		done
		[ -z "$intact" ] || break
	done
	[ "$n" -gt 5 ] || fail "it makes only $n calls"
	echo "power failed $losses times, in ubd-cow $1: at each of $n calls" >>figures
}

merge_goes_on() {
	same_view
	"$ubd_cow" merge "$mnt/a.cow" >said
	cmp "$mnt/base.img" want.img || fail 'merged again it gives another file'
	"$ubd_cow" check "$mnt/a.cow" >said
	[ -n "$failed" ] || cmp disk/base.img want.img || fail 'what was merged was not durable'
}

limit[merge]=240
test_merge() {
	small_overlay
	power_fails_everywhere 4 merge_goes_on merge "$mnt/a.cow"
}

rebase_goes_on() {
	same_view
	[ -n "$failed" ] || "$ubd_cow" info "$mnt/a.cow" | grep -q "$mnt/other.img" || fail 'it has still the old backing file'
	"$ubd_cow" rebase "$mnt/a.cow" "$mnt/other.img"
	"$ubd_cow" check "$mnt/a.cow" >said
	rm "$mnt/base.img"
	same_view
}

limit[rebase]=240
test_rebase() {
	small_overlay
	power_fails_everywhere 4 rebase_goes_on rebase "$mnt/a.cow" "$mnt/other.img"
}

# It is there whole, or not at all.
whole_or_not() {
	[ -n "$failed" ] || [ -e "$mnt/new.cow" ] || fail 'what was made is not there'
	if [ -e "$mnt/new.cow" ]; then
		"$ubd_cow" check "$mnt/new.cow" >said
		rm -f view.img
		"$ubd_cow" merge "$mnt/new.cow" --into view.img
		cmp view.img "$new" || fail 'what was made is not whole'
	fi
}

limit[new_file]=240
test_new_file() {
	small_overlay
	new=$work/disk/base.img
	power_fails_everywhere 1 whole_or_not create "$mnt/new.cow" "$mnt/base.img"
	new=$work/want.img
	power_fails_everywhere 1 whole_or_not convert "$mnt/a.cow" "$mnt/new.cow"
}

# grown_view BYTES: a.cow has that size now, shows what it showed, and zeros behind
grown_view() {
	"$ubd_cow" check "$mnt/a.cow" >said
	rm -f view.img
	"$ubd_cow" merge "$mnt/a.cow" --into view.img
	expect_eq size "$(stat -c %s view.img)" "$1"
	cmp -n "$(stat -c %s want.img)" view.img want.img || fail 'a.cow shows something else'
}

zeros_behind() {
	cmp -i "$(stat -c %s want.img):0" -n "$1" view.img /dev/zero || fail 'what is new is not zero'
}

# The old size, or the new one; and then it can be had. All that may be wrong is that
# only the backing file has grown; and where it was said to be done, nothing.
resize_goes_on() {
	if [ -z "$failed" ]; then
		grown_view "$grown_bytes"
	elif ! "$ubd_cow" check "$mnt/a.cow" >said; then
		grep -q 'if it was grown.*: ubd-cow resize' said || fail "it is damaged: $(cat said)"
	fi
	"$ubd_cow" resize "$mnt/a.cow" "$grown_bytes" >said
	grown_view "$grown_bytes"
	zeros_behind $((grown_bytes - (1 << 20)))
}

# In place, and into another file. Then the same after somebody has grown the backing
# file, and has not seen to it that this is durable.
limit[resize]=300
test_resize() {
	small_overlay
	for grown_bytes in $((2 << 20)) $((20 << 20)); do
		power_fails_everywhere 4 resize_goes_on resize "$mnt/a.cow" "$grown_bytes"
	done
	unsynced=grow_base
	for grown_bytes in $((2 << 20)) $((20 << 20)); do
		power_fails_everywhere 2 resize_goes_on resize "$mnt/a.cow"
	done
}

grow_base() {
	truncate -s "$grown_bytes" "$mnt/base.img"
}

# grows_everywhere MIB TIMES: the same by the driver. What it is told to have been
# flushed after it grew is there, too, in whatever file.
grows_everywhere() {
	local bytes=$(($1 << 20))
	local n i failed

	for n in $(seq 0 1000); do
		for i in $(seq 0 "$2"); do
			rm -rf disk/* grown acked alive
			cp -p first/* disk
			power_on $((i == 0 ? 0 : RANDOM + 1))
			guest_start "r$n-$i" "ubd0=$mnt/a.cow" <<-EOF
				load commit_ms=0
				truncate -s $bytes $mnt/base.img
				echo 'off-after $n' >$mnt/.power
				if echo 1 >/sys/block/ubda/ubd/resize; then
					touch $work/grown
					if dd if=$work/landed of=/dev/ubda bs=64K seek=18 oflag=direct conv=notrunc,fsync; then
						touch $work/acked
					fi
				fi
				# Nothing is left that could fail: that was all.
				if echo off >$mnt/.power; then touch $work/alive; fi
				touch $work/up
				sleep 1000
			EOF
			guest_await "r$n-$i" up
			rm up
			kill -KILL "${guest_pid[r$n-$i]}"
			kill "$disk_pid"
			wait "${guest_pid[r$n-$i]}" 2>/dev/null || true
			check_complaints "r$n-$i"
			forget_guest "r$n-$i"
			unplug
			power_on
			expect_eq 'files, after '"$n calls" "$(find "$mnt" -name 'a.cow*' ! -name 'a.cow.new-*' | wc -l)" 1
			"$ubd_cow" resize "$mnt/a.cow" "$bytes" >said || fail "after $n calls: $(cat said)"
			grown_view "$bytes"
			if [ -e acked ]; then
				cmp -i $((18 << 16)):0 view.img landed -n $((1 << 16)) || fail "what was flushed after it grew is lost ($n calls)"
				ends[acked]=$((ends[acked] + 1))
			elif [ -e grown ]; then
				ends[grown]=$((ends[grown] + 1))
			else
				ends[old]=$((ends[old] + 1))
			fi
			unplug
			rm -f ./r*.log
		done
		[ ! -e alive ] || break
	done
	echo "power failed while a COW file grew to $1 MiB by the driver, at each of $n calls: not grown ${ends[old]}, grown ${ends[grown]}, and written to ${ends[acked]}" >>figures
	[ "${ends[old]}" -gt 2 ] && [ "${ends[acked]}" -gt 1 ] || fail "$(cat figures)"
}

property[grows]=full
limit[grows]=900
test_grows() {
	local -A ends=([old]=0 [grown]=0 [acked]=0)

	small_overlay
	noise landed 1
	truncate -s 64K landed
	grows_everywhere 2 2
	ends=([old]=0 [grown]=0 [acked]=0)
	grows_everywhere 20 2
}

# Its data are copied, and not yet durable, when the COW file gets another name and
# something else its own: it stays what it is, and grows the next time.
test_renamed() {
	local until=$((SECONDS + patience))

	small_overlay
	noise landed 1
	truncate -s 4K landed
	power_on 0 1500
	guest_start one "ubd0=$mnt/a.cow" <<-EOF
		load commit_ms=0
		truncate -s 20M $mnt/base.img
		refused eval 'echo 1 >/sys/block/ubda/ubd/resize'
		same size "\$(blockdev --getsize64 /dev/ubda)" $((1 << 20))
		same names "\$(cd $mnt && echo a.cow* b.cow*)" 'a.cow b.cow'
		dd if=$work/landed of=/dev/ubda bs=1K seek=700 oflag=direct conv=notrunc,fsync status=none
		echo 1 >/sys/block/ubda/ubd/resize
		same size "\$(blockdev --getsize64 /dev/ubda)" $((20 << 20))
		unload
	EOF
	until compgen -G "$mnt/a.cow.new-*" >new; do
		[ "$SECONDS" -lt "$until" ] || fail 'there is no new file'
		sleep 0.01
	done
	mv "$mnt/a.cow" "$mnt/b.cow"
	echo "somebody else's" >"$mnt/a.cow"
	guest_wait one
	expect_eq 'status of guest one' "$status" 0
	expect_once one "ubda: $mnt/a.cow: its data have to move .*, but it was renamed meanwhile"
	expect_eq 'the other file' "$(<"$mnt/a.cow")" "somebody else's"
	"$ubd_cow" check "$mnt/b.cow"
	"$ubd_cow" merge "$mnt/b.cow" --into view.img
	dd if=landed of=want.img bs=1K seek=700 conv=notrunc status=none
	truncate -s 20M want.img
	cmp view.img want.img || fail 'b.cow shows something else'
	unplug
}

bitmap_at=8192

# bits: the bitmap of a.cow, as it is to be seen
bits() {
	dd if="$mnt/a.cow" bs=4096 skip=$((bitmap_at / 4096)) count=4 status=none | sha256sum
}

# now: tenths of seconds
now() {
	local t=${EPOCHREALTIME/[.,]/}

	echo $((t / 100000))
}

# hung_guest SCRIPT: writes and flushes 100 records, then what is never flushed: 64
# KiB in another block of the bitmap; then it does as the script says. No bits are
# committed but by a flush.
hung_guest() {
	make_disk
	truncate -s 64M disk/base.img
	dd if=/dev/urandom of=disk/base.img bs=1M seek=8 count=24 conv=notrunc status=none
	dd if=/dev/urandom of=landed bs=64K count=1 status=none
	power_on
	guest_start one "ubd0=$mnt/a.cow,$mnt/base.img" <<-EOF
		load commit_ms=0
		"\$tool" records write /dev/ubda $work/ack 100
		dd if=$work/landed of=/dev/ubda bs=64K seek=256 oflag=direct conv=notrunc status=none
		$1
		touch $work/up
		sleep 1000
	EOF
	guest_await one up
	flushed_bits=$(bits)
}

kill_hung_guest() {
	kill -KILL "${guest_pid[one]}"
	killed_at=$(now)
}

# until_unlocked SECONDS: sets $took, in tenths
until_unlocked() {
	"$tool" lock-wait "$mnt/a.cow" "$1" || fail "a.cow is still locked $1 s after the guest was killed"
	took=$(($(now) - killed_at))
}

# next_guest landed|base: what is there where the first one wrote what it did not
# flush
next_guest() {
	guest "next-$1" "ubd0=$mnt/a.cow" <<-EOF
		load
		"\$tool" records verify /dev/ubda 100
		dd if=/dev/ubda of=$work/seen bs=64K skip=256 count=1 status=none
		cmp -i 33M /dev/ubda $mnt/base.img
		unload
	EOF
	[ "$1" = landed ] || dd if=disk/base.img of=landed bs=64K skip=256 count=1 status=none
	cmp seen landed || fail "the next guest does not see what is $1"
}

# The guest is killed, and the fdatasync of its relay hangs: after three seconds
# the file is given free, without new bits; and none is written any more when the
# disk goes on, since somebody else may have the file by then. (No other guest can
# show it sooner: Linux locks a file of FUSE's while an fsync of it hangs.)
test_commit_hangs() {
	hung_guest ''
	tell_disk hold
	kill_hung_guest
	guest_wait one
	until_unlocked 20
	[ "$took" -ge 25 ] || fail "it was given free after $took tenths of a second, and what had landed is not committed"
	[ "$took" -le 60 ] || fail "it was given free only after $took tenths of a second"
	expect_eq 'fdatasyncs that hang' "$(disk_has held)" 1
	expect_eq 'bitmap' "$(bits)" "$flushed_bits"
	[ "$(relays | wc -l)" = 1 ] || fail "there is not just the one that hangs: $(relays)"
	tell_disk release
	expect_no_trace
	expect_eq 'bitmap after the disk went on' "$(bits)" "$flushed_bits"
	next_guest base
	unplug
	echo "the relay's fdatasync hangs: unlocked after $((took / 10)).$((took % 10)) s" >figures
}

# The disk goes on in time.
test_commit_is_slow() {
	hung_guest ''
	tell_disk hold
	kill_hung_guest
	guest_wait one
	sleep 0.5
	"$tool" lock-wait "$mnt/a.cow" 0 && fail 'it is not locked, but not committed'
	expect_eq 'bitmap' "$(bits)" "$flushed_bits"
	tell_disk release
	until_unlocked 2
	expect_no_trace
	[ "$(bits)" != "$flushed_bits" ] || fail 'nothing was committed'
	next_guest landed
	unplug
}

# The guest itself is in an fdatasync that hangs. What a process has asked the host
# for is there after it was killed: until it ends, the process has not, and nobody
# else gets the file. Then all that landed is committed.
test_flush_hangs() {
	hung_guest '
		echo hold >'"$work/mnt/.power"'
		sync /dev/ubda &'
	until [ "$(disk_has held)" = 1 ]; do
		sleep 0.05
	done
	kill_hung_guest
	sleep 4
	"$tool" lock-wait "$mnt/a.cow" 0 && fail 'somebody else gets the file'
	expect_eq 'bitmap' "$(bits)" "$flushed_bits"
	tell_disk release
	guest_wait one
	until_unlocked 2
	expect_no_trace
	next_guest landed
	unplug
}

run_tests "$@"
