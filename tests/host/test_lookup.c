/* SPDX-License-Identifier: BSD-2-Clause */
/* Lookups: edges, runs, and private memory whose copy-on-write a read must not break (row A9). */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/object.h"

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define PAGES 8u

static struct vd_host *host;

static int set_up(void **state)
{
	struct vd_host_config config = {.env = vd_env_hosted(), .window_size = UINT64_C(1) << 33};

	(void)state;
	return vd_host_create(&config, &host, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_destroy(host);
	return 0;
}

static char *pointer(const struct vd_host_page *page)
{
	return vd_host_pointer(vd_host_window_base(host), page->pfn, 12);
}

static struct vd_host_object *private_object(void *memory, unsigned flags)
{
	struct vd_host_object *object;

	assert_int_equal(vd_host_private(host, "private", memory, PAGES * PAGE, flags, &object,
					 NULL), 0);
	return object;
}

static void finds_the_page_and_the_rest_of_the_run(void **state)
{
	struct vd_host_object *object;
	struct vd_host_page page, next;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "ram", UINT64_C(3) << 30, 0, &object, NULL), 0);
	assert_int_equal(vd_host_object_lookup(object, 0x12345, VD_READ, &page), 0);
	assert_int_equal(page.kind, VD_PAGE_RAM);
	assert_int_equal(page.type, VD_MEMORY_NORMAL);
	assert_true(page.writable);
	assert_true(page.run >= (UINT64_C(1) << 30) - 0x12345); /* enough for the largest block */
	assert_int_equal(vd_host_object_lookup(object, 0x13000, VD_READ, &next), 0);
	assert_int_equal(next.pfn.value, page.pfn.value + 1);
	assert_int_equal(vd_host_object_lookup(object, (UINT64_C(3) << 30) - 1, VD_WRITE, &page),
			 0);
	assert_int_equal(page.run, 1);
	assert_int_equal(vd_host_object_lookup(object, UINT64_C(3) << 30, VD_READ, &page), -ERANGE);
	assert_true(vd_pfn_is_bad(page.pfn));
	assert_int_equal(vd_host_object_lookup(object, UINT64_MAX, VD_READ, &page), -ERANGE);
	assert_false(page.writable);
	vd_host_object_put(object);
}

static void runs_end_where_pages_differ(void **state)
{
	struct vd_host_object *object;
	struct vd_host_page page;

	(void)state;
	assert_int_equal(vd_host_ram_create(host, "ram", 1024 * PAGE, VD_HOST_SPARES, &object,
					    NULL), 0);
	assert_int_equal(vd_host_object_protect(object, 4 * PAGE, 2 * PAGE, false, true), 0);
	assert_int_equal(vd_host_object_move(object, 600 * PAGE, 10 * PAGE, true), 0);
	assert_int_equal(vd_host_object_lookup(object, PAGE + 7, VD_WRITE, &page), 0);
	assert_int_equal(page.run, 3 * PAGE - 7);
	assert_int_equal(vd_host_object_lookup(object, 4 * PAGE, VD_READ, &page), 0);
	assert_int_equal(page.run, 2 * PAGE);
	assert_false(page.writable);
	assert_int_equal(vd_host_object_lookup(object, 4 * PAGE, VD_WRITE, &page), -EACCES);
	assert_int_equal(vd_host_object_lookup(object, 6 * PAGE, VD_READ, &page), 0);
	assert_int_equal(page.run, 506 * PAGE); /* to the end of its 2 MiB */
	assert_int_equal(vd_host_object_lookup(object, 600 * PAGE, VD_READ, &page), 0);
	assert_int_equal(page.run, 10 * PAGE);
	assert_int_equal(vd_host_object_lookup(object, 610 * PAGE, VD_READ, &page), 0);
	assert_int_equal(page.run, 414 * PAGE);
	vd_host_object_put(object);
}

/* ---- private memory -------------------------------------------------- */

static void private_memory_is_used_where_it_is(void **state)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	struct vd_host_object *object = private_object(memory, 0);
	struct vd_host_page page;
	struct vd_error error;

	(void)state;
	assert_int_equal(vd_host_object_fd(object), -EBADF);
	assert_int_equal(vd_host_object_lookup(object, 2 * PAGE + 9, VD_READ, &page), 0);
	assert_ptr_equal(pointer(&page), memory + 2 * PAGE);
	assert_true(page.pfn.value < UINT64_C(1) << 44);
	assert_int_equal(page.run, 6 * PAGE - 9);
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), -EOPNOTSUPP);
	vd_host_object_put(object);
	*(volatile char *)memory = 1; /* not unmapped by us */
	munmap(memory, PAGES * PAGE);
	assert_int_equal(vd_host_private(host, "p", (void *)1, PAGE, 0, &object, &error), -EINVAL);
	assert_int_equal(vd_host_private(host, "p", NULL, PAGE, 0, &object, NULL), -EINVAL);
	assert_int_equal(vd_host_private(host, "p", (void *)-PAGE, 2 * PAGE, 0, &object, NULL),
			 -EINVAL);
	assert_int_equal(vd_host_private(host, "p", memory, PAGE, VD_HOST_SPARES, &object, NULL),
			 -EINVAL);
}

static void writable_only_after_a_write_lookup(void **state)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	struct vd_host_object *object = private_object(memory, 0);
	struct vd_host_page page;

	(void)state;
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_READ, &page), 0);
	assert_false(page.writable);
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_READ | VD_WRITE, &page), 0);
	assert_true(page.writable);
	assert_int_equal(page.run, PAGE); /* its neighbours still break on write */
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_READ, &page), 0);
	assert_true(page.writable);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), 0);
	assert_int_equal(page.run, 3 * PAGE);
	memory[3 * PAGE] = 5;
	assert_int_equal(vd_host_object_protect(object, 3 * PAGE, PAGE, false, true), 0);
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_READ, &page), 0);
	assert_false(page.writable);
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_WRITE, &page), -EACCES);
	assert_int_equal(vd_host_object_protect(object, 3 * PAGE, PAGE, true, true), 0);
	assert_int_equal(vd_host_object_discard(object, 2 * PAGE, 2 * PAGE, true), 0);
	assert_int_equal(memory[3 * PAGE], 0);
	assert_int_equal(vd_host_object_lookup(object, 3 * PAGE, VD_READ, &page), 0);
	assert_false(page.writable);
	vd_host_object_put(object);
	object = private_object(memory, VD_HOST_READ_ONLY);
	assert_int_equal(vd_host_object_lookup(object, 0, VD_WRITE, &page), -EACCES);
	assert_int_equal(vd_host_object_discard(object, 0, PAGE, true), -EOPNOTSUPP);
	vd_host_object_put(object);
	munmap(memory, PAGES * PAGE);
}

/* A private view of a file: reads through us see the file, until a write through us. */
static void reading_never_breaks_copy_on_write_of_a_file(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct vd_host_object *object;
	struct vd_host_page page;
	char *memory, value = 1;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)(PAGES * PAGE)), 0);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	object = private_object(memory, 0);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(vd_host_object_lookup(object, i * PAGE, VD_READ, &page), 0);
		assert_int_equal(*(volatile char *)pointer(&page), 0);
	}
	assert_int_equal(vd_host_object_lookup(object, 4 * PAGE, VD_READ | VD_WRITE, &page), 0);
	*(volatile char *)pointer(&page) = 2;
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(pwrite(fd, &value, 1, (off_t)(i * PAGE)), 1);
		/* a page that had been copied would not show the file any more */
		assert_int_equal(*(volatile char *)(memory + i * PAGE), i == 4 ? 2 : 1);
	}
	vd_host_object_put(object);
	munmap(memory, PAGES * PAGE);
	close(fd);
}

/* Bit 56 of a pagemap entry: mapped by this process only. Return: -1 where it cannot be read. */
static int mapped_exclusively(const char *address)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)address / PAGE * sizeof(entry)));
	close(fd);
	return got == sizeof(entry) ? (int)(entry >> 56 & 1) : -1;
}

/* After a fork parent and child share pages; only a store through a write lookup parts them. */
static void reading_never_breaks_copy_on_write_of_a_fork(void **state)
{
	char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	struct vd_host_object *object = private_object(memory, 0);
	struct vd_host_page page;
	int ask[2], answer[2], exclusive;
	char c = 0;
	pid_t child;

	(void)state;
	memset(memory, 'p', PAGES * PAGE);
	assert_int_equal(pipe(ask) | pipe(answer), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) { /* tells what it sees in page 1 when asked */
		while (read(ask[0], &c, 1) == 1 && c == '?')
			if (write(answer[1], memory + PAGE, 1) != 1)
				break;
		_exit(0);
	}
	assert_int_equal(vd_host_object_lookup(object, 0, VD_READ, &page), 0);
	assert_int_equal(*(volatile char *)pointer(&page), 'p');
	assert_false(page.writable);
	exclusive = mapped_exclusively(memory);
	if (exclusive >= 0)
		assert_int_equal(exclusive, 0); /* still shared with the child */
	assert_int_equal(vd_host_object_lookup(object, PAGE, VD_READ | VD_WRITE, &page), 0);
	*(volatile char *)pointer(&page) = 'w';
	if (exclusive >= 0)
		assert_int_equal(mapped_exclusively(memory + PAGE), 1);
	assert_int_equal(write(ask[1], "?", 1), 1);
	assert_int_equal(read(answer[0], &c, 1), 1);
	assert_int_equal(c, 'p');
	assert_int_equal(write(ask[1], ".", 1), 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	vd_host_object_put(object);
	munmap(memory, PAGES * PAGE);
	for (int i = 0; i < 2; i++) {
		close(ask[i]);
		close(answer[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_page_and_the_rest_of_the_run),
		cmocka_unit_test(runs_end_where_pages_differ),
		cmocka_unit_test(private_memory_is_used_where_it_is),
		cmocka_unit_test(writable_only_after_a_write_lookup),
		cmocka_unit_test(reading_never_breaks_copy_on_write_of_a_file),
		cmocka_unit_test(reading_never_breaks_copy_on_write_of_a_fork),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
