/* SPDX-License-Identifier: BSD-2-Clause */
/* Controller registers: NVMe 1.4, section 3.1. */
#include <string.h>

#include "device/nvme/nvme.h"

uint64_t nvme_capabilities(const struct nvme_controller *nvme)
{
	return (NVME_ENTRIES_MAX - 1) | NVME_CAP_CQR | NVME_CAP_TO(20) | NVME_CAP_CSS_NVM |
	       NVME_CAP_MPSMAX(NVME_PAGE_SHIFT_MAX) | (nvme->cmb_size ? NVME_CAP_CMBS : 0);
}

static uint32_t read32(const struct nvme_controller *nvme, uint64_t offset)
{
	switch (offset) {
	case NVME_CAP:
		return (uint32_t)nvme_capabilities(nvme);
	case NVME_CAP + 4:
		return (uint32_t)(nvme_capabilities(nvme) >> 32);
	case NVME_VS:
		return 0x00010400;
	case NVME_INTMS:
	case NVME_INTMC:
		return nvme->intm;
	case NVME_CC:
		return nvme->notes.write_cc ? nvme->notes.cc : nvme->cc;
	case NVME_CSTS:
		return nvme->csts;
	case NVME_AQA:
		return nvme->aqa;
	case NVME_ASQ:
		return (uint32_t)nvme->asq;
	case NVME_ASQ + 4:
		return (uint32_t)(nvme->asq >> 32);
	case NVME_ACQ:
		return (uint32_t)nvme->acq;
	case NVME_ACQ + 4:
		return (uint32_t)(nvme->acq >> 32);
	case NVME_CMBLOC:
		return nvme_cmb_location(nvme);
	case NVME_CMBSZ:
		return nvme_cmb_size(nvme);
	case NVME_CMBMSC:
		return (uint32_t)nvme->cmbmsc;
	case NVME_CMBMSC + 4:
		return (uint32_t)(nvme->cmbmsc >> 32);
	case NVME_CMBSTS:
		return nvme_cmb_invalid(nvme) ? NVME_CMBSTS_CBAI : 0;
	default:
		return 0;
	}
}

int nvme_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	const struct nvme_controller *nvme = context;
	uint8_t *bytes = data;

	if (region != VD_REGION_BAR0) {
		memset(data, 0, length);
		return 0;
	}
	for (size_t i = 0; i < length; i++, offset++) {
		uint32_t word = offset < NVME_REGISTERS_END ? read32(nvme, offset & ~3ull) : 0;

		bytes[i] = (uint8_t)(word >> (offset & 3) * 8);
	}
	return 0;
}

void nvme_disable(struct nvme_controller *nvme)
{
	nvme->csts &= ~NVME_CSTS_RDY;
	nvme_io_drain(nvme, &nvme->under_way);
	memset(nvme->sqs, 0, sizeof(nvme->sqs));
	memset(nvme->cqs, 0, sizeof(nvme->cqs));
	memset(nvme->events, 0, sizeof(nvme->events));
	nvme->async_event_count = 0;
	nvme->shadow = nvme->event_index = 0;
	nvme->stuck = false;
	nvme_features_reset(nvme);
	nvme_io_poll_state(nvme);
}

static bool queues_make_sense(const struct nvme_controller *nvme, uint32_t cc)
{
	uint64_t page = 1ull << (12 + NVME_CC_MPS(cc));
	uint64_t sq_size = (nvme->aqa & 0xfff) + 1, cq_size = (nvme->aqa >> 16 & 0xfff) + 1;

	return NVME_CC_CSS(cc) == 0 && NVME_CC_AMS(cc) == 0 &&
	       12 + NVME_CC_MPS(cc) <= NVME_PAGE_SHIFT_MAX &&
	       ((nvme->asq | nvme->acq) & (page - 1)) == 0 && sq_size > 1 && cq_size > 1 &&
	       nvme_cmb_can_hold(nvme, nvme->asq, sq_size << NVME_SQE_SHIFT) &&
	       !nvme_cmb_meets(nvme, nvme->acq, cq_size << NVME_CQE_SHIFT);
}

/* 7.6.1; what cannot work is a fatal status and not a ready controller. */
static void enable(struct nvme_controller *nvme, uint32_t cc)
{
	if (!queues_make_sense(nvme, cc)) {
		nvme->csts = NVME_CSTS_CFS;
		return;
	}
	nvme->page_shift = 12 + NVME_CC_MPS(cc);
	nvme->sqs[0] = (struct nvme_sq){
		.valid = true,
		.size = (nvme->aqa & 0xfff) + 1,
		.base = nvme->asq,
	};
	nvme->cqs[0] = (struct nvme_cq){
		.valid = true,
		.phase = true,
		.interrupts = true,
		.users = 1,
		.size = (nvme->aqa >> 16 & 0xfff) + 1,
		.base = nvme->acq,
	};
	nvme->csts = NVME_CSTS_RDY;
}

/* 7.6.2: when the shutdown is reported complete, power may go. */
static void shut_down(struct nvme_controller *nvme)
{
	if (nvme_io_flush(nvme))
		nvme->csts |= NVME_CSTS_CFS;
	nvme->csts |= NVME_CSTS_SHST_DONE;
}

void nvme_write_cc(struct nvme_controller *nvme, uint32_t value)
{
	uint32_t old = nvme->cc;

	value &= NVME_CC_WRITABLE;
	nvme->cc = value;
	if (NVME_CC_SHN(value) && !NVME_CC_SHN(old))
		shut_down(nvme);
	else if (!NVME_CC_SHN(value))
		nvme->csts &= ~NVME_CSTS_SHST_MASK;
	if ((old & NVME_CC_EN) && !(value & NVME_CC_EN)) {
		nvme_disable(nvme);
		nvme->csts &= NVME_CSTS_SHST_MASK;
	} else if (!(old & NVME_CC_EN) && (value & NVME_CC_EN)) {
		enable(nvme, value);
	}
}

static void replace_half(uint64_t *reg, unsigned half, uint32_t value, uint64_t mask)
{
	unsigned shift = half ? 32 : 0;

	*reg = ((*reg & ~(0xffffffffull << shift)) | (uint64_t)value << shift) & mask;
}

static void write_register(struct nvme_controller *nvme, uint64_t offset, uint32_t value)
{
	bool enabled = nvme->cc & NVME_CC_EN;
	uint64_t cmbmsc;

	if (offset >= NVME_REGISTERS_END) {
		nvme_doorbell(nvme, offset - NVME_REGISTERS_END, value);
		return;
	}
	switch (offset) {
	case NVME_INTMS:
		nvme->intm |= value;
		break;
	case NVME_INTMC:
		nvme->intm &= ~value;
		break;
	case NVME_CC:
		nvme_write_cc(nvme, value);
		break;
	case NVME_AQA:
		if (!enabled)
			nvme->aqa = value & 0x0fff0fff;
		break;
	case NVME_ASQ:
	case NVME_ASQ + 4:
		if (!enabled)
			replace_half(&nvme->asq, offset & 4, value, ~0xfffull);
		break;
	case NVME_ACQ:
	case NVME_ACQ + 4:
		if (!enabled)
			replace_half(&nvme->acq, offset & 4, value, ~0xfffull);
		break;
	case NVME_CMBMSC:
	case NVME_CMBMSC + 4:
		cmbmsc = nvme->cmbmsc;
		replace_half(&cmbmsc, offset & 4, value, UINT64_MAX);
		nvme_cmb_control(nvme, cmbmsc);
		break;
	}
}

static void write32(struct nvme_controller *nvme, uint64_t offset, uint32_t value)
{
	bool entered;

	if (nvme_note(nvme, offset, value))
		return;
	/* What is not noted, with somebody inside, does not wait for memory. */
	entered = nvme_enter(nvme);
	write_register(nvme, offset, value);
	if (entered)
		nvme_leave(nvme);
}

int nvme_write(void *context, unsigned region, uint64_t offset, const void *data, size_t length)
{
	struct nvme_controller *nvme = context;
	uint32_t words[2];

	/* 3.1: other sizes and alignments are not allowed; they do nothing. */
	if (region != VD_REGION_BAR0 || offset % 4 != 0 || (length != 4 && length != 8) ||
	    offset >= NVME_MSIX_OFFSET)
		return 0;
	memcpy(words, data, length);
	write32(nvme, offset, words[0]);
	if (length == 8 && offset + 4 < NVME_REGISTERS_END)
		write32(nvme, offset + 4, words[1]);
	return 0;
}
