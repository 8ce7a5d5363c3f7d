/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct command commands[] = {
	{"run", "boot a guest with devices assigned to it", command_run},
	{"serve", "serve devices to other programs over vfio-user", command_serve},
	{"ps", "list this user's running machines", command_ps},
	{"status", "what a machine does", command_status},
	{"map", "show a running guest's memory", command_map},
	{"ls", "show devices, and why parts of them are trapped", command_ls},
	{"balloon", "set how much of its memory a guest shall keep", command_balloon},
	{"pause", "stop a machine's harts", command_pause},
	{"resume", "let a paused machine go on", command_resume},
	{"snapshot", "save a running machine as of one moment", command_snapshot},
	{"quit", "end a machine, its disks flushed", command_quit},
	{"riscv-test", "run riscv-tests ELF files on a bare hart", command_riscv_test},
	{"bench", "measure parts of this program", command_bench},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

int complain(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("viaduct: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return code;
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= 63)
		return 99;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[n];
}

const char *nearest(const char *word, const char *const *candidates)
{
	const char *best = NULL;
	size_t least = strlen(word) / 2 + 1;

	for (; *candidates; candidates++) {
		size_t distance = edit_distance(word, *candidates);

		if (distance < least) {
			least = distance;
			best = *candidates;
		}
	}
	return best;
}

static void usage(FILE *out)
{
	fputs("usage: viaduct COMMAND [OPTIONS]\n\n"
	      "Device passthrough for virtual machines, in user space.\n\n", out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fputs("\n`viaduct COMMAND --help` says more; so does viaduct(1).\n", out);
}

int main(int argc, char **argv)
{
	const char *names[COMMANDS + 1] = {NULL}, *near;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("viaduct " VD_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		names[i] = commands[i].name;
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	}
	near = nearest(argv[1], names);
	return complain(EXIT_USAGE, "unknown command '%s'%s%s%s; see viaduct --help", argv[1],
			near ? "; did you mean '" : "", near ? near : "", near ? "'" : "");
}
