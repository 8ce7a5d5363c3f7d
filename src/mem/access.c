/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/space.h"

static unsigned host_access(unsigned access)
{
	return access & VD_WRITE ? VD_READ | VD_WRITE : VD_READ;
}

/* What the slot says about the page at @offset into it; the host has been asked already. */
static void fill_page(const struct vd_mem *mem, const struct vd_slot *slot, uint64_t offset,
		      unsigned access, struct vd_mem_page *page)
{
	uint64_t page_size = (uint64_t)1 << mem->page_shift;
	uint64_t left = slot->config.size - offset;

	page->slot_id = slot->id;
	page->kind = slot->config.kind;
	page->slot_base = slot->config.base.value;
	page->slot_size = slot->config.size;
	/*
	 * Acquire pairs with the release in vd_mem_dirty_start(): its bitmap is all zero by then.
	 */
	page->dirty_log = atomic_load_explicit(&slot->dirty, memory_order_acquire) != NULL;
	page->writable = page->host.writable && !slot->config.read_only &&
			 (!page->dirty_log || (access & VD_WRITE));
	if (page->dirty_log && page->writable) {
		/* Only the page that is stored to gets marked. */
		uint64_t page_left = page_size - (offset & (page_size - 1));

		if (page_left < left)
			left = page_left;
	}
	vd_watch_page(slot, slot->config.base.value + offset, page, &left);
	if (page->host.run > left)
		page->host.run = left;
}

int vd_mem_gpa_to_pfn(const struct vd_mem *mem, vd_gpa gpa, unsigned access,
		      struct vd_mem_page *page)
{
	const struct vd_env *env = mem->env;
	const struct vd_slot *slot;
	int r;

	*page = (struct vd_mem_page){ .host.pfn = VD_PFN_BAD };
	env->read_enter(env);
	slot = vd_mem_find(mem, gpa, NULL);
	if (!slot || !slot->valid) {
		r = -ENOENT;
	} else if (slot->config.kind == VD_SLOT_TRAP) {
		r = -EREMOTE;
	} else if ((access & VD_WRITE) && slot->config.read_only) {
		r = -EACCES;
	} else if (vd_mem_released(mem)) {
		r = -EFAULT;
	} else {
		uint64_t offset = gpa.value - slot->config.base.value;

		r = vd_host_object_lookup(slot->config.object, slot->config.offset + offset,
					  host_access(access), &page->host);
		if (!r)
			fill_page(mem, slot, offset, access, page);
		else if (r != -EACCES && r != -EOWNERDEAD)
			r = -EFAULT;
	}
	env->read_leave(env);
	if (r)
		page->host.pfn = VD_PFN_BAD;
	return r;
}

/* A piece of guest RAM that is one piece of host memory as well. */
struct stretch {
	const struct vd_slot *slot;
	uint64_t slot_offset;
	unsigned char *pointer;
	uint64_t length;
};

static int translate(const struct vd_mem *mem, uint64_t gpa, uint64_t length, unsigned access,
		     struct stretch *stretch)
{
	uint64_t host_page_mask = ((uint64_t)1 << mem->host_page_shift) - 1;
	const struct vd_slot *slot = vd_mem_find(mem, (vd_gpa){ gpa }, NULL);
	struct vd_host_page page;
	uint64_t offset;
	int r;

	if (!slot || !slot->valid || slot->config.kind != VD_SLOT_RAM || vd_mem_released(mem))
		return -EFAULT;
	if ((access & VD_WRITE) && slot->config.read_only)
		return -EACCES;
	offset = gpa - slot->config.base.value;
	r = vd_host_object_lookup(slot->config.object, slot->config.offset + offset, access, &page);
	if (r)
		return r == -EACCES || r == -EOWNERDEAD ? r : -EFAULT;
	stretch->slot = slot;
	stretch->slot_offset = offset;
	stretch->length = slot->config.size - offset;
	if (page.run < stretch->length)
		stretch->length = page.run;
	if (length < stretch->length)
		stretch->length = length;
	stretch->pointer = (unsigned char *)vd_host_pointer(mem->window_base, page.pfn,
							    mem->host_page_shift) +
			   ((slot->config.offset + offset) & host_page_mask);
	return 0;
}

/* One direction of a copy between a buffer of ours and the guest. */
struct copy {
	unsigned access;
	unsigned char *to_buffer;
	const unsigned char *from_buffer;
};

static void copy_stretch(const struct copy *copy, const struct stretch *stretch, uint64_t done)
{
	struct vd_mem_dirty *dirty;

	if (copy->to_buffer) {
		vd_guest_copy(copy->to_buffer + done, stretch->pointer, stretch->length);
		return;
	}
	vd_guest_copy(stretch->pointer, copy->from_buffer + done, stretch->length);
	/*
	 * After the store, so that a fetch that takes the mark finds the data. Acquire pairs with
	 * the release in vd_mem_dirty_start(), which waits for sections that saw no log.
	 */
	dirty = atomic_load_explicit(&stretch->slot->dirty, memory_order_acquire);
	if (dirty)
		vd_dirty_mark(dirty, stretch->slot_offset, stretch->length);
}

/*
 * In a read section, with everything from @first on known to be stable: first look whether all
 * of it is there, so that a failure leaves the guest's memory untouched.
 */
static int check_rest(const struct vd_mem *mem, uint64_t gpa, uint64_t length, unsigned access,
		      const struct stretch *first)
{
	struct stretch stretch;
	uint64_t done = first->length;
	int r;

	while (done < length) {
		r = translate(mem, gpa + done, length - done, access, &stretch);
		if (r)
			return r;
		done += stretch.length;
	}
	return 0;
}

static int copy_all(const struct vd_mem *mem, uint64_t gpa, uint64_t length,
		    const struct copy *copy, const struct stretch *first)
{
	struct stretch stretch = *first;
	uint64_t done = 0;
	int r;

	for (;;) {
		copy_stretch(copy, &stretch, done);
		done += stretch.length;
		if (done == length)
			return 0;
		r = translate(mem, gpa + done, length - done, copy->access, &stretch);
		if (r) /* only memory at foreign addresses can vanish without an invalidation */
			return r;
	}
}

static int access_ram(struct vd_mem *mem, uint64_t gpa, uint64_t length, const struct copy *copy)
{
	const struct vd_env *env = mem->env;
	struct stretch first;
	bool stale, watched, tell;
	uint64_t end, seq, told = 0;
	int r;

	if (!length)
		return 0;
	if (!vd_range_end(gpa, length, &end))
		return -EFAULT;
	do {
		env->read_enter(env);
		seq = vd_notifier_begin(&mem->notifier);
		r = translate(mem, gpa, length, copy->access, &first);
		if (!r && first.length < length)
			r = check_rest(mem, gpa, length, copy->access, &first);
		/* What becomes active after this check waits until we have left the section. */
		stale = vd_notifier_retry(&mem->notifier, seq, gpa, length);
		watched = !r && !stale && copy->from_buffer &&
			  vd_mem_watched(mem, (vd_gpa){gpa}, length);
		tell = watched && !vd_mem_watch_told(mem, told);
		if (!r && !stale && !tell)
			r = copy_all(mem, gpa, length, copy, &first);
		env->read_leave(env);
		if (stale)
			vd_notifier_wait(&mem->notifier, gpa, length);
		/* Before the store, and once more after it to whoever goes on watching. */
		if (watched)
			told = vd_mem_watch_tell(mem, (vd_gpa){gpa}, length);
	} while (stale || tell);
	return r;
}

int vd_mem_read(struct vd_mem *mem, vd_gpa gpa, void *buffer, size_t length)
{
	struct copy copy = { .access = VD_READ, .to_buffer = buffer };

	return access_ram(mem, gpa.value, length, &copy);
}

int vd_mem_write(struct vd_mem *mem, vd_gpa gpa, const void *buffer, size_t length)
{
	struct copy copy = { .access = VD_READ | VD_WRITE, .from_buffer = buffer };

	return access_ram(mem, gpa.value, length, &copy);
}
