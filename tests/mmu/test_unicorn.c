/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walkers that we did not write: Unicorn's processors run guest code on page tables that the
 * library made, and reach, change or may not touch what the tables say.
 */
#include "../base/test_env.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "mmu/format.h"

#include "unicorn_cpu.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Physical memory, there twice: at 1 GiB, for which blocks are aligned, and at 2 GiB. */
#define PHYSICAL GIB
#define ALIAS (2 * GIB)
#define MEMORY_BYTES (64 * MIB)
#define DATA_OFFSET (8 * MIB)
#define ARENA_OFFSET (32 * MIB) /* tables, and all else that the library takes */
#define PAGES 16u
#define SLOTS 48u

#define TAG_OFFSET 16u
#define STORE_OFFSET 32u

struct world {
	struct test_env test; /* first: the arena gets back from it */
	enum cpu_architecture architecture;
	const struct vd_mmu_format *format;
	bool to_itself; /* see cpu_maps_to_itself() */
	uint8_t *memory;
	size_t arena;
	struct vd_pgtable *table;
	struct cpu_config config;
	uint64_t seed;
};

static const struct {
	const char *name;
	enum cpu_architecture architecture;
	const struct vd_mmu_format *format;
	uint64_t satp; /* MODE */
} machines[] = {
	{"x86-64", CPU_X86_64, &vd_mmu_format_x86_64, 0},
	{"x86-64 with 5 levels", CPU_X86_LA57, &vd_mmu_format_x86_64_la57, 0},
	{"PAE", CPU_X86_PAE, &vd_mmu_format_pae, 0},
	{"Sv39", CPU_RISCV, &vd_mmu_format_sv39, 8},
	{"Sv48", CPU_RISCV, &vd_mmu_format_sv48, 9},
	{"Sv57", CPU_RISCV, &vd_mmu_format_sv57, 10},
	{"arm64 with 4 KiB", CPU_ARM64, &vd_mmu_format_arm64_s1_4k, 0},
	{"arm64 with 16 KiB", CPU_ARM64, &vd_mmu_format_arm64_s1_16k, 0},
	{"arm64 with 64 KiB", CPU_ARM64, &vd_mmu_format_arm64_s1_64k, 0},
};

#define MACHINES (sizeof(machines) / sizeof(machines[0]))

/* ---- the world ------------------------------------------------------------------------------ */

static void *arena_allocate(const struct vd_env *env, size_t size, size_t align)
{
	struct world *w = (struct world *)(uintptr_t)env;
	size_t start = (w->arena + align - 1) & ~(align - 1);

	if (start + size > MEMORY_BYTES)
		return NULL;
	w->arena = start + size;
	return memset(w->memory + start, 0, size);
}

static void arena_release(const struct vd_env *env, void *p, size_t size)
{
	(void)env, (void)p, (void)size;
}

static uint64_t granule(const struct world *w)
{
	return vd_mmu_format_size(w->format, 0);
}

static uint64_t data_physical(const struct world *w, unsigned page)
{
	return PHYSICAL + DATA_OFFSET + page * granule(w);
}

static uint8_t *data_host(const struct world *w, unsigned page)
{
	return w->memory + DATA_OFFSET + page * granule(w);
}

/* Virtual addresses are elsewhere, if the walker gets there. */
static uint64_t virtual(const struct world *w, uint64_t physical)
{
	return w->to_itself ? physical : physical - UINT64_C(0x21000000);
}

static uint64_t input(const struct world *w, uint64_t address)
{
	return address & ((UINT64_C(1) << w->format->input_bits) - 1);
}

static int map(struct world *w, uint64_t address, uint64_t length, uint64_t physical,
	       struct vd_mmu_attributes attributes)
{
	return vd_pgtable_map(w->table, input(w, address), length, physical, &attributes, NULL);
}

static void map_code(struct world *w)
{
	struct vd_mmu_attributes kernel = {.access = VD_READ | VD_EXECUTE, .accessed = true};
	struct vd_mmu_attributes user = kernel;

	user.user = true;
	cpu_write_programs(w->architecture, w->memory);
	cpu_write_programs(w->architecture, w->memory + granule(w));
	w->config.physical_code = PHYSICAL;
	w->config.kernel_code = virtual(w, PHYSICAL);
	w->config.user_code = virtual(w, PHYSICAL + granule(w));
	assert_int_equal(map(w, w->config.kernel_code, granule(w), PHYSICAL, kernel), 0);
	assert_int_equal(map(w, w->config.user_code, granule(w), PHYSICAL + granule(w), user), 0);
}

static void world_open(struct world *w, unsigned machine)
{
	struct vd_pgtable_config config = {.env = &w->test.env, .format = machines[machine].format,
					   .page_shift = 12};
	size_t bytes;
	void *root;

	*w = (struct world){.architecture = machines[machine].architecture,
			    .format = machines[machine].format, .arena = ARENA_OFFSET,
			    .seed = *test_seed() = 31 + machine};
	test_env_init(&w->test);
	w->test.env.allocate = arena_allocate;
	w->test.env.release = arena_release;
	w->to_itself = cpu_maps_to_itself(w->architecture);
	w->memory = mmap(NULL, MEMORY_BYTES + MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(w->memory != MAP_FAILED);
	/* Alignment of host addresses is that of physical ones: tables are found by distance. */
	w->memory += -(uintptr_t)w->memory & (MIB - 1);
	config.window_base = (uintptr_t)w->memory - PHYSICAL;
	assert_int_equal(vd_pgtable_create(&config, &w->table, NULL), 0);
	root = vd_pgtable_root(w->table, &bytes);
	w->config = (struct cpu_config){
		.architecture = w->architecture,
		.memory = w->memory,
		.bytes = MEMORY_BYTES,
		.physical = PHYSICAL,
		.alias = ALIAS,
		.root = (uintptr_t)root - config.window_base,
		.control = w->architecture == CPU_ARM64 ? vd_mmu_format_arm64_control(w->format)
							: machines[machine].satp << 60,
	};
	map_code(w);
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t tag = 0x11110000 + page;

		cpu_write_target(w->architecture, data_host(w, page), 0x700 + page);
		memcpy(data_host(w, page) + TAG_OFFSET, &tag, sizeof(tag));
	}
}

static void world_close(struct world *w)
{
	vd_pgtable_destroy(w->table);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	munmap(w->memory, MEMORY_BYTES);
}

static uint64_t below(struct world *w, uint64_t n)
{
	return test_random(&w->seed) % n;
}

/* ---- what a leaf says now ------------------------------------------------------------------- */

struct lookup {
	uint64_t input;
	bool found;
	struct vd_mmu_leaf leaf;
};

static int look(void *context, uint64_t start, const struct vd_mmu_leaf *leaf)
{
	struct lookup *lookup = context;

	if (lookup->input - start >= leaf->size)
		return 0;
	lookup->found = true;
	lookup->leaf = *leaf;
	return 1;
}

static struct lookup leaf_at(struct world *w, uint64_t address)
{
	struct lookup lookup = {.input = input(w, address)};

	vd_pgtable_each(w->table, look, &lookup);
	return lookup;
}

/*
 * Who may do what: the rules of the architectures about modes. RISC-V with SUM and MXR clear; x86
 * without SMEP and SMAP; arm64 without PAN, where EL1 never runs what EL0 may.
 */
static bool allowed(const struct world *w, const struct vd_mmu_attributes *asked, bool user,
		    unsigned access)
{
	/* Without NX what a leaf says of it is reserved: all are made executable. */
	if (access == VD_EXECUTE && !cpu_has_no_execute(w->architecture))
		return asked->user || !user;
	if (!(asked->access & access) || (user && !asked->user))
		return false;
	if (user || !asked->user)
		return true;
	if (w->architecture == CPU_RISCV)
		return false;
	return w->architecture != CPU_ARM64 || access != VD_EXECUTE;
}

/*
 * One access to a page of data, which was mapped with @asked, or to nothing. What must come of it
 * is told from what was asked, not from what our own decoding says.
 */
static void check_access(struct world *w, uint64_t address, unsigned page,
			 const struct vd_mmu_attributes *asked, bool user, unsigned access)
{
	struct lookup before = leaf_at(w, address), after;
	bool allow = asked && allowed(w, asked, user, access);
	uint64_t value = 0x22220000 + below(w, 0x10000), seen = value, stored;
	uint64_t at = address + (access == VD_READ    ? TAG_OFFSET
				 : access == VD_WRITE ? STORE_OFFSET
						      : 0);
	enum cpu_result result = cpu_access(&w->config, user, access, at, &seen);

	if (result != (allow ? CPU_OK : CPU_PAGE_FAULT))
		fail_msg("%s: access %u by %s to 0x%llx, where %u%s is allowed: %s",
			 w->format->name, access, user ? "user" : "supervisor",
			 (unsigned long long)at, asked ? asked->access : 0,
			 asked && asked->user ? " for users" : "",
			 allow ? "fault" : "no fault");
	memcpy(&stored, data_host(w, page) + STORE_OFFSET, sizeof(stored));
	if (allow && access == VD_READ)
		assert_int_equal(seen, 0x11110000 + page);
	if (allow && access == VD_EXECUTE)
		assert_int_equal(seen, 0x700 + page);
	if (access == VD_WRITE)
		assert_int_equal(stored == value, allow);
	after = leaf_at(w, address);
	assert_int_equal(after.found, asked != NULL);
	if (!asked)
		return;
	assert_int_equal(after.leaf.accessed, before.leaf.accessed || allow);
	if (w->format->flags & VD_MMU_FORMAT_DIRTY)
		assert_int_equal(after.leaf.dirty,
				 before.leaf.dirty || (allow && access == VD_WRITE));
}

/* ---- tests ---------------------------------------------------------------------------------- */

static struct vd_mmu_attributes random_attributes(struct world *w)
{
	struct vd_mmu_attributes attributes;

	do {
		attributes = (struct vd_mmu_attributes){
			.access = (unsigned)below(w, 8),
			.accessed = below(w, 2),
			.device = below(w, 2),
			.user = below(w, 2),
			.global = below(w, 2),
		};
		if (!cpu_has_no_execute(w->architecture))
			attributes.access |= VD_EXECUTE;
		/* None of these processors sets AF, nor knows Svpbmt. */
		attributes.accessed |= w->architecture == CPU_ARM64;
		if (w->architecture != CPU_RISCV)
			attributes.type = (enum vd_memory_type)below(w, 3);
	} while (!w->format->can(&attributes, 0));
	return attributes;
}

/* Single pages of all kinds of attributes, at random places, and places where nothing is. */
static void run_pages(unsigned machine)
{
	struct vd_mmu_attributes asked[SLOTS];
	bool mapped[SLOTS] = {false};
	unsigned pages[SLOTS];
	struct world w;

	world_open(&w, machine);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		uint64_t address = virtual(&w, data_physical(&w, slot));

		pages[slot] = w.to_itself ? slot % PAGES : (unsigned)below(&w, PAGES);
		if (slot >= PAGES && w.to_itself)
			continue;
		mapped[slot] = below(&w, 4);
		asked[slot] = random_attributes(&w);
		if (mapped[slot])
			assert_int_equal(map(&w, address, granule(&w),
					     data_physical(&w, pages[slot]), asked[slot]), 0);
	}
	for (unsigned n = 0; n < 100; n++) {
		unsigned slot = (unsigned)below(&w, SLOTS);

		check_access(&w, virtual(&w, data_physical(&w, slot)), pages[slot],
			     mapped[slot] ? &asked[slot] : NULL, below(&w, 2),
			     1u << below(&w, 3));
	}
	world_close(&w);
}

/* A block of each level, changed and taken away by the library while the processor looks. */
static void run_block(unsigned machine, unsigned level)
{
	struct vd_mmu_attributes all = {.access = VD_READ | VD_WRITE | VD_EXECUTE,
					.accessed = machines[machine].architecture == CPU_ARM64};
	uint64_t size, offset, start, data = ALIAS + DATA_OFFSET;
	struct world w;

	world_open(&w, machine);
	size = vd_mmu_format_size(w.format, level);
	offset = DATA_OFFSET & ~(size - 1);
	start = ALIAS + offset;
	assert_int_equal(map(&w, start, size, (w.to_itself ? ALIAS : PHYSICAL) + offset, all), 0);
	assert_int_equal(leaf_at(&w, start).leaf.size, size);
	for (unsigned page = 0; page < PAGES; page += 5) {
		uint64_t address = data + page * granule(&w);

		for (unsigned access = VD_READ; access <= VD_EXECUTE; access *= 2)
			check_access(&w, address, page, &all, false, access);
		check_access(&w, address, page, &all, true, VD_READ);
	}
	all.access &= ~VD_WRITE;
	assert_int_equal(vd_pgtable_protect(w.table, start, size, all.access), 0);
	assert_int_equal(leaf_at(&w, start).leaf.size, size);
	check_access(&w, data, 0, &all, false, VD_WRITE);
	check_access(&w, data, 0, &all, false, VD_EXECUTE);
	assert_int_equal(vd_pgtable_split(w.table, start, size, level - 1), 0);
	assert_true(leaf_at(&w, data).leaf.size < size);
	check_access(&w, data, 0, &all, false, VD_READ);
	check_access(&w, data + granule(&w), 1, &all, false, VD_READ);
	assert_int_equal(vd_pgtable_unmap(w.table, start, size, NULL), 0);
	check_access(&w, data, 0, NULL, false, VD_READ);
	world_close(&w);
}

static void run_blocks(unsigned machine)
{
	for (unsigned level = 1; level <= machines[machine].format->block_level; level++)
		run_block(machine, level);
}

/* The other half of the address space, whose addresses are the sign-extended ones. */
static void run_high_half(unsigned machine)
{
	struct vd_mmu_attributes ram = {.access = VD_READ | VD_WRITE};
	struct world w;
	uint64_t high;

	world_open(&w, machine);
	high = -(uint64_t)(4 * granule(&w));
	assert_int_equal(map(&w, high, granule(&w), data_physical(&w, 3), ram), 0);
	check_access(&w, high, 3, &ram, false, VD_READ);
	check_access(&w, high, 3, &ram, false, VD_WRITE);
	check_access(&w, high, 3, &ram, false, VD_EXECUTE);
	check_access(&w, high + granule(&w), 3, NULL, false, VD_READ);
	world_close(&w);
}

/* arm64: a leaf without AF faults, since these processors do not set it; a marked group is found. */
static void run_arm64(unsigned machine)
{
	struct vd_mmu_attributes ram = {.access = VD_READ | VD_WRITE, .accessed = true};
	struct vd_mmu_attributes old = {.access = VD_READ};
	uint64_t address = UINT64_C(0x5000000000), value = 0, group;
	struct world w;

	world_open(&w, machine);
	assert_int_equal(map(&w, address, granule(&w), data_physical(&w, 2), old), 0);
	assert_int_equal(cpu_access(&w.config, false, VD_READ, address, &value), CPU_PAGE_FAULT);
	address += GIB;
	group = granule(&w) << w.format->contiguous[0];
	assert_int_equal(map(&w, address, group, PHYSICAL + DATA_OFFSET, ram), 0);
	assert_int_equal(leaf_at(&w, address).leaf.size, group);
	for (unsigned page = 0; page < PAGES; page += 3) {
		check_access(&w, address + page * granule(&w), page, &ram, false, VD_READ);
		check_access(&w, address + page * granule(&w), page, &ram, false, VD_WRITE);
	}
	world_close(&w);
}

static void pages_are_what_the_tables_say(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MACHINES; i++)
		run_pages(i);
}

static void blocks_are_what_the_tables_say(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MACHINES; i++)
		run_blocks(i);
}

static void high_addresses_are_translated(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MACHINES; i++) {
		if (machines[i].architecture == CPU_RISCV ||
		    (machines[i].architecture != CPU_ARM64 && machines[i].format->levels > 3 &&
		     !cpu_maps_to_itself(machines[i].architecture)))
			run_high_half(i);
	}
}

static void arm64_flags_and_groups(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MACHINES; i++) {
		if (machines[i].architecture == CPU_ARM64)
			run_arm64(i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(pages_are_what_the_tables_say, test_seed_print),
		cmocka_unit_test_teardown(blocks_are_what_the_tables_say, test_seed_print),
		cmocka_unit_test_teardown(high_addresses_are_translated, test_seed_print),
		cmocka_unit_test_teardown(arm64_flags_and_groups, test_seed_print),
	};

	if (cpu_maps_to_itself(CPU_X86_64))
		printf("[  NOTE    ] this Unicorn is older than 2.1: its x86 processors have no NX, "
		       "and take virtual addresses for physical ones after the walk\n");
	return cmocka_run_group_tests_name("mmu unicorn", tests, NULL, NULL);
}
