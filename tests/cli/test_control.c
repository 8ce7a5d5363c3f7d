/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: who may use it, what it answers, what is left when a machine dies.
 *
 * usage: test_control VIADUCT
 */
#include "../vm/rig.h"
#include "program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, SIGNAL = 5 };

#define PUT(byte) LI(17, SBI_DBCN), ADDI(16, 0, 2), ADDI(10, 0, byte), ECALL

static struct rig_file kernel;	/* says "up" and runs for ever */
static struct rig_file quick;	/* powers off */
static char runtime[32];	/* XDG_RUNTIME_DIR */
static char directory[64];
static struct program machine;

static int set_up(void **state)
{
	(void)state;
	snprintf(runtime, sizeof(runtime), "/tmp/viaduct-test-XXXXXX");
	if (!mkdtemp(runtime))
		return -1;
	snprintf(directory, sizeof(directory), "%s/viaduct", runtime);
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	RIG_KERNEL_CREATE(&kernel, PUT('u'), PUT('p'), PUT('\n'), JAL(0, 0));
	RIG_KERNEL_CREATE(&quick, POWER_OFF);
	return 0;
}

/* Fails if a machine left anything behind. */
static int tear_down(void **state)
{
	(void)state;
	rig_file_remove(&kernel);
	rig_file_remove(&quick);
	rmdir(directory);
	return rmdir(runtime);
}

static void start_machine(const char *name)
{
	program_start(&machine, (const char *const[]){"run", "--kernel", kernel.path, "--name", name,
						      NULL});
	program_wait_for_output(&machine, "up\n");
}

static void quit_machine(const char *name)
{
	EXPECT(0, "\"name\"", "quit", name);
	program_finish(&machine);
	assert_int_equal(machine.code, SIGNAL);
}

static const char *socket_path(const char *name)
{
	static char path[108];

	snprintf(path, sizeof(path), "%s/%s.sock", directory, name);
	return path;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void only_the_user_may_reach_it(void **state)
{
	mode_t before = umask(0); /* not what protects it */

	(void)state;
	start_machine("one");
	assert_int_equal(mode_of(directory), 0700);
	assert_int_equal(mode_of(socket_path("one")), 0600);
	quit_machine("one");
	assert_int_equal(access(socket_path("one"), F_OK), -1);
	umask(before);
}

static void a_balloon_is_set(void **state)
{
	(void)state;
	start_machine("one");
	EXPECT(0, "\"resident_bytes\"", "status", "one");
	EXPECT(FAILED, "this machine has no balloon", "balloon", "one", "100M");
	quit_machine("one");
	program_start(&machine, (const char *const[]){"run", "--kernel", kernel.path, "--name",
						      "one", "--device", "balloon,size=256M",
						      NULL});
	program_wait_for_output(&machine, "up\n");
	EXPECT(0, "\"target\":268435456,\"actual\":536870912", "status", "one");
	EXPECT(0, "\"mmio\":{\"direct_pages\":", "status", "one");
	EXPECT(0, "\"devices\":[{\"name\":\"", "status", "one");
	EXPECT(0, "\"regions\":{", "status", "one");
	EXPECT(0, "\"target\":134217728", "balloon", "one", "128M");
	EXPECT(0, "\"target\":134217728", "status", "one");
	EXPECT(FAILED, "does not have so much memory", "balloon", "one", "513M");
	EXPECT(0, "\"target\":134217728", "status", "one");
	EXPECT(USAGE, "not a size", "balloon", "one", "much");
	EXPECT(USAGE, "usage", "balloon", "one");
	EXPECT(0, "usage", "balloon", "--help");
	quit_machine("one");
	EXPECT(FAILED, "no machine named one", "balloon", "one", "1M");
}

static void machines_are_listed_paused_and_resumed(void **state)
{
	static struct program ps;

	(void)state;
	start_machine("one");
	EXPECT(0, "\"state\":\"running\"", "status", "one");
	EXPECT(0, "\"state\":\"paused\"", "pause", "one");
	EXPECT(0, "\"state\":\"paused\"", "status", "one");
	EXPECT(0, "\"state\":\"paused\"", "pause", "one");
	EXPECT(0, "one", "ps");
	EXPECT(0, "\"name\":\"one\"", "ps", "--json");
	EXPECT(0, "\"state\":\"running\"", "resume", "one");
	quit_machine("one");
	program_start(&ps, (const char *const[]){"ps", NULL});
	program_finish(&ps);
	assert_null(strstr(ps.out, "one"));
}

/* A paused machine ends as well, by request and by a signal. */
static void paused_machines_end(void **state)
{
	(void)state;
	start_machine("one");
	EXPECT(0, "paused", "pause", "one");
	quit_machine("one");
	start_machine("one");
	EXPECT(0, "paused", "pause", "one");
	kill(machine.pid, SIGTERM);
	program_finish(&machine);
	assert_int_equal(machine.code, SIGNAL);
}

static void names_are_checked_and_not_taken_twice(void **state)
{
	static const char *const bad[] = {"", "../x", "a/b", ".x", "a b", "a\nb", "\xc3\xa4",
					  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx"};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT(FAILED, "--name", "run", "--kernel", quick.path, "--name", bad[i]);
		EXPECT(USAGE, "is no machine's name", "status", bad[i]);
	}
	start_machine("one");
	EXPECT(FAILED, "a machine named one is running already", "run", "--kernel", quick.path,
	       "--name", "one");
	EXPECT(0, "running", "status", "one"); /* the first one's socket is still there */
	EXPECT(0, "", "run", "--kernel", quick.path, "--name", "two");
	EXPECT(0, "", "run", "--kernel", quick.path);
	EXPECT(FAILED, "no machine named two", "status", "two");
	quit_machine("one");
}

static void a_socket_left_by_a_dead_machine_is_taken_over(void **state)
{
	static struct program ps;

	(void)state;
	start_machine("one");
	kill(machine.pid, SIGKILL);
	program_finish(&machine);
	assert_int_equal(access(socket_path("one"), F_OK), 0);
	EXPECT(FAILED, "no machine named one", "status", "one");
	program_start(&ps, (const char *const[]){"ps", NULL});
	program_finish(&ps);
	assert_int_equal(ps.code, 0);
	assert_null(strstr(ps.out, "one"));
	start_machine("one");
	EXPECT(0, "running", "status", "one");
	quit_machine("one");
}

/* What lies at the socket's place and is none is not removed. */
static void a_file_in_the_way_is_kept(void **state)
{
	int fd;

	(void)state;
	EXPECT(0, "", "run", "--kernel", quick.path, "--name", "one"); /* makes the directory */
	fd = open(socket_path("one"), O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	EXPECT(FAILED, "one", "run", "--kernel", quick.path, "--name", "one");
	assert_int_equal(unlink(socket_path("one")), 0);
}

static void directories_of_others_are_refused(void **state)
{
	(void)state;
	rmdir(directory);
	assert_int_equal(mkdir(directory, 0755), 0);
	assert_int_equal(chmod(directory, 0755), 0);
	EXPECT(FAILED, directory, "run", "--kernel", quick.path, "--name", "one");
	EXPECT(0, "", "run", "--kernel", quick.path); /* nobody asked for control */
	assert_int_equal(rmdir(directory), 0);
	assert_int_equal(symlink("/tmp", directory), 0);
	EXPECT(FAILED, directory, "run", "--kernel", quick.path, "--name", "one");
	assert_int_equal(unlink(directory), 0);
}

/* ---- clients that are none ----------------------------------------------------- */

static int connect_to(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path(name));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Send, and whether an answer with this text comes (NULL: none may come). */
static void exchange(const void *bytes, size_t length, const char *answer)
{
	char reply[4096];
	size_t got = 0;
	ssize_t n;
	int fd = connect_to("one");

	if (send(fd, bytes, length, MSG_NOSIGNAL) < 0)
		print_message("the machine did not read it all\n");
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, reply + got, sizeof(reply) - 1 - got, 0)) > 0)
		got += (size_t)n;
	close(fd);
	reply[got] = '\0';
	if (answer ? !strstr(reply, answer) : got != 0)
		fail_msg("answered '%s'", reply);
}

#define REQUEST_MAX (4096 + 64) /* as in control_server.c */

static void garbage_is_answered_or_dropped(void **state)
{
	static unsigned char random[20000];
	uint64_t seed = 0x9e3779b97f4a7c15u;

	(void)state;
	for (size_t i = 0; i < sizeof(random); i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		random[i] = (unsigned char)(seed >> 56);
	}
	memset(random, 0x80, REQUEST_MAX); /* no newline in what is read first */
	start_machine("one");
	exchange("", 0, NULL);
	exchange("\n", 1, "error");
	exchange("status\n", 7, "running");
	exchange("status\r\n", 8, "running");
	exchange("status", 6, NULL); /* never finished */
	exchange("quit quit\n", 10, "error");
	exchange("quitx\n", 6, "error");
	exchange("st\0atus\n", 8, "error");
	exchange(random, REQUEST_MAX - 1, "error");
	exchange(random, REQUEST_MAX - 2, NULL);
	exchange("snapshot\n", 9, "error");
	exchange("snapshot \n", 10, "absolute");
	exchange("snapshot here\n", 14, "absolute");
	exchange("snapshot /nowhere/file\n", 23, "error");
	exchange("snapshot-copy-image /dev/null\n", 30, "not a regular file");
	for (unsigned int i = 0; i < 5; i++) {
		int fd = connect_to("one");

		/* Gone before the answer, or with the connection reset. */
		assert_true(send(fd, random, sizeof(random), MSG_NOSIGNAL) > 0);
		close(fd);
	}
	EXPECT(0, "\"state\":\"running\"", "status", "one");
	quit_machine("one");
}

/* One that sends a byte whenever it may: its time ends all the same, and others get theirs. */
static void slow_clients_do_not_hold_others_up(void **state)
{
	int fd;

	(void)state;
	start_machine("one");
	fd = connect_to("one");
	for (unsigned i = 0; i < 40; i++) {
		if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
			break;
		usleep(100000);
	}
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	close(fd);
	quit_machine("one");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_user_may_reach_it),
		cmocka_unit_test(a_balloon_is_set),
		cmocka_unit_test(machines_are_listed_paused_and_resumed),
		cmocka_unit_test(paused_machines_end),
		cmocka_unit_test(names_are_checked_and_not_taken_twice),
		cmocka_unit_test(a_socket_left_by_a_dead_machine_is_taken_over),
		cmocka_unit_test(a_file_in_the_way_is_kept),
		cmocka_unit_test(directories_of_others_are_refused),
		cmocka_unit_test(garbage_is_answered_or_dropped),
		cmocka_unit_test(slow_clients_do_not_hold_others_up),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
