/* SPDX-License-Identifier: BSD-2-Clause */
/* What every device does alike, whichever way it is reached. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "front.h"

static void for_all(void (*test)(struct front *f))
{
	static struct front f;

	for (unsigned i = 0; fronts[i]; i++)
		for (unsigned j = 0; front_devices[j]; j++) {
			print_message("# %s, %s\n", front_devices[j]->name, fronts[i]->name);
			front_open(&f, fronts[i], front_devices[j]);
			test(&f);
			front_close(&f);
		}
}

/* ---- regions -------------------------------------------------------------------------------- */

/* The same bytes whether mapped or asked for. */
static void check_area(struct front *f, unsigned region, uint64_t offset, uint64_t length)
{
	unsigned char out[64], in[64];
	unsigned char *mapped = f->ops->map(f, region, offset, length);

	assert_non_null(mapped);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (unsigned char)(i * 5 + region);
	memcpy(mapped + length - sizeof(out), out, sizeof(out));
	assert_int_equal(f->ops->read(f, region, offset + length - sizeof(in), in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] ^= 0xff;
	assert_int_equal(f->ops->write(f, region, offset + 8, out, sizeof(out)), 0);
	/* What is posted is done before what is asked later. */
	assert_int_equal(f->ops->read(f, region, offset + 8, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_memory_equal(mapped + 8, out, sizeof(out));
	munmap(mapped, length);
}

static void check_outside(struct front *f, unsigned region, uint64_t size, unsigned flags)
{
	static const uint64_t far[] = {UINT64_C(1) << 40, UINT64_MAX - 3, UINT64_MAX};
	unsigned char in[16] = {0}, ones[16];

	memset(ones, 0xff, sizeof(ones));
	assert_null(f->ops->map(f, region, (size + 4095) / 4096 * 4096, 4096));
	for (unsigned i = 0; i < 3; i++)
		assert_true(f->ops->read(f, region, far[i], in, 4) < 0);
	assert_true(f->ops->read(f, region, size, in, 1) < 0);
	assert_true(f->ops->read(f, region, size - 1, in, 2) < 0);
	if (!(flags & VD_REGION_WRITE))
		assert_true(f->ops->write(f, region, 0, in, 1) < 0 || f->ops->guest);
}

static void check_regions(struct front *f)
{
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		const struct vd_region *region = vd_device_region(f->real, i);

		assert_int_equal(f->ops->size(f, i), region->size);
		if (!region->size)
			continue;
		if (region->flags & VD_REGION_READ)
			check_outside(f, i, region->size, region->flags);
		for (unsigned j = 0; j < region->area_count; j++)
			check_area(f, i, region->areas[j].offset, region->areas[j].size);
		if (region->flags & VD_REGION_MMAP && !region->area_count)
			check_area(f, i, 0, region->size);
		if (!(region->flags & VD_REGION_MMAP))
			assert_null(f->ops->map(f, i, 0, 4096));
	}
}

static void test_regions(void **state)
{
	(void)state;
	for_all(check_regions);
}

static void check_what_lies_between_areas(struct front *f)
{
	if (strcmp(f->kind->name, "toy"))
		return;
	assert_null(f->ops->map(f, VD_REGION_BAR1, FRONT_PAGE, FRONT_PAGE));
	assert_null(f->ops->map(f, VD_REGION_BAR1, 0, 2 * FRONT_PAGE));
	assert_null(f->ops->map(f, VD_REGION_BAR1, 2 * FRONT_PAGE, 2 * FRONT_PAGE));
}

static void test_holes(void **state)
{
	(void)state;
	for_all(check_what_lies_between_areas);
}

/* ---- reset ---------------------------------------------------------------------------------- */

static void check_reset(struct front *f)
{
	uint64_t before = 0, now = 0, value = f->kind->scratch.value;
	unsigned region = f->kind->scratch.region;
	uint64_t offset = f->kind->scratch.offset;
	uint32_t length = f->kind->scratch.length;

	assert_int_equal(f->ops->read(f, region, offset, &before, length), 0);
	assert_int_not_equal(before, value);
	assert_int_equal(f->ops->write(f, region, offset, &value, length), 0);
	assert_int_equal(f->ops->read(f, region, offset, &now, length), 0);
	assert_int_equal(now, value);
	assert_int_equal(f->ops->reset(f), 0);
	assert_int_equal(f->ops->read(f, region, offset, &now, length), 0);
	assert_int_equal(now, before);
}

static void test_reset(void **state)
{
	(void)state;
	for_all(check_reset);
}

/* ---- DMA ------------------------------------------------------------------------------------ */

static void assert_all(const struct front *f, uint64_t from, uint64_t to, unsigned char byte)
{
	for (uint64_t i = from; i < to; i++)
		if (f->bytes[i] != byte)
			fail_msg("byte %llx of memory is %x", (unsigned long long)i, f->bytes[i]);
}

/* NVMe has its queues in the second half. */
#define FRONT_FREE (FRONT_RAM_SIZE / 2)

static void check_refused(struct front *f, uint64_t address)
{
	int r;

	memset(f->bytes, 0xa5, FRONT_FREE);
	r = f->kind->store(f, address, FRONT_PAGE);
	assert_true(r < 0 || f->kind->silent);
	assert_all(f, 0, FRONT_FREE, 0xa5);
	assert_all(f, FRONT_RAM_SIZE - FRONT_PAGE, FRONT_RAM_SIZE, 0xa5);
}

static void check_dma(struct front *f)
{
	if (!f->kind->store)
		return;
	memset(f->bytes, 0xa5, FRONT_RAM_SIZE);
	assert_int_equal(f->ops->dma_map(f), 0);
	assert_int_equal(f->kind->store(f, FRONT_RAM + 2 * FRONT_PAGE, FRONT_PAGE), 0);
	assert_all(f, 0, 2 * FRONT_PAGE, 0xa5);
	assert_all(f, 3 * FRONT_PAGE, FRONT_FREE, 0xa5);
	assert_true(memchr(f->bytes + 2 * FRONT_PAGE, f->bytes[0] ^ 0xa5, FRONT_PAGE) ||
		    f->bytes[2 * FRONT_PAGE] == 1);
	if (f->kind->sum) {
		memset(f->bytes + FRONT_PAGE, 3, 600);
		assert_int_equal(f->kind->sum(f, FRONT_RAM + FRONT_PAGE, 600), 1800);
	}
	check_refused(f, FRONT_RAM + FRONT_RAM_SIZE);
	check_refused(f, FRONT_RAM - FRONT_PAGE);
	/* NVMe stores page by page, until one fails. */
	if (strcmp(f->kind->name, "nvme"))
		check_refused(f, FRONT_RAM + FRONT_RAM_SIZE - 2048);
	check_refused(f, UINT64_MAX - 2047);
	assert_int_equal(f->ops->dma_unmap(f), 0);
	if (strcmp(f->kind->name, "nvme"))
		check_refused(f, FRONT_RAM);
	assert_int_equal(f->ops->dma_map(f), 0);
	assert_int_equal(f->kind->store(f, FRONT_RAM, FRONT_PAGE), 0);
	assert_true(f->bytes[0] != 0xa5);
	assert_all(f, FRONT_PAGE, FRONT_FREE, 0xa5);
	assert_int_equal(f->ops->dma_unmap(f), 0);
}

static void test_dma(void **state)
{
	(void)state;
	for_all(check_dma);
}

/* ---- interrupts ----------------------------------------------------------------------------- */

#define SET (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define OFF (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define MASK (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK)
#define UNMASK (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK)

static int set(struct front *f, uint32_t flags, unsigned index, unsigned start, unsigned count,
	       const int *fds)
{
	return f->ops->set_irqs(f, flags, index, start, count, fds);
}

/* Fires once and is masked by that; again when unmasked, if nobody lowered it. */
static void check_intx(struct front *f)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(set(f, SET, VD_IRQ_INTX, 0, 1, &fd), 0);
	f->kind->intx(f, true);
	assert_int_equal(front_fired(f, fd, true), 1);
	f->kind->intx(f, true);
	assert_int_equal(front_fired(f, fd, false), 0);
	assert_int_equal(set(f, UNMASK, VD_IRQ_INTX, 0, 1, NULL), 0);
	assert_int_equal(front_fired(f, fd, true), 1);
	f->kind->intx(f, false);
	assert_int_equal(set(f, UNMASK, VD_IRQ_INTX, 0, 1, NULL), 0);
	assert_int_equal(front_fired(f, fd, false), 0);
	assert_int_equal(set(f, MASK, VD_IRQ_INTX, 0, 1, NULL), 0);
	f->kind->intx(f, true);
	assert_int_equal(front_fired(f, fd, false), 0);
	assert_int_equal(set(f, UNMASK, VD_IRQ_INTX, 0, 1, NULL), 0);
	assert_int_equal(front_fired(f, fd, true), 1);
	f->kind->intx(f, false);
	assert_int_equal(set(f, OFF, VD_IRQ_INTX, 0, 0, NULL), 0);
	(void)front_fired(f, fd, false);
	f->kind->intx(f, true);
	f->kind->intx(f, false);
	assert_int_equal(front_fired(f, fd, false), 0);
	close(fd);
}

/* Each vector its own; one of a range taken away leaves the others. */
static void check_vectors(struct front *f)
{
	int fds[16], none = -1;

	for (unsigned i = 0; i < 16; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(set(f, SET, VD_IRQ_MSIX, f->kind->vectors - 1, 2, fds) < 0);
	assert_true(set(f, SET, VD_IRQ_MSIX, UINT32_MAX, 2, fds) < 0);
	assert_int_equal(set(f, SET, VD_IRQ_MSIX, 4, 16, fds), 0);
	for (unsigned i = 0; i < 16; i++) {
		f->kind->raise(f, 4 + i);
		for (unsigned j = 0; j < 16; j++)
			assert_int_equal(front_fired(f, fds[j], j == i), j == i);
	}
	assert_int_equal(set(f, SET, VD_IRQ_MSIX, 7, 1, &none), 0);
	f->kind->raise(f, 8);
	assert_int_equal(front_fired(f, fds[4], true), 1);
	f->kind->raise(f, 7);
	f->kind->raise(f, 6);
	assert_int_equal(front_fired(f, fds[2], true), 1);
	assert_int_equal(front_fired(f, fds[3], false), 0);
	assert_int_equal(set(f, OFF, VD_IRQ_MSIX, 0, 0, NULL), 0);
	f->kind->raise(f, 6);
	assert_int_equal(front_fired(f, fds[2], false), 0);
	for (unsigned i = 0; i < 16; i++)
		close(fds[i]);
}

/* Of a device that sends messages and asserts INTx: the messages come. */
static void check_message(struct front *f)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(set(f, SET, VD_IRQ_MSI, 0, 1, &fd), 0);
	for (unsigned i = 0; i < 3; i++) {
		f->kind->intx(f, true);
		assert_int_equal(front_fired(f, fd, true), 1);
		f->kind->intx(f, false);
	}
	assert_int_equal(set(f, OFF, VD_IRQ_MSI, 0, 0, NULL), 0);
	f->kind->intx(f, true);
	f->kind->intx(f, false);
	assert_int_equal(front_fired(f, fd, false), 0);
	close(fd);
}

static void check_interrupts(struct front *f)
{
	/* Our client takes the best kind that there is, and that only. */
	if (f->kind->intx && !f->ops->guest)
		check_intx(f);
	if (f->kind->intx && !f->kind->raise)
		check_message(f);
	if (f->kind->raise)
		check_vectors(f);
}

static void test_interrupts(void **state)
{
	(void)state;
	for_all(check_interrupts);
}

/* Several kinds at once, each to its own descriptor: of those that exclude each other the best. */
static void check_kinds(struct front *f)
{
	unsigned kinds[3] = {VD_IRQ_MSIX, VD_IRQ_ERR, VD_IRQ_REQ}, count = 0;
	int fds[3];

	while (kinds[0] > VD_IRQ_INTX && !vd_device_irq_count(f->real, kinds[0]))
		kinds[0]--;
	for (unsigned i = 0; i < 3; i++)
		if (vd_device_irq_count(f->real, kinds[i]))
			kinds[count++] = kinds[i];
	for (unsigned i = 0; i < count; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(set(f, SET, kinds[i], 0, 1, &fds[i]), 0);
	}
	for (unsigned i = 0; i < 2 * count; i++) {
		vd_device_lock(f->real);
		vd_device_raise(f->real, kinds[i % count], 0);
		vd_device_unlock(f->real);
		for (unsigned j = 0; j < count; j++)
			assert_int_equal(front_fired(f, fds[j], j == i % count), j == i % count);
		vd_device_lock(f->real);
		vd_device_lower(f->real);
		vd_device_unlock(f->real);
		if (kinds[i % count] == VD_IRQ_INTX)
			assert_int_equal(set(f, UNMASK, VD_IRQ_INTX, 0, 1, NULL), 0);
		/* Our client's server unmasks when the guest has seen to the device. */
		if (kinds[i % count] == VD_IRQ_INTX && f->ops->guest)
			(void)front_get(f, 0, 4);
	}
	/* By the client's own hand. */
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(set(f, OFF, kinds[i], 0, 1, NULL), 0);
		assert_int_equal(front_fired(f, fds[i], true), 1);
		assert_int_equal(set(f, OFF, kinds[i], 0, 0, NULL), 0);
		close(fds[i]);
	}
}

static void test_kinds(void **state)
{
	(void)state;
	for_all(check_kinds);
}

/* ---- stop, save, load ----------------------------------------------------------------------- */

static uint64_t scratch(struct front *f)
{
	uint64_t value = 0;

	assert_int_equal(f->ops->read(f, f->kind->scratch.region, f->kind->scratch.offset, &value,
				      f->kind->scratch.length), 0);
	return value;
}

static void set_scratch(struct front *f)
{
	uint64_t value = f->kind->scratch.value;

	assert_int_equal(f->ops->write(f, f->kind->scratch.region, f->kind->scratch.offset, &value,
				       f->kind->scratch.length), 0);
	assert_int_equal(scratch(f), value);
}

static void check_stop(struct front *f)
{
	set_scratch(f);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(f->ops->stop(f), 0);
		assert_int_equal(scratch(f), f->kind->scratch.value);
		f->ops->go(f);
	}
	assert_int_equal(scratch(f), f->kind->scratch.value);
	/* It does what it did. */
	if (f->kind->store) {
		memset(f->bytes, 0xa5, FRONT_RAM_SIZE);
		assert_int_equal(f->ops->dma_map(f), 0);
		assert_int_equal(f->ops->stop(f), 0);
		f->ops->go(f);
		assert_int_equal(f->kind->store(f, FRONT_RAM, FRONT_PAGE), 0);
		assert_true(f->bytes[0] != 0xa5);
		assert_int_equal(f->ops->dma_unmap(f), 0);
	}
	assert_int_equal(f->ops->reset(f), 0);
	assert_int_not_equal(scratch(f), f->kind->scratch.value);
}

static void test_stop(void **state)
{
	(void)state;
	for_all(check_stop);
}

#define STATE_ROOM (8u << 20)

static void check_state(struct front *f)
{
	unsigned char *bytes = malloc(STATE_ROOM);
	size_t length = STATE_ROOM;

	assert_non_null(bytes);
	set_scratch(f);
	assert_int_equal(f->ops->save(f, bytes, &length), 0);
	assert_in_range(length, 1, STATE_ROOM);
	assert_int_equal(scratch(f), f->kind->scratch.value);
	assert_int_equal(f->ops->reset(f), 0);
	assert_int_not_equal(scratch(f), f->kind->scratch.value);
	assert_int_equal(f->ops->load(f, bytes, length), 0);
	assert_int_equal(scratch(f), f->kind->scratch.value);
	/* Cut off: refused, and the device is as it was, or reset; but it is one. */
	assert_true(f->ops->load(f, bytes, length - 1) < 0);
	assert_true(f->ops->load(f, bytes, length / 2) < 0);
	assert_true(f->ops->load(f, bytes, 0) < 0);
	set_scratch(f);
	assert_int_equal(f->ops->load(f, bytes, length), 0);
	assert_int_equal(scratch(f), f->kind->scratch.value);
	free(bytes);
}

static void test_save_and_load(void **state)
{
	(void)state;
	for_all(check_state);
}

/* ---- reset while it does DMA ---------------------------------------------------------------- */

static _Atomic bool storing;

static void *keep_storing(void *context)
{
	struct front *f = context;

	while (atomic_load(&storing))
		(void)f->kind->store(f, FRONT_RAM + 2 * FRONT_PAGE, FRONT_PAGE);
	return NULL;
}

/* A driver that is shot at: what it is about to do ends somewhere, and nothing else is hit. */
static void check_reset_during_dma(struct front *f)
{
	pthread_t thread;

	/* The wire is one thread's; NVMe's driver here gives up when its controller has gone. */
	if (!f->kind->store || !f->device || !strcmp(f->kind->name, "nvme"))
		return;
	memset(f->bytes, 0xa5, FRONT_RAM_SIZE);
	assert_int_equal(f->ops->dma_map(f), 0);
	atomic_store(&storing, true);
	assert_int_equal(pthread_create(&thread, NULL, keep_storing, f), 0);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(f->ops->reset(f), 0);
	atomic_store(&storing, false);
	pthread_join(thread, NULL);
	assert_all(f, 0, 2 * FRONT_PAGE, 0xa5);
	assert_all(f, 3 * FRONT_PAGE, FRONT_RAM_SIZE, 0xa5);
	assert_int_equal(f->ops->reset(f), 0);
	memset(f->bytes, 0xa5, FRONT_RAM_SIZE);
	/* Nothing is under way any more. */
	assert_all(f, 0, FRONT_RAM_SIZE, 0xa5);
	assert_int_equal(f->kind->store(f, FRONT_RAM, FRONT_PAGE), 0);
	assert_true(f->bytes[0] != 0xa5);
	assert_all(f, FRONT_PAGE, FRONT_RAM_SIZE, 0xa5);
	assert_int_equal(f->ops->dma_unmap(f), 0);
}

static void test_reset_during_dma(void **state)
{
	(void)state;
	for_all(check_reset_during_dma);
}

/* ---- dirty tracking ------------------------------------------------------------------------- */

#define LOG(what, method) (VFIO_DEVICE_FEATURE_DMA_LOGGING_##what | VFIO_DEVICE_FEATURE_##method)

static uint64_t dirty_pages(struct front *f)
{
	struct vfio_device_feature_dma_logging_report ask = {
		.iova = FRONT_RAM, .length = FRONT_RAM_SIZE, .page_size = FRONT_PAGE};
	unsigned char reply[64];
	size_t head = sizeof(struct user_logging_report), length = head + 8;
	uint64_t bits;

	assert_int_equal(f->ops->feature(f, LOG(REPORT, GET), &ask, head, reply, &length), 0);
	assert_int_equal(length, head + 8);
	memcpy(&bits, reply + head, 8);
	return bits;
}

static void check_dirty(struct front *f)
{
	struct {
		struct user_logging all;
		struct user_logging_range range;
	} start = {{FRONT_PAGE, 1, 0}, {FRONT_RAM, FRONT_RAM_SIZE}};
	unsigned char reply[64];
	size_t length = sizeof(start), none = 0;

	if (!f->kind->store || f->ops->guest)
		return;
	assert_int_equal(f->ops->dma_map(f), 0);
	assert_int_equal(f->ops->feature(f, LOG(START, SET), &start, sizeof(start), reply, &length),
			 0);
	/* NVMe's queues are stored to as well. */
	(void)dirty_pages(f);
	assert_int_equal(f->kind->store(f, FRONT_RAM + 5 * FRONT_PAGE, FRONT_PAGE), 0);
	assert_int_equal(dirty_pages(f) & 0xffffffff, 1u << 5);
	assert_int_equal(dirty_pages(f), 0);
	assert_int_equal(f->ops->feature(f, LOG(STOP, SET), NULL, 0, reply, &none), 0);
	assert_int_equal(f->ops->dma_unmap(f), 0);
}

static void test_dirty(void **state)
{
	(void)state;
	for_all(check_dirty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_dma),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_save_and_load),
		cmocka_unit_test(test_reset_during_dma),
		cmocka_unit_test(test_dirty),
	};

	return cmocka_run_group_tests_name("ways to a device", tests, NULL, NULL);
}
