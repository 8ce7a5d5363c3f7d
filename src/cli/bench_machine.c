/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/bench_machine.h"

static int end_program(void *context, struct vd_hart *hart)
{
	(void)context, (void)hart;
	return 1;
}

static const struct vd_hart_ops hart_ops = {.ecall = end_program};

static int create_memory(struct bench_machine *m, struct vd_error *error)
{
	struct vd_host_config host = {.env = vd_env_hosted()};
	struct vd_mem_config mem = {.env = vd_env_hosted()};
	struct vd_slot_config slot = {.base = {BENCH_RAM}, .size = BENCH_RAM_SIZE,
				      .kind = VD_SLOT_RAM, .name = "ram"};
	int rc = vd_host_create(&host, &m->host, error);

	if (!rc)
		rc = vd_host_ram_create(m->host, "ram", BENCH_RAM_SIZE, 0, &m->ram, error);
	mem.host = m->host;
	if (!rc)
		rc = vd_mem_create(&mem, &m->mem, error);
	slot.object = m->ram;
	return rc ? rc : vd_mem_add_slot(m->mem, &slot, NULL, error);
}

static int create_hart(struct bench_machine *m, struct vd_error *error)
{
	struct vd_mmu_config mmu = {.env = vd_env_hosted(), .mem = m->mem,
				    .format = &vd_mmu_format_sv48x4, .flush = vd_hart_group_flush};
	struct vd_hart_config hart = {.env = vd_env_hosted(), .mem = m->mem,
				      .timebase_hz = 10000000, .ops = &hart_ops};
	int rc = vd_hart_group_create(vd_env_hosted(), &m->group, error);

	mmu.flush_context = m->group;
	if (!rc)
		rc = vd_mmu_create(&mmu, &m->mmu, error);
	if (!rc && (rc = vd_hart_group_listen(m->group, m->mem)) != 0)
		return vd_error_set(error, rc, "the hart cannot listen to its memory");
	hart.group = m->group;
	hart.mmu = m->mmu;
	return rc ? rc : vd_hart_create(&hart, &m->hart, error);
}

int bench_machine_create(struct bench_machine *machine, struct vd_error *error)
{
	int rc;

	*machine = (struct bench_machine){0};
	rc = create_memory(machine, error);
	if (!rc)
		rc = create_hart(machine, error);
	if (rc)
		bench_machine_destroy(machine);
	return rc;
}

void bench_machine_destroy(struct bench_machine *machine)
{
	if (machine->hart)
		vd_hart_destroy(machine->hart);
	vd_mmu_destroy(machine->mmu); /* flushes through the group */
	if (machine->group)
		vd_hart_group_destroy(machine->group);
	vd_mem_destroy(machine->mem);
	vd_host_object_put(machine->ram);
	if (machine->host)
		vd_host_destroy(machine->host);
}

int bench_machine_load(struct bench_machine *machine, const uint32_t *code, size_t bytes,
		       struct vd_error *error)
{
	int rc = vd_mem_write(machine->mem, (vd_gpa){BENCH_RAM}, code, bytes);

	if (rc)
		return vd_error_set(error, rc, "the program does not fit into RAM");
	/* New code at old addresses. */
	vd_hart_request_flush(machine->hart);
	return 0;
}

void bench_machine_run(struct bench_machine *machine, uint64_t a0, uint64_t a1)
{
	vd_hart_reset(machine->hart, (vd_gva){BENCH_RAM});
	vd_hart_set_user(machine->hart);
	vd_hart_set_x(machine->hart, A0, a0);
	vd_hart_set_x(machine->hart, A1, a1);
	vd_hart_run(machine->hart);
}
