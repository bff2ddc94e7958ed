// SPDX-License-Identifier: GPL-2.0-only
/*
 * Goes through a record, crashes the host after each entry, and looks at all
 * that the COW file may be then.
 *
 * What is promised follows from the writer's journal, as far as the marks in the
 * record say that it had come: ../promise.hh. A content that was promised by no
 * mark yet is one that was handed over since.
 *
 * Two checks, each by itself:
 *
 *	pairs	what a sector reads as depends on the unit with its bit and on
 *		that with its data; each content of the one with each of the
 *		other. That is every subset of the writes, torn in every way.
 *	states	whole files, each opened by core: header, bitmap, the runs of a
 *		read. One for each subset of the writes that may or may not be
 *		there, if these are at most `most_exhaustive`; else none, all,
 *		each alone, all but each, only bits, only data, and some by
 *		chance. Beside these some in which each unit is there or not by
 *		itself: torn.
 */
#ifndef UBD_CRASH_REPLAY_REPLAY_HH
#define UBD_CRASH_REPLAY_REPLAY_HH

#include "../../../drivers/ubd/core/cow.hh"
#include "../promise.hh"
#include "disk.hh"

namespace ubd::crash
{

struct ReplayOptions {
	bool pairs = true;
	bool states = true;
	u32 most_exhaustive = 10; // writes
	u32 random = 400; // states at each place, where that is not all
	u32 torn = 64;
	u64 seed = 1;
};

struct Figures {
	u64 points = 0; // places at which the host crashed
	u64 states = 0; // files that core opened
	u64 exhaustive = 0; // places of which all subsets were
	u64 pairs = 0;
	u64 most_open = 0; // writes that may or may not be there
	u64 marks = 0;
};

class Replay {
public:
	Replay(const Record &record, const Journal &journal, const Shape &shape, const Image &start,
	       const ReplayOptions &options);
	void run();
	const Figures &figures() const { return figures_; }

private:
	struct Step { // of the journal
		Moment moment;
		const Act *act;
		bool end;
	};
	// A unit that may hold one of several contents, and which writes they are of.
	struct Choice {
		u32 unit, base;
		std::vector<std::pair<u32, u32>> by_write; // index in writes_, content
	};

	void find_horizons();
	void journal_to(Moment ended, Moment begun);
	void began(const Act &act);
	void ended(const Act &act);
	template <class F> void for_hot(const Act &act, F f);

	void check();
	void find_sectors();
	void check_pairs(u32 hot);
	void check_states();
	void find_choices();
	void settle();
	void choose_by(const std::vector<u8> &there);
	void choose_torn();
	void open_state(const std::vector<u8> *there);
	void take(u32 unit, u32 content);
	void parse();
	void load(u32 unit);
	[[noreturn]] void broken(u32 hot, Value v, const char *check, const std::string &how) const;
	std::string name(u32 call) const;

	const Record &record_;
	const Journal &journal_;
	const Shape &shape_;
	const ReplayOptions options_;
	Disk disk_;
	Promise promise_;
	sim::Random random_;
	Figures figures_;
	u32 entry_ = 0;

	std::vector<Step> begins_, ends_; // in their order
	size_t next_begin_ = 0, next_end_ = 0;
	std::vector<Moment> horizon_; // at each entry: what begins later cannot be there yet
	Moment marked_ = 0;

	std::vector<u32> hot_of_; // of a sector, or ~0u
	std::vector<u32> sectors_; // hot, that may read as one of several
	std::vector<u32> writes_; // calls that may or may not be there
	std::vector<Choice> choices_;
	std::vector<u32> rest_; // units of the last choices

	// The file that core opens.
	std::vector<u8> front_;
	std::vector<Value> data_;
	std::vector<u64> words_;
	CowBitmap::Memory memory_;
	Cow cow_;
	CowLayout layout_{ cow_ };
};

} // namespace ubd::crash

#endif
