/* SPDX-License-Identifier: BSD-2-Clause */
/* The console of a machine that ends: all that the guest has sent is shown. */
#include "rig.h"

#include <string.h>

struct console {
	char text[64];
	size_t length;
};

static void console_write(void *context, const uint8_t *bytes, size_t length)
{
	struct console *console = context;

	assert_true(console->length + length < sizeof(console->text));
	memcpy(console->text + console->length, bytes, length);
	console->length += length;
}

static void an_unfinished_line_is_shown(void **state)
{
	struct console console = {.length = 0};
	struct vd_vm_config config;
	struct rig_file kernel;
	struct vd_error error = {0};
	struct vd_vm *vm;

	(void)state;
	RIG_KERNEL_CREATE(&kernel, LUI(5, VD_BOARD_UART), ADDI(6, 0, 'b'), SB(6, 5, 0),
			  ADDI(6, 0, 'y'), SB(6, 5, 0), ADDI(6, 0, 'e'), SB(6, 5, 0), POWER_OFF);
	rig_config(&config, &kernel);
	config.console_write = console_write;
	config.context = &console;
	assert_int_equal(vd_vm_create(&config, &vm, &error), 0);
	rig_file_remove(&kernel);
	assert_int_equal(vd_vm_run(vm, &error), VD_VM_EXIT_POWER_OFF);
	assert_string_equal(console.text, "bye");
	vd_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unfinished_line_is_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
