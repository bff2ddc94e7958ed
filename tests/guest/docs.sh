#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The documentation: the user's guide is done as it is written, in an empty home, and
# each command of the other pages says which test runs it.
. "$(dirname "$0")/lib.sh"

test_guide() {
	mkdir home
	export HOME=$work/home UBD=$top
	unset UBD_CACHE XDG_CACHE_HOME
	cd home
	python3 "$guest_dir/docs.py" run "$top/Documentation/guide.md" || fail 'the guide is wrong'
}

test_others() {
	(cd "$top" && tests/run.sh --list) >tests
	echo build >>tests
	python3 "$guest_dir/docs.py" others "$top" tests || fail 'commands that nobody runs'
}

test_messages() {
	python3 "$guest_dir/docs.py" messages "$top" "$top/Documentation/guide.md" || fail 'messages that nobody says'
}

run_tests "$@"
