/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's side of `viaduct map`: its memory as one JSON object. The guest runs on meanwhile:
 * slots are copied in one read section, the tables looked at piece by piece, and nothing is
 * cleared, so what is said of different pages is not of one moment.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/map.h"
#include "cli/run.h"

/* So much of the guest is looked at under one hold of the tables' lock. */
#define PIECE (64ull << 20)

struct cell {
	uint64_t bytes[MAP_CELL_FIELDS];
};

struct slots {
	unsigned count, memory, more;
	struct entry {
		struct vd_slot_config config;
		uint32_t id;
		bool logged;
	} entry[MAP_SLOTS_MAX];
};

static void add(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
	if (text)
		json_object_object_add(object, key, json_object_new_string(text));
}

static void add_flag(struct json_object *object, const char *key, bool flag)
{
	json_object_object_add(object, key, json_object_new_boolean(flag));
}

/* ---- slots ----------------------------------------------------------- */

/* References keep the objects when the slots go; names are not kept: they are copied at once. */
static int take_slot(void *context, const struct vd_slot *slot)
{
	struct slots *slots = context;
	struct entry *entry = &slots->entry[slots->count];

	if (slots->count == MAP_SLOTS_MAX) {
		slots->more++;
		return 0;
	}
	entry->config = slot->config;
	entry->config.name = strdup(slot->config.name ? slot->config.name : "");
	entry->config.reason = slot->config.reason ? strdup(slot->config.reason) : NULL;
	entry->id = slot->id;
	entry->logged = atomic_load(&slot->dirty) != NULL;
	if (slot->config.object) {
		vd_host_object_get(slot->config.object);
		slots->memory++;
	}
	slots->count++;
	return 0;
}

static void drop_slots(struct slots *slots)
{
	for (unsigned i = 0; i < slots->count; i++) {
		struct vd_slot_config *config = &slots->entry[i].config;

		free((char *)(uintptr_t)config->name);
		free((char *)(uintptr_t)config->reason);
		vd_host_object_put(config->object);
	}
	free(slots);
}

/* ---- pages ----------------------------------------------------------- */

struct pages {
	const struct vd_slot_config *config;
	uint64_t cell_size, count;
	struct cell *cells;
	uint64_t leaves[3]; /* 4 KiB, 2 MiB, 1 GiB; counted once, where they start */
	uint64_t piece, piece_end;
};

/* Smallest cells of which there are at most @most: a page, or a power of two times that. */
static uint64_t cell_size(uint64_t size, uint64_t page, uint64_t most)
{
	uint64_t cell = page;

	while ((size + cell - 1) / cell > most)
		cell *= 2;
	return cell;
}

static unsigned size_class(uint64_t size)
{
	return size >= 1ull << 30 ? MAP_MAPPED_1G : size >= 2ull << 20 ? MAP_MAPPED_2M
								       : MAP_MAPPED_4K;
}

static int see_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	struct pages *pages = context;
	uint64_t base = pages->config->base.value;
	uint64_t start = gpa.value > pages->piece ? gpa.value : pages->piece;
	uint64_t end = gpa.value + leaf->size;
	unsigned kind = size_class(leaf->size);

	if (end > pages->piece_end)
		end = pages->piece_end;
	if (gpa.value >= pages->piece)
		pages->leaves[kind - MAP_MAPPED_4K]++;
	while (start < end) {
		struct cell *cell = &pages->cells[(start - base) / pages->cell_size];
		uint64_t cell_end =
			base + ((start - base) / pages->cell_size + 1) * pages->cell_size;
		uint64_t n = (end < cell_end ? end : cell_end) - start;

		cell->bytes[kind] += n;
		cell->bytes[MAP_YOUNG] += leaf->accessed ? n : 0;
		cell->bytes[MAP_DIRTY] += leaf->dirty ? n : 0;
		start += n;
	}
	return 0;
}

/* Leaves come in no order, and a page several times: in several of the guest's address spaces. */
static int see_shadow_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	const struct pages *pages = context;

	if (gpa.value - pages->piece >= pages->piece_end - pages->piece)
		return 0;
	return see_leaf(context, gpa, leaf);
}

/* The shadow's budget bounds how long this takes. */
static void see_shadow(struct vd_shadow *shadow, struct pages *pages)
{
	pages->piece = pages->config->base.value;
	pages->piece_end = pages->piece + pages->config->size;
	vd_shadow_each(shadow, see_shadow_leaf, pages);
	for (uint64_t i = 0; i < pages->count; i++)
		for (unsigned k = 0; k < MAP_CELL_FIELDS; k++)
			if (pages->cells[i].bytes[k] > pages->cell_size)
				pages->cells[i].bytes[k] = pages->cell_size;
}

static void see_mapped(struct vd_vm *vm, struct pages *pages)
{
	uint64_t base = pages->config->base.value, end = base + pages->config->size;

	if (vd_vm_shadow(vm)) {
		see_shadow(vd_vm_shadow(vm), pages);
		return;
	}
	for (uint64_t at = base; at < end; at += PIECE) {
		pages->piece = at;
		pages->piece_end = end - at < PIECE ? end : at + PIECE;
		vd_mmu_each_in(vd_vm_mmu(vm), (vd_gpa){at}, pages->piece_end - at, see_leaf, pages);
	}
}

static void see_resident(struct pages *pages)
{
	const struct vd_slot_config *config = pages->config;

	for (uint64_t i = 0; i < pages->count; i++) {
		uint64_t at = i * pages->cell_size, left = config->size - at;

		if (vd_host_object_resident(config->object, config->offset + at,
					    left < pages->cell_size ? left : pages->cell_size,
					    &pages->cells[i].bytes[MAP_RESIDENT]))
			return;
	}
}

/* Neighbours that are alike as one row: how many, then their bytes. */
static struct json_object *cell_rows(const struct pages *pages)
{
	struct json_object *rows = json_object_new_array();

	for (uint64_t i = 0, next; i < pages->count; i = next) {
		struct json_object *row = json_object_new_array();

		for (next = i + 1; next < pages->count; next++)
			if (memcmp(&pages->cells[i], &pages->cells[next], sizeof(struct cell)))
				break;
		json_object_array_add(row, json_object_new_uint64(next - i));
		for (unsigned k = 0; k < MAP_CELL_FIELDS; k++)
			json_object_array_add(row, json_object_new_uint64(
							   pages->cells[i].bytes[k]));
		json_object_array_add(rows, row);
	}
	return rows;
}

static void add_pages(struct json_object *o, const struct pages *pages)
{
	struct cell sum = {{0}};

	for (uint64_t i = 0; i < pages->count; i++)
		for (unsigned k = 0; k < MAP_CELL_FIELDS; k++)
			sum.bytes[k] += pages->cells[i].bytes[k];
	for (unsigned k = 0; k < MAP_CELL_FIELDS; k++)
		add(o, map_field_names[k], sum.bytes[k]);
	add(o, "leaves_4k", pages->leaves[0]);
	add(o, "leaves_2m", pages->leaves[1]);
	add(o, "leaves_1g", pages->leaves[2]);
	add(o, "cell", pages->cell_size);
	json_object_object_add(o, "cells", cell_rows(pages));
}

static void describe_memory(struct vd_vm *vm, const struct slots *slots, const struct entry *entry,
			    struct json_object *o)
{
	struct pages pages = {.config = &entry->config};
	uint64_t largest = entry->config.kind == VD_SLOT_RAM ? MAP_CELLS_MAX : MAP_CELLS_MAX / 4;
	uint64_t most = 4 * MAP_CELLS_MAX / slots->memory;

	most = most > largest ? largest : most < 16 ? 16 : most;
	pages.cell_size = cell_size(entry->config.size, 1ull << vd_mem_page_shift(vd_vm_mem(vm)),
				    most);
	pages.count = (entry->config.size + pages.cell_size - 1) / pages.cell_size;
	pages.cells = calloc(pages.count, sizeof(*pages.cells));
	if (!pages.cells)
		return;
	see_mapped(vm, &pages);
	see_resident(&pages);
	add_pages(o, &pages);
	free(pages.cells);
}

static const char *kind_name(enum vd_slot_kind kind)
{
	return kind == VD_SLOT_RAM ? "ram" : kind == VD_SLOT_DEVICE ? "device" : "trap";
}

static struct json_object *describe_slot(struct vd_vm *vm, const struct slots *slots,
					 const struct entry *entry)
{
	const struct vd_slot_config *config = &entry->config;
	struct json_object *o = json_object_new_object();

	add(o, "id", entry->id);
	add_text(o, "kind", kind_name(config->kind));
	add_text(o, "name", config->name);
	add(o, "base", config->base.value);
	add(o, "size", config->size);
	if (config->kind == VD_SLOT_TRAP) {
		add_text(o, "reason", config->reason);
		return o;
	}
	add_flag(o, "read_only", config->read_only);
	add_flag(o, "dirty_log", entry->logged);
	add_text(o, "object", vd_host_object_name(config->object));
	add(o, "object_size", vd_host_object_size(config->object));
	add(o, "offset", config->offset);
	describe_memory(vm, slots, entry, o);
	return o;
}

static void add_slots(struct vd_vm *vm, struct json_object *root)
{
	struct json_object *list = json_object_new_array();
	struct slots *slots = calloc(1, sizeof(*slots));

	json_object_object_add(root, "slots", list);
	if (!slots)
		return;
	vd_mem_each(vd_vm_mem(vm), take_slot, slots);
	for (unsigned i = 0; i < slots->count; i++)
		json_object_array_add(list, describe_slot(vm, slots, &slots->entry[i]));
	add(root, "more_slots", slots->more);
	drop_slots(slots);
}

/* ---- BARs ------------------------------------------------------------ */

struct bars {
	struct vd_vm *vm;
	struct json_object *list;
};

static int take_area(void *context, const struct vd_pci_area_info *area)
{
	const struct bars *bars = context;
	uint64_t page = 1ull << vd_mem_page_shift(vd_vm_mem(bars->vm));
	struct vd_device *device = area->slot ? vd_vm_device(bars->vm, area->slot - 1) : NULL;
	struct json_object *o = json_object_new_object();

	add(o, "slot", area->slot);
	add_text(o, "device", device ? vd_device_name(device) : "");
	add(o, "bar", area->bar);
	add(o, "offset", area->offset);
	add(o, "size", area->size);
	add_flag(o, "placed", area->placed);
	if (area->placed)
		add(o, "gpa", area->gpa.value);
	add_text(o, "absent", area->absent);
	add_flag(o, "direct", !area->reason);
	add_flag(o, "sub_page", (area->offset | area->size) % page != 0);
	add_text(o, "reason", area->reason);
	json_object_array_add(bars->list, o);
	return 0;
}

static void add_bars(struct vd_vm *vm, struct json_object *root)
{
	struct bars bars = {vm, json_object_new_array()};

	json_object_object_add(root, "bars", bars.list);
	vd_pci_host_each_area(vd_vm_pci(vm), take_area, &bars);
}

/* ---- the whole ------------------------------------------------------- */

static void add_mmu(struct vd_vm *vm, struct json_object *root)
{
	struct json_object *o = json_object_new_object();
	struct vd_vm_stats stats;

	vd_vm_stats(vm, &stats);
	json_object_object_add(root, "mmu", o);
	add_text(o, "mode", vd_vm_shadow(vm) ? "shadow" : "two-stage");
	if (vd_vm_shadow(vm)) {
		add(o, "leaves", stats.shadow.leaves);
		add(o, "writes", stats.shadow.writes);
		add(o, "prefills", stats.shadow.prefills);
		add(o, "recycled", stats.shadow.recycled);
	} else {
		add(o, "mapped_bytes", stats.mmu.mapped_bytes);
	}
	add(o, "table_pages", stats.mmu.table_pages + stats.shadow.pages);
	add(o, "faults", stats.mmu.faults_ram + stats.mmu.faults_device + stats.shadow.faults);
	add(o, "zaps", stats.mmu.zaps + stats.shadow.zaps);
	add(o, "flushes", stats.mmu.flushes + stats.shadow.flushes);
	add(o, "pins", stats.dma.pins);
	add(root, "seconds", stats.wall_ns / 1000000000);
}

struct json_object *map_collect(struct vd_vm *vm, const char *name)
{
	struct json_object *root = json_object_new_object();

	add_text(root, "name", name);
	add(root, "pid", (uint64_t)getpid());
	add_text(root, "state", vd_vm_paused(vm) ? "paused" : "running");
	add(root, "page", 1ull << vd_mem_page_shift(vd_vm_mem(vm)));
	add_mmu(vm, root);
	add_slots(vm, root);
	add_bars(vm, root);
	return root;
}
