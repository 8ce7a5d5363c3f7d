/* SPDX-License-Identifier: BSD-2-Clause */
/* The inputs of a fuzz target that are kept, tests/fuzz/NAME.ar: each is run once. */
#ifndef VIADUCT_TEST_CORPUS_H
#define VIADUCT_TEST_CORPUS_H

#include "test_env.h"

#include <ar.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline char *corpus_read(const char *name, size_t *length)
{
	char path[512], *bytes;
	FILE *file;

	snprintf(path, sizeof(path), VD_CORPUS "/%s.ar", name);
	file = fopen(path, "re");
	if (!file)
		fail_msg("no %s", path);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	*length = (size_t)ftell(file);
	rewind(file);
	bytes = malloc(*length);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, *length, file), *length);
	/* A target counts descriptors. */
	fclose(file);
	return bytes;
}

static inline void corpus_run(const char *name, int (*target)(const uint8_t *data, size_t size))
{
	size_t length, at = SARMAG;
	char *bytes = corpus_read(name, &length);

	assert_true(length > at);
	assert_memory_equal(bytes, ARMAG, SARMAG);
	while (at < length) {
		struct ar_hdr header;
		uint8_t *data;
		size_t size;

		assert_true(sizeof(header) <= length - at);
		memcpy(&header, bytes + at, sizeof(header));
		assert_memory_equal(header.ar_fmag, ARFMAG, 2);
		at += sizeof(header);
		size = strtoul(header.ar_size, NULL, 10);
		assert_true(size <= length - at);
		/* As long as it is: what reads beyond its end is found. */
		data = malloc(size ? size : 1);
		assert_non_null(data);
		memcpy(data, bytes + at, size);
		(void)target(data, size);
		free(data);
		at += size + (size & 1);
	}
	free(bytes);
}

#endif
