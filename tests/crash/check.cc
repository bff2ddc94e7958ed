// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a crash leaves, held against what was promised.
 */
#include <stdio.h>

#include "world.hh"

namespace ubd::crash
{

Counts World::counts;
u64 World::stop_at;

namespace
{

bool has(u8 byte, u64 sector)
{
	return byte >> sector % 8 & 1;
}

// Ways to draw a crash, beside by chance.
enum Draw : u32 { all_lost, all_kept, bits_kept, data_kept, by_chance };

} // namespace

void World::check()
{
	point_++;
	if (!driver_.is_new())
		return;
	counts.points++;
	look_at_flights();
	if (stop_at == point_) {
		describe();
		sim::fail("stopped at step %llu, as asked", point_);
	}
	for (u32 hot = 0; hot < plan_.shape.hot.size(); hot++) {
		check_sector(hot);
		check_seen(hot);
	}
	check_drawn();
}

// What is with the host may have been written, in whole or in part.
void World::look_at_flights()
{
	for (auto &list : landing_)
		list.clear();
	landing_front_.clear();
	for (const HostEngine::Flight &f : flights()) {
		const Chunk &chunk = *f.chunk;
		if (chunk.op == HostOp::read || chunk.op == HostOp::sync || chunk.op == HostOp::allocate)
			continue;
		if (is_bitmap(chunk)) {
			landing_front_.push_back(&chunk);
			continue;
		}
		const u64 bytes = moves_data(chunk.op) ? chunk.iov_bytes().value : chunk.bytes.value;
		for_hot(chunk, min(bytes, chunk.bytes.value),
			[&](u32 hot, u64 position) { landing_[hot].push_back(written_at(chunk, position)); });
	}
}

// After a crash of the host: every content of its bit with every one of its data.
void World::check_sector(u32 hot)
{
	const u64 sector = plan_.shape.hot[hot], at = plan_.shape.bit_byte(sector);
	bool clear = false, set = false;
	for (const File::Unit &unit : file_->front(at))
		(has(unit[at % sector_bytes], sector) ? set : clear) = true;
	for (const Chunk *chunk : landing_front_)
		if (at >= chunk->offset.value && at - chunk->offset.value < chunk->bytes.value) {
			const u8 *from = static_cast<const u8 *>(chunk->iov[chunk->first].base);
			(has(from[at - chunk->offset.value], sector) ? set : clear) = true;
		}
	auto expect = [&](Value v, const char *how) {
		if (promise_.after_crash(hot, v))
			return;
		describe_sector(hot);
		fail("step %llu: after a crash sector %llu reads %u (%s), not one of %s", point_, sector, v, how,
		     promise_.words(hot));
	};
	if (clear)
		expect(from_backing, "its bit is not set");
	if (!set)
		return;
	for (Value v : file_->data(hot))
		expect(v, "its bit is set");
	for (Value v : landing_[hot])
		expect(v, "its bit is set, the write under way");
}

// If only the guest ended now, and its relay committed the bits.
void World::check_seen(u32 hot)
{
	const u64 sector = plan_.shape.hot[hot];
	const Value v = cow_.bitmap.test(sector) ? file_->data(hot).newest() : from_backing;
	if (promise_.seen(hot, v, now_))
		return;
	describe_sector(hot);
	fail("step %llu: sector %llu reads %u, not the newest of %s", point_, sector, v, promise_.words(hot));
}

void World::check_drawn()
{
	for (u32 i = 0; i < plan_.images; i++)
		open_and_check(draw((point_ * plan_.images + i) % 5));
}

Image World::draw(u32 kind)
{
	auto newest = [&](Draw kept) {
		return [=, this](size_t n) -> size_t {
			if (kind == by_chance)
				return driver_.pick(static_cast<u32>(n));
			return kind == all_kept || kind == kept ? n - 1 : 0;
		};
	};
	Image image = file_->after_crash(newest(bits_kept), newest(data_kept));
	auto lands = [&](Draw kept) {
		return kind == by_chance ? driver_.pick(2) == 1 : kind == all_kept || kind == kept;
	};
	for (const Chunk *chunk : landing_front_) {
		const u8 *from = static_cast<const u8 *>(chunk->iov[chunk->first].base);
		// Torn where units end.
		bool unit_lands = false;
		for (u64 i = 0, at = chunk->offset.value; i < chunk->bytes.value; i++, at++) {
			if (!i || at % sector_bytes == 0)
				unit_lands = lands(bits_kept);
			if (unit_lands)
				image.front[at] = from[i];
		}
	}
	for (size_t hot = 0; hot < landing_.size(); hot++)
		for (Value v : landing_[hot])
			if (lands(data_kept))
				image.data[hot] = v;
	return image;
}

// As a guest would read it.
Value World::opened_value(const Image &image, u32 hot) const
{
	const u64 sector = plan_.shape.hot[hot];
	return has(image.front[plan_.shape.bit_byte(sector)], sector) ? image.data[hot] : from_backing;
}

// As core finds it: by the header, by the bitmap, by the runs of a read.
void World::open_and_check(const Image &image)
{
	counts.images++;
	const Shape &shape = plan_.shape;
	opened_.open(shape, image);
	const u64 end = shape.header.sectors();
	for (u32 hot = 0; hot < shape.hot.size();) {
		const u64 first = shape.hot[hot];
		const Run run = opened_layout_.next_run(UBD_OP_READ, to_bytes(SectorNumber(first)),
							ByteCount((end - first) * sector_bytes));
		if (run.offset.value != (run.file ? first * sector_bytes : shape.data_at(first)))
			fail("step %llu: after a crash sector %llu is looked for elsewhere", point_, first);
		for (; hot < shape.hot.size() && shape.hot[hot] < first + run.bytes.value / sector_bytes; hot++) {
			const Value v = run.file ? from_backing : image.data[hot];
			if (!promise_.after_crash(hot, v)) {
				describe_sector(hot);
				fail("step %llu: after a crash, opened anew, sector %llu reads %u, not one of %s",
				     point_, shape.hot[hot], v, promise_.words(hot));
			}
		}
	}
}

void World::describe() const
{
	for (u32 hot = 0; hot < plan_.shape.hot.size(); hot++)
		describe_sector(hot);
}

void World::describe_sector(u32 hot) const
{
	if (!sim::tracing)
		return;
	const u64 sector = plan_.shape.hot[hot], at = plan_.shape.bit_byte(sector);
	printf("sector %llu: bit live %d, in the file", sector, cow_.bitmap.test(sector));
	for (const File::Unit &unit : file_->front(at))
		printf(" %d", has(unit[at % sector_bytes], sector));
	printf("; data");
	for (Value v : file_->data(hot))
		printf(" %u", v);
	if (!landing_[hot].empty())
		printf("; under way");
	for (Value v : landing_[hot])
		printf(" %u", v);
	printf("; promised %s\n", promise_.words(hot));
}

} // namespace ubd::crash
