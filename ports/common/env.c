/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The environment of one processor without interrupts: nobody waits for anybody. Memory is first
 * fit in a list of blocks by address, zeroed; read sections are empty, so what is deferred runs at
 * once.
 */
#include "port.h"

/* Every block, used or free, begins with one of these; its memory lies behind it. */
struct block {
	struct block *next;
	uint64_t size; /* of the memory, in bytes */
	uint64_t used; /* 0: free */
	uint64_t unused;
};

extern char port_heap[], port_heap_end[];

static struct block *first;
static unsigned long blocks;

static void heap_open(void)
{
	first = (struct block *)port_heap;
	*first = (struct block){
		.size = (uint64_t)(port_heap_end - port_heap) - sizeof(struct block),
	};
}

static char *memory_of(struct block *block)
{
	return (char *)(block + 1);
}

/* Cuts the block so that the memory of its second half begins at @at. */
static struct block *cut(struct block *block, char *at)
{
	struct block *second = (struct block *)at - 1;

	*second = (struct block){
		.next = block->next,
		.size = (uint64_t)(memory_of(block) + block->size - at),
	};
	block->next = second;
	block->size = (uint64_t)((char *)second - memory_of(block));
	return second;
}

static struct block *fit(struct block *block, uint64_t size, uint64_t align)
{
	uintptr_t start = (uintptr_t)memory_of(block), end = start + block->size, at;

	at = (start + align - 1) & ~(align - 1);
	/* Room for the header of what is cut off before it. */
	while (at != start && at - start < sizeof(struct block))
		at += align;
	if (at > end || end - at < size)
		return NULL;
	if (at != start)
		block = cut(block, (char *)at);
	if (block->size - size > 2 * sizeof(struct block))
		cut(block, memory_of(block) + size + sizeof(struct block));
	block->used = 1;
	return block;
}

static void *allocate(const struct vd_env *env, size_t size, size_t align)
{
	struct block *found = NULL;

	(void)env;
	if (!first)
		heap_open();
	size = (size + 31) & ~(size_t)31;
	if (align < 32)
		align = 32;
	for (struct block *block = first; block && !found; block = block->next)
		if (!block->used)
			found = fit(block, size, align);
	if (!found)
		return NULL;
	blocks++;
	__builtin_memset(memory_of(found), 0, size);
	return memory_of(found);
}

static void release(const struct vd_env *env, void *p, size_t size)
{
	(void)env;
	(void)size;
	if (!p)
		return;
	((struct block *)p - 1)->used = 0;
	blocks--;
	for (struct block *block = first; block; block = block->next)
		while (!block->used && block->next && !block->next->used) {
			block->size += sizeof(struct block) + block->next->size;
			block->next = block->next->next;
		}
}

static void lock_nothing(const struct vd_env *env, struct vd_lock *lock)
{
	(void)env;
	(void)lock;
}

static void wait_for_nobody(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	(void)env;
	(void)word;
	(void)seen;
	__builtin_trap(); /* there is no other thread that would wake us */
}

static void wake_nobody(const struct vd_env *env, _Atomic uint32_t *word)
{
	(void)env;
	(void)word;
}

static void nothing(const struct vd_env *env)
{
	(void)env;
}

static void run_at_once(const struct vd_env *env, struct vd_deferred *item,
			void (*fn)(struct vd_deferred *item))
{
	(void)env;
	fn(item);
}

static uint64_t clock_ns(const struct vd_env *env)
{
	(void)env;
	return port_clock_ns();
}

const struct vd_env *port_env(void)
{
	static const struct vd_env env = {
		.allocate = allocate,
		.release = release,
		.clock_ns = clock_ns,
		.lock_init = lock_nothing,
		.lock_destroy = lock_nothing,
		.lock = lock_nothing,
		.unlock = lock_nothing,
		.wait = wait_for_nobody,
		.wake = wake_nobody,
		.read_enter = nothing,
		.read_leave = nothing,
		.synchronize = nothing,
		.defer = run_at_once,
	};

	return &env;
}

unsigned long port_blocks(void)
{
	return blocks;
}
