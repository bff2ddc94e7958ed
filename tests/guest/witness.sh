# SPDX-License-Identifier: GPL-2.0-only
#
# What the host's kernel saw of a file, which knows nothing of the driver. Sourced
# by tests.
# shellcheck shell=bash disable=SC2154 # of others

# start_witness FILE: counts fsyncs of that file in the host's kernel
start_witness() {
	local tracing=$work/tracing

	[ "$(id -u)" = 0 ] || skip "the outside witness (host tracefs) needs root"
	[ "$(findmnt -n -o FSTYPE -T "$1")" = ext4 ] || skip "the outside witness knows ext4, and the images lie on another file system"
	mkdir -p "$tracing"
	mount -t tracefs tracefs "$tracing" 2>/dev/null || skip "the host's kernel offers no tracefs here"
	at_end "umount $tracing"
	witness=$tracing/instances/ubd-test-$$
	mkdir "$witness" 2>/dev/null || skip "the host's kernel lets no trace instance be made"
	at_end "rmdir $witness"
	[ -e "$witness/events/ext4/ext4_sync_file_enter" ] || skip "the host's kernel has no ext4 trace events"
	echo "ino == $(stat -c %i "$1")" >"$witness/events/ext4/ext4_sync_file_enter/filter"
	echo 1 >"$witness/events/ext4/ext4_sync_file_enter/enable"
	at_end "echo 0 >$witness/events/enable"
}

# How many it saw.
witnessed() {
	grep -c ext4_sync_file_enter "$witness/trace" || true
}
