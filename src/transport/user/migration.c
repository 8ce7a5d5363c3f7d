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
	return -ENOTTY;
}

int handle_migration_read(struct connection *c, struct user_message *message, struct reply *reply)
{
	(void)c;
	(void)message;
	(void)reply;
	return -ENOTTY;
}

int handle_migration_write(struct connection *c, struct user_message *message,
			   struct reply *reply)
{
	(void)c;
	(void)message;
	(void)reply;
	return -ENOTTY;
}
