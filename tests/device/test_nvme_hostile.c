/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that means harm: the process survives, the controller says what is wrong, a reset makes
 * it good again.
 */
#include "../base/corpus.h"
#include "nvme_rig.h"

#define TRAP 0x28000000ull
#define ROM 0x20000000ull
#define PAGE 4096u
#define LISTS (RIG_RAM + (1ull << 20))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rig rig;
static unsigned trapped;

static int trap_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context;
	(void)offset;
	(void)length;
	*value = 0;
	trapped++;
	return 0;
}

static int trap_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context;
	(void)offset;
	(void)length;
	(void)value;
	trapped++;
	return 0;
}

/* Some device's registers, where DMA must never arrive. */
static void add_trap(void)
{
	static const struct vd_trap_ops ops = {.read = trap_read, .write = trap_write};
	struct vd_slot_config slot = {
		.base = {TRAP}, .size = 0x4000, .kind = VD_SLOT_TRAP, .ops = &ops,
		.reason = "registers", .name = "BAR",
	};
	uint32_t id;

	assert_int_equal(vd_mem_add_slot(rig.mem, &slot, &id, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	rig_open(&rig, NULL);
	add_trap();
	trapped = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(trapped, 0);
	rig_close(&rig);
	return 0;
}

static void expect_fatal_then_recover(void)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);

	assert_true(rig_read32(&rig, NVME_CSTS) & NVME_CSTS_CFS);
	/* Nothing more happens until the reset. */
	rig_doorbell(&rig, 0, false, 3);
	rig_doorbell(&rig, 1, false, 3);
	vd_device_poll(rig.device);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	rig_start(&rig, 4);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
}

static void admin_queue_outside_memory(void **state)
{
	static const uint64_t places[] = {0, 0x1000, TRAP, UINT64_MAX & ~0xfffull,
					  RIG_RAM + RIG_RAM_SIZE};

	(void)state;
	rig_bus_master(&rig, true);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		for (int which = 0; which < 2; which++) {
			rig_write32(&rig, NVME_AQA, 0xf000f);
			rig_write64(&rig, NVME_ASQ, which ? RIG_ADMIN_SQ : places[i]);
			rig_write64(&rig, NVME_ACQ, which ? places[i] : RIG_ADMIN_CQ);
			rig_write32(&rig, NVME_CC, 4u << 20 | 6u << 16 | 1);
			rig_doorbell(&rig, 0, false, 1);
			expect_fatal_then_recover();
			rig_write32(&rig, NVME_CC, 0);
		}
	}
}

static void io_queue_outside_memory(void **state)
{
	static const uint64_t places[] = {0x1000, TRAP, RIG_RAM + RIG_RAM_SIZE};

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		for (int which = 0; which < 2; which++) {
			struct nvme_command command;

			rig_start(&rig, 0);
			command = rig_admin(NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3,
					    which ? places[i] : RIG_QUEUES + 0x10000);
			assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
			command = rig_admin(NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 1,
					    which ? RIG_QUEUES : places[i]);
			assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
			rig_doorbell(&rig, 1, false, 1);
			expect_fatal_then_recover();
			rig_write32(&rig, NVME_CC, 0);
		}
	}
}

/* A queue that runs over the end of memory works as far as there is memory. */
static void queue_over_the_end_of_memory(void **state)
{
	const uint64_t base = RIG_RAM + RIG_RAM_SIZE - PAGE;
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 0);
	command = rig_admin(NVME_ADMIN_CREATE_CQ, 1023u << 16 | 1, 3, RIG_QUEUES);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	command = rig_admin(NVME_ADMIN_CREATE_SQ, 1023u << 16 | 1, 1 << 16 | 1, base);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	rig.queues[1] = (struct rig_queue){.id = 1, .entries = 1024, .cq_entries = 1024,
					   .sq = base, .cq = RIG_QUEUES, .phase = true};
	for (int i = 0; i < 64; i++) {
		command = rig_io(NVME_IO_FLUSH, 0, 1, 0, 0);
		assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	}
	rig_doorbell(&rig, 1, false, 65);
	expect_fatal_then_recover();
}

static void queues_over_themselves(void **state)
{
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 0);
	command = rig_admin(NVME_ADMIN_CREATE_CQ, 63 << 16 | 1, 3, RIG_QUEUES);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	command = rig_admin(NVME_ADMIN_CREATE_SQ, 63 << 16 | 1, 1 << 16 | 1, RIG_QUEUES);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	/*
	 * Commands whose data are the queue itself: completions become commands, data become both.
	 */
	for (unsigned i = 0; i < 64; i++) {
		command = rig_io(NVME_IO_READ, i, 8, RIG_QUEUES, 0);
		rig_put(&rig, RIG_QUEUES + 64 * i, &command, sizeof(command));
	}
	rig_doorbell(&rig, 1, false, 63);
	rig_doorbell(&rig, 1, true, 62);
	vd_device_poll(rig.device);
	rig_write32(&rig, NVME_CC, 0);
	rig_start(&rig, 4);
	command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
}

/*
 * A chain that leads back to itself ends when the data do: every page but the first holds 511
 * entries.
 */
static void prp_list_in_a_circle(void **state)
{
	struct nvme_command command;
	uint64_t entries[512];

	(void)state;
	rig_start(&rig, 4);
	for (int i = 0; i < 512; i++)
		entries[i] = RIG_DATA;
	entries[511] = LISTS;
	rig_put(&rig, LISTS, entries, sizeof(entries));
	/* From the last entry of the page on: a pointer, then all the rest. */
	command = rig_io(NVME_IO_WRITE, 0, 4096, RIG_DATA, LISTS + PAGE - 8);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	/* Two megabytes from an offset on need 512 list entries: no pointer. */
	entries[511] = RIG_DATA;
	rig_put(&rig, LISTS, entries, sizeof(entries));
	command = rig_io(NVME_IO_WRITE, 0, 4096, RIG_DATA + 512, LISTS);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	/* A list that the data overwrite: it was copied before. */
	command = rig_io(NVME_IO_READ, 0, 64, RIG_DATA, LISTS);
	entries[0] = LISTS;
	rig_put(&rig, LISTS, entries, sizeof(entries));
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
}

static void dma_over_registers_faults(void **state)
{
	struct vd_dma_stats before, after;
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 4);
	vd_dma_stats(rig.space, &before);
	command = rig_io(NVME_IO_READ, 0, 8, TRAP, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	command = rig_io(NVME_IO_WRITE, 0, 24, RIG_DATA, TRAP);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	command = rig_admin(NVME_ADMIN_IDENTIFY, 1, 0, TRAP);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	vd_dma_stats(rig.space, &after);
	assert_true(after.faults >= before.faults + 3);
}

/* Memory that the guest cannot write, the controller cannot either; reading is fine. */
static void read_only_memory_is_not_written(void **state)
{
	struct vd_slot_config slot = {
		.base = {ROM}, .size = PAGE, .kind = VD_SLOT_RAM, .read_only = true, .name = "rom",
	};
	struct nvme_command command;
	uint32_t id;

	(void)state;
	assert_int_equal(vd_host_ram_create(rig.host, "rom", PAGE, 0, &slot.object, NULL), 0);
	assert_int_equal(vd_mem_add_slot(rig.mem, &slot, &id, NULL), 0);
	rig_start(&rig, 4);
	command = rig_io(NVME_IO_READ, 0, 1, ROM, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(rig_get32(&rig, ROM), 0);
	command = rig_io(NVME_IO_WRITE, 0, 1, ROM, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	assert_int_equal(vd_mem_remove_slot(rig.mem, id), 0);
	vd_host_object_put(slot.object);
}

/* Completion entries are memory like any other: the controller reads nothing back from them. */
static void event_flood_is_bounded(void **state)
{
	(void)state;
	rig_start(&rig, 4);
	for (int i = 0; i < 10000; i++)
		rig_doorbell(&rig, 7, i & 1, (uint32_t)i);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

static void random_corpus(void **state)
{
	uint8_t input[4000];

	(void)state;
	for (unsigned seed = 1; seed <= 1500; seed++) {
		size_t size = 50 + seed * 7 % 3950;

		srand(seed);
		for (size_t i = 0; i < size; i++)
			input[i] = (uint8_t)rand();
		LLVMFuzzerTestOneInput(input, size);
	}
}

static void kept_corpus(void **state)
{
	(void)state;
	corpus_run("nvme", LLVMFuzzerTestOneInput);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(admin_queue_outside_memory), TEST(io_queue_outside_memory),
		TEST(queue_over_the_end_of_memory), TEST(queues_over_themselves),
		TEST(prp_list_in_a_circle), TEST(dma_over_registers_faults),
		TEST(read_only_memory_is_not_written),
		TEST(event_flood_is_bounded), cmocka_unit_test(random_corpus),
		cmocka_unit_test(kept_corpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
