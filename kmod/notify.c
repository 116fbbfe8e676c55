// SPDX-License-Identifier: GPL-2.0
/*
 * The second half of a delivery: those who do not sleep in WAIT.
 *
 * Poll wake-ups and eventfds take sleeping locks on PREEMPT_RT; there they go
 * through an irq_work that runs in a thread.  A bound signal is sent by the ringer
 * itself in process context, because the kernel fills si_pid and si_uid by `current`.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/pid_namespace.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "compat.h"
#include "endpoint.h"
#include "notify.h"

/* What BIND_EVENTFD or BIND_SIGNAL set up; freed after a grace period. */
struct ipcdoor_binding {
	u64 mask;
	struct eventfd_ctx *eventfd;
	struct task_struct *task;
	int signo;
	struct rcu_head rcu;
};

/* ---- bindings ---- */

static void ipcdoor_binding_free(struct rcu_head *rcu)
{
	struct ipcdoor_binding *binding = container_of(rcu, struct ipcdoor_binding, rcu);

	if (binding->eventfd)
		eventfd_ctx_put(binding->eventfd);
	if (binding->task)
		put_task_struct(binding->task);
	kfree(binding);
}

static int ipcdoor_bind(struct ipcdoor_endpoint *ep, struct ipcdoor_binding __rcu **where,
			struct ipcdoor_binding *binding)
{
	struct ipcdoor_binding *old = NULL;
	int err = 0;

	raw_spin_lock_irq(&ep->lock);
	if (binding && ep->dead)
		err = -ESHUTDOWN;
	else
		old = rcu_replace_pointer(*where, binding, lockdep_is_held(&ep->lock));
	raw_spin_unlock_irq(&ep->lock);
	if (err)
		old = binding;
	if (old)
		call_rcu(&old->rcu, ipcdoor_binding_free);
	return err;
}

int ipcdoor_notify_bind_eventfd(struct ipcdoor_endpoint *ep, int fd, u64 mask)
{
	struct ipcdoor_binding *binding;
	int err;

	if (fd < 0)
		return ipcdoor_bind(ep, &ep->eventfd, NULL);
	binding = kzalloc(sizeof(*binding), GFP_KERNEL_ACCOUNT);
	if (!binding)
		return -ENOMEM;
	binding->mask = mask;
	binding->eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(binding->eventfd)) {
		err = PTR_ERR(binding->eventfd);
		kfree(binding);
		return err;
	}
	return ipcdoor_bind(ep, &ep->eventfd, binding);
}

int ipcdoor_notify_bind_signal(struct ipcdoor_endpoint *ep, u32 signo, u64 mask)
{
	struct ipcdoor_binding *binding;

	if (!signo)
		return ipcdoor_bind(ep, &ep->signal, NULL);
	binding = kzalloc(sizeof(*binding), GFP_KERNEL_ACCOUNT);
	if (!binding)
		return -ENOMEM;
	binding->mask = mask;
	binding->signo = signo;
	binding->task = get_task_struct(current);
	return ipcdoor_bind(ep, &ep->signal, binding);
}

/* ---- pollers and the eventfd ---- */

static void ipcdoor_notify_now(struct ipcdoor_endpoint *ep)
{
	const struct ipcdoor_binding *eventfd;
	unsigned long flags;
	u64 bits;

	raw_spin_lock_irqsave(&ep->lock, flags);
	bits = ep->notify;
	ep->notify = 0;
	raw_spin_unlock_irqrestore(&ep->lock, flags);

	rcu_read_lock();
	eventfd = rcu_dereference(ep->eventfd);
	if (eventfd && (eventfd->mask & bits))
		ipcdoor_eventfd_signal(eventfd->eventfd);
	rcu_read_unlock();
	wake_up_interruptible_poll(&ep->wq, EPOLLIN | EPOLLPRI | EPOLLHUP);
}

/* In an interrupt, or in a thread in its place: nobody who caused it runs there. */
static void ipcdoor_notify_on_account(struct ipcdoor_endpoint *ep)
{
	u64 begin_ns = ktime_get_ns();

	ipcdoor_notify_now(ep);
	WRITE_ONCE(ep->notify_ns, min_t(u64, ktime_get_ns() - begin_ns, U32_MAX));
}

static void ipcdoor_notify_work(struct irq_work *work)
{
	struct ipcdoor_endpoint *ep = container_of(work, struct ipcdoor_endpoint, notify_work);

	ipcdoor_notify_on_account(ep);
	ipcdoor_endpoint_put(ep);
}

void ipcdoor_notify(struct ipcdoor_endpoint *ep)
{
	if (!in_hardirq() && !(IS_ENABLED(CONFIG_PREEMPT_RT) && irqs_disabled())) {
		ipcdoor_notify_now(ep);
		return;
	}
	if (!IS_ENABLED(CONFIG_PREEMPT_RT)) {
		ipcdoor_notify_on_account(ep);
		return;
	}
	/* it may be gone but for this interrupt; then there is nobody to tell */
	if (refcount_inc_not_zero(&ep->refs) && !irq_work_queue(&ep->notify_work))
		ipcdoor_endpoint_put(ep);
}

/* ---- the signal ---- */

/*
 * The thread's leave ends with the program that gave it: a child that shares the
 * owner's memory may bind and then execute something else, with other rights.
 */
static void ipcdoor_signal_send(const struct ipcdoor_endpoint *ep,
				const struct ipcdoor_binding *binding, u64 value)
{
	struct kernel_siginfo info;

	if (READ_ONCE(binding->task->mm) != READ_ONCE(ep->mm))
		return;
	clear_siginfo(&info);
	info.si_signo = binding->signo;
	info.si_code = SI_QUEUE;
	info.si_pid = task_tgid_nr_ns(current, task_active_pid_ns(binding->task));
	info.si_uid = from_kuid_munged(current_user_ns(), current_uid());
	info.si_ptr = (void __user *)(unsigned long)value;
	send_sig_info(binding->signo, &info, binding->task);
}

void ipcdoor_notify_signal(struct ipcdoor_endpoint *ep, u64 bits, u64 value)
{
	const struct ipcdoor_binding *signal;

	rcu_read_lock();
	signal = rcu_dereference(ep->signal);
	if (signal && (signal->mask & bits))
		ipcdoor_signal_send(ep, signal, value);
	rcu_read_unlock();
}

/* ---- life ---- */

void ipcdoor_notify_init(struct ipcdoor_endpoint *ep)
{
	init_waitqueue_head(&ep->wq);
	init_irq_work(&ep->notify_work, ipcdoor_notify_work);
}

void ipcdoor_notify_exit(struct ipcdoor_endpoint *ep)
{
	irq_work_sync(&ep->notify_work);
}

void ipcdoor_notify_die(struct ipcdoor_endpoint *ep)
{
	wake_up_interruptible_poll(&ep->wq, EPOLLHUP);
	ipcdoor_bind(ep, &ep->eventfd, NULL);
	ipcdoor_bind(ep, &ep->signal, NULL);
}
