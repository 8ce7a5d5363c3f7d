/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest's own page tables around a program: every page of the image lies somewhere else in guest
 * memory, or all of it in one superpage.
 */
#ifndef VD_TESTS_VCPU_INSN_PAGING_H
#define VD_TESTS_VCPU_INSN_PAGING_H

#include <viaduct/mem.h>

#include "fp_reference.h"

#define INSN_PAGE 4096u

/* The layout of guest memory, all of it RAM. */
#define INSN_RAM_BASE UINT64_C(0x80000000)
#define INSN_RAM_BYTES UINT64_C(0x800000)
#define INSN_STUB_GPA INSN_RAM_BASE /* mapped to itself, for supervisor code */
#define INSN_TABLES_GPA (INSN_RAM_BASE + 0x10000)
#define INSN_PAGES_GPA (INSN_RAM_BASE + 0x200000) /* 2 MiB of pages the image is spread over */
#define INSN_PAGES 512u

enum insn_satp_mode { INSN_BARE = 0, INSN_SV39 = 8, INSN_SV48 = 9, INSN_SV57 = 10 };

/*
 * struct insn_setting - what lies between a program and memory
 * @mode: of satp. Bare: virtual addresses are guest physical ones
 * @superpage: a leaf of 2 MiB, else one of 4 KiB a page
 * @hardware_ad: accessed and dirty bits start clear and are the hart's to set (Svadu)
 */
struct insn_setting {
	enum insn_satp_mode mode;
	bool superpage;
	bool hardware_ad;
};

struct insn_paging {
	struct insn_setting setting;
	struct vd_mem *mem;
	uint64_t satp;
	uint64_t next_table;
	uint16_t place[INSN_PAGES]; /* of each page of the image among INSN_PAGES_GPA's */
};

/* Build tables; the shuffle depends on @seed. Return: 0 or -errno. */
int insn_paging_build(struct insn_paging *paging, struct vd_mem *mem,
		      const struct insn_setting *setting, uint64_t seed);

/* Where a virtual address of the image lies in guest memory. */
vd_gpa insn_paging_gpa(const struct insn_paging *paging, uint64_t va);

/* The image, to and from guest memory. Return: 0 or -errno. */
int insn_paging_copy_in(const struct insn_paging *paging, uint64_t va, const void *from,
			size_t bytes);
int insn_paging_copy_out(const struct insn_paging *paging, uint64_t va, void *to, size_t bytes);

/* The leaf entry that maps an address, 0 if there is none. */
uint64_t insn_paging_leaf(const struct insn_paging *paging, uint64_t va);

#define INSN_PTE_V 1u
#define INSN_PTE_R 2u
#define INSN_PTE_W 4u
#define INSN_PTE_X 8u
#define INSN_PTE_U 16u
#define INSN_PTE_A 64u
#define INSN_PTE_D 128u

#endif
