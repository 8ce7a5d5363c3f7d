/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State of single pages, kept only where there is any: the frame of a page that was moved, its
 * write protection, its first write. Lookups read it without a lock and follow the retry protocol.
 */
#include "host/object.h"

static struct page_chunk *chunk_of(const struct vd_host_object *object, uint64_t page)
{
	/* acquire: pairs with table_prepare() and chunk_prepare() */
	struct page_table *table = atomic_load_explicit(&object->table, memory_order_acquire);

	if (!table)
		return NULL;
	return atomic_load_explicit(&table->chunk[page >> CHUNK_SHIFT], memory_order_acquire);
}

struct page_state pages_get(const struct vd_host_object *object, uint64_t page)
{
	struct page_chunk *chunk = chunk_of(object, page);
	unsigned i = page & (CHUNK_PAGES - 1);

	if (!chunk)
		return (struct page_state){.frame = page};
	return (struct page_state){
		/* relaxed: the notifier's seq orders changes against lookups */
		.frame = atomic_load_explicit(&chunk->frame[i], memory_order_relaxed),
		.read_only = atomic_load_explicit(&chunk->read_only[i / 64], memory_order_relaxed)
			>> (i % 64) & 1,
	};
}

uint64_t pages_run(const struct vd_host_object *object, uint64_t page, uint64_t limit)
{
	struct page_state first = pages_get(object, page), next;
	uint64_t n = 1;

	/* acquire: pairs with table_prepare() */
	if (!atomic_load_explicit(&object->table, memory_order_acquire))
		return limit;
	while (n < limit) {
		uint64_t at = page + n;

		if (!chunk_of(object, at) && first.frame == page && !first.read_only) {
			/* the whole chunk is plain */
			n += CHUNK_PAGES - (at & (CHUNK_PAGES - 1));
			continue;
		}
		next = pages_get(object, at);
		if (next.frame != first.frame + n || next.read_only != first.read_only)
			break;
		n++;
	}
	return n < limit ? n : limit;
}

static int table_prepare(struct vd_host_object *object)
{
	const struct vd_env *env = object->host->env;
	uint64_t chunks = (object->pages + CHUNK_PAGES - 1) >> CHUNK_SHIFT;
	struct page_table *table;

	if (atomic_load_explicit(&object->table, memory_order_relaxed))
		return 0;
	table = vd_env_allocate(env, "host.page_table",
				sizeof(*table) + chunks * sizeof(table->chunk[0]),
				_Alignof(struct page_table));
	if (!table)
		return -ENOMEM;
	table->chunks = chunks;
	/* release: pairs with chunk_of() and pages_run() */
	atomic_store_explicit(&object->table, table, memory_order_release);
	return 0;
}

static int chunk_prepare(struct vd_host_object *object, uint64_t index)
{
	const struct vd_env *env = object->host->env;
	struct page_table *table = atomic_load_explicit(&object->table, memory_order_relaxed);
	struct page_chunk *chunk;

	if (atomic_load_explicit(&table->chunk[index], memory_order_relaxed))
		return 0;
	chunk = vd_env_allocate(env, "host.page_chunk", sizeof(*chunk),
				_Alignof(struct page_chunk));
	if (!chunk)
		return -ENOMEM;
	for (unsigned i = 0; i < CHUNK_PAGES; i++)
		atomic_init(&chunk->frame[i], (uint32_t)((index << CHUNK_SHIFT) + i));
	/* release: pairs with chunk_of() */
	atomic_store_explicit(&table->chunk[index], chunk, memory_order_release);
	return 0;
}

int pages_prepare(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	int result = table_prepare(object);

	for (uint64_t i = page >> CHUNK_SHIFT;
	     !result && i <= (page + count - 1) >> CHUNK_SHIFT; i++)
		result = chunk_prepare(object, i);
	return result;
}

void pages_set_frame(struct vd_host_object *object, uint64_t page, uint64_t frame)
{
	atomic_store_explicit(&chunk_of(object, page)->frame[page & (CHUNK_PAGES - 1)],
			      (uint32_t)frame, memory_order_relaxed);
}

void pages_set_read_only(struct vd_host_object *object, uint64_t page, uint64_t count,
			 bool read_only)
{
	for (; count; page++, count--) {
		unsigned i = page & (CHUNK_PAGES - 1);
		_Atomic uint64_t *word = &chunk_of(object, page)->read_only[i / 64];
		uint64_t bit = UINT64_C(1) << (i % 64);

		if (read_only)
			atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
		else
			atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
	}
}

void pages_free(struct vd_host_object *object)
{
	const struct vd_env *env = object->host->env;
	struct page_table *table = atomic_load_explicit(&object->table, memory_order_relaxed);

	if (table) {
		for (uint64_t i = 0; i < table->chunks; i++)
			env->release(env, atomic_load_explicit(&table->chunk[i],
							       memory_order_relaxed),
				     sizeof(struct page_chunk));
		env->release(env, table, sizeof(*table) + table->chunks * sizeof(table->chunk[0]));
	}
	env->release(env, object->written, (object->pages + 63) / 64 * 8);
	env->release(env, object->spare_used, (object->frames + 63) / 64 * 8);
}

/* ---- private memory -------------------------------------------------- */

bool pages_written(const struct vd_host_object *object, uint64_t page)
{
	return atomic_load_explicit(&object->written[page / 64], memory_order_relaxed) >>
		(page % 64) & 1;
}

void pages_mark_written(const struct vd_host_object *object, uint64_t page)
{
	if (!pages_written(object, page))
		atomic_fetch_or_explicit(&object->written[page / 64], UINT64_C(1) << (page % 64),
					 memory_order_relaxed);
}

void pages_clear_written(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	for (; count; page++, count--)
		atomic_fetch_and_explicit(&object->written[page / 64],
					  ~(UINT64_C(1) << (page % 64)), memory_order_relaxed);
}

uint64_t pages_written_run(const struct vd_host_object *object, uint64_t page, uint64_t limit)
{
	bool written = pages_written(object, page);
	uint64_t n = 1;

	while (n < limit) {
		uint64_t at = page + n;
		uint64_t word = atomic_load_explicit(&object->written[at / 64],
						     memory_order_relaxed);

		if (at % 64 == 0 && word == (written ? UINT64_MAX : 0))
			n += 64;
		else if ((word >> (at % 64) & 1) == written)
			n++;
		else
			break;
	}
	return n < limit ? n : limit;
}

/* ---- spare frames ---------------------------------------------------- */

static void spare_mark(struct vd_host_object *object, uint64_t frame, bool used)
{
	uint64_t bit = UINT64_C(1) << (frame % 64);

	if (used)
		object->spare_used[frame / 64] |= bit;
	else
		object->spare_used[frame / 64] &= ~bit;
}

int spares_prepare(struct vd_host_object *object)
{
	if (object->spare_used)
		return 0;
	object->spare_used = vd_env_allocate(object->host->env, "host.spares",
					     (object->frames + 63) / 64 * 8, _Alignof(uint64_t));
	if (!object->spare_used)
		return -ENOMEM;
	for (uint64_t frame = 0; frame < object->pages; frame++)
		spare_mark(object, frame, true);
	object->spare_next = object->pages;
	return 0;
}

/* Next fit: what is moved together lies together, so that large blocks stay large. */
uint64_t spares_take(struct vd_host_object *object)
{
	for (uint64_t n = 0; n < object->frames; n++) {
		uint64_t frame = object->spare_next;

		object->spare_next = frame + 1 < object->frames ? frame + 1 : 0;
		if (!(object->spare_used[frame / 64] >> (frame % 64) & 1)) {
			spare_mark(object, frame, true);
			return frame;
		}
	}
	return UINT64_MAX;
}

void spares_give(struct vd_host_object *object, uint64_t frame)
{
	spare_mark(object, frame, false);
}
