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

static int add_part(struct vd_mem_update *update, const struct vd_pci_guest_bar *bar,
		    struct vd_pci_part *part)
{
	struct vd_slot_config slot = {
		.base = {bar->next.base + part->plan.offset},
		.size = part->plan.size,
		.kind = VD_SLOT_TRAP,
		.ops = &part_ops,
		.context = part,
		.reason = part->plan.reason,
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

	if (stays(bar))
		return 0;
	for (unsigned i = 0; i < bar->part_count && !rc; i++) {
		if (adding && bar->next.placed)
			rc = add_part(update, bar, &bar->parts[i]);
		else if (!adding && bar->now.placed)
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

/* The first BAR of the next placement at or behind @position, below @end. */
static const struct vd_pci_guest_bar *next_bar(struct vd_pci_host *host, uint64_t position,
					       uint64_t end)
{
	const struct vd_pci_guest_bar *found = NULL;
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			const struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->next.placed && bar->next.base >= position &&
			    bar->next.base < end && (!found || bar->next.base < found->next.base))
				found = bar;
		}
	}
	return found;
}

/* What the windows hold besides the BARs of the next placement. Return: number of gaps. */
static unsigned find_gaps(struct vd_pci_host *host, struct vd_pci_gap gaps[VD_PCI_GAPS_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < VD_PCI_WINDOWS; i++) {
		uint64_t position = host->windows[i].offset;
		uint64_t end = position + host->windows[i].size;

		while (position < end) {
			const struct vd_pci_guest_bar *bar = next_bar(host, position, end);
			uint64_t stop = bar ? bar->next.base : end;

			if (stop > position) {
				vd_assert(count < VD_PCI_GAPS_MAX);
				gaps[count++] = (struct vd_pci_gap){position, stop - position, 0};
			}
			position = bar ? stop + bar->size : end;
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

/* After the commit: what was next is now. */
static void settle(struct vd_pci_host *host, const struct vd_pci_gap *next, unsigned next_count)
{
	struct vd_pci_seat *seat;
	uint64_t direct = 0;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];
			bool changed = !stays(bar);

			host->stats.removed += changed && bar->now.placed;
			host->stats.placed += changed && bar->next.placed;
			bar->now = bar->next;
			for (unsigned k = 0; k < bar->part_count; k++) {
				if (changed)
					bar->parts[k].id = bar->parts[k].next_id;
				if (bar->now.placed && bar->parts[k].plan.why == VD_PCI_DIRECT)
					direct += bar->parts[k].plan.size;
			}
		}
	}
	memcpy(host->gaps, next, next_count * sizeof(*next));
	host->gap_count = next_count;
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

int vd_pci_map_apply(struct vd_pci_host *host)
{
	struct vd_pci_gap gaps[VD_PCI_GAPS_MAX];
	unsigned count = find_gaps(host, gaps);
	struct vd_mem_update *update;
	int rc = vd_mem_begin(host->config.mem, &update);

	if (rc) {
		give_up(host);
		return rc;
	}
	rc = remove_gaps(host, update, gaps, count);
	if (!rc)
		rc = change_bars(host, update, false);
	if (!rc)
		rc = add_gaps(host, update, gaps, count);
	if (!rc)
		rc = change_bars(host, update, true);
	if (rc) {
		vd_mem_abort(update);
		give_up(host);
		return rc;
	}
	vd_mem_commit(update);
	settle(host, gaps, count);
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
	bar->next = (struct vd_pci_placement){true, base};
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
	if (any && vd_pci_map_apply(host))
		note_failure(host);
}
