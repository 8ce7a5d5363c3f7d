/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest: a few services such as EFI calls at run time, in the one case the thread of row C7
 * has. Linked into two pages of their own (text, data), away from the hypervisor, whose functions
 * and data it cannot reach: nothing here may call out.
 */
#include "port.h"

struct variable {
	char name[GUEST_VARIABLE_BYTES];
	char value[GUEST_VARIABLE_BYTES];
	uint64_t size;
};

#define VARIABLES 4u

/* Not constant, as a store is not: it must lie in the data. */
static struct variable store[VARIABLES] = {
	{"BootOrder", "0001,0003,0000", 14},
	{"Lang", "eng", 3},
};

struct guest_record guest_record = {1, 0, 0, 0};
struct guest_block guest_block = {.size = 1};
_Alignas(4096) uint64_t guest_table[512] = {1};

/* The board's clock, in seconds since 1970. */
static uint64_t read_clock(uint64_t rtc)
{
	volatile uint32_t *registers = (volatile uint32_t *)rtc;
#ifdef __riscv
	/* "goldfish": nanoseconds; reading the low half keeps the high one */
	uint64_t low = registers[0];

	return ((uint64_t)registers[1] << 32 | low) / 1000000000;
#else
	return registers[0]; /* PL031: RTCDR */
#endif
}

/* Howard Hinnant's civil_from_days: years begin in March, so that leap days come last. */
uint64_t guest_get_time(uint64_t rtc)
{
	uint64_t seconds = read_clock(rtc);
	uint64_t days = seconds / 86400 + 719468, era = days / 146097, doe = days % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	struct guest_time *time = &guest_block.time;

	time->day = (uint8_t)(doy - (153 * mp + 2) / 5 + 1);
	time->month = (uint8_t)(mp < 10 ? mp + 3 : mp - 9);
	time->year = (uint16_t)(yoe + era * 400 + (time->month <= 2));
	time->hour = (uint8_t)(seconds % 86400 / 3600);
	time->minute = (uint8_t)(seconds % 3600 / 60);
	time->second = (uint8_t)(seconds % 60);
	return GUEST_SUCCESS;
}

static bool is_named(const struct variable *variable)
{
	for (unsigned i = 0; i < GUEST_VARIABLE_BYTES; i++) {
		if (variable->name[i] != guest_block.name[i])
			return false;
		if (!variable->name[i])
			return true;
	}
	return true;
}

uint64_t guest_get_variable(void)
{
	for (unsigned n = 0; n < VARIABLES; n++) {
		if (!store[n].name[0] || !is_named(&store[n]))
			continue;
		guest_block.size = store[n].size;
		for (unsigned i = 0; i < GUEST_VARIABLE_BYTES; i++)
			guest_block.value[i] = store[n].value[i];
		return GUEST_SUCCESS;
	}
	return GUEST_NOT_FOUND;
}

uint64_t guest_set_variable(void)
{
	struct variable *free = NULL;

	if (guest_block.size > GUEST_VARIABLE_BYTES)
		return GUEST_BUFFER_TOO_SMALL;
	for (unsigned n = 0; n < VARIABLES; n++)
		if (!store[n].name[0] || is_named(&store[n]))
			free = free ? free : &store[n];
	if (!free)
		return GUEST_BUFFER_TOO_SMALL;
	for (unsigned i = 0; i < GUEST_VARIABLE_BYTES; i++) {
		free->name[i] = guest_block.name[i];
		free->value[i] = guest_block.value[i];
	}
	free->size = guest_block.size;
	return GUEST_SUCCESS;
}

uint64_t guest_say(uint64_t uart)
{
	uint64_t n = 0;

	for (; n < GUEST_VARIABLE_BYTES && guest_block.value[n]; n++)
		*(volatile unsigned char *)uart = (unsigned char)guest_block.value[n];
	return n;
}

uint64_t guest_touch(uint64_t address, uint64_t length)
{
	uint64_t sum = 0;

	for (uint64_t at = address; at < address + length; at += 4096)
		*(volatile uint64_t *)at = at;
	for (uint64_t at = address; at < address + length; at += 4096)
		sum += *(volatile uint64_t *)at;
	return sum;
}
