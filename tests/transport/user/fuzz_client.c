/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server out of its mind: the input says how each of its replies is spoilt, which messages it sends
 * without being asked, and what the guest does meanwhile. Whatever comes, the client neither hangs
 * nor leaks. The server runs where the client waits for it, and time passes when there is nothing
 * to wait for, so that an input does the same each time. The normal test runs it over a fixed
 * pseudo-random corpus and over tests/fuzz/client.ar (test_client_fuzz.c); `tools/fuzz client`
 * searches on. Link with --wrap=ppoll,--wrap=nanosleep.
 */
#include "fuzz_client.h"

#include <poll.h>
#include <sys/socket.h>

#include "mock.h"

struct input {
	const uint8_t *data;
	size_t left;
};

/* Inputs between two counts of memory and descriptors, which wait for grace periods. */
#define INPUTS_A_RIG 64u

static struct mock_rig rig;
static struct input theirs; /* the server's half of the input */
static uint64_t now;

static uint8_t next(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->data++;
}

static uint64_t next64(struct input *input)
{
	static const uint64_t corners[] = {0, 1, 4095, 4096, UINT64_MAX, INT64_MAX, 1u << 31,
					   UINT32_MAX, MOCK_RAM, MOCK_RAM + 64 * PAGE, 1u << 20,
					   (1u << 20) + 1, 16, 32, 64, 2049};
	uint8_t choice = next(input);
	uint64_t value = 0;

	if (choice < 192)
		return corners[choice % 16] + (choice >> 4) % 3;
	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | next(input);
	return value;
}

/* A command of the server's own. */
static void ask(struct mock *mock)
{
	struct {
		struct user_header header;
		uint64_t address, count;
		uint8_t data[64];
	} message = {.header = {.id = next(&theirs), .command = next(&theirs) & 31}};
	uint8_t choice = next(&theirs);

	message.address = next64(&theirs);
	message.count = choice & 1 ? next(&theirs) & 63 : next64(&theirs);
	message.header.size = choice & 2 ? 32 + (uint32_t)(message.count & 63)
					 : 16u + (next(&theirs) & 31);
	message.header.flags = choice & 4 ? next(&theirs) : 0;
	if (choice & 8)
		message.header.command = choice & 16 ? USER_DMA_WRITE : USER_DMA_READ;
	(void)!send(mock->fd, &message, message.header.size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void spoil(struct mock *mock, const struct user_header *asked, struct mock_reply *reply)
{
	uint8_t choice = next(&theirs);
	uint64_t value;

	(void)asked;
	switch (choice & 31) {
	case 1:
		reply->length = next64(&theirs) % 4096;
		break;
	case 2:
		reply->header.flags |= USER_ERROR;
		reply->header.error = (uint32_t)next64(&theirs);
		break;
	case 3:
		reply->header.size = (uint32_t)next64(&theirs);
		break;
	case 4:
		reply->header.id ^= next(&theirs);
		break;
	case 5:
		reply->none = next(&theirs) & 1;
		break;
	case 6:
	case 7:
		reply->fd_count = next(&theirs) % 20;
		for (unsigned i = 0; i < reply->fd_count; i++)
			reply->fds[i] = mock->fd;
		break;
	case 8:
	case 9:
	case 10:
	case 11:
	case 12:
		value = next64(&theirs);
		memcpy(reply->bytes + (next(&theirs) % 12) * 4, &value, choice & 32 ? 8 : 4);
		break;
	case 13:
	case 14:
		reply->bytes[next(&theirs)] ^= next(&theirs);
		break;
	case 15:
		shutdown(mock->fd, next(&theirs) & 1 ? SHUT_RDWR : SHUT_WR);
		break;
	case 16:
	case 17:
	case 18:
		for (unsigned i = 0; i <= choice >> 6; i++)
			ask(mock);
		break;
	default:
		break;
	}
}

static void guest(struct input *ours)
{
	struct vd_stream stream = {.env = rig.f.env};
	struct vd_mem_update *update;
	uint8_t data[16] = {0};
	uint64_t done;
	uint8_t choice = next(ours);

	switch (choice & 15) {
	case 0:
	case 1:
	case 2:
		(void)vd_device_read(rig.device, choice >> 5, (vd_region_offset){next(ours)}, data,
				     1u << (next(ours) & 3));
		break;
	case 3:
	case 4:
	case 5:
		(void)vd_device_write(rig.device, choice >> 5, (vd_region_offset){next(ours)}, data,
				      1u << (next(ours) & 3));
		break;
	case 6:
		vd_device_poll(rig.device);
		break;
	case 7:
		(void)vd_device_reset(rig.device, VD_RESET_FUNCTION);
		break;
	case 8:
		if (!vd_device_quiesce(rig.device))
			vd_device_resume(rig.device);
		break;
	case 9:
		(void)vd_device_save(rig.device, &stream);
		break;
	case 10:
		(void)vd_mem_discard(rig.f.mem, (vd_gpa){MOCK_RAM}, PAGE, choice & 16, &done);
		break;
	case 11:
		if (!vd_mem_begin(rig.f.mem, &update)) {
			(void)vd_mem_move(update, rig.slot,
					  (vd_gpa){MOCK_RAM << (next(ours) & 3)}, NULL);
			vd_mem_commit(update);
		}
		break;
	case 12:
		(void)vd_mem_dirty_start(rig.f.mem, rig.slot);
		break;
	default:
		vd_device_poll(rig.device);
		break;
	}
	vd_stream_fini(&stream);
}

static uint64_t read_clock(const struct vd_env *env)
{
	(void)env;
	return now;
}

int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask);

/* The client waits. */
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		 const sigset_t *mask)
{
	static const struct timespec none;
	int r;

	mock_serve(&rig.mock);
	r = __real_ppoll(fds, count, &none, mask);
	if (!r)
		now += (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
	return r;
}

int __wrap_nanosleep(const struct timespec *length, struct timespec *left);

/* The clock is the test's: no time is lost. */
int __wrap_nanosleep(const struct timespec *length, struct timespec *left)
{
	(void)left;
	now += (uint64_t)length->tv_sec * 1000000000u + (uint64_t)length->tv_nsec;
	return 0;
}

void fuzz_client_end(void)
{
	if (!rig.f.mem)
		return;
	rig_close(&rig);
	rig.f.mem = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t half = size / 2;
	struct input ours = {data, half};
	static unsigned inputs;

	theirs = (struct input){half ? data + half : data, size - half};
	if (!rig.f.mem)
		rig_open(&rig);
	else
		rig_renew(&rig);
	rig.config.timeout_ms = 3;
	rig.f.test.env.clock_ns = read_clock;
	rig.mock.no_thread = true;
	if (next(&ours) & 1)
		mock_add_memory(&rig.mock, 8 * PAGE, true);
	rig.mock.migration = next(&ours) & 1 ? VFIO_MIGRATION_STOP_COPY : 0;
	rig.mock.area_counts[2] = rig.mock.regions[2].size ? next(&ours) % 4 : 0;
	for (unsigned i = 0; i < rig.mock.area_counts[2]; i++)
		rig.mock.areas[2][i] = (struct user_area){2 * i * PAGE, PAGE};
	rig.mock.lie = spoil;
	if (!rig_start(&rig))
		while (ours.left)
			guest(&ours);
	if (++inputs % INPUTS_A_RIG == 0)
		fuzz_client_end();
	return 0;
}
