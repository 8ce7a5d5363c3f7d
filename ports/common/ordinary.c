/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other kind of guest, for comparison: memory at an address of its own choice, faulted in, and
 * moved under it. The same slots, notifier, faults and zaps as in a process, on a real walker.
 */
#include "port.h"

#define MIB (UINT64_C(1) << 20)
#define HERE UINT64_C(0x140000000)
#define THERE UINT64_C(0x180000000)
#define TRAP UINT64_C(0x1c0000000)
#define BYTES (64 * MIB)
#define LIMIT UINT64_C(20000000000)

static struct {
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_host_object *objects[3];
	unsigned count;
	uint32_t id;
} guest;

static void flush(void *context, vd_gpa start, uint64_t length)
{
	port_flush(context, start.value, length);
}

static int trap_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context;
	(void)offset;
	(void)length;
	*value = 0;
	return 0;
}

static int trap_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context;
	(void)offset;
	(void)length;
	(void)value;
	return 0;
}

static int add_ram(struct vd_host *host, uint64_t base, uint64_t start, uint64_t length,
		   bool read_only)
{
	struct vd_slot_config slot = {.base = {base}, .size = length, .kind = VD_SLOT_RAM,
				      .read_only = read_only, .name = "ram"};
	int r = vd_host_physical(host, "ram", start, length, read_only ? VD_HOST_READ_ONLY : 0,
				 &slot.object, NULL);

	if (r)
		return r;
	guest.objects[guest.count++] = slot.object;
	return vd_mem_add_slot(guest.mem, &slot, &guest.id, NULL);
}

static int open_guest(const struct port_format *format, struct vd_host *host)
{
	static const struct vd_trap_ops ops = {trap_read, trap_write};
	struct vd_mem_config mem = {.env = port_env(), .host = host, .address_bits = 33};
	struct vd_mmu_config mmu = {.env = port_env(), .format = format->format, .flush = flush};
	struct vd_slot_config trap = {.base = {TRAP}, .size = 4096, .kind = VD_SLOT_TRAP,
				      .ops = &ops, .reason = "shown", .name = "trap"};
	int r = vd_mem_create(&mem, &guest.mem, NULL);

	mmu.mem = guest.mem;
	if (!r)
		r = vd_mmu_create(&mmu, &guest.mmu, NULL);
	if (!r)
		r = vd_mem_add_slot(guest.mem, &trap, NULL, NULL);
	if (!r)
		r = add_ram(host, (uint64_t)guest_text, (uint64_t)guest_text,
			    (uint64_t)(guest_text_end - guest_text), true);
	if (!r)
		r = add_ram(host, (uint64_t)guest_data, (uint64_t)guest_data,
			    (uint64_t)(guest_data_end - guest_data), false);
	return r ? r : add_ram(host, HERE, port_board()->large, BYTES, false);
}

/* Return: 0 and what it returned; -errno of the fault that nothing could be done about. */
static int run(const void *function, uint64_t a, uint64_t b, uint64_t *value)
{
	struct port_call call = {
		.pc = (uint64_t)(uintptr_t)function, .stack = (uint64_t)guest_stack,
		.argument = {a, b}, .handler = UINT64_MAX,
	};
	uint64_t deadline = port_clock_ns() + LIMIT;
	struct port_exit exit;
	int r = 0;

	port_start(&call);
	while (!r) {
		port_enter(deadline, &exit);
		*value = exit.value;
		if (exit.kind == PORT_RETURNED)
			return 0;
		r = exit.kind == PORT_ABORTED
			    ? vd_mmu_fault(guest.mmu, exit.abort.address, exit.abort.access)
			    : -ETIMEDOUT;
	}
	return r;
}

static void faults(void)
{
	const volatile uint64_t *memory = (const volatile uint64_t *)port_board()->large;
	struct vd_mmu_stats before, after;
	uint64_t value = 0;
	int r = run(guest_touch, HERE, BYTES, &value);

	vd_mmu_stats(guest.mmu, &after);
	port_print("# ordinary: %llu faults, %llu bytes mapped, %llu tables\n",
		   (unsigned long long)after.faults_ram, (unsigned long long)after.mapped_bytes,
		   (unsigned long long)after.table_pages);
	port_test(!r && memory[512] == HERE + 4096 && after.mapped_bytes >= BYTES,
		  "an ordinary guest's memory lies elsewhere and is faulted in: %d", r);
	before = after;
	r = run(guest_touch, HERE, BYTES, &value);
	vd_mmu_stats(guest.mmu, &after);
	port_test(!r && after.faults_ram == before.faults_ram, "the second time, without a fault");
	r = run(guest_load, TRAP, 0, &value);
	port_test(r == -EREMOTE, "what traps there is for emulation: %d", r);
	r = run(guest_store, (uint64_t)guest_text, 0, &value);
	port_test(r == -EACCES, "a store to read-only memory is not: %d", r);
}

static void move(void)
{
	struct vd_mem_update *update;
	struct vd_mmu_stats stats;
	uint64_t value = 0;
	int r = vd_mem_begin(guest.mem, &update);

	if (!r) {
		r = vd_mem_move(update, guest.id, (vd_gpa){THERE}, NULL);
		if (r)
			vd_mem_abort(update);
		else
			vd_mem_commit(update);
	}
	vd_mmu_stats(guest.mmu, &stats);
	port_test(!r && stats.zaps && stats.flushes, "it moves: leaves are dropped and flushed");
	r = run(guest_load, HERE + 4096, 0, &value);
	port_test(r == -ENOENT, "nothing is left where it was: %d", r);
	r = run(guest_load, THERE + 4096, 0, &value);
	port_test(!r && value == HERE + 4096, "and all of it where it went");
}

void port_ordinary(const struct port_format *format, struct vd_host *host)
{
	size_t bytes;
	int r = open_guest(format, host);

	if (port_test(!r, "an ordinary guest is made: %d", r)) {
		port_stage2(format, vd_mmu_root(guest.mmu, &bytes));
		faults();
		move();
	}
	vd_mmu_destroy(guest.mmu);
	vd_mem_destroy(guest.mem);
	while (guest.count)
		vd_host_object_put(guest.objects[--guest.count]);
	guest.mmu = NULL;
	guest.mem = NULL;
}
