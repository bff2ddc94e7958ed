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

# Symbols that betray a forbidden feature. What KASAN and gcov bring is theirs:
# their constructors live in sections that are looked at by name below.
check_symbols() {
	local symbols
	symbols=$(nm "$1")
	complain "$1" "exceptions" "$(grep -E ' (_Unwind_|__cxa_(throw|begin_catch|end_catch|rethrow|allocate_exception)|__gxx_personality)' <<<"$symbols" || true)"
	complain "$1" "RTTI" "$(grep -E ' (_ZTI|_ZTS|__dynamic_cast|_ZTVN10__cxxabiv)' <<<"$symbols" || true)"
	complain "$1" "static destructors" "$(grep -E ' (__cxa_atexit|__dso_handle|atexit)$' <<<"$symbols" || true)"
	complain "$1" "static constructors" "$(grep -E ' _GLOBAL__(sub_)?I_' <<<"$symbols" | grep -vE '_sub_I_(00099|65535|00100)_' || true)"
	complain "$1" "guard variables" "$(grep -E ' (_ZGV|__cxa_guard_)' <<<"$symbols" || true)"
	complain "$1" "global new and delete" "$(grep -E ' U _Z(nw|na|dl|da)' <<<"$symbols" || true)"
	complain "$1" "the C library's allocator" "$(grep -E ' U (malloc|calloc|realloc|free)$' <<<"$symbols" || true)"
	complain "$1" "thread-local storage" "$(grep -E ' (__tls_get_addr|_ZTW|_ZTH)' <<<"$symbols" || true)"
}

check_relocations() {
	complain "$1" "relocations through the GOT or PLT of a shared library" \
		"$(readelf -rW "$1" | grep -E 'R_X86_64_(GOT|GOTPC|GOTTPOFF|TLS|REX_GOTP)' || true)"
	complain "$1" "32-bit addresses (-mcmodel=large)" \
		"$(readelf -rW "$1" | grep -E 'R_X86_64_(32S?|PC32|PLT32) ' | grep -vE ' \.(text|debug|eh_frame)' || true)"
}

check_code() {
	local code
	code=$(objdump -d --no-show-raw-insn "$1")
	complain "$1" "SSE, AVX and x87 registers" "$(grep -E '%([xyz]mm|st)[0-9(]' <<<"$code" || true)"
	# Without a red zone nothing lies below the stack pointer. lea only
	# computes, and AddressSanitizer's are below %rbp.
	complain "$1" "the red zone" "$(grep -E '[ ,]-0x[0-9a-f]+\(%rsp\)' <<<"$code" | grep -vE '\b(lea|or[lq] +\$0x0)' || true)"
}

for object in "$@"; do
	check_symbols "$object"
	check_relocations "$object"
	check_code "$object"
done
exit $status
