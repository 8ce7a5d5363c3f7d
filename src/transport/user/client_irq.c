/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts come as eventfds, which the poll descriptor watches. Of INTx, MSI and MSI-X one at a
 * time, as vfio-pci has it: the one that the guest has switched on.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <viaduct/pci.h>

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
	int r = 0;

	client->irq_first[index] = client->irq_count;
	for (unsigned i = 0; i < count && !r; i++)
		r = create_one(client, index, i);
	client->irq_counts[index] = client->irq_count - client->irq_first[index];
	return r;
}

/* Has the server know the descriptors of an index. */
static int enable(struct user_client *client, unsigned index)
{
	unsigned at = 0, count = client->irq_counts[index];
	unsigned most = client->info.fds_max ? (unsigned)client->info.fds_max : 1;
	int r = 0;

	/* All of MSI at once: what is raised beyond that arrives at one of these. */
	if (index == VD_IRQ_MSI)
		while (count > most)
			count /= 2;
	while (!r && at < count) {
		int fds[USER_FDS_MAX];
		unsigned n = count - at < most ? count - at : most;

		for (unsigned i = 0; i < n; i++)
			fds[i] = client->irqs[client->irq_first[index] + at + i].fd;
		r = set_irqs(client, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, index,
			     at, n, fds);
		at += n;
	}
	return r;
}

/* ---- which of INTx, MSI and MSI-X ------------------------------------------------------------ */

static int take_capability(void *context, const struct vd_pci_capability_info *info)
{
	struct user_client *client = context;

	if (info->extended)
		return 0;
	if (info->id == PCI_CAP_ID_MSI)
		client->msi_at = info->offset + PCI_MSI_FLAGS;
	if (info->id == PCI_CAP_ID_MSIX)
		client->msix_at = info->offset + PCI_MSIX_FLAGS + 1;
	return 0;
}

/* Where the guest switches them on. What cannot be found is not followed. */
static int find_switches(struct user_client *client)
{
	struct user_region_access access = {0, VD_REGION_CONFIG, PCI_CFG_SPACE_SIZE};
	struct client_request request = {
		.command = USER_REGION_READ, .parts = {{&access, sizeof(access)}}, .part_count = 1,
	};
	struct {
		struct user_region_access access;
		uint8_t config[PCI_CFG_SPACE_SIZE];
	} reply;
	int r;

	if (client->info.transfer_max < PCI_CFG_SPACE_SIZE)
		return 0;
	r = user_client_ask(client, &request, &reply, sizeof(reply), 1);
	if (!r)
		(void)vd_pci_each_capability(reply.config, sizeof(reply.config), take_capability,
					     client);
	return client->dead ? r : 0;
}

/* The best there is, until the guest says what it wants. */
static int choose(struct user_client *client, const unsigned *counts)
{
	unsigned kinds = 0;

	client->irq_active = VD_IRQ_INTX;
	for (unsigned i = VD_IRQ_INTX; i <= VD_IRQ_MSIX; i++) {
		if (!counts[i])
			continue;
		client->irq_active = i;
		kinds++;
	}
	return kinds > 1 ? find_switches(client) : 0;
}

static void follow(struct user_client *client)
{
	unsigned wanted = client->msix_on && client->irq_counts[VD_IRQ_MSIX] ? VD_IRQ_MSIX
			  : client->msi_on && client->irq_counts[VD_IRQ_MSI] ? VD_IRQ_MSI
									     : VD_IRQ_INTX;
	int r;

	if (wanted == client->irq_active || !client->irq_counts[wanted] ||
	    user_client_dead(client))
		return;
	if (atomic_exchange(&client->intx, false))
		vd_device_lower(client->device);
	r = set_irqs(client, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		     client->irq_active, 0, 0, NULL);
	client->irq_active = wanted;
	if (!r)
		r = enable(client, wanted);
	if (r && !user_client_dead(client))
		user_client_fail(client, r, "does not change its kind of interrupts");
}

static bool take_bit(unsigned at, uint8_t bit, uint64_t offset, const uint8_t *data, size_t length,
		     bool *on)
{
	if (!at || at < offset || at - offset >= length)
		return false;
	*on = data[at - offset] & bit;
	return true;
}

void user_client_irqs_written(struct user_client *client, uint64_t offset, const void *data,
			      size_t length)
{
	bool msi = take_bit(client->msi_at, PCI_MSI_FLAGS_ENABLE, offset, data, length,
			    &client->msi_on);
	bool msix = take_bit(client->msix_at, PCI_MSIX_FLAGS_ENABLE >> 8, offset, data, length,
			     &client->msix_on);

	if (!msi && !msix)
		return;
	client->irq_follows = true;
	follow(client);
}

void user_client_irqs_reset(struct user_client *client)
{
	client->msi_on = client->msix_on = false;
	if (client->irq_follows)
		follow(client);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

int user_client_irqs_enable(struct user_client *client)
{
	int r = enable(client, client->irq_active);

	if (!r)
		r = enable(client, VD_IRQ_ERR);
	return r ? r : enable(client, VD_IRQ_REQ);
}

int user_client_irqs_create(struct user_client *client, const unsigned *counts,
			    struct vd_error *error)
{
	unsigned all = 0;
	int r = 0;

	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		all += counts[i];
	if (!all)
		return 0;
	client->irqs = vd_env_allocate(client->env, "user.irqs", all * sizeof(*client->irqs),
				       _Alignof(struct client_irq));
	client->irq_room = client->irqs ? all : 0;
	if (!client->irqs)
		return vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	for (unsigned i = 0; i < VD_IRQ_COUNT && !r; i++)
		r = create_index(client, i, counts[i]);
	if (!r)
		r = choose(client, counts);
	if (!r)
		r = user_client_irqs_enable(client);
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

			if (token >= CLIENT_TOKEN_TIMER) {
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
