/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's side of the control socket: one thread, one client after the other, each with a
 * time limit.
 */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cli/control.h"
#include "cli/map.h"
#include "cli/snapshot.h"

#define CLIENT_SECONDS 2 /* for the request, and for a snapshot's lines one by one */
#define REPLY_SECONDS 10 /* for all of the reply */
#define REQUEST_MAX (PATH_MAX + 64u)

struct control {
	struct vd_vm *vm;
	char name[48];
	struct sockaddr_un address;
	int listen_fd, stop_fd;
	pthread_t thread;
	struct run_record *record;
	bool snapshot_started; /* @snapshot_thread is to be joined */
	pthread_t snapshot_thread;
};

static struct json_object *status(struct control *c)
{
	struct json_object *o = json_object_new_object();
	struct vd_vm_stats stats;

	vd_vm_stats(c->vm, &stats);
	json_object_object_add(o, "name", json_object_new_string(c->name));
	json_object_object_add(o, "pid", json_object_new_int(getpid()));
	json_object_object_add(o, "state", json_object_new_string(vd_vm_paused(c->vm) ? "paused"
										      : "running"));
	json_object_object_add(o, "seconds",
			       json_object_new_double((double)stats.wall_ns / 1e9));
	json_object_object_add(o, "instructions", json_object_new_uint64(stats.instructions));
	balloon_add(o, c->vm, c->record->balloon);
	stats_add_status(o, c->vm);
	return o;
}

static struct json_object *refuse(const char *text)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "error", json_object_new_string(text));
	return o;
}

/* The rest of @request behind the word @what and a space, or NULL. */
static const char *argument_of(const char *request, const char *what)
{
	size_t length = strlen(what);

	return !strncmp(request, what, length) && request[length] == ' ' ? request + length + 1
									 : NULL;
}

/* Joins it. One that has just answered its client may need a moment to end. */
static bool has_ended(pthread_t thread)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec++;
	return !pthread_timedjoin_np(thread, NULL, &limit);
}

/* Return: NULL if the reply comes from elsewhere. */
static struct json_object *snapshot(struct control *c, const char *path, bool copy, int fd)
{
	int rc;

	if (*path != '/' || strlen(path) >= PATH_MAX)
		return refuse("a snapshot needs an absolute path");
	if (c->snapshot_started && !has_ended(c->snapshot_thread))
		return refuse("another snapshot of this machine is being written");
	rc = control_snapshot_start(c->vm, c->record, path, copy, fd, &c->snapshot_thread);
	c->snapshot_started = !rc;
	return rc ? refuse("no memory or threads left for a snapshot") : NULL;
}

static struct json_object *answer(struct control *c, const char *request, int fd)
{
	const char *path, *size = argument_of(request, "balloon");

	if (size) {
		const char *refusal = balloon_set(c->record->balloon, size);

		return refusal ? refuse(refusal) : status(c);
	}
	path = argument_of(request, "snapshot");
	if (path)
		return snapshot(c, path, false, fd);
	path = argument_of(request, "snapshot-copy-image");
	if (path)
		return snapshot(c, path, true, fd);
	if (!strcmp(request, "map"))
		return map_collect(c->vm, c->name);
	if (!strcmp(request, "pause"))
		vd_vm_pause(c->vm);
	else if (!strcmp(request, "resume"))
		vd_vm_resume(c->vm);
	else if (!strcmp(request, "quit"))
		vd_vm_stop(c->vm);
	else if (strcmp(request, "status"))
		return refuse("unknown request; there are status, map, balloon SIZE, pause, "
			      "resume, snapshot PATH, snapshot-copy-image PATH and quit");
	return status(c);
}

static uint64_t in_seconds(unsigned seconds)
{
	return vd_env_hosted()->clock_ns(vd_env_hosted()) + seconds * UINT64_C(1000000000);
}

/* Whether the client is ready before @until, however often it was so for a byte. */
static bool is_ready(int fd, short events, uint64_t until)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	uint64_t now;
	int rc;

	do {
		now = in_seconds(0);
		rc = now < until ? poll(&poll_fd, 1, (int)((until - now) / 1000000u) + 1) : 0;
	} while (rc < 0 && errno == EINTR);
	return rc > 0;
}

/* All of it, unless the client goes or takes too long. */
static void reply(int fd, const char *text, size_t length, uint64_t until)
{
	ssize_t n;

	while (length && is_ready(fd, POLLOUT, until)) {
		n = send(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			text += n;
			length -= (size_t)n;
		}
	}
}

/* One line, without its end. Return: whether there is one. */
static bool read_request(int fd, char request[REQUEST_MAX])
{
	uint64_t until = in_seconds(CLIENT_SECONDS);
	size_t length = 0;

	while (length < REQUEST_MAX - 1 && !memchr(request, '\n', length)) {
		ssize_t got = is_ready(fd, POLLIN, until)
			? recv(fd, request + length, REQUEST_MAX - 1 - length, 0) : 0;

		if (got <= 0)
			return false;
		length += (size_t)got;
	}
	request[length] = '\0';
	request[strcspn(request, "\r\n")] = '\0';
	return true;
}

static void serve(struct control *c, int fd)
{
	struct timeval limit = {.tv_sec = CLIENT_SECONDS};
	char request[REQUEST_MAX];
	struct json_object *o;
	const char *text;
	uint64_t until;
	size_t length;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (!read_request(fd, request))
		return;
	o = answer(c, request, fd);
	if (!o)
		return;
	text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &length);
	until = in_seconds(REPLY_SECONDS);
	reply(fd, text, length, until);
	reply(fd, "\n", 1, until);
	json_object_put(o);
}

static void *control_thread(void *argument)
{
	struct control *c = argument;

	for (;;) {
		struct pollfd fds[2] = {{.fd = c->stop_fd, .events = POLLIN},
					{.fd = c->listen_fd, .events = POLLIN}};
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		if (!fds[1].revents)
			continue;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		serve(c, fd);
		close(fd);
	}
}

/*
 * A name whose socket still answers is taken; one that does not is left from a process that died.
 */
static int bind_socket(struct control *c)
{
	mode_t mask = umask(0177);
	struct stat st;
	int rc = bind(c->listen_fd, (struct sockaddr *)&c->address, sizeof(c->address));

	if (rc && errno == EADDRINUSE) {
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		/* A file that is no socket refuses as well, but is somebody's. */
		if (connect(probe, (struct sockaddr *)&c->address, sizeof(c->address)) &&
		    errno == ECONNREFUSED && !lstat(c->address.sun_path, &st) &&
		    S_ISSOCK(st.st_mode)) {
			unlink(c->address.sun_path);
			rc = bind(c->listen_fd, (struct sockaddr *)&c->address,
				  sizeof(c->address));
		} else {
			errno = EADDRINUSE;
		}
		close(probe);
	}
	if (rc)
		rc = -errno;
	umask(mask);
	return rc ? rc : listen(c->listen_fd, 8) ? -errno : 0;
}

static int open_socket(struct control *c, const char *name, struct vd_error *error)
{
	char directory[96];
	int rc;

	if (name && !control_name_valid(name))
		return vd_error_set(error, -EINVAL, "--name %s: use up to 40 letters, digits, '-', "
				    "'_' and '.'", name);
	if (name)
		snprintf(c->name, sizeof(c->name), "%s", name);
	else
		snprintf(c->name, sizeof(c->name), "%d", (int)getpid());
	rc = control_directory(directory, sizeof(directory), true);
	if (rc)
		return vd_error_set(error, rc, "no control socket in %s, which has to be a "
				    "directory of yours alone (mode 0700): %s", directory,
				    strerror(-rc));
	rc = control_address(directory, c->name, &c->address);
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!rc)
		rc = c->listen_fd < 0 ? -errno : bind_socket(c);
	if (rc == -EADDRINUSE)
		return vd_error_set(error, rc, "a machine named %s is running already", c->name);
	return rc ? vd_error_set(error, rc, "cannot open the control socket %s: %s",
				 c->address.sun_path, strerror(-rc)) : 0;
}

int control_start(struct vd_vm *vm, struct run_record *record, struct control **result,
		  struct vd_error *error)
{
	const char *name = record->options->name;
	struct control *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return vd_error_set(error, -ENOMEM, "out of memory for the control socket");
	c->vm = vm;
	c->record = record;
	c->listen_fd = -1;
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	rc = c->stop_fd < 0 ? -errno : open_socket(c, name, error);
	if (!rc) {
		rc = -pthread_create(&c->thread, NULL, control_thread, c);
		if (rc)
			unlink(c->address.sun_path);
	}
	if (rc) {
		if (c->listen_fd >= 0)
			close(c->listen_fd);
		if (c->stop_fd >= 0)
			close(c->stop_fd);
		free(c);
		*result = NULL;
		if (name)
			return rc;
		/*
		 * Nobody asked for control: a read-only /tmp must not keep a guest from running,
		 * nor be the error that is shown when something else ends it.
		 */
		*error = (struct vd_error){0};
		return 0;
	}
	*result = c;
	return 0;
}

void control_stop(struct control *c)
{
	uint64_t one = 1;

	if (!c)
		return;
	if (write(c->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(c->thread, NULL);
	if (c->snapshot_started)
		pthread_join(c->snapshot_thread, NULL);
	unlink(c->address.sun_path);
	close(c->listen_fd);
	close(c->stop_fd);
	free(c);
}
