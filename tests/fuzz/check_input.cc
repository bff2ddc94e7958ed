// SPDX-License-Identifier: GPL-2.0-only
#include "check_input.hh"

#include <algorithm>
#include <cerrno>

namespace ubd::fuzz
{
namespace
{

// Bytes of pieces that are repeated, together: more bits than that only take time.
constexpr u64 most_repeated = 1024;

} // namespace

CheckInput::CheckInput(const u8 *data, size_t bytes)
{
	static constexpr const char *names[] = { "cow", "dir/cow", "/cow", "link" };
	Input in(data, bytes);
	const u8 around = in.byte(), length_kind = in.byte(), more = in.byte();
	const u8 call = in.byte(), how = in.byte();
	const Input head = in.part(in.number(2));
	name = names[around >> 4 & 3];
	json = how & 0x80;
	diff = how & 0x40;
	cow.write(head.at(), head.left(), 0);
	parse();
	add_pieces(in);
	if (around & 0x40 && good_)
		add_mark();
	set_length(length_kind, static_cast<signed char>(more));
	make_base(around & 7);
	base_mtime = (good_ ? header_.mtime : 0) + (around & 8 ? 1 : 0);
	choose_fault(call, how);
}

// By now, and if the file were as long as a header is.
void CheckInput::parse()
{
	Content longer = cow;
	longer.truncate(std::max<u64>(cow.size(), UBD_COW_HEADER_MAX));
	good_ = header_of(longer, header_) == CowRead::ok;
}

u64 CheckInput::place(u8 relative_to, u64 where) const
{
	const CowHeader &h = header_;
	const u64 near = static_cast<u64>(static_cast<short>(where));
	u64 at = where;
	switch (good_ ? relative_to & 7 : 0) {
	case 1:
		at = h.bitmap_offset + near;
		break;
	case 2:
		at = h.bitmap_offset + h.bitmap_bytes + near;
		break;
	case 3:
		at = h.data_offset + near;
		break;
	case 4:
		at = h.file_bytes() + near;
		break;
	case 5: // blocks
		at = h.bitmap_offset + (where << 12);
		break;
	case 6: // windows
		at = h.bitmap_offset + (where << 20);
		break;
	case 7:
		at = h.data_offset + (where << UBD_SECTOR_SHIFT);
		break;
	}
	return std::min(at, UBD_COW_SIZE_MAX);
}

void CheckInput::add_pieces(Input &in)
{
	u64 repeated = 0;
	while (!in.empty()) {
		const u8 relative_to = in.byte();
		const u64 at = place(relative_to, in.number(2));
		const Input piece = in.part(in.byte());
		cow.write(piece.at(), piece.left(), at);
		for (u32 i = 1; relative_to & 0x80 && i < 16 && repeated < most_repeated; i++) {
			cow.write(piece.at(), piece.left(), at + i * piece.left());
			repeated += piece.left();
		}
		if (at < UBD_COW_HEADER_MAX)
			parse();
	}
}

// As a merge that was not ended leaves it: image.hh has the words.
void CheckInput::add_mark()
{
	static constexpr u64 ends[] = { 8 + 256, 8 + 4096, 32 + 4096, 36 + 4096 }; // of the name's field
	u32 hash = 0x811c9dc5; // FNV-1a
	for (const char *c = header_.backing; *c; c++)
		hash = (hash ^ static_cast<u8>(*c)) * 0x01000193;
	const u64 at = ends[static_cast<u8>(header_.version)] - 13;
	cow.write(reinterpret_cast<const u8 *>("ubdmerge"), 8, at);
	cow.write(reinterpret_cast<const u8 *>(&hash), 4, at + 8);
}

void CheckInput::set_length(u8 kind, s32 more)
{
	const CowHeader &h = header_;
	u64 bytes = cow.size();
	if (good_) {
		switch (kind & 7) {
		case 0:
			bytes = h.file_bytes();
			break;
		case 2:
			bytes = h.bitmap_offset + h.bitmap_bytes;
			break;
		case 3:
			bytes = h.data_offset;
			break;
		case 4:
			bytes = end_of_bits(cow, h);
			break;
		case 5:
			bytes = h.bitmap_offset;
			break;
		}
	}
	cow.truncate(more < 0 && bytes < static_cast<u64>(-more) ? 0 : bytes + static_cast<u64>(more));
}

void CheckInput::make_base(u8 kind)
{
	static constexpr u8 magic[] = { 'O', 'O', 'O', 'M', 0, 0, 0, 3 };
	const u64 right = good_ ? header_.bytes : Files::near_bytes;
	switch (kind) {
	case 4:
		return base.truncate(right + UBD_SECTOR_SIZE);
	case 5:
		return base.truncate(right - 1);
	case 6:
		return;
	case 7:
		base.write(magic, sizeof(magic), 0);
		break;
	}
	base.truncate(right);
}

void CheckInput::choose_fault(u8 call, u8 how)
{
	static constexpr Call calls[] = { Call::none, Call::read, Call::write, Call::truncate, Call::sync };
	static constexpr int errors[] = { EIO, EINTR, 0, ENOSPC };
	fault.call = calls[(call & 7) % 5];
	fault.after = call >> 3 & 7;
	fault.error = errors[how & 3];
}

} // namespace ubd::fuzz
