/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk images of a machine, as a snapshot needs them: what they were at one moment, and copies
 * of them.
 */
#ifndef CLI_IMAGES_H
#define CLI_IMAGES_H

#include <limits.h>
#include <sys/stat.h>

#include <viaduct/base.h>

/*
 * struct run_image - the image behind a device, if it has one
 * @path: absolute, links resolved; empty: there is no image
 * @inode, @device: of the file that the device opened
 * @layered, @is_volatile: snapshot=on; backing=volatile: what was written is not in the file
 * @size, @mtime_ns: as of a moment: image_record()
 * @copy: name of a copy as of that moment, beside the snapshot; empty: none
 */
struct run_image {
	char path[PATH_MAX];
	uint64_t inode, device;
	bool layered, is_volatile, is_block;
	uint64_t size, mtime_ns;
	char copy[NAME_MAX + 1];
};

/* The file that @path is now. 0, or -errno with the reason in @error. */
int image_find(const char *path, struct run_image *image, struct vd_error *error);
/* Whether a snapshot can be taken of a machine with it. */
int image_check(const struct run_image *image, bool copy, struct vd_error *error);
/*
 * Size and time of the last write, so that any later write gets another: may sleep for a tick of
 * the kernel's clock.
 */
int image_record(struct run_image *image, struct vd_error *error);
/* Whether the file is still what it was when it was recorded. */
int image_unchanged(const struct run_image *image, struct vd_error *error);
/*
 * All of it to the new file @to: shared where the file system can, and holes stay holes. @alive is
 * called now and then; not 0 gives it up.
 */
int image_copy(const struct run_image *image, const char *to, int (*alive)(void *context),
	       void *context, struct vd_error *error);
/* On stable storage; what does not work is nobody's loss. */
void image_sync(const struct run_image *image);

#endif
