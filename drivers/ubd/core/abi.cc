// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C names of core's functions, for kernel/.
 *
 * Context: that of the function of Queue that each calls, see queue.cc.
 */
#include "queue.hh"

namespace
{

ubd::Queue &queue(ubd_queue *q)
{
	return *reinterpret_cast<ubd::Queue *>(q);
}

} // namespace

size_t ubd_header_bytes()
{
	return sizeof(ubd::Header);
}

size_t ubd_chunk_bytes()
{
	return sizeof(ubd::Chunk);
}

void ubd_queue_enqueue(ubd_queue *q, ubd_request *rq, bool last)
{
	queue(q).enqueue(*rq, last);
}

void ubd_queue_commit(ubd_queue *q)
{
	queue(q).commit();
}

void ubd_queue_interrupt(ubd_queue *q)
{
	queue(q).interrupt();
}

bool ubd_queue_wants_poll(const ubd_queue *q)
{
	return reinterpret_cast<const ubd::Queue *>(q)->wants_poll();
}

void ubd_queue_begin_poll(ubd_queue *q)
{
	queue(q).begin_poll();
}

bool ubd_queue_poll(ubd_queue *q, ubd_u64 now_ns)
{
	return queue(q).poll(now_ns);
}

void ubd_queue_end_poll(ubd_queue *q)
{
	queue(q).end_poll();
}

ubd_u64 ubd_queue_timer(ubd_queue *q)
{
	return queue(q).timer();
}

bool ubd_queue_timeout(ubd_queue *q, ubd_request *rq, ubd_u64 ms)
{
	return queue(q).timeout(*rq, ms);
}

void ubd_queue_stats(ubd_queue *q, ubd_stats *out)
{
	*out = queue(q).stats();
}

void ubd_stats_add(ubd_stats *sum, const ubd_stats *one)
{
	ubd::add_stats(*sum, *one);
}

void ubd_queue_memory(ubd_queue *q, ubd_memory *m)
{
	queue(q).account(*m);
}

void ubd_queue_begin_commit(ubd_queue *q)
{
	queue(q).begin_commit();
}

bool ubd_queue_drained(ubd_queue *q)
{
	return queue(q).drained();
}

void ubd_queue_resume(ubd_queue *q)
{
	queue(q).resume();
}

void ubd_queue_go_synchronous(ubd_queue *q)
{
	queue(q).go_synchronous();
}

void ubd_queue_try_again(ubd_queue *q)
{
	queue(q).try_again();
}

void ubd_queue_end_stops(ubd_queue *q)
{
	queue(q).end_stops();
}

bool ubd_queue_show_state(ubd_queue *q, char *to, size_t bytes)
{
	return queue(q).show_state(to, bytes);
}
