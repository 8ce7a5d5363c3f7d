/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NVMe I/O commands over every back end: data against a model, PRP shapes, and each error status.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include "nvme_rig.h"

#define BLOCKS (RIG_IMAGE_SIZE / 512)
#define PAGE 4096u
#define LISTS (RIG_RAM + (1ull << 20)) /* PRP lists */
#define DATA_SIZE (8u << 20)

static struct rig rig;

static int setup(void **state)
{
	(void)state;
	rig_open(&rig, NULL);
	rig_start(&rig, 16);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_inject_site = NULL;
	rig_close(&rig);
	return 0;
}

static uint16_t run(struct nvme_command command)
{
	return rig_run(&rig, 1, &command, NULL);
}

static uint16_t io(uint8_t opcode, uint64_t lba, uint32_t blocks)
{
	return run(rig_io(opcode, lba, blocks, RIG_DATA, RIG_DATA + PAGE));
}

/* ---- PRPs -------------------------------------------------------------------------------- */

/* Where one command's data lies: pages in any order, the first one used from @offset on. */
struct shape {
	unsigned count;
	uint64_t pages[600];
	uint32_t offset;
};

static void shape_random(struct shape *shape, uint32_t length)
{
	bool contiguous = rand() % 3 == 0;
	uint64_t page = rand() % (DATA_SIZE / PAGE);

	shape->offset = rand() % 3 ? 0 : (uint32_t)(rand() % PAGE) & ~3u;
	shape->count = (shape->offset + length + PAGE - 1) / PAGE;
	for (unsigned i = 0; i < shape->count; i++) {
		/* Distinct pages, so that what is read twice into one place does not matter. */
		page = contiguous ? page + 1 : page + 1 + (uint64_t)(rand() % 2);
		shape->pages[i] = RIG_DATA + page % (DATA_SIZE / PAGE) * PAGE;
	}
	for (unsigned i = 1; !contiguous && i < shape->count; i++) {
		unsigned other = (unsigned)rand() % i;
		uint64_t swap = shape->pages[i];

		shape->pages[i] = shape->pages[other];
		shape->pages[other] = swap;
	}
}

/* Returns PRP 2; the list begins at any entry of its page, and goes on in others. */
static uint64_t shape_list(const struct shape *shape)
{
	uint64_t list = LISTS + (uint64_t)(rand() % (PAGE / 8)) * 8, first = list;
	uint64_t next_page = LISTS + PAGE * (1 + (uint64_t)(rand() % 4));

	if (shape->count <= 2)
		return shape->count == 2 ? shape->pages[1] : 0x123;
	for (unsigned i = 1; i < shape->count; i++) {
		if (list % PAGE == PAGE - 8 && i + 1 < shape->count) {
			rig_put(&rig, list, &next_page, 8);
			list = next_page;
			next_page += PAGE;
		}
		rig_put(&rig, list, &shape->pages[i], 8);
		list += 8;
	}
	return first;
}

static void shape_copy(const struct shape *shape, uint8_t *data, uint32_t length, bool put)
{
	uint32_t offset = shape->offset;

	for (unsigned i = 0; i < shape->count; i++) {
		uint32_t piece = PAGE - offset < length ? PAGE - offset : length;

		if (put)
			rig_put(&rig, shape->pages[i] + offset, data, piece);
		else
			rig_get(&rig, shape->pages[i] + offset, data, piece);
		data += piece;
		length -= piece;
		offset = 0;
	}
}

/* ---- data against a model ---------------------------------------------------------------- */

static void transfer_step(uint8_t *model, uint8_t *buffer)
{
	uint32_t blocks = 1 + (uint32_t)rand() % (rand() % 8 ? 40 : 4096);
	uint64_t lba = (uint64_t)rand() % BLOCKS;
	bool write = rand() % 2;
	struct nvme_command command;
	struct shape shape;
	uint32_t length;

	if (blocks > BLOCKS - lba)
		blocks = (uint32_t)(BLOCKS - lba);
	length = blocks * 512;
	shape_random(&shape, length);
	command = rig_io(write ? NVME_IO_WRITE : NVME_IO_READ, lba, blocks,
			 shape.pages[0] + shape.offset, 0);
	command.prp2 = shape_list(&shape);
	if (write) {
		for (uint32_t i = 0; i < length; i++)
			buffer[i] = (uint8_t)rand();
		shape_copy(&shape, buffer, length, true);
		memcpy(model + lba * 512, buffer, length);
		command.cdw12 |= rand() % 8 ? 0 : 1u << 30;
	}
	assert_int_equal(run(command), NVME_SUCCESS);
	if (!write) {
		shape_copy(&shape, buffer, length, false);
		assert_memory_equal(buffer, model + lba * 512, length);
	}
}

static void zero_step(uint8_t *model)
{
	struct nvme_range ranges[3] = {{0}};
	struct nvme_command command;

	for (int i = 0; i < 3; i++) {
		ranges[i].lba = (uint64_t)rand() % (BLOCKS - 64);
		ranges[i].blocks = (uint32_t)rand() % 64;
		if (rand() % 2) {
			command = rig_io(NVME_IO_WRITE_ZEROES, ranges[i].lba, ranges[i].blocks + 1,
					 0, 0);
			command.cdw12 |= rand() % 2 ? 1u << 25 : 1u << 30;
			assert_int_equal(run(command), NVME_SUCCESS);
			memset(model + ranges[i].lba * 512, 0, (ranges[i].blocks + 1) * 512);
		}
		memset(model + ranges[i].lba * 512, 0, ranges[i].blocks * 512);
	}
	rig_put(&rig, RIG_DATA + PAGE - 16, ranges, sizeof(ranges));
	command = rig_io(NVME_IO_DATASET_MANAGEMENT, 0, 1, RIG_DATA + PAGE - 16, RIG_DATA + PAGE);
	command.cdw10 = 2;
	command.cdw11 = NVME_DSM_DEALLOCATE;
	command.cdw12 = 0;
	assert_int_equal(run(command), NVME_SUCCESS);
}

static bool can_open(const char *backing)
{
	struct vd_nvme_config config = {.backing = backing};
	struct vd_device *device;
	int rc;

	rig_open(&rig, NULL);
	config.env = rig.env;
	config.host = rig.host;
	config.space = rig.space;
	config.image = rig.path;
	vd_device_put(rig.device);
	rig.device = NULL;
	rc = vd_nvme_create(&config, &device, NULL);
	if (!rc)
		vd_device_put(device);
	rig_close(&rig);
	return rc == 0;
}

static void property_equals_model(void **state)
{
	static const char *const backings[] = {"sync", "uring", "volatile", NULL};
	uint8_t *model = malloc(RIG_IMAGE_SIZE), *buffer = malloc(RIG_IMAGE_SIZE);

	(void)state;
	for (unsigned b = 0; b < 4; b++) {
		struct vd_nvme_config config = {.backing = backings[b], .snapshot = !backings[b]};

		if (backings[b] && !can_open(backings[b]))
			continue;
		print_message("%s: seed %u\n", backings[b] ? backings[b] : "snapshot", b + 10);
		srand(b + 10);
		rig_open(&rig, &config);
		rig_start(&rig, 16);
		rig_image(&rig, model, RIG_IMAGE_SIZE, 0);
		for (int i = 0; i < 150; i++) {
			if (rand() % 8)
				transfer_step(model, buffer);
			else if (rand() % 4)
				zero_step(model);
			else
				assert_int_equal(io(NVME_IO_FLUSH, 0, 1), NVME_SUCCESS);
		}
		assert_int_equal(io(NVME_IO_FLUSH, 0, 1), NVME_SUCCESS);
		rig_image(&rig, buffer, RIG_IMAGE_SIZE, 0);
		if (backings[b])
			assert_memory_equal(buffer, model, RIG_IMAGE_SIZE);
		rig_close(&rig);
	}
	free(model);
	free(buffer);
}

/* A full queue of commands that have to wait for the disk. */
static void many_at_once(void **state)
{
	enum { COUNT = 200 };
	struct nvme_completion completion;
	struct nvme_command command;
	bool seen[COUNT] = {false};
	uint8_t *data = malloc(COUNT * 512), *image = malloc(COUNT * 512);

	(void)state;
	rig_create_pair(&rig, 2, 256);
	for (int i = 0; i < COUNT * 512; i++)
		data[i] = (uint8_t)rand();
	rig_put(&rig, RIG_DATA, data, COUNT * 512);
	for (unsigned i = 0; i < COUNT; i++) {
		command = rig_io(NVME_IO_WRITE, i, 1, RIG_DATA + 512 * i, 0);
		command.cdw12 |= 1u << 30;
		rig_push(&rig, 2, &command);
	}
	rig_ring(&rig, 2);
	for (int i = 0; i < COUNT; i++) {
		rig_wait(&rig, 2, &completion);
		assert_int_equal(completion.status >> 1, NVME_SUCCESS);
		assert_true(completion.cid < COUNT && !seen[completion.cid]);
		seen[completion.cid] = true;
	}
	assert_int_equal(vd_device_poll_fd(rig.device), -1);
	rig_image(&rig, image, COUNT * 512, 0);
	assert_memory_equal(image, data, COUNT * 512);
	free(data);
	free(image);
}

/* ---- each error -------------------------------------------------------------------------- */

static void lba_out_of_range(void **state)
{
	struct nvme_range range = {.blocks = 2, .lba = BLOCKS - 1};
	struct nvme_command command;

	(void)state;
	assert_int_equal(io(NVME_IO_READ, BLOCKS, 1), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_READ, BLOCKS - 1, 2), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_WRITE, UINT64_MAX, 2), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_WRITE, 1ull << 55, 1), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_WRITE_ZEROES, BLOCKS - 1, 2), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_WRITE_ZEROES, 0, 65536), NVME_LBA_OUT_OF_RANGE);
	rig_put(&rig, RIG_DATA, &range, sizeof(range));
	command = rig_io(NVME_IO_DATASET_MANAGEMENT, 0, 1, RIG_DATA, 0);
	command.cdw10 = 0;
	command.cdw11 = NVME_DSM_DEALLOCATE;
	assert_int_equal(run(command), NVME_LBA_OUT_OF_RANGE);
	assert_int_equal(io(NVME_IO_READ, BLOCKS - 1, 1), NVME_SUCCESS);
}

static void wrong_namespace(void **state)
{
	struct nvme_command command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA, 0);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		command.nsid = i == 0 ? 0 : i == 1 ? 2 : NVME_NSID_ALL;
		assert_int_equal(run(command), NVME_INVALID_NAMESPACE);
	}
	command = rig_io(NVME_IO_FLUSH, 0, 1, 0, 0);
	command.nsid = NVME_NSID_ALL;
	assert_int_equal(run(command), NVME_SUCCESS);
}

static void bad_prps(void **state)
{
	uint64_t entries[512];

	(void)state;
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 1, RIG_DATA + 2, 0)), NVME_INVALID_PRP_OFFSET);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 16, RIG_DATA, RIG_DATA + 4)),
			 NVME_INVALID_PRP_OFFSET);
	/* A list that is not aligned, an entry that is not, a chain that is not. */
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 24, RIG_DATA, LISTS + 4)),
			 NVME_INVALID_PRP_OFFSET);
	entries[0] = RIG_DATA;
	entries[1] = RIG_DATA + 8;
	rig_put(&rig, LISTS, entries, 16);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 24, RIG_DATA, LISTS)),
			 NVME_INVALID_PRP_OFFSET);
	entries[0] = LISTS + 8;
	rig_put(&rig, LISTS + PAGE - 8, entries, 8);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 24, RIG_DATA, LISTS + PAGE - 8)),
			 NVME_INVALID_PRP_OFFSET);
	/* More than MDTS. */
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 4097, RIG_DATA, LISTS)), NVME_INVALID_FIELD);
	/* Outside memory: data, list, part of it, the top of the address space. */
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 1, 0x1000, 0)), NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(run(rig_io(NVME_IO_WRITE, 0, 1, RIG_RAM + RIG_RAM_SIZE, 0)),
			 NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 24, RIG_DATA, 0x1000)),
			 NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 16, RIG_DATA, 0x1000)),
			 NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 16, UINT64_MAX - 4095, 0)),
			 NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 9, UINT64_MAX - 3, UINT64_MAX - 4095)),
			 NVME_DATA_TRANSFER_ERROR);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
}

/* Nothing arrives if one page of many is not there. */
static void fault_transfers_nothing(void **state)
{
	uint8_t before[512], after[512];
	uint64_t list[2] = {RIG_DATA + PAGE, 0x1000};

	(void)state;
	memset(before, 0x5a, sizeof(before));
	rig_put(&rig, RIG_DATA, before, sizeof(before));
	rig_put(&rig, LISTS, list, sizeof(list));
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 24, RIG_DATA, LISTS)),
			 NVME_DATA_TRANSFER_ERROR);
	rig_get(&rig, RIG_DATA, after, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	rig_image(&rig, before, sizeof(before), 0);
	assert_int_equal(run(rig_io(NVME_IO_WRITE, 0, 24, RIG_DATA, LISTS)),
			 NVME_DATA_TRANSFER_ERROR);
	rig_image(&rig, after, sizeof(after), 0);
	assert_memory_equal(before, after, sizeof(before));
}

static void media_errors_have_their_status(void **state)
{
	static const struct {
		const char *site;
		int code;
		uint8_t opcode;
		uint16_t status;
	} bad[] = {
		{"image.read", -EIO, NVME_IO_READ, NVME_UNRECOVERED_READ},
		{"image.write", -EIO, NVME_IO_WRITE, NVME_WRITE_FAULT},
		{"image.write", -ENOSPC, NVME_IO_WRITE, NVME_CAPACITY_EXCEEDED},
		{"image.write", -EDQUOT, NVME_IO_WRITE, NVME_CAPACITY_EXCEEDED},
		{"image.zero", -ENOSPC, NVME_IO_WRITE_ZEROES, NVME_CAPACITY_EXCEEDED},
		{"image.flush", -EIO, NVME_IO_FLUSH, NVME_WRITE_FAULT},
		{"image.read", -EFAULT, NVME_IO_READ, NVME_DATA_TRANSFER_ERROR},
		{"image.read", -ENOMEM, NVME_IO_READ, NVME_INTERNAL_ERROR},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_inject_site = bad[i].site;
		rig_inject_code = bad[i].code;
		assert_int_equal(io(bad[i].opcode, 0, 8), bad[i].status);
		rig_inject_site = NULL;
		assert_int_equal(io(bad[i].opcode, 0, 8), NVME_SUCCESS);
	}
}

static void read_only_namespace(void **state)
{
	struct vd_nvme_config config = {.read_only = true};
	struct nvme_range range = {.blocks = 1};
	struct nvme_command command;
	uint8_t byte;

	(void)state;
	rig_close(&rig);
	rig_open(&rig, &config);
	rig_start(&rig, 4);
	assert_int_equal(io(NVME_IO_WRITE, 0, 1), NVME_WRITE_PROTECTED);
	assert_int_equal(io(NVME_IO_WRITE_ZEROES, 0, 1), NVME_WRITE_PROTECTED);
	rig_put(&rig, RIG_DATA, &range, sizeof(range));
	command = rig_io(NVME_IO_DATASET_MANAGEMENT, 0, 1, RIG_DATA, 0);
	command.cdw10 = 0;
	command.cdw11 = NVME_DSM_DEALLOCATE;
	assert_int_equal(run(command), NVME_WRITE_PROTECTED);
	assert_int_equal(io(NVME_IO_READ, 0, 1), NVME_SUCCESS);
	assert_int_equal(io(NVME_IO_FLUSH, 0, 1), NVME_SUCCESS);
	command = rig_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_NAMESPACE, 0, RIG_DATA);
	command.nsid = 1;
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	rig_get(&rig, RIG_DATA + 99, &byte, 1);
	assert_int_equal(byte, 1);
}

/* ---- durability -------------------------------------------------------------------------- */

static uint8_t image_byte(uint64_t lba)
{
	uint8_t byte;

	rig_image(&rig, &byte, 1, lba * 512);
	return byte;
}

static void put_byte(uint8_t value)
{
	uint8_t block[512];

	memset(block, value, sizeof(block));
	rig_put(&rig, RIG_DATA, block, sizeof(block));
}

/* On the volatile back end the file shows what is durable. */
static void flush_fua_and_cache_setting(void **state)
{
	struct vd_nvme_config config = {.backing = "volatile"};
	struct nvme_command command;

	(void)state;
	rig_close(&rig);
	rig_open(&rig, &config);
	rig_start(&rig, 4);
	put_byte(0xc1);
	assert_int_equal(io(NVME_IO_WRITE, 0, 1), NVME_SUCCESS);
	assert_int_not_equal(image_byte(0), 0xc1);
	assert_int_equal(io(NVME_IO_FLUSH, 0, 1), NVME_SUCCESS);
	assert_int_equal(image_byte(0), 0xc1);
	put_byte(0xc2);
	command = rig_io(NVME_IO_WRITE, 1, 1, RIG_DATA, 0);
	command.cdw12 |= 1u << 30;
	assert_int_equal(run(command), NVME_SUCCESS);
	assert_int_equal(image_byte(1), 0xc2);
	/* Without a write cache every write is durable. */
	command = rig_admin(NVME_ADMIN_SET_FEATURES, NVME_FEATURE_WRITE_CACHE, 0, 0);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	put_byte(0xc3);
	assert_int_equal(io(NVME_IO_WRITE, 2, 1), NVME_SUCCESS);
	assert_int_equal(image_byte(2), 0xc3);
}

static void shutdown_flushes(void **state)
{
	struct vd_nvme_config config = {.backing = "volatile"};

	(void)state;
	for (int how = 0; how < 2; how++) {
		rig_close(&rig);
		rig_open(&rig, &config);
		rig_start(&rig, 4);
		put_byte(0xd0);
		assert_int_equal(io(NVME_IO_WRITE, 5, 1), NVME_SUCCESS);
		if (how == 0) {
			rig_write32(&rig, NVME_CC, rig_read32(&rig, NVME_CC) | 1 << 14);
		} else {
			vd_device_put(rig.device);
			rig.device = NULL;
		}
		assert_int_equal(image_byte(5), 0xd0);
	}
}

/* The negative control of the crash tests: with FLUSH made a no-op, they must find data missing. */
static void noop_flush_loses_data(void **state)
{
	struct vd_nvme_config config = {.backing = "volatile", .flush = "noop"};

	(void)state;
	rig_close(&rig);
	rig_open(&rig, &config);
	rig_start(&rig, 4);
	put_byte(0xe0);
	assert_int_equal(io(NVME_IO_WRITE, 5, 1), NVME_SUCCESS);
	assert_int_equal(io(NVME_IO_FLUSH, 0, 1), NVME_SUCCESS);
	assert_int_not_equal(image_byte(5), 0xe0);
	assert_int_equal(io(NVME_IO_READ, 5, 1), NVME_SUCCESS);
}

/* ---- resets and deletion with I/O under way ---------------------------------------------- */

static void push_durable_writes(unsigned queue, unsigned count)
{
	struct nvme_command command;

	for (unsigned i = 0; i < count; i++) {
		command = rig_io(NVME_IO_WRITE, i, 1, RIG_DATA, 0);
		command.cdw12 |= 1u << 30;
		rig_push(&rig, queue, &command);
	}
	rig_ring(&rig, queue);
}

static void deleted_queue_finishes_first(void **state)
{
	struct nvme_completion completion;
	struct nvme_command command = rig_admin(NVME_ADMIN_DELETE_SQ, 1, 0, 0);

	(void)state;
	push_durable_writes(1, 10);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	for (unsigned i = 0; i < 10; i++) {
		bool tail_doorbell = rig_pop(&rig, 1, &completion);

		assert_true(tail_doorbell);
		assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	}
	command = rig_admin(NVME_ADMIN_DELETE_CQ, 1, 0, 0);
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
}

static void resets_leave_nothing_under_way(void **state)
{
	struct vd_dma_stats stats;

	(void)state;
	for (int how = 0; how < 3; how++) {
		push_durable_writes(1, 12);
		if (how == 0)
			rig_write32(&rig, NVME_CC, 0);
		else if (how == 1)
			vd_device_reset(rig.device, VD_RESET_FUNCTION);
		else
			vd_device_quiesce(rig.device);
		vd_dma_stats(rig.space, &stats);
		assert_int_equal(stats.pinned_bytes, 0);
		assert_int_equal(vd_device_poll_fd(rig.device), -1);
		if (how == 2)
			vd_device_resume(rig.device);
		rig_write32(&rig, NVME_CC, 0);
		rig_start(&rig, 16);
	}
}

/* One conversion a command, however many pages it has (D2). */
static void one_pin_a_command(void **state)
{
	struct vd_dma_stats before, after;
	uint64_t list[511];

	(void)state;
	for (unsigned i = 0; i < 511; i++)
		list[i] = RIG_DATA + PAGE * 2 * (i + 1);
	rig_put(&rig, LISTS, list, sizeof(list));
	vd_dma_stats(rig.space, &before);
	assert_int_equal(run(rig_io(NVME_IO_READ, 0, 4096, RIG_DATA, LISTS)), NVME_SUCCESS);
	vd_dma_stats(rig.space, &after);
	assert_int_equal(after.pins - before.pins, 1);
	assert_int_equal(after.pinned_bytes, 0);
}

static bool is_dirty(const uint8_t *bitmap, uint64_t gpa)
{
	uint64_t page = (gpa - RIG_RAM) / PAGE;

	return bitmap[page / 8] >> (page % 8) & 1;
}

/*
 * All that the controller writes is in the guest's dirty log: data, completions, event indexes;
 * what it reads is not.
 */
static void writes_are_logged(void **state)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_DOORBELL_BUFFER, 0, 0, RIG_SHADOW);
	uint8_t bitmap[RIG_RAM_SIZE / PAGE / 8];

	(void)state;
	command.prp2 = RIG_EVENT_INDEX;
	assert_int_equal(rig_run(&rig, 0, &command, NULL), NVME_SUCCESS);
	assert_int_equal(vd_mem_dirty_start(rig.mem, rig.ram_slot), 0);
	command = rig_io(NVME_IO_WRITE, 0, 1, RIG_DATA, 0);
	rig_push(&rig, 1, &command);
	command = rig_io(NVME_IO_READ, 0, 1, RIG_DATA + PAGE, 0);
	rig_push(&rig, 1, &command);
	rig_put32(&rig, RIG_SHADOW + 8, 2);
	assert_int_equal(vd_mem_dirty_fetch(rig.mem, rig.ram_slot, bitmap, sizeof(bitmap)), 0);
	assert_true(is_dirty(bitmap, rig.queues[1].sq));
	rig_doorbell(&rig, 1, false, 2);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	vd_device_resume(rig.device);
	assert_int_equal(vd_mem_dirty_fetch(rig.mem, rig.ram_slot, bitmap, sizeof(bitmap)), 0);
	assert_true(is_dirty(bitmap, rig.queues[1].cq));
	assert_true(is_dirty(bitmap, RIG_DATA + PAGE));
	assert_true(is_dirty(bitmap, RIG_EVENT_INDEX));
	assert_false(is_dirty(bitmap, RIG_DATA));
	assert_false(is_dirty(bitmap, rig.queues[1].sq));
	assert_false(is_dirty(bitmap, RIG_SHADOW));
	assert_int_equal(vd_mem_dirty_stop(rig.mem, rig.ram_slot), 0);
}

/* ---- save and load ----------------------------------------------------------------------- */

static void loads_what_was_saved(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()};
	struct nvme_command command = rig_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0, 0);
	struct nvme_completion completion;

	(void)state;
	rig_push(&rig, 0, &command);
	rig_ring(&rig, 0);
	put_byte(0x42);
	assert_int_equal(io(NVME_IO_WRITE, 7, 1), NVME_SUCCESS);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	vd_device_resume(rig.device);
	/* Gone, and back. */
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_BUS), 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(vd_device_load(rig.device, &stream, NULL), 0);
	vd_device_resume(rig.device);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY);
	put_byte(0);
	assert_int_equal(io(NVME_IO_READ, 7, 1), NVME_SUCCESS);
	assert_int_equal(rig_get32(&rig, RIG_DATA), 0x42424242);
	rig_doorbell(&rig, 9, false, 1);
	rig_wait(&rig, 0, &completion);
	assert_int_equal(completion.cid, command.cid);
	vd_stream_fini(&stream);
}

/* What a controller could never have come to: positions outside the queue. */
static void impossible_queues_are_refused(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()};
	const uint64_t base = RIG_QUEUES;
	uint8_t *found;

	(void)state;
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	found = memmem(stream.data, stream.length, &base, sizeof(base));
	assert_non_null(found);
	/* Tail, head and size precede the base. */
	for (int field = 1; field <= 3; field++) {
		uint32_t old, bad = field == 3 ? 1025 : 16;

		memcpy(&old, found - 4 * field, 4);
		memcpy(found - 4 * field, &bad, 4);
		stream.position = 0;
		stream.failed = false;
		assert_int_not_equal(vd_device_load(rig.device, &stream, NULL), 0);
		memcpy(found - 4 * field, &old, 4);
	}
	stream.position = 0;
	stream.failed = false;
	assert_int_equal(vd_device_load(rig.device, &stream, NULL), 0);
	vd_device_resume(rig.device);
	vd_stream_fini(&stream);
}

/*
 * A stream is hostile: cut short or with any byte changed, it loads or it is refused, and nothing
 * breaks.
 */
static void hostile_streams_are_survived(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()}, bad;
	struct nvme_completion completion;

	(void)state;
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	for (size_t cut = 0; cut < stream.length; cut += 7) {
		bad = stream;
		bad.position = 0;
		bad.failed = false;
		bad.length = cut;
		assert_int_not_equal(vd_device_load(rig.device, &bad, NULL), 0);
	}
	srand(77);
	for (int i = 0; i < 3000; i++) {
		size_t at = (size_t)rand() % stream.length;
		uint8_t old = stream.data[at];

		stream.data[at] = (uint8_t)rand();
		stream.position = 0;
		stream.failed = false;
		if (vd_device_load(rig.device, &stream, NULL) == 0) {
			vd_device_resume(rig.device);
			rig_doorbell(&rig, 1, false, (uint32_t)rand() % 20);
			rig_doorbell(&rig, 1, true, (uint32_t)rand() % 20);
			assert_int_equal(vd_device_quiesce(rig.device), 0);
		}
		stream.data[at] = old;
	}
	stream.position = 0;
	stream.failed = false;
	assert_int_equal(vd_device_load(rig.device, &stream, NULL), 0);
	vd_device_resume(rig.device);
	while (rig_pop(&rig, 1, &completion))
		;
	vd_stream_fini(&stream);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(property_equals_model),
		TEST(many_at_once), TEST(lba_out_of_range), TEST(wrong_namespace), TEST(bad_prps),
		TEST(fault_transfers_nothing), TEST(media_errors_have_their_status),
		TEST(read_only_namespace), TEST(flush_fua_and_cache_setting),
		TEST(shutdown_flushes), TEST(noop_flush_loses_data),
		TEST(deleted_queue_finishes_first), TEST(resets_leave_nothing_under_way),
		TEST(one_pin_a_command), TEST(writes_are_logged),
		TEST(loads_what_was_saved),
		TEST(impossible_queues_are_refused), TEST(hostile_streams_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
