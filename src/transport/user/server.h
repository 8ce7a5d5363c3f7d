/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server, for its files.
 *
 * A *source* is what epoll reports: a listening socket, a client's, a device's descriptors. It is
 * named by a number, not a pointer, so that an event that comes late finds nothing instead of what
 * has been freed.
 *
 * Everything that concerns one device is done in its *turn*, by one thread at a time: its clients'
 * messages in order, its completions, its clients' coming and going. Who finds the turn taken
 * leaves the source in the turn's queue; who has it empties the queue before he gives it back. So a
 * device's DMA messages come from the turn's thread, which then reads the socket for the reply, and
 * handles what else comes there: see dma.c. Threads of the device's own may send them as well.
 *
 * Lock order, outermost first:
 *
 *	a device's turn -> device lock (and what its operations take) -> turn lock
 *	server lock: nothing is taken inside it
 *
 * Neither the turn lock nor the server lock is held while a device, a DMA space or anybody's
 * callback is called, or while anything is waited for. Sockets are never waited for but in dma.c.
 *
 * Memory ordering: all is under these locks; counters are relaxed. A source's references: acq_rel
 * where they are given back, so that the last one sees what the others did.
 *
 * epoll is edge-triggered for clients: who serves one reads until a read has left nothing, without
 * asking once more to be told so (message.h: user_pending()); but if the same event says that the
 * client has hung up, until a read says so as well.
 */
#ifndef VIADUCT_TRANSPORT_USER_SERVER_H
#define VIADUCT_TRANSPORT_USER_SERVER_H

#include <pthread.h>
#include <sys/types.h>

#include <viaduct/vfio_user.h>

#include "transport/user/message.h"

/* Longest first message: what a client may say before it has introduced itself. */
#define SERVER_HELLO_MAX 8192u
/* Connections of an export that have not introduced themselves; the oldest one goes. */
#define SERVER_STRANGERS_MAX 32u
/* What a client may leave unread before nothing more of it is read. */
#define SERVER_UNSENT_MAX (1u << 20)
/* Region accesses that are handled inside others, while those wait for DMA replies. */
#define SERVER_DEPTH_MAX 4u
/* Most bytes of a DMA message: QEMU cuts off more. */
#define SERVER_DMA_MAX (64u << 10)
/* Most bytes of a client's memory that are mapped here at a time. */
#define SERVER_MEMORY_MAX (UINT64_C(256) << 30)

struct connection;
struct served;

enum source_kind { SOURCE_STOP, SOURCE_KICK, SOURCE_LISTEN, SOURCE_CLIENT, SOURCE_DEVICE };

struct source {
	enum source_kind kind;
	_Atomic uint32_t references;
	_Atomic uint64_t id; /* 0: not in the table; relaxed: written under the server lock */
	struct source *next; /* in the turn's queue; turn lock */
	bool pending;
};

struct source_slot {
	struct source *source;
	uint32_t generation;
};

/*
 * A client with several connections, by the name that it gives itself on each: to groups it is one
 * user. A name that cannot be guessed is the client's own concern.
 */
#define IDENTITY_MAX 64u
struct identity {
	struct identity *next;
	unsigned uses;
	char name[IDENTITY_MAX + 1];
};

struct vd_user_server {
	const struct vd_env *env;
	struct vd_host *host;
	uint64_t reply_limit_ns;
	int epoll, stop_fd, kick_fd;
	_Atomic bool stopped;
	struct source stop_source, kick_source;
	_Atomic uint64_t clients, accepted, refused, cut_off, messages, errors;
	_Atomic uint64_t dma_reads, dma_writes, dma_failed;

	pthread_mutex_t lock; /* everything below, and exports' connections */
	pthread_cond_t gone;  /* a connection has ended */
	struct source_slot *slots;
	uint32_t slot_count;
	struct vd_user_export *exports;
	struct served *kicked;
	struct identity *identities;
};

struct vd_user_export {
	struct source source;
	struct vd_user_server *server;
	struct vd_user_export_config config; /* but @path */
	char path[108];
	int fd;
	dev_t dev; /* of the socket's file, to remove no other */
	ino_t ino;
	struct served *served; /* a device that is kept; or NULL */
	struct vd_user_export *next;	/* server lock */
	struct connection *connections; /* likewise, newest first */
	bool removed;			/* likewise */
	_Atomic bool stalled; /* clients wait for a descriptor to be free */
};

/* A device, with what its DMA reaches, and the turn. */
struct served {
	struct source source;
	struct vd_user_server *server;
	struct vd_device *device; /* NULL: its client has not introduced itself */
	struct vd_dma_space *space;

	/* by who has the turn */
	struct connection *client; /* who has introduced itself */
	struct connection *stuck; /* those that have gone, and whose memory is still mapped */
	int poll_fd, unmask_fd;	   /* as epoll knows them */
	bool poll_armed;

	pthread_mutex_t lock; /* the turn lock: everything below */
	pthread_cond_t changed; /* the turn is free, or a wait is over */
	const void *holder;
	struct source *first, **last;
	struct dma_wait *waits;
	bool retiring; /* a kept device is not served any more */
	struct served *next_kicked; /* server lock */
	bool kicked;		    /* likewise */
};

/* How DMA messages are sent just now. */
enum dma_mode {
	DMA_WAITED, /* and their reply is waited for */
	DMA_POSTED, /* writes are sent, and the reply is not waited for; nothing else is sent */
	DMA_REFUSED,
};

struct connection {
	struct source source;
	struct vd_user_export *export;
	struct served *served;
	struct connection *next; /* server lock */
	struct connection *next_stuck; /* by who has the turn */
	bool introduced;	 /* likewise: @ready, for who has not the turn */
	_Atomic bool hung_up;	 /* relaxed: written before the turn is asked for */

	/* by who has the turn; sending needs the turn lock as well */
	struct user_socket main, twin;
	bool has_twin;
	bool started; /* epoll reports it */
	bool ready; /* has introduced itself */
	bool ended; /* nothing is left of it */
	bool write_multiple;
	bool page_offset; /* it asked for offsets of BARs within pages */
	bool has_group;	  /* it is the user of the device's group, or its identity is */
	struct identity *identity; /* or NULL */
	bool closing; /* once what is unsent has gone */
	bool watches_out; /* epoll tells when the client takes more */
	bool watches_twin; /* likewise of the twin, which it tells nothing else of */
	unsigned fds_max; /* the client's */
	size_t transfer_max, dma_max; /* of both sides; of a DMA message */
	unsigned depth;	   /* waits for DMA replies, one inside the other */
	bool cancelled;	   /* they are all over */
	bool read_inside;  /* a wait has read from the socket */
	uint64_t mapped;   /* bytes by descriptor */

	/* turn lock */
	bool gone; /* nothing can be sent or received any more */
	bool waiting; /* who has the turn waits for a DMA reply, and reads */
	bool muted;   /* so epoll does not report it */
	enum dma_mode mode;
	uint64_t mode_start, mode_last; /* with DMA_POSTED: IOVAs for which it is refused */
	uint16_t next_id;
};

/* struct reply - to a command; one payload, in @bytes or allocated */
#define REPLY_BYTES 512u
struct reply {
	unsigned char *payload;
	size_t length;
	size_t allocated;
	int fds[USER_FDS_MAX];
	unsigned fd_count;
	int own_fd; /* to be closed when it has been sent; or -1 */
	unsigned char bytes[REPLY_BYTES];
};

static inline void server_count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- sources.c ------------------------------------------------------------------------------ */

static inline uint64_t source_id(const struct source *source)
{
	return atomic_load_explicit(&source->id, memory_order_relaxed);
}

/* source_add() - into the table, which takes over one reference. Return: 0, -ENOMEM */
int source_add(struct vd_user_server *server, struct source *source);
/* source_remove() - out of the table; gives that reference back. No turn lock held. */
void source_remove(struct vd_user_server *server, struct source *source);
/* source_find() - with one more reference; NULL: it is gone */
struct source *source_find(struct vd_user_server *server, uint64_t id);
struct source *source_get(struct source *source);
void source_put(struct source *source);
/* source_watch() - tell epoll; @events as of epoll_ctl(2). Return: 0, -errno */
int source_watch(const struct vd_user_server *server, const struct source *source, int fd,
		 uint32_t events);
void source_forget(const struct vd_user_server *server, int fd);

/* ---- listen.c ------------------------------------------------------------------------------- */

/* listen_open() - the export's socket, from its configuration. Return: 0, -errno */
int listen_open(struct vd_user_export *export, const struct vd_user_export_config *config,
		struct vd_error *error);
/* listen_close() - nobody can connect any more. The descriptor stays until the export is freed. */
void listen_close(struct vd_user_export *export);

/* ---- turn.c --------------------------------------------------------------------------------- */

/* turn_new() - with one reference, for @server. Return: NULL without memory */
struct served *turn_new(struct vd_user_server *server);
void turn_free(struct served *served);
/* turn_request() - have a source served: now, by this thread, or by who has the turn */
void turn_request(struct served *served, struct source *source);
/* turn_kick() - have the queue emptied by one of the server's threads, if nobody has the turn */
void turn_kick(struct served *served);
/* turn_kicked() - what SOURCE_KICK is for */
void turn_kicked(struct vd_user_server *server);
/* turn_is_ours() - whether this thread has the turn. Turn lock held. */
bool turn_is_ours(const struct served *served);
/* turn_take() - if it is free; turn_give_back(). Turn lock held. */
bool turn_take(struct served *served);
void turn_give_back(struct served *served);

static inline void turn_lock(struct served *served)
{
	pthread_mutex_lock(&served->lock);
}

static inline void turn_unlock(struct served *served)
{
	pthread_mutex_unlock(&served->lock);
}

/* ---- device.c, by who has the turn ---------------------------------------------------------- */

/* device_serve() - one of its descriptors is readable */
void device_serve(struct served *served);
/* device_watch() - have epoll report the descriptors that the device has just now */
void device_watch(struct served *served);
/* device_make() - for a client of an export that makes one for each. Return: 0, -errno */
int device_make(struct vd_user_export *export, struct served *served);
/* device_end() - it has no client any more, and will get none */
void device_end(struct served *served);
/* device_keep() - for an export with one that is kept; needs no turn. Return: 0, -ENOMEM */
int device_keep(struct vd_user_export *export);
/* device_retire() - undo that; waits for the turn, and drops the export's reference */
void device_retire(struct served *served);

/* ---- connection.c, by who has the turn but where noted -------------------------------------- */

/* connection_accept() - all that wait at the export's socket; needs no turn */
void connection_accept(struct vd_user_export *export);
/* connection_drop() - cut, and have it ended; needs no turn */
void connection_drop(struct connection *c);
/* connection_serve() - read and handle what is there */
void connection_serve(struct connection *c);
/*
 * identity_get() - one use of the identity of that name. Return: NULL: no memory; the connection is
 * then a client for itself. identity_put() - NULL is ignored
 */
struct identity *identity_get(struct vd_user_server *server, const char *name);
void identity_put(struct vd_user_server *server, struct identity *identity);
/* connection_end() - everything of it goes: memory, interrupts, descriptors. Once. */
void connection_end(struct connection *c);
/* connection_unmap() - all memory of who was the device's client. Return: as vd_dma_unmap_all() */
int connection_unmap(struct served *served);
/* connection_cut() - nothing is sent or received any more; any thread, turn lock held */
void connection_cut(struct connection *c);
/* connection_cut_off() - likewise, as it did what is not allowed; no turn lock held */
void connection_cut_off(struct connection *c, const char *why);
/* connection_hangs_up() - the client sends no more than what is there; needs no turn */
void connection_hangs_up(struct connection *c);
/* connection_mute() - it is reported while who has the turn reads; any thread, turn lock held */
void connection_mute(struct connection *c);
/* connection_is_open() - takes the turn lock */
bool connection_is_open(struct connection *c);
void connection_free(struct connection *c);

/* ---- command.c, by who has the turn --------------------------------------------------------- */

/* command_nests() - whether it can be handled while an operation waits for a DMA reply */
bool command_nests(const struct user_message *message);
/* command_handle() - and reply. The message's descriptors are closed. */
void command_handle(struct connection *c, struct user_message *message);
/* reply_room() - for a payload of @length bytes, zeroed. Return: NULL without memory */
void *reply_room(struct connection *c, struct reply *reply, size_t length);

/*
 * Handlers: the message has at least the bytes of the command's structure; the connection is ready,
 * but for the first. Return: 0, and @reply filled in; -errno, which is sent instead.
 */
typedef int (*command_handler)(struct connection *c, struct user_message *message,
			       struct reply *reply);
/* version.c */
int handle_version(struct connection *c, struct user_message *message, struct reply *reply);
/* memory.c */
int handle_dma_map(struct connection *c, struct user_message *message, struct reply *reply);
int handle_dma_unmap(struct connection *c, struct user_message *message, struct reply *reply);
/* information.c */
int handle_info(struct connection *c, struct user_message *message, struct reply *reply);
int handle_region_info(struct connection *c, struct user_message *message, struct reply *reply);
int handle_region_io_fds(struct connection *c, struct user_message *message, struct reply *reply);
/* irq.c */
int handle_irq_info(struct connection *c, struct user_message *message, struct reply *reply);
int handle_set_irqs(struct connection *c, struct user_message *message, struct reply *reply);
/* region.c */
int handle_region_read(struct connection *c, struct user_message *message, struct reply *reply);
int handle_region_write(struct connection *c, struct user_message *message, struct reply *reply);
int handle_write_multi(struct connection *c, struct user_message *message, struct reply *reply);
int handle_reset(struct connection *c, struct user_message *message, struct reply *reply);
/* migration.c */
int handle_feature(struct connection *c, struct user_message *message, struct reply *reply);
int handle_migration_read(struct connection *c, struct user_message *message, struct reply *reply);
int handle_migration_write(struct connection *c, struct user_message *message,
			   struct reply *reply);
/* migration_leave() - the client has gone in the middle of one: the device runs */
void migration_leave(struct served *served);

/* ---- logging.c ------------------------------------------------------------------------------ */

/* logging_bytes() - of the bitmap for a range; 0: that is nonsense, or too much for a message */
size_t logging_bytes(const struct connection *c, uint64_t length, uint64_t page_size);
/* Features: the message has a struct user_feature at least, with the method that belongs to it. */
int logging_start(struct connection *c, const struct user_message *message, struct reply *reply);
int logging_stop(struct connection *c, const struct user_message *message, struct reply *reply);
int logging_report(struct connection *c, const struct user_message *message, struct reply *reply);

/* ---- dma.c ---------------------------------------------------------------------------------- */

extern const struct vd_dma_remote_ops dma_remote_ops; /* the context is the connection */

/* dma_set_mode() - from now on; waits on other threads that it forbids end. No turn lock held. */
void dma_set_mode(struct connection *c, enum dma_mode mode, uint64_t start, uint64_t last);
/*
 * dma_settle() - before a reply that says that nothing more comes: have the client take what was
 * posted. It gets a moment for each piece; what it leaves follows the reply. No turn lock held.
 */
void dma_settle(struct connection *c);
/* dma_deliver() - a reply, to who waits for it, if anybody still does */
void dma_deliver(struct connection *c, const struct user_message *message);

#endif
