/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an interrupt costs at least: write(2) to an eventfd. Pinned to CPU, prints the nanoseconds
 * of each write, BATCHES averages over 100, one a line.
 *
 * usage: eventfd CPU BATCHES
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH 100

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	const uint64_t one = 1;
	uint64_t start, sum;
	cpu_set_t set;
	int fd;

	if (argc != 3)
		return 2;
	CPU_ZERO(&set);
	CPU_SET(atoi(argv[1]), &set);
	fd = eventfd(0, 0);
	if (fd < 0 || sched_setaffinity(0, sizeof(set), &set))
		return 1;
	for (int i = atoi(argv[2]); i; i--) {
		start = now_ns();
		for (int n = 0; n < BATCH; n++)
			if (write(fd, &one, sizeof(one)) != sizeof(one))
				return 1;
		printf("%.1f\n", (double)(now_ns() - start) / BATCH);
		if (read(fd, &sum, sizeof(sum)) != sizeof(sum) || sum != BATCH)
			return 1;
	}
	return 0;
}
