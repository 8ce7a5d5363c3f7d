/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

static struct vd_mem_update *begin(struct fixture *f)
{
	struct vd_mem_update *update = NULL;

	assert_int_equal(vd_mem_begin(f->mem, &update), 0);
	return update;
}

/* Adding @slot fails with @code, says something, and changes nothing. */
static void refuse(struct fixture *f, const struct vd_slot_config *slot, int code)
{
	size_t count = vd_mem_slot_count(f->mem);
	uint64_t generation = vd_mem_generation(f->mem);
	struct vd_error error = {.text = ""};
	long blocks = f->test.blocks;
	uint32_t id = 4711;

	assert_int_equal(vd_mem_add_slot(f->mem, slot, &id, &error), code);
	assert_int_equal(error.code, code);
	assert_true(strlen(error.text) > 10);
	assert_int_equal(id, 4711);
	assert_int_equal(vd_mem_slot_count(f->mem), count);
	assert_int_equal(vd_mem_generation(f->mem), generation);
	assert_true(f->test.blocks <= blocks + 1); /* the table of ids may have grown */
}

static void test_each_refusal_has_its_errno(void **state)
{
	struct vd_slot_config slot;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0x10000, 0, 4 * PAGE);
	slot = ram_slot(&f, 0x13000, 0, PAGE);
	refuse(&f, &slot, -EEXIST);
	slot = ram_slot(&f, 0x0f000, 0, 2 * PAGE);
	refuse(&f, &slot, -EEXIST);
	slot = ram_slot(&f, 0x0, 0, 0x100 * PAGE);
	refuse(&f, &slot, -EEXIST);
	slot = ram_slot(&f, 0, 0, 0);
	refuse(&f, &slot, -EINVAL);
	slot = ram_slot(&f, 0x800, 0, PAGE);
	refuse(&f, &slot, -EINVAL);
	slot = ram_slot(&f, 0, 0, PAGE / 2);
	refuse(&f, &slot, -EINVAL);
	slot = ram_slot(&f, 0, 1, PAGE);
	refuse(&f, &slot, -EINVAL);
	slot = ram_slot(&f, (UINT64_C(1) << 50) - PAGE, 0, 2 * PAGE);
	refuse(&f, &slot, -EOVERFLOW);
	slot = ram_slot(&f, UINT64_C(1) << 50, 0, PAGE);
	refuse(&f, &slot, -EOVERFLOW);
	slot = ram_slot(&f, 0 - PAGE, 0, 2 * PAGE);
	refuse(&f, &slot, -EOVERFLOW);
	slot = ram_slot(&f, PAGE, 0, 0 - PAGE);
	refuse(&f, &slot, -EOVERFLOW);
	slot = ram_slot(&f, 0x20000, RAM_PAGES * PAGE, PAGE);
	refuse(&f, &slot, -ERANGE);
	slot = ram_slot(&f, 0x20000, 0 - PAGE, PAGE);
	refuse(&f, &slot, -ERANGE);
	slot = ram_slot(&f, 0x20000, PAGE, RAM_PAGES * PAGE);
	refuse(&f, &slot, -ERANGE);
	fixture_close(&f);
}

static void test_slots_say_what_they_are(void **state)
{
	struct vd_slot_config slot;
	struct vd_trap_ops half = {.read = trap_read_none};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.object = NULL;
	refuse(&f, &slot, -EINVAL);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.ops = &trap_none;
	refuse(&f, &slot, -EINVAL);
	slot = trap_slot(0, 8, &half, NULL);
	refuse(&f, &slot, -EINVAL);
	slot = trap_slot(0, 8, NULL, NULL);
	refuse(&f, &slot, -EINVAL);
	slot = trap_slot(0, 8, &trap_none, NULL);
	slot.object = f.ram;
	refuse(&f, &slot, -EINVAL);
	slot = trap_slot(0, 8, &trap_none, NULL);
	slot.kind = 0;
	refuse(&f, &slot, -EINVAL);
	slot.kind = 17;
	refuse(&f, &slot, -EINVAL);
	fixture_close(&f);
}

/* Device memory never becomes RAM, and memory of another host none of ours. */
static void test_foreign_memory_is_refused(void **state)
{
	struct vd_slot_config slot;
	struct vd_host_object *device;
	struct fixture f, g;

	(void)state;
	fixture_open(&f);
	fixture_open(&g);
	slot = ram_slot(&g, 0, 0, PAGE);
	refuse(&f, &slot, -EXDEV);
	assert_int_equal(vd_host_import(f.host, "bar", vd_host_object_fd(f.other), 0, 4 * PAGE,
					VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, 0, &device, NULL), 0);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.object = device;
	refuse(&f, &slot, -EINVAL);
	slot.kind = VD_SLOT_DEVICE;
	add_slot(&f, &slot);
	vd_host_object_put(device);
	fixture_close(&g);
	fixture_close(&f);
}

static void test_remove_takes_what_was_added(void **state)
{
	struct vd_mem_update *update;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_mem_remove_slot(f.mem, 0), -ENOENT);
	assert_int_equal(vd_mem_remove_slot(f.mem, 1), -ENOENT);
	assert_int_equal(vd_mem_remove_slot(f.mem, UINT32_MAX), -ENOENT);
	id = add_ram(&f, 0, 0, PAGE);
	update = begin(&f);
	assert_int_equal(vd_mem_remove(update, id), 0);
	assert_int_equal(vd_mem_remove(update, id), -ENOENT);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){PAGE}, NULL), -ENOENT);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), -ENOENT);
	assert_int_equal(vd_mem_slot_count(f.mem), 0);
	fixture_close(&f);
}

static void test_ids_come_round_late(void **state)
{
	struct fixture f;
	uint32_t before, id;

	(void)state;
	fixture_open(&f);
	before = add_ram(&f, 0, 0, PAGE);
	for (unsigned i = 0; i < 10000; i++) {
		id = add_ram(&f, PAGE, 0, PAGE);
		assert_int_not_equal(id, before);
		assert_true(id < 64); /* they do not only grow */
		assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
		assert_int_equal(vd_mem_remove_slot(f.mem, id), -ENOENT);
	}
	fixture_close(&f);
}

/* One update may split a slot: others see the old one or the two halves, with one event. */
static void test_swap_in_one_update(void **state)
{
	struct vd_slot_config low, high;
	struct vd_mem_update *update;
	struct fixture f;
	struct ear ear;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	ear_open(&ear, &f);
	id = add_ram(&f, 0, 0, 4 * PAGE);
	assert_int_equal(ear.start_count, 0); /* nobody can have cached what was not there */
	low = ram_slot(&f, 0, 0, PAGE);
	high = ram_slot(&f, 2 * PAGE, 2 * PAGE, 2 * PAGE);
	update = begin(&f);
	assert_int_equal(vd_mem_add(update, &low, NULL, NULL), -EEXIST);
	assert_int_equal(vd_mem_remove(update, id), 0);
	assert_int_equal(vd_mem_add(update, &low, NULL, NULL), 0);
	assert_int_equal(vd_mem_add(update, &high, NULL, NULL), 0);
	assert_int_equal(vd_mem_slot_count(f.mem), 1);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_slot_count(f.mem), 2);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	assert_int_equal(ear.starts[0].start, 0);
	assert_int_equal(ear.starts[0].length, 4 * PAGE);
	assert_int_equal(ear.starts[0].reason, VD_INVALIDATE_SLOT);
	assert_null(ear.starts[0].object);
	assert_true(ear.starts[0].blockable);
	ear_close(&ear, &f);
	fixture_close(&f);
}

static void test_moves(void **state)
{
	struct vd_mem_update *update;
	struct vd_error error;
	struct fixture f;
	uint32_t a, b;
	char byte = 0;

	(void)state;
	fixture_open(&f);
	a = add_ram(&f, 0, 0, 2 * PAGE);
	b = add_ram(&f, 4 * PAGE, 2 * PAGE, 2 * PAGE);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){5}, "a", 1), 0);
	update = begin(&f);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){3 * PAGE}, &error), -EEXIST);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){1}, &error), -EINVAL);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){UINT64_C(1) << 50}, &error), -EOVERFLOW);
	assert_int_equal(vd_mem_move(update, 99, (vd_gpa){0}, &error), -ENOENT);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){0}, &error), 0);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){PAGE}, &error), 0); /* over itself */
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){2 * PAGE}, &error), 0); /* again */
	/* b where a was, a where b was */
	assert_int_equal(vd_mem_move(update, b, (vd_gpa){0}, &error), 0);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){4 * PAGE}, &error), 0);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){4 * PAGE + 5}, &byte, 1), 0);
	assert_int_equal(byte, 'a');
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){2 * PAGE}, &byte, 1), -EFAULT);
	/* the move is forgotten with the slot */
	update = begin(&f);
	assert_int_equal(vd_mem_move(update, a, (vd_gpa){8 * PAGE}, &error), 0);
	assert_int_equal(vd_mem_remove(update, a), 0);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_slot_count(f.mem), 1);
	assert_int_equal(vd_mem_remove_slot(f.mem, b), 0);
	fixture_close(&f);
}

static void test_full(void **state)
{
	struct vd_mem_update *update;
	struct vd_slot_config slot;
	struct fixture f;
	uint32_t id = 0;

	(void)state;
	fixture_open(&f);
	update = begin(&f);
	for (uint32_t i = 0; i < VD_MEM_SLOTS_MAX; i++) {
		slot = trap_slot(i * UINT64_C(16), 16, &trap_none, NULL);
		assert_int_equal(vd_mem_add(update, &slot, &id, NULL), 0);
	}
	slot = trap_slot(UINT64_C(16) * VD_MEM_SLOTS_MAX, 16, &trap_none, NULL);
	assert_int_equal(vd_mem_add(update, &slot, NULL, NULL), -ENOSPC);
	vd_mem_commit(update);
	refuse(&f, &slot, -ENOSPC);
	/* all of them replaced at once */
	update = begin(&f);
	for (uint32_t i = 1; i <= VD_MEM_SLOTS_MAX; i++)
		assert_int_equal(vd_mem_remove(update, i), 0);
	for (uint32_t i = VD_MEM_SLOTS_MAX; i-- > 0;) {
		slot = trap_slot(i * UINT64_C(16) + 8, 16, &trap_none, NULL);
		assert_int_equal(vd_mem_add(update, &slot, &id, NULL), 0);
	}
	vd_mem_commit(update);
	assert_int_equal(vd_mem_slot_count(f.mem), VD_MEM_SLOTS_MAX);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	fixture_close(&f);
}

/*
 * Every step that can fail does so once; then nothing has changed, and without the failure it
 * works.
 */
static void test_without_memory(void **state)
{
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 0, 0, PAGE);
	for (long step = 1;; step++) {
		struct vd_slot_config trap = trap_slot(PAGE, 8, &trap_none, NULL);
		uint64_t generation = vd_mem_generation(f.mem);
		struct vd_mem_update *update;
		struct vd_error error;
		int r;

		test_env_fail(&f.test, step, -ENOMEM);
		r = vd_mem_begin(f.mem, &update);
		if (!r) {
			r = vd_mem_move(update, id, (vd_gpa){8 * PAGE}, &error);
			for (uint32_t i = 0; i < 40 && !r; i++, trap.base.value += 8)
				r = vd_mem_add(update, &trap, NULL, &error);
			test_env_fail(&f.test, 0, 0);
			if (!r) {
				vd_mem_commit(update);
				assert_true(step > 8);
				break;
			}
			vd_mem_abort(update);
		}
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(vd_mem_generation(f.mem), generation);
		assert_int_equal(vd_mem_slot_count(f.mem), 1);
	}
	assert_int_equal(vd_mem_slot_count(f.mem), 41);
	test_env_fail(&f.test, 1, -ENOMEM);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), -ENOMEM);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_refusal_has_its_errno),
		cmocka_unit_test(test_slots_say_what_they_are),
		cmocka_unit_test(test_foreign_memory_is_refused),
		cmocka_unit_test(test_remove_takes_what_was_added),
		cmocka_unit_test(test_ids_come_round_late),
		cmocka_unit_test(test_swap_in_one_update),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
