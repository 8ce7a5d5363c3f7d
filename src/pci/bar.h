/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which parts of a BAR the guest may touch directly, and why not the others. No state, no side
 * effects.
 */
#ifndef VIADUCT_PCI_BAR_H
#define VIADUCT_PCI_BAR_H

#include <viaduct/vfio.h>

/*
 * Four mappable areas and two hidden ones have 12 ends, trimming to pages adds 8: never more parts
 * than that + 1.
 */
#define VD_PCI_PARTS_MAX 24u
#define VD_PCI_HIDDEN_MAX 2u

/*
 * struct vd_pci_bar_part - [offset, offset + size) of a BAR; @reason: why it is trapped, NULL if
 * direct
 */
struct vd_pci_bar_part {
	uint64_t offset, size;
	const char *reason;
};

/*
 * struct vd_pci_bar_facts - what the decision rests on
 * @region: as the device describes it
 * @page: bytes of a guest page, a power of two
 * @direct: whether the user wants direct mapping at all
 * @hidden: ranges that are emulated (MSI-X table and PBA), inside the region; size 0: none
 */
struct vd_pci_bar_facts {
	const struct vd_region *region;
	uint64_t page;
	bool direct;
	struct vd_region_area hidden[VD_PCI_HIDDEN_MAX];
};

/*
 * vd_pci_bar_plan() - cut a BAR into parts, in order, without gaps; neighbours differ
 *
 * A direct part is whole guest pages and holds no byte that the device did not declare mappable and
 * no page with a part of something hidden (E6). A BAR that does not fill its page is trapped:
 * something else could be there (E2).
 *
 * Return: number of parts; 0 for an empty region.
 */
unsigned vd_pci_bar_plan(const struct vd_pci_bar_facts *facts,
			 struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX]);

extern const char vd_pci_reason_emulated[];
extern const char vd_pci_reason_off[];
extern const char vd_pci_reason_small[];
extern const char vd_pci_reason_edge[];
extern const char vd_pci_reason_msix[];
extern const char vd_pci_reason_unmapped[];
extern const char vd_pci_reason_misaligned[];

#endif
