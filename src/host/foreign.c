/* SPDX-License-Identifier: BSD-2-Clause */
/* The detector of changes to foreign memory: made, given objects, and ended. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/foreign.h"

#define LIMIT_MS 60000u
#define DRAIN_NS 1000000000u

/* ---- userfaultfd ----------------------------------------------------- */

/* Return: a descriptor, or -errno: blocked, or without what is needed. */
static int open_userfaultfd(const struct vd_env *env)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
			    UFFD_FEATURE_EVENT_REMAP,
	};
	int result = vd_env_inject(env, "host.userfaultfd");
	int fd;

	if (result)
		return result;
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api)) {
		result = -errno;
		close(fd);
		return result;
	}
	return fd;
}

/* For events alone: no page is ever armed, so nobody's access waits for anything. */
static int watch_range(const struct vd_foreign *foreign, uintptr_t address, uint64_t length)
{
	struct uffdio_register request = {
		.range = {.start = address, .len = length},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int result = vd_env_inject(foreign->env, "host.watch");

	if (result)
		return result;
	return ioctl(foreign->fd, UFFDIO_REGISTER, &request) ? -errno : 0;
}

static void unwatch_range(const struct vd_foreign *foreign, uintptr_t address, uint64_t length)
{
	struct uffdio_range range = {.start = address, .len = length};

	ioctl(foreign->fd, UFFDIO_UNREGISTER, &range);
}

/* What of the object is still mapped; what is there instead of the rest may be anybody's. */
static void unwatch_object(const struct vd_foreign *foreign, const struct vd_host_object *object)
{
	unsigned shift = object->host->page_shift;

	for (uint64_t page = 0, run; page < object->pages; page += run) {
		run = pages_gone_run(object, page, object->pages - page);
		if (!pages_gone(object, page))
			unwatch_range(foreign, object->home + (page << shift), run << shift);
	}
}

/*
 * Closing the descriptor would do, were there not children of a fork() that hold it open. Who was
 * about to wait when the range was unwatched is seen to be under way, and comes soon.
 */
void foreign_release_waiters(struct vd_foreign *foreign)
{
	uint64_t until = foreign->env->clock_ns(foreign->env) + DRAIN_NS;
	struct uffd_msg message;

	for (unsigned i = 0; i < foreign->count; i++)
		unwatch_object(foreign, foreign->objects[i]);
	do
		while (read(foreign->fd, &message, sizeof(message)) == sizeof(message))
			;
	while (foreign_asleep(foreign) && foreign->env->clock_ns(foreign->env) < until);
}

/* ---- the detector ---------------------------------------------------- */

static void close_one(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_all(struct vd_foreign *foreign)
{
	close_one(foreign->fd);
	close_one(foreign->stop_fd);
	close_one(foreign->inert_fd);
	close_one(foreign->pagemap_fd);
	foreign->fd = foreign->stop_fd = foreign->inert_fd = foreign->pagemap_fd = -1;
	if (foreign->page)
		munmap(foreign->page, (size_t)sysconf(_SC_PAGESIZE));
	foreign->page = NULL;
}

static void foreign_put(struct vd_foreign *foreign)
{
	struct vd_host *host = foreign->host;
	const struct vd_env *env = foreign->env;

	/* acq_rel: the last one sees what all others did before they let go */
	if (atomic_fetch_sub_explicit(&foreign->references, 1, memory_order_acq_rel) != 1)
		return;
	pthread_cond_destroy(&foreign->idle);
	pthread_mutex_destroy(&foreign->lock);
	env->release(env, foreign, sizeof(*foreign));
	vd_host_put(host);
}

/* What the threads need. Return: 0, -errno. */
static int open_rest(struct vd_foreign *foreign)
{
	int result = vd_env_inject(foreign->env, "host.detector");
	void *page;

	if (result)
		return result;
	foreign->stop_fd = eventfd(0, EFD_CLOEXEC);
	foreign->inert_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (foreign->stop_fd < 0 || foreign->inert_fd < 0)
		return -EMFILE;
	/* without it every discard ends by a grace period */
	foreign->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -ENOMEM;
	foreign->page = page;
	return foreign_start(foreign);
}

int vd_foreign_create(const struct vd_foreign_config *config, struct vd_foreign **out,
		      struct vd_error *error)
{
	struct vd_host *host = config->host;
	struct vd_foreign *foreign;
	int result = 0;

	if (vd_host_is_physical(host))
		return vd_error_set(error, -EINVAL, "a physical host has no process's memory");
	foreign = vd_env_allocate(host->env, "host.foreign", sizeof(*foreign),
				  _Alignof(struct vd_foreign));
	if (!foreign)
		return vd_error_set(error, -ENOMEM, "no memory for a detector");
	foreign->env = host->env;
	foreign->host = vd_host_get(host);
	atomic_init(&foreign->references, 1);
	foreign->limit_ns = (config->limit_ms ? config->limit_ms : LIMIT_MS) * 1000000u;
	pthread_mutex_init(&foreign->lock, NULL);
	pthread_cond_init(&foreign->idle, NULL);
	foreign->stop_fd = foreign->inert_fd = foreign->pagemap_fd = -1;
	foreign->fd = config->hold ? -EPERM : open_userfaultfd(host->env);
	if (foreign->fd >= 0)
		result = open_rest(foreign);
	if (result) {
		close_all(foreign);
		foreign_put(foreign);
		return vd_error_set(error, result, "cannot start the monitor of foreign memory: "
				    "errno %d", -result);
	}
	*out = foreign;
	return 0;
}

/* Mirrors drop an object whose changes nobody will tell of. */
static void empty_object(struct vd_foreign *foreign, struct vd_host_object *object)
{
	struct vd_invalidation event = {.object = object, .length = object->size,
					.blockable = true, .reason = VD_INVALIDATE_UNMAP};
	int result = vd_notifier_start(&foreign->host->notifier, &event);

	/* release: pairs with vd_host_object_lookup() */
	atomic_store_explicit(&object->address, ADDRESS_NONE, memory_order_release);
	if (!result)
		vd_notifier_end(&foreign->host->notifier, &event);
}

/* The first object, which stays until end_busy(); or NULL. */
static struct vd_host_object *first_object(struct vd_foreign *foreign)
{
	struct vd_host_object *object = NULL;

	pthread_mutex_lock(&foreign->lock);
	if (foreign->count) {
		object = foreign->objects[--foreign->count];
		object->watched_open = false;
		foreign->busy = true;
	}
	pthread_mutex_unlock(&foreign->lock);
	return object;
}

static void end_busy(struct vd_foreign *foreign)
{
	pthread_mutex_lock(&foreign->lock);
	foreign->busy = false;
	pthread_cond_broadcast(&foreign->idle);
	pthread_mutex_unlock(&foreign->lock);
}

void vd_foreign_destroy(struct vd_foreign *foreign)
{
	struct vd_host_object *object;

	if (!foreign)
		return;
	/*
	 * After a fork() the descriptor and the eventfd are still the parent's, and would stop his
	 * detector; the threads are not here, nor whoever holds the lock.
	 */
	if (!vd_host_is_ours(foreign->host)) {
		close_all(foreign);
		foreign_put(foreign);
		return;
	}
	pthread_mutex_lock(&foreign->lock);
	foreign->open = false;
	pthread_mutex_unlock(&foreign->lock);
	foreign_stop(foreign);
	if (foreign->fd >= 0) {
		pthread_mutex_lock(&foreign->lock);
		foreign_release_waiters(foreign);
		pthread_mutex_unlock(&foreign->lock);
	}
	while ((object = first_object(foreign))) {
		empty_object(foreign, object);
		end_busy(foreign);
	}
	pthread_mutex_lock(&foreign->lock);
	foreign->busy = false; /* of a monitor that died */
	close_all(foreign);
	pthread_mutex_unlock(&foreign->lock);
	foreign_put(foreign);
}

bool vd_foreign_detects(const struct vd_foreign *foreign)
{
	return foreign->running && !atomic_load_explicit(&foreign->lost, memory_order_relaxed);
}

void vd_foreign_stats(const struct vd_foreign *foreign, struct vd_foreign_stats *stats)
{
	*stats = (struct vd_foreign_stats){
		.discards = atomic_load_explicit(&foreign->discards, memory_order_relaxed),
		.unmaps = atomic_load_explicit(&foreign->unmaps, memory_order_relaxed),
		.remaps = atomic_load_explicit(&foreign->remaps, memory_order_relaxed),
		.unsettled = atomic_load_explicit(&foreign->unsettled, memory_order_relaxed),
		.released = atomic_load_explicit(&foreign->released, memory_order_relaxed),
		.lost = atomic_load_explicit(&foreign->lost, memory_order_relaxed),
	};
}

/* ---- objects --------------------------------------------------------- */

/*
 * Return: 0, with the object watched, or to be locked where that is not possible; -ENOSPC;
 * -ENOMEM; -ESHUTDOWN. From the registration on, events come; an object that nobody knows yet has
 * no mirror.
 */
static int watch_object(struct vd_foreign *foreign, struct vd_host_object *object)
{
	unsigned i = 0;
	int result = -ESHUTDOWN;

	pthread_mutex_lock(&foreign->lock);
	if (foreign->open && !atomic_load_explicit(&foreign->lost, memory_order_relaxed)) {
		while (i < foreign->count &&
		       !vd_ranges_overlap(foreign->objects[i]->home, foreign->objects[i]->size,
					  object->home, object->size))
			i++;
		result = foreign->count == VD_FOREIGN_OBJECTS_MAX ? -ENOSPC
			: i < foreign->count ? -EEXIST
			: watch_range(foreign, object->home, object->size);
	}
	if (!result) {
		object->watched = object->watched_open = true;
		foreign->objects[foreign->count++] = object;
	}
	pthread_mutex_unlock(&foreign->lock);
	/* not this kind of mapping, somebody else's descriptor: to be locked */
	return result == -EINVAL || result == -EBUSY || result == -EPERM ? 0 : result;
}

int vd_foreign_object(struct vd_foreign *foreign, const char *name, void *address, uint64_t size,
		      unsigned flags, struct vd_host_object **out, struct vd_error *error)
{
	struct vd_host_object *object;
	int result;

	if (flags & ~VD_HOST_READ_ONLY)
		return vd_error_set(error, -EINVAL, "%s: unknown flags 0x%x", name, flags);
	result = vd_host_private(foreign->host, name, address, size, flags, &object, error);
	if (result || !foreign->running)
		goto out;
	object->gone = vd_env_allocate(foreign->env, "host.gone", (object->pages + 63) / 64 * 8,
				       _Alignof(uint64_t));
	result = object->gone ? watch_object(foreign, object) : -ENOMEM;
	if (object->watched) {
		object->foreign = foreign;
		/* relaxed: who adds one has one */
		atomic_fetch_add_explicit(&foreign->references, 1, memory_order_relaxed);
	}
	if (result) {
		vd_host_object_put(object);
		return vd_error_set(error, result, "%s: cannot watch this memory: errno %d", name,
				    -result);
	}
out:
	if (!result)
		*out = object;
	return result;
}

bool vd_foreign_watches(const struct vd_host_object *object)
{
	return object->watched;
}

void foreign_forget(struct vd_host_object *object)
{
	struct vd_foreign *foreign = object->foreign;
	unsigned i = 0;

	if (!foreign)
		return;
	object->foreign = NULL;
	if (!vd_host_is_ours(foreign->host)) { /* what is watched is the parent's */
		foreign_put(foreign);
		return;
	}
	pthread_mutex_lock(&foreign->lock);
	/* a monitor that died will never be done */
	while (foreign->busy && !foreign->dead)
		pthread_cond_wait(&foreign->idle, &foreign->lock);
	if (object->watched_open) {
		while (foreign->objects[i] != object)
			i++;
		foreign->objects[i] = foreign->objects[--foreign->count];
		object->watched_open = false;
		unwatch_object(foreign, object);
	}
	pthread_mutex_unlock(&foreign->lock);
	foreign_put(foreign);
}

/*
 * A change of our own, between its start and its end: an event of it would have to be read by the
 * monitor, which may be waiting for something that waits for that end.
 */
void foreign_pause(struct vd_host_object *object, uintptr_t address, uint64_t length)
{
	struct vd_foreign *foreign = object->foreign;

	pthread_mutex_lock(&foreign->lock);
	if (object->watched_open)
		unwatch_range(foreign, address, length);
	pthread_mutex_unlock(&foreign->lock);
}

void foreign_resume(struct vd_host_object *object, uintptr_t address, uint64_t length)
{
	struct vd_foreign *foreign = object->foreign;
	unsigned shift = object->host->page_shift;

	pthread_mutex_lock(&foreign->lock);
	/* not watched, not used */
	if (object->watched_open && watch_range(foreign, address, length))
		pages_mark_gone(object, (address - object->home) >> shift, length >> shift);
	pthread_mutex_unlock(&foreign->lock);
}
