/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `snapshot PATH` and `snapshot-copy-image PATH` at the machine's side: on a thread of its own, so
 * that the machine can be asked and paused meanwhile. The reply is lines of JSON: {"done","total"}
 * now and then, and one with the result, or with "error".
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/control.h"
#include "cli/snapshot.h"

#define REPORT_NS 250000000u

struct snapshot_job {
	struct vd_vm *vm;
	struct run_record *record;
	int fd;
	bool copy;
	uint64_t reported_ns;
	char path[PATH_MAX];
};

static int send_line(const struct snapshot_job *job, struct json_object *o)
{
	char line[CONTROL_REPLY_MAX];
	int n = snprintf(line, sizeof(line), "%s\n",
			 json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));

	json_object_put(o);
	if (n < 0 || (size_t)n >= sizeof(line))
		return 0;
	return send(job->fd, line, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -ECANCELED;
}

/* Who asked has gone: he does not want it any more. */
static int report(void *context, uint64_t done, uint64_t total)
{
	struct snapshot_job *job = context;
	uint64_t now = vd_env_hosted()->clock_ns(vd_env_hosted());
	struct json_object *o;

	if (now - job->reported_ns < REPORT_NS)
		return 0;
	job->reported_ns = now;
	o = json_object_new_object();
	json_object_object_add(o, "done", json_object_new_uint64(done));
	json_object_object_add(o, "total", json_object_new_uint64(total));
	return send_line(job, o);
}

static struct json_object *describe(const struct snapshot_job *job,
				    const struct vd_vm_snapshot_result *result, uint64_t ns)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "snapshot", json_object_new_string(job->path));
	json_object_object_add(o, "pause_ms",
			       json_object_new_double((double)result->pause_ns / 1e6));
	json_object_object_add(o, "devices_held_ms",
			       json_object_new_double((double)result->held_ns / 1e6));
	json_object_object_add(o, "memory_bytes", json_object_new_uint64(result->memory_bytes));
	json_object_object_add(o, "file_bytes", json_object_new_uint64(result->file_bytes));
	json_object_object_add(o, "seconds", json_object_new_double((double)ns / 1e9));
	return o;
}

static void *job_thread(void *argument)
{
	struct snapshot_job *job = argument;
	const struct vd_env *env = vd_env_hosted();
	uint64_t start = env->clock_ns(env);
	struct vd_vm_snapshot_result result;
	struct vd_error error = {0};
	struct json_object *o;

	job->reported_ns = start;
	if (snapshot_take(job->vm, job->record, job->path, job->copy, report, job, &result,
			  &error)) {
		o = json_object_new_object();
		json_object_object_add(o, "error", json_object_new_string(error.text));
	} else {
		o = describe(job, &result, env->clock_ns(env) - start);
	}
	(void)send_line(job, o);
	close(job->fd);
	free(job);
	return NULL;
}

int control_snapshot_start(struct vd_vm *vm, struct run_record *record, const char *path,
			   bool copy, int fd, pthread_t *thread)
{
	struct snapshot_job *job = calloc(1, sizeof(*job));
	int rc;

	if (!job)
		return -ENOMEM;
	*job = (struct snapshot_job){.vm = vm, .record = record, .copy = copy};
	snprintf(job->path, sizeof(job->path), "%s", path);
	job->fd = dup(fd);
	rc = job->fd < 0 ? -errno : -pthread_create(thread, NULL, job_thread, job);
	if (rc) {
		if (job->fd >= 0)
			close(job->fd);
		free(job);
	}
	return rc;
}
