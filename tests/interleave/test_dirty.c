/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hart stores to a page while somebody fetches the dirty log and copies what was dirty: in the
 * end the copy is the memory, or the log says that it is not.
 */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct logged {
	struct fixture *f;
	_Atomic uint32_t content, copy;
};

static unsigned stores;

static void *set_up(const struct vd_env *env)
{
	struct logged *l = env->allocate(env, sizeof(*l), 16);

	l->f = fixture_create(env, 1);
	l->f->harts[0].present = true;
	if (vd_mem_dirty_start(l->f->mem, l->f->slot))
		return NULL;
	return l;
}

static void writer(void *context)
{
	struct logged *l = context;

	hart_enter(l->f, 0);
	for (uint32_t i = 1; i <= stores; i++) {
		hart_poll(l->f, 0);
		interleave_check(!hart_access(l->f, 0, BASE, VD_WRITE), "the fault fails");
		atomic_store(&l->content, i);
	}
	hart_leave(l->f, 0);
}

static void fetch(struct logged *l)
{
	uint8_t bitmap = 0;

	interleave_check(!vd_mem_dirty_fetch(l->f->mem, l->f->slot, &bitmap, 1), "no log");
	if (bitmap & 1)
		atomic_store(&l->copy, atomic_load(&l->content));
}

static void fetcher(void *context)
{
	fetch(context);
}

static void finish(void *context)
{
	struct logged *l = context;

	fetch(l);
	interleave_check(l->copy == l->content, "a store was never reported");
}

static const struct interleave_case store_fetch = {
	.name = "store, fetch of the log",
	.set_up = set_up,
	.run = {writer, fetcher},
	.names = {"hart", "fetcher"},
	.finish = finish,
};

static void no_store_is_lost(void **state)
{
	(void)state;
	stores = 1;
	run_all(&store_fetch);
	stores = 2;
	run_most(&store_fetch, 1);
}

static void without_retry(void **state)
{
	(void)state;
	stores = 1;
	plants.no_retry = true;
	run_planted(&store_fetch, "never reported");
}

static void without_marks(void **state)
{
	(void)state;
	stores = 1;
	plants.no_dirty_mark = true;
	run_planted(&store_fetch, "never reported");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_store_is_lost),
		cmocka_unit_test(without_retry),
		cmocka_unit_test(without_marks),
	};

	return cmocka_run_group_tests_name("interleave dirty", tests, NULL, NULL);
}
