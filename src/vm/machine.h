/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's insides, shared by the files of this floor. */
#ifndef VM_MACHINE_H
#define VM_MACHINE_H

#include <pthread.h>

#include <viaduct/vm.h>

#define DEVICES_MAX 31u
#define MIB (1ull << 20)
#define GIB (1ull << 30)

/*
 * RAM above the first GiB lies above 4 GiB, clear of 0xFEC00000 to 0xFEF00000 (x86 hosts' MSI
 * window).
 */
#define RAM_LOW_MAX GIB
#define RAM_HIGH 0x100000000ull
#define KERNEL_OFFSET (2 * MIB)

enum hart_state { HART_STOPPED, HART_START_PENDING, HART_STARTED };

struct machine_hart {
	struct vd_vm *vm;
	struct vd_hart *hart;
	pthread_t thread;
	bool has_thread;
	int wake_fd; /* eventfd: ends an idle wait */
	enum hart_state state;	       /* under vm->lock */
	uint64_t start_pc, start_a1;   /* of a hart that was asked to start */
	bool parked;		       /* does not run its guest; under vm->lock */
	bool entered;		       /* its thread is there; under vm->lock */
};

struct uart;

struct vd_vm {
	const struct vd_env *env;
	struct vd_vm_config config;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_foreign *foreign; /* with private RAM: who watches it */
	void *private_ram;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_shadow *shadow; /* with shadow paging; then @mmu stays empty */
	struct vd_hart_group *group;
	struct vd_dma_space *dma;
	struct vd_pci_host *pci;
	struct vd_device *devices[DEVICES_MAX];
	unsigned device_count;
	struct uart *uart;
	struct machine_hart harts[VD_BOARD_HARTS_MAX];
	unsigned hart_count;
	uint64_t device_tree; /* guest address */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic bool stopping;
	_Atomic bool pausing; /* changed under lock */
	unsigned held;	      /* for snapshots: as pausing, but nobody else's; under lock */
	_Atomic bool snapshotting;
	bool restored; /* harts go on from where they were */
	enum vd_vm_exit exit;
	_Atomic uint64_t run_ns, started_ns;
};

/* guest address of an offset in RAM */
static inline uint64_t ram_address(uint64_t offset)
{
	return offset < RAM_LOW_MAX ? VD_BOARD_RAM + offset : RAM_HIGH + (offset - RAM_LOW_MAX);
}

/* ram.c: the object, and the memory below it, which goes after the host */
int vd_vm_ram_create(struct vd_vm *vm, struct vd_error *error);
void vd_vm_ram_destroy(struct vd_vm *vm);
void vd_vm_ram_unmap(struct vd_vm *vm);

/* boot.c: kernel, initrd and device tree into RAM */
int vd_boot_load(struct vd_vm *vm, struct vd_error *error);

/* device_tree.c: Return: bytes written to @buffer, or -errno. */
struct device_tree_facts {
	uint64_t memory, initrd_start, initrd_end;
	unsigned cpus;
	const char *append;
	bool svadu;
	uint8_t seed[64];
};
int vd_device_tree_build(const struct device_tree_facts *facts, void *buffer, size_t room);

/* sbi.c */
int vd_sbi_call(struct machine_hart *h);

/* board.c: trapped areas of the board itself */
int vd_board_add_slots(struct vd_vm *vm, struct vd_error *error);
void vd_board_msi(void *context, uint64_t address, uint32_t data);

/* uart.c */
int vd_uart_create(struct vd_vm *vm, struct vd_error *error);
void vd_uart_destroy(struct uart *uart);
void vd_uart_write(struct uart *uart, const uint8_t *bytes, size_t length);
size_t vd_uart_input(struct uart *uart, const uint8_t *bytes, size_t length);
void vd_uart_flush(struct uart *uart);
void vd_uart_finish(struct uart *uart); /* flush, when nobody will poll it for a while */
void vd_uart_save(struct uart *uart, struct vd_stream *stream);
bool vd_uart_load(struct uart *uart, struct vd_stream *stream); /* false: nothing has changed */
bool vd_uart_saw_panic(struct uart *uart);
extern const struct vd_trap_ops vd_uart_ops;

/* threads.c */
void vd_vm_end(struct vd_vm *vm, enum vd_vm_exit exit);
/*
 * As pause and resume, but counted, and whatever the user does meanwhile. Return: 0; -ESHUTDOWN the
 * run is over; vd_vm_let_go() in any case.
 */
int vd_vm_hold(struct vd_vm *vm);
void vd_vm_let_go(struct vd_vm *vm);
int vd_vm_start_hart(struct vd_vm *vm, uint64_t id, uint64_t pc, uint64_t argument);
extern const struct vd_hart_ops vd_vm_hart_ops;

#endif
