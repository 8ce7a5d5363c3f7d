/* SPDX-License-Identifier: BSD-2-Clause */
/* A machine that goes on from a snapshot. What the file says is not to be trusted. */
#include <string.h>

#include "vm/snapshot.h"

#define RUN_PAGES 256u

static int bad(const struct vd_snapshot *s, struct vd_error *error, const char *what)
{
	return vd_error_set(error, -EINVAL, "snapshot %s: %s", s->path, what);
}

/* ---- memory --------------------------------------------------------------------------------- */

static bool is_stored(const struct vd_stream *index, uint64_t page)
{
	return index->data[page / 8] >> page % 8 & 1;
}

/* Pages of the buffer against their checksums, which follow one another in the index. */
static bool sums_match(struct vd_stream *sums, const uint8_t *buffer, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint8_t b[4];

		vd_stream_get(sums, b, sizeof(b));
		if (sums->failed || snapshot_checksum(buffer + i * SNAPSHOT_PAGE, SNAPSHOT_PAGE) !=
		    ((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
		     (uint32_t)b[3] << 24))
			return false;
	}
	return true;
}

static int load_run(struct vd_vm *vm, struct vd_snapshot *s, struct vd_stream *sums,
		    uint64_t page, uint64_t pages, uint8_t *buffer, struct vd_error *error)
{
	uint64_t at = page * SNAPSHOT_PAGE;

	if (snapshot_read_at(s->fd, buffer, pages * SNAPSHOT_PAGE, SNAPSHOT_PAGE + at))
		return bad(s, error, "it cannot be read");
	if (!sums_match(sums, buffer, pages))
		return bad(s, error, "a page of memory is damaged");
	return vd_mem_write(vm->mem, (vd_gpa){ram_address(at)}, buffer, pages * SNAPSHOT_PAGE)
		? bad(s, error, "there is no such memory") : 0;
}

static int load_memory(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	uint64_t pages = s->memory / SNAPSHOT_PAGE, low = RAM_LOW_MAX / SNAPSHOT_PAGE;
	struct vd_stream index = snapshot_part(s, SNAPSHOT_INDEX, 0), sums = index;
	uint8_t *buffer = vd_env_allocate(vm->env, "vm.restore", RUN_PAGES * SNAPSHOT_PAGE, 64);
	int rc = 0;

	if (!buffer)
		return vd_error_set(error, -ENOMEM, "out of memory for the snapshot %s", s->path);
	sums.position = (pages + 7) / 8;
	for (uint64_t page = 0, end; page < pages && !rc; page = end) {
		/* A run does not reach over the gap in the guest's addresses. */
		uint64_t limit = page < low && low < pages ? low : pages;

		for (end = page; end < limit && end - page < RUN_PAGES && is_stored(&index, end);)
			end++;
		if (end > page)
			rc = load_run(vm, s, &sums, page, end - page, buffer, error);
		else
			end++;
	}
	vm->env->release(vm->env, buffer, RUN_PAGES * SNAPSHOT_PAGE);
	return rc;
}

/* ---- harts, board and devices --------------------------------------------------------------- */

static int load_harts(struct vd_vm *vm, struct vd_snapshot *s, uint64_t time,
		      struct vd_error *error)
{
	struct vd_stream stream = snapshot_part(s, SNAPSHOT_HARTS, 0);
	uint64_t clock = vm->env->clock_ns(vm->env);

	for (unsigned i = 0; i < vm->hart_count; i++) {
		struct machine_hart *h = &vm->harts[i];
		struct vd_hart_state state;
		uint64_t *words = (uint64_t *)&state, what;

		for (size_t w = 0; w < VD_HART_STATE_WORDS; w++)
			words[w] = vd_stream_get_u64(&stream);
		what = vd_stream_get_u64(&stream);
		h->start_pc = vd_stream_get_u64(&stream);
		h->start_a1 = vd_stream_get_u64(&stream);
		if (stream.failed || what > HART_STARTED || h->start_pc & 1 ||
		    vd_hart_load(h->hart, &state))
			return bad(s, error, "the state of a hart is bad");
		h->state = (enum hart_state)what;
		vd_hart_set_time(h->hart, time, clock);
	}
	return stream.position == stream.length ? 0 : bad(s, error, "it has too many harts");
}

static int load_board(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	struct vd_stream stream = snapshot_part(s, SNAPSHOT_BOARD, 0);
	uint64_t time = vd_stream_get_u64(&stream);

	if (!vd_uart_load(vm->uart, &stream) || stream.failed ||
	    stream.position != stream.length)
		return bad(s, error, "the state of the serial port is bad");
	return load_harts(vm, s, time, error);
}

static int load_devices(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	struct vd_stream stream;
	int rc = 0;

	for (unsigned i = 0; i < vm->device_count && !rc; i++) {
		stream = snapshot_part(s, SNAPSHOT_DEVICE, i);
		rc = vd_device_load(vm->devices[i], &stream, error);
		if (!rc && stream.position != stream.length)
			rc = bad(s, error, "the state of a device is too long");
	}
	stream = snapshot_part(s, SNAPSHOT_PCI, 0);
	return rc ? rc : vd_pci_host_load(vm->pci, &stream, error);
}

static int load_quiesced(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	unsigned quiesced = 0;
	int rc = 0;

	for (; quiesced < vm->device_count && !rc; quiesced += !rc)
		rc = vd_device_quiesce(vm->devices[quiesced]);
	if (rc)
		vd_error_set(error, rc, "device %s does not stop",
			     vd_device_name(vm->devices[quiesced]));
	else
		rc = load_devices(vm, s, error);
	/* From here on devices write to memory and interrupt harts: both are in place. */
	while (quiesced)
		vd_device_resume(vm->devices[--quiesced]);
	return rc;
}

static int check_shape(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	const struct vd_snapshot_info *info = &s->info;

	if (info->memory != vm->config.memory || info->cpus != vm->hart_count ||
	    info->svadu != vm->config.svadu || info->devices != vm->device_count)
		return vd_error_set(error, -EINVAL, "snapshot %s is of a machine with %llu MiB, "
				    "%u cpus and %u devices%s: this one is another", s->path,
				    (unsigned long long)(info->memory / MIB), info->cpus,
				    info->devices, info->svadu ? " (svadu)" : "");
	return 0;
}

int vd_vm_restore(struct vd_vm *vm, struct vd_snapshot *s, struct vd_error *error)
{
	int rc = check_shape(vm, s, error);

	if (!rc)
		rc = load_memory(vm, s, error);
	if (!rc)
		rc = load_board(vm, s, error);
	if (!rc)
		rc = load_quiesced(vm, s, error);
	vm->restored = !rc;
	return rc;
}
