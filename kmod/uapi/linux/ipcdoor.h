/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * ipcdoor: shared pages and an interrupt-driven doorbell for user processes.
 *
 * This header is the whole contract between ipcdoor.ko and its users;
 * docs/uapi.md lists every call's errors.
 *
 * The protocol in short
 * ---------------------
 * A *door* is a device node; /dev/ipcdoor0 is the local one.  A *segment* is a
 * set of shared pages with 2 to IPCDOOR_MAX_SLOTS slots; an *endpoint* is one
 * process's attachment to a segment: a file descriptor that owns one slot.
 *
 *	door = open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC);
 *	ioctl(door, IPCDOOR_IOC_CREATE, &create)  -> endpoint fd in slot 0
 *	ioctl(door, IPCDOOR_IOC_ATTACH, &attach)  -> endpoint fd in a free slot
 *	ioctl(door, IPCDOOR_IOC_LISTEN, &listen)  -> listener fd
 *	ioctl(door, IPCDOOR_IOC_CONNECT, &connect)-> endpoint fd in slot 1 of a
 *						     private two-slot segment
 *	ioctl(listener, IPCDOOR_IOC_ACCEPT, &acc) -> endpoint fd in slot 0
 *
 * On an endpoint: RING a vector of a peer's slot, WAIT for one's own vectors,
 * both at once with RING_WAIT, mmap() the pages, poll() for pending vectors.
 *
 * An endpoint belongs to the address space (mm) that attached it.  Everyone
 * else who holds the descriptor (fork, SCM_RIGHTS) may close it, or name it in
 * ATTACH to get a slot with their own credentials, and nothing else: EPERM.
 * It dies at its last release or when its owner's address space ends (exit or
 * execve), whichever is first.
 *
 * Every structure has fixed-size fields, explicit padding that must be zero,
 * and may grow at its end: the kernel accepts a shorter (older) structure and
 * reads the rest as zero, and a longer (newer) one whose unknown tail is zero;
 * otherwise E2BIG.  Unknown flags are EINVAL.  Times are CLOCK_MONOTONIC
 * nanoseconds, deadlines absolute.
 */
#ifndef _UAPI_LINUX_IPCDOOR_H
#define _UAPI_LINUX_IPCDOOR_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IPCDOOR_ABI_VERSION	1

#define IPCDOOR_MAX_SLOTS	256
#define IPCDOOR_VECTORS		64
#define IPCDOOR_NAME_MAX	64	/* with the terminating NUL */
#define IPCDOOR_MAX_BACKLOG	4096
#define IPCDOOR_MAX_WAITERS	256	/* threads asleep in WAIT on one endpoint */

/* Vector 0 is rung by the kernel alone: a peer joined, died, or was sealed. */
#define IPCDOOR_VECTOR_LIFECYCLE 0

/* deadline_ns: wait without end; 0 or any past time never blocks. */
#define IPCDOOR_NO_DEADLINE	(~(__u64)0)

/* Interrupt sources (enum in every `source` field; a bit in masks). */
#define IPCDOOR_SOURCE_AUTO	0	/* the module's default, see GET_INFO */
#define IPCDOOR_SOURCE_MSI	1	/* PCI message-signalled interrupt */
#define IPCDOOR_SOURCE_IPI	2	/* inter-processor interrupt */
#define IPCDOOR_SOURCE_TIMER	3	/* hrtimer interrupt */
#define IPCDOOR_SOURCE_DIRECT	4	/* wake-up by the ringer, no interrupt */
#define IPCDOOR_SOURCE_COUNT	5

/* GET_INFO features */
#define IPCDOOR_FEATURE_STAMPS	(1ULL << 0)	/* IPCDOOR_CREATE_STAMPS */
#define IPCDOOR_FEATURE_SIGNAL	(1ULL << 1)	/* BIND_SIGNAL */
#define IPCDOOR_FEATURE_EVENTFD	(1ULL << 2)	/* BIND_EVENTFD */
#define IPCDOOR_FEATURE_GROW	(1ULL << 3)	/* GROW */
#define IPCDOOR_FEATURE_LISTEN	(1ULL << 4)	/* LISTEN, CONNECT, ACCEPT */

/* GET_INFO, on a door */
struct ipcdoor_info {
	__u32 abi_version;	/* out: IPCDOOR_ABI_VERSION of the module */
	__u32 flags;		/* in: 0 */
	__u64 features;		/* out: IPCDOOR_FEATURE_* */
	__u32 sources;		/* out: bit (1 << IPCDOOR_SOURCE_x) if present */
	__u32 default_source;	/* out: what AUTO means here, never AUTO */
	__u32 page_bytes;	/* out: granularity of slot_bytes, data_bytes */
	__u32 max_slots;	/* out */
	__u64 max_bytes;	/* out: limit of one segment's pages, bytes */
	__u64 user_max_bytes;	/* out: limit of the caller's user, bytes */
	__u64 user_bytes;	/* out: charged to the caller's user now, bytes */
	__u32 user_max_endpoints;	/* out */
	__u32 user_endpoints;		/* out */
	char version[32];	/* out: module version, NUL-terminated */
};

/*
 * What an attachment is, filled in by CREATE, ATTACH, CONNECT, ACCEPT and
 * ENDPOINT_INFO.  Offsets are for mmap() on the endpoint:
 *
 *	STATE	[state_offset, +state_bytes)	read-only for all
 *	SLOT i	[slot_offset + i * slot_bytes, +slot_bytes)
 *						writable by endpoint i only
 *	DATA	[data_offset, +data_bytes)	writable with IPCDOOR_RIGHT_WRITE
 *
 * Only MAP_SHARED; a mapping lies within one of the three kinds.
 */
struct ipcdoor_endpoint_info {
	__u64 state_offset;
	__u64 state_bytes;
	__u64 slot_offset;
	__u64 slot_bytes;	/* of each slot */
	__u64 data_offset;
	__u64 data_bytes;	/* now; GROW may raise it */
	__u64 max_data_bytes;
	__u32 slots;
	__u32 slot;		/* this endpoint's own */
	__u32 generation;	/* of this endpoint's slot */
	__u32 source;		/* never AUTO */
	__u32 rights;		/* IPCDOOR_RIGHT_* */
	__u32 flags;		/* IPCDOOR_ENDPOINT_* */
};

#define IPCDOOR_RIGHT_READ	(1U << 0)	/* map pages, wait, ring */
#define IPCDOOR_RIGHT_WRITE	(1U << 1)	/* map DATA writable, GROW */
#define IPCDOOR_RIGHT_SEAL	(1U << 2)	/* SEAL; the creator's */

#define IPCDOOR_ENDPOINT_STAMPS		(1U << 0)
#define IPCDOOR_ENDPOINT_CONNECTION	(1U << 1)

/* CREATE, on a door: a new segment; the caller gets slot 0 */
struct ipcdoor_create {
	__u64 data_bytes;	/* multiple of page_bytes, may be 0 */
	__u64 max_data_bytes;	/* GROW's limit; 0: data_bytes */
	__u64 slot_bytes;	/* multiple of page_bytes, 0: page_bytes */
	__u32 slots;		/* 2 .. IPCDOOR_MAX_SLOTS */
	__u32 source;		/* IPCDOOR_SOURCE_* */
	__u32 flags;		/* IPCDOOR_CREATE_* */
	__u32 mode;		/* permission bits 0666, as of a file's name */
	__u32 uid;		/* owner of the name, or ~0: the caller's */
	__u32 gid;		/* group of the name, or ~0: the caller's */
	char name[IPCDOOR_NAME_MAX];	/* "" is anonymous: attach by fd only */
	struct ipcdoor_endpoint_info info;	/* out */
};

#define IPCDOOR_CREATE_STAMPS	(1U << 0)	/* stage stamps in STATE */
#define IPCDOOR_CREATE_NONBLOCK	(1U << 1)	/* O_NONBLOCK on the endpoint */

/*
 * ATTACH, on a door: to a name, or to the segment of an endpoint fd.
 *
 * A name is LABEL or UID/LABEL with LABEL of [A-Za-z0-9._-], not starting with
 * a dot.  Each user's labels are their own: nobody can take another's.  A bare
 * LABEL means the caller's own, and where there is none, root's.
 */
struct ipcdoor_attach {
	char name[IPCDOOR_NAME_MAX];	/* "" with fd */
	__s32 fd;		/* an endpoint; -1 with a name */
	__u32 flags;		/* IPCDOOR_ATTACH_* */
	__u32 rights;		/* IPCDOOR_RIGHT_READ, with WRITE if wanted */
	__u32 slot;		/* a certain one, or IPCDOOR_ANY_SLOT */
	struct ipcdoor_endpoint_info info;	/* out */
};

#define IPCDOOR_ANY_SLOT	(~(__u32)0)
#define IPCDOOR_ATTACH_NONBLOCK	(1U << 0)

/* LISTEN, on a door: accept connections by name */
struct ipcdoor_listen {
	char name[IPCDOOR_NAME_MAX];
	__u64 slot_bytes;	/* of each connection, as in CREATE */
	__u64 data_bytes;	/* of each connection, as in CREATE */
	__u32 source;
	__u32 flags;		/* IPCDOOR_LISTEN_* */
	__u32 mode;		/* connecting needs the write bit */
	__u32 uid;
	__u32 gid;
	__u32 backlog;		/* 1 .. IPCDOOR_MAX_BACKLOG, not yet accepted */
};

#define IPCDOOR_LISTEN_STAMPS	(1U << 0)
#define IPCDOOR_LISTEN_NONBLOCK	(1U << 1)	/* O_NONBLOCK on the listener */

/*
 * CONNECT, on a door.  Returns once the connection is queued (waiting for room
 * in the backlog until the deadline); the peer's slot is IPCDOOR_SLOT_PENDING
 * until ACCEPT, which rings vector 0.  Rings before that are counted.
 */
struct ipcdoor_connect {
	char name[IPCDOOR_NAME_MAX];
	__u64 deadline_ns;
	/* refuse (EMSGSIZE) a listener that wants more pages in all; 0: any */
	__u64 max_bytes;
	__u32 flags;		/* IPCDOOR_CONNECT_* */
	__u32 server_uid;	/* with IPCDOOR_CONNECT_UID */
	struct ipcdoor_endpoint_info info;	/* out */
};

#define IPCDOOR_CONNECT_NONBLOCK (1U << 0)	/* O_NONBLOCK on the endpoint */
/* EPERM unless the listener's owner is server_uid */
#define IPCDOOR_CONNECT_UID	(1U << 1)

/* ACCEPT, on a listener */
struct ipcdoor_accept {
	__u64 deadline_ns;
	__u32 flags;		/* IPCDOOR_ACCEPT_* */
	__u32 pad;
	struct ipcdoor_endpoint_info info;	/* out */
};

#define IPCDOOR_ACCEPT_NONBLOCK	(1U << 0)	/* O_NONBLOCK on the endpoint */

/*
 * RING, on an endpoint: count one event on a peer's vector and deliver it.
 * Rings coalesce in delivery, never in the count.
 */
struct ipcdoor_ring {
	__u32 slot;		/* the peer's, or the caller's own */
	__u32 vector;		/* 1 .. IPCDOOR_VECTORS - 1 */
	__u32 generation;	/* of the peer's slot; 0: any; else ESTALE */
	__u32 flags;		/* 0 */
	__u64 value;		/* the latest value is kept for WAIT */
};

/*
 * WAIT, on an endpoint: until a vector of the mask is pending.
 *
 * Without `seen` pending means rung and not acknowledged; IPCDOOR_WAIT_ACK
 * acknowledges what is returned, so each ring goes to one such waiter, the one
 * that came first.  With `seen` it means that the vector's count
 * differs from seen[vector]; the caller keeps its own books, several threads
 * can each see every ring, and seen[] is brought up to date for the vectors
 * returned.  A connection whose peer is dead fails with EPIPE once nothing is
 * pending.
 */
struct ipcdoor_wait {
	__u64 mask;		/* of vectors, not 0 */
	__u64 deadline_ns;
	__u64 seen;		/* user address of __u64[IPCDOOR_VECTORS], or 0 */
	__u32 flags;		/* IPCDOOR_WAIT_* */
	__u32 pad;
	__u64 fired;		/* out: the pending vectors of the mask */
	__u64 count;		/* out: rings since seen/acked, all of fired */
	__u64 value;		/* out: latest value of fired's lowest vector */
};

#define IPCDOOR_WAIT_ACK	(1U << 0)	/* not with seen */

/*
 * RING_WAIT, on an endpoint: RING, then WAIT.  EINTR and ETIMEDOUT mean that
 * the ring was done; go on with WAIT.
 */
struct ipcdoor_ring_wait {
	struct ipcdoor_ring ring;
	struct ipcdoor_wait wait;
};

/*
 * BIND_EVENTFD, on an endpoint: signal an eventfd at each delivery of a vector
 * of the mask.  Its count is one of deliveries; the exact counts are WAIT's.
 */
struct ipcdoor_bind_eventfd {
	__u64 mask;
	__s32 fd;		/* -1 unbinds */
	__u32 flags;		/* 0 */
};

/*
 * BIND_SIGNAL, on an endpoint: send the calling thread a signal at each ring of
 * a vector of the mask, with si_code SI_QUEUE, si_pid and si_uid of the ringer
 * in the thread's namespaces and si_value the ring's value.
 */
struct ipcdoor_bind_signal {
	__u64 mask;
	__u32 signo;		/* 0 unbinds; not SIGKILL, not SIGSTOP */
	__u32 flags;		/* 0 */
};

/* PEER_INFO, on an endpoint: captured by the kernel when the peer attached */
struct ipcdoor_peer_info {
	__u32 slot;		/* in */
	__u32 flags;		/* in: 0 */
	__u32 state;		/* out: IPCDOOR_SLOT_* */
	__u32 generation;	/* out */
	__s32 pid;		/* out: 0 if it has none in the caller's namespace */
	__u32 uid;		/* out: effective, in the caller's namespace */
	__u32 gid;		/* out: effective, in the caller's namespace */
	__u32 rights;		/* out: IPCDOOR_RIGHT_* */
};

/* SEAL, on an endpoint with IPCDOOR_RIGHT_SEAL; seals are never taken back */
struct ipcdoor_seal {
	__u32 add;		/* IPCDOOR_SEAL_*, 0 only asks */
	__u32 flags;		/* 0 */
	__u32 seals;		/* out: all seals now */
	__u32 pad;
};

#define IPCDOOR_SEAL_SEAL	(1U << 0)	/* no further seals */
#define IPCDOOR_SEAL_GROW	(1U << 1)	/* DATA keeps its size */
/* DATA is read-only for all; EBUSY while a writable mapping exists */
#define IPCDOOR_SEAL_WRITE	(1U << 2)
#define IPCDOOR_SEAL_FUTURE_WRITE (1U << 3)	/* no new writable mapping */

/* GROW, on an endpoint with IPCDOOR_RIGHT_WRITE: moves nobody's data */
struct ipcdoor_grow {
	__u64 data_bytes;	/* the new size, never smaller; out: the size */
	__u32 flags;		/* 0 */
	__u32 pad;
};

#define IPCDOOR_IOC_MAGIC		0xDE
#define IPCDOOR_IOC_GET_INFO		_IOWR(IPCDOOR_IOC_MAGIC, 0x00, struct ipcdoor_info)
#define IPCDOOR_IOC_CREATE		_IOWR(IPCDOOR_IOC_MAGIC, 0x01, struct ipcdoor_create)
#define IPCDOOR_IOC_ATTACH		_IOWR(IPCDOOR_IOC_MAGIC, 0x02, struct ipcdoor_attach)
#define IPCDOOR_IOC_LISTEN		_IOW(IPCDOOR_IOC_MAGIC, 0x03, struct ipcdoor_listen)
#define IPCDOOR_IOC_CONNECT		_IOWR(IPCDOOR_IOC_MAGIC, 0x04, struct ipcdoor_connect)
#define IPCDOOR_IOC_ACCEPT		_IOWR(IPCDOOR_IOC_MAGIC, 0x05, struct ipcdoor_accept)
#define IPCDOOR_IOC_ENDPOINT_INFO	_IOR(IPCDOOR_IOC_MAGIC, 0x06, struct ipcdoor_endpoint_info)
#define IPCDOOR_IOC_RING		_IOW(IPCDOOR_IOC_MAGIC, 0x07, struct ipcdoor_ring)
#define IPCDOOR_IOC_WAIT		_IOWR(IPCDOOR_IOC_MAGIC, 0x08, struct ipcdoor_wait)
#define IPCDOOR_IOC_RING_WAIT		_IOWR(IPCDOOR_IOC_MAGIC, 0x09, struct ipcdoor_ring_wait)
#define IPCDOOR_IOC_BIND_EVENTFD	_IOW(IPCDOOR_IOC_MAGIC, 0x0A, struct ipcdoor_bind_eventfd)
#define IPCDOOR_IOC_BIND_SIGNAL		_IOW(IPCDOOR_IOC_MAGIC, 0x0B, struct ipcdoor_bind_signal)
#define IPCDOOR_IOC_PEER_INFO		_IOWR(IPCDOOR_IOC_MAGIC, 0x0C, struct ipcdoor_peer_info)
#define IPCDOOR_IOC_SEAL		_IOWR(IPCDOOR_IOC_MAGIC, 0x0D, struct ipcdoor_seal)
#define IPCDOOR_IOC_GROW		_IOWR(IPCDOOR_IOC_MAGIC, 0x0E, struct ipcdoor_grow)

/*
 * The STATE pages: struct ipcdoor_state, then one struct ipcdoor_slot_state for
 * each slot.  Written by the kernel alone; every 64-bit field is read and
 * written whole.
 */
#define IPCDOOR_STATE_MAGIC	0x31524f4f44435049ULL	/* "IPCDOOR1" */

struct ipcdoor_state {
	__u64 magic;
	__u32 abi_version;
	__u32 slots;
	__u32 slot_state_offset;	/* from the start of STATE, bytes */
	__u32 slot_state_bytes;		/* of each; may grow in later versions */
	__u32 seals;
	__u32 source;
	__u64 data_bytes;
	__u64 pad[11];
};

/* states of a slot */
#define IPCDOOR_SLOT_EMPTY	0	/* never used */
#define IPCDOOR_SLOT_PENDING	1	/* a connection waits for ACCEPT */
#define IPCDOOR_SLOT_ALIVE	2
#define IPCDOOR_SLOT_DEAD	3	/* until the slot is attached again */

/*
 * Stages of the last delivery, when the segment asked for stamps.  Valid if
 * `sequence` is even and the same before and after reading the rest; it grows
 * by 2 with each delivery.  Times are CLOCK_MONOTONIC nanoseconds.
 */
struct ipcdoor_stamps {
	__u64 sequence;
	__u64 ring_ns;		/* RING counted the first ring of the delivery */
	__u64 handler_ns;	/* the handler (DIRECT: the ringer) took it up */
	__u64 wake_ns;		/* the waiters were made runnable */
	__u32 ring_cpu;
	__u32 handler_cpu;
	__u32 flags;		/* IPCDOOR_STAMP_* */
	__u32 source;		/* that delivered it */
};

#define IPCDOOR_STAMP_HARDIRQ	(1U << 0)	/* handler ran in hard interrupt context */
#define IPCDOOR_STAMP_WOKE	(1U << 1)	/* at least one waiter was woken */

struct ipcdoor_slot_state {
	__u32 state;		/* IPCDOOR_SLOT_* */
	__u32 generation;	/* grows by one at each attachment and at each death */
	__u64 rings;		/* received, all vectors */
	__u64 deliveries;	/* handler runs */
	__u64 interrupts;	/* deliveries in hard interrupt context */
	__u64 coalesced;	/* rings that found a delivery under way */
	__u64 suppressed;	/* rings that found nobody to deliver to */
	__u64 wakes;		/* waiters made runnable */
	__u64 spurious;		/* waiters that woke and found nothing */
	__u64 timeouts;		/* waits that reached their deadline */
	__u64 waits;		/* waits that slept */
	__u64 limited;		/* deliveries without one: the ringer's user had spent its share */
	__u64 pad[5];
	__u64 rung[IPCDOOR_VECTORS];
	struct ipcdoor_stamps stamps;
	__u64 pad2[42];
};

#endif /* _UAPI_LINUX_IPCDOOR_H */
