#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes the release's source archive of what is committed:
#
#   tools/package/dist.sh DIRECTORY
#
# Any clone makes the same archive of the same commit, byte for byte, with the
# same versions of git and xz. It builds by itself, without a repository.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'ubd: %s\n' "$*"; }
die() { printf 'ubd: %s\n' "$*" >&2; exit 1; }

(($# == 1)) || die "usage: tools/package/dist.sh directory"
[[ -e .git ]] || die "no git repository here: an archive is made of what is committed"
version=$(git show HEAD:include/ubd/version.h | sed -n 's/^#define UBD_VERSION "\(.*\)"$/\1/p')
[[ $version ]] || die "include/ubd/version.h as committed names no version"
[[ -z $(git status --porcelain) ]] || say "what is not committed is not in the archive" >&2
archive=$1/ubd-$version.tar.xz
mkdir -p "$1"
trap 'rm -f "$archive.new"' EXIT
# Neither this user's umask nor the number of processors may show in it.
git -c tar.umask=0022 archive --format=tar --prefix="ubd-$version/" HEAD | xz -6 -T1 >"$archive.new"
mv "$archive.new" "$archive"
say "$archive: $(git rev-parse --short HEAD), sha256 $(sha256sum <"$archive" | cut -d ' ' -f 1)"
