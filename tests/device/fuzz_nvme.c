/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An NVMe driver out of its mind: each input is a series of register writes, commands, memory
 * writes and resets. The normal test runs it over a fixed pseudo-random corpus
 * and over tests/fuzz/nvme.ar (test_nvme_hostile.c); `tools/fuzz nvme` searches on.
 */
#include "nvme_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rig rig;

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t next8(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->data++;
}

static uint32_t next32(struct input *input)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value = value << 8 | next8(input);
	return value;
}

/* Addresses that lead somewhere, or just next to it. */
static uint64_t address(struct input *input)
{
	static const uint64_t places[] = {
		RIG_DATA, RIG_DATA + 0x1000, RIG_QUEUES, RIG_QUEUES + 0x10000, RIG_ADMIN_SQ,
		RIG_ADMIN_CQ, RIG_RAM + (1 << 20), RIG_RAM + RIG_RAM_SIZE - 0x1000, RIG_SHADOW,
		RIG_RAM - 0x1000, 0, UINT64_MAX - 0xfff, RIG_RAM, RIG_EVENT_INDEX,
		RIG_RAM + RIG_RAM_SIZE, 0x28000000,
	};
	uint8_t choice = next8(input);
	uint64_t at = places[choice % 16];

	if (choice & 0x10)
		at += (next8(input) & 0xff) * 8ull;
	if (choice & 0x20)
		at += next8(input);
	return choice == 0xff ? (uint64_t)next32(input) << 32 | next32(input) : at;
}

static void fuzz_register(struct input *input)
{
	static const uint16_t registers[] = {NVME_CC, NVME_AQA, NVME_ASQ, NVME_ACQ, NVME_INTMS,
					     NVME_CSTS, NVME_NSSR, NVME_CC};
	uint8_t choice = next8(input);
	uint64_t offset = choice & 0x80 ? next32(input) % 0x4000 : registers[choice % 8];
	size_t length = choice & 0x40 ? 8 : choice & 0x20 ? 1 + next8(input) % 8 : 4;
	uint64_t value = next32(input);

	if (choice % 8 == 2 || choice % 8 == 3)
		value = address(input);
	else if (choice % 8 == 0 && !(choice & 0x10))
		value = 4u << 20 | 6u << 16 | 1;
	if (offset + length > 0x4000)
		return;
	(void)vd_device_write(rig.device, 0, (vd_region_offset){offset}, &value, length);
	(void)vd_device_read(rig.device, 0, (vd_region_offset){offset}, &value, length);
}

static void fuzz_command(struct input *input, uint8_t choice)
{
	static const uint8_t admin[] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 0x7c, 5, 1, 6, 9, 0x80};
	static const uint8_t nvm[] = {0, 1, 2, 2, 1, 8, 9, 2};
	uint8_t where = next8(input), opcode = next8(input);
	unsigned id = where % 4;
	struct nvme_command command = {
		.opcode = opcode & 0x80 ? opcode : id ? nvm[opcode % 8] : admin[opcode % 16],
		.flags = where & 0x80 ? next8(input) : 0,
		.nsid = where & 0x40 ? next32(input) : 1,
		.prp1 = address(input),
		.prp2 = address(input),
		.cdw12 = where & 0x08 ? next32(input) : next8(input),
	};
	struct rig_queue *queue = &rig.queues[id];
	struct nvme_completion completion;

	if (queue->entries == 0)
		return;
	/* Mostly what has a meaning: block numbers, or queue and feature numbers. */
	command.cdw10 = where & 0x20 ? next32(input) : id ? next32(input) % 9000 :
			(next8(input) & 7u) << 16 | (next8(input) & 15);
	command.cdw11 = where & 0x10 ? next32(input) : id ? (next8(input) & 4) :
			(next8(input) & 3u) << 16 | 7;
	rig_push(&rig, id, &command);
	if (choice & 0x40)
		rig_put32(&rig, RIG_SHADOW + 8 * id, queue->tail);
	rig_doorbell(&rig, id, false, queue->tail);
	while (choice & 0x80 && rig_pop(&rig, id, &completion))
		;
}

static void fuzz_memory(struct input *input)
{
	uint64_t at = address(input);
	uint64_t words[16];

	for (int i = 0; i < 16; i++)
		words[i] = next8(input) & 1 ? address(input) : next32(input);
	(void)vd_mem_write(rig.mem, (vd_gpa){at}, words, sizeof(words));
}

static void fuzz_rest(struct input *input, uint8_t choice)
{
	struct nvme_completion completion;
	unsigned id = next8(input) % 4;

	switch (choice % 8) {
	case 0:
		vd_device_reset(rig.device, choice & 0x80 ? VD_RESET_BUS : VD_RESET_FUNCTION);
		break;
	case 1:
		rig_bus_master(&rig, choice & 0x80);
		break;
	case 2:
		vd_device_quiesce(rig.device);
		vd_device_resume(rig.device);
		break;
	case 3:
		rig_doorbell(&rig, next8(input) % 40, choice & 0x80, next32(input) % 70000);
		break;
	case 4:
		rig_doorbell(&rig, id, choice & 0x80, next8(input) % 20);
		break;
	default:
		if (rig.queues[id].entries)
			(void)rig_pop(&rig, id, &completion);
		break;
	}
}

static void check_still_works(void)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 0, 8, RIG_DATA, 0);
	struct vd_dma_stats stats;

	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.pinned_bytes, 0);
	rig_bus_master(&rig, false);
	rig_start(&rig, 8);
	rig_create_pair(&rig, 2, 3);
	rig_create_pair(&rig, 3, 200);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	if (!rig.device) {
		struct vd_nvme_config config = {.snapshot = true};

		rig_open(&rig, &config);
	}
	check_still_works();
	while (input.left > 0) {
		uint8_t choice = next8(&input);

		/* Not for ever: most is to be found in a controller that runs. */
		if (choice >= 0xe0 && rig_read32(&rig, NVME_CSTS) != NVME_CSTS_RDY)
			check_still_works();
		if (choice % 8 < 4)
			fuzz_command(&input, choice);
		else if (choice % 8 == 4)
			fuzz_memory(&input);
		else if (choice % 8 == 5 && choice & 0x80)
			fuzz_register(&input);
		else
			fuzz_rest(&input, next8(&input));
		vd_device_poll(rig.device);
	}
	return 0;
}
