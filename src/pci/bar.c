/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one decision about direct mapping: walks a BAR from boundary to boundary and names what it
 * meets.
 */
#include "pci/bar.h"

const char vd_pci_reason_emulated[] = "registers that the device emulates";
const char vd_pci_reason_off[] = "direct mapping is switched off";
const char vd_pci_reason_small[] = "smaller than a page, which something else may share";
const char vd_pci_reason_edge[] = "shares a page with what cannot be mapped";
const char vd_pci_reason_msix[] = "the page holds the MSI-X table or pending bits";
const char vd_pci_reason_unmapped[] = "the device gave no memory for it";
const char vd_pci_reason_misaligned[] = "its memory does not start at a page of the guest's size";

struct walk {
	const struct vd_pci_bar_facts *facts;
	uint64_t position;
	uint64_t end; /* of the part at @position, shrinks as boundaries are met */
};

static void boundary(struct walk *walk, uint64_t at)
{
	if (at > walk->position && at < walk->end)
		walk->end = at;
}

/* Whether the position lies in [start, end); both are boundaries. */
static bool inside(struct walk *walk, uint64_t start, uint64_t end)
{
	boundary(walk, start);
	boundary(walk, end);
	return walk->position >= start && walk->position < end;
}

static bool in_hidden_page(struct walk *walk)
{
	uint64_t mask = walk->facts->page - 1;
	bool found = false;

	for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++) {
		const struct vd_region_area *hidden = &walk->facts->hidden[i];

		/* Inside a region, whose size is at most 2^63: rounding up does not wrap. */
		if (hidden->size)
			found |= inside(walk, hidden->offset & ~mask,
					(hidden->offset + hidden->size + mask) & ~mask);
	}
	return found;
}

enum mappable { MAPPABLE_NO, MAPPABLE_EDGE, MAPPABLE_WHOLE };

static enum mappable in_area(struct walk *walk, uint64_t offset, uint64_t size)
{
	uint64_t mask = walk->facts->page - 1, last = walk->facts->region->size;
	uint64_t end = offset < last && size < last - offset ? offset + size : last;
	uint64_t first_page = (offset + mask) & ~mask, page_end = end & ~mask;

	if (offset >= last || !size || !inside(walk, offset, end))
		return MAPPABLE_NO;
	if (first_page < page_end && inside(walk, first_page, page_end))
		return MAPPABLE_WHOLE;
	return MAPPABLE_EDGE;
}

static enum mappable in_mappable(struct walk *walk)
{
	const struct vd_region *region = walk->facts->region;
	enum mappable best = MAPPABLE_NO;

	if (!(region->flags & VD_REGION_MMAP))
		return MAPPABLE_NO;
	if (!region->area_count)
		return in_area(walk, 0, region->size);
	for (unsigned i = 0; i < region->area_count && i < VD_REGION_AREAS_MAX; i++) {
		enum mappable m = in_area(walk, region->areas[i].offset, region->areas[i].size);

		if (m > best)
			best = m;
	}
	return best;
}

/* Every rule is asked each time: a boundary of any of them ends the part. */
static const char *reason_at(struct walk *walk)
{
	bool hidden = in_hidden_page(walk);
	enum mappable mappable = in_mappable(walk);

	if (hidden)
		return vd_pci_reason_msix;
	if (mappable == MAPPABLE_NO)
		return vd_pci_reason_emulated;
	if (!walk->facts->direct)
		return vd_pci_reason_off;
	if (walk->facts->region->size < walk->facts->page)
		return vd_pci_reason_small;
	return mappable == MAPPABLE_WHOLE ? NULL : vd_pci_reason_edge;
}

unsigned vd_pci_bar_plan(const struct vd_pci_bar_facts *facts,
			 struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX])
{
	struct walk walk = {.facts = facts};
	unsigned count = 0;

	while (walk.position < facts->region->size) {
		const char *reason;

		walk.end = facts->region->size;
		reason = reason_at(&walk);
		if (count && parts[count - 1].reason == reason) {
			parts[count - 1].size += walk.end - walk.position;
		} else {
			vd_assert(count < VD_PCI_PARTS_MAX);
			parts[count++] = (struct vd_pci_bar_part){
				walk.position, walk.end - walk.position, reason};
		}
		walk.position = walk.end;
	}
	return count;
}
