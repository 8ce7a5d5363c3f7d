/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server that went away and comes back: the same kind of device at the same socket. It has been
 * reset by that, so the guest's driver has to begin anew; what the guest had written to its
 * configuration space is written again, and its memory and interrupts are announced again.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "transport/user/client.h"

/* ---- the clock ------------------------------------------------------------------------------ */

int user_client_reconnect_init(struct user_client *client)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = CLIENT_TOKEN_TIMER};

	if (!client->reconnect_ns)
		return 0;
	client->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (client->timer_fd < 0)
		return -errno;
	return epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, client->timer_fd, &event) ? -errno : 0;
}

static void set_timer(struct user_client *client, uint64_t ns)
{
	struct timespec every = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	struct itimerspec timer = {.it_interval = every, .it_value = every};

	(void)timerfd_settime(client->timer_fd, 0, &timer, NULL);
}

void user_client_reconnect_begin(struct user_client *client)
{
	set_timer(client, client->reconnect_ns);
}

/* ---- configuration space -------------------------------------------------------------------- */

void user_client_config_written(struct user_client *client, uint64_t offset, const void *data,
				size_t length)
{
	for (size_t i = 0; i < length && offset + i < PCI_CFG_SPACE_SIZE; i++) {
		client->config[offset + i] = ((const uint8_t *)data)[i];
		client->config_written[offset + i] = true;
	}
}

void user_client_config_reset(struct user_client *client)
{
	memset(client->config_written, 0, sizeof(client->config_written));
}

static int write_config(struct user_client *client, unsigned at)
{
	struct user_region_access access = {at, VD_REGION_CONFIG, 1}, reply;
	struct client_request request = {
		.command = USER_REGION_WRITE,
		.parts = {{&access, sizeof(access)}, {&client->config[at], 1}}, .part_count = 2,
	};

	return client->config_written[at]
		       ? user_client_ask(client, &request, &reply, sizeof(reply), 1) : 0;
}

/* The command register last: nothing answers before it is where it was. */
static int restore_config(struct user_client *client)
{
	int r = 0;

	for (unsigned i = PCI_CACHE_LINE_SIZE; i < PCI_CFG_SPACE_SIZE && !r; i++)
		r = write_config(client, i);
	if (!r)
		r = write_config(client, PCI_COMMAND);
	return r ? r : write_config(client, PCI_COMMAND + 1);
}

/* ---- coming back ---------------------------------------------------------------------------- */

/* Nobody is at the old sockets any more, and nobody will be, as the connection is dead. */
static bool replace_socket(struct user_client *client, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = CLIENT_TOKEN_SOCKET};
	struct user_socket fresh;
	bool idle;

	if (user_socket_init(&fresh, client->env, fd, CLIENT_MESSAGE_MAX)) {
		close(fd);
		return false;
	}
	pthread_mutex_lock(&client->lock);
	idle = !client->receiving && !client->calls;
	if (idle) {
		user_socket_fini(&client->main);
		if (client->twin.fd >= 0)
			user_socket_fini(&client->twin);
		client->main = fresh;
		client->main.unsent_end = &client->main.unsent;
		client->twin = (struct user_socket){.fd = -1};
		client->twin.unsent_end = &client->twin.unsent;
		client->out_wanted[0] = client->out_wanted[1] = false;
		client->dead = 0;
		(void)epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, fd, &event);
	}
	pthread_mutex_unlock(&client->lock);
	if (!idle)
		user_socket_fini(&fresh);
	return idle;
}

/* Whether it is such a device as it was. */
static bool is_same(struct user_client *client, const struct client_setup *setup)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		const struct vd_region *region = vd_device_region(client->device, i);

		if (region->size != setup->regions[i].size ||
		    region->flags != setup->regions[i].flags)
			return false;
	}
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		if (vd_device_irq_count(client->device, i) != setup->irqs[i])
			return false;
	return true;
}

static int introduce(struct user_client *client)
{
	struct vd_error error = {.code = 0};
	struct client_setup setup;
	int r = user_client_version(client, &error);

	if (r)
		return r;
	r = user_client_describe(client, &setup, &error);
	if (!r && !is_same(client, &setup))
		r = -EPROTO;
	user_client_forget(&setup);
	if (!r)
		r = user_client_migration(client);
	if (!r)
		r = user_client_reset(client);
	return r == -EOPNOTSUPP ? 0 : r;
}

static int resume(struct user_client *client)
{
	int r = introduce(client);

	if (!r)
		r = user_client_irqs_enable(client);
	if (!r)
		r = restore_config(client);
	if (!r && client->memory.mem)
		r = user_client_memory_sync(client);
	return r;
}

void user_client_reconnect(struct user_client *client)
{
	struct vd_error error = {.code = 0};
	uint64_t ignored;
	int fd, r;

	if (read(client->timer_fd, &ignored, sizeof(ignored)) < 0 || !user_client_dead(client) ||
	    client->quiesced)
		return;
	fd = user_client_connect(client->name, true, &error);
	if (fd < 0)
		return;
	user_client_memory_forget(client);
	client->returning = true;
	r = replace_socket(client, fd) ? resume(client) : -EAGAIN;
	/* Not for the log: it is tried again. */
	if (r && !user_client_dead(client))
		(void)user_client_fail(client, r, "is another one: %s", strerror(-r));
	client->returning = false;
	if (user_client_dead(client))
		return;
	pthread_mutex_lock(&client->lock);
	client->told = false;
	pthread_mutex_unlock(&client->lock);
	set_timer(client, 0);
	client->reconnects++;
	if (atomic_exchange(&client->intx, false))
		vd_device_lower(client->device);
	if (client->env->log)
		client->env->log(client->env, VD_LOG_INFO, "vfio-user: the server is back");
}
