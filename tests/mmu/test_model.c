/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations against a plain array of pages. After each, the brute-force walkers must find
 * in the raw tables what the model says, and a TLB filled by walks and emptied by flushes must
 * hold nothing that the tables do not grant.
 */
#include "fixture.h"

#include "brute.h"
#include "fake_format.h"

#define PAGES 8192u /* the model's guest is 32 MiB */
#define TLB_ENTRIES 128u
#define OPERATIONS 10000u
#define NONE UINT32_MAX

struct model_slot {
	uint64_t base, size;
	struct vd_host_object *object;
	uint64_t offset;
	bool read_only;
	uint32_t id; /* 0: not there now */
	bool log;
};

/* The leaf that maps a page starts at page @head; its state is kept there. */
struct model_page {
	uint32_t head;
	uint32_t size; /* pages */
	uint64_t pfn;
	unsigned access;
	enum vd_memory_type type;
	bool accessed, dirty;
	bool stored; /* since the log of its slot was last fetched */
	bool marked;
};

struct tlb_entry {
	bool valid;
	uint32_t page;
	uint64_t pfn;
	unsigned access;
};

#define SLOTS 7u

struct model {
	struct fixture f;
	const struct vd_mmu_format *format;
	uint32_t block; /* pages of the one block size that fits into the guest */
	struct model_slot slots[SLOTS];
	struct model_page pages[PAGES];
	struct tlb_entry tlb[TLB_ENTRIES];
	uint64_t seed;
};

static uint64_t below(struct model *m, uint64_t n)
{
	return test_random(&m->seed) % n;
}

static void model_flush(void *context, vd_gpa start, uint64_t length)
{
	struct model *m = context;

	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		if (m->tlb[i].page * PAGE - start.value < length)
			m->tlb[i].valid = false;
	}
}

/* ---- the model's own operations ------------------------------------------------------------- */

static bool is_mapped(const struct model *m, uint32_t page)
{
	return m->pages[page].head != NONE;
}

static struct model_page *head_of(struct model *m, uint32_t page)
{
	return &m->pages[m->pages[page].head];
}

static void unmap(struct model *m, uint32_t page)
{
	uint32_t head = m->pages[page].head, size;

	if (head == NONE)
		return;
	size = m->pages[head].size;
	for (uint32_t i = head; i < head + size; i++)
		m->pages[i].head = NONE;
}

static void model_zap(struct model *m, uint64_t start, uint64_t length)
{
	for (uint64_t page = start / PAGE; page <= (start + length - 1) / PAGE && page < PAGES;
	     page++)
		unmap(m, (uint32_t)page);
}

static void model_protect(struct model *m, uint64_t start, uint64_t length)
{
	for (uint64_t page = start / PAGE; page <= (start + length - 1) / PAGE && page < PAGES;
	     page++) {
		if (!is_mapped(m, (uint32_t)page))
			continue;
		head_of(m, (uint32_t)page)->access &= ~VD_WRITE;
		head_of(m, (uint32_t)page)->dirty = false;
	}
}

static bool model_young(struct model *m, uint64_t start, uint64_t length, bool clear)
{
	bool young = false;

	for (uint64_t page = start / PAGE; page <= (start + length - 1) / PAGE && page < PAGES;
	     page++) {
		if (!is_mapped(m, (uint32_t)page))
			continue;
		young |= head_of(m, (uint32_t)page)->accessed;
		if (clear)
			head_of(m, (uint32_t)page)->accessed = false;
	}
	return young;
}

/* What the host does to a range of an object drops every leaf that maps a part of it. */
static void model_object_event(struct model *m, const struct vd_host_object *object,
			       uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct model_slot *slot = &m->slots[i];

		if (!slot->id || slot->object != object)
			continue;
		for (uint64_t at = 0; at < slot->size; at += PAGE) {
			if (slot->offset + at - offset < length)
				unmap(m, (uint32_t)((slot->base + at) / PAGE));
		}
	}
}

static struct model_slot *slot_at(struct model *m, uint32_t page)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (m->slots[i].id && page * PAGE - m->slots[i].base < m->slots[i].size)
			return &m->slots[i];
	}
	return NULL;
}

/* Whether the whole block may be one leaf: asked page by page, which is the definition. */
static bool block_is_alike(struct model *m, uint32_t page)
{
	uint32_t start = page / m->block * m->block;
	struct vd_mem_page first, other;

	if (vd_mem_gpa_to_pfn(m->f.mem, (vd_gpa){start * PAGE}, VD_READ, &first) ||
	    first.dirty_log || first.host.pfn.value % m->block)
		return false;
	for (uint32_t i = 1; i < m->block; i++) {
		vd_gpa gpa = {(start + i) * PAGE};

		if (vd_mem_gpa_to_pfn(m->f.mem, gpa, VD_READ, &other) ||
		    other.slot_id != first.slot_id || other.writable != first.writable ||
		    other.host.pfn.value != first.host.pfn.value + i)
			return false;
	}
	return true;
}

static bool block_is_empty(struct model *m, uint32_t page)
{
	uint32_t start = page / m->block * m->block;

	for (uint32_t i = start; i < start + m->block; i++) {
		if (is_mapped(m, i))
			return false;
	}
	return true;
}

static void model_map(struct model *m, uint32_t page, uint32_t size, unsigned access,
		      const struct vd_mem_page *truth, bool dirty)
{
	uint32_t head = page / size * size;

	for (uint32_t i = head; i < head + size; i++)
		m->pages[i].head = head;
	m->pages[head].size = size;
	m->pages[head].pfn = truth->host.pfn.value - (page - head);
	m->pages[head].access = access;
	m->pages[head].type = truth->host.type;
	m->pages[head].accessed = true;
	m->pages[head].dirty = dirty;
}

static int model_fault(struct model *m, uint32_t page, unsigned access)
{
	struct model_slot *slot = slot_at(m, page);
	struct vd_mem_page truth;
	unsigned allowed = VD_READ;
	uint32_t size;
	int rc;

	if (!slot)
		return -ENOENT;
	rc = vd_mem_gpa_to_pfn(m->f.mem, (vd_gpa){page * PAGE}, access, &truth);
	if (rc)
		return rc;
	if (truth.kind == VD_SLOT_RAM)
		allowed |= VD_EXECUTE;
	else if (access == VD_EXECUTE)
		return -EACCES;
	if (access == VD_WRITE || (truth.writable && !slot->log))
		allowed |= VD_WRITE;
	if (slot->log && access == VD_WRITE)
		m->pages[page].marked = true;
	size = block_is_alike(m, page) ? m->block : 1;
	if (is_mapped(m, page)) {
		struct model_page *head = head_of(m, page);

		/* Accessed and dirty are set where nothing else is missing as well. */
		if (head->access & access || head->size <= size) {
			if (!(head->access & access))
				head->access = allowed;
			head->accessed = true;
			head->dirty |= access == VD_WRITE;
			return 0;
		}
		unmap(m, page);
	}
	if (size > 1 && !block_is_empty(m, page))
		size = 1;
	model_map(m, page, size, allowed, &truth, access == VD_WRITE);
	return 0;
}

/* ---- comparison ----------------------------------------------------------------------------- */

static struct brute_leaf raw(struct model *m, uint32_t page)
{
	size_t bytes;

	return brute_walk(m->format, vd_mmu_root(m->f.mmu, &bytes), vd_host_window_base(m->f.host),
			  page * PAGE);
}

static void compare_page(struct model *m, uint32_t page)
{
	struct brute_leaf leaf = raw(m, page);
	struct model_page *head;
	unsigned access;

	if (leaf.malformed || leaf.found != is_mapped(m, page))
		fail_msg("page %u: %s", page, leaf.found ? "mapped" : "not mapped");
	if (!leaf.found)
		return;
	head = head_of(m, page);
	access = (leaf.read ? VD_READ : 0) | (leaf.write ? VD_WRITE : 0) |
		 (leaf.execute ? VD_EXECUTE : 0);
	if (leaf.address >> 12 != head->pfn + (page - m->pages[page].head) ||
	    leaf.size != head->size * PAGE || access != head->access ||
	    leaf.accessed != head->accessed || leaf.dirty != head->dirty)
		fail_msg("page %u: frame 0x%llx size 0x%llx access %u a %d d %d; expected 0x%llx "
			 "0x%llx %u %d %d",
			 page, (unsigned long long)leaf.address >> 12,
			 (unsigned long long)leaf.size, access, leaf.accessed, leaf.dirty,
			 (unsigned long long)(head->pfn + (page - m->pages[page].head)),
			 (unsigned long long)(head->size * PAGE), head->access, head->accessed,
			 head->dirty);
	assert_int_equal(leaf.type, head->type == VD_MEMORY_UNCACHED	       ? 2
				    : head->type == VD_MEMORY_WRITE_COMBINING ? 1
									      : 0);
}

static void compare_tlb(struct model *m)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		const struct tlb_entry *entry = &m->tlb[i];
		struct brute_leaf leaf;

		if (!entry->valid)
			continue;
		leaf = raw(m, entry->page);
		if (!leaf.found || leaf.address >> 12 != entry->pfn ||
		    (entry->access & VD_WRITE && !(leaf.write && leaf.dirty)) || !leaf.accessed)
			fail_msg("page %u: the TLB holds what the table does not grant",
				 entry->page);
	}
}

static void compare_counts(struct model *m)
{
	struct vd_mmu_stats stats = stats_now(&m->f);
	uint64_t small = 0, large = 0, device = 0, mapped = 0;

	for (uint32_t page = 0; page < PAGES; page++) {
		compare_page(m, page);
		mapped += is_mapped(m, page);
		if (m->pages[page].head == page) {
			*(m->pages[page].size == 1 ? &small : &large) += 1;
			device += slot_at(m, page)->object == m->f.bar ||
						  slot_at(m, page)->object == m->f.registers
					  ? m->pages[page].size
					  : 0;
		}
	}
	assert_int_equal(stats.mapped_bytes, mapped * PAGE);
	assert_int_equal(stats.mapped_4k, small);
	assert_int_equal(stats.mapped_2m, large);
	assert_int_equal(stats.device_pages, device);
}

/* ---- operations on both --------------------------------------------------------------------- */

static const unsigned accesses[] = {VD_READ, VD_WRITE, VD_EXECUTE};

static void op_fault(struct model *m)
{
	uint32_t page = (uint32_t)below(m, PAGES);
	unsigned access = accesses[below(m, 3)];
	int rc = fault(&m->f, page * PAGE + below(m, PAGE), access);

	assert_int_equal(rc, model_fault(m, page, access));
}

/* Half of them go where something is: a hart that faults where the walk fails. */
static void op_access(struct model *m)
{
	struct model_slot *slot = &m->slots[below(m, SLOTS)];
	uint32_t page = (uint32_t)((slot->base + below(m, slot->size)) / PAGE);
	unsigned access = accesses[below(m, 3)];
	struct vd_mmu_leaf leaf;
	int rc = walk(&m->f, page * PAGE, access, &leaf);
	struct model_page *head = is_mapped(m, page) ? head_of(m, page) : NULL;

	assert_int_equal(rc, !head ? -ENOENT : head->access & access ? 0 : -EACCES);
	if (rc) {
		rc = fault(&m->f, page * PAGE, access);
		assert_int_equal(rc, model_fault(m, page, access));
		if (rc)
			return;
		assert_int_equal(walk(&m->f, page * PAGE, access, &leaf), 0);
	}
	head = head_of(m, page);
	head->accessed = true;
	head->dirty |= access == VD_WRITE;
	m->pages[page].stored |= access == VD_WRITE;
	m->tlb[page % TLB_ENTRIES] = (struct tlb_entry){true, page, leaf.pfn.value, access};
}

static void random_range(struct model *m, uint64_t *start, uint64_t *length)
{
	*start = below(m, PAGES * PAGE);
	*length = 1 + below(m, below(m, 8) ? 16 * PAGE : 4 * MIB);
}

static void op_zap(struct model *m)
{
	uint64_t start, length;

	random_range(m, &start, &length);
	vd_mmu_zap(m->f.mmu, (vd_gpa){start}, length);
	model_zap(m, start, length);
}

static void op_protect(struct model *m)
{
	uint64_t start, length;

	random_range(m, &start, &length);
	vd_mmu_write_protect(m->f.mmu, (vd_gpa){start}, length);
	model_protect(m, start, length);
}

static void op_young(struct model *m)
{
	uint64_t start, length;

	random_range(m, &start, &length);
	if (below(m, 2))
		assert_int_equal(vd_mmu_clear_young(m->f.mmu, (vd_gpa){start}, length),
				 model_young(m, start, length, true));
	else
		assert_int_equal(vd_mmu_test_young(m->f.mmu, (vd_gpa){start}, length),
				 model_young(m, start, length, false));
}

static void op_host(struct model *m)
{
	uint64_t pages = SPARES_BYTES / PAGE;
	uint64_t offset = below(m, pages) * PAGE;
	uint64_t length = PAGE * (1 + below(m, 4));
	struct vd_host_object *object = m->f.spares;
	int rc;

	if (length > SPARES_BYTES - offset)
		length = SPARES_BYTES - offset;
	switch (below(m, 3)) {
	case 0:
		rc = vd_host_object_move(object, offset, length, true);
		break;
	case 1:
		rc = vd_host_object_discard(object, offset, length, true);
		break;
	default:
		rc = vd_host_object_protect(object, offset, length, below(m, 4), true);
		break;
	}
	if (rc && rc != -ENOMEM) /* no spare frame is left */
		fail_msg("host change: %d", rc);
	model_object_event(m, object, offset, length);
}

static void slot_add(struct model *m, struct model_slot *slot)
{
	slot->id = fixture_slot(&m->f, slot->base, slot->size, slot->object, slot->offset,
				slot->read_only);
}

static void op_slot(struct model *m)
{
	struct model_slot *slot = &m->slots[below(m, SLOTS)];

	if (!slot->id) {
		slot_add(m, slot);
		return;
	}
	assert_int_equal(vd_mem_remove_slot(m->f.mem, slot->id), 0);
	slot->id = 0;
	slot->log = false;
	model_zap(m, slot->base, slot->size);
}

static void fetch_and_check(struct model *m, struct model_slot *slot)
{
	static uint8_t bitmap[PAGES / 8];

	assert_int_equal(vd_mem_dirty_fetch(m->f.mem, slot->id, bitmap, sizeof(bitmap)), 0);
	for (uint32_t i = 0; i < slot->size / PAGE; i++) {
		struct model_page *page = &m->pages[slot->base / PAGE + i];
		bool bit = bitmap[i / 8] >> i % 8 & 1;

		if (page->stored && !bit)
			fail_msg("page %u was stored to and is not in the log", i);
		assert_int_equal(bit, page->marked);
		page->stored = page->marked = false;
	}
	model_protect(m, slot->base, slot->size);
}

static void op_log(struct model *m)
{
	struct model_slot *slot = &m->slots[below(m, SLOTS)];

	if (!slot->id)
		return;
	if (vd_host_object_kind(slot->object) == VD_PAGE_DEVICE) {
		assert_int_equal(vd_mem_dirty_start(m->f.mem, slot->id), -EINVAL);
		return;
	}
	if (slot->log && below(m, 4)) {
		fetch_and_check(m, slot);
		return;
	}
	if (slot->log) {
		assert_int_equal(vd_mem_dirty_stop(m->f.mem, slot->id), 0);
		slot->log = false;
		return;
	}
	assert_int_equal(vd_mem_dirty_start(m->f.mem, slot->id), 0);
	slot->log = true;
	model_protect(m, slot->base, slot->size);
	for (uint64_t i = 0; i < slot->size / PAGE; i++) {
		m->pages[slot->base / PAGE + i].marked = false;
		m->pages[slot->base / PAGE + i].stored = false;
	}
}

static void (*const operations[])(struct model *m) = {
	op_fault, op_fault, op_access, op_access, op_access, op_access, op_access, op_zap,
	op_protect, op_young, op_young, op_host, op_access, op_access, op_access, op_access,
};

static void model_open(struct model *m, const struct vd_mmu_format *format, uint64_t seed)
{
	struct vd_mmu_config config;
	struct fixture *f = &m->f;

	memset(m, 0, sizeof(*m));
	fixture_open_space(f);
	config = (struct vd_mmu_config){.env = &f->checked.env, .mem = f->mem, .format = format,
					.flush = model_flush, .flush_context = m};
	assert_int_equal(vd_mmu_create(&config, &f->mmu, NULL), 0);
	*checked_mmu() = f->mmu;
	m->format = format;
	m->block = format == &fake_format ? 256 : 512;
	m->seed = *test_seed() = seed;
	for (uint32_t page = 0; page < PAGES; page++)
		m->pages[page].head = NONE;
	m->slots[0] = (struct model_slot){0, 8 * MIB, f->ram, 0, false, 0, false};
	m->slots[1] = (struct model_slot){8 * MIB, 2 * MIB + 3 * PAGE, f->ram, 16 * MIB, true, 0,
					  false};
	m->slots[2] = (struct model_slot){12 * MIB, SPARES_BYTES, f->spares, 0, false, 0, false};
	m->slots[3] = (struct model_slot){16 * MIB + PAGE, MIB, f->spares, MIB / 2, false, 0,
					  false};
	m->slots[4] = (struct model_slot){18 * MIB, BAR_BYTES, f->bar, 0, false, 0, false};
	m->slots[5] = (struct model_slot){26 * MIB + 3 * PAGE, 15 * PAGE, f->registers, PAGE, false,
					  0, false};
	m->slots[6] = (struct model_slot){28 * MIB + PAGE, 2 * MIB, f->bar, 0, true, 0, false};
	for (unsigned i = 0; i < SLOTS; i++)
		slot_add(m, &m->slots[i]);
}

static void run(const struct vd_mmu_format *format, uint64_t seed)
{
	static struct model m;

	model_open(&m, format, seed);
	for (unsigned n = 0; n < OPERATIONS; n++) {
		if (n % 128 == 100)
			op_slot(&m);
		else if (n % 32 == 31)
			op_log(&m);
		else
			operations[below(&m, sizeof(operations) / sizeof(operations[0]))](&m);
		for (unsigned i = 0; i < 8; i++)
			compare_page(&m, (uint32_t)below(&m, PAGES));
		compare_tlb(&m);
		if (n % 32 == 0)
			compare_counts(&m);
	}
	compare_counts(&m);
	assert_true(stats_now(&m.f).faults_protection > 10);
	assert_true(stats_now(&m.f).faults_spurious > 10);
	assert_true(stats_now(&m.f).mapped_4k || stats_now(&m.f).zaps > 1000);
	fixture_close(&m.f);
}

static void sv39x4_follows_the_model(void **state)
{
	(void)state;
	run(&vd_mmu_format_sv39x4, 39);
}

static void sv48x4_follows_the_model(void **state)
{
	(void)state;
	run(&vd_mmu_format_sv48x4, 48);
}

static void sv57x4_follows_the_model(void **state)
{
	(void)state;
	run(&vd_mmu_format_sv57x4, 57);
}

static void fake_follows_the_model(void **state)
{
	(void)state;
	run(&fake_format, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(sv39x4_follows_the_model, test_seed_print),
		cmocka_unit_test_teardown(sv48x4_follows_the_model, test_seed_print),
		cmocka_unit_test_teardown(sv57x4_follows_the_model, test_seed_print),
		cmocka_unit_test_teardown(fake_follows_the_model, test_seed_print),
	};

	return cmocka_run_group_tests_name("mmu model", tests, NULL, NULL);
}
