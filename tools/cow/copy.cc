// SPDX-License-Identifier: GPL-2.0-only
#include "copy.hh"

#include <cstring>
#include <unistd.h>

namespace ubd::tool
{
namespace
{

constexpr u64 buffer_bytes = 1 << 20;
// Less is faster by a buffer than by the host's kernel.
constexpr u64 least_in_kernel = 256 << 10;

} // namespace

void Copier::copy(u64 from_at, u64 to_at, u64 bytes)
{
	while (bytes) {
		u64 end;
		const bool data = holes_.data_at(from_at, end);
		const u64 n = std::min(bytes, end - from_at);
		if (data)
			copy_data(from_at, to_at, n);
		else if (!fresh_)
			to_.zero(to_at, n);
		from_at += n;
		to_at += n;
		bytes -= n;
	}
}

void Copier::copy_data(u64 from_at, u64 to_at, u64 bytes)
{
	const u64 done = in_kernel_ && bytes >= least_in_kernel ? copy_in_kernel(from_at, to_at, bytes) : 0;
	from_at += done;
	to_at += done;
	bytes -= done;
	if (bytes)
		buffer_.resize(buffer_bytes);
	while (bytes) {
		const size_t n = std::min(bytes, buffer_bytes);
		from_.read(buffer_.data(), n, from_at);
		to_.write(buffer_.data(), n, to_at);
		from_at += n;
		to_at += n;
		bytes -= n;
	}
}

// Returns how far it came; the rest, and any error, is left to read and write.
u64 Copier::copy_in_kernel(u64 from_at, u64 to_at, u64 bytes)
{
	off64_t in = static_cast<off64_t>(from_at), out = static_cast<off64_t>(to_at);
	u64 done = 0;
	while (done < bytes) {
		const ssize_t n = copy_file_range(from_.fd(), &in, to_.fd(), &out, bytes - done, 0);
		if (n <= 0) {
			in_kernel_ = false;
			break;
		}
		done += static_cast<u64>(n);
	}
	return done;
}

Comparer::Comparer(const File &a, const File &b)
	: a_(a), b_(b), a_holes_(a), b_holes_(b), a_buffer_(buffer_bytes), b_buffer_(buffer_bytes)
{
}

void Comparer::compare(u64 a_at, u64 b_at, u64 bytes, const Visit &visit)
{
	Joiner joiner(visit);
	for (u64 done = 0; done < bytes;) {
		u64 a_end, b_end;
		const bool a_data = a_holes_.data_at(a_at + done, a_end);
		const bool b_data = b_holes_.data_at(b_at + done, b_end);
		u64 n = std::min({ bytes - done, a_end - a_at - done, b_end - b_at - done });
		if (a_data || b_data) {
			n = std::min(n, buffer_bytes);
			compare_data(a_at, b_at, done, n, [&](const Range &r) { joiner.add(r); });
		}
		done += n;
	}
	joiner.finish();
}

void Comparer::compare_data(u64 a_at, u64 b_at, u64 from, u64 bytes, const Visit &visit)
{
	a_.read(a_buffer_.data(), bytes, a_at + from);
	b_.read(b_buffer_.data(), bytes, b_at + from);
	if (!std::memcmp(a_buffer_.data(), b_buffer_.data(), bytes))
		return;
	for (u64 i = 0; i < bytes;) {
		// Pieces lie at multiples of their size, whatever the range's beginning.
		const u64 n = std::min(compared_bytes - (a_at + from + i) % compared_bytes, bytes - i);
		if (std::memcmp(a_buffer_.data() + i, b_buffer_.data() + i, n))
			visit(Range{ from + i, n });
		i += n;
	}
}

} // namespace ubd::tool
