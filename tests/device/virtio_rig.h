/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine without a processor for virtio tests: RAM, a device, and the driver's side of its
 * registers and queues, which can do things that no driver would.
 */
#ifndef TESTS_DEVICE_VIRTIO_RIG_H
#define TESTS_DEVICE_VIRTIO_RIG_H

#include "../base/test_env.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <viaduct/device.h>
#include <viaduct/mem.h>

#include "device/virtio/virtio.h"

#define PAGE UINT64_C(4096)
#define VRIG_RAM UINT64_C(0x80000000)
#define VRIG_RAM_SIZE (UINT64_C(48) << 20)
#define VRIG_DATA (VRIG_RAM + (UINT64_C(8) << 20)) /* from here on RAM is the test's */
#define VRIG_BUFFERS (VRIG_RAM + (UINT64_C(4) << 20))

/* The driver's view of a queue: its rings lie in a part of RAM of its own. */
struct vrig_queue {
	uint16_t size, available, seen;
	uint64_t desc, avail, used;
};

struct vrig {
	struct test_env test;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	uint32_t ram_slot;
	struct vd_dma_space *space;
	struct vd_device *device;
	struct vrig_queue queues[VIRTIO_QUEUES_MAX];
	_Atomic unsigned interrupts[VIRTIO_QUEUES_MAX + 1];
};

/* vrig_open() - host, RAM and space; vrig_plug() - the device, whose reference it takes */
void vrig_open(struct vrig *rig);
void vrig_plug(struct vrig *rig, struct vd_device *device);
/* vrig_unplug(), vrig_close() - the other way round; nothing may be left */
void vrig_unplug(struct vrig *rig);
void vrig_close(struct vrig *rig);

uint64_t vrig_read(struct vrig *rig, uint64_t offset, size_t length);
void vrig_write(struct vrig *rig, uint64_t offset, size_t length, uint64_t value);
/* Registers of the common configuration by name. */
#define VRIG_AT(field) offsetof(struct virtio_pci_common_cfg, field)
#define VRIG_SIZE(field) sizeof(((struct virtio_pci_common_cfg *)0)->field)
#define vrig_get(rig, field) vrig_read(rig, VIRTIO_COMMON + VRIG_AT(field), VRIG_SIZE(field))
#define vrig_set(rig, field, value)                                                                \
	vrig_write(rig, VIRTIO_COMMON + VRIG_AT(field), VRIG_SIZE(field), value)

void vrig_put(struct vrig *rig, uint64_t gpa, const void *data, size_t length);
void vrig_take(struct vrig *rig, uint64_t gpa, void *data, size_t length);
void vrig_put16(struct vrig *rig, uint64_t gpa, uint16_t value);

void vrig_bus_master(struct vrig *rig, bool on);
uint64_t vrig_features(struct vrig *rig);
/* vrig_negotiate() - from a reset to FEATURES_OK. Return: the status. */
unsigned vrig_negotiate(struct vrig *rig, uint64_t features);
/* vrig_queue() - rings, cleared, and registers of a queue; enabled */
void vrig_queue(struct vrig *rig, unsigned queue, uint16_t size);
/* vrig_start() - all of it: bus master, features, @queues queues of @size, DRIVER_OK */
void vrig_start(struct vrig *rig, uint64_t features, unsigned queues, uint16_t size);

/* vrig_desc() - write a descriptor */
void vrig_desc(struct vrig *rig, unsigned queue, uint16_t index, uint64_t iova, uint32_t length,
	       uint16_t flags, uint16_t next);
/* vrig_offer() - make a chain available; vrig_ring() - and say so */
void vrig_offer(struct vrig *rig, unsigned queue, uint16_t head);
void vrig_ring(struct vrig *rig, unsigned queue);
/* vrig_send() - one readable (or writable) segment as chain 0, rung */
void vrig_send(struct vrig *rig, unsigned queue, uint64_t iova, uint32_t length, bool writable);
/* vrig_used() - the next used element, if there is one */
bool vrig_used(struct vrig *rig, unsigned queue, uint32_t *id, uint32_t *length);
/* vrig_wait() - poll the device until there is one; it must be chain @id */
void vrig_wait(struct vrig *rig, unsigned queue, uint32_t id);
bool vrig_is_broken(struct vrig *rig);

#endif
