/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DMA by messages: memory of a client that gave no descriptor.
 *
 * A device's operation asks for it and sleeps until the reply is there. Meanwhile the client may
 * want something itself, and answer only afterwards: QEMU waits for a region access with its big
 * lock held. So the thread that has the turn reads the socket while it waits, and handles what
 * nests: accesses, questions, new memory. The device's lock is given up for that. What does not
 * nest (unmapping, reset, migration), or too much inside one another, is handled when the operation
 * is over. A client with a second socket may answer us first, and has a moment for that; then, and
 * at once where there is no such socket, it ends all waits with -ECANCELED.
 *
 * A thread of the device's own sends its message and sleeps until who has the turn comes across the
 * reply. If nobody has the turn it takes that and reads, for replies only.
 */
#include <poll.h>
#include <string.h>

#include "transport/user/server.h"

#define MOMENT_NS UINT64_C(250000000)

struct dma_wait {
	struct dma_wait *next; /* all of a device's; turn lock, as is the rest */
	struct connection *c;
	uint64_t iova;
	size_t length;
	unsigned char *to; /* of a read */
	uint16_t id, command;
	bool done;
	int result;
};

/* ---- sending -------------------------------------------------------------------------------- */

static bool forbids(const struct connection *c, const struct dma_wait *wait)
{
	return c->mode == DMA_REFUSED ||
	       (c->mode == DMA_POSTED && wait->iova <= c->mode_last &&
		wait->iova + (wait->length - 1) >= c->mode_start);
}

/* Where DMA messages are sent. */
static struct user_socket *socket_of(struct connection *c)
{
	return c->has_twin ? &c->twin : &c->main;
}

/* Turn lock held. Return: 0 it may be sent */
static int check_send(struct connection *c, const struct dma_wait *wait, bool ours)
{
	if (c->gone)
		return -ECONNRESET;
	if (forbids(c, wait) || (c->mode == DMA_POSTED && wait->to) || (ours && c->cancelled))
		return -ECANCELED;
	return socket_of(c)->unsent_bytes > SERVER_UNSENT_MAX ? -ENOBUFS : 0;
}

static uint16_t free_id(struct connection *c)
{
	const struct dma_wait *wait;

	do {
		c->next_id++;
		for (wait = c->served->waits; wait && wait->id != c->next_id; wait = wait->next)
			;
	} while (wait);
	return c->next_id;
}

/* Turn lock held. */
static int send_command(struct connection *c, struct dma_wait *wait, const void *data)
{
	struct vd_user_server *server = c->export->server;
	struct user_header header = {.command = wait->command};
	struct user_dma_access access = {wait->iova, wait->length};
	struct iovec parts[2] = {{&access, sizeof(access)},
				 {(void *)(uintptr_t)data, wait->length}};
	int r;

	server_count(data ? &server->dma_writes : &server->dma_reads);
	header.id = wait->id = free_id(c);
	r = user_send(socket_of(c), &header, parts, data ? 2 : 1, NULL, 0);
	if (r)
		connection_cut(c);
	return r ? -ECONNRESET : 0;
}

static void link_wait(struct served *served, struct dma_wait *wait)
{
	wait->next = served->waits;
	served->waits = wait;
}

static void unlink_wait(struct served *served, const struct dma_wait *wait)
{
	struct dma_wait **at = &served->waits;

	while (*at != wait)
		at = &(*at)->next;
	*at = wait->next;
}

/* ---- replies -------------------------------------------------------------------------------- */

/* Its count has 64 bits, or 32 from peers that are older. Return: 0, and what comes behind it */
static int check_reply(const struct dma_wait *wait, const struct user_message *message,
		       const unsigned char **data)
{
	size_t expected = wait->to ? wait->length : 0;
	uint64_t count = 0;
	uint32_t short_count;

	if (message->header.flags & USER_ERROR) {
		uint32_t error = message->header.error;

		return error && error < 4096 && error != EAGAIN ? -(int)error : -EIO;
	}
	if (message->header.command != wait->command)
		return -EIO;
	if (message->length == sizeof(struct user_dma_access) + expected) {
		memcpy(&count, message->payload + offsetof(struct user_dma_access, count),
		       sizeof(count));
		*data = message->payload + sizeof(struct user_dma_access);
	} else if (message->length == USER_DMA_ACCESS_SHORT + expected) {
		memcpy(&short_count, message->payload + offsetof(struct user_dma_access, count),
		       sizeof(short_count));
		count = short_count;
		*data = message->payload + USER_DMA_ACCESS_SHORT;
	}
	return count == wait->length ? 0 : -EIO;
}

void dma_deliver(struct connection *c, const struct user_message *message)
{
	struct served *served = c->served;
	const unsigned char *data = NULL;
	struct dma_wait *wait;

	turn_lock(served);
	for (wait = served->waits; wait; wait = wait->next)
		if (wait->c == c && wait->id == message->header.id && !wait->done)
			break;
	/* Else it comes too late. */
	if (wait) {
		wait->result = check_reply(wait, message, &data);
		if (!wait->result && wait->to)
			memcpy(wait->to, data, wait->length);
		wait->done = true;
		pthread_cond_broadcast(&served->changed);
	}
	turn_unlock(served);
}

void dma_set_mode(struct connection *c, enum dma_mode mode, uint64_t start, uint64_t last)
{
	struct served *served = c->served;

	turn_lock(served);
	c->mode = mode;
	c->mode_start = start;
	c->mode_last = last;
	for (struct dma_wait *wait = served->waits; wait; wait = wait->next) {
		if (wait->c == c && !wait->done && forbids(c, wait)) {
			wait->result = -ECANCELED;
			wait->done = true;
		}
	}
	pthread_cond_broadcast(&served->changed);
	turn_unlock(served);
}

void dma_settle(struct connection *c)
{
	struct pollfd out = {.fd = c->twin.fd, .events = POLLOUT};
	int r;

	/* On one socket the order says it all. */
	if (!c->has_twin)
		return;
	do {
		turn_lock(c->served);
		r = c->gone ? 0 : user_flush(&c->twin);
		if (r && r != -EAGAIN)
			connection_cut(c);
		turn_unlock(c->served);
	} while (r == -EAGAIN && poll(&out, 1, (int)(MOMENT_NS / 1000000u)) == 1);
}

/* ---- reading for them ----------------------------------------------------------------------- */

/* What is read while a reply is waited for. */
struct reading {
	struct connection *c;
	const struct dma_wait *wait;
	uint64_t deadline;
	uint64_t held_until; /* a command is there that does not nest; 0: none is */
	bool nests; /* others may be let into the device */
	bool handed_over;
};

static bool is_over(const struct reading *reading)
{
	struct served *served = reading->c->served;
	bool over;

	turn_lock(served);
	over = reading->wait->done || reading->c->gone || reading->c->cancelled;
	turn_unlock(served);
	return over;
}

/* Until one of the sockets has something to read, or takes more. */
static void poll_sockets(const struct reading *reading, uint64_t left_ns)
{
	struct connection *c = reading->c;
	struct pollfd fds[2] = {{.fd = c->main.fd, .events = POLLIN}, {.fd = -1}};

	turn_lock(c->served);
	if (c->main.unsent)
		fds[0].events |= POLLOUT;
	if (c->main.unsent_bytes > SERVER_UNSENT_MAX || reading->held_until)
		fds[0].events &= ~POLLIN;
	if (c->has_twin)
		fds[1] = (struct pollfd){.fd = c->twin.fd,
					 .events = POLLIN | (c->twin.unsent ? POLLOUT : 0)};
	turn_unlock(c->served);
	(void)poll(fds, 2, (int)(left_ns / 1000000u) + 1);
	turn_lock(c->served);
	if (user_flush(&c->main) == -EPIPE || (c->has_twin && user_flush(&c->twin) == -EPIPE))
		connection_cut(c);
	turn_unlock(c->served);
}

/* Return: whether reading goes on */
static bool take(struct reading *reading, struct user_socket *from, struct user_message *message)
{
	struct connection *c = reading->c;

	if ((message->header.flags & USER_TYPE_MASK) == USER_TYPE_REPLY) {
		dma_deliver(c, message);
		user_message_close(message);
		return true;
	}
	if (from == &c->twin) {
		/* Nothing but replies comes there. */
		user_message_close(message);
		connection_cut_off(c, "a command on the socket for replies");
		return false;
	}
	if (reading->nests && c->depth <= SERVER_DEPTH_MAX && command_nests(message)) {
		command_handle(c, message);
		return true;
	}
	user_unreceive(from, message);
	if (reading->handed_over)
		return false;
	if (c->has_twin) {
		reading->held_until = c->main.env->clock_ns(c->main.env) + MOMENT_NS;
		return true;
	}
	c->cancelled = true;
	return false;
}

/* Return: 0; -EAGAIN nothing is there; -errno of user_receive() */
static int read_one(struct reading *reading, struct user_socket *from, bool wait, bool *on)
{
	struct user_message message;
	int r = user_receive(from, &message, wait);

	if (!r)
		*on = take(reading, from, &message);
	return r;
}

static uint64_t time_left(const struct reading *reading, uint64_t now)
{
	uint64_t until = reading->deadline;

	if (reading->held_until && reading->held_until < until)
		until = reading->held_until;
	return until > now ? until - now : 0;
}

/* Return: whether reading goes on */
static bool read_some(struct reading *reading)
{
	struct connection *c = reading->c;
	uint64_t now = c->main.env->clock_ns(c->main.env);
	/* One socket, and nothing to be sent: it can be slept on. */
	bool simple = !c->has_twin && !c->main.unsent, on = true;
	int r;

	if (now >= reading->deadline) {
		connection_cut_off(c, "it does not answer a DMA message");
		return false;
	}
	r = -EAGAIN;
	if (c->has_twin)
		r = read_one(reading, &c->twin, false, &on);
	if (r == -EAGAIN && reading->held_until && now >= reading->held_until) {
		c->cancelled = true;
		return false;
	}
	if (r == -EAGAIN && !reading->held_until && c->main.unsent_bytes <= SERVER_UNSENT_MAX)
		r = read_one(reading, &c->main, simple, &on);
	if (r == -EAGAIN && !simple)
		poll_sockets(reading, time_left(reading, now));
	if (r && r != -EAGAIN) {
		turn_lock(c->served);
		connection_cut(c);
		turn_unlock(c->served);
		return false;
	}
	return on;
}

/* By who has the turn. */
static void read_replies(struct reading *reading)
{
	struct connection *c = reading->c;
	unsigned char *buffer;
	size_t room;

	/* The message that is being handled stays. */
	if (user_keep(&c->main, &buffer, &room)) {
		c->cancelled = true;
		return;
	}
	c->depth++;
	turn_lock(c->served);
	c->waiting = true;
	turn_unlock(c->served);
	while (!is_over(reading) && read_some(reading))
		;
	c->read_inside = true;
	if (--c->depth == 0) {
		turn_lock(c->served);
		c->waiting = false;
		turn_unlock(c->served);
	}
	user_unkeep(&c->main, buffer, room);
}

/* ---- waiting on another thread -------------------------------------------------------------- */

/* Turn lock held, but not while it sleeps. Return: false: the time is over. */
static bool sleep_until(struct served *served, uint64_t deadline)
{
	struct timespec until = {
		.tv_sec = (time_t)(deadline / 1000000000u),
		.tv_nsec = (long)(deadline % 1000000000u),
	};

	return pthread_cond_timedwait(&served->changed, &served->lock, &until) != ETIMEDOUT;
}

/* By a thread that has not the turn; turn lock held, but not while it sleeps or reads. */
static void wait_outside(struct reading *reading)
{
	struct connection *c = reading->c;
	struct served *served = c->served;
	bool patient = true, read = true;

	while (!reading->wait->done && !c->gone && patient) {
		if (!read || !turn_take(served)) {
			patient = sleep_until(served, reading->deadline);
			read = true;
			continue;
		}
		turn_unlock(served);
		reading->handed_over = true;
		read_replies(reading);
		turn_lock(served);
		turn_give_back(served);
		turn_unlock(served);
		/* What came that is no reply, or came without being told of, is for others. */
		turn_kick(served);
		turn_lock(served);
		read = false;
	}
	if (!patient && !reading->wait->done && !c->gone) {
		turn_unlock(served);
		connection_cut_off(c, "it does not answer a DMA message");
		turn_lock(served);
	}
}

/* ---- one message ---------------------------------------------------------------------------- */

static int wait_for(struct connection *c, struct dma_wait *wait, bool ours)
{
	struct vd_user_server *server = c->export->server;
	struct served *served = c->served;
	struct reading reading = {
		.c = c,
		.wait = wait,
		.deadline = server->env->clock_ns(server->env) + server->reply_limit_ns,
	};
	bool yielded = vd_device_yield(served->device);
	int r;

	reading.nests = yielded;
	if (ours)
		read_replies(&reading);
	turn_lock(served);
	if (!ours)
		wait_outside(&reading);
	unlink_wait(served, wait);
	r = wait->done ? wait->result : c->gone ? -ECONNRESET : -ECANCELED;
	turn_unlock(served);
	if (yielded)
		vd_device_unyield(served->device);
	return r;
}

static int exchange(struct connection *c, struct dma_wait *wait, const void *data)
{
	struct vd_user_server *server = c->export->server;
	struct served *served = c->served;
	bool ours, posted;
	int r;

	turn_lock(served);
	ours = turn_is_ours(served);
	r = check_send(c, wait, ours);
	posted = c->mode == DMA_POSTED;
	if (!r)
		r = send_command(c, wait, data);
	if (!r && !posted)
		link_wait(served, wait);
	turn_unlock(served);
	if (!r && !posted)
		r = wait_for(c, wait, ours);
	if (r)
		server_count(&server->dma_failed);
	return r;
}

static int remote_read(void *context, vd_iova iova, void *buffer, size_t length)
{
	struct connection *c = context;
	int r = 0;

	for (size_t done = 0; done < length && !r;) {
		size_t part = length - done < c->dma_max ? length - done : c->dma_max;
		struct dma_wait wait = {.c = c, .iova = iova.value + done, .length = part,
					.to = (unsigned char *)buffer + done,
					.command = USER_DMA_READ};

		r = exchange(c, &wait, NULL);
		done += part;
	}
	return r;
}

static int remote_write(void *context, vd_iova iova, const void *buffer, size_t length)
{
	struct connection *c = context;
	int r = 0;

	for (size_t done = 0; done < length && !r;) {
		size_t part = length - done < c->dma_max ? length - done : c->dma_max;
		struct dma_wait wait = {.c = c, .iova = iova.value + done, .length = part,
					.command = USER_DMA_WRITE};

		r = exchange(c, &wait, (const unsigned char *)buffer + done);
		done += part;
	}
	return r;
}

const struct vd_dma_remote_ops dma_remote_ops = {remote_read, remote_write};
