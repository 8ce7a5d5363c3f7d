/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VIADUCT_PCI_FLAT_H
#define VIADUCT_PCI_FLAT_H

#include <viaduct/vfio.h>

/*
 * State of a device that has no save and load of its own: bytes, and its mappable memory. Lock
 * held, quiesced.
 */
void vd_pci_flat_save(struct vd_device *device, const void *state, size_t size,
		      struct vd_stream *stream);
/* Return: 0; -EINVAL the stream is too short, then nothing has changed. */
int vd_pci_flat_load(struct vd_device *device, void *state, size_t size, struct vd_stream *stream);

#endif
