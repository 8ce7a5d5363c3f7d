/* SPDX-License-Identifier: BSD-2-Clause */
#include "adder.h"

static int read_at(struct rig *rig, unsigned region, uint64_t offset, void *data, size_t length)
{
	return vd_device_read(rig->adder.device, region, (vd_region_offset){offset}, data, length);
}

static int write_at(struct rig *rig, unsigned region, uint64_t offset, const void *data,
		    size_t length)
{
	return vd_device_write(rig->adder.device, region, (vd_region_offset){offset}, data, length);
}

static void test_registers(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_write(&rig, 0, 0x12345678), 0);
	assert_int_equal(rig_read(&rig, 0), 0x12345678);
	assert_int_equal(rig.adder.last_length, 4);
	assert_int_equal(rig_stats(&rig).trapped_reads[VD_REGION_BAR0], 1);
	assert_int_equal(rig_stats(&rig).trapped_writes[VD_REGION_BAR0], 1);
	assert_int_equal(rig_stats(&rig).trapped_reads[VD_REGION_BAR1], 0);
	rig_close(&rig);
}

/* A8: nothing outside the device's own regions; the device never hears of it. */
static void test_bounds(void **state)
{
	static const struct {
		unsigned region;
		uint64_t offset;
		size_t length;
		int result;
	} bad[] = {
		{VD_REGION_BAR3, 0, 4, -EINVAL},
		{VD_REGION_COUNT, 0, 4, -EINVAL},
		{UINT32_MAX, 0, 4, -EINVAL},
		{VD_REGION_BAR0, 32, 1, -ERANGE},
		{VD_REGION_BAR0, 31, 2, -ERANGE},
		{VD_REGION_BAR0, 0, 33, -ERANGE},
		{VD_REGION_BAR0, UINT64_MAX, 1, -ERANGE},
		{VD_REGION_BAR0, UINT64_MAX, 2, -ERANGE},
		{VD_REGION_BAR0, 4, SIZE_MAX, -ERANGE},
		{VD_REGION_BAR1, ADDER_BAR1 - 4, 8, -ERANGE},
	};
	unsigned char bytes[64];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(bytes, 0, sizeof(bytes));
		/* on error a read gives all ones: no more than the buffer is known to have */
		if (bad[i].length <= sizeof(bytes)) {
			assert_int_equal(read_at(&rig, bad[i].region, bad[i].offset, bytes,
						 bad[i].length), bad[i].result);
			for (size_t k = 0; k < sizeof(bytes); k++)
				assert_int_equal(bytes[k], k < bad[i].length ? 0xff : 0);
		}
		assert_int_equal(write_at(&rig, bad[i].region, bad[i].offset, bytes, bad[i].length),
				 bad[i].result);
	}
	assert_int_equal(write_at(&rig, VD_REGION_ROM, 0, bytes, 4), -EACCES);
	assert_int_equal(rig.adder.reads + rig.adder.writes, 0);
	rig_close(&rig);
}

static void test_error_reads_all_ones(void **state)
{
	uint32_t words[2] = {0, 0};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(read_at(&rig, VD_REGION_BAR0, 28, words, 4), -EIO);
	assert_int_equal(words[0], 0xffffffff);
	assert_int_equal(words[1], 0);
	/* also where only the last piece fails */
	assert_int_equal(read_at(&rig, VD_REGION_BAR0, 20, words, 12 - 4), 0);
	assert_int_equal(read_at(&rig, VD_REGION_BAR0, 24, words, 8), 0); /* one piece of 8 at 24 */
	rig_close(&rig);
}

/* The device sees naturally aligned pieces of a power of two, whatever it is asked for. */
static void test_pieces(void **state)
{
	unsigned char bytes[15];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(read_at(&rig, VD_REGION_BAR1, PAGE + 1, bytes, 15), 0);
	assert_int_equal(rig.adder.reads, 4); /* 1, 2, 4, 8 */
	assert_int_equal(rig.adder.last_offset, PAGE + 8);
	assert_int_equal(rig.adder.last_length, 8);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(bytes[i], i + 1);
	assert_int_equal(read_at(&rig, VD_REGION_BAR1, PAGE + 2, bytes, 4), 0);
	assert_int_equal(rig.adder.reads, 6); /* 2, 2 */
	assert_int_equal(rig_stats(&rig).trapped_reads[VD_REGION_BAR1], 2);
	rig_close(&rig);
}

/* E7: slow and fast path show the same bytes, both ways, and the slow one is counted. */
static void test_memory_is_memory(void **state)
{
	uint32_t word = 0xcafe;
	unsigned char *mapped;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	mapped = vd_device_memory(rig.adder.device, VD_REGION_BAR2, PAGE + 4, 4);
	assert_non_null(mapped);
	assert_int_equal(write_at(&rig, VD_REGION_BAR2, PAGE + 4, &word, 4), 0);
	assert_memory_equal(mapped, &word, 4);
	mapped[1] = 0x11;
	assert_int_equal(read_at(&rig, VD_REGION_BAR2, PAGE + 4, &word, 4), 0);
	assert_int_equal(word, 0x11fe);
	assert_int_equal(rig.adder.reads + rig.adder.writes, 0);
	assert_int_equal(rig_stats(&rig).trapped_reads[VD_REGION_BAR2], 1);
	assert_int_equal(rig_stats(&rig).trapped_writes[VD_REGION_BAR2], 1);
	rig_close(&rig);
}

/* An access across the border of a mappable area is split there. */
static void test_across_areas(void **state)
{
	unsigned char bytes[8], *first, *third;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	first = vd_device_memory(rig.adder.device, VD_REGION_BAR1, 0, PAGE);
	third = vd_device_memory(rig.adder.device, VD_REGION_BAR1, 2 * PAGE, PAGE);
	first[PAGE - 2] = 0xa1;
	first[PAGE - 1] = 0xa2;
	third[0] = 0xb1;
	assert_int_equal(read_at(&rig, VD_REGION_BAR1, PAGE - 2, bytes, 8), 0);
	assert_memory_equal(bytes, "\xa1\xa2\x00\x01\x02\x03\x04\x05", 8);
	assert_int_equal(read_at(&rig, VD_REGION_BAR1, 2 * PAGE - 3, bytes, 4), 0);
	assert_memory_equal(bytes, "\xfd\xfe\xff\xb1", 4);
	memset(bytes, 0x77, 8);
	assert_int_equal(write_at(&rig, VD_REGION_BAR1, 3 * PAGE - 4, bytes, 8), 0);
	assert_int_equal(third[PAGE - 4], 0x77);
	assert_int_equal(rig.adder.last_offset, 3 * PAGE);
	assert_int_equal(rig.adder.last_length, 4);
	rig_close(&rig);
}

static void test_dma(void **state)
{
	uint32_t words[4] = {1, 2, 3, 0x100};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	add_ram(&rig.f, 0x10000, 0, 4 * PAGE);
	assert_int_equal(vd_mem_write(rig.f.mem, (vd_gpa){0x10ff8}, words, sizeof(words)), 0);
	assert_int_equal(rig_write(&rig, 1, 0x10ff8), 0);
	assert_int_equal(rig_write(&rig, 2, 4), 0);
	assert_int_equal(rig_write(&rig, 3, 1), 0);
	assert_int_equal(rig_read(&rig, 0), 0x106);
	assert_int_equal(rig_write(&rig, 1, 0x14000 - 4), 0);
	assert_int_equal(rig_write(&rig, 3, 1), -EFAULT);
	rig_close(&rig);
}

/* A reset that the device asks for happens once the access is over, and goes through the core. */
static void test_reset_from_within(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_write(&rig, 0, 5), 0);
	assert_int_equal(rig_write(&rig, 7, 1), 0);
	assert_int_equal(rig.adder.resets, 1);
	assert_int_equal(rig_stats(&rig).resets, 1);
	assert_int_equal(rig_read(&rig, 0), 0);
	assert_int_equal(rig.adder.resets, 1);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_error_reads_all_ones),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_memory_is_memory),
		cmocka_unit_test(test_across_areas),
		cmocka_unit_test(test_dma),
		cmocka_unit_test(test_reset_from_within),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
