/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A live snapshot: the moment, for which harts and devices stand still, and the copying of memory
 * afterwards, while the guest goes on.
 */
#include <stdio.h>
#include <string.h>

#include "vm/snapshot.h"

struct taking {
	struct vd_vm *vm;
	const struct vd_vm_snapshot_ops *ops;
	void *context;
	struct vd_vm_snapshot_result *result;
	struct snapshot_writer writer;
	struct snapshot_pages *pages;
	unsigned quiesced; /* devices */
	uint64_t held_since;
	struct vd_stream rooms[DEVICES_MAX]; /* for the devices' states, made beforehand */
	unsigned count;
	struct snapshot_part parts[SNAPSHOT_SECTIONS_MAX];
};

static uint64_t now(const struct taking *t)
{
	return t->vm->env->clock_ns(t->vm->env);
}

static struct vd_stream *add_part(struct taking *t, enum snapshot_section type, unsigned number)
{
	struct snapshot_part *part = &t->parts[t->count++];

	*part = (struct snapshot_part){.type = type, .number = number,
				       .stream = {.env = t->vm->env}};
	return &part->stream;
}

/*
 * Memory for what a device with mappable memory saves, touched before the guest has to wait for it.
 * Where there is none, the stream grows by itself.
 */
static void make_room(struct taking *t)
{
	const struct vd_env *env = t->vm->env;

	for (unsigned i = 0; i < t->vm->device_count; i++) {
		size_t bytes = 1 << 16;

		for (unsigned r = 0; r < VD_REGION_COUNT; r++) {
			const struct vd_region *region = vd_device_region(t->vm->devices[i], r);

			for (unsigned a = 0; a < region->area_count; a++)
				bytes += region->areas[a].size;
		}
		t->rooms[i] = (struct vd_stream){.env = env};
		t->rooms[i].data = vd_env_allocate(env, "snapshot.room", bytes, 64);
		if (!t->rooms[i].data)
			continue;
		t->rooms[i].room = bytes;
		memset(t->rooms[i].data, 0xff, bytes);
	}
}

/* ---- the moment ----------------------------------------------------------------------------- */

static int quiesce(struct taking *t, struct vd_error *error)
{
	struct vd_dma_stats stats;

	for (; t->quiesced < t->vm->device_count; t->quiesced++) {
		struct vd_device *device = t->vm->devices[t->quiesced];
		int rc = vd_device_quiesce(device);

		if (rc)
			return vd_error_set(error, rc, "device %s cannot be stopped for a "
					    "snapshot: %s", vd_device_name(device), strerror(-rc));
	}
	vd_dma_stats(t->vm->dma, &stats);
	if (stats.pinned_bytes)
		return vd_error_set(error, -EBUSY, "a device still writes to guest memory");
	return 0;
}

static void resume_devices(struct taking *t)
{
	while (t->quiesced)
		vd_device_resume(t->vm->devices[--t->quiesced]);
}

static void save_harts(struct taking *t)
{
	struct vd_stream *stream = add_part(t, SNAPSHOT_HARTS, 0);

	for (unsigned i = 0; i < t->vm->hart_count; i++) {
		const struct machine_hart *h = &t->vm->harts[i];
		struct vd_hart_state state;
		const uint64_t *words = (const uint64_t *)&state;

		vd_hart_save(h->hart, &state);
		for (size_t w = 0; w < VD_HART_STATE_WORDS; w++)
			vd_stream_put_u64(stream, words[w]);
		vd_stream_put_u64(stream, h->state);
		vd_stream_put_u64(stream, h->start_pc);
		vd_stream_put_u64(stream, h->start_a1);
	}
}

static int save_devices(struct taking *t, struct vd_error *error)
{
	for (unsigned i = 0; i < t->vm->device_count; i++) {
		struct vd_device *device = t->vm->devices[i];
		struct vd_stream *stream = add_part(t, SNAPSHOT_DEVICE, i);
		int rc;

		*stream = t->rooms[i];
		t->rooms[i] = (struct vd_stream){.env = t->vm->env};
		rc = vd_device_save(device, stream);

		if (rc)
			return vd_error_set(error, rc, "device %s cannot be saved: %s",
					    vd_device_name(device), strerror(-rc));
	}
	return 0;
}

static int save_state(struct taking *t, struct vd_error *error)
{
	struct vd_stream *stream;
	int rc;

	snapshot_put_config(t->vm, add_part(t, SNAPSHOT_CONFIG, 0));
	save_harts(t);
	stream = add_part(t, SNAPSHOT_BOARD, 0);
	vd_stream_put_u64(stream, vd_hart_time(t->vm->harts[0].hart));
	vd_uart_save(t->vm->uart, stream);
	rc = vd_pci_host_save(t->vm->pci, add_part(t, SNAPSHOT_PCI, 0));
	if (rc)
		return vd_error_set(error, rc, "out of memory for a snapshot");
	rc = save_devices(t, error);
	stream = add_part(t, SNAPSHOT_PROGRAM, 0);
	if (!rc && t->ops && t->ops->moment)
		rc = t->ops->moment(t->context, stream, error);
	return rc;
}

/*
 * Devices are stopped after the harts, which give them work, and what they still raise goes into
 * the harts' state. They start before the harts, unless a disk image has to be copied first: then
 * the guest's I/O waits for that, and nothing else of it.
 */
static int moment(struct taking *t, struct vd_error *error)
{
	bool images = t->ops && t->ops->images;
	uint64_t start = now(t);
	int rc = vd_vm_hold(t->vm);

	if (rc)
		rc = vd_error_set(error, rc, "the guest has ended");
	if (!rc)
		rc = quiesce(t, error);
	t->held_since = now(t);
	if (!rc)
		rc = save_state(t, error);
	if (!rc)
		snapshot_pages_arm(t->pages);
	if (rc || !images)
		resume_devices(t);
	vd_vm_let_go(t->vm);
	t->result->pause_ns = now(t) - start;
	if (!rc && images)
		rc = t->ops->images(t->context, error);
	resume_devices(t);
	t->result->held_ns = now(t) - t->held_since;
	return rc;
}

/* ---- from beginning to end ------------------------------------------------------------------ */

static int no_progress(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	return 0;
}

static int copy(struct taking *t, struct vd_error *error)
{
	int rc = snapshot_pages_copy(t->pages,
				     t->ops && t->ops->progress ? t->ops->progress : no_progress,
				     t->context);
	int other = snapshot_pages_disarm(t->pages);

	/* Copying made single pages of what the guest stored to. */
	vd_mmu_merge(vd_vm_mmu(t->vm), (vd_gpa){0}, UINT64_MAX);
	if (!rc)
		rc = other;
	if (rc == -ECANCELED)
		return vd_error_set(error, rc, "the snapshot was given up");
	if (rc == -EFAULT)
		return vd_error_set(error, rc, "some of the guest's memory was unmapped by other "
				    "code: a snapshot cannot hold it");
	if (rc == -ETIMEDOUT)
		return vd_error_set(error, rc, "other code changes the guest's memory and cannot "
				    "wait until a snapshot has saved it; the guest goes on");
	if (rc)
		return vd_error_set(error, rc,
				    "cannot write the snapshot %s: %s; the guest goes on",
				    t->writer.path, strerror(-rc));
	snapshot_pages_index(t->pages, add_part(t, SNAPSHOT_INDEX, 0));
	t->result->memory_bytes = snapshot_pages_stored(t->pages);
	return 0;
}

static int take(struct taking *t, const char *path, struct vd_error *error)
{
	uint64_t memory = t->vm->config.memory;
	int rc = snapshot_writer_open(&t->writer, t->vm->env, path, memory, error);

	if (rc)
		return rc;
	rc = snapshot_pages_create(t->vm, t->writer.fd, &t->pages, error);
	if (!rc) {
		make_room(t);
		rc = moment(t, error);
	}
	for (unsigned i = 0; i < t->vm->device_count; i++)
		vd_stream_fini(&t->rooms[i]);
	if (!rc)
		rc = copy(t, error);
	snapshot_pages_destroy(t->pages);
	if (!rc)
		rc = snapshot_writer_finish(&t->writer, t->parts, t->count, memory,
					    &t->result->file_bytes, error);
	snapshot_writer_close(&t->writer);
	for (unsigned i = 0; i < t->count; i++)
		vd_stream_fini(&t->parts[i].stream);
	return rc;
}

int vd_vm_snapshot(struct vd_vm *vm, const char *path, const struct vd_vm_snapshot_ops *ops,
		   void *context, struct vd_vm_snapshot_result *result, struct vd_error *error)
{
	struct taking *t;
	int rc;

	*result = (struct vd_vm_snapshot_result){.pause_ns = 0};
	if (atomic_exchange(&vm->snapshotting, true))
		return vd_error_set(error, -EBUSY, "another snapshot of this machine is being "
				    "written");
	t = vd_env_allocate(vm->env, "vm.snapshot", sizeof(*t), 16);
	if (t) {
		t->vm = vm;
		t->ops = ops;
		t->context = context;
		t->result = result;
		rc = take(t, path, error);
		vm->env->release(vm->env, t, sizeof(*t));
	} else {
		rc = vd_error_set(error, -ENOMEM, "out of memory for a snapshot");
	}
	atomic_store(&vm->snapshotting, false);
	return rc;
}
