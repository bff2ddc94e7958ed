// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>

#include <algorithm>

#include "promise.hh"

namespace ubd::crash
{

void Promise::is(u32 hot, Value v, Moment now)
{
	for (Content &c : sectors_[hot].list)
		c.ended = std::min(c.ended, now);
	sectors_[hot].list.push_back({ v, now + 1, now + 1, true });
}

void Promise::is_durable(u32 hot, Value v)
{
	sectors_[hot].list.assign(1, { v, 0, 0, true });
}

void Promise::began(u32 hot, Value v, Moment sent)
{
	sectors_[hot].list.push_back({ v, sent, never, false });
}

void Promise::ended(u32 hot, Moment sent, Moment now, bool proves)
{
	for (Content &c : sectors_[hot].list)
		if (c.sent == sent) {
			c.ended = now;
			c.proves = proves;
		}
}

// When the latest of those was sent that had ended well by then.
Moment Promise::newest_before(const Sector &s, Moment when)
{
	Moment newest = 0;
	for (const Content &c : s.list)
		if (c.proves && c.ended < when)
			newest = std::max(newest, c.sent);
	return newest;
}

void Promise::forget(Sector &s, Moment before, Moment since)
{
	auto over = [&](const Content &c) { return c.ended < before; };
	const auto end = std::remove_if(s.list.begin(), s.list.end(), over);
	if (end == s.list.end())
		return;
	s.list.erase(end, s.list.end());
	s.forgotten = std::max(s.forgotten, since);
}

void Promise::flushed(Moment sent)
{
	for (Sector &s : sectors_)
		if (s.list.size() > 1)
			forget(s, newest_before(s, sent), sent);
}

void Promise::durable(u32 hot, Moment sent, Moment now)
{
	forget(sectors_[hot], sent, now);
}

bool Promise::after_crash(u32 hot, Value v) const
{
	for (const Content &c : sectors_[hot].list)
		if (c.value == v)
			return true;
	return false;
}

bool Promise::seen(u32 hot, Value v, Moment sent) const
{
	const Sector &s = sectors_[hot];
	if (s.forgotten > sent)
		return true; // the read was slow: it may have seen what is forgotten now
	const Moment newest = newest_before(s, sent);
	for (const Content &c : s.list)
		if (c.value == v && c.ended >= newest)
			return true;
	return false;
}

bool Promise::in_flight(u32 hot) const
{
	for (const Content &c : sectors_[hot].list)
		if (c.ended == never)
			return true;
	return false;
}

const char *Promise::words(u32 hot) const
{
	static char text[200];
	int n = 0;
	text[0] = '\0';
	for (const Content &c : sectors_[hot].list)
		if (n < 160)
			n += snprintf(text + n, sizeof(text) - static_cast<size_t>(n), "%s%u", n ? ", " : "", c.value);
	return text;
}

} // namespace ubd::crash
