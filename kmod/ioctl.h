/* SPDX-License-Identifier: GPL-2.0 */
/* What the ioctl handlers of doors, listeners and endpoints share. */
#ifndef IPCDOOR_IOCTL_H
#define IPCDOOR_IOCTL_H

#include <linux/errno.h>
#include <linux/ioctl.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/uaccess.h>

/* A command without its size: structures may grow. */
#define IPCDOOR_CMD(cmd) ((cmd) & ~((unsigned int)_IOC_SIZEMASK << _IOC_SIZESHIFT))

/* -EINVAL shorter than the first release's, -E2BIG unknown content, -EFAULT. */
static inline int ipcdoor_copy_in(void *to, size_t size, unsigned int cmd,
				  const void __user *from)
{
	if (_IOC_SIZE(cmd) < size)
		return -EINVAL;
	if (_IOC_SIZE(cmd) > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(to, size, from, _IOC_SIZE(cmd));
}

/* The caller's structure is no shorter, ipcdoor_copy_in() saw to that. */
static inline int ipcdoor_copy_out(void __user *to, const void *from, size_t size)
{
	return copy_to_user(to, from, size) ? -EFAULT : 0;
}

/* A name in a structure: terminated within its field. */
static inline bool ipcdoor_name_terminated(const char *name, size_t size)
{
	return strnlen(name, size) < size;
}

#endif /* IPCDOOR_IOCTL_H */
