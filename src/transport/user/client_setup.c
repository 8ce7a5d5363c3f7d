/* SPDX-License-Identifier: BSD-2-Clause */
/* Getting to know a server: version, device, regions, interrupts. It may say anything. */
#include <endian.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "transport/user/client.h"

static int ended(struct user_client *client, int r, const char *what, struct vd_error *error)
{
	if (client->dead)
		return vd_error_set(error, client->dead, "%s", client->end.text);
	return vd_error_set(error, r, "vfio-user %s: the server does not answer a question for %s",
			    client->name, what);
}

/* ---- version -------------------------------------------------------------------------------- */

/* write_multiple is not offered: an access of the guest's is one message. */
static const char proposal_format[] =
	"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
	"\"max_dma_maps\":65535,\"pgsizes\":4096,\"twin_socket\":{\"supported\":true}%s%s}}";
_Static_assert(USER_FDS_MAX == 16 && CLIENT_TRANSFER_MAX == 1048576, "as the proposal says");

static int take_twin(struct user_client *client, struct client_call *call, int index,
		     struct vd_error *error)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET,
				    .data.u64 = CLIENT_TOKEN_SOCKET};
	struct user_socket twin;
	int r;

	if (index < 0)
		return 0;
	if ((unsigned)index >= call->fd_count)
		return vd_error_set(error, -EPROTO, "vfio-user %s: the server's second socket did "
				    "not come", client->name);
	r = user_socket_init(&twin, client->env, call->fds[index], CLIENT_MESSAGE_MAX);
	if (r)
		return vd_error_set(error, r, "vfio-user: no memory");
	call->fds[index] = -1;
	client->twin = twin;
	client->twin.unsent_end = &client->twin.unsent;
	if (epoll_ctl(client->poll_fd, EPOLL_CTL_ADD, client->twin.fd, &event))
		return vd_error_set(error, -EPROTO, "vfio-user %s: the server's second socket is "
				    "none", client->name);
	return 0;
}

static int take_version(struct user_client *client, struct client_call *call,
			const unsigned char *reply, struct vd_error *error)
{
	struct user_version version;
	int index, r;

	if (call->length < sizeof(version) || call->length > call->room)
		return vd_error_set(error, -EPROTO, "vfio-user %s: the server answers with %zu "
				    "bytes of version", client->name, call->length);
	memcpy(&version, reply, sizeof(version));
	if (version.major != USER_MAJOR || version.minor > USER_MINOR)
		return vd_error_set(error, -EPROTO, "vfio-user %s: the server speaks version "
				    "%u.%u, not %u.%u", client->name, version.major, version.minor,
				    USER_MAJOR, USER_MINOR);
	client->info.minor = version.minor;
	r = user_client_capabilities((const char *)reply + sizeof(version),
				     call->length - sizeof(version), &client->info, &index, error);
	/* What was not asked for is not had. */
	client->info.page_offset &= client->wants_page_offset;
	return r ? r : take_twin(client, call, index, error);
}

int user_client_version(struct user_client *client, struct vd_error *error)
{
	struct user_version version = {USER_MAJOR, USER_MINOR};
	char proposal[384], name[96] = "";
	struct client_request request = {
		.command = USER_VERSION,
		.parts = {{&version, sizeof(version)}, {proposal, 0}},
		.part_count = 2,
	};
	struct client_call call = {.room = 128u << 10};
	unsigned char *reply = vd_env_allocate(client->env, "user.version", call.room, 8);
	int r;

	if (!reply)
		return vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	call.reply = reply;
	if (*client->client_id)
		snprintf(name, sizeof(name), ",\"client_id\":\"%s\"", client->client_id);
	request.parts[1].iov_len = (size_t)snprintf(proposal, sizeof(proposal), proposal_format,
						    client->wants_page_offset
							    ? ",\"page_offset\":true" : "",
						    name) + 1;
	r = user_client_send(client, &call, &request);
	if (!r)
		r = user_client_wait(client, &call, 1);
	r = r ? ended(client, r, "the version", error)
	      : take_version(client, &call, reply, error);
	user_client_close_call(&call);
	client->env->release(client->env, reply, call.room);
	return r;
}

/* ---- device and interrupts ------------------------------------------------------------------ */

static int ask_device(struct user_client *client, struct client_setup *setup,
		      struct vd_error *error)
{
	struct user_device_info info = {.argsz = sizeof(info)};
	struct client_request request = {
		.command = USER_GET_INFO, .parts = {{&info, sizeof(info)}}, .part_count = 1,
	};
	struct user_device_info reply;
	int r = user_client_ask(client, &request, &reply, sizeof(reply), 1);

	if (r)
		return ended(client, r, "the device", error);
	if (!(reply.flags & VFIO_DEVICE_FLAGS_PCI))
		return vd_error_set(error, -EPROTO, "vfio-user %s: this is no PCI device",
				    client->name);
	if (reply.regions <= VD_REGION_CONFIG)
		return vd_error_set(error, -EPROTO, "vfio-user %s: a PCI device with %u regions "
				    "has no configuration space", client->name, reply.regions);
	client->info.pci = true;
	client->info.resettable = reply.flags & VFIO_DEVICE_FLAGS_RESET;
	/* VGA is left alone, and what is behind it nobody here knows. */
	setup->region_count = VD_REGION_VGA;
	setup->irq_count = reply.irqs < VD_IRQ_COUNT ? reply.irqs : (unsigned)VD_IRQ_COUNT;
	return 0;
}

static int ask_irq(struct user_client *client, struct client_setup *setup, unsigned index,
		   struct vd_error *error)
{
	static const unsigned most[VD_IRQ_COUNT] = {1, 32, VD_IRQ_VECTORS_MAX, 1, 1};
	struct user_irq_info info = {.argsz = sizeof(info), .index = index}, reply;
	struct client_request request = {
		.command = USER_GET_IRQ_INFO, .parts = {{&info, sizeof(info)}}, .part_count = 1,
	};
	int r = user_client_ask(client, &request, &reply, sizeof(reply), 1);

	if (r && client->dead)
		return ended(client, r, "interrupts", error);
	/* One that there is not may be refused. */
	if (r || !(reply.flags & VFIO_IRQ_INFO_EVENTFD))
		return 0;
	if (reply.index != index || reply.count > most[index])
		return vd_error_set(error, -EPROTO, "vfio-user %s: %u interrupts of index %u",
				    client->name, reply.count, index);
	setup->irqs[index] = reply.count;
	client->info.irq_flags[index] = reply.flags;
	return 0;
}

/* ---- configuration space -------------------------------------------------------------------- */

static int read_config(struct user_client *client, uint64_t offset, uint32_t *value)
{
	struct user_region_access access = {offset, VD_REGION_CONFIG, sizeof(*value)};
	struct client_request request = {
		.command = USER_REGION_READ, .parts = {{&access, sizeof(access)}}, .part_count = 1,
	};
	struct {
		struct user_region_access access;
		uint32_t value;
		uint32_t padding;
	} reply;
	int r = user_client_ask(client, &request, &reply, sizeof(access) + sizeof(*value), 1);

	*value = r ? UINT32_MAX : le32toh(reply.value);
	return r;
}

/* How a BAR is to be mapped is in its register only. */
static int ask_prefetch(struct user_client *client, struct client_setup *setup,
			struct vd_error *error)
{
	for (unsigned i = 0; i <= VD_REGION_BAR5; i++) {
		struct vd_region *region = &setup->regions[i];
		uint32_t value;
		int r;

		if (!(region->flags & VD_REGION_MMAP))
			continue;
		r = read_config(client, PCI_BASE_ADDRESS_0 + 4 * i, &value);
		if (r)
			return ended(client, r, "configuration space", error);
		if (!(value & PCI_BASE_ADDRESS_SPACE_IO) && value & PCI_BASE_ADDRESS_MEM_PREFETCH)
			region->flags |= VD_REGION_PREFETCH;
	}
	return 0;
}

/* ---- all of it ------------------------------------------------------------------------------ */

int user_client_describe(struct user_client *client, struct client_setup *setup,
			 struct vd_error *error)
{
	bool mappable = false;
	int r;

	*setup = (struct client_setup){.region_count = 0};
	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		setup->backing[i].fd = -1;
	r = ask_device(client, setup, error);
	for (unsigned i = 0; i < setup->region_count && !r; i++)
		r = user_client_region(client, setup, i, error);
	for (unsigned i = 0; i < setup->irq_count && !r; i++)
		r = ask_irq(client, setup, i, error);
	if (!r)
		r = ask_prefetch(client, setup, error);
	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		mappable |= setup->regions[i].flags & VD_REGION_MMAP;
	/* Stores to mapped memory would overtake them. */
	client->posts = !mappable;
	client->config_size = (unsigned)setup->regions[VD_REGION_CONFIG].size;
	return r;
}

void user_client_forget(struct client_setup *setup)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		if (setup->backing[i].fd >= 0)
			close(setup->backing[i].fd);
		setup->backing[i].fd = -1;
	}
}
