/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "test_env.h"

static void returns_the_code(void **state)
{
	struct vd_error error = {0};

	(void)state;
	assert_int_equal(vd_error_set(&error, -EINVAL, "no"), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	assert_string_equal(error.text, "no");
	assert_int_equal(vd_error_set(NULL, -ENOMEM, "%s", "ignored"), -ENOMEM);
}

static void formats_like_printf(void **state)
{
	struct vd_error error;
	const char *none = NULL;

	(void)state;
	vd_error_set(&error, -1, "%s %d %u %x %c %%", "text", -5, 7u, 0xbeefu, '!');
	assert_string_equal(error.text, "text -5 7 beef ! %");
	vd_error_set(&error, -1, "%ld %lu %lx %zu %llx", INT64_MIN, UINT64_MAX, UINT64_MAX,
		     (size_t)9, 0x123456789abcdefull);
	assert_string_equal(error.text, "-9223372036854775808 18446744073709551615 "
			    "ffffffffffffffff 9 123456789abcdef");
	vd_error_set(&error, -1, "%04x|%4d|%3s|%2s|%02u|%08lx", 0xau, -3, "a", "abc", 123u, 1ul);
	assert_string_equal(error.text, "000a|  -3|  a|abc|123|00000001");
	vd_error_set(&error, -1, "%05d|%s|%u", -3, none ? none : "(null)", 0u);
	assert_string_equal(error.text, "-0003|(null)|0");
}

static void cuts_what_does_not_fit(void **state)
{
	struct vd_error error;
	char text[400];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memset(&error, 0x55, sizeof(error));
	vd_error_set(&error, -E2BIG, "%s%d", text, 12);
	assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
	assert_memory_equal(error.text, text, sizeof(error.text) - 1);
}

/* Against the C library, over random numbers and conversions. */
static void agrees_with_the_library(void **state)
{
	uint64_t seed = 1;
	struct vd_error error;
	char expected[252];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t value = test_random(&seed) >> (test_random(&seed) % 64);
		unsigned u = (unsigned)value;

		vd_error_set(&error, -1, "a%db%uc%xd%lde%luf%lxg%016lxh%7di", (int)u, u, u,
			     (long)value, (unsigned long)value, (unsigned long)value,
			     (unsigned long)value, (int)(u % 100000));
		snprintf(expected, sizeof(expected), "a%db%uc%xd%lde%luf%lxg%016lxh%7di", (int)u, u,
			 u, (long)value, (unsigned long)value, (unsigned long)value,
			 (unsigned long)value, (int)(u % 100000));
		assert_string_equal(error.text, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(returns_the_code),
		cmocka_unit_test(formats_like_printf),
		cmocka_unit_test(cuts_what_does_not_fit),
		cmocka_unit_test(agrees_with_the_library),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
