/* SPDX-License-Identifier: BSD-2-Clause */
/* The SBI from a kernel's side: results, bad parameters, hostile pointers, ends of the machine. */
#include "rig.h"

#include <string.h>

#define OK 0
#define NOT_SUPPORTED (-2)
#define INVALID_PARAM (-3)
#define INVALID_ADDRESS (-5)
#define ALREADY_AVAILABLE (-6)
#define ANY INT64_MAX

/* One call and what it must return. The kernel runs a table of them. */
struct call {
	uint64_t extension, function, a0, a1, a2;
	int64_t error, value;
};

#define CALLS_MAX 40u
#define TABLE RIG_DATA
#define RESULTS (RIG_DATA + 0x10000)

/* x20 table, x22 results: call for ever; the last call ends the machine. */
static void create_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, ADDI(20, 8, 0), LUI(22, 0x10000), ADD(22, 22, 8),
			  LD(17, 20, 0), LD(16, 20, 8), LD(10, 20, 16), LD(11, 20, 24),
			  LD(12, 20, 32), ECALL, SD(10, 22, 0), SD(11, 22, 8), ADDI(20, 20, 40),
			  ADDI(22, 22, 16), JAL(0, -40));
}

struct console {
	char text[256];
	size_t length;
};

static void console_write(void *context, const uint8_t *bytes, size_t length)
{
	struct console *console = context;

	assert_true(console->length + length < sizeof(console->text));
	memcpy(console->text + console->length, bytes, length);
	console->length += length;
}

/* Run the calls, then one that powers off. @seen: the console's text, or NULL */
static void run_calls(const struct call *calls, unsigned int count, unsigned int cpus,
		      struct console *seen)
{
	const struct call off = {SBI_SRST, 0, 0, 0, 0, 0, 0};
	struct console console = {.length = 0};
	struct vd_vm_config config;
	struct rig_file kernel;
	struct vd_error error = {0};
	struct vd_vm *vm;

	create_kernel(&kernel);
	rig_config(&config, &kernel);
	config.cpus = cpus;
	config.console_write = console_write;
	config.context = seen ? seen : &console;
	assert_int_equal(vd_vm_create(&config, &vm, &error), 0);
	rig_file_remove(&kernel);
	for (unsigned int i = 0; i <= count; i++) {
		const uint64_t *words = (const uint64_t *)(i < count ? &calls[i] : &off);

		for (unsigned int k = 0; k < 5; k++)
			rig_write64(vm, TABLE + 40 * i + 8 * k, words[k]);
	}
	assert_int_equal(vd_vm_run(vm, &error), VD_VM_EXIT_POWER_OFF);
	for (unsigned int i = 0; i < count; i++) {
		int64_t code = (int64_t)rig_read64(vm, RESULTS + 16 * i);
		int64_t value = (int64_t)rig_read64(vm, RESULTS + 16 * i + 8);

		if (code != calls[i].error || (calls[i].value != ANY && value != calls[i].value))
			fail_msg("call %u (0x%llx, %lld): error %lld, value %lld", i,
				 (unsigned long long)calls[i].extension,
				 (long long)calls[i].function, (long long)code, (long long)value);
	}
	vd_vm_destroy(vm);
}
#define RUN(calls, cpus, seen) run_calls(calls, sizeof(calls) / sizeof((calls)[0]), cpus, seen)

static void the_base_extension_tells_what_there_is(void **state)
{
	static const struct call calls[] = {
		{SBI_BASE, 0, 0, 0, 0, OK, 2 << 24},
		{SBI_BASE, 1, 0, 0, 0, OK, ANY},
		{SBI_BASE, 2, 0, 0, 0, OK, ANY},
		{SBI_BASE, 3, SBI_BASE, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_TIME, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_IPI, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_RFENCE, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_HSM, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_SRST, 0, 0, OK, 1},
		{SBI_BASE, 3, SBI_DBCN, 0, 0, OK, 1},
		{SBI_BASE, 3, 0x504d55 /* PMU */, 0, 0, OK, 0},
		{SBI_BASE, 3, 1 /* legacy console */, 0, 0, OK, 0},
		{SBI_BASE, 3, UINT64_MAX, 0, 0, OK, 0},
		{SBI_BASE, 3, SBI_HSM | UINT64_C(1) << 32, 0, 0, OK, 0},
		{SBI_BASE, 4, 0, 0, 0, OK, 0},
		{SBI_BASE, 5, 0, 0, 0, OK, 0},
		{SBI_BASE, 6, 0, 0, 0, OK, 0},
		{SBI_BASE, 7, 0, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_BASE, UINT64_MAX, 0, 0, 0, NOT_SUPPORTED, ANY},
	};

	(void)state;
	RUN(calls, 1, NULL);
}

static void what_does_not_exist_is_not_supported(void **state)
{
	static const struct call calls[] = {
		{0, 0, 0, 0, 0, NOT_SUPPORTED, ANY}, /* legacy extensions */
		{8, 0, 0, 0, 0, NOT_SUPPORTED, ANY},
		{0x504d55, 0, 0, 0, 0, NOT_SUPPORTED, ANY},
		{UINT64_MAX, UINT64_MAX, UINT64_MAX, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_TIME | UINT64_C(1) << 32, 0, 0, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_TIME, 1, 0, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_IPI, 1, 1, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_RFENCE, 3, 1, 0, 0, NOT_SUPPORTED, ANY}, /* of nested guests */
		{SBI_RFENCE, 7, 1, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_HSM, 3, 0, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_SRST, 1, 0, 0, 0, NOT_SUPPORTED, ANY},
		{SBI_DBCN, 3, 0, 0, 0, NOT_SUPPORTED, ANY},
	};

	(void)state;
	RUN(calls, 1, NULL);
}

/* Masks that name a hart that is not there do nothing at all. */
static void harts_that_do_not_exist_are_refused(void **state)
{
	static const struct call calls[] = {
		{SBI_IPI, 0, 1, 0, 0, OK, ANY},
		{SBI_IPI, 0, 3, 0, 0, OK, ANY},
		{SBI_IPI, 0, 0, UINT64_MAX, 0, OK, ANY},
		{SBI_IPI, 0, 0, 0, 0, OK, ANY},
		{SBI_IPI, 0, 1, 1, 0, OK, ANY},
		{SBI_IPI, 0, 5, 0, 0, INVALID_PARAM, ANY},
		{SBI_IPI, 0, 2, 1, 0, INVALID_PARAM, ANY},
		{SBI_IPI, 0, 1, 2, 0, INVALID_PARAM, ANY},
		{SBI_IPI, 0, UINT64_C(1) << 63, 0, 0, INVALID_PARAM, ANY},
		{SBI_IPI, 0, 2, UINT64_MAX - 1, 0, INVALID_PARAM, ANY}, /* wraps to a hart */
		{SBI_IPI, 0, 1, UINT64_C(1) << 32, 0, INVALID_PARAM, ANY},
		{SBI_RFENCE, 0, 3, 0, 0, OK, ANY},
		{SBI_RFENCE, 1, 3, 0, 0, OK, ANY},
		{SBI_RFENCE, 2, 0, UINT64_MAX, 0, OK, ANY},
		{SBI_RFENCE, 1, 4, 0, 0, INVALID_PARAM, ANY},
		{SBI_HSM, 0, 2, RIG_ENTRY, 0, INVALID_PARAM, ANY},
		{SBI_HSM, 0, UINT64_MAX, RIG_ENTRY, 0, INVALID_PARAM, ANY},
		{SBI_HSM, 0, 0, RIG_ENTRY, 0, ALREADY_AVAILABLE, ANY},
		{SBI_HSM, 0, 1, 0, 0, INVALID_ADDRESS, ANY},
		{SBI_HSM, 0, 1, RIG_ENTRY + 1, 0, INVALID_ADDRESS, ANY},
		{SBI_HSM, 0, 1, VD_BOARD_RAM + RIG_MEMORY, 0, INVALID_ADDRESS, ANY},
		{SBI_HSM, 0, 1, VD_BOARD_UART, 0, INVALID_ADDRESS, ANY},
		{SBI_HSM, 0, 1, UINT64_MAX - 1, 0, INVALID_ADDRESS, ANY},
		{SBI_HSM, 2, 0, 0, 0, OK, 0},
		{SBI_HSM, 2, 1, 0, 0, OK, 1},
		{SBI_HSM, 2, 2, 0, 0, INVALID_PARAM, ANY},
		{SBI_HSM, 2, UINT64_C(1) << 32, 0, 0, INVALID_PARAM, ANY},
	};

	(void)state;
	RUN(calls, 2, NULL);
}

static void the_console_writes_what_lies_in_memory(void **state)
{
	static const struct call calls[] = {
		{SBI_DBCN, 2, 'h', 0, 0, OK, ANY},
		{SBI_DBCN, 2, 0xffffff00u | 'i', 0, 0, OK, ANY},
		{SBI_DBCN, 0, 3, RIG_KERNEL + 0x38 /* RSC\5 */, 0, OK, 3},
		{SBI_DBCN, 0, 0, RIG_KERNEL, 0, OK, 0},
		{SBI_DBCN, 2, '\n', 0, 0, OK, ANY},
	};
	struct console console = {.length = 0};

	(void)state;
	RUN(calls, 1, &console);
	assert_int_equal(console.length, 6);
	assert_memory_equal(console.text, "hiRSC\n", 6);
}

/* Outside memory, over its end, in a device, with an upper half; lengths that wrap. */
static void hostile_pointers_are_refused(void **state)
{
	static const struct call calls[] = {
		{SBI_DBCN, 0, 1, 0, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 16, VD_BOARD_RAM - 8, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 16, VD_BOARD_RAM + RIG_MEMORY - 8, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 1, VD_BOARD_UART, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 1, VD_BOARD_IMSIC, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 1, VD_BOARD_ECAM, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 1, RIG_KERNEL, 1, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, 1, UINT64_MAX, UINT64_MAX, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, UINT64_MAX, UINT64_MAX - 8, 0, INVALID_PARAM, ANY},
		{SBI_DBCN, 0, UINT64_MAX, VD_BOARD_RAM + RIG_MEMORY - 8, 0, INVALID_PARAM, ANY},
		/* The page that a start or a fence names is the hart's own affair. */
		{SBI_RFENCE, 1, 1, 0, UINT64_MAX, OK, ANY},
		{SBI_TIME, 0, 0, 0, 0, OK, ANY},
		{SBI_TIME, 0, UINT64_MAX, 0, 0, OK, ANY},
	};
	struct console console = {.length = 0};

	(void)state;
	RUN(calls, 1, &console);
	assert_int_equal(console.length, 0);
}

/* ---- the second hart --------------------------------------------------------- */

/*
 * Hart 0 starts hart 1 with x11 = RIG_DATA and waits for its word; hart 1 says who it is, stops, and
 * is started a second time when its state says so.
 */
static void a_second_hart_starts_stops_and_starts_again(void **state)
{
	struct rig_file kernel;
	struct vd_error error = {0};
	struct vd_vm *vm;

	(void)state;
	RIG_KERNEL_CREATE(&kernel,
		/* 0: hart 1's entry is 0x100 on; started as a0 = id, a1 = opaque */
		insn_u(INSN_AUIPC, 18, 0), ADDI(18, 18, 0x100), ADDI(19, 0, 2),
		/* 12: start it */ LI(17, SBI_HSM), ADDI(16, 0, 0), ADDI(10, 0, 1), ADDI(11, 18, 0),
		ADDI(12, 8, 0), ECALL, SD(10, 8, 32),
		/* 44: until it is stopped again (1) */ ADDI(16, 0, 2), ADDI(10, 0, 1), ECALL,
		ADDI(12, 0, 1), BNE(11, 12, -16),
		/* 64: twice */ ADDI(19, 19, -1), BNE(19, 0, -56), POWER_OFF,
		[64] = /* 0x100: */ SD(10, 11, 0), CSRR(13, 0x180), SD(13, 11, 8), LD(13, 11, 16),
		ADDI(13, 13, 1), SD(13, 11, 16), LI(17, SBI_HSM), ADDI(16, 0, 1), ECALL, JAL(0, 0));
	vm = rig_create(&kernel, 2);
	rig_file_remove(&kernel);
	assert_int_equal(vd_vm_run(vm, &error), VD_VM_EXIT_POWER_OFF);
	assert_int_equal(rig_read64(vm, RIG_DATA), 1);
	assert_int_equal(rig_read64(vm, RIG_DATA + 8), 0);
	assert_int_equal(rig_read64(vm, RIG_DATA + 16), 2);
	assert_int_equal(rig_read64(vm, RIG_DATA + 32), OK);
	vd_vm_destroy(vm);
}

/* ---- how machines end ----------------------------------------------------------- */

static enum vd_vm_exit end_by(const char *print, uint64_t type, uint64_t reason)
{
	struct console console = {.length = 0};
	struct call calls[CALLS_MAX];
	struct vd_vm_config config;
	struct rig_file kernel;
	struct vd_error error = {0};
	struct vd_vm *vm;
	enum vd_vm_exit exit;
	unsigned int n = 0;

	for (; *print; print++)
		calls[n++] = (struct call){SBI_DBCN, 2, (uint8_t)*print, 0, 0, 0, 0};
	calls[n++] = (struct call){SBI_SRST, 0, type, reason, 0, 0, 0};
	create_kernel(&kernel);
	rig_config(&config, &kernel);
	config.console_write = console_write;
	config.context = &console;
	assert_int_equal(vd_vm_create(&config, &vm, &error), 0);
	rig_file_remove(&kernel);
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < 5; k++)
			rig_write64(vm, TABLE + 40 * i + 8 * k, ((uint64_t *)&calls[i])[k]);
	exit = vd_vm_run(vm, &error);
	assert_int_equal(error.code, 0);
	vd_vm_destroy(vm);
	return exit;
}

static void resets_end_the_machine_as_they_say(void **state)
{
	static const struct call calls[] = {
		{SBI_SRST, 0, 3, 0, 0, INVALID_PARAM, ANY},
		{SBI_SRST, 0, 0, 2, 0, INVALID_PARAM, ANY},
		{SBI_SRST, 0, 0xffffffff, 0, 0, INVALID_PARAM, ANY},
	};

	(void)state;
	RUN(calls, 1, NULL);
	assert_int_equal(end_by("", 0, 0), VD_VM_EXIT_POWER_OFF);
	assert_int_equal(end_by("", 1, 0), VD_VM_EXIT_RESET);
	assert_int_equal(end_by("", 2, 0), VD_VM_EXIT_RESET);
	assert_int_equal(end_by("", 0, 1), VD_VM_EXIT_PANIC);
	assert_int_equal(end_by("", 1, 1), VD_VM_EXIT_PANIC);
	/* Linux reports its panics in words only. */
	assert_int_equal(end_by("KKernel panic - not syncing: x", 1, 0), VD_VM_EXIT_PANIC);
	assert_int_equal(end_by("Kernel panic - not synced", 1, 0), VD_VM_EXIT_RESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_base_extension_tells_what_there_is),
		cmocka_unit_test(what_does_not_exist_is_not_supported),
		cmocka_unit_test(harts_that_do_not_exist_are_refused),
		cmocka_unit_test(the_console_writes_what_lies_in_memory),
		cmocka_unit_test(hostile_pointers_are_refused),
		cmocka_unit_test(a_second_hart_starts_stops_and_starts_again),
		cmocka_unit_test(resets_end_the_machine_as_they_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
