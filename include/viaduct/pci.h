/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 6, PCI
 *
 * Two halves that meet only through vfio.h. The *function* is the device's side: configuration space with write masks,
 * capabilities, the MSI-X vector count; it turns a device author's BAR operations into a struct vd_device whose
 * VD_REGION_CONFIG behaves like vfio-pci's. The *host bridge* is the VMM's side: ECAM, BAR sizing and
 * placement in the guest's slots, direct mapping, MSI and MSI-X tables emulated for the guest.
 * (PCI Local Bus 3.0, PCI Express Base 4.0 chapter 7.)
 */
#ifndef VIADUCT_PCI_H
#define VIADUCT_PCI_H

#include <viaduct/vfio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the function: for device authors ------------------------------------------------------ */

struct vd_pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, programming interface */
	uint8_t revision;
};

#define VD_PCI_BAR_64 1u
#define VD_PCI_BAR_PREFETCH 2u

/**
 * struct vd_pci_bar - one memory BAR
 * @size: power of two, >= 16; a 64-bit BAR uses up the next index
 * @mappable: areas that the guest may map directly (see struct vd_region); none: all trapped
 */
struct vd_pci_bar {
	uint64_t size;
	unsigned flags;
	unsigned area_count;
	struct vd_region_area areas[VD_REGION_AREAS_MAX];
};

/**
 * struct vd_pci_function_config - a PCI device to be
 * @ops, @context: for BAR accesses, reset (also by FLR), quiesce ... ; VD_REGION_CONFIG is handled here and never
 *	reaches them. Save and load of configuration space are done here too, around the device's own
 * @msix_vectors: 0 for none; the table and PBA get room in BAR @msix_bar at @msix_offset (page-aligned, with
 *	whole pages of their own: table first, PBA in the next page). Accesses there read as zero: the VMM emulates the table
 * @bus_master: called when the command register's bus master bit changes; optional
 */
struct vd_pci_function_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	const char *name;
	struct vd_pci_identity identity;
	struct vd_pci_bar bars[6];
	unsigned msix_vectors, msix_bar;
	uint32_t msix_offset;
	bool intx;
	const struct vd_device_ops *ops;
	void *context;
	void (*bus_master)(void *context, bool on);
};

/** vd_pci_function_create() - Return: 0 and a device; -EINVAL with the reason in @error; -ENOMEM. */
int vd_pci_function_create(const struct vd_pci_function_config *config, struct vd_device **device,
			   struct vd_error *error);

/* ---- the host bridge: for VMMs ---------------------------------------------------------------- */

struct vd_pci_host;

/**
 * struct vd_pci_host_config
 * @ecam: guest address of configuration space, 1 MiB a bus, @buses of them
 * @low, @low_size: window for 32-bit BARs; @high, @high_size: for 64-bit ones (guest address = bus address)
 * @direct: map mappable areas into the guest; false: trap everything ("--no-direct-mmio")
 * @msi: deliver a message-signalled interrupt; any thread, a device lock may be held
 * @access_begin/@access_end: around slot updates made on a guest's configuration write; may be NULL
 */
struct vd_pci_host_config {
	const struct vd_env *env;
	struct vd_mem *mem;
	vd_gpa ecam;
	unsigned buses;
	vd_gpa low;
	uint64_t low_size;
	vd_gpa high;
	uint64_t high_size;
	bool direct;
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void *context;
};

int vd_pci_host_create(const struct vd_pci_host_config *config, struct vd_pci_host **host,
		       struct vd_error *error);
void vd_pci_host_destroy(struct vd_pci_host *host);
/**
 * vd_pci_host_plug() - put a device at bus 0, @slot (0..31), function 0; BARs get placed as firmware would, and
 * memory decoding is left off. Takes a reference.
 * Return: 0, -EBUSY slot taken, -ENOSPC windows full, -ENOMEM.
 */
int vd_pci_host_plug(struct vd_pci_host *host, struct vd_device *device, unsigned slot,
		     struct vd_error *error);
/** vd_pci_host_unplug() - remove; its BARs leave every mirror first */
int vd_pci_host_unplug(struct vd_pci_host *host, unsigned slot);

struct vd_pci_area_info {
	unsigned slot, bar;
	uint64_t offset, size;
	vd_gpa gpa;	    /* 0 if not placed */
	bool placed, direct;
	const char *reason; /* why trapped; NULL if direct */
};
/** vd_pci_host_each_area() - where BARs are and why some are trapped; stops when @fn returns non-zero */
int vd_pci_host_each_area(struct vd_pci_host *host,
			  int (*fn)(void *context, const struct vd_pci_area_info *area),
			  void *context);
/** vd_pci_host_reset() - the whole bus, as at power-on */
void vd_pci_host_reset(struct vd_pci_host *host);
uint64_t vd_pci_host_direct_pages(const struct vd_pci_host *host);

#ifdef __cplusplus
}
#endif
#endif
