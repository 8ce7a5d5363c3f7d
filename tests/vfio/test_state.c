/* SPDX-License-Identifier: BSD-2-Clause */
#include "adder.h"

static struct vd_stream saved_state(struct rig *rig)
{
	struct vd_stream stream = {.env = rig->f.env};

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(rig_write(rig, i, 0x1000 + i), 0);
	assert_int_equal(vd_device_save(rig->adder.device, &stream), 0);
	return stream;
}

static int load_bytes(struct rig *rig, uint8_t *data, size_t length, struct vd_error *error)
{
	struct vd_stream in = {.data = data, .length = length};

	return vd_device_load(rig->adder.device, &in, error);
}

static void test_round_trip(void **state)
{
	struct vd_stream stream;
	struct rig rig, other;

	(void)state;
	rig_open(&rig);
	rig_open(&other);
	stream = saved_state(&rig);
	assert_int_equal(rig.adder.quiesces, 1);
	assert_int_equal(rig.adder.resumes, 1);
	assert_int_equal(load_bytes(&other, stream.data, stream.length, NULL), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(rig_read(&other, i), 0x1000 + i);
	assert_int_equal(other.adder.quiesces, 1);
	assert_int_equal(other.adder.resumes, 1);
	vd_stream_fini(&stream);
	rig_close(&other);
	rig_close(&rig);
}

/* Several devices in one stream: each takes its own. */
static void test_one_after_the_other(void **state)
{
	struct vd_stream stream, in;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	stream = saved_state(&rig);
	assert_int_equal(rig_write(&rig, 0, 5), 0);
	assert_int_equal(vd_device_save(rig.adder.device, &stream), 0);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(rig.adder.device, &in, NULL), 0);
	assert_int_equal(rig_read(&rig, 0), 0x1000);
	assert_int_equal(vd_device_load(rig.adder.device, &in, NULL), 0);
	assert_int_equal(rig_read(&rig, 0), 5);
	assert_int_equal(vd_device_load(rig.adder.device, &in, NULL), -EINVAL);
	vd_stream_fini(&stream);
	rig_close(&rig);
}

/* Cut off anywhere, it is refused with a reason, and the device is as it was. */
static void test_truncated(void **state)
{
	struct vd_stream stream;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	stream = saved_state(&rig);
	assert_int_equal(rig_write(&rig, 0, 77), 0);
	for (size_t length = 0; length < stream.length; length++) {
		struct vd_error error = {.text = ""};
		uint8_t *copy = malloc(length ? length : 1); /* so that a sanitizer sees the end */

		memcpy(copy, stream.data, length);
		assert_int_equal(load_bytes(&rig, copy, length, &error), -EINVAL);
		assert_true(error.text[0]);
		assert_int_equal(rig_read(&rig, 0), 77);
		free(copy);
	}
	vd_stream_fini(&stream);
	rig_close(&rig);
}

/* Random bytes turned: either refused and unchanged, or taken; never worse. */
static void test_corrupted(void **state)
{
	struct vd_stream stream;
	struct rig rig;
	unsigned refused = 0;

	(void)state;
	rig_open(&rig);
	stream = saved_state(&rig);
	for (uint64_t seed = 1; seed <= 3000; seed++) {
		uint64_t random = seed;
		size_t length = stream.length - test_random(&random) % 3;
		uint8_t *copy = malloc(length);

		*test_seed() = seed;
		memcpy(copy, stream.data, length);
		for (uint64_t n = 1 + test_random(&random) % 4; n; n--)
			copy[test_random(&random) % length] ^= 1 << test_random(&random) % 8;
		assert_int_equal(rig_write(&rig, 0, 77), 0);
		if (load_bytes(&rig, copy, length, NULL)) {
			assert_int_equal(rig_read(&rig, 0), 77);
			refused++;
		}
		free(copy);
	}
	assert_true(refused > 2000);
	vd_stream_fini(&stream);
	rig_close(&rig);
}

static void test_refusals(void **state)
{
	struct vd_stream stream, out;
	struct vd_error error = {.text = ""};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	stream = saved_state(&rig);
	/* another device's */
	stream.data[8] = 'b';
	assert_int_equal(load_bytes(&rig, stream.data, stream.length, &error), -EINVAL);
	assert_non_null(strstr(error.text, "another device"));
	stream.data[8] = 'a';
	rig.adder.load_fails = true;
	assert_int_equal(load_bytes(&rig, stream.data, stream.length, &error), -EINVAL);
	assert_non_null(strstr(error.text, "refuses"));
	rig.adder.load_fails = false;
	/* a device that does not come to rest has no state */
	rig.adder.quiesce_result = -EIO;
	out = (struct vd_stream){.env = rig.f.env};
	assert_int_equal(vd_device_save(rig.adder.device, &out), -EIO);
	assert_true(out.failed);
	assert_int_equal(load_bytes(&rig, stream.data, stream.length, &error), -EIO);
	vd_stream_fini(&out);
	rig.adder.quiesce_result = 0;
	/* no memory */
	out = (struct vd_stream){.env = rig.f.env};
	test_env_fail(&rig.f.test, 1, -ENOMEM);
	assert_int_equal(vd_device_save(rig.adder.device, &out), -ENOMEM);
	assert_int_equal(rig.adder.resumes, rig.adder.quiesces - 2);
	vd_stream_fini(&out);
	vd_stream_fini(&stream);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test_teardown(test_corrupted, test_seed_print),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
