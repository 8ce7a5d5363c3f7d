/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server's accesses to the guest's memory, by messages. Copies are made under a guard. One that
 * has to wait for an invalidation looks again now and then instead, whether the server may still
 * reach the memory: the invalidation may be waiting for the server, and the server for us. It may
 * also be waiting for another device, whose server has no thread left but the one that waits for
 * us: so that has an end as well.
 */
#include <string.h>
#include <time.h>

#include "transport/user/client.h"

#define WAIT_NS 100000000u

struct copy {
	uint64_t at;
	unsigned char *buffer;
	uint64_t length;
	bool write;
};

/* What can be had in one piece. Return: bytes; 0 wait; -EFAULT */
static int64_t copy_piece(struct vd_dma_space *space, const struct copy *copy)
{
	void *pointer;
	uint64_t run;
	int r;

	vd_dma_guard_enter(space);
	r = vd_dma_translate(space, (vd_iova){copy->at}, copy->write ? VD_WRITE : VD_READ, &pointer,
			     &run);
	if (!r) {
		if (run > copy->length)
			run = copy->length;
		if (copy->write) {
			vd_guest_copy(pointer, copy->buffer, run);
			vd_dma_mark_dirty(space, (vd_iova){copy->at}, run);
		} else {
			vd_guest_copy(copy->buffer, pointer, run);
		}
	}
	vd_dma_guard_leave(space);
	if (r == -EAGAIN)
		return 0;
	return r ? r : (int64_t)run;
}

static void wait_a_moment(struct user_client *client, const struct copy *copy)
{
	static const struct timespec moment = {.tv_nsec = 100000};
	struct vd_mem *mem = client->memory.mem;
	uint64_t page = UINT64_C(1) << vd_mem_page_shift(mem);
	uint64_t rest = page - (copy->at & (page - 1));

	if (copy->write && vd_mem_watched(mem, (vd_gpa){copy->at}, 1))
		vd_mem_watch_tell(mem, (vd_gpa){copy->at},
				  rest < copy->length ? rest : copy->length);
	else
		nanosleep(&moment, NULL);
}

static int copy_all(struct user_client *client, struct copy copy)
{
	unsigned access = copy.write ? VD_WRITE : VD_READ;
	uint64_t until = client->env->clock_ns(client->env) + WAIT_NS;

	while (copy.length) {
		int64_t done;

		if (!user_client_memory_allows(client, copy.at, copy.length, access))
			return -EFAULT;
		done = copy_piece(client->memory.space, &copy);
		if (done < 0)
			return (int)done;
		if (!done) {
			if (client->env->clock_ns(client->env) > until)
				return -EBUSY;
			wait_a_moment(client, &copy);
		}
		copy.at += (uint64_t)done;
		copy.buffer += done;
		copy.length -= (uint64_t)done;
	}
	return 0;
}

static int check(const struct user_message *message, struct user_dma_access *access)
{
	uint64_t data;

	if (message->length < sizeof(*access))
		return -EINVAL;
	memcpy(access, message->payload, sizeof(*access));
	data = message->header.command == USER_DMA_WRITE ? access->count : 0;
	if (!access->count || access->count > CLIENT_TRANSFER_MAX ||
	    message->length - sizeof(*access) != data)
		return -EINVAL;
	return 0;
}

void user_client_dma(struct user_client *client, struct user_socket *s,
		     const struct user_message *message)
{
	struct user_dma_access access = {.count = 0};
	bool write = message->header.command == USER_DMA_WRITE;
	int r = check(message, &access);
	struct copy copy = {access.address, NULL, access.count, write};
	struct iovec parts[2] = {{&access, sizeof(access)}};

	if (!r && !write && !client->bounce) {
		client->bounce =
			vd_env_allocate(client->env, "user.bounce", CLIENT_TRANSFER_MAX, 64);
		r = client->bounce ? 0 : -ENOMEM;
	}
	/* The bytes are only read. */
	copy.buffer = write ? (unsigned char *)(uintptr_t)message->payload + sizeof(access)
			    : client->bounce;
	if (!r)
		r = copy_all(client, copy);
	parts[1] = (struct iovec){client->bounce, write ? 0 : access.count};
	user_client_reply(client, s, &message->header, r, parts, write ? 1 : 2);
}
