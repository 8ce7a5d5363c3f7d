/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct serve`: its options. */
#ifndef CLI_SERVE_H
#define CLI_SERVE_H

#include <viaduct/base.h>

#define SERVE_EXPORTS_MAX 64u
#define SERVE_THREADS_MAX 64u

/**
 * struct serve_export_options - a device and where it is served
 * @per_client: each client gets one of its own
 * @pad: BARs smaller than a page get one each
 * @group: devices of one name share such pages; NULL: a group of its own
 */
struct serve_export_options {
	const char *device, *socket, *group;
	bool per_client, pad;
};

struct serve_options {
	struct serve_export_options exports[SERVE_EXPORTS_MAX];
	unsigned count, threads;
	const char *stats_json;
	bool help;
};

/* serve_options.c: 0, or a negative errno with the reason in @error */
int serve_options_parse(int argc, char **argv, struct serve_options *options,
			struct vd_error *error);
void serve_options_help(void);

#endif
