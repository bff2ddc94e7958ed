#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Boots a guest whose disks are ubd's: `make run`. All that can be chosen comes
# by the environment, where no layer of quoting can change it:
#
#   CMD      a shell script to run in the guest; its status is our status, its
#            output our output. Without it: a shell on this terminal.
#   ROOTFS   a root image to use as it is, for reading and writing
#   DISTRO   debian: a Debian root, booted with its own init
#   COW      1 (the default): the root is a COW file over the base image, which
#            stays as it is; 0: a copy of it
#   MEM      the guest's memory (256M; Debian 512M)
#   SWAP     size of the swap disk (128M; 0 for none)
#   TIMEOUT  seconds after which the guest is ended and the status is 124
#   ARGS     more words for the kernel command line
#   KERNEL   another kernel than build/linux
#   V        1: show what the kernel and its host side say
#
# The root of a run is build/run/<name>.cow (or .img), which stays as the last
# guest left it; `make reset` throws it away. Everything else of a run is in a directory of
# its own that goes when the guest ends.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
run=$(realpath -m "${UBD_RUN:-$build/run}")
cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
PATH=$PATH:/usr/sbin:/sbin

CMD=${CMD:-} COW=${COW:-1} ROOTFS=${ROOTFS:-} DISTRO=${DISTRO:-} TIMEOUT=${TIMEOUT:-0} V=${V:-}
MEM=${MEM:-} SWAP=${SWAP:-128M} ARGS=${ARGS:-} KERNEL=${KERNEL:-$build/linux}

say() { printf 'ubd: %s\n' "$*" >&2; }
die() { say "$*"; exit 125; }

# Sets $root to the image to boot from, and $backing to the base of a COW file.
choose_root()
{
	local base
	backing=
	if [[ $ROOTFS ]]; then
		[[ -z $DISTRO ]] || die "ROOTFS= and DISTRO= exclude each other"
		[[ -e $ROOTFS ]] || die "ROOTFS=$ROOTFS: no such file"
		[[ -r $ROOTFS && -w $ROOTFS ]] || die "ROOTFS=$ROOTFS: may not be read and written by $(id -un)"
		root=$(realpath -- "$ROOTFS")
		return
	fi
	case $DISTRO in
	'' | busybox) base=$build/busybox.img root=$run/root.img ;;
	debian)
		"$top/tools/rootfs/debian.sh" >&2
		base=$cache/debian.img root=$run/debian.img
		;;
	*) die "DISTRO=$DISTRO: there are busybox (the default) and debian" ;;
	esac
	[[ -e $base ]] || die "no $base: run 'make'"
	case $COW in
	0)
		lock_root
		copy_base "$base"
		;;
	1)
		backing=$base
		root=${root%.img}.cow
		lock_root
		check_cow "$base"
		;;
	*) die "COW=$COW: there are 1 (the default) and 0" ;;
	esac
}

# Held as long as the guest lives: the descriptor passes to it. The driver locks
# its files as well; this one comes first, because we write the image here.
lock_root()
{
	exec 9>"$root.lock"
	flock -n 9 || die "a guest already runs on ${root#"$top/"}: end it first (or give this one an image of its own with ROOTFS=)"
}

# The image of a base that has been made anew since (other scripts, packages)
# may not fit the initramfs any more.
copy_base()
{
	local base=$1 id
	id=$(stat -c '%s %Y' "$base")
	[[ ! -e $root || $(cat "$root.base" 2>/dev/null) != "$id" ]] || return 0
	if [[ -e $root ]]; then
		say "${root#"$top/"} was made from an older base: kept as ${root#"$top/"}.old"
		mv "$root" "$root.old"
	fi
	rm -f "$root.new"
	cp --reflink=auto --sparse=always "$base" "$root.new"
	chmod u+w "$root.new"
	mv "$root.new" "$root"
	echo "$id" >"$root.base"
}

# The driver makes the COW file. One whose base has been made anew since fits
# nothing any more.
check_cow()
{
	local base=$1 id
	id=$(stat -c '%s %Y' "$base")
	if [[ -e $root && $(cat "$root.base" 2>/dev/null) != "$id" ]]; then
		say "${root#"$top/"} was made over an older base, which is gone: kept as ${root#"$top/"}.old"
		mv "$root" "$root.old"
	fi
	echo "$id" >"$root.base"
}

# The kernel separates words by blanks and ubd files by commas and colons.
kernel_path()
{
	local file=$1 link=$2
	case $file in
	*[[:space:],:\"\\]*)
		ln -s "$file" "$link"
		echo "$link"
		;;
	*) echo "$file" ;;
	esac
}

# What the guest says is written to sockets below: their paths are short ones.
make_guest_directory()
{
	mkdir -p "$run"
	guest=$(mktemp -d "$run/guest.XXXXXX")
	sockets=$guest
	if ((${#guest} > 70)); then
		sockets=$(mktemp -d "${TMPDIR:-/tmp}/ubd.XXXXXX")
	fi
}

make_swap()
{
	[[ $SWAP != 0 ]] || return 0
	truncate -s "$SWAP" "$guest/swap.img" || die "SWAP=$SWAP: not a size"
	chmod 600 "$guest/swap.img"
	# It warns of holes, which matter to a swap file and not to a disk.
	mkswap "$guest/swap.img" >/dev/null 2>&1 || die "SWAP=$SWAP: too small for swap"
	words+=("ubd1=$(kernel_path "$guest/swap.img" "$guest/swap")")
}

# The command goes into an archive of its own behind the initramfs: the kernel
# unpacks one after the other.
make_initramfs()
{
	local base=$build/initramfs.cpio.gz
	[[ -e $base ]] || die "no $base: run 'make'"
	if [[ -z $CMD ]]; then
		words+=("initrd=$base")
		return
	fi
	printf '%s' "$CMD" >"$guest/cmd"
	(cd "$guest" && mkdir archive && cp cmd archive/ubd-cmd && cd archive &&
		echo ubd-cmd | cpio --quiet -o -H newc -R 0:0) >"$guest/cmd.cpio"
	cp "$base" "$guest/initramfs"
	# An archive starts at a multiple of four.
	truncate -s %4 "$guest/initramfs"
	cat "$guest/cmd.cpio" >>"$guest/initramfs"
	words+=("initrd=$guest/initramfs")
}

# The guest's memory is a file that is mapped executable. The kernel takes
# /dev/shm unless TMPDIR names another place; containers often have a small one.
choose_memory_directory()
{
	local free need
	[[ -z ${TMPDIR:-} ]] || return 0
	need=$(numfmt --from=iec "${MEM^^}" 2>/dev/null) || die "MEM=$MEM: not a size such as 256M"
	free=$(df --output=avail -B1 /dev/shm 2>/dev/null | tail -n 1) || free=0
	if ((free < need)) || findmnt -n -o OPTIONS -T /dev/shm 2>/dev/null | grep -qw noexec; then
		say "/dev/shm cannot hold the guest's $MEM: using /tmp, which is slower"
		export TMPDIR=/tmp
	fi
}

terminal=
guest_pid=
# shellcheck disable=SC2317 # a trap calls it
cleanup()
{
	trap '' INT TERM HUP
	stop_guest
	# The kernel has put the terminal into raw mode; nothing puts it back when it
	# is killed.
	if [[ $terminal ]]; then
		stty "$terminal" <&3 2>/dev/null || true
	fi
	rm -rf "$guest"
	[[ $sockets == "$guest" ]] || rm -rf "$sockets"
}

# The kernel makes itself a session of its own and ignores SIGHUP: neither ^C nor
# the end of the terminal would reach it.
stop_guest()
{
	local waited
	[[ $guest_pid ]] && kill -TERM "$guest_pid" 2>/dev/null || return 0
	for ((waited = 0; waited < 30; waited++)); do
		kill -0 "$guest_pid" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL "$guest_pid" 2>/dev/null || true
}

# Runs a guest with the rest of the command line and sets $status. It runs in the
# background, since a signal to us waits for what is in the foreground.
run_guest()
{
	if [[ $TIMEOUT == 0 ]]; then
		"$KERNEL" "${words[@]}" "$@" <&0 &
	else
		timeout --foreground -k 5 "$TIMEOUT" "$KERNEL" "${words[@]}" "$@" <&0 &
	fi
	guest_pid=$!
	status=0
	wait "$guest_pid" || status=$?
	guest_pid=
}

# Ends the guest of run_on_terminal when its time is up or its terminal gone.
watch_terminal()
{
	local waited=0
	trap '' HUP
	while sleep 1; do
		waited=$((waited + 1))
		if ((TIMEOUT > 0 && waited >= TIMEOUT)); then
			: >"$guest/timeout"
		elif stty -g <&3 >/dev/null 2>&1; then
			continue
		fi
		guest_pid=$(cat "$sockets/guest/pid" 2>/dev/null) || guest_pid=
		stop_guest
	done
}

# A shell. The terminal is opened anew, since the kernel makes its descriptors
# non-blocking, which every program that shares ours would notice.
#
# With job control the guest owns the terminal, as if it had been started by
# hand. Otherwise it starts a thread to learn of the window's size, which cannot
# work in a terminal that belongs to another session, and complains of it.
run_on_terminal()
{
	local watcher
	exec 3<>"$(tty)"
	terminal=$(stty -g <&3)
	watch_terminal 9>&- &
	watcher=$!
	set -m
	"$KERNEL" "${words[@]}" con0=fd:0,fd:1 <&3 >&3 2>&3 3>&- || status=$?
	set +m
	kill "$watcher" 2>/dev/null || true
	if [[ -e $guest/timeout ]]; then
		status=124
	fi
}

# The last lines of a kernel that powers off are no news.
filter_messages()
{
	if [[ $V ]]; then
		cat
	else
		sed -u -E '/^(\[ *[0-9.]+\] )?reboot: (Power down|System halted)\r?$/d'
	fi
}

# No terminal on one side at least: everything through pipes, for the same
# reason, and the command's output apart from the kernel's messages.
run_on_pipes()
{
	local readers=() waited typist
	mkfifo "$guest/out" "$guest/err"
	cat <"$guest/out" 9>&- &
	readers+=($!)
	filter_messages <"$guest/err" >&2 9>&- &
	readers+=($!)
	if [[ $CMD ]]; then
		# A console needs an input that can be polled (/dev/null cannot), and
		# two consoles cannot share a descriptor: pipes where nothing comes.
		mkfifo "$guest/idle"
		run_guest con0=fd:4,fd:2 con1=fd:5,fd:1 con2=fd:6,fd:3 \
			4<>"$guest/idle" 5<>"$guest/idle" 6<>"$guest/idle" \
			</dev/null >"$guest/out" 2>"$guest/err" 3>"$guest/err"
	else
		# The end of our input has to become that of a terminal. More than once:
		# it ends the program that reads, and then the one that started it.
		mkfifo "$guest/in"
		{
			cat
			while sleep 1; do printf '\004'; done
		} <&0 >"$guest/in" 2>/dev/null 9>&- &
		typist=$!
		run_guest con0=fd:0,fd:1 <>"$guest/in" >"$guest/out" 2>"$guest/err"
		kill "$typist" 2>/dev/null || true
	fi
	# Somebody who still holds the pipes must not hold us.
	for ((waited = 0; waited < 30; waited++)); do
		kill -0 "${readers[@]}" 2>/dev/null || break
		sleep 0.1
	done
	kill "${readers[@]}" 2>/dev/null || true
	wait "${readers[@]}" 2>/dev/null || true
}

main()
{
	local start=$SECONDS
	status=0
	[[ $TIMEOUT =~ ^[0-9]+$ ]] || die "TIMEOUT=$TIMEOUT: not a number of seconds"
	[[ -x $KERNEL ]] || die "no kernel $KERNEL: run 'make'"
	if [[ -z $MEM ]]; then
		MEM=256M
		[[ $DISTRO != debian ]] || MEM=512M
	fi
	mkdir -p "$run"
	choose_memory_directory
	choose_root
	make_guest_directory
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP

	words=("ubd0=$(kernel_path "$root" "$guest/root")")
	[[ -z $backing ]] || words[0]+=,$(kernel_path "$backing" "$guest/base")
	make_swap
	make_initramfs
	words+=("root=/dev/ubda" rw "mem=$MEM" con=null "uml_dir=$sockets/" umid=guest)
	# Errors stay visible.
	[[ $V ]] || words+=(quiet loglevel=4)
	# shellcheck disable=SC2206 # words are what is wanted
	words+=($ARGS)

	if [[ -z $CMD && -t 0 && -t 1 ]]; then
		run_on_terminal
	else
		run_on_pipes
	fi
	if [[ $TIMEOUT != 0 ]] && ((status == 124 || SECONDS - start >= TIMEOUT && status == 137)); then
		say "the guest was ended after TIMEOUT=$TIMEOUT s"
		status=124
	fi
	exit "$status"
}

main "$@"
