/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include "mem/index.h"

#define COUNT_MAX (VD_INDEX_MANY * 3 / 2)

struct index_room {
	struct vd_index index;
	uint64_t addresses[COUNT_MAX + VD_INDEX_SCAN];
	uint32_t table[VD_INDEX_ENTRIES(COUNT_MAX)];
	struct vd_index_node nodes[VD_INDEX_NODES(COUNT_MAX)];
};

static struct index_room room;

static int compare(const void *a, const void *b)
{
	uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;

	return p < q ? -1 : p > q;
}

static uint32_t plain_rank(const uint64_t *addresses, uint32_t count, uint64_t address)
{
	uint32_t rank = 0;

	while (rank < count && addresses[rank] <= address)
		rank++;
	return rank;
}

static void check_one(uint32_t count, uint64_t address)
{
	uint32_t rank = vd_index_rank(&room.index, address, room.addresses, 8);
	uint32_t plain = plain_rank(room.addresses, count, address);

	if (rank != plain)
		fail_msg("%u addresses: rank of 0x%llx is %u, not %u", count,
			 (unsigned long long)address, rank, plain);
}

/*
 * Builds over the first @count addresses, sorted here, and asks for each of them and its
 * neighbours.
 */
static void check_all(uint32_t count, uint64_t *seed)
{
	qsort(room.addresses, count, sizeof(uint64_t), compare);
	for (uint32_t i = 0; i < VD_INDEX_SCAN; i++)
		room.addresses[count + i] = UINT64_MAX;
	room.index = (struct vd_index){
		.addresses = room.addresses,
		.table = room.table,
		.nodes = room.nodes,
		.table_room = VD_INDEX_ENTRIES(count),
	};
	vd_index_build(&room.index, count);
	assert_true(room.index.table_used <= VD_INDEX_ENTRIES(count));
	assert_true(room.index.node_used <= VD_INDEX_NODES(count));
	for (uint64_t i = 0; i < count; i += 1 + test_random(seed) % (1 + count / 256)) {
		check_one(count, room.addresses[i]);
		check_one(count, room.addresses[i] - 1);
		check_one(count, room.addresses[i] + 1);
		check_one(count, room.addresses[i] + (test_random(seed) >> 40));
	}
	for (uint32_t i = 0; i < 64; i++)
		check_one(count, test_random(seed) >> test_random(seed) % 64);
	check_one(count, 0);
	check_one(count, UINT64_MAX);
	check_one(count, INT64_MAX);
}

static void test_none(void **state)
{
	uint64_t seed = 1;

	(void)state;
	check_all(0, &seed);
}

static void test_even(void **state)
{
	uint64_t seed = 2;

	(void)state;
	for (uint32_t count = 1; count <= COUNT_MAX; count = count * 3 / 2 + 1) {
		for (uint32_t i = 0; i < count; i++)
			room.addresses[i] = UINT64_C(0x80000000) + i * PAGE;
		check_all(count, &seed);
		assert_int_equal(room.index.node_used, 1);
	}
}

static void test_random_layouts(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		uint32_t count = 1 + (uint32_t)(test_random(&seed) % 400);
		uint64_t at = test_random(&seed) >> 40;

		for (uint32_t i = 0; i < count; i++) {
			room.addresses[i] = at;
			at += 1 + (test_random(&seed) >> (20 + test_random(&seed) % 44));
		}
		check_all(count, &seed);
	}
}

/* Fewer buckets than among a few: some are crowded, none is without its budget. */
static void test_many_share_buckets(void **state)
{
	uint64_t seed = 6;

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		uint32_t count = COUNT_MAX - (uint32_t)(test_random(&seed) % (VD_INDEX_MANY / 4));
		uint64_t at = 0;

		for (uint32_t i = 0; i < count; i++) {
			room.addresses[i] = at;
			at += PAGE * (1 + test_random(&seed) % 31);
		}
		check_all(count, &seed);
		/* the root's, which has all of them in it, and those of crowded buckets */
		assert_true(room.index.table_used <= 3 * count);
		assert_true(room.index.node_used > 1);
	}
}

/* Every level of a tree of tables strips a few addresses only: the tables do not suffice. */
static void test_doubling_gaps_run_out_of_tables(void **state)
{
	uint64_t seed = 4;
	uint32_t halved = 0, count = 0;

	(void)state;
	for (unsigned cluster = 0; cluster < 40; cluster++)
		for (unsigned bit = 0; bit < 50; bit++)
			room.addresses[count++] = ((uint64_t)cluster << 56) + (UINT64_C(1) << bit);
	check_all(count, &seed);
	for (uint32_t i = 0; i < room.index.node_used; i++)
		halved += room.index.nodes[i].halve;
	assert_int_not_equal(halved, 0);
}

static void test_two_clusters_far_apart_stay_shallow(void **state)
{
	uint64_t seed = 5;

	(void)state;
	for (uint32_t i = 0; i < 512; i++)
		room.addresses[i] = (i < 256 ? 0 : UINT64_C(1) << 49) + i * PAGE;
	check_all(512, &seed);
	assert_int_equal(room.index.node_used, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_even),
		cmocka_unit_test(test_random_layouts),
		cmocka_unit_test(test_many_share_buckets),
		cmocka_unit_test(test_doubling_gaps_run_out_of_tables),
		cmocka_unit_test(test_two_clusters_far_apart_stay_shallow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
