// SPDX-License-Identifier: GPL-2.0
/*
 * The life of an endpoint.
 *
 * create -> (owner adopts) -> seat -> die -> drop -> last put -> free
 *
 * die() comes from the last close of its file, from the end of its owner's
 * address space, from a listener that closes on it, or from an unplugged source,
 * whichever is first.  The object stays until its last reference is dropped; an
 * interrupt under way has one, and drops it in hard interrupt context, so
 * freeing waits for a grace period and then happens in process context.
 */
#include <linux/err.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "doorbell.h"
#include "endpoint.h"
#include "owner.h"
#include "quota.h"
#include "segment.h"
#include "source.h"

static struct workqueue_struct *ipcdoor_free_wq;

/* objects that exist, those with nothing but an interrupt under way included */
static atomic_t ipcdoor_endpoint_count;

static void ipcdoor_endpoint_free(struct work_struct *work)
{
	struct ipcdoor_endpoint *ep = container_of(to_rcu_work(work), struct ipcdoor_endpoint,
						   free_work);

	if (ep->source->quiesce)
		ep->source->quiesce(ep);
	ipcdoor_doorbell_exit(ep);
	ipcdoor_segment_put(ep->seg);
	if (ep->ringer)
		ipcdoor_user_put(ep->ringer);
	ipcdoor_user_put(ep->user);
	kfree(ep);
	if (atomic_dec_and_test(&ipcdoor_endpoint_count))
		wake_up_var(&ipcdoor_endpoint_count);
}

struct ipcdoor_endpoint *ipcdoor_endpoint_create(struct ipcdoor_segment *seg, u32 rights)
{
	struct ipcdoor_endpoint *ep;
	int err;

	ep = kzalloc(sizeof(*ep), GFP_KERNEL_ACCOUNT);
	if (!ep)
		return ERR_PTR(-ENOMEM);
	ep->user = ipcdoor_user_get(current_euid());
	if (IS_ERR(ep->user)) {
		err = PTR_ERR(ep->user);
		goto err_user;
	}
	err = ipcdoor_user_charge_endpoint(ep->user);
	if (err)
		goto err_charge;

	atomic_inc(&ipcdoor_endpoint_count);
	refcount_set(&ep->refs, 1);
	ep->seg = ipcdoor_segment_get(seg);
	ep->source = seg->source;
	ep->stamped = seg->flags & IPCDOOR_ENDPOINT_STAMPS;
	ep->rights = rights;
	INIT_LIST_HEAD(&ep->owner_link);
	INIT_LIST_HEAD(&ep->queue_link);
	INIT_RCU_WORK(&ep->free_work, ipcdoor_endpoint_free);
	ipcdoor_doorbell_init(ep);
	if (ep->source->setup)
		ep->source->setup(ep);
	return ep;

err_charge:
	ipcdoor_user_put(ep->user);
err_user:
	kfree(ep);
	return ERR_PTR(err);
}

void ipcdoor_endpoint_die(struct ipcdoor_endpoint *ep)
{
	if (test_and_set_bit(0, &ep->died))
		return;
	ipcdoor_doorbell_die(ep);
	ipcdoor_owner_release(ep);
	/* one that never got a seat has nobody to tell and no slot to leave */
	if (ep->state)
		ipcdoor_segment_unseat(ep->seg, ep);
}

void ipcdoor_endpoint_put(struct ipcdoor_endpoint *ep)
{
	if (refcount_dec_and_test(&ep->refs))
		queue_rcu_work(ipcdoor_free_wq, &ep->free_work);
}

void ipcdoor_endpoint_drop(struct ipcdoor_endpoint *ep)
{
	ipcdoor_endpoint_die(ep);
	ipcdoor_user_uncharge_endpoint(ep->user);
	ipcdoor_endpoint_put(ep);
}

void ipcdoor_endpoint_fill_info(const struct ipcdoor_endpoint *ep,
				struct ipcdoor_endpoint_info *info)
{
	const struct ipcdoor_segment *seg = ep->seg;

	*info = (struct ipcdoor_endpoint_info) {
		.state_offset = 0,
		.state_bytes = seg->state_bytes,
		.slot_offset = seg->slot_offset,
		.slot_bytes = seg->slot_bytes,
		.data_offset = seg->data_offset,
		.data_bytes = READ_ONCE(seg->data_bytes),
		.max_data_bytes = seg->max_data_bytes,
		.slots = seg->nr_slots,
		.slot = ep->slot,
		.generation = ep->generation,
		.source = ep->source->id,
		.rights = ep->rights,
		.flags = seg->flags,
	};
}

int ipcdoor_endpoints_init(void)
{
	ipcdoor_free_wq = alloc_workqueue("ipcdoor", WQ_UNBOUND, 0);
	return ipcdoor_free_wq ? 0 : -ENOMEM;
}

void ipcdoor_endpoints_exit(void)
{
	/*
	 * No descriptor is left, but an interrupt may still be under way to an
	 * endpoint, with the last reference to it.
	 */
	wait_var_event(&ipcdoor_endpoint_count, !atomic_read(&ipcdoor_endpoint_count));
	/* bindings that wait for their grace period */
	rcu_barrier();
	destroy_workqueue(ipcdoor_free_wq);
}
