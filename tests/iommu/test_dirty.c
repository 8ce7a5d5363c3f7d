/* SPDX-License-Identifier: BSD-2-Clause */
#include "remote.h"

static const unsigned both = VD_READ | VD_WRITE;

/* RAM at pages 0 to 15, remote memory at 16 to 31. */
struct tracked {
	struct dma_fixture f;
	struct remote *remote;
};

static void tracked_open(struct tracked *t)
{
	dma_open(&t->f);
	t->remote = remote_open(t->f.space, 16 * PAGE);
	assert_int_equal(dma_map(&t->f, 0, 8 * PAGE, 0, both), 0);
	assert_int_equal(dma_map(&t->f, 8 * PAGE, 8 * PAGE, 32 * PAGE, both), 0);
	assert_int_equal(remote_map(t->remote, 16 * PAGE, 16 * PAGE, both), 0);
}

static void tracked_close(struct tracked *t)
{
	dma_close_fixture(&t->f);
	free(t->remote);
}

static int start_all(struct tracked *t)
{
	return vd_dma_dirty_start(t->f.space, NULL, 0, PAGE);
}

/* The report of the first 32 pages, page 0 in bit 0. */
static uint32_t take(struct vd_dma_space *space)
{
	uint32_t bits = 0xdeadbeef;

	assert_int_equal(vd_dma_dirty_report(space, (vd_iova){0}, 32 * PAGE, PAGE, &bits, 4), 0);
	return bits;
}

static void put(struct tracked *t, uint64_t iova, uint64_t length)
{
	static unsigned char bytes[32 * 4096];

	assert_int_equal(vd_dma_write(t->f.space, (vd_iova){iova}, bytes, length), 0);
}

/* ---- start and stop ------------------------------------------------------------------------- */

static int start(struct tracked *t, uint64_t first, uint64_t length, uint64_t second,
		 uint64_t second_length, uint64_t page_size)
{
	struct vd_dma_range ranges[] = {{{first}, length}, {{second}, second_length}};

	return vd_dma_dirty_start(t->f.space, ranges, second_length ? 2 : 1, page_size);
}

static void test_refusals(void **state)
{
	static struct vd_dma_range many[1025];
	unsigned char bits[2] = {0x55, 0x55};
	struct tracked t;

	(void)state;
	tracked_open(&t);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), -ENODATA);
	assert_int_equal(vd_dma_dirty_report(t.f.space, (vd_iova){0}, PAGE, PAGE, bits, 1),
			 -ENODATA);
	assert_int_equal(start(&t, 0, PAGE, 0, 0, 0), -EINVAL);
	assert_int_equal(start(&t, 0, PAGE, 0, 0, 2048), -EINVAL);
	assert_int_equal(start(&t, 0, PAGE, 0, 0, 4096 + 8192), -EINVAL);
	assert_int_equal(start(&t, 0, 0, 0, 0, PAGE), -EINVAL);
	assert_int_equal(start(&t, 8, PAGE, 0, 0, PAGE), -EINVAL);
	assert_int_equal(start(&t, 0, PAGE, 0, 0, 2 * PAGE), -EINVAL);
	assert_int_equal(start(&t, 0, PAGE, PAGE, PAGE + 1, PAGE), -EINVAL);
	assert_int_equal(start(&t, UINT64_MAX - PAGE + 1, 2 * PAGE, 0, 0, PAGE), -EOVERFLOW);
	assert_int_equal(start(&t, 0, 2 * PAGE, PAGE, PAGE, PAGE), -EEXIST);
	assert_int_equal(start(&t, PAGE, PAGE, 0, 2 * PAGE, PAGE), -EEXIST);
	assert_int_equal(start(&t, PAGE, PAGE, PAGE, PAGE, PAGE), -EEXIST);
	assert_int_equal(vd_dma_dirty_start(t.f.space, many, 1025, PAGE), -E2BIG);
	for (long step = 1; step <= 2; step++) {
		test_env_fail(&t.f.base.test, step, -ENOMEM);
		assert_int_equal(start(&t, 0, PAGE, 0, 0, PAGE), -ENOMEM);
	}
	test_env_fail(&t.f.base.test, 0, 0);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), -ENODATA);
	/* the ends of the address space, in any order, as many as may be */
	assert_int_equal(start(&t, UINT64_MAX - PAGE + 1, PAGE, 0, PAGE, PAGE), 0);
	assert_int_equal(start(&t, 0, PAGE, 0, 0, PAGE), -EALREADY);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), 0);
	for (unsigned i = 0; i < 1024; i++)
		many[i] = (struct vd_dma_range){{(i * 513 % 1024) * 2 * PAGE}, PAGE};
	assert_int_equal(vd_dma_dirty_start(t.f.space, many, 1024, PAGE), 0);
	put(&t, 0, 8 * PAGE);
	assert_int_equal(take(t.f.space), 0x55);
	assert_int_equal(bits[0], 0x55);
	tracked_close(&t); /* ends the tracking as well */
}

/* libvfio-user: starting without maps ends the process. */
static void test_no_maps(void **state)
{
	struct tracked t;

	(void)state;
	tracked_open(&t);
	assert_int_equal(vd_dma_unmap_all(t.f.space, NULL), 0);
	assert_int_equal(start_all(&t), 0);
	assert_int_equal(take(t.f.space), 0);
	assert_int_equal(dma_map(&t.f, 3 * PAGE, PAGE, 0, both), 0);
	put(&t, 3 * PAGE, 1);
	assert_int_equal(take(t.f.space), 1 << 3);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), 0);
	/* what was noted before is forgotten */
	assert_int_equal(start_all(&t), 0);
	assert_int_equal(take(t.f.space), 0);
	tracked_close(&t);
}

/* ---- who stores ----------------------------------------------------------------------------- */

static void test_copies(void **state)
{
	static unsigned char bytes[32 * 4096];
	struct tracked t;

	(void)state;
	tracked_open(&t);
	put(&t, 0, PAGE); /* before */
	assert_int_equal(start_all(&t), 0);
	assert_int_equal(vd_dma_read(t.f.space, (vd_iova){0}, bytes, 32 * PAGE), 0);
	assert_int_equal(take(t.f.space), 0);
	put(&t, 2 * PAGE - 1, 2);
	assert_int_equal(take(t.f.space), 3 << 1);
	assert_int_equal(take(t.f.space), 0);
	put(&t, 7 * PAGE + 8, PAGE); /* two maps */
	assert_int_equal(take(t.f.space), 3 << 7);
	put(&t, 17 * PAGE, 8);
	assert_int_equal(take(t.f.space), 1 << 17);
	put(&t, 14 * PAGE + 1, 4 * PAGE); /* both kinds */
	assert_int_equal(take(t.f.space), 0x1f << 14);
	/* a fault stores nothing; a failed message may have stored */
	assert_int_equal(vd_dma_write(t.f.space, (vd_iova){31 * PAGE}, bytes, 2 * PAGE), -EFAULT);
	assert_int_equal(take(t.f.space), 0);
	t.remote->fail_at = t.remote->reads + t.remote->writes + 1;
	t.remote->fail_with = -EIO;
	assert_int_equal(vd_dma_write(t.f.space, (vd_iova){15 * PAGE}, bytes, 2 * PAGE), -EIO);
	assert_int_equal(take(t.f.space), 3 << 15);
	/* a guard's store is marked by who makes it, wherever that is */
	vd_dma_mark_dirty(t.f.space, (vd_iova){5 * PAGE + 4}, 4);
	vd_dma_mark_dirty(t.f.space, (vd_iova){30 * PAGE}, UINT64_MAX);
	vd_dma_mark_dirty(t.f.space, (vd_iova){PAGE}, 0);
	assert_int_equal(take(t.f.space), 1u << 5 | 3u << 30);
	tracked_close(&t);
}

static void test_discards(void **state)
{
	struct tracked t;
	uint64_t done;

	(void)state;
	tracked_open(&t);
	assert_int_equal(start_all(&t), 0);
	assert_int_equal(vd_dma_discard(t.f.space, (vd_iova){6 * PAGE}, 4 * PAGE, &done), 0);
	assert_int_equal(take(t.f.space), 0xf << 6);
	assert_int_equal(vd_dma_discard(t.f.space, (vd_iova){15 * PAGE}, 2 * PAGE, &done), -EFAULT);
	assert_int_equal(take(t.f.space), 0);
	tracked_close(&t);
}

/* While a pin for storing is held its pages are dirty, whenever somebody asks, and once more. */
static void test_pins(void **state)
{
	struct holder old, local, reads, remote;
	struct tracked t;

	(void)state;
	tracked_open(&t);
	assert_int_equal(holder_pin(&old, t.f.space, 8, 8, both), 0);
	assert_int_equal(start_all(&t), 0);
	assert_int_equal(holder_pin(&local, t.f.space, 4 * PAGE + 1, 2 * PAGE, VD_WRITE), 0);
	assert_int_equal(holder_pin(&reads, t.f.space, 0, 8 * PAGE, VD_READ), 0);
	assert_int_equal(holder_pin(&remote, t.f.space, 20 * PAGE, 2 * PAGE, VD_WRITE), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(take(t.f.space), 1 | 7 << 4 | 3 << 20);
	holder_let_go(&reads);
	holder_let_go(&local);
	holder_let_go(&remote);
	assert_int_equal(take(t.f.space), 1 | 7 << 4 | 3 << 20);
	assert_int_equal(take(t.f.space), 1);
	holder_let_go(&old);
	assert_int_equal(take(t.f.space), 1);
	assert_int_equal(take(t.f.space), 0);
	tracked_close(&t);
}

static void test_guest(void **state)
{
	uint8_t log[RAM_PAGES / 8], bits[RAM_PAGES / 8];
	struct holder holder;
	struct dma_fixture f;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	assert_int_equal(vd_mem_dirty_start(f.base.mem, id), 0);
	assert_int_equal(vd_dma_dirty_start(f.space, NULL, 0, PAGE), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM + 8 * PAGE}, "x", 1), 0);
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_WRITE), 0);
	holder_let_go(&holder);
	vd_dma_mark_dirty(f.space, (vd_iova){GUEST_RAM + 16 * PAGE}, 1);
	assert_int_equal(vd_mem_write(f.base.mem, (vd_gpa){GUEST_RAM + 24 * PAGE}, "y", 1), 0);
	assert_int_equal(vd_mem_dirty_fetch(f.base.mem, id, log, sizeof(log)), 0);
	assert_int_equal(vd_dma_dirty_report(f.space, (vd_iova){GUEST_RAM}, RAM_PAGES * PAGE, PAGE,
					     bits, sizeof(bits)), 0);
	assert_memory_equal(log, ((uint8_t[]){1, 1, 1, 1, 0}), 5);
	/* not what others than devices store */
	assert_memory_equal(bits, ((uint8_t[]){1, 1, 1, 0, 0}), 5);
	dma_close_fixture(&f);
}

/* ---- reports -------------------------------------------------------------------------------- */

static int report(struct tracked *t, uint64_t iova, uint64_t length, uint64_t page_size,
		  unsigned char *bitmap, size_t bytes)
{
	return vd_dma_dirty_report(t->f.space, (vd_iova){iova}, length, page_size, bitmap, bytes);
}

static void test_bitmap_sizes(void **state)
{
	unsigned char bits[16];
	struct tracked t;

	(void)state;
	tracked_open(&t);
	assert_int_equal(start_all(&t), 0);
	put(&t, 0, 32 * PAGE);
	memset(bits, 0x5a, sizeof(bits));
	assert_int_equal(report(&t, 0, 0, PAGE, bits, 16), -EINVAL);
	assert_int_equal(report(&t, 8, PAGE, PAGE, bits, 16), -EINVAL);
	assert_int_equal(report(&t, 0, PAGE, 2 * PAGE, bits, 16), -EINVAL);
	assert_int_equal(report(&t, 0, PAGE, 1024, bits, 16), -EINVAL);
	assert_int_equal(report(&t, 0, 3 * PAGE, 3 * PAGE, bits, 16), -EINVAL);
	assert_int_equal(report(&t, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE, bits, 16), -EOVERFLOW);
	assert_int_equal(report(&t, 0, PAGE, PAGE, bits, 0), -ENOSPC);
	assert_int_equal(report(&t, 0, 9 * PAGE, PAGE, bits, 1), -ENOSPC);
	assert_int_equal(report(&t, 0, 1ull << 63, PAGE, bits, 16), -ENOSPC);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(bits[i], 0x5a);
	/* nothing has been cleared; just enough room; the rest of the room */
	assert_int_equal(report(&t, 0, 8 * PAGE, PAGE, bits, 1), 0);
	assert_memory_equal(bits, "\xff\x5a", 2);
	assert_int_equal(report(&t, 8 * PAGE, 9 * PAGE, PAGE, bits, 8), 0);
	assert_memory_equal(bits, "\xff\x01\0\0\0\0\0\0\x5a", 9);
	assert_int_equal(report(&t, 0, 1ull << 63, 1ull << 62, bits, 1), 0);
	assert_memory_equal(bits, "\x01\x01", 2);
	assert_int_equal(take(t.f.space), 0);
	tracked_close(&t);
}

/* The client's page size, ours, and the one of the report, in all orders of size. */
static void test_page_sizes(void **state)
{
	unsigned char bits[4];
	struct tracked t;

	(void)state;
	tracked_open(&t);
	/* asked for in larger pages: a bit for any page in it */
	assert_int_equal(start_all(&t), 0);
	put(&t, 5 * PAGE, 1);
	put(&t, 15 * PAGE, PAGE + 1);
	assert_int_equal(report(&t, 0, 32 * PAGE, 4 * PAGE, bits, 1), 0);
	assert_int_equal(bits[0], 1 << 1 | 1 << 3 | 1 << 4);
	assert_int_equal(take(t.f.space), 0);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), 0);
	/* asked for in smaller pages: all of the larger one */
	assert_int_equal(vd_dma_dirty_start(t.f.space, NULL, 0, 8 * PAGE), 0);
	put(&t, 9 * PAGE, 1);
	assert_int_equal(take(t.f.space), 0xff00);
	assert_int_equal(take(t.f.space), 0);
	/* a part of it: said, and kept for who asks for the rest */
	put(&t, 9 * PAGE, 1);
	assert_int_equal(report(&t, 8 * PAGE, 4 * PAGE, PAGE, bits, 1), 0);
	assert_int_equal(bits[0], 0xf);
	assert_int_equal(report(&t, 12 * PAGE, 8 * PAGE, 4 * PAGE, bits, 1), 0);
	assert_int_equal(bits[0], 1);
	assert_int_equal(take(t.f.space), 0xff00);
	assert_int_equal(take(t.f.space), 0);
	assert_int_equal(vd_dma_dirty_stop(t.f.space), 0);
	/* huge */
	assert_int_equal(vd_dma_dirty_start(t.f.space, NULL, 0, 1ull << 63), 0);
	put(&t, 0, 1);
	assert_int_equal(report(&t, 0, 1ull << 63, 1ull << 63, bits, 1), 0);
	assert_int_equal(bits[0], 1);
	assert_int_equal(report(&t, 1ull << 63, 1ull << 63, 1ull << 63, bits, 1), 0);
	assert_int_equal(bits[0], 0);
	tracked_close(&t);
}

/* Only what is tracked is said to be dirty, pins included. */
static void test_ranges(void **state)
{
	struct holder holder;
	struct tracked t;

	(void)state;
	tracked_open(&t);
	assert_int_equal(start(&t, 18 * PAGE, 2 * PAGE, 2 * PAGE, 3 * PAGE, PAGE), 0);
	put(&t, 0, 32 * PAGE);
	assert_int_equal(take(t.f.space), 3 << 18 | 7 << 2);
	assert_int_equal(take(t.f.space), 0);
	assert_int_equal(holder_pin(&holder, t.f.space, 3 * PAGE, 4 * PAGE, VD_WRITE), 0);
	assert_int_equal(take(t.f.space), 3 << 3);
	holder_let_go(&holder);
	assert_int_equal(holder_pin(&holder, t.f.space, PAGE, PAGE, VD_WRITE), 0);
	assert_int_equal(take(t.f.space), 3 << 3);
	assert_int_equal(take(t.f.space), 0);
	holder_let_go(&holder);
	assert_int_equal(take(t.f.space), 0);
	tracked_close(&t);
}

/* Without memory for its notes it says more, not less, and gets over it. */
static void test_no_memory(void **state)
{
	struct tracked t;

	(void)state;
	tracked_open(&t);
	put(&t, 3 * PAGE, 1); /* what it takes to store there at all */
	assert_int_equal(start_all(&t), 0);
	test_env_fail(&t.f.base.test, 1, -ENOMEM);
	put(&t, 3 * PAGE, 1);
	test_env_fail(&t.f.base.test, 0, 0);
	/* That was the memory of an I/O page table, which is done without. */
	assert_int_equal(take(t.f.space), dma_mode() == VD_DMA_ASSIGNED ? 1 << 3 : UINT32_MAX);
	assert_int_equal(take(t.f.space), 0);
	put(&t, 3 * PAGE, 1);
	assert_int_equal(take(t.f.space), 1 << 3);
	tracked_close(&t);
}

/* ---- unmap ---------------------------------------------------------------------------------- */

static void test_unmap(void **state)
{
	unsigned char bits[2] = {0x5a, 0x5a};
	struct holder holder;
	struct tracked t;
	uint64_t done = 1;

	(void)state;
	tracked_open(&t);
	assert_int_equal(vd_dma_unmap_dirty(t.f.space, (vd_iova){0}, 8 * PAGE, PAGE, bits, 1, &done),
			 -ENODATA);
	assert_int_equal(done, 0);
	assert_int_equal(start_all(&t), 0);
	put(&t, PAGE, 1);
	assert_int_equal(vd_dma_unmap_dirty(t.f.space, (vd_iova){0}, 16 * PAGE, PAGE, bits, 1,
					    &done), -ENOSPC);
	assert_int_equal(vd_dma_unmap_dirty(t.f.space, (vd_iova){0}, 4 * PAGE, PAGE, bits, 1, &done),
			 -EINVAL); /* would split */
	assert_int_equal(bits[0], 0x5a);
	assert_int_equal(stats_of(t.f.space).maps, 3);
	/* who is asked for his pin stores until he lets go */
	assert_int_equal(holder_pin(&holder, t.f.space, 6 * PAGE, PAGE, VD_WRITE), 0);
	assert_int_equal(vd_dma_unmap_dirty(t.f.space, (vd_iova){0}, 8 * PAGE, PAGE, bits, 1, &done),
			 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(done, 8 * PAGE);
	assert_int_equal(bits[0], 1 << 1 | 1 << 6);
	assert_int_equal(bits[1], 0x5a);
	assert_int_equal(take(t.f.space), 0);
	/* without a bitmap it stays for the next report */
	put(&t, 15 * PAGE, 2 * PAGE);
	assert_int_equal(vd_dma_unmap(t.f.space, (vd_iova){8 * PAGE}, 8 * PAGE, NULL), 0);
	assert_int_equal(take(t.f.space), 3 << 15);
	/* nothing there is nothing wrong */
	assert_int_equal(vd_dma_unmap_dirty(t.f.space, (vd_iova){0}, 16 * PAGE, 8 * PAGE, bits, 1,
					    &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(bits[0], 0);
	tracked_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_maps),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_discards),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_guest),
		cmocka_unit_test(test_bitmap_sizes),
		cmocka_unit_test(test_page_sizes),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_unmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
