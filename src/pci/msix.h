/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X as the guest sees it: table, pending bits, masks (PCI 3.0, 6.8.2 and 6.8.3). The device
 * never sees it.
 */
#ifndef VIADUCT_PCI_MSIX_H
#define VIADUCT_PCI_MSIX_H

#include <viaduct/pci.h>

struct vd_pci_msix_entry {
	uint32_t words[4]; /* address, upper address, data, vector control */
};

/*
 * struct vd_pci_msix - of one function; all zero: it has none
 * @table_bar, @table, @pba_bar, @pba: where the device says they are; these do not change
 * @count: vectors
 * @capability: offset in configuration space
 * @lock: everything below
 * @messages, @dropped: the bridge's counters
 */
struct vd_pci_msix {
	const struct vd_env *env;
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void *context;
	_Atomic uint64_t *messages, *dropped;
	unsigned count, capability;
	unsigned table_bar, pba_bar;
	uint32_t table, pba;
	struct vd_lock lock;
	bool enabled, masked, bus_master;
	struct vd_pci_msix_entry *entries;
	uint64_t *pending;
};

/*
 * vd_pci_msix_init() - room for msix->count vectors; places, counters and callback are set
 * Return: 0, -ENOMEM
 */
int vd_pci_msix_init(struct vd_pci_msix *msix, const struct vd_env *env);
void vd_pci_msix_fini(struct vd_pci_msix *msix);
/* vd_pci_msix_reset() - everything masked, off, nothing pending */
void vd_pci_msix_reset(struct vd_pci_msix *msix);

/* vd_pci_msix_covers() - whether an access to a BAR is for table or PBA */
bool vd_pci_msix_covers(const struct vd_pci_msix *msix, unsigned bar, uint64_t offset,
			unsigned length);
/* vd_pci_msix_read(), vd_pci_msix_write() - of what is covered; bytes outside read as zero */
uint64_t vd_pci_msix_read(struct vd_pci_msix *msix, unsigned bar, uint64_t offset, unsigned length);
void vd_pci_msix_write(struct vd_pci_msix *msix, unsigned bar, uint64_t offset, unsigned length,
		       uint64_t value);

/* vd_pci_msix_control() - the upper byte of message control was written */
void vd_pci_msix_control(struct vd_pci_msix *msix, uint8_t high);
/* vd_pci_msix_control_bits() - what enable and mask read as there */
uint8_t vd_pci_msix_control_bits(struct vd_pci_msix *msix);
/* vd_pci_msix_bus_master() - messages are writes: without bus mastering they wait */
void vd_pci_msix_bus_master(struct vd_pci_msix *msix, bool on);

/* vd_pci_msix_save() - table, pending bits, enable and mask */
void vd_pci_msix_save(struct vd_pci_msix *msix, struct vd_stream *stream);
/*
 * vd_pci_msix_load() - takes what was saved off the stream; @take: and takes it over, then sends
 * what is pending and can be sent
 * Return: false if it is not the state of such a table
 */
bool vd_pci_msix_load(struct vd_pci_msix *msix, struct vd_stream *stream, bool take);

/* vd_pci_msix_sink() - a vd_irq_sink; its context is the struct vd_pci_msix */
void vd_pci_msix_sink(void *context, enum vd_irq_index index, unsigned vector, bool level);

#endif
