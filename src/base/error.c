/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Error texts without a libc: a small printf that knows what messages need, so that floors which
 * must run on bare metal can say what went wrong in the same words.
 */
#include <stdarg.h>

#include <viaduct/base.h>

struct text {
	char *at;
	char *end; /* of the room, less the NUL */
};

struct conversion {
	bool zero;
	unsigned width;
	unsigned size; /* bytes of an integer argument */
};

static void put_char(struct text *text, char c)
{
	if (text->at < text->end)
		*text->at++ = c;
}

static void put_string(struct text *text, const char *s, const struct conversion *conversion)
{
	size_t length = 0;

	if (!s)
		s = "(null)";
	while (s[length])
		length++;
	for (size_t i = length; i < conversion->width; i++)
		put_char(text, ' ');
	for (size_t i = 0; i < length; i++)
		put_char(text, s[i]);
}

static void put_number(struct text *text, uint64_t value, bool negative, unsigned base,
		       const struct conversion *conversion)
{
	char digits[24]; /* 2^64 - 1 has 20 decimal digits */
	unsigned n = 0, length;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	length = n + negative;
	if (!conversion->zero)
		for (unsigned i = length; i < conversion->width; i++)
			put_char(text, ' ');
	if (negative)
		put_char(text, '-');
	if (conversion->zero)
		for (unsigned i = length; i < conversion->width; i++)
			put_char(text, '0');
	while (n)
		put_char(text, digits[--n]);
}

static const char *parse_conversion(const char *format, struct conversion *conversion)
{
	*conversion = (struct conversion){.size = sizeof(int)};
	if (*format == '0') {
		conversion->zero = true;
		format++;
	}
	while (*format >= '0' && *format <= '9' && conversion->width < 100)
		conversion->width = conversion->width * 10 + (unsigned)(*format++ - '0');
	for (; *format == 'l' || *format == 'z'; format++)
		conversion->size = *format == 'z' ? sizeof(size_t)
			: conversion->size == sizeof(int) ? sizeof(long) : sizeof(long long);
	return format;
}

static void put_formatted(struct text *text, const char *format, va_list *arguments)
{
	struct conversion conversion;
	uint64_t value;
	bool negative;

	for (; *format; format++) {
		if (*format != '%') {
			put_char(text, *format);
			continue;
		}
		format = parse_conversion(format + 1, &conversion);
		switch (*format) {
		case 's':
			put_string(text, va_arg(*arguments, const char *), &conversion);
			break;
		case 'c':
			put_char(text, (char)va_arg(*arguments, int));
			break;
		case 'd':
			value = conversion.size == 8 ? (uint64_t)va_arg(*arguments, int64_t)
						     : (uint64_t)va_arg(*arguments, int);
			negative = (int64_t)value < 0;
			put_number(text, negative ? -value : value, negative, 10, &conversion);
			break;
		case 'u':
		case 'x':
			value = conversion.size == 8 ? va_arg(*arguments, uint64_t)
						     : va_arg(*arguments, unsigned);
			put_number(text, value, false, *format == 'x' ? 16 : 10, &conversion);
			break;
		case '\0':
			return;
		default:
			put_char(text, *format);
			break;
		}
	}
}

int vd_error_set(struct vd_error *error, int code, const char *format, ...)
{
	va_list arguments;
	struct text text;

	if (!error)
		return code;
	text.at = error->text;
	text.end = error->text + sizeof(error->text) - 1;
	va_start(arguments, format);
	put_formatted(&text, format, &arguments);
	va_end(arguments);
	*text.at = '\0';
	error->code = code;
	return code;
}
