/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying guest memory that others change meanwhile.
 *
 * memcpy() may read or write a byte twice and cross units, so that a guest could see half of an
 * aligned store. Here each naturally aligned unit is one volatile access, or one element of a
 * string instruction. Both are invisible to ThreadSanitizer.
 */
#include <viaduct/host.h>

/* Below that, starting a string instruction costs more than it saves. */
#define STRING_BYTES 768u

#define COPY_UNITS(bits)                                                                           \
	__attribute__((no_sanitize("thread"))) static inline void copy##bits(                      \
		void *to, const void *from, size_t length)                                         \
	{                                                                                          \
		volatile uint##bits##_t *target = to;                                              \
		const volatile uint##bits##_t *source = from;                                      \
                                                                                                   \
		_Pragma("GCC unroll 8")                                                            \
		for (size_t i = 0; i < length / sizeof(*target); i++)                              \
			target[i] = source[i];                                                     \
	}
COPY_UNITS(8)
COPY_UNITS(16)
COPY_UNITS(32)
COPY_UNITS(64)

#if defined(__x86_64__)
/* The elements of rep movs keep their own atomicity however the processor groups them. */
static bool copy_string(void *to, const void *from, size_t length, size_t unit)
{
	size_t count = length / unit;

	if (length < STRING_BYTES)
		return false;
	switch (unit) {
	case 8:
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
		return true;
	case 4:
		__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
		return true;
	case 1:
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
		return true;
	default:
		return false; /* pairs of bytes have no fast form */
	}
}
#else
static bool copy_string(void *to, const void *from, size_t length, size_t unit)
{
	(void)to;
	(void)from;
	(void)length;
	(void)unit;
	return false;
}
#endif

/* @length is a multiple of @unit, and both addresses are aligned to it. */
static void copy_units(void *to, const void *from, size_t length, size_t unit)
{
	if (copy_string(to, from, length, unit))
		return;
	switch (unit) {
	case 8:
		copy64(to, from, length);
		break;
	case 4:
		copy32(to, from, length);
		break;
	case 2:
		copy16(to, from, length);
		break;
	default:
		copy8(to, from, length);
		break;
	}
}

void vd_guest_copy(void *to, const void *from, size_t length)
{
	char *target = to;
	const char *source = from;
	uintptr_t apart = (uintptr_t)to ^ (uintptr_t)from;
	/* the largest unit that can be aligned on both sides */
	size_t unit = (size_t)1 << __builtin_ctz((unsigned)(apart & 7) | 8), bulk;

	/* queue entries and whole pages, nearly always */
	if (!(((uintptr_t)to | (uintptr_t)from | length) & 7)) {
		copy_units(to, from, length, 8);
		return;
	}
	if (length == 4 && !(((uintptr_t)to | (uintptr_t)from) & 3)) { /* a register */
		copy32(to, from, 4);
		return;
	}
	/* smaller units up to the first of these and after the last, each aligned by itself */
	for (size_t small = 1; small < unit; small *= 2)
		if (length >= small && (uintptr_t)target & small) {
			copy_units(target, source, small, small);
			target += small;
			source += small;
			length -= small;
		}
	/* if it ended before that, length is smaller than a unit */
	bulk = length & ~(unit - 1);
	copy_units(target, source, bulk, unit);
	target += bulk;
	source += bulk;
	for (size_t small = unit / 2; small; small /= 2)
		if (length & small) {
			copy_units(target, source, small, small);
			target += small;
			source += small;
		}
}
