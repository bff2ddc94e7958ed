#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds a guest kernel into the cache directory, once.
#
#   tools/kernel/build.sh release|debug|compare|timetravel
#   tools/kernel/build.sh next|next-smp|next-debug|next-compare
#   tools/kernel/build.sh standalone INITRAMFS OUTPUT
#   tools/kernel/build.sh --path VARIANT     print where a variant is built
#
# release, debug    from Debian's kernel source, patches/, and the fragments
#                   beside this script (debug.config is laid over
#                   release.config)
# compare           a copy of release with the kernel's own ubd driver added
# timetravel        a copy of release that knows UML's time-travel modes
# next              as release, from the newest source of Debian's unstable suite
#                   (newest.sh); next-debug and next-compare as those; next-smp a copy
#                   of next for several CPUs
# standalone        a copy of release with INITRAMFS linked in, put into OUTPUT
#                   while no other checkout can replace it in the cache
#
# A variant is rebuilt when what it is made of has changed: its fragments, the
# version of the source package, the patches, the compiler, for standalone the
# initramfs.
# The two copies cost a handful of objects and a link instead of a full build.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
jobs=${UBD_JOBS:-$(nproc)}

say() { printf 'ubd: %s\n' "$*"; }
die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

# What a calling make leaves in the environment is meant for another build.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL ARCH SUBARCH CROSS_COMPILE \
	O V M KDIR CC CFLAGS CPPFLAGS LDFLAGS KCFLAGS KBUILD_OUTPUT KBUILD_EXTMOD
export LC_ALL=C

# The newest source that Debian has.
find_newest_archive()
{
	archive=$("$here/newest.sh")
	series=${archive##*/linux-source-}
	series=${series%.tar.xz}
	source_version=$(<"$archive.version")
}

# The source archive: 6.12 if it is there, else the newest that is not older.
find_archive()
{
	local file version best=
	for file in /usr/src/linux-source-*.tar.xz; do
		version=${file##*/linux-source-}
		version=${version%.tar.xz}
		[[ -e $file && $version =~ ^[0-9]+\.[0-9]+$ ]] || continue
		if [[ $version == 6.12 ]]; then
			best=$version
			break
		fi
		[[ $(printf '%s\n' 6.12 "$version" | sort -V | head -n 1) == 6.12 ]] || continue
		best=$(printf '%s\n' ${best:+"$best"} "$version" | sort -V | tail -n 1)
	done
	[[ $best ]] || die "no kernel source in /usr/src (Debian package linux-source-6.12): run 'make setup'"
	series=$best
	archive=/usr/src/linux-source-$series.tar.xz
	# Where the package database does not know the archive, its size and date must do.
	source_version=$(dpkg-query -W -f='${Version}' "linux-source-$series" 2>/dev/null ||
		stat -L -c '%s-%Y' "$archive")
}

find_source()
{
	case $1 in
	next*) find_newest_archive ;;
	*) find_archive ;;
	esac
	source_dir=$cache/linux-source-$series
	source_version+=+$(cat "$here"/patches/*.patch | sha256sum | cut -c 1-8)
}

# Our few corrections of UML itself. A newer source may have them already.
patch_source()
{
	local file
	for file in "$here"/patches/*.patch; do
		if patch -d "$1" -p1 -s -f --dry-run <"$file" >/dev/null; then
			patch -d "$1" -p1 -s <"$file"
		elif ! patch -d "$1" -p1 -s -f -R --dry-run <"$file" >/dev/null; then
			say "note: this kernel source does not take ${file##*/}: look whether it is needed"
		fi
	done
}

# A lock for each directory: two makes share the work, not the directory.
locks=()
lock()
{
	local fd
	exec {fd}>"$cache/.$1.lock"
	if ! flock -n "$fd"; then
		say "waiting for another build of $1"
		flock "$fd"
	fi
	locks+=("$fd")
}

unlock()
{
	local fd
	for fd in "${locks[@]}"; do
		exec {fd}>&-
	done
	locks=()
}

unpack_source()
{
	lock "source-$series"
	if [[ $(cat "$source_dir/.ubd-version" 2>/dev/null) != "$source_version" ]]; then
		say "unpacking $archive ($source_version) into $cache"
		local new=$cache/.unpack-$series
		rm -rf "$source_dir" "$new"
		mkdir "$new"
		xz -dc -T0 "$archive" | tar -x -C "$new" --strip-components=1
		patch_source "$new"
		echo "$source_version" >"$new/.ubd-version"
		mv "$new" "$source_dir"
	fi
	unlock
}

fragments()
{
	case $1 in
	release | next) echo "$here/release.config" ;;
	timetravel) echo "$here/release.config $here/timetravel.config" ;;
	next-smp) echo "$here/release.config $here/smp.config" ;;
	debug | next-debug) echo "$here/release.config $here/debug.config" ;;
	compare | next-compare) echo "$here/release.config $here/compare.config" ;;
	standalone) echo "$here/release.config $work/standalone.config" ;;
	esac
}

fingerprint()
{
	{
		echo "$source_version"
		gcc --version | head -n 1
		# shellcheck disable=SC2046 # two file names
		cat $(fragments "$1")
		if [[ $1 == standalone ]]; then
			sha256sum <"$initramfs"
		fi
	} | sha256sum | cut -d ' ' -f 1
}

# Follows a build's log: one line that is overwritten on a terminal, a line now
# and then elsewhere.
progress()
{
	local variant=$1 log=$2 start=$3 next=20 seconds objects
	# Its last sleep may outlive us, and must not keep our locks.
	unlock
	while sleep 1; do
		seconds=$((SECONDS - start))
		objects=$(grep -cE '^ +(\[M\] +)?(CC|AS|LD|AR|HOSTCC|LDS|GEN|UPD)' "$log" || true)
		if [[ -t 1 ]]; then
			printf '\rubd: %s kernel: %d steps done, %d s ' "$variant" "$objects" "$seconds"
		elif ((seconds >= next)); then
			say "$variant kernel: $objects steps done, $seconds s"
			next=$((seconds + 20))
		fi
	done
}

run_make()
{
	local variant=$1 dir=$2 log=$3 status=0 start=$SECONDS follower
	shift 3
	progress "$variant" "$log" "$start" &
	follower=$!
	make -C "$source_dir" ARCH=um O="$dir" "$@" >>"$log" 2>&1 || status=$?
	kill "$follower" 2>/dev/null || true
	wait "$follower" 2>/dev/null || true
	if [[ -t 1 ]]; then printf '\r\033[K'; fi
	if ((status)); then
		tail -n 40 "$log" >&2
		die "the $variant kernel did not build; the whole log is $log"
	fi
}

# An option that Kconfig drops in silence (a dependency is missing, the name has
# changed) would be found much later and elsewhere.
check_config()
{
	local dir=$1 line
	shift
	# The last fragment that names an option decides.
	cat "$@" | awk -F= '/^CONFIG_/ { last[$1] = $0 } END { for (o in last) print last[o] }' | sort |
		while read -r line; do
			case $line in
			*=n) ! grep -q "^${line%=n}=" "$dir/.config" || say "note: the kernel insists on ${line%=n}" ;;
			*) grep -qxF "$line" "$dir/.config" || say "note: this kernel source does not take $line" ;;
			esac
		done
}

configure()
{
	local variant=$1 dir=$2 log=$3 all=$cache/.$1.config
	# shellcheck disable=SC2046 # two file names
	cat $(fragments "$variant") >"$all.new"
	mv "$all.new" "$all"
	KCONFIG_ALLCONFIG=$all make -C "$source_dir" ARCH=um O="$dir" allnoconfig >>"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		die "the $variant kernel could not be configured; the whole log is $log"
	}
	# shellcheck disable=SC2046
	check_config "$dir" $(fragments "$variant")
}

# What a variant is a copy of, with a few objects that are others.
origin_of()
{
	case $1 in
	compare | standalone | timetravel) echo release ;;
	next-smp | next-compare) echo next ;;
	esac
}

build()
{
	local variant=$1 dir=$cache/$1 log=$cache/$1.log stamp goals=(linux modules) start=$SECONDS
	work=$cache/.standalone
	if [[ $variant == standalone ]]; then
		mkdir -p "$work"
		# Under a name of its own, so that a caller may replace its file meanwhile.
		cmp -s "$initramfs" "$work/initramfs.cpio.gz" || cp "$initramfs" "$work/initramfs.cpio.gz"
		printf 'CONFIG_LOCALVERSION="-ubd"\nCONFIG_INITRAMFS_SOURCE="%s"\n' \
			"$work/initramfs.cpio.gz" >"$work/standalone.config"
		# The modules are the release kernel's.
		goals=(linux)
	fi

	stamp=$(fingerprint "$variant")
	if [[ $(cat "$dir/.ubd-stamp" 2>/dev/null) == "$stamp" && -x $dir/linux ]]; then
		return
	fi
	say "building the $variant kernel (linux $source_version, $jobs jobs) in $dir"
	: >"$log"

	# The archive's files keep their old dates: make would not see that they
	# are others than those that the objects were made from.
	if [[ -e $dir/.ubd-source && $(cat "$dir/.ubd-source") != "$source_version" ]]; then
		rm -rf "$dir"
	fi
	local origin base
	origin=$(origin_of "$variant")
	if [[ $origin ]]; then
		base=$(cat "$cache/$origin/.ubd-stamp")
		if [[ $(cat "$dir/.ubd-base" 2>/dev/null) != "$base" ]]; then
			rm -rf "$dir" "$dir.new"
			cp -a --reflink=auto "$cache/$origin" "$dir.new"
			rm -f "$dir.new/.ubd-stamp"
			echo "$base" >"$dir.new/.ubd-base"
			mv "$dir.new" "$dir"
		fi
	fi
	mkdir -p "$dir"
	rm -f "$dir/.ubd-stamp"
	echo "$source_version" >"$dir/.ubd-source"

	configure "$variant" "$dir" "$log"
	run_make "$variant" "$dir" "$log" -j "$jobs" "${goals[@]}"
	echo "$stamp" >"$dir/.ubd-stamp"
	say "$variant kernel built in $((SECONDS - start)) s"
}

main()
{
	local variant=${1:-}
	if [[ $variant == --path ]]; then
		echo "$cache/$2"
		exit
	fi
	initramfs=${2:-} output=${3:-}
	local origin
	case $variant in
	release | debug | compare | timetravel | next | next-smp | next-debug | next-compare) ;;
	standalone) [[ -r $initramfs && $output ]] || die "usage: tools/kernel/build.sh standalone initramfs output" ;;
	*) die "usage: tools/kernel/build.sh release|debug|compare|timetravel|next|next-smp|next-debug|next-compare|standalone [initramfs output]" ;;
	esac
	[[ $cache =~ ^/[^[:space:]:]*$ ]] ||
		die "the cache directory '$cache' must be an absolute path without spaces and colons (kernel builds cannot bear them): set UBD_CACHE"
	mkdir -p "$cache"
	find_source "$variant"
	unpack_source
	origin=$(origin_of "$variant")
	if [[ $origin ]]; then
		lock "$origin"
		build "$origin"
		# Kept for the copy: nobody may rebuild what is being copied.
		lock "$variant"
		build "$variant"
		if [[ $variant == standalone ]] && ! cmp -s "$cache/standalone/linux" "$output"; then
			cp --reflink=auto --remove-destination "$cache/standalone/linux" "$output"
		fi
	else
		lock "$variant"
		build "$variant"
	fi
}

main "$@"
