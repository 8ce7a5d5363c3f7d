/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The notifier chain: who mirrors memory hears of a change before it happens.
 *
 * The list changes while it is walked and no lock is held over a callback. Each walk therefore says
 * under the lock which listener it is at and which comes next; whoever removes a listener repairs
 * the walks that would go there, and waits for those that are in it.
 */
#include <viaduct/host.h>

enum walk_kind { WALK_START, WALK_END, WALK_CLEAR_YOUNG, WALK_TEST_YOUNG, WALK_RELEASE };

struct vd_notifier_walk {
	struct vd_notifier_walk *outer;
	struct vd_listener *current;
	struct vd_listener *next;
	uint64_t last; /* listeners with greater numbers are passed over */
	const void *thread;
	enum walk_kind kind;
};

/* @seq counts, above the invalidations under way that found nobody listening, those that ended. */
#define SEQ_STEP (UINT64_C(1) << VD_NOTIFIER_UNARMED_BITS)

static uint64_t unarmed_of(uint64_t seq)
{
	return seq & (SEQ_STEP - 1);
}

/* Which thread this is. Only the address is used, so it works wherever a thread pointer exists. */
static const void *this_thread(void)
{
	static _Thread_local char self;

	return &self;
}

static void notifier_lock(struct vd_notifier *notifier)
{
	notifier->env->lock(notifier->env, &notifier->lock);
}

static void notifier_unlock(struct vd_notifier *notifier)
{
	notifier->env->unlock(notifier->env, &notifier->lock);
}

/*
 * Sleeping: a sleeper counts itself, reads @wake, checks its condition, sleeps. A waker changes the
 * condition, raises @wake, looks for sleepers. All seq_cst: either the waker sees the sleeper or
 * the sleeper, which came later, sees the raised @wake and with it the changed condition.
 */
static uint32_t sleep_prepare(struct vd_notifier *notifier)
{
	atomic_fetch_add(&notifier->sleepers, 1);
	return atomic_load(&notifier->wake);
}

static void sleep_finish(struct vd_notifier *notifier)
{
	atomic_fetch_sub(&notifier->sleepers, 1);
}

/* Lock held on entry and exit, not meanwhile. */
static void sleep_unlocked(struct vd_notifier *notifier)
{
	uint32_t seen = sleep_prepare(notifier);

	notifier_unlock(notifier);
	notifier->env->wait(notifier->env, &notifier->wake, seen);
	sleep_finish(notifier);
	notifier_lock(notifier);
}

static void wake_sleepers(struct vd_notifier *notifier)
{
	atomic_fetch_add(&notifier->wake, 1);
	if (atomic_load(&notifier->sleepers))
		notifier->env->wake(notifier->env, &notifier->wake);
}

static void range_clear(struct vd_active_range *range)
{
	/* release: who sees the range gone sees the raised seq; pairs with vd_notifier_retry() */
	atomic_store_explicit(&range->low, UINT64_MAX, memory_order_release);
	atomic_store_explicit(&range->high, 0, memory_order_release);
}

void vd_notifier_init(struct vd_notifier *notifier, const struct vd_env *env)
{
	*notifier = (struct vd_notifier){.env = env};
	env->lock_init(env, &notifier->lock);
	for (unsigned i = 0; i <= VD_NOTIFIER_RANGES; i++)
		range_clear(&notifier->ranges[i]);
}

void vd_notifier_fini(struct vd_notifier *notifier)
{
	vd_assert(!atomic_load(&notifier->armed) && !notifier->first && !notifier->walks);
	vd_assert(!atomic_load(&notifier->active) && !unarmed_of(atomic_load(&notifier->seq)));
	notifier->env->lock_destroy(notifier->env, &notifier->lock);
}

/* ---- walks ----------------------------------------------------------- */

static struct vd_listener *walk_advance(struct vd_notifier_walk *walk)
{
	walk->current = walk->next;
	if (walk->current && walk->current->number > walk->last)
		walk->current = NULL; /* the list is in order of registration */
	walk->next = walk->current ? walk->current->next : NULL;
	return walk->current;
}

static void walk_begin(struct vd_notifier *notifier, struct vd_notifier_walk *walk,
		       enum walk_kind kind, uint64_t last)
{
	*walk = (struct vd_notifier_walk){
		.outer = notifier->walks,
		.next = notifier->first,
		.last = last,
		.thread = this_thread(),
		.kind = kind,
	};
	notifier->walks = walk;
}

static void walk_finish(struct vd_notifier *notifier, struct vd_notifier_walk *walk)
{
	struct vd_notifier_walk **link = &notifier->walks;

	while (*link != walk)
		link = &(*link)->outer;
	*link = walk->outer;
}

static int listener_call(struct vd_listener *listener, enum walk_kind kind,
			 const struct vd_invalidation *event)
{
	const struct vd_listener_ops *ops = listener->ops;

	switch (kind) {
	case WALK_START:
		return ops->invalidate_start(listener, event);
	case WALK_END:
		if (ops->invalidate_end)
			ops->invalidate_end(listener, event);
		return 0;
	case WALK_CLEAR_YOUNG:
		return ops->clear_young && ops->clear_young(listener, event);
	case WALK_TEST_YOUNG:
		return ops->test_young && ops->test_young(listener, event);
	case WALK_RELEASE:
		if (ops->release)
			ops->release(listener);
		return 0;
	}
	return 0;
}

/* Whether the walk stops at this answer of a listener. */
static bool walk_stops(enum walk_kind kind, int result)
{
	return (kind == WALK_START && result < 0) || (kind == WALK_TEST_YOUNG && result > 0);
}

/*
 * Calls every listener up to number @last. Lock held on entry and exit, not over callbacks.
 * Returns the result that stopped it, else the bitwise or of all. @failed is the number of the
 * listener that stopped it.
 */
static int walk_listeners(struct vd_notifier *notifier, enum walk_kind kind, uint64_t last,
			  const struct vd_invalidation *event, uint64_t *failed)
{
	struct vd_notifier_walk walk;
	struct vd_listener *listener;
	int result = 0, all = 0;

	walk_begin(notifier, &walk, kind, last);
	while ((listener = walk_advance(&walk))) {
		*failed = listener->number;
		notifier_unlock(notifier);
		result = listener_call(listener, kind, event);
		notifier_lock(notifier);
		/* from here the listener may be gone: an unregister waits for this */
		walk.current = NULL;
		wake_sleepers(notifier);
		all |= result;
		if (walk_stops(kind, result))
			break;
	}
	walk_finish(notifier, &walk);
	return walk_stops(kind, result) ? result : all;
}

/* ---- active ranges --------------------------------------------------- */

static uint64_t last_byte(const struct vd_invalidation *event)
{
	return event->start + (event->length - 1);
}

static bool range_is_free(const struct vd_active_range *range)
{
	return atomic_load_explicit(&range->low, memory_order_relaxed) >
	       atomic_load_explicit(&range->high, memory_order_relaxed);
}

/* The union only grows until its last user has left. */
static void shared_range_join(struct vd_notifier *notifier, const struct vd_invalidation *event)
{
	struct vd_active_range *range = &notifier->ranges[VD_NOTIFIER_RANGES];
	uint64_t low = atomic_load_explicit(&range->low, memory_order_relaxed);
	uint64_t high = atomic_load_explicit(&range->high, memory_order_relaxed);

	if (event->start < low)
		atomic_store_explicit(&range->low, event->start, memory_order_release);
	if (last_byte(event) > high)
		atomic_store_explicit(&range->high, last_byte(event), memory_order_release);
	notifier->shared_users++;
	/* nobody registers while there are users: it is the same for all of them */
	range->last_listener = notifier->last_listener;
}

static void range_enter(struct vd_notifier *notifier, const struct vd_invalidation *event)
{
	struct vd_active_range *range = notifier->ranges;

	atomic_fetch_add_explicit(&notifier->active, 1, memory_order_release);
	while (range < notifier->ranges + VD_NOTIFIER_RANGES && !range_is_free(range))
		range++;
	if (range == notifier->ranges + VD_NOTIFIER_RANGES) {
		shared_range_join(notifier, event);
		return;
	}
	range->object = event->object;
	range->last_listener = notifier->last_listener;
	range->ticket = ++notifier->last_ticket;
	range->thread = this_thread();
	atomic_store_explicit(&range->high, last_byte(event), memory_order_release);
	atomic_store_explicit(&range->low, event->start, memory_order_release);
}

/* Of equal events the caller's own is meant, and of these the one started last. */
static bool range_fits_better(const struct vd_active_range *range,
			      const struct vd_active_range *best)
{
	bool own = range->thread == this_thread();
	bool best_own = best && best->thread == this_thread();

	return !best || (own != best_own ? own : range->ticket > best->ticket);
}

/*
 * The record of an active event; NULL if it started when nobody listened, or if an equal one that
 * did has ended in its place. Then no listener is left that heard the start.
 */
static struct vd_active_range *range_find(struct vd_notifier *notifier,
					  const struct vd_invalidation *event)
{
	struct vd_active_range *best = NULL;

	for (unsigned i = 0; i < VD_NOTIFIER_RANGES; i++) {
		struct vd_active_range *range = &notifier->ranges[i];

		if (atomic_load_explicit(&range->low, memory_order_relaxed) == event->start &&
		    atomic_load_explicit(&range->high, memory_order_relaxed) == last_byte(event) &&
		    range->object == event->object && range_fits_better(range, best))
			best = range;
	}
	if (!best && notifier->shared_users)
		best = &notifier->ranges[VD_NOTIFIER_RANGES];
	return best;
}

static void range_leave(struct vd_notifier *notifier, struct vd_active_range *range)
{
	atomic_fetch_add_explicit(&notifier->seq, SEQ_STEP, memory_order_release);
	if (range != &notifier->ranges[VD_NOTIFIER_RANGES] || --notifier->shared_users == 0)
		range_clear(range);
	/* release: who sees it dropped sees the raised seq; pairs with vd_notifier_retry() */
	atomic_fetch_sub_explicit(&notifier->active, 1, memory_order_release);
	wake_sleepers(notifier);
}

static bool range_active(const struct vd_notifier *notifier, uint64_t start, uint64_t length)
{
	uint64_t last = start + (length - 1);

	/* acquire: pairs with range_enter() and range_leave() */
	if (!atomic_load_explicit(&notifier->active, memory_order_acquire))
		return false;
	for (unsigned i = 0; i <= VD_NOTIFIER_RANGES; i++) {
		const struct vd_active_range *range = &notifier->ranges[i];
		/*
		 * acquire: pairs with range_clear(). While the caller's range is in here, low
		 * and high are good. If either belongs to a later event, the one that mattered has
		 * ended and seq, read after this, has moved.
		 */
		uint64_t low = atomic_load_explicit(&range->low, memory_order_acquire);
		uint64_t high = atomic_load_explicit(&range->high, memory_order_acquire);

		if (low <= last && start <= high)
			return true;
	}
	return false;
}

/* ---- the interface --------------------------------------------------- */

static void wait_unarmed(struct vd_notifier *notifier)
{
	uint32_t seen = sleep_prepare(notifier);

	while (unarmed_of(atomic_load(&notifier->seq))) {
		notifier->env->wait(notifier->env, &notifier->wake, seen);
		seen = atomic_load(&notifier->wake);
	}
	sleep_finish(notifier);
}

static void listener_link(struct vd_notifier *notifier, struct vd_listener *listener)
{
	struct vd_listener *last = notifier->first;

	listener->next = NULL;
	listener->number = ++notifier->last_listener;
	while (last && last->next)
		last = last->next;
	if (last)
		last->next = listener;
	else
		notifier->first = listener;
}

/*
 * First armed, then linked: in between, every change is noted already, and those that were not are
 * waited for. So no listener ever meets a change that it was not told of, not even its end.
 */
int vd_notifier_register(struct vd_notifier *notifier, struct vd_listener *listener)
{
	if (!listener->ops || !listener->ops->invalidate_start)
		return -EINVAL;
	atomic_fetch_add(&notifier->armed, 1); /* seq_cst: see vd_notifier_start() */
	wait_unarmed(notifier);
	if (notifier->wait_changes)
		notifier->wait_changes(notifier);
	notifier_lock(notifier);
	while (notifier->shared_users)
		sleep_unlocked(notifier);
	if (notifier->dead) {
		atomic_fetch_sub_explicit(&notifier->armed, 1, memory_order_release);
		notifier_unlock(notifier);
		return -ESHUTDOWN;
	}
	listener_link(notifier, listener);
	notifier_unlock(notifier);
	return 0;
}

/* Whether another thread is in a callback of the listener. */
static bool listener_is_called(const struct vd_notifier *notifier,
			       const struct vd_listener *listener)
{
	for (const struct vd_notifier_walk *walk = notifier->walks; walk; walk = walk->outer)
		if (walk->current == listener && walk->thread != this_thread())
			return true;
	return false;
}

static void listener_unlink(struct vd_notifier *notifier, struct vd_listener *listener)
{
	struct vd_listener *before = NULL;
	struct vd_listener *at = notifier->first;

	while (at && at != listener) {
		before = at;
		at = at->next;
	}
	if (!at)
		return;
	if (before)
		before->next = listener->next;
	else
		notifier->first = listener->next;
	atomic_fetch_sub_explicit(&notifier->armed, 1, memory_order_release);
	for (struct vd_notifier_walk *walk = notifier->walks; walk; walk = walk->outer)
		if (walk->next == listener)
			walk->next = listener->next;
}

void vd_notifier_unregister(struct vd_notifier *notifier, struct vd_listener *listener)
{
	notifier_lock(notifier);
	listener_unlink(notifier, listener);
	while (listener_is_called(notifier, listener))
		sleep_unlocked(notifier);
	notifier_unlock(notifier);
}

static void end_unarmed(struct vd_notifier *notifier)
{
	/*
	 * In one step: who no longer sees the event sees that seq has moved. seq_cst: either this
	 * sees the sleeper, or the sleeper sees this.
	 */
	uint64_t before = atomic_fetch_add(&notifier->seq, SEQ_STEP - 1);

	vd_assert(unarmed_of(before) != 0);
	if (__builtin_expect(atomic_load(&notifier->sleepers) != 0, 0))
		wake_sleepers(notifier);
}

/* Not inlined: who finds nobody listening shall not pay for saving registers. */
__attribute__((noinline)) static int start_noted(struct vd_notifier *notifier,
						 const struct vd_invalidation *event)
{
	struct vd_active_range *range;
	uint64_t failed, ignored;
	int result;

	notifier_lock(notifier);
	range_enter(notifier, event);
	result = walk_listeners(notifier, WALK_START, notifier->last_listener, event, &failed);
	if (result < 0) {
		walk_listeners(notifier, WALK_END, failed - 1, event, &ignored);
		range = range_find(notifier, event);
		if (range)
			range_leave(notifier, range);
		else
			end_unarmed(notifier);
	}
	notifier_unlock(notifier);
	return result < 0 ? result : 0;
}

int vd_notifier_start(struct vd_notifier *notifier, const struct vd_invalidation *event)
{
	if (!event->length || event->start > UINT64_MAX - (event->length - 1))
		return -EINVAL;
	/*
	 * seq_cst, as is the arming: either this sees that somebody comes to listen, or the
	 * registration sees this event and waits until it has ended.
	 */
	if (__builtin_expect(!atomic_load_explicit(&notifier->armed, memory_order_relaxed), 1)) {
		atomic_fetch_add(&notifier->seq, 1);
		if (__builtin_expect(!atomic_load(&notifier->armed), 1))
			return 0;
		end_unarmed(notifier);
	}
	return start_noted(notifier, event);
}

__attribute__((noinline)) static void end_noted(struct vd_notifier *notifier,
						const struct vd_invalidation *event)
{
	struct vd_active_range *range;
	uint64_t ignored;

	notifier_lock(notifier);
	range = range_find(notifier, event);
	if (range) {
		walk_listeners(notifier, WALK_END, range->last_listener, event, &ignored);
		range_leave(notifier, range);
	}
	notifier_unlock(notifier);
	if (!range)
		end_unarmed(notifier);
}

void vd_notifier_end(struct vd_notifier *notifier, const struct vd_invalidation *event)
{
	/* acquire: pairs with range_enter(); zero means that this event has no record */
	if (__builtin_expect(!atomic_load_explicit(&notifier->active, memory_order_acquire), 1))
		end_unarmed(notifier);
	else
		end_noted(notifier, event);
}

void vd_notifier_release(struct vd_notifier *notifier)
{
	uint64_t ignored;

	notifier_lock(notifier);
	if (!notifier->dead) {
		notifier->dead = true;
		walk_listeners(notifier, WALK_RELEASE, notifier->last_listener, NULL, &ignored);
	}
	notifier_unlock(notifier);
}

static bool walk_young(struct vd_notifier *notifier, enum walk_kind kind,
		       const struct vd_invalidation *range)
{
	uint64_t ignored;
	bool young;

	if (!vd_notifier_armed(notifier))
		return false;
	notifier_lock(notifier);
	young = walk_listeners(notifier, kind, notifier->last_listener, range, &ignored) > 0;
	notifier_unlock(notifier);
	return young;
}

bool vd_notifier_clear_young(struct vd_notifier *notifier, const struct vd_invalidation *range)
{
	return walk_young(notifier, WALK_CLEAR_YOUNG, range);
}

bool vd_notifier_test_young(struct vd_notifier *notifier, const struct vd_invalidation *range)
{
	return walk_young(notifier, WALK_TEST_YOUNG, range);
}

bool vd_notifier_retry(const struct vd_notifier *notifier, uint64_t seq, uint64_t start,
		       uint64_t length)
{
	bool active = range_active(notifier, start, length);
	/* after that: see range_active(). acquire pairs with range_leave() and end_unarmed() */
	uint64_t now = atomic_load_explicit(&notifier->seq, memory_order_acquire);

	/* of unarmed ones nobody noted where: they may be anywhere */
	return active || now != seq || unarmed_of(now);
}

void vd_notifier_wait(struct vd_notifier *notifier, uint64_t start, uint64_t length)
{
	uint32_t seen = sleep_prepare(notifier);

	/* acquire: pairs with end_unarmed() */
	while (unarmed_of(atomic_load_explicit(&notifier->seq, memory_order_acquire)) ||
	       range_active(notifier, start, length)) {
		notifier->env->wait(notifier->env, &notifier->wake, seen);
		seen = atomic_load(&notifier->wake);
	}
	sleep_finish(notifier);
}
