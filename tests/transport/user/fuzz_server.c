/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client out of its mind: each input is a series of messages, well-formed, nearly so, or not at
 * all, with descriptors and answers that nobody asked for, while it cuts the memory that it gave.
 * All is done by one thread, and what the server keeps is counted each time that it ends. The
 * normal test runs it over a fixed pseudo-random corpus and over tests/fuzz/server.ar
 * (test_hostile.c); `tools/fuzz server` searches on.
 */
#include "fuzz_server.h"

#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Inputs between two sane clients, and between counts of memory, which wait for grace periods. */
#define INPUTS_A_CHECK 16u
#define INPUTS_A_RIG 256u

static struct rig rig;
static int fds_to_give[4]; /* memory that stays, an eventfd, memory that is cut, a pipe */

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t next8(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->data++;
}

static uint32_t next32(struct input *input)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value = value << 8 | next8(input);
	return value;
}

/* Numbers that lead somewhere, or just next to it. */
static uint64_t number(struct input *input)
{
	static const uint64_t numbers[] = {
		0, 1, 2, 4, 8, 16, 24, 32, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 4 * PAGE,
		UINT64_C(1) << 20, (UINT64_C(1) << 20) + 1, UINT64_C(1) << 32, INT64_MAX,
		UINT64_MAX, UINT64_MAX - PAGE + 1, UINT32_MAX, INT32_MAX, 0x24, 0x21, 0x10006,
		0x20006, 0x20007, 0x10008, 3, 5, 7, 9, 12,
	};
	uint8_t choice = next8(input);

	return choice & 0x80 ? (uint64_t)next32(input) << 32 | next32(input) : numbers[choice % 32];
}

/* As many fields of four or eight bytes as the command has, and often the right ones. */
static size_t make_payload(struct input *input, unsigned command, unsigned char *payload)
{
	static const uint8_t shapes[USER_COMMANDS] = {
		[USER_DMA_MAP] = 32, [USER_DMA_UNMAP] = 24, [USER_GET_INFO] = 16,
		[USER_GET_REGION_INFO] = 32, [USER_GET_REGION_IO_FDS] = 16, [USER_GET_IRQ_INFO] = 16,
		[USER_SET_IRQS] = 20, [USER_REGION_READ] = 16, [USER_REGION_WRITE] = 24,
		[USER_DMA_READ] = 16, [USER_DMA_WRITE] = 16, [USER_WRITE_MULTI] = 32,
		[USER_FEATURE] = 32, [USER_MIGRATION_READ] = 8, [USER_MIGRATION_WRITE] = 64,
		[USER_VERSION] = 24,
	};
	uint8_t choice = next8(input);
	size_t length = shapes[command % USER_COMMANDS];

	for (size_t i = 0; i < length; i += 4) {
		uint32_t value = (uint32_t)number(input);

		memcpy(payload + i, &value, 4);
	}
	if (choice & 1) {
		uint32_t argsz = (uint32_t)length;

		memcpy(payload, &argsz, 4);
	}
	if (command == USER_REGION_READ || command == USER_REGION_WRITE) {
		struct user_region_access access = {number(input) % 64, choice / 4 % 4, 8};

		if (choice & 2)
			memcpy(payload, &access, sizeof(access));
	}
	if (command == USER_DMA_MAP && choice & 2) {
		struct user_dma_map map = {32, 3, 0, number(input) & ~(PAGE - 1),
					   (1 + choice / 4 % 4) * PAGE};

		memcpy(payload, &map, sizeof(map));
	}
	if (choice >= 0xf0)
		length = next8(input);
	return length;
}

/* What the probe will ask for, if it does not ask for something else first. */
static void send_answer(struct wire *w, unsigned command, const uint64_t values[3])
{
	struct {
		struct user_header header;
		struct user_dma_access access;
		unsigned char data[2 * PAGE];
	} answer = {.access = {values[0], values[1]}};
	size_t length = 16;

	if (values[1] > 2 * PAGE)
		return;
	if (command == USER_DMA_READ)
		length += values[1];
	answer.header = (struct user_header){++w->id, (uint16_t)command, (uint32_t)(16 + length),
					     USER_TYPE_REPLY, 0};
	(void)wire_raw(w->fd, &answer, 16 + length, NULL, 0);
}

static void send_command(struct input *input, struct wire *w)
{
	uint8_t choice = next8(input);
	struct {
		struct user_header header;
		struct user_region_access access;
		uint64_t values[3];
	} message = {
		.header = {0, USER_REGION_WRITE, sizeof(message), choice & 1 ? USER_NO_REPLY : 0, 0},
		.access = {8, VD_REGION_BAR0, 24},
		.values = {choice & 2 ? number(input) : choice / 4 % 4 * PAGE,
			   choice & 0x10 ? number(input) : 64, 1 + next8(input) % 10},
	};

	(void)wire_raw(w->fd, &message, sizeof(message), NULL, 0);
	if (choice & 0x20)
		return;
	if (message.values[2] == PROBE_WRITE || message.values[2] == PROBE_UNPIN)
		send_answer(w, USER_DMA_WRITE, message.values);
	else if (message.values[2] == PROBE_READ || message.values[2] == PROBE_PIN ||
		 message.values[2] == PROBE_WORK)
		send_answer(w, USER_DMA_READ, message.values);
}

static void send_message(struct input *input, struct wire *w)
{
	unsigned char bytes[16 + 512] = {0};
	int fds[16];
	uint8_t choice = next8(input), what = next8(input);
	struct user_header header = {
		.id = choice & 1 ? next8(input) : 0,
		.command = what & 0x80 ? next8(input) : 1 + what % 18,
		.flags = choice & 2 ? USER_NO_REPLY : 0,
	};
	uint8_t kinds = choice & 4 ? next8(input) : 0;
	unsigned fd_count = kinds % 8;
	size_t length;

	length = make_payload(input, header.command, bytes + 16);
	if (choice & 8)
		header.flags = USER_TYPE_REPLY | (choice & 0x40 ? USER_ERROR : 0);
	header.size = (uint32_t)(16 + length);
	if (choice == 0xff)
		header.size = next32(input);
	memcpy(bytes, &header, sizeof(header));
	for (unsigned i = 0; i < fd_count; i++)
		fds[i] = fds_to_give[(kinds / 8u + i * (kinds / 32u)) % 4];
	(void)wire_raw(w->fd, bytes, 16 + length, fds, fd_count);
}

/* A header that fits, and before it whatever the input has. */
static void send_bytes(struct input *input, struct wire *w)
{
	unsigned char bytes[16 + 255];
	struct user_header header = {.command = next8(input) % USER_COMMANDS};
	size_t length = next8(input);

	if (length > input->left)
		length = input->left;
	header.size = (uint32_t)(sizeof(header) + length);
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), input->data, length);
	input->data += length;
	input->left -= length;
	(void)wire_raw(w->fd, bytes, header.size, fds_to_give, header.command == USER_SET_IRQS);
}

static void run(void)
{
	while (vd_user_server_run_once(rig.server, 0) > 0)
		;
}

/* What the server has said is thrown away, for it never waits. Return: whether it is still there */
static bool hear(struct wire *w)
{
	static char bytes[65536];
	ssize_t n;

	while ((n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		;
	if (w->twin >= 0)
		while (recv(w->twin, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	return n < 0 && errno == EAGAIN;
}

/* Until the server hangs up, which it does when it has read all. */
static void finish(struct wire *w)
{
	shutdown(w->fd, SHUT_WR);
	do {
		run();
	} while (hear(w));
	run();
}

static void open_rig(void)
{
	int pipes[2];

	/* Nobody is there who could answer later. */
	rig_open(&rig, 1);
	rig_keep(&rig);
	fds_to_give[0] = rig_memory(4 * PAGE, true, 1);
	fds_to_give[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds_to_give[2] = rig_memory(4 * PAGE, false, 1);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	close(pipes[1]);
	fds_to_give[3] = pipes[0];
}

void fuzz_server_end(void)
{
	if (!rig.server)
		return;
	for (unsigned i = 0; i < 4; i++)
		close(fds_to_give[i]);
	rig_close(&rig);
	rig.server = NULL;
}

static void check_still_works(void)
{
	struct user_version version = {0, 1};
	struct wire w;

	wire_open(&w, rig.path);
	assert_int_equal(wire_send(&w, USER_VERSION, 0, &version, sizeof(version), NULL, 0), 0);
	assert_int_equal(wire_send(&w, USER_RESET, 0, NULL, 0, NULL, 0), 0);
	run();
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.flags, USER_TYPE_REPLY);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.flags, USER_TYPE_REPLY);
	wire_close(&w);
	run();
}

static void check_nothing_left(void)
{
	struct vd_dma_stats stats;

	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.maps, 0);
	assert_int_equal(stats.pinned_bytes, 0);
	assert_int_equal(rig_stats(&rig).clients, 0);
}

/* Version, second socket, and memory that is mapped, reached by messages, or not there. */
static void begin(struct wire *w, uint8_t how)
{
	struct user_dma_map map = {sizeof(map), 3, 0, 0, 4 * PAGE};
	struct {
		struct user_version version;
		char json[80];
	} hello = {{0, 1}, "{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":"
			   "{\"supported\":true}}}"};

	if (how < 0xf0)
		assert_int_equal(wire_send(w, USER_VERSION, 0, &hello,
					   how & 8 ? sizeof(hello.version) + strlen(hello.json) + 1
						   : sizeof(hello.version), NULL, 0), 0);
	if (how < 0xf0 && how & 8) {
		run();
		assert_int_equal(wire_receive(w, w->fd), 0);
		assert_int_equal(w->fd_count, 1);
		w->twin = w->fds[0];
		w->fd_count = 0;
	}
	if (how % 4)
		assert_int_equal(wire_send(w, USER_DMA_MAP, 0, &map, sizeof(map),
					   &fds_to_give[how & 4 ? 2 : 0], how % 4 == 1), 0);
	w->id = 0;
	/* A server that waits for us to read takes nothing: we do not wait for that. */
	assert_int_equal(fcntl(w->fd, F_SETFL, O_NONBLOCK), 0);
}

static void step(struct input *input, struct wire *w)
{
	uint8_t choice = next8(input);
	size_t length = input->left < choice ? input->left : choice % 16u;

	if (choice < 0x80)
		send_message(input, w);
	else if (choice < 0xd0)
		send_command(input, w);
	else if (choice < 0xe0)
		send_bytes(input, w);
	else if (choice < 0xe8)
		(void)!ftruncate(fds_to_give[2], (off_t)(choice % 8u * PAGE));
	else if (choice < 0xf0)
		run();
	else if (choice < 0xf8)
		(void)hear(w);
	else
		(void)wire_raw(w->fd, input->data, length, NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	static unsigned inputs;
	struct wire w;

	if (!rig.server) {
		open_rig();
		check_still_works();
	}
	assert_int_equal(ftruncate(fds_to_give[2], 4 * PAGE), 0);
	wire_open(&w, rig.path);
	begin(&w, next8(&input));
	for (unsigned steps = 1; input.left > 0; steps++) {
		step(&input, &w);
		/* Else nobody takes what is sent. */
		if (steps % 32 == 0)
			run();
	}
	finish(&w);
	wire_close(&w);
	run();
	check_nothing_left();
	if (++inputs % INPUTS_A_CHECK == 0)
		check_still_works();
	if (inputs % INPUTS_A_RIG == 0)
		fuzz_server_end();
	return 0;
}
