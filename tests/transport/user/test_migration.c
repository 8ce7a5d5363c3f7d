/* SPDX-License-Identifier: BSD-2-Clause */
/* States of migration by messages: what a client may ask for, and edu from one client to the next. */
#include <string.h>

#include <viaduct/device.h>

#include "rig.h"

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define FACTORIAL 8u

struct served_edu {
	struct rig rig;
	struct vd_dma_space *space;
	struct vd_device *device;
	struct vd_user_export *export;
};

static void edu_open(struct served_edu *s)
{
	struct vd_dma_config dma = {.env = &s->rig.test.env};
	struct vd_edu_config edu = {.env = &s->rig.test.env};
	struct vd_user_export_config export = {.path = s->rig.path, .fd = -1};

	rig_open(&s->rig, 0);
	dma.host = edu.host = s->rig.host;
	assert_int_equal(vd_dma_space_create(&dma, &s->space, NULL), 0);
	edu.space = export.space = s->space;
	assert_int_equal(vd_edu_create(&edu, &s->device, NULL), 0);
	export.device = s->device;
	assert_int_equal(vd_user_server_add(s->rig.server, &export, &s->export, NULL), 0);
	rig_run(&s->rig, 1);
}

static void edu_close(struct served_edu *s)
{
	rig_stop(&s->rig);
	vd_user_server_remove(s->export);
	vd_device_put(s->device);
	vd_dma_space_destroy(s->space);
	rig_close(&s->rig);
}

static int feature(struct wire *w, uint32_t flags, const void *data, size_t length, size_t room)
{
	unsigned char payload[64];
	struct user_feature head = {(uint32_t)(sizeof(head) + room), flags};

	memcpy(payload, &head, sizeof(head));
	memcpy(payload + sizeof(head), data, length);
	return wire_call(w, USER_FEATURE, payload, sizeof(head) + length, NULL, 0, false);
}

static int set_state(struct wire *w, uint32_t state)
{
	struct user_device_state data = {state, UINT32_MAX};

	return feature(w, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &data, sizeof(data), 8);
}

static uint32_t get_state(struct wire *w)
{
	struct user_device_state data;

	assert_int_equal(feature(w, GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, "", 0, 8), 0);
	assert_int_equal(w->length, 16);
	memcpy(&data, w->payload + 8, sizeof(data));
	assert_int_equal(data.data_fd, UINT32_MAX);
	return data.state;
}

/* Return: bytes that came, -errno */
static long read_data(struct wire *w, uint32_t argsz, uint32_t size)
{
	struct user_migration_data data = {argsz, size};
	int r = wire_call(w, USER_MIGRATION_READ, &data, sizeof(data), NULL, 0, false);

	if (r)
		return r;
	memcpy(&data, w->payload, sizeof(data));
	assert_int_equal(data.argsz, sizeof(data) + data.size);
	assert_int_equal(w->length, data.argsz);
	return data.size;
}

static int write_data(struct wire *w, uint32_t size, const void *bytes, size_t length)
{
	static unsigned char payload[65536];
	struct user_migration_data data = {(uint32_t)sizeof(data) + size, size};

	memcpy(payload, &data, sizeof(data));
	memcpy(payload + sizeof(data), bytes, length);
	return wire_call(w, USER_MIGRATION_WRITE, payload, sizeof(data) + length, NULL, 0, false);
}

static size_t read_all(struct wire *w, unsigned char *to)
{
	size_t length = 0;
	long n;

	do {
		n = read_data(w, 8 + 1000, 1000);
		assert_true(n >= 0);
		memcpy(to + length, w->payload + 8, (size_t)n);
		length += (size_t)n;
	} while (n == 1000);
	return length;
}

static void test_questions(void **state)
{
	struct served_edu s;
	uint64_t flags;
	struct wire w;

	(void)state;
	edu_open(&s);
	wire_introduce(&w, s.rig.path);
	assert_int_equal(feature(&w, GET | VFIO_DEVICE_FEATURE_MIGRATION, "", 0, 8), 0);
	assert_int_equal(w.length, 16);
	memcpy(&flags, w.payload + 8, 8);
	assert_int_equal(flags, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
				VFIO_MIGRATION_PRE_COPY);
	assert_int_equal(feature(&w, GET | VFIO_DEVICE_FEATURE_MIGRATION, "", 0, 7), -EINVAL);
	assert_int_equal(feature(&w, GET | VFIO_DEVICE_FEATURE_MIGRATION, "", 0, 0), -EINVAL);
	assert_int_equal(feature(&w, PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION, "", 0, 0), 0);
	assert_int_equal(w.length, 8);
	assert_int_equal(feature(&w, PROBE | SET | VFIO_DEVICE_FEATURE_MIGRATION, "", 0, 0),
			 -EINVAL);
	assert_int_equal(feature(&w, PROBE | 77, "", 0, 0), -ENOTTY);
	assert_int_equal(feature(&w, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, "1234567", 7, 8),
			 -EINVAL);
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_RUNNING);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_STOP), 0);
	assert_int_equal(w.length, 16); /* as it was asked */
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_STOP);
	assert_int_equal(set_state(&w, 0), -EINVAL);
	assert_int_equal(set_state(&w, UINT32_MAX), -EINVAL);
	assert_int_equal(read_data(&w, 1008, 1000), -EINVAL);
	assert_int_equal(write_data(&w, 4, "1234", 4), -EINVAL);
	/* a reset is a way out of everything */
	assert_int_equal(wire_call(&w, USER_RESET, NULL, 0, NULL, 0, false), 0);
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_RUNNING);
	wire_close(&w);
	edu_close(&s);
}

/* The server may see the new one before it sees that the old one has gone. */
static void introduce_again(struct wire *w, const char *path)
{
	int r;

	for (;;) {
		wire_open(w, path);
		r = wire_hello(w, 1, NULL);
		if (r != -EBUSY)
			break;
		wire_close(w);
	}
	assert_int_equal(r, 0);
}

static void test_numbers(void **state)
{
	struct served_edu s;
	struct wire w;

	(void)state;
	edu_open(&s);
	wire_introduce(&w, s.rig.path);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_STOP_COPY), 0);
	assert_int_equal(read_data(&w, 1007, 1000), -EINVAL);
	assert_int_equal(read_data(&w, 0, 0), -EINVAL);
	assert_int_equal(read_data(&w, 8, 0), 0);
	assert_int_equal(read_data(&w, UINT32_MAX, UINT32_MAX), -EINVAL);
	assert_int_equal(read_data(&w, 7, UINT32_MAX), -EINVAL);
	assert_int_equal(read_data(&w, UINT32_MAX, 10), 10);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_RESUMING), 0);
	assert_int_equal(write_data(&w, 5, "1234", 4), -EINVAL);
	assert_int_equal(write_data(&w, 3, "1234", 4), -EINVAL);
	assert_int_equal(write_data(&w, UINT32_MAX, "1234", 4), -EINVAL);
	assert_int_equal(write_data(&w, 4, "1234", 4), 0);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_STOP), -EINVAL);
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_RESUMING);
	wire_close(&w);
	/* who goes in the middle leaves a device that runs */
	introduce_again(&w, s.rig.path);
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_RUNNING);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_STOP_COPY), 0);
	wire_close(&w);
	introduce_again(&w, s.rig.path);
	assert_int_equal(get_state(&w), VFIO_DEVICE_STATE_RUNNING);
	wire_close(&w);
	edu_close(&s);
}

static void set_factorial(struct wire *w, uint32_t n)
{
	assert_int_equal(wire_write(w, 0, FACTORIAL, &n, 4), 0);
}

static uint32_t factorial(struct wire *w)
{
	uint32_t value = 0;

	assert_int_equal(wire_read(w, 0, FACTORIAL, &value, 4), 0);
	return value;
}

/* Early, and then the rest; into the same device, which has done something else since. */
static void test_there_and_back(void **state)
{
	static unsigned char data[1 << 20];
	struct served_edu s;
	size_t length, early;
	struct wire w;

	(void)state;
	edu_open(&s);
	wire_introduce(&w, s.rig.path);
	set_factorial(&w, 4);
	assert_int_equal(set_state(&w, VD_MIGRATION_PRE_COPY), 0);
	early = read_all(&w, data);
	assert_true(early > 4096);
	assert_int_equal(read_data(&w, 1008, 1000), 0); /* not now */
	set_factorial(&w, 5);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_STOP_COPY), 0);
	length = early + read_all(&w, data + early);
	assert_true(length > early);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_RUNNING), 0);
	set_factorial(&w, 6);
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_RESUMING), 0);
	for (size_t at = 0; at < length; at += 1000) {
		size_t n = length - at < 1000 ? length - at : 1000;

		assert_int_equal(write_data(&w, (uint32_t)n, data + at, n), 0);
	}
	assert_int_equal(set_state(&w, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(factorial(&w), 120);
	wire_close(&w);
	edu_close(&s);
}

/* A pin on memory that is reached by messages: written back while the client waits for its reply. */
static void stopping_writes_back(void **state)
{
	static unsigned char memory[4 * 4096];
	struct user_device_state stop = {VD_MIGRATION_STOP, 0};
	struct user_feature head = {16, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE};
	unsigned char payload[16];
	uint64_t registers[3] = {0, 4096, PROBE_PIN};
	struct user_dma_access access;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	assert_int_equal(wire_map(&w, 0, sizeof(memory), -1, 0), 0);
	assert_int_equal(wire_post(&w, VD_REGION_BAR0, 8, registers, 24), 0);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(wire_answer(&w, w.fd, memory, true), 0);
	memcpy(payload, &head, 8);
	memcpy(payload + 8, &stop, 8);
	assert_int_equal(wire_send(&w, USER_FEATURE, 0, payload, 16, NULL, 0), 0);
	/* The data come before the reply; nothing is answered. */
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.command, USER_DMA_WRITE);
	memcpy(&access, w.payload, sizeof(access));
	assert_int_equal(access.count, 4096);
	assert_int_equal(w.payload[16], 0x77);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.command, USER_FEATURE);
	assert_int_equal(w.header.flags, USER_TYPE_REPLY);
	wire_close(&w);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(stopping_writes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
