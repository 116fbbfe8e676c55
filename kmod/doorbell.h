/* SPDX-License-Identifier: GPL-2.0 */
/* The doorbell of an endpoint: counting, delivering, waiting. */
#ifndef IPCDOOR_DOORBELL_H
#define IPCDOOR_DOORBELL_H

#include <linux/poll.h>
#include <linux/types.h>

#include <linux/ipcdoor.h>

struct ipcdoor_endpoint;

/* What vector 0 tells. */
enum ipcdoor_lifecycle {
	IPCDOOR_PEER_JOINED,
	IPCDOOR_PEER_DIED,
	IPCDOOR_SEGMENT_CHANGED,
};

void ipcdoor_doorbell_init(struct ipcdoor_endpoint *ep);
/* Before it is freed: nothing of it is under way afterwards. */
void ipcdoor_doorbell_exit(struct ipcdoor_endpoint *ep);

/* No more counts or deliveries; wakes its waiters and pollers, unbinds. */
void ipcdoor_doorbell_die(struct ipcdoor_endpoint *ep);

/*
 * RING: @ring is checked but for what only the slot knows.  -ENOTCONN, -EPIPE,
 * -ESTALE.
 */
int ipcdoor_doorbell_ring(struct ipcdoor_endpoint *from, const struct ipcdoor_ring *ring);

/* Vector 0 of @ep, delivered without its source; seg->lock is held. */
void ipcdoor_doorbell_lifecycle(struct ipcdoor_endpoint *ep, enum ipcdoor_lifecycle what);

/*
 * The source's handler calls this, in hard interrupt context, once for each raise;
 * @ep may be gone when the interrupt ends.  Interrupts are off.
 */
void ipcdoor_doorbell_interrupt(struct ipcdoor_endpoint *ep);

/**
 * struct ipcdoor_wait_books - what a WAIT remembers by vector
 * @by_vector: with `seen`, the counts seen, in and out; otherwise how many
 *	rings were taken of each fired vector, for ipcdoor_doorbell_untake()
 */
struct ipcdoor_wait_books {
	u64 by_vector[IPCDOOR_VECTORS];
};

/*
 * WAIT: fills @wait's output and @books.  -ETIMEDOUT, -EAGAIN (@nonblock),
 * -EINTR (a signal), -EPIPE, -ESHUTDOWN, -EUSERS (too many waiters).
 */
int ipcdoor_doorbell_wait(struct ipcdoor_endpoint *ep, struct ipcdoor_wait *wait,
			  struct ipcdoor_wait_books *books, bool nonblock);

/* Gives back what a WAIT took and could not hand to its caller. */
void ipcdoor_doorbell_untake(struct ipcdoor_endpoint *ep, const struct ipcdoor_wait *wait,
			     const struct ipcdoor_wait_books *books);

__poll_t ipcdoor_doorbell_poll(struct ipcdoor_endpoint *ep, struct file *file,
			       poll_table *table);

#endif /* IPCDOOR_DOORBELL_H */
