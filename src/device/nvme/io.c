/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O commands: NVMe 1.4, section 6. */
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device/nvme/nvme.h"

_Static_assert(sizeof(struct vd_dma_segment) == sizeof(struct iovec) &&
	       offsetof(struct vd_dma_segment, length) == offsetof(struct iovec, iov_len),
	       "a pin's segments are handed to the image as they are");

/* An invalidation waits for pins at most as long as its space's limit; no use in staying longer. */
#define UNPIN_ROUNDS 1000
#define UNPIN_ROUND_MS 10
#define DRAIN_ROUND_MS 10

/* ---- requests ---------------------------------------------------------------------------- */

static struct nvme_request *request_of(struct vd_image_request *image)
{
	return (struct nvme_request *)((char *)image - offsetof(struct nvme_request, image));
}

/* What memory that is reached by messages did not take was not transferred. */
static void unpin(struct nvme_request *request)
{
	if (request->pinned && vd_dma_unpin(&request->pin) && !request->image.result)
		request->image.result = -EFAULT;
	request->pinned = false;
}

/*
 * On any thread: let go of the guest's memory at once, leave the rest to a holder of the device's
 * lock.
 */
static void io_done(struct vd_image_request *image)
{
	struct nvme_request *request = request_of(image);
	struct nvme_controller *nvme = request->nvme;
	struct nvme_request *first = atomic_load_explicit(&nvme->finished, memory_order_relaxed);

	unpin(request);
	/* Release: pairs with the acquire in nvme_io_unpin_request(). */
	atomic_fetch_add_explicit(&request->turns, 1, memory_order_release);
	do {
		request->next = first;
		/* Release: pairs with the acquire in collect(). */
	} while (!atomic_compare_exchange_weak_explicit(&nvme->finished, &first, request,
							memory_order_release,
							memory_order_relaxed));
}

static struct nvme_request *take(struct nvme_controller *nvme, uint16_t sqid,
				 const struct nvme_command *command)
{
	struct nvme_request *request = nvme->free;

	nvme->free = request->next;
	request->sqid = sqid;
	request->cid = command->cid;
	request->opcode = command->opcode;
	request->nsid = command->nsid;
	request->lba = command->cdw10 | (uint64_t)command->cdw11 << 32;
	request->pinned = false;
	request->image = (struct vd_image_request){.done = io_done};
	return request;
}

static void give_back(struct nvme_controller *nvme, struct nvme_request *request)
{
	request->next = nvme->free;
	nvme->free = request;
}

static uint16_t status_of(const struct nvme_request *request)
{
	switch (request->image.result) {
	case 0:
		return NVME_SUCCESS;
	case -EFAULT:
		return NVME_DATA_TRANSFER_ERROR;
	case -ENOSPC:
	case -EDQUOT:
		return NVME_CAPACITY_EXCEEDED;
	case -EROFS:
		return NVME_WRITE_PROTECTED;
	case -ENOMEM:
		return NVME_INTERNAL_ERROR;
	default:
		return request->opcode == NVME_IO_READ ? NVME_UNRECOVERED_READ : NVME_WRITE_FAULT;
	}
}

static void count(struct nvme_controller *nvme, const struct nvme_request *request)
{
	uint64_t sectors = request->image.length >> NVME_LBA_SHIFT;

	if (request->image.result) {
		nvme->counters.media_errors++;
	} else if (request->opcode == NVME_IO_READ) {
		nvme->counters.reads++;
		nvme->counters.sectors_read += sectors;
	} else if (request->opcode == NVME_IO_WRITE) {
		nvme->counters.writes++;
		nvme->counters.sectors_written += sectors;
	}
}

/* Give the request to the image; what is finished at once is completed by the caller. */
static uint16_t start(struct nvme_controller *nvme, struct nvme_request *request)
{
	uint16_t status;

	atomic_fetch_add_explicit(&request->turns, 1, memory_order_relaxed);
	if (!vd_image_submit(nvme->image, &request->image)) {
		nvme->under_way++;
		nvme->sqs[request->sqid].under_way++;
		return NVME_PENDING;
	}
	unpin(request);
	atomic_fetch_add_explicit(&request->turns, 1, memory_order_release);
	count(nvme, request);
	status = status_of(request);
	give_back(nvme, request);
	return status;
}

/* ---- commands ---------------------------------------------------------------------------- */

static bool lbas_exist(const struct nvme_controller *nvme, uint64_t lba, uint64_t blocks)
{
	uint64_t size = vd_image_size(nvme->image) >> NVME_LBA_SHIFT;

	return blocks <= size && lba <= size - blocks;
}

static uint16_t pin(struct nvme_controller *nvme, struct nvme_request *request,
		    const struct nvme_command *command, uint32_t length, unsigned access)
{
	unsigned ranges, segments = NVME_PAGES_MAX;
	uint16_t status = nvme_prp_ranges(nvme, command->prp1, command->prp2, length,
					  request->ranges, &ranges);
	int rc;

	if (status)
		return status;
	rc = vd_dma_pin(nvme->space, request->ranges, ranges, access, &nvme->owner, &request->pin,
			request->segments, &segments);
	/* For want of buffers: a host tries again. */
	if (rc == -ENOBUFS || rc == -ENOMEM)
		return NVME_INTERNAL_ERROR;
	if (rc)
		return NVME_DATA_TRANSFER_ERROR;
	request->pinned = true;
	request->image.vector = (struct iovec *)request->segments;
	request->image.count = segments;
	return NVME_SUCCESS;
}

static uint16_t transfer(struct nvme_controller *nvme, uint16_t sqid,
			 const struct nvme_command *command, bool write)
{
	uint64_t lba = command->cdw10 | (uint64_t)command->cdw11 << 32;
	uint32_t length = ((command->cdw12 & 0xffff) + 1) << NVME_LBA_SHIFT;
	struct nvme_request *request;
	uint16_t status;

	if (length > NVME_TRANSFER_MAX)
		return NVME_INVALID_FIELD;
	if (!lbas_exist(nvme, lba, length >> NVME_LBA_SHIFT))
		return NVME_LBA_OUT_OF_RANGE;
	if (write && vd_image_read_only(nvme->image))
		return NVME_WRITE_PROTECTED;
	request = take(nvme, sqid, command);
	request->image.op = write ? VD_IMAGE_WRITE : VD_IMAGE_READ;
	request->image.offset = lba << NVME_LBA_SHIFT;
	request->image.length = length;
	/* Forced unit access, or no volatile write cache wanted (5.21.1.6). */
	request->image.durable = write && ((command->cdw12 >> 30 & 1) ||
					   !nvme->features[NVME_FEATURE_WRITE_CACHE]);
	/* A device that writes to the disk reads guest memory, and the other way round. */
	status = pin(nvme, request, command, length, write ? VD_READ : VD_WRITE);
	if (status) {
		give_back(nvme, request);
		return status;
	}
	return start(nvme, request);
}

static uint16_t flush(struct nvme_controller *nvme, uint16_t sqid,
		      const struct nvme_command *command)
{
	struct nvme_request *request = take(nvme, sqid, command);

	request->image.op = VD_IMAGE_FLUSH;
	return start(nvme, request);
}

static uint16_t write_zeroes(struct nvme_controller *nvme, uint16_t sqid,
			     const struct nvme_command *command)
{
	uint64_t lba = command->cdw10 | (uint64_t)command->cdw11 << 32;
	uint64_t blocks = (command->cdw12 & 0xffff) + 1;
	struct nvme_request *request;

	if (!lbas_exist(nvme, lba, blocks))
		return NVME_LBA_OUT_OF_RANGE;
	if (vd_image_read_only(nvme->image))
		return NVME_WRITE_PROTECTED;
	request = take(nvme, sqid, command);
	request->image.op = VD_IMAGE_ZERO;
	request->image.offset = lba << NVME_LBA_SHIFT;
	request->image.length = blocks << NVME_LBA_SHIFT;
	request->image.unmap = command->cdw12 >> 25 & 1;
	request->image.durable = (command->cdw12 >> 30 & 1) ||
				 !nvme->features[NVME_FEATURE_WRITE_CACHE];
	return start(nvme, request);
}

static uint16_t deallocate(struct nvme_controller *nvme, uint16_t sqid,
			   const struct nvme_command *command, const struct nvme_range *range)
{
	struct nvme_request *request = take(nvme, sqid, command);

	request->image.op = VD_IMAGE_DISCARD;
	request->image.offset = range->lba << NVME_LBA_SHIFT;
	request->image.length = (uint64_t)range->blocks << NVME_LBA_SHIFT;
	return start(nvme, request);
}

/*
 * 6.7: of the attributes only Deallocate has an effect; all ranges are checked before the first is
 * given up.
 */
static uint16_t dataset_management(struct nvme_controller *nvme, uint16_t sqid,
				   const struct nvme_command *command)
{
	struct nvme_range ranges[NVME_RANGES_MAX];
	unsigned n = (command->cdw10 & 0xff) + 1;
	uint16_t status = nvme_prp_copy(nvme, command, ranges, n * sizeof(ranges[0]), false);

	for (unsigned i = 0; !status && i < n; i++) {
		if (!lbas_exist(nvme, ranges[i].lba, ranges[i].blocks))
			status = NVME_LBA_OUT_OF_RANGE;
	}
	if (status || !(command->cdw11 & NVME_DSM_DEALLOCATE))
		return status;
	if (vd_image_read_only(nvme->image))
		return NVME_WRITE_PROTECTED;
	for (unsigned i = 0; !status && i < n; i++) {
		if (ranges[i].blocks != 0)
			status = deallocate(nvme, sqid, command, &ranges[i]);
	}
	return status;
}

uint16_t nvme_io(struct nvme_controller *nvme, uint16_t sqid, const struct nvme_command *command)
{
	bool broadcast = command->opcode == NVME_IO_FLUSH && command->nsid == NVME_NSID_ALL;

	if (command->nsid != NVME_NSID && !broadcast)
		return NVME_INVALID_NAMESPACE;
	switch (command->opcode) {
	case NVME_IO_READ:
		return transfer(nvme, sqid, command, false);
	case NVME_IO_WRITE:
		return transfer(nvme, sqid, command, true);
	case NVME_IO_FLUSH:
		return flush(nvme, sqid, command);
	case NVME_IO_WRITE_ZEROES:
		return write_zeroes(nvme, sqid, command);
	case NVME_IO_DATASET_MANAGEMENT:
		return dataset_management(nvme, sqid, command);
	default:
		return NVME_INVALID_OPCODE;
	}
}

/* ---- completion of what had to wait ------------------------------------------------------ */

static void finish(struct nvme_controller *nvme, struct nvme_request *request)
{
	uint16_t status = status_of(request);

	count(nvme, request);
	nvme->under_way--;
	nvme->sqs[request->sqid].under_way--;
	if (status)
		status = nvme_log_error(nvme, request->sqid, request->cid, status, request->nsid,
					request->lba);
	nvme_complete(nvme, request->sqid, request->cid, status, 0);
	give_back(nvme, request);
}

/* The list is newest first; hosts like their completions in order. */
static void collect(struct nvme_controller *nvme)
{
	/* Acquire: pairs with the release in io_done(). */
	struct nvme_request *newest =
		atomic_exchange_explicit(&nvme->finished, NULL, memory_order_acquire);
	struct nvme_request *oldest = NULL;

	while (newest) {
		struct nvme_request *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		struct nvme_request *next = oldest->next;

		finish(nvme, oldest);
		oldest = next;
	}
}

void nvme_io_kick(struct nvme_controller *nvme)
{
	vd_image_kick(nvme->image);
	collect(nvme);
}

static void wake(struct nvme_controller *nvme)
{
	const uint64_t one = 1;

	/* In this order: see sleep_again(). A full counter is as readable as can be. */
	if (write(nvme->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return;
	atomic_store_explicit(&nvme->woken, true, memory_order_release);
}

static void sleep_again(struct nvme_controller *nvme)
{
	uint64_t value;

	/*
	 * Acquire: pairs with the release in wake(): if it is set, the descriptor is readable
	 * already.
	 */
	if (atomic_exchange_explicit(&nvme->woken, false, memory_order_acquire) &&
	    read(nvme->wake, &value, sizeof(value)) < 0)
		return;
}

void nvme_io_reap(struct nvme_controller *nvme)
{
	sleep_again(nvme);
	if (nvme->under_way) {
		vd_image_reap(nvme->image);
		collect(nvme);
	}
	if (nvme->stuck && !nvme->quiesced) {
		nvme_process(nvme);
		return;
	}
	nvme_raise(nvme);
	nvme_io_poll_state(nvme);
}

void nvme_io_poll_state(struct nvme_controller *nvme)
{
	bool busy = nvme->under_way || (nvme->stuck && !nvme->quiesced);

	if (nvme->stuck && nvme->free && busy)
		wake(nvme);
	if (busy == nvme->busy || !nvme->device)
		return;
	nvme->busy = busy;
	vd_device_set_busy(nvme->device, busy, busy ? nvme->poll_fd : -1);
}

void nvme_io_drain(struct nvme_controller *nvme, const unsigned *under_way)
{
	nvme_io_kick(nvme);
	while (*under_way) {
		vd_image_wait(nvme->image, DRAIN_ROUND_MS);
		vd_image_reap(nvme->image);
		collect(nvme);
	}
}

/* A flush, and whether it is over: it may be reaped by another thread. */
struct flush {
	struct vd_image_request request;
	_Atomic bool over;
};

static void flush_done(struct vd_image_request *request)
{
	struct flush *flush = (struct flush *)request;

	/* Release: pairs with the acquire in nvme_io_flush(). */
	atomic_store_explicit(&flush->over, true, memory_order_release);
}

int nvme_io_flush(struct nvme_controller *nvme)
{
	struct flush flush = {.request = {.op = VD_IMAGE_FLUSH, .done = flush_done}};

	nvme_io_drain(nvme, &nvme->under_way);
	if (vd_image_submit(nvme->image, &flush.request))
		return flush.request.result;
	vd_image_kick(nvme->image);
	/* Acquire: pairs with the release in flush_done(). */
	while (!atomic_load_explicit(&flush.over, memory_order_acquire)) {
		vd_image_wait(nvme->image, DRAIN_ROUND_MS);
		vd_image_reap(nvme->image);
	}
	return flush.request.result;
}

/*
 * Somebody wants memory back that I/O under way may be using. It ends by itself, but a thread that
 * holds the device's lock may be waiting for this very invalidation in vd_dma_pin(): so the
 * finished requests are collected here, without that lock. Only those that are under way now
 * matter: the range takes no new pins.
 */
void nvme_io_unpin_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct nvme_controller *nvme =
		(struct nvme_controller *)((char *)owner - offsetof(struct nvme_controller, owner));
	uint32_t turns[VD_IMAGE_DEPTH];
	unsigned waiting = 0;

	(void)start;
	(void)length;
	/* Without a descriptor every transfer ends on the thread that began it. */
	if (vd_image_fd(nvme->image) < 0)
		return;
	for (unsigned i = 0; i < VD_IMAGE_DEPTH; i++)
		turns[i] = atomic_load_explicit(&nvme->requests[i].turns, memory_order_acquire);
	for (unsigned round = 0; round < UNPIN_ROUNDS; round++) {
		vd_image_reap(nvme->image);
		for (; waiting < VD_IMAGE_DEPTH; waiting++) {
			if (turns[waiting] % 2 &&
			    atomic_load_explicit(&nvme->requests[waiting].turns,
						 memory_order_acquire) == turns[waiting])
				break;
		}
		if (waiting == VD_IMAGE_DEPTH)
			break;
		vd_image_wait(nvme->image, UNPIN_ROUND_MS);
	}
	if (atomic_load_explicit(&nvme->finished, memory_order_relaxed))
		wake(nvme);
}

/* ---- set-up ------------------------------------------------------------------------------ */

static int watch(struct nvme_controller *nvme, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return fd >= 0 && epoll_ctl(nvme->poll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct nvme_controller *nvme)
{
	int rc = vd_env_inject(nvme->env, "nvme.descriptors");

	if (rc)
		return rc;
	nvme->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (nvme->wake < 0)
		return -errno;
	nvme->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (nvme->poll_fd < 0)
		rc = -errno;
	if (!rc)
		rc = watch(nvme, nvme->wake);
	if (!rc)
		rc = watch(nvme, vd_image_fd(nvme->image));
	if (!rc)
		return 0;
	close(nvme->wake);
	if (nvme->poll_fd >= 0)
		close(nvme->poll_fd);
	return rc;
}

int nvme_io_init(struct nvme_controller *nvme)
{
	int rc;

	nvme->requests = vd_env_allocate(nvme->env, "nvme.requests",
					 VD_IMAGE_DEPTH * sizeof(*nvme->requests),
					 _Alignof(struct nvme_request));
	if (!nvme->requests)
		return -ENOMEM;
	rc = open_descriptors(nvme);
	if (rc) {
		nvme->env->release(nvme->env, nvme->requests,
				   VD_IMAGE_DEPTH * sizeof(*nvme->requests));
		return rc;
	}
	for (unsigned i = 0; i < VD_IMAGE_DEPTH; i++) {
		nvme->requests[i].nvme = nvme;
		give_back(nvme, &nvme->requests[i]);
	}
	nvme->owner.unpin_request = nvme_io_unpin_request;
	return 0;
}

void nvme_io_fini(struct nvme_controller *nvme)
{
	close(nvme->poll_fd);
	close(nvme->wake);
	nvme->env->release(nvme->env, nvme->requests, VD_IMAGE_DEPTH * sizeof(*nvme->requests));
}
