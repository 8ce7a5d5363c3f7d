/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying guest memory that others change meanwhile.
 *
 * memcpy() may read or write a byte twice and cross units, so that a guest could see half of an
 * aligned store. Here each naturally aligned unit is one volatile access, or one element of a string
 * instruction. Both are invisible to ThreadSanitizer.
 */
#include <viaduct/host.h>

#define STRING_BYTES 256u /* below that, starting a string instruction costs more than it saves */

#define COPY_UNITS(bits)                                                                           \
	__attribute__((no_sanitize("thread"))) static void copy##bits(void *to, const void *from,  \
								      size_t length)               \
	{                                                                                          \
		volatile uint##bits##_t *target = to;                                              \
		const volatile uint##bits##_t *source = from;                                      \
                                                                                                   \
		for (size_t i = 0; i < length / sizeof(*target); i++)                              \
			target[i] = source[i];                                                     \
	}
COPY_UNITS(8)
COPY_UNITS(16)
COPY_UNITS(32)
COPY_UNITS(64)

#if defined(__x86_64__)
/* The elements of rep movs keep their own atomicity however the processor groups them. */
static void copy_string(void *to, const void *from, size_t length, size_t unit)
{
	size_t count = length / unit;

	if (unit == 8)
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	else
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}
#endif

static void copy_units(void *to, const void *from, size_t length, size_t unit)
{
#if defined(__x86_64__)
	if (length >= STRING_BYTES && (unit == 8 || unit == 1)) {
		copy_string(to, from, length, unit);
		return;
	}
#endif
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
	uintptr_t apart = (uintptr_t)to ^ (uintptr_t)from;
	/* the largest unit that can be aligned on both sides */
	size_t unit = (size_t)1 << __builtin_ctz((unsigned)(apart & 7) | 8);
	size_t step;

	/* up to the first unit and after the last one: smaller units, each aligned */
	while (length) {
		size_t aligned = (uintptr_t)to & -(uintptr_t)to;

		step = unit;
		while (step > length || (aligned && step > aligned))
			step /= 2;
		if (step == unit)
			step = length & ~(unit - 1);
		copy_units(to, from, step,
			   step >= unit ? unit : step);
		to = (char *)to + step;
		from = (const char *)from + step;
		length -= step;
	}
}
