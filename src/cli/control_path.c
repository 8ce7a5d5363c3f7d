/* SPDX-License-Identifier: BSD-2-Clause */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/control.h"

int control_directory(char *path, size_t room, bool create)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (runtime && *runtime == '/')
		n = snprintf(path, room, "%s/viaduct", runtime);
	else
		n = snprintf(path, room, "/tmp/viaduct-%u", (unsigned)getuid());
	if (n < 0 || (size_t)n >= room)
		return -ENAMETOOLONG;
	if (create && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	/* In /tmp somebody else may have been there first. */
	if (lstat(path, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077))
		return -EPERM;
	return 0;
}

bool control_name_valid(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "0123456789-_.");

	return length > 0 && length <= 40 && !name[length] && name[0] != '.';
}

int control_address(const char *directory, const char *name, struct sockaddr_un *address)
{
	int n;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s" CONTROL_SUFFIX,
		     directory, name);
	return n < 0 || (size_t)n >= sizeof(address->sun_path) ? -ENAMETOOLONG : 0;
}

static int connect_by_name(const char *directory, const char *name)
{
	struct sockaddr_un address;
	int fd, rc = control_address(directory, name, &address);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* The kernel knows which process listens at the other end. */
static bool is_process(int fd, long pid)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && peer.pid == pid;
}

static int connect_by_pid(const char *directory, long pid)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int fd = -ENOENT;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		size_t length = strlen(entry->d_name), suffix = strlen(CONTROL_SUFFIX);
		char name[sizeof(entry->d_name)];

		if (length <= suffix || strcmp(entry->d_name + length - suffix, CONTROL_SUFFIX))
			continue;
		memcpy(name, entry->d_name, length - suffix);
		name[length - suffix] = '\0';
		fd = connect_by_name(directory, name);
		if (fd >= 0 && !is_process(fd, pid)) {
			close(fd);
			fd = -ENOENT;
		}
	}
	if (dir)
		closedir(dir);
	return fd < 0 ? -ENOENT : fd;
}

int control_connect(const char *directory, const char *machine)
{
	int fd = connect_by_name(directory, machine);
	char *end;
	long pid;

	if ((fd != -ENOENT && fd != -ECONNREFUSED) || !isdigit((unsigned char)machine[0]))
		return fd;
	pid = strtol(machine, &end, 10);
	return *end ? fd : connect_by_pid(directory, pid);
}
