/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest reads a BAR: mapped straight into it, and trapped. The peer is the same program on RAM.
 * Faults and traps are counted over the first million of reads, from nothing mapped.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/bench_machine.h"

#define PAGE 4096u
#define BAR_PAGES 16u
#define BAR_SIZE ((uint64_t)BAR_PAGES * PAGE)
#define BAR_DIRECT 0x40000000ull
#define BAR_TRAPPED 0x50000000ull
#define READS_A_TURN 8u

/* a0: address, 64 KiB aligned; a1: turns. Each turn reads in another page. */
static const uint32_t read_loop[] = {
	LUI(A4, 1),
	LUI(A5, BAR_SIZE >> 12),
	ADDI(A5, A5, -1),
	ADD(A3, A0, A2),
	LW(T0, 0, A3),
	LW(T0, 4, A3),
	LW(T0, 64, A3),
	LW(T0, 68, A3),
	LW(T0, 512, A3),
	LW(T0, 516, A3),
	LW(T0, 1024, A3),
	LW(T0, 1028, A3),
	ADD(A2, A2, A4),
	AND(A2, A2, A5),
	ADDI(A1, A1, -1),
	BNEZ(A1, -12 * 4),
	ECALL,
};

struct mmio {
	struct bench_machine machine;
	struct vd_host_object *bar;
	uint64_t traps;
};

static int trapped_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	struct mmio *mmio = context;

	(void)length;
	mmio->traps++;
	*value = offset;
	return 0;
}

static int trapped_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context, (void)offset, (void)length, (void)value;
	return 0;
}

static const struct vd_trap_ops trap_ops = {trapped_read, trapped_write};

static void read_at(struct mmio *mmio, uint64_t base, uint64_t n)
{
	bench_machine_run(&mmio->machine, base, n / READS_A_TURN);
}

static void read_ram(void *context, uint64_t n)
{
	read_at(context, BENCH_DATA, n);
}

static void read_direct(void *context, uint64_t n)
{
	read_at(context, BAR_DIRECT, n);
}

static void read_trapped(void *context, uint64_t n)
{
	read_at(context, BAR_TRAPPED, n);
}

static int create_bar(struct mmio *mmio, struct vd_error *error)
{
	int fd = memfd_create("bench-bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return vd_error_set(error, -errno, "no memory file for the BAR");
	rc = ftruncate(fd, BAR_SIZE) ? -errno : 0;
	if (!rc)
		rc = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno : 0;
	rc = rc ? vd_error_set(error, rc, "cannot size and seal the BAR's memory file") :
		  vd_host_import(mmio->machine.host, "bar", fd, 0, BAR_SIZE, VD_PAGE_DEVICE,
				 VD_MEMORY_UNCACHED, 0, &mmio->bar, error);
	close(fd);
	return rc;
}

static int create(struct mmio *mmio, struct vd_error *error)
{
	struct vd_slot_config direct = {.base = {BAR_DIRECT}, .size = BAR_SIZE,
					.kind = VD_SLOT_DEVICE, .name = "bar"};
	struct vd_slot_config trapped = {.base = {BAR_TRAPPED}, .size = BAR_SIZE,
					 .kind = VD_SLOT_TRAP, .ops = &trap_ops, .context = mmio,
					 .reason = "it is measured"};
	int rc = create_bar(mmio, error);

	direct.object = mmio->bar;
	if (!rc)
		rc = vd_mem_add_slot(mmio->machine.mem, &direct, NULL, error);
	if (!rc)
		rc = vd_mem_add_slot(mmio->machine.mem, &trapped, NULL, error);
	return rc ? rc : bench_machine_load(&mmio->machine, read_loop, sizeof(read_loop), error);
}

/* Faults on device memory and trapped accesses of one run that starts with nothing mapped. */
static void count(struct mmio *mmio, bench_body body, uint64_t n, struct bench_extra *faults,
		  struct bench_extra *traps)
{
	struct vd_mmu_stats before, after;

	vd_mmu_zap(mmio->machine.mmu, (vd_gpa){BAR_DIRECT}, BAR_SIZE);
	vd_mmu_stats(mmio->machine.mmu, &before);
	mmio->traps = 0;
	body(mmio, n);
	vd_mmu_stats(mmio->machine.mmu, &after);
	*faults = (struct bench_extra){"faults", (double)(after.faults_device -
							  before.faults_device)};
	*traps = (struct bench_extra){"traps", (double)mmio->traps};
}

static int measure(struct bench *bench, struct mmio *mmio, struct vd_error *error)
{
	uint64_t n = bench->quick ? 8000 : 1000000;
	struct bench_case direct = {.name = "direct read", .n = n, .context = mmio,
				    .body = read_direct, .peer = "RAM read", .peer_body = read_ram};
	struct bench_case trapped = {.name = "trapped read", .n = n, .context = mmio,
				     .body = read_trapped, .peer = "RAM read",
				     .peer_body = read_ram};
	struct bench_extra extras[4] = {{0}};
	struct bench_result result;

	count(mmio, read_direct, n, &extras[0], &extras[1]);
	if (extras[0].value > BAR_PAGES || extras[1].value > 0)
		return vd_error_set(error, -EIO, "direct reads: %d faults, %d traps",
				    (int)extras[0].value, (int)extras[1].value);
	bench_measure(bench, &direct, &result);
	extras[2] = (struct bench_extra){"beyond_ns", result.ours.median - result.peer.median};
	bench_print(bench, &direct, &result, extras);

	count(mmio, read_trapped, n, &extras[0], &extras[1]);
	if (extras[1].value < (double)n || extras[1].value > (double)n)
		return vd_error_set(error, -EIO, "%llu trapped reads, %d counted",
				    (unsigned long long)n, (int)extras[1].value);
	bench_measure(bench, &trapped, &result);
	extras[2].value = result.ours.median - result.peer.median;
	bench_print(bench, &trapped, &result, extras);
	return 0;
}

int bench_mmio(struct bench *bench, struct vd_error *error)
{
	struct mmio mmio = {.bar = NULL};
	int rc = bench_machine_create(&mmio.machine, error);

	if (rc)
		return rc;
	rc = create(&mmio, error);
	if (!rc)
		rc = measure(bench, &mmio, error);
	vd_host_object_put(mmio.bar);
	bench_machine_destroy(&mmio.machine);
	return rc;
}
