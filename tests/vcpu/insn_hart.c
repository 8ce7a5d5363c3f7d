/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs on our own hart: user mode, and the two system calls. */
#include "insn_hart.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "insn_encode.h"

/* A program that loops for ever would hang the test; a hart polls every 10 000 instructions. */
#define POLLS_MAX 100000u

/* No system call: supervisor code met an exception that is not an environment call. */
#define SYS_EXCEPTION 2047

_Static_assert(INSN_BASE + INSN_IMAGE_BYTES <= INSN_PAGES * INSN_PAGE, "programs must fit");

struct insn_machine {
	struct insn_setting setting;
	struct insn_paging paging;
	uint64_t runs;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_hart_group *group;
	struct vd_mmu *mmu;
	struct vd_hart *harts[INSN_HARTS_MAX];
	unsigned int hart_count;
	struct insn_data *result;
	atomic_uint polls;
	atomic_int status;
};

static int system_call(void *context, struct vd_hart *hart)
{
	struct insn_machine *machine = context;

	switch (vd_hart_x(hart, 17)) {
	case INSN_SYS_WRITE:
		machine->status = insn_paging_copy_out(&machine->paging, vd_hart_x(hart, 11),
						       machine->result,
						       sizeof(*machine->result));
		return machine->status != 0;
	case INSN_SYS_EXIT:
		return 1;
	default:
		machine->status = -EIO;
		return 1;
	}
}

static void poll(void *context, struct vd_hart *hart)
{
	struct insn_machine *machine = context;

	if (atomic_fetch_add(&machine->polls, 1) >= POLLS_MAX) {
		machine->status = -EIO;
		vd_hart_request_stop(hart);
	}
}

static const struct vd_hart_ops hart_ops = { .ecall = system_call, .poll = poll };

static int create_memory(struct insn_machine *machine, const struct vd_env *env,
			 struct vd_error *error)
{
	const struct vd_host_config host_config = { .env = env, .window_size = UINT64_C(1) << 30 };
	bool bare = machine->setting.mode == INSN_BARE;
	struct vd_slot_config slot = {
		.base = { bare ? 0 : INSN_RAM_BASE },
		.size = INSN_RAM_BYTES,
		.kind = VD_SLOT_RAM,
		.name = "ram",
	};
	struct vd_mem_config mem_config = { .env = env };
	int ret = vd_host_create(&host_config, &machine->host, error);

	if (ret)
		return ret;
	ret = vd_host_ram_create(machine->host, "ram", INSN_RAM_BYTES, 0, &machine->ram, error);
	if (ret)
		return ret;
	mem_config.host = machine->host;
	ret = vd_mem_create(&mem_config, &machine->mem, error);
	if (ret)
		return ret;
	slot.object = machine->ram;
	return vd_mem_add_slot(machine->mem, &slot, NULL, error);
}

static int create_harts(struct insn_machine *machine, const struct vd_env *env,
		       struct vd_error *error)
{
	struct vd_mmu_config mmu_config = {
		.env = env,
		.mem = machine->mem,
		.format = &vd_mmu_format_sv48x4,
		.flush = vd_hart_group_flush,
	};
	struct vd_hart_config hart_config = {
		.env = env,
		.mem = machine->mem,
		.flags = VD_HART_CHECK_TLB | (machine->setting.hardware_ad ? VD_HART_SVADU : 0),
		.timebase_hz = 10000000,
		.ops = &hart_ops,
		.context = machine,
	};
	int ret = vd_hart_group_create(env, &machine->group, error);

	if (ret)
		return ret;
	mmu_config.flush_context = machine->group;
	ret = vd_mmu_create(&mmu_config, &machine->mmu, error);
	if (ret)
		return ret;
	ret = vd_hart_group_listen(machine->group, machine->mem);
	if (ret)
		return vd_error_set(error, ret, "the harts cannot listen to the memory");
	hart_config.group = machine->group;
	hart_config.mmu = machine->mmu;
	for (unsigned int i = 0; i < machine->hart_count && !ret; i++) {
		hart_config.id = i;
		ret = vd_hart_create(&hart_config, &machine->harts[i], error);
	}
	return ret;
}

struct insn_machine *insn_machine_create(const struct insn_setting *setting, unsigned int harts)
{
	const struct vd_env *env = vd_env_hosted();
	struct insn_machine *machine = calloc(1, sizeof(*machine));
	struct vd_error error = { 0 };

	if (!machine)
		return NULL;
	machine->setting = *setting;
	machine->hart_count = harts;
	if (create_memory(machine, env, &error) || create_harts(machine, env, &error)) {
		fprintf(stderr, "%s\n", error.text);
		insn_machine_destroy(machine);
		return NULL;
	}
	return machine;
}

void insn_machine_destroy(struct insn_machine *machine)
{
	if (!machine)
		return;
	for (unsigned int i = 0; i < machine->hart_count; i++)
		if (machine->harts[i])
			vd_hart_destroy(machine->harts[i]);
	/* The tables flush the group as they go. */
	vd_mmu_destroy(machine->mmu);
	if (machine->group)
		vd_hart_group_destroy(machine->group);
	if (machine->mem)
		vd_mem_destroy(machine->mem);
	if (machine->ram)
		vd_host_object_put(machine->ram);
	if (machine->host)
		vd_host_destroy(machine->host);
	free(machine);
}

struct vd_mem *insn_machine_memory(struct insn_machine *machine)
{
	return machine->mem;
}

struct vd_hart *insn_machine_hart(struct insn_machine *machine, unsigned int index)
{
	return machine->harts[index];
}

/*
 * Supervisor code at INSN_STUB_GPA: the way into user mode, and a trap handler that passes
 * environment calls on. x10 is satp, x11 sstatus; x5 is free for the handler, as programs have
 * stored it by then.
 */
static unsigned int build_stub(uint32_t *code)
{
	enum { SSTATUS = 0x100, STVEC = 0x105, SEPC = 0x141, SCAUSE = 0x142, SATP = 0x180 };
	unsigned int n = 0, handler = 16;

	code[n++] = insn_u(INSN_AUIPC, 5, 0);
	code[n++] = insn_i(INSN_OP_IMM, 0, 5, 5, 4 * handler);
	code[n++] = insn_i(INSN_SYSTEM, 1, 0, 5, STVEC);
	code[n++] = insn_i(INSN_SYSTEM, 1, 0, 10, SATP);
	code[n++] = insn_i(INSN_SYSTEM, 1, 0, 11, SSTATUS);
	code[n++] = insn_u(INSN_LUI, 5, INSN_BASE);
	code[n++] = insn_i(INSN_SYSTEM, 1, 0, 5, SEPC);
	code[n++] = insn_r(INSN_SYSTEM, 0, 9, 0, 0, 0); /* sfence.vma */
	code[n++] = 0x10200073;				/* sret */
	while (n < handler)
		code[n++] = 0;
	code[n++] = insn_i(INSN_SYSTEM, 2, 5, 0, SCAUSE);
	code[n++] = insn_i(INSN_OP_IMM, 0, 5, 5, -8); /* environment call from U mode */
	code[n++] = insn_b(0, 5, 0, 8);
	code[n++] = insn_i(INSN_OP_IMM, 0, 17, 0, SYS_EXCEPTION);
	code[n++] = INSN_ECALL;
	code[n++] = insn_i(INSN_SYSTEM, 2, 5, 0, SEPC);
	code[n++] = insn_i(INSN_OP_IMM, 0, 5, 5, 4);
	code[n++] = insn_i(INSN_SYSTEM, 1, 0, 5, SEPC);
	code[n++] = 0x10200073;
	return n;
}

static int start(struct insn_machine *machine)
{
	uint32_t stub[64];
	unsigned int bytes = 4 * build_stub(stub);

	if (machine->setting.mode == INSN_BARE) {
		vd_hart_reset(machine->harts[0], (vd_gva){ INSN_BASE });
		vd_hart_set_user(machine->harts[0]);
		return 0;
	}
	vd_hart_reset(machine->harts[0], (vd_gva){ INSN_STUB_GPA });
	vd_hart_set_x(machine->harts[0], 10, machine->paging.satp);
	vd_hart_set_x(machine->harts[0], 11, UINT64_C(1) << 13); /* FS = initial, SPP = U */
	return vd_mem_write(machine->mem, (vd_gpa){ INSN_STUB_GPA }, stub, bytes);
}

/* The hart has set accessed where the program went, and dirty only where it stores. */
static int check_accessed_dirty(const struct insn_machine *machine)
{
	const uint64_t end = INSN_BASE + INSN_CODE_BYTES;
	uint64_t code, last, data;

	if (!machine->setting.hardware_ad)
		return 0;
	code = insn_paging_leaf(&machine->paging, INSN_BASE);
	last = insn_paging_leaf(&machine->paging, end - INSN_PAGE);
	data = insn_paging_leaf(&machine->paging, INSN_BASE + INSN_DATA_OFFSET);
	if (!(code & INSN_PTE_A) || !(data & INSN_PTE_A) || !(data & INSN_PTE_D))
		return -EIO;
	if (machine->setting.superpage)
		return 0;
	return code & INSN_PTE_D || last & (INSN_PTE_A | INSN_PTE_D) ? -EIO : 0;
}

int insn_machine_run(struct insn_machine *machine, const struct insn_program *program,
		     struct insn_data *result)
{
	int ret = insn_paging_build(&machine->paging, machine->mem, &machine->setting,
				    ++machine->runs);

	if (!ret)
		ret = insn_paging_copy_in(&machine->paging, INSN_BASE, program->image,
					  INSN_IMAGE_BYTES);
	if (!ret)
		ret = start(machine);
	if (ret)
		return ret;
	machine->result = result;
	machine->polls = 0;
	machine->status = 0;
	/* The image is new code at old addresses. */
	vd_hart_request_flush(machine->harts[0]);
	if (vd_hart_run(machine->harts[0]) != VD_HART_EXIT_HALT)
		return machine->status ? machine->status : -EIO;
	return machine->status ? machine->status : check_accessed_dirty(machine);
}
