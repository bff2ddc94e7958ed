// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long to look for completions before the guest's CPU sleeps.
 *
 * To be woken costs the host and the guest two switches and a signal, some ten
 * to twenty microseconds: more than many an I/O takes. So a guest that has
 * nothing else to do looks for a while, and how long follows from how long it
 * had to wait before: it grows while waits are short enough to be worth it, and
 * shrinks to nothing where they are not - as hypervisors do with a halted CPU.
 */
#ifndef UBD_CORE_POLL_WINDOW_HH
#define UBD_CORE_POLL_WINDOW_HH

#include "base.hh"

namespace ubd
{

class PollWindow {
public:
	explicit PollWindow(u32 max_ns) : max_(max_ns), ns_(min(first_ns, max_ns)) {}

	// For how long to look; 0: not at all.
	u32 ns() const { return ns_; }
	u32 max() const { return max_; }
	// A wait came to its end, whoever saw it.
	void waited(u64 wait_ns)
	{
		if (wait_ns > max_)
			ns_ = ns_ / 2 < first_ns ? 0 : ns_ / 2;
		else if (wait_ns > ns_)
			ns_ = min(max_, ns_ ? ns_ * 2 : first_ns);
	}

private:
	static constexpr u32 first_ns = 10000;

	u32 max_;
	u32 ns_;
};

} // namespace ubd

#endif
