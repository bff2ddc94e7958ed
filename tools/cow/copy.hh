// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies and compares parts of files at the host's speed: holes are looked up,
 * not read; long stretches are copied within the host's kernel, and shared
 * where its file system can.
 */
#ifndef UBD_TOOLS_COW_COPY_HH
#define UBD_TOOLS_COW_COPY_HH

#include "ranges.hh"

#include <functional>

namespace ubd::tool
{

// What differs is told in pieces of this size, within the range asked for.
constexpr u64 compared_bytes = 4096;

class Copier {
public:
	// `fresh`: the target is nothing but holes where it was not yet written.
	Copier(const File &from, const File &to, bool fresh) : from_(from), to_(to), holes_(from), fresh_(fresh) {}
	void copy(u64 from_at, u64 to_at, u64 bytes);

private:
	void copy_data(u64 from_at, u64 to_at, u64 bytes);
	u64 copy_in_kernel(u64 from_at, u64 to_at, u64 bytes);

	const File &from_;
	const File &to_;
	Extents holes_;
	const bool fresh_;
	bool in_kernel_ = true;
	std::vector<char> buffer_;
};

class Comparer {
public:
	using Visit = std::function<void(const Range &)>;

	Comparer(const File &a, const File &b);
	// Calls visit for what differs of a's bytes from a_at on and b's from b_at
	// on; the ranges count from a_at. Joins neighbours only within the call.
	void compare(u64 a_at, u64 b_at, u64 bytes, const Visit &visit);

private:
	void compare_data(u64 a_at, u64 b_at, u64 from, u64 bytes, const Visit &visit);

	const File &a_;
	const File &b_;
	Extents a_holes_, b_holes_;
	std::vector<char> a_buffer_, b_buffer_;
};

} // namespace ubd::tool

#endif
