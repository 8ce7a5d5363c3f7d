/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/images.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1u << 20)
#define TICKS_MAX 50

static uint64_t nanoseconds(struct timespec t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int image_find(const char *path, struct run_image *image, struct vd_error *error)
{
	struct stat st;

	if (!realpath(path, image->path) || stat(image->path, &st))
		return vd_error_set(error, -errno, "disk image '%s': %s", path, strerror(errno));
	image->inode = st.st_ino;
	image->device = st.st_dev;
	image->is_block = S_ISBLK(st.st_mode);
	return 0;
}

int image_check(const struct run_image *image, bool copy, struct vd_error *error)
{
	if (image->layered)
		return vd_error_set(error, -EOPNOTSUPP, "disk image %s is used with snapshot=on: "
				    "what the guest wrote is in a layer that a "
				    "snapshot does not hold",
				    image->path);
	if (image->is_volatile)
		return vd_error_set(error, -EOPNOTSUPP, "disk image %s is used with "
				    "backing=volatile: what the guest wrote is in no file",
				    image->path);
	if (image->is_block && !copy)
		return vd_error_set(error, -EOPNOTSUPP, "%s is a block device, which does not tell "
				    "whether it was written; take the snapshot with --copy-image",
				    image->path);
	return 0;
}

/* The device has the image open and locked; this is its path, which may lead elsewhere by now. */
static int open_same(const struct run_image *image, struct stat *st, struct vd_error *error)
{
	int fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return vd_error_set(error, -errno, "disk image %s: %s", image->path,
				    strerror(errno));
	if (fstat(fd, st) || st->st_ino != image->inode || st->st_dev != image->device) {
		close(fd);
		return vd_error_set(error, -ESTALE, "disk image %s is not the file any more that "
				    "the guest uses", image->path);
	}
	return fd;
}

static uint64_t coarse_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return nanoseconds(t);
}

int image_record(struct run_image *image, struct vd_error *error)
{
	const struct timespec tick = {.tv_nsec = 1000000};
	struct stat st;
	int fd = open_same(image, &st, error);
	off_t size;

	if (fd < 0)
		return fd;
	size = lseek(fd, 0, SEEK_END);
	close(fd);
	if (size < 0)
		return vd_error_set(error, -errno, "disk image %s: %s", image->path,
				    strerror(errno));
	image->size = (uint64_t)size;
	image->mtime_ns = nanoseconds(st.st_mtim);
	/* Files are stamped by this clock: within its tick a second write would go unseen. */
	for (int i = 0; i < TICKS_MAX && coarse_now() <= image->mtime_ns; i++)
		nanosleep(&tick, NULL);
	return 0;
}

int image_unchanged(const struct run_image *image, struct vd_error *error)
{
	struct stat st;

	if (stat(image->path, &st))
		return vd_error_set(error, -errno, "disk image %s, as of the snapshot: %s; put it "
				    "back, or take snapshots with --copy-image", image->path,
				    strerror(errno));
	if ((uint64_t)st.st_ino != image->inode)
		return vd_error_set(error, -ESTALE, "disk image %s is another file than at the "
				    "time of the snapshot; put that one back, or take snapshots "
				    "with --copy-image", image->path);
	if ((uint64_t)st.st_size != image->size || nanoseconds(st.st_mtim) != image->mtime_ns)
		return vd_error_set(error, -ESTALE, "disk image %s was written since the snapshot: "
				    "the guest would find another disk under its file systems. "
				    "Take snapshots with --copy-image to restore them at any time",
				    image->path);
	return 0;
}

/* ---- copies --------------------------------------------------------------------------------- */

static int copy_bytes(int from, int to, off_t at, off_t end, int (*alive)(void *context),
		      void *context)
{
	static const size_t step = 64 * CHUNK;
	bool by_kernel = true;
	char *buffer = NULL;
	int rc = 0;

	while (at < end && !rc) {
		size_t length = (size_t)(end - at) < step ? (size_t)(end - at) : step;
		off_t in = at, out = at;
		ssize_t n = by_kernel ? copy_file_range(from, &in, to, &out, length, 0) : -1;

		if (n <= 0 && by_kernel) {
			by_kernel = false; /* not between these files */
			continue;
		}
		if (!by_kernel) {
			if (!buffer)
				buffer = malloc(CHUNK);
			n = buffer ? pread(from, buffer, length < CHUNK ? length : CHUNK, at) : -1;
			if (n > 0)
				n = pwrite(to, buffer, (size_t)n, at);
		}
		if (n <= 0)
			rc = !buffer ? -ENOMEM : n ? -errno : -EIO;
		else
			at += n;
		if (!rc)
			rc = alive(context);
	}
	free(buffer);
	return rc;
}

static int copy_data(int from, int to, off_t size, int (*alive)(void *context), void *context)
{
	off_t at = 0;
	int rc = ftruncate(to, size) ? -errno : 0;

	while (at < size && !rc) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = at;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole <= data || hole > size)
			hole = size;
		rc = copy_bytes(from, to, data, hole, alive, context);
		at = hole;
	}
	return rc;
}

int image_copy(const struct run_image *image, const char *path, int (*alive)(void *context),
	       void *context, struct vd_error *error)
{
	struct stat st;
	int from = open_same(image, &st, error), to, rc = 0;

	if (from < 0)
		return from;
	to = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		rc = -errno;
	else if (ioctl(to, FICLONE, from))
		rc = copy_data(from, to, (off_t)image->size, alive, context);
	if (!rc && fsync(to))
		rc = -errno;
	close(from);
	if (to >= 0)
		close(to);
	if (rc && to >= 0)
		unlink(path);
	return rc ? vd_error_set(error, rc, "cannot copy the disk image %s to %s: %s", image->path,
				 path, strerror(-rc)) : 0;
}

void image_sync(const struct run_image *image)
{
	struct stat st;
	int fd = open_same(image, &st, NULL);

	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}
