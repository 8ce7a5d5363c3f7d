/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "fixture.h"

static const unsigned all_access = VD_READ | VD_WRITE;

/* ---- segments ------------------------------------------------------------------------------- */

static void test_segments(void **state)
{
	struct vd_dma_range ranges[] = {{{PAGE - 4}, 8}, {{2 * PAGE}, PAGE}, {{3 * PAGE}, 4}};
	struct vd_dma_segment segments[3];
	struct vd_dma_pin pin;
	struct dma_fixture f;
	unsigned count = 3;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, PAGE, 8 * PAGE, VD_READ), 0);
	assert_int_equal(dma_map(&f, PAGE, PAGE, 9 * PAGE, VD_READ), 0); /* goes on in memory */
	assert_int_equal(dma_map(&f, 2 * PAGE, PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, 3 * PAGE, PAGE, PAGE, VD_READ), 0);
	assert_int_equal(vd_dma_pin(f.space, ranges, 3, VD_READ, NULL, &pin, segments, &count), 0);
	assert_int_equal(count, 2);
	assert_ptr_equal(segments[0].base, object_byte(&f.base, f.base.ram, 9 * PAGE - 4));
	assert_int_equal(segments[0].length, 8);
	assert_ptr_equal(segments[1].base, object_byte(&f.base, f.base.ram, 0));
	assert_int_equal(segments[1].length, PAGE + 4);
	assert_int_equal(stats_of(f.space).pins, 1);
	assert_int_equal(stats_of(f.space).pinned_bytes, PAGE + 12);
	assert_int_equal(stats_of(f.space).translations, 4);
	vd_dma_unpin(&pin);
	assert_int_equal(stats_of(f.space).pins, 1);
	assert_int_equal(stats_of(f.space).pinned_bytes, 0);
	dma_close_fixture(&f);
}

static void test_refusals(void **state)
{
	const struct vd_dma_range bad[] = {
		{{0}, 0},			   /* empty */
		{{4 * PAGE}, 1},		   /* not mapped */
		{{4 * PAGE - 1}, 2},		   /* ends outside */
		{{UINT64_MAX}, 2},		   /* wraps */
		{{PAGE}, UINT64_MAX},		   /* wraps */
		{{0}, UINT64_MAX},		   /* all there is */
		{{UINT64_MAX - PAGE + 1}, PAGE},   /* the end of the address space */
	};
	struct vd_dma_range ranges[2] = {{{0}, 8}};
	struct vd_dma_segment segments[2];
	struct vd_dma_pin pin;
	struct dma_fixture f;
	unsigned count = 2;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 0, VD_READ), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ranges[1] = bad[i];
		assert_int_equal(vd_dma_pin(f.space, ranges, 2, VD_READ, NULL, &pin, segments,
					    &count), -EFAULT);
		assert_int_equal(stats_of(f.space).faults, i + 1);
		assert_int_equal(count, 2);
	}
	assert_int_equal(vd_dma_pin(f.space, ranges, 0, VD_READ, NULL, &pin, segments, &count),
			 -EFAULT);
	assert_int_equal(vd_dma_pin(f.space, ranges, 1, VD_WRITE, NULL, &pin, segments, &count),
			 -EFAULT);
	ranges[1] = (struct vd_dma_range){{2 * PAGE}, 8};
	count = 1;
	assert_int_equal(vd_dma_pin(f.space, ranges, 2, VD_READ, NULL, &pin, segments, &count),
			 -ENOSPC);
	assert_int_equal(count, 1);
	assert_int_equal(stats_of(f.space).pins, 0);
	assert_int_equal(stats_of(f.space).pinned_bytes, 0);
	/* nothing is held */
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 4 * PAGE, NULL), 0);
	dma_close_fixture(&f);
}

/* ---- asking --------------------------------------------------------------------------------- */

/*
 * Many pins of two owners: each owner is asked once, for all of his that are concerned and no more.
 */
static void test_owners_are_asked_once(void **state)
{
	enum { PINS = 20 };
	struct holder owners[2] = {0};
	struct vd_dma_range ranges[PINS];
	struct vd_dma_segment segment;
	struct vd_dma_pin pins[PINS];
	struct dma_fixture f;

	(void)state;
	fixture_open(&f.base);
	f.space = make_space(&f.base, 1);
	assert_int_equal(dma_map(&f, 0, 32 * PAGE, 0, all_access), 0);
	for (unsigned i = 0; i < PINS; i++) {
		unsigned one = 1;

		owners[i % 2].owner.unpin_request = holder_request;
		ranges[i] = (struct vd_dma_range){{i * PAGE}, 2 * PAGE};
		assert_int_equal(vd_dma_pin(f.space, &ranges[i], 1, VD_READ, &owners[i % 2].owner,
					    &pins[i], &segment, &one), 0);
	}
	assert_int_equal(vd_host_object_move(f.base.ram, 10 * PAGE, PAGE, true), -EBUSY);
	/* pins 9 and 10 hold that page */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(owners[i].asked, 1);
		assert_int_equal(owners[i].asked_start, i ? 9 * PAGE : 10 * PAGE);
		assert_int_equal(owners[i].asked_length, 2 * PAGE);
	}
	/* a later event asks again */
	assert_int_equal(vd_host_object_move(f.base.ram, 10 * PAGE, PAGE, true), -EBUSY);
	assert_int_equal(owners[0].asked, 2);
	vd_dma_unpin(&pins[9]);
	vd_dma_unpin(&pins[10]);
	assert_int_equal(vd_host_object_move(f.base.ram, 10 * PAGE, PAGE, true), 0);
	assert_int_equal(owners[0].asked, 2);
	for (unsigned i = 0; i < PINS; i++)
		if (i != 9 && i != 10)
			vd_dma_unpin(&pins[i]);
	dma_close_fixture(&f);
}

/* ---- threads -------------------------------------------------------------------------------- */

struct worker {
	struct dma_fixture f;
	struct holder holder;
	_Atomic int step;
	int result;
	uint64_t unmapped;
};

static void wait_for_step(struct worker *w, int step)
{
	while (atomic_load(&w->step) < step)
		sched_yield();
}

static void note_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct worker *w = (struct worker *)((char *)owner - offsetof(struct worker, holder.owner));

	holder_request(owner, start, length);
	atomic_store(&w->step, 1);
}

static void *run_unmap(void *context)
{
	struct worker *w = context;

	w->result = vd_dma_unmap(w->f.space, (vd_iova){0}, 2 * PAGE, &w->unmapped);
	atomic_store(&w->step, 2);
	return NULL;
}

/* Who is asked lets go later, on another thread: unmap waits for exactly that. */
static void test_unmap_waits(void **state)
{
	struct worker *w = calloc(1, sizeof(*w));
	pthread_t thread;

	(void)state;
	dma_open(&w->f);
	assert_int_equal(dma_map(&w->f, 0, 2 * PAGE, 0, all_access), 0);
	assert_int_equal(holder_pin(&w->holder, w->f.space, PAGE, 8, VD_WRITE), 0);
	w->holder.lets_go = false;
	w->holder.owner.unpin_request = note_request;
	assert_int_equal(pthread_create(&thread, NULL, run_unmap, w), 0);
	wait_for_step(w, 1);
	/* the memory is still ours, though nobody new gets it */
	memset(w->holder.segment.base, 0x77, 8);
	assert_int_equal(vd_dma_write(w->f.space, (vd_iova){0}, "x", 1), -EFAULT);
	assert_int_equal(stats_of(w->f.space).maps, 1);
	assert_int_equal(atomic_load(&w->step), 1);
	holder_let_go(&w->holder);
	pthread_join(thread, NULL);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->unmapped, 2 * PAGE);
	assert_int_equal(*object_byte(&w->f.base, w->f.base.ram, PAGE), 0x77);
	dma_close_fixture(&w->f);
	free(w);
}

static void *run_pin(void *context)
{
	struct worker *w = context;

	atomic_store(&w->step, 1);
	w->result = holder_pin(&w->holder, w->f.space, GUEST_RAM, 8, VD_READ);
	atomic_store(&w->step, 2);
	return NULL;
}

/* A range that is being changed takes no pins: they come after it, and see the new page. */
static void test_pin_waits(void **state)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct vd_invalidation event = {.length = PAGE, .blockable = true,
					.reason = VD_INVALIDATE_MOVE};
	struct holder elsewhere;
	pthread_t thread;

	(void)state;
	dma_open_guest(&w->f);
	event.object = w->f.base.ram;
	assert_int_equal(vd_notifier_start(vd_host_notifier(w->f.base.host), &event), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_pin, w), 0);
	wait_for_step(w, 1);
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(atomic_load(&w->step), 1);
	/* other ranges are open */
	assert_int_equal(holder_pin(&elsewhere, w->f.space, GUEST_RAM + PAGE, 8, VD_READ), 0);
	holder_let_go(&elsewhere);
	vd_notifier_end(vd_host_notifier(w->f.base.host), &event);
	pthread_join(thread, NULL);
	assert_int_equal(w->result, 0);
	holder_let_go(&w->holder);
	dma_close_fixture(&w->f);
	free(w);
}

/* ---- an owner that goes --------------------------------------------------------------------- */

struct slow_owner {
	struct vd_dma_owner owner;
	struct vd_dma_space *space;
	struct vd_dma_pin pin;
	_Atomic int step; /* 1: being asked, has let go; 2: may return; 3: drained */
	bool early;
};

static void slow_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct slow_owner *slow = (struct slow_owner *)owner;

	(void)start;
	(void)length;
	vd_dma_unpin(&slow->pin);
	atomic_store(&slow->step, 1);
	while (atomic_load(&slow->step) < 2)
		sched_yield();
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	slow->early = atomic_load(&slow->step) == 3;
}

static void *run_drain(void *context)
{
	struct slow_owner *slow = context;

	while (atomic_load(&slow->step) < 1)
		sched_yield();
	atomic_store(&slow->step, 2);
	vd_dma_owner_drain(slow->space, &slow->owner);
	atomic_store(&slow->step, 3);
	return NULL;
}

static void test_owner_drain(void **state)
{
	struct vd_dma_range range = {{0}, 8};
	struct slow_owner slow = {.owner.unpin_request = slow_request};
	struct vd_dma_segment segment;
	struct dma_fixture f;
	unsigned one = 1;
	pthread_t thread;

	(void)state;
	dma_open(&f);
	slow.space = f.space;
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_int_equal(vd_dma_pin(f.space, &range, 1, VD_READ, &slow.owner, &slow.pin, &segment,
				    &one), 0);
	vd_dma_owner_drain(f.space, &slow.owner); /* not being asked: returns at once */
	assert_int_equal(pthread_create(&thread, NULL, run_drain, &slow), 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&slow.step), 3);
	assert_false(slow.early);
	vd_dma_owner_drain(f.space, NULL);
	dma_close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_owners_are_asked_once),
		cmocka_unit_test(test_unmap_waits),
		cmocka_unit_test(test_pin_waits),
		cmocka_unit_test(test_owner_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
