// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine of a simulated host: holds what core hands over until the world
 * says how each operation ends, in whatever order. Only then does it change
 * the file; until then a crash may or may not find any part of it.
 */
#ifndef UBD_CRASH_ENGINE_HH
#define UBD_CRASH_ENGINE_HH

#include <vector>

#include "file.hh"

namespace ubd::crash
{

// How an operation of the host ends.
struct Outcome {
	int error = 0;
	u64 bytes = ~0ull; // at most so many are transferred
	bool lands = true; // of what fails: did it change the file?
};

class World;

class HostEngine final : public Engine {
public:
	struct Flight {
		Chunk *chunk;
		File::Sync sync; // of an fdatasync
	};

	HostEngine(World &world, u32 capacity) : world_(world), capacity_(capacity) {}

	const std::vector<Flight> &flights() const { return flights_; }
	const std::vector<Completion> &posted() const { return posted_; }
	// The host ends this operation. Core is not told yet.
	void end(size_t flight, const Outcome &outcome);

	u32 capacity() const override { return capacity_; }
	u32 space() const override { return capacity_ + 1 - unsent(); }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return static_cast<u32>(prepared_.size()); }
	Error submit() override;
	bool ready() const override { return !posted_.empty(); }
	u32 reap(Completion *to, u32 max) override;
	void quiet() override {}
	bool listen() override { return !posted_.empty(); }
	bool cancel(Chunk &) override { return false; }
	void wait() override;
	u32 overflows() const override { return 0; }
	bool file_removed() const override { return false; }
	const char *name() const override { return "crash"; }

private:
	World &world_;
	const u32 capacity_;
	std::vector<Chunk *> prepared_;
	std::vector<Flight> flights_;
	std::vector<Completion> posted_;
};

} // namespace ubd::crash

#endif
