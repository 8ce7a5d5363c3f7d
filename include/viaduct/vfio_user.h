/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 9, vfio-user
 *
 * A device over a UNIX socket: version 0.1 of the specification (QEMU, docs/interop/vfio-user.rst).
 * The *client* is the guest's side: it makes a struct vd_device of what a server offers, to be
 * plugged in as any other.
 * The *server* shows devices of this process to clients: QEMU, other VMMs, ourselves.
 *
 * Both sides take the other for hostile: each size is checked before it is used, descriptors that
 * are not wanted are closed, and what the other may make us keep for it has a limit.
 */
#ifndef VIADUCT_VFIO_USER_H
#define VIADUCT_VFIO_USER_H

#include <viaduct/vfio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the client ----------------------------------------------------------------------------- */

/** VD_USER_TIMEOUT_MS - how long a server may take to answer, if nothing else is said */
#define VD_USER_TIMEOUT_MS 5000u

/**
 * struct vd_user_client_info - what a server said of itself
 * @minor: of the protocol's version
 * @transfer_max, @fds_max, @maps_max: most bytes of an access, descriptors in a message, DMA maps
 * @twin_socket: its own commands come by a second socket
 * @page_offset: it was asked for BARs' offsets within their pages, and gives them
 * @resettable: it has a reset
 * @pci: it says that it is a PCI device
 * @migration: VFIO_MIGRATION_*; 0: it can be neither stopped nor saved
 * @irq_flags: VFIO_IRQ_INFO_* of each index
 * @shared: the region lies in a page that other BARs of the device's group are in; where in it,
 *	struct vd_region says
 * @trapped: why a region that was announced as mappable is trapped all the same, in words that live
 *	for ever; NULL where there is no such reason
 */
struct vd_user_client_info {
	unsigned minor;
	uint64_t transfer_max, fds_max, maps_max;
	bool twin_socket, page_offset, resettable, pci;
	uint64_t migration;
	uint32_t irq_flags[VD_IRQ_COUNT];
	bool shared[VD_REGION_COUNT];
	const char *trapped[VD_REGION_COUNT];
};

/**
 * struct vd_user_client_config
 * @env, @host: as in struct vd_device_config
 * @path: of the server's socket; or NULL, and
 * @fd: a connected one; it is taken over, and closed if the call fails
 * @mem: the guest's memory, which the server's DMA shall reach; NULL: none
 * @space: one that follows @mem (vd_dma_follow()), for copies; with @mem only
 * @timeout_ms: how long the server may take to answer, or to make room for more: 0 for
 *	VD_USER_TIMEOUT_MS. Reset and changes of the migration state may take four times that
 * @reconnect_ms: a server that has gone is looked for this often, in the poll of the device; 0: it
 *	is gone for good. With a path only. Nothing of its memory is mapped then, as that goes with
 *	it
 * @page_offset: ask for the places of BARs that share pages with others of the device's group. Such
 *	pages may then be mapped, by who shows them at the same place only. Without it, and with a
 *	server that does not know of it, such BARs are trapped
 * @group: where devices of several sockets find the pages that they share; NULL: one of its own
 * @client_id: a name that nobody can guess, the same on each socket of this client: a server then
 *	gives it pages that are shared by BARs of several devices of a group (not in the
 *	specification, which knows neither groups nor their reset: a reset is each device's own). Up
 *	to 64 letters and digits; NULL: each connection is a client for itself
 * @inspect: only look: the device is not reset, gets no interrupts and no memory
 * @info: filled in if not NULL
 */
struct vd_user_client_config {
	const struct vd_env *env;
	struct vd_host *host;
	const char *path;
	int fd;
	struct vd_mem *mem;
	struct vd_dma_space *space;
	unsigned timeout_ms, reconnect_ms;
	bool page_offset;
	struct vd_group *group;
	const char *client_id;
	bool inspect;
	struct vd_user_client_info *info;
};

/**
 * vd_user_client_create() - a device that is served elsewhere
 *
 * It is reset, told of the guest's memory, and given an eventfd for ERR, for REQ, and for each
 * vector of the best kind of interrupt that it has (MSI-X, MSI, INTx). From the guest's first write
 * to the enable bit of MSI-X or MSI on it is the kind that is on, INTx where none is. INTx is
 * level-triggered and masks itself: it is lowered, and unmasked, after the guest's next access to a
 * BAR, and comes again if it is still asserted then.
 *
 * Accesses go over the socket: reads and writes wait for their answer, but writes to the BARs of a
 * device that has nothing mappable are posted: what is sent later is done later. The device's lock
 * is not held meanwhile. Mappable areas are the server's own memory. Interrupts and the server's
 * DMA messages are handled where the device is polled: its poll descriptor (vd_device_poll_fd())
 * becomes readable. There is no thread, as that would be one more to be woken for each interrupt;
 * whoever waits for an answer handles what comes before it.
 *
 * Memory: RAM that has a descriptor and may be stored to is shared with the server, which maps it;
 * all else (private memory, read-only slots, other devices' BARs) it reaches by messages. Slots
 * that go are taken from the server before they are gone, so invalidations sleep: one that may not
 * gets -EAGAIN. Memory that the server has mapped is never moved (-EBUSY). Discards it sees by
 * itself. When stores are to be seen (dirty log, snapshot) or permissions shrink, the slot is taken
 * from the server and given back without its descriptor: from then on DMA there comes as messages,
 * which obey. I/O that is under way in that moment fails, unless the device is quiesced. Slots that
 * were added are announced before the next access that is sent.
 *
 * The server is not trusted. It may answer late, never or nonsense, cut its memory or go away: then
 * an error is logged once, with the reason, the connection ends, ERR is raised, and the device
 * reads as all ones. A server that has memory mapped can harm the guest, as a device can.
 *
 * With @reconnect_ms it is not the end: when a server with such a device is there again, that is
 * reset, gets memory and interrupts as the first one did, and what the guest had written to the
 * first 256 bytes of configuration space. The guest's driver has had ERR, and has to reset what it
 * knows of the device. The counters "connected" and "reconnects" tell (vd_device_counters()).
 *
 * Quiesce, save and load go by its migration states; without them they are -EOPNOTSUPP. A state
 * that the server refuses leaves the device reset.
 *
 * Return: 0; with the reason in @error: -ECONNREFUSED, -ENOENT and so on, of connect(2); -EPROTO it
 *	says what cannot be; -ETIMEDOUT; -ECONNRESET it hung up, as one does that is busy with
 *	another client; -EPERM memory that its owner can cut, without the fault guard; -ENOSPC more
 *	slots than it takes maps; -EMFILE; -ENOMEM; what the server replied.
 */
int vd_user_client_create(const struct vd_user_client_config *config, struct vd_device **device,
			  struct vd_error *error);

/* ---- the server ----------------------------------------------------------------------------- */

struct vd_user_server;
struct vd_user_export;

/**
 * struct vd_user_server_config
 * @env: outlives the server
 * @host: where clients' memory is mapped. A client can truncate a file that it has passed: without
 *	the fault guard (vd_host_guard_install()) only sealed files are taken, others are -EPERM.
 *	Each thread inside vd_user_server_run() has a guard set; a client whose memory is gone when
 *	it is touched is cut off
 * @reply_limit_ms: how long a client may take to answer a DMA message before it is cut off; 0 for
 *	10 s
 */
struct vd_user_server_config {
	const struct vd_env *env;
	struct vd_host *host;
	unsigned reply_limit_ms;
};

/**
 * vd_user_server_create() - a server that serves nothing yet
 * Return: 0; -EINVAL a limit of more than a day; -ENOMEM, -EMFILE.
 */
int vd_user_server_create(const struct vd_user_server_config *config,
			  struct vd_user_server **server, struct vd_error *error);
/**
 * vd_user_server_destroy() - removes what is still exported, and goes. No thread may be inside any
 * of its functions. NULL is ignored.
 */
void vd_user_server_destroy(struct vd_user_server *server);

/**
 * struct vd_user_export_config - what is behind a socket
 * @path: of the socket to be made. One that nobody answers at is replaced; NULL:
 * @fd: a listening one; taken over if the call succeeds. With a path: -1
 * @device, @space: one device, with what its DMA reaches. Both get one reference more. It is kept,
 *	with its state, while clients come and go; one client at a time, others get EBUSY. The space
 *	is the clients': nobody else maps anything there, and it is empty when a client has gone
 * @create: or, with @device NULL: makes one for each client that introduces itself, in a space of
 *	its own; the device and the space go with the client. Called on a thread of the server
 * @context: of @create
 * @write_multiple: announce VFIO_USER_REGION_WRITE_MULTI, if the client offers it. Not for QEMU 10
 */
struct vd_user_export_config {
	const char *path;
	int fd;
	struct vd_device *device;
	struct vd_dma_space *space;
	int (*create)(void *context, struct vd_dma_space *space, struct vd_device **device,
		      struct vd_error *error);
	void *context;
	bool write_multiple;
};

/**
 * vd_user_server_add() - serve something more; any thread, also while others run the server
 * Return: 0; with the reason in @error: -EINVAL no socket, or neither or both of device and
 *	create(); -ENAMETOOLONG; -EADDRINUSE somebody answers there, or it is no socket; -errno of
 *	bind(2) and its like; -ENOMEM, -EMFILE.
 */
int vd_user_server_add(struct vd_user_server *server, const struct vd_user_export_config *config,
		       struct vd_user_export **added, struct vd_error *error);
/**
 * vd_user_server_remove() - its clients are cut off, the socket's file goes, references are given
 * back
 *
 * Waits for what is under way with them. Any thread, but not from within @create or a device's
 * operation.
 */
void vd_user_server_remove(struct vd_user_export *added);

/**
 * vd_user_server_run() - serve until vd_user_server_stop(); any number of threads at once
 *
 * A client is served by one thread at a time, different ones by as many as there are. While a
 * thread waits for a client's answer to a DMA message it serves that client only: with one thread a
 * client that does not answer holds up all others, for @reply_limit_ms at most.
 * Return: 0; -errno of epoll_wait(2).
 */
int vd_user_server_run(struct vd_user_server *server);
/** vd_user_server_stop() - all threads return from run, now and later. Async-signal-safe */
void vd_user_server_stop(struct vd_user_server *server);
/**
 * vd_user_server_fd() - for a caller's loop: readable while vd_user_server_run_once() has something
 * to do
 */
int vd_user_server_fd(const struct vd_user_server *server);
/**
 * vd_user_server_run_once() - wait for one event, and handle it
 * @timeout_ms: as of epoll_wait(2)
 * Return: 1 something was done; 0 nothing to do within the time; -ECANCELED stopped; -errno.
 */
int vd_user_server_run_once(struct vd_user_server *server, int timeout_ms);

/**
 * struct vd_user_server_stats - counters since creation, but for the first
 * @clients: connected and introduced, now
 * @accepted: connections
 * @refused: of these, turned away: busy, or a version or JSON that is none
 * @cut_off: clients whose connection was ended by us: malformed messages, no answer to a DMA
 *	message in time, memory that was truncated
 * @messages: handled
 * @errors: of these, answered with an error, or such that would have been
 * @dma_reads, @dma_writes: messages to clients
 * @dma_failed: of these, answered with an error, given up, or not at all
 */
struct vd_user_server_stats {
	uint64_t clients, accepted, refused, cut_off;
	uint64_t messages, errors;
	uint64_t dma_reads, dma_writes, dma_failed;
};
/** vd_user_server_stats() - takes no lock */
void vd_user_server_stats(const struct vd_user_server *server, struct vd_user_server_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
