/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SBI that the machine offers to S mode (RISC-V SBI specification 2.0): BASE, TIME, IPI,
 * RFENCE, HSM, SRST, DBCN.
 */
#include "vm/machine.h"

#define SBI_SUCCESS 0
#define SBI_NOT_SUPPORTED (-2)
#define SBI_INVALID_PARAM (-3)
#define SBI_INVALID_ADDRESS (-5)
#define SBI_ALREADY_AVAILABLE (-6)

#define EXT_BASE 0x10u
#define EXT_TIME 0x54494d45u
#define EXT_IPI 0x735049u
#define EXT_RFENCE 0x52464e43u
#define EXT_HSM 0x48534du
#define EXT_SRST 0x53525354u
#define EXT_DBCN 0x4442434eu

struct result { int64_t error; uint64_t value; };

static bool offered(uint64_t extension)
{
	static const uint32_t all[] = {EXT_BASE, EXT_TIME, EXT_IPI, EXT_RFENCE, EXT_HSM, EXT_SRST,
				       EXT_DBCN};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] == extension)
			return true;
	return false;
}

static struct result base(uint64_t function, uint64_t a0)
{
	switch (function) {
	case 0:
		return (struct result){0, 2u << 24}; /* specification 2.0 */
	case 1:
		return (struct result){0, 0x5644}; /* implementation: not registered */
	case 2:
		return (struct result){0, 1};
	case 3:
		return (struct result){0, offered(a0)};
	case 4: case 5: case 6:
		return (struct result){0, 0};
	default:
		return (struct result){SBI_NOT_SUPPORTED, 0};
	}
}

/* Calls @fn for each hart of a mask that starts at @first; all ones in @first means every hart. */
static struct result for_harts(struct vd_vm *vm, uint64_t mask, uint64_t first,
			       void (*fn)(struct vd_hart *hart))
{
	if (first == UINT64_MAX) {
		for (unsigned i = 0; i < vm->hart_count; i++)
			fn(vm->harts[i].hart);
		return (struct result){0, 0};
	}
	for (unsigned i = 0; i < 64; i++)
		if (mask >> i & 1 && (first >= vm->hart_count || i >= vm->hart_count - first))
			return (struct result){SBI_INVALID_PARAM, 0};
	for (unsigned i = 0; i < 64; i++)
		if (mask >> i & 1)
			fn(vm->harts[first + i].hart);
	return (struct result){0, 0};
}

/* Whether a hart can run there: in RAM, at an instruction's boundary. */
static bool can_start_at(struct vd_vm *vm, uint64_t pc)
{
	struct vd_mem_page page;

	return !(pc & 1) && !vd_mem_gpa_to_pfn(vm->mem, (vd_gpa){pc}, VD_READ, &page) &&
	       page.kind == VD_SLOT_RAM;
}

static struct result hart_start(struct vd_vm *vm, uint64_t id, uint64_t pc, uint64_t argument)
{
	if (id < vm->hart_count && !can_start_at(vm, pc))
		return (struct result){SBI_INVALID_ADDRESS, 0};
	switch (vd_vm_start_hart(vm, id, pc, argument)) {
	case 0:
		return (struct result){0, 0};
	case -EALREADY:
		return (struct result){SBI_ALREADY_AVAILABLE, 0};
	default:
		return (struct result){SBI_INVALID_PARAM, 0};
	}
}

static struct result hart_state(struct machine_hart *h, uint64_t function, uint64_t a0,
				uint64_t a1, uint64_t a2, int *leave)
{
	struct vd_vm *vm = h->vm;
	enum hart_state state;

	switch (function) {
	case 0:
		return hart_start(vm, a0, a1, a2);
	case 1:
		pthread_mutex_lock(&vm->lock);
		h->state = HART_STOPPED;
		pthread_mutex_unlock(&vm->lock);
		*leave = 1;
		return (struct result){0, 0};
	case 2:
		if (a0 >= vm->hart_count)
			return (struct result){SBI_INVALID_PARAM, 0};
		pthread_mutex_lock(&vm->lock);
		state = vm->harts[a0].state;
		pthread_mutex_unlock(&vm->lock);
		return (struct result){0, state == HART_STARTED	  ? 0
					  : state == HART_STOPPED ? 1
								  : 2};
	default:
		return (struct result){SBI_NOT_SUPPORTED, 0};
	}
}

static struct result system_reset(struct vd_vm *vm, uint64_t type, uint64_t reason, int *leave)
{
	if (type > 2 || reason > 1)
		return (struct result){SBI_INVALID_PARAM, 0};
	if (reason == 1 || vd_uart_saw_panic(vm->uart))
		vd_vm_end(vm, VD_VM_EXIT_PANIC);
	else
		vd_vm_end(vm, type == 0 ? VD_VM_EXIT_POWER_OFF : VD_VM_EXIT_RESET);
	*leave = 1;
	return (struct result){0, 0};
}

/* At most a page a call: the guest asks again for the rest. */
static struct result debug_console(struct vd_vm *vm, uint64_t function, uint64_t length,
				   uint64_t low, uint64_t high)
{
	uint8_t bytes[4096];

	if (function == 2) {
		bytes[0] = (uint8_t)length;
		vd_uart_write(vm->uart, bytes, 1);
		return (struct result){0, 0};
	}
	if (function != 0)
		return (struct result){SBI_NOT_SUPPORTED, 0};
	if (length > sizeof(bytes))
		length = sizeof(bytes);
	if (high || vd_mem_read(vm->mem, (vd_gpa){low}, bytes, length))
		return (struct result){SBI_INVALID_PARAM, 0};
	vd_uart_write(vm->uart, bytes, length);
	return (struct result){0, length};
}

int vd_sbi_call(struct machine_hart *h)
{
	struct vd_hart *hart = h->hart;
	uint64_t a0 = vd_hart_x(hart, 10), a1 = vd_hart_x(hart, 11), a2 = vd_hart_x(hart, 12);
	uint64_t function = vd_hart_x(hart, 16);
	struct result result = {SBI_NOT_SUPPORTED, 0};
	int leave = 0;

	switch (vd_hart_x(hart, 17)) {
	case EXT_BASE:
		result = base(function, a0);
		break;
	case EXT_TIME:
		if (function == 0) {
			vd_hart_set_timer(hart, a0);
			result.error = SBI_SUCCESS;
		}
		break;
	case EXT_IPI:
		if (function == 0)
			result = for_harts(h->vm, a0, a1, vd_hart_software_interrupt);
		break;
	case EXT_RFENCE: /* fence.i, sfence.vma, sfence.vma.asid; there are no nested guests */
		if (function <= 2)
			result = for_harts(h->vm, a0, a1, vd_hart_request_flush);
		break;
	case EXT_HSM:
		result = hart_state(h, function, a0, a1, a2, &leave);
		break;
	case EXT_SRST:
		if (function == 0)
			result = system_reset(h->vm, (uint32_t)a0, (uint32_t)a1, &leave);
		break;
	case EXT_DBCN:
		result = debug_console(h->vm, function, a0, a1, a2);
		break;
	}
	vd_hart_set_x(hart, 10, (uint64_t)result.error);
	vd_hart_set_x(hart, 11, result.value);
	return leave;
}
