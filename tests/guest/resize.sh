#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Disks that grow: the attribute `resize` sees the new size of the host's file.
. "$(dirname "$0")/lib.sh"

test_raw() {
	local img

	img=$(image a.img 32M)
	guest one "ubd0=$img" <<-EOF
		load
		truncate -s 48M $img
		same before "\$(blockdev --getsize64 /dev/ubda)" $((32 << 20))
		echo 1 >/sys/block/ubda/ubd/resize
		same after "\$(blockdev --getsize64 /dev/ubda)" $((48 << 20))
	EOF
}
test_cow() {
	image base.img 32M
	noise base.img 32
	guest one "ubd0=$work/a.cow,$work/base.img" <<-EOF
		load
		"\$tool" pattern write /dev/ubda 0 4096 1
		"\$tool" pattern write /dev/ubda 60000 64 2
		truncate -s 200M $work/base.img
		echo 1 >/sys/block/ubda/ubd/resize
		same after "\$(blockdev --getsize64 /dev/ubda)" $((200 << 20))
		"\$tool" pattern check /dev/ubda 0 4096 1
		"\$tool" pattern check /dev/ubda 60000 64 2
		"\$tool" pattern write /dev/ubda 300000 64 3
		"\$tool" pattern check /dev/ubda 0 4096 1
		"\$tool" pattern check /dev/ubda 300000 64 3
	EOF
}
run_tests "$@"
