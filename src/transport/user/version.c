/* SPDX-License-Identifier: BSD-2-Clause */
/* The first message: what each side supports, and whether there is a device for this client. */
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/user/server.h"

/* Deep enough for everything that is specified, with some room for what is not. */
#define JSON_DEPTH 8

/* What the client says; nothing of it is believed but as a limit for ourselves. */
struct proposal {
	uint64_t fds, transfer;
	bool twin, write_multiple, page_offset;
	char client_id[IDENTITY_MAX + 1]; /* empty: none */
};

/* ---- reading it ----------------------------------------------------------------------------- */

/* A number that is there has to be one. Return: 0, -EINVAL */
static int get_number(struct json_object *from, const char *name, uint64_t *value)
{
	struct json_object *o;

	if (!json_object_object_get_ex(from, name, &o))
		return 0;
	if (!json_object_is_type(o, json_type_int) || json_object_get_int64(o) < 0)
		return -EINVAL;
	*value = json_object_get_uint64(o);
	return 0;
}

static int get_boolean(struct json_object *from, const char *name, bool *value)
{
	struct json_object *o;

	if (!json_object_object_get_ex(from, name, &o))
		return 0;
	if (!json_object_is_type(o, json_type_boolean))
		return -EINVAL;
	*value = json_object_get_boolean(o);
	return 0;
}

static int get_identity(struct json_object *from, char name[IDENTITY_MAX + 1])
{
	struct json_object *o;
	size_t length;

	if (!json_object_object_get_ex(from, "client_id", &o))
		return 0;
	length = (size_t)json_object_get_string_len(o);
	if (!json_object_is_type(o, json_type_string) || !length || length > IDENTITY_MAX)
		return -EINVAL;
	memcpy(name, json_object_get_string(o), length);
	return 0;
}

static int read_capabilities(struct json_object *capabilities, struct proposal *proposal)
{
	uint64_t maps = USER_DEFAULT_MAPS, page_sizes = 0;
	struct json_object *twin;
	int r;

	r = get_number(capabilities, "max_msg_fds", &proposal->fds);
	if (!r)
		r = get_number(capabilities, "max_data_xfer_size", &proposal->transfer);
	if (!r)
		r = get_number(capabilities, "max_dma_maps", &maps);
	if (!r)
		r = get_number(capabilities, "pgsizes", &page_sizes);
	if (!r)
		r = get_boolean(capabilities, "write_multiple", &proposal->write_multiple);
	if (!r)
		r = get_boolean(capabilities, "page_offset", &proposal->page_offset);
	if (!r)
		r = get_identity(capabilities, proposal->client_id);
	if (r || !json_object_object_get_ex(capabilities, "twin_socket", &twin))
		return r ? r : proposal->transfer ? 0 : -EINVAL;
	if (!json_object_is_type(twin, json_type_object))
		return -EINVAL;
	r = get_boolean(twin, "supported", &proposal->twin);
	return r ? r : proposal->transfer ? 0 : -EINVAL;
}

/* @text ends with its NUL. */
static int read_json(const char *text, size_t length, struct proposal *proposal)
{
	struct json_tokener *tokener;
	struct json_object *o = NULL, *capabilities;
	int r = -EINVAL;

	if (text[length - 1] || memchr(text, 0, length) != text + length - 1)
		return -EINVAL;
	tokener = json_tokener_new_ex(JSON_DEPTH);
	if (!tokener)
		return -ENOMEM;
	o = json_tokener_parse_ex(tokener, text, (int)length);
	if (o && json_object_is_type(o, json_type_object)) {
		if (!json_object_object_get_ex(o, "capabilities", &capabilities))
			r = 0;
		else if (json_object_is_type(capabilities, json_type_object))
			r = read_capabilities(capabilities, proposal);
	}
	json_object_put(o);
	json_tokener_free(tokener);
	return r;
}

/* ---- answering it --------------------------------------------------------------------------- */

/* Only what the client has named beside what has a default. */
static int write_json(const struct connection *c, char *text, size_t room)
{
	const struct vd_user_server *server = c->export->server;
	int n = snprintf(text, room,
			 "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%zu,"
			 "\"max_dma_maps\":%u,\"pgsizes\":%llu%s%s%s}}",
			 USER_FDS_MAX, c->transfer_max, USER_DEFAULT_MAPS,
			 1ull << vd_host_page_shift(server->host),
			 c->has_twin ? ",\"twin_socket\":{\"supported\":true,\"fd_index\":0}" : "",
			 c->write_multiple ? ",\"write_multiple\":true" : "",
			 c->page_offset ? ",\"page_offset\":true" : "");

	return n > 0 && (size_t)n < room ? n + 1 : -EIO;
}

/* Without one the client has to do without. */
static void make_twin(struct connection *c, struct reply *reply)
{
	int fds[2];

	if (vd_env_inject(c->main.env, "user.twin") ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return;
	if (user_socket_init(&c->twin, c->main.env, fds[0], c->main.message_max)) {
		close(fds[0]);
		close(fds[1]);
		return;
	}
	c->has_twin = true;
	reply->own_fd = reply->fds[reply->fd_count++] = fds[1];
}

/* ---- clients with several connections ------------------------------------------------------- */

struct identity *identity_get(struct vd_user_server *server, const char *name)
{
	struct identity *identity;

	pthread_mutex_lock(&server->lock);
	identity = server->identities;
	while (identity && strcmp(identity->name, name))
		identity = identity->next;
	if (!identity) {
		identity = vd_env_allocate(server->env, "user.identity", sizeof(*identity),
					   _Alignof(struct identity));
		if (identity) {
			strcpy(identity->name, name);
			identity->uses = 0;
			identity->next = server->identities;
			server->identities = identity;
		}
	}
	if (identity)
		identity->uses++;
	pthread_mutex_unlock(&server->lock);
	return identity;
}

void identity_put(struct vd_user_server *server, struct identity *identity)
{
	struct identity **at = &server->identities;
	bool last;

	if (!identity)
		return;
	pthread_mutex_lock(&server->lock);
	last = !--identity->uses;
	while (last && *at != identity)
		at = &(*at)->next;
	if (last)
		*at = identity->next;
	pthread_mutex_unlock(&server->lock);
	if (last)
		server->env->release(server->env, identity, sizeof(*identity));
}

/* ---- the device ----------------------------------------------------------------------------- */

static bool has_hung_up(const struct connection *c)
{
	struct pollfd fd = {.fd = c->main.fd, .events = POLLRDHUP};

	return c->gone || (poll(&fd, 1, 0) > 0 && fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* One client at a time; one that has gone does not keep the next one out, though it is not told. */
static int claim_device(struct connection *c)
{
	struct served *served = c->served;

	if (!c->export->served)
		return device_make(c->export, served);
	if (served->client && has_hung_up(served->client))
		connection_end(served->client);
	if (served->client)
		return -EBUSY;
	/* What a device has not let go of when its last client went. */
	return connection_unmap(served);
}

static void introduce(struct connection *c)
{
	struct vd_user_server *server = c->export->server;

	c->ready = true;
	c->served->client = c;
	pthread_mutex_lock(&server->lock);
	c->introduced = true;
	pthread_mutex_unlock(&server->lock);
	server_count(&server->clients);
}

static int negotiate(struct connection *c, const struct user_message *message,
		     struct proposal *proposal, uint16_t *minor)
{
	size_t length = message->length - sizeof(struct user_version);
	struct user_version version;
	int r;

	memcpy(&version, message->payload, sizeof(version));
	if (version.major != USER_MAJOR)
		return -ENOTSUP;
	r = length ? read_json((const char *)message->payload + sizeof(version), length, proposal)
		   : 0;
	if (!r)
		r = claim_device(c);
	*minor = version.minor < USER_MINOR ? version.minor : USER_MINOR;
	return r;
}

int handle_version(struct connection *c, struct user_message *message, struct reply *reply)
{
	struct proposal proposal = {.fds = USER_DEFAULT_FDS, .transfer = USER_DEFAULT_TRANSFER};
	struct user_version version = {.major = USER_MAJOR};
	char text[256];
	int r = negotiate(c, message, &proposal, &version.minor), length;

	if (r) {
		c->closing = true;
		server_count(&c->export->server->refused);
		return r;
	}
	introduce(c);
	c->fds_max = proposal.fds < USER_FDS_MAX ? (unsigned)proposal.fds : USER_FDS_MAX;
	c->transfer_max = proposal.transfer < USER_DEFAULT_TRANSFER ? proposal.transfer
								     : USER_DEFAULT_TRANSFER;
	c->dma_max = c->transfer_max < SERVER_DMA_MAX ? c->transfer_max : SERVER_DMA_MAX;
	c->write_multiple = proposal.write_multiple && c->export->config.write_multiple;
	c->page_offset = proposal.page_offset;
	if (*proposal.client_id)
		c->identity = identity_get(c->export->server, proposal.client_id);
	/* All that is allowed now: its own transfers may be as long as ours. */
	c->main.message_max = USER_DEFAULT_TRANSFER + USER_OVERHEAD;
	if (proposal.twin && c->fds_max)
		make_twin(c, reply);
	length = write_json(c, text, sizeof(text));
	if (length < 0)
		return length;
	memcpy(reply_room(c, reply, sizeof(version) + (size_t)length), &version, sizeof(version));
	memcpy(reply->payload + sizeof(version), text, (size_t)length);
	return 0;
}
