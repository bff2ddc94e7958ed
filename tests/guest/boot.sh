#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A guest with its root on our disk: by the initramfs, by the kernel with all
# inside, and by `make run`; to a clean power-off.
. "$(dirname "$0")/lib.sh"

linux=$top/build/linux
initramfs=$top/build/initramfs.cpio.gz
standalone=$top/build/linux-standalone
base=$top/build/busybox.img
# A make around us has its own opinions.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

need() {
	local file

	for file in "$@"; do
		[ -e "$file" ] || fail "no ${file#"$top/"}; make"
	done
}

# root_image: a root file system of our own, in which /test is the script from
# stdin, which can be its init
root_image() {
	need "$base"
	cp --sparse=always "$base" root.img
	chmod u+w root.img
	cat >script
	debugfs -w -f - root.img >/dev/null 2>&1 <<-EOF
		write script test
		set_inode_field test mode 0100755
	EOF
	debugfs -R 'stat test' root.img 2>/dev/null | grep -q 'Mode: *0755' || fail "the script is not in the image"
}

# boot NAME KERNEL WORD...: a guest that boots as a user would do it
boot() {
	local name=$1
	local boot_kernel=$2

	shift 2
	sockets=$(mktemp -d "${TMPDIR:-/tmp}/ubd-test.XXXXXX")
	guest_directory[$name]=$sockets
	"$boot_kernel" mem=128M "$@" con=null con0=fd:0,fd:1 "uml_dir=$sockets" "umid=$name" </dev/null \
		>"$name.log" 2>&1 &
	guest_pid[$name]=$!
	guest_wait "$name"
}

# The script of an init that looks around, leaves a file, and powers off.
init_script='#!/bin/sh
set -e
mount -t proc proc /proc 2>/dev/null || true
grep " / " /proc/mounts
grep -q "^/dev/ubda / ext4 rw" /proc/mounts || echo "test: root is not on ubda"
mount -o remount,rw /
echo "was here" >/here
sync
echo "test: all is well"
poweroff -f
'

expect_booted() {
	expect_eq status "$status" 0
	expect_once "$1" 'test: all is well'
	expect_silent "$1" 'test: root is not on ubda'
	expect_log "$1" 'reboot: Power down'
	expect_eq 'file in the image' "$(debugfs -R 'cat here' root.img 2>/dev/null)" 'was here'
	expect_unlocked "$work/root.img"
	expect_eq 'relays' "$(relays)" ''
}

test_initramfs() {
	need "$linux" "$initramfs"
	root_image <<<"$init_script"
	boot one "$linux" "initrd=$initramfs" "ubd0=$work/root.img" root=/dev/ubda rw init=/test
	expect_booted one
	e2fsck -fp root.img || [ $? = 1 ] || fail "the file system is broken"
}

# What looks at the disks is in the root, and runs there, with its shell.
test_programs_inside() {
	need "$linux" "$initramfs"
	root_image <<<'#!/bin/sh
		set -e
		mount -t proc proc /proc 2>/dev/null || true
		mount -t sysfs sysfs /sys 2>/dev/null || true
		ubd-top -b -c -n 1 | grep "^ubda "
		ubd-report | grep -e "^== disk ubda" -e "^! path"
		ubd-report --public >/report
		grep "^! path  *(hidden)" /report
		echo "test: all is well"
		poweroff -f
	'
	boot one "$linux" "initrd=$initramfs" "ubd0=$work/root.img" root=/dev/ubda rw init=/test
	expect_eq status "$status" 0
	expect_once one 'test: all is well'
	expect_once one '^ubda +[0-9]+ '
	expect_once one '^== disk ubda.?$'
	expect_once one "^! path +$work/root.img"
}

# The command line that the kernel's own driver has always had, word for word.
test_standalone() {
	need "$standalone"
	root_image <<<"$init_script"
	boot one "$standalone" "ubd0=$work/root.img" rw init=/test
	expect_booted one
}

test_standalone_named_root() {
	need "$standalone"
	root_image <<<"$init_script"
	boot one "$standalone" "ubda=$work/root.img" root=98:0 rw init=/test
	expect_booted one
}

# Powered off by its own init, all file systems are clean.
test_run_command() {
	local got

	root_image </dev/null
	tune2fs -l root.img | grep -q 'Filesystem state: *clean' || fail "not clean from the beginning"
	got=$(ROOTFS=$work/root.img TIMEOUT=60 CMD='grep " / " /proc/mounts; cat /proc/swaps; echo "$UNSET'\''quoted'\''" "a  b"; echo \$HOME | cat; echo kept >/kept' \
		"$top/tools/run.sh" 2>stderr) || fail "ended with status $?: $(cat stderr)"
	echo "$got"
	grep -q '^/dev/ubda / ext4 rw' <<<"$got" || fail "root is not on ubda"
	grep -q '^/dev/ubdb *partition' <<<"$got" || fail "there is no swap on ubdb"
	grep -qx "'quoted' a  b" <<<"$got" || fail "quotes were lost"
	grep -qx '$HOME' <<<"$got" || fail "a dollar was lost"
	expect_eq 'file in the image' "$(debugfs -R 'cat kept' root.img 2>/dev/null)" kept
	e2fsck -fn root.img || fail "the file system is not clean after power-off"
	expect_unlocked "$work/root.img"
}

test_run_status() {
	local got

	root_image </dev/null
	for want in 0 1 7 255; do
		got=0
		ROOTFS=$work/root.img TIMEOUT=60 CMD="exit $want" "$top/tools/run.sh" >out 2>&1 || got=$?
		expect_eq "status of exit $want" "$got" "$want"
	done
}

# The command lines of README, ubd(4) and testing.md, as they stand there.
test_documented() {
	local page begin line

	need "$linux" "$initramfs" "$standalone"
	root_image <<<"$init_script"
	debugfs -w -f - root.img >/dev/null 2>&1 <<-'EOF'
		rm sbin/init
		ln test sbin/init
	EOF
	chmod a-w root.img
	mkdir bin home
	ln -s "$top/build" build
	ln -s "$linux" bin/linux
	export PATH=$work/bin:$PATH HOME=$work/home
	image disk.img 8M >/dev/null
	cat >script.sh <<-END
		#!/bin/bash
		mount -t proc proc /proc
		mount -t sysfs sysfs /sys
		mount -t devtmpfs devtmpfs /dev
		cd $top
		insmod build/ubd.ko
		[ ! -b /dev/ubda ] || echo 'test: all is well'
		/sbin/poweroff -f
	END
	chmod +x script.sh
	while read -r page begin; do
		line=$(python3 "$guest_dir/docs.py" block "$top/$page" "$begin") || fail "$page has no command line: $begin"
		# The example of ubd(4) goes on with an insmod.
		line=$(sed '/^insmod/d' <<<"$line")
		echo "$ $line"
		rm -f my.cow
		timeout 60 bash -c "$line" </dev/null >out 2>&1 || fail "status $?: $(tail -n 5 out)"
		grep -aq 'test: all is well' out || fail "$(tail -n 20 out)"
		grep -aq 'reboot: Power down' out || fail "$(tail -n 5 out)"
		[ "$page" = Documentation/testing.md ] || expect_eq 'the COW file' "$(head -c 4 my.cow)" OOOM
	done <<-'END'
		README.md build/linux initrd=
		README.md build/linux-standalone
		Documentation/man/ubd.4 linux mem=256M
		Documentation/testing.md build/linux mem=256M
	END
}

# The same of insmod, in a kernel with a driver of its own and in one without.
test_documented_insmod() {
	local line

	image scratch.img 8M >/dev/null
	image tools.img 8M >/dev/null
	line=$(python3 "$guest_dir/docs.py" block "$top/README.md" 'insmod ubd.ko')
	[ -n "$line" ] || fail 'README.md has no insmod'
	use_compare
	cp "$module" ubd.ko
	guest one <<-EOF
		cd $work
		$line
		[ -b /dev/aubdb ] || die 'it has another name'
	EOF
	line=$(python3 "$guest_dir/docs.py" block "$top/Documentation/man/ubd.4" 'insmod ubd.ko device=ubd1r' |
		sed -n "s,=/\(images\|tmp\)/,=$work/,g; /^insmod/p")
	[ -n "$line" ] || fail 'ubd(4) has no insmod'
	use_release
	cp "$module" ubd.ko
	guest two <<-EOF
		cd $work
		$line
		same 'ubdb is read-only' "\$(cat /sys/block/ubdb/ro)" 1
		same 'serial of ubdc' "\$(cat /sys/block/ubdc/serial)" SCRATCH
	EOF
}

# The one command of the README, make and all around it.
property[make_run]=alone
limit[make_run]=180
test_make_run() {
	local got=0

	# Not the root that this tree's user may be using.
	UBD_RUN=$work/run make -s -C "$top" run TIMEOUT=120 \
		CMD='mount; swapon -s; df -h /; dd if=/dev/zero of=/x bs=1M count=64 conv=fsync; sync; md5sum /x; rm /x; exit 7' \
		>out 2>&1 || got=$?
	cat out
	expect_eq status "$got" 7
	grep -q '^/dev/ubda on / ' out || fail "root is not on ubda"
	grep -q '^7f614da9329cd3aebf59b91aadc30bf0  /x' out || fail "64 MiB of zeros have another checksum"
	[ -s run/root.cow ] || fail 'it left its root elsewhere'
}

# The other lines of the README about it, in a copy of this tree, since they forget
# what guests wrote. (packaging.debian has the one with Debian.)
limit[run_documented]=240
property[run_documented]=full
test_run_documented() {
	local line

	tree_copy
	cd copy
	unset UBD_RUN
	python3 "$guest_dir/docs.py" block README.md 'make run CMD=' >../lines || fail 'README.md has no such lines'
	root_image </dev/null
	mv root.img my-root.img
	while read -r line; do
		[[ $line != *DISTRO=* ]] || continue
		[[ $line != *ROOTFS=* ]] || line="CMD='echo in another root >/there; cat /there' $line"
		echo "$ $line"
		timeout 120 bash -c "$line" </dev/null >out 2>&1 || fail "status $?: $(tail -n 20 out)"
		cat out
		case $line in
		*swapon*) grep -q '^/dev/ubda on / ' out && grep -q '^/dev/ubdb ' out || fail 'no root or no swap' ;;
		*ROOTFS*) grep -q '^in another root' out || fail 'it is another root' ;;
		*reset*) ! compgen -G 'build/run/*.cow' || fail 'it forgot nothing' ;;
		esac
		[[ $line != *swapon* ]] || compgen -G 'build/run/*.cow' || fail 'there is no COW file'
	done <../lines
	expect_eq lines "$(wc -l <../lines)" 5
	cd ..
	rm -r copy
}

# No such root: the reason, by name.
test_missing_root() {
	need "$linux" "$initramfs"
	root_image </dev/null
	sockets=$(mktemp -d "${TMPDIR:-/tmp}/ubd-test.XXXXXX")
	guest_directory[one]=$sockets
	"$linux" mem=128M "initrd=$initramfs" "ubd0=$work/root.img" root=/dev/ubdq con=null con0=fd:0,fd:1 \
		"uml_dir=$sockets" umid=one </dev/null >one.log 2>&1 &
	guest_pid[one]=$!
	local until=$((SECONDS + 30))
	until [ "$(log_count one '^init: .*/dev/ubdq does not exist')" -gt 0 ]; do
		[ "$SECONDS" -lt "$until" ] || fail "nothing is said about the root that is missing"
		sleep 0.1
	done
}

# A timer signal that comes when main() is about to end is no interrupt any more.
# UML's kernel takes it for one and aborts, unless tools/kernel/patches mends
# that. A debugger holds the process there for more than a tick.
test_timer_on_the_way_out() {
	command -v gdb >/dev/null || fail 'no gdb; tools/setup.sh'
	cat >stop <<-'EOF'
		set pagination off
		handle SIGSEGV SIGALRM SIGIO SIGCHLD SIGUSR1 SIGUSR2 SIGWINCH nostop noprint pass
		tbreak kill_off_processes
		run
		tbreak os_timer_disable
		continue
		shell sleep 0.3
		bt
		continue
	EOF
	launcher=(gdb -batch -x "$work/stop" --args)
	guest one <<-'EOF'
		true
	EOF
	grep -aq '^#0 .*os_timer_disable' one.log || fail 'the guest was not held on its way out'
	expect_once one 'Inferior 1 .* exited normally'
}

run_tests "$@"
