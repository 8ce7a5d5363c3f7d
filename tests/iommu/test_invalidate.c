/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

static struct vd_invalidation event_of(const struct vd_host_object *object, uint64_t start,
				       uint64_t length, enum vd_invalidate_reason reason)
{
	return (struct vd_invalidation){object, start, length, true, reason};
}

/* Runs start and end on the host's chain; returns what start said. */
static int run_event(struct dma_fixture *f, const struct vd_invalidation *event)
{
	int r = vd_notifier_start(vd_host_notifier(f->base.host), event);

	if (!r)
		vd_notifier_end(vd_host_notifier(f->base.host), event);
	return r;
}

/* Whoever holds a part of what changes is asked, and only he. */
static void test_only_what_changes(void **state)
{
	struct dma_fixture f;
	struct holder holder, twice;
	struct vd_invalidation event;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	/* the same memory */
	assert_int_equal(dma_map(&f, 16 * PAGE, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	assert_int_equal(holder_pin(&holder, f.space, 2 * PAGE - 1, 2, VD_READ), 0);
	assert_int_equal(holder_pin(&twice, f.space, 17 * PAGE, 1, VD_READ), 0);
	event = event_of(f.base.ram, 0, 9 * PAGE, VD_INVALIDATE_DISCARD);
	assert_int_equal(run_event(&f, &event), 0);
	event = event_of(f.base.ram, 11 * PAGE, PAGE, VD_INVALIDATE_DISCARD);
	assert_int_equal(run_event(&f, &event), 0);
	event = event_of(f.base.other, 8 * PAGE, 8 * PAGE, VD_INVALIDATE_DISCARD);
	assert_int_equal(run_event(&f, &event), 0);
	assert_int_equal(holder.asked + twice.asked, 0);
	event = event_of(f.base.ram, 9 * PAGE, PAGE, VD_INVALIDATE_DISCARD);
	assert_int_equal(run_event(&f, &event), 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(twice.asked, 1);
	assert_false(holder.holds);
	dma_close_fixture(&f);
}

/* B3: what a device holds is in use, however often it is aged. */
static void test_pinned_memory_is_young(void **state)
{
	struct dma_fixture f;
	struct holder holder;
	struct vd_invalidation range;
	struct vd_notifier *chain;

	(void)state;
	dma_open(&f);
	chain = vd_host_notifier(f.base.host);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	range = event_of(f.base.ram, 9 * PAGE, PAGE, VD_INVALIDATE_MOVE);
	assert_false(vd_notifier_test_young(chain, &range));
	assert_int_equal(holder_pin(&holder, f.space, PAGE, PAGE, VD_READ), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(vd_notifier_test_young(chain, &range));
		assert_true(vd_notifier_clear_young(chain, &range));
	}
	range.start = 10 * PAGE;
	assert_false(vd_notifier_test_young(chain, &range));
	range.start = 9 * PAGE;
	vd_dma_unpin(&holder.pin);
	assert_false(vd_notifier_clear_young(chain, &range));
	dma_close_fixture(&f);
}

/* B5: one that may not wait fails, and nothing has changed; without pins nobody has to wait. */
static void test_not_blockable(void **state)
{
	struct dma_fixture f;
	struct holder holder;

	(void)state;
	dma_open_guest(&f);
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_READ), 0);
	*object_byte(&f.base, f.base.ram, 0) = 0x42;
	assert_int_equal(vd_host_object_discard(f.base.ram, 0, PAGE, false), -EAGAIN);
	assert_int_equal(holder.asked, 0);
	assert_int_equal(*(unsigned char *)holder.segment.base, 0x42);
	assert_int_equal(vd_host_object_discard(f.base.ram, PAGE, PAGE, false), 0);
	assert_int_equal(vd_host_object_discard(f.base.ram, 0, PAGE, true), 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(*object_byte(&f.base, f.base.ram, 0), 0);
	dma_close_fixture(&f);
}

/* D2: a pinned page is never discarded, moved or unmapped under the pin. */
static void test_busy(void **state)
{
	struct dma_fixture f;
	struct holder holder;
	void *before;

	(void)state;
	fixture_open(&f.base);
	f.space = make_space(&f.base, 10);
	assert_int_equal(vd_dma_follow(f.space, f.base.mem, NULL), 0);
	add_ram(&f.base, GUEST_RAM, 0, RAM_PAGES * PAGE);
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_WRITE), 0);
	holder.lets_go = false;
	before = holder.segment.base;
	*(unsigned char *)before = 1;
	assert_int_equal(vd_host_object_discard(f.base.ram, 0, PAGE, true), -EBUSY);
	assert_int_equal(vd_host_object_move(f.base.ram, 0, PAGE, true), -EBUSY);
	assert_int_equal(vd_host_object_protect(f.base.ram, 0, PAGE, false, true), -EBUSY);
	assert_int_equal(*(unsigned char *)before, 1);
	assert_ptr_equal(object_byte(&f.base, f.base.ram, 0), before);
	holder_let_go(&holder);
	assert_int_equal(vd_host_object_move(f.base.ram, 0, PAGE, true), 0);
	assert_ptr_not_equal(object_byte(&f.base, f.base.ram, 0), before);
	assert_int_equal(*object_byte(&f.base, f.base.ram, 0), 1);
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_WRITE), 0);
	assert_ptr_equal(holder.segment.base, object_byte(&f.base, f.base.ram, 0));
	holder_let_go(&holder);
	dma_close_fixture(&f);
}

/* Losing the right to write is nothing to who reads; nor is a dirty log to anybody. */
static void test_protection(void **state)
{
	struct dma_fixture f;
	struct holder reads, writes;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	assert_int_equal(holder_pin(&reads, f.space, GUEST_RAM, PAGE, VD_READ), 0);
	assert_int_equal(holder_pin(&writes, f.space, GUEST_RAM, PAGE, VD_WRITE), 0);
	assert_int_equal(vd_mem_dirty_start(f.base.mem, id), 0);
	assert_int_equal(reads.asked + writes.asked, 0);
	assert_int_equal(vd_host_object_protect(f.base.ram, 0, PAGE, false, true), 0);
	assert_int_equal(reads.asked, 0);
	assert_int_equal(writes.asked, 1);
	holder_let_go(&reads);
	dma_close_fixture(&f);
}

/* The slot set changes under a pin: the slot goes when the pin has gone. */
static void test_slot_goes(void **state)
{
	struct dma_fixture f;
	struct holder holder, other;
	uint32_t id, kept;

	(void)state;
	id = dma_open_guest(&f);
	kept = add_ram(&f.base, 0, 0, PAGE); /* the same memory elsewhere */
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_WRITE), 0);
	assert_int_equal(holder_pin(&other, f.space, 0, PAGE, VD_WRITE), 0);
	assert_int_equal(vd_mem_remove_slot(f.base.mem, id), 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(holder.asked_start, GUEST_RAM);
	assert_int_equal(other.asked, 0);
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_READ), -EFAULT);
	assert_int_equal(vd_mem_remove_slot(f.base.mem, kept), 0);
	assert_int_equal(other.asked, 1);
	dma_close_fixture(&f);
}

/* B5: two spaces and a mirror on one chain; when the last one refuses, the first got their end. */
static void test_with_other_listeners(void **state)
{
	struct vd_dma_space *second;
	struct dma_fixture f;
	struct holder holder;
	struct ear ear;

	(void)state;
	dma_open_guest(&f);
	ear_open(&ear, &f.base);
	second = make_space(&f.base, 0);
	assert_int_equal(vd_dma_follow(second, f.base.mem, NULL), 0);
	assert_int_equal(holder_pin(&holder, second, GUEST_RAM, 1, VD_READ), 0);
	assert_int_equal(vd_host_object_discard(f.base.ram, 0, PAGE, false), -EAGAIN);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM}, "x", 1), 0);
	assert_int_equal(*(char *)holder.segment.base, 'x');
	holder_let_go(&holder);
	ear_close(&ear, &f.base);
	vd_dma_space_destroy(second);
	dma_close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_what_changes),
		cmocka_unit_test(test_pinned_memory_is_young),
		cmocka_unit_test(test_not_blockable),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_protection),
		cmocka_unit_test(test_slot_goes),
		cmocka_unit_test(test_with_other_listeners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
