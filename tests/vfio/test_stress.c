/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device used from many threads: accesses, resets, state, interrupts, while its memory and the
 * guest's change.
 */
#include <linux/vfio.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "adder.h"

#define ROUNDS 2500u
#define WORKERS 3u

struct stress {
	struct rig rig;
	_Atomic unsigned finished;
	_Atomic unsigned interrupts;
	unsigned raised; /* under the device's lock */
};

static void count_interrupt(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct stress *s = context;

	(void)vector;
	(void)level;
	if (index == VD_IRQ_MSIX)
		atomic_fetch_add(&s->interrupts, 1);
}

static void access_some(struct stress *s, uint64_t *random)
{
	unsigned char bytes[64];
	unsigned region = (unsigned)(test_random(random) % VD_REGION_COUNT);
	uint64_t offset = test_random(random) % (ADDER_BAR1 + 64);
	size_t length = test_random(random) % sizeof(bytes);

	if (region == VD_REGION_BAR0 && offset >= 4)
		offset = test_random(random) % 8;
	if (test_random(random) % 2 || region == VD_REGION_BAR0)
		(void)vd_device_read(s->rig.adder.device, region, (vd_region_offset){offset}, bytes,
				     length);
	else
		(void)vd_device_write(s->rig.adder.device, region, (vd_region_offset){offset},
				      bytes, length);
}

static void *run_accesses(void *context)
{
	struct stress *s = context;
	uint64_t random = (uint64_t)(uintptr_t)&s;

	for (unsigned i = 0; i < ROUNDS; i++) {
		access_some(s, &random);
		if (i % 8 == 0) {
			assert_int_equal(rig_write(&s->rig, 1, 0x10000), 0);
			assert_int_equal(rig_write(&s->rig, 2, 16), 0);
			/* pins, which the other thread's changes ask back */
			(void)rig_write(&s->rig, 4, 1);
			(void)rig_write(&s->rig, 3, 1);
		}
		if (i % 16 == 0) {
			vd_device_lock(s->rig.adder.device);
			vd_device_raise(s->rig.adder.device, VD_IRQ_MSIX, 1);
			s->raised++;
			vd_device_unlock(s->rig.adder.device);
		}
		vd_device_poll(s->rig.adder.device);
	}
	atomic_fetch_add(&s->finished, 1);
	return NULL;
}

static void disturb(struct stress *s, uint64_t *random)
{
	struct vd_stream stream = {.env = s->rig.f.env}, in;
	struct vd_device_stats stats;

	assert_int_equal(vd_device_reset(s->rig.adder.device, VD_RESET_BUS), 0);
	assert_int_equal(vd_host_object_move(s->rig.f.ram, 0, PAGE, true), 0);
	vd_device_set_busy(s->rig.adder.device, test_random(random) % 2, -1);
	if (test_random(random) % 4 == 0) {
		assert_int_equal(vd_device_save(s->rig.adder.device, &stream), 0);
		in = (struct vd_stream){.data = stream.data, .length = stream.length};
		assert_int_equal(vd_device_load(s->rig.adder.device, &in, NULL), 0);
		vd_stream_fini(&stream);
	}
	vd_device_stats(s->rig.adder.device, &stats);
	sched_yield();
}

static void test_all_at_once(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	pthread_t threads[WORKERS];
	uint64_t random = 5;

	(void)state;
	assert_non_null(s);
	rig_open(&s->rig);
	add_ram(&s->rig.f, 0x10000, 0, PAGE);
	assert_int_equal(vd_device_set_sink(s->rig.adder.device, VD_IRQ_MSIX, count_interrupt, s),
			 0);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_accesses, s), 0);
	while (atomic_load(&s->finished) < WORKERS)
		disturb(s, &random);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(rig_stats(&s->rig).interrupts, atomic_load(&s->interrupts));
	assert_true(atomic_load(&s->interrupts) >= s->raised);
	assert_int_equal(rig_stats(&s->rig).resets, s->rig.adder.resets);
	rig_close(&s->rig);
	free(s);
}

/* ---- raising while a client sets, masks and goes away -------------------------------------- */

#define VECTORS 4u
#define RAISES 6000u

struct raising {
	struct rig rig;
	int fds[VECTORS];
	_Atomic unsigned finished;
	_Atomic uint64_t arrived;
	uint64_t raised[VECTORS]; /* under the device's lock */
};

static void *raise_all(void *context)
{
	struct raising *s = context;
	struct vd_device *device = s->rig.adder.device;

	for (unsigned i = 0; i < RAISES; i++) {
		vd_device_lock(device);
		vd_device_raise(device, VD_IRQ_MSIX, i % VECTORS);
		s->raised[i % VECTORS]++;
		if (i % 3)
			vd_device_raise(device, VD_IRQ_INTX, 0);
		else
			vd_device_lower(device);
		vd_device_disable_intx(device, i % 64 == 1);
		vd_device_unlock(device);
	}
	atomic_fetch_add(&s->finished, 1);
	return NULL;
}

/* Takes vectors away and gives them back: nothing that is raised meanwhile is lost for good. */
static void *set_all(void *context)
{
	struct raising *s = context;
	struct vd_device *device = s->rig.adder.device;
	const uint32_t set = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	uint64_t random = (uint64_t)(uintptr_t)&random;

	while (atomic_load(&s->finished) < WORKERS) {
		unsigned start = (unsigned)(test_random(&random) % VECTORS);
		unsigned count = 1 + (unsigned)(test_random(&random) % (VECTORS - start));
		bool give = test_random(&random) % 2;

		(void)vd_device_set_irqs(device, set, VD_IRQ_MSIX, start, count, NULL,
					 give ? s->fds + start : NULL);
		if (test_random(&random) % 64 == 0)
			vd_device_clear_irqs(device);
		if (test_random(&random) % 16 == 0)
			(void)vd_device_set_irqs(device, set, VD_IRQ_INTX, 0, 1, NULL, s->fds);
		(void)vd_device_set_irqs(device, VFIO_IRQ_SET_DATA_NONE |
					 VFIO_IRQ_SET_ACTION_UNMASK, VD_IRQ_INTX, 0, 1, NULL, NULL);
		if (test_random(&random) % 16 == 0)
			(void)vd_device_set_irqs(device, VFIO_IRQ_SET_DATA_NONE |
						 VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_INTX, 0, 0,
						 NULL, NULL);
		(void)vd_device_unmask_fd(device);
		vd_device_unmask_poll(device);
	}
	return NULL;
}

static uint64_t take(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void test_raise_beside_set_irqs(void **state)
{
	struct raising *s = calloc(1, sizeof(*s));
	pthread_t threads[WORKERS + 2];

	(void)state;
	assert_non_null(s);
	rig_open(&s->rig);
	for (unsigned i = 0; i < VECTORS; i++)
		s->fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (unsigned i = 0; i < WORKERS + 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < WORKERS ? raise_all : set_all, s), 0);
	for (unsigned i = 0; i < WORKERS + 2; i++)
		pthread_join(threads[i], NULL);
	/* All quiet: what is set now works as ever, and everything was counted. */
	vd_device_clear_irqs(s->rig.adder.device);
	for (unsigned i = 0; i < VECTORS; i++)
		(void)take(s->fds[i]);
	assert_int_equal(vd_device_set_irqs(s->rig.adder.device, VFIO_IRQ_SET_DATA_EVENTFD |
					    VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_MSIX, 0, VECTORS,
					    NULL, s->fds), 0);
	for (unsigned i = 0; i < VECTORS; i++) {
		assert_int_equal(s->raised[i], WORKERS * RAISES / VECTORS);
		vd_device_lock(s->rig.adder.device);
		vd_device_raise(s->rig.adder.device, VD_IRQ_MSIX, i);
		vd_device_unlock(s->rig.adder.device);
		assert_int_equal(take(s->fds[i]), 1);
		close(s->fds[i]);
	}
	assert_true(rig_stats(&s->rig).interrupts >= WORKERS * RAISES);
	rig_close(&s->rig);
	free(s);
}

/*
 * One vector is given and taken all the time, never switched off: as often as it is raised it
 * arrives or is pending, so that the last of them is never lost.
 */
static void *give_and_take(void *context)
{
	struct raising *s = context;
	const uint32_t set = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;

	while (!atomic_load(&s->finished)) {
		(void)vd_device_set_irqs(s->rig.adder.device, set, VD_IRQ_MSIX, 1, 1, NULL, NULL);
		(void)vd_device_set_irqs(s->rig.adder.device, set, VD_IRQ_MSIX, 1, 1, NULL,
					 s->fds + 1);
	}
	return NULL;
}

static void test_none_is_lost(void **state)
{
	struct raising *s = calloc(1, sizeof(*s));
	const uint32_t set = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	pthread_t thread;

	(void)state;
	assert_non_null(s);
	rig_open(&s->rig);
	s->fds[1] = eventfd(0, EFD_CLOEXEC); /* blocks until it arrives */
	assert_int_equal(vd_device_set_irqs(s->rig.adder.device, set, VD_IRQ_MSIX, 0, 2, NULL,
					    NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, give_and_take, s), 0);
	for (unsigned i = 0; i < 1000; i++) {
		vd_device_lock(s->rig.adder.device);
		vd_device_raise(s->rig.adder.device, VD_IRQ_MSIX, 1);
		vd_device_unlock(s->rig.adder.device);
		assert_int_equal(take(s->fds[1]), 1);
	}
	atomic_store(&s->finished, 1);
	pthread_join(thread, NULL);
	close(s->fds[1]);
	rig_close(&s->rig);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_raise_beside_set_irqs),
		cmocka_unit_test(test_none_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
