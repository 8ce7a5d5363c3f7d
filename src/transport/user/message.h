/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whole messages over a stream socket (AF_UNIX), both ways, for server and client.
 *
 * A socket is used by one thread at a time each way: who receives and who sends may be two threads.
 * The descriptor may block or not: receiving sleeps only if it is told to, sending never does.
 *
 * Which message descriptors belong to: the kernel hands them out with the first byte of what was
 * sent along with them, and ends that read before the next sender's bytes. We read ahead only when
 * nothing of a message is there yet, else no further than the message's end; so descriptors belong
 * to the last message that has a byte in the read, and one message at most has some.
 */
#ifndef VIADUCT_TRANSPORT_USER_MESSAGE_H
#define VIADUCT_TRANSPORT_USER_MESSAGE_H

#include <sys/uio.h>

#include <viaduct/base.h>

#include "transport/user/protocol.h"

/* Most descriptors in one message, as QEMU has it. */
#define USER_FDS_MAX 16u
/* What is before the data of the longest messages, and some room. */
#define USER_OVERHEAD 256u
/* Parts of a message to be sent, the header not counted. */
#define USER_PARTS_MAX 4u

/* One that has to wait until the peer takes it. */
struct user_unsent {
	struct user_unsent *next;
	size_t size, done;
	unsigned fd_count;
	int fds[USER_FDS_MAX]; /* duplicates; gone with the first byte */
	unsigned char bytes[];
};

/* struct user_message - one that came in; points into the socket's buffer */
struct user_message {
	struct user_header header;
	const unsigned char *payload;
	size_t length; /* of the payload */
	int fds[USER_FDS_MAX]; /* whoever takes one puts -1 there */
	unsigned fd_count;
	bool fds_lost; /* there were more, or no descriptors were free: do not use the message */
};

struct user_socket {
	const struct vd_env *env;
	int fd;
	size_t message_max;

	/* receiving */
	unsigned char *buffer;
	size_t room, start, end; /* what is there and not used up: from @start to @end */
	int fds[USER_FDS_MAX];
	unsigned fd_count;
	bool fds_lost;
	size_t fds_at; /* where the message begins that they belong to */
	bool drained;  /* the last read took all there was */
	unsigned char *spare; /* what user_keep() takes */
	size_t spare_room;

	/* sending */
	struct user_unsent *unsent, **unsent_end;
	size_t unsent_bytes;
};

/*
 * user_socket_init() - takes @fd over if it succeeds
 * @message_max: longest message that is taken
 * Return: 0, -ENOMEM
 */
int user_socket_init(struct user_socket *s, const struct vd_env *env, int fd, size_t message_max);
/* user_socket_fini() - closes it, and all descriptors that came and nobody took */
void user_socket_fini(struct user_socket *s);

/*
 * user_receive() - the next whole message; its descriptors are the caller's from now on, its bytes
 * stay until the next call, or longer: see user_keep()
 * @wait: sleep for it, as the descriptor's mode and SO_RCVTIMEO have it
 *
 * Return: 0; -EAGAIN not all of it is there (or a signal came); -ECONNRESET the peer is gone;
 *	-EBADMSG a size that no message can have: the stream is lost; -ENOMEM; -errno of recvmsg(2)
 */
int user_receive(struct user_socket *s, struct user_message *message, bool wait);
/*
 * user_unreceive() - as if the message, the last one received, had not been yet; its descriptors
 * are the socket's again
 */
void user_unreceive(struct user_socket *s, struct user_message *message);
/* user_message_close() - the descriptors that nobody took */
void user_message_close(struct user_message *message);
/* user_pending() - whether a whole message, or all the peer's bytes, may be there without asking */
bool user_pending(const struct user_socket *s);

/*
 * user_keep() - further receiving leaves the last message's bytes alone
 * They are in *@buffer then, to be given back by user_unkeep(). Return: 0; -ENOMEM, nothing changed
 */
int user_keep(struct user_socket *s, unsigned char **buffer, size_t *room);
void user_unkeep(struct user_socket *s, unsigned char *buffer, size_t room);

/*
 * user_send() - a message; what the peer does not take now is kept for user_flush()
 * @header: its @size is set here
 * @parts: @count of them, the payload
 * @fds: @fd_count of them, which stay the caller's
 *
 * Return: 0; -EPIPE, -ECONNRESET the peer is gone; -ENOMEM, -EMFILE what is left could not be kept:
 *	the stream is lost; -errno of sendmsg(2)
 */
int user_send(struct user_socket *s, struct user_header *header, const struct iovec *parts,
	      unsigned count, const int *fds, unsigned fd_count);
/*
 * user_flush() - send what is kept. Return: 0 nothing is left; -EAGAIN the peer does not take more
 * now: wait for POLLOUT; else as user_send()
 */
int user_flush(struct user_socket *s);

#endif
