/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest pages move to other frames, and never-touched ones are discarded, under a controller at
 * work: no byte is lost, no pin stays, nobody waits for ever. Run under TSan.
 */
#include <pthread.h>

#include "nvme_rig.h"

#define SLOTS 8u
#define BLOCKS_EACH 16u
#define BYTES_EACH (BLOCKS_EACH * 512)
#define PAGE 4096u
#define USED (RIG_DATA - RIG_RAM + SLOTS * 0x10000)

static struct rig rig;
static _Atomic bool stop;
static _Atomic unsigned moves, busy, discards, failures;

static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void *move_pages(void *context)
{
	uint32_t seed = 99;

	(void)context;
	while (!atomic_load(&stop)) {
		uint64_t page = next(&seed) % (USED / PAGE), count = 1 + next(&seed) % 8;
		int rc = vd_host_object_move(rig.ram, page * PAGE, count * PAGE, true);

		if (rc == 0)
			atomic_fetch_add(&moves, 1);
		else if (rc == -EBUSY || rc == -EAGAIN)
			atomic_fetch_add(&busy, 1);
		else
			atomic_fetch_add(&failures, 1);
		page = (RIG_RAM_SIZE / 2 + next(&seed) % (RIG_RAM_SIZE / 2)) / PAGE;
		rc = vd_host_object_discard(rig.ram, page * PAGE, PAGE, true);
		atomic_fetch_add(rc == 0 ? &discards : &failures, 1);
	}
	return NULL;
}

/* Another processor that looks after completions. */
static void *poll_device(void *context)
{
	(void)context;
	while (!atomic_load(&stop)) {
		vd_device_poll(rig.device);
		sched_yield();
	}
	return NULL;
}

struct transfer {
	bool used, write;
	uint16_t cid;
	uint64_t block;
};

static uint64_t slot_address(unsigned slot)
{
	return RIG_DATA + slot * 0x10000ull + 512;
}

static void begin(struct transfer *transfer, unsigned slot, uint8_t *model, uint32_t *seed)
{
	uint8_t data[BYTES_EACH];
	struct nvme_command command;

	/* Each slot has blocks of its own: the order between slots is nobody's business. */
	transfer->used = true;
	transfer->write = next(seed) % 2;
	transfer->block = (slot * 8 + next(seed) % 8) * BLOCKS_EACH;
	if (transfer->write) {
		memset(data, (int)next(seed), sizeof(data));
		memcpy(data, &slot, sizeof(slot));
		memcpy(model + transfer->block * 512, data, sizeof(data));
		rig_put(&rig, slot_address(slot), data, sizeof(data));
	}
	command = rig_io(transfer->write ? NVME_IO_WRITE : NVME_IO_READ, transfer->block,
			 BLOCKS_EACH, slot_address(slot), 0);
	/* Two pages and a bit: a list in the page after the data. */
	command.prp2 = slot_address(slot) - 512 + 4 * PAGE;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t page = slot_address(slot) - 512 + (i + 1) * PAGE;

		rig_put(&rig, command.prp2 + 8 * i, &page, 8);
	}
	if (transfer->write && next(seed) % 4 == 0)
		command.cdw12 |= 1u << 30;
	transfer->cid = rig_push(&rig, 1, &command);
	rig_ring(&rig, 1);
}

static void end(struct transfer *transfers, const uint8_t *model)
{
	struct nvme_completion completion;
	uint8_t data[BYTES_EACH];
	unsigned slot = 0;

	rig_wait(&rig, 1, &completion);
	assert_int_equal(completion.status >> 1, NVME_SUCCESS);
	while (slot < SLOTS && !(transfers[slot].used && transfers[slot].cid == completion.cid))
		slot++;
	assert_true(slot < SLOTS);
	if (!transfers[slot].write) {
		rig_get(&rig, slot_address(slot), data, sizeof(data));
		assert_memory_equal(data, model + transfers[slot].block * 512, sizeof(data));
	}
	transfers[slot].used = false;
}

static void data_survive_moving_pages(void **state)
{
	struct transfer transfers[SLOTS] = {{0}};
	uint8_t *model = malloc(RIG_IMAGE_SIZE);
	pthread_t mover, poller;
	struct vd_dma_stats stats;
	uint32_t seed = 5;
	int rounds = 60;

	(void)state;
	rig_open(&rig, NULL);
	rig_start(&rig, 16);
	rig_image(&rig, model, RIG_IMAGE_SIZE, 0);
	assert_int_equal(pthread_create(&mover, NULL, move_pages, NULL), 0);
	assert_int_equal(pthread_create(&poller, NULL, poll_device, NULL), 0);
	for (int i = 0; i < rounds || atomic_load(&moves) < 100; i++) {
		unsigned started = 1 + next(&seed) % SLOTS;

		for (unsigned slot = 0; slot < started; slot++)
			begin(&transfers[slot], slot, model, &seed);
		for (unsigned slot = 0; slot < started; slot++)
			end(transfers, model);
	}
	atomic_store(&stop, true);
	pthread_join(mover, NULL);
	pthread_join(poller, NULL);
	print_message("%u moves, %u busy, %u discards\n", moves, busy, discards);
	assert_int_equal(failures, 0);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.pinned_bytes, 0);
	rig_close(&rig);
	free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(data_survive_moving_pages)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
