// SPDX-License-Identifier: GPL-2.0-only
/*
 * A record of all that a device hands to the host, for a test that wants to know
 * what a crash of the host may leave. Debug builds only (UBD_FAULTS): FaultEngine
 * tells it of each operation that it is given and of each result that it gives
 * back. So what its rules do is the host's doing, as it is for core. Driven by
 * the file `record` in the device's debugfs directory. One of these is written
 * there, by one write(2):
 *
 *	on <bytes>	begins a record, in so much memory, all taken now. EBUSY
 *			while the host is at work: it would begin in the middle
 *	mark <number>	notes the number, between what came before and after it
 *	off		ends it. From now on the file can be read (before: EBUSY)
 *
 * What is read is a RecordHead and then entries, each a RecordEntry with the
 * data of a write behind it, up to a multiple of eight bytes, in the order of
 * what happened:
 *
 *	handed		an operation was given to the engine, which gives it to
 *			the host at once or, if the host is busy, somewhat later
 *	completed	the host is done with it, and core is told of that result
 *	mark		as written
 *
 * What does not fit is not noted, and nothing after it: the head says so, the
 * record is of no use, and a mark fails with ENOSPC.
 *
 * A write's data is copied when it is handed over; what the host reads later may
 * be something else, if somebody changes memory that is being written. Whoever
 * uses a record must not: the test's writers write from buffers of their own,
 * by direct I/O, and leave them alone until the write has ended. A commit writes
 * bits from a buffer that is filled again only when the host is done with it.
 *
 * Context: under the queue lock; nothing here allocates.
 */
#ifndef UBD_CORE_RECORD_HH
#define UBD_CORE_RECORD_HH

#include "request.hh"

namespace ubd
{

struct RecordHead {
	static constexpr u64 magic_number = 0x3130646365726275; // "ubrecd01"

	u64 magic;
	u64 bytes; // of the record, with this
	u64 entries;
	u64 full; // something did not fit
};

struct RecordEntry {
	enum Kind : u8 { handed = 1, completed, mark };

	// What completed has that of what was handed over; then another operation
	// may have it. Or the mark.
	u64 number;
	u64 offset; // in the file
	u64 length; // bytes that the host was asked for
	s32 result; // of what completed: bytes, or a negative errno
	u32 data; // bytes that follow
	Kind kind;
	HostOp op;
	u8 file; // 0: the one written to, 1: the backing file
	u8 unused[5];

	// With its data.
	u64 bytes() const { return sizeof(RecordEntry) + ((data + 7ull) & ~7ull); }
};

struct RecordCommand {
	enum class Verb : u8 { on, off, mark };
	static constexpr u64 most = 1ull << 30; // bytes

	Verb verb = Verb::off;
	u64 number = 0;

	// Parses the text above; errno_inval if it is none.
	static Error parse(const char *text, size_t bytes, RecordCommand &out);
};

class Recorder {
public:
	// `memory`: for `on`, c.number bytes. Then it becomes what the caller has to
	// free, which is a former record's, or nullptr.
	Error obey(const RecordCommand &c, void *&memory);
	// The engine was given this one, from now on until completed().
	void handed(const Chunk &chunk);
	void completed(const Chunk &chunk, s32 result);
	// Copies what the record has from `offset` on, at most `bytes`, to `done`.
	// errno_busy while it is on.
	Error read(u64 offset, void *to, u64 bytes, u64 &done) const;
	// Gives the memory back; there is no record any more.
	void *take_memory();

private:
	RecordHead *head() { return reinterpret_cast<RecordHead *>(memory_); }
	Error start(u64 room, void *&memory);
	u8 *append(const RecordEntry &entry);

	u8 *memory_ = nullptr; // nullptr: nothing was ever recorded
	u64 room_ = 0; // bytes
	u64 used_ = 0;
	u32 with_engine_ = 0; // operations, whether they are noted or not
	bool on_ = false;
};

} // namespace ubd

#endif
