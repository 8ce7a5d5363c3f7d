/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 2, the guest-physical address space
 *
 * Slots say what lies where: RAM and device slots point at (host object, offset), trap slots at
 * read/write operations together with the reason why the area is trapped. Readers never lock: the slot
 * set is an immutable snapshot, replaced as a whole.
 *
 * The space is a listener of its host's chain and runs a chain of its own with guest physical ranges: a
 * host range reaches every slot that maps it. Secondary page tables, soft TLBs and DMA address spaces
 * listen there. Adding, removing or moving slots runs the same chain, after the old slots were published as
 * invalid.
 */
#ifndef VIADUCT_MEM_H
#define VIADUCT_MEM_H

#include <viaduct/host.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_mem;

#define VD_MEM_SLOTS_MAX 32768u

enum vd_slot_kind { VD_SLOT_RAM = 1, VD_SLOT_DEVICE, VD_SLOT_TRAP };

/**
 * struct vd_trap_ops - operations of a trapped area
 *
 * @offset counts from the slot's base, @length is 1, 2, 4 or 8 (or what a caller of vd_mem_read()
 * passes, split to naturally aligned such pieces). Called on the accessing thread, outside any lock or
 * read section of this floor. Values are little-endian in @value, zero-extended.
 * Return: 0; a negative errno makes the access fault in the guest.
 */
struct vd_trap_ops {
	int (*read)(void *context, uint64_t offset, unsigned length, uint64_t *value);
	int (*write)(void *context, uint64_t offset, unsigned length, uint64_t value);
};

/**
 * struct vd_slot_config - one slot as asked for
 * @base, @size: guest physical range; page-aligned for RAM and device slots, any for traps
 * @object, @offset: memory behind it (RAM, device); referenced while the slot lives
 * @read_only: guest stores fault (RAM, device)
 * @ops, @context: of a trap slot
 * @reason: of a trap slot: why, in words, for people; a string that outlives the slot
 * @name: for people
 */
struct vd_slot_config {
	vd_gpa base;
	uint64_t size;
	enum vd_slot_kind kind;
	bool read_only;
	struct vd_host_object *object;
	uint64_t offset;
	const struct vd_trap_ops *ops;
	void *context;
	const char *reason;
	const char *name;
};

/** struct vd_slot - as found by a lookup; valid inside the read section only */
struct vd_slot {
	struct vd_slot_config config;
	uint32_t id;
	_Atomic bool valid; /* false while being removed or moved: treat as absent */
	struct vd_mem_dirty *_Atomic dirty;
};

struct vd_mem_config {
	const struct vd_env *env;
	struct vd_host *host;
	unsigned page_shift;	/* 0 for the host's */
	unsigned address_bits;	/* guest physical; 0 for 50 (Sv48x4); slots must lie below */
};

int vd_mem_create(const struct vd_mem_config *config, struct vd_mem **mem, struct vd_error *error);
void vd_mem_destroy(struct vd_mem *mem);
const struct vd_env *vd_mem_env(const struct vd_mem *mem);
struct vd_host *vd_mem_host(const struct vd_mem *mem);
unsigned vd_mem_page_shift(const struct vd_mem *mem);
/** vd_mem_notifier() - the chain with guest physical ranges */
struct vd_notifier *vd_mem_notifier(struct vd_mem *mem);

/*
 * Updates: begin, any number of changes, then commit (one publish) or abort. begin takes the update
 * lock, commit and abort drop it. Changes fail one by one with nothing changed; commit cannot fail.
 * -EEXIST overlap; -EOVERFLOW wraps or exceeds address_bits; -EINVAL zero size or misaligned, or object range
 * outside the object (-ERANGE); -ENOSPC too many slots; -ENOENT no such slot; -ENOMEM.
 */
struct vd_mem_update;
int vd_mem_begin(struct vd_mem *mem, struct vd_mem_update **update);
int vd_mem_add(struct vd_mem_update *update, const struct vd_slot_config *slot, uint32_t *id,
	       struct vd_error *error);
int vd_mem_remove(struct vd_mem_update *update, uint32_t id);
int vd_mem_move(struct vd_mem_update *update, uint32_t id, vd_gpa base, struct vd_error *error);
/** vd_mem_commit() - old slots invalid -> readers gone -> zapped and flushed in every mirror -> new set published. Sleeps; no lock held by the caller that a listener or trap operation takes. */
void vd_mem_commit(struct vd_mem_update *update);
void vd_mem_abort(struct vd_mem_update *update);
/** vd_mem_add_slot(), vd_mem_remove_slot() - an update of one change */
int vd_mem_add_slot(struct vd_mem *mem, const struct vd_slot_config *slot, uint32_t *id,
		    struct vd_error *error);
int vd_mem_remove_slot(struct vd_mem *mem, uint32_t id);

/**
 * vd_mem_find() - the slot that holds a guest physical address
 * @hint: the caller's own, zeroed at first, one a thread; may be NULL
 * Inside a read section of the environment. Lock-free.
 * Return: the slot, or NULL.
 */
struct vd_mem_hint { uint64_t generation; uint32_t index; };
const struct vd_slot *vd_mem_find(const struct vd_mem *mem, vd_gpa gpa, struct vd_mem_hint *hint);

/** vd_mem_each() - calls @fn for every slot by address, in a read section; stops when it returns non-zero */
int vd_mem_each(const struct vd_mem *mem, int (*fn)(void *context, const struct vd_slot *slot),
		void *context);
/** vd_mem_generation() - changes with every commit */
uint64_t vd_mem_generation(const struct vd_mem *mem);
size_t vd_mem_slot_count(const struct vd_mem *mem);

/**
 * struct vd_mem_page - gfn_to_pfn's answer
 * @host: what is there; @host.run is cut to the slot, and counts from the address asked for
 * @slot_id, @slot_base, @slot_size: the slot it came from
 * @writable: slot and host allow a store now, and dirty logging needs no fault first
 */
struct vd_mem_page {
	struct vd_host_page host;
	uint32_t slot_id;
	enum vd_slot_kind kind;
	uint64_t slot_base, slot_size;
	bool writable;
	bool dirty_log;
};

/**
 * vd_mem_gpa_to_pfn() - look a guest address up
 * @access: VD_READ, VD_WRITE or VD_EXECUTE, for a private mapping decides about breaking copy-on-write
 * Lock-free, takes no reference; follow the retry protocol of vd_mem_notifier().
 * Return: 0; -ENOENT no slot; -EREMOTE a trap slot (the access is emulated); -EACCES read-only; -EFAULT
 *	the host has nothing there.
 */
int vd_mem_gpa_to_pfn(const struct vd_mem *mem, vd_gpa gpa, unsigned access,
		      struct vd_mem_page *page);

/**
 * vd_mem_read(), vd_mem_write() - checked copy from or to RAM slots by guest address
 * May cross slots. Never touches traps or devices. Marks dirty. Waits out invalidations.
 * Return: 0; -EFAULT if any byte is not RAM (then nothing was written), -EACCES read-only.
 */
int vd_mem_read(struct vd_mem *mem, vd_gpa gpa, void *buffer, size_t length);
int vd_mem_write(struct vd_mem *mem, vd_gpa gpa, const void *buffer, size_t length);

/**
 * vd_mem_mmio_read(), vd_mem_mmio_write() - dispatch one access of 1, 2, 4 or 8 bytes to a trap slot
 * The trap slot stays alive during the call though no lock or read section is held.
 * Return: 0, the operation's error, -ENOENT no trap slot holds all of it.
 */
int vd_mem_mmio_read(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t *value);
int vd_mem_mmio_write(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t value);

/*
 * Dirty log of a RAM slot: start makes every mirror write-protect the slot (VD_INVALIDATE_WRITE_PROTECT),
 * then each first store marks a page. Refused for device and trap slots with -EINVAL.
 */
int vd_mem_dirty_start(struct vd_mem *mem, uint32_t slot_id);
int vd_mem_dirty_stop(struct vd_mem *mem, uint32_t slot_id);
/** vd_mem_dirty_fetch() - copy out and clear, one bit a page, bit 0 of byte 0 first; mirrors are write-protected again before return. -ENOSPC if @bytes is too small. */
int vd_mem_dirty_fetch(struct vd_mem *mem, uint32_t slot_id, uint8_t *bitmap, size_t bytes);
/** vd_mem_mark_dirty() - lock-free; no-op where no log runs */
void vd_mem_mark_dirty(struct vd_mem *mem, vd_gpa gpa, uint64_t length);

#ifdef __cplusplus
}
#endif
#endif
