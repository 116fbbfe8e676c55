/* SPDX-License-Identifier: MIT
 *
 * Memory as C++ promises it and no more: a relaxed load may return any value
 * that its side is not known to be past, for as long as it likes. Each word
 * keeps the values that it had, and each reader has a *view*, the oldest of them
 * that it may still get (Kang et al., "A Promising Semantics for Relaxed-Memory
 * Concurrency", 2017, without the promises: nothing is stored before an earlier
 * load, as in RC11). A view moves on
 *
 *   by reading          to what was read (coherence)
 *   by a seq_cst fence  to what the other side had stored before its last fence
 *   by the kernel's lock  to what the other side had stored before it let go
 *
 * Only release and acquire, and the lock, order the data as well: the reader of
 * a record must know its write, the writer of a place must know that it was
 * read. Less than C++ is granted where that was simpler (an acquired `tail` says
 * nothing of `armed`, a fence orders no data): there are more executions than in
 * C++, never fewer, but for PAST: a reader sees no more than the last PAST
 * values of an armed word. Of the cursors it may see any.
 *
 * The same names as in memory-buffers.pml.
 */

byte tail[RINGS];		/* the latest */
short tails[RINGS] = 1;		/* those it ever had, a bit for each */
byte tail_seen[RINGS];		/* the consumer's view */
byte tail_fenced[RINGS];	/* a fence gives at least this */
byte tail_locked[RINGS];	/* the lock of the consumer's endpoint, too */
byte tail_ordered[RINGS];	/* the writes below happened before */

byte head[RINGS];
short heads[RINGS] = 1;
byte head_seen[RINGS];
byte head_fenced[RINGS];
byte head_locked[RINGS];
byte head_ordered[RINGS];

byte unit[CAPACITY * RINGS];

/* Armed words: two of each ring, the values from the reader's view on. */
#define ARMED_FOR_DATA(r)	(2 * (r))
#define ARMED_FOR_ROOM(r)	(2 * (r) + 1)
byte past[2 * RINGS * PAST];
byte past_last[2 * RINGS];
byte past_fenced[2 * RINGS];

#define MAX(a, b)	((a) > (b) -> (a) : (b))

/* The reader's view moves on by n values. */
inline forget(word, n)
{
	at = 0;
	do
	:: at + n <= past_last[word] ->
		past[(word) * PAST + at] = past[(word) * PAST + at + n];
		at++
	:: at + n > past_last[word] && at <= past_last[word] ->
		past[(word) * PAST + at] = 0;
		at++
	:: at > past_last[word] -> break
	od;
	past_last[word] = past_last[word] - n;
	past_fenced[word] = (past_fenced[word] > n -> past_fenced[word] - n : 0);
	at = 0
}

inline store_armed(word, v)
{
	if
	:: past_last[word] == PAST - 1 -> forget(word, 1)
	:: else
	fi;
	past_last[word]++;
	past[(word) * PAST + past_last[word]] = v
}

inline load_armed(word, v)
{
	some = 0;
	do
	:: some < past_last[word] -> some++
	:: break
	od;
	forget(word, some);
	some = 0;
	v = past[(word) * PAST]
}

#define store_room_armed(r, v)	store_armed(ARMED_FOR_ROOM(r), v)
#define store_data_armed(r, v)	store_armed(ARMED_FOR_DATA(r), v)
#define load_room_armed(r, v)	load_armed(ARMED_FOR_ROOM(r), v)
#define load_data_armed(r, v)	load_armed(ARMED_FOR_DATA(r), v)

inline store_tail(r, v)
{
	tail[r] = v;
	tails[r] = tails[r] | (1 << tail[r])
}

inline store_head(r, v)
{
	head[r] = v;
	heads[r] = heads[r] | (1 << head[r])
}

inline load_tail(r, v)
{
	do
	:: tail_seen[r] < tail[r] -> tail_seen[r]++
	:: (tails[r] >> tail_seen[r]) & 1 -> break
	od;
#ifndef RELAXED_TAIL
	tail_ordered[r] = MAX(tail_ordered[r], tail_seen[r]);
#endif
	v = tail_seen[r]
}

inline load_head(r, v)
{
	do
	:: head_seen[r] < head[r] -> head_seen[r]++
	:: (heads[r] >> head_seen[r]) & 1 -> break
	od;
#ifndef RELAXED_HEAD
	head_ordered[r] = MAX(head_ordered[r], head_seen[r]);
#endif
	v = head_seen[r]
}

#define store_unit(r, i, v)	unit[(r) * CAPACITY + (i)] = v
#define UNIT_NOW(r, i)		unit[(r) * CAPACITY + (i)]
#define TAIL_NOW(r)		tail[r]
#define HEAD_NOW(r)		head[r]
#define WRITES_KNOWN(r)		tail_ordered[r]
#define READS_KNOWN(r)		head_ordered[r]

inline fence_as_producer(r)
{
	head_seen[r] = MAX(head_seen[r], head_fenced[r]);
	head_fenced[r] = head_seen[r];
	tail_fenced[r] = tail[r];
	if
	:: past_fenced[ARMED_FOR_DATA(r)] > 0 ->
		forget(ARMED_FOR_DATA(r), past_fenced[ARMED_FOR_DATA(r)])
	:: else
	fi;
	past_fenced[ARMED_FOR_ROOM(r)] = past_last[ARMED_FOR_ROOM(r)]
}

inline fence_as_consumer(r)
{
	tail_seen[r] = MAX(tail_seen[r], tail_fenced[r]);
	tail_fenced[r] = tail_seen[r];
	head_fenced[r] = head[r];
	if
	:: past_fenced[ARMED_FOR_ROOM(r)] > 0 ->
		forget(ARMED_FOR_ROOM(r), past_fenced[ARMED_FOR_ROOM(r)])
	:: else
	fi;
	past_fenced[ARMED_FOR_DATA(r)] = past_last[ARMED_FOR_DATA(r)]
}

inline fence_on(r, side)
{
	if
	:: side == r -> fence_as_producer(r)
	:: else -> fence_as_consumer(r)
	fi
}

/* The lock of one's own endpoint, when one looks at its counts. */
inline acquire_on(r, side)
{
	if
	:: side == r ->
		head_seen[r] = MAX(head_seen[r], head_locked[r]);
		head_ordered[r] = MAX(head_ordered[r], head_locked[r])
	:: else ->
		tail_seen[r] = MAX(tail_seen[r], tail_locked[r]);
		tail_ordered[r] = MAX(tail_ordered[r], tail_locked[r])
	fi
}

/* The lock of the other's endpoint, when one rings or dies. */
inline release_on(r, side)
{
	if
	:: side == r -> tail_locked[r] = tail[r]
	:: else -> head_locked[r] = head[r]
	fi
}

#if RINGS == 2
#define ON_ALL_RINGS(what, side)	what(0, side); what(1, side)
#else
#define ON_ALL_RINGS(what, side)	what(0, side)
#endif

inline fence(side) { ON_ALL_RINGS(fence_on, side) }
inline acquire(side) { ON_ALL_RINGS(acquire_on, side) }
inline release(side) { ON_ALL_RINGS(release_on, side) }

#define DRAINED(side)	true
#define MAY_ENTER(side)	true
