/* SPDX-License-Identifier: BSD-2-Clause */
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct interleave_result result;

#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
#define SECOND_BUILD true
#else
#define SECOND_BUILD false
#endif

#define FOREVER 1e6

static bool is_nightly(void)
{
	const char *nightly = getenv("VIADUCT_NIGHTLY");

	return nightly && *nightly && strcmp(nightly, "0");
}

static void report(const struct interleave_case *test, const char *what)
{
	print_message("%-28s %s: %llu schedules, %llu cut short, of up to %u steps, %.2f s\n",
		      test->name, what, (unsigned long long)result.schedules,
		      (unsigned long long)result.cut, result.longest, result.seconds);
}

static void run_for(const struct interleave_case *test, double seconds)
{
	interleave_explore(test, seconds, &result);
	report(test, result.complete ? "every interleaving" : "some interleavings");
	if (result.failed)
		fail_msg("%s:\n%s", result.text, result.schedule);
}

void run_all(const struct interleave_case *test)
{
	run_for(test, is_nightly() ? FOREVER : SECOND_BUILD ? 1 : 60);
	assert_true(result.complete || SECOND_BUILD);
}

void run_most(const struct interleave_case *test, double seconds)
{
	/* Some have more interleavings than a night has minutes. */
	if (is_nightly())
		seconds = 600;
	run_for(test, SECOND_BUILD ? seconds / 4 : seconds);
}

void run_some(const struct interleave_case *test, double seconds)
{
	seconds = is_nightly() ? 60 : SECOND_BUILD ? seconds / 4 : seconds;
	run_for(test, seconds / 2);
	interleave_sample(test, 1, UINT64_MAX, seconds / 2, &result);
	report(test, "by chance");
	if (result.failed)
		fail_msg("%s:\n%s", result.text, result.schedule);
}

void run_planted(const struct interleave_case *test, const char *text)
{
	interleave_explore(test, 60, &result);
	report(test, "planted bug");
	plants = (struct plants){0};
	assert_true(result.failed);
	print_message("  found: %s\n", result.text);
	if (getenv("VIADUCT_VERBOSE"))
		print_message("%s", result.schedule);
	if (!strstr(result.text, text))
		fail_msg("expected: %s\n%s", text, result.schedule);
}
