#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Programs are built by eight jobs on a file system on our disk, in a guest so
# small that it swaps to our other disk. In the long form a guest does the same
# beside it, at the same time, with the kernel's own driver: how long each takes is
# printed and never judged. What is compared is compared on the release's kernel:
# on another one ours builds alone. With UBD_SOAK_SECONDS ours builds again until
# they are over.
. "$(dirname "$0")/lib.sh"

# build_start DRIVER: a guest that runs the script `build` in a directory with the
# same name in each guest, since such names get into what is built. In the script,
# `timed COMMAND...` notes how long it took.
build_start() {
	local driver=$1

	image "$driver.img" 1G >/dev/null
	image "$driver-swap.img" 1G >/dev/null
	guest_start "$driver" "ubd0=$work/$driver.img" "ubd1=$work/$driver-swap.img" <<-'EOF'
		driver=$name
		timed() {
			local begin=${EPOCHREALTIME/./}

			"$@"
			echo $(((${EPOCHREALTIME/./} - begin) / 1000)) >>$work/$driver.ms
		}
		[ $driver != ours ] || load
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda $work/tree
		swap_to /dev/ubdb
		cd $work/tree
		# What the compiler keeps for a moment is on our disk, too.
		export TMPDIR=$work/tree/tmp
		mkdir tmp
		. $work/build
		until [ $driver != ours ] || [ $SECONDS -ge $soak_seconds ]; do
			find $work/tree -mindepth 1 -maxdepth 1 ! -name lost+found ! -name tmp -exec rm -r {} +
			. $work/build
		done
		cd /
		swapped=$(awk '$1 == "pswpout" { print $2 * 4 }' /proc/vmstat)
		echo "$driver: $swapped KiB went to swap"
		[ "$swapped" -gt 8192 ] || die 'hardly anything was swapped'
		umount $work/tree
		swapoff /dev/ubdb
		if [ $driver = ours ]; then
			for disk in ubda ubdb; do
				same "$disk: errors" "$(stat_of $disk errors)" 0
				same "$disk: in flight" "$(stat_of $disk in_flight)" 0
			done
			unload
		fi
	EOF
}

# wait_for_in_tree DEADLINE: the kernel's own driver is what we are measured by,
# not what is tested.
wait_for_in_tree() {
	local pid=${guest_pid[in-tree]}

	if ! wait_gone "$pid" "$1"; then
		echo 'in-tree: not done in time'
		return 1
	fi
	wait "$pid" || return 1
	forget_guest in-tree
}

seconds_of() {
	awk '{ printf "%.1f", $1 / 1000; exit }' "$1.ms"
}

# build WHAT [beside]: builds it in the guest, or in both, by the script on stdin
build() {
	local deadline=$((SECONDS + patience))

	mkdir -p tree
	cat >build
	if [ $# -gt 1 ]; then
		use_compare
		mem=$build_mem
		build_start in-tree
	fi
	use_release
	mem=$build_mem
	build_start ours
	guest_wait ours
	expect_eq 'status of the build' "$status" 0
	e2fsck -fn ours.img || fail 'the host finds the file system broken'
	echo "rounds: $(wc -l <ours.ms)"
	if [ $# = 1 ]; then
		echo "$1, make -j8 in $build_mem: $(seconds_of ours) s"
	elif wait_for_in_tree $deadline; then
		echo "$1, make -j8 in $build_mem: in-tree $(seconds_of in-tree) s, ours $(seconds_of ours) s," \
			"ratio $(awk 'NR == FNR { theirs = $1; nextfile } { printf "%.2f", $1 / theirs; exit }' in-tree.ms ours.ms)"
	else
		echo "$1, make -j8 in $build_mem: in-tree failed, ours $(seconds_of ours) s"
	fi >figures
	cat figures
}

limit[module]=$((900 + 2 * soak_seconds))
test_module() {
	build_module
}

property[module_beside]='alone full'
limit[module_beside]=$((900 + 2 * soak_seconds))
test_module_beside() {
	build_module beside
}

# build_module [beside]: it is compared with what the host makes of the same source.
build_module() {
	patience=$((600 + 2 * soak_seconds))
	build_mem=192M
	mkdir source tree
	cp -r "$top"/{Kbuild,include,drivers,tools} source/
	cp -r source tree/m
	ln -s "$cache/release" kernel-build
	env -u MAKEFLAGS -u MFLAGS make -s -C kernel-build/ ARCH=um "M=$work/tree/m" modules
	mv tree/m reference
	(cd reference && find . -name '*.o' -o -name '*.ko') >products
	grep -qx './ubd.ko' products || fail 'the host makes no ubd.ko'
	build 'this module' "$@" <<-'EOF'
		cp -r $work/source m
		timed make -s -C $work/kernel-build/ ARCH=um M=$work/tree/m -j8 modules
		# What is on the disk, not what is still in memory.
		sync
		echo 3 >/proc/sys/vm/drop_caches
		while read -r file; do
			cmp $work/reference/$file m/$file
		done <$work/products
	EOF
}

# Directories of the kernel's source that a tiny kernel is made of. From all
# others it takes what says so.
tiny_parts='arch/um arch/x86 block certs crypto fs include init io_uring ipc kernel lib mm scripts security usr virt
	tools/include tools/build tools/scripts tools/lib drivers/base drivers/block drivers/char drivers/tty'

property[kernel]='alone full'
limit[kernel]=$((5400 + 2 * soak_seconds))
test_kernel() {
	local source=$cache/release/source/
	local beside=()

	patience=$((5000 + 2 * soak_seconds))
	# In 256 MB a million pages are read from swap, by either driver: half an hour
	# and more. 384 MB still write some hundred MB there.
	build_mem=384M
	if [ "$test_variant" != next ]; then
		beside=(beside)
		build_mem=256M
	fi
	# shellcheck disable=SC2086 # a list
	(
		cd "$source"
		find . -type f '(' -name 'Kconfig*' -o -name 'Makefile*' -o -name 'Kbuild*' ')'
		find $tiny_parts -type f
	) | sed 's,^\./,,' | sort -u | tar -C "$source" -cf source.tar -T -
	build 'a tinyconfig kernel' "${beside[@]}" <<-'EOF'
		tar -xf $work/source.tar
		make -s ARCH=um SUBARCH=x86_64 tinyconfig >/dev/null
		timed make -s ARCH=um SUBARCH=x86_64 -j8
		sync
		echo 3 >/proc/sys/vm/drop_caches
		same 'version of the kernel that was built' "$(./linux --version)" "$(make -s ARCH=um kernelversion)"
	EOF
}

run_tests "$@"
