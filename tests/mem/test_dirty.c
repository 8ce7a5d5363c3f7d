/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

static void test_refusals(void **state)
{
	struct vd_slot_config slot = trap_slot(0, 8, &trap_none, NULL);
	uint8_t bits[32];
	struct fixture f;
	uint32_t ram, trap;

	(void)state;
	fixture_open(&f);
	trap = add_slot(&f, &slot);
	ram = add_ram(&f, PAGE, 0, 9 * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, 77), -ENOENT);
	assert_int_equal(vd_mem_dirty_start(f.mem, trap), -EINVAL);
	assert_int_equal(vd_mem_dirty_stop(f.mem, ram), -ENODATA);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, ram, bits, sizeof(bits)), -ENODATA);
	assert_int_equal(vd_mem_dirty_stop(f.mem, 77), -ENOENT);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, 77, bits, sizeof(bits)), -ENOENT);
	test_env_fail(&f.test, 1, -ENOMEM);
	assert_int_equal(vd_mem_dirty_start(f.mem, ram), -ENOMEM);
	assert_int_equal(vd_mem_dirty_start(f.mem, ram), 0);
	assert_int_equal(vd_mem_dirty_start(f.mem, ram), -EALREADY);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, ram, bits, 1), -ENOSPC);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, ram, bits, 2), 0);
	assert_int_equal(vd_mem_dirty_stop(f.mem, ram), 0);
	assert_int_equal(vd_mem_dirty_stop(f.mem, ram), -ENODATA);
	fixture_close(&f);
}

/* Mirrors are told to write-protect the slot at the start, then what was dirty at each fetch. */
static void test_mirrors_are_protected(void **state)
{
	struct fixture f;
	struct ear ear;
	uint8_t bits[2] = {0xff, 0xff};
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 16 * PAGE, 0, 12 * PAGE);
	ear_open(&ear, &f);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	assert_int_equal(ear.starts[0].reason, VD_INVALIDATE_WRITE_PROTECT);
	assert_int_equal(ear.starts[0].start, 16 * PAGE);
	assert_int_equal(ear.starts[0].length, 12 * PAGE);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bits, 2), 0);
	assert_int_equal(bits[0] | bits[1], 0);
	assert_int_equal(ear.start_count, 1);
	vd_mem_mark_dirty(f.mem, (vd_gpa){19 * PAGE}, 1);
	vd_mem_mark_dirty(f.mem, (vd_gpa){25 * PAGE - 1}, 2);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bits, 2), 0);
	assert_int_equal(bits[0], 1 << 3);
	assert_int_equal(bits[1], 1 << 0 | 1 << 1);
	assert_int_equal(ear.start_count, 2);
	assert_int_equal(ear.starts[1].start, 19 * PAGE);
	assert_int_equal(ear.starts[1].length, 7 * PAGE);
	ear_close(&ear, &f);
	fixture_close(&f);
}

static void test_log_moves_with_its_slot(void **state)
{
	struct vd_mem_update *update;
	struct fixture f;
	uint8_t bits;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 0, 0, 4 * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){PAGE}, "x", 1), 0);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){8 * PAGE}, NULL), 0);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){11 * PAGE}, "x", 1), 0);
	vd_mem_mark_dirty(f.mem, (vd_gpa){0}, 4 * PAGE);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), 0);
	assert_int_equal(bits, 0x0a);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){0}, NULL), 0);
	vd_mem_abort(update);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){8 * PAGE}, "x", 1), 0);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), 0);
	assert_int_equal(bits, 0x01);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), -ENOENT);
	fixture_close(&f);
}

/* ---- against a plain array ---- */

#define MODEL_PAGES 200u

static void mark_plain(uint8_t *plain, uint64_t first, uint64_t gpa, uint64_t length)
{
	for (uint64_t page = 0; page < MODEL_PAGES; page++) {
		uint64_t start = first + page * PAGE;

		if (length && start < gpa + length && gpa < start + PAGE)
			plain[page / 8] |= (uint8_t)(1 << page % 8);
	}
}

/* Two slots with a hole between, marks that reach over all of it, copies and fetches. */
static void test_against_a_model(void **state)
{
	static const uint64_t bases[2] = {100 * PAGE, 320 * PAGE};
	static unsigned char data[5 * PAGE];
	uint8_t plain[2][MODEL_PAGES / 8] = {{0}}, bits[MODEL_PAGES / 8];
	uint64_t seed = 21;
	uint32_t ids[2];
	struct fixture f;

	(void)state;
	fixture_open(&f);
	for (unsigned i = 0; i < 2; i++) {
		ids[i] = add_ram(&f, bases[i], i * 56 * PAGE, MODEL_PAGES * PAGE);
		assert_int_equal(vd_mem_dirty_start(f.mem, ids[i]), 0);
	}
	for (unsigned round = 0; round < 4000; round++) {
		uint64_t gpa = test_random(&seed) % (600 * PAGE);
		uint64_t most = test_random(&seed) % 32 ? sizeof(data) : 600 * PAGE;
		uint64_t length = test_random(&seed) % most;
		unsigned i = (unsigned)(test_random(&seed) % 2);
		bool marked = true;

		if (length > sizeof(data) || test_random(&seed) % 2)
			vd_mem_mark_dirty(f.mem, (vd_gpa){gpa}, length);
		else
			marked = !vd_mem_write(f.mem, (vd_gpa){gpa}, data, length);
		for (unsigned k = 0; k < 2 && marked; k++)
			mark_plain(plain[k], bases[k], gpa, length);
		if (test_random(&seed) % 4)
			continue;
		assert_int_equal(vd_mem_dirty_fetch(f.mem, ids[i], bits, sizeof(bits)), 0);
		assert_memory_equal(bits, plain[i], sizeof(bits));
		memset(plain[i], 0, sizeof(plain[i]));
	}
	fixture_close(&f);
}

static void test_marks_far_and_wide(void **state)
{
	struct fixture f;
	uint8_t bits;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	vd_mem_mark_dirty(f.mem, (vd_gpa){0}, UINT64_MAX);
	id = add_ram(&f, 0, 0, 3 * PAGE);
	vd_mem_mark_dirty(f.mem, (vd_gpa){0}, PAGE); /* no log runs */
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	vd_mem_mark_dirty(f.mem, (vd_gpa){0}, 0);
	vd_mem_mark_dirty(f.mem, (vd_gpa){3 * PAGE}, UINT64_MAX);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), 0);
	assert_int_equal(bits, 0);
	vd_mem_mark_dirty(f.mem, (vd_gpa){2 * PAGE}, UINT64_MAX);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), 0);
	assert_int_equal(bits, 4);
	vd_mem_mark_dirty(f.mem, (vd_gpa){0}, UINT64_MAX);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, &bits, 1), 0);
	assert_int_equal(bits, 7);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_mirrors_are_protected),
		cmocka_unit_test(test_log_moves_with_its_slot),
		cmocka_unit_test(test_against_a_model),
		cmocka_unit_test(test_marks_far_and_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
