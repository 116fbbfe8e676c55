// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of a segment: those of a shmem file that only the kernel holds, at the
 * same offsets at which endpoints map them, because reverse mapping needs the two to
 * agree.  They are allocated when the segment is created or grown, in the context and
 * the memory control group of whoever asked, so that running out of memory is that
 * one's error and never a peer's SIGBUS, and they are never swapped.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "pages.h"
#include "segment.h"

/* what every inode starts with: open() fails */
static const struct file_operations *ipcdoor_no_open_fops;

/* No memory for an inode or a page is -ENOSPC there, which to our callers is no slot. */
static int ipcdoor_shmem_error(int err)
{
	return err == -ENOSPC ? -ENOMEM : err;
}

void ipcdoor_pages_release(struct ipcdoor_segment *seg, u64 from, u64 to)
{
	if (from < to)
		shmem_truncate_range(file_inode(seg->shm), from, to - 1);
}

int ipcdoor_pages_populate(struct ipcdoor_segment *seg, u64 from, u64 to)
{
	struct page *page;
	u64 offset;
	int err;

	for (offset = from; offset < to; offset += PAGE_SIZE) {
		err = -EINTR;
		if (fatal_signal_pending(current))
			goto err_pages;
		page = shmem_read_mapping_page(seg->shm->f_mapping, offset >> PAGE_SHIFT);
		err = ipcdoor_shmem_error(PTR_ERR_OR_ZERO(page));
		if (err)
			goto err_pages;
		/* a clean page would be dropped under memory pressure */
		set_page_dirty_lock(page);
		put_page(page);
		cond_resched();
	}
	return 0;

err_pages:
	ipcdoor_pages_release(seg, from, offset);
	return err;
}

static void ipcdoor_pages_unmap_state(struct ipcdoor_segment *seg)
{
	u64 i;

	if (seg->state)
		vunmap(seg->state);
	seg->state = NULL;
	if (seg->state_pages)
		for (i = 0; i < seg->state_bytes >> PAGE_SHIFT && seg->state_pages[i]; i++)
			put_page(seg->state_pages[i]);
	kfree(seg->state_pages);
	seg->state_pages = NULL;
}

static int ipcdoor_pages_map_state(struct ipcdoor_segment *seg)
{
	u64 i, count = seg->state_bytes >> PAGE_SHIFT;
	struct page *page;

	seg->state_pages = kcalloc(count, sizeof(*seg->state_pages), GFP_KERNEL_ACCOUNT);
	if (!seg->state_pages)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		page = shmem_read_mapping_page(seg->shm->f_mapping, i);
		if (IS_ERR(page))
			return PTR_ERR(page);
		seg->state_pages[i] = page;
	}
	seg->state = vmap(seg->state_pages, count, VM_MAP, PAGE_KERNEL);
	if (!seg->state)
		return -ENOMEM;

	seg->state->magic = IPCDOOR_STATE_MAGIC;
	seg->state->abi_version = IPCDOOR_ABI_VERSION;
	seg->state->slots = seg->nr_slots;
	seg->state->slot_state_offset = sizeof(struct ipcdoor_state);
	seg->state->slot_state_bytes = sizeof(struct ipcdoor_slot_state);
	seg->state->data_bytes = seg->data_bytes;
	return 0;
}

/*
 * The shmem inode is the endpoints' files' too, because the kernel takes inode and
 * mapping of a file for a pair.  An O_PATH descriptor may hold the inode longer
 * than this module is loaded, so nothing of the module is put into it: it gets the
 * operations of an inode that nobody can open (through /proc), and no file type, so
 * that it cannot be truncated, punched or made of huge pages; its attributes are
 * immutable, and shmem_file_setup() has sealed its seals.
 */
static void ipcdoor_pages_close_inode(struct ipcdoor_segment *seg)
{
	struct inode *inode = file_inode(seg->shm);

	inode->i_fop = ipcdoor_no_open_fops;
	inode->i_mode &= ~S_IFMT;
	inode->i_flags |= S_IMMUTABLE;
}

int ipcdoor_pages_create(struct ipcdoor_segment *seg)
{
	int err;

	seg->shm = ipcdoor_shmem_file_setup("ipcdoor", seg->data_offset + seg->max_data_bytes);
	if (IS_ERR(seg->shm))
		return ipcdoor_shmem_error(PTR_ERR(seg->shm));
	ipcdoor_pages_close_inode(seg);
	/* no high memory, no swap; shmem itself charges the control group */
	mapping_set_gfp_mask(seg->shm->f_mapping, GFP_KERNEL);
	mapping_set_unevictable(seg->shm->f_mapping);
	err = ipcdoor_pages_populate(seg, 0, seg->data_offset + seg->data_bytes);
	if (!err)
		err = ipcdoor_pages_map_state(seg);
	if (err)
		ipcdoor_pages_destroy(seg);
	return err;
}

void ipcdoor_pages_reclaim(struct ipcdoor_segment *seg)
{
	ipcdoor_pages_unmap_state(seg);
	ipcdoor_pages_release(seg, 0, seg->data_offset + seg->max_data_bytes);
}

void ipcdoor_pages_destroy(struct ipcdoor_segment *seg)
{
	ipcdoor_pages_unmap_state(seg);
	fput(seg->shm);
}

/* The kernel does not export the operations, so they are read off a new inode. */
int ipcdoor_pages_init(void)
{
	struct inode *probe;
	struct file *file;
	int err;

	file = ipcdoor_shmem_file_setup("ipcdoor", 0);
	if (IS_ERR(file))
		return ipcdoor_shmem_error(PTR_ERR(file));
	err = -ENOMEM;
	probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	if (!probe)
		goto out;
	inode_init_once(probe);
	err = inode_init_always(file_inode(file)->i_sb, probe);
	if (!err) {
		ipcdoor_no_open_fops = probe->i_fop;
		__destroy_inode(probe);
	}
	kfree(probe);
out:
	fput(file);
	return err;
}
