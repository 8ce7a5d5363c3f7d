/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine without a processor for NVMe tests: RAM, a controller, and the driver's side of its
 * queues.
 */
#ifndef TESTS_DEVICE_NVME_RIG_H
#define TESTS_DEVICE_NVME_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <viaduct/device.h>
#include <viaduct/mem.h>

#include "device/nvme/spec.h"

#define RIG_RAM 0x80000000ull
#define RIG_RAM_SIZE (16ull << 20)
#define RIG_ADMIN_SQ (RIG_RAM + 0x1000)
#define RIG_ADMIN_CQ (RIG_RAM + 0x2000)
#define RIG_QUEUES (RIG_RAM + 0x10000) /* 128 KiB a pair: submission, then completion at + 64 KiB */
#define RIG_SHADOW (RIG_RAM + 0x4000)
#define RIG_EVENT_INDEX (RIG_RAM + 0x5000)
#define RIG_DATA (RIG_RAM + (2ull << 20))
#define RIG_IMAGE_SIZE (4u << 20)
#define RIG_ADMIN_ENTRIES 16u
#define RIG_PAIRS 8u

/* The driver's view of a queue pair. */
struct rig_queue {
	unsigned id, entries, cq_entries;
	uint64_t sq, cq;
	uint32_t tail, head;
	bool phase;
	bool shadow;
	uint16_t next_cid;
};

struct rig {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	uint32_t ram_slot;
	struct vd_dma_space *space;
	struct vd_device *device;
	char path[64];
	struct rig_queue queues[RIG_PAIRS];
	_Atomic unsigned interrupts[256];
};

/* Sites that fail, and with what; NULL for none. */
extern const char *rig_inject_site;
extern int rig_inject_code;

/**
 * rig_open() - image, host, RAM and controller; @config may be NULL, else its image, env, host and
 * space are filled in
 */
void rig_open(struct rig *rig, const struct vd_nvme_config *config);
/**
 * rig_open_remote() - the same, with memory that is reached by messages; the callbacks get the rig
 */
void rig_open_remote(struct rig *rig, const struct vd_nvme_config *config,
		     const struct vd_dma_remote_ops *ops);
void rig_close(struct rig *rig);
/**
 * rig_start() - bus mastering, enable, admin queue, and one I/O pair (1) of @entries, 0 for none
 */
void rig_start(struct rig *rig, unsigned entries);
void rig_bus_master(struct rig *rig, bool on);

uint32_t rig_read32(struct rig *rig, uint64_t offset);
uint64_t rig_read64(struct rig *rig, uint64_t offset);
void rig_write32(struct rig *rig, uint64_t offset, uint32_t value);
void rig_write64(struct rig *rig, uint64_t offset, uint64_t value);
void rig_doorbell(struct rig *rig, unsigned id, bool completion, uint32_t value);
void rig_put(struct rig *rig, uint64_t gpa, const void *data, size_t length);
void rig_get(struct rig *rig, uint64_t gpa, void *data, size_t length);
void rig_put32(struct rig *rig, uint64_t gpa, uint32_t value);
uint32_t rig_get32(struct rig *rig, uint64_t gpa);

/** rig_enable() - program and enable; Return: CSTS */
uint32_t rig_enable(struct rig *rig);
/** rig_create_pair() - queues @id with @entries each; asserts success */
void rig_create_pair(struct rig *rig, unsigned id, unsigned entries);
/** rig_push() - put a command into a queue without ringing. Return: its command identifier. */
uint16_t rig_push(struct rig *rig, unsigned id, struct nvme_command *command);
void rig_ring(struct rig *rig, unsigned id);
/** rig_pop() - the next completion, if there is one; rings the head doorbell */
bool rig_pop(struct rig *rig, unsigned id, struct nvme_completion *completion);
/** rig_wait() - poll the device until there is one; fails the test after some seconds */
void rig_wait(struct rig *rig, unsigned id, struct nvme_completion *completion);
/** rig_run() - one command. Return: status without phase and More bits; *@result may be NULL. */
uint16_t rig_run(struct rig *rig, unsigned id, struct nvme_command *command, uint32_t *result);

/* Commands. */
struct nvme_command rig_admin(uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1);
struct nvme_command rig_io(uint8_t opcode, uint64_t lba, uint32_t blocks, uint64_t prp1,
			   uint64_t prp2);
/** rig_simple() - run an admin command that needs no more than these. Return: its status. */
uint16_t rig_simple(struct rig *rig, uint8_t opcode, uint32_t cdw10, uint32_t cdw11, uint64_t prp1);
/** rig_log_page() - read @bytes of a log page into @data, which may be NULL. Return: the status. */
uint16_t rig_log_page(struct rig *rig, uint32_t id, uint64_t offset, uint32_t bytes, bool retain,
		      void *data);
/** rig_request_event() - leave an asynchronous event request there. Return: its identifier. */
uint16_t rig_request_event(struct rig *rig);
/** rig_image() - the image file as it is now */
void rig_image(struct rig *rig, void *data, size_t length, uint64_t offset);

#endif
