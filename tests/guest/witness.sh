# SPDX-License-Identifier: GPL-2.0-only
#
# What the host's kernel saw of a file, which knows nothing of the driver. Sourced
# by tests.
# shellcheck shell=bash disable=SC2154 # of others

# Where it counts; and why it does not.
witness=
no_witness=

# start_witness FILE: counts fsyncs of that file in the host's kernel. False, with
# $no_witness, where that cannot be had.
start_witness() {
	local tracing=$work/tracing

	no_witness=$(missing_for_witness "$1")
	[ -z "$no_witness" ] || return 1
	at_end "umount $tracing"
	witness=$tracing/instances/ubd-test-$$
	at_end "rmdir $witness"
	# A dev_t of the kernel's.
	echo "ino == $(stat -c %i "$1") && dev == $(($(stat -c '%Hd * 1048576 + %Ld' "$1")))" \
		>"$witness/events/ext4/ext4_sync_file_enter/filter"
	echo 1 >"$witness/events/ext4/ext4_sync_file_enter/enable"
	at_end "echo 0 >$witness/events/enable"
}

# Prints why there can be none; mounts and makes what there is.
missing_for_witness() {
	local instance=$work/tracing/instances/ubd-test-$$

	if [ "$(id -u)" != 0 ]; then
		echo "the outside witness (host tracefs) needs root"
	elif [ "$(findmnt -n -o FSTYPE -T "$1")" != ext4 ]; then
		echo "the outside witness knows ext4, and the images lie on another file system"
	elif ! mkdir -p "$work/tracing" || ! mount -t tracefs tracefs "$work/tracing" 2>/dev/null; then
		echo "the host's kernel offers no tracefs here"
	elif ! mkdir "$instance" 2>/dev/null; then
		umount "$work/tracing"
		echo "the host's kernel lets no trace instance be made"
	elif [ ! -e "$instance/events/ext4/ext4_sync_file_enter" ]; then
		rmdir "$instance"
		umount "$work/tracing"
		echo "the host's kernel has no ext4 trace events"
	fi
}

# How many it saw.
witnessed() {
	grep -c ext4_sync_file_enter "$witness/trace" || true
}

# expect_witnessed NUMBER: if there is a witness
expect_witnessed() {
	[ -z "$witness" ] || expect_eq 'fsyncs that the host saw' "$(witnessed)" "$1"
}
