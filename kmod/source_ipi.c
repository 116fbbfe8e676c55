// SPDX-License-Identifier: GPL-2.0
/*
 * Source `ipi`: a true interrupt on the CPU where the receiver sleeps.
 *
 * smp_call_function_single_async() alone would not be one: a target that polls
 * in its idle loop runs the callback without an interrupt.  So the callback only
 * queues a hard irq_work on the target, which raises an interrupt on that CPU,
 * and the irq_work does the delivery.  On the ringer's own CPU the irq_work is
 * queued at once.
 */
#include <linux/irq_work.h>
#include <linux/smp.h>

#include <linux/ipcdoor.h>

#include "doorbell.h"
#include "endpoint.h"
#include "source.h"

static void ipcdoor_ipi_irq(struct irq_work *work)
{
	struct ipcdoor_endpoint *ep = container_of(work, struct ipcdoor_endpoint, irq.ipi.work);

	ipcdoor_doorbell_interrupt(ep);
}

static void ipcdoor_ipi_call(void *info)
{
	struct ipcdoor_endpoint *ep = info;

	irq_work_queue(&ep->irq.ipi.work);
}

static void ipcdoor_ipi_setup(struct ipcdoor_endpoint *ep)
{
	ep->irq.ipi.work = IRQ_WORK_INIT_HARD(ipcdoor_ipi_irq);
	INIT_CSD(&ep->irq.ipi.csd, ipcdoor_ipi_call, ep);
}

static int ipcdoor_ipi_raise(struct ipcdoor_endpoint *ep, unsigned int cpu)
{
	/* an offline target, and without SMP every one, is served from here */
	if (cpu != smp_processor_id() &&
	    !smp_call_function_single_async(cpu, &ep->irq.ipi.csd))
		return 0;
	return irq_work_queue(&ep->irq.ipi.work) ? 0 : -EBUSY;
}

static void ipcdoor_ipi_quiesce(struct ipcdoor_endpoint *ep)
{
	irq_work_sync(&ep->irq.ipi.work);
}

static const struct ipcdoor_source ipcdoor_source_ipi = {
	.name = "ipi",
	.id = IPCDOOR_SOURCE_IPI,
	.rank = 2,
	.setup = ipcdoor_ipi_setup,
	.raise = ipcdoor_ipi_raise,
	.quiesce = ipcdoor_ipi_quiesce,
};

int ipcdoor_source_ipi_init(void)
{
	return ipcdoor_source_register(&ipcdoor_source_ipi);
}

void ipcdoor_source_ipi_exit(void)
{
	ipcdoor_source_unregister(&ipcdoor_source_ipi);
}
