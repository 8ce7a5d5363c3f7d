/* SPDX-License-Identifier: BSD-2-Clause */
/* The back end that works everywhere: every request is finished on the thread that submits it. */
#include <unistd.h>

#include "device/image/backend.h"

static bool sync_submit(struct vd_image *image, struct vd_image_request *request)
{
	request->result = vd_file_serve(image, request);
	return true;
}

static void sync_close(struct vd_image *image)
{
	close(image->fd);
	image->env->release(image->env, image, sizeof(*image));
}

static const struct vd_image_ops sync_ops = {
	.name = "sync",
	.submit = sync_submit,
	.close = sync_close,
};

int vd_image_sync_create(const struct vd_image *file, struct vd_image **image)
{
	struct vd_image *sync = vd_env_allocate(file->env, "image.allocate", sizeof(*sync),
						_Alignof(struct vd_image));

	if (!sync)
		return -ENOMEM;
	*sync = *file;
	sync->ops = &sync_ops;
	*image = sync;
	return 0;
}
