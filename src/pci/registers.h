/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registers by the names of linux/pci_regs.h, the sizes it lacks, and little-endian access to bytes
 * of them.
 */
#ifndef VIADUCT_PCI_REGISTERS_H
#define VIADUCT_PCI_REGISTERS_H

#include <linux/pci_regs.h>

#include <viaduct/base.h>

#define VD_PCI_PM_BYTES 8u	 /* PCI PM 1.2, 3.2 */
#define VD_PCI_MSI_BYTES 24u	 /* PCI 3.0, 6.8.1, the longest form */
#define VD_PCI_MSIX_BYTES 12u	 /* PCI 3.0, 6.8.2 */
#define VD_PCI_EXPRESS_BYTES 60u /* PCIe 4.0, 7.5.3, version 2 */
#define VD_PCI_MSIX_ENTRY 16u	 /* PCI 3.0, 6.8.2.1 */

static inline uint16_t vd_pci_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t vd_pci_get32(const uint8_t *p)
{
	return vd_pci_get16(p) | (uint32_t)vd_pci_get16(p + 2) << 16;
}

static inline void vd_pci_put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

static inline void vd_pci_put32(uint8_t *p, uint32_t value)
{
	vd_pci_put16(p, value & 0xffff);
	vd_pci_put16(p + 2, value >> 16);
}

/*
 * vd_pci_msix_table_size(), vd_pci_msix_pba_size() - bytes; the PBA comes in units of 8 (PCI 3.0,
 * 6.8.2.7)
 */
static inline uint32_t vd_pci_msix_table_size(unsigned vectors)
{
	return vectors * VD_PCI_MSIX_ENTRY;
}

static inline uint32_t vd_pci_msix_pba_size(unsigned vectors)
{
	return (vectors + 63) / 64 * 8;
}

/* vd_pci_touches() - whether an access meets a register; neither may be empty */
static inline bool vd_pci_touches(uint64_t offset, size_t length, unsigned reg, unsigned bytes)
{
	return vd_ranges_overlap(offset, length, reg, bytes);
}

#endif
