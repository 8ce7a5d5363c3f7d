/* SPDX-License-Identifier: BSD-2-Clause */
/* A made-up machine with a physical memory map, and an internal VM on it. Nothing is ever touched. */
#ifndef VIADUCT_TESTS_MMU_INTERNAL_RIG_H
#define VIADUCT_TESTS_MMU_INTERNAL_RIG_H

#include "../base/test_env.h"

#include <string.h>

#include <viaduct/internal.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define UART UINT64_C(0x09000000)
#define RAM UINT64_C(0x40000000)
#define OWN (RAM + 64 * MIB)
#define OWN_BYTES (16 * MIB)
#define RAM_BYTES (7 * GIB)
#define RESERVED (RAM + RAM_BYTES)
#define FAR_RAM (UINT64_C(1) << 42)
#define RW (VD_READ | VD_WRITE)

static const struct vd_physical_range internal_board[] = {
	{RAM, RAM_BYTES, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
	{RESERVED, 64 * MIB, VD_PAGE_RESERVED, VD_MEMORY_NORMAL, false},
	{UART, 64 * KIB, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
	{UART + 64 * KIB, 2 * MIB, VD_PAGE_DEVICE, VD_MEMORY_WRITE_COMBINING, false},
	{FAR_RAM, GIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
	{OWN, OWN_BYTES, VD_PAGE_RAM, VD_MEMORY_NORMAL, true},
};

#define INTERNAL_FLUSHES 8u

struct internal_rig {
	struct test_env test; /* first */
	const struct vd_mmu_format *format;
	struct vd_host *host;
	struct vd_internal *vm;
	unsigned flush_count;
	struct { uint64_t start, length; } flushes[INTERNAL_FLUSHES];
};

static inline void internal_flush(void *context, uint64_t start, uint64_t length)
{
	struct internal_rig *rig = context;

	rig->flushes[rig->flush_count % INTERNAL_FLUSHES].start = start;
	rig->flushes[rig->flush_count % INTERNAL_FLUSHES].length = length;
	rig->flush_count++;
}

static inline int internal_try(struct internal_rig *rig, unsigned address_bits)
{
	struct vd_internal_config config = {
		.env = &rig->test.env,
		.host = rig->host,
		.format = rig->format,
		.address_bits = address_bits,
		.flush = internal_flush,
		.flush_context = rig,
	};
	struct vd_error error = {.text = ""};
	int r = vd_internal_create(&config, &rig->vm, &error);

	if (r)
		assert_int_equal(error.code, r);
	return r;
}

static inline void internal_open(struct internal_rig *rig, const struct vd_mmu_format *format,
				 unsigned page_shift)
{
	struct vd_host_physical_config config = {
		&rig->test.env, page_shift, internal_board,
		sizeof(internal_board) / sizeof(internal_board[0]),
	};

	memset(rig, 0, sizeof(*rig));
	test_env_init(&rig->test);
	rig->format = format;
	assert_int_equal(vd_host_create_physical(&config, &rig->host, NULL), 0);
	assert_int_equal(internal_try(rig, 0), 0);
}

/* Nothing may be left: every block that was taken is given back. */
static inline void internal_close(struct internal_rig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	vd_internal_destroy(rig->vm);
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(rig->test.blocks, 0);
}

static inline int internal_map(struct internal_rig *rig, uint64_t start, uint64_t length,
			       unsigned access, bool device)
{
	struct vd_internal_range range = {start, length, access, device, "range"};
	struct vd_error error = {.text = ""};
	int r = vd_internal_map(rig->vm, &range, 1, &error);

	if (r) {
		assert_int_equal(error.code, r);
		assert_true(strlen(error.text) > 0);
	}
	return r;
}

static inline struct vd_internal_stats internal_stats(struct internal_rig *rig)
{
	struct vd_internal_stats stats;

	vd_internal_stats(rig->vm, &stats);
	return stats;
}

static inline int internal_walk(struct internal_rig *rig, uint64_t address, unsigned access,
				struct vd_mmu_leaf *leaf)
{
	return vd_pgtable_walk(vd_internal_table(rig->vm), address, access, leaf);
}

#endif
