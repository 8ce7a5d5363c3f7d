/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's serial port on this process' terminal. Ctrl-A is the escape, as in QEMU and kvmtool.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "cli/run.h"

#define ESCAPE 1
#define INPUT_MAX 64u

struct terminal {
	struct vd_vm *vm;
	struct termios saved;
	bool raw;
	bool escaped;
	int stop_fd;
	pthread_t thread;
};

/*
 * Whether there is room for some bytes; a reader that stands still must not keep a machine going.
 */
static bool wait_for_reader(struct vd_vm *vm)
{
	struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (poll(&out, 1, 100) <= 0)
		if (vm && vd_vm_stopping(vm))
			return false;
	return true;
}

static void put(struct vd_vm *vm, const uint8_t *bytes, size_t length)
{
	while (length && wait_for_reader(vm)) {
		ssize_t n = write(STDOUT_FILENO, bytes, length);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return; /* nobody reads it any more: the guest goes on */
		bytes += n;
		length -= (size_t)n;
	}
}

void terminal_write(void *context, const uint8_t *bytes, size_t length)
{
	struct vd_vm *_Atomic *vm = context;

	put(atomic_load(vm), bytes, length);
}

static void help(const struct terminal *t)
{
	static const char text[] = "\r\nCtrl-A x  leave (flushes disks)\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

	put(t->vm, (const uint8_t *)text, sizeof(text) - 1);
}

/* Bytes for the guest, escapes taken out. Return: how many are left in @bytes. */
static size_t take_escapes(struct terminal *t, uint8_t *bytes, size_t length)
{
	size_t kept = 0;

	for (size_t i = 0; i < length; i++) {
		if (t->escaped) {
			t->escaped = false;
			if (bytes[i] == 'x')
				vd_vm_stop(t->vm);
			else if (bytes[i] == 'h' || bytes[i] == '?')
				help(t);
			else if (bytes[i] == ESCAPE)
				bytes[kept++] = ESCAPE;
		} else if (t->raw && bytes[i] == ESCAPE) {
			t->escaped = true;
		} else {
			bytes[kept++] = bytes[i];
		}
	}
	return kept;
}

/*
 * Adds what was typed to the @length bytes that wait in @bytes; what there is no room for is lost,
 * as on a serial line. Return: false at the end of the input.
 */
static bool read_input(struct terminal *t, uint8_t bytes[INPUT_MAX], size_t *length)
{
	uint8_t typed[INPUT_MAX];
	ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));
	size_t kept;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	kept = take_escapes(t, typed, (size_t)n);
	if (kept > INPUT_MAX - *length)
		kept = INPUT_MAX - *length;
	memcpy(bytes + *length, typed, kept);
	*length += kept;
	return true;
}

static void *terminal_thread(void *argument)
{
	struct terminal *t = argument;
	uint8_t bytes[INPUT_MAX];
	size_t length = 0;
	bool open = true;

	for (;;) {
		/*
		 * A file or pipe waits for the guest; a person may want to leave one that is deaf.
		 */
		bool wanted = open && (!length || t->raw);
		struct pollfd fds[2] = {{.fd = t->stop_fd, .events = POLLIN},
					{.fd = wanted ? STDIN_FILENO : -1, .events = POLLIN}};
		size_t taken;

		/* What the guest's FIFO had no room for is offered again in 10 ms. */
		if (poll(fds, 2, length ? 10 : -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents)
			open = read_input(t, bytes, &length);
		taken = vd_vm_console_input(t->vm, bytes, length);
		memmove(bytes, bytes + taken, length - taken);
		length -= taken;
	}
}

static int enter_raw_mode(struct terminal *t, struct vd_error *error)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO))
		return 0;
	if (tcgetattr(STDIN_FILENO, &t->saved))
		return vd_error_set(error, -errno, "cannot read the terminal's settings: %s",
				    strerror(errno));
	raw = t->saved;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* the guest ends lines with both characters anyhow */
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw))
		return vd_error_set(error, -errno, "cannot set the terminal to raw mode: %s",
				    strerror(errno));
	t->raw = true;
	return 0;
}

int terminal_start(struct vd_vm *vm, struct terminal **result, struct vd_error *error)
{
	struct terminal *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return vd_error_set(error, -ENOMEM, "out of memory for the terminal");
	t->vm = vm;
	t->stop_fd = eventfd(0, EFD_CLOEXEC);
	rc = t->stop_fd < 0 ? -errno : enter_raw_mode(t, error);
	if (!rc)
		rc = -pthread_create(&t->thread, NULL, terminal_thread, t);
	if (rc) {
		if (t->raw)
			tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
		if (t->stop_fd >= 0)
			close(t->stop_fd);
		free(t);
		return error && error->code ? rc : vd_error_set(error, rc, "cannot start the "
								"terminal's thread: %s",
								strerror(-rc));
	}
	*result = t;
	return 0;
}

void terminal_stop(struct terminal *t)
{
	uint64_t one = 1;

	if (!t)
		return;
	if (write(t->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(t->thread, NULL);
	if (t->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &t->saved);
	close(t->stop_fd);
	free(t);
}
