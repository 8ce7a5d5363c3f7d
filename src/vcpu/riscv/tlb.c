/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft TLB's housekeeping. Only the hart's own thread touches it; others ask by a request
 * (group.c).
 */
#include "vcpu/riscv/hart.h"

#include <string.h>

void vd_tlb_flush_all(struct vd_hart *h)
{
	/* All tags become TAG_NONE; addends do not matter then. */
	memset(h->data_tlbs, 0xff, sizeof(h->data_tlbs));
	memset(h->code_tlbs, 0xff, sizeof(h->code_tlbs));
	memset(h->bloom, 0, sizeof(h->bloom));
	h->flushes_seen++;
	h->stats.tlb_flushes++;
}

void vd_tlb_flush_stage2(struct vd_hart *h)
{
	memset(h->stage2_tlb, 0xff, sizeof(h->stage2_tlb));
	vd_tlb_flush_all(h);
}

/*
 * Superpages are cached in 4 KiB pieces, and sfence.vma of one address must drop them all. Which
 * were cached is remembered in three small Bloom filters, by the size of the leaf.
 */
static unsigned bloom_bit(uint64_t va, unsigned level)
{
	uint64_t key = va >> (12 + 9 * level);

	return (unsigned)((key * 0x9e3779b97f4a7c15ull) >> 55) % BLOOM_BITS;
}

void vd_tlb_note_superpage(struct vd_hart *h, uint64_t va, unsigned level)
{
	unsigned bit;

	if (level == 0)
		return;
	if (level > 3) { /* half of the address space is one leaf: any address may be in it */
		memset(h->bloom, 0xff, sizeof(h->bloom));
		return;
	}
	bit = bloom_bit(va, level);
	h->bloom[level - 1][bit / 64] |= 1ull << (bit % 64);
}

void vd_tlb_flush_page(struct vd_hart *h, uint64_t va)
{
	uint64_t page = va >> PAGE_SHIFT;

	for (unsigned level = 1; level <= 3; level++) {
		unsigned bit = bloom_bit(va, level);

		if (h->bloom[level - 1][bit / 64] >> (bit % 64) & 1) {
			vd_tlb_flush_all(h);
			return;
		}
	}
	for (unsigned c = 0; c < DATA_CONTEXTS; c++) {
		h->data_tlbs[c].read[page % DATA_TLB_ENTRIES].tag = TAG_NONE;
		h->data_tlbs[c].write[page % DATA_TLB_ENTRIES].tag = TAG_NONE;
		h->data_tlbs[c].mmio[page % MMIO_TLB_ENTRIES].tag = TAG_NONE;
		h->data_tlbs[c].tables[page % MMIO_TLB_ENTRIES].tag = TAG_NONE;
	}
	for (unsigned c = 0; c < CODE_CONTEXTS; c++)
		h->code_tlbs[c][page % CODE_TLB_ENTRIES].tag = TAG_NONE;
}

/* Choose the sets that fit the privilege and sstatus.SUM; call after either changed. */
void vd_tlb_update_context(struct vd_hart *h)
{
	static const enum code_context code[4] = {CODE_U, CODE_S, CODE_S, CODE_M};
	enum data_context data = DATA_U;
	enum privilege privilege = h->privilege;

	h->code = h->code_tlbs[code[privilege]];
	if (privilege == PRIV_M && (h->sstatus & STATUS_MPRV))
		privilege = (enum privilege)((h->sstatus & STATUS_MPP) >> 11);
	if (privilege == PRIV_M)
		data = DATA_M;
	else if (privilege == PRIV_S)
		data = h->sstatus & STATUS_SUM ? DATA_S_SUM : DATA_S;
	h->data = &h->data_tlbs[data];
	h->fp_on = h->sstatus & STATUS_FS;
}
