/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Saving and loading. One function names every field once, for both directions. A stream is
 * hostile: it is loaded into a scratch controller, checked there, and then loaded again from the
 * same bytes.
 */
#include <string.h>

#include "device/nvme/nvme.h"

#define MAGIC 0x33656d766e6476ull /* "vdnvme3" */

struct visitor {
	struct vd_stream *stream;
	bool save;
};

static void visit_bytes(struct visitor *visitor, void *data, size_t size)
{
	if (visitor->save)
		vd_stream_put(visitor->stream, data, size);
	else
		vd_stream_get(visitor->stream, data, size);
}

#define VISIT(visitor, field) visit_bytes(visitor, &(field), sizeof(field))

/* Not by visit_bytes: a bool that is neither 0 nor 1 is not a bool. */
static void visit_bool(struct visitor *visitor, bool *value)
{
	uint8_t byte = *value;

	VISIT(visitor, byte);
	*value = byte & 1;
}

static void visit_sq(struct visitor *visitor, struct nvme_sq *sq)
{
	visit_bool(visitor, &sq->valid);
	VISIT(visitor, sq->cqid);
	VISIT(visitor, sq->size);
	VISIT(visitor, sq->head);
	VISIT(visitor, sq->tail);
	VISIT(visitor, sq->base);
}

static void visit_cq(struct visitor *visitor, struct nvme_cq *cq)
{
	visit_bool(visitor, &cq->valid);
	visit_bool(visitor, &cq->phase);
	visit_bool(visitor, &cq->interrupts);
	VISIT(visitor, cq->vector);
	VISIT(visitor, cq->size);
	VISIT(visitor, cq->head);
	VISIT(visitor, cq->tail);
	VISIT(visitor, cq->base);
}

static void visit_events(struct visitor *visitor, struct nvme_controller *nvme)
{
	VISIT(visitor, nvme->async_event_count);
	VISIT(visitor, nvme->async_event_cids);
	for (unsigned type = 0; type < NVME_EVENT_TYPES; type++) {
		visit_bool(visitor, &nvme->events[type].pending);
		visit_bool(visitor, &nvme->events[type].masked);
		VISIT(visitor, nvme->events[type].info);
		VISIT(visitor, nvme->events[type].log);
	}
	VISIT(visitor, nvme->errors);
	VISIT(visitor, nvme->counters);
}

static void visit(struct visitor *visitor, struct nvme_controller *nvme)
{
	VISIT(visitor, nvme->cc);
	VISIT(visitor, nvme->csts);
	VISIT(visitor, nvme->aqa);
	VISIT(visitor, nvme->intm);
	VISIT(visitor, nvme->asq);
	VISIT(visitor, nvme->acq);
	VISIT(visitor, nvme->cmbmsc);
	VISIT(visitor, nvme->page_shift);
	VISIT(visitor, nvme->queues_granted);
	VISIT(visitor, nvme->shadow);
	VISIT(visitor, nvme->event_index);
	VISIT(visitor, nvme->features);
	VISIT(visitor, nvme->vector_features);
	VISIT(visitor, nvme->temperature_over);
	VISIT(visitor, nvme->temperature_under);
	visit_bool(visitor, &nvme->bus_master);
	/* A copy of the image would have others, and a guest remembers its disks by them. */
	VISIT(visitor, nvme->serial);
	VISIT(visitor, nvme->eui64);
	visit_events(visitor, nvme);
	for (unsigned id = 0; id <= nvme->queue_limit; id++) {
		visit_sq(visitor, &nvme->sqs[id]);
		visit_cq(visitor, &nvme->cqs[id]);
	}
}

/* What has to be the same on both sides. */
struct header {
	uint64_t magic, size, cmb_size, limit;
};

static struct header header_of(const struct nvme_controller *nvme)
{
	return (struct header){MAGIC, vd_image_size(nvme->image), nvme->cmb_size,
			       nvme->queue_limit};
}

int nvme_save(void *context, struct vd_stream *stream)
{
	struct nvme_controller *nvme = context;
	struct visitor visitor = {stream, true};
	struct header header = header_of(nvme);

	VISIT(&visitor, header);
	visit(&visitor, nvme);
	vd_pci_flat_save(nvme->device, NULL, 0, stream);
	return stream->failed ? -ENOMEM : 0;
}

/* ---- what a controller could never have come to ------------------------------------------ */

static bool queue_plausible(uint32_t size, uint32_t head, uint32_t tail, uint64_t base,
			    uint32_t most, unsigned page_shift)
{
	return size >= 2 && size <= most && head < size && tail < size &&
	       (base & ((1ull << page_shift) - 1)) == 0;
}

static bool queues_plausible(struct nvme_controller *nvme)
{
	for (unsigned id = 0; id <= nvme->queue_limit; id++) {
		const struct nvme_cq *cq = &nvme->cqs[id];
		uint32_t most = id ? NVME_ENTRIES_MAX : 4096;

		if (cq->valid && (!queue_plausible(cq->size, cq->head, cq->tail, cq->base, most,
						   nvme->page_shift) ||
				  cq->vector > nvme->queue_limit))
			return false;
	}
	for (unsigned id = 0; id <= nvme->queue_limit; id++) {
		const struct nvme_sq *sq = &nvme->sqs[id];
		uint32_t most = id ? NVME_ENTRIES_MAX : 4096;

		if (sq->valid && (!queue_plausible(sq->size, sq->head, sq->tail, sq->base, most,
						   nvme->page_shift) ||
				  sq->cqid > nvme->queue_limit || (sq->cqid == 0) != (id == 0) ||
				  !nvme->cqs[sq->cqid].valid))
			return false;
	}
	return true;
}

static bool serial_plausible(const struct nvme_controller *nvme)
{
	size_t length = strnlen(nvme->serial, sizeof(nvme->serial));

	for (size_t i = 0; i < length; i++) {
		if (nvme->serial[i] < ' ' || nvme->serial[i] > '~')
			return false;
	}
	return length < sizeof(nvme->serial);
}

static bool plausible(struct nvme_controller *nvme)
{
	bool ready = nvme->csts & NVME_CSTS_RDY;
	uint64_t page;

	if (nvme->cmbmsc & ~(NVME_CMBMSC_CBA | NVME_CMBMSC_CMSE | NVME_CMBMSC_CRE) ||
	    (nvme->cmbmsc && !nvme->cmb_size))
		return false;
	if (!serial_plausible(nvme) || nvme->async_event_count > NVME_EVENTS_MAX ||
	    nvme->queues_granted == 0 || nvme->queues_granted > nvme->queue_limit)
		return false;
	if (ready && nvme->page_shift != 12 + NVME_CC_MPS(nvme->cc))
		return false;
	if (ready && (nvme->page_shift > NVME_PAGE_SHIFT_MAX || !nvme->sqs[0].valid ||
		      !nvme->cqs[0].valid || !(nvme->cc & NVME_CC_EN)))
		return false;
	page = ready ? 1ull << nvme->page_shift : 1;
	if ((nvme->shadow | nvme->event_index) & (page - 1) ||
	    !nvme->shadow != !nvme->event_index)
		return false;
	return !ready || queues_plausible(nvme);
}

/* Counted, not stored, so that it cannot be wrong. */
static void derive(struct nvme_controller *nvme)
{
	bool ready = nvme->csts & NVME_CSTS_RDY;

	for (unsigned id = 0; id <= nvme->queue_limit; id++) {
		nvme->sqs[id].under_way = 0;
		nvme->cqs[id].users = nvme->cqs[id].reserved = 0;
		nvme->cqs[id].full = true; /* look for commands at the next doorbell */
		nvme->sqs[id].valid &= ready;
		nvme->cqs[id].valid &= ready;
	}
	for (unsigned id = 0; ready && id <= nvme->queue_limit; id++) {
		if (nvme->sqs[id].valid)
			nvme->cqs[nvme->sqs[id].cqid].users++;
	}
}

int nvme_load(void *context, struct vd_stream *stream)
{
	struct nvme_controller *nvme = context, *scratch;
	struct visitor visitor = {stream, false};
	struct header own = header_of(nvme), header;
	size_t start;
	bool good;

	VISIT(&visitor, header);
	if (memcmp(&header, &own, sizeof(own)) != 0)
		return -EINVAL;
	scratch = vd_env_allocate(nvme->env, "nvme.load", sizeof(*scratch),
				  _Alignof(struct nvme_controller));
	if (!scratch)
		return -ENOMEM;
	scratch->queue_limit = nvme->queue_limit;
	scratch->cmb_size = nvme->cmb_size;
	start = stream->position;
	visit(&visitor, scratch);
	good = !stream->failed && plausible(scratch) &&
	       stream->length - stream->position >= nvme->cmb_size;
	nvme->env->release(nvme->env, scratch, sizeof(*scratch));
	if (!good)
		return -EINVAL;
	stream->position = start;
	visit(&visitor, nvme);
	derive(nvme);
	return vd_pci_flat_load(nvme->device, NULL, 0, stream);
}
