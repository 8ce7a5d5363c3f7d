/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests and answers. Whoever waits for an answer receives for all who wait, one at a time, and
 * handles the server's own commands on the way; when nobody waits, the device's poll does it.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "transport/user/client.h"

static void lock(struct user_client *client)
{
	pthread_mutex_lock(&client->lock);
}

static void unlock(struct user_client *client)
{
	pthread_mutex_unlock(&client->lock);
}

void user_client_poke(struct user_client *client)
{
	uint64_t one = 1;

	if (write(client->again_fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable */
}

/* ---- the end -------------------------------------------------------------------------------- */

int user_client_dead(struct user_client *client)
{
	int dead;

	lock(client);
	dead = client->dead;
	unlock(client);
	return dead;
}

/* Lock held. */
static void end_calls(struct user_client *client)
{
	for (struct client_call *call = client->calls; call; call = call->next) {
		if (!call->done)
			call->result = -EIO;
		call->done = true;
	}
	pthread_cond_broadcast(&client->changed);
}

int user_client_fail(struct user_client *client, int code, const char *format, ...)
{
	char why[160];
	va_list arguments;
	bool first;

	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	lock(client);
	first = !client->dead;
	if (first) {
		client->dead = code;
		vd_error_set(&client->end, code, "vfio-user %s: the server %s", client->name, why);
		shutdown(client->main.fd, SHUT_RDWR);
		if (client->twin.fd >= 0)
			shutdown(client->twin.fd, SHUT_RDWR);
		end_calls(client);
	}
	unlock(client);
	if (first && client->device && client->env->log && !client->returning)
		client->env->log(client->env, VD_LOG_ERROR, client->end.text);
	user_client_poke(client);
	return code;
}

static int fail_io(struct user_client *client, int code)
{
	if (code == -EBADMSG)
		return user_client_fail(client, -EPROTO, "sent a message of impossible size");
	if (code == -EPIPE || code == -ECONNRESET)
		return user_client_fail(client, -ECONNRESET, "has hung up");
	return user_client_fail(client, code, "cannot be talked to: %s", strerror(-code));
}

/* ---- sending, lock held --------------------------------------------------------------------- */

/* Have the poll descriptor tell when there is room again, but only then: it tells at each read. */
static void watch_room(struct user_client *client, struct user_socket *s)
{
	unsigned which = s == &client->twin;
	bool wanted = s->unsent != NULL;
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLET | (wanted ? (uint32_t)EPOLLOUT : 0),
		.data.u64 = CLIENT_TOKEN_SOCKET,
	};

	if (wanted == client->out_wanted[which])
		return;
	client->out_wanted[which] = wanted;
	epoll_ctl(client->poll_fd, EPOLL_CTL_MOD, s->fd, &event);
}

static int send_locked(struct user_client *client, struct user_socket *s,
		       struct user_header *header, const struct iovec *parts, unsigned count,
		       const int *fds, unsigned fd_count)
{
	int r = client->dead ? -ECONNRESET
			     : user_send(s, header, parts, count, fds, fd_count);

	if (!r)
		watch_room(client, s);
	return r;
}

static uint16_t new_id(struct user_client *client)
{
	const struct client_call *call;

	do {
		client->next_id++;
		for (call = client->calls; call && call->id != client->next_id; call = call->next)
			;
	} while (call);
	return client->next_id;
}

static void remove_call(struct user_client *client, const struct client_call *call)
{
	struct client_call **at = &client->calls;

	while (*at && *at != call)
		at = &(*at)->next;
	if (*at)
		*at = call->next;
}

int user_client_send(struct user_client *client, struct client_call *call,
		     const struct client_request *request)
{
	struct user_header header = {.command = (uint16_t)request->command};
	bool was_dead;
	int r;

	lock(client);
	was_dead = client->dead;
	header.id = new_id(client);
	call->id = header.id;
	call->command = header.command;
	call->done = false;
	call->next = client->calls;
	client->calls = call;
	r = send_locked(client, &client->main, &header, request->parts, request->part_count,
			request->fds, request->fd_count);
	if (r)
		remove_call(client, call);
	unlock(client);
	if (r && !was_dead)
		fail_io(client, r);
	return r ? -EIO : 0;
}

void user_client_reply(struct user_client *client, struct user_socket *s,
		       const struct user_header *command, int code, const struct iovec *parts,
		       unsigned count)
{
	struct user_header header = {.id = command->id, .command = command->command,
				     .flags = USER_TYPE_REPLY};
	bool full;
	int r;

	if (command->flags & USER_NO_REPLY)
		return;
	if (code) {
		header.flags |= USER_ERROR;
		header.error = (uint32_t)-code;
	}
	lock(client);
	r = send_locked(client, s, &header, parts, code ? 0 : count, NULL, 0);
	full = s->unsent_bytes > 4 * CLIENT_MESSAGE_MAX;
	unlock(client);
	if (r)
		fail_io(client, r);
	else if (full)
		user_client_fail(client, -ETIMEDOUT, "does not read what it asked for");
}

/* ---- receiving ------------------------------------------------------------------------------ */

static void complete(struct user_client *client, struct user_message *message)
{
	const struct user_header *header = &message->header;
	struct client_call *call;

	lock(client);
	call = client->calls;
	while (call && (call->done || call->id != header->id || call->command != header->command))
		call = call->next;
	/* Nobody waits for it: a reply to a write that was posted, of a server that sends them. */
	if (call) {
		if (header->flags & USER_ERROR)
			call->result = header->error && header->error < 4096 ? -(int)header->error
									     : -EIO;
		else
			call->result = 0;
		call->length = message->length;
		if (!call->result && call->reply)
			memcpy(call->reply, message->payload,
			       message->length < call->room ? message->length : call->room);
		memcpy(call->fds, message->fds, sizeof(call->fds));
		call->fd_count = message->fd_count;
		message->fd_count = 0;
		call->done = true;
		pthread_cond_broadcast(&client->changed);
	}
	unlock(client);
}

static unsigned pump(struct user_client *client, struct user_socket *s, unsigned budget);

/*
 * A device that stops sends what it still has to write without waiting for us, and then says that
 * it has stopped. As these are two sockets, what was said later may be seen first: memory that is
 * saved then, or looked at after an interrupt, would lack what was written.
 */
static void take_in_writes(struct user_client *client, const struct user_header *reply)
{
	unsigned left = CLIENT_WRITES_MAX;

	if (client->twin.fd < 0 ||
	    (reply->command != USER_FEATURE && reply->command != USER_RESET &&
	     reply->command != USER_DMA_UNMAP))
		return;
	while (left) {
		unsigned count = pump(client, &client->twin, left);

		if (!count)
			break;
		left -= count;
	}
}

static void handle(struct user_client *client, struct user_socket *s, struct user_message *message)
{
	unsigned type = message->header.flags & USER_TYPE_MASK;

	if (message->fds_lost)
		user_client_fail(client, -EPROTO, "sent descriptors that cannot be taken");
	else if (type == USER_TYPE_REPLY) {
		if (s == &client->main)
			take_in_writes(client, &message->header);
		complete(client, message);
	} else if (type != USER_TYPE_COMMAND)
		user_client_fail(client, -EPROTO, "sent what is neither command nor reply");
	else if (message->header.command == USER_DMA_READ ||
		 message->header.command == USER_DMA_WRITE)
		user_client_dma(client, s, message);
	else
		user_client_reply(client, s, &message->header, -ENOSYS, NULL, 0);
	user_message_close(message);
}

/* All that is there now, @budget messages at most. Return: how many. */
static unsigned pump(struct user_client *client, struct user_socket *s, unsigned budget)
{
	struct user_message message;
	unsigned count = 0;

	do {
		int r = user_receive(s, &message, false);

		if (r == -EAGAIN)
			break;
		if (r) {
			fail_io(client, r);
			break;
		}
		handle(client, s, &message);
		count++;
	} while (count < budget && user_pending(s));
	return count;
}

static void flush(struct user_client *client, struct user_socket *s)
{
	int r = 0;

	lock(client);
	if (s->unsent && !client->dead) {
		r = user_flush(s);
		watch_room(client, s);
	}
	unlock(client);
	if (r && r != -EAGAIN)
		fail_io(client, r);
}

/* Waits for anything to happen, up to the time given, and sees to it. Lock not held. */
static unsigned receive_ready(struct user_client *client, uint64_t timeout_ns, unsigned budget)
{
	struct user_socket *sockets[2] = {&client->main, &client->twin};
	struct timespec timeout = {(time_t)(timeout_ns / 1000000000u),
				   (long)(timeout_ns % 1000000000u)};
	struct pollfd fds[2];
	unsigned count = 0;

	lock(client);
	for (unsigned i = 0; i < 2; i++)
		fds[i] = (struct pollfd){.fd = sockets[i]->fd,
					 .events = sockets[i]->unsent ? POLLIN | POLLOUT : POLLIN};
	unlock(client);
	if (ppoll(fds, 2, &timeout, NULL) <= 0)
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		if (fds[i].revents & POLLOUT)
			flush(client, sockets[i]);
		if (fds[i].revents & ~POLLOUT && count < budget)
			count += pump(client, sockets[i], budget - count);
	}
	return count;
}

static unsigned receive(struct user_client *client, uint64_t timeout_ns, unsigned budget)
{
	unsigned count = 0;

	if (user_pending(&client->main))
		count = pump(client, &client->main, budget);
	if (client->twin.fd >= 0 && user_pending(&client->twin) && count < budget)
		count += pump(client, &client->twin, budget - count);
	return count ? count : receive_ready(client, timeout_ns, budget);
}

/* Who found us at it has left something for us, or it may come by the poll descriptor. */
static void end_receiving(struct user_client *client)
{
	lock(client);
	while (client->kicked && !client->dead) {
		client->kicked = false;
		unlock(client);
		if (receive(client, 0, CLIENT_BUDGET) == CLIENT_BUDGET)
			user_client_poke(client);
		lock(client);
	}
	client->receiving = false;
	pthread_cond_broadcast(&client->changed);
	unlock(client);
}

bool user_client_poll(struct user_client *client)
{
	bool busy;
	unsigned count;

	lock(client);
	busy = client->receiving || client->dead;
	client->kicked = client->receiving;
	client->receiving = client->receiving || !busy;
	unlock(client);
	if (busy)
		return false;
	flush(client, &client->main);
	if (client->twin.fd >= 0)
		flush(client, &client->twin);
	count = receive(client, 0, CLIENT_BUDGET);
	/* What is in the buffers already makes no descriptor readable. */
	while (count < CLIENT_BUDGET) {
		unsigned more = receive(client, 0, CLIENT_BUDGET - count);

		if (!more)
			break;
		count += more;
	}
	end_receiving(client);
	return count >= CLIENT_BUDGET;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void sleep_locked(struct user_client *client, uint64_t ns)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += (uint64_t)until.tv_nsec;
	until.tv_sec += (time_t)(ns / 1000000000u);
	until.tv_nsec = (long)(ns % 1000000000u);
	pthread_cond_timedwait(&client->changed, &client->lock, &until);
}

static bool has_room(const struct user_client *client)
{
	return client->main.unsent_bytes <= CLIENT_UNSENT_MAX;
}

/*
 * Until @call is done; NULL: until the server has taken most of what was sent. Lock held, but not
 * while anything is waited for. Return: false: it took too long.
 */
static bool wait_locked(struct user_client *client, const struct client_call *call,
			unsigned limits)
{
	uint64_t deadline = client->env->clock_ns(client->env) + limits * client->timeout_ns;
	bool mine = false, in_time = true;

	while (!client->dead && !(call ? call->done : has_room(client))) {
		uint64_t now = client->env->clock_ns(client->env);

		if (now >= deadline) {
			in_time = false;
			break;
		}
		if (client->receiving && !mine) {
			sleep_locked(client, deadline - now);
			continue;
		}
		client->receiving = mine = true;
		unlock(client);
		receive(client, deadline - now, CLIENT_BUDGET);
		lock(client);
	}
	if (mine) {
		unlock(client);
		end_receiving(client);
		lock(client);
	}
	return in_time;
}

static int fail_late(struct user_client *client, unsigned limits)
{
	return user_client_fail(client, -ETIMEDOUT, "did not answer within %llu ms",
				(unsigned long long)(limits * client->timeout_ns / 1000000u));
}

int user_client_wait(struct user_client *client, struct client_call *call, unsigned limits)
{
	bool late;

	lock(client);
	late = !wait_locked(client, call, limits) && !call->done;
	remove_call(client, call);
	if (!call->done)
		call->result = -EIO;
	unlock(client);
	if (late)
		fail_late(client, limits);
	return call->result;
}

void user_client_close_call(struct client_call *call)
{
	for (unsigned i = 0; i < call->fd_count; i++)
		if (call->fds[i] >= 0)
			close(call->fds[i]);
	call->fd_count = 0;
}

int user_client_ask(struct user_client *client, const struct client_request *request, void *reply,
		    size_t size, unsigned limits)
{
	struct client_call call = {.reply = reply, .room = size};
	int r = user_client_send(client, &call, request);

	if (!r)
		r = user_client_wait(client, &call, limits);
	user_client_close_call(&call);
	if (!r && call.length != size) {
		user_client_fail(client, -EPROTO, "answered command %u with %zu bytes, not %zu",
				 request->command, call.length, size);
		r = -EIO;
	}
	return r;
}

int user_client_post(struct user_client *client, const struct client_request *request)
{
	struct user_header header = {.command = (uint16_t)request->command,
				     .flags = USER_NO_REPLY};
	bool was_dead, in_time = true;
	int r;

	lock(client);
	if (!has_room(client))
		in_time = wait_locked(client, NULL, 1);
	was_dead = client->dead;
	header.id = new_id(client);
	r = in_time ? send_locked(client, &client->main, &header, request->parts,
				  request->part_count, NULL, 0) : 0;
	unlock(client);
	if (!in_time)
		return user_client_fail(client, -ETIMEDOUT, "does not read what it is sent");
	if (r && !was_dead)
		fail_io(client, r);
	return r ? -EIO : 0;
}
