// SPDX-License-Identifier: GPL-2.0
/*
 * An endpoint belongs to the address space that attached it, and dies with it,
 * however the process ended and whoever else still holds the descriptor.  The
 * end of an address space is told by an mmu notifier's release(): the last
 * thread is gone by then, so nobody runs in it any more.
 *
 * There is one notifier for each address space, with a reference for each of
 * its endpoints.  owner->lock protects the list of endpoints; it is a leaf.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "endpoint.h"
#include "owner.h"
#include "quota.h"

struct ipcdoor_owner {
	struct mmu_notifier notifier;
	spinlock_t lock;	/* of @endpoints */
	struct list_head endpoints;	/* by owner_link */
};

static struct mmu_notifier *ipcdoor_owner_alloc(struct mm_struct *mm)
{
	struct ipcdoor_owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);

	if (!owner)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&owner->lock);
	INIT_LIST_HEAD(&owner->endpoints);
	return &owner->notifier;
}

static void ipcdoor_owner_free(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct ipcdoor_owner, notifier));
}

/*
 * The first endpoint still on the list, with a reference.  One that is listed
 * has not finished dying, so it still has its own reference.
 */
static struct ipcdoor_endpoint *ipcdoor_owner_first(struct ipcdoor_owner *owner)
{
	struct ipcdoor_endpoint *ep;

	spin_lock(&owner->lock);
	ep = list_first_entry_or_null(&owner->endpoints, struct ipcdoor_endpoint, owner_link);
	if (ep) {
		list_del_init(&ep->owner_link);
		ipcdoor_endpoint_get(ep);
	}
	spin_unlock(&owner->lock);
	return ep;
}

static void ipcdoor_owner_ended(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct ipcdoor_owner *owner = container_of(notifier, struct ipcdoor_owner, notifier);
	struct ipcdoor_endpoint *ep;

	while ((ep = ipcdoor_owner_first(owner))) {
		ipcdoor_endpoint_die(ep);
		ipcdoor_endpoint_put(ep);
	}
}

static const struct mmu_notifier_ops ipcdoor_owner_ops = {
	.release = ipcdoor_owner_ended,
	.alloc_notifier = ipcdoor_owner_alloc,
	.free_notifier = ipcdoor_owner_free,
};

int ipcdoor_owner_adopt(struct ipcdoor_endpoint *ep)
{
	struct ipcdoor_user *ringer = NULL;
	struct mmu_notifier *notifier;
	struct ipcdoor_owner *owner;

	if (!capable(CAP_SYS_RESOURCE)) {
		ringer = ipcdoor_user_get(current_euid());
		if (IS_ERR(ringer))
			return PTR_ERR(ringer);
	}
	notifier = mmu_notifier_get(&ipcdoor_owner_ops, current->mm);
	if (IS_ERR(notifier)) {
		if (ringer)
			ipcdoor_user_put(ringer);
		/* any signal interrupts it; nobody has seen anything yet */
		return notifier == ERR_PTR(-EINTR) ? -ERESTARTNOINTR : PTR_ERR(notifier);
	}
	owner = container_of(notifier, struct ipcdoor_owner, notifier);
	ep->ringer = ringer;
	WRITE_ONCE(ep->mm, current->mm);
	spin_lock(&owner->lock);
	list_add(&ep->owner_link, &owner->endpoints);
	WRITE_ONCE(ep->owner, owner);
	spin_unlock(&owner->lock);
	return 0;
}

void ipcdoor_owner_release(struct ipcdoor_endpoint *ep)
{
	/* of two that meet here one does it: die() and a failed accept */
	struct ipcdoor_owner *owner = xchg(&ep->owner, NULL);

	if (!owner)
		return;
	spin_lock(&owner->lock);
	list_del_init(&ep->owner_link);
	spin_unlock(&owner->lock);
	mmu_notifier_put(&owner->notifier);
}

void ipcdoor_owner_exit(void)
{
	mmu_notifier_synchronize();
}
