/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A set of pages of the whole IOVA space, kept where there are any: a radix tree of bitmaps that
 * only grows. Where there is no memory for a branch of it, all of its pages count as in the set:
 * it may say too much, never too little.
 */
#ifndef VIADUCT_IOMMU_DIRTY_PAGES_H
#define VIADUCT_IOMMU_DIRTY_PAGES_H

#include <viaduct/base.h>

struct dirty_pages;

/* dirty_pages_create() - an empty set of pages of 2^@shift bytes, 12 to 63. NULL: no memory. */
struct dirty_pages *dirty_pages_create(const struct vd_env *env, unsigned shift);
/* dirty_pages_free() - NULL is nothing */
void dirty_pages_free(struct dirty_pages *pages);

/* dirty_pages_mark() - the pages that a range meets, all of it if it wraps; lock-free */
void dirty_pages_mark(struct dirty_pages *pages, uint64_t iova, uint64_t length);

/*
 * dirty_pages_take() - call @fn for all that is in the set of a range
 * @first, @last: bytes
 * @fn: gets runs of bytes, cut to the range, by ascending address
 *
 * Pages that lie in the range as a whole are taken out: what was stored before their mark can be
 * read now, later marks come later. One caller at a time.
 */
void dirty_pages_take(struct dirty_pages *pages, uint64_t first, uint64_t last,
		      void (*fn)(void *context, uint64_t first, uint64_t last), void *context);

#endif
