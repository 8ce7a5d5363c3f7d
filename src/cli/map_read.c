/* SPDX-License-Identifier: BSD-2-Clause */
/* What a machine said of its memory, taken apart. It is believed in nothing that sizes memory. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "cli/map.h"

const char *const map_field_names[MAP_CELL_FIELDS] = {
	"resident", "mapped_4k", "mapped_2m", "mapped_1g", "young", "dirty",
};

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_uint64(value) : 0;
}

static bool flag(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) && json_object_get_boolean(value);
}

/* NULL where there is none. */
static const char *text(struct json_object *o, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static struct json_object *list(struct json_object *o, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_array))
		return NULL;
	return value;
}

static int read_row(struct json_object *row, struct map_slot *slot)
{
	struct map_cells *cells = &slot->cells[slot->runs];

	if (!json_object_is_type(row, json_type_array) ||
	    json_object_array_length(row) != 1 + MAP_CELL_FIELDS)
		return -EPROTO;
	cells->count = json_object_get_uint64(json_object_array_get_idx(row, 0));
	if (cells->count < 1 || cells->count > MAP_CELLS_MAX - slot->cell_count)
		return -EPROTO;
	for (size_t k = 0; k < MAP_CELL_FIELDS; k++)
		cells->bytes[k] = json_object_get_uint64(json_object_array_get_idx(row, k + 1));
	slot->cell_count += cells->count;
	slot->runs++;
	return 0;
}

static int read_cells(struct json_object *rows, struct map_slot *slot)
{
	size_t count = rows ? json_object_array_length(rows) : 0;
	int rc = 0;

	if (!count)
		return 0;
	if (count > MAP_CELLS_MAX || !slot->cell)
		return -EPROTO;
	slot->cells = calloc(count, sizeof(*slot->cells));
	if (!slot->cells)
		return -ENOMEM;
	for (size_t i = 0; i < count && !rc; i++)
		rc = read_row(json_object_array_get_idx(rows, i), slot);
	return rc;
}

static int read_slot(struct json_object *o, struct map_slot *slot)
{
	slot->kind = text(o, "kind");
	slot->name = text(o, "name");
	slot->reason = text(o, "reason");
	slot->object = text(o, "object");
	slot->base = number(o, "base");
	slot->size = number(o, "size");
	slot->offset = number(o, "offset");
	slot->object_size = number(o, "object_size");
	slot->read_only = flag(o, "read_only");
	slot->dirty_log = flag(o, "dirty_log");
	for (unsigned k = 0; k < MAP_CELL_FIELDS; k++)
		slot->bytes[k] = number(o, map_field_names[k]);
	slot->leaves[0] = number(o, "leaves_4k");
	slot->leaves[1] = number(o, "leaves_2m");
	slot->leaves[2] = number(o, "leaves_1g");
	slot->cell = number(o, "cell");
	if (!slot->kind || !slot->name || !slot->size)
		return -EPROTO;
	return read_cells(list(o, "cells"), slot);
}

static int read_bar(struct json_object *o, struct map_bar *bar)
{
	bar->device = text(o, "device");
	bar->reason = text(o, "reason");
	bar->absent = text(o, "absent");
	bar->slot = number(o, "slot");
	bar->bar = number(o, "bar");
	bar->offset = number(o, "offset");
	bar->size = number(o, "size");
	bar->gpa = number(o, "gpa");
	bar->placed = flag(o, "placed");
	bar->direct = flag(o, "direct");
	bar->sub_page = flag(o, "sub_page");
	return bar->device ? 0 : -EPROTO;
}

static void read_head(struct json_object *json, struct map *map)
{
	struct json_object *mmu = NULL;

	map->name = text(json, "name");
	map->state = text(json, "state");
	map->pid = number(json, "pid");
	map->page = number(json, "page");
	map->seconds = number(json, "seconds");
	map->more_slots = number(json, "more_slots");
	if (!json_object_object_get_ex(json, "mmu", &mmu))
		return;
	map->mode = text(mmu, "mode");
	map->mapped_bytes = number(mmu, "mapped_bytes");
	map->leaves = number(mmu, "leaves");
	map->table_pages = number(mmu, "table_pages");
	map->faults = number(mmu, "faults");
	map->zaps = number(mmu, "zaps");
	map->flushes = number(mmu, "flushes");
	map->pins = number(mmu, "pins");
}

int map_read(struct json_object *json, struct map *map)
{
	struct json_object *slots = list(json, "slots"), *bars = list(json, "bars");
	size_t slot_count = slots ? json_object_array_length(slots) : 0;
	size_t bar_count = bars ? json_object_array_length(bars) : 0;
	int rc = 0;

	*map = (struct map){.json = json};
	read_head(json, map);
	if (!slots || !bars || !map->name || !map->state || !map->mode || !map->page ||
	    slot_count > MAP_SLOTS_MAX || bar_count > MAP_SLOTS_MAX)
		return -EPROTO;
	map->slots = calloc(slot_count + 1, sizeof(*map->slots));
	map->bars = calloc(bar_count + 1, sizeof(*map->bars));
	if (!map->slots || !map->bars)
		return -ENOMEM;
	for (size_t i = 0; i < slot_count && !rc; i++)
		rc = read_slot(json_object_array_get_idx(slots, i), &map->slots[map->slot_count++]);
	for (size_t i = 0; i < bar_count && !rc; i++)
		rc = read_bar(json_object_array_get_idx(bars, i), &map->bars[map->bar_count++]);
	return rc;
}

void map_summary(const struct map *map, char *text, size_t room)
{
	char mapped[16], tables[16];

	if (!strcmp(map->mode, "shadow"))
		snprintf(text, room, "shadow tables: %llu leaves in %llu pages",
			 (unsigned long long)map->leaves, (unsigned long long)map->table_pages);
	else
		snprintf(text, room, "%.20s tables: %s mapped by %s of them", map->mode,
			 map_size(map->mapped_bytes, mapped),
			 map_size(map->table_pages * 4096, tables));
}

void map_free(struct map *map)
{
	for (unsigned i = 0; i < map->slot_count; i++)
		free(map->slots[i].cells);
	free(map->slots);
	free(map->bars);
	json_object_put(map->json);
}

const char *map_size(uint64_t bytes, char text[16])
{
	static const char units[] = "BKMGTPE";
	unsigned unit = 0;
	uint64_t rest = 0;

	while (bytes >= 1024 && unit < sizeof(units) - 2) {
		rest = bytes % 1024;
		bytes /= 1024;
		unit++;
	}
	if (rest && bytes < 100)
		snprintf(text, 16, "%u.%u%c", (unsigned)bytes, (unsigned)(rest * 10 / 1024),
			 units[unit]);
	else if (unit)
		snprintf(text, 16, "%u%c", (unsigned)bytes, units[unit]);
	else
		snprintf(text, 16, "%u", (unsigned)bytes);
	return text;
}
