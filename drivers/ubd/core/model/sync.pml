/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How flushes share an fdatasync, for spin: what core/queue.cc (lead_sync,
 * end_sync, durability_lost) does together with a host that may lose writes.
 * tests/sim/model.sh checks it exhaustively.
 *
 *	guest		writes, and sends flushes
 *	queue		each of its steps is one: it holds the queue lock. That no
 *			wake-up is lost between them is shown by queue.pml.
 *	host		fdatasync: begins some time after it was prepared, and ends
 *			when what was dirty then is not any more. It may also come
 *			back undone (EINTR, EAGAIN, ECANCELED).
 *	write_back	the host writes dirty pages at any time. Where it fails the
 *			page is marked clean, and the open file is told once: by
 *			the first fdatasync that ends after that (fsync(2), "EIO").
 *
 * The promise: a flush that ends well has made durable all that was written
 * before it was sent. Each flush ends, once.
 *
 * FUA writes go by an open file of their own and are not modelled; a durable
 * write-zeroes is a flush here.
 *
 * Bounds, by -D: FLUSHES, WRITES (at most 8 each), FAILURES of write-back,
 * RETRIES. Bugs, by -D, each of which must be found:
 *	BUG_SIDE_BY_SIDE	two fdatasync calls at a time
 *	BUG_JOIN_RUNNING	a flush shares the one that runs already
 *	BUG_LOSS_FORGOTTEN	a failure is told to those who shared it, no others
 *	BUG_NO_NEXT		who waited does not get the next one
 *	BUG_RETRY_WAITS		a leader that is tried again waits for itself
 */

#ifndef FLUSHES
#define FLUSHES 3
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef RETRIES
#define RETRIES 1
#endif

#define NONE 255
mtype = { done, failed, undone };

/* -- the queue ----------------------------------------------------------- */
byte leader = NONE;
chan sync_waiting = [FLUSHES] of { byte };
chan sync_joined = [FLUSHES] of { byte };
chan again = [FLUSHES] of { byte };	/* waiting_ or later_ */
bool sync_failed;

/* -- guest --------------------------------------------------------------- */
byte sent;
byte ended;
byte end_of[FLUSHES];	/* times */
byte must[FLUSHES];	/* a bit for each write that had ended when it was sent */

/* -- host ---------------------------------------------------------------- */
chan prepared = [FLUSHES] of { byte };
chan completed = [FLUSHES] of { byte, mtype };
byte with_host;
byte writes;
byte dirty, durable;	/* a bit for each write; in neither: lost */
bool to_tell;		/* the open file has an error to tell */
byte failures = FAILURES;
byte retries = RETRIES;

/* states that the search must reach */
bool saw_shared, saw_told, saw_failed_waiting;

inline end_flush(flush, status)
{
	assert(end_of[flush] == 0);
	/* what matters: nobody is told that is durable what is not */
	assert(status != done || (must[flush] & ~durable) == 0);
	end_of[flush]++;
	ended++
}

/* queue.cc, to_engine() and lead_sync(). */
inline to_engine(flush)
{
	if
#ifdef BUG_SIDE_BY_SIDE
	:: false -> skip
#elif defined(BUG_RETRY_WAITS)
	:: leader != NONE -> sync_waiting!flush
#elif defined(BUG_JOIN_RUNNING)
	:: leader != NONE && leader != flush -> sync_joined!flush
#else
	:: leader != NONE && leader != flush -> sync_waiting!flush
#endif
	:: else ->
		leader = flush;
		do
		:: nempty(sync_waiting) -> sync_waiting?other; sync_joined!other; saw_shared = true
		:: empty(sync_waiting) -> break
		od;
		prepared!flush
	fi;
	other = 0
}

/* queue.cc, end_sync(). */
inline end_sync(flush, status)
{
	if
	:: sync_failed ->
		status = failed;
		do
		:: nempty(sync_waiting) -> sync_waiting?other; sync_joined!other; saw_failed_waiting = true
		:: empty(sync_waiting) -> break
		od
	:: else
	fi;
	leader = NONE;
#ifndef BUG_NO_NEXT
	if
	:: nempty(sync_waiting) -> sync_waiting?leader; again!leader
	:: empty(sync_waiting)
	fi;
#endif
	end_flush(flush, status);
	do
	:: nempty(sync_joined) -> sync_joined?other; end_flush(other, status)
	:: empty(sync_joined) -> break
	od;
	other = 0
}

/* queue.cc, complete() and complete_error(). */
inline complete(flush, status)
{
	if
	:: status == undone -> again!flush
	:: else ->
#ifndef BUG_LOSS_FORGOTTEN
		if
		:: status == failed -> sync_failed = true
		:: else
		fi;
#endif
		end_sync(flush, status)
	fi
}

active proctype queue()
{
	byte flush, other;
	mtype status;

end:	do
	:: d_step { sent < FLUSHES ->
		must[sent] = (1 << writes) - 1;
		flush = sent;
		sent++;
		if
		:: sync_failed -> end_flush(flush, failed)
		:: else -> to_engine(flush)
		fi;
		flush = 0 }
	:: d_step { nempty(again) -> again?flush; to_engine(flush); flush = 0 }
	:: d_step { nempty(completed) -> completed?flush, status; complete(flush, status); flush = 0; status = 0 }
	od
}

active proctype guest()
{
	do
	:: d_step { writes < WRITES -> dirty = dirty | (1 << writes); writes++ }
	:: writes == WRITES -> break
	:: break
	od
}

/*
 * As many as there are flushes: that only one runs at a time is the queue's
 * doing. What one is told, and its completion, are two steps: another's
 * completion may come between.
 */
active [FLUSHES] proctype host()
{
	byte flush, covers;
	mtype status;

end:	do
	:: d_step { nempty(prepared) ->
		prepared?flush;
		covers = dirty;
		with_host++;
#ifndef BUG_SIDE_BY_SIDE
		assert(with_host == 1)
#endif
	   };
	   if
	   :: d_step { retries > 0 -> retries--; status = undone }
	   :: d_step { (dirty & covers) == 0 ->
		if
		:: to_tell -> to_tell = false; saw_told = true; status = failed
		:: else -> status = done
		fi }
	   fi;
	   d_step { completed!flush, status; with_host--; flush = 0; covers = 0; status = 0 }
	od
}

/* One for each page: a page that is dirty is written at last. */
proctype write_back(byte page)
{
end:	do
	:: d_step { dirty & (1 << page) -> dirty = dirty & ~(1 << page); durable = durable | (1 << page) }
	:: d_step { (dirty & (1 << page)) && failures > 0 ->
		dirty = dirty & ~(1 << page);
		failures--;
		to_tell = true }
	od
}

init
{
	byte i;

	atomic {
		do
		:: i < WRITES -> run write_back(i); i++
		:: else -> break
		od
	}
#ifdef REACH
end:	(REACH);
	assert(false)
#else
	/* Stuck for ever is an end in a state that is none. */
	(ended == FLUSHES)
#endif
}

#ifndef REACH
ltl all_end { <> (ended == FLUSHES) }
#endif
