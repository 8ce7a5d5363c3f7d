/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hart's state, as its own files see it. Everything is owned by the hart's thread unless _Atomic.
 */
#ifndef VCPU_RISCV_HART_H
#define VCPU_RISCV_HART_H

#include <viaduct/vcpu.h>

#define PAGE_SHIFT 12u
#define PAGE_SIZE (1ull << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Poll points look for requests at least this often (instructions). */
#define SLICE 8192u

#define DATA_TLB_ENTRIES 512u
#define CODE_TLB_ENTRIES 256u
#define STAGE2_TLB_ENTRIES 512u
#define MMIO_TLB_ENTRIES 16u
#define BLOOM_BITS 512u

enum privilege { PRIV_U = 0, PRIV_S = 1, PRIV_M = 3 };

/*
 * Translations that differ by privilege live in sets of their own, so that a trap flushes nothing.
 */
enum data_context { DATA_U, DATA_S, DATA_S_SUM, DATA_M, DATA_CONTEXTS };
enum code_context { CODE_U, CODE_S, CODE_M, CODE_CONTEXTS };

/* An entry whose tag can never equal a page address with zero low bits. */
#define TAG_NONE UINT64_MAX

/* A 4 KiB piece of a translation: host = va + addend. */
struct data_tlb_entry {
	uint64_t tag;
	uint64_t addend;
};

/* va page -> gpa page of a trapped area; only says where, never what is there. */
struct mmio_tlb_entry {
	uint64_t tag;
	uint64_t gpa;
	uint64_t access;
};

struct data_tlb {
	struct data_tlb_entry read[DATA_TLB_ENTRIES];
	struct data_tlb_entry write[DATA_TLB_ENTRIES];
	struct mmio_tlb_entry mmio[MMIO_TLB_ENTRIES];
	struct mmio_tlb_entry tables[MMIO_TLB_ENTRIES]; /* stores to be emulated: shadow.c */
};

struct code_page;
struct code_tlb_entry {
	uint64_t tag;
	struct code_page *page;
};

struct stage2_tlb_entry {
	uint64_t tag; /* gpa page */
	uint64_t addend;
	unsigned access;
};

/* One decoded instruction; what the fields mean is the operation's business (op.h). */
struct op {
	uint16_t code;
	uint8_t rd;
	uint8_t rs1;
	int32_t imm;
};

/* requests */
#define REQUEST_FLUSH 1u
#define REQUEST_STOP 2u
#define REQUEST_INTERRUPT 4u
#define REQUEST_POLL 8u
#define REQUEST_SOFTWARE 32u /* SSIP, from another hart */
#define REQUEST_LOST_PAGE 16u /* the fault guard put zeroes under an access */

/* where */
#define HART_OUTSIDE 0u
#define HART_IN_GUEST 1u

/* A shadow root in use, and the satp it stands for. */
struct hart_root {
	struct vd_shadow_root *root;
	uint64_t satp;
};

struct imsic {
	_Atomic uint64_t pending[4];
	uint64_t enabled[4];
	uint64_t delivery, threshold;
};

#define HART_STATS (sizeof(struct vd_hart_stats) / sizeof(uint64_t))

struct vd_hart {
	uint64_t x[33]; /* x[0] reads as zero; x[32] takes what is written to x0 */
	uint64_t pc;	/* exact only between operations of the run loop */
	uint64_t count; /* instructions, brought up to date when the run loop is left */
	_Atomic uint64_t limit; /* poll when count reaches it; others store 0 */
	struct data_tlb *data;	/* of the current context */
	struct code_tlb_entry *code;
	uint64_t page_va;	/* of the code page that runs */
	uint64_t page_tag;	/* the same, or TAG_NONE where jumps must not stay in it */
	struct op *page_ops;

	uint64_t f[32];
	uint32_t fcsr;
	bool fp_on;

	uint64_t reservation, reservation_value; /* LR address (gva), or ~0 */

	enum privilege privilege;
	uint64_t sstatus; /* all of mstatus' bits that exist */
	uint64_t sie, sip_software, stvec, sscratch, sepc, scause, stval, satp, senvcfg;
	uint64_t scounteren, stimecmp, siselect;
	/* M mode, with VD_HART_MACHINE only */
	uint64_t medeleg, mideleg, mie, mtvec, mscratch, mepc, mcause, mtval, mcounteren, menvcfg;
	uint64_t pmpcfg[2], pmpaddr[16], mcountinhibit, mip_software;
	uint64_t count_base[2]; /* cycle and instret are count less this */
	struct imsic imsic;

	/* Shoot-down: see vcpu.h. */
	_Atomic uint32_t requests;
	_Atomic uint32_t where;
	_Atomic uint32_t waiters;
	_Atomic uint32_t left; /* changes when the hart acknowledges or goes outside */
	_Atomic uint32_t idle;
	_Atomic uint32_t fences; /* changed by barriers: ops_atomic.c */

	uint64_t fault_va;     /* which byte a slow access stopped at */
	uint64_t flushes_seen; /* changes with each flush: walks from before start again */
	uint64_t bloom[3][BLOOM_BITS / 64]; /* superpages in the TLBs, by 2 MiB, 1 GiB, 512 GiB */
	struct data_tlb data_tlbs[DATA_CONTEXTS];
	struct code_tlb_entry code_tlbs[CODE_CONTEXTS][CODE_TLB_ENTRIES];
	struct stage2_tlb_entry stage2_tlb[STAGE2_TLB_ENTRIES];

	struct hart_root roots[2]; /* without paging, and of satp; changed outside */
	struct vd_shadow_write store; /* under way while emulating */
	uint64_t emulated_va;
	bool emulating;

	struct op straddle[4]; /* an instruction that lies across two pages */
	bool waiting;	       /* a WFI was executed */
	bool leave;	       /* vd_hart_run() shall return */
	bool user_only;	       /* vd_hart_set_user(): no kernel, ecalls go to the machine */
	uint64_t ns_per_tick;
	uint64_t time_offset; /* ticks that time is ahead of the environment's clock */
	struct code_cache *cache;
	uint64_t code_generation; /* fence.i */

	enum vd_hart_exit exit;
	bool check_failed;
	uintptr_t window;
	struct vd_hart_config config;
	struct vd_hart *next; /* in the group */
	struct vd_host_guard guard;
	struct vd_mem_hint hint;
	struct vd_hart_stats stats;
	/* stats for other threads, brought up to date now and then */
	_Atomic uint64_t published[HART_STATS];
};

struct vd_hart_group {
	const struct vd_env *env;
	struct vd_lock lock;
	struct vd_hart *first;
	struct vd_mem *mem;
	struct vd_listener listener;
	_Atomic uint64_t flushes;
	_Atomic uint32_t fences; /* the same for all harts, where a word of their own is too weak */
};

/* Exception causes, RISC-V privileged manual, table of scause values. */
enum cause {
	CAUSE_FETCH_MISALIGNED = 0, CAUSE_FETCH_ACCESS = 1, CAUSE_ILLEGAL = 2,
	CAUSE_BREAKPOINT = 3, CAUSE_LOAD_MISALIGNED = 4, CAUSE_LOAD_ACCESS = 5,
	CAUSE_STORE_MISALIGNED = 6, CAUSE_STORE_ACCESS = 7, CAUSE_ECALL_U = 8,
	CAUSE_ECALL_S = 9, CAUSE_ECALL_M = 11, CAUSE_FETCH_PAGE = 12,
	CAUSE_LOAD_PAGE = 13, CAUSE_STORE_PAGE = 15,
	CAUSE_NONE = 64,
};

/* sstatus/mstatus fields, privileged manual 3.1.6 */
#define STATUS_SIE (1ull << 1)
#define STATUS_MIE (1ull << 3)
#define STATUS_SPIE (1ull << 5)
#define STATUS_MPIE (1ull << 7)
#define STATUS_SPP (1ull << 8)
#define STATUS_MPP (3ull << 11)
#define STATUS_FS (3ull << 13)
#define STATUS_FS_INITIAL (1ull << 13)
#define STATUS_MPRV (1ull << 17)
#define STATUS_SUM (1ull << 18)
#define STATUS_MXR (1ull << 19)
#define STATUS_TVM (1ull << 20)
#define STATUS_TW (1ull << 21)
#define STATUS_TSR (1ull << 22)
#define STATUS_UXL (2ull << 32)
#define STATUS_SXL (2ull << 34)
#define STATUS_SD (1ull << 63)

#define IRQ_SSOFT 1u
#define IRQ_MSOFT 3u
#define IRQ_STIMER 5u
#define IRQ_MTIMER 7u
#define IRQ_SEXT 9u
#define IRQ_MEXT 11u

static inline bool hart_machine(const struct vd_hart *h)
{
	return h->config.flags & VD_HART_MACHINE;
}

/* run.c */
void vd_hart_publish_stats(struct vd_hart *h);

/* group.c: the shoot-down protocol's hart side */
void vd_hart_go_outside(struct vd_hart *h);
void vd_hart_go_inside(struct vd_hart *h);
void vd_hart_acknowledge_flush(struct vd_hart *h);
void vd_hart_request(struct vd_hart *h, uint32_t bits);
void vd_hart_group_add(struct vd_hart *h);
void vd_hart_group_remove(struct vd_hart *h);

/* tlb.c */
void vd_tlb_flush_all(struct vd_hart *h);
void vd_tlb_flush_stage2(struct vd_hart *h);
void vd_tlb_flush_page(struct vd_hart *h, uint64_t va);
void vd_tlb_note_superpage(struct vd_hart *h, uint64_t va, unsigned level);
void vd_tlb_update_context(struct vd_hart *h);

/*
 * translate.c: all of these may go outside and come back; they return CAUSE_NONE or the cause of an
 * exception. Inside, host pointers they return are good until the hart next goes outside or polls.
 */
struct translation {
	uint64_t gpa;
	void *host; /* NULL: a trapped area, or a store to be emulated */
	bool emulate;
};
enum cause vd_translate(struct vd_hart *h, uint64_t va, unsigned access, struct translation *t);
enum cause vd_load_slow(struct vd_hart *h, uint64_t va, unsigned size, uint64_t *value);
enum cause vd_store_slow(struct vd_hart *h, uint64_t va, unsigned size, uint64_t value);

/*
 * shadow.c. vd_shadow_path() takes the place of both stages; with t->emulate, the store is done at
 * vd_emulate_begin()'s pointer, which is NULL for an access fault, and then ended. In between the
 * hart is outside.
 */
enum cause vd_shadow_path(struct vd_hart *h, uint64_t va, unsigned access,
			  enum privilege privilege, struct translation *t, unsigned *level);
bool vd_emulate_cached(struct vd_hart *h, uint64_t va, uint64_t *gpa);
void *vd_emulate_begin(struct vd_hart *h, uint64_t va, uint64_t gpa, unsigned size);
void vd_emulate_end(struct vd_hart *h);
void vd_hart_roots_put(struct vd_hart *h);

/* trap.c */
void vd_trap_take(struct vd_hart *h, uint64_t pc, uint64_t cause, uint64_t tval);
unsigned vd_trap_top(struct vd_hart *h); /* major interrupt to take, by sie only; 0 for none */
bool vd_trap_interrupt(struct vd_hart *h);
bool vd_trap_pending(struct vd_hart *h); /* enabled in sie or mie, whatever SIE or MIE say */
bool vd_trap_ecall(struct vd_hart *h, uint64_t pc); /* true: go on behind it */
void vd_trap_sret(struct vd_hart *h);
void vd_trap_mret(struct vd_hart *h);
uint64_t vd_hart_sip(struct vd_hart *h);

/* csr.c */
enum csr_result { CSR_OK, CSR_ILLEGAL, CSR_LEAVE };
enum csr_result vd_csr_access(struct vd_hart *h, unsigned csr, bool writes, unsigned operation,
			   uint64_t operand, uint64_t *old);
bool vd_csr_machine_read(struct vd_hart *h, unsigned csr, uint64_t *value);
bool vd_csr_machine_write(struct vd_hart *h, unsigned csr, uint64_t value);

/* imsic.c */
uint64_t vd_imsic_top(struct vd_hart *h); /* stopei's value: identity << 16 | identity, 0 if none */
bool vd_imsic_signals(struct vd_hart *h);  /* whether it raises the external interrupt */
void vd_imsic_claim(struct vd_hart *h, uint64_t identity);
bool vd_imsic_read(struct vd_hart *h, uint64_t select, uint64_t *value);
/* @old: what the instruction that writes has read */
bool vd_imsic_write(struct vd_hart *h, uint64_t select, uint64_t old, uint64_t value);

/* code.c */
int vd_code_cache_create(struct vd_hart *h);
void vd_code_cache_destroy(struct vd_hart *h);
void vd_code_fence(struct vd_hart *h);
/*
 * Where to go on at @pc: sets page_va and page_ops; NULL if a fetch exception was taken (h->pc is
 * set).
 */
const struct op *vd_code_find(struct vd_hart *h, uint64_t pc);
const struct op *vd_code_straddle(struct vd_hart *h, const struct op *op);
uint32_t vd_code_instruction(const struct vd_hart *h, const struct op *op);

#endif
