/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses of BARs: those that firmware would choose, and those that the guest's registers say. */
#include "pci/host.h"

bool vd_pci_in_window(const struct vd_pci_host *host, uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < VD_PCI_WINDOWS; i++) {
		const struct vd_region_area *window = &host->windows[i];

		if (base >= window->offset && base - window->offset < window->size &&
		    size <= window->size - (base - window->offset))
			return true;
	}
	return false;
}

static uint64_t register_base(const struct vd_pci_seat *seat, const struct vd_pci_decode *decode,
			      unsigned i)
{
	const uint8_t *at = decode->header + PCI_BASE_ADDRESS_0 + 4 * i;
	const struct vd_pci_guest_bar *bar = &seat->bars[i];
	uint64_t base = vd_pci_get32(at);

	if (bar->is_64)
		base |= (uint64_t)vd_pci_get32(at + 4) << 32;
	return base & ~(bar->size - 1) & ~UINT64_C(0xf);
}

bool vd_pci_decoded(const struct vd_pci_seat *seat, const struct vd_pci_decode *decode,
		    unsigned bar, uint64_t *base)
{
	if (!seat->bars[bar].size)
		return false;
	*base = register_base(seat, decode, bar);
	/* In D3hot a function answers configuration accesses only (PCI PM 1.2, 3.2). */
	return vd_pci_get16(decode->header + PCI_COMMAND) & PCI_COMMAND_MEMORY &&
	       !(decode->power[0] & PCI_PM_CTRL_STATE_MASK);
}

/* ---- homes ---- */

/* End of some BAR, decoded or not, that is in the way of [base, base + size); 0 if none is. */
static uint64_t obstacle(struct vd_pci_host *host, const struct vd_pci_seat *arriving,
			 uint64_t base, uint64_t size)
{
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			uint64_t other, length = seat->bars[i].size;

			vd_pci_decoded(seat, &seat->decode, i, &other);
			if (length && vd_pci_in_window(host, other, length) &&
			    vd_ranges_overlap(base, size, other, length))
				return other + length;
			other = seat->bars[i].home;
			if (length && vd_ranges_overlap(base, size, other, length))
				return other + length;
		}
	}
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		const struct vd_pci_guest_bar *bar = &arriving->bars[i];

		if (bar->size && bar->home &&
		    vd_ranges_overlap(base, size, bar->home, bar->size))
			return bar->home + bar->size;
	}
	return 0;
}

/* Where a small BAR has to lie in its page so that the page can be mapped. */
static uint64_t in_page(const struct vd_pci_host *host, const struct vd_pci_guest_bar *bar)
{
	return bar->small ? bar->memory_offset & (host->page - 1) : 0;
}

/*
 * First fit. BARs smaller than a page get one to themselves, as firmware does it.
 * Return: the address, 0 if there is no room.
 */
static uint64_t find_room(struct vd_pci_host *host, const struct vd_pci_seat *seat,
			  const struct vd_region_area *window, const struct vd_pci_guest_bar *bar)
{
	uint64_t align = bar->size > host->page ? bar->size : host->page;
	uint64_t base = window->offset, end;

	if (!base)
		base = align; /* address 0 means not assigned to some guests */
	for (;;) {
		if (__builtin_add_overflow(base, align - 1, &base))
			return 0;
		base &= ~(align - 1);
		if (base < window->offset || base - window->offset >= window->size ||
		    align > window->size - (base - window->offset))
			return 0;
		end = obstacle(host, seat, base, align);
		if (!end)
			return base + in_page(host, bar);
		base = end;
	}
}

/*
 * In the page of another BAR that it shares a page of memory with: then one slot shows them all.
 * Return: the address, 0 if there is none, or its place is taken.
 */
static uint64_t find_companion(struct vd_pci_host *host, const struct vd_pci_seat *arriving,
			       const struct vd_pci_guest_bar *bar,
			       const struct vd_pci_seat *seat)
{
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		const struct vd_pci_guest_bar *other = &seat->bars[i];
		uint64_t base = (other->home & ~(host->page - 1)) + in_page(host, bar);

		if (other != bar && other->home && vd_pci_same_page(host, bar, other) &&
		    !obstacle(host, arriving, base, bar->size))
			return base;
	}
	return 0;
}

static uint64_t find_shared(struct vd_pci_host *host, const struct vd_pci_seat *arriving,
			    const struct vd_pci_guest_bar *bar)
{
	uint64_t home = bar->small ? find_companion(host, arriving, bar, arriving) : 0;
	struct vd_pci_seat *seat;

	vd_pci_each_seat (host, seat) {
		if (bar->small && !home)
			home = find_companion(host, arriving, bar, seat);
	}
	return home;
}

/*
 * 64-bit prefetchable BARs go high; others fit the high window's description only as a last resort.
 */
static uint64_t find_home(struct vd_pci_host *host, const struct vd_pci_seat *seat,
			  const struct vd_pci_guest_bar *bar)
{
	const struct vd_region_area *low = &host->windows[0], *high = &host->windows[1];
	uint64_t home = find_shared(host, seat, bar);

	if (home && (bar->is_64 || home < UINT64_C(1) << 32))
		return home;
	home = 0;
	if (bar->is_64 && bar->prefetch)
		home = find_room(host, seat, high, bar);
	if (!home)
		home = find_room(host, seat, low, bar);
	if (!home && bar->is_64)
		home = find_room(host, seat, high, bar);
	return home;
}

int vd_pci_place(struct vd_pci_host *host, struct vd_pci_seat *seat, struct vd_error *error)
{
	/* The largest first: then alignment wastes nothing. */
	for (unsigned round = 0; round < VD_PCI_BARS; round++) {
		struct vd_pci_guest_bar *next = NULL;

		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			struct vd_pci_guest_bar *bar = &seat->bars[i];

			if (bar->size && !bar->home && (!next || bar->size > next->size))
				next = bar;
		}
		if (!next)
			return 0;
		next->home = find_home(host, seat, next);
		if (!next->home)
			return vd_error_set(error, -ENOSPC,
					    "no room in the PCI windows for %s: %llu bytes",
					    vd_device_name(seat->device),
					    (unsigned long long)next->size);
	}
	return 0;
}
