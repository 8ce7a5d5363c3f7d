/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: floor 6, PCI
 *
 * Two halves that meet only through vfio.h. The *function* is the device's side: configuration
 * space with write masks, capabilities, the MSI-X vector count; it turns a device author's BAR
 * operations into a struct vd_device whose VD_REGION_CONFIG behaves like vfio-pci's. The *host
 * bridge* is the VMM's side: ECAM, BAR sizing and placement in the guest's slots, direct mapping,
 * MSI-X tables emulated for the guest. (PCI Local Bus 3.0, PCI Bus Power Management 1.2, PCI
 * Express Base 4.0 chapter 7.)
 *
 * Lock order of the bridge, outermost first:
 *
 *	bridge lock -> mem's update lock, what listeners take -> device lock -> MSI-X lock -> @msi
 *
 * The bridge lock is held by configuration accesses, plug, unplug and reset, also while slots
 * leave. That waits for guest accesses to the slots that leave, so no operation of a BAR's slots
 * takes the bridge lock: they take the device's or the MSI-X lock only. Those of the ECAM slot do
 * take it; it leaves in vd_pci_host_destroy() only, without the lock. A device that raises an
 * interrupt holds its own lock and takes the MSI-X lock, nothing above it.
 */
#ifndef VIADUCT_PCI_H
#define VIADUCT_PCI_H

#include <viaduct/vfio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the function: for device authors ------------------------------------------------------ */

/** VD_PCI_BARS - base address registers of a type 0 header */
#define VD_PCI_BARS 6u
/** VD_PCI_MSI_MAX - most vectors that MSI can have (PCI 3.0, 6.8.1.3) */
#define VD_PCI_MSI_MAX 32u
/** VD_PCI_MSIX_MAX - most vectors that MSI-X can have (PCI 3.0, 6.8.2.3) */
#define VD_PCI_MSIX_MAX 2048u

/**
 * struct vd_pci_identity - what the read-only part of the header says (PCI 3.0, 6.2.1)
 * @class_code: 24 bits: class, subclass, programming interface
 */
struct vd_pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code;
	uint8_t revision;
};

/** VD_PCI_BAR_64 - the BAR uses up the next index as well */
#define VD_PCI_BAR_64 1u
/** VD_PCI_BAR_PREFETCH - reads have no side effects, writes may be combined */
#define VD_PCI_BAR_PREFETCH 2u

/**
 * struct vd_pci_bar - one memory BAR
 * @size: power of two, >= 16, at most 2 GiB without VD_PCI_BAR_64; 0: there is none
 * @flags: VD_PCI_BAR_64, VD_PCI_BAR_PREFETCH
 * @area_count, @areas: areas that the guest may map directly (see struct vd_region); none: all
 *	trapped
 */
struct vd_pci_bar {
	uint64_t size;
	unsigned flags;
	unsigned area_count;
	struct vd_region_area areas[VD_REGION_AREAS_MAX];
};

/** VD_PCI_CAPABILITY_BYTES - longest capability that a device author can add */
#define VD_PCI_CAPABILITY_BYTES 32u
/** VD_PCI_CAPABILITIES_MAX - how many of these a function can have */
#define VD_PCI_CAPABILITIES_MAX 8u

/**
 * struct vd_pci_capability - a capability of the device's own, the vendor-specific one for instance
 * @id: PCI 3.0, appendix H
 * @length: bytes, the two of the header included: 3 to VD_PCI_CAPABILITY_BYTES
 * @bytes: at power-on; the header's two are filled in
 * @writable: bits that take what is written
 * @access: optional: called with the device's lock held before bytes of the capability are read,
 *	which it may put into @bytes, and after some were written. @offset and @length are what of
 *	the capability is accessed
 */
struct vd_pci_capability {
	uint8_t id, length;
	uint8_t bytes[VD_PCI_CAPABILITY_BYTES], writable[VD_PCI_CAPABILITY_BYTES];
	void (*access)(void *context, uint8_t *bytes, unsigned offset, unsigned length, bool write);
};

/**
 * struct vd_pci_function_config - a PCI device to be
 * @env, @host, @space, @name: as in struct vd_device_config
 * @identity, @bars: as above
 * @ops, @context: for BAR accesses, reset (also by FLR), quiesce ... ; VD_REGION_CONFIG is handled
 *	here and never reaches them. Save and load of configuration space are done here too, around
 *	the device's own
 * @msix_vectors: 0 for none; the table and PBA get room in BAR @msix_bar at @msix_offset
 *	(page-aligned, with whole pages of their own: table first, PBA in the next page). Accesses
 *	there read as zero: the VMM emulates the table
 * @msix_pba: 0, or where in @msix_bar the PBA is; then it and the table lie anywhere, at multiples
 *	of 8, and what is beside them in their pages is the device's. No page that holds a part of
 *	them can be mappable
 * @msi_vectors: 0 for none, else a power of two up to VD_PCI_MSI_MAX; with 64-bit addresses
 * @msi_maskable: MSI has mask and pending bits for each vector
 * @intx: the function has an INTA pin. While it is asserted, the status register says so; the
 *	command register can disable it (PCI 3.0, 6.2.2 and 6.2.3)
 * @capabilities, @capability_count: of the device's own; they follow the ones that are made here
 * @group, @pad: of mappable BARs smaller than a page, as in struct vd_device_config
 * @bus_master: called when the command register's bus master bit changes, with the device's lock
 *	held; optional
 * @yields: as in struct vd_device_config; @bus_master is part of the operation that is a write
 * @state, @state_size: for operations without save and load: bytes that are saved and loaded as
 *	they are, with the mappable areas; every value of them is a good one. They stay where they
 *	are
 *
 * Everything is copied but what @ops, @context and @state point at.
 */
struct vd_pci_function_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	const char *name;
	struct vd_pci_identity identity;
	struct vd_pci_bar bars[VD_PCI_BARS];
	unsigned msix_vectors, msix_bar;
	uint32_t msix_offset, msix_pba;
	unsigned msi_vectors;
	bool msi_maskable;
	bool intx;
	const struct vd_pci_capability *capabilities;
	unsigned capability_count;
	const struct vd_device_ops *ops;
	void *context;
	struct vd_group *group;
	bool pad;
	void (*bus_master)(void *context, bool on);
	bool yields;
	void *state;
	size_t state_size;
};

/**
 * vd_pci_function_create() - a PCI Express endpoint
 *
 * Capabilities: power management (D0 and D3hot, no reset between them), MSI-X, MSI, PCI Express
 * with function-level reset. Any reset puts configuration space back to power-on values as well.
 *
 * Interrupts: those above, and one vector each of VD_IRQ_ERR and VD_IRQ_REQ, as vfio-pci has them.
 * Whether MSI or MSI-X is enabled, the masks and the pending bits are up to whoever uses the
 * device; of MSI the registers here just keep what is written.
 *
 * Whoever writes the FLR bit to the device's configuration region gets a whole vd_device_reset()
 * before the write returns.
 *
 * Return: 0 and a device; with the reason in @error: -EINVAL a BAR's size, flags or areas, MSI's
 *	vectors, MSI-X where it does not fit or meets a mappable area, or capabilities that do not
 *	fit; -ENOMEM; what vd_device_create() returns.
 */
int vd_pci_function_create(const struct vd_pci_function_config *config, struct vd_device **device,
			   struct vd_error *error);

/* ---- what of a BAR is mapped directly, and why the rest is not ----------------------------- */

/** VD_PCI_REASON_BYTES - room for a reason in words, its NUL included */
#define VD_PCI_REASON_BYTES 112u
/**
 * VD_PCI_PARTS_MAX - most parts of a BAR. Four mappable areas and two hidden ranges have 12 ends,
 * trimming to pages adds 8, the first and the last page 2
 */
#define VD_PCI_PARTS_MAX 24u
/** VD_PCI_HIDDEN_MAX - of a BAR: MSI-X table and pending bits */
#define VD_PCI_HIDDEN_MAX 2u

/** enum vd_pci_why - why a part is trapped */
enum vd_pci_why {
	VD_PCI_DIRECT,		/* it is not */
	VD_PCI_WHY_MSIX,	/* its page holds a part of an MSI-X table or its pending bits */
	VD_PCI_WHY_EMULATED,	/* the device wants to see each access */
	VD_PCI_WHY_OFF,		/* the user wants no direct mapping */
	VD_PCI_WHY_EDGE,	/* registers of the same BAR that are trapped are in its page */
	VD_PCI_WHY_NEIGHBOUR,	/* another BAR is in its page */
	VD_PCI_WHY_REST,	/* nothing keeps the rest of its page free */
	VD_PCI_WHY_MEMORY,	/* the device gave no memory for it */
	VD_PCI_WHY_PLACE,	/* the guest put it where its page cannot be shown */
};

/**
 * struct vd_pci_neighbour - a BAR that may lie in the same pages
 * @name: for people: "00:03.0 BAR 0"
 * @address, @size: where, in the numbers of the BAR that is decided about; of any size, anywhere
 * @same_group: it belongs to the group of the BAR that is decided about
 * @trapped: registers of it that lie in the shared page are emulated
 * @hidden: MSI-X table and pending bits in it; size 0: none. @hidden[].offset is an address
 */
struct vd_pci_neighbour {
	const char *name;
	uint64_t address, size;
	bool same_group, trapped;
	struct vd_region_area hidden[VD_PCI_HIDDEN_MAX];
};

/**
 * struct vd_pci_direct_facts - all that the decision rests on
 * @address, @size: of the BAR: bus address of a host's own device, or place in the memory of one
 *	that is served. Of @address the bits within a page matter. The end does not wrap
 * @page: bytes of a page, a power of two: what can be mapped as a whole only
 * @mappable, @area_count, @areas: what the device lets anybody map, as in struct vd_region: no area
 *	means all. What lies outside the BAR is left out
 * @hidden: MSI-X table and pending bits in this BAR; size 0: none
 * @isolated: the platform keeps a device that is given wrong MSI-X entries from doing harm
 * @neighbours, @neighbour_count: others; those outside the BAR's pages are ignored
 * @claimed: addresses that are kept free for the BAR for as long as it is assigned: nothing can
 *	appear there, by hot-plug neither. Padding of a served device, a claim of the host. Size 0:
 *	none
 * @group: addresses that only BARs of the group can get; size 0: none
 * @group_whole: the whole group is this user's
 * @platform: the platform says that a page may be shared inside a group
 * @unpadded: it is a served device, whose setting is not to pad BARs to pages (only a better
 *	reason)
 * @off: the user wants everything trapped
 */
struct vd_pci_direct_facts {
	uint64_t address, size;
	uint64_t page;
	bool mappable;
	unsigned area_count;
	const struct vd_region_area *areas;
	struct vd_region_area hidden[VD_PCI_HIDDEN_MAX];
	bool isolated;
	const struct vd_pci_neighbour *neighbours;
	unsigned neighbour_count;
	struct vd_region_area claimed, group;
	bool group_whole, platform, unpadded, off;
};

/**
 * struct vd_pci_bar_part - [offset, offset + size) of a BAR
 * @why: VD_PCI_DIRECT, or why it is trapped
 * @reason: in words, naming the neighbour; empty if direct
 */
struct vd_pci_bar_part {
	uint64_t offset, size;
	enum vd_pci_why why;
	char reason[VD_PCI_REASON_BYTES];
};

/**
 * vd_pci_direct_plan() - the one decision: cut a BAR into parts, in order and without gaps
 *
 * A part is direct where each page it lies in, as a whole, holds nothing but bytes of this BAR that
 * are mappable, addresses that are claimed for it, and, where the group is wholly this user's and
 * the platform allows it, mappable BARs and addresses of its own group; and where no page of it
 * holds a part of an MSI-X table or of pending bits, whose BAR ever, unless interrupts are
 * isolated. Whoever maps a direct part maps these pages whole. Neighbouring parts differ in @why or
 * @reason.
 *
 * Pure: no state, no I/O, no lock. Facts may be lies: of more than VD_PCI_PARTS_MAX parts the last
 * one takes in the rest, trapped.
 *
 * Return: number of parts; 0 for a BAR without bytes.
 */
unsigned vd_pci_direct_plan(const struct vd_pci_direct_facts *facts,
			    struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX]);
/** VD_PCI_PART_TEXT_BYTES - room for what vd_pci_part_text() writes */
#define VD_PCI_PART_TEXT_BYTES (VD_PCI_REASON_BYTES + 48u)
/**
 * vd_pci_part_text() - "256 bytes, trapped: shares its page with 00:03.0 BAR 0"
 * Return: @text.
 */
const char *vd_pci_part_text(const struct vd_pci_bar_part *part, char *text, size_t room);

/**
 * vd_pci_flat_save() - save plain bytes, and the mappable memory of a device
 * @state, @size: the bytes; @size may be 0
 *
 * For the save operation of a device that has nothing else, or keeps only its memory here. With the
 * device's lock held, quiesced. What fails is marked in the stream.
 */
void vd_pci_flat_save(struct vd_device *device, const void *state, size_t size,
		      struct vd_stream *stream);
/**
 * vd_pci_flat_load() - the reverse
 * Return: 0; -EINVAL the stream is too short, then nothing has changed.
 */
int vd_pci_flat_load(struct vd_device *device, void *state, size_t size, struct vd_stream *stream);

/* ---- the host bridge: for VMMs ----------------------------------------------------------- */

/** VD_PCI_SLOTS - device numbers of a bus */
#define VD_PCI_SLOTS 32u

struct vd_pci_host;

/**
 * struct vd_pci_host_config
 * @env, @mem: as everywhere; the address space that configuration space and BARs appear in
 * @ecam: guest address of configuration space, 1 MiB a bus, @buses of them (1 to 256)
 * @low, @low_size: window for BARs below 4 GiB; @high, @high_size: for 64-bit prefetchable ones; a
 *	size of 0: no such window (guest address = bus address). Page-aligned, apart. They belong to
 *	the bridge as a whole: where no BAR is, a slot reads as all ones, so nothing else can be put
 *	there
 * @direct: map mappable areas into the guest; false: trap everything ("--no-direct-mmio")
 * @share_pages: BARs of one group may be shown in one page ("the platform allows it"); the bridge
 *	is the group's user in any case
 * @msi: deliver a message-signalled interrupt; any thread; a device's lock and an MSI-X lock may be
 *	held: must not call this floor or a device
 * @context: for @msi
 */
struct vd_pci_host_config {
	const struct vd_env *env;
	struct vd_mem *mem;
	vd_gpa ecam;
	unsigned buses;
	vd_gpa low;
	uint64_t low_size;
	vd_gpa high;
	uint64_t high_size;
	bool direct, share_pages;
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void *context;
};

/**
 * vd_pci_host_create() - an empty bus
 * Return: 0; with the reason in @error: -EINVAL @buses, windows or alignment; -EEXIST a slot is in
 *	the way; -EOVERFLOW beyond the guest's address bits; -ENOMEM.
 */
int vd_pci_host_create(const struct vd_pci_host_config *config, struct vd_pci_host **host,
		       struct vd_error *error);
/**
 * vd_pci_host_destroy() - unplug everything, give up windows and configuration space
 *
 * No guest access may come any more; nothing can fail: memory that is short is asked for again.
 * NULL is ignored.
 */
void vd_pci_host_destroy(struct vd_pci_host *host);

/**
 * vd_pci_host_plug() - put a device at bus 0, @slot (0..31), function 0
 *
 * BARs get placed as firmware would, and memory decoding is left off. Takes a reference. The device
 * is a stranger: what it says about itself is checked here.
 *
 * Return: 0; with the reason in @error and nothing changed: -EINVAL @slot, or not a device that can
 *	be on this bus; -EBUSY slot taken, or others use devices of its group; -ENOSPC windows full;
 *	-ENOMEM; an error of the device's own.
 */
int vd_pci_host_plug(struct vd_pci_host *host, struct vd_device *device, unsigned slot,
		     struct vd_error *error);
/**
 * vd_pci_host_unplug() - remove; its BARs leave every mirror first
 * Return: 0; -ENOENT no device there; -ENOMEM with nothing changed.
 */
int vd_pci_host_unplug(struct vd_pci_host *host, unsigned slot);

/**
 * struct vd_pci_area_info - a part of a BAR
 * @slot, @bar: whose
 * @offset, @size: within the BAR
 * @gpa: where the guest sees it; 0 if it does not
 * @placed: the guest sees it now
 * @direct: mapped into the guest (when placed)
 * @reason: why it is trapped; NULL if direct
 * @absent: why it is not placed; NULL if it is
 */
struct vd_pci_area_info {
	unsigned slot, bar;
	uint64_t offset, size;
	vd_gpa gpa;
	bool placed, direct;
	const char *reason;
	const char *absent;
};
/**
 * vd_pci_host_each_area() - where BARs are and why some are trapped; stops when @fn returns
 * non-zero
 *
 * @fn is called with the bridge's lock held: it must not call the bridge.
 * Return: what the last @fn returned, else 0.
 */
int vd_pci_host_each_area(struct vd_pci_host *host,
			  int (*fn)(void *context, const struct vd_pci_area_info *area),
			  void *context);
/** vd_pci_host_reset() - the whole bus, as at power-on, with BARs placed as at plug time */
void vd_pci_host_reset(struct vd_pci_host *host);
/**
 * vd_pci_host_save() - the bridge's own state: MSI, MSI-X, and which BARs the guest sees
 *
 * The functions' configuration space, where BARs and decoding are, goes with vd_device_save().
 * Return: 0; -ENOMEM.
 */
int vd_pci_host_save(struct vd_pci_host *host, struct vd_stream *stream);
/**
 * vd_pci_host_load() - the reverse, on a bus with the same devices in the same slots
 *
 * After each device's vd_device_load(), with the devices still quiesced: an interrupt that one
 * raised before would be lost. BARs are then where the functions' registers say.
 * Return: 0; with the reason in @error and nothing taken over: -EINVAL; -ENOMEM.
 */
int vd_pci_host_load(struct vd_pci_host *host, struct vd_stream *stream, struct vd_error *error);
/** vd_pci_host_direct_pages() - pages of the guest that are device memory now; lock-free */
uint64_t vd_pci_host_direct_pages(const struct vd_pci_host *host);

/**
 * struct vd_pci_host_stats - counted since creation
 * @config_reads, @config_writes: guest accesses to configuration space
 * @config_dropped: writes that were not carried out: no memory, or a device that could not be reset
 * @placed, @removed: BARs that appeared in and left the guest's address space
 * @outside: BARs found enabled at an address outside the windows
 * @conflicts: BARs found enabled on top of another one
 * @failed: BARs that could not be placed (memory, slots); tried again at the next change
 * @function_resets: function-level resets by the guest
 * @absent_reads: reads of windows where no BAR is
 * @messages: MSI and MSI-X messages delivered
 * @messages_dropped: raised while MSI, or MSI-X, was off. A device may raise both at once
 */
struct vd_pci_host_stats {
	uint64_t config_reads, config_writes, config_dropped;
	uint64_t placed, removed, outside, conflicts, failed;
	uint64_t function_resets, absent_reads;
	uint64_t messages, messages_dropped;
};
/** vd_pci_host_stats() - a copy, as of now */
void vd_pci_host_stats(struct vd_pci_host *host, struct vd_pci_host_stats *stats);

/* ---- what a transport may show ------------------------------------------------------------- */

/**
 * struct vd_pci_announcement - how a client may map a region
 * @fd: to hand out; stays the device's. -1: nothing can be mapped
 * @offset: where the region starts in it. Page-aligned; only a client that asked for it gets the
 *	BAR's offset within its page in the low bits
 * @area_count, @areas: whole pages, or all of a region that is smaller than one
 * @shared: others of the group are in its page, or may come to be: only to who is the group's user
 * @reason: why something is trapped; empty if nothing is
 */
struct vd_pci_announcement {
	int fd;
	uint64_t offset;
	bool shared;
	unsigned area_count;
	struct vd_region_area areas[VD_REGION_AREAS_MAX];
	char reason[VD_PCI_REASON_BYTES];
};
/**
 * vd_pci_announce() - what of a device's region a client may map, by vd_pci_direct_plan()
 * @page: bytes of the client's page, at least the host's
 * @group: the client asked for offsets within pages, and is the user of the device's group
 *	(vd_group_take()): it may have pages that BARs of the group share. A client that knows
 *	nothing of this gets such a BAR by the slow path, never wrong bytes
 *
 * What is an area is the device's side's decision: pages with MSI-X tables never are.
 * Takes no lock of the device.
 */
void vd_pci_announce(struct vd_device *device, unsigned region, uint64_t page, bool group,
		     struct vd_pci_announcement *announcement);

/* ---- the host's own devices, read from sysfs ----------------------------------------------- */

/** VD_PCI_RESOURCES - of a device in sysfs: BARs, expansion ROM, BARs of virtual functions */
#define VD_PCI_RESOURCES 13u
#define VD_PCI_RESOURCE_ROM 6u
/** VD_PCI_SYSFS_MAX - devices that are read; of more, the rest is counted */
#define VD_PCI_SYSFS_MAX 4096u

#define VD_PCI_RESOURCE_IO 1u	    /* I/O ports, not memory */
#define VD_PCI_RESOURCE_64 2u	    /* a BAR of 64 bits */
#define VD_PCI_RESOURCE_PREFETCH 4u
/** struct vd_pci_resource - @size 0: there is none */
struct vd_pci_resource {
	uint64_t address, size;
	unsigned flags;
};

/**
 * struct vd_pci_sysfs_device - one device as sysfs tells it
 * @domain, @bus, @slot, @function: its address
 * @identity: as in the header
 * @resources: BARs, ROM, BARs of virtual functions; none of a bridge's windows
 * @group: number of its IOMMU group; -1: it is in none
 * @driver: bound to it; empty: none
 * @config, @config_length: configuration space as far as it could be read; 64 bytes without root
 * @name: "00:03.0", or "0001:00:03.0" in another domain than 0
 */
struct vd_pci_sysfs_device {
	unsigned domain, bus, slot, function;
	struct vd_pci_identity identity;
	struct vd_pci_resource resources[VD_PCI_RESOURCES];
	int group;
	char driver[32];
	size_t config_length;
	uint8_t config[4096];
	char name[24];
};

struct vd_pci_sysfs;

/**
 * vd_pci_sysfs_open() - read the PCI devices below a sysfs
 * @root: where it is mounted: "/sys"
 *
 * Files are read, nothing else: no device is opened, mapped, bound or reset. A machine without PCI
 * has none. What is there is not trusted: names, sizes and numbers of everything are bounded, and a
 * device whose files make no sense is left out and counted.
 * Return: 0; with the reason in @error: -ENOENT there is no such directory as @root; -ENOMEM; the
 *	error of reading a directory.
 */
int vd_pci_sysfs_open(const struct vd_env *env, const char *root, struct vd_pci_sysfs **sysfs,
		      struct vd_error *error);
/** vd_pci_sysfs_close() - NULL is ignored */
void vd_pci_sysfs_close(struct vd_pci_sysfs *sysfs);
/** vd_pci_sysfs_count() - devices, by ascending address */
unsigned vd_pci_sysfs_count(const struct vd_pci_sysfs *sysfs);
/** vd_pci_sysfs_left_out() - devices that were not read: too many, or their files make no sense */
unsigned vd_pci_sysfs_left_out(const struct vd_pci_sysfs *sysfs);
/** vd_pci_sysfs_device() - Return: NULL if @index is not below the count. */
const struct vd_pci_sysfs_device *vd_pci_sysfs_device(const struct vd_pci_sysfs *sysfs,
						      unsigned index);
/**
 * vd_pci_sysfs_find() - by "03:00.0", "0000:03:00.0" or a path that ends so
 * Return: its index; -EINVAL no such form; -ENOENT no such device.
 */
int vd_pci_sysfs_find(const struct vd_pci_sysfs *sysfs, const char *name);
/**
 * vd_pci_sysfs_group_whole() - whether all of a device's group can be one user's: each member is
 * bound to vfio-pci, to no driver, or is a bridge (as VFIO calls a group viable)
 */
bool vd_pci_sysfs_group_whole(const struct vd_pci_sysfs *sysfs, unsigned index);

/**
 * struct vd_pci_sysfs_view - what sysfs does not tell
 * @page: bytes of a page, a power of two
 * @isolated: the platform isolates interrupts
 * @platform: the platform lets BARs of a group share a page: it gives groups whole pages
 */
struct vd_pci_sysfs_view {
	uint64_t page;
	bool isolated, platform;
};
/**
 * vd_pci_sysfs_plan() - what of a resource a guest would have directly, by vd_pci_direct_plan()
 *
 * vfio-pci claims the rest of a page that a BAR begins, so a device that is bound to it has that.
 * I/O ports and what has no address are one trapped part.
 * Return: number of parts; 0: there is no such resource.
 */
unsigned vd_pci_sysfs_plan(const struct vd_pci_sysfs *sysfs, unsigned index, unsigned resource,
			   const struct vd_pci_sysfs_view *view,
			   struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX]);

/* ---- capabilities in words ----------------------------------------------------------------- */

/**
 * struct vd_pci_capability_info - one capability of a configuration space
 * @extended: of those from 0x100 on
 * @id, @offset: as there
 * @name: "MSI-X"; NULL: unknown
 * @text: what its registers say; may be empty
 */
struct vd_pci_capability_info {
	bool extended;
	uint16_t id;
	unsigned offset;
	const char *name;
	char text[120];
};
/**
 * vd_pci_each_capability() - walk the lists of a configuration space
 * @config, @length: its first bytes; hostile: loops and offsets are bounded
 * @fn: stops when it returns non-zero
 * Return: what the last @fn returned, else 0.
 */
int vd_pci_each_capability(const uint8_t *config, size_t length,
			   int (*fn)(void *context, const struct vd_pci_capability_info *info),
			   void *context);

/**
 * struct vd_pci_msix_place - where MSI-X table and pending bits are
 * @vectors: 0: the function has no MSI-X
 */
struct vd_pci_msix_place {
	unsigned vectors, table_bar, pba_bar;
	struct vd_region_area table, pba;
};
/** vd_pci_find_msix() - as the capability says; nothing is checked against the BARs */
void vd_pci_find_msix(const uint8_t *config, size_t length, struct vd_pci_msix_place *place);

#ifdef __cplusplus
}
#endif
#endif
