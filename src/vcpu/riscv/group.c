/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shoot-down: both sides of it. A request is published with seq_cst before the invalidator
 * looks where the hart is; the hart publishes with seq_cst that it goes in before it looks at its
 * requests. Each loads after its own store, so at least one of the two sees the other.
 */
#include "vcpu/riscv/hart.h"

#define SPINS 200

static void tell_waiters(struct vd_hart *h)
{
	/* seq_cst: pairs with wait_for_hart(), which raises waiters before it looks again */
	if (atomic_load(&h->waiters)) {
		atomic_fetch_add(&h->left, 1);
		h->config.env->wake(h->config.env, &h->left);
	}
}

void vd_hart_go_outside(struct vd_hart *h)
{
	atomic_store(&h->where, HART_OUTSIDE);
	tell_waiters(h);
}

void vd_hart_go_inside(struct vd_hart *h)
{
	atomic_store(&h->where, HART_IN_GUEST);
	if (unlikely(atomic_load(&h->requests) & REQUEST_FLUSH))
		vd_hart_acknowledge_flush(h);
}

void vd_hart_acknowledge_flush(struct vd_hart *h)
{
	vd_tlb_flush_stage2(h);
	h->code_generation++;
	/*
	 * release: what was cached is gone before the invalidator, which acquires the bit, goes on
	 */
	atomic_fetch_and(&h->requests, ~REQUEST_FLUSH);
	tell_waiters(h);
}

void vd_hart_request(struct vd_hart *h, uint32_t bits)
{
	atomic_fetch_or(&h->requests, bits);
	atomic_store(&h->limit, 0);
	if (atomic_load(&h->idle) && h->config.ops->wake)
		h->config.ops->wake(h->config.context, h);
}

static bool must_wait(struct vd_hart *h)
{
	return (atomic_load(&h->requests) & REQUEST_FLUSH) &&
	       atomic_load(&h->where) == HART_IN_GUEST;
}

static void wait_for_hart(struct vd_hart *h)
{
	for (unsigned i = 0; i < SPINS; i++)
		if (!must_wait(h))
			return;
	atomic_fetch_add(&h->waiters, 1);
	for (;;) {
		uint32_t left = atomic_load(&h->left);

		if (!must_wait(h))
			break;
		h->config.env->wait(h->config.env, &h->left, left);
	}
	atomic_fetch_sub(&h->waiters, 1);
}

void vd_hart_request_flush(struct vd_hart *h)
{
	vd_hart_request(h, REQUEST_FLUSH);
	wait_for_hart(h);
}

void vd_hart_group_flush(void *context, vd_gpa start, uint64_t length)
{
	struct vd_hart_group *group = context;
	const struct vd_env *env = group->env;

	(void)start, (void)length; /* soft TLBs are flushed whole */
	env->lock(env, &group->lock);
	for (struct vd_hart *h = group->first; h; h = h->next)
		vd_hart_request(h, REQUEST_FLUSH);
	for (struct vd_hart *h = group->first; h; h = h->next)
		wait_for_hart(h);
	env->unlock(env, &group->lock);
	atomic_fetch_add_explicit(&group->flushes, 1, memory_order_relaxed);
}

static int listener_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct vd_hart_group *group =
		(void *)((char *)listener - offsetof(struct vd_hart_group, listener));

	vd_hart_group_flush(group, (vd_gpa){event->start}, event->length);
	return 0;
}

static void listener_release(struct vd_listener *listener)
{
	struct vd_hart_group *group =
		(void *)((char *)listener - offsetof(struct vd_hart_group, listener));

	vd_hart_group_flush(group, (vd_gpa){0}, UINT64_MAX);
}

static const struct vd_listener_ops listener_ops = {
	.invalidate_start = listener_start,
	.release = listener_release,
};

int vd_hart_group_create(const struct vd_env *env, struct vd_hart_group **result,
			 struct vd_error *error)
{
	struct vd_hart_group *group;

	group = vd_env_allocate(env, "vcpu.group", sizeof(*group), _Alignof(struct vd_hart_group));
	if (!group)
		return vd_error_set(error, -ENOMEM, "out of memory for a group of harts");
	group->env = env;
	env->lock_init(env, &group->lock);
	*result = group;
	return 0;
}

void vd_hart_group_destroy(struct vd_hart_group *group)
{
	if (!group)
		return;
	if (group->mem)
		vd_notifier_unregister(vd_mem_notifier(group->mem), &group->listener);
	group->env->lock_destroy(group->env, &group->lock);
	group->env->release(group->env, group, sizeof(*group));
}

int vd_hart_group_listen(struct vd_hart_group *group, struct vd_mem *mem)
{
	int rc;

	group->listener.ops = &listener_ops;
	rc = vd_notifier_register(vd_mem_notifier(mem), &group->listener);
	if (!rc)
		group->mem = mem;
	return rc;
}

void vd_hart_group_add(struct vd_hart *h)
{
	struct vd_hart_group *group = h->config.group;

	group->env->lock(group->env, &group->lock);
	h->next = group->first;
	group->first = h;
	group->env->unlock(group->env, &group->lock);
}

void vd_hart_group_remove(struct vd_hart *h)
{
	struct vd_hart_group *group = h->config.group;
	struct vd_hart **p = &group->first;

	group->env->lock(group->env, &group->lock);
	while (*p && *p != h)
		p = &(*p)->next;
	if (*p)
		*p = h->next;
	group->env->unlock(group->env, &group->lock);
}

uint64_t vd_hart_group_flushes(const struct vd_hart_group *group)
{
	return atomic_load_explicit(&group->flushes, memory_order_relaxed);
}
