/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines to the console, in the format of the Test Anything Protocol. */
#include "port.h"

static unsigned tests, failures;

void port_put(const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			port_putc('\r');
		port_putc(*text);
	}
}

bool port_result(bool good, const char *text)
{
	tests++;
	failures += !good;
	port_print("%s %u - ", good ? "ok" : "not ok", tests);
	port_put(text);
	port_put("\n");
	return good;
}

void port_skip(const char *what, const char *why)
{
	tests++;
	port_print("ok %u - %s # SKIP %s\n", tests, what, why);
}

unsigned port_plan(void)
{
	port_print("1..%u\n", tests);
	return failures;
}
