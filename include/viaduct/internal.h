/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 3, internal VMs
 *
 * A guest with no process behind it: a piece of firmware-like code (EFI runtime services, a secure
 * monitor's helper) that a hypervisor runs sandboxed on its own machine. It sees the ranges of
 * physical memory it was given, each at its own address (IPA = PA), and comes back with a result or
 * with an abort. Freestanding: see ports/ for two hypervisors that use it.
 *
 * Two halves. struct vd_internal is the map: slots, added by the same call as any guest's but
 * private ones, and a second-stage table that is filled when they are added, never by a fault.
 * struct vd_internal_run is what happens to one call: the port enters the guest, tells each exit,
 * and is told what to do. Nothing is emulated. An access outside the map is answered with an abort
 * that the guest can neither mask (on arm64 a synchronous external abort, on RISC-V an access
 * fault) nor spin on: the second one ends the run, as does the time limit.
 */
#ifndef VIADUCT_INTERNAL_H
#define VIADUCT_INTERNAL_H

#include <viaduct/mmu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the map --------------------------------------------------------------------------------- */

struct vd_internal;

/**
 * struct vd_internal_config
 * @env: outlives the VM. What it allocates from is marked as own in the host's memory map, so that
 *	no table can be mapped into the guest
 * @host: of vd_host_create_physical(); its page is not larger than the format's granule
 * @format: of the second stage; outlives the VM
 * @address_bits: the IPA size; 0 for what the format translates, and no more than that
 * @flush, @flush_context: as in struct vd_pgtable_config; NULL if nothing caches
 */
struct vd_internal_config {
	const struct vd_env *env;
	struct vd_host *host;
	const struct vd_mmu_format *format;
	unsigned address_bits;
	void (*flush)(void *context, uint64_t start, uint64_t length);
	void *flush_context;
};

/**
 * struct vd_internal_range - a piece of physical memory for the guest
 * @start, @length: bytes, multiples of the granule
 * @access: VD_READ, VD_WRITE, VD_EXECUTE; of device memory never VD_EXECUTE
 * @device: device memory is meant; it is mapped with the attributes of the memory map
 * @name: for people; outlives the range; may be NULL
 */
struct vd_internal_range {
	uint64_t start, length;
	unsigned access;
	bool device;
	const char *name;
};

/**
 * struct vd_internal_stats
 * @ranges: mapped now
 * @mapped_bytes: by them
 * @table_pages: tables now, the root among them
 * @reserved, @returned: table pages taken up front since creation, and of these given back because
 *	they were not needed
 */
struct vd_internal_stats {
	uint64_t ranges, mapped_bytes, table_pages, reserved, returned;
};

/**
 * vd_internal_create() - a guest with nothing mapped
 * Return: 0; -EINVAL no environment, host or format, a host that is not physical, address bits;
 * -ENOMEM; -ESHUTDOWN the host was destroyed. On failure nothing is left behind.
 */
int vd_internal_create(const struct vd_internal_config *config, struct vd_internal **vm,
		       struct vd_error *error);
/** vd_internal_destroy() - unmap and flush everything; the guest runs no more. NULL is nothing */
void vd_internal_destroy(struct vd_internal *vm);

/**
 * vd_internal_map() - give the guest ranges, all of them or none
 *
 * The largest blocks that alignment allows. All memory, that of the tables included, is taken
 * before the first entry is written, so that nothing fails half-way; what was not needed is given
 * back (struct vd_internal_stats). Each range is a private slot (vd_mem_private_count()). Sleeps;
 * the guest may be running elsewhere: nothing that it can reach changes.
 * Return: 0; on error nothing has changed and @error names the range:
 * -EINVAL empty, misaligned, no or unknown access, write without read where the format has no such
 * leaf; -EOVERFLOW wraps, or beyond the IPA size or the format's addresses; -EPERM the hypervisor's
 * own image, heap or tables; -ENXIO a hole; -EXDEV straddles kinds; -EMEDIUMTYPE device memory that
 * was not asked for as such; -ENODEV the other way round; -EACCES device memory to execute;
 * -EEXIST overlaps a range; -ENOSPC more than VD_MEM_PRIVATE_SLOTS_MAX ranges; -ENOMEM.
 */
int vd_internal_map(struct vd_internal *vm, const struct vd_internal_range *ranges, unsigned count,
		    struct vd_error *error);
/**
 * vd_internal_unmap() - take a range back: as a whole, as it was given
 *
 * Unmapped and flushed before return. Cannot fail for want of memory where the host had some for
 * an update (-ENOMEM: nothing has changed).
 * Return: 0; -ENOENT no range begins there; -ENOMEM.
 */
int vd_internal_unmap(struct vd_internal *vm, uint64_t start);

/** vd_internal_mem() - its guest space: vd_mem_is_internal() holds */
struct vd_mem *vd_internal_mem(struct vd_internal *vm);
/** vd_internal_table() - its table, to walk and to list; it is changed by this interface only */
struct vd_pgtable *vd_internal_table(struct vd_internal *vm);
/** vd_internal_stats() - counters, each by itself exact */
void vd_internal_stats(struct vd_internal *vm, struct vd_internal_stats *stats);

/* ---- one run --------------------------------------------------------------------------------- */

/** enum vd_internal_result - how a run ended */
enum vd_internal_result {
	VD_INTERNAL_RUNNING,
	VD_INTERNAL_RETURNED,	  /* it came back: @value */
	VD_INTERNAL_NO_HANDLER,	  /* an abort, and nobody in the guest to take it: @abort */
	VD_INTERNAL_SECOND_ABORT, /* an abort after an abort: @second, and @abort before it */
	VD_INTERNAL_TIME_LIMIT,
	VD_INTERNAL_STRAY,	  /* it asked the hypervisor for something that is not offered */
};

/**
 * struct vd_internal_abort - an access that the second stage refused
 * @address: guest physical; of less use than @virtual where the walker does not tell the low bits
 * @virtual: as the guest's instruction had it
 * @pc: that instruction
 * @access: VD_READ, VD_WRITE or VD_EXECUTE
 */
struct vd_internal_abort {
	vd_gpa address;
	vd_gva virtual;
	uint64_t pc;
	unsigned access;
};

/** struct vd_internal_run - one call into the guest; the port's, on its stack if it likes */
struct vd_internal_run {
	enum vd_internal_result result;
	uint64_t value;
	unsigned aborts;
	struct vd_internal_abort abort, second;
	uint64_t deadline;
};

/** enum vd_internal_next - what the port does now */
enum vd_internal_next {
	VD_INTERNAL_ENTER,  /* go on in the guest */
	VD_INTERNAL_INJECT, /* make it take the abort at its handler, then go on */
	VD_INTERNAL_END,    /* @result says why */
};

/** VD_INTERNAL_NOBODY - for vd_internal_aborted(): the guest has no handler */
#define VD_INTERNAL_NOBODY ((vd_gpa){UINT64_MAX})

/**
 * vd_internal_begin() - before the guest is entered
 * @limit_ns: time for the run; the port sets a timer that the guest cannot mask to @run->deadline
 */
void vd_internal_begin(struct vd_internal *vm, struct vd_internal_run *run, uint64_t limit_ns);
/**
 * vd_internal_aborted() - the guest was stopped by the second stage, or by the bus
 * @handler: where it would take an abort, or VD_INTERNAL_NOBODY. One that the guest cannot execute
 *	is none
 */
enum vd_internal_next vd_internal_aborted(struct vd_internal *vm, struct vd_internal_run *run,
					  const struct vd_internal_abort *abort, vd_gpa handler);
/** vd_internal_ticked() - it was stopped by the timer, or by anything that is none of its doing */
enum vd_internal_next vd_internal_ticked(struct vd_internal *vm, struct vd_internal_run *run);
/** vd_internal_returned() - it came back with a result. Return: VD_INTERNAL_END */
enum vd_internal_next vd_internal_returned(struct vd_internal_run *run, uint64_t value);
/** vd_internal_strayed() - it asked for what there is not. Return: VD_INTERNAL_END */
enum vd_internal_next vd_internal_strayed(struct vd_internal_run *run);
/** vd_internal_result_name() - in words, for people; never NULL */
const char *vd_internal_result_name(enum vd_internal_result result);

#ifdef __cplusplus
}
#endif
#endif
