# SPDX-License-Identifier: GPL-2.0-only
#
# `make help` lists what there is. Kbuild reads the file of that name, and never
# this one.

all:

# Kernel builds and their module trees cannot bear these in a path.
here := $(CURDIR)
ifneq ($(words $(here)),1)
$(error this directory's path has blanks, which kernel builds cannot bear: move it ($(here)))
endif
ifneq ($(findstring :,$(here)),)
$(error this directory's path has a colon, which kernel builds cannot bear: move it ($(here)))
endif

UBD_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/ubd
export UBD_CACHE
B := build
# What guests of `make run` leave: another place is for tests.
UBD_RUN ?= $(B)/run
export UBD_RUN
KDIR ?= $(UBD_CACHE)/release

# A command reaches the guest as it was typed: it is never expanded by make, and
# passed on by the environment. Who doubles dollars for make's sake is understood.
ifneq ($(origin CMD),undefined)
override CMD := $(subst $$$$,$$,$(value CMD))
endif
# Python leaves nothing beside the sources.
export PYTHONDONTWRITEBYTECODE := 1
export CMD COW ROOTFS DISTRO MEM SWAP TIMEOUT ARGS KERNEL V BENCH
export DESTDIR PREFIX MODDIR DOCDIR PACKAGES
# Scripts that call make get none of this.
MAKEOVERRIDES =
MAKEFLAGS += --no-print-directory

HOSTCXX ?= g++
INIT_CXXFLAGS := -std=c++20 -O2 -Wall -Wextra -static -fno-exceptions -fno-rtti \
	-fno-asynchronous-unwind-tables -ffunction-sections -Wl,--gc-sections -s

all: $(B)/linux modules initramfs standalone tools man

# --- packages and kernels ---------------------------------------------------

# Both look at every run whether there is something to do, and return at once
# when not.
setup:
	@tools/setup.sh

variants := debug compare timetravel next next-smp next-debug next-compare
kernel-release $(variants:%=kernel-%): kernel-%: | setup
	@tools/kernel/build.sh $*

$(B)/linux: FORCE | kernel-release
	@mkdir -p $(B)
	@cmp -s $(UBD_CACHE)/release/linux $@ || \
		{ echo "  COPY    $@" && cp --reflink=auto --remove-destination $(UBD_CACHE)/release/linux $@; }

# --- modules ----------------------------------------------------------------

modules: $(if $(filter $(UBD_CACHE)/release,$(KDIR)),kernel-release) | setup
	@env -u MAKEFLAGS -u MFLAGS tools/build-module.sh $(KDIR) $(B)

$(variants:%=modules-%): modules-%: kernel-% | setup
	@env -u MAKEFLAGS -u MFLAGS tools/build-module.sh $(UBD_CACHE)/$* $(B)/$*

# --- what guests use -----------------------------------------------------------

# The release.
version := $(shell sed -n 's/^.define UBD_VERSION "\(.*\)"$$/\1/p' include/ubd/version.h)

# To run in a root of any kind: linked statically, or scripts for any shell.
guest-tools := $(B)/ubd-top $(B)/ubd-report
top-objects := $(patsubst %.cc,$(B)/ubd-top.o/%.o,$(wildcard tools/top/*.cc))
$(top-objects): $(B)/ubd-top.o/%.o: %.cc Makefile | setup
	@mkdir -p $(@D)
	@echo "  HOSTCXX $@"
	@$(HOSTCXX) -std=c++20 -O2 -Wall -Wextra -fno-exceptions -fno-rtti -ffunction-sections -MMD -MP -c -o $@ $<
-include $(top-objects:.o=.d)
$(B)/ubd-top: $(top-objects)
	@echo "  HOSTCXX $@"
	@$(HOSTCXX) -static -Wl,--gc-sections -s -o $@ $^
$(B)/ubd-report: tools/report/ubd-report include/ubd/version.h Makefile
	@mkdir -p $(@D)
	@echo "  SED     $@"
	@sed 's/^version=.*/version=$(version)/' $< >$@
	@chmod 755 $@

# --- initramfs, standalone kernel, root images ------------------------------

$(B)/init: $(wildcard tools/init/*.cc tools/init/*.hh) Makefile | setup
	@mkdir -p $(B)
	@echo "  HOSTCXX $@"
	@$(HOSTCXX) $(INIT_CXXFLAGS) -o $@ $(filter %.cc,$^)

initramfs: $(B)/initramfs.cpio.gz
$(B)/initramfs.cpio.gz: $(B)/init $(B)/gen_init_cpio modules kernel-release FORCE
	@tools/initramfs.sh $@ $(B)/init $(B)/ubd.ko

# For who makes an initramfs where this is installed.
$(B)/gen_init_cpio: FORCE | kernel-release
	@cmp -s $(UBD_CACHE)/release/usr/gen_init_cpio $@ || cp --remove-destination $(UBD_CACHE)/release/usr/gen_init_cpio $@

standalone: $(B)/linux-standalone
$(B)/linux-standalone: $(B)/initramfs.cpio.gz FORCE
	@tools/kernel/build.sh standalone $< $@

$(B)/busybox.img: tools/rootfs/busybox.sh $(shell find tools/rootfs/busybox -type f) $(guest-tools) | setup
	@echo "  ROOTFS  $@"
	@tools/rootfs/busybox.sh $@ 256M $(guest-tools)

# The programs for the host; each adds itself to host-tools.
host-tools :=

# ubd-cow, on the same core sources as the module.
host-tools += $(B)/ubd-cow
cow-sources := $(wildcard tools/cow/*.cc) $(addprefix drivers/ubd/core/,cow_format.cc cow_bitmap.cc errno.cc)
cow-objects := $(patsubst %.cc,$(B)/ubd-cow.o/%.o,$(cow-sources))
$(cow-objects): $(B)/ubd-cow.o/%.o: %.cc Makefile | setup
	@mkdir -p $(@D)
	@echo "  HOSTCXX $@"
	@$(HOSTCXX) -std=c++20 -O2 -Wall -Wextra -Iinclude -MMD -MP -c -o $@ $<
-include $(cow-objects:.o=.d)
$(B)/ubd-cow: $(cow-objects)
	@echo "  HOSTCXX $@"
	@$(HOSTCXX) -o $@ $^

# Beside each other, which only this makefile's call of itself does.
tools:
	@$(MAKE) -s $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$$(nproc)) UBD_PARALLEL=1 $(host-tools) $(guest-tools)

# Manual pages as they are installed, with the release.
man-pages := $(patsubst Documentation/man/%,$(B)/man/%.gz,$(wildcard Documentation/man/*.[1-9]))
$(man-pages): $(B)/man/%.gz: Documentation/man/% include/ubd/version.h
	@mkdir -p $(@D)
	@echo "  MAN     $@"
	@sed 's/^\(\.TH .*"ubd\)"/\1 $(version)"/' $< | gzip -9n >$@

man: $(man-pages)

# --- installing and packing ---------------------------------------------------

# They take what was built, by whomever: root's make must not begin anew. PARTS
# is some of: module tools man udev initramfs doc kernel source.
install uninstall:
	@TOOLS='$(host-tools) $(guest-tools)' tools/package/install.sh $@ $(PARTS)

deb: all
	@TOOLS='$(host-tools) $(guest-tools)' tools/package/deb.sh "$${PACKAGES:-$(B)/package}"

dist:
	@tools/package/dist.sh $(B)

# --- running and testing ----------------------------------------------------

# make itself can only fail with status 2: a small plug-in lets it end with the
# status that the command in the guest had.
ifneq ($(filter run,$(MAKECMDGOALS)),)
-load $(B)/tools/make_exit.so
endif
$(B)/tools/make_exit.so: tools/make_exit.c | setup
	@mkdir -p $(@D)
	@$(CC) -shared -fPIC -O2 -Wall -o $@ $<

run: run-guest
	$(exit-make $(file <$(UBD_RUN)/status))@exit $$(cat $(UBD_RUN)/status)

run-guest: $(B)/linux $(B)/initramfs.cpio.gz $(B)/busybox.img
	@mkdir -p $(UBD_RUN)
	@tools/run.sh; echo $$? >$(UBD_RUN)/status

reset:
	rm -f $(UBD_RUN)/*.img $(UBD_RUN)/*.img.* $(UBD_RUN)/*.cow $(UBD_RUN)/*.cow.*

test: | setup
	@tests/run.sh

test-full: | setup setup-package setup-debian setup-bench
	@tests/run.sh --full

soak: | setup
	@tests/soak.sh $(MINUTES)

# --- measuring ----------------------------------------------------------------

bench-tools: modules-compare tools $(B)/init $(B)/busybox.img
	@$(MAKE) -s -C tests/bench KDIR=$(UBD_CACHE)/compare

# FULL=1: the long form. BENCH: more words for tests/bench/run.py.
bench: bench-tools setup-bench
	@python3 tests/bench/run.py $(if $(filter-out 0,$(FULL)),--full)

# What was measured goes into README.md and Documentation/performance.md.
bench-readme:
	@python3 tests/bench/readme.py

# Whether that was edited, and the benchmark's own tests.
bench-check:
	@python3 tests/bench/readme.py --check
	@python3 tests/bench/selftest.py

# --- the rest ---------------------------------------------------------------

format-files = $(shell find drivers include tests tools \
	'(' -name '*.cc' -o -name '*.hh' -o -name '*.c' -o -name '*.h' ')' -type f)

format format-check: setup-format
	@clang-format $(if $(filter format,$@),-i,--dry-run -Werror) $(format-files)

# The edits of all bugs that are put in on purpose: do they still find their code?
mutants-apply:
	@for part in sim crash fuzz unit; do tests/$$part/mutants.sh --applies || exit 1; done

setup-debian setup-format setup-bench setup-package: setup-%:
	@tools/setup.sh $*

clean:
	rm -rf $(B)

distclean: clean
	@if [ -d "$(UBD_CACHE)" ]; then \
		echo "The kernels that were built, and Debian's root image, stay in $(UBD_CACHE)"; \
		echo "($$(du -sh "$(UBD_CACHE)" | cut -f 1)) for other checkouts. Delete them with: rm -rf '$(UBD_CACHE)'"; \
	fi

help:
	@sed 1d tools/help.txt
	@echo "The cache is $(UBD_CACHE)"

.PHONY: all setup setup-debian setup-format setup-bench setup-package kernel-release $(variants:%=kernel-%) \
	modules $(variants:%=modules-%) initramfs standalone \
	tools man install uninstall deb dist run run-guest reset test test-full soak bench bench-tools bench-readme bench-check mutants-apply format format-check clean distclean \
	help FORCE
.DELETE_ON_ERROR:
# Our targets share one kernel build each; what runs in parallel is inside them.
ifndef UBD_PARALLEL
.NOTPARALLEL:
endif
