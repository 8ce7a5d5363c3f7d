/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include <pthread.h>

#define TOLD_MAX 64u

/* A watcher that notes what it is told, and clears it or not. */
struct watcher {
	struct vd_mem_watch watch;
	struct fixture *f;
	uint64_t starts[TOLD_MAX], lengths[TOLD_MAX];
	unsigned count;
	bool clear;
	unsigned char seen; /* the first byte of what was told of last, at that time */
};

static void note(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct watcher *w = (struct watcher *)watch;

	w->starts[w->count % TOLD_MAX] = gpa.value;
	w->lengths[w->count++ % TOLD_MAX] = length;
	assert_int_equal(vd_mem_read(w->f->mem, gpa, &w->seen, 1), 0);
	if (w->clear)
		vd_mem_watch_clear(watch, gpa, length);
}

static const struct vd_mem_watch_ops note_ops = {note};

static void watcher_open(struct watcher *w, struct fixture *f, bool clear)
{
	*w = (struct watcher){.watch.ops = &note_ops, .f = f, .clear = clear};
	assert_int_equal(vd_mem_watch_add(f->mem, &w->watch), 0);
}

static void write_bytes(struct fixture *f, uint64_t gpa, uint64_t length)
{
	static unsigned char data[64 * PAGE] = {1};

	assert_int_equal(vd_mem_write(f->mem, (vd_gpa){gpa}, data, length), 0);
}

static void test_refusals(void **state)
{
	struct watcher all[VD_MEM_WATCHERS_MAX], more = {.watch.ops = NULL};
	struct vd_mem_watch_ops empty = {NULL};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, 8 * PAGE);
	add_ram(&f, 32 * PAGE, 8 * PAGE, 8 * PAGE);
	assert_int_equal(vd_mem_watch_add(f.mem, &more.watch), -EINVAL);
	more.watch.ops = &empty;
	assert_int_equal(vd_mem_watch_add(f.mem, &more.watch), -EINVAL);
	more.watch.ops = &note_ops;
	for (int step = 1; step <= 2; step++) {
		test_env_fail(&f.test, step, -ENOMEM);
		assert_int_equal(vd_mem_watch_add(f.mem, &more.watch), -ENOMEM);
	}
	test_env_fail(&f.test, 0, 0);
	vd_mem_watch_remove(&more.watch);
	for (unsigned i = 0; i < VD_MEM_WATCHERS_MAX; i++)
		watcher_open(&all[i], &f, false);
	assert_int_equal(vd_mem_watch_add(f.mem, &more.watch), -ENOSPC);
	vd_mem_watch_remove(&all[3].watch);
	assert_int_equal(vd_mem_watch_add(f.mem, &more.watch), 0);
	vd_mem_watch_remove(&more.watch);
	for (unsigned i = 0; i < VD_MEM_WATCHERS_MAX; i++)
		vd_mem_watch_remove(&all[i].watch);
	fixture_close(&f);
}

/* The store waits for the watcher; who cleared the page is told once, who keeps it once more. */
static void test_before_and_after(void **state)
{
	struct watcher w;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, 8 * PAGE);
	watcher_open(&w, &f, true);
	vd_mem_watch_set(&w.watch, (vd_gpa){2 * PAGE + 7}, PAGE);
	write_bytes(&f, 0, 2 * PAGE);
	assert_int_equal(w.count, 0);
	write_bytes(&f, 2 * PAGE + 5, 8);
	assert_int_equal(w.count, 1);
	assert_int_equal(w.starts[0], 2 * PAGE + 5);
	assert_int_equal(w.lengths[0], 8);
	assert_int_equal(w.seen, 0);
	write_bytes(&f, 2 * PAGE + 5, 8);
	assert_int_equal(w.count, 1);
	w.clear = false;
	write_bytes(&f, 3 * PAGE, 1);
	assert_int_equal(w.count, 3);
	assert_int_equal(w.seen, 1);
	write_bytes(&f, PAGE, 5 * PAGE);
	assert_int_equal(w.count, 5);
	assert_int_equal(w.starts[4], 3 * PAGE);
	assert_int_equal(w.lengths[4], PAGE);
	vd_mem_watch_remove(&w.watch);
	vd_mem_watch_remove(&w.watch);
	write_bytes(&f, 3 * PAGE, 1);
	assert_int_equal(w.count, 5);
	fixture_close(&f);
}

/* Who is told first makes another watch the page, which has been passed over by then. */
struct chain_watcher {
	struct watcher w; /* first: note() */
	struct watcher *other;
};

static void arm_other(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct chain_watcher *c = (struct chain_watcher *)watch;

	if (!c->w.count++)
		vd_mem_watch_set(&c->other->watch, gpa, length);
}

static void test_who_comes_late_is_told_before(void **state)
{
	static const struct vd_mem_watch_ops arm_ops = {arm_other};
	struct chain_watcher late_cause = {.w.count = 0};
	struct watcher late;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, 8 * PAGE);
	watcher_open(&late, &f, true);
	watcher_open(&late_cause.w, &f, false);
	late_cause.w.watch.ops = &arm_ops;
	late_cause.other = &late;
	vd_mem_watch_set(&late_cause.w.watch, (vd_gpa){PAGE}, PAGE);
	write_bytes(&f, PAGE, 8);
	assert_int_equal(late.count, 1);
	assert_int_equal(late.seen, 0);
	/* Before the store, as the page had become another's; before it again; after it. */
	assert_int_equal(late_cause.w.count, 3);
	vd_mem_watch_remove(&late_cause.w.watch);
	vd_mem_watch_remove(&late.watch);
	fixture_close(&f);
}

static void test_failed_stores_tell_nobody(void **state)
{
	struct vd_slot_config slot;
	struct watcher w;
	struct fixture f;
	char data[2 * PAGE] = "";

	(void)state;
	fixture_open(&f);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.read_only = true;
	add_slot(&f, &slot);
	add_ram(&f, PAGE, PAGE, PAGE);
	watcher_open(&w, &f, false);
	vd_mem_watch_set(&w.watch, (vd_gpa){0}, UINT64_MAX);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, data, 1), -EACCES);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){PAGE}, data, 2 * PAGE), -EFAULT);
	assert_int_equal(w.count, 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, data, 2 * PAGE), 0);
	assert_int_equal(w.count, 0);
	vd_mem_watch_remove(&w.watch);
	fixture_close(&f);
}

/* No mirror gets leave to store to a watched page, and a run is alike to its end. */
static void test_lookup(void **state)
{
	struct vd_mem_page page;
	struct watcher w;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, RAM_PAGES * PAGE);
	watcher_open(&w, &f, false);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){PAGE}, VD_READ, &page), 0);
	assert_true(page.writable && !page.watched);
	assert_int_equal(page.host.run, (RAM_PAGES - 1) * PAGE);
	vd_mem_watch_set(&w.watch, (vd_gpa){100 * PAGE}, 30 * PAGE);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){PAGE + 8}, VD_READ, &page), 0);
	assert_true(page.writable && !page.watched);
	assert_int_equal(page.host.run, 99 * PAGE - 8);
	for (unsigned access = VD_READ; access <= VD_WRITE; access++) {
		assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){101 * PAGE + 1}, access, &page),
				 0);
		assert_true(!page.writable && page.watched);
		assert_int_equal(page.host.run, 29 * PAGE - 1);
	}
	vd_mem_watch_clear(&w.watch, (vd_gpa){0}, RAM_PAGES * PAGE);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){101 * PAGE}, VD_READ, &page), 0);
	assert_true(page.writable && !page.watched);
	assert_int_equal(page.host.run, (RAM_PAGES - 101) * PAGE);
	vd_mem_watch_remove(&w.watch);
	fixture_close(&f);
}

static void test_slots_come_move_and_go(void **state)
{
	struct vd_mem_update *update;
	struct watcher w;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	watcher_open(&w, &f, false);
	test_env_fail(&f.test, 2, -ENOMEM);
	id = 0;
	for (int step = 1; !id; step++) {
		struct vd_slot_config slot = ram_slot(&f, 8 * PAGE, 0, 4 * PAGE);

		test_env_fail(&f.test, step, -ENOMEM);
		if (vd_mem_add_slot(f.mem, &slot, &id, NULL))
			id = 0;
	}
	test_env_fail(&f.test, 0, 0);
	vd_mem_watch_set(&w.watch, (vd_gpa){9 * PAGE}, 1);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){20 * PAGE}, NULL), 0);
	vd_mem_commit(update);
	assert_true(vd_mem_watched(f.mem, (vd_gpa){21 * PAGE}, 1));
	assert_false(vd_mem_watched(f.mem, (vd_gpa){20 * PAGE}, PAGE));
	assert_false(vd_mem_watched(f.mem, (vd_gpa){22 * PAGE}, 4 * PAGE));
	assert_false(vd_mem_watched(f.mem, (vd_gpa){21 * PAGE}, 0));
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	assert_false(vd_mem_watched(f.mem, (vd_gpa){0}, UINT64_MAX));
	vd_mem_watch_tell(f.mem, (vd_gpa){0}, UINT64_MAX);
	assert_int_equal(w.count, 0);
	vd_mem_watch_remove(&w.watch);
	fixture_close(&f);
}

static void test_write_protect(void **state)
{
	struct fixture f;
	struct ear ear;

	(void)state;
	fixture_open(&f);
	ear_open(&ear, &f);
	vd_mem_write_protect(f.mem, (vd_gpa){3 * PAGE}, 2 * PAGE);
	vd_mem_write_protect(f.mem, (vd_gpa){3 * PAGE}, 0);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	assert_int_equal(ear.starts[0].reason, VD_INVALIDATE_WRITE_PROTECT);
	assert_int_equal(ear.starts[0].start, 3 * PAGE);
	assert_int_equal(ear.starts[0].length, 2 * PAGE);
	ear_close(&ear, &f);
	fixture_close(&f);
}

/* ---- against a plain array ---- */

#define MODEL_PAGES 100u
#define MODEL_BASE (500 * PAGE) /* so that a stretch of 512 pages begins inside */

struct model {
	struct fixture f;
	struct watcher w[3];
	bool watched[3][MODEL_PAGES];
};

static void check_lookup(struct model *m, unsigned page)
{
	bool any = m->watched[0][page] || m->watched[1][page] || m->watched[2][page];
	struct vd_mem_page found;
	unsigned end = page + 1;
	bool more = false;

	for (unsigned i = 0; i < MODEL_PAGES; i++)
		more |= m->watched[0][i] || m->watched[1][i] || m->watched[2][i];
	while (end < MODEL_PAGES && (!more || (500 + end) % 512) &&
	       (m->watched[0][end] || m->watched[1][end] || m->watched[2][end]) == any)
		end++;
	assert_int_equal(vd_mem_gpa_to_pfn(m->f.mem, (vd_gpa){MODEL_BASE + page * PAGE}, VD_WRITE,
					   &found), 0);
	assert_int_equal(found.watched, any);
	assert_int_equal(found.writable, !any);
	assert_int_equal(found.host.run, (end - page) * PAGE);
	assert_int_equal(vd_mem_watched(m->f.mem, (vd_gpa){MODEL_BASE + page * PAGE}, 1), any);
}

/* Tells of whole pages; each watcher must hear of just the stretches that it watches. */
static void check_tell(struct model *m, unsigned page, unsigned count)
{
	vd_mem_watch_tell(m->f.mem, (vd_gpa){MODEL_BASE + page * PAGE}, count * PAGE);
	for (unsigned k = 0; k < 3; k++) {
		unsigned told = 0;

		for (unsigned i = page, end; i < page + count && i < MODEL_PAGES; i = end) {
			for (end = i; end < page + count && end < MODEL_PAGES &&
				      m->watched[k][end]; end++)
				;
			if (end == i) {
				end++;
				continue;
			}
			assert_true(told < m->w[k].count);
			assert_int_equal(m->w[k].starts[told], MODEL_BASE + i * PAGE);
			assert_int_equal(m->w[k].lengths[told], (end - i) * PAGE);
			told++;
		}
		assert_int_equal(m->w[k].count, told);
		m->w[k].count = 0;
	}
}

static void test_against_a_model(void **state)
{
	static struct model m;
	uint64_t seed = 5;

	(void)state;
	fixture_open(&m.f);
	add_ram(&m.f, MODEL_BASE, 0, MODEL_PAGES * PAGE);
	for (unsigned k = 0; k < 3; k++)
		watcher_open(&m.w[k], &m.f, false);
	for (unsigned round = 0; round < 5000; round++) {
		unsigned page = (unsigned)(test_random(&seed) % MODEL_PAGES);
		unsigned count = 1 + (unsigned)(test_random(&seed) % 40);
		unsigned k = (unsigned)(test_random(&seed) % 3);
		bool set = test_random(&seed) % 3 == 0;
		vd_gpa gpa = {MODEL_BASE + page * PAGE};

		if (test_random(&seed) % 100 == 0) {
			vd_mem_watch_remove(&m.w[k].watch);
			assert_int_equal(vd_mem_watch_add(m.f.mem, &m.w[k].watch), 0);
			memset(m.watched[k], 0, sizeof(m.watched[k]));
		}
		if (set)
			vd_mem_watch_set(&m.w[k].watch, gpa, count * PAGE);
		else
			vd_mem_watch_clear(&m.w[k].watch, gpa, count * PAGE);
		for (unsigned i = page; i < page + count && i < MODEL_PAGES; i++)
			m.watched[k][i] = set;
		check_lookup(&m, (unsigned)(test_random(&seed) % MODEL_PAGES));
		check_tell(&m, (unsigned)(test_random(&seed) % MODEL_PAGES),
			   1 + (unsigned)(test_random(&seed) % MODEL_PAGES));
	}
	for (unsigned k = 0; k < 3; k++)
		vd_mem_watch_remove(&m.w[k].watch);
	fixture_close(&m.f);
}

/* ---- writers against a watcher that saves pages before they change ---- */

#define SAVED_PAGES 8u /* of one word of bits, which are set at once */

struct saver {
	struct vd_mem_watch watch;
	struct fixture f;
	_Atomic uint32_t state[SAVED_PAGES]; /* 0, 1 being saved, 2 saved */
	uint64_t saved[SAVED_PAGES];
	_Atomic bool stop;
};

/* What vd_mem_write() stored last counts up: the copy is the value at the moment, or too late. */
static void save(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct saver *s = (struct saver *)watch;
	uint64_t last = (gpa.value + length - 1) / PAGE;

	for (uint64_t page = gpa.value / PAGE; page <= last; page++) {
		uint32_t none = 0;

		if (atomic_compare_exchange_strong(&s->state[page], &none, 1)) {
			assert_int_equal(vd_mem_read(s->f.mem, (vd_gpa){page * PAGE},
						     &s->saved[page], 8), 0);
			vd_mem_watch_clear(watch, (vd_gpa){page * PAGE}, PAGE);
			atomic_store(&s->state[page], 2);
		}
		while (atomic_load(&s->state[page]) != 2)
			;
	}
}

static const struct vd_mem_watch_ops save_ops = {save};

/* Pages in lock-step: one after the other. */
static void *write_pairs(void *context)
{
	struct saver *s = context;
	uint64_t value = 0;

	while (!atomic_load(&s->stop)) {
		value++;
		for (unsigned page = 0; page < SAVED_PAGES; page++)
			assert_int_equal(vd_mem_write(s->f.mem, (vd_gpa){page * PAGE}, &value, 8),
					 0);
	}
	return NULL;
}

static void test_copy_before_write(void **state)
{
	static struct saver s;
	pthread_t writer;

	(void)state;
	s.watch.ops = &save_ops;
	fixture_open(&s.f);
	add_ram(&s.f, 0, 0, SAVED_PAGES * PAGE);
	assert_int_equal(vd_mem_watch_add(s.f.mem, &s.watch), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_pairs, &s), 0);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned page = 0; page < SAVED_PAGES; page++)
			atomic_store(&s.state[page], 0);
		vd_mem_watch_set(&s.watch, (vd_gpa){0}, SAVED_PAGES * PAGE);
		vd_mem_write_protect(s.f.mem, (vd_gpa){0}, SAVED_PAGES * PAGE);
		/* Backwards: what is saved last was written first. */
		for (unsigned page = SAVED_PAGES; page-- > 0;)
			save(&s.watch, (vd_gpa){page * PAGE}, PAGE);
		/* The writer's order, at any moment: equal, then one less from some page on. */
		for (unsigned page = 1; page < SAVED_PAGES; page++)
			assert_true(s.saved[page - 1] - s.saved[page] <= 1);
		assert_true(s.saved[0] - s.saved[SAVED_PAGES - 1] <= 1);
	}
	atomic_store(&s.stop, true);
	assert_int_equal(pthread_join(writer, NULL), 0);
	vd_mem_watch_remove(&s.watch);
	fixture_close(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_before_and_after),
		cmocka_unit_test(test_who_comes_late_is_told_before),
		cmocka_unit_test(test_failed_stores_tell_nobody),
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_slots_come_move_and_go),
		cmocka_unit_test(test_write_protect),
		cmocka_unit_test(test_against_a_model),
		cmocka_unit_test(test_copy_before_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
