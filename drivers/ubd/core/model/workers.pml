/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The worker threads, for spin: what the two sides of host/workers.cc do to the
 * memory that they share, at the level of single loads and stores.
 * tests/sim/model.sh checks it exhaustively. (It lies here with the other models;
 * core knows nothing of it.)
 *
 *	producer	holds the queue lock: prepares jobs, submits them, reaps
 *			what is done at any time, or listens, looks once more, and
 *			sleeps until the eventfd is written. At the end it stops
 *			the threads.
 *	thread		takes jobs from the ring, pushes them to the stack of what
 *			is done, announces that if somebody listens, and sleeps on
 *			the futex when there is nothing
 *
 * Each job is taken once and comes back once; with one thread in order. Nobody
 * sleeps for ever while there is something to do or to see: that would be an end
 * that is none. There are no more announcements than times that somebody listened.
 *
 * What a store does before a later load, x86 may do after it, unless there is a
 * barrier: the bugs that leave one out have the two the other way round. For how
 * long a thread looks before it sleeps is left out, and when it announces before
 * that it sleeps: at any time.
 *
 * Bounds, by -D: THREADS, JOBS that there are, TOTAL of times that one is used,
 * SLOTS of the ring. Bugs, by -D, each of which must be found:
 *	BUG_NO_WAKE		who sleeps is not woken
 *	BUG_TAIL_BARRIER	sleepers are looked for before others see the job
 *	BUG_SEEN_LATE		it sleeps although a job came since it looked
 *	BUG_TAIL_EARLY		a job is seen before what it is
 *	BUG_NO_EXCHANGE		two threads may take the same job
 *	BUG_SLOTS		the ring holds fewer than there are jobs
 *	BUG_PUSH		a push forgets what another one pushed meanwhile
 *	BUG_ORDER		what is done comes back the last one first
 *	BUG_SILENT		a thread announces nothing before it sleeps
 *	BUG_LISTENING_EARLY	whether somebody listens is looked at before the push
 *	BUG_LISTEN_BARRIER	the producer looks before others see that it listens
 *	BUG_NO_LOOK		it does not look once more
 *	BUG_KEPT		an announcement does not take the listening back
 *	BUG_STOP_ONCE		sleepers are woken once when threads are to end
 */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef JOBS
#define JOBS 2
#endif
#ifndef TOTAL
#define TOTAL 3
#endif
#ifdef BUG_SLOTS
#define SLOTS (JOBS - 1)
#endif
#ifndef SLOTS
#define SLOTS JOBS
#endif

#define NONE 255

/* -- what both sides use -------------------------------------------------- */
byte ring[SLOTS] = NONE;
byte tail, head;	/* they only grow */
byte sleepers;
byte finished = NONE;	/* the job on top */
byte next[JOBS] = NONE;
byte listening;
bool stop;
bool eventfd;

/* -- the host's futex: who sleeps on `tail` -------------------------------- */
bool asleep[THREADS];
byte gone;		/* threads that have ended */

/* -- what is watched ------------------------------------------------------- */
byte use[JOBS] = NONE;	/* which of the TOTAL a job is used for */
mtype = { nowhere, sent, taken, pushed, reaped };
mtype at[TOTAL] = nowhere;
byte reaped_total;
bool owed;		/* somebody listened, and nothing was announced since */

/* states that the search must reach */
#ifdef REACH
bool saw_woken, saw_tail_moved, saw_race, saw_push_race, saw_second_look, saw_nothing_new, saw_stop_asleep;
#define SAW(what) what = true
#else
#define SAW(what) skip
#endif

/* -- a thread -------------------------------------------------------------- */

/* To `job`: the next one of the ring, or none. */
inline next_job()
{
	h = head;
	do
	:: h == tail -> job = NONE; break
	:: else ->
		job = ring[h % SLOTS];
		atomic {
			if
#ifdef BUG_NO_EXCHANGE
			:: head = h + 1
#else
			:: head == h -> head = h + 1
			:: else -> SAW(saw_race); h = head; job = NONE; goto again
#endif
			fi;
			assert(job != NONE);
			assert(at[use[job]] == sent);
			at[use[job]] = taken
		};
		break;
again:		skip
	od;
	h = 0
}

inline push()
{
	do
	:: old = finished;
	   next[job] = old;
	   atomic {
		if
#ifdef BUG_PUSH
		:: true -> finished = job; at[use[job]] = pushed; break
#else
		:: finished == old -> finished = job; at[use[job]] = pushed; break
		:: else -> SAW(saw_push_race)
#endif
		fi
	   }
	od;
	old = NONE
}

inline announce()
{
#ifndef BUG_LISTENING_EARLY
	heard = listening;
#endif
	if
	:: !heard
	:: else ->
		if
		:: finished == NONE -> SAW(saw_nothing_new); heard = 0
		:: else ->
			atomic {
				heard = listening;
#ifndef BUG_KEPT
				listening = 0;
#endif
				assert(!heard || owed);
				owed = owed && !heard
			};
			if
			:: heard -> atomic { eventfd = true; heard = 0 }
			:: else
			fi
		fi
	fi
}

proctype thread(byte me)
{
	byte job = NONE, h, old, seen, heard;

work:	next_job();
	if
	:: job != NONE -> goto perform
	:: else
	fi;
#ifndef BUG_SILENT
	announce();
#endif
rest:	seen = tail;
	sleepers++;
	next_job();
#ifdef BUG_SEEN_LATE
	seen = tail;
#endif
	if
	:: job == NONE && !stop ->
		atomic {
			if
			:: tail == seen -> asleep[me] = true
			:: else -> SAW(saw_tail_moved)
			fi
		};
		!asleep[me];
		SAW(saw_woken)
	:: else
	fi;
	atomic { sleepers--; seen = 0 };
	if
	:: job == NONE -> next_job()
	:: else
	fi;
	if
	:: job != NONE -> goto perform
	:: job == NONE && stop -> goto leave
	:: else -> goto rest
	fi;

perform:
#ifdef BUG_LISTENING_EARLY
	heard = listening;
#endif
	push();
	job = NONE;
	if
	:: announce()
	:: skip	/* later */
	fi;
	goto work;

leave:	gone++
}

/* -- the producer ---------------------------------------------------------- */

inline wake(n)
{
	w = n;
	do
	:: w > 0 && asleep[0] -> asleep[0] = false; w--
#if THREADS > 1
	:: w > 0 && asleep[1] -> asleep[1] = false; w--
#endif
	:: else -> break
	od
}

/* A job that is free, to `j`. */
inline take_free()
{
	j = 0;
	do
	:: j < JOBS && use[j] != NONE -> j++
	:: else -> break
	od
}

inline prepare()
{
	take_free();
	use[j] = used;
	at[used] = sent;
	used++;
#ifdef BUG_TAIL_EARLY
	if
	:: unsent == 0 -> early = j	/* the store comes later */
	:: else -> ring[(tail + unsent) % SLOTS] = j
	fi;
#else
	ring[(tail + unsent) % SLOTS] = j;
#endif
	unsent++;
	j = 0
}

inline submit()
{
	d_step { n = unsent; unsent = 0; out = out + n };
#ifdef BUG_TAIL_BARRIER
	s = sleepers;
	tail = tail + n;
#else
	tail = tail + n;
	s = sleepers;
#endif
#ifdef BUG_TAIL_EARLY
	ring[(tail - n) % SLOTS] = early;
#endif
#ifndef BUG_NO_WAKE
	if
	:: s -> atomic { wake(n); s = 0; n = 0; w = 0 }
	:: else -> n = 0
	fi
#endif
}

/* All that is done; the stack is turned round, so that it is in order. */
inline reap()
{
	atomic {
	top = finished;
	finished = NONE;
	do
	:: top != NONE ->
		d_step {
			j = top;
			top = next[j];
#ifdef BUG_ORDER
			next[j] = NONE;
			give_back(j);
#else
			next[j] = order;
			order = j;
#endif
			j = 0
		}
	:: else -> break
	od;
	do
	:: order != NONE -> d_step { j = order; order = next[j]; next[j] = NONE; give_back(j); j = 0 }
	:: else -> break
	od
	}
}

inline give_back(job)
{
	assert(at[use[job]] == pushed);
	at[use[job]] = reaped;
#if THREADS == 1
	assert(use[job] == reaped_total);
#endif
	use[job] = NONE;
	reaped_total++;
	out--
}

proctype producer()
{
	byte used, unsent, out, n, s, w, j, top = NONE, order = NONE;
#ifdef BUG_TAIL_EARLY
	byte early;
#endif

	do
	:: atomic { used < TOTAL && out + unsent < JOBS -> prepare() }
	:: unsent > 0 -> submit()
	:: finished != NONE -> reap()
	:: out > 0 && unsent == 0 ->
#ifdef BUG_LISTEN_BARRIER
		top = finished;
		atomic { listening = 1; owed = true };
#else
		atomic { listening = 1; owed = true };
		top = finished;
#endif
		if
#ifndef BUG_NO_LOOK
		:: top != NONE -> SAW(saw_second_look)
		:: else ->
#else
		::
#endif
			atomic { eventfd -> eventfd = false }
		fi;
		top = NONE;
		if
		:: listening = 0
		:: skip
		fi;
		reap()
	:: reaped_total == TOTAL -> break
	od;
	stop = true;
#ifdef BUG_STOP_ONCE
	atomic { wake(THREADS) }
#else
	do
	:: gone == THREADS -> break
	:: asleep[0] -> asleep[0] = false; SAW(saw_stop_asleep)
#if THREADS > 1
	:: asleep[1] -> asleep[1] = false; SAW(saw_stop_asleep)
#endif
	od
#endif
}

init
{
	atomic {
		run producer();
		run thread(0);
#if THREADS > 1
		run thread(1)
#endif
	}
#ifdef REACH
	/* Not a claim about the threads: the search has to get here. */
end:	(REACH);
	assert(false)
#else
	/* Stuck for ever is an end in a state that is none. */
	(reaped_total == TOTAL && gone == THREADS)
#endif
}

#ifndef REACH
/* All that is given is done and seen, if nobody is kept from running for ever. */
ltl all_done { <> (reaped_total == TOTAL && gone == THREADS) }
#endif
