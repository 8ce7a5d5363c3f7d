/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hart uses a page whose slot goes and comes back, or is replaced by one with other memory behind
 * it: a replacement is never seen as a hole, and what went is not used any more.
 */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static bool may_be_missing;

static void *set_up(const struct vd_env *env)
{
	struct fixture *f = fixture_create(env, 1);

	f->harts[0].present = true;
	return f;
}

static void hart(void *context)
{
	struct fixture *f = context;
	int r;

	hart_enter(f, 0);
	r = hart_access(f, 0, BASE, VD_READ);
	interleave_check(!r || (may_be_missing && r == -ENOENT), "the slot is not there");
	hart_leave(f, 0);
}

static struct vd_slot_config slot_of(const struct fixture *f)
{
	return (struct vd_slot_config){.base = {BASE}, .size = PAGE, .kind = VD_SLOT_RAM,
				       .object = f->object, .name = "again"};
}

static void remover(void *context)
{
	struct fixture *f = context;
	unsigned frame = fixture_frame(f, 0);
	struct vd_slot_config slot = slot_of(f);

	interleave_check(!vd_mem_remove_slot(f->mem, f->slot), "no slot to remove");
	/* now somebody else uses the memory; then it is the guest's again */
	atomic_store(&f->taken[frame], 1);
	atomic_store(&f->taken[frame], 0);
	interleave_check(!vd_mem_add_slot(f->mem, &slot, NULL, NULL), "the slot cannot be added");
}

/* In one update. The frame stays the same, so all that can be seen is a hole. */
static void replacer(void *context)
{
	struct fixture *f = context;
	struct vd_slot_config slot = slot_of(f);
	struct vd_mem_update *update;

	interleave_check(!vd_mem_begin(f->mem, &update), "no update");
	interleave_check(!vd_mem_remove(update, f->slot), "no slot to remove");
	interleave_check(!vd_mem_add(update, &slot, NULL, NULL), "the slot cannot be added");
	vd_mem_commit(update);
}

static const struct interleave_case fault_remove = {
	.name = "fault, slot removed and added",
	.set_up = set_up,
	.run = {hart, remover},
	.names = {"hart", "remover"},
	.finish = fixture_finish,
};
static const struct interleave_case fault_replace = {
	.name = "fault, slot replaced",
	.set_up = set_up,
	.run = {hart, replacer},
	.names = {"hart", "replacer"},
	.finish = fixture_finish,
};

static void a_slot_goes_and_comes(void **state)
{
	(void)state;
	may_be_missing = true;
	run_most(&fault_remove, 1);
}

static void a_replacement_is_no_hole(void **state)
{
	(void)state;
	may_be_missing = false;
	run_most(&fault_replace, 1);
}

static void without_retry(void **state)
{
	(void)state;
	may_be_missing = true;
	plants.no_retry = true;
	run_planted(&fault_remove, "taken away");
	may_be_missing = false;
	plants.no_retry = true;
	run_planted(&fault_replace, "not there");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_goes_and_comes),
		cmocka_unit_test(a_replacement_is_no_hole),
		cmocka_unit_test(without_retry),
	};

	return cmocka_run_group_tests_name("interleave slots", tests, NULL, NULL);
}
