#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Bugs put into core and ubd-cow on purpose, one at a time, in copies under
# build/: the fuzz target of that code has to find each, as `make check` runs it.
#
#	mutants.sh [PATTERN]	only those whose name holds it
#	mutants.sh --applies	whether each edit still changes its file; nothing runs
#
# Prints for each how long that took, without compiling, and what was broken. The
# last line is "mutants: N found, N not found"; an edit that does not apply is an
# error.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
base=${O:-$top/build/fuzz}
core=$top/drivers/ubd/core
cow=$top/tools/cow
out=$base/mutants
seconds=${EACH:-20}
pattern=${1:-}
found=0
missed=0
. "$top/tests/applies.sh"

begin() {
	make -s -C "$top/tests/fuzz" O="$base" build >/dev/null || exit 1
	rm -rf "$out"
	mkdir -p "$out"
}
[ -n "$applies" ] || begin

# prepare NAME TARGET FILE SED-SCRIPT
prepare() {
	local dir=$out/$1

	mkdir -p "$dir/drivers/ubd" "$dir/tools"
	cp -pr "$core" "$dir/drivers/ubd/core"
	cp -pr "$cow" "$dir/tools/cow"
	cp -pr "$base/core" "$base/cow" "$base/fuzz" "$dir/"
	sed -i "$4" "$dir/$3"
	if cmp -s "$dir/$3" "$top/$3"; then
		echo "mutants: $1: the edit does not apply to $3: look at what became of that code" >&2
		exit 1
	fi
	# What was compiled names the headers of the original.
	[[ $3 != *.hh ]] || rm "$dir"/cow/*.o
	if ! make -s -C "$top/tests/fuzz" O="$dir" CORE="$dir/drivers/ubd/core" COW_SOURCES="$dir/tools/cow" TARGETS="$2" \
		all >"$dir/build.log" 2>&1; then
		cat "$dir/build.log" >&2
		echo "mutants: $1 does not compile" >&2
		exit 1
	fi
}

# mutant NAME TARGET FILE SED-SCRIPT WHAT
mutant() {
	local dir=$out/$1
	local start

	if [ -n "$applies" ]; then
		edit_applies "$1" "$top/$3" "$4"
		return
	fi
	[[ $1 == *"$pattern"* ]] || return 0
	prepare "$@"
	start=$(date +%s%N)
	if "$top/tests/fuzz/run.sh" "$dir" check "$seconds" 1 "$2" >"$dir/run.log" 2>&1; then
		missed=$((missed + 1))
		printf 'NOT FOUND  %-20s %s\n' "$1" "$5"
	else
		found=$((found + 1))
		printf 'found      %-20s %s\n' "$1" "$5"
		printf '           %d.%d s: ' $((($(date +%s%N) - start) / 1000000000)) \
			$((($(date +%s%N) - start) / 100000000 % 10))
		sed -n 's|^fuzz: broken: .*/\([a-z_.]*:[0-9]*:\)|\1|p; s/^SUMMARY: \(.*Sanitizer: [^ ]*\).*/\1/p' \
			"$dir/run.log" | head -n 1
	fi
	rm -rf "$dir/core" "$dir/cow" "$dir/fuzz"
}

f=drivers/ubd/core/cow_format.cc
mutant header-cut header $f 's/^\tif (n < f.end)/\tif (n < 36)/' \
	'a header that is cut short is read beyond its end'
mutant name-without-end header $f 's/if (!n || n == room)/if (!n)/' \
	'a name that fills its field is taken'
mutant size-unlimited header $f '/^CowRead check_size/,/^}/s/bytes > UBD_COW_SIZE_MAX/false/' \
	'a device may be of any size'
mutant alignment-zero header $f 's/if (!alignment || alignment % /if (alignment % /' \
	'an alignment of zero is taken'
mutant bitmap-over-data header $f '/^CowRead place/,/^}/s/if (h.bitmap_offset + h.bitmap_bytes > h.data_offset)/if (false)/' \
	'a bitmap may lie over the data'
mutant padded-not-known header $f 's/^\t\tv = n >= 36 .*/\t\tv = n >= 4200 ? CowVersion::v3_padded/' \
	'a padded header is not known'
b=drivers/ubd/core/cow_bitmap.cc
mutant last-bits bitmap $b '/^void CowBitmap::load/,/^}/s/mask(0, here - i \* word_bits)/~0ull/' \
	'bits behind the last sector are taken'
mutant load-too-much bitmap $b '/^void CowBitmap::load/,/^}/s/__builtin_memcpy(live, from, bytes)/__builtin_memcpy(live, from, block_bytes)/' \
	'a whole block is read, however much is there'
mutant run-over-border bitmap $b '/^u64 CowBitmap::run/,/^}/s/^\t\tif (at < block_end .*/\t\tif (at < block_end)/' \
	'a run goes on in a block that was never touched'
mutant seal-forgets bitmap $b '/^void CowBitmap::end_failed/,/^}/s/^\tdirty_span_.add(sealed_span_);//' \
	'a commit that failed is forgotten'
mutant gather-beyond bitmap drivers/ubd/core/cow.cc 's/min<u64>(n \* CowBitmap::block_bytes, bitmap_bytes.value - .*));/n * CowBitmap::block_bytes);/' \
	'a commit writes blocks beyond the end of the bitmap'
c=tools/cow/check.cc
mutant cut-data check $c 's/end > bytes) {/false) {/' \
	'data that is cut off is not missed, and its place filled up'
mutant cut-bitmap check $c 's/if (bytes < h.bitmap_offset + h.bitmap_bytes) {/if (false) {/' \
	'a bitmap that is cut off is not missed'
mutant repairs-unasked check $c '/^void Check::check_padding/,/^}/s/if (repair_)/if (true)/' \
	'check writes without --repair'
mutant repairs-too-much check $c 's/last &= good;/last = 0;/' \
	'the last sectors lose their bits'
mutant repairs-another check $c 's/cow_.file.write(&last, 1, at)/cow_.file.write(\&last, 1, at + 1)/' \
	'another byte is cleared'
mutant not-durable check $c 's/cow_.file.sync_data();/;/' \
	'a repair is not made durable'
mutant names-itself check $c 's/cow_.file.is_same(st)/false/' \
	'a file that names itself is its own backing file'
mutant waits-for-fifo check $c 's/!S_ISREG(st.st_mode) \&\& !S_ISBLK(st.st_mode)/S_ISDIR(st.st_mode)/' \
	'a FIFO is taken for unreadable'
mutant window-border check tools/cow/ranges.hh 's/BitWindow::bytes \* BitWindow::sectors;/BitWindow::bytes * BitWindow::sectors + BitWindow::sectors;/' \
	'behind a hole a window of the bitmap is left out'
mutant runs-not-joined check tools/cow/ranges.hh 's/if (run.bytes \&\& run.end() == r.at) {/if (false) {/' \
	'a run ends at the border of a window'
mutant interrupted check tools/cow/file.cc 's/while (n < 0 \&\& errno == EINTR);/while (false);/' \
	'a call that was interrupted is an error'
mutant left-open check tools/cow/file.cc '/^File::~File/,/^}/s/close(fd_);/;/' \
	'files are left open'
mutant controls-shown check tools/cow/report.cc '/^size_t printable_at/,/^}/s/return first >= 0x20 .*/return 1;/' \
	'a name talks to the terminal'
mutant options-too-long options drivers/ubd/core/options.cc '/^bool take_field/,/^}/s/if (n >= bytes)/if (n > bytes)/' \
	'a name is a byte longer than its room'
mutant options-prefix options drivers/ubd/core/options.cc '/bool take(const char/,/^\t}/s/left < n || //' \
	'a word is read beyond its end'
mutant options-sync options drivers/ubd/core/options.cc 's/state.cache = with_sync(state.cache);/state.cache = UBD_CACHE_WRITETHROUGH;/' \
	'ubd=sync forgets that O_DIRECT was asked for'
mutant faults-too-many faults drivers/ubd/core/fault.cc '/^Error FaultRules::parse/,/^}/s/out.count == most/out.count > most/' \
	'nine rules are taken'
mutant faults-number faults drivers/ubd/core/fault.cc '/^bool number_after/,/^}/s/n > k + 10 || //' \
	'a number may be too large'

mutants_end
