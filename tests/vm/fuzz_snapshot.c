/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sections of a snapshot may be anything. The input is a list of them, each with four bytes in
 * front: type, number, and length (low byte first); it becomes a file with good checksums, so that
 * what is behind those is reached, and the file is put into a machine.
 *
 * test_snapshot_file.c runs a fixed set and tests/fuzz/snapshot.ar; `tools/fuzz snapshot` searches.
 */
#include "fuzz_snapshot.h"

#include "snapshot_rig.h"
#include "vm/snapshot.h"

static unsigned parse(const uint8_t *data, size_t size, struct snapshot_part *parts)
{
	unsigned count = 0;

	while (size >= 4 && count < SNAPSHOT_SECTIONS_MAX) {
		size_t length = data[2] | (size_t)data[3] << 8;

		if (length > size - 4)
			length = size - 4;
		parts[count++] = (struct snapshot_part){
			.type = (enum snapshot_section)data[0],
			.number = data[1],
			.stream = {.data = (uint8_t *)(uintptr_t)data + 4, .length = length},
		};
		data += 4 + length;
		size -= 4 + length;
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot_part parts[SNAPSHOT_SECTIONS_MAX];
	unsigned count = parse(data, size, parts);
	struct vd_error error = {.text = ""};
	struct snapshot_writer writer;
	struct machine m;
	char path[64];
	uint64_t bytes;

	/* Where a file need not reach a disk. */
	snprintf(path, sizeof(path), "%s/viaduct-fuzz-%d",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (int)getpid());
	if (snapshot_writer_open(&writer, vd_env_hosted(), path, RIG_MEMORY, &error) ||
	    snapshot_writer_finish(&writer, parts, count, RIG_MEMORY, &bytes, &error))
		abort();
	if (!machine_restore(&m, path, NULL, &error))
		vd_vm_destroy(m.vm);
	else if (!*error.text)
		abort();
	unlink(path);
	return 0;
}
