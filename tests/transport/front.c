/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "front.h"
#include "user/descriptors.h"

/* ---- what is a struct vd_device ------------------------------------------------------------- */

static int device_read(struct front *f, unsigned region, uint64_t offset, void *data,
		       uint32_t length)
{
	return vd_device_read(f->device, region, (vd_region_offset){offset}, data, length);
}

static int device_write(struct front *f, unsigned region, uint64_t offset, const void *data,
			uint32_t length)
{
	return vd_device_write(f->device, region, (vd_region_offset){offset}, data, length);
}

static uint64_t device_size(struct front *f, unsigned region)
{
	return vd_device_region(f->device, region)->size;
}

static void *map_file(int fd, uint64_t offset, uint64_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	assert_true(at != MAP_FAILED);
	return at;
}

static void *device_map(struct front *f, unsigned region, uint64_t offset, uint64_t length)
{
	struct vd_host_object *object;
	uint64_t at, run;

	if (vd_device_map_area(f->device, region, offset, length, &object, &at))
		return NULL;
	assert_true(vd_host_object_fd_range(object, at, &at, &run) > 0);
	assert_true(run >= length);
	return map_file(vd_host_object_fd(object), at, length);
}

static int device_set_irqs(struct front *f, uint32_t flags, unsigned index, unsigned start,
			   unsigned count, const int *fds)
{
	return vd_device_set_irqs(f->device, flags, index, start, count, NULL, fds);
}

static int device_reset(struct front *f)
{
	return vd_device_reset(f->device, VD_RESET_FUNCTION);
}

static int device_dma_map(struct front *f)
{
	struct vd_slot_config slot = {.base = {FRONT_RAM}, .size = FRONT_RAM_SIZE,
				      .kind = VD_SLOT_RAM, .object = f->ram, .name = "ram"};

	return vd_mem_add_slot(f->mem, &slot, &f->slot, NULL);
}

static int device_dma_unmap(struct front *f)
{
	return vd_mem_remove_slot(f->mem, f->slot);
}

static int device_feature(struct front *f, uint32_t flags, const void *in, size_t in_length,
			  void *out, size_t *out_length)
{
	return vd_device_feature(f->device, flags, in, in_length, out, out_length);
}

static int device_stop(struct front *f)
{
	return vd_device_quiesce(f->device);
}

static void device_go(struct front *f)
{
	vd_device_resume(f->device);
}

static int device_save(struct front *f, unsigned char *bytes, size_t *length)
{
	struct vd_stream stream = {.env = &f->test.env};
	int r = vd_device_save(f->device, &stream);

	if (!r) {
		assert_true(stream.length <= *length);
		memcpy(bytes, stream.data, stream.length);
		*length = stream.length;
	}
	vd_stream_fini(&stream);
	return r;
}

static int device_load(struct front *f, const unsigned char *bytes, size_t length)
{
	struct vd_stream stream = {.data = (unsigned char *)(uintptr_t)bytes, .length = length};

	return vd_device_load(f->device, &stream, NULL);
}

static void open_guest(struct front *f)
{
	struct vd_host_config host = {.env = &f->test.env};
	struct vd_mem_config mem = {.env = &f->test.env};
	struct vd_dma_config dma = {.env = &f->test.env};

	assert_int_equal(vd_host_create(&host, &f->host, NULL), 0);
	assert_int_equal(vd_host_import(f->host, "ram", f->ram_fd, 0, FRONT_RAM_SIZE, VD_PAGE_RAM,
					VD_MEMORY_NORMAL, 0, &f->ram, NULL), 0);
	mem.host = dma.host = f->host;
	assert_int_equal(vd_mem_create(&mem, &f->mem, NULL), 0);
	assert_int_equal(vd_dma_space_create(&dma, &f->space, NULL), 0);
	assert_int_equal(vd_dma_follow(f->space, f->mem, NULL), 0);
}

static void close_guest(struct front *f)
{
	vd_device_put(f->device);
	vd_dma_space_destroy(f->space);
	vd_mem_destroy(f->mem);
	vd_host_object_put(f->ram);
	vd_host_destroy(f->host);
}

/* ---- in process ----------------------------------------------------------------------------- */

static void open_process(struct front *f)
{
	open_guest(f);
	assert_int_equal(f->kind->create(f, &f->test.env, f->host, f->space, &f->device), 0);
	f->real = f->device;
}

static const struct front_ops in_process = {
	"in process", open_process, close_guest, device_read, device_write, device_size, device_map,
	device_set_irqs, device_reset, device_dma_map, device_dma_unmap, device_feature,
	device_stop, device_go, device_save, device_load, false,
};

/* ---- over vfio-user ------------------------------------------------------------------------- */

static void *serve(void *context)
{
	vd_user_server_run(((struct front *)context)->server);
	return NULL;
}

static void open_server(struct front *f)
{
	struct vd_host_config host = {.env = &f->test.env};
	struct vd_dma_config dma = {.env = &f->test.env};
	struct vd_user_server_config config = {.env = &f->test.env};
	struct vd_user_export_config export = {.path = f->path, .fd = -1};
	struct vd_user_export *added;
	static unsigned opened;

	snprintf(f->path, sizeof(f->path), "/tmp/viaduct-front.%d.%u", (int)getpid(), opened++);
	assert_int_equal(vd_host_create(&host, &f->server_host, NULL), 0);
	dma.host = config.host = f->server_host;
	assert_int_equal(vd_dma_space_create(&dma, &f->server_space, NULL), 0);
	assert_int_equal(f->kind->create(f, &f->test.env, f->server_host, f->server_space,
					 &f->real), 0);
	assert_int_equal(vd_user_server_create(&config, &f->server, NULL), 0);
	export.device = f->real;
	export.space = f->server_space;
	assert_int_equal(vd_user_server_add(f->server, &export, &added, NULL), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void close_server(struct front *f)
{
	vd_user_server_stop(f->server);
	pthread_join(f->thread, NULL);
	vd_user_server_destroy(f->server);
	vd_device_put(f->real);
	vd_dma_space_destroy(f->server_space);
	vd_host_destroy(f->server_host);
}

static void open_wire(struct front *f)
{
	open_server(f);
	wire_introduce(&f->wire, f->path);
}

static void close_wire(struct front *f)
{
	wire_close(&f->wire);
	close_server(f);
}

static int by_hand_read(struct front *f, unsigned region, uint64_t offset, void *data,
			uint32_t length)
{
	return wire_read(&f->wire, region, offset, data, length);
}

static int by_hand_write(struct front *f, unsigned region, uint64_t offset, const void *data,
			 uint32_t length)
{
	return wire_write(&f->wire, region, offset, data, length);
}

/* The reply stays in the wire, with its descriptors. */
static bool region_info(struct front *f, unsigned region, struct user_region_info *info)
{
	*info = (struct user_region_info){.argsz = 4096, .index = region};
	if (wire_call(&f->wire, USER_GET_REGION_INFO, info, sizeof(*info), NULL, 0, true))
		return false;
	assert_true(f->wire.length >= sizeof(*info));
	memcpy(info, f->wire.payload, sizeof(*info));
	return true;
}

static uint64_t by_hand_size(struct front *f, unsigned region)
{
	struct user_region_info info;
	bool there = region_info(f, region, &info);

	wire_drop_fds(&f->wire);
	return there ? info.size : 0;
}

static bool is_announced(struct front *f, const struct user_region_info *info, uint64_t offset,
			 uint64_t length)
{
	struct user_sparse sparse;
	struct user_area area;

	if (!info->cap_offset)
		return offset + length <= info->size;
	memcpy(&sparse, f->wire.payload + info->cap_offset, sizeof(sparse));
	assert_int_equal(sparse.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	for (unsigned i = 0; i < sparse.count; i++) {
		memcpy(&area, f->wire.payload + info->cap_offset + sizeof(sparse) +
		       i * sizeof(area), sizeof(area));
		if (offset >= area.offset && offset + length <= area.offset + area.size)
			return true;
	}
	return false;
}

static void *by_hand_map(struct front *f, unsigned region, uint64_t offset, uint64_t length)
{
	struct user_region_info info;
	void *at = NULL;

	if (!region_info(f, region, &info))
		return NULL;
	if (info.flags & VFIO_REGION_INFO_FLAG_MMAP && is_announced(f, &info, offset, length)) {
		assert_int_equal(f->wire.fd_count, 1);
		at = map_file(f->wire.fds[0], info.offset + offset, length);
	}
	wire_drop_fds(&f->wire);
	return at;
}

static int by_hand_set_irqs(struct front *f, uint32_t flags, unsigned index, unsigned start,
			    unsigned count, const int *fds)
{
	bool with = flags & VFIO_IRQ_SET_DATA_EVENTFD && fds && fds[0] >= 0;

	return wire_set_irqs(&f->wire, flags, index, start, count, fds, with ? count : 0);
}

static int by_hand_reset(struct front *f)
{
	return wire_call(&f->wire, USER_RESET, NULL, 0, NULL, 0, false);
}

static int by_hand_dma_map(struct front *f)
{
	return wire_map(&f->wire, FRONT_RAM, FRONT_RAM_SIZE, f->ram_fd, 0);
}

static int by_hand_dma_unmap(struct front *f)
{
	return wire_unmap(&f->wire, FRONT_RAM, FRONT_RAM_SIZE);
}

static int by_hand_feature(struct front *f, uint32_t flags, const void *in, size_t in_length,
			   void *out, size_t *out_length)
{
	unsigned char message[256];
	struct user_feature feature = {(uint32_t)(sizeof(feature) + *out_length + in_length),
				       flags};
	int r;

	assert_true(in_length <= sizeof(message) - sizeof(feature));
	memcpy(message, &feature, sizeof(feature));
	if (in_length)
		memcpy(message + sizeof(feature), in, in_length);
	r = wire_call(&f->wire, USER_FEATURE, message, sizeof(feature) + in_length, NULL, 0, false);
	if (r)
		return r;
	assert_in_range(f->wire.length, sizeof(feature),
			sizeof(feature) + *out_length + in_length);
	if (f->wire.length - sizeof(feature) < *out_length)
		*out_length = f->wire.length - sizeof(feature);
	memcpy(out, f->wire.payload + sizeof(feature), *out_length);
	return 0;
}

static int by_hand_state(struct front *f, uint32_t state)
{
	struct user_device_state data = {.state = state, .data_fd = UINT32_MAX}, got;
	size_t length = sizeof(got);

	return by_hand_feature(f, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
			       &data, sizeof(data), &got, &length);
}

static int by_hand_stop(struct front *f)
{
	return by_hand_state(f, VFIO_DEVICE_STATE_STOP);
}

static void by_hand_go(struct front *f)
{
	assert_int_equal(by_hand_state(f, VFIO_DEVICE_STATE_RUNNING), 0);
}

/* In small pieces. */
static int by_hand_save(struct front *f, unsigned char *bytes, size_t *length)
{
	struct user_migration_data ask = {.argsz = sizeof(ask) + 4096, .size = 4096}, got;
	size_t total = 0;
	int r = by_hand_state(f, VFIO_DEVICE_STATE_STOP_COPY);

	if (r)
		return r;
	do {
		assert_int_equal(wire_call(&f->wire, USER_MIGRATION_READ, &ask, sizeof(ask), NULL,
					   0, false), 0);
		memcpy(&got, f->wire.payload, sizeof(got));
		assert_int_equal(f->wire.length, sizeof(got) + got.size);
		assert_true(got.size <= *length - total);
		memcpy(bytes + total, f->wire.payload + sizeof(got), got.size);
		total += got.size;
	} while (got.size);
	*length = total;
	by_hand_go(f);
	return 0;
}

static int by_hand_load(struct front *f, const unsigned char *bytes, size_t length)
{
	unsigned char message[sizeof(struct user_migration_data) + 4096];
	int r = by_hand_state(f, VFIO_DEVICE_STATE_RESUMING);

	while (!r && length) {
		uint32_t n = length < 4096 ? (uint32_t)length : 4096;
		struct user_migration_data head = {.argsz = (uint32_t)sizeof(head) + n, .size = n};

		memcpy(message, &head, sizeof(head));
		memcpy(message + sizeof(head), bytes, n);
		r = wire_call(&f->wire, USER_MIGRATION_WRITE, message, sizeof(head) + n, NULL, 0,
			      false);
		bytes += n;
		length -= n;
	}
	if (!r)
		r = by_hand_state(f, VFIO_DEVICE_STATE_RUNNING);
	/* What is left of a device that was refused its state has to be reset. */
	if (r)
		assert_int_equal(by_hand_reset(f), 0);
	return r;
}

static const struct front_ops by_hand = {
	"vfio-user, by hand", open_wire, close_wire, by_hand_read, by_hand_write, by_hand_size,
	by_hand_map, by_hand_set_irqs, by_hand_reset, by_hand_dma_map, by_hand_dma_unmap,
	by_hand_feature, by_hand_stop, by_hand_go, by_hand_save, by_hand_load, false,
};

static void open_client(struct front *f)
{
	struct vd_user_client_config config = {.env = &f->test.env, .path = f->path};
	struct vd_error error = {.text = ""};

	open_server(f);
	open_guest(f);
	config.host = f->host;
	config.mem = f->mem;
	config.space = f->space;
	if (vd_user_client_create(&config, &f->device, &error))
		fail_msg("%s", error.text);
}

static void close_client(struct front *f)
{
	close_guest(f);
	close_server(f);
}

static const struct front_ops our_client = {
	"vfio-user, our client", open_client, close_client, device_read, device_write, device_size,
	device_map, device_set_irqs, device_reset, device_dma_map, device_dma_unmap, device_feature,
	device_stop, device_go, device_save, device_load, true,
};

const struct front_ops *const fronts[] = {&in_process, &by_hand, &our_client, NULL};

/* ---- for all -------------------------------------------------------------------------------- */

void front_open(struct front *f, const struct front_ops *ops, const struct front_device *kind)
{
	*f = (struct front){.ops = ops, .kind = kind, .descriptors = count_descriptors()};
	test_env_init(&f->test);
	assert_int_equal(vd_host_guard_install(NULL), 0);
	f->ram_fd = memfd_create("front", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(f->ram_fd >= 0 && !ftruncate(f->ram_fd, (off_t)FRONT_RAM_SIZE));
	assert_int_equal(fcntl(f->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	f->bytes = map_file(f->ram_fd, 0, FRONT_RAM_SIZE);
	ops->open(f);
}

void front_close(struct front *f)
{
	f->ops->close(f);
	munmap(f->bytes, FRONT_RAM_SIZE);
	close(f->ram_fd);
	if (*f->image)
		unlink(f->image);
	vd_host_guard_uninstall();
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(f->test.blocks, 0);
	assert_int_equal(count_descriptors(), f->descriptors);
}

uint64_t front_fired(struct front *f, int fd, bool must)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
	uint64_t count = 0;

	do {
		if (f->device) {
			fds[1].fd = vd_device_poll_fd(f->device);
			vd_device_poll(f->device);
		}
		if (read(fd, &count, sizeof(count)) == sizeof(count))
			return count;
	} while (must && poll(fds, 2, 10000) > 0);
	assert_false(must);
	return 0;
}

uint64_t front_get(struct front *f, uint64_t offset, uint32_t length)
{
	uint64_t value = 0;

	assert_int_equal(f->ops->read(f, VD_REGION_BAR0, offset, &value, length), 0);
	return value;
}

void front_put(struct front *f, uint64_t offset, uint32_t length, uint64_t value)
{
	assert_int_equal(f->ops->write(f, VD_REGION_BAR0, offset, &value, length), 0);
}
