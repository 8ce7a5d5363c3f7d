/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending whole messages to a peer that may take its time. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/user/message.h"

/* Bytes and descriptors on their way: what one sendmsg(2) is given. */
struct outgoing {
	struct iovec parts[USER_PARTS_MAX + 1];
	unsigned count;
	const int *fds;
	unsigned fd_count;
};

/* Return: bytes that went, with all the descriptors if any; -EAGAIN: none now */
static ssize_t send_some(const struct user_socket *s, const struct outgoing *out)
{
	union {
		char bytes[CMSG_SPACE(USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr from = {.msg_iov = (struct iovec *)out->parts, .msg_iovlen = out->count};
	ssize_t n;

	if (out->fd_count) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		from.msg_control = control.bytes;
		from.msg_controllen = CMSG_SPACE(out->fd_count * sizeof(int));
		c = CMSG_FIRSTHDR(&from);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(out->fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), out->fds, out->fd_count * sizeof(int));
	}
	do
		n = sendmsg(s->fd, &from, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* ---- what the peer did not take ------------------------------------------------------------- */

static int keep_fds(struct user_unsent *unsent, const struct outgoing *out)
{
	for (; unsent->fd_count < out->fd_count; unsent->fd_count++) {
		int fd = fcntl(out->fds[unsent->fd_count], F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		unsent->fds[unsent->fd_count] = fd;
	}
	return 0;
}

static void close_fds(struct user_unsent *unsent)
{
	while (unsent->fd_count)
		close(unsent->fds[--unsent->fd_count]);
}

/* What remains of a message of which @done bytes went. */
static int keep_rest(struct user_socket *s, const struct outgoing *out, size_t size, size_t done)
{
	struct user_unsent *unsent = vd_env_allocate(
		s->env, "user.unsent", sizeof(*unsent) + size, _Alignof(struct user_unsent));
	unsigned char *at;
	int r = 0;

	if (!unsent)
		return -ENOMEM;
	unsent->size = size;
	unsent->done = done;
	at = unsent->bytes;
	for (unsigned i = 0; i < out->count; i++) {
		memcpy(at, out->parts[i].iov_base, out->parts[i].iov_len);
		at += out->parts[i].iov_len;
	}
	if (!done)
		r = keep_fds(unsent, out);
	if (r) {
		close_fds(unsent);
		s->env->release(s->env, unsent, sizeof(*unsent) + size);
		return r;
	}
	*s->unsent_end = unsent;
	s->unsent_end = &unsent->next;
	s->unsent_bytes += size - done;
	return 0;
}

int user_flush(struct user_socket *s)
{
	while (s->unsent) {
		struct user_unsent *unsent = s->unsent;
		struct outgoing out = {
			.parts = {{unsent->bytes + unsent->done, unsent->size - unsent->done}},
			.count = 1,
			.fds = unsent->fds,
			.fd_count = unsent->fd_count,
		};
		ssize_t n = send_some(s, &out);

		if (n < 0)
			return (int)n;
		close_fds(unsent);
		unsent->done += (size_t)n;
		s->unsent_bytes -= (size_t)n;
		if (unsent->done < unsent->size)
			continue;
		s->unsent = unsent->next;
		if (!s->unsent)
			s->unsent_end = &s->unsent;
		s->env->release(s->env, unsent, sizeof(*unsent) + unsent->size);
	}
	return 0;
}

/* ---- a message ------------------------------------------------------------------------------ */

int user_send(struct user_socket *s, struct user_header *header, const struct iovec *parts,
	      unsigned count, const int *fds, unsigned fd_count)
{
	struct outgoing out = {.count = 1, .fds = fds, .fd_count = fd_count};
	size_t size = sizeof(*header);
	ssize_t n = 0;

	vd_assert(count <= USER_PARTS_MAX && fd_count <= USER_FDS_MAX);
	for (unsigned i = 0; i < count; i++) {
		out.parts[out.count++] = parts[i];
		size += parts[i].iov_len;
	}
	out.parts[0] = (struct iovec){header, sizeof(*header)};
	header->size = (uint32_t)size;
	if (!s->unsent)
		n = send_some(s, &out);
	if (n < 0 && n != -EAGAIN)
		return (int)n;
	if (n > 0 && (size_t)n == size)
		return 0;
	return keep_rest(s, &out, size, n > 0 ? (size_t)n : 0);
}
