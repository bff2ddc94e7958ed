// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes the bitmap of a COW file, with loading, commits and the layout that goes
 * by it, beside a model that has a bit for each sector and no blocks.
 *
 * Input: u8 and u24 the device's sectors, u8 how many blocks are loaded, each of
 * them as a pattern; then operations, each with its places.
 */
#include "../../drivers/ubd/core/cow.hh"
#include "fuzz.hh"

#include <algorithm>
#include <vector>

using namespace ubd;
using namespace ubd::fuzz;

namespace
{

constexpr u64 per_block = CowBitmap::block_sectors;
constexpr u64 most_sectors = 3 * per_block + 100;
constexpr u32 most_operations = 100;
constexpr u64 data_at = 1 << 20, bits_at = 8192;

// Bits of the model. Whole blocks, so that sets can be compared with the real ones.
class Bits {
public:
	explicit Bits(u64 n) : words_(CowBitmap::words_for(n)) {}
	const std::vector<u64> &words() const { return words_; }
	bool get(u64 i) const { return words_[i / 64] >> i % 64 & 1; }
	void put(u64 i) { words_[i / 64] |= 1ull << i % 64; }
	void clear() { std::fill(words_.begin(), words_.end(), 0); }
	u64 count() const
	{
		u64 n = 0;
		for (u64 w : words_)
			n += static_cast<u64>(__builtin_popcountll(w));
		return n;
	}
	bool any_in(u64 block) const
	{
		const auto first = words_.begin() + static_cast<ptrdiff_t>(block * CowBitmap::block_words);
		return std::any_of(first, first + CowBitmap::block_words, [](u64 w) { return w; });
	}
	// Where the run that begins at `at` ends, or `end`.
	u64 end_of_run(u64 at, u64 end) const
	{
		const bool set = get(at);
		while (at < end && get(at) == set)
			at += at % 64 == 0 && at + 64 <= end && words_[at / 64] == (set ? ~0ull : 0) ? 64 : 1;
		return at;
	}
	void add(const Bits &o)
	{
		for (size_t i = 0; i < words_.size(); i++)
			words_[i] |= o.words_[i];
	}
	void remove(const Bits &o)
	{
		for (size_t i = 0; i < words_.size(); i++)
			words_[i] &= ~o.words_[i];
	}

private:
	std::vector<u64> words_;
};

class Bitmap {
public:
	explicit Bitmap(u64 sectors);

	void load(Input &in);
	void operation(Input &in);
	void check() const;

private:
	enum class Commit { none, sealed, writing };

	u64 place(Input &in) const;
	void load_block(u64 block, u32 bytes, const Input &pattern);
	void set(u64 at, u64 n);
	void seal();
	void write_blocks(u32 calls);
	void end(bool well);
	void check_run(u64 at, u64 most) const;
	void check_layout(u8 op, u64 at, u64 most) const;
	void check_blocks() const;
	void check_sets() const;
	void check_file() const;
	Bits without(const Bits &some) const;

	const u64 sectors_;
	const Exact<u64> live_words_, next_, touched_, dirty_words_, sealed_words_, next_touched_;
	const Exact<u8> buffer_;
	Cow cow_;
	Bits live_, dirty_, sealed_;
	std::vector<u8> file_; // the bitmap there
	std::vector<bool> loaded_; // by blocks
	Commit commit_ = Commit::none;
	u64 next_block_ = 0; // that the commit writes
};

Bitmap::Bitmap(u64 sectors)
	: sectors_(sectors), live_words_(CowBitmap::words_for(sectors)), next_(CowBitmap::words_for(sectors)),
	  touched_(CowBitmap::block_words_for(sectors)), dirty_words_(CowBitmap::block_words_for(sectors)),
	  sealed_words_(CowBitmap::block_words_for(sectors)), next_touched_(CowBitmap::block_words_for(sectors)),
	  buffer_(Cow::buffer_bytes), live_(sectors), dirty_(sectors), sealed_(sectors), file_((sectors + 7) / 8),
	  loaded_(CowBitmap::blocks_for(sectors))
{
	CowBitmap::Memory m;
	m.live = live_words_.get();
	m.next = next_.get();
	m.touched = touched_.get();
	m.dirty = dirty_words_.get();
	m.sealed = sealed_words_.get();
	m.next_touched = next_touched_.get();
	cow_.bitmap.attach(m, sectors);
	cow_.data_offset = ByteOffset(data_at);
	cow_.bitmap_offset = ByteOffset(bits_at);
	cow_.bitmap_bytes = ByteCount(file_.size());
	cow_.buffer = buffer_.get();
}

// Near the borders of blocks and the end, or anywhere.
u64 Bitmap::place(Input &in) const
{
	const u8 how = in.byte();
	if (how & 0x80)
		return in.number(3) % sectors_;
	const u64 border = how & 0x40 ? sectors_ : (how & 3) * per_block;
	const u64 at = border + static_cast<u64>(static_cast<signed char>(in.byte()));
	return at < sectors_ ? at : at % sectors_;
}

// 1 to `most`, of any order of magnitude.
u64 length_of(Input &in, u64 most)
{
	const u32 bits = in.byte() % 18;
	const u64 n = 1 + (in.number(3) & ((1ull << bits) - 1));
	return min(n, most);
}

// Some blocks, each once, as who opens a file does before anything else.
void Bitmap::load(Input &in)
{
	for (u32 n = in.byte() % 5; n; n--) {
		const u64 block = in.byte() % cow_.bitmap.blocks();
		const u64 there = min<u64>(file_.size() - block * CowBitmap::block_bytes, CowBitmap::block_bytes);
		const u32 bytes = static_cast<u32>(min(in.number(2), there));
		const Input pattern = in.part(1 + in.byte() % 16);
		if (!loaded_[block])
			load_block(block, bytes, pattern);
		loaded_[block] = true;
	}
}

void Bitmap::load_block(u64 block, u32 bytes, const Input &pattern)
{
	const Exact<u8> bits(bytes);
	for (u32 i = 0; pattern.left() && i < bytes; i++)
		bits.get()[i] = pattern.at()[i % pattern.left()];
	cow_.bitmap.load(block, bits.get(), bytes);
	std::copy_n(bits.get(), bytes, file_.begin() + static_cast<ptrdiff_t>(block * CowBitmap::block_bytes));
	const u64 first = block * per_block;
	for (u64 i = 0; i < bytes * 8ull && first + i < sectors_; i++)
		if (bits.get()[i / 8] >> i % 8 & 1)
			live_.put(first + i);
}

void Bitmap::set(u64 at, u64 n)
{
	cow_.bitmap.set(at, n);
	for (u64 s = at; s < at + n; s++)
		if (!live_.get(s)) {
			live_.put(s);
			dirty_.put(s);
		}
}

void Bitmap::seal()
{
	if (commit_ == Commit::writing)
		return; // who comes now waits for the next
	cow_.bitmap.seal();
	sealed_.add(dirty_);
	dirty_.clear();
	commit_ = Commit::sealed;
	next_block_ = 0;
}

// As the queue writes them: from where it is, so many calls.
void Bitmap::write_blocks(u32 calls)
{
	if (commit_ == Commit::none)
		return;
	commit_ = Commit::writing;
	for (; calls; calls--) {
		const Run run = cow_.gather(next_block_);
		if (!run.bytes.value)
			return;
		REQUIRE(run.offset.value >= bits_at && run.offset.value % CowBitmap::block_bytes == 0);
		REQUIRE(run.bytes.value <= Cow::buffer_bytes);
		const u64 at = run.offset.value - bits_at;
		REQUIRE(at + run.bytes.value <= file_.size());
		std::copy_n(buffer_.get(), run.bytes.value, file_.begin() + static_cast<ptrdiff_t>(at));
	}
}

void Bitmap::end(bool well)
{
	if (commit_ == Commit::none)
		return;
	if (well) {
		write_blocks(~0u);
		cow_.bitmap.end_committed();
		check_file();
	} else {
		cow_.bitmap.end_failed();
		dirty_.add(sealed_);
	}
	sealed_.clear();
	commit_ = Commit::none;
}

Bits Bitmap::without(const Bits &some) const
{
	Bits rest = live_;
	rest.remove(some);
	return rest;
}

// All that is live has reached the file, but what was set since the seal.
void Bitmap::check_file() const
{
	const Bits wanted = without(dirty_);
	const u64 whole = sectors_ / 8;
	REQUIRE(!std::memcmp(file_.data(), wanted.words().data(), whole));
	for (u64 s = whole * 8; s < sectors_; s++)
		REQUIRE((file_[s / 8] >> s % 8 & 1) == wanted.get(s));
}

void Bitmap::check_run(u64 at, u64 most) const
{
	bool set;
	const u64 n = cow_.bitmap.run(at, most, set);
	REQUIRE(set == live_.get(at));
	REQUIRE(cow_.bitmap.test(at) == set);
	REQUIRE_EQ(at + n, live_.end_of_run(at, at + most));
}

void Bitmap::check_layout(u8 op, u64 at, u64 most) const
{
	const CowLayout layout(cow_);
	const Run run = layout.next_run(op, to_bytes(SectorNumber(at)), ByteCount(most * UBD_SECTOR_SIZE));
	const bool splits = op == UBD_OP_READ || op == UBD_OP_DISCARD;
	const bool in_cow = !splits || live_.get(at);
	const u64 end = splits ? live_.end_of_run(at, at + most) : at + most;
	REQUIRE(run.file == (in_cow ? 0 : 1));
	REQUIRE_EQ(run.offset.value, at * UBD_SECTOR_SIZE + (in_cow ? data_at : 0));
	REQUIRE_EQ(run.bytes.value, (end - at) * UBD_SECTOR_SIZE);
	REQUIRE(run.skip == (!in_cow && op == UBD_OP_DISCARD));
}

// What a commit would write of each block now, and what the last one would.
void Bitmap::check_blocks() const
{
	const Exact<u8> block(CowBitmap::block_bytes);
	const Bits committed = without(commit_ == Commit::none ? Bits(sectors_) : dirty_);
	for (u64 b = 0; b < cow_.bitmap.blocks(); b++) {
		const u64 at = b * CowBitmap::block_words;
		cow_.bitmap.copy_live(b, block.get());
		REQUIRE(!std::memcmp(block.get(), &live_.words()[at], CowBitmap::block_bytes));
		cow_.bitmap.copy(b, block.get());
		REQUIRE(!std::memcmp(block.get(), &committed.words()[at], CowBitmap::block_bytes));
	}
}

// The sets of blocks: also as the relay of a killed guest reads them.
void Bitmap::check_sets() const
{
	const CowBitmap &map = cow_.bitmap;
	u64 dirty_blocks = 0;
	for (u64 b = 0; b < map.blocks(); b++) {
		const bool is_dirty = dirty_.any_in(b), is_sealed = sealed_.any_in(b);
		dirty_blocks += is_dirty;
		REQUIRE((map.next_sealed(b) == b) == is_sealed);
		REQUIRE((map.next_unsaved(b) == b) == (is_dirty || is_sealed));
		REQUIRE((touched_.get()[b / 64] >> b % 64 & 1) == live_.any_in(b));
		REQUIRE((dirty_words_.get()[b / 64] >> b % 64 & 1) == is_dirty);
		REQUIRE((sealed_words_.get()[b / 64] >> b % 64 & 1) == is_sealed);
	}
	REQUIRE_EQ(map.next_sealed(map.blocks()), map.blocks());
	REQUIRE_EQ(map.next_unsaved(map.blocks()), map.blocks());
	REQUIRE_EQ(map.dirty_blocks(), dirty_blocks);
	REQUIRE_EQ(map.dirty_sectors(), dirty_.count());
	REQUIRE(map.dirty() == !!dirty_blocks);
	REQUIRE(map.sealed() == (commit_ != Commit::none));
}

void Bitmap::check() const
{
	check_blocks();
	check_sets();
	u64 at = 0;
	for (u32 n = 0; n < 1000 && at < sectors_; n++) {
		check_run(at, sectors_ - at);
		at = live_.end_of_run(at, sectors_);
	}
}

void Bitmap::operation(Input &in)
{
	static constexpr u8 ops[] = { UBD_OP_READ, UBD_OP_WRITE, UBD_OP_DISCARD, UBD_OP_WRITE_ZEROES };
	const u8 what = in.byte() % 10;
	if (what == 5)
		return seal();
	if (what == 6)
		return write_blocks(1 + in.byte() % 4);
	if (what == 7)
		return end(true);
	if (what == 8)
		return end(false);
	if (what == 9)
		return check_sets();
	const u64 at = place(in), n = length_of(in, sectors_ - at);
	if (what < 3)
		set(at, n);
	else if (what == 3)
		check_run(at, n);
	else
		check_layout(ops[in.byte() % 4], at, n);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	Input in(data, bytes);
	Bitmap bitmap(length_of(in, most_sectors));
	bitmap.load(in);
	for (u32 i = 0; i < most_operations && !in.empty(); i++)
		bitmap.operation(in);
	bitmap.check();
	return 0;
}
