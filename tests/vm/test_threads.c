/* SPDX-License-Identifier: BSD-2-Clause */
/* Machines that are paused, resumed, asked and ended by other threads; and their construction failing. */
#include "rig.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include <viaduct/device.h>

#include "../base/test_env.h"

#define HARTS 2u
#define ROUNDS 30u
#define COUNTER(hart) (RIG_DATA + 8 * (hart))

/* Both harts count in words of their own. */
static void create_counting_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel,
		/* 0 */ insn_u(INSN_AUIPC, 18, 0), ADDI(11, 18, 64), ADDI(12, 8, 8), ADDI(10, 0, 1),
		LI(17, SBI_HSM), ADDI(16, 0, 0), ECALL, ADDI(11, 8, 0), JAL(0, 28),
		[16] = /* 64 */ ADDI(13, 13, 1), SD(13, 11, 0), JAL(0, -8));
}

/* Sleeps for ever: no interrupt is enabled. Counts how often it does. */
static void create_sleeping_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, ADDI(13, 13, 1), SD(13, 8, 0), 0x10500073 /* wfi */, JAL(0, -12));
}

struct running {
	struct vd_vm *vm;
	pthread_t thread;
	enum vd_vm_exit exit;
};

static void *run(void *argument)
{
	struct running *r = argument;

	r->exit = vd_vm_run(r->vm, NULL);
	return NULL;
}

static void start(struct running *r, void (*create)(struct rig_file *kernel), unsigned int cpus)
{
	struct rig_file kernel;

	create(&kernel);
	r->vm = rig_create(&kernel, cpus);
	rig_file_remove(&kernel);
	assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
}

static enum vd_vm_exit finish(struct running *r)
{
	pthread_join(r->thread, NULL);
	vd_vm_destroy(r->vm);
	return r->exit;
}

static void wait_for_progress(struct vd_vm *vm, unsigned int harts)
{
	for (unsigned int i = 0; i < harts; i++) {
		uint64_t before = rig_read64(vm, COUNTER(i));

		while (rig_read64(vm, COUNTER(i)) == before)
			sched_yield();
	}
}

static void paused_machines_stand_still(void **state)
{
	struct running r;

	(void)state;
	start(&r, create_counting_kernel, HARTS);
	wait_for_progress(r.vm, HARTS);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint64_t before[HARTS];

		assert_int_equal(vd_vm_pause(r.vm), 0);
		assert_true(vd_vm_paused(r.vm));
		for (unsigned int i = 0; i < HARTS; i++)
			before[i] = rig_read64(r.vm, COUNTER(i));
		for (unsigned int i = 0; i < 10; i++)
			sched_yield();
		for (unsigned int i = 0; i < HARTS; i++)
			assert_int_equal(rig_read64(r.vm, COUNTER(i)), before[i]);
		vd_vm_resume(r.vm);
		assert_false(vd_vm_paused(r.vm));
		wait_for_progress(r.vm, HARTS);
	}
	vd_vm_stop(r.vm);
	assert_int_equal(finish(&r), VD_VM_EXIT_STOPPED);
}

static void sleeping_machines_pause_and_stop(void **state)
{
	struct running r;

	(void)state;
	start(&r, create_sleeping_kernel, HARTS);
	while (!rig_read64(r.vm, COUNTER(0)))
		sched_yield();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		assert_int_equal(vd_vm_pause(r.vm), 0);
		vd_vm_resume(r.vm);
	}
	/* Neither made the wait end: only an interrupt does. */
	assert_int_equal(rig_read64(r.vm, COUNTER(0)), 1);
	vd_vm_stop(r.vm);
	assert_int_equal(finish(&r), VD_VM_EXIT_STOPPED);
}

/* Whoever pauses twice, resumes what runs, or stops what is paused gets what is asked for. */
static void requests_may_come_in_any_order(void **state)
{
	struct running r;

	(void)state;
	start(&r, create_counting_kernel, HARTS);
	vd_vm_resume(r.vm);
	assert_int_equal(vd_vm_pause(r.vm), 0); /* perhaps before the harts began */
	assert_int_equal(vd_vm_pause(r.vm), 0);
	vd_vm_resume(r.vm);
	vd_vm_resume(r.vm);
	wait_for_progress(r.vm, 1);
	assert_int_equal(vd_vm_pause(r.vm), 0);
	vd_vm_stop(r.vm);
	assert_int_equal(vd_vm_pause(r.vm), -ESHUTDOWN);
	vd_vm_stop(r.vm);
	assert_int_equal(finish(&r), VD_VM_EXIT_STOPPED);
}

static void a_stop_before_the_run_is_kept(void **state)
{
	struct rig_file kernel;
	struct vd_vm *vm;

	(void)state;
	create_counting_kernel(&kernel);
	vm = rig_create(&kernel, HARTS);
	rig_file_remove(&kernel);
	vd_vm_stop(vm);
	assert_int_equal(vd_vm_run(vm, NULL), VD_VM_EXIT_STOPPED);
	assert_int_equal(rig_read64(vm, COUNTER(0)), 0);
	vd_vm_destroy(vm);
}

/* ---- many at once -------------------------------------------------------------- */

struct crowd {
	struct vd_vm *vm;
	_Atomic bool over;
};

static void *pause_and_resume(void *argument)
{
	struct crowd *c = argument;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		vd_vm_pause(c->vm);
		vd_vm_resume(c->vm);
	}
	return NULL;
}

static void *ask(void *argument)
{
	struct crowd *c = argument;
	struct vd_vm_stats stats, last = {.instructions = 0};

	while (!atomic_load(&c->over)) {
		vd_vm_stats(c->vm, &stats);
		if (stats.instructions < last.instructions || stats.wall_ns < last.wall_ns)
			return c;
		last = stats;
		vd_vm_paused(c->vm);
		vd_vm_console_input(c->vm, (const uint8_t *)"x", 1);
		sched_yield();
	}
	return last.instructions ? NULL : c;
}

static void many_threads_may_ask_at_once(void **state)
{
	struct running r;
	struct crowd crowd = {.over = false};
	pthread_t pausers[2], asker;
	void *failed;

	(void)state;
	start(&r, create_counting_kernel, HARTS);
	crowd.vm = r.vm;
	wait_for_progress(r.vm, HARTS);
	assert_int_equal(pthread_create(&asker, NULL, ask, &crowd), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&pausers[i], NULL, pause_and_resume, &crowd), 0);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(pausers[i], NULL);
	wait_for_progress(r.vm, HARTS);
	vd_vm_stop(r.vm);
	atomic_store(&crowd.over, true);
	pthread_join(asker, &failed);
	assert_null(failed);
	assert_int_equal(finish(&r), VD_VM_EXIT_STOPPED);
}

/* ---- signals ------------------------------------------------------------------------ */

static struct vd_vm *_Atomic to_stop;

static void on_signal(int number)
{
	(void)number;
	vd_vm_stop(atomic_load(&to_stop));
}

/*
 * TSan keeps a signal back until the thread next calls into libc, and its ppoll() then sleeps with
 * the signal in hand: there only a hart in guest can be stopped by one.
 */
#if defined(__SANITIZE_THREAD__)
#define SIGNALS_ARE_PROMPT 0
#elif defined(__has_feature)
#define SIGNALS_ARE_PROMPT (!__has_feature(thread_sanitizer))
#else
#define SIGNALS_ARE_PROMPT 1
#endif

/* The signal comes to the thread that runs hart 0, wherever it is: in guest or asleep. */
static void a_signal_handler_may_stop_it(void **state)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;

	(void)state;
	sigaction(SIGUSR1, &action, &before);
	for (unsigned int round = 0; round < 10; round++) {
		struct running r;

		start(&r, SIGNALS_ARE_PROMPT && round % 2 ? create_sleeping_kernel
							  : create_counting_kernel, HARTS);
		atomic_store(&to_stop, r.vm);
		while (!rig_read64(r.vm, COUNTER(0)))
			sched_yield();
		pthread_kill(r.thread, SIGUSR1);
		assert_int_equal(finish(&r), VD_VM_EXIT_STOPPED);
	}
	sigaction(SIGUSR1, &before, NULL);
}

/* ---- teardown, and construction that fails --------------------------------------------- */

static void a_device_may_outlive_its_machine(void **state)
{
	for (unsigned int order = 0; order < 3; order++) {
		struct vd_display_config config = {.env = vd_env_hosted()};
		struct vd_error error = {0};
		struct vd_device *device;
		struct rig_file kernel;
		struct vd_vm *vm;

		(void)state;
		create_counting_kernel(&kernel);
		vm = rig_create(&kernel, 1);
		rig_file_remove(&kernel);
		config.host = vd_vm_host(vm);
		assert_int_equal(vd_display_create(&config, &device, &error), 0);
		if (order > 0)
			assert_int_equal(vd_vm_plug(vm, device, &error), 0);
		if (order == 1)
			vd_device_put(device);
		vd_vm_destroy(vm);
		if (order != 1)
			vd_device_put(device);
	}
	vd_vm_destroy(NULL);
}

static bool creation_survives_a_failure(const struct rig_file *kernel, long step)
{
	static struct test_env test; /* what is freed late looks at it */
	struct vd_vm_config config;
	struct vd_error error = {0};
	struct vd_vm *vm = NULL;
	bool failed;
	int rc;

	test_env_init(&test);
	rig_config(&config, kernel);
	config.env = &test.env;
	config.cpus = HARTS;
	config.initrd = kernel->path;
	test_env_fail(&test, step, -ENOMEM);
	rc = vd_vm_create(&config, &vm, &error);
	failed = test_env_failed(&test);
	if (failed && (rc >= 0 || !error.text[0] || error.code != rc))
		fail_msg("step %ld (%s): %d, '%s'", step, atomic_load(&test.failed_site), rc,
			 error.text);
	assert_int_equal(rc == 0, !failed);
	test_env_fail(&test, 0, 0);
	vd_vm_destroy(vm);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	if (atomic_load(&test.blocks))
		fail_msg("step %ld: %ld blocks are left", step, atomic_load(&test.blocks));
	return failed;
}

static void every_failure_of_creation_is_reported_and_leaves_nothing(void **state)
{
	struct rig_file kernel;
	long step = 1;

	(void)state;
	create_counting_kernel(&kernel);
	while (creation_survives_a_failure(&kernel, step))
		step++;
	assert_true(step > 20);
	rig_file_remove(&kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stop_before_the_run_is_kept),
		cmocka_unit_test(paused_machines_stand_still),
		cmocka_unit_test(sleeping_machines_pause_and_stop),
		cmocka_unit_test(requests_may_come_in_any_order),
		cmocka_unit_test(many_threads_may_ask_at_once),
		cmocka_unit_test(a_signal_handler_may_stop_it),
		cmocka_unit_test(a_device_may_outlive_its_machine),
		cmocka_unit_test(every_failure_of_creation_is_reported_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
