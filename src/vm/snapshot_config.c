/* SPDX-License-Identifier: BSD-2-Clause */
/* What a snapshot says of the machine it was taken of, and whether it can be believed. */
#include "vm/snapshot.h"

#define FLAG_SVADU 1u

void snapshot_put_config(struct vd_vm *vm, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, vm->config.memory);
	vd_stream_put_u64(stream, vm->hart_count);
	vd_stream_put_u64(stream, VD_BOARD_TIMEBASE);
	vd_stream_put_u64(stream, vm->config.svadu ? FLAG_SVADU : 0);
	vd_stream_put_u64(stream, vm->device_count);
}

static int bad(const struct vd_snapshot *s, struct vd_error *error, const char *what)
{
	return vd_error_set(error, -EINVAL, "snapshot %s: %s", s->path, what);
}

/* Every section that a machine has, and no other. */
static bool sections_complete(const struct vd_snapshot *s, uint64_t devices)
{
	static const enum snapshot_section once[] = {SNAPSHOT_CONFIG, SNAPSHOT_PROGRAM,
						     SNAPSHOT_HARTS, SNAPSHOT_BOARD, SNAPSHOT_PCI,
						     SNAPSHOT_INDEX};
	const unsigned fixed = sizeof(once) / sizeof(once[0]);

	for (unsigned i = 0; i < fixed; i++)
		if (!snapshot_part(s, once[i], 0).data)
			return false;
	for (unsigned i = 0; i < devices; i++)
		if (!snapshot_part(s, SNAPSHOT_DEVICE, i).data)
			return false;
	return s->count == fixed + devices;
}

/* As long as its own bitmap says. */
static bool index_plausible(struct vd_stream index, uint64_t pages)
{
	uint64_t bitmap = (pages + 7) / 8, stored = 0;

	if (index.length < bitmap)
		return false;
	for (uint64_t i = 0; i < bitmap; i++)
		stored += (unsigned)__builtin_popcount(index.data[i]);
	return !(pages % 8 && index.data[bitmap - 1] >> pages % 8) &&
	       index.length == bitmap + 4 * stored;
}

int snapshot_check_config(struct vd_snapshot *s, struct vd_error *error)
{
	struct vd_stream config = snapshot_part(s, SNAPSHOT_CONFIG, 0);
	struct vd_stream program = snapshot_part(s, SNAPSHOT_PROGRAM, 0);
	uint64_t memory, cpus, timebase, flags, devices;

	if (!config.data)
		return bad(s, error, "it does not say of what machine it is");
	memory = vd_stream_get_u64(&config);
	cpus = vd_stream_get_u64(&config);
	timebase = vd_stream_get_u64(&config);
	flags = vd_stream_get_u64(&config);
	devices = vd_stream_get_u64(&config);
	if (config.failed || config.position != config.length || cpus < 1 ||
	    cpus > VD_BOARD_HARTS_MAX || timebase != VD_BOARD_TIMEBASE || flags & ~FLAG_SVADU ||
	    devices > DEVICES_MAX || memory != s->memory || memory < VD_VM_MEMORY_MIN ||
	    memory > VD_VM_MEMORY_MAX || memory % (2 * MIB))
		return bad(s, error, "no machine of this program is like the one that it is of");
	if (!sections_complete(s, devices))
		return bad(s, error, "a part of the machine is missing, or more than once there");
	if (!index_plausible(snapshot_part(s, SNAPSHOT_INDEX, 0), memory / SNAPSHOT_PAGE))
		return bad(s, error, "its index of pages contradicts itself");
	s->info = (struct vd_snapshot_info){
		.memory = memory, .cpus = (unsigned)cpus, .svadu = flags & FLAG_SVADU,
		.devices = (unsigned)devices, .program = program.data,
		.program_length = program.length,
	};
	return 0;
}
