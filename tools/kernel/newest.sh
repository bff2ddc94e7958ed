#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Fetches the newest kernel source of Debian's unstable suite into the cache
# directory, and prints the archive's name. Beside it, NAME.version is the
# package's. One that is there is looked up anew after a week; without a network
# it stays.
#
# The machine's own apt is left as it is: this has a configuration, lists and an
# empty package database of its own. The mirror is the one that the machine takes
# its own Debian from; signatures are checked with Debian's keyring, or UBD_KEYRING.
set -euo pipefail
export LC_ALL=C

cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
dir=$cache/newest
keyring=${UBD_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

say() { printf 'ubd: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

there()
{
	find "$dir" -maxdepth 1 -name 'linux-source-*.tar.xz' 2>/dev/null | sort -V | tail -n 1
}

# Where apt has the suite that this machine is, by whatever name, in sources of either
# format; package lists need not be there.
mirror()
{
	local VERSION_CODENAME=
	. /etc/os-release
	# shellcheck disable=SC2016 # apt's own
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v suite="$VERSION_CODENAME" '$3 == "main" && ($2 == suite || $2 ~ /^(oldstable|stable|testing|unstable|sid)$/) && !found++ { print $1 }'
}

configure_apt()
{
	local uri
	uri=$(mirror)
	if [[ ! $uri ]]; then
		say "the sources of this machine's apt name no Debian archive"
		return 1
	fi
	if [[ ! -e $keyring ]]; then
		say "the keyring $keyring is missing (Debian package debian-archive-keyring)"
		return 1
	fi
	mkdir -p "$dir"/apt/{state/lists/partial,cache/archives/partial,none}
	: >"$dir/apt/status"
	echo "deb [signed-by=$keyring] $uri unstable main" >"$dir/apt/sources.list"
	cat >"$dir/apt/apt.conf" <<-END
		Dir::State "$dir/apt/state";
		Dir::State::status "$dir/apt/status";
		Dir::Cache "$dir/apt/cache";
		Dir::Etc::sourcelist "$dir/apt/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::Etc::preferences "-";
		Dir::Etc::preferencesparts "$dir/apt/none";
		APT::Sandbox::User "";
		Acquire::Languages "none";
	END
	export APT_CONFIG=$dir/apt/apt.conf
}

fetch()
{
	local package version file
	configure_apt || return
	say "looking for the newest kernel source of Debian's unstable suite"
	# Any failure counts: of a mirror in a directory apt would take what is there now,
	# signed or not, and warn.
	apt-get -qq --error-on=any update >&2 || return
	package=$(apt-cache pkgnames linux-source- | grep -xE 'linux-source-[0-9]+\.[0-9]+' | sort -V | tail -n 1)
	if [[ ! $package ]]; then
		say 'the unstable suite has no linux-source package'
		return 1
	fi
	version=$(apt-cache show --no-all-versions "$package" | awk '$1 == "Version:" { print $2; exit }')
	file=$dir/$package.tar.xz
	if [[ -e $file && $(cat "$file.version") == "$version" ]]; then
		touch "$file"
		return
	fi
	say "fetching $package $version (about 150 MB)"
	rm -rf "$dir/new"
	mkdir "$dir/new"
	if ! (cd "$dir/new" && apt-get -qq download "$package" && dpkg-deb -x ./*.deb . && [[ -e usr/src/$package.tar.xz ]]) >&2; then
		rm -rf "$dir/new"
		return 1
	fi
	rm -f "$dir"/linux-source-*
	echo "$version" >"$file.version"
	mv "$dir/new/usr/src/$package.tar.xz" "$file"
	touch "$file"
	rm -rf "$dir/new"
}

mkdir -p "$dir"
exec {fd}>"$dir/.lock"
flock "$fd"
if [[ ! $(find "$dir" -maxdepth 1 -name 'linux-source-*.tar.xz' -mtime -7) ]]; then
	fetch || say 'it could not be fetched'
fi
[[ $(there) ]] || die "no source of a newer kernel: give this machine a network once, and run 'make kernel-next'"
there
