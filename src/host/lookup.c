/* SPDX-License-Identifier: BSD-2-Clause */
/* (object, offset) to page. Lock-free, and free of references: see the retry protocol. */
#include "host/object.h"

/*
 * How far a run is followed: no table maps a larger block than 1 GiB at once, and a lookup may be
 * made for a few bytes. Private memory has a bit a page.
 */
#define RUN_BYTES (UINT64_C(1) << 30)
#define PRIVATE_RUN_PAGES 512u

/* How far @index is followed by pages of which the same holds. */
static uint64_t run_of(const struct vd_host_object *object, uint64_t index, uint64_t limit)
{
	limit = pages_run_near(object, index, limit);
	if (!object->private)
		return limit;
	if (limit > PRIVATE_RUN_PAGES)
		limit = PRIVATE_RUN_PAGES;
	limit = pages_gone_run(object, index, limit);
	return pages_written_run(object, index, limit);
}

int vd_host_object_lookup(const struct vd_host_object *object, uint64_t offset, unsigned access,
			  struct vd_host_page *page)
{
	unsigned shift = object->host->page_shift;
	uint64_t index = offset >> shift, limit, size;
	struct page_state state;
	uintptr_t address;

	*page = (struct vd_host_page){
		.pfn = VD_PFN_BAD, .kind = object->kind, .type = object->type,
	};
	if (offset >= object->size)
		return -ERANGE;
	if (__builtin_expect(!*object->host->ours, 0))
		return -EOWNERDEAD;
	/* acquire: pairs with the store that empties the object */
	address = atomic_load_explicit(&object->address, memory_order_acquire);
	size = object_present(object);
	if (address == ADDRESS_NONE || offset >= size)
		return -EFAULT;
	if (pages_gone(object, index))
		return -EFAULT;
	state = pages_get(object, index);
	if (access & VD_WRITE && (object->flags & VD_HOST_READ_ONLY || state.read_only))
		return -EACCES;
	if (access & VD_WRITE && object->private)
		pages_mark_written(object, index);
	limit = size - (index << shift) < RUN_BYTES ? size - (index << shift) : RUN_BYTES;
	limit = run_of(object, index, limit >> shift);
	page->writable = !(object->flags & VD_HOST_READ_ONLY) && !state.read_only &&
		(!object->private || pages_written(object, index));
	page->run = (limit << shift) - (offset - (index << shift));
	/* modulo 2^56 bytes: memory below the window has a pfn too */
	page->pfn.value = (address + (state.frame << shift) - object->host->window_base) &
		((UINT64_C(1) << 56) - 1);
	page->pfn.value >>= shift;
	return 0;
}
