/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the cases share: a host with one object of a few pages, a guest space that maps it, an MMU
 * over that, and harts with a TLB of one entry that obeys its flushes. All real but the hart.
 *
 * The rule that every case checks at every use: a hart never uses a frame that has been taken away.
 */
#ifndef VIADUCT_TESTS_INTERLEAVE_FIXTURE_H
#define VIADUCT_TESTS_INTERLEAVE_FIXTURE_H

#include "interleave.h"

#include <stdio.h>

#include <viaduct/mmu.h>

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x80000000)
#define FRAMES 64u
#define HARTS 2u

/* bits of a hart's word */
#define HART_INSIDE 1u
#define HART_REQUEST 2u

struct hart {
	_Atomic uint32_t word;
	bool present; /* one that is not never enters */
	uint64_t tag; /* of what it has cached: gpa | 1 */
	unsigned access;
	vd_pfn pfn;
};

struct fixture {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_host_object *object;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	uint32_t slot;
	uint64_t first_pfn; /* of frame 0 */
	_Atomic uint32_t taken[FRAMES]; /* frames that nobody may use any more */
	struct hart harts[HARTS];
	unsigned moving; /* frame that the change at hand takes away */
	bool careless;	 /* planted: flushes do not wait */
};

/* A host, an object of @pages pages, a slot at BASE for all of it, an MMU. */
struct fixture *fixture_create(const struct vd_env *env, unsigned pages);
/* Frame of a page of the object now. */
unsigned fixture_frame(const struct fixture *f, uint64_t page);

/* One access of the guest: through the TLB, the tables, or a fault. Return: 0, or the fault's. */
int hart_access(struct fixture *f, unsigned hart, uint64_t gpa, unsigned access);
/* Answers a request to forget. Between accesses. */
void hart_poll(struct fixture *f, unsigned hart);
void hart_enter(struct fixture *f, unsigned hart);
void hart_leave(struct fixture *f, unsigned hart);

/* Moves a page to another frame; what it had must be out of every mirror meanwhile and after. */
void fixture_move(struct fixture *f, uint64_t page);
/* At the end: no translation leads to a frame that was taken away. */
void fixture_finish(void *context);

/* Bugs that can be planted in calls between files: see wrap.c. */
extern struct plants {
	bool no_retry;
	bool no_dirty_mark;
} plants;

#endif
