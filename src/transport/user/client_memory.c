/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's memory as the server knows it: a mirror that sleeps. What is in the list was
 * announced, in the same order, on the socket; what leaves is taken from the list when the server
 * has said that it let go.
 */
#include <string.h>

#include "transport/user/client.h"

static struct user_client *client_of(struct vd_listener *listener)
{
	return (struct user_client *)((char *)listener -
				      offsetof(struct user_client, memory.listener));
}

static void lock(struct client_memory *memory)
{
	pthread_mutex_lock(&memory->lock);
}

static void unlock(struct client_memory *memory)
{
	pthread_mutex_unlock(&memory->lock);
}

/* ---- the list, lock held -------------------------------------------------------------------- */

/* The first that ends at or behind @at. */
static size_t find(const struct client_memory *memory, uint64_t at)
{
	size_t low = 0, high = memory->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memory->maps[middle].last < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct client_map *map_at(struct client_memory *memory, uint64_t start)
{
	size_t i = find(memory, start);

	return i < memory->count && memory->maps[i].start == start ? &memory->maps[i] : NULL;
}

static int grow(struct user_client *client)
{
	struct client_memory *memory = &client->memory;
	size_t room = memory->room ? 2 * memory->room : 16;
	struct client_map *maps = vd_env_allocate(client->env, "user.maps", room * sizeof(*maps),
						  _Alignof(struct client_map));

	if (!maps)
		return -ENOMEM;
	if (memory->count)
		memcpy(maps, memory->maps, memory->count * sizeof(*maps));
	client->env->release(client->env, memory->maps, memory->room * sizeof(*maps));
	memory->maps = maps;
	memory->room = room;
	return 0;
}

static int insert(struct user_client *client, const struct client_map *map)
{
	struct client_memory *memory = &client->memory;
	size_t i = find(memory, map->start);
	int r = 0;

	if (memory->closed)
		return -ESHUTDOWN;
	if (memory->count >= client->info.maps_max)
		return -ENOSPC;
	if (memory->count == memory->room)
		r = grow(client);
	if (r)
		return r;
	memmove(memory->maps + i + 1, memory->maps + i, (memory->count - i) * sizeof(*map));
	memory->maps[i] = *map;
	memory->count++;
	return 0;
}

static void erase(struct client_memory *memory, uint64_t start)
{
	struct client_map *map = map_at(memory, start);

	if (!map)
		return;
	memory->count--;
	memmove(map, map + 1, (size_t)(memory->maps + memory->count - map) * sizeof(*map));
	/* The slot may still be there, or be there again. */
	atomic_store_explicit(&memory->generation, 0, memory_order_relaxed);
	pthread_cond_broadcast(&memory->changed);
}

bool user_client_memory_allows(struct user_client *client, uint64_t start, uint64_t length,
			       unsigned access)
{
	struct client_memory *memory = &client->memory;
	uint64_t end, at = start;
	bool good = client->memory.space && vd_range_end(start, length, &end);

	if (!good)
		return false;
	lock(memory);
	for (size_t i = find(memory, start); good && at - start < length; i++) {
		const struct client_map *map = i < memory->count ? &memory->maps[i] : NULL;

		good = map && map->start <= at && map->access & access && !map->leaving;
		if (good)
			at = map->last + 1;
	}
	unlock(memory);
	return good;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Memory lock held, for the order. */
static int send_map(struct user_client *client, struct client_call *call,
		    const struct client_map *map, int fd, uint64_t fd_offset)
{
	struct user_dma_map payload = {
		.argsz = sizeof(payload),
		.flags = (map->access & VD_READ ? USER_DMA_READABLE : 0) |
			 (map->access & VD_WRITE ? USER_DMA_WRITABLE : 0),
		.offset = fd_offset,
		.address = map->start,
		.size = map->last - map->start + 1,
	};
	struct client_request request = {
		.command = USER_DMA_MAP, .parts = {{&payload, sizeof(payload)}}, .part_count = 1,
		.fds = &fd, .fd_count = fd >= 0,
	};

	return user_client_send(client, call, &request);
}

static int send_unmap(struct user_client *client, struct client_call *call,
		      const struct client_map *map)
{
	struct user_dma_unmap payload = {
		.argsz = sizeof(payload),
		.address = map->start,
		.size = map->last - map->start + 1,
	};
	struct client_request request = {
		.command = USER_DMA_UNMAP, .parts = {{&payload, sizeof(payload)}}, .part_count = 1,
	};

	return user_client_send(client, call, &request);
}

static int finish(struct user_client *client, struct client_call *call, unsigned limits)
{
	int r = user_client_wait(client, call, limits);

	user_client_close_call(call);
	return r;
}

/* ---- what is added -------------------------------------------------------------------------- */

/* A slot as the walk found it; its object is referenced. */
struct seen {
	uint64_t base, size, offset;
	struct vd_host_object *object;
	bool ram, read_only;
};

struct walk {
	struct seen *slots;
	size_t count, room;
};

static int see(void *context, const struct vd_slot *slot)
{
	const struct vd_slot_config *config = &slot->config;
	struct walk *walk = context;

	if (config->kind == VD_SLOT_TRAP)
		return 0;
	if (walk->count == walk->room)
		return -EAGAIN;
	walk->slots[walk->count++] = (struct seen){
		.base = config->base.value, .size = config->size, .offset = config->offset,
		.object = vd_host_object_get(config->object),
		.ram = config->kind == VD_SLOT_RAM, .read_only = config->read_only,
	};
	return 0;
}

static void forget(struct user_client *client, struct walk *walk)
{
	for (size_t i = 0; i < walk->count; i++)
		vd_host_object_put(walk->slots[i].object);
	client->env->release(client->env, walk->slots, walk->room * sizeof(*walk->slots));
	*walk = (struct walk){.slots = NULL};
}

static int look(struct user_client *client, struct walk *walk)
{
	const struct vd_env *env = client->env;
	struct vd_mem *mem = client->memory.mem;
	int r;

	do {
		forget(client, walk);
		walk->room = vd_mem_slot_count(mem) + 16;
		walk->slots = vd_env_allocate(env, "user.slots", walk->room * sizeof(*walk->slots),
					      _Alignof(struct seen));
		if (!walk->slots) {
			walk->room = 0;
			return -ENOMEM;
		}
		r = vd_mem_each(mem, see, walk);
	} while (r == -EAGAIN);
	return r;
}

/*
 * How to announce what is at @at of a slot, lock held.
 * Return: 0 with @map, @fd and @fd_offset; -EAGAIN it is about to change; -EEXIST with @map: known
 */
static int plan(struct user_client *client, const struct seen *slot, uint64_t at, uint64_t seq,
		struct client_map *map, int *fd, uint64_t *fd_offset)
{
	struct client_memory *memory = &client->memory;
	uint64_t left = slot->size - (at - slot->base), run = left;
	const struct client_map *known = map_at(memory, at);

	if (known) {
		*map = *known;
		return known->leaving ? -EAGAIN : -EEXIST;
	}
	if (vd_notifier_retry(vd_mem_notifier(memory->mem), seq, slot->base, slot->size))
		return -EAGAIN;
	*fd = -1;
	*fd_offset = 0;
	if (slot->ram && !slot->read_only)
		*fd = vd_host_object_fd_range(slot->object, slot->offset + (at - slot->base),
					      fd_offset, &run);
	if (*fd < 0) {
		*fd = -1;
		*fd_offset = 0;
		run = left;
	}
	*map = (struct client_map){
		.start = at, .last = at + ((run < left ? run : left) - 1), .shared = *fd >= 0,
		.access = slot->read_only ? VD_READ : VD_READ | VD_WRITE,
	};
	return 0;
}

/* A piece of a slot. @next is set to what follows it. */
static int announce_piece(struct user_client *client, const struct seen *slot, uint64_t at,
			  uint64_t seq, uint64_t *next)
{
	struct client_memory *memory = &client->memory;
	struct client_call call = {.reply = NULL};
	struct client_map map;
	uint64_t fd_offset;
	unsigned epoch;
	int fd, r;

	lock(memory);
	epoch = memory->epoch;
	r = plan(client, slot, at, seq, &map, &fd, &fd_offset);
	if (!r)
		r = insert(client, &map);
	if (!r) {
		r = send_map(client, &call, &map, fd, fd_offset);
		if (r)
			erase(memory, map.start);
	}
	unlock(memory);
	if (r == -EEXIST || !r)
		*next = map.last + 1;
	if (r)
		return r == -EEXIST ? 0 : r;
	r = finish(client, &call, 1);
	if (r) {
		struct client_map *refused;

		lock(memory);
		refused = map_at(memory, map.start);
		/* Else an invalidation is at it. */
		if (refused && !refused->leaving && memory->epoch == epoch)
			erase(memory, map.start);
		unlock(memory);
	}
	return r;
}

static int announce(struct user_client *client, const struct seen *slot, uint64_t seq)
{
	uint64_t at = slot->base;
	int r = 0;

	while (at - slot->base < slot->size && !r)
		r = announce_piece(client, slot, at, seq, &at);
	return r;
}

int user_client_memory_sync(struct user_client *client)
{
	struct client_memory *memory = &client->memory;
	/* First, so that what is looked at is at least as new. */
	uint64_t generation = vd_mem_generation(memory->mem);
	uint64_t seq = vd_notifier_begin(vd_mem_notifier(memory->mem));
	struct walk walk = {.slots = NULL};
	bool again = false;
	int failed = 0, r = look(client, &walk);

	if (r)
		return r;
	for (size_t i = 0; i < walk.count; i++) {
		r = announce(client, &walk.slots[i], seq);
		if (r == -EAGAIN)
			again = true;
		else if (r)
			failed = r;
	}
	/* What the server refuses it is not offered at each access. */
	if (!again)
		atomic_store_explicit(&memory->generation, generation, memory_order_relaxed);
	forget(client, &walk);
	return failed;
}

/* ---- what goes ------------------------------------------------------------------------------ */

static bool concerns(const struct client_map *map, const struct vd_invalidation *event)
{
	return vd_ranges_overlap(map->start, map->last - map->start + 1, event->start,
				 event->length) &&
	       (map->shared || event->reason == VD_INVALIDATE_SLOT);
}

static struct client_map *first_concerned(struct client_memory *memory,
					  const struct vd_invalidation *event)
{
	for (size_t i = find(memory, event->start); i < memory->count; i++) {
		if (concerns(&memory->maps[i], event))
			return &memory->maps[i];
		if (memory->maps[i].start > event->start + (event->length - 1))
			break;
	}
	return NULL;
}

static bool keeps_messages(enum vd_invalidate_reason reason)
{
	return reason == VD_INVALIDATE_PROTECT || reason == VD_INVALIDATE_WRITE_PROTECT;
}

/*
 * The server loses a map, or its descriptor. Lock held, but not while it is waited for. An access
 * of the server that comes from now on fails, or waits as long as the change does.
 */
static void take(struct user_client *client, struct client_map *map, bool keep)
{
	struct client_memory *memory = &client->memory;
	struct client_call call = {.reply = NULL}, again = {.reply = NULL};
	struct client_map was = *map;
	unsigned epoch = memory->epoch;
	bool sent = false;
	int r;

	map->leaving = true;
	r = send_unmap(client, &call, &was);
	unlock(memory);
	if (!r)
		r = finish(client, &call, CLIENT_SLOW);
	if (r && r != -ENOENT && !user_client_dead(client))
		user_client_fail(client, r, "does not give memory back: 0x%llx",
				 (unsigned long long)was.start);
	lock(memory);
	/* Another server has been told of what is there now. */
	if (memory->epoch != epoch)
		return;
	erase(memory, was.start);
	was.shared = false;
	if (keep && !insert(client, &was)) {
		sent = !send_map(client, &again, &was, -1, 0);
		if (!sent)
			erase(memory, was.start);
	}
	if (!sent)
		return;
	unlock(memory);
	finish(client, &again, 1);
	lock(memory);
}

static int invalidate_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct user_client *client = client_of(listener);
	struct client_memory *memory = &client->memory;
	struct client_map *map;
	int r = 0;

	/*
	 * What is discarded is discarded for the server as well, which maps the same object. While
	 * a device is reset its memory is reached by nobody: messages to it fail.
	 */
	if (event->reason == VD_INVALIDATE_DISCARD || event->reason == VD_INVALIDATE_RESET)
		return 0;
	lock(memory);
	map = first_concerned(memory, event);
	if (map && event->reason == VD_INVALIDATE_MOVE)
		r = user_client_dead(client) == -ECONNRESET ? 0 : -EBUSY;
	else if (map && !event->blockable)
		r = -EAGAIN;
	while (!r && map && event->reason != VD_INVALIDATE_MOVE) {
		if (map->leaving)
			pthread_cond_wait(&memory->changed, &memory->lock);
		else
			take(client, map, keeps_messages(event->reason));
		map = first_concerned(memory, event);
	}
	unlock(memory);
	return r;
}

static void release(struct vd_listener *listener)
{
	struct user_client *client = client_of(listener);
	struct client_memory *memory = &client->memory;
	struct vd_invalidation all = {.length = UINT64_MAX, .reason = VD_INVALIDATE_SLOT};
	struct client_map *map;

	lock(memory);
	memory->closed = true;
	while ((map = first_concerned(memory, &all))) {
		if (map->leaving)
			pthread_cond_wait(&memory->changed, &memory->lock);
		else
			take(client, map, false);
	}
	unlock(memory);
	vd_notifier_unregister(vd_mem_notifier(memory->mem), listener);
	atomic_store(&memory->listens, false);
}

static const struct vd_listener_ops listener_ops = {
	.invalidate_start = invalidate_start,
	.release = release,
};

/* ---- beginning and end ---------------------------------------------------------------------- */

int user_client_memory_follow(struct user_client *client, struct vd_error *error)
{
	struct client_memory *memory = &client->memory;
	int r;

	memory->listener.ops = &listener_ops;
	r = vd_notifier_register(vd_mem_notifier(memory->mem), &memory->listener);
	if (r)
		return vd_error_set(error, r, "the guest's memory has been released");
	atomic_store(&memory->listens, true);
	r = user_client_memory_sync(client);
	if (r)
		vd_error_set(error, r, "vfio-user %s: the server does not take the guest's memory "
			     "(%zu of %zu slots)", client->name, memory->count,
			     vd_mem_slot_count(memory->mem));
	return r;
}

void user_client_memory_forget(struct user_client *client)
{
	struct client_memory *memory = &client->memory;

	lock(memory);
	memory->epoch++;
	memory->count = 0;
	atomic_store_explicit(&memory->generation, 0, memory_order_relaxed);
	pthread_cond_broadcast(&memory->changed);
	unlock(memory);
}

void user_client_memory_fini(struct user_client *client)
{
	struct client_memory *memory = &client->memory;

	if (atomic_load(&memory->listens))
		vd_notifier_unregister(vd_mem_notifier(memory->mem), &memory->listener);
	client->env->release(client->env, memory->maps, memory->room * sizeof(*memory->maps));
	memory->maps = NULL;
	memory->count = memory->room = 0;
}
