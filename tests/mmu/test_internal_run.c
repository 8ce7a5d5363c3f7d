/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rule of one run: an abort is the guest's to take once, if it has somebody to take it. And
 * runs on some threads while others give ranges and take them back.
 */
#include "internal_rig.h"

#include <pthread.h>

#define TEXT RAM
#define DATA (RAM + 2 * MIB)
#define OUTSIDE (RAM + 8 * MIB)

static _Atomic uint64_t now;

static uint64_t test_clock(const struct vd_env *env)
{
	(void)env;
	return atomic_load(&now);
}

static void open_guest(struct internal_rig *rig)
{
	internal_open(rig, &vd_mmu_format_arm64_s2_4k, 12);
	rig->test.env.clock_ns = test_clock;
	atomic_store(&now, 1000);
	assert_int_equal(internal_map(rig, TEXT, 2 * MIB, VD_READ | VD_EXECUTE, false), 0);
	assert_int_equal(internal_map(rig, DATA, 2 * MIB, RW, false), 0);
}

static struct vd_internal_abort abort_at(uint64_t address)
{
	return (struct vd_internal_abort){{address}, {address + UINT64_C(0xffff000000000000)},
					  TEXT + 64, VD_READ};
}

static void test_result(void **state)
{
	struct vd_internal_run run;
	struct internal_rig rig;

	(void)state;
	open_guest(&rig);
	memset(&run, 0xff, sizeof(run));
	vd_internal_begin(rig.vm, &run, 50);
	assert_int_equal(run.result, VD_INTERNAL_RUNNING);
	assert_int_equal(run.deadline, 1050);
	assert_int_equal(run.aborts, 0);
	assert_int_equal(vd_internal_ticked(rig.vm, &run), VD_INTERNAL_ENTER);
	assert_int_equal(run.result, VD_INTERNAL_RUNNING);
	assert_int_equal(vd_internal_returned(&run, 42), VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_RETURNED);
	assert_int_equal(run.value, 42);
	vd_internal_begin(rig.vm, &run, 50);
	assert_int_equal(vd_internal_strayed(&run), VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_STRAY);
	internal_close(&rig);
}

static void test_one_abort_is_the_guests(void **state)
{
	struct vd_internal_abort first = abort_at(OUTSIDE), second = abort_at(OUTSIDE + 8);
	struct vd_internal_run run;
	struct internal_rig rig;

	(void)state;
	open_guest(&rig);
	vd_internal_begin(rig.vm, &run, 50);
	assert_int_equal(vd_internal_aborted(rig.vm, &run, &first, (vd_gpa){TEXT + 0x200}),
			 VD_INTERNAL_INJECT);
	assert_int_equal(run.result, VD_INTERNAL_RUNNING);
	assert_memory_equal(&run.abort, &first, sizeof(first));
	assert_int_equal(vd_internal_aborted(rig.vm, &run, &second, (vd_gpa){TEXT + 0x200}),
			 VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_SECOND_ABORT);
	assert_int_equal(run.aborts, 2);
	assert_memory_equal(&run.abort, &first, sizeof(first));
	assert_memory_equal(&run.second, &second, sizeof(second));
	/* the next run begins with a clean sheet; one abort and a result are a result */
	vd_internal_begin(rig.vm, &run, 50);
	assert_int_equal(vd_internal_aborted(rig.vm, &run, &first, (vd_gpa){TEXT}),
			 VD_INTERNAL_INJECT);
	assert_int_equal(vd_internal_returned(&run, 1), VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_RETURNED);
	assert_int_equal(run.aborts, 1);
	internal_close(&rig);
}

static void test_nobody_to_take_it(void **state)
{
	static const uint64_t handlers[] = {UINT64_MAX, 0, DATA, OUTSIDE, TEXT - 4, UINT64_C(1) << 60};
	struct vd_internal_abort abort = abort_at(OUTSIDE);
	struct vd_internal_run run;
	struct internal_rig rig;

	(void)state;
	open_guest(&rig);
	assert_int_equal(VD_INTERNAL_NOBODY.value, UINT64_MAX);
	for (unsigned i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		vd_internal_begin(rig.vm, &run, 50);
		assert_int_equal(vd_internal_aborted(rig.vm, &run, &abort, (vd_gpa){handlers[i]}),
				 VD_INTERNAL_END);
		assert_int_equal(run.result, VD_INTERNAL_NO_HANDLER);
		assert_memory_equal(&run.abort, &abort, sizeof(abort));
	}
	internal_close(&rig);
}

static void test_time_limit(void **state)
{
	struct vd_internal_abort abort = abort_at(OUTSIDE);
	struct vd_internal_run run;
	struct internal_rig rig;

	(void)state;
	open_guest(&rig);
	vd_internal_begin(rig.vm, &run, 50);
	atomic_store(&now, 1049);
	assert_int_equal(vd_internal_ticked(rig.vm, &run), VD_INTERNAL_ENTER);
	atomic_store(&now, 1050);
	assert_int_equal(vd_internal_ticked(rig.vm, &run), VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_TIME_LIMIT);
	/* an abort that comes too late is not handed in */
	vd_internal_begin(rig.vm, &run, 50);
	atomic_store(&now, 1200);
	assert_int_equal(vd_internal_aborted(rig.vm, &run, &abort, (vd_gpa){TEXT}),
			 VD_INTERNAL_END);
	assert_int_equal(run.result, VD_INTERNAL_TIME_LIMIT);
	assert_memory_equal(&run.abort, &abort, sizeof(abort));
	/* no limit is one that never comes, not one that wrapped */
	vd_internal_begin(rig.vm, &run, UINT64_MAX);
	assert_int_equal(run.deadline, UINT64_MAX);
	assert_int_equal(vd_internal_ticked(rig.vm, &run), VD_INTERNAL_ENTER);
	internal_close(&rig);
}

static void test_names(void **state)
{
	(void)state;
	for (int a = VD_INTERNAL_RUNNING; a <= VD_INTERNAL_STRAY; a++)
		for (int b = VD_INTERNAL_RUNNING; b < a; b++)
			assert_string_not_equal(vd_internal_result_name((enum vd_internal_result)a),
						vd_internal_result_name((enum vd_internal_result)b));
	assert_string_equal(vd_internal_result_name((enum vd_internal_result)99), "unknown");
}

/* ---- threads --------------------------------------------------------------------------------- */

#define ROUNDS 200u

struct changer {
	struct internal_rig *rig;
	uint64_t base;
	int failed;
};

static void *change(void *context)
{
	struct changer *changer = context;

	for (unsigned i = 0; i < ROUNDS && !changer->failed; i++) {
		struct vd_internal_range ranges[] = {
			{changer->base, 4 * MIB + 4 * KIB, RW, false, NULL},
			{changer->base + 8 * MIB, 4 * KIB, VD_READ, false, NULL},
		};

		changer->failed = vd_internal_map(changer->rig->vm, ranges, 2, NULL) ||
				  vd_internal_unmap(changer->rig->vm, ranges[0].start) ||
				  vd_internal_unmap(changer->rig->vm, ranges[1].start);
	}
	return NULL;
}

/* Text stands all the time: whoever aborts finds a handler there. */
static void test_runs_while_ranges_change(void **state)
{
	struct changer changers[2];
	struct vd_internal_run run;
	struct internal_rig rig;
	pthread_t threads[2];
	struct vd_mmu_leaf leaf;

	(void)state;
	open_guest(&rig);
	for (unsigned i = 0; i < 2; i++) {
		changers[i] = (struct changer){&rig, RAM + GIB * (i + 1) - 2 * MIB, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, change, &changers[i]), 0);
	}
	for (unsigned i = 0; i < ROUNDS * 10; i++) {
		uint64_t at = changers[i % 2].base + i % 1024 * 4 * KIB;
		struct vd_internal_abort abort = abort_at(at);
		int r = internal_walk(&rig, at, VD_WRITE, &leaf);

		assert_true(r == 0 || r == -ENOENT);
		if (!r)
			assert_int_equal(leaf.pfn.value, at >> 12);
		vd_internal_begin(rig.vm, &run, 50);
		assert_int_equal(vd_internal_aborted(rig.vm, &run, &abort, (vd_gpa){TEXT}),
				 VD_INTERNAL_INJECT);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(changers[i].failed, 0);
	}
	assert_int_equal(internal_stats(&rig).ranges, 2);
	assert_int_equal(internal_stats(&rig).mapped_bytes, 4 * MIB);
	internal_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_one_abort_is_the_guests),
		cmocka_unit_test(test_nobody_to_take_it),
		cmocka_unit_test(test_time_limit),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_runs_while_ranges_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
