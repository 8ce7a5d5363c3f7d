/* SPDX-License-Identifier: BSD-2-Clause */
/* What other implementations of the protocol get wrong, each as a test that would show it. */
#include "rig.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int feature(struct wire *w, uint32_t flags, const void *data, size_t length, size_t room)
{
	unsigned char payload[512];
	struct user_feature head = {(uint32_t)(sizeof(head) + room), flags};

	memcpy(payload, &head, sizeof(head));
	if (length)
		memcpy(payload + sizeof(head), data, length);
	return wire_call(w, USER_FEATURE, payload, sizeof(head) + length, NULL, 0, false);
}

static int start_logging(struct wire *w, uint64_t page_size)
{
	struct user_logging logging = {.page_size = page_size};

	return feature(w, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
		       &logging, sizeof(logging), sizeof(logging));
}

/* Return: the first eight bytes of the bitmap */
static uint64_t report(struct wire *w, uint64_t iova, uint64_t length, uint64_t page_size)
{
	struct user_logging_report wanted = {iova, length, page_size};
	uint64_t bits;

	assert_int_equal(feature(w, VFIO_DEVICE_FEATURE_GET |
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &wanted, sizeof(wanted),
				 1024), 0);
	assert_true(w->length >= 8 + sizeof(wanted) + 8);
	memcpy(&bits, w->payload + 8 + sizeof(wanted), 8);
	return bits;
}

/* libvfio-user: loops for ever, or sets bits that are wrong. */
static void dirty_report_in_another_page_size(void **state)
{
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(64 * PAGE, true, 0);
	assert_int_equal(wire_map(&w, 0x100000, 64 * PAGE, fd, 0), 0);
	assert_int_equal(start_logging(&w, 4096), 0);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 0x100000 + 5 * PAGE, 8), 0);
	assert_int_equal(report(&w, 0x100000, 64 * PAGE, 16384), 1u << 1);
	assert_int_equal(report(&w, 0x100000, 64 * PAGE, 4096), 0);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 0x100000 + 40 * PAGE, 8), 0);
	assert_int_equal(report(&w, 0x100000, 64 * PAGE, 65536), 1u << 2);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 0x100000 + 63 * PAGE, 8), 0);
	assert_int_equal(report(&w, 0x100000, 64 * PAGE, 4096), UINT64_C(1) << 63);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

static void dirty_reports_that_cannot_be(void **state)
{
	static const struct user_logging_report bad[] = {
		{0, PAGE, 0}, {0, PAGE, 3000}, {0, PAGE, 1}, {0, 0, 4096}, {1, PAGE, 4096},
		{0, UINT64_MAX, 4096}, {UINT64_MAX - PAGE + 1, 2 * PAGE, 4096},
		{0, UINT64_C(1) << 63, 4096}, {0, PAGE, UINT64_C(1) << 63},
	};
	struct user_logging_report good = {0, PAGE, 4096};
	const uint32_t flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	assert_int_equal(feature(&w, flags, &good, sizeof(good), 1024), -ENODATA);
	assert_int_equal(start_logging(&w, 4096), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(feature(&w, flags, &bad[i], sizeof(bad[i]), 1024) < 0);
	/* No room for the bitmap, or half a request. */
	assert_int_equal(feature(&w, flags, &good, sizeof(good), sizeof(good) + 7), -EINVAL);
	assert_int_equal(feature(&w, flags, &good, sizeof(good) - 1, 1024), -EINVAL);
	assert_int_equal(feature(&w, flags, &good, sizeof(good), sizeof(good) + 8), 0);
	assert_int_equal(start_logging(&w, 4096), -EALREADY);
	/* It goes with the client. */
	wire_close(&w);
	wire_introduce(&w, rig.path);
	assert_int_equal(feature(&w, flags, &good, sizeof(good), 1024), -ENODATA);
	assert_int_equal(start_logging(&w, 4096), 0);
	assert_int_equal(feature(&w, VFIO_DEVICE_FEATURE_SET |
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, 0), 0);
	assert_int_equal(feature(&w, VFIO_DEVICE_FEATURE_SET |
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, 0), -ENODATA);
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: aborts. */
static void logging_starts_without_memory(void **state)
{
	struct user_logging logging = {.page_size = 4096, .count = 1};
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	/* One range is said to be there, and is not. */
	assert_int_equal(feature(&w, VFIO_DEVICE_FEATURE_SET |
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &logging, sizeof(logging),
				 64), -EINVAL);
	assert_int_equal(start_logging(&w, 0), -EINVAL);
	assert_int_equal(start_logging(&w, 3000), -EINVAL);
	assert_int_equal(start_logging(&w, 4096), 0);
	assert_int_equal(report(&w, 0, 64 * PAGE, 4096), 0);
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: reads past their end. */
static void short_messages(void **state)
{
	static const struct {
		unsigned command;
		size_t length; /* of its structure */
	} commands[] = {
		{USER_DMA_MAP, 32}, {USER_DMA_UNMAP, 24}, {USER_GET_INFO, 16},
		{USER_GET_REGION_INFO, 32}, {USER_GET_REGION_IO_FDS, 16}, {USER_GET_IRQ_INFO, 16},
		{USER_SET_IRQS, 20}, {USER_REGION_READ, 16}, {USER_REGION_WRITE, 16},
		{USER_WRITE_MULTI, 8}, {USER_FEATURE, 8}, {USER_MIGRATION_READ, 8},
		{USER_MIGRATION_WRITE, 8},
	};
	static const unsigned char zeroes[64];
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 1, "{\"capabilities\":{\"write_multiple\":true}}"), 0);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		for (size_t length = 0; length < commands[i].length; length++)
			assert_int_equal(wire_call(&w, commands[i].command, zeroes, length, NULL, 0,
						   false), -EINVAL);
	probe_set(&w, PROBE_SCRATCH, 5);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 5);
	wire_close(&w);
	rig_close(&rig);
}

/* Counts that go beyond what is there, or wrap when they are added to something. */
static void counts_that_lie(void **state)
{
	struct {
		struct user_region_access access;
		unsigned char data[8];
	} message = {.data = {0}};
	static const uint32_t counts[] = {7, 9, 16, 4096, 1u << 20, (1u << 20) + 1, INT32_MAX,
					  UINT32_MAX - 15, UINT32_MAX};
	struct {
		struct user_write_multi multi;
		struct user_write writes[2];
	} multi = {.writes = {{0, 0, 8, {1}}, {8, 0, 8, {2}}}};
	static const uint64_t multi_counts[] = {0, 1, 3, UINT64_MAX, UINT64_C(0x0aaaaaaaaaaaaaac)};
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 1, "{\"capabilities\":{\"write_multiple\":true}}"), 0);
	assert_non_null(strstr((char *)w.payload + 4, "\"write_multiple\":true"));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		message.access.count = counts[i];
		assert_int_equal(wire_call(&w, USER_REGION_WRITE, &message, sizeof(message), NULL,
					   0, false), -EINVAL);
		assert_int_equal(wire_call(&w, USER_REGION_READ, &message, sizeof(message), NULL, 0,
					   false), -EINVAL);
	}
	message.access = (struct user_region_access){0, VD_REGION_BAR3, (1u << 20) + 1};
	assert_int_equal(wire_call(&w, USER_REGION_READ, &message, sizeof(message.access), NULL, 0,
				   false), -EINVAL);
	message.access.count--;
	assert_int_equal(wire_call(&w, USER_REGION_READ, &message, sizeof(message.access), NULL, 0,
				   false), 0);
	for (size_t i = 0; i < sizeof(multi_counts) / sizeof(multi_counts[0]); i++) {
		multi.multi.count = multi_counts[i];
		assert_int_equal(wire_call(&w, USER_WRITE_MULTI, &multi, sizeof(multi), NULL, 0,
					   false), -EINVAL);
	}
	multi.multi.count = 2;
	multi.writes[1].count = 9;
	assert_int_equal(wire_call(&w, USER_WRITE_MULTI, &multi, sizeof(multi), NULL, 0, false),
			 0);
	memcpy(&multi.multi, w.payload, 8);
	assert_int_equal(multi.multi.count, 1);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 1);
	wire_close(&w);
	rig_close(&rig);
}

#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

static bool fires(struct wire *w, unsigned vector, int event)
{
	struct pollfd fd = {.fd = event, .events = POLLIN};
	uint64_t count;

	assert_int_equal(probe_command(w, PROBE_RAISE, 0, vector), 0);
	return poll(&fd, 1, 0) > 0 && read(event, &count, 8) == 8;
}

/* libvfio-user: clears nothing. */
static void a_sub_range_of_interrupts_is_cleared(void **state)
{
	struct rig rig;
	struct wire w;
	int events[8];

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	for (unsigned i = 0; i < 8; i++)
		events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 10, 8, events, 8), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_true(fires(&w, 10 + i, events[i]));
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 12, 3, NULL, 0), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(fires(&w, 10 + i, events[i]), i < 2 || i > 4);
	/* Fewer than it says, or more: nothing changes. */
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 12, 3, events, 2), -EINVAL);
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 12, 1, events, 2), -EINVAL);
	assert_int_equal(wire_set_irqs(&w, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
				       VD_IRQ_MSIX, 0, 0, NULL, 0), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_false(fires(&w, 10 + i, events[i]));
		close(events[i]);
	}
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: INTx, MSI and MSI-X share one table. */
static void each_index_has_its_own_descriptors(void **state)
{
	struct rig rig;
	struct wire w;
	int intx, error;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	intx = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_ERR, 0, 1, &error, 1), 0);
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_INTX, 0, 1, &intx, 1), 0);
	assert_false(fires(&w, 0, intx));
	assert_false(fires(&w, 0, error));
	/* As in the kernel, MSI-X has to wait until INTx is off. */
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 0, 1, &error, 1), -EINVAL);
	close(intx);
	close(error);
	wire_close(&w);
	rig_close(&rig);
}

/* One that is full to the brim would stop who signals it, and all others with him. */
static void a_full_eventfd_stops_nobody(void **state)
{
	uint64_t full = UINT64_MAX - 1;
	struct rig rig;
	struct wire w;
	int event;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	event = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(write(event, &full, 8), 8);
	assert_int_equal(wire_set_irqs(&w, TRIGGER, VD_IRQ_MSIX, 0, 1, &event, 1), 0);
	assert_int_equal(probe_command(&w, PROBE_RAISE, 0, 0), 0);
	assert_int_equal(probe_command(&w, PROBE_RAISE, 0, 0), 0);
	close(event);
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: address + length is not checked where it matters. */
static void addresses_do_not_wrap(void **state)
{
	struct vd_dma_stats stats;
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(4 * PAGE, true, 1);
	/* The last page that there is. */
	assert_int_equal(wire_map(&w, UINT64_MAX - PAGE + 1, PAGE, fd, 0), 0);
	assert_int_equal(wire_map(&w, 0, PAGE, fd, 0), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, UINT64_MAX - 7, 8), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, UINT64_MAX - 7, 9), -EFAULT);
	assert_int_equal(probe_command(&w, PROBE_READ, PAGE - 1, 2), -EFAULT);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.maps, 2);
	assert_int_equal(wire_unmap(&w, UINT64_MAX - PAGE + 1, PAGE), 0);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: accepts wrap-around, size 0 and ranges that are not aligned. */
static void maps_that_cannot_be(void **state)
{
	static const struct {
		uint64_t address, size, offset;
		int result;
	} bad[] = {
		{0, 0, 0, -EINVAL},
		{0, 1, 0, -EINVAL},
		{1, PAGE, 0, -EINVAL},
		{PAGE / 2, PAGE, 0, -EINVAL},
		{0, PAGE, 1, -EINVAL},
		{UINT64_MAX - PAGE + 1, 2 * PAGE, 0, -EOVERFLOW},
		{0, 5 * PAGE, 0, -EINVAL},	    /* longer than the file */
		{0, PAGE, 4 * PAGE, -EINVAL},	    /* behind its end */
		{0, PAGE, INT64_MAX & ~(PAGE - 1), -EINVAL},
		{0, PAGE, UINT64_MAX & ~(PAGE - 1), -EINVAL},
		{0x100000, PAGE, 0, -EEXIST},
		{0x100000 - PAGE, 2 * PAGE, 0, -EEXIST},
		{0x100000 + PAGE, 2 * PAGE, 0, -EEXIST},
		{0, UINT64_C(1) << 50, 0, -ENOSPC},
	};
	struct vd_dma_stats stats;
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(4 * PAGE, true, 1);
	assert_int_equal(wire_map(&w, 0x100000, 2 * PAGE, fd, 0), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int r = wire_map(&w, bad[i].address, bad[i].size, fd, bad[i].offset);

		if (r != bad[i].result)
			fail_msg("map %zu: %d, not %d", i, r, bad[i].result);
	}
	/* Without a descriptor as well. */
	assert_int_equal(wire_map(&w, 0, 0, -1, 0), -EINVAL);
	assert_int_equal(wire_map(&w, 1, PAGE, -1, 0), -EINVAL);
	assert_int_equal(wire_map(&w, UINT64_MAX - PAGE + 1, 2 * PAGE, -1, 0), -EOVERFLOW);
	assert_int_equal(wire_map(&w, 0x100000, PAGE, -1, 0), -EEXIST);
	vd_dma_stats(rig.space, &stats);
	assert_int_equal(stats.maps, 1);
	close(fd);
	wire_close(&w);
	rig_close(&rig);
}

/* libvfio-user: a read or write that is cut short is not resumed. */
static void byte_by_byte(void **state)
{
	struct user_region_access access = {8 * PROBE_SCRATCH, VD_REGION_BAR0, 8};
	struct user_header header = {1, USER_REGION_WRITE, sizeof(header) + sizeof(access) + 8, 0,
				     0};
	unsigned char bytes[sizeof(header) + sizeof(access) + 8];
	uint64_t value = 0x1234;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &access, sizeof(access));
	memcpy(bytes + sizeof(header) + sizeof(access), &value, 8);
	for (size_t i = 0; i < sizeof(bytes); i++)
		assert_int_equal(wire_raw(w.fd, bytes + i, 1, NULL, 0), 1);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.flags, USER_TYPE_REPLY);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 0x1234);
	/* Gone in the middle of one: the next client finds everything as it was. */
	assert_int_equal(wire_raw(w.fd, bytes, 20, NULL, 0), 20);
	wire_close(&w);
	wire_introduce(&w, rig.path);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 0x1234);
	wire_close(&w);
	rig_close(&rig);
}

/*
 * A client that does not read: what it is owed is kept until that is too much, then it is not heard
 * any more; it gets all of it when it reads, and others do not notice.
 */
static void a_slow_reader(void **state)
{
	struct user_region_access access = {0, VD_REGION_BAR3, 200000};
	struct wire slow, other;
	struct rig rig;
	long most;

	(void)state;
	rig_open(&rig, 0);
	rig_make(&rig);
	rig_run(&rig, 1);
	wire_introduce(&slow, rig.path);
	wire_introduce(&other, rig.path);
	most = atomic_load(&rig.test.bytes);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(wire_send(&slow, USER_REGION_READ, 0, &access, sizeof(access),
					   NULL, 0), 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(probe_get(&other, PROBE_SCRATCH), 0);
	assert_true(atomic_load(&rig.test.bytes) < most + (2 << 20));
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(wire_receive(&slow, slow.fd), 0);
		assert_int_equal(slow.length, sizeof(access) + access.count);
	}
	assert_int_equal(wire_send(&slow, USER_REGION_READ, 0, &access, sizeof(access), NULL, 0),
			 0);
	wire_close(&slow);
	/* It goes with much that it was owed. */
	wire_introduce(&slow, rig.path);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(wire_send(&slow, USER_REGION_READ, 0, &access, sizeof(access),
					   NULL, 0), 0);
	wire_close(&slow);
	assert_int_equal(probe_get(&other, PROBE_SCRATCH), 0);
	wire_close(&other);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dirty_report_in_another_page_size),
		cmocka_unit_test(dirty_reports_that_cannot_be),
		cmocka_unit_test(logging_starts_without_memory),
		cmocka_unit_test(short_messages),
		cmocka_unit_test(counts_that_lie),
		cmocka_unit_test(a_sub_range_of_interrupts_is_cleared),
		cmocka_unit_test(each_index_has_its_own_descriptors),
		cmocka_unit_test(a_full_eventfd_stops_nobody),
		cmocka_unit_test(addresses_do_not_wrap),
		cmocka_unit_test(maps_that_cannot_be),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(a_slow_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
