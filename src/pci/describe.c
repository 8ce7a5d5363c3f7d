/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Capabilities in words (PCI 3.0, 6.7 and appendix H; PCIe 4.0, 7.5 to 7.9). The bytes may be
 * anything: each list is as long as it can be without a loop, at most.
 */
#include <stdio.h>
#include <string.h>

#include "pci/registers.h"

#include <viaduct/pci.h>

#define STANDARD_MAX ((PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / 4)
#define EXTENDED_MAX ((PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8)

static const char *const standard_names[] = {
	[PCI_CAP_ID_PM] = "power management",
	[PCI_CAP_ID_AGP] = "AGP",
	[PCI_CAP_ID_VPD] = "vital product data",
	[PCI_CAP_ID_SLOTID] = "slot identification",
	[PCI_CAP_ID_MSI] = "MSI",
	[PCI_CAP_ID_CHSWP] = "CompactPCI hot swap",
	[PCI_CAP_ID_PCIX] = "PCI-X",
	[PCI_CAP_ID_HT] = "HyperTransport",
	[PCI_CAP_ID_VNDR] = "vendor specific",
	[PCI_CAP_ID_DBG] = "debug port",
	[PCI_CAP_ID_SHPC] = "hot plug controller",
	[PCI_CAP_ID_SSVID] = "subsystem of a bridge",
	[PCI_CAP_ID_EXP] = "PCI Express",
	[PCI_CAP_ID_MSIX] = "MSI-X",
	[PCI_CAP_ID_SATA] = "SATA",
	[PCI_CAP_ID_AF] = "advanced features",
	[PCI_CAP_ID_EA] = "enhanced allocation",
};

static const char *const extended_names[] = {
	[PCI_EXT_CAP_ID_ERR] = "advanced error reporting",
	[PCI_EXT_CAP_ID_VC] = "virtual channel",
	[PCI_EXT_CAP_ID_DSN] = "serial number",
	[PCI_EXT_CAP_ID_PWR] = "power budgeting",
	[PCI_EXT_CAP_ID_VNDR] = "vendor specific",
	[PCI_EXT_CAP_ID_ACS] = "access control services",
	[PCI_EXT_CAP_ID_ARI] = "alternative routing ID",
	[PCI_EXT_CAP_ID_ATS] = "address translation services",
	[PCI_EXT_CAP_ID_SRIOV] = "SR-IOV",
	[PCI_EXT_CAP_ID_REBAR] = "resizable BAR",
	[PCI_EXT_CAP_ID_LTR] = "latency tolerance reporting",
	[PCI_EXT_CAP_ID_SECPCI] = "secondary PCI Express",
	[PCI_EXT_CAP_ID_PASID] = "process address space ID",
	[PCI_EXT_CAP_ID_DPC] = "downstream port containment",
	[PCI_EXT_CAP_ID_L1SS] = "L1 substates",
	[PCI_EXT_CAP_ID_PTM] = "precision time measurement",
};

#define NAMED(names, id) ((id) < sizeof(names) / sizeof(*(names)) ? (names)[id] : NULL)

static bool is_set(unsigned value, unsigned bit)
{
	return value & bit;
}

static char sign(bool on)
{
	return on ? '+' : '-';
}

/* ---- what registers say: @left bytes of the capability are there ---- */

static void tell_power(const uint8_t *at, size_t left, char *text, size_t room)
{
	if (left >= VD_PCI_PM_BYTES)
		snprintf(text, room, "version %u, D%u", vd_pci_get16(at + PCI_PM_PMC) & 7,
			 vd_pci_get16(at + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK);
}

static void tell_msi(const uint8_t *at, size_t left, char *text, size_t room)
{
	unsigned flags;

	if (left < 4)
		return;
	flags = vd_pci_get16(at + PCI_MSI_FLAGS);
	snprintf(text, room, "%u vectors, enable%c, 64 bits%c, maskable%c",
		 1u << ((flags & PCI_MSI_FLAGS_QMASK) >> 1),
		 sign(is_set(flags, PCI_MSI_FLAGS_ENABLE)),
		 sign(is_set(flags, PCI_MSI_FLAGS_64BIT)),
		 sign(is_set(flags, PCI_MSI_FLAGS_MASKBIT)));
}

static void tell_msix(const uint8_t *at, size_t left, char *text, size_t room)
{
	unsigned flags;
	uint32_t table, pba;

	if (left < VD_PCI_MSIX_BYTES)
		return;
	flags = vd_pci_get16(at + PCI_MSIX_FLAGS);
	table = vd_pci_get32(at + PCI_MSIX_TABLE);
	pba = vd_pci_get32(at + PCI_MSIX_PBA);
	snprintf(text, room,
		 "%u vectors, enable%c, masked%c, table in BAR %u at 0x%x, pending bits in BAR %u "
		 "at 0x%x", (flags & PCI_MSIX_FLAGS_QSIZE) + 1,
		 sign(is_set(flags, PCI_MSIX_FLAGS_ENABLE)),
		 sign(is_set(flags, PCI_MSIX_FLAGS_MASKALL)), table & PCI_MSIX_TABLE_BIR,
		 table & PCI_MSIX_TABLE_OFFSET, pba & PCI_MSIX_PBA_BIR, pba & PCI_MSIX_PBA_OFFSET);
}

static void tell_express(const uint8_t *at, size_t left, char *text, size_t room)
{
	static const char *const types[16] = {
		"endpoint", "legacy endpoint", NULL, NULL, "root port", "upstream port",
		"downstream port", "bridge to PCI", "bridge to PCI Express",
		"endpoint in the root complex", "event collector",
	};
	unsigned flags;
	const char *type;

	if (left < 8)
		return;
	flags = vd_pci_get16(at + PCI_EXP_FLAGS);
	type = types[(flags & PCI_EXP_FLAGS_TYPE) >> 4];
	snprintf(text, room, "version %u, %s, function reset%c", flags & PCI_EXP_FLAGS_VERS,
		 type ? type : "unknown type",
		 sign(vd_pci_get32(at + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR));
}

static void tell_vendor(const uint8_t *at, size_t left, char *text, size_t room)
{
	if (left >= 3)
		snprintf(text, room, "%u bytes", at[2]);
}

static void tell_sriov(const uint8_t *at, size_t left, char *text, size_t room)
{
	if (left >= 0x40)
		snprintf(text, room, "%u of %u virtual functions",
			 vd_pci_get16(at + PCI_SRIOV_NUM_VF),
			 vd_pci_get16(at + PCI_SRIOV_TOTAL_VF));
}

static void tell_serial(const uint8_t *at, size_t left, char *text, size_t room)
{
	if (left >= 12)
		snprintf(text, room, "%08x%08x", vd_pci_get32(at + 8), vd_pci_get32(at + 4));
}

static void describe_standard(struct vd_pci_capability_info *info, const uint8_t *at, size_t left)
{
	info->name = NAMED(standard_names, info->id);
	if (info->id == PCI_CAP_ID_PM)
		tell_power(at, left, info->text, sizeof(info->text));
	else if (info->id == PCI_CAP_ID_MSI)
		tell_msi(at, left, info->text, sizeof(info->text));
	else if (info->id == PCI_CAP_ID_MSIX)
		tell_msix(at, left, info->text, sizeof(info->text));
	else if (info->id == PCI_CAP_ID_EXP)
		tell_express(at, left, info->text, sizeof(info->text));
	else if (info->id == PCI_CAP_ID_VNDR)
		tell_vendor(at, left, info->text, sizeof(info->text));
}

static void describe_extended(struct vd_pci_capability_info *info, const uint8_t *at, size_t left)
{
	info->name = NAMED(extended_names, info->id);
	if (info->id == PCI_EXT_CAP_ID_SRIOV)
		tell_sriov(at, left, info->text, sizeof(info->text));
	else if (info->id == PCI_EXT_CAP_ID_DSN)
		tell_serial(at, left, info->text, sizeof(info->text));
}

/* ---- the lists ---- */

static int each_standard(const uint8_t *config, size_t length,
			 int (*fn)(void *context, const struct vd_pci_capability_info *info),
			 void *context)
{
	size_t end = length < PCI_CFG_SPACE_SIZE ? length : PCI_CFG_SPACE_SIZE;
	unsigned at;
	int rc = 0;

	if (length < PCI_STD_HEADER_SIZEOF ||
	    !(vd_pci_get16(config + PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;
	at = config[PCI_CAPABILITY_LIST] & ~3u;
	for (unsigned i = 0;
	     i < STANDARD_MAX && at >= PCI_STD_HEADER_SIZEOF && at + 4 <= end && !rc; i++) {
		struct vd_pci_capability_info info = {.id = config[at], .offset = at};

		if (info.id == 0xff)
			break;
		describe_standard(&info, config + at, end - at);
		rc = fn(context, &info);
		at = config[at + PCI_CAP_LIST_NEXT] & ~3u;
	}
	return rc;
}

static int each_extended(const uint8_t *config, size_t length,
			 int (*fn)(void *context, const struct vd_pci_capability_info *info),
			 void *context)
{
	size_t end = length < PCI_CFG_SPACE_EXP_SIZE ? length : PCI_CFG_SPACE_EXP_SIZE;
	unsigned at = PCI_CFG_SPACE_SIZE;
	int rc = 0;

	for (unsigned i = 0; i < EXTENDED_MAX && at >= PCI_CFG_SPACE_SIZE && at + 4 <= end && !rc;
	     i++) {
		uint32_t header = vd_pci_get32(config + at);
		struct vd_pci_capability_info info = {
			.extended = true, .id = (uint16_t)PCI_EXT_CAP_ID(header), .offset = at};

		if (!header || header == UINT32_MAX)
			break;
		describe_extended(&info, config + at, end - at);
		rc = fn(context, &info);
		at = PCI_EXT_CAP_NEXT(header);
	}
	return rc;
}

int vd_pci_each_capability(const uint8_t *config, size_t length,
			   int (*fn)(void *context, const struct vd_pci_capability_info *info),
			   void *context)
{
	int rc = each_standard(config, length, fn, context);

	return rc ? rc : each_extended(config, length, fn, context);
}

/* ---- MSI-X ---- */

struct search {
	unsigned offset;
};

static int find_msix(void *context, const struct vd_pci_capability_info *info)
{
	struct search *search = context;

	if (info->extended || info->id != PCI_CAP_ID_MSIX)
		return 0;
	search->offset = info->offset;
	return 1;
}

void vd_pci_find_msix(const uint8_t *config, size_t length, struct vd_pci_msix_place *place)
{
	struct search search = {0};
	const uint8_t *at;
	uint32_t table, pba;

	*place = (struct vd_pci_msix_place){0};
	if (!vd_pci_each_capability(config, length, find_msix, &search) ||
	    length - search.offset < VD_PCI_MSIX_BYTES)
		return;
	at = config + search.offset;
	table = vd_pci_get32(at + PCI_MSIX_TABLE);
	pba = vd_pci_get32(at + PCI_MSIX_PBA);
	place->vectors = (vd_pci_get16(at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	place->table_bar = table & PCI_MSIX_TABLE_BIR;
	place->pba_bar = pba & PCI_MSIX_PBA_BIR;
	place->table = (struct vd_region_area){table & PCI_MSIX_TABLE_OFFSET,
					       vd_pci_msix_table_size(place->vectors)};
	place->pba = (struct vd_region_area){pba & PCI_MSIX_PBA_OFFSET,
					     vd_pci_msix_pba_size(place->vectors)};
}
