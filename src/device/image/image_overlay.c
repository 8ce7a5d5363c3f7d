/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sectors above an image: a sparse file of the same size and a bit a sector. A sector is the
 * smallest thing a guest can write, so nothing is ever copied up.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "device/image/backend.h"

#define BITS 64u
/* Pieces of a vector handed to the kernel at once when a request is cut into runs. */
#define PIECES 64u

static bool is_present(const struct vd_overlay *overlay, uint64_t sector)
{
	return overlay->present[sector / BITS] >> (sector % BITS) & 1;
}

/* How many of at most @limit sectors from @sector on are alike; whole words are skipped at once. */
static uint64_t run_length(const struct vd_overlay *overlay, uint64_t sector, uint64_t limit)
{
	bool present = is_present(overlay, sector);
	uint64_t same = present ? UINT64_MAX : 0;
	uint64_t n = 1;

	while (n < limit) {
		if ((sector + n) % BITS == 0 && overlay->present[(sector + n) / BITS] == same)
			n += BITS;
		else if (is_present(overlay, sector + n) == present)
			n++;
		else
			break;
	}
	return n < limit ? n : limit;
}

static void mark(struct vd_overlay *overlay, uint64_t offset, uint64_t length, bool present)
{
	uint64_t sector = offset / VD_IMAGE_SECTOR, end = sector + length / VD_IMAGE_SECTOR;

	for (; sector < end; sector++) {
		uint64_t bit = 1ull << (sector % BITS);

		if (present)
			overlay->present[sector / BITS] |= bit;
		else
			overlay->present[sector / BITS] &= ~bit;
	}
}

/* The first @length bytes of the request's vector, which is advanced past them. */
static int transfer_run(int fd, bool write, struct vd_image_request *request, uint64_t length)
{
	while (length > 0) {
		struct iovec pieces[PIECES];
		unsigned n = 0;
		uint64_t bytes = 0;
		int rc;

		for (; n < PIECES && n < request->count && bytes < length; n++) {
			pieces[n] = request->vector[n];
			if (pieces[n].iov_len > length - bytes)
				pieces[n].iov_len = length - bytes;
			bytes += pieces[n].iov_len;
		}
		if (bytes == 0)
			return -EINVAL;
		rc = vd_file_transfer(fd, write, pieces, n, request->offset, 0);
		if (rc)
			return rc;
		vd_file_advance(&request->vector, &request->count, bytes);
		request->offset += bytes;
		length -= bytes;
	}
	return 0;
}

static int read_layers(struct vd_overlay *overlay, struct vd_image_request *request)
{
	uint64_t left = request->length / VD_IMAGE_SECTOR;
	int rc = 0;

	while (left > 0 && !rc) {
		uint64_t sector = request->offset / VD_IMAGE_SECTOR;
		uint64_t run = run_length(overlay, sector, left);
		int fd = is_present(overlay, sector) ? overlay->top : overlay->base.fd;

		rc = transfer_run(fd, false, request, run * VD_IMAGE_SECTOR);
		left -= run;
	}
	return rc;
}

int vd_overlay_serve(struct vd_overlay *overlay, struct vd_image_request *request)
{
	uint64_t offset = request->offset;
	int rc;

	switch (request->op) {
	case VD_IMAGE_READ:
		return read_layers(overlay, request);
	case VD_IMAGE_WRITE:
		rc = transfer_run(overlay->top, true, request, request->length);
		break;
	case VD_IMAGE_ZERO:
	case VD_IMAGE_DISCARD:
		rc = vd_file_zero(overlay->top, offset, request->length, true);
		break;
	default:
		return -EINVAL;
	}
	/* A write that failed half-way leaves the old sectors, as a disk may. */
	if (!rc)
		mark(overlay, offset, request->length, true);
	return rc;
}

static int copy_down(struct vd_overlay *overlay, uint64_t offset, uint64_t length)
{
	char buffer[16 << 10];

	while (length > 0) {
		size_t piece = length < sizeof(buffer) ? length : sizeof(buffer);
		struct iovec vector = {buffer, piece};
		int rc = vd_file_transfer(overlay->top, false, &vector, 1, offset, 0);

		vector = (struct iovec){buffer, piece};
		if (!rc)
			rc = vd_file_transfer(overlay->base.fd, true, &vector, 1, offset, 0);
		if (rc)
			return rc;
		mark(overlay, offset, piece, false);
		offset += piece;
		length -= piece;
	}
	return 0;
}

int vd_overlay_commit(struct vd_overlay *overlay, uint64_t offset, uint64_t length)
{
	uint64_t sector = offset / VD_IMAGE_SECTOR, left = length / VD_IMAGE_SECTOR;

	while (left > 0) {
		uint64_t run = run_length(overlay, sector, left);
		int rc = 0;

		if (is_present(overlay, sector))
			rc = copy_down(overlay, sector * VD_IMAGE_SECTOR, run * VD_IMAGE_SECTOR);
		if (rc)
			return rc;
		sector += run;
		left -= run;
	}
	/* Their memory is of no use any more; that it cannot be given back harms nobody. */
	(void)vd_file_discard(overlay->top, offset, length);
	return 0;
}

int vd_overlay_create(const struct vd_image *file, const struct vd_image_ops *ops, int top,
		      struct vd_image **image)
{
	const struct vd_env *env = file->env;
	struct vd_overlay *overlay;
	size_t words = file->size / VD_IMAGE_SECTOR / BITS + 1;

	if (ftruncate(top, (off_t)file->size) < 0)
		return -errno;
	overlay = vd_env_allocate(env, "image.allocate", sizeof(*overlay),
				  _Alignof(struct vd_overlay));
	if (!overlay)
		return -ENOMEM;
	overlay->base = *file;
	overlay->base.ops = ops;
	overlay->base.can_discard = true;
	overlay->top = top;
	overlay->present_bytes = words * sizeof(uint64_t);
	/*
	 * Not from the environment: it is large, mostly never touched, and must start as zero
	 * pages.
	 */
	overlay->present = vd_env_inject(env, "image.bitmap") ? MAP_FAILED :
			   mmap(NULL, overlay->present_bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (overlay->present == MAP_FAILED) {
		env->release(env, overlay, sizeof(*overlay));
		return -ENOMEM;
	}
	*image = &overlay->base;
	return 0;
}

void vd_overlay_close(struct vd_image *image)
{
	struct vd_overlay *overlay = (struct vd_overlay *)image;

	munmap(overlay->present, overlay->present_bytes);
	close(overlay->top);
	close(image->fd);
	image->env->release(image->env, overlay, sizeof(*overlay));
}
