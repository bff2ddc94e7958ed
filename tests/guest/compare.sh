#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Beside the kernel's own ubd driver, which has the names, the major number and
# the command line, and whose locks must not be lost.
. "$(dirname "$0")/lib.sh"

# expect_locked FILE: the host's kernel knows of a lock for writing
expect_locked() {
	grep -qE "WRITE [0-9]+ [0-9a-f]+:[0-9a-f]+:$(stat -c %i "$1") " /proc/locks ||
		fail "the lock on $1 is gone"
}

test_beside() {
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	use_compare
	guest_start one "ubd0=$work/a.img" "ubd7=$work/missing-but-not-ours" <<-'EOF'
		[ -b /dev/ubda ] || die 'the kernel has no driver of its own'
		load "device=0=$work/b.img"
		[ -b /dev/aubda ] || die 'no disk under a name of our own'
		same disks "$(ls -d /sys/block/aubd* | wc -l)" 1
		"$tool" pattern write /dev/ubda 0 8192 1
		"$tool" pattern write /dev/aubda 0 8192 2
		"$tool" pattern check /dev/ubda 0 8192 1
		"$tool" pattern check /dev/aubda 0 8192 2
		unload
		# Its disk goes on.
		"$tool" pattern check /dev/ubda 0 8192 1
		load prefix=other "device=0=$work/b.img"
		[ -b /dev/othera ] || die 'prefix= has no effect'
		"$tool" pattern check /dev/othera 0 8192 2
		unload
		touch $work/ready
		until_file $work/go
	EOF
	guest_await one ready
	expect_locked "$work/a.img"
	touch go
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubd: aubda: $work/b.img: "
	expect_silent one 'ubd: .*missing-but-not-ours'
	"$tool" pattern check "$work/a.img" 0 8192 1
	"$tool" pattern check "$work/b.img" 0 8192 2
}

# Its file is refused by whatever name, and its lock survives our look at it.
test_beside_same_file() {
	local img

	img=$(image a.img 16M)
	ln -s "$img" soft
	ln "$img" hard
	use_compare
	guest_start one "ubd0=$img" <<-'EOF'
		load "device=0=$work/a.img" "device=1=$work/soft" "device=2=$work/hard" "device=3r=$work/a.img" \
			"device=4c=$work/a.img"
		same disks "$(ls -d /sys/block/aubd* 2>/dev/null | wc -l || true)" 0
		touch $work/loaded
		until_file $work/go
		unload
		touch $work/unloaded
		until_file $work/go2
		"$tool" pattern write /dev/ubda 0 8192 1
	EOF
	guest_await one loaded
	expect_locked "$img"
	touch go
	guest_await one unloaded
	expect_locked "$img"
	touch go2
	guest_wait one
	expect_eq status "$status" 0
	for disk in aubda aubdb aubdc aubdd aubde; do
		expect_once one "ubd: $disk: .*: this UML process has the file open already"
	done
}

# The same for the backing file of a snapshot, whose own file is one that we made.
test_beside_snapshot() {
	local img

	img=$(image base.img 16M)
	"$top/build/ubd-cow" create a.cow base.img
	use_compare
	guest_start one "ubd0=$img" <<-'EOF'
		load snapshot=1 "device=0=$work/a.cow" "device=1=$work/base.img" "device=2=$work/b.cow,$work/base.img"
		same disks "$(ls -d /sys/block/aubd* 2>/dev/null | wc -l || true)" 0
		unload
		touch $work/unloaded
		until_file $work/go
	EOF
	guest_await one unloaded
	expect_locked "$img"
	touch go
	guest_wait one
	expect_eq status "$status" 0
	for disk in aubda aubdb aubdc; do
		expect_once one "ubd: $disk: .*: this UML process has the file open already"
	done
}

# Names that are the other driver's cannot be ours: a message, and no crash.
test_beside_same_prefix() {
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	use_compare
	guest one "ubd0=$work/a.img" <<-'EOF'
		load prefix=ubd "device=0=$work/b.img" || true
		"$tool" pattern write /dev/ubda 0 8192 1
		unload || true
	EOF
	expect_silent one 'duplicate filename'
	expect_log one 'ubd: .*(prefix|taken)'
	"$tool" pattern check "$work/a.img" 0 8192 1
	"$tool" zeros "$work/b.img" 0 8192
}

# Images go from one driver to the other.
test_same_bytes() {
	local img

	img=$(image a.img 16M)
	guest one "ubd0=$img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
	EOF
	use_compare
	guest two "ubd0=$img" <<-'EOF'
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern write /dev/ubda 0 16384 2
	EOF
	use_release
	guest three "ubd0=$img" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 0 16384 2
		"$tool" pattern check /dev/ubda 16384 16384 1
	EOF
}

run_tests "$@"
