/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 8, device models
 *
 * Devices written against floors 4 to 7 only: they know regions, interrupts and DMA address spaces,
 * and neither guest, vCPU nor machine. Each is created by one function and is a struct vd_device
 * from then on.
 */
#ifndef VIADUCT_DEVICE_H
#define VIADUCT_DEVICE_H

#include <viaduct/pci.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- NVMe controller ------------------------------------------------------------------------- */

/**
 * struct vd_nvme_config - an NVMe 1.4 controller with one namespace of 512-byte blocks over a raw
 * image
 * @env, @host, @space: the environment, the host, and what the controller's DMA may reach
 * @image: path of a regular file or block device; its size is a multiple of 512, not 0
 * @snapshot: writes go to a temporary file that vanishes with the device; the image stays untouched
 * @read_only: the namespace is write-protected
 * @backing: how the image is accessed: NULL for io_uring where the host permits it, else
 *	preadv/pwritev; "uring" or "sync" to insist; "volatile" keeps unsynced writes in this
 *	process only (for crash tests)
 * @flush: NULL; "noop" makes flushes and forced unit access do nothing (test-only negative control)
 * @serial: at most 20 printable ASCII characters; NULL: one that differs from image to image
 * @queues: most I/O queues of each direction, 1 to 128; 0 for 32. There is one MSI-X vector more
 */
struct vd_nvme_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	const char *image;
	bool snapshot;
	bool read_only;
	const char *backing;
	const char *flush;
	const char *serial;
	unsigned queues;
};

/**
 * vd_nvme_create() - open the image and make the PCI function (class 0x010802)
 *
 * BAR 0 is trapped as a whole: 4 KiB registers, 4 KiB doorbells, MSI-X table and PBA. Doorbells run
 * on the thread that writes them; so do all transfers that the page cache can serve. What has to
 * wait for the disk is under way with its pages pinned and is completed by vd_device_poll(). The
 * last vd_device_put() finishes and flushes.
 *
 * The image is locked while the device lives: exclusively unless @read_only or @snapshot.
 *
 * Return: 0 and a device; with the reason in @error: -ENOENT, -EACCES, -EROFS, -EISDIR the image
 *	cannot be opened; -EBUSY it is in use; -EINVAL its size or kind, @serial, @queues, or an
 *	unknown @backing or @flush; -EOPNOTSUPP "uring" is not permitted here; -ENOMEM; -EMFILE.
 */
int vd_nvme_create(const struct vd_nvme_config *config, struct vd_device **device,
		   struct vd_error *error);

/*
 * ---- display -----------------------------------------------------------------------------------
 */

/**
 * struct vd_display_config - a linear frame buffer that Linux' bochs driver binds
 * @env, @host: the environment, and the host that video memory belongs to
 * @memory_size: bytes of video memory: a power of two, 4 MiB to 512 MiB; 0 for 16 MiB
 * @width, @height: mode that the monitor prefers, 64 to 4095 pixels each; 0 for 1024 x 768. Its
 *	picture of 32 bits a pixel must fit into video memory
 */
struct vd_display_config {
	const struct vd_env *env;
	struct vd_host *host;
	uint64_t memory_size;
	unsigned width, height;
};

/**
 * vd_display_create() - a display without VGA (1234:1111, class 0x038000, the bochs-display of
 * QEMU's specification docs/specs/standard-vga.rst)
 *
 * BAR 0 is video memory, prefetchable and mappable as a whole. BAR 2 is trapped: EDID at 0, VGA
 * registers at 0x400 (taken and ignored), DISPI registers at 0x500, byte order at 0x600. No
 * interrupt, no DMA. Video memory keeps its content over a reset, as real one may.
 *
 * Return: 0 and a device; with the reason in @error: -EINVAL @memory_size, @width or @height;
 *	-ENOMEM.
 */
int vd_display_create(const struct vd_display_config *config, struct vd_device **device,
		      struct vd_error *error);

/**
 * struct vd_display_mode - what the guest shows
 * @enabled: the guest switched the display on; the rest is as the registers say even if not
 * @width, @height: pixels
 * @bits: a pixel: 8, 15, 16, 24 or 32, or whatever the guest wrote
 * @stride: bytes from one line to the next
 * @offset: of the first pixel in video memory, bytes
 * @big_endian: byte order of pixels
 */
struct vd_display_mode {
	bool enabled;
	unsigned width, height, bits;
	uint64_t stride, offset;
	bool big_endian;
};

/**
 * vd_display_mode() - read a display's mode from its registers, which may be on a transport. Takes
 * the device's lock.
 * Return: 0; -EINVAL no such display; an error of the device.
 */
int vd_display_mode(struct vd_device *device, struct vd_display_mode *mode, struct vd_error *error);

/**
 * vd_display_screenshot() - write what the guest shows as a PNG of 8 bits a colour
 * @path: replaced by the complete picture, or untouched
 *
 * Takes the device's lock while it copies the picture. A guest that draws meanwhile may be seen
 * half done.
 *
 * Return: 0; with the reason in @error: -EINVAL no such display, or a mode that reaches beyond
 *	video memory; -ENODATA the display is off; -EOPNOTSUPP not 16 or 32 bits a pixel, or video
 *	memory out of reach; -ENOMEM; what open(2), write(2) and rename(2) say.
 */
int vd_display_screenshot(struct vd_device *device, const char *path, struct vd_error *error);

#ifdef __cplusplus
}
#endif
#endif
