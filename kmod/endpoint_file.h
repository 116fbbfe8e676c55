/* SPDX-License-Identifier: GPL-2.0 */
/* The descriptor of an endpoint: ioctl, mmap, poll. */
#ifndef IPCDOOR_ENDPOINT_FILE_H
#define IPCDOOR_ENDPOINT_FILE_H

#include <linux/types.h>

struct file;
struct ipcdoor_endpoint;
struct ipcdoor_endpoint_info;

/*
 * A new descriptor for @ep: takes over the caller's reference, and kills @ep if
 * it fails.  @info is copied to @user_info first.  The number, or -EMFILE,
 * -ENFILE, -ENOMEM, -EFAULT.
 */
int ipcdoor_endpoint_file_install(struct ipcdoor_endpoint *ep, bool nonblock,
				  struct ipcdoor_endpoint_info __user *user_info);

/* The endpoint behind @file, or NULL if it is something else. */
struct ipcdoor_endpoint *ipcdoor_endpoint_of_file(struct file *file);

#endif /* IPCDOOR_ENDPOINT_FILE_H */
