/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/run.h"
#include "cli/serve.h"

static const char *const known[] = {"--socket", "--per-client", "--pad", "--group", "--threads",
				    "--stats-json", "--help", NULL};

void serve_options_help(void)
{
	puts("usage: viaduct serve DEVICE[,key=value...] --socket PATH "
	     "[DEVICE --socket PATH ...]\n\n"
	     "Serves devices over vfio-user, each at a socket of its own, until a signal ends it.\n"
	     "Prints `ready` when clients can connect. DEVICE is\n\n"
	     "  nvme,image=FILE[,snapshot=on][,readonly=on][,serial=TEXT][,backing=uring|sync]\n"
	     "       [,cmb=SIZE]\n"
	     "  display[,memory=SIZE][,width=N,height=N]\n"
	     "  edu[,dma_mask=N]\n"
	     "  bench                what measures the way to its client\n"
	     "  ./FILE.so[,...]      a device out of the tree\n\n"
	     "After the device that they belong to:\n\n"
	     "  --socket PATH        where it is served; what a dead server left is replaced\n"
	     "  --per-client         a new device for each client; else one device, kept while\n"
	     "                       clients come and go, one at a time\n"
	     "  --pad                BARs smaller than a page have a page each: any client can\n"
	     "                       map them\n"
	     "  --group NAME         devices whose small BARs lie side by side in shared pages:\n"
	     "                       one client that has the group can map them\n\n"
	     "For all:\n\n"
	     "  --threads N          that serve (default: one for each device, eight for one\n"
	     "                       with --per-client, and one more)\n"
	     "  --stats-json FILE    at exit, and on SIGUSR1, write counters as JSON\n"
	     "  --help               this text\n\n"
	     "Exit code: 0 ended by SIGTERM, SIGINT or SIGHUP, disks flushed; 1 error, 2 usage.");
}

static struct serve_export_options *last(struct serve_options *options)
{
	return options->count ? &options->exports[options->count - 1] : NULL;
}

static int begin_export(struct serve_options *options, const char *device, struct vd_error *error)
{
	if (options->count == SERVE_EXPORTS_MAX)
		return vd_error_set(error, -E2BIG, "at most %u devices", SERVE_EXPORTS_MAX);
	options->exports[options->count++] = (struct serve_export_options){.device = device};
	return 0;
}

static int take_threads(struct serve_options *options, const char *value, struct vd_error *error)
{
	uint64_t number;

	if (!parse_size(value, &number) || !number || number > SERVE_THREADS_MAX)
		return vd_error_set(error, -EINVAL, "--threads %s: not a number from 1 to %u",
				    value, SERVE_THREADS_MAX);
	options->threads = (unsigned)number;
	return 0;
}

static int take_socket(struct serve_export_options *export, const char *value,
		       struct vd_error *error)
{
	if (export->socket)
		return vd_error_set(error, -EINVAL, "%s: a device has one socket; write another "
				    "device before the second --socket", export->device);
	export->socket = value;
	return 0;
}

/* An option by its whole name; @value: what belongs to it, or NULL. */
static int take(struct serve_options *options, const char *name, const char *value,
		struct vd_error *error)
{
	struct serve_export_options *export = last(options);

	if (!strcmp(name, "--threads"))
		return take_threads(options, value, error);
	if (!strcmp(name, "--stats-json"))
		options->stats_json = value;
	else if (!strcmp(name, "--help"))
		options->help = true;
	else if (!export)
		return vd_error_set(error, -EINVAL, "%s belongs after a device, such as edu or "
				    "nvme,image=FILE", name);
	else if (!strcmp(name, "--socket"))
		return take_socket(export, value, error);
	else if (!strcmp(name, "--group"))
		export->group = value;
	else if (!strcmp(name, "--pad"))
		export->pad = true;
	else
		export->per_client = true;
	return 0;
}

static int unknown(const char *word, const char *name, struct vd_error *error)
{
	const char *near = nearest(name, known);

	return vd_error_set(error, -EINVAL, "unknown option %s%s%s%s", word,
			    near ? "; did you mean " : "; see viaduct serve --help",
			    near ? near : "", near ? "?" : "");
}

static int parse_option(int argc, char **argv, int *i, struct serve_options *options,
			struct vd_error *error)
{
	const char *word = argv[*i], *equals = strchr(word, '='), *value = NULL;
	bool wants_value;
	char name[32];
	unsigned k = 0;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	while (known[k] && strcmp(known[k], name))
		k++;
	if (!known[k])
		return unknown(word, name, error);
	wants_value = strcmp(name, "--per-client") && strcmp(name, "--pad") &&
		      strcmp(name, "--help");
	if (wants_value) {
		value = equals ? equals + 1 : ++*i < argc ? argv[*i] : NULL;
		if (!value)
			return vd_error_set(error, -EINVAL, "%s needs a value", name);
	} else if (equals) {
		return vd_error_set(error, -EINVAL, "%s takes no value", name);
	}
	return take(options, name, value, error);
}

static int check(const struct serve_options *options, struct vd_error *error)
{
	if (!options->count)
		return vd_error_set(error, -EINVAL, "no device given; write for instance viaduct "
				    "serve nvme,image=disk.img --socket /tmp/nvme.sock");
	for (unsigned i = 0; i < options->count; i++) {
		const struct serve_export_options *export = &options->exports[i];

		if (!export->socket)
			return vd_error_set(error, -EINVAL, "%s: no socket given; write --socket "
					    "PATH after it", export->device);
		if (export->pad && export->group)
			return vd_error_set(error, -EINVAL, "%s: --pad gives each BAR a page, "
					    "--group shares pages: one of them", export->device);
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(export->socket, options->exports[k].socket))
				return vd_error_set(error, -EINVAL, "%s and %s are at the same "
						    "socket", options->exports[k].device,
						    export->device);
	}
	return 0;
}

/*
 * A thread that waits for a client's answer serves nobody else. So there are as many as there are
 * clients, and one for those that come: who never answers holds nobody else up.
 */
static unsigned threads_for(const struct serve_options *options)
{
	unsigned threads = 1;

	for (unsigned i = 0; i < options->count; i++)
		threads += options->exports[i].per_client ? 8 : 1;
	return threads < SERVE_THREADS_MAX ? threads : SERVE_THREADS_MAX;
}

int serve_options_parse(int argc, char **argv, struct serve_options *options,
			struct vd_error *error)
{
	int rc = 0;

	*options = (struct serve_options){0};
	for (int i = 1; i < argc && !rc; i++)
		rc = argv[i][0] == '-' ? parse_option(argc, argv, &i, options, error)
				       : begin_export(options, argv[i], error);
	if (!options->threads)
		options->threads = threads_for(options);
	return rc || options->help ? rc : check(options, error);
}
