/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct map`: a running guest's memory as a table, a picture, or JSON. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/control.h"
#include "cli/map.h"

struct options {
	bool json, help;
	const char *svg, *machine;
};

static void help(void)
{
	puts("usage: viaduct map [--json] [--svg FILE] NAME|PID\n\n"
	     "Shows the memory of a running guest: its slots, what of them is resident, mapped and "
	     "used,\nand where the devices' BARs are and why parts of them are trapped. The guest "
	     "runs on.\n\n"
	     "  --json      what the machine says, as one JSON object\n"
	     "  --svg FILE  draw a picture instead");
}

/* -1: go on. */
static int parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			options->help = true;
		else if (!strcmp(argv[i], "--json"))
			options->json = true;
		else if (!strcmp(argv[i], "--svg") && i + 1 < argc)
			options->svg = argv[++i];
		else if (argv[i][0] == '-')
			return complain(EXIT_USAGE, "unknown option '%s'; see viaduct map --help",
					argv[i]);
		else if (options->machine)
			return complain(EXIT_USAGE, "one machine at a time, not also '%s'",
					argv[i]);
		else
			options->machine = argv[i];
	}
	if (options->help) {
		help();
		return EXIT_OK;
	}
	if (!options->machine)
		return complain(EXIT_USAGE, "usage: viaduct map [--json] [--svg FILE] NAME|PID "
				"(see viaduct ps)");
	return -1;
}

/* ---- the table ------------------------------------------------------- */

static const char *size_or_dash(uint64_t bytes, char text[16])
{
	return bytes ? map_size(bytes, text) : "-";
}

static void print_slot(const struct map_slot *slot)
{
	char size[16], resident[16], young[16], dirty[16], mapped[16];
	uint64_t all = slot->bytes[MAP_MAPPED_4K] + slot->bytes[MAP_MAPPED_2M] +
		       slot->bytes[MAP_MAPPED_1G];

	printf("%012llx-%012llx %6s %-6s", (unsigned long long)slot->base,
	       (unsigned long long)(slot->base + (slot->size - 1)), map_size(slot->size, size),
	       slot->kind);
	if (slot->reason || !slot->object) {
		printf("  %-18s %s\n", slot->name, slot->reason ? slot->reason : "");
		return;
	}
	printf("  %-18s %8s %8s %6llu %5llu %4llu %8s %8s%s%s\n", slot->name,
	       size_or_dash(slot->bytes[MAP_RESIDENT], resident), size_or_dash(all, mapped),
	       (unsigned long long)slot->leaves[0], (unsigned long long)slot->leaves[1],
	       (unsigned long long)slot->leaves[2], size_or_dash(slot->bytes[MAP_YOUNG], young),
	       size_or_dash(slot->bytes[MAP_DIRTY], dirty), slot->read_only ? "  read-only" : "",
	       slot->dirty_log ? "  logged" : "");
}

/* Neighbours of one name and reason as one line: windows full of gaps, a BAR of many parts. */
static void print_slots(const struct map *map)
{
	printf("%-25s %6s %-6s  %-18s %8s %8s %6s %5s %4s %8s %8s\n", "GUEST ADDRESS", "SIZE",
	       "KIND", "NAME", "RESIDENT", "MAPPED", "x4K", "x2M", "x1G", "YOUNG", "DIRTY");
	for (unsigned i = 0; i < map->slot_count; i++)
		print_slot(&map->slots[i]);
	if (map->more_slots)
		printf("... and %llu more slots\n", (unsigned long long)map->more_slots);
}

static void print_bars(const struct map *map)
{
	uint64_t last = UINT64_MAX;

	if (map->bar_count)
		putchar('\n');
	for (unsigned i = 0; i < map->bar_count; i++) {
		const struct map_bar *bar = &map->bars[i];
		char size[16];

		if (bar->slot != last)
			printf("00:%02llx.0 %s\n", (unsigned long long)bar->slot, bar->device);
		last = bar->slot;
		printf("    BAR %llu +%06llx %6s  ", (unsigned long long)bar->bar,
		       (unsigned long long)bar->offset, map_size(bar->size, size));
		if (bar->placed)
			printf("at %012llx  ", (unsigned long long)bar->gpa);
		else
			printf("not there: %s  ", bar->absent ? bar->absent : "off");
		printf("%s%s%s%s\n", bar->direct ? "direct" : "trapped",
		       bar->sub_page ? ", less than a page" : "", bar->reason ? ": " : "",
		       bar->reason ? bar->reason : "");
	}
}

static void print_map(const struct map *map)
{
	char tables[96];

	map_summary(map, tables, sizeof(tables));
	printf("%s (pid %llu), %s, %llu s. %s; %llu faults, %llu zaps, %llu flushes\n\n",
	       map->name, (unsigned long long)map->pid, map->state,
	       (unsigned long long)map->seconds, tables, (unsigned long long)map->faults,
	       (unsigned long long)map->zaps, (unsigned long long)map->flushes);
	print_slots(map);
	print_bars(map);
}

/* ---- the picture ----------------------------------------------------- */

static int draw(const struct map *map, const char *path)
{
	FILE *file = fopen(path, "w");
	int failed;

	if (!file)
		return complain(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
	map_draw(map, file);
	failed = ferror(file);
	if (fclose(file) || failed)
		return complain(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
	return EXIT_OK;
}

static int show(const struct options *options, const char *reply)
{
	struct json_object *json = json_tokener_parse(reply), *refusal;
	struct map map;
	int rc;

	if (!json)
		return complain(EXIT_FAILED, "%s answered no JSON", options->machine);
	if (json_object_object_get_ex(json, "error", &refusal)) {
		complain(EXIT_FAILED, "%s: %s", options->machine, json_object_get_string(refusal));
		json_object_put(json);
		return EXIT_FAILED;
	}
	rc = map_read(json, &map);
	if (rc)
		rc = complain(EXIT_FAILED, "%s answered something else than a map: %s",
			      options->machine, strerror(-rc));
	else if (options->svg)
		rc = draw(&map, options->svg);
	else if (!options->json)
		print_map(&map);
	if (!rc && options->json)
		fputs(reply, stdout);
	map_free(&map);
	return rc;
}

int command_map(int argc, char **argv)
{
	struct options options = {0};
	int rc = parse(argc, argv, &options);
	char *reply;

	if (rc >= 0)
		return rc;
	reply = malloc(MAP_REPLY_MAX);
	if (!reply)
		return complain(EXIT_FAILED, "out of memory");
	rc = control_request(options.machine, "map", reply, MAP_REPLY_MAX);
	if (!rc)
		rc = show(&options, reply);
	free(reply);
	return rc;
}
