/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct map`: what the machine says of its memory, and what the client makes of that. */
#ifndef CLI_MAP_H
#define CLI_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MAP_SLOTS_MAX 4096u /* told one by one; of more, the number */
#define MAP_CELLS_MAX 4096u /* of a slot */
#define MAP_REPLY_MAX (32u << 20)

/* Bytes of a cell, or of a slot, that are: */
enum map_field {
	MAP_RESIDENT,
	MAP_MAPPED_4K,
	MAP_MAPPED_2M,
	MAP_MAPPED_1G,
	MAP_YOUNG,
	MAP_DIRTY,
	MAP_CELL_FIELDS
};
extern const char *const map_field_names[MAP_CELL_FIELDS];

/* map_collect.c: the machine's side */
struct vd_vm;
struct json_object;
struct json_object *map_collect(struct vd_vm *vm, const char *name);

/* ---- the client's side ---- */

struct map_cells {
	uint64_t count; /* neighbours that are alike */
	uint64_t bytes[MAP_CELL_FIELDS];
};

struct map_slot {
	const char *kind, *name, *reason, *object;
	uint64_t base, size, offset, object_size;
	bool read_only, dirty_log;
	uint64_t bytes[MAP_CELL_FIELDS], leaves[3];
	uint64_t cell, cell_count;
	struct map_cells *cells;
	unsigned runs;
};

struct map_bar {
	const char *device, *reason, *absent;
	uint64_t slot, bar, offset, size, gpa;
	bool placed, direct, sub_page;
};

struct map {
	struct json_object *json; /* texts belong to it */
	const char *name, *state, *mode;
	uint64_t pid, page, seconds, more_slots;
	uint64_t mapped_bytes, leaves, table_pages, faults, zaps, flushes, pins;
	struct map_slot *slots;
	unsigned slot_count;
	struct map_bar *bars;
	unsigned bar_count;
};

/* map_read.c: takes the reply apart; 0, -EPROTO or -ENOMEM. Free in any case. */
int map_read(struct json_object *json, struct map *map);
void map_free(struct map *map);
/* "two-stage tables: 204M mapped by 16K of them" */
void map_summary(const struct map *map, char *text, size_t room);
/* "4K", "256M", "1.5G" */
const char *map_size(uint64_t bytes, char text[16]);

/* map_svg.c */
void map_draw(const struct map *map, FILE *out);

#endif
