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

static int check_size(const struct vd_host *host, uint64_t size, unsigned granule_shift,
		      const char *name, struct vd_error *error)
{
	if (vd_host_is_physical(host))
		return vd_error_set(error, -EINVAL, "%s: a physical host has physical ranges only",
				    name);
	return object_check_size(host, size, granule_shift, name, error);
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
	object->guard_slot = guard_add_window((uintptr_t)address, size, true);
	*out = object;
	return 0;
}

/* ---- the descriptor --------------------------------------------------- */

uint64_t hosted_present(const struct vd_host_object *object)
{
	struct stat status;
	uint64_t end;

	if (fstat(object->fd, &status) || (uint64_t)status.st_size <= object->fd_offset)
		return 0;
	/* the kernel maps the file's last page whole */
	end = (uint64_t)status.st_size - object->fd_offset;
	end = (end + (UINT64_C(1) << object->host->page_shift) - 1) >> object->host->page_shift
		<< object->host->page_shift;
	return end < object->size ? end : object->size;
}

/* Nobody reaches private memory through us any more. */
static void leave_private(struct vd_host_object *object)
{
	foreign_forget(object);
	guard_remove_window(object->guard_slot);
	object->guard_slot = -1;
}

static void close_object(struct vd_host_object *object)
{
	leave_private(object);
	if (object->fd >= 0)
		close(object->fd);
}

static void unmap_object(struct vd_host_object *object)
{
	leave_private(object);
	if (object->range)
		window_release(object->host, object->range);
}

const struct host_backing hosted_backing = {
	.close_host = hosted_close_host,
	.free_host = hosted_free_host,
	.close_object = close_object,
	.unmap = unmap_object,
	.present = hosted_present,
	.hold = hosted_hold,
	.unhold = hosted_unhold,
	.discard = hosted_discard,
};

int vd_host_object_fd(const struct vd_host_object *object)
{
	return !vd_host_is_ours(object->host) ? -EOWNERDEAD
		: object->fd < 0 ? -EBADF : object->fd;
}

int vd_host_object_fd_range(const struct vd_host_object *object, uint64_t offset,
			    uint64_t *fd_offset, uint64_t *run)
{
	unsigned shift = object->host->page_shift;
	uint64_t page = offset >> shift;
	uint64_t within = offset - (page << shift);

	if (!vd_host_is_ours(object->host))
		return -EOWNERDEAD;
	if (object->fd < 0)
		return -EBADF;
	if (offset >= object->size)
		return -ERANGE;
	*fd_offset = object->fd_offset + (pages_get(object, page).frame << shift) + within;
	*run = (pages_run(object, page, object->pages - page) << shift) - within;
	return object->fd;
}
