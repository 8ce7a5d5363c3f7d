/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands of 4 KiB through the doorbells of the NVMe model, in this process, on a temporary image
 * that the page cache holds: what the model and its DMA cost. The peer reads and writes the same
 * file by system calls.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <viaduct/device.h>

#include "cli/bench.h"

#define RAM 0x80000000ull
#define RAM_SIZE (4ull << 20)
#define ADMIN_SQ (RAM + 0x1000)
#define ADMIN_CQ (RAM + 0x2000)
#define IO_SQ (RAM + 0x3000)
#define IO_CQ (RAM + 0x4000)
#define DATA (RAM + (1ull << 20))
#define ENTRIES 64u
#define BLOCK 4096u
#define IMAGE_SIZE (64ull << 20)
#define WAIT_MS 10000

/* What a driver needs of NVMe 1.4: registers (3.1), commands (4.2), completions (4.6), opcodes. */
enum { CC = 0x14, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };
#define CC_SIZES (4u << 20 | 6u << 16) /* log2 of the bytes of a completion and a command */
#define CC_ENABLE 1u
enum { ADMIN_CREATE_SQ = 1, ADMIN_CREATE_CQ = 5, IO_WRITE = 1, IO_READ = 2 };
#define TIMED_OUT 0x7fffu /* no status of a controller */

struct nvme_command {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t metadata, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct nvme_completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq_id, cid, status; /* bit 0 of the status: phase */
};

/* The driver's side of a queue pair: in guest memory, as the guest sees it. */
struct queue {
	struct nvme_command *sq;
	volatile struct nvme_completion *cq;
	unsigned id, tail, head;
	uint16_t phase;
};

struct nvme {
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_dma_space *space;
	struct vd_device *device;
	struct queue admin, io;
	uint8_t opcode;
	unsigned depth;
	uint64_t random, failures;
	int fd;
	char path[64];
	uint8_t buffer[BLOCK];
};

static void write_register(struct nvme *nvme, uint64_t offset, uint64_t value, size_t length)
{
	nvme->failures += vd_device_write(nvme->device, VD_REGION_BAR0, (vd_region_offset){offset},
					  &value, length) != 0;
}

/* The next completion; there is one under way. Status without its phase bit. */
static unsigned complete(struct nvme *nvme, struct queue *queue)
{
	volatile struct nvme_completion *c = &queue->cq[queue->head];
	unsigned status;

	while ((__atomic_load_n(&c->status, __ATOMIC_ACQUIRE) & 1) != queue->phase) {
		struct pollfd ready = {.fd = vd_device_poll_fd(nvme->device), .events = POLLIN};

		if (ready.fd >= 0 && poll(&ready, 1, WAIT_MS) == 0)
			return TIMED_OUT;
		vd_device_poll(nvme->device);
	}
	status = c->status >> 1;
	if (++queue->head == ENTRIES) {
		queue->head = 0;
		queue->phase ^= 1;
	}
	return status;
}

static void submit(struct queue *queue, const struct nvme_command *command)
{
	queue->sq[queue->tail] = *command;
	queue->tail = (queue->tail + 1) % ENTRIES;
}

static void ring(struct nvme *nvme, const struct queue *queue)
{
	write_register(nvme, DOORBELLS + 8 * queue->id, queue->tail, 4);
}

static void ring_completed(struct nvme *nvme, const struct queue *queue)
{
	write_register(nvme, DOORBELLS + 8 * queue->id + 4, queue->head, 4);
}

static uint64_t random_offset(struct nvme *nvme)
{
	return bench_random(&nvme->random) % (IMAGE_SIZE / BLOCK) * BLOCK;
}

/* @depth commands, one doorbell; their completions, one doorbell. */
static void commands(void *context, uint64_t n)
{
	struct nvme *nvme = context;

	for (uint64_t done = 0; done < n; done += nvme->depth) {
		for (unsigned i = 0; i < nvme->depth; i++) {
			struct nvme_command command = {
				.opcode = nvme->opcode, .cid = (uint16_t)i, .nsid = 1,
				.prp1 = DATA + i * BLOCK,
				.cdw10 = (uint32_t)(random_offset(nvme) / 512),
				.cdw12 = BLOCK / 512 - 1,
			};

			submit(&nvme->io, &command);
		}
		ring(nvme, &nvme->io);
		for (unsigned i = 0; i < nvme->depth; i++)
			nvme->failures += complete(nvme, &nvme->io) != 0;
		ring_completed(nvme, &nvme->io);
	}
}

static void system_calls(void *context, uint64_t n)
{
	struct nvme *nvme = context;

	for (uint64_t i = 0; i < n; i++) {
		off_t offset = (off_t)random_offset(nvme);
		ssize_t done = nvme->opcode == IO_READ ?
			pread(nvme->fd, nvme->buffer, BLOCK, offset) :
			pwrite(nvme->fd, nvme->buffer, BLOCK, offset);

		nvme->failures += done != BLOCK;
	}
}

static int create_image(struct nvme *nvme, struct vd_error *error)
{
	static const uint8_t zeroes[1 << 20];
	const char *folder = getenv("TMPDIR");

	snprintf(nvme->path, sizeof(nvme->path), "%.40s/viaduct-bench-XXXXXX",
		 folder ? folder : "/tmp");
	nvme->fd = mkostemp(nvme->path, O_CLOEXEC);
	if (nvme->fd < 0)
		return vd_error_set(error, -errno, "cannot make %s: %s", nvme->path,
				    strerror(errno));
	for (uint64_t at = 0; at < IMAGE_SIZE; at += sizeof(zeroes))
		if (pwrite(nvme->fd, zeroes, sizeof(zeroes), (off_t)at) != sizeof(zeroes))
			return vd_error_set(error, -EIO, "cannot write %s", nvme->path);
	return 0;
}

static int create_memory(struct nvme *nvme, struct vd_error *error)
{
	struct vd_host_config host = {.env = vd_env_hosted()};
	struct vd_mem_config mem = {.env = vd_env_hosted()};
	struct vd_dma_config dma = {.env = vd_env_hosted()};
	struct vd_slot_config slot = {.base = {RAM}, .size = RAM_SIZE, .kind = VD_SLOT_RAM,
				      .name = "ram"};
	int rc = vd_host_create(&host, &nvme->host, error);

	if (!rc)
		rc = vd_host_ram_create(nvme->host, "ram", RAM_SIZE, 0, &nvme->ram, error);
	mem.host = dma.host = nvme->host;
	if (!rc)
		rc = vd_mem_create(&mem, &nvme->mem, error);
	slot.object = nvme->ram;
	if (!rc)
		rc = vd_mem_add_slot(nvme->mem, &slot, NULL, error);
	if (!rc)
		rc = vd_dma_space_create(&dma, &nvme->space, error);
	return rc ? rc : vd_dma_follow(nvme->space, nvme->mem, error);
}

static int open_queue(struct nvme *nvme, struct queue *queue, unsigned id, uint64_t sq, uint64_t cq)
{
	struct vd_host_page page;
	uint8_t *base;
	int rc = vd_host_object_lookup(nvme->ram, 0, VD_READ | VD_WRITE, &page);

	if (rc)
		return rc;
	base = vd_host_pointer(vd_host_window_base(nvme->host), page.pfn,
			       vd_host_page_shift(nvme->host));
	*queue = (struct queue){.sq = (void *)(base + (sq - RAM)),
				.cq = (void *)(base + (cq - RAM)),
				.id = id, .phase = 1};
	return 0;
}

static int admin(struct nvme *nvme, uint8_t opcode, uint64_t prp1, uint32_t cdw10, uint32_t cdw11)
{
	struct nvme_command command = {.opcode = opcode, .prp1 = prp1, .cdw10 = cdw10,
				       .cdw11 = cdw11};
	unsigned status;

	submit(&nvme->admin, &command);
	ring(nvme, &nvme->admin);
	status = complete(nvme, &nvme->admin);
	ring_completed(nvme, &nvme->admin);
	return status ? -EIO : 0;
}

/* As a driver starts a controller (NVMe 1.4, 7.6.1). */
static int start(struct nvme *nvme, struct vd_error *error)
{
	const uint16_t memory_and_master = 6;
	int rc = vd_device_write(nvme->device, VD_REGION_CONFIG, (vd_region_offset){4},
				 &memory_and_master, 2);

	if (!rc)
		rc = open_queue(nvme, &nvme->admin, 0, ADMIN_SQ, ADMIN_CQ);
	if (!rc)
		rc = open_queue(nvme, &nvme->io, 1, IO_SQ, IO_CQ);
	if (rc)
		return vd_error_set(error, rc, "the controller cannot be set up");
	write_register(nvme, AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1), 4);
	write_register(nvme, ASQ, ADMIN_SQ, 8);
	write_register(nvme, ACQ, ADMIN_CQ, 8);
	write_register(nvme, CC, CC_SIZES | CC_ENABLE, 4);
	if (admin(nvme, ADMIN_CREATE_CQ, IO_CQ, (ENTRIES - 1) << 16 | 1, 1) ||
	    admin(nvme, ADMIN_CREATE_SQ, IO_SQ, (ENTRIES - 1) << 16 | 1, 1 << 16 | 1))
		return vd_error_set(error, -EIO, "the controller made no queues");
	return 0;
}

static int measure(struct bench *bench, struct nvme *nvme, struct vd_error *error)
{
	static const struct {
		const char *name, *peer;
		uint8_t opcode;
		unsigned depth;
	} kinds[] = {
		{"read 4 KiB, depth 1", "pread", IO_READ, 1},
		{"read 4 KiB, depth 32", "pread", IO_READ, 32},
		{"write 4 KiB, depth 1", "pwrite", IO_WRITE, 1},
		{"write 4 KiB, depth 32", "pwrite", IO_WRITE, 32},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct bench_case c = {.name = kinds[i].name, .wall = true,
					     .context = nvme,
					     .n = bench->quick ? 64 : 1024, .body = commands,
					     .peer = kinds[i].peer, .peer_body = system_calls};

		nvme->opcode = kinds[i].opcode;
		nvme->depth = kinds[i].depth;
		bench_one(bench, &c);
	}
	return nvme->failures ? vd_error_set(error, -EIO, "%llu commands failed",
					     (unsigned long long)nvme->failures) : 0;
}

static void tear_down(struct nvme *nvme)
{
	if (nvme->device)
		vd_device_put(nvme->device);
	vd_dma_space_destroy(nvme->space);
	vd_mem_destroy(nvme->mem);
	vd_host_object_put(nvme->ram);
	if (nvme->host)
		vd_host_destroy(nvme->host);
	if (nvme->fd >= 0) {
		unlink(nvme->path);
		close(nvme->fd);
	}
}

int bench_nvme(struct bench *bench, struct vd_error *error)
{
	struct nvme nvme = {.random = 0x9e3779b97f4a7c15u, .fd = -1};
	struct vd_nvme_config config = {.env = vd_env_hosted()};
	int rc = create_image(&nvme, error);

	if (!rc)
		rc = create_memory(&nvme, error);
	config.host = nvme.host;
	config.space = nvme.space;
	config.image = nvme.path;
	if (!rc)
		rc = vd_nvme_create(&config, &nvme.device, error);
	if (!rc)
		rc = start(&nvme, error);
	if (!rc)
		rc = measure(bench, &nvme, error);
	tear_down(&nvme);
	return rc;
}
