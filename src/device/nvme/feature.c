/* SPDX-License-Identifier: BSD-2-Clause */
/* Features: NVMe 1.4, sections 5.13 and 5.21. Current values only: none is saveable. */
#include <string.h>

#include "device/nvme/nvme.h"

#define SELECT(cdw10) ((cdw10) >> 8 & 7)
#define SAVE (1u << 31)
#define THRESHOLD_SENSOR(cdw11) ((cdw11) >> 16 & 15)
#define THRESHOLD_KIND(cdw11) ((cdw11) >> 20 & 3)
#define THRESHOLD_ALL_SENSORS 15u

void nvme_features_reset(struct nvme_controller *nvme)
{
	memset(nvme->features, 0, sizeof(nvme->features));
	for (unsigned vector = 0; vector <= nvme->queue_limit; vector++)
		nvme->vector_features[vector] = vector;
	nvme->features[NVME_FEATURE_WRITE_CACHE] = 1;
	nvme->temperature_over = 343;
	nvme->temperature_under = 0;
	nvme->queues_granted = nvme->queue_limit;
}

bool nvme_too_hot(const struct nvme_controller *nvme)
{
	return NVME_TEMPERATURE >= nvme->temperature_over ||
	       NVME_TEMPERATURE <= nvme->temperature_under;
}

/* 5.21.1.4: only the composite temperature exists, and it never changes. */
static uint16_t set_temperature(struct nvme_controller *nvme, uint32_t value)
{
	unsigned sensor = THRESHOLD_SENSOR(value);

	if ((sensor != 0 && sensor != THRESHOLD_ALL_SENSORS) || THRESHOLD_KIND(value) > 1)
		return NVME_INVALID_FIELD;
	if (THRESHOLD_KIND(value) == 0)
		nvme->temperature_over = (uint16_t)value;
	else
		nvme->temperature_under = (uint16_t)value;
	/* Bit 1 of the configuration asks for events of this kind (5.21.1.11). */
	if (nvme_too_hot(nvme) && (nvme->features[NVME_FEATURE_ASYNC_EVENTS] & 2))
		nvme_event_raise(nvme, NVME_EVENT_HEALTH, NVME_EVENT_TEMPERATURE, NVME_LOG_HEALTH);
	return NVME_SUCCESS;
}

static uint16_t get_temperature(const struct nvme_controller *nvme, uint32_t which,
				uint32_t *result)
{
	if (THRESHOLD_SENSOR(which) != 0 || THRESHOLD_KIND(which) > 1)
		return NVME_INVALID_FIELD;
	*result = THRESHOLD_KIND(which) == 0 ? nvme->temperature_over : nvme->temperature_under;
	return NVME_SUCCESS;
}

/* 5.21.1.7: once, before any I/O queue exists; both numbers are zero-based. */
static uint16_t set_queues(struct nvme_controller *nvme, uint32_t value, uint32_t *result)
{
	uint32_t submission = value & 0xffff, completion = value >> 16, wanted;

	for (unsigned id = 1; id <= nvme->queue_limit; id++) {
		if (nvme->sqs[id].valid || nvme->cqs[id].valid)
			return NVME_COMMAND_SEQUENCE_ERROR;
	}
	if (submission == 0xffff || completion == 0xffff)
		return NVME_INVALID_FIELD;
	wanted = (submission > completion ? submission : completion) + 1;
	nvme->queues_granted = wanted < nvme->queue_limit ? wanted : nvme->queue_limit;
	*result = (nvme->queues_granted - 1) << 16 | (nvme->queues_granted - 1);
	return NVME_SUCCESS;
}

static uint16_t set_vector(struct nvme_controller *nvme, uint32_t value)
{
	uint32_t vector = value & 0xffff;

	if (vector > nvme->queue_limit)
		return NVME_INVALID_FIELD;
	nvme->vector_features[vector] = value & 0x1ffff;
	return NVME_SUCCESS;
}

uint16_t nvme_set_features(struct nvme_controller *nvme, const struct nvme_command *command,
			   uint32_t *result)
{
	uint32_t id = command->cdw10 & 0xff, value = command->cdw11;

	if (command->cdw10 & SAVE)
		return NVME_FEATURE_NOT_SAVEABLE;
	switch (id) {
	case NVME_FEATURE_TEMPERATURE:
		return set_temperature(nvme, value);
	case NVME_FEATURE_QUEUES:
		return set_queues(nvme, value, result);
	case NVME_FEATURE_VECTOR:
		return set_vector(nvme, value);
	case NVME_FEATURE_POWER:
		/* There is one power state. */
		if (value & 0x1f)
			return NVME_INVALID_FIELD;
		break;
	case NVME_FEATURE_WRITE_CACHE:
		value &= 1;
		break;
	case NVME_FEATURE_ARBITRATION:
	case NVME_FEATURE_ERROR_RECOVERY:
	case NVME_FEATURE_COALESCING:
	case NVME_FEATURE_ATOMICITY:
	case NVME_FEATURE_ASYNC_EVENTS:
		break;
	default:
		return NVME_INVALID_FIELD;
	}
	nvme->features[id] = value;
	return NVME_SUCCESS;
}

uint16_t nvme_get_features(struct nvme_controller *nvme, const struct nvme_command *command,
			   uint32_t *result)
{
	uint32_t id = command->cdw10 & 0xff, vector = command->cdw11 & 0xffff;

	/* Defaults and capabilities are not offered (ONCS bit 4). */
	if (SELECT(command->cdw10) != 0)
		return NVME_INVALID_FIELD;
	switch (id) {
	case NVME_FEATURE_TEMPERATURE:
		return get_temperature(nvme, command->cdw11, result);
	case NVME_FEATURE_QUEUES:
		*result = (nvme->queues_granted - 1) << 16 | (nvme->queues_granted - 1);
		return NVME_SUCCESS;
	case NVME_FEATURE_VECTOR:
		if (vector > nvme->queue_limit)
			return NVME_INVALID_FIELD;
		*result = nvme->vector_features[vector];
		return NVME_SUCCESS;
	case NVME_FEATURE_ARBITRATION:
	case NVME_FEATURE_POWER:
	case NVME_FEATURE_ERROR_RECOVERY:
	case NVME_FEATURE_WRITE_CACHE:
	case NVME_FEATURE_COALESCING:
	case NVME_FEATURE_ATOMICITY:
	case NVME_FEATURE_ASYNC_EVENTS:
		*result = nvme->features[id];
		return NVME_SUCCESS;
	default:
		return NVME_INVALID_FIELD;
	}
}
