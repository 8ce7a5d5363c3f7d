/* SPDX-License-Identifier: BSD-2-Clause */
/* Accesses to regions, and reset. */
#include <string.h>

#include "transport/user/server.h"

int handle_region_read(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_region_access access;
	unsigned char *payload;

	memcpy(&access, message->payload, sizeof(access));
	if (access.count > c->transfer_max || message->length != sizeof(access))
		return -EINVAL;
	payload = reply_room(c, reply, sizeof(access) + access.count);
	if (!payload)
		return -ENOMEM;
	memcpy(payload, &access, sizeof(access));
	return vd_device_read(c->served->device, access.region, (vd_region_offset){access.offset},
			      payload + sizeof(access), access.count);
}

int handle_region_write(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_region_access access;
	void *payload;

	memcpy(&access, message->payload, sizeof(access));
	if (access.count > c->transfer_max || message->length - sizeof(access) != access.count)
		return -EINVAL;
	payload = reply_room(c, reply, sizeof(access));
	memcpy(payload, &access, sizeof(access));
	return vd_device_write(c->served->device, access.region, (vd_region_offset){access.offset},
			       message->payload + sizeof(access), access.count);
}

/* Up to the first that fails: how many were done is all that can be said. */
int handle_write_multi(struct connection *c, struct user_message *message, struct reply *reply)
{
	const unsigned char *at = message->payload + sizeof(struct user_write_multi);
	struct user_write_multi multi, done = {0};
	int r = 0;

	if (!c->write_multiple)
		return -ENOTSUP;
	memcpy(&multi, message->payload, sizeof(multi));
	if (multi.count > message->length / sizeof(struct user_write) ||
	    message->length - sizeof(multi) != multi.count * sizeof(struct user_write))
		return -EINVAL;
	for (; done.count < multi.count && !r; at += sizeof(struct user_write)) {
		struct user_write write;

		memcpy(&write, at, sizeof(write));
		r = write.count > sizeof(write.data) ? -EINVAL
			: vd_device_write(c->served->device, write.region,
					  (vd_region_offset){write.offset}, write.data,
					  write.count);
		done.count += !r;
	}
	if (r && !done.count)
		return r;
	memcpy(reply_room(c, reply, sizeof(done)), &done, sizeof(done));
	return 0;
}

/* What is under way ends with it: the client does not answer before it has its reply. */
int handle_reset(struct connection *c, struct user_message *message, struct reply *reply)
{
	int r;

	(void)message;
	(void)reply;
	dma_set_mode(c, DMA_REFUSED, 0, UINT64_MAX);
	r = vd_device_reset(c->served->device, VD_RESET_FUNCTION);
	dma_set_mode(c, DMA_WAITED, 0, UINT64_MAX);
	return r;
}
