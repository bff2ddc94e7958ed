#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes Debian packages of what was built, as an ordinary user:
#
#   tools/package/deb.sh DIRECTORY
#
# They are named in debian/control, and what is in them by install.sh. Nothing
# but dpkg-dev is needed. The same input makes the same packages, where
# DEBFULLNAME and DEBEMAIL are the same: they tell the maintainer, as in the
# kernel's own `make bindeb-pkg`.
set -euo pipefail
umask 022
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=tools/package

die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

(($# == 1)) || die "usage: tools/package/deb.sh directory"
command -v dpkg-gencontrol >/dev/null || die "no dpkg-gencontrol (Debian package dpkg-dev): run 'make setup'"
[[ -e build/ubd.ko && -e build/linux ]] || die "nothing is built: run 'make'"
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$out/.ubd-work
version=$(sed -n 's/^#define UBD_VERSION "\(.*\)"$/\1/p' include/ubd/version.h)
# So that -1 is left to who uploads it to Debian.
revision=$version-0ubd1
release=$(modinfo -F vermagic build/ubd.ko)
release=${release%% *}
maintainer="${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(hostname -f 2>/dev/null || hostname)}>"
# The date of all files: that of the commit, or, in an archive made of it, of
# its files.
if [[ ! ${SOURCE_DATE_EPOCH:-} && -e .git ]]; then
	# It refuses to look into a repository of somebody else's.
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || true
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y include/ubd/version.h)}
export SOURCE_DATE_EPOCH

# Where dpkg's programs look for what they need.
prepare()
{
	rm -rf "$work"
	# Of an earlier release or kernel, too, but nobody else's.
	rm -f "$out"/ubd-{tools,udev,dkms,linux,modules-*}_*ubd*_*.deb
	mkdir -p "$work/debian"
	sed -e '/^#/d' -e "s/@RELEASE@/$release/g; s/@VERSION@/$version/g; s/@MAINTAINER@/$(sed 's,[\\/&],\\&,g' <<<"$maintainer")/" \
		$here/debian/control >"$work/debian/control"
	cat >"$work/debian/changelog" <<-END
		ubd ($revision) unstable; urgency=medium

		  * Release $version: changelog.gz says what is new.

		 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
	END
}

# stage PACKAGE PART...: puts files where they will be, and their documents
stage()
{
	local package=$1 doc=$work/$1/usr/share/doc/$1
	shift
	DESTDIR=$work/$package PREFIX=/usr DOCDIR=/usr/share/doc/$package MODDIR='' \
		$here/install.sh install "$@" >/dev/null
	mkdir -p "$doc"
	cp $here/debian/copyright "$doc/copyright"
	gzip -9n <Documentation/CHANGELOG.md >"$doc/changelog.gz"
	gzip -9n <"$work/debian/changelog" >"$doc/changelog.Debian.gz"
	if [[ -e $here/debian/$package.overrides ]]; then
		install -D -m 644 "$here/debian/$package.overrides" "$work/$package/usr/share/lintian/overrides/$package"
	fi
}

# What debuggers need stays in build/.
strip_files()
{
	local file
	for file in "$@"; do
		case $file in
		*.ko) strip --strip-debug "$file" ;;
		*/ubd-report) ;; # a script
		*) strip --strip-unneeded --remove-section=.comment --remove-section=.note "$file" ;;
		esac
	done
}

# built_using PACKAGE...: the source packages of these
built_using()
{
	local list
	# shellcheck disable=SC2016 # fields of dpkg-query's
	list=$(dpkg-query -W -f='${source:Package} (= ${source:Version}), ' "$@" 2>/dev/null) || true
	echo "built-using=${list%, }"
}

# Scripts that dpkg runs, from debian/NAME.SCRIPT
scripts()
{
	local package=$1 name=$2 script
	for script in postinst prerm postrm; do
		[[ -e $here/debian/$name.$script ]] || continue
		sed "s/@RELEASE@/$release/g; s/@VERSION@/$version/g" "$here/debian/$name.$script" \
			>"$work/$package/DEBIAN/$script"
		chmod 755 "$work/$package/DEBIAN/$script"
	done
}

# pack PACKAGE [NAME-OF-SCRIPTS [SUBSTVAR...]]
pack()
{
	local package=$1 name=${2:-$1} root=$work/$1
	mkdir -p "$root/DEBIAN"
	scripts "$package" "$name"
	(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) \
		>"$root/DEBIAN/md5sums"
	(cd "$work" && dpkg-gencontrol -p"$package" -P"$package" -Tdebian/substvars -v"$revision" -fdebian/files)
	dpkg-deb --root-owner-group --build "$root" "$out" >/dev/null
	: >"$work/debian/substvars"
}

# libraries FILE...: the packages that they need
libraries()
{
	(cd "$work" && dpkg-shlibdeps -O "$@" 2>/dev/null)
}

prepare

stage ubd-tools tools man initramfs doc
programs=("$work"/ubd-tools/usr/bin/* "$work/ubd-tools/usr/lib/ubd/gen_init_cpio")
strip_files "${programs[@]}" "$work/ubd-tools/usr/lib/ubd/init"
libraries "${programs[@]}" >"$work/debian/substvars"
pack ubd-tools

stage ubd-udev udev
: >"$work/debian/substvars"
pack ubd-udev

stage ubd-dkms source
pack ubd-dkms

modules=ubd-modules-$release
stage "$modules" module
strip_files "$work/$modules/usr/lib/modules/$release/updates/ubd.ko"
built_using liburing-dev >"$work/debian/substvars"
pack "$modules" ubd-modules

stage ubd-linux kernel
strip_files "$work"/ubd-linux/usr/{bin/linux.ubd,lib/ubd/linux}
{
	libraries "$work"/ubd-linux/usr/{bin/linux.ubd,lib/ubd/linux}
	built_using liburing-dev busybox-static 'linux-source-[0-9]*'
} >"$work/debian/substvars"
pack ubd-linux

rm -rf "$work"
ls "$out"/*.deb
