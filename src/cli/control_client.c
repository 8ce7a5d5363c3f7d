/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user's side of the control socket: `viaduct ps`, `status`, `pause`, `resume`, `snapshot`,
 * `quit`.
 */
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control.h"

#define NAMES_MAX 256u

/* A connection on which the request was sent, or -errno. @seconds: for an answer; 0: no limit */
static int send_request(const char *directory, const char *name, const char *request,
			unsigned seconds)
{
	struct timeval limit = {.tv_sec = seconds};
	int fd = control_connect(directory, name);

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (dprintf(fd, "%s\n", request) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

/* One request. Return: 0 with the reply, or -errno. */
static int ask_long(const char *directory, const char *name, const char *request, char *reply,
		    size_t room)
{
	size_t length = 0;
	int fd = send_request(directory, name, request, 10);

	if (fd < 0)
		return fd;
	while (length < room - 1) {
		ssize_t n = recv(fd, reply + length, room - 1 - length, 0);

		if (n <= 0)
			break;
		length += (size_t)n;
	}
	close(fd);
	reply[length] = '\0';
	return length ? 0 : -EPIPE;
}

static int ask(const char *directory, const char *name, const char *request, char *reply)
{
	return ask_long(directory, name, request, reply, CONTROL_REPLY_MAX);
}

int control_request(const char *name, const char *request, char *reply, size_t room)
{
	char directory[96];
	int rc;

	if (!control_name_valid(name))
		return complain(EXIT_USAGE, "'%s' is no machine's name", name);
	rc = control_directory(directory, sizeof(directory), false);
	if (!rc)
		rc = ask_long(directory, name, request, reply, room);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return complain(EXIT_FAILED, "no machine named %s is running; see viaduct ps",
				name);
	return rc ? complain(EXIT_FAILED, "cannot ask %s: %s", name, strerror(-rc)) : EXIT_OK;
}

static int request_command(int argc, char **argv, const char *what)
{
	char reply[CONTROL_REPLY_MAX];
	int rc;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: viaduct %s NAME|PID\n\n%s a running machine; prints its state as "
		       "one JSON object.\n", what, what);
		return EXIT_OK;
	}
	if (argc != 2)
		return complain(EXIT_USAGE, "usage: viaduct %s NAME|PID (see viaduct ps)", what);
	rc = control_request(argv[1], what, reply, sizeof(reply));
	if (rc)
		return rc;
	fputs(reply, stdout);
	return EXIT_OK;
}

int command_status(int argc, char **argv)
{
	return request_command(argc, argv, "status");
}

int command_pause(int argc, char **argv)
{
	return request_command(argc, argv, "pause");
}

int command_resume(int argc, char **argv)
{
	return request_command(argc, argv, "resume");
}

int command_quit(int argc, char **argv)
{
	return request_command(argc, argv, "quit");
}

/* ---- snapshot -------------------------------------------------------------------------------- */

struct snapshot_request {
	const char *name, *file;
	bool copy, json;
	char text[PATH_MAX + 64];
};

static const char snapshot_help[] =
	"usage: viaduct snapshot [--copy-image] [--json] NAME|PID FILE\n\n"
	"Writes the memory, harts and devices of a running machine as of one moment to FILE,\n"
	"while the guest goes on. `viaduct run --restore FILE` goes on from there.\n\n"
	"  --copy-image  copy the disk images as of that moment as well, to FILE.diskN-...;\n"
	"                the guest's disks stand still meanwhile. Without a copy, --restore\n"
	"                refuses an image that was written since\n"
	"  --json        print the result as one JSON object\n";

/* The machine has another working directory. Return: 0 or an exit code. */
static int build_request(struct snapshot_request *r)
{
	char directory[PATH_MAX] = "";
	int n;

	if (*r->file != '/' && !getcwd(directory, sizeof(directory)))
		return complain(EXIT_FAILED, "cannot tell the working directory: %s",
				strerror(errno));
	n = snprintf(r->text, sizeof(r->text), "snapshot%s %s%s%s", r->copy ? "-copy-image" : "",
		     directory, *directory ? "/" : "", r->file);
	if (n < 0 || (size_t)n >= sizeof(r->text) || strpbrk(r->text, "\r\n"))
		return complain(EXIT_USAGE, "a snapshot's path has at most %d characters, all in "
				"one line", PATH_MAX);
	return 0;
}

static int parse_snapshot(int argc, char **argv, struct snapshot_request *r)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--copy-image"))
			r->copy = true;
		else if (!strcmp(argv[i], "--json"))
			r->json = true;
		else if (argv[i][0] == '-' || r->file)
			return complain(EXIT_USAGE, "snapshot: '%s' is too much; see viaduct "
					"snapshot --help", argv[i]);
		else if (!r->name)
			r->name = argv[i];
		else
			r->file = argv[i];
	}
	if (!r->file || !*r->file)
		return complain(EXIT_USAGE, "usage: viaduct snapshot [--copy-image] [--json] "
				"NAME|PID FILE (see viaduct ps)");
	if (!control_name_valid(r->name))
		return complain(EXIT_USAGE, "'%s' is no machine's name", r->name);
	return build_request(r);
}

static double number(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_double(value) : 0;
}

/* One line of the reply. Return: -1 if more come, else the exit code. */
static int show_line(const struct snapshot_request *r, const char *line)
{
	struct json_object *o = json_tokener_parse(line), *error;
	double total = number(o, "total");
	int code = EXIT_OK;

	if (o && json_object_object_get_ex(o, "error", &error)) {
		code = complain(EXIT_FAILED, "%s", json_object_get_string(error));
	} else if (!o || total > 0) {
		if (isatty(STDERR_FILENO) && total > 1)
			fprintf(stderr, "\rsnapshot: %3.0f %%", 100 * number(o, "done") / total);
		code = -1;
	} else if (r->json) {
		puts(line);
	} else {
		printf("%s: the guest stood for %.1f ms, its devices for %.1f ms; %.1f MiB of "
		       "memory, %.1f MiB on disk, %.1f s\n", r->file, number(o, "pause_ms"),
		       number(o, "devices_held_ms"), number(o, "memory_bytes") / 0x1p20,
		       number(o, "file_bytes") / 0x1p20, number(o, "seconds"));
	}
	json_object_put(o);
	return code;
}

static int follow(const struct snapshot_request *r, FILE *in)
{
	char line[CONTROL_REPLY_MAX];
	int code = -1;

	while (code < 0 && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		code = show_line(r, line);
	}
	if (isatty(STDERR_FILENO))
		fputs("\r               \r", stderr);
	return code < 0 ? complain(EXIT_FAILED, "%s ended before the snapshot was complete",
				   r->name) : code;
}

int command_snapshot(int argc, char **argv)
{
	struct snapshot_request r = {.name = NULL};
	char directory[96];
	FILE *in;
	int fd, code;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(snapshot_help, stdout);
		return EXIT_OK;
	}
	code = parse_snapshot(argc, argv, &r);
	if (code)
		return code;
	fd = control_directory(directory, sizeof(directory), false);
	/* A file that becomes durable is silent for as long as the disk takes. */
	if (!fd)
		fd = send_request(directory, r.name, r.text, 0);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return complain(EXIT_FAILED, "no machine named %s is running; see viaduct ps",
				r.name);
	in = fd < 0 ? NULL : fdopen(fd, "r");
	if (!in)
		return complain(EXIT_FAILED, "cannot ask %s: %s", r.name,
				strerror(fd < 0 ? -fd : errno));
	code = follow(&r, in);
	fclose(in);
	return code;
}

/* ---- ps -------------------------------------------------------------------------------------- */

static void print_row(const char *reply)
{
	struct json_object *o = json_tokener_parse(reply), *name, *pid, *state, *seconds;

	if (o && json_object_object_get_ex(o, "name", &name) &&
	    json_object_object_get_ex(o, "pid", &pid) &&
	    json_object_object_get_ex(o, "state", &state) &&
	    json_object_object_get_ex(o, "seconds", &seconds))
		printf("%-20s %8d %-8s %10.1f\n", json_object_get_string(name),
		       json_object_get_int(pid), json_object_get_string(state),
		       json_object_get_double(seconds));
	json_object_put(o);
}

int command_ps(int argc, char **argv)
{
	char directory[96], reply[CONTROL_REPLY_MAX];
	bool json = argc == 2 && !strcmp(argv[1], "--json");
	struct dirent *entry;
	DIR *dir;

	if (argc > 1 && !json) {
		bool help = !strcmp(argv[1], "--help");

		fputs("usage: viaduct ps [--json]\n\nLists this user's running machines.\n",
		      help ? stdout : stderr);
		return help ? EXIT_OK : EXIT_USAGE;
	}
	if (!json)
		printf("%-20s %8s %-8s %10s\n", "NAME", "PID", "STATE", "SECONDS");
	if (control_directory(directory, sizeof(directory), false) || !(dir = opendir(directory)))
		return EXIT_OK; /* nothing ever ran */
	while ((entry = readdir(dir))) {
		char name[NAMES_MAX];
		char *suffix;

		snprintf(name, sizeof(name), "%s", entry->d_name);
		suffix = strstr(name, CONTROL_SUFFIX);
		if (!suffix || suffix[strlen(CONTROL_SUFFIX)])
			continue;
		*suffix = '\0';
		if (!control_name_valid(name) || ask(directory, name, "status", reply))
			continue;
		if (json)
			fputs(reply, stdout);
		else
			print_row(reply);
	}
	closedir(dir);
	return EXIT_OK;
}
