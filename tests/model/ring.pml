/* SPDX-License-Identifier: MIT
 *
 * The doorbell protocol of two sides that exchange records through rings:
 * userlib/include/ipcdoor/ring.hpp (reserve, commit, publish, arm, disarm, peek,
 * consume), the blocking calls of detail/channel_sender.hpp and channel_receiver.hpp
 * (put, await_room, lead), and RING and WAIT of kmod/doorbell.c as they are seen from outside.
 *
 *   STREAM  one ring: side 0 sends RECORDS records, side 1 receives them; either
 *           sleeps whenever it may
 *   CALLS   two rings: side 0 sends a message and makes a call, again and again;
 *           side 1 answers the calls (channel::call, channel::reply_receive,
 *           whose rings are made by RING_WAIT)
 *   DEATH   either side of a STREAM may die between any two steps
 *
 * Memory is that of memory-buffers.pml or, with VIEWS, of memory-views.pml.
 *
 * Every access to a word of the other side's, every store that it can see and
 * every system call is a step of its own; between two steps anything may happen.
 * What a side does with its own variables belongs to the step before.
 *
 * A wait has a deadline or not. One that has may end at any time, as often as
 * the search likes; one that has none ends by a ring or a death only. So a sleeper
 * that was forgotten either stands still for ever, which the search reports as an
 * invalid end state, or, before that, as `lost_wakeup`: a side is asleep though
 * what it sleeps for is there, and nobody is on the way to tell it.
 *
 * The flags of tests/model/run that begin with NO_ or name a mistake take
 * something out of the protocol.
 */

#ifndef CAPACITY
#define CAPACITY 2		/* units of a ring; a record is 1 to LARGEST of them */
#endif
#ifndef LARGEST
#define LARGEST 1
#endif
#ifndef RECORDS
#define RECORDS 4		/* of the STREAM */
#endif
#ifndef ROUNDS
#define ROUNDS 2		/* of CALLS, a message and a call each */
#endif
#ifndef BUFFER
#define BUFFER 5		/* stores that a processor keeps waiting */
#endif
#ifndef PAST
#define PAST 3			/* values of an armed word that may still be read */
#endif

#ifdef CALLS
#define RINGS 2
#else
#define RINGS 1
#endif

/* Ring r leads from side r to the other one. */
#define CONSUMER(r)	(1 - (r))

/* ---- what the rings' sides know, private to them (ring_producer, ring_consumer) ---- */

byte p_tail[RINGS];		/* published_; what is committed is published */
byte p_head[RINGS];		/* head_, a copy of the consumer's */
byte p_answered[RINGS];
byte p_number[RINGS];		/* records so far */
byte c_head[RINGS];
byte c_tail[RINGS];		/* a copy of the producer's */
byte c_answered[RINGS];
byte c_number[RINGS];

/* For the properties alone. */
bool publishing[RINGS];		/* from the store of `tail` until rung or found needless */
bool giving[RINGS];		/* the same of `head` */
byte wanted[RINGS];		/* the head that the producer sleeps for */

/* Private copies are compared with the truth in these; all stay false. */
bool lost_wakeup, wrong_record, early_read, overwritten, lost_in_death;

byte at, some;			/* within one step */

#ifdef VIEWS
#include "memory-views.pml"
#else
#include "memory-buffers.pml"
#endif

/* ---- the doorbell: an endpoint for each side ---- */

/*
 * A step is `atomic { STEP -> ...; END }`. END matters: where an atomic sequence
 * ends inside of an `if`, spin runs on into one that follows, and what may happen
 * between the two is not looked at. tests/model/run checks that no step does.
 */
#define STEP	(_nr_pr > 0)
#define END	skip

#define DATA	1		/* vectors, as bits */
#define ROOM	2

byte pending[2];		/* counted and not yet taken */
byte waiting[2];		/* on the queue, for this vector */
bool done[2];			/* woken by a ring, which was taken for it */
bool raised[2];			/* an interrupt is under way */
byte undelivered[2];
bool gone[2];			/* the endpoint's peer is dead */

mtype = { none, rung, late, dead };

#define ASLEEP_FOR(side, vector) \
	(waiting[side] == vector && !pending[side] && !raised[side] && !gone[side])
#define FORGOTTEN_FOR_DATA(r) \
	(ASLEEP_FOR(CONSUMER(r), DATA) && TAIL_NOW(r) > c_head[r] && !publishing[r])
#define FORGOTTEN_FOR_ROOM(r) \
	(ASLEEP_FOR(r, ROOM) && HEAD_NOW(r) >= wanted[r] && !giving[r])

inline check_nobody_forgotten()
{
	lost_wakeup = FORGOTTEN_FOR_DATA(0) || FORGOTTEN_FOR_ROOM(0);
#if RINGS == 2
	lost_wakeup = lost_wakeup || FORGOTTEN_FOR_DATA(1) || FORGOTTEN_FOR_ROOM(1);
#endif
	assert(!lost_wakeup)
}

#ifdef VIEWS
inline start_memory() { skip }
#else
proctype drain(byte side)
{
	byte where, what;

end:	do
	:: d_step {
		buffer[side] ? where, what;
		memory[where] = what;
		where = 0;
		what = 0;
		check_nobody_forgotten()
	   }
	od
}


inline start_memory()
{
	run drain(0);
	run drain(1)
}
#endif

/* RING: counts under the receiver's lock, and raises an interrupt if somebody waits. */
inline ring(from, to, vector)
{
	release(from);
#ifdef EDGE
	/* mistake: the doorbell is an edge, which only who sleeps can notice */
	if
	:: waiting[to] == vector -> pending[to] = pending[to] | vector
	:: else
	fi;
#else
	pending[to] = pending[to] | vector;
#endif
	if
	:: waiting[to] != 0 ->
		undelivered[to] = undelivered[to] | vector;
		raised[to] = true
	:: else
	fi
}

/* The handler takes for the waiter what it waits for, and wakes it. */
inline deliver(side)
{
	raised[side] = false;
	if
	:: waiting[side] & undelivered[side] & pending[side] ->
		pending[side] = pending[side] & ~waiting[side];
		waiting[side] = 0;
		done[side] = true
	:: else
	fi;
	undelivered[side] = 0
}

proctype interrupts()
{
end:	do
	:: d_step { raised[0] -> deliver(0) }
	:: d_step { raised[1] -> deliver(1) }
	od
}

/* WAIT compares and queues under the lock: one step. */
inline sleep_unless_rung(side, vector)
{
	acquire(side);
	if
	:: pending[side] & vector ->
		pending[side] = pending[side] & ~vector;
		result = rung
	:: else ->
		if
		:: gone[side] -> result = dead
		:: !gone[side] && expired -> result = late
		:: else ->
#ifndef UNLOCKED
			/* else a mistake: queues itself when the lock is gone */
			waiting[side] = vector
#else
			skip
#endif
		fi
	fi
}

/*
 * What ends a sleep: a ring that was taken for the waiter; a death, upon which it
 * looks for itself; its deadline; a signal, or nothing at all. After the last two
 * it looks again with the lock held, and sleeps on if it may.
 */
inline wait_for(side, vector)
{
	result = none;
	if
	:: hurried = true
	:: hurried = false
	fi;
	do
	:: atomic {
		STEP && MAY_ENTER(side) ->
		sleep_unless_rung(side, vector);
		if
		:: result == none -> check_nobody_forgotten()
		:: else -> break
		fi;
		END
	   }
#ifdef UNLOCKED
	   atomic { STEP -> waiting[side] = vector; END };
#endif
	   if
	   :: atomic {
		STEP && waiting[side] == 0 ->
		if
		:: done[side] ->
			done[side] = false;
			acquire(side);
			result = rung;
			break
		:: else
		fi;
		END
	      }
	   :: atomic {
		STEP && hurried && waiting[side] != 0 ->
		waiting[side] = 0;
		if
		:: expired = true
		:: skip
		fi;
		END
	      }
	   fi
	od;
	expired = false;
	hurried = false
}

#ifdef NO_REACHED
#define REACHED(cursor, target)	true
#else
#define REACHED(cursor, target)	((cursor) >= (target))
#endif

/* ---- the producer ---- */

#define FREE(r)		(CAPACITY - (p_tail[r] - p_head[r]))
#define HERE(r)		(p_tail[r] % CAPACITY)

/* A record of `size` takes `need`: never split, it leaves out the ring's end. */
inline choose_record(r)
{
#if LARGEST > 1
	if
	:: size = 1
	:: size = 2
	fi;
	if
	:: HERE(r) + size <= CAPACITY -> need = size
	:: else -> need = CAPACITY - HERE(r) + size
	fi
#else
	size = 1;
	need = 1
#endif
}

/* What a unit holds: a record's number and size, or that it is left out. */
#define CONTENT(number, size)	(2 * (number) + (size))
#define LEFT_OUT		255

inline check_free(r, first, units)
{
	/* the places from cursor `first` on were read, and this side knows it */
	overwritten = first + units - CAPACITY > c_head[r] ||
		      first + units - CAPACITY > READS_KNOWN(r);
	assert(!overwritten)
}

inline write_record(r)
{
#if LARGEST > 1
	atomic {
		STEP ->
		check_free(r, p_tail[r], need);
		if
		:: need != size ->
			store_unit(r, HERE(r), LEFT_OUT);
			p_tail[r] = p_tail[r] + CAPACITY - HERE(r)
		:: else
		fi;
		END
	}
	atomic { STEP -> store_unit(r, HERE(r), CONTENT(p_number[r], size)); END };
	if
	:: size > 1 ->
		atomic { STEP -> store_unit(r, HERE(r) + 1, CONTENT(p_number[r], size)); END }
	:: else
	fi
#else
	atomic {
		STEP ->
		check_free(r, p_tail[r], 1);
		store_unit(r, HERE(r), CONTENT(p_number[r], 1));
		END
	}
#endif
}

/* ring_producer::publish; `owed` if the consumer is to be told. */
inline publish_tail(r)
{
	atomic {
		STEP ->
		p_tail[r] = p_tail[r] + size;
		p_number[r]++;
		publishing[r] = true;
		store_tail(r, p_tail[r]);
		END
	}
#ifndef NO_PUBLISH_FENCE
	atomic { STEP -> fence(r); END };
#endif
	atomic {
		STEP ->
		load_data_armed(r, seen);
		if
		:: seen == 0 || seen == p_answered[r] || !REACHED(p_tail[r], seen) ->
			publishing[r] = false;
			check_nobody_forgotten()
		:: else ->
			p_answered[r] = seen;
			owed = true
		fi;
		seen = 0;
		END
	}
}

inline ring_for_data(r)
{
	atomic {
		STEP && MAY_ENTER(r) ->
		if
		:: gone[r] -> is_dead = true
		:: else -> ring(r, CONSUMER(r), DATA)
		fi;
		owed = false;
		publishing[r] = false;
		check_nobody_forgotten();
		END
	}
}

inline load_head_into(r)
{
	load_head(r, seen);
	p_head[r] = seen;
	seen = 0
}

/*
 * channel_sender::put: waits until `size` units are free, writes and publishes.
 * `result` is `dead` where that ended it. A caller whose deadline passed comes
 * again, with a record of any size.
 */
inline put(r)
{
	do
	:: atomic {
		STEP ->
		choose_record(r);
		result = none;
		if
		:: FREE(r) < need -> load_head_into(r)
		:: else
		fi;
		if
		:: FREE(r) >= need -> break
		:: else
		fi;
		END
	   }
	   /* await_room, with ring_producer::arm */
	   do
	   :: atomic {
		STEP ->
		wanted[r] = p_tail[r] + need - CAPACITY;
#ifdef FLAG
		/* mistake: `armed` says that somebody sleeps, not for what */
		store_room_armed(r, 1);
#else
		store_room_armed(r, wanted[r]);
#endif
		END
	      }
#ifndef NO_ARM_FENCE_PRODUCER
	      atomic { STEP -> fence(r); END };
#endif
#ifndef NO_RECHECK_PRODUCER
	      atomic {
		STEP ->
		load_head_into(r);
		if
		:: FREE(r) >= need ->
			store_room_armed(r, 0);
			break
		:: else
		fi;
		END
	      }
#endif
	      wait_for(r, ROOM);
	      atomic {
		STEP ->
		if
		:: result == rung ->
#ifdef NO_RECHECK_PRODUCER
			load_head_into(r);
			if
			:: FREE(r) >= need -> break
			:: else
			fi
#else
			skip
#endif
		:: else ->
			store_room_armed(r, 0);
			break
		fi;
		END
	      }
	   od;
	   if
	   :: result == dead -> is_dead = true; break
	   :: result == late	/* comes again */
	   :: else -> break
	   fi
	od;
	wanted[r] = 0;
	result = none;
	if
	:: !is_dead ->
#ifdef TAIL_FIRST
		/* mistake */
		publish_tail(r);
		p_tail[r] = p_tail[r] - size;
		p_number[r]--;
		write_record(r);
		p_tail[r] = p_tail[r] + size;
		p_number[r]++
#else
		write_record(r);
		publish_tail(r)
#endif
	:: else
	fi
}

/* ---- the consumer ---- */

#define C_HERE(r)	(c_head[r] % CAPACITY)

inline load_tail_into(r)
{
	load_tail(r, seen);
	c_tail[r] = seen;
	seen = 0
}

/* Reads the record at c_head; `c_size` is what it takes, the skipped end included. */
inline read_record(r)
{
	c_size = 0;
	early_read = WRITES_KNOWN(r) <= c_head[r];
#if LARGEST > 1
	if
	:: UNIT_NOW(r, C_HERE(r)) == LEFT_OUT ->
		c_size = CAPACITY - C_HERE(r);
		early_read = early_read || WRITES_KNOWN(r) <= c_head[r] + c_size;
		c_head[r] = c_head[r] + c_size
	:: else
	fi;
	if
	:: UNIT_NOW(r, C_HERE(r)) == CONTENT(c_number[r], 2) ->
		early_read = early_read || WRITES_KNOWN(r) <= c_head[r] + 1;
		wrong_record = C_HERE(r) == CAPACITY - 1 ||
			       UNIT_NOW(r, C_HERE(r) + 1) != CONTENT(c_number[r], 2);
		c_head[r] = c_head[r] - c_size;
		c_size = c_size + 2
	:: else ->
		wrong_record = UNIT_NOW(r, C_HERE(r)) != CONTENT(c_number[r], 1);
		c_head[r] = c_head[r] - c_size;
		c_size = c_size + 1
	fi;
#else
	wrong_record = UNIT_NOW(r, C_HERE(r)) != CONTENT(c_number[r], 1);
	c_size = 1;
#endif
	assert(!early_read);
	assert(!wrong_record)
}

/* ring_consumer::consume and publish. */
inline give_back(r)
{
	atomic {
		STEP ->
		c_head[r] = c_head[r] + c_size;
		c_number[r]++;
		giving[r] = true;
		store_head(r, c_head[r]);
		END
	}
#ifndef NO_GIVE_FENCE
	atomic { STEP -> fence(CONSUMER(r)); END };
#endif
	atomic {
		STEP ->
		load_room_armed(r, seen);
		if
		:: seen == 0 || seen == c_answered[r] || !REACHED(c_head[r], seen) ->
			giving[r] = false;
			check_nobody_forgotten()
		:: else ->
			c_answered[r] = seen;
			tell = true
		fi;
		seen = 0;
		END
	}
	if
	:: atomic {
		STEP && tell && MAY_ENTER(CONSUMER(r)) ->
		if
		:: gone[CONSUMER(r)]	/* a dead peer needs no room */
		:: else -> ring(CONSUMER(r), r, ROOM)
		fi;
		tell = false;
		giving[r] = false;
		check_nobody_forgotten();
		END
	   }
	:: !tell
	fi
}

/*
 * channel_receiver::lead: takes one record; `ended` where the peer's death left none.
 * What is `owed` to the peer for ring `back` is rung before the sleep.
 */
inline take(r, back)
{
	do
	:: atomic {
		STEP ->
		final = is_dead;
		if
		:: c_head[r] == c_tail[r] -> load_tail_into(r)
		:: else
		fi;
		if
		:: c_head[r] != c_tail[r] -> final = false; break
		:: else ->
			if
			:: final -> ended = true; break
			:: else
			fi
		fi;
		END
	   }
	   /* ring_consumer::arm */
	   atomic {
		STEP ->
#ifdef FLAG
		store_data_armed(r, 1);
#else
		store_data_armed(r, c_head[r] + 1);
#endif
		END
	   }
#ifndef NO_ARM_FENCE_CONSUMER
	   atomic { STEP -> fence(CONSUMER(r)); END };
#endif
	   atomic {
		STEP ->
#ifndef NO_RECHECK_CONSUMER
		load_tail_into(r);
#endif
		if
		:: c_head[r] != c_tail[r] -> store_data_armed(r, 0)
		:: else -> hold = true
		fi;
		END
	   }
	   if
	   :: !hold
	   :: hold ->
		hold = false;
#if RINGS == 2
		if
#ifdef OWED_DROPPED
		/* mistake: RING_WAIT that only waits */
		:: owed -> owed = false
#else
		:: owed -> ring_for_data(back)
#endif
		:: else
		fi;
#endif
		wait_for(CONSUMER(r), DATA);
		atomic {
			STEP ->
			if
			:: result == rung
			:: result == late -> store_data_armed(r, 0)
			:: result == dead ->
				store_data_armed(r, 0);
				is_dead = true;
#ifdef NO_FINAL_LOOK
				ended = true;
				break
#endif
			fi;
			result = none
		}
	   fi
	od;
#if RINGS == 2
	if
	:: owed -> ring_for_data(back)
	:: else
	fi;
#endif
	if
	:: !ended ->
#ifdef HEAD_FIRST
		/* mistake: the place is given back before it is read */
		c_size = 1;
		give_back(r);
		atomic {
			STEP ->
			c_head[r] = c_head[r] - 1;
			c_number[r]--;
			read_record(r);
			c_head[r] = c_head[r] + 1;
			c_number[r]++;
			END
		}
#else
		atomic { STEP -> read_record(r); END };
		give_back(r)
#endif
	:: else
	fi;
	c_size = 0
}

#define PRODUCER_VARIABLES	byte size, need; bool owed
#define CONSUMER_VARIABLES	byte c_size; bool tell, hold, final, ended
#define SIDE_VARIABLES		byte seen; mtype result = none; bool is_dead, hurried, expired

/* ---- who does what ---- */

#ifdef DEATH
bool killed[2];

/* Whoever is woken so looks for itself. */
inline wake_for_death(side)
{
#ifdef NO_DEATH_WAKE
	skip		/* mistake */
#else
	waiting[side] = 0
#endif
}

#define BEGIN_MORTAL		{
#define END_MORTAL(side)	} unless { killed[side] }; \
	if \
	:: killed[side] -> \
		atomic { \
			STEP && MAY_ENTER(side) -> \
			/* the process has left its processor; the news under the lock */ \
			release(side); \
			waiting[side] = 0; \
			gone[1 - (side)] = true; \
			wake_for_death(1 - (side)); \
			END \
		} \
	:: else \
	fi

proctype killer()
{
	if
	:: killed[0] = true
	:: killed[1] = true
	fi
}
#else
#define BEGIN_MORTAL		{
#define END_MORTAL(side)	}
#endif

#ifdef CALLS

#define MESSAGES	CAPACITY	/* before each call, so that it may have to wait for room */

proctype caller()
{
	PRODUCER_VARIABLES;
	CONSUMER_VARIABLES;
	SIDE_VARIABLES;

	do
	:: c_number[1] < ROUNDS ->
		put(0);
		if
		:: p_number[0] % (MESSAGES + 1) == 0 -> take(1, 0)
		:: else ->
			if
			:: owed -> ring_for_data(0)
			:: else
			fi
		fi
	:: else -> break
	od
}

proctype answerer()
{
	PRODUCER_VARIABLES;
	CONSUMER_VARIABLES;
	SIDE_VARIABLES;

	do
	:: p_number[1] < ROUNDS ->
		do
		:: p_number[1] == c_number[0] / (MESSAGES + 1) -> take(0, 1)
		:: else -> break
		od;
		put(1)
	:: else -> break
	od;
	if
	:: owed -> ring_for_data(1)
	:: else
	fi
}

init
{
	atomic {
		start_memory();
		run interrupts();
		run caller();
		run answerer()
	}
}

#else

proctype sender()
{
	PRODUCER_VARIABLES;
	SIDE_VARIABLES;

	BEGIN_MORTAL
	do
	:: p_number[0] < RECORDS && !is_dead ->
		put(0);
		if
		:: owed -> ring_for_data(0)
		:: else
		fi
	:: else -> break
	od
	END_MORTAL(0)
}

proctype receiver()
{
	CONSUMER_VARIABLES;
	SIDE_VARIABLES;

	BEGIN_MORTAL
	do
	:: c_number[0] < RECORDS && !ended -> take(0, 0)
	:: else -> break
	od;
	lost_in_death = ended && c_head[0] != TAIL_NOW(0);
	assert(!lost_in_death)
	END_MORTAL(1)
}

init
{
	atomic {
		start_memory();
		run interrupts();
		run sender();
		run receiver();
#ifdef DEATH
		run killer()
#endif
	}
}

#endif
