/* SPDX-License-Identifier: BSD-2-Clause */
/* A hart's life: creation, the run loop with its poll point, registers. */
#include <string.h>

#include "vcpu/riscv/op.h"

#define REQUESTS_TO_CLEAR                                                                          \
	(REQUEST_INTERRUPT | REQUEST_STOP | REQUEST_SOFTWARE | REQUEST_POLL | REQUEST_LOST_PAGE)

uint64_t vd_hart_time(const struct vd_hart *h)
{
	uint64_t ns = h->config.env->clock_ns(h->config.env);

	return ns / h->ns_per_tick + h->time_offset;
}

void vd_hart_publish_stats(struct vd_hart *h)
{
	const uint64_t *from = (const uint64_t *)&h->stats;

	h->stats.instructions = h->count;
	for (unsigned i = 0; i < HART_STATS; i++)
		atomic_store_explicit(&h->published[i], from[i], memory_order_relaxed);
}

/* When the timer goes off, on the environment's clock. */
static uint64_t timer_deadline(const struct vd_hart *h)
{
	uint64_t ticks = h->stimecmp - h->time_offset;

	if (!(h->sie >> IRQ_STIMER & 1) || h->stimecmp == UINT64_MAX)
		return UINT64_MAX;
	if (vd_hart_time(h) >= h->stimecmp)
		return 0;
	return ticks < UINT64_MAX / h->ns_per_tick ? ticks * h->ns_per_tick : UINT64_MAX;
}

/* WFI: nothing can happen here before an interrupt, a request or the timer. */
static void idle(struct vd_hart *h)
{
	uint64_t deadline = timer_deadline(h);

	vd_hart_go_outside(h);
	/*
	 * seq_cst: pairs with vd_hart_request(), which sets its bit before it looks at idle
	 */
	atomic_store(&h->idle, 1);
	if (!(atomic_load(&h->requests) & REQUESTS_TO_CLEAR))
		h->config.ops->idle(h->config.context, h, deadline);
	atomic_store(&h->idle, 0);
	vd_hart_go_inside(h);
}

/* The poll point, in guest: everything that others want of this hart. False: leave. */
static bool service(struct vd_hart *h)
{
	uint32_t requests;

	vd_hart_publish_stats(h);
	/*
	 * First the limit, then the requests: a request made after this load sets the limit to 0
	 * again.
	 */
	atomic_store(&h->limit, h->count + SLICE);
	requests = atomic_load(&h->requests);
	if (requests) {
		if (requests & REQUEST_FLUSH)
			vd_hart_acknowledge_flush(h);
		atomic_fetch_and(&h->requests, ~(requests & REQUESTS_TO_CLEAR));
		if (requests & REQUEST_SOFTWARE)
			h->sip_software |= 1u << IRQ_SSOFT;
		if (requests & REQUEST_STOP) {
			h->exit = VD_HART_EXIT_STOP;
			return false;
		}
		if (requests & REQUEST_LOST_PAGE) {
			vd_trap_take(h, h->pc, CAUSE_LOAD_ACCESS, h->pc);
			h->waiting = false;
		}
	}
	if (h->config.ops->poll) {
		vd_hart_go_outside(h);
		h->config.ops->poll(h->config.context, h);
		vd_hart_go_inside(h);
	}
	if (h->check_failed) {
		h->exit = VD_HART_EXIT_CHECK;
		return false;
	}
	if (h->waiting) {
		if (h->config.ops->idle && !vd_trap_pending(h)) {
			idle(h);
			return true;
		}
		h->waiting = false;
	}
	return true;
}

static void run_operations(struct vd_hart *h, const struct op *op)
{
#if VD_HART_LOOP
	while (op) {
		op = vd_op_table[op->code].run(h, op, h->count, vd_op_table);
		h->count++;
	}
#else
	vd_op_table[op->code].run(h, op, h->count, vd_op_table);
#endif
}

enum vd_hart_exit vd_hart_run(struct vd_hart *h)
{
	h->exit = 0;
	h->leave = false;
	h->guard.notify = &h->requests;
	h->guard.notify_bits = REQUEST_LOST_PAGE;
	vd_host_guard_enter(&h->guard);
	vd_hart_go_inside(h);
	atomic_store(&h->limit, 0);
	while (!h->leave) {
		const struct op *op;

		if (h->waiting || h->count >= atomic_load(&h->limit)) {
			if (!service(h))
				break;
			if (h->waiting)
				continue;
		}
		vd_trap_interrupt(h);
		op = vd_code_find(h, h->pc);
		if (op)
			run_operations(h, op);
		else /* or a handler that cannot be fetched would never meet the limit */
			h->count++;
	}
	vd_hart_go_outside(h);
	vd_host_guard_leave(&h->guard);
	vd_hart_publish_stats(h);
	return h->exit;
}

int vd_hart_create(const struct vd_hart_config *config, struct vd_hart **result,
		   struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_hart *h;

	if (!config->group || !config->mem || !(config->mmu || config->shadow) || !config->ops ||
	    config->timebase_hz == 0 || config->timebase_hz > 1000000000u)
		return vd_error_set(error, -EINVAL, "a hart needs a group, memory, tables, "
				    "operations and a timebase of at most 1 GHz");
	h = vd_env_allocate(env, "vcpu.hart", sizeof(*h), 64);
	if (!h)
		return vd_error_set(error, -ENOMEM, "out of memory for hart %u", config->id);
	h->config = *config;
	h->window = vd_host_window_base(vd_mem_host(config->mem));
	h->ns_per_tick = 1000000000u / config->timebase_hz;
	if (vd_code_cache_create(h)) {
		env->release(env, h, sizeof(*h));
		return vd_error_set(error, -ENOMEM, "out of memory for the code of hart %u",
				    config->id);
	}
	vd_hart_reset(h, (vd_gva){0});
	vd_hart_group_add(h);
	*result = h;
	return 0;
}

void vd_hart_destroy(struct vd_hart *h)
{
	if (!h)
		return;
	vd_hart_group_remove(h);
	vd_code_cache_destroy(h);
	vd_hart_roots_put(h);
	h->config.env->release(h->config.env, h, sizeof(*h));
}

void vd_hart_reset(struct vd_hart *h, vd_gva pc)
{
	memset(h->x, 0, sizeof(h->x));
	memset(h->f, 0, sizeof(h->f));
	h->fcsr = 0;
	h->pc = pc.value;
	h->reservation = UINT64_MAX;
	h->privilege = hart_machine(h) ? PRIV_M : PRIV_S;
	h->sstatus = 0;
	h->sie = h->sip_software = h->stvec = h->satp = h->senvcfg = h->siselect = 0;
	h->scounteren = 7;
	h->stimecmp = UINT64_MAX;
	h->mie = h->mtvec = h->medeleg = h->mideleg = h->mip_software = 0;
	h->mcounteren = 7;
	h->imsic.delivery = h->imsic.threshold = 0;
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&h->imsic.pending[i], 0);
		h->imsic.enabled[i] = 0;
	}
	h->waiting = h->user_only = false;
	h->page_tag = TAG_NONE;
	vd_tlb_flush_stage2(h);
	h->code_generation++;
	vd_tlb_update_context(h);
}

void vd_hart_set_user(struct vd_hart *h)
{
	h->user_only = true;
	h->privilege = PRIV_U;
	h->sstatus |= STATUS_FS;
	vd_tlb_update_context(h);
}

void vd_hart_request_stop(struct vd_hart *h)
{
	vd_hart_request(h, REQUEST_STOP);
}

void vd_hart_software_interrupt(struct vd_hart *h)
{
	vd_hart_request(h, REQUEST_SOFTWARE);
}

void vd_hart_request_poll(struct vd_hart *h)
{
	vd_hart_request(h, REQUEST_POLL);
}

void vd_hart_set_timer(struct vd_hart *h, uint64_t ticks)
{
	h->stimecmp = ticks;
}

void vd_hart_set_time(struct vd_hart *h, uint64_t ticks, uint64_t clock_ns)
{
	h->time_offset = ticks - clock_ns / h->ns_per_tick;
}

unsigned vd_hart_id(const struct vd_hart *h)
{
	return h->config.id;
}

uint64_t vd_hart_x(const struct vd_hart *h, unsigned index)
{
	return index < 32 ? h->x[index] : 0;
}

void vd_hart_set_x(struct vd_hart *h, unsigned index, uint64_t value)
{
	if (index > 0 && index < 32)
		h->x[index] = value;
}

uint64_t vd_hart_f(const struct vd_hart *h, unsigned index)
{
	return index < 32 ? h->f[index] : 0;
}

void vd_hart_set_f(struct vd_hart *h, unsigned index, uint64_t bits)
{
	if (index < 32)
		h->f[index] = bits;
}

uint32_t vd_hart_fcsr(const struct vd_hart *h)
{
	return h->fcsr;
}

void vd_hart_set_fcsr(struct vd_hart *h, uint32_t value)
{
	h->fcsr = value & 255;
}

vd_gva vd_hart_pc(const struct vd_hart *h)
{
	return (vd_gva){h->pc};
}

void vd_hart_stats(const struct vd_hart *h, struct vd_hart_stats *stats)
{
	uint64_t *to = (uint64_t *)stats;

	for (unsigned i = 0; i < HART_STATS; i++)
		to[i] = atomic_load_explicit(&h->published[i], memory_order_relaxed);
}
