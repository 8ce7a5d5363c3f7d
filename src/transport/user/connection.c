/* SPDX-License-Identifier: BSD-2-Clause */
/* A client, from the moment it connects to the moment nothing of it is left. */
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "transport/user/server.h"

/* Messages that are handled before others get the thread. */
#define MESSAGES_AT_A_TIME 64u

/* ---- coming --------------------------------------------------------------------------------- */

/* No DMA reply is waited for longer, with the socket blocking as it is. */
static void set_limit(const struct vd_user_server *server, int fd)
{
	struct timeval limit = {
		.tv_sec = (time_t)(server->reply_limit_ns / 1000000000u),
		.tv_usec = (suseconds_t)(server->reply_limit_ns % 1000000000u / 1000u),
	};

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* Its own device's turn, or that of the one which is kept. */
static struct served *served_for(struct vd_user_export *export)
{
	if (!export->served)
		return turn_new(export->server);
	source_get(&export->served->source);
	return export->served;
}

static struct connection *connection_new(struct vd_user_export *export, int fd)
{
	struct vd_user_server *server = export->server;
	const struct vd_env *env = server->env;
	struct connection *c = vd_env_allocate(env, "user.connection", sizeof(*c),
					       _Alignof(struct connection));

	if (!c)
		return NULL;
	c->source.kind = SOURCE_CLIENT;
	atomic_init(&c->source.references, 1);
	c->fds_max = USER_DEFAULT_FDS;
	c->twin.fd = -1;
	c->served = served_for(export);
	if (!c->served || user_socket_init(&c->main, env, fd, SERVER_HELLO_MAX)) {
		if (c->served)
			source_put(&c->served->source);
		env->release(env, c, sizeof(*c));
		return NULL;
	}
	c->export = export;
	source_get(&export->source);
	set_limit(server, fd);
	return c;
}

void connection_free(struct connection *c)
{
	struct vd_user_export *export = c->export;
	const struct vd_env *env = export->server->env;

	source_put(&c->served->source);
	env->release(env, c, sizeof(*c));
	source_put(&export->source);
}

/* Into the export's list, whose reference it is. Return: the oldest of too many strangers. */
static struct connection *enlist(struct vd_user_export *export, struct connection *c, bool *removed)
{
	struct vd_user_server *server = export->server;
	struct connection *oldest = NULL;
	unsigned strangers = 0;

	pthread_mutex_lock(&server->lock);
	*removed = export->removed;
	if (!*removed) {
		c->next = export->connections;
		export->connections = c;
	}
	for (struct connection *i = export->connections; i; i = i->next) {
		if (!i->introduced) {
			oldest = i;
			strangers++;
		}
	}
	if (strangers <= SERVER_STRANGERS_MAX)
		oldest = NULL;
	if (oldest)
		source_get(&oldest->source);
	pthread_mutex_unlock(&server->lock);
	return oldest;
}

static void delist(struct connection *c)
{
	struct vd_user_export *export = c->export;
	struct vd_user_server *server = export->server;
	struct connection **at = &export->connections;

	pthread_mutex_lock(&server->lock);
	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
	pthread_cond_broadcast(&server->gone);
	pthread_mutex_unlock(&server->lock);
}

void connection_drop(struct connection *c)
{
	turn_lock(c->served);
	connection_cut(c);
	turn_unlock(c->served);
	turn_request(c->served, &c->source);
}

static void welcome(struct vd_user_export *export, int fd)
{
	struct vd_user_server *server = export->server;
	struct connection *c = connection_new(export, fd), *oldest;
	bool removed;

	if (!c) {
		close(fd);
		return;
	}
	server_count(&server->accepted);
	source_get(&c->source);
	oldest = enlist(export, c, &removed);
	if (oldest) {
		server_count(&server->refused);
		connection_drop(oldest);
		source_put(&oldest->source);
	}
	if (removed)
		connection_drop(c);
	else
		turn_request(c->served, &c->source);
	source_put(&c->source);
}

void connection_accept(struct vd_user_export *export)
{
	for (;;) {
		int fd = accept4(export->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			welcome(export, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* Without a descriptor they wait until a client goes. */
		if (errno != EAGAIN)
			atomic_store_explicit(&export->stalled, true, memory_order_relaxed);
		return;
	}
}

/* ---- going ---------------------------------------------------------------------------------- */

void connection_cut(struct connection *c)
{
	if (c->gone)
		return;
	c->gone = true;
	/* Whoever sleeps in a read wakes up. */
	shutdown(c->main.fd, SHUT_RDWR);
	pthread_cond_broadcast(&c->served->changed);
}

void connection_cut_off(struct connection *c, const char *why)
{
	struct vd_user_server *server = c->export->server;
	char text[160];
	bool was;

	turn_lock(c->served);
	was = c->gone;
	/* First: the client may ask how many as soon as it sees it. */
	if (!was)
		server_count(&server->cut_off);
	connection_cut(c);
	turn_unlock(c->served);
	if (was)
		return;
	snprintf(text, sizeof(text), "vfio-user: a client is cut off: %s", why);
	if (server->env->log)
		server->env->log(server->env, VD_LOG_WARNING, text);
}

bool connection_is_open(struct connection *c)
{
	bool open;

	turn_lock(c->served);
	open = !c->gone;
	turn_unlock(c->served);
	return open;
}

int connection_unmap(struct served *served)
{
	int r = vd_dma_unmap_all(served->space, NULL);

	while (!r && served->stuck) {
		struct connection *c = served->stuck;

		served->stuck = c->next_stuck;
		source_put(&c->source);
	}
	return r;
}

/* A pin that stays may be written back any time: to memory that leads to the connection. */
static void leave_stuck(struct connection *c)
{
	struct vd_user_server *server = c->served->server;

	c->next_stuck = c->served->stuck;
	c->served->stuck = c;
	source_get(&c->source);
	if (server->env->log)
		server->env->log(server->env, VD_LOG_WARNING,
				 "vfio-user: a device does not let go of the memory of a client "
				 "that has gone");
}

/* Its memory and interrupts; the device stays as it is, or goes as well. */
static void leave_device(struct connection *c)
{
	struct served *served = c->served;

	if (served->client != c)
		return;
	dma_set_mode(c, DMA_REFUSED, 0, UINT64_MAX);
	vd_device_clear_irqs(served->device);
	if (c->has_group)
		vd_group_leave(vd_device_group(served->device));
	identity_put(served->server, c->identity);
	c->identity = NULL;
	(void)vd_dma_dirty_stop(served->space);
	migration_leave(served);
	if (!c->export->served)
		device_end(served);
	else if (connection_unmap(served))
		leave_stuck(c);
	served->client = NULL;
	atomic_fetch_sub_explicit(&served->server->clients, 1, memory_order_relaxed);
}

void connection_end(struct connection *c)
{
	struct served *served = c->served;

	if (c->ended)
		return;
	c->ended = true;
	turn_lock(served);
	connection_cut(c);
	turn_unlock(served);
	leave_device(c);
	turn_lock(served);
	user_socket_fini(&c->main);
	if (c->has_twin)
		user_socket_fini(&c->twin);
	turn_unlock(served);
	source_remove(served->server, &c->source);
	delist(c);
	/* Relaxed: who set it has found no descriptor, and these were ours. */
	if (atomic_exchange_explicit(&c->export->stalled, false, memory_order_relaxed))
		(void)source_watch(served->server, &c->export->source, c->export->fd,
				   EPOLLIN | EPOLLET);
	source_put(&c->source);
}

/* ---- being there ---------------------------------------------------------------------------- */

/* From now on; what is there already is reported again. */
static int watch(struct connection *c, bool out)
{
	c->watches_out = out;
	return source_watch(c->served->server, &c->source, c->main.fd,
			    EPOLLIN | EPOLLRDHUP | EPOLLET | (out ? EPOLLOUT : 0u));
}

static int start(struct connection *c)
{
	struct vd_user_server *server = c->served->server;
	int r = source_add(server, source_get(&c->source));

	if (r)
		source_put(&c->source);
	c->started = true;
	return r ? r : watch(c, false);
}

static void cut(struct connection *c)
{
	turn_lock(c->served);
	connection_cut(c);
	turn_unlock(c->served);
}

/* Return: whether more may be read: the client has taken what it was sent. */
static bool flush(struct connection *c)
{
	int r;

	turn_lock(c->served);
	r = user_flush(&c->main);
	turn_unlock(c->served);
	if (r == -EAGAIN) {
		if (!c->watches_out)
			(void)watch(c, true);
		return false;
	}
	if (r || c->closing)
		cut(c);
	else if (c->watches_out)
		(void)watch(c, false);
	return !r;
}

/* What was sent to the twin, did not fit, and is not waited for: else nobody sends the rest. */
static void flush_twin(struct connection *c)
{
	struct vd_user_server *server = c->served->server;
	bool full = false;

	if (!c->has_twin)
		return;
	turn_lock(c->served);
	if (!c->gone) {
		int r = user_flush(&c->twin);

		full = r == -EAGAIN;
		if (r && !full)
			connection_cut(c);
	}
	turn_unlock(c->served);
	if (full && !c->watches_twin)
		(void)source_watch(server, &c->source, c->twin.fd, EPOLLOUT | EPOLLET);
	else if (!full && c->watches_twin)
		source_forget(server, c->twin.fd);
	c->watches_twin = full;
}

void connection_hangs_up(struct connection *c)
{
	atomic_store_explicit(&c->hung_up, true, memory_order_relaxed);
}

void connection_mute(struct connection *c)
{
	if (c->gone || c->muted || !c->waiting)
		return;
	c->muted = true;
	(void)source_watch(c->served->server, &c->source, c->main.fd, EPOLLET);
}

static void unmute(struct connection *c)
{
	bool was;

	turn_lock(c->served);
	was = c->muted;
	c->muted = false;
	turn_unlock(c->served);
	if (was)
		(void)watch(c, c->watches_out);
}

/* One message. Return: whether there was one. */
static bool serve_one(struct connection *c)
{
	struct user_message message;
	int r = user_receive(&c->main, &message, false);

	if (r == -EAGAIN)
		return false;
	if (r == -EBADMSG || r == -ENOMEM) {
		connection_cut_off(c, r == -ENOMEM ? "no memory for its message"
						   : "a message of a size that cannot be");
		return false;
	}
	if (r) {
		cut(c);
		return false;
	}
	if ((message.header.flags & USER_TYPE_MASK) == USER_TYPE_REPLY) {
		dma_deliver(c, &message);
		user_message_close(&message);
	} else {
		command_handle(c, &message);
	}
	c->cancelled = false;
	return true;
}

/* Return: whether a message may be there that epoll will not report. */
static bool serve_some(struct connection *c)
{
	unsigned count = 0;

	while (connection_is_open(c)) {
		if (c->main.unsent || c->closing) {
			if (!flush(c))
				return false;
			continue;
		}
		if (!serve_one(c))
			return false;
		if (!user_pending(&c->main) && !c->main.unsent && !c->closing &&
		    !atomic_load_explicit(&c->hung_up, memory_order_relaxed))
			return false;
		/* Only when nothing is in our buffer. */
		if (++count >= MESSAGES_AT_A_TIME && c->main.start == c->main.end)
			return true;
	}
	return false;
}

void connection_serve(struct connection *c)
{
	bool more;

	if (c->ended)
		return;
	if (!c->started && start(c))
		cut(c);
	more = serve_some(c);
	flush_twin(c);
	unmute(c);
	if (!connection_is_open(c))
		connection_end(c);
	else if (more)
		(void)watch(c, c->watches_out);
}
