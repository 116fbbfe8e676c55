// SPDX-License-Identifier: GPL-2.0
/*
 * Listen, connect, accept.
 *
 * CONNECT makes a private two-slot segment, seats an endpoint without an owner
 * in slot 0 (PENDING) and the caller in slot 1, and queues the former; ACCEPT
 * gives it an owner.  So the client can ring and write at once, and everything
 * it did is there when the server comes.
 *
 * A listener, unlike an endpoint, has no owner: like a listening socket it may
 * be inherited or passed on, and whoever accepts becomes the owner of the
 * connection.  It closes at its last release.
 *
 * listener->lock protects the queue; the condition to connect (room) and to
 * accept (something queued) are waited for on listener->wq.
 */
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "endpoint.h"
#include "listener.h"
#include "owner.h"
#include "quota.h"
#include "source.h"

struct ipcdoor_listener {
	refcount_t refs;	/* the file's, and callers' under way */
	spinlock_t lock;	/* of @closed, @taken, @queue */
	bool closed;
	u32 taken;		/* places in the backlog: queued, and being made */
	u32 backlog;
	struct list_head queue;	/* pending endpoints by queue_link */
	struct wait_queue_head wq;

	struct ipcdoor_layout layout;
	u32 source;
	u32 flags;
	kuid_t uid;
	struct ipcdoor_name *name;
	struct ipcdoor_user *user;
};

struct ipcdoor_listener *ipcdoor_listener_create(const char *text,
						 const struct ipcdoor_access *access,
						 const struct ipcdoor_layout *layout,
						 u32 source, u32 flags, u32 backlog)
{
	const struct ipcdoor_source *present = ipcdoor_source_choose(source);
	struct ipcdoor_listener *listener;
	int err;

	if (IS_ERR(present))
		return ERR_CAST(present);
	listener = kzalloc(sizeof(*listener), GFP_KERNEL_ACCOUNT);
	if (!listener)
		return ERR_PTR(-ENOMEM);
	refcount_set(&listener->refs, 1);
	spin_lock_init(&listener->lock);
	INIT_LIST_HEAD(&listener->queue);
	init_waitqueue_head(&listener->wq);
	listener->backlog = backlog;
	listener->layout = *layout;
	listener->source = source;
	listener->flags = flags;
	listener->uid = current_euid();

	listener->user = ipcdoor_user_get(listener->uid);
	if (IS_ERR(listener->user)) {
		err = PTR_ERR(listener->user);
		goto err_user;
	}
	err = ipcdoor_user_charge_endpoint(listener->user);
	if (err)
		goto err_charge;
	listener->name = ipcdoor_name_add(text, IPCDOOR_NAME_LISTENER, listener, access);
	if (IS_ERR(listener->name)) {
		err = PTR_ERR(listener->name);
		goto err_name;
	}
	return listener;

err_name:
	ipcdoor_user_uncharge_endpoint(listener->user);
err_charge:
	ipcdoor_user_put(listener->user);
err_user:
	kfree(listener);
	return ERR_PTR(err == -EEXIST ? -EADDRINUSE : err);
}

struct ipcdoor_listener *ipcdoor_listener_get(struct ipcdoor_listener *listener)
{
	refcount_inc(&listener->refs);
	return listener;
}

void ipcdoor_listener_put(struct ipcdoor_listener *listener)
{
	if (!refcount_dec_and_test(&listener->refs))
		return;
	ipcdoor_user_uncharge_endpoint(listener->user);
	ipcdoor_user_put(listener->user);
	kfree(listener);
}

void ipcdoor_listener_close(struct ipcdoor_listener *listener)
{
	struct ipcdoor_endpoint *ep, *next;
	LIST_HEAD(refused);

	ipcdoor_name_remove(listener->name);
	spin_lock(&listener->lock);
	listener->closed = true;
	list_splice_init(&listener->queue, &refused);
	spin_unlock(&listener->lock);
	wake_up_all(&listener->wq);

	list_for_each_entry_safe(ep, next, &refused, queue_link) {
		list_del_init(&ep->queue_link);
		ipcdoor_endpoint_drop(ep);
	}
}

/* ---- waiting for a condition ---- */

static bool ipcdoor_listener_has_room(struct ipcdoor_listener *listener)
{
	return READ_ONCE(listener->closed) || READ_ONCE(listener->taken) < listener->backlog;
}

static bool ipcdoor_listener_has_queued(struct ipcdoor_listener *listener)
{
	return !list_empty_careful(&listener->queue);
}

static int ipcdoor_listener_wait(struct ipcdoor_listener *listener,
				 bool (*ready)(struct ipcdoor_listener *listener),
				 u64 deadline_ns, bool nonblock)
{
	ktime_t left;
	int err;

	if (ready(listener))
		return 0;
	if (nonblock)
		return -EAGAIN;
	if (deadline_ns >= KTIME_MAX)
		return wait_event_interruptible(listener->wq, ready(listener));
	left = ktime_sub(deadline_ns, ktime_get());
	if (left <= 0)
		return -ETIMEDOUT;
	err = wait_event_interruptible_hrtimeout(listener->wq, ready(listener), left);
	return err == -ETIME ? -ETIMEDOUT : err;
}

/* ---- connecting ---- */

/* A place in the backlog, to be filled or given back. */
static int ipcdoor_listener_reserve(struct ipcdoor_listener *listener, u64 deadline_ns,
				    bool nonblock)
{
	int err;

	for (;;) {
		err = ipcdoor_listener_wait(listener, ipcdoor_listener_has_room, deadline_ns,
					    nonblock);
		if (err)
			return err;
		spin_lock(&listener->lock);
		if (listener->closed)
			err = -ECONNREFUSED;
		else if (listener->taken < listener->backlog)
			listener->taken++;
		else
			err = -EAGAIN;	/* somebody else was faster */
		spin_unlock(&listener->lock);
		if (err != -EAGAIN)
			return err;
	}
}

static void ipcdoor_listener_give_back(struct ipcdoor_listener *listener)
{
	spin_lock(&listener->lock);
	listener->taken--;
	spin_unlock(&listener->lock);
	wake_up_interruptible(&listener->wq);
}

static int ipcdoor_listener_enqueue(struct ipcdoor_listener *listener,
				    struct ipcdoor_endpoint *server)
{
	int err = 0;

	spin_lock(&listener->lock);
	if (listener->closed)
		err = -ECONNREFUSED;
	else
		list_add_tail(&ipcdoor_endpoint_get(server)->queue_link, &listener->queue);
	spin_unlock(&listener->lock);
	if (!err)
		wake_up_interruptible(&listener->wq);
	return err;
}

static struct ipcdoor_endpoint *ipcdoor_listener_pair(struct ipcdoor_listener *listener,
						      struct ipcdoor_segment *seg)
{
	struct ipcdoor_endpoint *server, *client;
	u32 rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE;
	int err;

	server = ipcdoor_endpoint_create(seg, rights);
	if (IS_ERR(server))
		return server;
	client = ipcdoor_endpoint_create(seg, rights);
	if (IS_ERR(client)) {
		ipcdoor_endpoint_drop(server);
		return client;
	}
	err = ipcdoor_owner_adopt(client);
	if (!err)
		err = ipcdoor_segment_seat(seg, server, 0, IPCDOOR_SLOT_PENDING);
	if (!err)
		err = ipcdoor_segment_seat(seg, client, 1, IPCDOOR_SLOT_ALIVE);
	if (!err)
		err = ipcdoor_listener_enqueue(listener, server);
	if (err) {
		ipcdoor_endpoint_drop(client);
		ipcdoor_endpoint_drop(server);
		return ERR_PTR(err);
	}
	ipcdoor_endpoint_put(server);
	return client;
}

struct ipcdoor_endpoint *ipcdoor_listener_connect(struct ipcdoor_listener *listener,
						  u64 max_bytes, u64 deadline_ns,
						  bool nonblock)
{
	u32 flags = IPCDOOR_ENDPOINT_CONNECTION;
	struct ipcdoor_endpoint *client;
	struct ipcdoor_segment *seg;
	int err;

	if (max_bytes && ipcdoor_layout_bytes(&listener->layout) > max_bytes)
		return ERR_PTR(-EMSGSIZE);
	err = ipcdoor_listener_reserve(listener, deadline_ns, nonblock);
	if (err)
		return ERR_PTR(err);
	if (listener->flags & IPCDOOR_LISTEN_STAMPS)
		flags |= IPCDOOR_ENDPOINT_STAMPS;
	seg = ipcdoor_segment_create(&listener->layout, listener->source, flags);
	if (IS_ERR(seg)) {
		ipcdoor_listener_give_back(listener);
		return ERR_CAST(seg);
	}
	client = ipcdoor_listener_pair(listener, seg);
	ipcdoor_segment_put(seg);
	if (IS_ERR(client))
		ipcdoor_listener_give_back(listener);
	return client;
}

/* ---- accepting ---- */

static struct ipcdoor_endpoint *ipcdoor_listener_take(struct ipcdoor_listener *listener,
						      u64 deadline_ns, bool nonblock)
{
	struct ipcdoor_endpoint *ep;
	int err;

	for (;;) {
		err = ipcdoor_listener_wait(listener, ipcdoor_listener_has_queued, deadline_ns,
					    nonblock);
		if (err)
			return ERR_PTR(err);
		spin_lock(&listener->lock);
		ep = list_first_entry_or_null(&listener->queue, struct ipcdoor_endpoint,
					      queue_link);
		if (ep)
			list_del_init(&ep->queue_link);
		spin_unlock(&listener->lock);
		if (ep)
			return ep;
	}
}

struct ipcdoor_endpoint *ipcdoor_listener_accept(struct ipcdoor_listener *listener,
						 u64 deadline_ns, bool nonblock)
{
	struct ipcdoor_endpoint *ep;
	int err;

	for (;;) {
		ep = ipcdoor_listener_take(listener, deadline_ns, nonblock);
		if (IS_ERR(ep))
			return ep;
		err = ipcdoor_owner_adopt(ep);
		if (err)
			break;
		err = ipcdoor_segment_accept(ep->seg, ep);
		if (!err) {
			ipcdoor_listener_give_back(listener);
			return ep;
		}
		/* its source was unplugged while it waited: the next one */
		ipcdoor_owner_release(ep);
		ipcdoor_endpoint_drop(ep);
		ipcdoor_listener_give_back(listener);
	}

	/* interrupted or out of memory: the connection keeps its place */
	spin_lock(&listener->lock);
	list_add(&ep->queue_link, &listener->queue);
	spin_unlock(&listener->lock);
	wake_up_interruptible(&listener->wq);
	return ERR_PTR(err);
}

__poll_t ipcdoor_listener_poll(struct ipcdoor_listener *listener, struct file *file,
			       poll_table *table)
{
	poll_wait(file, &listener->wq, table);
	return ipcdoor_listener_has_queued(listener) ? EPOLLIN | EPOLLRDNORM : 0;
}

kuid_t ipcdoor_listener_uid(const struct ipcdoor_listener *listener)
{
	return listener->uid;
}
