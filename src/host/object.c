/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory objects: made, imported, mapped into the window, and given back. */
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/object.h"

#define HUGE_SHIFT 21u

static void copy_name(char *to, size_t room, const char *from)
{
	size_t i = 0;

	for (; from && from[i] && i + 1 < room; i++)
		to[i] = from[i];
	to[i] = '\0';
}

static int check_size(const struct vd_host *host, uint64_t size, unsigned granule_shift,
		      const char *name, struct vd_error *error)
{
	/* frames are counted in 32 bits */
	uint64_t limit = UINT64_C(1) << (31 + host->page_shift);

	if (size == 0 || size & ((UINT64_C(1) << granule_shift) - 1) || size > limit)
		return vd_error_set(error, -EINVAL,
				    "%s: size 0x%lx is not a multiple of 0x%lx between 1 and 0x%lx",
				    name, (unsigned long)size, 1ul << granule_shift,
				    (unsigned long)limit);
	return 0;
}

/* The bare object: on no list, with nothing mapped. */
static struct vd_host_object *object_new(struct vd_host *host, const char *name, uint64_t size,
					 unsigned flags)
{
	struct vd_host_object *object =
		vd_env_allocate(host->env, "host.object", sizeof(*object),
				_Alignof(struct vd_host_object));

	if (!object)
		return NULL;
	copy_name(object->name, sizeof(object->name), name);
	object->host = host;
	object->size = size;
	object->pages = size >> host->page_shift;
	object->frames = object->pages;
	object->kind = VD_PAGE_RAM;
	object->type = VD_MEMORY_NORMAL;
	object->flags = flags;
	object->granule_shift = host->page_shift;
	object->fd = -1;
	atomic_init(&object->references, 1);
	/* relaxed: any lock will do */
	object->lock = &host->change_locks[atomic_fetch_add_explicit(&host->objects_made, 1,
								     memory_order_relaxed) %
					   CHANGE_LOCKS];
	vd_host_get(host);
	return object;
}

static void object_free(struct vd_host_object *object)
{
	struct vd_host *host = object->host;

	if (object->fd >= 0)
		close(object->fd);
	pages_free(object);
	host->env->release(host->env, object, sizeof(*object));
	vd_host_put(host);
}

static void free_deferred(struct vd_deferred *item)
{
	object_free((struct vd_host_object *)((char *)item -
					      offsetof(struct vd_host_object, deferred)));
}

/*
 * The commit of every way to make an object. Return: 0, or -ESHUTDOWN: then whoever destroyed the
 * host has given the object's range back.
 */
static int object_publish(struct vd_host_object *object, uintptr_t address)
{
	struct vd_host *host = object->host;
	bool destroyed;

	atomic_init(&object->address, address);
	host->env->lock(host->env, &host->lock);
	destroyed = host->destroyed;
	if (!destroyed) {
		object->next = host->objects;
		object->link = &host->objects;
		if (object->next)
			object->next->link = &object->next;
		host->objects = object;
	}
	host->env->unlock(host->env, &host->lock);
	return destroyed ? -ESHUTDOWN : 0;
}

/*
 * Into the object's range, unless the host is gone: the range with it, and its addresses may be
 * somebody else's by now.
 */
static int map_range(struct vd_host_object *object, uint64_t bytes, int protection,
		     uintptr_t *address)
{
	struct vd_host *host = object->host;
	int result = vd_env_inject(host->env, "host.mmap");

	if (result)
		return result;
	host->env->lock(host->env, &host->lock);
	if (host->destroyed)
		result = -ESHUTDOWN;
	else
		*address = host->window_base + object->range->start;
	if (!result && mmap((void *)*address, bytes, protection, MAP_SHARED | MAP_FIXED, object->fd,
			    (off_t)object->fd_offset) == MAP_FAILED)
		result = -errno;
	host->env->unlock(host->env, &host->lock);
	return result;
}

/*
 * Maps all frames of the object's descriptor into the window. Return: 0 or -errno; nothing is left.
 */
static int object_map(struct vd_host_object *object, uintptr_t *address)
{
	struct vd_host *host = object->host;
	uint64_t bytes = object->frames << host->page_shift;
	int protection = PROT_READ | (object->flags & VD_HOST_READ_ONLY ? 0 : PROT_WRITE);
	int result = window_reserve(host, bytes, &object->range);

	if (result)
		return result;
	result = map_range(object, bytes, protection, address);
	if (result)
		window_release(host, object->range);
	return result;
}

/* ---- RAM ------------------------------------------------------------- */

/* What a step of making a descriptor returns: injected failure, or -errno of the call. */
static int memfd_make(const struct vd_host *host, const char *name, unsigned flags)
{
	int error = vd_env_inject(host->env, "host.memfd");
	int fd;

	if (error)
		return error;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING |
			  (flags & VD_HOST_HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	return fd < 0 ? -errno : fd;
}

static int memfd_size(const struct vd_host *host, int fd, uint64_t size)
{
	int error = vd_env_inject(host->env, "host.truncate");

	return error ? error : ftruncate(fd, (off_t)size) ? -errno : 0;
}

/* Nobody, not even a client that gets the descriptor, can take memory away or add some. */
static int memfd_seal(const struct vd_host *host, int fd)
{
	int error = vd_env_inject(host->env, "host.seal");

	return error ? error
		: fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno : 0;
}

static int ram_fill(struct vd_host_object *object, uintptr_t *address)
{
	const struct vd_host *host = object->host;
	int result;

	object->fd = memfd_make(host, object->name, object->flags);
	if (object->fd < 0)
		return object->fd;
	result = memfd_size(host, object->fd, object->frames << host->page_shift);
	if (!result)
		result = memfd_seal(host, object->fd);
	return result ? result : object_map(object, address);
}

int vd_host_ram_create(struct vd_host *host, const char *name, uint64_t size, unsigned flags,
		       struct vd_host_object **out, struct vd_error *error)
{
	unsigned granule_shift = flags & VD_HOST_HUGETLB ? HUGE_SHIFT : host->page_shift;
	struct vd_host_object *object;
	uintptr_t address;
	int result;

	if (flags & ~(VD_HOST_HUGETLB | VD_HOST_SPARES) ||
	    flags == (VD_HOST_HUGETLB | VD_HOST_SPARES))
		return vd_error_set(error, -EINVAL, "%s: flags 0x%x do not go together", name,
				    flags);
	if (granule_shift < host->page_shift)
		granule_shift = host->page_shift;
	result = check_size(host, size, granule_shift, name, error);
	if (result)
		return result;
	object = object_new(host, name, size, flags);
	if (!object)
		return vd_error_set(error, -ENOMEM, "%s: no memory for the object", name);
	object->granule_shift = granule_shift;
	if (flags & VD_HOST_SPARES)
		object->frames = 2 * object->pages;
	result = ram_fill(object, &address);
	if (!result)
		result = object_publish(object, address);
	if (result) {
		object_free(object);
		return vd_error_set(error, result,
				    "%s: cannot get 0x%lx bytes of guest memory: errno %d", name,
				    (unsigned long)size, -result);
	}
	*out = object;
	return 0;
}

/* ---- imports --------------------------------------------------------- */

static int check_access(int fd, unsigned flags, const char *name, struct vd_error *error)
{
	int mode = fcntl(fd, F_GETFL);

	if (mode < 0)
		return vd_error_set(error, -EINVAL, "%s: descriptor %d is not open", name, fd);
	mode &= O_ACCMODE;
	if (mode == O_WRONLY || (mode == O_RDONLY && !(flags & VD_HOST_READ_ONLY)))
		return vd_error_set(error, -EACCES,
				    "%s: the descriptor allows no mapping for reading%s", name,
				    flags & VD_HOST_READ_ONLY ? "" : " and writing");
	return 0;
}

/* Whether the owner can cut the file under us, and whether it is long enough now. */
static int check_length(int fd, uint64_t end, bool *truncatable, const char *name,
			struct vd_error *error)
{
	struct stat status;
	int seals;

	if (fstat(fd, &status))
		return vd_error_set(error, -EINVAL, "%s: cannot stat the descriptor", name);
	if (!S_ISREG(status.st_mode))
		return 0; /* a device: its driver answers for the mapping */
	if ((uint64_t)status.st_size < end)
		return vd_error_set(error, -EINVAL, "%s: the file has 0x%lx bytes, not 0x%lx", name,
				    (unsigned long)status.st_size, (unsigned long)end);
	seals = fcntl(fd, F_GET_SEALS);
	*truncatable = seals < 0 || !(seals & F_SEAL_SHRINK);
	if (*truncatable && !guard_installed())
		return vd_error_set(error, -EPERM,
				    "%s: the file can be truncated at any time: seal it "
				    "(F_SEAL_SHRINK) or call vd_host_guard_install()", name);
	return 0;
}

static int import_check(const struct vd_host *host, const char *name, int fd, uint64_t fd_offset,
			uint64_t size, unsigned flags, bool *truncatable, struct vd_error *error)
{
	uint64_t end;
	int result = check_size(host, size, host->page_shift, name, error);

	if (result)
		return result;
	if (flags & ~VD_HOST_READ_ONLY)
		return vd_error_set(error, -EINVAL, "%s: unknown flags 0x%x", name, flags);
	if (fd_offset & ((UINT64_C(1) << host->page_shift) - 1) ||
	    !vd_range_end(fd_offset, size, &end) || end - 1 >= INT64_MAX)
		return vd_error_set(error, -EINVAL, "%s: bad offset 0x%lx in the file", name,
				    (unsigned long)fd_offset);
	result = check_access(fd, flags, name, error);
	return result ? result : check_length(fd, end, truncatable, name, error);
}

static int duplicate(const struct vd_host *host, int fd)
{
	int error = vd_env_inject(host->env, "host.dup");
	int copy;

	if (error)
		return error;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

int vd_host_import(struct vd_host *host, const char *name, int fd, uint64_t fd_offset,
		   uint64_t size, enum vd_page_kind kind, enum vd_memory_type type, unsigned flags,
		   struct vd_host_object **out, struct vd_error *error)
{
	struct vd_host_object *object;
	uintptr_t address = 0;
	bool truncatable = false;
	int result = import_check(host, name, fd, fd_offset, size, flags, &truncatable, error);

	if (result)
		return result;
	object = object_new(host, name, size, flags);
	if (!object)
		return vd_error_set(error, -ENOMEM, "%s: no memory for the object", name);
	object->kind = kind;
	object->type = type;
	object->fd_offset = fd_offset;
	object->truncatable = truncatable;
	object->fd = duplicate(host, fd);
	result = object->fd < 0 ? object->fd : object_map(object, &address);
	if (!result)
		result = object_publish(object, address);
	if (result) {
		object_free(object);
		/* a write seal, a mount that forbids it, a descriptor without mmap */
		if (result == -EPERM)
			result = -EACCES;
		else if (result == -ENODEV)
			result = -EINVAL;
		return vd_error_set(error, result, "%s: cannot map the descriptor: errno %d", name,
				    -result);
	}
	*out = object;
	return 0;
}

/* ---- private memory -------------------------------------------------- */

int vd_host_private(struct vd_host *host, const char *name, void *address, uint64_t size,
		    unsigned flags, struct vd_host_object **out, struct vd_error *error)
{
	struct vd_host_object *object;
	uint64_t end;
	int result = check_size(host, size, host->page_shift, name, error);

	if (result)
		return result;
	if (flags & ~(VD_HOST_READ_ONLY | VD_HOST_ANNOUNCED))
		return vd_error_set(error, -EINVAL, "%s: unknown flags 0x%x", name, flags);
	if (!address || (uintptr_t)address & ((UINT64_C(1) << host->page_shift) - 1) ||
	    !vd_range_end((uintptr_t)address, size, &end))
		return vd_error_set(error, -EINVAL, "%s: bad address %lx", name,
				    (unsigned long)(uintptr_t)address);
	object = object_new(host, name, size, flags);
	if (!object)
		return vd_error_set(error, -ENOMEM, "%s: no memory for the object", name);
	object->private = true;
	object->home = (uintptr_t)address;
	object->written = vd_env_allocate(host->env, "host.written", (object->pages + 63) / 64 * 8,
					  _Alignof(uint64_t));
	if (!object->written) {
		object_free(object);
		return vd_error_set(error, -ENOMEM, "%s: no memory for a bit a page", name);
	}
	result = object_publish(object, (uintptr_t)address);
	if (result) {
		object_free(object);
		return vd_error_set(error, result, "%s: the host has been destroyed", name);
	}
	*out = object;
	return 0;
}

/* ---- references ------------------------------------------------------ */

struct vd_host_object *vd_host_object_get(struct vd_host_object *object)
{
	atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
	return object;
}

/* Every mirror drops the object; then lookups find nothing. */
static int object_empty(struct vd_host_object *object)
{
	struct vd_invalidation event = {.object = object, .length = object->size,
					.blockable = true, .reason = VD_INVALIDATE_UNMAP};
	bool told;
	int result = change_begin(object, &event, &told);

	if (result)
		return result;
	/* release: pairs with vd_host_object_lookup() */
	atomic_store_explicit(&object->address, 0, memory_order_release);
	change_end(object, &event, told);
	return 0;
}

/*
 * Takes the object off the host's list, unless its memory is @used: by a device that still writes
 * there, say. That must not be used for anything else as long as the host is there.
 */
static bool object_withdraw(struct vd_host_object *object, bool used)
{
	struct vd_host *host = object->host;

	host->env->lock(host->env, &host->lock);
	object->abandoned = used && !host->destroyed;
	if (!object->abandoned) {
		*object->link = object->next;
		if (object->next)
			object->next->link = object->link;
	}
	used = object->abandoned;
	host->env->unlock(host->env, &host->lock);
	return !used;
}

void vd_host_object_put(struct vd_host_object *object)
{
	struct vd_host *host;

	/* acq_rel: the last one sees what all others did before they let go */
	if (!object ||
	    atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) != 1)
		return;
	host = vd_host_get(object->host);
	if (!object_withdraw(object, object_empty(object) != 0)) {
		if (host->env->log)
			host->env->log(host->env, VD_LOG_ERROR,
				       "host: memory still in use is kept until the host goes");
		vd_host_put(host);
		return;
	}
	if (object->range)
		window_release(host, object->range);
	/* a lookup that began before may still read the page state */
	host->env->defer(host->env, &object->deferred, free_deferred);
	vd_host_put(host);
}

void object_free_abandoned(struct vd_host *host)
{
	struct vd_host_object *object, *next;

	for (object = host->objects; object; object = next) {
		next = object->next;
		if (!object->abandoned)
			continue;
		*object->link = next;
		if (next)
			next->link = object->link;
		object_free(object);
	}
}

uint64_t object_present(const struct vd_host_object *object)
{
	struct stat status;
	uint64_t end;

	if (!object->truncatable)
		return object->size;
	if (fstat(object->fd, &status) || (uint64_t)status.st_size <= object->fd_offset)
		return 0;
	/* the kernel maps the file's last page whole */
	end = (uint64_t)status.st_size - object->fd_offset;
	end = (end + (UINT64_C(1) << object->host->page_shift) - 1) >> object->host->page_shift
		<< object->host->page_shift;
	return end < object->size ? end : object->size;
}

uint64_t vd_host_object_size(const struct vd_host_object *object)
{
	return object->size;
}

enum vd_page_kind vd_host_object_kind(const struct vd_host_object *object)
{
	return object->kind;
}

const char *vd_host_object_name(const struct vd_host_object *object)
{
	return object->name;
}

struct vd_host *vd_host_object_host(const struct vd_host_object *object)
{
	return object->host;
}

int vd_host_object_fd(const struct vd_host_object *object)
{
	return object->fd < 0 ? -EBADF : object->fd;
}

int vd_host_object_fd_range(const struct vd_host_object *object, uint64_t offset,
			    uint64_t *fd_offset, uint64_t *run)
{
	unsigned shift = object->host->page_shift;
	uint64_t page = offset >> shift;
	uint64_t within = offset - (page << shift);

	if (object->fd < 0)
		return -EBADF;
	if (offset >= object->size)
		return -ERANGE;
	*fd_offset = object->fd_offset + (pages_get(object, page).frame << shift) + within;
	*run = (pages_run(object, page, object->pages - page) << shift) - within;
	return object->fd;
}
