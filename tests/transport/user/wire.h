/* SPDX-License-Identifier: BSD-2-Clause */
/* A client that can send anything: for tests of the server, and of what a hostile client may do. */
#ifndef VIADUCT_TESTS_TRANSPORT_USER_WIRE_H
#define VIADUCT_TESTS_TRANSPORT_USER_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "transport/user/protocol.h"

#define WIRE_FDS 32u
#define WIRE_ROOM ((1u << 20) + 4096u)

struct wire {
	int fd, twin; /* -1: none */
	uint16_t id;
	struct user_header header; /* of the last message that came */
	unsigned char *payload;
	size_t length, room;
	int fds[WIRE_FDS];
	unsigned fd_count;
};

/* wire_open() - connect; fails the test if that fails. wire_close() */
void wire_open(struct wire *w, const char *path);
void wire_close(struct wire *w);
/* wire_raw() - bytes as they are, with descriptors. Return: bytes that went, -errno */
long wire_raw(int fd, const void *bytes, size_t length, const int *fds, unsigned fd_count);
/* wire_send() - one message with the next id and these flags. Return: 0, -errno */
int wire_send(struct wire *w, unsigned command, uint32_t flags, const void *payload, size_t length,
	      const int *fds, unsigned fd_count);
/* wire_receive() - the next message from @fd. Return: 0; -ECONNRESET the server has gone */
int wire_receive(struct wire *w, int fd);
/* wire_drop_fds() - close what came along with the last message */
void wire_drop_fds(struct wire *w);
/*
 * wire_call() - send, and receive the reply, whose descriptors are closed unless @keep_fds
 * Return: 0, the error of the reply, as a negative errno (-EPROTO: none was given); -ECONNRESET
 */
int wire_call(struct wire *w, unsigned command, const void *payload, size_t length, const int *fds,
	      unsigned fd_count, bool keep_fds);
/* wire_hello() - VERSION 0.@minor with @json (NULL: none). Return: as wire_call() */
int wire_hello(struct wire *w, unsigned minor, const char *json);
/* wire_introduce() - open, and say what everybody says; fails the test if that fails */
void wire_introduce(struct wire *w, const char *path);

int wire_read(struct wire *w, unsigned region, uint64_t offset, void *data, uint32_t count);
int wire_write(struct wire *w, unsigned region, uint64_t offset, const void *data, uint32_t count);
/* wire_post() - a write without a reply */
int wire_post(struct wire *w, unsigned region, uint64_t offset, const void *data, uint32_t count);
int wire_map(struct wire *w, uint64_t address, uint64_t size, int fd, uint64_t offset);
int wire_unmap(struct wire *w, uint64_t address, uint64_t size);
int wire_set_irqs(struct wire *w, uint32_t flags, unsigned index, unsigned start, unsigned count,
		  const int *fds, unsigned fd_count);
/*
 * wire_answer() - to the DMA message that was last received, on @fd: @data is what is read
 * @wide: with a count of 64 bits
 */
int wire_answer(struct wire *w, int fd, const void *data, bool wide);

#endif
