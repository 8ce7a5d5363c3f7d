/* SPDX-License-Identifier: BSD-2-Clause */
/* NVMe admin commands but for queues: identify, features, logs, events, abort. */
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

/* ---- identify ---------------------------------------------------------------------------- */

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
	assert_int_equal(identify(NVME_CNS_ACTIVE_LIST, NVME_NSID_ALL, data),
			 NVME_INVALID_NAMESPACE);
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

/* ---- other admin commands ---------------------------------------------------------------- */

static void unknown_commands_are_refused(void **state)
{
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(rig_simple(&rig, 0x10, 0, 0, 0), NVME_INVALID_OPCODE);
	assert_int_equal(rig_simple(&rig, 0xff, 0, 0, 0), NVME_INVALID_OPCODE);
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
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_CREATE_CQ, 3 << 16 | 3, 3, RIG_QUEUES),
			 NVME_INVALID_QUEUE_ID);
	rig_create_pair(&rig, 2, 4);
	assert_int_equal(feature(true, NVME_FEATURE_QUEUES, 0, NULL), NVME_COMMAND_SEQUENCE_ERROR);
}

static void log_pages(void **state)
{
	struct nvme_error_entry errors[16];
	uint8_t data[512];
	uint16_t temperature;

	(void)state;
	rig_start(&rig, 4);
	assert_int_equal(rig_simple(&rig, 0x7f, 0, 0, 0), NVME_INVALID_OPCODE);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 0, sizeof(errors), false, errors),
			 NVME_SUCCESS);
	assert_int_equal(errors[0].count, 1);
	assert_int_equal(errors[0].sq_id, 0);
	assert_int_equal((errors[0].status >> 1) & ~NVME_MORE, NVME_INVALID_OPCODE);
	assert_int_equal(errors[1].count, 0);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_HEALTH, 0, sizeof(data), false, data),
			 NVME_SUCCESS);
	assert_int_equal(data[0], 0);
	memcpy(&temperature, data + 1, 2);
	assert_true(temperature > 273 && temperature < 343);
	assert_int_equal(data[3], 100);
	assert_int_equal(data[176], 1);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_FIRMWARE, 0, 16, false, data), NVME_SUCCESS);
	assert_int_equal(data[0], 1);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_CHANGED_NAMESPACES, 0, 4, false, data),
			 NVME_SUCCESS);
	assert_int_equal(data[0], 0);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 64, 64, false, errors), NVME_SUCCESS);
	assert_int_equal(errors[0].count, 0);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 2, 64, false, NULL),
			 NVME_INVALID_FIELD);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_HEALTH, 512, 4, false, NULL),
			 NVME_INVALID_FIELD);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_HEALTH, 1ull << 40, 4, false, NULL),
			 NVME_INVALID_FIELD);
	assert_int_equal(rig_log_page(&rig, 0x70, 0, 4, false, NULL), NVME_INVALID_LOG_PAGE);
	/*
	 * More than there is, and as much as a host can ask for: only the page itself is written.
	 */
	memset(data, 0x5a, sizeof(data));
	rig_put(&rig, RIG_DATA + sizeof(data), data, sizeof(data));
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_GET_LOG_PAGE, 2047u << 16 | NVME_LOG_HEALTH, 0,
				    RIG_DATA),
			 NVME_SUCCESS);
	rig_get(&rig, RIG_DATA + sizeof(data), data, sizeof(data));
	assert_int_equal(data[0], 0x5a);
	assert_int_equal(rig_simple(&rig, NVME_ADMIN_GET_LOG_PAGE, 0xffff0000 | NVME_LOG_HEALTH,
				    0xffff, RIG_DATA),
			 NVME_SUCCESS);
}

static void asynchronous_events(void **state)
{
	struct nvme_completion completion;
	uint16_t cid;

	(void)state;
	rig_start(&rig, 4);
	cid = rig_request_event(&rig);
	assert_false(rig_pop(&rig, 0, &completion));
	/* A doorbell of a queue that is not there. */
	rig_doorbell(&rig, 5, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, cid);
	assert_int_equal(completion.result, NVME_LOG_ERROR << 16 | 0 << 8 | NVME_EVENT_ERROR);
	/* Masked until its log page is read, without "retain". */
	cid = rig_request_event(&rig);
	rig_doorbell(&rig, 1, false, 4);
	assert_false(rig_pop(&rig, 0, &completion));
	assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 0, 64, true, NULL), NVME_SUCCESS);
	assert_false(rig_pop(&rig, 0, &completion));
	assert_int_equal(rig_log_page(&rig, NVME_LOG_ERROR, 0, 64, false, NULL), NVME_SUCCESS);
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
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 3 << 16 | 300, NULL),
			 NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 2 << 20 | 300, NULL),
			 NVME_INVALID_FIELD);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 1 << 20 | 200, NULL),
			 NVME_SUCCESS);
	assert_int_equal(feature(false, NVME_FEATURE_TEMPERATURE, 1 << 20, &value), NVME_SUCCESS);
	assert_int_equal(value, 200);
	assert_int_equal(feature(true, NVME_FEATURE_TEMPERATURE, 300, NULL), NVME_SUCCESS);
	rig_request_event(&rig);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.result, NVME_LOG_HEALTH << 16 | 1 << 8 | NVME_EVENT_HEALTH);
	assert_int_equal(rig_log_page(&rig, NVME_LOG_HEALTH, 0, 4, false, &value), NVME_SUCCESS);
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
		cids[i] = rig_request_event(&rig);
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
	cid = rig_request_event(&rig);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(identifies), TEST(identify_errors), TEST(serials_tell_images_apart),
		TEST(unknown_commands_are_refused), TEST(features_keep_their_values),
		TEST(number_of_queues_is_negotiated), TEST(log_pages), TEST(asynchronous_events),
		TEST(temperature_threshold_raises_an_event), TEST(event_requests_have_a_limit),
		TEST(aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
