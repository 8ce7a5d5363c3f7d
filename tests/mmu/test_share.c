/* SPDX-License-Identifier: BSD-2-Clause */
/* The lock of page tables: shared sections overlap, one alone excludes all, nobody is forgotten. */
#include "../base/test_env.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "mmu/share.h"

#define THREADS 3u
#define ROUNDS 2000u

struct rig {
	struct test_env test;
	struct vd_mmu_share *share;
	unsigned waits;
	_Atomic unsigned inside, go;
	unsigned a, b; /* not atomic: equal whenever nobody is alone */
	_Atomic unsigned unequal;
};

/*
 * Sleeping by way of a condition variable, so that a test can know that somebody sleeps: @waits is
 * raised under the mutex that the sleeper then gives up.
 */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static struct rig *current;
static unsigned wakes;

static void rig_wait(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	unsigned before;

	(void)env;
	pthread_mutex_lock(&mutex);
	before = wakes;
	if (atomic_load(word) == seen) {
		current->waits++;
		while (wakes == before)
			pthread_cond_wait(&woken, &mutex);
	}
	pthread_mutex_unlock(&mutex);
}

static void rig_wake(const struct vd_env *env, _Atomic uint32_t *word)
{
	(void)env;
	(void)word;
	pthread_mutex_lock(&mutex);
	wakes++;
	pthread_cond_broadcast(&woken);
	pthread_mutex_unlock(&mutex);
}

static void await_sleepers(unsigned count)
{
	unsigned now;

	do {
		sched_yield();
		pthread_mutex_lock(&mutex);
		now = current->waits;
		pthread_mutex_unlock(&mutex);
	} while (now < count);
}

static void rig_open(struct rig *rig)
{
	*rig = (struct rig){.a = 0};
	test_env_init(&rig->test);
	rig->test.env.wait = rig_wait;
	rig->test.env.wake = rig_wake;
	rig->share = aligned_alloc(_Alignof(struct vd_mmu_share), sizeof(*rig->share));
	assert_non_null(rig->share);
	*rig->share = (struct vd_mmu_share){.parallel = true};
	current = rig;
}

static void assert_is_free(struct rig *rig)
{
	for (unsigned i = 0; i < VD_MMU_STRIPES; i++)
		assert_int_equal(rig->share->stripes[i].inside, 0);
	assert_int_equal(rig->share->alone, 0);
	assert_false(vd_mmu_share_is_inside(rig->share));
}

static void rig_close(struct rig *rig)
{
	assert_is_free(rig);
	free(rig->share);
}

static void *meet(void *context)
{
	struct rig *rig = context;
	struct vd_mmu_stripe *stripe = vd_mmu_share_enter(rig->share, &rig->test.env);

	atomic_fetch_add(&rig->inside, 1);
	while (!atomic_load(&rig->go))
		sched_yield();
	vd_mmu_share_leave(rig->share, &rig->test.env, stripe);
	return NULL;
}

static void shared_sections_overlap(void **state)
{
	pthread_t threads[THREADS];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, meet, &rig), 0);
	while (atomic_load(&rig.inside) < THREADS)
		sched_yield();
	atomic_store(&rig.go, 1);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(rig.waits, 0);
	rig_close(&rig);
}

static void *be_alone(void *context)
{
	struct rig *rig = context;

	vd_mmu_share_lock(rig->share, &rig->test.env);
	atomic_fetch_add(&rig->inside, 1);
	vd_mmu_share_unlock(rig->share, &rig->test.env);
	return NULL;
}

/* It sleeps while one is inside, and is woken by the one who leaves. */
static void alone_waits_for_those_inside(void **state)
{
	struct vd_mmu_stripe *stripe;
	pthread_t thread;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	stripe = vd_mmu_share_enter(rig.share, &rig.test.env);
	assert_true(vd_mmu_share_is_inside(rig.share));
	assert_int_equal(pthread_create(&thread, NULL, be_alone, &rig), 0);
	await_sleepers(1);
	assert_int_equal(rig.inside, 0);
	vd_mmu_share_leave(rig.share, &rig.test.env, stripe);
	pthread_join(thread, NULL);
	assert_int_equal(rig.inside, 1);
	rig_close(&rig);
}

/* Those who come to share it, and those who want it alone too, sleep until it is free. */
static void others_wait_for_the_one_alone(void **state)
{
	pthread_t threads[2];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	atomic_store(&rig.go, 1);
	vd_mmu_share_lock(rig.share, &rig.test.env);
	assert_true(vd_mmu_share_is_inside(rig.share));
	assert_int_equal(pthread_create(&threads[0], NULL, meet, &rig), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, be_alone, &rig), 0);
	await_sleepers(2);
	assert_int_equal(rig.inside, 0);
	vd_mmu_share_unlock(rig.share, &rig.test.env);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(rig.inside, 2);
	rig_close(&rig);
}

static void *mix(void *context)
{
	struct rig *rig = context;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct vd_mmu_stripe *stripe;

		if (i % 8 == 0) {
			vd_mmu_share_lock(rig->share, &rig->test.env);
			rig->a++;
			if (i % 64 == 0)
				sched_yield();
			rig->b++;
			vd_mmu_share_unlock(rig->share, &rig->test.env);
			continue;
		}
		stripe = vd_mmu_share_enter(rig->share, &rig->test.env);
		if (i % 64 == 1)
			sched_yield();
		if (rig->a != rig->b)
			atomic_fetch_add(&rig->unequal, 1);
		vd_mmu_share_leave(rig->share, &rig->test.env, stripe);
	}
	return NULL;
}

static void nobody_sees_what_is_half_done(void **state)
{
	pthread_t threads[THREADS];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mix, &rig), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(rig.a, THREADS * ROUNDS / 8);
	assert_int_equal(rig.unequal, 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_sections_overlap),
		cmocka_unit_test(alone_waits_for_those_inside),
		cmocka_unit_test(others_wait_for_the_one_alone),
		cmocka_unit_test(nobody_sees_what_is_half_done),
	};

	return cmocka_run_group_tests_name("mmu share", tests, NULL, NULL);
}
