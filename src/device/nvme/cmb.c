/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The controller memory buffer: NVMe 1.4, sections 3.1.11, 3.1.12, 3.1.16, 3.1.17 and 4.7. A BAR of
 * its own that hosts map, for submission queues. They are found there without a translation, and
 * without a message where all other memory is reached by messages.
 */
#include "device/nvme/nvme.h"

#define UNIT_SHIFT 20u /* CMBSZ.SZU 2 */

void nvme_cmb_bar(const struct nvme_controller *nvme, struct vd_pci_bar *bar)
{
	uint64_t size = NVME_CMB_UNIT;

	if (!nvme->cmb_size)
		return;
	while (size < nvme->cmb_size)
		size *= 2;
	*bar = (struct vd_pci_bar){
		.size = size,
		.flags = VD_PCI_BAR_64 | VD_PCI_BAR_PREFETCH,
		.area_count = 1,
		.areas = {{0, nvme->cmb_size}},
	};
}

/* Both are zero until the host says that it knows where they are (CMBMSC.CRE). */
uint32_t nvme_cmb_location(const struct nvme_controller *nvme)
{
	return nvme->cmbmsc & NVME_CMBMSC_CRE ? NVME_CMB_BAR : 0;
}

uint32_t nvme_cmb_size(const struct nvme_controller *nvme)
{
	if (!(nvme->cmbmsc & NVME_CMBMSC_CRE))
		return 0;
	return (uint32_t)(nvme->cmb_size >> UNIT_SHIFT) << 12 | 2u << 8 | NVME_CMBSZ_SQS;
}

/* 3.1.17: an address from which the buffer would reach beyond the last one. */
bool nvme_cmb_invalid(const struct nvme_controller *nvme)
{
	return nvme->cmbmsc & NVME_CMBMSC_CMSE &&
	       (nvme->cmbmsc & NVME_CMBMSC_CBA) > UINT64_MAX - (nvme->cmb_size - 1);
}

void nvme_cmb_control(struct nvme_controller *nvme, uint64_t value)
{
	if (nvme->cmb_size)
		nvme->cmbmsc = value & (NVME_CMBMSC_CBA | NVME_CMBMSC_CMSE | NVME_CMBMSC_CRE);
}

bool nvme_cmb_at(const struct nvme_controller *nvme, uint64_t address, uint64_t *offset)
{
	uint64_t base = nvme->cmbmsc & NVME_CMBMSC_CBA;

	if (!(nvme->cmbmsc & NVME_CMBMSC_CMSE) || nvme_cmb_invalid(nvme) || address < base ||
	    address - base >= nvme->cmb_size)
		return false;
	*offset = address - base;
	return true;
}

bool nvme_cmb_meets(const struct nvme_controller *nvme, uint64_t address, uint64_t length)
{
	return nvme->cmbmsc & NVME_CMBMSC_CMSE && !nvme_cmb_invalid(nvme) &&
	       vd_ranges_overlap(address, length, nvme->cmbmsc & NVME_CMBMSC_CBA, nvme->cmb_size);
}

bool nvme_cmb_holds(const struct nvme_controller *nvme, uint64_t address, uint64_t length)
{
	uint64_t offset;

	return nvme_cmb_at(nvme, address, &offset) && length <= nvme->cmb_size - offset;
}

bool nvme_cmb_can_hold(const struct nvme_controller *nvme, uint64_t address, uint64_t length)
{
	return !nvme_cmb_meets(nvme, address, length) || nvme_cmb_holds(nvme, address, length);
}

int nvme_cmb_read(struct nvme_controller *nvme, uint64_t offset, void *buffer, size_t length)
{
	const void *memory;

	if (length > nvme->cmb_size - offset)
		return -EFAULT;
	memory = vd_device_memory(nvme->device, NVME_CMB_BAR, offset, length);
	if (!memory)
		return -EFAULT;
	/* The host may change it meanwhile; what is used is the copy. */
	vd_guest_copy(buffer, memory, length);
	return 0;
}
