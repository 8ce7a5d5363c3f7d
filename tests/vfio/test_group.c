/* SPDX-License-Identifier: BSD-2-Clause */
/* Regions smaller than a page: padded, or side by side in their group's memory (E2, E5). */
#include "../base/test_env.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <viaduct/vfio.h>

#define SHIFT 16u /* pages of 64 KiB */
#define PAGE (UINT64_C(1) << SHIFT)

struct rig {
	struct test_env test;
	struct vd_host *host;
};

static void rig_open(struct rig *rig)
{
	struct vd_host_config config = {.env = &rig->test.env, .page_shift = SHIFT};

	test_env_init(&rig->test);
	assert_int_equal(vd_host_create(&config, &rig->host, NULL), 0);
}

static void rig_close(struct rig *rig)
{
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(rig->test.blocks, 0);
}

static int device_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0x77, length);
	return 0;
}

static int device_write(void *context, unsigned region, uint64_t offset, const void *data,
			size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

/* Regions 0, 1, 2 of these sizes, all mappable; in the memory of others, if there is @backing. */
static int make_backed(struct rig *rig, struct vd_group *group, bool pad, const uint64_t sizes[3],
		       const struct vd_region_backing *backing, struct vd_device **device)
{
	static const struct vd_device_ops ops = {.read = device_read, .write = device_write};
	static const unsigned irqs[VD_IRQ_COUNT];
	struct vd_region regions[VD_REGION_COUNT] = {0};
	struct vd_device_config config = {
		.env = &rig->test.env, .host = rig->host, .name = "small", .ops = &ops,
		.regions = regions, .irqs = irqs, .group = group, .pad = pad,
		.backing = backing};
	struct vd_error error = {0};

	for (unsigned i = 0; i < 3; i++)
		if (sizes[i])
			regions[i] = (struct vd_region){
				.size = sizes[i],
				.flags = VD_REGION_READ | VD_REGION_WRITE | VD_REGION_MMAP};
	return vd_device_create(&config, device, &error);
}

static int make(struct rig *rig, struct vd_group *group, bool pad, const uint64_t sizes[3],
		struct vd_device **device)
{
	return make_backed(rig, group, pad, sizes, NULL, device);
}

static uint64_t place(struct vd_device *device, unsigned region, struct vd_host_object **object)
{
	uint64_t offset;

	assert_int_equal(vd_device_map_area(device, region, 0,
					    vd_device_region(device, region)->size, object,
					    &offset), 0);
	assert_int_equal(offset, vd_device_region(device, region)->memory_offset);
	return offset;
}

static void test_padded_ones_have_a_page_each(void **state)
{
	struct vd_host_object *object;
	struct vd_region_area claimed;
	struct vd_device *device;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(make(&rig, NULL, true, (uint64_t[]){256, 4096, PAGE}, &device), 0);
	assert_null(vd_device_group(device));
	assert_int_equal(place(device, 0, &object), 0);
	assert_int_equal(place(device, 1, &object), PAGE);
	assert_int_equal(place(device, 2, &object), 2 * PAGE);
	claimed = vd_device_claimed(device, 1);
	assert_int_equal(claimed.offset, PAGE);
	assert_int_equal(claimed.size, PAGE);
	vd_device_put(device);
	rig_close(&rig);
}

static int count(void *context, const struct vd_region_neighbour *neighbour)
{
	*(uint64_t *)context += neighbour->size;
	return 0;
}

static void test_a_group_packs_by_multiples_of_the_size(void **state)
{
	struct vd_host_object *objects[4];
	struct vd_device *devices[3];
	struct vd_region_area claimed;
	struct vd_group *group;
	uint64_t sum = 0;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_group_create(&rig.test.env, rig.host, "usb", &group, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(make(&rig, group, false, (uint64_t[]){4096, 0, 2 * PAGE},
				      &devices[i]), 0);
	vd_group_put(group);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(place(devices[i], 0, &objects[i]), i * 4096);
		assert_int_equal(place(devices[i], 2, &objects[3]), 0);
		assert_ptr_not_equal(objects[3], objects[i]);
	}
	/* One host mapping. */
	assert_ptr_equal(objects[0], objects[1]);
	assert_ptr_equal(objects[0], objects[2]);
	claimed = vd_device_claimed(devices[1], 0);
	assert_int_equal(claimed.offset, 4096);
	assert_int_equal(claimed.size, 4096);
	assert_int_equal(vd_device_each_neighbour(devices[2], 0, count, &sum), 0);
	assert_int_equal(sum, 3 * 4096);
	/* What is free again is given again, and empty; nothing crosses a page. */
	vd_guest_store32(vd_device_memory(devices[1], 0, 0, 4), 0xdeadbeef);
	vd_device_put(devices[1]);
	assert_int_equal(make(&rig, group, false, (uint64_t[]){4096, 40000, 0}, &devices[1]), 0);
	assert_int_equal(place(devices[1], 0, &objects[1]), 4096);
	assert_int_equal(place(devices[1], 1, &objects[1]), PAGE);
	assert_int_equal(vd_guest_load32(vd_device_memory(devices[1], 0, 0, 4)), 0);
	for (unsigned i = 0; i < 3; i++)
		vd_device_put(devices[i]);
	rig_close(&rig);
}

/* E7: the slow path shows the same bytes, of this region and no other. */
static void test_both_paths_show_the_same(void **state)
{
	struct vd_device *device;
	uint32_t value = 0x12345678, got;
	struct vd_group *group;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(make(&rig, NULL, false, (uint64_t[]){256, 256, 0}, &device), 0);
	group = vd_device_group(device);
	assert_non_null(group);
	assert_int_equal(vd_device_write(device, 1, (vd_region_offset){252}, &value, 4), 0);
	assert_int_equal(vd_guest_load32(vd_device_memory(device, 1, 252, 4)), value);
	vd_guest_store32(vd_device_memory(device, 0, 8, 4), 77);
	assert_int_equal(vd_device_read(device, 0, (vd_region_offset){8}, &got, 4), 0);
	assert_int_equal(got, 77);
	assert_int_equal(vd_device_read(device, 1, (vd_region_offset){8}, &got, 4), 0);
	assert_int_equal(got, 0);
	assert_null(vd_device_memory(device, 0, 254, 4));
	vd_device_put(device);
	rig_close(&rig);
}

static void test_a_group_has_one_user(void **state)
{
	struct vd_group *group;
	int one, other;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_group_create(&rig.test.env, rig.host, "usb", &group, NULL), 0);
	assert_int_equal(vd_group_take(group, &one), 0);
	assert_int_equal(vd_group_take(group, &one), 0);
	assert_int_equal(vd_group_take(group, &other), -EBUSY);
	vd_group_leave(group);
	assert_int_equal(vd_group_take(group, &other), -EBUSY);
	vd_group_leave(group);
	assert_int_equal(vd_group_take(group, &other), 0);
	vd_group_leave(group);
	vd_group_put(group);
	rig_close(&rig);
}

/* A reset of one empties every mirror of its page, and of no other page. */
struct witness {
	struct vd_listener listener;
	uint64_t low, high;
	unsigned events;
};

static int witness_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct witness *witness = (struct witness *)(void *)listener;

	witness->events++;
	witness->low = event->start;
	witness->high = event->start + event->length;
	return 0;
}

static void test_a_reset_is_heard_for_its_page(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = witness_start};
	struct witness witness = {.listener = {.ops = &ops}};
	struct vd_device *devices[2];
	struct vd_group *group;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_group_create(&rig.test.env, rig.host, "usb", &group, NULL), 0);
	assert_int_equal(make(&rig, group, false, (uint64_t[]){40000, 0, 0}, &devices[0]), 0);
	assert_int_equal(make(&rig, group, false, (uint64_t[]){40000, 0, 0}, &devices[1]), 0);
	vd_group_put(group);
	assert_int_equal(vd_notifier_register(vd_host_notifier(rig.host), &witness.listener), 0);
	assert_int_equal(vd_device_reset(devices[1], VD_RESET_FUNCTION), 0);
	assert_int_equal(witness.events, 1);
	assert_int_equal(witness.low, PAGE);
	assert_int_equal(witness.high, 2 * PAGE);
	vd_notifier_unregister(vd_host_notifier(rig.host), &witness.listener);
	vd_device_put(devices[0]);
	vd_device_put(devices[1]);
	rig_close(&rig);
}

static void test_a_group_is_full_at_some_time(void **state)
{
	struct vd_device *devices[VD_GROUP_PLACES_MAX], *one;
	struct vd_group *group;
	struct rig rig, other;

	(void)state;
	rig_open(&rig);
	rig_open(&other);
	assert_int_equal(vd_group_create(&rig.test.env, rig.host, "usb", &group, NULL), 0);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++)
		assert_int_equal(make(&rig, group, false, (uint64_t[]){40000, 0, 0}, &devices[i]),
				 0);
	assert_int_equal(make(&rig, group, false, (uint64_t[]){16, 0, 0}, &one), -ENOSPC);
	assert_int_equal(make(&other, group, false, (uint64_t[]){16, 0, 0}, &one), -EXDEV);
	assert_int_equal(make(&rig, group, true, (uint64_t[]){16, 0, 0}, &one), 0);
	vd_device_put(one);
	for (unsigned i = 0; i < VD_GROUP_PLACES_MAX; i++)
		vd_device_put(devices[i]);
	vd_group_put(group);
	rig_close(&other);
	rig_close(&rig);
}

static void test_without_memory(void **state)
{
	struct vd_device *device;
	struct rig rig;
	int r = -1;

	(void)state;
	rig_open(&rig);
	for (long step = 1; r; step++) {
		long before = rig.test.blocks;

		test_env_fail(&rig.test, step, -ENOMEM);
		r = make(&rig, NULL, false, (uint64_t[]){256, 4096, PAGE}, &device);
		test_env_fail(&rig.test, 0, 0);
		if (r)
			vd_env_hosted_drain();
		assert_true(!r || r == -ENOMEM);
		assert_true(!r || rig.test.blocks <= before);
		assert_true(step < 40);
	}
	vd_device_put(device);
	rig_close(&rig);
}

/* A page of somebody else's that regions of a group lie in: one object, each at its place. */
static void test_a_shared_page_of_others(void **state)
{
	struct vd_region_backing backing[2][VD_REGION_COUNT];
	struct vd_host_object *objects[4];
	struct vd_device *devices[2], *refused;
	struct vd_group *group;
	uint64_t sum = 0;
	struct rig rig;
	int fd;

	(void)state;
	rig_open(&rig);
	fd = memfd_create("others", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0 && !ftruncate(fd, 2 * PAGE) &&
		    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	memset(backing, 0xff, sizeof(backing)); /* no descriptors */
	for (unsigned i = 0; i < 2; i++)
		for (unsigned region = 0; region < 2; region++)
			backing[i][region] = (struct vd_region_backing){
				fd, PAGE + (2 * i + region) * 512, true};
	assert_int_equal(vd_group_create(&rig.test.env, rig.host, "usb", &group, NULL), 0);
	/* Each allocation fails once, and nothing is left of it. */
	for (unsigned n = 1; ; n++) {
		test_env_fail(&rig.test, (long)n, -ENOMEM);
		if (!make_backed(&rig, group, false, (uint64_t[]){512, 256, 0}, backing[0],
				 &devices[0]))
			break;
		assert_true(n < 50);
	}
	test_env_fail(&rig.test, 0, 0);
	assert_int_equal(make_backed(&rig, group, false, (uint64_t[]){512, 256, 0}, backing[1],
				     &devices[1]), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(place(devices[i / 2], i % 2, &objects[i]), i * 512);
	for (unsigned i = 1; i < 4; i++)
		assert_ptr_equal(objects[i], objects[0]);
	assert_int_equal(vd_host_object_size(objects[0]), PAGE);
	assert_int_equal(vd_device_claimed(devices[1], 1).offset, 3 * 512);
	assert_int_equal(vd_device_claimed(devices[1], 1).size, 256);
	assert_int_equal(vd_device_each_neighbour(devices[1], 0, count, &sum), 0);
	assert_int_equal(sum, 2 * (512 + 256));
	assert_ptr_equal(vd_device_group(devices[0]), group);
	/* One that leaves the page is none that shares it. */
	backing[1][0].offset = 2 * PAGE - 256;
	assert_int_equal(make_backed(&rig, group, false, (uint64_t[]){512, 256, 0}, backing[1],
				     &refused), -EINVAL);
	/* Who has gone is no neighbour, and keeps nothing; who is left keeps his page. */
	vd_device_put(devices[0]);
	sum = 0;
	assert_int_equal(vd_device_each_neighbour(devices[1], 0, count, &sum), 0);
	assert_int_equal(sum, 512 + 256);
	assert_int_equal(pwrite(fd, "x", 1, PAGE + 2 * 512), 1);
	assert_int_equal(*(char *)vd_device_memory(devices[1], 0, 0, 1), 'x');
	vd_device_put(devices[1]);
	vd_group_put(group);
	close(fd);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_shared_page_of_others),
		cmocka_unit_test(test_padded_ones_have_a_page_each),
		cmocka_unit_test(test_a_group_packs_by_multiples_of_the_size),
		cmocka_unit_test(test_both_paths_show_the_same),
		cmocka_unit_test(test_a_group_has_one_user),
		cmocka_unit_test(test_a_reset_is_heard_for_its_page),
		cmocka_unit_test(test_a_group_is_full_at_some_time),
		cmocka_unit_test(test_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
