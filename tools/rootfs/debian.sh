#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes a Debian root with systemd as an ext4 image, once, and keeps it in the
# cache directory as debian.img. Made anew when this script or what is copied
# into the root has changed.
#
# Works as an ordinary user, in a user name space; packages come from where this
# machine has its own from.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
image=$cache/debian.img
log=$cache/debian.log
size=2G
packages=systemd-sysv,udev,dbus,kmod,procps,util-linux,e2fsprogs,iproute2,less
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'ubd: %s\n' "$*"; }
die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

work=
cleanup() { rm -rf "$image.new" ${work:+"$work"}; }

suite_of_host()
{
	# shellcheck disable=SC1091
	(. /etc/os-release && [[ ${ID:-} == debian ]] && echo "${VERSION_CODENAME:-}") || true
}

# The host's apt sources, without those of other suites (third parties).
sources()
{
	{ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
		awk -v suite="$suite" '
			/^deb[ \t]/ {
				line = $0
				sub(/\[[^]]*\][ \t]*/, "", line)
				split(line, field, /[ \t]+/)
				if (field[3] ~ "^" suite "(-updates|-security)?(/updates)?$")
					print
			}'
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -e $file ]] || continue
		# One paragraph is one source; only those with nothing but our suite.
		awk -v suite="$suite" 'BEGIN { RS = ""; FS = "\n" }
			{
				ok = 0; binary = 0; one = ""
				for (i = 1; i <= NF; i++) {
					line = $i
					if (line ~ /^#/) continue
					if (line ~ /^Types:.*deb([ \t]|$)/) binary = 1
					if (line ~ /^Enabled:[ \t]*no/) binary = 0
					if (line ~ /^Suites:/) {
						ok = 1
						n = split(line, s, /[ \t]+/)
						for (j = 2; j <= n; j++)
							if (s[j] != "" && s[j] !~ "^" suite "(-updates|-security)?$") ok = 0
					}
					if (line ~ /^URIs:/) uris = substr(line, 6)
					if (line ~ /^Suites:/) suites = substr(line, 8)
					if (line ~ /^Components:/) components = substr(line, 12)
					if (line ~ /^Signed-By:/) signed = substr(line, 11)
				}
				if (!ok || !binary) next
				gsub(/^[ \t]+/, "", signed)
				option = signed ~ /^\// ? "[signed-by=" signed "] " : ""
				nu = split(uris, u, /[ \t]+/); ns = split(suites, s, /[ \t]+/)
				for (a = 1; a <= nu; a++) for (b = 1; b <= ns; b++)
					if (u[a] != "" && s[b] != "")
						print "deb " option u[a] " " s[b] " " components
				signed = ""
			}' "$file"
	done
}

# A user name space with more users than one needs ranges to take them from.
check_name_spaces()
{
	local user
	((EUID != 0)) || return 0
	user=$(id -un)
	if ! grep -qE "^($user|$EUID):" /etc/subuid || ! grep -qE "^($user|$EUID):" /etc/subgid; then
		die "$user has no subordinate user ids, which a Debian root of many users needs. Have root type, once:

    usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user
"
	fi
	unshare --user true 2>/dev/null ||
		die "this machine allows no user name spaces to $user (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
}

make_image()
{
	local mode mirror proxy options=()
	mode=unshare
	((EUID != 0)) || mode=root
	# The users of the name space are not us: their directory is not in our home.
	work=$(mktemp -d /tmp/ubd-debian.XXXXXX)
	trap cleanup EXIT
	chmod 755 "$work"
	mirror=$work/sources.list
	sources >"$mirror"
	if [[ ! -s $mirror ]]; then
		say "no apt sources for $suite on this machine: mmdebstrap's default it is"
		mirror=
	fi
	proxy=$(apt-config shell p Acquire::http::Proxy 2>/dev/null | sed -n "s/^p='\(.*\)'$/\1/p")
	[[ -z $proxy ]] || options+=("--aptopt=Acquire::http::Proxy \"$proxy\"")

	# What goes into it over the packages, owned by root.
	tar -C "$here/debian" --owner=0 --group=0 --mode='u=rwX,go=rX' -cf "$work/overlay.tar" .
	chmod 644 "$work"/*

	mmdebstrap --mode="$mode" --variant=minbase --include="$packages" "${options[@]}" \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook="tar -C \"\$1\" -xf $work/overlay.tar" \
		--customize-hook='chroot "$1" /bin/sh /etc/ubd-setup && rm "$1/etc/ubd-setup"' \
		"$suite" "$work/root.tar" ${mirror:+"$mirror"} >"$log" 2>&1 </dev/null || {
		tail -n 30 "$log" >&2
		die "mmdebstrap failed; the whole log is $log"
	}
	chmod 644 "$work/root.tar"

	# mke2fs copies a directory with the owners that it sees, so it has to look
	# from inside the name space; the image leaves that through a pipe.
	rm -f "$image.new"
	# shellcheck disable=SC2016 # for the inner shell
	local pack='
		set -e
		tree=$(mktemp -d /tmp/ubd-debian.XXXXXX)
		trap "rm -rf $tree" EXIT
		mkdir "$tree/root"
		tar -C "$tree/root" --numeric-owner --xattrs --exclude="./dev/*" -xpf -
		truncate -s '"$size"' "$tree/img"
		mke2fs -q -F -t ext4 -b 4096 -L ubd-debian -m 0 -d "$tree/root" "$tree/img" >&2
		cat "$tree/img"'
	# shellcheck disable=SC2216 # cp does read it
	if ((EUID == 0)); then
		bash -c "$pack"
	else
		mmdebstrap --unshare-helper bash -c "$pack"
	fi <"$work/root.tar" 2>>"$log" | cp --sparse=always /dev/stdin "$image.new" || {
		tail -n 30 "$log" >&2
		die "packing the Debian root failed; the whole log is $log"
	}
	mv "$image.new" "$image"
}

main()
{
	local stamp start=$SECONDS
	suite=$(suite_of_host)
	suite=${suite:-bookworm}
	mkdir -p "$cache"
	stamp=$({ echo "$suite"; cat "${BASH_SOURCE[0]}"; cd "$here/debian" && find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum)
	exec 8>"$cache/.debian.lock"
	flock 8
	if [[ -e $image && $(cat "$image.stamp" 2>/dev/null) == "$stamp" ]]; then
		return
	fi
	"$top/tools/setup.sh" debian
	check_name_spaces
	say "making a Debian $suite root with mmdebstrap, once (a minute or two; log: $log)"
	make_image 8>&-
	echo "$stamp" >"$image.stamp"
	say "Debian root made in $((SECONDS - start)) s: $image ($(du -h "$image" | cut -f 1) used of $size)"
}

main "$@"
