/* SPDX-License-Identifier: GPL-2.0 */
/* Address spaces that own endpoints, and the notice of their end. */
#ifndef IPCDOOR_OWNER_H
#define IPCDOOR_OWNER_H

struct ipcdoor_endpoint;

/*
 * Makes the calling process's address space the owner of @ep, which rings on the
 * account of its user, or without limit with CAP_SYS_RESOURCE.  Succeeds once for
 * an endpoint.  Process context, no lock held (it takes mmap_lock).  -ENOMEM, -ERESTARTNOINTR.
 */
int ipcdoor_owner_adopt(struct ipcdoor_endpoint *ep);

/* Undoes it; nothing to do for an endpoint without an owner. */
void ipcdoor_owner_release(struct ipcdoor_endpoint *ep);

/* Waits until no notifier of ours is left; at module exit. */
void ipcdoor_owner_exit(void);

#endif /* IPCDOOR_OWNER_H */
