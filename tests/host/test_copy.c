/* SPDX-License-Identifier: BSD-2-Clause */
/* vd_guest_copy(): every alignment and length, and no torn unit while another thread stores. */
#include <pthread.h>
#include <string.h>

#include <viaduct/host.h>

#include "../base/test_env.h"

static void copies_exactly_what_it_should(void **state)
{
	static unsigned char from[700], to[700], expected[700];
	uint64_t seed = 3;

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)test_random(&seed);
	for (size_t a = 0; a < 9; a++)
		for (size_t b = 0; b < 9; b++)
			for (size_t length = 0; length < 600; length += length < 70 ? 1 : 37) {
				memset(to, 0xcc, sizeof(to));
				memset(expected, 0xcc, sizeof(expected));
				memcpy(expected + b, from + a, length);
				vd_guest_copy(to + b, from + a, length);
				assert_memory_equal(to, expected, sizeof(to));
			}
}

#define WORDS 512

static _Alignas(64) uint64_t shared[WORDS];
static _Atomic bool stop;

/* Every 8-byte word always holds the same byte eight times, every half the same four times. */
static void *store_words(void *context)
{
	uint64_t seed = 4;

	(void)context;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t value = test_random(&seed);

		vd_guest_store64(&shared[value % WORDS],
				 (value >> 32 & 0xff) * UINT64_C(0x0101010101010101));
	}
	return NULL;
}

static void check_words(const uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (words[i] != (words[i] & 0xff) * UINT64_C(0x0101010101010101))
			fail_msg("torn: %llx", (unsigned long long)words[i]);
}

static void units_are_not_torn(void **state)
{
	static _Alignas(64) uint64_t copy[WORDS];
	uint64_t seed = 5;
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, store_words, NULL);
	for (int i = 0; i < 20000; i++) {
		uint64_t random = test_random(&seed);
		size_t at = random % WORDS, n = (random >> 16) % (WORDS - at) + 1;
		size_t cut = random >> 40 & 7; /* into the first word, which is not looked at */

		vd_guest_copy((char *)&copy[at] + cut, (char *)&shared[at] + cut, n * 8 - cut);
		check_words(copy + at + 1, n - 1);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

static void accessors_load_and_store(void **state)
{
	uint64_t word = 0;

	(void)state;
	vd_guest_store64(&word, UINT64_C(0x1122334455667788));
	assert_int_equal(vd_guest_load8(&word), 0x88);
	assert_int_equal(vd_guest_load16(&word), 0x7788);
	assert_int_equal(vd_guest_load32(&word), 0x55667788);
	vd_guest_store8(&word, 1);
	vd_guest_store16((char *)&word + 2, 2);
	vd_guest_store32((char *)&word + 4, 3);
	assert_int_equal(vd_guest_load64(&word), UINT64_C(0x0000000300027701));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_exactly_what_it_should),
		cmocka_unit_test(units_are_not_torn),
		cmocka_unit_test(accessors_load_and_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
