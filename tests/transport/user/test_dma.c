/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the client gives no descriptor for: DMA messages, what the client wants meanwhile, and
 * clients that answer late, wrongly or never.
 */
#include "rig.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MEMORY (512u << 10)
#define BASE UINT64_C(0x40000000)

/* A client whose memory is reached by messages. */
struct client {
	struct rig rig;
	struct wire w;
	unsigned char memory[MEMORY];
	bool wide; /* how it answers */
	unsigned answered;
};

static void introduce(struct client *c, const char *json)
{
	wire_open(&c->w, c->rig.path);
	assert_int_equal(wire_hello(&c->w, 1, json), 0);
	assert_int_equal(wire_map(&c->w, BASE, MEMORY, -1, 0), 0);
	c->wide = true;
	for (size_t i = 0; i < MEMORY; i++)
		c->memory[i] = (unsigned char)(i * 13 + i / 4096);
}

static struct client *client_open(unsigned limit_ms, bool yields, const char *json)
{
	struct client *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	rig_open(&c->rig, limit_ms);
	c->rig.yields = yields;
	rig_keep(&c->rig);
	rig_run(&c->rig, 1);
	introduce(c, json);
	return c;
}

static void client_close(struct client *c)
{
	wire_close(&c->w);
	rig_close(&c->rig);
	free(c);
}

static int from_of(const struct client *c)
{
	return c->w.twin >= 0 ? c->w.twin : c->w.fd;
}

static bool is_dma(const struct client *c)
{
	return (c->w.header.flags & USER_TYPE_MASK) == USER_TYPE_COMMAND;
}

/* To the message that has just come. */
static void answer(struct client *c)
{
	struct user_dma_access access;
	uint64_t at;

	assert_true(is_dma(c));
	assert_true(c->w.length >= sizeof(access));
	memcpy(&access, c->w.payload, sizeof(access));
	at = access.address - BASE;
	assert_true(access.count <= 64u << 10 && at < MEMORY && access.count <= MEMORY - at);
	if (c->w.header.command == USER_DMA_WRITE) {
		assert_int_equal(c->w.length, sizeof(access) + access.count);
		memcpy(c->memory + at, c->w.payload + sizeof(access), access.count);
	} else {
		assert_int_equal(c->w.header.command, USER_DMA_READ);
		assert_int_equal(c->w.length, sizeof(access));
	}
	assert_int_equal(wire_answer(&c->w, from_of(c), c->memory + at, c->wide), 0);
	c->answered++;
}

/* Until one of the two sockets has something. Return: which */
static int wait_either(struct client *c)
{
	struct pollfd fds[2] = {{.fd = c->w.fd, .events = POLLIN},
				{.fd = c->w.twin, .events = POLLIN}};

	assert_true(poll(fds, 2, 20000) > 0);
	return fds[1].revents & POLLIN ? c->w.twin : c->w.fd;
}

/* What comes is answered until the reply to @id is there. */
static void await_reply(struct client *c, uint16_t id)
{
	for (;;) {
		assert_int_equal(wire_receive(&c->w, wait_either(c)), 0);
		if (!is_dma(c) && c->w.header.id == id)
			return;
		answer(c);
	}
}

static uint16_t send_set(struct client *c, unsigned reg, uint64_t value)
{
	struct {
		struct user_region_access access;
		uint64_t value;
	} message = {{8 * reg, VD_REGION_BAR0, 8}, value};

	assert_int_equal(wire_send(&c->w, USER_REGION_WRITE, 0, &message, sizeof(message), NULL,
				   0), 0);
	return c->w.id;
}

static uint16_t send_get(struct client *c, unsigned reg)
{
	struct user_region_access access = {8 * reg, VD_REGION_BAR0, 8};

	assert_int_equal(wire_send(&c->w, USER_REGION_READ, 0, &access, sizeof(access), NULL, 0),
			 0);
	return c->w.id;
}

static uint64_t value_of(const struct client *c)
{
	uint64_t value;

	assert_int_equal(c->w.length, sizeof(struct user_region_access) + 8);
	memcpy(&value, c->w.payload + sizeof(struct user_region_access), 8);
	return value;
}

/* A command of the probe that does DMA, all of which is answered. Return: its result */
static int command(struct client *c, unsigned what, uint64_t address, uint64_t length)
{
	probe_set(&c->w, PROBE_ADDRESS, address);
	probe_set(&c->w, PROBE_LENGTH, length);
	await_reply(c, send_set(c, PROBE_COMMAND, what));
	await_reply(c, send_get(c, PROBE_RESULT));
	return (int)(int64_t)value_of(c);
}

static uint64_t sum(const struct client *c, uint64_t at, uint64_t length)
{
	uint64_t total = 0;

	for (uint64_t i = 0; i < length; i++)
		total += c->memory[at + i];
	return total;
}

/* QEMU before 11.1 answers with a count of 32 bits, and data at 12. */
static void both_kinds_of_replies(void **state)
{
	static const char *const jsons[] = {
		NULL, "{\"capabilities\":{\"twin_socket\":{\"supported\":true},\"max_msg_fds\":8}}",
	};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct client *c = client_open(0, true, jsons[i / 2]);

		assert_int_equal(c->w.twin >= 0, i / 2);
		c->wide = i % 2;
		assert_int_equal(command(c, PROBE_READ, BASE + 100, 5000), 0);
		assert_int_equal(probe_get(&c->w, PROBE_SUM), sum(c, 100, 5000));
		memset(c->memory + 0x8000, 0, 9000);
		assert_int_equal(command(c, PROBE_WRITE, BASE + 0x8000, 5000), 0);
		assert_memory_equal(c->memory + 0x8000, c->memory + 100, 5000);
		assert_int_equal(c->memory[0x8000 + 5000], 0);
		assert_int_equal(c->answered, 2);
		client_close(c);
	}
}

/* QEMU cuts off replies with more than 64 KiB; a client may set a lower limit. */
static void messages_are_split(void **state)
{
	struct client *c = client_open(0, true, NULL);

	(void)state;
	assert_int_equal(command(c, PROBE_READ, BASE, 200000), 0);
	assert_int_equal(probe_get(&c->w, PROBE_SUM), sum(c, 0, 200000));
	assert_int_equal(c->answered, 4);
	client_close(c);
	c = client_open(0, true, "{\"capabilities\":{\"max_data_xfer_size\":1000}}");
	assert_int_equal(command(c, PROBE_READ, BASE, 5000), 0);
	assert_int_equal(probe_get(&c->w, PROBE_SUM), sum(c, 0, 5000));
	assert_int_equal(c->answered, 5);
	client_close(c);
}

/*
 * QEMU holds its big lock while it waits for a region access, and answers DMA only then. So
 * accesses, and all else that nests, are answered first.
 */
static void accesses_are_answered_meanwhile(void **state)
{
	static const struct {
		unsigned command;
		bool yields;
	} kinds[] = {{PROBE_READ, true}, {PROBE_WORK, true}, {PROBE_WORK, false}};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct client *c = client_open(0, kinds[i].yields, NULL);
		struct user_region_info info = {.argsz = 32, .index = VD_REGION_BAR2};
		int event = eventfd(0, EFD_CLOEXEC);
		uint16_t last;

		probe_set(&c->w, PROBE_ADDRESS, BASE);
		probe_set(&c->w, PROBE_LENGTH, 4096);
		last = send_set(c, PROBE_COMMAND, kinds[i].command);
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		assert_true(is_dma(c));
		for (unsigned k = 0; k < 3; k++) {
			struct wire saved = c->w;
			struct user_dma_access access;

			memcpy(&access, c->w.payload, sizeof(access));
			probe_set(&c->w, PROBE_SCRATCH, k);
			assert_int_equal(probe_get(&c->w, PROBE_SCRATCH), k);
			assert_int_equal(wire_call(&c->w, USER_GET_REGION_INFO, &info, sizeof(info),
						   NULL, 0, false), 0);
			assert_int_equal(wire_set_irqs(&c->w, VFIO_IRQ_SET_DATA_EVENTFD |
						       VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_MSIX, 0,
						       1, &event, 1), 0);
			assert_int_equal(wire_map(&c->w, BASE + (2 + k) * MEMORY, MEMORY, -1, 0), 0);
			/* The question has not been forgotten. */
			c->w.header = saved.header;
			c->w.length = sizeof(access);
			memcpy(c->w.payload, &access, sizeof(access));
		}
		answer(c);
		await_reply(c, last);
		assert_true(probe_get(&c->w, PROBE_INSIDE) >= 6);
		assert_int_equal(probe_get(&c->w, PROBE_RESULT), 0);
		assert_int_equal(probe_get(&c->w, PROBE_SUM), sum(c, 0, 4096));
		close(event);
		client_close(c);
	}
}

/* What comes is answered until so many replies are there. */
static void await_replies(struct client *c, unsigned count)
{
	while (count) {
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		if (is_dma(c))
			answer(c);
		else
			count--;
	}
}

/* One inside the other: the last one asks, and is answered, first. */
static void accesses_nest(void **state)
{
	struct client *c = client_open(0, true, NULL);

	(void)state;
	for (unsigned depth = 1; depth <= 5; depth++) {
		struct user_header questions[5];
		unsigned char payloads[5][16];

		probe_set(&c->w, PROBE_ADDRESS, BASE);
		probe_set(&c->w, PROBE_LENGTH, 256);
		for (unsigned i = 0; i < depth; i++)
			send_set(c, PROBE_COMMAND, PROBE_READ);
		for (unsigned i = 0; i < depth; i++) {
			assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
			assert_true(is_dma(c));
			questions[i] = c->w.header;
			memcpy(payloads[i], c->w.payload, 16);
		}
		for (unsigned i = depth; i-- > 0;) {
			c->w.header = questions[i];
			c->w.length = 16;
			memcpy(c->w.payload, payloads[i], 16);
			answer(c);
		}
		await_replies(c, depth);
		assert_int_equal(probe_get(&c->w, PROBE_RESULT), 0);
	}
	assert_int_equal(rig_stats(&c->rig).dma_failed, 0);
	/* In the other order as well. */
	for (unsigned i = 0; i < 4; i++)
		send_set(c, PROBE_COMMAND, PROBE_READ);
	await_replies(c, 4);
	assert_int_equal(rig_stats(&c->rig).dma_failed, 0);
	client_close(c);
}

/* With too many, the waits of those that are inside end, and it goes on. */
static void too_many_nested(void **state)
{
	struct client *c = client_open(0, true, NULL);

	(void)state;
	probe_set(&c->w, PROBE_ADDRESS, BASE);
	probe_set(&c->w, PROBE_LENGTH, 256);
	for (unsigned i = 0; i < 12; i++)
		send_set(c, PROBE_COMMAND, PROBE_READ);
	await_replies(c, 12);
	assert_int_equal(rig_stats(&c->rig).dma_failed, 10);
	assert_int_equal(command(c, PROBE_READ, BASE, 300), 0);
	assert_int_equal(probe_get(&c->w, PROBE_SUM), sum(c, 0, 300));
	assert_int_equal(rig_stats(&c->rig).cut_off, 0);
	client_close(c);
}

/* What does not nest ends the wait, and is handled when the operation is over. */
static void others_end_the_wait(void **state)
{
	static const unsigned commands[] = {USER_DMA_UNMAP, USER_RESET};
	struct user_dma_unmap unmap = {sizeof(unmap), 0, BASE, MEMORY};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct client *c = client_open(0, i / 2, NULL);
		bool is_reset = commands[i % 2] == USER_RESET;
		struct wire question;
		unsigned char payload[16];
		uint16_t first;

		probe_set(&c->w, PROBE_ADDRESS, BASE);
		probe_set(&c->w, PROBE_LENGTH, 4096);
		first = send_set(c, PROBE_COMMAND, PROBE_READ);
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		assert_true(is_dma(c));
		question = c->w;
		memcpy(payload, c->w.payload, 16);
		assert_int_equal(wire_send(&c->w, commands[i % 2], 0, &unmap,
					   is_reset ? 0 : sizeof(unmap), NULL, 0), 0);
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		assert_int_equal(c->w.header.id, first);
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		assert_int_equal(c->w.header.id, c->w.id);
		assert_int_equal(c->w.header.flags, USER_TYPE_REPLY);
		assert_int_equal((int)probe_get(&c->w, PROBE_RESULT), is_reset ? 0 : -ECANCELED);
		/* The answer comes too late, and harms nobody. */
		c->w.header = question.header;
		c->w.length = 16;
		memcpy(c->w.payload, payload, 16);
		answer(c);
		if (!is_reset)
			assert_int_equal(wire_map(&c->w, BASE, MEMORY, -1, 0), 0);
		assert_int_equal(command(c, PROBE_READ, BASE, 4096), 0);
		assert_int_equal(rig_stats(&c->rig).dma_failed, 1);
		client_close(c);
	}
}

static void no_answer(void **state)
{
	struct client *c = client_open(50, true, NULL);

	(void)state;
	probe_set(&c->w, PROBE_ADDRESS, BASE);
	probe_set(&c->w, PROBE_LENGTH, 4096);
	send_set(c, PROBE_COMMAND, PROBE_READ);
	assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
	assert_true(is_dma(c));
	while (!wire_receive(&c->w, c->w.fd))
		;
	wire_close(&c->w);
	introduce(c, NULL);
	assert_int_equal((int)probe_get(&c->w, PROBE_RESULT), -ECONNRESET);
	assert_int_equal(command(c, PROBE_READ, BASE, 4096), 0);
	assert_int_equal(rig_stats(&c->rig).cut_off, 1);
	client_close(c);
}

/* Nor does it help to say a lot that is no answer. */
static void no_answer_but_questions(void **state)
{
	struct client *c = client_open(50, true, NULL);
	int r = 0;

	(void)state;
	probe_set(&c->w, PROBE_ADDRESS, BASE);
	probe_set(&c->w, PROBE_LENGTH, 4096);
	send_set(c, PROBE_COMMAND, PROBE_READ);
	assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
	assert_true(is_dma(c));
	while (!r) {
		uint64_t value;

		r = wire_read(&c->w, VD_REGION_BAR0, 0, &value, 8);
	}
	assert_int_equal(r, -ECONNRESET);
	assert_int_equal(rig_stats(&c->rig).cut_off, 1);
	client_close(c);
}

static void raw_answer(struct client *c, uint16_t id, uint16_t number, uint32_t flags,
		       uint32_t error, size_t length, uint64_t count)
{
	static unsigned char bytes[16 + 16 + 8192];
	struct user_header header = {id, number, (uint32_t)(16 + length), USER_TYPE_REPLY | flags,
				     error};
	struct user_dma_access access = {BASE, count};

	memset(bytes, 0x55, sizeof(bytes));
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + 16, &access, sizeof(access));
	assert_int_equal(wire_raw(from_of(c), bytes, header.size, NULL, 0), header.size);
}

static void wrong_answers(void **state)
{
	static const struct {
		int id, number;
		uint32_t flags, error;
		size_t length;
		uint64_t count;
		int result; /* 1: it is no answer at all */
	} answers[] = {
		{0, USER_DMA_READ, USER_ERROR, EFAULT, 0, 0, -EFAULT},
		{0, USER_DMA_READ, USER_ERROR, 0, 0, 0, -EIO},
		{0, USER_DMA_READ, USER_ERROR, UINT32_MAX, 0, 0, -EIO},
		{0, USER_DMA_READ, USER_ERROR, EAGAIN, 0, 0, -EIO},
		{0, USER_DMA_WRITE, 0, 0, 16 + 4096, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 0, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 12, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 16, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 11 + 4096, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 13 + 4096, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 17 + 4096, 4096, -EIO},
		{0, USER_DMA_READ, 0, 0, 16 + 4096, 4095, -EIO},
		{0, USER_DMA_READ, 0, 0, 16 + 4096, UINT64_MAX, -EIO},
		{1, USER_DMA_READ, 0, 0, 16 + 4096, 4096, 1},
		{-1, USER_DMA_READ, 0, 0, 16 + 4096, 4096, 1},
		{7, USER_REGION_READ, 0, 0, 0, 0, 1},
	};
	static const char *const jsons[] = {
		NULL, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
	};

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct client *c = client_open(0, true, jsons[k]);

		for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
			uint16_t last;

			probe_set(&c->w, PROBE_ADDRESS, BASE);
			probe_set(&c->w, PROBE_LENGTH, 4096);
			last = send_set(c, PROBE_COMMAND, PROBE_READ);
			assert_int_equal(wire_receive(&c->w, from_of(c)), 0);
			raw_answer(c, (uint16_t)(c->w.header.id + answers[i].id),
				   (uint16_t)answers[i].number, answers[i].flags, answers[i].error,
				   answers[i].length, answers[i].count);
			if (answers[i].result == 1)
				answer(c);
			await_reply(c, last);
			assert_int_equal((int)probe_get(&c->w, PROBE_RESULT),
					 answers[i].result == 1 ? 0 : answers[i].result);
		}
		assert_int_equal(rig_stats(&c->rig).cut_off, 0);
		client_close(c);
	}
}

/* The client goes while its answer is waited for. */
static void gone_meanwhile(void **state)
{
	static const char *const jsons[] = {
		NULL, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
	};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct client *c = client_open(0, i % 2, jsons[i / 2 % 2]);

		probe_set(&c->w, PROBE_ADDRESS, BASE);
		probe_set(&c->w, PROBE_LENGTH, 4096);
		send_set(c, PROBE_COMMAND, i % 2 ? PROBE_READ : PROBE_WORK);
		assert_int_equal(wire_receive(&c->w, from_of(c)), 0);
		assert_true(is_dma(c));
		if (i >= 4)
			/* half an answer */
			assert_int_equal(wire_raw(c->w.fd, &c->w.header, 9, NULL, 0), 9);
		wire_close(&c->w);
		introduce(c, NULL);
		assert_int_equal((int)probe_get(&c->w, PROBE_RESULT), -ECONNRESET);
		assert_int_equal(rig_stats(&c->rig).cut_off, 0);
		client_close(c);
	}
}

/* A pin has a buffer, which is written back when it goes, or refused when that cannot be. */
static void pins_are_written_back(void **state)
{
	struct client *c = client_open(0, true, NULL);

	(void)state;
	assert_int_equal(command(c, PROBE_PIN, BASE + 4096, 8192), 0);
	assert_int_equal(command(c, PROBE_UNPIN, 0, 0), 0);
	assert_int_equal(c->memory[4096], 0x77);
	assert_int_equal(c->memory[4096 + 8191], 0x77);
	/* What is unmapped is not written back; the client could not answer. */
	assert_int_equal(command(c, PROBE_PIN, BASE + 0x10000, 4096), 0);
	assert_int_equal(wire_unmap(&c->w, BASE, MEMORY), 0);
	assert_int_equal(atomic_load(&c->rig.probe->unpin_requests), 1);
	assert_int_equal(c->memory[0x10000], (0x10000 * 13 + 0x10) & 0xff);
	/* Nor on reset. */
	assert_int_equal(wire_map(&c->w, BASE, MEMORY, -1, 0), 0);
	assert_int_equal(command(c, PROBE_PIN, BASE + 0x10000, 4096), 0);
	assert_int_equal(wire_call(&c->w, USER_RESET, NULL, 0, NULL, 0, false), 0);
	assert_int_equal(rig_stats(&c->rig).cut_off, 0);
	client_close(c);
}

/* A pin of all its memory, of which unmapping a page lets go: the rest of it is written back. */
static struct client *client_unmapping(uint16_t *id)
{
	struct client *c = client_open(
		0, true, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}");
	struct user_dma_unmap unmap = {.argsz = sizeof(unmap), .address = BASE, .size = 4096};
	struct timeval limit = {.tv_sec = 5};

	assert_int_equal(setsockopt(c->w.twin, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(wire_unmap(&c->w, BASE, MEMORY), 0);
	assert_int_equal(wire_map(&c->w, BASE, 4096, -1, 0), 0);
	assert_int_equal(wire_map(&c->w, BASE + 4096, MEMORY - 4096, -1, 0), 0);
	assert_int_equal(command(c, PROBE_PIN, BASE, MEMORY), 0);
	c->answered = 0;
	assert_int_equal(wire_send(&c->w, USER_DMA_UNMAP, 0, &unmap, sizeof(unmap), NULL, 0), 0);
	*id = c->w.id;
	return c;
}

static void check_written(struct client *c)
{
	assert_int_equal(c->answered, 8);
	for (unsigned i = 4096; i < MEMORY; i++)
		assert_int_equal(c->memory[i], 0x77);
	assert_int_equal(rig_stats(&c->rig).cut_off, 0);
}

/*
 * What is written back while the client waits for something else, on its second socket, is more
 * than that takes at once. The rest follows without anything else that happens.
 */
static void posted_writes_arrive(void **state)
{
	uint16_t id;
	struct client *c = client_unmapping(&id);

	(void)state;
	assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
	assert_int_equal(c->w.header.id, id);
	while (c->answered < 8) {
		assert_int_equal(wire_receive(&c->w, c->w.twin), 0);
		answer(c);
	}
	check_written(c);
	client_close(c);
}

/* Whoever reads both sockets finds all of it there when the reply comes. */
static void posted_writes_come_first(void **state)
{
	const size_t all = 8 * (sizeof(struct user_header) + sizeof(struct user_dma_access)) +
			   MEMORY - 4096;
	size_t taken = 0;
	int left;
	uint16_t id;
	struct client *c = client_unmapping(&id);
	struct pollfd fds[2] = {{.fd = c->w.fd, .events = POLLIN},
				{.fd = c->w.twin, .events = POLLIN}};

	(void)state;
	/* A reply that comes too early shall be seen. */
	(void)poll(fds, 1, 10);
	while (poll(fds, 2, 20000) > 0 && !fds[0].revents) {
		assert_int_equal(wire_receive(&c->w, c->w.twin), 0);
		taken += c->w.header.size;
		answer(c);
	}
	assert_int_equal(ioctl(c->w.twin, FIONREAD, &left), 0);
	assert_int_equal(taken + (size_t)left, all);
	while (c->answered < 8) {
		assert_int_equal(wire_receive(&c->w, c->w.twin), 0);
		answer(c);
	}
	check_written(c);
	client_close(c);
}

/* A device that does not let go in time may write back long after its client has gone. */
static void pins_outlive_clients(void **state)
{
	struct client *c = calloc(1, sizeof(*c));

	(void)state;
	assert_non_null(c);
	rig_open(&c->rig, 0);
	c->rig.yields = true;
	c->rig.pin_limit_ms = 20;
	rig_keep(&c->rig);
	rig_run(&c->rig, 1);
	introduce(c, NULL);
	assert_int_equal(command(c, PROBE_PIN, BASE + 4096, 8192), 0);
	atomic_store(&c->rig.probe->stubborn, true);
	wire_close(&c->w);
	while (rig_stats(&c->rig).clients)
		sched_yield();
	c->rig.probe->pinned = false;
	assert_int_equal(vd_dma_unpin(&c->rig.probe->pin), -ECONNRESET);
	assert_int_equal(rig_stats(&c->rig).dma_failed, 1);
	introduce(c, NULL);
	assert_int_equal(command(c, PROBE_READ, BASE, 4096), 0);
	client_close(c);
}

/* A completion of the device's comes by itself, DMA and interrupt with it. */
static void completions_send_messages(void **state)
{
	struct client *c = client_open(0, true, NULL);
	int event = eventfd(0, EFD_CLOEXEC);
	uint64_t value;

	(void)state;
	assert_int_equal(wire_set_irqs(&c->w, VFIO_IRQ_SET_DATA_EVENTFD |
				       VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_MSIX, 0, 1, &event, 1),
			 0);
	for (unsigned i = 0; i < 20; i++) {
		struct pollfd fd = {.fd = event, .events = POLLIN};

		memset(c->memory, 0, 4096);
		probe_set(&c->w, PROBE_ADDRESS, BASE);
		probe_set(&c->w, PROBE_LENGTH, 4096);
		probe_set(&c->w, PROBE_COMMAND, PROBE_BUSY);
		assert_int_equal(wire_receive(&c->w, c->w.fd), 0);
		/* An access first: it is answered on the way. */
		if (i % 2) {
			struct user_header header = c->w.header;
			unsigned char payload[16 + 4096];

			memcpy(payload, c->w.payload, sizeof(payload));
			assert_int_equal(probe_get(&c->w, PROBE_LENGTH), 4096);
			c->w.header = header;
			c->w.length = sizeof(payload);
			memcpy(c->w.payload, payload, sizeof(payload));
		}
		answer(c);
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(read(event, &value, 8), 8);
		assert_int_equal(c->memory[100], 1);
	}
	close(event);
	client_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_kinds_of_replies),
		cmocka_unit_test(messages_are_split),
		cmocka_unit_test(accesses_are_answered_meanwhile),
		cmocka_unit_test(accesses_nest),
		cmocka_unit_test(too_many_nested),
		cmocka_unit_test(others_end_the_wait),
		cmocka_unit_test(no_answer),
		cmocka_unit_test(no_answer_but_questions),
		cmocka_unit_test(wrong_answers),
		cmocka_unit_test(gone_meanwhile),
		cmocka_unit_test(pins_are_written_back),
		cmocka_unit_test(pins_outlive_clients),
		cmocka_unit_test(posted_writes_arrive),
		cmocka_unit_test(posted_writes_come_first),
		cmocka_unit_test(completions_send_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
