/* SPDX-License-Identifier: BSD-2-Clause */
/* Split virtqueues: what a driver does, and what no driver would do. */
#include "virtio_toy.h"

#define NEXT 1
#define WRITABLE 2
#define INDIRECT 4

static void test_chain(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;
	uint8_t bytes[300];
	uint32_t id, length;

	(void)state;
	vrig_start(rig, 0, 2, 8);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	/* over a page's end, in two segments, an empty one between, and one to be written */
	vrig_put(rig, VRIG_DATA + PAGE - 100, bytes, 200);
	vrig_put(rig, VRIG_DATA + 5 * PAGE, bytes + 200, 100);
	vrig_desc(rig, 0, 7, VRIG_DATA + PAGE - 100, 200, NEXT, 2);
	vrig_desc(rig, 0, 2, UINT64_MAX, 0, NEXT, 3);
	vrig_desc(rig, 0, 3, VRIG_DATA + 5 * PAGE, 100, NEXT, 0);
	vrig_desc(rig, 0, 0, VRIG_DATA + 9 * PAGE, UINT32_MAX, WRITABLE, 200);
	vrig_offer(rig, 0, 7);
	vrig_ring(rig, 0);
	assert_int_equal(t->toy.segments, 4);
	assert_int_equal(t->toy.sum, 255 * 128 + 43 * 44 / 2);
	assert_true(vrig_used(rig, 0, &id, &length));
	assert_int_equal(id, 7);
	assert_int_equal(length, 300);
	assert_false(vrig_used(rig, 0, &id, &length));
	assert_int_equal(rig->interrupts[1], 1);
	/* 2.7.7: a driver that wants no interrupts gets none */
	vrig_put16(rig, rig->queues[0].avail, 1);
	vrig_offer(rig, 0, 7);
	vrig_ring(rig, 0);
	assert_true(vrig_used(rig, 0, &id, &length));
	assert_int_equal(rig->interrupts[1], 1);
	toy_close(t);
}

/* Indices count on past the ring's size and past 16 bits. */
static void test_indices_wrap(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;
	uint32_t id, length;

	(void)state;
	vrig_start(rig, 0, 1, 4);
	for (uint32_t i = 0; i < 16; i++)
		vrig_desc(rig, 0, (uint16_t)(i % 4), VRIG_DATA, 1, 0, 0);
	for (uint32_t i = 0; i < 70000; i += 2) {
		vrig_offer(rig, 0, (uint16_t)(i % 4));
		vrig_offer(rig, 0, (uint16_t)((i + 1) % 4));
		vrig_ring(rig, 0);
		for (uint32_t k = 0; k < 2; k++) {
			assert_true(vrig_used(rig, 0, &id, &length));
			assert_int_equal(id, (i + k) % 4);
		}
	}
	assert_int_equal(t->toy.chains, 70000);
	toy_close(t);
}

/* ---- hostile rings -------------------------------------------------------------------------- */

/* What was set up and offered breaks the device: it says so once, and does nothing until reset. */
static void check_breaks(struct toy_rig *t)
{
	struct vrig *rig = &t->rig;
	unsigned chains = t->toy.chains, told = rig->interrupts[0];
	uint32_t id, length;

	assert_false(vrig_is_broken(rig));
	vrig_ring(rig, 0);
	assert_true(vrig_is_broken(rig));
	assert_int_equal(rig->interrupts[0], told + 1);
	vrig_ring(rig, 0);
	assert_int_equal(rig->interrupts[0], told + 1);
	assert_int_equal(t->toy.chains, chains);
	assert_false(vrig_used(rig, 0, &id, &length));
	vrig_start(rig, 0, 1, 8);
	vrig_send(rig, 0, VRIG_DATA, 4, false);
	assert_true(vrig_used(rig, 0, &id, &length));
	vrig_start(rig, 0, 1, 8);
}

static void test_hostile_chains(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	vrig_start(rig, 0, 1, 8);
	/* a head, and a next, outside the table */
	vrig_offer(rig, 0, 8);
	check_breaks(t);
	vrig_offer(rig, 0, 0xffff);
	check_breaks(t);
	vrig_desc(rig, 0, 0, VRIG_DATA, 4, NEXT, 8);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	/* loops */
	vrig_desc(rig, 0, 0, VRIG_DATA, 4, NEXT, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	for (uint16_t i = 0; i < 8; i++)
		vrig_desc(rig, 0, i, VRIG_DATA, UINT32_MAX, NEXT, (i + 1) % 8);
	vrig_offer(rig, 0, 3);
	check_breaks(t);
	/* a segment that wraps, with the device to write it or not */
	vrig_desc(rig, 0, 0, UINT64_MAX - 2, 4, 0, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	vrig_desc(rig, 0, 0, UINT64_MAX - 2, 4, WRITABLE, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	/* 2.7.4.2, 2.7.5.3.1 */
	vrig_desc(rig, 0, 0, VRIG_DATA, 4, WRITABLE | NEXT, 1);
	vrig_desc(rig, 0, 1, VRIG_DATA, 4, 0, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	vrig_desc(rig, 0, 0, VRIG_DATA, 64, INDIRECT, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	/* memory that is not there */
	vrig_desc(rig, 0, 0, VRIG_RAM + VRIG_RAM_SIZE - 2, 4, 0, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	vrig_desc(rig, 0, 0, 0, 4, 0, 0);
	vrig_offer(rig, 0, 0);
	check_breaks(t);
	toy_close(t);
}

static void test_hostile_indices(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	vrig_start(rig, 0, 1, 8);
	vrig_put16(rig, rig->queues[0].avail + 2, 9);
	check_breaks(t);
	vrig_put16(rig, rig->queues[0].avail + 2, 0xffff);
	check_breaks(t);
	/* a full ring is none: the same chain eight times over */
	vrig_desc(rig, 0, 0, VRIG_DATA, 4, 0, 0);
	for (unsigned i = 0; i < 8; i++)
		vrig_offer(rig, 0, 0);
	t->toy.chains = 0;
	vrig_ring(rig, 0);
	assert_int_equal(t->toy.chains, 8);
	toy_close(t);
}

/* Rings where there is no memory, or none that may be written. */
static void test_rings_elsewhere(void **state)
{
	static const uint64_t fields[] = {VRIG_AT(queue_desc_lo), VRIG_AT(queue_avail_lo),
					  VRIG_AT(queue_used_lo)};
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		vrig_bus_master(rig, true);
		vrig_negotiate(rig, UINT64_C(1) << VIRTIO_F_VERSION_1);
		vrig_set(rig, msix_config, 0);
		vrig_queue(rig, 0, 8);
		vrig_set(rig, device_status, 0);
		vrig_negotiate(rig, UINT64_C(1) << VIRTIO_F_VERSION_1);
		rig->queues[0] = (struct vrig_queue){.size = 8, .desc = VRIG_RAM + 0x4000,
						     .avail = VRIG_RAM + 0x5000,
						     .used = VRIG_RAM + 0x6000};
		vrig_write(rig, VRIG_AT(queue_desc_lo), 8, rig->queues[0].desc);
		vrig_write(rig, VRIG_AT(queue_avail_lo), 8, rig->queues[0].avail);
		vrig_write(rig, VRIG_AT(queue_used_lo), 8, rig->queues[0].used);
		vrig_write(rig, fields[i], 8, VRIG_RAM + VRIG_RAM_SIZE);
		vrig_set(rig, queue_enable, 1);
		vrig_desc(rig, 0, 0, VRIG_DATA, 4, 0, 0);
		vrig_offer(rig, 0, 0);
		vrig_set(rig, device_status, 15);
		assert_true(vrig_is_broken(rig));
	}
	toy_close(t);
}

/* ---- against a model ------------------------------------------------------------------------ */

#define ENTRIES 16u

/* A random chain of free descriptors. Return: its readable bytes; their sum in *@sum. */
static uint64_t make_chain(struct vrig *rig, uint16_t *order, unsigned count, unsigned readable,
			   uint64_t *sum)
{
	uint64_t *random = test_state(), bytes = 0;

	*sum = 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = VRIG_DATA + test_random(random) % (4 * PAGE);
		uint32_t length = (uint32_t)(test_random(random) % 200);
		uint16_t flags = (uint16_t)((i >= readable ? WRITABLE : 0) |
					    (i + 1 < count ? NEXT : 0));
		uint8_t data[200];

		vrig_desc(rig, 0, order[i], at, length, flags,
			  i + 1 < count ? order[i + 1] : (uint16_t)test_random(random));
		if (i >= readable)
			continue;
		vrig_take(rig, at, data, length);
		for (unsigned k = 0; k < length; k++)
			*sum += data[k];
		bytes += length;
	}
	return bytes;
}

static void test_random_chains(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;
	uint64_t *random = test_state();
	uint16_t order[ENTRIES];
	uint8_t page[4096];

	(void)state;
	test_start(17);
	vrig_start(rig, 0, 1, ENTRIES);
	for (unsigned p = 0; p < 5; p++) {
		for (unsigned i = 0; i < sizeof(page); i++)
			page[i] = (uint8_t)test_random(random);
		vrig_put(rig, VRIG_DATA + p * PAGE, page, sizeof(page));
	}
	for (unsigned round = 0; round < 5000; round++) {
		unsigned count = 1 + (unsigned)(test_random(random) % ENTRIES);
		unsigned readable = (unsigned)(test_random(random) % (count + 1));
		uint32_t id, length;
		uint64_t bytes, sum;

		for (unsigned i = 0; i < ENTRIES; i++) {
			unsigned other = (unsigned)(test_random(random) % (i + 1));

			order[i] = order[other];
			order[other] = (uint16_t)i;
		}
		bytes = make_chain(rig, order, count, readable, &sum);
		vrig_offer(rig, 0, order[0]);
		vrig_ring(rig, 0);
		assert_true(vrig_used(rig, 0, &id, &length));
		assert_int_equal(id, order[0]);
		assert_int_equal(length, bytes);
		assert_int_equal(t->toy.segments, count);
		assert_int_equal(t->toy.sum, sum);
	}
	toy_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_indices_wrap),
		cmocka_unit_test(test_hostile_chains),
		cmocka_unit_test(test_hostile_indices),
		cmocka_unit_test(test_rings_elsewhere),
		cmocka_unit_test_teardown(test_random_chains, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
