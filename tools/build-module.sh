#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds the modules against a configured UML kernel:
#	build-module.sh KDIR OUTDIR [make options]
#
# Kbuild puts objects beside sources. So that several kernels can be built
# against, it gets a tree of links under OUTDIR, and its objects lie there.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)

fail() {
	echo "build-module: $*" >&2
	exit 1
}

[ $# -ge 2 ] || fail "usage: build-module.sh KDIR OUTDIR [make options]"
kdir=$(cd "$1" 2>/dev/null && pwd) || fail "no such kernel build directory: $1"
[ -f "$kdir/.config" ] || fail "$kdir is not a configured kernel build directory (no .config)"
grep -q '^CONFIG_UML=y' "$kdir/.config" || fail "$kdir is not a User Mode Linux kernel: configure it with ARCH=um"
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2

tree=$out/module
mkdir -p "$tree"
# Links to sources that are gone, and all that is new.
find "$tree" -xtype l -delete
for part in Kbuild include drivers tests tools; do
	cp -rsu --no-preserve=timestamps "$top/$part" "$tree/" 2>/dev/null || cp -rsf "$top/$part" "$tree/"
done

make -C "$kdir" ARCH=um M="$tree" -s -j"$(nproc)" "$@" modules
for module in ubd aubd ubd_test; do
	[ ! -f "$tree/$module.ko" ] || cp -u "$tree/$module.ko" "$out/"
done
if [ -f "$tree/aubd.ko" ]; then
	rm -f "$out/ubd.ko"
	echo "ubd: this kernel's own driver has the name ubd: the module is $out/aubd.ko"
fi
