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

static struct page_state chunk_state(const struct page_chunk *chunk, unsigned i)
{
	return (struct page_state){
		/* relaxed: the notifier's seq orders changes against lookups */
		.frame = atomic_load_explicit(&chunk->frame[i], memory_order_relaxed),
		.read_only = atomic_load_explicit(&chunk->read_only[i / 64], memory_order_relaxed)
			>> (i % 64) & 1,
	};
}

struct page_state pages_get(const struct vd_host_object *object, uint64_t page)
{
	struct page_chunk *chunk = chunk_of(object, page);

	return chunk ? chunk_state(chunk, page & (CHUNK_PAGES - 1))
		     : (struct page_state){.frame = page};
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

/* From page @i of a chunk to where the run of its pages ends in it. */
static unsigned chunk_run(const struct page_chunk *chunk, unsigned i)
{
	for (unsigned at = i + 1; at < CHUNK_PAGES; at = (at | 63) + 1) {
		/* relaxed: as the state itself */
		uint64_t word = atomic_load_explicit(&chunk->breaks[at / 64],
						     memory_order_relaxed) >> at % 64;

		if (word)
			return at + (unsigned)__builtin_ctzll(word) - i;
	}
	return CHUNK_PAGES - i;
}

#define NEAR_STEPS 16u

/* From a page of which no neighbour up to there has state: where that ends. */
static uint64_t plain_end(const struct page_table *table, uint64_t page)
{
	uint64_t index = page >> CHUNK_SHIFT;

	/* acquire: pairs with chunk_prepare() */
	if (!atomic_load_explicit(&table->stated[index >> GROUP_SHIFT], memory_order_acquire))
		return ((index | (GROUP_CHUNKS - 1)) + 1) << CHUNK_SHIFT;
	if (!atomic_load_explicit(&table->chunk[index], memory_order_acquire))
		return (index + 1) << CHUNK_SHIFT;
	return page;
}

uint64_t pages_run_near(const struct vd_host_object *object, uint64_t page, uint64_t limit)
{
	/* acquire: pairs with table_prepare() */
	const struct page_table *table =
		atomic_load_explicit(&object->table, memory_order_acquire);
	const struct page_chunk *chunk;
	uint64_t at = page, end = page + limit, next;

	if (!table)
		return limit;
	chunk = chunk_of(object, page);
	if (chunk)
		at += chunk_run(chunk, page & (CHUNK_PAGES - 1));
	for (unsigned step = 0; !chunk && step < NEAR_STEPS && at < end; step++) {
		next = plain_end(table, at);
		if (next == at)
			break;
		at = next;
	}
	return at < end ? at - page : limit;
}

static size_t table_bytes(uint64_t chunks)
{
	uint64_t groups = (chunks + GROUP_CHUNKS - 1) >> GROUP_SHIFT;

	return sizeof(struct page_table) + chunks * sizeof(struct page_chunk *) +
		groups * sizeof(uint32_t);
}

static int table_prepare(struct vd_host_object *object)
{
	const struct vd_env *env = object->host->env;
	uint64_t chunks = (object->pages + CHUNK_PAGES - 1) >> CHUNK_SHIFT;
	struct page_table *table;

	if (atomic_load_explicit(&object->table, memory_order_relaxed))
		return 0;
	table = vd_env_allocate(env, "host.page_table", table_bytes(chunks),
				_Alignof(struct page_table));
	if (!table)
		return -ENOMEM;
	table->chunks = chunks;
	table->stated = (_Atomic uint32_t *)&table->chunk[chunks];
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
	/* release: pairs with pages_run_near() */
	atomic_fetch_add_explicit(&table->stated[index >> GROUP_SHIFT], 1, memory_order_release);
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

/* After the state of page @i of a chunk has changed. */
static void chunk_note_break(struct page_chunk *chunk, unsigned i)
{
	struct page_state before, page;
	uint64_t bit = UINT64_C(1) << i % 64;

	if (i == 0 || i >= CHUNK_PAGES)
		return;
	before = chunk_state(chunk, i - 1);
	page = chunk_state(chunk, i);
	if (page.frame == before.frame + 1 && page.read_only == before.read_only)
		atomic_fetch_and_explicit(&chunk->breaks[i / 64], ~bit, memory_order_relaxed);
	else
		atomic_fetch_or_explicit(&chunk->breaks[i / 64], bit, memory_order_relaxed);
}

void pages_set_frame(struct vd_host_object *object, uint64_t page, uint64_t frame)
{
	struct page_chunk *chunk = chunk_of(object, page);
	unsigned i = page & (CHUNK_PAGES - 1);

	atomic_store_explicit(&chunk->frame[i], (uint32_t)frame, memory_order_relaxed);
	chunk_note_break(chunk, i);
	chunk_note_break(chunk, i + 1);
}

void pages_set_read_only(struct vd_host_object *object, uint64_t page, uint64_t count,
			 bool read_only)
{
	for (; count; page++, count--) {
		unsigned i = page & (CHUNK_PAGES - 1);
		struct page_chunk *chunk = chunk_of(object, page);
		_Atomic uint64_t *word = &chunk->read_only[i / 64];
		uint64_t bit = UINT64_C(1) << (i % 64);

		if (read_only)
			atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
		else
			atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
		chunk_note_break(chunk, i);
		chunk_note_break(chunk, i + 1);
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
		env->release(env, table, table_bytes(table->chunks));
	}
	env->release(env, object->written, (object->pages + 63) / 64 * 8);
	env->release(env, object->gone, (object->pages + 63) / 64 * 8);
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

/* How many pages from @page on, at most @limit, have the same bit. */
static uint64_t bits_run(const _Atomic uint64_t *bits, uint64_t page, uint64_t limit)
{
	bool first = atomic_load_explicit(&bits[page / 64], memory_order_relaxed) >> page % 64 & 1;
	uint64_t n = 0;

	while (n < limit) {
		uint64_t at = page + n;
		uint64_t word = atomic_load_explicit(&bits[at / 64], memory_order_relaxed);
		uint64_t other = (first ? ~word : word) >> at % 64; /* set where it is not so */

		if (other) {
			n += (unsigned)__builtin_ctzll(other);
			break;
		}
		n += 64 - at % 64;
	}
	/* the first may have changed since it was read: it is one page all the same */
	return n < limit ? n ? n : 1 : limit;
}

uint64_t pages_written_run(const struct vd_host_object *object, uint64_t page, uint64_t limit)
{
	return bits_run(object->written, page, limit);
}

/* ---- foreign memory -------------------------------------------------- */

bool pages_gone(const struct vd_host_object *object, uint64_t page)
{
	return object->gone &&
		(atomic_load_explicit(&object->gone[page / 64], memory_order_relaxed) >>
			 (page % 64) & 1);
}

void pages_mark_gone(const struct vd_host_object *object, uint64_t page, uint64_t count)
{
	for (; count; page++, count--)
		atomic_fetch_or_explicit(&object->gone[page / 64], UINT64_C(1) << (page % 64),
					 memory_order_relaxed);
}

uint64_t pages_gone_run(const struct vd_host_object *object, uint64_t page, uint64_t limit)
{
	return object->gone ? bits_run(object->gone, page, limit) : limit;
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
