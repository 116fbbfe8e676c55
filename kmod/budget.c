// SPDX-License-Identifier: GPL-2.0
/*
 * The budget of interrupt time.
 *
 * The scheduler accounts interrupt time to nobody who caused it, so the module
 * does: each user earns a share of one CPU's time and spends it on interrupts.  It
 * is the generic cell rate algorithm (ITU-T I.371, virtual scheduling) with time as
 * its unit: an interrupt moves `spent_until_ns` ahead by as long as it takes to earn
 * its price, and may be raised while that is not ahead of now by more than the
 * burst.  One number for a user, so more endpoints, threads or CPUs earn no more.
 */
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/preempt.h>
#include <linux/time64.h>

#include "budget.h"

/* what may be saved up, as time in which it is earned */
#define IPCDOOR_BUDGET_BURST_NS		NSEC_PER_MSEC
#define IPCDOOR_BUDGET_CALIBRATIONS	64
/*
 * A cross-call and the irq_work that it queues, the dearest of the sources.  To wake
 * a thread costs about as much as an interrupt.
 */
#define IPCDOOR_BUDGET_INTERRUPTS	2

static int ipcdoor_percent_set(const char *text, const struct kernel_param *param)
{
	return param_set_uint_minmax(text, param, 0, 100);
}

static const struct kernel_param_ops ipcdoor_percent_ops = {
	.set = ipcdoor_percent_set,
	.get = param_get_uint,
};

static uint user_max_interrupt_percent = 5;
module_param_cb(user_max_interrupt_percent, &ipcdoor_percent_ops,
		&user_max_interrupt_percent, 0644);
MODULE_PARM_DESC(user_max_interrupt_percent, "share of one CPU's time that one user's rings may take in interrupts that no sleeping thread pays for, 0: no limit (default 5)");

static uint interrupt_ns;
module_param(interrupt_ns, uint, 0444);
MODULE_PARM_DESC(interrupt_ns, "what one interrupt costs this machine, its handler's work apart; measured when the module is loaded");

void ipcdoor_budget_init(struct ipcdoor_budget *budget)
{
	raw_spin_lock_init(&budget->lock);
	budget->spent_until_ns = 0;
}

bool ipcdoor_budget_spend(struct ipcdoor_budget *budget, u32 waiters, u32 extra_ns)
{
	u32 percent = READ_ONCE(user_max_interrupt_percent);
	u64 price_ns = (IPCDOOR_BUDGET_INTERRUPTS + waiters) * (u64)interrupt_ns + extra_ns;
	unsigned long flags;
	bool may;
	u64 now;

	if (!percent)
		return true;
	raw_spin_lock_irqsave(&budget->lock, flags);
	now = ktime_get_ns();
	budget->spent_until_ns = max(budget->spent_until_ns, now);
	may = budget->spent_until_ns - now <= IPCDOOR_BUDGET_BURST_NS;
	if (may)
		budget->spent_until_ns += div_u64(price_ns * 100, percent);
	raw_spin_unlock_irqrestore(&budget->lock, flags);
	return may;
}

static void ipcdoor_budget_nothing(struct irq_work *work)
{
}

/* The shortest of many interrupts that this CPU sends itself. */
void ipcdoor_budget_calibrate(void)
{
	struct irq_work work = IRQ_WORK_INIT_HARD(ipcdoor_budget_nothing);
	u64 begin, took, least = NSEC_PER_MSEC;
	int i;

	for (i = 0; i < IPCDOOR_BUDGET_CALIBRATIONS; i++) {
		preempt_disable();
		begin = ktime_get_ns();
		irq_work_queue(&work);
		while (irq_work_is_busy(&work))
			cpu_relax();
		took = ktime_get_ns() - begin;
		preempt_enable();
		least = min(least, took);
	}
	irq_work_sync(&work);
	interrupt_ns = least;
}
