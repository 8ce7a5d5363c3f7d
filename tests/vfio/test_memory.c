/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adder.h"

static int map_area(struct rig *rig, unsigned region, uint64_t offset, uint64_t length,
		    struct vd_host_object **object, uint64_t *at)
{
	return vd_device_map_area(rig->adder.device, region, offset, length, object, at);
}

/* A2, A8, E6: what is no area of the device's own cannot be had, however it is asked for. */
static void test_map_area(void **state)
{
	struct vd_host_object *mixed, *memory;
	struct vd_host_page page;
	struct rig rig;
	uint64_t at;

	(void)state;
	rig_open(&rig);
	assert_int_equal(map_area(&rig, VD_REGION_BAR0, 0, PAGE, &mixed, &at), -EOPNOTSUPP);
	assert_int_equal(map_area(&rig, VD_REGION_ROM, 0, 16, &mixed, &at), -EOPNOTSUPP);
	assert_int_equal(map_area(&rig, VD_REGION_BAR3, 0, PAGE, &mixed, &at), -EINVAL);
	assert_int_equal(map_area(&rig, VD_REGION_COUNT, 0, PAGE, &mixed, &at), -EINVAL);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, PAGE, PAGE, &mixed, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 0, 2 * PAGE, &mixed, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 0, 3 * PAGE, &mixed, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 0, 0, &mixed, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 8192, UINT64_MAX, &mixed, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR2, ADDER_BAR2, PAGE, &memory, &at), -ERANGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR2, UINT64_MAX, 2, &memory, &at), -ERANGE);

	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 2 * PAGE, PAGE, &mixed, &at), 0);
	assert_int_equal(at, vd_device_region(rig.adder.device, VD_REGION_BAR1)->memory_offset +
				 2 * PAGE);
	assert_int_equal(map_area(&rig, VD_REGION_BAR2, 0, ADDER_BAR2, &memory, &at), 0);
	assert_int_equal(at, vd_device_region(rig.adder.device, VD_REGION_BAR2)->memory_offset);
	/* one type an object: prefetchable or not */
	assert_ptr_not_equal(mixed, memory);
	assert_int_equal(vd_host_object_lookup(mixed, 0, VD_READ, &page), 0);
	assert_int_equal(page.kind, VD_PAGE_DEVICE);
	assert_int_equal(page.type, VD_MEMORY_UNCACHED);
	assert_int_equal(vd_host_object_lookup(memory, 0, VD_READ, &page), 0);
	assert_int_equal(page.type, VD_MEMORY_WRITE_COMBINING);
	rig_close(&rig);
}

/*
 * Whoever has the descriptor can neither shrink nor grow nor unseal it; trapped parts hold nothing.
 */
static void test_sealed_and_sparse(void **state)
{
	struct vd_host_object *object;
	struct rig rig;
	uint64_t at;
	int fd;

	(void)state;
	rig_open(&rig);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 0, PAGE, &object, &at), 0);
	fd = vd_host_object_fd(object);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 100 * PAGE), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	*(char *)vd_device_memory(rig.adder.device, VD_REGION_BAR1, 2 * PAGE, 1) = 1;
	assert_int_equal(vd_device_write(rig.adder.device, VD_REGION_BAR1, (vd_region_offset){PAGE},
					 "x", 1), 0);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), 2 * PAGE);
	assert_int_equal(lseek(fd, 2 * PAGE, SEEK_HOLE), 3 * PAGE);
	rig_close(&rig);
}

static void test_own_view(void **state)
{
	struct rig rig;
	char *p;

	(void)state;
	rig_open(&rig);
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_BAR0, 0, 4));
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_BAR1, PAGE, 1));
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_BAR1, PAGE - 1, 2));
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_BAR1, 0, 0));
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_BAR2, 0, UINT64_MAX));
	assert_null(vd_device_memory(rig.adder.device, VD_REGION_COUNT, 0, 1));
	p = vd_device_memory(rig.adder.device, VD_REGION_BAR2, 0, ADDER_BAR2);
	assert_non_null(p);
	assert_ptr_equal(vd_device_memory(rig.adder.device, VD_REGION_BAR2, PAGE + 5, 1),
			 p + PAGE + 5);
	rig_close(&rig);
}

/* In the guest it is an ordinary slot over the object; the guest's bytes are the device's. */
static void test_in_a_slot(void **state)
{
	struct vd_slot_config slot = {.base = {0x40000000}, .size = PAGE, .kind = VD_SLOT_DEVICE};
	struct vd_mem_page page;
	struct rig rig;
	char *pointer;

	(void)state;
	rig_open(&rig);
	assert_int_equal(map_area(&rig, VD_REGION_BAR1, 2 * PAGE, PAGE, &slot.object,
				  &slot.offset), 0);
	add_slot(&rig.f, &slot);
	assert_int_equal(vd_mem_gpa_to_pfn(rig.f.mem, slot.base, VD_WRITE, &page), 0);
	assert_int_equal(page.host.kind, VD_PAGE_DEVICE);
	pointer = vd_host_pointer(vd_host_window_base(rig.f.host), page.host.pfn,
				  vd_host_page_shift(rig.f.host));
	assert_ptr_equal(pointer, vd_device_memory(rig.adder.device, VD_REGION_BAR1, 2 * PAGE, 1));
	rig_close(&rig);
}

/* ---- memory of somebody else's -------------------------------------------------------------- */

struct backed {
	struct rig rig;
	struct vd_region_backing backing[VD_REGION_COUNT];
	struct vd_device_config config;
	struct vd_error error;
	int fd;
};

static void backed_open(struct backed *b, uint64_t size, unsigned seals)
{
	rig_open(&b->rig);
	vd_device_put(b->rig.adder.device);
	b->rig.adder.device = NULL;
	b->fd = memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(b->fd, (off_t)size), 0);
	if (seals)
		assert_int_equal(fcntl(b->fd, F_ADD_SEALS, seals), 0);
	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		b->backing[i].fd = -1;
	b->config = adder_config(&b->rig.f, &b->rig.adder);
	b->config.backing = b->backing;
	b->error = (struct vd_error){.text = ""};
}

static int backed_create(struct backed *b)
{
	return vd_device_create(&b->config, &b->rig.adder.device, &b->error);
}

static void backed_close(struct backed *b)
{
	if (b->fd >= 0)
		close(b->fd);
	rig_close(&b->rig);
}

static void test_backed(void **state)
{
	struct vd_host_object *object;
	struct backed b;
	uint64_t at;
	char byte;

	(void)state;
	backed_open(&b, 5 * PAGE, F_SEAL_SHRINK);
	b.backing[VD_REGION_BAR0].fd = 99999; /* not mappable: not looked at */
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){b.fd, 2 * PAGE, false};
	assert_int_equal(backed_create(&b), 0);
	/* the last area ends a page before the region does, and the file with it */
	assert_int_equal(map_area(&b.rig, VD_REGION_BAR1, 2 * PAGE, PAGE, &object, &at), 0);
	assert_int_equal(at, 2 * PAGE);
	assert_int_equal(vd_host_object_size(object), 3 * PAGE);
	assert_int_equal(map_area(&b.rig, VD_REGION_BAR1, PAGE, PAGE, &object, &at), -ERANGE);
	assert_int_equal(pwrite(b.fd, "x", 1, 4 * PAGE + 5), 1);
	assert_int_equal(*(char *)vd_device_memory(b.rig.adder.device, VD_REGION_BAR1, 2 * PAGE + 5,
						   1), 'x');
	assert_int_equal(vd_device_write(b.rig.adder.device, VD_REGION_BAR1,
					 (vd_region_offset){7}, "y", 1), 0);
	assert_int_equal(pread(b.fd, &byte, 1, 2 * PAGE + 7), 1);
	assert_int_equal(byte, 'y');
	/* trapped bytes do not come from there */
	assert_int_equal(vd_device_read(b.rig.adder.device, VD_REGION_BAR1,
					(vd_region_offset){PAGE + 3}, &byte, 1), 0);
	assert_int_equal(byte, 3);
	/* the other region is the core's own, as ever; a descriptor is a duplicate */
	close(b.fd);
	b.fd = -1;
	assert_int_equal(map_area(&b.rig, VD_REGION_BAR2, 0, ADDER_BAR2, &object, &at), 0);
	assert_int_equal(at, 0);
	assert_non_null(vd_device_memory(b.rig.adder.device, VD_REGION_BAR1, 0, PAGE));
	assert_int_equal(vd_device_reset(b.rig.adder.device, VD_RESET_BUS), 0);
	backed_close(&b);
}

static void test_backed_refusals(void **state)
{
	struct backed b;
	int pipes[2];

	(void)state;
	backed_open(&b, 4 * PAGE, F_SEAL_SHRINK);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){b.fd, 2 * PAGE, false}; /* too short */
	assert_int_equal(backed_create(&b), -EINVAL);
	assert_true(b.error.text[0]);
	b.backing[VD_REGION_BAR1].offset = 5;
	assert_int_equal(backed_create(&b), -EINVAL);
	b.backing[VD_REGION_BAR1].offset = UINT64_MAX - PAGE + 1;
	assert_int_equal(backed_create(&b), -EINVAL);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){99999, 0, false};
	assert_int_equal(backed_create(&b), -EINVAL);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){pipes[0], 0, false};
	assert_true(backed_create(&b) < 0);
	close(pipes[0]);
	close(pipes[1]);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){b.fd, 0, false};
	assert_int_equal(backed_create(&b), 0);
	backed_close(&b);
	/* one that can be cut, without the guard */
	backed_open(&b, 4 * PAGE, 0);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){b.fd, 0, false};
	assert_int_equal(backed_create(&b), -EPERM);
	assert_true(b.error.text[0]);
	backed_close(&b);
}

/* With the guard: whoever cuts his file loses his bytes, not our process. */
static void test_backed_cut(void **state)
{
	struct backed b;
	char bytes[8];

	(void)state;
	assert_int_equal(vd_host_guard_install(NULL), 0);
	backed_open(&b, 4 * PAGE, 0);
	b.backing[VD_REGION_BAR1] = (struct vd_region_backing){b.fd, 0, false};
	assert_int_equal(backed_create(&b), 0);
	assert_int_equal(vd_device_write(b.rig.adder.device, VD_REGION_BAR1,
					 (vd_region_offset){0}, "12345678", 8), 0);
	assert_int_equal(ftruncate(b.fd, 0), 0);
	assert_int_equal(vd_device_read(b.rig.adder.device, VD_REGION_BAR1,
					(vd_region_offset){2 * PAGE}, bytes, 8), -EIO);
	assert_int_equal(bytes[0], -1);
	assert_int_equal(vd_device_write(b.rig.adder.device, VD_REGION_BAR1,
					 (vd_region_offset){0}, "12345678", 8), -EIO);
	backed_close(&b);
	vd_host_guard_uninstall();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_area),
		cmocka_unit_test(test_sealed_and_sparse),
		cmocka_unit_test(test_own_view),
		cmocka_unit_test(test_in_a_slot),
		cmocka_unit_test(test_backed),
		cmocka_unit_test(test_backed_refusals),
		cmocka_unit_test(test_backed_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
