/* SPDX-License-Identifier: BSD-2-Clause */
/* The socket where clients connect. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/user/server.h"

#define BACKLOG 32

/* Whether a socket's file is left from a process that died. */
static bool is_left_over(const struct sockaddr_un *address)
{
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat status;
	bool refused;

	if (probe < 0)
		return false;
	/* A file that is no socket refuses as well, but is somebody's. */
	refused = connect(probe, (const struct sockaddr *)address, sizeof(*address)) &&
		  errno == ECONNREFUSED;
	close(probe);
	return refused && !lstat(address->sun_path, &status) && S_ISSOCK(status.st_mode);
}

static int bind_path(struct vd_user_export *export, struct vd_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	int r;

	memcpy(address.sun_path, export->path, sizeof(address.sun_path));
	/* The file gets the mode of the socket: nobody else's, from the beginning. */
	(void)fchmod(export->fd, 0600);
	r = bind(export->fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	if (r == -EADDRINUSE && is_left_over(&address)) {
		unlink(export->path);
		r = bind(export->fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	}
	if (r)
		return vd_error_set(error, r, r == -EADDRINUSE
					? "%s: somebody serves there, or it is no socket"
					: "%s: cannot make the socket", export->path);
	if (!lstat(export->path, &status)) {
		export->dev = status.st_dev;
		export->ino = status.st_ino;
	}
	return 0;
}

static int listen_path(struct vd_user_export *export, const char *path, struct vd_error *error)
{
	size_t length = strlen(path);
	int r;

	if (!length || length >= sizeof(export->path))
		return vd_error_set(error, length ? -ENAMETOOLONG : -EINVAL,
				    "a socket's path has 1 to %zu bytes",
				    sizeof(export->path) - 1);
	memcpy(export->path, path, length);
	r = vd_env_inject(export->server->env, "user.socket");
	if (!r) {
		export->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = export->fd < 0 ? -errno : 0;
	}
	if (r)
		return vd_error_set(error, r, "%s: no descriptor for the socket", path);
	r = bind_path(export, error);
	if (r) {
		export->path[0] = '\0';
		return r;
	}
	if (listen(export->fd, BACKLOG))
		r = vd_error_set(error, -errno, "%s: cannot listen", path);
	return r;
}

static int take_descriptor(struct vd_user_export *export, int fd, struct vd_error *error)
{
	int listens = 0, flags = fcntl(fd, F_GETFL);
	socklen_t length = sizeof(listens);

	if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) || !listens)
		return vd_error_set(error, -EINVAL, "descriptor %d is no listening socket", fd);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return vd_error_set(error, -errno, "descriptor %d", fd);
	export->fd = fd;
	return 0;
}

int listen_open(struct vd_user_export *export, const struct vd_user_export_config *config,
		struct vd_error *error)
{
	if (!config->path)
		return take_descriptor(export, config->fd, error);
	if (config->fd >= 0)
		return vd_error_set(error, -EINVAL, "%s: a path and a descriptor", config->path);
	return listen_path(export, config->path, error);
}

void listen_close(struct vd_user_export *export)
{
	struct stat status;

	/* Somebody may have put another one there. */
	if (export->path[0] && !lstat(export->path, &status) && status.st_dev == export->dev &&
	    status.st_ino == export->ino)
		unlink(export->path);
	if (export->fd >= 0)
		shutdown(export->fd, SHUT_RDWR);
}
