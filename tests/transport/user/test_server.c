/* SPDX-License-Identifier: BSD-2-Clause */
/* The whole of a client's session, and how sockets are made. */
#include "rig.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* In the order in which QEMU says it. */
static void a_session(void **state)
{
	struct user_device_info info = {.argsz = sizeof(info)};
	uint64_t value = 0;
	unsigned char *memory;
	struct rig rig;
	struct wire w;
	int fd, event;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	fd = rig_memory(4 * PAGE, true, 3);
	memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_int_equal(wire_map(&w, 0x100000, 4 * PAGE, fd, 0), 0);
	assert_int_equal(wire_call(&w, USER_GET_INFO, &info, sizeof(info), NULL, 0, false), 0);
	memcpy(&info, w.payload, sizeof(info));
	assert_int_equal(info.argsz, 16);
	assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI);
	assert_int_equal(info.regions, 9);
	assert_int_equal(info.irqs, 5);
	event = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(wire_set_irqs(&w, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				       VD_IRQ_MSIX, 5, 1, &event, 1), 0);
	probe_set(&w, PROBE_SCRATCH, 0x1122334455667788);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 0x1122334455667788);
	assert_int_equal(probe_command(&w, PROBE_READ, 0x100000 + 8, 2 * PAGE), 0);
	assert_int_equal(probe_get(&w, PROBE_SUM), 3 * 2 * PAGE);
	memset(memory, 0, PAGE);
	assert_int_equal(probe_command(&w, PROBE_WRITE, 0x100000, PAGE), 0);
	assert_int_equal(memory[0], 3);
	assert_int_equal(probe_command(&w, PROBE_RAISE, 0, 5), 0);
	assert_int_equal(read(event, &value, 8), 8);
	assert_int_equal(value, 1);
	assert_int_equal(wire_call(&w, USER_RESET, NULL, 0, NULL, 0, false), 0);
	assert_int_equal(probe_get(&w, PROBE_SCRATCH), 0);
	assert_int_equal(atomic_load(&rig.probe->resets), 1);
	assert_int_equal(wire_unmap(&w, 0x100000, 4 * PAGE), 0);
	assert_int_equal(probe_command(&w, PROBE_READ, 0x100000, PAGE), -EFAULT);
	munmap(memory, 4 * PAGE);
	close(fd);
	close(event);
	wire_close(&w);
	rig_close(&rig);
}

/* The device keeps its state; memory and interrupts go with the client. */
static void device_is_kept(void **state)
{
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_serve(&rig);
	fd = rig_memory(PAGE, true, 1);
	for (unsigned i = 0; i < 20; i++) {
		struct vd_dma_stats stats;

		wire_introduce(&w, rig.path);
		assert_int_equal(probe_get(&w, PROBE_SCRATCH), i);
		vd_dma_stats(rig.space, &stats);
		assert_int_equal(stats.maps, 0);
		assert_int_equal(wire_map(&w, 0, PAGE, fd, 0), 0);
		assert_int_equal(probe_command(&w, PROBE_PIN, 0, PAGE), 0);
		probe_set(&w, PROBE_SCRATCH, i + 1);
		wire_close(&w);
	}
	close(fd);
	rig_close(&rig);
}

static void one_client_at_a_time(void **state)
{
	struct wire first, second;
	struct rig rig;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&first, rig.path);
	wire_open(&second, rig.path);
	assert_int_equal(wire_hello(&second, 1, NULL), -EBUSY);
	assert_int_equal(wire_receive(&second, second.fd), -ECONNRESET);
	wire_close(&second);
	probe_set(&first, PROBE_SCRATCH, 1);
	wire_close(&first);
	/* Its going is seen before the next one is heard. */
	wire_introduce(&second, rig.path);
	assert_int_equal(probe_get(&second, PROBE_SCRATCH), 1);
	wire_close(&second);
	assert_int_equal(rig_stats(&rig).refused, 1);
	rig_close(&rig);
}

static void a_device_for_each(void **state)
{
	struct wire w[5];
	struct rig rig;

	(void)state;
	rig_open(&rig, 0);
	rig_make(&rig);
	rig_run(&rig, 2);
	for (unsigned i = 0; i < 5; i++) {
		wire_introduce(&w[i], rig.path);
		probe_set(&w[i], PROBE_SCRATCH, i);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(probe_get(&w[i], PROBE_SCRATCH), i);
	assert_int_equal(rig_stats(&rig).clients, 5);
	for (unsigned i = 0; i < 4; i++)
		wire_close(&w[i]);
	/* The last one is still there when the server goes. */
	rig_stop(&rig);
	vd_user_server_remove(rig.export);
	rig.export = NULL;
	assert_int_equal(atomic_load(&rig.released), 5);
	assert_int_equal(wire_receive(&w[4], w[4].fd), -ECONNRESET);
	wire_close(&w[4]);
	rig_close(&rig);
}

/* All that it says is there at once, its end included: one event tells of everything. */
static void says_all_and_hangs_up(void **state)
{
	struct user_version version = {0, 1};
	struct rig rig;
	struct wire w;

	(void)state;
	rig_open(&rig, 0);
	rig_keep(&rig);
	wire_open(&w, rig.path);
	while (vd_user_server_run_once(rig.server, 0) > 0)
		;
	assert_int_equal(wire_send(&w, USER_VERSION, 0, &version, sizeof(version), NULL, 0), 0);
	assert_int_equal(wire_send(&w, USER_RESET, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
	while (vd_user_server_run_once(rig.server, 0) > 0)
		;
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(w.header.command, USER_RESET);
	assert_int_equal(wire_receive(&w, w.fd), -ECONNRESET);
	assert_int_equal(rig_stats(&rig).clients, 0);
	wire_close(&w);
	rig_close(&rig);
}

static void run_all(const struct rig *rig)
{
	while (vd_user_server_run_once(rig->server, 0) > 0)
		;
}

/* Who comes before it is told that the last one has gone is not turned away for that. */
static void the_last_one_has_just_gone(void **state)
{
	struct user_version version = {0, 1};
	struct wire first, second;
	struct rig rig;

	(void)state;
	rig_open(&rig, 0);
	rig_keep(&rig);
	wire_open(&first, rig.path);
	assert_int_equal(wire_send(&first, USER_VERSION, 0, &version, sizeof(version), NULL, 0),
			 0);
	run_all(&rig);
	assert_int_equal(rig_stats(&rig).clients, 1);
	wire_open(&second, rig.path);
	assert_int_equal(wire_send(&second, USER_VERSION, 0, &version, sizeof(version), NULL, 0),
			 0);
	wire_close(&first);
	run_all(&rig);
	assert_int_equal(wire_receive(&second, second.fd), 0);
	assert_int_equal(second.header.flags, USER_TYPE_REPLY);
	assert_int_equal(rig_stats(&rig).clients, 1);
	wire_close(&second);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session),
		cmocka_unit_test(device_is_kept),
		cmocka_unit_test(one_client_at_a_time),
		cmocka_unit_test(a_device_for_each),
		cmocka_unit_test(says_all_and_hangs_up),
		cmocka_unit_test(the_last_one_has_just_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
