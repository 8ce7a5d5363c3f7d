/* SPDX-License-Identifier: BSD-2-Clause */
/* The notifier chain on one thread: its rules one by one, then random histories against a model. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include <viaduct/host.h>

#include "../base/test_env.h"

/* ---- a listener that keeps a diary ----------------------------------- */

struct diary {
	struct vd_listener listener;
	struct vd_notifier *notifier;
	char *log; /* shared by several */
	char name;
	int refuse; /* what invalidate_start returns */
	int starts, ends, releases;
	bool young;
	bool leave_in_start, leave_in_end, leave_in_release;
	struct diary *drop; /* unregister that one from within start */
};

static struct diary *diary_of(struct vd_listener *listener)
{
	return (struct diary *)(void *)listener;
}

static void note(struct diary *diary, char what)
{
	size_t n = strlen(diary->log);

	assert_true(n < 60);
	diary->log[n] = what;
	diary->log[n + 1] = diary->name;
	diary->log[n + 2] = '\0';
}

static int diary_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct diary *diary = diary_of(listener);

	note(diary, '+');
	/* the range is active before anybody is called */
	assert_true(vd_notifier_retry(diary->notifier, vd_notifier_begin(diary->notifier),
				      event->start, event->length));
	if (diary->drop)
		vd_notifier_unregister(diary->notifier, &diary->drop->listener);
	if (diary->leave_in_start)
		vd_notifier_unregister(diary->notifier, listener);
	if (!diary->refuse)
		diary->starts++;
	return diary->refuse;
}

static void diary_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct diary *diary = diary_of(listener);

	(void)event;
	note(diary, '-');
	diary->ends++;
	if (diary->leave_in_end)
		vd_notifier_unregister(diary->notifier, listener);
}

static bool diary_clear_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	bool young = diary_of(listener)->young;

	(void)range;
	note(diary_of(listener), 'c');
	diary_of(listener)->young = false;
	return young;
}

static bool diary_test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	(void)range;
	note(diary_of(listener), 't');
	return diary_of(listener)->young;
}

static void diary_release(struct vd_listener *listener)
{
	struct diary *diary = diary_of(listener);

	note(diary, 'r');
	diary->releases++;
	if (diary->leave_in_release)
		vd_notifier_unregister(diary->notifier, listener);
}

static const struct vd_listener_ops diary_ops = {
	.invalidate_start = diary_start,
	.invalidate_end = diary_end,
	.clear_young = diary_clear_young,
	.test_young = diary_test_young,
	.release = diary_release,
};

struct setup {
	struct vd_notifier notifier;
	char log[64];
	struct diary a, b, c;
};

static void add(struct setup *setup, struct diary *diary, char name)
{
	diary->listener.ops = &diary_ops;
	diary->notifier = &setup->notifier;
	diary->log = setup->log;
	diary->name = name;
	assert_int_equal(vd_notifier_register(&setup->notifier, &diary->listener), 0);
}

static int set_up(void **state)
{
	static struct setup setup;

	memset(&setup, 0, sizeof(setup));
	vd_notifier_init(&setup.notifier, vd_env_hosted());
	add(&setup, &setup.a, 'a');
	add(&setup, &setup.b, 'b');
	add(&setup, &setup.c, 'c');
	*state = &setup;
	return 0;
}

static int tear_down(void **state)
{
	struct setup *setup = *state;

	vd_notifier_unregister(&setup->notifier, &setup->a.listener);
	vd_notifier_unregister(&setup->notifier, &setup->b.listener);
	vd_notifier_unregister(&setup->notifier, &setup->c.listener);
	vd_notifier_fini(&setup->notifier);
	return 0;
}

static const struct vd_invalidation event = {.start = 0x1000, .length = 0x2000, .blockable = true};

/* ---- the rules one by one -------------------------------------------- */

static void calls_in_order_of_registration(void **state)
{
	struct setup *setup = *state;
	uint64_t seq = vd_notifier_begin(&setup->notifier);

	assert_true(vd_notifier_armed(&setup->notifier));
	assert_false(vd_notifier_retry(&setup->notifier, seq, 0x1000, 1));
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	assert_string_equal(setup->log, "+a+b+c");
	vd_notifier_end(&setup->notifier, &event);
	assert_string_equal(setup->log, "+a+b+c-a-b-c");
	assert_true(vd_notifier_retry(&setup->notifier, seq, 0x1000, 1)); /* seq has moved */
	assert_false(vd_notifier_retry(&setup->notifier, vd_notifier_begin(&setup->notifier),
				       0x1000, 1));
}

static void retry_knows_the_range(void **state)
{
	struct setup *setup = *state;
	struct vd_notifier *n = &setup->notifier;
	uint64_t seq = vd_notifier_begin(n);

	assert_int_equal(vd_notifier_start(n, &event), 0);
	assert_false(vd_notifier_retry(n, seq, 0, 0x1000));
	assert_true(vd_notifier_retry(n, seq, 0, 0x1001));
	assert_true(vd_notifier_retry(n, seq, 0x2fff, 1));
	assert_false(vd_notifier_retry(n, seq, 0x3000, UINT64_MAX - 0x3000));
	vd_notifier_wait(n, 0x3000, 0x1000); /* does not sleep */
	vd_notifier_end(n, &event);
	vd_notifier_wait(n, 0x1000, 0x1000);
}

static void a_range_may_end_at_the_very_top(void **state)
{
	struct setup *setup = *state;
	struct vd_notifier *n = &setup->notifier;
	struct vd_invalidation top = {.start = UINT64_MAX - 0xfff, .length = 0x1000};
	struct vd_invalidation wraps = {.start = UINT64_MAX - 0xfff, .length = 0x1001};
	struct vd_invalidation empty = {.start = 5};
	uint64_t seq = vd_notifier_begin(n);

	assert_int_equal(vd_notifier_start(n, &wraps), -EINVAL);
	assert_int_equal(vd_notifier_start(n, &empty), -EINVAL);
	assert_int_equal(vd_notifier_start(n, &top), 0);
	assert_true(vd_notifier_retry(n, seq, UINT64_MAX, 1));
	assert_false(vd_notifier_retry(n, seq, 0, 0x1000));
	vd_notifier_end(n, &top);
}

static void a_failed_start_ends_those_already_called(void **state)
{
	struct setup *setup = *state;
	uint64_t seq;

	setup->b.refuse = -EAGAIN;
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), -EAGAIN);
	assert_string_equal(setup->log, "+a+b-a");
	seq = vd_notifier_begin(&setup->notifier);
	assert_false(vd_notifier_retry(&setup->notifier, seq, event.start, event.length));
	setup->b.refuse = 0;
	setup->a.refuse = -EBUSY;
	setup->log[0] = '\0';
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), -EBUSY);
	assert_string_equal(setup->log, "+a");
	setup->a.refuse = 0;
}

static void may_leave_from_its_own_callbacks(void **state)
{
	struct setup *setup = *state;

	setup->a.leave_in_start = true;
	setup->b.leave_in_end = true;
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	memset(&setup->a.listener, 0xee, sizeof(setup->a.listener)); /* may be freed now */
	vd_notifier_end(&setup->notifier, &event);
	assert_string_equal(setup->log, "+a+b+c-b-c");
	setup->log[0] = '\0';
	setup->c.leave_in_release = true;
	vd_notifier_release(&setup->notifier);
	assert_string_equal(setup->log, "rc");
	assert_false(vd_notifier_armed(&setup->notifier));
}

static void the_next_one_may_be_removed_under_a_walk(void **state)
{
	struct setup *setup = *state;

	setup->a.drop = &setup->b;
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	assert_string_equal(setup->log, "+a+c");
	setup->a.drop = NULL;
	vd_notifier_end(&setup->notifier, &event);
	assert_string_equal(setup->log, "+a+c-a-c");
}

static void who_comes_later_hears_no_end(void **state)
{
	struct setup *setup = *state;
	struct diary late = {0};

	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	add(setup, &late, 'd');
	vd_notifier_end(&setup->notifier, &event);
	assert_string_equal(setup->log, "+a+b+c-a-b-c");
	vd_notifier_unregister(&setup->notifier, &late.listener);
	vd_notifier_unregister(&setup->notifier, &late.listener); /* harmless */
}

static void young_asks_everybody(void **state)
{
	struct setup *setup = *state;

	assert_false(vd_notifier_test_young(&setup->notifier, &event));
	setup->b.young = true;
	setup->log[0] = '\0';
	assert_true(vd_notifier_test_young(&setup->notifier, &event));
	assert_string_equal(setup->log, "tatb");
	setup->log[0] = '\0';
	assert_true(vd_notifier_clear_young(&setup->notifier, &event));
	assert_string_equal(setup->log, "cacbcc");
	assert_false(vd_notifier_test_young(&setup->notifier, &event));
}

static void release_happens_once(void **state)
{
	struct setup *setup = *state;
	struct diary late = {.listener.ops = &diary_ops};

	vd_notifier_release(&setup->notifier);
	vd_notifier_release(&setup->notifier);
	assert_string_equal(setup->log, "rarbrc");
	assert_int_equal(vd_notifier_register(&setup->notifier, &late.listener), -ESHUTDOWN);
}

static void needs_an_invalidate_start(void **state)
{
	struct setup *setup = *state;
	static const struct vd_listener_ops none = {.invalidate_end = diary_end};
	struct vd_listener listener = {.ops = &none};

	assert_int_equal(vd_notifier_register(&setup->notifier, &listener), -EINVAL);
	listener.ops = NULL;
	assert_int_equal(vd_notifier_register(&setup->notifier, &listener), -EINVAL);
}

static int only_start(struct vd_listener *listener, const struct vd_invalidation *range)
{
	(void)listener;
	(void)range;
	return 0;
}

static void all_but_start_is_optional(void **state)
{
	struct setup *setup = *state;
	static const struct vd_listener_ops least = {.invalidate_start = only_start};
	struct vd_listener listener = {.ops = &least};

	assert_int_equal(vd_notifier_register(&setup->notifier, &listener), 0);
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	vd_notifier_end(&setup->notifier, &event);
	assert_false(vd_notifier_clear_young(&setup->notifier, &event));
	assert_false(vd_notifier_test_young(&setup->notifier, &event));
	vd_notifier_release(&setup->notifier);
	vd_notifier_unregister(&setup->notifier, &listener);
}

/* ---- changes that began when nobody listened ------------------------- */

static struct vd_notifier *left_chain;

/* Leaves, lets an equal change come and go that finds nobody listening, then refuses. */
static int leave_and_refuse(struct vd_listener *listener, const struct vd_invalidation *told)
{
	vd_notifier_unregister(left_chain, listener);
	assert_int_equal(vd_notifier_start(left_chain, told), 0);
	vd_notifier_end(left_chain, told);
	return -EAGAIN;
}

static void a_refusal_outlives_an_equal_change(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = leave_and_refuse};
	struct vd_listener listener = {.ops = &ops};
	struct vd_notifier notifier;

	(void)state;
	vd_notifier_init(&notifier, vd_env_hosted());
	left_chain = &notifier;
	assert_int_equal(vd_notifier_register(&notifier, &listener), 0);
	assert_int_equal(vd_notifier_start(&notifier, &event), -EAGAIN);
	assert_false(vd_notifier_retry(&notifier, vd_notifier_begin(&notifier), event.start, 1));
	vd_notifier_fini(&notifier);
}

static void *register_late(void *context)
{
	struct diary *diary = context;

	assert_int_equal(vd_notifier_register(diary->notifier, &diary->listener), 0);
	return NULL;
}

/* Two changes of the same range, of different objects, on either side of the arming. */
static void who_arms_hears_no_end_of_what_was_under_way(void **state)
{
	struct vd_invalidation first = {.object = (const void *)1, .length = 4096};
	struct vd_invalidation second = {.object = (const void *)2, .length = 4096};
	char log[64] = "";
	struct vd_notifier notifier;
	struct diary diary = {.listener.ops = &diary_ops, .notifier = &notifier, .log = log,
			      .name = 'l'};
	pthread_t thread;

	(void)state;
	vd_notifier_init(&notifier, vd_env_hosted());
	assert_int_equal(vd_notifier_start(&notifier, &first), 0);
	pthread_create(&thread, NULL, register_late, &diary);
	while (!vd_notifier_armed(&notifier))
		sched_yield();
	assert_int_equal(vd_notifier_start(&notifier, &second), 0);
	vd_notifier_end(&notifier, &first);
	pthread_join(thread, NULL);
	assert_true(vd_notifier_retry(&notifier, vd_notifier_begin(&notifier), 0, 1));
	vd_notifier_end(&notifier, &second);
	assert_false(vd_notifier_retry(&notifier, vd_notifier_begin(&notifier), 0, 1));
	assert_string_equal(log, "");
	vd_notifier_unregister(&notifier, &diary.listener);
	vd_notifier_fini(&notifier);
}

static void nobody_listens(void **state)
{
	struct vd_notifier notifier;
	struct diary diary = {.listener.ops = &diary_ops};
	uint64_t seq;

	(void)state;
	vd_notifier_init(&notifier, vd_env_hosted());
	assert_false(vd_notifier_armed(&notifier));
	seq = vd_notifier_begin(&notifier);
	assert_int_equal(vd_notifier_start(&notifier, &event), 0);
	assert_int_equal(vd_notifier_start(&notifier, &event), 0);
	/* who touches memory without listening is still told, if not where */
	assert_true(vd_notifier_retry(&notifier, seq, event.start, 1));
	vd_notifier_end(&notifier, &event);
	assert_true(vd_notifier_retry(&notifier, vd_notifier_begin(&notifier), event.start, 1));
	vd_notifier_end(&notifier, &event);
	assert_true(vd_notifier_retry(&notifier, seq, event.start, 1));
	assert_false(vd_notifier_retry(&notifier, vd_notifier_begin(&notifier), event.start, 1));
	vd_notifier_wait(&notifier, event.start, 1);
	assert_false(vd_notifier_clear_young(&notifier, &event));
	vd_notifier_release(&notifier);
	assert_int_equal(vd_notifier_register(&notifier, &diary.listener), -ESHUTDOWN);
	vd_notifier_fini(&notifier);
}

/*
 * Armed at the start, nobody there at the end, and the count still comes out even (fini asserts).
 */
static void the_last_one_may_leave_between(void **state)
{
	struct setup *setup = *state;

	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	vd_notifier_unregister(&setup->notifier, &setup->a.listener);
	vd_notifier_unregister(&setup->notifier, &setup->b.listener);
	vd_notifier_unregister(&setup->notifier, &setup->c.listener);
	assert_true(vd_notifier_retry(&setup->notifier, vd_notifier_begin(&setup->notifier),
				      event.start, 1));
	assert_int_equal(vd_notifier_start(&setup->notifier, &event), 0);
	vd_notifier_end(&setup->notifier, &event);
	vd_notifier_end(&setup->notifier, &event);
	assert_string_equal(setup->log, "+a+b+c");
}

/* ---- random histories against a model -------------------------------- */

#define LISTENERS 5
#define EVENTS 12
#define SPACE 32 /* small numbers, so that ranges often meet */

struct mirror {
	struct vd_listener listener;
	bool registered;
	bool refuses;
	unsigned open[SPACE][SPACE + 1]; /* started and not ended, by start and length */
	unsigned expected[SPACE][SPACE + 1];
};

struct model {
	struct vd_notifier notifier;
	struct mirror mirrors[LISTENERS];
	struct vd_invalidation events[EVENTS];
	bool heard[EVENTS][LISTENERS];
	unsigned active;
	uint64_t seed;
	uint64_t seq; /* snapshot of the chain, and whether anything ended since */
	bool ended;
};

static int mirror_start(struct vd_listener *listener, const struct vd_invalidation *range)
{
	struct mirror *mirror = (struct mirror *)(void *)listener;

	if (mirror->refuses)
		return -EAGAIN;
	mirror->open[range->start][range->length]++;
	return 0;
}

static void mirror_end(struct vd_listener *listener, const struct vd_invalidation *range)
{
	struct mirror *mirror = (struct mirror *)(void *)listener;

	assert_true(mirror->open[range->start][range->length] > 0);
	mirror->open[range->start][range->length]--;
}

static const struct vd_listener_ops mirror_ops = {
	.invalidate_start = mirror_start,
	.invalidate_end = mirror_end,
};

static bool anybody(const struct model *model)
{
	for (int i = 0; i < LISTENERS; i++)
		if (model->mirrors[i].registered)
			return true;
	return false;
}

/* Equal events in a crowd cannot be told apart: which of them ends for a late listener is open. */
static bool confusing(const struct model *model, const struct vd_invalidation *range)
{
	if (model->active < VD_NOTIFIER_RANGES && !model->notifier.shared_users)
		return false;
	for (unsigned i = 0; i < model->active; i++)
		if (model->events[i].start == range->start &&
		    model->events[i].length == range->length)
			return true;
	return false;
}

static void model_start(struct model *model)
{
	struct vd_invalidation range = {.start = test_random(&model->seed) % SPACE};
	bool refused = false;
	int result;

	if (model->active == EVENTS || !anybody(model))
		return;
	range.length = 1 + test_random(&model->seed) % (SPACE - range.start);
	if (confusing(model, &range))
		return;
	for (int i = 0; i < LISTENERS; i++) {
		model->mirrors[i].refuses = test_random(&model->seed) % 16 == 0;
		refused |= model->mirrors[i].registered && model->mirrors[i].refuses;
	}
	result = vd_notifier_start(&model->notifier, &range);
	assert_int_equal(result, refused ? -EAGAIN : 0);
	if (refused) {
		model->ended = true;
		return;
	}
	for (int i = 0; i < LISTENERS; i++) {
		model->heard[model->active][i] = model->mirrors[i].registered;
		model->mirrors[i].expected[range.start][range.length] +=
			model->mirrors[i].registered;
	}
	model->events[model->active++] = range;
}

static void model_end(struct model *model)
{
	unsigned which;
	struct vd_invalidation range;

	if (!model->active)
		return;
	/* of equal events the last one ends first, as nested events do */
	which = (unsigned)(test_random(&model->seed) % model->active);
	range = model->events[which];
	for (unsigned i = which; i < model->active; i++)
		if (model->events[i].start == range.start &&
		    model->events[i].length == range.length)
			which = i;
	vd_notifier_end(&model->notifier, &range);
	for (int i = 0; i < LISTENERS; i++)
		if (model->heard[which][i] && model->mirrors[i].registered)
			model->mirrors[i].expected[range.start][range.length]--;
	model->active--;
	memmove(&model->events[which], &model->events[which + 1],
		(model->active - which) * sizeof(model->events[0]));
	memmove(&model->heard[which], &model->heard[which + 1],
		(model->active - which) * sizeof(model->heard[0]));
	model->ended = true;
}

static void model_register(struct model *model)
{
	struct mirror *mirror = &model->mirrors[test_random(&model->seed) % LISTENERS];

	if (mirror->registered) {
		vd_notifier_unregister(&model->notifier, &mirror->listener);
		mirror->registered = false;
		memset(mirror->open, 0, sizeof(mirror->open));
		memset(mirror->expected, 0, sizeof(mirror->expected));
		for (unsigned i = 0; i < model->active; i++)
			model->heard[i][mirror - model->mirrors] = false;
	} else if (model->active <= VD_NOTIFIER_RANGES && !model->notifier.shared_users) {
		/* with more events it would wait for one of them, on this very thread */
		assert_int_equal(vd_notifier_register(&model->notifier, &mirror->listener), 0);
		mirror->registered = true;
	}
}

static void model_retry(struct model *model)
{
	uint64_t start = test_random(&model->seed) % SPACE;
	uint64_t length = 1 + test_random(&model->seed) % (SPACE - start);
	bool overlaps = false, retry;

	for (unsigned i = 0; i < model->active; i++)
		overlaps |= vd_ranges_overlap(start, length, model->events[i].start,
					      model->events[i].length);
	retry = vd_notifier_retry(&model->notifier, model->seq, start, length);
	if (overlaps || model->ended)
		assert_true(retry);
	else if (!model->notifier.shared_users) /* else it may be careful */
		assert_false(retry);
	if (test_random(&model->seed) & 1) {
		model->seq = vd_notifier_begin(&model->notifier);
		model->ended = false;
	}
}

static void run_history(uint64_t seed)
{
	static struct model model;

	memset(&model, 0, sizeof(model));
	model.seed = seed;
	vd_notifier_init(&model.notifier, vd_env_hosted());
	for (int i = 0; i < LISTENERS; i++)
		model.mirrors[i].listener.ops = &mirror_ops;
	for (int step = 0; step < 400; step++) {
		switch (test_random(&model.seed) % 8) {
		case 0: case 1: case 2:
			model_start(&model);
			break;
		case 3: case 4:
			model_end(&model);
			break;
		case 5:
			model_register(&model);
			break;
		default:
			model_retry(&model);
			break;
		}
		for (int i = 0; i < LISTENERS; i++)
			assert_memory_equal(model.mirrors[i].open, model.mirrors[i].expected,
					    sizeof(model.mirrors[i].open));
	}
	while (model.active)
		model_end(&model);
	for (int i = 0; i < LISTENERS; i++)
		vd_notifier_unregister(&model.notifier, &model.mirrors[i].listener);
	vd_notifier_fini(&model.notifier);
}

static void random_histories(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		test_start(seed);
		run_history(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CHAIN_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		CHAIN_TEST(calls_in_order_of_registration),
		CHAIN_TEST(retry_knows_the_range),
		CHAIN_TEST(a_range_may_end_at_the_very_top),
		CHAIN_TEST(a_failed_start_ends_those_already_called),
		CHAIN_TEST(may_leave_from_its_own_callbacks),
		CHAIN_TEST(the_next_one_may_be_removed_under_a_walk),
		CHAIN_TEST(who_comes_later_hears_no_end),
		CHAIN_TEST(young_asks_everybody),
		CHAIN_TEST(release_happens_once),
		CHAIN_TEST(needs_an_invalidate_start),
		CHAIN_TEST(all_but_start_is_optional),
		CHAIN_TEST(the_last_one_may_leave_between),
		cmocka_unit_test(a_refusal_outlives_an_equal_change),
		cmocka_unit_test(who_arms_hears_no_end_of_what_was_under_way),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test_teardown(random_histories, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
