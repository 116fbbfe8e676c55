// SPDX-License-Identifier: GPL-2.0
/* The border of listeners: ACCEPT is checked here. */
#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>

#include <linux/ipcdoor.h>

#include "endpoint.h"
#include "endpoint_file.h"
#include "ioctl.h"
#include "listener.h"
#include "listener_file.h"

static int ipcdoor_ioctl_accept(struct ipcdoor_listener *listener, unsigned int cmd,
				struct ipcdoor_accept __user *arg, bool nonblock)
{
	struct ipcdoor_endpoint *ep;
	struct ipcdoor_accept accept;
	int err, fd;

	err = ipcdoor_copy_in(&accept, sizeof(accept), cmd, arg);
	if (err)
		return err;
	if (accept.pad || (accept.flags & ~IPCDOOR_ACCEPT_NONBLOCK))
		return -EINVAL;
	/* first: whoever has no descriptor left must not take a connection */
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	ep = ipcdoor_listener_accept(listener, accept.deadline_ns, nonblock);
	return ipcdoor_endpoint_file_install(fd, ep, accept.flags & IPCDOOR_ACCEPT_NONBLOCK,
					     &arg->info);
}

static long ipcdoor_listener_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	bool nonblock = file->f_flags & O_NONBLOCK;

	if (IPCDOOR_CMD(cmd) != IPCDOOR_CMD(IPCDOOR_IOC_ACCEPT))
		return -ENOTTY;
	return ipcdoor_ioctl_accept(file->private_data, cmd, (void __user *)address, nonblock);
}

static __poll_t ipcdoor_listener_file_poll(struct file *file, poll_table *table)
{
	return ipcdoor_listener_poll(file->private_data, file, table);
}

static int ipcdoor_listener_release(struct inode *inode, struct file *file)
{
	ipcdoor_listener_close(file->private_data);
	ipcdoor_listener_put(file->private_data);
	return 0;
}

static const struct file_operations ipcdoor_listener_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = ipcdoor_listener_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = ipcdoor_listener_file_poll,
	.release = ipcdoor_listener_release,
	.llseek = noop_llseek,
};

int ipcdoor_listener_file_install(struct ipcdoor_listener *listener, bool nonblock)
{
	int fd;

	fd = anon_inode_getfd("[ipcdoor-listener]", &ipcdoor_listener_fops, listener,
			      O_RDWR | O_CLOEXEC | (nonblock ? O_NONBLOCK : 0));
	if (fd < 0) {
		ipcdoor_listener_close(listener);
		ipcdoor_listener_put(listener);
	}
	return fd;
}
