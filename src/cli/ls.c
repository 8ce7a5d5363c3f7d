/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct ls`: of whose devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/ls.h"

static void help(void)
{
	puts("usage: viaduct ls [OPTIONS] [BDF | SOCKET]\n\n"
	     "Shows PCI devices, and of each BAR what a guest has directly, what is trapped, and "
	     "why.\nWithout an argument: the host's own devices, from sysfs, of which nothing but "
	     "files is\nread. With an address on the bus, such as 00:03.0: that one, with its "
	     "IOMMU group and\ncapabilities. With a vfio-user server's socket: what it serves, "
	     "to no other client\nmeanwhile.\n\n"
	     "  --json            the same as one JSON object\n"
	     "  --page-size SIZE  as with pages of SIZE: 4K, 16K, 64K; else the host's\n"
	     "  --isolated        as on a platform that isolates interrupts: MSI-X tables may be\n"
	     "                    mapped\n"
	     "  --shared-pages    as on a platform that lets BARs of one group share a page\n"
	     "  --sysfs DIR       read that tree instead of /sys");
}

static bool parse_page(const char *text, uint64_t *page)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end == 'K' || *end == 'k')
		end++, value *= 1024;
	*page = value;
	return !*end && end != text && value >= 4096 && value <= 1u << 30 &&
	       !(value & (value - 1));
}

/* -1: go on. */
static int parse(int argc, char **argv, struct ls_options *options)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help();
			return EXIT_OK;
		}
		if (!strcmp(argv[i], "--json"))
			options->json = true;
		else if (!strcmp(argv[i], "--isolated"))
			options->isolated = true;
		else if (!strcmp(argv[i], "--shared-pages"))
			options->shared_pages = true;
		else if (!strcmp(argv[i], "--sysfs") && i + 1 < argc)
			options->sysfs = argv[++i];
		else if (!strcmp(argv[i], "--page-size") && i + 1 < argc) {
			if (!parse_page(argv[++i], &options->page))
				return complain(EXIT_USAGE, "'%s' is no page size, such as 64K",
						argv[i]);
		} else if (argv[i][0] == '-')
			return complain(EXIT_USAGE, "unknown option '%s'; see viaduct ls --help",
					argv[i]);
		else if (options->what)
			return complain(EXIT_USAGE, "one device at a time, not also '%s'", argv[i]);
		else
			options->what = argv[i];
	}
	return -1;
}

/* Also one that is not there: no address on the bus looks so. */
static bool is_socket(const char *what)
{
	struct stat status;

	if (!what)
		return false;
	return stat(what, &status) ? strchr(what, '/') && !strstr(what, "/sys/")
				   : S_ISSOCK(status.st_mode);
}

int command_ls(int argc, char **argv)
{
	struct ls_options options = {.sysfs = "/sys", .page = (uint64_t)sysconf(_SC_PAGESIZE)};
	int rc = parse(argc, argv, &options);

	if (rc >= 0)
		return rc;
	return is_socket(options.what) ? ls_socket(&options) : ls_host(&options);
}
