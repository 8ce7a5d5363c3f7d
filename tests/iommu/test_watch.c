/* SPDX-License-Identifier: BSD-2-Clause */
/* Stores by devices to pages that somebody watches. */
#include "fixture.h"

#define WATCHED (GUEST_RAM + 4 * PAGE)

struct watcher {
	struct vd_mem_watch watch;
	struct fixture *f;
	unsigned count;
	bool clear;
	unsigned char seen; /* what was there when it was told last */
};

static void note(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct watcher *w = (struct watcher *)watch;

	w->count++;
	assert_in_range(gpa.value, WATCHED, WATCHED + 2 * PAGE - 1);
	assert_int_equal(vd_mem_read(w->f->mem, gpa, &w->seen, 1), 0);
	if (w->clear)
		vd_mem_watch_clear(watch, gpa, length);
}

static const struct vd_mem_watch_ops note_ops = {note};

static void open_watched(struct dma_fixture *f, struct watcher *w, bool clear)
{
	dma_open_guest(f);
	*w = (struct watcher){.watch.ops = &note_ops, .f = &f->base, .clear = clear};
	assert_int_equal(vd_mem_watch_add(f->base.mem, &w->watch), 0);
	vd_mem_watch_set(&w->watch, (vd_gpa){WATCHED}, 2 * PAGE);
}

static void close_watched(struct dma_fixture *f, struct watcher *w)
{
	vd_mem_watch_remove(&w->watch);
	dma_close_fixture(f);
}

static void test_copies(void **state)
{
	struct dma_fixture f;
	struct watcher w;
	char data[4 * PAGE];

	(void)state;
	memset(data, 'x', sizeof(data));
	open_watched(&f, &w, false);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){WATCHED}, data, PAGE), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){WATCHED - PAGE}, data + PAGE, PAGE), 0);
	assert_int_equal(w.count, 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){WATCHED + PAGE}, data + PAGE, 1), 0);
	assert_int_equal(w.count, 2);
	assert_int_equal(w.seen, 'x');
	w.clear = true;
	assert_int_equal(vd_dma_write(f.space, (vd_iova){WATCHED - PAGE}, data + PAGE, 2 * PAGE),
			 0);
	assert_int_equal(w.count, 3);
	assert_int_equal(w.seen, 0);
	assert_int_equal(*object_byte(&f.base, f.base.ram, 4 * PAGE), 'x');
	assert_int_equal(vd_dma_write(f.space, (vd_iova){WATCHED}, data, PAGE), 0);
	assert_int_equal(w.count, 3);
	close_watched(&f, &w);
}

static void test_guards_wait(void **state)
{
	struct dma_fixture f;
	struct watcher w;
	void *pointer;
	uint64_t run;

	(void)state;
	open_watched(&f, &w, false);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){WATCHED}, VD_READ, &pointer, &run), 0);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){WATCHED}, VD_WRITE, &pointer, &run),
			 -EAGAIN);
	vd_dma_guard_leave(f.space);
	vd_dma_wait(f.space, (vd_iova){WATCHED}, 4);
	assert_int_equal(w.count, 1);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){WATCHED}, VD_WRITE, &pointer, &run),
			 -EAGAIN);
	vd_dma_guard_leave(f.space);
	w.clear = true;
	vd_dma_wait(f.space, (vd_iova){WATCHED}, 4);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){WATCHED}, VD_WRITE, &pointer, &run),
			 0);
	assert_int_equal(run, PAGE);
	vd_dma_guard_leave(f.space);
	close_watched(&f, &w);
}

/* Told before; told again at the end, when the store is over, if it is watched then. */
static void test_pins(void **state)
{
	struct holder holder;
	struct dma_fixture f;
	struct watcher w;

	(void)state;
	open_watched(&f, &w, false);
	assert_int_equal(holder_pin(&holder, f.space, WATCHED, PAGE, VD_READ), 0);
	holder_let_go(&holder);
	assert_int_equal(w.count, 0);
	assert_int_equal(holder_pin(&holder, f.space, WATCHED - PAGE, 2 * PAGE, VD_WRITE), 0);
	assert_int_equal(w.count, 1);
	assert_int_equal(w.seen, 0);
	memset(holder.segment.base, 'y', holder.segment.length);
	holder_let_go(&holder);
	assert_int_equal(w.count, 2);
	assert_int_equal(w.seen, 'y');
	w.clear = true;
	assert_int_equal(holder_pin(&holder, f.space, WATCHED, PAGE, VD_WRITE), 0);
	assert_int_equal(w.count, 3);
	holder_let_go(&holder);
	assert_int_equal(w.count, 3);
	/* Let through before anybody watched. */
	w.clear = false;
	assert_int_equal(holder_pin(&holder, f.space, WATCHED, PAGE, VD_WRITE), 0);
	vd_mem_watch_set(&w.watch, (vd_gpa){WATCHED}, PAGE);
	holder_let_go(&holder);
	assert_int_equal(w.count, 4);
	close_watched(&f, &w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_guards_wait),
		cmocka_unit_test(test_pins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
