/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "../base/test_env.h"

#include <viaduct/vfio.h>

static void test_round_trip(void **state)
{
	struct vd_stream out, in;
	unsigned char big[5000], back[5000];
	struct test_env test;

	(void)state;
	test_env_init(&test);
	out = (struct vd_stream){.env = &test.env};
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 3);
	vd_stream_put_u64(&out, UINT64_C(0x0102030405060708));
	vd_stream_put(&out, big, sizeof(big));
	vd_stream_put(&out, NULL, 0);
	vd_stream_put_u64(&out, UINT64_MAX);
	assert_false(out.failed);
	assert_int_equal(out.length, sizeof(big) + 16);
	assert_memory_equal(out.data, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	in = (struct vd_stream){.data = out.data, .length = out.length};
	assert_int_equal(vd_stream_get_u64(&in), UINT64_C(0x0102030405060708));
	vd_stream_get(&in, back, sizeof(back));
	assert_memory_equal(back, big, sizeof(big));
	vd_stream_get(&in, NULL, 0);
	assert_int_equal(vd_stream_get_u64(&in), UINT64_MAX);
	assert_false(in.failed);
	assert_int_equal(in.position, in.length);
	vd_stream_fini(&in); /* not its own bytes */
	vd_stream_fini(&out);
	assert_null(out.data);
	assert_int_equal(test.blocks, 0);
}

/* A loader that reads past the end gets zeroes, from there on. */
static void test_past_the_end(void **state)
{
	unsigned char bytes[12];
	struct vd_stream in = {.data = bytes, .length = sizeof(bytes)};
	unsigned char out[8];

	(void)state;
	memset(bytes, 0xee, sizeof(bytes));
	vd_stream_get(&in, out, 8);
	assert_int_equal(out[7], 0xee);
	memset(out, 1, sizeof(out));
	vd_stream_get(&in, out, 5);
	assert_true(in.failed);
	assert_memory_equal(out, "\0\0\0\0\0\1\1\1", 8);
	/* the first error sticks, though there would be enough */
	assert_int_equal(vd_stream_get_u64(&in), 0);
	vd_stream_get(&in, out, 1);
	assert_int_equal(out[0], 0);
	assert_int_equal(in.position, 8);
	/* positions and lengths that make no sense */
	in = (struct vd_stream){.data = bytes, .length = 4, .position = 6};
	vd_stream_get(&in, out, 1);
	assert_true(in.failed);
	in = (struct vd_stream){.data = bytes, .length = sizeof(bytes), .position = 4};
	vd_stream_get(&in, out, 0);
	assert_false(in.failed);
}

static void test_no_memory(void **state)
{
	struct vd_stream out;
	struct test_env test;
	char bytes[300] = {0};

	(void)state;
	test_env_init(&test);
	out = (struct vd_stream){.env = &test.env};
	test_env_fail(&test, 2, -ENOMEM);
	vd_stream_put(&out, bytes, 100);
	assert_false(out.failed);
	vd_stream_put(&out, bytes, 300);
	assert_true(out.failed);
	assert_int_equal(out.length, 100);
	vd_stream_put(&out, bytes, 1); /* there is room, but a gap would be worse */
	assert_int_equal(out.length, 100);
	vd_stream_fini(&out);
	/* a stream to load from takes nothing */
	out = (struct vd_stream){.data = (uint8_t *)bytes, .length = 10};
	vd_stream_put(&out, bytes, 1);
	assert_true(out.failed);
	/* lengths that wrap */
	out = (struct vd_stream){.env = &test.env};
	vd_stream_put(&out, bytes, 8);
	vd_stream_put(&out, bytes, SIZE_MAX - 4);
	assert_true(out.failed);
	vd_stream_fini(&out);
	assert_int_equal(test.blocks, 0);
}

/* Random pieces in, the same pieces out. */
static void test_pieces(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		uint64_t in_random = seed, out_random = seed;
		struct vd_stream out = {.env = vd_env_hosted()}, in;
		unsigned char bytes[700];

		*test_seed() = seed;
		for (unsigned i = 0; i < 200; i++) {
			size_t length = test_random(&in_random) % sizeof(bytes);

			memset(bytes, (int)(test_random(&in_random) & 0xff), length);
			vd_stream_put(&out, bytes, length);
		}
		in = (struct vd_stream){.data = out.data, .length = out.length};
		for (unsigned i = 0; i < 200; i++) {
			size_t length = test_random(&out_random) % sizeof(bytes);
			unsigned char value = (unsigned char)test_random(&out_random);

			vd_stream_get(&in, bytes, length);
			for (size_t k = 0; k < length; k++)
				assert_int_equal(bytes[k], value);
		}
		assert_false(in.failed);
		assert_int_equal(in.position, in.length);
		vd_stream_fini(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_past_the_end),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test_teardown(test_pieces, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
