/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Command lines, good and bad, and what the program says to them and at its end.
 *
 * usage: test_command_line VIADUCT
 */
#include "../vm/rig.h"
#include "program.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, RESET = 3, PANIC = 4, SIGNAL = 5 };

static struct rig_file kernel; /* powers off at once */

#define SRST(type, reason)                                                                         \
	LI(17, SBI_SRST), ADDI(16, 0, 0), ADDI(10, 0, type), ADDI(11, 0, reason), ECALL
#define PUT(byte) LI(17, SBI_DBCN), ADDI(16, 0, 2), ADDI(10, 0, byte), ECALL

static int create_kernel(void **state)
{
	(void)state;
	RIG_KERNEL_CREATE(&kernel, POWER_OFF);
	return 0;
}

static int remove_kernel(void **state)
{
	(void)state;
	rig_file_remove(&kernel);
	return 0;
}

#define RUN(code, words, ...) EXPECT(code, words, "run", "--kernel", kernel.path, __VA_ARGS__)

static void help_and_version_are_answered(void **state)
{
	static const char *const commands[] = {"run", "ps", "status", "pause", "resume", "quit",
					       "riscv-test", "bench"};
	static const char *const options[] = {
		"--kernel", "--initrd", "--append", "--memory", "--cpus", "--device",
		"--no-direct-mmio", "--screenshot", "--stats", "--stats-json", "--trace", "--name",
		"Exit code",
	};
	static struct program program;

	(void)state;
	EXPECT(0, "usage: viaduct", "-h");
	EXPECT(0, "usage: viaduct", "help");
	EXPECT(0, "viaduct " VD_VERSION, "--version");
	program_expect(USAGE, "usage: viaduct", (const char *const[]){NULL});
	program_start(&program, (const char *const[]){"--help", NULL});
	program_finish(&program);
	assert_int_equal(program.code, 0);
	for (unsigned int i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		assert_non_null(strstr(program.out, commands[i]));
		EXPECT(0, "usage: viaduct", commands[i], "--help");
	}
	program_start(&program, (const char *const[]){"run", "--help", NULL});
	program_finish(&program);
	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		assert_non_null(strstr(program.out, options[i]));
}

static void unknown_words_get_a_suggestion(void **state)
{
	(void)state;
	EXPECT(USAGE, "did you mean 'run'", "rum");
	EXPECT(USAGE, "did you mean 'resume'", "resum");
	EXPECT(USAGE, "unknown command 'xyzzyxyzzy'", "xyzzyxyzzy");
	EXPECT(USAGE, "unknown command ''", "");
	EXPECT(USAGE, "did you mean --kernel?", "run", "--kernal", "x");
	EXPECT(USAGE, "did you mean --kernel?", "run", "--kernal=/boot/vmlinux-6.12-riscv64");
	EXPECT(USAGE, "did you mean --no-direct-mmio?", "run", "--no-direct-mimo");
	EXPECT(USAGE, "unknown option", "run", "/boot/vmlinux-6.12");
	EXPECT(USAGE, "--kernel needs a value", "run", "--kernel");
	EXPECT(USAGE, "--stats takes no value", "run", "--stats=yes");
	EXPECT(USAGE, "usage", "status");
	EXPECT(USAGE, "usage", "status", "a", "b");
	EXPECT(USAGE, "usage", "ps", "x");
	EXPECT(USAGE, "usage", "riscv-test");
}

static void sizes_and_numbers_are_checked(void **state)
{
	static const char *const bad[] = {
		"", "M", "-1", "1.5G", "512MX", "512iB", "0x", "99999999999999999999", "17179869184G",
	};
	static const char *const small[] = {"0", "63M", "65M", "1T"};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		RUN(USAGE, "not a size", "--memory", bad[i]);
	for (unsigned int i = 0; i < sizeof(small) / sizeof(small[0]); i++)
		RUN(FAILED, "64 MiB to 512 GiB", "--memory", small[i]);
	RUN(USAGE, "not a number of cpus", "--cpus", "0");
	RUN(USAGE, "not a number of cpus", "--cpus", "two");
	RUN(USAGE, "not a number of cpus", "--cpus", "-1");
	RUN(USAGE, "not a number of cpus", "--cpus", "4294967297");
	RUN(FAILED, "1 to 32 cpus", "--cpus", "33");
	RUN(0, "", "--memory", "64M", "--cpus", "32");
	RUN(0, "", "--memory=0x4000000");
	RUN(0, "", "--memory=64MiB");
	RUN(0, "", "--memory=65536kB");
	RUN(USAGE, "--stress takes", "--stress", "remove");
	RUN(USAGE, "--stress takes", "--stress", "move,everything");
	RUN(USAGE, "--stress takes", "--stress", "move,,age");
	RUN(USAGE, "shared or private", "--memory-kind", "file");
	RUN(USAGE, "mediated or assigned", "--dma", "direct");
}

static void missing_and_wrong_kernels_are_named(void **state)
{
	(void)state;
	EXPECT(FAILED, "--kernel", "run");
	EXPECT(FAILED, "/nowhere/Image", "run", "--kernel", "/nowhere/Image");
	EXPECT(FAILED, "not a RISC-V Linux Image", "run", "--kernel", "/bin/sh");
	RUN(FAILED, "/nowhere/initrd", "--initrd", "/nowhere/initrd");
	EXPECT(FAILED, "/nowhere/test", "riscv-test", "/nowhere/test");
}

static void device_specifications_are_checked(void **state)
{
	char long_spec[5000] = "nvme,image=";

	(void)state;
	RUN(FAILED, "no such device: 'floppy'", "--device", "floppy");
	RUN(FAILED, "did you mean 'display'", "--device", "dispaly");
	RUN(FAILED, "no such device: ''", "--device", "");
	RUN(FAILED, "needs image=FILE", "--device", "nvme");
	RUN(FAILED, "'image' is not key=value", "--device", "nvme,image");
	RUN(FAILED, "'' is not key=value", "--device", "display,");
	RUN(FAILED, "did you mean 'image'", "--device", "nvme,imaeg=x");
	RUN(FAILED, "no property 'xyzzyxyzzy'", "--device", "display,xyzzyxyzzy=1");
	RUN(FAILED, "write on or off", "--device", "nvme,image=x,snapshot=maybe");
	RUN(FAILED, "not a number or size", "--device", "display,width=wide");
	RUN(FAILED, "at most 65535", "--device", "display,width=65536");
	RUN(FAILED, "display", "--device", "display,memory=1");
	RUN(FAILED, "display", "--device", "display,memory=16777215T");
	RUN(FAILED, "write on or off", "--device", "balloon,reporting=perhaps");
	RUN(FAILED, "cannot remain", "--device", "balloon,size=1T");
	RUN(FAILED, "needs socket=PATH", "--device", "vfio-user");
	RUN(FAILED, "no vfio-user server at /nowhere/s", "--device", "vfio-user,socket=/nowhere/s");
	RUN(FAILED, "timeout is at most", "--device", "vfio-user,socket=/nowhere/s,timeout=1G");
	RUN(FAILED, "did you mean 'size'", "--device", "balloon,sice=1");
	RUN(FAILED, "one balloon at most", "--device", "balloon", "--device", "balloon");
	RUN(0, "", "--device", "balloon,size=128M,reporting=off");
	RUN(FAILED, "/nowhere/disk", "--device", "nvme,image=/nowhere/disk");
	RUN(FAILED, "/nowhere/a,b=c,,d", "--device", "nvme,image=/nowhere/a,,b=c,,,,d");
	RUN(FAILED, "/tmp", "--device", "nvme,image=/tmp");
	memset(long_spec + 11, 'x', sizeof(long_spec) - 12);
	RUN(FAILED, "too long", "--device", long_spec);
	RUN(FAILED, "key=value", "--device",
	    "display,a=,b=,c=,d=,e=,f=,g=,h=,i=,j=,k=,l=,m=");
	RUN(USAGE, "at most 16 devices", "--device=a", "--device=a", "--device=a", "--device=a",
	    "--device=a", "--device=a", "--device=a", "--device=a", "--device=a", "--device=a",
	    "--device=a", "--device=a", "--device=a", "--device=a", "--device=a", "--device=a",
	    "--device=a");
	RUN(FAILED, "needs --device display", "--screenshot", "/tmp/x.png");
	RUN(0, "", "--device", "display", "--device", "display,width=800,height=600,memory=4M");
}

/* ---- ends ----------------------------------------------------------------- */

static void exit_codes_tell_how_the_guest_ended(void **state)
{
	static const struct { uint32_t type, reason; int code; } ends[] = {
		{0, 0, 0}, {1, 0, RESET}, {2, 0, RESET}, {0, 1, PANIC}, {1, 1, PANIC},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct rig_file file;

		RIG_KERNEL_CREATE(&file, SRST(ends[i].type, ends[i].reason));
		EXPECT(ends[i].code, "", "run", "--kernel", file.path);
		rig_file_remove(&file);
	}
}

static void signals_end_it_in_order(void **state)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	char json[] = "/tmp/viaduct-test-XXXXXX";
	struct rig_file file;

	(void)state;
	close(mkstemp(json));
	RIG_KERNEL_CREATE(&file, PUT('u'), PUT('p'), PUT('\n'), JAL(0, 0));
	for (unsigned int i = 0; i < 3; i++) {
		static struct program program;
		struct json_object *stats;

		program_start(&program, (const char *const[]){"run", "--kernel", file.path,
							      "--stats-json", json, NULL});
		program_wait_for_output(&program, "up\n");
		kill(program.pid, numbers[i]);
		program_finish(&program);
		assert_int_equal(program.code, SIGNAL);
		stats = json_object_from_file(json);
		assert_non_null(stats);
		assert_string_equal(json_object_get_string(json_object_object_get(stats, "exit")),
				    "stopped");
		json_object_put(stats);
	}
	rig_file_remove(&file);
	unlink(json);
}

/* ---- what it reports --------------------------------------------------------- */

static void expect_number(struct json_object *object, const char *path)
{
	char name[64];
	const char *dot = strchr(path, '.');
	struct json_object *value;

	snprintf(name, sizeof(name), "%.*s", (int)(dot ? (size_t)(dot - path) : strlen(path)), path);
	if (!json_object_object_get_ex(object, name, &value))
		fail_msg("no key %s", path);
	if (dot) {
		expect_number(value, dot + 1);
		return;
	}
	assert_true(json_object_is_type(value, json_type_int) ||
		    json_object_is_type(value, json_type_double));
	assert_true(json_object_get_double(value) >= 0);
}

static void statistics_hold_what_is_promised(void **state)
{
	static const char *const keys[] = {
		"wall_seconds", "instructions", "faults.ram", "faults.device", "faults.spurious",
		"mmio.direct_pages", "mmio.trapped", "dma.translations", "dma.pins", "dma.iotlb_hits",
		"dma.iotlb_misses", "dma.iotlb_invalidations", "dma.io_faults", "zaps", "tlb_flushes", "peak_rss_bytes",
	};
	char path[] = "/tmp/viaduct-test-XXXXXX";
	struct json_object *stats, *devices;

	(void)state;
	close(mkstemp(path));
	RUN(0, "", "--stats-json", path, "--device", "display");
	stats = json_object_from_file(path);
	assert_non_null(stats);
	for (unsigned int i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		expect_number(stats, keys[i]);
	assert_string_equal(json_object_get_string(json_object_object_get(stats, "exit")),
			    "power-off");
	assert_true(json_object_get_int64(json_object_object_get(stats, "instructions")) >= 6);
	assert_true(json_object_object_get_ex(stats, "devices", &devices));
	assert_int_equal(json_object_array_length(devices), 1);
	json_object_put(stats);
	unlink(path);
	RUN(FAILED, "/nowhere/stats", "--stats-json", "/nowhere/stats");
	RUN(FAILED, "No space left", "--stats-json", "/dev/full");
	RUN(FAILED, "not switched the display on", "--device", "display", "--screenshot", "/nowhere/x");
}

/* Both go to stderr, so that the console stays the guest's. */
static void stats_and_trace_are_printed_beside_the_console(void **state)
{
	static struct program program;
	struct rig_file file;

	(void)state;
	RIG_KERNEL_CREATE(&file, PUT('u'), PUT('p'), PUT('\n'), LUI(9, VD_BOARD_UART), LBU(9, 9, 5),
			  SRST(0, 0));
	program_start(&program, (const char *const[]){"run", "--kernel", file.path, "--stats",
						      "--trace=fault,mmio", NULL});
	program_finish(&program);
	assert_int_equal(program.code, 0);
	assert_string_equal(program.out, "up\n");
	assert_non_null(strstr(program.err, "fault gpa=0x80200000 "));
	assert_non_null(strstr(program.err, "mmio  gpa=0x10000005 length=1 value=0x60"));
	assert_non_null(strstr(program.err, "peak RSS"));
	program_start(&program, (const char *const[]){"run", "--kernel", file.path, "--trace",
						      "fault", NULL});
	program_finish(&program);
	assert_non_null(strstr(program.err, "fault gpa="));
	assert_null(strstr(program.err, "mmio"));
	rig_file_remove(&file);
	RUN(0, "", "--trace", "all");
	RUN(USAGE, "not 'xyzzy'", "--trace", "xyzzy");
	RUN(USAGE, "--trace knows", "--trace", "fault,,zap");
	RUN(USAGE, "--trace knows", "--trace", "faults");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help_and_version_are_answered),
		cmocka_unit_test(unknown_words_get_a_suggestion),
		cmocka_unit_test(sizes_and_numbers_are_checked),
		cmocka_unit_test(missing_and_wrong_kernels_are_named),
		cmocka_unit_test(device_specifications_are_checked),
		cmocka_unit_test(exit_codes_tell_how_the_guest_ended),
		cmocka_unit_test(signals_end_it_in_order),
		cmocka_unit_test(statistics_hold_what_is_promised),
		cmocka_unit_test(stats_and_trace_are_printed_beside_the_console),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, create_kernel, remove_kernel);
}
