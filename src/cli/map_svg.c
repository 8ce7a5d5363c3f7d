/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The picture: guest physical memory from top to bottom, a box for each slot, inside it a field of
 * its pages, gaps folded.
 */
#include <string.h>

#include "cli/map.h"

#define COLUMNS 128u
#define PITCH 7u	    /* of the cells */
#define PAD 14
#define LEFT 168	    /* of the boxes */
#define BOX ((int)(COLUMNS * PITCH) + 2 * PAD)
#define WIDTH (LEFT + BOX + 28)
#define HEAD 30u	    /* of a box: its name */
#define TOP 150
#define ORIGIN_X ((LEFT + PAD) % PITCH) /* patterns begin where cells do */
#define ORIGIN_Y 2u
#define BOXES_MAX 240u

/* How a cell looks: by the size of the leaf that maps most of it, and how warm it is. */
enum { COLD, OLD, YOUNG };
enum { ABSENT, RESIDENT, LOOKS };
static const char *const plain[LOOKS] = {"n", "r"};
static const char *const mapped[3][3] = {
	{"a0", "a1", "a2"}, {"b0", "b1", "b2"}, {"c0", "c1", "c2"}};

static const char style[] =
	"text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:12px;fill:#26323d}"
	".t{font-size:23px;font-weight:bold}.s{fill:#5d6b78}"
	".m{font-family:'DejaVu Sans Mono',monospace;font-size:11px;fill:#5d6b78}"
	".w{font-weight:bold;font-size:13px}.e{text-anchor:end}.k{font-size:11px}"
	".ram{fill:#f4faf8;stroke:#2a9d8f}.device{fill:#f8f5fc;stroke:#8e5bb5}"
	".trap{fill:#fdf6e7;stroke:#dda640}"
	".xram{fill:#2a9d8f}.xdevice{fill:#8e5bb5}.xtrap{fill:#dda640}"
	".g{stroke:#aab6c0;stroke-dasharray:2 4;fill:none}"
	".n{fill:#edf0f2}.r{fill:#b3bec8}"
	".a0{fill:#c5e9e3}.a1{fill:#7cc8bc}.a2{fill:#1f8a7d}"
	".b0{fill:#c9def5}.b1{fill:#86b2e2}.b2{fill:#2f74bf}"
	".c0{fill:#dcd2f2}.c1{fill:#b09be0}.c2{fill:#6443b0}"
	".d{fill:url(#dirty)}.v{fill:url(#veil)}";

static void put_text(FILE *out, const char *text)
{
	for (; text && *text; text++) {
		if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '"')
			fputs("&quot;", out);
		else
			fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
	}
}

/* ---- cells ----------------------------------------------------------- */

static const char *look_of(const uint64_t bytes[MAP_CELL_FIELDS])
{
	unsigned kind = MAP_MAPPED_4K, warm;

	for (unsigned k = MAP_MAPPED_2M; k <= MAP_MAPPED_1G; k++)
		if (bytes[k] > bytes[kind])
			kind = k;
	if (!bytes[kind])
		return plain[bytes[MAP_RESIDENT] ? RESIDENT : ABSENT];
	warm = !bytes[MAP_RESIDENT] ? COLD : bytes[MAP_YOUNG] ? YOUNG : OLD;
	return mapped[kind - MAP_MAPPED_4K][warm];
}

struct field {
	unsigned x, y; /* of its first cell */
	FILE *out;
	const char *look; /* NULL: dirty marks */
};

/* Cells first to first + count - 1, row by row; the lines between them come later. */
static void put_run(const struct field *field, uint64_t first, uint64_t count)
{
	while (count) {
		unsigned column = first % COLUMNS, row = (unsigned)(first / COLUMNS);
		unsigned n = count < COLUMNS - column ? (unsigned)count : COLUMNS - column;

		fprintf(field->out, "M%u %uh%uv%uh-%uz", field->x + column * PITCH,
			field->y + row * PITCH, n * PITCH, PITCH, n * PITCH);
		first += n;
		count -= n;
	}
}

static bool run_shown(const struct field *field, const struct map_cells *cells)
{
	if (field->look)
		return look_of(cells->bytes) == field->look;
	/* a block is dirty as a whole, memory that is not there is not */
	return cells->bytes[MAP_DIRTY] && cells->bytes[MAP_RESIDENT];
}

/* One path for all cells of one look. */
static void put_look(const struct map_slot *slot, struct field *field, const char *look)
{
	uint64_t at = 0, first = 0, count = 0;
	bool any = false;

	field->look = look;
	for (unsigned i = 0; i < slot->runs; at += slot->cells[i++].count) {
		if (!run_shown(field, &slot->cells[i]))
			continue;
		if (!any)
			fprintf(field->out, "<path class=\"%s\" d=\"", look ? look : "d");
		any = true;
		if (count && first + count != at) {
			put_run(field, first, count);
			count = 0;
		}
		first = count ? first : at;
		count += slot->cells[i].count;
	}
	if (count)
		put_run(field, first, count);
	if (any)
		fputs("\"/>\n", field->out);
}

static void put_cells(const struct map_slot *slot, unsigned x, unsigned y, FILE *out)
{
	struct field field = {.x = x, .y = y, .out = out};

	for (unsigned i = 0; i < LOOKS; i++)
		put_look(slot, &field, plain[i]);
	for (unsigned kind = 0; kind < 3; kind++)
		for (unsigned warm = 0; warm < 3; warm++)
			put_look(slot, &field, mapped[kind][warm]);
	put_look(slot, &field, NULL);
	/* a veil of lines makes cells of runs */
	fprintf(out, "<rect class=\"v\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>\n", x,
		y, COLUMNS * PITCH,
		(unsigned)((slot->cell_count + COLUMNS - 1) / COLUMNS) * PITCH);
}

/* ---- boxes ----------------------------------------------------------- */

static unsigned box_height(const struct map_slot *slot)
{
	unsigned rows = (unsigned)((slot->cell_count + COLUMNS - 1) / COLUMNS);

	return rows ? HEAD + rows * PITCH + 10 : HEAD;
}

static const struct map_bar *bar_at(const struct map *map, const struct map_slot *slot)
{
	for (unsigned i = 0; i < map->bar_count; i++)
		if (map->bars[i].placed && map->bars[i].gpa == slot->base)
			return &map->bars[i];
	return NULL;
}

/* Cuts what would run out of the box. */
static void put_cut(FILE *out, const char *text, size_t most)
{
	char cut[120];

	snprintf(cut, sizeof(cut), "%s", text ? text : "");
	if (most < sizeof(cut) && strlen(cut) > most)
		strcpy(cut + most - 1, "\xe2\x80\xa6");
	put_text(out, cut);
}

static void put_title(const struct map *map, const struct map_slot *slot, unsigned y, FILE *out)
{
	const struct map_bar *bar = bar_at(map, slot);
	char size[16];

	fprintf(out, "<text x=\"%d\" y=\"%u\"><tspan class=\"w\">", LEFT + PAD, y + 20);
	put_cut(out, slot->name, 40);
	fprintf(out, "</tspan><tspan dx=\"9\">%s</tspan>", map_size(slot->size, size));
	if (bar)
		fprintf(out, "<tspan class=\"s\" dx=\"9\">00:%02llx.0 BAR %llu%s%s</tspan>",
			(unsigned long long)bar->slot, (unsigned long long)bar->bar,
			bar->direct ? ", direct" : "",
			bar->sub_page ? ", less than a page" : "");
	fputs("</text>\n", out);
}

static void put_counts(const struct map_slot *slot, unsigned y, FILE *out)
{
	static const char *const names[3] = {"4K", "2M", "1G"};
	char size[16];

	fprintf(out, "<text class=\"s e k\" x=\"%d\" y=\"%u\">%s resident", LEFT + BOX - PAD,
		y + 20, map_size(slot->bytes[MAP_RESIDENT], size));
	for (unsigned i = 0; i < 3; i++)
		if (slot->leaves[i])
			fprintf(out, " \xc2\xb7 %llu \xc3\x97 %s",
				(unsigned long long)slot->leaves[i], names[i]);
	fprintf(out, " \xc2\xb7 %s used", map_size(slot->bytes[MAP_YOUNG], size));
	fprintf(out, " \xc2\xb7 %s dirty", map_size(slot->bytes[MAP_DIRTY], size));
	if (slot->cell_count > 1)
		fprintf(out, " \xc2\xb7 a cell is %s", map_size(slot->cell, size));
	fputs("</text>\n", out);
}

static void put_box(const struct map *map, const struct map_slot *slot, unsigned y, FILE *out)
{
	unsigned height = box_height(slot);
	const char *kind = slot->kind;

	fprintf(out, "<text class=\"m e\" x=\"%d\" y=\"%u\">%llx</text>\n", LEFT - 12, y + 20,
		(unsigned long long)slot->base);
	if (height > HEAD + 30)
		fprintf(out, "<text class=\"m e\" x=\"%d\" y=\"%u\">%llx</text>\n", LEFT - 12,
			y + height - 4, (unsigned long long)(slot->base + (slot->size - 1)));
	fprintf(out, "<rect class=\"");
	put_text(out, kind);
	fprintf(out, "\" x=\"%d.5\" y=\"%u.5\" width=\"%d\" height=\"%u\" rx=\"5\"/>\n", LEFT, y,
		BOX, height);
	fprintf(out, "<rect class=\"x");
	put_text(out, kind);
	fprintf(out, "\" x=\"%d\" y=\"%u\" width=\"5\" height=\"%u\" rx=\"2\"/>\n", LEFT, y,
		height + 1);
	put_title(map, slot, y, out);
	if (slot->reason) {
		fprintf(out, "<text class=\"s e\" x=\"%d\" y=\"%u\">trapped: ", LEFT + BOX - PAD,
			y + 20);
		put_cut(out, slot->reason, 84);
		fputs("</text>\n", out);
	}
	if (!slot->cell_count)
		return;
	put_counts(slot, y, out);
	put_cells(slot, LEFT + PAD, y + HEAD, out);
}

/* Nothing lies between two slots: folded. */
static void put_gap(uint64_t bytes, unsigned y, FILE *out)
{
	char size[16];

	if (bytes)
		fprintf(out, "<path class=\"g\" d=\"M%d %uv20\"/>"
			"<text class=\"s k\" x=\"%d\" y=\"%u\">%s of nothing</text>\n", LEFT + 30,
			y + 2, LEFT + 42, y + 16, map_size(bytes, size));
}

/* ---- the rest of the page -------------------------------------------- */

static int put_key(FILE *out, int x, int y, const char *class, const char *text)
{
	fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"13\" height=\"11\" rx=\"2\"/>"
		"<text class=\"k\" x=\"%d\" y=\"%d\">%s</text>\n", class, x, y - 10, x + 18, y,
		text);
	return x + 18 + (int)(strlen(text) * 6) + 18;
}

/* Three shades of one size of leaf. */
static int put_shades(FILE *out, int x, int y, unsigned kind, const char *text)
{
	for (int i = 0; i < 3; i++)
		fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"13\" height=\"11\"/>",
			mapped[kind][i], x + i * 13, y - 10);
	fprintf(out, "<text class=\"k\" x=\"%d\" y=\"%d\">%s</text>\n", x + 44, y, text);
	return x + 44 + (int)(strlen(text) * 6) + 18;
}

static void put_legend(FILE *out)
{
	int x = 28;

	x = put_key(out, x, 98, "xram", "memory");
	x = put_key(out, x, 98, "xdevice", "a device's memory, mapped into the guest");
	x = put_key(out, x, 98, "xtrap", "trapped: every access calls the device");
	x = 28;
	x = put_key(out, x, 122, "n", "no memory behind it");
	x = put_key(out, x, 122, "r", "resident, not mapped");
	x = put_shades(out, x, 122, 0, "mapped by 4K");
	x = put_shades(out, x, 122, 1, "2M");
	x = put_shades(out, x, 122, 2, "1G: not resident, idle, used");
	fprintf(out, "<rect class=\"b2\" x=\"%d\" y=\"112\" width=\"13\" height=\"11\"/>"
		"<rect fill=\"#ff9a3d\" x=\"%d\" y=\"116\" width=\"4\" height=\"4\"/>"
		"<text class=\"k\" x=\"%d\" y=\"122\">dirty</text>\n", x, x + 4, x + 18);
}

/* What repeats in every cell: the lines between them, the mark of what is dirty. */
static void put_pattern(FILE *out, const char *name, const char *color, const char *path)
{
	fprintf(out, "<pattern id=\"%s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" "
		"patternUnits=\"userSpaceOnUse\"><path fill=\"%s\" d=\"%s\"/></pattern>\n", name,
		ORIGIN_X, ORIGIN_Y, PITCH, PITCH, color, path);
}

static void put_head(const struct map *map, unsigned height, FILE *out)
{
	char tables[96];

	fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
		"viewBox=\"0 0 %d %u\">\n<style>%s</style>\n<defs>\n", WIDTH, height, WIDTH, height,
		style);
	put_pattern(out, "veil", "#fff", "M6 0h1v7h-7v-1h6z");
	put_pattern(out, "dirty", "#ff9a3d", "M2 2h3v3h-3z");
	fputs("</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n", out);
	fputs("<text class=\"t\" x=\"28\" y=\"42\">The memory of ", out);
	put_text(out, map->name);
	fprintf(out, "</text>\n<text class=\"s\" x=\"28\" y=\"66\">%s after %llu s \xc2\xb7 ",
		!strcmp(map->state, "paused") ? "paused" : "running",
		(unsigned long long)map->seconds);
	map_summary(map, tables, sizeof(tables));
	put_text(out, tables);
	fprintf(out, " \xc2\xb7 %llu faults, %llu zaps, %llu flushes \xc2\xb7 %llu pins by DMA"
		"</text>\n", (unsigned long long)map->faults, (unsigned long long)map->zaps,
		(unsigned long long)map->flushes, (unsigned long long)map->pins);
	put_legend(out);
}

static unsigned shown(const struct map *map)
{
	return map->slot_count < BOXES_MAX ? map->slot_count : BOXES_MAX;
}

/* With @out NULL only measures. Return: where it ends. */
static unsigned put_slots(const struct map *map, FILE *out)
{
	unsigned y = TOP;
	uint64_t end = 0;

	for (unsigned i = 0; i < shown(map); i++) {
		const struct map_slot *slot = &map->slots[i];
		unsigned above = y;

		y = slot->base == end ? y + 6 : y + 25;
		y += (PITCH + ORIGIN_Y - (y + HEAD) % PITCH) % PITCH; /* onto the patterns */
		if (out)
			put_gap(slot->base - end, above, out);
		if (out)
			put_box(map, slot, y, out);
		y += box_height(slot) + 1;
		end = slot->base + slot->size;
	}
	return y;
}

void map_draw(const struct map *map, FILE *out)
{
	unsigned end = put_slots(map, NULL);
	unsigned long long more = map->slot_count - shown(map) + map->more_slots;

	put_head(map, end + 40, out);
	put_slots(map, out);
	if (more)
		fprintf(out, "<text class=\"s\" x=\"%d\" y=\"%u\">and %llu more slots</text>\n",
			LEFT, end + 22, more);
	fputs("</svg>\n", out);
}
