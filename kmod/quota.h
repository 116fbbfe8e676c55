/* SPDX-License-Identifier: GPL-2.0 */
/* What each user holds, and how much they may. */
#ifndef IPCDOOR_QUOTA_H
#define IPCDOOR_QUOTA_H

#include <linux/types.h>
#include <linux/uidgid.h>

struct ipcdoor_budget;
struct ipcdoor_user;

/* Finds or makes the record of @uid; a reference. ERR_PTR(-ENOMEM). */
struct ipcdoor_user *ipcdoor_user_get(kuid_t uid);
void ipcdoor_user_put(struct ipcdoor_user *user);

/* -EDQUOT beyond the limit, unless the caller has CAP_SYS_RESOURCE. */
int ipcdoor_user_charge_bytes(struct ipcdoor_user *user, u64 bytes);
void ipcdoor_user_uncharge_bytes(struct ipcdoor_user *user, u64 bytes);
int ipcdoor_user_charge_endpoint(struct ipcdoor_user *user);
void ipcdoor_user_uncharge_endpoint(struct ipcdoor_user *user);

/* The user's interrupt time. */
struct ipcdoor_budget *ipcdoor_user_budget(struct ipcdoor_user *user);

struct ipcdoor_usage {
	u64 bytes;
	u64 max_bytes;
	u32 endpoints;
	u32 max_endpoints;
};

/* What the caller's user holds, for GET_INFO. */
void ipcdoor_user_usage(kuid_t uid, struct ipcdoor_usage *usage);

#endif /* IPCDOOR_QUOTA_H */
