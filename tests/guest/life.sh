#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The whole life of two disks, a plain one and a COW file over a base: added to a
# guest that runs, grown, filled until the host is full, waiting for space, going on,
# removed and added again; and all the time fio writes to both and verifies.
. "$(dirname "$0")/lib.sh"
default_limit=180
patience=150

# In the guest:
#	verify DISK OFFSET_MIB MIB NAME	writes, flushes and verifies that part
#	churn DISK			the first 8 MiB, again and again, until $mnt/enough
life_script='
verify() {
	fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --direct=1 --rw=randwrite \
		--bsrange=4k-128k --offset=$2M --size=$3M --ioengine=libaio --iodepth=16 --name=$4 --filename=/dev/$1 \
		--fsync=50 --output=$work/fio.$4 || die "$(tail -n 5 $work/fio.$4)"
	! grep -qE "verify:|error" $work/fio.$4 || die "fio found errors on $1"
}
churn() {
	while [ ! -e $mnt/enough ]; do
		verify $1 0 8 churn-$1
		echo . >>$mnt/rounds.$1
	done
}
wait_state() {
	local i

	for i in $(seq 300); do
		[[ $(cat /sys/block/$1/ubd/state) != $2* ]] || return 0
		sleep 0.1
	done
	die "$1 is $(cat /sys/block/$1/ubd/state), not $2"
}
mib_of() {
	echo $(($(cat /sys/block/$1/size) / 2048))
}
'

life() {
	small_host 136m <<-EOF
		truncate -s 16M $work/small/raw.img $work/small/base.img
		dd if=/dev/urandom of=$work/small/base.img bs=1M count=12 seek=4 conv=notrunc status=none
		dd if=/dev/zero of=$work/small/filler bs=1M count=64 status=none
	EOF
	guest one "ubd=hotplug:$work/small" <<-EOF
		$life_script
		load
		host=$work/small
		# Added, while the guest runs.
		plug raw path=raw.img werror=stop serial=raw-1
		same raw "\$disk" ubda
		plug cow path=new.cow backing=base.img werror=stop serial=cow-1
		same cow "\$disk" ubdb
		cmp /dev/ubdb \$host/base.img
		churn ubda & one=\$!
		churn ubdb & two=\$!
		# Grown, while it is written to.
		for file in raw.img base.img; do
			truncate -s 56M \$host/\$file
		done
		for disk in ubda ubdb; do
			echo 1 >/sys/block/\$disk/ubd/resize
			same "\$disk" "\$(mib_of \$disk)" 56
		done
		# Filled, until the host is full.
		verify ubda 16 40 rest-ubda & three=\$!
		verify ubdb 16 40 rest-ubdb & four=\$!
		wait_state ubda stopped
		wait_state ubdb stopped
		sleep 2
		refused sh -c 'echo 0 >/sys/kernel/config/ubd/raw/power'
		# There is space: one goes on by itself or when told, the other one too.
		rm \$host/filler
		echo 1 >/sys/block/ubda/ubd/resume
		wait_state ubda running
		wait_state ubdb running
		wait \$three
		wait \$four
		: >\$mnt/enough
		wait \$one
		wait \$two
		for disk in ubda ubdb; do
			same "errors of \$disk" "\$(stat_of \$disk errors)" 0
			[ "\$(stat_of \$disk stops)" -ge 1 ] || die "\$disk never stopped"
			[ "\$(wc -l <\$mnt/rounds.\$disk)" -ge 1 ] || die "nothing was verified on \$disk"
		done
		# What was not written shows the base.
		cmp -n \$((4 << 20)) /dev/ubdb \$host/base.img \$((8 << 20)) \$((8 << 20))
		sha256sum /dev/ubda /dev/ubdb >$work/before
		# Removed, and added the other way round.
		unplug raw
		unplug cow
		[ ! -e /dev/ubda ] && [ ! -e /dev/ubdb ]
		plug cow path=new.cow index=1
		plug raw path=raw.img
		same 'after all' "\$(sha256sum /dev/ubda /dev/ubdb)" "\$(cat $work/before)"
		unplug raw
		unplug cow
		$top/build/ubd-cow check \$host/new.cow
		same 'files of the host' "\$(ls \$host | xargs)" 'base.img new.cow raw.img'
		unload
	EOF
	expect_log one 'ubd: ubda: raw.img: .* the device is stopped'
	expect_silent one 'failed'
}

test_life() {
	life
}

# The same under the debug kernel: no complaint, no memory left behind.
property[debug]=full
limit[debug]=400
test_debug() {
	use_debug
	patience=350
	life
}

run_tests "$@"
