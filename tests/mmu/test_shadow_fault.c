/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Row A9: what an entry of the shadow allows is what guest, slot and host allow, and no more; and
 * what races with the making of an entry.
 */
#include "shadow_fixture.h"

#define TABLE(n) (GUEST_RAM + (n) * PAGE)
#define DATA (GUEST_RAM + MIB)
#define USER (VD_SHADOW_USER)
#define SUM (VD_SHADOW_SUM)

static const struct guest_kind *const sv39 = &guest_kinds[0];

struct one {
	struct shadowed s;
	struct vd_shadow_root *root;
};

static void open_one(struct one *o, bool large)
{
	shadow_open(&o->s, sv39, &vd_mmu_format_sv39, 0, large);
	poke(&o->s, TABLE(0), guest_table(sv39, TABLE(1), 2));
	poke(&o->s, TABLE(1), guest_table(sv39, TABLE(2), 1));
	o->root = root_of(&o->s, TABLE(0));
}

static void close_one(struct one *o)
{
	vd_shadow_root_put(o->s.shadow, o->root);
	shadow_close(&o->s);
}

/* Page @n of the address space. */
static void map(struct one *o, unsigned n, uint64_t gpa, unsigned access, unsigned bits)
{
	poke(&o->s, TABLE(2) + 8 * n, guest_leaf(sv39, gpa, access, bits, 0));
}

static int fault_at(struct one *o, uint64_t gva, unsigned access)
{
	return vd_shadow_fault(o->s.shadow, o->root, (vd_gva){gva}, access, NULL);
}

static void user_pages_are_the_users(void **state)
{
	struct one o;

	(void)state;
	open_one(&o, false);
	map(&o, 1, DATA, VD_READ | VD_EXECUTE | USER, GUEST_A);
	map(&o, 2, DATA, VD_READ | VD_EXECUTE, GUEST_A);
	assert_int_equal(fault_at(&o, PAGE, VD_READ), -EPERM);
	assert_int_equal(fault_at(&o, PAGE, VD_READ | USER), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ | USER, NULL), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, NULL), -EACCES);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ | SUM, NULL), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_EXECUTE | USER, NULL), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_EXECUTE | SUM, NULL), -EACCES);
	assert_int_equal(fault_at(&o, 2 * PAGE, VD_READ), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, VD_READ | USER, NULL), -EACCES);
	assert_int_equal(fault_at(&o, 2 * PAGE, VD_READ | USER), -EPERM);
	close_one(&o);
}

static void execution_is_the_guests_to_allow(void **state)
{
	struct one o;

	(void)state;
	open_one(&o, false);
	map(&o, 1, DATA, VD_READ, GUEST_A);
	map(&o, 2, DATA, VD_EXECUTE, GUEST_A);
	map(&o, 3, GUEST_BAR, VD_READ | VD_EXECUTE, GUEST_A);
	assert_int_equal(fault_at(&o, PAGE, VD_EXECUTE), -EPERM);
	assert_int_equal(fault_at(&o, 2 * PAGE, VD_EXECUTE), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, VD_READ, NULL), -EACCES);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * PAGE, VD_READ | VD_SHADOW_MXR, NULL), 0);
	/* The slot's: a device is not executed. */
	assert_int_equal(fault_at(&o, 3 * PAGE, VD_EXECUTE), -EACCES);
	close_one(&o);
}

static void clean_pages_are_not_writable(void **state)
{
	const unsigned rw = VD_READ | VD_WRITE;
	uint64_t entry = TABLE(2) + 8;
	struct vd_shadow_leaf leaf;
	struct one o;

	(void)state;
	open_one(&o, false);
	map(&o, 1, DATA, rw, GUEST_A);
	assert_int_equal(fault_at(&o, PAGE, VD_READ), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, &leaf), 0);
	assert_int_equal(leaf.leaf.access, VD_READ);
	/* The guest's kernel sets the bit, or the processor does. */
	assert_int_equal(fault_at(&o, PAGE, VD_WRITE), -EPERM);
	assert_false(peek(&o.s, entry, 8) & 0x80);
	assert_int_equal(fault_at(&o, PAGE, VD_WRITE | VD_SHADOW_UPDATE), 0);
	assert_true(peek(&o.s, entry, 8) & 0x80);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, &leaf), 0);
	assert_true(leaf.leaf.dirty);
	map(&o, 2, DATA, rw, 0);
	assert_int_equal(fault_at(&o, 2 * PAGE, VD_READ), -EPERM);
	assert_int_equal(fault_at(&o, 2 * PAGE, VD_READ | VD_SHADOW_UPDATE), 0);
	assert_int_equal(peek(&o.s, TABLE(2) + 16, 8) & 0xc0, 0x40);
	/* Dirty before: writable at the first read. */
	map(&o, 3, DATA, rw, GUEST_A | GUEST_D);
	assert_int_equal(fault_at(&o, 3 * PAGE, VD_READ), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 3 * PAGE, rw, NULL), 0);
	assert_int_equal(shadow_stats(&o.s).guest_faults, 2);
	close_one(&o);
}

static void errors_are_distinct(void **state)
{
	struct vd_shadow_access what;
	struct one o;

	(void)state;
	open_one(&o, false);
	map(&o, 1, 5 * GIB, VD_READ, GUEST_A);
	map(&o, 2, GUEST_TRAP, VD_READ, GUEST_A);
	map(&o, 3, GUEST_ROM, VD_READ | VD_WRITE, GUEST_A | GUEST_D);
	poke(&o.s, TABLE(2) + 8 * 4, ~UINT64_C(0));
	poke(&o.s, TABLE(1) + 8, guest_table(sv39, GUEST_BAR, 1));
	assert_int_equal(fault_at(&o, 0, VD_READ), -ENXIO);
	assert_int_equal(fault_at(&o, UINT64_C(1) << 38, VD_READ), -ENXIO);
	assert_int_equal(fault_at(&o, PAGE, VD_READ), -ENOENT);
	assert_int_equal(vd_shadow_fault(o.s.shadow, o.root, (vd_gva){2 * PAGE + 8}, VD_READ,
					 &what), -EREMOTE);
	assert_int_equal(what.gpa.value, GUEST_TRAP + 8);
	assert_int_equal(fault_at(&o, 3 * PAGE, VD_WRITE), -EACCES);
	assert_int_equal(fault_at(&o, 3 * PAGE, VD_READ), 0);
	assert_int_equal(fault_at(&o, 4 * PAGE, VD_READ), -EBADMSG);
	assert_int_equal(fault_at(&o, 2 * MIB, VD_READ), -EADDRNOTAVAIL);
	close_one(&o);
}

/* Another hart had leave to store to the table until the flush, and used it. */
static struct one *racing;

static void racing_flush(void *context, vd_gpa start, uint64_t length)
{
	(void)context, (void)start, (void)length;
	map(racing, 1, DATA + PAGE, VD_READ, GUEST_A);
}

static void entries_are_read_once_their_table_is_protected(void **state)
{
	struct vd_shadow_config config;
	struct vd_shadow_root *bare;
	struct vd_shadow_leaf leaf;
	void *host = NULL;
	struct one o;

	(void)state;
	shadow_open_world(&o.s, sv39, false);
	config = (struct vd_shadow_config){.env = &o.s.f.checked.env, .mem = o.s.f.mem,
					   .format = &vd_mmu_format_sv39, .flush = racing_flush};
	assert_int_equal(vd_shadow_create(&config, &o.s.shadow, NULL), 0);
	poke(&o.s, TABLE(0), guest_table(sv39, TABLE(1), 2));
	poke(&o.s, TABLE(1), guest_table(sv39, TABLE(2), 1));
	map(&o, 1, DATA, VD_READ, GUEST_A);
	racing = &o;
	o.root = root_of(&o.s, TABLE(0));
	assert_int_equal(vd_shadow_root_get(o.s.shadow, &vd_guest_format_bare, (vd_gpa){0}, &bare),
			 0);
	/* Writable to that hart. */
	assert_int_equal(shadow_access(&o.s, bare, TABLE(2), VD_WRITE | VD_READ, &host, NULL), 0);
	assert_int_equal(fault_at(&o, PAGE, VD_READ), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, VD_READ, &leaf), 0);
	assert_int_equal(leaf.leaf.pfn.value, pfn_now(&o.s.f, DATA + PAGE).value);
	assert_int_equal(shadow_stats(&o.s).retries, 1);
	assert_int_equal(vd_shadow_fault(o.s.shadow, bare, (vd_gva){TABLE(2)}, VD_WRITE, NULL),
			 VD_SHADOW_EMULATE);
	vd_shadow_root_put(o.s.shadow, bare);
	close_one(&o);
}

/* A block is broken where a table lies in it, before and after it was mapped. */
static void blocks_keep_off_tables(void **state)
{
	const unsigned rw = VD_READ | VD_WRITE;
	struct vd_shadow_leaf leaf;
	struct one o;

	(void)state;
	open_one(&o, true);
	poke(&o.s, TABLE(1) + 8, guest_leaf(sv39, GUEST_RAM + 2 * MIB, rw, GUEST_A | GUEST_D, 1));
	poke(&o.s, TABLE(1) + 16, guest_leaf(sv39, GUEST_RAM, rw, GUEST_A | GUEST_D, 1));
	assert_int_equal(fault_at(&o, 2 * MIB, VD_WRITE), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * MIB, rw, &leaf), 0);
	assert_int_equal(leaf.leaf.size, 2 * MIB);
	/* The tables so far lie in the other. */
	assert_int_equal(fault_at(&o, 4 * MIB, VD_WRITE), VD_SHADOW_EMULATE);
	assert_int_equal(fault_at(&o, 4 * MIB + 99 * PAGE, VD_WRITE), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, 4 * MIB + 99 * PAGE, rw, &leaf), 0);
	assert_int_equal(leaf.leaf.size, PAGE);
	assert_int_equal(leaf.guest_size, 2 * MIB);
	/* A table in the middle of the block that is mapped. */
	poke(&o.s, TABLE(1) + 24, guest_table(sv39, GUEST_RAM + 3 * MIB, 1));
	poke(&o.s, GUEST_RAM + 3 * MIB, guest_leaf(sv39, DATA, VD_READ, GUEST_A, 0));
	o.s.f.flush_count = 0;
	assert_int_equal(fault_at(&o, 6 * MIB, VD_READ), 0);
	assert_int_equal(o.s.f.flush_count, 1);
	assert_int_equal(shadow_walk(&o.s, o.root, 2 * MIB, rw, &leaf), -ENOENT);
	assert_int_equal(fault_at(&o, 3 * MIB, VD_WRITE), VD_SHADOW_EMULATE);
	assert_int_equal(fault_at(&o, 2 * MIB, VD_WRITE), 0);
	close_one(&o);
}

static void a_logged_page_is_marked_before_it_is_writable(void **state)
{
	uint8_t bitmap[SPARES_BYTES / PAGE / 8];
	const unsigned rw = VD_READ | VD_WRITE;
	struct one o;

	(void)state;
	open_one(&o, false);
	map(&o, 1, DATA, rw, GUEST_A | GUEST_D);
	assert_int_equal(fault_at(&o, PAGE, VD_WRITE), 0);
	assert_int_equal(vd_mem_dirty_start(o.s.f.mem, o.s.ram_slot), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), -EACCES);
	assert_int_equal(fault_at(&o, PAGE, VD_READ), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), -EACCES);
	assert_int_equal(vd_mem_dirty_fetch(o.s.f.mem, o.s.ram_slot, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[MIB / PAGE / 8], 0);
	assert_int_equal(fault_at(&o, PAGE, VD_WRITE), 0);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), 0);
	assert_int_equal(vd_mem_dirty_fetch(o.s.f.mem, o.s.ram_slot, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[MIB / PAGE / 8], 1);
	assert_int_equal(shadow_walk(&o.s, o.root, PAGE, rw, NULL), -EACCES);
	close_one(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(user_pages_are_the_users),
		cmocka_unit_test(execution_is_the_guests_to_allow),
		cmocka_unit_test(clean_pages_are_not_writable),
		cmocka_unit_test(errors_are_distinct),
		cmocka_unit_test(entries_are_read_once_their_table_is_protected),
		cmocka_unit_test(blocks_keep_off_tables),
		cmocka_unit_test(a_logged_page_is_marked_before_it_is_writable),
	};

	return cmocka_run_group_tests_name("shadow fault", tests, NULL, NULL);
}
