/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every host and every object has, whatever lies behind it: references, a list, a chain, the
 * end. Freestanding; what a process adds (windows, descriptors, locked memory) comes through
 * struct host_backing, and a physical host has none.
 */
#include "host/object.h"

/* ---- hosts ----------------------------------------------------------- */

/* Changes that found nobody listening hold one of these: see change_begin(). */
static void wait_changes(struct vd_notifier *notifier)
{
	struct vd_host *host = (struct vd_host *)((char *)notifier -
						  offsetof(struct vd_host, notifier));

	for (unsigned i = 0; i < CHANGE_LOCKS; i++) {
		host->env->lock(host->env, &host->change_locks[i]);
		host->env->unlock(host->env, &host->change_locks[i]);
	}
}

void host_open(struct vd_host *host)
{
	const struct vd_env *env = host->env;

	atomic_init(&host->references, 1);
	env->lock_init(env, &host->lock);
	env->lock_init(env, &host->holds.lock);
	for (unsigned i = 0; i < CHANGE_LOCKS; i++)
		env->lock_init(env, &host->change_locks[i]);
	vd_notifier_init(&host->notifier, env);
	host->notifier.wait_changes = wait_changes;
}

struct vd_host *vd_host_get(struct vd_host *host)
{
	/* relaxed: who adds one has one, so nothing can be missed */
	atomic_fetch_add_explicit(&host->references, 1, memory_order_relaxed);
	return host;
}

void vd_host_put(struct vd_host *host)
{
	const struct vd_env *env;

	if (!host)
		return;
	env = host->env;
	/* acq_rel: the last one sees what all others did before they let go */
	if (atomic_fetch_sub_explicit(&host->references, 1, memory_order_acq_rel) != 1)
		return;
	vd_notifier_fini(&host->notifier);
	for (unsigned i = 0; i < CHANGE_LOCKS; i++)
		env->lock_destroy(env, &host->change_locks[i]);
	env->lock_destroy(env, &host->holds.lock);
	env->lock_destroy(env, &host->lock);
	if (host->backing)
		host->backing->free_host(host);
	if (host->physical)
		physical_map_free(env, host->physical);
	env->release(env, host, sizeof(*host));
}

/* Objects that live on become empty before the window goes. */
static void empty_objects(struct vd_host *host)
{
	host->env->lock(host->env, &host->lock);
	host->destroyed = true;
	for (struct vd_host_object *object = host->objects; object; object = object->next)
		/* release: pairs with vd_host_object_lookup() */
		atomic_store_explicit(&object->address, ADDRESS_NONE, memory_order_release);
	host->env->unlock(host->env, &host->lock);
}

/* Lock held: nobody else is there any more. */
static void free_abandoned(struct vd_host *host)
{
	struct vd_host_object *object, *next;

	for (object = host->objects; object; object = next) {
		next = object->next;
		if (!object->abandoned)
			continue;
		*object->link = next;
		if (next)
			next->link = object->link;
		object_free(object);
	}
}

void vd_host_destroy(struct vd_host *host)
{
	if (!host)
		return;
	vd_notifier_release(&host->notifier);
	empty_objects(host);
	host->env->synchronize(host->env);
	if (host->backing)
		host->backing->close_host(host);
	host->env->lock(host->env, &host->lock);
	free_abandoned(host);
	host->env->unlock(host->env, &host->lock);
	vd_host_put(host);
}

const struct vd_env *vd_host_env(const struct vd_host *host)
{
	return host->env;
}

unsigned vd_host_page_shift(const struct vd_host *host)
{
	return host->page_shift;
}

struct vd_notifier *vd_host_notifier(struct vd_host *host)
{
	return &host->notifier;
}

uintptr_t vd_host_window_base(const struct vd_host *host)
{
	return host->window_base;
}

bool vd_host_is_ours(const struct vd_host *host)
{
	return *host->ours != 0;
}

const volatile uint32_t *vd_host_ours(const struct vd_host *host)
{
	return host->ours;
}

bool vd_host_is_physical(const struct vd_host *host)
{
	return host->physical != NULL;
}

/* ---- changes --------------------------------------------------------- */

/*
 * When nobody listens, that costs a load and a branch: the question is asked again under the lock,
 * and who came to listen after that passes through the lock before it looks anything up.
 */
int change_begin(struct vd_host_object *object, const struct vd_invalidation *event, bool *told)
{
	struct vd_host *host = object->host;
	int result;

	*told = vd_notifier_armed(&host->notifier);
	for (;;) {
		result = *told ? vd_notifier_start(&host->notifier, event) : 0;
		if (result)
			return result;
		host->env->lock(host->env, object->lock);
		if (*told || !vd_notifier_armed(&host->notifier))
			return 0;
		host->env->unlock(host->env, object->lock);
		*told = true;
	}
}

void change_end(struct vd_host_object *object, const struct vd_invalidation *event, bool told)
{
	struct vd_host *host = object->host;

	host->env->unlock(host->env, object->lock);
	if (told)
		vd_notifier_end(&host->notifier, event);
}

/* ---- objects --------------------------------------------------------- */

static void copy_name(char *to, size_t room, const char *from)
{
	size_t i = 0;

	for (; from && from[i] && i + 1 < room; i++)
		to[i] = from[i];
	to[i] = '\0';
}

int object_check_size(const struct vd_host *host, uint64_t size, unsigned granule_shift,
		      const char *name, struct vd_error *error)
{
	/* frames are counted in 32 bits */
	uint64_t limit = UINT64_C(1) << (31 + host->page_shift);

	if (!vd_host_is_ours(host))
		return vd_error_set(error, -EOWNERDEAD, "%s: the host's address space is another "
				    "process's", name);
	if (size == 0 || size & ((UINT64_C(1) << granule_shift) - 1) || size > limit)
		return vd_error_set(error, -EINVAL,
				    "%s: size 0x%lx is not a multiple of 0x%lx between 1 and 0x%lx",
				    name, (unsigned long)size, 1ul << granule_shift,
				    (unsigned long)limit);
	return 0;
}

struct vd_host_object *object_new(struct vd_host *host, const char *name, uint64_t size,
				  unsigned flags)
{
	struct vd_host_object *object =
		vd_env_allocate(host->env, "host.object", sizeof(*object),
				_Alignof(struct vd_host_object));

	if (!object)
		return NULL;
	copy_name(object->name, sizeof(object->name), name);
	object->host = host;
	object->size = size;
	object->pages = size >> host->page_shift;
	object->frames = object->pages;
	object->kind = VD_PAGE_RAM;
	object->type = VD_MEMORY_NORMAL;
	object->flags = flags;
	object->granule_shift = host->page_shift;
	object->fd = -1;
	object->guard_slot = -1;
	atomic_init(&object->references, 1);
	/* relaxed: any lock will do */
	object->lock = &host->change_locks[atomic_fetch_add_explicit(&host->objects_made, 1,
								     memory_order_relaxed) %
					   CHANGE_LOCKS];
	vd_host_get(host);
	return object;
}

void object_free(struct vd_host_object *object)
{
	struct vd_host *host = object->host;

	if (host->backing)
		host->backing->close_object(object);
	pages_free(object);
	host->env->release(host->env, object, sizeof(*object));
	vd_host_put(host);
}

static void free_deferred(struct vd_deferred *item)
{
	object_free((struct vd_host_object *)((char *)item -
					      offsetof(struct vd_host_object, deferred)));
}

int object_publish(struct vd_host_object *object, uintptr_t address)
{
	struct vd_host *host = object->host;
	bool destroyed;

	atomic_init(&object->address, address);
	host->env->lock(host->env, &host->lock);
	destroyed = host->destroyed;
	if (!destroyed) {
		object->next = host->objects;
		object->link = &host->objects;
		if (object->next)
			object->next->link = &object->next;
		host->objects = object;
	}
	host->env->unlock(host->env, &host->lock);
	return destroyed ? -ESHUTDOWN : 0;
}

struct vd_host_object *vd_host_object_get(struct vd_host_object *object)
{
	atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
	return object;
}

/* Every mirror drops the object; then lookups find nothing. */
static int object_empty(struct vd_host_object *object)
{
	struct vd_invalidation event = {.object = object, .length = object->size,
					.blockable = true, .reason = VD_INVALIDATE_UNMAP};
	bool told;
	int result = change_begin(object, &event, &told);

	if (result)
		return result;
	/* release: pairs with vd_host_object_lookup() */
	atomic_store_explicit(&object->address, ADDRESS_NONE, memory_order_release);
	change_end(object, &event, told);
	return 0;
}

/*
 * Takes the object off the host's list, unless its memory is @used: by a device that still writes
 * there, say. That must not be used for anything else as long as the host is there.
 */
static bool object_withdraw(struct vd_host_object *object, bool used)
{
	struct vd_host *host = object->host;

	host->env->lock(host->env, &host->lock);
	object->abandoned = used && !host->destroyed;
	if (!object->abandoned) {
		*object->link = object->next;
		if (object->next)
			object->next->link = object->link;
	}
	used = object->abandoned;
	host->env->unlock(host->env, &host->lock);
	return !used;
}

void vd_host_object_put(struct vd_host_object *object)
{
	struct vd_host *host;

	/* acq_rel: the last one sees what all others did before they let go */
	if (!object ||
	    atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) != 1)
		return;
	host = vd_host_get(object->host);
	if (!object_withdraw(object, object_empty(object) != 0)) {
		if (host->env->log)
			host->env->log(host->env, VD_LOG_ERROR,
				       "host: memory still in use is kept until the host goes");
		vd_host_put(host);
		return;
	}
	if (host->backing)
		host->backing->unmap(object);
	/* a lookup that began before may still read the page state */
	host->env->defer(host->env, &object->deferred, free_deferred);
	vd_host_put(host);
}

uint64_t vd_host_object_size(const struct vd_host_object *object)
{
	return object->size;
}

enum vd_page_kind vd_host_object_kind(const struct vd_host_object *object)
{
	return object->kind;
}

const char *vd_host_object_name(const struct vd_host_object *object)
{
	return object->name;
}

struct vd_host *vd_host_object_host(const struct vd_host_object *object)
{
	return object->host;
}

int vd_host_object_discard(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool blockable)
{
	if (vd_host_is_physical(object->host))
		return -EOPNOTSUPP;
	return object->host->backing->discard(object, offset, length, blockable);
}

/* ---- holds ----------------------------------------------------------- */

static bool may_change_unannounced(const struct vd_host_object *object)
{
	return object->private && !object->watched && !(object->flags & VD_HOST_ANNOUNCED);
}

int vd_host_object_hold(struct vd_host_object *object, uint64_t offset, uint64_t length,
			struct vd_error *error)
{
	if (!vd_host_is_ours(object->host))
		return vd_error_set(error, -EOWNERDEAD, "%s: its address space is another "
				    "process's", object->name);
	if (!may_change_unannounced(object))
		return 0;
	return object->host->backing->hold(object, offset, length, error);
}

void vd_host_object_unhold(struct vd_host_object *object, uint64_t offset, uint64_t length)
{
	if (may_change_unannounced(object))
		object->host->backing->unhold(object, offset, length);
}
