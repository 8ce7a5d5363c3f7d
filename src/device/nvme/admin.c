/* SPDX-License-Identifier: BSD-2-Clause */
/* Admin commands, and creation and deletion of queues: NVMe 1.4, sections 5.1 to 5.6. */
#include "device/nvme/nvme.h"

#define CONTIGUOUS 1u
#define INTERRUPTS 2u

static uint16_t check_new_queue(const struct nvme_controller *nvme,
				const struct nvme_command *command, bool exists)
{
	uint32_t id = command->cdw10 & 0xffff, last = command->cdw10 >> 16;

	if (id == 0 || id > nvme->queues_granted || exists)
		return NVME_INVALID_QUEUE_ID;
	if (last == 0 || last >= NVME_ENTRIES_MAX)
		return NVME_INVALID_QUEUE_SIZE;
	/* CAP.CQR: contiguous only. */
	if (!(command->cdw11 & CONTIGUOUS))
		return NVME_INVALID_FIELD;
	if (command->prp1 & ((1ull << nvme->page_shift) - 1))
		return NVME_INVALID_PRP_OFFSET;
	return NVME_SUCCESS;
}

static bool exists(const struct nvme_controller *nvme, uint32_t id, bool completion)
{
	return id <= nvme->queue_limit && (completion ? nvme->cqs[id].valid : nvme->sqs[id].valid);
}

static uint64_t queue_size(const struct nvme_command *command)
{
	return (command->cdw10 >> 16) + 1;
}

static uint16_t create_cq(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint32_t id = command->cdw10 & 0xffff, vector = command->cdw11 >> 16;
	uint16_t status = check_new_queue(nvme, command, exists(nvme, id, true));

	if (status)
		return status;
	/* The entry size is the host's to set before the first queue (3.1.5). */
	if (NVME_CC_IOCQES(nvme->cc) != NVME_CQE_SHIFT)
		return NVME_INVALID_QUEUE_SIZE;
	if (vector > nvme->queue_limit)
		return NVME_INVALID_VECTOR;
	if (nvme_cmb_meets(nvme, command->prp1, queue_size(command) << NVME_CQE_SHIFT))
		return NVME_INVALID_CMB_USE;
	nvme->cqs[id] = (struct nvme_cq){
		.valid = true,
		.phase = true,
		.interrupts = command->cdw11 & INTERRUPTS,
		.vector = (uint16_t)vector,
		.size = (uint32_t)queue_size(command),
		.base = command->prp1,
	};
	nvme_shadow_init(nvme, nvme_cq_doorbell(id), 0);
	return NVME_SUCCESS;
}

static uint16_t create_sq(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint32_t id = command->cdw10 & 0xffff, cqid = command->cdw11 >> 16;
	uint16_t status = check_new_queue(nvme, command, exists(nvme, id, false));

	if (status)
		return status;
	if (NVME_CC_IOSQES(nvme->cc) != NVME_SQE_SHIFT)
		return NVME_INVALID_QUEUE_SIZE;
	if (cqid == 0 || cqid > nvme->queues_granted)
		return NVME_INVALID_QUEUE_ID;
	if (!exists(nvme, cqid, true))
		return NVME_CQ_INVALID;
	if (!nvme_cmb_can_hold(nvme, command->prp1, queue_size(command) << NVME_SQE_SHIFT))
		return NVME_INVALID_CMB_USE;
	nvme->sqs[id] = (struct nvme_sq){
		.valid = true,
		.cqid = (uint16_t)cqid,
		.size = (uint32_t)queue_size(command),
		.base = command->prp1,
	};
	nvme->cqs[cqid].users++;
	nvme_shadow_init(nvme, nvme_sq_doorbell(id), 0);
	return NVME_SUCCESS;
}

static uint16_t delete_cq(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint32_t id = command->cdw10 & 0xffff;

	if (id == 0 || !exists(nvme, id, true))
		return NVME_INVALID_QUEUE_ID;
	if (nvme->cqs[id].users)
		return NVME_INVALID_QUEUE_DELETION;
	nvme->cqs[id] = (struct nvme_cq){0};
	return NVME_SUCCESS;
}

static uint16_t delete_sq(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint32_t id = command->cdw10 & 0xffff;

	if (id == 0 || !exists(nvme, id, false))
		return NVME_INVALID_QUEUE_ID;
	/* What was fetched is completed before the deletion is (5.6). */
	nvme_io_drain(nvme, &nvme->sqs[id].under_way);
	nvme->cqs[nvme->sqs[id].cqid].users--;
	nvme->sqs[id] = (struct nvme_sq){0};
	return NVME_SUCCESS;
}

/*
 * 5.1: of the commands that are outstanding for long, only an asynchronous event request can be
 * taken back; a transfer ends by itself. Bit 0 of the result: not aborted.
 */
static uint16_t abort_command(struct nvme_controller *nvme, const struct nvme_command *command,
			      uint32_t *result)
{
	uint16_t sqid = (uint16_t)command->cdw10, cid = (uint16_t)(command->cdw10 >> 16);

	*result = !(sqid == 0 && nvme_event_abort(nvme, cid));
	return NVME_SUCCESS;
}

uint16_t nvme_admin(struct nvme_controller *nvme, const struct nvme_command *command,
		    uint32_t *result)
{
	switch (command->opcode) {
	case NVME_ADMIN_DELETE_SQ:
		return delete_sq(nvme, command);
	case NVME_ADMIN_CREATE_SQ:
		return create_sq(nvme, command);
	case NVME_ADMIN_GET_LOG_PAGE:
		return nvme_get_log_page(nvme, command);
	case NVME_ADMIN_DELETE_CQ:
		return delete_cq(nvme, command);
	case NVME_ADMIN_CREATE_CQ:
		return create_cq(nvme, command);
	case NVME_ADMIN_IDENTIFY:
		return nvme_identify(nvme, command);
	case NVME_ADMIN_ABORT:
		return abort_command(nvme, command, result);
	case NVME_ADMIN_SET_FEATURES:
		return nvme_set_features(nvme, command, result);
	case NVME_ADMIN_GET_FEATURES:
		return nvme_get_features(nvme, command, result);
	case NVME_ADMIN_ASYNC_EVENT:
		return nvme_async_event(nvme, command);
	case NVME_ADMIN_DOORBELL_BUFFER:
		return nvme_doorbell_buffer(nvme, command);
	default:
		return NVME_INVALID_OPCODE;
	}
}
