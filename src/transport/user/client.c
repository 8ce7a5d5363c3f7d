/* SPDX-License-Identifier: BSD-2-Clause */
/* The client as a device: its operations, its making and its end. */
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/user/client.h"

/* ---- accesses ------------------------------------------------------------------------------- */

struct access_reply {
	struct user_region_access access;
	uint8_t data[8];
};

/* The server answered: for this very access, or it is lying. */
static int check_reply(struct user_client *client, const struct user_region_access *asked,
		       const struct user_region_access *got)
{
	if (got->offset == asked->offset && got->region == asked->region &&
	    got->count == asked->count)
		return 0;
	user_client_fail(client, -EPROTO, "answered for another access");
	return -EIO;
}

static int ask_read(struct user_client *client, unsigned region, uint64_t offset, void *data,
		    size_t length)
{
	struct user_region_access access = {offset, region, (uint32_t)length};
	struct client_request request = {
		.command = USER_REGION_READ, .parts = {{&access, sizeof(access)}}, .part_count = 1,
	};
	struct access_reply reply;
	int r = user_client_ask(client, &request, &reply, sizeof(access) + length, 1);

	if (!r)
		r = check_reply(client, &access, &reply.access);
	if (!r)
		memcpy(data, reply.data, length);
	return r;
}

static int ask_write(struct user_client *client, unsigned region, uint64_t offset,
		     const void *data, size_t length)
{
	struct user_region_access access = {offset, region, (uint32_t)length}, reply;
	struct client_request request = {
		.command = USER_REGION_WRITE,
		.parts = {{&access, sizeof(access)}, {(void *)(uintptr_t)data, length}},
		.part_count = 2,
	};
	int r;

	if (client->posts && region <= VD_REGION_BAR5)
		return user_client_post(client, &request);
	r = user_client_ask(client, &request, &reply, sizeof(reply), 1);
	return r ? r : check_reply(client, &access, &reply);
}

/* What the guest was given before it made this access, the server knows. */
static void sync_memory(struct user_client *client)
{
	int r;

	if (!user_client_memory_new(client))
		return;
	r = user_client_memory_sync(client);
	if (r && client->env->log && !user_client_dead(client))
		client->env->log(client->env, VD_LOG_WARNING,
				 "vfio-user: the server does not take all of the guest's memory");
}

static int client_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct user_client *client = context;
	bool yielded = vd_device_yield(client->device);
	int r;

	sync_memory(client);
	r = ask_read(client, region, offset, data, length);
	if (yielded)
		vd_device_unyield(client->device);
	if (region <= VD_REGION_BAR5)
		user_client_intx_done(client);
	return r;
}

static int client_write(void *context, unsigned region, uint64_t offset, const void *data,
			size_t length)
{
	struct user_client *client = context;
	bool yielded;
	int r;

	if (region == VD_REGION_CONFIG)
		user_client_config_written(client, offset, data, length);
	yielded = vd_device_yield(client->device);
	sync_memory(client);
	r = ask_write(client, region, offset, data, length);
	if (yielded)
		vd_device_unyield(client->device);
	if (region == VD_REGION_CONFIG && !r)
		user_client_irqs_written(client, offset, data, length);
	if (region <= VD_REGION_BAR5)
		user_client_intx_done(client);
	return r;
}

static void client_reset(void *context, enum vd_reset_kind kind)
{
	struct user_client *client = context;
	int r;

	(void)kind;
	user_client_config_reset(client);
	if (user_client_dead(client))
		return;
	r = user_client_reset(client);
	if (r && r != -EOPNOTSUPP)
		user_client_fail(client, -EIO, "cannot be reset: %s", strerror(-r));
	atomic_store(&client->intx, false);
	user_client_irqs_reset(client);
}

/* ---- polling -------------------------------------------------------------------------------- */

static void tell_end(struct user_client *client)
{
	bool tell;

	pthread_mutex_lock(&client->lock);
	tell = client->dead && !client->told;
	client->told |= client->dead != 0;
	pthread_mutex_unlock(&client->lock);
	if (!tell)
		return;
	vd_device_raise(client->device, VD_IRQ_ERR, 0);
	if (client->reconnect_ns)
		user_client_reconnect_begin(client);
	else
		vd_device_set_busy(client->device, false, -1);
}

static void client_poll(void *context)
{
	struct user_client *client = context;
	struct epoll_event events[16];
	bool look = false, again = false;
	uint64_t ignored;
	int count = epoll_wait(client->poll_fd, events, 16, 0);

	for (int i = 0; i < count; i++) {
		uint64_t token = events[i].data.u64;

		if (token == CLIENT_TOKEN_AGAIN && read(client->again_fd, &ignored, 8) < 0)
			continue; /* another poll took it */
		if (token == CLIENT_TOKEN_AGAIN || token == CLIENT_TOKEN_SOCKET)
			look = true;
		else if (token == CLIENT_TOKEN_TIMER)
			again = true;
		else
			user_client_irq_fired(client, token);
	}
	if (look) {
		bool yielded = vd_device_yield(client->device);

		if (user_client_poll(client))
			user_client_poke(client);
		if (yielded)
			vd_device_unyield(client->device);
		tell_end(client);
	}
	if (again)
		user_client_reconnect(client);
}

static void client_counters(void *context,
			    void (*report)(void *to, const char *name, uint64_t value), void *to)
{
	struct user_client *client = context;

	report(to, "connected", !user_client_dead(client));
	report(to, "reconnects", atomic_load(&client->reconnects));
}

/* ---- beginning and end ---------------------------------------------------------------------- */

static void destroy(struct user_client *client)
{
	const struct vd_env *env = client->env;

	user_client_memory_fini(client);
	user_client_irqs_fini(client);
	if (client->twin.fd >= 0)
		user_socket_fini(&client->twin);
	if (client->main.fd >= 0)
		user_socket_fini(&client->main);
	if (client->again_fd >= 0)
		close(client->again_fd);
	if (client->timer_fd >= 0)
		close(client->timer_fd);
	if (client->poll_fd >= 0)
		close(client->poll_fd);
	env->release(env, client->bounce, CLIENT_TRANSFER_MAX);
	pthread_cond_destroy(&client->memory.changed);
	pthread_mutex_destroy(&client->memory.lock);
	pthread_cond_destroy(&client->changed);
	pthread_mutex_destroy(&client->lock);
	env->release(env, client, sizeof(*client));
}

static void client_release(void *context)
{
	destroy(context);
}

static const struct vd_device_ops client_ops = {
	.read = client_read,
	.write = client_write,
	.reset = client_reset,
	.quiesce = user_client_quiesce,
	.resume = user_client_resume,
	.save = user_client_save,
	.load = user_client_load,
	.poll = client_poll,
	.counters = client_counters,
	.release = client_release,
};

static void init_lock(pthread_mutex_t *lock, pthread_cond_t *changed)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

static struct user_client *allocate(const struct vd_user_client_config *config)
{
	struct user_client *client = vd_env_allocate(config->env, "user.client", sizeof(*client),
						     _Alignof(struct user_client));
	unsigned ms = config->timeout_ms ? config->timeout_ms : VD_USER_TIMEOUT_MS;

	if (!client)
		return NULL;
	client->env = config->env;
	client->timeout_ns = ms * UINT64_C(1000000);
	client->main.fd = client->twin.fd = client->poll_fd = client->again_fd = -1;
	client->timer_fd = -1;
	if (!config->inspect)
		client->reconnect_ns = config->reconnect_ms * UINT64_C(1000000);
	client->wants_page_offset = config->page_offset;
	if (config->client_id)
		strcpy(client->client_id, config->client_id);
	client->memory.mem = config->mem;
	client->memory.space = config->space;
	init_lock(&client->lock, &client->changed);
	init_lock(&client->memory.lock, &client->memory.changed);
	strncpy(client->name, config->path ? config->path : "socket", sizeof(client->name) - 1);
	return client;
}

int user_client_connect(const char *path, bool nonblock, struct vd_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return vd_error_set(error, -ENAMETOOLONG, "%s: too long for a socket", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return vd_error_set(error, -errno, "no socket: %s", strerror(errno));
	if (!connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return fd;
	r = -errno;
	close(fd);
	return vd_error_set(error, r, "no vfio-user server at %s: %s", path, strerror(-r));
}

/* Sockets and what watches them. */
static int open_all(struct user_client *client, const struct vd_user_client_config *config,
		    struct vd_error *error)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET,
				    .data.u64 = CLIENT_TOKEN_SOCKET};
	struct epoll_event again = {.events = EPOLLIN, .data.u64 = CLIENT_TOKEN_AGAIN};
	int fd = config->path ? user_client_connect(config->path, false, error) : config->fd, r;

	if (fd < 0)
		return config->path ? fd : vd_error_set(error, -EBADF, "no vfio-user socket given");
	r = user_socket_init(&client->main, client->env, fd, CLIENT_MESSAGE_MAX);
	if (r) {
		close(fd);
		client->main.fd = -1;
		return vd_error_set(error, r, "vfio-user: no memory");
	}
	client->twin.unsent_end = &client->twin.unsent;
	client->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	client->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->poll_fd < 0 || client->again_fd < 0 ||
	    epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, fd, &event) ||
	    epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, client->again_fd, &again) ||
	    user_client_reconnect_init(client))
		return vd_error_set(error, -errno, "vfio-user: no descriptors: %s",
				    strerror(errno));
	return 0;
}

static int create_device(struct user_client *client, const struct vd_user_client_config *config,
			 const struct client_setup *setup, struct vd_error *error)
{
	struct vd_device_config core = {
		.env = config->env,
		.host = config->host,
		.space = config->space,
		.name = "vfio-user",
		.ops = &client_ops,
		.context = client,
		.regions = setup->regions,
		.irqs = setup->irqs,
		.backing = setup->backing,
		.group = config->group,
		.yields = true,
	};

	return vd_device_create(&core, &client->device, error);
}

/* With the device there; what fails now is undone with it. */
static int begin(struct user_client *client, const struct vd_user_client_config *config,
		 const struct client_setup *setup, struct vd_error *error)
{
	int r = user_client_reset(client);

	if (r && r != -EOPNOTSUPP)
		return vd_error_set(error, r, "vfio-user %s: the device cannot be reset",
				    client->name);
	r = user_client_irqs_create(client, setup->irqs, error);
	if (!r && config->mem)
		r = user_client_memory_follow(client, error);
	return r;
}

static int create(struct user_client *client, const struct vd_user_client_config *config,
		  struct vd_error *error)
{
	struct client_setup setup;
	int r = user_client_version(client, error);

	if (r)
		return r;
	r = user_client_describe(client, &setup, error);
	if (!r && user_client_migration(client))
		r = vd_error_set(error, client->dead, "%s", client->end.text);
	if (!r)
		r = create_device(client, config, &setup, error);
	if (!r && !config->inspect)
		r = begin(client, config, &setup, error);
	user_client_forget(&setup);
	if (!r)
		vd_device_set_busy(client->device, true, client->poll_fd);
	return r;
}

static bool is_name(const char *text)
{
	size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "0123456789");

	return length && length <= 64 && !text[length];
}

int vd_user_client_create(const struct vd_user_client_config *config, struct vd_device **device,
			  struct vd_error *error)
{
	struct user_client *client = NULL;
	int r = 0;

	if (!config->mem != !config->space)
		r = vd_error_set(error, -EINVAL, "vfio-user: guest memory needs a DMA space "
				 "that follows it, and the other way round");
	else if (config->reconnect_ms && !config->path)
		r = vd_error_set(error, -EINVAL, "vfio-user: without a path nobody can be "
				 "connected to again");
	else if (config->client_id && !is_name(config->client_id))
		r = vd_error_set(error, -EINVAL, "vfio-user: a client's name has 1 to 64 letters "
				 "and digits");
	if (!r) {
		client = allocate(config);
		r = client ? 0 : vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	}
	if (r) {
		if (!config->path && config->fd >= 0)
			close(config->fd);
		return r;
	}
	r = open_all(client, config, error);
	if (!r)
		r = create(client, config, error);
	if (!r) {
		if (config->info)
			*config->info = client->info;
		*device = client->device;
		return 0;
	}
	if (client->device)
		vd_device_put(client->device);
	else
		destroy(client);
	return r;
}
