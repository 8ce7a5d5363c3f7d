/* SPDX-License-Identifier: BSD-2-Clause */
/* Work that a device leaves to the core, as it may not be done under its lock. */
#include <pthread.h>

#include "adder.h"

/* BAR 0: writing 0 asks for work, 1 for a reset and work; reading anything asks for work. */
struct worker {
	struct rig rig; /* for its host and memory; its own device is not used */
	struct vd_device *device;
	unsigned works, resets, resumes;
	_Atomic int inside;
	bool asks_in_resume, asks_in_poll, wait_inside;
	_Atomic bool entered, go;
};

static int worker_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct worker *w = context;

	(void)region;
	(void)offset;
	memset(data, 0, length);
	vd_device_request_work(w->device);
	return 0;
}

static int worker_write(void *context, unsigned region, uint64_t offset, const void *data,
			size_t length)
{
	struct worker *w = context;

	(void)region;
	(void)data;
	(void)length;
	if (offset == 4)
		vd_device_request_reset(w->device, VD_RESET_FUNCTION);
	vd_device_request_work(w->device);
	return 0;
}

static void worker_reset(void *context, enum vd_reset_kind kind)
{
	struct worker *w = context;

	(void)kind;
	assert_int_equal(atomic_load(&w->inside), 0);
	w->resets++;
}

static int worker_quiesce(void *context)
{
	assert_int_equal(atomic_load(&((struct worker *)context)->inside), 0);
	return 0;
}

static void worker_resume(void *context)
{
	struct worker *w = context;

	w->resumes++;
	if (w->asks_in_resume)
		vd_device_request_work(w->device);
}

static void worker_poll(void *context)
{
	struct worker *w = context;

	if (w->asks_in_poll)
		vd_device_request_work(w->device);
}

/* Takes the lock and changes memory: both would never end if the core held anything. */
static void worker_work(void *context)
{
	struct worker *w = context;
	uint64_t done;

	assert_int_equal(atomic_fetch_add(&w->inside, 1), 0);
	vd_device_lock(w->device);
	w->works++;
	vd_device_unlock(w->device);
	assert_int_equal(vd_dma_discard(w->rig.space, (vd_iova){0x10000}, PAGE, &done), 0);
	atomic_store(&w->entered, true);
	while (w->wait_inside && !atomic_load(&w->go))
		sched_yield();
	atomic_fetch_sub(&w->inside, 1);
}

static const struct vd_device_ops worker_ops = {
	.read = worker_read,
	.write = worker_write,
	.reset = worker_reset,
	.quiesce = worker_quiesce,
	.resume = worker_resume,
	.poll = worker_poll,
	.work = worker_work,
};

static struct worker *worker_open(const struct vd_device_ops *ops)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct vd_device_config config;

	assert_non_null(w);
	rig_open(&w->rig);
	add_ram(&w->rig.f, 0x10000, 0, PAGE);
	config = adder_config(&w->rig.f, &w->rig.adder);
	config.ops = ops;
	config.context = w;
	assert_int_equal(vd_device_create(&config, &w->device, NULL), 0);
	return w;
}

static void worker_close(struct worker *w)
{
	vd_device_put(w->device);
	rig_close(&w->rig);
	free(w);
}

static void ask(struct worker *w, uint64_t offset)
{
	uint32_t value = 0;

	assert_int_equal(vd_device_write(w->device, VD_REGION_BAR0, (vd_region_offset){offset},
					 &value, 4), 0);
}

static void test_after_the_access(void **state)
{
	struct worker *w = worker_open(&worker_ops);
	uint8_t bytes[24];

	(void)state;
	ask(w, 0);
	assert_int_equal(w->works, 1);
	/* several pieces, one request */
	assert_int_equal(vd_device_read(w->device, VD_REGION_BAR0, (vd_region_offset){0}, bytes,
					sizeof(bytes)), 0);
	assert_int_equal(w->works, 2);
	/* a reset forgets it */
	ask(w, 4);
	assert_int_equal(w->resets, 1);
	assert_int_equal(w->works, 2);
	vd_device_set_busy(w->device, true, -1);
	vd_device_poll(w->device);
	assert_int_equal(w->works, 2);
	w->asks_in_poll = true;
	vd_device_poll(w->device);
	assert_int_equal(w->works, 3);
	worker_close(w);
}

static void test_not_while_quiesced(void **state)
{
	struct worker *w = worker_open(&worker_ops);
	struct vd_stream stream = {.env = w->rig.f.env};

	(void)state;
	assert_int_equal(vd_device_quiesce(w->device), 0);
	assert_int_equal(vd_device_quiesce(w->device), 0);
	ask(w, 0);
	vd_device_resume(w->device);
	assert_int_equal(w->works, 0);
	vd_device_resume(w->device);
	assert_int_equal(w->works, 1);
	w->asks_in_resume = true;
	assert_int_equal(vd_device_save(w->device, &stream), 0);
	assert_int_equal(w->works, 2);
	assert_int_equal(vd_device_load(w->device, &stream, NULL), 0);
	assert_int_equal(w->works, 3);
	vd_stream_fini(&stream);
	worker_close(w);
}

static void test_none_to_do(void **state)
{
	static const struct vd_device_ops idle = {.read = worker_read, .write = worker_write};
	struct worker *w = worker_open(&idle);

	(void)state;
	ask(w, 0);
	assert_int_equal(w->works, 0);
	worker_close(w);
}

/* ---- several threads ------------------------------------------------------------------------ */

static void *ask_once(void *context)
{
	ask(context, 0);
	return NULL;
}

/* What another thread is inside of: an access waits and does its own, a poll does not wait. */
static void test_one_at_a_time(void **state)
{
	struct worker *w = worker_open(&worker_ops);
	pthread_t first, second;

	(void)state;
	w->wait_inside = true;
	assert_int_equal(pthread_create(&first, NULL, ask_once, w), 0);
	while (!atomic_load(&w->entered))
		sched_yield();
	w->asks_in_poll = true;
	vd_device_set_busy(w->device, true, -1);
	vd_device_poll(w->device);
	assert_int_equal(pthread_create(&second, NULL, ask_once, w), 0);
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	atomic_store(&w->go, true);
	pthread_join(first, NULL);
	pthread_join(second, NULL);
	/* of the poll's request and the access' one was made */
	assert_int_equal(w->works, 2);
	worker_close(w);
}

struct crowd {
	struct worker *w;
	_Atomic unsigned finished;
};

static void *ask_often(void *context)
{
	struct crowd *crowd = context;

	for (unsigned i = 0; i < 300; i++) {
		ask(crowd->w, i % 16 == 0 ? 4 : 0);
		vd_device_poll(crowd->w->device);
	}
	atomic_fetch_add(&crowd->finished, 1);
	return NULL;
}

static void test_crowd(void **state)
{
	struct worker *w = worker_open(&worker_ops);
	struct crowd crowd = {.w = w};
	pthread_t threads[3];
	unsigned works;

	(void)state;
	w->asks_in_poll = w->asks_in_resume = true;
	vd_device_set_busy(w->device, true, -1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &crowd), 0);
	while (atomic_load(&crowd.finished) < 3) {
		assert_int_equal(vd_device_quiesce(w->device), 0);
		assert_int_equal(atomic_load(&w->inside), 0);
		sched_yield();
		assert_int_equal(atomic_load(&w->inside), 0);
		vd_device_resume(w->device);
		assert_int_equal(vd_device_reset(w->device, VD_RESET_BUS), 0);
		sched_yield();
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	/* and it goes on */
	works = w->works;
	ask(w, 0);
	assert_int_equal(w->works, works + 1);
	worker_close(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_after_the_access),
		cmocka_unit_test(test_not_while_quiesced),
		cmocka_unit_test(test_none_to_do),
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
