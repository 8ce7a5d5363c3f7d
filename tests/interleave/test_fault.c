/* SPDX-License-Identifier: BSD-2-Clause */
/* A hart that faults against the host, which moves the page to another frame. */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static unsigned wanted_access;
static bool again; /* the hart uses the page twice: from its TLB, if nobody asked for that back */
static bool careless;

static void *set_up(const struct vd_env *env)
{
	struct fixture *f = fixture_create(env, 1);

	f->harts[0].present = true;
	f->careless = careless;
	return f;
}

static void hart(void *context)
{
	struct fixture *f = context;

	hart_enter(f, 0);
	interleave_check(!hart_access(f, 0, BASE, wanted_access), "the fault fails");
	if (again) {
		hart_poll(f, 0);
		interleave_check(!hart_access(f, 0, BASE, wanted_access), "the fault fails");
	}
	hart_leave(f, 0);
}

static void changer(void *context)
{
	fixture_move(context, 0);
}

static const struct interleave_case fault_move = {
	.name = "fault, move",
	.set_up = set_up,
	.run = {hart, changer},
	.names = {"hart", "changer"},
	.finish = fixture_finish,
};

static void reads(void **state)
{
	(void)state;
	wanted_access = VD_READ;
	run_all(&fault_move);
}

static void writes(void **state)
{
	(void)state;
	wanted_access = VD_WRITE;
	run_most(&fault_move, 1);
}

static void uses_twice(void **state)
{
	(void)state;
	wanted_access = VD_READ;
	again = true;
	run_most(&fault_move, 1);
	again = false;
}

static void without_retry(void **state)
{
	(void)state;
	wanted_access = VD_READ;
	plants.no_retry = true;
	run_planted(&fault_move, "taken away");
}

static void without_waiting_for_harts(void **state)
{
	(void)state;
	wanted_access = VD_READ;
	careless = again = true;
	run_planted(&fault_move, "uses a frame that was taken away");
	careless = again = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(writes),
		cmocka_unit_test(uses_twice),
		cmocka_unit_test(without_retry),
		cmocka_unit_test(without_waiting_for_harts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
