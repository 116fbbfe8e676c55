// SPDX-License-Identifier: GPL-2.0
/* Source `direct`: the ringer wakes the waiters itself; no interrupt. */
#include <linux/ipcdoor.h>

#include "source.h"

static const struct ipcdoor_source ipcdoor_source_direct = {
	.name = "direct",
	.id = IPCDOOR_SOURCE_DIRECT,
};

int ipcdoor_source_direct_init(void)
{
	return ipcdoor_source_register(&ipcdoor_source_direct);
}

void ipcdoor_source_direct_exit(void)
{
	ipcdoor_source_unregister(&ipcdoor_source_direct);
}
