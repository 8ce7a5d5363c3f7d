/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts as a VFIO client sets them. A request is judged, then the descriptors are duplicated
 * without the lock, then it is judged again and carried out, which cannot fail.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vfio/device.h"

#define DATA_NONE VFIO_IRQ_SET_DATA_NONE
#define DATA_BOOL VFIO_IRQ_SET_DATA_BOOL
#define DATA_EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define ACTION_MASK VFIO_IRQ_SET_ACTION_MASK
#define ACTION_UNMASK VFIO_IRQ_SET_ACTION_UNMASK
#define ACTION_TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER

/*
 * struct request - what is asked for; the numbers have been checked
 * @fds: as the caller gave them; @taken: duplicates, exchanged for what was there before
 */
struct request {
	uint32_t type, action;
	unsigned index, start, count;
	const uint8_t *bools;
	const int *fds;
	int *taken;
};

static int fd_of(const struct request *request, unsigned i)
{
	return request->fds ? request->fds[i] : -1;
}

static bool wants(const struct request *request, unsigned i)
{
	return request->type == DATA_NONE || request->bools[i];
}

static bool disables(const struct request *request)
{
	return !request->count && request->type == DATA_NONE;
}

/* ---- descriptors ---------------------------------------------------------------------------- */

/*
 * By name, which asks nobody: a descriptor of somebody else's may belong to a file system that
 * never answers. Without /proc, by what no other file says to an empty write.
 */
static bool is_eventfd(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32] = "/proc/self/fd/", target[sizeof(name)];
	char digits[12];
	unsigned count = 0;
	ssize_t length;
	size_t at = sizeof("/proc/self/fd/") - 1;

	for (unsigned rest = (unsigned)fd; rest || !count; rest /= 10)
		digits[count++] = (char)('0' + rest % 10);
	while (count)
		path[at++] = digits[--count];
	length = readlink(path, target, sizeof(target));
	if (length >= 0)
		return length == sizeof(name) - 1 && !memcmp(target, name, sizeof(name) - 1);
	return write(fd, "", 0) < 0 && errno == EINVAL;
}

static int take_fd(const struct vd_env *env, int fd, int *taken)
{
	int r = vd_env_inject(env, "vfio.eventfd"), copy;

	if (r)
		return r;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	if (!is_eventfd(copy)) {
		close(copy);
		return -EINVAL;
	}
	*taken = copy;
	return 0;
}

static void give_back(const struct vd_env *env, struct request *request)
{
	if (!request->taken)
		return;
	for (unsigned i = 0; i < request->count; i++)
		if (request->taken[i] >= 0)
			close(request->taken[i]);
	env->release(env, request->taken, request->count * sizeof(*request->taken));
}

/* On error what was taken so far is in the request all the same. */
static int take_fds(const struct vd_env *env, struct request *request)
{
	int r = 0;

	if (request->type != DATA_EVENTFD || !request->count)
		return 0;
	request->taken = vd_env_allocate(env, "vfio.eventfds",
					 request->count * sizeof(*request->taken), _Alignof(int));
	if (!request->taken)
		return -ENOMEM;
	for (unsigned i = 0; i < request->count; i++)
		request->taken[i] = -1;
	for (unsigned i = 0; i < request->count && !r; i++)
		if (fd_of(request, i) >= 0)
			r = take_fd(env, fd_of(request, i), &request->taken[i]);
	return r;
}

static void exchange(int *a, int *b)
{
	int kept = *a;

	*a = *b;
	*b = kept;
}

/* ---- judging, with the lock held ------------------------------------------------------------ */

static bool is_on(const struct vd_device *device, unsigned index)
{
	return device->client.active == index;
}

static bool is_free(const struct vd_device *device, unsigned index)
{
	return is_on(device, index) || device->client.active == VD_IRQ_COUNT;
}

static int judge_intx(const struct vd_device *device, const struct request *request)
{
	bool on = is_on(device, VD_IRQ_INTX);

	if (request->action == ACTION_TRIGGER) {
		if (on && disables(request))
			return 0;
		if (!is_free(device, VD_IRQ_INTX) || request->count != 1)
			return -EINVAL;
		return on || request->type == DATA_EVENTFD ? 0 : -EINVAL;
	}
	if (!on || request->count != 1)
		return -EINVAL;
	if (request->type != DATA_EVENTFD)
		return 0;
	if (request->action == ACTION_MASK)
		return -ENOTTY;
	return fd_of(request, 0) >= 0 && vd_device_unmask_fd(device) >= 0 ? -EBUSY : 0;
}

static int judge_message(const struct vd_device *device, const struct request *request)
{
	bool on = is_on(device, request->index);

	if (request->action != ACTION_TRIGGER)
		return -ENOTTY;
	if (on && disables(request))
		return 0;
	if (!is_free(device, request->index))
		return -EINVAL;
	if (request->type != DATA_EVENTFD)
		return on ? 0 : -EINVAL;
	if (!on)
		return request->start + request->count ? 0 : -ERANGE;
	for (unsigned i = 0; i < request->count && request->index == VD_IRQ_MSI; i++)
		if (fd_of(request, i) >= 0 && request->start + i >= device->client.enabled)
			return -EINVAL;
	return 0;
}

static int judge_single(const struct vd_device *device, const struct request *request)
{
	if (request->action != ACTION_TRIGGER)
		return -ENOTTY;
	if (request->type == DATA_NONE)
		return device->client.triggers[request->index][0] >= 0 ? 0 : -EINVAL;
	if (!request->count)
		return -EINVAL;
	return request->type == DATA_EVENTFD && fd_of(request, 0) < -1 ? -EINVAL : 0;
}

static int judge(const struct vd_device *device, const struct request *request)
{
	int r;

	if (request->index == VD_IRQ_INTX)
		r = judge_intx(device, request);
	else if (request->index == VD_IRQ_ERR || request->index == VD_IRQ_REQ)
		r = judge_single(device, request);
	else
		r = judge_message(device, request);
	if (!r && device->sinks[request->index].fn && request->action == ACTION_TRIGGER &&
	    request->type == DATA_EVENTFD)
		r = -EBUSY;
	return r;
}

/* ---- carrying out, with the lock held ------------------------------------------------------- */

static void drop_unmask(struct device_irqs *client)
{
	int fd = atomic_load_explicit(&client->unmask, memory_order_relaxed);

	atomic_store_explicit(&client->unmask, -1, memory_order_relaxed);
	if (fd >= 0)
		close(fd);
}

static void switch_off(struct vd_device *device, unsigned index)
{
	struct device_irqs *client = &device->client;

	for (unsigned i = 0; i < device->irqs[index]; i++) {
		if (client->triggers[index][i] >= 0)
			close(client->triggers[index][i]);
		client->triggers[index][i] = -1;
	}
	if (client->active != index)
		return;
	client->active = VD_IRQ_COUNT;
	client->enabled = 0;
	client->masked = false;
	drop_unmask(client);
	memset(client->pending, 0, sizeof(client->pending));
}

static void switch_on(struct vd_device *device, const struct request *request)
{
	struct device_irqs *client = &device->client;

	if (is_on(device, request->index))
		return;
	client->active = request->index;
	client->enabled = request->start + request->count;
	for (client->fold = 0; client->fold + 1 < client->enabled;)
		client->fold = client->fold << 1 | 1;
	client->masked = device->intx_disabled;
}

/* Whatever a vector missed without a descriptor. */
static void fire_pending(struct vd_device *device, unsigned vector)
{
	struct device_irqs *client = &device->client;
	uint64_t bit = UINT64_C(1) << vector % 64;
	int fd = client->triggers[VD_IRQ_MSIX][vector];

	if (fd < 0 || !(client->pending[vector / 64] & bit))
		return;
	client->pending[vector / 64] &= ~bit;
	device_signal(fd);
}

static void set_triggers(struct vd_device *device, struct request *request)
{
	int *triggers = device->client.triggers[request->index];

	if (request->index != VD_IRQ_ERR && request->index != VD_IRQ_REQ)
		switch_on(device, request);
	for (unsigned i = 0; i < request->count; i++) {
		exchange(&triggers[request->start + i], &request->taken[i]);
		if (request->index == VD_IRQ_MSIX)
			fire_pending(device, request->start + i);
	}
	/* What was asserted before INTx was switched on; masked if it was on. */
	if (request->index == VD_IRQ_INTX)
		device_intx_fire(device);
}

/* No state of the device changes: it is the way to the client that is tried. */
static void loop_back(struct vd_device *device, const struct request *request)
{
	const int *triggers = device->client.triggers[request->index];

	if (request->index == VD_IRQ_INTX && device->intx_disabled)
		return;
	for (unsigned i = 0; i < request->count; i++)
		if (triggers[request->start + i] >= 0 && wants(request, i))
			device_signal(triggers[request->start + i]);
}

static void set_unmask(struct device_irqs *client, struct request *request)
{
	int fd = request->taken[0];

	drop_unmask(client);
	request->taken[0] = -1;
	atomic_store_explicit(&client->unmask, fd, memory_order_relaxed);
}

static void carry_out(struct vd_device *device, struct request *request)
{
	if (request->action == ACTION_TRIGGER) {
		if (disables(request))
			switch_off(device, request->index);
		else if (request->type == DATA_EVENTFD)
			set_triggers(device, request);
		else
			loop_back(device, request);
	} else if (request->type == DATA_EVENTFD) {
		set_unmask(&device->client, request);
	} else if (wants(request, 0)) {
		if (request->action == ACTION_MASK)
			device->client.masked = true;
		else
			device_intx_unmask(device);
	}
}

/* ---- for transports ------------------------------------------------------------------------- */

static int check_numbers(const struct vd_device *device, uint32_t flags,
			 const struct request *request)
{
	unsigned count;

	if (flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK) ||
	    request->index >= VD_IRQ_COUNT)
		return -EINVAL;
	count = device->irqs[request->index];
	if (request->start >= count || request->count > count - request->start)
		return -EINVAL;
	switch (request->type) {
	case DATA_NONE:
	case DATA_EVENTFD:
		return 0;
	case DATA_BOOL:
		return request->count && !request->bools ? -EINVAL : 0;
	}
	return -EINVAL;
}

int vd_device_set_irqs(struct vd_device *device, uint32_t flags, unsigned index, unsigned start,
		       unsigned count, const void *data, const int *fds)
{
	struct request request = {
		.type = flags & VFIO_IRQ_SET_DATA_TYPE_MASK,
		.action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK,
		.index = index,
		.start = start,
		.count = count,
		.bools = data,
		.fds = fds,
	};
	int r = check_numbers(device, flags, &request);

	if (r)
		return r;
	if (request.action & (request.action - 1) || !request.action)
		return -ENOTTY;
	vd_device_lock(device);
	r = judge(device, &request);
	vd_device_unlock(device);
	if (!r)
		r = take_fds(device->env, &request);
	vd_device_lock(device);
	/* Something else may have been set meanwhile. */
	if (!r)
		r = judge(device, &request);
	if (!r)
		carry_out(device, &request);
	vd_device_unlock(device);
	give_back(device->env, &request);
	return r;
}

int vd_device_irq_info(const struct vd_device *device, unsigned index, struct vd_irq_info *info)
{
	static const uint32_t flags[VD_IRQ_COUNT] = {
		[VD_IRQ_INTX] = VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
		[VD_IRQ_MSI] = VFIO_IRQ_INFO_NORESIZE,
		[VD_IRQ_ERR] = VFIO_IRQ_INFO_NORESIZE,
		[VD_IRQ_REQ] = VFIO_IRQ_INFO_NORESIZE,
	};

	if (index >= VD_IRQ_COUNT || (index >= VD_IRQ_ERR && !device->irqs[index]))
		return -EINVAL;
	*info = (struct vd_irq_info){VFIO_IRQ_INFO_EVENTFD | flags[index], device->irqs[index]};
	return 0;
}

int vd_device_unmask_fd(const struct vd_device *device)
{
	return atomic_load_explicit(&device->client.unmask, memory_order_relaxed);
}

/* Never waits: a client may have read it first. Kernels before 5.8 know no RWF_NOWAIT there. */
static bool take_signal(int fd)
{
	uint64_t count;
	struct iovec to = {&count, sizeof(count)};
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	ssize_t n = preadv2(fd, &to, 1, -1, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP && poll(&ready, 1, 0) == 1)
		n = read(fd, &count, sizeof(count));
	return n == sizeof(count);
}

void vd_device_unmask_poll(struct vd_device *device)
{
	int fd;

	vd_device_lock(device);
	fd = vd_device_unmask_fd(device);
	if (fd >= 0 && take_signal(fd))
		device_intx_unmask(device);
	vd_device_unlock(device);
}

void device_irqs_reset(struct vd_device *device)
{
	memset(device->client.pending, 0, sizeof(device->client.pending));
}

bool device_irqs_used(const struct vd_device *device, unsigned index)
{
	if (index == VD_IRQ_ERR || index == VD_IRQ_REQ)
		return device->irqs[index] && device->client.triggers[index][0] >= 0;
	return is_on(device, index);
}

void vd_device_clear_irqs(struct vd_device *device)
{
	vd_device_lock(device);
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		switch_off(device, i);
	vd_device_unlock(device);
}

/* ---- saving and loading --------------------------------------------------------------------- */

static unsigned pending_words(const struct vd_device *device)
{
	return (device->irqs[VD_IRQ_MSIX] + 63) / 64;
}

void device_irqs_save(const struct vd_device *device, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, device->asserted);
	vd_stream_put_u64(stream, pending_words(device));
	for (unsigned i = 0; i < pending_words(device); i++)
		vd_stream_put_u64(stream, device->client.pending[i]);
}

bool device_irqs_parse(const struct vd_device *device, struct vd_stream *stream,
		       struct device_irq_state *state)
{
	unsigned left = device->irqs[VD_IRQ_MSIX];

	*state = (struct device_irq_state){.asserted = vd_stream_get_u64(stream)};
	if (state->asserted > (device->irqs[VD_IRQ_INTX] != 0) ||
	    vd_stream_get_u64(stream) != pending_words(device))
		return false;
	for (unsigned i = 0; i < pending_words(device); i++, left -= 64) {
		state->pending[i] = vd_stream_get_u64(stream);
		if (left < 64 && state->pending[i] >> left)
			return false;
	}
	return !stream->failed;
}

void device_irqs_load(struct vd_device *device, const struct device_irq_state *state)
{
	memcpy(device->client.pending, state->pending, sizeof(state->pending));
	for (unsigned i = 0; i < device->irqs[VD_IRQ_MSIX]; i++)
		fire_pending(device, i);
	if (state->asserted)
		vd_device_raise(device, VD_IRQ_INTX, 0);
	else
		vd_device_lower(device);
}

/* ---- room for it ---------------------------------------------------------------------------- */

int device_irqs_init(struct vd_device *device, struct vd_error *error)
{
	static const unsigned most[VD_IRQ_COUNT] = {
		1, VD_IRQ_VECTORS_MAX, VD_IRQ_VECTORS_MAX, 1, 1,
	};
	struct device_irqs *client = &device->client;
	unsigned room = 0;
	int *next;

	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		if (device->irqs[i] > most[i])
			return vd_error_set(error, -EINVAL,
					    "%s: %u vectors of interrupt %u, %u at most",
					    device->name, device->irqs[i], i, most[i]);
		room += device->irqs[i];
	}
	client->active = VD_IRQ_COUNT;
	atomic_init(&client->unmask, -1);
	client->room = room;
	if (!room)
		return 0;
	next = vd_env_allocate(device->env, "vfio.irqs", room * sizeof(*next), _Alignof(int));
	if (!next)
		return vd_error_set(error, -ENOMEM, "%s: no memory for interrupts", device->name);
	for (unsigned i = 0; i < room; i++)
		next[i] = -1;
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		client->triggers[i] = next;
		next += device->irqs[i];
	}
	return 0;
}

void device_irqs_fini(struct vd_device *device)
{
	if (!device->client.triggers[0])
		return;
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		switch_off(device, i);
	device->env->release(device->env, device->client.triggers[0],
			     device->client.room * sizeof(int));
}
