/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct serve`: its words, its sockets, its end; what goes over the sockets is tests/transport's.
 *
 * usage: test_serve VIADUCT MY-DEVICE SMALL-DEVICE
 */
#include "program.h"

#include "../transport/user/wire.h"

#include <json-c/json.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2 };

static const char *my_device, *small_device;
static char directory[] = "/tmp/vd-serve-XXXXXX";
static char paths[8][64]; /* in the directory */
#define SOCKET paths[0]
#define OTHER paths[1]
#define IMAGE paths[2]
#define JSON paths[3]

static int make_directory(void **state)
{
	static const char *const names[] = {"socket", "other", "image", "json"};
	FILE *image;

	(void)state;
	assert_non_null(mkdtemp(directory));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", directory, names[i]);
	image = fopen(IMAGE, "w");
	assert_non_null(image);
	assert_int_equal(ftruncate(fileno(image), 1 << 20), 0);
	fclose(image);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(IMAGE);
	unlink(JSON);
	/* Nothing else is left. */
	return rmdir(directory);
}

static bool exists(const char *path)
{
	struct stat status;

	return !lstat(path, &status);
}

static void start(struct program *program, const char *const *arguments)
{
	program_start(program, arguments);
	program_wait_for_output(program, "ready\n");
}
#define START(program, ...) start(program, (const char *const[]){"serve", __VA_ARGS__, NULL})

static void end(struct program *program, int signal)
{
	assert_int_equal(kill(program->pid, signal), 0);
	program_finish(program);
	if (program->code)
		print_error("%s", program->err);
	assert_int_equal(program->code, 0);
	assert_string_equal(program->out, "ready\n");
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void words_that_are_not_understood(void **state)
{
	(void)state;
	EXPECT(0, "usage: viaduct serve", "serve", "--help");
	EXPECT(USAGE, "no device given", "serve");
	EXPECT(USAGE, "no socket given; write --socket", "serve", "edu");
	EXPECT(USAGE, "no socket given", "serve", "edu", "--socket", SOCKET, "edu");
	EXPECT(USAGE, "belongs after a device", "serve", "--socket", SOCKET, "edu");
	EXPECT(USAGE, "one socket", "serve", "edu", "--socket", SOCKET, "--socket", OTHER);
	EXPECT(USAGE, "at the same socket", "serve", "edu", "--socket", SOCKET, "bench", "--socket",
	       SOCKET);
	EXPECT(USAGE, "did you mean --socket?", "serve", "edu", "--sokcet", SOCKET);
	EXPECT(USAGE, "--socket needs a value", "serve", "edu", "--socket");
	EXPECT(USAGE, "takes no value", "serve", "edu", "--per-client=yes");
	EXPECT(USAGE, "not a number from 1", "serve", "edu", "--socket", SOCKET, "--threads", "0");
	EXPECT(USAGE, "not a number from 1", "serve", "edu", "--socket", SOCKET, "--threads", "x");
	assert_false(exists(SOCKET));
}

static void devices_that_cannot_be_served(void **state)
{
	(void)state;
	EXPECT(FAILED, "did you mean 'bench'", "serve", "bensh", "--socket", SOCKET);
	EXPECT(FAILED, "needs image=FILE", "serve", "nvme", "--socket", SOCKET);
	EXPECT(FAILED, "multiple of 2M", "serve", "nvme,image=/dev/null,cmb=1M", "--socket", SOCKET);
	EXPECT(FAILED, "viaduct run", "serve", "balloon", "--socket", SOCKET);
	/* Found before a client comes, and what was begun before is gone. */
	EXPECT(FAILED, "no property 'size'", "serve", "bench", "--socket", OTHER, "edu,size=1",
	       "--socket", SOCKET, "--per-client");
	assert_false(exists(SOCKET));
	assert_false(exists(OTHER));
}

static void it_ends_on_a_signal_and_cleans_up(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct program program;
	char image[128];

	(void)state;
	snprintf(image, sizeof(image), "nvme,image=%s,cmb=2M", IMAGE);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int client;

		START(&program, image, "--socket", SOCKET, "edu", "--socket", OTHER, "--per-client",
		      "--threads", "3");
		assert_true(exists(SOCKET));
		assert_true(exists(OTHER));
		/* With somebody there. */
		client = connect_to(SOCKET);
		end(&program, signals[i]);
		close(client);
		assert_false(exists(SOCKET));
		assert_false(exists(OTHER));
	}
}

static void a_socket_in_use_is_left_alone(void **state)
{
	struct program program;
	int client;

	(void)state;
	START(&program, "edu", "--socket", SOCKET);
	EXPECT(FAILED, "somebody serves there", "serve", "bench", "--socket", SOCKET);
	client = connect_to(SOCKET);
	close(client);
	end(&program, SIGTERM);
	/* A file that is none. */
	EXPECT(FAILED, "it is no socket", "serve", "bench", "--socket", IMAGE);
	assert_true(exists(IMAGE));
	EXPECT(FAILED, "cannot make the socket", "serve", "bench", "--socket", "/nowhere/socket");
}

static void a_dead_servers_socket_is_replaced(void **state)
{
	struct program program;

	(void)state;
	START(&program, "edu", "--socket", SOCKET);
	assert_int_equal(kill(program.pid, SIGKILL), 0);
	program_finish(&program);
	assert_true(exists(SOCKET));
	START(&program, "edu", "--socket", SOCKET);
	/* Somebody else's by the time it ends. */
	assert_int_equal(rename(SOCKET, OTHER), 0);
	assert_int_equal(symlink("nowhere", SOCKET), 0);
	end(&program, SIGTERM);
	assert_true(exists(SOCKET));
	assert_int_equal(unlink(SOCKET), 0);
	assert_int_equal(unlink(OTHER), 0);
}

static void counters_are_written(void **state)
{
	struct json_object *root, *devices, *device, *value;
	struct program program;
	char image[128];

	(void)state;
	snprintf(image, sizeof(image), "nvme,image=%s,cmb=4M", IMAGE);
	START(&program, image, "--socket", SOCKET, my_device, "--socket", OTHER, "--stats-json",
	      JSON);
	end(&program, SIGTERM);
	root = json_object_from_file(JSON);
	assert_non_null(root);
	assert_true(json_object_object_get_ex(root, "server", &value));
	assert_true(json_object_object_get_ex(root, "devices", &devices));
	assert_int_equal(json_object_array_length(devices), 2);
	device = json_object_array_get_idx(devices, 0);
	assert_true(json_object_object_get_ex(device, "socket", &value));
	assert_string_equal(json_object_get_string(value), SOCKET);
	assert_true(json_object_object_get_ex(device, "counters", &value));
	assert_true(json_object_object_get_ex(value, "commands_in_cmb", &value));
	assert_int_equal(json_object_get_int64(value), 0);
	device = json_object_array_get_idx(devices, 1);
	assert_true(json_object_object_get_ex(device, "name", &value));
	assert_string_equal(json_object_get_string(value), "my-device");
	json_object_put(root);
}

/* Each of two devices: its client lets it read memory by a message, which it never answers. */
static void who_never_answers_holds_up_himself_alone(void **state)
{
	const char *const silent[] = {SOCKET, OTHER, SOCKET, OTHER};
	const struct user_version version = {USER_MAJOR, 1};
	uint64_t iova = 0x1000, count = 1;
	struct program program;
	struct wire w[5] = {0};
	struct pollfd ready;

	(void)state;
	START(&program, "bench", "--socket", SOCKET, "--per-client", "bench", "--socket", OTHER,
	      "--per-client");
	for (unsigned i = 0; i < 4; i++) {
		wire_introduce(&w[i], silent[i]);
		assert_int_equal(wire_map(&w[i], iova, 0x1000, -1, 0), 0);
		assert_int_equal(wire_write(&w[i], VFIO_PCI_BAR2_REGION_INDEX, 8, &iova, sizeof(iova)), 0);
		assert_int_equal(wire_post(&w[i], VFIO_PCI_BAR2_REGION_INDEX, 0x10, &count, sizeof(count)), 0);
		assert_int_equal(wire_receive(&w[i], w[i].fd), 0);
		assert_int_equal(w[i].header.command, USER_DMA_READ);
	}
	wire_open(&w[4], SOCKET);
	assert_int_equal(wire_send(&w[4], USER_VERSION, 0, &version, sizeof(version), NULL, 0), 0);
	ready = (struct pollfd){.fd = w[4].fd, .events = POLLIN};
	assert_int_equal(poll(&ready, 1, 5000), 1);
	for (unsigned i = 0; i < 5; i++)
		wire_close(&w[i]);
	end(&program, SIGTERM);
}

/* E2, E3: padded for everybody; else by the slow path, or for who shares pages. */
static void small_bars(void **state)
{
	static struct program serve;

	(void)state;
	START(&serve, small_device, "--socket", SOCKET, "--pad");
	EXPECT(0, "BAR 0: 256 bytes, direct", "ls", SOCKET);
	EXPECT(0, "BAR 2: 256 bytes, direct", "ls", SOCKET);
	end(&serve, SIGTERM);
	START(&serve, small_device, "--socket", SOCKET);
	EXPECT(0, "BAR 0: 256 bytes, trapped: shares its page with BAR 2, and the platform lets no "
	       "group share one", "ls", SOCKET);
	EXPECT(0, "BAR 2: 256 bytes, direct", "ls", "--shared-pages", SOCKET);
	EXPECT(0, "at 0x100 of a page that BARs of its group share", "ls", SOCKET);
	EXPECT(0, "\"page_offset\":256", "ls", "--json", SOCKET);
	end(&serve, SIGTERM);
	START(&serve, small_device, "--socket", SOCKET, "--group", "a", small_device, "--socket",
	      OTHER, "--group", "a");
	EXPECT(0, "at 0x100 of a page that BARs of its group share", "ls", SOCKET);
	EXPECT(0, "at 0x300 of a page that BARs of its group share", "ls", OTHER);
	end(&serve, SIGTERM);
	EXPECT(USAGE, "one of them", "serve", small_device, "--socket", SOCKET, "--pad", "--group",
	       "a");
	EXPECT(USAGE, "--pad takes no value", "serve", small_device, "--pad=1");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_that_are_not_understood),
		cmocka_unit_test(devices_that_cannot_be_served),
		cmocka_unit_test(it_ends_on_a_signal_and_cleans_up),
		cmocka_unit_test(a_socket_in_use_is_left_alone),
		cmocka_unit_test(a_dead_servers_socket_is_replaced),
		cmocka_unit_test(counters_are_written),
		cmocka_unit_test(small_bars),
		cmocka_unit_test(who_never_answers_holds_up_himself_alone),
	};

	if (argc != 4) {
		fprintf(stderr, "usage: %s VIADUCT MY-DEVICE SMALL-DEVICE\n", argv[0]);
		return 2;
	}
	program_set_path(argv[1]);
	/* With a slash: without one it would be a name. */
	my_device = realpath(argv[2], NULL);
	small_device = realpath(argv[3], NULL);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
