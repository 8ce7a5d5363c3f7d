/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem/space.h"

/*
 * Events this thread is between start and end of, over all spaces. One that is started inside
 * another does not wait for a swap, which waits for the other.
 */
static _Thread_local int events_inside;

static void gate_lock(struct vd_mem *mem)
{
	mem->env->lock(mem->env, &mem->gate.lock);
}

static void gate_unlock(struct vd_mem *mem)
{
	mem->env->unlock(mem->env, &mem->gate.lock);
}

/* Gate lock held on entry and exit, not meanwhile. */
static void gate_sleep(struct vd_mem *mem)
{
	uint32_t seen = atomic_load_explicit(&mem->gate.word, memory_order_relaxed);

	gate_unlock(mem);
	mem->env->wait(mem->env, &mem->gate.word, seen);
	gate_lock(mem);
}

/* Gate lock held on entry, not on exit. */
static void gate_unlock_and_wake(struct vd_mem *mem)
{
	atomic_fetch_add_explicit(&mem->gate.word, 1, memory_order_relaxed);
	gate_unlock(mem);
	mem->env->wake(mem->env, &mem->gate.word);
}

static void let_swap_pass(struct vd_mem *mem)
{
	struct vd_mem_gate *gate = &mem->gate;
	uint64_t swaps = gate->swaps;

	gate->events_waiting++;
	while (gate->swaps == swaps)
		gate_sleep(mem);
	gate->events_admitted--;
}

int vd_gate_enter_event(struct vd_mem *mem, bool blockable)
{
	struct vd_mem_gate *gate = &mem->gate;
	int r = 0;

	gate_lock(mem);
	if (blockable && (gate->swapping || (gate->swap_waiting && events_inside <= 0)))
		let_swap_pass(mem);
	if (gate->closed)
		r = -ESHUTDOWN;
	else if (gate->swapping)
		r = -EAGAIN;
	if (r) {
		gate_unlock_and_wake(mem); /* a swap may have waited for us to enter */
		return r;
	}
	gate->events++;
	events_inside++;
	gate_unlock(mem);
	return 0;
}

void vd_gate_leave_event(struct vd_mem *mem)
{
	gate_lock(mem);
	mem->gate.events--;
	events_inside--;
	gate_unlock_and_wake(mem);
}

void vd_gate_enter_swap(struct vd_mem *mem)
{
	struct vd_mem_gate *gate = &mem->gate;

	gate_lock(mem);
	gate->swap_waiting = true;
	while (gate->events || gate->events_admitted)
		gate_sleep(mem);
	gate->swap_waiting = false;
	gate->swapping = true;
	gate_unlock(mem);
}

void vd_gate_leave_swap(struct vd_mem *mem)
{
	struct vd_mem_gate *gate = &mem->gate;

	gate_lock(mem);
	gate->swapping = false;
	gate->swaps++;
	gate->events_admitted += gate->events_waiting;
	gate->events_waiting = 0;
	gate_unlock_and_wake(mem);
}

void vd_gate_close(struct vd_mem *mem)
{
	vd_gate_enter_swap(mem);
	gate_lock(mem);
	mem->gate.closed = true;
	gate_unlock(mem);
	vd_gate_leave_swap(mem);
}

bool vd_gate_closed(struct vd_mem *mem)
{
	bool closed;

	gate_lock(mem);
	closed = mem->gate.closed;
	gate_unlock(mem);
	return closed;
}
