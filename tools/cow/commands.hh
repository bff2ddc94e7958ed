// SPDX-License-Identifier: GPL-2.0-only
/*
 * The commands of ubd-cow. Each returns the program's status, or throws a
 * Failure.
 */
#ifndef UBD_TOOLS_COW_COMMANDS_HH
#define UBD_TOOLS_COW_COMMANDS_HH

#include "report.hh"

namespace ubd::tool
{

int create(const std::string &cow, const std::string &backing);
int info(const std::string &cow, bool json);
int check(const std::string &cow, bool repair, bool json);
// `into` is empty for the backing file itself.
int merge(const std::string &cow, const std::string &into);
// Safe: what the guest sees stays.
int rebase(const std::string &cow, const std::string &backing);
// `backing` is empty for the one that the header names.
int rebase_trusting(const std::string &cow, const std::string &backing);
// `bytes` is 0 for the size that the backing file has; otherwise that may grow, too.
int resize(const std::string &cow, u64 bytes);
int diff(const std::string &cow, bool json);
int map(const std::string &cow, bool json);

struct ConvertOptions {
	std::string from, to;
	std::string format; // empty: by the name's end
	std::string from_format; // empty: by the file's beginning
	std::string backing; // of a new COW file
	bool follow_names = false; // files that a qcow2 file names
};
int convert(const ConvertOptions &options);

} // namespace ubd::tool

#endif
