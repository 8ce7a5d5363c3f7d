/* SPDX-License-Identifier: BSD-2-Clause */
/* Transfers and holes on one file descriptor. */
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "device/image/backend.h"

void vd_file_advance(struct iovec **vector, unsigned *count, size_t bytes)
{
	while (*count > 0 && bytes >= (*vector)->iov_len) {
		bytes -= (*vector)->iov_len;
		(*vector)++;
		(*count)--;
	}
	if (*count > 0) {
		(*vector)->iov_base = (char *)(*vector)->iov_base + bytes;
		(*vector)->iov_len -= bytes;
	}
}

int vd_file_transfer(int fd, bool write, struct iovec *vector, unsigned count, uint64_t offset,
		     int flags)
{
	vd_file_advance(&vector, &count, 0);
	while (count > 0) {
		int piece = count < IOV_MAX ? (int)count : IOV_MAX;
		ssize_t n = write ? pwritev2(fd, vector, piece, (off_t)offset, flags)
				  : preadv2(fd, vector, piece, (off_t)offset, flags);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			return -EIO;
		offset += (uint64_t)n;
		vd_file_advance(&vector, &count, (size_t)n);
	}
	return 0;
}

static bool unsupported(int code)
{
	return code == EOPNOTSUPP || code == ENOSYS || code == EINVAL || code == ENODEV;
}

static int change_space(int fd, int mode, uint64_t offset, uint64_t length)
{
	int rc;

	do {
		rc = fallocate(fd, mode, (off_t)offset, (off_t)length);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int write_zeroes(int fd, uint64_t offset, uint64_t length)
{
	static const char zeroes[64 << 10];

	while (length > 0) {
		size_t piece = length < sizeof(zeroes) ? length : sizeof(zeroes);
		struct iovec vector = {(void *)(uintptr_t)zeroes, piece};
		int rc = vd_file_transfer(fd, true, &vector, 1, offset, 0);

		if (rc)
			return rc;
		offset += piece;
		length -= piece;
	}
	return 0;
}

int vd_file_zero(int fd, uint64_t offset, uint64_t length, bool unmap)
{
	int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	int rc = change_space(fd, unmap ? hole : zero, offset, length);

	if (rc && unsupported(-rc) && unmap)
		rc = change_space(fd, zero, offset, length);
	if (rc && unsupported(-rc))
		rc = write_zeroes(fd, offset, length);
	return rc;
}

int vd_file_discard(int fd, uint64_t offset, uint64_t length)
{
	int rc = change_space(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);

	return rc && unsupported(-rc) ? 0 : rc;
}

static int sync_data(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

int vd_file_serve(const struct vd_image *image, struct vd_image_request *request)
{
	bool durable = request->durable && !image->flush_is_noop;
	int rc;

	switch (request->op) {
	case VD_IMAGE_READ:
		return vd_file_transfer(image->fd, false, request->vector, request->count,
					request->offset, 0);
	case VD_IMAGE_WRITE:
		return vd_file_transfer(image->fd, true, request->vector, request->count,
					request->offset, durable ? RWF_DSYNC : 0);
	case VD_IMAGE_FLUSH:
		return image->flush_is_noop || image->read_only ? 0 : sync_data(image->fd);
	case VD_IMAGE_ZERO:
		rc = vd_file_zero(image->fd, request->offset, request->length, request->unmap);
		return rc || !durable ? rc : sync_data(image->fd);
	case VD_IMAGE_DISCARD:
		return vd_file_discard(image->fd, request->offset, request->length);
	}
	return -EINVAL;
}
