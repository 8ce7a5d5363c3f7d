/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoded code, by guest physical page, with a copy of the bytes it was decoded from. fence.i only
 * advances a generation: a page is compared with memory when it is next entered, and only halfwords
 * that changed are decoded again. So neither stores nor DMA need a hook here.
 */
#include <string.h>

#include "vcpu/riscv/op.h"

#define HASH_SIZE 1024u

struct code_page {
	struct op ops[PAGE_SIZE / 2 + 1]; /* first: a page's address is that of its operations */
	uint64_t gpa;
	uint64_t generation;
	struct code_page *next;
	uint8_t source[PAGE_SIZE];
};

struct code_cache {
	struct code_page *hash[HASH_SIZE];
	struct code_page *pages;
	size_t used, room;
	uint32_t straddle_insn;
};

int vd_code_cache_create(struct vd_hart *h)
{
	const struct vd_env *env = h->config.env;
	size_t bytes = h->config.code_cache_bytes ? h->config.code_cache_bytes : 16u << 20;
	struct code_cache *cache;

	cache = vd_env_allocate(env, "vcpu.code_cache", sizeof(*cache), 64);
	if (!cache)
		return -ENOMEM;
	cache->room = bytes / sizeof(struct code_page);
	if (cache->room < 4)
		cache->room = 4;
	/* Zeroed memory: an untouched page costs nothing, and OP_decode is 0. */
	cache->pages = vd_env_allocate(env, "vcpu.code_pages",
				       cache->room * sizeof(struct code_page), 64);
	if (!cache->pages) {
		env->release(env, cache, sizeof(*cache));
		return -ENOMEM;
	}
	h->cache = cache;
	return 0;
}

void vd_code_cache_destroy(struct vd_hart *h)
{
	const struct vd_env *env = h->config.env;

	if (!h->cache)
		return;
	env->release(env, h->cache->pages, h->cache->room * sizeof(struct code_page));
	env->release(env, h->cache, sizeof(*h->cache));
	h->cache = NULL;
}

static void code_tlb_flush(struct vd_hart *h)
{
	for (unsigned c = 0; c < CODE_CONTEXTS; c++)
		for (unsigned i = 0; i < CODE_TLB_ENTRIES; i++)
			h->code_tlbs[c][i].tag = TAG_NONE;
}

void vd_code_fence(struct vd_hart *h)
{
	h->stats.fence_is++;
	h->code_generation++;
	code_tlb_flush(h);
}

/*
 * Everything is forgotten when the cache is full; the pages are decoded again as they are needed.
 */
static void drop_all(struct vd_hart *h)
{
	struct code_cache *cache = h->cache;

	memset(cache->hash, 0, sizeof(cache->hash));
	for (size_t i = 0; i < cache->used; i++)
		memset(&cache->pages[i], 0, sizeof(cache->pages[i].ops));
	cache->used = 0;
	code_tlb_flush(h);
}

static struct code_page *find_page(struct vd_hart *h, uint64_t gpa, const void *host)
{
	struct code_cache *cache = h->cache;
	struct code_page **bucket = &cache->hash[(gpa >> PAGE_SHIFT) % HASH_SIZE];
	struct code_page *page;

	for (page = *bucket; page; page = page->next)
		if (page->gpa == gpa)
			return page;
	if (cache->used == cache->room) {
		drop_all(h);
		bucket = &cache->hash[(gpa >> PAGE_SHIFT) % HASH_SIZE];
	}
	page = &cache->pages[cache->used++];
	page->ops[PAGE_SIZE / 2].code = OP_page_end;
	page->gpa = gpa;
	page->generation = h->code_generation;
	page->next = *bucket;
	*bucket = page;
	vd_guest_copy(page->source, host, PAGE_SIZE);
	h->stats.code_pages++;
	return page;
}

static void verify_page(struct vd_hart *h, struct code_page *page, const void *host)
{
	uint8_t now[PAGE_SIZE];

	vd_guest_copy(now, host, PAGE_SIZE);
	h->stats.code_verifies++;
	page->generation = h->code_generation;
	if (!memcmp(now, page->source, PAGE_SIZE))
		return;
	for (unsigned i = 0; i < PAGE_SIZE / 2; i++) {
		if (!memcmp(now + 2 * i, page->source + 2 * i, 2))
			continue;
		page->ops[i].code = OP_decode;
		if (i > 0) /* a 4-byte instruction may end here */
			page->ops[i - 1].code = OP_decode;
	}
	memcpy(page->source, now, PAGE_SIZE);
}

const struct op *vd_code_find(struct vd_hart *h, uint64_t pc)
{
	struct code_tlb_entry *e;
	struct translation t;
	struct code_page *page;
	enum cause cause;

	if (unlikely(pc & 1)) {
		vd_trap_take(h, pc, CAUSE_FETCH_MISALIGNED, pc);
		return NULL;
	}
	e = &h->code[(pc >> PAGE_SHIFT) % CODE_TLB_ENTRIES];
	if (e->tag != (pc & PAGE_MASK)) {
		cause = vd_translate(h, pc, VD_EXECUTE, &t);
		if (cause == CAUSE_NONE && !t.host) /* no code in trapped areas */
			cause = CAUSE_FETCH_ACCESS;
		if (cause != CAUSE_NONE) {
			vd_trap_take(h, pc, cause, pc);
			return NULL;
		}
		t.host = (void *)((uintptr_t)t.host & PAGE_MASK);
		page = find_page(h, t.gpa & PAGE_MASK, t.host);
		if (page->generation != h->code_generation)
			verify_page(h, page, t.host);
		/*
		 * h->code: translating may have come back in another context's set only by a trap,
		 * and there was none
		 */
		e->tag = pc & PAGE_MASK;
		e->page = page;
	}
	h->page_va = h->page_tag = pc & PAGE_MASK;
	h->page_ops = e->page->ops;
	return h->page_ops + ((pc & ~PAGE_MASK) >> 1);
}

/* The bytes of the instruction that @op was decoded from. */
uint32_t vd_code_instruction(const struct vd_hart *h, const struct op *op)
{
	const struct code_page *page = (const struct code_page *)h->page_ops;
	size_t offset = (size_t)(op - h->page_ops) * 2;
	uint32_t insn = 0;

	if (op == h->straddle)
		return h->cache->straddle_insn;
	memcpy(&insn, page->source + offset, offset + 4 <= PAGE_SIZE ? 4 : 2);
	return (insn & 3) == 3 ? insn : insn & 0xffff;
}

/*
 * Fetch the second half from the next page, decode into the hart's own slots, and run it as part of
 * this page.
 */
const struct op *vd_code_straddle(struct vd_hart *h, const struct op *op)
{
	uint64_t pc = op_pc(h, op), flushes = h->flushes_seen;
	uint32_t insn = vd_code_instruction(h, op);
	struct translation t;
	enum cause cause = vd_translate(h, pc + 2, VD_EXECUTE, &t);

	if (cause == CAUSE_NONE && !t.host)
		cause = CAUSE_FETCH_ACCESS;
	if (cause != CAUSE_NONE) {
		vd_trap_take(h, pc, cause, pc + 2);
		return NULL;
	}
	if (flushes != h->flushes_seen) { /* the first half may have changed: look it up again */
		h->pc = pc;
		return NULL;
	}
	insn |= (uint32_t)vd_guest_load16(t.host) << 16;
	h->cache->straddle_insn = insn;
	h->straddle[0] = vd_decode(insn, PAGE_SIZE - 2, true);
	h->straddle[2] = (struct op){.code = OP_page_end};
	h->page_va = pc;
	h->page_tag = TAG_NONE;
	h->page_ops = h->straddle;
	return h->straddle;
}
