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
 * @cmb: bytes of a controller memory buffer (4.7) for submission queues: a multiple of 2 MiB, at
 *	most 1 GiB; 0 for none
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
	uint64_t cmb;
};

/**
 * vd_nvme_create() - open the image and make the PCI function (class 0x010802)
 *
 * BAR 0 is trapped as a whole: 4 KiB registers, 4 KiB doorbells, MSI-X table and PBA. BAR 2, with
 * @cmb, is mappable as far as there is memory. Doorbells run
 * on the thread that writes them; so do all transfers that the page cache can serve. What has to
 * wait for the disk is under way with its pages pinned and is completed by vd_device_poll(). While
 * memory is waited for that is reached by messages (vd_dma_map_remote()), others may access the
 * controller: what they write takes effect when the command at hand is done, or at the next poll.
 * The last vd_device_put() finishes and flushes.
 *
 * The image is locked while the device lives: exclusively unless @read_only or @snapshot.
 *
 * Return: 0 and a device; with the reason in @error: -ENOENT, -EACCES, -EROFS, -EISDIR the image
 *	cannot be opened; -EBUSY it is in use; -EINVAL its size or kind, @serial, @queues, or an
 *	unknown @backing or @flush, or @cmb; -EOPNOTSUPP "uring" is not permitted here; -ENOMEM;
 *	-EMFILE.
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

/*
 * ---- edu ---------------------------------------------------------------------------------------
 */

/**
 * struct vd_edu_config - QEMU's educational device, for drivers and for who writes devices
 * @env, @host, @space: the environment, the host, and what DMA reaches
 * @dma_mask: bits of an address that the device has wires for; 0 for 28
 */
struct vd_edu_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	uint64_t dma_mask;
};

/**
 * vd_edu_create() - the device of QEMU's specification docs/specs/edu.rst (1234:11e8, class
 * 0xff0000)
 *
 * BAR 0 is trapped. Registers that the specification does not have read as zero, accesses that it
 * does not allow as all ones. A factorial, modulo 2^32, is there at once; DMA is done by the time
 * the write of the command register returns, unless another thread has just begun one. What is not
 * inside the buffer or not mapped is not transferred, and the transfer ends as any other.
 *
 * Return: 0 and a device; with the reason in @error: -ENOMEM.
 */
int vd_edu_create(const struct vd_edu_config *config, struct vd_device **device,
		  struct vd_error *error);

/*
 * ---- bench -------------------------------------------------------------------------------------
 */

/** struct vd_bench_config - a device that measures; as in struct vd_device_config */
struct vd_bench_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
};

/**
 * vd_bench_create() - a device that says how long its DMA and its interrupts take
 *
 * BAR 2, 4 KiB, is trapped; registers are of 8 bytes. 0x08: an IOVA. 0x10: written with n, 4 KiB
 * are read n times from there, before the write returns; 0x18: the nanoseconds that took, all ones
 * if it failed. 0x20: written with n, vector 0 of MSI-X is raised n times; 0x28: the nanoseconds
 * that took. n is at most 2^20. All else reads as zero.
 *
 * Return: 0 and a device; with the reason in @error: -ENOMEM.
 */
int vd_bench_create(const struct vd_bench_config *config, struct vd_device **device,
		    struct vd_error *error);

/*
 * ---- balloon -----------------------------------------------------------------------------------
 */

struct vd_balloon;

/**
 * struct vd_balloon_config - a memory balloon that gives a guest's memory back to the host
 * @env, @host: the environment, and the host of the guest's memory
 * @space: the guest's memory by guest physical address, as vd_dma_follow() has it; writable
 * @memory: bytes of RAM the guest has, at least one page
 * @target: bytes that shall remain in its use, at first; 0 for all. At most @memory
 * @reporting: the guest reports pages that are free just now, and they are given back as well
 */
struct vd_balloon_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	uint64_t memory, target;
	bool reporting;
};

/**
 * vd_balloon_create() - a traditional memory balloon (virtio 1.2, section 5.5; PCI 1af4:1045)
 * @balloon: the host's handle; good as long as the caller holds a reference to @device
 *
 * Pages that the guest puts into the balloon or reports as free are given back by vd_dma_discard(),
 * in the device's @work: after the doorbell, on the thread that rang it, some 16 MiB at a time; the
 * rest by vd_device_poll(). They stay in place and read as zero when touched again, in the balloon
 * or not. Pages that something holds pinned are left as they are, and counted.
 *
 * Of the features, deflating on memory pressure and statistics are offered, and with @reporting
 * free page reporting and page poison: a guest that fills free pages with anything but zero could
 * not have them read as zero, so what it reports is then left alone (5.5.6.7). That the host must
 * be told before pages leave the balloon is not asked for: they just work. Free page hints, which
 * serve migration only, are not offered.
 *
 * Return: 0; with the reason in @error: -EINVAL @memory or @target; -ENOMEM; -EMFILE.
 */
int vd_balloon_create(const struct vd_balloon_config *config, struct vd_balloon **balloon,
		      struct vd_device **device, struct vd_error *error);

/**
 * vd_balloon_set_target() - what of its memory shall remain in the guest's use
 * @bytes: rounded up to 4 KiB
 *
 * The guest gives pages up, or takes them back, as fast as it can and likes. Takes the device's
 * lock.
 * Return: 0; -ERANGE more than the guest has.
 */
int vd_balloon_set_target(struct vd_balloon *balloon, uint64_t bytes);

/* Statistics of the guest's own, by virtio's numbers (5.5.6.4): bytes, or counts of events. */
enum vd_balloon_stat {
	VD_BALLOON_SWAP_IN, VD_BALLOON_SWAP_OUT, VD_BALLOON_MAJOR_FAULTS, VD_BALLOON_MINOR_FAULTS,
	VD_BALLOON_FREE, VD_BALLOON_TOTAL, VD_BALLOON_AVAILABLE, VD_BALLOON_CACHES,
	VD_BALLOON_HUGE_ALLOCATIONS, VD_BALLOON_HUGE_FAILURES, VD_BALLOON_STATS
};

/**
 * struct vd_balloon_status - where a balloon is, and what it did since it was made
 * @memory, @target: bytes, as configured and as set last
 * @actual: bytes that the guest says remain in its use
 * @ready: a driver runs it; @reporting: and reports free pages
 * @inflated, @deflated: bytes that went into the balloon and came out of it
 * @reported: bytes that the guest said are free
 * @discarded: bytes of both that were given back to the host
 * @pinned: bytes that were not, as something held them
 * @poisoned: nor these, as the guest's free pages are not to read as zero
 * @refused: nor these: not the guest's memory, not whole pages of the host, or the host failed
 * @stats_known: bits of the statistics that the guest has sent; @stats: its last ones
 */
struct vd_balloon_status {
	uint64_t memory, target, actual;
	bool ready, reporting;
	uint64_t inflated, deflated, reported;
	uint64_t discarded, pinned, poisoned, refused;
	uint32_t stats_known;
	uint64_t stats[VD_BALLOON_STATS];
};

/**
 * vd_balloon_status() - a copy, as of now; takes the device's lock
 *
 * Asks the guest for new statistics: the next call shows them.
 */
void vd_balloon_status(struct vd_balloon *balloon, struct vd_balloon_status *status);

#ifdef __cplusplus
}
#endif
#endif
