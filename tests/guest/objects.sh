#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tools/check-object.sh refuses what Documentation/cxx-subset.md forbids: a bad
# piece of C++ for each of its rows, compiled with the subset's flags less the
# one that forbids it. And it takes what is allowed. Needs no guest.
. "$(dirname "$0")/lib.sh"

check=$top/tools/check-object.sh
good_flags=(-std=c++20 -O2 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fno-stack-protector -mno-red-zone -mno-sse -mno-mmx
	-mno-avx -mcmodel=large -fno-pic -fno-pie -fno-plt)

# compile [-FLAG | +FLAG]...: source from stdin; -FLAG leaves one of the good
# ones out, +FLAG adds one.
compile() {
	local flags=" ${good_flags[*]} "
	local change

	for change in "$@"; do
		case $change in
		-*) flags=${flags/ $change / } ;;
		+*) flags+="${change#+} " ;;
		esac
	done
	cat >piece.cc
	# shellcheck disable=SC2086 # many flags
	g++ $flags -c -o piece.o piece.cc || fail "the piece does not compile"
}

# refuses WHAT: the object is refused for that, and the message names both
refuses() {
	! bash "$check" piece.o 2>message || fail "taken: an object with $1"
	cat message
	grep -qE "^piece\.o: the C\+\+ subset forbids .*$1" message || fail "refused, but not for $1"
}

test_good_object() {
	compile <<-'EOF'
		struct Place { void *at; };
		inline void *operator new(__SIZE_TYPE__, Place p) noexcept { return p.at; }
		struct Base { virtual int f(int) = 0; protected: ~Base() = default; };
		struct A final : Base { int n = 3; int f(int x) override { return x * n; } };
		constinit A *the_a = nullptr;
		static constinit int table[] = {1, 2, 3};
		extern "C" int outside(int);
		alignas(A) static char room[sizeof(A)];
		int use(int i) { the_a = new (Place{room}) A; return the_a->f(outside(table[i % 3])); }
	EOF
	bash "$check" piece.o || fail "a good object was refused"
}

test_exceptions() {
	compile -fno-exceptions -fno-asynchronous-unwind-tables -fno-unwind-tables <<-'EOF'
		int f(int x) { if (x) throw x; return 0; }
	EOF
	refuses exceptions
}

test_catch() {
	compile -fno-exceptions -fno-asynchronous-unwind-tables -fno-unwind-tables <<-'EOF'
		int g(); int f() { try { return g(); } catch (...) { return 1; } }
	EOF
	refuses exceptions
}

# A destructor that would run on the way out, without a throw of one's own.
test_unwinding() {
	compile -fno-exceptions -fno-asynchronous-unwind-tables -fno-unwind-tables <<-'EOF'
		void g(); struct S { ~S(); }; void f() { S s; g(); }
	EOF
	refuses exceptions
}

test_dynamic_cast() {
	compile -fno-rtti <<-'EOF'
		struct A { virtual void f(); }; struct B : A { void f() override; };
		B *down(A *a) { return dynamic_cast<B *>(a); }
	EOF
	refuses RTTI
}

# The vtable alone brings it.
test_type_information() {
	compile -fno-rtti <<-'EOF'
		struct A { virtual void f(); }; void A::f() {}
	EOF
	refuses RTTI
}

test_static_constructor() {
	compile <<-'EOF'
		int g(); struct S { int n; S() : n(g()) {} }; S s; int use() { return s.n; }
	EOF
	refuses 'static constructors'
}

test_dynamic_initialization() {
	compile <<-'EOF'
		int g(); static int n = g(); int use() { return n; }
	EOF
	refuses 'static constructors'
}

test_static_destructor() {
	compile -fno-use-cxa-atexit <<-'EOF'
		struct S { constexpr S() {} ~S(); int n = 0; }; S s; int use() { return s.n; }
	EOF
	refuses 'static (con|de)structors'
}

test_guard_variable() {
	compile -fno-threadsafe-statics <<-'EOF'
		int g(); int f() { static int n = g(); return n; }
	EOF
	refuses 'guard variables'
}

test_guard_variable_without_lock() {
	compile <<-'EOF'
		int g(); int f() { static int n = g(); return n; }
	EOF
	refuses 'guard variables'
}

test_new() {
	compile <<-'EOF'
		int *f() { return new int(3); }
	EOF
	refuses 'global new and delete'
}

test_new_array() {
	compile <<-'EOF'
		int *f(unsigned long n) { return new int[n]; }
	EOF
	refuses 'global new and delete'
}

test_delete() {
	compile <<-'EOF'
		void f(int *p) { delete p; }
	EOF
	refuses 'global new and delete'
}

# A virtual destructor brings one that deletes.
test_deleting_destructor() {
	compile <<-'EOF'
		struct A { virtual ~A(); }; A::~A() {}
	EOF
	refuses 'global new and delete'
}

test_malloc() {
	compile <<-'EOF'
		extern "C" void *malloc(__SIZE_TYPE__); void *f() { return malloc(7); }
	EOF
	refuses "the C library's allocator"
}

test_thread_local() {
	compile <<-'EOF'
		extern thread_local int n; int f() { return n++; }
	EOF
	refuses '(thread-local|GOT)'
}

# One that needs no function, only a segment register.
test_thread_local_own() {
	compile <<-'EOF'
		static thread_local int n; int f() { return n++; }
	EOF
	refuses '(thread-local|GOT)'
}

test_floating_point() {
	compile -mno-sse -mno-mmx -mno-avx <<-'EOF'
		double f(double a, double b) { return a * b; }
	EOF
	refuses 'SSE'
}

# What a compiler does on its own to copy a structure.
test_vector_copy() {
	compile -mno-sse -mno-mmx -mno-avx <<-'EOF'
		struct S { long a[4]; }; void f(S *to, const S *from) { *to = *from; }
	EOF
	refuses 'SSE'
}

test_x87() {
	compile <<-'EOF'
		void f(long double *p) { *p = *p * 3 + 1; }
	EOF
	refuses 'x87'
}

test_red_zone() {
	compile -mno-red-zone <<-'EOF'
		int f(int a, int b) { volatile int c = a; volatile int d = b; return c + d; }
	EOF
	refuses 'red zone'
}

# With a frame pointer, which a debug kernel wants, it is reached by that.
test_red_zone_by_frame_pointer() {
	compile -mno-red-zone +-fno-omit-frame-pointer <<-'EOF'
		int f(int a, int b) { volatile int c = a; volatile int d = b; return c + d; }
	EOF
	refuses 'red zone'
}

test_got() {
	compile -fno-pic -fno-pie -mcmodel=large -fno-plt +-fPIC <<-'EOF'
		extern int n; int f() { return n; }
	EOF
	refuses 'GOT'
}

test_32_bit_addresses() {
	compile -mcmodel=large <<-'EOF'
		extern int n; int g(int *); int f() { return g(&n); }
	EOF
	refuses '32-bit addresses'
}

# Of several objects, one bad one is enough; all that is bad is told.
test_several() {
	compile <<-'EOF'
		int *f() { return new int(3); }
	EOF
	mv piece.o bad.o
	compile <<-'EOF'
		int f(int x) { return x + 1; }
	EOF
	bash "$check" piece.o || fail "a good object was refused"
	! bash "$check" bad.o piece.o 2>message || fail "a bad one before a good one was taken"
	! bash "$check" piece.o bad.o 2>message || fail "a bad one after a good one was taken"
	! bash "$check" missing.o 2>message || fail "an object that is missing was taken"
}

# Each source says in its head in what context its functions run; a function that
# differs says so itself.
test_contexts() {
	local file

	for file in "$top"/drivers/ubd/*/*.cc "$top"/drivers/ubd/*/*.c; do
		awk '/^ \*\/$/ { exit } /^ \* Context: / { found = 1 } END { exit !found }' "$file" ||
			fail "${file#"$top/"} does not say the context of its functions"
	done
}

run_tests "$@"
