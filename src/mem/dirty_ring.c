/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty ring: the pages whose bits in a log became set, in order. A bounded queue of many who
 * store and one who fetches (under the update lock). The bitmaps decide what is dirty: an entry
 * counts if its bit is still set when it is taken, and a page without an entry is still in there.
 */
#include "mem/space.h"

/*
 * @turn: position of the entry that may be written here next; one more once it has been written;
 *	@size more than the former once it has been taken
 */
struct cell {
	_Atomic uint64_t turn;
	struct vd_mem_dirty_page entry;
};

/*
 * @tail, @head: positions: next to be written, next to be taken (its writer holds the update lock)
 * @lost: an entry found no room
 * @told: that it is full, since the last fetch
 */
struct vd_dirty_ring {
	struct vd_mem_dirty_ring_config config;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) _Atomic uint64_t head;
	_Atomic uint32_t lost, told;
	struct cell cells[];
};

static size_t ring_bytes(uint32_t entries)
{
	return sizeof(struct vd_dirty_ring) + entries * sizeof(struct cell);
}

void vd_dirty_ring_free(const struct vd_env *env, struct vd_dirty_ring *ring)
{
	if (ring)
		env->release(env, ring, ring_bytes(ring->config.entries));
}

static uint32_t ring_used(const struct vd_dirty_ring *ring)
{
	/* Head first: it never overtakes the tail. */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	return (uint32_t)(atomic_load_explicit(&ring->tail, memory_order_relaxed) - head);
}

/* ---- storing -------------------------------------------------------------------------------- */

static void add_one(struct vd_dirty_ring *ring, uint32_t slot_id, uint64_t page)
{
	uint64_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	struct cell *cell;

	for (;;) {
		uint64_t turn;

		cell = &ring->cells[position & (ring->config.entries - 1)];
		/* Acquire pairs with the release in take_one(): what was there has been read. */
		turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
		if (turn == position) {
			if (atomic_compare_exchange_weak_explicit(&ring->tail, &position,
								  position + 1,
								  memory_order_relaxed,
								  memory_order_relaxed))
				break;
		} else if (turn < position) {
			/* Release pairs with the fetch, which then tells to look at the bitmaps. */
			atomic_store_explicit(&ring->lost, true, memory_order_release);
			return;
		} else {
			position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
		}
	}
	cell->entry = (struct vd_mem_dirty_page){slot_id, page};
	/* Release pairs with the acquire in take_one(): the entry, and the bit set before it. */
	atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
	if (ring->config.full && ring_used(ring) >= ring->config.soft &&
	    !atomic_exchange_explicit(&ring->told, true, memory_order_acq_rel))
		ring->config.full(ring->config.context);
}

void vd_dirty_ring_add(struct vd_dirty_ring *ring, uint32_t slot_id, uint64_t page, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		add_one(ring, slot_id, page + (unsigned)__builtin_ctzll(bits));
}

/* ---- fetching ------------------------------------------------------------------------------- */

/* Return: whether there was one. */
static bool take_one(struct vd_dirty_ring *ring, struct vd_mem_dirty_page *entry)
{
	uint64_t position = atomic_load_explicit(&ring->head, memory_order_relaxed);
	struct cell *cell = &ring->cells[position & (ring->config.entries - 1)];

	if (atomic_load_explicit(&cell->turn, memory_order_acquire) != position + 1)
		return false;
	*entry = cell->entry;
	atomic_store_explicit(&cell->turn, position + ring->config.entries, memory_order_release);
	atomic_store_explicit(&ring->head, position + 1, memory_order_release);
	return true;
}

/* Takes the page's bit; false if it is not set any more. */
static bool take_bit(const struct vd_slot *slot, const struct vd_mem_dirty_page *entry)
{
	struct vd_mem_dirty *dirty = atomic_load_explicit(&slot->dirty, memory_order_relaxed);
	uint64_t bit = UINT64_C(1) << (entry->page & 63);

	if (!dirty || entry->page >= dirty->pages)
		return false;
	/* Acquire pairs with the release in vd_dirty_mark(). */
	return atomic_fetch_and_explicit(&dirty->words[entry->page / 64], ~bit,
					 memory_order_acq_rel) & bit;
}

/* Runs of neighbours in the order they were stored to; each costs an event. */
static void protect(struct vd_mem *mem, const struct vd_mem_dirty_page *pages, size_t count)
{
	size_t i = 0;

	while (i < count) {
		const struct vd_mem_slot *slot = vd_mem_slot_by_id(mem, pages[i].slot_id);
		size_t run = 1;

		while (i + run < count && pages[i + run].slot_id == pages[i].slot_id &&
		       pages[i + run].page == pages[i].page + run)
			run++;
		vd_dirty_protect(mem, &slot->shown, pages[i].page, run);
		i += run;
	}
}

static int fetch_locked(struct vd_mem *mem, struct vd_mem_dirty_page *pages, size_t room,
			size_t *count)
{
	struct vd_dirty_ring *ring = atomic_load_explicit(&mem->ring, memory_order_relaxed);
	bool lost;

	*count = 0;
	if (!ring)
		return -ENODATA;
	/* Acquire pairs with add_one(): the bits that are in the bitmaps only were set before. */
	lost = atomic_exchange_explicit(&ring->lost, false, memory_order_acq_rel);
	while (*count < room && take_one(ring, &pages[*count])) {
		const struct vd_mem_slot *slot = vd_mem_slot_by_id(mem, pages[*count].slot_id);

		if (slot && take_bit(&slot->shown, &pages[*count]))
			++*count;
	}
	atomic_store_explicit(&ring->told, false, memory_order_release);
	/* After the bits were taken, as in vd_mem_dirty_fetch(). */
	protect(mem, pages, *count);
	return lost ? -ENOBUFS : 0;
}

int vd_mem_dirty_ring_fetch(struct vd_mem *mem, struct vd_mem_dirty_page *pages, size_t room,
			    size_t *count)
{
	int r;

	mem->env->lock(mem->env, &mem->update_lock);
	r = fetch_locked(mem, pages, room, count);
	mem->env->unlock(mem->env, &mem->update_lock);
	return r;
}

int vd_mem_dirty_ring_state(const struct vd_mem *mem, uint32_t *used)
{
	const struct vd_env *env = mem->env;
	const struct vd_dirty_ring *ring;
	uint32_t entries = 0;
	int r = -ENODATA;

	env->read_enter(env);
	/* Acquire pairs with the release in vd_mem_dirty_ring_create(). */
	ring = atomic_load_explicit(&mem->ring, memory_order_acquire);
	if (ring) {
		entries = ring_used(ring);
		r = entries >= ring->config.soft ? -ENOBUFS : 0;
	}
	env->read_leave(env);
	if (used)
		*used = entries;
	return r;
}

/* ---- creation ------------------------------------------------------------------------------- */

int vd_mem_dirty_ring_create(struct vd_mem *mem, const struct vd_mem_dirty_ring_config *config)
{
	const struct vd_env *env = mem->env;
	uint32_t entries = config->entries;
	struct vd_dirty_ring *ring, *none = NULL;

	if (entries < 64 || entries > 1u << 20 || entries & (entries - 1) ||
	    config->soft >= entries)
		return -EINVAL;
	ring = vd_env_allocate(env, "mem.dirty-ring", ring_bytes(entries),
			       _Alignof(struct vd_dirty_ring));
	if (!ring)
		return -ENOMEM;
	ring->config = *config;
	if (!ring->config.soft)
		ring->config.soft = entries - entries / 8;
	for (uint32_t i = 0; i < entries; i++)
		atomic_init(&ring->cells[i].turn, i);
	env->lock(env, &mem->update_lock);
	if (!atomic_compare_exchange_strong_explicit(&mem->ring, &none, ring, memory_order_release,
						     memory_order_relaxed)) {
		env->unlock(env, &mem->update_lock);
		vd_dirty_ring_free(env, ring);
		return -EALREADY;
	}
	env->unlock(env, &mem->update_lock);
	return 0;
}

int vd_mem_dirty_ring_destroy(struct vd_mem *mem)
{
	const struct vd_env *env = mem->env;
	struct vd_dirty_ring *ring;

	env->lock(env, &mem->update_lock);
	ring = atomic_exchange_explicit(&mem->ring, NULL, memory_order_relaxed);
	env->unlock(env, &mem->update_lock);
	if (!ring)
		return -ENODATA;
	/* Who marks is in a read section. */
	env->synchronize(env);
	vd_dirty_ring_free(env, ring);
	return 0;
}
