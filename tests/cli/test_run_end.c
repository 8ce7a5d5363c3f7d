/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct run` ends when it is told to, whatever the guest and the reader of its console do.
 *
 * usage: test_run_end VIADUCT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../vcpu/insn_names.h"

#define EXIT_SIGNAL 5
#define SECONDS 20
#define STUFFING 2000	/* more than the serial port's FIFO and a buffer in front of it hold */

static const char *viaduct;
static unsigned failures;

static void check(bool good, const char *what)
{
	printf("%s: %s\n", good ? "ok" : "FAILED", what);
	failures += !good;
}

/* Linux Documentation/arch/riscv/boot-image-header.rst, with @code at its start. */
static void write_kernel(char *path, const uint32_t *code, size_t count)
{
	uint32_t image[64] = {0};
	int fd;

	memcpy(image, code, 4 * count);
	memcpy((char *)image + 48, "RISCV\0\0\0RSC\5", 12);
	strcpy(path, "/tmp/viaduct-test-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || write(fd, image, sizeof(image)) != sizeof(image)) {
		perror(path);
		exit(1);
	}
	close(fd);
}

/* The header's fields begin behind the second instruction: jump over them. */
#define OVER_HEADER JAL(0, 64), [16] =

static void run_child(const char *kernel)
{
	execl(viaduct, viaduct, "run", "--kernel", kernel, "--memory", "64M", (char *)NULL);
	_exit(127);
}

/* Whether it ended by itself as after a signal; if it does not end, it is killed. */
static bool ended(pid_t pid)
{
	int status;

	for (unsigned i = 0; i < SECONDS * 20; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SIGNAL;
		poll(NULL, 0, 50);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return false;
}

/* Whether a pipe got full: it holds something, and no more from one look to the next. */
static bool got_full(int fd)
{
	int before = -1, held = 0;

	for (unsigned i = 0; i < SECONDS * 20 && (held != before || !held); i++) {
		before = held;
		poll(NULL, 0, 50);
		ioctl(fd, FIONREAD, &held);
	}
	return held && held == before;
}

/* A guest that prints for ever into a pipe that nobody reads. */
static void a_full_pipe_does_not_keep_it(void)
{
	const uint32_t code[] = {OVER_HEADER LUI(5, 0x10000000), SB(6, 5, 0), JAL(0, -4)};
	char kernel[32];
	int fds[2];
	pid_t pid;

	write_kernel(kernel, code, sizeof(code) / 4);
	if (pipe(fds))
		exit(1);
	pid = fork();
	if (!pid) {
		dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		run_child(kernel);
	}
	close(fds[1]);
	check(got_full(fds[0]), "a guest fills the pipe");
	kill(pid, SIGTERM);
	check(ended(pid), "SIGTERM ends a guest whose output nobody reads");
	close(fds[0]);
	unlink(kernel);
}

static bool is_raw(int terminal)
{
	struct termios now;

	return !tcgetattr(terminal, &now) && !(now.c_lflag & ICANON);
}

/* A guest that never looks at its serial port, and a user who types a lot before Ctrl-A x. */
static void a_deaf_guest_can_be_left(void)
{
	const uint32_t code[] = {OVER_HEADER WFI, JAL(0, -4)};
	char kernel[32], text[STUFFING + 2];
	int terminal;
	pid_t pid;

	write_kernel(kernel, code, sizeof(code) / 4);
	pid = forkpty(&terminal, NULL, NULL, NULL);
	if (!pid)
		run_child(kernel);
	for (unsigned i = 0; i < SECONDS * 20 && !is_raw(terminal); i++)
		poll(NULL, 0, 50);
	memset(text, 'x', STUFFING);
	memcpy(text + STUFFING, "\1x", 2);
	check(write(terminal, text, sizeof(text)) == sizeof(text), "a terminal takes much input");
	check(ended(pid), "Ctrl-A x leaves a guest that does not read");
	close(terminal);
	unlink(kernel);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	viaduct = argv[1];
	a_full_pipe_does_not_keep_it();
	a_deaf_guest_can_be_left();
	return failures != 0;
}
