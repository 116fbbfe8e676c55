/* SPDX-License-Identifier: GPL-2.0 */
/* How much interrupt time a user's rings may take from others. */
#ifndef IPCDOOR_BUDGET_H
#define IPCDOOR_BUDGET_H

#include <linux/spinlock.h>
#include <linux/types.h>

/**
 * struct ipcdoor_budget - the interrupt time of one user
 * @lock: protects @spent_until_ns; a leaf, taken under ep->lock
 * @spent_until_ns: when what was spent will have been earned, CLOCK_MONOTONIC
 */
struct ipcdoor_budget {
	raw_spinlock_t lock;
	u64 spent_until_ns;
};

void ipcdoor_budget_init(struct ipcdoor_budget *budget);

/*
 * Whether an interrupt may be raised that looks at @waiters threads and takes
 * @extra_ns besides; if so it is paid for.  Any context.
 */
bool ipcdoor_budget_spend(struct ipcdoor_budget *budget, u32 waiters, u32 extra_ns);

/* Once, before the first budget is used: finds out what an interrupt costs here. */
void ipcdoor_budget_calibrate(void);

#endif /* IPCDOOR_BUDGET_H */
