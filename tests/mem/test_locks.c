/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nothing allocates or sleeps under the locks that lookups, faults and events take (B7): those of
 * the two chains, of the gate and of the window. An environment watches every lock and allocation.
 */
#include "fixture.h"

#include "host/object.h"
#include "mem/space.h"

#define HELD_MAX 8u

static struct fixture f;
static _Thread_local struct vd_lock *held[HELD_MAX];
static _Thread_local unsigned held_count;
static _Atomic unsigned checks, taken;

static bool is_short(const struct vd_lock *lock)
{
	return lock == &f.host->notifier.lock || lock == &f.host->lock ||
	       (f.mem && (lock == &f.mem->notifier.lock || lock == &f.mem->gate.lock));
}

static void check(const char *what)
{
	atomic_fetch_add(&checks, 1);
	for (unsigned i = 0; i < held_count; i++)
		if (f.host && is_short(held[i])) {
			fprintf(stderr, "%s under a lock that is held shortly\n", what);
			abort();
		}
}

static void checked_lock(const struct vd_env *env, struct vd_lock *lock)
{
	vd_env_hosted()->lock(env, lock);
	if (held_count < HELD_MAX)
		held[held_count] = lock;
	held_count++;
	if (f.host && is_short(lock))
		atomic_fetch_add(&taken, 1);
}

static void checked_unlock(const struct vd_env *env, struct vd_lock *lock)
{
	for (unsigned i = 0; i < held_count; i++)
		if (held[i] == lock)
			held[i] = held[held_count - 1];
	held_count--;
	vd_env_hosted()->unlock(env, lock);
}

static void *checked_allocate(const struct vd_env *env, size_t size, size_t align)
{
	check("allocation");
	return test_env_allocate(env, size, align);
}

static void checked_wait(const struct vd_env *env, _Atomic uint32_t *word, uint32_t seen)
{
	check("sleep");
	vd_env_hosted()->wait(env, word, seen);
}

static void checked_synchronize(const struct vd_env *env)
{
	check("wait for readers");
	vd_env_hosted()->synchronize(env);
}

static int asleep(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	check("a listener"); /* which may do any of that */
	return 0;
}

static bool asked(struct vd_listener *listener, const struct vd_invalidation *event)
{
	return asleep(listener, event);
}

static void released(struct vd_listener *listener)
{
	asleep(listener, NULL);
	vd_notifier_unregister(vd_mem_notifier(f.mem), listener);
}

static void ended(struct vd_listener *listener, const struct vd_invalidation *event)
{
	asleep(listener, event);
}

static const struct vd_listener_ops ops = {
	.invalidate_start = asleep, .invalidate_end = ended, .clear_young = asked,
	.test_young = asked, .release = released,
};

static void open_checked(void)
{
	struct vd_host_config host = {.env = &f.test.env};
	struct vd_mem_config mem = {.env = &f.test.env};

	f = (struct fixture){.mem = NULL};
	test_env_init(&f.test);
	f.test.env.lock = checked_lock;
	f.test.env.unlock = checked_unlock;
	f.test.env.allocate = checked_allocate;
	f.test.env.wait = checked_wait;
	f.test.env.synchronize = checked_synchronize;
	f.env = &f.test.env;
	assert_int_equal(vd_host_create(&host, &f.host, NULL), 0);
	assert_int_equal(vd_host_ram_create(f.host, "ram", RAM_PAGES * PAGE, VD_HOST_SPARES, &f.ram,
					    NULL), 0);
	assert_int_equal(vd_host_ram_create(f.host, "other", RAM_PAGES * PAGE, 0, &f.other, NULL),
			 0);
	mem.host = f.host;
	assert_int_equal(vd_mem_create(&mem, &f.mem, NULL), 0);
}

static void change_everything(struct vd_host_object *object)
{
	struct vd_invalidation all = {.object = object, .length = RAM_PAGES * PAGE,
				      .blockable = true};

	for (unsigned blockable = 0; blockable < 2; blockable++) {
		vd_host_object_discard(object, 0, PAGE, blockable);
		vd_host_object_discard_unused(object, 0, 4 * PAGE, blockable);
		vd_host_object_protect(object, PAGE, PAGE, false, blockable);
		vd_host_object_protect(object, PAGE, PAGE, true, blockable);
		vd_host_object_move(object, 2 * PAGE, 3 * PAGE, blockable);
	}
	vd_notifier_clear_young(vd_host_notifier(f.host), &all);
	vd_notifier_test_young(vd_host_notifier(f.host), &all);
}

static void test_short_locks_are_short(void **state)
{
	struct vd_listener listener = {.ops = &ops};
	uint8_t bitmap[RAM_PAGES / 8];
	struct vd_mem_page page;
	struct vd_error error;
	struct vd_mem_update *update;
	uint32_t id, other;
	char byte = 1;

	(void)state;
	open_checked();
	assert_int_equal(vd_notifier_register(vd_mem_notifier(f.mem), &listener), 0);
	id = add_ram(&f, 0, 0, RAM_PAGES * PAGE);
	other = add_ram(&f, 1 << 30, 0, RAM_PAGES * PAGE);
	change_everything(f.ram);
	change_everything(f.other);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_WRITE, &page), 0);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, other, (vd_gpa){1u << 31}, &error), 0);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_remove_slot(f.mem, other), 0);
	vd_host_destroy(f.host); /* the release, with the guest space still there */
	vd_mem_destroy(f.mem);
	f.mem = NULL;
	f.host = NULL;
	vd_host_object_put(f.ram);
	vd_host_object_put(f.other);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f.test.blocks, 0);
	/* it did look */
	assert_true(atomic_load(&checks) > 50);
	assert_true(atomic_load(&taken) > 50);
	assert_int_equal(held_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_locks_are_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
