/* SPDX-License-Identifier: BSD-2-Clause */
/* (object, offset) to page. Lock-free, and free of references: see the retry protocol. */
#include "host/object.h"

/*
 * How far a run is followed. No table maps a larger block than 1 GiB at once, and single pages with
 * state of their own are not worth counting beyond a chunk.
 */
#define RUN_BYTES (UINT64_C(1) << 30)

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
	/* acquire: pairs with the store that empties the object */
	address = atomic_load_explicit(&object->address, memory_order_acquire);
	size = object_present(object);
	if (address == ADDRESS_NONE || offset >= size)
		return -EFAULT;
	state = pages_get(object, index);
	if (access & VD_WRITE && (object->flags & VD_HOST_READ_ONLY || state.read_only))
		return -EACCES;
	if (access & VD_WRITE && object->private)
		pages_mark_written(object, index);
	limit = size - (index << shift) < RUN_BYTES ? size - (index << shift) : RUN_BYTES;
	limit = pages_run(object, index, limit >> shift);
	if (object->private)
		limit = pages_written_run(object, index, limit);
	page->writable = !(object->flags & VD_HOST_READ_ONLY) && !state.read_only &&
		(!object->private || pages_written(object, index));
	page->run = (limit << shift) - (offset - (index << shift));
	/* modulo 2^56 bytes: memory below the window has a pfn too */
	page->pfn.value = (address + (state.frame << shift) - object->host->window_base) &
		((UINT64_C(1) << 56) - 1);
	page->pfn.value >>= shift;
	return 0;
}
