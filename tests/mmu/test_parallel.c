/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads fault on the same pages at once, blocks and granules, while another one zaps, protects,
 * ages, moves memory and turns a dirty log on and off. In the end the table must hold what the
 * space says, and nothing else, and must have counted it right. For ThreadSanitizer as well.
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>

#include "formats.h"

#define THREADS 3u
#define CHANGES 300u
#define FAULTS 3000u
#define BASE (2 * GIB)	  /* pages of their own frames, which move */
#define BLOCKS (4 * GIB)  /* blocks, but for while a log runs */
#define BLOCKS_BYTES (8 * MIB)

struct faulter {
	struct parallel *parallel;
	pthread_t thread;
	uint64_t seed;
	_Atomic uint64_t faults;
	_Atomic int failure;
};

struct parallel {
	struct fixture f;
	struct faulter faulters[THREADS];
	_Atomic bool stop;
	uint32_t moving, blocks;
	bool log;
	uint64_t seed;
};

static void *fault_run(void *context)
{
	struct faulter *faulter = context;
	struct parallel *p = faulter->parallel;

	while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
		uint64_t r = test_random(&faulter->seed);
		uint64_t gpa = r & 1 ? BASE + (r >> 8) % SPARES_BYTES
				     : BLOCKS + (r >> 8) % BLOCKS_BYTES;
		unsigned access = r & 2 ? VD_WRITE : VD_READ;
		struct vd_mmu_leaf leaf;
		int rc = fault(&p->f, gpa, access);

		/* While the host takes the right to store away, it is not there. */
		if (rc && !(rc == -EACCES && r & 1 && access == VD_WRITE))
			faulter->failure = rc;
		if (r & 4)
			walk(&p->f, gpa, access, &leaf);
		atomic_fetch_add_explicit(&faulter->faults, 1, memory_order_relaxed);
	}
	return NULL;
}

static void change(struct parallel *p)
{
	static uint8_t bitmap[BLOCKS_BYTES / PAGE / 8];
	uint64_t r = test_random(&p->seed);
	uint64_t offset = (r >> 8) % (SPARES_BYTES / PAGE) * PAGE;
	vd_gpa gpa = {(r & 16 ? BASE : BLOCKS) + offset};
	struct vd_mem *mem = p->f.mem;
	int rc;

	switch (r % 8) {
	case 0:
		vd_mmu_zap(p->f.mmu, gpa, r & 32 ? 5 * PAGE : 3 * MIB);
		break;
	case 1:
		vd_mmu_write_protect(p->f.mmu, gpa, 7 * PAGE);
		break;
	case 2:
		vd_mmu_clear_young(p->f.mmu, gpa, MIB);
		break;
	case 3:
		rc = vd_host_object_move(p->f.spares, offset, PAGE, true);
		assert_true(rc == 0 || rc == -ENOMEM);
		break;
	case 4:
		assert_int_equal(vd_host_object_protect(p->f.spares, offset, PAGE, false, true), 0);
		assert_int_equal(vd_host_object_protect(p->f.spares, offset, PAGE, true, true), 0);
		break;
	case 5:
		rc = p->log ? vd_mem_dirty_stop(mem, p->blocks) : vd_mem_dirty_start(mem, p->blocks);
		assert_int_equal(rc, 0);
		p->log = !p->log;
		break;
	case 6:
		if (p->log)
			assert_int_equal(vd_mem_dirty_fetch(mem, p->blocks, bitmap,
							    sizeof(bitmap)), 0);
		break;
	default:
		if (r & 32)
			vd_mmu_merge(p->f.mmu, (vd_gpa){BLOCKS}, BLOCKS_BYTES);
		else
			assert_int_equal(vd_pgtable_merge(&p->f.mmu->pt, BLOCKS, BLOCKS_BYTES, 1),
					 0);
		break;
	}
}

/* ---- what is there in the end --------------------------------------------------------------- */

struct sum {
	struct parallel *p;
	uint64_t bytes, tables;
};

static int add_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	struct sum *sum = context;
	struct vd_mem_page page;

	for (uint64_t at = 0; at < leaf->size; at += PAGE) {
		assert_int_equal(vd_mem_gpa_to_pfn(sum->p->f.mem, (vd_gpa){gpa.value + at},
						   VD_READ, &page), 0);
		assert_int_equal(page.host.pfn.value, leaf->pfn.value + at / PAGE);
	}
	sum->bytes += leaf->size;
	return 0;
}

static void add_tables(struct sum *sum, const struct vd_mmu_table *table)
{
	uint32_t used = 0, leaves = 0;

	sum->tables++;
	for (unsigned i = 0; i < table->count; i++) {
		const struct vd_mmu_table *child = vd_mmu_table_child(table, i);

		used += table->entries[i] != 0;
		leaves += table->entries[i] && !child;
		if (child)
			add_tables(sum, child);
	}
	assert_int_equal(vd_mmu_table_used(table), used);
	assert_int_equal(vd_mmu_table_leaves(table), leaves);
}

static bool faulters_lag(struct parallel *p)
{
	bool lag = false;

	for (unsigned i = 0; i < THREADS; i++) {
		if (p->faulters[i].failure)
			return false;
		lag |= p->faulters[i].faults < FAULTS;
	}
	return lag;
}

static void run(const struct vd_mmu_format *format)
{
	static struct parallel p;
	struct sum sum = {.p = &p};

	p = (struct parallel){.seed = 77};
	fixture_open(&p.f, format);
	p.moving = fixture_slot(&p.f, BASE, SPARES_BYTES, p.f.spares, 0, false);
	p.blocks = fixture_slot(&p.f, BLOCKS, BLOCKS_BYTES, p.f.ram, 0, false);
	for (unsigned i = 0; i < THREADS; i++) {
		struct faulter *faulter = &p.faulters[i];

		faulter->parallel = &p;
		faulter->seed = 1 + i;
		assert_int_equal(pthread_create(&faulter->thread, NULL, fault_run, faulter), 0);
	}
	for (unsigned n = 0; n < CHANGES || faulters_lag(&p); n++)
		change(&p);
	atomic_store(&p.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(p.faulters[i].thread, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(p.faulters[i].failure, 0);
	assert_int_equal(vd_mmu_each(p.f.mmu, add_leaf, &sum), 0);
	add_tables(&sum, p.f.mmu->pt.root);
	assert_int_equal(stats_now(&p.f).mapped_bytes, sum.bytes);
	assert_int_equal(stats_now(&p.f).table_pages, sum.tables);
	fixture_close(&p.f);
}

/* A format that is slow at making entries: others get in between. */
static void now_and_then_yield(void)
{
	static _Atomic unsigned calls;

	if (atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) % 3 == 0)
		sched_yield();
}

static uint64_t slow_leaf_entry(uint64_t address, const struct vd_mmu_attributes *attributes,
				unsigned level)
{
	now_and_then_yield();
	return fake_format.leaf_entry(address, attributes, level);
}

static uint64_t slow_table_entry(uint64_t address, unsigned level)
{
	now_and_then_yield();
	return fake_format.table_entry(address, level);
}

static void parallel_faults_leave_the_truth(void **state)
{
	static struct vd_mmu_format slow;
	const struct vd_mmu_format *formats[] = {
		&vd_mmu_format_sv48x4, &vd_mmu_format_arm64_s2_4k, &slow,
	};

	slow = fake_format;
	slow.leaf_entry = slow_leaf_entry;
	slow.table_entry = slow_table_entry;

	(void)state;
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		run(formats[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parallel_faults_leave_the_truth),
	};

	return cmocka_run_group_tests_name("mmu parallel", tests, NULL, NULL);
}
