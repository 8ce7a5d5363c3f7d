/* SPDX-License-Identifier: BSD-2-Clause */
/* The reverse index: which slots map a part of an object. */
#include "fixture.h"

#include "mem/snapshot.h"

#define SLOTS 300u
#define OBJECTS 3u

/* Never looked into: the index compares addresses only. */
static char objects[OBJECTS];
static struct vd_mem_slot slots[SLOTS];
static struct vd_mem_slot *by_base[SLOTS], *by_object[SLOTS];

static int compare_base(const void *a, const void *b)
{
	const struct vd_mem_slot *p = *(struct vd_mem_slot *const *)a;
	const struct vd_mem_slot *q = *(struct vd_mem_slot *const *)b;

	return p->shown.config.base.value < q->shown.config.base.value ? -1 : 1;
}

static int compare_object(const void *a, const void *b)
{
	return vd_mapping_compare(&(*(struct vd_mem_slot *const *)a)->shown,
				  &(*(struct vd_mem_slot *const *)b)->shown);
}

/* Slots side by side, over pieces of a few objects that overlap at will; some are traps. */
static void make_slots(uint64_t *seed)
{
	uint64_t base = 0;

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint64_t pages = 1 + test_random(seed) % (test_random(seed) % 16 ? 8 : 500);
		uint64_t object = test_random(seed) % (OBJECTS + 1);

		slots[i] = (struct vd_mem_slot){.state = VD_SLOT_ADDED};
		slots[i].shown.config = (struct vd_slot_config){
			.base = {base},
			.size = pages * PAGE,
			.kind = object == OBJECTS ? VD_SLOT_TRAP : VD_SLOT_RAM,
			.object = object == OBJECTS ? NULL
				: (struct vd_host_object *)(void *)&objects[object],
			.offset = test_random(seed) % 512 * PAGE,
		};
		base += (pages + test_random(seed) % 3) * PAGE;
	}
}

/* Merges slots [first, end) into @old. */
static struct vd_mem_snapshot *merge(const struct vd_env *env, const struct vd_mem_snapshot *old,
				     uint32_t first, uint32_t end, uint32_t step)
{
	struct vd_mem_snapshot *next = vd_snapshot_allocate(env, SLOTS);
	uint32_t count = 0, mapped = 0;

	assert_non_null(next);
	for (uint32_t i = first; i < end; i += step) {
		by_base[count++] = &slots[i];
		if (slots[i].shown.config.object)
			by_object[mapped++] = &slots[i];
	}
	qsort(by_base, count, sizeof(*by_base), compare_base);
	qsort(by_object, mapped, sizeof(*by_object), compare_object);
	vd_snapshot_merge(next, old, by_base, count, by_object, mapped);
	for (uint32_t i = 0; i < count; i++)
		by_base[i]->state = VD_SLOT_LIVE;
	return next;
}

static int count_hit(void *context, const struct vd_mem_slot *slot)
{
	unsigned *hits = context;

	hits[slot - slots]++;
	return 0;
}

static void check_query(const struct vd_mem_snapshot *snapshot, uint64_t *seed)
{
	const struct vd_host_object *object =
		(const void *)&objects[test_random(seed) % OBJECTS];
	uint64_t start = test_random(seed) % (1100 * PAGE);
	uint64_t end = start + 1 + test_random(seed) % (test_random(seed) % 2 ? PAGE : 900 * PAGE);
	unsigned hits[SLOTS] = {0};

	assert_int_equal(vd_snapshot_each_mapping(snapshot, object, start, end, count_hit, hits),
			 0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		const struct vd_slot_config *c = &slots[i].shown.config;
		unsigned expected = slots[i].state == VD_SLOT_LIVE && c->object == object &&
			c->offset < end && start < c->offset + c->size;

		if (hits[i] != expected)
			fail_msg("slot %u: %u hits of [0x%llx, 0x%llx), expected %u", i, hits[i],
				 (unsigned long long)start, (unsigned long long)end, expected);
	}
}

static void check_order(const struct vd_mem_snapshot *snapshot)
{
	for (uint32_t i = 1; i < snapshot->count; i++)
		assert_true(snapshot->entries[i - 1].last < snapshot->starts[i]);
	for (uint32_t i = 1; i < snapshot->mapping_count; i++)
		assert_true(vd_mapping_compare(&snapshot->mappings[i - 1].slot->shown,
					       &snapshot->mappings[i].slot->shown) < 0);
}

static void test_against_all_slots(void **state)
{
	struct test_env test;

	(void)state;
	test_env_init(&test);
	for (uint64_t round = 1; round <= 20; round++) {
		uint64_t seed = round;
		struct vd_mem_snapshot *none = vd_snapshot_allocate(&test.env, 0);
		struct vd_mem_snapshot *half, *all, *rest;

		make_slots(&seed);
		half = merge(&test.env, none, 0, SLOTS, 2);
		all = merge(&test.env, half, 1, SLOTS, 2);
		check_order(all);
		assert_int_equal(all->count, SLOTS);
		for (unsigned i = 0; i < 100; i++)
			check_query(all, &seed);
		for (uint32_t i = 0; i < SLOTS; i += 1 + (uint32_t)(test_random(&seed) % 5))
			slots[i].state = VD_SLOT_LEAVING;
		rest = merge(&test.env, all, 0, 0, 1);
		check_order(rest);
		for (unsigned i = 0; i < 100; i++)
			check_query(rest, &seed);
		vd_snapshot_free(none);
		vd_snapshot_free(half);
		vd_snapshot_free(all);
		vd_snapshot_free(rest);
	}
	assert_int_equal(test.blocks, 0);
}

static int stop_at_third(void *context, const struct vd_mem_slot *slot)
{
	unsigned *calls = context;

	(void)slot;
	return ++*calls == 3 ? 7 : 0;
}

static void test_stops(void **state)
{
	struct vd_mem_snapshot *none, *all;
	struct test_env test;
	unsigned calls = 0;
	uint64_t seed = 77;

	(void)state;
	test_env_init(&test);
	make_slots(&seed);
	none = vd_snapshot_allocate(&test.env, 0);
	all = merge(&test.env, none, 0, SLOTS, 1);
	assert_int_equal(vd_snapshot_each_mapping(all, (const void *)&objects[0], 0, UINT64_MAX,
						  stop_at_third, &calls), 7);
	assert_int_equal(calls, 3);
	vd_snapshot_free(none);
	vd_snapshot_free(all);
}

static void test_no_memory(void **state)
{
	struct test_env test;

	(void)state;
	test_env_init(&test);
	test_env_fail(&test, 1, -ENOMEM);
	assert_null(vd_snapshot_allocate(&test.env, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_all_slots),
		cmocka_unit_test(test_stops),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
