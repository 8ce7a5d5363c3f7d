/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "pci/msix.h"

#define VECTORS 70u
#define TABLE 0x1000u
#define PBA 0x2000u
#define ENABLE 0x80u
#define MASK 0x40u

struct bench {
	struct test_env test;
	struct vd_pci_msix msix;
	_Atomic uint64_t messages, dropped;
	unsigned sent[VECTORS];
	uint64_t last_address;
};

static void deliver(void *context, uint64_t address, uint32_t data)
{
	struct bench *b = context;

	assert_true(data < VECTORS);
	b->sent[data]++;
	b->last_address = address;
}

static void bench_open(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	test_env_init(&b->test);
	b->msix = (struct vd_pci_msix){
		.msi = deliver, .context = b, .messages = &b->messages, .dropped = &b->dropped,
		.count = VECTORS, .table_bar = 0, .table = TABLE, .pba_bar = 2, .pba = PBA,
	};
	assert_int_equal(vd_pci_msix_init(&b->msix, &b->test.env), 0);
}

static void bench_close(struct bench *b)
{
	vd_pci_msix_fini(&b->msix);
	assert_int_equal(b->test.blocks, 0);
}

static void set_entry(struct bench *b, unsigned vector, uint64_t address, bool masked)
{
	uint64_t at = TABLE + 16 * vector;

	vd_pci_msix_write(&b->msix, 0, at, 8, address);
	vd_pci_msix_write(&b->msix, 0, at + 8, 4, vector);
	vd_pci_msix_write(&b->msix, 0, at + 12, 4, masked);
}

static void raise_vector(struct bench *b, unsigned vector)
{
	vd_pci_msix_sink(&b->msix, VD_IRQ_MSIX, vector, true);
}

static bool is_pending(struct bench *b, unsigned vector)
{
	return vd_pci_msix_read(&b->msix, 2, PBA + vector / 64 * 8, 8) >> vector % 64 & 1;
}

/* Everything on, one vector set up. */
static void bench_on(struct bench *b, unsigned vector)
{
	bench_open(b);
	vd_pci_msix_bus_master(&b->msix, true);
	vd_pci_msix_control(&b->msix, ENABLE);
	set_entry(b, vector, UINT64_C(0x128000000), false);
}

static void test_a_message_is_address_and_data(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 69);
	raise_vector(&b, 69);
	assert_int_equal(b.sent[69], 1);
	assert_int_equal(b.last_address, UINT64_C(0x128000000));
	assert_false(is_pending(&b, 69));
	assert_int_equal(b.messages, 1);
	bench_close(&b);
}

static void test_a_masked_vector_waits(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 3);
	set_entry(&b, 3, 0x1000, true);
	raise_vector(&b, 3);
	raise_vector(&b, 3);
	assert_true(is_pending(&b, 3));
	assert_int_equal(b.sent[3], 0);
	set_entry(&b, 3, 0x1000, false);
	assert_int_equal(b.sent[3], 1);
	assert_false(is_pending(&b, 3));
	set_entry(&b, 3, 0x1000, true);
	set_entry(&b, 3, 0x1000, false);
	assert_int_equal(b.sent[3], 1);
	bench_close(&b);
}

static void test_a_masked_function_waits(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 64);
	set_entry(&b, 5, 0x1000, true);
	vd_pci_msix_control(&b.msix, ENABLE | MASK);
	assert_int_equal(vd_pci_msix_control_bits(&b.msix), ENABLE | MASK);
	raise_vector(&b, 64);
	raise_vector(&b, 5);
	assert_true(is_pending(&b, 64));
	set_entry(&b, 64, 0x1000, false);
	assert_int_equal(b.sent[64], 0);
	vd_pci_msix_control(&b.msix, ENABLE);
	assert_int_equal(b.sent[64], 1);
	assert_int_equal(b.sent[5], 0);
	assert_true(is_pending(&b, 5));
	bench_close(&b);
}

static void test_without_bus_mastering_messages_wait(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 1);
	vd_pci_msix_bus_master(&b.msix, false);
	raise_vector(&b, 1);
	assert_int_equal(b.sent[1], 0);
	assert_true(is_pending(&b, 1));
	vd_pci_msix_bus_master(&b.msix, true);
	assert_int_equal(b.sent[1], 1);
	bench_close(&b);
}

static void test_switched_off_means_lost(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 1);
	set_entry(&b, 1, 0x1000, true);
	raise_vector(&b, 1);
	vd_pci_msix_control(&b.msix, 0);
	assert_false(is_pending(&b, 1));
	raise_vector(&b, 1);
	assert_int_equal(b.dropped, 1);
	vd_pci_msix_control(&b.msix, ENABLE);
	set_entry(&b, 1, 0x1000, false);
	assert_int_equal(b.sent[1], 0);
	bench_close(&b);
}

static void test_power_on_masks_everything(void **state)
{
	struct bench b;

	(void)state;
	bench_on(&b, 1);
	set_entry(&b, 1, 0x1000, true);
	raise_vector(&b, 1);
	vd_pci_msix_reset(&b.msix);
	assert_int_equal(vd_pci_msix_control_bits(&b.msix), 0);
	for (unsigned i = 0; i < VECTORS; i++) {
		assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + 16 * i, 8), 0);
		assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + 16 * i + 8, 8),
				 UINT64_C(1) << 32);
		assert_false(is_pending(&b, i));
	}
	bench_close(&b);
}

static void test_reserved_bits_and_pending_bits_cannot_be_written(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	for (unsigned i = 0; i < VECTORS * 16; i += 8)
		vd_pci_msix_write(&b.msix, 0, TABLE + i, 8, UINT64_MAX);
	for (unsigned i = 0; i < 16; i += 8)
		vd_pci_msix_write(&b.msix, 2, PBA + i, 8, UINT64_MAX);
	for (unsigned i = 0; i < VECTORS; i++) {
		assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + 16 * i, 4), 0xfffffffc);
		assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + 16 * i + 12, 4), 1);
		assert_false(is_pending(&b, i));
	}
	bench_close(&b);
}

static void test_covers_what_it_covers(void **state)
{
	struct vd_pci_msix none = {0};
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_false(vd_pci_msix_covers(&none, 0, 0, 8));
	assert_true(vd_pci_msix_covers(&b.msix, 0, TABLE, 1));
	assert_true(vd_pci_msix_covers(&b.msix, 0, TABLE - 4, 8));
	assert_false(vd_pci_msix_covers(&b.msix, 0, TABLE - 8, 8));
	assert_true(vd_pci_msix_covers(&b.msix, 0, TABLE + 16 * VECTORS - 1, 1));
	assert_false(vd_pci_msix_covers(&b.msix, 0, TABLE + 16 * VECTORS, 8));
	assert_false(vd_pci_msix_covers(&b.msix, 1, TABLE, 8));
	assert_true(vd_pci_msix_covers(&b.msix, 2, PBA + 15, 1));
	assert_false(vd_pci_msix_covers(&b.msix, 2, PBA + 16, 1));
	/* Vectors that do not exist, and edges. */
	vd_pci_msix_control(&b.msix, ENABLE);
	raise_vector(&b, VECTORS);
	raise_vector(&b, UINT32_MAX);
	vd_pci_msix_write(&b.msix, 0, TABLE - 4, 8, UINT64_MAX);
	vd_pci_msix_write(&b.msix, 0, TABLE + 16 * VECTORS - 4, 8, 0);
	assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE, 4), 0xfffffffc);
	assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + 16 * VECTORS - 4, 8), 0);
	bench_close(&b);
}

/* Writes of every size against a table of bytes. */
static void test_random_writes_follow_a_model(void **state)
{
	static uint8_t model[VECTORS * 16];
	struct bench b;

	(void)state;
	test_start(0x5eed0003);
	bench_open(&b);
	for (unsigned i = 0; i < VECTORS * 16; i++)
		model[i] = i % 16 == 12;
	for (unsigned round = 0; round < 50000; round++) {
		unsigned length = 1u << below(4);
		unsigned at = below(VECTORS * 16 / length) * length;
		uint64_t value = test_random(test_state()), wanted = 0;

		vd_pci_msix_write(&b.msix, 0, TABLE + at, length, value);
		for (unsigned i = 0; i < length; i++) {
			uint8_t mask = (at + i) % 16 == 0 ? 0xfc : (at + i) % 16 < 12 ? 0xff :
				       (at + i) % 16 == 12 ? 1 : 0;

			model[at + i] = (uint8_t)(value >> i * 8) & mask;
		}
		length = 1u << below(4);
		at = below(VECTORS * 16 / length) * length;
		for (unsigned i = 0; i < length; i++)
			wanted |= (uint64_t)model[at + i] << i * 8;
		assert_int_equal(vd_pci_msix_read(&b.msix, 0, TABLE + at, length), wanted);
	}
	bench_close(&b);
}

/*
 * What was raised is sent or pending, whatever is masked in between: nothing is lost, nothing
 * doubled.
 */
static void test_nothing_is_lost_while_enabled(void **state)
{
	unsigned owed[VECTORS] = {0}, before[VECTORS];
	struct bench b;

	(void)state;
	test_start(0x5eed0004);
	bench_open(&b);
	vd_pci_msix_control(&b.msix, ENABLE);
	for (unsigned i = 0; i < VECTORS; i++)
		set_entry(&b, i, 0x1000, i % 2);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned vector = below(VECTORS), what = below(8);

		memcpy(before, b.sent, sizeof(before));
		if (what < 4) {
			raise_vector(&b, vector);
			owed[vector] = 1;
		} else if (what < 6) {
			set_entry(&b, vector, 0x1000, what & 1);
		} else if (what == 6) {
			vd_pci_msix_control(&b.msix, below(2) ? ENABLE : ENABLE | MASK);
		} else {
			vd_pci_msix_bus_master(&b.msix, below(2));
		}
		for (unsigned i = 0; i < VECTORS; i++) {
			assert_true(b.sent[i] - before[i] <= owed[i]);
			owed[i] -= b.sent[i] - before[i];
			assert_int_equal(is_pending(&b, i), owed[i]);
		}
	}
	vd_pci_msix_bus_master(&b.msix, true);
	vd_pci_msix_control(&b.msix, ENABLE);
	for (unsigned i = 0; i < VECTORS; i++)
		set_entry(&b, i, 0x1000, false);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_false(is_pending(&b, i));
	bench_close(&b);
}

static void test_memory_may_be_short(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	vd_pci_msix_fini(&b.msix);
	for (long step = 1; step <= 2; step++) {
		test_env_fail(&b.test, step, -ENOMEM);
		assert_int_equal(vd_pci_msix_init(&b.msix, &b.test.env), -ENOMEM);
		assert_true(test_env_failed(&b.test));
		assert_int_equal(b.test.blocks, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message_is_address_and_data),
		cmocka_unit_test(test_a_masked_vector_waits),
		cmocka_unit_test(test_a_masked_function_waits),
		cmocka_unit_test(test_without_bus_mastering_messages_wait),
		cmocka_unit_test(test_switched_off_means_lost),
		cmocka_unit_test(test_power_on_masks_everything),
		cmocka_unit_test(test_reserved_bits_and_pending_bits_cannot_be_written),
		cmocka_unit_test(test_covers_what_it_covers),
		cmocka_unit_test_teardown(test_random_writes_follow_a_model, test_seed_print),
		cmocka_unit_test_teardown(test_nothing_is_lost_while_enabled, test_seed_print),
		cmocka_unit_test(test_memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
