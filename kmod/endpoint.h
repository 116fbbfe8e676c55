/* SPDX-License-Identifier: GPL-2.0 */
/* Endpoints: one address space's attachment to a segment. */
#ifndef IPCDOOR_ENDPOINT_H
#define IPCDOOR_ENDPOINT_H

#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <linux/ipcdoor.h>

struct ipcdoor_binding;
struct ipcdoor_owner;
struct ipcdoor_segment;
struct ipcdoor_source;
struct ipcdoor_user;

/**
 * struct ipcdoor_endpoint - a slot of a segment in somebody's hands
 *
 * @refs: one of the file's (or of the listener's queue), one of the slot's, and
 *	after the death one of an interrupt still under way
 * @lock: protects the doorbell; taken in hard interrupt context, below every
 *	other lock of the module and above the scheduler's
 * @dead: set once under @lock; from then on nothing is counted or delivered
 * @peer_gone: the one peer of a connection has died
 * @had_peers: there was a peer at some time, for EPOLLHUP
 * @raised: an interrupt is under way
 * @stamped: the segment asked for stage stamps
 * @source: of the segment
 * @pending: vectors with rung != acked
 * @undelivered: vectors rung since the last delivery
 * @notify: vectors delivered that the second half has not seen
 * @ring_ns, @ring_cpu: of the first ring of the delivery under way, for stamps
 * @wait_cpu: where a waiter slept last, the interrupt's target
 * @deadline, @deadline_ns: the timer that ends waits, and when it will fire;
 *	KTIME_MAX: it will not
 * @waiters, @waiter_count: struct ipcdoor_waiter by node
 * @state: this slot's part of STATE
 * @rung, @acked, @value: by vector
 *
 * @wq: pollers; lives as long as the endpoint, so longer than the file
 * @eventfd, @signal: read under RCU, replaced under @lock
 * @notify_ns: how long the second half took last, in an interrupt
 * @notify_work: the second half where hard interrupts cannot do it (PREEMPT_RT)
 * @irq: the source's
 *
 * @seg, @slot, @generation, @rights: never change once seated
 * @mm: the address space that owns it; compared, never used.  NULL: pending
 * @owner, @owner_link: see owner.c
 * @user: who is charged for it
 * @ringer: the owner's user, whose rings the budget of interrupt time limits; NULL:
 *	nothing limits them.  Set by ipcdoor_owner_adopt()
 * @died: ipcdoor_endpoint_die() has begun
 */
struct ipcdoor_endpoint {
	raw_spinlock_t lock;
	bool dead;
	bool peer_gone;
	bool had_peers;
	bool raised;
	bool stamped;
	unsigned int wait_cpu;
	u64 pending;
	u64 undelivered;
	u64 notify;
	u64 ring_ns;
	u32 ring_cpu;
	const struct ipcdoor_source *source;
	struct list_head waiters;
	u32 waiter_count;
	ktime_t deadline_ns;
	struct hrtimer deadline;
	struct ipcdoor_slot_state *state;
	struct mm_struct *mm;
	struct ipcdoor_segment *seg;
	struct ipcdoor_user *ringer;
	u32 slot;
	u32 generation;
	u32 rights;
	refcount_t refs;

	struct wait_queue_head wq;
	struct ipcdoor_binding __rcu *eventfd;
	struct ipcdoor_binding __rcu *signal;
	u32 notify_ns;

	u64 rung[IPCDOOR_VECTORS];
	u64 acked[IPCDOOR_VECTORS];
	u64 value[IPCDOOR_VECTORS];

	union {
		struct {
			call_single_data_t csd;
			struct irq_work work;
		} ipi;
		struct hrtimer timer;
		struct llist_node msi_node;
	} irq;
	struct irq_work notify_work;

	struct ipcdoor_owner *owner;
	struct list_head owner_link;
	struct list_head queue_link;	/* in a listener's queue */
	struct ipcdoor_user *user;
	unsigned long died;
	struct rcu_work free_work;
};

/*
 * An endpoint for @seg that sits nowhere yet, charged to the caller, with one
 * reference; ipcdoor_segment_seat() is next.  ERR_PTR: -EDQUOT, -ENOMEM.
 */
struct ipcdoor_endpoint *ipcdoor_endpoint_create(struct ipcdoor_segment *seg, u32 rights);

/*
 * Ends a seated endpoint: peers are told, its waiters fail, its bindings and
 * its slot are gone.  Process context.  Once is enough, more does no harm.
 */
void ipcdoor_endpoint_die(struct ipcdoor_endpoint *ep);

/*
 * Ends an endpoint that is in nobody's hands any more and drops the caller's
 * reference.  Only now is it off its user's account: a dead endpoint counts for as
 * long as somebody keeps its descriptor.
 */
void ipcdoor_endpoint_drop(struct ipcdoor_endpoint *ep);

static inline bool ipcdoor_endpoint_died(const struct ipcdoor_endpoint *ep)
{
	return test_bit(0, &ep->died);
}

static inline struct ipcdoor_endpoint *ipcdoor_endpoint_get(struct ipcdoor_endpoint *ep)
{
	refcount_inc(&ep->refs);
	return ep;
}

/* Any context. */
void ipcdoor_endpoint_put(struct ipcdoor_endpoint *ep);

void ipcdoor_endpoint_fill_info(const struct ipcdoor_endpoint *ep,
				struct ipcdoor_endpoint_info *info);

int ipcdoor_endpoints_init(void);
/* Waits until the last endpoint is freed. */
void ipcdoor_endpoints_exit(void);

#endif /* IPCDOOR_ENDPOINT_H */
