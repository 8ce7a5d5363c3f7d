/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration space of a function: bytes with a write mask each. Knows where things are and what
 * can be written, not what a write sets in motion.
 */
#ifndef VIADUCT_PCI_CONFIG_H
#define VIADUCT_PCI_CONFIG_H

#include <viaduct/pci.h>

#include "pci/registers.h"

/*
 * struct vd_pci_config - the first 256 bytes; the extended part is there and empty
 * @bytes: as read
 * @initial: at power-on
 * @writable: bits that take what is written
 * @end: of the last capability
 * @power, @express, @msi, @msix: offsets of capabilities, 0 for none
 * @own: the same of the device's own
 */
struct vd_pci_config {
	uint8_t bytes[PCI_CFG_SPACE_SIZE];
	uint8_t initial[PCI_CFG_SPACE_SIZE];
	uint8_t writable[PCI_CFG_SPACE_SIZE];
	unsigned end, last;
	unsigned power, express, msi, msix;
	unsigned own[VD_PCI_CAPABILITIES_MAX];
};

/* What a write asked for, beyond the bits themselves. */
#define VD_PCI_EVENT_BUS_MASTER 1u /* command register: bus master changed */
#define VD_PCI_EVENT_RESET 2u	   /* device control: initiate function-level reset */
#define VD_PCI_EVENT_INTX 4u	   /* command register: interrupt disable changed */

/* vd_pci_config_init() - header, BARs and capabilities; @config has been checked */
void vd_pci_config_init(struct vd_pci_config *space, const struct vd_pci_function_config *config);
/* vd_pci_config_reset() - as at power-on */
void vd_pci_config_reset(struct vd_pci_config *space);
/*
 * vd_pci_config_read(), vd_pci_config_write() - any offset and length: beyond 256 bytes zeroes are
 * read, writes lost
 */
void vd_pci_config_read(const struct vd_pci_config *space, uint64_t offset, void *data,
			size_t length);
/* Return: VD_PCI_EVENT_* bits. */
unsigned vd_pci_config_write(struct vd_pci_config *space, uint64_t offset, const void *data,
			     size_t length);
/*
 * vd_pci_config_load() - take the writable bits of saved bytes. Return: VD_PCI_EVENT_* of what
 * changed
 */
unsigned vd_pci_config_load(struct vd_pci_config *space, const uint8_t *saved);
bool vd_pci_config_bus_master(const struct vd_pci_config *space);
/* vd_pci_config_intx_disabled() - PCI 3.0, 6.2.2, command bit 10 */
bool vd_pci_config_intx_disabled(const struct vd_pci_config *space);
/* vd_pci_config_interrupt() - PCI 3.0, 6.2.3, status bit 3 */
void vd_pci_config_interrupt(struct vd_pci_config *space, bool asserted);

#endif
