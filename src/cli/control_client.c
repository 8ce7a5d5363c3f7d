/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct ps`, `status`, `pause`, `resume`, `quit`: the user's side of the control socket. */
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/control.h"

#define NAMES_MAX 256u

/* One request. Return: 0 with the reply, or -errno. */
static int ask(const char *directory, const char *name, const char *request, char *reply)
{
	struct timeval limit = {.tv_sec = 10};
	struct sockaddr_un address;
	size_t length = 0;
	int fd, rc = control_address(directory, name, &address);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    dprintf(fd, "%s\n", request) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (length < CONTROL_REPLY_MAX - 1) {
		ssize_t n = recv(fd, reply + length, CONTROL_REPLY_MAX - 1 - length, 0);

		if (n <= 0)
			break;
		length += (size_t)n;
	}
	close(fd);
	reply[length] = '\0';
	return length ? 0 : -EPIPE;
}

static int request_command(int argc, char **argv, const char *what)
{
	char directory[96], reply[CONTROL_REPLY_MAX];
	int rc;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: viaduct %s NAME|PID\n\n%s a running machine; prints its state as "
		       "one JSON object.\n", what, what);
		return EXIT_OK;
	}
	if (argc != 2)
		return complain(EXIT_USAGE, "usage: viaduct %s NAME|PID (see viaduct ps)", what);
	if (!control_name_valid(argv[1]))
		return complain(EXIT_USAGE, "'%s' is no machine's name", argv[1]);
	rc = control_directory(directory, sizeof(directory), false);
	if (!rc)
		rc = ask(directory, argv[1], what, reply);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return complain(EXIT_FAILED, "no machine named %s is running; see viaduct ps",
				argv[1]);
	if (rc)
		return complain(EXIT_FAILED, "cannot ask %s: %s", argv[1], strerror(-rc));
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
