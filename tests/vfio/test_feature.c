/* SPDX-License-Identifier: BSD-2-Clause */
/* VFIO_DEVICE_FEATURE: who may ask for what, with how many bytes, and what comes back. */
#include <linux/vfio.h>

#include "adder.h"

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE

enum { MIGRATION = 1, STATE = 2, START = 6, STOP = 7, REPORT = 8, SIZE = 9 };

#define IOVA UINT64_C(0x10000)

struct asked {
	struct rig rig;
	uint8_t bytes[512]; /* request and reply */
	size_t used;
};

static void asked_open(struct asked *a)
{
	rig_open(&a->rig);
	add_ram(&a->rig.f, IOVA, 0, 4 * PAGE);
}

/* With @in bytes of request and @room for the reply. */
static int ask(struct asked *a, uint32_t flags, size_t in, size_t room)
{
	a->used = room;
	return vd_device_feature(a->rig.adder.device, flags, a->bytes, in, a->bytes, &a->used);
}

static void put(struct asked *a, size_t at, uint64_t value)
{
	memcpy(a->bytes + at, &value, 8);
}

static uint64_t get(struct asked *a, size_t at)
{
	uint64_t value;

	memcpy(&value, a->bytes + at, 8);
	return value;
}

static const struct {
	uint32_t flags;
	size_t in, room;
	int result;
	size_t used;
} table[] = {
	/* features that there are not */
	{GET | 0, 0, 64, -ENOTTY, 0},
	{PROBE | GET | 3, 0, 64, -ENOTTY, 0},
	{GET | 10, 0, 64, -ENOTTY, 0},
	{GET | 0xffff, 0, 64, -ENOTTY, 0},
	/* flags */
	{GET | 1u << 19 | MIGRATION, 0, 64, -EINVAL, 0},
	{GET | 1u << 31 | MIGRATION, 0, 64, -EINVAL, 0},
	{GET | SET | STATE, 8, 64, -EINVAL, 0},
	{MIGRATION, 0, 64, -EINVAL, 0},
	{SET | MIGRATION, 8, 64, -EINVAL, 0},
	{PROBE | SET | MIGRATION, 0, 0, -EINVAL, 0},
	{GET | START, 64, 64, -EINVAL, 0},
	{GET | STOP, 0, 64, -EINVAL, 0},
	{SET | REPORT, 64, 64, -EINVAL, 0},
	{SET | SIZE, 64, 64, -EINVAL, 0},
	/* probing */
	{PROBE | MIGRATION, 0, 0, 0, 0},
	{PROBE | GET | SET | STATE, 0, 0, 0, 0},
	{PROBE | GET | MIGRATION, 0, 0, 0, 0},
	{PROBE | SET | START, 0, 0, 0, 0},
	{PROBE | SET | STOP, 0, 0, 0, 0},
	{PROBE | GET | REPORT, 0, 64, 0, 0},
	{PROBE | GET | SIZE, 0, 64, 0, 0},
	/* room and length */
	{GET | MIGRATION, 0, 7, -EINVAL, 0},
	{GET | MIGRATION, 0, 8, 0, 8},
	{GET | MIGRATION, 0, 64, 0, 8},
	{GET | STATE, 0, 7, -EINVAL, 0},
	{GET | STATE, 0, 8, 0, 8},
	{SET | STATE, 7, 64, -EINVAL, 0},
	{GET | SIZE, 0, 7, -EINVAL, 0},
	{GET | SIZE, 0, 8, 0, 8},
	{SET | START, 15, 64, -EINVAL, 0},
	{GET | REPORT, 23, 64, -EINVAL, 0},
	{SET | STOP, 0, 0, 0, 0},
};

static void test_table(void **state)
{
	struct asked a = {0};

	(void)state;
	asked_open(&a);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r = ask(&a, table[i].flags, table[i].in, table[i].room);

		if (r != table[i].result || a.used != table[i].used)
			fail_msg("case %zu: %d and %zu bytes", i, r, a.used);
	}
	rig_close(&a.rig);
}

static void test_states(void **state)
{
	struct asked a = {0};

	(void)state;
	asked_open(&a);
	assert_int_equal(ask(&a, GET | MIGRATION, 0, 8), 0);
	assert_int_equal(get(&a, 0), 7);
	assert_int_equal(ask(&a, GET | STATE, 0, 8), 0);
	assert_int_equal(get(&a, 0), UINT64_C(0xffffffff00000002)); /* running; -1 */
	put(&a, 0, VD_MIGRATION_STOP_COPY);
	assert_int_equal(ask(&a, SET | STATE, 8, 8), 0);
	assert_int_equal(a.used, 8);
	assert_int_equal(get(&a, 0), UINT64_C(0xffffffff00000003));
	assert_int_equal(ask(&a, GET | SIZE, 0, 8), 0);
	assert_int_equal(get(&a, 0), vd_device_migration_size(a.rig.adder.device));
	put(&a, 0, VD_MIGRATION_PRE_COPY);
	assert_int_equal(ask(&a, SET | STATE, 8, 8), -EINVAL);
	put(&a, 0, 99);
	assert_int_equal(ask(&a, SET | STATE, 8, 8), -EINVAL);
	assert_int_equal(vd_device_migration_state(a.rig.adder.device), VD_MIGRATION_STOP_COPY);
	put(&a, 0, VD_MIGRATION_RUNNING);
	assert_int_equal(ask(&a, SET | STATE, 8, 0), 0); /* no room for a reply */
	assert_int_equal(a.used, 0);
	assert_int_equal(vd_device_migration_state(a.rig.adder.device), VD_MIGRATION_RUNNING);
	rig_close(&a.rig);
}

static int start(struct asked *a, uint64_t page, uint64_t count, size_t length)
{
	put(a, 0, page);
	put(a, 8, count);
	return ask(a, SET | START, length, 16);
}

static int report(struct asked *a, uint64_t iova, uint64_t length, uint64_t page, size_t room)
{
	put(a, 0, iova);
	put(a, 8, length);
	put(a, 16, page);
	memset(a->bytes + 24, 0xee, 64);
	return ask(a, GET | REPORT, 24, room);
}

static void test_logging(void **state)
{
	struct asked a = {0};
	uint32_t word = 1;

	(void)state;
	asked_open(&a);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, PAGE, 32), -EINVAL); /* not on */
	put(&a, 16, IOVA);
	put(&a, 24, 4 * PAGE);
	assert_int_equal(start(&a, PAGE, 1, 32), 0);
	assert_int_equal(a.used, 16);
	assert_int_equal(get(&a, 0), PAGE);
	assert_int_equal(start(&a, PAGE, 1, 32), -EINVAL); /* on */
	assert_int_equal(vd_dma_write(a.rig.space, (vd_iova){IOVA + PAGE + 5}, &word, 4), 0);
	assert_int_equal(vd_dma_write(a.rig.space, (vd_iova){IOVA + 3 * PAGE}, &word, 4), 0);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, PAGE, 31), -EINVAL); /* no room: kept */
	assert_int_equal(report(&a, IOVA, 4 * PAGE, PAGE, 64), 0);
	assert_int_equal(a.used, 32);
	assert_int_equal(get(&a, 0), IOVA);
	assert_int_equal(get(&a, 8), 4 * PAGE);
	assert_int_equal(get(&a, 16), PAGE);
	assert_int_equal(get(&a, 24), 0xa);
	assert_int_equal(a.bytes[32], 0xee);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, PAGE, 64), 0);
	assert_int_equal(get(&a, 24), 0);
	/* whatever is asked for */
	assert_int_equal(report(&a, IOVA, 4 * PAGE, 2048, 64), -EINVAL);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, 3 * PAGE, 64), -EINVAL);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, 0, 64), -EINVAL);
	assert_int_equal(report(&a, IOVA, 0, PAGE, 64), -EINVAL);
	assert_int_equal(report(&a, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE, 64), -EOVERFLOW);
	assert_int_equal(report(&a, 0, UINT64_C(1) << 63, PAGE, 64), -EINVAL);
	assert_int_equal(ask(&a, SET | STOP, 0, 0), 0);
	assert_int_equal(report(&a, IOVA, 4 * PAGE, PAGE, 64), -EINVAL);
	assert_int_equal(ask(&a, SET | STOP, 0, 0), 0);
	rig_close(&a.rig);
}

static void test_logging_refusals(void **state)
{
	struct asked a = {0};

	(void)state;
	asked_open(&a);
	put(&a, 16, IOVA);
	put(&a, 24, PAGE);
	put(&a, 32, IOVA);
	put(&a, 40, PAGE);
	assert_int_equal(start(&a, PAGE, 0, 48), -EINVAL);
	assert_int_equal(start(&a, PAGE, 3, 48), -EINVAL); /* says three, brings two */
	assert_int_equal(start(&a, PAGE, 2, 47), -EINVAL);
	assert_int_equal(start(&a, PAGE, 2, 48), -EINVAL); /* overlap */
	assert_int_equal(start(&a, PAGE, UINT32_MAX, 48), -E2BIG);
	assert_int_equal(start(&a, PAGE, 1025, 48), -E2BIG);
	assert_int_equal(start(&a, 0, 1, 48), -EINVAL);
	assert_int_equal(start(&a, 3 * PAGE, 1, 48), -EINVAL);
	put(&a, 16, IOVA + 1);
	assert_int_equal(start(&a, PAGE, 1, 48), -EINVAL);
	put(&a, 16, UINT64_MAX - PAGE + 1);
	put(&a, 24, 2 * PAGE);
	assert_int_equal(start(&a, PAGE, 1, 48), -EOVERFLOW);
	put(&a, 16, IOVA);
	test_env_fail(&a.rig.f.test, 1, -ENOMEM);
	assert_int_equal(start(&a, PAGE, 1, 48), -ENOMEM);
	test_env_fail(&a.rig.f.test, 0, 0);
	/* smaller pages than there are: the reply says which */
	assert_int_equal(start(&a, 1, 1, 48), 0);
	assert_int_equal(get(&a, 0), PAGE);
	rig_close(&a.rig);
}

/* A device without a space, or without a state. */
static void test_less(void **state)
{
	struct vd_device_ops ops = adder_ops;
	struct vd_device_config config;
	struct vd_device *device;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	config = adder_config(&rig.f, &rig.adder);
	ops.load = NULL;
	config.ops = &ops;
	assert_int_equal(vd_device_create(&config, &device, NULL), 0);
	for (uint32_t i = 0; i < 16; i++) {
		size_t used = 0;

		assert_int_equal(vd_device_feature(device, PROBE | i, NULL, 0, NULL, &used),
				 -ENOTTY);
	}
	vd_device_put(device);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_logging),
		cmocka_unit_test(test_logging_refusals),
		cmocka_unit_test(test_less),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
