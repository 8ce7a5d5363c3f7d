/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The search: depth first, each schedule run from the beginning. Where two steps of different
 * threads touch the same thing and neither had to come first, the other order is tried as well
 * (source sets: Abdulla, Aronis, Jonsson and Sagonas, POPL 2014).
 *
 * Leaving a lock or a read section is no step of its own: nothing that another thread could do
 * just before it would come out differently just after it.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEPS_MAX 4000u
#define FREES_MAX 256u
#define OBJECTS 8192u /* a power of two, several times what a run touches */
#define IGNORED_MAX 8u
#define SPOILT_MAX 4u

struct clock {
	uint32_t step[INTERLEAVE_THREADS]; /* the last one of each thread that had to come before */
};

/* A state, and the step that is being taken from it. Sets of threads are bits. */
struct state {
	unsigned chosen;
	unsigned enabled, wanted, done, sleeping;
	unsigned freeing; /* threads whose step from here gives memory back */
	struct interleave_op pending[INTERLEAVE_THREADS];
	unsigned frees_first, frees_count;
	struct clock clock; /* of the step: it comes after these, and itself */
};

/*
 * @users, @writers: threads that ever used it, or did more than read it
 * The rest is what a step on it comes after in this run; by what the step does.
 */
struct object {
	const void *key;
	unsigned users, writers;
	uint64_t run;
	struct clock written, read, woke, waited;
};

static struct state states[STEPS_MAX];
static struct clock clocks[INTERLEAVE_THREADS];
static struct object objects[OBJECTS], *known[OBJECTS / 2];
static unsigned known_count;
static bool learnt; /* in this run: that something is shared */
static struct {
	const char *start;
	size_t length;
} frees[FREES_MAX], ignored[IGNORED_MAX];
static unsigned frees_count, ignored_count;
static struct {
	const volatile void *object;
	enum interleave_kind kind;
} spoilt[SPOILT_MAX];
static unsigned spoilt_count;
static unsigned depth;	/* steps taken in this run */
static unsigned prefix; /* of them, those that are the same as in the run before */
static unsigned last;	/* who ran last */
static bool by_chance, naive;
static uint64_t seed, run_number;
static struct interleave_result *now;
static const char *const *names;
static enum outcome { RUN_GOES_ON, RUN_ENDED, RUN_CUT, RUN_FAILED } outcome;

/* ---- what a step may not be swapped with ----------------------------- */

static bool is_read(enum interleave_kind kind)
{
	return kind == INTERLEAVE_LOAD || kind == INTERLEAVE_WAIT || kind == INTERLEAVE_AWAIT;
}

static bool is_write(enum interleave_kind kind)
{
	return kind == INTERLEAVE_STORE || kind == INTERLEAVE_UPDATE;
}

static bool is_grace(enum interleave_kind kind)
{
	return kind == INTERLEAVE_SYNCHRONIZE || kind == INTERLEAVE_DEFER;
}

static bool kinds_depend(enum interleave_kind a, enum interleave_kind b)
{
	if (is_write(a))
		return is_write(b) || is_read(b);
	if (a == INTERLEAVE_WAKE)
		return b == INTERLEAVE_WAIT;
	if (is_read(a))
		return is_write(b) || (a == INTERLEAVE_WAIT && b == INTERLEAVE_WAKE);
	if (a == INTERLEAVE_ENTER)
		return is_grace(b);
	if (is_grace(a))
		return b == INTERLEAVE_ENTER;
	if (a == INTERLEAVE_SHARE)
		return b == INTERLEAVE_LOCK;
	return a == INTERLEAVE_LOCK && (b == INTERLEAVE_LOCK || b == INTERLEAVE_SHARE);
}

static bool ops_depend(const struct interleave_op *a, const struct interleave_op *b)
{
	return a->object && a->object == b->object && kinds_depend(a->kind, b->kind);
}

static bool frees_object(const struct state *state, const void *object)
{
	for (unsigned i = 0; i < state->frees_count; i++) {
		size_t at = state->frees_first + i;

		if ((size_t)((const char *)object - frees[at].start) < frees[at].length)
			return true;
	}
	return false;
}

static const struct interleave_op *step_op(const struct state *state)
{
	return &state->pending[state->chosen];
}

/* A step that was taken, and one that another thread is about to take. */
static bool step_depends(const struct state *taken, const struct interleave_op *op)
{
	return ops_depend(step_op(taken), op) || frees_object(taken, op->object);
}

/* ---- what came before what ------------------------------------------- */

static void clock_join(struct clock *to, const struct clock *from)
{
	for (unsigned i = 0; i < thread_count; i++)
		if (from->step[i] > to->step[i])
			to->step[i] = from->step[i];
}

static struct object *object_of(const void *key)
{
	size_t at = ((uintptr_t)key >> 2) * 0x9e3779b97f4a7c15u >> 40 & (OBJECTS - 1);

	while (objects[at].key && objects[at].key != key)
		at = (at + 1) & (OBJECTS - 1);
	if (!objects[at].key) {
		if (known_count == OBJECTS / 2)
			abort();
		objects[at].key = key;
		known[known_count++] = &objects[at];
	}
	return &objects[at];
}

static struct object *object_now(const void *key)
{
	struct object *o = object_of(key);

	if (o->run != run_number) {
		o->run = run_number;
		o->written = o->read = o->woke = o->waited = (struct clock){0};
	}
	return o;
}

/* ---- what is shared -------------------------------------------------- */

static bool is_shared(const struct object *o)
{
	return o->writers && (o->users & (o->users - 1));
}

static void object_use(struct object *o, bool write)
{
	bool before = is_shared(o);

	o->users |= 1u << running;
	if (write)
		o->writers |= 1u << running;
	learnt |= is_shared(o) && !before;
}

/*
 * What only one thread ever used, or nobody ever wrote, is no step. If that turns out to be wrong,
 * the search begins again, wiser.
 */
static bool is_step(const struct interleave_op *op)
{
	struct object *o;

	if (op->kind == INTERLEAVE_WOKEN || op->kind == INTERLEAVE_SYNCHRONIZED)
		return true;
	o = object_of(op->object);
	object_use(o, !is_read(op->kind) && op->kind != INTERLEAVE_ENTER &&
			      op->kind != INTERLEAVE_SHARE);
	return is_shared(o);
}

/* The step of a thread: what it comes after, and that later ones come after it. */
static void clock_step(unsigned thread, const struct interleave_op *op)
{
	struct clock *clock = &clocks[thread];
	struct object *o = object_now(op->object);

	if (is_read(op->kind) || is_write(op->kind) || op->kind == INTERLEAVE_LOCK ||
	    op->kind == INTERLEAVE_SHARE || op->kind == INTERLEAVE_ENTER)
		clock_join(clock, &o->written);
	if (is_write(op->kind) || is_grace(op->kind) || op->kind == INTERLEAVE_LOCK)
		clock_join(clock, &o->read);
	if (op->kind == INTERLEAVE_WAIT)
		clock_join(clock, &o->woke);
	if (op->kind == INTERLEAVE_WAKE)
		clock_join(clock, &o->waited);
	clock->step[thread] = depth + 1;
	if (is_read(op->kind) || op->kind == INTERLEAVE_ENTER || op->kind == INTERLEAVE_SHARE)
		clock_join(&o->read, clock);
	if (is_write(op->kind) || is_grace(op->kind) || op->kind == INTERLEAVE_LOCK)
		clock_join(&o->written, clock);
	if (op->kind == INTERLEAVE_WAIT)
		clock_join(&o->waited, clock);
	if (op->kind == INTERLEAVE_WAKE)
		clock_join(&o->woke, clock);
}

void explore_unlocked(const void *lock)
{
	if (running != NOBODY)
		clock_join(&object_now(lock)->written, &clocks[running]);
}

void explore_unshared(const void *lock)
{
	if (running != NOBODY)
		clock_join(&object_now(lock)->read, &clocks[running]);
}

void explore_let_go(unsigned thread)
{
	clock_join(&clocks[thread], &clocks[running]);
}

/* ---- races ----------------------------------------------------------- */

static bool comes_before(unsigned at, const struct clock *clock)
{
	return clock->step[states[at].chosen] > at;
}

/*
 * Step @at of one thread and the running step of @thread could come the other way round. That is
 * tried from the state before @at: first what did not have to come after step @at, then the running
 * step. Any thread that such an order can begin with will do, also one that is tried already.
 */
static void try_other_order(unsigned at, unsigned thread, const struct clock *clock)
{
	struct state *state = &states[at];
	unsigned begins = 0, seen = 1u << state->chosen, running_step = depth;

	for (unsigned i = at + 1; i < running_step; i++) {
		unsigned bit = 1u << states[i].chosen;
		bool after = false;

		if (seen & bit)
			continue;
		seen |= bit;
		if (comes_before(at, &states[i].clock))
			continue;
		for (unsigned j = at + 1; j < i && !after; j++)
			after = !comes_before(at, &states[j].clock) &&
				comes_before(j, &states[i].clock);
		begins |= after ? 0 : bit;
	}
	if (!(seen & 1u << thread)) {
		bool after = false;

		for (unsigned j = at + 1; j < running_step && !after; j++)
			after = !comes_before(at, &states[j].clock) && comes_before(j, clock);
		begins |= after ? 0 : 1u << thread;
	}
	begins &= state->enabled;
	if (begins && !(begins & (state->wanted | state->sleeping)))
		state->wanted |= begins & -begins;
}

static bool is_new(void)
{
	return !by_chance && !naive && depth + 1 >= prefix;
}

struct race {
	unsigned thread; /* the running step's */
	const struct clock *before; /* what it came after anyway, */
	const struct clock *after;  /* and with what it touches */
	bool (*meets)(const struct state *taken, const void *what);
	const void *what;
};

/*
 * With what each other thread did last that did not have to come first, unless another such step
 * stands between.
 */
static void races_of(const struct race *race)
{
	unsigned seen = 1u << race->thread, all = (1u << thread_count) - 1, count = 0;
	unsigned at[INTERLEAVE_THREADS];

	for (unsigned i = depth; i-- && seen != all;) {
		unsigned bit = 1u << states[i].chosen;
		bool between = false;

		if (seen & bit)
			continue;
		if (comes_before(i, race->before)) {
			seen |= bit; /* so did all before */
			continue;
		}
		if (!race->meets(&states[i], race->what))
			continue;
		seen |= bit;
		for (unsigned k = 0; k < count && !between; k++)
			between = comes_before(i, &states[at[k]].clock);
		if (!between)
			at[count++] = i;
	}
	for (unsigned k = 0; k < count; k++)
		try_other_order(at[k], race->thread, race->after);
}

static bool meets_op(const struct state *taken, const void *op)
{
	return ops_depend(step_op(taken), op);
}

struct range {
	const char *start;
	size_t length;
};

static bool meets_range(const struct state *taken, const void *what)
{
	const struct range *range = what;

	return (size_t)((const char *)step_op(taken)->object - range->start) < range->length;
}

/* By the running step, which has begun. */
void explore_freed(const void *start, size_t length)
{
	struct range range = {start, length};
	struct race race = {running, &clocks[running], &clocks[running], meets_range, &range};

	if (frees_count == FREES_MAX || !depth)
		abort();
	frees[frees_count].start = start;
	frees[frees_count++].length = length;
	states[depth - 1].frees_count++;
	for (unsigned i = 0; i < known_count; i++)
		if ((size_t)((const char *)known[i]->key - range.start) < length)
			object_use(known[i], true);
	depth--;
	if (is_new())
		races_of(&race);
	depth++;
}

/* The step of a thread that is about to begin. */
static void race_and_step(unsigned thread, const struct interleave_op *op)
{
	struct clock before = clocks[thread];
	struct race race = {thread, &before, &clocks[thread], meets_op, op};

	clock_step(thread, op);
	if (is_new())
		races_of(&race);
}

/* ---- one run --------------------------------------------------------- */

static const char *const kind_names[] = {
	"begins", "load", "store", "update", "lock", "share", "wait", "woken", "wake", "enter",
	"synchronize", "synchronized", "defer", "await",
};

static void schedule_print(void)
{
	size_t at = 0;

	for (unsigned i = 0; i < depth && at < sizeof(now->schedule); i++) {
		const struct interleave_op *op = step_op(&states[i]);
		const char *file = op->file ? strrchr(op->file, '/') : NULL;
		int n = snprintf(now->schedule + at, sizeof(now->schedule) - at,
				 "%4u %-10s %s:%d: %s %s\n", i, names[states[i].chosen],
				 file ? file + 1 : op->file ? op->file : "-", op->line,
				 kind_names[op->kind], op->what ? op->what : "");

		at += n > 0 ? (size_t)n : 0;
	}
}

static void run_over(enum outcome how)
{
	outcome = how;
}

static void fail(const char *text)
{
	if (outcome == RUN_FAILED)
		return;
	run_over(RUN_FAILED);
	now->failed = true;
	snprintf(now->text, sizeof(now->text), "%s", text);
	schedule_print();
}

void interleave_check(bool condition, const char *text)
{
	if (condition || outcome == RUN_FAILED)
		return;
	fail(text);
	if (running != NOBODY)
		coroutines_switch(NOBODY);
}

static void fail_deadlock(void)
{
	char text[sizeof(now->text)];
	size_t at = (size_t)snprintf(text, sizeof(text), "nobody can go on");

	for (unsigned i = 0; i < thread_count && at < sizeof(text); i++) {
		const struct interleave_op *op = &threads[i].pending;

		if (!threads[i].finished)
			at += (size_t)snprintf(text + at, sizeof(text) - at,
					       "; %s: %s %s, line %d", names[i],
					       kind_names[op->kind], op->what, op->line);
	}
	fail(text);
}

/* What slept before the step and is not disturbed by it sleeps after it. */
static unsigned sleepers_after(const struct state *state)
{
	unsigned before = (state->sleeping | state->done) & ~state->freeing, after = 0;

	for (unsigned i = 0; i < thread_count; i++)
		if (before & 1u << i && i != state->chosen &&
		    !step_depends(state, &state->pending[i]))
			after |= 1u << i;
	return after;
}

static unsigned pick(unsigned candidates)
{
	uint64_t z;

	if (!by_chance)
		return candidates & 1u << last ? last : (unsigned)__builtin_ctz(candidates);
	z = seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	for (z = (z ^ z >> 31) % (unsigned)__builtin_popcount(candidates); z; z--)
		candidates &= candidates - 1;
	return (unsigned)__builtin_ctz(candidates);
}

static unsigned enabled_now(void)
{
	unsigned enabled = 0;

	for (unsigned i = 0; i < thread_count; i++)
		if (op_enabled(i))
			enabled |= 1u << i;
	return enabled;
}

static bool state_open(struct state *state, unsigned enabled)
{
	unsigned sleeping = depth && !by_chance && !naive ? sleepers_after(state - 1) : 0;

	*state = (struct state){.enabled = enabled, .sleeping = sleeping};
	for (unsigned i = 0; i < thread_count; i++)
		state->pending[i] = threads[i].pending;
	if (!(enabled & ~sleeping))
		return false;
	state->chosen = pick(enabled & ~sleeping);
	state->wanted = naive ? enabled : 1u << state->chosen;
	return true;
}

static bool same_op(const struct interleave_op *a, const struct interleave_op *b)
{
	return a->kind == b->kind && a->object == b->object && a->line == b->line;
}

/* The next step is begun. Return: whose it is, or NOBODY: the run is over. */
static unsigned step_next(void)
{
	struct state *state = &states[depth];
	unsigned enabled = enabled_now(), finished = 0;

	for (unsigned i = 0; i < thread_count; i++)
		finished += threads[i].finished;
	if (!enabled && finished == thread_count)
		run_over(RUN_ENDED);
	else if (!enabled)
		fail_deadlock();
	else if (depth == STEPS_MAX)
		fail("does not end");
	else if (depth < prefix && (enabled != state->enabled ||
				    !same_op(step_op(state), &threads[state->chosen].pending)))
		fail("the same schedule did not lead to the same state");
	else if (depth >= prefix && !state_open(state, enabled))
		run_over(RUN_CUT);
	if (outcome != RUN_GOES_ON)
		return NOBODY;
	state->frees_first = frees_count;
	state->frees_count = 0;
	if (step_op(state)->object)
		race_and_step(state->chosen, step_op(state));
	else
		clocks[state->chosen].step[state->chosen] = depth + 1;
	state->clock = clocks[state->chosen];
	depth++;
	last = state->chosen;
	return last;
}

void explore_next(void)
{
	unsigned next = step_next();

	if (next != running)
		coroutines_switch(next);
}

void interleave_point(enum interleave_kind kind, const volatile void *object, const char *what,
		      const char *file, int line)
{
	struct interleave_op op;

	if (running == NOBODY)
		return;
	for (unsigned i = 0; i < ignored_count; i++)
		if ((size_t)((const volatile char *)object - ignored[i].start) < ignored[i].length)
			return;
	op = (struct interleave_op){kind, (const void *)(uintptr_t)object, what, file, line};
	if (is_step(&op)) {
		threads[running].pending = op;
		explore_next();
	}
	interleave_check(!memory_is_freed((const void *)(uintptr_t)object),
			 "memory that was given back is used");
}

void interleave_ignore(const volatile void *start, size_t length)
{
	if (ignored_count == IGNORED_MAX)
		abort();
	ignored[ignored_count].start = (const char *)(uintptr_t)start;
	ignored[ignored_count++].length = length;
}

void interleave_spoil(const volatile void *object, enum interleave_kind kind)
{
	if (spoilt_count == SPOILT_MAX)
		abort();
	spoilt[spoilt_count].object = object;
	spoilt[spoilt_count++].kind = kind;
}

bool interleave_spoilt(const volatile void *object, enum interleave_kind kind)
{
	for (unsigned i = 0; i < spoilt_count && running != NOBODY; i++)
		if (spoilt[i].object == object && spoilt[i].kind == kind)
			return true;
	return false;
}

static void run(const struct interleave_case *test, void *context)
{
	unsigned first;

	memory_restore();
	deferred_forget();
	coroutines_reset(test, context);
	memset(clocks, 0, sizeof(clocks));
	run_number++;
	depth = frees_count = last = 0;
	learnt = false;
	outcome = RUN_GOES_ON;
	first = step_next();
	if (first != NOBODY)
		coroutines_switch(first);
	if (outcome == RUN_ENDED && test->finish)
		test->finish(context);
	now->schedules += outcome == RUN_ENDED || outcome == RUN_FAILED;
	now->cut += outcome == RUN_CUT;
	now->steps += depth > prefix ? depth - prefix : 0;
	if (depth > now->longest)
		now->longest = depth;
}

/* To the deepest state from which something is left to try. Return: whether there is one. */
static bool go_back(void)
{
	while (depth) {
		struct state *state = &states[depth - 1];
		unsigned left;

		state->done |= 1u << state->chosen;
		if (state->frees_count)
			state->freeing |= 1u << state->chosen;
		left = state->wanted & ~state->done & ~state->sleeping;
		if (left) {
			state->chosen = (unsigned)__builtin_ctz(left);
			prefix = depth;
			return true;
		}
		depth--;
	}
	return false;
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *prepare(const struct interleave_case *test, struct interleave_result *result)
{
	void *context;

	*result = (struct interleave_result){0};
	now = result;
	names = test->names;
	outcome = RUN_GOES_ON;
	ignored_count = spoilt_count = prefix = depth = known_count = 0;
	memset(objects, 0, sizeof(objects));
	for (thread_count = 0; thread_count < INTERLEAVE_THREADS && test->run[thread_count];)
		thread_count++;
	memory_clear();
	context = test->set_up(&interleave_env);
	memory_keep();
	return context;
}

static void begin_again(struct interleave_result *result)
{
	prefix = 0;
	result->schedules = result->cut = result->steps = 0;
	result->longest = 0;
}

static void explore(const struct interleave_case *test, double seconds,
		    struct interleave_result *result)
{
	double start = seconds_now();
	void *context = prepare(test, result);

	by_chance = false;
	do {
		run(test, context);
		if (outcome == RUN_FAILED || run_number % 64 == 0)
			result->seconds = seconds_now() - start;
		if (outcome == RUN_FAILED || result->seconds > seconds)
			return;
		if (learnt)
			begin_again(result);
	} while (learnt || go_back());
	result->seconds = seconds_now() - start;
	result->complete = true;
}

void interleave_explore(const struct interleave_case *test, double seconds,
			struct interleave_result *result)
{
	naive = false;
	explore(test, seconds, result);
}

void interleave_explore_naively(const struct interleave_case *test, double seconds,
				struct interleave_result *result)
{
	naive = true;
	explore(test, seconds, result);
}

void interleave_sample(const struct interleave_case *test, uint64_t first_seed, uint64_t count,
		       double seconds, struct interleave_result *result)
{
	double start = seconds_now();
	void *context = prepare(test, result);

	by_chance = true;
	seed = first_seed;
	while (result->schedules < count && outcome != RUN_FAILED && result->seconds < seconds) {
		run(test, context);
		result->seconds = seconds_now() - start;
	}
}
