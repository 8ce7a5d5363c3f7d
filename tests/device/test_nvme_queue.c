/* SPDX-License-Identifier: BSD-2-Clause */
/* NVMe queues and doorbells, in registers and in memory. */
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

/* ---- queues ------------------------------------------------------------------------------ */

static void queue_creation_is_checked(void **state)
{
	const uint64_t at = RIG_QUEUES;

	(void)state;
	rig_start(&rig, 0);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 0, 3, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 33, 3, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 0xffff, 3, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 0 << 16 | 1, 3, at),
			 NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 1024u << 16 | 1, 3, at),
			 NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 2, at),
			 NVME_INVALID_FIELD);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at + 8),
			 NVME_INVALID_PRP_OFFSET);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 33u << 16 | 3, at),
			 NVME_INVALID_VECTOR);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at), NVME_SUCCESS);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 7 << 16 | 1, 3, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 2 << 16 | 1, at),
			 NVME_CQ_INVALID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 0 << 16 | 1, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 99 << 16 | 1, at),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 0 << 16 | 1, 1 << 16 | 1, at),
			 NVME_INVALID_QUEUE_SIZE);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 0, at),
			 NVME_INVALID_FIELD);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 7 << 16 | 1, 1 << 16 | 1, at),
			 NVME_SUCCESS);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_CQ, 1, 0, 0),
			 NVME_INVALID_QUEUE_DELETION);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_CQ, 0, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_SQ, 0, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_SQ, 0xffff, 0, 0),
			 NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_SQ, 1, 0, 0), NVME_SUCCESS);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_SQ, 1, 0, 0), NVME_INVALID_QUEUE_ID);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_SUCCESS);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_INVALID_QUEUE_ID);
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
 * More commands than completion entries: the rest waits for the head doorbell. With @durable they
 * are under way when the next is fetched, where the host has io_uring.
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
	assert_int_equal(
		rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 3 << 16 | 1, 3, RIG_QUEUES + 0x10000), 0);
	assert_int_equal(
		rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 15 << 16 | 1, 1 << 16 | 1, RIG_QUEUES), 0);
	rig.queues[1] = (struct rig_queue){
		.id = 1, .entries = 16, .cq_entries = 4, .sq = RIG_QUEUES,
		.cq = RIG_QUEUES + 0x10000, .phase = true,
	};
	for (int i = 0; i < 15; i++) {
		command =
			rig_io(durable ? NVME_IO_WRITE : NVME_IO_READ, (uint64_t)i, 1, RIG_DATA, 0);
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

/* ---- doorbells --------------------------------------------------------------------------- */

static void doorbell_values_are_checked(void **state)
{
	static const struct {
		unsigned id;
		bool completion;
		uint32_t value;
		uint8_t info;
	} bad[] = {
		{1, false, 8, 1}, {1, false, 0xffffffff, 1}, {1, false, 0, 1},	{1, true, 8, 1},
		{1, true, 1, 1},  {1, true, 0, 1},	     {0, false, 16, 1}, {2, false, 1, 0},
		{2, true, 1, 0},  {33, false, 1, 0},	     {511, true, 1, 0},
	};
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 8);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_request_event(&rig);
		rig_doorbell(&rig, bad[i].id, bad[i].completion, bad[i].value);
		rig_wait(&rig, 0, &completion);
		assert_int_equal(completion.result,
				 NVME_LOG_ERROR << 16 | bad[i].info << 8 | NVME_EVENT_ERROR);
		assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 0, 64, false, NULL),
				 NVME_SUCCESS);
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
	rig_request_event(&rig);
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

/* ---- doorbell buffers -------------------------------------------------------------------- */

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
	assert_int_equal(
		rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 2 << 16 | 1, 3, RIG_QUEUES + 0x10000), 0);
	assert_int_equal(
		rig_simple(&rig, NVME_ADMIN_CREATE_SQ, 15 << 16 | 1, 1 << 16 | 1, RIG_QUEUES), 0);
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
	rig_request_event(&rig);
	rig_put32(&rig, RIG_SHADOW + 8, 0xdeadbeef);
	rig_doorbell(&rig, 1, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 1 << 8 | NVME_EVENT_ERROR);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(queue_creation_is_checked), TEST(queues_wrap_and_turn_the_phase),
		TEST(full_completion_queue_holds_commands_back),
		TEST(doorbell_values_are_checked), TEST(head_beyond_the_queue_is_refused),
		TEST(doorbells_wait_for_bus_mastering), TEST(quiesced_controller_starts_nothing),
		TEST(shadow_doorbells), TEST(shadow_head_frees_entries),
		TEST(hostile_shadow_values_are_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
