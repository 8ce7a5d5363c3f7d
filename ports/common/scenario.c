/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every port shows of an internal VM, for one table format after the other: what is refused
 * and why, the table as the processor reads it, services that come back with a result, accesses
 * that come back with an abort, and guests that would not come back.
 */
#include "port.h"

#define MS UINT64_C(1000000)
#define GIB (UINT64_C(1) << 30)
/* The clock goes on while the emulator waits for a processor. */
#define LIMIT (20000 * MS)
#define SHORT_LIMIT (250 * MS)

static struct {
	const struct port_format *format;
	const struct port_board *board;
	struct vd_host *host;
	struct vd_internal *vm;
	uint64_t limit;
} rig;

/* ---- the map --------------------------------------------------------------------------------- */

static uint64_t address_of(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static bool open_rig(const struct port_format *format)
{
	const struct port_board *board = port_board();
	struct vd_host_physical_config host = {
		port_env(), format->page_shift, board->ranges, board->count,
	};
	struct vd_internal_config config = {
		.env = port_env(), .format = format->format, .flush = port_flush,
	};
	struct vd_error error = {.text = ""};
	int r = vd_host_create_physical(&host, &rig.host, &error);

	rig.format = format;
	rig.board = board;
	rig.limit = LIMIT;
	config.host = rig.host;
	if (!r)
		r = vd_internal_create(&config, &rig.vm, &error);
	return port_test(!r, "%s: an internal VM is made%s%s", format->name, r ? ": " : "",
			 error.text);
}

static int map_one(uint64_t start, uint64_t length, unsigned access, bool device)
{
	struct vd_internal_range range = {start, length, access, device, "range"};

	return vd_internal_map(rig.vm, &range, 1, NULL);
}

static void refuse(const char *what, int expected, uint64_t start, uint64_t length, bool device)
{
	int r = map_one(start, length, VD_READ | VD_WRITE, device);
	struct vd_internal_stats stats;

	vd_internal_stats(rig.vm, &stats);
	port_test(r == expected && !stats.ranges && !stats.mapped_bytes && stats.table_pages == 1,
		  "%s refused: %d", what, r);
}

static void refusals(void)
{
	const struct port_board *board = rig.board;
	uint64_t page = UINT64_C(1) << rig.format->page_shift;
	size_t bytes;
	uint64_t root = address_of(vd_pgtable_root(vd_internal_table(rig.vm), &bytes));

	refuse("a hole is", -ENXIO, board->hole, page, false);
	refuse("RAM that ends in a hole is", -ENXIO, board->reserved, GIB, false);
	refuse("a range of two kinds is", -EXDEV, board->reserved - page, 2 * page, false);
	refuse("device memory not asked for as such is", -EMEDIUMTYPE, board->rtc,
	       board->device_length, false);
	refuse("RAM asked for as device memory is", -ENODEV, board->large, page, true);
	refuse("the hypervisor's image is", -EPERM, board->own, page, false);
	refuse("the table itself is", -EPERM, root & ~(page - 1), page, false);
	refuse("the hypervisor's interrupt controller is", -EPERM, board->own_device, page, true);
	refuse("a misaligned range is", -EINVAL, board->large + 512, page, false);
	refuse("a range that wraps is", -EOVERFLOW, UINT64_MAX - page + 1, 2 * page, false);
}

/* Memory that exists, but above what the guest can address. */
static void small_guest(void)
{
	struct vd_internal_config config = {
		.env = port_env(), .host = rig.host, .format = rig.format->format,
		.address_bits = (unsigned)__builtin_ctzll(rig.board->large),
	};
	struct vd_internal_range range = {rig.board->large, rig.board->large_length, VD_READ,
					  false, "large"};
	struct vd_internal *vm = NULL;
	int r = vd_internal_create(&config, &vm, NULL);

	if (!r)
		r = vd_internal_map(vm, &range, 1, NULL);
	port_test(r == -EOVERFLOW, "memory beyond an IPA size of %u bits is refused: %d",
		  config.address_bits, r);
	vd_internal_destroy(vm);
}

static bool map_all(void)
{
	const struct port_board *board = rig.board;
	const unsigned rw = VD_READ | VD_WRITE;
	struct vd_internal_range ranges[] = {
		{address_of(guest_text), (uint64_t)(guest_text_end - guest_text),
		 VD_READ | VD_EXECUTE, false, "text"},
		{address_of(guest_data), (uint64_t)(guest_data_end - guest_data), rw, false,
		 "data"},
		{board->uart, board->device_length, rw, true, "uart"},
		{board->rtc, board->device_length, VD_READ, true, "rtc"},
		{board->large, board->large_length, rw, false, "large"},
		{board->ragged, board->ragged_length, rw, false, "ragged"},
	};
	unsigned count = sizeof(ranges) / sizeof(ranges[0]);
	struct vd_internal_stats before, after;
	struct vd_error error = {.text = ""};
	int r;

	vd_internal_stats(rig.vm, &before);
	r = vd_internal_map(rig.vm, ranges, count, &error);
	vd_internal_stats(rig.vm, &after);
	port_print("# tables: %llu reserved, %llu used, %llu given back\n",
		   (unsigned long long)after.reserved,
		   (unsigned long long)(after.table_pages - before.table_pages),
		   (unsigned long long)after.returned);
	port_test(r || after.reserved - after.returned == after.table_pages - before.table_pages,
		  "what was reserved and not used is given back");
	return port_test(!r, "%u ranges are mapped at their own addresses%s%s", count,
			 r ? ": " : "", error.text);
}

/* ---- the table, as the port's own walker reads it -------------------------------------------- */

struct shape {
	uint64_t leaves, bytes, other; /* blocks of the large range; all bytes; not identity */
	uint64_t uart, text_writable, data_executable;
	bool uart_is_device;
};

static const char *size_text(uint64_t size, uint64_t *number)
{
	*number = size >= GIB ? size >> 30 : size >= 1 << 20 ? size >> 20 : size >> 10;
	return size >= GIB ? "GiB" : size >= 1 << 20 ? "MiB" : "KiB";
}

static void note_run(void *context, const struct port_run *run)
{
	struct shape *shape = context;
	uint64_t number, end = run->input + run->size * run->count;
	const char *unit = size_text(run->size, &number);

	port_print("# 0x%09llx %5llu x %llu %s, level %u, %c%c%c %s%s\n",
		   (unsigned long long)run->input, (unsigned long long)run->count,
		   (unsigned long long)number, unit, run->level, run->access & VD_READ ? 'r' : '-',
		   run->access & VD_WRITE ? 'w' : '-', run->access & VD_EXECUTE ? 'x' : '-',
		   run->type, run->marked ? ", contiguous" : "");
	shape->bytes += run->size * run->count;
	shape->other += run->input != run->output;
	if (run->input >= rig.board->large &&
	    end <= rig.board->large + rig.board->large_length)
		shape->leaves += run->count;
	if (run->input == rig.board->uart) {
		shape->uart = run->size * run->count;
		shape->uart_is_device = run->type[0] == 'd';
	}
	if (run->input == address_of(guest_text))
		shape->text_writable = run->access & VD_WRITE;
	if (run->input == address_of(guest_data))
		shape->data_executable = run->access & VD_EXECUTE;
}

static void dump(void)
{
	uint64_t block = rig.format->page_shift == 12 ? GIB
			 : rig.format->page_shift == 14 ? GIB / 32 : GIB / 2;
	struct vd_internal_stats stats;
	struct shape shape = {0};
	size_t bytes;

	port_each(rig.format, vd_pgtable_root(vd_internal_table(rig.vm), &bytes), note_run, &shape);
	vd_internal_stats(rig.vm, &stats);
	port_test(!shape.other, "every output address is its input address");
	port_test(shape.bytes == stats.mapped_bytes, "the table maps 0x%llx bytes, as counted",
		  (unsigned long long)shape.bytes);
	port_test(shape.leaves == rig.board->large_length / block,
		  "1 GiB is mapped by the fewest blocks: %llu", (unsigned long long)shape.leaves);
	port_test(shape.uart_is_device, "the serial port's page is device memory");
	port_test(!shape.text_writable && !shape.data_executable,
		  "text cannot be written, data not executed");
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Runs one call of the guest to its end. */
static struct vd_internal_run run_guest(const struct port_call *call)
{
	struct vd_internal_run run;
	enum vd_internal_next next = VD_INTERNAL_ENTER;
	struct port_exit exit;

	vd_internal_begin(rig.vm, &run, rig.limit);
	port_start(call);
	while (next != VD_INTERNAL_END) {
		if (next == VD_INTERNAL_INJECT)
			port_inject(&exit);
		port_enter(run.deadline, &exit);
		switch (exit.kind) {
		case PORT_RETURNED:
			next = vd_internal_returned(&run, exit.value);
			break;
		case PORT_ABORTED:
			port_print("# abort: syndrome 0x%llx address 0x%llx pc 0x%llx\n",
				   (unsigned long long)exit.syndrome,
				   (unsigned long long)exit.abort.address.value,
				   (unsigned long long)exit.abort.pc);
			next = vd_internal_aborted(rig.vm, &run, &exit.abort,
						   (vd_gpa){exit.handler});
			break;
		case PORT_TICKED:
			next = vd_internal_ticked(rig.vm, &run);
			break;
		case PORT_STRAYED:
			port_print("# stray: syndrome 0x%llx\n", (unsigned long long)exit.syndrome);
			next = vd_internal_strayed(&run);
			break;
		}
	}
	return run;
}

static struct vd_internal_run call_with(const void *function, const void *vector, uint64_t a,
					uint64_t b, bool own_tables)
{
	struct port_call call = {
		.pc = address_of(function),
		.stack = address_of(guest_stack),
		.argument = {a, b},
		.handler = vector ? address_of(vector) : UINT64_MAX,
		.own_tables = own_tables,
	};

	guest_record = (struct guest_record){0};
	return run_guest(&call);
}

static struct vd_internal_run call(const void *function, const void *vector, uint64_t a, uint64_t b)
{
	return call_with(function, vector, a, b, false);
}

static bool returned(const struct vd_internal_run *run, uint64_t value)
{
	return run->result == VD_INTERNAL_RETURNED && run->value == value && !run->aborts;
}

static void copy_text(char *to, const char *from)
{
	for (unsigned i = 0; i < GUEST_VARIABLE_BYTES; i++)
		to[i] = 0;
	for (unsigned i = 0; from[i] && i < GUEST_VARIABLE_BYTES - 1; i++)
		to[i] = from[i];
}

static bool same_text(const char *a, const char *b)
{
	for (; *a && *a == *b; a++)
		b++;
	return *a == *b;
}

static void services(void)
{
	const struct guest_time *time = &guest_block.time;
	struct vd_internal_run run = call(guest_get_time, guest_vector, rig.board->rtc, 0);

	port_test(returned(&run, GUEST_SUCCESS), "GetTime returned %04u-%02u-%02u %02u:%02u",
		  time->year, time->month, time->day, time->hour, time->minute);
	copy_text(guest_block.name, "BootOrder");
	run = call(guest_get_variable, guest_vector, 0, 0);
	port_test(returned(&run, GUEST_SUCCESS) && same_text(guest_block.value, "0001,0003,0000"),
		  "GetVariable returned \"%s\"", guest_block.value);
	copy_text(guest_block.name, "Nothing");
	run = call(guest_get_variable, guest_vector, 0, 0);
	port_test(returned(&run, GUEST_NOT_FOUND), "GetVariable of another returned NOT_FOUND");
	copy_text(guest_block.name, "Timeout");
	copy_text(guest_block.value, "5 s");
	guest_block.size = 3;
	run = call(guest_set_variable, guest_vector, 0, 0);
	copy_text(guest_block.value, "");
	if (returned(&run, GUEST_SUCCESS))
		run = call(guest_get_variable, guest_vector, 0, 0);
	port_test(returned(&run, GUEST_SUCCESS) && same_text(guest_block.value, "5 s"),
		  "SetVariable, then GetVariable returned \"%s\"", guest_block.value);
	copy_text(guest_block.value, "# the guest has the serial port\n");
	guest_block.value[GUEST_VARIABLE_BYTES - 1] = '\n';
	run = call(guest_say, guest_vector, rig.board->uart, 0);
	port_test(returned(&run, GUEST_VARIABLE_BYTES), "it wrote to a device mapped to it");
	run = call(guest_touch, guest_vector, rig.board->ragged, rig.board->ragged_length);
	port_test(run.result == VD_INTERNAL_RETURNED && !run.aborts,
		  "it reached every page of a ragged range");
	run = call(guest_touch, guest_vector, rig.board->large + GIB - 8192, 8192);
	port_test(returned(&run, 2 * (rig.board->large + GIB) - 8192 - 4096),
		  "it reached the end of 1 GiB");
}

/* An access that is refused, and taken by the guest's handler, with everything masked. */
static void abort_once(const char *what, const void *function, const void *pc, uint64_t address,
		       unsigned access)
{
	struct vd_internal_run run = call(function, guest_vector, address, 0);
	bool reported = run.aborts == 1 && run.abort.address.value == address &&
			run.abort.virtual.value == address && run.abort.access == access &&
			run.abort.pc == address_of(pc);
	bool taken = guest_record.taken == 1 && guest_record.address == address &&
		     guest_record.pc == address_of(pc);

	port_print("# guest: syndrome 0x%llx address 0x%llx pc 0x%llx\n",
		   (unsigned long long)guest_record.syndrome,
		   (unsigned long long)guest_record.address, (unsigned long long)guest_record.pc);
	port_test(reported, "%s at 0x%llx is reported with its address and pc", what,
		  (unsigned long long)address);
	port_test(taken && run.result == VD_INTERNAL_RETURNED && run.value == GUEST_ABORTED,
		  "%s at 0x%llx is taken by the guest, which had masked all", what,
		  (unsigned long long)address);
}

static void aborts(void)
{
	const struct port_board *board = rig.board;
	uint64_t past = board->ragged + board->ragged_length;
	const struct port_load *load;

	abort_once("a load outside the map", guest_load, guest_load_pc,
		   board->large + board->large_length, VD_READ);
	abort_once("a load just behind a range", guest_load, guest_load_pc, past, VD_READ);
	abort_once("a load of the hypervisor", guest_load, guest_load_pc, board->own + 0x18,
		   VD_READ);
	abort_once("a store to the hypervisor", guest_store, guest_store_pc, board->own + 0x20,
		   VD_WRITE);
	abort_once("a store to a hole", guest_store, guest_store_pc, board->hole + 0x108, VD_WRITE);
	abort_once("a store to its text", guest_store, guest_store_pc, address_of(guest_text) + 64,
		   VD_WRITE);
	abort_once("a store to a read-only device", guest_store, guest_store_pc, board->rtc + 8,
		   VD_WRITE);
	abort_once("a load of another device", guest_load, guest_load_pc, board->own_device,
		   VD_READ);
	abort_once("a jump into its data", guest_jump, (void *)(uintptr_t)(address_of(guest_data) +
		   16), address_of(guest_data) + 16, VD_EXECUTE);
	abort_once("a jump into the hypervisor", guest_jump, (void *)(uintptr_t)board->own,
		   board->own, VD_EXECUTE);
	for (unsigned i = 0; (load = port_user_load(i)); i++)
		abort_once(load->what, load->function, load->pc, board->hole + 0x10, VD_READ);
}

static void ends(void)
{
	uint64_t outside = rig.board->hole;
	struct vd_internal_run run = call(guest_load, guest_vector_back, outside, 0);

	port_test(run.result == VD_INTERNAL_SECOND_ABORT && run.aborts == 2 &&
			  run.second.pc == address_of(guest_load_pc),
		  "a handler that goes back to the same load: %s",
		  vd_internal_result_name(run.result));
	run = call(guest_load, guest_vector_again, outside, 0);
	port_test(run.result == VD_INTERNAL_SECOND_ABORT && run.second.address.value == outside + 8,
		  "a handler that steps outside itself: %s", vd_internal_result_name(run.result));
	run = call(guest_load, NULL, outside, 0);
	port_test(run.result == VD_INTERNAL_NO_HANDLER && run.abort.address.value == outside,
		  "no handler: %s", vd_internal_result_name(run.result));
	run = call(guest_load, (void *)(uintptr_t)outside, outside, 0);
	port_test(run.result == VD_INTERNAL_NO_HANDLER, "a handler outside the map: %s",
		  vd_internal_result_name(run.result));
	rig.limit = SHORT_LIMIT;
	run = call(guest_load, guest_vector_loop, outside, 0);
	port_test(run.result == VD_INTERNAL_TIME_LIMIT && run.aborts == 1,
		  "a handler that loops: %s", vd_internal_result_name(run.result));
	run = call(guest_loop, guest_vector, 0, 0);
	port_test(run.result == VD_INTERNAL_TIME_LIMIT && !run.aborts,
		  "an endless loop with everything masked: %s",
		  vd_internal_result_name(run.result));
	port_test(port_clock_ns() - run.deadline < 5000 * MS, "it ended soon after the limit");
	rig.limit = LIMIT;
	run = call(guest_beg, guest_vector, 0, 0);
	port_test(run.result == VD_INTERNAL_STRAY, "a request to the firmware below: %s",
		  vd_internal_result_name(run.result));
	copy_text(guest_block.name, "Lang");
	run = call(guest_get_variable, guest_vector, 0, 0);
	port_test(returned(&run, GUEST_SUCCESS), "after all that, GetVariable returned \"%s\"",
		  guest_block.value);
}

/* A guest with page tables of its own, as firmware has in virtual mode. */
static void own_tables(void)
{
	const struct port_board *board = rig.board;
	uint64_t inside = board->large + 0x12340, outside = board->hole + 0x238;
	uint64_t root = address_of(guest_table), at;
	struct vd_internal_run run;

	port_first_stage(guest_table, outside & ~(GIB - 1), inside & ~(GIB - 1));
	*(volatile uint64_t *)(uintptr_t)inside = UINT64_C(0x0123456789abcdef);
	at = PORT_ALIAS + GIB + (inside & (GIB - 1));
	run = call_with(guest_load_mapped, guest_vector, at, root, true);
	port_test(returned(&run, UINT64_C(0x0123456789abcdef)),
		  "with tables of its own it loads at 0x%llx what lies at 0x%llx",
		  (unsigned long long)at, (unsigned long long)inside);
	at = PORT_ALIAS + (outside & (GIB - 1));
	run = call_with(guest_load_mapped, guest_vector, at, root, true);
	port_test(run.aborts == 1 && run.abort.address.value == outside &&
			  run.abort.virtual.value == at &&
			  run.abort.pc == address_of(guest_load_mapped_pc),
		  "a load at 0x%llx is reported as one of 0x%llx", (unsigned long long)at,
		  (unsigned long long)outside);
	port_test(run.result == VD_INTERNAL_RETURNED && run.value == GUEST_ABORTED &&
			  guest_record.address == at &&
			  guest_record.pc == address_of(guest_load_mapped_pc),
		  "and taken by the guest at its own address");
	run = call_with(guest_load_mapped, guest_vector, at, board->hole, true);
	port_test((run.result == VD_INTERNAL_NO_HANDLER ||
		   run.result == VD_INTERNAL_SECOND_ABORT) &&
			  run.abort.address.value - board->hole < 4096,
		  "tables outside the map are refused: %s", vd_internal_result_name(run.result));
}

static void taken_back(void)
{
	struct vd_internal_run run;
	int r;

	port_test(map_one(rig.board->ragged, UINT64_C(1) << rig.format->page_shift, VD_READ,
			  false) == -EEXIST, "a range that is mapped already is refused: -17");
	r = vd_internal_unmap(rig.vm, rig.board->ragged);
	run = call(guest_load, guest_vector, rig.board->ragged, 0);
	port_test(!r && run.result == VD_INTERNAL_RETURNED && run.value == GUEST_ABORTED,
		  "a range that was used and taken back is out of reach");
	r = map_one(rig.board->ragged, rig.board->ragged_length, VD_READ, false);
	run = call(guest_load, guest_vector, rig.board->ragged, 0);
	port_test(!r && returned(&run, rig.board->ragged), "and given again, with its content");
	run = call(guest_store, guest_vector, rig.board->ragged, 0);
	port_test(run.value == GUEST_ABORTED && run.aborts == 1, "but read-only");
}

void port_scenario(const struct port_format *format)
{
	unsigned long blocks = port_blocks();

	port_print("# %s\n", format->name);
	if (!format->format) {
		port_skip(format->name, format->why);
		return;
	}
	if (!open_rig(format))
		return;
	refusals();
	small_guest();
	if (map_all()) {
		size_t bytes;

		port_stage2(format, vd_pgtable_root(vd_internal_table(rig.vm), &bytes));
		dump();
		services();
		aborts();
		ends();
		own_tables();
		taken_back();
	}
	vd_internal_destroy(rig.vm);
	port_ordinary(format, rig.host);
	vd_host_destroy(rig.host);
	port_test(port_blocks() == blocks, "%s: all memory is given back", format->name);
}

void port_main(void)
{
	struct port_format format;
	unsigned failures;

	port_put("TAP version 13\n");
	for (unsigned i = 0; port_format(i, &format); i++)
		port_scenario(&format);
	failures = port_plan();
	port_print("# %u failed\n", failures);
	port_off();
}
