/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Saving and loading a virtio device. Rings are in guest memory; of a chain that was peeked at and
 * not yet used nothing is kept: it is looked at again.
 */
#include "device/virtio/virtio.h"

/* Saved state starts with this; the last digit is the version. */
#define STATE_MAGIC UINT64_C(0x314f495452495656) /* "VVIRTIO1" */

/* Registers in the order they are saved. */
enum { SELECTS, FEATURES, VECTOR_SELECT, STATUS, REGISTERS };

static void save_queue(const struct virtio_queue *queue, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, queue->desc);
	vd_stream_put_u64(stream, queue->avail);
	vd_stream_put_u64(stream, queue->used);
	vd_stream_put_u64(stream, (uint64_t)queue->enabled << 32 | (uint64_t)queue->vector << 16 |
					  queue->size);
	vd_stream_put_u64(stream, (uint64_t)queue->next_used << 16 | queue->next_available);
}

int virtio_save(void *context, struct vd_stream *stream)
{
	struct virtio *virtio = context;
	uint64_t registers[REGISTERS] = {
		[SELECTS] = (uint64_t)virtio->device_select << 32 | virtio->driver_select,
		[FEATURES] = virtio->driver_features,
		[VECTOR_SELECT] = (uint64_t)virtio->config_vector << 16 | virtio->queue_select,
		[STATUS] = (uint64_t)virtio->generation << 16 | (uint64_t)virtio->isr << 8 |
			   virtio->status,
	};

	vd_stream_put_u64(stream, STATE_MAGIC);
	for (unsigned i = 0; i < REGISTERS; i++)
		vd_stream_put_u64(stream, registers[i]);
	for (unsigned i = 0; i < virtio->model->queues; i++)
		save_queue(&virtio->queues[i], stream);
	virtio->model->save(virtio->context, stream);
	return stream->failed ? -ENOMEM : 0;
}

static bool vector_exists(const struct virtio *virtio, uint64_t vector)
{
	return vector <= virtio->model->queues || vector == VIRTIO_MSI_NO_VECTOR;
}

static bool load_queue(const struct virtio *virtio, struct virtio_queue *queue,
		       struct vd_stream *stream)
{
	uint64_t flags, indices;

	queue->desc = vd_stream_get_u64(stream);
	queue->avail = vd_stream_get_u64(stream);
	queue->used = vd_stream_get_u64(stream);
	flags = vd_stream_get_u64(stream);
	indices = vd_stream_get_u64(stream);
	queue->size = (uint16_t)flags;
	queue->vector = (uint16_t)(flags >> 16);
	queue->enabled = flags >> 32 & 1;
	queue->next_available = (uint16_t)indices;
	queue->next_used = (uint16_t)(indices >> 16);
	return !stream->failed && flags >> 33 == 0 && indices >> 32 == 0 &&
	       vector_exists(virtio, queue->vector) && queue->size &&
	       queue->size <= virtio->model->queue_size && !(queue->size & (queue->size - 1)) &&
	       (!queue->enabled || virtio_queue_check(queue));
}

static bool registers_valid(const struct virtio *virtio, const uint64_t *registers)
{
	uint64_t offered = virtio->model->features | UINT64_C(1) << VIRTIO_F_VERSION_1;
	uint64_t status = registers[STATUS] & 0xff;
	bool agreed = status & VIRTIO_CONFIG_S_FEATURES_OK;

	return registers[VECTOR_SELECT] >> 32 == 0 && registers[STATUS] >> 24 == 0 &&
	       vector_exists(virtio, registers[VECTOR_SELECT] >> 16) &&
	       (!agreed || (!(registers[FEATURES] & ~offered) &&
			    registers[FEATURES] >> VIRTIO_F_VERSION_1 & 1)) &&
	       (agreed || !(status & VIRTIO_CONFIG_S_DRIVER_OK));
}

static void take(struct virtio *virtio, const uint64_t *registers,
		 const struct virtio_queue *queues)
{
	virtio->device_select = (uint32_t)(registers[SELECTS] >> 32);
	virtio->driver_select = (uint32_t)registers[SELECTS];
	virtio->driver_features = registers[FEATURES];
	virtio->config_vector = (uint16_t)(registers[VECTOR_SELECT] >> 16);
	virtio->queue_select = (uint16_t)registers[VECTOR_SELECT];
	virtio->status = (uint8_t)registers[STATUS];
	virtio->isr = (uint8_t)(registers[STATUS] >> 8);
	virtio->generation = (uint8_t)(registers[STATUS] >> 16);
	for (unsigned i = 0; i < virtio->model->queues; i++)
		virtio->queues[i] = queues[i];
}

int virtio_load(void *context, struct vd_stream *stream)
{
	struct virtio *virtio = context;
	struct virtio_queue queues[VIRTIO_QUEUES_MAX];
	uint64_t registers[REGISTERS];
	int rc;

	if (vd_stream_get_u64(stream) != STATE_MAGIC)
		return -EINVAL;
	for (unsigned i = 0; i < REGISTERS; i++)
		registers[i] = vd_stream_get_u64(stream);
	if (stream->failed || !registers_valid(virtio, registers))
		return -EINVAL;
	for (unsigned i = 0; i < virtio->model->queues; i++)
		if (!load_queue(virtio, &queues[i], stream))
			return -EINVAL;
	rc = virtio->model->load(virtio->context, stream);
	if (rc)
		return rc;
	take(virtio, registers, queues);
	return 0;
}
