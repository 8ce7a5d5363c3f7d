/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/run.h"

enum option_kind { TEXT, SIZE, COUNT, FLAG, DEVICE, TRACE, STRESS, MEMORY_KIND, MMU, DMA };

struct option {
	const char *name;
	enum option_kind kind;
	size_t offset;
	const char *argument, *help;
};

#define AT(field) offsetof(struct run_options, field)
static const struct option options_known[] = {
	{"--kernel", TEXT, AT(kernel), "FILE", "RISC-V Linux Image to boot"},
	{"--initrd", TEXT, AT(initrd), "FILE", "initial RAM disk"},
	{"--append", TEXT, AT(append), "TEXT", "kernel command line"},
	{"--memory", SIZE, AT(memory), "SIZE", "guest RAM, e.g. 512M or 2G (default 512M)"},
	{"--memory-kind", MEMORY_KIND, AT(memory_kind), "KIND",
	 "shared (default) or private: anonymous memory, whose changes\n"
	 "                       by other code of the process are watched"},
	{"--cpus", COUNT, AT(cpus), "N", "harts (default 1)"},
	{"--device", DEVICE, 0, "SPEC", "assign a device; may be repeated:\n"
	 "                       nvme,image=FILE[,snapshot=on][,readonly=on][,serial=TEXT]\n"
	 "                            [,backing=uring|sync][,cmb=SIZE]\n"
	 "                       display[,memory=SIZE][,width=N,height=N]\n"
	 "                       balloon[,size=SIZE][,reporting=on|off]\n"
	 "                       edu[,dma_mask=N]\n"
	 "                       vfio-user,socket=PATH[,timeout=MS]"},
	{"--restore", TEXT, AT(restore), "FILE",
	 "go on from a snapshot, with its kernel, memory and devices"},
	{"--no-direct-mmio", FLAG, AT(no_direct_mmio), NULL,
	 "trap every access to device memory instead of mapping it"},
	{"--screenshot", TEXT, AT(screenshot), "FILE",
	 "at exit, write what the display shows as PNG"},
	{"--stats", FLAG, AT(stats), NULL, "at exit, print counters to stderr"},
	{"--stats-json", TEXT, AT(stats_json), "FILE", "at exit, write counters as JSON"},
	{"--trace", TRACE, AT(trace), "LIST", "print events: fault,zap,pin,mmio,dma or all"},
	{"--name", TEXT, AT(name), "NAME", "name of the machine for `viaduct ps`, `quit` ..."},
	{"--mmu", MMU, AT(shadow), "KIND", "two-stage (default), or shadow page tables"},
	{"--dma", DMA, AT(dma), "KIND",
	 "mediated (default): accesses of devices are looked up in the\n"
	 "                       guest's slots, or assigned: through I/O page tables"},
	{"--svadu", FLAG, AT(svadu), NULL, "harts set accessed and dirty bits themselves"},
	{"--check-tlb", FLAG, AT(check_tlb), NULL,
	 "compare every soft TLB fill with a fresh walk (slow)"},
	{"--stress", STRESS, AT(stress), "LIST",
	 "for tests: change guest memory while it runs: move, discard,\n"
	 "                       protect, age, foreign"},
	{"--help", FLAG, AT(help), NULL, "this text"},
};
#define KNOWN (sizeof(options_known) / sizeof(options_known[0]))

void run_options_help(void)
{
	puts("usage: viaduct run --kernel FILE [OPTIONS]\n"
	     "       viaduct run --restore FILE [OPTIONS]\n\n"
	     "Boots a stock riscv64 Linux guest in this process, with devices assigned to it. The\n"
	     "guest's serial port is standard input and output; Ctrl-A x leaves, Ctrl-A h\n"
	     "helps.\n");
	for (size_t i = 0; i < KNOWN; i++) {
		const struct option *o = &options_known[i];
		char left[40];

		snprintf(left, sizeof(left), "%s%s%s", o->name, o->argument ? " " : "",
			 o->argument ? o->argument : "");
		printf("  %-20s %s\n", left, o->help);
	}
	puts("\nExit code: 0 the guest powered off, 1 error, 2 usage, 3 the guest asked for a\n"
	     "reset, 4 the guest panicked, 5 ended by a signal, Ctrl-A x or `viaduct quit`.");
}

bool parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long value;
	unsigned shift = 0;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 0);
	if (*end) {
		const char *unit = strchr(units, *end & ~0x20);

		if (!unit || !*unit)
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if ((*end == 'i' && end[1] == 'B' && !end[2]) || (*end == 'B' && !end[1]))
			end += strlen(end);
	}
	if (*end || errno || (shift && value >> (64 - shift)))
		return false;
	*size = (uint64_t)value << shift;
	return true;
}

static int parse_memory_kind(const char *text, enum vd_vm_memory *kind, struct vd_error *error)
{
	if (!strcmp(text, "shared"))
		*kind = VD_VM_MEMORY_SHARED;
	else if (!strcmp(text, "private"))
		*kind = VD_VM_MEMORY_PRIVATE;
	else
		return vd_error_set(error, -EINVAL, "--memory-kind is shared or private");
	return 0;
}

static int parse_dma(const char *text, enum vd_dma_mode *mode, struct vd_error *error)
{
	if (!strcmp(text, "mediated"))
		*mode = VD_DMA_MEDIATED;
	else if (!strcmp(text, "assigned"))
		*mode = VD_DMA_ASSIGNED;
	else
		return vd_error_set(error, -EINVAL, "--dma is mediated or assigned");
	return 0;
}

static int store(struct run_options *options, const struct option *o, const char *value,
		 struct vd_error *error)
{
	void *field = (char *)options + o->offset;
	uint64_t number;

	switch (o->kind) {
	case TEXT:
		*(const char **)field = value;
		return 0;
	case SIZE:
		if (!parse_size(value, field))
			return vd_error_set(error, -EINVAL, "%s %s: not a size; write e.g. 512M",
					    o->name, value);
		options->memory_given = true;
		return 0;
	case COUNT:
		if (!parse_size(value, &number) || !number || number > 1000)
			return vd_error_set(error, -EINVAL, "%s %s: not a number of cpus", o->name,
					    value);
		*(unsigned *)field = (unsigned)number;
		options->cpus_given = true;
		return 0;
	case FLAG:
		*(bool *)field = true;
		return 0;
	case DEVICE:
		if (options->device_count == RUN_DEVICES_MAX)
			return vd_error_set(error, -E2BIG, "at most %u devices", RUN_DEVICES_MAX);
		options->devices[options->device_count++] = value;
		return 0;
	case TRACE:
		return trace_parse(value, field, error);
	case STRESS:
		return stress_parse(value, field, error);
	case MEMORY_KIND:
		return parse_memory_kind(value, field, error);
	case DMA:
		return parse_dma(value, field, error);
	case MMU:
		options->mmu_given = true;
		*(bool *)field = !strcmp(value, "shadow");
		if (*(bool *)field || !strcmp(value, "two-stage"))
			return 0;
		return vd_error_set(error, -EINVAL, "--mmu takes two-stage or shadow");
	}
	return -EINVAL;
}

static int unknown(const char *word, struct vd_error *error)
{
	const char *names[KNOWN + 1] = {NULL}, *near;
	char name[32]; /* without the value: a long one would hide what is near */

	for (size_t i = 0; i < KNOWN; i++)
		names[i] = options_known[i].name;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	near = nearest(name, names);
	if (near)
		return vd_error_set(error, -EINVAL, "unknown option %s; did you mean %s?", word,
				    near);
	return vd_error_set(error, -EINVAL, "unknown option %s; see viaduct run --help", word);
}

int run_options_parse(int argc, char **argv, struct run_options *options, struct vd_error *error)
{
	*options = (struct run_options){.memory = 512u << 20, .cpus = 1};
	for (int i = 1; i < argc; i++) {
		const struct option *o = NULL;
		const char *equals = strchr(argv[i], '='), *value = NULL;
		size_t length = equals ? (size_t)(equals - argv[i]) : strlen(argv[i]);
		int rc;

		for (size_t k = 0; k < KNOWN && !o; k++)
			if (strlen(options_known[k].name) == length &&
			    !strncmp(options_known[k].name, argv[i], length))
				o = &options_known[k];
		if (!o)
			return unknown(argv[i], error);
		if (o->argument) {
			value = equals ? equals + 1 : ++i < argc ? argv[i] : NULL;
			if (!value)
				return vd_error_set(error, -EINVAL, "%s needs a value: %s", o->name,
						    o->argument);
		} else if (equals) {
			return vd_error_set(error, -EINVAL, "%s takes no value", o->name);
		}
		rc = store(options, o, value, error);
		if (rc)
			return rc;
	}
	return 0;
}
