#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Fails when a C++ object holds what a kernel cannot bear: the check behind
# Documentation/cxx-subset.md. Usage: check-object.sh OBJECT...
set -eu

status=0

# complain OBJECT WHAT DETAILS
complain() {
	if [ -n "$3" ]; then
		printf '%s: the C++ subset forbids %s:\n%s\n' "$1" "$2" "$(head -n 5 <<<"$3")" >&2
		status=1
	fi
}

# Symbols that betray a forbidden feature.
check_symbols() {
	local symbols
	symbols=$(nm "$1")
	complain "$1" "exceptions" "$(grep -E ' (_Unwind_|__cxa_(throw|begin_catch|end_catch|rethrow|allocate_exception)|__gxx_personality)' <<<"$symbols" || true)"
	complain "$1" "RTTI" "$(grep -E ' (_ZTI|_ZTS|__dynamic_cast|_ZTVN10__cxxabiv)' <<<"$symbols" || true)"
	complain "$1" "static destructors" "$(grep -E ' (__cxa_atexit|__dso_handle|atexit)$' <<<"$symbols" || true)"
	complain "$1" "guard variables" "$(grep -E ' (_ZGV|__cxa_guard_)' <<<"$symbols" || true)"
	complain "$1" "global new and delete" "$(grep -E ' U _Z(nw|na|dl|da)' <<<"$symbols" || true)"
	complain "$1" "the C library's allocator" "$(grep -E ' U (malloc|calloc|realloc|reallocarray|free|strdup|strndup|aligned_alloc|posix_memalign|memalign)$' <<<"$symbols" || true)"
	complain "$1" "thread-local storage" "$(grep -E ' (__tls_get_addr|_ZTW|_ZTH)' <<<"$symbols" || true)"
}

# entries OBJECT SECTION: how many functions the section names
entries() {
	local size
	size=$(readelf -SW "$1" | sed -nE "s/^.* \\$2 +[A-Z_]+ +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) .*/\\1/p")
	echo $((16#${size:-0} / 8))
}

# What runs before and after a program lies in sections of its own, and so do
# thread-local variables. KASAN and gcov have constructors that the kernel runs:
# of priority 99 and 100, or, in the plain section, named _sub_I_65535_.
check_sections() {
	local symbols kind
	symbols=$(nm "$1")
	complain "$1" "static constructors and destructors, thread-local storage" \
		"$(readelf -SW "$1" | grep -oE ' \.((init_array|fini_array|ctors|dtors)\.[^ ]*|ctors|dtors|preinit_array|tdata|tbss)' |
			grep -vE '\.(init_array|fini_array)\.(00099|00100)$' || true)"
	for kind in I:init D:fini; do
		if (($(entries "$1" ".${kind#*:}_array") > $(grep -c "_sub_${kind%:*}_65535_" <<<"$symbols"))); then
			complain "$1" "static constructors and destructors" "a function in .${kind#*:}_array"
		fi
	done
}

check_relocations() {
	complain "$1" "relocations through the GOT of a shared library, thread-local storage" \
		"$(readelf -rW "$1" | grep -E 'R_X86_64_(GOT|REX_GOTP|GOTPC|GOTTPOFF|TLS|D?TPOFF|DTPMOD)' || true)"
	complain "$1" "32-bit addresses (-mcmodel=large)" \
		"$(readelf -rW "$1" | grep -E 'R_X86_64_(32S?|PC32|PLT32) ' | grep -vE ' \.(text|debug|eh_frame)' || true)"
}

# Per function: how far the frame reaches below %rbp by pushes and subtraction,
# and how far the code reaches.
below_the_frame() {
	awk '
		function hex(text,  i, n) {
			for (i = 1; i <= length(text); i++)
				n = n * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
			return n
		}
		function value(text) { sub(/.*\$0x/, "", text); sub(/,.*/, "", text); return hex(text) }
		/^[0-9a-f]+ <.*>:$/ { name = $2; frame = 0; framed = 0; moving = 0; next }
		/\tmov +%rsp,%rbp/ { framed = 1; frame = 0; next }
		/\tpush/ { frame += 8; next }
		/\tsub +\$0x[0-9a-f]+,%rsp/ { frame += value($0); next }
		# 128 bytes are subtracted by adding -128, which is shorter.
		/\tadd +\$0xffffffffff[0-9a-f]+,%rsp/ {
			sub(/\$0xffffffffff/, "$0x"); frame += 16777216 - value($0); next
		}
		/\t(sub|and|lea) .*,%rsp$/ { moving = 1; next }
		framed && !moving && !/\tlea/ && match($0, /[ ,]-0x[0-9a-f]+\(%rbp[,)]/) {
			reach = substr($0, RSTART + 4, RLENGTH - 4); sub(/\(.*/, "", reach)
			if (hex(reach) > frame) print name $0
		}'
}

check_code() {
	local code below
	code=$(objdump -d --no-show-raw-insn "$1")
	complain "$1" "SSE, AVX, MMX and x87" "$(grep -E '%([xyz]?mm|st)[0-9(]|^ *[0-9a-f]+:	+(f[a-z]|emms)' <<<"$code" || true)"
	# Without a red zone nothing lies below the stack pointer; lea only
	# computes, and or with 0 only probes the stack.
	complain "$1" "the red zone" "$(grep -E '[ ,]-0x[0-9a-f]+\(%rsp[,)]' <<<"$code" | grep -vE '\b(lea|or[lq] +\$0x0)' || true)"
	below=$(below_the_frame <<<"$code")
	complain "$1" "the red zone" "$below"
}

for object in "$@"; do
	check_symbols "$object"
	check_sections "$object"
	check_relocations "$object"
	check_code "$object"
done
exit $status
