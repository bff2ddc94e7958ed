#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What becomes of a COW file of the kernel's own driver when something goes wrong,
# for the table in Documentation/cow-format.md. It fails nothing: what is found is
# shown. Where ours is run beside it, ours has to be right.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# io_thread NAME: the process of the guest in which the kernel's own driver makes its
# host calls: the one child, or with UML 7.x thread, that waits in poll, and which UML
# does not trace
io_thread() {
	local pid=${guest_pid[$1]}

	for pid in $(pgrep -P "$pid") $(ls "/proc/$pid/task" | grep -vx "$pid"); do
		if grep -q '^7 ' "/proc/$pid/syscall" && grep -q '^TracerPid:.0$' "/proc/$pid/status"; then
			echo "$pid"
		fi
	done
}

# traced NAME: from now on its calls that write or sync go to the file NAME.calls
traced() {
	local pid

	pid=$(io_thread "$1")
	[ -n "$pid" ] || fail "guest $1 has no I/O thread"
	strace -qq -xx -s 70000 -e trace=pwrite64,fsync,fdatasync,sync_file_range -o "$1.calls" -p "$pid" 2>"$1.strace" &
	at_end "kill $! 2>/dev/null"
	until grep -q '^TracerPid:.[1-9]' "/proc/$pid/status"; do
		kill -0 $! 2>/dev/null || skip "nothing may be traced here (strace): $(cat "$1.strace")"
		sleep 0.05
	done
}

# Killed: what was flushed is in the host's page cache.
property[killed]=alone
test_killed() {
	local round lost=0

	image base.img 16M >/dev/null
	use_compare
	for round in 1 2 3 4 5; do
		echo "round $round"
		rm -f ack
		guest_start one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
			"$tool" records write /dev/ubda $work/ack
		EOF
		guest_await one ack
		sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
		kill -KILL "${guest_pid[one]}"
		wait "${guest_pid[one]}" 2>/dev/null || true
		forget_guest one
		expect_unlocked "$work/a.cow"
		"$ubd_cow" merge a.cow --into seen.img
		"$tool" records verify seen.img "$(cat ack)" || lost=$((lost + 1))
		rm -f seen.img a.cow
	done
	echo "the kernel's own driver, killed: $lost of 5 guests lost what was flushed" >figures
}

# The host's power fails: any of what was written since its last sync may be there.
test_power_loss() {
	image base.img 16M >/dev/null
	noise base.img 16
	use_compare
	guest_start one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		touch $work/up
		until_file $work/go
		"$tool" records write /dev/ubda $work/ack 300
	EOF
	guest_await one up
	traced one
	cp a.cow before.cow
	touch go
	guest_wait one
	expect_eq status "$status" 0
	python3 - <<-'EOF' >figures
		import random, re
		writes, syncs = [], 0
		for line in open("one.calls"):
		    m = re.match(r'pwrite64\(\d+, "((?:\\x..)*)", (\d+), (\d+)\)', line)
		    if not m:
		        assert re.match(r'(fsync|fdatasync|sync_file_range)\(|\+\+\+|---', line), line[:200]
		        syncs += line[0] in "fs"
		        continue
		    data = bytes.fromhex(m.group(1).replace("\\x", ""))
		    assert len(data) == int(m.group(2))
		    writes.append((int(m.group(3)), data))
		bitmap, start = 8192, 12288
		bits = sum(at < start for at, _ in writes)
		print(f"the kernel's own driver: 300 flushes, {len(writes) - bits} writes of data, {bits} of the bitmap, {syncs} syncs")
		base, before, after = (open(f, "rb").read() for f in ("base.img", "before.cow", "a.cow"))
		touched = {(at - start) // 512 + i for at, d in writes if at >= start for i in range(len(d) // 512)}
		assert len(touched) == 4800, len(touched)
		r = random.Random(1)
		states, old, neither = 100, 0, 0
		for _ in range(states):
		    image = bytearray(before)
		    for at, data in writes:
		        if r.random() < 0.5:
		            image[at:at + len(data)] = data
		    for s in touched:
		        want = after[start + s * 512:start + s * 512 + 512]
		        if image[bitmap + s // 8] >> s % 8 & 1:
		            neither += bytes(image[start + s * 512:start + s * 512 + 512]) != want
		        else:
		            assert base[s * 512:s * 512 + 512] != want
		            old += 1
		print(f"half of what was not synced there after a loss of power ({states} times): of 4800 flushed sectors "
		      f"{old / states:.0f} have their old content, {neither / states:.0f} neither old nor new")
	EOF
	grep -q ' 0 syncs' figures || echo 'it syncs: correct the table in Documentation/cow-format.md' >>figures
}

# seen_sectors SEEN: of each 512 bytes, whether they are new, old, or neither
seen_sectors() {
	python3 - "$1" <<-'EOF'
		import sys
		seen, old, new = (open(f, "rb").read() for f in (sys.argv[1], "base.img", "new.img"))
		n = {"new": 0, "old": 0, "neither": 0}
		for at in range(0, len(old), 512):
		    s = seen[at:at + 512]
		    n["new" if s == new[at:at + 512] else "old" if s == old[at:at + 512] else "neither"] += 1
		print(f'{n["new"]} sectors new, {n["old"]} old, {n["neither"]} neither')
	EOF
}

# The host's disk is full when sectors are written for the first time.
# shellcheck disable=SC2016 # it is the guest's
full_of_data='
failed=0
for i in $(seq 0 127); do
	dd if=$work/new.img of=/dev/ubda bs=64k skip=$i seek=$i count=1 conv=notrunc oflag=direct status=none || failed=$((failed + 1))
done
blockdev --flushbufs /dev/ubda
dd if=/dev/ubda of=$work/seen bs=1M status=none
echo $failed >$work/failed
'

test_host_full_data() {
	image base.img 8M >/dev/null
	noise base.img 8
	image new.img 8M >/dev/null
	noise new.img 8
	small_host 3M </dev/null
	guest one "ubd0=$work/small/a.cow,$work/base.img" <<-EOF
		load
		$full_of_data
		unload
	EOF
	echo "ours: $(cat failed) of 128 writes refused; $(seen_sectors seen)" >figures
	grep -q ' 0 neither$' figures || fail "$(cat figures)"
	use_compare
	guest two "ubd0=$work/small/a.cow,$work/base.img" <<-EOF
		$full_of_data
	EOF
	echo "the kernel's own driver: $(cat failed) of 128 writes refused; $(seen_sectors seen)" >>figures
}

# The same, but only the bitmap has no space.
test_host_full_bitmap() {
	image base.img 8M >/dev/null
	noise base.img 8
	image new.img 8M >/dev/null
	noise new.img 8
	small_host 9M <<-EOF
		"$ubd_cow" create $work/small/a.cow $work/base.img
		fallocate -o 12288 -l 8M $work/small/a.cow
		dd if=/dev/zero of=$work/small/filler bs=4k status=none 2>/dev/null || true
	EOF
	guest one "ubd0=$work/small/a.cow" <<-'EOF'
		load commit_ms=0
		refused dd if=$work/new.img of=/dev/ubda bs=64k count=64 oflag=direct status=none
		sync /dev/ubda
		cp --sparse=always $work/small/a.cow $work/full.cow
		rm $work/small/filler
		dd if=$work/new.img of=/dev/ubda bs=64k count=64 oflag=direct status=none
		sync /dev/ubda
		cp --sparse=always $work/small/a.cow $work/room.cow
		unload
	EOF
	"$ubd_cow" merge full.cow --into full.img
	"$ubd_cow" merge room.cow --into room.img
	echo "ours: writes refused, and then: $(seen_sectors full.img); with room, flushed: $(seen_sectors room.img)" >figures
	expect_eq 'ours, full' "$(seen_sectors full.img)" '0 sectors new, 16384 old, 0 neither'
	expect_eq 'ours, with room' "$(seen_sectors room.img)" '8192 sectors new, 8192 old, 0 neither'
	rm full.* room.*
	use_compare
	guest two "ubd0=$work/small/a.cow" <<-'EOF'
		write() {
			failed=0
			for i in $(seq 0 63); do
				dd if=$work/new.img of=/dev/ubda bs=64k skip=$i seek=$i count=1 conv=notrunc oflag=direct status=none ||
					failed=$((failed + 1))
			done
			sync /dev/ubda
			echo "$failed"
		}
		write >$work/failed
		cp --sparse=always $work/small/a.cow $work/full.cow
		rm $work/small/filler
		write >$work/failed_with_room
		cp --sparse=always $work/small/a.cow $work/room.cow
	EOF
	"$ubd_cow" merge full.cow --into full.img
	"$ubd_cow" merge room.cow --into room.img
	echo "the kernel's own driver: $(cat failed) of 64 writes refused, and then: $(seen_sectors full.img);" \
		"with room, $(cat failed_with_room) of 64 refused, all flushed: $(seen_sectors room.img)" >>figures
}

# outcome NAME WORD...: what the kernel's own driver makes of that: refused, or what
# is to be seen; in the file figures
outcome() {
	local name=$1
	local said

	shift
	expected_complaint=.
	guest_start one "$@" <<-'EOF'
		rm -f $work/seen
		[ ! -b /dev/ubda ] || dd if=/dev/ubda of=$work/seen bs=1M 2>$work/dd.err || true
		touch $work/ended
	EOF
	rm -f ended seen
	guest_wait one
	said=$(grep -aoE -m1 '(mtime mismatch|Size mismatch|Failed to lock|Unknown COW version|Backing file mismatch|Segfault|Kernel panic)[^"]*' one.log || true)
	if [ ! -e ended ]; then
		echo "$name: the kernel dies ($said)"
	elif [ ! -e seen ]; then
		echo "$name: refused (${said:-$(grep -aE 'ubd.*errno|Failed to initialize ubd' one.log | tail -n 1)})"
	elif cmp -s seen want.img; then
		echo "$name: taken, and reads right"
	elif cmp -s -n 4096 seen a.cow; then
		echo "$name: taken as plain data: a guest sees the header as its first sectors ($(stat -c %s seen) bytes)"
	else
		echo "$name: taken, and reads wrong: $(stat -c %s seen) bytes$(cmp -s -n "$(stat -c %s seen)" seen /dev/zero && echo ', zeros'), $({ cmp -l seen want.img 2>/dev/null || true; } | awk '{ n[int(($1 - 1) / 512)] } END { for (s in n) c++; print c + 0 }') sectors differ"
	fi | sed "s/^/the kernel's own driver: /" >>figures
}

limit[refusals]=240
test_refusals() {
	image base.img 4M >/dev/null
	noise base.img 4
	touch -d '2020-02-02' base.img
	made_cow good.cow 3 want.img 1 8
	use_compare
	fresh() { cp --sparse=always good.cow a.cow; }
	fresh && outcome 'nothing wrong' "ubd0=$work/a.cow"
	touch base.img
	fresh && outcome 'backing file of another mtime' "ubd0=$work/a.cow"
	fresh && outcome 'the same, named on the command line' "ubd0=$work/a.cow,$work/base.img"
	touch -d '2020-02-02' base.img
	cp -p base.img larger.img
	truncate -s 5M larger.img
	touch -r base.img larger.img
	fresh && bytes_at a.cow "$name_at" "$work/larger.img\\0" && outcome 'backing file of another size' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow "$name_at" "$work/a.cow\\0" && outcome 'names itself' "ubd0=$work/a.cow"
	fresh && truncate -s 1000 a.cow && outcome 'cut within the header' "ubd0=$work/a.cow"
	fresh && truncate -s 8192 a.cow && outcome 'cut before the bitmap' "ubd0=$work/a.cow"
	fresh && truncate -s 8500 a.cow && outcome 'cut within the bitmap' "ubd0=$work/a.cow"
	fresh && truncate -s 2M a.cow && outcome 'cut within the data' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow 0 '\0' && outcome 'first byte lost' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow 7 '\x09' && outcome 'version 9' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow "$size_at" '\xff\xff\xff\xff\xff\xff\xff\xff' && outcome 'size -1' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow 24 '\0\0\0\0' && outcome 'alignment 0' "ubd0=$work/a.cow"
	fresh && bytes_at a.cow "$name_at" x && outcome 'name of the backing file damaged' "ubd0=$work/a.cow"
	fresh
	held a.cow 'locked by another process'
	held base.img 'backing file locked by another process, which may write to it'
}

# held FILE WHAT: the outcome while somebody has the file
held() {
	local holder

	rm -f held
	"$tool" lock-hold "$1" held &
	holder=$!
	at_end "kill $holder 2>/dev/null"
	until [ -e held ]; do sleep 0.05; done
	outcome "$2" "ubd0=$work/a.cow"
	kill "$holder"
}

run_tests "$@"
