/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Linux Documentation/arch/riscv/boot-image-header.rst */
struct image_header {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags;
	uint32_t version, reserved1;
	uint64_t reserved2;
	char magic[8], magic2[4];
	uint32_t reserved3;
};

_Static_assert(sizeof(struct image_header) == 64, "as in the kernel's document");

#define CODE_MAX 1024u

void rig_file_create(struct rig_file *file, const void *bytes, size_t length)
{
	int fd;

	snprintf(file->path, sizeof(file->path), "/tmp/viaduct-test-XXXXXX");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

void rig_file_remove(struct rig_file *file)
{
	unlink(file->path);
}

void rig_kernel_create(struct rig_file *file, const uint32_t *code, size_t count)
{
	struct {
		struct image_header header;
		uint32_t code[CODE_MAX];
	} image = {
		.header = {
			/* x8 = RIG_DATA: this code's page and 30 MiB. */
			.code = {insn_u(INSN_AUIPC, 8, 30 * RIG_MIB), JAL(0, 60)},
			.text_offset = 2 * RIG_MIB,
			.version = 2,
			.magic = "RISCV",
			.magic2 = {'R', 'S', 'C', 5},
		},
	};

	assert_true(count <= CODE_MAX);
	memcpy(image.code, code, 4 * count);
	image.header.image_size = sizeof(image.header) + 4 * count;
	rig_file_create(file, &image, sizeof(image.header) + 4 * count);
}

void rig_config(struct vd_vm_config *config, const struct rig_file *kernel)
{
	*config = (struct vd_vm_config){.env = vd_env_hosted(), .kernel = kernel->path,
					.memory = RIG_MEMORY, .cpus = 1, .direct_mmio = true};
}

struct vd_vm *rig_create(const struct rig_file *kernel, unsigned int cpus)
{
	struct vd_vm_config config;
	struct vd_error error = {0};
	struct vd_vm *vm;

	rig_config(&config, kernel);
	config.cpus = cpus;
	if (vd_vm_create(&config, &vm, &error))
		fail_msg("%s", error.text);
	return vm;
}

uint64_t rig_read64(struct vd_vm *vm, uint64_t gpa)
{
	uint64_t value;

	assert_int_equal(vd_mem_read(vd_vm_mem(vm), (vd_gpa){gpa}, &value, sizeof(value)), 0);
	return value;
}

void rig_write64(struct vd_vm *vm, uint64_t gpa, uint64_t value)
{
	assert_int_equal(vd_mem_write(vd_vm_mem(vm), (vd_gpa){gpa}, &value, sizeof(value)), 0);
}
