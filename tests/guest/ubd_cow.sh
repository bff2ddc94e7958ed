#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ubd-cow: made, looked at, merged, rebased and converted COW files, beside
# uml_mkcow and uml_moo, and killed at each call that writes. Needs no guest.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# data FILE OFFSET_KIB KIB: what does not repeat
data() {
	dd if=/dev/urandom of="$1" bs=1K seek="$2" count="$3" conv=notrunc status=none
}

# sound FILE: check finds nothing
sound() {
	"$ubd_cow" check "$1" || fail "check of $1 ended with status $?"
}

# ends_with STATUS WORD...: what the tool says goes to the file said
ends_with() {
	local wanted=$1
	local got=0

	shift
	"$ubd_cow" "$@" >said 2>&1 || got=$?
	cat said
	expect_eq "status of ubd-cow $*" "$got" "$wanted"
}

# says PATTERN: in what was said last
says() {
	grep -qE -- "$1" said || fail "this is not said: $1"
}

# json FILE EXPRESSION: of what was printed, as d
json() {
	python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

# overlay [MIB]: base.img with data and holes; a.cow over it, which has some of
# its own, at the first and the last sector, over data and over holes, zeros and
# a hole too; want.img is what a guest sees.
overlay() {
	local mib=${1:-16}

	image base.img "${mib}M" >/dev/null
	data base.img 1024 3072
	data base.img $((mib * 1024 - 2048)) 2048
	cp base.img want.img
	data want.img 0 1
	data want.img 2047 514
	data want.img 5000 300
	truncate -s 17K zeros
	dd if=zeros of=want.img bs=1K seek=3000 conv=notrunc status=none
	data want.img $((mib * 1024 - 1)) 1
	"$ubd_cow" convert --backing base.img want.img a.cow
	# Sectors that it has, and whose data is a hole.
	fallocate -p -o $((12288 + 2100 * 1024)) -l 64K a.cow
	fallocate -p -o $((2100 * 1024)) -l 64K want.img
	touch -d '2020-02-02 02:02:02' base.img
	"$ubd_cow" rebase --trust a.cow
}

# same_view COW [IMAGE]: what a guest would see of it is the image's content
same_view() {
	rm -f view.img
	"$ubd_cow" merge "$1" --into view.img
	cmp view.img "${2:-want.img}" || fail "$1 does not show the content of ${2:-want.img}"
}

# map_is_true COW MODEL: all of the device, in order, and each file has there what
# a guest sees
map_is_true() {
	"$ubd_cow" map --json "$1" >map.json
	python3 - "$2" <<-'EOF'
		import json, sys
		want = open(sys.argv[1], "rb").read()
		at = 0
		last = None
		for r in json.load(open("map.json")):
		    assert r["offset"] == at and r["bytes"] > 0 and r["cow"] != last, r
		    with open(r["file"], "rb") as f:
		        f.seek(r["file_offset"])
		        assert f.read(r["bytes"]) == want[at:at + r["bytes"]], r
		    at += r["bytes"]
		    last = r["cow"]
		assert at == len(want), at
	EOF
}

# diff_is_true COW MODEL BASE: all that differs is listed, in pieces of 4 KiB that
# differ
diff_is_true() {
	"$ubd_cow" diff --json "$1" >diff.json
	python3 - "$2" "$3" <<-'EOF'
		import json, sys
		want, base = (open(f, "rb").read() for f in sys.argv[1:])
		at = 0
		for r in json.load(open("diff.json")):
		    assert r["offset"] >= at, r
		    assert want[at:r["offset"]] == base[at:r["offset"]], (at, r)
		    at = r["offset"] + r["bytes"]
		    for piece in range(r["offset"] & -4096, at, 4096):
		        assert want[piece:piece + 4096] != base[piece:piece + 4096], piece
		assert want[at:] == base[at:], at
		assert at
	EOF
}

# Byte by byte what uml_mkcow makes, whatever the size.
test_create() {
	local size

	for size in 512 1024 4608 1M 1049088 268435456 10737418752; do
		rm -f ./*.cow base.img
		image base.img "$size" >/dev/null
		touch -d '2021-03-04 05:06:07' base.img
		uml_mkcow theirs.cow base.img
		"$ubd_cow" create ours.cow base.img
		# Header and bitmap, and as much of nothing behind them.
		cmp -n 16777216 ours.cow theirs.cow || fail "a COW file for $size bytes differs from that of uml_mkcow"
		expect_eq 'size of the file' "$(stat -c %s ours.cow)" "$(stat -c %s theirs.cow)"
		sound ours.cow
		sound theirs.cow
	done
	ends_with 1 create ours.cow base.img
	says 'ours.cow: is there already; remove it'
	ends_with 1 create other.cow ours.cow
	says 'ours.cow: is a COW file itself'
	ends_with 1 create other.cow missing.img
	says 'missing.img: cannot find the file: No such file or directory'
	truncate -s 1000 odd.img
	ends_with 1 create other.cow odd.img
	says 'no multiple of 512'
	[ ! -e other.cow ] || fail "a file is left of what failed"
	ends_with 2 create other.cow
	ends_with 2 create
}

# The largest there is, at once, with little on the host.
test_largest() {
	local dir

	dir=$(mktemp -d /dev/shm/ubd-cow.XXXXXX)
	at_end "rm -rf $dir"
	truncate -s 64T "$dir/base.img" || skip "no file of 64 TiB can be made in /dev/shm"
	(
		ulimit -v 1000000
		"$ubd_cow" create "$dir/a.cow" "$dir/base.img"
		"$ubd_cow" info --json "$dir/a.cow" >info.json
		sound "$dir/a.cow"
		"$ubd_cow" map --json "$dir/a.cow" >map.json
		"$ubd_cow" diff --json "$dir/a.cow" >diff.json
		"$ubd_cow" merge "$dir/a.cow"
		"$ubd_cow" merge "$dir/a.cow" --into "$dir/new.img"
		cp --sparse=always /dev/null "$dir/other.img"
		truncate -s 64T "$dir/other.img"
		"$ubd_cow" rebase "$dir/a.cow" "$dir/other.img"
		sound "$dir/a.cow"
	)
	expect_eq size "$(json info.json 'd["bytes"]')" $((64 << 40))
	expect_eq 'bitmap' "$(json info.json 'd["bitmap_bytes"]')" $((16 << 30))
	expect_eq map "$(json map.json 'len(d), d[0]["bytes"], d[0]["cow"]')" "(1, $((64 << 40)), False)"
	expect_eq diff "$(json diff.json d)" '[]'
	[ "$(allocated "$dir/a.cow")" -lt 100 ] || fail "the COW file takes $(allocated "$dir/a.cow") KiB"
	[ "$(allocated "$dir/new.img")" -lt 100 ] || fail "the new file takes $(allocated "$dir/new.img") KiB"
	truncate -s $(((64 << 40) + 512)) "$dir/base.img"
	ends_with 1 create "$dir/b.cow" "$dir/base.img"
	says 'more than 64 TiB'
}

test_info_map_diff() {
	overlay
	ends_with 0 info a.cow
	says "^backing file +$work/base.img$"
	says '^size of the device +16777216 '
	says '2020-02-02 02:02:02 UTC$'
	"$ubd_cow" info --json a.cow >info.json
	expect_eq version "$(json info.json 'd["version"]')" 3
	map_is_true a.cow want.img
	expect_eq 'bytes of the COW file' "$(json map.json 'sum(r["bytes"] for r in d if r["cow"])')" "$(json info.json 'd["cow_bytes"]')"
	[ "$(json info.json 'd["cow_bytes"]')" -gt 0 ] || fail 'it has nothing'
	# A sector that the COW file has, and which is as in the backing file, is
	# in the map but does not differ.
	dd if=base.img of=a.cow bs=1K skip=5000 seek=$((12 + 5000)) count=300 conv=notrunc status=none
	dd if=base.img of=want.img bs=1K skip=5000 seek=5000 count=300 conv=notrunc status=none
	"$ubd_cow" diff --json a.cow >diff.json
	python3 - <<-'EOF'
		import json
		want, base = open("want.img", "rb").read(), open("base.img", "rb").read()
		wanted = []
		for at in range(0, len(want), 4096):
		    if want[at:at + 4096] != base[at:at + 4096]:
		        if wanted and wanted[-1][1] == at:
		            wanted[-1][1] += 4096
		        else:
		            wanted.append([at, at + 4096])
		got = [[r["offset"], r["offset"] + r["bytes"]] for r in json.load(open("diff.json"))]
		assert got == wanted and len(got) > 2, (got, wanted)
	EOF
}

# More than one window of the bitmap (4 GiB of the device): runs within, across
# and behind holes of it.
test_windows() {
	local at

	image base.img 20G >/dev/null
	cp base.img want.img
	for at in 0 $((12 * 1024 * 1024 - 64)) $((17 * 1024 * 1024 + 4)) $((20 * 1024 * 1024 - 128)); do
		data want.img "$at" 128
	done
	"$ubd_cow" convert --backing base.img want.img a.cow
	sound a.cow
	"$ubd_cow" map --json a.cow >map.json
	expect_eq 'ranges of the COW file' \
		"$(json map.json '[(r["offset"] >> 10, r["bytes"] >> 10) for r in d if r["cow"]]')" \
		"[(0, 128), ($((12 * 1024 * 1024 - 64)), 128), ($((17 * 1024 * 1024 + 4)), 128), ($((20 * 1024 * 1024 - 128)), 128)]"
	expect_eq 'end of the last range' "$(json map.json 'd[-1]["offset"] + d[-1]["bytes"]')" $((20 << 30))
	cp base.img other.img
	data other.img $((16 * 1024 * 1024 - 8)) 16
	"$ubd_cow" rebase a.cow other.img
	"$ubd_cow" merge a.cow --into view.img
	# By the places that have data, since 20 GiB of zeros take their time.
	"$ubd_cow" convert --backing want.img view.img difference.cow
	"$ubd_cow" map --json difference.cow >map.json
	expect_eq 'ranges that differ' "$(json map.json '[r for r in d if r["cow"]]')" '[]'
	for at in 0 $((12 * 1024 * 1024 - 64)) $((17 * 1024 * 1024 + 4)) $((20 * 1024 * 1024 - 128)); do
		cmp -n 131072 -i $((at * 1024)) view.img want.img || fail "at $at KiB it shows something else"
	done
	[ "$(allocated a.cow)" -lt 2000 ] || fail "the COW file takes $(allocated a.cow) KiB"
}

# The same result as uml_moo's, into a new file and in place; the COW file shows
# the same as before.
test_merge() {
	overlay
	cp -p base.img old.img
	uml_moo a.cow theirs.img
	"$ubd_cow" merge a.cow --into ours.img
	cmp ours.img theirs.img || fail "merged into a new file it differs from uml_moo's"
	cmp ours.img want.img || fail "merged into a new file it is not what was to be seen"
	cmp base.img old.img || fail "a merge into another file changed the backing file"
	[ "$(allocated ours.img)" -lt 8000 ] || fail "the new file takes $(allocated ours.img) KiB"
	ends_with 1 merge a.cow --into ours.img
	says 'ours.img: is there already'
	"$ubd_cow" merge a.cow
	cmp base.img want.img || fail "merged in place it is not what was to be seen"
	[ "$(allocated base.img)" -lt 8000 ] || fail "the backing file takes $(allocated base.img) KiB"
	sound a.cow
	same_view a.cow
	"$ubd_cow" diff --json a.cow >diff.json
	expect_eq diff "$(json diff.json d)" '[]'
	# Another over the same backing file is told.
	uml_mkcow b.cow old.img
	touch -d '2022-02-02' old.img
	ends_with 1 merge b.cow
	says 'b.cow: its backing file .*/old.img was changed at 2022-02-02 .*rebase --trust'
}

# What a COW file shows stays, over a backing file that is another everywhere.
test_rebase() {
	overlay
	cp base.img new.img
	data new.img 1500 600
	data new.img 9000 100
	fallocate -p -o 3M -l 512K new.img
	touch -d '2023-03-03' new.img
	"$ubd_cow" rebase a.cow new.img
	"$ubd_cow" info --json a.cow >info.json
	expect_eq 'backing file' "$(json info.json 'd["backing"]')" "$work/new.img"
	sound a.cow
	rm base.img
	same_view a.cow
	# What did not differ was not copied: 1212 KiB in pieces of 4 KiB at most.
	[ "$(json info.json 'd["cow_bytes"]')" -lt $(((832 + 600 + 100 + 512 + 50) * 1024)) ] ||
		fail "too much was copied: $(json info.json 'd["cow_bytes"]') bytes"
	truncate -s 15M small.img
	ends_with 1 rebase a.cow small.img
	says 'small.img: has 15728640 bytes, but a.cow is for a backing file of 16777216'
	ends_with 1 rebase a.cow a.cow
	says 'a.cow: names itself'
	ends_with 2 rebase a.cow
	# Moved, and copied without its time.
	cp new.img moved.img
	rm new.img
	ends_with 1 rebase a.cow moved.img
	says 'new.img: the backing file of a.cow cannot be found'
	"$ubd_cow" rebase --trust a.cow moved.img
	same_view a.cow
	touch -d '2024-04-04' moved.img
	ends_with 1 diff a.cow
	says 'moved.img was changed at '
	"$ubd_cow" rebase --trust a.cow
	sound a.cow
	same_view a.cow
}

test_convert() {
	overlay
	"$ubd_cow" convert a.cow raw.img
	cmp raw.img want.img || fail "the raw file is not what was to be seen"
	"$ubd_cow" convert a.cow a.qcow2
	qemu-img check -q a.qcow2
	qemu-img compare -f raw -F qcow2 want.img a.qcow2
	"$ubd_cow" convert a.qcow2 back.img
	cmp back.img want.img || fail "raw of qcow2 of COW is another"
	"$ubd_cow" convert a.qcow2 back.cow --backing base.img
	sound back.cow
	same_view back.cow
	"$ubd_cow" convert a.cow again.cow
	same_view again.cow
	[ "$(allocated again.cow)" -lt 2000 ] || fail "the COW file takes $(allocated again.cow) KiB"
	[ "$(allocated raw.img)" -lt 8000 ] || fail "the raw file takes $(allocated raw.img) KiB"
	ends_with 1 convert want.img new.cow
	says '--backing'
	# A guest wrote what makes of the plain image something else.
	cp want.img evil.img
	dd if=a.cow of=evil.img bs=512 count=1 conv=notrunc status=none
	"$ubd_cow" convert --source-format raw --backing base.img evil.img header.cow
	"$ubd_cow" convert header.cow trap.img 2>said
	says 'trap.img: its content begins as a COW file; .* flag d'
	expect_eq 'what it begins with' "$(head -c 4 trap.img)" OOOM
	"$ubd_cow" merge header.cow --into trap2.img 2>said
	says 'trap2.img: its content begins as a COW file'
	"$ubd_cow" convert a.cow quiet.img 2>said
	expect_eq 'what it says of others' "$(cat said)" ''
	# Names that qemu-img would take for something else.
	cp want.img 'nbd:x,y=z'
	"$ubd_cow" convert --format qcow2 'nbd:x,y=z' 'json:{}'
	"$ubd_cow" convert --format raw 'json:{}' './-p'
	cmp ./-p want.img
	# A file from a stranger reads no other file of the host.
	qemu-img create -q -f qcow2 -F raw -b "$work/want.img" thief.qcow2
	ends_with 1 convert thief.qcow2 stolen.img
	says 'names another file'
	"$ubd_cow" convert --follow-names thief.qcow2 stolen.img
	cmp stolen.img want.img
	ends_with 1 convert --source-format qcow2 want.img none.img
	[ ! -e none.img ] || fail "a file is left of what failed"
}

# Each command on each version of the format, made byte by byte; what uml_moo sees
# is the same, before and after. What is changed stays in its version.
test_versions() {
	local v version

	for v in 1 2 3 padded; do
		version=${v/padded/3, padded}
		rm -f ./*
		image base.img 3M >/dev/null
		data base.img 0 3072
		touch -d '2020-02-02 02:02:02' base.img
		made_cow a.cow $v want.img 7
		cp a.cow before.cow
		sound a.cow
		uml_moo a.cow theirs.img >/dev/null
		cmp theirs.img want.img || fail "uml_moo sees something else in version $v"
		"$ubd_cow" info --json a.cow >info.json
		expect_eq "version of $v" "$(json info.json 'd["version"]')" "$version"
		expect_eq "size of $v" "$(json info.json 'd["bytes"]')" $((3 << 20))
		expect_eq "backing file of $v" "$(json info.json 'd["backing"]')" "$work/base.img"
		map_is_true a.cow want.img
		diff_is_true a.cow want.img base.img
		same_view a.cow
		"$ubd_cow" convert a.cow raw.img
		cmp raw.img want.img || fail "version $v, made raw, is something else"
		"$ubd_cow" convert a.cow a.qcow2
		qemu-img compare -q -f raw -F qcow2 want.img a.qcow2
		"$ubd_cow" convert a.cow new.cow
		"$ubd_cow" info --json new.cow >info.json
		expect_eq "version of what is made of $v" "$(json info.json 'd["version"]')" 3
		same_view new.cow
		cmp a.cow before.cow || fail "version $v was changed by what only reads"

		# Another backing file, which differs everywhere; then that one moved.
		cp -p base.img first.img
		cp base.img other.img
		data other.img 700 1000
		touch -d '2021-02-02' other.img
		"$ubd_cow" rebase a.cow other.img
		rm base.img
		"$ubd_cow" info --json a.cow >info.json
		expect_eq "version of $v, rebased" "$(json info.json 'd["version"]')" "$version"
		expect_eq "backing file of $v" "$(json info.json 'd["backing"]')" "$work/other.img"
		sound a.cow
		same_view a.cow
		uml_moo a.cow theirs.img >/dev/null
		cmp theirs.img want.img || fail "uml_moo sees something else in version $v, rebased"
		mv other.img moved.img
		touch moved.img
		"$ubd_cow" rebase --trust a.cow moved.img
		sound a.cow
		same_view a.cow

		"$ubd_cow" merge a.cow
		cmp moved.img want.img || fail "version $v, merged, is something else"
		sound a.cow
		same_view a.cow
		uml_moo a.cow theirs.img >/dev/null
		cmp theirs.img want.img || fail "uml_moo sees something else in version $v, merged"

		# Killed in the middle of it: each version has its place for the mark.
		cp -p first.img base.img
		cp before.cow a.cow
		strace -qq -o /dev/null -e trace=fsync -e inject=fsync:signal=KILL:when=1 \
			"$ubd_cow" merge a.cow >said 2>&1 || true
		ends_with 3 check a.cow
		says 'a merge into its backing file was begun and not ended'
		"$ubd_cow" info --json a.cow >info.json
		expect_eq "time in version $v, half merged" "$(json info.json 'd["backing_mtime"]')" "$(stat -c %Y first.img)"
		same_view a.cow
		"$ubd_cow" merge a.cow
		cmp base.img want.img || fail "version $v, merged again, is something else"
		sound a.cow
	done
	# A name has 255 bytes in version 1.
	image base.img 3M >/dev/null
	made_cow a.cow 1
	name=$(printf 'n%.0s' $(seq 250))
	mkdir "$name"
	cp -p base.img "$name/base.img"
	ends_with 1 rebase a.cow "$name/base.img"
	says "its header has no room for the backing file's name"
	sound a.cow
}

# What check finds and repairs in the older versions: the bits behind the device's
# end, and a length that only lacks a hole.
test_check_versions() {
	local v at

	image base.img $((512 * 4099)) >/dev/null
	for v in 1:280 2:4120 padded:8192; do
		at=${v#*:}
		v=${v%:*}
		made_cow good.cow "$v"
		sound good.cow
		damage() { cp good.cow bad.cow; }
		damage && bytes_at bad.cow $((at + 512)) '\370'
		finds 3 bits_beyond_device
		finds 4 bits_beyond_device --repair
		cmp bad.cow good.cow || fail "the repair of version $v did more or less than to clear the bits"
		damage && truncate -s -1 bad.cow
		finds 3 length
		finds 4 length --repair
		cmp bad.cow good.cow || fail "the repair did not give version $v its length"
		damage && truncate -s $((at + 100)) bad.cow
		finds 3 bitmap_truncated
		damage && bytes_at bad.cow "$at" '\17' && truncate -s -$((512 * 4096)) bad.cow
		finds 3 data_truncated --repair
	done
}

# loop FILE: sets $device, a block device of the host that is this file
loop() {
	device=$(losetup -f --show "$1" 2>/dev/null) || skip "the host lets no loop device be made"
	at_end "losetup -d $device"
}

# COW file and backing file on block devices.
test_block_devices() {
	local cow backing next

	overlay
	cp -p base.img next.img
	data next.img 1500 600
	truncate -s 17M a.cow # devices may be larger than what they hold
	loop base.img
	backing=$device
	loop a.cow
	cow=$device
	loop next.img
	next=$device
	"$ubd_cow" rebase --trust "$cow" "$backing"
	touch "$backing" # its node's time says nothing
	sound "$cow"
	"$ubd_cow" info --json "$cow" >info.json
	expect_eq 'backing file' "$(json info.json 'd["backing"]')" "$backing"
	map_is_true "$cow" want.img
	diff_is_true "$cow" want.img base.img
	same_view "$cow"
	"$ubd_cow" convert "$cow" raw.img
	cmp raw.img want.img || fail "the raw file is not what was to be seen"
	"$ubd_cow" convert --backing "$backing" want.img again.cow
	same_view again.cow
	"$ubd_cow" create new.cow "$backing"
	same_view new.cow base.img
	# They are there already, and nobody asks for a device to be overwritten.
	ends_with 1 create "$cow" "$backing"
	says 'is there already'
	ends_with 1 merge again.cow --into "$next"
	says 'is there already'
	"$tool" lock-hold "$cow" held &
	at_end "kill $! 2>/dev/null"
	until [ -e held ]; do sleep 0.05; done
	ends_with 5 merge "$cow"
	says "is in use by process $!"
	kill $!
	"$ubd_cow" rebase "$cow" "$next"
	same_view "$cow"
	"$ubd_cow" merge "$cow"
	cmp "$next" want.img || fail "merged in place it is not what was to be seen"
	same_view "$cow"
	sound "$cow"
	# Too small, as no file is that is to be read only.
	truncate -s 5M a.cow
	losetup -c "$cow"
	ends_with 3 check "$cow"
	says 'by its bitmap it has sectors up to byte'
}

# Where the host's file system can share blocks, nothing is copied that need not be.
test_reflink() {
	[ "$(id -u)" = 0 ] || skip "only root may mount a file system that can share blocks"
	truncate -s 1G fs.img
	mkfs.xfs -q -m reflink=1 fs.img || skip "no XFS can be made that shares blocks (mkfs.xfs -m reflink=1)"
	mkdir fs
	unshare -m mount -o loop fs.img fs 2>/dev/null || skip "the host mounts no XFS on a loop device"
	cat >steps <<-'EOF'
		set -e
		mount -o loop fs.img fs
		cd fs
		# shared FILE: MiB of it that another file has too
		shared() {
			filefrag -v "$1" | awk '/shared/ { n += $6 } END { print int(n / 256) }'
		}
		# at_least FILE MIB
		at_least() {
			[ "$(shared "$1")" -ge "$2" ] || { echo "$1 shares $(shared "$1") MiB, not $2"; exit 1; }
			echo "$1 shares $(shared "$1") MiB"
		}
		dd if=/dev/urandom of=base.img bs=1M count=128 status=none
		cp --reflink=never base.img want.img
		# Everywhere a little, and one long run.
		for at in $(seq 2 32 32767); do echo "$at"; done | while read -r at; do
			head -c 4096 /dev/urandom | dd of=want.img bs=4K seek="$at" conv=notrunc status=none
		done
		dd if=/dev/urandom of=want.img bs=1M seek=50 count=8 conv=notrunc status=none
		"$ubd_cow" convert --backing base.img want.img a.cow
		at_least a.cow 7
		"$ubd_cow" merge a.cow --into new.img
		cmp new.img want.img
		at_least new.img 115
		"$ubd_cow" convert a.cow raw.img
		cmp raw.img want.img
		at_least raw.img 115
		"$ubd_cow" convert raw.img again.img
		cmp again.img want.img
		at_least again.img 127
		"$ubd_cow" convert a.cow a.qcow2
		qemu-img compare -q -f raw -F qcow2 want.img a.qcow2
		"$ubd_cow" merge a.cow
		cmp base.img want.img
		at_least base.img 120
		# A hole of the COW file, over data.
		"$ubd_cow" create hole.cow base.img
		printf '\377' | dd of=hole.cow bs=1 seek=8192 conv=notrunc status=none
		"$ubd_cow" merge hole.cow --into hole.img
		cmp -n 4096 hole.img /dev/zero
		cmp -i 4096 hole.img want.img
		at_least hole.img 127
	EOF
	ubd_cow=$ubd_cow unshare -m bash "$work/steps" | tee figures || fail "the steps on XFS failed"
}

# finds STATUS KIND [WORD...]: check of bad.cow finds that one kind, and ends so
finds() {
	local status=$1
	local kind=$2
	local got=0

	shift 2
	"$ubd_cow" check --json "$@" bad.cow >check.json || got=$?
	cat check.json
	expect_eq "status of check ($kind)" "$got" "$status"
	expect_eq 'what is found' "$(json check.json '" ".join(f["kind"] for f in d["findings"])')" "$kind"
}

# Each kind of damage is found and told; what is safe is repaired, nothing else
# is touched.
test_check() {
	overlay
	damage() { cp a.cow bad.cow; }

	sound a.cow
	damage && bytes_at bad.cow 0 '\0'
	finds 3 no_cow_file
	damage && bytes_at bad.cow 7 '\7'
	finds 3 header
	damage && bytes_at bad.cow $((size_at + 7)) '\1'
	finds 3 header
	damage && bytes_at bad.cow $((format_at + 3)) '\1'
	finds 3 header
	damage && bytes_at bad.cow $name_at '\0'
	finds 3 header
	damage && bytes_at bad.cow $((size_at + 4)) '\2'
	finds 3 'data_truncated backing_size'
	damage && bytes_at bad.cow $((mtime_at + 3)) '\0'
	finds 3 backing_mtime
	cp bad.cow before.cow
	finds 3 backing_mtime --repair
	cmp bad.cow before.cow || fail "what cannot be repaired was changed"
	damage && truncate -s 100 bad.cow
	finds 3 header
	damage && truncate -s 9000 bad.cow
	finds 3 bitmap_truncated
	damage && truncate -s -1 bad.cow
	finds 3 data_truncated
	damage && bytes_at bad.cow $((name_at + 1)) 'nowhere/'
	finds 3 backing_missing
	for name in "$work" "$work/fifo" "$work/bad.cow" "$work/a.cow"; do
		[ -e fifo ] || mkfifo fifo
		damage && bytes_at bad.cow $name_at "$name\0"
		case $name in
		*bad.cow) finds 3 names_itself ;;
		*a.cow) finds 3 'backing_is_cow backing_size backing_mtime' ;;
		*) finds 3 backing_type ;;
		esac
	done
	# Repaired: the bits behind the end, and the length that only lacks a hole.
	image odd.img $((512 * 4099)) >/dev/null
	"$ubd_cow" create odd.cow odd.img
	damage() { cp odd.cow bad.cow; }
	damage && bytes_at bad.cow $((bitmap_at + 512)) '\370'
	finds 3 bits_beyond_device
	finds 4 bits_beyond_device --repair
	cmp bad.cow odd.cow || fail "the repair did more or less than to clear the bits"
	damage && truncate -s 13000 bad.cow
	finds 3 length
	finds 4 length --repair
	cmp bad.cow odd.cow || fail "the repair did not give it its length"
	damage && bytes_at bad.cow $bitmap_at '\17' && truncate -s $((12288 + 2047)) bad.cow
	finds 3 data_truncated --repair
	ends_with 3 check bad.cow
	says 'bad.cow: it has 14335 bytes, but by its bitmap it has sectors up to byte 14336'
	# Nobody takes zeros for what is lost without being told to.
	cp bad.cow before.cow
	for command in 'merge bad.cow' 'merge bad.cow --into new.img' 'diff bad.cow' 'convert bad.cow new.img' \
		'rebase bad.cow odd.img' 'resize bad.cow' 'resize bad.cow 3M' 'resize bad.cow 40M'; do
		# shellcheck disable=SC2086 # words
		ends_with 1 $command
		says "bad.cow: is cut short: .* truncate -s $(stat -c %s odd.cow) bad.cow$"
	done
	cmp bad.cow before.cow || fail "a file that was cut was changed"
	[ ! -e new.img ] || fail "a file was made of one that was cut"
	truncate -s "$(stat -c %s odd.cow)" bad.cow
	"$ubd_cow" merge bad.cow
	# A name that would talk to the terminal.
	damage && bytes_at bad.cow $((name_at + 1)) '\033[2Jx\0'
	ends_with 3 check bad.cow
	says '\\x1b\[2Jx'
	# The same in one character, which is two bytes; a letter of two is shown.
	damage && bytes_at bad.cow $((name_at + 1)) '\302\2332J\303\244\237\0'
	ends_with 3 check bad.cow
	says '/\\xc2\\x9b2Jä\\x9f '
}

# Neither with the COW file nor with the backing file in use by a guest; who has
# it is named.
test_in_use() {
	local command

	overlay
	"$tool" lock-hold a.cow held &
	holder=$!
	at_end "kill $holder 2>/dev/null"
	until [ -e held ]; do sleep 0.05; done
	cp a.cow before.cow
	for command in 'info a.cow' 'check --repair a.cow' 'merge a.cow' 'merge a.cow --into new.img' \
		'rebase --trust a.cow' 'resize a.cow' 'resize a.cow 17M' 'diff a.cow' 'map a.cow' 'convert a.cow new.img'; do
		# shellcheck disable=SC2086 # words
		ends_with 5 $command
		says "a.cow: is in use by process $holder \(tool\); end it"
	done
	cmp a.cow before.cow || fail "a file in use was changed"
	kill "$holder"
	wait "$holder" || true
	rm held
	"$tool" lock-hold base.img held &
	holder=$!
	until [ -e held ]; do sleep 0.05; done
	ends_with 5 merge a.cow
	says "base.img: is in use by process $holder"
	kill "$holder"
	wait "$holder" || true
	# A backing file that guests read is not to be written, but to be read.
	exec 9<base.img
	python3 -c 'import fcntl, struct
fcntl.fcntl(9, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))' # F_OFD_SETLK, and stays with us
	same_view a.cow
	ends_with 5 merge a.cow
	says "base.img: is in use by "
	ends_with 5 resize a.cow 17M
	says "base.img: is in use by "
	expect_eq 'size of a backing file in use' "$(stat -c %s base.img)" $((16 << 20))
	exec 9<&-
	"$ubd_cow" merge a.cow
}

# Files that mean harm: each command ends by itself with a status of its own.
test_hostile() {
	local i command got sum

	overlay
	sum=$(checksum base.img)
	for i in $(seq 30); do
		cp a.cow bad.cow
		python3 - "$i" <<-'EOF'
			import random, sys
			r = random.Random(int(sys.argv[1]))
			with open("bad.cow", "r+b") as f:
			    for _ in range(r.randint(1, 6)):
			        f.seek(r.choice([r.randrange(36), r.randrange(4136), r.randrange(8192, 12288)]))
			        f.write(bytes([r.choice([0, 1, 0x7f, 0x80, 0xff, r.randrange(256)])]))
			    if r.random() < 0.3:
			        f.truncate(r.choice([r.randrange(8200), r.randrange(20000), 1 << 40]))
		EOF
		for command in 'info --json' 'check --json' 'check --repair' 'map --json' 'diff --json'; do
			got=0
			# shellcheck disable=SC2086 # words
			timeout 20 "$ubd_cow" $command bad.cow >said 2>&1 || got=$?
			[[ $got =~ ^[0134]$ ]] || fail "seed $i: ubd-cow $command ended with $got: $(tail -n 3 said)"
		done
	done
	expect_eq 'content of the backing file' "$(checksum base.img)" "$sum"
}

# small_overlay: as overlay, but few calls make the whole merge
small_overlay() {
	image base.img 1M >/dev/null
	data base.img 200 500
	cp base.img want.img
	data want.img 0 1
	data want.img 250 40
	data want.img 900 30
	touch -d '2020-02-02 02:02:02' base.img
	"$ubd_cow" convert --backing base.img want.img a.cow
	fallocate -p -o $((12288 + 260 * 1024)) -l 8K a.cow
	fallocate -p -o $((260 * 1024)) -l 8K want.img
	cp base.img other.img
	data other.img 100 200
	data other.img 905 100
	touch -d '2021-01-01 01:01:01' other.img
	mkdir first
	cp -p a.cow base.img other.img first
}

# The calls that change something on a disk.
changing=pwrite64,copy_file_range,fallocate,ftruncate,fdatasync,fsync

has_strace() {
	strace -o /dev/null true 2>/dev/null || skip "nothing may be traced here (strace)"
}

# killed_everywhere EXPECTATION WORD...: the command is killed before each of its
# calls, of each kind; after each, the function says whether all is well. Counts
# in $killed.
killed_everywhere() {
	local expectation=$1
	local call n got

	shift
	killed=0
	for call in ${changing//,/ }; do
		for n in $(seq 1000); do
			rm -f new.*
			cp -p first/* .
			got=0
			strace -qq -o /dev/null -e "trace=$call" -e "inject=$call:signal=KILL:when=$n" \
				"$ubd_cow" "$@" >said 2>&1 || got=$?
			[ "$got" != 0 ] || break
			expect_eq "status when killed at $call $n" "$got" 137
			killed=$((killed + 1))
			"$expectation"
		done
	done
	echo "killed $killed times"
}

merge_goes_on() {
	same_view a.cow
	"$ubd_cow" merge a.cow
	cmp base.img want.img || fail "a merge that was killed and run again gave another file"
	sound a.cow
	same_view a.cow
}

rebase_goes_on() {
	same_view a.cow
	"$ubd_cow" rebase a.cow other.img
	"$ubd_cow" info a.cow | grep -q "$work/other.img$" || fail "it has still the old backing file"
	sound a.cow
	same_view a.cow
}

limit[merge_killed]=240
test_merge_killed() {
	has_strace
	small_overlay
	killed_everywhere merge_goes_on merge a.cow
	[ "$killed" -ge 9 ] || fail "it was killed only $killed times"
	# Without its mark, that is: a backing file that something else wrote.
	cp -p first/* .
	touch base.img
	ends_with 1 merge a.cow
	says 'base.img was changed at'
}

limit[rebase_killed]=240
test_rebase_killed() {
	has_strace
	small_overlay
	killed_everywhere rebase_goes_on rebase a.cow other.img
	[ "$killed" -ge 6 ] || fail "it was killed only $killed times"
}

# A larger disk: in place, and into another file, of every version; with its own bits
# and those behind its end, owner, mode, symbolic links; what is refused.
test_resize() {
	local inode version

	overlay
	"$ubd_cow" create b.cow base.img
	chmod 640 a.cow
	[ "$(id -u)" != 0 ] || chown 1234:4321 a.cow
	mkdir links
	ln -s ../a.cow links/link.cow
	inode=$(stat -c '%u %g %a' a.cow)
	cp a.cow before.cow
	for words in 'a.cow 15M' 'a.cow 1' 'a.cow 16777217' 'links 20M' 'base.img 20M' 'missing 20M'; do
		# shellcheck disable=SC2086 # words
		ends_with 1 resize $words
	done
	for words in 'a.cow 0' 'a.cow -1' 'a.cow many' 'a.cow 65T' 'a.cow 20M --to-backing' 'a.cow 20M 30M' ''; do
		# shellcheck disable=SC2086 # words
		ends_with 2 resize $words
	done
	ln a.cow hard.cow
	ends_with 1 resize a.cow 20M
	says "$work/a.cow: its data have to move to a new file, .*remove its hard links"
	rm hard.cow
	ends_with 0 resize a.cow
	says 'has that size already'
	ends_with 0 resize a.cow --to-backing
	cmp a.cow before.cow || fail 'what was refused was changed'
	expect_eq 'size of the backing file' "$(stat -c %s base.img)" $((16 << 20))
	# Both, by a name that is a link.
	"$ubd_cow" resize links/link.cow 20M
	[ -L links/link.cow ] || fail 'the link was replaced'
	expect_eq 'owner and mode' "$(stat -c '%u %g %a' a.cow)" "$inode"
	expect_eq 'size of the backing file' "$(stat -c %s base.img)" $((20 << 20))
	expect_eq 'its time' "$(date -u -r base.img '+%F %T')" '2020-02-02 02:02:02'
	truncate -s 20M want.img
	sound a.cow
	same_view a.cow
	expect_eq 'what is left' "$(compgen -G '*.new-*' || true)" ''
	# The other one learns what to do, and loses nothing either.
	ends_with 1 merge b.cow --into new.img
	says 'if it was grown, and nothing else, say: ubd-cow resize b.cow'
	ends_with 3 check b.cow
	says 'if it was grown, and nothing else, say: ubd-cow resize b.cow'
	"$ubd_cow" resize b.cow
	sound b.cow
	same_view b.cow base.img
	# In place: 20 MiB to 32 MiB have the same block of the bitmap.
	inode=$(stat -c %i a.cow)
	truncate -s 32M base.img want.img
	"$ubd_cow" resize a.cow --to-backing
	expect_eq 'the file, grown in place' "$(stat -c %i a.cow)" "$inode"
	sound a.cow
	same_view a.cow
	# Bits behind the end of the device are nobody's, and stay so.
	for version in 1 2 3 padded; do
		for size in 16M 40M; do
			truncate -s $((4099 * 512)) base.img
			made_cow v.cow $version v.img 7
			at=$(json <("$ubd_cow" info --json v.cow) 'd["bitmap_offset"] + 512')
			python3 - "$at" <<-'EOF'
				import sys
				with open("v.cow", "r+b") as f:
				    f.seek(int(sys.argv[1]))
				    last = f.read(1)[0]
				    f.seek(int(sys.argv[1]))
				    f.write(bytes([last | 0xf8]))
			EOF
			truncate -s $size base.img v.img
			"$ubd_cow" resize v.cow
			sound v.cow
			same_view v.cow v.img
			rm v.cow
		done
	done
}

# Who may use the file that grows may use the new one, and nobody else may.
test_resize_acl() {
	local mib=20

	small_overlay
	mkdir own
	mv a.cow own
	grow() {
		"$ubd_cow" resize own/a.cow "${mib}M"
		mib=$((mib * 2))
	}
	keeps_acl own/a.cow grow
}

# meanwhile CALL N COMMAND WORD...: resize a.cow 20M, say, ends with status 1, if that
# command is done while it is about to make its Nth such call
meanwhile() {
	local inject=$1:delay_enter=1500000:when=$2
	local command=$3
	local got=0
	local other

	shift 3
	rm -f ./*.cow
	cp -p first/* .
	{ sleep 0.5 && $command; } &
	other=$!
	strace -qq -o calls -e "trace=${inject%%:*}" -e "inject=$inject" "$ubd_cow" "$@" >said 2>&1 || got=$?
	wait $other
	cat said
	expect_eq "status of ubd-cow $*, when somebody does $command" "$got" 1
	expect_eq 'what is left' "$(compgen -G '*.new-*' || true)" ''
}

# Somebody changes the files while one grows, and asks for no lock.
test_resize_disturbed() {
	has_strace
	small_overlay
	# Between the lock of who reads and that of who writes, the third, and after it.
	meanwhile fcntl 3 'truncate -s 30M base.img' resize a.cow 20M
	expect_eq 'size of the backing file' "$(stat -c %s base.img)" $((30 << 20))
	says 'a.cow: has a disk of 31457280 bytes, and 20971520 are fewer'
	meanwhile fdatasync 1 'truncate -s 3M base.img' resize a.cow 2M
	expect_eq 'size of the backing file' "$(stat -c %s base.img)" $((3 << 20))
	says "$work/base.img: was made larger meanwhile"
	"$ubd_cow" resize a.cow
	truncate -s 3M want.img
	same_view a.cow
	# While what was copied is made durable.
	truncate -s 20M want.img
	meanwhile fsync 1 'mv a.cow b.cow' resize a.cow 20M
	[ ! -e a.cow ] || fail 'there is a file again by the name that was taken away'
	says 'a.cow: was renamed or removed meanwhile'
	"$ubd_cow" resize b.cow
	same_view b.cow
	meanwhile fsync 1 'ln a.cow b.cow' resize a.cow 20M
	says 'remove its hard links'
	meanwhile fsync 1 'cp --remove-destination base.img a.cow' resize a.cow 20M
	cmp a.cow base.img || fail 'a file that somebody else put there is another one'
}

# Killed anywhere it is the old file or the new one, and the next run ends the work.
limit[resize_killed]=240
test_resize_killed() {
	local size

	has_strace
	small_overlay
	touch said
	changing+=,linkat,rename
	resize_goes_on() {
		"$ubd_cow" resize a.cow $size
		expect_eq 'what is left' "$(compgen -G 'a.cow.new-*' || true)" ''
		sound a.cow
		same_view a.cow
	}
	for size in 2M 20M; do
		truncate -s $size want.img
		cp want.img first
		killed_everywhere resize_goes_on resize a.cow $size
		[ "$killed" -ge 6 ] || fail "it was killed only $killed times"
	done
}

# The host loses its power while a file grows in place.
limit[resize_crashed]=300
test_resize_crashed() {
	has_strace
	small_overlay
	# What lies behind the bitmap is nobody's, until it is bits.
	bytes_at first/a.cow $((bitmap_at + 256)) "$(printf '\\377%.0s' $(seq 3584))"
	truncate -s 15M first/base.img want.img
	resize_goes_on_after_crash() {
		"$ubd_cow" resize a.cow
		# What is replayed are not lengths.
		"$ubd_cow" check --repair a.cow || [ $? = 4 ]
		sound a.cow
		same_view a.cow
	}
	crashed_everywhere resize_goes_on_after_crash resize a.cow
	[ "$crashed" -ge 4 ] || fail "there were only $crashed crashes"
}

# A new file is there whole, or not at all, and nothing else is.
test_new_file_killed() {
	local before names

	has_strace
	small_overlay
	"$ubd_cow" create whole.cow base.img
	"$ubd_cow" convert a.cow whole.again.cow
	touch said
	before=$(ls)
	# Its name is there before its directory is durable.
	whole_or_not() {
		names=$(ls | grep -vx "$new" || true)
		expect_eq 'what is there' "$names" "$before"
		[ ! -e "$new" ] || cmp "$new" "$whole" || fail "$new is there, and not whole"
	}
	new=new.cow whole=whole.cow
	killed_everywhere whole_or_not create new.cow base.img
	[ "$killed" -ge 4 ] || fail "it was killed only $killed times"
	new=new.img whole=want.img
	killed_everywhere whole_or_not merge a.cow --into new.img
	rm -f new.img
	new=new.cow whole=whole.again.cow
	killed_everywhere whole_or_not convert a.cow new.cow
	[ "$killed" -ge 6 ] || fail "it was killed only $killed times"
}

# Where the file system knows no files without a name, a run that is killed leaves
# its file. The next one removes it, and no other.
limit[leftovers]=240
test_leftovers() {
	local old new whole words

	has_strace
	small_overlay
	"$ubd_cow" create whole.cow base.img
	"$ubd_cow" convert a.cow whole.again.cow
	gcc -shared -fPIC -o no_tmpfile.so -x c - <<-'EOF'
		#define _GNU_SOURCE
		#include <errno.h>
		#include <fcntl.h>
		#include <stdarg.h>
		#include <sys/syscall.h>
		#include <unistd.h>
		int open(const char *path, int flags, ...)
		{
			va_list list;
			va_start(list, flags);
			int mode = va_arg(list, int);
			va_end(list);
			if ((flags & O_TMPFILE) == O_TMPFILE) {
				errno = EOPNOTSUPP;
				return -1;
			}
			return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
		}
	EOF
	export LD_PRELOAD=$work/no_tmpfile.so
	new=new.cow
	changing+=,renameat2,unlink
	next_goes_on() {
		# Names that are only like it, and what is no file.
		local others=("$new.new-0123456789abcdeg" "$new.new-0123456789abcdef0" other.cow.new-0123456789abcdef)

		if [ -e "$new" ]; then
			cmp "$new" "$whole" || fail "$new is there, and not whole"
			rm "$new"
		fi
		touch "${others[@]}"
		ln -s base.img "$new.new-1111111111111111"
		mkdir "$new.new-2222222222222222"
		"$ubd_cow" "${words[@]}" 2>said
		cmp "$new" "$whole" || fail "the next run made something else"
		expect_eq 'what is there' "$(ls | grep -c "$new.new-")" 4
		rm "${others[@]}" "$new.new-1111111111111111"
		rmdir "$new.new-2222222222222222"
	}
	words=(create "$new" base.img) whole=whole.cow
	killed_everywhere next_goes_on "${words[@]}"
	[ "$killed" -ge 4 ] || fail "it was killed only $killed times"
	words=(convert a.cow "$new") whole=whole.again.cow
	killed_everywhere next_goes_on "${words[@]}"
	[ "$killed" -ge 6 ] || fail "it was killed only $killed times"
	new=new.img
	words=(merge a.cow --into "$new") whole=want.img
	killed_everywhere next_goes_on "${words[@]}"
	[ "$killed" -ge 4 ] || fail "it was killed only $killed times"
	words=(convert a.cow new.qcow2)
	"$ubd_cow" "${words[@]}"
	qemu-img compare -q -f raw -F qcow2 want.img new.qcow2

	# Somebody works on it.
	old=new.cow.new-0123456789abcdef
	rm -f new.*
	echo old >$old
	"$tool" lock-hold $old held &
	at_end "kill $! 2>/dev/null"
	until [ -e held ]; do sleep 0.05; done
	"$ubd_cow" create new.cow base.img
	[ -e $old ] || fail 'a file that somebody works on was removed'
	kill $!
	wait $! || true
	rm new.cow
	"$ubd_cow" create new.cow base.img 2>said
	says "$old: removed, it was left by a run that was killed"
	[ ! -e $old ] || fail 'what a run had left is still there'
	# Many at once, of which one makes it.
	for i in $(seq 20); do
		rm -f new.cow
		for _ in 1 2 3 4; do
			"$ubd_cow" create new.cow base.img &
		done
		wait
		cmp new.cow whole.cow || fail 'two at once made something else'
		expect_eq 'what is there' "$(ls new.cow*)" new.cow
	done
}

# crashed_everywhere EXPECTATION WORD...: the host's power fails at each call of
# the command. Its calls are recorded, and replayed onto the first files up to
# each of them: what an fsync made durable is there, of what came later all,
# nothing, one write, all but one, or sectors by chance; and the backing file's
# time is as durable as its data. Counts in $crashed.
crashed_everywhere() {
	local expectation=$1

	shift
	cp -p first/* .
	strace -qq -y -xx -s 4000000 -o calls -e "trace=$changing" -e inject=copy_file_range:error=EXDEV "$ubd_cow" "$@"
	cp -p base.img after.img
	crashed=0
	while read -r state; do
		cp -p "states/$state/"* .
		"$expectation" || fail "after crash $state"
		crashed=$((crashed + 1))
	done < <(crash_states)
	echo "crashed $crashed times"
}

# Prints the directories, under states, that it makes.
crash_states() {
	rm -rf states
	python3 - <<-'EOF'
		import os, random, re, shutil
		files = ["a.cow", "base.img"]
		first = {f: open("first/" + f, "rb").read() for f in files}
		old = os.stat("first/base.img").st_mtime
		new = os.stat("after.img").st_mtime
		calls = []
		for line in open("calls"):
		    m = re.match(r'(\w+)\(\d+<((?:\\x..)+)>(?:, (.*))?\) += (\S+)', line)
		    assert m, line[:200]
		    call, path, rest, result = m.groups()
		    name = os.path.basename(bytes.fromhex(path.replace("\\x", "")).decode())
		    if result.startswith("-") or call == "ftruncate" or name not in files:
		        continue
		    if call == "pwrite64":
		        m = re.match(r'"((?:\\x..)*)", (\d+), (\d+)', rest)
		        data = bytes.fromhex(m.group(1).replace("\\x", ""))
		        assert len(data) == int(m.group(2)) == int(result)
		        calls.append((name, int(m.group(3)), data))
		    elif call == "fallocate":
		        m = re.search(r', (\d+), (\d+)$', rest)
		        calls.append((name, int(m.group(1)), bytes(int(m.group(2)))))
		    else:
		        calls.append((name, None, None))
		r = random.Random(1)
		n = 0
		seen = set()
		def put(image, at, data):
		    image[at:at + len(data)] = data
		def torn(write):
		    f, at, data = write
		    return [(f, at + i, data[i:i + 512]) for i in range(0, len(data), 512)]
		def state(durable, chosen, mtime):
		    global n
		    images = {f: bytearray(durable[f]) for f in files}
		    for f, at, data in chosen:
		        put(images[f], at, data)
		    key = (bytes(images["a.cow"]), bytes(images["base.img"]), mtime)
		    if key in seen:
		        return
		    seen.add(key)
		    os.makedirs(f"states/{n}")
		    for f in files:
		        open(f"states/{n}/{f}", "wb").write(images[f])
		    os.utime(f"states/{n}/base.img", (mtime, mtime))
		    shutil.copy2("first/other.img", f"states/{n}/other.img")
		    print(n)
		    n += 1
		durable = {f: bytearray(first[f]) for f in files}
		pending = []
		synced = written = False
		for f, at, data in calls + [(None, None, None)]:
		    sectors = [s for w in pending for s in torn(w) if durable[s[0]][s[1]:s[1] + len(s[2])] != s[2]]
		    choices = [[], pending] + [[w] for w in pending]
		    choices += [[w for w in pending if w is not v] for v in pending]
		    choices += [[s for s in sectors if r.random() < p] for p in (0.1, 0.3, 0.5, 0.5, 0.5, 0.7, 0.9)]
		    if len(sectors) <= 40:
		        choices += [[t] for t in sectors] + [[s for s in sectors if s is not t] for t in sectors]
		    times = [new] if synced else [old, new] if written else [old]
		    for c in choices:
		        for t in times:
		            state(durable, c, t)
		    if at is None:
		        for w in [w for w in pending if w[0] == f]:
		            put(durable[f], w[1], w[2])
		        pending = [w for w in pending if w[0] != f]
		        synced |= f == "base.img"
		    else:
		        pending.append((f, at, data))
		        written |= f == "base.img"
	EOF
	true
}

limit[merge_crashed]=300
test_merge_crashed() {
	has_strace
	small_overlay
	crashed_everywhere merge_goes_on merge a.cow
	[ "$crashed" -ge 30 ] || fail "there were only $crashed crashes"
}

limit[rebase_crashed]=300
test_rebase_crashed() {
	has_strace
	small_overlay
	crashed_everywhere rebase_goes_on rebase a.cow other.img
	[ "$crashed" -ge 15 ] || fail "there were only $crashed crashes"
}

# A full disk: said, and all is as before; with room again it goes on.
test_full_disk() {
	overlay
	small_host 12m <<-'EOF'
		cp --sparse=always "$work/base.img" "$work/a.cow" "$work/small"
		touch -r "$work/base.img" "$work/small/base.img"
	EOF
	cat >steps <<-'EOF'
		set -e
		cd small
		"$ubd_cow" rebase --trust a.cow base.img
		dd if=/dev/zero of=filler bs=64K 2>/dev/null || true
		! "$ubd_cow" merge a.cow --into new.img 2>../said || { echo 'merged with no room'; exit 1; }
		[ ! -e new.img ] || { echo 'a file is left'; exit 1; }
		cp a.cow ../before.cow
		! "$ubd_cow" resize a.cow 20M 2>../said.resize || { echo 'grown with no room'; exit 1; }
		cmp a.cow ../before.cow
		[ "$(stat -c %s base.img)" = $((16 << 20)) ] || { echo 'the backing file has grown'; exit 1; }
		! compgen -G '*.new-*' || { echo 'a new file is left'; exit 1; }
		! "$ubd_cow" merge a.cow 2>../said.in_place || { echo 'merged in place with no room'; exit 1; }
		rm filler
		"$ubd_cow" merge a.cow --into new.img
		cmp new.img ../want.img
		"$ubd_cow" merge a.cow
		cmp base.img ../want.img
	EOF
	ubd_cow=$ubd_cow work=$work "${launcher[@]}" bash "$work/steps" || fail "the steps on a small disk failed"
	cat said said.in_place said.resize
	says 'new.img: cannot be written at byte [0-9]+: No space left on device \(28\); free space'
}

run_tests "$@"
