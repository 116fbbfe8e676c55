/* SPDX-License-Identifier: GPL-2.0 */
/* Listeners: names that connections are made to. */
#ifndef IPCDOOR_LISTENER_H
#define IPCDOOR_LISTENER_H

#include <linux/poll.h>
#include <linux/types.h>

#include <linux/ipcdoor.h>

#include "name.h"
#include "segment.h"

struct ipcdoor_listener;

/*
 * @layout is checked.  ERR_PTR: -EADDRINUSE, -EDQUOT, -ENOMEM, -ENODEV (source)
 * and ipcdoor_name_add()'s.
 */
struct ipcdoor_listener *ipcdoor_listener_create(const char *text,
						 const struct ipcdoor_access *access,
						 const struct ipcdoor_layout *layout,
						 u32 source, u32 flags, u32 backlog);
struct ipcdoor_listener *ipcdoor_listener_get(struct ipcdoor_listener *listener);
void ipcdoor_listener_put(struct ipcdoor_listener *listener);

/* No more connections; those not yet accepted are refused. */
void ipcdoor_listener_close(struct ipcdoor_listener *listener);

/*
 * The client's endpoint of a new connection, owned by the caller, its other side
 * in the queue.  ERR_PTR: -ECONNREFUSED, -ETIMEDOUT, -EAGAIN (@nonblock),
 * -ERESTARTSYS, -EMSGSIZE (more pages than @max_bytes), -EDQUOT, -ENOMEM, ….
 */
struct ipcdoor_endpoint *ipcdoor_listener_connect(struct ipcdoor_listener *listener,
						  u64 max_bytes, u64 deadline_ns,
						  bool nonblock);

/*
 * Takes the oldest connection and makes the caller its owner.  ERR_PTR:
 * -ETIMEDOUT, -EAGAIN (@nonblock), -ERESTARTSYS, -ENOMEM.
 */
struct ipcdoor_endpoint *ipcdoor_listener_accept(struct ipcdoor_listener *listener,
						 u64 deadline_ns, bool nonblock);

__poll_t ipcdoor_listener_poll(struct ipcdoor_listener *listener, struct file *file,
			       poll_table *table);

/* The user who called LISTEN. */
kuid_t ipcdoor_listener_uid(const struct ipcdoor_listener *listener);

#endif /* IPCDOOR_LISTENER_H */
