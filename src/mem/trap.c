/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dispatch of accesses to trap slots. An operation runs without any lock or read section: it may
 * take its time, and it may itself change the slot set, up to removing the slot it was called
 * through.
 */
#include "mem/space.h"

/* One operation this thread is inside of. */
struct call {
	struct vd_trap_users *users;
	struct call *outer;
};

/*
 * The calls of this thread, innermost first: a commit must not wait for them. Per thread, like the
 * fault guard; a bare-metal port points its thread register at the CPU's own block.
 */
static _Thread_local struct call *calls;

struct vd_trap_users *vd_trap_users_create(const struct vd_env *env)
{
	struct vd_trap_users *users = vd_env_allocate(env, "mem.trap", sizeof(*users),
						      _Alignof(struct vd_trap_users));

	if (!users)
		return NULL;
	users->env = env;
	atomic_init(&users->references, 1);
	return users;
}

void vd_trap_users_put(struct vd_trap_users *users)
{
	/* seq_cst: leave() then looks for waiters, vd_trap_drain() for references. */
	if (atomic_fetch_sub_explicit(&users->references, 1, memory_order_seq_cst) == 1)
		users->env->release(users->env, users, sizeof(*users));
}

static void wake_waiters(struct vd_mem *mem)
{
	atomic_fetch_add_explicit(&mem->trap_word, 1, memory_order_seq_cst);
	mem->env->wake(mem->env, &mem->trap_word);
}

static void park(uint32_t by)
{
	struct call *call;

	for (call = calls; call; call = call->outer)
		atomic_fetch_add_explicit(&call->users->parked, by, memory_order_seq_cst);
}

static bool drained(struct vd_trap_users *users)
{
	/* In this order: a call parks after it came in, and unparks before it leaves. */
	uint32_t parked = atomic_load_explicit(&users->parked, memory_order_seq_cst);

	return atomic_load_explicit(&users->references, memory_order_seq_cst) - 1 <= parked;
}

void vd_trap_drain(struct vd_mem *mem, struct vd_trap_users *users)
{
	const struct vd_env *env = mem->env;

	/*
	 * Our own calls cannot end before we return. Those of a thread that waits here as well
	 * might be waiting for us: two operations that remove each other's slot.
	 */
	park(1);
	wake_waiters(mem);
	atomic_fetch_add_explicit(&mem->trap_waiters, 1, memory_order_seq_cst);
	for (;;) {
		uint32_t seen = atomic_load_explicit(&mem->trap_word, memory_order_seq_cst);

		if (drained(users))
			break;
		env->wait(env, &mem->trap_word, seen);
	}
	atomic_fetch_sub_explicit(&mem->trap_waiters, 1, memory_order_seq_cst);
	park(UINT32_MAX);
}

/*
 * The trap slot that holds [gpa, gpa + length); its users are referenced. One that is just being
 * removed still answers: the commit waits for us, and its replacement shows up without a hole
 * between.
 */
static int enter(struct vd_mem *mem, uint64_t gpa, unsigned length, struct call *call,
		 struct vd_slot_config *config)
{
	const struct vd_env *env = mem->env;
	const struct vd_slot *slot;
	int r = -ENOENT;

	env->read_enter(env);
	slot = vd_mem_find(mem, (vd_gpa){ gpa }, NULL);
	if (slot && slot->config.kind == VD_SLOT_TRAP && length - 1 <= vd_slot_last(slot) - gpa) {
		*config = slot->config;
		call->users = ((const struct vd_mem_slot *)slot)->users;
		atomic_fetch_add_explicit(&call->users->references, 1, memory_order_seq_cst);
		call->outer = calls;
		calls = call;
		r = 0;
	}
	env->read_leave(env);
	return r;
}

static void leave(struct vd_mem *mem, struct call *call)
{
	calls = call->outer;
	vd_trap_users_put(call->users);
	if (atomic_load_explicit(&mem->trap_waiters, memory_order_seq_cst))
		wake_waiters(mem);
}

static bool length_valid(uint64_t gpa, unsigned length)
{
	return length && length <= 8 && !(length & (length - 1)) && gpa + (length - 1) >= gpa;
}

/* The largest naturally aligned piece at @offset of at most @left bytes. */
static unsigned piece_at(uint64_t offset, unsigned left)
{
	unsigned piece = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

	while (offset & (piece - 1))
		piece /= 2;
	return piece;
}

static uint64_t low_bytes(uint64_t value, unsigned length)
{
	return length == 8 ? value : value & (((uint64_t)1 << length * 8) - 1);
}

int vd_mem_mmio_read(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t *value)
{
	struct vd_slot_config config;
	unsigned done = 0, piece;
	struct call call;
	uint64_t offset;
	int r;

	if (!length_valid(gpa.value, length))
		return -EINVAL;
	r = enter(mem, gpa.value, length, &call, &config);
	if (r)
		return r;
	*value = 0;
	offset = gpa.value - config.base.value;
	for (; done < length && !r; done += piece) {
		uint64_t part = 0;

		piece = piece_at(offset + done, length - done);
		r = config.ops->read(config.context, offset + done, piece, &part);
		if (!r)
			*value |= low_bytes(part, piece) << done * 8;
	}
	leave(mem, &call);
	return r;
}

int vd_mem_mmio_write(struct vd_mem *mem, vd_gpa gpa, unsigned length, uint64_t value)
{
	struct vd_slot_config config;
	unsigned done = 0, piece;
	struct call call;
	uint64_t offset;
	int r;

	if (!length_valid(gpa.value, length))
		return -EINVAL;
	r = enter(mem, gpa.value, length, &call, &config);
	if (r)
		return r;
	offset = gpa.value - config.base.value;
	for (; done < length && !r; done += piece) {
		piece = piece_at(offset + done, length - done);
		r = config.ops->write(config.context, offset + done, piece,
				      low_bytes(value >> done * 8, piece));
	}
	leave(mem, &call);
	return r;
}
