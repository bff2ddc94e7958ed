/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The protocol of tickets, reserves, ring and completions, for spin: what
 * core/queue.cc (serve, prepare, take_header, take_chunk, submit, reap, retry,
 * arm) and host/uring.cc (quiet, listen, reap) do together with the host, at the
 * level of single loads and stores. tests/sim/model.sh checks it exhaustively.
 *
 *	submitter	queue_rq: takes a ticket, runs the pump. Several of them
 *			are several CPUs; each may be interrupted anywhere.
 *	interrupt	reads the eventfd once, then runs the pump
 *	host		takes what was submitted, completes it in any order,
 *			raises the eventfd unless it reads "disabled"
 *	task_work	DEFER_TASKRUN: what the host completed is queued as work
 *			(announced then, or never), and becomes a completion
 *			when the ring is entered. Who found the list of work
 *			empty sets a flag afterwards: so it may be set when the
 *			work is done, and entering does not clear it then
 *	memory		the pools' chunks and headers come and go at the
 *			allocator's whim
 *	timer		armed by arm() where no announcement will come. That it
 *			also looks at the ring each second is left out: nothing
 *			here may depend on it. Interrupts are not lost here.
 *
 * A request is one chunk or two. Chunks are not told apart but by the request
 * that they belong to; what the host does with data is not modelled, nor are
 * errors: the simulator does that. How flushes share an fdatasync is in sync.pml.
 *
 * Bounds, by -D: REQUESTS, CAPACITY, SUBMITTERS,
 *	POOL		chunks of the pool at most
 *	HEADERS		headers of the pool at most; without it, headers are not
 *			modelled
 *	MEMORY		changes of the allocator's mind, of both pools together
 *	TASKRUN		0: completions come without task work
 *	RING		entries of the submission ring
 *	REFUSALS	times that the host refuses to take what is prepared
 *	RETRIES		completions after which a chunk is to be tried again, at
 *			once or after a pause
 * Bugs, by -D, each of which must be found:
 *	BUG_NO_SECOND_LOOK	listen() does not look again
 *	BUG_NO_TASKRUN_LOOK	it looks at the completions only
 *	BUG_STALE_FLAG		it takes the flag for work
 *	BUG_NO_BARRIER		the look comes before others see the flag cleared
 *	BUG_ACK_LATE		the eventfd is read after the drain
 *	BUG_RESERVE		one that is not at the head takes the reserve chunk
 *	BUG_HEADER		one that is not at the head takes the reserve header
 *	BUG_RESERVE_KEPT	a request keeps the reserve chunk until it ends
 *	BUG_LIMIT		one more in flight than there is room for
 *	BUG_NO_PUMP		completions are reaped, the pump is not run
 *	BUG_TICKET		the lowest bit of a ticket is wrong
 *	BUG_END_LOCKED		requests are ended under the queue lock
 *	BUG_RETRY_UNCOUNTED	what waits to be tried again is not in flight
 *	BUG_RETRY_SPACE		it does not look for space in the ring
 *	BUG_REFUSED		arm() does not see that the host refused
 *	BUG_LATER		arm() does not see what waits for a pause
 *	BUG_TIMER_FLAG		the timer counts as armed while it is served
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
#ifndef REFUSALS
#define REFUSALS 0
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#define TIMER (REFUSALS || RETRIES)

#ifdef BUG_LIMIT
#define LIMIT (CAPACITY + 1)
#else
#define LIMIT CAPACITY
#endif
#ifndef RING
#define RING LIMIT
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
#ifdef HEADERS
mtype = { none, from_pool, reserved };
mtype header[REQUESTS] = none;
byte header_owner = NONE;	/* of the reserve */
#endif
#if RETRIES
chan waiting = [CAPACITY] of { byte, bool };	/* request, reserve */
chan later = [CAPACITY] of { byte, bool };	/* after a pause */
#define waits (len(waiting) > 0)
byte retries = RETRIES;
#else
#define waits false
#endif
#if TIMER
byte with_engine;
bool armed;		/* what the queue knows */
bool expires;		/* the kernel's timer */
#endif

/* -- the pools --------------------------------------------------------------- */
byte pool = POOL;	/* what the allocator would give now */
byte pool_out;		/* what it gave */
#ifdef HEADERS
byte headers = HEADERS;
byte headers_out;
#endif

/* -- the ring ------------------------------------------------------------------ */
chan with_host = [REQUESTS * 2] of { byte, bool };	/* request, reserve */
chan prepared = [RING] of { byte, bool };
chan work = [CAPACITY + 1] of { byte, bool };	/* task work */
bool taskrun;		/* its flag */
chan cq = [CAPACITY] of { byte, bool };
bool eventfd_disabled;
byte eventfd;		/* saturates at 1: a counter cannot fill */

#if REFUSALS
byte refusals = REFUSALS;
#endif

byte all_ended;
/* states that the search must reach */
bool saw_reserve, saw_second_look, saw_taskrun_look, saw_stale_flag, saw_full;

#define ended_dry (all_ended == REQUESTS && pool == 0 && pool_out == 0 && saw_reserve)
#define two_reserve_owners (header_owner != NONE && reserve_owner != NONE && header_owner != reserve_owner)
#define refused_alone (len(prepared) > 0 && with_engine == len(prepared) && expires)
#define retry_without_space (len(waiting) > 0 && len(prepared) == RING)
#define paused_alone (len(later) > 0 && with_engine == 0 && expires)

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
	if
	:: nempty(work) -> taskrun = false
	:: empty(work)
	fi;
	do
	:: atomic { nempty(work) -> work?r, from_reserve;
		    assert(nfull(cq)); cq!r, from_reserve }
	:: empty(work) -> break
	od
}

inline to_engine(request, reserve)
{
#if TIMER
	with_engine++;
#endif
	assert(nfull(prepared));
	prepared!request, reserve
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
	to_engine(request, reserve);
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

#ifdef HEADERS
#define has_header(request) (header[request] != none)

inline take_header(request)
{
	if
	:: headers > 0 -> headers--; headers_out++; header[request] = from_pool
	:: else ->
		assert(header_owner == NONE);
		header_owner = request;
		header[request] = reserved
	fi
}

inline put_header(request)
{
	if
	:: header[request] == from_pool -> headers_out--; headers++
	:: else -> assert(header_owner == request); header_owner = NONE
	fi;
	header[request] = none
}
#else
#define has_header(request) true
#endif

#define begun (fifo_first < arrivals && !waits && chunks_left[fifo_first] > 0 && has_header(fifo_first))
#define no_room (in_flight >= LIMIT || len(prepared) == RING)
#ifdef BUG_RESERVE_KEPT
#define reserve_free (reserve_owner == NONE)
#else
#define reserve_free (!reserve_used)
#endif

/*
 * queue.cc, prepare(): what is to be tried again, then one chunk after the other
 * of the request at the head.
 */
inline prepare()
{
	do
#if RETRIES
#ifdef BUG_RETRY_SPACE
	:: d_step { waits -> waiting?r, from_reserve;
#else
	:: d_step { waits && len(prepared) < RING -> waiting?r, from_reserve;
#endif
#ifdef BUG_RETRY_UNCOUNTED
		    in_flight++;
		    assert(in_flight <= CAPACITY);
#endif
		    to_engine(r, from_reserve); got = true }
	:: waits && len(prepared) == RING -> break
#endif
#ifdef HEADERS
	:: d_step { fifo_first < arrivals && !waits && chunks_left[fifo_first] > 0 && !has_header(fifo_first) &&
		    (headers > 0 || header_owner == NONE) -> take_header(fifo_first) }
#ifdef BUG_HEADER
	:: d_step { fifo_first + 1 < arrivals && !waits && !has_header(fifo_first + 1) &&
		    (headers > 0 || header_owner == NONE) -> take_header(fifo_first + 1) }
#endif
	:: fifo_first < arrivals && !waits && chunks_left[fifo_first] > 0 && !has_header(fifo_first) &&
	   headers == 0 && header_owner != NONE -> break
#endif
	:: d_step { fifo_first < arrivals && !waits && chunks_left[fifo_first] == 0 -> fifo_first++ }
	:: d_step { begun && !no_room && pool > 0 ->
		    pool--; pool_out++; hand_over(fifo_first, false); got = true }
	:: d_step { begun && !no_room && pool == 0 && reserve_free ->
		    take_reserve(fifo_first); hand_over(fifo_first, true); got = true }
#ifdef BUG_RESERVE
	:: d_step { fifo_first + 1 < arrivals && chunks_left[fifo_first] > 0 && !no_room &&
		    pool == 0 && !reserve_used -> take_reserve(fifo_first + 1);
		    hand_over(fifo_first + 1, true); got = true }
#endif
	:: fifo_first >= arrivals && !waits -> break
	:: begun && (no_room || (pool == 0 && !reserve_free)) -> break
	od
}

/*
 * queue.cc and uring.cc, submit(): entering the ring; some complete inline. What
 * the host refuses stays prepared.
 */
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
			fi;
			got = true }
#if REFUSALS
		:: atomic { nempty(prepared) && refusals > 0 -> refusals-- };
		   break
#endif
		:: empty(prepared) -> break
		od;
#if TASKRUN
		get_events()
#endif
	:: empty(prepared)
	fi
}

/* queue.cc, finish_chunk(). */
inline finish_chunk()
{
	in_flight--;
	chunks_out[r]--;
	if
	:: from_reserve ->
		assert(reserve_owner == r);
		reserve_used = false;
#ifdef BUG_RESERVE_KEPT
		if
		:: chunks_left[r] == 0 && chunks_out[r] == 0 -> reserve_owner = NONE
		:: else
		fi
#else
		reserve_owner = NONE
#endif
	:: else -> pool_out--; pool++
	fi;
	if
	:: chunks_out[r] == 0 && chunks_left[r] == 0 ->
		done[r] = true;
#ifdef HEADERS
		put_header(r)
#endif
	:: else
	fi
}

#if RETRIES
/* The chunk goes on a list; it keeps its memory, and its place in the ring. */
inline retry(list)
{
	retries--;
#ifdef BUG_RETRY_UNCOUNTED
	in_flight--;
#endif
	list!r, from_reserve
}
#endif

/* queue.cc, reap() and complete(). */
inline reap()
{
#if TASKRUN
	if
	:: empty(cq) && taskrun -> get_events()
	:: nempty(cq) || !taskrun
	fi;
#endif
	do
	:: atomic { nempty(cq) -> cq?r, from_reserve;
		assert(chunks_out[r] > 0 && !done[r]);
		got = true;
#if TIMER
		with_engine--;
#endif
		if
		:: d_step { true -> finish_chunk() }
#if RETRIES
		:: d_step { retries > 0 -> retry(waiting) }
		:: d_step { retries > 0 -> retry(later) }
#endif
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
 * again, and enters the ring where its flag says that there is work. `look` says
 * whether there is something.
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
	:: !look && taskrun ->
#ifdef BUG_STALE_FLAG
		look = true
#else
		get_events();
		if
		:: nempty(cq) -> look = true; saw_taskrun_look = true
		:: empty(cq) -> saw_stale_flag = true
		fi
#endif
	:: look || !taskrun
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

#if TIMER
#if RETRIES
#define paused (len(later) > 0)
#else
#define paused false
#endif

/* queue.cc, arm(): but for the watch each second. */
inline arm()
{
	if
	:: atomic { !armed && (waits
#ifndef BUG_LATER
		    || paused
#endif
#ifndef BUG_REFUSED
		    || (len(prepared) > 0 && with_engine <= len(prepared))
#endif
		    ) -> armed = true; expires = true }
	:: else
	fi
}
#endif

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
	   :: got && (fifo_first < arrivals || waits) -> skip
	   :: else ->
		listen();
		if
		:: look -> skip
		:: else -> break
		fi
	   fi
	od
#if TIMER
	;
	arm()
#endif
}

/* What completed comes first, where that is what brought us here. */
inline reap_and_serve()
{
	quiet();
	reap();
	serve()
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
#if TIMER
	;
	arm()
#endif
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
		reap_and_serve();
#endif
#ifdef BUG_ACK_LATE
		eventfd = 0;
#endif
		end_all(r2);
		unlock();
		d_step { r = 0; r2 = 0; from_reserve = false; got = false; look = false }
	od
}

#if TIMER
/* queue.cc, timer(). What it is armed for while it runs, it is armed for anew. */
proctype timer()
{
	byte r, r2;
	bool from_reserve, got, look;

end:	do
	:: expires ->
		expires = false;
		lock();
#ifndef BUG_TIMER_FLAG
		armed = false;
#endif
#if RETRIES
		d_step {
			do
			:: nempty(later) -> later?r, from_reserve; waiting!r, from_reserve
			:: empty(later) -> break
			od
		};
#endif
		reap_and_serve();
#ifdef BUG_TIMER_FLAG
		armed = false;
#endif
		end_all(r2);
		unlock();
		d_step { r = 0; r2 = 0; from_reserve = false; got = false; look = false }
	od
}
#endif

/*
 * Completes what it has, in any order. Publishing the completion and reading
 * the flag are two steps: what listen() is built for.
 */
proctype host()
{
	byte r;
	bool from_reserve;
#if TASKRUN
	bool first;
#else
#define first true
#endif

end:	do
	:: atomic { with_host??r, from_reserve ->
#if TASKRUN
		first = empty(work);
		work!r, from_reserve
#else
		assert(nfull(cq));
		cq!r, from_reserve
#endif
	   };
#if TASKRUN
	   atomic {
		if
		:: first -> taskrun = true
		:: else
		fi
	   };
#endif
	   atomic {
		if
		:: first && !eventfd_disabled -> eventfd = 1
		:: else
		fi;
		r = 0; from_reserve = false
#if TASKRUN
		; first = false
#endif
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
#ifdef HEADERS
	:: atomic { changes < MEMORY && headers > 0 -> headers--; changes++ }
	:: atomic { changes < MEMORY && headers + headers_out < HEADERS -> headers++; changes++ }
#endif
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
#if TIMER
		run timer();
#endif
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
