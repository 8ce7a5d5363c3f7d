/* SPDX-License-Identifier: BSD-2-Clause */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *executable;

void program_set_path(const char *path)
{
	executable = path;
}

/* A program under the thread sanitizer sleeps for a second at its end unless told not to. */
static void end_quickly(void)
{
	const char *options = getenv("TSAN_OPTIONS");
	char more[1024];

	snprintf(more, sizeof(more), "%s%satexit_sleep_ms=0", options ? options : "",
		 options ? ":" : "");
	setenv("TSAN_OPTIONS", more, 1);
}

static void become(const char *const *arguments, int out, int err)
{
	char *argv[PROGRAM_ARGUMENTS_MAX + 2] = {(char *)(uintptr_t)executable};
	int null = open("/dev/null", O_RDONLY);

	for (unsigned int i = 0; arguments[i] && i < PROGRAM_ARGUMENTS_MAX; i++)
		argv[i + 1] = (char *)(uintptr_t)arguments[i];
	/* A test that fails or is ended leaves no machine behind that runs for ever. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	end_quickly();
	dup2(null, 0);
	dup2(out, 1);
	dup2(err, 2);
	execv(executable, argv);
	_exit(127);
}

void program_start(struct program *program, const char *const *arguments)
{
	int out[2], err[2];

	memset(program, 0, sizeof(*program));
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	program->pid = fork();
	assert_true(program->pid >= 0);
	if (program->pid == 0)
		become(arguments, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	program->out_fd = out[0];
	program->err_fd = err[0];
}

/* False at the end of the file. What does not fit is read and forgotten. */
static bool read_some(int fd, char *text, size_t *length)
{
	char rest[1024];
	size_t room = PROGRAM_TEXT_MAX - 1 - *length;
	ssize_t n = read(fd, room ? text + *length : rest, room ? room : sizeof(rest));

	if (n > 0 && room)
		*length += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

/* Read from both until @text is seen or both have ended. Return: whether it was seen. */
static bool read_until(struct program *p, const char *text)
{
	struct pollfd fds[2] = {{p->out_fd, POLLIN, 0}, {p->err_fd, POLLIN, 0}};

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		if (text && strstr(p->out, text))
			return true;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents && !read_some(p->out_fd, p->out, &p->out_length))
			fds[0].fd = -1;
		if (fds[1].revents && !read_some(p->err_fd, p->err, &p->err_length))
			fds[1].fd = -1;
	}
	return text && strstr(p->out, text);
}

void program_wait_for_output(struct program *program, const char *text)
{
	if (!read_until(program, text))
		fail_msg("it ended without saying '%s': %s%s", text, program->out, program->err);
}

void program_finish(struct program *program)
{
	int status;

	read_until(program, NULL);
	while (waitpid(program->pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	close(program->out_fd);
	close(program->err_fd);
	program->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void program_expect(int code, const char *words, const char *const *arguments)
{
	static struct program program;
	const char *text;

	program_start(&program, arguments);
	program_finish(&program);
	text = code ? program.err : program.out;
	if (program.code == code && strstr(text, words))
		return;
	for (; *arguments; arguments++)
		print_error(" %.60s", *arguments);
	fail_msg("\ncode %d, not %d, or no '%s' in:\n%s%s", program.code, code, words, program.out,
		 program.err);
}
