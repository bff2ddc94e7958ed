#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The documentation: the user's guide is done as it is written, in an empty home, and
# each command of the other pages says which test runs it.
. "$(dirname "$0")/lib.sh"

test_guide() {
	mkdir home
	ln -s "$top" home/ubd
	# What an ordinary user has.
	export HOME=$work/home PATH=/usr/local/bin:/usr/bin:/bin
	unset UBD UBD_CACHE XDG_CACHE_HOME
	cd home
	python3 "$guest_dir/docs.py" run "$top/Documentation/guide.md" || fail 'the guide is wrong'
}

test_others() {
	(cd "$top" && tests/run.sh --list) >tests
	echo build >>tests
	python3 "$guest_dir/docs.py" others "$top" tests || fail 'commands that nobody runs'
}

# Those of ubd-cow(1), one after the other, with a small image; what begins a guest or
# writes elsewhere than here is left to others.
test_cow_examples() {
	local line

	truncate -s 8M debian.img debian-new.img
	mkdir srv
	PATH=$top/build:$PATH
	sed -n '/^.SH EXAMPLES/,/^.SH SEE/p' "$top/Documentation/man/ubd-cow.1" | grep -E '^(ubd-cow|cp|rm|linux) ' |
		sed "s,/srv/,$work/srv/," >examples
	while read -r line; do
		case $line in
		linux*) continue ;; # as in boot.documented
		rm*) cp --sparse=always test.cow kept.cow ;; # the next ones go on with it
		*debian-new.img) touch -r debian.img debian-new.img ;;
		esac
		echo "$line"
		bash -ec "$line" || fail "ubd-cow(1): $line"
		[[ $line != rm* ]] || mv kept.cow test.cow
	done <examples
	[ "$(wc -l <examples)" -ge 6 ] || fail 'where are the examples?'
	expect_eq 'size at last' "$(ubd-cow info test.cow | awk '/^size of the device/ { print $5 }')" $((20 << 30))
}

# What is typed in a guest: the lines as they stand there. Only names that say that
# they are to be chosen are chosen here, and what would run for ever is ended.
test_in_guest() {
	local page begin i=0

	use_debug
	mkdir images
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	image images/base.img 16M >/dev/null
	while read -r page begin; do
		python3 "$guest_dir/docs.py" block "$top/Documentation/$page" "$begin" >block || fail "$page has no block with: $begin"
		i=$((i + 1))
		sed "s,/some/where,$work/kept,; s,DISK,ubda,; s,COMMAND,dd if=/dev/ubda of=/dev/null count=8 iflag=direct status=none,; s,-d 60 -n 60,-d 1 -n 2," block \
			>lines.$i
	done <<-'END'
		testing.md echo 'write errno=28
		testing.md echo 'mark 1'
		man/ubd.4 mount -t configfs
		man/ubd.4 echo 1 >/sys/block
		man/ubd.4 cd /sys/kernel/tracing
		man/ubd-top.1 ubd-top -b -c
		man/ubd-top.1 ubd-top -b -d
		man/ubd-report.1 ubd-report
	END
	guest one "ubd=hotplug:$work/images" "ubd0=$work/a.img" "ubd1=$work/b.img" <<-EOF
		PATH=$top/build:\$PATH
		load
		# What is traced is read for as long as it comes.
		cat() {
			dd if=/dev/ubda of=/dev/null count=8 iflag=direct status=none &
			timeout 2 /bin/cat "\$@" || [ \$? = 124 ]
		}
		mkdir $work/there
		for i in \$(seq $i); do
			cd $work/there
			while read -r line; do
				echo "\$ \$line"
				eval "\$line" || die "status \$?"
			done <$work/lines.\$i
			cd $work/there
		done
		umount /sys/kernel/config
		[ "\$(stat_of ubda errors)" = 0 ] || die 'errors'
	EOF
	cat one.log
	expect_log one '^ubdc.?$'
	expect_log one 'ubd_enqueue: disk=ubda'
	[ -s kept ] && [ -s there/rates ] && [ -s there/report.txt ] || fail 'one of the commands wrote nothing'
	grep -q ubda there/report.txt
	expect_eq 'the COW file of ubd(4)' "$(head -c 4 images/new.cow)" OOOM
}

# A part of the benchmark, in a copy of this tree, since what it measured last is kept.
property[bench]='full alone'
limit[bench]=900
test_bench() {
	local line

	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
	make -s -C "$top" setup-bench >setup 2>&1 || {
		[ "$(id -u)" != 0 ] || fail "packages cannot be installed: $(tail -n 5 setup)"
		skip 'what the benchmark needs is not installed, and this user may not'
	}
	tree_copy
	cd copy
	line=$(python3 "$guest_dir/docs.py" block Documentation/benchmark.md 'make bench BENCH') || fail 'there is no such line'
	bash -c "$line" </dev/null >out 2>&1 || fail "status $?: $(tail out)"
	grep -q 'flush after 1' build/bench/report.md || fail 'the report has no such row'
	[ -s build/bench/results.json ] || fail 'there are no results'
	cd ..
	rm -r copy
}

# What testing.md says how to run, for a short time each, in a copy of this tree, since it
# makes corpus and results anew.
property[testing]='full alone'
limit[testing]=1500
test_testing() {
	local line

	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES UBD_TEST_ROOT UBD_TEST_VARIANT UBD_TEST_ARGS
	tree_copy
	cd copy
	for line in 'tests/run.sh --list' 'make soak' 'make -C tests/fuzz fuzz' "UBD_TEST_VARIANT=next"; do
		python3 "$guest_dir/docs.py" block Documentation/testing.md "$line" || fail "testing.md has no: $line"
	done | sed 's/ *#.*//; s/PATTERN/"^flags[.]serial$"/; s/MINUTES=[0-9]*/MINUTES=1/' >../lines
	expect_eq lines "$(wc -l <../lines)" 7
	while read -r line; do
		# The whole of the newest kernel's is this run.
		[[ $line != *'@next$|'* ]] || continue
		echo "$ $line"
		bash -c "$line" </dev/null >out 2>&1 || fail "status $?: $(tail -n 20 out)"
		case $line in
		*--list) grep -qx 'docs.testing' out || fail 'this test is not in the list' ;;
		*--only*) grep -qx '[0-9]* passed, 0 failed' out || fail "$(tail out)" ;;
		*soak*) grep -qx '[1-9][0-9]* passed, 0 failed' out || fail "$(tail out)" ;;
		*fuzz\ fuzz*) [ "$(grep -c '^fuzz: ' out)" -ge 5 ] || fail "$(tail out)" ;;
		*merge*) [ -n "$(ls tests/fuzz/corpus)" ] || fail 'the corpus is gone' ;;
		esac
	done <../lines
	cd ..
	rm -r copy
}

test_messages() {
	python3 "$guest_dir/docs.py" messages "$top" "$top/Documentation/guide.md" || fail 'messages that nobody says'
}

run_tests "$@"
