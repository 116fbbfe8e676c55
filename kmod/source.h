/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interrupt sources: what carries a doorbell from the ringer to the handler.
 * The core knows them by this table alone.
 */
#ifndef IPCDOOR_SOURCE_H
#define IPCDOOR_SOURCE_H

#include <linux/types.h>

struct ipcdoor_endpoint;

/**
 * struct ipcdoor_source - one way to raise an interrupt
 * @name: for people and for the module parameter
 * @id: IPCDOOR_SOURCE_*
 * @rank: AUTO takes the highest of those present; 0: AUTO never takes it
 * @setup: prepares ep->irq, zeroed, of a new endpoint; process context.  NULL:
 *	nothing to prepare, and then nothing to quiesce
 * @raise: starts one interrupt that calls ipcdoor_doorbell_interrupt(@ep) in
 *	hard interrupt context, on @cpu where the source can choose; until then
 *	the core keeps @ep.  Called with ep->lock held and interrupts off, and not
 *	again before the handler ran.  An error means that no interrupt comes.
 *	NULL: the ringer delivers by itself.
 * @lands_on: the CPU that its interrupts come on, whatever @cpu says.  NULL: they
 *	come where the receiver sleeps, or where the ringer runs
 * @quiesce: undoes @setup before the endpoint is freed; process context, no
 *	interrupt of it is under way
 */
struct ipcdoor_source {
	const char *name;
	u32 id;
	u32 rank;
	void (*setup)(struct ipcdoor_endpoint *ep);
	int (*raise)(struct ipcdoor_endpoint *ep, unsigned int cpu);
	const unsigned int *lands_on;
	void (*quiesce)(struct ipcdoor_endpoint *ep);
};

/* -EINVAL for an incomplete table, -EBUSY where the id is taken. */
int ipcdoor_source_register(const struct ipcdoor_source *source);

/*
 * From here on the source is absent: no segment can choose it, and the
 * endpoints of those that did are dead.  Interrupts under way may still come.
 */
void ipcdoor_source_unregister(const struct ipcdoor_source *source);

/* The source for a segment: ERR_PTR(-EINVAL) unknown, (-ENODEV) absent. */
const struct ipcdoor_source *ipcdoor_source_choose(u32 id);

/* Bits (1 << IPCDOOR_SOURCE_x) of those present. */
u32 ipcdoor_source_mask(void);

/* The module parameter `backend`: checked once the sources are registered. */
int ipcdoor_source_check_default(void);

/* The sources of this module */
int ipcdoor_source_direct_init(void);
void ipcdoor_source_direct_exit(void);
int ipcdoor_source_ipi_init(void);
void ipcdoor_source_ipi_exit(void);
int ipcdoor_source_timer_init(void);
void ipcdoor_source_timer_exit(void);
#ifdef CONFIG_PCI
int ipcdoor_source_edu_init(void);
void ipcdoor_source_edu_exit(void);
#else
static inline int ipcdoor_source_edu_init(void) { return 0; }
static inline void ipcdoor_source_edu_exit(void) { }
#endif

#endif /* IPCDOOR_SOURCE_H */
