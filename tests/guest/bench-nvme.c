/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs in the guest: how fast a disk is read with O_DIRECT, in sequence or at random places, with
 * so many requests under way. Built static by bench/nvme.sh and bench/vfio-user.sh; no library: the
 * requests go by Linux' own asynchronous interface, whatever their number.
 *
 * usage: bench-nvme DEVICE SECONDS-EACH ACCESS:BYTES:DEPTH...    ACCESS: sequential or random
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 64u
#define BYTES_MAX (1u << 20)

struct work {
	const char *name;
	int fd;
	bool in_sequence;
	unsigned bytes, depth;
	uint64_t blocks, next, state;
	uint64_t limit_ns;
	char *buffer; /* @depth times @bytes */
};

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

static void prepare(struct work *work, struct iocb *request, unsigned slot)
{
	uint64_t block = work->in_sequence ? work->next++ : next_random(&work->state);

	*request = (struct iocb){
		.aio_data = slot,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)work->fd,
		.aio_buf = (uintptr_t)(work->buffer + (size_t)slot * work->bytes),
		.aio_nbytes = work->bytes,
		.aio_offset = (int64_t)(block % work->blocks * work->bytes),
	};
}

static int submit(aio_context_t context, struct iocb **requests, unsigned count)
{
	while (count) {
		long n = syscall(SYS_io_submit, context, (long)count, requests);

		if (n <= 0)
			return -1;
		requests += n;
		count -= (unsigned)n;
	}
	return 0;
}

/* Waits for at least one, and starts as many again, unless it is @last. */
static long turn(struct work *work, aio_context_t context, struct iocb *requests, bool last)
{
	struct io_event events[DEPTH_MAX];
	struct iocb *again[DEPTH_MAX];
	long n = syscall(SYS_io_getevents, context, 1L, (long)work->depth, events, NULL);

	for (long i = 0; i < n; i++) {
		if (events[i].res != (int64_t)work->bytes) {
			errno = events[i].res < 0 ? (int)-events[i].res : EIO;
			return -1;
		}
		again[i] = &requests[events[i].data];
		prepare(work, again[i], (unsigned)events[i].data);
	}
	if (n > 0 && !last && submit(context, again, (unsigned)n))
		return -1;
	return n;
}

/* Reads blocks until the time is over. Returns 0, or -1 with errno if a read failed. */
static int measure(struct work *work)
{
	struct iocb requests[DEPTH_MAX], *all[DEPTH_MAX];
	uint64_t start, elapsed, n = 0;
	aio_context_t context = 0;
	long left = work->depth, done;

	if (syscall(SYS_io_setup, (long)work->depth, &context))
		return -1;
	for (unsigned i = 0; i < work->depth; i++) {
		all[i] = &requests[i];
		prepare(work, all[i], i);
	}
	start = now_ns();
	if (submit(context, all, work->depth))
		return -1;
	do {
		done = turn(work, context, requests, false);
		if (done < 0)
			return -1;
		n += (uint64_t)done;
		elapsed = now_ns() - start;
	} while (elapsed < work->limit_ns);
	while (left > 0 && done >= 0) {
		done = turn(work, context, requests, true);
		left -= done;
	}
	if (done < 0)
		return -1;
	syscall(SYS_io_destroy, context);
	printf("bench-nvme: %s %llu reads of %u bytes in %llu ns\n", work->name,
	       (unsigned long long)n, work->bytes, (unsigned long long)elapsed);
	return 0;
}

static bool parse(const char *word, struct work *work)
{
	char access[16];

	work->name = word;
	if (sscanf(word, "%15[a-z]:%u:%u", access, &work->bytes, &work->depth) != 3 ||
	    !work->bytes || work->bytes > BYTES_MAX || !work->depth || work->depth > DEPTH_MAX)
		return false;
	work->in_sequence = !strcmp(access, "sequential");
	return work->in_sequence || !strcmp(access, "random");
}

int main(int argc, char **argv)
{
	struct work work = {.state = 1};
	void *buffer;
	off_t size;

	if (argc < 4)
		return 2;
	work.limit_ns = strtoull(argv[2], NULL, 10) * 1000000000u;
	work.fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (work.fd < 0) {
		perror(argv[1]);
		return 1;
	}
	size = lseek(work.fd, 0, SEEK_END);
	if (size < (off_t)BYTES_MAX) {
		fprintf(stderr, "bench-nvme: %s is too small\n", argv[1]);
		return 1;
	}
	for (int i = 3; i < argc; i++) {
		if (!parse(argv[i], &work))
			return 2;
		work.blocks = (uint64_t)size / work.bytes;
		if (posix_memalign(&buffer, 4096, (size_t)work.depth * work.bytes))
			return 1;
		work.buffer = buffer;
		if (measure(&work)) {
			perror("bench-nvme: read");
			return 1;
		}
		free(buffer);
	}
	return 0;
}
