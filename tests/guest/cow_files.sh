# SPDX-License-Identifier: GPL-2.0-only
#
# COW files made byte by byte from the description of their format
# (Documentation/cow-format.md), by nothing that this project has. Sourced by
# tests.
# shellcheck shell=bash disable=SC2034,SC2154 # of others

# Where the header of version 3 has its fields, and what follows it.
mtime_at=8
size_at=12
format_at=28
name_at=32
bitmap_at=8192

# bytes_at FILE OFFSET WORD: writes it there (printf's escapes are understood)
bytes_at() {
	# shellcheck disable=SC2059 # escapes
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# made_cow FILE 1|2|3|padded [MODEL SEED [UNIT]]: a COW file of that version over
# base.img. It has no sector; with a seed, runs of 1 to 64 units (of one sector) by
# chance, of what does not repeat, in the first MiB every other unit: and MODEL is
# then what a guest sees.
made_cow() {
	python3 - "$work/base.img" "$@" <<-'EOF'
		import os, random, struct, sys
		base, cow, version = sys.argv[1:4]
		st = os.stat(base)
		size, mtime, name = st.st_size, int(st.st_mtime), base.encode()
		if version == "1": # in the byte order of its machine
		    header = struct.pack("=4sI256sIQi", b"\x4d\x4f\x4f\x4f", 1, name, mtime, size, 512)
		elif version == "2":
		    header = struct.pack(">4sI4096sIQi", b"OOOM", 2, name, mtime, size, 512)
		elif version == "3":
		    header = struct.pack(">4sIIQIII4096s", b"OOOM", 3, mtime, size, 512, 4096, 0, name)
		else:
		    header = struct.pack(">4sII4xQIII4096s4x", b"OOOM", 3, mtime, size, 512, 4096, 0, name)
		assert len(header) == {"1": 280, "2": 4120, "3": 4128, "padded": 4136}[version], len(header)
		up = lambda n, to: (n + to - 1) // to * to
		if version in "12":
		    at, length, rounding = len(header), (size + 511) // 4096, 512
		else:
		    at, length, rounding = up(len(header), 4096), (size // 512 + 7) // 8, 4096
		data = up(at + length, rounding)
		sectors = size // 512
		bits = bytearray(data - at)
		with open(cow, "wb") as f:
		    f.write(header)
		    if len(sys.argv) > 4:
		        model = bytearray(open(base, "rb").read())
		        r = random.Random(int(sys.argv[5]))
		        unit = int(sys.argv[6]) if len(sys.argv) > 6 else 1
		        first = own = 0
		        while first < sectors:
		            n = 1 if first < 2048 else r.choice([r.randint(1, 8), r.randint(1, 64)])
		            n = min(n * unit, sectors - first)
		            if own:
		                for s in range(first, first + n):
		                    bits[s // 8] |= 1 << s % 8
		                content = r.randbytes(n * 512)
		                model[first * 512:(first + n) * 512] = content
		                f.seek(data + first * 512)
		                f.write(content)
		            first += n
		            own ^= 1
		        open(sys.argv[4], "wb").write(model)
		    f.seek(at)
		    f.write(bits)
		    f.truncate(data + size)
	EOF
}

# give_acl FILE access|default: user 12345 may read and write it, its group nothing; or
# what is made in it. False where the file system has no such lists.
give_acl() {
	python3 - "$@" <<-'EOF'
		import os, struct, sys
		nobody = 0xffffffff
		entries = (1, 6, nobody), (2, 6, 12345), (4, 0, nobody), (16, 6, nobody), (32, 0, nobody)
		acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
		try:
		    os.setxattr(sys.argv[1], "system.posix_acl_" + sys.argv[2], acl)
		except OSError as e:
		    sys.exit(str(e))
	EOF
}

# acl_of FILE: in hex, nothing if it has none
acl_of() {
	python3 - "$1" <<-'EOF'
		import os, sys
		if "system.posix_acl_access" in os.listxattr(sys.argv[1]):
		    print(os.getxattr(sys.argv[1], "system.posix_acl_access").hex())
	EOF
}

# keeps_acl FILE COMMAND: the command puts another file in its place. Who may use it is
# the same then: by a list, and without one in a directory that has one for new files.
keeps_acl() {
	local before

	give_acl "$1" access || skip 'the host has no access control lists here'
	before="$(stat -c %a "$1") $(acl_of "$1")"
	expect_eq 'mode with a list' "${before% *}" 660
	$2
	expect_eq 'mode and list' "$(stat -c %a "$1") $(acl_of "$1")" "$before"
	python3 -c 'import os, sys; os.removexattr(sys.argv[1], "system.posix_acl_access")' "$1"
	chmod 640 "$1"
	give_acl "$(dirname "$1")" default
	$2
	expect_eq 'mode and list of a file that had none' "$(stat -c %a "$1") $(acl_of "$1")" '640 '
}
