/* SPDX-License-Identifier: BSD-2-Clause */
/* Our client with our server, in one process: edu, as a guest has it. */
#include "../../mem/fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <viaduct/device.h>
#include <viaduct/vfio_user.h>

#include "descriptors.h"

#define RAM UINT64_C(0x100000)
#define RAM_SIZE (64 * PAGE)
#define DEVICES 3u

/* Registers of edu, and its buffer as DMA addresses it. */
enum { FACTORIAL = 0x08, STATUS = 0x20, CAUSES = 0x24, RAISE = 0x60, ACKNOWLEDGE = 0x64,
       SOURCE = 0x80, DESTINATION = 0x88, COUNT = 0x90, COMMAND = 0x98, BUFFER = 0x40000 };

struct pair {
	struct fixture f; /* the guest's side; its environment is also the server's */
	struct vd_dma_space *space;
	uint32_t slot;
	void *private;
	struct vd_host_object *private_object;

	struct vd_host *server_host;
	struct vd_user_server *server;
	pthread_t threads[2];
	unsigned device_count;
	struct served {
		char path[64];
		struct vd_dma_space *space;
		struct vd_device *device, *client;
		struct vd_user_client_info info;
		struct vd_user_export *added;
	} served[DEVICES];
	int descriptors;
};

static struct pair pair;
static unsigned opened;

static void print_log(const struct vd_env *env, enum vd_log_level level, const char *text)
{
	(void)env;
	if (level == VD_LOG_ERROR)
		print_message("%s\n", text);
}

static void *run(void *context)
{
	(void)context;
	vd_user_server_run(pair.server);
	return NULL;
}

static void serve(struct served *s, unsigned number)
{
	struct vd_dma_config dma = {.env = pair.f.env, .host = pair.server_host};
	struct vd_edu_config edu = {.env = pair.f.env, .host = pair.server_host};
	struct vd_user_export_config export = {.path = s->path, .fd = -1};
	struct vd_error error = {.text = ""};

	snprintf(s->path, sizeof(s->path), "/tmp/viaduct-pair.%d.%u.%u", (int)getpid(), opened,
		 number);
	assert_int_equal(vd_dma_space_create(&dma, &s->space, NULL), 0);
	edu.space = s->space;
	assert_int_equal(vd_edu_create(&edu, &s->device, NULL), 0);
	export.device = s->device;
	export.space = s->space;
	if (vd_user_server_add(pair.server, &export, &s->added, &error))
		fail_msg("%s", error.text);
}

static void connect_client(struct served *s)
{
	struct vd_user_client_config config = {
		.env = pair.f.env, .host = pair.f.host, .path = s->path, .mem = pair.f.mem,
		.space = pair.space, .info = &s->info,
	};
	struct vd_error error = {.text = ""};

	if (vd_user_client_create(&config, &s->client, &error))
		fail_msg("%s", error.text);
}

static void add_private(void)
{
	struct vd_slot_config slot = ram_slot(&pair.f, RAM, 0, RAM_SIZE);

	pair.private = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
	assert_true(pair.private != MAP_FAILED);
	assert_int_equal(vd_host_private(pair.f.host, "ram", pair.private, RAM_SIZE,
					 VD_HOST_ANNOUNCED, &pair.private_object, NULL), 0);
	slot.object = pair.private_object;
	pair.slot = add_slot(&pair.f, &slot);
}

static void open_pair(unsigned devices, bool private)
{
	struct vd_host_config host = {.env = &pair.f.test.env};
	struct vd_user_server_config server = {.env = &pair.f.test.env};
	struct vd_dma_config dma = {.env = &pair.f.test.env};

	pair = (struct pair){.descriptors = count_descriptors(), .device_count = devices};
	opened++;
	fixture_open(&pair.f);
	pair.f.test.env.log = print_log;
	dma.host = pair.f.host;
	assert_int_equal(vd_dma_space_create(&dma, &pair.space, NULL), 0);
	assert_int_equal(vd_dma_follow(pair.space, pair.f.mem, NULL), 0);
	if (private)
		add_private();
	else
		pair.slot = add_ram(&pair.f, RAM, 0, RAM_SIZE);
	assert_int_equal(vd_host_create(&host, &pair.server_host, NULL), 0);
	server.host = pair.server_host;
	assert_int_equal(vd_user_server_create(&server, &pair.server, NULL), 0);
	for (unsigned i = 0; i < devices; i++)
		serve(&pair.served[i], i);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&pair.threads[i], NULL, run, NULL), 0);
	for (unsigned i = 0; i < devices; i++)
		connect_client(&pair.served[i]);
}

static void close_pair(void)
{
	for (unsigned i = 0; i < pair.device_count; i++)
		vd_device_put(pair.served[i].client);
	vd_user_server_stop(pair.server);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(pair.threads[i], NULL);
	vd_user_server_destroy(pair.server);
	for (unsigned i = 0; i < pair.device_count; i++) {
		vd_device_put(pair.served[i].device);
		vd_dma_space_destroy(pair.served[i].space);
	}
	vd_dma_space_destroy(pair.space);
	if (pair.private) {
		vd_mem_remove_slot(pair.f.mem, pair.slot);
		vd_host_object_put(pair.private_object);
		munmap(pair.private, RAM_SIZE);
	}
	vd_host_destroy(pair.server_host);
	fixture_close(&pair.f);
	assert_int_equal(count_descriptors(), pair.descriptors);
}

/* ---- the guest's driver ---------------------------------------------------------------------- */

static void put(struct vd_device *device, uint64_t offset, uint32_t value)
{
	(void)vd_device_write(device, 0, (vd_region_offset){offset}, &value, 4);
}

static uint32_t get(struct vd_device *device, uint64_t offset)
{
	uint32_t value = 0;

	(void)vd_device_read(device, 0, (vd_region_offset){offset}, &value, 4);
	return value;
}

/* Return: false: the device is gone. */
static bool transfer(struct vd_device *device, uint64_t from, uint64_t to, uint32_t count, bool out)
{
	uint32_t command;

	put(device, SOURCE, (uint32_t)from);
	put(device, DESTINATION, (uint32_t)to);
	put(device, COUNT, count);
	put(device, COMMAND, out ? 3 : 1);
	do {
		command = get(device, COMMAND);
		vd_device_poll(device);
	} while (command & 1 && command != UINT32_MAX);
	return command != UINT32_MAX;
}

static void check_dma(struct vd_device *device, uint64_t at, uint8_t seed)
{
	uint8_t bytes[600], back[600];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(seed + i * 7);
	assert_int_equal(vd_mem_write(pair.f.mem, (vd_gpa){at}, bytes, sizeof(bytes)), 0);
	assert_true(transfer(device, at, BUFFER + 100, sizeof(bytes), false));
	assert_true(transfer(device, BUFFER + 100, at + 3 * PAGE, sizeof(bytes), true));
	assert_int_equal(vd_mem_read(pair.f.mem, (vd_gpa){at + 3 * PAGE}, back, sizeof(back)), 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
}

static unsigned fired;

static void sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	(void)context;
	(void)index;
	(void)vector;
	fired += level;
}

static void check_interrupt(struct vd_device *device)
{
	struct pollfd fd = {.fd = vd_device_poll_fd(device), .events = POLLIN};

	fired = 0;
	/* Whichever it has. */
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_MSI, sink, NULL), 0);
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_INTX, sink, NULL), 0);
	put(device, RAISE, 4);
	while (!fired) {
		assert_int_equal(poll(&fd, 1, 5000), 1);
		vd_device_poll(device);
	}
	assert_int_equal(get(device, CAUSES), 4);
	put(device, ACKNOWLEDGE, 4);
	assert_int_equal(get(device, CAUSES), 0);
}

static void check_device(struct vd_device *device, uint8_t seed)
{
	uint32_t identity;

	assert_int_equal(vd_device_read(device, VD_REGION_CONFIG, (vd_region_offset){0}, &identity,
					4), 0);
	assert_int_equal(identity, 0x11e81234);
	assert_int_equal(get(device, 0), 0x010000ed);
	put(device, FACTORIAL, 6);
	assert_int_equal(get(device, FACTORIAL), 720);
	check_interrupt(device);
	check_dma(device, RAM + 0x800, seed); /* crosses a page */
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_shared_memory(void **state)
{
	(void)state;
	open_pair(1, false);
	check_device(pair.served[0].client, 1);
	close_pair();
}

static void test_private_memory(void **state)
{
	(void)state;
	open_pair(1, true);
	check_device(pair.served[0].client, 1);
	close_pair();
}

static void test_several_devices(void **state)
{
	(void)state;
	open_pair(DEVICES, false);
	for (unsigned i = 0; i < DEVICES; i++)
		check_device(pair.served[i].client, (uint8_t)i);
	close_pair();
}

static void test_only_one_client(void **state)
{
	struct vd_user_client_config config = {.inspect = true};
	struct vd_error error = {.text = ""};
	struct vd_device *device = NULL;

	(void)state;
	open_pair(1, false);
	config.env = pair.f.env;
	config.host = pair.f.host;
	config.path = pair.served[0].path;
	assert_int_not_equal(vd_user_client_create(&config, &device, &error), 0);
	assert_true(error.text[0] != '\0');
	check_device(pair.served[0].client, 9);
	/* When it has gone there is room again. */
	vd_device_put(pair.served[0].client);
	while (vd_user_client_create(&config, &pair.served[0].client, &error))
		usleep(1000);
	assert_int_equal(get(pair.served[0].client, 0), 0x010000ed);
	close_pair();
}

static void test_server_goes(void **state)
{
	struct vd_device *device;

	(void)state;
	open_pair(1, false);
	device = pair.served[0].client;
	check_device(device, 1);
	vd_user_server_remove(pair.served[0].added);
	assert_int_equal(get(device, 0), UINT32_MAX);
	assert_false(transfer(device, RAM, BUFFER, 16, false));
	assert_int_equal(vd_mem_remove_slot(pair.f.mem, pair.slot), 0);
	close_pair();
}

/* State of one device goes to another, as when a machine is restored. */
static void test_state_moves(void **state)
{
	struct vd_stream stream = {.env = NULL};
	struct vd_error error = {.text = ""};
	uint8_t bytes[16] = "into the buffer", back[16];

	(void)state;
	open_pair(2, false);
	if (!pair.served[0].info.migration) {
		close_pair();
		skip();
	}
	stream.env = pair.f.env;
	put(pair.served[0].client, FACTORIAL, 5);
	assert_int_equal(vd_mem_write(pair.f.mem, (vd_gpa){RAM}, bytes, sizeof(bytes)), 0);
	assert_true(transfer(pair.served[0].client, RAM, BUFFER, sizeof(bytes), false));
	assert_int_equal(vd_device_save(pair.served[0].client, &stream), 0);
	if (vd_device_load(pair.served[1].client, &stream, &error))
		fail_msg("%s", error.text);
	assert_int_equal(get(pair.served[1].client, FACTORIAL), 120);
	assert_true(transfer(pair.served[1].client, BUFFER, RAM + PAGE, sizeof(bytes), true));
	assert_int_equal(vd_mem_read(pair.f.mem, (vd_gpa){RAM + PAGE}, back, sizeof(back)), 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
	/* Not any bytes are a state. */
	stream.data[stream.length - 3000] ^= 0xff;
	stream.data[stream.length / 8] ^= 0xff;
	stream.position = 0;
	(void)vd_device_load(pair.served[1].client, &stream, &error);
	assert_int_equal(get(pair.served[1].client, 0), 0x010000ed);
	vd_stream_fini(&stream);
	close_pair();
}

/* ---- all at once ----------------------------------------------------------------------------- */

static _Atomic bool over;

static void *drive(void *context)
{
	struct served *s = context;
	uint64_t at = RAM + (uint64_t)(s - pair.served) * 8 * PAGE;
	uint32_t value = 0, got, rounds = 0;

	while (!atomic_load(&over)) {
		value++;
		(void)vd_mem_write(pair.f.mem, (vd_gpa){at}, &value, 4);
		(void)transfer(s->client, at, BUFFER, 4, false);
		(void)transfer(s->client, BUFFER, at + PAGE, 4, true);
		/* The memory may have been elsewhere for a moment: then nothing was transferred. */
		if (!vd_mem_read(pair.f.mem, (vd_gpa){at + PAGE}, &got, 4) && got > value)
			return (void *)1;
		rounds++;
	}
	return rounds ? NULL : (void *)2;
}

static void *disturb(void *context)
{
	struct vd_host_object *ram = pair.private ? pair.private_object : pair.f.ram;

	(void)context;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		struct vd_mem_update *update;
		uint64_t done;

		switch (i % 4) {
		case 0:
			(void)vd_mem_discard(pair.f.mem, (vd_gpa){RAM + 40 * PAGE}, PAGE, true,
					     &done);
			break;
		case 1:
			if (vd_mem_begin(pair.f.mem, &update))
				break;
			(void)vd_mem_move(update, pair.slot,
					  (vd_gpa){RAM + (i & 4 ? RAM_SIZE : 0)}, NULL);
			vd_mem_commit(update);
			break;
		case 2:
			(void)vd_host_object_protect(ram, 0, PAGE, i & 8, true);
			break;
		default:
			(void)vd_host_object_move(ram, 30 * PAGE, PAGE, true);
			break;
		}
		usleep(500);
	}
	return NULL;
}

static void stress(bool private)
{
	pthread_t threads[DEVICES + 1];

	open_pair(DEVICES, private);
	atomic_store(&over, false);
	for (unsigned i = 0; i < DEVICES; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drive, &pair.served[i]), 0);
	assert_int_equal(pthread_create(&threads[DEVICES], NULL, disturb, NULL), 0);
	usleep(300000);
	atomic_store(&over, true);
	for (unsigned i = 0; i <= DEVICES; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	for (unsigned i = 0; i < DEVICES; i++)
		assert_int_equal(get(pair.served[i].client, 0), 0x010000ed);
	close_pair();
}

/* ---- kinds of interrupts --------------------------------------------------------------------- */

static unsigned came[VD_IRQ_COUNT];
static bool level;

static void note(void *context, enum vd_irq_index index, unsigned vector, bool on)
{
	(void)context;
	assert_int_equal(vector, 0);
	came[index] += on;
	if (index == VD_IRQ_INTX)
		level = on;
}

static void wait_for(struct vd_device *device, unsigned index, unsigned count)
{
	struct pollfd fd = {.fd = vd_device_poll_fd(device), .events = POLLIN};

	while (came[index] < count) {
		assert_int_equal(poll(&fd, 1, 5000), 1);
		vd_device_poll(device);
	}
	assert_int_equal(came[index], count);
}

static void switch_msi(struct vd_device *device, bool on)
{
	uint8_t at = 0, id = 0;
	uint16_t value = on;

	(void)vd_device_read(device, VD_REGION_CONFIG, (vd_region_offset){0x34}, &at, 1);
	for (unsigned i = 0; i < 48 && at; i++) {
		(void)vd_device_read(device, VD_REGION_CONFIG, (vd_region_offset){at}, &id, 1);
		if (id == 5)
			break;
		(void)vd_device_read(device, VD_REGION_CONFIG, (vd_region_offset){at + 1u}, &at, 1);
	}
	assert_int_equal(id, 5);
	assert_int_equal(vd_device_write(device, VD_REGION_CONFIG, (vd_region_offset){at + 2u},
					 &value, 2), 0);
}

/* The kind that the guest has switched on, and no other; INTx again and again while asserted. */
static void test_the_guest_chooses_its_interrupts(void **state)
{
	struct vd_device *device;

	(void)state;
	memset(came, 0, sizeof(came));
	open_pair(1, false);
	device = pair.served[0].client;
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_MSI, note, NULL), 0);
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_INTX, note, NULL), 0);
	put(device, RAISE, 4);
	wait_for(device, VD_IRQ_MSI, 1); /* nothing was chosen */
	put(device, ACKNOWLEDGE, 4);
	for (unsigned round = 0; round < 2; round++) {
		unsigned intx = came[VD_IRQ_INTX], msi = came[VD_IRQ_MSI];

		switch_msi(device, false);
		put(device, RAISE, 4);
		wait_for(device, VD_IRQ_INTX, intx + 1);
		assert_true(level);
		/* It has not seen to it: unmasked by this, it comes again. */
		assert_int_equal(get(device, CAUSES), 4);
		wait_for(device, VD_IRQ_INTX, intx + 2);
		assert_true(level);
		put(device, ACKNOWLEDGE, 4);
		assert_false(level);
		assert_int_equal(get(device, CAUSES), 0);
		vd_device_poll(device);
		assert_int_equal(came[VD_IRQ_INTX], intx + 2);
		assert_int_equal(came[VD_IRQ_MSI], msi);
		/* What is asserted when it is switched off is not asserted any more. */
		put(device, RAISE, 4);
		wait_for(device, VD_IRQ_INTX, intx + 3);
		switch_msi(device, true);
		assert_false(level);
		put(device, ACKNOWLEDGE, 4);
		put(device, RAISE, 2);
		wait_for(device, VD_IRQ_MSI, msi + 1);
		put(device, ACKNOWLEDGE, 2);
		assert_int_equal(came[VD_IRQ_INTX], intx + 3);
	}
	/* Reset switches it off. */
	assert_int_equal(vd_device_reset(device, VD_RESET_BUS), 0);
	put(device, RAISE, 4);
	wait_for(device, VD_IRQ_INTX, 7);
	put(device, ACKNOWLEDGE, 4);
	close_pair();
}

/* ---- a server that comes back ---------------------------------------------------------------- */

struct wanted {
	const char *name;
	uint64_t value;
};

static void take_counter(void *to, const char *name, uint64_t value)
{
	struct wanted *wanted = to;

	if (!strcmp(name, wanted->name))
		wanted->value = value;
}

static uint64_t counter(struct vd_device *device, const char *name)
{
	struct wanted wanted = {name, UINT64_MAX};

	vd_device_counters(device, take_counter, &wanted);
	return wanted.value;
}

static void poll_until(struct vd_device *device, const char *name, uint64_t value)
{
	struct pollfd fd = {.fd = vd_device_poll_fd(device), .events = POLLIN};

	while (counter(device, name) != value) {
		assert_int_equal(poll(&fd, 1, 5000), 1);
		vd_device_poll(device);
	}
}

static void end_server(struct served *s)
{
	vd_user_server_remove(s->added);
	vd_device_put(s->device);
	vd_dma_space_destroy(s->space);
	s->added = NULL;
}

static int no_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0, length);
	return 0;
}

static int no_write(void *context, unsigned region, uint64_t offset, const void *data,
		    size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

/* Interrupts as edu has them, and a BAR twice as large. */
static int create_other(struct served *s)
{
	static const struct vd_device_ops ops = {.read = no_read, .write = no_write};

	return vd_pci_function_create(&(struct vd_pci_function_config){
		.env = pair.f.env, .host = pair.server_host, .space = s->space, .name = "other",
		.identity = {.vendor = 0x1234, .device = 0x11e8, .class_code = 0xff0000},
		.bars = {[0] = {.size = 2 << 20}}, .intx = true, .msi_vectors = 1, .ops = &ops,
	}, &s->device, NULL);
}

/* Another one at the same socket: edu, or an @other device. */
static void begin_server(struct served *s, bool other)
{
	struct vd_dma_config dma = {.env = pair.f.env, .host = pair.server_host};
	struct vd_edu_config edu = {.env = pair.f.env, .host = pair.server_host};
	struct vd_user_export_config export = {.path = s->path, .fd = -1};

	assert_int_equal(vd_dma_space_create(&dma, &s->space, NULL), 0);
	edu.space = export.space = s->space;
	assert_int_equal(other ? create_other(s) : vd_edu_create(&edu, &s->device, NULL), 0);
	export.device = s->device;
	assert_int_equal(vd_user_server_add(pair.server, &export, &s->added, NULL), 0);
}

static void open_returning(void)
{
	struct vd_user_client_config config = {.reconnect_ms = 20};

	open_pair(1, false);
	vd_device_put(pair.served[0].client);
	config.env = pair.f.env;
	config.host = pair.f.host;
	config.path = pair.served[0].path;
	config.mem = pair.f.mem;
	config.space = pair.space;
	while (vd_user_client_create(&config, &pair.served[0].client, NULL))
		usleep(1000); /* the first one is still leaving */
}

static void test_server_comes_back(void **state)
{
	uint32_t bar = 0xfeb00000, in = 0;
	struct vd_device *device;
	uint16_t command = 6;

	(void)state;
	open_returning();
	device = pair.served[0].client;
	assert_int_equal(vd_device_set_sink(device, VD_IRQ_ERR, note, NULL), 0);
	check_device(device, 1);
	assert_int_equal(vd_device_write(device, VD_REGION_CONFIG, (vd_region_offset){16}, &bar, 4),
			 0);
	assert_int_equal(vd_device_write(device, VD_REGION_CONFIG, (vd_region_offset){4}, &command,
					 2), 0);
	memset(came, 0, sizeof(came));
	for (unsigned round = 1; round <= 3; round++) {
		put(device, FACTORIAL, 5);
		end_server(&pair.served[0]);
		poll_until(device, "connected", 0);
		assert_int_equal(get(device, FACTORIAL), UINT32_MAX);
		vd_device_poll(device);
		assert_int_equal(came[VD_IRQ_ERR], counter(device, "connected") ? 0 : round);
		/* Memory may come and go meanwhile. */
		assert_int_equal(vd_mem_remove_slot(pair.f.mem, pair.slot), 0);
		pair.slot = add_ram(&pair.f, RAM, 0, RAM_SIZE);
		/* What is there at first is no such device. */
		if (round == 2) {
			struct pollfd fd = {.fd = vd_device_poll_fd(device), .events = POLLIN};

			begin_server(&pair.served[0], true);
			for (unsigned i = 0; i < 3; i++) {
				assert_int_equal(poll(&fd, 1, 5000), 1);
				vd_device_poll(device);
			}
			assert_int_equal(counter(device, "connected"), 0);
			assert_int_equal(get(device, FACTORIAL), UINT32_MAX);
			end_server(&pair.served[0]);
		}
		begin_server(&pair.served[0], false);
		poll_until(device, "reconnects", round);
		assert_int_equal(counter(device, "connected"), 1);
		/* It begins anew, but for where the guest has put it. */
		assert_int_not_equal(get(device, FACTORIAL), 120);
		assert_int_equal(vd_device_read(pair.served[0].device, VD_REGION_CONFIG,
						(vd_region_offset){16}, &in, 4), 0);
		assert_int_equal(in & ~15u, bar);
		assert_int_equal(vd_device_read(pair.served[0].device, VD_REGION_CONFIG,
						(vd_region_offset){4}, &in, 2), 0);
		assert_int_equal(in & 7, command);
		check_device(device, (uint8_t)round);
	}
	assert_int_equal(came[VD_IRQ_ERR], 3);
	close_pair();
}

/* ---- stress ---------------------------------------------------------------------------------- */

static void test_stress_shared(void **state)
{
	(void)state;
	stress(false);
}

static void test_stress_private(void **state)
{
	(void)state;
	stress(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_private_memory),
		cmocka_unit_test(test_several_devices),
		cmocka_unit_test(test_only_one_client),
		cmocka_unit_test(test_server_goes),
		cmocka_unit_test(test_state_moves),
		cmocka_unit_test(test_server_comes_back),
		cmocka_unit_test(test_the_guest_chooses_its_interrupts),
		cmocka_unit_test(test_stress_shared),
		cmocka_unit_test(test_stress_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
