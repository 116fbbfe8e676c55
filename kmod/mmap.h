/* SPDX-License-Identifier: GPL-2.0 */
/* Mappings of a segment's pages through an endpoint. */
#ifndef IPCDOOR_MMAP_H
#define IPCDOOR_MMAP_H

struct file;
struct ipcdoor_segment;
struct vm_area_struct;

/* mmap() of an endpoint's file.  -EPERM, -ESHUTDOWN, -EINVAL, -EACCES. */
int ipcdoor_mmap(struct file *file, struct vm_area_struct *vma);

/*
 * Takes the pages away from all mappings.  The living get them back at their
 * next access; dead endpoints, which must be marked so before, do not.
 */
void ipcdoor_mmap_revoke(struct ipcdoor_segment *seg);

#endif /* IPCDOOR_MMAP_H */
