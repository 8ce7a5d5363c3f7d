/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire.h"

void wire_open(struct wire *w, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 20}; /* a server that says nothing fails the test */

	*w = (struct wire){.twin = -1};
	w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(w->fd >= 0);
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(w->fd, (struct sockaddr *)&address, sizeof(address)))
		fail_msg("connect %s: %s", path, strerror(errno));
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

void wire_close(struct wire *w)
{
	wire_drop_fds(w);
	if (w->fd >= 0)
		close(w->fd);
	if (w->twin >= 0)
		close(w->twin);
	free(w->payload);
}

long wire_raw(int fd, const void *bytes, size_t length, const int *fds, unsigned fd_count)
{
	union {
		char bytes[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {(void *)(uintptr_t)bytes, length};
	struct msghdr from = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t n;

	memset(&control, 0, sizeof(control));
	if (fd_count) {
		struct cmsghdr *c;

		from.msg_control = control.bytes;
		from.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&from);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	n = sendmsg(fd, &from, MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static int send_all(int fd, const unsigned char *bytes, size_t length, const int *fds,
		    unsigned fd_count)
{
	while (length) {
		long n = wire_raw(fd, bytes, length, fds, fd_count);

		if (n < 0)
			return (int)n;
		bytes += n;
		length -= (size_t)n;
		fd_count = 0;
	}
	return 0;
}

int wire_send(struct wire *w, unsigned command, uint32_t flags, const void *payload, size_t length,
	      const int *fds, unsigned fd_count)
{
	struct user_header header = {
		.id = ++w->id,
		.command = (uint16_t)command,
		.size = (uint32_t)(sizeof(header) + length),
		.flags = flags,
	};
	unsigned char *bytes = malloc(header.size);
	int r;

	assert_non_null(bytes);
	memcpy(bytes, &header, sizeof(header));
	if (length)
		memcpy(bytes + sizeof(header), payload, length);
	r = send_all(w->fd, bytes, header.size, fds, fd_count);
	free(bytes);
	return r;
}

static void take_fds(struct wire *w, struct msghdr *from)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(from); c; c = CMSG_NXTHDR(from, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		assert_true(w->fd_count + bytes / sizeof(int) <= WIRE_FDS);
		memcpy(w->fds + w->fd_count, CMSG_DATA(c), bytes);
		w->fd_count += (unsigned)(bytes / sizeof(int));
	}
}

static int receive_bytes(struct wire *w, int fd, void *to, size_t length)
{
	size_t done = 0;

	while (done < length) {
		union {
			char bytes[CMSG_SPACE(WIRE_FDS * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec part = {(char *)to + done, length - done};
		struct msghdr into = {.msg_iov = &part, .msg_iovlen = 1,
				      .msg_control = control.bytes,
				      .msg_controllen = sizeof(control.bytes)};
		ssize_t n = recvmsg(fd, &into, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EAGAIN)
			fail_msg("the server does not answer");
		if (n <= 0)
			return -ECONNRESET;
		take_fds(w, &into);
		done += (size_t)n;
	}
	return 0;
}

int wire_receive(struct wire *w, int fd)
{
	int r;

	wire_drop_fds(w);
	r = receive_bytes(w, fd, &w->header, sizeof(w->header));
	if (r)
		return r;
	assert_true(w->header.size >= sizeof(w->header));
	w->length = w->header.size - sizeof(w->header);
	assert_true(w->length <= WIRE_ROOM);
	if (w->length > w->room) {
		free(w->payload);
		w->room = w->length;
		w->payload = malloc(w->room);
		assert_non_null(w->payload);
	}
	return receive_bytes(w, fd, w->payload, w->length);
}

void wire_drop_fds(struct wire *w)
{
	while (w->fd_count)
		close(w->fds[--w->fd_count]);
}

int wire_call(struct wire *w, unsigned command, const void *payload, size_t length, const int *fds,
	      unsigned fd_count, bool keep_fds)
{
	int r = wire_send(w, command, 0, payload, length, fds, fd_count);

	if (r)
		return r == -EPIPE ? -ECONNRESET : r;
	r = wire_receive(w, w->fd);
	if (r)
		return r;
	if (!keep_fds)
		wire_drop_fds(w);
	assert_int_equal(w->header.id, w->id);
	assert_int_equal(w->header.command, command);
	assert_int_equal(w->header.flags & USER_TYPE_MASK, USER_TYPE_REPLY);
	if (!(w->header.flags & USER_ERROR))
		return 0;
	/* "If an error occurs, the reply message must only include the reply header." */
	assert_int_equal(w->length, 0);
	return w->header.error ? -(int)w->header.error : -EPROTO;
}

int wire_hello(struct wire *w, unsigned minor, const char *json)
{
	struct user_version version = {USER_MAJOR, (uint16_t)minor};
	size_t length = json ? strlen(json) + 1 : 0;
	unsigned char *payload = malloc(sizeof(version) + length);
	int r;

	assert_non_null(payload);
	memcpy(payload, &version, sizeof(version));
	if (json)
		memcpy(payload + sizeof(version), json, length);
	r = wire_call(w, USER_VERSION, payload, sizeof(version) + length, NULL, 0, true);
	free(payload);
	if (!r && w->fd_count) {
		w->twin = w->fds[0];
		w->fd_count = 0;
	}
	return r;
}

void wire_introduce(struct wire *w, const char *path)
{
	wire_open(w, path);
	assert_int_equal(wire_hello(w, 1, "{\"capabilities\":{\"max_msg_fds\":16}}"), 0);
}

int wire_read(struct wire *w, unsigned region, uint64_t offset, void *data, uint32_t count)
{
	struct user_region_access access = {offset, region, count};
	int r = wire_call(w, USER_REGION_READ, &access, sizeof(access), NULL, 0, false);

	if (r)
		return r;
	assert_int_equal(w->length, sizeof(access) + count);
	assert_memory_equal(w->payload, &access, sizeof(access));
	memcpy(data, w->payload + sizeof(access), count);
	return 0;
}

static int write_message(struct wire *w, uint32_t flags, unsigned region, uint64_t offset,
			 const void *data, uint32_t count)
{
	struct user_region_access access = {offset, region, count};
	unsigned char *payload = malloc(sizeof(access) + count);
	int r;

	assert_non_null(payload);
	memcpy(payload, &access, sizeof(access));
	memcpy(payload + sizeof(access), data, count);
	r = flags & USER_NO_REPLY
		? wire_send(w, USER_REGION_WRITE, flags, payload, sizeof(access) + count, NULL, 0)
		: wire_call(w, USER_REGION_WRITE, payload, sizeof(access) + count, NULL, 0, false);
	free(payload);
	return r;
}

int wire_write(struct wire *w, unsigned region, uint64_t offset, const void *data, uint32_t count)
{
	return write_message(w, 0, region, offset, data, count);
}

int wire_post(struct wire *w, unsigned region, uint64_t offset, const void *data, uint32_t count)
{
	return write_message(w, USER_NO_REPLY, region, offset, data, count);
}

int wire_map(struct wire *w, uint64_t address, uint64_t size, int fd, uint64_t offset)
{
	struct user_dma_map map = {sizeof(map), USER_DMA_READABLE | USER_DMA_WRITABLE, offset,
				   address, size};

	return wire_call(w, USER_DMA_MAP, &map, sizeof(map), &fd, fd >= 0, false);
}

int wire_unmap(struct wire *w, uint64_t address, uint64_t size)
{
	struct user_dma_unmap unmap = {sizeof(unmap), 0, address, size};
	int r = wire_call(w, USER_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0, false);

	if (!r)
		assert_memory_equal(w->payload, &unmap, sizeof(unmap));
	return r;
}

int wire_set_irqs(struct wire *w, uint32_t flags, unsigned index, unsigned start, unsigned count,
		  const int *fds, unsigned fd_count)
{
	struct user_irq_set set = {sizeof(set), flags, index, start, count};

	return wire_call(w, USER_SET_IRQS, &set, sizeof(set), fds, fd_count, false);
}

int wire_answer(struct wire *w, int fd, const void *data, bool wide)
{
	struct user_dma_access access;
	struct user_header header = w->header;
	size_t length = wide ? sizeof(access) : USER_DMA_ACCESS_SHORT;
	unsigned char *bytes;
	int r;

	memcpy(&access, w->payload, sizeof(access));
	header.flags = USER_TYPE_REPLY;
	bytes = malloc(sizeof(header) + length + access.count);
	assert_non_null(bytes);
	memcpy(bytes + sizeof(header), &access, length);
	if (header.command == USER_DMA_READ) {
		memcpy(bytes + sizeof(header) + length, data, access.count);
		length += access.count;
	}
	header.size = (uint32_t)(sizeof(header) + length);
	memcpy(bytes, &header, sizeof(header));
	r = send_all(fd, bytes, header.size, NULL, 0);
	free(bytes);
	return r;
}
