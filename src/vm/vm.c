/* SPDX-License-Identifier: BSD-2-Clause */
/* Putting the machine together and taking it apart again. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "vm/machine.h"

static int check_config(const struct vd_vm_config *config, struct vd_error *error)
{
	if (!config->kernel && !config->restore)
		return vd_error_set(error, -EINVAL, "no kernel given; use --kernel FILE");
	if (config->memory < VD_VM_MEMORY_MIN || config->memory % (2 * MIB) ||
	    config->memory > VD_VM_MEMORY_MAX)
		return vd_error_set(error, -EINVAL, "the guest's memory must be 64 MiB to 512 GiB, "
				    "a multiple of 2 MiB");
	if (config->cpus < 1 || config->cpus > VD_BOARD_HARTS_MAX)
		return vd_error_set(error, -EINVAL, "the guest can have 1 to %u cpus",
				    VD_BOARD_HARTS_MAX);
	return 0;
}

/* Shadow pages, of 12 KiB each: one for 64 pages of the guest's, within bounds. */
static unsigned shadow_budget(uint64_t memory)
{
	uint64_t pages = memory / 4096 / 64;

	return pages < 512 ? 512 : pages > 65536 ? 65536 : (unsigned)pages;
}

static int create_memory(struct vd_vm *vm, struct vd_error *error)
{
	struct vd_host_config host = {.env = vm->env};
	struct vd_mem_config mem = {.env = vm->env};
	struct vd_mmu_config mmu = {.env = vm->env, .format = &vd_mmu_format_sv48x4,
				    .flush = vd_hart_group_flush};
	struct vd_shadow_config shadow = {.env = vm->env, .format = &vd_mmu_format_sv57,
					  .flush = vd_hart_group_flush,
					  .pages = shadow_budget(vm->config.memory)};
	int rc;

	rc = vd_host_create(&host, &vm->host, error);
	if (!rc)
		rc = vd_vm_ram_create(vm, error);
	mem.host = vm->host;
	if (!rc)
		rc = vd_mem_create(&mem, &vm->mem, error);
	if (!rc)
		rc = vd_hart_group_create(vm->env, &vm->group, error);
	mmu.mem = vm->mem;
	mmu.flush_context = vm->group;
	if (!rc)
		rc = vd_mmu_create(&mmu, &vm->mmu, error);
	shadow.mem = vm->mem;
	shadow.flush_context = vm->group;
	if (!rc && vm->config.shadow_paging)
		rc = vd_shadow_create(&shadow, &vm->shadow, error);
	if (!rc)
		rc = vd_hart_group_listen(vm->group, vm->mem);
	return rc;
}

static int create_harts(struct vd_vm *vm, struct vd_error *error)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct machine_hart *h = &vm->harts[i];
		struct vd_hart_config config = {
			.env = vm->env, .group = vm->group, .mem = vm->mem, .mmu = vm->mmu,
			.shadow = vm->shadow,
			.id = i, .timebase_hz = VD_BOARD_TIMEBASE, .ops = &vd_vm_hart_ops,
			.context = h,
			.flags = (vm->config.check_tlb ? VD_HART_CHECK_TLB : 0) |
				 (vm->config.svadu ? VD_HART_SVADU : 0),
			.code_cache_bytes = (20 * MIB) / vm->config.cpus,
		};
		int rc;

		h->vm = vm;
		h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (h->wake_fd < 0)
			return vd_error_set(error, -errno, "cannot create an eventfd for hart %u",
					    i);
		vm->hart_count = i + 1;
		rc = vd_hart_create(&config, &h->hart, error);
		if (rc)
			return rc;
	}
	return 0;
}

static int create_io(struct vd_vm *vm, struct vd_error *error)
{
	struct vd_dma_config dma = {.env = vm->env, .host = vm->host, .mode = vm->config.dma};
	struct vd_pci_host_config pci = {
		.env = vm->env, .mem = vm->mem, .ecam = {VD_BOARD_ECAM}, .buses = 1,
		.low = {VD_BOARD_PCI_LOW}, .low_size = GIB,
		.high = {VD_BOARD_PCI_HIGH}, .high_size = VD_BOARD_PCI_HIGH_SIZE,
		.direct = vm->config.direct_mmio, .share_pages = true,
		.msi = vd_board_msi, .context = vm,
	};
	int rc = vd_dma_space_create(&dma, &vm->dma, error);

	if (!rc)
		rc = vd_dma_follow(vm->dma, vm->mem, error);
	if (!rc)
		rc = vd_pci_host_create(&pci, &vm->pci, error);
	return rc;
}

int vd_vm_create(const struct vd_vm_config *config, struct vd_vm **result, struct vd_error *error)
{
	struct vd_vm *vm;
	int rc = check_config(config, error);

	if (rc)
		return rc;
	vm = vd_env_allocate(config->env, "vm.vm", sizeof(*vm), 64);
	if (!vm)
		return vd_error_set(error, -ENOMEM, "out of memory for the machine");
	vm->env = config->env;
	vm->config = *config;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	rc = create_memory(vm, error);
	if (!rc)
		rc = create_harts(vm, error);
	if (!rc)
		rc = vd_uart_create(vm, error);
	if (!rc)
		rc = vd_board_add_slots(vm, error);
	if (!rc)
		rc = create_io(vm, error);
	if (!rc && !config->restore)
		rc = vd_boot_load(vm, error);
	if (rc) {
		vd_vm_destroy(vm);
		return rc;
	}
	*result = vm;
	return 0;
}

void vd_vm_destroy(struct vd_vm *vm)
{
	if (!vm)
		return;
	if (vm->pci)
		vd_pci_host_destroy(vm->pci);
	for (unsigned i = 0; i < vm->device_count; i++) {
		vd_device_quiesce(vm->devices[i]);
		vd_device_put(vm->devices[i]);
	}
	if (vm->dma)
		vd_dma_space_destroy(vm->dma);
	for (unsigned i = 0; i < vm->hart_count; i++) {
		vd_hart_destroy(vm->harts[i].hart);
		close(vm->harts[i].wake_fd);
	}
	vd_shadow_destroy(vm->shadow);
	if (vm->mmu)
		vd_mmu_destroy(vm->mmu); /* flushes through the group */
	vd_hart_group_destroy(vm->group);
	if (vm->mem)
		vd_mem_destroy(vm->mem);
	if (vm->uart)
		vd_uart_destroy(vm->uart);
	vd_vm_ram_destroy(vm);
	if (vm->host)
		vd_host_destroy(vm->host);
	vd_vm_ram_unmap(vm);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	vm->env->release(vm->env, vm, sizeof(*vm));
}

int vd_vm_plug(struct vd_vm *vm, struct vd_device *device, struct vd_error *error)
{
	int rc;

	if (vm->device_count == DEVICES_MAX)
		return vd_error_set(error, -ENOSPC, "no more than %u devices", DEVICES_MAX);
	rc = vd_pci_host_plug(vm->pci, device, vm->device_count + 1, error);
	if (!rc)
		vm->devices[vm->device_count++] = vd_device_get(device);
	return rc;
}

struct vd_device *vd_vm_device(struct vd_vm *vm, unsigned index)
{
	return index < vm->device_count ? vm->devices[index] : NULL;
}

struct vd_host *vd_vm_host(struct vd_vm *vm)
{
	return vm->host;
}

struct vd_dma_space *vd_vm_dma_space(struct vd_vm *vm)
{
	return vm->dma;
}

struct vd_mem *vd_vm_mem(struct vd_vm *vm)
{
	return vm->mem;
}

struct vd_mmu *vd_vm_mmu(struct vd_vm *vm)
{
	return vm->mmu;
}

struct vd_shadow *vd_vm_shadow(struct vd_vm *vm)
{
	return vm->shadow;
}

struct vd_pci_host *vd_vm_pci(struct vd_vm *vm)
{
	return vm->pci;
}

struct vd_host_object *vd_vm_ram(struct vd_vm *vm)
{
	return vm->ram;
}

size_t vd_vm_console_input(struct vd_vm *vm, const uint8_t *bytes, size_t length)
{
	return vd_uart_input(vm->uart, bytes, length);
}

void vd_vm_stats(struct vd_vm *vm, struct vd_vm_stats *stats)
{
	*stats = (struct vd_vm_stats){
		.wall_ns = vm->run_ns ? vm->run_ns : vm->env->clock_ns(vm->env) - vm->started_ns,
		.tlb_shootdowns = vd_hart_group_flushes(vm->group),
		.direct_pages = vd_pci_host_direct_pages(vm->pci),
	};
	vd_mmu_stats(vm->mmu, &stats->mmu);
	if (vm->shadow)
		vd_shadow_stats(vm->shadow, &stats->shadow);
	vd_dma_stats(vm->dma, &stats->dma);
	if (vm->foreign)
		vd_foreign_stats(vm->foreign, &stats->foreign);
	for (unsigned i = 0; i < vm->hart_count; i++) {
		struct vd_hart_stats h;
		const uint64_t *from = (const uint64_t *)&h;
		uint64_t *to = (uint64_t *)&stats->harts;

		vd_hart_stats(vm->harts[i].hart, &h);
		for (size_t k = 0; k < sizeof(h) / sizeof(uint64_t); k++)
			to[k] += from[k];
	}
	stats->instructions = stats->harts.instructions;
	for (unsigned i = 0; i < vm->device_count; i++) {
		struct vd_device_stats device;

		vd_device_stats(vm->devices[i], &device);
		stats->interrupts += device.interrupts;
	}
}
