/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BARs smaller than a page. A page is mapped whole or not at all, so it is a matter of all that is
 * in it, on both sides: in the memory, and where the guest put things.
 */
#include <stdio.h>
#include <string.h>

#include "pci/host.h"

/* Of regions that share a memory; more than this are trapped. */
#define NEIGHBOURS_MAX 64u

uint64_t vd_pci_page_of(const struct vd_pci_host *host, const struct vd_pci_guest_bar *bar)
{
	return bar->memory_offset & ~(host->page - 1);
}

/* ---- the memory's side ---- */

struct hood {
	struct vd_pci_host *host;
	const struct vd_device *device;
	unsigned region, count;
	uint64_t first, last; /* the page */
	struct vd_pci_neighbour neighbours[NEIGHBOURS_MAX];
	char names[NEIGHBOURS_MAX][48];
};

static void name_bar(struct vd_pci_host *host, const struct vd_device *device, unsigned bar,
		     char *text, size_t room)
{
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		if (seat->device == device) {
			snprintf(text, room, "00:%02x.0 BAR %u", seat->slot, bar);
			return;
		}
	}
	snprintf(text, room, "%s BAR %u", vd_device_name(device), bar);
}

/* Whether all of a region's bytes in the page may be seen directly. */
static bool is_open(const struct vd_region_neighbour *of, uint64_t first, uint64_t last)
{
	const struct vd_region *region = vd_device_region(of->device, of->region);
	uint64_t start = of->offset, end = start + (of->size - 1);

	first = first > start ? first - start : 0;
	last = (last < end ? last : end) - start;
	for (unsigned i = 0; i < region->area_count; i++)
		if (region->areas[i].offset <= first &&
		    last - region->areas[i].offset < region->areas[i].size)
			return true;
	return false;
}

static int add_neighbour(void *context, const struct vd_region_neighbour *of)
{
	struct hood *hood = context;

	if ((of->device == hood->device && of->region == hood->region) ||
	    of->offset > hood->last || of->offset + (of->size - 1) < hood->first)
		return 0;
	if (hood->count == NEIGHBOURS_MAX) {
		hood->neighbours[NEIGHBOURS_MAX - 1].trapped = true;
		return 1;
	}
	name_bar(hood->host, of->device, of->region, hood->names[hood->count],
		 sizeof(hood->names[0]));
	hood->neighbours[hood->count] = (struct vd_pci_neighbour){
		.name = hood->names[hood->count],
		.address = of->offset,
		.size = of->size,
		.same_group = true,
		.trapped = !is_open(of, hood->first, hood->last),
	};
	hood->count++;
	return 0;
}

/* Whether the page of a small BAR may be mapped at all. The bridge has taken the group. */
static bool memory_allows(struct vd_pci_seat *seat, unsigned i, char *reason, size_t room)
{
	struct vd_pci_host *host = seat->host;
	struct vd_pci_guest_bar *bar = &seat->bars[i];
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	struct hood hood = {.host = host, .device = seat->device, .region = i,
			    .first = vd_pci_page_of(host, bar)};
	struct vd_pci_direct_facts facts = {
		.address = bar->memory_offset,
		.size = bar->size,
		.page = host->page,
		.mappable = true,
		.neighbours = hood.neighbours,
		.claimed = vd_device_claimed(seat->device, i),
		.group_whole = true,
		.platform = host->config.share_pages,
		.off = !host->config.direct,
	};

	hood.last = hood.first + (host->page - 1);
	(void)vd_device_each_neighbour(seat->device, i, add_neighbour, &hood);
	facts.neighbour_count = hood.count;
	facts.unpadded = facts.claimed.size == bar->size;
	/* Nobody else gets a place in a group's memory. */
	if (facts.unpadded && vd_device_group(seat->device))
		facts.group.size = vd_host_object_size(bar->memory);
	(void)vd_pci_direct_plan(&facts, parts);
	snprintf(reason, room, "%s", parts[0].reason);
	return parts[0].why == VD_PCI_DIRECT;
}

/* ---- the guest's side ---- */

bool vd_pci_same_page(const struct vd_pci_host *host, const struct vd_pci_guest_bar *a,
		      const struct vd_pci_guest_bar *b)
{
	return a->small && b->small && a->memory == b->memory &&
	       vd_pci_page_of(host, a) == vd_pci_page_of(host, b);
}

/* What another BAR has against mapping the page of @bar; NULL: nothing. */
static const char *objection(struct vd_pci_host *host, const struct vd_pci_guest_bar *bar,
			     const struct vd_pci_guest_bar *other)
{
	uint64_t mask = host->page - 1, page = bar->next.base & ~mask;
	bool shares = vd_pci_same_page(host, bar, other);

	/* Nothing answers where a function is off, nor may anything that is mapped. */
	if (shares && !other->next.placed)
		return ", which does not answer";
	if (!other->next.placed ||
	    !vd_ranges_overlap(other->next.base, other->size, page, host->page))
		return NULL;
	if (!shares)
		return "";
	return (other->next.base ^ other->memory_offset) & mask ?
		", which the guest has moved within the page" : NULL;
}

static bool guest_allows(struct vd_pci_seat *of, unsigned index, char *reason, size_t room)
{
	struct vd_pci_host *host = of->host;
	const struct vd_pci_guest_bar *bar = &of->bars[index];
	uint64_t mask = host->page - 1;
	struct vd_pci_seat *seat;

	if ((bar->next.base ^ bar->memory_offset) & mask) {
		snprintf(reason, room,
			 "the guest put it at 0x%llx of a page, its memory is at 0x%llx",
			 (unsigned long long)(bar->next.base & mask),
			 (unsigned long long)(bar->memory_offset & mask));
		return false;
	}
	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			const struct vd_pci_guest_bar *other = &seat->bars[i];
			const char *why = other->size && other != bar ?
				objection(host, bar, other) : NULL;

			if (!why)
				continue;
			snprintf(reason, room, "shares its page with 00:%02x.0 BAR %u%s",
				 seat->slot, i, why);
			return false;
		}
	}
	return true;
}

/* ---- both ---- */

static unsigned add_page(struct vd_pci_host *host, const struct vd_pci_guest_bar *bar,
			 struct vd_pci_page *pages, unsigned count)
{
	uint64_t base = bar->next.base & ~(host->page - 1);

	for (unsigned i = 0; i < count; i++)
		if (pages[i].base == base)
			return count;
	vd_assert(count < VD_PCI_PAGES_MAX);
	pages[count] = (struct vd_pci_page){base, bar->memory, vd_pci_page_of(host, bar), 0};
	return count + 1;
}

unsigned vd_pci_pages_plan(struct vd_pci_host *host, struct vd_pci_page pages[VD_PCI_PAGES_MAX])
{
	struct vd_pci_seat *seat;
	unsigned count = 0;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];
			struct vd_pci_placement *next = &bar->next;

			if (!bar->small || !next->placed)
				continue;
			next->reason[0] = 0;
			next->direct = memory_allows(seat, i, next->reason,
						     sizeof(next->reason)) &&
				       guest_allows(seat, i, next->reason, sizeof(next->reason));
			if (next->direct)
				count = add_page(host, bar, pages, count);
		}
	}
	return count;
}

bool vd_pci_pages_stale(struct vd_pci_host *host)
{
	struct vd_pci_page pages[VD_PCI_PAGES_MAX];
	struct vd_pci_seat *seat;

	(void)vd_pci_pages_plan(host, pages);
	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			const struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->small && bar->next.placed &&
			    (bar->next.direct != bar->now.direct ||
			     strcmp(bar->next.reason, bar->now.reason)))
				return true;
		}
	}
	return false;
}
