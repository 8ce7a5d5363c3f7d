/* SPDX-License-Identifier: BSD-2-Clause */
/* Where nobody announces changes of memory, a slot locks it; elsewhere mapping costs nothing. */
#include <sys/mman.h>

#include "fixture.h"

#include "../base/locked.h"

#define PAGES 16u

static struct fixture f;
static char *memory;
static struct vd_host_object *unannounced, *announced; /* the same memory */

static int set_up(void **state)
{
	(void)state;
	fixture_open(&f);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return -1;
	return vd_host_private(f.host, "unannounced", memory, PAGES * PAGE, 0, &unannounced,
			       NULL) ||
	       vd_host_private(f.host, "announced", memory, PAGES * PAGE, VD_HOST_ANNOUNCED,
			       &announced, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_object_put(unannounced);
	vd_host_object_put(announced);
	fixture_close(&f);
	assert_locked(0);
	munmap(memory, PAGES * PAGE);
	return 0;
}

static struct vd_slot_config slot_of(struct vd_host_object *object, uint64_t base, uint64_t page,
				     uint64_t pages)
{
	struct vd_slot_config slot = ram_slot(&f, base, page * PAGE, pages * PAGE);

	slot.object = object;
	return slot;
}

static void test_a_slot_locks_until_it_goes(void **state)
{
	struct vd_slot_config first = slot_of(unannounced, 0, 2, 4);
	struct vd_slot_config second = slot_of(unannounced, 8 * PAGE, 4, 4);
	struct vd_mem_update *update;
	uint32_t ids[2];

	(void)state;
	ids[0] = add_slot(&f, &first);
	assert_locked(4 * PAGE);
	ids[1] = add_slot(&f, &second);
	assert_locked(6 * PAGE);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){PAGE}, "x", 1), 0);
	assert_int_equal(memory[3 * PAGE], 'x');
	assert_int_equal(vd_host_object_discard(unannounced, 3 * PAGE, PAGE, true), -EBUSY);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, ids[0], (vd_gpa){32 * PAGE}, NULL), 0);
	vd_mem_commit(update);
	assert_locked(6 * PAGE);
	assert_int_equal(vd_mem_remove_slot(f.mem, ids[0]), 0);
	assert_locked(4 * PAGE);
	assert_int_equal(vd_host_object_discard(unannounced, 3 * PAGE, PAGE, true), 0);
	assert_int_equal(vd_host_object_discard(unannounced, 4 * PAGE, PAGE, true), -EBUSY);
	/* the rest goes with the space: tear_down looks */
}

static void test_announced_memory_is_not_locked(void **state)
{
	struct vd_slot_config slot = slot_of(announced, 0, 0, PAGES);
	struct ear ear;
	char byte = 1;

	(void)state;
	add_slot(&f, &slot);
	add_ram(&f, 64 * PAGE, 0, PAGE);
	assert_locked(0);
	ear_open(&ear, &f);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){PAGE}, "x", 1), 0);
	assert_int_equal(vd_host_object_discard(announced, PAGE, PAGE, true), 0);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.starts[0].start, PAGE);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){PAGE}, &byte, 1), 0);
	assert_int_equal(byte, 0);
	ear_close(&ear, &f);
}

static void test_an_abort_unlocks(void **state)
{
	struct vd_slot_config slot = slot_of(unannounced, 0, 0, 4);
	struct vd_mem_update *update;
	uint32_t id;

	(void)state;
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_add(update, &slot, &id, NULL), 0);
	assert_locked(4 * PAGE);
	vd_mem_abort(update);
	assert_locked(0);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_add(update, &slot, &id, NULL), 0);
	assert_int_equal(vd_mem_remove(update, id), 0);
	assert_locked(0);
	vd_mem_commit(update);
}

static void test_a_failure_leaves_no_slot_and_no_lock(void **state)
{
	struct vd_slot_config slot = slot_of(unannounced, 0, 0, 4);
	long step = 1;
	bool lock_failed = false;

	(void)state;
	for (;; step++) {
		test_env_fail(&f.test, step, -ENOMEM);
		if (vd_mem_add_slot(f.mem, &slot, NULL, NULL) == 0)
			break;
		assert_true(test_env_failed(&f.test));
		lock_failed |= !strcmp(f.test.failed_site, "host.hold");
		assert_int_equal(vd_mem_slot_count(f.mem), 0);
		assert_locked(0);
		assert_int_equal(vd_host_object_discard(unannounced, 0, PAGE, true), 0);
	}
	assert_true(lock_failed);
	assert_locked(4 * PAGE);
}

static int add_over_the_limit(void)
{
	struct vd_slot_config slot = slot_of(unannounced, 0, 0, 4);
	struct vd_error error = {.text = ""};
	uint32_t id;

	if (vd_mem_add_slot(f.mem, &slot, NULL, &error) != -ENOMEM || locked_bytes())
		return 1;
	if (!strstr(error.text, "RLIMIT_MEMLOCK") || vd_mem_slot_count(f.mem))
		return 2;
	slot.object = announced;
	return vd_mem_add_slot(f.mem, &slot, &id, &error) || vd_mem_remove_slot(f.mem, id) ? 3 : 0;
}

static void test_the_limit_is_named(void **state)
{
	(void)state;
	with_lock_limit(PAGE, add_over_the_limit);
}

static void test_the_host_goes_first(void **state)
{
	struct vd_slot_config slot;
	struct fixture own;
	struct vd_host_object *object;

	(void)state;
	fixture_open(&own);
	assert_int_equal(vd_host_private(own.host, "own", memory, PAGE, 0, &object, NULL), 0);
	slot = slot_of(object, 0, 0, 1);
	add_slot(&own, &slot);
	vd_host_object_put(object);
	assert_locked(PAGE);
	vd_host_destroy(own.host);
	assert_locked(0);
	vd_mem_destroy(own.mem);
	vd_host_object_put(own.ram);
	vd_host_object_put(own.other);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(own.test.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define HOLD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		HOLD_TEST(test_a_slot_locks_until_it_goes),
		HOLD_TEST(test_announced_memory_is_not_locked),
		HOLD_TEST(test_an_abort_unlocks),
		HOLD_TEST(test_a_failure_leaves_no_slot_and_no_lock),
		HOLD_TEST(test_the_limit_is_named),
		HOLD_TEST(test_the_host_goes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
