/* SPDX-License-Identifier: GPL-2.0 */
/* Segments: shared pages, their slots, and who sits in them. */
#ifndef IPCDOOR_SEGMENT_H
#define IPCDOOR_SEGMENT_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/types.h>
#include <linux/uidgid.h>

#include <linux/ipcdoor.h>

#include "name.h"

struct ipcdoor_endpoint;
struct ipcdoor_source;
struct ipcdoor_user;

/**
 * struct ipcdoor_slot - a place in a segment
 * @ep: who sits there, with a reference; read under RCU, written under seg->lock
 * @state: IPCDOOR_SLOT_*
 * @generation: grows by one at each attachment and each death, never 0 after
 * @reserved: somebody prepares its pages to sit down there
 * @pid, @uid, @gid, @rights: of the latest endpoint, for PEER_INFO
 *
 * All but @ep are protected by seg->lock.
 */
struct ipcdoor_slot {
	struct ipcdoor_endpoint __rcu *ep;
	u32 state;
	u32 generation;
	bool reserved;
	struct pid *pid;
	kuid_t uid;
	kgid_t gid;
	u32 rights;
};

/**
 * struct ipcdoor_segment - shared pages with slots
 * @refs: one for each endpoint object, and short-lived ones
 * @lock: protects the slots, @seals, @live, @name, @ended, @source_gone and
 *	changes of @data_bytes.  Taken inside mmap_lock, so nothing under it may
 *	touch user memory.
 * @grow_lock: one GROW, or the reclaim at the end, at a time; taken outside of
 *	@lock, and never by whoever holds mmap_lock
 * @link: in the list of all segments, until it ended
 * @shm: the pages, STATE then SLOTs then DATA, at the offsets of mmap()
 * @state: STATE in the kernel's address space
 * @state_pages: what @state maps
 * @data_bytes: current size of DATA; changed under both locks, read without by
 *	faults
 * @writable_maps: mappings of DATA that may be written
 * @live: endpoints seated and not dead
 * @ended: the last endpoint has died; pages and name are gone
 * @source_gone: its interrupt source was unplugged
 * @user: who is charged for @charged_bytes
 * @flags: IPCDOOR_ENDPOINT_*
 * @slots: the slots, @nr_slots of them
 */
struct ipcdoor_segment {
	refcount_t refs;
	struct mutex lock;	/* see above */
	struct mutex grow_lock;	/* see above */
	struct list_head link;

	struct file *shm;
	struct ipcdoor_state *state;
	struct page **state_pages;
	u64 state_bytes;
	u64 slot_offset;
	u64 slot_bytes;
	u64 data_offset;
	u64 data_bytes;
	u64 max_data_bytes;

	const struct ipcdoor_source *source;
	struct ipcdoor_name *name;
	struct ipcdoor_user *user;
	u64 charged_bytes;
	u32 flags;
	u32 seals;
	u32 live;
	bool ended;
	bool source_gone;
	atomic_t writable_maps;

	u32 nr_slots;
	struct ipcdoor_slot slots[];
};

struct ipcdoor_layout {
	u64 data_bytes;
	u64 max_data_bytes;	/* 0: data_bytes */
	u64 slot_bytes;		/* 0: a page */
	u32 slots;
};

/* Completes the defaults; -EINVAL for sizes and counts out of range. */
int ipcdoor_layout_check(struct ipcdoor_layout *layout);

/* All pages of a segment of this layout, its STATE included, bytes. */
u64 ipcdoor_layout_bytes(const struct ipcdoor_layout *layout);

u64 ipcdoor_segment_max_bytes(void);

/*
 * A segment without endpoints, its pages allocated and charged to the caller;
 * @layout is checked.  ERR_PTR: -EINVAL, -ENODEV (source), -EDQUOT, -ENOMEM,
 * -EINTR.
 */
struct ipcdoor_segment *ipcdoor_segment_create(const struct ipcdoor_layout *layout,
					       u32 source, u32 flags);
struct ipcdoor_segment *ipcdoor_segment_get(struct ipcdoor_segment *seg);
void ipcdoor_segment_put(struct ipcdoor_segment *seg);

/*
 * Gives the segment a name, once its creator is seated, so that nobody gets in
 * before.  -ENODEV where its source was unplugged meanwhile, and
 * ipcdoor_name_add()'s errors.
 */
int ipcdoor_segment_name(struct ipcdoor_segment *seg, const char *text,
			 const struct ipcdoor_access *access);

/*
 * Seats @ep, fresh from ipcdoor_endpoint_create(), in @slot or
 * IPCDOOR_ANY_SLOT with @state PENDING or ALIVE, and tells the others.
 * -EINVAL no such slot, -EBUSY taken, -ENOSPC none free, -EPIPE the segment
 * has ended, -ENODEV its source is gone, -ENOMEM, -EINTR.
 */
int ipcdoor_segment_seat(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep,
			 u32 slot, u32 state);

/* A pending endpoint was accepted by the caller, its owner; -EPIPE if it died. */
int ipcdoor_segment_accept(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep);

/* The death of @ep: frees its slot, tells the others, ends an empty segment. */
void ipcdoor_segment_unseat(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep);

/* Kills the endpoints of every segment that uses @source. */
void ipcdoor_segments_kill_source(const struct ipcdoor_source *source);

/* SEAL: *seals is all of them afterwards.  -EINVAL, -EPERM sealed, -EBUSY. */
int ipcdoor_segment_seal(struct ipcdoor_segment *seg, u32 add, u32 *seals);

/* GROW: -EINVAL, -EFBIG, -EPERM sealed, -EDQUOT, -ENOMEM, -EINTR. */
int ipcdoor_segment_grow(struct ipcdoor_segment *seg, u64 data_bytes);

void ipcdoor_segment_peer_info(struct ipcdoor_segment *seg, struct ipcdoor_peer_info *info);

/* The slot's part of STATE; @slot is in range. */
struct ipcdoor_slot_state *ipcdoor_segment_slot_state(struct ipcdoor_segment *seg, u32 slot);

/* One past the last byte of STATE, SLOTs and DATA. */
static inline u64 ipcdoor_segment_bytes(const struct ipcdoor_segment *seg)
{
	return seg->data_offset + READ_ONCE(seg->data_bytes);
}

#endif /* IPCDOOR_SEGMENT_H */
