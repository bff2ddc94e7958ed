// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on demand: an engine around another one, through which every
 * operation of the host passes, and which can make it fail, be short, or be
 * held back. Debug builds only (UBD_FAULTS); driven by the file `fault` in the
 * device's debugfs directory, whose text is
 *
 *	<operation> <effect> [every=<n>] [times=<n>] [after=<n>]
 *
 *	operation  read write write_sync sync punch zero submit any
 *	effect     errno=<number> | short | drop
 *	every      only each n-th operation that matches (default 1)
 *	times      at most n times (default: for ever)
 *	after      let n matching operations pass first (default 0)
 *
 * and "off". `short` halves a transfer (to a multiple of 512 bytes, at least
 * 512 if there is more); `drop` holds the completion back until "off" comes.
 * All calls under the queue lock, as for any engine.
 */
#ifndef UBD_CORE_FAULT_HH
#define UBD_CORE_FAULT_HH

#include "engine.hh"
#include "list.hh"

namespace ubd
{

struct FaultRule {
	enum class Effect : u8 { none, fail, cut, drop };

	Effect effect = Effect::none;
	bool on_submit = false;
	bool any = false;
	HostOp op = HostOp::read;
	int error = 0;
	u64 every = 1;
	u64 times = ~0ull;
	u64 after = 0;

	// Parses the text above; errno_inval if it is none.
	static Error parse(const char *text, size_t bytes, FaultRule &out);
};

class FaultEngine final : public Engine {
public:
	explicit FaultEngine(Engine &inner) : inner_(inner) {}

	void set(const FaultRule &rule);
	u64 hits() const { return hits_; }

	u32 capacity() const override { return inner_.capacity(); }
	u32 space() const override { return inner_.space(); }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return inner_.unsent(); }
	Error submit() override;
	u32 reap(Completion *to, u32 max) override;
	void quiet() override { inner_.quiet(); }
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return inner_.overflows(); }
	bool file_removed() const override { return inner_.file_removed(); }
	const char *name() const override { return inner_.name(); }

private:
	bool hit(bool submitting, HostOp op);
	static void shorten(Completion &c);

	Engine &inner_;
	FaultRule rule_;
	u64 seen_ = 0;
	u64 hits_ = 0;
	Fifo<Chunk> failed_; // to be given back with their errors
	Fifo<Chunk> dropped_; // held back
};

} // namespace ubd

#endif
