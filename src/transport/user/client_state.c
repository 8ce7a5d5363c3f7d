/* SPDX-License-Identifier: BSD-2-Clause */
/* Reset, and the states of migration (linux/vfio.h, enum vfio_device_mig_state), by messages. */
#include <string.h>

#include "transport/user/client.h"

/* Of a saved state: a server that has more to say has gone mad. */
#define STATE_MAX (1u << 30)
#define CHUNK (64u << 10)

/* ---- features ------------------------------------------------------------------------------- */

static int feature(struct user_client *client, uint32_t flags, void *data, size_t size)
{
	struct user_feature head = {.argsz = (uint32_t)(sizeof(head) + size), .flags = flags};
	bool set = flags & VFIO_DEVICE_FEATURE_SET;
	struct client_request request = {
		.command = USER_FEATURE,
		.parts = {{&head, sizeof(head)}, {data, set ? size : 0}},
		.part_count = set ? 2 : 1,
	};
	unsigned char reply[sizeof(head) + sizeof(struct user_device_state)];
	struct client_call call = {.reply = reply, .room = sizeof(reply)};
	int r = user_client_send(client, &call, &request);

	if (!r)
		r = user_client_wait(client, &call, CLIENT_SLOW);
	user_client_close_call(&call);
	if (r)
		return r;
	/* To SET some reply with the data, some without. */
	if (call.length != sizeof(head) + size && !(set && call.length == sizeof(head))) {
		user_client_fail(client, -EPROTO, "answered for a feature with %zu bytes",
				 call.length);
		return -EIO;
	}
	if (!set)
		memcpy(data, reply + sizeof(head), size);
	return 0;
}

static int set_state(struct user_client *client, uint32_t state)
{
	struct user_device_state data = {.state = state, .data_fd = UINT32_MAX};

	return feature(client, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
		       &data, sizeof(data));
}

int user_client_migration(struct user_client *client)
{
	struct user_migration data = {.flags = 0};
	int r = feature(client, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &data,
			sizeof(data));

	if (client->dead)
		return -EIO;
	client->info.migration = r ? 0 : data.flags & (VFIO_MIGRATION_STOP_COPY |
						       VFIO_MIGRATION_P2P |
						       VFIO_MIGRATION_PRE_COPY);
	return 0;
}

int user_client_reset(struct user_client *client)
{
	struct client_request request = {.command = USER_RESET};

	if (!client->info.resettable)
		return -EOPNOTSUPP;
	return user_client_ask(client, &request, NULL, 0, CLIENT_SLOW);
}

/* ---- quiesce, save, load: device's lock held ------------------------------------------------ */

static bool can_stop(const struct user_client *client)
{
	return client->info.migration & VFIO_MIGRATION_STOP_COPY;
}

int user_client_quiesce(void *context)
{
	struct user_client *client = context;
	int r;

	/* A device that is not there any more does nothing. */
	if (user_client_dead(client))
		return 0;
	if (!can_stop(client))
		return -EOPNOTSUPP;
	r = set_state(client, VFIO_DEVICE_STATE_STOP);
	client->quiesced = !r;
	/* What came before is the guest's: nobody saves a descriptor that is readable. */
	if (!r)
		user_client_irqs_take(client);
	return r;
}

void user_client_resume(void *context)
{
	struct user_client *client = context;

	if (client->quiesced && set_state(client, VFIO_DEVICE_STATE_RUNNING))
		user_client_fail(client, -EIO, "does not let the device go on");
	client->quiesced = false;
}

/* Return: bytes, 0 at the end; -errno */
static int64_t read_state(struct user_client *client, unsigned char *buffer)
{
	struct user_migration_data head = {.argsz = sizeof(head) + CHUNK, .size = CHUNK}, got;
	struct client_request request = {
		.command = USER_MIGRATION_READ, .parts = {{&head, sizeof(head)}}, .part_count = 1,
	};
	struct client_call call = {.reply = buffer, .room = sizeof(head) + CHUNK};
	int r = user_client_send(client, &call, &request);

	if (!r)
		r = user_client_wait(client, &call, CLIENT_SLOW);
	user_client_close_call(&call);
	if (r)
		return r;
	memcpy(&got, buffer, sizeof(got));
	if (call.length < sizeof(got) || call.length > call.room ||
	    got.size != call.length - sizeof(got)) {
		user_client_fail(client, -EPROTO, "sent %zu bytes of state that are none",
				 call.length);
		return -EIO;
	}
	return got.size;
}

static int read_all(struct user_client *client, struct vd_stream *stream, unsigned char *buffer)
{
	size_t at = stream->length, total = 0;
	int64_t n;

	vd_stream_put_u64(stream, 0);
	do {
		n = read_state(client, buffer);
		if (n < 0)
			return (int)n;
		vd_stream_put(stream, buffer + sizeof(struct user_migration_data), (size_t)n);
		total += (size_t)n;
		if (total > STATE_MAX)
			return -E2BIG;
	} while (n == CHUNK && !stream->failed);
	if (stream->failed)
		return -ENOMEM;
	for (unsigned i = 0; i < 8; i++)
		stream->data[at + i] = (uint8_t)(total >> i * 8);
	return 0;
}

int user_client_save(void *context, struct vd_stream *stream)
{
	struct user_client *client = context;
	unsigned char *buffer;
	int r = can_stop(client) ? user_client_dead(client) ? -EIO : 0 : -EOPNOTSUPP;

	if (r)
		return r;
	buffer = vd_env_allocate(client->env, "user.state",
				 sizeof(struct user_migration_data) + CHUNK, 8);
	if (!buffer)
		return -ENOMEM;
	r = set_state(client, VFIO_DEVICE_STATE_STOP_COPY);
	if (!r) {
		int back;

		r = read_all(client, stream, buffer);
		back = set_state(client, VFIO_DEVICE_STATE_STOP);
		r = r ? r : back;
	}
	client->env->release(client->env, buffer, sizeof(struct user_migration_data) + CHUNK);
	return r;
}

static int write_state(struct user_client *client, const uint8_t *bytes, size_t length)
{
	uint64_t most = client->info.transfer_max < CHUNK ? client->info.transfer_max : CHUNK;

	while (length) {
		uint32_t n = length < most ? (uint32_t)length : (uint32_t)most;
		struct user_migration_data head = {.argsz = (uint32_t)sizeof(head) + n, .size = n};
		struct client_request request = {
			.command = USER_MIGRATION_WRITE,
			.parts = {{&head, sizeof(head)}, {(void *)(uintptr_t)bytes, n}},
			.part_count = 2,
		};
		int r = user_client_ask(client, &request, NULL, 0, CLIENT_SLOW);

		if (r)
			return r;
		bytes += n;
		length -= n;
	}
	return 0;
}

int user_client_load(void *context, struct vd_stream *stream)
{
	struct user_client *client = context;
	uint64_t length = vd_stream_get_u64(stream);
	int r = can_stop(client) ? 0 : -EOPNOTSUPP;

	if (r)
		return r;
	if (stream->failed || length != stream->length - stream->position)
		return -EINVAL;
	r = set_state(client, VFIO_DEVICE_STATE_RESUMING);
	if (!r)
		r = write_state(client, stream->data + stream->position, length);
	if (!r)
		r = set_state(client, VFIO_DEVICE_STATE_STOP);
	if (!r) {
		stream->position += length;
		return 0;
	}
	/* What is left is in an unknown state. */
	if (!user_client_reset(client))
		(void)set_state(client, VFIO_DEVICE_STATE_STOP);
	return r;
}
