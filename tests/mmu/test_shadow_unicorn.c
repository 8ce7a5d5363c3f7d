/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest code in Unicorn's processors runs on shadow tables, made from tables of the guest's own of
 * every kind. A page fault of the processor goes to the shadow; what that says is the guest's own
 * must be so by a plain walk of the guest's tables, and everything else must run.
 */
#include "shadow_fixture.h"

#include "unicorn_cpu.h"

#define MACHINE_BYTES (64 * MIB)
#define ARENA (32 * MIB) /* shadow pages, where the processor finds them */
#define TABLE(n) (GUEST_RAM + (n) * PAGE)
#define KERNEL_CODE (64 * PAGE) /* offsets in RAM */
#define USER_CODE (65 * PAGE)
#define DATA_PAGES 12u
#define DATA(n) ((80 + (n)) * PAGE)
#define TAG 16u
#define STORED 32u
#define STEPS 150u

static const struct machine {
	unsigned kind; /* index in guest_kinds */
	enum cpu_architecture architecture;
	const struct vd_mmu_format *format;
	uint64_t satp;
} machines[] = {
	{5, CPU_X86_64, &vd_mmu_format_x86_64, 0},
	{6, CPU_X86_LA57, &vd_mmu_format_x86_64_la57, 0},
	{4, CPU_X86_PAE, &vd_mmu_format_pae, 0},
	{3, CPU_X86_PAE, &vd_mmu_format_pae, 0},
	{3, CPU_X86_64, &vd_mmu_format_x86_64, 0},
	{0, CPU_RISCV, &vd_mmu_format_sv39, 8},
	{1, CPU_RISCV, &vd_mmu_format_sv57, 10},
	{2, CPU_RISCV, &vd_mmu_format_sv57, 10},
};

struct world {
	struct shadowed s; /* first: the arena gets back from it */
	const struct machine *machine;
	struct cpu_config cpu;
	struct vd_shadow_root *root;
	uint8_t *memory; /* the RAM, and behind it the arena */
	uint64_t physical;
};

static uint8_t *arena;
static size_t arena_used;

static void *arena_allocate(const struct vd_env *env, size_t size, size_t align)
{
	size_t start = (arena_used + align - 1) & ~(align - 1);

	(void)env;
	if (start + size > MACHINE_BYTES - ARENA)
		return NULL;
	arena_used = start + size;
	return memset(arena + start, 0, size);
}

static void arena_release(const struct vd_env *env, void *p, size_t size)
{
	(void)env, (void)p, (void)size;
}

static uint64_t pick(uint64_t n)
{
	return test_random(test_state()) % n;
}

/* An address that the processor translates to itself: old Unicorns can do no more on x86. */
static uint64_t va(const struct world *w, uint64_t offset)
{
	return w->physical + offset;
}

/* Where the guest's entry for an address lies; the tables on the way are there. */
static uint64_t entry_at(struct world *w, uint64_t gva, unsigned level)
{
	const struct vd_guest_format *shape = w->s.kind->format;

	return TABLE(shape->levels - 1 - level) +
	       vd_guest_index(shape, level, gva) * shape->entry_bytes;
}

static void guest_set(struct world *w, uint64_t gpa, uint64_t value)
{
	struct vd_shadow_write write;

	assert_int_equal(vd_shadow_write_begin(w->s.shadow, (vd_gpa){gpa},
					       w->s.kind->format->entry_bytes, &write), 0);
	poke(&w->s, gpa, value);
	vd_shadow_write_end(w->s.shadow, &write);
}

static void guest_map(struct world *w, uint64_t offset, uint64_t gpa, unsigned access,
		      unsigned bits)
{
	for (unsigned level = w->s.kind->format->levels - 1; level > 0; level--)
		guest_set(w, entry_at(w, va(w, offset), level),
			  guest_table(w->s.kind, TABLE(w->s.kind->format->levels - level), level));
	guest_set(w, entry_at(w, va(w, offset), 0),
		  access ? guest_leaf(w->s.kind, gpa, access, bits, 0) : 0);
}

/* A page of data, or nothing at its address. x86 without NX: everything can be executed. */
static void map_some(struct world *w, unsigned page)
{
	unsigned access = VD_READ | VD_EXECUTE | (pick(2) ? VD_WRITE : 0) |
			  (pick(2) ? VD_SHADOW_USER : 0);

	guest_map(w, DATA(page), GUEST_RAM + DATA(page), pick(5) ? access : 0,
		  (unsigned)pick(4));
}

static void world_open(struct world *w, const struct machine *machine)
{
	unsigned levels = guest_kinds[machine->kind].format->levels;

	memset(w, 0, sizeof(*w));
	w->machine = machine;
	shadow_open_world(&w->s, &guest_kinds[machine->kind], true);
	w->memory = gpa_pointer(&w->s, GUEST_RAM);
	w->physical = (uintptr_t)w->memory - w->s.window;
	arena = w->memory + ARENA;
	arena_used = 0;
	w->s.f.checked.env.allocate = arena_allocate;
	w->s.f.checked.env.release = arena_release;
	assert_int_equal(shadow_open_config(&w->s, machine->format, 64, NULL), 0);
	w->root = root_of(&w->s, TABLE(0));
	w->cpu = (struct cpu_config){
		.architecture = machine->architecture, .memory = w->memory,
		.bytes = MACHINE_BYTES, .physical = w->physical,
		.alias = w->physical + 2 * MACHINE_BYTES,
		.root = (uintptr_t)vd_shadow_root_entries(w->root) - w->s.window,
		.control = machine->satp << 60, .kernel_code = va(w, KERNEL_CODE),
		.user_code = va(w, USER_CODE), .physical_code = w->physical + KERNEL_CODE,
	};
	assert_true(levels <= 5);
	cpu_write_programs(machine->architecture, w->memory + KERNEL_CODE);
	cpu_write_programs(machine->architecture, w->memory + USER_CODE);
	guest_map(w, KERNEL_CODE, GUEST_RAM + KERNEL_CODE, VD_READ | VD_EXECUTE, GUEST_A);
	guest_map(w, USER_CODE, GUEST_RAM + USER_CODE, VD_READ | VD_EXECUTE | VD_SHADOW_USER,
		  GUEST_A);
	for (unsigned page = 0; page < DATA_PAGES; page++) {
		uint64_t tag = 0x11110000 + page;

		cpu_write_target(machine->architecture, w->memory + DATA(page), 0x700 + page);
		memcpy(w->memory + DATA(page) + TAG, &tag, sizeof(tag));
		map_some(w, page);
	}
}

static void world_close(struct world *w)
{
	vd_shadow_root_put(w->s.shadow, w->root);
	vd_shadow_destroy(w->s.shadow);
	w->s.shadow = NULL;
	fixture_drain(); /* the arena goes with the RAM */
	shadow_close(&w->s);
}

static int read_guest(void *context, uint64_t gpa, unsigned bytes, uint64_t *value)
{
	*value = peek(context, gpa, bytes);
	return 0;
}

static void fault_code_in(struct world *w, bool user)
{
	unsigned access = VD_EXECUTE | VD_SHADOW_USER_CODE | VD_SHADOW_SUM;

	assert_int_equal(vd_shadow_fault(w->s.shadow, w->root, (vd_gva){w->cpu.kernel_code},
					 access, NULL), 0);
	if (user)
		assert_int_equal(vd_shadow_fault(w->s.shadow, w->root, (vd_gva){w->cpu.user_code},
						 access | VD_SHADOW_USER, NULL), 0);
}

/* Runs until the access is done. Return: 0, or the guest's own fault. */
static int run_access(struct world *w, bool user, unsigned access, uint64_t gva, uint64_t *value)
{
	/* SMEP and SMAP are off on x86, SUM on RISC-V. */
	unsigned bits = access | (user ? VD_SHADOW_USER : 0) | VD_SHADOW_UPDATE;

	if (w->machine->architecture != CPU_RISCV)
		bits |= VD_SHADOW_SUM | VD_SHADOW_USER_CODE;
	for (unsigned tries = 0; tries < 3; tries++) {
		uint64_t seen = *value;
		int ret;

		fault_code_in(w, user);
		if (cpu_access(&w->cpu, user, access, gva, &seen) == CPU_OK) {
			*value = seen;
			return 0;
		}
		ret = vd_shadow_fault(w->s.shadow, w->root, (vd_gva){gva}, bits, NULL);
		if (ret)
			return ret;
	}
	fail_msg("the processor does not see what was made for it");
	return -EIO;
}

static void check_value(struct world *w, unsigned page, unsigned access, uint64_t sent,
			uint64_t seen)
{
	uint64_t stored;

	memcpy(&stored, w->memory + DATA(page) + STORED, sizeof(stored));
	if (access == VD_READ)
		assert_int_equal(seen, 0x11110000 + page);
	else if (access == VD_WRITE)
		assert_int_equal(stored, sent);
	else
		assert_int_equal(seen, 0x700 + page);
}

static void one_access(struct world *w)
{
	static const uint64_t offsets[] = {[VD_READ] = TAG, [VD_WRITE] = STORED, [VD_EXECUTE] = 0};
	unsigned page = (unsigned)pick(DATA_PAGES), access = 1u << pick(3);
	uint64_t gva = va(w, DATA(page) + offsets[access]), value = 0x22220000 + pick(0x10000);
	uint64_t sent = value;
	bool user = pick(2);
	struct guest_found found;
	unsigned bits = access | (user ? VD_SHADOW_USER : 0) | VD_SHADOW_UPDATE;
	int ret;

	if (w->machine->architecture != CPU_RISCV)
		bits |= VD_SHADOW_SUM | VD_SHADOW_USER_CODE;
	fault_code_in(w, user); /* sets accessed in tables on the way */
	guest_walk_plain(w->s.kind, TABLE(0), gva, bits, read_guest, &w->s, &found);
	ret = run_access(w, user, access, gva, &value);
	if (ret != found.result)
		fail_msg("%s on %s: access %u to page %u%s: %d, expected %d",
			 w->s.kind->format->name, w->machine->format->name, access, page,
			 user ? " by user" : "", ret, found.result);
	for (unsigned i = 0; i < found.levels; i++)
		assert_int_equal(peek(&w->s, found.entry_gpa[i], w->s.kind->format->entry_bytes),
				 found.after[i]);
	if (!ret)
		check_value(w, page, access, sent, value);
}

static void guests_run_on_shadows_of_their_tables(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		test_start(50 + i);
		world_open(&w, &machines[i]);
		for (unsigned step = 0; step < STEPS; step++) {
			if (!pick(3))
				map_some(&w, (unsigned)pick(DATA_PAGES));
			if (!pick(20))
				vd_shadow_zap(w.s.shadow, (vd_gpa){GUEST_RAM}, SPARES_BYTES);
			one_access(&w);
		}
		assert_true(shadow_stats(&w.s).guest_faults && shadow_stats(&w.s).prefills);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(guests_run_on_shadows_of_their_tables, test_seed_print),
	};

	return cmocka_run_group_tests_name("shadow unicorn", tests, NULL, NULL);
}
