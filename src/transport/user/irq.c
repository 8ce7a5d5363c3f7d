/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: the descriptors by which they reach the client. */
#include <fcntl.h>
#include <string.h>

#include "transport/user/server.h"

int handle_irq_info(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct user_irq_info wire;
	struct vd_irq_info info;
	int r;

	memcpy(&wire, message->payload, sizeof(wire));
	if (wire.argsz < sizeof(wire))
		return -EINVAL;
	r = vd_device_irq_info(c->served->device, wire.index, &info);
	if (r)
		return r;
	wire = (struct user_irq_info){sizeof(wire), info.flags, wire.index, info.count};
	memcpy(reply_room(c, reply, sizeof(wire)), &wire, sizeof(wire));
	return 0;
}

/*
 * A client could fill an eventfd to the brim and stop who signals it: the device, and all that wait
 * for its lock.
 */
static void never_block(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int flags = fcntl(fds[i], F_GETFL);

		if (flags >= 0 && !(flags & O_NONBLOCK))
			(void)fcntl(fds[i], F_SETFL, flags | O_NONBLOCK);
	}
}

int handle_set_irqs(struct connection *c, struct user_message *message, struct reply *reply)
{
	const unsigned char *data = message->payload + sizeof(struct user_irq_set);
	size_t length = message->length - sizeof(struct user_irq_set);
	struct user_irq_set set;

	(void)reply;
	memcpy(&set, message->payload, sizeof(set));
	if (set.argsz < sizeof(set) || set.argsz > message->length)
		return -EINVAL;
	if (set.flags & VFIO_IRQ_SET_DATA_BOOL && length < set.count)
		return -EINVAL;
	/* None at all takes what was set away. */
	if (message->fd_count && (!(set.flags & VFIO_IRQ_SET_DATA_EVENTFD) ||
				  message->fd_count != set.count))
		return -EINVAL;
	never_block(message->fds, message->fd_count);
	return vd_device_set_irqs(c->served->device, set.flags, set.index, set.start, set.count,
				  data, message->fd_count ? message->fds : NULL);
}
