/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <viaduct/base.h>

/* Exit codes of the program, also in the man page. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,      /* something went wrong here */
	EXIT_USAGE = 2,	      /* the command line was not understood */
	EXIT_GUEST_RESET = 3, /* the guest asked for a reset */
	EXIT_GUEST_PANIC = 4, /* the guest reported a failure */
	EXIT_SIGNAL = 5,      /* SIGINT, SIGTERM or `quit` ended it, orderly */
};

struct command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

int command_run(int argc, char **argv);
int command_serve(int argc, char **argv);
int command_riscv_test(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_ps(int argc, char **argv);
int command_status(int argc, char **argv);
int command_map(int argc, char **argv);
int command_ls(int argc, char **argv);
int command_pause(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_balloon(int argc, char **argv);
int command_quit(int argc, char **argv);

/* Print "viaduct: text" to stderr; returns @code. */
int complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The candidate nearest to @word, or NULL if none is near. NULL-terminated list. */
const char *nearest(const char *word, const char *const *candidates);

#endif
