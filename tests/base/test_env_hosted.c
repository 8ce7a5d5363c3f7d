/* SPDX-License-Identifier: BSD-2-Clause */
/* The hosted environment; under ThreadSanitizer also what it is told about grace periods. */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "test_env.h"

static const struct vd_env *env;

static void allocates_zeroed_and_aligned(void **state)
{
	(void)state;
	for (size_t align = 1; align <= 65536; align *= 2)
		for (size_t size = 0; size < 5000; size += 700) {
			unsigned char *p = env->allocate(env, size, align);

			assert_non_null(p);
			assert_int_equal((uintptr_t)p & (align - 1), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xff, size); /* for the next one */
			env->release(env, p, size);
		}
	env->release(env, NULL, 0);
}

static void big_blocks_are_aligned_and_untouched(void **state)
{
	static const size_t sizes[] = {1 << 20, (1 << 20) + 1, (5 << 20) - 4096};
	unsigned char resident[5 << 8];

	(void)state;
	for (size_t align = 1; align <= 4 << 20; align *= 4)
		for (unsigned i = 0; i < 3; i++) {
			unsigned char *p = env->allocate(env, sizes[i], align);
			size_t pages = (sizes[i] + 4095) / 4096;

			assert_non_null(p);
			assert_int_equal((uintptr_t)p & (align - 1), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
			assert_int_equal(mincore(p, sizes[i], resident), 0);
			for (size_t k = 0; k < pages; k++)
				assert_int_equal(resident[k] & 1, 0);
#endif
			(void)resident;
			for (size_t k = 0; k < pages; k++)
				assert_int_equal(p[k * 4096], 0);
			memset(p, 0xff, sizes[i]);
			env->release(env, p, sizes[i]);
		}
}

static void clock_goes_forward(void **state)
{
	uint64_t before = env->clock_ns(env);

	(void)state;
	assert_true(before > 0);
	assert_true(env->clock_ns(env) >= before);
}

static void injects_nothing_by_itself(void **state)
{
	void *p = vd_env_allocate(env, "test.site", 8, 8);

	(void)state;
	assert_int_equal(vd_env_inject(env, "test.site"), 0);
	assert_non_null(p);
	env->release(env, p, 8);
}

static void counts_and_fails_in_tests(void **state)
{
	struct test_env test;
	void *p;

	(void)state;
	test_env_init(&test);
	test_env_fail(&test, 2, -EIO);
	p = vd_env_allocate(&test.env, "first", 100, 8);
	assert_non_null(p);
	assert_int_equal(test.bytes, 100);
	assert_null(vd_env_allocate(&test.env, "second", 8, 8));
	assert_string_equal(test.failed_site, "second");
	assert_int_equal(vd_env_inject(&test.env, "third"), 0);
	test.env.release(&test.env, p, 100);
	assert_int_equal(test.blocks, 0);
	assert_int_equal(test.bytes, 0);
}

/* ---- locks and futexes ----------------------------------------------- */

struct baton {
	struct vd_lock lock;
	long count; /* under the lock */
	_Atomic uint32_t word;
};

static void *count_up(void *context)
{
	struct baton *baton = context;

	for (int i = 0; i < 20000; i++) {
		env->lock(env, &baton->lock);
		baton->count++;
		env->unlock(env, &baton->lock);
	}
	return NULL;
}

static void locks_exclude(void **state)
{
	struct baton baton = {0};
	pthread_t other;

	(void)state;
	env->lock_init(env, &baton.lock);
	assert_int_equal(pthread_create(&other, NULL, count_up, &baton), 0);
	count_up(&baton);
	pthread_join(other, NULL);
	assert_int_equal(baton.count, 40000);
	env->lock_destroy(env, &baton.lock);
}

static void pass_baton(struct baton *baton, uint32_t mine)
{
	for (uint32_t i = mine; i < 2000; i += 2) {
		uint32_t seen;

		while ((seen = atomic_load_explicit(&baton->word, memory_order_acquire)) != i)
			env->wait(env, &baton->word, seen);
		baton->count++; /* whose turn it is orders this */
		atomic_store_explicit(&baton->word, i + 1, memory_order_release);
		env->wake(env, &baton->word);
	}
}

static void *pass_odd(void *context)
{
	pass_baton(context, 1);
	return NULL;
}

static void wait_and_wake_take_turns(void **state)
{
	struct baton baton = {0};
	pthread_t other;

	(void)state;
	assert_int_equal(pthread_create(&other, NULL, pass_odd, &baton), 0);
	pass_baton(&baton, 0);
	pthread_join(other, NULL);
	assert_int_equal(baton.count, 2000);
	env->wait(env, &baton.word, 1); /* differs: returns at once */
}

/* ---- grace periods --------------------------------------------------- */

struct node {
	struct vd_deferred deferred;
	long value;
};

static struct node *_Atomic shared;
static _Atomic bool stop;
static _Atomic long deferred_calls;

static void *read_nodes(void *context)
{
	long *reads = context;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct node *node;

		env->read_enter(env);
		env->read_enter(env); /* nests */
		node = atomic_load_explicit(&shared, memory_order_acquire);
		env->read_leave(env);
		if (node->value != 42) /* freed memory holds something else */
			*reads = -1;
		else if (*reads >= 0)
			++*reads;
		env->read_leave(env);
	}
	return NULL;
}

static void free_node(struct vd_deferred *item)
{
	struct node *node = (struct node *)(void *)item;

	atomic_fetch_add(&deferred_calls, 1);
	node->value = 0;
	env->release(env, node, sizeof(*node));
}

static struct node *new_node(void)
{
	struct node *node = env->allocate(env, sizeof(*node), _Alignof(struct node));

	assert_non_null(node);
	node->value = 42;
	return node;
}

static void readers_are_waited_for(void **state)
{
	enum { READERS = 2, ROUNDS = 300 };
	pthread_t threads[READERS];
	long reads[READERS] = {0};

	(void)state;
	atomic_store(&shared, new_node());
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_nodes, &reads[i]), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct node *old = atomic_exchange(&shared, new_node());

		if (i & 1) {
			env->defer(env, &old->deferred, free_node);
		} else {
			env->synchronize(env);
			old->value = 0;
			env->release(env, old, sizeof(*old));
		}
	}
	vd_env_hosted_drain();
	assert_int_equal(deferred_calls, ROUNDS / 2);
	atomic_store(&stop, true);
	for (int i = 0; i < READERS; i++) {
		pthread_join(threads[i], NULL);
		assert_true(reads[i] >= 0);
	}
	env->release(env, atomic_load(&shared), sizeof(struct node));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocates_zeroed_and_aligned),
		cmocka_unit_test(big_blocks_are_aligned_and_untouched),
		cmocka_unit_test(clock_goes_forward),
		cmocka_unit_test(injects_nothing_by_itself),
		cmocka_unit_test(counts_and_fails_in_tests),
		cmocka_unit_test(locks_exclude),
		cmocka_unit_test(wait_and_wake_take_turns),
		cmocka_unit_test(readers_are_waited_for),
	};

	env = vd_env_hosted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
