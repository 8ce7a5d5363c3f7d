/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Translation by shadow tables, in place of both stages: the soft TLB is filled from the shadow of
 * what satp says, or of no paging at all. Stores to the guest's own tables are emulated. sfence.vma
 * needs to do nothing here, as shadows are always in step with the guest's tables: it drops what
 * the soft TLB holds of them.
 */
#include "vcpu/riscv/hart.h"

/*
 * Faults of one access before it is given up: a shadow whose pages others keep recycling, somebody
 * who watches the page and is slow to let go of it.
 */
#define SHADOW_TRIES 100000u

static const struct vd_guest_format *guest_format(uint64_t satp)
{
	static const struct vd_guest_format *const by_mode[] = {
		&vd_guest_format_sv39, &vd_guest_format_sv48, &vd_guest_format_sv57};

	return satp >> 60 ? by_mode[(satp >> 60) - 8] : &vd_guest_format_bare;
}

static unsigned shadow_bits(const struct vd_hart *h, unsigned access, enum privilege privilege)
{
	return access | (privilege == PRIV_U ? VD_SHADOW_USER : 0) |
	       (h->sstatus & STATUS_SUM ? VD_SHADOW_SUM : 0) |
	       (h->sstatus & STATUS_MXR ? VD_SHADOW_MXR : 0) |
	       (h->config.flags & VD_HART_SVADU ? VD_SHADOW_UPDATE : 0);
}

static void root_drop(struct vd_hart *h, struct hart_root *root)
{
	if (root->root)
		vd_shadow_root_put(h->config.shadow, root->root);
	root->root = NULL;
}

/* Outside. Return: 0, or why there is no root for @satp. */
static int root_take(struct vd_hart *h, struct hart_root *root, uint64_t satp)
{
	if (root->root && root->satp == satp)
		return 0;
	root_drop(h, root);
	root->satp = satp;
	return vd_shadow_root_get(h->config.shadow, guest_format(satp),
				  (vd_gpa){satp << 4 >> 4 << PAGE_SHIFT}, &root->root);
}

void vd_hart_roots_put(struct vd_hart *h)
{
	root_drop(h, &h->roots[0]);
	root_drop(h, &h->roots[1]);
}

static enum cause cause_of(int error, unsigned access)
{
	switch (error) {
	case -ENXIO:
	case -EPERM:
	case -EBADMSG:
		return access & VD_WRITE ? CAUSE_STORE_PAGE
		     : access & VD_EXECUTE ? CAUSE_FETCH_PAGE : CAUSE_LOAD_PAGE;
	default:
		return access & VD_WRITE ? CAUSE_STORE_ACCESS
		     : access & VD_EXECUTE ? CAUSE_FETCH_ACCESS : CAUSE_LOAD_ACCESS;
	}
}

/*
 * With VD_HART_CHECK_TLB: do the guest's own table and the slot set, both asked afresh, agree with
 * what the shadow said? Another hart may be changing the table: only what stays different is wrong.
 */
static bool differs(struct vd_hart *h, const struct hart_root *root, uint64_t va, unsigned access,
		    const struct vd_shadow_leaf *leaf)
{
	struct vd_notifier *notifier = vd_mem_notifier(h->config.mem);
	uint64_t seq = vd_notifier_begin(notifier);
	struct vd_shadow_access what;
	struct vd_mem_page page;
	int rc = vd_shadow_translate(h->config.shadow, root->root, (vd_gva){va}, &what);

	if (!rc)
		rc = vd_mem_gpa_to_pfn(h->config.mem, what.gpa, access, &page);
	if (rc == -EAGAIN || vd_notifier_retry(notifier, seq, 0, UINT64_MAX))
		return false; /* it is just changing: a flush is on its way */
	return rc || page.host.pfn.value != leaf->leaf.pfn.value ||
	       leaf->guest_size != what.guest_size ||
	       (leaf->leaf.access & ~what.access & (VD_WRITE | VD_EXECUTE)) ||
	       (access & VD_WRITE && (!page.writable || !what.dirty));
}

static void check_fill(struct vd_hart *h, const struct hart_root *root, uint64_t va,
		       unsigned access, unsigned bits)
{
	struct vd_shadow_leaf leaf;

	for (unsigned i = 0; i < 100; i++) {
		if (vd_shadow_walk_guarded(h->config.shadow, root->root, (vd_gva){va}, bits,
					   &leaf) ||
		    !differs(h, root, va, access, &leaf))
			return;
	}
	h->check_failed = true;
}

/* log2 of the guest's page, as a level of the RISC-V formats. */
static unsigned level_of(uint64_t size)
{
	return ((unsigned)__builtin_ctzll(size) - PAGE_SHIFT) / 9;
}

enum cause vd_shadow_path(struct vd_hart *h, uint64_t va, unsigned access,
			  enum privilege privilege, struct translation *t, unsigned *level)
{
	unsigned bits = shadow_bits(h, access, privilege), tries = 0;
	uint64_t satp = privilege == PRIV_M ? 0 : h->satp;
	struct hart_root *root = &h->roots[satp != 0];
	struct vd_shadow_access what;
	struct vd_shadow_leaf leaf;
	int rc;

	t->emulate = false;
	while (!root->root || root->satp != satp ||
	       vd_shadow_walk_guarded(h->config.shadow, root->root, (vd_gva){va}, bits, &leaf)) {
		vd_hart_go_outside(h);
		rc = root_take(h, root, satp);
		if (!rc)
			rc = vd_shadow_fault(h->config.shadow, root->root, (vd_gva){va}, bits,
					     &what);
		if (rc == -ESTALE)
			root_drop(h, root);
		vd_hart_go_inside(h);
		if (rc == -EREMOTE || rc == VD_SHADOW_EMULATE) {
			t->emulate = rc == VD_SHADOW_EMULATE;
			t->host = NULL;
			t->gpa = what.gpa.value;
			*level = level_of(what.guest_size);
			return CAUSE_NONE;
		}
		/* As in stage2(). */
		if ((rc && rc != -ESTALE && rc != -EUCLEAN && rc != -ENOMEM) ||
		    ++tries > SHADOW_TRIES)
			return cause_of(rc, access);
	}
	if (unlikely(h->config.flags & VD_HART_CHECK_TLB))
		check_fill(h, root, va, access, bits);
	t->host = (char *)vd_host_pointer(h->window, leaf.leaf.pfn, PAGE_SHIFT) + (va & ~PAGE_MASK);
	/* Only says which code it is: what is decoded is compared when pages move (code.c). */
	t->gpa = leaf.leaf.pfn.value << PAGE_SHIFT | (va & ~PAGE_MASK);
	*level = level_of(leaf.guest_size);
	return CAUSE_NONE;
}

/* ---- stores to the guest's tables ----------------------------------------------------------- */

static struct mmio_tlb_entry *table_entry(struct vd_hart *h, uint64_t va)
{
	return &h->data->tables[(va >> PAGE_SHIFT) % MMIO_TLB_ENTRIES];
}

bool vd_emulate_cached(struct vd_hart *h, uint64_t va, uint64_t *gpa)
{
	const struct mmio_tlb_entry *e = table_entry(h, va);

	*gpa = e->gpa | (va & ~PAGE_MASK);
	return e->tag == (va & PAGE_MASK);
}

void *vd_emulate_begin(struct vd_hart *h, uint64_t va, uint64_t gpa, unsigned size)
{
	struct mmio_tlb_entry *e = table_entry(h, va);
	unsigned tries = 0;
	int rc;

	e->tag = va & PAGE_MASK;
	e->gpa = gpa & PAGE_MASK;
	vd_hart_go_outside(h);
	do {
		rc = vd_shadow_write_begin(h->config.shadow, (vd_gpa){gpa}, size, &h->store);
	} while (rc == -EUCLEAN && ++tries <= SHADOW_TRIES);
	if (rc) {
		vd_hart_go_inside(h);
		e->tag = TAG_NONE;
		return NULL;
	}
	h->emulating = true;
	h->emulated_va = va;
	return h->store.host;
}

void vd_emulate_end(struct vd_hart *h)
{
	h->emulating = false;
	if (!vd_shadow_write_end(h->config.shadow, &h->store))
		table_entry(h, h->emulated_va)->tag = TAG_NONE;
	h->stats.table_stores++;
	vd_hart_go_inside(h);
}
