/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening an image, and the checks that every back end relies on. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/image/backend.h"

static int open_failed(const char *path, bool writable, int code, struct vd_error *error)
{
	if (code == ENOENT)
		return vd_error_set(error, -code,
				    "no disk image '%s'; make one with: truncate -s 1G '%s'", path,
				    path);
	if (writable && (code == EACCES || code == EROFS || code == EPERM))
		return vd_error_set(error, -code,
				    "disk image '%s' cannot be written (%s); snapshot=on or "
				    "readonly=on only read it", path, strerrordesc_np(code));
	return vd_error_set(error, -code, "disk image '%s' cannot be opened: %s", path,
			    strerrordesc_np(code));
}

static int check_size(struct vd_image *file, const char *path, struct vd_error *error)
{
	off_t size = lseek(file->fd, 0, SEEK_END);

	if (size < 0)
		return open_failed(path, false, errno, error);
	if (size == 0)
		return vd_error_set(error, -EINVAL, "disk image '%s' is empty", path);
	if (size % VD_IMAGE_SECTOR != 0)
		return vd_error_set(error, -EINVAL,
				    "disk image '%s' has %llu bytes: not a multiple of %u", path,
				    (unsigned long long)size, VD_IMAGE_SECTOR);
	file->size = (uint64_t)size;
	return 0;
}

static int lock_file(const struct vd_image *file, const char *path, struct vd_error *error)
{
	struct flock whole = {
		.l_type = file->read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(file->fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return vd_error_set(error, -EBUSY, "disk image '%s' is in use by another process",
				    path);
	/* Some network file systems have no locks: the user is no worse off than without us. */
	return errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS ?
		0 : open_failed(path, false, errno, error);
}

static int check_kind(struct vd_image *file, const char *path, struct vd_error *error)
{
	struct stat status;

	if (fstat(file->fd, &status) < 0)
		return open_failed(path, false, errno, error);
	if (S_ISDIR(status.st_mode))
		return vd_error_set(error, -EISDIR, "disk image '%s' is a directory", path);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return vd_error_set(error, -EINVAL,
				    "disk image '%s' is neither a file nor a block device", path);
	file->identity = ((uint64_t)status.st_dev * 0x9e3779b97f4a7c15u) ^
			 ((uint64_t)status.st_ino * 0xc2b2ae3d27d4eb4fu);
	return 0;
}

/*
 * Beyond the end nothing changes, whatever the answer, but the time of the last write: that is put
 * back, since a snapshot knows by it whether the image was written.
 */
static void probe_discard(struct vd_image *file)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct stat status;

	if (fstat(file->fd, &status) < 0 || !S_ISREG(status.st_mode) || file->read_only)
		return;
	file->can_discard = fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      status.st_size, VD_IMAGE_SECTOR) == 0;
	times[1] = status.st_mtim;
	(void)futimens(file->fd, times); /* may be another user's file */
}

static int open_file(const struct vd_image_config *config, struct vd_image *file,
		     struct vd_error *error)
{
	bool writable = !file->read_only;
	int rc = vd_env_inject(config->env, "image.open");

	/* Not blocking, for a FIFO; cleared again because io_uring would never wait then. */
	file->fd = rc ? -1 : open(config->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC |
						O_NONBLOCK | O_NOCTTY);
	if (file->fd < 0)
		return open_failed(config->path, writable, rc ? -rc : errno, error);
	rc = check_kind(file, config->path, error);
	if (!rc)
		rc = check_size(file, config->path, error);
	if (!rc)
		rc = lock_file(file, config->path, error);
	if (!rc)
		probe_discard(file); /* nobody else writes by now */
	if (!rc && fcntl(file->fd, F_SETFL, 0) < 0)
		rc = open_failed(config->path, false, errno, error);
	if (rc)
		close(file->fd);
	return rc;
}

static int choose(const struct vd_image_config *config, const struct vd_image *file,
		  struct vd_image **image)
{
	int rc;

	if (config->snapshot)
		return vd_image_snapshot_create(file, image);
	if (config->backing && strcmp(config->backing, "volatile") == 0)
		return vd_image_volatile_create(file, image);
	if (config->backing && strcmp(config->backing, "sync") == 0)
		return vd_image_sync_create(file, image);
	rc = vd_image_uring_create(file, image);
	/* Containers forbid io_uring, old kernels have none, or count it as locked memory. */
	if (rc && !config->backing)
		rc = vd_image_sync_create(file, image);
	return rc;
}

static int check_config(const struct vd_image_config *config, struct vd_error *error)
{
	static const char *const known[] = {"uring", "sync", "volatile"};
	bool found = config->backing == NULL;

	for (size_t i = 0; !found && i < sizeof(known) / sizeof(known[0]); i++)
		found = strcmp(config->backing, known[i]) == 0;
	if (!found)
		return vd_error_set(error, -EINVAL,
				    "unknown backing '%s': uring, sync or volatile",
				    config->backing);
	if (config->snapshot && config->backing && strcmp(config->backing, "volatile") == 0)
		return vd_error_set(error, -EINVAL,
				    "backing=volatile and snapshot=on exclude each other");
	return 0;
}

int vd_image_open(const struct vd_image_config *config, struct vd_image **image,
		  struct vd_error *error)
{
	struct vd_image file = {
		.env = config->env,
		.read_only = config->read_only || config->snapshot,
		.flush_is_noop = config->flush_is_noop,
	};
	int rc = check_config(config, error);

	if (!rc)
		rc = open_file(config, &file, error);
	if (rc)
		return rc;
	rc = choose(config, &file, image);
	if (rc) {
		close(file.fd);
		if (config->backing && strcmp(config->backing, "uring") == 0 && rc != -ENOMEM)
			return vd_error_set(error, -EOPNOTSUPP,
					    "io_uring is not available here (%s); use backing=sync",
					    strerrordesc_np(-rc));
		return vd_error_set(error, rc, "disk image '%s' cannot be set up: %s",
				    config->path, strerrordesc_np(-rc));
	}
	/* Above a snapshot's layer the disk is writable, though the file is not. */
	(*image)->read_only = config->read_only;
	return 0;
}

void vd_image_close(struct vd_image *image)
{
	image->ops->close(image);
}

uint64_t vd_image_size(const struct vd_image *image)
{
	return image->size;
}

bool vd_image_read_only(const struct vd_image *image)
{
	return image->read_only;
}

bool vd_image_can_discard(const struct vd_image *image)
{
	return image->can_discard && !image->read_only;
}

const char *vd_image_backing(const struct vd_image *image)
{
	return image->ops->name;
}

uint64_t vd_image_identity(const struct vd_image *image)
{
	return image->identity;
}

static int check_request(const struct vd_image *image, const struct vd_image_request *request)
{
	static const char *const sites[] = {"image.read", "image.write", "image.flush",
					    "image.zero", "image.discard"};
	bool moves = request->op == VD_IMAGE_READ || request->op == VD_IMAGE_WRITE;

	if (request->op != VD_IMAGE_READ && request->op != VD_IMAGE_FLUSH && image->read_only)
		return -EROFS;
	if (request->op != VD_IMAGE_FLUSH &&
	    (request->length == 0 || request->length > image->size ||
	     request->offset > image->size - request->length ||
	     (request->offset | request->length) % VD_IMAGE_SECTOR != 0))
		return -EINVAL;
	if (moves && (request->count == 0 || request->count > IOV_MAX))
		return -EINVAL;
	return vd_env_inject(image->env, sites[request->op]);
}

bool vd_image_submit(struct vd_image *image, struct vd_image_request *request)
{
	request->result = check_request(image, request);
	return request->result ? true : image->ops->submit(image, request);
}

void vd_image_kick(struct vd_image *image)
{
	if (image->ops->kick)
		image->ops->kick(image);
}

void vd_image_reap(struct vd_image *image)
{
	if (image->ops->reap)
		image->ops->reap(image);
}

void vd_image_wait(struct vd_image *image, int timeout_ms)
{
	if (image->ops->wait)
		image->ops->wait(image, timeout_ms);
}

int vd_image_fd(const struct vd_image *image)
{
	return image->ops->poll_fd ? image->ops->poll_fd(image) : -1;
}
