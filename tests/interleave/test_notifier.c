/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listeners that come and go while events start and end: nobody keeps what changed without being
 * told, nobody is called once he has left, nobody sleeps for ever.
 */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NOTHING UINT32_MAX

struct mirror {
	struct vd_listener listener;
	struct chain *chain;
	struct vd_lock lock;
	_Atomic uint32_t cached;
	bool leaves; /* at the first event */
};

struct chain {
	const struct vd_env *env;
	struct vd_notifier notifier;
	_Atomic uint32_t memory;
	struct mirror *mirror, *other;
};

static bool plant_sleepers, plant_armed;

static int mirror_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct mirror *mirror = (struct mirror *)(void *)listener;
	const struct vd_env *env = mirror->chain->env;

	(void)event;
	env->lock(env, &mirror->lock);
	atomic_store(&mirror->cached, NOTHING);
	env->unlock(env, &mirror->lock);
	if (mirror->leaves)
		vd_notifier_unregister(&mirror->chain->notifier, listener);
	return 0;
}

static const struct vd_listener_ops mirror_ops = {.invalidate_start = mirror_start};

static struct mirror *mirror_create(struct chain *c)
{
	struct mirror *mirror = c->env->allocate(c->env, sizeof(*mirror), 16);

	mirror->listener.ops = &mirror_ops;
	mirror->chain = c;
	mirror->cached = NOTHING;
	return mirror;
}

static void *set_up(const struct vd_env *env)
{
	struct chain *c = env->allocate(env, sizeof(*c), 16);

	c->env = env;
	vd_notifier_init(&c->notifier, env);
	c->mirror = mirror_create(c);
	c->other = mirror_create(c);
	if (plant_sleepers)
		interleave_spoil(&c->notifier.sleepers, INTERLEAVE_LOAD);
	if (plant_armed)
		interleave_spoil(&c->notifier.armed, INTERLEAVE_LOAD);
	return c;
}

/* The same with a listener that is there from the beginning, and leaves when it hears something. */
static void *set_up_leaver(const struct vd_env *env)
{
	struct chain *c = set_up(env);

	c->other->leaves = true;
	if (vd_notifier_register(&c->notifier, &c->other->listener))
		return NULL;
	return c;
}

static void change(struct chain *c, uint32_t value)
{
	struct vd_invalidation event = {.start = 0, .length = PAGE, .blockable = true};

	interleave_check(!vd_notifier_start(&c->notifier, &event), "the start fails");
	atomic_store(&c->memory, value - 1);
	atomic_store(&c->memory, value);
	vd_notifier_end(&c->notifier, &event);
}

static void changer(void *context)
{
	change(context, 2);
}

static void mirror_look(struct chain *c, struct mirror *mirror)
{
	for (;;) {
		uint64_t seq = vd_notifier_begin(&c->notifier);
		uint32_t value = atomic_load(&c->memory);
		bool retry;

		c->env->lock(c->env, &mirror->lock);
		retry = vd_notifier_retry(&c->notifier, seq, 0, PAGE);
		if (!retry)
			atomic_store(&mirror->cached, value);
		c->env->unlock(c->env, &mirror->lock);
		if (!retry)
			return;
		vd_notifier_wait(&c->notifier, 0, PAGE);
	}
}

static void comer(void *context)
{
	struct chain *c = context;

	interleave_check(!vd_notifier_register(&c->notifier, &c->mirror->listener),
			 "the registration fails");
	mirror_look(c, c->mirror);
}

/* And is gone at once, with all it had. */
static void visitor(void *context)
{
	struct chain *c = context;

	comer(c);
	vd_notifier_unregister(&c->notifier, &c->mirror->listener);
	c->env->release(c->env, c->mirror, sizeof(*c->mirror));
}

static void finish(void *context)
{
	struct chain *c = context;
	uint32_t cached = c->mirror->cached;

	interleave_check(cached == NOTHING || cached == c->memory, "a mirror holds what is gone");
}

static const struct interleave_case come = {
	.name = "register, event", .set_up = set_up, .run = {comer, changer},
	.names = {"comer", "changer"}, .finish = finish,
};
static const struct interleave_case visit = {
	.name = "register and leave, event", .set_up = set_up, .run = {visitor, changer},
	.names = {"visitor", "changer"},
};
static const struct interleave_case leaver = {
	.name = "leaves within, event", .set_up = set_up_leaver, .run = {visitor, changer},
	.names = {"visitor", "changer"},
};
static const struct interleave_case two_changes = {
	.name = "register, two events", .set_up = set_up, .run = {comer, changer, changer},
	.names = {"comer", "changer", "other"}, .finish = finish,
};

static void whoever_comes_hears_it(void **state)
{
	(void)state;
	run_all(&come);
	run_most(&two_changes, 1);
}

static void who_leaves_is_called_no_more(void **state)
{
	(void)state;
	run_most(&visit, 1);
	run_all(&leaver);
}

static void planted(void **state)
{
	(void)state;
	plant_sleepers = true;
	run_planted(&come, "nobody can go on");
	plant_sleepers = false;
	plant_armed = true;
	run_planted(&come, "holds what is gone");
	plant_armed = false;
	plants.no_retry = true;
	run_planted(&come, "holds what is gone");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whoever_comes_hears_it),
		cmocka_unit_test(who_leaves_is_called_no_more),
		cmocka_unit_test(planted),
	};

	return cmocka_run_group_tests_name("interleave notifier", tests, NULL, NULL);
}
