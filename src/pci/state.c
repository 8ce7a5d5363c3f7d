/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bridge's half of a saved machine: MSI, MSI-X tables, and which of the BARs that are in each
 * other's way had the place. Everything else the functions' own configuration space says. A stream
 * is hostile: it is gone through once to check it, and again to take it over.
 */
#include "pci/host.h"

#define STATE_MAGIC UINT64_C(0x3254534f48494350) /* "PCIHOST2" */

static void lock(struct vd_pci_host *host)
{
	host->env->lock(host->env, &host->lock);
}

static void unlock(struct vd_pci_host *host)
{
	host->env->unlock(host->env, &host->lock);
}

static unsigned count_seats(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;
	unsigned count = 0;

	vd_pci_each_seat (host, seat)
		count++;
	return count;
}

int vd_pci_host_save(struct vd_pci_host *host, struct vd_stream *stream)
{
	struct vd_pci_seat *seat;

	lock(host);
	vd_stream_put_u64(stream, STATE_MAGIC);
	vd_stream_put_u64(stream, count_seats(host));
	vd_pci_each_seat (host, seat) {
		vd_stream_put_u64(stream, seat->slot);
		for (unsigned i = 0; i < VD_PCI_BARS; i++) {
			vd_stream_put_u64(stream, seat->bars[i].size);
			vd_stream_put_u64(stream, seat->bars[i].now.placed);
		}
		vd_pci_msix_save(&seat->msix, stream);
		vd_pci_msi_save(&seat->msi, stream);
	}
	unlock(host);
	return stream->failed ? -ENOMEM : 0;
}

/* One seat's part. @take: else only looked at. */
static int load_seat(struct vd_pci_host *host, struct vd_stream *stream, bool take,
		     struct vd_error *error)
{
	uint64_t slot = vd_stream_get_u64(stream);
	struct vd_pci_seat *seat = slot < VD_PCI_SLOTS ? host->seats[slot] : NULL;

	if (!seat || stream->failed)
		return vd_error_set(error, -EINVAL, "PCI: there is no device in slot %llu",
				    (unsigned long long)slot);
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		uint64_t size = vd_stream_get_u64(stream), placed = vd_stream_get_u64(stream);

		if (stream->failed || size != seat->bars[i].size || placed > (size != 0))
			return vd_error_set(error, -EINVAL, "PCI: BAR %u of slot %llu (%s) is "
					    "another one", i, (unsigned long long)slot,
					    vd_device_name(seat->device));
		if (take && placed)
			vd_pci_map_claim(seat, i);
	}
	if (!vd_pci_msix_load(&seat->msix, stream, take) ||
	    !vd_pci_msi_load(&seat->msi, stream, take))
		return vd_error_set(error, -EINVAL, "PCI: the interrupts of slot %llu (%s) are bad",
				    (unsigned long long)slot, vd_device_name(seat->device));
	return 0;
}

static int load_seats(struct vd_pci_host *host, struct vd_stream *stream, bool take,
		      struct vd_error *error)
{
	uint64_t count;
	int rc = 0;

	if (vd_stream_get_u64(stream) != STATE_MAGIC)
		return vd_error_set(error, -EINVAL, "PCI: this is no state of a host bridge");
	count = vd_stream_get_u64(stream);
	if (count != count_seats(host))
		return vd_error_set(error, -EINVAL, "PCI: %llu devices were plugged, not %u",
				    (unsigned long long)count, count_seats(host));
	for (; count && !rc; count--)
		rc = load_seat(host, stream, take, error);
	return rc;
}

/* Before anything is taken: what lies where, as the functions' registers say by now. */
static int leave_all(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;
	int rc = 0;

	vd_pci_each_seat (host, seat) {
		rc = vd_pci_map_leave(seat, NULL);
		if (rc)
			return rc;
	}
	vd_pci_each_seat (host, seat)
		vd_pci_refresh(seat);
	return 0;
}

int vd_pci_host_load(struct vd_pci_host *host, struct vd_stream *stream, struct vd_error *error)
{
	size_t start = stream->position;
	int rc;

	lock(host);
	rc = load_seats(host, stream, false, error);
	if (!rc) {
		rc = leave_all(host);
		if (rc)
			vd_error_set(error, rc, "PCI: no memory to move BARs");
	}
	if (!rc) {
		stream->position = start;
		(void)load_seats(host, stream, true, NULL);
		/* Those that had their place first; the others as they can. */
		(void)vd_pci_map_apply(host);
		vd_pci_map_sync(host);
	}
	unlock(host);
	return rc;
}
