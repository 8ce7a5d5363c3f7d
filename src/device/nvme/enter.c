/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is reached by messages: while the controller waits for some, its client may access
 * it, and does before it answers. Whoever comes in meanwhile changes nothing that the one who waits
 * is using: it leaves a note, and that one does what the notes say when it is through. Only a
 * controller that shall stop is told at once, so that it begins nothing more.
 */
#include "device/nvme/nvme.h"

/* A client that always leaves one note more has its turn again when the device is polled. */
#define ROUNDS_MAX 32u

bool nvme_enter(struct nvme_controller *nvme)
{
	if (nvme->inside)
		return false;
	nvme->inside = true;
	return true;
}

static void note_doorbell(struct nvme_notes *notes, uint64_t offset, uint32_t value)
{
	uint64_t index = offset / sizeof(uint32_t);

	/* All that do not exist are the same. */
	if (index >= NVME_DOORBELLS)
		index = NVME_DOORBELLS - 1;
	notes->doorbells[index] = value;
	notes->rung[index / 64] |= 1ull << index % 64;
}

/* What was rung before a controller is disabled is nothing to the one that is enabled again. */
static void note_cc(struct nvme_controller *nvme, uint32_t value)
{
	struct nvme_notes *notes = &nvme->notes;

	if ((nvme->cc & NVME_CC_EN) && !(value & NVME_CC_EN)) {
		*notes = (struct nvme_notes){.disable = true, .bus_master = notes->bus_master};
		nvme->stopping = true;
	}
	notes->write_cc = true;
	notes->cc = value & NVME_CC_WRITABLE;
}

bool nvme_note(struct nvme_controller *nvme, uint64_t offset, uint32_t value)
{
	if (!nvme->inside)
		return false;
	if (offset >= NVME_REGISTERS_END)
		note_doorbell(&nvme->notes, offset - NVME_REGISTERS_END, value);
	else if (offset == NVME_CC)
		note_cc(nvme, value);
	else
		return false;
	nvme->notes.any = true;
	return true;
}

void nvme_note_bus_master(struct nvme_controller *nvme)
{
	nvme->notes.any = nvme->notes.bus_master = true;
}

/* In the order in which a driver does it: off, on, doorbells. */
static void follow(struct nvme_controller *nvme)
{
	const struct nvme_notes notes = nvme->notes;

	nvme->notes = (struct nvme_notes){0};
	if (notes.disable) {
		nvme->stopping = false;
		nvme_write_cc(nvme, nvme->cc & ~NVME_CC_EN);
	}
	if (notes.write_cc)
		nvme_write_cc(nvme, notes.cc);
	if (notes.bus_master)
		nvme_bus_master_changed(nvme);
	for (unsigned word = 0; word < NVME_DOORBELL_WORDS; word++) {
		for (uint64_t rung = notes.rung[word]; rung; rung &= rung - 1) {
			unsigned index = word * 64 + (unsigned)__builtin_ctzll(rung);

			nvme_doorbell(nvme, index * sizeof(uint32_t), notes.doorbells[index]);
		}
	}
}

void nvme_leave(struct nvme_controller *nvme)
{
	for (unsigned round = 0; nvme->notes.any && round < ROUNDS_MAX; round++)
		follow(nvme);
	nvme->inside = false;
	if (nvme->notes.any || nvme->poll_again) {
		nvme->poll_again = false;
		nvme->stuck |= nvme->notes.any;
		nvme_io_poll_state(nvme);
	}
}

void nvme_forget_notes(struct nvme_controller *nvme)
{
	nvme->notes = (struct nvme_notes){0};
	nvme->stopping = false;
}

void nvme_follow_notes(struct nvme_controller *nvme)
{
	if (nvme->notes.any)
		follow(nvme);
}
