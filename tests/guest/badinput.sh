#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Whatever may be wrong with a description or a file: one message that says
# device or option, cause and remedy; a good device beside it works; the module
# goes. Each function tries many, the messages are looked for one by one.
. "$(dirname "$0")/lib.sh"

# After all that was refused: only the good one is there, and in order.
only_good='
same disks "$(ls -d /sys/block/ubd* | wc -l)" 1
same "what debugfs shows" "$(ls $stats_dir)" "$(basename /sys/block/ubd*)"
disk=/dev/$(basename /sys/block/ubd*)
"$tool" pattern write $disk 0 8192 1
"$tool" pattern check $disk 0 8192 1
unload
'

# expect_messages NAME NUMBER: that many lines, no more, complain
expect_messages() {
	expect_eq 'messages' "$(log_count "$1" '^ubd: (ubd[a-z]+: .*: .*;|option )')" "$2"
}

test_files() {
	local good

	good=$(image good.img 8M)
	mkdir dir
	mkfifo fifo
	: >empty
	truncate -s 1000 odd
	truncate -s 511 tiny
	ln -s nowhere dangling
	ln -s loop1 loop2
	ln -s loop2 loop1
	: >plain
	guest one "ubd20=$work/missing" "ubd1=$work/dir" "ubd2=$work/fifo" ubd3=/dev/null "ubd4=$work/empty" \
		"ubd5=$work/odd" "ubd6=$work/tiny" "ubd7=$work/dangling" "ubd8=$work/loop1" "ubd9=$work/plain/x" \
		"ubd10=$work/$(printf 'x%.0s' $(seq 300))" "ubd11=$work/missing-dir/x" "ubd0=$good" \
		"ubd12=$good" "ubd0=$work/odd" "ubd13=$work/good.img,$work/back" ubd14=relative-name <<-EOF
		load
		$only_good
	EOF
	expect_once one "ubdu: $work/missing: .*No such file or directory \(2\); create the file"
	expect_once one "ubdb: $work/dir: is a directory; name "
	expect_once one "ubdc: $work/fifo: is neither a regular file nor a block device; "
	expect_once one "ubdd: /dev/null: is neither a regular file nor a block device; "
	expect_once one "ubde: $work/empty: is empty; give it a size"
	expect_once one "ubdf: $work/odd: has 1000 bytes, which is no multiple .* 512; round it up"
	expect_once one "ubdg: $work/tiny: has 511 bytes, which is no multiple"
	expect_once one "ubdh: $work/dangling: .*No such file or directory \(2\); "
	expect_once one "ubdi: $work/loop1: .*Too many levels of symbolic links \(40\); "
	expect_once one "ubdj: $work/plain/x: .*Not a directory \(20\); "
	expect_once one "ubdk: $work/xxx.*File name too long \(36\); "
	expect_once one "ubdl: $work/missing-dir/x: .*No such file"
	expect_once one "ubdm: $good: the file is in use already as ubda; name another"
	expect_once one "ubda: $work/odd: the number is taken by $good; choose another number"
	expect_once one "ubdn: $good: .*copy-on-write.*$work/back.*; give one file|ubdn: $good: the file is in use already"
	expect_once one "ubdo: relative-name: .*No such file or directory \(2\); "
	expect_messages one 16
	expect_eq size "$(stat -c %s empty)" 0
	[ ! -e missing ] || fail "a file was made"
}

test_backing_file() {
	local good

	good=$(image good.img 8M)
	image cow 8M >/dev/null
	image back 8M >/dev/null
	guest one "ubd0=$good" "ubd1=$work/cow,$work/back" "ubd2=$work/cow:$work/back:serial" "ubd3d=$work/cow,$work/back" <<-EOF
		load
		$only_good
	EOF
	expect_once one "ubdb: $work/cow: is no COW file, but is to be one over a backing file; give it alone"
	expect_once one "ubdc: $work/cow: is no COW file, but is to be one over a backing file; give it alone"
	expect_once one 'option "ubd3d=.*": .*exclude each other'
	expect_messages one 3
}

test_options() {
	local good

	good=$(image good.img 8M)
	guest one "ubd0=$good" "ubd1x=$good" "ubd1024=$good" ubd99999999999999999999999="$good" "ubd0x400=$good" ubd2= ubd3 \
		"ubd4rrrrrrr=$good" ubd= ubd=foo ubd "ubd-1=$good" "ubdA=$good" "ubd5r,=$good" "ubd 6=$good" \
		"ubd7=,back" "ubd8==" "ubd9=$good,,$(printf 's%.0s' $(seq 128))" "ubd0x=$good" "udb9=$good" \
		"ubdaa=$good" "ubd08=$good" ubd=cache:fast ubd=cache: "ubd=cache=none" "ubd=cache:none,ubd30=$good" <<-EOF
		load
		$only_good
	EOF
	expect_once one 'option "ubd1x=.*": unknown flag; '
	expect_once one 'option "ubd1024=.*": the device number is out of range; it goes from 0 to 1023'
	expect_once one 'option "ubd9{23}=?.*": the device number is out of range; |option "ubd9{20,}.*out of range'
	expect_once one 'option "ubd0x400=.*": the device number is out of range; '
	expect_once one 'option "ubd2=": the file name is missing'
	expect_once one 'option "ubd3": .*file name are missing'
	expect_once one 'option "ubd4rrrrrrr=.*": too many flags; take at most six'
	expect_once one 'option "ubd=": only ubd=sync'
	expect_once one 'option "ubd=foo": only ubd=sync'
	expect_once one 'option "ubd": no device number; give one'
	expect_once one 'option "ubd-1=.*": no device number; '
	expect_once one 'option "ubdA=.*": no device number; '
	expect_once one 'option "ubd5r,=.*": unknown flag; '
	expect_once one 'option "ubd7=,back": the file name is missing'
	expect_once one 'option "ubd9=.*": the serial is too long; '
	expect_once one 'option "udb9=.*typing error'
	expect_once one 'option "ubdaa=.*": unknown flag; '
	expect_once one 'option "ubd=cache:fast": unknown cache mode; the modes are writeback, none, writethrough, directsync, unsafe'
	expect_once one 'option "ubd=cache:": unknown cache mode; '
	expect_once one 'option "ubd=cache=none": only ubd=sync, ubd=cache:MODE, ubd=engine:NAME, ubd=werror:POLICY and ubd=hotplug:DIRECTORY are known without a device number'
	expect_once one 'option "ubd=cache:none,ubd30=.*": unknown cache mode; '
	expect_once one 'option "ubd 6=.*": no device number; '
	expect_once one 'option "ubd0x=.*": unknown flag; '
	expect_once one 'option "ubd08=.*": unknown flag; '
	expect_once one 'ubdi: =: cannot find the file: No such file or directory \(2\); '
	# One for each word, and nothing else.
	expect_messages one 25
}

# Longer than the kernel's command line can be: by device=, one for each load,
# since UML's strndup_user() miscounts what is longer than two pages.
test_long_options() {
	local good

	good=$(image good.img 8M)
	guest one "ubd0=$good" <<-EOF
		long() {
			printf "\$1%.0s" \$(seq \$2)
		}
		try() {
			load "\$1"
			same disks "\$(ls -d /sys/block/ubd* | wc -l)" 1
			unload
		}
		try "device=1=/\$(long x 4000)"
		try "device=2=/\$(long /y 2000)"
		try "device=3=/\$(long z 20000)"
		try "device=4=/a,/\$(long b 20000)"
		try "device=5\$(long r 9000)=/a"
		try "device=\$(long 7 9000)=/a"
		load device= device=, device== device=ubd device=ubd6.x=y "device=7\$(printf '\033[2J')=/a"
		$only_good
	EOF
	expect_once one 'ubdb: /x{40}.*File name too long \(36\); '
	expect_once one 'ubdc: /+y/y/y.*No such file or directory \(2\); '
	expect_once one '(option "ubd3=/z+\.\.\."|ubdd: /z+.*): .*too long'
	expect_once one '(option "ubd4=/a,/b+\.\.\."|ubde: /a): .*(too long|not supported)'
	expect_once one 'option "ubd5r+\.\.\.": (too many flags|the description is too long)'
	expect_once one 'option "ubd7+\.\.\.": (the device number is out of range|the description is too long)'
	expect_eq 'messages' "$(log_count one 'option "ubd": no device number; give one')" 2
	expect_once one 'option "ubd,": no device number; give one'
	expect_once one 'option "ubd=": only ubd=sync'
	expect_once one 'option "ubd6\.x=y": '
	expect_once one 'option "ubd7\?\[2J=/a": unknown flag; '
	expect_silent one $'\033'
}

# The user may not: neither as one without privileges nor as root without the
# privilege to disregard permissions.
test_permissions() {
	local good

	good=$(image good.img 8M)
	image none.img 8M >/dev/null
	noise none.img 8
	image readable.img 8M >/dev/null
	noise readable.img 8
	mkdir closed
	image closed/a.img 8M >/dev/null
	if [ "$(id -u)" = 0 ]; then
		chmod 600 none.img closed
		chmod 644 readable.img
		chown 65534 none.img readable.img closed closed/a.img
		launcher=(setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search)
	else
		chmod 000 none.img closed
		chmod 444 readable.img
		at_end "chmod 700 $work/closed"
	fi
	guest one "ubd1=$work/none.img" "ubd2r=$work/none.img" "ubd3=$work/closed/a.img" "ubd0=$good" "ubd4=$work/readable.img" <<-'EOF'
		load
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 2
		"$tool" pattern write /dev/ubda 0 8192 1
		# What may be read only is there for reading only.
		same ro "$(blockdev --getro /dev/ubde)" 1
		refused dd if=/dev/zero of=/dev/ubde bs=4k count=1 oflag=direct
		dd if=/dev/ubde of=/dev/null bs=1M
		unload
	EOF
	expect_once one "ubdb: $work/none.img: cannot open the file: Permission denied \(13\); check the permissions"
	expect_once one "ubdc: $work/none.img: cannot open the file: Permission denied \(13\); "
	expect_once one "ubdd: $work/closed/a.img: .*Permission denied \(13\); "
	expect_once one "ubde: $work/readable.img: cannot be written: Permission denied \(13\); the device is read-only"
}

# Messages and devices are the same at each load.
test_again() {
	local good

	good=$(image good.img 8M)
	guest one "ubd1=$work/missing" "ubd0=$good" "ubd2x=$good" <<-EOF
		load
		unload
		load
		unload
		load
		$only_good
	EOF
	expect_eq 'messages' "$(log_count one "ubdb: $work/missing: ")" 3
	expect_eq 'messages' "$(log_count one 'option "ubd2x=')" 3
}

# Descriptors or processes are at their limit: the module or the device says so.
test_host_limits() {
	local good

	good=$(image good.img 8M)
	launcher=(bash -c 'ulimit -n 64 && exec "$@"' --)
	guest one <<-'EOF'
		for i in $(seq 0 30); do
			truncate -s 1M $work/$i.img
			devices="${devices:-} device=$i=$work/$i.img"
		done
		# UML 7.x takes descriptors for each program: files of hostfs hold some of the
		# host's, which the disks cannot take.
		for i in $(seq 0 9); do
			eval "exec $((20 + i))<>$work/hold.$i"
		done
		load $devices
		for i in $(seq 0 9); do
			eval "exec $((20 + i))<&-"
		done
		n=$(ls -d /sys/block/ubd* | wc -l)
		echo "$n disks within 64 descriptors"
		[ $n -gt 2 ] && [ $n -lt 31 ] || die 'no limit was met'
		for path in /sys/block/ubd*; do
			"$tool" pattern write /dev/${path##*/} 0 2048 1
		done
		unload
		load device=0=$work/0.img
		"$tool" pattern check /dev/ubda 0 2048 1
		unload
	EOF
	expect_log one 'ubd[a-z]+: .*Too many open files \(24\); '
}

run_tests "$@"
