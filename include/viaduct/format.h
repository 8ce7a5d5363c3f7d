/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: page-table formats of floor 3
 *
 * A format is constant, knows the bits of one entry, and no table. All are little endian, with
 * entries of 64 bits. What an architecture offers beyond the leaves listed is not used. Where a
 * leaf cannot say what is asked of it, the operation on the table answers -EOPNOTSUPP: no format
 * has leaves without any access, and write without read exists where it is said.
 *
 * Table pages are addressed as leaves are, see vd_mmu_root(). Entries that lead to tables grant
 * everything: rights are those of the leaf.
 */
#ifndef VIADUCT_FORMAT_H
#define VIADUCT_FORMAT_H

#include <viaduct/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vd_mmu_format;

/* ---- RISC-V --------------------------------------------------------------------------------- */

/**
 * vd_mmu_format_sv39, _sv48, _sv57 - first-stage tables of RISC-V
 *
 * Privileged manual, "Sv39: Page-Based 39-bit Virtual-Memory System" and the two that follow it,
 * with Svpbmt for device memory and Svnapot for groups of 64 KiB. They translate the low 39, 48
 * and 57 bits of a virtual address; that the bits above repeat the highest of them is for the
 * caller to check. The root is 4 KiB. Leaves of 4 KiB, 2 MiB and 1 GiB; user and global count;
 * the first software bit (entry bit 8) marks leaves of device slots. Whether supervisor mode may
 * use a user leaf (SUM), and what an execute-only leaf grants (MXR), is for the walker to say.
 */
extern const struct vd_mmu_format vd_mmu_format_sv39;
extern const struct vd_mmu_format vd_mmu_format_sv48;
extern const struct vd_mmu_format vd_mmu_format_sv57;

/**
 * vd_mmu_format_sv39x4, _sv48x4, _sv57x4 - second-stage tables of the RISC-V hypervisor extension
 *
 * Privileged manual, "Two-Stage Address Translation", with Svpbmt for device memory and Svnapot
 * for groups of 64 KiB. They address 41, 50 and 59 bits; the root is 16 KiB, aligned to its size.
 * Leaves of 4 KiB, 2 MiB and 1 GiB. The first software bit (entry bit 8) marks leaves of device
 * slots.
 */
extern const struct vd_mmu_format vd_mmu_format_sv39x4;
extern const struct vd_mmu_format vd_mmu_format_sv48x4;
extern const struct vd_mmu_format vd_mmu_format_sv57x4;

/* ---- x86 ------------------------------------------------------------------------------------ */

/**
 * VD_MMU_X86_PAT - what IA32_PAT must hold for the x86 formats but EPT
 *
 * Linux has the same layout, so its hosts need no change. From entry 0 up: WB, WC, UC-, UC, WB, WP,
 * UC-, WT. Leaves of normal memory use entry 0, write-combining ones entry 1 (PWT), uncached ones
 * entry 3 (PCD and PWT). With the value of a reset in its place write-combining is write-through.
 */
#define VD_MMU_X86_PAT UINT64_C(0x0407050600070106)

/**
 * vd_mmu_format_x86_64, _x86_64_la57 - tables of 4-level and 5-level paging
 *
 * Intel SDM volume 3, "4-Level Paging and 5-Level Paging"; AMD64 APM volume 2, "Long-Mode Page
 * Translation". They translate the low 48 and 57 bits of a linear address; that it is canonical is
 * for the caller to check. EFER.NXE, CR0.WP and CR4.PGE are set, IA32_PAT is VD_MMU_X86_PAT. Leaves
 * of 4 KiB, 2 MiB and, if the processor has them, 1 GiB. Every leaf can be read; user and global
 * count. Bit 9 marks leaves of device slots. A leaf that lost the right to write may be dirty
 * still: with CR4.CET that is a page of a shadow stack.
 */
extern const struct vd_mmu_format vd_mmu_format_x86_64;
extern const struct vd_mmu_format vd_mmu_format_x86_64_la57;

/**
 * vd_mmu_format_npt, _npt_la57 - the same as second stage: AMD's nested paging
 *
 * AMD64 APM volume 2, "Nested Paging": every access counts as user-level, so U is 1; G is left 0.
 * The host's CR4.LA57 decides which of the two the processor walks. Guest addresses of 48 and 57
 * bits. The walker combines the types of both stages.
 */
extern const struct vd_mmu_format vd_mmu_format_npt;
extern const struct vd_mmu_format vd_mmu_format_npt_la57;

/**
 * vd_mmu_format_pae - tables of PAE paging
 *
 * Intel SDM volume 3, "PAE Paging". 32 bits; the root has 4 entries (32 bytes), and CR3 wants it
 * below 4 GiB. The processor holds these four in registers: the flush of a range of 1 GiB or more
 * loads CR3. Leaves of 4 KiB and 2 MiB, otherwise as vd_mmu_format_x86_64, NX among it.
 */
extern const struct vd_mmu_format vd_mmu_format_pae;

/**
 * vd_mmu_format_ept - Intel's second stage, 4 levels
 *
 * Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)". EPTP bit 6 (accessed and dirty
 * flags) is set, and the processor has execute-only translations. Leaves of 4 KiB, 2 MiB and, if
 * the processor has them, 1 GiB. Each says its memory type (WB, UC, WC) and to ignore the guest's
 * PAT: one page of memory has one type. Bit 11 marks leaves of device slots.
 */
extern const struct vd_mmu_format vd_mmu_format_ept;

/* ---- arm64 ---------------------------------------------------------------------------------- */

/**
 * VD_MMU_ARM64_MAIR - what MAIR_EL1 must hold for the stage-1 formats
 *
 * Attr0 Normal, inner and outer write-back; Attr1 Device-nGnRE, for uncached memory; Attr2 Normal
 * Non-cacheable, for write-combining memory; the others Device-nGnRnE.
 */
#define VD_MMU_ARM64_MAIR UINT64_C(0x4404ff)

/**
 * vd_mmu_format_arm64_s1_4k, _16k, _64k - stage 1 of the EL1&0 regime, by granule
 *
 * Arm ARM, "The AArch64 Virtual Memory System Architecture". 48 bits: the low ones of a virtual
 * address, for TTBR0 or TTBR1. Leaves of 4 KiB, 2 MiB and 1 GiB; 16 KiB and 32 MiB; 64 KiB and
 * 512 MiB. Every leaf can be read; a user's leaf is executed by users only (PXN), any other by the
 * kernel only (UXN); leaves that are not global have nG. MAIR_EL1 is VD_MMU_ARM64_MAIR.
 *
 * Of all arm64 formats: accessed is AF; on a processor that does not set it (HA), leaves made
 * with it clear fault. There is no dirty bit: writable counts as dirty. Uncached memory is
 * Device-nGnRE, write-combining memory Normal Non-cacheable; device leaves and uncached ones
 * cannot be executable. Bit 55 marks leaves of device slots. Contiguous groups of 16, 128 and 32
 * leaves at the last level, of 16, 32 and 32 at the one above. Valid entries change to other valid
 * ones by break-before-make. Addresses have 48 bits.
 */
extern const struct vd_mmu_format vd_mmu_format_arm64_s1_4k;
extern const struct vd_mmu_format vd_mmu_format_arm64_s1_16k;
extern const struct vd_mmu_format vd_mmu_format_arm64_s1_64k;

/**
 * vd_mmu_format_arm64_s2_4k, _16k, _64k - stage 2, by granule, of 40 bits
 *
 * The root is 2 concatenated tables of 4 KiB, 16 of 16 KiB, or one of 2048 entries. Leaves as in
 * stage 1; write-only and execute-only ones exist. FEAT_S2FWB and FEAT_XNX are off. The walker
 * combines the types of both stages.
 */
extern const struct vd_mmu_format vd_mmu_format_arm64_s2_4k;
extern const struct vd_mmu_format vd_mmu_format_arm64_s2_16k;
extern const struct vd_mmu_format vd_mmu_format_arm64_s2_64k;

enum vd_mmu_arm64_stage { VD_MMU_ARM64_STAGE1 = 1, VD_MMU_ARM64_STAGE2 = 2 };

/**
 * vd_mmu_format_arm64() - another shape than those above
 * @format: filled in; vd_mmu_format_bytes() bytes, which outlive what is made of it
 * @granule_shift: 12, 14 or 16
 * @input_bits: 25 to 48: 64 - TnSZ. Whether the processor has as many (PARange) is not checked
 *
 * Stage 2 starts with up to 16 concatenated tables, which saves a level, unless the largest block
 * would be lost with it. Walks of such a format cost more than those of a constant one.
 * Return: 0; -EINVAL the architecture has no such shape.
 */
int vd_mmu_format_arm64(struct vd_mmu_format *format, enum vd_mmu_arm64_stage stage,
			unsigned granule_shift, unsigned input_bits);

/**
 * vd_mmu_format_arm64_control() - what TCR_EL1 or VTCR_EL2 must hold of an arm64 format's shape
 *
 * Return: T0SZ, IRGN0 and ORGN0 (write-back), SH0 (inner shareable) and TG0, and SL0 for stage 2.
 *	The caller adds the rest: the size of physical addresses, EPD1, HA.
 */
uint64_t vd_mmu_format_arm64_control(const struct vd_mmu_format *format);

/* ---- made from others ----------------------------------------------------------------------- */

/** vd_mmu_format_bytes() - size of a struct vd_mmu_format; it is aligned as a pointer is */
size_t vd_mmu_format_bytes(void);

/**
 * vd_mmu_format_unmarked() - the format @from, for a processor without contiguous leaves (RISC-V
 * without Svnapot): none is ever marked
 */
void vd_mmu_format_unmarked(struct vd_mmu_format *format, const struct vd_mmu_format *from);

#ifdef __cplusplus
}
#endif
#endif
