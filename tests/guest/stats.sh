#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a disk says of itself in sysfs, /sys/block/<disk>/ubd: it is what debugfs
# says, and what is in flight is in the state that it is in.
. "$(dirname "$0")/lib.sh"

# In the guest: same_as_debugfs DISK
stats_script='
same_as_debugfs() {
	local dir=/sys/block/$1/ubd
	local name value

	while read -r name value; do
		same "$1/$name" "$(<$dir/$name)" "$value"
	done <$stats_dir/$1/stats
	same "files of $1" "$(cd $dir && echo *)" \
		"$({ echo backing engine mode path resize resume state werror; cut -d " " -f 1 $stats_dir/$1/stats; } | tr " " "\n" | sort | xargs)"
}
'

# Each value is there once, one in each file, as debugfs has it.
test_sysfs() {
	image a.img 16M >/dev/null
	image base.img 16M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/b.cow,$work/base.img" "ubd2rs=$work/base.img" <<-EOF
		$stats_script
		set -- commit_ms=0
		load "\$@"
		dir=/sys/block/ubda/ubd
		before=\$(cat \$dir/read_requests)
		dd if=/dev/ubda of=/dev/null iflag=direct bs=4k count=100 status=none
		same reads \$((\$(cat \$dir/read_requests) - before)) 100
		dd if=/dev/zero of=/dev/ubda oflag=direct bs=8k count=10 status=none
		same writes "\$(cat \$dir/write_requests) \$(cat \$dir/write_bytes)" '10 81920'
		blkdiscard -o 64k -l 64k /dev/ubda
		same discards "\$(cat \$dir/discard_requests) \$(cat \$dir/discard_bytes)" '1 65536'
		blkdiscard -z -o 64k -l 8k /dev/ubda
		same zeroes "\$(cat \$dir/write_zeroes_requests) \$(cat \$dir/write_zeroes_bytes)" '1 8192'
		sync /dev/ubda
		same flushes "\$(cat \$dir/flush_requests) \$(cat \$dir/host_syncs)" '1 1'
		dd if=/dev/zero of=/dev/ubdb oflag=direct bs=4k count=3 status=none
		same dirty "\$(cat /sys/block/ubdb/ubd/dirty_sectors)" 24
		for each in ubda ubdb ubdc; do
			same_as_debugfs \$each
		done
		sync /dev/ubdb
		same 'dirty, and commits' "\$(cat /sys/block/ubdb/ubd/dirty_sectors) \$(cat /sys/block/ubdb/ubd/commits)" '0 1'
		same paths "\$(cat /sys/block/ubd[ab]/ubd/{path,backing} | xargs)" "$work/a.img $work/b.cow $work/base.img"
		same modes "\$(cat /sys/block/ubd?/ubd/mode | xargs)" 'writeback writeback writethrough'
		same engine "\$(cat \$dir/engine)" $own_engine
		# For everybody, but for the names of the host's files.
		nobody() {
			setpriv --reuid 65534 --regid 65534 --clear-groups "\$@" 2>&1
		}
		same "nobody's requests" "\$(nobody cat \$dir/read_requests)" "\$(cat \$dir/read_requests)"
		same 'what nobody can read' "\$(nobody find \$dir ! -readable -printf '%f\n' | sort | xargs)" 'backing path resize resume'
		same 'what can be written' "\$(find \$dir -type f -perm /222 -printf '%f %m\n' | sort | xargs)" 'resize 200 resume 200'
		# Each is in the manual page.
		# What is explained, and the words at the end.
		manual=\$(awk '/^.SH/ { in_it = /STATISTICS/ } in_it && (titled || /^.IR? (mode|engine|path|backing|resize|werror|state|resume)/) { print } { titled = /^.TP/ }' \
			$top/Documentation/man/ubd.4)
		for each in \$(ls \$dir); do
			case \$each in
			read_* | write_* | flush_* | discard_*) each=_\${each##*_} ;;
			esac
			grep -qw "\$each" <<<"\$manual" || die "\$each is not in the manual page"
		done
		# Read all the time while the disk goes.
		while cat \$dir/[!r]*; do
			touch \$mnt/read
		done >/dev/null 2>&1 &
		until_file \$mnt/read
		unload
		wait
		[ ! -e \$dir ]
	EOF
}

# In flight by state: held by the host, to be tried again, behind another flush,
# queued; and the commit that is nobody's request.
test_in_flight() {
	use_debug
	image base.img 16M >/dev/null
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1s=$work/b.cow,$work/base.img" <<-EOF
		$stats_script
		disk=ubda
		load queue_depth=4 commit_ms=0
		names='in_flight in_flight_host in_flight_retry in_flight_flush committing queued'
		# states WANTED: of \$names, within two seconds; debugfs agrees
		states() {
			local i

			for i in \$(seq 40); do
				is=\$(cd /sys/block/\$disk/ubd && cat \$names | xargs)
				[ "\$is" != "\$1" ] || break
				sleep 0.05
			done
			same "\$names" "\$is" "\$1"
			# Looking twice, a retry may have come between.
			[ "\$2" = moving ] || same_as_debugfs \$disk
		}
		dd if=/dev/zero of=/dev/ubda oflag=direct bs=4k seek=1 count=1 status=none
		states '0 0 0 0 0 0' still
		# Three parts in two files.
		fault ubda 'read drop'
		dd if=/dev/ubda of=/dev/null iflag=direct bs=12k count=1 status=none &
		states '3 3 0 0 0 0' still
		# One more than the ring has room for: two parts wait.
		dd if=/dev/ubda of=/dev/null iflag=direct bs=12k count=1 status=none &
		states '4 4 0 0 0 1' still
		fault ubda off
		wait
		states '0 0 0 0 0 0' still
		fault ubda 'write errno=11'
		dd if=/dev/zero of=/dev/ubda oflag=direct bs=4k seek=1 count=1 status=none &
		states '1 0 1 0 0 0' moving
		fault ubda off
		wait
		fault ubda 'sync drop'
		sync /dev/ubda &
		states '1 1 0 0 0 0' still
		fault ubda off
		wait
		# Durable when they end, by one commit at a time.
		fault ubdb 'sync drop'
		for i in 1 2 3; do
			dd if=/dev/zero of=/dev/ubdb oflag=direct bs=4k seek=\$i count=1 status=none &
		done
		disk=ubdb
		states '3 1 0 2 0 0' still
		fault ubdb off
		wait
		states '0 0 0 0 0 0' still
		unload
		load commit_ms=200
		disk=ubda
		fault ubda 'sync drop'
		dd if=/dev/zero of=/dev/ubda oflag=direct bs=4k seek=9 count=1 status=none
		states '0 1 0 0 1 0' still
		fault ubda off
		states '0 0 0 0 0 0' still
		unload
		lockdep_is_on
	EOF
}

run_tests "$@"
