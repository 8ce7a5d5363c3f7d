/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io_uring, for what has to wait for the disk. What the page cache can serve is moved on the
 * calling thread: that costs one system call and no hand-over, where a ring costs a wake-up of
 * another CPU for every buffered write (no file system but XFS and btrfs takes those without
 * waiting).
 */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "device/image/backend.h"

#ifdef VD_HAVE_URING
#include <liburing.h>

/**
 * struct uring - the back end
 * @lock: the ring; submit and reap may come from different threads
 * @pending: prepared, not yet handed to the kernel
 * @no_nowait: the file system does not know RWF_NOWAIT
 */
struct uring {
	struct vd_image base;
	struct io_uring ring;
	struct vd_lock lock;
	unsigned pending;
	bool no_nowait;
};

static struct uring *uring_of(struct vd_image *image)
{
	return (struct uring *)image;
}

/* Whether the page cache had all of it; else the vector is left at what is missing. */
static bool read_cached(struct uring *uring, struct vd_image_request *request)
{
	ssize_t n = -1;

	if (uring->no_nowait)
		return false;
	n = preadv2(uring->base.fd, request->vector, (int)request->count, (off_t)request->offset,
		    RWF_NOWAIT);
	if (n < 0) {
		uring->no_nowait = errno == EOPNOTSUPP;
		return false;
	}
	vd_file_advance(&request->vector, &request->count, (size_t)n);
	request->offset += (uint64_t)n;
	return request->count == 0;
}

static bool prepare(struct uring *uring, struct vd_image_request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	if (!sqe)
		return false;
	if (request->op == VD_IMAGE_FLUSH)
		io_uring_prep_fsync(sqe, uring->base.fd, IORING_FSYNC_DATASYNC);
	else if (request->op == VD_IMAGE_READ)
		io_uring_prep_readv(sqe, uring->base.fd, request->vector, request->count,
				    request->offset);
	else
		io_uring_prep_writev2(sqe, uring->base.fd, request->vector, request->count,
				      request->offset, RWF_DSYNC);
	io_uring_sqe_set_data(sqe, request);
	uring->pending++;
	return true;
}

static bool belongs_in_ring(const struct vd_image *image, const struct vd_image_request *request)
{
	if (request->op == VD_IMAGE_READ)
		return true;
	if (image->flush_is_noop || image->read_only)
		return false;
	return request->op == VD_IMAGE_FLUSH ||
	       (request->op == VD_IMAGE_WRITE && request->durable);
}

static bool uring_submit(struct vd_image *image, struct vd_image_request *request)
{
	struct uring *uring = uring_of(image);
	bool queued = false;

	request->result = 0;
	if (request->op == VD_IMAGE_READ && read_cached(uring, request))
		return true;
	if (belongs_in_ring(image, request)) {
		image->env->lock(image->env, &uring->lock);
		queued = prepare(uring, request);
		image->env->unlock(image->env, &uring->lock);
	}
	if (!queued)
		request->result = vd_file_serve(image, request);
	return !queued;
}

/* The thread that submitted may be gone (-ECANCELED), the kernel short of memory (-EAGAIN), a
 * transfer short: what is left is done here, so that nobody above needs to know. */
static int finish(struct uring *uring, struct vd_image_request *request, int result)
{
	if (result == -ECANCELED || result == -EAGAIN || result == -EINTR)
		return vd_file_serve(&uring->base, request);
	if (result < 0 || request->op == VD_IMAGE_FLUSH)
		return result;
	vd_file_advance(&request->vector, &request->count, (size_t)result);
	request->offset += (uint64_t)result;
	return request->count == 0 ? 0 : vd_file_serve(&uring->base, request);
}

/* Lock held. Return: what has finished, and the kernel's @result; NULL: nothing has */
static struct vd_image_request *take_finished(struct uring *uring, int *result)
{
	struct vd_image_request *request;
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(&uring->ring, &cqe))
		return NULL;
	request = io_uring_cqe_get_data(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(&uring->ring, cqe);
	return request;
}

static void hand_over(struct uring *uring)
{
	int n;

	if (uring->pending == 0)
		return;
	/* -EAGAIN, -EBUSY: the entries stay in the ring and go with the next call. */
	n = io_uring_submit(&uring->ring);
	if (n > 0)
		uring->pending -= (unsigned)n < uring->pending ? (unsigned)n : uring->pending;
}

static void uring_reap(struct vd_image *image)
{
	struct uring *uring = uring_of(image);
	struct vd_image_request *request;
	int result;

	image->env->lock(image->env, &uring->lock);
	hand_over(uring);
	while ((request = take_finished(uring, &result))) {
		/* It may wait for a client, whom others of the image's users serve meanwhile. */
		image->env->unlock(image->env, &uring->lock);
		request->result = finish(uring, request, result);
		request->done(request);
		image->env->lock(image->env, &uring->lock);
	}
	image->env->unlock(image->env, &uring->lock);
}

static void uring_wait(struct vd_image *image, int timeout_ms)
{
	struct pollfd ready = {.fd = uring_of(image)->ring.ring_fd, .events = POLLIN};

	poll(&ready, 1, timeout_ms);
}

static int uring_fd(const struct vd_image *image)
{
	return ((const struct uring *)image)->ring.ring_fd;
}

static void uring_close(struct vd_image *image)
{
	struct uring *uring = uring_of(image);

	io_uring_queue_exit(&uring->ring);
	image->env->lock_destroy(image->env, &uring->lock);
	close(image->fd);
	image->env->release(image->env, uring, sizeof(*uring));
}

static const struct vd_image_ops uring_ops = {
	.name = "uring",
	.submit = uring_submit,
	.kick = uring_reap,
	.reap = uring_reap,
	.wait = uring_wait,
	.poll_fd = uring_fd,
	.close = uring_close,
};

int vd_image_uring_create(const struct vd_image *file, struct vd_image **image)
{
	struct uring *uring = vd_env_allocate(file->env, "image.allocate", sizeof(*uring),
					      _Alignof(struct uring));
	int rc;

	if (!uring)
		return -ENOMEM;
	uring->base = *file;
	uring->base.ops = &uring_ops;
	rc = vd_env_inject(file->env, "image.uring");
	if (!rc)
		rc = io_uring_queue_init(VD_IMAGE_DEPTH, &uring->ring, 0);
	if (rc < 0) {
		file->env->release(file->env, uring, sizeof(*uring));
		return rc;
	}
	/* A hart's child process must not keep the ring, and with it the image's lock, alive. */
	io_uring_ring_dontfork(&uring->ring);
	file->env->lock_init(file->env, &uring->lock);
	*image = &uring->base;
	return 0;
}

#else

int vd_image_uring_create(const struct vd_image *file, struct vd_image **image)
{
	(void)file;
	(void)image;
	return -ENOSYS;
}

#endif
