#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Disks that the guest's root adds and removes by configfs: what the directory of
# the host's user allows and what it does not, every file with every kind of
# nonsense, and removal from below those who use the disk.
. "$(dirname "$0")/lib.sh"
# More than a guest gets.
default_limit=120

images() {
	mkdir -p "$work/images/sub" "$work/outside"
	truncate -s 32M "$work/images/a.img" "$work/images/sub/b.img" "$work/outside/secret.img"
	truncate -s 32M "$work/images/base.img"
	noise "$work/images/base.img" 4
}

# A life: added, used, removed, added again, under another name.
test_life() {
	images
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		plug first path=a.img serial=s-17 cache=none queue_depth=16
		same 'name' "$disk" ubda
		same 'power' "$(cat /sys/kernel/config/ubd/first/power)" 1
		same 'mode' "$(cat /sys/block/ubda/ubd/mode)" none
		same 'serial' "$(cat /sys/block/ubda/serial)" s-17
		same 'depth' "$(cat /sys/block/ubda/queue/nr_requests)" 16
		mkfs.ext4 -q /dev/ubda
		mkdir $mnt/1
		mount /dev/ubda $mnt/1
		echo content >$mnt/1/file
		refused unload
		refused rmdir /sys/kernel/config/ubd/first
		refused sh -c 'echo 0 >/sys/kernel/config/ubd/first/power'
		same 'content' "$(cat $mnt/1/file)" content
		# A second one, below, read-only and by its whole name.
		plug second "path=$work/images/sub/b.img" read_only=1 discard=0 index=7
		same 'name of the second' "$disk" ubdh
		same 'read-only' "$(cat /sys/block/ubdh/ro)" 1
		refused dd if=/dev/zero of=/dev/ubdh bs=4k count=1 status=none
		unplug second
		[ ! -e /dev/ubdh ] || die 'ubdh is still there'
		umount $mnt/1
		unplug first
		[ ! -e /dev/ubda ] || die 'ubda is still there'
		plug again path=a.img index=3 block_size=512 commit_ms=0 poll_us=0
		same 'name' "$disk" ubdd
		mount /dev/ubdd $mnt/1
		same 'content, again' "$(cat $mnt/1/file)" content
		umount $mnt/1
		# Off and on, without mkdir.
		echo 0 >/sys/kernel/config/ubd/again/power
		echo 0 >/sys/kernel/config/ubd/again/power
		echo auto >/sys/kernel/config/ubd/again/index
		echo 1 >/sys/kernel/config/ubd/again/power
		echo 1 >/sys/kernel/config/ubd/again/power
		same 'name' "$(cat /sys/kernel/config/ubd/again/disk)" ubda
		unplug again
		unload
	EOF
	expect_once one 'hot plug: the guest.s root may attach files below'
	expect_once one 'hot plug first: power "0": the disk is in use'
	expect_unlocked "$work/images/a.img"
}

# COW files: made, over a backing file of the directory; found again by the names
# in their header, whole or not.
test_cow() {
	images
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		plug one path=new.cow backing=base.img
		cmp -n 4194304 "$work/images/base.img" /dev/$disk
		dd if=/dev/urandom of=$mnt/data bs=1M count=3 status=none
		dd if=$mnt/data of=/dev/$disk bs=1M seek=1 conv=fsync status=none
		unplug one
		plug two path=sub/../new.cow
		cmp -n 3145728 $mnt/data /dev/$disk 0 1048576
		unplug two
		# In a directory of its own, over a file by its whole name.
		plug three path=sub/new.cow "backing=$work/images//base.img"
		cmp -n 4194304 "$work/images/base.img" /dev/$disk
		unplug three
		# Two over one.
		plug four path=new.cow
		plug five path=sub/new.cow
		same 'fourth and fifth' "$(cat /sys/kernel/config/ubd/{four,five}/disk | xargs)" 'ubda ubdb'
		unplug four
		unplug five
		unload
	EOF
	"$top/build/ubd-cow" check "$work/images/new.cow"
	"$top/build/ubd-cow" info "$work/images/new.cow" | grep -qF "$work/images/base.img" ||
		fail 'the header does not have the whole name of the backing file'
	# A name that is relative to the COW file's own directory.
	(cd "$work/images/sub" && cp ../base.img own.img && "$top/build/ubd-cow" create own.cow own.img)
	guest two "ubd=hotplug:$work/images" <<-'EOF'
		load
		plug one path=sub/own.cow
		cmp -n 4194304 "$work/images/base.img" /dev/$disk
		unplug one
	EOF
	expect_silent two 'outside'
}

# The directory's name has a symbolic link in it: names by way of that are good, and
# those without, in headers too.
test_linked_directory() {
	images
	ln -s images "$work/data"
	"$top/build/ubd-cow" create "$work/images/link.cow" "$work/data/base.img"
	"$top/build/ubd-cow" create "$work/images/plain.cow" "$work/images/base.img"
	ln -s .. "$work/images/up"
	guest one "ubd=hotplug:data/" <<-'EOF'
		load
		for path in "$work/data/a.img" "$work/images/a.img" a.img; do
			plug x "path=$path"
			unplug x
		done
		for path in "$work/data/link.cow" plain.cow; do
			plug x "path=$path"
			cmp -n 4194304 "$work/images/base.img" /dev/$disk
			unplug x
		done
		plug x path=new.cow "backing=$work/data/base.img"
		unplug x
		for path in "$work/data2/a.img" "$work/dat" "$work/data/../outside/secret.img" "$work/data/up/outside/secret.img"; do
			refused plug x "path=$path"
		done
	EOF
	"$top/build/ubd-cow" info "$work/images/new.cow" | grep -qF "$work/images/base.img" ||
		fail 'the header does not have the whole name of the backing file'
	# A link in the directory to the directory.
	ln -s . "$work/images/self"
	guest two "ubd=hotplug:$work/images/self" <<-'EOF'
		load
		plug x "path=$work/images/self/a.img"
		unplug x
		plug x "path=$work/images/sub/b.img"
	EOF
}

# The host's user did not allow it; or not with this directory.
test_off() {
	images
	guest one "ubd0=$work/images/a.img" <<-'EOF'
		load device=ubd=hotplug:/
		mount -t configfs configfs /sys/kernel/config
		refused mkdir /sys/kernel/config/ubd/x
		[ -z "$(ls /sys/kernel/config/ubd)" ] || die 'something is there'
		unload
		[ ! -e /sys/kernel/config/ubd ] || die 'the directory outlived the module'
	EOF
	expect_once one 'hot plug x: is off; start the guest with ubd=hotplug:DIRECTORY'
	expect_once one 'option "ubd=hotplug:/": counts only on the command line of the UML process'
	guest two "ubd=hotplug:$work/not-there" "ubd=hotplug:" <<-'EOF'
		load
		mount -t configfs configfs /sys/kernel/config
		refused mkdir /sys/kernel/config/ubd/x
	EOF
	expect_once two "ubd=hotplug:$work/not-there: cannot open the directory: No such file or directory .2.; hot plug stays off"
	expect_once two 'option "ubd=hotplug:": the directory is missing'
	guest three "ubd=hotplug:$work/images/a.img" <<-'EOF'
		load
		mount -t configfs configfs /sys/kernel/config
		refused mkdir /sys/kernel/config/ubd/x
	EOF
	expect_once three 'cannot open the directory: Not a directory'
}

# Ways out of the directory: none leads there. What is outside is never read,
# written, locked or made.
test_ways_out() {
	local before

	images
	noise "$work/outside/secret.img" 1
	before=$(checksum "$work/outside/secret.img")
	ln -s ../outside/secret.img "$work/images/relative"
	ln -s "$work/outside/secret.img" "$work/images/absolute"
	ln -s ../outside "$work/images/dir"
	ln -s ../outside/new.cow "$work/images/dangling"
	ln -s a.img "$work/images/inside"
	ln -s sub/../../images/a.img "$work/images/out-and-in"
	ln -s loop "$work/images/loop"
	mkfifo "$work/images/fifo"
	ln -s /proc/self/fd/0 "$work/images/magic"
	# Headers that name what is outside.
	(
		cd "$work/images"
		"$top/build/ubd-cow" create far.cow "$work/outside/secret.img"
		"$top/build/ubd-cow" create far2.cow ../outside/secret.img
		"$top/build/ubd-cow" create far3.cow relative
	)
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		for path in ../outside/secret.img /etc/passwd "$work/outside/secret.img" relative absolute dir/secret.img \
			sub/../../outside/secret.img out-and-in loop fifo magic . sub / far.cow far2.cow far3.cow \
			"$work/images-not/a.img" "$work/imag"; do
			refused plug x "path=$path"
			same 'power' "$(cat /sys/kernel/config/ubd/x/power)" 0
		done
		for path in dangling dir/new.cow ../outside/new.cow "$work/outside/new.cow" sub/. sub/.. new/; do
			refused plug x "path=$path" backing=base.img
		done
		for backing in ../outside/secret.img relative absolute "$work/outside/secret.img" dir/secret.img fifo; do
			refused plug x path=made.cow "backing=$backing"
			[ ! -e "$work/images/made.cow" ] || die 'a COW file was made over nothing'
		done
		plug x path=inside backing=
		same 'a way within' "$disk" ubda
		unplug x
		unload
	EOF
	expect_eq 'what is outside' "$(checksum "$work/outside/secret.img") $(ls "$work/outside")" "$before secret.img"
	[ ! -e "$work/outside/new.cow" ] || fail 'a file was made outside'
	expect_eq 'refused for being outside' "$(($(log_count one 'Invalid cross-device link .18.; name one below the directory') > 12))" 1
	expect_eq 'leftovers' "$(find "$work/images" "$work/outside" -name '*.new-*')" ''
}

# Links that lead to what a process has open, whatever its name: they are in /proc
# alone, so a directory that has them is that or one above it. No name goes by way of
# them, not even to what could be had by its own.
test_magic_links() {
	local up

	images
	up=$(sed 's:[^/]*:..:g' <<<"${work#/}")
	ln -s "../$up/proc/self/exe" "$work/images/exe"
	guest one "ubd=hotplug:/" <<-'EOF'
		load
		for path in proc/self/exe /proc/self/exe "proc/self/root$work/images/a.img" "proc/self/cwd/images/a.img" \
			"$work/images/exe"; do
			refused plug x "path=$path" read_only=1
		done
		plug x "path=proc/self/../..$work/images/a.img"
		unplug x
	EOF
	expect_eq 'refused for being such' "$(log_count one 'cannot find the file: Too many levels of symbolic links .40.')" 5
}

# What is written goes with the disk: over a plain file, and over a COW file whose
# base is named in its header.
test_snapshot() {
	local before

	images
	(cd "$work/images" && "$top/build/ubd-cow" create a.cow base.img)
	before=$(cat "$work"/images/*.* | checksum /dev/stdin)
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load snapshot=1
		for path in base.img a.cow; do
			plug x path=$path
			same 'mode' "$(cat /sys/block/$disk/ubd/mode)" snapshot
			cmp -n 4194304 "$work/images/base.img" /dev/$disk
			"$tool" pattern write /dev/$disk 0 8192 1
			"$tool" pattern check /dev/$disk 0 8192 1
			unplug x
		done
		refused plug x path=../outside/secret.img
		refused plug x path=new.cow backing=../outside/secret.img
		rmdir /sys/kernel/config/ubd/x
		unload
	EOF
	expect_eq 'content' "$(cat "$work"/images/*.* | checksum /dev/stdin)" "$before"
	expect_eq 'files' "$(ls "$work/images" | xargs)" 'a.cow a.img base.img sub'
}

# Every file with every kind of nonsense: an errno that fits, one line, nothing
# changed.
test_bad_values() {
	images
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		mount -t configfs configfs /sys/kernel/config
		cd /sys/kernel/config/ubd
		mkdir x
		cd x
		long=$(printf '%5000s' '' | tr ' ' l)
		echo on >/proc/sys/kernel/printk_devkmsg
		# bad ERRNO FILE VALUE; the lines of the log are counted at the end
		bad() {
			local was=$(<$2) value=${3:0:40}

			echo "bad ${value@Q} in $2" >/dev/kmsg
			same "errno of '${3:0:40}' in $2" "$("$tool" write-errno "$2" "$3")" "$1"
			same "$2 afterwards" "$(<$2)" "$was"
			echo 'bad: done' >/dev/kmsg
		}
		bad EINVAL power 1 # without a path
		for file in read_only discard shared plain power; do
			for value in 2 -1 yes '' 01; do
				bad EINVAL $file "$value"
			done
		done
		for file in queue_depth block_size commit_ms poll_us index; do
			for value in -1 '' 1k 0x10 ' 1' one; do
				bad EINVAL $file "$value"
			done
			bad ERANGE $file 4294967297
			bad ERANGE $file 99999999999999999999999999
			bad ENAMETOOLONG $file "$long"
		done
		bad ERANGE queue_depth 0
		bad ERANGE queue_depth 1025
		bad ERANGE block_size 1024
		bad ERANGE poll_us 1001
		bad ERANGE index 1024
		for value in '' wirteback 'none ' NONE; do
			bad EINVAL cache "$value"
			bad EINVAL engine "$value"
			bad EINVAL werror "$value"
		done
		for file in path backing serial cache engine werror read_only discard shared plain; do
			bad ENAMETOOLONG $file "$long"
		done
		for file in path backing serial; do
			bad EINVAL $file $'a\033[2Jb'
			bad EINVAL $file $'a\nb'
		done
		bad ENAMETOOLONG serial "$(printf '%128s' '' | tr ' ' s)"
		echo a.img >path
		echo nonsense >backing
		echo 1 >plain
		bad EINVAL power 1
		echo 0 >plain
		echo >backing
		echo 1 >power
		for file in path backing serial cache engine werror index read_only discard shared plain block_size queue_depth \
			commit_ms poll_us; do
			bad EBUSY $file 1
		done
		same 'who may what' "$(stat -c '%a %n' * | sort | xargs)" "$(echo 444 disk 600 backing 600 path \
			644\ {block_size,cache,commit_ms,discard,engine,index,plain,poll_us,power,queue_depth,read_only,serial,shared,werror})"
		# The same number, and the same file.
		mkdir ../y
		echo sub/b.img >../y/path
		echo 0 >../y/index
		same 'errno of a number twice' "$("$tool" write-errno ../y/power 1)" EBUSY
		echo auto >../y/index
		echo inside/../a.img >../y/path
		same 'errno of a file that is not' "$("$tool" write-errno ../y/power 1)" ENOENT
		echo sub/../a.img >../y/path
		same 'errno of a file twice' "$("$tool" write-errno ../y/power 1)" EBUSY
		same 'disks' "$(ls /sys/block | grep -c ubd)" 1
		echo 0 >power
	EOF
	awk '/^bad: done/ { if (what != "" && n != 1) print what ": " n " lines"; bads++; what = ""; next }
		/^bad / { what = $0; n = 0 }
		/hot plug x:/ { n++ }
		END { if (bads < 100) print bads " values" }' one.log >lines
	[ ! -s lines ] || fail "$(cat lines)"
	expect_once one 'ubda: sub/b.img: the number is taken'
	expect_once one 'ubdb: sub/../a.img: the file is in use already as ubda'
	expect_eq 'lines of control characters' "$(grep -ac $'\033' "$work/one.log" || true)" 0
}

# Who adds and removes at the same time as others open, look and remove. Under the
# debug kernel: no memory is left, and lockdep is still on.
test_tug_of_war() {
	images
	use_debug
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		mount -t configfs configfs /sys/kernel/config
		cd /sys/kernel/config/ubd
		until=$((SECONDS + 10))
		power() {
			while [ $SECONDS -lt $until ]; do
				mkdir $1 2>/dev/null || true
				echo $2 >$1/path 2>/dev/null || true
				echo 1 >$1/power 2>/dev/null && echo x >>$mnt/on || true
				sleep 0.0$((RANDOM % 5))
				echo 0 >$1/power 2>/dev/null && echo x >>$mnt/off || true
				[ $((RANDOM % 4)) != 0 ] || rmdir $1 2>/dev/null || true
			done
		}
		look() {
			while [ $SECONDS -lt $until ]; do
				cat /sys/block/ubd*/ubd/* /sys/kernel/debug/ubd/*/stats */* >/dev/null 2>&1 || true
			done
		}
		use() {
			while [ $SECONDS -lt $until ]; do
				dd if=/dev/ubd$1 of=/dev/null bs=64k count=$((RANDOM % 64)) iflag=direct status=none 2>/dev/null || true
				dd if=/dev/zero of=/dev/ubd$1 bs=64k count=8 oflag=direct conv=notrunc,nocreat status=none 2>/dev/null || true
			done
		}
		{
			power x a.img & power y sub/b.img & power x a.img & power z new.cow &
			look & use a & use b & wait
		} 2>/dev/null
		cd /
		for d in /sys/kernel/config/ubd/*; do
			[ ! -d $d ] || { echo 0 >$d/power; rmdir $d; }
		done
		[ $(wc -l <$mnt/on) -ge 5 ] && [ $(wc -l <$mnt/off) -ge 5 ] || die "$(wc -l $mnt/*)"
		unload
		lockdep_is_on
		no_leaks
	EOF
}

# Each allocation of memory fails in turn: who is refused for that is told so by one
# line, and nothing of ours is left behind. Linux itself shows where its caches found no
# memory, and leaves some.
limit[starved]=400
property[starved]=full
test_starved() {
	expected_complaint='Call Trace|kmemleak: .* new suspected'
	images
	(cd "$work/images" && "$top/build/ubd-cow" create a.cow base.img)
	use_debug
	patience=380
	guest one "ubd=hotplug:$work/images" <<-'EOF'
		load
		mount -t configfs configfs /sys/kernel/config
		cd /sys/kernel/config/ubd
		failer failslab verbose 0 ignore-gfp-wait N
		echo on >/proc/sys/kernel/printk_devkmsg
		"$tool" starve mkdir a-name-of-twenty-bytes-and-more
		mkdir x
		for path in a.img a.cow; do
			echo $path >x/path
			"$tool" starve write x/power
		done
		rmdir x
		cd /
		unload
		lockdep_is_on
		no_leaks
	EOF
	# The first one of 7.2 is configfs's own, for what was written: it asks nobody.
	awk '/^starved: .*: / {
			if ($2 == "write" && $4 != "0" && lines != 1 && !(lines == 0 && last == "starved: write 1"))
				print last ": " lines " lines"
			last = ""
			next
		}
		/^starved: / { last = $0; lines = 0; tries++ }
		/^ubd: / && last != "" { lines++ }
		END { if (tries < 100) print tries " tries" }' one.log >lines
	[ ! -s lines ] || fail "$(cat lines)"
	expect_log one 'hot plug a-name-of-twenty-bytes-and-more: no memory for its name; '
}

# Beside the kernel's own driver, which takes the other words of the command line.
test_beside() {
	images
	use_compare
	guest one "ubd0=$work/images/a.img" "ubd=hotplug:$work/images" <<-'EOF'
		load
		refused plug x path=a.img
		plug x path=sub/b.img
		same 'name' "$disk" aubda
		dd if=/dev/zero of=/dev/aubda bs=1M count=1 oflag=direct status=none
		unplug x
	EOF
	expect_once one 'a.img: this UML process has the file open already'
}

run_tests "$@"
