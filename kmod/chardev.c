// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ipcdoor0, the local door, and the border of everything that is asked of a
 * door: GET_INFO, CREATE, ATTACH, LISTEN, CONNECT are checked here.
 */
#include <linux/cdev.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/device.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>

#include <linux/ipcdoor.h>

#include "chardev.h"
#include "compat.h"
#include "endpoint.h"
#include "endpoint_file.h"
#include "ioctl.h"
#include "listener.h"
#include "listener_file.h"
#include "name.h"
#include "owner.h"
#include "quota.h"
#include "segment.h"
#include "source.h"
#include "version.h"

static ushort mode = 0660;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "permission bits of /dev/ipcdoor* (default 0660)");

static uint uid;
module_param(uid, uint, 0444);
MODULE_PARM_DESC(uid, "owner of /dev/ipcdoor* (default 0)");

static uint gid;
module_param(gid, uint, 0444);
MODULE_PARM_DESC(gid, "group of /dev/ipcdoor* (default 0)");

/* ---- calls ---- */

static int ipcdoor_ioctl_get_info(unsigned int cmd, void __user *arg)
{
	const struct ipcdoor_source *source;
	struct ipcdoor_usage usage;
	struct ipcdoor_info info;
	int err;

	err = ipcdoor_copy_in(&info, sizeof(info), cmd, arg);
	if (err)
		return err;
	if (info.flags)
		return -EINVAL;
	source = ipcdoor_source_choose(IPCDOOR_SOURCE_AUTO);
	ipcdoor_user_usage(current_euid(), &usage);
	info = (struct ipcdoor_info) {
		.abi_version = IPCDOOR_ABI_VERSION,
		.features = IPCDOOR_FEATURE_STAMPS | IPCDOOR_FEATURE_SIGNAL |
			    IPCDOOR_FEATURE_EVENTFD | IPCDOOR_FEATURE_GROW |
			    IPCDOOR_FEATURE_LISTEN,
		.sources = ipcdoor_source_mask(),
		/* AUTO here: the one that was configured has been unplugged */
		.default_source = IS_ERR(source) ? IPCDOOR_SOURCE_AUTO : source->id,
		.page_bytes = PAGE_SIZE,
		.max_slots = IPCDOOR_MAX_SLOTS,
		.max_bytes = ipcdoor_segment_max_bytes(),
		.user_max_bytes = usage.max_bytes,
		.user_bytes = usage.bytes,
		.user_max_endpoints = usage.max_endpoints,
		.user_endpoints = usage.endpoints,
		.version = IPCDOOR_MODULE_VERSION,
	};
	return ipcdoor_copy_out(arg, &info, sizeof(info));
}

/* The caller's own new endpoint of @seg, seated and alive. */
static struct ipcdoor_endpoint *ipcdoor_take_seat(struct ipcdoor_segment *seg, u32 rights, u32 slot)
{
	struct ipcdoor_endpoint *ep;
	int err;

	ep = ipcdoor_endpoint_create(seg, rights);
	if (IS_ERR(ep))
		return ep;
	err = ipcdoor_owner_adopt(ep);
	if (!err)
		err = ipcdoor_segment_seat(seg, ep, slot, IPCDOOR_SLOT_ALIVE);
	if (err) {
		ipcdoor_endpoint_drop(ep);
		return ERR_PTR(err);
	}
	return ep;
}

/* The creator's endpoint of a new segment. */
static struct ipcdoor_endpoint *ipcdoor_create_segment(const struct ipcdoor_create *create)
{
	u32 rights = IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE | IPCDOOR_RIGHT_SEAL;
	struct ipcdoor_access access;
	struct ipcdoor_layout layout;
	struct ipcdoor_endpoint *ep;
	struct ipcdoor_segment *seg;
	int err;

	if (!ipcdoor_name_terminated(create->name, sizeof(create->name)) ||
	    (create->flags & ~(IPCDOOR_CREATE_STAMPS | IPCDOOR_CREATE_NONBLOCK)))
		return ERR_PTR(-EINVAL);
	layout = (struct ipcdoor_layout) {
		.data_bytes = create->data_bytes,
		.max_data_bytes = create->max_data_bytes,
		.slot_bytes = create->slot_bytes,
		.slots = create->slots,
	};
	err = ipcdoor_layout_check(&layout);
	if (!err)
		err = ipcdoor_access_init(&access, create->mode, create->uid, create->gid);
	if (err)
		return ERR_PTR(err);

	seg = ipcdoor_segment_create(&layout, create->source,
				     create->flags & IPCDOOR_CREATE_STAMPS ?
				     IPCDOOR_ENDPOINT_STAMPS : 0);
	if (IS_ERR(seg))
		return ERR_CAST(seg);
	ep = ipcdoor_take_seat(seg, rights, 0);
	err = PTR_ERR_OR_ZERO(ep);
	if (!err && *create->name) {
		err = ipcdoor_segment_name(seg, create->name, &access);
		if (err)
			ipcdoor_endpoint_drop(ep);
	}
	ipcdoor_segment_put(seg);
	return err ? ERR_PTR(err) : ep;
}

static int ipcdoor_ioctl_create(unsigned int cmd, struct ipcdoor_create __user *arg)
{
	struct ipcdoor_create create;
	int err, fd;

	err = ipcdoor_copy_in(&create, sizeof(create), cmd, arg);
	if (err)
		return err;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	return ipcdoor_endpoint_file_install(fd, ipcdoor_create_segment(&create),
					     create.flags & IPCDOOR_CREATE_NONBLOCK, &arg->info);
}

/* The segment of an endpoint's descriptor, with a reference. */
static struct ipcdoor_segment *ipcdoor_segment_of_fd(int fd, u32 rights)
{
	struct ipcdoor_segment *seg;
	struct ipcdoor_endpoint *ep;
	struct file *file;

	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	ep = ipcdoor_endpoint_of_file(file);
	if (!ep)
		seg = ERR_PTR(-EINVAL);
	else if (ep->seg->flags & IPCDOOR_ENDPOINT_CONNECTION)
		seg = ERR_PTR(-EPERM);
	else if (rights & ~ep->rights)
		seg = ERR_PTR(-EACCES);
	else
		seg = ipcdoor_segment_get(ep->seg);
	fput(file);
	return seg;
}

static int ipcdoor_ioctl_attach(unsigned int cmd, struct ipcdoor_attach __user *arg)
{
	struct ipcdoor_attach attach;
	struct ipcdoor_endpoint *ep;
	struct ipcdoor_segment *seg;
	int err, fd;

	err = ipcdoor_copy_in(&attach, sizeof(attach), cmd, arg);
	if (err)
		return err;
	if (!ipcdoor_name_terminated(attach.name, sizeof(attach.name)) ||
	    (attach.flags & ~IPCDOOR_ATTACH_NONBLOCK) ||
	    (attach.rights & ~(IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE)) ||
	    !(attach.rights & IPCDOOR_RIGHT_READ) ||
	    attach.fd < -1 || !*attach.name == (attach.fd == -1))
		return -EINVAL;

	if (*attach.name)
		seg = ipcdoor_name_segment(attach.name, MAY_READ |
					   (attach.rights & IPCDOOR_RIGHT_WRITE ? MAY_WRITE : 0));
	else
		seg = ipcdoor_segment_of_fd(attach.fd, attach.rights);
	if (IS_ERR(seg))
		return PTR_ERR(seg);
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ipcdoor_segment_put(seg);
		return fd;
	}
	ep = ipcdoor_take_seat(seg, attach.rights, attach.slot);
	ipcdoor_segment_put(seg);
	return ipcdoor_endpoint_file_install(fd, ep, attach.flags & IPCDOOR_ATTACH_NONBLOCK,
					     &arg->info);
}

static int ipcdoor_ioctl_listen(unsigned int cmd, void __user *arg)
{
	struct ipcdoor_listener *listener;
	struct ipcdoor_access access;
	struct ipcdoor_listen listen;
	struct ipcdoor_layout layout;
	int err;

	err = ipcdoor_copy_in(&listen, sizeof(listen), cmd, arg);
	if (err)
		return err;
	if (!ipcdoor_name_terminated(listen.name, sizeof(listen.name)) || !*listen.name ||
	    (listen.flags & ~(IPCDOOR_LISTEN_STAMPS | IPCDOOR_LISTEN_NONBLOCK)) ||
	    !listen.backlog || listen.backlog > IPCDOOR_MAX_BACKLOG)
		return -EINVAL;
	layout = (struct ipcdoor_layout) {
		.data_bytes = listen.data_bytes,
		.slot_bytes = listen.slot_bytes,
		.slots = 2,
	};
	err = ipcdoor_layout_check(&layout);
	if (!err)
		err = ipcdoor_access_init(&access, listen.mode, listen.uid, listen.gid);
	if (err)
		return err;
	listener = ipcdoor_listener_create(listen.name, &access, &layout, listen.source,
					   listen.flags, listen.backlog);
	if (IS_ERR(listener))
		return PTR_ERR(listener);
	return ipcdoor_listener_file_install(listener, listen.flags & IPCDOOR_LISTEN_NONBLOCK);
}

static int ipcdoor_ioctl_connect(unsigned int cmd, struct ipcdoor_connect __user *arg,
				 bool nonblock)
{
	struct ipcdoor_listener *listener;
	struct ipcdoor_connect connect;
	struct ipcdoor_endpoint *ep;
	kuid_t wanted = INVALID_UID;
	int err, fd;

	err = ipcdoor_copy_in(&connect, sizeof(connect), cmd, arg);
	if (err)
		return err;
	if (!ipcdoor_name_terminated(connect.name, sizeof(connect.name)) ||
	    (connect.flags & ~(IPCDOOR_CONNECT_NONBLOCK | IPCDOOR_CONNECT_UID)))
		return -EINVAL;
	if (connect.flags & IPCDOOR_CONNECT_UID) {
		wanted = make_kuid(current_user_ns(), connect.server_uid);
		if (!uid_valid(wanted))
			return -EINVAL;
	} else if (connect.server_uid) {
		return -EINVAL;
	}

	listener = ipcdoor_name_listener(connect.name, MAY_WRITE);
	if (IS_ERR(listener))
		return PTR_ERR(listener);
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		ep = NULL;
	else if (uid_valid(wanted) && !uid_eq(wanted, ipcdoor_listener_uid(listener)))
		ep = ERR_PTR(-EPERM);
	else
		ep = ipcdoor_listener_connect(listener, connect.max_bytes, connect.deadline_ns,
					      nonblock);
	ipcdoor_listener_put(listener);
	if (fd < 0)
		return fd;
	return ipcdoor_endpoint_file_install(fd, ep, connect.flags & IPCDOOR_CONNECT_NONBLOCK,
					     &arg->info);
}

/* ---- the node ---- */

static long ipcdoor_door_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	void __user *arg = (void __user *)address;

	switch (IPCDOOR_CMD(cmd)) {
	case IPCDOOR_CMD(IPCDOOR_IOC_GET_INFO):
		return ipcdoor_ioctl_get_info(cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_CREATE):
		return ipcdoor_ioctl_create(cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_ATTACH):
		return ipcdoor_ioctl_attach(cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_LISTEN):
		return ipcdoor_ioctl_listen(cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_CONNECT):
		return ipcdoor_ioctl_connect(cmd, arg, file->f_flags & O_NONBLOCK);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations ipcdoor_door_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = ipcdoor_door_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static dev_t ipcdoor_devt;
static struct cdev ipcdoor_cdev;
static struct class *ipcdoor_class;
static struct device ipcdoor_device;

static char *ipcdoor_devnode(IPCDOOR_DEVNODE_CONST struct device *dev, umode_t *node_mode,
			     kuid_t *node_uid, kgid_t *node_gid)
{
	/* on removal only the name is asked for */
	if (node_mode)
		*node_mode = mode & 0666;
	if (node_uid)
		*node_uid = make_kuid(&init_user_ns, uid);
	if (node_gid)
		*node_gid = make_kgid(&init_user_ns, gid);
	return NULL;
}

static const struct device_type ipcdoor_device_type = {
	.name = "ipcdoor",
	.devnode = ipcdoor_devnode,
};

static void ipcdoor_device_release(struct device *dev)
{
	/* static: there is nothing to free, and the module outlives it */
}

int ipcdoor_chardev_init(void)
{
	int err;

	err = alloc_chrdev_region(&ipcdoor_devt, 0, 1, "ipcdoor");
	if (err)
		return err;
	ipcdoor_class = ipcdoor_class_create("ipcdoor");
	if (IS_ERR(ipcdoor_class)) {
		err = PTR_ERR(ipcdoor_class);
		goto err_region;
	}
	cdev_init(&ipcdoor_cdev, &ipcdoor_door_fops);
	ipcdoor_cdev.owner = THIS_MODULE;

	device_initialize(&ipcdoor_device);
	ipcdoor_device.devt = ipcdoor_devt;
	ipcdoor_device.class = ipcdoor_class;
	ipcdoor_device.type = &ipcdoor_device_type;
	ipcdoor_device.release = ipcdoor_device_release;
	err = dev_set_name(&ipcdoor_device, "ipcdoor0");
	if (err)
		goto err_device;
	err = cdev_device_add(&ipcdoor_cdev, &ipcdoor_device);
	if (err)
		goto err_device;
	return 0;

err_device:
	put_device(&ipcdoor_device);
	class_destroy(ipcdoor_class);
err_region:
	unregister_chrdev_region(ipcdoor_devt, 1);
	return err;
}

void ipcdoor_chardev_exit(void)
{
	cdev_device_del(&ipcdoor_cdev, &ipcdoor_device);
	put_device(&ipcdoor_device);
	class_destroy(ipcdoor_class);
	unregister_chrdev_region(ipcdoor_devt, 1);
}
