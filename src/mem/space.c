/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/space.h"

#define ADDRESS_BITS_DEFAULT 50u /* Sv48x4: RISC-V privileged manual, "Hypervisor Extension" */
#define ADDRESS_BITS_MAX 63u	 /* so that an end never wraps */

static int check_config(const struct vd_mem_config *config, struct vd_error *error)
{
	if (config->page_shift && config->page_shift < vd_host_page_shift(config->host))
		return vd_error_set(error, -EINVAL,
				    "guest page shift %u is smaller than the host's %u",
				    config->page_shift, vd_host_page_shift(config->host));
	if (config->page_shift > 30)
		return vd_error_set(error, -EINVAL, "guest page shift %u is absurd; 12 to 30",
				    config->page_shift);
	if (config->address_bits > ADDRESS_BITS_MAX)
		return vd_error_set(error, -EINVAL, "%u guest address bits; at most %u",
				    config->address_bits, ADDRESS_BITS_MAX);
	if (config->internal && !vd_host_is_physical(config->host))
		return vd_error_set(error, -EINVAL, "an internal guest needs a physical host");
	return 0;
}

int vd_mem_create(const struct vd_mem_config *config, struct vd_mem **out, struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_mem_snapshot *empty;
	struct vd_mem *mem;
	int r = check_config(config, error);

	if (r)
		return r;
	if (!vd_host_is_ours(config->host))
		return vd_error_set(error, -EOWNERDEAD,
				    "the host's address space is another process's");
	mem = vd_env_allocate(env, "mem.create", sizeof(*mem), _Alignof(struct vd_mem));
	empty = mem ? vd_snapshot_allocate(env, 0) : NULL;
	if (!empty) {
		env->release(env, mem, sizeof(*mem));
		return vd_error_set(error, -ENOMEM, "no memory for a guest address space");
	}
	empty->generation = 1;
	mem->env = env;
	mem->host = vd_host_get(config->host);
	mem->window_base = vd_host_window_base(config->host);
	mem->host_page_shift = vd_host_page_shift(config->host);
	mem->page_shift = config->page_shift ? config->page_shift : mem->host_page_shift;
	mem->address_bits = config->address_bits ? config->address_bits : ADDRESS_BITS_DEFAULT;
	mem->internal = config->internal;
	mem->update.mem = mem;
	mem->host_listener.ops = &vd_mem_host_listener_ops;
	atomic_init(&mem->snapshot, empty);
	atomic_init(&mem->generation, empty->generation);
	env->lock_init(env, &mem->gate.lock);
	env->lock_init(env, &mem->update_lock);
	env->lock_init(env, &mem->watch_lock);
	vd_notifier_init(&mem->notifier, env);
	r = vd_notifier_register(vd_host_notifier(mem->host), &mem->host_listener);
	if (r) {
		vd_mem_destroy(mem);
		return vd_error_set(error, r, "the host's memory has been released");
	}
	*out = mem;
	return 0;
}

void vd_slot_destroy(struct vd_mem *mem, struct vd_mem_slot *slot)
{
	const struct vd_env *env = mem->env;

	if (slot->users)
		vd_trap_users_put(slot->users);
	if (slot->shown.config.object) {
		vd_host_object_unhold(slot->shown.config.object, slot->shown.config.offset,
				      slot->shown.config.size);
		vd_host_object_put(slot->shown.config.object);
	}
	vd_watched_free(env, atomic_load_explicit(&slot->shown.watched, memory_order_relaxed));
	vd_dirty_free(env, atomic_load_explicit(&slot->shown.dirty, memory_order_relaxed));
	env->release(env, slot, sizeof(*slot));
}

static void ids_free(const struct vd_env *env, struct vd_mem_ids *ids)
{
	env->release(env, ids->slots, ids->room * sizeof(*ids->slots));
}

void vd_mem_destroy(struct vd_mem *mem)
{
	const struct vd_env *env;
	struct vd_mem_snapshot *snapshot;
	uint32_t i;

	if (!mem)
		return;
	env = mem->env;
	vd_gate_close(mem);
	/* Also if it has left: then this waits for the release that goes on on another thread. */
	vd_notifier_unregister(vd_host_notifier(mem->host), &mem->host_listener);
	vd_notifier_release(&mem->notifier);
	env->synchronize(env);
	snapshot = atomic_load_explicit(&mem->snapshot, memory_order_relaxed);
	for (i = 0; i < snapshot->count; i++)
		vd_slot_destroy(mem, snapshot->entries[i].slot);
	vd_snapshot_free(snapshot);
	vd_dirty_ring_free(env, atomic_load_explicit(&mem->ring, memory_order_relaxed));
	vd_notifier_fini(&mem->notifier);
	ids_free(env, &mem->ids);
	ids_free(env, &mem->private_ids);
	env->lock_destroy(env, &mem->watch_lock);
	env->lock_destroy(env, &mem->update_lock);
	env->lock_destroy(env, &mem->gate.lock);
	vd_host_put(mem->host);
	env->release(env, mem, sizeof(*mem));
}

const struct vd_env *vd_mem_env(const struct vd_mem *mem)
{
	return mem->env;
}

struct vd_host *vd_mem_host(const struct vd_mem *mem)
{
	return mem->host;
}

unsigned vd_mem_page_shift(const struct vd_mem *mem)
{
	return mem->page_shift;
}

bool vd_mem_is_internal(const struct vd_mem *mem)
{
	return mem->internal;
}

struct vd_notifier *vd_mem_notifier(struct vd_mem *mem)
{
	return &mem->notifier;
}

uint64_t vd_mem_generation(const struct vd_mem *mem)
{
	/*
	 * Acquire pairs with the release in vd_mem_commit(): a lookup after it sees that set or a
	 * later one.
	 */
	return atomic_load_explicit(&mem->generation, memory_order_acquire);
}
