/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BARs smaller than a page, in a guest that moves them (E2, E4, E5). Every toy here has BAR 0 of 4
 * KiB and BAR 2 of 256 bytes, both mappable, and BAR 5 of 256 bytes, trapped.
 */
#include "rig.h"

#define TOYS 3u
#define SPAN UINT64_C(0x10000) /* a page of 64 KiB */

struct family {
	struct rig rig;
	struct vd_group *group;
	struct toy toys[TOYS];
};

static int create_small(struct rig *rig, struct toy *toy, struct vd_group *group, bool pad)
{
	struct vd_pci_function_config config;
	struct vd_error error = {0};

	memset(toy, 0, sizeof(*toy));
	config = toy_config(rig, toy);
	memset(config.bars, 0, sizeof(config.bars));
	config.bars[0] = (struct vd_pci_bar){.size = 4096, .area_count = 1, .areas = {{0, 4096}}};
	config.bars[2] = (struct vd_pci_bar){.size = 256, .area_count = 1, .areas = {{0, 256}}};
	config.bars[5] = (struct vd_pci_bar){.size = 256};
	config.msix_vectors = 0;
	config.group = group;
	config.pad = pad;
	return vd_pci_function_create(&config, &toy->device, &error);
}

static void open_family(struct family *f, unsigned shift, bool pad)
{
	memset(f, 0, sizeof(*f));
	rig_open_host(&f->rig, true, shift, shift);
	assert_int_equal(vd_group_create(&f->rig.test.env, f->rig.host, "usb", &f->group, NULL), 0);
	for (unsigned i = 0; i < TOYS; i++) {
		assert_int_equal(create_small(&f->rig, &f->toys[i], f->group, pad), 0);
		assert_int_equal(vd_pci_host_plug(f->rig.pci, f->toys[i].device, i, NULL), 0);
		vd_device_put(f->toys[i].device);
	}
}

static void close_family(struct family *f)
{
	vd_group_put(f->group);
	rig_close(&f->rig);
}

static void all_on(struct family *f)
{
	for (unsigned i = 0; i < TOYS; i++)
		set_memory(&f->rig, i, true);
	check_windows(&f->rig);
}

static bool is_direct(struct family *f, unsigned toy, unsigned bar)
{
	return slot_at(&f->rig, bar_address(&f->rig, toy, bar)).kind == VD_SLOT_DEVICE;
}

static const char *reason(struct family *f, unsigned toy, unsigned bar)
{
	const char *text = slot_at(&f->rig, bar_address(&f->rig, toy, bar)).reason;

	return text ? text : "";
}

/* What a guest sees at an address through the tables. */
static void *mapped(struct family *f, uint64_t gpa)
{
	unsigned shift = vd_host_page_shift(f->rig.host);
	struct vd_mem_page page;
	char *start;

	assert_int_equal(vd_mem_gpa_to_pfn(f->rig.mem, (vd_gpa){gpa}, VD_READ | VD_WRITE, &page), 0);
	start = vd_host_pointer(vd_host_window_base(f->rig.host), page.host.pfn, shift);
	return start + (gpa & ((UINT64_C(1) << shift) - 1));
}

static uint64_t memory_offset(struct family *f, unsigned toy, unsigned bar)
{
	return vd_device_region(f->toys[toy].device, bar)->memory_offset;
}

/* E5: three in one page, one slot; each BAR is its function's own. */
static void test_a_group_shares_one_page(void **state)
{
	static struct family f;
	struct vd_slot_config slot;
	uint64_t page;

	(void)state;
	open_family(&f, 16, false);
	page = bar_address(&f.rig, 0, 0) & ~(SPAN - 1);
	for (unsigned i = 0; i < TOYS; i++) {
		/* E4: placed as in the page of the memory, before the guest did anything. */
		assert_int_equal(bar_address(&f.rig, i, 0), page + memory_offset(&f, i, 0));
		assert_int_equal(bar_address(&f.rig, i, 2), page + memory_offset(&f, i, 2));
	}
	all_on(&f);
	slot = slot_at(&f.rig, page);
	assert_int_equal(slot.kind, VD_SLOT_DEVICE);
	assert_int_equal(slot.base.value, page);
	assert_int_equal(slot.size, SPAN);
	assert_int_equal(vd_pci_host_direct_pages(f.rig.pci), 1);
	for (unsigned i = 0; i < TOYS; i++) {
		assert_true(is_direct(&f, i, 0) && is_direct(&f, i, 2));
		assert_false(is_direct(&f, i, 5));
		vd_guest_store32(mapped(&f, bar_address(&f.rig, i, 0) + 8), 0x1000 + i);
	}
	for (unsigned i = 0; i < TOYS; i++) {
		uint32_t value = 0;

		assert_int_equal(vd_guest_load32(vd_device_memory(f.toys[i].device, 0, 8, 4)),
				 0x1000 + i);
		/* E7 */
		assert_int_equal(vd_device_read(f.toys[i].device, 0, (vd_region_offset){8}, &value,
						4), 0);
		assert_int_equal(value, 0x1000 + i);
	}
	close_family(&f);
}

static void test_two_guest_pages_two_slots(void **state)
{
	static struct family f;
	struct vd_slot_config one, two;
	uint64_t home, far = LOW + 0x8000000;

	(void)state;
	open_family(&f, 16, false);
	all_on(&f);
	home = bar_address(&f.rig, 1, 0);
	config_write(&f.rig, 1, PCI_BASE_ADDRESS_0, 4, far + memory_offset(&f, 1, 0));
	check_windows(&f.rig);
	one = slot_at(&f.rig, bar_address(&f.rig, 0, 0));
	two = slot_at(&f.rig, bar_address(&f.rig, 1, 0));
	assert_int_equal(one.kind, VD_SLOT_DEVICE);
	assert_int_equal(two.kind, VD_SLOT_DEVICE);
	assert_int_equal(two.base.value, far);
	assert_ptr_equal(one.object, two.object);
	assert_int_equal(one.offset, two.offset);
	assert_int_equal(vd_pci_host_direct_pages(f.rig.pci), 2);
	/* Another place in the page: never wrong bytes, but the slow path. */
	config_write(&f.rig, 1, PCI_BASE_ADDRESS_0, 4, far + 0xf000);
	check_windows(&f.rig);
	assert_non_null(strstr(reason(&f, 1, 0), "the guest put it at 0xf000 of a page"));
	vd_guest_store32(vd_device_memory(f.toys[1].device, 0, 0x10, 4), 4711);
	assert_int_equal(guest_read(&f.rig, far + 0xf010, 4), 4711);
	assert_true(is_direct(&f, 0, 0));
	/* Back home: one slot again. */
	config_write(&f.rig, 1, PCI_BASE_ADDRESS_0, 4, home);
	check_windows(&f.rig);
	assert_true(is_direct(&f, 1, 0));
	assert_int_equal(vd_pci_host_direct_pages(f.rig.pci), 1);
	close_family(&f);
}

static void test_who_is_off_is_not_seen(void **state)
{
	static struct family f;
	uint64_t homes[2];

	(void)state;
	open_family(&f, 16, false);
	all_on(&f);
	set_memory(&f.rig, 1, false);
	check_windows(&f.rig);
	assert_false(is_direct(&f, 0, 0));
	assert_string_equal(reason(&f, 0, 0), "shares its page with 00:01.0 BAR 0, which does not answer");
	set_memory(&f.rig, 1, true);
	assert_true(is_direct(&f, 0, 0) && is_direct(&f, 1, 0));
	/* A reset switches it off as well, until the guest has restored its registers. */
	homes[0] = bar_address(&f.rig, 2, 0);
	homes[1] = bar_address(&f.rig, 2, 2);
	config_write(&f.rig, 2, 0x48 + PCI_EXP_DEVCTL, 2, 0x8000);
	assert_int_equal(f.toys[2].resets, 1);
	assert_false(is_direct(&f, 0, 0));
	set_memory(&f.rig, 2, true);
	assert_false(is_direct(&f, 0, 0));
	config_write(&f.rig, 2, PCI_BASE_ADDRESS_0, 4, homes[0]);
	config_write(&f.rig, 2, PCI_BASE_ADDRESS_2, 4, homes[1]);
	assert_true(is_direct(&f, 0, 0));
	/* It is unplugged: what is left of the group is this user's. */
	assert_int_equal(vd_pci_host_unplug(f.rig.pci, 1), 0);
	check_windows(&f.rig);
	assert_true(is_direct(&f, 0, 0) && is_direct(&f, 2, 0));
	close_family(&f);
}

static void test_a_plugged_one_arrives_placed(void **state)
{
	static struct family f;
	struct toy late;

	(void)state;
	open_family(&f, 16, false);
	all_on(&f);
	assert_int_equal(create_small(&f.rig, &late, f.group, false), 0);
	assert_int_equal(vd_pci_host_plug(f.rig.pci, late.device, 9, NULL), 0);
	assert_int_equal(bar_address(&f.rig, 9, 0) & ~(SPAN - 1),
			 bar_address(&f.rig, 0, 0) & ~(SPAN - 1));
	assert_false(is_direct(&f, 0, 0));
	set_memory(&f.rig, 9, true);
	check_windows(&f.rig);
	assert_true(is_direct(&f, 0, 0) && is_direct(&f, 9, 0));
	vd_device_put(late.device);
	close_family(&f);
}

static void test_strangers_in_the_page(void **state)
{
	static struct family f;

	(void)state;
	open_family(&f, 16, true);
	all_on(&f);
	/* Padded: a page each. */
	assert_int_equal(vd_pci_host_direct_pages(f.rig.pci), 2 * TOYS);
	config_write(&f.rig, 1, PCI_BASE_ADDRESS_5, 4, bar_address(&f.rig, 0, 0) + 0x8000);
	check_windows(&f.rig);
	assert_string_equal(reason(&f, 0, 0), "shares its page with 00:01.0 BAR 5");
	assert_int_equal(guest_read(&f.rig, bar_address(&f.rig, 1, 5), 4), toy_value(5, 0, 4));
	config_write(&f.rig, 1, PCI_BASE_ADDRESS_5, 4, LOW + 0x8000000);
	check_windows(&f.rig);
	assert_true(is_direct(&f, 0, 0));
	close_family(&f);
}

static void test_whose_group_it_is(void **state)
{
	static struct family f;
	struct vd_pci_host_config config;
	struct toy other;
	int stranger;

	(void)state;
	open_family(&f, 16, false);
	assert_int_equal(vd_group_take(f.group, &stranger), -EBUSY);
	for (unsigned i = 0; i < TOYS; i++)
		assert_int_equal(vd_pci_host_unplug(f.rig.pci, i), 0);
	assert_int_equal(vd_group_take(f.group, &stranger), 0);
	assert_int_equal(create_small(&f.rig, &other, f.group, false), 0);
	assert_int_equal(vd_pci_host_plug(f.rig.pci, other.device, 0, NULL), -EBUSY);
	vd_group_leave(f.group);
	/* A platform that says no. */
	vd_pci_host_destroy(f.rig.pci);
	config = rig_config(&f.rig, true);
	config.share_pages = false;
	assert_int_equal(vd_pci_host_create(&config, &f.rig.pci, NULL), 0);
	assert_int_equal(vd_pci_host_plug(f.rig.pci, other.device, 0, NULL), 0);
	set_memory(&f.rig, 0, true);
	assert_non_null(strstr(reason(&f, 0, 0), "the platform lets no group share one"));
	vd_device_put(other.device);
	close_family(&f);
}

static void test_at_each_page_size(void **state)
{
	static const unsigned shifts[] = {12, 14, 16};
	static struct family f;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		open_family(&f, shifts[i], false);
		all_on(&f);
		for (unsigned t = 0; t < TOYS; t++)
			assert_true(is_direct(&f, t, 0) && is_direct(&f, t, 2));
		close_family(&f);
	}
}

/* Memory that is short: either all is as it was, or all as asked for. */
static void test_memory_may_be_short(void **state)
{
	static struct family f;
	long step;

	(void)state;
	open_family(&f, 16, false);
	all_on(&f);
	for (step = 1; step < 200; step++) {
		bool failed;

		test_env_fail(&f.rig.test, step, -ENOMEM);
		set_memory(&f.rig, 1, false);
		failed = test_env_failed(&f.rig.test);
		test_env_fail(&f.rig.test, 0, 0);
		check_windows(&f.rig);
		assert_int_equal(is_direct(&f, 0, 0), failed);
		if (!failed)
			break;
	}
	assert_true(step > 1 && step < 200);
	close_family(&f);
}

/* ---- a guest that moves them, against the rule said plainly ---- */

static const unsigned bars[] = {0, 2, 5};
static const uint64_t sizes[] = {4096, 256, 256};

struct seen {
	bool placed, direct;
	uint64_t gpa;
};

struct look {
	struct seen bars[TOYS][3];
};

static int look_at(void *context, const struct vd_pci_area_info *area)
{
	struct look *look = context;
	unsigned b = area->bar == 0 ? 0 : area->bar == 2 ? 1 : 2;

	look->bars[area->slot][b] = (struct seen){area->placed, area->direct, area->gpa.value};
	return 0;
}

static bool should_be_direct(struct family *f, const struct look *look, unsigned t, unsigned b)
{
	uint64_t mask = SPAN - 1, at = look->bars[t][b].gpa;

	if (b == 2 || ((at ^ memory_offset(f, t, bars[b])) & mask))
		return false;
	for (unsigned u = 0; u < TOYS; u++) {
		for (unsigned c = 0; c < 3; c++) {
			const struct seen *other = &look->bars[u][c];
			bool small = c != 2; /* all of them lie in one page of memory */

			if (small && !other->placed)
				return false;
			if (!other->placed || (other->gpa & ~mask) != (at & ~mask))
				continue;
			if (!small || ((other->gpa ^ memory_offset(f, u, bars[c])) & mask))
				return false;
		}
	}
	return true;
}

static void random_move(struct family *f)
{
	unsigned t = below(TOYS), b = below(3);
	uint64_t page = LOW + 0x8000000 + below(3) * SPAN;
	uint64_t place = b == 2 ? 0xe000 + t * 256 : memory_offset(f, t, bars[b]);

	if (!below(8))
		place = below((uint32_t)SPAN);
	if (below(6))
		config_write(&f->rig, t, PCI_BASE_ADDRESS_0 + 4 * bars[b], 4, page + place);
	else
		set_memory(&f->rig, t, below(4) != 0);
}

static void test_a_guest_that_moves_them(void **state)
{
	static struct family f;
	unsigned direct = 0, trapped = 0;

	(void)state;
	test_start(0x5eed0060);
	open_family(&f, 16, false);
	all_on(&f);
	for (unsigned round = 0; round < 3000; round++) {
		struct look look = {0};

		random_move(&f);
		check_windows(&f.rig);
		vd_pci_host_each_area(f.rig.pci, look_at, &look);
		for (unsigned t = 0; t < TOYS; t++) {
			for (unsigned b = 0; b < 3; b++) {
				struct seen *seen = &look.bars[t][b];

				if (!seen->placed)
					continue;
				assert_int_equal(seen->direct, should_be_direct(&f, &look, t, b));
				assert_int_equal(slot_at(&f.rig, seen->gpa).kind == VD_SLOT_DEVICE,
						 seen->direct);
				if (seen->direct)
					assert_ptr_equal(mapped(&f, seen->gpa),
							 vd_device_memory(f.toys[t].device,
									  bars[b], 0, sizes[b]));
				*(seen->direct ? &direct : &trapped) += 1;
			}
		}
	}
	assert_true(direct > 500 && trapped > 500);
	close_family(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_group_shares_one_page),
		cmocka_unit_test(test_two_guest_pages_two_slots),
		cmocka_unit_test(test_who_is_off_is_not_seen),
		cmocka_unit_test(test_a_plugged_one_arrives_placed),
		cmocka_unit_test(test_strangers_in_the_page),
		cmocka_unit_test(test_whose_group_it_is),
		cmocka_unit_test(test_at_each_page_size),
		cmocka_unit_test(test_memory_may_be_short),
		cmocka_unit_test_teardown(test_a_guest_that_moves_them, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
