/* SPDX-License-Identifier: GPL-2.0 */
/* What the ioctl handlers of doors, listeners and endpoints share. */
#ifndef IPCDOOR_IOCTL_H
#define IPCDOOR_IOCTL_H

#include <linux/compiler.h>
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

/*
 * The same for the hot calls, whose structures are all 64-bit words: without a
 * call, and of the first @input bytes alone, where the size is the usual one.
 */
static __always_inline int ipcdoor_copy_words_in(u64 *to, size_t size, size_t input,
						 unsigned int cmd, const void __user *from)
{
	const u64 __user *words = from;
	size_t i;

	if (unlikely(_IOC_SIZE(cmd) != size))
		return ipcdoor_copy_in(to, size, cmd, from);
	if (!user_read_access_begin(words, size))
		return -EFAULT;
#pragma GCC unroll 16
	for (i = 0; i < input / sizeof(*to); i++)
		unsafe_get_user(to[i], words + i, fault);
	user_read_access_end();
	return 0;

fault:
	user_read_access_end();
	return -EFAULT;
}

static __always_inline int ipcdoor_copy_words_out(void __user *to, const u64 *from, size_t size)
{
	u64 __user *words = to;
	size_t i;

	if (!user_write_access_begin(words, size))
		return -EFAULT;
#pragma GCC unroll 16
	for (i = 0; i < size / sizeof(*from); i++)
		unsafe_put_user(from[i], words + i, fault);
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

/* The caller's structure is no shorter, ipcdoor_copy_in() saw to that. */
static inline int ipcdoor_copy_out(void __user *to, const void *from, size_t size)
{
	return copy_to_user(to, from, size) ? -EFAULT : 0;
}

/*
 * For a local variable that is written before it is read: kernels that zero the
 * stack would spend more on it than the call does on its work.
 */
#if __has_attribute(uninitialized)
#define ipcdoor_uninitialized __attribute__((uninitialized))
#else
#define ipcdoor_uninitialized
#endif

/* A name in a structure: terminated within its field. */
static inline bool ipcdoor_name_terminated(const char *name, size_t size)
{
	return strnlen(name, size) < size;
}

#endif /* IPCDOOR_IOCTL_H */
