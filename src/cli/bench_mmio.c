/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest reads the video memory of a display behind a host bridge: mapped straight into it, and
 * trapped as with `viaduct run --no-direct-mmio`. The peer is the same program on RAM. Faults and
 * trapped accesses are counted over the first million of reads, from nothing mapped.
 */
#include <viaduct/device.h>

#include "cli/bench.h"
#include "cli/bench_machine.h"

#define READ_SPAN 0x10000ull /* what the program reads in */
#define READ_PAGES (READ_SPAN >> 12)
#define READS_A_TURN 8u
#define ECAM 0x30000000ull
#define WINDOW 0x40000000ull
#define WINDOW_SIZE 0x10000000ull
#define DISPLAY_SLOT 1u
#define DISPLAY_BAR VD_REGION_BAR0

/* a0: address; a1: turns. Each turn reads in another page. */
static const uint32_t read_loop[] = {
	LUI(A4, 1),
	LUI(A5, READ_PAGES),
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
	struct vd_pci_host *bridge;
	struct vd_device *display;
	uint64_t bar;
};

static void read_at(struct mmio *mmio, uint64_t base, uint64_t n)
{
	bench_machine_run(&mmio->machine, base, n / READS_A_TURN);
}

static void read_ram(void *context, uint64_t n)
{
	read_at(context, BENCH_DATA, n);
}

static void read_bar(void *context, uint64_t n)
{
	struct mmio *mmio = context;

	read_at(mmio, mmio->bar, n);
}

static void no_interrupt(void *context, uint64_t address, uint32_t data)
{
	(void)context, (void)address, (void)data;
}

static int find_bar(void *context, const struct vd_pci_area_info *area)
{
	struct mmio *mmio = context;

	if (area->bar != DISPLAY_BAR || area->offset || !area->placed)
		return 0;
	mmio->bar = area->gpa.value;
	return 1;
}

/* What firmware and a driver do: memory decoding goes on (PCI 3.0, 6.2.2). */
static int enable_memory(struct mmio *mmio, struct vd_error *error)
{
	vd_gpa command = {ECAM + (DISPLAY_SLOT << 15) + 4};
	int rc = vd_mem_mmio_write(mmio->machine.mem, command, 2, 2);

	if (rc || !vd_pci_host_each_area(mmio->bridge, find_bar, mmio))
		return vd_error_set(error, -EIO, "the display's memory does not appear");
	return 0;
}

static int create(struct mmio *mmio, bool direct, struct vd_error *error)
{
	struct vd_pci_host_config bridge = {
		.env = vd_env_hosted(), .mem = mmio->machine.mem, .ecam = {ECAM}, .buses = 1,
		.low = {WINDOW}, .low_size = WINDOW_SIZE, .direct = direct, .msi = no_interrupt,
	};
	struct vd_display_config display = {.env = vd_env_hosted(), .host = mmio->machine.host};
	int rc = vd_pci_host_create(&bridge, &mmio->bridge, error);

	if (!rc)
		rc = vd_display_create(&display, &mmio->display, error);
	if (!rc)
		rc = vd_pci_host_plug(mmio->bridge, mmio->display, DISPLAY_SLOT, error);
	if (!rc)
		rc = enable_memory(mmio, error);
	return rc ? rc : bench_machine_load(&mmio->machine, read_loop, sizeof(read_loop), error);
}

/* Faults on device memory and trapped accesses of one run that starts with nothing mapped. */
static void count(struct mmio *mmio, uint64_t n, uint64_t *faults, uint64_t *traps)
{
	struct vd_mmu_stats mmu_before, mmu_after;
	struct vd_device_stats before, after;

	vd_mmu_zap(mmio->machine.mmu, (vd_gpa){WINDOW}, WINDOW_SIZE);
	vd_mmu_stats(mmio->machine.mmu, &mmu_before);
	vd_device_stats(mmio->display, &before);
	read_bar(mmio, n);
	vd_mmu_stats(mmio->machine.mmu, &mmu_after);
	vd_device_stats(mmio->display, &after);
	*faults = mmu_after.faults_device - mmu_before.faults_device;
	*traps = after.trapped_reads[DISPLAY_BAR] - before.trapped_reads[DISPLAY_BAR];
}

static int measure(struct bench *bench, struct mmio *mmio, bool direct, struct vd_error *error)
{
	struct bench_case c = {.name = direct ? "direct read" : "trapped read",
			       .n = bench->quick ? 8000 : 1000000, .context = mmio,
			       .body = read_bar, .peer = "RAM read", .peer_body = read_ram};
	struct bench_extra extras[4] = {{"faults", 0}, {"traps", 0}, {"beyond_ns", 0}};
	struct bench_result result;
	uint64_t faults, traps;

	count(mmio, c.n, &faults, &traps);
	if (faults > (direct ? READ_PAGES : 0) || traps != (direct ? 0 : c.n))
		return vd_error_set(error, -EIO, "%s: %llu faults and %llu traps in %llu reads",
				    c.name, (unsigned long long)faults, (unsigned long long)traps,
				    (unsigned long long)c.n);
	bench_measure(bench, &c, &result);
	extras[0].value = (double)faults;
	extras[1].value = (double)traps;
	extras[2].value = result.ours.median - result.peer.median;
	bench_print(bench, &c, &result, extras);
	return 0;
}

static int run(struct bench *bench, bool direct, struct vd_error *error)
{
	struct mmio mmio = {.bridge = NULL};
	int rc = bench_machine_create(&mmio.machine, error);

	if (rc)
		return rc;
	rc = create(&mmio, direct, error);
	if (!rc)
		rc = measure(bench, &mmio, direct, error);
	vd_pci_host_destroy(mmio.bridge);
	if (mmio.display)
		vd_device_put(mmio.display);
	bench_machine_destroy(&mmio.machine);
	return rc;
}

int bench_mmio(struct bench *bench, struct vd_error *error)
{
	int rc = run(bench, true, error);

	return rc ? rc : run(bench, false, error);
}
