// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings keep the endpoint's own file, with this fault handler on the pages of
 * the segment's shmem file.  Handing the VMA over to the shmem file instead
 * would lose every check: remap_file_pages() and mremap() then reach other
 * pages, mprotect() makes them writable, and the endpoint's release() runs while
 * a writable mapping stays.  So rights are checked here for each mmap(), which
 * remap_file_pages() goes through as well; VM_MAYWRITE is cleared where there is
 * no right to write, VM_DONTEXPAND keeps mremap() inside, and VM_DONTCOPY keeps
 * mappings out of a child.  A child whose parent insisted (MADV_DOFORK) gets
 * SIGBUS: only the owner's address space may fault.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>

#include "compat.h"
#include "endpoint.h"
#include "mmap.h"
#include "segment.h"

static bool ipcdoor_in_data(const struct ipcdoor_segment *seg, const struct vm_area_struct *vma)
{
	return (u64)vma->vm_pgoff << PAGE_SHIFT >= seg->data_offset;
}

/*
 * Mappings of DATA that may be written are counted, for SEAL_WRITE.  Which ones
 * they are is marked when they are made: a split that fails half-way closes a VMA
 * whose offset is 0.
 */
static void ipcdoor_vm_open(struct vm_area_struct *vma)
{
	struct ipcdoor_segment *seg = vma->vm_private_data;

	if (seg)
		atomic_inc(&seg->writable_maps);
}

static void ipcdoor_vm_close(struct vm_area_struct *vma)
{
	struct ipcdoor_segment *seg = vma->vm_private_data;

	if (seg)
		atomic_dec(&seg->writable_maps);
}

static vm_fault_t ipcdoor_vm_fault(struct vm_fault *vmf)
{
	struct ipcdoor_endpoint *ep = vmf->vma->vm_file->private_data;
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	u64 offset = (u64)vmf->pgoff << PAGE_SHIFT;
	struct folio *folio;
	struct page *page;

	if (vmf->vma->vm_mm != READ_ONCE(ep->mm) || READ_ONCE(ep->dead) ||
	    offset >= ipcdoor_segment_bytes(ep->seg))
		return VM_FAULT_SIGBUS;
	page = shmem_read_mapping_page(mapping, vmf->pgoff);
	if (IS_ERR(page))
		return page == ERR_PTR(-ENOMEM) ? VM_FAULT_OOM : VM_FAULT_SIGBUS;

	/* the page lock orders this against ipcdoor_mmap_revoke() and truncation */
	folio = page_folio(page);
	folio_lock(folio);
	if (folio->mapping != mapping || READ_ONCE(ep->dead)) {
		vm_fault_t verdict = READ_ONCE(ep->dead) ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;

		folio_unlock(folio);
		folio_put(folio);
		return verdict;
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct ipcdoor_vm_ops = {
	.open = ipcdoor_vm_open,
	.close = ipcdoor_vm_close,
	.fault = ipcdoor_vm_fault,
};

/* Whether [from, to) lies in one kind of pages, and whether @ep may write it. */
static int ipcdoor_mmap_range(const struct ipcdoor_endpoint *ep, u64 from, u64 to, bool *may_write)
{
	const struct ipcdoor_segment *seg = ep->seg;
	u64 own = seg->slot_offset + ep->slot * seg->slot_bytes;

	*may_write = false;
	if (to <= seg->state_bytes)
		return 0;
	if (from >= seg->slot_offset && to <= seg->data_offset) {
		*may_write = from >= own && to <= own + seg->slot_bytes;
		return 0;
	}
	if (from >= seg->data_offset && to <= seg->data_offset + seg->max_data_bytes) {
		*may_write = (ep->rights & IPCDOOR_RIGHT_WRITE) &&
			     !(seg->seals & (IPCDOOR_SEAL_WRITE | IPCDOOR_SEAL_FUTURE_WRITE));
		return 0;
	}
	return -EINVAL;
}

int ipcdoor_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct ipcdoor_endpoint *ep = file->private_data;
	u64 from = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 to = from + (vma->vm_end - vma->vm_start);
	bool may_write;
	int err;

	if (vma->vm_mm != READ_ONCE(ep->mm))
		return -EPERM;
	if (READ_ONCE(ep->dead))
		return -ESHUTDOWN;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	if (vma->vm_pgoff > ULONG_MAX >> PAGE_SHIFT || to < from)
		return -EINVAL;

	/* seals are set under the lock while they count the writable mappings */
	mutex_lock(&ep->seg->lock);
	err = ipcdoor_mmap_range(ep, from, to, &may_write);
	if (!err && !may_write && (vma->vm_flags & VM_WRITE))
		err = -EACCES;
	if (!err) {
		ipcdoor_vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTCOPY,
				     VM_MAYEXEC | (may_write ? 0 : VM_MAYWRITE));
		vma->vm_ops = &ipcdoor_vm_ops;
		vma->vm_private_data = may_write && ipcdoor_in_data(ep->seg, vma) ? ep->seg : NULL;
		ipcdoor_vm_open(vma);
	}
	mutex_unlock(&ep->seg->lock);
	return err;
}

void ipcdoor_mmap_revoke(struct ipcdoor_segment *seg)
{
	struct address_space *mapping = seg->shm->f_mapping;
	u64 offset;
	struct page *page;

	/*
	 * A fault that found its endpoint alive holds the page lock until the
	 * page is mapped; after this loop there is none such left.
	 */
	for (offset = 0; offset < ipcdoor_segment_bytes(seg); offset += PAGE_SIZE) {
		page = find_lock_page(mapping, offset >> PAGE_SHIFT);
		if (page) {
			unlock_page(page);
			put_page(page);
		}
		cond_resched();
	}
	unmap_mapping_range(mapping, 0, 0, 1);
}
