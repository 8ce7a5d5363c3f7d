/* SPDX-License-Identifier: BSD-2-Clause */
/* The client's memory: what it may give, take back, and take away. */
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TOO_MANY 20u

static uint64_t maps_of(const struct rig *rig)
{
	struct vd_dma_stats stats;

	vd_dma_stats(rig->space, &stats);
	return stats.maps;
}

static int map_flags(struct wire *w, uint32_t flags, uint64_t address, const int *fds,
		     unsigned count)
{
	struct user_dma_map map = {sizeof(map), flags, 0, address, PAGE};

	return wire_call(w, USER_DMA_MAP, &map, sizeof(map), fds, count, false);
}

static void rights(void **state)
{
	char name[64];
	struct rig rig;
	struct wire w;
	int fds[2], read_only;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fds[0] = fds[1] = rig_memory(PAGE, true, 9);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[0]);
	read_only = open(name, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	assert_int_equal(map_flags(&w, 0, 0, fds, 1), -EINVAL);
	assert_int_equal(map_flags(&w, 4, 0, fds, 1), -EINVAL);
	assert_int_equal(map_flags(&w, UINT32_MAX, 0, fds, 1), -EINVAL);
	assert_int_equal(map_flags(&w, 3, 0, fds, 2), -EINVAL);
	assert_int_equal(map_flags(&w, 3, 0, &read_only, 1), -EACCES);
	assert_int_equal(map_flags(&w, 1, 0, &read_only, 1), 0);
	assert_int_equal(map_flags(&w, 2, PAGE, fds, 1), 0);
	assert_int_equal(map_flags(&w, 3, 2 * PAGE, fds, 1), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, 0, 8), 0);
	assert_int_equal(probe_get(&w, PROBE_SUM), 72);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 0, 8), -EFAULT);
	assert_int_equal(probe_command(&w, PROBE_READ, PAGE, 8), -EFAULT);
	assert_int_equal(probe_command(&w, PROBE_WRITE, PAGE, 8), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, PAGE, 2 * PAGE), -EFAULT);
	close(read_only);
	close(fds[0]);
	wire_close(&w);
	rig_close(&rig);
}

/* Descriptors of which no memory can be had. */
static void no_memory_at_all(void **state)
{
	int pipes[2], directory, null, self;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	directory = open("/", O_RDONLY | O_CLOEXEC);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	self = w.fd;
	assert_true(wire_map(&w, 0, PAGE, pipes[0], 0) < 0);
	assert_true(wire_map(&w, 0, PAGE, directory, 0) < 0);
	assert_true(wire_map(&w, 0, PAGE, null, 0) < 0);
	assert_true(wire_map(&w, 0, PAGE, self, 0) < 0);
	assert_int_equal(maps_of(&rig), 0);
	close(pipes[0]);
	close(pipes[1]);
	close(directory);
	close(null);
	wire_close(&w);
	rig_close(&rig);
}

/* A file that can be cut needs the fault guard; DMA to what is not there faults. */
static void memory_that_goes_away(void **state)
{
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(4 * PAGE, false, 1);
	assert_int_equal(wire_map(&w, 0, 4 * PAGE, fd, 0), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, 0, 4 * PAGE), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, 0, 4 * PAGE), -EFAULT);
	assert_int_equal(probe_command(&w, PROBE_READ, 0, PAGE), 0);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

struct cutter {
	int fd;
	_Atomic bool done;
};

static void *cut_and_mend(void *context)
{
	struct cutter *cutter = context;

	while (!atomic_load(&cutter->done)) {
		assert_int_equal(ftruncate(cutter->fd, PAGE), 0);
		assert_int_equal(ftruncate(cutter->fd, 64 * PAGE), 0);
	}
	return NULL;
}

/*
 * While it is being read as well: that faults, or reads zeroes and the client is cut off; another
 * one does not notice.
 */
static void memory_that_goes_away_in_use(void **state)
{
	struct cutter cutter = {.fd = rig_memory(64 * PAGE, false, 1)};
	struct wire w, other;
	pthread_t thread;
	struct rig rig;
	bool fresh = true;

	(void)state;
	rig_open(&rig, 0);
	rig_make(&rig);
	rig_run(&rig, 1);
	wire_introduce(&other, rig.path);
	assert_int_equal(pthread_create(&thread, NULL, cut_and_mend, &cutter), 0);
	for (unsigned i = 0; i < 150; i++) {
		uint64_t registers[3] = {0, 64 * PAGE, PROBE_READ};
		int r;

		if (fresh) {
			wire_introduce(&w, rig.path);
			r = wire_map(&w, 0, 64 * PAGE, cutter.fd, 0);
			assert_true(r == 0 || r == -EINVAL);
		}
		r = wire_write(&w, VD_REGION_BAR0, 8 * PROBE_ADDRESS, registers, 24);
		assert_true(r == 0 || r == -ECONNRESET);
		fresh = r || i % 16 == 0;
		if (fresh)
			wire_close(&w);
		assert_int_equal(probe_get(&other, PROBE_SCRATCH), 0);
	}
	atomic_store(&cutter.done, true);
	pthread_join(thread, NULL);
	if (!fresh)
		wire_close(&w);
	wire_close(&other);
	rig_close(&rig);
	close(cutter.fd);
}

static void without_the_guard(void **state)
{
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	vd_host_guard_uninstall();
	wire_introduce(&w, rig.path);
	fd = rig_memory(PAGE, false, 1);
	assert_int_equal(wire_map(&w, 0, PAGE, fd, 0), -EPERM);
	close(fd);
	fd = rig_memory(PAGE, true, 1);
	assert_int_equal(wire_map(&w, 0, PAGE, fd, 0), 0);
	close(fd);
	wire_close(&w);
	assert_int_equal(vd_host_guard_install(NULL), 0);
	rig_close(&rig);
}

static int unmap(struct wire *w, uint32_t flags, uint64_t address, uint64_t size, uint64_t *gone)
{
	struct user_dma_unmap message = {sizeof(message), flags, address, size};
	int r = wire_call(w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false);

	if (r)
		return r;
	memcpy(&message, w->payload, sizeof(message));
	*gone = message.size;
	return 0;
}

static void unmapping(void **state)
{
	uint64_t gone;
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(16 * PAGE, true, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(wire_map(&w, i * 4 * PAGE, 4 * PAGE, i % 2 ? fd : -1, 0), 0);
	assert_int_equal(unmap(&w, 0, 0, 2 * PAGE, &gone), -EINVAL);
	assert_int_equal(unmap(&w, 0, 2 * PAGE, 4 * PAGE, &gone), -EINVAL);
	assert_int_equal(unmap(&w, 0, 0, 0, &gone), -EINVAL);
	assert_int_equal(unmap(&w, 0, 1, PAGE, &gone), -EINVAL);
	assert_int_equal(unmap(&w, 0, 0, UINT64_MAX, &gone), -EINVAL);
	assert_int_equal(unmap(&w, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, &gone), -EOVERFLOW);
	assert_int_equal(unmap(&w, 0, 0x100000, PAGE, &gone), -ENOENT);
	assert_int_equal(unmap(&w, 4, 0, PAGE, &gone), -EINVAL);
	assert_int_equal(unmap(&w, USER_UNMAP_ALL, 0, PAGE, &gone), -EINVAL);
	assert_int_equal(unmap(&w, USER_UNMAP_ALL | USER_UNMAP_BITMAP, 0, 0, &gone), -EINVAL);
	assert_int_equal(maps_of(&rig), 4);
	assert_int_equal(unmap(&w, 0, 4 * PAGE, 4 * PAGE, &gone), 0);
	assert_int_equal(gone, 4 * PAGE);
	assert_int_equal(maps_of(&rig), 3);
	assert_int_equal(unmap(&w, USER_UNMAP_ALL, 0, 0, &gone), 0);
	assert_int_equal(gone, 12 * PAGE);
	assert_int_equal(unmap(&w, USER_UNMAP_ALL, 0, 0, &gone), 0);
	assert_int_equal(gone, 0);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

/* With the pages that were stored to, for a client that knows nothing of the feature's reports. */
static void unmapping_with_a_bitmap(void **state)
{
	struct {
		struct user_dma_unmap range;
		struct user_bitmap bitmap;
	} message = {{40 + 8, USER_UNMAP_BITMAP, 0, 16 * PAGE}, {4096, 8}};
	struct {
		struct user_feature feature;
		struct user_logging logging;
	} start = {{24, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START},
		   {4096, 0, 0}};
	uint64_t bits;
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(16 * PAGE, true, 1);
	assert_int_equal(wire_map(&w, 0, 16 * PAGE, fd, 0), 0);
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false),
			 -ENODATA);
	assert_int_equal(wire_call(&w, USER_FEATURE, &start, sizeof(start), NULL, 0, false), 0);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 3 * PAGE, PAGE + 1), 0);
	message.bitmap.size = 4096;
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false),
			 -EINVAL);
	message.bitmap = (struct user_bitmap){0, 8};
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false),
			 -EINVAL);
	message.bitmap = (struct user_bitmap){4096, 8};
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message.range), NULL, 0,
				   false), -EINVAL);
	message.range.argsz = 47;
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false),
			 -EINVAL);
	message.range.argsz = 48;
	assert_int_equal(maps_of(&rig), 1);
	assert_int_equal(wire_call(&w, USER_DMA_UNMAP, &message, sizeof(message), NULL, 0, false),
			 0);
	assert_int_equal(w.length, 48);
	memcpy(&bits, w.payload + 40, 8);
	assert_int_equal(bits, 3u << 3);
	assert_int_equal(maps_of(&rig), 0);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

/* Descriptors that come along with what takes none are closed: rig_close() counts. */
static void descriptors_nobody_wants(void **state)
{
	static const unsigned char zeroes[64];
	int fds[TOO_MANY];
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	for (unsigned i = 0; i < TOO_MANY; i++)
		fds[i] = w.fd;
	for (unsigned command = 0; command < 25; command++)
		(void)wire_call(&w, command, zeroes, sizeof(zeroes), fds, TOO_MANY, false);
	/* Too many for one message that wants one: it is not done with those that came. */
	{
		struct user_dma_map map = {sizeof(map), 3, 0, 0, PAGE};

		assert_int_equal(wire_call(&w, USER_DMA_MAP, &map, sizeof(map), fds,
					   TOO_MANY, false), -EMFILE);
	}
	probe_set(&w, PROBE_SCRATCH, 1);
	wire_close(&w);
	rig_close(&rig);
}

/* The limit on what is mapped counts what is mapped, not what was. */
static void memory_is_counted(void **state)
{
	struct rig rig;
	struct wire w;
	uint64_t half = UINT64_C(128) << 30;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = memfd_create("sparse", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, (off_t)(2 * half)), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(wire_map(&w, 0, half, fd, 0), 0);
		assert_int_equal(wire_map(&w, half, half, fd, half), 0);
		assert_int_equal(wire_map(&w, 2 * half, PAGE, fd, 0), -ENOSPC);
		assert_int_equal(wire_map(&w, 2 * half, half, -1, 0), 0);
		assert_int_equal(wire_unmap(&w, 0, 3 * half), 0);
	}
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights),
		cmocka_unit_test(no_memory_at_all),
		cmocka_unit_test(memory_that_goes_away),
		cmocka_unit_test(memory_that_goes_away_in_use),
		cmocka_unit_test(without_the_guard),
		cmocka_unit_test(unmapping),
		cmocka_unit_test(unmapping_with_a_bitmap),
		cmocka_unit_test(descriptors_nobody_wants),
		cmocka_unit_test(memory_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
