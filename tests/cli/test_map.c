/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct map` of a machine with a display: the table, the JSON behind it, the picture; by name
 * and by process id.
 *
 * usage: test_map VIADUCT
 */
#include "../vm/rig.h"
#include "program.h"

#include <ctype.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2 };

#define PUT(byte) LI(17, SBI_DBCN), ADDI(16, 0, 2), ADDI(10, 0, byte), ECALL

static struct rig_file kernel;
static char runtime[32], svg[64], pid[16];
static struct program machine;

static int set_up(void **state)
{
	(void)state;
	snprintf(runtime, sizeof(runtime), "/tmp/viaduct-test-XXXXXX");
	if (!mkdtemp(runtime))
		return -1;
	snprintf(svg, sizeof(svg), "%s/map.svg", runtime);
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	RIG_KERNEL_CREATE(&kernel, PUT('u'), PUT('p'), PUT('\n'), JAL(0, 0));
	program_start(&machine, (const char *const[]){"run", "--kernel", kernel.path, "--name",
						      "one", "--memory", "96M", "--device",
						      "display", NULL});
	program_wait_for_output(&machine, "up\n");
	snprintf(pid, sizeof(pid), "%d", (int)machine.pid);
	return 0;
}

static int tear_down(void **state)
{
	char directory[64];

	(void)state;
	EXPECT(0, "\"name\"", "quit", pid);
	program_finish(&machine);
	rig_file_remove(&kernel);
	snprintf(directory, sizeof(directory), "%s/viaduct", runtime);
	rmdir(directory);
	return rmdir(runtime);
}

static void command_lines(void **state)
{
	(void)state;
	EXPECT(0, "usage: viaduct map", "map", "--help");
	EXPECT(USAGE, "usage: viaduct map", "map");
	EXPECT(USAGE, "unknown option '--png'", "map", "--png", "one");
	EXPECT(USAGE, "one machine at a time", "map", "one", "two");
	EXPECT(USAGE, "is no machine's name", "map", "../one");
	EXPECT(FAILED, "no machine named two", "map", "two");
	EXPECT(FAILED, "no machine named 1", "map", "1");
	EXPECT(FAILED, "cannot write /nowhere/map.svg", "map", "--svg", "/nowhere/map.svg", "one");
}

/* The line of the table that starts with this address. */
static const char *row(const struct program *program, const char *address)
{
	const char *at = strstr(program->out, address);

	if (!at || (at != program->out && at[-1] != '\n'))
		fail_msg("no slot at %s in:\n%s", address, program->out);
	return at;
}

static void expect_in_row(const struct program *program, const char *address, const char *words)
{
	const char *line = row(program, address), *end = strchr(line, '\n');
	const char *at = strstr(line, words);

	if (!at || at > end)
		fail_msg("no '%s' in: %.*s", words, (int)(end - line), line);
}

static void the_table(void **state)
{
	static struct program map;
	const char *const by[] = {"one", pid};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		program_start(&map, (const char *const[]){"map", by[i], NULL});
		program_finish(&map);
		assert_int_equal(map.code, 0);
		assert_non_null(strstr(map.out, "one (pid "));
		expect_in_row(&map, "000010000000-000010000fff     4K trap", "side effects");
		expect_in_row(&map, "000080000000-000085ffffff    96M ram", "ram");
		assert_non_null(strstr(map.out, "00:01.0 display\n    BAR 0 +000000    16M"));
		/* nobody has switched the display on */
		assert_non_null(strstr(map.out, "not there: memory decoding is off  direct\n"));
		assert_non_null(strstr(map.out, "trapped: registers that the device emulates"));
	}
}

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *value;

	assert_true(json_object_object_get_ex(o, key, &value));
	return json_object_get_uint64(value);
}

/* Cells cover the slot and add up to what is said of it as a whole. */
static void check_cells(struct json_object *slot)
{
	static const char *const fields[] = {"resident", "mapped_4k", "mapped_2m", "mapped_1g",
					     "young", "dirty"};
	uint64_t cell = number(slot, "cell"), size = number(slot, "size"), count = 0;
	uint64_t sums[6] = {0};
	struct json_object *cells;

	assert_true(json_object_object_get_ex(slot, "cells", &cells));
	for (size_t i = 0; i < json_object_array_length(cells); i++) {
		struct json_object *run = json_object_array_get_idx(cells, i);
		uint64_t n = json_object_get_uint64(json_object_array_get_idx(run, 0));

		assert_int_equal(json_object_array_length(run), 7);
		count += n;
		for (size_t k = 0; k < 6; k++) {
			uint64_t bytes =
				json_object_get_uint64(json_object_array_get_idx(run, k + 1));

			assert_true(bytes <= cell);
			sums[k] += n * bytes;
		}
	}
	assert_int_equal(count, (size + cell - 1) / cell);
	assert_true(count <= 4096);
	for (size_t k = 0; k < 6; k++)
		assert_int_equal(sums[k], number(slot, fields[k]));
}

static void the_json(void **state)
{
	static struct program map;
	struct json_object *json, *slots, *bars, *kind;
	unsigned ram = 0;
	uint64_t last = 0;

	(void)state;
	program_start(&map, (const char *const[]){"map", "--json", "one", NULL});
	program_finish(&map);
	assert_int_equal(map.code, 0);
	json = json_tokener_parse(map.out);
	assert_non_null(json);
	assert_int_equal(number(json, "pid"), machine.pid);
	assert_true(json_object_object_get_ex(json, "slots", &slots));
	assert_true(json_object_object_get_ex(json, "bars", &bars));
	assert_true(json_object_array_length(bars) >= 2);
	for (size_t i = 0; i < json_object_array_length(slots); i++) {
		struct json_object *slot = json_object_array_get_idx(slots, i);

		assert_true(!i || number(slot, "base") > last);
		last = number(slot, "base");
		assert_true(json_object_object_get_ex(slot, "kind", &kind));
		if (strcmp(json_object_get_string(kind), "ram"))
			continue;
		ram++;
		check_cells(slot);
		/* it has run, so something is there and mapped */
		assert_true(number(slot, "resident") >= 4096);
		assert_true(number(slot, "leaves_4k") + number(slot, "leaves_2m") > 0);
		assert_true(number(slot, "young") > 0);
	}
	assert_int_equal(ram, 1);
	json_object_put(json);
}

/* ---- the picture ----------------------------------------------------- */

static const char *skip_name(const char *at)
{
	while (isalnum((unsigned char)*at) || *at == '-' || *at == ':')
		at++;
	return at;
}

/* Attributes up to the end of a tag; what follows it. */
static const char *check_attributes(const char *at)
{
	while (*at == ' ' || *at == '\n') {
		at = skip_name(at + 1);
		if (*at == '>' || *at == '/')
			break;
		assert_int_equal(at[0], '=');
		assert_int_equal(at[1], '"');
		at = strpbrk(at + 2, "\"<");
		assert_non_null(at);
		assert_int_equal(*at++, '"');
	}
	return at;
}

static void check_entity(const char *at)
{
	assert_true(!strncmp(at, "&amp;", 5) || !strncmp(at, "&lt;", 4) ||
		    !strncmp(at, "&quot;", 6));
}

/* As far as our own pictures go: every element that is opened is closed, in order. */
static void check_xml(const char *at)
{
	char open[16][16];
	unsigned depth = 0, elements = 0;

	for (at = strpbrk(at, "<&"); at; at = strpbrk(at, "<&")) {
		const char *name = at + 1, *end;

		if (*at == '&') {
			check_entity(at++);
			continue;
		}
		if (*name == '/') {
			assert_true(depth > 0);
			end = skip_name(name + 1);
			assert_int_equal(strncmp(open[--depth], name + 1, (size_t)(end - name - 1)),
					 0);
			assert_int_equal(*end, '>');
			at = end;
			continue;
		}
		end = skip_name(name);
		assert_true(end > name && end - name < 16 && depth < 16);
		snprintf(open[depth], sizeof(open[0]), "%.*s", (int)(end - name), name);
		elements++;
		at = check_attributes(end);
		if (*at == '/')
			at++;
		else
			depth++;
		assert_int_equal(*at, '>');
	}
	assert_int_equal(depth, 0);
	assert_true(elements > 30);
}

static void the_picture(void **state)
{
	static char text[1 << 20];
	size_t length;
	FILE *file;

	(void)state;
	EXPECT(0, "", "map", "--svg", svg, "one");
	file = fopen(svg, "r");
	assert_non_null(file);
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	unlink(svg);
	assert_true(length > 1000 && length < sizeof(text) - 1);
	assert_int_equal(strncmp(text, "<svg ", 5), 0);
	check_xml(text);
	assert_non_null(strstr(text, "The memory of one"));
	assert_non_null(strstr(text, ">ram</tspan>"));
	assert_non_null(strstr(text, "trapped: registers with side effects"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_lines),
		cmocka_unit_test(the_table),
		cmocka_unit_test(the_json),
		cmocka_unit_test(the_picture),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
