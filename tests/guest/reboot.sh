#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Every way in which a guest ends or starts anew while it writes: what was made
# durable is there for the next one, and no helper process and no lock is left.
. "$(dirname "$0")/lib.sh"

# The script of a guest that writes records until it is ended by \$how, and that
# checks them when it is there for the second time.
records_script='
load
if [ -e $work/ended ]; then
	"$tool" records verify /dev/ubda $(cat $work/ack)
	touch $work/verified
	unload
	exit 0
fi
"$tool" records write /dev/ubda $work/ack &
until [ "$(cat $work/ack 2>/dev/null || echo 0)" -ge 300 ]; do
	sleep 0.05
done
touch $work/writing
until_file $work/ended
case $how in
reboot) "$tool" power restart ;;
poweroff) "$tool" power off ;;
sysrq-*) echo ${how#sysrq-} >/proc/sysrq-trigger ;;
esac
sleep 1000
'

# crash HOW [WORD...]: ends a guest that writes
crash() {
	local how=$1
	local img
	local relay
	local pid
	local children

	shift
	img=$(image a.img 16M)
	tell_about=("$img")
	guest_start one "ubd0=$img" "$@" <<-EOF
		how=$how
		$records_script
	EOF
	guest_await one writing
	pid=${guest_pid[one]}
	relay=$(relay_of one)
	[ -n "$relay" ] || fail "no helper process is found while the guest runs"
	mapfile -t children < <(pgrep -P "$pid")
	touch ended
	case $how in
	SIG*) kill -s "${how#SIG}" "$pid" ;;
	esac
	await_end one "${children[@]}"
	[ "$(cat ack)" -ge 300 ] || fail "hardly anything was written"
	if [ ! -e verified ]; then
		expected_complaint=
		how=none
		guest two "ubd0=$img" <<-EOF
			how=none
			$records_script
		EOF
	fi
	[ -e verified ] || fail "no second guest came"
	expect_no_trace "$pid" "${children[@]}"
	expect_unlocked "$img"
}

# The end of guest NAME, whether it is the process's or only the kernel's, which
# may start anew in the same process. The helper has to go in both cases.
await_end() {
	guest_wait "$1"
	shift
	expect_no_trace "$@"
}

test_poweroff_while_writing() {
	crash poweroff
}

test_reboot() {
	crash reboot
	expect_eq 'boots' "$(log_count one '^Linux version')" 2
}

test_sysrq_b() {
	crash sysrq-b
	expect_eq 'boots' "$(log_count one '^Linux version')" 2
}

test_panic() {
	expected_complaint='Kernel panic|Call Trace|sysrq triggered crash|Oops'
	crash sysrq-c panic=1
}

# On these signals UML closes its consoles in the very handler, wherever it was: the
# kernel may complain that it frees their interrupts from an interrupt (its own).
own_end='WARNING: CPU: .* at kernel/irq/manage\.c:[0-9]+ free_irq|Call Trace'

test_sigterm() {
	expected_complaint=$own_end
	crash SIGTERM
}

test_sigint() {
	expected_complaint=$own_end
	crash SIGINT
}

test_sigkill() {
	crash SIGKILL
}

# The same with all that can be under way: deep queues on two disks, and swap.
busy_script='
load
if [ -e $work/ended ]; then
	"$tool" pattern check /dev/ubda 0 8192 1
	dd if=/dev/ubdb of=/dev/null bs=1M status=none
	unload
	touch $work/again
	exit 0
fi
mkswap /dev/ubdc >/dev/null
swapon /dev/ubdc
"$tool" pattern write /dev/ubda 0 8192 1
"$tool" hog 100 1000 &
for disk in ubda ubdb; do
	fio --thread --direct=1 --rw=randrw --bsrange=512-256k --offset=8M --size=48M --ioengine=libaio --iodepth=64 \
		--time_based --runtime=100 --name=$disk --filename=/dev/$disk --fsync=100 >$work/fio.$disk 2>&1 &
done
sleep 2
touch $work/busy
until_file $work/ended
case $how in
reboot) "$tool" power restart ;;
poweroff) "$tool" power off ;;
sysrq-*) echo ${how#sysrq-} >/proc/sysrq-trigger ;;
esac
sleep 1000
'

crash_busy() {
	local how=$1
	local relay
	local pid
	local words

	image a.img 64M >/dev/null
	image b.img 64M >/dev/null
	image c.img 256M >/dev/null
	words=("ubd0=$work/a.img" "ubd1=$work/b.img" "ubd2=$work/c.img")
	mem=96M
	guest_start one "${words[@]}" <<-EOF
		how=$how
		$busy_script
	EOF
	guest_await one busy
	pid=${guest_pid[one]}
	relay=$(relay_of one)
	touch ended
	case $how in
	SIG*) kill -s "${how#SIG}" "$pid" ;;
	esac
	guest_wait one
	expected_complaint=
	case $how in
	# It comes again by itself.
	reboot | sysrq-b) expect_eq status "$status" 0 ;;
	*)
		guest two "${words[@]}" <<-EOF
			how=none
			$busy_script
		EOF
		;;
	esac
	[ -e again ] || fail 'no second guest found what was written'
	expect_no_trace "$pid" "$relay"
	for file in a b c; do
		expect_unlocked "$work/$file.img"
	done
}

test_busy_reboot() {
	crash_busy reboot
}

test_busy_poweroff() {
	crash_busy poweroff
}

test_busy_sysrq_b() {
	crash_busy sysrq-b
}

test_busy_sigterm() {
	expected_complaint=$own_end
	crash_busy SIGTERM
}

test_busy_sigkill() {
	crash_busy SIGKILL
}

# Somebody kills the helper: slower, but nothing hangs and nothing is lost.
test_helper_killed() {
	local img

	img=$(image a.img 16M)
	guest_start one "ubd0=$img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 8192 1
		touch $work/ready
		until_file $work/killed
		"$tool" syncs /dev/ubda 5 sync
		dd if=/dev/urandom of=/dev/ubda bs=1M count=4 seek=8 oflag=direct status=none
		"$tool" pattern check /dev/ubda 40 8152 1
		[ "$(stat_of ubda missed_wakeups)" -gt 0 ] || echo "nothing was missed"
		same errors "$(stat_of ubda errors)" 0
		unload
		load
		"$tool" pattern check /dev/ubda 40 8152 1
		"$tool" syncs /dev/ubda 50 sync
		unload
	EOF
	guest_await one ready
	kill -KILL "$(relay_of one)"
	touch killed
	guest_wait one
	expect_eq status "$status" 0
}

# A disk that is being added when the guest reboots, since somebody has its lock;
# another one that comes too late; and one that grows. The kernel waits for its helper
# programs after it has called our notifier: one that sleeps leaves them some seconds.
test_plug_at_reboot() {
	local holder

	use_debug
	mkdir images
	image a.img 16M >/dev/null
	image base.img 16M >/dev/null
	image images/b.img 16M >/dev/null
	image images/c.img 16M >/dev/null
	"$top/build/ubd-cow" create a.cow base.img
	printf '#!/bin/sh\nsleep 100\n' >helper
	chmod +x helper
	"$tool" lock-hold images/b.img held &
	holder=$!
	at_end "kill $holder 2>/dev/null"
	until [ -s held ]; do sleep 0.05; done
	guest_start one "ubd0=$work/a.img" "ubd1=$work/a.cow" "ubd=hotplug:$work/images" <<-'EOF'
		load
		if [ -e $work/again ]; then
			"$tool" pattern check /dev/ubda 0 8192 1
			"$tool" pattern check /dev/ubdb 0 8192 2
			same 'size' "$(blockdev --getsize64 /dev/ubdb)" $((256 << 20))
			plug waits path=b.img
			plug late path=c.img
			unplug waits
			unplug late
			unload
			lockdep_is_on
			exit 0
		fi
		"$tool" pattern write /dev/ubda 0 8192 1
		"$tool" pattern write /dev/ubdb 0 8192 2
		mount -t configfs configfs /sys/kernel/config
		mkdir /sys/kernel/config/ubd/waits /sys/kernel/config/ubd/late
		echo b.img >/sys/kernel/config/ubd/waits/path
		echo c.img >/sys/kernel/config/ubd/late/path
		echo $work/helper >/proc/sys/kernel/modprobe
		mknod $mnt/nobody c 61 0
		cat $mnt/nobody &
		echo 1 >/sys/kernel/config/ubd/waits/power &
		sleep 1
		touch $work/again
		{
			sleep 1
			echo 1 >/sys/kernel/config/ubd/late/power || true
			truncate -s 256M $work/base.img
			echo 1 >/sys/block/ubdb/ubd/resize
			touch $work/grown
		} &
		"$tool" power restart
	EOF
	guest_await one again
	sleep 1.5
	kill "$holder"
	guest_wait one
	expect_eq status "$status" 0
	expect_eq boots "$(log_count one '^Linux version')" 2
	[ -e grown ] || fail 'there was no time left'
	expect_once one 'ubdc: b.img: is not added: the guest goes down; '
	expect_once one 'ubdc: c.img: is not added: the guest goes down; '
}

# The helper was killed, and the host has no descriptors for another one. Its number
# comes to somebody else, who must not be killed when the guest ends.
test_helper_not_replaced() {
	local img dead stranger

	{ echo 20000 >/proc/sys/kernel/ns_last_pid; } 2>/dev/null || skip 'who is not root cannot choose the number of a process'
	img=$(image a.img 16M)
	# A program that is begun needs descriptors of the host's, too: none is, meanwhile.
	guest_start one "ubd0=$img" <<-'EOF'
		load
		"$tool" records write /dev/ubda $work/ack &
		until_file $work/ack
		touch $work/ready
		while [ ! -e $work/taken ]; do
			:
		done
		echo o >/proc/sysrq-trigger
		while :; do
			:
		done
	EOF
	guest_await one ready
	dead=$(relay_of one)
	prlimit --pid "${guest_pid[one]}" --nofile=8:
	kill -KILL "$dead"
	for i in $(seq 300); do
		[ "$(log_count one 'was killed and cannot be started')" = 0 ] || break
		sleep 0.1
	done
	expect_log one 'was killed and cannot be started: error -24;'
	for i in $(seq 20); do
		echo $((dead - 1)) >/proc/sys/kernel/ns_last_pid
		sleep 100 &
		stranger=$!
		[ "$stranger" != "$dead" ] || break
		kill "$stranger"
		wait "$stranger" 2>/dev/null || true
	done
	at_end "kill $stranger"
	expect_eq 'number of the other process' "$stranger" "$dead"
	touch taken
	guest_wait one
	expect_eq status "$status" 0
	grep -q '^State:.*sleeping' "/proc/$stranger/status" || fail 'the module killed a process that is not its own'
}

# Signals from outside mean nothing by themselves.
test_stray_signals() {
	local img
	local i

	img=$(image a.img 16M)
	guest_start one "ubd0=$img" <<-'EOF'
		load
		"$tool" records write /dev/ubda $work/ack &
		until_file $work/end
		kill $!
		wait $! || true
		"$tool" records verify /dev/ubda $(cat $work/ack)
		unload
	EOF
	guest_await one ack
	for i in $(seq 300); do
		kill -IO "${guest_pid[one]}"
		[ $((i % 100)) != 0 ] || { kill -STOP "${guest_pid[one]}" && sleep 1 && kill -CONT "${guest_pid[one]}"; }
	done
	sleep 1
	touch end
	guest_wait one
	expect_eq status "$status" 0
}

# Killed in the middle of making a process: what is left of that must not keep
# the image.
test_sigkill_while_forking() {
	local img
	local i

	img=$(image a.img 16M)
	tell_about=("$img")
	for i in $(seq 8); do
		rm -f ready
		guest_start one "ubd0=$img" <<-'EOF'
			load
			for i in 1 2 3; do
				while :; do
					/bin/true
				done &
			done
			touch $work/ready
			until_file $work/never
		EOF
		guest_await one ready
		sleep "0.$((RANDOM % 90 + 10))"
		kill -KILL "${guest_pid[one]}"
		guest_wait one
		"$tool" lock-wait "$img" 5 || fail "the image is locked after kill number $i"
	done
}

# Many reboots of one process, each with the disk.
test_reboot_again_and_again() {
	local img
	local pid

	img=$(image a.img 16M)
	guest_start one "ubd0=$img" <<-'EOF'
		load
		boot=$(($(cat $work/boot 2>/dev/null || echo 0) + 1))
		echo $boot >$work/boot
		[ $boot = 1 ] || "$tool" pattern check /dev/ubda 0 8192 $((boot - 1))
		"$tool" pattern write /dev/ubda 0 8192 $boot
		[ $boot = 8 ] || "$tool" power restart
	EOF
	pid=${guest_pid[one]}
	guest_wait one
	expect_eq status "$status" 0
	expect_eq boots "$(cat boot)" 8
	expect_no_trace "$pid"
	expect_unlocked "$img"
}

# The guest stops, and with it the helper; the lock stays: nobody else may write.
test_stopped_guest_keeps_lock() {
	local img

	img=$(image a.img 16M)
	guest_start one "ubd0=$img" <<-'EOF'
		load
		touch $work/ready
		until_file $work/go
	EOF
	guest_await one ready
	kill -STOP "${guest_pid[one]}"
	! "$tool" lock-wait "$img" 1 || fail "a stopped guest lost its lock"
	kill -CONT "${guest_pid[one]}"
	touch go
	guest_wait one
	expect_eq status "$status" 0
	expect_unlocked "$img"
}

run_tests "$@"
