/* SPDX-License-Identifier: BSD-2-Clause */
#include "insn_paging.h"

#include "insn_program.h"

#define LEAF (INSN_PTE_V | INSN_PTE_R | INSN_PTE_W | INSN_PTE_X)

static unsigned int levels_of(enum insn_satp_mode mode)
{
	return (unsigned int)mode - 5;
}

static vd_gpa entry_of(uint64_t table, uint64_t va, unsigned int level)
{
	return (vd_gpa){ table + (va >> (12 + 9 * level) & 511) * 8 };
}

/* Map one leaf at @level, with the tables it needs. */
static int map(struct insn_paging *paging, uint64_t va, uint64_t gpa, unsigned int leaf_level,
	       uint64_t flags)
{
	uint64_t table = INSN_TABLES_GPA, pte;
	unsigned int level = levels_of(paging->setting.mode);
	int ret;

	while (--level > leaf_level) {
		vd_gpa entry = entry_of(table, va, level);

		ret = vd_mem_read(paging->mem, entry, &pte, sizeof(pte));
		if (ret)
			return ret;
		if (!pte) {
			pte = paging->next_table >> 12 << 10 | INSN_PTE_V;
			paging->next_table += INSN_PAGE;
			ret = vd_mem_write(paging->mem, entry, &pte, sizeof(pte));
			if (ret)
				return ret;
		}
		table = pte >> 10 << 12;
	}
	pte = gpa >> 12 << 10 | flags;
	return vd_mem_write(paging->mem, entry_of(table, va, level), &pte, sizeof(pte));
}

static void shuffle(struct insn_paging *paging, uint64_t seed)
{
	struct ref_random random = { seed };

	for (unsigned int i = 0; i < INSN_PAGES; i++)
		paging->place[i] = (uint16_t)i;
	for (unsigned int i = INSN_PAGES - 1; i > 0; i--) {
		unsigned int j = (unsigned int)(ref_random_next(&random) % (i + 1));
		uint16_t swap = paging->place[i];

		paging->place[i] = paging->place[j];
		paging->place[j] = swap;
	}
}

static int map_image(struct insn_paging *paging)
{
	uint64_t flags = LEAF | INSN_PTE_U;

	if (!paging->setting.hardware_ad)
		flags |= INSN_PTE_A | INSN_PTE_D;
	if (paging->setting.superpage)
		return map(paging, 0, INSN_PAGES_GPA, 1, flags);
	for (uint64_t at = 0; at < INSN_IMAGE_BYTES; at += INSN_PAGE) {
		uint64_t va = INSN_BASE + at;
		int ret = map(paging, va, insn_paging_gpa(paging, va).value, 0, flags);

		if (ret)
			return ret;
	}
	return 0;
}

int insn_paging_build(struct insn_paging *paging, struct vd_mem *mem,
		      const struct insn_setting *setting, uint64_t seed)
{
	static const uint8_t zeros[INSN_PAGE];
	int ret;

	paging->setting = *setting;
	paging->mem = mem;
	paging->satp = 0;
	shuffle(paging, seed);
	if (setting->mode == INSN_BARE)
		return 0;
	for (uint64_t gpa = INSN_TABLES_GPA; gpa < INSN_PAGES_GPA; gpa += INSN_PAGE) {
		ret = vd_mem_write(mem, (vd_gpa){ gpa }, zeros, sizeof(zeros));
		if (ret)
			return ret;
	}
	paging->next_table = INSN_TABLES_GPA + INSN_PAGE;
	paging->satp = (uint64_t)setting->mode << 60 | INSN_TABLES_GPA >> 12;
	ret = map(paging, INSN_STUB_GPA, INSN_STUB_GPA, 0, LEAF | INSN_PTE_A | INSN_PTE_D);
	return ret ? ret : map_image(paging);
}

vd_gpa insn_paging_gpa(const struct insn_paging *paging, uint64_t va)
{
	uint64_t page = va / INSN_PAGE;

	if (paging->setting.mode == INSN_BARE)
		return (vd_gpa){ va };
	if (!paging->setting.superpage)
		page = paging->place[page];
	return (vd_gpa){ INSN_PAGES_GPA + page * INSN_PAGE + va % INSN_PAGE };
}

int insn_paging_copy_in(const struct insn_paging *paging, uint64_t va, const void *from,
			size_t bytes)
{
	while (bytes) {
		size_t part = INSN_PAGE - va % INSN_PAGE;
		int ret;

		part = part < bytes ? part : bytes;
		ret = vd_mem_write(paging->mem, insn_paging_gpa(paging, va), from, part);
		if (ret)
			return ret;
		va += part;
		from = (const char *)from + part;
		bytes -= part;
	}
	return 0;
}

int insn_paging_copy_out(const struct insn_paging *paging, uint64_t va, void *to, size_t bytes)
{
	while (bytes) {
		size_t part = INSN_PAGE - va % INSN_PAGE;
		int ret;

		part = part < bytes ? part : bytes;
		ret = vd_mem_read(paging->mem, insn_paging_gpa(paging, va), to, part);
		if (ret)
			return ret;
		va += part;
		to = (char *)to + part;
		bytes -= part;
	}
	return 0;
}

uint64_t insn_paging_leaf(const struct insn_paging *paging, uint64_t va)
{
	uint64_t table = INSN_TABLES_GPA, pte = 0;

	for (unsigned int level = levels_of(paging->setting.mode); level-- > 0;) {
		if (vd_mem_read(paging->mem, entry_of(table, va, level), &pte, sizeof(pte)) ||
		    !(pte & INSN_PTE_V))
			return 0;
		if (pte & (INSN_PTE_R | INSN_PTE_X))
			break;
		table = pte >> 10 << 12;
	}
	return pte;
}
