/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Harts with RAM, second-stage tables and nothing else, for tests that look at what a program sees:
 * a few instructions of supervisor code enter the program and record the traps it takes.
 */
#ifndef VD_TESTS_VCPU_RIG_H
#define VD_TESTS_VCPU_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <viaduct/vcpu.h>

#include "insn_names.h"

#define RIG_PAGE UINT64_C(0x1000)
#define RIG_RAM UINT64_C(0x80000000)
#define RIG_RAM_BYTES UINT64_C(0x1000000)
#define RIG_STUB RIG_RAM			 /* one page of supervisor code */
#define RIG_CODE (RIG_RAM + 0x1000)		 /* programs */
#define RIG_TABLES (RIG_RAM + UINT64_C(0x100000)) /* first-stage tables, 1 MiB */
#define RIG_DATA (RIG_RAM + UINT64_C(0x200000))
#define RIG_HARTS_MAX 4u
#define RIG_TRAPS_MAX 64u

/* Programs keep off x27 to x31, which recording a trap changes; x17 says which step an ecall is. */
#define RIG_STEP_END 0

struct rig_trap {
	uint64_t cause, tval, pc;
};

struct rig;

/*
 * struct rig_setup - all may be 0
 * @flags: VD_HART_*
 * @mapped: bytes of RAM that lie in the guest from RIG_RAM on; 0 for all of it
 * @no_poll: harts have no poll operation: they stay in guest while a loop runs
 */
struct rig_setup {
	const struct vd_env *env;
	unsigned int harts, flags;
	size_t code_cache_bytes;
	uint64_t mapped;
	bool no_poll;
};

struct rig_hart {
	struct rig *rig;
	struct vd_hart *hart;
	struct rig_trap traps[RIG_TRAPS_MAX];
	unsigned int trap_count;
	unsigned int polls, polls_max; /* a program that runs on past these has hung; 0: never */
	bool hung;
	bool stay_at_fault; /* run the instruction that faulted again, once */
};

/*
 * @step: at an ecall with x17 != RIG_STEP_END; not 0 ends the run
 * @trap: at each trap, before it is recorded; not 0 ends the run. Optional
 */
struct rig {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_shadow *shadow; /* or NULL */
	struct vd_hart_group *group;
	struct rig_hart harts[RIG_HARTS_MAX];
	unsigned int hart_count;
	uint32_t ram_id;
	uint64_t satp, next_table;
	int (*step)(struct rig *rig, struct vd_hart *hart, uint64_t number);
	int (*trap)(struct rig *rig, struct vd_hart *hart, const struct rig_trap *trap);
	void (*poll)(struct rig *rig, struct vd_hart *hart);
	void (*idle)(struct rig *rig, struct vd_hart *hart, uint64_t deadline_ns);
	void (*wake)(struct rig *rig, struct vd_hart *hart);
	void *test; /* the test's own */
};

/* These fail the test rather than return an error. */
void rig_open(struct rig *rig, const struct rig_setup *setup);
void rig_close(struct rig *rig);
/* A trapped area whose operations get the rig. Return: its slot's id. */
uint32_t rig_trap_area(struct rig *rig, uint64_t gpa, uint64_t size, const struct vd_trap_ops *ops);

void rig_write(struct rig *rig, uint64_t gpa, const void *bytes, size_t length);
void rig_write64(struct rig *rig, uint64_t gpa, uint64_t value);
uint64_t rig_read64(struct rig *rig, uint64_t gpa);

#define RIG_LOAD(rig, gpa, ...)                                                                    \
	do {                                                                                       \
		const uint32_t code_[] = {__VA_ARGS__};                                            \
		rig_write(rig, gpa, code_, sizeof(code_));                                         \
	} while (0)

/* sstatus with which a program is entered: mode and options. */
#define RIG_USER 0u
#define RIG_SUPERVISOR (1u << 8)
#define RIG_INTERRUPTS (1u << 5) /* SPIE: sret turns SIE on */
#define RIG_FLOAT (1u << 13)
#define RIG_SUM (1u << 18)
#define RIG_MXR (1u << 19)

/* Reset a hart so that it will enter @pc; then set its x registers but for x5 to x8. */
struct vd_hart *rig_start(struct rig *rig, unsigned int hart, uint64_t pc, uint64_t sstatus);
/* Run to RIG_STEP_END; anything else fails the test. */
void rig_run(struct rig *rig, unsigned int hart);
/* Start at RIG_CODE, run. */
void rig_go(struct rig *rig, unsigned int hart, uint64_t sstatus);
/* Whether the only trap was this one; says what there was if not. */
void rig_expect_trap(struct rig *rig, unsigned int hart, uint64_t cause, uint64_t tval,
		     uint64_t pc);
void rig_expect_no_trap(struct rig *rig, unsigned int hart);

/* ---- first-stage tables ---------------------------------------------- */

#define RIG_V 1u
#define RIG_R 2u
#define RIG_W 4u
#define RIG_X 8u
#define RIG_U 16u
#define RIG_A 64u
#define RIG_D 128u
#define RIG_AD (RIG_A | RIG_D)

enum { RIG_SV39 = 8, RIG_SV48 = 9, RIG_SV57 = 10 };

/* Empty tables in which only RIG_STUB's page and 15 pages of code are mapped, each to itself. */
void rig_paging(struct rig *rig, unsigned int mode);
/* Map a leaf at @level (0: 4 KiB). Return: where in guest memory its entry lies. */
uint64_t rig_map(struct rig *rig, uint64_t va, uint64_t gpa, unsigned int level, uint64_t flags);

#define STEP(n) ADDI(17, 0, n), ECALL
#define END STEP(RIG_STEP_END)

enum rig_csr {
	CSR_FFLAGS = 0x001, CSR_FCSR = 0x003, CSR_SSTATUS = 0x100, CSR_SIE = 0x104,
	CSR_STVEC = 0x105, CSR_SCOUNTEREN = 0x106, CSR_SSCRATCH = 0x140, CSR_SEPC = 0x141,
	CSR_SCAUSE = 0x142, CSR_STVAL = 0x143, CSR_SIP = 0x144, CSR_STIMECMP = 0x14d,
	CSR_SISELECT = 0x150, CSR_SIREG = 0x151, CSR_STOPEI = 0x15c, CSR_SATP = 0x180,
	CSR_STOPI = 0xdb0, CSR_CYCLE = 0xc00, CSR_TIME = 0xc01, CSR_INSTRET = 0xc02,
};

/* Causes, privileged manual, table of scause values. */
enum rig_cause {
	FETCH_MISALIGNED = 0, FETCH_ACCESS = 1, ILLEGAL = 2, BREAKPOINT = 3, LOAD_MISALIGNED = 4,
	LOAD_ACCESS = 5, STORE_MISALIGNED = 6, STORE_ACCESS = 7, ECALL_USER = 8, FETCH_PAGE = 12,
	LOAD_PAGE = 13, STORE_PAGE = 15,
};
#define INTERRUPT(number) (UINT64_C(1) << 63 | (number))

#endif
