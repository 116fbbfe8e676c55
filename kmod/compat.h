/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The only place that knows kernel versions.  Each wrapper names the kernel
 * change that it answers, and is written in the newest form.
 */
#ifndef IPCDOOR_COMPAT_H
#define IPCDOOR_COMPAT_H

#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/shmem_fs.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "ipcdoor needs Linux 6.1 or newer"
#endif

/* Death of an owner is told by its mmu notifier; every distribution has it. */
#ifndef CONFIG_MMU_NOTIFIER
#error "ipcdoor needs a kernel with CONFIG_MMU_NOTIFIER (KVM selects it)"
#endif

#ifndef CONFIG_SHMEM
#error "ipcdoor needs a kernel with CONFIG_SHMEM"
#endif

/* 6.3, 1c71222e5f23: vm_flags became read-only, changed by helpers alone */
static inline void ipcdoor_vm_flags_mod(struct vm_area_struct *vma,
					unsigned long set, unsigned long clear)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

/* 6.8, 3652117f8548: eventfd_signal() always adds one */
static inline void ipcdoor_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

/* 6.13, 908a1d775422 and 6.15, 9779489a31d7: hrtimer_setup() for hrtimer_init() */
static inline void
ipcdoor_hrtimer_setup(struct hrtimer *timer,
		      enum hrtimer_restart (*function)(struct hrtimer *timer),
		      clockid_t clock, enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, function, clock, mode);
#else
	hrtimer_init(timer, clock, mode);
	timer->function = function;
#endif
}

/*
 * 7.0, "mm: update shmem_[kernel]_file_*() functions to use vma_flags_t":
 * shmem_file_setup() takes the flags as a bitmap
 */
static inline struct file *ipcdoor_shmem_file_setup(const char *name, loff_t size)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
	return shmem_file_setup(name, size, mk_vma_flags(VMA_NORESERVE_BIT));
#else
	return shmem_file_setup(name, size, VM_NORESERVE);
#endif
}

/* 6.4, 1aaba11da9aa: class_create() lost its module */
static inline struct class *ipcdoor_class_create(const char *name)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return class_create(name);
#else
	return class_create(THIS_MODULE, name);
#endif
}

/* 6.2, a9b12f8b4ed0: devnode() takes a const device */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define IPCDOOR_DEVNODE_CONST const
#else
#define IPCDOOR_DEVNODE_CONST
#endif

#endif /* IPCDOOR_COMPAT_H */
