/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading a device before it is plugged in. It may be another process's or another machine's:
 * nothing it says is used before it was checked, and nothing is asked twice whose answer must stay
 * the same.
 */
#include <stdio.h>
#include <string.h>

#include "pci/host.h"

/* A list of capabilities of four bytes each cannot be longer than this without a loop. */
#define CAPABILITIES_MAX ((PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / 4)

static int refuse(const struct vd_pci_seat *seat, struct vd_error *error, const char *why)
{
	return vd_error_set(error, -EINVAL, "%s cannot be put on this bus: %s",
			    vd_device_name(seat->device), why);
}

/* ---- BARs ---- */

static int probe_bar(struct vd_pci_seat *seat, const uint8_t *header, unsigned i,
		     struct vd_error *error)
{
	const struct vd_region *region = vd_device_region(seat->device, VD_REGION_BAR0 + i);
	uint32_t type = vd_pci_get32(header + PCI_BASE_ADDRESS_0 + 4 * i);
	struct vd_pci_guest_bar *bar = &seat->bars[i];

	/* There is no window for I/O ports: such a BAR stays unreachable. */
	if (!region->size || (type & PCI_BASE_ADDRESS_SPACE_IO))
		return 0;
	if (region->size < 16 || region->size & (region->size - 1))
		return refuse(seat, error, "a BAR's size is not a power of two from 16 up");
	bar->is_64 = (type & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	bar->prefetch = type & PCI_BASE_ADDRESS_MEM_PREFETCH;
	if (bar->is_64 && (i + 1 == VD_PCI_BARS ||
			   vd_device_region(seat->device, VD_REGION_BAR0 + i + 1)->size))
		return refuse(seat, error, "a 64-bit BAR has no room for its upper half");
	if (!bar->is_64 && region->size > UINT32_C(1) << 31)
		return refuse(seat, error, "a 32-bit BAR is larger than 2 GiB");
	bar->size = region->size;
	return 0;
}

/* ---- capabilities ---- */

static bool in_bar(const struct vd_pci_seat *seat, unsigned bar, uint64_t offset, uint64_t size)
{
	return bar < VD_PCI_BARS && offset <= seat->bars[bar].size &&
	       size <= seat->bars[bar].size - offset;
}

static int probe_msix(struct vd_pci_seat *seat, const uint8_t *config, unsigned at,
		      struct vd_error *error)
{
	struct vd_pci_msix *msix = &seat->msix;
	uint32_t table = vd_pci_get32(config + at + PCI_MSIX_TABLE);
	uint32_t pba = vd_pci_get32(config + at + PCI_MSIX_PBA);
	unsigned count = (vd_pci_get16(config + at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
	uint32_t table_size = vd_pci_msix_table_size(count), pba_size = vd_pci_msix_pba_size(count);

	msix->table_bar = table & PCI_MSIX_TABLE_BIR;
	msix->table = table & PCI_MSIX_TABLE_OFFSET;
	msix->pba_bar = pba & PCI_MSIX_PBA_BIR;
	msix->pba = pba & PCI_MSIX_PBA_OFFSET;
	if (!in_bar(seat, msix->table_bar, msix->table, table_size) ||
	    !in_bar(seat, msix->pba_bar, msix->pba, pba_size))
		return refuse(seat, error, "its MSI-X table or PBA is outside its BARs");
	if (msix->table_bar == msix->pba_bar &&
	    vd_ranges_overlap(msix->table, table_size, msix->pba, pba_size))
		return refuse(seat, error, "its MSI-X table and PBA overlap");
	msix->count = count;
	msix->capability = at;
	msix->msi = seat->host->config.msi;
	msix->context = seat->host->config.context;
	msix->messages = &seat->host->messages;
	msix->dropped = &seat->host->messages_dropped;
	return 0;
}

static int probe_msi(struct vd_pci_seat *seat, const uint8_t *config, unsigned at,
		     struct vd_error *error)
{
	struct vd_pci_msi *msi = &seat->msi;
	unsigned control = vd_pci_get16(config + at + PCI_MSI_FLAGS);
	unsigned order = (control & PCI_MSI_FLAGS_QMASK) >> 1;

	if (msi->count || order > 5 || PCI_CFG_SPACE_SIZE - at < vd_pci_msi_bytes(control))
		return refuse(seat, error, "its MSI capability makes no sense");
	msi->count = 1u << order;
	msi->capability = at;
	msi->control = control;
	msi->msi = seat->host->config.msi;
	msi->context = seat->host->config.context;
	msi->messages = &seat->host->messages;
	msi->dropped = &seat->host->messages_dropped;
	return 0;
}

static int probe_capability(struct vd_pci_seat *seat, const uint8_t *config, unsigned at,
			    struct vd_error *error)
{
	unsigned room = PCI_CFG_SPACE_SIZE - at;

	switch (config[at + PCI_CAP_LIST_ID]) {
	case PCI_CAP_ID_PM:
		if (room >= VD_PCI_PM_BYTES)
			seat->power = at;
		return 0;
	case PCI_CAP_ID_EXP:
		if (room < PCI_EXP_DEVSTA)
			return 0;
		seat->express = at;
		seat->resettable = vd_pci_get32(config + at + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR;
		return 0;
	case PCI_CAP_ID_MSI:
		return probe_msi(seat, config, at, error);
	case PCI_CAP_ID_MSIX:
		if (seat->msix.count || room < VD_PCI_MSIX_BYTES)
			return refuse(seat, error, "its MSI-X capability makes no sense");
		return probe_msix(seat, config, at, error);
	default:
		return 0;
	}
}

static int probe_capabilities(struct vd_pci_seat *seat, const uint8_t *config,
			      struct vd_error *error)
{
	unsigned at = config[PCI_CAPABILITY_LIST] & ~3u;

	if (!(vd_pci_get16(config + PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;
	for (unsigned i = 0; i < CAPABILITIES_MAX && at >= PCI_STD_HEADER_SIZEOF; i++) {
		int rc = probe_capability(seat, config, at, error);

		if (rc)
			return rc;
		at = config[at + PCI_CAP_LIST_NEXT] & ~3u;
	}
	return 0;
}

/* ---- parts ---- */

static void trap(struct vd_pci_bar_part *plan, enum vd_pci_why why, const char *reason)
{
	plan->why = why;
	snprintf(plan->reason, sizeof(plan->reason), "%s", reason);
}

/* Takes what the device maps for a direct part, which may have to be trapped after all. */
static void take_memory(struct vd_pci_seat *seat, struct vd_pci_part *part)
{
	const struct vd_pci_host *host = seat->host;
	struct vd_host_object *object;
	uint64_t offset;

	if (vd_device_map_area(seat->device, part->bar, part->plan.offset, part->plan.size, &object,
			       &offset) ||
	    vd_host_object_host(object) != vd_mem_host(host->config.mem)) {
		trap(&part->plan, VD_PCI_WHY_MEMORY, "the device gave no memory for it");
		return;
	}
	if (offset & (host->page - 1)) {
		trap(&part->plan, VD_PCI_WHY_MEMORY,
		     "its memory does not start at a page of the guest's size");
		return;
	}
	part->object = vd_host_object_get(object);
	part->object_offset = offset;
}

/* All of a BAR that is smaller than a page, as one part that page.c decides about. */
static bool take_small(struct vd_pci_seat *seat, unsigned i)
{
	const struct vd_region *region = vd_device_region(seat->device, VD_REGION_BAR0 + i);
	const struct vd_pci_msix *msix = &seat->msix;
	struct vd_pci_guest_bar *bar = &seat->bars[i];
	struct vd_host_object *object;
	uint64_t offset;

	if (bar->size >= seat->host->page || region->area_count != 1 ||
	    region->areas[0].size != bar->size ||
	    (msix->count && (msix->table_bar == i || msix->pba_bar == i)) ||
	    vd_device_map_area(seat->device, i, 0, bar->size, &object, &offset) ||
	    vd_host_object_host(object) != vd_mem_host(seat->host->config.mem))
		return false;
	bar->small = true;
	bar->memory = vd_host_object_get(object);
	bar->memory_offset = offset;
	bar->part_count = 1;
	bar->parts[0] = (struct vd_pci_part){
		.seat = seat, .bar = i, .plan = {0, bar->size, VD_PCI_WHY_PLACE, "not placed"}};
	return true;
}

static void plan_parts(struct vd_pci_seat *seat, unsigned i)
{
	const struct vd_pci_msix *msix = &seat->msix;
	const struct vd_region *region = vd_device_region(seat->device, VD_REGION_BAR0 + i);
	struct vd_pci_guest_bar *bar = &seat->bars[i];
	struct vd_pci_bar_part plan[VD_PCI_PARTS_MAX];
	struct vd_pci_direct_facts facts = {
		.size = region->size,
		.page = seat->host->page,
		.mappable = region->flags & VD_REGION_MMAP,
		.area_count = region->area_count,
		.areas = region->areas,
		.off = !seat->host->config.direct,
	};

	if (!bar->size)
		return;
	if (take_small(seat, i))
		return;
	if (msix->count && msix->table_bar == i)
		facts.hidden[0] = (struct vd_region_area){msix->table,
							  vd_pci_msix_table_size(msix->count)};
	if (msix->count && msix->pba_bar == i)
		facts.hidden[1] = (struct vd_region_area){msix->pba,
							  vd_pci_msix_pba_size(msix->count)};
	bar->part_count = vd_pci_direct_plan(&facts, plan);
	for (unsigned k = 0; k < bar->part_count; k++) {
		struct vd_pci_part *part = &bar->parts[k];

		*part = (struct vd_pci_part){.seat = seat, .bar = i, .plan = plan[k]};
		if (part->plan.why == VD_PCI_DIRECT)
			take_memory(seat, part);
	}
}

/* ---- a seat ---- */

static int probe(struct vd_pci_seat *seat, struct vd_error *error)
{
	uint8_t config[PCI_CFG_SPACE_SIZE];
	int rc = 0;

	seat->config_size = vd_device_region(seat->device, VD_REGION_CONFIG)->size;
	if (seat->config_size < PCI_CFG_SPACE_SIZE)
		return refuse(seat, error, "it has no configuration space");
	rc = vd_device_read(seat->device, VD_REGION_CONFIG, (vd_region_offset){0}, config,
			    sizeof(config));
	if (rc)
		return vd_error_set(error, rc, "%s: configuration space cannot be read",
				    vd_device_name(seat->device));
	if (vd_pci_get16(config + PCI_VENDOR_ID) == 0xffff ||
	    (config[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
		return refuse(seat, error, "it is no ordinary PCI device (type 0 header)");
	for (unsigned i = 0; i < VD_PCI_BARS && !rc; i++)
		rc = probe_bar(seat, config, i, error);
	return rc ? rc : probe_capabilities(seat, config, error);
}

int vd_pci_seat_create(struct vd_pci_host *host, struct vd_device *device, unsigned slot,
		       struct vd_pci_seat **out, struct vd_error *error)
{
	const struct vd_env *env = host->env;
	struct vd_pci_seat *seat;
	int rc;

	seat = vd_env_allocate(env, "pci.seat", sizeof(*seat), _Alignof(struct vd_pci_seat));
	if (!seat)
		return vd_error_set(error, -ENOMEM, "no memory to plug %s in",
				    vd_device_name(device));
	seat->host = host;
	seat->device = device;
	seat->slot = slot;
	rc = probe(seat, error);
	if (!rc) {
		rc = vd_pci_msix_init(&seat->msix, env);
		if (rc)
			vd_error_set(error, rc, "no memory for the MSI-X table of %s",
				     vd_device_name(device));
	}
	if (rc) {
		env->release(env, seat, sizeof(*seat));
		return rc;
	}
	vd_pci_msi_init(&seat->msi, env);
	vd_device_get(device);
	for (unsigned i = 0; i < VD_PCI_BARS; i++)
		plan_parts(seat, i);
	*out = seat;
	return 0;
}

void vd_pci_seat_destroy(struct vd_pci_seat *seat)
{
	const struct vd_env *env = seat->host->env;

	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		struct vd_pci_guest_bar *bar = &seat->bars[i];

		for (unsigned k = 0; k < bar->part_count; k++)
			vd_host_object_put(bar->parts[k].object);
		vd_host_object_put(bar->memory);
	}
	vd_pci_msix_fini(&seat->msix);
	vd_pci_msi_fini(&seat->msi);
	vd_device_put(seat->device);
	env->release(env, seat, sizeof(*seat));
}
