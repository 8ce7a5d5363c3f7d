/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "pci/config.h"

struct bench {
	struct rig rig;
	struct toy toy;
	struct vd_pci_config space;
};

/* No bridge and no device core: only what config.c needs. */
static void bench_open(struct bench *b)
{
	struct vd_host_config host = {.env = &b->rig.test.env};
	struct vd_pci_function_config config;

	memset(b, 0, sizeof(*b));
	test_env_init(&b->rig.test);
	assert_int_equal(vd_host_create(&host, &b->rig.host, NULL), 0);
	config = toy_config(&b->rig, &b->toy);
	vd_pci_config_init(&b->space, &config);
}

static void bench_close(struct bench *b)
{
	vd_host_destroy(b->rig.host);
}

static uint64_t get(const struct bench *b, uint64_t offset, unsigned length)
{
	uint8_t bytes[8] = {0};
	uint64_t value = 0;

	vd_pci_config_read(&b->space, offset, bytes, length);
	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)bytes[i] << i * 8;
	return value;
}

static unsigned put(struct bench *b, uint64_t offset, unsigned length, uint64_t value)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> i * 8);
	return vd_pci_config_write(&b->space, offset, bytes, length);
}

static void test_header_says_who_it_is(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_int_equal(get(&b, PCI_VENDOR_ID, 4), 0x42421af4);
	assert_int_equal(get(&b, PCI_CLASS_REVISION, 4), 0xff000103);
	assert_int_equal(get(&b, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(get(&b, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
	assert_int_equal(get(&b, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(get(&b, PCI_COMMAND, 2), 0);
	assert_int_equal(get(&b, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	bench_close(&b);
}

static void test_bars_are_sized_by_writing_ones(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	for (unsigned i = 0; i < VD_PCI_BARS; i++)
		put(&b, PCI_BASE_ADDRESS_0 + 4 * i, 4, 0xffffffff);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_0, 4), 0xffff0000);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_1, 4), 0xffffff00);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_2, 4), 0xffe0000c);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_3, 4), 0xffffffff);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_4, 4), 0xfffff000);
	assert_int_equal(get(&b, PCI_BASE_ADDRESS_5, 4), 0);
	bench_close(&b);
}

static void test_capabilities_are_a_list(void **state)
{
	static const unsigned ids[] = {PCI_CAP_ID_PM, PCI_CAP_ID_MSIX, PCI_CAP_ID_EXP};
	struct bench b;
	uint64_t at;

	(void)state;
	bench_open(&b);
	at = get(&b, PCI_CAPABILITY_LIST, 1);
	assert_int_equal(at, TOY_POWER);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(at % 4, 0);
		assert_int_equal(get(&b, at + PCI_CAP_LIST_ID, 1), ids[i]);
		at = get(&b, at + PCI_CAP_LIST_NEXT, 1);
	}
	assert_int_equal(at, 0);
	assert_int_equal(b.space.express, TOY_EXPRESS);
	assert_int_equal(b.space.msix, TOY_MSIX_CAPABILITY);
	assert_int_equal(get(&b, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2), TOY_VECTORS - 1);
	assert_int_equal(get(&b, TOY_MSIX_CAPABILITY + PCI_MSIX_TABLE, 4), TOY_MSIX);
	assert_int_equal(get(&b, TOY_MSIX_CAPABILITY + PCI_MSIX_PBA, 4), TOY_MSIX + PAGE);
	assert_true(get(&b, TOY_EXPRESS + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	bench_close(&b);
}

/* Every size at every offset, against the masks applied one byte at a time. */
static void test_every_size_at_every_offset(void **state)
{
	static const unsigned sizes[] = {1, 2, 4, 8};
	struct bench b;

	(void)state;
	test_start(0x5eed0002);
	bench_open(&b);
	for (unsigned s = 0; s < 4; s++) {
		for (unsigned offset = 0; offset < 300; offset++) {
			uint64_t value = test_random(test_state()), wanted = 0;

			/* Reset and unreal power states have tests of their own. */
			if (vd_pci_touches(offset, sizes[s], TOY_EXPRESS + PCI_EXP_DEVCTL, 2) ||
			    vd_pci_touches(offset, sizes[s], TOY_POWER + PCI_PM_CTRL, 2))
				continue;
			for (unsigned i = 0; i < sizes[s]; i++) {
				unsigned at = offset + i;
				uint8_t mask = at < 256 ? b.space.writable[at] : 0;
				uint8_t old = at < 256 ? b.space.bytes[at] : 0;
				uint8_t byte = (uint8_t)(value >> i * 8);

				wanted |= (uint64_t)((old & ~mask) | (byte & mask)) << i * 8;
			}
			put(&b, offset, sizes[s], value);
			assert_int_equal(get(&b, offset, sizes[s]), wanted);
		}
	}
	bench_close(&b);
}

static void test_nothing_is_beyond_the_first_256_bytes(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	for (unsigned offset = 256; offset < 4096; offset += 8) {
		put(&b, offset, 8, UINT64_MAX);
		assert_int_equal(get(&b, offset, 8), 0);
	}
	put(&b, UINT64_MAX, 1, 1);
	assert_int_equal(get(&b, UINT64_MAX, 1), 0);
	bench_close(&b);
}

static void test_bus_master_changes_are_reported(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_int_equal(put(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY), 0);
	assert_int_equal(put(&b, PCI_COMMAND, 2, 6), VD_PCI_EVENT_BUS_MASTER);
	assert_int_equal(put(&b, PCI_COMMAND, 1, 6), 0);
	assert_int_equal(put(&b, PCI_VENDOR_ID, 8, UINT64_C(2) << 32), VD_PCI_EVENT_BUS_MASTER);
	assert_false(vd_pci_config_bus_master(&b.space));
	assert_int_equal(put(&b, PCI_COMMAND + 1, 1, 4), VD_PCI_EVENT_INTX);
	assert_int_equal(put(&b, PCI_COMMAND, 2, 0x404), VD_PCI_EVENT_BUS_MASTER);
	assert_true(vd_pci_config_intx_disabled(&b.space));
	assert_int_equal(put(&b, PCI_COMMAND, 4, 0), VD_PCI_EVENT_BUS_MASTER | VD_PCI_EVENT_INTX);
	bench_close(&b);
}

static void test_reset_bit_is_seen_at_any_size(void **state)
{
	const unsigned at = TOY_EXPRESS + PCI_EXP_DEVCTL;
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_int_equal(put(&b, at, 2, PCI_EXP_DEVCTL_BCR_FLR), VD_PCI_EVENT_RESET);
	assert_int_equal(put(&b, at + 1, 1, 0x80), VD_PCI_EVENT_RESET);
	assert_int_equal(put(&b, at - 4, 8, UINT64_C(0x8000) << 32), VD_PCI_EVENT_RESET);
	assert_int_equal(put(&b, at, 1, 0x80), 0);
	assert_int_equal(put(&b, at, 2, 0x7fff), 0);
	assert_int_equal(get(&b, at, 2) & PCI_EXP_DEVCTL_BCR_FLR, 0);
	bench_close(&b);
}

static void test_there_is_d0_and_d3(void **state)
{
	const unsigned at = TOY_POWER + PCI_PM_CTRL;
	struct bench b;

	(void)state;
	bench_open(&b);
	put(&b, at, 2, 3);
	assert_int_equal(get(&b, at, 1) & 3, 3);
	put(&b, at, 2, 1);
	assert_int_equal(get(&b, at, 1) & 3, 3);
	put(&b, at, 2, 0);
	put(&b, at, 1, 2);
	assert_int_equal(get(&b, at, 1), PCI_PM_CTRL_NO_SOFT_RESET);
	bench_close(&b);
}

static void test_loading_takes_what_could_be_written(void **state)
{
	uint8_t saved[PCI_CFG_SPACE_SIZE];
	struct bench b;

	(void)state;
	bench_open(&b);
	memset(saved, 0xff, sizeof(saved));
	assert_int_equal(vd_pci_config_load(&b.space, saved),
			 VD_PCI_EVENT_BUS_MASTER | VD_PCI_EVENT_INTX);
	assert_true(vd_pci_config_intx_disabled(&b.space));
	for (unsigned i = 0; i < sizeof(saved); i++)
		assert_int_equal(b.space.bytes[i], b.space.initial[i] | b.space.writable[i]);
	vd_pci_config_reset(&b.space);
	assert_memory_equal(b.space.bytes, b.space.initial, sizeof(saved));
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_says_who_it_is),
		cmocka_unit_test(test_bars_are_sized_by_writing_ones),
		cmocka_unit_test(test_capabilities_are_a_list),
		cmocka_unit_test_teardown(test_every_size_at_every_offset, test_seed_print),
		cmocka_unit_test(test_nothing_is_beyond_the_first_256_bytes),
		cmocka_unit_test(test_bus_master_changes_are_reported),
		cmocka_unit_test(test_reset_bit_is_seen_at_any_size),
		cmocka_unit_test(test_there_is_d0_and_d3),
		cmocka_unit_test(test_loading_takes_what_could_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
