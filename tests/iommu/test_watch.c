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

struct chain_watcher {
	struct vd_mem_watch watch;
	struct watcher *other;
	unsigned count;
};

/* Watchers are told in turn: the other has been passed over. */
static void arm_other(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	struct chain_watcher *c = (struct chain_watcher *)watch;

	if (!c->count++)
		vd_mem_watch_set(&c->other->watch, gpa, length);
}

static void test_who_comes_late_is_told_before(void **state)
{
	static const struct vd_mem_watch_ops arm_ops = {arm_other};
	struct vd_dma_range range = {{WATCHED}, PAGE};
	struct vd_dma_segment segment;
	struct vd_dma_pin pin;
	struct dma_fixture f;
	struct watcher w;
	char byte = 'x';

	(void)state;
	for (int pinned = 0; pinned < 2; pinned++) {
		struct chain_watcher cause = {.watch.ops = &arm_ops, .other = &w};
		unsigned count = 1;

		open_watched(&f, &w, true);
		assert_int_equal(vd_mem_watch_add(f.base.mem, &cause.watch), 0);
		vd_mem_watch_clear(&w.watch, (vd_gpa){WATCHED}, 2 * PAGE);
		vd_mem_watch_set(&cause.watch, (vd_gpa){WATCHED}, PAGE);
		if (!pinned) {
			assert_int_equal(vd_dma_write(f.space, (vd_iova){WATCHED}, &byte, 1), 0);
		} else {
			assert_int_equal(vd_dma_pin(f.space, &range, 1, VD_WRITE, NULL, &pin,
						    &segment, &count), 0);
			assert_int_equal(w.count, 1);
			vd_dma_unpin(&pin);
		}
		assert_int_equal(w.count, 1);
		assert_int_equal(w.seen, 0);
		vd_mem_watch_remove(&cause.watch);
		close_watched(&f, &w);
	}
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
		cmocka_unit_test(test_who_comes_late_is_told_before),
		cmocka_unit_test(test_guards_wait),
		cmocka_unit_test(test_pins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
