/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

#define HANDLER_OFFSET 0x100u
#define STEP_TRAP 2047
#define POLLS_MAX 100000u

static void write_stub(struct rig *rig)
{
	RIG_LOAD(rig, RIG_STUB, CSRW(CSR_STVEC, 5), CSRW(CSR_SATP, 6), SFENCE_VMA(0),
		 CSRW(CSR_SSTATUS, 7), CSRW(CSR_SEPC, 8), SRET);
	/* The host has looked at the trap between the two halves and may have changed x29 and x30. */
	RIG_LOAD(rig, RIG_STUB + HANDLER_OFFSET, ADDI(27, 17, 0), CSRR(28, CSR_SCAUSE),
		 CSRR(29, CSR_STVAL), CSRR(30, CSR_SEPC), STEP(STEP_TRAP), ADDI(17, 27, 0),
		 CSRW(CSR_SEPC, 30), CSRC(CSR_SIE, 29), SRET);
}

/* Interrupts go on where they were, with this one off; exceptions behind the instruction. */
static int record_trap(struct rig_hart *h, struct vd_hart *hart)
{
	struct rig_trap trap = {vd_hart_x(hart, 28), vd_hart_x(hart, 29), vd_hart_x(hart, 30)};
	bool interrupt = trap.cause >> 63;
	uint64_t skip = interrupt || h->stay_at_fault ? 0 : 4;

	h->stay_at_fault = false;
	vd_hart_set_x(hart, 29, interrupt ? UINT64_C(1) << (trap.cause & 63) : 0);
	vd_hart_set_x(hart, 30, trap.pc + skip);
	if (trap.cause == ECALL_USER) {
		uint64_t number = vd_hart_x(hart, 27);

		return number == RIG_STEP_END || h->rig->step(h->rig, hart, number);
	}
	if (h->trap_count < RIG_TRAPS_MAX)
		h->traps[h->trap_count] = trap;
	if (++h->trap_count > RIG_TRAPS_MAX)
		h->hung = true;
	return h->hung || (h->rig->trap && h->rig->trap(h->rig, hart, &trap));
}

static int ecall(void *context, struct vd_hart *hart)
{
	struct rig_hart *h = context;
	uint64_t number = vd_hart_x(hart, 17);

	if (number == STEP_TRAP)
		return record_trap(h, hart);
	if (number == RIG_STEP_END || !h->rig->step)
		return 1;
	return h->rig->step(h->rig, hart, number);
}

static void poll(void *context, struct vd_hart *hart)
{
	struct rig_hart *h = context;

	if (h->rig->poll)
		h->rig->poll(h->rig, hart);
	if (h->polls_max && ++h->polls > h->polls_max) {
		h->hung = true;
		vd_hart_request_stop(hart);
	}
}

static void idle(void *context, struct vd_hart *hart, uint64_t deadline_ns)
{
	struct rig_hart *h = context;

	if (h->rig->idle)
		h->rig->idle(h->rig, hart, deadline_ns);
}

static void wake(void *context, struct vd_hart *hart)
{
	struct rig_hart *h = context;

	if (h->rig->wake)
		h->rig->wake(h->rig, hart);
}

static const struct vd_hart_ops hart_ops = {.ecall = ecall, .poll = poll, .idle = idle,
					    .wake = wake};

static const struct vd_hart_ops hart_ops_without_poll = {.ecall = ecall, .idle = idle,
							 .wake = wake};

static void open_memory(struct rig *rig, const struct rig_setup *setup)
{
	const struct vd_host_config host_config = {.env = rig->env, .window_size = 1u << 30};
	struct vd_mem_config mem_config = {.env = rig->env};
	struct vd_slot_config slot = {.base = {RIG_RAM}, .kind = VD_SLOT_RAM, .name = "ram"};
	struct vd_error error;

	assert_int_equal(vd_host_create(&host_config, &rig->host, &error), 0);
	assert_int_equal(vd_host_ram_create(rig->host, "ram", RIG_RAM_BYTES, VD_HOST_SPARES,
					    &rig->ram, &error), 0);
	mem_config.host = rig->host;
	assert_int_equal(vd_mem_create(&mem_config, &rig->mem, &error), 0);
	slot.object = rig->ram;
	slot.size = setup->mapped ? setup->mapped : RIG_RAM_BYTES;
	assert_int_equal(vd_mem_add_slot(rig->mem, &slot, &rig->ram_id, &error), 0);
}

static void open_harts(struct rig *rig, const struct rig_setup *setup)
{
	struct vd_mmu_config mmu_config = {.env = rig->env, .mem = rig->mem,
					   .format = &vd_mmu_format_sv48x4,
					   .flush = vd_hart_group_flush};
	struct vd_shadow_config shadow_config = {.env = rig->env, .format = &vd_mmu_format_sv57,
						 .flush = vd_hart_group_flush};
	struct vd_error error;

	assert_int_equal(vd_hart_group_create(rig->env, &rig->group, &error), 0);
	mmu_config.flush_context = rig->group;
	assert_int_equal(vd_mmu_create(&mmu_config, &rig->mmu, &error), 0);
	shadow_config.mem = rig->mem;
	shadow_config.flush_context = rig->group;
	/* The tests are the same with shadow tables: see meson.build. */
	if (getenv("VD_TEST_SHADOW"))
		assert_int_equal(vd_shadow_create(&shadow_config, &rig->shadow, &error), 0);
	assert_int_equal(vd_hart_group_listen(rig->group, rig->mem), 0);
	rig->hart_count = setup->harts ? setup->harts : 1;
	for (unsigned int i = 0; i < rig->hart_count; i++) {
		struct vd_hart_config config = {
			.env = rig->env, .group = rig->group, .mem = rig->mem, .mmu = rig->mmu,
			.shadow = rig->shadow,
			.id = i, .flags = setup->flags, .timebase_hz = 10000000,
			.code_cache_bytes = setup->code_cache_bytes,
			.ops = setup->no_poll ? &hart_ops_without_poll : &hart_ops,
			.context = &rig->harts[i],
		};

		rig->harts[i].rig = rig;
		rig->harts[i].polls_max = POLLS_MAX;
		assert_int_equal(vd_hart_create(&config, &rig->harts[i].hart, &error), 0);
	}
}

void rig_open(struct rig *rig, const struct rig_setup *setup)
{
	static const struct rig_setup plain;

	if (!setup)
		setup = &plain;
	*rig = (struct rig){.env = setup->env ? setup->env : vd_env_hosted()};
	open_memory(rig, setup);
	open_harts(rig, setup);
	write_stub(rig);
}

void rig_close(struct rig *rig)
{
	for (unsigned int i = 0; i < rig->hart_count; i++)
		vd_hart_destroy(rig->harts[i].hart);
	vd_shadow_destroy(rig->shadow);
	vd_mmu_destroy(rig->mmu); /* flushes through the group */
	vd_hart_group_destroy(rig->group);
	vd_mem_destroy(rig->mem);
	vd_host_object_put(rig->ram);
	vd_host_destroy(rig->host);
	if (rig->env == vd_env_hosted())
		return;
	/* What is freed later, and what that defers, needs the environment. */
	vd_env_hosted_drain();
	vd_env_hosted_drain();
}

uint32_t rig_trap_area(struct rig *rig, uint64_t gpa, uint64_t size, const struct vd_trap_ops *ops)
{
	const struct vd_slot_config slot = {.base = {gpa}, .size = size, .kind = VD_SLOT_TRAP,
					    .ops = ops, .context = rig, .reason = "test"};
	struct vd_error error;
	uint32_t id;

	assert_int_equal(vd_mem_add_slot(rig->mem, &slot, &id, &error), 0);
	return id;
}

void rig_write(struct rig *rig, uint64_t gpa, const void *bytes, size_t length)
{
	assert_int_equal(vd_mem_write(rig->mem, (vd_gpa){gpa}, bytes, length), 0);
}

void rig_write64(struct rig *rig, uint64_t gpa, uint64_t value)
{
	rig_write(rig, gpa, &value, sizeof(value));
}

uint64_t rig_read64(struct rig *rig, uint64_t gpa)
{
	uint64_t value;

	assert_int_equal(vd_mem_read(rig->mem, (vd_gpa){gpa}, &value, sizeof(value)), 0);
	return value;
}

struct vd_hart *rig_start(struct rig *rig, unsigned int index, uint64_t pc, uint64_t sstatus)
{
	struct vd_hart *hart = rig->harts[index].hart;

	vd_hart_reset(hart, (vd_gva){RIG_STUB});
	vd_hart_set_x(hart, 5, RIG_STUB + HANDLER_OFFSET);
	vd_hart_set_x(hart, 6, rig->satp);
	vd_hart_set_x(hart, 7, sstatus);
	vd_hart_set_x(hart, 8, pc);
	return hart;
}

void rig_run(struct rig *rig, unsigned int index)
{
	struct rig_hart *h = &rig->harts[index];
	enum vd_hart_exit exit;

	h->trap_count = h->polls = 0;
	h->hung = false;
	exit = vd_hart_run(h->hart);
	assert_false(h->hung);
	assert_int_equal(exit, VD_HART_EXIT_HALT);
}

void rig_go(struct rig *rig, unsigned int hart, uint64_t sstatus)
{
	rig_start(rig, hart, RIG_CODE, sstatus);
	rig_run(rig, hart);
}

static void print_traps(const struct rig_hart *h)
{
	for (unsigned int i = 0; i < h->trap_count && i < RIG_TRAPS_MAX; i++)
		print_error("trap %u: cause 0x%llx tval 0x%llx pc 0x%llx\n", i,
			    (unsigned long long)h->traps[i].cause,
			    (unsigned long long)h->traps[i].tval,
			    (unsigned long long)h->traps[i].pc);
}

void rig_expect_trap(struct rig *rig, unsigned int hart, uint64_t cause, uint64_t tval,
		     uint64_t pc)
{
	const struct rig_hart *h = &rig->harts[hart];
	const struct rig_trap *t = &h->traps[0];

	if (h->trap_count != 1 || t->cause != cause || t->tval != tval || t->pc != pc) {
		print_traps(h);
		fail_msg("expected one trap: cause 0x%llx tval 0x%llx pc 0x%llx",
			 (unsigned long long)cause, (unsigned long long)tval,
			 (unsigned long long)pc);
	}
}

void rig_expect_no_trap(struct rig *rig, unsigned int hart)
{
	print_traps(&rig->harts[hart]);
	assert_int_equal(rig->harts[hart].trap_count, 0);
}

/* ---- first-stage tables ---------------------------------------------- */

void rig_paging(struct rig *rig, unsigned int mode)
{
	static const uint8_t zeros[RIG_PAGE];

	for (uint64_t gpa = RIG_TABLES; gpa < RIG_DATA; gpa += RIG_PAGE)
		rig_write(rig, gpa, zeros, sizeof(zeros));
	rig->satp = (uint64_t)mode << 60 | RIG_TABLES >> 12;
	rig->next_table = RIG_TABLES + RIG_PAGE;
	for (uint64_t gpa = RIG_RAM; gpa < RIG_RAM + 16 * RIG_PAGE; gpa += RIG_PAGE)
		rig_map(rig, gpa, gpa, 0, RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD);
}

uint64_t rig_map(struct rig *rig, uint64_t va, uint64_t gpa, unsigned int level, uint64_t flags)
{
	unsigned int at = (unsigned int)(rig->satp >> 60) - 5;
	uint64_t table = RIG_TABLES, entry;

	for (;;) {
		uint64_t pte;

		entry = table + (va >> (12 + 9 * --at) & 511) * 8;
		if (at == level)
			break;
		pte = rig_read64(rig, entry);
		if (!pte) {
			pte = rig->next_table >> 12 << 10 | RIG_V;
			rig->next_table += RIG_PAGE;
			assert_true(rig->next_table <= RIG_DATA);
			rig_write64(rig, entry, pte);
		}
		table = pte >> 10 << 12;
	}
	rig_write64(rig, entry, gpa >> 12 << 10 | flags);
	return entry;
}
