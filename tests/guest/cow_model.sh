#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A COW device beside a model of it: what is read is what the model has, over
# random mixes of COW and backing sectors, random operations, sizes, alignments
# and depths, and when operations fail.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

ubd_cow=${UBD_COW:-$top/build/ubd-cow}

# mixed VERSION...: VERSION.cow, each over base.img, and VERSION.model. Their size
# is no multiple of 8 sectors, nor of a page.
mixed() {
	local size=$((12 * 1024 * 1024 - 3 * 512))
	local v

	image base.img $size >/dev/null
	noise base.img 12
	truncate -s $size base.img
	base_sum=$(checksum base.img)
	for v in "$@"; do
		made_cow "$v.cow" "$v" "$v.model" "$soak_seed"
	done
}

# Zero are wrong.
test_random_reads() {
	mixed 1 2 3 padded
	guest one "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/3.cow" "ubd3=$work/padded.cow" <<-'EOF'
		for depth in 128 1 7; do
			load queue_depth=$depth
			for v in 1:a 2:b 3:c padded:d; do
				cmp /dev/ubd${v#*:} $work/${v%:*}.model
				"$tool" model /dev/ubd${v#*:} $work/${v%:*}.model 1600 8 8 $((soak_seed + depth)) |
					tee -a $work/reads
			done
			unload
		done
	EOF
	! grep -v '^0 of ' reads || fail 'wrong sectors'
	echo "12 times, as: $(tail -n 1 reads)" >figures
}

# The same on the kernel's own driver, which fails nothing here: its wrong sectors
# are counted. After a part of a request (a page, mostly) that lies in both files
# it goes on at the wrong place; so there are fewer where all runs are whole pages,
# as file systems of 4 KiB blocks make them, none if it is also read by whole pages.
test_random_reads_own_driver() {
	mixed 3
	made_cow pages.cow 3 pages.model "$soak_seed" 8
	use_compare
	guest one "ubd0=$work/3.cow" "ubd1=$work/pages.cow" <<-'EOF'
		for v in 3:a pages:b; do
			"$tool" model /dev/ubd${v#*:} $work/${v%:*}.model 1600 8 512 $soak_seed count
			{ cmp -l /dev/ubd${v#*:} $work/${v%:*}.model || true; } |
				awk '{ n[int(($1 - 1) / 512)] } END { for (s in n) c++; print c + 0 " of all sectors" }'
		done >$work/wrong
	EOF
	expect_eq lines "$(wc -l <wrong)" 4
	paste <(printf '%s\n' 'mixed by the sector, random reads' 'through the page cache' \
		'mixed by the page, random reads' 'through the page cache') wrong |
		sed "s/^/wrong on the kernel's own driver: /" >figures
}

# Reads, writes, zeroes, discards and flushes; and what the model has then is there
# after the device was removed, and after it was merged by somebody else.
limit[random_changes]=240
test_random_changes() {
	local v

	mixed 1 2 3 padded
	guest one "ubd0=$work/1.cow" "ubd1=$work/2.cow" "ubd2=$work/3.cow" "ubd3s=$work/padded.cow" <<-'EOF'
		for depth in 128 1 7; do
			load queue_depth=$depth
			for v in 1:a 2:b 3:c padded:d; do
				"$tool" model /dev/ubd${v#*:} $work/${v%:*}.model 1600 8 8 $((soak_seed + depth)) changes |
					tee -a $work/changes
			done
			unload
		done
		load
		for v in 1:a 2:b 3:c padded:d; do
			cmp /dev/ubd${v#*:} $work/${v%:*}.model
		done
		unload
	EOF
	expect_eq 'content of the backing file' "$(checksum base.img)" "$base_sum"
	! grep -v ', 0 failed; 0 of ' changes || fail 'wrong sectors'
	for v in 1 2 3 padded; do
		"$ubd_cow" check "$v.cow"
		"$ubd_cow" merge "$v.cow" --into "$v.merged"
		cmp "$v.merged" "$v.model" || fail "ubd-cow sees something else in version $v"
	done
	# Of older versions it does not know the bits behind the last whole byte.
	for v in 3 padded; do
		uml_moo "$v.cow" "$v.moo" >/dev/null
		cmp "$v.moo" "$v.model" || fail "uml_moo sees something else in version $v"
	done
	echo "12 times, as: $(tail -n 1 changes)" >figures
}

# The same while operations fail, are short, late, or tried again.
limit[random_errors]=300
test_random_errors() {
	mixed 3
	use_debug
	guest one "ubd0=$work/3.cow" <<-'EOF'
		round() {
			load queue_depth=$1 commit_ms=50
			fault ubda "$2"
			"$tool" model /dev/ubda $work/3.model 1600 8 8 $((soak_seed + $1)) changes errors | tee -a $work/changes
			cat $stats_dir/ubda/fault
			fault ubda off
			cmp /dev/ubda $work/3.model
			unload
			load
			cmp /dev/ubda $work/3.model
			unload
		}
		round 64 "write errno=28 chance=10 seed=$soak_seed"
		round 2 "write errno=28 chance=5; read errno=5 chance=5; zero errno=28 chance=20; punch errno=5 chance=20"
		round 16 "any short every=3; any errno=11 chance=10; any delay=30 chance=2"
		round 8 "write errno=5 chance=10 delay=20; write short chance=30; write errno=12 chance=3; read errno=12 chance=2; submit errno=11 chance=5"
	EOF
	expect_eq 'content of the backing file' "$(checksum base.img)" "$base_sum"
	expect_eq rounds "$(grep -c '; 0 of ' changes)" 4
	expect_eq 'rounds in which something failed' "$(grep -c ' [1-9][0-9]* failed' changes)" 3
	cp changes figures
}

run_tests "$@"
