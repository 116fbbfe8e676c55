/* SPDX-License-Identifier: MIT
 *
 * Memory as x86 has it (total store order): a store waits in its process's own
 * buffer, first in, first out, and reaches memory at any later moment; loads go
 * ahead meanwhile. A fence, and each way into the kernel's lock, waits until the
 * own buffer is empty.
 *
 * A processor also hands its own waiting stores to its own loads. That never
 * happens here: no side loads a word that it writes, it has private copies.
 *
 * The same names as in memory-views.pml, which is the weaker memory.
 */

/* Where things lie. Of ring r, written by its producer and its consumer. */
#define TAIL(r)		(4 * (r))
#define ROOM_ARMED(r)	(4 * (r) + 1)
#define HEAD(r)		(4 * (r) + 2)
#define DATA_ARMED(r)	(4 * (r) + 3)
#define UNIT(r, i)	(4 * RINGS + (r) * CAPACITY + (i))

byte memory[4 * RINGS + CAPACITY * RINGS];
chan buffer[2] = [BUFFER] of { byte, byte };

/* The buffers are long enough never to be full, but where a fence was removed. */
#ifdef MUTANT
#define HAS_PLACE(side)	true
#else
#define HAS_PLACE(side)	nfull(buffer[side])
#endif

inline store(side, where, what)
{
	assert(HAS_PLACE(side));
	buffer[side] ! where, what
}

#define DRAINED(side)	empty(buffer[side])
inline fence(side) { DRAINED(side) }

/* The kernel's lock: what was stored before it is let go, all see who take it. */
#define MAY_ENTER(side)	DRAINED(side)
inline acquire(side) { skip }
inline release(side) { skip }

#define store_tail(r, v)	store(r, TAIL(r), v)
#define store_room_armed(r, v)	store(r, ROOM_ARMED(r), v)
#define store_head(r, v)	store(CONSUMER(r), HEAD(r), v)
#define store_data_armed(r, v)	store(CONSUMER(r), DATA_ARMED(r), v)
#define store_unit(r, i, v)	store(r, UNIT(r, i), v)

#define load_tail(r, v)		v = memory[TAIL(r)]
#define load_room_armed(r, v)	v = memory[ROOM_ARMED(r)]
#define load_head(r, v)		v = memory[HEAD(r)]
#define load_data_armed(r, v)	v = memory[DATA_ARMED(r)]
#define UNIT_NOW(r, i)		memory[UNIT(r, i)]

/* What anybody would see who looks now. */
#define TAIL_NOW(r)		memory[TAIL(r)]
#define HEAD_NOW(r)		memory[HEAD(r)]

/* Stores and loads keep their order, so what is written is also ordered. */
#define WRITES_KNOWN(r)		255
#define READS_KNOWN(r)		c_head[r]
