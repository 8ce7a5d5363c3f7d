/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hart threads: start, idle, pause, stop. vm->lock protects states; nothing is called with it held
 * but wake-ups.
 */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vm/machine.h"

/* How long an idle hart looks for completions before it sleeps: a sleep costs more than that. */
#define HALT_POLL_NS 20000u

static int hart_ecall(void *context, struct vd_hart *hart)
{
	(void)hart;
	return vd_sbi_call(context);
}

static void poll_devices(struct vd_vm *vm)
{
	for (unsigned i = 0; i < vm->device_count; i++)
		vd_device_poll(vm->devices[i]);
}

static void hart_poll(void *context, struct vd_hart *hart)
{
	struct machine_hart *h = context;

	(void)hart;
	poll_devices(h->vm);
	vd_uart_flush(h->vm->uart);
}

static unsigned busy_descriptors(struct vd_vm *vm, struct pollfd *fds)
{
	unsigned count = 0;

	for (unsigned i = 0; i < vm->device_count; i++) {
		int fd = vd_device_poll_fd(vm->devices[i]);

		if (fd >= 0)
			fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	return count;
}

static void hart_idle(void *context, struct vd_hart *hart, uint64_t deadline)
{
	struct machine_hart *h = context;
	struct vd_vm *vm = h->vm;
	struct pollfd fds[DEVICES_MAX + 1];
	uint64_t now = vm->env->clock_ns(vm->env), until = now + HALT_POLL_NS, ticket;
	struct timespec timeout, *wait = NULL;
	unsigned busy;

	(void)hart;
	vd_uart_flush(vm->uart);
	fds[0] = (struct pollfd){.fd = h->wake_fd, .events = POLLIN};
	busy = busy_descriptors(vm, fds + 1);
	while (busy && now < until && now < deadline) {
		if (poll(fds, busy + 1, 0) != 0)
			goto out;
		now = vm->env->clock_ns(vm->env);
	}
	if (deadline != UINT64_MAX) {
		uint64_t ns = deadline > now ? deadline - now : 0;

		timeout = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
		wait = &timeout;
	}
	ppoll(fds, busy + 1, wait, NULL);
out:
	if (fds[0].revents & POLLIN && read(h->wake_fd, &ticket, sizeof(ticket)) < 0)
		return; /* another wake-up took it: nothing to do */
}

static void hart_wake(void *context, struct vd_hart *hart)
{
	struct machine_hart *h = context;
	uint64_t one = 1;

	(void)hart;
	if (write(h->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake */
}

const struct vd_hart_ops vd_vm_hart_ops = {
	.ecall = hart_ecall, .poll = hart_poll, .idle = hart_idle, .wake = hart_wake,
};

static void stop_all_harts(struct vd_vm *vm)
{
	for (unsigned i = 0; i < vm->hart_count; i++)
		vd_hart_request_stop(vm->harts[i].hart);
}

void vd_vm_end(struct vd_vm *vm, enum vd_vm_exit exit)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->exit)
		vm->exit = exit;
	atomic_store(&vm->stopping, true);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	stop_all_harts(vm);
}

/*
 * Only atomics and eventfd writes: may be called by a signal handler. Parked harts are woken by
 * vd_vm_run()'s loop.
 */
void vd_vm_stop(struct vd_vm *vm)
{
	atomic_store(&vm->stopping, true);
	stop_all_harts(vm);
}

bool vd_vm_stopping(const struct vd_vm *vm)
{
	return atomic_load(&vm->stopping);
}

int vd_vm_start_hart(struct vd_vm *vm, uint64_t id, uint64_t pc, uint64_t argument)
{
	int rc = 0;

	if (id >= vm->hart_count)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	if (vm->harts[id].state != HART_STOPPED) {
		rc = -EALREADY;
	} else {
		vm->harts[id].start_pc = pc;
		vm->harts[id].start_a1 = argument;
		vm->harts[id].state = HART_START_PENDING;
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
	return rc;
}

/* Wait until this hart may run; false if the machine ends. */
static bool wait_for_turn(struct machine_hart *h)
{
	struct vd_vm *vm = h->vm;
	struct timespec soon;
	bool go;

	vd_uart_finish(vm->uart);
	pthread_mutex_lock(&vm->lock);
	h->parked = true;
	pthread_cond_broadcast(&vm->changed);
	while (!atomic_load(&vm->stopping) &&
	       (vm->pausing || vm->held || h->state == HART_STOPPED)) {
		/*
		 * vd_vm_stop() may come from a signal handler and cannot broadcast: look now and
		 * then.
		 */
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 100000000;
		if (soon.tv_nsec >= 1000000000) {
			soon.tv_nsec -= 1000000000;
			soon.tv_sec++;
		}
		pthread_cond_timedwait(&vm->changed, &vm->lock, &soon);
	}
	go = !atomic_load(&vm->stopping);
	h->parked = !go;
	if (go && h->state == HART_START_PENDING) {
		vd_hart_reset(h->hart, (vd_gva){h->start_pc});
		vd_hart_set_x(h->hart, 10, vd_hart_id(h->hart));
		vd_hart_set_x(h->hart, 11, h->start_a1);
		h->state = HART_STARTED;
	}
	pthread_mutex_unlock(&vm->lock);
	return go;
}

static void *hart_thread(void *argument)
{
	struct machine_hart *h = argument;

	pthread_mutex_lock(&h->vm->lock);
	h->entered = true;
	pthread_mutex_unlock(&h->vm->lock);
	while (wait_for_turn(h))
		if (vd_hart_run(h->hart) == VD_HART_EXIT_CHECK)
			vd_vm_end(h->vm, VD_VM_EXIT_ERROR);
	return NULL;
}

enum vd_vm_exit vd_vm_run(struct vd_vm *vm, struct vd_error *error)
{
	vm->started_ns = vm->env->clock_ns(vm->env);
	if (!vm->restored)
		vd_vm_start_hart(vm, 0, VD_BOARD_RAM + KERNEL_OFFSET, vm->device_tree);
	for (unsigned i = 1; i < vm->hart_count; i++) {
		int rc = pthread_create(&vm->harts[i].thread, NULL, hart_thread, &vm->harts[i]);

		vm->harts[i].has_thread = !rc;
		if (rc) {
			vd_error_set(error, -rc, "cannot start a thread for hart %u: %s", i,
				     strerror(rc));
			vd_vm_end(vm, VD_VM_EXIT_ERROR);
		}
	}
	hart_thread(&vm->harts[0]);
	for (unsigned i = 1; i < vm->hart_count; i++) {
		if (vm->harts[i].has_thread)
			pthread_join(vm->harts[i].thread, NULL);
		vm->harts[i].has_thread = false;
	}
	vm->run_ns = vm->env->clock_ns(vm->env) - vm->started_ns;
	if (vm->exit == VD_VM_EXIT_ERROR && error && !error->code)
		vd_error_set(error, -EIO, "the soft TLB and the second-stage tables disagree");
	return vm->exit ? vm->exit : VD_VM_EXIT_STOPPED;
}

int vd_vm_pause(struct vd_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->pausing = true;
	pthread_mutex_unlock(&vm->lock);
	stop_all_harts(vm);
	pthread_mutex_lock(&vm->lock);
	for (unsigned i = 0; i < vm->hart_count; i++)
		while (!vm->harts[i].parked && vm->pausing && !atomic_load(&vm->stopping))
			pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	return atomic_load(&vm->stopping) ? -ESHUTDOWN : 0;
}

void vd_vm_resume(struct vd_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->pausing = false;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

int vd_vm_hold(struct vd_vm *vm)
{
	bool over;

	pthread_mutex_lock(&vm->lock);
	vm->held++;
	pthread_mutex_unlock(&vm->lock);
	stop_all_harts(vm);
	pthread_mutex_lock(&vm->lock);
	/* A thread that is not there yet parks when it comes; one that ends is parked. */
	for (unsigned i = 0; i < vm->hart_count; i++)
		while (vm->harts[i].entered && !vm->harts[i].parked)
			pthread_cond_wait(&vm->changed, &vm->lock);
	over = atomic_load(&vm->stopping);
	pthread_mutex_unlock(&vm->lock);
	return over ? -ESHUTDOWN : 0;
}

void vd_vm_let_go(struct vd_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->held--;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

bool vd_vm_paused(const struct vd_vm *vm)
{
	return vm->pausing;
}
