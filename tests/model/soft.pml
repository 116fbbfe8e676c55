/* SPDX-License-Identifier: MIT
 *
 * The bell of the software back end: count() and link::wake() of the ringer,
 * endpoint::arm, harvest, lead and step_down of the waiter (userlib/src/soft_wait.cpp,
 * soft_link.cpp). Counts lie in shared pages, the wake-up is a byte in a socket, and
 * it is sent only if the waiter has published that it sleeps, once for an epoch.
 *
 * RINGERS threads of the ringing process make RINGS rings each; one thread leads
 * at the other end. Plain stores wait in a buffer of each thread (as in
 * memory-buffers.pml); a seq_cst store, a read-modify-write and a system call wait
 * until it is empty. A wait has a deadline or not; those that have one may end at
 * any time, until the waiter has armed EPOCHS times: epochs grow, and the search
 * has to end.
 *
 * A waiter that was forgotten stands still, which is an invalid end state.
 */

#ifndef RINGS
#define RINGS 2
#endif
#ifndef RINGERS
#define RINGERS 2
#endif
#ifndef EPOCHS
#define EPOCHS 4
#endif
#define BUFFER 3
#define QUEUE 2			/* bytes that the socket holds */

#define STEP	(_nr_pr > 0)	/* as in ring.pml */
#define END	skip

#define TOTAL	0		/* outbox::total, written by the ringer */
#define ARMED	1		/* control::armed, written by the waiter */

byte memory[2];
byte woken;			/* link::woken_, the ringing process's own */
byte bell;			/* bytes in the socket */
bool lost_ring;

chan buffer[RINGERS + 1] = [BUFFER] of { byte, byte };	/* the last is the waiter's */

proctype drain(byte thread)
{
	byte where, what;

end:	do
	:: d_step {
		buffer[thread] ? where, what;
		memory[where] = what;
		where = 0;
		what = 0
	   }
	od
}

#define DRAINED(thread)	empty(buffer[thread])

inline count_ring()
{
#ifdef COUNT_RELAXED
	/* mistake: a plain store; of one ringer, for two would overwrite each other's */
	atomic { STEP -> n++; buffer[thread] ! TOTAL, n; END }
#else
	atomic { STEP && DRAINED(thread) -> n++; memory[TOTAL]++; END }
#endif
}

proctype ringer(byte thread)
{
	byte n, epoch;
	bool first;

	do
	:: n < RINGS ->
#ifdef LOOK_FIRST
		/* mistake: asks who sleeps before it counts */
		atomic { STEP -> epoch = memory[ARMED]; END };
		count_ring();
#else
		count_ring();
		atomic { STEP -> epoch = memory[ARMED]; END };
#endif
		if
		:: epoch != 0 ->
			atomic {
				STEP && DRAINED(thread) ->
#ifdef STICKY
				/* mistake: who was woken once is awake */
				first = woken == 0;
#else
				first = woken != epoch;
#endif
				woken = epoch;
				END
			};
			if
			:: first ->
				/* EAGAIN: the queue is full of wake-ups */
				atomic {
					STEP ->
					bell = (bell < QUEUE -> bell + 1 : bell);
					first = false;
					END
				}
			:: else
			fi
		:: else
		fi;
		epoch = 0
	:: else -> break
	od
}

inline harvest()
{
	atomic {
		STEP ->
		news = memory[TOTAL] > taken;
		taken = memory[TOTAL];
		END
	}
}

inline step_down()
{
	atomic { STEP -> buffer[RINGERS] ! ARMED, 0; END }
}

proctype waiter()
{
	byte taken, epoch;
	bool news, hurried;

	do
	:: taken < RINGERS * RINGS ->
		if
		:: epoch < EPOCHS -> hurried = true
		:: hurried = false
		fi;
		/* arm */
		epoch++;
		atomic { STEP -> buffer[RINGERS] ! ARMED, epoch; END };
#ifndef ARM_RELAXED
		atomic { STEP && DRAINED(RINGERS) };
#endif
#ifndef NO_HARVEST
		harvest();
#endif
		if
		:: news -> step_down()
		:: else ->
#ifdef LATE_CLEAR
			/* mistake: takes the bytes out before it sleeps, though it looked before */
			atomic { STEP && DRAINED(RINGERS) -> bell = 0; END };
#endif
			if
			:: atomic { STEP && DRAINED(RINGERS) && bell > 0 -> bell--; END }
			:: hurried
			fi;
			step_down();
			harvest()
		fi;
		news = false
	:: else -> break
	od;
	lost_ring = taken != RINGERS * RINGS;
	assert(!lost_ring)
}

init
{
	atomic {
		run drain(0);
#if RINGERS > 1
		run drain(1);
		run ringer(1);
#endif
		run drain(RINGERS);
		run ringer(0);
		run waiter()
	}
}
