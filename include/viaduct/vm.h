/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 11, the machine
 *
 * An IMSIC-only RISC-V board in an ordinary process: RAM, harts, a 16550 console, a PCI host
 * bridge, SBI. Stock Linux boots on it with devices assigned to it. Everything below is put
 * together here and nowhere else.
 */
#ifndef VIADUCT_VM_H
#define VIADUCT_VM_H

#include <viaduct/foreign.h>
#include <viaduct/iommu.h>
#include <viaduct/pci.h>
#include <viaduct/vcpu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the board's guest physical map ---------------------------------------------------------- */

#define VD_BOARD_UART 0x10000000ull	     /* ns16550a, polled */
#define VD_BOARD_IMSIC 0x28000000ull	     /* one page a hart, S files */
#define VD_BOARD_ECAM 0x30000000ull	     /* one bus */
#define VD_BOARD_PCI_LOW 0x40000000ull	     /* 1 GiB for 32-bit BARs */
#define VD_BOARD_RAM 0x80000000ull
#define VD_BOARD_PCI_HIGH 0x400000000000ull  /* 64-bit BARs, above any RAM */
#define VD_BOARD_PCI_HIGH_SIZE 0x100000000000ull
#define VD_BOARD_TIMEBASE 10000000u
#define VD_BOARD_HARTS_MAX 32u

/* ---- machines -------------------------------------------------------------------------------- */

struct vd_vm;

#define VD_VM_MEMORY_MIN (64ull << 20)
#define VD_VM_MEMORY_MAX (512ull << 30)

enum vd_vm_exit {
	VD_VM_EXIT_POWER_OFF = 1, /* the guest asked for it */
	VD_VM_EXIT_RESET,
	VD_VM_EXIT_PANIC,	  /* the guest reported a failure (SRST reason, syscon) */
	VD_VM_EXIT_STOPPED,	  /* vd_vm_stop() */
	VD_VM_EXIT_ERROR,	  /* the machine itself failed: see the error */
};

/**
 * enum vd_vm_memory - what the guest's RAM is
 * @VD_VM_MEMORY_SHARED: a sealed memfd in the host's window
 * @VD_VM_MEMORY_PRIVATE: anonymous memory of this process at its own address, which other code may
 *	discard and so on: foreign.h says what the guest sees. Where its changes cannot be
 *	watched it is locked, and RLIMIT_MEMLOCK must allow that
 */
enum vd_vm_memory { VD_VM_MEMORY_SHARED, VD_VM_MEMORY_PRIVATE };

/**
 * struct vd_vm_config
 * @kernel: path of a RISC-V Linux Image; @initrd: path or NULL; @append: command line or NULL
 * @memory: bytes of RAM, a multiple of 2 MiB, VD_VM_MEMORY_MIN to _MAX
 * @restore: nothing is loaded: vd_vm_restore() will, before vd_vm_run()
 * @memory_kind: see there
 * @direct_mmio: map device BARs straight into the guest; else trap every access
 * @check_tlb: compare every soft TLB fill with a fresh walk (slow; for tests)
 * @dma: how devices' accesses find the guest's memory
 * @shadow_paging: shadow tables instead of two stages of translation
 * @spare_frames: keep room so that guest pages can be moved to other frames (for tests)
 * @console_write: bytes the guest sends to its serial port; hart threads, one at a time. One that
 *	may block for ever has to look at vd_vm_stopping(), or nothing can end the run
 */
struct vd_vm_config {
	const struct vd_env *env;
	const char *kernel, *initrd, *append;
	uint64_t memory;
	enum vd_vm_memory memory_kind;
	unsigned cpus;
	enum vd_dma_mode dma;
	bool direct_mmio, check_tlb, spare_frames, svadu, restore, shadow_paging;
	void (*console_write)(void *context, const uint8_t *bytes, size_t length);
	void *context;
};

/**
 * vd_vm_create() - the machine with its memory and kernel loaded, not running. Errors say what to
 * do.
 */
int vd_vm_create(const struct vd_vm_config *config, struct vd_vm **vm, struct vd_error *error);
/** vd_vm_destroy() - stop it, quiesce and drop the devices, free all */
void vd_vm_destroy(struct vd_vm *vm);
/** vd_vm_host(), vd_vm_dma_space() - what a device needs to be created with */
struct vd_host *vd_vm_host(struct vd_vm *vm);
struct vd_dma_space *vd_vm_dma_space(struct vd_vm *vm);
struct vd_mem *vd_vm_mem(struct vd_vm *vm);
struct vd_mmu *vd_vm_mmu(struct vd_vm *vm);
/** vd_vm_shadow() - with shadow paging, else NULL; then vd_vm_mmu()'s tables are empty */
struct vd_shadow *vd_vm_shadow(struct vd_vm *vm);
struct vd_pci_host *vd_vm_pci(struct vd_vm *vm);
/** vd_vm_ram_watched() - whether changes of private RAM by others are seen; false: it is locked */
bool vd_vm_ram_watched(const struct vd_vm *vm);
/** vd_vm_ram() - the object behind the guest's RAM; offset 0 is VD_BOARD_RAM */
struct vd_host_object *vd_vm_ram(struct vd_vm *vm);
/**
 * vd_vm_plug() - assign a device, before vd_vm_run(); takes a reference. Return: 0, -ENOSPC no slot
 * left.
 */
int vd_vm_plug(struct vd_vm *vm, struct vd_device *device, struct vd_error *error);
/** vd_vm_device() - the index-th plugged device, NULL past the last */
struct vd_device *vd_vm_device(struct vd_vm *vm, unsigned index);

/** vd_vm_run() - run until the guest or vd_vm_stop() ends it; hart 0 runs on the calling thread */
enum vd_vm_exit vd_vm_run(struct vd_vm *vm, struct vd_error *error);
/** vd_vm_stop() - end vd_vm_run(); any thread, and async-signal-safe */
void vd_vm_stop(struct vd_vm *vm);
/** vd_vm_stopping() - whether something has ended the run, or is about to; any thread */
bool vd_vm_stopping(const struct vd_vm *vm);
/**
 * vd_vm_pause(), vd_vm_resume() - stop all harts between instructions, and let them go on. Any
 * thread but a hart's.
 */
int vd_vm_pause(struct vd_vm *vm);
void vd_vm_resume(struct vd_vm *vm);
bool vd_vm_paused(const struct vd_vm *vm);
/** vd_vm_console_input() - bytes for the guest's serial port. Return: how many were taken. */
size_t vd_vm_console_input(struct vd_vm *vm, const uint8_t *bytes, size_t length);

struct vd_vm_stats {
	uint64_t wall_ns, instructions;
	struct vd_mmu_stats mmu;
	struct vd_shadow_stats shadow; /* with shadow_paging; @mmu is all zero then */
	struct vd_dma_stats dma;
	struct vd_hart_stats harts; /* summed */
	uint64_t tlb_shootdowns, direct_pages, interrupts;
	struct vd_foreign_stats foreign; /* of private memory */
};
void vd_vm_stats(struct vd_vm *vm, struct vd_vm_stats *stats);

/* ---- live snapshots -------------------------------------------------------------------------- */

/**
 * struct vd_vm_snapshot_ops - what the program around the machine adds to a snapshot; all optional
 * @moment: harts stand, devices are quiesced: append what is to be remembered with the machine.
 *	Short, the guest waits. 0, or -errno with the reason in @error: the snapshot is given up
 * @images: harts run again, devices are still quiesced: copy what they would change. Errors as
 *	@moment
 * @progress: now and then while memory is copied, in bytes. Not 0 gives it up; -ECANCELED for
 *	"the user wants it so"
 */
struct vd_vm_snapshot_ops {
	int (*moment)(void *context, struct vd_stream *program, struct vd_error *error);
	int (*images)(void *context, struct vd_error *error);
	int (*progress)(void *context, uint64_t done, uint64_t total);
};

/**
 * struct vd_vm_snapshot_result
 * @pause_ns: how long the harts stood
 * @held_ns: how long the devices did
 * @memory_bytes: of pages that are stored; the others are zero
 * @file_bytes: that the file takes on its disk
 */
struct vd_vm_snapshot_result {
	uint64_t pause_ns, held_ns, memory_bytes, file_bytes;
};

/**
 * vd_vm_snapshot() - write memory, harts and devices as of one moment to a file, while the guest
 * goes on
 * @path: replaced when the snapshot is complete and on stable storage, else untouched; until then
 *	it is written as PATH.partial. Mode 0600. Must stay valid meanwhile
 *
 * The harts stop for a moment, devices finish what is under way and drop their pins, states are
 * saved, and every mirror loses its leave to store. Then the guest goes on, and each page is copied
 * at the latest before its first store. Pages that were never touched, or are zero, are holes.
 *
 * A hart whose run is over has to have been in vd_vm_run(); a machine that does not run yet can be
 * saved as well. Any thread but a hart's. On an error the guest goes on unharmed.
 *
 * Return: 0; with the reason in @error: -EBUSY another snapshot is being taken, or written to @path
 *	by another machine, or a device does not let go of memory; -ESHUTDOWN the run is over;
 *	-ENOMEM; -ENAMETOOLONG; -EINVAL @path is no regular file; -EEXIST nor is PATH.partial;
 *	-EFAULT other code had unmapped some of the guest's memory (with a fault guard installed);
 *	-ETIMEDOUT a change of memory would have had to wait for longer than 20 s; what @ops, a
 *	device's quiesce and save, open(2), write(2), fsync(2) and rename(2) say.
 */
int vd_vm_snapshot(struct vd_vm *vm, const char *path, const struct vd_vm_snapshot_ops *ops,
		   void *context, struct vd_vm_snapshot_result *result, struct vd_error *error);

struct vd_snapshot;

/**
 * struct vd_snapshot_info - of what machine it is
 * @memory, @cpus, @svadu: as in struct vd_vm_config
 * @devices: plugged
 * @program, @program_length: what vd_vm_snapshot_ops.moment had put in. Any bytes
 */
struct vd_snapshot_info {
	uint64_t memory;
	unsigned cpus, devices;
	bool svadu;
	const uint8_t *program;
	size_t program_length;
};

/**
 * vd_snapshot_open() - open a snapshot and check it, but for its pages; the file may be anything
 * @path: must stay valid until it is closed
 * Return: 0; with the reason in @error: -EINVAL no snapshot, of another format, cut off, damaged or
 *	contradicting itself; -ENOMEM; what open(2) says.
 */
int vd_snapshot_open(const struct vd_env *env, const char *path, struct vd_snapshot **snapshot,
		     struct vd_error *error);
/** vd_snapshot_close() - NULL is nothing */
void vd_snapshot_close(struct vd_snapshot *snapshot);
/** vd_snapshot_info() - good until it is closed */
const struct vd_snapshot_info *vd_snapshot_info(const struct vd_snapshot *snapshot);

/**
 * vd_vm_restore() - put a machine into the state of a snapshot
 *
 * Once, before vd_vm_run(), on a machine that was created with @restore and has the same devices
 * plugged in the same order. The guest's time goes on from the moment of the snapshot, as if none
 * had passed.
 * Return: 0; with the reason in @error: -EINVAL another machine, or a damaged file; -ENOMEM; then
 *	the machine is good for nothing but vd_vm_destroy().
 */
int vd_vm_restore(struct vd_vm *vm, struct vd_snapshot *snapshot, struct vd_error *error);

/* ---- a bare machine for riscv-tests ELF files ------------------------------------------------ */

/**
 * vd_vm_riscv_test() - run an unmodified riscv-tests program (M mode, tohost) to its end
 * @limit: instructions after which it counts as hung; 0 for 100 million
 * @failed: number of the test case that failed, 0 if it passed
 * Return: 0 with *@failed set; -ENOENT, -ENOEXEC not a RISC-V ELF with tohost, -ETIMEDOUT, -ENOMEM.
 */
int vd_vm_riscv_test(const struct vd_env *env, const char *path, uint64_t limit, uint64_t *failed,
		     struct vd_error *error);

#ifdef __cplusplus
}
#endif
#endif
