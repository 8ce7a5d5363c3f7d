/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of floor 1: hosts, objects, the state of their pages. */
#ifndef VIADUCT_HOST_OBJECT_H
#define VIADUCT_HOST_OBJECT_H

#include <viaduct/host.h>

/* A piece of the window in use; kept in order of address. */
struct window_range {
	struct window_range *next;
	uint64_t start; /* offset in the window */
	uint64_t size;
};

/* From this address on, up to the next edge, so many hold the memory. */
struct hold_edge {
	uintptr_t address;
	uint32_t count;
};

/* Who maps memory that may change unannounced. The last edge has the count 0. */
struct host_holds {
	struct vd_lock lock; /* all of it; the last of all locks */
	struct hold_edge *edges;
	uint32_t used, room;
	uint32_t ranges; /* holds that were not undone yet */
	bool closed;	 /* the host has been destroyed */
};

/*
 * What a hosted host adds to the core, which knows addresses only: NULL for a physical host, whose
 * memory is just there (physical.c). Any lock of the core may be held, but for close_host().
 *
 * @close_host: at the end of the host, when its objects are empty
 * @free_host: before it is freed
 * @close_object: before it is freed
 * @unmap: gives its range of the window back, after its last reference
 * @present: bytes still there of an object that its owner may truncate
 * @hold, @unhold: of private memory
 * @discard: vd_host_object_discard(), the one change that floors above the core ask for
 */
struct host_backing {
	void (*close_host)(struct vd_host *host);
	void (*free_host)(struct vd_host *host);
	void (*close_object)(struct vd_host_object *object);
	void (*unmap)(struct vd_host_object *object);
	uint64_t (*present)(const struct vd_host_object *object);
	int (*hold)(struct vd_host_object *object, uint64_t offset, uint64_t length,
		    struct vd_error *error);
	void (*unhold)(struct vd_host_object *object, uint64_t offset, uint64_t length);
	int (*discard)(struct vd_host_object *object, uint64_t offset, uint64_t length,
		       bool blockable);
};

/* The platform's memory map: what there is, by address; and after it what of that is our own. */
struct physical_map {
	uint32_t room, count, own;
	struct vd_physical_range ranges[];
};

/* Locks that objects share: few enough for who comes to listen to pass through all of them. */
#define CHANGE_LOCKS 16u

struct vd_host {
	const struct vd_env *env;
	const struct host_backing *backing;
	struct physical_map *physical; /* of a physical host */
	unsigned page_shift;
	_Atomic uint32_t references; /* the creator's, one an object, and vd_host_get()'s */
	uintptr_t window_base;
	uint64_t window_size;
	int guard_slot; /* in the fault guard's table, or negative */
	const volatile uint32_t *ours; /* not 0 in the process that it was made in */
	uint32_t always;	       /* @ours of a physical host */
	struct vd_notifier notifier;
	struct vd_lock change_locks[CHANGE_LOCKS];
	_Atomic uint32_t objects_made;
	struct vd_lock lock;	     /* what follows; taken after an object's lock */
	struct window_range *ranges;
	struct vd_host_object *objects;
	bool destroyed;
	struct host_holds holds;
};

/* 512 pages, whatever their size: 2 MiB of 4 KiB pages */
#define CHUNK_SHIFT 9u
#define CHUNK_PAGES (1u << CHUNK_SHIFT)

/*
 * State of the pages of a chunk that has any: where each lies, and whether it is write-protected.
 * Written under the object's lock between start and end of an invalidation; read without.
 */
struct page_chunk {
	_Atomic uint32_t frame[CHUNK_PAGES];
	_Atomic uint64_t read_only[CHUNK_PAGES / 64];
	_Atomic uint64_t breaks[CHUNK_PAGES / 64]; /* set: does not go on as the page before it */
};

/* 512 chunks: 1 GiB of 4 KiB pages */
#define GROUP_SHIFT 9u
#define GROUP_CHUNKS (1u << GROUP_SHIFT)

/*
 * A chunk without state is NULL: every page in the frame of its own number, not protected.
 * @stated: of each group, how many chunks have state
 */
struct page_table {
	uint64_t chunks;
	_Atomic uint32_t *stated;
	struct page_chunk *_Atomic chunk[];
};

/* The address of an object that is empty: 0 is one, of a physical range. */
#define ADDRESS_NONE UINTPTR_MAX

struct vd_host_object {
	struct vd_host *host;
	struct vd_host_object *next; /* of the host's objects */
	struct vd_host_object **link;
	_Atomic uint32_t references;
	_Atomic uintptr_t address; /* of frame 0; ADDRESS_NONE: the host was destroyed */
	uint64_t size;
	uint64_t pages;
	uint64_t frames; /* pages and spares */
	enum vd_page_kind kind;
	enum vd_memory_type type;
	unsigned flags;
	unsigned granule_shift; /* of what can be discarded or protected: the page, or a huge one */
	bool private;		/* used at its own address */
	uintptr_t home;		/* that address; of a physical range, where it begins */
	bool truncatable;	/* its owner may shrink it under us */
	int fd;
	uint64_t fd_offset;
	struct window_range *range;
	bool abandoned; /* no reference is left, but a listener would not let go; host's lock */
	struct vd_lock *lock; /* changes of page state and mapping; one of change_locks */
	struct page_table *_Atomic table;
	_Atomic uint64_t *written; /* private: one bit a page, set by a lookup for writing */
	_Atomic uint64_t *gone;	   /* foreign: one bit a page, set when it was unmapped; or NULL */
	struct vd_foreign *foreign; /* the detector that watches it, or NULL */
	bool watched;		   /* it does, or did until it ended */
	bool watched_open;	   /* it does; the detector's lock */
	int guard_slot;		   /* private: in the fault guard's table, or negative */
	uint64_t *spare_used;	   /* one bit a frame */
	uint64_t spare_next;
	struct vd_deferred deferred;
	char name[64];
};

/* window.c */

/*
 * Finds room in the window. Return: 0, -ENOMEM, -ESHUTDOWN. The memory stays PROT_NONE until
 * someone maps something over it.
 */
int window_reserve(struct vd_host *host, uint64_t size, struct window_range **range);
/* Gives a range back and makes it PROT_NONE again; if the kernel cannot, the range stays in use. */
void window_release(struct vd_host *host, struct window_range *range);

/* object.c */
extern const struct host_backing hosted_backing;
/* Bytes that are still there: a truncation is seen here, or by the fault guard. */
uint64_t hosted_present(const struct vd_host_object *object);

/* hold.c, change.c, window.c: of hosted_backing */
int hosted_hold(struct vd_host_object *object, uint64_t offset, uint64_t length,
		struct vd_error *error);
int hosted_discard(struct vd_host_object *object, uint64_t offset, uint64_t length,
		   bool blockable);
void hosted_unhold(struct vd_host_object *object, uint64_t offset, uint64_t length);
void hosted_close_host(struct vd_host *host);
void hosted_free_host(struct vd_host *host);

/* handle.c: what every host and every object has, whatever lies behind it */

/* Locks, chain and the first reference of a host that is otherwise complete. */
void host_open(struct vd_host *host);
/* The bare object: on no list, with nothing mapped. Return: NULL without memory. */
struct vd_host_object *object_new(struct vd_host *host, const char *name, uint64_t size,
				  unsigned flags);
void object_free(struct vd_host_object *object);
int object_check_size(const struct vd_host *host, uint64_t size, unsigned granule_shift,
		      const char *name, struct vd_error *error);
/*
 * The commit of every way to make an object. Return: 0, or -ESHUTDOWN: then whoever destroyed the
 * host has given the object's range back.
 */
int object_publish(struct vd_host_object *object, uintptr_t address);

static inline uint64_t object_present(const struct vd_host_object *object)
{
	return object->truncatable ? object->host->backing->present(object) : object->size;
}

/*
 * Around a change of an object: tells the mirrors, if there are any, and takes the object's lock.
 * Return: 0, or what a listener said; then nothing has begun.
 */
int change_begin(struct vd_host_object *object, const struct vd_invalidation *event, bool *told);
void change_end(struct vd_host_object *object, const struct vd_invalidation *event, bool told);

/* physical.c */
void physical_map_free(const struct vd_env *env, struct physical_map *map);

/* pages.c: state of single pages */

struct page_state {
	uint64_t frame;
	bool read_only;
};

struct page_state pages_get(const struct vd_host_object *object, uint64_t page);
/*
 * How many pages from @page on, at most @limit, lie in consecutive frames with the same protection.
 */
uint64_t pages_run(const struct vd_host_object *object, uint64_t page, uint64_t limit);
/*
 * The same in constant time: it may end early, at the end of 2 MiB of which some page has state,
 * and after 32 MiB of a GiB of which some page has.
 */
uint64_t pages_run_near(const struct vd_host_object *object, uint64_t page, uint64_t limit);
/* Makes room for state of a range. Lock held. Return: 0, -ENOMEM. */
int pages_prepare(struct vd_host_object *object, uint64_t page, uint64_t count);
/* The rest needs a prepared range and the lock. */
void pages_set_frame(struct vd_host_object *object, uint64_t page, uint64_t frame);
void pages_set_read_only(struct vd_host_object *object, uint64_t page, uint64_t count,
			 bool read_only);
void pages_free(struct vd_host_object *object);

/* Private memory: which pages were looked up for writing. */
bool pages_written(const struct vd_host_object *object, uint64_t page);
void pages_mark_written(const struct vd_host_object *object, uint64_t page);
void pages_clear_written(struct vd_host_object *object, uint64_t page, uint64_t count);
uint64_t pages_written_run(const struct vd_host_object *object, uint64_t page, uint64_t limit);

/* Foreign memory: which pages are not mapped any more, for good. */
bool pages_gone(const struct vd_host_object *object, uint64_t page);
void pages_mark_gone(const struct vd_host_object *object, uint64_t page, uint64_t count);
uint64_t pages_gone_run(const struct vd_host_object *object, uint64_t page, uint64_t limit);

/* Spare frames, lock held. Return: a frame, or UINT64_MAX when there is none. */
int spares_prepare(struct vd_host_object *object);
uint64_t spares_take(struct vd_host_object *object);
void spares_give(struct vd_host_object *object, uint64_t frame);

/* hold.c */

/* Whether anybody holds a part of the range of a private object. */
bool holds_any(struct vd_host_object *object, uint64_t offset, uint64_t length);
/* The end of the host: unlocks everything. */
void holds_close(struct vd_host *host);

/* foreign.c */

/* Before a watched object is freed: the detector forgets it, and does not use it any more. */
void foreign_forget(struct vd_host_object *object);
/* Around a change of our own that raises an event. */
void foreign_pause(struct vd_host_object *object, uintptr_t address, uint64_t length);
void foreign_resume(struct vd_host_object *object, uintptr_t address, uint64_t length);

/* guard.c */
bool guard_installed(void);
/*
 * @foreign: not our mapping: accesses that fail are skipped, nothing is mapped over it
 * Return: a slot of the table, or -ENOSPC.
 */
int guard_add_window(uintptr_t base, uint64_t size, bool foreign);
void guard_remove_window(int slot);

#endif
