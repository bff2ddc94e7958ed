#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# One image, one guest.
. "$(dirname "$0")/lib.sh"

hold_script='
load
"$tool" pattern write /dev/ubda 0 1024 1
touch $work/ready
until_file $work/go
"$tool" pattern check /dev/ubda 0 1024 1
'

test_second_guest_refused() {
	local img
	local first

	img=$(image a.img 16M)
	image b.img 16M >/dev/null
	guest_start one "ubd0=$img" <<-EOF
		$hold_script
	EOF
	guest_await one ready
	first=${guest_pid[one]}
	guest two "ubd0=$img" "ubd1=$work/b.img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'two guests have one image'
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 1
		"$tool" pattern write /dev/ubdb 0 1024 2
		unload
		load cmdline=0
		unload
	EOF
	expect_once two "ubda: $img: is locked by process $first \(linux\) of the host; stop that guest"
	guest_start three "ubd0=$img" <<-'EOF'
		touch $work/three
		load
		"$tool" pattern check /dev/ubda 0 1024 1
		unload
	EOF
	# It waits some seconds for the lock: now the first one ends.
	guest_await three three
	touch go
	guest_wait one
	expect_eq status "$status" 0
	guest_wait three
	expect_eq status "$status" 0
	expect_unlocked "$img"
}

# refused_because_of VERB: somebody does this to an image's lock, and a guest is
# refused the image. In $img the image, in $holder who was started, in the file
# `held` the process that has the lock.
refused_because_of() {
	img=$(image a.img 16M)
	"$tool" "$1" "$img" "$work/held" &
	holder=$!
	at_end "kill $holder"
	until [ -s held ]; do
		sleep 0.05
	done
	guest one "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'the lock was not seen'
		unload
	EOF
}

# Any program's lock counts, and its holder is named.
test_foreign_lock() {
	refused_because_of lock-hold
	expect_once one "ubda: $img: is locked by process $holder \(tool\)"
}

# A process chooses its name: what a terminal would obey is not shown.
test_odd_holder() {
	refused_because_of lock-hold-odd
	expect_once one "ubda: $img: is locked by process $holder \(a\?\[2Jb\?ubd: c\) of the host"
	expect_silent one $'\033'
}

# A guest's helpers hold its locks too, and may come first in /proc: process
# numbers start again when they are used up. The guest is named all the same.
test_inherited_lock() {
	# Anybody may open it; who may write to it is another matter.
	{ echo 20000 >/proc/sys/kernel/ns_last_pid; } 2>/dev/null || skip 'who is not root cannot choose the number of a process'
	refused_because_of lock-inherit
	expect_once one "ubda: $img: is locked by process $(cat held) \(tool\)"
}

# A lock that no process has: nobody is named, least of all the guest itself.
test_hidden_lock() {
	refused_because_of lock-hide
	expect_once one "ubda: $img: is locked"
	expect_silent one "is locked by process"
}

# Two names of one file are one file.
test_same_file_by_another_name() {
	local img

	img=$(image a.img 16M)
	ln "$img" hard
	ln -s "$img" soft
	guest one "ubd0=$img" "ubd1=$work/hard" "ubd2=$work/soft" "ubd3=$work/../$(basename "$work")/a.img" <<-'EOF'
		load
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 1
		"$tool" pattern write /dev/ubda 0 1024 2
		unload
	EOF
	expect_once one "ubdb: $work/hard: the file is in use already as ubda"
	expect_once one "ubdc: $work/soft: the file is in use already as ubda"
	expect_once one "ubdd: .*/a.img: the file is in use already as ubda"
}

# The kernel's own driver has the image; ours is refused. And the other way.
test_own_driver_first() {
	local img

	img=$(image a.img 16M)
	use_compare
	guest_start one "ubd0=$img" <<-'EOF'
		[ -b /dev/ubda ] || die 'the kernel has no driver of its own'
		touch $work/ready
		until_file $work/go
	EOF
	guest_await one ready
	use_release
	guest two "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'two guests have one image'
	EOF
	expect_once two "ubda: $img: is locked by process ${guest_pid[one]} \(linux\)"
	touch go
	guest_wait one
	expect_eq status "$status" 0
}

test_own_driver_second() {
	local img

	img=$(image a.img 16M)
	guest_start one "ubd0=$img" <<-EOF
		$hold_script
	EOF
	guest_await one ready
	use_compare
	guest two "ubd0=$img" <<-'EOF'
		# It makes a disk that it cannot open, or none.
		[ ! -b /dev/ubda ] || refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 oflag=direct
	EOF
	expect_log two "$img.*: errno = 11|failed to open|already locked"
	touch go
	guest_wait one
	expect_eq status "$status" 0
}

run_tests "$@"
