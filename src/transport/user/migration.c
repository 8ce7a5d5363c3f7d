/* SPDX-License-Identifier: BSD-2-Clause */
/* Features of the device, and its state as a stream. */
#include <string.h>

#include "transport/user/server.h"

#define FEATURE_METHODS (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET)
#define FEATURE_FLAGS (FEATURE_METHODS | VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_MASK)

static const struct logging {
	uint32_t method;
	int (*handle)(struct connection *c, const struct user_message *message,
		      struct reply *reply);
} loggings[] = {
	{VFIO_DEVICE_FEATURE_SET, logging_start},
	{VFIO_DEVICE_FEATURE_SET, logging_stop},
	{VFIO_DEVICE_FEATURE_GET, logging_report},
};

/* "If GET and/or SET are also set, the probe will only return success if all are supported." */
static int probe(struct connection *c, const struct user_message *message, struct reply *reply)
{
	void *payload = reply_room(c, reply, message->length);

	if (!payload)
		return -ENOMEM;
	memcpy(payload, message->payload, message->length);
	return 0;
}

static int handle_logging(struct connection *c, struct user_message *message, uint32_t flags,
			  struct reply *reply)
{
	const struct logging *logging = &loggings[(flags & VFIO_DEVICE_FEATURE_MASK) -
						  VFIO_DEVICE_FEATURE_DMA_LOGGING_START];

	if (flags & FEATURE_METHODS & ~logging->method)
		return -ENOTTY;
	return flags & VFIO_DEVICE_FEATURE_PROBE ? probe(c, message, reply)
						 : logging->handle(c, message, reply);
}

/*
 * Whether a device that goes to this state finishes what is under way. The client may answer
 * nothing meanwhile, so what is still to be written is sent, and no answer is waited for.
 */
static bool stops_device(uint32_t flags, const unsigned char *data, size_t length)
{
	struct user_device_state wanted;

	if (!(flags & VFIO_DEVICE_FEATURE_SET) || flags & VFIO_DEVICE_FEATURE_PROBE ||
	    (flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE ||
	    length < sizeof(wanted))
		return false;
	memcpy(&wanted, data, sizeof(wanted));
	return wanted.state != VD_MIGRATION_RUNNING && wanted.state != VD_MIGRATION_PRE_COPY;
}

static int ask_device(struct connection *c, uint32_t flags, const struct user_message *message,
		      unsigned char *out, size_t *room)
{
	const unsigned char *data = message->payload + sizeof(struct user_feature);
	size_t length = message->length - sizeof(struct user_feature);
	bool stops = stops_device(flags, data, length);
	int r;

	if (stops)
		dma_set_mode(c, DMA_POSTED, UINT64_MAX, 0);
	r = vd_device_feature(c->served->device, flags, data, length, out, room);
	if (stops) {
		dma_set_mode(c, DMA_WAITED, 0, UINT64_MAX);
		dma_settle(c);
	}
	return r;
}

/* "The reply payload must be the same as the request payload for setting or probing a feature." */
static int handle_device(struct connection *c, struct user_message *message,
			 struct user_feature *feature, struct reply *reply)
{
	unsigned char out[64], *payload;
	size_t used = feature->argsz - sizeof(*feature);
	int r;

	used = used < sizeof(out) ? used : sizeof(out);
	r = ask_device(c, feature->flags, message, out, &used);
	if (r)
		return r;
	if (feature->flags & (VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET))
		return probe(c, message, reply);
	payload = reply_room(c, reply, sizeof(*feature) + used);
	if (!payload)
		return -ENOMEM;
	feature->argsz = (uint32_t)(sizeof(*feature) + used);
	memcpy(payload, feature, sizeof(*feature));
	memcpy(payload + sizeof(*feature), out, used);
	return 0;
}

int handle_feature(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_feature feature;
	uint32_t methods, index;

	memcpy(&feature, message->payload, sizeof(feature));
	methods = feature.flags & FEATURE_METHODS;
	index = feature.flags & VFIO_DEVICE_FEATURE_MASK;
	if (feature.argsz < sizeof(feature) || feature.flags & ~FEATURE_FLAGS)
		return -EINVAL;
	if (!(feature.flags & VFIO_DEVICE_FEATURE_PROBE) &&
	    (!methods || methods == FEATURE_METHODS))
		return -EINVAL;
	if (index >= VFIO_DEVICE_FEATURE_DMA_LOGGING_START &&
	    index <= VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		return handle_logging(c, message, feature.flags, reply);
	return handle_device(c, message, &feature, reply);
}

/* ---- the state as a stream ------------------------------------------------------------------ */

int handle_migration_read(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_migration_data data;
	unsigned char *payload;
	ssize_t n;

	memcpy(&data, message->payload, sizeof(data));
	/* A reply with less than was asked for would say that there is no more. */
	if (data.size > c->transfer_max || data.argsz < sizeof(data) ||
	    data.argsz - sizeof(data) < data.size)
		return -EINVAL;
	payload = reply_room(c, reply, sizeof(data) + data.size);
	if (!payload)
		return -ENOMEM;
	n = vd_device_migration_read(c->served->device, payload + sizeof(data), data.size);
	if (n == -ENOMSG)
		n = 0; /* while it runs: no more for now */
	if (n < 0)
		return (int)n;
	data.size = (uint32_t)n;
	data.argsz = (uint32_t)(sizeof(data) + data.size);
	memcpy(payload, &data, sizeof(data));
	reply->length = data.argsz;
	return 0;
}

int handle_migration_write(struct connection *c, struct user_message *message,
			   struct reply *reply)
{
	struct user_migration_data data;
	ssize_t n;

	(void)reply;
	memcpy(&data, message->payload, sizeof(data));
	if (data.size != message->length - sizeof(data))
		return -EINVAL;
	n = vd_device_migration_write(c->served->device, message->payload + sizeof(data),
				      data.size);
	return n < 0 ? (int)n : 0;
}

void migration_leave(struct served *served)
{
	struct vd_device *device = served->device;

	if (vd_device_migration_state(device) == VD_MIGRATION_RUNNING)
		return;
	/* What was half loaded cannot go on. */
	if (vd_device_migration_set(device, VD_MIGRATION_RUNNING, NULL))
		(void)vd_device_reset(device, VD_RESET_FUNCTION);
}
