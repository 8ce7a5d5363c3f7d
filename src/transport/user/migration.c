/* SPDX-License-Identifier: BSD-2-Clause */
/* Features of the device, and its state as a stream. */
#include <string.h>

#include "transport/user/server.h"

int handle_feature(struct connection *c, struct user_message *message, struct reply *reply)
{
	(void)c;
	(void)message;
	(void)reply;
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
