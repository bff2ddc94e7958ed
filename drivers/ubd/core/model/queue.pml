/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The protocol of tickets, reserve, ring and completions, for spin: what
 * core/queue.cc (serve, prepare, take_chunk, reap) and host/uring.cc (quiet,
 * listen, reap) do together with the host, at the level of single loads and
 * stores. tests/sim/model.sh checks it exhaustively.
 *
 *	submitter	queue_rq: takes a ticket, runs the pump. Several of them
 *			are several CPUs; each may be interrupted anywhere.
 *	interrupt	reads the eventfd once, then runs the pump
 *	host		takes what was submitted, completes it in any order,
 *			raises the eventfd unless it reads "disabled"
 *	task_work	DEFER_TASKRUN: what the host completed is queued as work
 *			(announced then, or never), and becomes a completion
 *			when the ring is entered
 *	memory		chunks of the pool come and go at the allocator's whim
 *
 * There is no timer: nothing here depends on it. Interrupts are not lost in
 * this model, and the host refuses nothing.
 *
 * A request is one chunk or two. Chunks are not told apart but by the request
 * that they belong to; what the host does with data is not modelled, the
 * simulator does that. Headers follow the rule of chunks, and are left out; so
 * are retries and the fdatasync that flushes share.
 *
 * Bounds, by -D: REQUESTS, CAPACITY, POOL (chunks of the pool at most),
 * SUBMITTERS, MEMORY (changes of the allocator's mind), TASKRUN (0: completions come without task work).
 * Bugs, by -D, each of which must be found:
 *	BUG_NO_SECOND_LOOK	listen() does not look again
 *	BUG_NO_TASKRUN_LOOK	it looks at the completions only
 *	BUG_NO_BARRIER		the look comes before others see the flag cleared
 *	BUG_ACK_LATE		the eventfd is read after the drain
 *	BUG_RESERVE		one that is not at the head takes the reserve
 *	BUG_LIMIT		one more in flight than there is room for
 *	BUG_NO_PUMP		completions are reaped, the pump is not run
 *	BUG_TICKET		the lowest bit of a ticket is wrong
 *	BUG_END_LOCKED		requests are ended under the queue lock
 */

#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef POOL
#define POOL 1
#endif
#ifndef SUBMITTERS
#define SUBMITTERS 1
#endif
#ifndef TASKRUN
#define TASKRUN 1
#endif
#ifndef MEMORY
#define MEMORY 3
#endif

#ifdef BUG_LIMIT
#define LIMIT (CAPACITY + 1)
#else
#define LIMIT CAPACITY
#endif

#define NONE 255

/* -- the queue, under its lock ------------------------------------------- */
bool locked;
byte next_ticket;	/* for the next request */
byte fifo_first;	/* what the FIFO's head is: arrival, not ticket */
byte arrivals;		/* requests that were accepted */
byte ticket[REQUESTS];
byte chunks_left[REQUESTS];	/* to be made */
byte chunks_out[REQUESTS];	/* made and not finished */
bool done[REQUESTS];	/* on the list of what is to be ended */
byte ended[REQUESTS];	/* times */
byte in_flight;
bool reserve_used;
byte reserve_owner = NONE;
bool ending;
byte last_handed = NONE;	/* ticket of the newest request at the host */

/* -- the pool ---------------------------------------------------------------- */
byte pool = POOL;	/* what the allocator would give now */
byte pool_out;		/* what it gave */

/* -- the ring ------------------------------------------------------------------ */
chan with_host = [REQUESTS * 2] of { byte, bool };	/* request, reserve */
chan prepared = [CAPACITY + 1] of { byte, bool };
chan work = [CAPACITY + 1] of { byte, bool };	/* task work */
chan cq = [CAPACITY] of { byte, bool };
bool eventfd_disabled;
byte eventfd;		/* saturates at 1: a counter cannot fill */

byte all_ended;
/* states that the search must reach */
bool saw_reserve, saw_second_look, saw_taskrun_look, saw_full;

#define ended_dry (all_ended == REQUESTS && pool == 0 && pool_out == 0 && saw_reserve)

/* -- lock: interrupts are off while it is held, so who has it is not disturbed */
inline lock()
{
	atomic { !locked -> locked = true }
}

inline unlock()
{
	locked = false
}

/* -- the pump ---------------------------------------------------------------------- */

/* Entering the ring runs its task work. */
inline get_events()
{
	do
	:: atomic { nempty(work) -> work?r, from_reserve;
		    assert(nfull(cq)); cq!r, from_reserve }
	:: empty(work) -> break
	od
}

inline hand_over(request, reserve)
{
	assert(last_handed == NONE || ticket[request] >= last_handed);
	assert(request == fifo_first);
	last_handed = ticket[request];
	chunks_left[request]--;
	chunks_out[request]++;
	in_flight++;
	/* the completion ring holds all that is in flight */
	assert(in_flight <= CAPACITY);
	prepared!request, reserve;
	if
	:: in_flight == CAPACITY -> saw_full = true
	:: else
	fi
}

inline take_reserve(request)
{
	assert(!reserve_used && reserve_owner == NONE);
	assert(request == fifo_first);
	reserve_used = true;
	reserve_owner = request;
	saw_reserve = true
}

/* queue.cc, prepare(): one chunk after the other of the request at the head. */
inline prepare()
{
	do
	:: d_step { fifo_first < arrivals && chunks_left[fifo_first] == 0 -> fifo_first++ }
	:: d_step { fifo_first < arrivals && chunks_left[fifo_first] > 0 && in_flight < LIMIT && pool > 0 ->
		    pool--; pool_out++; hand_over(fifo_first, false); got = true }
	:: d_step { fifo_first < arrivals && chunks_left[fifo_first] > 0 && in_flight < LIMIT && pool == 0 &&
		    !reserve_used -> take_reserve(fifo_first); hand_over(fifo_first, true); got = true }
#ifdef BUG_RESERVE
	:: d_step { fifo_first + 1 < arrivals && chunks_left[fifo_first] > 0 && in_flight < LIMIT &&
		    pool == 0 && !reserve_used -> take_reserve(fifo_first + 1);
		    hand_over(fifo_first + 1, true); got = true }
#endif
	:: d_step { fifo_first >= arrivals || (chunks_left[fifo_first] > 0 &&
		    (in_flight >= LIMIT || (pool == 0 && reserve_used))) -> skip }
	   break
	od
}

/* uring.cc, submit(): entering the ring; some complete inline. */
inline submit()
{
	if
	:: nempty(prepared) ->
		do
		:: nempty(prepared) -> atomic {
			prepared?r, from_reserve;
			if
			:: with_host!r, from_reserve
			:: assert(nfull(cq)); cq!r, from_reserve;
			   if
			   :: !eventfd_disabled -> eventfd = 1
			   :: else
			   fi
			fi }
		:: empty(prepared) -> break
		od;
#if TASKRUN
		get_events()
#endif
	:: empty(prepared)
	fi
}

/* queue.cc, reap() and what completes a chunk. */
inline reap()
{
#if TASKRUN
	if
	:: empty(cq) && nempty(work) -> get_events()
	:: nempty(cq) || empty(work)
	fi;
#endif
	do
	:: d_step { nempty(cq) -> cq?r, from_reserve;
		assert(chunks_out[r] > 0 && !done[r]);
		got = true;
		in_flight--;
		chunks_out[r]--;
		if
		:: from_reserve -> assert(reserve_owner == r); reserve_used = false; reserve_owner = NONE
		:: else -> pool_out--; pool++
		fi;
		if
		:: chunks_out[r] == 0 && chunks_left[r] == 0 -> done[r] = true
		:: else
		fi }
	:: empty(cq) -> break
	od
}

inline quiet()
{
	eventfd_disabled = true
}

/*
 * uring.cc, listen(): clears the flag, then - a full barrier between - looks
 * again. `look` says whether there is something.
 */
inline listen()
{
	look = false;
#ifndef BUG_NO_BARRIER
	eventfd_disabled = false;
#endif
#ifndef BUG_NO_SECOND_LOOK
	if
	:: nempty(cq) -> look = true; saw_second_look = true
	:: empty(cq)
	fi;
#if TASKRUN && !defined(BUG_NO_TASKRUN_LOOK)
	if
	:: !look && nempty(work) -> look = true; saw_taskrun_look = true
	:: look || empty(work)
	fi;
#endif
#endif
#ifdef BUG_NO_BARRIER
	eventfd_disabled = false;
#endif
	if
	:: look -> quiet()
	:: else
	fi
}

/* queue.cc, serve(). The lock is held. */
inline serve()
{
	quiet();
	do
	:: got = false;
	   prepare();
	   submit();
	   reap();
	   if
	   :: got && fifo_first < arrivals -> skip
	   :: else ->
		listen();
		if
		:: look -> skip
		:: else -> break
		fi
	   fi
	od
}

inline only_reap()
{
	quiet();
	do
	:: reap();
	   listen();
	   if
	   :: look -> skip
	   :: else -> break
	   fi
	od
}

/* queue.cc, Guard: requests are ended outside the lock, by one at a time. */
inline end_all(r2)
{
	if
	:: !ending ->
		ending = true;
		do
		:: r2 = 0;
		   do
		   :: r2 < REQUESTS && !(done[r2] && ended[r2] == 0) -> r2++
		   :: else -> break
		   od;
		   if
		   :: r2 == REQUESTS -> break
		   :: else ->
#ifndef BUG_END_LOCKED
			unlock();
#endif
			d_step {
				assert(ended[r2] == 0 && chunks_out[r2] == 0);
				ended[r2]++;
				all_ended++
			};
#ifdef BUG_END_LOCKED
			/* the end of one sends the next: queue_rq takes the lock */
			!locked;
#else
			lock()
#endif
		   fi
		od;
		ending = false
	:: else
	fi
}

/* -- processes --------------------------------------------------------------------------- */

/* Takes requests from those that are left to be sent, and sends them. */
byte to_send = REQUESTS;

proctype submitter()
{
	byte r, r2, size;
	bool from_reserve, got, look;

	do
	:: atomic { to_send > 0 -> to_send--; select(size : 1 .. 2) };
	   lock();
	   d_step {
#ifdef BUG_TICKET
		ticket[arrivals] = (next_ticket ^ 1);
#else
		ticket[arrivals] = next_ticket;
#endif
		next_ticket++;
		chunks_left[arrivals] = size;
		arrivals++
	   };
	   serve();
	   end_all(r2);
	   unlock();
	   d_step { size = 0; r = 0; r2 = 0; from_reserve = false; got = false; look = false }
	:: to_send == 0 -> break
	od
}

proctype interrupt()
{
	byte r, r2;
	bool from_reserve, got, look;

end:	do
	:: eventfd > 0 ->
#ifndef BUG_ACK_LATE
		eventfd = 0;
#endif
		lock();
#ifdef BUG_NO_PUMP
		only_reap();
#else
		serve();
#endif
#ifdef BUG_ACK_LATE
		eventfd = 0;
#endif
		end_all(r2);
		unlock();
		d_step { r = 0; r2 = 0; from_reserve = false; got = false; look = false }
	od
}

/*
 * Completes what it has, in any order. Publishing the completion and reading
 * the flag are two steps: what listen() is built for.
 */
proctype host()
{
	byte r;
	bool from_reserve;

end:	do
	:: atomic { with_host??r, from_reserve ->
#if TASKRUN
		work!r, from_reserve
#else
		assert(nfull(cq));
		cq!r, from_reserve
#endif
	   };
	   atomic {
		if
		:: !eventfd_disabled -> eventfd = 1
		:: else
		fi;
		r = 0; from_reserve = false
	   }
	od
}

/*
 * The allocator gives and takes, so many times; what it has taken by then it
 * may keep for ever.
 */
proctype memory()
{
	byte changes;

end:	do
	:: atomic { changes < MEMORY && pool > 0 -> pool--; changes++ }
	:: atomic { changes < MEMORY && pool + pool_out < POOL -> pool++; changes++ }
	od
}

init
{
	byte i;

	atomic {
		i = 0;
		do
		:: i < SUBMITTERS -> run submitter(); i++
		:: else -> break
		od;
		run interrupt();
		run host();
		run memory()
	}
#ifdef REACH
	/* Not a claim about the queue: the search has to get here. */
end:	(REACH);
	assert(false)
#else
	/* Stuck for ever is an end in a state that is none. */
	(all_ended == REQUESTS)
#endif
}

#ifndef REACH
/* Every request that is sent is ended, if nobody is kept from running for ever. */
ltl all_end { <> (all_ended == REQUESTS) }
#endif
