/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NVMe controller from within. Everything here is touched with the device's lock held, except
 * what says otherwise.
 */
#ifndef DEVICE_NVME_NVME_H
#define DEVICE_NVME_NVME_H

#include <viaduct/device.h>
#include <viaduct/pci.h>

#include "device/image/image.h"
#include "device/nvme/spec.h"

#define NVME_BAR_SIZE 0x4000u
#define NVME_MSIX_OFFSET 0x2000u
#define NVME_LBA_SHIFT 9u
#define NVME_ENTRIES_MAX 1024u
#define NVME_QUEUES_MAX 128u /* I/O queues of each direction; a doorbell buffer holds 511 */
#define NVME_QUEUES_DEFAULT 32u
#define NVME_MDTS 9u	     /* 2 MiB: a guest's 1 MiB read is one command and one conversion */
#define NVME_TRANSFER_MAX (4096u << NVME_MDTS)
#define NVME_PAGES_MAX ((1u << NVME_MDTS) + 1)
#define NVME_PAGE_SHIFT_MAX 16u
#define NVME_EVENTS_MAX 4u   /* outstanding asynchronous event requests */
#define NVME_ERRORS_MAX 16u
#define NVME_TEMPERATURE 310u /* kelvin */
#define NVME_RAISE_WORDS (NVME_QUEUES_MAX / 64 + 1)
#define NVME_DOORBELLS (2 * (NVME_QUEUES_MAX + 1) + 1) /* the last one: of no queue */
#define NVME_DOORBELL_WORDS (NVME_DOORBELLS / 64 + 1)
#define NVME_CMB_BAR 2u
#define NVME_CMB_UNIT (2u << 20)
#define NVME_CMB_MAX (1ull << 30)

struct nvme_controller;

/**
 * struct nvme_cq - completion queue
 * @reserved: commands under way that will complete here: their entries are kept free
 * @full: commands were left in a submission queue for want of entries
 */
struct nvme_cq {
	bool valid;
	bool phase;
	bool interrupts;
	bool full;
	uint16_t vector;
	uint32_t size, head, tail, reserved;
	uint32_t users;
	uint64_t base;
};

/** struct nvme_sq - submission queue; @under_way: requests not yet completed */
struct nvme_sq {
	bool valid;
	uint16_t cqid;
	uint32_t size, head, tail;
	uint32_t under_way;
	uint64_t base;
};

/**
 * struct nvme_request - one I/O command under way
 * @pin: held while @pinned; dropped by whoever finds the I/O finished, which may be a thread
 *	without the device's lock
 * @turns: odd while the image has it; any thread
 * @next: in the free list, or in the controller's @finished
 */
struct nvme_request {
	struct vd_image_request image;
	struct vd_dma_pin pin;
	bool pinned;
	_Atomic uint32_t turns;
	uint8_t opcode;
	uint16_t sqid, cid;
	uint32_t nsid;
	uint64_t lba;
	struct nvme_controller *nvme;
	struct nvme_request *next;
	struct vd_dma_range ranges[NVME_PAGES_MAX];
	struct vd_dma_segment segments[NVME_PAGES_MAX];
};

/**
 * struct nvme_event - an asynchronous event that waits for a request, or for its log page to be
 * read
 */
struct nvme_event {
	bool pending;
	bool masked;
	uint8_t info;
	uint8_t log;
};

/**
 * struct nvme_notes - what came in while an operation waited for memory (enter.c)
 * @any: there are some
 * @disable: CC.EN was cleared; the doorbells are those since
 * @write_cc, @cc: CC was written
 * @bus_master: it was changed
 * @rung: doorbells that were written, and with what
 */
struct nvme_notes {
	bool any, disable, write_cc, bus_master;
	uint32_t cc;
	uint64_t rung[NVME_DOORBELL_WORDS];
	uint32_t doorbells[NVME_DOORBELLS];
};

/**
 * struct nvme_counters - SMART log (figure 196), since creation
 */
struct nvme_counters {
	uint64_t sectors_read, sectors_written;
	uint64_t reads, writes;
	uint64_t media_errors;
	uint64_t errors;
};

/**
 * struct nvme_controller - all state
 * @cc, @csts, @aqa, @asq, @acq, @intm: registers
 * @cmbmsc, @cmb_size: controller memory buffer; the size is 0 if there is none
 * @page_shift: memory page size (CC.MPS), valid while ready
 * @inside: an operation is under way, and may be waiting for memory
 * @stopping: it shall begin nothing more: the controller is about to be disabled
 * @notes: for it
 * @poll_again: somebody wanted to poll meanwhile
 * @shadow, @event_index: doorbell buffer (5.7), 0 if not configured
 * @stuck: commands wait for a request structure or for their turn: look at the queues again when
 *	polled
 * @under_way: requests not yet completed, of all queues
 * @finished: requests whose I/O is over, pushed from any thread, popped under the lock
 * @wake: eventfd, readable while @stuck or when another thread has reaped; then @woken
 * @raise: completion queues with entries posted since their last interrupt
 * @poll_fd: epoll over @wake and the image's descriptor
 * @fetched, @fetched_cmb: commands, and those of them that were in the controller memory buffer
 */
struct nvme_controller {
	const struct vd_env *env;
	struct vd_dma_space *space;
	struct vd_device *device;
	struct vd_image *image;
	struct vd_dma_owner owner;

	uint32_t cc, csts, aqa, intm;
	uint64_t asq, acq;
	uint64_t cmbmsc, cmb_size;
	unsigned page_shift;
	unsigned queue_limit, queues_granted;
	bool bus_master;
	bool quiesced;
	bool stuck;
	bool busy;
	bool inside;
	bool stopping;
	bool poll_again;
	uint32_t async_event_count;
	uint16_t async_event_cids[NVME_EVENTS_MAX];
	struct nvme_event events[NVME_EVENT_TYPES];
	uint64_t shadow, event_index;
	uint32_t features[NVME_FEATURE_COUNT];
	uint32_t vector_features[NVME_QUEUES_MAX + 1];
	uint16_t temperature_over, temperature_under;
	struct nvme_sq sqs[NVME_QUEUES_MAX + 1];
	struct nvme_cq cqs[NVME_QUEUES_MAX + 1];
	struct nvme_error_entry errors[NVME_ERRORS_MAX];
	struct nvme_counters counters;

	unsigned under_way;
	struct nvme_request *requests;
	struct nvme_request *free;
	struct nvme_request *_Atomic finished;
	_Atomic bool woken;
	int wake, poll_fd;
	uint64_t raise[NVME_RAISE_WORDS];
	uint64_t fetched, fetched_cmb;
	char serial[21];
	uint64_t eui64;
	struct nvme_notes notes;
};

static inline bool nvme_ready(const struct nvme_controller *nvme)
{
	return (nvme->csts & (NVME_CSTS_RDY | NVME_CSTS_CFS)) == NVME_CSTS_RDY && !nvme->stopping;
}

/* registers.c */
int nvme_read(void *context, unsigned region, uint64_t offset, void *data, size_t length);
int nvme_write(void *context, unsigned region, uint64_t offset, const void *data, size_t length);
/**
 * nvme_disable() - finish what is under way and forget queues and features; CSTS is the caller's
 */
void nvme_disable(struct nvme_controller *nvme);
/** nvme_write_cc() - 3.1.5: enable, disable, shut down */
void nvme_write_cc(struct nvme_controller *nvme, uint32_t value);
uint64_t nvme_capabilities(const struct nvme_controller *nvme);

/* nvme.c */
/** nvme_bus_master_changed() - @bus_master did: go on, or finish what is under way */
void nvme_bus_master_changed(struct nvme_controller *nvme);

/* enter.c: operations while another one waits for memory */
/** nvme_enter() - Return: whether none is under way; then nvme_leave() comes after it. */
bool nvme_enter(struct nvme_controller *nvme);
/** nvme_leave() - do what was noted meanwhile */
void nvme_leave(struct nvme_controller *nvme);
/**
 * nvme_note() - a register is written while an operation is under way. Return: whether it was
 * noted; else it can be written at once.
 */
bool nvme_note(struct nvme_controller *nvme, uint64_t offset, uint32_t value);
/** nvme_note_bus_master() - nvme_bus_master_changed() is to be called */
void nvme_note_bus_master(struct nvme_controller *nvme);
void nvme_forget_notes(struct nvme_controller *nvme);
/** nvme_follow_notes() - with nobody inside: nothing is left over */
void nvme_follow_notes(struct nvme_controller *nvme);

/* cmb.c: the controller memory buffer (4.7) */
/** nvme_cmb_bar() - describe its BAR, if there is one */
void nvme_cmb_bar(const struct nvme_controller *nvme, struct vd_pci_bar *bar);
/** nvme_cmb_location(), nvme_cmb_size() - CMBLOC and CMBSZ */
uint32_t nvme_cmb_location(const struct nvme_controller *nvme);
uint32_t nvme_cmb_size(const struct nvme_controller *nvme);
/** nvme_cmb_control() - CMBMSC is written */
void nvme_cmb_control(struct nvme_controller *nvme, uint64_t value);
/** nvme_cmb_invalid() - CMBSTS.CBAI */
bool nvme_cmb_invalid(const struct nvme_controller *nvme);
/** nvme_cmb_at() - Return: whether an address is in the buffer, and where */
bool nvme_cmb_at(const struct nvme_controller *nvme, uint64_t address, uint64_t *offset);
/** nvme_cmb_meets(), nvme_cmb_holds() - whether the buffer has some, or all, of the bytes */
bool nvme_cmb_meets(const struct nvme_controller *nvme, uint64_t address, uint64_t length);
bool nvme_cmb_holds(const struct nvme_controller *nvme, uint64_t address, uint64_t length);
/** nvme_cmb_can_hold() - a queue that is all there or not there at all */
bool nvme_cmb_can_hold(const struct nvme_controller *nvme, uint64_t address, uint64_t length);
/** nvme_cmb_read() - copy from the buffer. Return: 0, -EFAULT it ends before. */
int nvme_cmb_read(struct nvme_controller *nvme, uint64_t offset, void *buffer, size_t length);

/* queue.c */
void nvme_doorbell(struct nvme_controller *nvme, uint64_t offset, uint32_t value);
/** nvme_process() - fetch and run commands of every queue */
void nvme_process(struct nvme_controller *nvme);
/** nvme_complete() - post a completion for a command of @sq, whose entry was reserved */
void nvme_complete(struct nvme_controller *nvme, uint16_t sqid, uint16_t cid, uint16_t status,
		   uint32_t result);
/** nvme_reserve() - keep a free completion entry. Return: whether there was one. */
bool nvme_reserve(struct nvme_controller *nvme, struct nvme_cq *cq);
/** nvme_raise() - interrupts for what was posted */
void nvme_raise(struct nvme_controller *nvme);
/** nvme_fatal() - 9.5: nothing can be reported through a queue any more */
void nvme_fatal(struct nvme_controller *nvme);

/* shadow.c: completion entries, and doorbell buffers (7.13) */
/** nvme_post() - write a completion entry, its phase bit last. Return: 0 or -EFAULT. */
int nvme_post(struct nvme_controller *nvme, uint64_t iova, const struct nvme_completion *entry);
/**
 * nvme_shadow_read() - a doorbell as the host left it in memory. Return: false, and fatal, if it
 * cannot be read.
 */
bool nvme_shadow_read(struct nvme_controller *nvme, unsigned index, uint32_t *value);
/**
 * nvme_shadow_arm() - ask for a doorbell write after @seen. Return: whether the value has not
 * changed meanwhile.
 */
bool nvme_shadow_arm(struct nvme_controller *nvme, unsigned index, uint32_t seen);
/** nvme_shadow_init() - both buffers agree with a queue's registers */
void nvme_shadow_init(struct nvme_controller *nvme, unsigned index, uint32_t value);
uint16_t nvme_doorbell_buffer(struct nvme_controller *nvme, const struct nvme_command *command);
static inline unsigned nvme_sq_doorbell(unsigned id)
{
	return 2 * id;
}
static inline unsigned nvme_cq_doorbell(unsigned id)
{
	return 2 * id + 1;
}

/* prp.c */
/**
 * nvme_prp_ranges() - 4.3: where a command's data lies, adjacent pages joined
 * @length: bytes, at most NVME_TRANSFER_MAX
 * Return: NVME_SUCCESS and *@count of at most NVME_PAGES_MAX @ranges; NVME_INVALID_PRP_OFFSET;
 *	NVME_DATA_TRANSFER_ERROR if a list cannot be read.
 */
uint16_t nvme_prp_ranges(struct nvme_controller *nvme, uint64_t prp1, uint64_t prp2,
			 uint32_t length, struct vd_dma_range *ranges, unsigned *count);
/** nvme_prp_copy() - copy a small buffer to (@to_host) or from where the PRPs point */
uint16_t nvme_prp_copy(struct nvme_controller *nvme, const struct nvme_command *command,
		       void *buffer, uint32_t length, bool to_host);

/* admin.c, identify.c, feature.c, log.c: each returns a status, or NVME_PENDING */
uint16_t nvme_admin(struct nvme_controller *nvme, const struct nvme_command *command,
		    uint32_t *result);
uint16_t nvme_identify(struct nvme_controller *nvme, const struct nvme_command *command);
uint16_t nvme_get_features(struct nvme_controller *nvme, const struct nvme_command *command,
			   uint32_t *result);
uint16_t nvme_set_features(struct nvme_controller *nvme, const struct nvme_command *command,
			   uint32_t *result);
void nvme_features_reset(struct nvme_controller *nvme);
uint16_t nvme_get_log_page(struct nvme_controller *nvme, const struct nvme_command *command);
uint16_t nvme_async_event(struct nvme_controller *nvme, const struct nvme_command *command);
/**
 * nvme_event_raise() - an event happened; reported when a request is there and the type not masked
 */
void nvme_event_raise(struct nvme_controller *nvme, enum nvme_event_type type, uint8_t info,
		      uint8_t log);
/** nvme_events_deliver() - report what can be reported */
void nvme_events_deliver(struct nvme_controller *nvme);
bool nvme_event_abort(struct nvme_controller *nvme, uint16_t cid);
/** nvme_log_error() - note a failed command for log page 1. Return: @status that says so. */
uint16_t nvme_log_error(struct nvme_controller *nvme, uint16_t sqid, uint16_t cid,
			uint16_t status, uint32_t nsid, uint64_t lba);
bool nvme_too_hot(const struct nvme_controller *nvme);

/* io.c */
/**
 * nvme_io() - begin an I/O command with a request from the free list. Return: a status, or
 * NVME_PENDING.
 */
uint16_t nvme_io(struct nvme_controller *nvme, uint16_t sqid, const struct nvme_command *command);
/** nvme_io_kick() - start what was submitted, complete what finishes at once */
void nvme_io_kick(struct nvme_controller *nvme);
/** nvme_io_reap() - complete what has finished, and go on with what had to wait for that */
void nvme_io_reap(struct nvme_controller *nvme);
/** nvme_io_drain() - wait until @under_way (a queue's, or all) is 0; the disk ends every request */
void nvme_io_drain(struct nvme_controller *nvme, const unsigned *under_way);
/** nvme_io_flush() - drain, then make everything written durable. Return: 0 or -errno. */
int nvme_io_flush(struct nvme_controller *nvme);
void nvme_io_unpin_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length);
int nvme_io_init(struct nvme_controller *nvme);
void nvme_io_fini(struct nvme_controller *nvme);
/** nvme_io_poll_state() - tell the core whether to poll */
void nvme_io_poll_state(struct nvme_controller *nvme);

/* state.c */
int nvme_save(void *context, struct vd_stream *stream);
int nvme_load(void *context, struct vd_stream *stream);

#endif
