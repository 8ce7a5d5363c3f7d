/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include "mmu/state.h"

#include <stdlib.h>
#include <string.h>

struct plants plants;
static struct fixture *at_hand; /* for the inject hook, which has no context */

static bool has_answered(uint32_t word)
{
	return (word & (HART_INSIDE | HART_REQUEST)) != (HART_INSIDE | HART_REQUEST);
}

static void flush(void *context, vd_gpa start, uint64_t length)
{
	struct fixture *f = context;

	(void)start, (void)length;
	for (unsigned i = 0; i < HARTS; i++) {
		if (!f->harts[i].present)
			continue;
		atomic_fetch_or(&f->harts[i].word, HART_REQUEST);
		if (!f->careless)
			interleave_await(&f->harts[i].word, has_answered);
	}
}

static void out_of_memory(int r)
{
	if (!r)
		return;
	fprintf(stderr, "the set-up fails: %s\n", strerror(-r));
	abort();
}

unsigned fixture_frame(const struct fixture *f, uint64_t page)
{
	struct vd_host_page found;

	out_of_memory(vd_host_object_lookup(f->object, page * PAGE, VD_READ, &found));
	return (unsigned)(found.pfn.value - f->first_pfn);
}

/*
 * Hosts are made once a process for each case, not once a schedule: the kernel's part of them
 * (mappings, the content of frames) is not put back, and nothing here depends on it.
 */
struct fixture *fixture_create(const struct vd_env *env, unsigned pages)
{
	struct fixture *f = env->allocate(env, sizeof(*f), 64);
	struct vd_host_config host = {.env = env, .window_size = UINT64_C(1) << 30};
	struct vd_slot_config slot = {.base = {BASE}, .size = pages * PAGE, .kind = VD_SLOT_RAM,
				      .name = "ram"};
	struct vd_mmu_config mmu = {.env = env, .format = &vd_mmu_format_sv39x4, .flush = flush,
				    .flush_context = f};
	struct vd_host_page found;

	f->env = env;
	out_of_memory(vd_host_create(&host, &f->host, NULL));
	out_of_memory(vd_host_ram_create(f->host, "ram", pages * PAGE, VD_HOST_SPARES, &f->object,
					 NULL));
	slot.object = f->object;
	/* so that runs begin with their tables of page state there */
	out_of_memory(vd_host_object_move(f->object, 0, PAGE, true));
	out_of_memory(vd_mem_create(&(struct vd_mem_config){.env = env, .host = f->host}, &f->mem,
				    NULL));
	out_of_memory(vd_mem_add_slot(f->mem, &slot, &f->slot, NULL));
	mmu.mem = f->mem;
	out_of_memory(vd_mmu_create(&mmu, &f->mmu, NULL));
	out_of_memory(vd_host_object_lookup(f->object, 0, VD_READ, &found));
	f->first_pfn = found.pfn.value & ~(uint64_t)(FRAMES - 1);
	at_hand = f;
	/* statistics, which order nothing and which nothing depends on */
	interleave_ignore(&f->mmu->pt.zaps, sizeof(f->mmu->pt.zaps));
	interleave_ignore(&f->mmu->pt.flushes, sizeof(f->mmu->pt.flushes));
	interleave_ignore(&f->mmu->pt.share.stripes[0].leaves,
			  sizeof(struct vd_mmu_stripe) - offsetof(struct vd_mmu_stripe, leaves));
	return f;
}

/* ---- harts ----------------------------------------------------------- */

void hart_poll(struct fixture *f, unsigned number)
{
	struct hart *hart = &f->harts[number];

	if (!(atomic_load(&hart->word) & HART_REQUEST))
		return;
	hart->tag = 0;
	atomic_fetch_and(&hart->word, ~HART_REQUEST);
}

void hart_enter(struct fixture *f, unsigned number)
{
	atomic_fetch_or(&f->harts[number].word, HART_INSIDE);
	hart_poll(f, number);
}

void hart_leave(struct fixture *f, unsigned number)
{
	atomic_fetch_and(&f->harts[number].word, ~HART_INSIDE);
}

int hart_access(struct fixture *f, unsigned number, uint64_t gpa, unsigned access)
{
	struct hart *hart = &f->harts[number];
	struct vd_mmu_leaf leaf;

	while (hart->tag != (gpa | 1) || access & ~hart->access) {
		int r;

		if (!vd_mmu_walk_guarded(f->mmu, (vd_gpa){gpa}, access, &leaf)) {
			hart->tag = gpa | 1;
			hart->access = access | VD_READ;
			hart->pfn = leaf.pfn;
			continue;
		}
		hart_leave(f, number);
		r = vd_mmu_fault(f->mmu, (vd_gpa){gpa}, access);
		hart_enter(f, number);
		if (r)
			return r;
	}
	interleave_check(!atomic_load(&f->taken[hart->pfn.value - f->first_pfn]),
			 "a hart uses a frame that was taken away");
	return 0;
}

/* ---- the change ------------------------------------------------------ */

/*
 * Between start and end of the change. That no translation is installed from here to the end shows
 * when all have ended, as nobody would take it out again.
 */
static int in_change(const struct vd_env *env, const char *site)
{
	(void)env;
	if (strcmp(site, "host.copy"))
		return 0;
	atomic_store(&at_hand->taken[at_hand->moving], 1);
	return 0;
}

void fixture_move(struct fixture *f, uint64_t page)
{
	f->moving = fixture_frame(f, page);
	interleave_set_inject(in_change);
	interleave_check(!vd_host_object_move(f->object, page * PAGE, PAGE, true), "move fails");
}

void fixture_finish(void *context)
{
	struct fixture *f = context;
	struct vd_mmu_leaf leaf;

	for (uint64_t page = 0; page < vd_host_object_size(f->object) / PAGE; page++)
		if (!vd_mmu_walk(f->mmu, (vd_gpa){BASE + page * PAGE}, VD_READ, &leaf))
			interleave_check(!f->taken[leaf.pfn.value - f->first_pfn],
					 "the tables lead to a frame that was taken away");
	for (unsigned i = 0; i < HARTS; i++)
		if (f->harts[i].tag)
			interleave_check(f->harts[i].word & HART_REQUEST ||
						 !f->taken[f->harts[i].pfn.value - f->first_pfn],
					 "a TLB holds a frame that was taken away");
}
