/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random guests on shadow tables, of every kind, against a walk of their own tables afresh: tables
 * are edited, by harts and by others, roots are switched, memory moves and is protected, discarded,
 * aged, and pages are recycled. After each step what the tables hold may be less than the guest's
 * say, never more; and an access ends as the plain walk does.
 */
#include "shadow_fixture.h"

#define TABLES_A_LEVEL 3u
#define DATA_PAGES 24u
#define STEPS 4000u
#define ROOTS 2u

struct model {
	struct shadowed s;
	struct vd_shadow_root *roots[ROOTS], *bare;
	uint64_t tables[5][TABLES_A_LEVEL];
	uint64_t data[DATA_PAGES];
};

static uint64_t rnd(void)
{
	return test_random(test_state());
}

static uint64_t pick(uint64_t n)
{
	return rnd() % n;
}

static int read_ram(void *context, uint64_t gpa, unsigned bytes, uint64_t *value)
{
	struct shadowed *s = context;
	struct vd_mem_page page;

	if (vd_mem_gpa_to_pfn(s->f.mem, (vd_gpa){gpa}, VD_READ, &page) || page.kind != VD_SLOT_RAM)
		return -EFAULT;
	*value = peek(s, gpa, bytes);
	return 0;
}

static void model_layout(struct model *m)
{
	uint64_t gpa = GUEST_RAM;

	for (unsigned level = 0; level < 5; level++) {
		for (unsigned i = 0; i < TABLES_A_LEVEL; i++, gpa += PAGE)
			m->tables[level][i] = gpa;
	}
	if (m->s.kind->format == &vd_guest_format_x86_pae)
		m->tables[2][1] = m->tables[2][0] + 0x7e0; /* two roots in one page */
	for (unsigned i = 0; i < DATA_PAGES; i++)
		m->data[i] = GUEST_RAM + (i < 16 ? MIB : 3 * MIB) + i * PAGE;
}

/* Few different indices, so that ways meet; the ends of the tables among them. */
static uint64_t random_index(const struct vd_guest_format *shape, unsigned level)
{
	uint64_t count = UINT64_C(1) << shape->bits[level];

	switch (pick(8)) {
	case 0:
		return count - 1;
	case 1:
		return count / 2;
	default:
		return pick(2) + (count > 512 && pick(2) ? 512 : 0);
	}
}

static uint64_t random_gva(const struct model *m)
{
	const struct vd_guest_format *shape = m->s.kind->format;
	unsigned unused = 64 - shape->input_bits;
	uint64_t gva = pick(512) * 8;

	for (unsigned level = 0; level < shape->levels; level++)
		gva |= random_index(shape, level) << shape->shift[level];
	if (shape->flags & VD_GUEST_SIGNED && pick(40))
		gva = (uint64_t)((int64_t)(gva << unused) >> unused);
	return gva;
}

static uint64_t random_target(struct model *m, unsigned level)
{
	uint64_t size = UINT64_C(1) << m->s.kind->format->shift[level];
	uint64_t gpa;

	switch (pick(12)) {
	case 0:
		gpa = GUEST_BAR + pick(8) * PAGE;
		break;
	case 1:
		gpa = GUEST_ROM + pick(4) * PAGE;
		break;
	case 2:
		gpa = pick(2) ? GUEST_TRAP : 5 * GIB;
		break;
	case 3:
	case 4:
		gpa = m->tables[pick(m->s.kind->format->levels)][pick(TABLES_A_LEVEL)];
		break;
	case 5:
		gpa = GUEST_RAM + pick(1024) * PAGE;
		break;
	default:
		gpa = m->data[pick(DATA_PAGES)];
		break;
	}
	if (m->s.kind->format->input_bits == 32)
		gpa &= 0xffffffff;
	return gpa & ~(size - 1);
}

static uint64_t random_entry(struct model *m, unsigned level)
{
	const struct guest_kind *kind = m->s.kind;
	unsigned access = (unsigned)rnd() & 15;
	uint64_t r = pick(16);

	if (level >= kind->format->levels)
		level = 0;
	if (r == 0)
		return rnd(); /* anything at all */
	if (r < 3)
		return 0;
	if (level && (r < 12 || level >= kind->leaf_levels)) {
		uint64_t entry = guest_table(kind, m->tables[level - 1][pick(TABLES_A_LEVEL)],
					     level);

		/* x86: permissions of tables count as well. */
		if (!kind->riscv && kind->leaf_levels > level && !pick(4))
			entry &= ~(UINT64_C(2) << pick(2));
		return entry;
	}
	if (pick(4))
		access |= VD_READ;
	return guest_leaf(kind, random_target(m, level), access, (unsigned)rnd() & 3, level);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static unsigned random_access(void)
{
	static const unsigned kinds[] = {VD_READ, VD_WRITE, VD_READ | VD_WRITE, VD_EXECUTE};
	unsigned access = kinds[pick(4)];

	if (pick(2))
		access |= VD_SHADOW_USER;
	if (pick(2))
		access |= VD_SHADOW_SUM;
	if (!pick(4))
		access |= VD_SHADOW_MXR;
	if (pick(3))
		access |= VD_SHADOW_UPDATE;
	if (!pick(6))
		access |= VD_SHADOW_NO_WP;
	if (!pick(4))
		access |= VD_SHADOW_USER_CODE;
	return access;
}

/* What slot and host say at the end of the guest's way. */
static int target_result(struct model *m, const struct guest_found *found, unsigned access)
{
	struct vd_mem_page page;
	int ret = vd_mem_gpa_to_pfn(m->s.f.mem, (vd_gpa){found->gpa}, access & 7, &page);

	if (!ret && access & VD_EXECUTE && page.kind == VD_SLOT_DEVICE)
		ret = -EACCES;
	return ret;
}

static void check_bits(struct model *m, const struct guest_found *found)
{
	for (unsigned i = 0; i < found->levels; i++)
		assert_int_equal(peek(&m->s, found->entry_gpa[i], m->s.kind->format->entry_bytes),
				 found->after[i]);
}

/* Whether what the shadow lets through, the guest, slot and host do. */
static void check_walk(struct model *m, unsigned root, uint64_t gva, unsigned access)
{
	struct vd_shadow_leaf leaf;
	struct guest_found found;
	struct vd_mem_page page;

	if (!m->roots[root] || shadow_walk(&m->s, m->roots[root], gva, access, &leaf))
		return;
	guest_walk_plain(m->s.kind, m->tables[m->s.kind->format->levels - 1][root], gva, access,
			 read_ram, &m->s, &found);
	assert_int_equal(found.result, 0);
	check_bits(m, &found);
	assert_int_equal(target_result(m, &found, access), 0);
	assert_int_equal(leaf.guest_size, found.size);
	assert_int_equal(vd_mem_gpa_to_pfn(m->s.f.mem, (vd_gpa){found.gpa}, VD_READ, &page), 0);
	assert_int_equal(leaf.leaf.pfn.value, page.host.pfn.value);
	assert_int_equal(leaf.leaf.device, page.kind == VD_SLOT_DEVICE);
	assert_int_equal(leaf.leaf.type, page.host.type);
	if (access & VD_WRITE)
		assert_true(page.host.writable && found.dirty);
}

static void switch_root(struct model *m, unsigned root)
{
	if (m->roots[root])
		vd_shadow_root_put(m->s.shadow, m->roots[root]);
	m->roots[root] = root_of(&m->s, m->tables[m->s.kind->format->levels - 1][root]);
}

static void one_access(struct model *m)
{
	unsigned root = (unsigned)pick(ROOTS), access = random_access();
	uint64_t gva = random_gva(m);
	struct vd_shadow_access what = {.guest_size = 0};
	struct guest_found found;
	void *host = NULL;
	int expected, ret;

	guest_walk_plain(m->s.kind, m->tables[m->s.kind->format->levels - 1][root], gva, access,
			 read_ram, &m->s, &found);
	expected = found.result;
	if (!expected)
		expected = target_result(m, &found, access);
	if (!m->roots[root])
		switch_root(m, root);
	while ((ret = shadow_access(&m->s, m->roots[root], gva, access, &host, &what)) == -ESTALE)
		switch_root(m, root);
	if (ret == VD_SHADOW_EMULATE) {
		assert_true(access & VD_WRITE);
		assert_int_equal(what.gpa.value, found.gpa);
		ret = 0;
	} else if (!ret) {
		assert_ptr_equal(host, gpa_pointer(&m->s, found.gpa));
	}
	/* Executable only, read by MXR, where the slot lets nobody execute: no entry says that. */
	if (ret == -EOPNOTSUPP && access & VD_SHADOW_MXR && !expected)
		ret = 0;
	if (ret != expected)
		fail_msg("%s: gva %llx access %x: %d, expected %d", m->s.kind->format->name,
			 (unsigned long long)gva, access, ret, expected);
	check_bits(m, &found);
	if (!expected && !(access & VD_SHADOW_NO_WP))
		check_walk(m, root, gva, access);
	/* A guest edits its tables by any mapping of them that allows it. */
	if (!expected && access & VD_WRITE && found.gpa - GUEST_RAM < 15 * PAGE)
		assert_int_equal(shadow_store(&m->s, m->roots[root], gva, access,
					      random_entry(m, (found.gpa - GUEST_RAM) / PAGE /
									  TABLES_A_LEVEL),
					      m->s.kind->format->entry_bytes), 0);
}

/* By a hart, with paging off: bytes of 8, or 4, or now and then less. */
static void one_edit(struct model *m)
{
	unsigned level = (unsigned)pick(m->s.kind->format->levels);
	unsigned bytes = m->s.kind->format->entry_bytes, run = pick(6) ? 1 : 1 + (unsigned)pick(8);
	uint64_t table = m->tables[level][pick(TABLES_A_LEVEL)];
	uint64_t gpa = table + random_index(m->s.kind->format, level) * bytes;

	while (run-- && gpa - table < (uint64_t)bytes << m->s.kind->format->bits[level]) {
		uint64_t value = random_entry(m, level);

		if (!pick(30)) /* half an entry, or a byte of it */
			assert_int_equal(shadow_store(&m->s, m->bare, gpa, VD_READ, value,
						      1u << pick(3)), 0);
		else
			assert_int_equal(shadow_store(&m->s, m->bare, gpa, VD_READ, value, bytes),
					 0);
		gpa += bytes;
	}
}

static void one_foreign_edit(struct model *m)
{
	unsigned level = (unsigned)pick(m->s.kind->format->levels);
	uint64_t gpa = m->tables[level][pick(TABLES_A_LEVEL)] +
		       random_index(m->s.kind->format, level) * m->s.kind->format->entry_bytes;
	uint64_t value = random_entry(m, level);

	assert_int_equal(vd_mem_write(m->s.f.mem, (vd_gpa){gpa}, &value,
				      m->s.kind->format->entry_bytes), 0);
}

static void one_host_change(struct model *m)
{
	uint64_t offset = pick(4) ? pick(16) * PAGE : MIB + pick(16) * PAGE;
	uint64_t length = (1 + pick(3)) * PAGE;
	struct vd_host_object *ram = m->s.ram;
	int ret;

	switch (pick(5)) {
	case 0:
		ret = vd_host_object_move(ram, offset, length, true);
		assert_true(ret == 0 || ret == -ENOMEM || ram != m->s.f.spares);
		break;
	case 1:
		assert_int_equal(vd_host_object_protect(ram, MIB + offset, length, false, true), 0);
		break;
	case 2:
		assert_int_equal(vd_host_object_protect(ram, 0, SPARES_BYTES, true, true), 0);
		break;
	case 3:
		assert_int_equal(vd_host_object_discard(ram, offset, PAGE, true), 0);
		break;
	default:
		vd_shadow_zap(m->s.shadow, (vd_gpa){GUEST_RAM + offset}, length);
		break;
	}
}

static void one_step(struct model *m)
{
	uint64_t r = pick(100);

	if (r < 50)
		one_access(m);
	else if (r < 80)
		one_edit(m);
	else if (r < 82)
		one_foreign_edit(m);
	else if (r < 88)
		one_host_change(m);
	else if (r < 92)
		switch_root(m, (unsigned)pick(ROOTS));
	else if (r < 94)
		vd_shadow_write_protect(m->s.shadow, (vd_gpa){GUEST_RAM}, SPARES_BYTES);
	else if (r < 96)
		vd_shadow_clear_young(m->s.shadow, (vd_gpa){GUEST_RAM + pick(512) * PAGE}, MIB);
	for (unsigned i = 0; i < 4; i++)
		check_walk(m, (unsigned)pick(ROOTS), random_gva(m), random_access());
}

static uint64_t recycled;

static void run_model(const struct guest_kind *kind, const struct vd_mmu_format *format,
		      unsigned pages, unsigned steps)
{
	static struct model m;
	struct vd_shadow_stats stats;

	memset(&m, 0, sizeof(m));
	shadow_open(&m.s, kind, format, pages, steps % 2);
	model_layout(&m);
	for (unsigned level = 0; level < kind->format->levels; level++) {
		for (unsigned i = 0; i < 200; i++)
			poke(&m.s, m.tables[level][pick(TABLES_A_LEVEL)] +
					   random_index(kind->format, level) *
						   kind->format->entry_bytes,
			     random_entry(&m, level));
	}
	assert_int_equal(vd_shadow_root_get(m.s.shadow, &vd_guest_format_bare, (vd_gpa){0},
					    &m.bare), 0);
	for (unsigned i = 0; i < steps; i++)
		one_step(&m);
	stats = shadow_stats(&m.s);
	assert_true(stats.faults && stats.prefills && stats.writes && stats.zaps && stats.floods &&
		    stats.foreign_writes && stats.guest_faults);
	assert_true(!stats.recycled || pages);
	recycled += stats.recycled;
	for (unsigned i = 0; i < ROOTS; i++) {
		if (m.roots[i])
			vd_shadow_root_put(m.s.shadow, m.roots[i]);
	}
	vd_shadow_root_put(m.s.shadow, m.bare);
	shadow_close(&m.s);
}

static void every_kind_of_guest(void **state)
{
	(void)state;
	for (unsigned i = 0; i < guest_kind_count; i++) {
		test_start(100 + i);
		run_model(&guest_kinds[i], &vd_mmu_format_sv57, 0, STEPS);
	}
}

static void memory_that_allows_blocks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < guest_kind_count; i++) {
		test_start(400 + i);
		run_model(&guest_kinds[i], &vd_mmu_format_sv57, 0, STEPS + 1);
	}
}

static void tables_as_deep_as_the_guests(void **state)
{
	(void)state;
	test_start(200);
	run_model(&guest_kinds[0], &vd_mmu_format_sv39, 0, STEPS);
	run_model(&guest_kinds[1], &vd_mmu_format_sv48, 0, STEPS);
	run_model(&guest_kinds[3], &vd_mmu_format_sv39, 0, STEPS);
	run_model(&guest_kinds[4], &vd_mmu_format_sv39, 0, STEPS);
	run_model(&guest_kinds[3], &vd_mmu_format_pae, 0, STEPS);
	run_model(&guest_kinds[4], &vd_mmu_format_pae, 0, STEPS);
	run_model(&guest_kinds[3], &vd_mmu_format_x86_64, 0, STEPS);
	run_model(&guest_kinds[4], &vd_mmu_format_x86_64, 0, STEPS);
	run_model(&guest_kinds[5], &vd_mmu_format_x86_64, 0, STEPS);
	run_model(&guest_kinds[6], &vd_mmu_format_x86_64_la57, 0, STEPS);
}

static void a_budget_that_is_too_small(void **state)
{
	(void)state;
	for (unsigned i = 0; i < guest_kind_count; i++) {
		test_start(300 + i);
		run_model(&guest_kinds[i], &vd_mmu_format_sv57, VD_SHADOW_PAGES_MIN, STEPS);
	}
	assert_true(recycled > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(every_kind_of_guest, test_seed_print),
		cmocka_unit_test_teardown(memory_that_allows_blocks, test_seed_print),
		cmocka_unit_test_teardown(tables_as_deep_as_the_guests, test_seed_print),
		cmocka_unit_test_teardown(a_budget_that_is_too_small, test_seed_print),
	};

	return cmocka_run_group_tests_name("shadow model", tests, NULL, NULL);
}
