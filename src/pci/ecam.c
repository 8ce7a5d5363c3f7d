/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration accesses (PCIe 4.0, 7.2.2). What a write will do to BARs is worked out first, and
 * what will not stay where it is leaves every mirror before the device sees the write; afterwards
 * the device's own registers decide.
 */
#include <string.h>

#include "pci/host.h"

static void lock(struct vd_pci_host *host)
{
	host->env->lock(host->env, &host->lock);
}

static void unlock(struct vd_pci_host *host)
{
	host->env->unlock(host->env, &host->lock);
}

static int config_read(struct vd_pci_seat *seat, uint64_t offset, void *data, size_t length)
{
	return vd_device_read(seat->device, VD_REGION_CONFIG, (vd_region_offset){offset}, data,
			      length);
}

static int config_write(struct vd_pci_seat *seat, uint64_t offset, const void *data, size_t length)
{
	return vd_device_write(seat->device, VD_REGION_CONFIG, (vd_region_offset){offset}, data,
			       length);
}

/* ---- registers that decide about BARs ---- */

static unsigned power_register(const struct vd_pci_seat *seat)
{
	return seat->power + PCI_PM_CTRL;
}

static bool decides(const struct vd_pci_seat *seat, uint64_t offset, unsigned length)
{
	return vd_pci_touches(offset, length, PCI_COMMAND, 2) ||
	       vd_pci_touches(offset, length, PCI_BASE_ADDRESS_0, 4 * VD_PCI_BARS) ||
	       (seat->power && vd_pci_touches(offset, length, power_register(seat), 2));
}

/* The registers as they will be if the device takes every bit. */
static struct vd_pci_decode predict(const struct vd_pci_seat *seat, uint64_t offset,
				    const uint8_t *data, unsigned length)
{
	struct vd_pci_decode decode = seat->decode;

	for (unsigned i = 0; i < length; i++) {
		uint64_t at = offset + i;

		if (at < sizeof(decode.header))
			decode.header[at] = data[i];
		else if (seat->power && at >= power_register(seat) &&
			 at - power_register(seat) < sizeof(decode.power))
			decode.power[at - power_register(seat)] = data[i];
	}
	return decode;
}

/* A device that cannot be read sends nothing. */
static void refresh_msi(struct vd_pci_seat *seat)
{
	uint8_t registers[VD_PCI_MSI_BYTES] = {0};

	if (!seat->msi.count)
		return;
	if (config_read(seat, seat->msi.capability, registers, vd_pci_msi_bytes(seat->msi.control)))
		memset(registers, 0, sizeof(registers));
	vd_pci_msi_update(&seat->msi, registers);
}

void vd_pci_refresh(struct vd_pci_seat *seat)
{
	struct vd_pci_decode decode = {0};
	bool bus_master;

	/* A failed read is all ones, which would enable everything. */
	if (config_read(seat, 0, decode.header, sizeof(decode.header)) ||
	    (seat->power && config_read(seat, power_register(seat), decode.power,
					sizeof(decode.power))))
		vd_pci_put16(decode.header + PCI_COMMAND, 0);
	seat->decode = decode;
	bus_master = decode.header[PCI_COMMAND] & PCI_COMMAND_MASTER;
	vd_pci_msix_bus_master(&seat->msix, bus_master);
	vd_pci_msi_bus_master(&seat->msi, bus_master);
	refresh_msi(seat);
}

int vd_pci_write_homes(struct vd_pci_seat *seat)
{
	uint8_t bytes[8] = {0};
	int rc = config_write(seat, PCI_COMMAND, bytes, 2);

	for (unsigned i = 0; i < VD_PCI_BARS && !rc; i++) {
		const struct vd_pci_guest_bar *bar = &seat->bars[i];

		if (!bar->size)
			continue;
		vd_pci_put32(bytes, (uint32_t)bar->home);
		vd_pci_put32(bytes + 4, (uint32_t)(bar->home >> 32));
		rc = config_write(seat, PCI_BASE_ADDRESS_0 + 4 * i, bytes, bar->is_64 ? 8 : 4);
	}
	return rc;
}

/* ---- writes ---- */

/*
 * Something is short or busy in the host: the guest keeps what it has, and the device what it had.
 */
static void drop_write(struct vd_pci_host *host)
{
	host->stats.config_dropped++;
	if (host->env->log)
		host->env->log(host->env, VD_LOG_WARNING,
			       "PCI: a configuration write could not be carried out");
}

static bool asks_for_reset(const struct vd_pci_seat *seat, uint64_t offset, const uint8_t *data,
			   unsigned length)
{
	uint64_t at = seat->express + PCI_EXP_DEVCTL + 1;

	return seat->resettable && at >= offset && at - offset < length &&
	       data[at - offset] & PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

static void function_reset(struct vd_pci_seat *seat)
{
	struct vd_pci_host *host = seat->host;

	if (vd_pci_map_leave(seat, NULL)) {
		drop_write(host);
		return;
	}
	if (vd_device_reset(seat->device, VD_RESET_FUNCTION)) {
		drop_write(host);
	} else {
		host->stats.function_resets++;
		vd_pci_msix_reset(&seat->msix);
		vd_pci_msi_reset(&seat->msi);
	}
	vd_pci_refresh(seat);
	vd_pci_map_sync(host);
}

static void update_msix(struct vd_pci_seat *seat, uint64_t offset, const uint8_t *data,
			unsigned length)
{
	uint64_t at = seat->msix.capability + PCI_MSIX_FLAGS + 1;

	if (seat->msix.count && at >= offset && at - offset < length)
		vd_pci_msix_control(&seat->msix, data[at - offset]);
}

static bool touches_msi(const struct vd_pci_seat *seat, uint64_t offset, unsigned length)
{
	return seat->msi.count && vd_pci_touches(offset, length, seat->msi.capability,
						 vd_pci_msi_bytes(seat->msi.control));
}

static void seat_write(struct vd_pci_seat *seat, uint64_t offset, const uint8_t *data,
		       unsigned length)
{
	bool deciding = decides(seat, offset, length);

	if (asks_for_reset(seat, offset, data, length)) {
		function_reset(seat);
		return;
	}
	if (deciding) {
		struct vd_pci_decode decode = predict(seat, offset, data, length);

		if (vd_pci_map_leave(seat, &decode)) {
			drop_write(seat->host);
			return;
		}
	}
	/* Should the device refuse, its registers tell. */
	(void)config_write(seat, offset, data, length);
	update_msix(seat, offset, data, length);
	if (touches_msi(seat, offset, length))
		refresh_msi(seat);
	if (deciding) {
		vd_pci_refresh(seat);
		vd_pci_map_sync(seat->host);
	}
}

/* ---- the slot ---- */

/* Who is addressed: bits 27:20 bus, 19:15 device, 14:12 function, 11:0 register. NULL if nobody. */
static struct vd_pci_seat *find_seat(struct vd_pci_host *host, uint64_t offset, unsigned length)
{
	uint64_t reg = offset & (PCI_CFG_SPACE_EXP_SIZE - 1);
	struct vd_pci_seat *seat;

	if (offset >= VD_PCI_ECAM_BUS || offset >> 12 & 7)
		return NULL;
	seat = host->seats[offset >> 15 & (VD_PCI_SLOTS - 1)];
	return seat && reg + length <= seat->config_size ? seat : NULL;
}

/* Enable and mask are the bridge's, as the table is. */
static void overlay_msix(struct vd_pci_seat *seat, uint64_t offset, uint8_t *data, unsigned length)
{
	const unsigned bits = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	uint64_t at = seat->msix.capability + PCI_MSIX_FLAGS + 1;

	if (seat->msix.count && at >= offset && at - offset < length)
		data[at - offset] = (uint8_t)((data[at - offset] & ~bits) |
					      vd_pci_msix_control_bits(&seat->msix));
}

static void overlay_msi(struct vd_pci_seat *seat, uint64_t offset, uint8_t *data, unsigned length)
{
	uint64_t at = seat->msi.capability + vd_pci_msi_bytes(seat->msi.control) - 4u;
	uint32_t pending;

	if (!touches_msi(seat, offset, length) || !(seat->msi.control & PCI_MSI_FLAGS_MASKBIT))
		return;
	pending = vd_pci_msi_pending(&seat->msi);
	for (unsigned i = 0; i < 4; i++)
		if (at + i >= offset && at + i - offset < length)
			data[at + i - offset] = (uint8_t)(pending >> i * 8);
}

static int ecam_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	struct vd_pci_host *host = context;
	struct vd_pci_seat *seat;
	uint8_t data[8];

	memset(data, 0xff, sizeof(data));
	lock(host);
	host->stats.config_reads++;
	seat = find_seat(host, offset, length);
	offset &= PCI_CFG_SPACE_EXP_SIZE - 1;
	if (seat && !config_read(seat, offset, data, length)) {
		overlay_msix(seat, offset, data, length);
		overlay_msi(seat, offset, data, length);
	}
	unlock(host);
	*value = vd_pci_get32(data) | (uint64_t)vd_pci_get32(data + 4) << 32;
	return 0;
}

static int ecam_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	struct vd_pci_host *host = context;
	struct vd_pci_seat *seat;
	uint8_t data[8];

	vd_pci_put32(data, (uint32_t)value);
	vd_pci_put32(data + 4, (uint32_t)(value >> 32));
	lock(host);
	host->stats.config_writes++;
	seat = find_seat(host, offset, length);
	if (seat)
		seat_write(seat, offset & (PCI_CFG_SPACE_EXP_SIZE - 1), data, length);
	unlock(host);
	return 0;
}

const struct vd_trap_ops vd_pci_ecam_ops = {ecam_read, ecam_write};
