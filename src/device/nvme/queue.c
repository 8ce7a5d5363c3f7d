/* SPDX-License-Identifier: BSD-2-Clause */
/* Queues and doorbells: NVMe 1.4, sections 3.1.24, 3.1.25 and 4.1. */
#include "device/nvme/nvme.h"

static uint32_t distance(uint32_t from, uint32_t to, uint32_t size)
{
	return to >= from ? to - from : to + size - from;
}

void nvme_fatal(struct nvme_controller *nvme)
{
	nvme->csts |= NVME_CSTS_CFS;
}

void nvme_raise(struct nvme_controller *nvme)
{
	for (unsigned word = 0; word < NVME_RAISE_WORDS; word++) {
		while (nvme->raise[word]) {
			unsigned id = word * 64 + (unsigned)__builtin_ctzll(nvme->raise[word]);

			nvme->raise[word] &= nvme->raise[word] - 1;
			if (nvme->device && nvme->cqs[id].interrupts)
				vd_device_raise(nvme->device, VD_IRQ_MSIX, nvme->cqs[id].vector);
		}
	}
}

void nvme_complete(struct nvme_controller *nvme, uint16_t sqid, uint16_t cid, uint16_t status,
		   uint32_t result)
{
	struct nvme_sq *sq = &nvme->sqs[sqid];
	struct nvme_cq *cq = &nvme->cqs[sq->cqid];
	struct nvme_completion entry = {
		.result = result,
		.sq_head = (uint16_t)sq->head,
		.sq_id = sqid,
		.cid = cid,
		.status = (uint16_t)(status << 1 | cq->phase),
	};

	/* After a reset nobody expects it, and the queue's memory may be something else by now. */
	if (!nvme_ready(nvme) || !cq->valid)
		return;
	cq->reserved--;
	if (nvme_post(nvme, cq->base + ((uint64_t)cq->tail << NVME_CQE_SHIFT), &entry)) {
		nvme_fatal(nvme);
		return;
	}
	cq->tail++;
	if (cq->tail == cq->size) {
		cq->tail = 0;
		cq->phase = !cq->phase;
	}
	nvme->raise[sq->cqid / 64] |= 1ull << (sq->cqid % 64);
}

static void invalid_value(struct nvme_controller *nvme)
{
	nvme_event_raise(nvme, NVME_EVENT_ERROR, NVME_EVENT_INVALID_DOORBELL_VALUE, NVME_LOG_ERROR);
}

/* 5.2, figure 148: out of range, or more entries than the queue has room for. */
static bool move_tail(struct nvme_controller *nvme, struct nvme_sq *sq, uint32_t tail)
{
	if (tail >= sq->size || distance(sq->tail, tail, sq->size) >
				sq->size - 1 - distance(sq->head, sq->tail, sq->size)) {
		invalid_value(nvme);
		return false;
	}
	sq->tail = tail;
	return true;
}

/* The same for a completion queue: no more entries can be taken than there are. */
static bool move_head(struct nvme_controller *nvme, struct nvme_cq *cq, uint32_t head)
{
	if (head >= cq->size || distance(cq->head, head, cq->size) >
				distance(cq->head, cq->tail, cq->size)) {
		invalid_value(nvme);
		return false;
	}
	cq->head = head;
	return true;
}

static bool has_room(const struct nvme_cq *cq)
{
	return distance(cq->head, cq->tail, cq->size) + cq->reserved < cq->size - 1;
}

/*
 * With a doorbell buffer a host moves the head in memory only: it is looked at when it matters, and
 * the host asked for a doorbell write only when commands wait for room.
 */
static void refresh_head(struct nvme_controller *nvme, struct nvme_cq *cq)
{
	unsigned index = nvme_cq_doorbell((unsigned)(cq - nvme->cqs));
	uint32_t head;

	if (nvme_shadow_read(nvme, index, &head))
		move_head(nvme, cq, head);
	while (nvme_ready(nvme) && !has_room(cq) && !nvme_shadow_arm(nvme, index, cq->head)) {
		uint32_t old = cq->head;

		if (!nvme_shadow_read(nvme, index, &head) || !move_head(nvme, cq, head) ||
		    cq->head == old)
			break;
	}
}

bool nvme_reserve(struct nvme_controller *nvme, struct nvme_cq *cq)
{
	if (!has_room(cq) && nvme->shadow && cq != nvme->cqs)
		refresh_head(nvme, cq);
	cq->full = !has_room(cq);
	if (cq->full)
		return false;
	cq->reserved++;
	return true;
}

static void run_command(struct nvme_controller *nvme, uint16_t sqid,
			const struct nvme_command *command)
{
	uint32_t result = 0;
	uint16_t status;

	/* Neither fused operations nor SGLs are offered (identify: FUSES, SGLS). */
	if (command->flags & (NVME_FLAGS_FUSE | NVME_FLAGS_PSDT))
		status = NVME_INVALID_FIELD;
	else if (sqid == 0)
		status = nvme_admin(nvme, command, &result);
	else
		status = nvme_io(nvme, sqid, command);
	if (status == NVME_PENDING)
		return;
	if (status != NVME_SUCCESS)
		status = nvme_log_error(nvme, sqid, command->cid, status, command->nsid, 0);
	nvme_complete(nvme, sqid, command->cid, status, result);
}

/* Copied once; what the guest changes in the queue afterwards changes nothing. */
static bool fetch(struct nvme_controller *nvme, struct nvme_sq *sq, struct nvme_command *command)
{
	vd_iova entry = {sq->base + ((uint64_t)sq->head << NVME_SQE_SHIFT)};
	uint64_t offset;
	bool cmb = nvme->cmbmsc && nvme_cmb_at(nvme, entry.value, &offset);

	if (cmb ? nvme_cmb_read(nvme, offset, command, sizeof(*command))
		: vd_dma_read(nvme->space, entry, command, sizeof(*command))) {
		nvme_fatal(nvme);
		return false;
	}
	nvme->fetched++;
	nvme->fetched_cmb += cmb;
	sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1;
	return true;
}

/* Whether there are more commands, known or, with a doorbell buffer, to be seen in memory. */
static bool more_commands(struct nvme_controller *nvme, uint16_t id, struct nvme_sq *sq)
{
	uint32_t tail;

	if (sq->head != sq->tail)
		return true;
	if (!nvme->shadow)
		return false;
	/*
	 * Ask for a doorbell first, then look again: a host that moved the tail before it saw the
	 * request has moved it visibly. Linux never uses the buffer for the admin queue: there only
	 * the register counts.
	 */
	if (nvme_shadow_arm(nvme, nvme_sq_doorbell(id), sq->tail) || id == 0)
		return false;
	return nvme_shadow_read(nvme, nvme_sq_doorbell(id), &tail) && tail != sq->tail &&
	       move_tail(nvme, sq, tail);
}

static void process_queue(struct nvme_controller *nvme, uint16_t id)
{
	struct nvme_sq *sq = &nvme->sqs[id];
	/*
	 * Another processor may fill the queue as fast as it is emptied; this one has other things
	 * to do, too.
	 */
	unsigned budget = 2 * sq->size;
	struct nvme_command command;

	while (sq->valid && nvme_ready(nvme) && nvme->bus_master && !nvme->quiesced &&
	       more_commands(nvme, id, sq)) {
		if (budget-- == 0 || (id != 0 && !nvme->free)) {
			nvme->stuck = true;
			break;
		}
		if (!nvme_reserve(nvme, &nvme->cqs[sq->cqid]))
			break;
		if (fetch(nvme, sq, &command))
			run_command(nvme, id, &command);
	}
}

/* After processing: start what was queued, report what is done. */
static void settle(struct nvme_controller *nvme)
{
	if (nvme->under_way)
		nvme_io_kick(nvme);
	nvme_raise(nvme);
	nvme_io_poll_state(nvme);
}

void nvme_process(struct nvme_controller *nvme)
{
	nvme->stuck = false;
	nvme_events_deliver(nvme);
	for (unsigned id = 0; id <= nvme->queue_limit; id++)
		process_queue(nvme, (uint16_t)id);
	settle(nvme);
}

static void sq_doorbell(struct nvme_controller *nvme, uint16_t id, uint32_t value)
{
	struct nvme_sq *sq = &nvme->sqs[id];

	/* With a doorbell buffer the write only says "look there". */
	if (nvme->shadow && id != 0) {
		if (!nvme_shadow_read(nvme, nvme_sq_doorbell(id), &value) ||
		    (value != sq->tail && !move_tail(nvme, sq, value)))
			return;
	} else if (value == sq->tail) {
		invalid_value(nvme);
		return;
	} else if (!move_tail(nvme, sq, value)) {
		return;
	}
	process_queue(nvme, id);
}

static void cq_doorbell(struct nvme_controller *nvme, uint16_t id, uint32_t value)
{
	struct nvme_cq *cq = &nvme->cqs[id];

	if (nvme->shadow && id != 0) {
		if (!nvme_shadow_read(nvme, nvme_cq_doorbell(id), &value))
			return;
	} else if (value == cq->head) {
		invalid_value(nvme);
		return;
	}
	if (!move_head(nvme, cq, value) || !cq->full)
		return;
	cq->full = false;
	for (unsigned sqid = 0; sqid <= nvme->queue_limit; sqid++) {
		if (nvme->sqs[sqid].valid && nvme->sqs[sqid].cqid == id)
			process_queue(nvme, (uint16_t)sqid);
	}
}

void nvme_doorbell(struct nvme_controller *nvme, uint64_t offset, uint32_t value)
{
	uint16_t id = (uint16_t)(offset / 8);
	bool completion = offset & 4;

	if (!nvme_ready(nvme))
		return;
	if (id > nvme->queue_limit || !(completion ? nvme->cqs[id].valid : nvme->sqs[id].valid))
		nvme_event_raise(nvme, NVME_EVENT_ERROR, NVME_EVENT_INVALID_DOORBELL,
				 NVME_LOG_ERROR);
	else if (completion)
		cq_doorbell(nvme, id, value);
	else
		sq_doorbell(nvme, id, value);
	nvme_events_deliver(nvme);
	settle(nvme);
}
