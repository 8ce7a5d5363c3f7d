/* SPDX-License-Identifier: BSD-2-Clause */
/* The serial port as a driver sees it (TI PC16550D data sheet), and its two ends on the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "vm/machine.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH, FCR = IIR };

struct port {
	struct vd_vm vm;
	char output[512];
	size_t length;
	unsigned int writes;
};

static void console_write(void *context, const uint8_t *bytes, size_t length)
{
	struct port *port = context;

	assert_true(port->length + length <= sizeof(port->output));
	memcpy(port->output + port->length, bytes, length);
	port->length += length;
	port->writes++;
}

static void open_port(struct port *port)
{
	memset(port, 0, sizeof(*port));
	port->vm.env = vd_env_hosted();
	port->vm.config.console_write = console_write;
	port->vm.config.context = port;
	assert_int_equal(vd_uart_create(&port->vm, NULL), 0);
}

static void close_port(struct port *port)
{
	vd_uart_destroy(port->vm.uart);
}

static uint8_t in(struct port *port, unsigned int offset)
{
	uint64_t value = 0;

	assert_int_equal(vd_uart_ops.read(port->vm.uart, offset, 1, &value), 0);
	assert_true(value < 256);
	return (uint8_t)value;
}

static void out(struct port *port, unsigned int offset, uint64_t value)
{
	assert_int_equal(vd_uart_ops.write(port->vm.uart, offset, 1, value), 0);
}

static void output_comes_by_lines(void **state)
{
	struct port port;

	(void)state;
	open_port(&port);
	for (const char *p = "ab\ncd"; *p; p++)
		out(&port, DATA, (uint8_t)*p);
	assert_int_equal(port.writes, 1);
	assert_int_equal(port.length, 3);
	vd_uart_flush(port.vm.uart);
	assert_int_equal(port.length, 5);
	assert_memory_equal(port.output, "ab\ncd", 5);
	vd_uart_flush(port.vm.uart); /* nothing is left */
	assert_int_equal(port.writes, 2);
	/* A line that does not end is not kept for ever. */
	for (unsigned int i = 0; i < 300; i++)
		out(&port, DATA, 'x');
	assert_true(port.length >= 5 + 2 * 128);
	assert_true(in(&port, LSR) & 0x20); /* always ready for more */
	close_port(&port);
}

static void input_waits_until_it_is_read(void **state)
{
	struct port port;
	uint8_t many[300];

	(void)state;
	open_port(&port);
	assert_false(in(&port, LSR) & 1);
	assert_int_equal(in(&port, DATA), 0);
	assert_int_equal(vd_uart_input(port.vm.uart, (const uint8_t *)"hi", 2), 2);
	assert_true(in(&port, LSR) & 1);
	assert_int_equal(in(&port, DATA), 'h');
	assert_int_equal(in(&port, DATA), 'i');
	assert_false(in(&port, LSR) & 1);
	/* What does not fit stays with the caller; round the end of the buffer as well. */
	for (unsigned int i = 0; i < sizeof(many); i++)
		many[i] = (uint8_t)i;
	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(vd_uart_input(port.vm.uart, many, sizeof(many)), 256);
		assert_int_equal(vd_uart_input(port.vm.uart, many, 1), 0);
		for (unsigned int i = 0; i < 256; i++)
			assert_int_equal(in(&port, DATA), i);
		assert_int_equal(vd_uart_input(port.vm.uart, many, 100), 100);
		for (unsigned int i = 0; i < 100; i++)
			assert_int_equal(in(&port, DATA), i);
	}
	/* Clearing the FIFO forgets it. */
	vd_uart_input(port.vm.uart, many, 5);
	out(&port, FCR, 3);
	assert_false(in(&port, LSR) & 1);
	close_port(&port);
}

static void the_divisor_hides_data_and_enables(void **state)
{
	struct port port;

	(void)state;
	open_port(&port);
	out(&port, LCR, 0x83);
	out(&port, DATA, 0x34);
	out(&port, IER, 0x12);
	assert_int_equal(in(&port, DATA), 0x34);
	assert_int_equal(in(&port, IER), 0x12);
	out(&port, LCR, 3);
	assert_int_equal(in(&port, LCR), 3);
	assert_int_equal(in(&port, IER), 0);
	vd_uart_flush(port.vm.uart);
	assert_int_equal(port.length, 0); /* nothing of this was output */
	out(&port, SCRATCH, 0xa5);
	assert_int_equal(in(&port, SCRATCH), 0xa5);
	out(&port, IER, 0xff);
	assert_int_equal(in(&port, IER), 0x0f);
	close_port(&port);
}

/* How drivers look for a port: outputs come back as inputs, and nothing goes out. */
static void loop_back_shows_the_outputs(void **state)
{
	struct port port;

	(void)state;
	open_port(&port);
	assert_int_equal(in(&port, MSR) & 0xb0, 0xb0);
	for (unsigned int bits = 0; bits < 16; bits++) {
		/* DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD */
		unsigned int want = (bits & 1 ? 0x20 : 0) | (bits & 2 ? 0x10 : 0) |
				    (bits & 4 ? 0x40 : 0) | (bits & 8 ? 0x80 : 0);

		out(&port, MCR, 0x10 | bits);
		assert_int_equal(in(&port, MSR) & 0xf0, want);
		out(&port, DATA, 'x');
	}
	out(&port, MCR, 0);
	vd_uart_flush(port.vm.uart);
	assert_int_equal(port.length, 0);
	close_port(&port);
}

/* There is no line, but the driver asks: input first, an empty transmitter once. */
static void identification_says_what_there_is(void **state)
{
	struct port port;

	(void)state;
	open_port(&port);
	assert_int_equal(in(&port, IIR) & 0x0f, 1);
	out(&port, IER, 2);
	assert_int_equal(in(&port, IIR) & 0x0f, 2);
	assert_int_equal(in(&port, IIR) & 0x0f, 1);
	out(&port, DATA, 'x');
	out(&port, IER, 3);
	vd_uart_input(port.vm.uart, (const uint8_t *)"y", 1);
	assert_int_equal(in(&port, IIR) & 0x0f, 4);
	assert_int_equal(in(&port, DATA), 'y');
	assert_int_equal(in(&port, IIR) & 0x0f, 2);
	assert_int_equal(in(&port, IIR) & 0x0f, 1);
	assert_int_equal(in(&port, IIR) & 0xc0, 0);
	out(&port, FCR, 1);
	assert_int_equal(in(&port, IIR) & 0xc0, 0xc0); /* a 16550A */
	close_port(&port);
}

/* The page repeats the eight registers; wide accesses touch one. */
static void any_access_is_answered(void **state)
{
	struct port port;

	(void)state;
	open_port(&port);
	for (uint64_t offset = 0; offset < 4096; offset++) {
		for (unsigned int length = 1; length <= 8; length *= 2) {
			uint64_t value = 0;

			assert_int_equal(vd_uart_ops.write(port.vm.uart, offset, length,
							   UINT64_MAX), 0);
			assert_int_equal(vd_uart_ops.read(port.vm.uart, offset, length, &value), 0);
			assert_true(value < 256);
			port.length = 0;
		}
	}
	close_port(&port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_comes_by_lines),
		cmocka_unit_test(input_waits_until_it_is_read),
		cmocka_unit_test(the_divisor_hides_data_and_enables),
		cmocka_unit_test(loop_back_shows_the_outputs),
		cmocka_unit_test(identification_says_what_there_is),
		cmocka_unit_test(any_access_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
