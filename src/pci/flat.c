/* SPDX-License-Identifier: BSD-2-Clause */
/* Saving and loading devices whose state is plain bytes. */
#include <viaduct/pci.h>

#define CHUNK 4096u

/* Guests change mapped memory meanwhile, so it goes through a buffer, piece by piece. */
static void copy_area(struct vd_device *device, unsigned region, const struct vd_region_area *area,
		      struct vd_stream *stream, bool load)
{
	uint8_t chunk[CHUNK];
	uint64_t piece;

	for (uint64_t at = 0; at < area->size && !stream->failed; at += piece) {
		void *memory;

		piece = area->size - at < CHUNK ? area->size - at : CHUNK;
		memory = vd_device_memory(device, region, area->offset + at, piece);
		if (!memory) { /* the host is gone */
			stream->failed = true;
		} else if (load) {
			vd_stream_get(stream, chunk, piece);
			vd_guest_copy(memory, chunk, piece);
		} else {
			vd_guest_copy(chunk, memory, piece);
			vd_stream_put(stream, chunk, piece);
		}
	}
}

static uint64_t memory_size(const struct vd_device *device)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		const struct vd_region *region = vd_device_region(device, i);

		for (unsigned a = 0; a < region->area_count; a++)
			size += region->areas[a].size;
	}
	return size;
}

static void copy_memory(struct vd_device *device, struct vd_stream *stream, bool load)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		const struct vd_region *region = vd_device_region(device, i);

		for (unsigned a = 0; a < region->area_count; a++)
			copy_area(device, i, &region->areas[a], stream, load);
	}
}

void vd_pci_flat_save(struct vd_device *device, const void *state, size_t size,
		      struct vd_stream *stream)
{
	vd_stream_put(stream, state, size);
	copy_memory(device, stream, false);
}

int vd_pci_flat_load(struct vd_device *device, void *state, size_t size, struct vd_stream *stream)
{
	uint64_t left = stream->length - stream->position;

	if (left < size || left - size < memory_size(device))
		return -EINVAL;
	vd_stream_get(stream, state, size);
	copy_memory(device, stream, true);
	return 0;
}
