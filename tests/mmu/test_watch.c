/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults on pages that somebody watches. */
#include "fixture.h"

#define RAM_BASE (2 * GIB)
#define WATCHED (RAM_BASE + 6 * MIB + 3 * PAGE)

struct watcher {
	struct vd_mem_watch watch;
	struct fixture *f;
	unsigned count;
	bool clear;
};

/* The tables give no leave to store while the watcher is called, and their lock is not held. */
static void note(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct watcher *w = (struct watcher *)watch;
	struct vd_mmu_leaf leaf;

	w->count++;
	assert_int_equal(length, 1);
	assert_int_not_equal(walk(w->f, gpa.value, VD_WRITE, &leaf), 0);
	checked_outside("a watcher called");
	if (w->clear)
		vd_mem_watch_clear(watch, gpa, length);
}

static const struct vd_mem_watch_ops note_ops = {note};

static void open_watched(struct fixture *f, struct watcher *w, bool clear)
{
	fixture_open(f, &vd_mmu_format_sv48x4);
	fixture_slot(f, RAM_BASE, RAM_BYTES, f->ram, 0, false);
	*w = (struct watcher){.watch.ops = &note_ops, .f = f, .clear = clear};
	assert_int_equal(vd_mem_watch_add(f->mem, &w->watch), 0);
}

static void close_watched(struct fixture *f, struct watcher *w)
{
	vd_mem_watch_remove(&w->watch);
	fixture_close(f);
}

static void reads_map_for_reading_only(void **state)
{
	struct vd_mmu_leaf leaf;
	struct watcher w;
	struct fixture f;

	(void)state;
	open_watched(&f, &w, true);
	assert_int_equal(touch(&f, WATCHED, VD_READ).size, GIB);
	vd_mmu_zap(f.mmu, (vd_gpa){0}, UINT64_MAX);
	vd_mem_watch_set(&w.watch, (vd_gpa){WATCHED}, 1);
	leaf = touch(&f, WATCHED, VD_READ);
	assert_int_equal(leaf.size, PAGE);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_int_equal(touch(&f, WATCHED + PAGE, VD_READ).access,
			 VD_READ | VD_WRITE | VD_EXECUTE);
	/* Blocks where all pages are alike, watched or not. */
	assert_int_equal(touch(&f, RAM_BASE, VD_WRITE).size, 2 * MIB);
	vd_mem_watch_set(&w.watch, (vd_gpa){RAM_BASE + 2 * MIB}, 2 * MIB);
	leaf = touch(&f, RAM_BASE + 3 * MIB, VD_READ);
	assert_int_equal(leaf.size, 2 * MIB);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_int_equal(w.count, 0);
	close_watched(&f, &w);
}

static void stores_tell_first(void **state)
{
	struct watcher w;
	struct fixture f;

	(void)state;
	open_watched(&f, &w, true);
	touch(&f, WATCHED, VD_WRITE);
	vd_mem_watch_set(&w.watch, (vd_gpa){RAM_BASE}, RAM_BYTES);
	vd_mem_write_protect(f.mem, (vd_gpa){RAM_BASE}, RAM_BYTES);
	assert_int_equal(touch(&f, WATCHED, VD_READ).access, VD_READ | VD_EXECUTE);
	assert_int_equal(touch(&f, WATCHED, VD_WRITE).size, PAGE);
	assert_int_equal(w.count, 1);
	assert_int_equal(touch(&f, WATCHED + PAGE, VD_READ | VD_WRITE).size, PAGE);
	assert_int_equal(w.count, 2);
	touch(&f, WATCHED, VD_WRITE);
	assert_int_equal(w.count, 2);
	close_watched(&f, &w);
}

static void a_kept_page_is_to_be_emulated(void **state)
{
	struct vd_mmu_leaf leaf;
	struct watcher w;
	struct fixture f;

	(void)state;
	open_watched(&f, &w, false);
	vd_mem_watch_set(&w.watch, (vd_gpa){WATCHED}, PAGE);
	assert_int_equal(fault(&f, WATCHED, VD_WRITE), -EUCLEAN);
	assert_int_not_equal(w.count, 0);
	assert_int_equal(walk(&f, WATCHED, VD_READ, &leaf), -ENOENT);
	assert_int_equal(touch(&f, WATCHED, VD_READ).access, VD_READ | VD_EXECUTE);
	assert_int_equal(fault(&f, WATCHED, VD_WRITE), -EUCLEAN);
	w.clear = true;
	assert_int_equal(touch(&f, WATCHED, VD_WRITE).access, VD_READ | VD_WRITE | VD_EXECUTE);
	close_watched(&f, &w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_map_for_reading_only),
		cmocka_unit_test(stores_tell_first),
		cmocka_unit_test(a_kept_page_is_to_be_emulated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
