// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host as ubd-cow sees it while it is watched: its root, and its working
 * directory, is one directory, and what it asks for outside of that is not there.
 * One call of a kind can be made to fail. The linker leads the calls here
 * (--wrap); nobody else's are changed.
 */
#ifndef UBD_FUZZ_CHECK_HOST_HH
#define UBD_FUZZ_CHECK_HOST_HH

#include <string>
#include <sys/stat.h>

#include "fuzz.hh"

namespace ubd::fuzz
{

enum class Call : u8 { none, read, write, truncate, sync };

struct HostFault {
	Call call = Call::none;
	u32 after = 0; // so many go well before
	int error = 0; // 0: it moves only a part of what is asked for
	bool hit = false;
};

// The directory, by its descriptor.
void set_root(int fd);
int root();

// What is there, by a name as ubd-cow uses it. False if nothing is.
bool look(const std::string &name, struct stat &st);

// While there is one, calls are watched.
class Watch {
public:
	// Only the file of that name may be opened for writing; empty: none.
	Watch(const std::string &writable, HostFault *fault);
	~Watch();
	Watch(const Watch &) = delete;
	Watch &operator=(const Watch &) = delete;

	// Nothing was changed since the last sync.
	bool durable() const;

private:
	const int next_fd_;
};

} // namespace ubd::fuzz

#endif
