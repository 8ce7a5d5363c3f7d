/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "front.h"
#include "user/rig.h"

/* ---- a toy: the probe of user/rig.h --------------------------------------------------------- */

static int create_toy(struct front *f, const struct vd_env *env, struct vd_host *host,
		      struct vd_dma_space *space, struct vd_device **device)
{
	struct probe *probe = NULL;
	int r = probe_create(env, host, space, true, &f->released, &probe);

	if (!r)
		*device = probe->device;
	return r;
}

static int toy_do(struct front *f, unsigned command, uint64_t address, uint64_t length)
{
	front_put(f, 8 * PROBE_ADDRESS, 8, address);
	front_put(f, 8 * PROBE_LENGTH, 8, length);
	front_put(f, 8 * PROBE_COMMAND, 8, command);
	return (int)(int64_t)front_get(f, 8 * PROBE_RESULT, 8);
}

static int toy_store(struct front *f, uint64_t address, uint32_t length)
{
	return toy_do(f, PROBE_WRITE, address, length);
}

static uint64_t toy_sum(struct front *f, uint64_t address, uint32_t length)
{
	assert_int_equal(toy_do(f, PROBE_READ, address, length), 0);
	return front_get(f, 8 * PROBE_SUM, 8);
}

static void toy_intx(struct front *f, bool level)
{
	front_put(f, 8 * PROBE_COMMAND, 8, level ? PROBE_ASSERT : PROBE_LOWER);
}

static void toy_raise(struct front *f, unsigned vector)
{
	toy_do(f, PROBE_RAISE, 0, vector);
}

static const struct front_device toy = {
	.name = "toy", .create = create_toy,
	.scratch = {VD_REGION_BAR0, 8 * PROBE_SCRATCH, 8, UINT64_C(0x123456789abcdef)},
	.store = toy_store, .sum = toy_sum, .intx = toy_intx, .vectors = 64, .raise = toy_raise,
};

/* ---- edu ------------------------------------------------------------------------------------ */

enum { EDU_RAISE = 0x60, EDU_ACKNOWLEDGE = 0x64, EDU_SOURCE = 0x80, EDU_DESTINATION = 0x88,
       EDU_COUNT = 0x90, EDU_COMMAND = 0x98, EDU_BUFFER = 0x40000 };

static int create_edu(struct front *f, const struct vd_env *env, struct vd_host *host,
		      struct vd_dma_space *space, struct vd_device **device)
{
	struct vd_edu_config config = {.env = env, .host = host, .space = space};

	(void)f;
	return vd_edu_create(&config, device, NULL);
}

static void edu_transfer(struct front *f, uint64_t from, uint64_t to, uint32_t length, bool store)
{
	front_put(f, EDU_SOURCE, 8, from);
	front_put(f, EDU_DESTINATION, 8, to);
	front_put(f, EDU_COUNT, 8, length);
	front_put(f, EDU_COMMAND, 8, store ? 3 : 1);
	while (front_get(f, EDU_COMMAND, 8) & 1)
		;
}

static int edu_store(struct front *f, uint64_t address, uint32_t length)
{
	edu_transfer(f, EDU_BUFFER, address, length, true);
	return 0;
}

/* Out of its buffer again, a page further on. */
static uint64_t edu_sum(struct front *f, uint64_t address, uint32_t length)
{
	uint64_t sum = 0, to = address + 2 * FRONT_PAGE;

	edu_transfer(f, address, EDU_BUFFER, length, false);
	edu_transfer(f, EDU_BUFFER, to, length, true);
	for (uint32_t i = 0; i < length; i++)
		sum += f->bytes[to - FRONT_RAM + i];
	return sum;
}

static void edu_intx(struct front *f, bool level)
{
	front_put(f, level ? EDU_RAISE : EDU_ACKNOWLEDGE, 4, 2);
}

static const struct front_device edu = {
	.name = "edu", .create = create_edu, .scratch = {VD_REGION_BAR0, EDU_SOURCE, 8, 0x4321000},
	.store = edu_store, .silent = true, .sum = edu_sum, .intx = edu_intx,
};

/* ---- NVMe ----------------------------------------------------------------------------------- */

enum { NVME_CC = 0x14, NVME_CSTS = 0x1c, NVME_AQA = 0x24, NVME_ASQ = 0x28, NVME_ACQ = 0x30,
       NVME_DOORBELL = 0x1000 };
#define NVME_QUEUES (FRONT_RAM + 32 * FRONT_PAGE)

static int create_nvme(struct front *f, const struct vd_env *env, struct vd_host *host,
		       struct vd_dma_space *space, struct vd_device **device)
{
	struct vd_nvme_config config = {.env = env, .host = host, .space = space,
					.backing = "sync", .image = f->image, .cmb = 2u << 20};
	int fd;

	snprintf(f->image, sizeof(f->image), "/tmp/viaduct-front-image.XXXXXX");
	fd = mkstemp(f->image);
	assert_true(fd >= 0 && !ftruncate(fd, 1 << 20));
	close(fd);
	return vd_nvme_create(&config, device, NULL);
}

/* Of CSTS: ready (1), or that it gave up (2). */
static bool nvme_wait(struct front *f, uint64_t ready)
{
	uint64_t status;

	do
		status = front_get(f, NVME_CSTS, 4);
	while (!(status & 2) && (status & 1) != ready);
	return !(status & 2);
}

/* Identify: a page of it. */
static int nvme_store(struct front *f, uint64_t address, uint32_t length)
{
	uint8_t command[64] = {6, 0, 1};
	volatile uint16_t *status =
		(volatile uint16_t *)(f->bytes + (NVME_QUEUES - FRONT_RAM) + FRONT_PAGE + 14);

	assert_int_equal(length, FRONT_PAGE);
	/* memory, bus master */
	assert_int_equal(f->ops->write(f, VD_REGION_CONFIG, 4, &(uint16_t){6}, 2), 0);
	memcpy(command + 24, &address, 8);
	command[40] = 1;
	memset(f->bytes + (NVME_QUEUES - FRONT_RAM), 0, 2 * FRONT_PAGE);
	memcpy(f->bytes + (NVME_QUEUES - FRONT_RAM), command, sizeof(command));
	front_put(f, NVME_CC, 4, 0);
	assert_true(nvme_wait(f, 0) || f->slot == 0);
	front_put(f, NVME_AQA, 4, 0x10001);
	front_put(f, NVME_ASQ, 8, NVME_QUEUES);
	front_put(f, NVME_ACQ, 8, NVME_QUEUES + FRONT_PAGE);
	front_put(f, NVME_CC, 4, 0x460001);
	if (!nvme_wait(f, 1))
		return -EIO;
	front_put(f, NVME_DOORBELL, 4, 1);
	while (!(*status & 1))
		if (front_get(f, NVME_CSTS, 4) & 2)
			return -EIO;
	return *status >> 1 ? -EIO : 0;
}

static const struct front_device nvme = {
	.name = "nvme", .create = create_nvme, .scratch = {VD_REGION_BAR0, NVME_ASQ, 8, 0x1234000},
	.store = nvme_store,
};

/* ---- display -------------------------------------------------------------------------------- */

static int create_display(struct front *f, const struct vd_env *env, struct vd_host *host,
			  struct vd_dma_space *space, struct vd_device **device)
{
	struct vd_display_config config = {.env = env, .host = host, .memory_size = 4u << 20};

	(void)f;
	(void)space;
	return vd_display_create(&config, device, NULL);
}

static const struct front_device display = {
	/* DISPI: horizontal resolution */
	.name = "display", .create = create_display, .scratch = {VD_REGION_BAR2, 0x502, 2, 640},
};

const struct front_device *const front_devices[] = {&toy, &edu, &nvme, &display, NULL};
