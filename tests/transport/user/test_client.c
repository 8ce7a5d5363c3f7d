/* SPDX-License-Identifier: BSD-2-Clause */
/* The client with an honest server: accesses, interrupts, memory, states. */
#include "mock.h"

#include <linux/pci_regs.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <viaduct/mmu.h>

#include "transport/user/client.h"

static struct mock_rig rig;

static void start(void)
{
	if (rig_start(&rig))
		fail_msg("%s", rig.error.text);
}

static unsigned told(unsigned command)
{
	return atomic_load(&rig.mock.commands[command]);
}

/* ---- what it is ------------------------------------------------------------------------------ */

static void test_device_is_as_served(void **state)
{
	(void)state;
	rig_open(&rig);
	start();
	assert_int_equal(vd_device_region(rig.device, 0)->size, 0x1000);
	assert_int_equal(vd_device_region(rig.device, 1)->size, 0);
	assert_int_equal(vd_device_region(rig.device, VD_REGION_CONFIG)->size, 0x1000);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_MSIX), 4);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_MSI), 0);
	assert_int_equal(rig_read(&rig, VD_REGION_CONFIG, 0), 0x00051b36);
	assert_int_equal(rig.info.fds_max, 3);
	assert_int_equal(rig.info.maps_max, USER_DEFAULT_MAPS);
	assert_true(rig.info.resettable);
	assert_false(rig.info.twin_socket);
	assert_int_equal(told(USER_RESET), 1);
	rig_close(&rig);
}

static void test_inspecting_changes_nothing(void **state)
{
	(void)state;
	rig_open(&rig);
	rig.config.inspect = true;
	start();
	assert_int_equal(rig_read(&rig, VD_REGION_CONFIG, 0), 0x00051b36);
	assert_int_equal(told(USER_RESET) + told(USER_SET_IRQS) + told(USER_DMA_MAP), 0);
	rig_close(&rig);
}

/* ---- accesses ------------------------------------------------------------------------------- */

static void test_writes_are_posted_in_order(void **state)
{
	unsigned before;

	(void)state;
	rig_open(&rig);
	start();
	before = atomic_load(&rig.mock.posted);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(rig_write(&rig, 0, MOCK_VALUE, i, 4), 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 999);
	assert_int_equal(atomic_load(&rig.mock.posted) - before, 1000);
	/* Configuration space is not. */
	assert_int_equal(rig_write(&rig, VD_REGION_CONFIG, 4, 6, 2), 0);
	assert_int_equal(atomic_load(&rig.mock.posted) - before, 1000);
	rig_close(&rig);
}

static void test_no_posting_beside_mapped_memory(void **state)
{
	(void)state;
	rig_open(&rig);
	mock_add_memory(&rig.mock, 2 * PAGE, true);
	start();
	assert_int_equal(rig_write(&rig, 0, MOCK_VALUE, 5, 8), 0);
	assert_int_equal(atomic_load(&rig.mock.posted), 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 5);
	rig_close(&rig);
}

static void test_error_of_the_device(void **state)
{
	uint32_t value = 0;

	(void)state;
	rig_open(&rig);
	rig.mock.regions[0].size = 2 * MOCK_BAR; /* of which the second half is refused */
	start();
	assert_int_equal(vd_device_read(rig.device, 0, (vd_region_offset){MOCK_BAR}, &value, 4),
			 -EINVAL);
	assert_int_equal(value, UINT32_MAX);
	/* That was no end. */
	assert_int_equal(rig_write(&rig, 0, MOCK_VALUE, 7, 4), 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 7);
	rig_close(&rig);
}

static void *hammer(void *context)
{
	uint64_t offset = 0x100 + 8 * (uintptr_t)context;

	for (uint64_t i = 0; i < 300; i++) {
		uint64_t got = 0;

		if (rig_write(&rig, 0, offset, i, 8) ||
		    vd_device_read(rig.device, 0, (vd_region_offset){offset}, &got, 8) || got != i)
			return (void *)1;
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	pthread_t threads[4];

	(void)state;
	rig_open(&rig);
	start();
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)i), 0);
	for (unsigned i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	rig_close(&rig);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static unsigned fired[8];
static bool level;

static void sink(void *context, enum vd_irq_index index, unsigned vector, bool on)
{
	(void)context;
	if (index == VD_IRQ_INTX)
		level = on;
	fired[vector] += on;
}

static void wait_and_poll(void)
{
	struct pollfd fd = {.fd = vd_device_poll_fd(rig.device), .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 5000), 1);
	vd_device_poll(rig.device);
}

static void test_interrupts(void **state)
{
	(void)state;
	memset(fired, 0, sizeof(fired));
	rig_open(&rig);
	start();
	/* Three descriptors a message. */
	assert_int_equal(told(USER_SET_IRQS), 2 + 1 + 1);
	vd_device_set_sink(rig.device, VD_IRQ_MSIX, sink, NULL);
	for (unsigned i = 0; i < 4; i++) {
		mock_fire(&rig.mock, VD_IRQ_MSIX, i);
		while (!fired[i])
			wait_and_poll();
	}
	mock_fire(&rig.mock, VD_IRQ_MSIX, 2);
	while (fired[2] < 2)
		wait_and_poll();
	assert_int_equal(fired[0] + fired[1] + fired[3], 3);
	rig_close(&rig);
}

static void test_intx_is_a_level(void **state)
{
	(void)state;
	memset(fired, 0, sizeof(fired));
	rig_open(&rig);
	rig.mock.irqs[VD_IRQ_MSIX] = 0;
	start();
	vd_device_set_sink(rig.device, VD_IRQ_INTX, sink, NULL);
	mock_fire(&rig.mock, VD_IRQ_INTX, 0);
	while (!fired[0])
		wait_and_poll();
	assert_true(level);
	(void)rig_read(&rig, VD_REGION_CONFIG, 0);
	assert_true(level);
	/* Unmasked by the next access to a BAR; if it is still there it fires again. */
	(void)rig_read(&rig, 0, MOCK_VALUE);
	assert_false(level);
	(void)rig_read(&rig, 0, MOCK_VALUE);
	assert_int_equal(told(USER_SET_IRQS), 3 + 1);
	mock_fire(&rig.mock, VD_IRQ_INTX, 0);
	while (fired[0] < 2)
		wait_and_poll();
	rig_close(&rig);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void test_memory_is_announced(void **state)
{
	struct mock_map map = {.fd = -1};
	uint32_t id;

	(void)state;
	rig_open(&rig);
	start();
	assert_true(mock_find(&rig.mock, MOCK_RAM, &map));
	assert_int_equal(map.told.size, 64 * PAGE);
	assert_true(map.fd >= 0);
	assert_int_equal(map.told.flags, USER_DMA_READABLE | USER_DMA_WRITABLE);
	/* What comes later: before the next access. */
	id = add_ram(&rig.f, 4 * MOCK_RAM, 64 * PAGE, 2 * PAGE);
	(void)rig_read(&rig, 0, MOCK_VALUE);
	assert_true(mock_find(&rig.mock, 4 * MOCK_RAM, &map));
	assert_int_equal(map.told.offset, 64 * PAGE);
	/* What goes: before it is gone. */
	assert_int_equal(vd_mem_remove_slot(rig.f.mem, id), 0);
	assert_false(mock_find(&rig.mock, 4 * MOCK_RAM, &map));
	assert_int_equal(told(USER_DMA_UNMAP), 1);
	(void)rig_read(&rig, 0, MOCK_VALUE);
	assert_int_equal(told(USER_DMA_MAP), 2);
	rig_close(&rig);
}

static void test_memory_that_moves(void **state)
{
	struct vd_mem_update *update;
	struct mock_map map;

	(void)state;
	rig_open(&rig);
	start();
	assert_int_equal(vd_mem_begin(rig.f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, rig.slot, (vd_gpa){8 * MOCK_RAM}, NULL), 0);
	vd_mem_commit(update);
	assert_false(mock_find(&rig.mock, MOCK_RAM, &map));
	(void)rig_read(&rig, 0, MOCK_VALUE);
	assert_true(mock_find(&rig.mock, 8 * MOCK_RAM, &map));
	rig_close(&rig);
}

static void test_changes_of_memory(void **state)
{
	struct vd_invalidation event = {.start = MOCK_RAM, .length = PAGE,
					.reason = VD_INVALIDATE_UNMAP};
	struct vd_notifier *chain;
	struct mock_map map;
	uint64_t done;

	(void)state;
	rig_open(&rig);
	start();
	chain = vd_mem_notifier(rig.f.mem);
	/* One that would have to sleep. */
	assert_int_equal(vd_notifier_start(chain, &event), -EAGAIN);
	event.start = 16 * MOCK_RAM;
	assert_int_equal(vd_notifier_start(chain, &event), 0);
	vd_notifier_end(chain, &event);
	/* Frames that the server has mapped stay. */
	assert_int_equal(vd_host_object_move(rig.f.ram, 0, PAGE, true), -EBUSY);
	/* Discards it sees by itself. */
	assert_int_equal(vd_mem_discard(rig.f.mem, (vd_gpa){MOCK_RAM}, 4 * PAGE, true, &done), 0);
	assert_int_equal(done, 4 * PAGE);
	assert_int_equal(told(USER_DMA_UNMAP), 0);
	/* Stores that somebody wants to see come as messages. */
	assert_int_equal(vd_mem_dirty_start(rig.f.mem, rig.slot), 0);
	assert_int_equal(told(USER_DMA_UNMAP), 1);
	assert_true(mock_find(&rig.mock, MOCK_RAM, &map));
	assert_int_equal(map.fd, -1);
	assert_int_equal(vd_host_object_move(rig.f.ram, 0, PAGE, true), 0);
	rig_close(&rig);
}

/* ---- with other mirrors on the chain (B5) --------------------------------------------------- */

static unsigned starts, ends, flushes;

static int tlb_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	starts++;
	return 0;
}

static void tlb_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	ends++;
}

static void count_flush(void *context, vd_gpa start, uint64_t length)
{
	(void)context;
	(void)start;
	(void)length;
	flushes++;
}

static void test_three_kinds_of_mirror(void **state)
{
	static const struct vd_listener_ops tlb_ops = {tlb_start, tlb_end, NULL, NULL, NULL};
	struct vd_listener tlb = {.ops = &tlb_ops};
	struct vd_mmu_config config = {.format = &vd_mmu_format_sv48x4, .flush = count_flush};
	struct vd_mmu *mmu = NULL;
	struct vd_host_object *object;
	struct mock_map map;
	uint8_t byte = 7, back = 0;
	uint64_t done;

	(void)state;
	starts = ends = flushes = 0;
	rig_open(&rig);
	config.env = rig.f.env;
	config.mem = rig.f.mem;
	object = rig.f.ram;
	assert_int_equal(vd_mmu_create(&config, &mmu, NULL), 0);
	assert_int_equal(vd_notifier_register(vd_mem_notifier(rig.f.mem), &tlb), 0);
	start();
	assert_int_equal(vd_mmu_fault(mmu, (vd_gpa){MOCK_RAM}, VD_READ | VD_WRITE), 0);
	assert_int_equal(vd_mem_write(rig.f.mem, (vd_gpa){MOCK_RAM}, &byte, 1), 0);
	/* The server would have to be asked: nothing changes, and who was told gets the end. */
	assert_int_equal(vd_host_object_protect(object, 0, PAGE, false, false), -EAGAIN);
	assert_int_equal(starts, 1);
	assert_int_equal(ends, 1);
	assert_int_equal(told(USER_DMA_UNMAP), 0);
	assert_int_equal(vd_mem_write(rig.f.mem, (vd_gpa){MOCK_RAM}, &byte, 1), 0);
	/* One that it sees by itself may go on. */
	assert_int_equal(vd_mem_discard(rig.f.mem, (vd_gpa){MOCK_RAM}, PAGE, false, &done), 0);
	assert_int_equal(starts, 2);
	/* When it is asked it lets go before the change is made. */
	assert_int_equal(vd_host_object_protect(object, 0, PAGE, false, true), 0);
	assert_int_equal(starts, 3);
	assert_int_equal(ends, 3);
	assert_int_equal(told(USER_DMA_UNMAP), 1);
	assert_true(mock_find(&rig.mock, MOCK_RAM, &map));
	assert_int_equal(map.fd, -1);
	assert_int_equal(vd_mem_write(rig.f.mem, (vd_gpa){MOCK_RAM}, &byte, 1), -EACCES);
	assert_int_equal(vd_mem_read(rig.f.mem, (vd_gpa){MOCK_RAM}, &back, 1), 0);
	assert_int_equal(back, 0);
	assert_true(flushes > 0);
	/* Frames that it does not have any more may move. */
	assert_int_equal(vd_host_object_move(object, 0, PAGE, true), 0);
	vd_notifier_unregister(vd_mem_notifier(rig.f.mem), &tlb);
	vd_mmu_destroy(mmu);
	rig_close(&rig);
}

/* ---- DMA by messages ------------------------------------------------------------------------- */

static void do_dma(unsigned what, uint64_t address, uint32_t value)
{
	rig_write(&rig, 0, MOCK_ADDRESS, address, 8);
	rig_write(&rig, 0, MOCK_VALUE, value, 4);
	rig_write(&rig, 0, MOCK_GO, what, 4);
}

/* By messages, while the client waits for something else. */
static void check_messages(void)
{
	uint32_t value = 0x12345678;

	assert_int_equal(vd_mem_write(rig.f.mem, (vd_gpa){MOCK_RAM + 0x10}, &value, 4), 0);
	do_dma(1, MOCK_RAM + 0x10, 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), value);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), 0);
	do_dma(2, MOCK_RAM + 2 * PAGE - 2, 0xcafef00d);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), 0);
	assert_int_equal(vd_mem_read(rig.f.mem, (vd_gpa){MOCK_RAM + 2 * PAGE - 2}, &value, 4), 0);
	assert_int_equal(value, 0xcafef00d);
	/* Outside. */
	do_dma(2, MOCK_RAM + 64 * PAGE - 2, 1);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), EFAULT);
	do_dma(1, UINT64_MAX - 1, 1);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), EFAULT);
}

static void test_dma_by_messages(void **state)
{
	uint8_t bits[8];

	(void)state;
	rig_open(&rig);
	start();
	check_messages();
	assert_int_equal(vd_mem_dirty_start(rig.f.mem, rig.slot), 0);
	check_messages();
	assert_int_equal(vd_mem_dirty_fetch(rig.f.mem, rig.slot, bits, sizeof(bits)), 0);
	assert_int_equal(bits[0], 7);
	rig_close(&rig);
}

static void test_dma_by_a_second_socket(void **state)
{
	(void)state;
	rig_open(&rig);
	rig.mock.twin = true;
	rig.mock.json = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	start();
	assert_true(rig.info.twin_socket);
	check_messages();
	rig_close(&rig);
}

#define OWED 1000u

static void write_what_is_owed(struct mock *mock, const struct user_header *asked,
			       struct mock_reply *reply)
{
	struct {
		struct user_header header;
		struct user_dma_access access;
		uint32_t data;
	} __attribute__((packed)) message = {.header = {.command = USER_DMA_WRITE, .size = sizeof(message),
				.flags = USER_TYPE_COMMAND | USER_NO_REPLY}};

	(void)reply;
	if (asked->command != USER_RESET)
		return;
	for (unsigned i = 0; i < OWED; i++) {
		message.header.id = (uint16_t)i;
		message.access = (struct user_dma_access){MOCK_RAM + 64 * i, 4};
		message.data = i + 1;
		assert_int_equal(write(mock->twin_fd, &message, sizeof(message)), sizeof(message));
	}
}

/* What a device still writes while it stops is there when its server says that it has stopped. */
static void test_writes_of_a_device_that_stops(void **state)
{
	(void)state;
	rig_open(&rig);
	rig.mock.twin = true;
	rig.mock.json = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	rig.mock.lie = write_what_is_owed;
	start();
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
		for (unsigned i = 0; i < OWED; i++) {
			vd_gpa at = {MOCK_RAM + 64 * i};
			uint32_t value = 0, none = 0;

			assert_int_equal(vd_mem_read(rig.f.mem, at, &value, 4), 0);
			assert_int_equal(value, i + 1);
			assert_int_equal(vd_mem_write(rig.f.mem, at, &none, 4), 0);
		}
	}
	rig_close(&rig);
}

/* Nobody waits: the poll descriptor says so. */
static void test_dma_when_polled(void **state)
{
	uint32_t value = 0;

	(void)state;
	rig_open(&rig);
	start();
	do_dma(2, MOCK_RAM, 0x600df00d); /* posted */
	while (value != 0x600df00d) {
		wait_and_poll();
		assert_int_equal(vd_mem_read(rig.f.mem, (vd_gpa){MOCK_RAM}, &value, 4), 0);
	}
	rig_close(&rig);
}

/* The change may itself be waiting for a server: so does no server wait for its end for long. */
static void test_dma_while_memory_changes(void **state)
{
	struct vd_invalidation event = {.start = MOCK_RAM, .length = PAGE, .blockable = true,
					.reason = VD_INVALIDATE_DISCARD};

	(void)state;
	rig_open(&rig);
	start();
	assert_int_equal(vd_notifier_start(vd_mem_notifier(rig.f.mem), &event), 0);
	do_dma(1, MOCK_RAM, 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), EBUSY);
	do_dma(1, MOCK_RAM + PAGE, 0);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), 0);
	vd_notifier_end(vd_mem_notifier(rig.f.mem), &event);
	check_messages();
	rig_close(&rig);
}

static void test_read_only_memory(void **state)
{
	struct vd_slot_config slot;
	struct mock_map map;

	(void)state;
	rig_open(&rig);
	slot = ram_slot(&rig.f, 16 * MOCK_RAM, 64 * PAGE, PAGE);
	slot.read_only = true;
	add_slot(&rig.f, &slot);
	start();
	assert_true(mock_find(&rig.mock, 16 * MOCK_RAM, &map));
	assert_int_equal(map.fd, -1);
	assert_int_equal(map.told.flags, USER_DMA_READABLE);
	do_dma(1, 16 * MOCK_RAM, 7);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), 0);
	do_dma(2, 16 * MOCK_RAM, 7);
	assert_int_equal(rig_read(&rig, 0, MOCK_RESULT), EFAULT);
	rig_close(&rig);
}

/* ---- mapped memory --------------------------------------------------------------------------- */

static void test_mapped_memory(void **state)
{
	struct vd_host_object *object;
	uint64_t offset;
	uint32_t *theirs;

	(void)state;
	rig_open(&rig);
	mock_add_memory(&rig.mock, 8 * PAGE, true);
	rig.mock.area_counts[2] = 2;
	rig.mock.areas[2][0] = (struct user_area){PAGE, PAGE};
	rig.mock.areas[2][1] = (struct user_area){4 * PAGE, 2 * PAGE};
	start();
	assert_null(rig.info.trapped[2]);
	assert_int_equal(vd_device_map_area(rig.device, 2, 4 * PAGE, 2 * PAGE, &object, &offset),
			 0);
	assert_int_equal(vd_device_map_area(rig.device, 2, 3 * PAGE, PAGE, &object, &offset),
			 -ERANGE);
	theirs = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, rig.mock.region_fds[2],
		      0);
	assert_true(theirs != MAP_FAILED);
	theirs[PAGE / 4 + 3] = 77;
	assert_int_equal(rig_read(&rig, 2, PAGE + 12), 77);
	assert_int_equal(rig_write(&rig, 2, 5 * PAGE, 78, 4), 0);
	assert_int_equal(theirs[5 * PAGE / 4], 78);
	munmap(theirs, 8 * PAGE);
	rig_close(&rig);
}

/* The page is announced as nobody else's; of a file that has no whole page nothing is mapped. */
static void test_memory_smaller_than_a_page(void **state)
{
	struct vd_host_object *object;
	uint64_t offset;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		rig_open(&rig);
		mock_add_memory(&rig.mock, i ? 256 : PAGE, true);
		rig.mock.regions[2].size = 256;
		start();
		assert_int_equal(vd_device_map_area(rig.device, 2, 0, 256, &object, &offset),
				 i ? -EOPNOTSUPP : 0);
		assert_true(!rig.info.trapped[2] == !i);
		assert_int_equal(rig_write(&rig, 2, 252, 0x1234, 4), 0);
		assert_int_equal(rig_read(&rig, 2, 252), 0x1234);
		assert_int_equal(rig_write(&rig, 2, 256, 1, 4), -ERANGE);
		rig_close(&rig);
	}
}

/* ---- states ---------------------------------------------------------------------------------- */

static void test_states(void **state)
{
	struct vd_stream stream = {.env = NULL};

	(void)state;
	rig_open(&rig);
	rig.mock.migration = VFIO_MIGRATION_STOP_COPY;
	memcpy(rig.mock.saved, "what it was", 12);
	rig.mock.saved_length = 12;
	start();
	stream.env = rig.f.env;
	assert_int_equal(rig.info.migration, VFIO_MIGRATION_STOP_COPY);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(atomic_load(&rig.mock.state), VFIO_DEVICE_STATE_STOP);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	assert_int_equal(atomic_load(&rig.mock.state), VFIO_DEVICE_STATE_STOP);
	memset(rig.mock.saved, 0, sizeof(rig.mock.saved));
	if (vd_device_load(rig.device, &stream, &rig.error))
		fail_msg("%s", rig.error.text);
	assert_int_equal(rig.mock.saved_length, 12);
	assert_string_equal((char *)rig.mock.saved, "what it was");
	vd_device_resume(rig.device);
	assert_int_equal(atomic_load(&rig.mock.state), VFIO_DEVICE_STATE_RUNNING);
	vd_stream_fini(&stream);
	rig_close(&rig);
}

/* A saved guest must not lack what nobody had polled for when it was stopped. */
static void test_interrupts_before_it_stops(void **state)
{
	uint32_t value = 0;

	(void)state;
	memset(fired, 0, sizeof(fired));
	rig_open(&rig);
	rig.mock.migration = VFIO_MIGRATION_STOP_COPY;
	start();
	vd_device_set_sink(rig.device, VD_IRQ_MSIX, sink, NULL);
	for (unsigned round = 1; round <= 3; round++) {
		mock_fire(&rig.mock, VD_IRQ_MSIX, 1);
		mock_fire(&rig.mock, VD_IRQ_MSIX, 3);
		assert_int_equal(vd_device_quiesce(rig.device), 0);
		assert_int_equal(fired[1], round);
		assert_int_equal(fired[3], round);
		vd_device_resume(rig.device);
	}
	/* What else there was to look at is not forgotten. */
	do_dma(2, MOCK_RAM, 0x600df00d);
	assert_int_equal(vd_device_quiesce(rig.device), 0);
	assert_int_equal(vd_mem_read(rig.f.mem, (vd_gpa){MOCK_RAM}, &value, 4), 0);
	while (value != 0x600df00d) {
		wait_and_poll();
		assert_int_equal(vd_mem_read(rig.f.mem, (vd_gpa){MOCK_RAM}, &value, 4), 0);
	}
	vd_device_resume(rig.device);
	rig_close(&rig);
}

static void test_no_states(void **state)
{
	(void)state;
	rig_open(&rig);
	start();
	assert_int_equal(vd_device_quiesce(rig.device), -EOPNOTSUPP);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(told(USER_RESET), 2);
	rig_close(&rig);
}

/* ---- what is short --------------------------------------------------------------------------- */

static void test_each_failure(void **state)
{
	(void)state;
	for (long step = 1;; step++) {
		bool failed;
		int r;

		rig_open(&rig);
		mock_add_memory(&rig.mock, 2 * PAGE, true);
		test_env_fail(&rig.f.test, step, -ENOMEM);
		r = rig_start(&rig);
		failed = test_env_failed(&rig.f.test);
		if (failed)
			assert_int_not_equal(r, 0);
		else
			assert_int_equal(r, 0);
		rig_close(&rig);
		if (!failed)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_is_as_served),
		cmocka_unit_test(test_inspecting_changes_nothing),
		cmocka_unit_test(test_writes_are_posted_in_order),
		cmocka_unit_test(test_no_posting_beside_mapped_memory),
		cmocka_unit_test(test_error_of_the_device),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_intx_is_a_level),
		cmocka_unit_test(test_memory_is_announced),
		cmocka_unit_test(test_memory_that_moves),
		cmocka_unit_test(test_changes_of_memory),
		cmocka_unit_test(test_three_kinds_of_mirror),
		cmocka_unit_test(test_dma_by_messages),
		cmocka_unit_test(test_dma_by_a_second_socket),
		cmocka_unit_test(test_writes_of_a_device_that_stops),
		cmocka_unit_test(test_dma_when_polled),
		cmocka_unit_test(test_dma_while_memory_changes),
		cmocka_unit_test(test_read_only_memory),
		cmocka_unit_test(test_mapped_memory),
		cmocka_unit_test(test_memory_smaller_than_a_page),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_interrupts_before_it_stops),
		cmocka_unit_test(test_no_states),
		cmocka_unit_test(test_each_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
