/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI as the guest programs it (PCI 3.0, 6.8.1). The registers are the device's own; the bridge
 * looks at them after each write, and sends what they say.
 */
#ifndef VIADUCT_PCI_MSI_H
#define VIADUCT_PCI_MSI_H

#include <viaduct/pci.h>

/*
 * struct vd_pci_msi - of one function; all zero: it has none
 * @count: vectors it asks for; @capability: offset in configuration space; @control: the bits of
 *	message control that do not change
 * @lock: everything below
 * @allowed: vectors it was given, a power of two
 * @pending: raised while masked, or without bus mastering
 * @messages, @dropped: the bridge's counters
 */
struct vd_pci_msi {
	const struct vd_env *env;
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void *context;
	_Atomic uint64_t *messages, *dropped;
	unsigned count, capability, control;
	struct vd_lock lock;
	bool enabled, bus_master;
	unsigned allowed;
	uint64_t address;
	uint32_t data, mask, pending;
};

/* vd_pci_msi_bytes() - length of a capability with this message control (6.8.1.3) */
unsigned vd_pci_msi_bytes(unsigned control);
/* vd_pci_msi_init(), vd_pci_msi_fini() - what is above @lock is set */
void vd_pci_msi_init(struct vd_pci_msi *msi, const struct vd_env *env);
void vd_pci_msi_fini(struct vd_pci_msi *msi);
/* vd_pci_msi_reset() - off, nothing pending */
void vd_pci_msi_reset(struct vd_pci_msi *msi);
/* vd_pci_msi_update() - @registers: the capability's bytes as they are now */
void vd_pci_msi_update(struct vd_pci_msi *msi, const uint8_t *registers);
/* vd_pci_msi_bus_master() - messages are writes: without bus mastering they wait */
void vd_pci_msi_bus_master(struct vd_pci_msi *msi, bool on);
/* vd_pci_msi_pending() - the pending bits register; 0 where there is none */
uint32_t vd_pci_msi_pending(struct vd_pci_msi *msi);

/* vd_pci_msi_save() - the pending bits; the registers are in the function's state */
void vd_pci_msi_save(struct vd_pci_msi *msi, struct vd_stream *stream);
/* vd_pci_msi_load() - as vd_pci_msix_load() */
bool vd_pci_msi_load(struct vd_pci_msi *msi, struct vd_stream *stream, bool take);

/* vd_pci_msi_sink() - a vd_irq_sink; its context is the struct vd_pci_msi */
void vd_pci_msi_sink(void *context, enum vd_irq_index index, unsigned vector, bool level);

#endif
