/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "fixture.h"

#define GUEST UINT64_C(0x100000)

static int discard(struct fixture *f, uint64_t gpa, uint64_t length, uint64_t *done)
{
	*done = 77;
	return vd_mem_discard(f->mem, (vd_gpa){gpa}, length, true, done);
}

static void fill(struct fixture *f, uint64_t gpa, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(vd_mem_write(f->mem, (vd_gpa){gpa + i * PAGE}, "full", 4), 0);
}

static bool is_full(struct fixture *f, uint64_t gpa)
{
	char bytes[4];

	assert_int_equal(vd_mem_read(f->mem, (vd_gpa){gpa}, bytes, 4), 0);
	return !memcmp(bytes, "full", 4);
}

static uint64_t resident(const struct vd_host_object *object)
{
	uint64_t bytes;

	assert_int_equal(vd_host_object_resident(object, 0, RAM_PAGES * PAGE, &bytes), 0);
	return bytes;
}

static void test_gives_memory_back(void **state)
{
	uint64_t done, before;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, GUEST, 16 * PAGE, 8 * PAGE);
	fill(&f, GUEST, 8);
	before = resident(f.ram);
	assert_int_equal(discard(&f, GUEST + 2 * PAGE, 3 * PAGE, &done), 0);
	assert_int_equal(done, 3 * PAGE);
	assert_int_equal(resident(f.ram), before - 3 * PAGE);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(is_full(&f, GUEST + i * PAGE), i < 2 || i >= 5);
	/* what is touched again works */
	fill(&f, GUEST + 3 * PAGE, 1);
	assert_true(is_full(&f, GUEST + 3 * PAGE));
	fixture_close(&f);
}

/* One stretch for each slot, and all the mirrors of each hear of it. */
static void test_across_slots(void **state)
{
	struct fixture f;
	struct vd_slot_config other;
	struct ear ear;
	uint64_t done;

	(void)state;
	fixture_open(&f);
	add_ram(&f, GUEST, 0, 4 * PAGE);
	other = ram_slot(&f, GUEST + 4 * PAGE, 8 * PAGE, 4 * PAGE);
	other.object = f.other;
	add_slot(&f, &other);
	fill(&f, GUEST, 8);
	ear_open(&ear, &f);
	assert_int_equal(discard(&f, GUEST + 3 * PAGE, 2 * PAGE, &done), 0);
	assert_int_equal(done, 2 * PAGE);
	assert_int_equal(ear.start_count, 2);
	assert_int_equal(ear.end_count, 2);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(is_full(&f, GUEST + i * PAGE), i < 3 || i > 4);
	/* the second stretch fails: the first is gone, and it is said */
	test_env_fail(&f.test, 2, -EIO);
	assert_int_equal(discard(&f, GUEST + 2 * PAGE, 4 * PAGE, &done), -EIO);
	assert_true(test_env_failed(&f.test));
	assert_int_equal(done, 2 * PAGE);
	test_env_fail(&f.test, 0, 0);
	assert_false(is_full(&f, GUEST + 2 * PAGE));
	assert_true(is_full(&f, GUEST + 5 * PAGE));
	ear_close(&ear, &f);
	fixture_close(&f);
}

static void test_refuses(void **state)
{
	struct fixture f;
	struct vd_slot_config slot;
	uint64_t done;

	(void)state;
	fixture_open(&f);
	add_ram(&f, GUEST, 0, 4 * PAGE);
	slot = ram_slot(&f, GUEST + 4 * PAGE, 8 * PAGE, PAGE);
	slot.read_only = true;
	add_slot(&f, &slot);
	slot = trap_slot(GUEST + 5 * PAGE, PAGE, &trap_none, NULL);
	add_slot(&f, &slot);
	slot = ram_slot(&f, GUEST + 8 * PAGE, 8 * PAGE, PAGE);
	slot.is_private = true;
	add_slot(&f, &slot);
	fill(&f, GUEST, 4);
	assert_int_equal(discard(&f, GUEST, 0, &done), -EINVAL);
	assert_int_equal(discard(&f, GUEST + 1, PAGE, &done), -EINVAL);
	assert_int_equal(discard(&f, GUEST, PAGE - 1, &done), -EINVAL);
	assert_int_equal(discard(&f, UINT64_MAX - PAGE + 1, 2 * PAGE, &done), -EOVERFLOW);
	assert_int_equal(discard(&f, GUEST + 3 * PAGE, 2 * PAGE, &done), -EACCES);
	assert_int_equal(done, 0);
	assert_int_equal(discard(&f, GUEST + 8 * PAGE, PAGE, &done), -EACCES);
	assert_int_equal(discard(&f, GUEST + 5 * PAGE, PAGE, &done), -EFAULT);
	assert_int_equal(discard(&f, GUEST - PAGE, 2 * PAGE, &done), -EFAULT);
	assert_int_equal(discard(&f, 0, PAGE, &done), -EFAULT);
	/* the last bytes of all do not wrap */
	assert_int_equal(discard(&f, UINT64_MAX - PAGE + 1, PAGE, &done), -EFAULT);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(is_full(&f, GUEST + i * PAGE));
	fixture_close(&f);
}

static void test_is_logged_as_a_store(void **state)
{
	uint8_t bitmap[1];
	struct fixture f;
	uint64_t done;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, GUEST, 0, 8 * PAGE);
	fill(&f, GUEST, 8);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(discard(&f, GUEST + 2 * PAGE, 2 * PAGE, &done), 0);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[0], 0x0c);
	fixture_close(&f);
}

struct watcher {
	struct vd_mem_watch watch;
	struct fixture *f;
	unsigned full, empty;
	bool keeps;
};

static void watch_store(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct watcher *watcher = (struct watcher *)watch;

	for (uint64_t at = 0; at < length; at += PAGE) {
		if (is_full(watcher->f, gpa.value + at))
			watcher->full++;
		else
			watcher->empty++;
	}
	if (!watcher->keeps)
		vd_mem_watch_clear(watch, gpa, length);
}

/* Before the content goes, and after that to who still watches. */
static void test_watchers_are_told(void **state)
{
	static const struct vd_mem_watch_ops ops = {watch_store};
	struct fixture f;
	struct watcher watcher = {.watch.ops = &ops, .f = &f};
	uint64_t done;

	(void)state;
	fixture_open(&f);
	add_ram(&f, GUEST, 0, 8 * PAGE);
	fill(&f, GUEST, 8);
	assert_int_equal(vd_mem_watch_add(f.mem, &watcher.watch), 0);
	vd_mem_watch_set(&watcher.watch, (vd_gpa){GUEST + 2 * PAGE}, 4 * PAGE);
	assert_int_equal(discard(&f, GUEST, 4 * PAGE, &done), 0);
	assert_int_equal(watcher.full, 2);
	assert_int_equal(watcher.empty, 0);
	watcher.keeps = true;
	assert_int_equal(discard(&f, GUEST + 5 * PAGE, 2 * PAGE, &done), 0);
	assert_int_equal(watcher.full, 3);
	assert_int_equal(watcher.empty, 1);
	vd_mem_watch_remove(&watcher.watch);
	fixture_close(&f);
}

/* ---- memory that has left the guest is not the guest's to discard --------------------------- */

/* A mirror of the host that comes before the space: it is where a slot could go unseen. */
struct early {
	struct vd_listener listener;
	struct fixture f;
	uint32_t id;
	bool tried;
	_Atomic bool removed;
	pthread_t remover;
};

static void *remove_slot(void *context)
{
	struct early *early = context;

	assert_int_equal(vd_mem_remove_slot(early->f.mem, early->id), 0);
	atomic_store(&early->removed, true);
	return NULL;
}

/* Between the look at the slots and the change: what has left by then must not be hit. */
static int early_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct early *early = (struct early *)listener;

	(void)event;
	if (early->tried)
		return 0;
	early->tried = true;
	assert_int_equal(pthread_create(&early->remover, NULL, remove_slot, early), 0);
	for (unsigned i = 0; i < 5000 && !atomic_load(&early->removed); i++)
		sched_yield();
	assert_false(atomic_load(&early->removed));
	return 0;
}

static void test_slot_that_leaves(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = early_start};
	struct early early = {.listener.ops = &ops};
	struct vd_mem_config config = {.env = &early.f.test.env};
	uint64_t done;

	(void)state;
	fixture_open(&early.f);
	vd_mem_destroy(early.f.mem);
	assert_int_equal(vd_notifier_register(vd_host_notifier(early.f.host), &early.listener), 0);
	config.host = early.f.host;
	assert_int_equal(vd_mem_create(&config, &early.f.mem, NULL), 0);
	early.id = add_ram(&early.f, GUEST, 0, 4 * PAGE);
	assert_int_equal(discard(&early.f, GUEST, PAGE, &done), 0);
	pthread_join(early.remover, NULL);
	assert_true(atomic_load(&early.removed));
	assert_int_equal(discard(&early.f, GUEST, PAGE, &done), -EFAULT);
	vd_notifier_unregister(vd_host_notifier(early.f.host), &early.listener);
	fixture_close(&early.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gives_memory_back),
		cmocka_unit_test(test_across_slots),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_is_logged_as_a_store),
		cmocka_unit_test(test_watchers_are_told),
		cmocka_unit_test(test_slot_that_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
