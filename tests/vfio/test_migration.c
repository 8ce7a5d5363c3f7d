/* SPDX-License-Identifier: BSD-2-Clause */
/* The states of migration: every way from each to each, and a device's state from one to another. */
#include "adder.h"

#define STATES 8u

enum { ERROR = VD_MIGRATION_ERROR, STOP = VD_MIGRATION_STOP, RUNNING = VD_MIGRATION_RUNNING,
       STOP_COPY = VD_MIGRATION_STOP_COPY, RESUMING = VD_MIGRATION_RESUMING,
       P2P = VD_MIGRATION_RUNNING_P2P, PRE = VD_MIGRATION_PRE_COPY,
       PRE_P2P = VD_MIGRATION_PRE_COPY_P2P };

/* An adder whose state has BAR 2's bytes in it as well. */
struct mover {
	struct rig rig;
	struct vd_device *device;
	struct vd_device_ops ops;
	unsigned saves, fail_saves; /* the n-th from now on fails */
	unsigned extra;		    /* bytes of state besides, for nothing */
};

static uint8_t *memory(struct mover *m)
{
	return vd_device_memory(m->device, VD_REGION_BAR2, 0, ADDER_BAR2);
}

static struct mover *mover_of(void *context)
{
	return (struct mover *)((char *)context - offsetof(struct mover, rig.adder));
}

static int mover_save(void *context, struct vd_stream *stream)
{
	struct mover *m = mover_of(context);

	m->saves++;
	if (m->fail_saves && !--m->fail_saves)
		return -EIO;
	adder_save(context, stream);
	vd_stream_put(stream, memory(m), ADDER_BAR2);
	for (unsigned i = 0; i < m->extra; i++)
		vd_stream_put(stream, "x", 1);
	return 0;
}

static int mover_load(void *context, struct vd_stream *stream)
{
	static uint8_t bytes[ADDER_BAR2];
	struct vd_stream copy = *stream;
	int r;

	for (unsigned i = 0; i < ADDER_REGISTERS; i++)
		vd_stream_get_u64(&copy);
	vd_stream_get(&copy, bytes, sizeof(bytes));
	if (copy.failed)
		return -EINVAL;
	r = adder_load(context, stream);
	if (!r)
		memcpy(memory(mover_of(context)), bytes, sizeof(bytes));
	return r;
}

static void mover_open(struct mover *m)
{
	struct vd_device_config config;

	m->saves = m->fail_saves = m->extra = 0;
	rig_open(&m->rig);
	vd_device_put(m->rig.adder.device);
	m->ops = adder_ops;
	m->ops.save = mover_save;
	m->ops.load = mover_load;
	config = adder_config(&m->rig.f, &m->rig.adder);
	config.ops = &m->ops;
	config.space = m->rig.space;
	assert_int_equal(vd_device_create(&config, &m->rig.adder.device, NULL), 0);
	m->device = m->rig.adder.device;
	m->rig.adder.quiesces = m->rig.adder.resumes = 0;
}

static int go(struct mover *m, unsigned state)
{
	struct vd_error error = {.text = ""};
	int r = vd_device_migration_set(m->device, state, &error);

	assert_int_equal(error.code, r);
	assert_int_equal(!r, !error.text[0]);
	return r;
}

static unsigned state_of(struct mover *m)
{
	return vd_device_migration_state(m->device);
}

static bool stands(struct mover *m)
{
	return m->rig.adder.quiesces != m->rig.adder.resumes;
}

/* All that can be read now, in pieces. Return: bytes; *@last: what the last read said. */
static size_t drain(struct mover *m, uint8_t *to, size_t room, ssize_t *last)
{
	size_t length = 0;

	while ((*last = vd_device_migration_read(m->device, to + length, 1000)) > 0) {
		length += (size_t)*last;
		assert_true(length + 1000 < room);
	}
	return length;
}

#define ROOM (8 * ADDER_BAR2)

static size_t whole_stream(struct mover *m, uint8_t *to)
{
	ssize_t last;
	size_t length;

	assert_int_equal(go(m, STOP_COPY), 0);
	length = drain(m, to, ROOM, &last);
	assert_int_equal(last, 0);
	return length;
}

static void feed(struct mover *m, const uint8_t *data, size_t length)
{
	for (size_t at = 0; at < length; at += 700) {
		size_t n = length - at < 700 ? length - at : 700;

		assert_int_equal(vd_device_migration_write(m->device, data + at, n), n);
	}
}

/* ---- the machine ---------------------------------------------------------------------------- */

/*
 * The comment over vfio_mig_get_next_state() in Linux names all combined ways, with P2P and
 * PRE_COPY: here as the states that are passed through on the way, in order; the others are arcs.
 */
static const struct {
	unsigned from, to, through[3];
} ways[] = {
	{PRE, STOP_COPY, {PRE_P2P}},
	{PRE, P2P, {RUNNING}},
	{PRE, STOP, {RUNNING, P2P}},
	{PRE, RESUMING, {RUNNING, P2P, STOP}},
	{PRE_P2P, RUNNING, {P2P}},
	{PRE_P2P, STOP, {P2P}},
	{PRE_P2P, RESUMING, {P2P, STOP}},
	{RESUMING, P2P, {STOP}},
	{RESUMING, PRE_P2P, {STOP, P2P}},
	{RESUMING, RUNNING, {STOP, P2P}},
	{RESUMING, PRE, {STOP, P2P, RUNNING}},
	{RESUMING, STOP_COPY, {STOP}},
	{RUNNING, PRE_P2P, {P2P}},
	{RUNNING, STOP, {P2P}},
	{RUNNING, RESUMING, {P2P, STOP}},
	{RUNNING, STOP_COPY, {P2P, STOP}},
	{P2P, PRE, {RUNNING}},
	{P2P, RESUMING, {STOP}},
	{P2P, STOP_COPY, {STOP}},
	{STOP, PRE_P2P, {P2P}},
	{STOP, RUNNING, {P2P}},
	{STOP, PRE, {P2P, RUNNING}},
	{STOP_COPY, RESUMING, {STOP}},
	{STOP_COPY, P2P, {STOP}},
	{STOP_COPY, RUNNING, {STOP, P2P}},
};

static const unsigned single[][2] = {
	{RESUMING, STOP}, {STOP, RESUMING}, {STOP, STOP_COPY}, {STOP_COPY, STOP}, {RUNNING, P2P},
	{P2P, RUNNING}, {P2P, STOP}, {STOP, P2P}, {PRE, RUNNING}, {PRE, PRE_P2P}, {PRE_P2P, PRE},
	{PRE_P2P, P2P}, {PRE_P2P, STOP_COPY}, {RUNNING, PRE}, {P2P, PRE_P2P},
};

static bool is_stop(unsigned state)
{
	return state != RUNNING && state != PRE;
}

/* How often a way saves and quiesces: seen from outside, it tells which one was taken. */
static void expect(unsigned from, unsigned to, unsigned *saves, unsigned *loads)
{
	const bool early = to == PRE || to == PRE_P2P, was = from == PRE || from == PRE_P2P;

	*loads += from == RESUMING;
	*saves += to == STOP_COPY || (early && !was);
}

/* Return: whether there is a way. */
static bool walk(unsigned from, unsigned to, unsigned *saves, unsigned *stops)
{
	unsigned at = from, loads = 0;

	for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++)
		if (single[i][0] == from && single[i][1] == to) {
			expect(from, to, saves, &loads);
			*stops += is_stop(to) && !is_stop(from);
			return true;
		}
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (ways[i].from != from || ways[i].to != to)
			continue;
		for (unsigned k = 0; k < 3 && ways[i].through[k]; k++) {
			assert_true(walk(at, ways[i].through[k], saves, stops));
			at = ways[i].through[k];
		}
		return walk(at, to, saves, stops);
	}
	return from == to;
}

static void bring_to(struct mover *m, unsigned state, const uint8_t *data, size_t length)
{
	assert_int_equal(vd_device_reset(m->device, VD_RESET_BUS), 0);
	assert_int_equal(state_of(m), RUNNING);
	assert_int_equal(go(m, state), 0);
	if (state == RESUMING)
		feed(m, data, length);
}

static void test_all_arcs(void **state)
{
	static uint8_t data[ROOM];
	struct mover m;
	unsigned count = 0;
	size_t length;

	(void)state;
	mover_open(&m);
	length = whole_stream(&m, data);
	for (unsigned from = 1; from < STATES; from++)
		for (unsigned to = 0; to < STATES + 2; to++) {
			unsigned saves = 0, stops = 0, before;
			bool way = to && to < STATES && walk(from, to, &saves, &stops);

			bring_to(&m, from, data, length);
			before = m.saves;
			m.rig.adder.quiesces = m.rig.adder.resumes + is_stop(from);
			assert_int_equal(go(&m, to), way ? 0 : -EINVAL);
			assert_int_equal(state_of(&m), way ? to : from);
			assert_int_equal(stands(&m), is_stop(way ? to : from));
			assert_int_equal(m.saves - before, saves);
			count += way;
		}
	/* 7 x 7 but the two that are blocked */
	assert_int_equal(count, 47);
	rig_close(&m.rig);
}

/* A step that fails leaves the state before it, which one can go on from. */
static void test_failed_steps(void **state)
{
	struct mover m;

	(void)state;
	mover_open(&m);
	m.rig.adder.quiesce_result = -EIO;
	assert_int_equal(go(&m, STOP_COPY), -EIO);
	assert_int_equal(state_of(&m), RUNNING);
	m.rig.adder.quiesce_result = 0;
	m.rig.adder.quiesces = m.rig.adder.resumes;
	m.fail_saves = 1;
	assert_int_equal(go(&m, STOP_COPY), -EIO);
	assert_int_equal(state_of(&m), STOP);
	assert_true(stands(&m));
	m.fail_saves = 1;
	assert_int_equal(go(&m, PRE), -EIO);
	assert_int_equal(state_of(&m), RUNNING);
	assert_false(stands(&m));
	assert_int_equal(go(&m, PRE), 0);
	m.fail_saves = 1;
	assert_int_equal(go(&m, STOP_COPY), -EIO);
	assert_int_equal(state_of(&m), PRE_P2P);
	assert_int_equal(go(&m, STOP_COPY), 0);
	assert_int_equal(go(&m, RUNNING), 0);
	assert_false(stands(&m));
	rig_close(&m.rig);
}

static int short_of_memory(struct mover *m, unsigned to, long step)
{
	int r;

	test_env_fail(&m->rig.f.test, step, -ENOMEM);
	r = vd_device_migration_set(m->device, to, NULL);
	assert_int_equal(r, test_env_failed(&m->rig.f.test) ? -ENOMEM : 0);
	test_env_fail(&m->rig.f.test, 0, 0);
	return r;
}

static void test_short_of_memory(void **state)
{
	static uint8_t data[ROOM];
	struct mover m;
	size_t length;
	long step = 0;

	(void)state;
	mover_open(&m);
	do {
		bring_to(&m, RUNNING, NULL, 0);
	} while (short_of_memory(&m, PRE, ++step));
	assert_true(step > 1);
	for (step = 0; short_of_memory(&m, STOP_COPY, ++step);)
		assert_int_equal(state_of(&m), PRE_P2P);
	assert_true(step > 1);
	length = whole_stream(&m, data);
	bring_to(&m, RESUMING, data, length);
	for (step = 0; short_of_memory(&m, RUNNING, ++step);)
		assert_int_equal(state_of(&m), RESUMING);
	assert_true(step > 1);
	/* a write that finds no memory took nothing */
	bring_to(&m, RESUMING, data, 0);
	test_env_fail(&m.rig.f.test, 1, -ENOMEM);
	assert_int_equal(vd_device_migration_write(m.device, data, 64), -ENOMEM);
	test_env_fail(&m.rig.f.test, 0, 0);
	feed(&m, data, length);
	assert_int_equal(go(&m, RUNNING), 0);
	rig_close(&m.rig);
}

/* ---- the data ------------------------------------------------------------------------------- */

static void fill(struct mover *m, uint32_t seed)
{
	uint64_t random = seed;

	assert_int_equal(rig_write(&m->rig, 0, seed), 0);
	assert_int_equal(rig_write(&m->rig, 1, ~seed), 0);
	for (unsigned i = 0; i < ADDER_BAR2; i++)
		memory(m)[i] = (uint8_t)test_random(&random);
}

static void same(struct mover *a, struct mover *b)
{
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(rig_read(&a->rig, i), rig_read(&b->rig, i));
	assert_memory_equal(memory(a), memory(b), ADDER_BAR2);
}

static void test_stop_and_copy(void **state)
{
	static uint8_t data[ROOM];
	struct mover from, to;
	ssize_t last;
	size_t length;

	(void)state;
	mover_open(&from);
	mover_open(&to);
	fill(&from, 1);
	assert_int_equal(vd_device_migration_read(from.device, data, 10), -EINVAL);
	assert_int_equal(vd_device_migration_write(from.device, data, 10), -EINVAL);
	assert_true(vd_device_migration_size(from.device) > ADDER_BAR2);
	assert_int_equal(go(&from, STOP_COPY), 0);
	assert_int_equal(vd_device_migration_write(from.device, data, 10), -EINVAL);
	assert_int_equal(vd_device_migration_read(from.device, data, 0), 0);
	length = vd_device_migration_size(from.device);
	assert_int_equal(drain(&from, data, ROOM, &last), length);
	assert_int_equal(last, 0);
	assert_int_equal(vd_device_migration_size(from.device), 0);
	assert_int_equal(go(&to, RESUMING), 0);
	assert_int_equal(vd_device_migration_read(to.device, data, 10), -EINVAL);
	feed(&to, data, length);
	assert_int_equal(go(&to, RUNNING), 0);
	same(&from, &to);
	rig_close(&from.rig);
	rig_close(&to.rig);
}

/* Read early; what changes afterwards, and only that, comes in the end. */
static void test_pre_copy(void **state)
{
	static uint8_t data[ROOM];
	struct mover from, to;
	uint64_t initial, dirty;
	size_t early, length;
	ssize_t last;

	(void)state;
	mover_open(&from);
	mover_open(&to);
	assert_int_equal(vd_device_migration_precopy(from.device, &initial, &dirty), -EINVAL);
	fill(&from, 2);
	assert_int_equal(go(&from, PRE), 0);
	assert_false(stands(&from));
	assert_int_equal(vd_device_migration_precopy(from.device, &initial, &dirty), 0);
	assert_true(initial > ADDER_BAR2);
	assert_int_equal(dirty, 0);
	assert_int_equal(vd_device_migration_size(from.device), initial);
	assert_int_equal(vd_device_migration_read(from.device, data, 100), 100);
	assert_int_equal(vd_device_migration_precopy(from.device, &dirty, &dirty), 0);
	early = 100 + drain(&from, data + 100, ROOM - 100, &last);
	assert_int_equal(last, -ENOMSG);
	assert_int_equal(early, initial);
	/* it runs, and changes a register and a byte */
	assert_int_equal(rig_write(&from.rig, 0, 77), 0);
	memory(&from)[ADDER_BAR2 - 1] ^= 1;
	assert_int_equal(go(&from, PRE_P2P), 0);
	assert_true(stands(&from));
	assert_int_equal(vd_device_migration_read(from.device, data, 100), -ENOMSG);
	assert_int_equal(go(&from, STOP_COPY), 0);
	length = early + drain(&from, data + early, ROOM - early, &last);
	assert_int_equal(last, 0);
	assert_true(length - early < 2 * PAGE + 500);
	assert_int_equal(go(&to, RESUMING), 0);
	feed(&to, data, length);
	assert_int_equal(go(&to, RUNNING), 0);
	same(&from, &to);
	/* what was not read early comes first */
	assert_int_equal(go(&from, RUNNING), 0);
	assert_int_equal(go(&from, PRE), 0);
	fill(&from, 3);
	length = whole_stream(&from, data);
	assert_true(length > 2 * ADDER_BAR2);
	assert_int_equal(go(&to, RESUMING), 0);
	feed(&to, data, length);
	assert_int_equal(go(&to, P2P), 0);
	same(&from, &to);
	rig_close(&from.rig);
	rig_close(&to.rig);
}

/* A state that is longer or shorter in the end than it was early. */
static void test_other_lengths(void **state)
{
	static const unsigned lengths[] = {0, 5000, 1, 9000, 4096, 0};
	static uint8_t data[ROOM];
	struct mover from, to;

	(void)state;
	mover_open(&from);
	mover_open(&to);
	for (unsigned i = 0; i + 1 < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t length;

		fill(&from, i + 10);
		from.extra = lengths[i];
		assert_int_equal(go(&from, PRE), 0);
		from.extra = lengths[i + 1];
		length = whole_stream(&from, data);
		assert_int_equal(go(&from, RUNNING), 0);
		assert_int_equal(go(&to, RESUMING), 0);
		feed(&to, data, length);
		assert_int_equal(go(&to, RUNNING), 0);
		same(&from, &to);
	}
	rig_close(&from.rig);
	rig_close(&to.rig);
}

/* Random changes, read or not read meanwhile. */
static void test_random_moves(void **state)
{
	static uint8_t data[ROOM];
	struct mover from, to;
	ssize_t last;

	(void)state;
	test_start(4);
	mover_open(&from);
	mover_open(&to);
	for (unsigned round = 0; round < 60; round++) {
		size_t length = 0;

		fill(&from, (uint32_t)test_random(test_state()));
		assert_int_equal(go(&from, PRE), 0);
		if (test_random(test_state()) % 2)
			length = drain(&from, data, ROOM, &last);
		for (uint64_t n = test_random(test_state()) % 20; n; n--)
			memory(&from)[test_random(test_state()) % ADDER_BAR2]++;
		assert_int_equal(go(&from, STOP_COPY), 0);
		length += drain(&from, data + length, ROOM - length, &last);
		assert_int_equal(go(&from, RUNNING), 0);
		assert_int_equal(go(&to, RESUMING), 0);
		feed(&to, data, length);
		assert_int_equal(go(&to, RUNNING), 0);
		same(&from, &to);
	}
	rig_close(&from.rig);
	rig_close(&to.rig);
}

/* ---- hostile data --------------------------------------------------------------------------- */

/* Refused, with a reason; the device is as it was, and only a reset leads out. */
static void refuse(struct mover *m, const uint8_t *data, size_t length)
{
	bring_to(m, RUNNING, NULL, 0);
	assert_int_equal(rig_write(&m->rig, 0, 5), 0);
	assert_int_equal(go(m, RESUMING), 0);
	feed(m, data, length);
	assert_int_equal(go(m, RUNNING), -EINVAL);
	assert_int_equal(state_of(m), RESUMING);
	assert_int_equal(rig_read(&m->rig, 0), 5);
}

static void test_cut_off(void **state)
{
	static uint8_t data[ROOM], cut[ROOM];
	struct mover m;
	size_t length;

	(void)state;
	mover_open(&m);
	assert_int_equal(go(&m, PRE), 0);
	memory(&m)[3] = 1;
	length = whole_stream(&m, data);
	for (size_t n = 0; n < length; n += n < 100 || n > length - 40 ? 1 : 997) {
		memcpy(cut, data, n);
		refuse(&m, cut, n);
	}
	data[length] = 0; /* and what comes behind the end */
	refuse(&m, data, length + 1);
	/* one record twice, or in another order */
	memcpy(cut, data, length);
	memcpy(cut + length, data, length);
	refuse(&m, cut, 2 * length);
	bring_to(&m, RESUMING, data, length);
	assert_int_equal(go(&m, RUNNING), 0);
	rig_close(&m.rig);
}

static void test_corrupted(void **state)
{
	static uint8_t data[ROOM];
	struct mover m;
	size_t length;

	(void)state;
	test_start(9);
	mover_open(&m);
	assert_int_equal(go(&m, PRE), 0);
	memory(&m)[3] = 1;
	length = whole_stream(&m, data);
	for (unsigned i = 0; i < 400; i++) {
		size_t at = test_random(test_state()) % (i % 2 ? length : 64);
		uint8_t bit = (uint8_t)(1 << test_random(test_state()) % 8);
		int r;

		bring_to(&m, RESUMING, NULL, 0);
		data[at] ^= bit;
		feed(&m, data, length);
		r = go(&m, RUNNING);
		/* a bit of the base that the rest covers does no harm */
		assert_true(!r || r == -EINVAL || r == -ENOMEM);
		data[at] ^= bit;
	}
	rig_close(&m.rig);
}

/* Whatever it writes, a client cannot make us keep more than such a device can have. */
static void test_too_much(void **state)
{
	static uint8_t piece[1 << 20];
	struct mover m;
	uint64_t total = 0;
	ssize_t n;

	(void)state;
	mover_open(&m);
	assert_int_equal(go(&m, RESUMING), 0);
	while ((n = vd_device_migration_write(m.device, piece, sizeof(piece))) > 0)
		total += (uint64_t)n;
	assert_int_equal(n, -E2BIG);
	assert_true(total > 3 * ADDER_BAR2 && total < 100u << 20);
	assert_int_equal(vd_device_migration_write(m.device, piece, SIZE_MAX), -E2BIG);
	rig_close(&m.rig);
}

/* The end of a device, or of a migration, in every state. */
static void test_any_end(void **state)
{
	struct mover m;

	(void)state;
	for (unsigned s = 1; s < STATES; s++) {
		mover_open(&m);
		assert_int_equal(go(&m, s), 0);
		rig_close(&m.rig);
	}
	mover_open(&m);
	for (unsigned s = 1; s < STATES; s++) {
		assert_int_equal(go(&m, s), 0);
		assert_int_equal(vd_device_reset(m.device, VD_RESET_FUNCTION), 0);
		assert_int_equal(state_of(&m), RUNNING);
		assert_false(stands(&m));
	}
	rig_close(&m.rig);
}

static void test_no_save(void **state)
{
	struct vd_device_ops ops = adder_ops;
	struct vd_device_config config;
	struct vd_device *device;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	config = adder_config(&rig.f, &rig.adder);
	ops.save = NULL;
	config.ops = &ops;
	assert_int_equal(vd_device_create(&config, &device, NULL), 0);
	assert_int_equal(vd_device_migration_set(device, STOP, NULL), -EOPNOTSUPP);
	assert_int_equal(vd_device_migration_state(device), RUNNING);
	vd_device_put(device);
	rig_close(&rig);
}

/* ---- several threads ------------------------------------------------------------------------ */

struct crowd {
	struct mover m;
	_Atomic bool stop;
};

static void *migrate(void *context)
{
	struct crowd *c = context;
	uint64_t random = (uint64_t)(uintptr_t)&random;
	uint8_t bytes[512];

	while (!atomic_load(&c->stop)) {
		(void)vd_device_migration_set(c->m.device,
					      (unsigned)(test_random(&random) % STATES), NULL);
		(void)vd_device_migration_read(c->m.device, bytes, sizeof(bytes));
		(void)vd_device_migration_write(c->m.device, bytes, 16);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	static struct crowd c;
	pthread_t threads[2];

	(void)state;
	mover_open(&c.m);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, migrate, &c), 0);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(rig_write(&c.m.rig, 0, i), 0);
		if (i % 8 == 0)
			assert_int_equal(vd_device_reset(c.m.device, VD_RESET_FUNCTION), 0);
	}
	atomic_store(&c.stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(vd_device_reset(c.m.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(state_of(&c.m), RUNNING);
	assert_false(stands(&c.m));
	rig_close(&c.m.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_arcs),
		cmocka_unit_test(test_failed_steps),
		cmocka_unit_test(test_short_of_memory),
		cmocka_unit_test(test_stop_and_copy),
		cmocka_unit_test(test_pre_copy),
		cmocka_unit_test(test_other_lengths),
		cmocka_unit_test_teardown(test_random_moves, test_seed_print),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test_teardown(test_corrupted, test_seed_print),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_any_end),
		cmocka_unit_test(test_no_save),
		cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
