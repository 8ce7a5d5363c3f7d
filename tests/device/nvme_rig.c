/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <poll.h>

#include "nvme_rig.h"

const char *rig_inject_site;
int rig_inject_code;

static int rig_inject(const struct vd_env *env, const char *site)
{
	(void)env;
	return rig_inject_site && strcmp(site, rig_inject_site) == 0 ? rig_inject_code : 0;
}

/* One for all: what is freed after a grace period may outlive its rig. */
static const struct vd_env *rig_env(void)
{
	static struct vd_env env;

	if (!env.allocate) {
		env = *vd_env_hosted();
		env.inject = rig_inject;
	}
	return &env;
}

static void make_image(struct rig *rig)
{
	uint8_t *bytes = malloc(RIG_IMAGE_SIZE);
	int fd;

	snprintf(rig->path, sizeof(rig->path), "/tmp/vd-nvme-XXXXXX");
	fd = mkstemp(rig->path);
	assert_true(fd >= 0);
	for (size_t i = 0; i < RIG_IMAGE_SIZE; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 512);
	assert_int_equal(write(fd, bytes, RIG_IMAGE_SIZE), RIG_IMAGE_SIZE);
	close(fd);
	free(bytes);
}

static void make_memory(struct rig *rig, const struct vd_dma_remote_ops *ops)
{
	struct vd_host_config host = {.env = rig->env};
	struct vd_mem_config mem = {.env = rig->env};
	struct vd_dma_config dma = {.env = rig->env};
	struct vd_slot_config slot = {
		.base = {RIG_RAM}, .size = RIG_RAM_SIZE, .kind = VD_SLOT_RAM, .name = "ram",
	};

	assert_int_equal(vd_host_create(&host, &rig->host, NULL), 0);
	assert_int_equal(vd_host_ram_create(rig->host, "ram", RIG_RAM_SIZE, VD_HOST_SPARES,
					    &rig->ram, NULL), 0);
	mem.host = rig->host;
	assert_int_equal(vd_mem_create(&mem, &rig->mem, NULL), 0);
	slot.object = rig->ram;
	assert_int_equal(vd_mem_add_slot(rig->mem, &slot, &rig->ram_slot, NULL), 0);
	dma.host = rig->host;
	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	if (ops)
		assert_int_equal(vd_dma_map_remote(rig->space, (vd_iova){RIG_RAM}, RIG_RAM_SIZE,
						   VD_READ | VD_WRITE, ops, rig), 0);
	else
		assert_int_equal(vd_dma_follow(rig->space, rig->mem, NULL), 0);
}

static void sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct rig *rig = context;

	(void)level;
	if (index == VD_IRQ_MSIX && vector < 256)
		atomic_fetch_add(&rig->interrupts[vector], 1);
}

void rig_open(struct rig *rig, const struct vd_nvme_config *config)
{
	rig_open_remote(rig, config, NULL);
}

void rig_open_remote(struct rig *rig, const struct vd_nvme_config *config,
		     const struct vd_dma_remote_ops *ops)
{
	struct vd_nvme_config nvme = config ? *config : (struct vd_nvme_config){0};
	struct vd_error error = {0};
	int rc;

	memset(rig, 0, sizeof(*rig));
	rig_inject_site = NULL;
	rig->env = rig_env();
	make_image(rig);
	make_memory(rig, ops);
	nvme.env = rig->env;
	nvme.host = rig->host;
	nvme.space = rig->space;
	nvme.image = rig->path;
	rc = vd_nvme_create(&nvme, &rig->device, &error);
	if (rc)
		print_error("%s\n", error.text);
	assert_int_equal(rc, 0);
	assert_int_equal(vd_device_set_sink(rig->device, VD_IRQ_MSIX, sink, rig), 0);
}

void rig_close(struct rig *rig)
{
	if (rig->device)
		vd_device_put(rig->device);
	vd_dma_space_destroy(rig->space);
	vd_mem_destroy(rig->mem);
	vd_host_object_put(rig->ram);
	vd_host_destroy(rig->host);
	unlink(rig->path);
}

uint32_t rig_read32(struct rig *rig, uint64_t offset)
{
	uint32_t value = 0;

	assert_int_equal(vd_device_read(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					&value, 4), 0);
	return value;
}

uint64_t rig_read64(struct rig *rig, uint64_t offset)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					&value, 8), 0);
	return value;
}

void rig_write32(struct rig *rig, uint64_t offset, uint32_t value)
{
	assert_int_equal(vd_device_write(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					 &value, 4), 0);
}

void rig_write64(struct rig *rig, uint64_t offset, uint64_t value)
{
	assert_int_equal(vd_device_write(rig->device, VD_REGION_BAR0, (vd_region_offset){offset},
					 &value, 8), 0);
}

void rig_doorbell(struct rig *rig, unsigned id, bool completion, uint32_t value)
{
	rig_write32(rig, 0x1000 + 8 * id + 4 * completion, value);
}

void rig_put(struct rig *rig, uint64_t gpa, const void *data, size_t length)
{
	assert_int_equal(vd_mem_write(rig->mem, (vd_gpa){gpa}, data, length), 0);
}

void rig_get(struct rig *rig, uint64_t gpa, void *data, size_t length)
{
	assert_int_equal(vd_mem_read(rig->mem, (vd_gpa){gpa}, data, length), 0);
}

void rig_put32(struct rig *rig, uint64_t gpa, uint32_t value)
{
	rig_put(rig, gpa, &value, sizeof(value));
}

uint32_t rig_get32(struct rig *rig, uint64_t gpa)
{
	uint32_t value;

	rig_get(rig, gpa, &value, sizeof(value));
	return value;
}

void rig_bus_master(struct rig *rig, bool on)
{
	/* Memory space, and bus master. */
	uint16_t command = on ? 6 : 2;

	assert_int_equal(vd_device_write(rig->device, VD_REGION_CONFIG, (vd_region_offset){4},
					 &command, 2), 0);
}

uint32_t rig_enable(struct rig *rig)
{
	static const uint8_t zeroes[4096];

	rig_put(rig, RIG_ADMIN_SQ, zeroes, sizeof(zeroes));
	rig_put(rig, RIG_ADMIN_CQ, zeroes, sizeof(zeroes));
	rig_write32(rig, NVME_AQA, (RIG_ADMIN_ENTRIES - 1) << 16 | (RIG_ADMIN_ENTRIES - 1));
	rig_write64(rig, NVME_ASQ, RIG_ADMIN_SQ);
	rig_write64(rig, NVME_ACQ, RIG_ADMIN_CQ);
	/* Entry sizes of 64 and 16 bytes, pages of 4 KiB, enable. */
	rig_write32(rig, NVME_CC, 4u << 20 | 6u << 16 | NVME_CC_EN);
	memset(rig->queues, 0, sizeof(rig->queues));
	rig->queues[0] = (struct rig_queue){
		.entries = RIG_ADMIN_ENTRIES, .cq_entries = RIG_ADMIN_ENTRIES, .sq = RIG_ADMIN_SQ,
		.cq = RIG_ADMIN_CQ, .phase = true,
	};
	return rig_read32(rig, NVME_CSTS);
}

void rig_create_pair(struct rig *rig, unsigned id, unsigned entries)
{
	uint64_t base = RIG_QUEUES + (id - 1) * 0x20000ull;
	static const uint8_t zeroes[0x20000];
	struct nvme_command command;

	rig_put(rig, base, zeroes, sizeof(zeroes));
	command = rig_admin(NVME_ADMIN_CREATE_CQ, (entries - 1) << 16 | id, id << 16 | 3,
			    base + 0x10000);
	assert_int_equal(rig_run(rig, 0, &command, NULL), NVME_SUCCESS);
	command = rig_admin(NVME_ADMIN_CREATE_SQ, (entries - 1) << 16 | id, id << 16 | 1, base);
	assert_int_equal(rig_run(rig, 0, &command, NULL), NVME_SUCCESS);
	rig->queues[id] = (struct rig_queue){
		.id = id, .entries = entries, .cq_entries = entries, .sq = base,
		.cq = base + 0x10000, .phase = true,
	};
}

void rig_start(struct rig *rig, unsigned entries)
{
	rig_bus_master(rig, true);
	assert_int_equal(rig_enable(rig), NVME_CSTS_RDY);
	if (entries)
		rig_create_pair(rig, 1, entries);
}

uint16_t rig_push(struct rig *rig, unsigned id, struct nvme_command *command)
{
	struct rig_queue *queue = &rig->queues[id];

	command->cid = queue->next_cid++;
	rig_put(rig, queue->sq + 64ull * queue->tail, command, sizeof(*command));
	queue->tail = (queue->tail + 1) % queue->entries;
	return command->cid;
}

/* Linux' nvme_dbbuf_need_event(). */
static bool need_event(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static void ring(struct rig *rig, struct rig_queue *queue, bool completion, uint32_t value)
{
	uint64_t offset = 8ull * queue->id + 4 * completion;
	uint32_t old;

	if (queue->shadow) {
		old = rig_get32(rig, RIG_SHADOW + offset);
		rig_put32(rig, RIG_SHADOW + offset, value);
		if (!need_event((uint16_t)rig_get32(rig, RIG_EVENT_INDEX + offset), (uint16_t)value,
				(uint16_t)old))
			return;
	}
	rig_doorbell(rig, queue->id, completion, value);
}

void rig_ring(struct rig *rig, unsigned id)
{
	ring(rig, &rig->queues[id], false, rig->queues[id].tail);
}

bool rig_pop(struct rig *rig, unsigned id, struct nvme_completion *completion)
{
	struct rig_queue *queue = &rig->queues[id];
	uint64_t entry = queue->cq + 16ull * queue->head;

	/* The phase bit comes last; only then is the rest valid. */
	if ((rig_get32(rig, entry + 12) >> 16 & 1) != queue->phase)
		return false;
	rig_get(rig, entry, completion, sizeof(*completion));
	if (++queue->head == queue->cq_entries) {
		queue->head = 0;
		queue->phase = !queue->phase;
	}
	ring(rig, queue, true, queue->head);
	return true;
}

void rig_wait(struct rig *rig, unsigned id, struct nvme_completion *completion)
{
	for (int i = 0; i < 5000; i++) {
		struct pollfd ready = {.fd = vd_device_poll_fd(rig->device), .events = POLLIN};

		if (rig_pop(rig, id, completion))
			return;
		if (ready.fd >= 0)
			poll(&ready, 1, 1000);
		vd_device_poll(rig->device);
	}
	fail_msg("no completion in queue %u", id);
}

uint16_t rig_run(struct rig *rig, unsigned id, struct nvme_command *command, uint32_t *result)
{
	uint16_t cid = rig_push(rig, id, command);
	struct nvme_completion completion;

	rig_ring(rig, id);
	rig_wait(rig, id, &completion);
	assert_int_equal(completion.cid, cid);
	assert_int_equal(completion.sq_id, id);
	assert_int_equal(completion.sq_head, rig->queues[id].tail);
	if (result)
		*result = completion.result;
	return (completion.status >> 1) & ~NVME_MORE;
}

struct nvme_command rig_admin(uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1)
{
	return (struct nvme_command){
		.opcode = opcode, .cdw10 = cdw10, .cdw11 = cdw11, .prp1 = prp1,
	};
}

uint16_t rig_simple(struct rig *rig, uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1)
{
	struct nvme_command command = rig_admin(opcode, cdw10, cdw11, prp1);

	return rig_run(rig, 0, &command, NULL);
}

uint16_t rig_log_page(struct rig *rig, uint32_t id, uint64_t offset, uint32_t bytes, bool retain,
		      void *data)
{
	uint32_t last = bytes / 4 - 1;
	struct nvme_command command =
		rig_admin(NVME_ADMIN_GET_LOG_PAGE, last << 16 | (uint32_t)retain << 15 | id,
			  last >> 16, RIG_DATA);
	uint16_t status;

	command.prp2 = RIG_DATA + 0x1000;
	command.cdw12 = (uint32_t)offset;
	command.cdw13 = (uint32_t)(offset >> 32);
	command.nsid = NVME_NSID_ALL;
	status = rig_run(rig, 0, &command, NULL);
	if (data)
		rig_get(rig, RIG_DATA, data, bytes);
	return status;
}

uint16_t rig_request_event(struct rig *rig)
{
	struct nvme_command command = rig_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0, 0);
	uint16_t cid = rig_push(rig, 0, &command);

	rig_ring(rig, 0);
	return cid;
}

struct nvme_command rig_io(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t prp1,
			   uint64_t prp2)
{
	return (struct nvme_command){
		.opcode = opcode, .nsid = 1, .prp1 = prp1, .prp2 = prp2, .cdw10 = (uint32_t)lba,
		.cdw11 = (uint32_t)(lba >> 32), .cdw12 = blocks - 1,
	};
}

void rig_image(struct rig *rig, void *data, size_t length, uint64_t offset)
{
	int fd = open(rig->path, O_RDONLY);

	assert_int_equal(pread(fd, data, length, (off_t)offset), length);
	close(fd);
}
