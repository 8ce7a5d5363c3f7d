/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>

#include "brute.h"
#include "fake_format.h"

#define RAM_BASE (2 * GIB) /* congruent to the object's place in the window modulo 1 GiB */

static const struct vd_mmu_format *const formats[] = {
	&vd_mmu_format_sv39x4, &vd_mmu_format_sv48x4, &vd_mmu_format_sv57x4, &fake_format};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

static struct brute_leaf raw(struct fixture *f, const struct vd_mmu_format *format, uint64_t gpa)
{
	size_t bytes;

	return brute_walk(format, vd_mmu_root(f->mmu, &bytes), vd_host_window_base(f->host), gpa);
}

static void maps_what_the_slot_says(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned i = 0; i < FORMATS; i++) {
		struct vd_mmu_leaf leaf;
		struct brute_leaf entry;
		uint64_t gpa = RAM_BASE + 5 * MIB + 0x123;

		fixture_open(&f, formats[i]);
		fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
		assert_int_equal(walk(&f, gpa, VD_READ, &leaf), -ENOENT);
		leaf = touch(&f, gpa, VD_READ);
		assert_int_equal(leaf.pfn.value, pfn_now(&f, gpa).value);
		assert_int_equal(leaf.access, VD_READ | VD_WRITE | VD_EXECUTE);
		assert_int_equal(leaf.type, VD_MEMORY_NORMAL);
		assert_true(leaf.accessed && !leaf.dirty && !leaf.device);
		entry = raw(&f, formats[i], gpa);
		assert_true(entry.found);
		assert_int_equal(entry.address, (leaf.pfn.value << 12) + 0x123);
		assert_int_equal(entry.size, leaf.size);
		assert_int_equal(f.flush_count, 0);
		fixture_close(&f);
	}
}

static int trap_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context;
	(void)offset;
	(void)length;
	*value = 0;
	return 0;
}

static int trap_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context;
	(void)offset;
	(void)length;
	(void)value;
	return 0;
}

static void errors_are_distinct(void **state)
{
	static const struct vd_trap_ops ops = {trap_read, trap_write};
	struct vd_slot_config trap = {.base = {GIB + 16}, .size = 16, .kind = VD_SLOT_TRAP,
				      .ops = &ops, .reason = "a test"};
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv39x4);
	fixture_slot(&f, RAM_BASE, MIB, f.ram, 0, true);
	fixture_slot(&f, 0, REGISTERS_BYTES, f.registers, 0, false);
	assert_int_equal(vd_mem_add_slot(f.mem, &trap, NULL, NULL), 0);
	assert_int_equal(fault(&f, GIB, VD_READ), -ENOENT);
	assert_int_equal(fault(&f, GIB + 24, VD_READ), -EREMOTE);
	assert_int_equal(fault(&f, RAM_BASE + MIB, VD_READ), -ENOENT);
	assert_int_equal(fault(&f, UINT64_C(1) << 41, VD_READ), -ENOENT);
	assert_int_equal(fault(&f, UINT64_MAX, VD_READ), -ENOENT);
	assert_int_equal(fault(&f, RAM_BASE, VD_WRITE), -EACCES);
	assert_int_equal(fault(&f, RAM_BASE, VD_EXECUTE), 0);
	assert_int_equal(fault(&f, PAGE, VD_EXECUTE), -EACCES);
	assert_int_equal(stats_now(&f).faults_ram, 1);
	assert_int_equal(stats_now(&f).faults_device, 0);
	fixture_close(&f);
}

/* The largest block, cut by the slot's ends and by how gpa and pfn agree. */
static void blocks_are_as_large_as_they_may(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	/* The object starts at a multiple of 1 GiB in the window; [4 KiB, 1 GiB + 6 MiB) of it. */
	fixture_slot(&f, 4 * GIB + PAGE, GIB + 6 * MIB - PAGE, f.ram, PAGE, false);
	assert_int_equal(touch(&f, 4 * GIB + PAGE, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, 4 * GIB + 2 * MIB - 1, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, 4 * GIB + 2 * MIB, VD_READ).size, 2 * MIB);
	assert_int_equal(touch(&f, 5 * GIB + 6 * MIB - 1, VD_READ).size, 2 * MIB);
	assert_int_equal(fault(&f, 5 * GIB + 6 * MIB, VD_READ), -ENOENT);

	/* All of it: one block; the same a page further: no block at all. */
	fixture_slot(&f, 8 * GIB, RAM_BYTES, f.ram, 0, false);
	assert_int_equal(touch(&f, 8 * GIB + 12345, VD_WRITE).size, GIB);
	fixture_slot(&f, 16 * GIB + PAGE, GIB, f.ram, 0, false);
	assert_int_equal(touch(&f, 16 * GIB + 512 * MIB, VD_READ).size, PAGE);
	/* Congruent modulo 2 MiB, but not modulo 1 GiB. */
	fixture_slot(&f, 32 * GIB + 2 * MIB, RAM_BYTES - 2 * MIB, f.ram, 0, false);
	assert_int_equal(touch(&f, 33 * GIB, VD_READ).size, 2 * MIB);
	fixture_close(&f);
}

/* Device pages carry the type of their mapping, are marked as such, and are not executable (A5). */
static void device_pages_carry_their_type(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	for (unsigned i = 0; i < FORMATS; i++) {
		fixture_open(&f, formats[i]);
		fixture_slot(&f, 16 * MIB, BAR_BYTES, f.bar, 0, false);
		fixture_slot(&f, 0x1000, REGISTERS_BYTES - PAGE, f.registers, PAGE, false);
		leaf = touch(&f, 16 * MIB + 3 * MIB, VD_WRITE);
		assert_true(leaf.device && leaf.dirty);
		assert_int_equal(leaf.type, VD_MEMORY_WRITE_COMBINING);
		assert_int_equal(leaf.access, VD_READ | VD_WRITE);
		assert_int_equal(leaf.size, formats[i] == &fake_format ? MIB : 2 * MIB);
		assert_int_equal(raw(&f, formats[i], 16 * MIB + 3 * MIB).type, 1);
		leaf = touch(&f, 0x1008, VD_READ);
		assert_int_equal(leaf.type, VD_MEMORY_UNCACHED);
		assert_int_equal(leaf.size, PAGE);
		assert_int_equal(raw(&f, formats[i], 0x1008).type, 2);
		assert_int_equal(stats_now(&f).faults_device, 2);
		fixture_close(&f);
	}
}

/* A BAR that the guest placed off by a page from the host's: pages only, all of them right. */
static void misplaced_bar_has_no_blocks(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, 16 * MIB + PAGE, BAR_BYTES, f.bar, 0, false);
	for (uint64_t offset = 0; offset < BAR_BYTES; offset += 64 * PAGE) {
		uint64_t gpa = 16 * MIB + PAGE + offset;
		struct vd_mmu_leaf leaf = touch(&f, gpa, VD_READ);

		assert_int_equal(leaf.size, PAGE);
		assert_int_equal(leaf.pfn.value, pfn_now(&f, gpa).value);
	}
	fixture_close(&f);
}

/* A5: a block lies wholly inside its slot, even where the memory behind it goes on. */
static void device_blocks_stay_inside_the_slot(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, 17 * MIB, 4 * MIB, f.bar, MIB, false);
	assert_int_equal(touch(&f, 18 * MIB - 1, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, 18 * MIB, VD_READ).size, 2 * MIB);
	assert_int_equal(touch(&f, 20 * MIB, VD_READ).size, PAGE);
	assert_int_equal(fault(&f, 21 * MIB, VD_READ), -ENOENT);
	/* Two slots that continue each other, in gpa and in memory, still make no common block. */
	fixture_slot(&f, 32 * MIB, MIB, f.bar, 0, false);
	fixture_slot(&f, 33 * MIB, MIB, f.bar, MIB, false);
	assert_int_equal(touch(&f, 32 * MIB, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, 33 * MIB, VD_READ).size, PAGE);
	fixture_close(&f);
}

/* Pages of the space may be larger than the granule: each is mapped by several leaves (E1). */
static void large_pages_are_mapped_by_granules(void **state)
{
	struct vd_mem_page page;
	struct vd_mmu_leaf leaf;
	struct brute_leaf entry;
	struct fixture f;

	(void)state;
	for (unsigned shift = 14; shift <= 16; shift += 2) {
		fixture_open_pages(&f, shift);
		fixture_mmu(&f, &vd_mmu_format_sv48x4);
		fixture_slot(&f, RAM_BASE, 256 * KIB, f.spares, 0, false);
		for (uint64_t offset = 0; offset < 256 * KIB; offset += PAGE) {
			leaf = touch(&f, RAM_BASE + offset, VD_WRITE);
			vd_mem_gpa_to_pfn(f.mem, (vd_gpa){RAM_BASE + offset}, VD_READ, &page);
			assert_int_equal(leaf.size, PAGE);
			assert_int_equal(leaf.pfn.value, page.host.pfn.value);
			entry = raw(&f, &vd_mmu_format_sv48x4, RAM_BASE + offset);
			assert_int_equal(entry.address,
					 (leaf.pfn.value << shift) + offset % (1u << shift));
		}
		/* One page moves: all its granules go. */
		f.flush_count = 0;
		assert_int_equal(vd_host_object_move(f.spares, 1u << shift, 1u << shift, true), 0);
		assert_flushed_once(&f, RAM_BASE + (1u << shift), 1u << shift);
		fixture_close(&f);
	}
}

/* A pfn counts the host's pages, also where the guest space's are larger. */
static void pfns_count_pages_of_the_host(void **state)
{
	struct vd_mem_page page;
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	fixture_open_shifts(&f, 12, 16);
	fixture_mmu(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 256 * KIB, f.spares, 0, false);
	for (uint64_t offset = 0; offset < 256 * KIB; offset += PAGE) {
		leaf = touch(&f, RAM_BASE + offset, VD_WRITE);
		assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){RAM_BASE + offset}, VD_READ,
						   &page), 0);
		assert_int_equal(leaf.pfn.value, page.host.pfn.value);
		assert_int_equal(raw(&f, &vd_mmu_format_sv48x4, RAM_BASE + offset).address,
				 leaf.pfn.value << 12);
	}
	fixture_close(&f);
}

/* A zapped piece does not force a block back over the tables that still stand there. */
static void standing_tables_limit_the_size(void **state)
{
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	id = fixture_slot(&f, RAM_BASE, RAM_BYTES, f.ram, 0, false);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(touch(&f, RAM_BASE, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, RAM_BASE + 4 * MIB, VD_READ).size, PAGE);
	assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
	assert_int_equal(touch(&f, RAM_BASE + PAGE, VD_READ).size, PAGE);
	assert_int_equal(touch(&f, RAM_BASE + 2 * MIB, VD_READ).size, 2 * MIB);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE}, 2 * MIB);
	assert_int_equal(touch(&f, RAM_BASE, VD_READ).size, 2 * MIB);
	vd_mmu_zap(f.mmu, (vd_gpa){RAM_BASE}, GIB);
	assert_int_equal(touch(&f, RAM_BASE + 4 * MIB, VD_READ).size, GIB);
	fixture_close(&f);
}

static bool dirty_bit(const uint8_t *bitmap, uint64_t page)
{
	return bitmap[page / 8] >> page % 8 & 1;
}

/* First store: marked, then writable; a block in the way is broken first. */
static void dirty_log_sees_first_stores(void **state)
{
	static uint8_t bitmap[SPARES_BYTES / PAGE / 8];
	struct vd_mmu_leaf leaf;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	id = fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
	assert_int_equal(touch(&f, RAM_BASE, VD_WRITE).size, 2 * MIB);
	f.flush_count = 0;
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_flushed_once(&f, RAM_BASE, 2 * MIB);
	assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_WRITE, &leaf), -EACCES);
	assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_READ, &leaf), 0);
	assert_int_equal(leaf.size, 2 * MIB);
	assert_false(leaf.dirty);

	leaf = touch(&f, RAM_BASE + PAGE, VD_WRITE);
	assert_flushed_once(&f, RAM_BASE, 2 * MIB); /* the block, before the table took its place */
	assert_int_equal(leaf.size, PAGE);
	assert_true(leaf.dirty);
	assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), -ENOENT);
	leaf = touch(&f, RAM_BASE, VD_READ);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_int_equal(walk(&f, RAM_BASE, VD_WRITE, &leaf), -EACCES);

	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_true(dirty_bit(bitmap, 1));
	assert_false(dirty_bit(bitmap, 0));
	assert_int_equal(walk(&f, RAM_BASE + PAGE, VD_WRITE, &leaf), -EACCES);
	f.flush_count = 0;
	touch(&f, RAM_BASE + PAGE, VD_WRITE);
	assert_int_equal(f.flush_count, 0); /* widened as it stood */
	assert_int_equal(stats_now(&f).faults_protection, 1);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, id, bitmap, sizeof(bitmap)), 0);
	assert_true(dirty_bit(bitmap, 1));
	fixture_close(&f);
}

/* A9: reading a private page leaves it shared with the file and mapped read-only. */
static void reading_does_not_break_copy_on_write(void **state)
{
	int fd = memfd_create("private", MFD_CLOEXEC);
	struct vd_host_object *object;
	struct vd_mmu_leaf leaf;
	struct fixture f;
	char *memory;
	int rc;

	(void)state;
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(memory != MAP_FAILED);
	fixture_open(&f, &vd_mmu_format_sv48x4);
	rc = vd_host_private(f.host, "private", memory, 4 * PAGE, VD_HOST_ANNOUNCED, &object,
			     NULL);
	assert_int_equal(rc, 0);
	fixture_slot(&f, RAM_BASE, 4 * PAGE, object, 0, false);
	vd_host_object_put(object);

	leaf = touch(&f, RAM_BASE + PAGE, VD_READ);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_ptr_equal(vd_host_pointer(vd_host_window_base(f.host), leaf.pfn, 12), memory + PAGE);
	assert_int_equal(pwrite(fd, "file", 4, PAGE), 4);
	assert_memory_equal(memory + PAGE, "file", 4);
	leaf = touch(&f, RAM_BASE + PAGE, VD_WRITE);
	assert_true(leaf.access & VD_WRITE);
	assert_int_equal(touch(&f, RAM_BASE, VD_READ).access, VD_READ | VD_EXECUTE);
	fixture_close(&f);
	munmap(memory, 4 * PAGE);
	close(fd);
}

/* Whatever is written over a leaf: the walk no longer yields it, and a fault makes it right. */
static void corrupted_leaves_are_repaired(void **state)
{
	static const uint64_t garbage[] = {
		0,	     /* gone */
		2,	     /* V clear, not zero */
		0x15,	     /* W without R */
		0x03,	     /* not for guests */
		UINT64_MAX,  /* everything reserved */
		UINT64_C(0x3fffff000000000), /* a frame, and nothing else */
	};
	struct fixture f;

	(void)state;
	for (unsigned i = 0; i < FORMATS; i++) {
		fixture_open(&f, formats[i]);
		fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
		fixture_slot(&f, RAM_BASE + SPARES_BYTES, 3 * PAGE, f.ram, PAGE, false);
		for (unsigned j = 0; j < 2 * sizeof(garbage) / sizeof(garbage[0]); j++) {
			uint64_t gpa = RAM_BASE + (j % 2 ? SPARES_BYTES : MIB) + PAGE;
			struct vd_mmu_leaf before = touch(&f, gpa, VD_WRITE), after;

			__atomic_store_n(raw(&f, formats[i], gpa).slot, garbage[j / 2],
					 __ATOMIC_RELEASE);
			assert_true(walk(&f, gpa, VD_READ, &after) < 0);
			after = touch(&f, gpa, VD_WRITE);
			assert_int_equal(after.pfn.value, before.pfn.value);
			assert_int_equal(after.size, before.size);
			assert_int_equal(raw(&f, formats[i], gpa).address, before.pfn.value << 12);
		}
		fixture_close(&f);
	}
}

/* Set by a test, for the time of its faults: what may not stand there while TLBs are flushed. */
struct entry_at_flush {
	void (*flush)(void *context, uint64_t start, uint64_t length);
	void *context;
	_Atomic uint64_t *slot;
	uint64_t seen;
	unsigned flushes;
};

static void look_and_flush(void *context, uint64_t start, uint64_t length)
{
	struct entry_at_flush *look = context;

	look->flushes++;
	look->seen = atomic_load(look->slot);
	look->flush(look->context, start, length);
}

/* Break before make: a walker that comes after the flush must not find the old entry again. */
static void what_was_written_over_a_table_goes_before_the_flush(void **state)
{
	struct entry_at_flush look = {.seen = UINT64_MAX};
	struct vd_mmu_leaf leaf;
	struct fixture f;
	size_t bytes;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 4 * PAGE, f.spares, 0, false);
	leaf = touch(&f, RAM_BASE, VD_READ);
	look.flush = f.mmu->pt.flush;
	look.context = f.mmu->pt.flush_context;
	look.slot = (_Atomic uint64_t *)vd_mmu_root(f.mmu, &bytes);
	/* A block of all the first 512 GiB, with every permission. */
	atomic_store(look.slot, 0xdf);
	f.mmu->pt.flush_context = &look;
	f.mmu->pt.flush = look_and_flush;
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
	f.mmu->pt.flush_context = look.context;
	f.mmu->pt.flush = look.flush;
	assert_true(look.flushes);
	assert_int_equal(look.seen, 0);
	assert_int_equal(touch(&f, RAM_BASE, VD_READ).pfn.value, leaf.pfn.value);
	fixture_close(&f);
}

/* Invariant 4: an entry with a wrong frame is zapped and flushed before the right one is mapped. */
static void wrong_frame_is_flushed_before_it_is_replaced(void **state)
{
	struct vd_mmu_leaf leaf;
	struct brute_leaf entry;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 4 * PAGE, f.spares, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	entry = raw(&f, &vd_mmu_format_sv48x4, RAM_BASE);
	__atomic_store_n(entry.slot, *entry.slot + (1 << 10), __ATOMIC_RELEASE);
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
	assert_flushed_once(&f, RAM_BASE, PAGE);
	assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), 0);
	assert_int_equal(leaf.pfn.value, pfn_now(&f, RAM_BASE).value);

	/* The same for the entry that leads to the leaf's table. */
	entry = raw(&f, &vd_mmu_format_sv48x4, RAM_BASE);
	{
		size_t bytes;
		uint64_t *root = vd_mmu_root(f.mmu, &bytes);

		root[0] = 0;
		assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), -ENOENT);
		assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
		assert_ptr_equal(raw(&f, &vd_mmu_format_sv48x4, RAM_BASE).slot, entry.slot);
		assert_flushed_once(&f, 0, UINT64_C(1) << 39);
	}
	fixture_close(&f);
}

/*
 * Permissions are only ever added in place. An entry that has one too many is zapped and flushed.
 */
static void permissions_are_added_not_taken(void **state)
{
	const uint64_t w = 4, x = 8; /* in a RISC-V entry */
	struct vd_mmu_leaf leaf;
	struct brute_leaf entry;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, PAGE, f.ram, 0, true);
	fixture_slot(&f, RAM_BASE + 2 * PAGE, PAGE, f.ram, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	entry = raw(&f, &vd_mmu_format_sv48x4, RAM_BASE);
	__atomic_store_n(entry.slot, (*entry.slot | w) & ~x, __ATOMIC_RELEASE);
	leaf = touch(&f, RAM_BASE, VD_EXECUTE);
	assert_int_equal(leaf.access, VD_READ | VD_EXECUTE);
	assert_flushed_once(&f, RAM_BASE, PAGE);

	touch(&f, RAM_BASE + 2 * PAGE, VD_WRITE);
	entry = raw(&f, &vd_mmu_format_sv48x4, RAM_BASE + 2 * PAGE);
	__atomic_store_n(entry.slot, *entry.slot & ~x, __ATOMIC_RELEASE);
	leaf = touch(&f, RAM_BASE + 2 * PAGE, VD_EXECUTE);
	assert_int_equal(leaf.access, VD_READ | VD_WRITE | VD_EXECUTE);
	assert_true(leaf.dirty); /* still */
	assert_int_equal(f.flush_count, 0);
	assert_int_equal(stats_now(&f).faults_protection, 1);
	fixture_close(&f);
}

static int keep_leaf(void *context, vd_gpa gpa, const struct vd_mmu_leaf *leaf)
{
	(void)gpa;
	*(struct vd_mmu_leaf *)context = *leaf;
	return 0;
}

/* A walker that sets neither accessed nor dirty faults until they are set. */
static void a_fault_sets_accessed_and_dirty(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 4 * PAGE, f.spares, 0, false);
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
	assert_true(vd_mmu_clear_young(f.mmu, (vd_gpa){RAM_BASE}, PAGE));
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
	vd_mmu_each(f.mmu, keep_leaf, &leaf);
	assert_true(leaf.accessed);
	assert_false(leaf.dirty);
	assert_true(leaf.access & VD_WRITE);
	assert_int_equal(fault(&f, RAM_BASE, VD_WRITE), 0);
	vd_mmu_each(f.mmu, keep_leaf, &leaf);
	assert_true(leaf.dirty);
	assert_int_equal(stats_now(&f).faults_spurious, 0);
	fixture_close(&f);
}

static void second_fault_is_spurious(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 4 * PAGE, f.spares, 0, false);
	assert_int_equal(fault(&f, RAM_BASE, VD_WRITE), 0);
	assert_int_equal(fault(&f, RAM_BASE, VD_WRITE), 0);
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), 0);
	assert_int_equal(stats_now(&f).faults_ram, 1);
	assert_int_equal(stats_now(&f).faults_spurious, 2);
	assert_int_equal(f.flush_count, 0);
	fixture_close(&f);
}

/* Each allocation fails in turn: -ENOMEM, nothing mapped, nothing lost. */
static void failed_allocations_change_nothing(void **state)
{
	struct fixture f;
	unsigned failures = 0;

	(void)state;
	for (unsigned i = 0; i < FORMATS; i++) {
		fixture_open(&f, formats[i]);
		fixture_slot(&f, RAM_BASE, 4 * PAGE, f.spares, 0, false);
		for (long step = 1;; step++) {
			long blocks = f.checked.blocks;
			struct vd_mmu_leaf leaf;
			int rc;

			test_env_fail(&f.checked, step, -ENOMEM);
			rc = fault(&f, RAM_BASE, VD_READ);
			if (!test_env_failed(&f.checked)) {
				assert_int_equal(rc, 0);
				break;
			}
			failures++;
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(f.checked.blocks, blocks);
			assert_int_equal(walk(&f, RAM_BASE, VD_READ, &leaf), -ENOENT);
			assert_int_equal(stats_now(&f).table_pages, 1);
		}
		fixture_close(&f);
	}
	assert_int_equal(failures, 2 * (2 + 3 + 4 + 3));
}

/*
 * Retry: what an invalidation overtakes is not installed. The change happens inside the fault's own
 * allocation, which stands between lookup and lock, or just before the lock.
 */
static struct {
	struct fixture *f;
	unsigned times;
	void (*change)(struct fixture *f);
} racing;

static void race(void)
{
	if (racing.times) {
		racing.times--;
		racing.change(racing.f);
	}
}

static void *allocate_after_change(const struct vd_env *env, size_t size, size_t align)
{
	race();
	return checked_allocate(env, size, align);
}

/* The look at the path is the last read section of a fault before the lock. */
static void leave_and_change(const struct vd_env *env)
{
	vd_env_hosted()->read_leave(env);
	race();
}

static void move_second_page(struct fixture *f)
{
	assert_int_equal(vd_host_object_move(f->spares, PAGE, PAGE, true), 0);
}

static void overtaken_lookups_are_repeated(void **state)
{
	struct vd_mmu_leaf leaf;
	struct fixture f;
	vd_pfn before;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, SPARES_BYTES, f.spares, 0, false);
	f.checked.env.allocate = allocate_after_change;
	racing.f = &f;
	racing.times = 3;
	racing.change = move_second_page;
	before = pfn_now(&f, RAM_BASE + PAGE);
	leaf = touch(&f, RAM_BASE + PAGE, VD_READ);
	assert_int_equal(racing.times, 0);
	assert_int_not_equal(leaf.pfn.value, before.value);
	assert_int_equal(leaf.pfn.value, pfn_now(&f, RAM_BASE + PAGE).value);
	assert_true(stats_now(&f).retries >= 1);
	fixture_close(&f);
}

/* What an access finds while its range is being changed is no answer yet, not even an error. */
struct waiting {
	struct fixture *f;
	int rc;
	_Atomic bool done;
};

static void *fault_meanwhile(void *context)
{
	struct waiting *waiting = context;

	waiting->rc = fault(waiting->f, RAM_BASE, VD_READ);
	waiting->done = true;
	return NULL;
}

static void errors_wait_for_the_end_of_a_change(void **state)
{
	struct vd_invalidation event = {.start = RAM_BASE, .length = PAGE, .blockable = true,
					.reason = VD_INVALIDATE_RESET};
	struct fixture f;
	struct waiting waiting = {.f = &f};
	pthread_t thread;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	assert_int_equal(vd_notifier_start(vd_mem_notifier(f.mem), &event), 0);
	assert_int_equal(pthread_create(&thread, NULL, fault_meanwhile, &waiting), 0);
	while (!stats_now(&f).retries && !waiting.done)
		sched_yield();
	fixture_slot(&f, RAM_BASE, PAGE, f.ram, 0, false);
	vd_notifier_end(vd_mem_notifier(f.mem), &event);
	pthread_join(thread, NULL);
	assert_int_equal(waiting.rc, 0);
	fixture_close(&f);
}

static void zap_all(struct fixture *f)
{
	vd_mmu_zap(f->mmu, (vd_gpa){0}, UINT64_MAX);
}

/* Tables that stood when spares were counted are gone under the lock: more are taken outside. */
static void vanished_tables_are_made_again(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv57x4);
	fixture_slot(&f, RAM_BASE, 8 * PAGE, f.spares, 0, false);
	touch(&f, RAM_BASE, VD_READ);
	f.checked.env.read_leave = leave_and_change;
	racing.f = &f;
	racing.times = 1;
	racing.change = zap_all;
	assert_int_equal(touch(&f, RAM_BASE + PAGE, VD_READ).pfn.value,
			 pfn_now(&f, RAM_BASE + PAGE).value);
	assert_int_equal(racing.times, 0);
	assert_int_equal(stats_now(&f).table_pages, 5);
	assert_int_equal(stats_now(&f).mapped_4k, 1);
	fixture_close(&f);
}

static void release_space(struct fixture *f)
{
	vd_notifier_release(vd_mem_notifier(f->mem));
}

/* B4: a fault that was under way when the memory died installs nothing. */
static void fault_under_way_sees_the_release(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, RAM_BASE, 8 * PAGE, f.spares, 0, false);
	f.checked.env.allocate = allocate_after_change;
	racing.f = &f;
	racing.times = 1;
	racing.change = release_space;
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), -ESHUTDOWN);
	assert_int_equal(stats_now(&f).mapped_bytes, 0);
	fixture_close(&f);
}

static void remove_first_slot(struct fixture *f)
{
	assert_int_equal(vd_mem_remove_slot(f->mem, 1), 0);
}

/* B2: so does one whose slot was removed meanwhile; it then sees that there is none. */
static void fault_under_way_sees_the_slot_go(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	assert_int_equal(fixture_slot(&f, RAM_BASE, 8 * PAGE, f.spares, 0, false), 1);
	f.checked.env.allocate = allocate_after_change;
	racing.f = &f;
	racing.times = 1;
	racing.change = remove_first_slot;
	assert_int_equal(fault(&f, RAM_BASE, VD_READ), -ENOENT);
	assert_int_equal(stats_now(&f).mapped_bytes, 0);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_what_the_slot_says),
		cmocka_unit_test(errors_are_distinct),
		cmocka_unit_test(blocks_are_as_large_as_they_may),
		cmocka_unit_test(device_pages_carry_their_type),
		cmocka_unit_test(misplaced_bar_has_no_blocks),
		cmocka_unit_test(device_blocks_stay_inside_the_slot),
		cmocka_unit_test(large_pages_are_mapped_by_granules),
		cmocka_unit_test(pfns_count_pages_of_the_host),
		cmocka_unit_test(standing_tables_limit_the_size),
		cmocka_unit_test(dirty_log_sees_first_stores),
		cmocka_unit_test(reading_does_not_break_copy_on_write),
		cmocka_unit_test(corrupted_leaves_are_repaired),
		cmocka_unit_test(what_was_written_over_a_table_goes_before_the_flush),
		cmocka_unit_test(wrong_frame_is_flushed_before_it_is_replaced),
		cmocka_unit_test(permissions_are_added_not_taken),
		cmocka_unit_test(a_fault_sets_accessed_and_dirty),
		cmocka_unit_test(second_fault_is_spurious),
		cmocka_unit_test(failed_allocations_change_nothing),
		cmocka_unit_test(overtaken_lookups_are_repeated),
		cmocka_unit_test(errors_wait_for_the_end_of_a_change),
		cmocka_unit_test(vanished_tables_are_made_again),
		cmocka_unit_test(fault_under_way_sees_the_release),
		cmocka_unit_test(fault_under_way_sees_the_slot_go),
	};

	return cmocka_run_group_tests_name("mmu fault", tests, NULL, NULL);
}
