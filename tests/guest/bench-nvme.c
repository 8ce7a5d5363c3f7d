/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs in the guest: how fast a disk is read with O_DIRECT, in sequence by 1 MiB and at random
 * places by 4 KiB, one request at a time. Built static for riscv64 by bench/nvme.sh.
 *
 * usage: bench-nvme DEVICE SECONDS-EACH
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SEQUENTIAL (1u << 20)
#define RANDOM 4096u

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* Reads blocks until the time is over. Returns 0, or -1 if a read failed. */
static int measure(int fd, const char *name, uint64_t size, uint32_t block, bool in_sequence,
		   void *buffer, uint64_t limit_ns)
{
	uint64_t blocks = size / block, n = 0, state = 1, start = now_ns(), elapsed = 0;

	while (elapsed < limit_ns) {
		uint64_t at = (in_sequence ? n : next_random(&state)) % blocks;

		if (pread(fd, buffer, block, (off_t)(at * block)) != (ssize_t)block) {
			perror("bench-nvme: read");
			return -1;
		}
		n++;
		elapsed = now_ns() - start;
	}
	printf("bench-nvme: %s %llu reads of %u bytes in %llu ns\n", name, (unsigned long long)n,
	       block, (unsigned long long)elapsed);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t limit_ns;
	void *buffer;
	off_t size;
	int fd;

	if (argc != 3)
		return 2;
	limit_ns = strtoull(argv[2], NULL, 10) * 1000000000u;
	fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	size = lseek(fd, 0, SEEK_END);
	if (size < (off_t)SEQUENTIAL || posix_memalign(&buffer, SEQUENTIAL, SEQUENTIAL)) {
		fprintf(stderr, "bench-nvme: %s is too small, or no memory\n", argv[1]);
		return 1;
	}
	if (measure(fd, "sequential", (uint64_t)size, SEQUENTIAL, true, buffer, limit_ns) ||
	    measure(fd, "random", (uint64_t)size, RANDOM, false, buffer, limit_ns))
		return 1;
	return 0;
}
