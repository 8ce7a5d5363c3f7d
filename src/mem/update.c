/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of the slot set: checked and prepared one by one, published together. All memory is
 * allocated before a change is accepted, so that commit cannot fail.
 */
#include "mem/space.h"

typedef int (*slot_order)(const struct vd_slot *a, const struct vd_slot *b);

static int base_compare(const struct vd_slot *a, const struct vd_slot *b)
{
	uint64_t p = a->config.base.value, q = b->config.base.value;

	return p < q ? -1 : p > q;
}

/* ---- sorted lists of pointers ---- */

static int list_reserve(const struct vd_env *env, const char *site, struct vd_mem_slot ***list,
			uint32_t count, uint32_t *room)
{
	uint32_t larger = *room ? *room * 2 : 16;
	struct vd_mem_slot **grown;

	if (count < *room)
		return 0;
	grown = vd_env_allocate(env, site, larger * sizeof(**list), _Alignof(void *));
	if (!grown)
		return -ENOMEM;
	if (count)
		__builtin_memcpy(grown, *list, count * sizeof(**list));
	env->release(env, *list, *room * sizeof(**list));
	*list = grown;
	*room = larger;
	return 0;
}

/* Number of entries that sort before @slot. */
static uint32_t list_position(struct vd_mem_slot *const *list, uint32_t count,
			      const struct vd_slot *slot, slot_order order)
{
	uint32_t low = 0, high = count;

	/* Boards are described in ascending order. */
	if (count && order(&list[count - 1]->shown, slot) < 0)
		return count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (order(&list[middle]->shown, slot) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void list_insert(struct vd_mem_slot **list, uint32_t *count, struct vd_mem_slot *slot,
			slot_order order)
{
	uint32_t at = list_position(list, *count, &slot->shown, order);

	__builtin_memmove(list + at + 1, list + at, (*count - at) * sizeof(*list));
	list[at] = slot;
	(*count)++;
}

static void list_take(struct vd_mem_slot **list, uint32_t *count, const struct vd_mem_slot *slot,
		      slot_order order)
{
	uint32_t at = list_position(list, *count, &slot->shown, order);

	(*count)--;
	__builtin_memmove(list + at, list + at + 1, (*count - at) * sizeof(*list));
}

static void update_insert(struct vd_mem_update *update, struct vd_mem_slot *slot)
{
	list_insert(update->added, &update->added_count, slot, base_compare);
	if (slot->shown.config.object)
		list_insert(update->mapped, &update->mapped_count, slot, vd_mapping_compare);
}

static void update_take(struct vd_mem_update *update, const struct vd_mem_slot *slot)
{
	list_take(update->added, &update->added_count, slot, base_compare);
	if (slot->shown.config.object)
		list_take(update->mapped, &update->mapped_count, slot, vd_mapping_compare);
}

/* ---- ids ---- */

static struct vd_mem_ids *ids_of(struct vd_mem *mem, bool private)
{
	return private ? &mem->private_ids : &mem->ids;
}

static struct vd_mem_slot *slot_by(const struct vd_mem_ids *ids, uint32_t index)
{
	struct vd_mem_slot *slot = index < ids->room ? ids->slots[index] : NULL;

	return slot && slot->state != VD_SLOT_LEAVING ? slot : NULL;
}

struct vd_mem_slot *vd_mem_slot_by_id(const struct vd_mem *mem, uint32_t id)
{
	return slot_by(&mem->ids, id);
}

static void id_point(struct vd_mem *mem, const struct vd_mem_slot *of, struct vd_mem_slot *slot)
{
	ids_of(mem, of->shown.config.is_private)->slots[of->shown.id & ~VD_MEM_PRIVATE_ID] = slot;
}

/* Ids come round again, but late, so that a stale one is more likely to be refused than to hit. */
static int id_take(struct vd_mem *mem, bool private, uint32_t *id)
{
	struct vd_mem_ids *ids = ids_of(mem, private);
	uint32_t tries, index;
	int r = 0;

	for (tries = 0; tries < ids->room; tries++) {
		if (++ids->cursor >= ids->room)
			ids->cursor = 1;
		if (ids->cursor < ids->room && !ids->slots[ids->cursor])
			break;
	}
	index = ids->cursor;
	if (tries == ids->room) {
		index = ids->room ? ids->room : 1;
		r = list_reserve(mem->env, "mem.ids", &ids->slots, ids->room, &ids->room);
		if (!r)
			ids->cursor = index;
	}
	*id = private ? VD_MEM_PRIVATE_ID | index : index;
	return r;
}

/* ---- checks ---- */

static const char *name_of(const struct vd_slot_config *config)
{
	return config->name ? config->name : "unnamed";
}

/* The first of the added slots, then of the old ones, that is in the way of @slot; or NULL. */
static const struct vd_slot *find_overlap(const struct vd_mem_update *update,
					  const struct vd_slot *slot,
					  const struct vd_mem_slot *except)
{
	const struct vd_mem_snapshot *old = vd_mem_current(update->mem);
	uint64_t base = slot->config.base.value, last = vd_slot_last(slot);
	uint32_t i = list_position(update->added, update->added_count, slot, base_compare);

	if (i && vd_slot_last(&update->added[i - 1]->shown) >= base)
		i--;
	for (; i < update->added_count && update->added[i]->shown.config.base.value <= last; i++)
		if (update->added[i] != except)
			return &update->added[i]->shown;
	for (i = vd_snapshot_first(old, base); i < old->count && old->starts[i] <= last; i++)
		if (old->entries[i].slot->state == VD_SLOT_LIVE && old->entries[i].slot != except)
			return &old->entries[i].slot->shown;
	return NULL;
}

static int check_overlap(const struct vd_mem_update *update, const struct vd_slot *slot,
			 const struct vd_mem_slot *except, struct vd_error *error)
{
	const struct vd_slot *other = find_overlap(update, slot, except);

	if (!other)
		return 0;
	return vd_error_set(error, -EEXIST,
			    "slot %s at 0x%llx overlaps slot %s at 0x%llx, %llu bytes",
			    name_of(&slot->config), (unsigned long long)slot->config.base.value,
			    name_of(&other->config), (unsigned long long)other->config.base.value,
			    (unsigned long long)other->config.size);
}

static int check_range(const struct vd_mem *mem, const struct vd_slot_config *config,
		       struct vd_error *error)
{
	uint64_t page_mask = ((uint64_t)1 << mem->page_shift) - 1;
	uint64_t limit = (uint64_t)1 << mem->address_bits;
	uint64_t base = config->base.value;

	if (!config->size)
		return vd_error_set(error, -EINVAL, "slot %s is empty", name_of(config));
	if (base >= limit || config->size > limit - base)
		return vd_error_set(error, -EOVERFLOW,
				    "slot %s at 0x%llx ends above the %u address bits of the guest",
				    name_of(config), (unsigned long long)base, mem->address_bits);
	if (config->kind != VD_SLOT_TRAP && ((base | config->size | config->offset) & page_mask))
		return vd_error_set(error, -EINVAL,
				    "slot %s at 0x%llx is not aligned to pages of %llu bytes",
				    name_of(config), (unsigned long long)base,
				    (unsigned long long)(page_mask + 1));
	return 0;
}

static int check_memory(const struct vd_mem *mem, const struct vd_slot_config *config,
			struct vd_error *error)
{
	uint64_t size;

	if (!config->object || config->ops)
		return vd_error_set(error, -EINVAL, "slot %s needs a memory object, no operations",
				    name_of(config));
	if (vd_host_object_host(config->object) != mem->host)
		return vd_error_set(error, -EXDEV, "slot %s: its memory belongs to another host",
				    name_of(config));
	size = vd_host_object_size(config->object);
	if (config->offset > size || config->size > size - config->offset)
		return vd_error_set(error, -ERANGE, "slot %s reaches beyond the %llu bytes of %s",
				    name_of(config), (unsigned long long)size,
				    vd_host_object_name(config->object));
	if (config->kind == VD_SLOT_RAM && vd_host_object_kind(config->object) == VD_PAGE_DEVICE)
		return vd_error_set(error, -EINVAL, "slot %s: device memory is no RAM",
				    name_of(config));
	return 0;
}

/* An internal guest has physical memory at its own address, and nothing that is emulated. */
static int check_internal(const struct vd_slot_config *config, struct vd_error *error)
{
	uint64_t start;

	if (config->kind == VD_SLOT_TRAP)
		return vd_error_set(error, -EOPNOTSUPP,
				    "slot %s: nothing traps in an internal guest", name_of(config));
	start = vd_host_object_physical(config->object);
	if (start + config->offset == config->base.value)
		return 0;
	return vd_error_set(error, -EADDRNOTAVAIL,
			    "slot %s at 0x%llx: its memory is at 0x%llx, and an internal guest has "
			    "it there", name_of(config), (unsigned long long)config->base.value,
			    (unsigned long long)(start + config->offset));
}

static int check_slot(const struct vd_mem *mem, const struct vd_slot_config *config,
		      struct vd_error *error)
{
	int r = check_range(mem, config, error);

	if (r)
		return r;
	if (config->kind == VD_SLOT_RAM || config->kind == VD_SLOT_DEVICE)
		return check_memory(mem, config, error);
	if (config->kind != VD_SLOT_TRAP || config->object || !config->ops || !config->ops->read ||
	    !config->ops->write)
		return vd_error_set(error, -EINVAL,
				    "slot %s: a trap has read and write operations, no memory",
				    name_of(config));
	return 0;
}

/* ---- changes ---- */

static uint32_t final_count(const struct vd_mem_update *update)
{
	return vd_mem_current(update->mem)->count - update->leaving_count + update->added_count;
}

static int check_count(const struct vd_mem_update *update, const struct vd_slot_config *config,
		       struct vd_error *error)
{
	uint32_t private = vd_mem_current(update->mem)->private_count +
			   (uint32_t)update->private_change;
	uint32_t limit = config->is_private ? VD_MEM_PRIVATE_SLOTS_MAX : VD_MEM_SLOTS_MAX;

	if ((config->is_private ? private : final_count(update) - private) < limit)
		return 0;
	return vd_error_set(error, -ENOSPC, "slot %s would be one more than %u", name_of(config),
			    limit);
}

/* Room for one more slot in the lists and in the snapshot to come. */
static int update_reserve(struct vd_mem_update *update)
{
	const struct vd_env *env = update->mem->env;
	uint32_t needed = final_count(update) + 1;
	struct vd_mem_snapshot *larger;

	if (list_reserve(env, "mem.added", &update->added, update->added_count,
			 &update->added_room) ||
	    list_reserve(env, "mem.mapped", &update->mapped, update->mapped_count,
			 &update->mapped_room))
		return -ENOMEM;
	if (needed <= update->reserve->capacity)
		return 0;
	if (needed < update->reserve->capacity * 2)
		needed = update->reserve->capacity * 2;
	larger = vd_snapshot_allocate(env, needed);
	if (!larger)
		return -ENOMEM;
	vd_snapshot_free(update->reserve);
	update->reserve = larger;
	return 0;
}

int vd_mem_begin(struct vd_mem *mem, struct vd_mem_update **out)
{
	struct vd_mem_update *update = &mem->update;

	if (!vd_host_is_ours(mem->host))
		return -EOWNERDEAD;
	mem->env->lock(mem->env, &mem->update_lock);
	update->reserve = vd_snapshot_allocate(mem->env, vd_mem_current(mem)->count + 1);
	if (!update->reserve) {
		mem->env->unlock(mem->env, &mem->update_lock);
		return -ENOMEM;
	}
	*out = update;
	return 0;
}

/* Frees a slot that never was visible and holds nothing. */
static void form_free(const struct vd_env *env, struct vd_mem_slot *slot)
{
	env->release(env, slot, sizeof(*slot));
}

/* Under the update lock: what somebody watches, he watches in slots that come as well. */
static int slot_watch(struct vd_mem *mem, struct vd_mem_slot *slot,
		      const struct vd_slot_config *config)
{
	struct vd_mem_watched *watched;

	if (config->kind != VD_SLOT_RAM ||
	    !atomic_load_explicit(&mem->watching, memory_order_relaxed))
		return 0;
	watched = vd_watched_create(mem->env, config->size >> mem->page_shift, mem->page_shift);
	atomic_init(&slot->shown.watched, watched);
	return watched ? 0 : -ENOMEM;
}

static int slot_create(struct vd_mem *mem, const struct vd_slot_config *config,
		       struct vd_mem_slot **out, struct vd_error *error)
{
	const struct vd_env *env = mem->env;
	struct vd_mem_slot *slot =
		vd_env_allocate(env, "mem.slot", sizeof(*slot), _Alignof(struct vd_mem_slot));
	int r = 0;

	if (!slot)
		return vd_error_set(error, -ENOMEM, "no memory for slot %s", name_of(config));
	if (config->kind == VD_SLOT_TRAP) {
		slot->users = vd_trap_users_create(env);
		if (!slot->users)
			r = vd_error_set(error, -ENOMEM, "no memory for slot %s", name_of(config));
	} else if (slot_watch(mem, slot, config)) {
		r = vd_error_set(error, -ENOMEM, "no memory for slot %s", name_of(config));
	} else {
		r = vd_host_object_hold(config->object, config->offset, config->size, error);
	}
	if (r) {
		vd_watched_free(env, atomic_load_explicit(&slot->shown.watched,
							  memory_order_relaxed));
		form_free(env, slot);
		return r;
	}
	slot->shown.config = *config;
	slot->state = VD_SLOT_ADDED;
	atomic_init(&slot->shown.valid, true);
	if (config->object)
		vd_host_object_get(config->object);
	*out = slot;
	return 0;
}

int vd_mem_add(struct vd_mem_update *update, const struct vd_slot_config *config, uint32_t *id,
	       struct vd_error *error)
{
	struct vd_slot wanted = { .config = *config };
	struct vd_mem *mem = update->mem;
	struct vd_mem_slot *slot = NULL;
	uint32_t taken;
	int r = check_slot(mem, config, error);

	if (!r && __builtin_expect(vd_mem_is_internal(mem), 0))
		r = check_internal(config, error);
	if (!r)
		r = check_overlap(update, &wanted, NULL, error);
	if (!r)
		r = check_count(update, config, error);
	if (r)
		return r;
	if (update_reserve(update) || id_take(mem, config->is_private, &taken))
		return vd_error_set(error, -ENOMEM, "no memory for slot %s", name_of(config));
	r = slot_create(mem, config, &slot, error);
	if (r)
		return r;
	slot->shown.id = taken;
	id_point(mem, slot, slot);
	update_insert(update, slot);
	update->private_change += config->is_private;
	if (id)
		*id = taken;
	return 0;
}

/* Undo an addition or a move of this update. */
static void forget_added(struct vd_mem *mem, struct vd_mem_slot *slot)
{
	id_point(mem, slot, slot->origin);
	if (slot->origin) {
		slot->origin->moved = false;
		form_free(mem->env, slot);
	} else {
		vd_slot_destroy(mem, slot);
	}
}

static int remove_slot(struct vd_mem_update *update, struct vd_mem_slot *slot)
{
	if (!slot)
		return -ENOENT;
	update->private_change -= slot->shown.config.is_private;
	if (slot->state == VD_SLOT_ADDED) {
		update_take(update, slot);
		forget_added(update->mem, slot);
	} else {
		slot->state = VD_SLOT_LEAVING;
		update->leaving_count++;
	}
	return 0;
}

int vd_mem_remove(struct vd_mem_update *update, uint32_t id)
{
	return remove_slot(update, vd_mem_slot_by_id(update->mem, id));
}

int vd_mem_remove_private(struct vd_mem_update *update, uint32_t id)
{
	if (!(id & VD_MEM_PRIVATE_ID))
		return -ENOENT;
	return remove_slot(update, slot_by(&update->mem->private_ids, id & ~VD_MEM_PRIVATE_ID));
}

static int move_live(struct vd_mem_update *update, struct vd_mem_slot *slot,
		     const struct vd_slot_config *config)
{
	const struct vd_env *env = update->mem->env;
	struct vd_mem_slot *form;

	if (update_reserve(update))
		return -ENOMEM;
	form = vd_env_allocate(env, "mem.move", sizeof(*form), _Alignof(struct vd_mem_slot));
	if (!form)
		return -ENOMEM;
	form->shown.config = *config;
	form->shown.id = slot->shown.id;
	form->users = slot->users;
	form->state = VD_SLOT_ADDED;
	form->origin = slot;
	atomic_init(&form->shown.valid, true);
	atomic_init(&form->shown.dirty,
		    atomic_load_explicit(&slot->shown.dirty, memory_order_relaxed));
	atomic_init(&form->shown.watched,
		    atomic_load_explicit(&slot->shown.watched, memory_order_relaxed));
	slot->state = VD_SLOT_LEAVING;
	slot->moved = true;
	update->leaving_count++;
	id_point(update->mem, form, form);
	update_insert(update, form);
	return 0;
}

int vd_mem_move(struct vd_mem_update *update, uint32_t id, vd_gpa base, struct vd_error *error)
{
	struct vd_mem_slot *slot = vd_mem_slot_by_id(update->mem, id);
	struct vd_slot wanted = { .id = id };
	int r;

	if (!slot)
		return vd_error_set(error, -ENOENT, "there is no slot %u", id);
	wanted.config = slot->shown.config;
	wanted.config.base = base;
	r = check_range(update->mem, &wanted.config, error);
	if (!r && __builtin_expect(vd_mem_is_internal(update->mem), 0))
		r = check_internal(&wanted.config, error);
	if (!r)
		r = check_overlap(update, &wanted, slot, error);
	if (r || base.value == slot->shown.config.base.value)
		return r;
	if (slot->state == VD_SLOT_ADDED) {
		update_take(update, slot);
		slot->shown.config.base = base;
		update_insert(update, slot);
		return 0;
	}
	r = move_live(update, slot, &wanted.config);
	return r ? vd_error_set(error, r, "no memory to move slot %s", name_of(&wanted.config)) : 0;
}

/* ---- the end of an update ---- */

static void update_close(struct vd_mem_update *update)
{
	const struct vd_env *env = update->mem->env;

	env->release(env, update->added, update->added_room * sizeof(*update->added));
	env->release(env, update->mapped, update->mapped_room * sizeof(*update->mapped));
	*update = (struct vd_mem_update){ .mem = update->mem };
	env->unlock(env, &update->mem->update_lock);
}

void vd_mem_abort(struct vd_mem_update *update)
{
	struct vd_mem *mem = update->mem;
	const struct vd_mem_snapshot *old = vd_mem_current(mem);
	uint32_t i;

	for (i = 0; i < update->added_count; i++)
		forget_added(mem, update->added[i]);
	for (i = 0; i < old->count && update->leaving_count; i++)
		old->entries[i].slot->state = VD_SLOT_LIVE;
	vd_snapshot_free(update->reserve);
	update_close(update);
}

/* Runs @fn for each stretch of neighbouring slots that leave. */
static void each_leaving(struct vd_mem *mem, const struct vd_mem_snapshot *old,
			 void (*fn)(struct vd_mem *mem, const struct vd_invalidation *event))
{
	struct vd_invalidation event = { .blockable = true, .reason = VD_INVALIDATE_SLOT };
	uint32_t i;

	for (i = 0; i < old->count; i++) {
		if (old->entries[i].slot->state != VD_SLOT_LEAVING)
			continue;
		if (event.length && event.start + event.length != old->starts[i]) {
			fn(mem, &event);
			event.length = 0;
		}
		if (!event.length)
			event.start = old->starts[i];
		event.length += old->entries[i].slot->shown.config.size;
	}
	if (event.length)
		fn(mem, &event);
}

static void run_end(struct vd_mem *mem, const struct vd_invalidation *event)
{
	vd_notifier_end(&mem->notifier, event);
}

/*
 * From the moment a range is active on the chain nothing is installed for it and checked copies of
 * it wait: that is what "published as invalid" means to everyone who follows the retry protocol,
 * and it lets them wait for the new set instead of seeing a hole; @valid says it to everyone else.
 * Mirrors are empty when start returns; read sections that found the old slots have been left after
 * synchronize.
 */
static void swap(struct vd_mem *mem, struct vd_mem_snapshot *old, struct vd_mem_snapshot *next,
		 bool leaving)
{
	uint32_t i;

	vd_gate_enter_swap(mem);
	if (leaving) {
		each_leaving(mem, old, vd_mem_run_start);
		for (i = 0; i < old->count; i++)
			if (old->entries[i].slot->state == VD_SLOT_LEAVING)
				atomic_store_explicit(&old->entries[i].slot->shown.valid, false,
						      memory_order_release);
	}
	/*
	 * Releases pair with vd_mem_current() and vd_mem_generation(); in this order, so that
	 * nothing found in the old set is ever stamped with the new generation.
	 */
	atomic_store_explicit(&mem->snapshot, next, memory_order_release);
	atomic_store_explicit(&mem->generation, next->generation, memory_order_release);
	if (leaving) {
		mem->env->synchronize(mem->env);
		each_leaving(mem, old, run_end);
	}
	vd_gate_leave_swap(mem);
}

/* Takes what left out of the id table; returns those to be destroyed as a list. */
static struct vd_mem_slot *collect_leaving(struct vd_mem *mem, const struct vd_mem_snapshot *old)
{
	struct vd_mem_slot *retired = NULL;
	uint32_t i;

	for (i = 0; i < old->count; i++) {
		struct vd_mem_slot *slot = old->entries[i].slot;

		if (slot->state != VD_SLOT_LEAVING)
			continue;
		if (slot->moved) {
			form_free(mem->env, slot);
			continue;
		}
		id_point(mem, slot, NULL);
		slot->next = retired;
		retired = slot;
	}
	return retired;
}

void vd_mem_commit(struct vd_mem_update *update)
{
	struct vd_mem *mem = update->mem;
	struct vd_mem_snapshot *old = atomic_load_explicit(&mem->snapshot, memory_order_relaxed);
	struct vd_mem_snapshot *next = update->reserve;
	bool leaving = update->leaving_count != 0;
	struct vd_mem_slot *retired = NULL, *slot;
	uint32_t i;

	for (i = 0; i < update->added_count; i++) {
		update->added[i]->state = VD_SLOT_LIVE;
		update->added[i]->origin = NULL;
	}
	vd_snapshot_merge(next, old, update->added, update->added_count, update->mapped,
			  update->mapped_count);
	next->generation = old->generation + 1;
	swap(mem, old, next, leaving);
	if (leaving) {
		retired = collect_leaving(mem, old);
		vd_snapshot_free(old);
	} else {
		vd_snapshot_retire(old);
	}
	update_close(update);
	/* Without the update lock: an operation that is waited for may want to update as well. */
	while ((slot = retired)) {
		retired = slot->next;
		if (slot->users)
			vd_trap_drain(mem, slot->users);
		vd_slot_destroy(mem, slot);
	}
}

int vd_mem_add_slot(struct vd_mem *mem, const struct vd_slot_config *slot, uint32_t *id,
		    struct vd_error *error)
{
	struct vd_mem_update *update;
	int r = vd_mem_begin(mem, &update);

	if (r)
		return vd_error_set(error, r, "no memory to add slot %s", name_of(slot));
	r = vd_mem_add(update, slot, id, error);
	if (r)
		vd_mem_abort(update);
	else
		vd_mem_commit(update);
	return r;
}

int vd_mem_remove_slot(struct vd_mem *mem, uint32_t id)
{
	struct vd_mem_update *update;
	int r = vd_mem_begin(mem, &update);

	if (r)
		return r;
	r = vd_mem_remove(update, id);
	if (r)
		vd_mem_abort(update);
	else
		vd_mem_commit(update);
	return r;
}
