/* SPDX-License-Identifier: BSD-2-Clause */
/* The NVMe controller's registers, admin commands and queues, driven as a driver does. */
#include "nvme_rig.h"

static struct rig rig;

static int setup(void **state)
{
	(void)state;
	rig_open(&rig, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_inject_site = NULL;
	rig_close(&rig);
	return 0;
}

/* ---- registers ----------------------------------------------------------------------------------- */

static void registers_read_as_specified(void **state)
{
	uint64_t cap = rig_read64(&rig, NVME_CAP);
	uint8_t byte = 0;
	uint16_t half = 0;

	(void)state;
	assert_int_equal(cap & 0xffff, 1023);		/* MQES */
	assert_int_equal(cap >> 16 & 1, 1);		/* CQR */
	assert_true((cap >> 24 & 0xff) > 0);		/* TO */
	assert_int_equal(cap >> 32 & 15, 0);		/* DSTRD */
	assert_int_equal(cap >> 37 & 0xff, 1);		/* CSS: NVM */
	assert_int_equal(cap >> 48 & 15, 0);		/* MPSMIN: 4 KiB */
	assert_int_equal(cap >> 52 & 15, 4);		/* MPSMAX: 64 KiB */
	assert_int_equal(rig_read32(&rig, NVME_CAP), (uint32_t)cap);
	assert_int_equal(rig_read32(&rig, NVME_CAP + 4), cap >> 32);
	assert_int_equal(rig_read32(&rig, NVME_VS), 0x10400);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(rig_read64(&rig, 0x38), 0);	/* no CMB */
	assert_int_equal(vd_device_read(rig.device, 0, (vd_region_offset){NVME_VS + 2}, &half, 2), 0);
	assert_int_equal(half, 1);
	assert_int_equal(vd_device_read(rig.device, 0, (vd_region_offset){NVME_VS + 1}, &byte, 1), 0);
	assert_int_equal(byte, 4);
	assert_int_equal(vd_device_region(rig.device, 0)->size, 0x4000);
	assert_int_equal(vd_device_region(rig.device, 0)->flags & VD_REGION_MMAP, 0);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_MSIX), 33);
}

static void interrupt_masks_are_harmless(void **state)
{
	(void)state;
	rig_write32(&rig, NVME_INTMS, 0xf0);
	assert_int_equal(rig_read32(&rig, NVME_INTMS), 0xf0);
	rig_write32(&rig, NVME_INTMC, 0x30);
	assert_int_equal(rig_read32(&rig, NVME_INTMC), 0xc0);
}

static void odd_accesses_do_nothing(void **state)
{
	uint64_t ones = UINT64_MAX;

	(void)state;
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC}, &ones, 1), 0);
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC + 2}, &ones, 4), 0);
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC}, &ones, 3), 0);
	rig_write32(&rig, 0x38, 0xffffffff);
	rig_write32(&rig, NVME_CAP, 0xffffffff);
	rig_write32(&rig, NVME_NSSR, 0x4e564d65);
	assert_int_equal(rig_read32(&rig, NVME_CC), 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(rig_read32(&rig, 0x1000), 0);
}

static void enables_and_disables(void **state)
{
	(void)state;
	rig_bus_master(&rig, true);
	assert_int_equal(rig_enable(&rig), NVME_CSTS_RDY);
	/* The admin queue's registers are fixed while enabled. */
	rig_write32(&rig, NVME_AQA, 0);
	rig_write64(&rig, NVME_ASQ, 0);
	assert_int_equal(rig_read64(&rig, NVME_ASQ), RIG_ADMIN_SQ);
	assert_int_not_equal(rig_read32(&rig, NVME_AQA), 0);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	/* They survive a controller reset, not a function's. */
	assert_int_equal(rig_read64(&rig, NVME_ASQ), RIG_ADMIN_SQ);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(rig_read64(&rig, NVME_ASQ), 0);
}

static void impossible_settings_are_fatal(void **state)
{
	static const struct { uint32_t cc, aqa; uint64_t asq; } bad[] = {
		{1 | 5 << 7, 0xf000f, RIG_ADMIN_SQ},	/* pages of 128 KiB */
		{1 | 1 << 4, 0xf000f, RIG_ADMIN_SQ},	/* unknown command set */
		{1 | 1 << 11, 0xf000f, RIG_ADMIN_SQ},	/* weighted arbitration */
		{1, 0x0000f, RIG_ADMIN_SQ},		/* queue of one entry */
		{1, 0xf0000, RIG_ADMIN_SQ},
		{1 | 4 << 7, 0xf000f, RIG_ADMIN_SQ},	/* not aligned to 64 KiB */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_write32(&rig, NVME_AQA, bad[i].aqa);
		rig_write64(&rig, NVME_ASQ, bad[i].asq);
		rig_write64(&rig, NVME_ACQ, RIG_ADMIN_CQ);
		rig_write32(&rig, NVME_CC, bad[i].cc);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_CFS);
		rig_doorbell(&rig, 0, false, 1);
		rig_write32(&rig, NVME_CC, 0);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	}
	rig_start(&rig, 4);
}

static void shutdown_is_reported(void **state)
{
	(void)state;
	rig_start(&rig, 4);
	rig_write32(&rig, NVME_CC, rig_read32(&rig, NVME_CC) | 1 << 14);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	rig_start(&rig, 4);
	rig_inject_site = "image.flush";
	rig_inject_code = -EIO;
	rig_write32(&rig, NVME_CC, rig_read32(&rig, NVME_CC) | 1 << 14);
	assert_true(rig_read32(&rig, NVME_CSTS) & NVME_CSTS_CFS);
}

/* ---- identify ------------------------------------------------------------------------------------- */

static uint16_t identify(uint32_t cns, uint32_t nsid, uint8_t *data)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_IDENTIFY, cns, 0, RIG_DATA + 0x800);
	uint16_t status;

	/* Across two pages, that lie in no order. */
	command.prp2 = RIG_DATA - 0x1000;
	command.nsid = nsid;
	status = rig_run(&rig, 0, &command, NULL);
	rig_get(&rig, RIG_DATA + 0x800, data, 0x800);
	rig_get(&rig, RIG_DATA - 0x1000, data + 0x800, 0x800);
	return status;
}

static void identifies(void **state)
{
	uint8_t data[4096];
	uint64_t blocks;
	uint32_t list[2];

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(identify(NVME_CNS_CONTROLLER, 0, data), NVME_SUCCESS);
	assert_int_equal(data[77], 9);
	assert_int_equal(data[256] | data[257] << 8, 1 << 8);
	assert_int_equal(data[512], 0x66);
	assert_int_equal(data[513], 0x44);
	assert_int_equal(data[516], 1);
	assert_int_equal(data[520], 0x0c);
	assert_int_equal(data[525] & 1, 1);
	assert_memory_equal(data + 24, "Viaduct NVMe ", 13);
	assert_memory_equal(data + 768, "nqn.2014-08.", 12);
	assert_int_equal(identify(NVME_CNS_NAMESPACE, 1, data), NVME_SUCCESS);
	memcpy(&blocks, data, 8);
	assert_int_equal(blocks, RIG_IMAGE_SIZE / 512);
	assert_int_equal(data[33], 9);
	assert_int_equal(data[99], 0);
	assert_int_equal(data[130], 9);
	memcpy(&blocks, data + 120, 8);
	assert_int_not_equal(blocks, 0);
	assert_int_equal(identify(NVME_CNS_DESCRIPTORS, 1, data), NVME_SUCCESS);
	assert_int_equal(data[0], 1);
	assert_int_equal(data[1], 8);
	assert_memory_equal(data + 4, &blocks, 8);
	assert_int_equal(identify(NVME_CNS_ACTIVE_LIST, 0, data), NVME_SUCCESS);
	memcpy(list, data, 8);
	assert_int_equal(list[0], 1);
	assert_int_equal(list[1], 0);
	assert_int_equal(identify(NVME_CNS_ACTIVE_LIST, 1, data), NVME_SUCCESS);
	assert_int_equal(data[0], 0);
}

static void identify_errors(void **state)
{
	struct nvme_command command;
	uint8_t data[4096];

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(identify(NVME_CNS_NAMESPACE, 0, data), NVME_INVALID_NAMESPACE);
	assert_int_equal(identify(NVME_CNS_NAMESPACE, 2, data), NVME_INVALID_NAMESPACE);
	assert_int_equal(identify(NVME_CNS_NAMESPACE, NVME_NSID_ALL, data), NVME_INVALID_NAMESPACE);
	assert_int_equal(identify(NVME_CNS_DESCRIPTORS, 7, data), NVME_INVALID_NAMESPACE);
	assert_int_equal(identify(NVME_CNS_ACTIVE_LIST, NVME_NSID_ALL, data), NVME_INVALID_NAMESPACE);
	assert_int_equal(identify(0x77, 1, data), NVME_INVALID_FIELD);
	command = rig_admin(NVME_ADMIN_IDENTIFY, 1, 0, RIG_DATA + 1);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_INVALID_PRP_OFFSET);
	command = rig_admin(NVME_ADMIN_IDENTIFY, 1, 0, RIG_DATA + 4);
	command.prp2 = RIG_DATA + 4;
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_INVALID_PRP_OFFSET);
	command = rig_admin(NVME_ADMIN_IDENTIFY, 1, 0, 0x1000);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_DATA_TRANSFER_ERROR);
}

static void serials_tell_images_apart(void **state)
{
	struct vd_nvme_config config = {.serial = "SN 1"};
	uint8_t first[4096], second[4096];
	struct rig other = rig;

	(void)state;
	rig_start(&rig, 0);
	identify(NVME_CNS_CONTROLLER, 0, first);
	other = rig;
	rig_open(&rig, NULL);
	rig_start(&rig, 0);
	identify(NVME_CNS_CONTROLLER, 0, second);
	assert_memory_not_equal(first + 4, second + 4, 20);
	rig_close(&rig);
	rig_open(&rig, &config);
	rig_start(&rig, 0);
	identify(NVME_CNS_CONTROLLER, 0, first);
	assert_memory_equal(first + 4, "SN 1                ", 20);
	rig_close(&rig);
	rig = other;
	assert_int_equal(vd_device_set_sink(rig.device, VD_IRQ_MSIX, NULL, NULL), 0);
}

/* ---- queues ---------------------------------------------------------------------------------------- */

static uint16_t admin(uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1)
{
	struct nvme_command command = rig_admin(opcode, cdw10, cdw11, prp1);

	return rig_run(&rig, 0, &command, NULL);
}

static void queue_creation_is_checked(void **state)
{
	const uint64_t at = RIG_QUEUES;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 0, 3, at), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 33, 3, at), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 0xffff, 3, at), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 0 << 16 | 1, 3, at), NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 1024u << 16 | 1, 3, at), NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 2, at), NVME_INVALID_FIELD);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at + 8), NVME_INVALID_PRP_OFFSET);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 33u << 16 | 3, at),
			 NVME_INVALID_VECTOR);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at), NVME_SUCCESS);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 2 << 16 | 1, at), NVME_CQ_INVALID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 0 << 16 | 1, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 99 << 16 | 1, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 0 << 16 | 1, 1 << 16 | 1, at),
			 NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 0, at),
			 NVME_INVALID_FIELD);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 1, at), NVME_SUCCESS);
	assert_int_equal(admin(NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_INVALID_QUEUE_DELETION);
	assert_int_equal(admin(NVME_ADMIN_DELETE_CQ, 0, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_DELETE_SQ, 0, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_DELETE_SQ, 0xffff, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_DELETE_SQ, 1, 0, 0), NVME_SUCCESS);
	assert_int_equal(admin(NVME_ADMIN_DELETE_SQ, 1, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(admin(NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_SUCCESS);
	assert_int_equal(admin(NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_INVALID_QUEUE_ID);
}

static void queues_wrap_and_turn_the_phase(void **state)
{
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 3);
	for (int i = 0; i < 50; i++) {
		command = rig_io(NVME_IO_READ, (uint64_t)i, 1, RIG_DATA, 0);
		assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	}
	assert_int_equal(rig.interrupts[1], 50);
	assert_true(rig.interrupts[0] >= 2);
}

/*
 * More commands than completion entries: the rest waits for the head doorbell. With @durable they are under way
 * when the next is fetched, where the host has io_uring.
 */
static void fill_completion_queue(bool durable)
{
	struct nvme_command command;
	struct nvme_completion completion;
	unsigned done = 0;
	static const uint8_t zeroes[64];
	bool seen[15] = {false};

	rig_start(&rig, 0);
	rig_put(&rig, RIG_QUEUES + 0x10000, zeroes, sizeof(zeroes));
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 3 << 16 | 1, 3, RIG_QUEUES + 0x10000), 0);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 15 << 16 | 1, 1 << 16 | 1, RIG_QUEUES), 0);
	rig.queues[1] = (struct rig_queue){
		.id = 1, .entries = 16, .cq_entries = 4, .sq = RIG_QUEUES,
		.cq = RIG_QUEUES + 0x10000, .phase = true,
	};
	for (int i = 0; i < 15; i++) {
		command = rig_io(durable ? NVME_IO_WRITE : NVME_IO_READ, (uint64_t)i, 1, RIG_DATA, 0);
		command.cdw12 |= durable ? 1u << 30 : 0;
		rig_push(&rig, 1, &command);
	}
	rig_ring(&rig, 1);
	/* What is under way ends here, though nothing has been taken from the queue. */
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	vd_device_resume(rig.device);
	for (; done < 15; done++) {
		rig_wait(&rig, 1, &completion);
		assert_true(completion.cid < 15 && !seen[completion.cid]);
		seen[completion.cid] = true;
		assert_int_equal(completion.status >> 1, 0);
	}
	assert_false(rig_pop(&rig, 1, &completion));
	rig_write32(&rig, NVME_CC, 0);
}

static void full_completion_queue_holds_commands_back(void **state)
{
	(void)state;
	fill_completion_queue(false);
	fill_completion_queue(true);
}

/* ---- other admin commands --------------------------------------------------------------------------- */

static void unknown_commands_are_refused(void **state)
{
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(admin(0x10, 0, 0, 0), NVME_INVALID_OPCODE);
	assert_int_equal(admin(0xff, 0, 0, 0), NVME_INVALID_OPCODE);
	command = rig_io(0x05, 0, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_INVALID_OPCODE);
	command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	command.flags = 1; /* fused */
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_INVALID_FIELD);
	command.flags = 0x40; /* SGL */
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_INVALID_FIELD);
}

static uint16_t feature(bool set, uint32_t id, uint32_t value, uint32_t *result)
{
	struct nvme_command command = rig_admin(set ? NVME_ADMIN_SET_FEATURES :
						NVME_ADMIN_GET_FEATURES, id, value, 0);

	return rig_run(&rig, 0, &command, result);
}

static void features_keep_their_values(void **state)
{
	static const uint32_t plain[] = {
		NVME_FEATURE_ARBITRATION, NVME_FEATURE_ERROR_RECOVERY, NVME_FEATURE_COALESCING,
		NVME_FEATURE_ATOMICITY, NVME_FEATURE_ASYNC_EVENTS, NVME_FEATURE_WRITE_CACHE,
	};
	uint32_t value = 9;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(feature(false, NVME_FEATURE_WRITE_CACHE, 0, &value), NVME_SUCCESS);
	assert_int_equal(value, 1);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		assert_int_equal(feature(true, plain[i], 1, NULL), NVME_SUCCESS);
		assert_int_equal(feature(false, plain[i], 0, &value), NVME_SUCCESS);
		assert_int_equal(value, 1);
		assert_int_equal(feature(true, plain[i], 0, NULL), NVME_SUCCESS);
		assert_int_equal(feature(false, plain[i], 0, &value), NVME_SUCCESS);
		assert_int_equal(value, 0);
	}
	assert_int_equal(feature(true, NVME_FEATURE_VECTOR, 1 << 16 | 3, NULL), NVME_SUCCESS);
	assert_int_equal(feature(false, NVME_FEATURE_VECTOR, 3, &value), NVME_SUCCESS);
	assert_int_equal(value, 1 << 16 | 3);
	assert_int_equal(feature(false, NVME_FEATURE_VECTOR, 4, &value), NVME_SUCCESS);
	assert_int_equal(value, 4);
	assert_int_equal(feature(true, NVME_FEATURE_VECTOR, 500, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(false, NVME_FEATURE_VECTOR, 500, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_POWER, 1, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_POWER, 0, NULL), NVME_SUCCESS);
	assert_int_equal(feature(true, 0x3f, 0, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(false, 0xc0, 0, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(false, 1 << 8 | NVME_FEATURE_QUEUES, 0, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, 1u << 31 | NVME_FEATURE_ARBITRATION, 0, NULL),
			 NVME_FEATURE_NOT_SAVEABLE);
	/* Back to defaults by a controller reset. */
	rig_write32(&rig, NVME_CC, 0);
	rig_start(&rig, 0);
	assert_int_equal(feature(false, NVME_FEATURE_WRITE_CACHE, 0, &value), NVME_SUCCESS);
	assert_int_equal(value, 1);
}

static void number_of_queues_is_negotiated(void **state)
{
	uint32_t value = 0;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(feature(true, NVME_FEATURE_QUEUES, 0xffff0000, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_QUEUES, 0x00ff00ff, &value), NVME_SUCCESS);
	assert_int_equal(value, 31 << 16 | 31);
	assert_int_equal(feature(true, NVME_FEATURE_QUEUES, 1 << 16 | 0, &value), NVME_SUCCESS);
	assert_int_equal(value, 1 << 16 | 1);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 3 << 16 | 3, 3, RIG_QUEUES),
			 NVME_INVALID_QUEUE_ID);
	rig_create_pair(&rig, 2, 4);
	assert_int_equal(feature(true, NVME_FEATURE_QUEUES, 0, NULL), NVME_COMMAND_SEQUENCE_ERROR);
}

static uint16_t log_page(uint32_t id, uint64_t offset, uint32_t bytes, bool retain, void *data)
{
	struct nvme_command command =
		rig_admin(NVME_ADMIN_GET_LOG_PAGE, (bytes / 4 - 1) << 16 | retain << 15 | id,
			  (bytes / 4 - 1) >> 16, RIG_DATA);
	uint16_t status;

	command.prp2 = RIG_DATA + 0x1000;
	command.cdw12 = (uint32_t)offset;
	command.cdw13 = (uint32_t)(offset >> 32);
	command.nsid = NVME_NSID_ALL;
	status = rig_run(&rig, 0, &command, NULL);
	if (data)
		rig_get(&rig, RIG_DATA, data, bytes);
	return status;
}

static void log_pages(void **state)
{
	struct nvme_error_entry errors[16];
	uint8_t data[512];
	uint16_t temperature;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(admin(0x7f, 0, 0, 0), NVME_INVALID_OPCODE);
	assert_int_equal(log_page(NVME_LOG_ERROR, 0, sizeof(errors), false, errors), NVME_SUCCESS);
	assert_int_equal(errors[0].count, 1);
	assert_int_equal(errors[0].sq_id, 0);
	assert_int_equal((errors[0].status >> 1) & ~NVME_MORE, NVME_INVALID_OPCODE);
	assert_int_equal(errors[1].count, 0);
	assert_int_equal(log_page(NVME_LOG_HEALTH, 0, sizeof(data), false, data), NVME_SUCCESS);
	assert_int_equal(data[0], 0);
	memcpy(&temperature, data + 1, 2);
	assert_true(temperature > 273 && temperature < 343);
	assert_int_equal(data[3], 100);
	assert_int_equal(data[176], 1);
	assert_int_equal(log_page(NVME_LOG_FIRMWARE, 0, 16, false, data), NVME_SUCCESS);
	assert_int_equal(data[0], 1);
	assert_int_equal(log_page(NVME_LOG_CHANGED_NAMESPACES, 0, 4, false, data), NVME_SUCCESS);
	assert_int_equal(data[0], 0);
	assert_int_equal(log_page(NVME_LOG_ERROR, 64, 64, false, errors), NVME_SUCCESS);
	assert_int_equal(errors[0].count, 0);
	assert_int_equal(log_page(NVME_LOG_ERROR, 2, 64, false, NULL), NVME_INVALID_FIELD);
	assert_int_equal(log_page(NVME_LOG_HEALTH, 512, 4, false, NULL), NVME_INVALID_FIELD);
	assert_int_equal(log_page(NVME_LOG_HEALTH, 1ull << 40, 4, false, NULL), NVME_INVALID_FIELD);
	assert_int_equal(log_page(0x70, 0, 4, false, NULL), NVME_INVALID_LOG_PAGE);
	/* More than there is, and as much as a host can ask for: only the page itself is written. */
	memset(data, 0x5a, sizeof(data));
	rig_put(&rig, RIG_DATA + sizeof(data), data, sizeof(data));
	assert_int_equal(admin(NVME_ADMIN_GET_LOG_PAGE, 2047u << 16 | NVME_LOG_HEALTH, 0, RIG_DATA),
			 NVME_SUCCESS);
	rig_get(&rig, RIG_DATA + sizeof(data), data, sizeof(data));
	assert_int_equal(data[0], 0x5a);
	assert_int_equal(admin(NVME_ADMIN_GET_LOG_PAGE, 0xffff0000 | NVME_LOG_HEALTH, 0xffff,
			       RIG_DATA), NVME_SUCCESS);
}

static uint16_t request_event(void)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0, 0);
	uint16_t cid = rig_push(&rig, 0, &command);

	rig_ring(&rig, 0);
	return cid;
}

static void asynchronous_events(void **state)
{
	struct nvme_completion completion;
	uint16_t cid;

	(void)state;
	rig_start(&rig, 4);
	cid = request_event();
	assert_false(rig_pop(&rig, 0, &completion));
	/* A doorbell of a queue that is not there. */
	rig_doorbell(&rig, 5, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, cid);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 0 << 8 | NVME_EVENT_ERROR);
	/* Masked until its log page is read, without "retain". */
	cid = request_event();
	rig_doorbell(&rig, 1, false, 4);
	assert_false(rig_pop(&rig, 0, &completion));
	assert_int_equal(log_page(NVME_LOG_ERROR, 0, 64, true, NULL), NVME_SUCCESS);
	assert_false(rig_pop(&rig, 0, &completion));
	assert_int_equal(log_page(NVME_LOG_ERROR, 0, 64, false, NULL), NVME_SUCCESS);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, cid);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 1 << 8 | NVME_EVENT_ERROR);
}

static void temperature_threshold_raises_an_event(void **state)
{
	struct nvme_completion completion;
	uint32_t value = 0;
	uint8_t warning;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(feature(true, NVME_FEATURE_ASYNC_EVENTS, 2, NULL), NVME_SUCCESS);
	assert_int_equal(feature(false, NVME_FEATURE_TEMPERATURE, 0, &value), NVME_SUCCESS);
	assert_int_equal(value, 343);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 3 << 16 | 300, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 2 << 20 | 300, NULL), NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 1 << 20 | 200, NULL), NVME_SUCCESS);
	assert_int_equal(feature(false, NVME_FEATURE_TEMPERATURE, 1 << 20, &value), NVME_SUCCESS);
	assert_int_equal(value, 200);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 300, NULL), NVME_SUCCESS);
	request_event();
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.result, NVME_LOG_HEALTH << 16 | 1 << 8 | NVME_EVENT_HEALTH);
	assert_int_equal(log_page(NVME_LOG_HEALTH, 0, 4, false, &value), NVME_SUCCESS);
	warning = (uint8_t)value;
	assert_int_equal(warning, 2);
}

static void event_requests_have_a_limit(void **state)
{
	struct nvme_completion completion;
	uint16_t cids[5];

	(void)state;
	rig_start(&rig, 0);
	for (int i = 0; i < 5; i++)
		cids[i] = request_event();
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, cids[4]);
	assert_int_equal((completion.status >> 1) & ~NVME_MORE, NVME_AER_LIMIT_EXCEEDED);
	assert_false(rig_pop(&rig, 0, &completion));
	/* While they wait they keep no completion entry from others. */
	for (unsigned i = 0; i < RIG_ADMIN_ENTRIES - 1; i++) {
		struct nvme_command command = rig_admin(0x7f, 0, 0, 0);

		rig_push(&rig, 0, &command);
	}
	rig_ring(&rig, 0);
	/* The phase of the last of them, before any was taken. */
	assert_int_equal(rig_get32(&rig, RIG_ADMIN_CQ + 16 * 15 + 12) >> 16 & 1, 1);
	for (unsigned i = 0; i < RIG_ADMIN_ENTRIES - 1; i++)
		assert_true(rig_pop(&rig, 0, &completion));
}

static void aborts(void **state)
{
	struct nvme_command command;
	struct nvme_completion completion;
	uint16_t cid, abort_cid;

	(void)state;
	rig_start(&rig, 4);
	cid = request_event();
	command = rig_admin(NVME_ADMIN_ABORT, (uint32_t)cid << 16, 0, 0);
	abort_cid = rig_push(&rig, 0, &command);
	rig_ring(&rig, 0);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, cid);
	assert_int_equal((completion.status >> 1) & ~NVME_MORE, NVME_ABORT_REQUESTED);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, abort_cid);
	assert_int_equal(completion.result & 1, 0);
	/* What is not outstanding is not aborted, which is no error. */
	command = rig_admin(NVME_ADMIN_ABORT, 77u << 16 | 1, 0, 0);
	abort_cid = rig_push(&rig, 0, &command);
	rig_ring(&rig, 0);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	assert_int_equal(completion.result & 1, 1);
}

/* ---- doorbells -------------------------------------------------------------------------------------- */

static void doorbell_values_are_checked(void **state)
{
	static const struct { unsigned id; bool completion; uint32_t value; uint8_t info; } bad[] = {
		{1, false, 8, 1}, {1, false, 0xffffffff, 1}, {1, false, 0, 1}, {1, true, 8, 1},
		{1, true, 1, 1}, {1, true, 0, 1}, {0, false, 16, 1}, {2, false, 1, 0},
		{2, true, 1, 0}, {33, false, 1, 0}, {511, true, 1, 0},
	};
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 8);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request_event();
		rig_doorbell(&rig, bad[i].id, bad[i].completion, bad[i].value);
		rig_wait(&rig, 0, &completion);
		assert_int_equal(completion.result,
				 NVME_LOG_ERROR << 16 | bad[i].info << 8 | NVME_EVENT_ERROR);
		assert_int_equal(log_page(NVME_LOG_ERROR, 0, 64, false, NULL), NVME_SUCCESS);
	}
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

/* A head beyond the queue is refused also when as many entries would be there to take. */
static void head_beyond_the_queue_is_refused(void **state)
{
	struct nvme_completion completion;
	struct nvme_command command = rig_io(NVME_IO_FLUSH, 0, 1, 0, 0);

	(void)state;
	rig_start(&rig, 8);
	for (int i = 0; i < 5; i++)
		assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	for (int i = 0; i < 7; i++)
		rig_push(&rig, 1, &command);
	rig_ring(&rig, 1);
	vd_device_quiesce(rig.device);
	vd_device_resume(rig.device);
	request_event();
	rig_doorbell(&rig, 1, true, 9);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 1 << 8 | NVME_EVENT_ERROR);
}

static void doorbells_wait_for_bus_mastering(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 4);
	rig_bus_master(&rig, false);
	rig_push(&rig, 1, &command);
	rig_ring(&rig, 1);
	assert_false(rig_pop(&rig, 1, &completion));
	rig_bus_master(&rig, true);
	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
}

static void quiesced_controller_starts_nothing(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	rig_push(&rig, 1, &command);
	rig_ring(&rig, 1);
	assert_false(rig_pop(&rig, 1, &completion));
	vd_device_resume(rig.device);
	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
}

/* ---- doorbell buffers --------------------------------------------------------------------------------- */

static uint16_t configure_shadow(uint64_t shadow, uint64_t event_index)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_DOORBELL_BUFFER, 0, 0, shadow);

	command.prp2 = event_index;
	return rig_run(&rig, 0, &command, NULL);
}

static void shadow_doorbells(void **state)
{
	struct vd_device_stats before, after;
	struct nvme_command command;
	int rounds = 100;

	(void)state;
	rig_start(&rig, 8);
	/* A queue that was used before, as some hosts do. */
	command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	assert_int_equal(configure_shadow(RIG_SHADOW + 8, RIG_EVENT_INDEX), NVME_INVALID_FIELD);
	assert_int_equal(configure_shadow(RIG_SHADOW, RIG_EVENT_INDEX + 4), NVME_INVALID_FIELD);
	assert_int_equal(configure_shadow(RIG_SHADOW, 0x1000), NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(configure_shadow(RIG_SHADOW, RIG_EVENT_INDEX), NVME_SUCCESS);
	assert_int_equal(rig_get32(&rig, RIG_SHADOW + 8), 1);
	rig.queues[1].shadow = true;
	vd_device_stats(rig.device, &before);
	for (int i = 0; i < rounds; i++) {
		command = rig_io(NVME_IO_READ, (uint64_t)i, 1, RIG_DATA, 0);
		assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	}
	vd_device_stats(rig.device, &after);
	/* One doorbell a command, and hardly any for completions. */
	assert_true(after.trapped_writes[0] - before.trapped_writes[0] < (unsigned)rounds * 3 / 2);
	rig_create_pair(&rig, 2, 4);
	rig.queues[2].shadow = true;
	command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 2, &command, NULL), NVME_SUCCESS);
}

/* The completion queue is full and its head moves in memory only: commands still go on. */
static void shadow_head_frees_entries(void **state)
{
	struct nvme_command command;
	struct nvme_completion completion;
	unsigned done = 0;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(configure_shadow(RIG_SHADOW, RIG_EVENT_INDEX), NVME_SUCCESS);
	assert_int_equal(admin(NVME_ADMIN_CREATE_CQ, 2 << 16 | 1, 3, RIG_QUEUES + 0x10000), 0);
	assert_int_equal(admin(NVME_ADMIN_CREATE_SQ, 15 << 16 | 1, 1 << 16 | 1, RIG_QUEUES), 0);
	rig.queues[1] = (struct rig_queue){
		.id = 1, .entries = 16, .cq_entries = 3, .sq = RIG_QUEUES,
		.cq = RIG_QUEUES + 0x10000, .phase = true, .shadow = true,
	};
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 10; i++) {
			command = rig_io(NVME_IO_READ, (uint64_t)i, 1, RIG_DATA, 0);
			rig_push(&rig, 1, &command);
			rig_ring(&rig, 1);
		}
		for (int i = 0; i < 10; i++, done++) {
			rig_wait(&rig, 1, &completion);
			assert_int_equal(completion.cid, done);
		}
	}
}

static void hostile_shadow_values_are_reported(void **state)
{
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(configure_shadow(RIG_SHADOW, RIG_EVENT_INDEX), NVME_SUCCESS);
	request_event();
	rig_put32(&rig, RIG_SHADOW + 8, 0xdeadbeef);
	rig_doorbell(&rig, 1, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 1 << 8 | NVME_EVENT_ERROR);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

/* ---- set-up ------------------------------------------------------------------------------------------- */

static void bad_configurations_are_explained(void **state)
{
	static const struct { struct vd_nvme_config config; const char *words; } bad[] = {
		{{.queues = 129}, "1 to 128 queues"},
		{{.serial = "a serial number too long"}, "more than 20"},
		{{.serial = "bell\a"}, "printable"},
		{{.flush = "never"}, "unknown flush"},
		{{.backing = "tape"}, "unknown backing"},
	};
	struct vd_device *device;

	(void)state;
	for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
		bool last = i == sizeof(bad) / sizeof(bad[0]);
		struct vd_nvme_config config = last ? (struct vd_nvme_config){0} : bad[i].config;
		struct vd_error error = {0};

		config.env = rig.env;
		config.host = rig.host;
		config.space = rig.space;
		config.image = last ? NULL : "/tmp";
		assert_int_equal(vd_nvme_create(&config, &device, &error), -EINVAL);
		assert_non_null(strstr(error.text, last ? "image=FILE" : bad[i].words));
	}
}

static void failed_creation_leaves_nothing(void **state)
{
	static const char *const sites[] = {"nvme.create", "nvme.requests", "nvme.descriptors",
					    "image.open", "image.allocate"};
	struct vd_device *device;

	(void)state;
	vd_device_put(rig.device);
	rig.device = NULL;
	for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++) {
		struct vd_nvme_config config = {.env = rig.env, .host = rig.host,
						.space = rig.space, .image = rig.path};
		int before = dup(0), after;

		close(before);
		rig_inject_site = sites[i];
		rig_inject_code = -ENOMEM;
		assert_int_equal(vd_nvme_create(&config, &device, NULL), -ENOMEM);
		rig_inject_site = NULL;
		after = dup(0);
		close(after);
		assert_int_equal(before, after);
		assert_int_equal(vd_nvme_create(&config, &device, NULL), 0);
		vd_device_put(device);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(registers_read_as_specified), TEST(interrupt_masks_are_harmless),
		TEST(odd_accesses_do_nothing), TEST(enables_and_disables),
		TEST(impossible_settings_are_fatal), TEST(shutdown_is_reported), TEST(identifies),
		TEST(identify_errors), TEST(serials_tell_images_apart),
		TEST(queue_creation_is_checked), TEST(queues_wrap_and_turn_the_phase),
		TEST(full_completion_queue_holds_commands_back),
		TEST(unknown_commands_are_refused), TEST(features_keep_their_values),
		TEST(number_of_queues_is_negotiated), TEST(log_pages), TEST(asynchronous_events),
		TEST(temperature_threshold_raises_an_event), TEST(event_requests_have_a_limit),
		TEST(aborts), TEST(doorbell_values_are_checked),
		TEST(head_beyond_the_queue_is_refused),
		TEST(doorbells_wait_for_bus_mastering), TEST(quiesced_controller_starts_nothing),
		TEST(shadow_doorbells), TEST(shadow_head_frees_entries),
		TEST(hostile_shadow_values_are_reported), TEST(bad_configurations_are_explained),
		TEST(failed_creation_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
