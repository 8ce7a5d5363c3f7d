/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two drivers give pages up, a thread polls, another pins pages that are given up at the same time,
 * and the device is reset, quiesced and saved in the midst of it: what is pinned keeps its content,
 * and every request is answered.
 */
#include <pthread.h>

#include "balloon_rig.h"

#define ROUNDS 150u
#define PAGES 64u

struct stress {
	struct balloon_rig b;
	/* Read: requests are under way. Written: the driver resets the device. */
	pthread_rwlock_t lock;
	_Atomic unsigned finished;
	_Atomic bool stop;
	_Atomic unsigned pins;
};

struct driver {
	struct stress *s;
	unsigned queue;
	uint64_t area, buffer;
};

static void request(struct driver *d, uint64_t *random)
{
	struct vrig *rig = &d->s->b.rig;
	uint64_t first = test_random(random) % PAGES;
	uint64_t count = 1 + test_random(random) % (PAGES - first);
	uint64_t gpas[PAGES];

	if (d->queue != BALLOON_INFLATE) {
		vrig_send(rig, d->queue, d->area + first * PAGE, (uint32_t)(count * PAGE), true);
	} else {
		for (uint64_t i = 0; i < count; i++)
			gpas[i] = d->area + (first + i) * PAGE;
		put_pages(&d->s->b, d->buffer, gpas, count);
		vrig_send(rig, d->queue, d->buffer, (uint32_t)(4 * count), false);
	}
	vrig_wait(rig, d->queue, 0);
}

static void *drive(void *context)
{
	struct driver *d = context;
	uint64_t random = d->queue + 1;

	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_rwlock_rdlock(&d->s->lock);
		request(d, &random);
		pthread_rwlock_unlock(&d->s->lock);
		sched_yield();
	}
	atomic_fetch_add(&d->s->finished, 1);
	return NULL;
}

static void *poll_it(void *context)
{
	struct stress *s = context;

	while (!atomic_load(&s->stop)) {
		vd_device_poll(s->b.rig.device);
		sched_yield();
	}
	return NULL;
}

static void *pin_pages(void *context)
{
	struct stress *s = context;
	uint64_t random = 99;

	while (!atomic_load(&s->stop)) {
		uint64_t page = test_random(&random) % PAGES;
		struct vd_dma_range range = {{VRIG_DATA + page * PAGE}, PAGE};
		struct vd_dma_segment segment;
		struct vd_dma_pin pin;
		unsigned count = 1;

		assert_int_equal(vd_dma_pin(s->b.rig.space, &range, 1, VD_WRITE, NULL, &pin,
					    &segment, &count), 0);
		*(volatile uint64_t *)segment.base = page + 1;
		for (unsigned i = 0; i < 5; i++) {
			sched_yield();
			assert_int_equal(*(volatile uint64_t *)segment.base, page + 1);
		}
		vd_dma_unpin(&pin);
		atomic_fetch_add(&s->pins, 1);
	}
	return NULL;
}

/* What a VMM does, and now and then, with no request under way, the driver. */
static void disturb(struct stress *s, unsigned round)
{
	struct vd_stream stream = {.env = &s->b.rig.test.env};

	assert_int_equal(vd_device_quiesce(s->b.rig.device), 0);
	vd_device_resume(s->b.rig.device);
	assert_int_equal(vd_device_save(s->b.rig.device, &stream), 0);
	vd_stream_fini(&stream);
	(void)status_of(&s->b);
	assert_int_equal(vd_balloon_set_target(s->b.balloon, round % 40 * MIB), 0);
	if (round % 4)
		return;
	pthread_rwlock_wrlock(&s->lock);
	if (round % 8)
		assert_int_equal(vd_device_reset(s->b.rig.device, VD_RESET_FUNCTION), 0);
	/* a report that nobody waits for, which the poller may be at */
	else
		vrig_send(&s->b.rig, BALLOON_REPORT_4, VRIG_DATA + 8 * MIB, 32 * MIB, true);
	vrig_set(&s->b.rig, device_status, 0);
	while (vrig_get(&s->b.rig, device_status))
		sched_yield();
	vrig_start(&s->b.rig, ALL_FEATURES, 5, 16);
	pthread_rwlock_unlock(&s->lock);
}

static void test_all_at_once(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	struct driver drivers[2];
	pthread_t threads[4];
	unsigned rounds = 0;

	(void)state;
	assert_non_null(s);
	pthread_rwlock_init(&s->lock, NULL);
	balloon_open(&s->b, 0, true);
	vrig_start(&s->b.rig, ALL_FEATURES, 5, 16);
	/* both give up the pages that are pinned */
	drivers[0] = (struct driver){s, BALLOON_INFLATE, VRIG_DATA, VRIG_BUFFERS};
	drivers[1] = (struct driver){s, BALLOON_REPORT_3, VRIG_DATA, 0};
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drive, &drivers[i]), 0);
	assert_int_equal(pthread_create(&threads[2], NULL, poll_it, s), 0);
	assert_int_equal(pthread_create(&threads[3], NULL, pin_pages, s), 0);
	while (atomic_load(&s->finished) < 2) {
		disturb(s, rounds++);
		sched_yield();
	}
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&s->pins) > 0);
	assert_true(status_of(&s->b).discarded > 0);
	assert_int_equal(status_of(&s->b).refused, 0);
	vrig_close(&s->b.rig);
	pthread_rwlock_destroy(&s->lock);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
