/* SPDX-License-Identifier: BSD-2-Clause */
/* Running the viaduct executable and looking at what it said. */
#ifndef VD_TESTS_CLI_PROGRAM_H
#define VD_TESTS_CLI_PROGRAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <sys/types.h>

#define PROGRAM_ARGUMENTS_MAX 48u
#define PROGRAM_TEXT_MAX 16384u

/* A program that runs, or has ended. Texts are cut to what fits. */
struct program {
	pid_t pid;
	int out_fd, err_fd;
	int code; /* exit code, or 128 + the signal that killed it */
	char out[PROGRAM_TEXT_MAX], err[PROGRAM_TEXT_MAX];
	size_t out_length, err_length;
};

/* The executable under test, from the command line. */
void program_set_path(const char *path);

/* Start it with these arguments (NULL-terminated), standard input empty. */
void program_start(struct program *program, const char *const *arguments);
/* Read until standard output holds @text; the program must not end before. */
void program_wait_for_output(struct program *program, const char *text);
/* Wait until it has ended. */
void program_finish(struct program *program);

/* Run it; whether it ended with this code and said these words (on stdout if @code is 0). */
void program_expect(int code, const char *words, const char *const *arguments);
#define EXPECT(code, words, ...) program_expect(code, words, (const char *const[]){__VA_ARGS__, NULL})

#endif
