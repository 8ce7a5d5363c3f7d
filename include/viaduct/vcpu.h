/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 10, harts
 *
 * A software RISC-V hart (RV64GC, S and U mode, Sv39/48/57, Sstc, Ssaia with an IMSIC S-file; with
 * VD_HART_MACHINE also a small M mode for unmodified riscv-tests). Uses floors 0 to 3 only:
 * second-stage or shadow tables are the only source of its soft TLB.
 *
 * Shoot-down. A hart is *outside* (holds no host pointer: slow paths, callbacks, WFI) or *in
 * guest*. Whoever invalidates sets a request (seq_cst) and waits until the hart acknowledged it or
 * is outside; a hart that goes in publishes that (seq_cst) before it looks at its requests. Each of
 * the two therefore sees the other. A hart thread is always outside when it calls anything that may
 * invalidate, so it never waits for itself.
 */
#ifndef VIADUCT_VCPU_H
#define VIADUCT_VCPU_H

#include <viaduct/shadow.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_hart;
struct vd_hart_group;

/* ---- the group: all harts of one machine, a TLB-only listener -------------------------------- */

int vd_hart_group_create(const struct vd_env *env, struct vd_hart_group **group,
			 struct vd_error *error);
/** vd_hart_group_destroy() - harts must be destroyed first */
void vd_hart_group_destroy(struct vd_hart_group *group);
/**
 * vd_hart_group_listen() - empty the soft TLBs when the guest space changes
 * Call it after the tables of @mem were created: listeners are called in order, tables first.
 */
int vd_hart_group_listen(struct vd_hart_group *group, struct vd_mem *mem);
/**
 * vd_hart_group_flush() - every soft TLB is empty on return; suits struct vd_mmu_config.flush
 * Takes no lock a hart in guest could hold; waits for harts in guest to reach their next poll
 * point.
 */
void vd_hart_group_flush(void *group, vd_gpa start, uint64_t length);
uint64_t vd_hart_group_flushes(const struct vd_hart_group *group);

/* ---- one hart -------------------------------------------------------------------------------- */

#define VD_HART_MACHINE 1u   /* starts in M mode; environment calls are the guest's own */
#define VD_HART_SVADU 2u     /* updates A and D bits itself instead of faulting */
#define VD_HART_CHECK_TLB 4u /* every soft TLB fill is compared with a fresh walk and slot lookup */

enum vd_hart_exit {
	VD_HART_EXIT_STOP = 1, /* vd_hart_request_stop() */
	VD_HART_EXIT_HALT,     /* a callback asked for it (hart stop, power-off) */
	VD_HART_EXIT_CHECK,    /* VD_HART_CHECK_TLB found a difference */
};

/**
 * struct vd_hart_ops - services of the machine around a hart; called on its thread, outside
 * @ecall: environment call from S mode (SBI), or from any mode with VD_HART_MACHINE unset.
 *	Arguments and results are x10..x17. 0 to go on behind the ecall, 1 to leave vd_hart_run()
 *	with VD_HART_EXIT_HALT
 * @poll: look for completions; at least every 10 000 instructions. Optional
 * @idle: WFI with nothing pending: sleep until @wake is called, or @deadline_ns
 *	on the environment's clock (UINT64_MAX: none). May return early. Optional (then WFI does
 *	nothing, as it may)
 * @wake: end an @idle that is under way; any thread, and signal handlers. Needed if there is @idle
 */
struct vd_hart_ops {
	int (*ecall)(void *context, struct vd_hart *hart);
	void (*poll)(void *context, struct vd_hart *hart);
	void (*idle)(void *context, struct vd_hart *hart, uint64_t deadline_ns);
	void (*wake)(void *context, struct vd_hart *hart);
};

/**
 * struct vd_hart_config
 * @mmu: second-stage tables; the guest's own are walked by the hart
 * @shadow: shadow tables instead, then @mmu may be NULL. Its tables translate 57 bits
 * @code_cache_bytes: bound on pre-decoded code; 0 for 16 MiB
 */
struct vd_hart_config {
	const struct vd_env *env;
	struct vd_hart_group *group;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_shadow *shadow;
	unsigned id;
	unsigned flags;
	uint64_t timebase_hz;
	size_t code_cache_bytes; /* bound on pre-decoded code; 0 for 16 MiB */
	const struct vd_hart_ops *ops;
	void *context;
};

int vd_hart_create(const struct vd_hart_config *config, struct vd_hart **hart,
		   struct vd_error *error);
void vd_hart_destroy(struct vd_hart *hart);
unsigned vd_hart_id(const struct vd_hart *hart);

/**
 * vd_hart_run() - run the guest on the calling thread until something ends it
 * Return: why. State is kept: calling it again goes on.
 */
enum vd_hart_exit vd_hart_run(struct vd_hart *hart);
/** vd_hart_request_stop() - make vd_hart_run() return soon; any thread */
void vd_hart_request_stop(struct vd_hart *hart);
/** vd_hart_request_poll() - make it call @poll soon; any thread */
void vd_hart_request_poll(struct vd_hart *hart);
/**
 * vd_hart_request_flush() - have its TLBs and decoded code re-checked, and wait for it (SBI RFENCE)
 */
void vd_hart_request_flush(struct vd_hart *hart);
/**
 * vd_hart_msi() - set an identity pending in the IMSIC S-file (1..255; others are ignored); any
 * thread
 */
void vd_hart_msi(struct vd_hart *hart, uint32_t identity);

/** vd_hart_software_interrupt() - set SSIP (SBI IPI); any thread */
void vd_hart_software_interrupt(struct vd_hart *hart);

/* Registers; only by the hart's own callbacks or while it does not run. */
uint64_t vd_hart_x(const struct vd_hart *hart, unsigned index);
void vd_hart_set_x(struct vd_hart *hart, unsigned index, uint64_t value);
uint64_t vd_hart_f(const struct vd_hart *hart, unsigned index);
void vd_hart_set_f(struct vd_hart *hart, unsigned index, uint64_t bits);
uint32_t vd_hart_fcsr(const struct vd_hart *hart);
void vd_hart_set_fcsr(struct vd_hart *hart, uint32_t value);
vd_gva vd_hart_pc(const struct vd_hart *hart);
/**
 * vd_hart_reset() - registers 0, MMU off, interrupts off, S mode (M with VD_HART_MACHINE), pc as
 * given, FP on only in user tests
 */
void vd_hart_reset(struct vd_hart *hart, vd_gva pc);
/**
 * vd_hart_set_user() - run in U mode from here on, floating point on: for programs without a
 * kernel, ecalls reach @ecall
 */
void vd_hart_set_user(struct vd_hart *hart);
/** vd_hart_set_timer() - SBI TIME: S timer interrupt at this time (in timebase ticks) */
void vd_hart_set_timer(struct vd_hart *hart, uint64_t ticks);
/** vd_hart_time() - the time CSR now */
uint64_t vd_hart_time(const struct vd_hart *hart);

/**
 * vd_hart_set_time() - the time CSR is @ticks when the environment's clock is @clock_ns
 *
 * The same pair for all harts of a machine, or their clocks differ. Until then time is the
 * environment's clock. Only while the hart does not run.
 */
void vd_hart_set_time(struct vd_hart *hart, uint64_t ticks, uint64_t clock_ns);

/* ---- saving and loading ---------------------------------------------------------------------- */

/**
 * struct vd_hart_state - all architectural state, as words
 * @pc, @x, @f, @fcsr, @privilege: registers and mode (0 U, 1 S, 3 M)
 * @instructions, @count_base: retired; cycle and instret are that less their base
 * @waiting: in WFI
 * @sstatus: all of mstatus' bits that exist
 * @sip, @mip: the bits that software (or another hart) set; timer and external come from @stimecmp
 *	and the interrupt file
 * @imsic_pending, @imsic_enabled, @imsic_delivery, @imsic_threshold: the S file
 * the others: the registers of that name; those of M mode with VD_HART_MACHINE only
 *
 * Not in it: a reservation (LR), which a load drops, and the time, which goes by
 * vd_hart_set_time().
 */
struct vd_hart_state {
	uint64_t pc, x[32], f[32], fcsr, privilege, instructions, count_base[2], waiting;
	uint64_t sstatus, sie, sip, stvec, sscratch, sepc, scause, stval, satp, senvcfg;
	uint64_t scounteren, stimecmp, siselect;
	uint64_t imsic_pending[4], imsic_enabled[4], imsic_delivery, imsic_threshold;
	uint64_t medeleg, mideleg, mie, mip, mtvec, mscratch, mepc, mcause, mtval;
	uint64_t mcounteren, menvcfg, pmpcfg[2], pmpaddr[16], mcountinhibit;
};

/** VD_HART_STATE_WORDS - it is nothing but these many words */
#define VD_HART_STATE_WORDS (sizeof(struct vd_hart_state) / sizeof(uint64_t))

/** vd_hart_save() - while the hart does not run, and nobody sends it interrupts */
void vd_hart_save(const struct vd_hart *hart, struct vd_hart_state *state);
/**
 * vd_hart_load() - the reverse, while it does not run; TLBs and decoded code are dropped
 *
 * @state may be anything.
 * Return: 0; -EINVAL a value that such a hart cannot have; then nothing has changed.
 */
int vd_hart_load(struct vd_hart *hart, const struct vd_hart_state *state);

struct vd_hart_stats {
	uint64_t instructions;
	uint64_t tlb_fills, tlb_flushes, sfences, fence_is;
	uint64_t mmio_reads, mmio_writes;
	uint64_t exceptions, interrupts;
	uint64_t code_pages, code_verifies;
	uint64_t table_stores; /* to the guest's own tables, emulated (shadow paging) */
};
/**
 * vd_hart_stats() - counters since creation; any thread
 *
 * While the hart runs they are those of its last poll point or environment call.
 */
void vd_hart_stats(const struct vd_hart *hart, struct vd_hart_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
