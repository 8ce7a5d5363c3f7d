/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the board itself decodes: the serial port and the harts' MSI pages (AIA, "Memory region for
 * an interrupt file").
 */
#include "vm/machine.h"

#define PAGE 4096u
#define SETEIPNUM_LE 0u

/* Offset in the MSI pages: one page a hart, a word of 4 bytes is decoded in each. */
static void deliver(struct vd_vm *vm, uint64_t offset, uint32_t data)
{
	if (offset / PAGE < vm->hart_count && offset % PAGE == SETEIPNUM_LE)
		vd_hart_msi(vm->harts[offset / PAGE].hart, data);
}

static int imsic_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context, (void)offset, (void)length;
	*value = 0;
	return 0;
}

static int imsic_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	if (length != 4)
		return -EINVAL;
	deliver(context, offset, (uint32_t)value);
	return 0;
}

static const struct vd_trap_ops imsic_ops = {imsic_read, imsic_write};

/* From devices: only what the guest wrote into an MSI-X table comes here, never a device's DMA. */
void vd_board_msi(void *context, uint64_t address, uint32_t data)
{
	struct vd_vm *vm = context;

	if (address >= VD_BOARD_IMSIC)
		deliver(vm, address - VD_BOARD_IMSIC, data);
}

static int add_ram(struct vd_vm *vm, struct vd_error *error)
{
	struct vd_slot_config slot = {.kind = VD_SLOT_RAM, .object = vm->ram, .name = "ram"};
	uint64_t low = vm->config.memory < RAM_LOW_MAX ? vm->config.memory : RAM_LOW_MAX;
	uint32_t id;
	int rc;

	slot.base = (vd_gpa){VD_BOARD_RAM};
	slot.size = low;
	rc = vd_mem_add_slot(vm->mem, &slot, &id, error);
	if (rc || vm->config.memory == low)
		return rc;
	slot.base = (vd_gpa){RAM_HIGH};
	slot.size = vm->config.memory - low;
	slot.offset = low;
	slot.name = "ram-high";
	return vd_mem_add_slot(vm->mem, &slot, &id, error);
}

int vd_board_add_slots(struct vd_vm *vm, struct vd_error *error)
{
	const struct vd_slot_config uart = {
		.base = {VD_BOARD_UART}, .size = PAGE, .kind = VD_SLOT_TRAP, .ops = &vd_uart_ops,
		.context = vm->uart, .name = "uart", .reason = "registers with side effects",
	};
	const struct vd_slot_config imsic = {
		.base = {VD_BOARD_IMSIC}, .size = (uint64_t)vm->hart_count * PAGE,
		.kind = VD_SLOT_TRAP, .ops = &imsic_ops, .context = vm, .name = "imsic",
		.reason = "a write is an interrupt",
	};
	uint32_t id;
	int rc = add_ram(vm, error);

	if (!rc)
		rc = vd_mem_add_slot(vm->mem, &uart, &id, error);
	return rc ? rc : vd_mem_add_slot(vm->mem, &imsic, &id, error);
}
