/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

static const unsigned char pattern[16] = "0123456789abcde";

static void fill(const struct fixture *f, uint64_t offset, uint64_t length, unsigned char value)
{
	for (uint64_t i = 0; i < length; i++)
		*object_byte(f, f->ram, offset + i) = value;
}

/* ---- copies --------------------------------------------------------------------------------- */

static void test_copy_across_maps(void **state)
{
	unsigned char buffer[16];
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	/* neighbours in the device's view, in reverse order in memory */
	assert_int_equal(dma_map(&f, 0, PAGE, 9 * PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(dma_map(&f, PAGE, PAGE, 4 * PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){PAGE - 7}, pattern, 16), 0);
	assert_memory_equal(object_byte(&f.base, f.base.ram, 10 * PAGE - 7), pattern, 7);
	assert_memory_equal(object_byte(&f.base, f.base.ram, 4 * PAGE), pattern + 7, 9);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){PAGE - 7}, buffer, 16), 0);
	assert_memory_equal(buffer, pattern, 16);
	assert_int_equal(stats_of(f.space).translations, 4);
	assert_int_equal(stats_of(f.space).faults, 0);
	dma_close_fixture(&f);
}

/* A12: what is not mapped, or not for that, faults, is counted, and nothing has changed. */
static void test_copy_faults(void **state)
{
	unsigned char buffer[16] = {0};
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	fill(&f.base, 0, 4 * PAGE, 0x55);
	assert_int_equal(dma_map(&f, PAGE, PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(dma_map(&f, 2 * PAGE, PAGE, PAGE, VD_READ), 0);
	assert_int_equal(dma_map(&f, 3 * PAGE, PAGE, 2 * PAGE, VD_WRITE), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){0}, pattern, 1), -EFAULT);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){PAGE - 1}, pattern, 2), -EFAULT);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){2 * PAGE - 8}, pattern, 16), -EFAULT);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){3 * PAGE - 8}, buffer, 16), -EFAULT);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){4 * PAGE - 8}, pattern, 16), -EFAULT);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){PAGE}, pattern, SIZE_MAX), -EFAULT);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){UINT64_MAX}, buffer, 2), -EFAULT);
	assert_int_equal(stats_of(f.space).faults, 7);
	assert_int_equal(stats_of(f.space).translations, 0);
	for (uint64_t i = 0; i < 4 * PAGE; i++)
		assert_int_equal(*object_byte(&f.base, f.base.ram, i), 0x55);
	/* nothing is always there */
	assert_int_equal(vd_dma_write(f.space, (vd_iova){0}, pattern, 0), 0);
	dma_close_fixture(&f);
}

static int refuse(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)offset;
	(void)length;
	(void)value;
	++*(unsigned *)context;
	return 0;
}

static int refuse_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)offset;
	(void)length;
	(void)value;
	++*(unsigned *)context;
	return 0;
}

/*
 * A12: a device cannot raise another's interrupt, or write registers, by DMA: the operations are
 * never called.
 */
static void test_traps_are_no_memory(void **state)
{
	static const struct vd_trap_ops ops = {refuse, refuse_write};
	struct vd_slot_config trap;
	unsigned calls = 0;
	struct holder holder;
	struct dma_fixture f;
	uint32_t data = 5;

	(void)state;
	dma_open_guest(&f);
	trap = trap_slot(0x28000000, PAGE, &ops, &calls);
	add_slot(&f.base, &trap);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){0x28000000}, &data, 4), -EFAULT);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){0x28000000}, &data, 4), -EFAULT);
	assert_int_equal(holder_pin(&holder, f.space, 0x28000000, 4, VD_WRITE), -EFAULT);
	assert_int_equal(calls, 0);
	assert_int_equal(stats_of(f.space).faults, 3);
	dma_close_fixture(&f);
}

static void test_read_only_guest_memory(void **state)
{
	struct vd_slot_config rom;
	struct dma_fixture f;
	unsigned char byte;

	(void)state;
	dma_open_guest(&f);
	rom = ram_slot(&f.base, 0, 0, PAGE);
	rom.read_only = true;
	add_slot(&f.base, &rom);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){0}, &byte, 1), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){0}, &byte, 1), -EFAULT);
	/* the same memory, protected by the host */
	assert_int_equal(vd_host_object_protect(f.base.ram, PAGE, PAGE, false, true), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM + PAGE}, &byte, 1), -EFAULT);
	assert_int_equal(vd_host_object_protect(f.base.ram, PAGE, PAGE, true, true), 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM + PAGE}, &byte, 1), 0);
	dma_close_fixture(&f);
}

/* ---- device memory -------------------------------------------------------------------------- */

static void test_peer_to_peer(void **state)
{
	struct vd_host_object *bar;
	struct vd_slot_config slot;
	unsigned char buffer[16];
	struct dma_fixture f;

	(void)state;
	dma_open_guest(&f);
	bar = make_device_memory(&f.base);
	slot = ram_slot(&f.base, 0x40000000, 0, 4 * PAGE);
	slot.kind = VD_SLOT_DEVICE;
	slot.object = bar;
	add_slot(&f.base, &slot);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){0x40000008}, pattern, 16), 0);
	assert_memory_equal(object_byte(&f.base, bar, 8), pattern, 16);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){0x40000008}, buffer, 16), 0);
	assert_memory_equal(buffer, pattern, 16);
	vd_host_object_put(bar);
	dma_close_fixture(&f);
}

/* While a device is reset its memory does not answer; RAM would be waited for. */
static void test_device_memory_in_reset(void **state)
{
	struct vd_invalidation reset = {.length = 4 * PAGE, .blockable = true,
					.reason = VD_INVALIDATE_RESET};
	struct vd_host_object *bar;
	struct dma_fixture f;
	struct holder holder;
	unsigned char byte;

	(void)state;
	dma_open(&f);
	bar = make_device_memory(&f.base);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, 4 * PAGE, bar, 0, VD_READ), 0);
	reset.object = bar;
	assert_int_equal(vd_notifier_start(vd_host_notifier(f.base.host), &reset), 0);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){0}, &byte, 1), -EFAULT);
	assert_int_equal(holder_pin(&holder, f.space, 0, 1, VD_READ), -EFAULT);
	vd_notifier_end(vd_host_notifier(f.base.host), &reset);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){0}, &byte, 1), 0);
	vd_host_object_put(bar);
	dma_close_fixture(&f);
}

/* ---- the guard ------------------------------------------------------------------------------ */

static void test_translate(void **state)
{
	struct dma_fixture f;
	void *pointer;
	uint64_t run;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0x10000, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){0x11004}, VD_READ, &pointer, &run), 0);
	assert_ptr_equal(pointer, object_byte(&f.base, f.base.ram, 9 * PAGE + 4));
	/* the object goes on, the map does not; a leaf ends before */
	assert_int_equal(run, dma_mode() == VD_DMA_ASSIGNED ? PAGE - 4 : 3 * PAGE - 4);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){0x11004}, VD_WRITE, &pointer, &run),
			 -EFAULT);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){0x14000}, VD_READ, &pointer, &run),
			 -EFAULT);
	vd_dma_guard_leave(f.space);
	assert_int_equal(stats_of(f.space).translations, 1);
	assert_int_equal(stats_of(f.space).faults, 2);
	dma_close_fixture(&f);
}

/* Between start and end of a change there is no answer, for what changes; the rest is as always. */
static void expect_again(struct dma_fixture *f, uint64_t changing, uint64_t other)
{
	void *pointer;
	uint64_t run;

	vd_dma_guard_enter(f->space);
	assert_int_equal(vd_dma_translate(f->space, (vd_iova){changing}, VD_READ, &pointer, &run),
			 -EAGAIN);
	assert_int_equal(vd_dma_translate(f->space, (vd_iova){other}, VD_READ, &pointer, &run), 0);
	vd_dma_guard_leave(f->space);
	vd_dma_wait(f->space, (vd_iova){other}, PAGE); /* returns at once */
}

static void test_translate_during_change(void **state)
{
	struct vd_invalidation event = {.start = 2 * PAGE, .length = PAGE, .blockable = true,
					.reason = VD_INVALIDATE_MOVE};
	struct dma_fixture f, guest;
	void *pointer;
	uint64_t run;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, PAGE, PAGE, 2 * PAGE, VD_READ), 0);
	event.object = f.base.ram;
	assert_int_equal(vd_notifier_start(vd_host_notifier(f.base.host), &event), 0);
	expect_again(&f, PAGE, 0);
	vd_notifier_end(vd_host_notifier(f.base.host), &event);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){PAGE}, VD_READ, &pointer, &run), 0);
	vd_dma_guard_leave(f.space);
	dma_close_fixture(&f);

	dma_open_guest(&guest);
	event.object = guest.base.ram;
	assert_int_equal(vd_notifier_start(vd_host_notifier(guest.base.host), &event), 0);
	expect_again(&guest, GUEST_RAM + 2 * PAGE, GUEST_RAM);
	vd_notifier_end(vd_host_notifier(guest.base.host), &event);
	dma_close_fixture(&guest);
}

/* ---- dirty logs ----------------------------------------------------------------------------- */

static void test_writes_are_marked(void **state)
{
	uint8_t bitmap[RAM_PAGES / 8];
	struct dma_fixture f;
	struct holder holder;
	void *pointer;
	uint64_t run;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	/* pinned before the log is there, unpinned while it is */
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM + 30 * PAGE, 2 * PAGE, VD_WRITE),
			 0);
	assert_int_equal(vd_mem_dirty_start(f.base.mem, id), 0);
	assert_int_equal(holder.asked, 0);
	assert_int_equal(vd_dma_write(f.space, (vd_iova){GUEST_RAM + 2 * PAGE - 1}, pattern, 2), 0);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){GUEST_RAM + 8 * PAGE}, bitmap, 16), 0);
	vd_dma_guard_enter(f.space);
	assert_int_equal(vd_dma_translate(f.space, (vd_iova){GUEST_RAM + 16 * PAGE}, VD_WRITE,
					  &pointer, &run), 0);
	assert_int_equal(run, PAGE);
	vd_dma_mark_dirty(f.space, (vd_iova){GUEST_RAM + 16 * PAGE}, 4);
	vd_dma_guard_leave(f.space);
	holder_let_go(&holder);
	assert_int_equal(vd_mem_dirty_fetch(f.base.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[0], 0x06);
	assert_int_equal(bitmap[1], 0);
	assert_int_equal(bitmap[2], 0x01);
	assert_int_equal(bitmap[3], 0xc0);
	for (size_t i = 4; i < sizeof(bitmap); i++)
		assert_int_equal(bitmap[i], 0);
	/* who only reads marks nothing */
	assert_int_equal(holder_pin(&holder, f.space, GUEST_RAM, PAGE, VD_READ), 0);
	holder_let_go(&holder);
	assert_int_equal(vd_mem_dirty_fetch(f.base.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_int_equal(bitmap[0], 0);
	dma_close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_across_maps),
		cmocka_unit_test(test_copy_faults),
		cmocka_unit_test(test_traps_are_no_memory),
		cmocka_unit_test(test_read_only_guest_memory),
		cmocka_unit_test(test_peer_to_peer),
		cmocka_unit_test(test_device_memory_in_reset),
		cmocka_unit_test(test_translate),
		cmocka_unit_test(test_translate_during_change),
		cmocka_unit_test(test_writes_are_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
