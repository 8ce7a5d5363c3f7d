/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A controller whose guest's memory is reached by messages, and a client that does other things
 * with it before it answers: rings doorbells, disables it, resets it, takes the bus away, polls.
 */
#include "nvme_rig.h"

#define STEPS_MAX 400u

static struct rig rig;

/* What the client does when the controller waits for it; called without the device's lock. */
static struct {
	void (*act)(bool write, uint64_t iova, size_t length);
	int error;	/* the answer */
	unsigned calls; /* messages so far */
	unsigned yielded;
	bool acting;
} client;

static int answer(bool write, vd_iova iova, size_t length)
{
	client.calls++;
	/* The client's own accesses make no messages, or somebody entered twice. */
	assert_false(client.acting);
	if (client.act && vd_device_yield(rig.device)) {
		client.yielded++;
		client.acting = true;
		client.act(write, iova.value, length);
		client.acting = false;
		vd_device_unyield(rig.device);
	}
	return client.error;
}

static int client_read(void *context, vd_iova iova, void *buffer, size_t length)
{
	struct rig *r = context;
	int rc = answer(false, iova, length);

	return rc ? rc : vd_mem_read(r->mem, (vd_gpa){iova.value}, buffer, length);
}

static int client_write(void *context, vd_iova iova, const void *buffer, size_t length)
{
	struct rig *r = context;
	int rc = answer(true, iova, length);

	return rc ? rc : vd_mem_write(r->mem, (vd_gpa){iova.value}, buffer, length);
}

static const struct vd_dma_remote_ops remote = {client_read, client_write};

static int setup(void **state)
{
	(void)state;
	memset(&client, 0, sizeof(client));
	rig_open_remote(&rig, NULL, &remote);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	client.act = NULL;
	client.error = 0;
	rig_close(&rig);
	return 0;
}

static void check_data(uint64_t lba)
{
	uint8_t data[512];

	rig_get(&rig, RIG_DATA, data, sizeof(data));
	for (unsigned i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], (uint8_t)((lba * 512 + i) * 7 + lba));
}

static void read_works(unsigned id, uint64_t lba)
{
	struct nvme_command command = rig_io(NVME_IO_READ, lba, 1, RIG_DATA, 0);

	assert_int_equal(rig_run(&rig, id, &command, NULL), NVME_SUCCESS);
	check_data(lba);
}

/* After all that happened to it, it is as good as new. */
static void starts_again(void)
{
	client.act = NULL;
	client.error = 0;
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	rig_start(&rig, 8);
	read_works(1, 3);
}

static void reads_and_writes(void **state)
{
	static uint8_t data[64 << 10], back[64 << 10];
	uint64_t list[16];
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 8);
	for (uint64_t lba = 0; lba < 20; lba++)
		read_works(1, lba);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 13 + i / 4096);
	/* Pages in no order, by a list. */
	for (unsigned i = 0; i < 16; i++) {
		list[i] = RIG_DATA + 0x10000 + (i * 7 % 16) * 4096ull;
		rig_put(&rig, list[i], data + i * 4096, 4096);
	}
	rig_put(&rig, RIG_DATA, list + 1, sizeof(list) - 8);
	command = rig_io(NVME_IO_WRITE, 100, 128, list[0], RIG_DATA);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_SUCCESS);
	rig_image(&rig, back, sizeof(back), 100 * 512);
	assert_memory_equal(data, back, sizeof(data));
}

static void doorbell_buffers_may_be_far_away(void **state)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_DOORBELL_BUFFER, 0, 0, RIG_SHADOW);

	(void)state;
	rig_start(&rig, 8);
	command.prp2 = RIG_EVENT_INDEX;
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	rig.queues[1].shadow = true;
	for (uint64_t lba = 0; lba < 20; lba++)
		read_works(1, lba);
}

/* ---- what comes in between ---- */

static void ring_other(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)iova;
	(void)length;
	if (client.yielded == 1)
		rig_ring(&rig, 2);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

static void a_doorbell_is_followed_afterwards(void **state)
{
	struct nvme_command one = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	struct nvme_command two = rig_io(NVME_IO_READ, 2, 1, RIG_DATA + 0x1000, 0);
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 8);
	rig_create_pair(&rig, 2, 8);
	rig_push(&rig, 1, &one);
	rig_push(&rig, 2, &two);
	client.act = ring_other;
	rig_ring(&rig, 1);
	client.act = NULL;
	assert_true(client.yielded > 1);
	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	rig_wait(&rig, 2, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	check_data(1);
}

static unsigned disable_at; /* which message */

static void disable(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)iova;
	(void)length;
	if (client.yielded != disable_at)
		return;
	rig_ring(&rig, 1);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CC), 0);
	/* Not before what is at hand is over. */
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

/* Messages of a read: the command, the data, the completion and its last word. */
static void it_is_disabled_in_the_middle(void **state)
{
	(void)state;
	for (disable_at = 1; disable_at <= 4; disable_at++) {
		struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);

		starts_again();
		rig_push(&rig, 1, &command);
		rig_push(&rig, 1, &command);
		client.yielded = 0;
		client.act = disable;
		rig_ring(&rig, 1);
		client.act = NULL;
		/* Nothing is completed that was not about to be, and nothing more is begun. */
		assert_int_equal(client.yielded, disable_at < 3 ? 2 : 4);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
		rig_start(&rig, 8);
		read_works(1, 2);
	}
}

static void off_and_on(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)iova;
	(void)length;
	rig_write32(&rig, NVME_CC, 0);
	rig_write32(&rig, NVME_CC, 4u << 20 | 6u << 16 | NVME_CC_EN);
	client.act = NULL;
}

static void it_is_disabled_and_enabled_in_the_middle(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);

	(void)state;
	rig_start(&rig, 8);
	rig_push(&rig, 1, &command);
	client.act = off_and_on;
	rig_ring(&rig, 1);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
	assert_int_equal(rig_read32(&rig, NVME_CC) & NVME_CC_EN, NVME_CC_EN);
	/* Queue 1 is gone. */
	rig.queues[0].tail = rig.queues[0].head = 0;
	rig.queues[0].phase = true;
	starts_again();
}

static void bus_off(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)iova;
	(void)length;
	rig_bus_master(&rig, false);
	client.act = NULL;
}

static void the_bus_is_taken_away_in_the_middle(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 8);
	for (unsigned i = 0; i < 3; i++)
		rig_push(&rig, 1, &command);
	client.act = bus_off;
	rig_ring(&rig, 1);
	/* The command at hand is over, the others wait. */
	assert_true(rig_pop(&rig, 1, &completion));
	assert_false(rig_pop(&rig, 1, &completion));
	rig_bus_master(&rig, true);
	rig_wait(&rig, 1, &completion);
	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
}

static uint64_t flr_at; /* of device control, in configuration space */

static void flr(bool write, uint64_t iova, size_t length)
{
	uint16_t control = 1u << 15;

	(void)write;
	(void)iova;
	(void)length;
	assert_int_equal(vd_device_write(rig.device, VD_REGION_CONFIG, (vd_region_offset){flr_at},
					 &control, 2), 0);
	client.act = NULL;
}

static void a_function_reset_in_the_middle(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	struct vd_device_stats before, after;
	uint8_t at = 0, id = 0;

	(void)state;
	/* PCI Express capability, 7.5.3. */
	vd_device_read(rig.device, VD_REGION_CONFIG, (vd_region_offset){0x34}, &at, 1);
	while (at && id != 0x10) {
		flr_at = at + 8;
		vd_device_read(rig.device, VD_REGION_CONFIG, (vd_region_offset){at}, &id, 1);
		vd_device_read(rig.device, VD_REGION_CONFIG, (vd_region_offset){at + 1ull}, &at, 1);
	}
	assert_int_equal(id, 0x10);
	rig_start(&rig, 8);
	rig_push(&rig, 1, &command);
	vd_device_stats(rig.device, &before);
	client.act = flr;
	rig_ring(&rig, 1);
	vd_device_stats(rig.device, &after);
	assert_int_equal(after.resets - before.resets, 1);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(rig_read32(&rig, NVME_CC), 0);
	starts_again();
}

static void poll_it(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)iova;
	(void)length;
	vd_device_poll(rig.device);
}

static void polling_beside_it(void **state)
{
	(void)state;
	rig_start(&rig, 8);
	client.act = poll_it;
	for (uint64_t lba = 0; lba < 20; lba++)
		read_works(1, lba);
	assert_true(client.yielded >= 60);
}

/* ---- a client that does not do what it is asked to ---- */

static void answers_that_are_errors(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);

	(void)state;
	rig_start(&rig, 8);
	rig_push(&rig, 1, &command);
	client.error = -EIO;
	/* The command cannot be fetched. */
	rig_ring(&rig, 1);
	assert_true(rig_read32(&rig, NVME_CSTS) & NVME_CSTS_CFS);
	starts_again();
}

static void fail_data(bool write, uint64_t iova, size_t length)
{
	(void)write;
	(void)length;
	client.error = iova >= RIG_DATA ? -EIO : 0;
}

static void data_that_is_not_taken(void **state)
{
	struct nvme_command command;

	(void)state;
	rig_start(&rig, 8);
	client.act = fail_data;
	command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	command = rig_io(NVME_IO_WRITE, 1, 1, RIG_DATA, 0);
	assert_int_equal(rig_run(&rig, 1, &command, NULL), NVME_DATA_TRANSFER_ERROR);
	client.act = NULL;
	read_works(1, 1);
}

/* A client that has one command more each time: it is not served for ever in one access. */
static void always_one_more(bool write, uint64_t iova, size_t length)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	struct nvme_completion completion;

	(void)write;
	(void)iova;
	(void)length;
	if (client.yielded > 5000)
		return;
	while (rig_pop(&rig, 1, &completion))
		;
	if ((rig.queues[1].tail + 1) % 8 == rig.queues[1].head)
		return;
	rig_push(&rig, 1, &command);
	rig_ring(&rig, 1);
}

static void notes_without_end(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 1, 1, RIG_DATA, 0);
	struct nvme_completion completion;

	(void)state;
	rig_start(&rig, 8);
	rig_push(&rig, 1, &command);
	client.act = always_one_more;
	rig_ring(&rig, 1);
	assert_true(client.yielded > 10 && client.yielded < 5000);
	client.act = NULL;
	/* What was noted at last is not lost: it is done when polled. */
	while (rig.queues[1].head != rig.queues[1].tail) {
		rig_wait(&rig, 1, &completion);
		assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	}
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	vd_device_resume(rig.device);
}

/* ---- anything at all ---- */

static uint32_t random_state;

static uint32_t any(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

static void act_at_random(bool write, uint64_t iova, size_t length)
{
	static const uint32_t ccs[] = {0, 4u << 20 | 6u << 16 | 1, 1, 1u << 14,
				       4u << 20 | 6u << 16 | 1 | 1u << 14};
	uint8_t control[2] = {0, 0x80};
	uint32_t value = any();

	(void)write;
	(void)iova;
	(void)length;
	client.error = any() % 16 ? 0 : -EIO;
	switch (any() % 10) {
	case 0:
		rig_write32(&rig, NVME_CC, ccs[value % 5]);
		break;
	case 1:
		rig_bus_master(&rig, value & 1);
		break;
	case 2:
		vd_device_poll(rig.device);
		break;
	case 3:
		if (value % 8 == 0)
			vd_device_write(rig.device, VD_REGION_CONFIG, (vd_region_offset){flr_at},
					control, 2);
		break;
	case 4:
		rig_write32(&rig, (value % 0x60) & ~3u, any());
		break;
	case 5:
		rig_read32(&rig, value % 0x1000 & ~3u);
		break;
	default:
		rig_write32(&rig, 0x1000 + value % 6 * 4, any() % 9);
	}
}

static void one_step(void)
{
	struct nvme_command command = {
		.opcode = (uint8_t)(any() % 16), .nsid = 1, .prp1 = RIG_DATA + any() % 2 * 512,
		.prp2 = RIG_DATA + 0x1000, .cdw10 = any() % 4 ? any() % 64 : any(),
		.cdw12 = any() % 64,
	};

	switch (any() % 6) {
	case 0:
		rig_push(&rig, any() % 2, &command);
		break;
	case 1:
		rig_push(&rig, 1, &command);
		rig_ring(&rig, 1);
		break;
	case 2:
		vd_device_poll(rig.device);
		break;
	case 3:
		if (any() % 8 == 0 && !vd_device_quiesce(rig.device))
			vd_device_resume(rig.device);
		break;
	default:
		act_at_random(false, 0, 0);
	}
}

static void clients_out_of_their_mind(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 150; seed++) {
		random_state = seed;
		starts_again();
		client.act = act_at_random;
		for (unsigned step = 0; step < STEPS_MAX; step++)
			one_step();
	}
	assert_true(client.yielded > 1000);
	starts_again();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(reads_and_writes), TEST(doorbell_buffers_may_be_far_away),
		TEST(a_doorbell_is_followed_afterwards), TEST(it_is_disabled_in_the_middle),
		TEST(it_is_disabled_and_enabled_in_the_middle),
		TEST(the_bus_is_taken_away_in_the_middle), TEST(a_function_reset_in_the_middle),
		TEST(polling_beside_it), TEST(answers_that_are_errors),
		TEST(data_that_is_not_taken), TEST(notes_without_end),
		TEST(clients_out_of_their_mind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
