/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both stages of translation, and accesses that miss the soft TLB. Stage 1 is the guest's own table
 * (privileged manual, "Virtual address translation process"); stage 2 is the secondary MMU's,
 * walked for real.
 */
#include <string.h>

#include "vcpu/riscv/hart.h"

#define PTE_V 1u
#define PTE_R 2u
#define PTE_W 4u
#define PTE_X 8u
#define PTE_U 16u
#define PTE_A 64u
#define PTE_D 128u
#define PTE_PPN(pte) (((pte) >> 10) & ((1ull << 44) - 1))
#define PTE_RESERVED 0xffc0000000000000ull /* N, PBMT and the rest: neither Svnapot nor Svpbmt */

/*
 * Faults of one access before it is given up: only a table that is corrupted over and over, or a
 * host whose memory is used up, needs so many.
 */
#define STAGE2_TRIES 100000u

static enum cause access_fault(unsigned access)
{
	return access & VD_WRITE ? CAUSE_STORE_ACCESS
	     : access & VD_EXECUTE ? CAUSE_FETCH_ACCESS : CAUSE_LOAD_ACCESS;
}

static enum cause page_fault(unsigned access)
{
	return access & VD_WRITE ? CAUSE_STORE_PAGE
	     : access & VD_EXECUTE ? CAUSE_FETCH_PAGE : CAUSE_LOAD_PAGE;
}

/* With VD_HART_CHECK_TLB: does the slot set, asked afresh, agree with what the table said? */
static void check_fill(struct vd_hart *h, uint64_t gpa, unsigned access, vd_pfn pfn)
{
	struct vd_mem_page page;
	uint64_t seq = vd_notifier_begin(vd_mem_notifier(h->config.mem));
	int rc = vd_mem_gpa_to_pfn(h->config.mem, (vd_gpa){gpa}, access, &page);

	if (vd_notifier_retry(vd_mem_notifier(h->config.mem), seq, gpa & PAGE_MASK, PAGE_SIZE))
		return; /* it is just changing: a flush is on its way */
	if (rc || page.host.pfn.value != pfn.value ||
	    ((access & VD_WRITE) && !page.writable && !page.watched))
		h->check_failed = true;
}

/*
 * Second stage: a host pointer for @gpa, NULL in *@host for a trapped area. The walk takes no lock
 * and is done inside; only when the table has nothing does the hart go outside and have it filled,
 * and then walks again.
 */
static enum cause stage2(struct vd_hart *h, uint64_t gpa, unsigned access, void **host)
{
	struct stage2_tlb_entry *e = &h->stage2_tlb[(gpa >> PAGE_SHIFT) % STAGE2_TLB_ENTRIES];
	struct vd_mmu_leaf leaf;
	unsigned tries = 0;
	char *page;
	int rc;

	if (likely(e->tag == (gpa & PAGE_MASK) && !(access & ~e->access))) {
		*host = (void *)(uintptr_t)(gpa + e->addend);
		return CAUSE_NONE;
	}
	for (;;) {
		rc = vd_mmu_walk_guarded(h->config.mmu, (vd_gpa){gpa}, access, &leaf);
		if (rc == 0)
			break;
		vd_hart_go_outside(h);
		rc = vd_mmu_fault(h->config.mmu, (vd_gpa){gpa}, access);
		vd_hart_go_inside(h);
		if (rc == -EREMOTE) {
			*host = NULL;
			return CAUSE_NONE;
		}
		/*
		 * -EUCLEAN: somebody who watches the page is slow to let go of it. -ENOMEM: no
		 * table to be had in the host, which is no fault of the guest unless it lasts.
		 */
		if ((rc && rc != -EUCLEAN && rc != -ENOMEM) || ++tries > STAGE2_TRIES)
			return access_fault(access);
	}
	if (unlikely(h->config.flags & VD_HART_CHECK_TLB))
		check_fill(h, gpa, access, leaf.pfn);
	page = vd_host_pointer(h->window, leaf.pfn, PAGE_SHIFT);
	if (e->tag != (gpa & PAGE_MASK)) {
		e->tag = gpa & PAGE_MASK;
		e->access = 0;
	}
	e->addend = (uint64_t)(uintptr_t)page - (gpa & PAGE_MASK);
	/*
	 * Readable alone does not mark the page dirty: each kind of access is let in by a walk of
	 * its own.
	 */
	e->access |= access | (leaf.access & VD_READ);
	*host = page + (gpa & ~PAGE_MASK);
	return CAUSE_NONE;
}

static bool permitted(const struct vd_hart *h, uint64_t pte, unsigned access,
		      enum privilege privilege)
{
	if (pte & PTE_U) {
		if (privilege == PRIV_S && ((access & VD_EXECUTE) || !(h->sstatus & STATUS_SUM)))
			return false;
	} else if (privilege == PRIV_U) {
		return false;
	}
	if (access & VD_EXECUTE)
		return pte & PTE_X;
	if (access & VD_WRITE)
		return pte & PTE_W;
	return (pte & PTE_R) || ((h->sstatus & STATUS_MXR) && (pte & PTE_X));
}

/* A and D bits: set by the hart with Svadu (menvcfg.ADUE), else missing ones fault. */
static enum cause update_pte(struct vd_hart *h, uint64_t pte_gpa, uint64_t pte, unsigned access,
			     bool *again)
{
	uint64_t want = PTE_A | (access & VD_WRITE ? PTE_D : 0), seen = pte;
	enum cause cause;
	void *p;

	*again = false;
	if ((pte & want) == want)
		return CAUSE_NONE;
	if (!(h->config.flags & VD_HART_SVADU))
		return page_fault(access);
	cause = stage2(h, pte_gpa, VD_READ | VD_WRITE, &p);
	if (cause != CAUSE_NONE || !p)
		return access_fault(access);
	*again = !__atomic_compare_exchange_n((uint64_t *)p, &seen, pte | want, false,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return CAUSE_NONE;
}

struct walk_result { uint64_t gpa; unsigned level; };

/* First stage, from satp. *@again: the table changed under us. */
static enum cause stage1(struct vd_hart *h, uint64_t va, unsigned access, enum privilege privilege,
			 struct walk_result *result, bool *again)
{
	unsigned mode = (unsigned)(h->satp >> 60), levels = mode - 5;
	uint64_t table = (h->satp & ((1ull << 44) - 1)) << PAGE_SHIFT;
	unsigned unused = 64 - (12 + 9 * levels);

	if ((uint64_t)((int64_t)(va << unused) >> unused) != va)
		return page_fault(access);
	for (unsigned level = levels; level-- > 0;) {
		uint64_t pte_gpa = table + (((va >> (12 + 9 * level)) & 511) << 3);
		uint64_t pte, size = 1ull << (12 + 9 * level);
		enum cause cause;
		void *p;

		cause = stage2(h, pte_gpa, VD_READ, &p);
		if (cause != CAUSE_NONE || !p)
			return access_fault(access);
		pte = vd_guest_load64(p);
		if (!(pte & PTE_V) || (pte & (PTE_R | PTE_W)) == PTE_W || (pte & PTE_RESERVED))
			return page_fault(access);
		if (!(pte & (PTE_R | PTE_X))) {
			if (pte & (PTE_A | PTE_D | PTE_U))
				return page_fault(access);
			table = PTE_PPN(pte) << PAGE_SHIFT;
			continue;
		}
		if (!permitted(h, pte, access, privilege) ||
		    (PTE_PPN(pte) << PAGE_SHIFT & (size - 1)))
			return page_fault(access);
		result->gpa = PTE_PPN(pte) << PAGE_SHIFT | (va & (size - 1));
		result->level = level;
		return update_pte(h, pte_gpa, pte, access, again);
	}
	return page_fault(access);
}

static enum privilege effective_privilege(const struct vd_hart *h, unsigned access)
{
	if (h->privilege == PRIV_M && !(access & VD_EXECUTE) && (h->sstatus & STATUS_MPRV))
		return (enum privilege)((h->sstatus & STATUS_MPP) >> 11);
	return h->privilege;
}

static void fill(struct vd_hart *h, uint64_t va, unsigned access, const struct walk_result *r,
		 void *host)
{
	uint64_t page = va & PAGE_MASK, index = va >> PAGE_SHIFT;
	uint64_t addend = (uint64_t)(uintptr_t)host - va;

	h->stats.tlb_fills++;
	if (!host) {
		struct mmio_tlb_entry *m = &h->data->mmio[index % MMIO_TLB_ENTRIES];

		if (!(access & VD_EXECUTE)) {
			/* Each kind of access was let in by a walk of its own. */
			m->access = m->tag == page && m->gpa == (r->gpa & PAGE_MASK)
					    ? m->access | access
					    : access;
			m->gpa = r->gpa & PAGE_MASK;
			m->tag = page;
		}
		return;
	}
	if (access & VD_EXECUTE)
		return; /* code.c keeps those */
	if (access & VD_WRITE)
		h->data->write[index % DATA_TLB_ENTRIES] = (struct data_tlb_entry){page, addend};
	if (access & (VD_READ | VD_WRITE)) /* no table has W without R */
		h->data->read[index % DATA_TLB_ENTRIES] = (struct data_tlb_entry){page, addend};
}

/* No entry allows stores alone, so that is what a store asks for. */
static unsigned store_reads(unsigned access)
{
	return access & VD_WRITE ? VD_READ | VD_WRITE : access;
}

enum cause vd_translate(struct vd_hart *h, uint64_t va, unsigned access, struct translation *t)
{
	enum privilege privilege = effective_privilege(h, access);
	struct walk_result r = {va, 0};
	enum cause cause;
	uint64_t flushes;
	bool again = false;

	/*
	 * Whatever flushed this hart while it was outside may have been about this very page: walk
	 * again then.
	 */
	do {
		flushes = h->flushes_seen;
		cause = CAUSE_NONE;
		if (h->config.shadow) {
			cause = vd_shadow_path(h, va, store_reads(access), privilege, t, &r.level);
			r.gpa = t->gpa;
			continue;
		}
		if (privilege != PRIV_M && h->satp >> 60)
			cause = stage1(h, va, access, privilege, &r, &again);
		if (cause == CAUSE_NONE && !again)
			cause = stage2(h, r.gpa, store_reads(access), &t->host);
	} while (flushes != h->flushes_seen || (again && cause == CAUSE_NONE));
	if (cause != CAUSE_NONE)
		return cause;
	t->gpa = r.gpa;
	vd_tlb_note_superpage(h, va, r.level); /* of tables as well, which shadow.c remembers */
	if (h->config.shadow && t->emulate)
		return CAUSE_NONE;
	fill(h, va, access, &r, t->host);
	return CAUSE_NONE;
}

/* ---- accesses ------------------------------------------------------------------------------- */

static bool mmio_cached(struct vd_hart *h, uint64_t va, unsigned access, uint64_t *gpa)
{
	const struct mmio_tlb_entry *m =
		&h->data->mmio[(va >> PAGE_SHIFT) % MMIO_TLB_ENTRIES];

	if (m->tag != (va & PAGE_MASK) || (access & ~m->access))
		return false;
	*gpa = m->gpa | (va & ~PAGE_MASK);
	return true;
}

static int mmio(struct vd_hart *h, uint64_t gpa, unsigned access, unsigned size, uint64_t *value)
{
	int rc;

	vd_hart_go_outside(h);
	if (access & VD_WRITE) {
		h->stats.mmio_writes++;
		rc = vd_mem_mmio_write(h->config.mem, (vd_gpa){gpa}, size, *value);
	} else {
		h->stats.mmio_reads++;
		rc = vd_mem_mmio_read(h->config.mem, (vd_gpa){gpa}, size, value);
	}
	vd_trace(h->config.env, VD_TRACE_MMIO, gpa, size, *value);
	vd_hart_go_inside(h);
	return rc;
}

static void access_memory(void *host, uint64_t va, unsigned access, unsigned size, uint64_t *value)
{
	if (access & VD_WRITE) {
		if (va & (size - 1))
			vd_guest_copy(host, value, size);
		else if (size == 8)
			vd_guest_store64(host, *value);
		else if (size == 4)
			vd_guest_store32(host, (uint32_t)*value);
		else if (size == 2)
			vd_guest_store16(host, (uint16_t)*value);
		else
			vd_guest_store8(host, (uint8_t)*value);
	} else if (va & (size - 1)) {
		*value = 0;
		vd_guest_copy(value, host, size);
	} else {
		*value = size == 8 ? vd_guest_load64(host) : size == 4 ? vd_guest_load32(host)
		       : size == 2 ? vd_guest_load16(host) : vd_guest_load8(host);
	}
}

static enum cause emulated_store(struct vd_hart *h, uint64_t va, uint64_t gpa, unsigned size,
				 uint64_t *value)
{
	void *host = vd_emulate_begin(h, va, gpa, size);

	if (!host)
		return CAUSE_STORE_ACCESS;
	access_memory(host, va, VD_WRITE, size, value);
	vd_emulate_end(h);
	return CAUSE_NONE;
}

/*
 * Inside one page. Misaligned accesses to memory are allowed and need not be atomic; to trapped
 * areas they fault.
 */
static enum cause access_in_page(struct vd_hart *h, uint64_t va, unsigned access, unsigned size,
				 uint64_t *value)
{
	struct translation t;
	uint64_t gpa, generation;
	enum cause cause;
	int rc;

	if (!(va & (size - 1)) && mmio_cached(h, va, access, &gpa)) {
		rc = mmio(h, gpa, access, size, value);
		if (rc != -ENOENT)
			return rc ? access_fault(access) : CAUSE_NONE;
		/* The cache only says where, not what: memory may lie there by now. */
		h->data->mmio[(va >> PAGE_SHIFT) % MMIO_TLB_ENTRIES].tag = TAG_NONE;
	}
	if (h->config.shadow && access & VD_WRITE && vd_emulate_cached(h, va, &gpa))
		return emulated_store(h, va, gpa, size, value);
	do {
		generation = vd_mem_generation(h->config.mem);
		cause = vd_translate(h, va, access, &t);
		if (cause != CAUSE_NONE)
			return cause;
		if (t.host) {
			access_memory(t.host, va, access, size, value);
			return CAUSE_NONE;
		}
		if (h->config.shadow && t.emulate)
			return emulated_store(h, va, t.gpa, size, value);
		if (va & (size - 1))
			return access & VD_WRITE ? CAUSE_STORE_MISALIGNED : CAUSE_LOAD_MISALIGNED;
		rc = mmio(h, t.gpa, access, size, value);
		/*
		 * A trap that has gone since it was found may have made room for memory: look
		 * again.
		 */
	} while (rc == -ENOENT && generation != vd_mem_generation(h->config.mem));
	return rc ? access_fault(access) : CAUSE_NONE;
}

enum cause vd_load_slow(struct vd_hart *h, uint64_t va, unsigned size, uint64_t *value)
{
	unsigned first = (unsigned)(PAGE_SIZE - (va & ~PAGE_MASK));
	uint64_t result = 0;

	h->fault_va = va;
	if (likely(first >= size))
		return access_in_page(h, va, VD_READ, size, value);
	for (unsigned i = 0; i < size; i++) {
		uint64_t byte;

		h->fault_va = va + i;
		enum cause cause = access_in_page(h, va + i, VD_READ, 1, &byte);

		if (cause != CAUSE_NONE)
			return cause;
		result |= byte << (8 * i);
	}
	*value = result;
	return CAUSE_NONE;
}

enum cause vd_store_slow(struct vd_hart *h, uint64_t va, unsigned size, uint64_t value)
{
	unsigned first = (unsigned)(PAGE_SIZE - (va & ~PAGE_MASK));
	struct translation t;
	enum cause cause;

	h->fault_va = va;
	if (likely(first >= size))
		return access_in_page(h, va, VD_WRITE, size, &value);
	/* Both pages must allow it before a byte changes. */
	h->fault_va = va + first;
	cause = vd_translate(h, va + first, VD_WRITE, &t);
	for (unsigned i = 0; i < size && cause == CAUSE_NONE; i++) {
		uint64_t byte = (value >> (8 * i)) & 0xff;

		h->fault_va = va + i;
		cause = access_in_page(h, va + i, VD_WRITE, 1, &byte);
	}
	return cause;
}
