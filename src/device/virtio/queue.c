/* SPDX-License-Identifier: BSD-2-Clause */
/* Split virtqueues: virtio 1.2, section 2.7. The rings are the driver's, and may hold anything. */
#include <endian.h>

#include <linux/virtio_ring.h>

#include "device/virtio/virtio.h"

/* Offsets in the available (2.7.6) and the used ring (2.7.8). */
#define RING_FLAGS 0u
#define RING_INDEX 2u
#define RING_ENTRIES 4u

bool virtio_queue_check(const struct virtio_queue *queue)
{
	uint64_t end;

	/* The event words behind the rings are not used, but they belong to them. */
	return queue->size && !(queue->size & (queue->size - 1)) &&
	       queue->size <= VIRTIO_QUEUE_SIZE && !(queue->desc & 15) && !(queue->avail & 1) &&
	       !(queue->used & 3) &&
	       vd_range_end(queue->desc, sizeof(struct vring_desc) * queue->size, &end) &&
	       vd_range_end(queue->avail, RING_ENTRIES + 2u * queue->size + 2, &end) &&
	       vd_range_end(queue->used, RING_ENTRIES + 8u * queue->size + 2, &end);
}

/* ---- words that order matters for ----------------------------------------------------------- */

/* Enters the guard; on success the caller uses the word, and leaves it. */
static uint16_t *enter(struct virtio *virtio, uint64_t iova, unsigned access)
{
	for (;;) {
		void *pointer;
		uint64_t run;
		int rc;

		vd_dma_guard_enter(virtio->space);
		rc = vd_dma_translate(virtio->space, (vd_iova){iova}, access, &pointer, &run);
		/* Rings are aligned, so that a word is never split. */
		if (rc == 0 && run >= sizeof(uint16_t))
			return pointer;
		vd_dma_guard_leave(virtio->space);
		if (rc != -EAGAIN)
			return NULL;
		vd_dma_wait(virtio->space, (vd_iova){iova}, sizeof(uint16_t));
	}
}

static bool load_word(struct virtio *virtio, uint64_t iova, uint16_t *value)
{
	uint16_t *word = enter(virtio, iova, VD_READ);

	if (!word)
		return false;
	/*
	 * The index: acquire (and more) pairs with the driver's barrier before it moves it. The
	 * flags: looked at after the used index was stored, as the driver looks at the index after
	 * it stored the flags (2.7.7).
	 */
	*value = le16toh(__atomic_load_n(word, __ATOMIC_SEQ_CST));
	vd_dma_guard_leave(virtio->space);
	return true;
}

static bool store_word(struct virtio *virtio, uint64_t iova, uint16_t value)
{
	uint16_t *word = enter(virtio, iova, VD_WRITE);

	if (!word)
		return false;
	/* Release (and more) pairs with the driver's barrier after it has read the index. */
	__atomic_store_n(word, htole16(value), __ATOMIC_SEQ_CST);
	vd_dma_mark_dirty(virtio->space, (vd_iova){iova}, sizeof(value));
	vd_dma_guard_leave(virtio->space);
	return true;
}

/* ---- taking --------------------------------------------------------------------------------- */

static bool read_descriptor(struct virtio *virtio, const struct virtio_queue *queue,
			    uint16_t index, struct vring_desc *descriptor)
{
	vd_iova at = {queue->desc + (uint64_t)index * sizeof(*descriptor)};

	if (index >= queue->size ||
	    vd_dma_read(virtio->space, at, descriptor, sizeof(*descriptor)))
		return false;
	descriptor->addr = le64toh(descriptor->addr);
	descriptor->len = le32toh(descriptor->len);
	descriptor->flags = le16toh(descriptor->flags);
	descriptor->next = le16toh(descriptor->next);
	return true;
}

/*
 * One more segment. 2.7.4.2: what the device reads comes first. 2.7.5.3.1: indirect tables are not
 * offered. Empty segments are taken: they harm nobody.
 */
static bool add_segment(struct virtio_chain *chain, const struct vring_desc *descriptor)
{
	bool writable = descriptor->flags & VRING_DESC_F_WRITE;
	uint64_t end;

	if (descriptor->flags & VRING_DESC_F_INDIRECT)
		return false;
	if (descriptor->len && !vd_range_end(descriptor->addr, descriptor->len, &end))
		return false;
	if (!writable && chain->count && chain->segments[chain->count - 1].writable)
		return false;
	chain->segments[chain->count++] = (struct virtio_segment){
		.iova = descriptor->addr, .length = descriptor->len, .writable = writable,
	};
	return true;
}

/* A chain is not longer than its queue: one that is goes round in circles. */
static bool read_chain(struct virtio *virtio, const struct virtio_queue *queue,
		       struct virtio_chain *chain)
{
	uint16_t index = chain->head;
	struct vring_desc descriptor;

	chain->count = 0;
	do {
		if (chain->count == queue->size ||
		    !read_descriptor(virtio, queue, index, &descriptor) ||
		    !add_segment(chain, &descriptor))
			return false;
		index = descriptor.next;
	} while (descriptor.flags & VRING_DESC_F_NEXT);
	return true;
}

bool virtio_queue_peek(struct virtio *virtio, unsigned index, struct virtio_chain *chain)
{
	struct virtio_queue *queue = &virtio->queues[index];
	uint16_t available, slot = queue->next_available & (queue->size - 1);
	uint64_t entry = queue->avail + RING_ENTRIES + 2u * slot;

	if (!virtio_runs(virtio) || !queue->enabled)
		return false;
	if (!load_word(virtio, queue->avail + RING_INDEX, &available) ||
	    (uint16_t)(available - queue->next_available) > queue->size) {
		virtio_broken(virtio);
		return false;
	}
	if (available == queue->next_available)
		return false;
	if (!load_word(virtio, entry, &chain->head) || !read_chain(virtio, queue, chain)) {
		virtio_broken(virtio);
		return false;
	}
	return true;
}

/* ---- giving back ---------------------------------------------------------------------------- */

void virtio_queue_use(struct virtio *virtio, unsigned index, const struct virtio_chain *chain,
		      uint32_t written)
{
	struct virtio_queue *queue = &virtio->queues[index];
	struct vring_used_elem element = {.id = htole32(chain->head), .len = htole32(written)};
	uint16_t slot = queue->next_used & (queue->size - 1), flags;
	vd_iova entry = {queue->used + RING_ENTRIES + sizeof(element) * slot};

	if (!virtio_runs(virtio) || !queue->enabled)
		return;
	if (vd_dma_write(virtio->space, entry, &element, sizeof(element)) ||
	    !store_word(virtio, queue->used + RING_INDEX, (uint16_t)(queue->next_used + 1)) ||
	    !load_word(virtio, queue->avail + RING_FLAGS, &flags)) {
		virtio_broken(virtio);
		return;
	}
	queue->next_used++;
	queue->next_available++;
	if (!(flags & VRING_AVAIL_F_NO_INTERRUPT))
		virtio_interrupt(virtio, 1, queue->vector);
}

/* ---- chains --------------------------------------------------------------------------------- */

uint64_t virtio_chain_readable(const struct virtio_chain *chain)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < chain->count && !chain->segments[i].writable; i++)
		bytes += chain->segments[i].length;
	return bytes;
}

long virtio_chain_read(struct virtio *virtio, const struct virtio_chain *chain, uint64_t offset,
		       void *data, size_t length)
{
	size_t done = 0;

	for (unsigned i = 0; i < chain->count && !chain->segments[i].writable; i++) {
		const struct virtio_segment *segment = &chain->segments[i];
		size_t piece = length - done;

		if (offset >= segment->length) {
			offset -= segment->length;
			continue;
		}
		if (piece > segment->length - offset)
			piece = (size_t)(segment->length - offset);
		if (piece && vd_dma_read(virtio->space, (vd_iova){segment->iova + offset},
					 (char *)data + done, piece)) {
			virtio_broken(virtio);
			return -EFAULT;
		}
		done += piece;
		offset = 0;
	}
	return (long)done;
}
