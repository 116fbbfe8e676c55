// SPDX-License-Identifier: GPL-2.0
/*
 * Quotas by user.  Pages are also charged to the memory control group of whoever
 * allocates them; these limits bound what one user can pin where there is none.
 *
 * A record exists while something refers to it.  ipcdoor_users_lock protects
 * the list and every record's counters; it is a leaf and never held long.  The
 * budget of interrupt time has a lock of its own, for hard interrupts.
 */
#include <linux/capability.h>
#include <linux/list.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "budget.h"
#include "quota.h"

static ulong user_max_bytes = 256UL << 20;
module_param(user_max_bytes, ulong, 0644);
MODULE_PARM_DESC(user_max_bytes, "bytes of shared pages that one user may hold (default 256 MiB)");

static uint user_max_endpoints = 4096;
module_param(user_max_endpoints, uint, 0644);
MODULE_PARM_DESC(user_max_endpoints, "endpoints and listeners that one user may hold (default 4096)");

struct ipcdoor_user {
	struct list_head link;
	kuid_t uid;
	u32 refs;
	u32 endpoints;
	u64 bytes;
	struct ipcdoor_budget budget;
};

static LIST_HEAD(ipcdoor_users);
static DEFINE_SPINLOCK(ipcdoor_users_lock);

static struct ipcdoor_user *ipcdoor_user_find(kuid_t uid)
{
	struct ipcdoor_user *user;

	lockdep_assert_held(&ipcdoor_users_lock);
	list_for_each_entry(user, &ipcdoor_users, link)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

struct ipcdoor_user *ipcdoor_user_get(kuid_t uid)
{
	struct ipcdoor_user *fresh, *user;

	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return ERR_PTR(-ENOMEM);

	spin_lock(&ipcdoor_users_lock);
	user = ipcdoor_user_find(uid);
	if (!user) {
		user = fresh;
		fresh = NULL;
		user->uid = uid;
		ipcdoor_budget_init(&user->budget);
		list_add(&user->link, &ipcdoor_users);
	}
	user->refs++;
	spin_unlock(&ipcdoor_users_lock);
	kfree(fresh);
	return user;
}

void ipcdoor_user_put(struct ipcdoor_user *user)
{
	bool last;

	spin_lock(&ipcdoor_users_lock);
	last = !--user->refs;
	if (last)
		list_del(&user->link);
	spin_unlock(&ipcdoor_users_lock);
	if (last) {
		WARN_ON(user->bytes || user->endpoints);
		kfree(user);
	}
}

int ipcdoor_user_charge_bytes(struct ipcdoor_user *user, u64 bytes)
{
	u64 limit = capable(CAP_SYS_RESOURCE) ? U64_MAX : READ_ONCE(user_max_bytes);
	int err = 0;

	spin_lock(&ipcdoor_users_lock);
	if (bytes > limit || user->bytes > limit - bytes)
		err = -EDQUOT;
	else
		user->bytes += bytes;
	spin_unlock(&ipcdoor_users_lock);
	return err;
}

void ipcdoor_user_uncharge_bytes(struct ipcdoor_user *user, u64 bytes)
{
	spin_lock(&ipcdoor_users_lock);
	user->bytes -= bytes;
	spin_unlock(&ipcdoor_users_lock);
}

int ipcdoor_user_charge_endpoint(struct ipcdoor_user *user)
{
	u32 limit = capable(CAP_SYS_RESOURCE) ? U32_MAX : READ_ONCE(user_max_endpoints);
	int err = 0;

	spin_lock(&ipcdoor_users_lock);
	if (user->endpoints >= limit)
		err = -EDQUOT;
	else
		user->endpoints++;
	spin_unlock(&ipcdoor_users_lock);
	return err;
}

void ipcdoor_user_uncharge_endpoint(struct ipcdoor_user *user)
{
	spin_lock(&ipcdoor_users_lock);
	user->endpoints--;
	spin_unlock(&ipcdoor_users_lock);
}

struct ipcdoor_budget *ipcdoor_user_budget(struct ipcdoor_user *user)
{
	return &user->budget;
}

void ipcdoor_user_usage(kuid_t uid, struct ipcdoor_usage *usage)
{
	const struct ipcdoor_user *user;

	usage->max_bytes = READ_ONCE(user_max_bytes);
	usage->max_endpoints = READ_ONCE(user_max_endpoints);

	spin_lock(&ipcdoor_users_lock);
	user = ipcdoor_user_find(uid);
	usage->bytes = user ? user->bytes : 0;
	usage->endpoints = user ? user->endpoints : 0;
	spin_unlock(&ipcdoor_users_lock);
}
