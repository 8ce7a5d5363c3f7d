/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's stores to its own tables, and those of others. Row A10: what is made ahead is old. */
#include "shadow_fixture.h"

#define TABLE(n) (GUEST_RAM + (n) * PAGE)
#define DATA (GUEST_RAM + MIB)
#define ENTRY(n) (TABLE(2) + 8 * (n))

static const struct guest_kind *const sv39 = &guest_kinds[0];
static const unsigned rw = VD_READ | VD_WRITE;

struct one {
	struct shadowed s;
	struct vd_shadow_root *root, *bare;
};

/* Page 1 is in use, so the tables are shadowed. */
static void open_one(struct one *o)
{
	shadow_open(&o->s, sv39, &vd_mmu_format_sv39, 0, false);
	poke(&o->s, TABLE(0), guest_table(sv39, TABLE(1), 2));
	poke(&o->s, TABLE(1), guest_table(sv39, TABLE(2), 1));
	poke(&o->s, ENTRY(1), guest_leaf(sv39, DATA, rw, GUEST_A | GUEST_D, 0));
	o->root = root_of(&o->s, TABLE(0));
	assert_int_equal(vd_shadow_root_get(o->s.shadow, &vd_guest_format_bare, (vd_gpa){0},
					    &o->bare), 0);
	assert_int_equal(vd_shadow_fault(o->s.shadow, o->root, (vd_gva){PAGE}, VD_READ, NULL), 0);
}

static void close_one(struct one *o)
{
	vd_shadow_root_put(o->s.shadow, o->root);
	vd_shadow_root_put(o->s.shadow, o->bare);
	shadow_close(&o->s);
}

static void set(struct one *o, uint64_t gpa, uint64_t value)
{
	assert_int_equal(shadow_store(&o->s, o->bare, gpa, VD_READ, value, 8), 0);
}

static void a_new_entry_is_made_ahead_and_old(void **state)
{
	struct vd_shadow_leaf leaf;
	struct one o;

	(void)state;
	open_one(&o);
	set(&o, ENTRY(2), guest_leaf(sv39, DATA + 2 * PAGE, rw, GUEST_A | GUEST_D, 0));
	assert_int_equal(shadow_stats(&o.s).prefills, 1);
	/* Not accessed: nobody has used it. */
	assert_false(vd_shadow_test_young(o.s.shadow, (vd_gpa){DATA + 2 * PAGE}, PAGE));
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, VD_READ, &leaf), 0);
	assert_int_equal(leaf.leaf.access, rw);
	assert_false(leaf.leaf.dirty);
	assert_true(vd_shadow_test_young(o.s.shadow, (vd_gpa){DATA + 2 * PAGE}, PAGE));
	/* What the guest has not marked as used itself is left for a fault. */
	set(&o, ENTRY(3), guest_leaf(sv39, DATA, rw, 0, 0));
	set(&o, ENTRY(4), guest_leaf(sv39, GUEST_BAR, rw, GUEST_A, 0));
	assert_int_equal(shadow_stats(&o.s).prefills, 1);
	close_one(&o);
}

/* What is made ahead is no way around the protection of a table. */
static void a_table_is_not_made_writable_ahead(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	set(&o, ENTRY(2), guest_leaf(sv39, TABLE(2), rw, GUEST_A | GUEST_D, 0));
	assert_int_equal(shadow_stats(&o.s).prefills, 1);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, VD_READ, NULL), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, rw, NULL), -EACCES);
	close_one(&o);
}

/* No table is ever read from a device, so one that satp puts there is none to protect. */
static void a_root_in_a_device_leaves_it_writable(void **state)
{
	struct vd_shadow_root *root;
	struct one o;

	(void)state;
	open_one(&o);
	root = root_of(&o.s, GUEST_BAR);
	assert_int_equal(vd_shadow_fault(o.s.shadow, root, (vd_gva){0}, VD_READ, NULL),
			 -EADDRNOTAVAIL);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.bare, (vd_gva){GUEST_BAR}, rw, NULL), 0);
	assert_int_equal(shadow_walk(&o.s, o.bare, GUEST_BAR, rw, NULL), 0);
	vd_shadow_root_put(o.s.shadow, root);
	close_one(&o);
}

static void an_old_entry_goes_without_a_flush_that_is_owed(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	o.s.f.flush_count = 0;
	set(&o, ENTRY(1), guest_leaf(sv39, DATA, VD_READ, GUEST_A | GUEST_D, 0));
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), -EACCES);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), 0);
	set(&o, ENTRY(1), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	assert_int_equal(o.s.f.flush_count, 0);
	/* Nothing maps the page any more, but a TLB may: B7. */
	vd_shadow_zap(o.s.shadow, (vd_gpa){DATA}, PAGE);
	assert_int_equal(o.s.f.flush_count, 1);
	vd_shadow_zap(o.s.shadow, (vd_gpa){DATA}, PAGE);
	assert_int_equal(o.s.f.flush_count, 1);
	close_one(&o);
}

/* The same permissions, software bits that changed: nothing to do. */
static void an_entry_that_says_the_same_stays(void **state)
{
	uint64_t entry = guest_leaf(sv39, DATA, rw, GUEST_A | GUEST_D, 0);
	uint64_t zaps;
	struct one o;

	(void)state;
	open_one(&o);
	zaps = shadow_stats(&o.s).zaps;
	set(&o, ENTRY(1), entry | 0x300);
	assert_int_equal(shadow_stats(&o.s).zaps, zaps);
	/* The guest cleans the page: the next store must fault. */
	set(&o, ENTRY(1), entry & ~UINT64_C(0x80));
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), -EACCES);
	/* And ages it: the next use must. */
	set(&o, ENTRY(1), entry & ~UINT64_C(0x40));
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	close_one(&o);
}

static void stores_in_a_row_end_it(void **state)
{
	struct one o;
	unsigned i;

	(void)state;
	open_one(&o);
	for (i = 0; i < 20 && !shadow_stats(&o.s).floods; i++)
		set(&o, ENTRY(10 + i), guest_leaf(sv39, DATA, rw, 0, 0));
	assert_in_range(i, 3, 10);
	assert_int_equal(shadow_stats(&o.s).pages, 2 + 3); /* two tables, and the stores' way */
	/* Stores are ordinary ones until it is used again. */
	i = (unsigned)shadow_stats(&o.s).writes;
	set(&o, ENTRY(30), 0);
	set(&o, ENTRY(31), 0);
	assert_int_equal(shadow_stats(&o.s).writes, i);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL), 0);
	set(&o, ENTRY(30), 0);
	assert_int_equal(shadow_stats(&o.s).writes, i + 1);
	close_one(&o);
}

/* What is used in between is a table at work. */
static void entries_that_are_used_are_no_flood(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	for (unsigned i = 10; i < 60; i++) {
		set(&o, ENTRY(i), guest_leaf(sv39, DATA + i * PAGE, rw, GUEST_A | GUEST_D, 0));
		assert_int_equal(shadow_walk(&o.s, o.root, i * PAGE, rw, NULL), 0);
	}
	assert_int_equal(shadow_stats(&o.s).floods, 0);
	assert_int_equal(shadow_stats(&o.s).prefills, 50);
	close_one(&o);
}

static void what_is_no_table_is_shadowed_no_longer(void **state)
{
	struct one o;

	(void)state;
	open_one(&o);
	assert_int_equal(shadow_store(&o.s, o.bare, ENTRY(5) + 1, VD_READ, 7, 1), 0);
	assert_int_equal(shadow_stats(&o.s).floods, 1);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL), 0);
	set(&o, ENTRY(6), ~UINT64_C(0));
	assert_int_equal(shadow_stats(&o.s).floods, 2);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	close_one(&o);
}

/* A root is never taken from under who uses it, but by a store that nobody emulates. */
static void others_that_store_end_it(void **state)
{
	struct vd_shadow_root *again;
	uint64_t nothing = 0;
	struct one o;

	(void)state;
	open_one(&o);
	for (unsigned i = 10; i < 40; i++)
		set(&o, TABLE(0) + 8 * i, 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), 0);
	assert_int_equal(vd_mem_write(o.s.f.mem, (vd_gpa){ENTRY(1)}, &nothing, 8), 0);
	assert_int_equal(shadow_stats(&o.s).foreign_writes, 1);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL),
			 -ENXIO);
	assert_int_equal(vd_mem_write(o.s.f.mem, (vd_gpa){TABLE(0) + 8}, &nothing, 8), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -ENOENT);
	poke(&o.s, ENTRY(1), guest_leaf(sv39, DATA, rw, GUEST_A | GUEST_D, 0));
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL),
			 -ESTALE);
	again = root_of(&o.s, TABLE(0));
	assert_ptr_not_equal(again, o.root);
	vd_shadow_root_put(o.s.shadow, o.root);
	o.root = again;
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){PAGE}, VD_READ, NULL), 0);
	close_one(&o);
}

static void ends_of_pages_are_checked(void **state)
{
	struct vd_shadow_write write;
	struct one o;

	(void)state;
	open_one(&o);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){DATA}, 0, &write), -EINVAL);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){DATA + PAGE - 4}, 8, &write),
			 -EINVAL);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){5 * GIB}, 8, &write), -ENOENT);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){GUEST_TRAP}, 8, &write),
			 -EREMOTE);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){GUEST_ROM}, 8, &write),
			 -EACCES);
	assert_int_equal(vd_shadow_write_begin(o.s.shadow, (vd_gpa){GUEST_BAR}, 8, &write),
			 -EFAULT);
	close_one(&o);
}

/* The host moves memory just before the lock is taken for the @move_at-th time. */
static int move_at;
static bool move_tables; /* or data */
static struct one *moving;

static void moving_lock(const struct vd_env *env, struct vd_lock *lock)
{
	if (move_at && !--move_at)
		assert_int_equal(vd_host_object_move(moving->s.ram, move_tables ? 0 : MIB,
						     8 * PAGE, true), 0);
	checked_lock(env, lock);
}

static void check_page(struct one *o, unsigned n, uint64_t gpa)
{
	struct vd_shadow_leaf leaf;

	if (!shadow_walk(&o->s, o->root, n * PAGE, VD_READ, &leaf))
		assert_int_equal(leaf.leaf.pfn.value, pfn_now(&o->s.f, gpa).value);
}

/* Faults, stores and what is made ahead: each path that installs (B2). */
static void moves_that_come_between_are_seen(void **state)
{
	struct one o;

	(void)state;
	for (int at = 1; at < 20; at++) {
		move_tables = at % 2;
		open_one(&o);
		o.s.f.checked.env.lock = moving_lock;
		moving = &o;
		move_at = at / 2 + 1;
		set(&o, ENTRY(2), guest_leaf(sv39, DATA + 2 * PAGE, rw, GUEST_A | GUEST_D, 0));
		check_page(&o, 2, DATA + 2 * PAGE);
		assert_int_equal(peek(&o.s, ENTRY(2), 8),
				 guest_leaf(sv39, DATA + 2 * PAGE, rw, GUEST_A | GUEST_D, 0));
		poke(&o.s, ENTRY(3), guest_leaf(sv39, DATA + 3 * PAGE, rw, GUEST_A, 0));
		move_at = at / 2 + 1;
		assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){3 * PAGE},
						 VD_WRITE | VD_SHADOW_UPDATE, NULL), 0);
		check_page(&o, 3, DATA + 3 * PAGE);
		assert_true(peek(&o.s, ENTRY(3), 8) & 0x80);
		move_at = 0;
		close_one(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_entry_is_made_ahead_and_old),
		cmocka_unit_test(a_table_is_not_made_writable_ahead),
		cmocka_unit_test(a_root_in_a_device_leaves_it_writable),
		cmocka_unit_test(an_old_entry_goes_without_a_flush_that_is_owed),
		cmocka_unit_test(an_entry_that_says_the_same_stays),
		cmocka_unit_test(stores_in_a_row_end_it),
		cmocka_unit_test(entries_that_are_used_are_no_flood),
		cmocka_unit_test(what_is_no_table_is_shadowed_no_longer),
		cmocka_unit_test(others_that_store_end_it),
		cmocka_unit_test(ends_of_pages_are_checked),
		cmocka_unit_test(moves_that_come_between_are_seen),
	};

	return cmocka_run_group_tests_name("shadow write", tests, NULL, NULL);
}
