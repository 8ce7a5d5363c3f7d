/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct bench`: which benchmarks there are, and which were asked for. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/cli.h"

struct benchmark {
	const char *name, *summary;
	int (*run)(struct bench *bench, struct vd_error *error);
};

static const struct benchmark benchmarks[] = {
	{"slots", "guest address to slot, among 1 to 32768 slots", bench_slots},
	{"hart", "tight integer loops on one hart", bench_hart},
	{"mmio", "a guest's reads of a BAR, direct and trapped", bench_mmio},
	{"mmu", "second-stage tables: walk, fault, zap", bench_mmu},
	{"notifier", "a change of memory with and without its notifier", bench_notifier},
	{"dma", "a device's view: translate, pin, copy, map", bench_dma},
	{"nvme", "4 KiB commands through the NVMe model's doorbells", bench_nvme},
};
#define BENCHMARKS (sizeof(benchmarks) / sizeof(benchmarks[0]))

static void list(void)
{
	for (size_t i = 0; i < BENCHMARKS; i++)
		printf("%-10s%s\n", benchmarks[i].name, benchmarks[i].summary);
}

static void usage(FILE *out)
{
	fputs("usage: viaduct bench [NAME...] [OPTIONS]\n\n"
	      "Measures parts of this program, all of them or those named. Times are nanoseconds\n"
	      "an operation, of processor time where nothing waits: medians of many short\n"
	      "repetitions, with the least and the 90th percentile. Where there is a peer it is\n"
	      "measured in turn with ours; the ratio is ours to the peer's.\n\n"
	      "  --json   one JSON object a line: bench, case, n, median_ns, min_ns, p90_ns, and\n"
	      "           peer, peer_median_ns, peer_min_ns, ratio where there is a peer\n"
	      "  --quick  a few short repetitions: tests the output, measures nothing\n"
	      "  --list   the names\n"
	      "  --help   this text\n", out);
}

static const struct benchmark *find(const char *name)
{
	for (size_t i = 0; i < BENCHMARKS; i++)
		if (!strcmp(benchmarks[i].name, name))
			return &benchmarks[i];
	return NULL;
}

static int unknown(const char *word)
{
	static const char *const options[] = {"--json", "--quick", "--list", "--help", NULL};
	const char *names[BENCHMARKS + 1] = {NULL}, *near;
	bool option = *word == '-';

	for (size_t i = 0; i < BENCHMARKS; i++)
		names[i] = benchmarks[i].name;
	near = nearest(word, option ? options : names);
	return complain(EXIT_USAGE, "unknown %s '%s'%s%s%s; see viaduct bench --%s",
			option ? "option" : "benchmark", word, near ? "; did you mean '" : "",
			near ? near : "", near ? "'?" : "", option ? "help" : "list");
}

static int run(struct bench *bench, const struct benchmark *benchmark)
{
	struct vd_error error = {0};

	bench->name = benchmark->name;
	return benchmark->run(bench, &error) ?
		complain(EXIT_FAILED, "bench %s: %s", benchmark->name, error.text) : EXIT_OK;
}

int command_bench(int argc, char **argv)
{
	struct bench bench = {0};
	bool named = false;
	int rc = EXIT_OK;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout);
			return EXIT_OK;
		}
		if (!strcmp(argv[i], "--list")) {
			list();
			return EXIT_OK;
		}
		if (!strcmp(argv[i], "--json"))
			bench.json = true;
		else if (!strcmp(argv[i], "--quick"))
			bench.quick = true;
		else if (find(argv[i]))
			named = true;
		else
			return unknown(argv[i]);
	}
	if (named) {
		for (int i = 1; i < argc && !rc; i++)
			if (*argv[i] != '-')
				rc = run(&bench, find(argv[i]));
		return rc;
	}
	for (size_t i = 0; i < BENCHMARKS && !rc; i++)
		rc = run(&bench, &benchmarks[i]);
	return rc;
}
