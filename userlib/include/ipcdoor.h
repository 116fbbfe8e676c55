/* SPDX-License-Identifier: MIT */
/*
 * libipcdoor, the C interface: doors, endpoints, doorbells.
 *
 * Conventions, for every function unless it says otherwise:
 *
 * - It returns 0 or a count on success and a negative errno value on failure,
 *   and then leaves its output arguments alone; ipcdoor_error() has the story
 *   of the calling thread's latest failure in words, remedy included.
 * - Times are CLOCK_MONOTONIC nanoseconds and deadlines absolute. A deadline of
 *   0 (or any past time) never blocks and fails with -ETIMEDOUT;
 *   IPCDOOR_NO_DEADLINE waits without end.
 * - Functions on one endpoint may be called from several threads at once,
 *   except ipcdoor_endpoint_close(), which must be the last.
 * - A blocking call interrupted by a signal handler fails with -EINTR.
 * - Only the process that made a handle may use it: a fork()ed child may do
 *   nothing with it but close it; anything else fails with -EPERM.
 *
 * It is for 64-bit programs; docs/uapi.md says what others get of the module.
 *
 * The layout of shared memory and the meaning of slots, vectors, names, rights
 * and sources are those of <linux/ipcdoor.h>, whatever back end carries them.
 */
#ifndef IPCDOOR_H
#define IPCDOOR_H

#if __SIZEOF_POINTER__ < 8
#error "libipcdoor is for 64-bit programs: build without -m32 and -mx32, or speak to the module yourself (linux/ipcdoor.h)"
#endif

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/ipcdoor.h>

#ifdef __cplusplus
extern "C" {
#ifdef __GNUC__
/* Functions share names with the uAPI's structures, as stat() does. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#endif

#define IPCDOOR_LIBRARY_VERSION "0.1.0"

typedef struct ipcdoor_door ipcdoor_door;
typedef struct ipcdoor_endpoint ipcdoor_endpoint;
typedef struct ipcdoor_listener ipcdoor_listener;

/* The library's own version, "MAJOR.MINOR.PATCH". Never fails. */
const char *ipcdoor_version(void);

/*
 * The calling thread's latest failure in one sentence, "" before the first.
 * Valid until the thread's next call into the library.
 */
const char *ipcdoor_error(void);

/* CLOCK_MONOTONIC now, and `timeout_ns` from now (saturating). */
uint64_t ipcdoor_now_ns(void);
uint64_t ipcdoor_deadline_ns(uint64_t timeout_ns);

/* ---- doors ------------------------------------------------------------- */

/*
 * Opens a door by URI:
 *
 *   local:                  /dev/ipcdoor0 where the module is loaded, else soft:
 *   door:/dev/ipcdoor0      this device node; -ENODEV where it is missing,
 *                           -EACCES without the right to open it
 *   soft:                   the software back end, in $IPCDOOR_RUNTIME_DIR or
 *                           the directory that the documentation names
 *   soft:/PATH              the same in a directory of the caller's choice
 *
 * NULL or "" means the environment's IPCDOOR_URI, and where that is unset,
 * "local:". "local:" falls back only where /dev/ipcdoor0 does not exist: a
 * node that may not be opened is an error. ipcdoor_door_backend() tells which
 * it was.
 *
 * Errors: -EINVAL malformed URI, -EPROTONOSUPPORT unknown scheme or an ABI
 * that this library does not speak, and open(2)'s.
 */
int ipcdoor_door_open(const char *uri, ipcdoor_door **door);

/* Closes the door; its endpoints live on. NULL is allowed. */
void ipcdoor_door_close(ipcdoor_door *door);

/* "kernel" or "soft". */
const char *ipcdoor_door_backend(const ipcdoor_door *door);

/*
 * Fills `info` (see <linux/ipcdoor.h>). The software back end has no
 * interrupts: there only DIRECT is present.
 */
int ipcdoor_door_info(ipcdoor_door *door, struct ipcdoor_info *info);

/* ---- endpoints --------------------------------------------------------- */

/*
 * Options carry their own size so that they can grow: initialise with
 * `{ .size = sizeof(opts) }`; 0 in any other field is its default.
 */
struct ipcdoor_create_options {
	size_t size;
	const char *name;		/* NULL: anonymous */
	uint64_t data_bytes;		/* rounded up to pages */
	uint64_t max_data_bytes;	/* 0: data_bytes */
	uint64_t slot_bytes;		/* rounded up to pages; 0: one page */
	uint32_t slots;			/* 0: 2 */
	uint32_t source;		/* IPCDOOR_SOURCE_* */
	uint32_t mode;			/* 0: 0600 */
	uint32_t stamps;		/* 1: stage stamps */
};

/* A new segment; the caller's endpoint has slot 0. */
int ipcdoor_create(ipcdoor_door *door, const struct ipcdoor_create_options *options,
		   ipcdoor_endpoint **endpoint);

struct ipcdoor_attach_options {
	size_t size;
	const char *name;
	uint32_t read_only;		/* 1: DATA is mapped read-only */
	uint32_t fixed_slot;		/* 0: a free one; 1: `slot` */
	uint32_t slot;
	uint32_t pad;
};

/* A further endpoint of a named segment, in this or another process. */
int ipcdoor_attach(ipcdoor_door *door, const struct ipcdoor_attach_options *options,
		   ipcdoor_endpoint **endpoint);

/*
 * A further endpoint of the segment that `fd`, an endpoint's descriptor passed
 * from another process or inherited, belongs to, with the caller's own
 * credentials. `fd` stays the caller's to close. -EOPNOTSUPP on soft:.
 */
int ipcdoor_attach_fd(ipcdoor_door *door, int fd, uint32_t read_only,
		      ipcdoor_endpoint **endpoint);

struct ipcdoor_listen_options {
	size_t size;
	const char *name;
	uint64_t slot_bytes;		/* of each connection; 0: one page */
	uint64_t data_bytes;
	uint32_t source;
	uint32_t mode;			/* 0: 0600 */
	uint32_t backlog;		/* 0: 128 */
	uint32_t stamps;
};

/* Opens a name for connections. -EADDRINUSE where a living one has it. */
int ipcdoor_listen(ipcdoor_door *door, const struct ipcdoor_listen_options *options,
		   ipcdoor_listener **listener);
void ipcdoor_listener_close(ipcdoor_listener *listener);

/* Readable (poll) while a connection waits; the listener's, do not close it. */
int ipcdoor_listener_fd(const ipcdoor_listener *listener);

/* Takes a waiting connection, blocking until the deadline. */
int ipcdoor_accept(ipcdoor_listener *listener, uint64_t deadline_ns,
		   ipcdoor_endpoint **endpoint);

/*
 * Connects to a listener by name and waits until it was accepted. The caller
 * has slot 1, the server slot 0. Errors: -ENOENT no such name, -ECONNREFUSED
 * the listener closed, -EACCES, -ETIMEDOUT, -EINTR.
 */
int ipcdoor_connect(ipcdoor_door *door, const char *name, uint64_t deadline_ns,
		    ipcdoor_endpoint **endpoint);

/* Detaches: peers are told, its mappings are gone. NULL is allowed. */
void ipcdoor_endpoint_close(ipcdoor_endpoint *endpoint);

/* Layout, own slot, rights. data_bytes follows GROW. */
int ipcdoor_endpoint_info(ipcdoor_endpoint *endpoint, struct ipcdoor_endpoint_info *info);

/* "kernel" or "soft". */
const char *ipcdoor_endpoint_backend(const ipcdoor_endpoint *endpoint);

/*
 * The memory of a slot, info.slot_bytes long: writable if it is the caller's
 * own, read-only otherwise. It is mapped at the first call and stays valid
 * until the endpoint closes, also when the peer dies. NULL with errno set:
 * EINVAL no such slot, ENOTCONN (soft) nobody was ever attached to it.
 * A slot that is attached again is new memory: ask again after its generation
 * changed.
 */
void *ipcdoor_slot_memory(ipcdoor_endpoint *endpoint, uint32_t slot);

/*
 * The DATA pages; *bytes is their length now. NULL with errno set: ENODATA
 * where the segment has none. Valid until the endpoint closes; after a GROW
 * (vector 0 rings) ask again: the address stays if the maximum was declared.
 */
void *ipcdoor_data_memory(ipcdoor_endpoint *endpoint, size_t *bytes);

/* ---- doorbells --------------------------------------------------------- */

/*
 * Rings a vector (1 to 63) of a peer's slot; never blocks. `generation` of the
 * slot, or 0 for whoever is there.
 *
 * Errors: -EINVAL slot or vector out of range, -ENOTCONN the slot was never
 * attached, -EPIPE its endpoint is dead, -ESTALE another generation.
 */
int ipcdoor_ring(ipcdoor_endpoint *endpoint, uint32_t slot, uint32_t generation,
		 uint32_t vector, uint64_t value);

struct ipcdoor_event {
	uint64_t fired;			/* vectors of the mask that were rung */
	uint64_t count;			/* rings, all fired vectors together */
	uint64_t value;			/* latest of the lowest fired vector */
};

/*
 * Waits until a vector of `mask` has been rung since it was last returned, and
 * takes what it returns. Include bit 0 to be told of peers' lives. `event` may
 * be NULL. Wake-ups are hints: whoever waits for a condition re-checks it.
 *
 * Errors: -EINVAL empty mask, -ETIMEDOUT, -EINTR, -EPIPE a connection whose
 * peer is dead, with nothing left to return.
 */
int ipcdoor_wait(ipcdoor_endpoint *endpoint, uint64_t mask, uint64_t deadline_ns,
		 struct ipcdoor_event *event);

/*
 * Rings, then waits: one system call on the kernel back end. After -EINTR or
 * -ETIMEDOUT the ring was done: go on with ipcdoor_wait().
 */
int ipcdoor_ring_wait(ipcdoor_endpoint *endpoint, uint32_t slot, uint32_t generation,
		      uint32_t vector, uint64_t value, uint64_t mask,
		      uint64_t deadline_ns, struct ipcdoor_event *event);

/*
 * A descriptor for poll and epoll: readable while a vector is pending; EPOLLHUP
 * when no peer is left alive (kernel). The endpoint's; do not close it, and
 * take events with ipcdoor_wait(), deadline 0.
 */
int ipcdoor_endpoint_fd(ipcdoor_endpoint *endpoint);

/*
 * Signals an eventfd at deliveries of vectors in `mask`; fd -1 unbinds. The
 * descriptor stays the caller's. -EOPNOTSUPP on soft:, where
 * ipcdoor_endpoint_fd() serves.
 */
int ipcdoor_bind_eventfd(ipcdoor_endpoint *endpoint, int fd, uint64_t mask);

/*
 * Sends the calling thread signal `signo` at each ring of a vector in `mask`,
 * with si_value and the ringer's si_pid and si_uid; 0 unbinds. On soft: the
 * ringer must have kill(2)'s permission: for a ring -EOPNOTSUPP comes where it
 * has not, -EAGAIN where the receiver's queue of signals is full. Such a ring
 * was counted all the same.
 */
int ipcdoor_bind_signal(ipcdoor_endpoint *endpoint, int signo, uint64_t mask);

/* Who has a slot, as the kernel captured it. info->slot is the input. */
int ipcdoor_peer_info(ipcdoor_endpoint *endpoint, struct ipcdoor_peer_info *info);

/*
 * A copy of a slot's counters and last stage stamps, consistent in itself. The
 * software back end fills state, generation and rung[] only.
 */
int ipcdoor_slot_state(ipcdoor_endpoint *endpoint, uint32_t slot,
		       struct ipcdoor_slot_state *state);

/* Adds seals, *seals is all of them now (may be NULL). */
int ipcdoor_seal(ipcdoor_endpoint *endpoint, uint32_t add, uint32_t *seals);

/* Grows DATA to `data_bytes` (rounded up); nobody's data moves. */
int ipcdoor_grow(ipcdoor_endpoint *endpoint, uint64_t data_bytes);

#ifdef __cplusplus
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
}
#endif

#endif /* IPCDOOR_H */
