/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An operation that waits for memory which arrives in messages: others may enter, what must not run
 * beside it waits. The device below stands for both the device and the transport's callback.
 */
#include "adder.h"

enum { STAY, SLEEP, NEST, NEST_RESET, NEST_WORK, WORK };

struct sleeper {
	struct vd_device *device;
	bool yields;
	_Atomic unsigned inside, entered, resets, works, quiesces;
	_Atomic bool let_go, yielded;
	uint32_t work_nests; /* what @work lets in while it waits, once */
};

static int nested_write(struct sleeper *s, uint32_t value)
{
	return vd_device_write(s->device, VD_REGION_BAR0, (vd_region_offset){0}, &value, 4);
}

/* What a transport does while it waits for the reply to a DMA message. */
static void message(struct sleeper *s, uint32_t value)
{
	bool yielded = vd_device_yield(s->device);

	atomic_store(&s->yielded, yielded);
	assert_int_equal(yielded, s->yields);
	if (!yielded)
		return;
	while (value == SLEEP && !atomic_load(&s->let_go))
		sched_yield();
	if (value >= NEST)
		assert_int_equal(nested_write(s, value + 100), 0);
	vd_device_unyield(s->device);
}

static int sleeper_write(void *context, unsigned region, uint64_t offset, const void *data,
			 size_t length)
{
	struct sleeper *s = context;
	uint32_t value;

	(void)region;
	(void)offset;
	assert_int_equal(length, 4);
	memcpy(&value, data, 4);
	atomic_fetch_add(&s->entered, 1);
	atomic_fetch_add(&s->inside, 1);
	if (value == NEST_RESET + 100)
		vd_device_request_reset(s->device, VD_RESET_FUNCTION);
	else if (value == NEST_WORK + 100 || value == WORK)
		vd_device_request_work(s->device);
	else if (value < 100)
		message(s, value);
	atomic_fetch_sub(&s->inside, 1);
	return 0;
}

static int sleeper_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct sleeper *s = context;

	(void)region;
	(void)offset;
	memset(data, 0, length);
	atomic_fetch_add(&s->entered, 1);
	return 0;
}

/* All of these must find nobody inside, and do not yield. */
static int sleeper_quiesce(void *context)
{
	struct sleeper *s = context;

	assert_int_equal(atomic_load(&s->inside), 0);
	assert_false(vd_device_yield(s->device));
	atomic_fetch_add(&s->quiesces, 1);
	return 0;
}

static void sleeper_reset(void *context, enum vd_reset_kind kind)
{
	struct sleeper *s = context;

	(void)kind;
	assert_int_equal(atomic_load(&s->inside), 0);
	assert_false(vd_device_yield(s->device));
	atomic_fetch_add(&s->resets, 1);
}

static int sleeper_state(void *context, struct vd_stream *stream)
{
	(void)stream;
	assert_false(vd_device_yield(((struct sleeper *)context)->device));
	return 0;
}

static void sleeper_work(void *context)
{
	struct sleeper *s = context;
	uint32_t nests = s->work_nests;

	atomic_fetch_add(&s->works, 1);
	if (!nests)
		return;
	s->work_nests = 0;
	/* One that holds the lock does not yield, unless the device does. */
	vd_device_lock(s->device);
	assert_int_equal(vd_device_yield(s->device), s->yields);
	if (s->yields)
		vd_device_unyield(s->device);
	vd_device_unlock(s->device);
	assert_true(vd_device_yield(s->device));
	assert_false(vd_device_yield(s->device));
	atomic_fetch_add(&s->inside, 1);
	assert_int_equal(nested_write(s, nests), 0);
	atomic_fetch_sub(&s->inside, 1);
	vd_device_unyield(s->device);
}

static const struct vd_device_ops sleeper_ops = {
	.read = sleeper_read,
	.write = sleeper_write,
	.quiesce = sleeper_quiesce,
	.reset = sleeper_reset,
	.save = sleeper_state,
	.load = sleeper_state,
	.work = sleeper_work,
};

static void sleeper_open(struct sleeper *s, struct rig *rig, bool yields)
{
	struct vd_device_config config;

	*s = (struct sleeper){.yields = yields};
	rig_open(rig);
	config = adder_config(&rig->f, &rig->adder);
	config.ops = &sleeper_ops;
	config.context = s;
	config.yields = yields;
	assert_int_equal(vd_device_create(&config, &s->device, NULL), 0);
}

static void sleeper_close(struct sleeper *s, struct rig *rig)
{
	vd_device_put(s->device);
	rig_close(rig);
}

static void test_who_yields(void **state)
{
	struct sleeper s;
	struct rig rig;

	(void)state;
	for (int yields = 0; yields < 2; yields++) {
		sleeper_open(&s, &rig, yields);
		assert_false(vd_device_yield(s.device)); /* holds no lock */
		assert_int_equal(nested_write(&s, STAY), 0);
		assert_int_equal(atomic_load(&s.yielded), yields);
		assert_int_equal(vd_device_reset(s.device, VD_RESET_BUS), 0);
		sleeper_close(&s, &rig);
	}
}

static void *sleep_inside(void *context)
{
	assert_int_equal(nested_write(context, SLEEP), 0);
	return NULL;
}

static void *reset_meanwhile(void *context)
{
	assert_int_equal(vd_device_reset(((struct sleeper *)context)->device, VD_RESET_BUS), 0);
	return NULL;
}

static void *save_meanwhile(void *context)
{
	struct sleeper *s = context;
	struct vd_stream stream = {.env = vd_device_env(s->device)}, in;

	assert_int_equal(vd_device_save(s->device, &stream), 0);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(s->device, &in, NULL), 0);
	vd_stream_fini(&stream);
	return NULL;
}

/* Another thread reads while one sleeps inside; a reset and a save wait until that one is out. */
static void test_others_enter(void **state)
{
	pthread_t sleeping, resetting, saving;
	struct sleeper s;
	struct rig rig;
	uint32_t value;

	(void)state;
	sleeper_open(&s, &rig, true);
	assert_int_equal(pthread_create(&sleeping, NULL, sleep_inside, &s), 0);
	while (!atomic_load(&s.yielded))
		sched_yield();
	assert_false(vd_device_yield(s.device)); /* another thread holds nothing */
	assert_int_equal(vd_device_read(s.device, VD_REGION_BAR0, (vd_region_offset){0}, &value, 4),
			 0);
	assert_int_equal(pthread_create(&resetting, NULL, reset_meanwhile, &s), 0);
	assert_int_equal(pthread_create(&saving, NULL, save_meanwhile, &s), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(nested_write(&s, 100), 0);
		sched_yield();
		assert_int_equal(atomic_load(&s.resets) + atomic_load(&s.quiesces), 0);
	}
	atomic_store(&s.let_go, true);
	pthread_join(sleeping, NULL);
	pthread_join(resetting, NULL);
	pthread_join(saving, NULL);
	assert_int_equal(atomic_load(&s.resets), 1);
	assert_int_equal(atomic_load(&s.quiesces), 2);
	sleeper_close(&s, &rig);
}

/* What is asked for by who enters on the very thread that sleeps: done when the outer one ends. */
static void test_wishes_wait(void **state)
{
	struct sleeper s;
	struct rig rig;

	(void)state;
	sleeper_open(&s, &rig, true);
	assert_int_equal(nested_write(&s, NEST_RESET), 0);
	assert_int_equal(atomic_load(&s.resets), 1);
	assert_int_equal(nested_write(&s, NEST_WORK), 0);
	assert_int_equal(atomic_load(&s.works), 1);
	assert_int_equal(nested_write(&s, NEST), 0);
	assert_int_equal(atomic_load(&s.entered), 6);
	assert_int_equal(atomic_load(&s.resets), 1);
	assert_int_equal(atomic_load(&s.works), 1);
	sleeper_close(&s, &rig);
}

/*
 * @work waits without the lock, whatever the device: an access on its thread waits for nothing that
 * this thread would have to do first.
 */
static void test_work_yields(void **state)
{
	static const bool yields[] = {false, true};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct sleeper s;
		struct rig rig;

		sleeper_open(&s, &rig, yields[i]);
		s.work_nests = NEST_WORK + 100;
		assert_int_equal(nested_write(&s, WORK), 0);
		assert_int_equal(atomic_load(&s.works), 2);
		s.work_nests = NEST_RESET + 100;
		assert_int_equal(nested_write(&s, WORK), 0);
		assert_int_equal(atomic_load(&s.works), 3);
		assert_int_equal(atomic_load(&s.resets), 1);
		/* An operation that waits inside @work that waits. */
		s.work_nests = yields[i] ? NEST_WORK : STAY + 100;
		assert_int_equal(nested_write(&s, WORK), 0);
		assert_int_equal(atomic_load(&s.works), yields[i] ? 5 : 4);
		assert_int_equal(vd_device_reset(s.device, VD_RESET_BUS), 0);
		sleeper_close(&s, &rig);
	}
}

#define ROUNDS 1500u

static void *many_accesses(void *context)
{
	uint64_t random = (uint64_t)(uintptr_t)&random;

	for (unsigned i = 0; i < ROUNDS; i++)
		assert_int_equal(nested_write(context, (uint32_t[]){STAY, NEST, NEST_RESET,
								    NEST_WORK}
							       [test_random(&random) % 4]), 0);
	return NULL;
}

static void test_all_at_once(void **state)
{
	pthread_t threads[3];
	struct sleeper s;
	struct rig rig;

	(void)state;
	sleeper_open(&s, &rig, true);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_accesses, &s), 0);
	for (unsigned i = 0; i < 20; i++) {
		reset_meanwhile(&s);
		save_meanwhile(&s);
		assert_int_equal(vd_device_quiesce(s.device), 0);
		vd_device_resume(s.device);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&s.resets) > 20);
	assert_true(atomic_load(&s.works) > 0);
	sleeper_close(&s, &rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_yields),
		cmocka_unit_test(test_others_enter),
		cmocka_unit_test(test_wishes_wait),
		cmocka_unit_test(test_work_yields),
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
