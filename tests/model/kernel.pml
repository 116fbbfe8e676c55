/* SPDX-License-Identifier: MIT
 *
 * Counting, delivering and waiting of one endpoint in the module, kmod/doorbell.c,
 * statement by statement where the lock is not held or could be wrongly dropped:
 * what ring.pml takes for one step each (RING, WAIT, the interrupt).
 *
 * RINGERS ring, each a vector of its own, RINGS times. Two threads wait for ever,
 * one for vector 0, one for both: the second competes for what the first takes
 * (APART: for vector 1 alone). A wait has a deadline or not, as in ring.pml; the
 * endpoint's timer, a signal or nothing at all may end the first kind at any time.
 *
 * The source is one that interrupts, or, with DIRECT, the ringer itself. What only
 * touches words that the lock protects is one step, from LOCK to UNLOCK, unless a
 * mistake parts it.
 *
 * When all stand still, every ring has been taken, exactly once. Memory is
 * sequentially consistent here: all of it lies under the lock, but for `done` and
 * the thread's state, which are stored with release and by wake_up_process().
 */

#ifndef RINGS
#define RINGS 2
#endif
#define RINGERS 2
#define WAITERS 2

#define STEP	(_nr_pr > 0)	/* as in ring.pml */
#define END	skip

/* struct ipcdoor_endpoint */
bool locked;
byte due[RINGERS];		/* rung[] - acked[], by vector */
byte undelivered;
bool raised;
bool interrupt;			/* the source's, on its way */

/* struct ipcdoor_waiter and its thread */
bool queued[WAITERS];
bool done[WAITERS];
byte fired[WAITERS];		/* wait->count, filled in by who wakes */
bool running[WAITERS];		/* the thread's state is TASK_RUNNING */
bool hurried[WAITERS];		/* this wait may end without a ring */

byte taken;			/* by all waiters */
byte rings;			/* made so far */
bool lost_ring, woken_for_nothing;

#ifdef APART
#define WANTS(w, v)	((v) == (w))
#else
#define WANTS(w, v)	((v) <= (w))
#endif
#define BIT(v)		(1 << (v))

#define MAY_LOCK	(STEP && !locked)
#define LOCK	atomic { MAY_LOCK -> locked = true; END }
#define UNLOCK	locked = false

/* ipcdoor_collect_pending */
inline collect(w)
{
	fired[w] = 0;
	if
	:: WANTS(w, 0) ->
		fired[w] = due[0];
		due[0] = 0
	:: else
	fi;
	if
	:: WANTS(w, 1) ->
		fired[w] = fired[w] + due[1];
		due[1] = 0
	:: else
	fi
}

/* One turn of the loop in ipcdoor_wake, and ipcdoor_wake_one. */
inline wake(w)
{
	if
	:: queued[w] && ((WANTS(w, 0) && (undelivered & BIT(0))) ||
			 (WANTS(w, 1) && (undelivered & BIT(1)))) ->
#ifdef DONE_FIRST
		/* mistake: tells the waiter before its result is there */
		if
		:: (WANTS(w, 0) && due[0]) || (WANTS(w, 1) && due[1]) ->
			queued[w] = false;
			done[w] = true;
			running[w] = true;
			atomic { STEP -> collect(w); END }
		:: else
		fi
#else
		atomic { STEP -> collect(w); END };
		if
		:: fired[w] ->
			queued[w] = false;
			done[w] = true;
			running[w] = true
		:: else
		fi
#endif
	:: else
	fi
}

inline deliver()
{
	wake(0);
	wake(1);
	undelivered = 0
}

/* ipcdoor_doorbell_ring, ipcdoor_start_delivery */
proctype ringer(byte v)
{
	byte n;

	do
	:: n < RINGS ->
		atomic {
			MAY_LOCK ->
			due[v]++;
			rings++;
			if
			:: queued[0] || queued[1] ->
#ifdef NO_UNDELIVERED
				/* mistake: a ring that rides along is not noted */
				undelivered = (raised -> undelivered : undelivered | BIT(v));
#else
				undelivered = undelivered | BIT(v);
#endif
#ifdef DIRECT
				locked = true
#else
				interrupt = interrupt || !raised;
				raised = true
#endif
			:: else
			fi;
			END
		}
#ifdef DIRECT
		if
		:: undelivered & BIT(v) ->
			deliver();
			UNLOCK
		:: else
		fi;
#endif
		n++
	:: else -> break
	od
}

/* ipcdoor_doorbell_interrupt */
proctype handler()
{
end:	do
	:: interrupt ->
		interrupt = false;
#ifdef LATE_CLEAR
		/* mistake: who rings meanwhile believes that it rides along */
		LOCK;
		deliver();
		UNLOCK;
		raised = false
#else
		atomic { MAY_LOCK -> locked = true; raised = false; END };
		deliver();
		UNLOCK
#endif
	od
}

/* ipcdoor_deadline_fired, and whatever else wakes a thread */
proctype timer()
{
end:	do
	:: atomic {
		STEP && !locked && hurried[0] && queued[0] ->
		queued[0] = false;
		running[0] = true
	   }
	:: atomic {
		STEP && !locked && hurried[1] && queued[1] ->
		queued[1] = false;
		running[1] = true
	   }
	:: atomic { STEP && hurried[0] && !running[0] -> running[0] = true }
	:: atomic { STEP && hurried[1] && !running[1] -> running[1] = true }
	od
}

/* ipcdoor_doorbell_wait, called for ever */
proctype waiter(byte w)
{
	bool expired;

again:	if
	:: hurried[w] = true
	:: hurried[w] = false
	fi;
	expired = false;
	done[w] = false;
	LOCK;
	do
	:: atomic {
		STEP ->
		collect(w);
		if
		:: fired[w] || expired -> UNLOCK; break
		:: else
		fi;
#ifdef EARLY_COMPARE
		/* mistake: lets the lock go between comparing and queueing */
		UNLOCK;
		END
	   }
	   atomic {
		MAY_LOCK ->
#endif
		queued[w] = true;
#ifdef LATE_STATE
		/* mistake: set_current_state() after the lock */
		UNLOCK;
		END
	   }
	   atomic {
		STEP ->
		running[w] = false;
#else
		running[w] = false;
		UNLOCK;
#endif
		END
	   }
	   /* schedule() */
end:	   running[w];
	   if
	   :: done[w] -> break		/* without the lock */
	   :: else
	   fi;
	   LOCK;
#ifndef NO_DONE_CHECK
	   if
	   :: done[w] -> UNLOCK; break
	   :: else
	   fi;
#endif
	   queued[w] = false;
	   if
	   :: hurried[w] -> expired = true
	   :: true
	   fi
	od;
	hurried[w] = false;
	atomic {
		STEP ->
		woken_for_nothing = done[w] && !fired[w];
		assert(!woken_for_nothing);
		taken = taken + fired[w];
		fired[w] = 0;
		END
	}
	goto again
}

/* All stand still: whoever sleeps has nothing due, and nothing was lost or doubled. */
proctype judge()
{
end:	do
	:: timeout ->
		lost_ring = taken != rings || due[0] || due[1] || rings != RINGERS * RINGS;
		assert(!lost_ring);
		break
	od
}

init
{
	atomic {
		running[0] = true;
		running[1] = true;
		run ringer(0);
		run ringer(1);
		run handler();
		run timer();
		run waiter(0);
		run waiter(1);
		run judge()
	}
}
