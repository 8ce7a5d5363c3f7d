/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct serve`: devices over vfio-user, until somebody ends it. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <viaduct/vfio_user.h>

#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/serve.h"
#include "cli/stats.h"

/* For memory that is reached by messages: as much as an NVMe controller has under way at most. */
#define BOUNCE_LIMIT (UINT64_C(272) << 20)

/* A device that is served. @device: NULL if each client has its own. */
struct served {
	const struct serve_export_options *options;
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	struct vd_device *device;
	struct vd_user_export *export;
	struct vd_group *group; /* shared with others of the name */
};

struct serving {
	const struct serve_options *options;
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_user_server *server;
	struct served served[SERVE_EXPORTS_MAX];
	unsigned count;
	pthread_t threads[SERVE_THREADS_MAX];
	unsigned running;
	_Atomic int failed; /* what ended a thread that should have gone on */
};

/* ---- devices ---- */

static int make_device(struct served *served, struct vd_dma_space *space, struct vd_device **device,
		       struct vd_error *error)
{
	const struct device_place place = {
		.env = served->env, .host = served->host, .space = space,
		.pad = served->options->pad, .small = served->group,
	};

	return device_create(served->options->device, &place, device, error);
}

static int make_for_client(void *context, struct vd_dma_space *space, struct vd_device **device,
			   struct vd_error *error)
{
	return make_device(context, space, device, error);
}

/* The device that is kept, or one to see that clients will get theirs. */
static int open_device(struct served *served, struct vd_error *error)
{
	const struct vd_dma_config config = {
		.env = served->env, .host = served->host, .bounce_limit = BOUNCE_LIMIT,
	};
	int rc = vd_dma_space_create(&config, &served->space, error);

	if (!rc)
		rc = make_device(served, served->space, &served->device, error);
	if (rc || !served->options->per_client)
		return rc;
	vd_device_put(served->device);
	vd_dma_space_destroy(served->space);
	served->device = NULL;
	served->space = NULL;
	return 0;
}

/* The group of that name, which the first of its devices makes. */
static int open_group(struct serving *serving, struct served *served, struct vd_error *error)
{
	const char *name = served->options->group;

	if (!name)
		return 0;
	for (unsigned i = 0; i < serving->count; i++) {
		struct served *other = &serving->served[i];

		if (!other->group || strcmp(other->options->group, name))
			continue;
		served->group = vd_group_get(other->group);
		return 0;
	}
	return vd_group_create(served->env, served->host, name, &served->group, error);
}

static int open_export(struct serving *serving, struct served *served, struct vd_error *error)
{
	int rc = open_group(serving, served, error);

	if (!rc)
		rc = open_device(served, error);
	if (rc)
		return rc;
	return vd_user_server_add(serving->server, &(struct vd_user_export_config){
		.path = served->options->socket, .fd = -1,
		.device = served->device, .space = served->space,
		.create = served->options->per_client ? make_for_client : NULL,
		.context = served,
	}, &served->export, error);
}

/* The socket goes first, so that nobody comes any more; then the device, which flushes its disk. */
static void close_export(struct served *served)
{
	if (served->export)
		vd_user_server_remove(served->export);
	vd_device_put(served->device);
	vd_dma_space_destroy(served->space);
	vd_group_put(served->group);
}

static int open_exports(struct serving *serving, struct vd_error *error)
{
	int rc = 0;

	for (unsigned i = 0; i < serving->options->count && !rc; i++) {
		struct served *served = &serving->served[serving->count++];

		*served = (struct served){
			.options = &serving->options->exports[i], .env = serving->env,
			.host = serving->host,
		};
		rc = open_export(serving, served, error);
	}
	return rc;
}

/* ---- running ---- */

static void *serve_thread(void *context)
{
	struct serving *serving = context;
	int rc = vd_user_server_run(serving->server);

	if (rc) {
		atomic_store(&serving->failed, rc);
		kill(getpid(), SIGTERM);
	}
	return NULL;
}

static int start_threads(struct serving *serving, struct vd_error *error)
{
	while (serving->running < serving->options->threads) {
		int rc = -pthread_create(&serving->threads[serving->running], NULL, serve_thread,
					 serving);

		if (rc)
			return vd_error_set(error, rc, "cannot start thread %u: %s",
					    serving->running + 1, strerror(-rc));
		serving->running++;
	}
	return 0;
}

static void stop_threads(struct serving *serving)
{
	vd_user_server_stop(serving->server);
	while (serving->running)
		pthread_join(serving->threads[--serving->running], NULL);
}

static int write_stats(struct serving *serving, struct vd_error *error)
{
	struct json_object *root, *list;
	struct vd_user_server_stats stats;

	if (!serving->options->stats_json)
		return 0;
	vd_user_server_stats(serving->server, &stats);
	root = stats_server(&stats, &list);
	for (unsigned i = 0; i < serving->count; i++)
		stats_add_served(list, serving->served[i].options->socket,
				 serving->served[i].device, serving->served[i].space);
	return stats_write(root, serving->options->stats_json, error);
}

/* Signals are waited for here and reach no other thread: there is nothing to be interrupted. */
static int wait_for_end(struct serving *serving, const sigset_t *signals, struct vd_error *error)
{
	int number;

	puts("ready");
	fflush(stdout);
	for (;;) {
		if (sigwait(signals, &number) || number != SIGUSR1)
			break;
		if (write_stats(serving, error))
			complain(EXIT_FAILED, "%s", error->text);
	}
	/* Whoever is in a hurry sends another one. */
	pthread_sigmask(SIG_UNBLOCK, signals, NULL);
	number = atomic_load(&serving->failed);
	return number ? vd_error_set(error, number, "cannot go on serving: %s", strerror(-number))
		      : 0;
}

static int serve(struct serving *serving, const sigset_t *signals, struct vd_error *error)
{
	struct vd_user_server_config config = {.env = serving->env, .host = serving->host};
	int rc = vd_user_server_create(&config, &serving->server, error), failed;

	if (!rc)
		rc = open_exports(serving, error);
	if (!rc)
		rc = start_threads(serving, error);
	if (!rc)
		rc = wait_for_end(serving, signals, error);
	if (serving->server)
		stop_threads(serving);
	failed = serving->server && !rc ? write_stats(serving, error) : 0;
	while (serving->count)
		close_export(&serving->served[--serving->count]);
	vd_user_server_destroy(serving->server);
	return rc ? rc : failed;
}

static void block_signals(sigset_t *signals)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};

	sigemptyset(signals);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(signals, numbers[i]);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int command_serve(int argc, char **argv)
{
	static struct serve_options options; /* large, and there is one server */
	static struct serving serving;
	struct vd_error error = {0};
	sigset_t signals;
	int rc = serve_options_parse(argc, argv, &options, &error);

	if (rc)
		return complain(EXIT_USAGE, "%s", error.text);
	if (options.help) {
		serve_options_help();
		return EXIT_OK;
	}
	block_signals(&signals);
	serving.options = &options;
	serving.env = vd_env_hosted();
	/* A client can take away the memory that it gave us at any time. */
	rc = vd_host_guard_install(&error);
	if (!rc)
		rc = vd_host_create(&(struct vd_host_config){.env = serving.env}, &serving.host,
				    &error);
	if (!rc)
		rc = serve(&serving, &signals, &error);
	vd_host_destroy(serving.host);
	return rc ? complain(EXIT_FAILED, "%s", error.text) : EXIT_OK;
}
