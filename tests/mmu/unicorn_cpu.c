/* SPDX-License-Identifier: BSD-2-Clause */
#include "unicorn_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unicorn/unicorn.h>

/* Where the programs are. ENTER takes the machine to user mode, or out of the reset state. */
enum { READ = 0, WRITE = 16, JUMP = 32, ENTER = 48 };

#define EFER 0xc0000080u
#define EFER_NXE 0x800u
#define SYSENTER_CS 0x174u
#define X86_PAGE_FAULT 14u

static void check(uc_err error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "unicorn: %s: %s\n", what, uc_strerror(error));
	abort();
}

static void set(uc_engine *uc, int id, uint64_t value)
{
	check(uc_reg_write(uc, id, &value), "register");
}

static uint64_t get(uc_engine *uc, int id)
{
	uint64_t value = 0;

	check(uc_reg_read(uc, id, &value), "register");
	return value;
}

/* ---- programs ------------------------------------------------------------------------------- */

static const uint8_t x86_64_code[CPU_CODE_BYTES] = {
	[READ] = 0x48, 0x8b, 0x03,  /* mov rax, [rbx] */
	[WRITE] = 0x48, 0x89, 0x03, /* mov [rbx], rax */
	[JUMP] = 0xff, 0xe3,	    /* jmp rbx */
	[ENTER] = 0x48, 0x0f, 0x35, /* sysexit */
};

static const uint8_t x86_32_code[CPU_CODE_BYTES] = {
	[READ] = 0x8b, 0x03,  /* mov eax, [ebx] */
	[WRITE] = 0x89, 0x03, /* mov [ebx], eax */
	[JUMP] = 0xff, 0xe3,  /* jmp ebx */
	[ENTER] = 0x0f, 0x35, /* sysexit */
};

static const uint8_t riscv_code[CPU_CODE_BYTES] = {
	[READ] = 0x03, 0xb5, 0x05, 0x00,  /* ld a0, 0(a1) */
	[WRITE] = 0x23, 0xb0, 0xa5, 0x00, /* sd a0, 0(a1) */
	[JUMP] = 0x67, 0x80, 0x05, 0x00,  /* jr a1 */
	[ENTER] = 0x73, 0x00, 0x20, 0x30, /* mret */
};

static const uint8_t arm64_code[CPU_CODE_BYTES] = {
	[READ] = 0x20, 0x00, 0x40, 0xf9,  /* ldr x0, [x1] */
	[WRITE] = 0x20, 0x00, 0x00, 0xf9, /* str x0, [x1] */
	[JUMP] = 0x20, 0x00, 0x1f, 0xd6,  /* br x1 */
	[ENTER] = 0x22, 0x40, 0x18, 0xd5, /* msr elr_el1, x2 */
	0x03, 0x40, 0x18, 0xd5,		  /* msr spsr_el1, x3 */
	0xe0, 0x03, 0x9f, 0xd6,		  /* eret */
};

static const struct {
	const uint8_t *code;
	unsigned length[3]; /* of read, write and target */
} programs[] = {
	[CPU_X86_64] = {x86_64_code, {3, 3, 5}},
	[CPU_X86_LA57] = {x86_64_code, {3, 3, 5}},
	[CPU_X86_PAE] = {x86_32_code, {2, 2, 5}},
	[CPU_RISCV] = {riscv_code, {4, 4, 4}},
	[CPU_ARM64] = {arm64_code, {4, 4, 4}},
};

void cpu_write_programs(enum cpu_architecture architecture, uint8_t *code)
{
	memcpy(code, programs[architecture].code, CPU_CODE_BYTES);
}

void cpu_write_target(enum cpu_architecture architecture, uint8_t *code, unsigned value)
{
	uint32_t instruction;

	switch (architecture) {
	case CPU_X86_64:
	case CPU_X86_LA57:
	case CPU_X86_PAE:
		code[0] = 0xb8; /* mov eax, value */
		instruction = value;
		memcpy(code + 1, &instruction, 4);
		return;
	case CPU_RISCV:
		instruction = value << 20 | 0x513; /* li a0, value */
		break;
	case CPU_ARM64:
		instruction = 0xd2800000 | value << 5; /* movz x0, value */
		break;
	default:
		abort();
	}
	memcpy(code, &instruction, 4);
}

/* ---- processors ----------------------------------------------------------------------------- */

/* What the hooks see of one run. */
struct run {
	enum cpu_architecture architecture;
	uint32_t interrupt;
	bool interrupted, unmapped;
};

static void on_interrupt(uc_engine *uc, uint32_t number, void *context)
{
	struct run *run = context;

	if (!run->interrupted)
		run->interrupt = number;
	run->interrupted = true;
	uc_emu_stop(uc);
}

static bool before_2_1(void)
{
	unsigned major = 0, minor = 0;

	uc_version(&major, &minor);
	return major < 2 || (major == 2 && minor < 1);
}

/* A physical address where nothing is: no fault of the guest, but of the tables or the test. */
static bool on_unmapped(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value,
			void *context)
{
	struct run *run = context;

	(void)uc, (void)type, (void)address, (void)size, (void)value;
	run->unmapped = true;
	return false;
}

static bool is_page_fault(const struct run *run)
{
	switch (run->architecture) {
	case CPU_X86_64:
	case CPU_X86_LA57:
	case CPU_X86_PAE:
		return run->interrupt == X86_PAGE_FAULT;
	case CPU_RISCV: /* instruction, load and store page fault */
		return run->interrupt == 12 || run->interrupt == 13 || run->interrupt == 15;
	case CPU_ARM64: /* what QEMU numbers a prefetch and a data abort */
		return run->interrupt == 3 || run->interrupt == 4;
	default:
		return false;
	}
}

static uc_engine *engine_open(enum cpu_architecture architecture)
{
	uc_engine *uc = NULL;

	switch (architecture) {
	case CPU_X86_64:
	case CPU_X86_LA57:
		check(uc_open(UC_ARCH_X86, UC_MODE_64, &uc), "open");
		/* Intel's, for a sysexit to 64 bits and 5 levels. */
		check(uc_ctl_set_cpu_model(uc, UC_CPU_X86_ICELAKE_SERVER), "model");
		break;
	case CPU_X86_PAE:
		check(uc_open(UC_ARCH_X86, UC_MODE_32, &uc), "open");
		break;
	case CPU_RISCV:
		check(uc_open(UC_ARCH_RISCV, UC_MODE_RISCV64, &uc), "open");
		break;
	case CPU_ARM64:
		check(uc_open(UC_ARCH_ARM64, UC_MODE_ARM, &uc), "open");
		break;
	}
	return uc;
}

static void msr_set(uc_engine *uc, uint32_t number, uint64_t value)
{
	uc_x86_msr msr = {.rid = number, .value = value};

	check(uc_reg_write(uc, UC_X86_REG_MSR, &msr), "msr");
}

static uint64_t msr_get(uc_engine *uc, uint32_t number)
{
	uc_x86_msr msr = {.rid = number};

	check(uc_reg_read(uc, UC_X86_REG_MSR, &msr), "msr");
	return msr.value;
}

/* PAE, PGE, and LA57; WP and PG. */
static void x86_start(uc_engine *uc, const struct cpu_config *config)
{
	msr_set(uc, EFER, msr_get(uc, EFER) | EFER_NXE);
	msr_set(uc, SYSENTER_CS, 8);
	set(uc, UC_X86_REG_CR3, config->root);
	set(uc, UC_X86_REG_CR4, config->architecture == CPU_X86_LA57 ? 0x10a0 : 0xa0);
	set(uc, UC_X86_REG_CR0, get(uc, UC_X86_REG_CR0) | 0x80010001);
}

static void arm64_system(uc_engine *uc, unsigned op1, unsigned crn, unsigned crm, unsigned op2,
			 uint64_t value)
{
	uc_arm64_cp_reg reg = {.crn = crn, .crm = crm, .op0 = 3, .op1 = op1, .op2 = op2,
			       .val = value};

	check(uc_reg_write(uc, UC_ARM64_REG_CP_REG, &reg), "system register");
}

/*
 * SCR_EL3 makes EL1 one of 64 bits, which it is not after Unicorn's reset. Then MAIR_EL1, TCR_EL1
 * (EPD1, 48 bits of physical address), TTBR0_EL1, and M and C of SCTLR_EL1.
 */
static void arm64_start(uc_engine *uc, const struct cpu_config *config)
{
	arm64_system(uc, 6, 1, 1, 0, 0x400);
	arm64_system(uc, 0, 10, 2, 0, VD_MMU_ARM64_MAIR);
	arm64_system(uc, 0, 2, 0, 2, config->control | UINT64_C(1) << 23 | UINT64_C(5) << 32);
	arm64_system(uc, 0, 2, 0, 0, config->root);
	arm64_system(uc, 0, 1, 0, 0, 0x00c5083d);
}

static bool is_x86(enum cpu_architecture architecture)
{
	return architecture == CPU_X86_64 || architecture == CPU_X86_LA57 ||
	       architecture == CPU_X86_PAE;
}

/* Puts the arguments of a program into its registers. Return: the address to start at. */
static uint64_t program_load(uc_engine *uc, const struct cpu_config *config, bool user,
			     uint64_t program, uint64_t address, uint64_t value)
{
	bool wide = config->architecture != CPU_X86_PAE;

	if (is_x86(config->architecture)) {
		x86_start(uc, config);
		set(uc, wide ? UC_X86_REG_RBX : UC_X86_REG_EBX, address);
		set(uc, wide ? UC_X86_REG_RAX : UC_X86_REG_EAX, value);
		set(uc, wide ? UC_X86_REG_RDX : UC_X86_REG_EDX, program);
		return user ? config->kernel_code + ENTER : program;
	}
	if (config->architecture == CPU_RISCV) {
		set(uc, UC_RISCV_REG_SATP, config->control | config->root >> 12);
		set(uc, UC_RISCV_REG_MEPC, program);
		set(uc, UC_RISCV_REG_MSTATUS, user ? 0 : 1 << 11); /* MPP */
		set(uc, UC_RISCV_REG_A1, address);
		set(uc, UC_RISCV_REG_A0, value);
		return config->physical_code + ENTER;
	}
	arm64_start(uc, config);
	set(uc, UC_ARM64_REG_X0, value);
	set(uc, UC_ARM64_REG_X1, address);
	set(uc, UC_ARM64_REG_X2, program);
	set(uc, UC_ARM64_REG_X3, 0); /* EL0t */
	return user ? config->kernel_code + ENTER : program;
}

static uint64_t program_result(uc_engine *uc, enum cpu_architecture architecture)
{
	if (is_x86(architecture))
		return get(uc, architecture == CPU_X86_PAE ? UC_X86_REG_EAX : UC_X86_REG_RAX);
	return get(uc, architecture == CPU_RISCV ? UC_RISCV_REG_A0 : UC_ARM64_REG_X0);
}

static uint64_t program_counter(uc_engine *uc, enum cpu_architecture architecture)
{
	if (is_x86(architecture))
		return get(uc, architecture == CPU_X86_PAE ? UC_X86_REG_EIP : UC_X86_REG_RIP);
	return get(uc, architecture == CPU_RISCV ? UC_RISCV_REG_PC : UC_ARM64_REG_PC);
}

/*
 * Before 2.1, Unicorn wants memory at the virtual address too, and then does not touch it: it gets
 * some, all zero, where the test has none.
 */
static void decoy(uc_engine *uc, uint64_t address)
{
	if (before_2_1())
		(void)uc_mem_map(uc, address & ~UINT64_C(0xfff), 0x1000, UC_PROT_ALL);
}

enum cpu_result cpu_access(const struct cpu_config *config, bool user, unsigned access,
			   uint64_t address, uint64_t *value)
{
	const unsigned *length = programs[config->architecture].length;
	uint64_t code = user ? config->user_code : config->kernel_code;
	uint64_t program = code + (access == VD_READ ? READ : access == VD_WRITE ? WRITE : JUMP);
	uint64_t end = access == VD_EXECUTE ? address + length[2]
					    : program + length[access == VD_WRITE];
	struct run run = {.architecture = config->architecture};
	uc_engine *uc = engine_open(config->architecture);
	uint64_t start, stopped;
	uc_hook hooks[2];
	uc_err error;

	check(uc_mem_map_ptr(uc, config->physical, config->bytes, UC_PROT_ALL, config->memory),
	      "memory");
	check(uc_mem_map_ptr(uc, config->alias, config->bytes, UC_PROT_ALL, config->memory),
	      "memory");
	check(uc_hook_add(uc, &hooks[0], UC_HOOK_INTR, (void *)on_interrupt, &run, 1, 0), "hook");
	check(uc_hook_add(uc, &hooks[1], UC_HOOK_MEM_INVALID, (void *)on_unmapped, &run, 1, 0),
	      "hook");
	decoy(uc, config->kernel_code);
	decoy(uc, config->user_code);
	decoy(uc, address);
	start = program_load(uc, config, user, program, address, *value);
	error = uc_emu_start(uc, start, end, 0, 16);
	stopped = program_counter(uc, config->architecture);
	*value = program_result(uc, config->architecture);
	uc_close(uc);
	if (run.interrupted && is_page_fault(&run))
		return CPU_PAGE_FAULT;
	if (!run.interrupted && !run.unmapped && !error && stopped == end)
		return CPU_OK;
	fprintf(stderr, "unicorn: access %u to 0x%llx as %s: %s, interrupt %u, stopped at 0x%llx%s\n",
		access, (unsigned long long)address, user ? "user" : "supervisor",
		uc_strerror(error), run.interrupted ? run.interrupt : 0,
		(unsigned long long)stopped, run.unmapped ? ", no memory there" : "");
	abort();
}

/* ---- what this Unicorn lacks ---------------------------------------------------------------- */

bool cpu_maps_to_itself(enum cpu_architecture architecture)
{
	return is_x86(architecture) && before_2_1();
}

bool cpu_has_no_execute(enum cpu_architecture architecture)
{
	return !is_x86(architecture) || !before_2_1();
}
