/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The output of `viaduct bench` that other checks rely on: every line of --json is one object with
 * the keys promised, for every benchmark of --list. Times are not looked at.
 *
 * usage: test_bench VIADUCT
 */
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define NAMES_MAX 32

static unsigned failures;

static void check(bool good, const char *what, const char *line)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, line);
	failures++;
}

static FILE *run(const char *viaduct, const char *arguments)
{
	char command[1024];

	snprintf(command, sizeof(command), "'%s' bench %s", viaduct, arguments);
	return popen(command, "r");
}

static bool is_number(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) &&
	       (json_object_is_type(value, json_type_double) ||
		json_object_is_type(value, json_type_int)) &&
	       json_object_get_double(value) >= 0;
}

static const char *text(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static double number(struct json_object *object, const char *key)
{
	return json_object_get_double(json_object_object_get(object, key));
}

/* One line of --json; notes which benchmark it is of. */
static void check_line(const char *line, const char *const *names, bool *seen)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object;
	const char *bench;
	bool known = false;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	object = json_tokener_parse_ex(tokener, line, -1);
	json_tokener_free(tokener);
	if (!object || !json_object_is_type(object, json_type_object)) {
		check(false, "not an object", line);
		return;
	}
	bench = text(object, "bench");
	for (unsigned i = 0; bench && names[i]; i++) {
		if (strcmp(bench, names[i]))
			continue;
		seen[i] = known = true;
	}
	check(known, "not a benchmark of --list", line);
	check(text(object, "case"), "no case", line);
	check(is_number(object, "n") && number(object, "n") >= 1, "no n", line);
	check(is_number(object, "min_ns"), "no min_ns", line);
	check(is_number(object, "median_ns"), "no median_ns", line);
	check(number(object, "min_ns") <= number(object, "median_ns"), "min over median", line);
	check(!text(object, "peer") == !is_number(object, "ratio"), "peer and ratio", line);
	json_object_put(object);
}

static unsigned read_names(const char *viaduct, char storage[][32], const char **names)
{
	FILE *in = run(viaduct, "--list");
	unsigned count = 0;
	char line[256];

	while (in && fgets(line, sizeof(line), in) && count < NAMES_MAX)
		if (sscanf(line, "%31s", storage[count]) == 1) {
			names[count] = storage[count];
			count++;
		}
	check(in && pclose(in) == 0, "failed", "--list");
	check(count > 0, "empty", "--list");
	return count;
}

int main(int argc, char **argv)
{
	char storage[NAMES_MAX][32], line[1024];
	const char *names[NAMES_MAX + 1] = {NULL};
	bool seen[NAMES_MAX] = {false};
	unsigned count;
	FILE *in;

	if (argc != 2)
		return 2;
	count = read_names(argv[1], storage, names);
	in = run(argv[1], "--quick --json");
	while (in && fgets(line, sizeof(line), in)) {
		check(strchr(line, '\n') != NULL, "too long", line);
		check_line(line, names, seen);
	}
	check(in && pclose(in) == 0, "failed", "--quick --json");
	for (unsigned i = 0; i < count; i++)
		check(seen[i], "no line", names[i]);

	in = run(argv[1], "no-such-thing 2>/dev/null");
	check(in && WEXITSTATUS(pclose(in)) == 2, "not refused", "an unknown name");
	in = run(argv[1], "mmoi 2>&1");
	check(in && fgets(line, sizeof(line), in) && strstr(line, "'mmio'"), "not proposed", "mmio");
	if (in)
		pclose(in);
	return failures ? 1 : 0;
}
