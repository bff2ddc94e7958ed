// SPDX-License-Identifier: GPL-2.0-only
/*
 * The terminal. Signals are blocked but while it waits; so their handlers only
 * note them.
 */
#include "screen.hh"

#include "sample.hh"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace ubd::top
{
namespace
{

constexpr int watched[] = { SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
volatile sig_atomic_t came[NSIG];
sigset_t mask_before;

void note(int number)
{
	came[number] = 1;
}

bool take(int number)
{
	const bool did = came[number];
	came[number] = 0;
	return did;
}

void watch_signals()
{
	sigset_t set;
	sigemptyset(&set);
	struct sigaction action {};
	action.sa_handler = note;
	for (int number : watched) {
		sigaddset(&set, number);
		sigaction(number, &action, nullptr);
	}
	sigprocmask(SIG_BLOCK, &set, &mask_before);
}

} // namespace

bool write_all(int fd, const std::string &text)
{
	for (size_t done = 0; done < text.size();) {
		ssize_t n = write(fd, text.data() + done, text.size() - done);
		if (n < 0 && errno == EAGAIN) {
			pollfd p{ fd, POLLOUT, 0 };
			poll(&p, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return false;
		} else if (n > 0) {
			done += static_cast<size_t>(n);
		}
	}
	return true;
}

bool Screen::enter()
{
	const char *term = getenv("TERM");
	errno = ENOTTY;
	if (!isatty(STDOUT_FILENO) || (term && !strcmp(term, "dumb")) || tcgetattr(STDIN_FILENO, &before_))
		return false;
	static bool watching = false;
	if (!watching)
		watch_signals();
	watching = true;
	termios raw = before_;
	raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw))
		return false;
	// The other screen, without a cursor.
	entered_ = write_all(STDOUT_FILENO, "\033[?1049h\033[?25l");
	measure();
	return entered_;
}

void Screen::leave()
{
	if (!entered_)
		return;
	entered_ = false;
	write_all(STDOUT_FILENO, "\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
}

void Screen::measure()
{
	winsize size{};
	clear_ = true;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row) {
		size.ws_col = 80;
		size.ws_row = 24;
	}
	width_ = size.ws_col;
	height_ = size.ws_row;
}

bool Screen::draw(const std::vector<std::string> &lines)
{
	std::string text = clear_ ? "\033[H\033[2J" : "\033[H";
	const size_t shown = std::min(lines.size(), height_);
	clear_ = false;
	for (size_t i = 0; i < shown; i++) {
		// A line that is full leaves the cursor on its last place.
		text += lines[i].substr(0, width_) + (lines[i].size() < width_ ? "\033[K" : "");
		if (i + 1 < shown)
			text += "\r\n";
	}
	if (shown < height_)
		text += "\r\n\033[J";
	return write_all(STDOUT_FILENO, text);
}

Event Screen::key()
{
	char keys[64];
	const ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		return Event::lost;
	for (ssize_t i = 0; i < n; i++) {
		switch (keys[i]) {
		case '\033': // an arrow, or such: up to its last letter
			if (i + 1 < n && (keys[i + 1] == '[' || keys[i + 1] == 'O'))
				for (i += 2; i < n && (keys[i] < '@' || keys[i] > '~');)
					i++;
			break;
		case 'q':
		case 'Q':
			return Event::quit;
		case ' ':
			return Event::now;
		case 'c':
			return Event::totals;
		case '\f':
			return Event::resized;
		}
	}
	return Event::none;
}

// ^Z: the terminal is the shell's until we go on.
void Screen::stop()
{
	leave();
	raise(SIGSTOP);
	enter();
}

Event Screen::wait(double until)
{
	for (;;) {
		const double left = std::max(0.0, until - now());
		timespec rest{ static_cast<time_t>(left),
			       static_cast<long>((left - static_cast<double>(static_cast<time_t>(left))) * 1e9) };
		pollfd p{ STDIN_FILENO, POLLIN, 0 };
		const int n = ppoll(&p, 1, &rest, &mask_before);
		if (take(SIGINT) || take(SIGTERM) || take(SIGHUP) || take(SIGQUIT))
			return Event::quit;
		if (take(SIGTSTP)) {
			stop();
			return Event::resized;
		}
		if (take(SIGWINCH)) {
			measure();
			return Event::resized;
		}
		if (n == 0)
			return Event::none;
		if (n < 0)
			continue;
		const Event e = key();
		clear_ = clear_ || e == Event::resized;
		if (e != Event::none)
			return e;
	}
}

} // namespace ubd::top
