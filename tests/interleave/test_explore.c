/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The scheduler itself: small programs whose schedules are known; and random ones, where the
 * reduced search must see every outcome that trying simply everything sees.
 */
#include "interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct world {
	const struct vd_env *env;
	_Atomic uint32_t a, b;
	struct vd_lock lock[2];
	struct vd_deferred *item;
	uint32_t got[INTERLEAVE_THREADS][8];
};

static struct interleave_result result;
static const struct vd_env *scheduled;

static void *world(const struct vd_env *env)
{
	struct world *w = env->allocate(env, sizeof(*w), 16);

	w->env = scheduled = env;
	w->item = env->allocate(env, sizeof(*w->item), 16);
	return w;
}

static void explore(const struct interleave_case *test)
{
	interleave_explore(test, 10, &result);
}

static void expect_schedules(const struct interleave_case *test, uint64_t count)
{
	explore(test);
	if (result.failed)
		fail_msg("%s\n%s", result.text, result.schedule);
	assert_true(result.complete);
	assert_int_equal(result.schedules, count);
}

static void expect_failure(const struct interleave_case *test, const char *text)
{
	explore(test);
	assert_true(result.failed);
	assert_non_null(strstr(result.text, text));
	assert_true(result.schedule[0] != '\0');
}

/* ---- known programs -------------------------------------------------- */

static void store_a(void *context)
{
	atomic_store(&((struct world *)context)->a, 1);
}

static void store_b(void *context)
{
	atomic_store(&((struct world *)context)->b, 1);
}

static void load_a(void *context)
{
	(void)atomic_load(&((struct world *)context)->a);
}

static void orders_are_counted(void **state)
{
	const struct interleave_case apart = {
		.set_up = world, .run = {store_a, store_b}, .names = {"a", "b"}};
	const struct interleave_case three = {
		.set_up = world, .run = {store_a, store_a, store_a}, .names = {"a", "b", "c"}};
	const struct interleave_case readers = {
		.set_up = world, .run = {load_a, load_a, store_a}, .names = {"a", "b", "c"}};

	(void)state;
	expect_schedules(&apart, 1);
	expect_schedules(&three, 6);
	expect_schedules(&readers, 4);
}

static void increment(void *context)
{
	struct world *w = context;

	atomic_store(&w->a, atomic_load(&w->a) + 1);
}

static void both_counted(void *context)
{
	interleave_check(((struct world *)context)->a == 2, "an increment is lost");
}

static void lost_update(void **state)
{
	const struct interleave_case test = {.set_up = world, .run = {increment, increment},
					     .names = {"a", "b"}, .finish = both_counted};

	(void)state;
	expect_failure(&test, "an increment is lost");
}

static void locked(struct world *w, unsigned first, unsigned second)
{
	w->env->lock(w->env, &w->lock[first]);
	w->env->lock(w->env, &w->lock[second]);
	increment(w);
	w->env->unlock(w->env, &w->lock[second]);
	w->env->unlock(w->env, &w->lock[first]);
}

static void one_order(void *context)
{
	locked(context, 0, 1);
}

static void other_order(void *context)
{
	locked(context, 1, 0);
}

static void locks(void **state)
{
	const struct interleave_case good = {.set_up = world, .run = {one_order, one_order},
					     .names = {"a", "b"}, .finish = both_counted};
	const struct interleave_case bad = {.set_up = world, .run = {one_order, other_order},
					    .names = {"a", "b"}, .finish = both_counted};

	(void)state;
	expect_schedules(&good, 2);
	expect_failure(&bad, "nobody can go on");
}

static void sleeper(void *context)
{
	struct world *w = context;

	while (!atomic_load(&w->b))
		w->env->wait(w->env, &w->a, atomic_load(&w->a));
}

static void careful_sleeper(void *context)
{
	struct world *w = context;

	for (;;) {
		uint32_t seen = atomic_load(&w->a);

		if (atomic_load(&w->b))
			break;
		w->env->wait(w->env, &w->a, seen);
	}
}

static void waker(void *context)
{
	struct world *w = context;

	atomic_store(&w->b, 1);
	atomic_fetch_add(&w->a, 1);
	w->env->wake(w->env, &w->a);
}

static void lost_wakeup(void **state)
{
	const struct interleave_case bad = {
		.set_up = world, .run = {sleeper, waker}, .names = {"sleeper", "waker"}};
	const struct interleave_case good = {
		.set_up = world, .run = {careful_sleeper, waker}, .names = {"sleeper", "waker"}};

	(void)state;
	expect_failure(&bad, "nobody can go on");
	explore(&good);
	assert_true(result.complete && !result.failed);
}

static void free_item(struct vd_deferred *item)
{
	scheduled->release(scheduled, item, sizeof(*item));
}

static void reader(void *context)
{
	struct world *w = context;

	w->env->read_enter(w->env);
	if (!atomic_load(&w->a))
		(void)atomic_load((_Atomic uint32_t *)w->item);
	w->env->read_leave(w->env);
}

static void careless_reader(void *context)
{
	struct world *w = context;

	if (!atomic_load(&w->a))
		(void)atomic_load((_Atomic uint32_t *)w->item);
}

static void remover(void *context)
{
	struct world *w = context;

	atomic_store(&w->a, 1);
	w->env->defer(w->env, w->item, free_item);
}

static void waiting_remover(void *context)
{
	struct world *w = context;

	atomic_store(&w->a, 1);
	w->env->synchronize(w->env);
	w->env->release(w->env, w->item, sizeof(*w->item));
}

static void read_sections(void **state)
{
	const struct interleave_case good[] = {
		{.set_up = world, .run = {reader, remover, reader}, .names = {"a", "b", "c"}},
		{.set_up = world, .run = {reader, waiting_remover, reader},
		 .names = {"a", "b", "c"}},
	};
	const struct interleave_case bad[] = {
		{.set_up = world, .run = {careless_reader, remover}, .names = {"a", "b"}},
		{.set_up = world, .run = {careless_reader, waiting_remover}, .names = {"a", "b"}},
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		explore(&good[i]);
		if (result.failed)
			fail_msg("%s\n%s", result.text, result.schedule);
		assert_true(result.complete && result.schedules > 3);
		expect_failure(&bad[i], "given back");
	}
}

/* ---- random programs ------------------------------------------------- */

#define OPS 2u

static unsigned char program[3][OPS];
static uint64_t seen[4096];
static unsigned seen_count;

static void random_run(struct world *w, unsigned thread)
{
	for (unsigned i = 0; i < OPS; i++) {
		unsigned op = program[thread][i];
		_Atomic uint32_t *word = op & 1 ? &w->a : &w->b;
		struct vd_lock *lock = &w->lock[op >> 4 & 1];

		if (op & 8 && op & 32)
			interleave_share(lock);
		else if (op & 8)
			w->env->lock(w->env, lock);
		if ((op >> 1 & 3) == 0)
			atomic_store(word, thread * OPS + i + 1);
		else if ((op >> 1 & 3) == 1)
			w->got[thread][i] = atomic_fetch_add(word, 16);
		else
			w->got[thread][i] = atomic_load(word);
		if (op & 8 && op & 32)
			interleave_unshare(lock);
		else if (op & 8)
			w->env->unlock(w->env, lock);
	}
}

static void random_0(void *context)
{
	random_run(context, 0);
}

static void random_1(void *context)
{
	random_run(context, 1);
}

static void random_2(void *context)
{
	random_run(context, 2);
}

/* An outcome is what was read and what is left. */
static void note_outcome(void *context)
{
	const struct world *w = context;
	uint64_t hash = w->a * UINT64_C(0x9e3779b97f4a7c15) + w->b;

	for (unsigned thread = 0; thread < 3; thread++)
		for (unsigned i = 0; i < OPS; i++)
			hash = (hash ^ w->got[thread][i]) * UINT64_C(0x9e3779b97f4a7c15) +
			       (hash >> 29);
	for (unsigned i = 0; i < seen_count; i++)
		if (seen[i] == hash)
			return;
	if (seen_count == sizeof(seen) / sizeof(seen[0]))
		abort();
	seen[seen_count++] = hash;
}

static void same_outcomes(void **state)
{
	const struct interleave_case test = {.set_up = world,
					     .run = {random_0, random_1, random_2},
					     .names = {"a", "b", "c"}, .finish = note_outcome};
	uint64_t reduced = 0, all = 0;
	unsigned found;

	(void)state;
	srandom(20);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < 3 * OPS; i++)
			program[i / OPS][i % OPS] = (unsigned char)(random() >> 7);
		seen_count = 0;
		explore(&test);
		assert_true(result.complete);
		found = seen_count;
		reduced += result.schedules + result.cut;
		interleave_explore_naively(&test, 100, &result);
		assert_true(result.complete);
		all += result.schedules;
		assert_int_equal(found, seen_count);
	}
	print_message("%llu schedules instead of %llu\n", (unsigned long long)reduced,
		      (unsigned long long)all);
	assert_true(reduced < all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(orders_are_counted),
		cmocka_unit_test(lost_update),
		cmocka_unit_test(locks),
		cmocka_unit_test(lost_wakeup),
		cmocka_unit_test(read_sections),
		cmocka_unit_test(same_outcomes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
