// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where core tells who watches what happens to a request. kernel/trace.h makes
 * the kernel's tracepoints of it; in builds for kernels without these
 * (UBD_TRACE is not defined) nothing of this is compiled. While nobody watches
 * it costs one look at a number, and its arguments are not evaluated.
 */
#ifndef UBD_CORE_TRACE_HH
#define UBD_CORE_TRACE_HH

#include "request.hh"

#ifdef UBD_TRACE
#define UBD_TRACE_EVENT(name, ...)                             \
	do {                                                   \
		if (__builtin_expect(ubd_trace_on, 0))         \
			ubd_k_trace_##name(k_, ##__VA_ARGS__); \
	} while (0)
#else
#define UBD_TRACE_EVENT(name, ...)                             \
	do {                                                   \
		if (false)                                     \
			ubd_k_trace_##name(k_, ##__VA_ARGS__); \
	} while (0)
#endif

namespace ubd
{

// The chunk as it is handed over, or comes back.
inline ubd_trace_chunk traced(const Chunk &chunk)
{
	const bool has_place = chunk.op != HostOp::sync;
	return { chunk.header->rq->ticket, has_place ? chunk.offset.value : 0, has_place ? chunk.bytes.value : 0,
		 name_of(chunk.op), chunk.file };
}

} // namespace ubd

#endif
