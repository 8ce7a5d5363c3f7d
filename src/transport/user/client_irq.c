/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts come as eventfds, which the poll descriptor watches. One kind at a time, as vfio-pci
 * has it: the best that there is.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/user/client.h"

#define EVENTS 16

static int set_irqs(struct user_client *client, uint32_t flags, unsigned index, unsigned start,
		    unsigned count, const int *fds)
{
	struct user_irq_set set = {.argsz = sizeof(set), .flags = flags, .index = index,
				   .start = start, .count = count};
	struct client_request request = {
		.command = USER_SET_IRQS, .parts = {{&set, sizeof(set)}}, .part_count = 1,
		.fds = fds, .fd_count = fds ? count : 0,
	};

	return user_client_ask(client, &request, NULL, 0, 1);
}

static int create_one(struct user_client *client, unsigned index, unsigned vector)
{
	struct client_irq *irq = &client->irqs[client->irq_count];
	/* Edges are counted, not the counter: it is never read. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = client->irq_count};
	int r = vd_env_inject(client->env, "user.eventfd");

	if (r)
		return r;
	*irq = (struct client_irq){index, vector, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (irq->fd < 0)
		return -errno;
	client->irq_count++;
	return epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, irq->fd, &event) ? -errno : 0;
}

static int create_index(struct user_client *client, unsigned index, unsigned count)
{
	unsigned first = client->irq_count, at = 0;
	unsigned most = client->info.fds_max ? (unsigned)client->info.fds_max : 1;
	int r = 0;

	for (unsigned i = 0; i < count && !r; i++)
		r = create_one(client, index, i);
	while (!r && at < count) {
		int fds[USER_FDS_MAX];
		unsigned n = count - at < most ? count - at : most;

		for (unsigned i = 0; i < n; i++)
			fds[i] = client->irqs[first + at + i].fd;
		r = set_irqs(client, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, index,
			     at, n, fds);
		at += n;
	}
	return r;
}

int user_client_irqs_create(struct user_client *client, const unsigned *counts,
			    struct vd_error *error)
{
	unsigned best = counts[VD_IRQ_MSIX] ? VD_IRQ_MSIX
			: counts[VD_IRQ_MSI] ? VD_IRQ_MSI : VD_IRQ_INTX;
	unsigned all = counts[best] + counts[VD_IRQ_ERR] + counts[VD_IRQ_REQ];
	int r;

	if (!all)
		return 0;
	client->irqs = vd_env_allocate(client->env, "user.irqs", all * sizeof(*client->irqs),
				       _Alignof(struct client_irq));
	client->irq_room = client->irqs ? all : 0;
	if (!client->irqs)
		return vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	r = create_index(client, best, counts[best]);
	if (!r)
		r = create_index(client, VD_IRQ_ERR, counts[VD_IRQ_ERR]);
	if (!r)
		r = create_index(client, VD_IRQ_REQ, counts[VD_IRQ_REQ]);
	if (r == -EMFILE || r == -ENFILE)
		return vd_error_set(error, r, "vfio-user %s: the device's %u interrupts need as "
				    "many descriptors: raise the limit (ulimit -n)", client->name,
				    all);
	if (r)
		return vd_error_set(error, r, "vfio-user %s: the server takes no descriptors for "
				    "its interrupts", client->name);
	return 0;
}

void user_client_irqs_fini(struct user_client *client)
{
	for (unsigned i = 0; i < client->irq_count; i++)
		if (client->irqs[i].fd >= 0)
			close(client->irqs[i].fd);
	client->env->release(client->env, client->irqs,
			     client->irq_room * sizeof(*client->irqs));
	client->irqs = NULL;
	client->irq_count = client->irq_room = 0;
}

void user_client_irq_fired(struct user_client *client, uint64_t token)
{
	const struct client_irq *irq;

	if (token >= client->irq_count)
		return;
	irq = &client->irqs[token];
	if (irq->index == VD_IRQ_INTX)
		atomic_store(&client->intx, true);
	vd_device_raise(client->device, irq->index, irq->vector);
}

void user_client_irqs_take(struct user_client *client)
{
	unsigned rounds = client->irq_count / EVENTS + 2;
	bool fired = true, more = false;

	while (fired && rounds--) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(client->poll_fd, events, EVENTS, 0);

		fired = false;
		for (int i = 0; i < count; i++) {
			uint64_t token = events[i].data.u64;

			if (token == CLIENT_TOKEN_SOCKET || token == CLIENT_TOKEN_AGAIN) {
				more = true;
			} else {
				fired = true;
				user_client_irq_fired(client, token);
			}
		}
	}
	/* Sockets tell of what has come once only. */
	if (more)
		user_client_poke(client);
}

void user_client_intx_done(struct user_client *client)
{
	struct user_irq_set set = {.argsz = sizeof(set), .index = VD_IRQ_INTX, .count = 1,
				   .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK};
	struct client_request request = {
		.command = USER_SET_IRQS, .parts = {{&set, sizeof(set)}}, .part_count = 1,
	};

	if (!atomic_exchange(&client->intx, false))
		return;
	vd_device_lower(client->device);
	user_client_post(client, &request);
}
