/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages over a socket pair: cut anywhere, with descriptors, hostile, and to a slow peer. */
#include "../../base/test_env.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptors.h"
#include "transport/user/message.h"

#define MAX (64u << 10)

struct pair {
	struct test_env test;
	struct user_socket a, b; /* @a sends, @b receives */
	int descriptors;
};

static void open_pair(struct pair *p)
{
	int fds[2];

	test_env_init(&p->test);
	p->descriptors = count_descriptors();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(user_socket_init(&p->a, &p->test.env, fds[0], MAX), 0);
	assert_int_equal(user_socket_init(&p->b, &p->test.env, fds[1], MAX), 0);
}

static void close_pair(struct pair *p)
{
	user_socket_fini(&p->a);
	user_socket_fini(&p->b);
	assert_int_equal(p->test.blocks, 0);
	assert_int_equal(count_descriptors(), p->descriptors);
}

static void send_one(struct pair *p, uint16_t id, const void *payload, size_t length,
		     const int *fds, unsigned fd_count)
{
	struct user_header header = {.id = id, .command = USER_REGION_WRITE};
	struct iovec part = {(void *)(uintptr_t)payload, length};

	assert_int_equal(user_send(&p->a, &header, &part, 1, fds, fd_count), 0);
	assert_int_equal(header.size, sizeof(header) + length);
}

static void expect_one(struct pair *p, uint16_t id, const void *payload, size_t length,
		       unsigned fd_count)
{
	struct user_message message;

	assert_int_equal(user_receive(&p->b, &message, false), 0);
	assert_int_equal(message.header.id, id);
	assert_int_equal(message.length, length);
	assert_memory_equal(message.payload, payload, length);
	assert_int_equal(message.fd_count, fd_count);
	assert_false(message.fds_lost);
	user_message_close(&message);
}

static int expect_error(struct pair *p)
{
	struct user_message message;

	return user_receive(&p->b, &message, false);
}

static void raw(struct pair *p, const void *bytes, size_t length)
{
	assert_int_equal(send(p->a.fd, bytes, length, 0), (ssize_t)length);
}

static void whole_messages(void **state)
{
	struct pair p;

	(void)state;
	open_pair(&p);
	assert_int_equal(expect_error(&p), -EAGAIN);
	assert_false(user_pending(&p.b));
	send_one(&p, 1, "abc", 3, NULL, 0);
	send_one(&p, 2, "", 0, NULL, 0);
	send_one(&p, 3, "defgh", 5, NULL, 0);
	expect_one(&p, 1, "abc", 3, 0);
	/* One read took all three. */
	assert_true(user_pending(&p.b));
	expect_one(&p, 2, "", 0, 0);
	expect_one(&p, 3, "defgh", 5, 0);
	assert_false(user_pending(&p.b));
	close_pair(&p);
}

static void byte_by_byte(void **state)
{
	struct user_header header = {.id = 7, .command = USER_RESET, .size = sizeof(header) + 4};
	unsigned char bytes[sizeof(header) + 4];
	struct pair p;

	(void)state;
	open_pair(&p);
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), "wxyz", 4);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(expect_error(&p), -EAGAIN);
		raw(&p, bytes + i, 1);
	}
	expect_one(&p, 7, "wxyz", 4, 0);
	close_pair(&p);
}

/* Also a peer that sends a message's descriptors with any of its bytes. */
static void descriptors_come_with_their_message(void **state)
{
	int fds[3];
	struct pair p;

	(void)state;
	open_pair(&p);
	for (int i = 0; i < 3; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	send_one(&p, 1, "one", 3, NULL, 0);
	send_one(&p, 2, "two", 3, fds, 2);
	send_one(&p, 3, "three", 5, fds + 2, 1);
	send_one(&p, 4, "four", 4, NULL, 0);
	send_one(&p, 5, "five", 4, fds, 3);
	expect_one(&p, 1, "one", 3, 0);
	expect_one(&p, 2, "two", 3, 2);
	assert_true(user_pending(&p.b)); /* though the read ended early */
	expect_one(&p, 3, "three", 5, 1);
	expect_one(&p, 4, "four", 4, 0);
	expect_one(&p, 5, "five", 4, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close_pair(&p);
}

static void descriptors_are_closed_on_exec_and_usable(void **state)
{
	struct user_message message;
	uint64_t value = 5;
	struct pair p;
	int fd;

	(void)state;
	open_pair(&p);
	fd = eventfd(0, 0);
	send_one(&p, 1, "", 0, &fd, 1);
	assert_int_equal(user_receive(&p.b, &message, false), 0);
	assert_int_equal(message.fd_count, 1);
	assert_true(fcntl(message.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(message.fds[0], &value, 8), 8);
	value = 0;
	assert_int_equal(read(fd, &value, 8), 8);
	assert_int_equal(value, 5);
	/* One that was taken stays open. */
	close(fd);
	fd = message.fds[0];
	message.fds[0] = -1;
	user_message_close(&message);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	close_pair(&p);
}

/* More than a message may have, in one piece or in several: none stays open, and it is said. */
static void too_many_descriptors(void **state)
{
	union {
		char bytes[CMSG_SPACE(32 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct user_header header = {.id = 1, .size = sizeof(header)};
	struct iovec part = {&header, 8};
	struct msghdr from = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes};
	struct user_message message;
	struct pair p;
	int fd;

	(void)state;
	open_pair(&p);
	fd = eventfd(0, EFD_CLOEXEC);
	for (unsigned round = 0; round < 2; round++) {
		unsigned each = round ? 12 : 32;

		for (unsigned half = 0; half < 2; half++) {
			struct cmsghdr *c;

			from.msg_control = round || !half ? control.bytes : NULL;
			from.msg_controllen =
				from.msg_control ? CMSG_SPACE(each * sizeof(int)) : 0;
			memset(&control, 0, sizeof(control));
			c = CMSG_FIRSTHDR(&from);
			if (c) {
				c->cmsg_level = SOL_SOCKET;
				c->cmsg_type = SCM_RIGHTS;
				c->cmsg_len = CMSG_LEN(each * sizeof(int));
				for (unsigned i = 0; i < each; i++)
					memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
			}
			part = (struct iovec){(char *)&header + 8 * half, 8};
			assert_int_equal(sendmsg(p.a.fd, &from, 0), 8);
		}
		assert_int_equal(user_receive(&p.b, &message, false), 0);
		assert_true(message.fds_lost);
		assert_true(message.fd_count <= USER_FDS_MAX);
		user_message_close(&message);
		/* The next one is as if nothing had been. */
		send_one(&p, 9, "x", 1, &fd, 1);
		expect_one(&p, 9, "x", 1, 1);
	}
	close(fd);
	close_pair(&p);
}

static void no_descriptor_free(void **state)
{
	struct rlimit limit, none;
	struct user_message message;
	struct pair p;
	int fds[2];

	(void)state;
	open_pair(&p);
	fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC);
	send_one(&p, 1, "x", 1, fds, 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fds[0] + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(user_receive(&p.b, &message, false), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(message.fds_lost);
	user_message_close(&message);
	close(fds[0]);
	close_pair(&p);
}

static void sizes_that_cannot_be(void **state)
{
	static const uint32_t sizes[] = {0, 1, 15, MAX + 1, INT32_MAX, UINT32_MAX};
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct user_header header = {.size = sizes[i]};

		open_pair(&p);
		send_one(&p, 1, "good", 4, NULL, 0);
		raw(&p, &header, sizeof(header));
		expect_one(&p, 1, "good", 4, 0);
		assert_int_equal(expect_error(&p), -EBADMSG);
		close_pair(&p);
	}
}

static void the_peer_goes_in_the_middle(void **state)
{
	struct user_header header = {.size = 1000};
	struct pair p;
	int fd;

	(void)state;
	open_pair(&p);
	/* Its descriptors go with it. */
	fd = eventfd(0, EFD_CLOEXEC);
	send_one(&p, 1, "good", 4, NULL, 0);
	send_one(&p, 2, "lost", 4, &fd, 1);
	raw(&p, &header, sizeof(header));
	close(fd);
	shutdown(p.a.fd, SHUT_WR);
	expect_one(&p, 1, "good", 4, 0);
	expect_one(&p, 2, "lost", 4, 1);
	assert_int_equal(expect_error(&p), -ECONNRESET);
	close_pair(&p);
	open_pair(&p);
	fd = eventfd(0, EFD_CLOEXEC);
	send_one(&p, 1, "good", 4, &fd, 1);
	/* Received, but never taken. */
	assert_int_equal(p.b.fd_count, 0);
	p.b.message_max = 16;
	assert_int_equal(expect_error(&p), -EBADMSG);
	assert_int_equal(p.b.fd_count, 1);
	close(fd);
	close_pair(&p);
}

static void nobody_reads(void **state)
{
	static unsigned char payload[MAX - 16];
	struct user_header header = {.id = 1};
	struct iovec part = {payload, sizeof(payload)};
	struct pair p;
	unsigned sent = 0;
	int small = 1, r, fd;

	(void)state;
	open_pair(&p);
	fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(setsockopt(p.a.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (unsigned char)(i * 7);
	/* The second one at the latest is kept; of those behind it, with their descriptors. */
	for (; sent < 4; sent++) {
		header.id = (uint16_t)(sent + 1);
		assert_int_equal(user_send(&p.a, &header, &part, 1, &fd, 1), 0);
	}
	close(fd);
	assert_true(p.a.unsent_bytes > 2 * sizeof(payload));
	assert_int_equal(user_flush(&p.a), -EAGAIN);
	for (unsigned i = 0; i < sent; i++) {
		struct user_message message;

		while ((r = user_receive(&p.b, &message, false)) == -EAGAIN)
			assert_true(user_flush(&p.a) == 0 || p.a.unsent_bytes > 0);
		assert_int_equal(r, 0);
		assert_int_equal(message.header.id, i + 1);
		assert_int_equal(message.length, sizeof(payload));
		assert_memory_equal(message.payload, payload, sizeof(payload));
		assert_int_equal(message.fd_count, 1);
		user_message_close(&message);
	}
	assert_int_equal(user_flush(&p.a), 0);
	assert_int_equal(p.a.unsent_bytes, 0);
	assert_int_equal(expect_error(&p), -EAGAIN);
	close_pair(&p);
}

static void the_peer_is_gone(void **state)
{
	struct user_header header = {.id = 1};
	struct pair p;

	(void)state;
	open_pair(&p);
	close(p.b.fd);
	p.b.fd = -1;
	assert_int_equal(user_send(&p.a, &header, NULL, 0, NULL, 0), -EPIPE);
	close_pair(&p);
}

/* A message's bytes stay while others are received, whatever their size. */
static void kept_while_others_come(void **state)
{
	static unsigned char large[20000];
	struct user_message message;
	unsigned char *buffer;
	struct pair p;
	size_t room;

	(void)state;
	memset(large, 0x5a, sizeof(large));
	open_pair(&p);
	for (unsigned round = 0; round < 3; round++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		send_one(&p, 1, "first", 5, NULL, 0);
		send_one(&p, 2, "second", 6, &fd, 1);
		send_one(&p, 3, large, sizeof(large), NULL, 0);
		send_one(&p, 4, "fourth", 6, NULL, 0);
		assert_int_equal(user_receive(&p.b, &message, false), 0);
		assert_int_equal(user_keep(&p.b, &buffer, &room), 0);
		expect_one(&p, 2, "second", 6, 1);
		expect_one(&p, 3, large, sizeof(large), 0);
		if (round == 1)
			expect_one(&p, 4, "fourth", 6, 0);
		assert_memory_equal(message.payload, "first", 5);
		user_unkeep(&p.b, buffer, room);
		if (round != 1)
			expect_one(&p, 4, "fourth", 6, 0);
		close(fd);
	}
	/* Not read yet when it was kept, and larger than the first buffer when it is given back. */
	send_one(&p, 1, "first", 5, NULL, 0);
	assert_int_equal(user_receive(&p.b, &message, false), 0);
	assert_int_equal(user_keep(&p.b, &buffer, &room), 0);
	send_one(&p, 2, large, sizeof(large), NULL, 0);
	p.b.message_max = 16;
	assert_int_equal(expect_error(&p), -EBADMSG);
	p.b.message_max = MAX;
	user_unkeep(&p.b, buffer, room);
	expect_one(&p, 2, large, sizeof(large), 0);
	close_pair(&p);
}

static void each_allocation_fails(void **state)
{
	static unsigned char large[20000];
	struct user_message message;
	unsigned char *buffer;
	struct pair p;
	size_t room;
	int small = 1;

	(void)state;
	open_pair(&p);
	send_one(&p, 1, large, sizeof(large), NULL, 0);
	test_env_fail(&p.test, 1, -ENOMEM);
	assert_int_equal(expect_error(&p), -ENOMEM);
	assert_true(test_env_failed(&p.test));
	/* Nothing is lost by it. */
	assert_int_equal(user_receive(&p.b, &message, false), 0);
	test_env_fail(&p.test, 1, -ENOMEM);
	assert_int_equal(user_keep(&p.b, &buffer, &room), -ENOMEM);
	test_env_fail(&p.test, 0, 0);
	assert_int_equal(setsockopt(p.a.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (!p.a.unsent)
		send_one(&p, 1, large, sizeof(large), NULL, 0);
	test_env_fail(&p.test, 1, -ENOMEM);
	assert_int_equal(user_send(&p.a, &message.header, NULL, 0, NULL, 0), -ENOMEM);
	test_env_fail(&p.test, 1, -ENOMEM);
	assert_int_equal(user_socket_init(&(struct user_socket){.fd = -1}, &p.test.env, 0, MAX),
			 -ENOMEM);
	close_pair(&p);
}

/* ---- anything, cut anywhere ----------------------------------------------------------------- */

#define MESSAGES 400u

struct stream {
	struct pair p;
	uint64_t seed;
};

static size_t random_length(uint64_t *random)
{
	uint64_t kind = test_random(random) % 16;

	return kind == 0 ? test_random(random) % (MAX - 16) : kind < 4 ? test_random(random) % 9000
								       : test_random(random) % 64;
}

static void make_message(uint64_t *random, unsigned i, struct user_header *header,
			 unsigned char *payload, unsigned *fd_count)
{
	size_t length = random_length(random);

	*header = (struct user_header){.id = (uint16_t)i, .command = USER_REGION_WRITE};
	header->size = (uint32_t)(sizeof(*header) + length);
	memset(payload, (int)(unsigned char)(i * 31), length);
	*fd_count = test_random(random) % 4 ? 0 : (unsigned)(test_random(random) % USER_FDS_MAX);
}

/* Its beginning goes with the descriptors; the rest is cut at random. */
static void send_cut(int socket, const unsigned char *bytes, size_t size, const int *fds,
		     unsigned fd_count, uint64_t *random)
{
	union {
		char bytes[CMSG_SPACE(USER_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	size_t done = 0;

	while (done < size) {
		size_t cut = test_random(random) % 2 ? size - done
						     : 1 + test_random(random) % (size - done);
		struct iovec part = {(void *)(uintptr_t)(bytes + done), cut};
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
			fd_count = 0;
		}
		n = sendmsg(socket, &from, MSG_NOSIGNAL);
		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void *send_stream(void *context)
{
	struct stream *s = context;
	uint64_t random = s->seed, cuts = s->seed + 1;
	unsigned char *bytes = malloc(MAX);
	int fds[USER_FDS_MAX];

	assert_non_null(bytes);
	for (unsigned i = 0; i < USER_FDS_MAX; i++)
		fds[i] = s->p.a.fd;
	for (unsigned i = 0; i < MESSAGES; i++) {
		struct user_header header;
		unsigned fd_count;

		make_message(&random, i, &header, bytes + sizeof(header), &fd_count);
		memcpy(bytes, &header, sizeof(header));
		send_cut(s->p.a.fd, bytes, header.size, fds, fd_count, &cuts);
	}
	free(bytes);
	return NULL;
}

static void random_stream(void **state)
{
	unsigned char *expected = malloc(MAX);
	struct stream s;

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		uint64_t random = seed, keeps = seed + 2;
		unsigned char *buffer = NULL;
		pthread_t thread;
		size_t room = 0;

		test_start(seed);
		open_pair(&s.p);
		s.seed = seed;
		assert_int_equal(pthread_create(&thread, NULL, send_stream, &s), 0);
		for (unsigned i = 0; i < MESSAGES; i++) {
			struct user_message message;
			struct user_header header;
			unsigned fd_count;
			int r;

			make_message(&random, i, &header, expected, &fd_count);
			while ((r = user_receive(&s.p.b, &message, test_random(&keeps) % 2)))
				assert_int_equal(r, -EAGAIN);
			assert_memory_equal(&message.header, &header, sizeof(header));
			assert_memory_equal(message.payload, expected, message.length);
			assert_int_equal(message.fd_count, fd_count);
			assert_false(message.fds_lost);
			user_message_close(&message);
			if (test_random(&keeps) % 4)
				continue;
			if (!buffer) {
				assert_int_equal(user_keep(&s.p.b, &buffer, &room), 0);
				continue;
			}
			user_unkeep(&s.p.b, buffer, room);
			buffer = NULL;
		}
		pthread_join(thread, NULL);
		if (buffer)
			user_unkeep(&s.p.b, buffer, room);
		close_pair(&s.p);
	}
	free(expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_messages),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(descriptors_come_with_their_message),
		cmocka_unit_test(descriptors_are_closed_on_exec_and_usable),
		cmocka_unit_test(too_many_descriptors),
		cmocka_unit_test(no_descriptor_free),
		cmocka_unit_test(sizes_that_cannot_be),
		cmocka_unit_test(the_peer_goes_in_the_middle),
		cmocka_unit_test(nobody_reads),
		cmocka_unit_test(the_peer_is_gone),
		cmocka_unit_test(kept_while_others_come),
		cmocka_unit_test(each_allocation_fails),
		cmocka_unit_test_teardown(random_stream, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
