/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/mman.h>
#include <unistd.h>

#include "fixture.h"

/* ---- gpa_to_pfn ---- */

static void test_pfn_of_ram(void **state)
{
	struct vd_mem_page page;
	struct fixture f;
	uint32_t id;
	char *host;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 0x10000, 4 * PAGE, 4 * PAGE);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0x11000}, "page", 5), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0x11004}, VD_READ, &page), 0);
	assert_int_equal(page.slot_id, id);
	assert_int_equal(page.slot_base, 0x10000);
	assert_int_equal(page.slot_size, 4 * PAGE);
	assert_int_equal(page.kind, VD_SLOT_RAM);
	assert_int_equal(page.host.kind, VD_PAGE_RAM);
	assert_true(page.writable);
	assert_false(page.dirty_log);
	/* from the address asked for to the end of the slot, though the object goes on */
	assert_int_equal(page.host.run, 3 * PAGE - 4);
	host = vd_host_pointer(vd_host_window_base(f.host), page.host.pfn,
			       vd_host_page_shift(f.host));
	assert_string_equal(host, "page");
	fixture_close(&f);
}

static void test_pfn_refusals(void **state)
{
	struct vd_slot_config trap = trap_slot(0, 8, &trap_none, NULL);
	struct vd_slot_config rom;
	struct vd_mem_page page;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	rom = ram_slot(&f, 0x1000, 0, PAGE);
	rom.read_only = true;
	add_slot(&f, &trap);
	add_slot(&f, &rom);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){8}, VD_READ, &page), -ENOENT);
	assert_true(vd_pfn_is_bad(page.host.pfn));
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){UINT64_MAX}, VD_READ, &page), -ENOENT);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){7}, VD_WRITE, &page), -EREMOTE);
	assert_true(vd_pfn_is_bad(page.host.pfn));
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0x1000}, VD_WRITE, &page), -EACCES);
	assert_true(vd_pfn_is_bad(page.host.pfn));
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0x1000}, VD_EXECUTE, &page), 0);
	assert_false(page.writable);
	fixture_close(&f);
}

static void test_pfn_of_device_memory(void **state)
{
	struct vd_host_object *device;
	struct vd_slot_config slot;
	struct vd_mem_page page;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_host_import(f.host, "bar", vd_host_object_fd(f.other), 0, 4 * PAGE,
					VD_PAGE_DEVICE, VD_MEMORY_WRITE_COMBINING, 0, &device,
					NULL), 0);
	slot = ram_slot(&f, 0, 0, 4 * PAGE);
	slot.kind = VD_SLOT_DEVICE;
	slot.object = device;
	add_slot(&f, &slot);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_WRITE, &page), 0);
	assert_int_equal(page.host.kind, VD_PAGE_DEVICE);
	assert_int_equal(page.host.type, VD_MEMORY_WRITE_COMBINING);
	assert_int_equal(page.kind, VD_SLOT_DEVICE);
	/* checked copies are for RAM */
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, "x", 1), -EFAULT);
	vd_host_object_put(device);
	fixture_close(&f);
}

/* RAM that the host has hidden from itself is RAM to a guest, but is told apart. */
static void test_pfn_of_reserved_memory(void **state)
{
	struct vd_host_object *reserved;
	struct vd_slot_config slot;
	struct vd_mem_page page;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_host_import(f.host, "hidden", vd_host_object_fd(f.other), 0, PAGE,
					VD_PAGE_RESERVED, VD_MEMORY_NORMAL, 0, &reserved, NULL), 0);
	slot = ram_slot(&f, 0, 0, PAGE);
	slot.object = reserved;
	add_slot(&f, &slot);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, "x", 1), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_WRITE, &page), 0);
	assert_int_equal(page.host.kind, VD_PAGE_RESERVED);
	assert_int_equal(page.kind, VD_SLOT_RAM);
	vd_host_object_put(reserved);
	fixture_close(&f);
}

/* While the log runs, only the page that is stored to becomes writable, and only by a store. */
static void test_pfn_under_dirty_log(void **state)
{
	struct vd_mem_page page;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_ram(&f, 0, 0, 4 * PAGE);
	assert_int_equal(vd_mem_dirty_start(f.mem, id), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){PAGE + 8}, VD_READ, &page), 0);
	assert_true(page.dirty_log);
	assert_false(page.writable);
	assert_int_equal(page.host.run, 3 * PAGE - 8);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){PAGE + 8}, VD_WRITE, &page), 0);
	assert_true(page.writable);
	assert_int_equal(page.host.run, PAGE - 8);
	assert_int_equal(vd_mem_dirty_stop(f.mem, id), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){PAGE + 8}, VD_READ, &page), 0);
	assert_true(page.writable);
	fixture_close(&f);
}

/* A read never makes a private mapping writable, and never breaks copy-on-write. */
static void test_pfn_of_private_memory(void **state)
{
	struct vd_host_object *private;
	struct vd_slot_config slot;
	struct vd_mem_page page;
	struct fixture f;
	char in_file = 0, byte = 0, *view;
	int fd;

	(void)state;
	fixture_open(&f);
	fd = vd_host_object_fd(f.other);
	view = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(view, MAP_FAILED);
	assert_int_equal(vd_host_private(f.host, "cow", view, 4 * PAGE, VD_HOST_ANNOUNCED, &private,
					 NULL), 0);
	slot = ram_slot(&f, 0, 0, 4 * PAGE);
	slot.object = private;
	add_slot(&f, &slot);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_READ, &page), 0);
	assert_false(page.writable);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(pwrite(fd, "f", 1, 0), 1);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(byte, 'f'); /* still shared with the file */
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, "w", 1), 0);
	assert_int_equal(pread(fd, &in_file, 1, 0), 1);
	assert_int_equal(in_file, 'f');
	assert_int_equal(view[0], 'w');
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_READ, &page), 0);
	assert_true(page.writable);
	vd_host_object_put(private);
	fixture_close(&f);
	munmap(view, 4 * PAGE);
}

/* ---- copies ---- */

static void test_copy_across_slots(void **state)
{
	unsigned char out[3 * PAGE], in[3 * PAGE];
	struct vd_slot_config other;
	uint64_t seed = 1;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	other = ram_slot(&f, PAGE, 9 * PAGE, PAGE);
	other.object = f.other;
	add_ram(&f, 0, 7 * PAGE, PAGE);
	add_slot(&f, &other);
	add_ram(&f, 2 * PAGE, 3 * PAGE, 2 * PAGE);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (unsigned char)test_random(&seed);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){100}, out, sizeof(out)), 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){100}, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	/* frames apart from each other within one slot */
	assert_int_equal(vd_host_object_move(f.ram, 4 * PAGE, PAGE, true), 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){100}, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	fixture_close(&f);
}

/* What cannot be done as a whole is not begun. */
static void expect_untouched(struct fixture *f, uint64_t gpa, size_t length, int code)
{
	static unsigned char out[8 * PAGE], in[PAGE];

	memset(out, 0xee, sizeof(out));
	assert_int_equal(vd_mem_write(f->mem, (vd_gpa){gpa}, out, length), code);
	assert_int_equal(vd_mem_read(f->mem, (vd_gpa){0}, in, PAGE), 0);
	for (size_t i = 0; i < PAGE; i++)
		assert_int_equal(in[i], 0);
}

static void test_all_or_nothing(void **state)
{
	struct vd_slot_config slot;
	struct fixture f;
	char byte;

	(void)state;
	fixture_open(&f);
	add_ram(&f, 0, 0, PAGE);
	expect_untouched(&f, PAGE - 1, 2, -EFAULT); /* then a hole */
	slot = trap_slot(PAGE, 16, &trap_none, NULL);
	add_slot(&f, &slot);
	expect_untouched(&f, PAGE - 1, 2, -EFAULT); /* then a trap */
	slot = ram_slot(&f, 2 * PAGE, PAGE, PAGE);
	add_slot(&f, &slot);
	slot = ram_slot(&f, 3 * PAGE, 2 * PAGE, PAGE);
	slot.read_only = true;
	add_slot(&f, &slot);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){3 * PAGE - 1}, "ab", 2), -EACCES);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){3 * PAGE - 1}, &byte, 1), 0);
	assert_int_equal(byte, 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){3 * PAGE}, &byte, 1), 0);
	/* the host protects a page */
	assert_int_equal(vd_host_object_protect(f.ram, PAGE, PAGE, false, true), 0);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){2 * PAGE}, "a", 1), -EACCES);
	fixture_close(&f);
}

static void test_odd_lengths(void **state)
{
	struct fixture f;
	char byte;

	(void)state;
	fixture_open(&f);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){12345}, &byte, 0), 0);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){UINT64_MAX}, &byte, 0), 0);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){UINT64_MAX}, &byte, 1), -EFAULT);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){UINT64_MAX}, &byte, 2), -EFAULT);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){2}, &byte, SIZE_MAX), -EFAULT);
	add_ram(&f, 0, 0, RAM_PAGES * PAGE);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){2}, &byte, SIZE_MAX), -EFAULT);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, SIZE_MAX), -EFAULT);
	fixture_close(&f);
}

/* ---- against a plain array ---- */

#define MODEL_PAGES 24u

static void model_round(struct fixture *f, unsigned char *memory, const uint32_t *page_of,
			uint64_t *seed)
{
	static unsigned char buffer[6 * PAGE];
	size_t length = test_random(seed) % sizeof(buffer);
	uint64_t gpa = test_random(seed) % (MODEL_PAGES * PAGE);
	bool there = true, write = test_random(seed) % 2;
	int r;

	for (uint64_t at = gpa; length && at < gpa + length; at++)
		there &= at < MODEL_PAGES * PAGE && page_of[at / PAGE] != UINT32_MAX;
	for (size_t i = 0; i < length; i++)
		buffer[i] = (unsigned char)test_random(seed);
	r = write ? vd_mem_write(f->mem, (vd_gpa){gpa}, buffer, length)
		  : vd_mem_read(f->mem, (vd_gpa){gpa}, buffer, length);
	assert_int_equal(r, there ? 0 : -EFAULT);
	for (size_t i = 0; i < length && there; i++) {
		uint64_t at = gpa + i;
		unsigned char *cell = &memory[page_of[at / PAGE] * PAGE + at % PAGE];

		if (write)
			*cell = buffer[i];
		else if (*cell != buffer[i])
			fail_msg("wrong byte at 0x%llx", (unsigned long long)at);
	}
}

/* Pages of the object at random guest pages, some at two of them, some guest pages empty. */
static void test_copies_against_a_model(void **state)
{
	static unsigned char memory[MODEL_PAGES * PAGE];
	uint32_t page_of[MODEL_PAGES];
	uint64_t seed = 11;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	for (uint32_t i = 0; i < MODEL_PAGES; i++) {
		page_of[i] = UINT32_MAX;
		if (test_random(&seed) % 8 == 0)
			continue;
		page_of[i] = (uint32_t)(test_random(&seed) % MODEL_PAGES);
		add_ram(&f, i * PAGE, page_of[i] * PAGE, PAGE);
	}
	for (unsigned round = 0; round < 2000; round++) {
		uint64_t page = test_random(&seed) % MODEL_PAGES;

		model_round(&f, memory, page_of, &seed);
		if (round % 7 == 0)
			assert_int_equal(vd_host_object_move(f.ram, page * PAGE, PAGE, true), 0);
		if (round % 11 == 0) {
			assert_int_equal(vd_host_object_discard(f.ram, page * PAGE, PAGE, true), 0);
			memset(memory + page * PAGE, 0, PAGE);
		}
	}
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pfn_of_ram),
		cmocka_unit_test(test_pfn_refusals),
		cmocka_unit_test(test_pfn_of_device_memory),
		cmocka_unit_test(test_pfn_of_reserved_memory),
		cmocka_unit_test(test_pfn_under_dirty_log),
		cmocka_unit_test(test_pfn_of_private_memory),
		cmocka_unit_test(test_copy_across_slots),
		cmocka_unit_test(test_all_or_nothing),
		cmocka_unit_test(test_odd_lengths),
		cmocka_unit_test(test_copies_against_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
