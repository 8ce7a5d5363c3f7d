/* SPDX-License-Identifier: BSD-2-Clause */
#include "../base/test_env.h"

#include "mmu/format.h"

static const struct vd_mmu_format *const formats[] = {
	&vd_mmu_format_sv39x4,
	&vd_mmu_format_sv48x4,
	&vd_mmu_format_sv57x4,
};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

static const struct vd_mmu_format *const sv48x4 = &vd_mmu_format_sv48x4;

/* Written out by hand from the manual's figure of an Sv48 entry. */
static void encodes_as_the_manual_says(void **state)
{
	struct vd_mmu_attributes ram = {
		.access = VD_READ | VD_WRITE | VD_EXECUTE, .accessed = true, .dirty = true};
	struct vd_mmu_attributes registers = {
		.access = VD_READ | VD_WRITE, .type = VD_MEMORY_UNCACHED, .device = true};
	struct vd_mmu_attributes frame_buffer = {.access = VD_READ,
						 .type = VD_MEMORY_WRITE_COMBINING};

	(void)state;
	assert_int_equal(sv48x4->leaf_entry(0x80200000, &ram, 1), 0x200800df);
	assert_int_equal(sv48x4->leaf_entry(0x10000000, &registers, 0), 0x4000000004000117);
	assert_int_equal(sv48x4->leaf_entry(0x10000000, &frame_buffer, 0), 0x2000000004000013);
	assert_int_equal(sv48x4->table_entry(0x12345000, 3), 0x048d1401);
	assert_int_equal(sv48x4->leaf_entry(UINT64_C(0xfffffffffff000), &ram, 0),
			 UINT64_C(0x3ffffffffffcdf));
}

/* "Guest Physical Address Translation": two more bits at the top, a root of 16 KiB. */
static void has_the_shape_of_the_manual(void **state)
{
	static const unsigned input[] = {41, 50, 59};

	(void)state;
	for (unsigned i = 0; i < FORMATS; i++) {
		const struct vd_mmu_format *f = formats[i];
		unsigned top = f->levels - 1;

		assert_int_equal(f->levels, 3 + i);
		assert_int_equal(f->input_bits, input[i]);
		assert_int_equal(vd_mmu_format_entries(f, top) * sizeof(uint64_t), 16384);
		assert_int_equal(f->shift[top] + f->bits[top], f->input_bits);
		for (unsigned level = 0; level < top; level++) {
			assert_int_equal(f->shift[level] + f->bits[level], f->shift[level + 1]);
			assert_int_equal(vd_mmu_format_entries(f, level), 512);
		}
		assert_int_equal(vd_mmu_format_size(f, f->block_level), 1 << 30);
	}
}

static void reserved_encodings_are_malformed(void **state)
{
	static const struct {
		uint64_t entry;
		unsigned level;
		enum vd_mmu_entry_kind kind;
	} cases[] = {
		{0, 0, VD_MMU_ABSENT},
		{0xfffffffffffffffe, 0, VD_MMU_ABSENT},	     /* V clear: the rest is software's */
		{0x01, 1, VD_MMU_TABLE},
		{0x01, 0, VD_MMU_MALFORMED},		     /* a pointer at the last level */
		{0x41, 1, VD_MMU_MALFORMED},		     /* A in a pointer */
		{0x81, 1, VD_MMU_MALFORMED},		     /* D in a pointer */
		{0x11, 1, VD_MMU_MALFORMED},		     /* U in a pointer */
		{0x2000000000000001, 1, VD_MMU_MALFORMED},   /* PBMT in a pointer */
		{0x13, 0, VD_MMU_LEAF},
		{0x19, 0, VD_MMU_LEAF},			     /* execute only */
		{0x15, 0, VD_MMU_MALFORMED},		     /* W without R */
		{0x1d, 0, VD_MMU_MALFORMED},		     /* W and X without R */
		{0x03, 0, VD_MMU_MALFORMED},		     /* U clear: not for a guest */
		{0x13 | UINT64_C(1) << 54, 0, VD_MMU_MALFORMED},
		{0x13 | UINT64_C(1) << 60, 0, VD_MMU_MALFORMED},
		{0x13 | UINT64_C(1) << 63, 0, VD_MMU_MALFORMED}, /* NAPOT of no size */
		{0x2013 | UINT64_C(1) << 63, 0, VD_MMU_LEAF},	     /* of 64 KiB */
		{0x6013 | UINT64_C(1) << 63, 0, VD_MMU_LEAF},
		{0x2413 | UINT64_C(1) << 63, 0, VD_MMU_MALFORMED},
		{0x3013 | UINT64_C(1) << 63, 0, VD_MMU_MALFORMED},
		{0x4013 | UINT64_C(1) << 63, 0, VD_MMU_MALFORMED},
		{0x13 | UINT64_C(1) << 63, 1, VD_MMU_MALFORMED}, /* NAPOT of a block */
		{0x01 | UINT64_C(1) << 63, 1, VD_MMU_MALFORMED}, /* N in a pointer */
		{0x13 | UINT64_C(3) << 61, 0, VD_MMU_MALFORMED}, /* PBMT 3 */
		{0x13 | UINT64_C(2) << 61, 0, VD_MMU_LEAF},
		{0x13 | 1 << 10, 0, VD_MMU_LEAF},
		{0x13 | 1 << 10, 1, VD_MMU_MALFORMED},	     /* misaligned 2 MiB */
		{0x13 | 1 << 18, 1, VD_MMU_MALFORMED},
		{0x13 | 1 << 19, 1, VD_MMU_LEAF},
		{0x13 | 1 << 27, 2, VD_MMU_MALFORMED},
		{0x13 | 1 << 28, 2, VD_MMU_LEAF},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (sv48x4->kind(cases[i].entry, cases[i].level) != cases[i].kind)
			fail_msg("entry 0x%llx at level %u", (unsigned long long)cases[i].entry,
				 cases[i].level);
	}
}

static struct vd_mmu_attributes random_attributes(uint64_t *seed)
{
	uint64_t r = test_random(seed);
	struct vd_mmu_attributes attributes = {
		.access = VD_READ | (r & (VD_WRITE | VD_EXECUTE)),
		.type = (enum vd_memory_type)(r / 8 % 3),
		.accessed = r & 64,
		.dirty = r & 128,
		.device = r & 256,
	};

	return attributes;
}

static void assert_same(const struct vd_mmu_attributes *a, const struct vd_mmu_attributes *b)
{
	assert_int_equal(a->access, b->access);
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->accessed, b->accessed);
	assert_int_equal(a->dirty, b->dirty);
	assert_int_equal(a->device, b->device);
}

/* Whatever is encoded is decoded again, and each change of a leaf changes what it says only. */
static void round_trips(void **state)
{
	uint64_t seed = *test_seed() = 11;

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		const struct vd_mmu_format *f = formats[n % FORMATS];
		unsigned level = n / FORMATS % 3;
		uint64_t size = vd_mmu_format_size(f, level);
		uint64_t address = test_random(&seed) >> 8 & ~(size - 1);
		struct vd_mmu_attributes in = random_attributes(&seed), out;
		uint64_t entry = f->leaf_entry(address, &in, level);

		assert_int_equal(f->kind(entry, level), VD_MMU_LEAF);
		assert_int_equal(f->address(entry, level), address);
		f->attributes(entry, level, &out);
		assert_same(&in, &out);
		for (unsigned access = 0; access < 8; access++)
			assert_int_equal(f->allows(entry, access, level), !(access & ~in.access));

		f->attributes(f->used(entry, VD_READ, level), level, &out);
		in.accessed = true;
		assert_same(&in, &out);
		f->attributes(f->used(entry, VD_WRITE, level), level, &out);
		in.dirty = true;
		assert_same(&in, &out);
		f->attributes(f->aged(f->used(entry, VD_WRITE, level), level), level, &out);
		in.accessed = false;
		assert_same(&in, &out);
		f->attributes(f->aged(f->write_protected(entry, level), level), level, &out);
		in.access &= ~VD_WRITE;
		in.dirty = false;
		assert_same(&in, &out);
		assert_int_equal(f->address(f->write_protected(entry, level), level), address);
	}
}

/* A first stage: 9 bits a level, leaves that are not the user's, and global ones. */
static void first_stage_has_user_and_global(void **state)
{
	static const struct vd_mmu_format *const first[] = {
		&vd_mmu_format_sv39, &vd_mmu_format_sv48, &vd_mmu_format_sv57};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const struct vd_mmu_format *f = first[i];
		struct vd_mmu_attributes attributes = {.access = VD_READ};

		assert_int_equal(f->levels, 3 + i);
		assert_int_equal(f->input_bits, 39 + 9 * i);
		assert_true(f->flags & VD_MMU_FORMAT_STAGE1);
		for (unsigned level = 0; level < f->levels; level++)
			assert_int_equal(vd_mmu_format_entries(f, level), 512);
		assert_int_equal(f->kind(0x03, 0), VD_MMU_LEAF);
		assert_int_equal(f->leaf_entry(0x1000, &attributes, 0), 0x403);
		attributes.user = true;
		assert_int_equal(f->leaf_entry(0x1000, &attributes, 0), 0x413);
		attributes.global = true;
		assert_int_equal(f->leaf_entry(0x1000, &attributes, 0), 0x433);
		f->attributes(0x423, 0, &attributes);
		assert_false(attributes.user);
		assert_true(attributes.global);
	}
	assert_false(sv48x4->flags & VD_MMU_FORMAT_STAGE1);
}

/* "Svnapot": what each page of a group has is the same entry, and says where the group is. */
static void groups_of_64_kib(void **state)
{
	struct vd_mmu_attributes ram = {.access = VD_READ};

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		uint64_t address = 0x12340000 + 0x1000 * i;
		uint64_t entry = sv48x4->leaf_entry(address, &ram, 0);
		uint64_t marked = sv48x4->contiguous_entry(entry, address, 0, true);

		assert_false(sv48x4->is_contiguous(entry, 0));
		assert_true(sv48x4->is_contiguous(marked, 0));
		assert_int_equal(marked, 0x80000000048d2013);
		assert_int_equal(vd_mmu_format_span(sv48x4, marked, 0), 65536);
		assert_int_equal(sv48x4->address(marked, 0) & ~UINT64_C(0xffff), 0x12340000);
		assert_int_equal(sv48x4->contiguous_entry(marked, address, 0, false), entry);
	}
}

/* A table entry leads to the table it was made from, on either side of the window. */
static void table_entries_lead_back(void **state)
{
	static uint64_t table[512] __attribute__((aligned(4096)));
	uintptr_t bases[] = {0, 4096, (uintptr_t)table - 8192, (uintptr_t)table + 4096,
			     (uintptr_t)1 << 46};

	(void)state;
	for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		uint64_t distance = vd_mmu_format_distance(sv48x4, bases[i], table);
		uint64_t entry = sv48x4->table_entry(distance, 2);

		assert_int_equal(sv48x4->kind(entry, 2), VD_MMU_TABLE);
		assert_ptr_equal(vd_mmu_format_table(sv48x4, bases[i], entry, 2), table);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_as_the_manual_says),
		cmocka_unit_test(has_the_shape_of_the_manual),
		cmocka_unit_test(reserved_encodings_are_malformed),
		cmocka_unit_test_teardown(round_trips, test_seed_print),
		cmocka_unit_test(first_stage_has_user_and_global),
		cmocka_unit_test(groups_of_64_kib),
		cmocka_unit_test(table_entries_lead_back),
	};

	return cmocka_run_group_tests_name("mmu format_riscv", tests, NULL, NULL);
}
