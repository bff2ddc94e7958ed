// SPDX-License-Identifier: GPL-2.0-only
/*
 * A terminal as a screen that is drawn anew: the few sequences of ECMA-48 that
 * all terminals know. It leaves the terminal as it was, however the program ends
 * that can still act.
 */
#ifndef UBD_TOOLS_TOP_SCREEN_HH
#define UBD_TOOLS_TOP_SCREEN_HH

#include <string>
#include <vector>

#include <termios.h>

namespace ubd::top
{

enum class Event {
	none, // the time is up
	resized,
	quit,
	now, // the next report, at once
	totals, // or rates
	lost, // the terminal
};

class Screen {
public:
	Screen() = default;
	Screen(const Screen &) = delete;
	Screen &operator=(const Screen &) = delete;
	~Screen() { leave(); }

	// False, and errno, if it is no terminal that we can use.
	bool enter();
	void leave();
	// What fits of these lines. False if the terminal is gone.
	bool draw(const std::vector<std::string> &lines);
	size_t width() const { return width_; }
	size_t height() const { return height_; }
	// Until somebody does something, or the time (monotonic seconds) has come.
	Event wait(double until);

private:
	void measure();
	void stop();
	Event key();

	bool entered_ = false;
	bool clear_ = true; // all is to be drawn anew
	size_t width_ = 80, height_ = 24;
	termios before_{};
};

// All of it, whatever comes between. False if it cannot be.
bool write_all(int fd, const std::string &text);

} // namespace ubd::top

#endif
