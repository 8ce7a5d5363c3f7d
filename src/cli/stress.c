/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `--stress`: a thread that changes the host's side of guest memory while the guest runs. A guest
 * that keeps checksums must notice nothing. stress_foreign.c has what other code may do to memory
 * of its own.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/stress.h"

static const struct {
	const char *name;
	unsigned bit;
} kinds[] = {
	{"move", STRESS_MOVE},	 {"discard", STRESS_DISCARD}, {"protect", STRESS_PROTECT},
	{"age", STRESS_AGE},	 {"foreign", STRESS_FOREIGN},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

int stress_parse(const char *text, unsigned *what, struct vd_error *error)
{
	*what = 0;
	for (;;) {
		size_t length = strcspn(text, ","), i = 0;

		while (i < KINDS && (strlen(kinds[i].name) != length ||
				     strncmp(kinds[i].name, text, length)))
			i++;
		if (i == KINDS)
			return vd_error_set(error, -EINVAL, "--stress takes a list of move, "
					    "discard, protect, age and foreign");
		*what |= kinds[i].bit;
		text += length;
		if (!*text++)
			return 0;
	}
}

uint64_t stress_random(struct stress *s)
{
	/* one generator for all threads: what they share does not matter */
	uint64_t random = atomic_load_explicit(&s->random, memory_order_relaxed);

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	atomic_store_explicit(&s->random, random, memory_order_relaxed);
	return random;
}

bool stress_goes_on(struct stress *s)
{
	return !atomic_load(&s->stop);
}

struct found { uint32_t id; uint64_t nth; };

static int nth_ram(void *context, const struct vd_slot *slot)
{
	struct found *found = context;

	if (slot->config.kind == VD_SLOT_RAM && !found->nth--) {
		found->id = slot->id;
		return 1;
	}
	return 0;
}

/* Every page of the slot becomes read-only in every mirror, again and again. */
static void write_protect(struct stress *s, uint8_t *bitmap, size_t bytes)
{
	struct vd_mem *mem = vd_vm_mem(s->vm);
	struct found found = {.nth = stress_random(s) % 2};

	if (!vd_mem_each(mem, nth_ram, &found) || vd_mem_dirty_start(mem, found.id))
		return;
	for (unsigned i = 0; i < 4; i++)
		vd_mem_dirty_fetch(mem, found.id, bitmap, bytes);
	vd_mem_dirty_stop(mem, found.id);
}

/* Also what nobody notices: the right to store given where it was there already. */
static void age(struct stress *s, struct vd_host_object *ram, uint64_t start, uint64_t length)
{
	struct vd_invalidation range = {.object = ram, .start = start, .length = length,
					.blockable = true};
	struct vd_notifier *chain = vd_host_notifier(vd_vm_host(s->vm));

	if (vd_notifier_test_young(chain, &range))
		vd_notifier_clear_young(chain, &range);
	vd_host_object_protect(ram, start, length, true, true);
}

/*
 * As long as the changes took, the guest has its memory to itself: however slow they are (under a
 * sanitizer they are), it gets on.
 */
static void leave_alone(const struct vd_env *env, uint64_t since_ns)
{
	uint64_t ns = env->clock_ns(env) - since_ns;
	struct timespec pause = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	nanosleep(&pause, NULL);
}

static void *stress_thread(void *argument)
{
	struct stress *s = argument;
	const struct vd_env *env = vd_mem_env(vd_vm_mem(s->vm));
	struct vd_host_object *ram = vd_vm_ram(s->vm);
	uint64_t pages = vd_host_object_size(ram) / STRESS_PAGE, rounds = 0;
	size_t bytes = pages / 8 + 1;
	uint8_t *bitmap = malloc(bytes);

	while (bitmap && stress_goes_on(s)) {
		uint64_t began = env->clock_ns(env);
		uint64_t start = stress_random(s) % (pages - STRESS_RUN) * STRESS_PAGE;
		uint64_t length = (1 + stress_random(s) % STRESS_RUN) * STRESS_PAGE;

		if (s->what & STRESS_MOVE)
			vd_host_object_move(ram, start, length, true);
		if (s->what & STRESS_DISCARD)
			vd_host_object_discard_unused(ram, start, length, true);
		if (s->what & STRESS_AGE)
			age(s, ram, start, length);
		if (s->what & STRESS_PROTECT && ++rounds % 64 == 0)
			write_protect(s, bitmap, bytes);
		leave_alone(env, began);
	}
	free(bitmap);
	return NULL;
}

static int start_thread(struct stress *s, void *(*run)(void *context))
{
	int rc = -pthread_create(&s->threads[s->count], NULL, run, s);

	s->count += !rc;
	return rc;
}

int stress_start(struct vd_vm *vm, unsigned what, struct stress **result, struct vd_error *error)
{
	struct stress *s = calloc(1, sizeof(*s));
	int rc = 0;

	if (!s)
		return vd_error_set(error, -ENOMEM, "out of memory for the stress threads");
	s->vm = vm;
	s->what = what;
	atomic_init(&s->random, 0x9e3779b97f4a7c15ull);
	if (what & ~STRESS_FOREIGN)
		rc = start_thread(s, stress_thread);
	if (!rc && what & STRESS_FOREIGN)
		rc = start_thread(s, stress_foreign_memory);
	if (!rc && what & STRESS_FOREIGN)
		rc = start_thread(s, stress_other_mappings);
	if (rc) {
		stress_stop(s);
		return vd_error_set(error, rc, "cannot start a stress thread: %s", strerror(-rc));
	}
	*result = s;
	return 0;
}

void stress_stop(struct stress *s)
{
	if (!s)
		return;
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i < s->count; i++)
		pthread_join(s->threads[i], NULL);
	free(s);
}
