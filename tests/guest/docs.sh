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
		linux*) continue ;;
		rm*) continue ;; # the next ones go on with it
		*debian-new.img) touch -r debian.img debian-new.img ;;
		esac
		echo "$line"
		bash -ec "$line" || fail "ubd-cow(1): $line"
	done <examples
	[ "$(wc -l <examples)" -ge 6 ] || fail 'where are the examples?'
	expect_eq 'size at last' "$(ubd-cow info test.cow | awk '/^size of the device/ { print $5 }')" $((20 << 30))
}

test_messages() {
	python3 "$guest_dir/docs.py" messages "$top" "$top/Documentation/guide.md" || fail 'messages that nobody says'
}

run_tests "$@"
