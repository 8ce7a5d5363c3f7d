/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands: which there are, what they need at least, and their replies. */
#include <string.h>
#include <unistd.h>

#include "transport/user/server.h"

#define COMMAND_NESTS 1u /* may be handled while an operation waits for a DMA reply */
#define COMMAND_FDS 2u	 /* takes descriptors */

static const struct command {
	command_handler handle;
	uint32_t length; /* of the payload, at least */
	unsigned flags;
} commands[USER_COMMANDS] = {
	[USER_VERSION] = {handle_version, sizeof(struct user_version), 0},
	[USER_DMA_MAP] = {handle_dma_map, sizeof(struct user_dma_map),
			  COMMAND_NESTS | COMMAND_FDS},
	[USER_DMA_UNMAP] = {handle_dma_unmap, sizeof(struct user_dma_unmap), 0},
	[USER_GET_INFO] = {handle_info, sizeof(struct user_device_info), COMMAND_NESTS},
	[USER_GET_REGION_INFO] = {handle_region_info, sizeof(struct user_region_info),
				  COMMAND_NESTS},
	[USER_GET_REGION_IO_FDS] = {handle_region_io_fds, sizeof(struct user_io_fds),
				    COMMAND_NESTS},
	[USER_GET_IRQ_INFO] = {handle_irq_info, sizeof(struct user_irq_info), COMMAND_NESTS},
	[USER_SET_IRQS] = {handle_set_irqs, sizeof(struct user_irq_set),
			   COMMAND_NESTS | COMMAND_FDS},
	[USER_REGION_READ] = {handle_region_read, sizeof(struct user_region_access),
			      COMMAND_NESTS},
	[USER_REGION_WRITE] = {handle_region_write, sizeof(struct user_region_access),
			       COMMAND_NESTS},
	[USER_WRITE_MULTI] = {handle_write_multi, sizeof(struct user_write_multi), COMMAND_NESTS},
	[USER_RESET] = {handle_reset, 0, 0},
	[USER_FEATURE] = {handle_feature, sizeof(struct user_feature), 0},
	[USER_MIGRATION_READ] = {handle_migration_read, sizeof(struct user_migration_data), 0},
	[USER_MIGRATION_WRITE] = {handle_migration_write, sizeof(struct user_migration_data), 0},
};

static const struct command *command_of(const struct user_message *message)
{
	unsigned number = message->header.command;

	return number < USER_COMMANDS && commands[number].handle ? &commands[number] : NULL;
}

bool command_nests(const struct user_message *message)
{
	const struct command *command = command_of(message);

	/* One that is unknown is answered at once. */
	return !command || command->flags & COMMAND_NESTS;
}

/* ---- replies -------------------------------------------------------------------------------- */

void *reply_room(struct connection *c, struct reply *reply, size_t length)
{
	const struct vd_env *env = c->export->server->env;

	if (length <= sizeof(reply->bytes)) {
		memset(reply->bytes, 0, length);
		reply->payload = reply->bytes;
	} else {
		reply->payload = vd_env_allocate(env, "user.reply", length, 8);
		if (!reply->payload)
			return NULL;
		reply->allocated = length;
	}
	reply->length = length;
	return reply->payload;
}

static void reply_fini(struct connection *c, struct reply *reply)
{
	const struct vd_env *env = c->export->server->env;

	if (reply->allocated)
		env->release(env, reply->payload, reply->allocated);
	if (reply->own_fd >= 0)
		close(reply->own_fd);
}

static void send_reply(struct connection *c, const struct user_header *to, struct reply *reply,
		       int result)
{
	struct user_header header = {
		.id = to->id,
		.command = to->command,
		.flags = USER_TYPE_REPLY | (result ? USER_ERROR : 0),
		.error = (uint32_t)-result,
	};
	struct iovec part = {reply->payload, reply->length};
	unsigned count = !result && reply->length;

	turn_lock(c->served);
	if (!c->gone && user_send(&c->main, &header, &part, count, reply->fds,
				  result ? 0 : reply->fd_count))
		connection_cut(c);
	turn_unlock(c->served);
}

/* ---- handling ------------------------------------------------------------------------------- */

static int handle(struct connection *c, struct user_message *message, struct reply *reply)
{
	const struct command *command = command_of(message);

	if ((message->header.flags & USER_TYPE_MASK) != USER_TYPE_COMMAND)
		return -EINVAL;
	if (c->ready == (message->header.command == USER_VERSION)) {
		/* Whoever says something else first is no client of ours. */
		c->closing = !c->ready;
		return -EINVAL;
	}
	if (!command)
		return -ENOTSUP;
	if (message->length < command->length)
		return -EINVAL;
	/* With some of them missing, it would not do what was meant. */
	if (message->fds_lost && command->flags & COMMAND_FDS)
		return -EMFILE;
	return command->handle(c, message, reply);
}

void command_handle(struct connection *c, struct user_message *message)
{
	struct vd_user_server *server = c->export->server;
	struct reply reply;
	int r;

	reply.payload = NULL;
	reply.length = reply.allocated = 0;
	reply.fd_count = 0;
	reply.own_fd = -1;
	r = handle(c, message, &reply);
	server_count(&server->messages);
	if (r)
		server_count(&server->errors);
	user_message_close(message);
	if (!(message->header.flags & USER_NO_REPLY))
		send_reply(c, &message->header, &reply, r);
	reply_fini(c, &reply);
}
