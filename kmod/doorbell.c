// SPDX-License-Identifier: GPL-2.0
/*
 * Doorbells.
 *
 * Counting and delivering are apart.  A ring is counted under the receiver's
 * lock, whatever happens next: rung[] never misses one.  Delivery is a hint that
 * follows, through the source's interrupt, and only if somebody listens: a
 * waiter in WAIT, a poller, a bound eventfd.  Whoever begins to listen looks at
 * the counts under the same lock first, so a ring is either seen by that look or
 * finds the listener; nothing falls between.
 *
 * While an interrupt is under way (ep->raised) further rings ride along.
 *
 * The hard half, under the raw lock and possibly in hard interrupt context,
 * wakes the tasks in WAIT directly; notify.c has the second half, for pollers and
 * what is bound.
 *
 * What an ordinary user's ring may cost others: an interrupt that wakes a thread out
 * of WAIT is paid for by that thread, which has to run and sleep again on that CPU
 * before the next one.  Any other (it wakes nobody, pollers, or several threads at
 * once) is paid for out of the user's budget of interrupt time, and where that is
 * spent the ringer delivers by itself, as with the source `direct`.
 */
#include <linux/hrtimer.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "budget.h"
#include "compat.h"
#include "doorbell.h"
#include "endpoint.h"
#include "notify.h"
#include "quota.h"
#include "segment.h"
#include "source.h"

/* Counters in STATE are written under ep->lock and read by anyone. */
static inline void ipcdoor_count(__u64 *counter, u64 n)
{
	WRITE_ONCE(*counter, *counter + n);
}

/**
 * struct ipcdoor_waiter - a thread in WAIT, on its own stack
 * @node: in ep->waiters; empty once it was woken.  Protected by ep->lock
 * @task: the thread
 * @wait: what it waits for, and where the result goes
 * @books: by vector
 * @deadline_ns: when it gives up, KTIME_MAX never
 * @done: whoever rang has filled in the result; from then on the waiter's stack
 *	is its own again, without ep->lock
 */
struct ipcdoor_waiter {
	struct list_head node;
	struct task_struct *task;
	struct ipcdoor_wait *wait;
	struct ipcdoor_wait_books *books;
	ktime_t deadline_ns;
	bool done;
};

/* ---- collecting ---- */

static noinline bool ipcdoor_collect_seen(struct ipcdoor_endpoint *ep,
					  struct ipcdoor_wait *wait, u64 *seen)
{
	u64 bits = wait->mask;

	wait->fired = 0;
	wait->count = 0;
	while (bits) {
		u32 v = __ffs64(bits);

		bits &= bits - 1;
		if (ep->rung[v] == seen[v])
			continue;
		wait->fired |= BIT_ULL(v);
		wait->count += ep->rung[v] - seen[v];
		seen[v] = ep->rung[v];
	}
	return wait->fired;
}

static __always_inline bool ipcdoor_collect_pending(struct ipcdoor_endpoint *ep,
						    struct ipcdoor_wait *wait, u64 *taken)
{
	u64 bits = ep->pending & wait->mask;

	wait->fired = bits;
	wait->count = 0;
	while (bits) {
		u32 v = __ffs64(bits);

		bits &= bits - 1;
		taken[v] = ep->rung[v] - ep->acked[v];
		wait->count += taken[v];
		if (wait->flags & IPCDOOR_WAIT_ACK)
			ep->acked[v] = ep->rung[v];
	}
	if (wait->flags & IPCDOOR_WAIT_ACK)
		ep->pending &= ~wait->fired;
	return wait->fired;
}

/* Inlined at its two places, the hottest ones: it saves 1 % of a round trip. */
static __always_inline bool ipcdoor_collect(struct ipcdoor_endpoint *ep,
					    struct ipcdoor_wait *wait,
					    struct ipcdoor_wait_books *books)
{
	bool fired;

	lockdep_assert_held(&ep->lock);
	fired = wait->seen ? ipcdoor_collect_seen(ep, wait, books->by_vector) :
			     ipcdoor_collect_pending(ep, wait, books->by_vector);
	if (fired)
		wait->value = ep->value[__ffs64(wait->fired)];
	return fired;
}

/* ---- delivering ---- */

static void ipcdoor_waiter_remove(struct ipcdoor_endpoint *ep, struct ipcdoor_waiter *waiter)
{
	list_del_init(&waiter->node);
	ep->waiter_count--;
}

static void ipcdoor_wake_one(struct ipcdoor_endpoint *ep, struct ipcdoor_waiter *waiter,
			     bool done)
{
	struct task_struct *task = waiter->task;

	ipcdoor_waiter_remove(ep, waiter);
	/*
	 * Pairs with the acquire in ipcdoor_doorbell_wait().  The thread may be gone
	 * before it is woken; interrupts are off, so its task_struct, which is freed
	 * by RCU, is not.
	 */
	smp_store_release(&waiter->done, done);
	wake_up_process(task);
}

/*
 * Gives @bits to whoever waits for them, in order of arrival.  A waiter that
 * acknowledges takes them from those behind it, who sleep on: nobody is woken
 * for nothing.
 */
static unsigned int ipcdoor_wake(struct ipcdoor_endpoint *ep, u64 bits)
{
	struct ipcdoor_waiter *waiter, *next;
	unsigned int woken = 0;

	lockdep_assert_held(&ep->lock);
	list_for_each_entry_safe(waiter, next, &ep->waiters, node) {
		if (!(waiter->wait->mask & bits) ||
		    !ipcdoor_collect(ep, waiter->wait, waiter->books))
			continue;
		ipcdoor_wake_one(ep, waiter, true);
		woken++;
	}
	ipcdoor_count(&ep->state->wakes, woken);
	return woken;
}

/* The endpoint or its only peer is gone: every waiter has to look for itself. */
static void ipcdoor_wake_all(struct ipcdoor_endpoint *ep)
{
	struct ipcdoor_waiter *waiter, *next;

	lockdep_assert_held(&ep->lock);
	list_for_each_entry_safe(waiter, next, &ep->waiters, node)
		ipcdoor_wake_one(ep, waiter, false);
}

static void ipcdoor_stamp(struct ipcdoor_endpoint *ep, u64 handler_ns, bool irq, bool woke)
{
	struct ipcdoor_stamps *stamps = &ep->state->stamps;

	WRITE_ONCE(stamps->sequence, stamps->sequence + 1);
	/* readers in user space: an odd sequence before the first field */
	smp_wmb();
	WRITE_ONCE(stamps->ring_ns, ep->ring_ns);
	WRITE_ONCE(stamps->handler_ns, handler_ns);
	WRITE_ONCE(stamps->wake_ns, ktime_get_ns());
	WRITE_ONCE(stamps->ring_cpu, ep->ring_cpu);
	WRITE_ONCE(stamps->handler_cpu, raw_smp_processor_id());
	WRITE_ONCE(stamps->flags, (irq ? IPCDOOR_STAMP_HARDIRQ : 0) |
				  (woke ? IPCDOOR_STAMP_WOKE : 0));
	WRITE_ONCE(stamps->source, ep->source->id);
	/* and an even one after the last */
	smp_wmb();
	WRITE_ONCE(stamps->sequence, stamps->sequence + 1);
}

/* Leaves @bits for the second half; whether it is wanted, once the lock is dropped. */
static bool ipcdoor_wants_notice(struct ipcdoor_endpoint *ep, u64 bits)
{
	if (!ipcdoor_notify_wanted(ep))
		return false;
	ep->notify |= bits;
	return true;
}

/* Returns whether the second half is wanted, once the lock is dropped. */
static bool ipcdoor_deliver(struct ipcdoor_endpoint *ep, u64 handler_ns)
{
	bool irq = in_hardirq();
	u64 bits = ep->undelivered;
	unsigned int woken;

	ep->undelivered = 0;
	ipcdoor_count(&ep->state->deliveries, 1);
	if (irq)
		ipcdoor_count(&ep->state->interrupts, 1);
	woken = ipcdoor_wake(ep, bits);
	if (ep->stamped)
		ipcdoor_stamp(ep, handler_ns, irq, woken);
	return ipcdoor_wants_notice(ep, bits);
}

/*
 * The endpoint of an interrupt under way needs no reference while it lives; its
 * death takes one for the interrupt, under the lock, and this drops it.
 */
void ipcdoor_doorbell_interrupt(struct ipcdoor_endpoint *ep)
{
	u64 handler_ns = ep->stamped ? ktime_get_ns() : 0;
	bool notify = false;
	bool dead;

	lockdep_assert_irqs_disabled();
	raw_spin_lock(&ep->lock);
	ep->raised = false;
	dead = ep->dead;
	if (likely(!dead))
		notify = ipcdoor_deliver(ep, handler_ns);
	raw_spin_unlock(&ep->lock);
	if (notify)
		ipcdoor_notify(ep);
	if (unlikely(dead))
		ipcdoor_endpoint_put(ep);
}

/* ---- ringing ---- */

static void ipcdoor_count_ring(struct ipcdoor_endpoint *ep, u32 vector, u64 value)
{
	lockdep_assert_held(&ep->lock);
	ep->value[vector] = value;
	ep->pending |= BIT_ULL(vector);
	WRITE_ONCE(ep->state->rung[vector], ++ep->rung[vector]);
	ipcdoor_count(&ep->state->rings, 1);
}

/*
 * The interrupt wakes one thread, on the CPU that it comes on, and does nothing
 * else: then there are no more of them than the scheduler lets that thread sleep.
 * A thread waits for what is not yet pending, so its mask is enough to know.
 */
static inline bool ipcdoor_sleeper_pays(struct ipcdoor_endpoint *ep, u32 vector)
{
	const unsigned int *lands_on = ep->source->lands_on;
	const struct ipcdoor_waiter *waiter;

	lockdep_assert_held(&ep->lock);
	if (ep->waiter_count != 1 || ipcdoor_notify_wanted(ep))
		return false;
	if (lands_on && READ_ONCE(*lands_on) != ep->wait_cpu)
		return false;
	waiter = list_first_entry(&ep->waiters, struct ipcdoor_waiter, node);
	return waiter->wait->mask & BIT_ULL(vector);
}

static noinline bool ipcdoor_ringer_pays(struct ipcdoor_endpoint *ep, struct ipcdoor_user *ringer)
{
	/* what the second half will take: probably as long as the last time */
	u32 notify_ns = ipcdoor_notify_wanted(ep) ? READ_ONCE(ep->notify_ns) : 0;
	bool may = ipcdoor_budget_spend(ipcdoor_user_budget(ringer), ep->waiter_count, notify_ns);

	if (!may)
		ipcdoor_count(&ep->state->limited, 1);
	return may;
}

static __always_inline bool ipcdoor_may_raise(struct ipcdoor_endpoint *ep, u32 vector,
					      const struct ipcdoor_endpoint *from)
{
	return likely(!from->ringer) || ipcdoor_sleeper_pays(ep, vector) ||
	       ipcdoor_ringer_pays(ep, from->ringer);
}

/* Returns whether the second half is wanted, once the lock is dropped. */
static bool ipcdoor_start_delivery(struct ipcdoor_endpoint *ep, u32 vector,
				   const struct ipcdoor_endpoint *from)
{
	lockdep_assert_held(&ep->lock);
	if (list_empty(&ep->waiters) && !ipcdoor_notify_wanted(ep)) {
		ipcdoor_count(&ep->state->suppressed, 1);
		return false;
	}
	ep->undelivered |= BIT_ULL(vector);
	if (ep->raised) {
		ipcdoor_count(&ep->state->coalesced, 1);
		return false;
	}
	if (ep->stamped) {
		ep->ring_ns = ktime_get_ns();
		ep->ring_cpu = raw_smp_processor_id();
	}
	if (!ep->source->raise || !ipcdoor_may_raise(ep, vector, from))
		return ipcdoor_deliver(ep, ep->ring_ns);

	/* when it fails the source was unplugged: the death that follows wakes all */
	ep->raised = !ep->source->raise(ep, ep->wait_cpu);
	return false;
}

/* What the ringer does after it dropped the lock; rarely anything. */
static noinline void ipcdoor_after_ring(struct ipcdoor_endpoint *to, u64 bits, u64 value,
					bool notify)
{
	if (notify)
		ipcdoor_notify(to);
	ipcdoor_notify_signal(to, bits, value);
}

int ipcdoor_doorbell_ring(struct ipcdoor_endpoint *from, const struct ipcdoor_ring *ring)
{
	const struct ipcdoor_slot *slot = &from->seg->slots[ring->slot];
	struct ipcdoor_endpoint *to;
	bool after = false;
	bool notify = false;
	int err = 0;

	/* interrupts off are a read-side critical section, and wanted anyway */
	local_irq_disable();
	to = rcu_dereference_sched(slot->ep);
	if (!to) {
		local_irq_enable();
		return READ_ONCE(slot->state) == IPCDOOR_SLOT_EMPTY ? -ENOTCONN : -EPIPE;
	}

	raw_spin_lock(&to->lock);
	if (unlikely(to->dead)) {
		err = -EPIPE;
	} else if (unlikely(ring->generation && ring->generation != to->generation)) {
		err = -ESTALE;
	} else {
		ipcdoor_count_ring(to, ring->vector, ring->value);
		notify = ipcdoor_start_delivery(to, ring->vector, from);
		after = notify || rcu_access_pointer(to->signal);
		if (unlikely(after))
			ipcdoor_endpoint_get(to);
	}
	raw_spin_unlock(&to->lock);
	local_irq_enable();

	if (unlikely(after)) {
		ipcdoor_after_ring(to, BIT_ULL(ring->vector), ring->value, notify);
		ipcdoor_endpoint_put(to);
	}
	return err;
}

void ipcdoor_doorbell_lifecycle(struct ipcdoor_endpoint *ep, enum ipcdoor_lifecycle what)
{
	u64 bits = BIT_ULL(IPCDOOR_VECTOR_LIFECYCLE);
	bool notify;

	raw_spin_lock_irq(&ep->lock);
	if (ep->dead) {
		raw_spin_unlock_irq(&ep->lock);
		return;
	}
	ep->had_peers |= what == IPCDOOR_PEER_JOINED;
	if (what == IPCDOOR_PEER_DIED && (ep->seg->flags & IPCDOOR_ENDPOINT_CONNECTION)) {
		ep->peer_gone = true;
		bits = ~0ULL;
	}
	ipcdoor_count_ring(ep, IPCDOOR_VECTOR_LIFECYCLE, what);
	ipcdoor_wake(ep, bits);
	/* what the rest waits for will not come */
	if (ep->peer_gone)
		ipcdoor_wake_all(ep);
	notify = ipcdoor_wants_notice(ep, bits);
	raw_spin_unlock_irq(&ep->lock);

	ipcdoor_after_ring(ep, BIT_ULL(IPCDOOR_VECTOR_LIFECYCLE), what, notify);
}

/* ---- waiting ---- */

/* Why a WAIT that found nothing must not sleep (any longer); 0: it may. */
static int ipcdoor_wait_verdict(const struct ipcdoor_endpoint *ep, bool nonblock, bool expired)
{
	if (ep->dead)
		return -ESHUTDOWN;
	if (ep->peer_gone)
		return -EPIPE;
	if (nonblock)
		return -EAGAIN;
	if (expired)
		return -ETIMEDOUT;
	/* a ring wakes them all with interrupts off */
	if (ep->waiter_count >= IPCDOOR_MAX_WAITERS)
		return -EUSERS;
	return signal_pending(current) ? -EINTR : 0;
}

/*
 * Deadlines are kept by one timer for each endpoint, which is left running when a
 * wait ends early: the next wait's deadline is most often later, and then there
 * is nothing to do.  A timer that fires too early is set anew for those who still
 * wait, so each wait ends at its own deadline, and most waits touch no timer.
 */
static void ipcdoor_deadline_arm(struct ipcdoor_endpoint *ep, ktime_t deadline_ns)
{
	lockdep_assert_held(&ep->lock);
	if (deadline_ns >= ep->deadline_ns)
		return;
	ep->deadline_ns = deadline_ns;
	hrtimer_start(&ep->deadline, deadline_ns, HRTIMER_MODE_ABS_PINNED_HARD);
}

static enum hrtimer_restart ipcdoor_deadline_fired(struct hrtimer *timer)
{
	struct ipcdoor_endpoint *ep = container_of(timer, struct ipcdoor_endpoint, deadline);
	struct ipcdoor_waiter *waiter, *next;
	ktime_t now = ktime_get();
	ktime_t first = KTIME_MAX;
	unsigned long flags;

	raw_spin_lock_irqsave(&ep->lock, flags);
	ep->deadline_ns = KTIME_MAX;
	list_for_each_entry_safe(waiter, next, &ep->waiters, node) {
		if (waiter->deadline_ns > now) {
			first = min(first, waiter->deadline_ns);
			continue;
		}
		ipcdoor_wake_one(ep, waiter, false);
	}
	ipcdoor_deadline_arm(ep, first);
	raw_spin_unlock_irqrestore(&ep->lock, flags);
	return HRTIMER_NORESTART;
}

int ipcdoor_doorbell_wait(struct ipcdoor_endpoint *ep, struct ipcdoor_wait *wait,
			  struct ipcdoor_wait_books *books, bool nonblock)
{
	struct ipcdoor_waiter waiter = {
		.node = LIST_HEAD_INIT(waiter.node),
		.task = current,
		.wait = wait,
		.books = books,
		.deadline_ns = min_t(u64, wait->deadline_ns, KTIME_MAX),
	};
	bool expired = !wait->deadline_ns;
	int err = 0;

	raw_spin_lock_irq(&ep->lock);
	while (!ipcdoor_collect(ep, wait, books)) {
		err = ipcdoor_wait_verdict(ep, nonblock, expired);
		if (err)
			break;
		list_add_tail(&waiter.node, &ep->waiters);
		ep->waiter_count++;
		ipcdoor_deadline_arm(ep, waiter.deadline_ns);
		ep->wait_cpu = smp_processor_id();
		ipcdoor_count(&ep->state->waits, 1);
		set_current_state(TASK_INTERRUPTIBLE);
		raw_spin_unlock_irq(&ep->lock);

		schedule();
		__set_current_state(TASK_RUNNING);
		/*
		 * Pairs with the release in ipcdoor_wake_one().  Whoever wants stamps
		 * waits on the lock until those of its wake-up are written.
		 */
		if (likely(smp_load_acquire(&waiter.done)) && !ep->stamped)
			return 0;

		raw_spin_lock_irq(&ep->lock);
		if (waiter.done)
			break;
		if (!list_empty(&waiter.node))
			ipcdoor_waiter_remove(ep, &waiter);
		expired = ktime_get() >= waiter.deadline_ns;
		if (!expired && !ep->dead && !ep->peer_gone && !signal_pending(current))
			ipcdoor_count(&ep->state->spurious, 1);
	}
	if (err == -ETIMEDOUT)
		ipcdoor_count(&ep->state->timeouts, 1);
	raw_spin_unlock_irq(&ep->lock);
	return err;
}

void ipcdoor_doorbell_untake(struct ipcdoor_endpoint *ep, const struct ipcdoor_wait *wait,
			     const struct ipcdoor_wait_books *books)
{
	u64 bits = wait->fired;
	bool notify = false;

	if (!(wait->flags & IPCDOOR_WAIT_ACK))
		return;
	raw_spin_lock_irq(&ep->lock);
	if (!ep->dead) {
		while (bits) {
			u32 v = __ffs64(bits);

			bits &= bits - 1;
			ep->acked[v] -= books->by_vector[v];
		}
		ep->pending |= wait->fired;
		ipcdoor_wake(ep, wait->fired);
		notify = ipcdoor_wants_notice(ep, wait->fired);
	}
	raw_spin_unlock_irq(&ep->lock);
	if (notify)
		ipcdoor_notify(ep);
}

__poll_t ipcdoor_doorbell_poll(struct ipcdoor_endpoint *ep, struct file *file,
			       poll_table *table)
{
	__poll_t events = 0;

	poll_wait(file, &ep->wq, table);

	raw_spin_lock_irq(&ep->lock);
	if (ep->pending & ~BIT_ULL(IPCDOOR_VECTOR_LIFECYCLE))
		events |= EPOLLIN | EPOLLRDNORM;
	if (ep->pending & BIT_ULL(IPCDOOR_VECTOR_LIFECYCLE))
		events |= EPOLLPRI;
	if (ep->dead || (ep->had_peers && READ_ONCE(ep->seg->live) < 2))
		events |= EPOLLHUP;
	raw_spin_unlock_irq(&ep->lock);
	return events;
}

/* ---- life ---- */

void ipcdoor_doorbell_init(struct ipcdoor_endpoint *ep)
{
	raw_spin_lock_init(&ep->lock);
	INIT_LIST_HEAD(&ep->waiters);
	ipcdoor_notify_init(ep);
	ipcdoor_hrtimer_setup(&ep->deadline, ipcdoor_deadline_fired, CLOCK_MONOTONIC,
			      HRTIMER_MODE_ABS_PINNED_HARD);
	ep->deadline_ns = KTIME_MAX;
	ep->wait_cpu = raw_smp_processor_id();
}

void ipcdoor_doorbell_exit(struct ipcdoor_endpoint *ep)
{
	hrtimer_cancel(&ep->deadline);
	ipcdoor_notify_exit(ep);
}

void ipcdoor_doorbell_die(struct ipcdoor_endpoint *ep)
{
	raw_spin_lock_irq(&ep->lock);
	ep->dead = true;
	if (ep->raised)
		ipcdoor_endpoint_get(ep);
	ipcdoor_wake_all(ep);
	raw_spin_unlock_irq(&ep->lock);

	ipcdoor_notify_die(ep);
}
