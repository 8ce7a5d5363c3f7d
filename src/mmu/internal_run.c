/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What happens to one run of an internal VM, exit by exit. The port has the registers; here is only
 * the rule: one abort is the guest's to take if it can, a second one or the time limit ends it.
 */
#include <viaduct/internal.h>

static enum vd_internal_next end(struct vd_internal_run *run, enum vd_internal_result result)
{
	run->result = result;
	return VD_INTERNAL_END;
}

void vd_internal_begin(struct vd_internal *vm, struct vd_internal_run *run, uint64_t limit_ns)
{
	const struct vd_env *env = vd_mem_env(vd_internal_mem(vm));
	uint64_t now = env->clock_ns(env);

	*run = (struct vd_internal_run){
		.deadline = limit_ns > UINT64_MAX - now ? UINT64_MAX : now + limit_ns,
	};
}

static bool is_late(struct vd_internal *vm, const struct vd_internal_run *run)
{
	const struct vd_env *env = vd_mem_env(vd_internal_mem(vm));

	return env->clock_ns(env) >= run->deadline;
}

enum vd_internal_next vd_internal_aborted(struct vd_internal *vm, struct vd_internal_run *run,
					  const struct vd_internal_abort *abort, vd_gpa handler)
{
	struct vd_mmu_leaf leaf;

	if (run->aborts++) {
		run->second = *abort;
		return end(run, VD_INTERNAL_SECOND_ABORT);
	}
	run->abort = *abort;
	if (vd_pgtable_walk(vd_internal_table(vm), handler.value, VD_EXECUTE, &leaf))
		return end(run, VD_INTERNAL_NO_HANDLER);
	return is_late(vm, run) ? end(run, VD_INTERNAL_TIME_LIMIT) : VD_INTERNAL_INJECT;
}

enum vd_internal_next vd_internal_ticked(struct vd_internal *vm, struct vd_internal_run *run)
{
	return is_late(vm, run) ? end(run, VD_INTERNAL_TIME_LIMIT) : VD_INTERNAL_ENTER;
}

enum vd_internal_next vd_internal_returned(struct vd_internal_run *run, uint64_t value)
{
	run->value = value;
	return end(run, VD_INTERNAL_RETURNED);
}

enum vd_internal_next vd_internal_strayed(struct vd_internal_run *run)
{
	return end(run, VD_INTERNAL_STRAY);
}

const char *vd_internal_result_name(enum vd_internal_result result)
{
	switch (result) {
	case VD_INTERNAL_RUNNING:
		return "running";
	case VD_INTERNAL_RETURNED:
		return "returned";
	case VD_INTERNAL_NO_HANDLER:
		return "abort without a handler";
	case VD_INTERNAL_SECOND_ABORT:
		return "second abort";
	case VD_INTERNAL_TIME_LIMIT:
		return "time limit";
	case VD_INTERNAL_STRAY:
		return "stray request";
	}
	return "unknown";
}
