/* SPDX-License-Identifier: BSD-2-Clause */
/* What a compiler calls without being asked. */
#include <stddef.h>
#include <stdint.h>

void *memset(void *to, int value, size_t length);
void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
int __clzdi2(uint64_t value);
int __ctzdi2(uint64_t value);
int __popcountdi2(uint64_t value);

void *memset(void *to, int value, size_t length)
{
	unsigned char *p = to;

	if (!((uintptr_t)p & 7) && !value)
		for (; length >= 8; length -= 8, p += 8)
			*(volatile uint64_t *)p = 0;
	while (length--)
		*(volatile unsigned char *)p++ = (unsigned char)value;
	return to;
}

void *memcpy(void *to, const void *from, size_t length)
{
	return memmove(to, from, length);
}

void *memmove(void *to, const void *from, size_t length)
{
	volatile unsigned char *p = to;
	const volatile unsigned char *q = from;

	if ((uintptr_t)p < (uintptr_t)q) {
		for (size_t i = 0; i < length; i++)
			p[i] = q[i];
	} else {
		while (length--)
			p[length] = q[length];
	}
	return to;
}

/*
 * What libgcc has, whose floating-point ABI need not be ours. Volatile: or a compiler makes the
 * function out of its own loop.
 */
int __clzdi2(uint64_t value)
{
	volatile int n = 0;

	for (; n < 64 && !(value >> 63); n++)
		value <<= 1;
	return n;
}

int __ctzdi2(uint64_t value)
{
	volatile int n = 0;

	for (; n < 64 && !(value & 1); n++)
		value >>= 1;
	return n;
}

int __popcountdi2(uint64_t value)
{
	volatile int n = 0;

	for (; value; value >>= 1)
		n += value & 1;
	return n;
}
