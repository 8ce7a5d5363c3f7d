/* SPDX-License-Identifier: BSD-2-Clause */
/* Log pages and asynchronous events: NVMe 1.4, sections 5.2 and 5.14. */
#include <string.h>

#include "device/nvme/nvme.h"

#define LOG_BYTES_MAX 4096u
#define HEALTH_BYTES 512u
#define FIRMWARE_BYTES 512u

/* ---- errors ------------------------------------------------------------------------------ */

uint16_t nvme_log_error(struct nvme_controller *nvme, uint16_t sqid, uint16_t cid, uint16_t status,
			uint32_t nsid, uint64_t lba)
{
	status |= NVME_MORE;
	nvme->counters.errors++;
	/* Newest first (5.14.1.1). */
	memmove(&nvme->errors[1], &nvme->errors[0],
		sizeof(nvme->errors) - sizeof(nvme->errors[0]));
	nvme->errors[0] = (struct nvme_error_entry){
		.count = nvme->counters.errors,
		.sq_id = sqid,
		.cid = cid,
		.status = (uint16_t)(status << 1),
		.parameter = 0xffff, /* not specific to a parameter */
		.lba = lba,
		.nsid = nsid,
	};
	return status;
}

/* ---- pages ------------------------------------------------------------------------------- */

static void put64(uint8_t *data, unsigned offset, uint64_t value)
{
	memcpy(data + offset, &value, sizeof(value));
}

/* Figure 196. */
static void health_page(const struct nvme_controller *nvme, uint8_t *data)
{
	const struct nvme_counters *counters = &nvme->counters;
	uint16_t temperature = NVME_TEMPERATURE;

	data[0] = nvme_too_hot(nvme) ? 1u << 1 : 0; /* critical warning */
	memcpy(data + 1, &temperature, sizeof(temperature));
	data[3] = 100;	/* available spare, percent */
	data[4] = 10;	/* its threshold */
	/* Data units are thousands of 512 bytes, rounded up. */
	put64(data, 32, (counters->sectors_read + 999) / 1000);
	put64(data, 48, (counters->sectors_written + 999) / 1000);
	put64(data, 64, counters->reads);
	put64(data, 80, counters->writes);
	put64(data, 160, counters->media_errors);
	put64(data, 176, counters->errors);
}

/* Figure 200: one slot, active. */
static void firmware_page(uint8_t *data)
{
	data[0] = 1;
	memset(data + 8, ' ', 8);
	memcpy(data + 8, VD_VERSION, sizeof(VD_VERSION) - 1);
}

/* Return: bytes of the page, 0 if there is none. */
static uint32_t fill_page(const struct nvme_controller *nvme, uint32_t page, uint8_t *data)
{
	switch (page) {
	case NVME_LOG_ERROR:
		memcpy(data, nvme->errors, sizeof(nvme->errors));
		return sizeof(nvme->errors);
	case NVME_LOG_HEALTH:
		health_page(nvme, data);
		return HEALTH_BYTES;
	case NVME_LOG_FIRMWARE:
		firmware_page(data);
		return FIRMWARE_BYTES;
	case NVME_LOG_CHANGED_NAMESPACES:
		/* The one namespace never changes. */
		return LOG_BYTES_MAX;
	default:
		return 0;
	}
}

/* Reading a page lets events that point to it be reported again (5.2). */
static void unmask(struct nvme_controller *nvme, uint32_t page)
{
	for (unsigned type = 0; type < NVME_EVENT_TYPES; type++) {
		if (nvme->events[type].masked && nvme->events[type].log == page)
			nvme->events[type].masked = false;
	}
}

uint16_t nvme_get_log_page(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint8_t data[LOG_BYTES_MAX] = {0};
	uint32_t page = command->cdw10 & 0xff, size = fill_page(nvme, page, data);
	uint64_t length = ((uint64_t)(command->cdw11 & 0xffff) << 16 | command->cdw10 >> 16) + 1;
	uint64_t offset = command->cdw12 | (uint64_t)command->cdw13 << 32;
	uint16_t status;

	length *= sizeof(uint32_t);
	if (size == 0)
		return NVME_INVALID_LOG_PAGE;
	if (offset % sizeof(uint32_t) != 0 || offset >= size)
		return NVME_INVALID_FIELD;
	if (command->nsid > NVME_NSID && command->nsid != NVME_NSID_ALL)
		return NVME_INVALID_NAMESPACE;
	/* What lies beyond the end of the page is undefined: it stays as it is. */
	if (length > size - offset)
		length = size - offset;
	status = nvme_prp_copy(nvme, command, data + offset, (uint32_t)length, true);
	if (!status && !(command->cdw10 >> 15 & 1))
		unmask(nvme, page);
	return status;
}

/* ---- asynchronous events ----------------------------------------------------------------- */

uint16_t nvme_async_event(struct nvme_controller *nvme, const struct nvme_command *command)
{
	if (nvme->async_event_count == NVME_EVENTS_MAX)
		return NVME_AER_LIMIT_EXCEEDED;
	nvme->async_event_cids[nvme->async_event_count++] = command->cid;
	/* It may wait for ever: it must not keep a completion entry from others. */
	nvme->cqs[0].reserved--;
	nvme_events_deliver(nvme);
	return NVME_PENDING;
}

void nvme_events_deliver(struct nvme_controller *nvme)
{
	for (unsigned type = 0; type < NVME_EVENT_TYPES; type++) {
		struct nvme_event *event = &nvme->events[type];
		uint32_t result = type | (uint32_t)event->info << 8 | (uint32_t)event->log << 16;

		if (!event->pending || event->masked || nvme->async_event_count == 0)
			continue;
		if (!nvme_ready(nvme) || nvme->quiesced || !nvme->bus_master ||
		    !nvme_reserve(nvme, &nvme->cqs[0]))
			return;
		event->pending = false;
		event->masked = true;
		nvme_complete(nvme, 0, nvme->async_event_cids[--nvme->async_event_count],
			      NVME_SUCCESS, result);
	}
}

void nvme_event_raise(struct nvme_controller *nvme, enum nvme_event_type type, uint8_t info,
		      uint8_t log)
{
	struct nvme_event *event = &nvme->events[type];

	/* One of a type is kept; the log page tells the rest. */
	if (event->pending)
		return;
	event->pending = true;
	event->info = info;
	event->log = log;
}

bool nvme_event_abort(struct nvme_controller *nvme, uint16_t cid)
{
	for (uint32_t i = 0; i < nvme->async_event_count; i++) {
		if (nvme->async_event_cids[i] != cid)
			continue;
		/* The entry for the abort itself is reserved already; this is one more. */
		if (!nvme_reserve(nvme, &nvme->cqs[0]))
			return false;
		nvme->async_event_cids[i] = nvme->async_event_cids[--nvme->async_event_count];
		nvme_complete(nvme, 0, cid, NVME_ABORT_REQUESTED, 0);
		return true;
	}
	return false;
}
