/* SPDX-License-Identifier: BSD-2-Clause */
/* How a test runs a case: all schedules, none of which fails; or until a planted bug is found. */
#ifndef VIADUCT_TESTS_INTERLEAVE_RUN_H
#define VIADUCT_TESTS_INTERLEAVE_RUN_H

#include "fixture.h"

/*
 * All schedules: every interleaving that could differ. Builds with a sanitizer or by a second
 * compiler, which are there for other mistakes than these, try what fits into a second.
 */
void run_all(const struct interleave_case *test);
/* What fits into @seconds of CPU; ten minutes in the nightly runs (VIADUCT_NIGHTLY=1). */
void run_most(const struct interleave_case *test, double seconds);
/*
 * Of a case too large for all: as many of the first as fit into half of @seconds, then by chance; a
 * minute in the nightly runs.
 */
void run_some(const struct interleave_case *test, double seconds);
/* A failure with @text in it must be found; prints the schedule if VIADUCT_VERBOSE is set. */
void run_planted(const struct interleave_case *test, const char *text);

#endif
