/* SPDX-License-Identifier: BSD-2-Clause */
/* A device whose state is plain bytes and mapped memory. */
#include "rig.h"

#define AREA 0x10000u

struct flat {
	uint32_t state[4];
	struct vd_device *device;
};

static int flat_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0, length);
	return 0;
}

static int flat_write(void *context, unsigned region, uint64_t offset, const void *data,
		      size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

static const struct vd_device_ops flat_ops = {.read = flat_read, .write = flat_write};

static void flat_create(struct rig *rig, struct flat *flat)
{
	struct vd_pci_function_config config = {
		.env = &rig->test.env, .host = rig->host, .name = "flat",
		.identity = {.vendor = 0x1234, .device = 1, .class_code = 0xff0000},
		.bars = {
			[0] = {.size = 4096},
			[2] = {.size = 4 * AREA, .area_count = 2,
			       .areas = {{AREA, AREA}, {3 * AREA, AREA}}},
		},
		.ops = &flat_ops, .context = flat, .state = flat->state,
		.state_size = sizeof(flat->state),
	};

	assert_int_equal(vd_pci_function_create(&config, &flat->device, NULL), 0);
}

static uint32_t *word(struct flat *flat, uint64_t offset)
{
	uint32_t *memory = vd_device_memory(flat->device, 2, offset, 4);

	assert_non_null(memory);
	return memory;
}

static void test_state_and_memory_go_along(void **state)
{
	struct flat from = {.state = {1, 2, 3, 4}}, to = {.state = {9, 9, 9, 9}};
	struct vd_stream saved, again;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	flat_create(&rig, &from);
	flat_create(&rig, &to);
	saved = (struct vd_stream){.env = &rig.test.env};
	vd_guest_store32(word(&from, AREA), 0x11111111);
	vd_guest_store32(word(&from, 4 * AREA - 4), 0x22222222);
	assert_int_equal(vd_device_save(from.device, &saved), 0);
	assert_true(saved.length > 2 * AREA);
	/* One byte too few, anywhere: nothing changes. */
	for (size_t length = 0; length < saved.length; length += 1 + length / 7) {
		again = (struct vd_stream){.data = saved.data, .length = length};
		assert_int_equal(vd_device_load(to.device, &again, NULL), -EINVAL);
		assert_int_equal(to.state[0], 9);
		assert_int_equal(vd_guest_load32(word(&to, AREA)), 0);
	}
	again = (struct vd_stream){.data = saved.data, .length = saved.length};
	assert_int_equal(vd_device_load(to.device, &again, NULL), 0);
	assert_memory_equal(from.state, to.state, sizeof(to.state));
	assert_int_equal(vd_guest_load32(word(&to, AREA)), 0x11111111);
	assert_int_equal(vd_guest_load32(word(&to, 4 * AREA - 4)), 0x22222222);
	vd_stream_fini(&saved);
	vd_device_put(from.device);
	vd_device_put(to.device);
	rig_close(&rig);
}

static void test_a_stream_without_memory_fails(void **state)
{
	struct flat flat = {.state = {1}};
	struct vd_stream saved;
	struct rig rig;
	long step = 0;

	(void)state;
	rig_open(&rig, true);
	flat_create(&rig, &flat);
	do {
		saved = (struct vd_stream){.env = &rig.test.env};
		test_env_fail(&rig.test, ++step, -ENOMEM);
		if (!vd_device_save(flat.device, &saved))
			break;
		assert_true(test_env_failed(&rig.test));
		vd_stream_fini(&saved);
	} while (step < 100);
	assert_true(step > 1 && step < 100);
	test_env_fail(&rig.test, 0, 0);
	vd_stream_fini(&saved);
	vd_device_put(flat.device);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_and_memory_go_along),
		cmocka_unit_test(test_a_stream_without_memory_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
