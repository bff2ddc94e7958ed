#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernels that the module builds for: without a warning, with all differences in
# one header; and how the newest source of Debian's archive is fetched.
. "$(dirname "$0")/lib.sh"

# All that depends on a kernel's version is in compat.h.
test_one_header() {
	local found

	found=$(cd "$top" && grep -rnE 'LINUX_VERSION_CODE|KERNEL_VERSION\(' Kbuild include drivers tests/kunit |
		grep -v '^drivers/ubd/kernel/compat\.h:') || true
	[ -z "$found" ] || fail "a kernel's version is asked for elsewhere: $found"
	grep -q 'LINUX_VERSION_CODE' "$top/drivers/ubd/kernel/compat.h" || fail 'nor in compat.h'
}

# From nothing, against each kernel that is there; not one line is printed.
property[no_warning]=full
limit[no_warning]=1500
test_no_warning() {
	local names="$release_name $debug_name $compare_name timetravel"
	local name

	[ "$test_variant" != next ] || names="$release_name $debug_name $compare_name next-smp"
	for name in $names; do
		[ -e "$cache/$name/linux" ] || fail "no kernel $name; make kernel-$name"
		UBD_WERROR=1 env -u MAKEFLAGS -u MFLAGS "$top/tools/build-module.sh" "$cache/$name" "$work/$name" >"$name.log" 2>&1 ||
			fail "the module for $name: $(cat "$name.log")"
		# That it has another name there.
		sed -i '/: the module is .*aubd[.]ko$/d' "$name.log"
		[ ! -s "$name.log" ] || fail "the build for $name says: $(cat "$name.log")"
		ls "$name"/*ubd.ko >/dev/null
		rm -r "${name:?}"
	done
}

# An archive as Debian's, whose kernel sources are some words.

# sign KEY: the archive's release file
sign() {
	(cd repo/dists/unstable && rm -f InRelease && gpg --homedir "$work/gpg" --batch -q -u "$1" --clearsign -o InRelease Release)
}

# publish KEY SERIES...: the archive has these
publish() {
	local key=$1
	local index=main/binary-$(dpkg --print-architecture)/Packages
	local series file

	shift
	rm -rf repo
	mkdir -p "repo/dists/unstable/${index%/*}" repo/pool
	for series in "$@"; do
		rm -rf package
		mkdir -p package/DEBIAN package/usr/src
		echo "source of $series" >"package/usr/src/linux-source-$series.tar.xz"
		cat >package/DEBIAN/control <<-END
			Package: linux-source-$series
			Version: $series.3-1
			Architecture: all
			Maintainer: nobody <nobody@localhost>
			Description: words
		END
		file=pool/linux-source-$series.deb
		dpkg-deb --root-owner-group -b package "repo/$file" >/dev/null
		cat package/DEBIAN/control - <<-END >>"repo/dists/unstable/$index"
			Filename: $file
			Size: $(stat -c %s "repo/$file")
			SHA256: $(sha256sum "repo/$file" | cut -d ' ' -f 1)

		END
	done
	(
		cd repo/dists/unstable
		cat >Release <<-END
			Origin: Debian
			Suite: unstable
			Codename: sid
			Date: $(LC_ALL=C date -u -R)
			Architectures: $(dpkg --print-architecture)
			Components: main
			SHA256:
			 $(sha256sum "$index" | cut -d ' ' -f 1) $(stat -c %s "$index") $index
		END
	)
	sign "$key"
}

# newest: what the script prints; its words are in the file said
newest() {
	APT_CONFIG=$work/machine/apt.conf UBD_CACHE=$work/cache UBD_KEYRING=$work/good.gpg \
		"$top/tools/kernel/newest.sh" 2>said
}

# fetched SERIES: this is what is there, and nothing else
fetched() {
	expect_eq 'newest source' "$(newest)" "$work/cache/newest/linux-source-$1.tar.xz"
	expect_eq 'its text' "$(cat "cache/newest/linux-source-$1.tar.xz")" "source of $1"
	expect_eq 'its version' "$(cat "cache/newest/linux-source-$1.tar.xz.version")" "$1.3-1"
	expect_eq 'what is kept' "$(ls cache/newest | tr '\n' ' ')" "apt linux-source-$1.tar.xz linux-source-$1.tar.xz.version "
}

a_week_later() {
	find cache/newest -maxdepth 1 -name '*.tar.xz' -exec touch -d '8 days ago' {} +
}

machine_apt() {
	# Who is not root cannot look into all of it.
	{ find /etc/apt /var/lib/apt /var/lib/dpkg/status /var/cache/apt -printf '%p %s %T@\n' 2>/dev/null || true; } | sort
}

# The newest is found, whatever format the machine's sources have; what is not signed by
# Debian is not taken; what is there is looked up once a week; the machine's apt stays.
test_newest() {
	local suite before

	command -v gpg apt-get dpkg-deb >/dev/null || skip 'this is no Debian'
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	before=$(machine_apt)
	mkdir -m 700 gpg
	mkdir -p machine/parts machine/state cache
	at_end "gpgconf --homedir '$work/gpg' --kill all"
	for key in good bad; do
		gpg --homedir gpg --batch -q --passphrase '' --quick-gen-key "$key" rsa2048 sign never 2>gpg.log || fail "$(cat gpg.log)"
		gpg --homedir gpg --batch -q --export "$key" >"$key.gpg"
	done
	cat >machine/apt.conf <<-END
		Dir::State "$work/machine/state";
		Dir::Etc::sourcelist "$work/machine/sources.list";
		Dir::Etc::sourceparts "$work/machine/parts";
	END

	publish good 6.12 7.2 7.10
	cat >machine/sources.list <<-END
		deb file:/nowhere tools main
		deb file:/nowhere $suite-security main
		deb file:$work/repo $suite contrib main
	END
	fetched 7.10

	# Within a week nobody asks.
	publish good 7.10 7.11
	fetched 7.10
	expect_eq 'what is said' "$(cat said)" ''

	a_week_later
	rm machine/sources.list
	printf 'Types: deb\nURIs: file:%s\nSuites: stable stable-updates\nComponents: main\n' "$work/repo" >machine/parts/debian.sources
	fetched 7.11

	# There is no newer one: it is not fetched again.
	a_week_later
	rm -r repo/pool
	fetched 7.11
	! grep -q 'fetch' said || fail "fetched again: $(cat said)"
	expect_eq 'looked up again' "$(find cache/newest -maxdepth 1 -name '*.tar.xz' -mtime -1 | wc -l)" 1

	# Signed by others; or not what was signed.
	a_week_later
	publish bad 7.12
	touch -d 'next hour' repo/dists/unstable/*/*/Packages # apt sees a change by the second
	fetched 7.11
	grep -q 'NO_PUBKEY' said || fail "nothing of the signature: $(cat said)"
	a_week_later
	publish good 7.12
	echo more >>repo/pool/linux-source-7.12.deb
	fetched 7.11
	grep -q 'could not be fetched' said || fail "no word of it: $(cat said)"
	rm -r cache/newest
	publish bad 7.12
	! newest >out || fail 'what others signed was taken'
	expect_eq out "$(cat out)" ''
	grep -q "make kernel-next" said || fail "no advice: $(cat said)"

	# No Debian.
	rm machine/parts/*
	! newest >out || fail "there is no archive: $(cat said)"
	grep -q 'name no Debian archive' said || fail "not said: $(cat said)"
	expect_eq "the machine's apt" "$(machine_apt)" "$before"
}

run_tests "$@"
