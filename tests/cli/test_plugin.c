/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices out of the tree: the example of examples/, and shared objects that are no devices.
 *
 * usage: test_plugin VIADUCT MY-DEVICE BAD-DEVICE... (in the order of bad_device.c)
 */
#include "../vm/rig.h"
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1 };
enum { NO_SYMBOL, NO_ABI, OTHER_VERSION, OTHER_SIZES, NO_CREATE, UNDEFINED, NOTHING, FAILS,
       BAD_DEVICES };

static const char *my_device, *const *bad_devices;
static struct rig_file kernel; /* powers off at once */

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

static const char *with(const char *path, const char *properties)
{
	static char spec[4096];

	snprintf(spec, sizeof(spec), "%s%s", path, properties);
	return spec;
}

static void the_example_is_a_device(void **state)
{
	static struct program program;
	const char *arguments[] = {"run", "--kernel", kernel.path, "--stats", "--device", my_device,
				   "--device", with(my_device, ",greeting=good,, morning"), NULL};

	(void)state;
	program_start(&program, arguments);
	program_finish(&program);
	assert_int_equal(program.code, 0);
	assert_non_null(strstr(program.err, "00:01.0 my-device"));
	assert_non_null(strstr(program.err, "00:02.0 my-device"));
}

static void its_properties_are_checked(void **state)
{
	(void)state;
	RUN(FAILED, "did you mean 'greeting'", "--device", with(my_device, ",greting=x"));
	RUN(FAILED, "is not key=value", "--device", with(my_device, ",greeting"));
}

static void what_is_no_device_is_refused(void **state)
{
	static const char *const reasons[BAD_DEVICES] = {
		[NO_SYMBOL] = "does not define vd_device_plugin",
		[NO_ABI] = "does not begin with .abi = VD_DEVICE_PLUGIN_ABI",
		[OTHER_VERSION] = "was built for version 3 of the device interface",
		[OTHER_SIZES] = "headers of another Viaduct",
		[NO_CREATE] = "needs .name and .create",
		[UNDEFINED] = "undefined symbol: vd_from_the_future",
		[NOTHING] = ".create returned 0 and no device",
		[FAILS] = "No such device",
	};

	(void)state;
	for (unsigned i = 0; i < BAD_DEVICES; i++)
		RUN(FAILED, reasons[i], "--device", bad_devices[i]);
	RUN(FAILED, "cannot load device ./nowhere.so", "--device", "./nowhere.so");
	RUN(FAILED, "invalid ELF header", "--device", kernel.path);
	RUN(FAILED, "did you mean the file './nowhere.so'", "--device", "nowhere.so");
}

/* One command, as the example's first lines have it. */
static void the_example_builds_with_one_command(void **state)
{
	char command[1024], object[] = "/tmp/vd-plugin-XXXXXX";
	const char *compiler = getenv("CC") && *getenv("CC") ? getenv("CC") : "cc";
	int fd = mkstemp(object);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", compiler);
	if (system(command)) {
		unlink(object);
		print_message("there is no compiler %s\n", compiler);
		skip();
	}
	snprintf(command, sizeof(command), "%s -Wall -Wextra -Werror -shared -fPIC -o %s "
		 SOURCE_ROOT "/examples/my-device.c -I" SOURCE_ROOT "/include", compiler, object);
	assert_int_equal(system(command), 0);
	RUN(0, "", "--device", object);
	unlink(object);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_is_a_device),
		cmocka_unit_test(its_properties_are_checked),
		cmocka_unit_test(what_is_no_device_is_refused),
		cmocka_unit_test(the_example_builds_with_one_command),
	};

	if (argc != 3 + BAD_DEVICES) {
		fprintf(stderr, "usage: %s VIADUCT MY-DEVICE BAD-DEVICE...\n", argv[0]);
		return 2;
	}
	program_set_path(argv[1]);
	/* With a slash: without one it would be a name. */
	my_device = realpath(argv[2], NULL);
	bad_devices = (const char *const *)&argv[3];
	return cmocka_run_group_tests(tests, create_kernel, remove_kernel);
}
