/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's RAM: an object of our own in the window, or memory that other code may change. */
#include <sys/mman.h>

#include "vm/machine.h"

/*
 * At a 2 MiB boundary, as the guest's RAM is, so that large blocks map it. What is unmapped around
 * it belongs to nobody yet.
 */
static void *map_aligned(uint64_t size)
{
	uint64_t room = size + 2 * MIB;
	char *raw = mmap(NULL, room, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t before;

	if (raw == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)raw & (2 * MIB - 1);
	if (before)
		munmap(raw, before);
	munmap(raw + before + size, room - before - size);
	return raw + before;
}

static int create_private(struct vd_vm *vm, struct vd_error *error)
{
	struct vd_foreign_config config = {.host = vm->host};
	int rc = vd_foreign_create(&config, &vm->foreign, error);

	if (rc)
		return rc;
	vm->private_ram = map_aligned(vm->config.memory);
	if (!vm->private_ram)
		return vd_error_set(error, -ENOMEM, "no address space for the guest's memory");
	return vd_foreign_object(vm->foreign, "ram", vm->private_ram, vm->config.memory, 0,
				 &vm->ram, error);
}

int vd_vm_ram_create(struct vd_vm *vm, struct vd_error *error)
{
	unsigned flags = vm->config.spare_frames ? VD_HOST_SPARES : 0;

	if (vm->config.memory_kind == VD_VM_MEMORY_PRIVATE)
		return create_private(vm, error);
	return vd_host_ram_create(vm->host, "ram", vm->config.memory, flags, &vm->ram, error);
}

void vd_vm_ram_destroy(struct vd_vm *vm)
{
	vd_host_object_put(vm->ram);
	vd_foreign_destroy(vm->foreign);
}

void vd_vm_ram_unmap(struct vd_vm *vm)
{
	if (vm->private_ram)
		munmap(vm->private_ram, vm->config.memory);
}

bool vd_vm_ram_watched(const struct vd_vm *vm)
{
	return vd_foreign_watches(vm->ram);
}
