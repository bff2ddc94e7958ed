# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For the scripts that put bugs in on purpose (mutants.sh), which take hours: with
# --applies they look only whether each edit still changes its file, in no time. So
# `make test` tells at once who changed code that a bug is put into.
applies=
[ "${1:-}" != --applies ] || applies=yes

# edit_applies NAME FILE SED-SCRIPT
edit_applies() {
	if sed "$3" "$2" | cmp -s - "$2"; then
		missed=$((missed + 1))
		echo "mutants: $1: the edit does not apply to $(basename "$2"): look at what became of that code"
	else
		found=$((found + 1))
	fi
}

# The last line, and the status.
mutants_end() {
	if [ -n "$applies" ]; then
		echo "mutants: $found edits apply, $missed do not"
	else
		echo "mutants: $found found, $missed not found"
	fi
	[ "$missed" -eq 0 ] && [ "$found" -gt 0 ]
}
