// SPDX-License-Identifier: GPL-2.0
/*
 * Source `timer`: a hard hrtimer that expires at once, pinned to the ringer's
 * CPU.  It is there on every machine.
 */
#include <linux/hrtimer.h>

#include <linux/ipcdoor.h>

#include "compat.h"
#include "doorbell.h"
#include "endpoint.h"
#include "source.h"

static enum hrtimer_restart ipcdoor_timer_irq(struct hrtimer *timer)
{
	struct ipcdoor_endpoint *ep = container_of(timer, struct ipcdoor_endpoint, irq.timer);

	ipcdoor_doorbell_interrupt(ep);
	return HRTIMER_NORESTART;
}

static void ipcdoor_timer_setup(struct ipcdoor_endpoint *ep)
{
	ipcdoor_hrtimer_setup(&ep->irq.timer, ipcdoor_timer_irq, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
}

static int ipcdoor_timer_raise(struct ipcdoor_endpoint *ep, unsigned int cpu)
{
	hrtimer_start(&ep->irq.timer, 0, HRTIMER_MODE_REL_PINNED_HARD);
	return 0;
}

static void ipcdoor_timer_quiesce(struct ipcdoor_endpoint *ep)
{
	hrtimer_cancel(&ep->irq.timer);
}

static const struct ipcdoor_source ipcdoor_source_timer = {
	.name = "timer",
	.id = IPCDOOR_SOURCE_TIMER,
	.rank = 1,
	.setup = ipcdoor_timer_setup,
	.raise = ipcdoor_timer_raise,
	.quiesce = ipcdoor_timer_quiesce,
};

int ipcdoor_source_timer_init(void)
{
	return ipcdoor_source_register(&ipcdoor_source_timer);
}

void ipcdoor_source_timer_exit(void)
{
	ipcdoor_source_unregister(&ipcdoor_source_timer);
}
