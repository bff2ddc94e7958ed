// SPDX-License-Identifier: GPL-2.0-only
/*
 * The recorder's functions.
 *
 * Context: under the queue lock, interrupts off; RecordCommand::parse(): any.
 */
#include "record.hh"

#include "layout.hh"
#include "words.hh"

namespace ubd
{
namespace
{

bool parse_number(const char *word, size_t n, u64 &out)
{
	out = 0;
	for (size_t i = 0; i < n; i++) {
		if (word[i] < '0' || word[i] > '9')
			return false;
		out = out * 10 + static_cast<u64>(word[i] - '0');
	}
	return n && n < 20; // what is longer may not fit
}

// Nobody else has it until the chunk comes back.
u64 number_of(const Chunk &chunk)
{
	return reinterpret_cast<u64>(&chunk);
}

// Not by which descriptor.
u8 file_of(const Chunk &chunk)
{
	return chunk.file % buffered_file;
}

} // namespace

Error RecordCommand::parse(const char *text, size_t bytes, RecordCommand &out)
{
	const Error bad{ errno_inval };
	Span words{ text, bytes };
	const char *w;
	size_t n;
	out = RecordCommand{};
	words.next_word(w, n);
	if (equal(w, n, "on"))
		out.verb = Verb::on;
	else if (equal(w, n, "mark"))
		out.verb = Verb::mark;
	else if (!equal(w, n, "off"))
		return bad;
	if (out.verb != Verb::off) {
		words.next_word(w, n);
		if (!parse_number(w, n, out.number))
			return bad;
	}
	if (out.verb == Verb::on && (out.number < sizeof(RecordHead) || out.number > most))
		return bad;
	return words.is_blank() ? no_error : bad;
}

Error Recorder::obey(const RecordCommand &c, void *&memory)
{
	if (c.verb == RecordCommand::Verb::on)
		return start(c.number, memory);
	if (c.verb == RecordCommand::Verb::off) {
		on_ = false;
		return no_error;
	}
	if (!on_)
		return Error{ errno_inval };
	RecordEntry entry{};
	entry.kind = RecordEntry::mark;
	entry.number = c.number;
	return append(entry) ? no_error : Error{ errno_nospc };
}

Error Recorder::start(u64 room, void *&memory)
{
	if (with_engine_)
		return Error{ errno_busy };
	u8 *const former = memory_;
	memory_ = static_cast<u8 *>(memory);
	memory = former;
	room_ = room;
	used_ = sizeof(RecordHead);
	on_ = true;
	*head() = RecordHead{ RecordHead::magic_number, used_, 0, false };
	return no_error;
}

void *Recorder::take_memory()
{
	void *const memory = memory_;
	memory_ = nullptr;
	used_ = 0;
	on_ = false;
	return memory;
}

// Where the entry's data goes; nullptr if it does not fit.
u8 *Recorder::append(const RecordEntry &entry)
{
	if (head()->full || entry.bytes() > room_ - used_) {
		head()->full = true;
		return nullptr;
	}
	u8 *const at = memory_ + used_;
	used_ += entry.bytes();
	head()->bytes = used_;
	head()->entries++;
	__builtin_memcpy(at, &entry, sizeof(entry));
	return at + sizeof(entry);
}

void Recorder::handed(const Chunk &chunk)
{
	with_engine_++;
	if (!on_)
		return;
	const bool writes = chunk.op == HostOp::write || chunk.op == HostOp::write_sync;
	RecordEntry entry{};
	entry.kind = RecordEntry::handed;
	entry.op = chunk.op;
	entry.file = file_of(chunk);
	if (chunk.op != HostOp::sync) { // which has what it had before it was one
		entry.offset = chunk.offset.value;
		entry.length = moves_data(chunk.op) ? chunk.iov_bytes().value : chunk.bytes.value;
	}
	entry.data = writes ? static_cast<u32>(entry.length) : 0;
	entry.number = number_of(chunk);
	u8 *to = append(entry);
	if (!to || !writes)
		return;
	for (u32 i = chunk.first; i < chunk.iovs; i++) {
		__builtin_memcpy(to, chunk.iov[i].base, chunk.iov[i].bytes);
		to += chunk.iov[i].bytes;
	}
}

void Recorder::completed(const Chunk &chunk, s32 result)
{
	with_engine_--;
	if (!on_)
		return;
	RecordEntry entry{};
	entry.kind = RecordEntry::completed;
	entry.op = chunk.op;
	entry.file = file_of(chunk);
	entry.number = number_of(chunk);
	entry.result = result;
	append(entry);
}

Error Recorder::read(u64 offset, void *to, u64 bytes, u64 &done) const
{
	if (on_)
		return Error{ errno_busy };
	done = offset < used_ ? min(bytes, used_ - offset) : 0;
	if (done)
		__builtin_memcpy(to, memory_ + offset, done);
	return no_error;
}

} // namespace ubd
