/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Must not compile (row A4): a value of one address type where another is wanted. The build
 * compiles it for pairs -DGIVEN= -DWANTED=, and with both the same, which must compile.
 */
#include <viaduct/base.h>

uint64_t want(WANTED address);
uint64_t give(GIVEN address);

uint64_t want(WANTED address)
{
	return address.value;
}

uint64_t give(GIVEN address)
{
	return want(address);
}
