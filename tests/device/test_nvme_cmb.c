/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller memory buffer: NVMe 1.4, sections 3.1.11 to 3.1.17 and 4.7. */
#include "nvme_rig.h"

#define SIZE (6ull << 20) /* in a BAR of 8 MiB */
#define BASE 0x7700000000ull
#define CRE 1u
#define CMSE 2u

static struct rig rig;

static int setup(void **state)
{
	const struct vd_nvme_config config = {.cmb = SIZE};

	(void)state;
	rig_open(&rig, &config);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

static uint64_t counter_value;

static void find_counter(void *name, const char *is, uint64_t value)
{
	if (!strcmp(name, is))
		counter_value = value;
}

static uint64_t counter(const char *name)
{
	char copy[32];

	snprintf(copy, sizeof(copy), "%s", name);
	counter_value = UINT64_MAX;
	vd_device_counters(rig.device, find_counter, copy);
	return counter_value;
}

/* As Linux' nvme_map_cmb() does it: two halves, the upper one first. */
static void place(uint64_t base)
{
	rig_write32(&rig, NVME_CMBMSC, CRE);
	rig_write32(&rig, NVME_CMBMSC + 4, (uint32_t)(base >> 32));
	rig_write32(&rig, NVME_CMBMSC, (uint32_t)base | CMSE | CRE);
}

static void put_command(uint64_t offset, const struct nvme_command *command)
{
	assert_int_equal(vd_device_write(rig.device, VD_REGION_BAR2, (vd_region_offset){offset},
					 command, sizeof(*command)), 0);
}

/* Queue 1 with its entries at an offset of the buffer. Return: status of the creation. */
static uint16_t create_queue(uint64_t address, unsigned entries)
{
	struct nvme_command command =
		rig_admin(NVME_ADMIN_CREATE_CQ, (entries - 1) << 16 | 1, 1 << 16 | 3,
			  RIG_QUEUES + 0x10000);
	uint16_t status;

	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	command = rig_admin(NVME_ADMIN_CREATE_SQ, (entries - 1) << 16 | 1, 1 << 16 | 1, address);
	status = rig_run(&rig, 0, &command, NULL);
	if (status)
		assert_int_equal(rig_simple(&rig, NVME_ADMIN_DELETE_CQ, 1, 0, 0), NVME_SUCCESS);
	rig.queues[1] = (struct rig_queue){.id = 1, .entries = entries, .cq_entries = entries,
					   .cq = RIG_QUEUES + 0x10000, .phase = true};
	return status;
}

static void registers_show_when_they_are_asked_to(void **state)
{
	(void)state;
	assert_true(rig_read64(&rig, NVME_CAP) >> 57 & 1);
	assert_int_equal(rig_read64(&rig, NVME_CMBLOC), 0);
	rig_write32(&rig, NVME_CMBMSC, CRE);
	assert_int_equal(rig_read32(&rig, NVME_CMBLOC), 2);
	/* 6 units of 1 MiB, submission queues. */
	assert_int_equal(rig_read32(&rig, NVME_CMBSZ), 6 << 12 | 2 << 8 | 1);
	assert_int_equal(vd_device_region(rig.device, 2)->size, 8 << 20);
	place(BASE);
	assert_true(rig_read64(&rig, NVME_CMBMSC) == (BASE | 3));
	assert_int_equal(rig_read32(&rig, NVME_CMBSTS), 0);
	place(UINT64_MAX - 0xfff);
	assert_int_equal(rig_read32(&rig, NVME_CMBSTS), 1);
	/* A controller reset leaves it, which Linux relies on; any other does not. */
	place(BASE);
	rig_start(&rig, 0);
	rig_write32(&rig, NVME_CC, 0);
	assert_true(rig_read64(&rig, NVME_CMBMSC) == (BASE | 3));
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(rig_read64(&rig, NVME_CMBMSC), 0);
	assert_int_equal(rig_read32(&rig, NVME_CMBSZ), 0);
}

static void memory_is_mapped_as_far_as_it_goes(void **state)
{
	struct vd_host_object *object;
	uint64_t offset, value = 1;

	(void)state;
	assert_int_equal(vd_device_map_area(rig.device, 2, 0, SIZE, &object, &offset), 0);
	assert_int_equal(vd_device_map_area(rig.device, 2, SIZE, 4096, &object, &offset), -ERANGE);
	assert_int_equal(vd_device_read(rig.device, 2, (vd_region_offset){SIZE}, &value, 8), 0);
	assert_int_equal(value, 0);
	/* A doorbell is in BAR 0 only. */
	rig_start(&rig, 4);
	assert_int_equal(vd_device_write(rig.device, 2, (vd_region_offset){SIZE + 0x1000}, &offset,
					 8), 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

static void commands_are_fetched_from_the_buffer(void **state)
{
	uint64_t at = SIZE - 4 * 64;
	struct nvme_completion completion;
	uint64_t before;

	(void)state;
	place(BASE);
	rig_start(&rig, 0);
	/* The last entries of the buffer would be a queue that is not at a page. */
	at &= ~0xfffull;
	assert_int_equal(create_queue(BASE + at, 64), NVME_SUCCESS);
	before = counter("commands");
	for (unsigned i = 0; i < 200; i++) {
		struct nvme_command command = rig_io(NVME_IO_READ, i, 1, RIG_DATA, 0);
		uint8_t data[512];

		command.cid = (uint16_t)i;
		put_command(at + i % 64 * 64, &command);
		rig_doorbell(&rig, 1, false, (i + 1) % 64);
		rig_wait(&rig, 1, &completion);
		assert_int_equal(completion.cid, i);
		assert_int_equal(completion.status >> 1, NVME_SUCCESS);
		rig_get(&rig, RIG_DATA, data, sizeof(data));
		assert_int_equal(data[0], (uint8_t)(i * 512 * 7 + i));
	}
	assert_int_equal(counter("commands_in_cmb"), 200);
	assert_int_equal(counter("commands") - before, 200);
}

static void the_admin_queue_may_be_there(void **state)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_IDENTIFY, 1, 0, RIG_DATA);
	struct nvme_completion completion;

	(void)state;
	place(BASE);
	rig_bus_master(&rig, true);
	rig_enable(&rig);
	rig_write32(&rig, NVME_CC, 0);
	rig_write64(&rig, NVME_ASQ, BASE);
	rig_write32(&rig, NVME_CC, 4u << 20 | 6u << 16 | NVME_CC_EN);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
	put_command(0, &command);
	rig_doorbell(&rig, 0, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	assert_int_equal(counter("commands_in_cmb"), 1);
}

static void queues_do_not_hang_over_its_ends(void **state)
{
	struct nvme_command command;

	(void)state;
	place(BASE);
	rig_start(&rig, 0);
	assert_int_equal(create_queue(BASE + SIZE - 4096, 65), NVME_INVALID_CMB_USE);
	assert_int_equal(create_queue(BASE - 4096, 65), NVME_INVALID_CMB_USE);
	assert_int_equal(create_queue(BASE + SIZE - 4096, 64), NVME_SUCCESS);
	/* Completion queues cannot be there at all. */
	command = rig_admin(NVME_ADMIN_CREATE_CQ, 3 << 16 | 2, 2 << 16 | 3, BASE);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_INVALID_CMB_USE);
	command = rig_admin(NVME_ADMIN_CREATE_CQ, 1023 << 16 | 2, 2 << 16 | 3, BASE - 4096);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_INVALID_CMB_USE);
	rig_write32(&rig, NVME_CC, 0);
	rig_write64(&rig, NVME_ACQ, BASE);
	rig_write32(&rig, NVME_CC, 4u << 20 | 6u << 16 | NVME_CC_EN);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_CFS);
}

/* The host takes it away, moves it, or puts it nowhere: addresses are what they are just then. */
static void the_buffer_moves_under_a_queue(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_FLUSH, 0, 1, 0, 0);
	struct nvme_completion completion;
	uint64_t places[] = {0, BASE + 4096, UINT64_MAX - 0xfff, BASE - SIZE};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		place(BASE);
		rig_start(&rig, 0);
		assert_int_equal(create_queue(BASE, 16), NVME_SUCCESS);
		put_command(0, &command);
		rig_doorbell(&rig, 1, false, 1);
		rig_wait(&rig, 1, &completion);
		place(places[i]);
		rig_doorbell(&rig, 1, false, 2);
		/* Nothing is at that address now. */
		assert_true(rig_read32(&rig, NVME_CSTS) & NVME_CSTS_CFS);
		rig_write32(&rig, NVME_CC, 0);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	}
}

static void without_one_there_is_nothing(void **state)
{
	(void)state;
	rig_close(&rig);
	rig_open(&rig, NULL);
	assert_false(rig_read64(&rig, NVME_CAP) >> 57 & 1);
	place(BASE);
	assert_int_equal(rig_read64(&rig, NVME_CMBMSC), 0);
	assert_int_equal(rig_read64(&rig, NVME_CMBLOC), 0);
	assert_int_equal(vd_device_region(rig.device, 2)->size, 0);
}

static void sizes_are_checked(void **state)
{
	static const uint64_t bad[] = {1, 4096, 1 << 20, 3 << 20, (1ull << 30) + (2 << 20),
				       UINT64_MAX, 1ull << 63};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vd_nvme_config config = {.env = rig.env, .host = rig.host,
						.space = rig.space, .image = rig.path,
						.snapshot = true, .cmb = bad[i]};
		struct vd_error error = {0};
		struct vd_device *device;

		assert_int_equal(vd_nvme_create(&config, &device, &error), -EINVAL);
		assert_non_null(strstr(error.text, "multiple of 2M"));
	}
}

/* Saved and loaded with what is in it; another size is another device. */
static void it_is_saved_with_its_content(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 5, 1, RIG_DATA, 0);
	struct vd_stream saved = {.env = rig.env}, again;
	struct nvme_completion completion;

	(void)state;
	place(BASE);
	rig_start(&rig, 0);
	assert_int_equal(create_queue(BASE + 8192, 16), NVME_SUCCESS);
	put_command(8192, &command);
	assert_int_equal(vd_device_save(rig.device, &saved), 0);
	assert_true(saved.length > SIZE);
	memset(&command, 0xff, sizeof(command));
	put_command(8192, &command);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_BUS), 0);
	again = (struct vd_stream){.data = saved.data, .length = saved.length - 1};
	assert_int_equal(vd_device_load(rig.device, &again, NULL), -EINVAL);
	assert_int_equal(rig_read64(&rig, NVME_CMBMSC), 0);
	again = (struct vd_stream){.data = saved.data, .length = saved.length};
	assert_int_equal(vd_device_load(rig.device, &again, NULL), 0);
	rig_doorbell(&rig, 1, false, 1);
	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	vd_stream_fini(&saved);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(registers_show_when_they_are_asked_to),
		TEST(memory_is_mapped_as_far_as_it_goes), TEST(commands_are_fetched_from_the_buffer),
		TEST(the_admin_queue_may_be_there), TEST(queues_do_not_hang_over_its_ends),
		TEST(the_buffer_moves_under_a_queue), TEST(without_one_there_is_nothing),
		TEST(sizes_are_checked), TEST(it_is_saved_with_its_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
