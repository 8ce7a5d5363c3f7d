/* SPDX-License-Identifier: BSD-2-Clause */
/* Receiving whole messages: reading ahead, and whose descriptors are whose. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/user/message.h"

/* Holds several short messages, or one page of data and what is before it. */
#define ROOM_FIRST 8192u

int user_socket_init(struct user_socket *s, const struct vd_env *env, int fd, size_t message_max)
{
	*s = (struct user_socket){.env = env, .fd = -1, .message_max = message_max};
	s->unsent_end = &s->unsent;
	s->room = message_max < ROOM_FIRST ? message_max : ROOM_FIRST;
	s->buffer = vd_env_allocate(env, "user.buffer", s->room, 8);
	if (!s->buffer)
		return -ENOMEM;
	s->fd = fd;
	return 0;
}

static void close_all(int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

void user_message_close(struct user_message *message)
{
	close_all(message->fds, message->fd_count);
	message->fd_count = 0;
}

void user_socket_fini(struct user_socket *s)
{
	close_all(s->fds, s->fd_count);
	s->fd_count = 0;
	while (s->unsent) {
		struct user_unsent *unsent = s->unsent;

		s->unsent = unsent->next;
		close_all(unsent->fds, unsent->fd_count);
		s->env->release(s->env, unsent, sizeof(*unsent) + unsent->size);
	}
	s->env->release(s->env, s->buffer, s->room);
	s->env->release(s->env, s->spare, s->spare_room);
	s->buffer = s->spare = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* ---- what is in the buffer ------------------------------------------------------------------ */

/*
 * The size that the message at @at says it has; 0: that is not known yet, or cannot be. (A size is
 * 32 bits, so that sums of it and an offset do not wrap.)
 */
static size_t size_at(const struct user_socket *s, size_t at)
{
	struct user_header header;

	if (s->end - at < sizeof(header))
		return 0;
	memcpy(&header, s->buffer + at, sizeof(header));
	return header.size >= sizeof(header) && header.size <= s->message_max ? header.size : 0;
}

static void give_fds(struct user_socket *s, struct user_message *message, size_t at)
{
	message->fd_count = 0;
	message->fds_lost = false;
	if ((!s->fd_count && !s->fds_lost) || s->fds_at != at)
		return;
	memcpy(message->fds, s->fds, sizeof(s->fds));
	message->fd_count = s->fd_count;
	message->fds_lost = s->fds_lost;
	s->fd_count = 0;
	s->fds_lost = false;
}

/* Return: 0; -EAGAIN not all of it is there; -EBADMSG */
static int take_message(struct user_socket *s, struct user_message *message)
{
	size_t size;

	if (s->end - s->start < sizeof(message->header))
		return -EAGAIN;
	size = size_at(s, s->start);
	if (!size)
		return -EBADMSG;
	if (size > s->end - s->start)
		return -EAGAIN;
	memcpy(&message->header, s->buffer + s->start, sizeof(message->header));
	message->payload = s->buffer + s->start + sizeof(message->header);
	message->length = size - sizeof(message->header);
	give_fds(s, message, s->start);
	s->start += size;
	return 0;
}

void user_unreceive(struct user_socket *s, struct user_message *message)
{
	s->start -= sizeof(message->header) + message->length;
	if (!message->fd_count && !message->fds_lost)
		return;
	memcpy(s->fds, message->fds, sizeof(s->fds));
	s->fd_count = message->fd_count;
	s->fds_lost = message->fds_lost;
	s->fds_at = s->start;
	message->fd_count = 0;
}

bool user_pending(const struct user_socket *s)
{
	return s->start != s->end || !s->drained;
}

/* ---- reading more --------------------------------------------------------------------------- */

/* Room for a message of @size at @start, whose beginning is there. */
static int make_room(struct user_socket *s, size_t size)
{
	unsigned char *buffer = s->buffer;
	size_t have = s->end - s->start;

	if (size <= s->room - s->start)
		return 0;
	if (size > s->room) {
		buffer = vd_env_allocate(s->env, "user.grow", size, 8);
		if (!buffer)
			return -ENOMEM;
	}
	memmove(buffer, s->buffer + s->start, have);
	if (buffer != s->buffer) {
		s->env->release(s->env, s->buffer, s->room);
		s->buffer = buffer;
		s->room = size;
	}
	s->fds_at -= s->start;
	s->start = 0;
	s->end = have;
	return 0;
}

/* How much to read: ahead, if nothing of a message is there; else up to its end at most. */
static int plan_read(struct user_socket *s, size_t *limit)
{
	size_t have = s->end - s->start, size = sizeof(struct user_header);
	int r;

	if (!have) {
		s->start = s->end = 0;
		*limit = s->room;
		return 0;
	}
	if (have >= size)
		size = size_at(s, s->start);
	r = make_room(s, size);
	*limit = size - have;
	return r;
}

/* The last message that has a byte before @end. */
static size_t last_message(const struct user_socket *s)
{
	size_t at = s->start, size;

	while ((size = size_at(s, at)) && size < s->end - at)
		at += size;
	return at;
}

static void add_fds(struct user_socket *s, const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (s->fd_count < USER_FDS_MAX) {
			s->fds[s->fd_count++] = fds[i];
		} else {
			close(fds[i]);
			s->fds_lost = true;
		}
	}
}

/* What came along with the bytes that were just added. Return: whether anything did. */
static bool take_control(struct user_socket *s, struct msghdr *from)
{
	bool any = from->msg_flags & MSG_CTRUNC;

	if (any)
		s->fds_lost = true;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(from); c; c = CMSG_NXTHDR(from, c)) {
		int fds[USER_FDS_MAX + 1];
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (bytes > sizeof(fds))
			bytes = sizeof(fds);
		memcpy(fds, CMSG_DATA(c), bytes);
		add_fds(s, fds, bytes / sizeof(fds[0]));
		any = true;
	}
	if (any)
		s->fds_at = last_message(s);
	return any;
}

static int read_more(struct user_socket *s, bool wait)
{
	union {
		char bytes[CMSG_SPACE(USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part;
	struct msghdr into = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes)};
	size_t limit;
	ssize_t n;
	int r = plan_read(s, &limit);

	if (r)
		return r;
	part = (struct iovec){s->buffer + s->end, limit};
	n = recvmsg(s->fd, &into, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	if (n < 0) {
		s->drained = errno == EAGAIN;
		return errno == EINTR ? -EAGAIN : -errno;
	}
	if (n == 0)
		return -ECONNRESET;
	s->end += (size_t)n;
	/* With descriptors a read ends early. */
	s->drained = !take_control(s, &into) && (size_t)n < limit;
	return 0;
}

int user_receive(struct user_socket *s, struct user_message *message, bool wait)
{
	int r;

	while ((r = take_message(s, message)) == -EAGAIN) {
		r = read_more(s, wait);
		if (r)
			break;
	}
	return r;
}

/* ---- a message that is used while others come ----------------------------------------------- */

/* All that is there moves to another buffer. */
static void move_to(struct user_socket *s, unsigned char *buffer, size_t room)
{
	size_t have = s->end - s->start;

	memcpy(buffer, s->buffer + s->start, have);
	s->buffer = buffer;
	s->room = room;
	s->fds_at -= s->start;
	s->start = 0;
	s->end = have;
}

int user_keep(struct user_socket *s, unsigned char **buffer, size_t *room)
{
	size_t have = s->end - s->start;
	unsigned char *fresh = s->spare;
	size_t fresh_room = s->spare_room;

	if (fresh && fresh_room >= have) {
		s->spare = NULL;
	} else {
		fresh_room = have < ROOM_FIRST ? ROOM_FIRST : have;
		fresh = vd_env_allocate(s->env, "user.keep", fresh_room, 8);
		if (!fresh)
			return -ENOMEM;
	}
	*buffer = s->buffer;
	*room = s->room;
	move_to(s, fresh, fresh_room);
	return 0;
}

void user_unkeep(struct user_socket *s, unsigned char *buffer, size_t room)
{
	/* What is left over: the kept one, unless what came meanwhile does not fit into it. */
	if (s->end - s->start <= room) {
		unsigned char *other = s->buffer;
		size_t other_room = s->room;

		move_to(s, buffer, room);
		buffer = other;
		room = other_room;
	}
	if (s->spare || room > ROOM_FIRST) {
		s->env->release(s->env, buffer, room);
	} else {
		s->spare = buffer;
		s->spare_room = room;
	}
}
