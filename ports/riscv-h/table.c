/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which formats this processor has, and a walker of its own, written from the manual and not from
 * the library: "Two-Stage Address Translation", "Svpbmt", "Svnapot".
 */
#include "riscv.h"

#define FORMAT_BYTES 512u

static const struct wanted {
	const char *name;
	const struct vd_mmu_format *format;
	unsigned mode, levels;
	bool marked; /* with groups of 64 KiB (Svnapot) */
} wanted[] = {
	{"Sv39x4", &vd_mmu_format_sv39x4, 8, 3, false},
	{"Sv48x4", &vd_mmu_format_sv48x4, 9, 4, false},
	{"Sv57x4", &vd_mmu_format_sv57x4, 10, 5, false},
	{"Sv39x4 with Svnapot", &vd_mmu_format_sv39x4, 8, 3, true},
	{"Sv48x4 with Svnapot", &vd_mmu_format_sv48x4, 9, 4, true},
	{"Sv57x4 with Svnapot", &vd_mmu_format_sv57x4, 10, 5, true},
};

/* Whether the name of an extension stands anywhere in the device tree. */
static bool has_extension(const char *name)
{
	const unsigned char *tree = (const unsigned char *)port_device_tree;
	uint64_t size = (uint64_t)tree[4] << 24 | tree[5] << 16 | tree[6] << 8 | tree[7];

	for (uint64_t i = 0; i < size; i++) {
		unsigned n = 0;

		while (name[n] && i + n < size && tree[i + n] == (unsigned char)name[n])
			n++;
		if (!name[n])
			return true;
	}
	return false;
}

static const struct wanted *wanted_of(const struct port_format *format)
{
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (wanted[i].name == format->name)
			return &wanted[i];
	__builtin_trap();
}

unsigned port_mode(const struct port_format *format)
{
	return wanted_of(format)->mode;
}

bool port_format(unsigned index, struct port_format *format)
{
	static _Alignas(16) char shape[FORMAT_BYTES];
	const struct wanted *w = &wanted[index];

	if (index >= sizeof(wanted) / sizeof(wanted[0]))
		return false;
	*format = (struct port_format){.name = w->name, .page_shift = 12};
	if (!port_has_mode(w->mode)) {
		format->why = "hgatp has no such mode";
	} else if (!has_extension("svpbmt")) {
		format->why = "this processor has no Svpbmt";
	} else if (w->marked && !has_extension("svnapot")) {
		format->why = "this processor has no Svnapot";
	} else if (w->marked) {
		format->format = w->format;
	} else if (vd_mmu_format_bytes() <= FORMAT_BYTES) {
		vd_mmu_format_unmarked((struct vd_mmu_format *)shape, w->format);
		format->format = (struct vd_mmu_format *)shape;
	}
	return true;
}

const struct port_load *port_user_load(unsigned index)
{
	extern char guest_load_user[], guest_load_user_pc[];
	static const struct port_load load = {
		"a load from VU-mode", guest_load_user, guest_load_user_pc,
	};

	return index ? NULL : &load;
}

/* Sv39: the root holds blocks of 1 GiB; V, R, W, X, A, D. */
void port_first_stage(uint64_t table[512], uint64_t first, uint64_t second)
{
	for (uint64_t i = 0; i < 512; i++)
		table[i] = i < 4 ? i << 28 | 0xcf : 0;
	table[PORT_ALIAS >> 30] = first >> 2 | 0xcf;
	table[(PORT_ALIAS >> 30) + 1] = second >> 2 | 0xcf;
}

/* ---- the walker ------------------------------------------------------------------------------ */

struct walker {
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

static const char *memory_type(uint64_t entry)
{
	static const char *const types[] = {"normal", "normal non-cacheable", "device (PBMT IO)",
					    "reserved PBMT"};

	/* U and A; D as well if it can be written */
	if ((entry & 0x50) != 0x50 || (entry & 0x84) == 4)
		return "without A, D or U";
	return types[entry >> 61 & 3];
}

static void leaf(struct walker *w, uint64_t entry, uint64_t input, uint64_t size, unsigned level)
{
	struct port_run run = {
		.input = input,
		.output = (entry >> 10 & ((UINT64_C(1) << 44) - 1)) << 12,
		.size = size,
		.count = 1,
		.level = level,
		.access = (entry & 2 ? VD_READ : 0) | (entry & 4 ? VD_WRITE : 0) |
			  (entry & 8 ? VD_EXECUTE : 0),
		.marked = entry >> 63,
		.type = memory_type(entry),
	};
	uint64_t behind = w->run.size * w->run.count;

	if (entry >> 63) /* N: 64 KiB, and the low bits of the address say so */
		run.output = (run.output & ~UINT64_C(0xffff)) | (input & 0xf000);
	if (w->run.count && w->run.size == size && w->run.access == run.access &&
	    w->run.type == run.type && w->run.marked == run.marked &&
	    w->run.input + behind == run.input && w->run.output + behind == run.output) {
		w->run.count++;
		return;
	}
	flush_run(w);
	w->run = run;
}

static void walk(struct walker *w, const volatile uint64_t *table, unsigned entries, uint64_t input,
		 unsigned level)
{
	unsigned shift = 12 + 9 * level;

	for (uint64_t i = 0; i < entries; i++) {
		uint64_t entry = table[i], at = input + (i << shift);

		if (!(entry & 1))
			continue;
		if (entry & 0xe)
			leaf(w, entry, at, UINT64_C(1) << shift, level);
		else if (level)
			walk(w, (const volatile uint64_t *)(entry >> 10 << 12), 512, at, level - 1);
	}
}

void port_each(const struct port_format *format, const void *root,
	       void (*fn)(void *context, const struct port_run *run), void *context)
{
	struct walker w = {.fn = fn, .context = context};

	walk(&w, root, 2048, 0, wanted_of(format)->levels - 1);
	flush_run(&w);
}
