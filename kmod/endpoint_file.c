// SPDX-License-Identifier: GPL-2.0
/*
 * The border of endpoints: everything that user space says to one is checked
 * here, and behind it no more.
 *
 * Only the owner's address space gets past it.  An endpoint's file has operations
 * of its own on the inode of its segment's shmem file: the pages' reverse mapping
 * finds every VMA, and whoever in the kernel takes a file's inode and mapping for a
 * pair (sealing does) finds one.
 */
#include <linux/compat.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include <linux/ipcdoor.h>

#include "doorbell.h"
#include "endpoint.h"
#include "endpoint_file.h"
#include "ioctl.h"
#include "mmap.h"
#include "notify.h"
#include "segment.h"

/* ---- RING, WAIT, RING_WAIT ---- */

static int ipcdoor_check_ring(const struct ipcdoor_endpoint *ep, struct ipcdoor_ring *ring)
{
	if (ring->slot >= ep->seg->nr_slots || ring->flags ||
	    ring->vector == IPCDOOR_VECTOR_LIFECYCLE || ring->vector >= IPCDOOR_VECTORS)
		return -EINVAL;
	/* both are indices soon: no speculation beyond the checks */
	ring->slot = array_index_nospec(ring->slot, ep->seg->nr_slots);
	ring->vector &= IPCDOOR_VECTORS - 1;
	return 0;
}

static int ipcdoor_check_wait(const struct ipcdoor_wait *wait)
{
	if (!wait->mask || wait->pad || (wait->flags & ~IPCDOOR_WAIT_ACK))
		return -EINVAL;
	if ((wait->flags & IPCDOOR_WAIT_ACK) && wait->seen)
		return -EINVAL;
	return 0;
}

/* Copies seen[] from the lowest to the highest vector of the mask. */
static int ipcdoor_copy_seen_in(const struct ipcdoor_wait *wait, u64 *seen)
{
	u32 low = __ffs64(wait->mask), high = fls64(wait->mask);
	const u64 __user *from = u64_to_user_ptr(wait->seen);

	return copy_from_user(seen + low, from + low, (high - low) * sizeof(*seen)) ? -EFAULT : 0;
}

static int ipcdoor_copy_seen_out(const struct ipcdoor_wait *wait, const u64 *seen)
{
	u64 __user *to = u64_to_user_ptr(wait->seen);
	u64 bits = wait->fired;

	while (bits) {
		u32 v = __ffs64(bits);

		bits &= bits - 1;
		if (put_user(seen[v], to + v))
			return -EFAULT;
	}
	return 0;
}

/* Waits, and tells @user; what it cannot tell it gives back. */
static int ipcdoor_wait(struct ipcdoor_endpoint *ep, struct ipcdoor_wait *wait,
			struct ipcdoor_wait __user *user, struct ipcdoor_wait_books *books,
			bool nonblock)
{
	int err;

	err = ipcdoor_doorbell_wait(ep, wait, books, nonblock);
	if (err)
		return err;
	if (wait->seen && ipcdoor_copy_seen_out(wait, books->by_vector))
		return -EFAULT;
	if (ipcdoor_copy_words_out(&user->fired, &wait->fired,
				   sizeof(*wait) - offsetof(struct ipcdoor_wait, fired))) {
		ipcdoor_doorbell_untake(ep, wait, books);
		return -EFAULT;
	}
	return 0;
}

static int ipcdoor_ioctl_ring(struct ipcdoor_endpoint *ep, unsigned int cmd, void __user *arg)
{
	union {
		struct ipcdoor_ring ring;
		u64 words[sizeof(struct ipcdoor_ring) / sizeof(u64)];
	} in ipcdoor_uninitialized;
	int err;

	err = ipcdoor_copy_words_in(in.words, sizeof(in), sizeof(in), cmd, arg);
	if (!err)
		err = ipcdoor_check_ring(ep, &in.ring);
	if (!err)
		err = ipcdoor_doorbell_ring(ep, &in.ring);
	return err;
}

static int ipcdoor_ioctl_wait(struct ipcdoor_endpoint *ep, unsigned int cmd,
			      struct ipcdoor_wait __user *arg, bool nonblock)
{
	struct ipcdoor_wait_books books ipcdoor_uninitialized;
	union {
		struct ipcdoor_wait wait;
		u64 words[sizeof(struct ipcdoor_wait) / sizeof(u64)];
	} in ipcdoor_uninitialized;
	int err;

	err = ipcdoor_copy_words_in(in.words, sizeof(in), offsetof(struct ipcdoor_wait, fired),
				    cmd, arg);
	if (!err)
		err = ipcdoor_check_wait(&in.wait);
	if (!err && in.wait.seen)
		err = ipcdoor_copy_seen_in(&in.wait, books.by_vector);
	if (!err)
		err = ipcdoor_wait(ep, &in.wait, arg, &books, nonblock);
	/* the deadline is absolute, so it may simply be called again */
	return err == -EINTR ? -ERESTARTSYS : err;
}

static int ipcdoor_ioctl_ring_wait(struct ipcdoor_endpoint *ep, unsigned int cmd,
				   struct ipcdoor_ring_wait __user *arg, bool nonblock)
{
	struct ipcdoor_wait_books books ipcdoor_uninitialized;
	union {
		struct ipcdoor_ring_wait both;
		u64 words[sizeof(struct ipcdoor_ring_wait) / sizeof(u64)];
	} in ipcdoor_uninitialized;
	int err;

	err = ipcdoor_copy_words_in(in.words, sizeof(in),
				    offsetof(struct ipcdoor_ring_wait, wait.fired), cmd, arg);
	if (!err)
		err = ipcdoor_check_ring(ep, &in.both.ring);
	if (!err)
		err = ipcdoor_check_wait(&in.both.wait);
	if (!err && in.both.wait.seen)
		err = ipcdoor_copy_seen_in(&in.both.wait, books.by_vector);
	if (!err)
		err = ipcdoor_doorbell_ring(ep, &in.both.ring);
	if (err)
		return err;
	/*
	 * Let the woken one run first if the scheduler prefers it here: it may have
	 * answered by the time this thread looks, and then it need not sleep.
	 */
	cond_resched();
	return ipcdoor_wait(ep, &in.both.wait, &arg->wait, &books, nonblock);
}

/* ---- the others ---- */

static int ipcdoor_ioctl_bind_eventfd(struct ipcdoor_endpoint *ep, unsigned int cmd,
				      void __user *arg)
{
	struct ipcdoor_bind_eventfd bind;
	int err;

	err = ipcdoor_copy_in(&bind, sizeof(bind), cmd, arg);
	if (err)
		return err;
	if (bind.flags || bind.fd < -1 || (bind.fd >= 0 && !bind.mask))
		return -EINVAL;
	return ipcdoor_notify_bind_eventfd(ep, bind.fd, bind.mask);
}

static int ipcdoor_ioctl_bind_signal(struct ipcdoor_endpoint *ep, unsigned int cmd,
				     void __user *arg)
{
	struct ipcdoor_bind_signal bind;
	int err;

	err = ipcdoor_copy_in(&bind, sizeof(bind), cmd, arg);
	if (err)
		return err;
	if (bind.flags || !valid_signal(bind.signo) || bind.signo == SIGKILL ||
	    bind.signo == SIGSTOP || (bind.signo && !bind.mask))
		return -EINVAL;
	return ipcdoor_notify_bind_signal(ep, bind.signo, bind.mask);
}

static int ipcdoor_ioctl_peer_info(struct ipcdoor_endpoint *ep, unsigned int cmd,
				   void __user *arg)
{
	struct ipcdoor_peer_info info;
	int err;

	err = ipcdoor_copy_in(&info, sizeof(info), cmd, arg);
	if (err)
		return err;
	if (info.flags || info.slot >= ep->seg->nr_slots)
		return -EINVAL;
	info.slot = array_index_nospec(info.slot, ep->seg->nr_slots);
	ipcdoor_segment_peer_info(ep->seg, &info);
	return ipcdoor_copy_out(arg, &info, sizeof(info));
}

static int ipcdoor_ioctl_seal(struct ipcdoor_endpoint *ep, unsigned int cmd, void __user *arg)
{
	struct ipcdoor_seal seal;
	int err;

	err = ipcdoor_copy_in(&seal, sizeof(seal), cmd, arg);
	if (err)
		return err;
	if (seal.flags || seal.pad)
		return -EINVAL;
	if (seal.add && !(ep->rights & IPCDOOR_RIGHT_SEAL))
		return -EPERM;
	err = ipcdoor_segment_seal(ep->seg, seal.add, &seal.seals);
	return err ? err : ipcdoor_copy_out(arg, &seal, sizeof(seal));
}

static int ipcdoor_ioctl_grow(struct ipcdoor_endpoint *ep, unsigned int cmd, void __user *arg)
{
	struct ipcdoor_grow grow;
	int err;

	err = ipcdoor_copy_in(&grow, sizeof(grow), cmd, arg);
	if (err)
		return err;
	if (grow.flags || grow.pad)
		return -EINVAL;
	if (!(ep->rights & IPCDOOR_RIGHT_WRITE))
		return -EACCES;
	err = ipcdoor_segment_grow(ep->seg, grow.data_bytes);
	return err ? err : ipcdoor_copy_out(arg, &grow, sizeof(grow));
}

static int ipcdoor_ioctl_endpoint_info(struct ipcdoor_endpoint *ep, unsigned int cmd,
				       void __user *arg)
{
	struct ipcdoor_endpoint_info info;

	if (_IOC_SIZE(cmd) < sizeof(info))
		return -EINVAL;
	ipcdoor_endpoint_fill_info(ep, &info);
	if (clear_user(arg + sizeof(info), _IOC_SIZE(cmd) - sizeof(info)))
		return -EFAULT;
	return ipcdoor_copy_out(arg, &info, sizeof(info));
}

/* ---- the file ---- */

static long ipcdoor_endpoint_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	struct ipcdoor_endpoint *ep = file->private_data;
	void __user *arg = (void __user *)address;
	bool nonblock = file->f_flags & O_NONBLOCK;

	if (_IOC_TYPE(cmd) != IPCDOOR_IOC_MAGIC)
		return -ENOTTY;
	if (current->mm != READ_ONCE(ep->mm))
		return -EPERM;
	if (READ_ONCE(ep->dead))
		return -ESHUTDOWN;

	switch (IPCDOOR_CMD(cmd)) {
	case IPCDOOR_CMD(IPCDOOR_IOC_RING_WAIT):
		return ipcdoor_ioctl_ring_wait(ep, cmd, arg, nonblock);
	case IPCDOOR_CMD(IPCDOOR_IOC_RING):
		return ipcdoor_ioctl_ring(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_WAIT):
		return ipcdoor_ioctl_wait(ep, cmd, arg, nonblock);
	case IPCDOOR_CMD(IPCDOOR_IOC_BIND_EVENTFD):
		return ipcdoor_ioctl_bind_eventfd(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_BIND_SIGNAL):
		return ipcdoor_ioctl_bind_signal(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_PEER_INFO):
		return ipcdoor_ioctl_peer_info(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_SEAL):
		return ipcdoor_ioctl_seal(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_GROW):
		return ipcdoor_ioctl_grow(ep, cmd, arg);
	case IPCDOOR_CMD(IPCDOOR_IOC_ENDPOINT_INFO):
		return ipcdoor_ioctl_endpoint_info(ep, cmd, arg);
	default:
		return -ENOTTY;
	}
}

static __poll_t ipcdoor_endpoint_poll(struct file *file, poll_table *table)
{
	struct ipcdoor_endpoint *ep = file->private_data;

	if (current->mm != READ_ONCE(ep->mm))
		return EPOLLERR;
	return ipcdoor_doorbell_poll(ep, file, table);
}

static int ipcdoor_endpoint_release(struct inode *inode, struct file *file)
{
	ipcdoor_endpoint_drop(file->private_data);
	return 0;
}

static const struct file_operations ipcdoor_endpoint_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = ipcdoor_endpoint_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = ipcdoor_mmap,
	.poll = ipcdoor_endpoint_poll,
	.release = ipcdoor_endpoint_release,
	.llseek = noop_llseek,
};

static struct file *ipcdoor_endpoint_file(struct ipcdoor_endpoint *ep, bool nonblock)
{
	struct file *shm = ep->seg->shm;
	struct inode *inode = file_inode(shm);
	struct file *file;

	/* both are the file's from now on: a reference to the inode, one to the module */
	ihold(inode);
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, shm->f_path.mnt, "[ipcdoor]",
				 O_RDWR | (nonblock ? O_NONBLOCK : 0),
				 &ipcdoor_endpoint_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		return file;
	}
	file->private_data = ep;
	return file;
}

int ipcdoor_endpoint_file_install(int fd, struct ipcdoor_endpoint *ep, bool nonblock,
				  struct ipcdoor_endpoint_info __user *user_info)
{
	struct ipcdoor_endpoint_info info;
	struct file *file;
	int err;

	if (IS_ERR(ep)) {
		err = PTR_ERR(ep);
		goto err_fd;
	}
	file = ipcdoor_endpoint_file(ep, nonblock);
	if (IS_ERR(file)) {
		ipcdoor_endpoint_drop(ep);
		err = PTR_ERR(file);
		goto err_fd;
	}
	ipcdoor_endpoint_fill_info(ep, &info);
	err = ipcdoor_copy_out(user_info, &info, sizeof(info));
	if (err) {
		fput(file);
		goto err_fd;
	}
	fd_install(fd, file);
	return fd;

err_fd:
	put_unused_fd(fd);
	return err;
}

struct ipcdoor_endpoint *ipcdoor_endpoint_of_file(struct file *file)
{
	return file->f_op == &ipcdoor_endpoint_fops ? file->private_data : NULL;
}
