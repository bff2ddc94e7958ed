// SPDX-License-Identifier: GPL-2.0-only
/*
 * What core asks of the thing that does I/O on the host: io_uring, a pool of
 * threads, a test's script. All calls come with the queue lock held, from
 * atomic context: none may sleep, except wait().
 *
 * An engine never loses a chunk that it took: it comes back from reap()
 * exactly once. A chunk is taken by prepare() and handed to the host by a
 * later submit(), in the order of prepare().
 */
#ifndef UBD_CORE_ENGINE_HH
#define UBD_CORE_ENGINE_HH

#include "request.hh"

namespace ubd
{

struct Completion {
	Chunk *chunk = nullptr;
	s32 result = 0; // bytes, or a negative errno
};

class Engine {
public:
	// Most chunks that may be in flight at once: completions never overflow.
	// One more has room beside them, for a commit of the queue's own.
	virtual u32 capacity() const = 0;
	// A read that is longer had better be made of several chunks. A multiple of
	// a page.
	virtual u64 best_read_bytes() const { return ~0ull; }
	// Chunks that prepare() would take now.
	virtual u32 space() const = 0;
	// Takes a chunk; space() was not 0.
	virtual void prepare(Chunk &chunk) = 0;
	// Prepared and not yet taken by the host.
	virtual u32 unsent() const = 0;
	// Hands all that is prepared to the host by one call. After an error the
	// rest stays prepared and a later submit() tries again.
	virtual Error submit() = 0;
	// reap() would find something. Also without the queue lock: a hint.
	virtual bool ready() const = 0;
	// Takes at most `max` completions. Never waits.
	virtual u32 reap(Completion *to, u32 max) = 0;
	// Completions need no announcement until listen().
	virtual void quiet() = 0;
	// Announces again. True if something is there already: look once more,
	// there will be no announcement for it.
	virtual bool listen() = 0;
	// Asks the host to give a chunk back early; false if that cannot be
	// asked now. The chunk comes back from reap() in any case.
	virtual bool cancel(Chunk &chunk) = 0;
	// Waits until reap() has something, 100 ms at most.
	virtual void wait() = 0;

	// Completions that the host found no room for, ever: must stay 0.
	virtual u32 overflows() const = 0;
	// The file that is written to has lost its last name on the host.
	virtual bool file_removed() const = 0;

	virtual const char *name() const = 0;

protected:
	~Engine() = default;
};

} // namespace ubd

#endif
