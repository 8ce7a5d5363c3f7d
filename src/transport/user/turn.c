/* SPDX-License-Identifier: BSD-2-Clause */
/* The turn: everything that concerns one device, one after the other, by whoever comes first. */
#include <unistd.h>

#include "transport/user/server.h"

/* Which thread this is: only the address is used. */
static const void *self(void)
{
	static _Thread_local char thread;

	return &thread;
}

struct served *turn_new(struct vd_user_server *server)
{
	const struct vd_env *env = server->env;
	struct served *served = vd_env_allocate(env, "user.served", sizeof(*served),
						_Alignof(struct served));
	pthread_condattr_t clock;

	if (!served)
		return NULL;
	served->source.kind = SOURCE_DEVICE;
	atomic_init(&served->source.references, 1);
	served->server = server;
	served->poll_fd = served->unmask_fd = -1;
	served->last = &served->first;
	pthread_mutex_init(&served->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&served->changed, &clock);
	pthread_condattr_destroy(&clock);
	return served;
}

void turn_free(struct served *served)
{
	const struct vd_env *env = served->server->env;

	pthread_cond_destroy(&served->changed);
	pthread_mutex_destroy(&served->lock);
	env->release(env, served, sizeof(*served));
}

bool turn_is_ours(const struct served *served)
{
	return served->holder == self();
}

bool turn_take(struct served *served)
{
	if (served->holder)
		return false;
	served->holder = self();
	return true;
}

void turn_give_back(struct served *served)
{
	served->holder = NULL;
	/* Who waits for a DMA reply on a thread of his own may read for it now. */
	if (served->waits)
		pthread_cond_broadcast(&served->changed);
}

/* The next source, with the queue's reference; without one, the turn is given back. */
static struct source *next_source(struct served *served)
{
	struct source *source;

	turn_lock(served);
	source = served->first;
	if (source) {
		served->first = source->next;
		if (!served->first)
			served->last = &served->first;
		source->pending = false;
	} else {
		turn_give_back(served);
	}
	turn_unlock(served);
	return source;
}

/* What a wait for a DMA reply has read, but could not handle: no event comes for that any more. */
static void serve_rest(struct served *served)
{
	struct connection *c = served->client;

	if (c && c->read_inside) {
		c->read_inside = false;
		connection_serve(c);
	}
}

static void run(struct served *served)
{
	struct vd_host_guard guard = {.hits = 0};
	struct source *source;

	source_get(&served->source);
	vd_host_guard_enter(&guard);
	serve_rest(served);
	while ((source = next_source(served))) {
		if (source->kind == SOURCE_CLIENT)
			connection_serve((struct connection *)source);
		else
			device_serve(served);
		serve_rest(served);
		source_put(source);
		/* Relaxed: this thread's own handler has written it. */
		if (atomic_exchange_explicit(&guard.hits, 0, memory_order_relaxed) &&
		    served->client)
			connection_cut_off(served->client, "its memory is gone");
		device_watch(served);
	}
	vd_host_guard_leave(&guard);
	source_put(&served->source);
}

void turn_request(struct served *served, struct source *source)
{
	bool ours;

	turn_lock(served);
	if (!source->pending) {
		source->pending = true;
		source->next = NULL;
		*served->last = source_get(source);
		served->last = &source->next;
	}
	ours = turn_take(served);
	if (!ours && source->kind == SOURCE_CLIENT)
		connection_mute((struct connection *)source);
	turn_unlock(served);
	if (ours)
		run(served);
}

/* ---- having it done by another thread ------------------------------------------------------- */

void turn_kick(struct served *served)
{
	struct vd_user_server *server = served->server;
	static const uint64_t one = 1;

	pthread_mutex_lock(&server->lock);
	if (!served->kicked) {
		served->kicked = true;
		served->next_kicked = server->kicked;
		server->kicked = served;
		source_get(&served->source);
	}
	pthread_mutex_unlock(&server->lock);
	/* It can only fail because it is full: then it is readable as well. */
	if (write(server->kick_fd, &one, sizeof(one)) < 0)
		return;
}

void turn_kicked(struct vd_user_server *server)
{
	struct served *served;
	uint64_t count;
	bool ours;

	/* Nothing to read: another thread was faster. */
	if (read(server->kick_fd, &count, sizeof(count)) < 0)
		return;
	for (;;) {
		pthread_mutex_lock(&server->lock);
		served = server->kicked;
		if (served) {
			server->kicked = served->next_kicked;
			served->kicked = false;
		}
		pthread_mutex_unlock(&server->lock);
		if (!served)
			return;
		turn_lock(served);
		ours = turn_take(served);
		turn_unlock(served);
		if (ours)
			run(served);
		source_put(&served->source);
	}
}
