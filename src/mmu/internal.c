/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The map of an internal VM: private slots over physical ranges, and a table filled when they are
 * added. The update lock of its guest space orders all changes.
 *
 * A map prepares everything for all ranges (objects, slots, memory of the tables, room to note
 * them), then writes entries and publishes the slots: none of that can fail.
 */
#include <viaduct/internal.h>

#include "mmu/format.h"

#define ACCESS_ALL (VD_READ | VD_WRITE | VD_EXECUTE)

/* @id: of its slot; @object: NULL where there is no range */
struct range {
	uint64_t start, length;
	struct vd_host_object *object;
	uint32_t id;
};

/* @ranges: not in order; changed under the update lock */
struct vd_internal {
	const struct vd_env *env;
	struct vd_host *host;
	const struct vd_mmu_format *format;
	struct vd_mem *mem;
	struct vd_pgtable *table;
	struct range *ranges;
	uint32_t count, room;
	_Atomic uint64_t reserved, returned;
};

/* One range on its way in. */
struct wanted {
	const struct vd_internal_range *range;
	struct vd_host_object *object;
	struct vd_pgtable_reserve *reserve;
	struct vd_mmu_attributes attributes;
	uint32_t id;
	bool mapped;
};

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* relaxed: orders nothing */
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int check_config(const struct vd_internal_config *config, struct vd_error *error)
{
	if (!config->env || !config->host || !config->format)
		return vd_error_set(error, -EINVAL,
				    "an internal VM needs an environment, a host and a format");
	if (config->address_bits > config->format->input_bits)
		return vd_error_set(error, -EINVAL, "%u address bits; %s translates %u",
				    config->address_bits, config->format->name,
				    config->format->input_bits);
	return 0;
}

int vd_internal_create(const struct vd_internal_config *config, struct vd_internal **out,
		       struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_mem_config mem = {.env = env, .host = config->host, .internal = true};
	struct vd_pgtable_config table = {
		.env = env, .format = config->format, .flush = config->flush,
		.flush_context = config->flush_context,
	};
	struct vd_internal *vm;
	int r = check_config(config, error);

	if (r)
		return r;
	vm = vd_env_allocate(env, "internal.create", sizeof(*vm), _Alignof(struct vd_internal));
	if (!vm)
		return vd_error_set(error, -ENOMEM, "no memory for an internal VM");
	vm->env = env;
	vm->host = config->host;
	vm->format = config->format;
	mem.page_shift = table.page_shift = config->format->shift[0];
	mem.address_bits = config->address_bits ? config->address_bits
						: config->format->input_bits;
	r = vd_mem_create(&mem, &vm->mem, error);
	if (!r)
		r = vd_pgtable_create(&table, &vm->table, error);
	if (r)
		vd_internal_destroy(vm);
	else
		*out = vm;
	return r;
}

void vd_internal_destroy(struct vd_internal *vm)
{
	const struct vd_env *env;

	if (!vm)
		return;
	env = vm->env;
	vd_pgtable_destroy(vm->table);
	vd_mem_destroy(vm->mem);
	for (uint32_t i = 0; i < vm->count; i++)
		vd_host_object_put(vm->ranges[i].object);
	env->release(env, vm->ranges, vm->room * sizeof(*vm->ranges));
	env->release(env, vm, sizeof(*vm));
}

/* ---- prepare --------------------------------------------------------------------------------- */

static const char *name_of(const struct vd_internal_range *range)
{
	return range->name ? range->name : "range";
}

static int check_access(const struct vd_internal_range *range, struct vd_error *error)
{
	if (!range->access || range->access & ~ACCESS_ALL)
		return vd_error_set(error, -EINVAL, "%s: access 0x%x", name_of(range),
				    range->access);
	if (range->device && range->access & VD_EXECUTE)
		return vd_error_set(error, -EACCES, "%s: device memory is never executed",
				    name_of(range));
	return 0;
}

/* Room for @more ranges. Under the update lock. */
static int ranges_reserve(struct vd_internal *vm, unsigned more)
{
	struct range *grown;
	uint32_t room = vm->room ? vm->room : 16;

	if (more <= vm->room - vm->count)
		return 0;
	while (room - vm->count < more)
		room *= 2;
	grown = vd_env_allocate(vm->env, "internal.ranges", room * sizeof(*grown),
				_Alignof(struct range));
	if (!grown)
		return -ENOMEM;
	if (vm->count)
		__builtin_memcpy(grown, vm->ranges, vm->count * sizeof(*grown));
	vm->env->release(vm->env, vm->ranges, vm->room * sizeof(*grown));
	vm->ranges = grown;
	vm->room = room;
	return 0;
}

static int make_object(struct vd_internal *vm, struct wanted *w, struct vd_error *error)
{
	const struct vd_internal_range *range = w->range;
	unsigned flags = (range->device ? VD_HOST_DEVICE : 0) |
			 (range->access & VD_WRITE ? 0 : VD_HOST_READ_ONLY);
	struct vd_host_page page;
	int r = check_access(range, error);

	if (!r)
		r = vd_host_physical(vm->host, name_of(range), range->start, range->length, flags,
				     &w->object, error);
	if (!r)
		r = vd_host_object_lookup(w->object, 0, VD_READ, &page);
	if (r)
		return r;
	/* Used and, if writable, dirty from the start: no walker has to fault for either. */
	w->attributes = (struct vd_mmu_attributes){
		.access = range->access,
		.type = page.type,
		.accessed = true,
		.dirty = range->access & VD_WRITE,
		.device = range->device,
		.user = true,
	};
	if (!vm->format->can(&w->attributes, 0))
		return vd_error_set(error, -EINVAL, "%s: %s has no leaf of access 0x%x",
				    name_of(range), vm->format->name, range->access);
	return 0;
}

static int prepare(struct vd_internal *vm, struct vd_mem_update *update, struct wanted *w,
		   struct vd_error *error)
{
	const struct vd_internal_range *range = w->range;
	int r = make_object(vm, w, error);
	struct vd_slot_config slot = {
		.base = {range->start},
		.size = range->length,
		.kind = range->device ? VD_SLOT_DEVICE : VD_SLOT_RAM,
		.read_only = !(range->access & VD_WRITE),
		.object = w->object,
		.name = name_of(range),
		.is_private = true,
	};

	if (!r)
		r = vd_mem_add(update, &slot, &w->id, error);
	if (r)
		return r;
	r = vd_pgtable_reserve(vm->table, range->start, range->length, vm->format->block_level,
			       &w->reserve);
	if (r)
		return vd_error_set(error, r, "%s: no memory for its tables", name_of(range));
	return 0;
}

static int prepare_all(struct vd_internal *vm, struct vd_mem_update *update,
		       struct wanted *wanted, unsigned n, struct vd_error *error)
{
	int r = ranges_reserve(vm, n);

	if (r)
		return vd_error_set(error, r, "no memory to note %u ranges", n);
	for (unsigned i = 0; i < n && !r; i++)
		r = prepare(vm, update, &wanted[i], error);
	return r;
}

/* ---- commit ---------------------------------------------------------------------------------- */

/*
 * With a reserve and slots that do not overlap, what is left is an output address that the format
 * has no bits for.
 */
static int enter(struct vd_internal *vm, struct wanted *w, struct vd_error *error)
{
	const struct vd_internal_range *range = w->range;
	int r = vd_pgtable_map(vm->table, range->start, range->length, range->start,
			       &w->attributes, w->reserve);

	if (r)
		return vd_error_set(error, r, "%s: %s cannot map 0x%llx", name_of(range),
				    vm->format->name, (unsigned long long)range->start);
	w->mapped = true;
	return 0;
}

static int enter_all(struct vd_internal *vm, struct wanted *wanted, unsigned n,
		     struct vd_error *error)
{
	uint64_t pages = 0;
	int r = 0;

	for (unsigned i = 0; i < n; i++)
		pages += vd_pgtable_reserve_pages(wanted[i].reserve);
	for (unsigned i = 0; i < n && !r; i++)
		r = enter(vm, &wanted[i], error);
	if (r)
		return r;
	count(&vm->reserved, pages);
	for (unsigned i = 0; i < n; i++)
		count(&vm->returned, vd_pgtable_reserve_pages(wanted[i].reserve));
	return 0;
}

static void note_all(struct vd_internal *vm, struct wanted *wanted, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		vm->ranges[vm->count++] = (struct range){
			.start = wanted[i].range->start,
			.length = wanted[i].range->length,
			.object = wanted[i].object,
			.id = wanted[i].id,
		};
		wanted[i].object = NULL;
	}
}

static void take_back(struct vd_internal *vm, struct wanted *wanted, unsigned n)
{
	uint64_t unmapped;

	for (unsigned i = 0; i < n; i++)
		if (wanted[i].mapped)
			vd_pgtable_unmap(vm->table, wanted[i].range->start,
					 wanted[i].range->length, &unmapped);
}

int vd_internal_map(struct vd_internal *vm, const struct vd_internal_range *ranges, unsigned n,
		    struct vd_error *error)
{
	const struct vd_env *env = vm->env;
	struct vd_mem_update *update;
	struct wanted *wanted;
	int r;

	if (!n)
		return vd_error_set(error, -EINVAL, "no range to map");
	if (n > VD_MEM_PRIVATE_SLOTS_MAX)
		return vd_error_set(error, -ENOSPC, "%u ranges at once; at most %u", n,
				    VD_MEM_PRIVATE_SLOTS_MAX);
	wanted = vd_env_allocate(env, "internal.map", n * sizeof(*wanted), _Alignof(struct wanted));
	if (!wanted)
		return vd_error_set(error, -ENOMEM, "no memory for %u ranges", n);
	for (unsigned i = 0; i < n; i++)
		wanted[i].range = &ranges[i];
	r = vd_mem_begin(vm->mem, &update);
	if (r) {
		vd_error_set(error, r, "no memory to add slots");
		goto out;
	}
	r = prepare_all(vm, update, wanted, n, error);
	if (!r)
		r = enter_all(vm, wanted, n, error);
	if (r)
		take_back(vm, wanted, n);
	else
		note_all(vm, wanted, n);
	if (r)
		vd_mem_abort(update);
	else
		vd_mem_commit(update);
out:
	for (unsigned i = 0; i < n; i++) {
		vd_pgtable_reserve_drop(vm->table, wanted[i].reserve);
		vd_host_object_put(wanted[i].object);
	}
	env->release(env, wanted, n * sizeof(*wanted));
	return r;
}

/* The table goes first: the guest reaches nothing that no slot says it has. */
int vd_internal_unmap(struct vd_internal *vm, uint64_t start)
{
	struct vd_mem_update *update;
	struct range range = {0};
	uint64_t unmapped;
	int r = vd_mem_begin(vm->mem, &update);

	if (r)
		return r;
	for (uint32_t i = 0; i < vm->count; i++)
		if (vm->ranges[i].start == start)
			range = vm->ranges[i];
	r = range.object ? vd_mem_remove_private(update, range.id) : -ENOENT;
	/* Its own leaves only, none of which sticks out: nothing is split. */
	if (!r)
		r = vd_pgtable_unmap(vm->table, range.start, range.length, &unmapped);
	if (r) {
		vd_mem_abort(update);
		return r;
	}
	for (uint32_t i = 0; i < vm->count; i++)
		if (vm->ranges[i].start == start)
			vm->ranges[i--] = vm->ranges[--vm->count];
	vd_mem_commit(update);
	vd_host_object_put(range.object);
	return 0;
}

/* ---- questions ------------------------------------------------------------------------------- */

struct vd_mem *vd_internal_mem(struct vd_internal *vm)
{
	return vm->mem;
}

struct vd_pgtable *vd_internal_table(struct vd_internal *vm)
{
	return vm->table;
}

void vd_internal_stats(struct vd_internal *vm, struct vd_internal_stats *stats)
{
	struct vd_pgtable_stats table;

	vd_pgtable_stats(vm->table, &table);
	*stats = (struct vd_internal_stats){
		.ranges = vd_mem_private_count(vm->mem),
		.mapped_bytes = table.mapped_bytes,
		.table_pages = table.table_pages,
		.reserved = atomic_load_explicit(&vm->reserved, memory_order_relaxed),
		.returned = atomic_load_explicit(&vm->returned, memory_order_relaxed),
	};
}
