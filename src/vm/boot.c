/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel, initrd and device tree into guest RAM (Linux
 * Documentation/arch/riscv/boot-image-header.rst, boot.rst).
 */
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/machine.h"

#define DEVICE_TREE_ROOM (64u << 10)
#define CHUNK (1u << 20)

struct image_header {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags;
	uint32_t version, reserved1;
	uint64_t reserved2;
	char magic[8]; /* "RISCV\0\0\0" */
	char magic2[4]; /* "RSC\5" */
	uint32_t reserved3;
};

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* The RAM that lies in one piece from its start on: all that is loaded goes there. */
static uint64_t low_memory(const struct vd_vm *vm)
{
	return vm->config.memory < RAM_LOW_MAX ? vm->config.memory : RAM_LOW_MAX;
}

static int open_file(const char *path, const char *what, uint64_t *size, struct vd_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return vd_error_set(error, -errno, "cannot open %s %s: %s", what, path,
				    strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return vd_error_set(error, -EINVAL, "%s %s is not a regular file", what, path);
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

/*
 * Through a buffer: the guest's RAM is written by the same checked path that everything else uses.
 */
static int load_file(struct vd_vm *vm, int fd, uint64_t offset, uint64_t size)
{
	char *buffer = vd_env_allocate(vm->env, "vm.load", CHUNK, 64);
	int rc = buffer ? 0 : -ENOMEM;

	for (uint64_t done = 0; !rc && done < size;) {
		uint64_t length = size - done < CHUNK ? size - done : CHUNK;
		ssize_t n = pread(fd, buffer, length, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = n ? -errno : -EIO; /* it shrank meanwhile */
		else
			rc = vd_mem_write(vm->mem, (vd_gpa){ram_address(offset + done)}, buffer,
					  (size_t)n);
		done += n > 0 ? (uint64_t)n : 0;
	}
	vm->env->release(vm->env, buffer, CHUNK);
	return rc;
}

static int load_kernel(struct vd_vm *vm, uint64_t *end, struct vd_error *error)
{
	const char *path = vm->config.kernel;
	struct image_header header;
	uint64_t size, span, room = low_memory(vm);
	int fd = open_file(path, "kernel", &size, error), rc;

	if (fd < 0)
		return fd;
	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    memcmp(header.magic2, "RSC\5", 4)) {
		close(fd);
		return vd_error_set(error, -ENOEXEC, "%s is not a RISC-V Linux Image "
				    "(decompress it, or give arch/riscv/boot/Image)", path);
	}
	span = header.image_size > size ? header.image_size : size;
	if (span > room - KERNEL_OFFSET) {
		close(fd);
		return vd_error_set(error, -E2BIG, "%s needs %llu MiB but the guest has %llu MiB "
				    "for it%s", path,
				    (unsigned long long)(span / MIB + KERNEL_OFFSET / MIB + 1),
				    (unsigned long long)(room / MIB),
				    room < RAM_LOW_MAX ? "; give it more with --memory" : "");
	}
	rc = load_file(vm, fd, KERNEL_OFFSET, size);
	close(fd);
	*end = KERNEL_OFFSET + span;
	return rc ? vd_error_set(error, rc, "cannot load %s: %s", path, strerror(-rc)) : 0;
}

static int load_initrd(struct vd_vm *vm, uint64_t start, uint64_t *end, struct vd_error *error)
{
	const char *path = vm->config.initrd;
	uint64_t size, room = low_memory(vm);
	int fd = open_file(path, "initrd", &size, error), rc;

	if (fd < 0)
		return fd;
	if (start + DEVICE_TREE_ROOM > room || size > room - start - DEVICE_TREE_ROOM) {
		close(fd);
		return vd_error_set(error, -E2BIG, "initrd %s (%llu MiB) does not fit behind the "
				    "kernel; give the guest more with --memory", path,
				    (unsigned long long)(size / MIB));
	}
	rc = load_file(vm, fd, start, size);
	close(fd);
	*end = start + size;
	return rc ? vd_error_set(error, rc, "cannot load %s: %s", path, strerror(-rc)) : 0;
}

int vd_boot_load(struct vd_vm *vm, struct vd_error *error)
{
	struct device_tree_facts facts = {.memory = vm->config.memory, .cpus = vm->hart_count,
					  .append = vm->config.append, .svadu = vm->config.svadu};
	uint64_t end = 0, start, tree;
	char *buffer;
	int rc;

	rc = load_kernel(vm, &end, error);
	if (rc)
		return rc;
	start = align_up(end, 2 * MIB);
	end = start;
	if (vm->config.initrd) {
		rc = load_initrd(vm, start, &end, error);
		if (rc)
			return rc;
		facts.initrd_start = ram_address(start);
		facts.initrd_end = ram_address(end);
	}
	if (getrandom(facts.seed, sizeof(facts.seed), GRND_NONBLOCK) < 0)
		memset(facts.seed, 0, sizeof(facts.seed));
	tree = align_up(end, 4096);
	buffer = vd_env_allocate(vm->env, "vm.device_tree", DEVICE_TREE_ROOM, 64);
	if (!buffer)
		return vd_error_set(error, -ENOMEM, "out of memory for the device tree");
	rc = vd_device_tree_build(&facts, buffer, DEVICE_TREE_ROOM);
	if (rc > 0)
		rc = vd_mem_write(vm->mem, (vd_gpa){ram_address(tree)}, buffer, (size_t)rc);
	vm->env->release(vm->env, buffer, DEVICE_TREE_ROOM);
	if (rc == -ENOSPC)
		return vd_error_set(error, -E2BIG, "the kernel command line is too long");
	if (rc)
		return vd_error_set(error, rc, "no room for the device tree; give the guest more "
				    "with --memory");
	vm->device_tree = ram_address(tree);
	return 0;
}
