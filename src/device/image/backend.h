/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the back ends of src/device/image/. */
#ifndef DEVICE_IMAGE_BACKEND_H
#define DEVICE_IMAGE_BACKEND_H

#include "device/image/image.h"

/**
 * struct vd_image_ops - a back end; @kick, @reap, @wait and @poll_fd only if @submit ever returns
 * false
 */
struct vd_image_ops {
	const char *name;
	bool (*submit)(struct vd_image *image, struct vd_image_request *request);
	void (*kick)(struct vd_image *image);
	void (*reap)(struct vd_image *image);
	void (*wait)(struct vd_image *image, int timeout_ms);
	int (*poll_fd)(const struct vd_image *image);
	void (*close)(struct vd_image *image);
};

/**
 * struct vd_image - what every back end starts with
 * @fd: the image file, locked, open as @read_only says; -1 once nobody owns it any more
 */
struct vd_image {
	const struct vd_image_ops *ops;
	const struct vd_env *env;
	int fd;
	uint64_t size;
	uint64_t identity;
	bool read_only;
	bool can_discard;
	bool flush_is_noop;
};

/*
 * Each makes the back end from an opened @file (copied; its fd belongs to the new image on success
 * only).
 * Return: 0; -ENOMEM; what the host answered.
 */
int vd_image_sync_create(const struct vd_image *file, struct vd_image **image);
int vd_image_uring_create(const struct vd_image *file, struct vd_image **image);
int vd_image_volatile_create(const struct vd_image *file, struct vd_image **image);
int vd_image_snapshot_create(const struct vd_image *file, struct vd_image **image);

/* ---- plain file operations on one descriptor (image_file.c) ------------------------------ */

/**
 * vd_file_transfer() - read or write all of a vector, resuming after short transfers
 * @flags: of preadv2(2)
 * Return: 0; -errno; -EIO at the end of the file.
 */
int vd_file_transfer(int fd, bool write, struct iovec *vector, unsigned count, uint64_t offset,
		     int flags);
/** vd_file_advance() - drop the first @bytes of a vector, in place */
void vd_file_advance(struct iovec **vector, unsigned *count, size_t bytes);
/**
 * vd_file_zero() - make a range read as zeroes, by whatever way the file system knows. Return: 0 or
 * -errno.
 */
int vd_file_zero(int fd, uint64_t offset, uint64_t length, bool unmap);
/**
 * vd_file_discard() - give the space of a range back. Return: 0 (also where that is impossible) or
 * -errno.
 */
int vd_file_discard(int fd, uint64_t offset, uint64_t length);
/** vd_file_serve() - one request, on a descriptor, from beginning to end. Return: its result. */
int vd_file_serve(const struct vd_image *image, struct vd_image_request *request);

/* ---- layers of sectors over an image (image_overlay.c) ----------------------------------- */

/**
 * struct vd_overlay - a sparse file above the image, and which sectors of it count
 * @base: embedded, so that the back ends built on this are vd_images
 * @top: descriptor, as large as the image
 * @present: one bit a sector, set: the sector is in @top
 */
struct vd_overlay {
	struct vd_image base;
	int top;
	uint64_t *present;
	size_t present_bytes;
};

/**
 * vd_overlay_create() - Takes @top over on success only. Return: 0; -ENOMEM; -errno of sizing @top.
 */
int vd_overlay_create(const struct vd_image *file, const struct vd_image_ops *ops, int top,
		      struct vd_image **image);
/** vd_overlay_serve() - READ, WRITE, ZERO and DISCARD on the layers. Return: the result. */
int vd_overlay_serve(struct vd_overlay *overlay, struct vd_image_request *request);
/**
 * vd_overlay_commit() - move present sectors of a range down into the image. Return: 0; -errno: the
 * rest stays present.
 */
int vd_overlay_commit(struct vd_overlay *overlay, uint64_t offset, uint64_t length);
void vd_overlay_close(struct vd_image *image);

#endif
