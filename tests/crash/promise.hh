// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest was promised of each hot sector: a list of contents, of which
 * it may find any after a crash.
 *
 * A content joins the list when its request is sent, since a write under way
 * may have landed. It leaves when one that was sent after its end is known to
 * be durable: since a flush that was sent after that one's end has ended well,
 * or since that one was write-through and ended well. A write that failed
 * leaves old or new, and so does a discard: they prove nothing.
 */
#ifndef UBD_CRASH_PROMISE_HH
#define UBD_CRASH_PROMISE_HH

#include <vector>

#include "crash.hh"

namespace ubd::crash
{

class Promise {
public:
	explicit Promise(size_t hot) : sectors_(hot) {}

	// The sector reads as this, and did so before all that follows.
	void is(u32 hot, Value v, Moment now);
	// The same, and a crash will not change it.
	void is_durable(u32 hot, Value v);

	void began(u32 hot, Value v, Moment sent);
	void ended(u32 hot, Moment sent, Moment now, bool proves);
	// What ended before `sent` is durable.
	void flushed(Moment sent);
	// What was sent then is durable, as is known now.
	void durable(u32 hot, Moment sent, Moment now);

	bool after_crash(u32 hot, Value v) const;
	// Without a crash, by a read that was sent at `sent` and has ended now.
	bool seen(u32 hot, Value v, Moment sent) const;
	// A write is under way.
	bool in_flight(u32 hot) const;
	// "3, 7 or 9"
	const char *words(u32 hot) const;

private:
	struct Content {
		Value value;
		Moment sent, ended;
		bool proves;
	};
	struct Sector {
		std::vector<Content> list;
		// Who reads since then sees nothing that has left the list.
		Moment forgotten = 0;
	};
	static Moment newest_before(const Sector &s, Moment when);
	static void forget(Sector &s, Moment before, Moment since);

	std::vector<Sector> sectors_;
};

} // namespace ubd::crash

#endif
