#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Installs what was built, and takes it away again: `make install`,
# `make uninstall`, and the content of the packages of `make deb`.
#
#   tools/package/install.sh install|uninstall|list [PART]...
#
#   module      ubd.ko, below the modules of the kernel that it was built for (aubd.ko,
#               where that is its name)
#   tools       the programs for the host
#   man         manual pages
#   udev        udev rules, for the guest
#   initramfs   what makes an initramfs that has another kernel's ubd.ko
#   doc         README and Documentation
#   kernel      linux.ubd, a guest kernel that has the module and all else inside,
#               and its manual page; the same kernel with nothing inside, and the
#               initramfs for it
#   source      the module's source for dkms
#
# Without a part: all but the last two. list prints mode and path of each file.
# From the environment:
#
#   DESTDIR     is put before each path, for who packs
#   PREFIX      /usr/local
#   MODDIR      where ubd.ko goes: PREFIX/lib/modules/<kernel>/updates
#   DOCDIR      PREFIX/share/doc/ubd
#   TOOLS       the programs for the host, which make knows
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=build
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
docdir=${DOCDIR:-$prefix/share/doc/ubd}
libdir=$prefix/lib/ubd
version=$(sed -n 's/^#define UBD_VERSION "\(.*\)"$/\1/p' include/ubd/version.h)
sources=$prefix/src/ubd-$version

die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

# file MODE SOURCE TARGET
file() { printf '%s\t%s\t%s\n' "$@"; }

man_page() { file 644 "$build/man/$1.gz" "$prefix/share/man/man${1##*.}/$1.gz"; }

# What goes to the module's place is for one kernel; what goes away, for all.
module_file()
{
	local release found name=ubd.ko
	[[ -e $build/ubd.ko || ! -e $build/aubd.ko ]] || name=aubd.ko
	if [[ ${MODDIR:-} ]]; then
		file 644 "$build/$name" "$MODDIR/$name"
	elif [[ $action == uninstall ]]; then
		for found in "$destdir$prefix"/lib/modules/*/updates/{,a}ubd.ko; do
			file 644 "$build/${found##*/}" "${found#"$destdir"}"
		done
	else
		[[ -e $build/$name ]] || die "no $build/$name: run 'make'"
		release=$(modinfo -F vermagic "$build/$name")
		file 644 "$build/$name" "$prefix/lib/modules/${release%% *}/updates/$name"
	fi
}

source_files()
{
	echo Kbuild
	echo LICENSE
	echo tools/check-object.sh
	find drivers include -type f '(' -name '*.[ch]' -o -name '*.cc' -o -name '*.hh' ')' | LC_ALL=C sort
}

# The files of a part. A source @dkms.conf is made when it is installed.
files()
{
	local name
	case $1 in
	module) module_file ;;
	tools)
		for name in ${TOOLS:?is not set: call this by make}; do
			file 755 "$name" "$prefix/bin/${name##*/}"
		done
		;;
	man)
		for name in Documentation/man/*.[1-9]; do
			[[ $name == */linux.ubd.1 ]] || man_page "${name##*/}"
		done
		;;
	udev) file 644 tools/udev/60-ubd.rules "$prefix/lib/udev/rules.d/60-ubd.rules" ;;
	initramfs)
		file 755 "$build/init" "$libdir/init"
		file 755 "$build/gen_init_cpio" "$libdir/gen_init_cpio"
		file 755 tools/initramfs.sh "$libdir/initramfs.sh"
		;;
	doc)
		file 644 README.md "$docdir/README.md"
		for name in Documentation/*.md Documentation/*.svg; do
			file 644 "$name" "$docdir/$name"
		done
		;;
	kernel)
		file 755 "$build/linux-standalone" "$prefix/bin/linux.ubd"
		man_page linux.ubd.1
		file 755 "$build/linux" "$libdir/linux"
		file 644 "$build/initramfs.cpio.gz" "$libdir/initramfs.cpio.gz"
		;;
	source)
		source_files | while read -r name; do
			file 644 "$name" "$sources/$name"
		done
		file 644 @dkms.conf "$sources/dkms.conf"
		;;
	*) die "no such part: $1 (there are module, tools, man, udev, initramfs, doc, kernel, source)" ;;
	esac
}

# What depmod makes of a module in its usual place on the running system. It
# misses what belongs to a whole kernel's modules, and says so.
update_modules()
{
	local release=${1#"$prefix/lib/modules/"}
	[[ -z $destdir && $1 =~ ^"$prefix"/lib/modules/[^/]*/updates/a?ubd\.ko$ ]] || return 0
	release=${release%%/*}
	if [[ -e $1 || -n $(find "$prefix/lib/modules/$release" -type f ! -name 'modules.*') ]]; then
		depmod -b "$prefix" "$release" 2>/dev/null || die "depmod failed for $prefix/lib/modules/$release"
	else
		# Only its own files are left.
		rm -f "$prefix/lib/modules/$release"/modules.{alias,builtin.alias,builtin,dep,symbols}{,.bin} \
			"$prefix/lib/modules/$release"/modules.{devname,softdep,weakdep}
		remove_directories "$prefix/lib/modules/$release"
	fi
}

# Directories that only we use go when they are empty.
remove_directories()
{
	local dir=$1
	while :; do
		case $dir in
		"$libdir" | "$docdir" | "$docdir"/* | "$sources" | "$sources"/* | */lib/modules/*)
			rmdir "$destdir$dir" 2>/dev/null || return 0
			;;
		*) return 0 ;;
		esac
		dir=${dir%/*}
	done
}

install_one()
{
	if [[ $2 == @dkms.conf ]]; then
		sed "s/@VERSION@/$version/" tools/package/dkms.conf | install -D -m "$1" /dev/stdin "$destdir$3"
	else
		install -D -p -m "$1" "$2" "$destdir$3"
	fi
	echo "  INSTALL $destdir$3"
	update_modules "$3"
}

# What a package put there is that one's to remove.
is_packaged()
{
	[[ -z $destdir ]] && command -v dpkg-query >/dev/null && dpkg-query -S "$(realpath "$1")" >/dev/null 2>&1
}

uninstall_one()
{
	[[ -e $destdir$3 ]] || return 0
	if is_packaged "$3"; then
		echo "  KEEP    $3, which is a package's"
		return
	fi
	echo "  REMOVE  $destdir$3"
	rm -f "$destdir$3"
	remove_directories "${3%/*}"
	update_modules "$3"
}

(($# >= 1)) || die "usage: tools/package/install.sh install|uninstall|list [part]..."
action=$1
shift
[[ $action =~ ^(install|uninstall|list)$ ]] || die "no such action: $action"
(($#)) || set -- module tools man udev initramfs doc

# All is there before the first file goes anywhere.
list=
for part in "$@"; do
	more=$(files "$part")
	list+=$more$'\n'
done
while IFS=$'\t' read -r mode source target; do
	[[ $action != install || $source == @* || -e $source ]] || die "no $source: run 'make'"
done <<<"${list%$'\n'}"
while IFS=$'\t' read -r mode source target; do
	case $action in
	install) install_one "$mode" "$source" "$target" ;;
	uninstall) uninstall_one "$mode" "$source" "$target" ;;
	list) echo "$mode $destdir$target" ;;
	esac
done <<<"${list%$'\n'}"
