/* SPDX-License-Identifier: BSD-2-Clause */
/* What only a space with I/O page tables has: entries, an IOTLB, accessed and dirty bits. */
#include "fixture.h"

#define MIB (UINT64_C(1) << 20)

static struct vd_dma_stats look(struct dma_fixture *f)
{
	return stats_of(f->space);
}

static int get(struct dma_fixture *f, uint64_t iova, uint64_t length)
{
	unsigned char buffer[4 * PAGE];

	return vd_dma_read(f->space, (vd_iova){iova}, buffer, length);
}

static int put(struct dma_fixture *f, uint64_t iova, unsigned char value)
{
	return vd_dma_write(f->space, (vd_iova){iova}, &value, 1);
}

static unsigned char *ram_byte(struct dma_fixture *f, uint64_t offset)
{
	return object_byte(&f->base, f->base.ram, offset);
}

/* ---- faults, walks and the IOTLB ------------------------------------------------------------ */

static void test_first_access_faults(void **state)
{
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0x10000, 4 * PAGE, 8 * PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 0);
	assert_int_equal(get(&f, 0x11000, 1), 0);
	assert_int_equal(look(&f).io_faults, 1);
	assert_int_equal(look(&f).io_mapped_bytes, PAGE);
	/* The first time there was no place in the IOTLB, the second it walked, the third is a hit. */
	assert_int_equal(get(&f, 0x11000, 1), 0);
	assert_int_equal(look(&f).iotlb_hits, 0);
	assert_int_equal(get(&f, 0x11004, 1), 0);
	assert_int_equal(look(&f).iotlb_hits, 1);
	assert_int_equal(look(&f).iotlb_misses, 2);
	/* a store: the leaf is not dirty yet, so the IOTLB lets none through */
	assert_int_equal(put(&f, 0x11000, 1), 0);
	assert_int_equal(look(&f).iotlb_misses, 3);
	assert_int_equal(put(&f, 0x11000, 2), 0);
	assert_int_equal(look(&f).iotlb_misses, 3);
	assert_int_equal(look(&f).io_faults, 1);
	assert_int_equal(*ram_byte(&f, 9 * PAGE), 2);
	/* what is not there is no more there than in the other mode */
	assert_int_equal(get(&f, 0x14000, 1), -EFAULT);
	assert_int_equal(look(&f).io_faults, 1);
	assert_int_equal(look(&f).faults, 1);
	dma_close_fixture(&f);
}

/* An object of whole blocks, at an address that agrees with its own modulo their size. */
static void test_blocks(void **state)
{
	struct vd_host_object *large;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(vd_host_ram_create(f.base.host, "large", 8 * MIB, 0, &large, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){6 * MIB}, 6 * MIB, large, 2 * MIB, VD_READ),
			 0);
	assert_int_equal(get(&f, 9 * MIB, 8), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 2 * MIB);
	assert_int_equal(get(&f, 8 * MIB, 8), 0);
	assert_int_equal(look(&f).io_faults, 1);
	assert_int_equal(get(&f, 6 * MIB, 8), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 4 * MIB);
	/* a page of a block goes: the block does, and nothing else */
	assert_int_equal(vd_host_object_discard(large, 4 * MIB, PAGE, true), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 2 * MIB);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){6 * MIB}, 6 * MIB, NULL), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 0);
	vd_host_object_put(large);
	dma_close_fixture(&f);
}

/* Not aligned alike, or with an end of a map in between. */
static void test_no_blocks(void **state)
{
	struct vd_host_object *large;
	struct dma_fixture f;
	unsigned char byte;

	(void)state;
	dma_open(&f);
	assert_int_equal(vd_host_ram_create(f.base.host, "large", 8 * MIB, 0, &large, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){6 * MIB + PAGE}, 6 * MIB, large, 2 * MIB,
				    VD_READ), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){20 * MIB}, 2 * MIB - PAGE, large, 2 * MIB,
				    VD_READ), 0);
	*ram_byte(&f, 0) = 3;
	assert_int_equal(dma_map(&f, 24 * MIB, PAGE, 0, VD_READ), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){24 * MIB + PAGE}, 2 * MIB, large, PAGE,
				    VD_READ), 0);
	assert_int_equal(get(&f, 9 * MIB, 8), 0);
	assert_int_equal(get(&f, 20 * MIB, 8), 0);
	assert_int_equal(get(&f, 25 * MIB, 8), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 3 * PAGE);
	assert_int_equal(vd_dma_read(f.space, (vd_iova){24 * MIB}, &byte, 1), 0);
	assert_int_equal(byte, 3);
	vd_host_object_put(large);
	dma_close_fixture(&f);
}

struct looker {
	struct holder holder;
	struct vd_dma_space *space;
	int found;
};

static void look_and_let_go(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct looker *looker = (struct looker *)owner;
	void *pointer;
	uint64_t run;

	(void)length;
	vd_dma_guard_enter(looker->space);
	looker->found = vd_dma_translate(looker->space, start, VD_READ, &pointer, &run);
	vd_dma_guard_leave(looker->space);
	holder_let_go(&looker->holder);
}

/* From the moment on that owners are asked, nobody else finds the page: they might pin it. */
static void test_nothing_new_while_owners_are_asked(void **state)
{
	struct looker looker;
	struct dma_fixture f;

	(void)state;
	dma_open_guest(&f);
	assert_int_equal(get(&f, GUEST_RAM, 1), 0);
	assert_int_equal(holder_pin(&looker.holder, f.space, GUEST_RAM, PAGE, VD_READ), 0);
	looker.holder.owner.unpin_request = look_and_let_go;
	looker.space = f.space;
	looker.found = 0;
	assert_int_equal(vd_host_object_move(f.base.ram, 0, PAGE, true), 0);
	assert_int_equal(looker.found, -EAGAIN);
	dma_close_fixture(&f);
}

/* The tables hold what changes no longer when it changes, and all else still. */
static void test_invalidation_is_precise(void **state)
{
	struct dma_fixture f;
	uint64_t flushes;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	assert_int_equal(dma_map(&f, 16 * PAGE, 4 * PAGE, 10 * PAGE, VD_READ), 0);
	assert_int_equal(get(&f, 0, 4 * PAGE), 0);
	assert_int_equal(get(&f, 16 * PAGE, 4 * PAGE), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 8 * PAGE);
	flushes = look(&f).iotlb_invalidations;
	/* page 10 is in both maps */
	*ram_byte(&f, 10 * PAGE) = 7;
	assert_int_equal(vd_host_object_move(f.base.ram, 10 * PAGE, PAGE, true), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 6 * PAGE);
	assert_int_equal(look(&f).iotlb_invalidations, flushes + 2);
	assert_int_equal(vd_host_object_move(f.base.other, 10 * PAGE, PAGE, true), 0);
	assert_int_equal(vd_host_object_move(f.base.ram, 14 * PAGE, PAGE, true), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 6 * PAGE);
	for (unsigned i = 0; i < 2; i++) {
		unsigned char byte = 0;

		assert_int_equal(vd_dma_read(f.space, (vd_iova){i ? 16 * PAGE : 2 * PAGE}, &byte,
					     1), 0);
		assert_int_equal(byte, 7);
	}
	dma_close_fixture(&f);
}

/* A guest's slots come, move and go, and I/O page tables with them. */
static void test_follows_slots(void **state)
{
	struct dma_fixture f;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	*ram_byte(&f, 0) = 5;
	assert_int_equal(get(&f, GUEST_RAM, 3 * PAGE), 0);
	assert_int_equal(get(&f, GUEST_RAM, 3 * PAGE), 0);
	assert_int_equal(look(&f).io_faults, 3);
	assert_int_equal(look(&f).io_mapped_bytes, 3 * PAGE);
	assert_int_equal(vd_mem_remove_slot(f.base.mem, id), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 0);
	assert_int_equal(get(&f, GUEST_RAM, 1), -EFAULT);
	add_ram(&f.base, GUEST_RAM, PAGE, PAGE);
	*ram_byte(&f, PAGE) = 6;
	for (unsigned i = 0; i < 3; i++) {
		unsigned char byte = 0;

		assert_int_equal(vd_dma_read(f.space, (vd_iova){GUEST_RAM}, &byte, 1), 0);
		assert_int_equal(byte, 6);
	}
	dma_close_fixture(&f);
}

/* What a format cannot say is looked up each time, with the same answer. */
static void test_without_entries(void **state)
{
	static const uint64_t high = UINT64_C(1) << 50, top = -(UINT64_C(8) * PAGE);
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_WRITE), 0);
	assert_int_equal(dma_map(&f, high - PAGE, 2 * PAGE, PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(dma_map(&f, top, 8 * PAGE, 3 * PAGE, VD_READ | VD_WRITE), 0);
	for (unsigned char i = 1; i < 4; i++) {
		assert_int_equal(put(&f, 0, i), 0);
		assert_int_equal(*ram_byte(&f, 0), i);
		assert_int_equal(put(&f, high, i), 0);
		assert_int_equal(*ram_byte(&f, 2 * PAGE), i);
		assert_int_equal(put(&f, top + 7 * PAGE, i), 0);
		assert_int_equal(*ram_byte(&f, 10 * PAGE), i);
	}
	assert_int_equal(get(&f, 0, 1), -EFAULT);
	assert_int_equal(look(&f).io_mapped_bytes, 0);
	assert_int_equal(look(&f).io_faults, 9);
	assert_int_equal(get(&f, high - PAGE, 2 * PAGE), 0);
	assert_int_equal(look(&f).io_mapped_bytes, PAGE);
	assert_int_equal(vd_dma_unmap_all(f.space, NULL), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 0);
	assert_int_equal(put(&f, top, 1), -EFAULT);
	dma_close_fixture(&f);
}

/* Whatever allocation fails, the access is answered; once memory is back, the tables fill. */
static void test_no_memory(void **state)
{
	struct dma_fixture f;

	(void)state;
	for (long step = 1;; step++) {
		bool failed;

		dma_open(&f);
		assert_int_equal(dma_map(&f, 0, 2 * PAGE, 0, VD_READ | VD_WRITE), 0);
		assert_int_equal(vd_dma_dirty_start(f.space, NULL, 0, PAGE), 0);
		test_env_fail(&f.base.test, step, -ENOMEM);
		for (unsigned char i = 1; i < 4; i++) {
			assert_int_equal(put(&f, PAGE, i), 0);
			assert_int_equal(*ram_byte(&f, PAGE), i);
		}
		failed = test_env_failed(&f.base.test);
		test_env_fail(&f.base.test, 0, 0);
		assert_int_equal(get(&f, PAGE, 1), 0);
		assert_int_equal(look(&f).io_mapped_bytes, PAGE);
		for (unsigned take = 0; take < 2; take++) {
			uint32_t bits = 0;

			assert_int_equal(vd_dma_dirty_report(f.space, (vd_iova){0}, 32 * PAGE, PAGE,
							     &bits, sizeof(bits)), 0);
			assert_true(take ? bits == 0 : bits >> 1 & 1);
		}
		dma_close_fixture(&f);
		if (!failed)
			break;
		assert_true(step < 64);
	}
}

static void test_create_fails(void **state)
{
	struct vd_dma_config config = {.mode = VD_DMA_ASSIGNED};
	struct vd_error error = {.text = ""};
	struct vd_dma_space *space;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	config.env = f.env;
	config.host = f.host;
	for (long step = 1; step <= 3; step++) {
		test_env_fail(&f.test, step, -ENOMEM);
		assert_int_equal(vd_dma_space_create(&config, &space, &error), -ENOMEM);
		assert_string_not_equal(error.text, "");
	}
	test_env_fail(&f.test, 0, 0);
	config.mode = (enum vd_dma_mode)7;
	assert_int_equal(vd_dma_space_create(&config, &space, &error), -EINVAL);
	fixture_close(&f);
}

/* ---- accessed and dirty --------------------------------------------------------------------- */

static uint32_t take(struct dma_fixture *f)
{
	uint32_t bits = 0;

	assert_int_equal(vd_dma_dirty_report(f->space, (vd_iova){0}, 32 * PAGE, PAGE, &bits,
					     sizeof(bits)), 0);
	return bits;
}

/* The table says so, not who stored: a translation for storing counts. */
static void test_dirty_bits(void **state)
{
	struct dma_fixture f;
	void *pointer;
	uint64_t run;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 32 * PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(put(&f, 0, 1), 0);
	assert_int_equal(vd_dma_dirty_start(f.space, NULL, 0, PAGE), 0);
	assert_int_equal(take(&f), 0);
	for (unsigned i = 0; i < 4; i++) {
		/* a miss, a fault, hits: none is overlooked */
		assert_int_equal(get(&f, 5 * PAGE, PAGE), 0);
		assert_int_equal(put(&f, 3 * PAGE, 1), 0);
		assert_int_equal(put(&f, 3 * PAGE, 2), 0);
		vd_dma_guard_enter(f.space);
		assert_int_equal(vd_dma_translate(f.space, (vd_iova){9 * PAGE}, VD_WRITE, &pointer,
						  &run), 0);
		assert_int_equal(run, PAGE);
		vd_dma_guard_leave(f.space);
		assert_int_equal(take(&f), 1 << 3 | 1 << 9);
		assert_int_equal(take(&f), 0);
	}
	assert_int_equal(vd_dma_dirty_stop(f.space), 0);
	dma_close_fixture(&f);
}

/* Entries that go leave what they know behind. */
static void test_dirty_bits_of_what_went(void **state)
{
	struct dma_fixture f;
	uint64_t unmapped;
	uint32_t bits = 0;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 8 * PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(dma_map(&f, 8 * PAGE, 8 * PAGE, 8 * PAGE, VD_READ | VD_WRITE), 0);
	assert_int_equal(vd_dma_dirty_start(f.space, NULL, 0, PAGE), 0);
	assert_int_equal(put(&f, 2 * PAGE, 1), 0);
	assert_int_equal(put(&f, 4 * PAGE, 1), 0);
	assert_int_equal(put(&f, 9 * PAGE, 1), 0);
	assert_int_equal(vd_host_object_move(f.base.ram, 2 * PAGE, PAGE, true), 0);
	assert_int_equal(vd_dma_unmap_dirty(f.space, (vd_iova){8 * PAGE}, 8 * PAGE, PAGE, &bits,
					    sizeof(bits), &unmapped), 0);
	assert_int_equal(bits, 1 << 1);
	assert_int_equal(take(&f), 1 << 2 | 1 << 4);
	assert_int_equal(take(&f), 0);
	dma_close_fixture(&f);
}

/* While somebody tracks, blocks are pages; when nobody does any more, they are blocks again. */
static void test_tracking_splits(void **state)
{
	struct vd_host_object *large;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(vd_host_ram_create(f.base.host, "large", 2 * MIB, 0, &large, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, 2 * MIB, large, 0, VD_READ | VD_WRITE),
			 0);
	assert_int_equal(put(&f, 0, 1), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 2 * MIB);
	assert_int_equal(vd_dma_dirty_start(f.space, NULL, 0, PAGE), 0);
	assert_int_equal(put(&f, 7 * PAGE, 1), 0);
	assert_int_equal(look(&f).io_mapped_bytes, PAGE);
	assert_int_equal(take(&f), 1 << 7);
	assert_int_equal(vd_dma_dirty_stop(f.space), 0);
	assert_int_equal(put(&f, 7 * PAGE, 1), 0);
	assert_int_equal(look(&f).io_mapped_bytes, 2 * MIB);
	vd_host_object_put(large);
	dma_close_fixture(&f);
}

/* B3: a page not used since the last scan is old, one used through the IOTLB never is. */
static void test_ageing(void **state)
{
	struct vd_invalidation range;
	struct vd_notifier *chain;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	chain = vd_host_notifier(f.base.host);
	range = (struct vd_invalidation){f.base.ram, 9 * PAGE, PAGE, true, VD_INVALIDATE_MOVE};
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 8 * PAGE, VD_READ), 0);
	assert_false(vd_notifier_test_young(chain, &range));
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(get(&f, PAGE, 1), 0);
		assert_int_equal(get(&f, PAGE, 1), 0);
		assert_true(vd_notifier_test_young(chain, &range));
		assert_true(vd_notifier_clear_young(chain, &range));
		assert_false(vd_notifier_clear_young(chain, &range));
		assert_int_equal(get(&f, 2 * PAGE, 1), 0);
		assert_false(vd_notifier_test_young(chain, &range));
	}
	assert_true(look(&f).iotlb_hits > 0);
	assert_int_equal(look(&f).io_faults, 2);
	dma_close_fixture(&f);
}

/* ---- a guest's logs ------------------------------------------------------------------------- */

/* The first store to a page that a log waits for comes through entries that were there before. */
static void test_guest_log(void **state)
{
	uint8_t log[RAM_PAGES / 8];
	struct dma_fixture f;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(&f, GUEST_RAM + 3 * PAGE, 1), 0);
	assert_int_equal(vd_mem_dirty_start(f.base.mem, id), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(put(&f, GUEST_RAM + 3 * PAGE, 1), 0);
		assert_int_equal(get(&f, GUEST_RAM + 4 * PAGE, PAGE), 0);
		assert_int_equal(vd_mem_dirty_fetch(f.base.mem, id, log, sizeof(log)), 0);
		assert_int_equal(log[0], 1 << 3);
		assert_int_equal(vd_mem_dirty_fetch(f.base.mem, id, log, sizeof(log)), 0);
		assert_int_equal(log[0], 0);
	}
	dma_close_fixture(&f);
}

struct watcher {
	struct vd_mem_watch watch;
	unsigned count;
};

static void note_store(struct vd_mem_watch *watch, vd_gpa gpa, uint64_t length)
{
	(void)gpa;
	(void)length;
	((struct watcher *)watch)->count++;
}

/* Who watches is told of stores that were let through before he did. */
static void test_watched_later(void **state)
{
	static const struct vd_mem_watch_ops ops = {note_store};
	struct watcher w = {.watch.ops = &ops};
	const vd_gpa gpa = {GUEST_RAM + 2 * PAGE};
	struct dma_fixture f;
	unsigned told;

	(void)state;
	dma_open_guest(&f);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(&f, gpa.value, 1), 0);
	assert_int_equal(vd_mem_watch_add(f.base.mem, &w.watch), 0);
	vd_mem_watch_set(&w.watch, gpa, PAGE);
	vd_mem_write_protect(f.base.mem, gpa, PAGE);
	assert_int_equal(get(&f, gpa.value, 1), 0);
	assert_int_equal(w.count, 0);
	for (unsigned i = 0; i < 3; i++) {
		told = w.count;
		assert_int_equal(put(&f, gpa.value, 2), 0);
		assert_true(w.count > told);
	}
	vd_mem_watch_clear(&w.watch, gpa, PAGE);
	told = w.count;
	assert_int_equal(put(&f, gpa.value, 3), 0);
	assert_int_equal(w.count, told);
	assert_int_equal(*ram_byte(&f, 2 * PAGE), 3);
	vd_mem_watch_remove(&w.watch);
	dma_close_fixture(&f);
}

/* A leaf that only lets read gives way to one that lets store, and that one stays. */
static void test_leave_to_store_comes_later(void **state)
{
	struct dma_fixture f;
	uint32_t id;

	(void)state;
	id = dma_open_guest(&f);
	assert_int_equal(vd_mem_dirty_start(f.base.mem, id), 0);
	assert_int_equal(get(&f, GUEST_RAM, 1), 0);
	assert_int_equal(get(&f, GUEST_RAM, 1), 0);
	assert_int_equal(look(&f).io_faults, 1);
	for (unsigned char i = 1; i < 4; i++) {
		assert_int_equal(put(&f, GUEST_RAM, i), 0);
		assert_int_equal(*ram_byte(&f, 0), i);
		assert_int_equal(get(&f, GUEST_RAM, 1), 0);
		assert_int_equal(look(&f).io_faults, 2);
	}
	assert_int_equal(look(&f).io_mapped_bytes, PAGE);
	dma_close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_access_faults),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_no_blocks),
		cmocka_unit_test(test_nothing_new_while_owners_are_asked),
		cmocka_unit_test(test_invalidation_is_precise),
		cmocka_unit_test(test_follows_slots),
		cmocka_unit_test(test_without_entries),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_create_fails),
		cmocka_unit_test(test_dirty_bits),
		cmocka_unit_test(test_dirty_bits_of_what_went),
		cmocka_unit_test(test_tracking_splits),
		cmocka_unit_test(test_ageing),
		cmocka_unit_test(test_guest_log),
		cmocka_unit_test(test_leave_to_store_comes_later),
		cmocka_unit_test(test_watched_later),
	};

	setenv("VD_TEST_ASSIGNED", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
