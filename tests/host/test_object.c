/* SPDX-License-Identifier: BSD-2-Clause */
/* Making objects of every kind, refusing what cannot be, and leaving nothing behind. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/object.h"

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define MIB2 (UINT64_C(2) << 20)

static struct test_env test;
static struct vd_host *host;
static long host_blocks; /* allocated by the bare host */

static int set_up(void **state)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 33};

	(void)state;
	test_env_init(&test);
	if (vd_host_create(&config, &host, NULL))
		return -1;
	host_blocks = test.blocks;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_destroy(host);
	vd_env_hosted_drain();
	return test.blocks ? -1 : 0;
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int make_file(const char *name, uint64_t size, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static char *at(struct vd_host_object *object, uint64_t offset)
{
	struct vd_host_page page;

	assert_int_equal(vd_host_object_lookup(object, offset, VD_READ, &page), 0);
	return (char *)vd_host_pointer(vd_host_window_base(host), page.pfn, 12) + offset % PAGE;
}

static int import(int fd, uint64_t offset, uint64_t size, unsigned flags,
		  struct vd_host_object **object)
{
	return vd_host_import(host, "import", fd, offset, size, VD_PAGE_RAM, VD_MEMORY_NORMAL,
			      flags, object, NULL);
}

/* ---- RAM ------------------------------------------------------------- */

static void ram_is_sealed_sparse_and_shared(void **state)
{
	struct vd_host_object *object;
	uint64_t bytes;
	char *other;
	int fd;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "guest RAM", 4 * MIB2, 0, &object, NULL), 0);
	assert_string_equal(vd_host_object_name(object), "guest RAM");
	assert_int_equal(vd_host_object_size(object), 4 * MIB2);
	assert_int_equal(vd_host_object_kind(object), VD_PAGE_RAM);
	assert_ptr_equal(vd_host_object_host(object), host);
	assert_int_equal((uintptr_t)at(object, 0) % MIB2, 0);
	assert_int_equal(vd_host_object_resident(object, 0, 4 * MIB2, &bytes), 0);
	assert_int_equal(bytes, 0);
	fd = vd_host_object_fd(object);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(fd, 0), -1);
	other = mmap(NULL, 4 * MIB2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	other[MIB2 + 5] = 9;
	assert_int_equal(*at(object, MIB2 + 5), 9);
	assert_int_equal(vd_host_object_resident(object, 0, 4 * MIB2, &bytes), 0);
	assert_int_equal(bytes, PAGE);
	munmap(other, 4 * MIB2);
	vd_host_object_put(object);
}

static void ram_refuses_bad_sizes_and_flags(void **state)
{
	struct vd_host_object *object;
	struct vd_error error;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "ram", 0, 0, &object, &error), -EINVAL);
	assert_non_null(strstr(error.text, "ram: size"));
	assert_int_equal(vd_host_ram_create(host, "ram", PAGE + 1, 0, &object, NULL), -EINVAL);
	assert_int_equal(vd_host_ram_create(host, "ram", UINT64_MAX - PAGE + 1, 0, &object, NULL),
			 -EINVAL);
	assert_int_equal(vd_host_ram_create(host, "ram", PAGE, VD_HOST_READ_ONLY, &object, NULL),
			 -EINVAL);
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, VD_HOST_HUGETLB | VD_HOST_SPARES,
					    &object, NULL), -EINVAL);
	assert_int_equal(vd_host_ram_create(host, "ram", PAGE, VD_HOST_HUGETLB, &object, NULL),
			 -EINVAL);
	/* larger than the window */
	assert_int_equal(vd_host_ram_create(host, "ram", UINT64_C(1) << 34, 0, &object, &error),
			 -ENOMEM);
	assert_int_equal(test.blocks, host_blocks);
}

static void hugetlb_works_or_says_it_cannot(void **state)
{
	struct vd_host_object *object;
	struct vd_error error;
	int result = vd_host_ram_create(host, "huge", MIB2, VD_HOST_HUGETLB, &object, &error);

	(void)state;
	if (result) { /* the host has no huge pages to give */
		assert_int_equal(result, -ENOMEM);
		assert_non_null(strstr(error.text, "huge"));
		return;
	}
	*at(object, 12345) = 1;
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), -EINVAL);
	assert_int_equal(vd_host_object_discard(object, 0, MIB2, true), 0);
	assert_int_equal(*at(object, 12345), 0);
	vd_host_object_put(object);
}

/* ---- imports --------------------------------------------------------- */

static void imports_a_part_of_a_file(void **state)
{
	int fd = make_file("file", 8 * PAGE, F_SEAL_SHRINK);
	struct vd_host_object *object;
	uint64_t offset, run;

	(void)state;
	assert_int_equal(pwrite(fd, "here", 4, 3 * PAGE), 4);
	assert_int_equal(import(fd, 2 * PAGE, 4 * PAGE, 0, &object), 0);
	assert_memory_equal(at(object, PAGE), "here", 4);
	assert_int_equal(vd_host_object_fd_range(object, PAGE + 5, &offset, &run),
			 vd_host_object_fd(object));
	assert_int_equal(offset, 3 * PAGE + 5);
	assert_int_equal(run, 3 * PAGE - 5);
	assert_int_equal(vd_host_object_fd_range(object, 4 * PAGE, &offset, &run), -ERANGE);
	close(fd); /* the object has its own */
	assert_memory_equal(at(object, PAGE), "here", 4);
	vd_host_object_put(object);
}

static void imports_only_what_the_descriptor_allows(void **state)
{
	int sealed = make_file("sealed", 8 * PAGE, F_SEAL_SHRINK | F_SEAL_WRITE), reader;
	int good = make_file("good", 8 * PAGE, F_SEAL_SHRINK);
	struct vd_host_object *object;
	struct vd_host_page page;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", good);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(import(sealed, 0, PAGE, 0, &object), -EACCES);
	assert_int_equal(import(reader, 0, PAGE, 0, &object), -EACCES);
	assert_int_equal(import(reader, 0, PAGE, VD_HOST_READ_ONLY, &object), 0);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), 0);
	assert_false(page.writable);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ | VD_WRITE, &page), -EACCES);
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_protect(object, 0, PAGE, true, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_restore(object, 0, PAGE, true), -EOPNOTSUPP);
	vd_host_object_put(object);
	close(sealed);
	close(reader);
	close(good);
}

static void refuses_what_cannot_be_mapped(void **state)
{
	int fd = make_file("file", 8 * PAGE, F_SEAL_SHRINK), pipes[2];
	struct vd_host_object *object;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(import(-1, 0, PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(pipes[0], 0, PAGE, VD_HOST_READ_ONLY, &object), -EINVAL);
	assert_int_equal(import(fd, 1, PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(fd, 0, PAGE - 1, 0, &object), -EINVAL);
	assert_int_equal(import(fd, 0, 0, 0, &object), -EINVAL);
	assert_int_equal(import(fd, 0, 9 * PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(fd, 8 * PAGE, PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(fd, UINT64_MAX - PAGE + 1, PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(fd, UINT64_MAX - PAGE + 1, 2 * PAGE, 0, &object), -EINVAL);
	assert_int_equal(import(fd, 0, PAGE, VD_HOST_SPARES, &object), -EINVAL);
	assert_int_equal(import(fd, 0, PAGE, 0, &object), 0);
	vd_host_object_put(object);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

static void the_kind_comes_from_the_mapping(void **state)
{
	int fd = make_file("bar", 4 * PAGE, F_SEAL_SHRINK);
	struct vd_host_object *device, *reserved;
	struct vd_host_page page;

	(void)state;
	assert_int_equal(vd_host_import(host, "bar", fd, 0, 4 * PAGE, VD_PAGE_DEVICE,
					VD_MEMORY_UNCACHED, 0, &device, NULL), 0);
	assert_int_equal(vd_host_import(host, "hidden", fd, 0, 4 * PAGE, VD_PAGE_RESERVED,
					VD_MEMORY_WRITE_COMBINING, 0, &reserved, NULL), 0);
	assert_int_equal(vd_host_object_lookup(device, PAGE, VD_WRITE, &page), 0);
	assert_int_equal(page.kind, VD_PAGE_DEVICE);
	assert_int_equal(page.type, VD_MEMORY_UNCACHED);
	assert_true(page.writable);
	assert_int_equal(vd_host_object_lookup(reserved, PAGE, VD_READ, &page), 0);
	assert_int_equal(page.kind, VD_PAGE_RESERVED);
	assert_int_equal(page.type, VD_MEMORY_WRITE_COMBINING);
	assert_int_equal(vd_host_object_discard(device, 0, PAGE, true), -EOPNOTSUPP);
	assert_int_equal(vd_host_object_move(device, 0, PAGE, true), -EOPNOTSUPP);
	vd_host_object_put(device);
	vd_host_object_put(reserved);
	close(fd);
}

/* The owner may still forbid changes of the file, if not of its mappings. */
static void a_seal_set_later_stops_discards(void **state)
{
	int fd = make_file("file", 4 * PAGE, F_SEAL_SHRINK);
	struct vd_host_object *object;

	(void)state;
	assert_int_equal(import(fd, 0, 4 * PAGE, 0, &object), 0);
	*at(object, PAGE) = 3;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(vd_host_object_discard(object, 0, 4 * PAGE, true), -EOPNOTSUPP);
	assert_int_equal(*at(object, PAGE), 3);
	vd_host_object_put(object);
	close(fd);
}

/* ---- nothing is left behind ------------------------------------------ */

static int make_ram(int fd, struct vd_host_object **object)
{
	(void)fd;
	return vd_host_ram_create(host, "ram", MIB2, VD_HOST_SPARES, object, NULL);
}

static int make_import(int fd, struct vd_host_object **object)
{
	return import(fd, 0, PAGE, 0, object);
}

static int make_private(int fd, struct vd_host_object **object)
{
	static _Alignas(4096) char memory[4096];

	(void)fd;
	return vd_host_private(host, "private", memory, PAGE, 0, object, NULL);
}

static void fails_cleanly_at_each_step(void **state)
{
	static int (*const makers[])(int fd, struct vd_host_object **object) = {
		make_ram, make_import, make_private,
	};
	int fd = make_file("file", PAGE, F_SEAL_SHRINK);
	unsigned files = open_files();

	(void)state;
	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		struct vd_host_object *object = NULL;
		long step = 1;

		for (;; step++) {
			test_env_fail(&test, step, -ENOSPC);
			if (makers[i](fd, &object) == 0)
				break;
			assert_true(test_env_failed(&test));
			assert_int_equal(test.blocks, host_blocks);
			assert_int_equal(open_files(), files);
			assert_null(host->ranges);
			assert_null(host->objects);
		}
		assert_true(step > 2);
		assert_false(test_env_failed(&test));
		vd_host_object_put(object);
		vd_env_hosted_drain();
		assert_int_equal(test.blocks, host_blocks);
		assert_int_equal(open_files(), files);
	}
	close(fd);
}

/* ---- the last reference ---------------------------------------------- */

static struct {
	unsigned starts, ends;
	int refuse;
	struct vd_invalidation last;
} heard;

static int hear_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_host_page page;

	(void)listener;
	heard.starts++;
	heard.last = *event;
	/* the memory is still there while mirrors are told */
	assert_int_equal(vd_host_object_lookup(event->object, 0, VD_READ, &page), 0);
	return heard.refuse;
}

static void hear_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_host_page page;

	(void)listener;
	heard.ends++;
	assert_int_equal(vd_host_object_lookup(event->object, 0, VD_READ, &page), -EFAULT);
}

static const struct vd_listener_ops hear_ops = {.invalidate_start = hear_start,
						.invalidate_end = hear_end};

static void the_last_put_invalidates_all(void **state)
{
	struct vd_listener listener = {.ops = &hear_ops};
	struct vd_host_object *object;

	(void)state;
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, 0, &object, NULL), 0);
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &listener), 0);
	assert_ptr_equal(vd_host_object_get(object), object);
	vd_host_object_put(object);
	assert_int_equal(heard.starts, 0);
	vd_host_object_put(object);
	assert_int_equal(heard.starts, 1);
	assert_int_equal(heard.ends, 1);
	assert_int_equal(heard.last.start, 0);
	assert_int_equal(heard.last.length, MIB2);
	assert_int_equal(heard.last.reason, VD_INVALIDATE_UNMAP);
	assert_true(heard.last.blockable);
	assert_null(host->ranges);
	vd_notifier_unregister(vd_host_notifier(host), &listener);
	vd_host_object_put(NULL);
}

static unsigned logged;

static void count_log(const struct vd_env *env, enum vd_log_level level, const char *text)
{
	(void)env;
	assert_int_equal(level, VD_LOG_ERROR);
	assert_non_null(strstr(text, "still in use"));
	logged++;
}

/* A device that will not let go: its memory is never given to anybody else. */
static void refused_memory_stays(void **state)
{
	struct vd_listener listener = {.ops = &hear_ops};
	struct vd_host_object *object, *next;
	char *p;

	(void)state;
	memset(&heard, 0, sizeof(heard));
	logged = 0;
	test.env.log = count_log;
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, 0, &object, NULL), 0);
	p = at(object, 5);
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &listener), 0);
	heard.refuse = -EBUSY;
	vd_host_object_put(object);
	assert_int_equal(logged, 1);
	*(volatile char *)p = 1;
	assert_int_equal(vd_host_ram_create(host, "ram", MIB2, 0, &next, NULL), 0);
	assert_ptr_not_equal(at(next, 5), p);
	assert_int_equal(*at(next, 5), 0);
	vd_notifier_unregister(vd_host_notifier(host), &listener);
	vd_host_object_put(next);
	test.env.log = NULL; /* the tear-down finds no block left once the host is gone */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define HOST_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		HOST_TEST(ram_is_sealed_sparse_and_shared),
		HOST_TEST(ram_refuses_bad_sizes_and_flags),
		HOST_TEST(hugetlb_works_or_says_it_cannot),
		HOST_TEST(imports_a_part_of_a_file),
		HOST_TEST(imports_only_what_the_descriptor_allows),
		HOST_TEST(refuses_what_cannot_be_mapped),
		HOST_TEST(the_kind_comes_from_the_mapping),
		HOST_TEST(a_seal_set_later_stops_discards),
		HOST_TEST(fails_cleanly_at_each_step),
		HOST_TEST(the_last_put_invalidates_all),
		HOST_TEST(refused_memory_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
