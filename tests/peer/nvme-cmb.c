/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs in the guest: drives an NVMe controller without the kernel's driver, with the submission
 * queue in the controller's own memory buffer, because Debian's kernels are built without what
 * their driver needs for that. Commands are stored to the mapped BAR; all else is this program's
 * memory, whose physical addresses the kernel tells root. Built static by cmb.sh.
 *
 * usage: nvme-cmb DIRECTORY COMMANDS    of the device in sysfs: writes, then reads, a page a command
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define ADMIN_DEPTH 16u
#define DEPTH 64u

/* NVMe 1.4, section 3.1 */
enum {
	CAP = 0x00, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30,
	CMBLOC = 0x38, CMBSZ = 0x3c, CMBMSC = 0x50, DOORBELLS = 0x1000,
};
enum { CMBMSC_CRE = 1, CMBMSC_CMSE = 2, CMBSZ_SQS = 1 };
enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, IDENTIFY = 0x06, IO_WRITE = 0x01, IO_READ = 0x02 };

struct command {
	uint32_t dw0, nsid;
	uint64_t reserved, metadata, prp1, prp2;
	uint32_t dw10, dw11, dw12, dw13, dw14, dw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq_id, id, status;
};

struct queue {
	unsigned number, depth, tail, head;
	uint16_t phase;
	volatile struct command *commands;
	volatile struct completion *completions;
};

static const char *directory;
static volatile unsigned char *registers;
static unsigned stride;

static void fail(const char *what)
{
	printf("failed: nvme-cmb: %s\n", what);
	exit(1);
}

static int open_file(const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags | O_SYNC);
	if (fd < 0)
		fail(path);
	return fd;
}

static void *map_bar(unsigned bar, size_t size)
{
	char name[16];
	void *p;
	int fd;

	snprintf(name, sizeof(name), "resource%u", bar);
	fd = open_file(name, O_RDWR);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail(name);
	close(fd);
	return p;
}

static uint64_t bar_address(unsigned bar)
{
	unsigned long long start = 0;
	int fd = open_file("resource", O_RDONLY);
	FILE *file = fdopen(fd, "r");
	char line[128];

	for (unsigned i = 0; file && i <= bar && fgets(line, sizeof(line), file); i++)
		start = strtoull(line, NULL, 16);
	if (!start)
		fail("no address of the BAR");
	fclose(file);
	return start;
}

static uint32_t read32(unsigned at)
{
	return *(volatile uint32_t *)(registers + at);
}

static void write32(unsigned at, uint32_t value)
{
	*(volatile uint32_t *)(registers + at) = value;
}

static void write64(unsigned at, uint64_t value)
{
	*(volatile uint64_t *)(registers + at) = value;
}

/* A page that stays where it is, and where that is. */
static void *page(uint64_t *address)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (p == MAP_FAILED || fd < 0 ||
	    pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)p / PAGE * sizeof(entry))) !=
		    sizeof(entry) || !(entry >> 63))
		fail("no page");
	close(fd);
	*address = (entry & ((UINT64_C(1) << 55) - 1)) * PAGE;
	return p;
}

static void wait_ready(uint32_t ready)
{
	for (unsigned tries = 0; (read32(CSTS) & 1) != ready; tries++) {
		if (tries == 10000)
			fail("the controller does not become ready");
		usleep(1000);
	}
}

static void ring(const struct queue *q, bool completion, unsigned value)
{
	unsigned at = DOORBELLS + (2 * q->number + completion) * stride;

	/* What was stored to memory and to the BAR is there before the doorbell rings. */
	__atomic_store_n((uint32_t *)(registers + at), value, __ATOMIC_RELEASE);
}

static uint32_t run(struct queue *q, const struct command *command)
{
	volatile struct completion *done = &q->completions[q->head];
	uint32_t result;

	memcpy((void *)&q->commands[q->tail], command, sizeof(*command));
	q->tail = (q->tail + 1) % q->depth;
	ring(q, false, q->tail);
	/* Pairs with the controller's store of the phase, which is its last. */
	for (unsigned tries = 0; (__atomic_load_n(&done->status, __ATOMIC_ACQUIRE) & 1) != q->phase;
	     tries++) {
		if (tries == 10000000)
			fail("no completion");
		__builtin_ia32_pause();
	}
	if (done->status >> 1)
		fail("a command failed");
	result = done->result;
	q->head = (q->head + 1) % q->depth;
	if (!q->head)
		q->phase ^= 1;
	ring(q, true, q->head);
	return result;
}

static void enable(void)
{
	int fd = open_file("enable", O_WRONLY);
	uint16_t bits;

	if (write(fd, "1", 1) != 1)
		fail("the device cannot be enabled");
	close(fd);
	fd = open_file("config", O_RDWR);
	if (pread(fd, &bits, 2, 4) != 2)
		fail("no configuration space");
	bits |= 6; /* memory, and bus master */
	if (pwrite(fd, &bits, 2, 4) != 2)
		fail("no configuration space");
	close(fd);
}

static void start(struct queue *admin)
{
	uint64_t sq, cq;

	registers = map_bar(0, 2 * PAGE);
	stride = 4u << (*(volatile uint64_t *)(registers + CAP) >> 32 & 15);
	write32(CC, 0);
	wait_ready(0);
	*admin = (struct queue){.depth = ADMIN_DEPTH, .phase = 1, .commands = page(&sq),
				.completions = page(&cq)};
	write32(AQA, (ADMIN_DEPTH - 1) << 16 | (ADMIN_DEPTH - 1));
	write64(ASQ, sq);
	write64(ACQ, cq);
	write32(CC, 4u << 20 | 6u << 16 | 1);
	wait_ready(1);
}

/* Return: the buffer, mapped; @address: where the controller finds it. */
static void *map_buffer(uint64_t *address)
{
	unsigned bar;
	size_t size;

	write64(CMBMSC, CMBMSC_CRE);
	if (!(read32(CMBSZ) & CMBSZ_SQS))
		fail("no memory buffer for submission queues");
	bar = read32(CMBLOC) & 7;
	size = (size_t)(read32(CMBSZ) >> 12) << (12 + 4 * (read32(CMBSZ) >> 8 & 15));
	printf("nvme-cmb: %zu bytes in BAR %u\n", size, bar);
	*address = bar_address(bar);
	write64(CMBMSC, *address | CMBMSC_CMSE | CMBMSC_CRE);
	return map_bar(bar, size);
}

static void create_queues(struct queue *admin, struct queue *io)
{
	uint64_t sq, cq;

	*io = (struct queue){.number = 1, .depth = DEPTH, .phase = 1, .commands = map_buffer(&sq),
			     .completions = page(&cq)};
	run(admin, &(struct command){.dw0 = CREATE_CQ, .prp1 = cq, .dw10 = (DEPTH - 1) << 16 | 1,
				     .dw11 = 1});
	run(admin, &(struct command){.dw0 = CREATE_SQ, .prp1 = sq, .dw10 = (DEPTH - 1) << 16 | 1,
				     .dw11 = 1u << 16 | 1});
}

static void fill(unsigned char *data, unsigned number)
{
	for (unsigned i = 0; i < PAGE; i++)
		data[i] = (unsigned char)(number * 31 + i * 7 + i / 256);
}

int main(int argc, char **argv)
{
	unsigned commands = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	unsigned char *data, expected[PAGE];
	struct queue admin, io;
	uint64_t address;

	if (!commands)
		fail("usage: nvme-cmb DIRECTORY COMMANDS");
	directory = argv[1];
	enable();
	start(&admin);
	data = page(&address);
	run(&admin, &(struct command){.dw0 = IDENTIFY, .prp1 = address, .dw10 = 1});
	printf("nvme-cmb: %.40s\n", (char *)data + 24);
	create_queues(&admin, &io);
	for (unsigned i = 0; i < commands; i++) {
		fill(data, i);
		run(&io, &(struct command){.dw0 = IO_WRITE | i << 16, .nsid = 1, .prp1 = address,
					   .dw10 = i * (PAGE / 512), .dw12 = PAGE / 512 - 1});
	}
	for (unsigned i = 0; i < commands; i++) {
		memset(data, 0, PAGE);
		run(&io, &(struct command){.dw0 = IO_READ | i << 16, .nsid = 1, .prp1 = address,
					   .dw10 = i * (PAGE / 512), .dw12 = PAGE / 512 - 1});
		fill(expected, i);
		if (memcmp(data, expected, PAGE))
			fail("what was read is not what was written");
	}
	printf("nvme-cmb: %u pages written and read back\n", commands);
	return 0;
}
