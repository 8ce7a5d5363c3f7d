/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration space: type 0 header (PCI 3.0, 6.1 and 6.2), capabilities, reads and masked writes.
 */
#include <string.h>

#include "pci/config.h"

static void init16(struct vd_pci_config *space, unsigned at, unsigned value, unsigned writable)
{
	vd_pci_put16(space->initial + at, value);
	vd_pci_put16(space->writable + at, writable);
}

static void init32(struct vd_pci_config *space, unsigned at, uint32_t value, uint32_t writable)
{
	vd_pci_put32(space->initial + at, value);
	vd_pci_put32(space->writable + at, writable);
}

static void init_header(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	const struct vd_pci_identity *id = &config->identity;
	unsigned command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
			   PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE;

	init16(space, PCI_VENDOR_ID, id->vendor, 0);
	init16(space, PCI_DEVICE_ID, id->device, 0);
	init16(space, PCI_COMMAND, 0, command);
	init16(space, PCI_STATUS, PCI_STATUS_CAP_LIST, 0);
	init32(space, PCI_CLASS_REVISION, id->class_code << 8 | id->revision, 0);
	space->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	init16(space, PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor, 0);
	init16(space, PCI_SUBSYSTEM_ID, id->subsystem, 0);
	space->writable[PCI_INTERRUPT_LINE] = 0xff;
	space->initial[PCI_INTERRUPT_PIN] = config->intx;
}

/*
 * The low bits say what it is, the bits below the size cannot be set: that is how it is sized (PCI
 * 3.0, 6.2.5.1).
 */
static void init_bars(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		const struct vd_pci_bar *bar = &config->bars[i];
		unsigned at = PCI_BASE_ADDRESS_0 + 4 * i;
		uint64_t writable = ~(bar->size - 1);
		uint32_t type = 0;

		if (!bar->size)
			continue;
		if (bar->flags & VD_PCI_BAR_64)
			type |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		if (bar->flags & VD_PCI_BAR_PREFETCH)
			type |= PCI_BASE_ADDRESS_MEM_PREFETCH;
		init32(space, at, type, (uint32_t)writable);
		if (bar->flags & VD_PCI_BAR_64)
			init32(space, at + 4, 0, (uint32_t)(writable >> 32));
	}
}

/* Appends a capability to the list. Return: its offset. */
static unsigned add_capability(struct vd_pci_config *space, unsigned id, unsigned bytes)
{
	unsigned at = space->end;

	vd_assert(at + bytes <= PCI_CFG_SPACE_SIZE);
	space->initial[at + PCI_CAP_LIST_ID] = (uint8_t)id;
	space->initial[space->last ? space->last + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] =
		(uint8_t)at;
	space->last = at;
	space->end = (at + bytes + 3) & ~3u;
	return at;
}

/* D0 and D3hot. State survives the way back, so no driver has to restore it (PCI PM 1.2, 3.2.4). */
static void add_power(struct vd_pci_config *space)
{
	unsigned at = add_capability(space, PCI_CAP_ID_PM, VD_PCI_PM_BYTES);

	init16(space, at + PCI_PM_PMC, 3, 0);
	init16(space, at + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET, PCI_PM_CTRL_STATE_MASK);
	space->power = at;
}

/* Bits 14 and 15 are kept for the reader's sake: who emulates the table acts on them. */
static void add_msix(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	unsigned at = add_capability(space, PCI_CAP_ID_MSIX, VD_PCI_MSIX_BYTES);
	uint32_t page = 1u << vd_host_page_shift(config->host);
	uint32_t table = vd_pci_msix_table_size(config->msix_vectors);
	uint32_t pba = config->msix_pba ? config->msix_pba
					: config->msix_offset + ((table + page - 1) & ~(page - 1));

	init16(space, at + PCI_MSIX_FLAGS, config->msix_vectors - 1,
	       PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	init32(space, at + PCI_MSIX_TABLE, config->msix_offset | config->msix_bar, 0);
	init32(space, at + PCI_MSIX_PBA, pba | config->msix_bar, 0);
	space->msix = at;
}

/* Whoever uses the device acts on what is written, and knows what is pending. */
static void add_msi(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	unsigned control = PCI_MSI_FLAGS_64BIT, bytes = PCI_MSI_MASK_64;
	unsigned at;

	for (unsigned vectors = config->msi_vectors; vectors > 1; vectors /= 2)
		control += 1u << 1;
	if (config->msi_maskable) {
		control |= PCI_MSI_FLAGS_MASKBIT;
		bytes = VD_PCI_MSI_BYTES;
	}
	at = add_capability(space, PCI_CAP_ID_MSI, bytes);
	init16(space, at + PCI_MSI_FLAGS, control, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	init32(space, at + PCI_MSI_ADDRESS_LO, 0, ~UINT32_C(3));
	init32(space, at + PCI_MSI_ADDRESS_HI, 0, UINT32_MAX);
	init16(space, at + PCI_MSI_DATA_64, 0, 0xffff);
	if (config->msi_maskable)
		init32(space, at + PCI_MSI_MASK_64, 0, UINT32_MAX >> (32 - config->msi_vectors));
	space->msi = at;
}

/*
 * A root complex integrated endpoint: it sits on the root bus, so there is no link to describe
 * (PCIe 4.0, 7.5.3.2). Payload and read request sizes, relaxed ordering, no snoop and error
 * reporting can be written and change nothing.
 */
static void add_express(struct vd_pci_config *space)
{
	unsigned at = add_capability(space, PCI_CAP_ID_EXP, VD_PCI_EXPRESS_BYTES);
	unsigned control = PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
			   PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD |
			   PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ;

	init16(space, at + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_RC_END << 4, 0);
	init32(space, at + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR, 0);
	init16(space, at + PCI_EXP_DEVCTL,
	       PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ_512B,
	       control);
	space->express = at;
}

static void add_own(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	for (unsigned i = 0; i < config->capability_count; i++) {
		const struct vd_pci_capability *own = &config->capabilities[i];
		unsigned at = add_capability(space, own->id, own->length);

		memcpy(space->initial + at + 2, own->bytes + 2, own->length - 2);
		memcpy(space->writable + at + 2, own->writable + 2, own->length - 2);
		space->own[i] = at;
	}
}

void vd_pci_config_init(struct vd_pci_config *space, const struct vd_pci_function_config *config)
{
	*space = (struct vd_pci_config){.end = PCI_STD_HEADER_SIZEOF};
	init_header(space, config);
	init_bars(space, config);
	add_power(space);
	if (config->msix_vectors)
		add_msix(space, config);
	if (config->msi_vectors)
		add_msi(space, config);
	add_express(space);
	add_own(space, config);
	vd_pci_config_reset(space);
}

void vd_pci_config_reset(struct vd_pci_config *space)
{
	memcpy(space->bytes, space->initial, sizeof(space->bytes));
}

void vd_pci_config_read(const struct vd_pci_config *space, uint64_t offset, void *data,
			size_t length)
{
	size_t there = offset < sizeof(space->bytes) ? sizeof(space->bytes) - offset : 0;

	memset(data, 0, length);
	if (there)
		memcpy(data, space->bytes + offset, length < there ? length : there);
}

/* D1 and D2 do not exist: a request for them is taken and ignored (PCI PM 1.2, 3.2.4). */
static void settle_power(struct vd_pci_config *space, unsigned before)
{
	uint8_t *control = space->bytes + space->power + PCI_PM_CTRL;
	unsigned state = *control & PCI_PM_CTRL_STATE_MASK;

	if (state == 1 || state == 2)
		*control = (uint8_t)((*control & ~PCI_PM_CTRL_STATE_MASK) | before);
}

static void store(struct vd_pci_config *space, uint64_t offset, const uint8_t *data, size_t length)
{
	unsigned power = space->bytes[space->power + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK;

	for (size_t i = 0; i < length && offset + i < sizeof(space->bytes); i++) {
		uint8_t mask = space->writable[offset + i];
		uint8_t *byte = &space->bytes[offset + i];

		*byte = (uint8_t)((*byte & ~mask) | (data[i] & mask));
	}
	settle_power(space, power);
}

/* The bit reads as zero, so it is looked for in what is written. */
static bool asks_for_reset(const struct vd_pci_config *space, uint64_t offset, const uint8_t *data,
			   size_t length)
{
	uint64_t at = space->express + PCI_EXP_DEVCTL + 1;

	return at >= offset && at - offset < length &&
	       data[at - offset] & PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

/* The bits of the command register that somebody is told of. */
static unsigned command_events(const struct vd_pci_config *space, unsigned before)
{
	unsigned changed = vd_pci_get16(space->bytes + PCI_COMMAND) ^ before;

	return (changed & PCI_COMMAND_MASTER ? VD_PCI_EVENT_BUS_MASTER : 0) |
	       (changed & PCI_COMMAND_INTX_DISABLE ? VD_PCI_EVENT_INTX : 0);
}

unsigned vd_pci_config_write(struct vd_pci_config *space, uint64_t offset, const void *data,
			     size_t length)
{
	unsigned before = vd_pci_get16(space->bytes + PCI_COMMAND);

	if (offset >= sizeof(space->bytes))
		return 0;
	if (asks_for_reset(space, offset, data, length))
		return VD_PCI_EVENT_RESET;
	store(space, offset, data, length);
	return command_events(space, before);
}

unsigned vd_pci_config_load(struct vd_pci_config *space, const uint8_t *saved)
{
	unsigned before = vd_pci_get16(space->bytes + PCI_COMMAND);

	store(space, 0, saved, sizeof(space->bytes));
	return command_events(space, before);
}

bool vd_pci_config_bus_master(const struct vd_pci_config *space)
{
	return space->bytes[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

bool vd_pci_config_intx_disabled(const struct vd_pci_config *space)
{
	return vd_pci_get16(space->bytes + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

void vd_pci_config_interrupt(struct vd_pci_config *space, bool asserted)
{
	uint8_t *status = &space->bytes[PCI_STATUS];

	*status = (uint8_t)((*status & ~PCI_STATUS_INTERRUPT) |
			    (asserted ? PCI_STATUS_INTERRUPT : 0));
}
