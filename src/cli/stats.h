/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters as JSON. */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include <json-c/json.h>

#include <viaduct/vfio_user.h>

/* stats_write() - one object into a file, and let go of it. Return: 0, or why not in @error. */
int stats_write(struct json_object *root, const char *path, struct vd_error *error);
/* stats_server() - of a server; *@devices is the list of what it serves, still empty */
struct json_object *stats_server(const struct vd_user_server_stats *stats,
				 struct json_object **devices);
/* stats_add_served() - @device, @space: NULL if each client has its own */
void stats_add_served(struct json_object *devices, const char *socket, struct vd_device *device,
		      struct vd_dma_space *space);

#endif
