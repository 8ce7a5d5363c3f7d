/* SPDX-License-Identifier: BSD-2-Clause */
/* How many descriptors this process has: what a test opened, something has to close. */
#ifndef VIADUCT_TESTS_TRANSPORT_USER_DESCRIPTORS_H
#define VIADUCT_TESTS_TRANSPORT_USER_DESCRIPTORS_H

#include <dirent.h>

static inline int count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

#endif
