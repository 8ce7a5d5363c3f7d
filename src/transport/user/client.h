/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client itself, for its files. Locks, outermost first: the device's, memory.lock, lock. The
 * last two are held for moments only: nothing is waited for under them, but that sending on a
 * socket, which never sleeps, is in the order of memory.lock.
 */
#ifndef VIADUCT_TRANSPORT_USER_CLIENT_H
#define VIADUCT_TRANSPORT_USER_CLIENT_H

#include <pthread.h>

#include <viaduct/vfio_user.h>

#include "transport/user/message.h"

/* What we take: data of a message, and all of it. */
#define CLIENT_TRANSFER_MAX (1u << 20)
#define CLIENT_MESSAGE_MAX (CLIENT_TRANSFER_MAX + USER_OVERHEAD)
/* Bytes that may wait for a server that does not read, before we wait for it. */
#define CLIENT_UNSENT_MAX (64u << 10)
/* The server's own commands that are answered in one go. */
#define CLIENT_BUDGET 64u
#define CLIENT_WRITES_MAX 8192u /* that a server may owe when its device stops */
/* What an event of the poll descriptor is about, if it is no interrupt. */
#define CLIENT_TOKEN_SOCKET UINT64_MAX
#define CLIENT_TOKEN_AGAIN (UINT64_MAX - 1)
#define CLIENT_TOKEN_TIMER (UINT64_MAX - 2)
/* Of reset and changes of state, in units of the time limit. */
#define CLIENT_SLOW 4u

/*
 * struct client_call - a request under way; in its maker's hands, on a list until it is done
 * @reply, @room: the payload goes there, as much as fits; @length: of all of it
 * @fds: descriptors that came along, and that the maker must take or close
 */
struct client_call {
	struct client_call *next;
	uint16_t id, command;
	bool done;
	int result; /* 0; what the server replied, or the connection's end, as -errno */
	void *reply;
	size_t room, length;
	int fds[USER_FDS_MAX];
	unsigned fd_count;
};

/*
 * struct client_map - memory that the server knows
 * @shared: by descriptor; else by messages
 * @leaving: being taken away: DMA there fails
 */
struct client_map {
	uint64_t start, last;
	unsigned access;
	bool shared, leaving;
};

/* memory.c: the guest's memory, as the server sees it */
struct client_memory {
	struct vd_mem *mem;
	struct vd_dma_space *space;
	struct vd_listener listener;
	_Atomic bool listens;
	_Atomic uint64_t generation; /* of the slots that the server knows; 0: look again */

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t changed;
	struct client_map *maps; /* ascending */
	size_t count, room;
	bool closed; /* no more maps */
	unsigned epoch; /* of the server: what was told to an earlier one is over */
};

/* irq.c */
struct client_irq {
	unsigned index, vector;
	int fd;
};

struct user_client {
	const struct vd_env *env;
	struct vd_device *device; /* no reference */
	char name[108];		  /* the socket's, for people */
	uint64_t timeout_ns;
	struct vd_user_client_info info;
	bool posts;	  /* writes to BARs wait for no answer */
	bool quiesced;
	bool wants_page_offset;
	char client_id[65]; /* empty: none */
	unsigned config_size;

	int poll_fd;	  /* epoll: sockets, interrupts, @again_fd */
	int again_fd;	  /* readable: there is more to do */
	struct client_irq *irqs;
	unsigned irq_count, irq_room;
	unsigned irq_first[VD_IRQ_COUNT], irq_counts[VD_IRQ_COUNT]; /* of @irqs */
	unsigned irq_active;	  /* of INTx, MSI and MSI-X: device's lock, as all of these */
	unsigned msi_at, msix_at; /* bytes of configuration space with their switches; 0: none */
	bool msi_on, msix_on;	  /* as the guest has written */
	bool irq_follows;	  /* it has */
	_Atomic bool intx; /* fired, and waits to be unmasked */

	/* Of a server that may come back; device's lock. */
	uint64_t reconnect_ns; /* 0: it may not */
	int timer_fd;	       /* of the next attempt */
	bool returning;	       /* an attempt is under way */
	_Atomic uint64_t reconnects;
	uint8_t config[256]; /* what the guest has written, since reset */
	bool config_written[256];

	struct client_memory memory;
	unsigned char *bounce; /* of who receives */

	/* Only who receives reads from them; @lock to send. */
	struct user_socket main, twin; /* the second has no descriptor if there is none */
	bool out_wanted[2];	       /* the poll descriptor tells when there is room */

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t changed;
	struct client_call *calls;
	uint16_t next_id;
	bool receiving; /* somebody is at it */
	bool kicked;	/* and has to look once more before he ends */
	int dead;	/* why, as -errno */
	bool told;	/* of the end, by an interrupt */
	struct vd_error end;
};

/* ---- client_call.c: requests and answers ---------------------------------------------------- */

/* struct client_request - what to ask; @parts are the payload */
struct client_request {
	unsigned command;
	struct iovec parts[USER_PARTS_MAX];
	unsigned part_count;
	const int *fds;
	unsigned fd_count;
};

/* user_client_send() - never sleeps. Return: 0, then user_client_wait(); -EIO it is dead */
int user_client_send(struct user_client *client, struct client_call *call,
		     const struct client_request *request);
/* user_client_wait() - until @call is done, @limits times the time limit. Return: its result */
int user_client_wait(struct user_client *client, struct client_call *call, unsigned limits);
/* user_client_ask() - both; the reply must be @size bytes long exactly, if it is no error */
int user_client_ask(struct user_client *client, const struct client_request *request, void *reply,
		    size_t size, unsigned limits);
/* user_client_post() - send what needs no answer; waits while too much of that is unsent */
int user_client_post(struct user_client *client, const struct client_request *request);
/* user_client_poke() - have the device polled again. Any lock may be held */
void user_client_poke(struct user_client *client);
/* user_client_poll() - handle what is there. Return: whether more may be */
bool user_client_poll(struct user_client *client);
/*
 * user_client_fail() - the end of the connection, for this reason. Only the first one counts. Any
 * thread, neither lock held. Return: @code
 */
int user_client_fail(struct user_client *client, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* user_client_dead() - why, or 0 */
int user_client_dead(struct user_client *client);
/* user_client_close_call() - the descriptors of a reply that nobody took */
void user_client_close_call(struct client_call *call);

/* ---- client_setup.c: what the server is ------------------------------------------------------ */

/* struct client_setup - what is asked before there is a device */
struct client_setup {
	struct vd_region regions[VD_REGION_COUNT];
	struct vd_region_backing backing[VD_REGION_COUNT]; /* descriptors are ours to close */
	unsigned irqs[VD_IRQ_COUNT];
	unsigned region_count, irq_count;
};

/* user_client_version() - the first message. Return: 0, -errno with the reason in @error */
int user_client_version(struct user_client *client, struct vd_error *error);
/* user_client_describe() - everything else. user_client_forget() in any case */
int user_client_describe(struct user_client *client, struct client_setup *setup,
			 struct vd_error *error);
void user_client_forget(struct client_setup *setup);

/* client_region.c: one region of it */
int user_client_region(struct user_client *client, struct client_setup *setup, unsigned index,
		       struct vd_error *error);

/* ---- client_reconnect.c: device's lock held -------------------------------------------------- */

int user_client_reconnect_init(struct user_client *client);
/* user_client_reconnect_begin() - the server has gone */
void user_client_reconnect_begin(struct user_client *client);
/* user_client_reconnect() - it is time for another attempt */
void user_client_reconnect(struct user_client *client);
/* user_client_config_written() - by the guest. user_client_config_reset() - all is forgotten */
void user_client_config_written(struct user_client *client, uint64_t offset, const void *data,
				size_t length);
void user_client_config_reset(struct user_client *client);
/* user_client_connect() - client.c. Return: a descriptor; -errno */
int user_client_connect(const char *path, bool nonblock, struct vd_error *error);

/* ---- client_json.c: capabilities ------------------------------------------------------------- */

/*
 * user_client_capabilities() - from the reply to VERSION
 * @text: @length bytes, of which the last must be NUL; 0: there are none
 * @twin_fd: set to which of the descriptors is the second socket; -1: there is none
 * Return: 0; -EPROTO
 */
int user_client_capabilities(const char *text, size_t length, struct vd_user_client_info *info,
			     int *twin_fd, struct vd_error *error);

/* ---- client_irq.c ---------------------------------------------------------------------------- */

/* user_client_irqs_create() - eventfds, which the server knows. user_client_irqs_fini() anyway */
int user_client_irqs_create(struct user_client *client, const unsigned *counts,
			    struct vd_error *error);
/* user_client_irqs_enable() - tell a server of all that are on. Return: 0, -errno */
int user_client_irqs_enable(struct user_client *client);
void user_client_irqs_fini(struct user_client *client);
/* user_client_irqs_written() - what the guest wrote to configuration space; device's lock held */
void user_client_irqs_written(struct user_client *client, uint64_t offset, const void *data,
			      size_t length);
/* user_client_irqs_reset() - all are off again; device's lock held */
void user_client_irqs_reset(struct user_client *client);
/* user_client_irq_fired() - device's lock held */
void user_client_irq_fired(struct user_client *client, uint64_t token);
/* user_client_irqs_take() - raise what has come and was not polled for yet. Device's lock held */
void user_client_irqs_take(struct user_client *client);
/* user_client_intx_done() - the guest has seen to the device; device's lock held */
void user_client_intx_done(struct user_client *client);

/* ---- client_memory.c, client_dma.c ----------------------------------------------------------- */

int user_client_memory_follow(struct user_client *client, struct vd_error *error);
/* user_client_memory_forget() - the server has gone, and all that it knew */
void user_client_memory_forget(struct user_client *client);
void user_client_memory_fini(struct user_client *client);
/* user_client_memory_sync() - announce what was added. Return: 0; why some could not be */
int user_client_memory_sync(struct user_client *client);
/* user_client_memory_new() - whether there is anything to announce; one load or two */
static inline bool user_client_memory_new(struct user_client *client)
{
	return atomic_load_explicit(&client->memory.listens, memory_order_relaxed) &&
	       atomic_load_explicit(&client->memory.generation, memory_order_relaxed) !=
		       vd_mem_generation(client->memory.mem);
}
/* user_client_memory_allows() - whether the server was given all of a range */
bool user_client_memory_allows(struct user_client *client, uint64_t start, uint64_t length,
			       unsigned access);
/* user_client_dma() - one of the server's commands; by who receives. Replies. */
void user_client_dma(struct user_client *client, struct user_socket *s,
		     const struct user_message *message);
/* user_client_reply() - to a command of the server's; @code: 0, or -errno and no payload */
void user_client_reply(struct user_client *client, struct user_socket *s,
		       const struct user_header *command, int code, const struct iovec *parts,
		       unsigned count);

/* ---- client_state.c: migration --------------------------------------------------------------- */

/* user_client_migration() - what the server can. Sets it running. Return: 0, -errno */
int user_client_migration(struct user_client *client);
int user_client_quiesce(void *context);
void user_client_resume(void *context);
int user_client_save(void *context, struct vd_stream *stream);
int user_client_load(void *context, struct vd_stream *stream);
/* user_client_reset() - Return: 0, -EOPNOTSUPP it has none, -errno */
int user_client_reset(struct user_client *client);

#endif
