/* SPDX-License-Identifier: GPL-2.0 */
/* Who hears of a delivery without sleeping in WAIT: pollers, an eventfd, a signal. */
#ifndef IPCDOOR_NOTIFY_H
#define IPCDOOR_NOTIFY_H

#include <linux/rcupdate.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "endpoint.h"

void ipcdoor_notify_init(struct ipcdoor_endpoint *ep);
/* Before it is freed: nothing of it is under way afterwards. */
void ipcdoor_notify_exit(struct ipcdoor_endpoint *ep);
/* Once it is dead: wakes its pollers, unbinds. */
void ipcdoor_notify_die(struct ipcdoor_endpoint *ep);

/*
 * Somebody polls or has bound an eventfd: the second half is wanted.  The count
 * was raised under ep->lock, and a poller queues itself before it looks at the
 * counts under the same lock: one of the two sees the other.
 */
static inline bool ipcdoor_notify_wanted(struct ipcdoor_endpoint *ep)
{
	/* ordered by ep->lock, see above */
	return waitqueue_active(&ep->wq) || rcu_access_pointer(ep->eventfd);
}

/* Tells pollers and the eventfd of ep->notify; without ep->lock, any context. */
void ipcdoor_notify(struct ipcdoor_endpoint *ep);

/* Sends the bound signal, if it wants any of @bits, as the calling process. */
void ipcdoor_notify_signal(struct ipcdoor_endpoint *ep, u64 bits, u64 value);

/* BIND_EVENTFD: @fd -1 unbinds.  -EBADF, -EINVAL no eventfd, -ENOMEM, -ESHUTDOWN. */
int ipcdoor_notify_bind_eventfd(struct ipcdoor_endpoint *ep, int fd, u64 mask);

/* BIND_SIGNAL to the calling thread: @signo 0 unbinds.  -ENOMEM, -ESHUTDOWN. */
int ipcdoor_notify_bind_signal(struct ipcdoor_endpoint *ep, u32 signo, u64 mask);

#endif /* IPCDOOR_NOTIFY_H */
