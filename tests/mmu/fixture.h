/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest space with RAM and a device, an MMU over it, a TLB that obeys its flushes, and an
 * environment that aborts when the MMU allocates or sleeps under its lock.
 */
#ifndef VIADUCT_TESTS_MMU_FIXTURE_H
#define VIADUCT_TESTS_MMU_FIXTURE_H

#include "../base/test_env.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mmu/state.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE (4 * KIB)

/* ---- the checking environment: no section of the MMU, shared or alone, may allocate or sleep - */

/* The MMU that is looked at. */
static inline struct vd_mmu *_Atomic *checked_mmu(void)
{
	static struct vd_mmu *_Atomic mmu;

	return &mmu;
}

/* Mutexes that the thread has locked: what else stands on an MMU has one (shadow tables). */
static inline int *checked_depth(void)
{
	static _Thread_local int depth;

	return &depth;
}

static inline bool checked_is_inside(void)
{
	struct vd_mmu *mmu = *checked_mmu();

	if (*checked_depth())
		return true;
	return mmu && vd_mmu_share_is_inside(&mmu->pt.share);
}

static inline void checked_outside(const char *what)
{
	if (!checked_is_inside())
		return;
	fprintf(stderr, "%s under the mmu lock\n", what);
	abort();
}

static inline void checked_lock(const struct vd_env *env, struct vd_lock *lock)
{
	checked_outside("a mutex taken");
	vd_env_hosted()->lock(env, lock);
	++*checked_depth();
}

static inline void checked_unlock(const struct vd_env *env, struct vd_lock *lock)
{
	--*checked_depth();
	vd_env_hosted()->unlock(env, lock);
}

static inline void *checked_allocate(const struct vd_env *env, size_t size, size_t align)
{
	checked_outside("allocation");
	return test_env_allocate(env, size, align);
}

static inline void checked_release(const struct vd_env *env, void *p, size_t size)
{
	checked_outside("release");
	test_env_release(env, p, size);
}

static inline void checked_wait(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	checked_outside("wait");
	vd_env_hosted()->wait(env, word, seen);
}

static inline void checked_synchronize(const struct vd_env *env)
{
	checked_outside("synchronize");
	vd_env_hosted()->synchronize(env);
}

static inline void checked_defer(const struct vd_env *env, struct vd_deferred *item,
				 void (*fn)(struct vd_deferred *item))
{
	checked_outside("defer");
	vd_env_hosted()->defer(env, item, fn);
}

static inline void checked_env_init(struct test_env *test)
{
	test_env_init(test);
	test->env.lock = checked_lock;
	test->env.unlock = checked_unlock;
	test->env.allocate = checked_allocate;
	test->env.release = checked_release;
	test->env.wait = checked_wait;
	test->env.synchronize = checked_synchronize;
	test->env.defer = checked_defer;
}

/* ---- the world ------------------------------------------------------------------------------ */

#define FLUSHES_MAX 16u

struct fixture {
	struct test_env test;	 /* of host and mem */
	struct test_env checked; /* of the MMU */
	struct vd_host *host;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_host_object *ram;    /* 2 GiB, never all touched */
	struct vd_host_object *spares; /* 4 MiB that can be moved */
	struct vd_host_object *bar;    /* device memory, 8 MiB, write-combining */
	struct vd_host_object *registers; /* device memory, 64 KiB, uncached */
	unsigned flush_count;
	struct { uint64_t start, length; } flushes[FLUSHES_MAX];
};

#define RAM_BYTES (2 * GIB)
#define SPARES_BYTES (4 * MIB)
#define BAR_BYTES (8 * MIB)
#define REGISTERS_BYTES (64 * KIB)

static inline void fixture_flush(void *context, vd_gpa start, uint64_t length)
{
	struct fixture *f = context;

	if (!checked_is_inside())
		fail_msg("flush without the lock");
	f->flushes[f->flush_count % FLUSHES_MAX].start = start.value;
	f->flushes[f->flush_count % FLUSHES_MAX].length = length;
	f->flush_count++;
}

static inline struct vd_host_object *fixture_device(struct fixture *f, const char *name,
						    uint64_t size, enum vd_memory_type type)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vd_host_object *object = NULL;
	struct vd_error error = {.text = ""};

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	if (vd_host_import(f->host, name, fd, 0, size, VD_PAGE_DEVICE, type, 0, &object, &error))
		fail_msg("%s", error.text);
	close(fd);
	return object;
}

static inline void fixture_mmu(struct fixture *f, const struct vd_mmu_format *format)
{
	struct vd_mmu_config config = {
		.env = &f->checked.env,
		.mem = f->mem,
		.format = format,
		.flush = fixture_flush,
		.flush_context = f,
	};
	struct vd_error error = {.text = ""};

	if (vd_mmu_create(&config, &f->mmu, &error))
		fail_msg("%s", error.text);
	*checked_mmu() = f->mmu;
}

/* The space without an MMU, in pages of 2^@page_shift bytes, the host's of 2^@host_shift. */
static inline void fixture_open_shifts(struct fixture *f, unsigned host_shift, unsigned page_shift)
{
	struct vd_host_config host_config = {.env = &f->test.env, .page_shift = host_shift};
	struct vd_mem_config mem_config = {.env = &f->test.env, .page_shift = page_shift,
					   .address_bits = 41};
	struct vd_error error;

	*f = (struct fixture){.flush_count = 0};
	test_env_init(&f->test);
	checked_env_init(&f->checked);
	assert_int_equal(vd_host_create(&host_config, &f->host, &error), 0);
	assert_int_equal(vd_host_ram_create(f->host, "ram", RAM_BYTES, 0, &f->ram, &error), 0);
	assert_int_equal(vd_host_ram_create(f->host, "spares", SPARES_BYTES, VD_HOST_SPARES,
					    &f->spares, &error), 0);
	f->bar = fixture_device(f, "bar", BAR_BYTES, VD_MEMORY_WRITE_COMBINING);
	f->registers = fixture_device(f, "registers", REGISTERS_BYTES, VD_MEMORY_UNCACHED);
	mem_config.host = f->host;
	assert_int_equal(vd_mem_create(&mem_config, &f->mem, &error), 0);
}

static inline void fixture_open_pages(struct fixture *f, unsigned page_shift)
{
	fixture_open_shifts(f, page_shift, page_shift);
}

static inline void fixture_open_space(struct fixture *f)
{
	fixture_open_pages(f, 12);
}

static inline void fixture_open(struct fixture *f, const struct vd_mmu_format *format)
{
	fixture_open_space(f);
	fixture_mmu(f, format);
}

static inline void fixture_drain(void)
{
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
}

/* Nothing may be left: every block that was taken is given back. */
static inline void fixture_close(struct fixture *f)
{
	test_env_fail(&f->test, 0, 0);
	test_env_fail(&f->checked, 0, 0);
	vd_mmu_destroy(f->mmu);
	*checked_mmu() = NULL;
	vd_mem_destroy(f->mem);
	vd_host_object_put(f->ram);
	vd_host_object_put(f->spares);
	vd_host_object_put(f->bar);
	vd_host_object_put(f->registers);
	vd_host_destroy(f->host);
	fixture_drain();
	assert_int_equal(f->checked.blocks, 0);
	assert_int_equal(f->test.blocks, 0);
}

static inline uint32_t fixture_slot(struct fixture *f, uint64_t base, uint64_t size,
				    struct vd_host_object *object, uint64_t offset, bool read_only)
{
	struct vd_slot_config config = {
		.base = {base},
		.size = size,
		.kind = vd_host_object_kind(object) == VD_PAGE_DEVICE ? VD_SLOT_DEVICE
								      : VD_SLOT_RAM,
		.read_only = read_only,
		.object = object,
		.offset = offset,
		.name = vd_host_object_name(object),
	};
	struct vd_error error = {.text = ""};
	uint32_t id = 0;

	if (vd_mem_add_slot(f->mem, &config, &id, &error))
		fail_msg("%s", error.text);
	return id;
}

static inline int walk(struct fixture *f, uint64_t gpa, unsigned access, struct vd_mmu_leaf *leaf)
{
	return vd_mmu_walk(f->mmu, (vd_gpa){gpa}, access, leaf);
}

static inline int fault(struct fixture *f, uint64_t gpa, unsigned access)
{
	return vd_mmu_fault(f->mmu, (vd_gpa){gpa}, access);
}

/* Faults the address in and walks to it: what a hart does. */
static inline struct vd_mmu_leaf touch(struct fixture *f, uint64_t gpa, unsigned access)
{
	struct vd_mmu_leaf leaf = {.size = 0};

	assert_int_equal(fault(f, gpa, access), 0);
	assert_int_equal(walk(f, gpa, access, &leaf), 0);
	return leaf;
}

static inline vd_pfn pfn_now(struct fixture *f, uint64_t gpa)
{
	struct vd_mem_page page;

	assert_int_equal(vd_mem_gpa_to_pfn(f->mem, (vd_gpa){gpa}, VD_READ, &page), 0);
	return page.host.pfn;
}

static inline struct vd_mmu_stats stats_now(struct fixture *f)
{
	struct vd_mmu_stats stats;

	vd_mmu_stats(f->mmu, &stats);
	return stats;
}

/* Whether the last flush, and it alone, was of [start, start + length). */
static inline void assert_flushed_once(struct fixture *f, uint64_t start, uint64_t length)
{
	assert_int_equal(f->flush_count, 1);
	assert_int_equal(f->flushes[0].start, start);
	assert_int_equal(f->flushes[0].length, length);
	f->flush_count = 0;
}

#endif
