/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor of foreign memory, and its watchdog.
 *
 * What an event is about is only known once it is read, and reading it lets the change happen. So a
 * batch goes: something can be read; every object as a whole is invalid; read; the pieces concerned
 * are invalid; the rest is valid again; the change is over; the pieces are valid again. Callers
 * whose call is over already (munmap, mremap) only wait for the reading.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/foreign.h"

#define MESSAGES 16
#define STOP_PAUSE_MS 5

static bool is_lost(const struct vd_foreign *foreign)
{
	/* acquire: pairs with give_up() */
	return atomic_load_explicit(&foreign->lost, memory_order_acquire);
}

/* ---- a batch --------------------------------------------------------- */

/* Objects in the batch cannot be freed until batch_close(): see foreign_forget(). */
static void batch_open(struct vd_foreign *foreign)
{
	struct foreign_batch *batch = &foreign->batch;

	/* relaxed: a clock for the watchdog; never 0 */
	atomic_store_explicit(&foreign->busy_since, foreign->env->clock_ns(foreign->env) | 1,
			      memory_order_relaxed);
	pthread_mutex_lock(&foreign->lock);
	foreign->busy = true;
	batch->entry_count = foreign->count;
	for (unsigned i = 0; i < foreign->count; i++)
		batch->entries[i] = (struct foreign_entry){.object = foreign->objects[i]};
	pthread_mutex_unlock(&foreign->lock);
	batch->range_count = 0;
	batch->reused = batch->coarse = false;
}

static void batch_close(struct vd_foreign *foreign)
{
	pthread_mutex_lock(&foreign->lock);
	foreign->busy = false;
	pthread_cond_broadcast(&foreign->idle);
	pthread_mutex_unlock(&foreign->lock);
	atomic_store_explicit(&foreign->busy_since, 0, memory_order_relaxed);
}

/*
 * Every mirror lets go. A listener that refuses (a device that does not give pages back) is asked
 * again until the watchdog's patience ends. Return: false if that has ended.
 */
static bool start_all(struct vd_foreign *foreign)
{
	struct foreign_batch *batch = &foreign->batch;

	for (unsigned i = 0; i < batch->entry_count; i++) {
		struct foreign_entry *entry = &batch->entries[i];

		entry->whole = (struct vd_invalidation){
			.object = entry->object, .length = entry->object->size, .blockable = true,
			.reason = VD_INVALIDATE_DISCARD,
		};
		while (!entry->started && !is_lost(foreign)) {
			entry->started = !vd_notifier_start(&foreign->host->notifier,
							    &entry->whole);
			if (!entry->started)
				sched_yield();
		}
	}
	return !is_lost(foreign);
}

static void end_wholes(struct vd_foreign *foreign, bool kept)
{
	struct foreign_batch *batch = &foreign->batch;

	for (unsigned i = batch->entry_count; i-- > 0;) {
		struct foreign_entry *entry = &batch->entries[i];

		if (!entry->started || entry->keep != kept)
			continue;
		vd_notifier_end(&foreign->host->notifier, &entry->whole);
		entry->started = false;
	}
}

/* ---- what the events say --------------------------------------------- */

/* Whether any page of the range is mapped. */
static bool mapped(uintptr_t address, uint64_t length)
{
	uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned char resident;

	for (uint64_t at = 0; at < length; at += size)
		if (mincore((void *)(address + at), size, &resident) == 0 || errno != ENOMEM)
			return true;
	return false;
}

/* A piece of an object, under its own event from now on. */
static void note_range(struct vd_foreign *foreign, struct foreign_entry *entry, uint64_t offset,
		       uint64_t length, enum vd_invalidate_reason reason)
{
	struct foreign_batch *batch = &foreign->batch;
	struct vd_host_object *object = entry->object;
	unsigned shift = object->host->page_shift;

	pages_clear_written(object, offset >> shift, length >> shift);
	if (reason == VD_INVALIDATE_UNMAP) {
		pages_mark_gone(object, offset >> shift, length >> shift);
		batch->reused |= mapped(object->home + offset, length);
		return; /* that is all: it was over before */
	}
	if (batch->range_count == FOREIGN_RANGES) {
		entry->keep = batch->coarse = true;
		return;
	}
	batch->ranges[batch->range_count++] = (struct foreign_range){
		.event = {.object = object, .start = offset, .length = length, .blockable = true,
			  .reason = reason},
		.address = object->home + offset,
		.present = foreign_sample(foreign, object->home + offset, length),
	};
}

/* Return: whether the range is of any object. */
static bool note(struct vd_foreign *foreign, uintptr_t start, uint64_t length,
		 enum vd_invalidate_reason reason)
{
	struct foreign_batch *batch = &foreign->batch;
	bool any = false;

	for (unsigned i = 0; i < batch->entry_count; i++) {
		struct foreign_entry *entry = &batch->entries[i];
		uintptr_t home = entry->object->home, low, high;

		if (!length || !vd_ranges_overlap(start, length, home, entry->object->size))
			continue;
		low = start > home ? start : home;
		high = start + length < home + entry->object->size ? start + length
								   : home + entry->object->size;
		note_range(foreign, entry, low - home, high - low, reason);
		any = true;
	}
	return any;
}

static void take_message(struct vd_foreign *foreign, const struct uffd_msg *message)
{
	struct uffdio_range moved;
	_Atomic uint64_t *counter = NULL;
	bool ours = false;

	switch (message->event) {
	case UFFD_EVENT_REMOVE:
		counter = &foreign->discards;
		ours = note(foreign, message->arg.remove.start,
			    message->arg.remove.end - message->arg.remove.start,
			    VD_INVALIDATE_DISCARD);
		break;
	case UFFD_EVENT_UNMAP:
		counter = &foreign->unmaps;
		ours = note(foreign, message->arg.remove.start,
			    message->arg.remove.end - message->arg.remove.start,
			    VD_INVALIDATE_UNMAP);
		break;
	case UFFD_EVENT_REMAP:
		counter = &foreign->remaps;
		ours = note(foreign, message->arg.remap.from, message->arg.remap.len,
			    VD_INVALIDATE_UNMAP);
		/* the registration has moved along; nobody here wants to hear of it there */
		moved = (struct uffdio_range){message->arg.remap.to, message->arg.remap.len};
		ioctl(foreign->fd, UFFDIO_UNREGISTER, &moved);
		break;
	default:
		break;
	}
	if (ours)
		atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void take_messages(struct vd_foreign *foreign)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got = read(foreign->fd, messages, sizeof(messages));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++)
		take_message(foreign, &messages[i]);
}

/* ---- pieces ---------------------------------------------------------- */

static void start_ranges(struct vd_foreign *foreign)
{
	struct foreign_batch *batch = &foreign->batch;

	for (unsigned i = 0; i < batch->range_count; i++) {
		struct foreign_range *range = &batch->ranges[i];

		range->started = !vd_notifier_start(&foreign->host->notifier, &range->event);
		for (unsigned k = 0; k < batch->entry_count && !range->started; k++)
			batch->entries[k].keep |= batch->entries[k].object == range->event.object;
	}
}

static void finish_ranges(struct vd_foreign *foreign)
{
	struct foreign_batch *batch = &foreign->batch;

	for (unsigned i = 0; i < batch->range_count; i++) {
		struct foreign_range *range = &batch->ranges[i];

		if (!foreign_settle(foreign, range->address, range->event.length, range->present))
			atomic_fetch_add_explicit(&foreign->unsettled, 1, memory_order_relaxed);
		if (range->started)
			vd_notifier_end(&foreign->host->notifier, &range->event);
	}
	if (batch->coarse)
		foreign_settle(foreign, 0, 0, 0);
}

/* The memory is dead already: whoever can, drops what is left of it. */
static void drop_all(struct vd_foreign *foreign)
{
	struct foreign_batch *batch = &foreign->batch;

	for (unsigned i = 0; i < batch->entry_count; i++)
		if (!batch->entries[i].started &&
		    !vd_notifier_start(&foreign->host->notifier, &batch->entries[i].whole))
			vd_notifier_end(&foreign->host->notifier, &batch->entries[i].whole);
}

static void handle_events(struct vd_foreign *foreign)
{
	batch_open(foreign);
	if (start_all(foreign)) {
		take_messages(foreign);
		start_ranges(foreign);
	} else {
		drop_all(foreign);
	}
	end_wholes(foreign, false);
	finish_ranges(foreign);
	end_wholes(foreign, true);
	if (foreign->batch.reused) {
		atomic_store_explicit(&foreign->released, true, memory_order_relaxed);
		vd_notifier_release(&foreign->host->notifier);
	}
	batch_close(foreign);
}

static void *monitor_thread(void *context)
{
	struct vd_foreign *foreign = context;

	pthread_mutex_lock(&foreign->alive);
	pthread_mutex_lock(&foreign->lock);
	foreign->open = true;
	pthread_cond_broadcast(&foreign->idle);
	pthread_mutex_unlock(&foreign->lock);
	/* acquire: pairs with foreign_stop() */
	while (!atomic_load_explicit(&foreign->stop, memory_order_acquire)) {
		struct pollfd fds[2] = {{.fd = foreign->fd, .events = POLLIN},
					{.fd = foreign->stop_fd, .events = POLLIN}};

		if (poll(fds, 2, -1) > 0 && fds[0].revents & POLLIN)
			handle_events(foreign);
	}
	pthread_mutex_unlock(&foreign->alive);
	return NULL;
}

/* ---- the watchdog ---------------------------------------------------- */

void foreign_empty_all(struct vd_foreign *foreign)
{
	for (unsigned i = 0; i < foreign->count; i++)
		/* release: pairs with vd_host_object_lookup() */
		atomic_store_explicit(&foreign->objects[i]->address, ADDRESS_NONE,
				      memory_order_release);
}

/*
 * Nobody waits any more, and nothing is found any more. The descriptor is replaced, not closed: its
 * number stays taken, so the monitor, if it comes back, reads nothing of anybody else's.
 */
static void give_up(struct vd_foreign *foreign, bool dead)
{
	const struct vd_env *env = foreign->env;

	pthread_mutex_lock(&foreign->lock);
	foreign_empty_all(foreign);
	foreign->dead = dead;
	/* release: pairs with is_lost() */
	atomic_store_explicit(&foreign->lost, true, memory_order_release);
	foreign_release_waiters(foreign);
	dup3(foreign->inert_fd, foreign->fd, O_CLOEXEC);
	pthread_cond_broadcast(&foreign->idle);
	pthread_mutex_unlock(&foreign->lock);
	if (env->log)
		env->log(env, VD_LOG_ERROR, dead ? "foreign memory: the monitor died; all of it is "
						   "given up"
						 : "foreign memory: the monitor is stuck; all of "
						   "it is given up");
}

static bool is_stuck(const struct vd_foreign *foreign)
{
	uint64_t since = atomic_load_explicit(&foreign->busy_since, memory_order_relaxed);

	return since && foreign->env->clock_ns(foreign->env) - since > foreign->limit_ns;
}

/* How often it looks: milliseconds. */
static int look_pause(const struct vd_foreign *foreign)
{
	uint64_t pause = foreign->limit_ns / 4000000u + 1;

	return pause < 1000 ? (int)pause : 1000;
}

/* Tries the lock that the monitor holds as long as it lives. */
static void *watchdog_thread(void *context)
{
	struct vd_foreign *foreign = context;
	struct pollfd stop = {.fd = foreign->stop_fd, .events = POLLIN};
	int result;

	do {
		/* once it shall stop, the monitor is nearly done, unless it is stuck right now */
		if (stop.revents & POLLIN)
			poll(NULL, 0, STOP_PAUSE_MS);
		else
			poll(&stop, 1, look_pause(foreign));
		result = pthread_mutex_trylock(&foreign->alive);
		if (result == EBUSY && !is_lost(foreign) && is_stuck(foreign))
			give_up(foreign, false);
	} while (result == EBUSY);
	if (result == EOWNERDEAD) {
		give_up(foreign, true);
		pthread_mutex_consistent(&foreign->alive);
	}
	pthread_mutex_unlock(&foreign->alive);
	return NULL;
}

/* ---- start and stop -------------------------------------------------- */

static void alive_init(struct vd_foreign *foreign)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&foreign->alive, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static int start_thread(struct vd_foreign *foreign, const char *site, pthread_t *thread,
			void *(*run)(void *context))
{
	int result = vd_env_inject(foreign->env, site);

	return result ? result : -pthread_create(thread, NULL, run, foreign);
}

static void stop_monitor(struct vd_foreign *foreign)
{
	uint64_t one = 1;

	/* release: pairs with monitor_thread() */
	atomic_store_explicit(&foreign->stop, true, memory_order_release);
	while (write(foreign->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(foreign->monitor, NULL);
}

int foreign_start(struct vd_foreign *foreign)
{
	sigset_t all, before;
	int result;

	alive_init(foreign);
	/* handlers of the program may do what these threads must not */
	sigfillset(&all);
	/* but a listener may touch memory that is gone: blocked, that would end the process */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = start_thread(foreign, "host.monitor", &foreign->monitor, monitor_thread);
	if (!result) {
		pthread_mutex_lock(&foreign->lock);
		while (!foreign->open)
			pthread_cond_wait(&foreign->idle, &foreign->lock);
		pthread_mutex_unlock(&foreign->lock);
		result = start_thread(foreign, "host.watchdog", &foreign->watchdog,
				      watchdog_thread);
		if (result)
			stop_monitor(foreign);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	foreign->running = !result;
	if (result)
		pthread_mutex_destroy(&foreign->alive);
	return result;
}

void foreign_stop(struct vd_foreign *foreign)
{
	if (!foreign->running)
		return;
	stop_monitor(foreign);
	pthread_join(foreign->watchdog, NULL);
	pthread_mutex_destroy(&foreign->alive);
	foreign->running = false;
}
