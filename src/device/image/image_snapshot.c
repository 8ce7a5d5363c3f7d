/* SPDX-License-Identifier: BSD-2-Clause */
/* snapshot=on: the image is only read; writes vanish with the process. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/image/backend.h"

static bool snapshot_submit(struct vd_image *image, struct vd_image_request *request)
{
	/* There is nothing to make durable in a file that dies with the process. */
	request->result = request->op == VD_IMAGE_FLUSH ?
			  0 : vd_overlay_serve((struct vd_overlay *)image, request);
	return true;
}

static const struct vd_image_ops snapshot_ops = {
	.name = "snapshot",
	.submit = snapshot_submit,
	.close = vd_overlay_close,
};

static int open_temporary(const struct vd_env *env)
{
	const char *places[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
	int fd = vd_env_inject(env, "image.temporary");

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		fd = places[i] ? open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
		if (fd >= 0)
			return fd;
	}
	/* In memory, rather than not at all. */
	fd = memfd_create("viaduct-snapshot", MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vd_image_snapshot_create(const struct vd_image *file, struct vd_image **image)
{
	int top = open_temporary(file->env);
	int rc;

	if (top < 0)
		return top;
	rc = vd_overlay_create(file, &snapshot_ops, top, image);
	if (rc)
		close(top);
	return rc;
}
