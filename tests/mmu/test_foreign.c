/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables over foreign memory (B8, B9): they let go before the pages do, map nothing where it
 * was unmapped, and end when the address was used for something else. The same code runs where the
 * memory is locked instead.
 */
#include <pthread.h>

#include <viaduct/foreign.h>

#include "fixture.h"

#define PAGES 64u

#define GAP (UINT64_C(64) << 20)

static struct fixture f;
static struct vd_foreign *foreign;
static struct vd_host_object *object;
static char *memory;

static void open_foreign(bool hold)
{
	struct vd_foreign_config config = {.hold = hold};

	fixture_open(&f, &vd_mmu_format_sv48x4);
	config.host = f.host;
	/*
	 * With a larger gap above it, which the kernel gives away first: an allocator's thread, or a
	 * sanitizer, must not use a page again that is unmapped here.
	 */
	memory = mmap(NULL, PAGES * PAGE + GAP, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(memory != MAP_FAILED);
	assert_int_equal(munmap(memory + PAGES * PAGE, GAP), 0);
	assert_int_equal(vd_foreign_create(&config, &foreign, NULL), 0);
	assert_int_equal(vd_foreign_object(foreign, "foreign", memory, PAGES * PAGE, 0, &object,
					   NULL), 0);
	fixture_slot(&f, GIB, PAGES * PAGE, object, 0, false);
}

static void close_foreign(void)
{
	vd_foreign_destroy(foreign);
	vd_host_object_put(object);
	fixture_close(&f);
	munmap(memory, PAGES * PAGE);
}

static bool open_watched(void)
{
	open_foreign(false);
	return vd_foreign_watches(object);
}

static void store(uint64_t page, uint8_t value)
{
	struct vd_mmu_leaf leaf = touch(&f, GIB + page * PAGE, VD_READ | VD_WRITE);

	vd_guest_store8(vd_host_pointer(vd_host_window_base(f.host), leaf.pfn, 12), value);
}

static uint8_t load(uint64_t page)
{
	struct vd_mmu_leaf leaf = touch(&f, GIB + page * PAGE, VD_READ);

	return vd_guest_load8(vd_host_pointer(vd_host_window_base(f.host), leaf.pfn, 12));
}

static void a_discarded_page_is_faulted_in_anew(void **state)
{
	struct vd_mmu_leaf leaf;

	(void)state;
	if (open_watched()) {
		store(3, 9);
		store(4, 8);
		assert_int_equal(madvise(memory + 3 * PAGE, PAGE, MADV_DONTNEED), 0);
		assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_READ, &leaf), -ENOENT);
		assert_int_equal(load(3), 0);
		/* not its own page any more, so not writable before the next store */
		assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_WRITE, &leaf), -EACCES);
		assert_int_equal(load(4), 8);
		store(3, 7);
		assert_int_equal(memory[3 * PAGE], 7);
	}
	close_foreign();
}

static void unmapped_pages_fault_for_good(void **state)
{
	struct vd_mmu_leaf leaf;
	char byte;

	(void)state;
	if (open_watched()) {
		store(3, 9);
		store(4, 8);
		assert_int_equal(munmap(memory + 3 * PAGE, PAGE), 0);
		assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_READ, &leaf), -ENOENT);
		assert_int_equal(fault(&f, GIB + 3 * PAGE, VD_READ), -EFAULT);
		assert_int_equal(vd_mem_read(f.mem, (vd_gpa){GIB + 3 * PAGE}, &byte, 1), -EFAULT);
		assert_int_equal(load(4), 8);
	}
	close_foreign();
}

static void a_reused_address_ends_the_guest(void **state)
{
	struct vd_mmu_leaf leaf;
	char byte;

	(void)state;
	if (open_watched()) {
		store(3, 9);
		store(4, 8);
		fixture_slot(&f, 0, MIB, f.ram, 0, false);
		assert_ptr_equal(mmap(memory + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 memory + 3 * PAGE);
		while (fault(&f, GIB + 4 * PAGE, VD_READ) != -ESHUTDOWN)
			sched_yield(); /* the last thing the monitor does */
		assert_int_equal(walk(&f, GIB + 4 * PAGE, VD_READ, &leaf), -ENOENT);
		assert_int_equal(fault(&f, 0, VD_READ), -ESHUTDOWN); /* all of it ends */
		assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), -EFAULT);
		assert_int_equal(memory[3 * PAGE], 0); /* nobody stored there */
	}
	close_foreign();
}

static void locked_memory_is_used_alike(void **state)
{
	struct vd_mmu_leaf leaf;

	(void)state;
	open_foreign(true);
	assert_false(vd_foreign_watches(object));
	store(3, 9);
	assert_int_equal(load(3), 9);
	if (madvise(memory + 3 * PAGE, PAGE, MADV_DONTNEED)) { /* locking works here */
		assert_int_equal(walk(&f, GIB + 3 * PAGE, VD_READ, &leaf), 0);
		assert_int_equal(load(3), 9);
	}
	close_foreign();
}

/* ---- at once ---------------------------------------------------------- */

#define OURS 32u /* the last page that the faulting thread stores to; behind it others discard */

static _Atomic bool stop;

static void *discard_behind(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;

	while (!atomic_load(&stop)) {
		uint64_t page = OURS + test_random(&seed) % (PAGES - OURS - 4);

		vd_guest_store8(memory + page * PAGE, 1);
		assert_int_equal(madvise(memory + page * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
		madvise(memory, PAGES * PAGE, test_random(&seed) & 1 ? MADV_COLD : MADV_PAGEOUT);
	}
	return NULL;
}

/* What the guest stored is never lost, and what was discarded is zero or was stored afterwards. */
static void no_stale_byte(void **state)
{
	struct vd_foreign_stats stats = {0};
	pthread_t threads[2];
	uint64_t seed = 3;
	uint8_t model[OURS] = {0}, byte;

	(void)state;
	if (open_watched()) {
		atomic_store(&stop, false);
		for (uintptr_t i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, discard_behind,
							(void *)i), 0);
		for (unsigned i = 0; i < 4000 || stats.discards < 50; i++) {
			uint64_t page = test_random(&seed) % OURS;

			if (test_random(&seed) & 1) {
				byte = model[page] = (uint8_t)test_random(&seed);
				assert_int_equal(vd_mem_write(f.mem, (vd_gpa){GIB + page * PAGE},
							      &byte, 1), 0);
			}
			assert_int_equal(fault(&f, GIB + page * PAGE, VD_READ), 0);
			assert_int_equal(vd_mem_read(f.mem, (vd_gpa){GIB + page * PAGE}, &byte, 1),
					 0);
			assert_int_equal(byte, model[page]);
			page = OURS + page % (PAGES - OURS);
			assert_int_equal(vd_mem_read(f.mem, (vd_gpa){GIB + page * PAGE}, &byte, 1),
					 0);
			assert_true(byte <= 1);
			vd_foreign_stats(foreign, &stats);
		}
		atomic_store(&stop, true);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
	}
	close_foreign();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_discarded_page_is_faulted_in_anew),
		cmocka_unit_test(unmapped_pages_fault_for_good),
		cmocka_unit_test(a_reused_address_ends_the_guest),
		cmocka_unit_test(locked_memory_is_used_alike),
		cmocka_unit_test(no_stale_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
