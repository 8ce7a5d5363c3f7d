/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio_rig.h"

static void sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct vrig *rig = context;

	(void)level;
	if (index == VD_IRQ_MSIX && vector <= VIRTIO_QUEUES_MAX)
		atomic_fetch_add(&rig->interrupts[vector], 1);
}

void vrig_open(struct vrig *rig)
{
	struct vd_host_config host = {.env = &rig->test.env};
	struct vd_mem_config mem = {.env = &rig->test.env};
	struct vd_dma_config dma = {.env = &rig->test.env};
	struct vd_slot_config slot = {
		.base = {VRIG_RAM}, .size = VRIG_RAM_SIZE, .kind = VD_SLOT_RAM, .name = "ram",
	};

	memset(rig, 0, sizeof(*rig));
	test_env_init(&rig->test);
	assert_int_equal(vd_host_create(&host, &rig->host, NULL), 0);
	assert_int_equal(vd_host_ram_create(rig->host, "ram", VRIG_RAM_SIZE, VD_HOST_SPARES,
					    &rig->ram, NULL), 0);
	mem.host = rig->host;
	assert_int_equal(vd_mem_create(&mem, &rig->mem, NULL), 0);
	slot.object = rig->ram;
	assert_int_equal(vd_mem_add_slot(rig->mem, &slot, &rig->ram_slot, NULL), 0);
	dma.host = rig->host;
	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	assert_int_equal(vd_dma_follow(rig->space, rig->mem, NULL), 0);
}

void vrig_plug(struct vrig *rig, struct vd_device *device)
{
	rig->device = device;
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_MSIX, sink, rig), 0);
}

void vrig_unplug(struct vrig *rig)
{
	vd_device_put(rig->device);
	rig->device = NULL;
}

void vrig_close(struct vrig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	vrig_unplug(rig);
	vd_dma_space_destroy(rig->space);
	vd_mem_destroy(rig->mem);
	vd_host_object_put(rig->ram);
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(rig->test.blocks, 0);
}

uint64_t vrig_read(struct vrig *rig, uint64_t offset, size_t length)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					&value, length), 0);
	return value;
}

void vrig_write(struct vrig *rig, uint64_t offset, size_t length, uint64_t value)
{
	assert_int_equal(vd_device_write(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					 &value, length), 0);
}

void vrig_put(struct vrig *rig, uint64_t gpa, const void *data, size_t length)
{
	assert_int_equal(vd_mem_write(rig->mem, (vd_gpa){gpa}, data, length), 0);
}

void vrig_take(struct vrig *rig, uint64_t gpa, void *data, size_t length)
{
	assert_int_equal(vd_mem_read(rig->mem, (vd_gpa){gpa}, data, length), 0);
}

void vrig_put16(struct vrig *rig, uint64_t gpa, uint16_t value)
{
	vrig_put(rig, gpa, &value, sizeof(value));
}

void vrig_bus_master(struct vrig *rig, bool on)
{
	/* Memory space, and bus master. */
	uint16_t command = on ? 6 : 2;

	assert_int_equal(vd_device_write(rig->device, VD_REGION_CONFIG, (vd_region_offset){4},
					 &command, 2), 0);
}

uint64_t vrig_features(struct vrig *rig)
{
	uint64_t features;

	vrig_set(rig, device_feature_select, 0);
	features = vrig_get(rig, device_feature);
	vrig_set(rig, device_feature_select, 1);
	return features | vrig_get(rig, device_feature) << 32;
}

unsigned vrig_negotiate(struct vrig *rig, uint64_t features)
{
	vrig_set(rig, device_status, 0);
	memset(rig->queues, 0, sizeof(rig->queues));
	vrig_set(rig, device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	vrig_set(rig, guest_feature_select, 0);
	vrig_set(rig, guest_feature, (uint32_t)features);
	vrig_set(rig, guest_feature_select, 1);
	vrig_set(rig, guest_feature, features >> 32);
	vrig_set(rig, device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					     VIRTIO_CONFIG_S_FEATURES_OK);
	return (unsigned)vrig_get(rig, device_status);
}

void vrig_queue(struct vrig *rig, unsigned queue, uint16_t size)
{
	static const uint8_t zeroes[0x4000];
	struct vrig_queue *q = &rig->queues[queue];
	uint64_t base = VRIG_RAM + 0x4000 * (queue + 1);

	*q = (struct vrig_queue){.size = size, .desc = base, .avail = base + 0x1000,
				 .used = base + 0x2000};
	vrig_put(rig, base, zeroes, sizeof(zeroes));
	vrig_set(rig, queue_select, queue);
	vrig_set(rig, queue_size, size);
	vrig_set(rig, queue_msix_vector, queue + 1);
	vrig_set(rig, queue_desc_lo, (uint32_t)q->desc);
	vrig_set(rig, queue_desc_hi, q->desc >> 32);
	vrig_set(rig, queue_avail_lo, (uint32_t)q->avail);
	vrig_set(rig, queue_avail_hi, q->avail >> 32);
	vrig_set(rig, queue_used_lo, (uint32_t)q->used);
	vrig_set(rig, queue_used_hi, q->used >> 32);
	vrig_set(rig, queue_enable, 1);
}

void vrig_start(struct vrig *rig, uint64_t features, unsigned queues, uint16_t size)
{
	vrig_bus_master(rig, true);
	assert_true(vrig_negotiate(rig, features | UINT64_C(1) << VIRTIO_F_VERSION_1) &
		    VIRTIO_CONFIG_S_FEATURES_OK);
	vrig_set(rig, msix_config, 0);
	for (unsigned i = 0; i < queues; i++)
		vrig_queue(rig, i, size);
	vrig_set(rig, device_status, vrig_get(rig, device_status) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void vrig_desc(struct vrig *rig, unsigned queue, uint16_t index, uint64_t iova, uint32_t length,
	       uint16_t flags, uint16_t next)
{
	struct { uint64_t addr; uint32_t length; uint16_t flags, next; } desc = {
		iova, length, flags, next,
	};

	vrig_put(rig, rig->queues[queue].desc + 16u * index, &desc, 16);
}

void vrig_offer(struct vrig *rig, unsigned queue, uint16_t head)
{
	struct vrig_queue *q = &rig->queues[queue];

	vrig_put16(rig, q->avail + 4 + 2u * (q->available & (q->size - 1)), head);
	q->available++;
	vrig_put16(rig, q->avail + 2, q->available);
}

void vrig_ring(struct vrig *rig, unsigned queue)
{
	vrig_write(rig, VIRTIO_NOTIFY + VIRTIO_NOTIFY_STEP * queue, 2, queue);
}

void vrig_send(struct vrig *rig, unsigned queue, uint64_t iova, uint32_t length, bool writable)
{
	vrig_desc(rig, queue, 0, iova, length, writable ? 2 : 0, 0);
	vrig_offer(rig, queue, 0);
	vrig_ring(rig, queue);
}

bool vrig_used(struct vrig *rig, unsigned queue, uint32_t *id, uint32_t *length)
{
	struct vrig_queue *q = &rig->queues[queue];
	uint32_t element[2];
	uint16_t index;

	vrig_take(rig, q->used + 2, &index, 2);
	if (index == q->seen)
		return false;
	vrig_take(rig, q->used + 4 + 8u * (q->seen & (q->size - 1)), element, 8);
	q->seen++;
	*id = element[0];
	*length = element[1];
	return true;
}

void vrig_wait(struct vrig *rig, unsigned queue, uint32_t id)
{
	uint32_t got, length;
	unsigned tries = 0;

	while (!vrig_used(rig, queue, &got, &length)) {
		assert_true(tries++ < 100000);
		assert_false(vrig_is_broken(rig));
		vd_device_poll(rig->device);
	}
	assert_int_equal(got, id);
}

bool vrig_is_broken(struct vrig *rig)
{
	return vrig_get(rig, device_status) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
