/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#define SLOT 2u

static void open_with_toy(struct rig *rig, struct toy *toy, bool direct)
{
	rig_open(rig, direct);
	toy_create(rig, toy);
	assert_int_equal(vd_pci_host_plug(rig->pci, toy->device, SLOT, NULL), 0);
	vd_device_put(toy->device);
}

static void test_parts_of_a_bar_are_slots(void **state)
{
	struct vd_slot_config slot;
	struct toy toy;
	struct rig rig;
	uint64_t base;

	(void)state;
	open_with_toy(&rig, &toy, true);
	base = bar_address(&rig, SLOT, 0);
	assert_string_equal(slot_at(&rig, base).name, "PCI window");
	set_memory(&rig, SLOT, true);
	check_windows(&rig);

	slot = slot_at(&rig, base);
	assert_int_equal(slot.kind, VD_SLOT_TRAP);
	assert_string_equal(slot.name, "toy");
	slot = slot_at(&rig, base + TOY_DIRECT + 0x123);
	assert_int_equal(slot.kind, VD_SLOT_DEVICE);
	assert_int_equal(slot.base.value, base + TOY_DIRECT);
	assert_int_equal(slot.size, TOY_DIRECT_SIZE);
	slot = slot_at(&rig, base + TOY_MSIX);
	assert_int_equal(slot.kind, VD_SLOT_TRAP);
	assert_non_null(strstr(slot.reason, "MSI-X"));
	slot = slot_at(&rig, bar_address(&rig, SLOT, 1));
	assert_int_equal(slot.kind, VD_SLOT_TRAP);
	assert_int_equal(slot.size, 0x100);
	assert_int_equal(slot_at(&rig, bar_address(&rig, SLOT, 2)).kind, VD_SLOT_DEVICE);
	assert_int_equal(slot_at(&rig, bar_address(&rig, SLOT, 4)).kind, VD_SLOT_DEVICE);
	assert_int_equal(vd_pci_host_direct_pages(rig.pci),
			 (TOY_DIRECT_SIZE + 0x200000 + 0x1000) / PAGE);

	set_memory(&rig, SLOT, false);
	assert_string_equal(slot_at(&rig, base).name, "PCI window");
	assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_trapped_accesses_reach_the_device(void **state)
{
	struct toy toy;
	struct rig rig;
	uint64_t base;

	(void)state;
	open_with_toy(&rig, &toy, true);
	set_memory(&rig, SLOT, true);
	base = bar_address(&rig, SLOT, 0);
	/* Behind the direct area too: offsets count from the BAR's start, not from the slot's. */
	for (unsigned length = 1; length <= 8; length *= 2) {
		assert_int_equal(guest_read(&rig, base + 0x10, length), toy_value(0, 0x10, length));
		assert_int_equal(guest_read(&rig, base + 0x9008, length),
				 toy_value(0, 0x9008, length));
	}
	guest_write(&rig, base + 0x9010, 4, 0xcafe);
	assert_int_equal(toy.last_region, 0);
	assert_int_equal(toy.last_offset, 0x9010);
	assert_int_equal(toy.last_value, 0xcafe);
	/* The MSI-X table is emulated here; what is beside it in its page is the device's. */
	assert_int_equal(guest_read(&rig, base + TOY_MSIX + 12, 4), 1);
	guest_write(&rig, base + TOY_MSIX, 8, 0x128000000);
	assert_int_equal(guest_read(&rig, base + TOY_MSIX, 8), 0x128000000);
	assert_int_equal(toy.last_offset, 0x9010);
	rig_close(&rig);
}

/* The guest stores through the address that it has mapped, and the device's own view shows it. */
static void test_direct_parts_are_the_devices_memory(void **state)
{
	struct vd_mem_page page;
	struct toy toy;
	struct rig rig;
	uint64_t base;
	void *memory, *seen;

	(void)state;
	open_with_toy(&rig, &toy, true);
	set_memory(&rig, SLOT, true);
	base = bar_address(&rig, SLOT, 0);
	assert_int_equal(vd_mem_gpa_to_pfn(rig.mem, (vd_gpa){base + TOY_DIRECT + 0x1008},
					   VD_READ | VD_WRITE, &page), 0);
	assert_int_equal(page.kind, VD_SLOT_DEVICE);
	assert_int_equal(page.host.kind, VD_PAGE_DEVICE);
	vd_device_lock(toy.device);
	memory = vd_device_memory(toy.device, 0, TOY_DIRECT + 0x1000, 0x1000);
	vd_device_unlock(toy.device);
	assert_non_null(memory);
	seen = vd_host_pointer(vd_host_window_base(rig.host), page.host.pfn,
			       vd_host_page_shift(rig.host));
	vd_guest_store32(seen, 0xfeedface);
	assert_int_equal(vd_guest_load32(memory), 0xfeedface);
	rig_close(&rig);
}

static void test_bars_move(void **state)
{
	uint64_t base, moved;
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy, true);
	set_memory(&rig, SLOT, true);
	base = bar_address(&rig, SLOT, 2);
	moved = base + 0x40000000000;
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_3, 4, moved >> 32);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, moved).kind, VD_SLOT_DEVICE);
	check_windows(&rig);
	/* In one write of 64 bits, back and into the low window. */
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, LOW + 0x800000);
	assert_int_equal(slot_at(&rig, moved).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, LOW + 0x800000).kind, VD_SLOT_DEVICE);
	check_windows(&rig);
	rig_close(&rig);
}

struct absence {
	unsigned bar;
	const char *why;
};

static int find_absence(void *context, const struct vd_pci_area_info *area)
{
	struct absence *absence = context;

	if (area->bar == absence->bar)
		absence->why = area->absent;
	return 0;
}

static const char *why_absent(struct rig *rig, unsigned bar)
{
	struct absence absence = {.bar = bar};

	vd_pci_host_each_area(rig->pci, find_absence, &absence);
	return absence.why;
}

static void test_bars_in_strange_places_are_not_there(void **state)
{
	static const uint64_t places[] = {
		0, RAM, RAM - 0x100000, ECAM, LOW - 0x200000, LOW + LOW_SIZE, UINT64_MAX,
		HIGH - 0x200000, HIGH + HIGH_SIZE, UINT64_C(1) << 63,
	};
	struct vd_pci_host_stats stats;
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy, true);
	set_memory(&rig, SLOT, true);
	for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
		config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, places[i]);
		check_windows(&rig);
		assert_non_null(why_absent(&rig, 2));
		assert_null(why_absent(&rig, 0));
	}
	vd_pci_host_stats(rig.pci, &stats);
	assert_true(stats.outside >= 1);
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, HIGH + HIGH_SIZE - 0x200000);
	assert_null(why_absent(&rig, 2));
	rig_close(&rig);
}

static void test_who_comes_first_stays(void **state)
{
	struct vd_pci_host_stats stats;
	struct toy toy;
	struct rig rig;
	uint64_t base, home;

	(void)state;
	open_with_toy(&rig, &toy, true);
	set_memory(&rig, SLOT, true);
	base = bar_address(&rig, SLOT, 0);
	home = bar_address(&rig, SLOT, 1);
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_1, 4, base + 0x200);
	assert_non_null(strstr(why_absent(&rig, 1), "another BAR"));
	assert_int_equal(guest_read(&rig, base + 0x200, 4), toy_value(0, 0x200, 4));
	assert_int_equal(guest_read(&rig, home, 4), 0xffffffff);
	vd_pci_host_stats(rig.pci, &stats);
	assert_int_equal(stats.conflicts, 1);
	check_windows(&rig);
	/* As soon as the first one leaves, the second one is there. */
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_0, 4, base + 0x1000000);
	assert_int_equal(guest_read(&rig, base + 0x200, 4), toy_value(1, 0, 4));
	assert_null(why_absent(&rig, 1));
	check_windows(&rig);
	rig_close(&rig);
}

static void test_sub_page_bars_may_share_a_page(void **state)
{
	struct toy toys[2];
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	for (unsigned i = 0; i < 2; i++) {
		toy_create(&rig, &toys[i]);
		assert_int_equal(vd_pci_host_plug(rig.pci, toys[i].device, i, NULL), 0);
		vd_device_put(toys[i].device);
		config_write(&rig, i, PCI_BASE_ADDRESS_1, 4, LOW + 0x8000000 + i * 0x100);
		set_memory(&rig, i, true);
	}
	check_windows(&rig);
	guest_write(&rig, LOW + 0x8000000 + 0x10, 4, 1);
	guest_write(&rig, LOW + 0x8000100 + 0x20, 4, 2);
	assert_int_equal(toys[0].last_offset, 0x10);
	assert_int_equal(toys[1].last_offset, 0x20);
	assert_int_equal(guest_read(&rig, LOW + 0x8000200, 4), 0xffffffff);
	rig_close(&rig);
}

static void test_larger_pages_map_less(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open_pages(&rig, true, 14);
	toy_create(&rig, &toy);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, SLOT, NULL), 0);
	vd_device_put(toy.device);
	set_memory(&rig, SLOT, true);
	check_windows(&rig);
	assert_int_equal(slot_at(&rig, bar_address(&rig, SLOT, 0) + TOY_DIRECT).kind,
			 VD_SLOT_DEVICE);
	assert_int_equal(slot_at(&rig, bar_address(&rig, SLOT, 4)).kind, VD_SLOT_TRAP);
	assert_non_null(strstr(slot_at(&rig, bar_address(&rig, SLOT, 4)).reason,
			       "not padded"));
	rig_close(&rig);

	rig_open_pages(&rig, true, 16);
	toy_create(&rig, &toy);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, SLOT, NULL), 0);
	vd_device_put(toy.device);
	set_memory(&rig, SLOT, true);
	check_windows(&rig);
	assert_int_equal(slot_at(&rig, bar_address(&rig, SLOT, 0) + TOY_DIRECT).kind,
			 VD_SLOT_TRAP);
	rig_close(&rig);
}

/* A write that cannot be carried out changes nothing, on neither side; the next one works. */
static void test_memory_may_be_short(void **state)
{
	struct vd_pci_host_stats stats;
	struct toy toy;
	struct rig rig;
	long step, dropped = 0;

	(void)state;
	open_with_toy(&rig, &toy, true);
	for (step = 1; step < 200; step++) {
		bool failed, on;

		set_memory(&rig, SLOT, true);
		test_env_fail(&rig.test, step, -ENOMEM);
		set_memory(&rig, SLOT, false);
		failed = test_env_failed(&rig.test);
		test_env_fail(&rig.test, 0, 0);
		on = config_read(&rig, SLOT, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
		assert_int_equal(on, failed);
		assert_int_equal(vd_pci_host_direct_pages(rig.pci) != 0, on);
		check_windows(&rig);
		dropped += failed;
		if (!failed)
			break;
	}
	vd_pci_host_stats(rig.pci, &stats);
	assert_true(dropped > 0);
	assert_int_equal(stats.config_dropped, dropped);
	/* Showing BARs: they come with the next change. */
	for (step = 1; step < 200; step++) {
		bool failed;

		set_memory(&rig, SLOT, false);
		test_env_fail(&rig.test, step, -ENOMEM);
		set_memory(&rig, SLOT, true);
		failed = test_env_failed(&rig.test);
		test_env_fail(&rig.test, 0, 0);
		check_windows(&rig);
		assert_int_equal(vd_pci_host_direct_pages(rig.pci) == 0, failed);
		if (!failed)
			break;
		assert_non_null(why_absent(&rig, 0));
		set_memory(&rig, SLOT, true);
		assert_int_not_equal(vd_pci_host_direct_pages(rig.pci), 0);
	}
	assert_true(step > 1 && step < 200);
	vd_pci_host_stats(rig.pci, &stats);
	assert_true(stats.failed > 0);
	rig_close(&rig);
}

/* ---- random programming of BARs against a model ---- */

#define DEVICES 3u

struct model_bar {
	uint64_t size, base;
	bool placed;
};

struct model {
	struct rig rig;
	struct toy toys[DEVICES];
	struct model_bar bars[DEVICES][TOY_BARS];
};

static bool inside(uint64_t base, uint64_t size)
{
	return (base >= LOW && base < LOW + LOW_SIZE && size <= LOW + LOW_SIZE - base) ||
	       (base >= HIGH && base < HIGH + HIGH_SIZE && size <= HIGH + HIGH_SIZE - base);
}

static bool model_free(const struct model *m, uint64_t base, uint64_t size)
{
	for (unsigned d = 0; d < DEVICES; d++) {
		for (unsigned i = 0; i < TOY_BARS; i++) {
			const struct model_bar *bar = &m->bars[d][i];

			if (bar->placed && base < bar->base + bar->size && bar->base < base + size)
				return false;
		}
	}
	return true;
}

/* What the registers of a device say about a BAR. */
static bool enabled(struct model *m, unsigned d, unsigned i, uint64_t *base)
{
	*base = bar_address(&m->rig, d, toy_bars[i]);
	return config_read(&m->rig, d, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY &&
	       !(config_read(&m->rig, d, TOY_POWER + PCI_PM_CTRL, 1) & 3);
}

static void model_update(struct model *m)
{
	uint64_t base;

	for (unsigned d = 0; d < DEVICES; d++)
		for (unsigned i = 0; i < TOY_BARS; i++)
			if (!enabled(m, d, i, &base) || base != m->bars[d][i].base)
				m->bars[d][i].placed = false;
	for (unsigned d = 0; d < DEVICES; d++) {
		for (unsigned i = 0; i < TOY_BARS; i++) {
			struct model_bar *bar = &m->bars[d][i];

			if (bar->placed || !enabled(m, d, i, &base) || !inside(base, bar->size) ||
			    !model_free(m, base, bar->size))
				continue;
			bar->placed = true;
			bar->base = base;
		}
	}
}

/* Each BAR is where the model says: its own registers answer there. */
static void model_compare(struct model *m)
{
	for (unsigned d = 0; d < DEVICES; d++) {
		for (unsigned i = 0; i < TOY_BARS; i++) {
			const struct model_bar *bar = &m->bars[d][i];
			uint64_t gpa = bar->base + bar->size - 8;
			unsigned before = m->toys[d].reads;

			if (!bar->placed)
				continue;
			if (toy_bars[i] == 2 || toy_bars[i] == 4) {
				assert_int_equal(slot_at(&m->rig, gpa).kind, VD_SLOT_DEVICE);
				assert_int_equal(slot_at(&m->rig, bar->base).base.value, bar->base);
				continue;
			}
			assert_int_equal(guest_read(&m->rig, gpa, 8),
					 toy_value(toy_bars[i], bar->size - 8, 8));
			assert_int_equal(m->toys[d].reads, before + 1);
		}
	}
}

static int count_placed(void *context, const struct vd_pci_area_info *area)
{
	*(unsigned *)context += area->placed && !area->offset;
	return 0;
}

static uint64_t random_address(struct model *m)
{
	const struct model_bar *bar = &m->bars[below(DEVICES)][below(TOY_BARS)];

	switch (below(6)) {
	case 0:
		return test_random(test_state());
	case 1:
		return LOW + below((uint32_t)LOW_SIZE);
	case 2:
		return LOW + below(4) * 0x100000 + below(16) * 0x100;
	case 3:
		return HIGH + test_random(test_state()) % HIGH_SIZE;
	case 4:
		return bar->base + below(3) * bar->size - bar->size;
	default:
		return RAM + below(2) * below((uint32_t)RAM_SIZE);
	}
}

static void random_write(struct model *m, unsigned d)
{
	unsigned length = 1u << below(4), reg;

	switch (below(8)) {
	case 0:
	case 1:
		config_write(&m->rig, d, PCI_COMMAND, 2, below(4) ? 6 : test_random(test_state()));
		break;
	case 2:
		config_write(&m->rig, d, PCI_BASE_ADDRESS_0 + 4 * below(6), 4, random_address(m));
		break;
	case 3:
		config_write(&m->rig, d, PCI_BASE_ADDRESS_2, 8, random_address(m));
		break;
	case 4:
		/*
		 * Not the states that do not exist: whether a BAR leaves for a moment is not the
		 * model's.
		 */
		config_write(&m->rig, d, TOY_POWER + PCI_PM_CTRL, 1, below(4) ? 0 : 3);
		break;
	case 5:
		if (!below(8))
			config_write(&m->rig, d, TOY_EXPRESS + PCI_EXP_DEVCTL, 2, 0x8000);
		break;
	default:
		reg = PCI_COMMAND + below(PCI_CARDBUS_CIS - PCI_COMMAND) / length * length;
		config_write(&m->rig, d, reg, length, test_random(test_state()));
		break;
	}
}

static void test_random_programming_follows_the_model(void **state)
{
	static struct model m;
	unsigned placed, expected, most = 0;

	(void)state;
	memset(&m, 0, sizeof(m));
	test_start(0x5eed0010);
	rig_open(&m.rig, true);
	for (unsigned d = 0; d < DEVICES; d++) {
		toy_create(&m.rig, &m.toys[d]);
		assert_int_equal(vd_pci_host_plug(m.rig.pci, m.toys[d].device, d, NULL), 0);
		vd_device_put(m.toys[d].device);
		for (unsigned i = 0; i < TOY_BARS; i++)
			m.bars[d][i].size = toy_sizes[i];
	}
	for (unsigned round = 0; round < 3000; round++) {
		random_write(&m, below(DEVICES));
		model_update(&m);
		model_compare(&m);
		check_windows(&m.rig);
		placed = expected = 0;
		vd_pci_host_each_area(m.rig.pci, count_placed, &placed);
		for (unsigned d = 0; d < DEVICES; d++)
			for (unsigned i = 0; i < TOY_BARS; i++)
				expected += m.bars[d][i].placed;
		assert_int_equal(placed, expected);
		most = placed > most ? placed : most;
	}
	assert_true(most > TOY_BARS);
	rig_close(&m.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_of_a_bar_are_slots),
		cmocka_unit_test(test_trapped_accesses_reach_the_device),
		cmocka_unit_test(test_direct_parts_are_the_devices_memory),
		cmocka_unit_test(test_bars_move),
		cmocka_unit_test(test_bars_in_strange_places_are_not_there),
		cmocka_unit_test(test_who_comes_first_stays),
		cmocka_unit_test(test_sub_page_bars_may_share_a_page),
		cmocka_unit_test(test_larger_pages_map_less),
		cmocka_unit_test(test_memory_may_be_short),
		cmocka_unit_test_teardown(test_random_programming_follows_the_model,
					  test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
