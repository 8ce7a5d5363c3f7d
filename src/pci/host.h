/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host bridge, for the files of this floor. Everything is under the bridge lock unless said
 * otherwise.
 */
#ifndef VIADUCT_PCI_HOST_H
#define VIADUCT_PCI_HOST_H

#include <viaduct/pci.h>

#include "pci/msi.h"
#include "pci/msix.h"
#include "pci/registers.h"

#define VD_PCI_ECAM_BUS UINT64_C(0x100000)
#define VD_PCI_WINDOWS 2u
/* One before each BAR and one behind the last, in each window. */
#define VD_PCI_PAGES_MAX (VD_PCI_SLOTS * VD_PCI_BARS)
#define VD_PCI_GAPS_MAX (VD_PCI_WINDOWS + VD_PCI_SLOTS * VD_PCI_BARS)

struct vd_pci_seat;

/*
 * struct vd_pci_part - a part of a BAR and the slot that shows it to the guest
 * @plan: where it is in the BAR, and why it is trapped
 * @object, @object_offset: memory of a direct part, referenced
 * @id: of the slot, while the BAR is placed; @next_id: prepared, not yet committed
 */
struct vd_pci_part {
	struct vd_pci_seat *seat;
	unsigned bar;
	struct vd_pci_bar_part plan;
	struct vd_host_object *object;
	uint64_t object_offset;
	uint32_t id, next_id;
};

/*
 * struct vd_pci_placement - where a BAR is, or shall be
 * @direct: of a small one: the page around it is mapped; else @reason says why not
 */
struct vd_pci_placement {
	bool placed, direct;
	uint64_t base;
	char reason[VD_PCI_REASON_BYTES];
};

/*
 * struct vd_pci_guest_bar - a memory BAR of a plugged device
 * @size: 0: none
 * @home: address it was given when plugged
 * @now: what the slots say; @next: what they shall say after vd_pci_map_apply()
 * @absent: why it is not placed
 * @small: less than a page, all of it mappable: its only part is trapped, unless the page around it
 *	can be mapped where the guest puts it
 * @memory, @memory_offset: of a small one; referenced
 * @words: of a small one: the reason that its slot shows, and that of the next one
 */
struct vd_pci_guest_bar {
	uint64_t size, home;
	bool is_64, prefetch;
	struct vd_pci_placement now, next;
	const char *absent;
	unsigned part_count;
	struct vd_pci_part parts[VD_PCI_PARTS_MAX];
	bool small;
	struct vd_host_object *memory;
	uint64_t memory_offset;
	unsigned word;
	char words[2][VD_PCI_REASON_BYTES];
};

/*
 * struct vd_pci_page - a guest page that shows a page of the memory of small BARs, whole
 * @object, @offset: borrowed of a BAR in it
 */
struct vd_pci_page {
	uint64_t base;
	struct vd_host_object *object;
	uint64_t offset;
	uint32_t id;
};

/*
 * struct vd_pci_decode - a copy of the registers that decide where BARs are
 */
struct vd_pci_decode {
	uint8_t header[PCI_STD_HEADER_SIZEOF];
	uint8_t power[2]; /* control and status of power management */
};

/*
 * struct vd_pci_seat - a device number and who sits there
 * @config_size: bytes of configuration space
 * @power, @express: offsets of capabilities, 0 for none; @resettable: it has function-level reset
 */
struct vd_pci_seat {
	struct vd_pci_host *host;
	struct vd_device *device;
	unsigned slot;
	uint64_t config_size;
	unsigned power, express;
	bool resettable;
	struct vd_pci_decode decode;
	struct vd_pci_msi msi;
	struct vd_pci_msix msix;
	struct vd_pci_guest_bar bars[VD_PCI_BARS];
};

/*
 * struct vd_pci_gap - a stretch of a window without BARs, and the slot that reads as all ones there
 */
struct vd_pci_gap {
	uint64_t base, size;
	uint32_t id;
};

struct vd_pci_host {
	const struct vd_env *env;
	struct vd_pci_host_config config;
	uint64_t page;
	struct vd_lock lock;
	uint32_t ecam_id;
	struct vd_region_area windows[VD_PCI_WINDOWS]; /* @offset is the guest address */
	struct vd_pci_seat *seats[VD_PCI_SLOTS];
	unsigned gap_count;
	struct vd_pci_gap gaps[VD_PCI_GAPS_MAX];
	unsigned page_count;
	struct vd_pci_page pages[VD_PCI_PAGES_MAX];
	struct vd_pci_host_stats stats;
	/* Without the lock. */
	_Atomic uint64_t direct_pages, absent_reads, messages, messages_dropped;
};

/* ---- probe.c: what a device says about itself ---- */

/*
 * vd_pci_seat_create() - a seat for @device, nowhere yet; the device is only read. Takes a
 * reference to it.
 * Return: 0, -EINVAL, -ENOMEM, an error of the device
 */
int vd_pci_seat_create(struct vd_pci_host *host, struct vd_device *device, unsigned slot,
		       struct vd_pci_seat **seat, struct vd_error *error);
/* vd_pci_seat_destroy() - drops the reference; without the bridge lock: the last one may sleep */
void vd_pci_seat_destroy(struct vd_pci_seat *seat);

/* ---- place.c: addresses ---- */

/*
 * vd_pci_place() - choose a home for every BAR of a seat that is not yet on the bus
 * Return: 0, -ENOSPC
 */
int vd_pci_place(struct vd_pci_host *host, struct vd_pci_seat *seat, struct vd_error *error);
/* vd_pci_in_window() - whether a range lies inside one window; overflow-safe */
bool vd_pci_in_window(const struct vd_pci_host *host, uint64_t base, uint64_t size);
/* vd_pci_decoded() - where a BAR is according to the registers; false if it is off */
bool vd_pci_decoded(const struct vd_pci_seat *seat, const struct vd_pci_decode *decode,
		    unsigned bar, uint64_t *base);

/* ---- map.c: BARs and gaps as slots ---- */

/*
 * vd_pci_map_apply() - make slots agree with each BAR's @next, in one update
 * Return: 0; -ENOMEM, -ENOSPC ... with nothing changed and each @next put back
 */
int vd_pci_map_apply(struct vd_pci_host *host);
/*
 * vd_pci_map_leave() - take away the BARs of a seat that are not where @decode says; NULL: all of
 * them
 * Return: as vd_pci_map_apply()
 */
int vd_pci_map_leave(struct vd_pci_seat *seat, const struct vd_pci_decode *decode);
/* vd_pci_map_claim() - plan to show a BAR where its registers say, if it can be there */
void vd_pci_map_claim(struct vd_pci_seat *seat, unsigned bar);
/*
 * vd_pci_map_sync() - show every BAR that is enabled and can be shown, hide every other; what fails
 * is counted
 */
void vd_pci_map_sync(struct vd_pci_host *host);

/* ---- page.c: BARs smaller than a page ---- */

/* vd_pci_page_of() - where the page of its memory begins that a small BAR lies in */
uint64_t vd_pci_page_of(const struct vd_pci_host *host, const struct vd_pci_guest_bar *bar);
/* vd_pci_same_page() - whether two BARs are small and lie in one page of memory */
bool vd_pci_same_page(const struct vd_pci_host *host, const struct vd_pci_guest_bar *a,
		      const struct vd_pci_guest_bar *b);
/*
 * vd_pci_pages_plan() - decide for each small BAR of the next placement whether its page is mapped,
 * or why not. Return: number of pages
 */
unsigned vd_pci_pages_plan(struct vd_pci_host *host, struct vd_pci_page pages[VD_PCI_PAGES_MAX]);
/* vd_pci_pages_stale() - whether one of them would have to be shown otherwise than it is */
bool vd_pci_pages_stale(struct vd_pci_host *host);

/* ---- ecam.c: configuration space ---- */

extern const struct vd_trap_ops vd_pci_ecam_ops;
/*
 * vd_pci_refresh() - read the deciding registers again; a device that cannot be read decodes
 * nothing
 */
void vd_pci_refresh(struct vd_pci_seat *seat);
/*
 * vd_pci_write_homes() - decoding off, BARs where they were placed. Return: 0 or the device's error
 */
int vd_pci_write_homes(struct vd_pci_seat *seat);

/* vd_pci_each_seat() - for loops over what is plugged */
#define vd_pci_each_seat(host, seat)                                                               \
	for (unsigned slot_ = 0; slot_ < VD_PCI_SLOTS; slot_++)                                    \
		if (!((seat) = (host)->seats[slot_]))                                              \
			continue;                                                                  \
		else

#endif
