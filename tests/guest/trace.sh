#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The tracepoints: the life of one request of each kind, event by event, with all
# that they say. Loads come from tests/bench/load, one bio at a time.
. "$(dirname "$0")/lib.sh"

# In the guest:
#
#	trace DISK WORD...	does a load of one operation, and keeps its events
#	saw EVENT...		these were all, in this order; the first ticket is 0
trace_script='
insmod $work/load/ubd_load.ko
load "$@"
tracing=/sys/kernel/tracing
mount -t tracefs tracefs $tracing
events() {
	sed -n "s/^.* ubd_\([a-z]*\): /\1 /p" $tracing/trace | awk "
		BEGIN { tickets = 0 }
		{
			for (i = 2; i <= NF; i++) {
				split(\$i, part, \"=\")
				if ((part[1] != \"ticket\" && part[1] != \"leader\") || part[2] == -1)
					continue
				if (!(part[2] in seen))
					seen[part[2]] = tickets++
				\$i = part[1] \"=\" seen[part[2]]
			}
			sub(/ disk=$disk /, \" \")
			print
		}"
}
run() {
	exec 3<>/sys/kernel/debug/ubd_load
	echo "dev=/dev/$disk ms=0 depth=1 ios=1 order=seq bs=4k offset=64k $*" >&3
	cat <&3 >/dev/null
	exec 3>&-
}
trace() {
	disk=$1
	shift
	what="$disk $*"
	echo 0 >$tracing/trace
	run "$@"
}
saw() {
	diff <([ $# = 0 ] || printf "%s\n" "$@") <(events) || die "these events of $what are not as they should be"
}
echo 1 >$tracing/events/ubd/enable
'

build_load() {
	mkdir -p "$work/load"
	cp -rs "$top/tests/bench/load/." "$work/load/"
	env -u MAKEFLAGS -u MFLAGS make -s -C "$(dirname "$kernel")" ARCH=um "M=$work/load" modules
}

# Each kind, on a raw file.
test_raw() {
	use_debug
	image a.img 16M >/dev/null
	build_load
	guest one "ubd0=$work/a.img" <<-EOF
		$trace_script
		place='file=0 offset=65536 bytes=4096'
		one='submit entries=1 left=0 error=0'
		for io in read.read write.write 'write fua=1.write_sync' discard.punch zeroes.punch flush.sync; do
			op=\${io%%[ .]*} host=\${io#*.}
			bytes=0 flags= kind=\$op
			case \$io in
			read* | write*) bytes=4096 ;;
			zeroes*) kind=write_zeroes ;;
			esac
			case \$io in
			*fua*) flags=fua ;;
			flush*) place='file=0 offset=0 bytes=0' ;;
			esac
			first="sector=128 \${place##* }"
			[ \$op != flush ] || first='sector=0 bytes=0'
			trace ubda op=\${io%.*}
			saw "enqueue ticket=0 op=\$kind flags=\$flags \$first last=1" 'begin ticket=0 reserve=0' \
				"chunk ticket=0 op=\$host \$place" "\$one" "completed ticket=0 op=\$host \$place result=\$bytes" \
				"end ticket=0 op=\$kind status=ok"
		done
		# Only what is watched comes.
		echo 0 >\$tracing/events/ubd/enable
		trace ubda op=read
		saw
		echo 1 >\$tracing/events/ubd/ubd_end/enable
		trace ubda op=read
		saw 'end ticket=0 op=read status=ok'
		# And the module goes while it is watched.
		echo 1 >\$tracing/events/ubd/enable
		unload
		[ ! -e \$tracing/events/ubd ]
		load
		trace ubda op=read
		saw
		echo 'disk == "ubda"' >\$tracing/events/ubd/filter
		echo 1 >\$tracing/events/ubd/enable
		trace ubda op=read
		same events "\$(events | wc -l)" 6
		echo 'disk == "ubdb"' >\$tracing/events/ubd/filter
		trace ubda op=read
		saw
		unload
		lockdep_is_on
	EOF
}

# What the host does not do at once, and why. An operation that a rule of faults
# makes fail is never handed over.
test_retries() {
	use_debug
	image a.img 16M >/dev/null
	build_load
	guest one "ubd0=$work/a.img" <<-EOF
		$trace_script
		place='file=0 offset=65536 bytes=4096'
		rest='file=0 offset=67584 bytes=2048'
		one='submit entries=1 left=0 error=0'
		read='enqueue ticket=0 op=read flags= sector=128 bytes=4096 last=1'
		fault ubda 'read short times=1; read errno=4 times=1; read errno=11 times=1; submit errno=16 times=1'
		trace ubda op=read
		saw "\$read" 'begin ticket=0 reserve=0' "chunk ticket=0 op=read \$place" 'submit entries=1 left=1 error=16' \
			"\$one" "completed ticket=0 op=read \$place result=2048" \
			"retry ticket=0 op=read \$rest why=short error=0 later=0" "chunk ticket=0 op=read \$rest" \
			"completed ticket=0 op=read \$rest result=-4" \
			"retry ticket=0 op=read \$rest why=error error=4 later=0" "chunk ticket=0 op=read \$rest" \
			"completed ticket=0 op=read \$rest result=-11" \
			"retry ticket=0 op=read \$rest why=error error=11 later=1" "chunk ticket=0 op=read \$rest" "\$one" \
			"completed ticket=0 op=read \$rest result=2048" 'end ticket=0 op=read status=ok'
		fault ubda 'write errno=28 times=1'
		trace ubda op=write
		saw "\${read//read/write}" 'begin ticket=0 reserve=0' "chunk ticket=0 op=write \$place" \
			"completed ticket=0 op=write \$place result=-28" 'end ticket=0 op=write status=nospc'
		fault ubda 'punch errno=95 times=1'
		trace ubda op=zeroes
		saw "\${read//read/write_zeroes}" 'begin ticket=0 reserve=0' "chunk ticket=0 op=punch \$place" \
			"completed ticket=0 op=punch \$place result=-95" \
			"retry ticket=0 op=zero \$place why=fallback error=95 later=0" "chunk ticket=0 op=zero \$place" "\$one" \
			"completed ticket=0 op=zero \$place result=0" 'end ticket=0 op=write_zeroes status=ok'
		# More requests than the pools have, which are not filled again.
		fail_slab
		echo 0 >\$tracing/trace
		fault ubda 'read drop'
		for i in \$(seq 12); do
			dd if=/dev/ubda of=/dev/null bs=4k count=1 iflag=direct status=none &
		done
		until [ "\$(stat_of ubda header_reserve_uses)" -gt 0 ]; do
			sleep 0.05
		done
		fault ubda off
		wait
		faults_end failslab >/dev/null
		same 'requests of the reserve' "\$(events | grep -c '^begin .* reserve=1')" "\$(stat_of ubda header_reserve_uses)"
		unload
		lockdep_is_on
	EOF
}

# COW: parts in two files, space for bits, the phases of commits, who shares one,
# and the commit of nobody's.
test_cow() {
	use_debug
	image base.img 16M >/dev/null
	build_load
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1s=$work/b.cow,$work/base.img" <<-EOF
		set -- commit_ms=0
		$trace_script
		# The bitmap is one block, at 8192, and the data behind it.
		one='submit entries=1 left=0 error=0'
		bits='file=0 offset=8192 bytes=4096'
		place='file=0 offset=77824 bytes=4096'
		no_place='file=0 offset=0 bytes=0'
		# commit TICKET: its events
		commit() {
			printf '%s\n' "commit ticket=\$1 phase=data sectors=8 status=ok" "chunk ticket=\$1 op=sync \$no_place" "\$one" \
				"completed ticket=\$1 op=sync \$no_place result=0" \
				"commit ticket=\$1 phase=blocks sectors=8 status=ok" "chunk ticket=\$1 op=write \$bits" "\$one" \
				"completed ticket=\$1 op=write \$bits result=4096" \
				"commit ticket=\$1 phase=bits sectors=8 status=ok" "chunk ticket=\$1 op=sync \$no_place" "\$one" \
				"completed ticket=\$1 op=sync \$no_place result=0" "commit ticket=\$1 phase=end sectors=0 status=ok"
		}
		trace ubda op=write
		saw 'enqueue ticket=0 op=write flags= sector=128 bytes=4096 last=1' 'begin ticket=0 reserve=0' \
			"chunk ticket=0 op=allocate \$bits" "\$one" "completed ticket=0 op=allocate \$bits result=0" \
			"chunk ticket=0 op=write \$place" "\$one" "completed ticket=0 op=write \$place result=4096" \
			'end ticket=0 op=write status=ok'
		trace ubda op=flush
		saw 'enqueue ticket=0 op=flush flags= sector=0 bytes=0 last=1' 'begin ticket=0 reserve=0' "\$(commit 0)" \
			'end ticket=0 op=flush status=ok'
		trace ubda op=flush
		saw 'enqueue ticket=0 op=flush flags= sector=0 bytes=0 last=1' 'begin ticket=0 reserve=0' \
			'commit ticket=0 phase=data sectors=0 status=ok' "chunk ticket=0 op=sync \$no_place" "\$one" \
			"completed ticket=0 op=sync \$no_place result=0" 'commit ticket=0 phase=end sectors=0 status=ok' \
			'end ticket=0 op=flush status=ok'
		trace ubda op=read bs=8k offset=60k
		saw 'enqueue ticket=0 op=read flags= sector=120 bytes=8192 last=1' 'begin ticket=0 reserve=0' \
			'chunk ticket=0 op=read file=1 offset=61440 bytes=4096' "chunk ticket=0 op=read \$place" \
			'submit entries=2 left=0 error=0' 'completed ticket=0 op=read file=1 offset=61440 bytes=4096 result=4096' \
			"completed ticket=0 op=read \$place result=4096" 'end ticket=0 op=read status=ok'
		# Nothing is there to be punched.
		trace ubda op=discard bs=64k offset=1m
		saw 'enqueue ticket=0 op=discard flags= sector=2048 bytes=65536 last=1' 'begin ticket=0 reserve=0' \
			'end ticket=0 op=discard status=ok'
		# Durable writes; two wait for the first one's commit, and share the next.
		disk=ubdb
		run op=write
		fault ubdb 'sync delay=60000 times=1'
		echo 0 >\$tracing/trace
		for i in 1 2 3; do
			dd if=/dev/zero of=/dev/ubdb oflag=direct bs=4k seek=\$i count=1 status=none &
		done
		until [ "\$(cat /sys/block/ubdb/ubd/in_flight_flush)" = 2 ]; do
			sleep 0.05
		done
		fault ubdb off
		wait
		same shares "\$(events | grep ^share)" 'share ticket=2 leader=1'
		same ends "\$(events | grep -c '^end .* op=write status=ok')" 3
		# What the fdatasync of the data was told decides.
		fault ubdb 'sync errno=5'
		trace ubdb op=write offset=1m
		same commits "\$(events | grep ^commit)" \
			"\$(printf '%s\n' 'commit ticket=0 phase=data sectors=8 status=ok' 'commit ticket=0 phase=end sectors=0 status=ioerr')"
		same ends "\$(events | grep ^end)" 'end ticket=0 op=write status=ioerr'
		trace ubdb op=write
		saw 'enqueue ticket=0 op=write flags= sector=128 bytes=4096 last=1' 'end ticket=0 op=write status=ioerr'
		# Nobody asks for it.
		unload
		load commit_ms=300
		disk=ubda
		committed() {
			until [ "\$(stat_of ubda commits)" = \$1 ]; do
				sleep 0.05
			done
		}
		run op=write offset=2m
		committed 1
		echo 1 >\$tracing/events/ubd/enable
		trace ubda op=write offset=3m
		committed 2
		place='file=0 offset=3158016 bytes=4096'
		saw 'enqueue ticket=0 op=write flags= sector=6144 bytes=4096 last=1' 'begin ticket=0 reserve=0' \
			"chunk ticket=0 op=write \$place" "\$one" "completed ticket=0 op=write \$place result=4096" \
			'end ticket=0 op=write status=ok' "\$(commit -1)"
		unload
		lockdep_is_on
	EOF
}

# Watched while there is much to do: each event is there, and they sum up to what
# the statistics say.
test_under_load() {
	use_debug
	image base.img 64M >/dev/null
	build_load
	guest one "ubd0s=$work/a.cow,$work/base.img" <<-EOF
		set -- commit_ms=100
		$trace_script
		echo 8192 >\$tracing/buffer_size_kb
		disk=ubda
		counters() {
			awk '/^[a-z_]*_requests/ { n += \$2 } \$1 == "submit_calls" || \$1 == "commits" || \$1 == "syncs_shared" { print }
				END { print "requests", n }' \$stats_dir/ubda/stats
		}
		# grew COUNTER: since the file was written
		grew() {
			echo \$((\$(counters | sed -n "s/^\$1 //p") - \$(sed -n "s/^\$1 //p" \$mnt/before)))
		}
		events_of() {
			grep -c "^\$1" \$mnt/events || true
		}
		echo 0 >\$tracing/events/ubd/enable
		counters >\$mnt/before
		echo 0 >\$tracing/trace
		echo 1 >\$tracing/events/ubd/enable
		exec 3<>/sys/kernel/debug/ubd_load 4<>/sys/kernel/debug/ubd_load
		echo "dev=/dev/ubda ms=0 op=write depth=16 ios=1500 bs=4k" >&3 &
		echo "dev=/dev/ubda ms=0 depth=16 ios=1500 bs=16k seed=2" >&4
		wait
		exec 3>&- 4>&-
		until [ "\$(stat_of ubda dirty_sectors)" = 0 ] && [ "\$(stat_of ubda in_flight_host)" = 0 ]; do
			sleep 0.05
		done
		echo 0 >\$tracing/events/ubd/enable
		events >\$mnt/events
		same 'events lost' "\$(cat \$tracing/per_cpu/cpu0/stats | awk '/^overrun|^dropped/ { n += \$NF } END { print n }')" 0
		echo "\$(wc -l <\$mnt/events) events"
		requests=\$(grew requests)
		[ \$requests -gt 2000 ]
		for each in enqueue begin end 'end .* status=ok'; do
			same "events \$each" \$(events_of "\$each") \$requests
		done
		same completed \$(events_of completed) \$(events_of chunk)
		same submit \$(events_of submit) \$(grew submit_calls)
		[ \$(events_of share) -gt 0 ]
		same share \$(events_of share) \$(grew syncs_shared)
		[ \$(events_of commit) -gt 0 ]
		same commits \$(events_of 'commit .* phase=bits') \$(grew commits)
		# For each request its events are in their order.
		awk '{
			split(\$2, part, "=")
			if (part[1] != "ticket" || part[2] == -1)
				next
			t = part[2]
			if (\$1 == "enqueue") bad = bad || was[t] != ""
			if (\$1 == "begin") bad = bad || was[t] != "enqueue"
			if (\$1 == "chunk") { bad = bad || was[t] == "" || was[t] == "enqueue" || was[t] == "end"; open[t]++ }
			if (\$1 == "completed") { bad = bad || was[t] == "end"; open[t]-- }
			if (\$1 == "end") bad = bad || was[t] == "enqueue" || open[t]
			was[t] = \$1
			if (bad) { print "out of order: " \$0; exit 1 }
		}' \$mnt/events
		unload
		lockdep_is_on
	EOF
	grep -a ' events' one.log | tail -n 1
}

run_tests "$@"
