/* SPDX-License-Identifier: GPL-2.0 */
/* The pages of a segment.  Offsets are those of mmap(), bytes, page-aligned. */
#ifndef IPCDOOR_PAGES_H
#define IPCDOOR_PAGES_H

#include <linux/types.h>

struct ipcdoor_segment;

int ipcdoor_pages_init(void);

/*
 * Those of a new segment whose layout is filled in, with STATE mapped and begun.
 * -ENOMEM, -EINTR.
 */
int ipcdoor_pages_create(struct ipcdoor_segment *seg);

/* Allocates the pages of [from, to): all, or none.  -ENOMEM, -EINTR. */
int ipcdoor_pages_populate(struct ipcdoor_segment *seg, u64 from, u64 to);

/* Frees those of [from, to), and takes them out of every mapping. */
void ipcdoor_pages_release(struct ipcdoor_segment *seg, u64 from, u64 to);

/* Frees all pages of a segment that has ended; the empty file stays. */
void ipcdoor_pages_reclaim(struct ipcdoor_segment *seg);

/* Undoes ipcdoor_pages_create(), whether reclaimed before or not. */
void ipcdoor_pages_destroy(struct ipcdoor_segment *seg);

#endif /* IPCDOOR_PAGES_H */
