/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "pci/host.h"

/* Only what place.c looks at: a bridge with windows, and seats that are filled in by hand. */
struct bench {
	struct rig rig;
	struct toy toy;
	struct vd_pci_host host;
	struct vd_pci_seat seats[4];
};

static void bench_open(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	rig_open(&b->rig, true);
	toy_create(&b->rig, &b->toy);
	b->host.env = &b->rig.test.env;
	b->host.page = PAGE;
	b->host.windows[0] = (struct vd_region_area){LOW, LOW_SIZE};
	b->host.windows[1] = (struct vd_region_area){HIGH, HIGH_SIZE};
	for (unsigned i = 0; i < 4; i++)
		b->seats[i].device = b->toy.device;
}

static void bench_close(struct bench *b)
{
	vd_device_put(b->toy.device);
	rig_close(&b->rig);
}

static void set_bar(struct vd_pci_seat *seat, unsigned bar, uint64_t size, bool is_64,
		    bool prefetch)
{
	seat->bars[bar].size = size;
	seat->bars[bar].is_64 = is_64;
	seat->bars[bar].prefetch = prefetch;
}

static void test_windows_are_chosen_by_kind(void **state)
{
	struct vd_pci_seat *seat;
	struct bench b;

	(void)state;
	bench_open(&b);
	seat = &b.seats[0];
	set_bar(seat, 0, 0x1000, false, false);
	set_bar(seat, 1, 0x1000, false, true);
	set_bar(seat, 2, 0x1000, true, true);
	set_bar(seat, 4, 0x1000, true, false);
	assert_int_equal(vd_pci_place(&b.host, seat, NULL), 0);
	assert_int_equal(seat->bars[0].home, LOW);
	assert_int_equal(seat->bars[1].home, LOW + 0x1000);
	assert_int_equal(seat->bars[2].home, HIGH);
	assert_int_equal(seat->bars[4].home, LOW + 0x2000);
	/* Where the low window is full, what can go high does. */
	seat = &b.seats[1];
	set_bar(seat, 0, LOW_SIZE, true, false);
	b.host.seats[0] = &b.seats[0];
	assert_int_equal(vd_pci_place(&b.host, seat, NULL), 0);
	assert_int_equal(seat->bars[0].home, HIGH + LOW_SIZE);
	bench_close(&b);
}

static void test_large_ones_come_first_and_small_ones_get_a_page(void **state)
{
	struct vd_pci_seat *seat;
	struct bench b;

	(void)state;
	bench_open(&b);
	seat = &b.seats[0];
	set_bar(seat, 0, 0x10, false, false);
	set_bar(seat, 1, 0x100, false, false);
	set_bar(seat, 2, 0x100000, false, false);
	assert_int_equal(vd_pci_place(&b.host, seat, NULL), 0);
	assert_int_equal(seat->bars[2].home, LOW);
	assert_int_equal(seat->bars[1].home, LOW + 0x100000);
	assert_int_equal(seat->bars[0].home, LOW + 0x101000);
	bench_close(&b);
}

static void test_full_windows_say_so(void **state)
{
	struct vd_error error = {0};
	struct bench b;

	(void)state;
	bench_open(&b);
	set_bar(&b.seats[0], 0, LOW_SIZE, false, false);
	assert_int_equal(vd_pci_place(&b.host, &b.seats[0], &error), 0);
	b.host.seats[0] = &b.seats[0];
	set_bar(&b.seats[1], 0, 0x10, false, false);
	assert_int_equal(vd_pci_place(&b.host, &b.seats[1], &error), -ENOSPC);
	assert_true(strlen(error.text) > 10);
	set_bar(&b.seats[2], 0, UINT64_C(1) << 63, true, true);
	assert_int_equal(vd_pci_place(&b.host, &b.seats[2], &error), -ENOSPC);
	/* No windows at all, and one at address 0, which is never given out. */
	memset(b.host.windows, 0, sizeof(b.host.windows));
	assert_int_equal(vd_pci_place(&b.host, &b.seats[1], &error), -ENOSPC);
	b.host.windows[0].size = 0x2000;
	assert_int_equal(vd_pci_place(&b.host, &b.seats[1], &error), 0);
	assert_int_equal(b.seats[1].bars[0].home, 0x1000);
	bench_close(&b);
}

static void test_a_range_is_inside_one_window(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	b.host.windows[1] = (struct vd_region_area){LOW + LOW_SIZE, 0x1000};
	assert_true(vd_pci_in_window(&b.host, LOW, LOW_SIZE));
	assert_false(vd_pci_in_window(&b.host, LOW, LOW_SIZE + 1));
	assert_false(vd_pci_in_window(&b.host, LOW - 1, 2));
	assert_false(vd_pci_in_window(&b.host, LOW + LOW_SIZE - 1, 2));
	assert_true(vd_pci_in_window(&b.host, LOW + LOW_SIZE, 0x1000));
	assert_false(vd_pci_in_window(&b.host, LOW + 1, UINT64_MAX));
	assert_false(vd_pci_in_window(&b.host, UINT64_MAX, 1));
	bench_close(&b);
}

static void test_registers_become_addresses(void **state)
{
	struct vd_pci_decode decode = {0};
	struct vd_pci_seat *seat;
	struct bench b;
	uint64_t base;

	(void)state;
	bench_open(&b);
	seat = &b.seats[0];
	set_bar(seat, 0, 0x100, false, false);
	set_bar(seat, 1, 0x10000, true, false);
	memset(decode.header + PCI_BASE_ADDRESS_0, 0xff, 24);
	assert_false(vd_pci_decoded(seat, &decode, 0, &base));
	decode.header[PCI_COMMAND] = PCI_COMMAND_MEMORY;
	assert_true(vd_pci_decoded(seat, &decode, 0, &base));
	assert_int_equal(base, 0xffffff00);
	assert_true(vd_pci_decoded(seat, &decode, 1, &base));
	assert_int_equal(base, UINT64_MAX << 16);
	assert_false(vd_pci_decoded(seat, &decode, 3, &base));
	decode.power[0] = 3;
	assert_false(vd_pci_decoded(seat, &decode, 0, &base));
	bench_close(&b);
}

/*
 * Homes are aligned, inside a window, and apart from each other and from what the guest has moved
 * there.
 */
static void test_random_homes(void **state)
{
	struct bench b;

	(void)state;
	test_start(0x5eed0040);
	bench_open(&b);
	for (unsigned round = 0; round < 2000; round++) {
		uint64_t starts[28], sizes[28];
		unsigned count = 0;

		memset(b.host.seats, 0, sizeof(b.host.seats));
		for (unsigned s = 0; s < 4; s++) {
			struct vd_pci_seat *seat = &b.seats[s];

			memset(seat->bars, 0, sizeof(seat->bars));
			memset(&seat->decode, 0, sizeof(seat->decode));
			for (unsigned i = 0; i < VD_PCI_BARS; i++) {
				bool is_64 = i < 5 && below(2);

				set_bar(seat, i, UINT64_C(16) << below(24), is_64, below(2));
				i += is_64;
			}
			if (vd_pci_place(&b.host, seat, NULL))
				break;
			for (unsigned i = 0; i < VD_PCI_BARS; i++) {
				uint64_t home = seat->bars[i].home, size = seat->bars[i].size;

				if (!size)
					continue;
				assert_int_equal(home & (size - 1), 0);
				assert_int_equal(home & (PAGE - 1), 0);
				assert_true(vd_pci_in_window(&b.host, home, size));
				for (unsigned k = 0; k < count; k++)
					assert_false(vd_ranges_overlap(home, size, starts[k],
								       sizes[k]));
				starts[count] = home;
				sizes[count++] = size;
			}
			/* The guest moves one of them. */
			vd_pci_put32(seat->decode.header + PCI_BASE_ADDRESS_5,
				     (uint32_t)LOW + below((uint32_t)LOW_SIZE));
			if (seat->bars[5].size) {
				uint64_t base;

				vd_pci_decoded(seat, &seat->decode, 5, &base);
				if (vd_pci_in_window(&b.host, base, seat->bars[5].size)) {
					starts[count] = base;
					sizes[count++] = seat->bars[5].size;
				}
			}
			b.host.seats[s] = seat;
		}
	}
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_windows_are_chosen_by_kind),
		cmocka_unit_test(test_large_ones_come_first_and_small_ones_get_a_page),
		cmocka_unit_test(test_full_windows_say_so),
		cmocka_unit_test(test_a_range_is_inside_one_window),
		cmocka_unit_test(test_registers_become_addresses),
		cmocka_unit_test_teardown(test_random_homes, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
