/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The windows as slots: parts of BARs, and gaps between them that read as all ones. Everything in
 * the windows is put there by this file, so no BAR can come to lie over anything but another BAR,
 * and that is looked for here.
 */
#include <endian.h>
#include <string.h>

#include "pci/host.h"

static const char absent_off[] = "memory decoding is off";
static const char absent_outside[] = "its address is outside the windows";
static const char absent_conflict[] = "another BAR is there";
static const char absent_failed[] = "no memory or slots left";

/* ---- what the guest's accesses reach; without the bridge lock ---- */

static int gap_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	struct vd_pci_host *host = context;

	(void)offset;
	(void)length;
	atomic_fetch_add_explicit(&host->absent_reads, 1, memory_order_relaxed);
	*value = UINT64_MAX;
	return 0;
}

static int gap_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context;
	(void)offset;
	(void)length;
	(void)value;
	return 0;
}

static const struct vd_trap_ops gap_ops = {gap_read, gap_write};

static int part_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	const struct vd_pci_part *part = context;
	/* An error of the device is all ones to a PCI bus, and no fault. */
	uint64_t bytes = UINT64_MAX;

	offset += part->plan.offset;
	if (vd_pci_msix_covers(&part->seat->msix, part->bar, offset, length)) {
		*value = vd_pci_msix_read(&part->seat->msix, part->bar, offset, length);
		return 0;
	}
	(void)vd_device_read(part->seat->device, part->bar, (vd_region_offset){offset}, &bytes,
			     length);
	*value = le64toh(bytes) & UINT64_MAX >> (64 - 8 * length);
	return 0;
}

static int part_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	const struct vd_pci_part *part = context;
	uint64_t bytes = htole64(value);

	offset += part->plan.offset;
	if (vd_pci_msix_covers(&part->seat->msix, part->bar, offset, length)) {
		vd_pci_msix_write(&part->seat->msix, part->bar, offset, length, value);
		return 0;
	}
	(void)vd_device_write(part->seat->device, part->bar, (vd_region_offset){offset}, &bytes,
			      length);
	return 0;
}

static const struct vd_trap_ops part_ops = {part_read, part_write};

/* ---- one update ---- */

static bool stays(const struct vd_pci_guest_bar *bar)
{
	return bar->now.placed && bar->next.placed && bar->now.base == bar->next.base;
}

/* Whether its slots are the same afterwards; a direct small one has none of its own. */
static bool keeps_slots(const struct vd_pci_guest_bar *bar)
{
	return stays(bar) && (!bar->small || (bar->now.direct == bar->next.direct &&
					      !strcmp(bar->now.reason, bar->next.reason)));
}

static int add_part(struct vd_mem_update *update, const struct vd_pci_guest_bar *bar,
		    struct vd_pci_part *part)
{
	struct vd_slot_config slot = {
		.base = {bar->next.base + part->plan.offset},
		.size = part->plan.size,
		.kind = VD_SLOT_TRAP,
		.ops = &part_ops,
		.context = part,
		.reason = bar->small ? bar->words[!bar->word] : part->plan.reason,
		.name = vd_device_name(part->seat->device),
	};

	if (part->plan.why == VD_PCI_DIRECT) {
		slot.kind = VD_SLOT_DEVICE;
		slot.ops = NULL;
		slot.context = NULL;
		slot.object = part->object;
		slot.offset = part->object_offset;
	}
	return vd_mem_add(update, &slot, &part->next_id, NULL);
}

static int change_bar(struct vd_mem_update *update, struct vd_pci_guest_bar *bar, bool adding)
{
	int rc = 0;

	if (keeps_slots(bar))
		return 0;
	/* The slots of now go on showing the other words until they have left. */
	if (adding && bar->small)
		memcpy(bar->words[!bar->word], bar->next.reason, sizeof(bar->words[0]));
	for (unsigned i = 0; i < bar->part_count && !rc; i++) {
		if (adding && bar->next.placed && !bar->next.direct)
			rc = add_part(update, bar, &bar->parts[i]);
		else if (!adding && bar->now.placed && !bar->now.direct)
			rc = vd_mem_remove(update, bar->parts[i].id);
	}
	return rc;
}

static int change_bars(struct vd_pci_host *host, struct vd_mem_update *update, bool adding)
{
	struct vd_pci_seat *seat;
	int rc = 0;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS && !rc; i++)
			rc = change_bar(update, &seat->bars[i], adding);
	}
	return rc;
}

/* What of the next placement has slots. */
struct plan {
	unsigned page_count, gap_count;
	struct vd_pci_page pages[VD_PCI_PAGES_MAX];
	struct vd_pci_gap gaps[VD_PCI_GAPS_MAX];
};

/* The first BAR or page at or behind @position, below @end; size 0: there is none. */
static struct vd_region_area next_thing(struct vd_pci_host *host, const struct plan *plan,
					uint64_t position, uint64_t end)
{
	struct vd_region_area found = {end, 0};
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			const struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->next.placed && !bar->next.direct && bar->next.base >= position &&
			    bar->next.base < found.offset)
				found = (struct vd_region_area){bar->next.base, bar->size};
		}
	}
	for (unsigned i = 0; i < plan->page_count; i++)
		if (plan->pages[i].base >= position && plan->pages[i].base < found.offset)
			found = (struct vd_region_area){plan->pages[i].base, host->page};
	return found;
}

/* What the windows hold besides. Return: number of gaps. */
static unsigned find_gaps(struct vd_pci_host *host, struct plan *plan)
{
	struct vd_pci_gap *gaps = plan->gaps;
	unsigned count = 0;

	for (unsigned i = 0; i < VD_PCI_WINDOWS; i++) {
		uint64_t position = host->windows[i].offset;
		uint64_t end = position + host->windows[i].size;

		while (position < end) {
			struct vd_region_area thing = next_thing(host, plan, position, end);
			uint64_t stop = thing.offset;

			if (stop > position) {
				vd_assert(count < VD_PCI_GAPS_MAX);
				gaps[count++] = (struct vd_pci_gap){position, stop - position, 0};
			}
			position = stop + thing.size;
		}
	}
	return count;
}

static const struct vd_pci_gap *same_gap(const struct vd_pci_gap *gaps, unsigned count,
					 const struct vd_pci_gap *gap)
{
	for (unsigned i = 0; i < count; i++)
		if (gaps[i].base == gap->base && gaps[i].size == gap->size)
			return &gaps[i];
	return NULL;
}

static int remove_gaps(struct vd_pci_host *host, struct vd_mem_update *update,
		       const struct vd_pci_gap *next, unsigned next_count)
{
	int rc = 0;

	for (unsigned i = 0; i < host->gap_count && !rc; i++)
		if (!same_gap(next, next_count, &host->gaps[i]))
			rc = vd_mem_remove(update, host->gaps[i].id);
	return rc;
}

static int add_gaps(struct vd_pci_host *host, struct vd_mem_update *update, struct vd_pci_gap *next,
		    unsigned next_count)
{
	int rc = 0;

	for (unsigned i = 0; i < next_count && !rc; i++) {
		const struct vd_pci_gap *old = same_gap(host->gaps, host->gap_count, &next[i]);
		struct vd_slot_config slot = {
			.base = {next[i].base},
			.size = next[i].size,
			.kind = VD_SLOT_TRAP,
			.ops = &gap_ops,
			.context = host,
			.reason = "no BAR is here",
			.name = "PCI window",
		};

		if (old)
			next[i].id = old->id;
		else
			rc = vd_mem_add(update, &slot, &next[i].id, NULL);
	}
	return rc;
}

static const struct vd_pci_page *same_page(const struct vd_pci_page *pages, unsigned count,
					   const struct vd_pci_page *page)
{
	for (unsigned i = 0; i < count; i++)
		if (pages[i].base == page->base && pages[i].object == page->object &&
		    pages[i].offset == page->offset)
			return &pages[i];
	return NULL;
}

static int remove_pages(struct vd_pci_host *host, struct vd_mem_update *update,
			const struct plan *plan)
{
	int rc = 0;

	for (unsigned i = 0; i < host->page_count && !rc; i++)
		if (!same_page(plan->pages, plan->page_count, &host->pages[i]))
			rc = vd_mem_remove(update, host->pages[i].id);
	return rc;
}

static int add_pages(struct vd_pci_host *host, struct vd_mem_update *update, struct plan *plan)
{
	int rc = 0;

	for (unsigned i = 0; i < plan->page_count && !rc; i++) {
		struct vd_pci_page *page = &plan->pages[i];
		const struct vd_pci_page *old = same_page(host->pages, host->page_count, page);
		struct vd_slot_config slot = {
			.base = {page->base},
			.size = host->page,
			.kind = VD_SLOT_DEVICE,
			.object = page->object,
			.offset = page->offset,
			.name = vd_host_object_name(page->object),
		};

		if (old)
			page->id = old->id;
		else
			rc = vd_mem_add(update, &slot, &page->id, NULL);
	}
	return rc;
}

/* After the commit: what was next is now. */
static void settle(struct vd_pci_host *host, const struct plan *plan)
{
	uint64_t direct = plan->page_count * host->page;
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];
			bool moved = !stays(bar), changed = !keeps_slots(bar);

			host->stats.removed += moved && bar->now.placed;
			host->stats.placed += moved && bar->next.placed;
			bar->now = bar->next;
			if (changed && bar->small && bar->now.placed && !bar->now.direct)
				bar->word = !bar->word;
			for (unsigned k = 0; k < bar->part_count; k++) {
				if (changed)
					bar->parts[k].id = bar->parts[k].next_id;
				if (bar->now.placed && bar->parts[k].plan.why == VD_PCI_DIRECT)
					direct += bar->parts[k].plan.size;
			}
		}
	}
	memcpy(host->gaps, plan->gaps, plan->gap_count * sizeof(*plan->gaps));
	host->gap_count = plan->gap_count;
	memcpy(host->pages, plan->pages, plan->page_count * sizeof(*plan->pages));
	host->page_count = plan->page_count;
	atomic_store_explicit(&host->direct_pages, direct / host->page, memory_order_relaxed);
}

static void give_up(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++)
			seat->bars[i].next = seat->bars[i].now;
	}
}

/* What leaves first, so that others may have its place. */
static int change_slots(struct vd_pci_host *host, struct vd_mem_update *update, struct plan *plan)
{
	int rc = remove_gaps(host, update, plan->gaps, plan->gap_count);

	if (!rc)
		rc = remove_pages(host, update, plan);
	if (!rc)
		rc = change_bars(host, update, false);
	if (!rc)
		rc = add_gaps(host, update, plan->gaps, plan->gap_count);
	if (!rc)
		rc = add_pages(host, update, plan);
	if (!rc)
		rc = change_bars(host, update, true);
	return rc;
}

int vd_pci_map_apply(struct vd_pci_host *host)
{
	struct vd_mem_update *update;
	struct plan plan;
	int rc = vd_mem_begin(host->config.mem, &update);

	if (rc) {
		give_up(host);
		return rc;
	}
	plan.page_count = vd_pci_pages_plan(host, plan.pages);
	plan.gap_count = find_gaps(host, &plan);
	rc = change_slots(host, update, &plan);
	if (rc) {
		vd_mem_abort(update);
		give_up(host);
		return rc;
	}
	vd_mem_commit(update);
	settle(host, &plan);
	return 0;
}

/* ---- from registers to placements ---- */

int vd_pci_map_leave(struct vd_pci_seat *seat, const struct vd_pci_decode *decode)
{
	bool any = false;

	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		struct vd_pci_guest_bar *bar = &seat->bars[i];
		uint64_t base = 0;
		bool on = decode && vd_pci_decoded(seat, decode, i, &base);

		if (bar->now.placed && !(on && base == bar->now.base)) {
			bar->next.placed = false;
			any = true;
		}
	}
	return any ? vd_pci_map_apply(seat->host) : 0;
}

static bool is_free(struct vd_pci_host *host, uint64_t base, uint64_t size)
{
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			const struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->next.placed &&
			    vd_ranges_overlap(bar->next.base, bar->size, base, size))
				return false;
		}
	}
	return true;
}

/* Why a BAR that is not placed cannot be; NULL if it can, then @next says where. */
static const char *try_bar(struct vd_pci_seat *seat, unsigned i)
{
	struct vd_pci_host *host = seat->host;
	struct vd_pci_guest_bar *bar = &seat->bars[i];
	uint64_t base;

	if (!vd_pci_decoded(seat, &seat->decode, i, &base))
		return absent_off;
	if (!vd_pci_in_window(host, base, bar->size))
		return absent_outside;
	if (!is_free(host, base, bar->size))
		return absent_conflict;
	bar->next = (struct vd_pci_placement){.placed = true, .base = base};
	return NULL;
}

void vd_pci_map_claim(struct vd_pci_seat *seat, unsigned bar)
{
	if (seat->bars[bar].size && !seat->bars[bar].next.placed)
		(void)try_bar(seat, bar);
}

static void note_absent(struct vd_pci_host *host, struct vd_pci_guest_bar *bar, const char *why)
{
	if (bar->absent != why) {
		host->stats.outside += why == absent_outside;
		host->stats.conflicts += why == absent_conflict;
		host->stats.failed += why == absent_failed;
	}
	bar->absent = why;
}

/*
 * Those whose registers moved away leave, so that others may have their place. Return: whether
 * anything changes.
 */
static bool plan_leaving(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;
	bool any = false;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];
			uint64_t base;

			if (bar->now.placed && !(vd_pci_decoded(seat, &seat->decode, i, &base) &&
						 base == bar->now.base)) {
				bar->next.placed = false;
				any = true;
			}
		}
	}
	return any;
}

/* First come, first served: what is placed stays; the others are tried in order. */
static bool plan_arriving(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;
	bool any = false;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (!bar->size || bar->next.placed)
				continue;
			note_absent(host, bar, try_bar(seat, i));
			any |= bar->next.placed;
		}
	}
	return any;
}

static void note_failure(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->size && !bar->now.placed && !bar->absent)
				note_absent(host, bar, absent_failed);
		}
	}
}

void vd_pci_map_sync(struct vd_pci_host *host)
{
	bool any = plan_leaving(host);

	any |= plan_arriving(host);
	if ((any || vd_pci_pages_stale(host)) && vd_pci_map_apply(host))
		note_failure(host);
}
