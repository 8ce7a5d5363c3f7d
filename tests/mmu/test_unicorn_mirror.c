/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mirror of a guest space under a walker that we did not write: tables and guest RAM lie in the
 * host's window, whose distances are the processor's physical addresses. What the host and the
 * slots change, the processor sees at its next access, once the page has been faulted in again.
 */
#include "../base/test_env.h"

#include <string.h>

#include <viaduct/mmu.h>

#include "unicorn_cpu.h"

#define MIB (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)
#define RAM_BYTES (16 * MIB)
#define TABLES_OFFSET (8 * MIB)
#define GUEST (UINT64_C(5) << 30) /* guest addresses, which the processor takes for virtual ones */
#define CODE (GUEST + 64 * PAGE)

struct mirror {
	struct test_env test; /* first: the table memory gets back from it */
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	uint8_t *memory;
	size_t arena;
	struct cpu_config config;
	uint32_t slot, code;
};

static const struct {
	enum cpu_architecture architecture;
	const struct vd_mmu_format *format;
	uint64_t control;
} machines[] = {
	{CPU_RISCV, &vd_mmu_format_sv39, UINT64_C(8) << 60},
	{CPU_RISCV, &vd_mmu_format_sv48, UINT64_C(9) << 60},
	{CPU_ARM64, &vd_mmu_format_arm64_s1_4k, 0},
	{CPU_X86_64, &vd_mmu_format_x86_64, 0},
};

#define MACHINES (sizeof(machines) / sizeof(machines[0]))

/* Tables come from the end of the RAM object, which no slot shows to the guest. */
static void *table_allocate(const struct vd_env *env, size_t size, size_t align)
{
	struct mirror *m = (struct mirror *)(uintptr_t)env;
	size_t start = (m->arena + align - 1) & ~(align - 1);

	if (start + size > RAM_BYTES)
		return NULL;
	m->arena = start + size;
	return memset(m->memory + start, 0, size);
}

static void table_release(const struct vd_env *env, void *p, size_t size)
{
	(void)env, (void)p, (void)size;
}

static uint32_t slot_add(struct mirror *m, uint64_t base, uint64_t size, uint64_t offset,
			 bool read_only)
{
	struct vd_slot_config config = {.base = {base}, .size = size, .kind = VD_SLOT_RAM,
					.read_only = read_only, .object = m->ram, .offset = offset,
					.name = "ram"};
	uint32_t id = 0;

	assert_int_equal(vd_mem_add_slot(m->mem, &config, &id, NULL), 0);
	return id;
}

static void mirror_open(struct mirror *m, unsigned machine)
{
	struct vd_host_config host = {.env = vd_env_hosted()};
	struct vd_mem_config mem = {.env = vd_env_hosted()};
	struct vd_mmu_config mmu = {.env = &m->test.env, .format = machines[machine].format};
	struct vd_mem_page first;
	uintptr_t window;
	size_t bytes;

	*m = (struct mirror){.arena = TABLES_OFFSET};
	test_env_init(&m->test);
	m->test.env.allocate = table_allocate;
	m->test.env.release = table_release;
	assert_int_equal(vd_host_create(&host, &m->host, NULL), 0);
	assert_int_equal(vd_host_ram_create(m->host, "ram", RAM_BYTES, 0, &m->ram, NULL), 0);
	mem.host = m->host;
	assert_int_equal(vd_mem_create(&mem, &m->mem, NULL), 0);
	m->slot = slot_add(m, GUEST, 16 * PAGE, 0, false);
	m->code = slot_add(m, CODE, PAGE, 32 * PAGE, false);
	assert_int_equal(vd_mem_gpa_to_pfn(m->mem, (vd_gpa){GUEST}, VD_WRITE, &first), 0);
	window = vd_host_window_base(m->host);
	m->memory = vd_host_pointer(window, first.host.pfn, 12);
	mmu.mem = m->mem;
	assert_int_equal(vd_mmu_create(&mmu, &m->mmu, NULL), 0);
	cpu_write_programs(machines[machine].architecture, m->memory + 32 * PAGE);
	m->config = (struct cpu_config){
		.architecture = machines[machine].architecture,
		.memory = m->memory,
		.bytes = RAM_BYTES,
		.physical = (uintptr_t)m->memory - window,
		.alias = UINT64_C(1) << 35,
		.root = (uintptr_t)vd_mmu_root(m->mmu, &bytes) - window,
		.control = machines[machine].architecture == CPU_ARM64
				   ? vd_mmu_format_arm64_control(machines[machine].format)
				   : machines[machine].control,
		.kernel_code = CODE,
		.user_code = CODE,
	};
	m->config.physical_code = m->config.physical + 32 * PAGE;
	for (unsigned page = 0; page < 32; page++)
		m->memory[page * PAGE] = (uint8_t)(page + 1);
	assert_int_equal(vd_mmu_fault(m->mmu, (vd_gpa){CODE}, VD_EXECUTE), 0);
}

static void mirror_close(struct mirror *m)
{
	vd_mmu_destroy(m->mmu);
	vd_env_hosted_drain(); /* tables that wait for readers lie in the object that goes */
	vd_mem_destroy(m->mem);
	vd_host_object_put(m->ram);
	vd_host_destroy(m->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
}

static void faults(struct mirror *m, uint64_t gpa, unsigned access)
{
	uint64_t value = 0x77;

	assert_int_equal(cpu_access(&m->config, false, access, gpa, &value), CPU_PAGE_FAULT);
}

static uint64_t reads(struct mirror *m, uint64_t gpa)
{
	uint64_t value = 0;

	assert_int_equal(cpu_access(&m->config, false, VD_READ, gpa, &value), CPU_OK);
	return value;
}

static void writes(struct mirror *m, uint64_t gpa, uint64_t value)
{
	assert_int_equal(cpu_access(&m->config, false, VD_WRITE, gpa, &value), CPU_OK);
}

static void run(unsigned machine)
{
	uint64_t gpa = GUEST + 3 * PAGE;
	uint8_t bitmap[2];
	struct mirror m;

	mirror_open(&m, machine);
	faults(&m, gpa, VD_READ);
	assert_int_equal(vd_mmu_fault(m.mmu, (vd_gpa){gpa}, VD_READ), 0);
	assert_int_equal(reads(&m, gpa), 4);
	writes(&m, gpa + 8, 0x1234);
	assert_int_equal(m.memory[3 * PAGE + 8], 0x34);
	faults(&m, gpa + PAGE, VD_READ);

	/* Dirty logging: a store faults, is marked, and then goes through. */
	assert_int_equal(vd_mem_dirty_start(m.mem, m.slot), 0);
	assert_int_equal(reads(&m, gpa), 4);
	faults(&m, gpa, VD_WRITE);
	assert_int_equal(vd_mmu_fault(m.mmu, (vd_gpa){gpa}, VD_WRITE), 0);
	writes(&m, gpa + 8, 0x5678);
	assert_int_equal(vd_mem_dirty_fetch(m.mem, m.slot, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[0], 1 << 3);
	faults(&m, gpa, VD_WRITE);

	/* The slot goes and comes back elsewhere, read-only. */
	assert_int_equal(vd_mem_remove_slot(m.mem, m.slot), 0);
	faults(&m, gpa, VD_READ);
	slot_add(&m, GUEST, 16 * PAGE, 16 * PAGE, true);
	faults(&m, gpa, VD_READ);
	assert_int_equal(vd_mmu_fault(m.mmu, (vd_gpa){gpa}, VD_READ), 0);
	assert_int_equal(reads(&m, gpa), 16 + 4);
	faults(&m, gpa, VD_WRITE);
	assert_int_equal(vd_mmu_fault(m.mmu, (vd_gpa){gpa}, VD_WRITE), -EACCES);

	/* The host takes the memory away: what is there next is another page. */
	assert_int_equal(vd_host_object_discard(m.ram, 19 * PAGE, PAGE, true), 0);
	faults(&m, gpa, VD_READ);
	assert_int_equal(vd_mmu_fault(m.mmu, (vd_gpa){gpa}, VD_READ), 0);
	assert_int_equal(reads(&m, gpa), 0);
	mirror_close(&m);
}

static void the_processor_sees_every_change(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MACHINES; i++) {
		if (!cpu_maps_to_itself(machines[i].architecture))
			run(i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_processor_sees_every_change),
	};

	return cmocka_run_group_tests_name("mmu unicorn_mirror", tests, NULL, NULL);
}
