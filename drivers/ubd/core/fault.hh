// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on demand: an engine around another one, through which every
 * operation of the host passes, and which can make it fail, be short, be late,
 * or be held back. Debug builds only (UBD_FAULTS); driven by the file `fault`
 * in the device's debugfs directory. What is written there, by one write(2), is
 * "off", or up to eight rules with semicolons between, that replace those
 * before. They are on one line: a shell writes each line by itself.
 *
 *	<operation> <effect> [<option>...]
 *
 *	operation  read write write_sync sync punch zero allocate submit any
 *	effect     errno=<number> | short | delay=<ms> | drop
 *	delay      as an option of errno and short: that comes late, too
 *	chance     percent: hits so many of those that could be hit (default 100)
 *	seed       for chance (default 1): the same seed hits the same ones
 *	every      only each n-th operation that matches (default 1)
 *	times      at most n times (default: for ever)
 *	after      let n matching operations pass first (default 0)
 *
 * An operation goes from rule to rule until one hits it; a rule counts only
 * what those before it let pass. `any` is any but submit, the call that hands
 * operations over, which can only be refused with an errno. `short` halves a
 * transfer (to a multiple of 512 bytes, at least 512 if there is more). `delay`
 * holds the completion back for so long after the host's own; at most 128
 * operations are late at a time, more are not hit. `drop` holds the operation
 * back. Neither heeds a cancel, as a host thread that is stuck does not. When
 * rules are set, or "off", what is late comes at once, and what was dropped is
 * tried again.
 *
 * Reading gives the rules, each with how many of the operations that it saw it
 * has hit, and how many are held back.
 *
 * What passes here, and what came of it, can be recorded: record.hh.
 *
 * All calls under the queue lock, as for any engine.
 */
#ifndef UBD_CORE_FAULT_HH
#define UBD_CORE_FAULT_HH

#include "engine.hh"
#include "list.hh"
#include "record.hh"

namespace ubd
{

struct FaultRule {
	enum class Effect : u8 { none, fail, cut, late, drop };
	static constexpr u64 for_ever = ~0ull;

	Effect effect = Effect::none;
	bool on_submit = false;
	bool any = false;
	HostOp op = HostOp::read;
	int error = 0;
	u64 delay_ms = 0;
	u64 chance = 100; // percent
	u64 seed = 1;
	u64 every = 1;
	u64 times = for_ever;
	u64 after = 0;
};

struct FaultRules {
	static constexpr u32 most = 8;

	FaultRule rule[most];
	u32 count = 0;

	// Parses the text above; errno_inval if it is none: then `out` is of no use.
	static Error parse(const char *text, size_t bytes, FaultRules &out);
};

// What tells the time to a FaultEngine, and wakes it.
class FaultTimer {
public:
	// Since any time in the past; goes on with interrupts off.
	virtual u64 now_ms() = 0;
	// FaultEngine::expire() is called so many milliseconds from now, once, and
	// then Queue::interrupt(). Replaces what was armed before.
	virtual void arm(u64 ms) = 0;

protected:
	~FaultTimer() = default;
};

class FaultEngine final : public Engine {
public:
	static constexpr u32 most_late = 128;

	FaultEngine(Engine &inner, FaultTimer &timer) : inner_(inner), timer_(timer) {}

	// Replaces all rules. Queue::commit() is to follow.
	void set(const FaultRules &rules);
	// The timer expired: what is due can be reaped.
	void expire();
	// Completions that are held back until their time comes.
	u32 late() const;
	// The text that is read; cut at `bytes`, with its NUL.
	void show(char *to, size_t bytes) const;
	Recorder &recorder() { return recorder_; }
	// What is short ends at a multiple of this, as the host's does; bytes, a
	// power of two.
	void set_block(u32 bytes) { block_ = bytes > UBD_SECTOR_SIZE ? bytes : UBD_SECTOR_SIZE; }

	u32 capacity() const override { return inner_.capacity(); }
	u64 best_read_bytes() const override { return inner_.best_read_bytes(); }
	u32 space() const override { return inner_.space(); }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return inner_.unsent(); }
	Error submit() override;
	bool ready() const override { return !ready_.empty() || inner_.ready(); }
	u32 reap(Completion *to, u32 max) override;
	void quiet() override { inner_.quiet(); }
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return inner_.overflows(); }
	bool file_removed() const override { return inner_.file_removed(); }
	const char *name() const override { return inner_.name(); }

private:
	static constexpr u64 never = ~0ull;

	// A rule, and what became of it.
	struct Armed {
		FaultRule rule;
		u64 random = 0; // state of the generator
		u64 seen = 0;
		u64 hits = 0;
	};

	// One whose completion is to come late. The result is in the chunk.
	struct Late {
		Chunk *chunk;
		u64 ms;
		u64 due; // never, while the host has it
	};

	const FaultRule *hit(bool submitting, HostOp op);
	bool strikes(Armed &a);
	Late *find(const Chunk &chunk);
	void came(Chunk &chunk, s32 result);
	bool collect();
	void release(u64 until);
	void arm();
	void shorten(Completion &c) const;

	Engine &inner_;
	FaultTimer &timer_;
	Recorder recorder_;
	Armed armed_[FaultRules::most];
	u32 rules_ = 0;
	u32 block_ = UBD_SECTOR_SIZE;
	Late late_[most_late];
	u32 lates_ = 0;
	Fifo<Chunk> ready_; // to be reaped, with the result that is in them
	Fifo<Chunk> dropped_; // held back
};

} // namespace ubd

#endif
