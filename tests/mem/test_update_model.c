/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random updates against a plain array of slots: every answer, every set that is published, and
 * exactly the ranges that a mirror has to drop.
 */
#include "fixture.h"

#define MODEL_MAX 64u
#define SPACE (96 * PAGE)
#define UPDATES 4000u

struct model_slot {
	uint32_t id; /* 0: free */
	enum vd_slot_kind kind;
	uint64_t base, size, offset;
};

struct model {
	struct model_slot slots[MODEL_MAX];
};

static uint64_t seed_now;

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("seed %llu: %s", (unsigned long long)seed_now, #condition);       \
	} while (0)

static bool in_the_way(const struct model *model, uint64_t base, uint64_t size, uint32_t except)
{
	for (unsigned i = 0; i < MODEL_MAX; i++) {
		const struct model_slot *s = &model->slots[i];

		if (s->id && s->id != except && s->base < base + size && base < s->base + s->size)
			return true;
	}
	return false;
}

static struct model_slot *model_find(struct model *model, uint32_t id)
{
	for (unsigned i = 0; i < MODEL_MAX; i++)
		if (model->slots[i].id == id)
			return &model->slots[i];
	return NULL;
}

static int expected_range(const struct model *model, const struct vd_slot_config *c,
			  uint32_t except)
{
	uint64_t limit = UINT64_C(1) << 50;

	if (!c->size)
		return -EINVAL;
	if (c->base.value > limit || c->size > limit || c->base.value + c->size > limit)
		return -EOVERFLOW;
	if (c->kind == VD_SLOT_RAM && (c->base.value % PAGE || c->size % PAGE || c->offset % PAGE))
		return -EINVAL;
	if (c->kind == VD_SLOT_RAM &&
	    (c->offset > RAM_PAGES * PAGE || c->size > RAM_PAGES * PAGE - c->offset))
		return -ERANGE;
	return in_the_way(model, c->base.value, c->size, except) ? -EEXIST : 0;
}

/* Mostly something sensible; sometimes empty, misaligned, past the end, or wrapping. */
static uint64_t random_base(uint64_t *seed)
{
	switch (test_random(seed) % 20) {
	case 0:
		return 0 - test_random(seed) % (4 * PAGE);
	case 1:
		return (UINT64_C(1) << 50) - test_random(seed) % 4 * PAGE;
	case 2:
		return test_random(seed) % SPACE;
	default:
		return test_random(seed) % (SPACE / PAGE) * PAGE;
	}
}

static uint64_t random_size(uint64_t *seed)
{
	switch (test_random(seed) % 20) {
	case 0:
		return 0;
	case 1:
		return 0 - test_random(seed) % (4 * PAGE);
	case 2:
		return test_random(seed) % (2 * PAGE);
	case 3:
		return (RAM_PAGES + test_random(seed) % 4) * PAGE;
	default:
		return (1 + test_random(seed) % 6) * PAGE;
	}
}

static void try_add(struct fixture *f, struct vd_mem_update *update, struct model *model,
		    uint64_t *seed)
{
	struct vd_slot_config c = ram_slot(f, random_base(seed), 0, random_size(seed));
	struct model_slot *room = model_find(model, 0);
	uint32_t id = 0;
	int expected, r;

	if (test_random(seed) % 3 == 0)
		c = trap_slot(c.base.value + test_random(seed) % 64, c.size / 2, &trap_none, NULL);
	else
		c.offset = test_random(seed) % (RAM_PAGES + 4) * PAGE +
			(test_random(seed) % 16 ? 0 : 8);
	if (!room)
		return;
	expected = expected_range(model, &c, 0);
	r = vd_mem_add(update, &c, &id, NULL);
	check(r == expected);
	if (r)
		return;
	check(id != 0 && !model_find(model, id));
	*room = (struct model_slot){id, c.kind, c.base.value, c.size, c.offset};
}

static uint32_t random_id(const struct model *model, uint64_t *seed)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		uint32_t id = model->slots[test_random(seed) % MODEL_MAX].id;

		if (id)
			return id;
	}
	return (uint32_t)(test_random(seed) % 200);
}

static void try_remove(struct vd_mem_update *update, struct model *model, uint64_t *seed)
{
	uint32_t id = random_id(model, seed);
	struct model_slot *slot = id ? model_find(model, id) : NULL;

	check(vd_mem_remove(update, id) == (slot ? 0 : -ENOENT));
	if (slot)
		*slot = (struct model_slot){0};
}

static void try_move(struct vd_mem_update *update, struct model *model, uint64_t *seed)
{
	uint32_t id = random_id(model, seed);
	struct model_slot *slot = id ? model_find(model, id) : NULL;
	vd_gpa base = {random_base(seed)};
	int expected = -ENOENT, r;

	if (slot) {
		struct vd_slot_config c = {.base = base, .size = slot->size, .kind = slot->kind,
					   .offset = slot->offset};

		expected = expected_range(model, &c, id);
	}
	r = vd_mem_move(update, id, base, NULL);
	check(r == expected);
	if (!r)
		slot->base = base.value;
}

/* ---- what was published ---- */

struct comparison {
	struct model *model;
	uint64_t last;
	unsigned count;
};

static int compare_one(void *context, const struct vd_slot *slot)
{
	struct comparison *c = context;
	const struct model_slot *m = model_find(c->model, slot->id);

	check(m != NULL && slot->valid);
	check(m->kind == slot->config.kind && m->base == slot->config.base.value);
	check(m->size == slot->config.size && m->offset == slot->config.offset);
	check(c->count == 0 || slot->config.base.value > c->last);
	c->last = slot->config.base.value + slot->config.size - 1;
	c->count++;
	return 0;
}

static void compare_sets(struct fixture *f, struct model *model)
{
	struct comparison c = {.model = model};
	unsigned count = 0;

	for (unsigned i = 0; i < MODEL_MAX; i++)
		count += model->slots[i].id != 0;
	check(vd_mem_each(f->mem, compare_one, &c) == 0);
	check(c.count == count && vd_mem_slot_count(f->mem) == count);
}

static const struct model_slot *holder(const struct model *model, uint64_t gpa)
{
	for (unsigned i = 0; i < MODEL_MAX; i++) {
		const struct model_slot *s = &model->slots[i];

		if (s->id && gpa >= s->base && gpa - s->base < s->size)
			return s;
	}
	return NULL;
}

static void compare_lookups(struct fixture *f, const struct model *model, struct vd_mem_hint *hint,
			    uint64_t *seed)
{
	f->env->read_enter(f->env);
	for (unsigned i = 0; i < 16; i++) {
		uint64_t gpa = test_random(seed) % 8 ? test_random(seed) % SPACE
						     : random_base(seed);
		const struct model_slot *m = holder(model, gpa);
		const struct vd_slot *slot = vd_mem_find(f->mem, (vd_gpa){gpa}, NULL);

		check((slot ? slot->id : 0) == (m ? m->id : 0));
		check(vd_mem_find(f->mem, (vd_gpa){gpa}, hint) == slot);
		check(vd_mem_find(f->mem, (vd_gpa){gpa ^ 1}, hint) ==
		      vd_mem_find(f->mem, (vd_gpa){gpa ^ 1}, NULL));
	}
	f->env->read_leave(f->env);
}

/* ---- what mirrors were told ---- */

/* Bytes of the slots that were there before and are not, or are elsewhere, now. */
static uint64_t bytes_gone(struct model *before, struct model *after)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < MODEL_MAX; i++) {
		const struct model_slot *old = &before->slots[i], *new;

		if (!old->id)
			continue;
		new = model_find(after, old->id);
		if (!new || new->base != old->base)
			bytes += old->size;
	}
	return bytes;
}

static bool started(const struct ear *ear, uint64_t start, uint64_t size)
{
	for (unsigned i = 0; i < ear->start_count; i++)
		if (start >= ear->starts[i].start &&
		    start + size <= ear->starts[i].start + ear->starts[i].length)
			return true;
	return false;
}

static void compare_events(const struct ear *ear, struct model *before, struct model *after)
{
	uint64_t heard = 0;

	check(ear->start_count <= HEARD_MAX && ear->start_count == ear->end_count);
	for (unsigned i = 0; i < ear->start_count; i++) {
		heard += ear->starts[i].length;
		check(ear->starts[i].reason == VD_INVALIDATE_SLOT);
	}
	/* A slot that was moved away and back within the update may be dropped though it stayed. */
	check(heard >= bytes_gone(before, after));
	for (unsigned i = 0; i < MODEL_MAX; i++) {
		const struct model_slot *old = &before->slots[i], *new;

		if (!old->id)
			continue;
		new = model_find(after, old->id);
		if (!new || new->base != old->base)
			check(started(ear, old->base, old->size));
		else if (started(ear, old->base, old->size))
			heard -= old->size;
	}
	check(heard == bytes_gone(before, after));
}

static void one_update(struct fixture *f, struct model *model, struct ear *ear, uint64_t *seed)
{
	unsigned changes = 1 + (unsigned)(test_random(seed) % 8);
	uint64_t generation = vd_mem_generation(f->mem);
	struct vd_mem_update *update;
	struct model next = *model;

	ear->start_count = ear->end_count = 0;
	check(vd_mem_begin(f->mem, &update) == 0);
	while (changes--) {
		uint64_t kind = test_random(seed) % 8;

		if (kind < 4)
			try_add(f, update, &next, seed);
		else if (kind < 6)
			try_remove(update, &next, seed);
		else
			try_move(update, &next, seed);
	}
	check(vd_mem_generation(f->mem) == generation);
	if (test_random(seed) % 4 == 0) {
		vd_mem_abort(update);
		check(vd_mem_generation(f->mem) == generation && !ear->start_count);
		return;
	}
	vd_mem_commit(update);
	check(vd_mem_generation(f->mem) != generation);
	compare_events(ear, model, &next);
	*model = next;
}

static void test_random_updates(void **state)
{
	(void)state;
	for (uint64_t round = 1; round <= 4; round++) {
		struct vd_mem_hint hint = {0};
		struct model model = {0};
		uint64_t seed = seed_now = round;
		struct fixture f;
		struct ear ear;

		fixture_open(&f);
		ear_open(&ear, &f);
		for (unsigned i = 0; i < UPDATES; i++) {
			one_update(&f, &model, &ear, &seed);
			compare_sets(&f, &model);
			compare_lookups(&f, &model, &hint, &seed);
		}
		ear_close(&ear, &f);
		fixture_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_updates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
