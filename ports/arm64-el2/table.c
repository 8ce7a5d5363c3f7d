/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which formats this processor has, and a walker of its own, written from the manual and not from
 * the library: Arm ARM, "Translation table descriptor formats" and "Stage 2 attribute fields".
 */
#include "arm64.h"

/* Room for three formats made at run time. */
#define FORMAT_BYTES 512u

struct wanted {
	const char *name;
	unsigned granule, bits;
};

static const struct wanted wanted[] = {
	{"arm64 stage 2, 4 KiB granule, 40 bits", 12, 40},
	{"arm64 stage 2, 16 KiB granule, 40 bits", 14, 40},
	{"arm64 stage 2, 64 KiB granule, 40 bits", 16, 40},
	{"arm64 stage 2, 4 KiB granule, 33 bits", 12, 33},
	{"arm64 stage 2, 16 KiB granule, 36 bits", 14, 36},
	{"arm64 stage 2, 64 KiB granule, 36 bits", 16, 36},
	{"arm64 stage 2, 4 KiB granule, 44 bits", 12, 44},
	{"arm64 stage 2, 16 KiB granule, 44 bits", 14, 44},
	{"arm64 stage 2, 64 KiB granule, 44 bits", 16, 44},
};

/* ID_AA64MMFR0_EL1: TGran4_2, TGran16_2, TGran64_2; 0 there means to look at stage 1's field. */
static bool has_granule(unsigned granule)
{
	uint64_t id = read_sysreg(id_aa64mmfr0_el1);
	unsigned two = (unsigned)(id >> (granule == 12 ? 40 : granule == 14 ? 32 : 36)) & 0xf;
	unsigned one = (unsigned)(id >> (granule == 12 ? 28 : granule == 14 ? 20 : 24)) & 0xf;

	if (two)
		return two >= 2;
	return granule == 14 ? one != 0 : one != 0xf;
}

static unsigned address_bits(void)
{
	static const unsigned char bits[] = {32, 36, 40, 42, 44, 48, 48, 48};

	return bits[read_sysreg(id_aa64mmfr0_el1) & 7];
}

bool port_format(unsigned index, struct port_format *format)
{
	static _Alignas(16) char shape[FORMAT_BYTES];
	const struct wanted *w = &wanted[index];

	if (index >= sizeof(wanted) / sizeof(wanted[0]))
		return false;
	*format = (struct port_format){.name = w->name, .page_shift = w->granule};
	if (!has_granule(w->granule))
		format->why = "this processor has no such granule";
	else if (address_bits() < w->bits)
		format->why = "this processor has fewer address bits";
	else if (vd_mmu_format_bytes() > FORMAT_BYTES ||
		 vd_mmu_format_arm64((struct vd_mmu_format *)shape, VD_MMU_ARM64_STAGE2,
				     w->granule, w->bits))
		format->why = "the library has no such format";
	else
		format->format = (struct vd_mmu_format *)shape;
	return true;
}

const struct port_load *port_user_load(unsigned index)
{
	extern char guest_load_user[], guest_load_user_pc[], guest_load_user32[],
		guest_load_user32_pc[];
	static const struct port_load loads[] = {
		{"a load from EL0", guest_load_user, guest_load_user_pc},
		{"a load from EL0 in 32-bit code", guest_load_user32, guest_load_user32_pc},
	};

	return index < sizeof(loads) / sizeof(loads[0]) ? &loads[index] : NULL;
}

/* Stage 1 as guest.S sets it up: 39 bits, so that the root holds blocks of 1 GiB. */
void port_first_stage(uint64_t table[512], uint64_t first, uint64_t second)
{
	const uint64_t block = 1 | 1 << 10 | 3 << 8; /* valid, AF, inner shareable, Attr0 */

	for (uint64_t i = 0; i < 512; i++)
		table[i] = i < 4 ? i << 30 | block : 0;
	table[PORT_ALIAS >> 30] = first | block;
	table[(PORT_ALIAS >> 30) + 1] = second | block;
}

/* ---- the walker ------------------------------------------------------------------------------ */

struct walker {
	unsigned granule;
	struct port_run run;
	void (*fn)(void *context, const struct port_run *run);
	void *context;
};

static void flush_run(struct walker *w)
{
	if (w->run.count)
		w->fn(w->context, &w->run);
	w->run.count = 0;
}

static const char *memory_type(unsigned memattr)
{
	switch (memattr) {
	case 0x0:
		return "device-nGnRnE";
	case 0x1:
		return "device-nGnRE";
	case 0x5:
		return "normal non-cacheable";
	case 0xf:
		return "normal write-back";
	default:
		return "another type";
	}
}

static void leaf(struct walker *w, uint64_t entry, uint64_t input, uint64_t size, unsigned level)
{
	struct port_run run = {
		.input = input,
		.output = entry & UINT64_C(0x0000fffffffff000) & ~(size - 1),
		.size = size,
		.count = 1,
		.level = level,
		.access = (entry & 1 << 6 ? VD_READ : 0) | (entry & 1 << 7 ? VD_WRITE : 0) |
			  (entry & UINT64_C(1) << 54 ? 0 : VD_EXECUTE),
		.marked = entry >> 52 & 1,
		.type = entry & 1 << 10 ? memory_type((unsigned)(entry >> 2) & 0xf)
					: "without access flag",
	};
	uint64_t behind = w->run.size * w->run.count;

	if (w->run.count && w->run.size == size && w->run.level == level &&
	    w->run.access == run.access && w->run.type == run.type &&
	    w->run.marked == run.marked &&
	    w->run.input + behind == run.input && w->run.output + behind == run.output) {
		w->run.count++;
		return;
	}
	flush_run(w);
	w->run = run;
}

/* @level: the manual's, 3 for pages. */
static void walk(struct walker *w, const volatile uint64_t *table, uint64_t entries,
		 uint64_t input, unsigned level)
{
	unsigned shift = w->granule + (3 - level) * (w->granule - 3);
	uint64_t address_mask = UINT64_C(0x0000ffffffffffff) & ~((UINT64_C(1) << w->granule) - 1);

	for (uint64_t i = 0; i < entries; i++) {
		uint64_t entry = table[i], at = input + (i << shift);

		if (!(entry & 1))
			continue;
		if (level < 3 && entry & 2)
			walk(w, (const volatile uint64_t *)(entry & address_mask),
			     UINT64_C(1) << (w->granule - 3), at, level + 1);
		else if (level < 3 || entry & 2)
			leaf(w, entry, at, UINT64_C(1) << shift, level);
	}
}

/* Where to begin stands in VTCR_EL2: T0SZ, SL0, TG0. */
void port_each(const struct port_format *format, const void *root,
	       void (*fn)(void *context, const struct port_run *run), void *context)
{
	struct walker w = {.granule = format->page_shift, .fn = fn, .context = context};
	uint64_t vtcr = read_sysreg(vtcr_el2);
	unsigned bits = 64 - (vtcr & 0x3f), sl0 = (unsigned)(vtcr >> 6) & 3;
	unsigned level = format->page_shift == 12 ? 2 - sl0 : 3 - sl0;
	unsigned shift = w.granule + (3 - level) * (w.granule - 3);

	walk(&w, root, UINT64_C(1) << (bits - shift), 0, level);
	flush_run(&w);
}
