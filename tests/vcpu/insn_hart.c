/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs on our own hart: user mode, no translation by the guest, the two system calls. */
#include "insn_hart.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define RAM_BASE INSN_BASE
#define RAM_BYTES 0x40000u

/* A program that loops for ever would hang the test: it polls at least every 10 000 instructions. */
#define POLLS_MAX 100000u

_Static_assert(INSN_IMAGE_BYTES <= RAM_BYTES, "programs must fit");

struct insn_machine {
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_hart_group *group;
	struct vd_mmu *mmu;
	struct vd_hart *hart;
	struct insn_data *result;
	unsigned int polls;
	int status;
};

static int system_call(void *context, struct vd_hart *hart)
{
	struct insn_machine *machine = context;

	switch (vd_hart_x(hart, 17)) {
	case INSN_SYS_WRITE:
		machine->status = vd_mem_read(machine->mem, (vd_gpa){ vd_hart_x(hart, 11) },
					      machine->result, sizeof(*machine->result));
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

	if (++machine->polls == POLLS_MAX) {
		machine->status = -EIO;
		vd_hart_request_stop(hart);
	}
}

static const struct vd_hart_ops hart_ops = { .ecall = system_call, .poll = poll };

static int create_memory(struct insn_machine *machine, const struct vd_env *env,
			 struct vd_error *error)
{
	const struct vd_host_config host_config = { .env = env, .window_size = UINT64_C(1) << 30 };
	struct vd_slot_config slot = {
		.base = { RAM_BASE }, .size = RAM_BYTES, .kind = VD_SLOT_RAM, .name = "ram",
	};
	struct vd_mem_config mem_config = { .env = env };
	int ret = vd_host_create(&host_config, &machine->host, error);

	if (ret)
		return ret;
	ret = vd_host_ram_create(machine->host, "ram", RAM_BYTES, 0, &machine->ram, error);
	if (ret)
		return ret;
	mem_config.host = machine->host;
	ret = vd_mem_create(&mem_config, &machine->mem, error);
	if (ret)
		return ret;
	slot.object = machine->ram;
	return vd_mem_add_slot(machine->mem, &slot, NULL, error);
}

static int create_hart(struct insn_machine *machine, const struct vd_env *env,
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
	return vd_hart_create(&hart_config, &machine->hart, error);
}

struct insn_machine *insn_machine_create(void)
{
	const struct vd_env *env = vd_env_hosted();
	struct insn_machine *machine = calloc(1, sizeof(*machine));
	struct vd_error error = { 0 };

	if (!machine)
		return NULL;
	if (create_memory(machine, env, &error) || create_hart(machine, env, &error)) {
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
	if (machine->hart)
		vd_hart_destroy(machine->hart);
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

int insn_machine_run(struct insn_machine *machine, const struct insn_program *program,
		     struct insn_data *result)
{
	int ret = vd_mem_write(machine->mem, (vd_gpa){ RAM_BASE }, program->image,
			       INSN_IMAGE_BYTES);

	if (ret)
		return ret;
	machine->result = result;
	machine->polls = 0;
	machine->status = 0;
	vd_hart_reset(machine->hart, (vd_gva){ INSN_BASE });
	vd_hart_set_user(machine->hart);
	/* The image is new code at old addresses. */
	vd_hart_request_flush(machine->hart);
	if (vd_hart_run(machine->hart) != VD_HART_EXIT_HALT)
		return machine->status ? machine->status : -EIO;
	return machine->status;
}
