/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk with an honest volatile write cache, for tests: until a flush, writes exist in this
 * process only, so that killing it loses exactly what a power cut may lose.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "device/image/backend.h"

static int make_durable(struct vd_overlay *overlay, uint64_t offset, uint64_t length)
{
	int rc;

	if (overlay->base.flush_is_noop || overlay->base.read_only)
		return 0;
	rc = vd_overlay_commit(overlay, offset, length);
	if (!rc && fdatasync(overlay->base.fd) < 0)
		rc = -errno;
	return rc;
}

static bool volatile_submit(struct vd_image *image, struct vd_image_request *request)
{
	struct vd_overlay *overlay = (struct vd_overlay *)image;
	uint64_t offset = request->offset;

	if (request->op == VD_IMAGE_FLUSH) {
		request->result = make_durable(overlay, 0, image->size);
		return true;
	}
	request->result = vd_overlay_serve(overlay, request);
	if (!request->result && request->durable)
		request->result = make_durable(overlay, offset, request->length);
	return true;
}

static const struct vd_image_ops volatile_ops = {
	.name = "volatile",
	.submit = volatile_submit,
	.close = vd_overlay_close,
};

int vd_image_volatile_create(const struct vd_image *file, struct vd_image **image)
{
	int top = memfd_create("viaduct-volatile", MFD_CLOEXEC);
	int rc;

	if (top < 0)
		return -errno;
	rc = vd_overlay_create(file, &volatile_ops, top, image);
	if (rc)
		close(top);
	return rc;
}
