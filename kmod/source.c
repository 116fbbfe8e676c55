// SPDX-License-Identifier: GPL-2.0
/*
 * The table of sources, and the choice of a segment's.
 *
 * ipcdoor_sources_lock protects the table.  A segment enters the list of
 * segments while it is held (ipcdoor_source_choose() is called under the list's
 * lock), so that unregistering finds every user of the source.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include <linux/ipcdoor.h>

#include "segment.h"
#include "source.h"

static char *backend = "auto";
module_param(backend, charp, 0444);
MODULE_PARM_DESC(backend, "interrupt source of segments that ask for none: auto, msi, ipi, timer or direct (default auto)");

static const struct ipcdoor_source *ipcdoor_sources[IPCDOOR_SOURCE_COUNT];

int ipcdoor_source_register(const struct ipcdoor_source *source)
{
	if (!source->name || source->id == IPCDOOR_SOURCE_AUTO ||
	    source->id >= IPCDOOR_SOURCE_COUNT ||
	    !source->setup != !source->quiesce ||
	    (source->rank && !source->raise))
		return -EINVAL;
	if (cmpxchg(&ipcdoor_sources[source->id], NULL, source))
		return -EBUSY;
	return 0;
}

void ipcdoor_source_unregister(const struct ipcdoor_source *source)
{
	WRITE_ONCE(ipcdoor_sources[source->id], NULL);
	ipcdoor_segments_kill_source(source);
}

static const struct ipcdoor_source *ipcdoor_source_best(void)
{
	const struct ipcdoor_source *source, *best = NULL;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(ipcdoor_sources); i++) {
		source = READ_ONCE(ipcdoor_sources[i]);
		if (source && source->rank > (best ? best->rank : 0))
			best = source;
	}
	return best ? best : ERR_PTR(-ENODEV);
}

static const struct ipcdoor_source *ipcdoor_source_default(void)
{
	const struct ipcdoor_source *source;
	u32 i;

	if (!strcmp(backend, "auto"))
		return ipcdoor_source_best();
	for (i = 0; i < ARRAY_SIZE(ipcdoor_sources); i++) {
		source = READ_ONCE(ipcdoor_sources[i]);
		if (source && !strcmp(backend, source->name))
			return source;
	}
	return ERR_PTR(-ENODEV);
}

const struct ipcdoor_source *ipcdoor_source_choose(u32 id)
{
	const struct ipcdoor_source *source;

	if (id == IPCDOOR_SOURCE_AUTO)
		return ipcdoor_source_default();
	if (id >= ARRAY_SIZE(ipcdoor_sources))
		return ERR_PTR(-EINVAL);
	source = READ_ONCE(ipcdoor_sources[id]);
	return source ? source : ERR_PTR(-ENODEV);
}

u32 ipcdoor_source_mask(void)
{
	u32 mask = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(ipcdoor_sources); i++)
		if (READ_ONCE(ipcdoor_sources[i]))
			mask |= 1U << i;
	return mask;
}

int ipcdoor_source_check_default(void)
{
	static const char * const known[] = { "auto", "msi", "ipi", "timer", "direct" };

	if (match_string(known, ARRAY_SIZE(known), backend) < 0) {
		pr_err("backend=%s is unknown: use auto, msi, ipi, timer or direct\n", backend);
		return -EINVAL;
	}
	if (IS_ERR(ipcdoor_source_default())) {
		pr_err("backend=%s is not present on this machine%s\n", backend,
		       strcmp(backend, "msi") ? "" :
		       ": it needs QEMU's edu device (-device edu)");
		return -ENODEV;
	}
	return 0;
}
