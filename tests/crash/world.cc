// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's operations, the guest's requests, and the ways in which both end.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "world.hh"

namespace ubd::crash
{

World *world;

namespace
{

// Guest memory does not exist: an address says whose it is.
constexpr u64 memory_base = 1ull << 46;
constexpr u32 memory_shift = 32; // for each request

// Elements are kept from world to world.
class Pool {
public:
	explicit Pool(size_t bytes) : bytes_(bytes) {}

	void *take()
	{
		if (free_.empty()) {
			all_.push_back(std::make_unique<char[]>(bytes_));
			return all_.back().get();
		}
		void *element = free_.back();
		free_.pop_back();
		return element;
	}
	void give(void *element) { free_.push_back(element); }
	// Those that had elements are gone.
	void give_all()
	{
		free_.clear();
		for (auto &element : all_)
			free_.push_back(element.get());
	}

private:
	const size_t bytes_;
	std::vector<std::unique_ptr<char[]>> all_;
	std::vector<void *> free_;
};

Pool headers(sizeof(Header)), chunks(sizeof(Chunk));

} // namespace

const char *outcome_words(const Outcome &outcome)
{
	static char text[80];
	if (outcome.error)
		snprintf(text, sizeof(text), "fails: %s%s", errno_words(outcome.error),
			 outcome.lands ? "" : ", without effect");
	else if (outcome.bytes != ~0ull)
		snprintf(text, sizeof(text), "short: %llu bytes", outcome.bytes);
	else
		snprintf(text, sizeof(text), "done");
	return text;
}

// -- beginning and end of guests -----------------------------------------------------

// A COW file that has these sectors already.
World::World(const Plan &plan, Driver &driver, const std::vector<u64> &owned)
	: plan_(plan), driver_(driver), buffer_(Cow::buffer_bytes), promise_(plan.shape.hot.size()),
	  requests_(plan.depth), landing_(plan.shape.hot.size())
{
	world = this;
	const Shape &shape = plan_.shape;
	Image image;
	image.front.resize((shape.header.data_offset + sector_bytes - 1) / sector_bytes * sector_bytes);
	image.data.resize(shape.hot.size(), garbage);
	write_cow_header(shape.header, image.front.data(), image.front.size());
	has_space_.resize(64 * Cow::allocated_words_for(shape.header.sectors()));
	for (u64 sector : owned) {
		image.front[shape.bit_byte(sector)] |= static_cast<u8>(1u << sector % 8);
		image.data[shape.hot_from(sector)] = next_value_++;
	}
	file_ = std::make_unique<File>(shape, image);
	start();
	settle();
}

World::~World()
{
	world = nullptr;
}

// A guest opens the file as the page cache has it.
void World::start()
{
	queue_.reset();
	headers.give_all();
	chunks.give_all();
	bits_.open(plan_.shape, file_->newest());
	bits_.allocated.assign(plan_.allocate ? Cow::allocated_words_for(plan_.shape.header.sectors()) : 0, 0);
	cow_.allocated = plan_.allocate ? bits_.allocated.data() : nullptr;
	cannot_allocate_ = !plan_.allocate;
	cow_.buffer = buffer_.data();
	cow_.commit_ms = plan_.commit_ms;
	cow_.poisoned = false;
	engine_ = std::make_unique<HostEngine>(*this, plan_.capacity);
	QueueConfig config;
	config.sync_writes = plan_.write_through;
	config.cow = &cow_;
	queue_ = std::make_unique<Queue>(nullptr, *engine_, layout_, config);
	for (Request &r : requests_)
		r.used = false;
	sent_ = 0;
	sync_lost_ = never;
	timer_armed_ = false;
}

// What is read now is all there is: it is durable.
void World::settle()
{
	for (u32 hot = 0; hot < plan_.shape.hot.size(); hot++)
		promise_.is_durable(hot, opened_value(file_->newest(), hot));
}

void World::Bits::open(const Shape &shape, const Image &image)
{
	CowHeader header;
	const char *why = "";
	if (read_cow_header(image.front.data(), image.front.size(), header, why) != CowRead::ok)
		fail("after a crash the file has no COW header: %s", why);
	if (header.sectors() != shape.header.sectors() || header.data_offset != shape.header.data_offset ||
	    header.bitmap_offset != shape.header.bitmap_offset)
		fail("after a crash the COW header is another one");
	const u64 sectors = header.sectors();
	const u64 n = CowBitmap::words_for(sectors), blocks = CowBitmap::block_words_for(sectors);
	words.assign(2 * n + 4 * blocks, 0);
	CowBitmap::Memory m;
	m.live = words.data();
	m.next = m.live + n;
	m.touched = m.next + n;
	m.dirty = m.touched + blocks;
	m.sealed = m.dirty + blocks;
	m.next_touched = m.sealed + blocks;
	cow.bitmap = CowBitmap();
	cow.bitmap.attach(m, sectors);
	cow.data_offset = ByteOffset(header.data_offset);
	cow.bitmap_offset = ByteOffset(header.bitmap_offset);
	cow.bitmap_bytes = ByteCount(header.bitmap_bytes);
	for (u64 block = 0, at = 0; at < header.bitmap_bytes; block++, at += CowBitmap::block_bytes)
		cow.bitmap.load(block, &image.front[header.bitmap_offset + at],
				static_cast<u32>(min<u64>(CowBitmap::block_bytes, header.bitmap_bytes - at)));
}

/*
 * As the relay of a killed guest does it, and the driver when a device goes:
 * what was written, then all bits, each made durable. The host may crash at
 * any point of it, or kill the relay, too; and the next guest may begin before
 * the last fdatasync. That the host has lost data is told to the relay as well,
 * whether core knew of it or not: it has an opening of its own.
 */
bool World::last_commit()
{
	while (!flights().empty())
		engine_->end(0, driver_.outcome(*flights()[0].chunk));
	TRACE("last commit");
	check();
	if (cow_.poisoned || lost_)
		return false;
	file_->end_sync(file_->begin_sync());
	check();
	std::vector<u8> block(CowBitmap::block_bytes);
	u64 n = 0;
	while ((n = cow_.bitmap.next_unsaved(n)) < cow_.bitmap.blocks()) {
		if (driver_.host_busy())
			return false;
		cow_.bitmap.copy_live(n, block.data());
		const u64 at = n * CowBitmap::block_bytes;
		file_->write_front(cow_.bitmap_offset.value + at, block.data(),
				   min<u64>(block.size(), cow_.bitmap_bytes.value - at));
		check();
		n++;
	}
	if (driver_.pick(2))
		file_->end_sync(file_->begin_sync());
	check();
	return true;
}

void World::guest_killed(bool committed)
{
	TRACE("guest killed, %s", committed ? "bits committed" : "bits not committed");
	while (!flights().empty())
		engine_->end(0, Outcome{ 0, driver_.write_lands() ? ~0ull : 0, true });
	const Moment killed = now_;
	start();
	const Image image = file_->newest();
	for (u32 hot = 0; hot < plan_.shape.hot.size(); hot++) {
		const Value v = opened_value(image, hot);
		if (committed ? !promise_.seen(hot, v, killed) : !promise_.after_crash(hot, v))
			fail("guest killed%s: sector %llu reads %u, not one of %s",
			     committed ? " and bits committed" : "", plan_.shape.hot[hot], v, promise_.words(hot));
		if (!lost_)
			promise_.is(hot, v, now_);
	}
	now_ += 2;
	if (!lost_)
		check();
}

void World::host_crashed()
{
	TRACE("host crashed");
	look_at_flights();
	const Image image = draw(driver_.pick(5));
	open_and_check(image);
	file_ = std::make_unique<File>(plan_.shape, image);
	lost_ = false;
	start();
	settle();
	check();
}

// -- the guest's requests ---------------------------------------------------------------

void World::send(u8 op, u8 flags, u64 sector, u64 sectors, bool last)
{
	u32 slot = 0;
	while (requests_[slot].used)
		slot++;
	Request &r = requests_[slot];
	r.rq = ubd_request{};
	r.rq.op = op;
	r.rq.flags = flags;
	r.rq.sector = sector;
	r.rq.bytes = sectors * sector_bytes;
	r.rq.cursor.word[0] = memory_base + (static_cast<u64>(slot) << memory_shift);
	r.used = true;
	r.sent = now_++;
	r.hot = plan_.shape.hot_from(sector);
	r.hot_end = plan_.shape.hot_from(sector + sectors);
	r.value = op == UBD_OP_WRITE ? next_value_++ : zeros;
	r.read.assign(op == UBD_OP_READ ? r.hot_end - r.hot : 0, garbage);
	TRACE("send %s%s%s %llu+%llu = %u (request %u)", operation_name(op), flags & UBD_RQ_FUA ? " FUA" : "",
	      flags & UBD_RQ_NOUNMAP ? " NOUNMAP" : "", sector, sectors, r.value, slot);
	for (u32 hot = r.hot; hot < r.hot_end; hot++)
		if (op == UBD_OP_WRITE || op == UBD_OP_WRITE_ZEROES ||
		    // A discard is about the COW file only.
		    (op == UBD_OP_DISCARD && (cow_.bitmap.test(plan_.shape.hot[hot]) || promise_.in_flight(hot))))
			promise_.began(hot, r.value, r.sent);
	sent_++;
	queue_->enqueue(r.rq, last);
	check();
}

void World::end(ubd_request *list)
{
	while (list) {
		ubd_request *rq = list;
		list = list->next;
		end(*reinterpret_cast<Request *>(rq));
	}
}

void World::end(Request &r)
{
	const bool ok = r.rq.status == UBD_STATUS_OK;
	TRACE("  request %zu ends: status %u", static_cast<size_t>(&r - requests_.data()), r.rq.status);
	if (!r.used)
		fail("a request ends twice");
	r.used = false;
	sent_--;
	const bool writes = r.rq.op == UBD_OP_WRITE || r.rq.op == UBD_OP_WRITE_ZEROES;
	const bool durable = (r.rq.flags & UBD_RQ_FUA) || plan_.write_through;
	if (ok && r.sent > sync_lost_ && (writes || r.rq.op == UBD_OP_FLUSH))
		fail("%s ends well after an fdatasync has failed", operation_name(r.rq.op));
	const Moment now = now_++;
	for (u32 hot = r.hot; hot < r.hot_end; hot++) {
		promise_.ended(hot, r.sent, now, ok && writes);
		if (ok && writes && durable)
			promise_.durable(hot, r.sent, now);
	}
	if (ok && r.rq.op == UBD_OP_FLUSH)
		promise_.flushed(r.sent);
	if (ok && r.rq.op == UBD_OP_READ)
		check_read(r);
}

void World::check_read(const Request &r)
{
	for (u32 hot = r.hot; hot < r.hot_end; hot++)
		if (!promise_.seen(hot, r.read[hot - r.hot], r.sent))
			fail("a read of sector %llu finds %u, not the newest of %s", plan_.shape.hot[hot],
			     r.read[hot - r.hot], promise_.words(hot));
}

void World::commit()
{
	TRACE("commit");
	queue_->commit();
	check();
}

void World::interrupt()
{
	TRACE("interrupt");
	queue_->interrupt();
	check();
}

void World::timer()
{
	TRACE("timer");
	timer_armed_ = false;
	queue_->timer();
	check();
}

void World::go_synchronous()
{
	TRACE("go synchronous");
	queue_->go_synchronous();
	check();
}

// -- memory ---------------------------------------------------------------------------

u32 World::map(ubd_request &rq, ubd_iovec *iov, u32 max_iovs, u64 max_bytes, u64 &bytes)
{
	bytes = driver_.mapped(max_bytes / sector_bytes) * sector_bytes;
	const u32 n = bytes > sector_bytes && max_iovs > 1 ? 2 : 1;
	u64 left = bytes;
	for (u32 i = 0; i < n; i++) {
		const u64 here = i + 1 < n ? sector_bytes : left;
		iov[i] = { reinterpret_cast<void *>(rq.cursor.word[0]), here };
		rq.cursor.word[0] += here;
		left -= here;
	}
	return n;
}

World::Request &World::request_at(const void *address, u64 &byte)
{
	const u64 at = reinterpret_cast<u64>(address) - memory_base;
	byte = at & ((1ull << memory_shift) - 1);
	if (at >> memory_shift >= requests_.size())
		fail("core names memory that is nobody's");
	return requests_[at >> memory_shift];
}

// -- what the host does -------------------------------------------------------------------

bool World::is_bitmap(const Chunk &chunk) const
{
	return chunk.op == HostOp::write && !chunk.file && chunk.offset < cow_.data_offset;
}

// The device's sector that lies there in the chunk's file.
u64 World::sector_at(const Chunk &chunk, u64 position) const
{
	return (chunk.offset.value + position - (chunk.file ? 0 : cow_.data_offset.value)) / sector_bytes;
}

// What the chunk puts there. Data for another sector is garbage here.
Value World::written_at(const Chunk &chunk, u64 position)
{
	if (chunk.zero_pages || !moves_data(chunk.op))
		return zeros;
	u32 i = chunk.first;
	u64 within = position;
	while (within >= chunk.iov[i].bytes)
		within -= chunk.iov[i++].bytes;
	u64 byte;
	const Request &r = request_at(static_cast<const char *>(chunk.iov[i].base) + within, byte);
	const bool right = r.used && r.rq.sector + byte / sector_bytes == sector_at(chunk, position);
	return right ? r.value : garbage;
}

void World::land(const Chunk &chunk, u64 bytes)
{
	if (is_bitmap(chunk))
		file_->write_front(chunk.offset.value, static_cast<const u8 *>(chunk.iov[chunk.first].base), bytes);
	else
		for_hot(chunk, bytes,
			[&](u32 hot, u64 position) { file_->write_data(hot, written_at(chunk, position)); });
}

void World::read(const Chunk &chunk, u64 bytes)
{
	for_hot(chunk, bytes, [&](u32 hot, u64 position) {
		u32 i = chunk.first;
		while (position >= chunk.iov[i].bytes)
			position -= chunk.iov[i++].bytes;
		u64 byte;
		Request &r = request_at(static_cast<const char *>(chunk.iov[i].base) + position, byte);
		const bool right = r.rq.sector + byte / sector_bytes == plan_.shape.hot[hot];
		if (right)
			r.read[hot - r.hot] = chunk.file ? from_backing : file_->data(hot).newest();
	});
}

s32 World::execute(const HostEngine::Flight &flight, const Outcome &outcome)
{
	Chunk &chunk = *flight.chunk;
	TRACE("host: %s file %u %llu+%llu %s", name_of(chunk.op), chunk.file, chunk.offset.value, chunk.bytes.value,
	      outcome_words(outcome));
	if (chunk.op == HostOp::sync)
		return execute_sync(flight, outcome);
	if (chunk.op == HostOp::allocate) {
		if (!outcome.error)
			for (u64 at = 0; at < chunk.bytes.value; at += Cow::buffer_bytes)
				has_space_[(chunk.offset.value - cow_.bitmap_offset.value + at) / Cow::buffer_bytes] =
					true;
		return -outcome.error;
	}
	const u64 asked = moves_data(chunk.op) ? chunk.iov_bytes().value : chunk.bytes.value;
	const u64 bytes = min(min(asked, chunk.bytes.value), outcome.bytes);
	if (chunk.op == HostOp::read) {
		if (!outcome.error)
			read(chunk, bytes);
	} else if (!outcome.error || outcome.lands) {
		land(chunk, bytes);
	}
	if (outcome.error)
		return -outcome.error;
	return moves_data(chunk.op) ? static_cast<s32>(bytes) : 0;
}

s32 World::execute_sync(const HostEngine::Flight &flight, const Outcome &outcome)
{
	if (!outcome.error) {
		file_->end_sync(flight.sync);
	} else if (judge(HostOp::sync, outcome.error) == Verdict::fail) {
		file_->fail_sync(flight.sync, [&] { return driver_.unit_lost(); });
		lost_ = true;
	}
	return -outcome.error;
}

void World::end_operation(size_t flight, const Outcome &outcome)
{
	engine_->end(flight, outcome);
	check();
}

void World::told(const Completion &c)
{
	if (c.chunk->op == HostOp::sync && c.result < 0 && judge(HostOp::sync, -c.result) == Verdict::fail)
		sync_lost_ = min(sync_lost_, now_++);
	if (c.chunk->op == HostOp::allocate && c.result == -errno_opnotsupp)
		cannot_allocate_ = true;
}

void World::prepared(const Chunk &chunk)
{
	const bool writes = chunk.op != HostOp::read && chunk.op != HostOp::sync;
	const u64 bitmap_end = cow_.bitmap_offset.value + cow_.bitmap_bytes.value;
	if (chunk.op == HostOp::allocate && chunk.offset.value + chunk.bytes.value > bitmap_end)
		fail("core makes space beyond the bitmap");
	if (writes && chunk.file)
		fail("core writes to the backing file");
	if (writes && chunk.offset.value < cow_.bitmap_offset.value)
		fail("core writes into the header");
	if (is_bitmap(chunk) && chunk.offset.value + chunk.bytes.value > bitmap_end)
		fail("core writes beyond the bitmap");
	if (is_bitmap(chunk) && !cannot_allocate_)
		check_space(chunk);
	if (is_bitmap(chunk) && sync_lost_ != never)
		fail("bits are committed after an fdatasync has failed");
}

// On a full disk these bits could not be written, though their data was.
void World::check_space(const Chunk &chunk) const
{
	const u64 first = chunk.offset.value - cow_.bitmap_offset.value;
	for (u64 part = first / Cow::buffer_bytes; part * Cow::buffer_bytes < first + chunk.bytes.value; part++)
		if (!has_space_[part])
			fail("core writes bits for which it has made no space");
}

// Core is not back yet, but a crash may come now.
void World::submitted()
{
	check();
}

} // namespace ubd::crash

// -- the C names ------------------------------------------------------------------------------

using ubd::crash::chunks;
using ubd::crash::headers;
using ubd::crash::world;

unsigned long ubd_k_lock(ubd_kqueue *)
{
	return 0;
}

void ubd_k_unlock(ubd_kqueue *, unsigned long) {}

void *ubd_k_header_alloc(ubd_kqueue *)
{
	return world->no_memory() ? nullptr : headers.take();
}

void ubd_k_header_free(ubd_kqueue *, void *header)
{
	headers.give(header);
}

void *ubd_k_chunk_alloc(ubd_kqueue *)
{
	return world->no_memory() ? nullptr : chunks.take();
}

void ubd_k_chunk_free(ubd_kqueue *, void *chunk)
{
	chunks.give(chunk);
}

ubd_u32 ubd_k_map(ubd_request *rq, ubd_iovec *iov, ubd_u32 max_iovs, ubd_u64 max_bytes, ubd_u64 *bytes)
{
	return world->map(*rq, iov, max_iovs, max_bytes, *bytes);
}

void ubd_k_end_requests(ubd_kqueue *, ubd_request *list)
{
	world->end(list);
}

void ubd_k_arm_timer(ubd_kqueue *, ubd_u32)
{
	world->arm_timer();
}

void ubd_k_poll(ubd_kqueue *) {}

ubd_u64 ubd_k_now_ns()
{
	return 0;
}

void ubd_k_disable_discard(ubd_kqueue *) {}

void ubd_k_log(ubd_log_level, bool, const char *format, ...)
{
	if (!ubd::sim::tracing)
		return;
	va_list args;
	va_start(args, format);
	fputs("log: ", stdout);
	vprintf(format, args);
	va_end(args);
}

int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const int n = vsnprintf(to, bytes, format, args);
	va_end(args);
	return n;
}

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	if (!ubd::sim::asserts_ignored)
		ubd::sim::fail("core asserts %s at %s:%d", what, file, line);
}
