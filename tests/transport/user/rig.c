/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rig.h"

/* ---- the probe ------------------------------------------------------------------------------ */

static void probe_unpin(struct probe *probe)
{
	bool unpin;

	/* Not with the lock held: to write back may take as long as the client. */
	pthread_mutex_lock(&probe->pin_lock);
	unpin = probe->pinned;
	probe->pinned = false;
	probe->unpinning |= unpin;
	pthread_mutex_unlock(&probe->pin_lock);
	if (!unpin)
		return;
	(void)vd_dma_unpin(&probe->pin);
	pthread_mutex_lock(&probe->pin_lock);
	probe->unpinning = false;
	pthread_mutex_unlock(&probe->pin_lock);
}

static void probe_unpin_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct probe *probe = (struct probe *)((char *)owner - offsetof(struct probe, owner));

	(void)start;
	(void)length;
	atomic_fetch_add(&probe->unpin_requests, 1);
	if (!atomic_load(&probe->stubborn))
		probe_unpin(probe);
}

static int probe_dma(struct probe *probe, bool write)
{
	vd_iova iova = {probe->registers[PROBE_ADDRESS]};
	uint64_t length = probe->registers[PROBE_LENGTH], sum = 0;
	int r;

	if (length > sizeof(probe->buffer))
		return -EINVAL;
	r = write ? vd_dma_write(probe->space, iova, probe->buffer, length)
		  : vd_dma_read(probe->space, iova, probe->buffer, length);
	for (uint64_t i = 0; i < length && !r; i++)
		sum += probe->buffer[i];
	probe->registers[PROBE_SUM] = sum;
	return r;
}

static int probe_pin(struct probe *probe)
{
	struct vd_dma_segment segments[16];
	unsigned count = 16;
	bool busy;
	int r;

	probe_unpin(probe);
	pthread_mutex_lock(&probe->pin_lock);
	busy = probe->unpinning || probe->pinning;
	probe->pinning |= !busy;
	pthread_mutex_unlock(&probe->pin_lock);
	if (busy)
		return -EBUSY;
	probe->range = (struct vd_dma_range){{probe->registers[PROBE_ADDRESS]},
					     probe->registers[PROBE_LENGTH]};
	r = vd_dma_pin(probe->space, &probe->range, 1, VD_READ | VD_WRITE, &probe->owner,
		       &probe->pin, segments, &count);
	pthread_mutex_lock(&probe->pin_lock);
	probe->pinning = false;
	probe->pinned = !r;
	if (!r)
		memset(segments[0].base, 0x77, segments[0].length);
	pthread_mutex_unlock(&probe->pin_lock);
	return r;
}

static int probe_do(struct probe *probe, uint64_t command)
{
	static const uint64_t one = 1;

	switch (command) {
	case PROBE_READ:
	case PROBE_WRITE:
		return probe_dma(probe, command == PROBE_WRITE);
	case PROBE_PIN:
		return probe_pin(probe);
	case PROBE_UNPIN:
		probe_unpin(probe);
		return 0;
	case PROBE_RAISE:
		vd_device_raise(probe->device, VD_IRQ_MSIX,
				(unsigned)probe->registers[PROBE_LENGTH]);
		return 0;
	case PROBE_ASSERT:
		vd_device_raise(probe->device, VD_IRQ_INTX, 0);
		return 0;
	case PROBE_LOWER:
		vd_device_lower(probe->device);
		return 0;
	case PROBE_WORK:
		vd_device_request_work(probe->device);
		return 0;
	case PROBE_RESET:
		vd_device_request_reset(probe->device, VD_RESET_FUNCTION);
		return 0;
	case PROBE_BUSY:
		vd_device_set_busy(probe->device, true, probe->event);
		return write(probe->event, &one, sizeof(one)) < 0 ? -errno : 0;
	}
	return -EINVAL;
}

static int probe_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct probe *probe = context;

	if (region != VD_REGION_BAR0 || offset + length > sizeof(probe->registers)) {
		memset(data, (int)(offset & 0xff), length);
		return 0;
	}
	if (probe->inside)
		probe->registers[PROBE_INSIDE]++;
	memcpy(data, (char *)probe->registers + offset, length);
	return 0;
}

static int probe_write(void *context, unsigned region, uint64_t offset, const void *data,
		       size_t length)
{
	struct probe *probe = context;
	bool inside = probe->inside;
	int r;

	if (region != VD_REGION_BAR0 || offset + length > sizeof(probe->registers))
		return 0;
	if (inside)
		probe->registers[PROBE_INSIDE]++;
	memcpy((char *)probe->registers + offset, data, length);
	if (offset / 8 != PROBE_COMMAND)
		return 0;
	probe->inside = true;
	r = probe_do(probe, probe->registers[PROBE_COMMAND]);
	probe->registers[PROBE_RESULT] = (uint64_t)(int64_t)r;
	probe->inside = inside;
	return 0;
}

static void probe_work(void *context)
{
	struct probe *probe = context;
	int r;

	vd_device_lock(probe->device);
	probe->inside = true;
	vd_device_unlock(probe->device);
	r = probe_dma(probe, false);
	vd_device_lock(probe->device);
	probe->registers[PROBE_RESULT] = (uint64_t)(int64_t)r;
	probe->inside = false;
	vd_device_unlock(probe->device);
}

static void probe_poll(void *context)
{
	struct probe *probe = context;
	uint64_t count;

	if (read(probe->event, &count, sizeof(count)) < 0)
		return;
	atomic_fetch_add(&probe->polls, 1);
	vd_device_set_busy(probe->device, false, -1);
	probe->registers[PROBE_RESULT] = (uint64_t)(int64_t)probe_dma(probe, true);
	vd_device_raise(probe->device, VD_IRQ_MSIX, 0);
}

static void probe_reset(void *context, enum vd_reset_kind kind)
{
	struct probe *probe = context;

	(void)kind;
	probe_unpin(probe);
	memset(probe->registers, 0, sizeof(probe->registers));
	atomic_fetch_add(&probe->resets, 1);
}

static int probe_quiesce(void *context)
{
	probe_unpin(context);
	return 0;
}

static int probe_save(void *context, struct vd_stream *stream)
{
	struct probe *probe = context;

	vd_stream_put(stream, probe->registers, sizeof(probe->registers));
	return 0;
}

static int probe_load(void *context, struct vd_stream *stream)
{
	struct probe *probe = context;
	uint64_t registers[PROBE_REGISTERS];

	vd_stream_get(stream, registers, sizeof(registers));
	if (stream->failed)
		return -EINVAL;
	memcpy(probe->registers, registers, sizeof(registers));
	return 0;
}

static void probe_release(void *context)
{
	struct probe *probe = context;

	probe_unpin(probe);
	close(probe->event);
	pthread_mutex_destroy(&probe->pin_lock);
	atomic_fetch_add(probe->released, 1);
	free(probe);
}

static const struct vd_device_ops probe_ops = {
	.read = probe_read,
	.write = probe_write,
	.reset = probe_reset,
	.quiesce = probe_quiesce,
	.save = probe_save,
	.load = probe_load,
	.poll = probe_poll,
	.work = probe_work,
	.release = probe_release,
};

#define READ_WRITE (VD_REGION_READ | VD_REGION_WRITE)

static const struct vd_region probe_regions[VD_REGION_COUNT] = {
	[VD_REGION_BAR0] = {.name = "registers", .size = PAGE, .flags = READ_WRITE},
	[VD_REGION_BAR1] = {.name = "mixed", .size = 4 * PAGE,
			    .flags = READ_WRITE | VD_REGION_MMAP, .area_count = 2,
			    .areas = {{2 * PAGE, PAGE}, {0, PAGE}}},
	[VD_REGION_BAR2] = {.name = "memory", .size = 2 * PAGE,
			    .flags = READ_WRITE | VD_REGION_MMAP | VD_REGION_PREFETCH},
	[VD_REGION_BAR3] = {.name = "large", .size = 4u << 20, .flags = READ_WRITE},
	[VD_REGION_ROM] = {.name = "rom", .size = 16, .flags = VD_REGION_READ},
	[VD_REGION_CONFIG] = {.name = "configuration", .size = 256, .flags = READ_WRITE},
};

static const unsigned probe_irqs[VD_IRQ_COUNT] = {1, 4, 64, 1, 1};

int probe_create(const struct vd_env *env, struct vd_host *host, struct vd_dma_space *space,
		 bool yields, _Atomic unsigned *released, struct probe **out)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	struct vd_device_config config = {
		.env = env, .host = host, .space = space, .name = "probe", .ops = &probe_ops,
		.context = probe, .regions = probe_regions, .irqs = probe_irqs, .yields = yields,
	};
	int r;

	assert_non_null(probe);
	memset(probe->buffer, 1, sizeof(probe->buffer));
	probe->space = space;
	probe->released = released;
	probe->owner.unpin_request = probe_unpin_request;
	pthread_mutex_init(&probe->pin_lock, NULL);
	probe->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(probe->event >= 0);
	r = vd_device_create(&config, &probe->device, NULL);
	if (r) {
		close(probe->event);
		free(probe);
		return r;
	}
	*out = probe;
	return 0;
}

/* ---- the server ----------------------------------------------------------------------------- */

void rig_open(struct rig *rig, unsigned limit_ms)
{
	struct vd_host_config host = {.env = &rig->test.env};
	struct vd_user_server_config config = {.env = &rig->test.env, .reply_limit_ms = limit_ms};
	struct vd_error error = {.text = ""};

	*rig = (struct rig){.yields = true};
	rig->descriptors = count_descriptors();
	test_env_init(&rig->test);
	assert_int_equal(vd_host_guard_install(NULL), 0);
	if (vd_host_create(&host, &rig->host, &error))
		fail_msg("%s", error.text);
	config.host = rig->host;
	if (vd_user_server_create(&config, &rig->server, &error))
		fail_msg("%s", error.text);
	snprintf(rig->directory, sizeof(rig->directory), "/tmp/viaduct-test.XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/socket", rig->directory);
}

void rig_keep(struct rig *rig)
{
	struct vd_dma_config dma = {.env = &rig->test.env, .host = rig->host,
				    .pin_limit_ms = rig->pin_limit_ms};
	struct vd_user_export_config config = {.path = rig->path, .fd = -1, .write_multiple = true};
	struct vd_error error = {.text = ""};

	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	assert_int_equal(probe_create(&rig->test.env, rig->host, rig->space, rig->yields,
				      &rig->released, &rig->probe), 0);
	config.device = rig->probe->device;
	config.space = rig->space;
	if (vd_user_server_add(rig->server, &config, &rig->export, &error))
		fail_msg("%s", error.text);
}

static int make_probe(void *context, struct vd_dma_space *space, struct vd_device **device,
		      struct vd_error *error)
{
	struct rig *rig = context;
	struct probe *probe;
	int r = probe_create(&rig->test.env, rig->host, space, rig->yields, &rig->released, &probe);

	if (r)
		return vd_error_set(error, r, "no probe");
	*device = probe->device;
	return 0;
}

void rig_make(struct rig *rig)
{
	struct vd_user_export_config config = {.path = rig->path, .fd = -1, .write_multiple = true,
					       .create = make_probe, .context = rig};
	struct vd_error error = {.text = ""};

	if (vd_user_server_add(rig->server, &config, &rig->export, &error))
		fail_msg("%s", error.text);
}

static void *run_server(void *context)
{
	struct rig *rig = context;

	assert_int_equal(vd_user_server_run(rig->server), 0);
	return NULL;
}

void rig_run(struct rig *rig, unsigned threads)
{
	assert_true(threads <= RIG_THREADS_MAX);
	for (; rig->thread_count < threads; rig->thread_count++)
		assert_int_equal(pthread_create(&rig->threads[rig->thread_count], NULL, run_server,
						rig), 0);
}

void rig_serve(struct rig *rig)
{
	rig_open(rig, 0);
	rig_keep(rig);
	rig_run(rig, 1);
}

void rig_stop(struct rig *rig)
{
	vd_user_server_stop(rig->server);
	while (rig->thread_count)
		pthread_join(rig->threads[--rig->thread_count], NULL);
}

void rig_close(struct rig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	rig_stop(rig);
	if (rig->export)
		vd_user_server_remove(rig->export);
	vd_user_server_destroy(rig->server);
	if (rig->probe)
		vd_device_put(rig->probe->device);
	vd_dma_space_destroy(rig->space);
	vd_host_destroy(rig->host);
	vd_host_guard_uninstall();
	assert_int_equal(access(rig->path, F_OK), -1);
	assert_int_equal(rmdir(rig->directory), 0);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(rig->test.blocks, 0);
	assert_int_equal(count_descriptors(), rig->descriptors);
}

struct vd_user_server_stats rig_stats(const struct rig *rig)
{
	struct vd_user_server_stats stats;

	vd_user_server_stats(rig->server, &stats);
	return stats;
}

/* ---- what clients do ------------------------------------------------------------------------ */

void probe_set(struct wire *w, unsigned reg, uint64_t value)
{
	assert_int_equal(wire_write(w, VD_REGION_BAR0, 8 * reg, &value, 8), 0);
}

uint64_t probe_get(struct wire *w, unsigned reg)
{
	uint64_t value = 0;

	assert_int_equal(wire_read(w, VD_REGION_BAR0, 8 * reg, &value, 8), 0);
	return value;
}

int probe_command(struct wire *w, unsigned command, uint64_t address, uint64_t length)
{
	probe_set(w, PROBE_ADDRESS, address);
	probe_set(w, PROBE_LENGTH, length);
	probe_set(w, PROBE_COMMAND, command);
	return (int)(int64_t)probe_get(w, PROBE_RESULT);
}

int rig_memory(uint64_t size, bool sealed, unsigned char fill)
{
	int fd = memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	unsigned char page[PAGE];

	assert_true(fd >= 0);
	memset(page, fill, sizeof(page));
	for (uint64_t at = 0; at < size; at += PAGE)
		assert_int_equal(pwrite(fd, page, PAGE, (off_t)at), PAGE);
	if (sealed)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	return fd;
}
