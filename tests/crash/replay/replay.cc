// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "content.hh"
#include "replay.hh"

namespace ubd::crash
{
namespace
{

// For chances: one bit in so many.
constexpr u32 half = 2;
// Sectors that one read is for, at most.
constexpr u64 most_read = 64;

} // namespace

Replay::Replay(const Record &record, const Journal &journal, const Shape &shape, const Image &start,
	       const ReplayOptions &options)
	: record_(record), journal_(journal), shape_(shape), options_(options), disk_(record, shape, start),
	  promise_(shape.hot.size()), random_(options.seed), front_(start.front), data_(start.data)
{
	const u64 sectors = shape.header.sectors();
	hot_of_.assign(sectors, ~0u);
	for (u32 hot = 0; hot < shape.hot.size(); hot++) {
		const u64 sector = shape.hot[hot];
		const bool set = front_[shape.bit_byte(sector)] >> sector % 8 & 1;
		hot_of_[sector] = hot;
		promise_.is_durable(hot, set ? start.data[hot] : from_backing);
	}
	for (const Act &a : journal.acts) {
		begins_.push_back({ a.begin, &a, false });
		ends_.push_back({ a.end, &a, true });
	}
	auto earlier = [](const Step &a, const Step &b) { return a.moment < b.moment; };
	std::sort(begins_.begin(), begins_.end(), earlier);
	std::sort(ends_.begin(), ends_.end(), earlier);
	find_horizons();

	const u64 n = CowBitmap::words_for(sectors), blocks = CowBitmap::block_words_for(sectors);
	words_.assign(2 * n + 4 * blocks, 0);
	memory_.live = words_.data();
	memory_.next = memory_.live + n;
	memory_.touched = memory_.next + n;
	memory_.dirty = memory_.touched + blocks;
	memory_.sealed = memory_.dirty + blocks;
	memory_.next_touched = memory_.sealed + blocks;
	parse();
	for (u32 unit = 0; unit < disk_.bitmap_units(); unit += CowBitmap::block_bytes / sector_bytes)
		load(unit);
}

/*
 * A mark may come late: between the moment that it names and the mark itself
 * other threads go on. But each waits for its own: of the next marks, one more
 * than there are threads, two are of one thread, and the moment of the second
 * was counted after the first was noted, and so after what comes before it here.
 */
void Replay::find_horizons()
{
	horizon_.assign(record_.events.size() + 1, never);
	std::vector<Moment> next; // backwards
	for (size_t i = record_.events.size(); i--;) {
		if (next.size() > journal_.threads)
			horizon_[i + 1] = *std::max_element(next.end() - journal_.threads - 1, next.end());
		if (record_.events[i].kind == RecordEntry::mark)
			next.push_back(static_cast<Moment>(record_.events[i].mark));
	}
}

template <class F> void Replay::for_hot(const Act &act, F f)
{
	const u32 end = shape_.hot_from(act.first + act.count);
	for (u32 hot = shape_.hot_from(act.first); hot < end; hot++)
		f(hot);
}

void Replay::began(const Act &a)
{
	const Value v = a.kind == Act::write || a.kind == Act::fua ? value_of_record(a.number) : zeros;
	for_hot(a, [&](u32 hot) { promise_.began(hot, v, a.begin); });
}

void Replay::ended(const Act &a)
{
	if (a.kind == Act::flush) {
		if (a.ok)
			promise_.flushed(a.begin);
		return;
	}
	for_hot(a, [&](u32 hot) {
		promise_.ended(hot, a.begin, a.end, a.ok && a.kind != Act::discard);
		if (a.ok && a.durable)
			promise_.durable(hot, a.begin, a.end);
	});
}

// What had ended by the one moment, and may have begun by the other.
void Replay::journal_to(Moment end, Moment begin)
{
	for (; next_begin_ < begins_.size() && begins_[next_begin_].moment <= std::max(end, begin); next_begin_++)
		if (begins_[next_begin_].act->kind != Act::flush)
			began(*begins_[next_begin_].act);
	for (; next_end_ < ends_.size() && ends_[next_end_].moment <= end; next_end_++)
		ended(*ends_[next_end_].act);
}

void Replay::run()
{
	for (const Event &e : record_.events) {
		entry_++;
		figures_.points++;
		bool news = false;
		if (e.kind == RecordEntry::mark) {
			figures_.marks++;
			marked_ = std::max(marked_, static_cast<Moment>(e.mark));
			news = true;
		}
		journal_to(marked_, horizon_[entry_]);
		if (e.kind == RecordEntry::handed)
			news = disk_.handed(e.call);
		if (e.kind == RecordEntry::completed)
			news = disk_.completed(e.call);
		// Else nothing is possible or promised that was not before.
		if (news)
			check();
		if (e.kind == RecordEntry::mark && options_.pairs)
			for (u32 hot = 0; hot < shape_.hot.size(); hot++)
				check_pairs(hot);
	}
}

void Replay::check()
{
	find_sectors();
	if (options_.pairs)
		for (u32 hot : sectors_)
			check_pairs(hot);
	if (options_.states)
		check_states();
}

void Replay::find_sectors()
{
	sectors_.clear();
	for (u32 u : disk_.open()) {
		const Disk::Unit &unit = disk_.unit(u);
		if (disk_.is_data(u)) {
			sectors_.push_back(u - disk_.bitmap_units());
			continue;
		}
		for (u32 i = 0; i < sector_bytes; i++) {
			u8 others = 0;
			for (const Disk::Content &c : unit)
				others |= c.bytes[i] ^ unit[0].bytes[i];
			for (u64 sector = (u * sector_bytes + i) * 8; others; others >>= 1, sector++)
				if (others & 1)
					sectors_.push_back(hot_of_[sector]);
		}
	}
	std::sort(sectors_.begin(), sectors_.end());
	sectors_.erase(std::unique(sectors_.begin(), sectors_.end()), sectors_.end());
}

void Replay::check_pairs(u32 hot)
{
	const u64 sector = shape_.hot[hot];
	const Disk::Unit &bits = disk_.unit(disk_.bit_unit(sector)), &data = disk_.data(hot);
	const Disk::Content *set = nullptr, *clear = nullptr;
	for (const Disk::Content &c : bits)
		(Disk::bit(c, sector) ? set : clear) = &c;
	figures_.pairs += (set ? data.size() : 0) + (clear ? 1 : 0);
	if (clear && !promise_.after_crash(hot, from_backing))
		broken(hot, from_backing, "pairs", "its bit is not set in " + name(clear->call));
	if (!set)
		return;
	for (const Disk::Content &c : data)
		if (!promise_.after_crash(hot, c.value))
			broken(hot, c.value, "pairs",
			       "its bit is set in " + name(set->call) + ", its data is that of " + name(c.call));
}

void Replay::check_states()
{
	find_choices();
	settle();
	const size_t n = writes_.size();
	figures_.most_open = std::max<u64>(figures_.most_open, n);
	std::vector<u8> there(n);
	if (n <= options_.most_exhaustive) {
		figures_.exhaustive++;
		for (u32 subset = 0; subset < 1u << n; subset++) {
			for (size_t i = 0; i < n; i++)
				there[i] = subset >> i & 1;
			choose_by(there);
		}
	} else {
		for (u8 others : { 0, 1 }) {
			there.assign(n, others);
			choose_by(there);
			for (size_t i = 0; i < n; i++) {
				there[i] = !others;
				choose_by(there);
				there[i] = others;
			}
			for (size_t i = 0; i < n; i++)
				there[i] = disk_.is_bitmap(record_.calls[writes_[i]]) == (others != 0);
			choose_by(there);
		}
		for (u32 k = 0; k < options_.random; k++) {
			for (u8 &t : there)
				t = random_.below(half) == 0;
			choose_by(there);
		}
	}
	for (u32 k = 0; k < options_.torn && n; k++)
		choose_torn();
}

// Who may or may not be there, and what that means for each unit.
void Replay::find_choices()
{
	writes_.clear();
	choices_.clear();
	for (u32 u : disk_.open())
		for (const Disk::Content &c : disk_.unit(u))
			if (!c.durable)
				writes_.push_back(c.call);
	std::sort(writes_.begin(), writes_.end());
	writes_.erase(std::unique(writes_.begin(), writes_.end()), writes_.end());
	for (u32 u : disk_.open()) {
		const Disk::Unit &unit = disk_.unit(u);
		Choice choice{ u, Disk::base(unit), {} };
		for (u32 i = 0; i < unit.size(); i++)
			if (!unit[i].durable) {
				const auto at = std::lower_bound(writes_.begin(), writes_.end(), unit[i].call);
				choice.by_write.push_back({ static_cast<u32>(at - writes_.begin()), i });
			}
		choices_.push_back(choice);
	}
}

// Units that were open before hold what is sure now, whatever the last state was.
void Replay::settle()
{
	for (u32 u : rest_) {
		take(u, Disk::base(disk_.unit(u)));
		if (!disk_.is_data(u))
			load(u);
	}
	rest_.clear();
	for (const Choice &c : choices_)
		rest_.push_back(c.unit);
}

void Replay::choose_by(const std::vector<u8> &there)
{
	for (const Choice &c : choices_) {
		u32 content = c.base;
		for (const auto &[write, i] : c.by_write)
			if (there[write])
				content = i;
		take(c.unit, content);
	}
	open_state(&there);
}

void Replay::choose_torn()
{
	for (const Choice &c : choices_)
		take(c.unit, static_cast<u32>(random_.below(disk_.unit(c.unit).size())));
	open_state(nullptr);
}

void Replay::take(u32 u, u32 content)
{
	const Disk::Content &c = disk_.unit(u)[content];
	if (disk_.is_data(u))
		data_[u - disk_.bitmap_units()] = c.value;
	else
		memcpy(&front_[shape_.header.bitmap_offset + u * sector_bytes], c.bytes.data(), sector_bytes);
}

void Replay::parse()
{
	CowHeader header;
	const char *why = "";
	if (read_cow_header(front_.data(), front_.size(), header, why) != CowRead::ok)
		fail("entry %u: after a crash the file has no COW header: %s", entry_, why);
	cow_.bitmap = CowBitmap();
	cow_.bitmap.attach(memory_, header.sectors());
	cow_.data_offset = ByteOffset(header.data_offset);
	cow_.bitmap_offset = ByteOffset(header.bitmap_offset);
	cow_.bitmap_bytes = ByteCount(header.bitmap_bytes);
}

// The block of the bitmap in which the unit is, as a driver that finds the file.
void Replay::load(u32 unit)
{
	const u64 block = unit * sector_bytes / CowBitmap::block_bytes, at = block * CowBitmap::block_bytes;
	memset(memory_.live + block * CowBitmap::block_words, 0, CowBitmap::block_bytes);
	memory_.touched[block / 64] &= ~(1ull << block % 64);
	cow_.bitmap.load(block, &front_[cow_.bitmap_offset.value + at],
			 static_cast<u32>(min<u64>(cow_.bitmap_bytes.value - at, CowBitmap::block_bytes)));
}

// As a driver that finds the file: header, bitmap, the runs of a read.
void Replay::open_state(const std::vector<u8> *there)
{
	figures_.states++;
	parse();
	u64 loaded = ~0ull;
	for (const Choice &c : choices_) {
		const u64 block = c.unit * sector_bytes / CowBitmap::block_bytes;
		if (!disk_.is_data(c.unit) && block != loaded) {
			load(c.unit);
			loaded = block;
		}
	}
	const u64 sectors = cow_.bitmap.sectors();
	for (size_t i = 0; i < sectors_.size();) {
		const u64 first = shape_.hot[sectors_[i]];
		const Run run = layout_.next_run(UBD_OP_READ, to_bytes(SectorNumber(first)),
						 ByteCount(min(sectors - first, most_read) * sector_bytes));
		if (run.offset.value != (run.file ? first * sector_bytes : shape_.data_at(first)))
			fail("entry %u: after a crash sector %llu is looked for elsewhere", entry_, first);
		for (; i < sectors_.size() && shape_.hot[sectors_[i]] < first + run.bytes.value / sector_bytes; i++) {
			const u32 hot = sectors_[i];
			const Value v = run.file ? from_backing : data_[hot];
			if (promise_.after_crash(hot, v))
				continue;
			std::string how = there ? "of the writes under way these had landed:"
						: "torn writes had landed";
			for (size_t w = 0; there && w < there->size(); w++)
				if ((*there)[w])
					how += " " + name(writes_[w]);
			broken(hot, v, "states", how);
		}
	}
}

std::string Replay::name(u32 call) const
{
	if (call == Disk::at_start)
		return "the file as it was";
	return "call " + std::to_string(record_.calls[call].number);
}

void Replay::broken(u32 hot, Value v, const char *check, const std::string &how) const
{
	const u64 sector = shape_.hot[hot];
	const Event &e = record_.events[entry_ - 1];
	printf("entry %u is ", entry_);
	if (e.kind == RecordEntry::mark)
		printf("mark %llu\n", e.mark);
	else
		printf("%s of call %llu: %s\n", e.kind == RecordEntry::handed ? "the beginning" : "the end",
		       record_.calls[e.call].number, name_of(record_.calls[e.call].op));
	auto list = [&](const char *what, const Disk::Unit &unit, bool bits) {
		printf("%s of sector %llu may be", what, sector);
		for (const Disk::Content &c : unit)
			printf(" %u of %s%s,", bits ? static_cast<Value>(Disk::bit(c, sector)) : c.value,
			       name(c.call).c_str(), c.durable ? " (durable)" : "");
		putchar('\n');
	};
	list("bit", disk_.unit(disk_.bit_unit(sector)), true);
	list("data", disk_.data(hot), false);
	fail("entry %u: after a crash sector %llu reads %u, not one of %s (%s: %s)", entry_, sector, v,
	     promise_.words(hot), check, how.c_str());
}

} // namespace ubd::crash
