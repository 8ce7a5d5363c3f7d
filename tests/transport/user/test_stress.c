/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many clients, several threads of the server, exports that come and go; and each step that can
 * fail does, once.
 */
#include "rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS 4u
#define ROUNDS 25u

struct worker {
	struct rig *rig;
	uint64_t random;
	bool kept; /* the device is one for all: who finds it taken tries again */
};

/* Answers what the server asks until the reply to the last message is there. Return: 0, -errno */
static int answer_until_reply(struct wire *w, const unsigned char *memory)
{
	for (;;) {
		int r = wire_receive(w, w->fd);

		if (r)
			return r;
		if ((w->header.flags & USER_TYPE_MASK) == USER_TYPE_REPLY)
			return w->header.flags & USER_ERROR ? -(int)w->header.error : 0;
		r = wire_answer(w, w->fd, memory, true);
		if (r)
			return r;
	}
}

static int remote_command(struct wire *w, unsigned what, const unsigned char *memory)
{
	struct {
		struct user_region_access access;
		uint64_t values[3];
	} message = {{8 * PROBE_ADDRESS, VD_REGION_BAR0, 24}, {UINT64_C(1) << 32, 8192, what}};
	int r = wire_send(w, USER_REGION_WRITE, 0, &message, sizeof(message), NULL, 0);

	return r ? r : answer_until_reply(w, memory);
}

static void some_of_everything(struct worker *worker, struct wire *w, int fd, int event)
{
	static const unsigned char memory[64 << 10];
	uint64_t value = test_random(&worker->random);

	switch (test_random(&worker->random) % 8) {
	case 0:
		(void)wire_map(w, value % 64 * PAGE, PAGE, fd, 0);
		break;
	case 1:
		(void)wire_unmap(w, value % 64 * PAGE, PAGE);
		break;
	case 2:
		(void)wire_set_irqs(w, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
				    VD_IRQ_MSIX, value % 64, 1, &event, 1);
		break;
	case 3:
		(void)wire_call(w, USER_RESET, NULL, 0, NULL, 0, false);
		break;
	case 4:
		(void)wire_map(w, UINT64_C(1) << 32, 16 * PAGE, -1, 0);
		(void)remote_command(w, value % 2 ? PROBE_READ : PROBE_WORK, memory);
		break;
	case 5:
		(void)remote_command(w, PROBE_PIN, memory);
		(void)remote_command(w, PROBE_UNPIN, memory);
		break;
	case 6:
		(void)wire_post(w, VD_REGION_BAR0, 0, &value, 8);
		break;
	default:
		(void)wire_read(w, value % 9, 0, &value, 8);
		break;
	}
}

/* Introduced, or NULL: somebody else is. */
static bool try_introduce(struct worker *worker, struct wire *w)
{
	int r;

	wire_open(w, worker->rig->path);
	r = wire_hello(w, 1, test_random(&worker->random) % 2
			       ? NULL : "{\"capabilities\":{\"max_data_xfer_size\":4096}}");
	if (!r)
		return true;
	assert_int_equal(r, worker->kept ? -EBUSY : 0);
	wire_close(w);
	return false;
}

static void *run_client(void *context)
{
	struct worker *worker = context;
	int fd = rig_memory(PAGE, true, 1), event = eventfd(0, EFD_CLOEXEC);

	for (unsigned round = 0; round < ROUNDS;) {
		struct wire w;

		if (!try_introduce(worker, &w)) {
			sched_yield();
			continue;
		}
		for (unsigned i = 0; i < 12; i++)
			some_of_everything(worker, &w, fd, event);
		/* Sometimes in the middle of something. */
		if (test_random(&worker->random) % 2)
			(void)wire_raw(w.fd, "\1\0\2\0\60\0\0\0", 8, &fd, 1);
		wire_close(&w);
		round++;
	}
	close(fd);
	close(event);
	return NULL;
}

static void many_clients(bool kept)
{
	struct worker workers[CLIENTS];
	pthread_t threads[CLIENTS];
	struct rig rig;

	rig_open(&rig, 0);
	if (kept)
		rig_keep(&rig);
	else
		rig_make(&rig);
	rig_run(&rig, 3);
	for (unsigned i = 0; i < CLIENTS; i++) {
		workers[i] = (struct worker){&rig, i + 1, kept};
		assert_int_equal(pthread_create(&threads[i], NULL, run_client, &workers[i]), 0);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
	if (!kept)
		assert_int_equal(rig_stats(&rig).cut_off, 0);
	rig_close(&rig);
}

static void one_device_for_many(void **state)
{
	(void)state;
	many_clients(true);
}

static void many_devices(void **state)
{
	(void)state;
	many_clients(false);
}

/* ---- a thread of the device's own ----------------------------------------------------------- */

struct own_thread {
	struct rig *rig;
	_Atomic bool done;
	_Atomic unsigned transfers, failures;
};

static void *transfer(void *context)
{
	struct own_thread *own = context;
	unsigned char bytes[256];

	while (!atomic_load(&own->done)) {
		if (vd_dma_read(own->rig->space, (vd_iova){UINT64_C(1) << 32}, bytes, 256))
			atomic_fetch_add(&own->failures, 1);
		else
			assert_int_equal(bytes[77], 0x3c);
		atomic_fetch_add(&own->transfers, 1);
	}
	return NULL;
}

/* It sends DMA messages while nobody, or somebody, has the device's turn. */
static void dma_on_a_thread_of_its_own(void **state)
{
	static unsigned char memory[64 << 10];
	struct own_thread own = {.done = false};
	pthread_t thread;
	struct rig rig;
	struct wire w;

	(void)state;
	memset(memory, 0x3c, sizeof(memory));
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	assert_int_equal(wire_map(&w, UINT64_C(1) << 32, 16 * PAGE, -1, 0), 0);
	own.rig = &rig;
	assert_int_equal(pthread_create(&thread, NULL, transfer, &own), 0);
	for (unsigned i = 0; i < 60 || atomic_load(&own.transfers) < 60; i++) {
		struct pollfd fd = {.fd = w.fd, .events = POLLIN};

		/* Only answering, then with accesses and DMA of the probe's between. */
		while (i % 2 && poll(&fd, 1, 1) > 0) {
			assert_int_equal(wire_receive(&w, w.fd), 0);
			assert_int_equal(wire_answer(&w, w.fd, memory, true), 0);
			break;
		}
		if (i % 2 == 0)
			assert_int_equal(remote_command(&w, i % 4 ? PROBE_READ : PROBE_LOWER,
							memory), 0);
	}
	assert_int_equal(atomic_load(&own.failures), 0);
	/* The client goes with a question of that thread's open. */
	wire_close(&w);
	atomic_store(&own.done, true);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

/* ---- coming and going ----------------------------------------------------------------------- */

static void removed_while_used(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig, 0);
	rig_run(&rig, 2);
	for (unsigned i = 0; i < 20; i++) {
		struct wire w[3];
		uint64_t command[3] = {UINT64_C(1) << 32, 4096, PROBE_READ};

		rig_make(&rig);
		for (unsigned k = 0; k < 3; k++)
			wire_introduce(&w[k], rig.path);
		/* One of them is in the middle of DMA that nobody will answer. */
		assert_int_equal(wire_map(&w[0], UINT64_C(1) << 32, 16 * PAGE, -1, 0), 0);
		assert_int_equal(wire_post(&w[0], VD_REGION_BAR0, 8, command, 24), 0);
		if (i % 2)
			assert_int_equal(wire_receive(&w[0], w[0].fd), 0);
		vd_user_server_remove(rig.export);
		rig.export = NULL;
		for (unsigned k = 0; k < 3; k++) {
			while (!wire_receive(&w[k], w[k].fd))
				;
			wire_close(&w[k]);
		}
		assert_int_equal(atomic_load(&rig.released), 3 * (i + 1));
	}
	rig_close(&rig);
}

/* A socket that somebody left is replaced; one that is served, or another file, is not. */
static void sockets(void **state)
{
	struct vd_user_export_config config = {.fd = -1};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct vd_user_export *second;
	char other[96], deep[200];
	struct vd_error error;
	struct rig rig;
	struct wire w;
	int fd;

	(void)state;
	rig_open(&rig, 0);
	snprintf(other, sizeof(other), "%s/other", rig.directory);
	memset(deep, 'x', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, rig.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	rig_keep(&rig);
	config.device = rig.probe->device;
	config.space = rig.space;
	config.path = rig.path;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EADDRINUSE);
	config.path = rig.directory;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EADDRINUSE);
	config.path = "";
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EINVAL);
	config.path = deep;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -ENAMETOOLONG);
	config.path = "/nonexistent/x";
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -ENOENT);
	config.path = NULL;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EINVAL);
	config.path = other;
	config.space = NULL;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EINVAL);
	config.device = NULL;
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EINVAL);
	assert_int_equal(access(rig.path, F_OK), 0);
	/* By descriptor, which is taken over. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, other);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	config = (struct vd_user_export_config){.fd = fd, .device = rig.probe->device,
						.space = rig.space};
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), -EINVAL);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(vd_user_server_add(rig.server, &config, &second, &error), 0);
	rig_run(&rig, 1);
	wire_introduce(&w, other);
	assert_int_equal(probe_get(&w, 0), 0);
	wire_close(&w);
	vd_user_server_remove(second);
	assert_int_equal(unlink(other), 0);
	rig_close(&rig);
}

/* Without threads: the caller's own loop. */
static void in_a_loop(void **state)
{
	struct user_version version = {0, 1};
	struct pollfd fd = {.events = POLLIN};
	struct rig rig;
	struct wire w;

	(void)state;
	rig_open(&rig, 0);
	rig_keep(&rig);
	fd.fd = vd_user_server_fd(rig.server);
	while (vd_user_server_run_once(rig.server, 0) > 0)
		;
	assert_int_equal(poll(&fd, 1, 0), 0);
	wire_open(&w, rig.path);
	assert_int_equal(wire_send(&w, USER_VERSION, 0, &version, sizeof(version), NULL, 0), 0);
	while (poll(&fd, 1, 0) == 1)
		assert_int_equal(vd_user_server_run_once(rig.server, 0), 1);
	assert_int_equal(wire_receive(&w, w.fd), 0);
	assert_int_equal(rig_stats(&rig).clients, 1);
	wire_close(&w);
	while (poll(&fd, 1, 0) == 1)
		assert_int_equal(vd_user_server_run_once(rig.server, 0), 1);
	assert_int_equal(rig_stats(&rig).clients, 0);
	vd_user_server_stop(rig.server);
	assert_int_equal(poll(&fd, 1, 0), 1);
	assert_int_equal(vd_user_server_run_once(rig.server, -1), -ECANCELED);
	rig_close(&rig);
}

/* ---- failures ------------------------------------------------------------------------------- */

/* Return: whether all of it worked. */
static bool whole_session(struct rig *rig)
{
	struct user_region_access access = {0, VD_REGION_BAR3, 8192};
	static const unsigned char memory[64 << 10];
	struct wire w;
	int fd;
	bool well;

	wire_open(&w, rig->path);
	fd = rig_memory(PAGE, true, 1);
	well = !wire_hello(&w, 1, NULL) && !wire_map(&w, 0, PAGE, fd, 0) &&
	       !wire_map(&w, UINT64_C(1) << 32, 16 * PAGE, -1, 0) &&
	       !wire_call(&w, USER_REGION_READ, &access, sizeof(access), NULL, 0, false) &&
	       !remote_command(&w, PROBE_READ, memory) && !wire_unmap(&w, 0, PAGE);
	close(fd);
	wire_close(&w);
	return well;
}

static void each_step_fails(void **state)
{
	struct rig rig;
	bool failed = true;

	(void)state;
	rig_open(&rig, 0);
	rig_make(&rig);
	rig_run(&rig, 1);
	assert_true(whole_session(&rig));
	for (long step = 1; failed; step++) {
		assert_true(step < 200);
		test_env_fail(&rig.test, step, -ENOMEM);
		(void)whole_session(&rig);
		failed = test_env_failed(&rig.test);
		test_env_fail(&rig.test, 0, 0);
		/* It has gone by, and left nothing behind. */
		assert_true(whole_session(&rig));
	}
	rig_close(&rig);
}

static void each_step_of_making_fails(void **state)
{
	struct vd_user_server_config config;
	struct vd_user_server *server;
	struct test_env test;
	long step = 1;
	int r;

	(void)state;
	test_env_init(&test);
	config = (struct vd_user_server_config){.env = &test.env};
	do {
		test_env_fail(&test, step++, -ENOMEM);
		r = vd_user_server_create(&config, &server, NULL);
		if (r)
			assert_int_equal(r, -ENOMEM);
		assert_int_equal(test.blocks == 0, r != 0);
	} while (r && step < 50);
	assert_int_equal(r, 0);
	vd_user_server_destroy(server);
	assert_int_equal(test.blocks, 0);
	config.reply_limit_ms = UINT32_MAX;
	assert_int_equal(vd_user_server_create(&config, &server, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_device_for_many),
		cmocka_unit_test(many_devices),
		cmocka_unit_test(dma_on_a_thread_of_its_own),
		cmocka_unit_test(removed_while_used),
		cmocka_unit_test(sockets),
		cmocka_unit_test(in_a_loop),
		cmocka_unit_test(each_step_fails),
		cmocka_unit_test(each_step_of_making_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
