/* SPDX-License-Identifier: BSD-2-Clause */
/* The window: pfns and pointers, room in it, and what a host leaves behind. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/object.h"

#include "../base/test_env.h"

#define MIB2 (UINT64_C(2) << 20)
#define GIB (UINT64_C(1) << 30)

static struct test_env test;

static struct vd_host *make_host(uint64_t window_size)
{
	struct vd_host_config config = {.env = &test.env, .window_size = window_size};
	struct vd_host *host;
	struct vd_error error = {0};

	test_env_init(&test);
	if (vd_host_create(&config, &host, &error))
		fail_msg("%s", error.text);
	return host;
}

static void drop_host(struct vd_host *host)
{
	vd_host_destroy(host);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

static void has_defaults(void **state)
{
	struct vd_host *host = make_host(0);

	(void)state;
	assert_int_equal(vd_host_page_shift(host), 12);
	assert_ptr_equal(vd_host_env(host), &test.env);
	assert_non_null(vd_host_notifier(host));
	assert_int_equal(vd_host_window_base(host) % GIB, 0);
	/* a sanitizer may leave less than the whole */
	assert_in_range(host->window_size, UINT64_C(1) << 36, UINT64_C(1) << 40);
	drop_host(host);
	vd_host_destroy(NULL);
}

static void refuses_bad_configurations(void **state)
{
	struct vd_host_config config = {.env = vd_env_hosted(), .page_shift = 11};
	struct vd_host *host;
	struct vd_error error;

	(void)state;
	assert_int_equal(vd_host_create(&config, &host, &error), -EINVAL);
	assert_non_null(strstr(error.text, "page shift 11"));
	config.page_shift = 31;
	assert_int_equal(vd_host_create(&config, &host, NULL), -EINVAL);
	config.page_shift = 0;
	config.window_size = UINT64_MAX;
	assert_int_equal(vd_host_create(&config, &host, &error), -EINVAL);
	config.window_size = UINT64_C(1) << 54; /* more than the processor has */
	assert_int_equal(vd_host_create(&config, &host, &error), -ENOMEM);
	assert_non_null(strstr(error.text, "address space"));
}

static void fails_cleanly_at_each_step(void **state)
{
	struct vd_host_config config = {.env = &test.env};
	struct vd_host *host = NULL;
	long step = 1;

	(void)state;
	test_env_init(&test);
	for (;; step++) {
		test_env_fail(&test, step, -ENOMEM);
		if (vd_host_create(&config, &host, NULL) == 0)
			break;
		assert_true(test_env_failed(&test));
		assert_int_equal(test.blocks, 0);
	}
	assert_true(step > 2);
	drop_host(host);
}

static void larger_pages(void **state)
{
	struct vd_host_config config = {.env = vd_env_hosted(), .page_shift = 16};
	struct vd_host_object *object;
	struct vd_host_page page;
	struct vd_host *host;

	(void)state;
	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
	assert_int_equal(vd_host_ram_create(host, "ram", 0x1000, 0, &object, NULL), -EINVAL);
	assert_int_equal(vd_host_ram_create(host, "ram", 0x30000, 0, &object, NULL), 0);
	assert_int_equal(vd_host_object_lookup(object, 0x21234, VD_WRITE, &page), 0);
	assert_int_equal(page.run, 0x30000 - 0x21234);
	*(char *)vd_host_pointer(vd_host_window_base(host), page.pfn, 16) = 1;
	assert_int_equal(vd_host_object_discard(object, 0x1000, 0x1000, true), -EINVAL);
	vd_host_object_put(object);
	vd_host_destroy(host);
}

/* Every address of the process has a pfn, fits a page table entry, and comes back. */
static void pointers_round_trip(void **state)
{
	uintptr_t base = UINT64_C(0x7f0040000000);
	uintptr_t addresses[] = {base, base + 4096, base + (GIB << 9), base - 4096, 4096,
				 UINT64_C(0x7fffffffe000), base - GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		vd_pfn pfn = {((addresses[i] - base) & ((UINT64_C(1) << 56) - 1)) >> 12};

		assert_true(pfn.value < UINT64_C(1) << 44);
		assert_int_equal((uintptr_t)vd_host_pointer(base, pfn, 12), addresses[i]);
	}
}

static uint64_t alignment_of(uint64_t size)
{
	return size >= GIB ? GIB : size >= MIB2 ? MIB2 : 4096;
}

static void check_ranges(const struct vd_host *host)
{
	uint64_t end = 0;

	for (const struct window_range *range = host->ranges; range; range = range->next) {
		assert_true(range->start >= end);
		assert_int_equal(range->start % alignment_of(range->size), 0);
		end = range->start + range->size;
		assert_true(end <= host->window_size);
	}
}

/* Random sizes come and go: in order, aligned, apart, and a full window says so. */
static void room_is_handed_out_and_taken_back(void **state)
{
	static const uint64_t sizes[] = {4096, 3 * 4096, MIB2, MIB2 + 4096, 5 * MIB2, GIB,
					 GIB + MIB2};
	struct vd_host *host = make_host(8 * GIB);
	struct window_range *held[64] = {NULL};
	unsigned full = 0;

	(void)state;
	test_start(7);
	for (int i = 0; i < 20000; i++) {
		uint64_t random = test_random(test_state());
		struct window_range **slot = &held[random % 64];

		if (*slot) {
			window_release(host, *slot);
			*slot = NULL;
		} else {
			int result = window_reserve(host, sizes[(random >> 8) % 7], slot);

			assert_true(result == 0 || result == -ENOMEM);
			if (result)
				*slot = NULL;
			full += result != 0;
		}
		check_ranges(host);
	}
	assert_true(full > 0);
	for (int i = 0; i < 64; i++)
		if (held[i])
			window_release(host, held[i]);
	assert_null(host->ranges);
	assert_int_equal(window_reserve(host, 8 * GIB, &held[0]), 0);
	assert_int_equal(window_reserve(host, 4096, &held[1]), -ENOMEM);
	window_release(host, held[0]);
	drop_host(host);
}

/* Objects outlive their host as empty handles. */
static void objects_may_outlive_the_host(void **state)
{
	struct vd_host *host = make_host(GIB);
	struct vd_host_object *object;
	struct vd_host_page page;
	uint64_t bytes;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, VD_HOST_SPARES, &object, NULL), 0);
	assert_int_equal(vd_host_object_protect(object, 0, 4096, false, true), 0);
	vd_host_destroy(host);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), -EFAULT);
	assert_true(vd_pfn_is_bad(page.pfn));
	assert_int_equal(vd_host_object_resident(object, 0, 4096, &bytes), -EFAULT);
	assert_int_equal(vd_host_object_discard(object, 0, 4096, true), 0);
	assert_int_equal(vd_host_object_protect(object, 0, 4096, true, true), 0);
	assert_int_equal(vd_host_object_move(object, 0, 4096, true), 0);
	assert_string_equal(vd_host_object_name(object), "ram");
	vd_host_object_put(object);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

/* A reference keeps the handle, not the memory: nothing new is made in a host that was destroyed. */
static void a_destroyed_host_makes_nothing(void **state)
{
	static _Alignas(4096) char memory[4096];
	struct vd_host *host = make_host(GIB);
	struct vd_host_object *object = NULL;
	struct vd_error error;
	int fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_ptr_equal(vd_host_get(host), host);
	vd_host_destroy(host);
	assert_int_equal(vd_host_page_shift(host), 12);
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, 0, &object, &error), -ESHUTDOWN);
	assert_int_equal(vd_host_import(host, "file", fd, 0, 4096, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0,
					&object, &error), -ESHUTDOWN);
	assert_int_equal(vd_host_private(host, "private", memory, 4096, 0, &object, &error),
			 -ESHUTDOWN);
	assert_non_null(strstr(error.text, "destroyed"));
	assert_null(object);
	close(fd);
	vd_host_put(host);
	vd_host_put(NULL);
	assert_int_equal(test.blocks, 0);
}

static int count_release(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	return 0;
}

static unsigned releases;

static void released(struct vd_listener *listener)
{
	(void)listener;
	releases++;
}

static void destroy_releases_listeners_first(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = count_release,
						   .release = released};
	struct vd_listener listener = {.ops = &ops};
	struct vd_host *host = make_host(GIB);
	struct vd_host_object *object;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, 0, &object, NULL), 0);
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &listener), 0);
	vd_host_destroy(host); /* the object keeps the handle of the host alive */
	assert_int_equal(releases, 1);
	vd_notifier_unregister(vd_host_notifier(host), &listener);
	vd_host_object_put(object);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(refuses_bad_configurations),
		cmocka_unit_test(fails_cleanly_at_each_step),
		cmocka_unit_test(larger_pages),
		cmocka_unit_test(pointers_round_trip),
		cmocka_unit_test_teardown(room_is_handed_out_and_taken_back, test_seed_print),
		cmocka_unit_test(objects_may_outlive_the_host),
		cmocka_unit_test(a_destroyed_host_makes_nothing),
		cmocka_unit_test(destroy_releases_listeners_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
