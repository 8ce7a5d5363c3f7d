/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words in guest memory that order matters for: completion entries, and the doorbell buffers of
 * NVMe 1.4, sections 5.7 and 7.13. Host and controller each write a word, then read the other's, so
 * both accesses are sequentially consistent.
 */
#include "device/nvme/nvme.h"

/*
 * Enters the guard; on success the caller uses the word and leaves it (after a store: by
 * leave_dirty()). Return: 0; -EFAULT; -EOPNOTSUPP the word is reached by messages, which keep the
 * order.
 */
static int enter(struct nvme_controller *nvme, uint64_t iova, unsigned access, uint32_t **word)
{
	for (;;) {
		void *pointer;
		uint64_t run;
		int rc;

		vd_dma_guard_enter(nvme->space);
		rc = vd_dma_translate(nvme->space, (vd_iova){iova}, access, &pointer, &run);
		/* Words and translations are aligned, so that one word is one run. */
		if (rc == 0 && run >= sizeof(uint32_t)) {
			*word = pointer;
			return 0;
		}
		vd_dma_guard_leave(nvme->space);
		if (rc != -EAGAIN)
			return rc == -EOPNOTSUPP ? rc : -EFAULT;
		vd_dma_wait(nvme->space, (vd_iova){iova}, sizeof(uint32_t));
	}
}

/* After the store, so that whoever takes the mark finds the word. */
static void leave_dirty(struct nvme_controller *nvme, uint64_t iova)
{
	vd_dma_mark_dirty(nvme->space, (vd_iova){iova}, sizeof(uint32_t));
	vd_dma_guard_leave(nvme->space);
}

int nvme_post(struct nvme_controller *nvme, uint64_t iova, const struct nvme_completion *entry)
{
	const uint32_t *words = (const uint32_t *)entry;
	uint32_t *last;
	int rc = vd_dma_write(nvme->space, (vd_iova){iova}, words, 3 * sizeof(uint32_t));

	if (rc)
		return rc;
	iova += 3 * sizeof(uint32_t);
	rc = enter(nvme, iova, VD_WRITE, &last);
	if (rc == -EOPNOTSUPP)
		return vd_dma_write(nvme->space, (vd_iova){iova}, &words[3], sizeof(uint32_t));
	if (rc)
		return rc;
	/* Release: pairs with the driver's acquire of the phase bit. */
	__atomic_store_n(last, words[3], __ATOMIC_RELEASE);
	leave_dirty(nvme, iova);
	return 0;
}

bool nvme_shadow_read(struct nvme_controller *nvme, unsigned index, uint32_t *value)
{
	uint64_t iova = nvme->shadow + 4 * index;
	uint32_t *word;
	int rc = enter(nvme, iova, VD_READ, &word);

	if (rc == -EOPNOTSUPP && !vd_dma_read(nvme->space, (vd_iova){iova}, value, sizeof(*value)))
		return true;
	if (rc) {
		nvme_fatal(nvme);
		return false;
	}
	/* Acquire (and more): pairs with the driver's barrier between queue entry and doorbell. */
	*value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
	vd_dma_guard_leave(nvme->space);
	return true;
}

bool nvme_shadow_arm(struct nvme_controller *nvme, unsigned index, uint32_t seen)
{
	uint64_t iova = nvme->event_index + 4 * index;
	uint32_t *word, now;
	int rc = enter(nvme, iova, VD_WRITE, &word);

	if (rc == -EOPNOTSUPP) {
		rc = vd_dma_write(nvme->space, (vd_iova){iova}, &seen, sizeof(seen));
	} else if (!rc) {
		__atomic_store_n(word, seen, __ATOMIC_SEQ_CST);
		leave_dirty(nvme, iova);
	}
	if (rc) {
		nvme_fatal(nvme);
		return true;
	}
	return !nvme_shadow_read(nvme, index, &now) || now == seen;
}

static uint16_t init_words(struct nvme_controller *nvme, uint64_t shadow, uint64_t event_index,
			   unsigned index, uint32_t value)
{
	if (vd_dma_write(nvme->space, (vd_iova){shadow + 4 * index}, &value, 4) ||
	    vd_dma_write(nvme->space, (vd_iova){event_index + 4 * index}, &value, 4))
		return NVME_DATA_TRANSFER_ERROR;
	return NVME_SUCCESS;
}

void nvme_shadow_init(struct nvme_controller *nvme, unsigned index, uint32_t value)
{
	if (nvme->shadow && init_words(nvme, nvme->shadow, nvme->event_index, index, value))
		nvme_fatal(nvme);
}

uint16_t nvme_doorbell_buffer(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint64_t page = 1ull << nvme->page_shift;

	/*
	 * Without translations nothing is at address 0 that a host would use; 0 means "none" here.
	 */
	if (((command->prp1 | command->prp2) & (page - 1)) || !command->prp1 || !command->prp2)
		return NVME_INVALID_FIELD;
	/* Queues that exist already: a host may have used them before. All or nothing. */
	for (unsigned id = 0; id <= nvme->queue_limit; id++) {
		uint16_t status = init_words(nvme, command->prp1, command->prp2,
					     nvme_sq_doorbell(id), nvme->sqs[id].tail);

		if (!status)
			status = init_words(nvme, command->prp1, command->prp2,
					    nvme_cq_doorbell(id), nvme->cqs[id].head);
		if (status)
			return status;
	}
	nvme->shadow = command->prp1;
	nvme->event_index = command->prp2;
	return NVME_SUCCESS;
}
