/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages the device has stored to, for a client that migrates it ("DMA_LOGGING_*"). */
#include <string.h>

#include "transport/user/server.h"

size_t logging_bytes(const struct connection *c, uint64_t length, uint64_t page_size)
{
	uint64_t pages, bytes;

	if (!length || !page_size || page_size & (page_size - 1))
		return 0;
	pages = (length - 1) / page_size + 1;
	bytes = (pages / 64 + (pages % 64 != 0)) * 8;
	return bytes <= c->transfer_max ? bytes : 0;
}

/* The reply to all but reports: the request as it was. */
static int repeat(struct connection *c, const struct user_message *message, struct reply *reply)
{
	void *payload = reply_room(c, reply, message->length);

	if (!payload)
		return -ENOMEM;
	memcpy(payload, message->payload, message->length);
	return 0;
}

int logging_start(struct connection *c, const struct user_message *message, struct reply *reply)
{
	const struct vd_env *env = c->export->server->env;
	const unsigned char *at = message->payload + sizeof(struct user_feature);
	size_t length = message->length - sizeof(struct user_feature), room;
	struct vd_dma_range *ranges;
	struct user_logging logging;
	int r;

	if (length < sizeof(logging))
		return -EINVAL;
	memcpy(&logging, at, sizeof(logging));
	at += sizeof(logging);
	length -= sizeof(logging);
	/* The message's own length bounds the count. */
	if (logging.reserved || length % sizeof(struct user_logging_range) ||
	    length / sizeof(struct user_logging_range) != logging.count)
		return -EINVAL;
	room = (logging.count + 1) * sizeof(*ranges);
	ranges = vd_env_allocate(env, "user.ranges", room, _Alignof(struct vd_dma_range));
	if (!ranges)
		return -ENOMEM;
	for (uint32_t i = 0; i < logging.count; i++, at += sizeof(struct user_logging_range)) {
		struct user_logging_range range;

		memcpy(&range, at, sizeof(range));
		ranges[i] = (struct vd_dma_range){{range.iova}, range.length};
	}
	r = repeat(c, message, reply);
	if (!r)
		r = vd_dma_dirty_start(c->served->space, ranges, logging.count, logging.page_size);
	env->release(env, ranges, room);
	return r;
}

int logging_stop(struct connection *c, const struct user_message *message, struct reply *reply)
{
	int r = repeat(c, message, reply);

	return r ? r : vd_dma_dirty_stop(c->served->space);
}

int logging_report(struct connection *c, const struct user_message *message, struct reply *reply)
{
	const size_t head = sizeof(struct user_feature) + sizeof(struct user_logging_report);
	struct user_logging_report report;
	struct user_feature feature;
	unsigned char *payload;
	size_t bytes;

	if (message->length < head)
		return -EINVAL;
	memcpy(&feature, message->payload, sizeof(feature));
	memcpy(&report, message->payload + sizeof(feature), sizeof(report));
	bytes = logging_bytes(c, report.length, report.page_size);
	if (!bytes || feature.argsz < head + bytes)
		return -EINVAL;
	payload = reply_room(c, reply, head + bytes);
	if (!payload)
		return -ENOMEM;
	feature.argsz = (uint32_t)(head + bytes);
	memcpy(payload, &feature, sizeof(feature));
	memcpy(payload + sizeof(feature), &report, sizeof(report));
	return vd_dma_dirty_report(c->served->space, (vd_iova){report.iova}, report.length,
				   report.page_size, payload + head, bytes);
}
