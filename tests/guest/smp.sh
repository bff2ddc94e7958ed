#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Guests with two CPUs: a queue for each, data and flushes by both at once, disks that
# go while both are busy. And where UML itself falls over: the same without our module.
. "$(dirname "$0")/lib.sh"

default_limit=240

for name in queues verify file_systems cow power_off removal killed killed_without_us; do
	property[$name]=full
done

# In the guest:
#
#	on CPU COMMAND...	runs it there
#	queue_on DISK CPU	the number of that CPU's queue
#	queue_of DISK N COUNTER	of that queue
smp_script='
on() {
	taskset -c "$@"
}
queue_on() {
	local list

	for list in /sys/block/$1/mq/*/cpu_list; do
		if [ "$(cat $list)" = $2 ]; then
			list=${list%/cpu_list}
			echo ${list##*/}
		fi
	done
}
queue_of() {
	awk -v name="$3" "\$1 == name { print \$2; found = 1 } END { exit !found }" $stats_dir/$1/queue$2
}
same CPUs "$(nproc)" 2
'

# Each CPU has its queue, which counts what it was asked for there; the disk counts
# both. What one CPU wrote and flushed the other reads.
test_queues() {
	use_smp
	image a.img 64M >/dev/null
	guest one "ubd0=$work/a.img" "${two_cpus[@]}" <<-EOF
		$smp_script
		load
		same queues "\$(stat_of ubda queues)" 2
		for cpu in 0 1; do
			q=\$(queue_on ubda \$cpu)
			other=\$(queue_on ubda \$((1 - cpu)))
			before=(\$(queue_of ubda \$other write_requests) \$(queue_of ubda \$other flush_requests))
			on \$cpu dd if=/dev/zero of=/dev/ubda bs=64k count=64 oflag=direct status=none
			same "writes of CPU \$cpu" "\$(queue_of ubda \$q write_requests)" 64
			on \$cpu "\$tool" syncs /dev/ubda 10 sync
			same "flushes of CPU \$cpu" "\$(queue_of ubda \$q flush_requests) \$(queue_of ubda \$q host_syncs)" '10 10'
			on \$cpu "\$tool" syncs /dev/ubda 10 fua
			same "FUA of CPU \$cpu" "\$(queue_of ubda \$q host_dsync_writes)" 10
			same "of the other meanwhile" "\$(queue_of ubda \$other write_requests) \$(queue_of ubda \$other flush_requests)" "\${before[*]}"
		done
		for cpu in 0 1; do
			on \$cpu "\$tool" pattern write /dev/ubda \$((cpu * 8192)) 8192 \$((cpu + 1))
		done
		for counter in read_requests write_requests flush_requests host_syncs chunks interrupts polled_completions; do
			same \$counter "\$(stat_of ubda \$counter)" \$((\$(queue_of ubda 0 \$counter) + \$(queue_of ubda 1 \$counter)))
		done
		echo 3 >/proc/sys/vm/drop_caches
		for cpu in 0 1; do
			on \$cpu "\$tool" pattern check /dev/ubda \$(((1 - cpu) * 8192)) 8192 \$((2 - cpu))
		done
		both=\$(stat_of ubda memory_at_rest)
		unload
		load queues=1
		same 'one if asked' "\$(stat_of ubda queues) \$(ls /sys/block/ubda/mq | wc -l)" '1 1'
		echo "memory at rest: \$(stat_of ubda memory_at_rest) bytes with one queue, \$both with two" >>\$work/figures
		on 0 "\$tool" pattern check /dev/ubda 0 8192 1
		on 1 "\$tool" pattern check /dev/ubda 8192 8192 2
		unload
	EOF
	"$tool" pattern check a.img 0 8192 1
	"$tool" pattern check a.img 8192 8192 2
	cat figures
}

# fio on both CPUs at once, each with what it wrote itself; then each what the other
# wrote. With both engines.
test_verify() {
	use_smp
	image a.img 64M >/dev/null
	guest one "ubd0=$work/a.img" "${two_cpus[@]}" <<-EOF
		$smp_script
		# run_fio CPU_OF_A CPU_OF_B WORD...
		run_fio() {
			fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --direct=1 --bsrange=512-128k \
				--size=24M --ioengine=libaio --iodepth=32 --filename=/dev/ubda --eta=never "\${@:3}" \
				--name=a --cpus_allowed=\$1 --offset=0 --name=b --offset=24M --cpus_allowed=\$2 \
				--output=\$work/fio.out || die "\$(tail -n 5 \$work/fio.out)"
		}
		for engine in io_uring threads; do
			load engine=\$engine
			run_fio 0 1 --rw=randwrite --fsync=64 --loops=3
			run_fio 1 0 --rw=randwrite --verify_only
			for q in 0 1; do
				[ "\$(queue_of ubda \$q write_requests)" -gt 100 ] || die "queue \$q was not used"
			done
			same errors "\$(stat_of ubda errors)" 0
			# The timer of one CPU may look just before the other takes the interrupt.
			missed=\$(stat_of ubda missed_wakeups)
			[ "\$missed" -le 50 ] || die "\$missed completions were seen by the timer only"
			same 'in flight' "\$(stat_of ubda in_flight) \$(stat_of ubda queued)" '0 0'
			echo "\$engine: \$(queue_of ubda 0 chunks) and \$(queue_of ubda 1 chunks) parts by the two queues" >>\$work/figures
			unload
		done
	EOF
	cat figures
}

# Processes on both CPUs make, read and remove files, while others verify another disk.
test_file_systems() {
	use_smp
	patience=120
	image a.img 64M >/dev/null
	image b.img 128M >/dev/null
	image c.img 128M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" "ubd2=$work/c.img" "${two_cpus[@]}" <<-EOF
		$smp_script
		load
		mkfs.ext4 -F -q /dev/ubdb
		mkfs.xfs -q -f /dev/ubdc 2>/dev/null || mkfs.ext4 -F -q /dev/ubdc
		mkdir \$mnt/b \$mnt/c
		mount /dev/ubdb \$mnt/b
		mount /dev/ubdc \$mnt/c
		find /usr/share/perl5 /usr/lib/python3 -type f -size -200k 2>/dev/null | head -n 150 >\$mnt/list || true
		tar -C / -cf \$mnt/files.tar -T \$mnt/list 2>/dev/null
		want=\$(sha256sum <\$mnt/files.tar)
		fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --direct=1 --rw=randwrite --bsrange=4k-128k \
			--size=16M --ioengine=libaio --iodepth=16 --fsync=32 --filename=/dev/ubda --eta=never --time_based \
			--runtime=15 --name=a --cpus_allowed=0 --offset=0 --name=b --offset=16M --cpus_allowed=1 \
			--output=\$work/fio.out &
		fio=\$!
		for place in b/0 b/1 c/2 c/3; do
			(
				while kill -0 \$fio 2>/dev/null; do
					mkdir \$mnt/\$place
					cp \$mnt/files.tar \$mnt/\$place/
					tar -C \$mnt/\$place -xf \$mnt/files.tar
					sync -f \$mnt/\$place
					[ "\$(sha256sum <\$mnt/\$place/files.tar)" = "\$want" ] || die "files on \$place are others"
					tar -C \$mnt/\$place -df \$mnt/files.tar || die "files on \$place are others"
					rm -r \$mnt/\$place
					echo \$place >>\$work/turns
				done
			) &
		done
		wait \$fio || die "\$(tail -n 5 \$work/fio.out)"
		wait
		umount \$mnt/b \$mnt/c
		fsck.ext4 -fn /dev/ubdb >\$work/fsck 2>&1 || die "\$(cat \$work/fsck)"
		same 'errors' "\$(stat_of ubda errors) \$(stat_of ubdb errors) \$(stat_of ubdc errors)" '0 0 0'
		unload
	EOF
	echo "$(wc -l <turns) turns of 150 files each, with $(grep -c . turns) syncs, beside fio on both CPUs" | tee figures
}

# A COW file has one queue, for all CPUs.
test_cow() {
	use_smp
	image base.img 32M >/dev/null
	noise base.img 32
	guest one "ubd0=$work/a.cow,$work/base.img" "${two_cpus[@]}" <<-EOF
		$smp_script
		load commit_ms=50
		same queues "\$(stat_of ubda queues)" 1
		cp $work/base.img \$mnt/model
		for cpu in 0 1; do
			(
				for i in \$(seq 40); do
					at=\$(((i * 7 % 64) * 2 + cpu))
					on \$cpu "\$tool" pattern write /dev/ubda \$((at * 256)) 256 \$at
					on \$cpu "\$tool" syncs /dev/ubda 1 sync
				done
			) &
		done
		wait
		for i in \$(seq 40); do
			for cpu in 0 1; do
				at=\$(((i * 7 % 64) * 2 + cpu))
				"\$tool" pattern check /dev/ubda \$((at * 256)) 256 \$at
			done
		done
		same errors "\$(stat_of ubda errors)" 0
		[ "\$(stat_of ubda commits)" -gt 5 ] || die 'hardly a commit'
		unload
	EOF
	"${UBD_COW:-$top/build/ubd-cow}" check a.cow
}

# Both queues have something with the host when the guest ends.
test_power_off() {
	local round

	use_smp
	image a.img 64M >/dev/null
	for round in 1 2 3; do
		guest "r$round" "ubd0=$work/a.img" "${two_cpus[@]}" <<-EOF
			$smp_script
			load
			for cpu in 0 1; do
				on \$cpu fio --thread --direct=1 --rw=randwrite --bs=64k --size=32M --offset=\$((cpu * 32))M --ioengine=libaio \
					--iodepth=64 --filename=/dev/ubda --eta=never --name=a --time_based --runtime=30 \
					--output=/dev/null &
			done
			for q in 0 1; do
				until [ "\$(queue_of ubda \$q write_requests)" -gt 200 ]; do
					sleep 0.02
				done
			done
		EOF
		expect_no_trace
		expect_unlocked "$work/a.img"
	done
}

# The disk goes as soon as both CPUs have closed it, again and again.
test_removal() {
	use_smp
	image a.img 64M >/dev/null
	guest one "ubd0=$work/a.img" "${two_cpus[@]}" <<-EOF
		$smp_script
		for i in 1 2 3 4 5 6 7 8 9 10; do
			load
			for cpu in 0 1; do
				taskset -c \$cpu fio --thread --direct=1 --rw=randrw --bs=4k --size=32M --offset=\$((cpu * 32))M --ioengine=libaio \
					--iodepth=64 --filename=/dev/ubda --eta=never --name=a --time_based --runtime=30 \
					--output=/dev/null &
			done
			for q in 0 1; do
				until [ "\$(queue_of ubda \$q write_requests)" -gt 100 ]; do
					sleep 0.01
				done
			done
			refused unload 2>/dev/null
			kill \$(jobs -p)
			wait || true
			until unload 2>/dev/null; do
				sleep 0.01
			done
			[ ! -e /sys/block/ubda ] || die 'the disk is there'
		done
	EOF
	expect_no_trace
	expect_unlocked "$work/a.img"
}

# idle_guest NAME WORD...: one that has nothing to do; with what the script on stdin
# does before
idle_guest() {
	local name=$1

	guest_start "$@" <<-EOF
		$smp_script
		$(cat)
		touch \$work/\$name.idle
		sleep 1000
	EOF
	guest_await "$name" "$name.idle"
	sleep 1
}

# Ends the guest by a signal as `kill` and a closed terminal do it. What UML with
# CONFIG_SMP makes of it: its handler frees interrupts, which has to sleep, on whatever
# stack the signal came; if the CPU was idle, in the thread that must not. Then it
# aborts, or loops until it is killed. How often is said.
terminate() {
	local pid=${guest_pid[$1]}

	kill -TERM "$pid"
	wait_gone "$pid" $((SECONDS + 5)) || kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	forget_guest "$1"
	log_count "$1" 'bad: scheduling from the idle thread!'
}

# It falls with our disk, too. What was written is there, the lock is free.
test_killed() {
	use_smp
	image a.img 16M >/dev/null
	idle_guest one "ubd0=$work/a.img" "${two_cpus[@]}" <<-'EOF'
		load
		for cpu in 0 1; do
			on $cpu "$tool" pattern write /dev/ubda $((cpu * 8192)) 8192 $((cpu + 1))
		done
	EOF
	echo "with our module: UML says $(terminate one) times: bad: scheduling from the idle thread!" | tee figures
	# Nothing of our module is on a stack that UML shows.
	expect_silent one ' \[a?ubd\]'
	expect_no_trace
	expect_unlocked "$work/a.img"
	"$tool" pattern check a.img 0 8192 1
	"$tool" pattern check a.img 8192 8192 2
}

# The same guest has no disk, and no module.
test_killed_without_us() {
	local n

	use_smp
	idle_guest one "${two_cpus[@]}" <<<''
	expect_silent one 'ubd: |Modules linked in: [a-z]'
	n=$(terminate one)
	echo "without our module: UML says $n times: bad: scheduling from the idle thread!" | tee figures
	expect_silent one 'Modules linked in: [a-z]'
	[ "$n" -gt 0 ] || echo 'UML has learned to end: smp.killed need not expect its fall any more' | tee -a figures
}

run_tests "$@"
