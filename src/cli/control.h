/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: one UNIX stream socket a running machine, mode 0600, in a directory of the
 * user's own. A request is one word, with a path behind it for snapshots, a size for the balloon,
 * and a newline; the reply is one JSON object and a newline. A snapshot sends more of them before
 * the last, with "done" and "total".
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#define CONTROL_SUFFIX ".sock"
#define CONTROL_REPLY_MAX 65536u /* holds a path, and the state of many devices */

/* $XDG_RUNTIME_DIR/viaduct, else /tmp/viaduct-UID. Created (mode 0700) if @create. 0 or -errno. */
int control_directory(char *path, size_t room, bool create);
/* Letters, digits, '-', '_', '.'; not starting with '.'; at most 40. */
bool control_name_valid(const char *name);
/* -ENAMETOOLONG if the path does not fit into a socket address. */
int control_address(const char *directory, const char *name, struct sockaddr_un *address);
/*
 * A connection to a machine, by its name or else its process id. -ENOENT, -ECONNREFUSED: there is
 * none; another -errno.
 */
int control_connect(const char *directory, const char *machine);

/* control_client.c: one request to a machine. Complains if that fails. Return: an exit code. */
int control_request(const char *machine, const char *request, char *reply, size_t room);

#endif
