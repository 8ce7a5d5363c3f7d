/* SPDX-License-Identifier: BSD-2-Clause */
/* What is dropped by guest physical address: just what came from there, device slots too (A5, B2). */
#include "shadow_fixture.h"

#define TABLE(n) (GUEST_RAM + (n) * PAGE)
#define DATA (GUEST_RAM + MIB)

static const struct guest_kind *const sv39 = &guest_kinds[0];
static const unsigned rw = VD_READ | VD_WRITE;

struct one {
	struct shadowed s;
	struct vd_shadow_root *root;
};

/* Pages 1 and 2 map the same page, 3 the next one, 4 a page of the device. */
static void open_one(struct one *o)
{
	static const uint64_t pages[] = {DATA, DATA, DATA + PAGE, GUEST_BAR + PAGE};

	shadow_open(&o->s, sv39, &vd_mmu_format_sv57, 0, false);
	poke(&o->s, TABLE(0), guest_table(sv39, TABLE(1), 2));
	poke(&o->s, TABLE(1), guest_table(sv39, TABLE(2), 1));
	o->root = root_of(&o->s, TABLE(0));
	for (unsigned i = 0; i < 4; i++) {
		poke(&o->s, TABLE(2) + 8 * (i + 1),
		     guest_leaf(sv39, pages[i], rw, GUEST_A | GUEST_D, 0));
		assert_int_equal(vd_shadow_fault(o->s.shadow, o->root, (vd_gva){(i + 1) * PAGE},
						 rw, NULL), 0);
	}
	assert_int_equal(shadow_stats(&o->s).leaves, 4);
	o->s.f.flush_count = 0;
}

static void close_one(struct one *o)
{
	vd_shadow_root_put(o->s.shadow, o->root);
	shadow_close(&o->s);
}

static bool there(struct one *o, unsigned page, unsigned access)
{
	return !shadow_walk(&o->s, o->root, page * PAGE, access, NULL);
}

static void all_that_maps_a_page_goes_and_nothing_else(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	vd_shadow_zap(o.s.shadow, (vd_gpa){DATA}, PAGE);
	assert_int_equal(o.s.f.flush_count, 1);
	assert_false(there(&o, 1, VD_READ) || there(&o, 2, VD_READ));
	assert_true(there(&o, 3, rw) && there(&o, 4, rw));
	vd_shadow_zap(o.s.shadow, (vd_gpa){0}, 0);
	vd_shadow_zap(o.s.shadow, (vd_gpa){7 * GIB}, UINT64_MAX);
	assert_int_equal(o.s.f.flush_count, 1);
	/* More than all that is mapped: page by page of the shadow. */
	vd_shadow_zap(o.s.shadow, (vd_gpa){1}, UINT64_MAX);
	assert_false(there(&o, 3, VD_READ) || there(&o, 4, VD_READ));
	assert_int_equal(shadow_stats(&o.s).zaps, 4);
	assert_int_equal(shadow_stats(&o.s).leaves, 0);
	close_one(&o);
}

static void a_device_that_is_reset_is_out_of_every_table(void **state)
{
	const struct vd_invalidation event = {.start = GUEST_BAR, .length = BAR_BYTES,
					      .blockable = true, .reason = VD_INVALIDATE_RESET};
	struct one o;

	(void)state;
	open_one(&o);
	assert_int_equal(vd_notifier_start(vd_mem_notifier(o.s.f.mem), &event), 0);
	assert_false(there(&o, 4, VD_READ));
	assert_true(there(&o, 1, rw));
	assert_int_equal(o.s.f.flush_count, 1);
	vd_notifier_end(vd_mem_notifier(o.s.f.mem), &event);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){4 * PAGE}, rw, NULL), 0);
	close_one(&o);
}

static void write_protection_leaves_the_rest(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	vd_shadow_write_protect(o.s.shadow, (vd_gpa){DATA}, PAGE);
	assert_int_equal(o.s.f.flush_count, 1);
	assert_true(there(&o, 1, VD_READ) && there(&o, 3, rw));
	assert_false(there(&o, 1, rw) || there(&o, 2, rw));
	close_one(&o);
}

static void use_is_seen_once_and_remembered(void **state)
{
	const vd_gpa data = {DATA};
	struct one o;

	(void)state;
	open_one(&o);
	assert_true(vd_shadow_clear_young(o.s.shadow, data, PAGE));
	assert_int_equal(o.s.f.flush_count, 1);
	assert_false(vd_shadow_clear_young(o.s.shadow, data, PAGE));
	assert_int_equal(o.s.f.flush_count, 1);
	assert_true(vd_shadow_test_young(o.s.shadow, (vd_gpa){0}, UINT64_MAX));
	assert_true(there(&o, 1, VD_READ));
	assert_true(vd_shadow_test_young(o.s.shadow, data, PAGE));
	/* The leaf goes; that it was used does not. */
	vd_shadow_zap(o.s.shadow, data, PAGE);
	assert_true(vd_shadow_test_young(o.s.shadow, data, PAGE));
	assert_true(vd_shadow_clear_young(o.s.shadow, data, PAGE));
	assert_false(vd_shadow_test_young(o.s.shadow, data, PAGE));
	close_one(&o);
}

/* A walker that does not set accessed and dirty faults until they are. */
static void a_fault_sets_accessed(void **state)
{
	const vd_gpa data = {DATA};
	struct one o;

	(void)state;
	open_one(&o);
	assert_true(vd_shadow_clear_young(o.s.shadow, data, PAGE));
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL), 0);
	assert_true(vd_shadow_test_young(o.s.shadow, data, PAGE));
	assert_int_equal(shadow_stats(&o.s).faults_spurious, 0);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL), 0);
	assert_int_equal(shadow_stats(&o.s).faults_spurious, 1);
	close_one(&o);
}

static int count_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	unsigned *count = context;

	assert_true((gpa.value == GUEST_BAR + PAGE) == leaf->device);
	return ++*count == 3 ? 77 : 0;
}

static void leaves_are_shown(void **state)
{
	unsigned count = 0;
	struct one o;

	(void)state;
	open_one(&o);
	assert_int_equal(vd_shadow_each(o.s.shadow, count_leaf, &count), 77);
	assert_int_equal(count, 3);
	close_one(&o);
}

/* Tables whose memory is discarded map nothing, those whose memory moves what they did. */
static void tables_follow_their_memory(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	assert_int_equal(vd_host_object_move(o.s.ram, 2 * PAGE, PAGE, true), 0);
	assert_true(there(&o, 3, rw));
	assert_int_equal(vd_host_object_discard(o.s.ram, 2 * PAGE, PAGE, true), 0);
	assert_false(there(&o, 3, VD_READ));
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){3 * PAGE}, VD_READ, NULL),
			 -ENXIO);
	close_one(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_that_maps_a_page_goes_and_nothing_else),
		cmocka_unit_test(a_device_that_is_reset_is_out_of_every_table),
		cmocka_unit_test(write_protection_leaves_the_rest),
		cmocka_unit_test(use_is_seen_once_and_remembered),
		cmocka_unit_test(a_fault_sets_accessed),
		cmocka_unit_test(leaves_are_shown),
		cmocka_unit_test(tables_follow_their_memory),
	};

	return cmocka_run_group_tests_name("shadow zap", tests, NULL, NULL);
}
