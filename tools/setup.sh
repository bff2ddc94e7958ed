#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Installs the Debian packages that are missing: the only thing here that needs
# root. Says nothing, and does nothing, when all are there.
#
#   tools/setup.sh [build|debian|format|bench|package]...     (build when nothing is named)
set -euo pipefail

# shellcheck disable=SC2034 # used by name, below
packages_build=(
	build-essential bc bison flex gzip libelf-dev libssl-dev xz-utils kmod # the kernel
	liburing-dev                                                 # ubd.ko
	busybox-static cpio e2fsprogs                                # initramfs and root image
	libgtest-dev spin fio xfsprogs fdisk gdb strace uml-utilities     # tests
	python3 procps util-linux
	clang libclang-rt-dev                                        # libFuzzer
	clang-format                                                 # of `make test`, which is to ask once
	libfuse3-dev fuse3                                           # a disk whose power fails
	libcli11-dev nlohmann-json3-dev qemu-utils                   # ubd-cow
	dkms udev                                                    # tests of what is installed
	gpg gpg-agent                                                # a Debian archive of our own
)
# shellcheck disable=SC2034
packages_debian=(mmdebstrap uidmap e2fsprogs)
# shellcheck disable=SC2034
packages_format=(clang-format)
# shellcheck disable=SC2034
packages_bench=(gnuplot-nox fio qemu-system-common qemu-utils strace git)
# shellcheck disable=SC2034
packages_package=(lintian)

say() { printf 'ubd: %s\n' "$*"; }
die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

has_kernel_source()
{
	local file version
	for file in /usr/src/linux-source-*.tar.xz; do
		version=${file##*/linux-source-}
		version=${version%.tar.xz}
		[[ -e $file && $version =~ ^[0-9]+\.[0-9]+$ ]] || continue
		[[ $(printf '%s\n' 6.12 "$version" | sort -V | head -n 1) != 6.12 ]] || return 0
	done
	return 1
}

known_to_apt()
{
	LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'
}

# linux-source-6.12, or where the archive has moved on the newest after it.
kernel_source_package()
{
	local newest
	if known_to_apt linux-source-6.12; then
		echo linux-source-6.12
		return
	fi
	newest=$(apt-cache pkgnames linux-source- | grep -xE 'linux-source-[0-9]+\.[0-9]+' |
		sed 's/.*-//' | { cat; echo 6.12; } | sort -V | sed '1,/^6\.12$/d' | tail -n 1)
	[[ $newest ]] || return 1
	say "the archive has no linux-source-6.12: taking linux-source-$newest" >&2
	echo "linux-source-$newest"
}

as_root()
{
	if ((EUID == 0)); then
		"$@"
	elif [[ -t 0 ]]; then
		sudo "$@"
	else
		# Nobody is there to type a password.
		sudo -n "$@"
	fi
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }

# Package lists that are missing, or older than a day: the versions that they
# name may be gone from the archive.
lists_are_stale()
{
	[[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*InRelease' -mtime -1 2>/dev/null) ]]
}

missing=()
kernel_source=
groups=("$@")
((${#groups[@]})) || groups=(build)

if ! command -v dpkg-query >/dev/null; then
	# Not ours to install on; what is missing will say so itself.
	exit 0
fi
for group in "${groups[@]}"; do
	declare -n packages=packages_$group 2>/dev/null || die "setup.sh: no group of packages '$group'"
	((${#packages[@]})) || die "setup.sh: no group of packages '$group'"
	# One question for all: this runs before each build.
	mapfile -t have < <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
		sed -n 's/^installed //p')
	for package in "${packages[@]}"; do
		[[ " ${have[*]} " == *" $package "* ]] || missing+=("$package")
	done
	if [[ $group == build ]] && ! has_kernel_source; then
		kernel_source=wanted
	fi
done
if ((${#missing[@]} == 0)) && [[ -z $kernel_source ]]; then
	exit 0
fi

say "Debian packages missing here: ${missing[*]}${kernel_source:+ linux-source-6.12}"
command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}${kernel_source:+ linux-source-6.12}"
if ((EUID != 0)) && ! { command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }; then
	die "installing them needs root. Have root type, once:

    $command
"
fi
if lists_are_stale; then
	say "fetching apt's package lists, which are missing or older than a day"
	apt update
fi
if [[ $kernel_source ]]; then
	kernel_source=$(kernel_source_package) ||
		die "no linux-source of 6.12 or newer in apt's archives: add the suite that has it (bookworm-security, backports)"
	missing+=("$kernel_source")
fi
say "installing them (the only step that needs root)"
apt install -y --no-install-recommends "${missing[@]}" || {
	say "once more, with fresh package lists"
	apt update
	apt install -y --no-install-recommends "${missing[@]}"
}
say "packages are installed"
