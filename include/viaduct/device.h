/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 8, device models
 *
 * Devices written against floors 4 to 7 only: they know regions, interrupts and DMA address spaces, and
 * neither guest, vCPU nor machine. Each is created by one function and is a struct vd_device from then on.
 */
#ifndef VIADUCT_DEVICE_H
#define VIADUCT_DEVICE_H

#include <viaduct/pci.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- NVMe controller ------------------------------------------------------------------------- */

/**
 * struct vd_nvme_config - an NVMe 1.4 controller with one namespace of 512-byte blocks over a raw image
 * @env, @host, @space: the environment, the host, and what the controller's DMA may reach
 * @image: path of a regular file or block device; its size is a multiple of 512, not 0
 * @snapshot: writes go to a temporary file that vanishes with the device; the image stays untouched
 * @read_only: the namespace is write-protected
 * @backing: how the image is accessed: NULL for io_uring where the host permits it, else preadv/pwritev; "uring" or
 *	"sync" to insist; "volatile" keeps unsynced writes in this process only (for crash tests)
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
 * BAR 0 is trapped as a whole: 4 KiB registers, 4 KiB doorbells, MSI-X table and PBA. Doorbells run on the thread
 * that writes them; so do all transfers that the page cache can serve. What has to wait for the disk is under way
 * with its pages pinned and is completed by vd_device_poll(). The last vd_device_put() finishes and flushes.
 *
 * The image is locked while the device lives: exclusively unless @read_only or @snapshot.
 *
 * Return: 0 and a device; with the reason in @error: -ENOENT, -EACCES, -EROFS, -EISDIR the image cannot be
 *	opened; -EBUSY it is in use; -EINVAL its size or kind, @serial, @queues, or an unknown @backing or @flush;
 *	-EOPNOTSUPP "uring" is not permitted here; -ENOMEM; -EMFILE.
 */
int vd_nvme_create(const struct vd_nvme_config *config, struct vd_device **device,
		   struct vd_error *error);

#ifdef __cplusplus
}
#endif
#endif
