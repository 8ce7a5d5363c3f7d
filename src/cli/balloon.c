/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct balloon`, what a machine answers to it, and what it shows of its balloon. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/control.h"
#include "cli/run.h"

static void add(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

/* Names of enum vd_balloon_stat; what the guest did not send is left out. */
static void add_guest(struct json_object *object, const struct vd_balloon_status *b)
{
	static const char *const names[VD_BALLOON_STATS] = {
		"swap_in", "swap_out", "major_faults", "minor_faults", "free", "total",
		"available", "caches", "huge_allocations", "huge_failures",
	};
	struct json_object *guest = json_object_new_object();

	json_object_object_add(object, "guest", guest);
	for (unsigned i = 0; i < VD_BALLOON_STATS; i++)
		if (b->stats_known >> i & 1)
			add(guest, names[i], b->stats[i]);
}

void balloon_add(struct json_object *object, struct vd_vm *vm, struct vd_balloon *balloon)
{
	struct vd_host_object *ram = vd_vm_ram(vm);
	struct vd_balloon_status b;
	struct json_object *o;
	uint64_t resident;

	if (!vd_host_object_resident(ram, 0, vd_host_object_size(ram), &resident))
		add(object, "resident_bytes", resident);
	if (!balloon)
		return;
	vd_balloon_status(balloon, &b);
	o = json_object_new_object();
	json_object_object_add(object, "balloon", o);
	json_object_object_add(o, "ready", json_object_new_boolean(b.ready));
	json_object_object_add(o, "reporting", json_object_new_boolean(b.reporting));
	add(o, "memory", b.memory);
	add(o, "target", b.target);
	add(o, "actual", b.actual);
	add(o, "inflated_bytes", b.inflated);
	add(o, "deflated_bytes", b.deflated);
	add(o, "reported_bytes", b.reported);
	add(o, "discarded_bytes", b.discarded);
	add(o, "pinned_bytes", b.pinned);
	add(o, "poisoned_bytes", b.poisoned);
	add(o, "refused_bytes", b.refused);
	add_guest(o, &b);
}

const char *balloon_set(struct vd_balloon *balloon, const char *size)
{
	uint64_t bytes;

	if (!balloon)
		return "this machine has no balloon; run it with --device balloon";
	if (!parse_size(size, &bytes))
		return "that is not a size; write e.g. 512M";
	if (vd_balloon_set_target(balloon, bytes))
		return "the guest does not have so much memory";
	return NULL;
}

static int print_reply(const char *name, const char *reply)
{
	struct json_object *o = json_tokener_parse(reply), *refusal;
	int code = EXIT_OK;

	if (o && json_object_object_get_ex(o, "error", &refusal))
		code = complain(EXIT_FAILED, "%s: %s", name, json_object_get_string(refusal));
	else
		fputs(reply, stdout);
	json_object_put(o);
	return code;
}

int command_balloon(int argc, char **argv)
{
	char request[64], reply[CONTROL_REPLY_MAX];
	uint64_t size;
	int rc;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		puts("usage: viaduct balloon NAME|PID SIZE\n\n"
		     "Sets how much of its memory a running guest shall keep in use; it gives up\n"
		     "the rest to the host, as fast as it can. Needs --device balloon. Prints the\n"
		     "machine's state; viaduct status shows how far it is.");
		return EXIT_OK;
	}
	if (argc != 3)
		return complain(EXIT_USAGE, "usage: viaduct balloon NAME|PID SIZE");
	if (!parse_size(argv[2], &size))
		return complain(EXIT_USAGE, "%s is not a size; write e.g. 512M", argv[2]);
	snprintf(request, sizeof(request), "balloon %llu", (unsigned long long)size);
	rc = control_request(argv[1], request, reply, sizeof(reply));
	return rc ? rc : print_reply(argv[1], reply);
}
