/* SPDX-License-Identifier: GPL-2.0 */
/* The descriptor of an endpoint: ioctl, mmap, poll. */
#ifndef IPCDOOR_ENDPOINT_FILE_H
#define IPCDOOR_ENDPOINT_FILE_H

#include <linux/types.h>

struct file;
struct ipcdoor_endpoint;
struct ipcdoor_endpoint_info;

/*
 * Makes @fd, fresh from get_unused_fd_flags(), the descriptor of @ep: takes over
 * the caller's reference, and kills @ep if it fails.  An ERR_PTR for @ep is passed
 * on; @fd is given back with every failure.  @info is copied to @user_info first.
 * @fd, or -ENFILE, -ENOMEM, -EFAULT.
 */
int ipcdoor_endpoint_file_install(int fd, struct ipcdoor_endpoint *ep, bool nonblock,
				  struct ipcdoor_endpoint_info __user *user_info);

/* The endpoint behind @file, or NULL if it is something else. */
struct ipcdoor_endpoint *ipcdoor_endpoint_of_file(struct file *file);

#endif /* IPCDOOR_ENDPOINT_FILE_H */
