/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "fixture.h"

static int discard(struct dma_fixture *f, uint64_t iova, uint64_t length, uint64_t *done)
{
	*done = 77;
	return vd_dma_discard(f->space, (vd_iova){iova}, length, done);
}

static void fill(const struct fixture *f, uint64_t offset, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		*object_byte(f, f->ram, offset + i * PAGE) = 0x5a;
}

static bool is_full(const struct fixture *f, uint64_t page)
{
	return *object_byte(f, f->ram, page * PAGE) == 0x5a;
}

static void test_guest_memory(void **state)
{
	struct dma_fixture f;
	uint64_t done;
	char byte;

	(void)state;
	dma_open_guest(&f);
	fill(&f.base, 0, 8);
	assert_int_equal(discard(&f, GUEST_RAM + 2 * PAGE, 3 * PAGE, &done), 0);
	assert_int_equal(done, 3 * PAGE);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(is_full(&f.base, i), i < 2 || i >= 5);
	assert_int_equal(stats_of(f.space).discarded, 3 * PAGE);
	/* it is there as before, and works */
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM + 3 * PAGE}, "x", 1), 0);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){GUEST_RAM + 3 * PAGE}, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	dma_close_fixture(&f);
}

static void test_refuses(void **state)
{
	struct vd_slot_config slot;
	struct dma_fixture f;
	struct vd_host_object *device;
	uint64_t done, faults;

	(void)state;
	dma_open_guest(&f);
	device = make_device_memory(&f.base);
	slot = (struct vd_slot_config){.base = {0}, .size = PAGE, .kind = VD_SLOT_DEVICE,
				       .object = device, .name = "bar"};
	add_slot(&f.base, &slot);
	slot = ram_slot(&f.base, 4 * PAGE, 0, PAGE);
	slot.read_only = true;
	add_slot(&f.base, &slot);
	fill(&f.base, 0, 4);
	assert_int_equal(discard(&f, GUEST_RAM, 0, &done), -EINVAL);
	assert_int_equal(discard(&f, GUEST_RAM + 8, PAGE, &done), -EINVAL);
	assert_int_equal(discard(&f, GUEST_RAM, PAGE + 8, &done), -EINVAL);
	assert_int_equal(discard(&f, UINT64_MAX - PAGE + 1, 2 * PAGE, &done), -EOVERFLOW);
	assert_int_equal(stats_of(f.space).faults, 0);
	assert_int_equal(discard(&f, 0, PAGE, &done), -EFAULT);
	assert_int_equal(discard(&f, 4 * PAGE, PAGE, &done), -EFAULT);
	assert_int_equal(discard(&f, GUEST_RAM - PAGE, 2 * PAGE, &done), -EFAULT);
	assert_int_equal(done, 0);
	faults = stats_of(f.space).faults;
	assert_int_equal(faults, 3);
	assert_int_equal(stats_of(f.space).discarded, 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(is_full(&f.base, i));
	vd_host_object_put(device);
	dma_close_fixture(&f);
}

/* B1: never under a pin, whoever only reads included; its owner is not even asked. */
static void check_busy(struct dma_fixture *f, uint64_t iova, unsigned access)
{
	struct holder holder;
	uint64_t done;

	fill(&f->base, 0, 4);
	assert_int_equal(holder_pin(&holder, f->space, iova + PAGE + 7, 1, access), 0);
	assert_int_equal(discard(f, iova, 4 * PAGE, &done), -EBUSY);
	assert_int_equal(done, 0);
	assert_int_equal(holder.asked, 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_true(is_full(&f->base, i));
	assert_int_equal(discard(f, iova, PAGE, &done), 0);
	assert_int_equal(discard(f, iova + 2 * PAGE, PAGE, &done), 0);
	assert_true(is_full(&f->base, 1));
	holder_let_go(&holder);
	assert_int_equal(discard(f, iova, 4 * PAGE, &done), 0);
	assert_false(is_full(&f->base, 1));
}

static void test_pinned(void **state)
{
	struct dma_fixture f;

	(void)state;
	dma_open_guest(&f);
	check_busy(&f, GUEST_RAM, VD_READ);
	check_busy(&f, GUEST_RAM, VD_WRITE);
	dma_close_fixture(&f);
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 0, VD_READ | VD_WRITE), 0);
	check_busy(&f, 0, VD_READ);
	check_busy(&f, 0, VD_WRITE);
	dma_close_fixture(&f);
}

/* Somebody else's pin is waited for: he is asked, and lets go. */
static void test_pinned_elsewhere(void **state)
{
	struct vd_dma_space *second;
	struct dma_fixture f;
	struct holder holder;
	uint64_t done;

	(void)state;
	dma_open_guest(&f);
	second = make_space(&f.base, 10);
	assert_int_equal(vd_dma_map(second, (vd_iova){0}, 4 * PAGE, f.base.ram, 0, VD_READ), 0);
	fill(&f.base, 0, 4);
	assert_int_equal(holder_pin(&holder, second, PAGE, 1, VD_READ), 0);
	assert_int_equal(discard(&f, GUEST_RAM, 4 * PAGE, &done), 0);
	assert_int_equal(holder.asked, 1);
	fill(&f.base, 0, 4);
	assert_int_equal(holder_pin(&holder, second, PAGE, 1, VD_READ), 0);
	holder.lets_go = false;
	assert_int_equal(discard(&f, GUEST_RAM, 4 * PAGE, &done), -EBUSY);
	assert_true(is_full(&f.base, 1));
	holder_let_go(&holder);
	vd_dma_space_destroy(second);
	dma_close_fixture(&f);
}

static void test_maps(void **state)
{
	struct dma_fixture f;
	uint64_t done;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 2 * PAGE, 8 * PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(dma_map(&f, 2 * PAGE, 2 * PAGE, 0, VD_WRITE), 0);
	assert_int_equal(dma_map(&f, 4 * PAGE, PAGE, 4 * PAGE, VD_READ), 0);
	fill(&f.base, 0, 16);
	assert_int_equal(discard(&f, PAGE, 3 * PAGE, &done), 0);
	assert_int_equal(done, 3 * PAGE);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(is_full(&f.base, i), i != 0 && i != 1 && i != 9);
	assert_int_equal(discard(&f, 3 * PAGE, 2 * PAGE, &done), -EFAULT); /* read-only map */
	assert_int_equal(discard(&f, 5 * PAGE, PAGE, &done), -EFAULT);
	assert_int_equal(stats_of(f.space).faults, 2);
	/* the second map's memory cannot go: what is gone is said */
	fill(&f.base, 0, 16);
	test_env_fail(&f.base.test, 2, -EIO);
	assert_int_equal(discard(&f, 0, 4 * PAGE, &done), -EIO);
	assert_int_equal(done, 2 * PAGE);
	test_env_fail(&f.base.test, 0, 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(is_full(&f.base, i), i != 8 && i != 9);
	dma_close_fixture(&f);
}

static void test_closed_space(void **state)
{
	struct vd_dma_space *kept;
	struct dma_fixture f;
	uint64_t done;

	(void)state;
	dma_open_guest(&f);
	fill(&f.base, 0, 1);
	kept = vd_dma_space_get(f.space);
	vd_dma_space_destroy(f.space);
	f.space = kept;
	assert_int_equal(discard(&f, GUEST_RAM, PAGE, &done), -EFAULT);
	assert_true(is_full(&f.base, 0));
	vd_dma_space_put(kept);
	f.space = NULL;
	dma_close_fixture(&f);
}

/* Locked memory is not to be had: the kernel itself refuses. */
static void test_held(void **state)
{
	struct vd_slot_config slot;
	struct vd_host_object *held = NULL;
	struct dma_fixture f;
	void *memory = NULL;
	uint64_t done;

	(void)state;
	dma_open_guest(&f);
	assert_int_equal(posix_memalign(&memory, PAGE, 2 * PAGE), 0);
	memset(memory, 1, 2 * PAGE);
	assert_int_equal(vd_host_private(f.base.host, "private", memory, 2 * PAGE, 0, &held, NULL),
			 0);
	slot = ram_slot(&f.base, 0, 0, 2 * PAGE);
	slot.object = held;
	add_slot(&f.base, &slot);
	assert_int_equal(discard(&f, 0, PAGE, &done), -EBUSY);
	assert_int_equal(*(char *)memory, 1);
	vd_host_object_put(held);
	dma_close_fixture(&f);
	free(memory);
}

/* ---- memory that is not mapped any more is somebody else's ---------------------------------- */

struct race {
	struct dma_fixture f;
	_Atomic bool stop;
	_Atomic unsigned discards;
};

static void *discard_all_the_time(void *context)
{
	struct race *race = context;
	uint64_t done;

	while (!atomic_load(&race->stop))
		if (!vd_dma_discard(race->f.space, (vd_iova){0}, 4 * PAGE, &done))
			atomic_fetch_add(&race->discards, 1);
	return NULL;
}

static void test_unmapped_meanwhile(void **state)
{
	struct race *race = calloc(1, sizeof(*race));
	struct fixture *f = &race->f.base;
	pthread_t threads[2];
	unsigned rounds = 0;

	(void)state;
	assert_non_null(race);
	dma_open(&race->f);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, discard_all_the_time, race), 0);
	while (rounds++ < 200 || atomic_load(&race->discards) < 100) {
		unsigned seen = atomic_load(&race->discards);

		assert_int_equal(dma_map(&race->f, 0, 2 * PAGE, 0, VD_READ | VD_WRITE), 0);
		assert_int_equal(dma_map(&race->f, 2 * PAGE, 2 * PAGE, 2 * PAGE, VD_WRITE), 0);
		for (unsigned i = 0; i < 1000 && atomic_load(&race->discards) == seen; i++)
			sched_yield();
		assert_int_equal(vd_dma_unmap(race->f.space, (vd_iova){0}, 4 * PAGE, NULL), 0);
		fill(f, 0, 4);
		sched_yield();
		for (uint64_t i = 0; i < 4; i++)
			assert_true(is_full(f, i));
	}
	atomic_store(&race->stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	dma_close_fixture(&race->f);
	free(race);
}

/* A pin that is made at the same time keeps its content, or sees all of it gone. */
static void *pin_all_the_time(void *context)
{
	struct race *race = context;

	const struct vd_dma_range range = {{PAGE}, 1};

	while (!atomic_load(&race->stop)) {
		volatile unsigned char *byte;
		struct vd_dma_segment segment;
		struct vd_dma_pin pin;
		unsigned segments = 1;

		/* Nobody is asked: who comes just when a discard begins to wait is waited for. */
		if (vd_dma_pin(race->f.space, &range, 1, VD_WRITE, NULL, &pin, &segment, &segments))
			continue;
		byte = segment.base;
		*byte = 0x77;
		for (unsigned i = 0; i < 20; i++) {
			sched_yield();
			assert_int_equal(*byte, 0x77);
		}
		assert_int_equal(vd_dma_unpin(&pin), 0);
	}
	return NULL;
}

static void test_pins_meanwhile(void **state)
{
	struct race *race = calloc(1, sizeof(*race));
	unsigned busy = 0, gone = 0;
	pthread_t thread;
	uint64_t done;

	(void)state;
	assert_non_null(race);
	dma_open(&race->f);
	assert_int_equal(dma_map(&race->f, 0, 4 * PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(pthread_create(&thread, NULL, pin_all_the_time, race), 0);
	while (busy < 100 || gone < 20) {
		int r = discard(&race->f, 0, 4 * PAGE, &done);

		assert_true(r == 0 || r == -EBUSY);
		busy += r == -EBUSY;
		gone += r == 0;
		sched_yield();
	}
	atomic_store(&race->stop, true);
	pthread_join(thread, NULL);
	dma_close_fixture(&race->f);
	free(race);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_memory),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_pinned_elsewhere),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_closed_space),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_unmapped_meanwhile),
		cmocka_unit_test(test_pins_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
