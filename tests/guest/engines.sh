#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The engines: how one is chosen, and that all is well where the host forbids
# io_uring - by a seccomp filter around the guest, as containers do it. That the
# threads engine does what io_uring does is for the other files, see UBD_TEST_ARGS in
# lib.sh and the list in tests/run.sh. (These here are about the choice: they are not
# to be run with another engine.)
. "$(dirname "$0")/lib.sh"

test_args=

# forbid CALL=ERRNO...: for the next guest
forbid() {
	launcher=("$tool" forbid "$@" --)
}

io_script='
"$tool" pattern write /dev/ubda 0 32768 1
"$tool" pattern check /dev/ubda 0 32768 1
before=$(stat_of ubda host_syncs)
"$tool" syncs /dev/ubda 20 sync
same "syncs for 20 flushes" $(($(stat_of ubda host_syncs) - before)) 20
before=$(stat_of ubda host_dsync_writes)
"$tool" syncs /dev/ubda 20 fua
same "durable writes for 20 FUA writes" $(($(stat_of ubda host_dsync_writes) - before)) 20
blkdiscard -o 4M -l 4M /dev/ubda
"$tool" zeros /dev/ubda 8192 8192
blkdiscard -z -o 12M -l 1M /dev/ubda
"$tool" zeros /dev/ubda 24576 2048
"$tool" pattern check /dev/ubda 26624 6144 1
fio --thread --direct=1 --rw=randrw --bsrange=512-256k --size=12M --ioengine=libaio --iodepth=32 --name=mix \
	--filename=/dev/ubda --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 >$work/fio ||
	die "fio: $(tail -n 5 $work/fio)"
same errors "$(stat_of ubda errors)" 0
same "in flight" "$(stat_of ubda in_flight)" 0
[ "$(stat_of ubda missed_wakeups)" -le 5 ] || die "$(stat_of ubda missed_wakeups) wake-ups were missed"
'

# forbidden ERRNO WORDS: auto takes threads, says so once, and all works
forbidden() {
	local img

	img=$(image a.img 16M)
	forbid "io_uring_setup=$1"
	guest one "ubd0=$img" <<-EOF
		load
		$io_script
		unload
		load
		"\$tool" pattern check /dev/ubda 26624 6144 1
		unload
	EOF
	expect_eq 'lines that say so' \
		"$(log_count one "^ubd: ubda: $img: the host allows no io_uring: $2 \($1\); threads do its work")" 2
	expect_silent one 'cannot set up io_uring'
	expect_log one "^ubd: ubda: $img: .*, threads, "
	expect_unlocked "$img"
}

test_not_permitted() {
	forbidden 1 'Operation not permitted'
}

test_not_there() {
	forbidden 38 'Function not implemented'
}

# What a limit of locked memory does on older hosts.
test_no_memory() {
	forbidden 12 'Cannot allocate memory'
}

# It needs no privilege, neither the filter nor the guest.
test_ordinary_user() {
	local img

	[ "$(id -u)" = 0 ] || skip 'all these tests are run by an ordinary user here'
	img=$(image a.img 16M)
	mkdir files
	mv a.img files/
	cp "$kernel" files/linux
	kernel=$work/files/linux
	chown -R 65534:65534 files
	launcher=(setpriv --reuid=65534 --regid=65534 --clear-groups "$tool" forbid io_uring_setup=1 --)
	guest one "ubd0=$work/files/a.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" syncs /dev/ubda 5 sync
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	expect_log one 'the host allows no io_uring: Operation not permitted'
	expect_log one ', threads, '
}

# Another error is none that threads could help with.
test_other_error() {
	local img

	img=$(image a.img 16M)
	forbid io_uring_setup=24
	guest one "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'there is a disk'
		unload
	EOF
	expect_once one "ubda: $img: cannot set up io_uring: Too many open files \(24\); "
	expect_silent one 'threads do its work'
}

# Neither one nor the other: a message, and no disk.
test_nothing_is_allowed() {
	local img

	img=$(image a.img 16M)
	forbid io_uring_setup=1 thread=11
	guest one "ubd0=$img" <<-'EOF'
		load
		[ ! -e /dev/ubda ] || die 'there is a disk'
		unload
	EOF
	expect_once one "ubda: $img: cannot start threads: Resource temporarily unavailable \(11\); raise the limits"
	expect_unlocked "$img"
}

test_words() {
	local name

	needs_uring
	for name in a b c d; do
		image $name.img 8M >/dev/null
	done
	guest one "ubd0=$work/a.img" ubd=engine:threads "ubd1=$work/b.img" ubd=engine:io_uring "ubd2=$work/c.img" \
		ubd=engine:auto "ubd3=$work/d.img" ubd=engine:aio <<-'EOF'
		for engine in auto threads; do
			load engine=$engine
			for disk in ubda ubdb ubdc ubdd; do
				"$tool" pattern write /dev/$disk 0 8192 1
				"$tool" pattern check /dev/$disk 0 8192 1
			done
			unload
			echo "guest: now another"
		done
		refused load engine=aio
	EOF
	# What the first load says, and then the second.
	engines() {
		grep -aoE '^ubd: ubd[a-d]: .*, (io_uring|threads),' one.log | sed 's/^ubd: \(ubd.\): .*, \(.*\),/\1=\2/' | tr '\n' ' '
	}
	expect_eq 'engines' "$(engines)" \
		'ubda=io_uring ubdb=threads ubdc=io_uring ubdd=io_uring ubda=threads ubdb=threads ubdc=io_uring ubdd=io_uring '
	expect_log one 'option "ubd=engine:aio": unknown engine; the engines are auto, io_uring, threads'
	expect_once one '^ubd: engine=aio is none of auto, io_uring, threads'
}

# A copy-on-write disk, whose commits are of the engine, too.
test_cow() {
	image base.img 16M >/dev/null
	"$tool" pattern write base.img 0 32768 1
	forbid io_uring_setup=1
	guest one "ubd0=$work/a.cow,$work/base.img" <<-'EOF'
		load
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern write /dev/ubda 1000 9000 2
		"$tool" syncs /dev/ubda 10 sync
		[ "$(stat_of ubda commits)" -gt 0 ] || die 'no commit'
		same dirty "$(stat_of ubda dirty_sectors)" 0
		"$tool" pattern write /dev/ubda 20000 1000 3
		same errors "$(stat_of ubda errors)" 0
		unload
		load
		"$tool" pattern check /dev/ubda 1000 9000 2
		"$tool" pattern check /dev/ubda 10000 10000 1
		"$tool" pattern check /dev/ubda 20000 1000 3
		unload
	EOF
	"$tool" pattern check base.img 0 32768 1
}

# The same process is another guest: its threads end with the first one.
test_reboot() {
	local img
	local pid

	img=$(image a.img 16M)
	forbid io_uring_setup=1
	guest_start one "ubd0=$img" <<-'EOF'
		load
		boot=$(($(cat $work/boot 2>/dev/null || echo 0) + 1))
		echo $boot >$work/boot
		[ $boot = 1 ] || "$tool" pattern check /dev/ubda 24000 8000 $((boot - 1))
		"$tool" pattern write /dev/ubda 24000 8000 $boot
		"$tool" records write /dev/ubda $work/ack.$boot &
		sleep 0.5
		[ $boot = 4 ] || echo b >/proc/sysrq-trigger
		kill $!
		wait
	EOF
	pid=${guest_pid[one]}
	guest_wait one
	expect_eq status "$status" 0
	expect_eq boots "$(cat boot)" 4
	expect_no_trace "$pid"
	expect_unlocked "$img"
}

# Killed while threads write: what was made durable is there, nothing holds the file.
test_killed() {
	local img
	local pid
	local i

	img=$(image a.img 16M)
	forbid io_uring_setup=1
	for i in 1 2 3; do
		rm -f ack "$img"
		image a.img 16M >/dev/null
		guest_start one "ubd0=$img" <<-'EOF'
			load
			"$tool" records write /dev/ubda $work/ack
		EOF
		guest_await one ack
		sleep "0.$((RANDOM % 90 + 10))"
		pid=${guest_pid[one]}
		kill -KILL "$pid"
		guest_wait one
		expect_no_trace "$pid"
		expect_unlocked "$img"
		"$tool" records verify "$img" "$(cat ack)"
	done
}

# KASAN, lockdep and the others watch; errors and delays on demand.
test_debug() {
	use_debug
	image a.img 16M >/dev/null
	expected_complaint='Buffer I/O error|I/O error, dev'
	forbid io_uring_setup=1
	guest one "ubd0=$work/a.img" <<-EOF
		load
		$io_script
		"\$tool" pattern write /dev/ubda 0 32768 1
		fault ubda 'read errno=5 times=1'
		refused dd if=/dev/ubda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
		fault ubda 'any short every=3; any errno=11 every=5; any delay=20 chance=10'
		"\$tool" pattern check /dev/ubda 0 32768 1
		"\$tool" pattern write /dev/ubda 0 8192 2
		"\$tool" syncs /dev/ubda 5 sync
		fault ubda off
		"\$tool" pattern check /dev/ubda 40 960 2
		same 'in flight' "\$(stat_of ubda in_flight)" 0
		unload
		load
		"\$tool" pattern check /dev/ubda 1000 7000 2
		unload
		no_leaks
		lockdep_is_on
	EOF
}
limit[debug]=180

run_tests "$@"
