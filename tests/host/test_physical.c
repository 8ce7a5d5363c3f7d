/* SPDX-License-Identifier: BSD-2-Clause */
/* A host that is the machine: the memory map, what it refuses and why, and lookups. */
#include "../base/test_env.h"

#include <stdio.h>
#include <string.h>

#include <viaduct/host.h>

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)

/* A board with RAM at 0: 0 is an address. Two neighbours alike, one that is not; a hole; devices. */
static const struct vd_physical_range board[] = {
	{0x40000000, 16 * MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
	{0, MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
	{0x41000000, 16 * MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
	{0x42000000, MIB, VD_PAGE_RESERVED, VD_MEMORY_NORMAL, false},
	{0x09000000, PAGE, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
	{0x09001000, PAGE, VD_PAGE_DEVICE, VD_MEMORY_WRITE_COMBINING, false},
	{0x40200000, MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, true},
	{0xffffff00000000, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
};

struct fixture {
	struct test_env test;
	struct vd_host *host;
};

static int create(struct fixture *f, const struct vd_physical_range *ranges, uint32_t count,
		  unsigned page_shift)
{
	struct vd_host_physical_config config = {&f->test.env, page_shift, ranges, count};
	struct vd_error error = {.text = ""};
	int result = vd_host_create_physical(&config, &f->host, &error);

	if (result) {
		assert_int_equal(error.code, result);
		assert_true(strlen(error.text) > 0);
	}
	return result;
}

static void open_board(struct fixture *f)
{
	test_env_init(&f->test);
	assert_int_equal(create(f, board, sizeof(board) / sizeof(board[0]), 12), 0);
}

static void close_board(struct fixture *f)
{
	vd_host_destroy(f->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f->test.blocks, 0);
}

static int make(struct fixture *f, uint64_t start, uint64_t length, unsigned flags)
{
	struct vd_host_object *object = NULL;
	struct vd_error error = {.text = ""};
	int result = vd_host_physical(f->host, "range", start, length, flags, &object, &error);

	if (result)
		assert_null(object);
	else
		vd_host_object_put(object);
	return result;
}

static void test_predicate(void **state)
{
	struct vd_host_config config = {.env = vd_env_hosted()};
	struct vd_host *hosted;
	struct fixture f;

	(void)state;
	open_board(&f);
	assert_true(vd_host_is_physical(f.host));
	assert_int_equal(vd_host_window_base(f.host), 0);
	assert_int_equal(vd_host_page_shift(f.host), 12);
	assert_int_equal(vd_host_create(&config, &hosted, NULL), 0);
	assert_false(vd_host_is_physical(hosted));
	vd_host_destroy(hosted);
	close_board(&f);
}

static void test_each_reason_has_an_error_of_its_own(void **state)
{
	struct fixture f;

	(void)state;
	open_board(&f);
	assert_int_equal(make(&f, 0x40000000, 2 * MIB, 0), 0);
	assert_int_equal(make(&f, 0x40000000, 0, 0), -EINVAL);
	assert_int_equal(make(&f, 0x40000800, PAGE, 0), -EINVAL);
	assert_int_equal(make(&f, 0x40000000, PAGE + 8, 0), -EINVAL);
	assert_int_equal(make(&f, 0x40000000, PAGE, VD_HOST_SPARES), -EINVAL);
	assert_int_equal(make(&f, UINT64_MAX - PAGE + 1, PAGE, 0), -EOVERFLOW);
	assert_int_equal(make(&f, UINT64_MAX - PAGE + 1, 2 * PAGE, 0), -EOVERFLOW);
	assert_int_equal(make(&f, 0xfffffffffff000, 2 * PAGE, 0), -EOVERFLOW);
	/* the hypervisor's own: all of it, its first and its last page, the page beside it */
	assert_int_equal(make(&f, 0x40200000, MIB, 0), -EPERM);
	assert_int_equal(make(&f, 0x40000000, 2 * MIB + PAGE, 0), -EPERM);
	assert_int_equal(make(&f, 0x402ff000, 2 * PAGE, 0), -EPERM);
	assert_int_equal(make(&f, 0x40300000, PAGE, 0), 0);
	/* holes: at the start, in the middle, at the end */
	assert_int_equal(make(&f, 0x3ffff000, PAGE, 0), -ENXIO);
	assert_int_equal(make(&f, 0x3ffff000, 2 * PAGE, 0), -ENXIO);
	assert_int_equal(make(&f, MIB - PAGE, 2 * PAGE, 0), -ENXIO);
	assert_int_equal(make(&f, 0x42000000, MIB + PAGE, 0), -ENXIO);
	/* seams of kind and of type; a hole behind one goes first */
	assert_int_equal(make(&f, 0x41fff000, 2 * PAGE, 0), -EXDEV);
	assert_int_equal(make(&f, 0x09000000, 2 * PAGE, VD_HOST_DEVICE), -EXDEV);
	assert_int_equal(make(&f, 0x41fff000, MIB + 2 * PAGE, 0), -ENXIO);
	/* neighbours alike are no seam */
	assert_int_equal(make(&f, 0x40fff000, 2 * PAGE, 0), 0);
	/* device memory is asked for */
	assert_int_equal(make(&f, 0x09000000, PAGE, 0), -EMEDIUMTYPE);
	assert_int_equal(make(&f, 0x09000000, PAGE, VD_HOST_DEVICE), 0);
	assert_int_equal(make(&f, 0x40000000, PAGE, VD_HOST_DEVICE), -ENODEV);
	assert_int_equal(make(&f, 0x42000000, MIB, 0), 0);
	close_board(&f);
}

static void test_pfn_is_the_physical_address(void **state)
{
	static const struct { uint64_t start; unsigned flags; enum vd_page_kind kind;
			      enum vd_memory_type type; } cases[] = {
		{0, 0, VD_PAGE_RAM, VD_MEMORY_NORMAL},
		{0x40fff000, VD_HOST_READ_ONLY, VD_PAGE_RAM, VD_MEMORY_NORMAL},
		{0x42000000, 0, VD_PAGE_RESERVED, VD_MEMORY_NORMAL},
		{0x09001000, VD_HOST_DEVICE, VD_PAGE_DEVICE, VD_MEMORY_WRITE_COMBINING},
		{0xffffff00000000, 0, VD_PAGE_RAM, VD_MEMORY_NORMAL},
	};
	struct fixture f;

	(void)state;
	open_board(&f);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vd_host_object *object;
		struct vd_host_page page;

		assert_int_equal(vd_host_physical(f.host, "r", cases[i].start, PAGE, cases[i].flags,
						  &object, NULL), 0);
		assert_int_equal(vd_host_object_physical(object), cases[i].start);
		assert_int_equal(vd_host_object_kind(object), cases[i].kind);
		assert_int_equal(vd_host_object_fd(object), -EBADF);
		assert_int_equal(vd_host_object_lookup(object, 8, VD_READ, &page), 0);
		assert_int_equal(page.pfn.value, cases[i].start >> 12);
		assert_int_equal(page.kind, cases[i].kind);
		assert_int_equal(page.type, cases[i].type);
		assert_int_equal(page.run, PAGE - 8);
		assert_int_equal(page.writable, !(cases[i].flags & VD_HOST_READ_ONLY));
		assert_int_equal(vd_host_object_lookup(object, 0, VD_WRITE, &page),
				 cases[i].flags & VD_HOST_READ_ONLY ? -EACCES : 0);
		assert_int_equal(vd_host_object_lookup(object, PAGE, VD_READ, &page), -ERANGE);
		assert_int_equal(vd_host_object_hold(object, 0, PAGE, NULL), 0);
		vd_host_object_unhold(object, 0, PAGE);
		vd_host_object_put(object);
	}
	close_board(&f);
}

static void test_nothing_changes_under_it(void **state)
{
	struct vd_host_object *object, *none = NULL;
	struct fixture f;
	uint64_t bytes;
	static _Alignas(4096) char memory[4096];

	(void)state;
	open_board(&f);
	assert_int_equal(vd_host_physical(f.host, "r", 0, MIB, 0, &object, NULL), 0);
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_discard_unused(object, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_protect(object, 0, PAGE, false, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_restore(object, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_resident(object, 0, PAGE, &bytes), -EOPNOTSUPP);
	vd_host_object_put(object);
	assert_int_equal(vd_host_ram_create(f.host, "ram", MIB, 0, &none, NULL), -EINVAL);
	assert_int_equal(vd_host_private(f.host, "own", memory, PAGE, 0, &none, NULL), -EINVAL);
	assert_int_equal(vd_host_import(f.host, "fd", 0, 0, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0,
					&none, NULL), -EINVAL);
	assert_null(none);
	close_board(&f);
}

static void test_bad_maps(void **state)
{
	static const struct { struct vd_physical_range range; int error; } cases[] = {
		{{0x1000, 0, VD_PAGE_RAM, VD_MEMORY_NORMAL, false}, -EINVAL},
		{{0x1800, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, false}, -EINVAL},
		{{0x1000, PAGE, VD_PAGE_DEVICE, VD_MEMORY_NORMAL, false}, -EINVAL},
		{{0x1000, PAGE, VD_PAGE_RAM, VD_MEMORY_UNCACHED, false}, -EINVAL},
		{{0x1000, PAGE, 0, VD_MEMORY_NORMAL, false}, -EINVAL},
		{{UINT64_MAX - PAGE + 1, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, true}, -EOVERFLOW},
		{{0x40fff000, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, false}, -EEXIST},
	};
	struct fixture f;

	(void)state;
	test_env_init(&f.test);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vd_physical_range ranges[2] = {board[0], cases[i].range};

		assert_int_equal(create(&f, ranges, 2, 12), cases[i].error);
		assert_int_equal(f.test.blocks, 0);
	}
	assert_int_equal(create(&f, board, 1, 11), -EINVAL);
	assert_int_equal(create(&f, board, 1, 31), -EINVAL);
	assert_int_equal(create(&f, board, 1025, 12), -EINVAL);
	/* a page larger than the map's pieces */
	assert_int_equal(create(&f, board + 4, 1, 16), -EINVAL);
}

static void test_every_allocation_may_fail(void **state)
{
	struct fixture f;
	long step = 1;

	(void)state;
	test_env_init(&f.test);
	for (;; step++) {
		struct vd_host_object *object;
		int result;

		test_env_fail(&f.test, step, -ENOMEM);
		result = create(&f, board, 3, 12);
		if (!result) {
			result = vd_host_physical(f.host, "r", 0, MIB, 0, &object, NULL);
			if (!result)
				vd_host_object_put(object);
			vd_host_destroy(f.host);
		}
		vd_env_hosted_drain();
		assert_int_equal(f.test.blocks, 0);
		if (!test_env_failed(&f.test))
			break;
		assert_int_equal(result, -ENOMEM);
	}
	assert_true(step > 3);
}

/* In any order: the host goes first, the object is empty then. */
static void test_object_outlives_the_host(void **state)
{
	struct vd_host_object *object;
	struct vd_host_page page;
	struct fixture f;

	(void)state;
	open_board(&f);
	assert_int_equal(vd_host_physical(f.host, "r", 0, MIB, 0, &object, NULL), 0);
	vd_host_get(f.host);
	vd_host_destroy(f.host);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), -EFAULT);
	assert_int_equal(make(&f, 0, MIB, 0), -ESHUTDOWN);
	vd_host_object_put(object);
	vd_host_put(f.host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f.test.blocks, 0);
}

/* Random maps and questions against a page-by-page model. */
#define MODEL_PAGES 64u

enum { MODEL_HOLE, MODEL_RAM, MODEL_RESERVED, MODEL_UNCACHED, MODEL_COMBINING, MODEL_KINDS };

static int model_answer(const unsigned char *kind, const bool *own, unsigned first, unsigned count,
			bool device)
{
	bool hole = false, seam = false;

	for (unsigned i = first; i < first + count; i++)
		if (own[i])
			return -EPERM;
	for (unsigned i = first; i < first + count; i++) {
		hole |= kind[i] == MODEL_HOLE;
		seam |= kind[i] != kind[first];
	}
	if (hole || seam)
		return hole ? -ENXIO : -EXDEV;
	if (device != (kind[first] >= MODEL_UNCACHED))
		return device ? -ENODEV : -EMEDIUMTYPE;
	return 0;
}

static void test_model(void **state)
{
	static const enum vd_page_kind kinds[] = {0, VD_PAGE_RAM, VD_PAGE_RESERVED, VD_PAGE_DEVICE,
						  VD_PAGE_DEVICE};
	static const enum vd_memory_type types[] = {0, VD_MEMORY_NORMAL, VD_MEMORY_NORMAL,
						    VD_MEMORY_UNCACHED, VD_MEMORY_WRITE_COMBINING};
	struct vd_physical_range ranges[2 * MODEL_PAGES];
	unsigned char kind[MODEL_PAGES];
	bool own[MODEL_PAGES];
	uint64_t *random = test_state();
	struct fixture f;

	(void)state;
	test_start(0x1d0);
	for (unsigned round = 0; round < 30; round++) {
		uint32_t count = 0;

		test_env_init(&f.test);
		for (unsigned i = 0; i < MODEL_PAGES; i++) {
			bool same = i && test_random(random) % 6;

			kind[i] = same ? kind[i - 1]
				       : (unsigned char)(test_random(random) % MODEL_KINDS);
			own[i] = test_random(random) % 24 == 0;
			if (kind[i] != MODEL_HOLE)
				ranges[count++] = (struct vd_physical_range){
					i * PAGE, PAGE, kinds[kind[i]], types[kind[i]], false};
			if (own[i])
				ranges[count++] = (struct vd_physical_range){
					i * PAGE, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, true};
		}
		assert_int_equal(create(&f, ranges, count, 12), 0);
		for (unsigned i = 0; i < 600; i++) {
			unsigned first = test_random(random) % MODEL_PAGES;
			unsigned left = MODEL_PAGES - first;
			unsigned length = 1 + test_random(random) % (left < 8 ? left : 8);
			bool device = test_random(random) % 2;

			assert_int_equal(make(&f, first * PAGE, length * PAGE,
					      device ? VD_HOST_DEVICE : 0),
					 model_answer(kind, own, first, length, device));
		}
		close_board(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_predicate),
		cmocka_unit_test(test_each_reason_has_an_error_of_its_own),
		cmocka_unit_test(test_pfn_is_the_physical_address),
		cmocka_unit_test(test_nothing_changes_under_it),
		cmocka_unit_test(test_bad_maps),
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_object_outlives_the_host),
		cmocka_unit_test_teardown(test_model, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
