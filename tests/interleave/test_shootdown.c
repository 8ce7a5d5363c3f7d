/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shoot-down (src/vcpu/riscv/group.c), with a hart whose TLB has one entry: when the flush
 * returns, the hart does not use what was there any more, wherever it was.
 */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "vcpu/riscv/hart.h"

struct machine {
	struct vd_hart *hart;
	struct vd_hart_group *group;
	_Atomic uint32_t present; /* in the table */
	_Atomic uint32_t taken;
	bool cached;
};

static struct machine *at_hand; /* for the TLB, which knows its hart only */
static bool plant_requests, plant_where, plant_waiters;

void vd_tlb_flush_stage2(struct vd_hart *h)
{
	(void)h;
	at_hand->cached = false;
}

static void *set_up(const struct vd_env *env)
{
	struct machine *m = env->allocate(env, sizeof(*m), 16);

	at_hand = m;
	m->present = 1;
	m->hart = env->allocate(env, sizeof(*m->hart), 64);
	if (vd_hart_group_create(env, &m->group, NULL))
		return NULL;
	m->hart->config.env = env;
	m->hart->config.group = m->group;
	vd_hart_group_add(m->hart);
	if (plant_requests)
		interleave_spoil(&m->hart->requests, INTERLEAVE_LOAD);
	if (plant_where)
		interleave_spoil(&m->hart->where, INTERLEAVE_STORE);
	if (plant_waiters)
		interleave_spoil(&m->hart->waiters, INTERLEAVE_LOAD);
	return m;
}

static void use(struct machine *m)
{
	if (!m->cached && atomic_load(&m->present))
		m->cached = true;
	if (m->cached)
		interleave_check(!atomic_load(&m->taken), "the hart uses what was taken away");
}

/* Enters, uses the page, polls, uses it again, and leaves; and all that once more. */
static void hart(void *context)
{
	struct machine *m = context;

	for (unsigned i = 0; i < 2; i++) {
		vd_hart_go_inside(m->hart);
		use(m);
		if (atomic_load(&m->hart->requests) & REQUEST_FLUSH)
			vd_hart_acknowledge_flush(m->hart);
		use(m);
		vd_hart_go_outside(m->hart);
	}
}

static void taker(void *context)
{
	struct machine *m = context;

	atomic_store(&m->present, 0);
	vd_hart_group_flush(m->group, (vd_gpa){0}, PAGE);
	atomic_store(&m->taken, 1);
}

/* Flushes for another reason: its request may be taken for the other's. */
static void flusher(void *context)
{
	struct machine *m = context;

	vd_hart_group_flush(m->group, (vd_gpa){0}, PAGE);
}

static const struct interleave_case shootdown = {
	.name = "hart, flush", .set_up = set_up, .run = {hart, taker}, .names = {"hart", "taker"},
};
static const struct interleave_case two_flushes = {
	.name = "hart, two flushes", .set_up = set_up, .run = {hart, taker, flusher},
	.names = {"hart", "taker", "flusher"},
};

static void flushed_is_not_used(void **state)
{
	(void)state;
	run_all(&shootdown);
	run_all(&two_flushes);
}

static void planted(void **state)
{
	(void)state;
	plant_requests = true;
	run_planted(&shootdown, "taken away");
	plant_requests = false;
	plant_where = true;
	run_planted(&shootdown, "taken away");
	plant_where = false;
	plant_waiters = true;
	run_planted(&shootdown, "nobody can go on");
	plant_waiters = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flushed_is_not_used),
		cmocka_unit_test(planted),
	};

	return cmocka_run_group_tests_name("interleave shootdown", tests, NULL, NULL);
}
