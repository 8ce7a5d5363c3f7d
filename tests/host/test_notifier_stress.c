/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The retry protocol on many threads. Pages lie in frames; between the start and the end of an
 * invalidation their old frames are poisoned. A mirror fills itself by faults: what it holds must
 * never be poison. Meanwhile listeners come and go.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include <viaduct/host.h>

#include "../base/test_env.h"

#define PAGES 16u
#define CHANGERS 3u
#define SPARES 4u /* of each changer */
#define FRAMES (PAGES + CHANGERS * SPARES)
#define NO_FRAME UINT32_MAX

static struct world {
	const struct vd_env *env;
	struct vd_notifier notifier;
	_Atomic uint32_t frame_of[PAGES]; /* the truth */
	_Atomic bool poisoned[FRAMES];
	struct vd_lock truth_lock; /* changers against each other */
	_Atomic bool stop;
	_Atomic long installs, retries, refusals, changes, comings;
} world;

struct mirror {
	struct vd_listener listener;
	struct vd_lock lock;
	uint32_t entry[PAGES];
};

/* ---- the mirror ------------------------------------------------------ */

static int mirror_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct mirror *mirror = (struct mirror *)(void *)listener;

	world.env->lock(world.env, &mirror->lock);
	for (uint64_t i = 0; i < event->length; i++)
		mirror->entry[event->start + i] = NO_FRAME;
	world.env->unlock(world.env, &mirror->lock);
	return 0;
}

static const struct vd_listener_ops mirror_ops = {.invalidate_start = mirror_start};

static void mirror_fault(struct mirror *mirror, uint32_t page, bool slow)
{
	uint64_t seq = vd_notifier_begin(&world.notifier);
	uint32_t frame = atomic_load_explicit(&world.frame_of[page], memory_order_relaxed);
	bool retry;

	if (slow)
		sched_yield(); /* as a lookup that reads from disk */
	world.env->lock(world.env, &mirror->lock);
	retry = vd_notifier_retry(&world.notifier, seq, page, 1);
	if (!retry)
		mirror->entry[page] = frame;
	world.env->unlock(world.env, &mirror->lock);
	atomic_fetch_add(retry ? &world.retries : &world.installs, 1);
	if (retry)
		vd_notifier_wait(&world.notifier, page, 1);
}

/* Uses an entry as a vCPU does: under the lock, which stands for the shoot-down. */
static void mirror_use(struct mirror *mirror, uint32_t page)
{
	world.env->lock(world.env, &mirror->lock);
	if (mirror->entry[page] != NO_FRAME)
		assert_false(atomic_load_explicit(&world.poisoned[mirror->entry[page]],
						  memory_order_relaxed));
	world.env->unlock(world.env, &mirror->lock);
}

static void *fault_and_use(void *context)
{
	struct mirror *mirror = context;
	uint64_t seed = (uint64_t)(uintptr_t)&seed;

	while (!atomic_load(&world.stop)) {
		uint64_t random = test_random(&seed);

		mirror_fault(mirror, (uint32_t)(random % PAGES), random >> 32 & 1);
		mirror_use(mirror, (uint32_t)(random >> 16) % PAGES);
	}
	return NULL;
}

/* ---- those who change the memory ------------------------------------- */

static void change_page(uint32_t page, uint32_t *spare)
{
	uint32_t old = atomic_load_explicit(&world.frame_of[page], memory_order_relaxed);

	atomic_store_explicit(&world.poisoned[*spare], false, memory_order_relaxed);
	atomic_store_explicit(&world.frame_of[page], *spare, memory_order_relaxed);
	atomic_store_explicit(&world.poisoned[old], true, memory_order_relaxed);
	*spare = old;
}

static void change_once(uint64_t random, uint32_t spares[SPARES])
{
	struct vd_invalidation event = {.start = random % PAGES, .blockable = random >> 8 & 1};

	event.length = 1 + (random >> 16) % SPARES;
	if (event.length > PAGES - event.start)
		event.length = PAGES - event.start;
	if (vd_notifier_start(&world.notifier, &event)) {
		assert_false(event.blockable);
		atomic_fetch_add(&world.refusals, 1);
		return;
	}
	if (random >> 25 & 1)
		sched_yield(); /* told, not yet changed: who looks up now finds what goes away */
	world.env->lock(world.env, &world.truth_lock);
	for (uint32_t i = 0; i < event.length; i++)
		change_page((uint32_t)event.start + i, &spares[i]);
	world.env->unlock(world.env, &world.truth_lock);
	if (random >> 24 & 1)
		sched_yield();
	vd_notifier_end(&world.notifier, &event);
}

static void *change_memory(void *context)
{
	uint32_t number = *(uint32_t *)context;
	uint64_t seed = number;
	uint32_t spares[SPARES];

	for (uint32_t i = 0; i < SPARES; i++)
		spares[i] = PAGES + number * SPARES + i;
	while (!atomic_load(&world.stop)) {
		change_once(test_random(&seed), spares);
		atomic_fetch_add(&world.changes, 1);
		/* readers must get through between two changes, as they do between system calls */
		sched_yield();
	}
	return NULL;
}

/* ---- those who come and go ------------------------------------------- */

struct guest {
	struct vd_listener listener;
	_Atomic int open;
	_Atomic int calls_left; /* until it leaves by itself; negative: it does not */
	_Atomic bool left;
};

static int guest_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct guest *guest = (struct guest *)(void *)listener;

	if (!event->blockable)
		return -EAGAIN;
	atomic_fetch_add(&guest->open, 1);
	if (atomic_fetch_sub(&guest->calls_left, 1) == 1) {
		vd_notifier_unregister(&world.notifier, listener);
		atomic_store(&guest->left, true); /* the last touch: it may be freed now */
	}
	return 0;
}

static void guest_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct guest *guest = (struct guest *)(void *)listener;

	assert_true(event->blockable);
	assert_true(atomic_fetch_sub(&guest->open, 1) > 0); /* no end without a start */
}

static const struct vd_listener_ops guest_ops = {
	.invalidate_start = guest_start,
	.invalidate_end = guest_end,
};

static void *come_and_go(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;

	while (!atomic_load(&world.stop)) {
		struct guest *guest = calloc(1, sizeof(*guest));
		bool by_itself = test_random(&seed) & 1;

		assert_non_null(guest);
		guest->listener.ops = &guest_ops;
		atomic_store(&guest->calls_left, by_itself ? 3 : -1);
		assert_int_equal(vd_notifier_register(&world.notifier, &guest->listener), 0);
		while (by_itself && !atomic_load(&guest->left) && !atomic_load(&world.stop))
			sched_yield();
		/* waits for a callback that runs; if it has left by itself, for that one as well */
		vd_notifier_unregister(&world.notifier, &guest->listener);
		free(guest);
		atomic_fetch_add(&world.comings, 1);
		sched_yield();
	}
	return NULL;
}

/* ---- the run --------------------------------------------------------- */

static void world_init(void)
{
	world.env = vd_env_hosted();
	vd_notifier_init(&world.notifier, world.env);
	world.env->lock_init(world.env, &world.truth_lock);
	for (uint32_t i = 0; i < FRAMES; i++) {
		if (i < PAGES)
			atomic_store(&world.frame_of[i], i);
		atomic_store(&world.poisoned[i], i >= PAGES);
	}
}

static void mirror_init(struct mirror *mirror)
{
	mirror->listener.ops = &mirror_ops;
	world.env->lock_init(world.env, &mirror->lock);
	for (uint32_t i = 0; i < PAGES; i++)
		mirror->entry[i] = NO_FRAME;
	assert_int_equal(vd_notifier_register(&world.notifier, &mirror->listener), 0);
}

static bool enough(void)
{
	return atomic_load(&world.installs) > 60000 && atomic_load(&world.retries) > 6000 &&
		atomic_load(&world.changes) > 60000 && atomic_load(&world.comings) > 5000 &&
		atomic_load(&world.refusals) > 2000;
}

static void no_mirror_ever_holds_poison(void **state)
{
	enum { MIRRORS = 2, THREADS = MIRRORS + CHANGERS + 2 };
	static struct mirror mirrors[MIRRORS];
	uint32_t numbers[CHANGERS];
	pthread_t threads[THREADS];
	unsigned n = 0;

	(void)state;
	world_init();
	for (unsigned i = 0; i < MIRRORS; i++)
		mirror_init(&mirrors[i]);
	for (unsigned i = 0; i < MIRRORS; i++)
		pthread_create(&threads[n++], NULL, fault_and_use, &mirrors[i]);
	for (uint32_t i = 0; i < CHANGERS; i++) {
		numbers[i] = i;
		pthread_create(&threads[n++], NULL, change_memory, &numbers[i]);
	}
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[n++], NULL, come_and_go, (void *)i);
	while (!enough())
		sched_yield();
	atomic_store(&world.stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < MIRRORS; i++)
		vd_notifier_unregister(&world.notifier, &mirrors[i].listener);
	vd_notifier_fini(&world.notifier); /* asserts that every start had its end */
}

/* The first listener arrives while changes are under way that nobody was told of. */
static void arming_waits_for_unannounced_changes(void **state)
{
	static struct mirror mirror;
	uint32_t number = 0;
	pthread_t changer;

	(void)state;
	atomic_store(&world.stop, false);
	world_init();
	pthread_create(&changer, NULL, change_memory, &number);
	for (int i = 0; i < 3000; i++) {
		mirror_init(&mirror);
		for (uint32_t page = 0; page < PAGES; page++)
			mirror_fault(&mirror, page, true);
		for (uint32_t page = 0; page < PAGES; page++)
			mirror_use(&mirror, page);
		vd_notifier_unregister(&world.notifier, &mirror.listener);
		world.env->lock_destroy(world.env, &mirror.lock);
	}
	atomic_store(&world.stop, true);
	pthread_join(changer, NULL);
	vd_notifier_fini(&world.notifier);
}

/* ---- the memory dies while listeners leave --------------------------- */

struct leaver {
	struct vd_listener listener;
	_Atomic int released;
};

static void leaver_release(struct vd_listener *listener)
{
	struct leaver *leaver = (struct leaver *)(void *)listener;

	assert_int_equal(atomic_fetch_add(&leaver->released, 1), 0);
	sched_yield();
	assert_int_equal(atomic_load(&leaver->released), 1); /* not freed meanwhile */
}

static const struct vd_listener_ops leaver_ops = {
	.invalidate_start = guest_start,
	.release = leaver_release,
};

static void *release_chain(void *context)
{
	vd_notifier_release(context);
	return NULL;
}

static void release_and_unregister_race(void **state)
{
	enum { LEAVERS = 3 };

	(void)state;
	for (int round = 0; round < 1000; round++) {
		struct vd_notifier notifier;
		pthread_t thread;
		struct leaver *leavers[LEAVERS];

		vd_notifier_init(&notifier, vd_env_hosted());
		for (int i = 0; i < LEAVERS; i++) {
			leavers[i] = calloc(1, sizeof(*leavers[i]));
			leavers[i]->listener.ops = &leaver_ops;
			assert_int_equal(vd_notifier_register(&notifier, &leavers[i]->listener), 0);
		}
		pthread_create(&thread, NULL, release_chain, &notifier);
		for (int i = LEAVERS - 1; i >= 0; i--) {
			if (round & 1)
				sched_yield();
			vd_notifier_unregister(&notifier, &leavers[i]->listener);
			leavers[i]->listener.ops = NULL;
			free(leavers[i]);
		}
		pthread_join(thread, NULL);
		vd_notifier_fini(&notifier);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_mirror_ever_holds_poison),
		cmocka_unit_test(arming_waits_for_unannounced_changes),
		cmocka_unit_test(release_and_unregister_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
