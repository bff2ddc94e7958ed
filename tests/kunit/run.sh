#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the KUnit suites in a guest:
#	run.sh KERNEL OUTDIR
# KERNEL is a UML kernel with KUnit; OUTDIR has the ubd.ko and ubd_test.ko that
# were built against it. Prints the KTAP and ends with "kunit: N passed, N failed",
# which counts test cases. Fails unless every suite ran to its end and all
# cases passed, without a complaint of the kernel's own.
#
#	UBD_KUNIT_SECONDS	time limit (default 120)
#	UBD_KUNIT_SEEDS		seeds for each random case (default 100)
#	UBD_KUNIT_LOG		where the guest's whole console output is kept
set -uo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)

die() {
	echo "kunit: $*" >&2
	echo "kunit: 0 passed, 1 failed"
	exit 1
}

[ $# -eq 2 ] || die "usage: run.sh KERNEL OUTDIR"
kernel=$1
out=$(cd "$2" 2>/dev/null && pwd) || die "no such directory: $2"
[ -x "$kernel" ] || die "no such kernel: $kernel"
for module in ubd ubd_test; do
	[ -f "$out/$module.ko" ] || die "$out/$module.ko is missing; build it with tools/build-module.sh"
done

work=$(mktemp -d) || die "cannot make a temporary directory"
guest=
finish() {
	# timeout passes this on to the kernel.
	[ -z "$guest" ] || { kill -TERM "$guest" && wait "$guest"; } 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$work/files" "$work/uml"
cat >"$work/init" <<END
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
insmod $out/ubd.ko cmdline=0 || echo "kunit-guest: insmod ubd.ko failed"
insmod $out/ubd_test.ko dir=$work/files seeds=${UBD_KUNIT_SEEDS:-100} || echo "kunit-guest: insmod ubd_test.ko failed"
rmmod ubd_test || echo "kunit-guest: rmmod ubd_test failed"
rmmod ubd || echo "kunit-guest: rmmod ubd failed"
if [ -w /sys/kernel/debug/kmemleak ]; then
	sleep 6 # what is younger than 5 s is not reported
	echo scan >/sys/kernel/debug/kmemleak
	sleep 1
	echo scan >/sys/kernel/debug/kmemleak
	head -n 40 /sys/kernel/debug/kmemleak
fi
echo "kunit-guest: done"
echo o >/proc/sysrq-trigger
sleep 60
END
chmod +x "$work/init"

log=$work/log
timeout -k 5 "${UBD_KUNIT_SECONDS:-120}" "$kernel" mem=256M uml_dir="$work/uml/" umid=kunit kunit.enable=1 kunit.autorun=1 printk.time=0 \
	loglevel=7 root=/dev/root rootfstype=hostfs rootflags=/ rw init="$work/init" panic=-1 con=null con0=fd:0,fd:1 \
	</dev/null >"$log" 2>&1 &
guest=$!
wait "$guest"
status=$?
guest=
[ -z "${UBD_KUNIT_LOG:-}" ] || cp "$log" "$UBD_KUNIT_LOG"
tr -d '\r' <"$log" >"$work/text"

# The KTAP, and what the cases say about themselves.
grep -E '^ *(KTAP version|1\.\.[0-9]+|(not )?ok [0-9]+ |# )|/tests/[a-z]+/[a-z_]+\.(cc|hh|c):[0-9]+: ' "$work/text"

passed=$(grep -cE '^    ok [0-9]+ ' "$work/text")
skipped=$(grep -cE '^    ok [0-9]+ .*# SKIP' "$work/text")
failed=$(($(grep -cE '^    not ok [0-9]+ ' "$work/text") + skipped))
passed=$((passed - skipped))

# complain WHAT: something other than a case has failed.
complain() {
	echo "kunit: $*" >&2
	failed=$((failed + 1))
}

if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
	complain "the guest was stopped after ${UBD_KUNIT_SECONDS:-120} s"
elif [ "$status" -ne 0 ]; then
	complain "the guest ended with status $status"
fi
grep -q '^kunit-guest: done' "$work/text" || complain "the guest did not come to its end"
while read -r line; do
	complain "$line"
done < <(grep -E '^kunit-guest: .*failed' "$work/text")

# Each suite that the sources name must have been there, with all its cases.
suites=$(sed -nE 's/.*X\(([a-z_]+)\).*/\1/p' "$top/tests/suites/suites.h")
[ -n "$suites" ] || complain "no suite is named in tests/suites/suites.h"
for suite in $suites device; do
	source=$top/tests/suites/$suite.cc
	[ "$suite" != device ] || source=$top/tests/kunit/device.cc
	want=$(grep -oE '\bUBD_ENTRY\(' "$source" | wc -l)
	have=$(awk -v suite="ubd_$suite" '
		/^    # Subtest: / { inside = $3 == suite }
		inside && /^    (not )?ok [0-9]+ / { n++ }
		END { print n + 0 }' "$work/text")
	if [ "$want" -eq 0 ] || [ "$have" -ne "$want" ]; then
		complain "suite ubd_$suite: $have of $want cases ran"
	fi
done

# What the kernel itself complains about.
complaints=$(grep -anE 'WARNING:|BUG:|KASAN|UBSAN|Kernel panic|Oops|kmemleak: [0-9]+ new|INFO: (task|rcu)|possible (circular|recursive)|possible irq lock|inconsistent lock|invalid context|broken invariant|general protection|leaked|Objects remaining|Modules linked in|unreferenced object' "$work/text" || true)
if [ -n "$complaints" ]; then
	complain "the kernel complains:"
	echo "$complaints" | head -n 20 >&2
fi
left=$(ls -A "$work/files")
[ -z "$left" ] || complain "files were left behind: $left"

if [ "$failed" -ne 0 ] && [ "$passed" -eq 0 ]; then
	tail -n 40 "$work/text" >&2
fi
echo "kunit: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
