/* SPDX-License-Identifier: BSD-2-Clause */
/* The device that measures: what it does is counted here, how long that takes is no matter. */
#include "../base/test_env.h"

#include <string.h>

#include <viaduct/device.h>

#define IOVA UINT64_C(0x100000)
#define PAGE UINT64_C(4096)

struct rig {
	struct test_env test;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_dma_space *space;
	struct vd_device *device;
	unsigned messages;
	_Atomic uint64_t now;
};
static struct rig rig;

/* Every look at the clock takes a nanosecond. */
static uint64_t tick(const struct vd_env *env)
{
	(void)env;
	return atomic_fetch_add(&rig.now, 1);
}

static void sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	(void)context;
	(void)level;
	assert_int_equal(index, VD_IRQ_MSIX);
	assert_int_equal(vector, 0);
	rig.messages++;
}

static int setup(void **state)
{
	struct vd_host_config host = {.env = &rig.test.env};
	struct vd_dma_config dma = {.env = &rig.test.env};
	struct vd_bench_config config = {.env = &rig.test.env};

	(void)state;
	memset(&rig, 0, sizeof(rig));
	test_env_init(&rig.test);
	rig.test.env.clock_ns = tick;
	assert_int_equal(vd_host_create(&host, &rig.host, NULL), 0);
	assert_int_equal(vd_host_ram_create(rig.host, "ram", PAGE, 0, &rig.ram, NULL), 0);
	dma.host = rig.host;
	assert_int_equal(vd_dma_space_create(&dma, &rig.space, NULL), 0);
	assert_int_equal(vd_dma_map(rig.space, (vd_iova){IOVA}, PAGE, rig.ram, 0, VD_READ), 0);
	config.host = rig.host;
	config.space = rig.space;
	assert_int_equal(vd_bench_create(&config, &rig.device, NULL), 0);
	vd_device_set_sink(rig.device, VD_IRQ_MSIX, sink, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vd_device_put(rig.device);
	vd_dma_space_destroy(rig.space);
	vd_host_object_put(rig.ram);
	vd_host_destroy(rig.host);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(rig.test.blocks, 0);
	return 0;
}

static uint64_t get(uint64_t offset)
{
	uint64_t value = 1;

	assert_int_equal(vd_device_read(rig.device, 2, (vd_region_offset){offset}, &value, 8), 0);
	return value;
}

static void put(uint64_t offset, uint64_t value)
{
	assert_int_equal(vd_device_write(rig.device, 2, (vd_region_offset){offset}, &value, 8), 0);
}

static void what_a_client_finds(void **state)
{
	(void)state;
	assert_int_equal(vd_device_region(rig.device, 2)->size, PAGE);
	assert_int_equal(vd_device_region(rig.device, 2)->flags & VD_REGION_MMAP, 0);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_MSIX), 1);
	assert_int_equal(get(0), 0);
	assert_int_equal(get(PAGE - 8), 0);
}

static void transfers_are_counted_and_timed(void **state)
{
	struct vd_dma_stats before, after;

	(void)state;
	put(8, IOVA);
	vd_dma_stats(rig.space, &before);
	put(0x10, 10);
	vd_dma_stats(rig.space, &after);
	assert_int_equal(after.translations - before.translations, 10);
	assert_int_equal(get(0x18), 1);
	/* Where nothing is, nothing is measured. */
	put(8, IOVA + 1);
	put(0x10, 10);
	assert_true(get(0x18) == UINT64_MAX);
	vd_dma_stats(rig.space, &after);
	assert_int_equal(after.faults, 1);
}

static void interrupts_are_counted_and_timed(void **state)
{
	(void)state;
	put(0x20, 100);
	assert_int_equal(rig.messages, 100);
	assert_int_equal(get(0x28), 1);
}

static void a_client_does_not_keep_it_for_ever(void **state)
{
	(void)state;
	put(0x20, UINT64_MAX);
	assert_int_equal(rig.messages, 1 << 20);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(get(0x28), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_a_client_finds), TEST(transfers_are_counted_and_timed),
		TEST(interrupts_are_counted_and_timed), TEST(a_client_does_not_keep_it_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
