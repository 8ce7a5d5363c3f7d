/* SPDX-License-Identifier: BSD-2-Clause */
/* The device behind a socket: its descriptors, and one for each client. */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "transport/user/server.h"

/*
 * The descriptor to poll for: level-triggered, as a device may leave something for later, and once,
 * so that nobody is told while the device's turn is taken. One that the device has no use for any
 * more stays armed: it is told of once at most.
 */
static void watch_poll(struct served *served)
{
	struct vd_user_server *server = served->server;
	int fd = vd_device_poll_fd(served->device);

	if (fd < 0 || (served->poll_armed && fd == served->poll_fd))
		return;
	if (served->poll_fd >= 0 && served->poll_fd != fd)
		source_forget(server, served->poll_fd);
	served->poll_fd = fd;
	served->poll_armed = !source_watch(server, &served->source, fd, EPOLLIN | EPOLLONESHOT);
}

/* By which the client unmasks INTx; each signal is an edge. */
static void watch_unmask(struct served *served)
{
	int fd = vd_device_unmask_fd(served->device);

	if (fd == served->unmask_fd)
		return;
	/* The old one has been closed, and epoll forgot it. */
	served->unmask_fd = fd;
	if (fd >= 0 && source_watch(served->server, &served->source, fd, EPOLLIN | EPOLLET))
		served->unmask_fd = -1;
}

void device_watch(struct served *served)
{
	if (!served->device || !source_id(&served->source))
		return;
	watch_poll(served);
	watch_unmask(served);
}

void device_serve(struct served *served)
{
	if (served->retiring) {
		device_end(served);
		return;
	}
	if (!served->device)
		return;
	served->poll_armed = false;
	vd_device_unmask_poll(served->device);
	vd_device_poll(served->device);
}

static int make(struct vd_user_export *export, struct served *served, struct vd_error *error)
{
	struct vd_user_server *server = export->server;
	struct vd_dma_config dma = {.env = server->env, .host = server->host};
	int r = vd_dma_space_create(&dma, &served->space, error);

	if (r)
		return r;
	r = export->config.create(export->config.context, served->space, &served->device, error);
	if (!r)
		r = source_add(server, source_get(&served->source));
	if (!r)
		return 0;
	if (served->device)
		source_put(&served->source);
	return r;
}

int device_make(struct vd_user_export *export, struct served *served)
{
	struct vd_error error = {.code = 0};
	int r = make(export, served, &error);

	if (r) {
		if (export->server->env->log && error.code)
			export->server->env->log(export->server->env, VD_LOG_ERROR, error.text);
		device_end(served);
	}
	return r;
}

void device_end(struct served *served)
{
	struct vd_user_server *server = served->server;
	struct vd_device *device = served->device;

	if (served->poll_fd >= 0)
		source_forget(server, served->poll_fd);
	if (served->unmask_fd >= 0)
		source_forget(server, served->unmask_fd);
	served->poll_fd = served->unmask_fd = -1;
	source_remove(server, &served->source);
	/* If that fails they stay for good, as a pin does. A late event finds no space. */
	if (served->stuck && served->space)
		(void)connection_unmap(served);
	vd_device_put(device);
	if (served->space && served->retiring)
		vd_dma_space_put(served->space);
	else if (served->space)
		vd_dma_space_destroy(served->space);
	served->space = NULL;
	turn_lock(served);
	served->device = NULL;
	pthread_cond_broadcast(&served->changed);
	turn_unlock(served);
}

int device_keep(struct vd_user_export *export)
{
	struct served *served = turn_new(export->server);

	if (!served)
		return -ENOMEM;
	if (source_add(export->server, source_get(&served->source))) {
		source_put(&served->source);
		source_put(&served->source);
		return -ENOMEM;
	}
	served->device = vd_device_get(export->config.device);
	served->space = vd_dma_space_get(export->config.space);
	export->served = served;
	/* It may be busy already. */
	turn_request(served, &served->source);
	return 0;
}

void device_retire(struct served *served)
{
	turn_lock(served);
	served->retiring = true;
	turn_unlock(served);
	turn_request(served, &served->source);
	turn_lock(served);
	while (served->device)
		pthread_cond_wait(&served->changed, &served->lock);
	turn_unlock(served);
	source_put(&served->source);
}
