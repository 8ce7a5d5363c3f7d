/* SPDX-License-Identifier: BSD-2-Clause */
/* What epoll reports, by number: the table of sources, and how long they live. */
#include <sys/epoll.h>
#include <unistd.h>

#include "transport/user/server.h"

/* The number of a slot's present source: never 0, and another one each time. */
static uint64_t id_of(const struct vd_user_server *server, uint32_t slot)
{
	return (uint64_t)server->slots[slot].generation << 32 | (slot + 1);
}

/* Server lock held. Return: a free slot, or UINT32_MAX without memory. */
static uint32_t free_slot(struct vd_user_server *server)
{
	const struct vd_env *env = server->env;
	uint32_t count = server->slot_count, room = count ? 2 * count : 16;
	struct source_slot *slots;

	for (uint32_t i = 0; i < count; i++)
		if (!server->slots[i].source)
			return i;
	slots = vd_env_allocate(env, "user.sources", room * sizeof(*slots),
				_Alignof(struct source_slot));
	if (!slots)
		return UINT32_MAX;
	for (uint32_t i = 0; i < count; i++)
		slots[i] = server->slots[i];
	env->release(env, server->slots, count * sizeof(*slots));
	server->slots = slots;
	server->slot_count = room;
	return count;
}

int source_add(struct vd_user_server *server, struct source *source)
{
	uint32_t slot;

	pthread_mutex_lock(&server->lock);
	slot = free_slot(server);
	if (slot != UINT32_MAX) {
		server->slots[slot].source = source;
		server->slots[slot].generation++;
		atomic_store_explicit(&source->id, id_of(server, slot), memory_order_relaxed);
	}
	pthread_mutex_unlock(&server->lock);
	return slot == UINT32_MAX ? -ENOMEM : 0;
}

void source_remove(struct vd_user_server *server, struct source *source)
{
	uint64_t id;

	pthread_mutex_lock(&server->lock);
	id = source_id(source);
	if (id)
		server->slots[(uint32_t)id - 1].source = NULL;
	atomic_store_explicit(&source->id, 0, memory_order_relaxed);
	pthread_mutex_unlock(&server->lock);
	if (id)
		source_put(source);
}

struct source *source_find(struct vd_user_server *server, uint64_t id)
{
	uint32_t slot = (uint32_t)id - 1;
	struct source *source = NULL;

	pthread_mutex_lock(&server->lock);
	if (slot < server->slot_count && id_of(server, slot) == id && server->slots[slot].source)
		source = source_get(server->slots[slot].source);
	pthread_mutex_unlock(&server->lock);
	return source;
}

struct source *source_get(struct source *source)
{
	atomic_fetch_add_explicit(&source->references, 1, memory_order_relaxed);
	return source;
}

static void export_free(struct source *source)
{
	struct vd_user_export *export = (struct vd_user_export *)source;
	const struct vd_env *env = export->server->env;

	if (export->fd >= 0)
		close(export->fd);
	env->release(env, export, sizeof(*export));
}

void source_put(struct source *source)
{
	/* acq_rel: the last one sees what all others did before they let go */
	if (atomic_fetch_sub_explicit(&source->references, 1, memory_order_acq_rel) != 1)
		return;
	if (source->kind == SOURCE_LISTEN)
		export_free(source);
	else if (source->kind == SOURCE_CLIENT)
		connection_free((struct connection *)source);
	else if (source->kind == SOURCE_DEVICE)
		turn_free((struct served *)source);
}

int source_watch(const struct vd_user_server *server, const struct source *source, int fd,
		 uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = source_id(source)};

	/* Mostly it is there already. A number may be that of another descriptor by now. */
	if (!epoll_ctl(server->epoll, EPOLL_CTL_MOD, fd, &event))
		return 0;
	if (errno == ENOENT && !epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event))
		return 0;
	return -errno;
}

void source_forget(const struct vd_user_server *server, int fd)
{
	struct epoll_event none = {.events = 0};

	(void)epoll_ctl(server->epoll, EPOLL_CTL_DEL, fd, &none);
}
