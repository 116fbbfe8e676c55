// SPDX-License-Identifier: GPL-2.0
/*
 * A segment lives from its creation to the death of its last endpoint; then it
 * has ended: its name is free, its pages are taken away from whoever still maps
 * them, and only the shell remains until the last descriptor is closed.
 *
 * A slot that had an endpoint before gets fresh pages: a page that the dead one
 * still has pinned somewhere is no way to its successor's slot.
 *
 * Lock order: mmap_lock > seg->lock > names lock, ep->lock.
 * ipcdoor_segments_lock protects the list of segments and is taken inside none
 * of them but seg->lock.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/slab.h>

#include "doorbell.h"
#include "endpoint.h"
#include "mmap.h"
#include "pages.h"
#include "quota.h"
#include "segment.h"
#include "source.h"

static ulong max_bytes = 1UL << 30;
module_param(max_bytes, ulong, 0644);
MODULE_PARM_DESC(max_bytes, "bytes of one segment, all its pages together (default 1 GiB)");

static LIST_HEAD(ipcdoor_segments);
static DEFINE_MUTEX(ipcdoor_segments_lock);

u64 ipcdoor_segment_max_bytes(void)
{
	return READ_ONCE(max_bytes);
}

/* ---- layout ---- */

static u64 ipcdoor_layout_state_bytes(u32 slots)
{
	return PAGE_ALIGN(sizeof(struct ipcdoor_state) +
			  (u64)slots * sizeof(struct ipcdoor_slot_state));
}

u64 ipcdoor_layout_bytes(const struct ipcdoor_layout *layout)
{
	return ipcdoor_layout_state_bytes(layout->slots) +
	       layout->slots * layout->slot_bytes + layout->data_bytes;
}

int ipcdoor_layout_check(struct ipcdoor_layout *layout)
{
	u64 limit = ipcdoor_segment_max_bytes();

	if (!layout->slot_bytes)
		layout->slot_bytes = PAGE_SIZE;
	if (!layout->max_data_bytes)
		layout->max_data_bytes = layout->data_bytes;
	if (layout->slots < 2 || layout->slots > IPCDOOR_MAX_SLOTS)
		return -EINVAL;
	if (!PAGE_ALIGNED(layout->slot_bytes) || !PAGE_ALIGNED(layout->data_bytes) ||
	    !PAGE_ALIGNED(layout->max_data_bytes))
		return -EINVAL;
	/* each is bounded first, so that the sum cannot overflow */
	if (layout->slot_bytes > limit || layout->max_data_bytes > limit ||
	    layout->data_bytes > layout->max_data_bytes)
		return -EINVAL;
	if (ipcdoor_layout_state_bytes(layout->slots) +
	    layout->slots * layout->slot_bytes + layout->max_data_bytes > limit)
		return -EINVAL;
	return 0;
}

struct ipcdoor_slot_state *ipcdoor_segment_slot_state(struct ipcdoor_segment *seg, u32 slot)
{
	return (struct ipcdoor_slot_state *)(seg->state + 1) + slot;
}

/* ---- create and end ---- */

/* Enters the list together with the choice, so that unplugging finds it. */
static int ipcdoor_segment_register(struct ipcdoor_segment *seg, u32 source)
{
	int err;

	mutex_lock(&ipcdoor_segments_lock);
	seg->source = ipcdoor_source_choose(source);
	err = PTR_ERR_OR_ZERO(seg->source);
	if (!err)
		list_add(&seg->link, &ipcdoor_segments);
	mutex_unlock(&ipcdoor_segments_lock);
	return err;
}

static void ipcdoor_segment_unregister(struct ipcdoor_segment *seg)
{
	mutex_lock(&ipcdoor_segments_lock);
	list_del_init(&seg->link);
	mutex_unlock(&ipcdoor_segments_lock);
}

static void ipcdoor_segment_end(struct ipcdoor_segment *seg)
{
	lockdep_assert_held(&seg->lock);
	seg->ended = true;
	ipcdoor_name_remove(seg->name);
	seg->name = NULL;
	ipcdoor_segment_unregister(seg);
}

/*
 * After the end, without the lock.  Nobody writes STATE any more: only living
 * endpoints and a segment that has not ended do.
 */
static void ipcdoor_segment_reclaim(struct ipcdoor_segment *seg)
{
	ipcdoor_pages_reclaim(seg);
	ipcdoor_user_uncharge_bytes(seg->user, seg->charged_bytes);
	seg->charged_bytes = 0;
}

struct ipcdoor_segment *ipcdoor_segment_create(const struct ipcdoor_layout *layout,
					       u32 source, u32 flags)
{
	u64 bytes = ipcdoor_layout_bytes(layout);
	struct ipcdoor_segment *seg;
	int err;

	seg = kvzalloc(struct_size(seg, slots, layout->slots), GFP_KERNEL_ACCOUNT);
	if (!seg)
		return ERR_PTR(-ENOMEM);
	refcount_set(&seg->refs, 1);
	mutex_init(&seg->lock);
	mutex_init(&seg->grow_lock);
	INIT_LIST_HEAD(&seg->link);
	seg->nr_slots = layout->slots;
	seg->flags = flags;
	seg->state_bytes = ipcdoor_layout_state_bytes(layout->slots);
	seg->slot_offset = seg->state_bytes;
	seg->slot_bytes = layout->slot_bytes;
	seg->data_offset = seg->slot_offset + layout->slots * layout->slot_bytes;
	seg->data_bytes = layout->data_bytes;
	seg->max_data_bytes = layout->max_data_bytes;

	seg->user = ipcdoor_user_get(current_euid());
	if (IS_ERR(seg->user)) {
		err = PTR_ERR(seg->user);
		goto err_user;
	}
	err = ipcdoor_user_charge_bytes(seg->user, bytes);
	if (err)
		goto err_charge;
	seg->charged_bytes = bytes;

	err = ipcdoor_pages_create(seg);
	if (err)
		goto err_pages;
	/* last: from here on unplugging may find it */
	err = ipcdoor_segment_register(seg, source);
	if (err)
		goto err_register;
	seg->state->source = seg->source->id;
	return seg;

err_register:
	ipcdoor_pages_destroy(seg);
err_pages:
	ipcdoor_user_uncharge_bytes(seg->user, bytes);
err_charge:
	ipcdoor_user_put(seg->user);
err_user:
	kvfree(seg);
	return ERR_PTR(err);
}

struct ipcdoor_segment *ipcdoor_segment_get(struct ipcdoor_segment *seg)
{
	refcount_inc(&seg->refs);
	return seg;
}

void ipcdoor_segment_put(struct ipcdoor_segment *seg)
{
	u32 i;

	if (!refcount_dec_and_test(&seg->refs))
		return;
	/* one whose creation failed half-way never had an endpoint to end it */
	if (!seg->ended) {
		mutex_lock(&seg->lock);
		ipcdoor_segment_end(seg);
		mutex_unlock(&seg->lock);
		ipcdoor_segment_reclaim(seg);
	}
	for (i = 0; i < seg->nr_slots; i++)
		put_pid(seg->slots[i].pid);
	ipcdoor_pages_destroy(seg);
	ipcdoor_user_put(seg->user);
	mutex_destroy(&seg->grow_lock);
	mutex_destroy(&seg->lock);
	kvfree(seg);
}

int ipcdoor_segment_name(struct ipcdoor_segment *seg, const char *text,
			 const struct ipcdoor_access *access)
{
	struct ipcdoor_name *name;

	name = ipcdoor_name_add(text, IPCDOOR_NAME_SEGMENT, seg, access);
	if (IS_ERR(name))
		return PTR_ERR(name);
	mutex_lock(&seg->lock);
	/* its creator, who is here, sits in it: only unplugging ends it */
	if (seg->ended) {
		mutex_unlock(&seg->lock);
		ipcdoor_name_remove(name);
		return -ENODEV;
	}
	seg->name = name;
	mutex_unlock(&seg->lock);
	return 0;
}

/* ---- seats ---- */

static void ipcdoor_segment_tell_others(struct ipcdoor_segment *seg,
					const struct ipcdoor_endpoint *self,
					enum ipcdoor_lifecycle what)
{
	struct ipcdoor_endpoint *ep;
	u32 i;

	for (i = 0; i < seg->nr_slots; i++) {
		ep = rcu_dereference_protected(seg->slots[i].ep, lockdep_is_held(&seg->lock));
		if (ep && ep != self)
			ipcdoor_doorbell_lifecycle(ep, what);
	}
}

static u32 ipcdoor_generation_next(u32 generation)
{
	return generation + 1 ? generation + 1 : 1;
}

static void ipcdoor_slot_publish(struct ipcdoor_segment *seg, u32 i, u32 state)
{
	struct ipcdoor_slot_state *shown = ipcdoor_segment_slot_state(seg, i);

	seg->slots[i].state = state;
	WRITE_ONCE(shown->generation, seg->slots[i].generation);
	/* who reads the state sees its generation */
	smp_store_release(&shown->state, state);
}

static void ipcdoor_slot_identify(struct ipcdoor_slot *slot, const struct ipcdoor_endpoint *ep)
{
	put_pid(slot->pid);
	slot->pid = get_task_pid(current, PIDTYPE_TGID);
	slot->uid = current_euid();
	slot->gid = current_egid();
	slot->rights = ep->rights;
}

static bool ipcdoor_slot_taken(const struct ipcdoor_slot *slot)
{
	return slot->reserved || rcu_access_pointer(slot->ep);
}

static int ipcdoor_segment_pick(struct ipcdoor_segment *seg, u32 wanted)
{
	u32 i;

	if (wanted != IPCDOOR_ANY_SLOT) {
		if (wanted >= seg->nr_slots)
			return -EINVAL;
		return ipcdoor_slot_taken(&seg->slots[wanted]) ? -EBUSY : wanted;
	}
	for (i = 0; i < seg->nr_slots; i++)
		if (!ipcdoor_slot_taken(&seg->slots[i]))
			return i;
	return -ENOSPC;
}

/* A free slot that nobody else will get; its number. */
static int ipcdoor_segment_reserve(struct ipcdoor_segment *seg, u32 wanted)
{
	int i;

	mutex_lock(&seg->lock);
	if (seg->source_gone)
		i = -ENODEV;
	else if (seg->ended)
		i = -EPIPE;
	else
		i = ipcdoor_segment_pick(seg, wanted);
	if (i >= 0)
		seg->slots[i].reserved = true;
	mutex_unlock(&seg->lock);
	return i;
}

/* New pages for a slot that had an endpoint before; reserved, without the lock. */
static int ipcdoor_segment_refresh_slot(struct ipcdoor_segment *seg, u32 i)
{
	u64 from = seg->slot_offset + i * seg->slot_bytes;

	if (seg->slots[i].state == IPCDOOR_SLOT_EMPTY)
		return 0;
	ipcdoor_pages_release(seg, from, from + seg->slot_bytes);
	return ipcdoor_pages_populate(seg, from, from + seg->slot_bytes);
}

int ipcdoor_segment_seat(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep,
			 u32 wanted, u32 state)
{
	struct ipcdoor_slot *slot;
	int err, i;

	i = ipcdoor_segment_reserve(seg, wanted);
	if (i < 0)
		return i;
	slot = &seg->slots[i];
	err = ipcdoor_segment_refresh_slot(seg, i);

	mutex_lock(&seg->lock);
	slot->reserved = false;
	if (!err && seg->source_gone)
		err = -ENODEV;
	if (!err && seg->ended)
		err = -EPIPE;
	if (err)
		goto out;

	memset(ipcdoor_segment_slot_state(seg, i), 0, sizeof(struct ipcdoor_slot_state));
	slot->generation = ipcdoor_generation_next(slot->generation);
	if (state == IPCDOOR_SLOT_ALIVE)
		ipcdoor_slot_identify(slot, ep);
	ep->slot = i;
	ep->generation = slot->generation;
	ep->state = ipcdoor_segment_slot_state(seg, i);
	ep->had_peers = seg->live > 0;
	rcu_assign_pointer(slot->ep, ipcdoor_endpoint_get(ep));
	seg->live++;
	ipcdoor_slot_publish(seg, i, state);
	ipcdoor_segment_tell_others(seg, ep, IPCDOOR_PEER_JOINED);
out:
	mutex_unlock(&seg->lock);
	/* it ended while the pages were made: nobody else gives them back */
	if (err == -EPIPE || err == -ENODEV)
		ipcdoor_pages_release(seg, seg->slot_offset + i * seg->slot_bytes,
				      seg->slot_offset + (i + 1) * seg->slot_bytes);
	return err;
}

int ipcdoor_segment_accept(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep)
{
	int err = -EPIPE;

	mutex_lock(&seg->lock);
	if (!ipcdoor_endpoint_died(ep)) {
		ipcdoor_slot_identify(&seg->slots[ep->slot], ep);
		ipcdoor_slot_publish(seg, ep->slot, IPCDOOR_SLOT_ALIVE);
		ipcdoor_segment_tell_others(seg, ep, IPCDOOR_PEER_JOINED);
		err = 0;
	}
	mutex_unlock(&seg->lock);
	return err;
}

void ipcdoor_segment_unseat(struct ipcdoor_segment *seg, struct ipcdoor_endpoint *ep)
{
	struct ipcdoor_slot *slot = &seg->slots[ep->slot];
	bool last;

	mutex_lock(&seg->lock);
	RCU_INIT_POINTER(slot->ep, NULL);
	slot->generation = ipcdoor_generation_next(slot->generation);
	ipcdoor_slot_publish(seg, ep->slot, IPCDOOR_SLOT_DEAD);
	last = !--seg->live;
	if (last)
		ipcdoor_segment_end(seg);
	else
		ipcdoor_segment_tell_others(seg, ep, IPCDOOR_PEER_DIED);
	mutex_unlock(&seg->lock);
	if (last) {
		/* whoever is growing it gives back what came too late */
		mutex_lock(&seg->grow_lock);
		ipcdoor_segment_reclaim(seg);
		mutex_unlock(&seg->grow_lock);
	}
	ipcdoor_endpoint_put(ep);
}

/* ---- unplugging ---- */

static struct ipcdoor_segment *ipcdoor_segment_next_of(const struct ipcdoor_source *source)
{
	struct ipcdoor_segment *seg;

	mutex_lock(&ipcdoor_segments_lock);
	list_for_each_entry(seg, &ipcdoor_segments, link) {
		if (seg->source == source && !READ_ONCE(seg->source_gone) &&
		    refcount_inc_not_zero(&seg->refs)) {
			WRITE_ONCE(seg->source_gone, true);
			goto out;
		}
	}
	seg = NULL;
out:
	mutex_unlock(&ipcdoor_segments_lock);
	return seg;
}

void ipcdoor_segments_kill_source(const struct ipcdoor_source *source)
{
	struct ipcdoor_endpoint *ep;
	struct ipcdoor_segment *seg;
	u32 i;

	while ((seg = ipcdoor_segment_next_of(source))) {
		for (i = 0; i < seg->nr_slots; i++) {
			mutex_lock(&seg->lock);
			ep = rcu_dereference_protected(seg->slots[i].ep,
						       lockdep_is_held(&seg->lock));
			if (ep)
				ipcdoor_endpoint_get(ep);
			mutex_unlock(&seg->lock);
			if (!ep)
				continue;
			ipcdoor_endpoint_die(ep);
			/* unlike in the other deaths its owner goes on running */
			ipcdoor_mmap_revoke(seg);
			ipcdoor_endpoint_put(ep);
		}
		ipcdoor_segment_put(seg);
	}
}

/* ---- calls on a segment ---- */

int ipcdoor_segment_seal(struct ipcdoor_segment *seg, u32 add, u32 *seals)
{
	int err = 0;

	if (add & ~(IPCDOOR_SEAL_SEAL | IPCDOOR_SEAL_GROW | IPCDOOR_SEAL_WRITE |
		    IPCDOOR_SEAL_FUTURE_WRITE))
		return -EINVAL;
	mutex_lock(&seg->lock);
	if (seg->ended) {
		err = -ESHUTDOWN;
	} else if (add && (seg->seals & IPCDOOR_SEAL_SEAL)) {
		err = -EPERM;
	} else if ((add & IPCDOOR_SEAL_WRITE) && atomic_read(&seg->writable_maps)) {
		err = -EBUSY;
	} else {
		if (add & ~seg->seals) {
			seg->seals |= add;
			WRITE_ONCE(seg->state->seals, seg->seals);
			ipcdoor_segment_tell_others(seg, NULL, IPCDOOR_SEGMENT_CHANGED);
		}
		*seals = seg->seals;
	}
	mutex_unlock(&seg->lock);
	return err;
}

static int ipcdoor_segment_may_grow(const struct ipcdoor_segment *seg)
{
	lockdep_assert_held(&seg->lock);
	if (seg->ended)
		return -EPIPE;
	return seg->seals & IPCDOOR_SEAL_GROW ? -EPERM : 0;
}

/* Under grow_lock alone, which nobody holds mmap_lock or seg->lock for. */
static int ipcdoor_segment_add_data(struct ipcdoor_segment *seg, u64 data_bytes)
{
	u64 from = seg->data_offset + seg->data_bytes;
	u64 added = data_bytes - seg->data_bytes;
	int err;

	mutex_lock(&seg->lock);
	err = ipcdoor_segment_may_grow(seg);
	mutex_unlock(&seg->lock);
	if (err)
		return err;
	err = ipcdoor_user_charge_bytes(seg->user, added);
	if (err)
		return err;
	err = ipcdoor_pages_populate(seg, from, from + added);
	if (err)
		goto err_charge;

	/* it may have ended or been sealed while the pages were made */
	mutex_lock(&seg->lock);
	err = ipcdoor_segment_may_grow(seg);
	if (!err) {
		seg->charged_bytes += added;
		WRITE_ONCE(seg->data_bytes, data_bytes);
		WRITE_ONCE(seg->state->data_bytes, data_bytes);
		ipcdoor_segment_tell_others(seg, NULL, IPCDOOR_SEGMENT_CHANGED);
	}
	mutex_unlock(&seg->lock);
	if (!err)
		return 0;

	ipcdoor_pages_release(seg, from, from + added);
err_charge:
	ipcdoor_user_uncharge_bytes(seg->user, added);
	return err;
}

int ipcdoor_segment_grow(struct ipcdoor_segment *seg, u64 data_bytes)
{
	int err = 0;

	if (!PAGE_ALIGNED(data_bytes))
		return -EINVAL;
	if (data_bytes > seg->max_data_bytes)
		return -EFBIG;
	if (mutex_lock_killable(&seg->grow_lock))
		return -EINTR;
	if (data_bytes < seg->data_bytes)
		err = -EINVAL;
	else if (data_bytes > seg->data_bytes)
		err = ipcdoor_segment_add_data(seg, data_bytes);
	mutex_unlock(&seg->grow_lock);
	return err;
}

void ipcdoor_segment_peer_info(struct ipcdoor_segment *seg, struct ipcdoor_peer_info *info)
{
	const struct ipcdoor_slot *slot = &seg->slots[info->slot];
	struct user_namespace *ns = current_user_ns();

	mutex_lock(&seg->lock);
	info->state = slot->state;
	info->generation = slot->generation;
	info->pid = pid_vnr(slot->pid);
	info->uid = slot->pid ? from_kuid_munged(ns, slot->uid) : ~0U;
	info->gid = slot->pid ? from_kgid_munged(ns, slot->gid) : ~0U;
	info->rights = slot->rights;
	mutex_unlock(&seg->lock);
}
