/* SPDX-License-Identifier: BSD-2-Clause */
/* The server: what it exports, and the threads that run it. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/user/server.h"

#define REPLY_LIMIT_MS 10000u
#define REPLY_LIMIT_MAX_MS (24u * 3600u * 1000u)

/* ---- from beginning to end ------------------------------------------------------------------ */

static int make_fd(const struct vd_env *env, const char *site, int (*make)(void), int *fd)
{
	int r = vd_env_inject(env, site);

	if (r)
		return r;
	*fd = make();
	return *fd < 0 ? -errno : 0;
}

static int make_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int make_event(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Its own sources are part of it: their references are never given back. */
static int own_source(struct vd_user_server *server, struct source *source, enum source_kind kind,
		      int fd)
{
	int r;

	source->kind = kind;
	atomic_init(&source->references, 1);
	r = source_add(server, source);
	return r ? r : source_watch(server, source, fd, EPOLLIN);
}

static int open_server(struct vd_user_server *server)
{
	const struct vd_env *env = server->env;
	int r = make_fd(env, "user.epoll", make_epoll, &server->epoll);

	if (!r)
		r = make_fd(env, "user.stop", make_event, &server->stop_fd);
	if (!r)
		r = make_fd(env, "user.kick", make_event, &server->kick_fd);
	if (!r)
		r = own_source(server, &server->stop_source, SOURCE_STOP, server->stop_fd);
	if (!r)
		r = own_source(server, &server->kick_source, SOURCE_KICK, server->kick_fd);
	return r;
}

static void free_server(struct vd_user_server *server)
{
	const struct vd_env *env = server->env;
	const int fds[] = {server->epoll, server->stop_fd, server->kick_fd};

	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	env->release(env, server->slots, server->slot_count * sizeof(*server->slots));
	pthread_cond_destroy(&server->gone);
	pthread_mutex_destroy(&server->lock);
	env->release(env, server, sizeof(*server));
}

int vd_user_server_create(const struct vd_user_server_config *config,
			  struct vd_user_server **out, struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_user_server *server;
	int r;

	if (config->reply_limit_ms > REPLY_LIMIT_MAX_MS)
		return vd_error_set(error, -EINVAL, "a limit of %u ms for replies is absurd",
				    config->reply_limit_ms);
	server = vd_env_allocate(env, "user.server", sizeof(*server),
				 _Alignof(struct vd_user_server));
	if (!server)
		return vd_error_set(error, -ENOMEM, "no memory for a vfio-user server");
	server->env = env;
	server->host = config->host;
	server->epoll = server->stop_fd = server->kick_fd = -1;
	server->reply_limit_ns = UINT64_C(1000000) *
		(config->reply_limit_ms ? config->reply_limit_ms : REPLY_LIMIT_MS);
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->gone, NULL);
	r = open_server(server);
	if (r) {
		free_server(server);
		return vd_error_set(error, r, "no memory or descriptors for a vfio-user server");
	}
	*out = server;
	return 0;
}

void vd_user_server_destroy(struct vd_user_server *server)
{
	if (!server)
		return;
	while (server->exports)
		vd_user_server_remove(server->exports);
	/* What nobody has come to do any more. */
	while (server->kicked) {
		struct served *served = server->kicked;

		server->kicked = served->next_kicked;
		source_put(&served->source);
	}
	free_server(server);
}

/* ---- what it exports ------------------------------------------------------------------------ */

static int check_config(const struct vd_user_export_config *config, struct vd_error *error)
{
	if (!config->device == !config->create)
		return vd_error_set(error, -EINVAL,
				    "a socket serves one device, or one for each client");
	if (config->device && !config->space)
		return vd_error_set(error, -EINVAL, "a device that is kept needs a DMA space");
	return 0;
}

static int open_export(struct vd_user_export *export, const struct vd_user_export_config *config,
		       struct vd_error *error)
{
	struct vd_user_server *server = export->server;
	int r = listen_open(export, config, error);

	if (r)
		return r;
	if (config->device && device_keep(export))
		return vd_error_set(error, -ENOMEM, "no memory for what is served");
	r = source_add(server, source_get(&export->source));
	if (r)
		source_put(&export->source);
	else
		r = source_watch(server, &export->source, export->fd, EPOLLIN | EPOLLET);
	return r ? vd_error_set(error, r, "no memory for what is served") : 0;
}

int vd_user_server_add(struct vd_user_server *server, const struct vd_user_export_config *config,
		       struct vd_user_export **added, struct vd_error *error)
{
	const struct vd_env *env = server->env;
	struct vd_user_export *export;
	int r = check_config(config, error);

	if (r)
		return r;
	export = vd_env_allocate(env, "user.export", sizeof(*export),
				 _Alignof(struct vd_user_export));
	if (!export)
		return vd_error_set(error, -ENOMEM, "no memory for what is served");
	export->source.kind = SOURCE_LISTEN;
	atomic_init(&export->source.references, 1);
	export->server = server;
	export->config = *config;
	export->config.path = NULL;
	export->fd = -1;
	pthread_mutex_lock(&server->lock);
	export->next = server->exports;
	server->exports = export;
	pthread_mutex_unlock(&server->lock);
	r = open_export(export, config, error);
	if (r) {
		/* It stays the caller's. */
		if (!config->path)
			export->fd = -1;
		vd_user_server_remove(export);
		return r;
	}
	*added = export;
	return 0;
}

/* With a reference; NULL: there is none left. */
static struct connection *first_connection(struct vd_user_export *export)
{
	struct vd_user_server *server = export->server;
	struct connection *c;

	pthread_mutex_lock(&server->lock);
	c = export->connections;
	if (c)
		source_get(&c->source);
	pthread_mutex_unlock(&server->lock);
	return c;
}

static void wait_gone(struct vd_user_export *export, const struct connection *gone)
{
	struct vd_user_server *server = export->server;
	struct connection *c;

	pthread_mutex_lock(&server->lock);
	do {
		c = export->connections;
		while (c && c != gone)
			c = c->next;
		if (c)
			pthread_cond_wait(&server->gone, &server->lock);
	} while (c);
	pthread_mutex_unlock(&server->lock);
}

static void delist(struct vd_user_export *export)
{
	struct vd_user_server *server = export->server;
	struct vd_user_export **at = &server->exports;

	pthread_mutex_lock(&server->lock);
	export->removed = true;
	while (*at != export)
		at = &(*at)->next;
	*at = export->next;
	pthread_mutex_unlock(&server->lock);
}

void vd_user_server_remove(struct vd_user_export *added)
{
	struct vd_user_export *export = added;
	struct connection *c;

	delist(export);
	listen_close(export);
	source_remove(export->server, &export->source);
	while ((c = first_connection(export))) {
		connection_drop(c);
		wait_gone(export, c);
		source_put(&c->source);
	}
	if (export->served)
		device_retire(export->served);
	source_put(&export->source);
}

/* ---- running -------------------------------------------------------------------------------- */

void vd_user_server_stop(struct vd_user_server *server)
{
	static const uint64_t one = 1;

	/* Relaxed: whoever does not see it yet is told by the descriptor. */
	atomic_store_explicit(&server->stopped, true, memory_order_relaxed);
	if (write(server->stop_fd, &one, sizeof(one)) < 0)
		return;
}

int vd_user_server_fd(const struct vd_user_server *server)
{
	return server->epoll;
}

static void handle(struct vd_user_server *server, struct source *source, uint32_t events)
{
	switch (source->kind) {
	case SOURCE_KICK:
		turn_kicked(server);
		break;
	case SOURCE_LISTEN:
		connection_accept((struct vd_user_export *)source);
		break;
	case SOURCE_CLIENT:
		if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			connection_hangs_up((struct connection *)source);
		turn_request(((struct connection *)source)->served, source);
		break;
	case SOURCE_DEVICE:
		turn_request((struct served *)source, source);
		break;
	case SOURCE_STOP:
		break;
	}
}

int vd_user_server_run_once(struct vd_user_server *server, int timeout_ms)
{
	struct epoll_event event;
	struct source *source;
	int n;

	if (atomic_load_explicit(&server->stopped, memory_order_relaxed))
		return -ECANCELED;
	/* One at a time: others are for other threads, should this one have to wait. */
	n = epoll_wait(server->epoll, &event, 1, timeout_ms);
	if (n <= 0)
		return n < 0 && errno != EINTR ? -errno : 0;
	if (event.data.u64 == source_id(&server->stop_source))
		return -ECANCELED;
	source = source_find(server, event.data.u64);
	if (source) {
		handle(server, source, event.events);
		source_put(source);
	}
	return 1;
}

int vd_user_server_run(struct vd_user_server *server)
{
	int r;

	do
		r = vd_user_server_run_once(server, -1);
	while (r >= 0);
	return r == -ECANCELED ? 0 : r;
}

static uint64_t count_of(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void vd_user_server_stats(const struct vd_user_server *server, struct vd_user_server_stats *stats)
{
	*stats = (struct vd_user_server_stats){
		.clients = count_of(&server->clients),
		.accepted = count_of(&server->accepted),
		.refused = count_of(&server->refused),
		.cut_off = count_of(&server->cut_off),
		.messages = count_of(&server->messages),
		.errors = count_of(&server->errors),
		.dma_reads = count_of(&server->dma_reads),
		.dma_writes = count_of(&server->dma_writes),
		.dma_failed = count_of(&server->dma_failed),
	};
}
