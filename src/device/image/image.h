/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: raw disk images
 *
 * One image, several back ends behind struct vd_image_ops. A request that can be finished at once
 * is finished in vd_image_submit() on the calling thread; what has to wait for the disk comes back
 * through vd_image_reap().
 *
 * Locking: submit, kick and close are called by one thread at a time (the device's lock);
 * vd_image_reap() and vd_image_wait() by any thread at any time meanwhile.
 */
#ifndef DEVICE_IMAGE_IMAGE_H
#define DEVICE_IMAGE_IMAGE_H

#include <sys/uio.h>

#include <viaduct/base.h>

#define VD_IMAGE_SECTOR 512u
/* Requests that may be under way at the same time. */
#define VD_IMAGE_DEPTH 128u

enum vd_image_op {
	VD_IMAGE_READ,
	VD_IMAGE_WRITE,
	VD_IMAGE_FLUSH,	  /* every write finished before it is on stable storage */
	VD_IMAGE_ZERO,	  /* the range reads as zeroes afterwards */
	VD_IMAGE_DISCARD, /* the content is not needed; zeroes where vd_image_can_discard() */
};

/**
 * struct vd_image_request - caller's storage, untouched until it is finished
 * @op: what to do
 * @durable: WRITE and ZERO: on stable storage when finished
 * @unmap: ZERO may give the space back
 * @offset, @length: bytes, multiples of VD_IMAGE_SECTOR, inside the image; 0 for FLUSH
 * @vector, @count: READ and WRITE: memory of @length bytes, 1 to IOV_MAX pieces; used up (changed)
 *	by the transfer
 * @done: called from vd_image_reap(), on any thread, without a lock of the image; the request is
 *	not touched afterwards. Another vd_image_reap() may return before it does. Not called for
 *	requests that vd_image_submit() finished
 * @result: 0 or -errno, once finished: -EIO also for a read past the end of an image that was
 *	shortened
 */
struct vd_image_request {
	enum vd_image_op op;
	bool durable;
	bool unmap;
	uint64_t offset;
	uint64_t length;
	struct iovec *vector;
	unsigned count;
	void (*done)(struct vd_image_request *request);
	int result;
};

struct vd_image;

/**
 * struct vd_image_config - how to open an image
 * @path: regular file or block device
 * @backing: "uring", "sync", "volatile" (for tests: unsynced writes live in this process only until
 *	a flush), or NULL: io_uring where the host permits it, else sync
 * @snapshot: writes go to a temporary file that vanishes at close; the image is opened read-only
 * @read_only: writes fail with -EROFS
 * @flush_is_noop: test-only negative control: FLUSH and @durable do nothing
 */
struct vd_image_config {
	const struct vd_env *env;
	const char *path;
	const char *backing;
	bool snapshot;
	bool read_only;
	bool flush_is_noop;
};

/**
 * vd_image_open() - open, lock and size an image
 *
 * The whole file is locked (open file description lock): exclusively by writers, else shared.
 * Return: 0; -ENOENT, -EACCES, -EROFS from open; -EISDIR; -EINVAL not a file or block device,
 *	empty, not a multiple of 512, unknown or impossible @backing; -EBUSY locked by someone else;
 *	-EOPNOTSUPP "uring" was asked for and the host forbids it; -ENOMEM.
 */
int vd_image_open(const struct vd_image_config *config, struct vd_image **image,
		  struct vd_error *error);

/** vd_image_close() - nothing may be under way. Flushes nothing by itself. */
void vd_image_close(struct vd_image *image);

/** vd_image_size() - bytes, a multiple of VD_IMAGE_SECTOR, not 0 */
uint64_t vd_image_size(const struct vd_image *image);
bool vd_image_read_only(const struct vd_image *image);
/** vd_image_can_discard() - whether discarded ranges read as zeroes and give their space back */
bool vd_image_can_discard(const struct vd_image *image);
/** vd_image_backing() - the back end in use: "uring", "sync", "volatile" or "snapshot" */
const char *vd_image_backing(const struct vd_image *image);
/**
 * vd_image_identity() - a number that other images on this host do not have (hash of device and
 * inode)
 */
uint64_t vd_image_identity(const struct vd_image *image);

/**
 * vd_image_submit() - begin one request
 * Return: true: finished, @request->result says how; always so for ZERO and DISCARD. False: under
 *	way; vd_image_kick() after the last of a batch.
 */
bool vd_image_submit(struct vd_image *image, struct vd_image_request *request);
/** vd_image_kick() - hand what was submitted to the host, and reap what finishes at once */
void vd_image_kick(struct vd_image *image);
/** vd_image_reap() - call @done of whatever has finished; never sleeps for the disk */
void vd_image_reap(struct vd_image *image);
/**
 * vd_image_wait() - sleep until there is something to reap, at most @timeout_ms; may return early
 */
void vd_image_wait(struct vd_image *image, int timeout_ms);
/**
 * vd_image_fd() - readable while there is something to reap; -1 if every request finishes in submit
 */
int vd_image_fd(const struct vd_image *image);

#endif
