/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * E3 over the wire: BARs smaller than a page that lie side by side in the memory of a group. Plain
 * clients see pages only, and such BARs by the slow path; who asks gets offsets within pages; nobody
 * gets another's bytes for his own.
 */
#include "rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <viaduct/pci.h>

#define DEVICES 2u
#define SMALL 256u
#define ASK "{\"capabilities\":{\"max_msg_fds\":8,\"page_offset\":true%s}}"

/* Two functions of one group, each with BARs 0 and 2 of 256 bytes. */
struct family {
	struct rig rig;
	struct vd_group *group;
	struct vd_device *devices[DEVICES];
	struct vd_dma_space *spaces[DEVICES];
	struct vd_user_export *exports[DEVICES];
	char paths[DEVICES][96];
};

static int no_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0xee, length);
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

static void add(struct family *f, unsigned n, bool pad)
{
	static const struct vd_device_ops ops = {.read = no_read, .write = no_write};
	struct vd_dma_config dma = {.env = &f->rig.test.env, .host = f->rig.host};
	struct vd_pci_bar bar = {.size = SMALL, .area_count = 1, .areas = {{0, SMALL}}};
	struct vd_pci_function_config config = {
		.env = &f->rig.test.env, .host = f->rig.host, .name = "small",
		.identity = {.vendor = 0x1234, .device = 1}, .bars = {[0] = bar, [2] = bar},
		.ops = &ops, .group = f->group, .pad = pad,
	};
	struct vd_user_export_config export = {.path = f->paths[n], .fd = -1};

	snprintf(f->paths[n], sizeof(f->paths[n]), "%s.%u", f->rig.path, n);
	assert_int_equal(vd_dma_space_create(&dma, &f->spaces[n], NULL), 0);
	config.space = f->spaces[n];
	assert_int_equal(vd_pci_function_create(&config, &f->devices[n], NULL), 0);
	export.device = f->devices[n];
	export.space = f->spaces[n];
	assert_int_equal(vd_user_server_add(f->rig.server, &export, &f->exports[n], NULL), 0);
}

static void open_family(struct family *f, bool pad)
{
	memset(f, 0, sizeof(*f));
	rig_open(&f->rig, 0);
	assert_int_equal(vd_group_create(&f->rig.test.env, f->rig.host, "group", &f->group, NULL),
			 0);
	for (unsigned i = 0; i < DEVICES; i++)
		add(f, i, pad);
	rig_run(&f->rig, 1);
}

static void close_family(struct family *f)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		vd_user_server_remove(f->exports[i]);
		vd_device_put(f->devices[i]);
		vd_dma_space_destroy(f->spaces[i]);
	}
	vd_group_put(f->group);
	rig_close(&f->rig);
}

static uint32_t server_word(struct family *f, unsigned n, unsigned bar)
{
	uint32_t value = 0;

	assert_int_equal(vd_device_read(f->devices[n], bar, (vd_region_offset){0}, &value, 4), 0);
	return value;
}

/* Each BAR another word, to tell them apart. */
static void fill(struct family *f)
{
	for (unsigned i = 0; i < DEVICES; i++)
		for (unsigned bar = 0; bar <= 2; bar += 2) {
			uint32_t value = 0x1000 * (i + 1) + bar;

			assert_int_equal(vd_device_write(f->devices[i], bar, (vd_region_offset){0},
							 &value, 4), 0);
		}
}

/* The whole of it; a descriptor, if there is one, is @w's. */
static struct user_region_info ask(struct wire *w, unsigned region)
{
	struct user_region_info info = {.argsz = 4096, .index = region};

	assert_int_equal(wire_call(w, USER_GET_REGION_INFO, &info, sizeof(info), NULL, 0, true), 0);
	assert_true(w->length >= sizeof(info));
	memcpy(&info, w->payload, sizeof(info));
	return info;
}

/* No offset, no descriptor; the slow path has the right bytes. */
static void check_plain(struct wire *w, uint32_t expected)
{
	for (unsigned bar = 0; bar <= 2; bar += 2) {
		struct user_region_info info = ask(w, bar);
		uint32_t value = 0;

		assert_int_equal(info.size, SMALL);
		assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ |
					     VFIO_REGION_INFO_FLAG_WRITE);
		assert_int_equal(info.offset, 0);
		assert_int_equal(info.argsz, sizeof(info));
		assert_int_equal(w->fd_count, 0);
		assert_int_equal(wire_read(w, bar, 0, &value, 4), 0);
		assert_int_equal(value, expected + bar);
	}
}

/* The BAR's place in its page, and the very bytes there. */
static void check_offsets(struct wire *w, uint32_t expected)
{
	for (unsigned bar = 0; bar <= 2; bar += 2) {
		struct user_region_info info = ask(w, bar);
		struct user_capability shared;
		char *page;

		assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ |
					     VFIO_REGION_INFO_FLAG_WRITE |
					     VFIO_REGION_INFO_FLAG_MMAP |
					     VFIO_REGION_INFO_FLAG_CAPS);
		assert_int_equal(info.offset % SMALL, 0);
		assert_int_equal(w->length, sizeof(info) + sizeof(shared));
		memcpy(&shared, w->payload + info.cap_offset, sizeof(shared));
		assert_int_equal(shared.id, USER_CAPABILITY_SHARED_PAGE);
		assert_int_equal(shared.next, 0);
		assert_int_equal(w->fd_count, 1);
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fds[0],
			    (off_t)(info.offset & ~(PAGE - 1)));
		assert_true(page != MAP_FAILED);
		assert_int_equal(*(uint32_t *)(void *)(page + info.offset % PAGE), expected + bar);
		munmap(page, PAGE);
		wire_drop_fds(w);
	}
}

static void hello(struct wire *w, const char *path, const char *json)
{
	wire_open(w, path);
	assert_int_equal(wire_hello(w, 1, json), 0);
}

static void plain_clients_see_pages(void **state)
{
	static struct family f;
	struct wire w;

	(void)state;
	open_family(&f, false);
	fill(&f);
	hello(&w, f.paths[1], "{\"capabilities\":{\"max_msg_fds\":8}}");
	check_plain(&w, 0x2000);
	wire_close(&w);
	hello(&w, f.paths[1], NULL);
	check_plain(&w, 0x2000);
	wire_close(&w);
	close_family(&f);
}

static void who_asks_gets_the_offset(void **state)
{
	static struct family f;
	struct user_region_info info;
	struct wire w, stranger;
	char json[128];

	(void)state;
	snprintf(json, sizeof(json), ASK, "");
	open_family(&f, false);
	fill(&f);
	hello(&w, f.paths[1], json);
	check_offsets(&w, 0x2000);
	info = ask(&w, 0);
	assert_int_equal(info.offset % PAGE, 2 * SMALL); /* behind the other device's */
	wire_drop_fds(&w);
	/* Without room for the capability it is told how much there is to ask for. */
	info = (struct user_region_info){.argsz = sizeof(info), .index = 0};
	assert_int_equal(wire_call(&w, USER_GET_REGION_INFO, &info, sizeof(info), NULL, 0, false),
			 0);
	memcpy(&info, w.payload, sizeof(info));
	assert_int_equal(info.argsz, sizeof(info) + sizeof(struct user_capability));
	assert_int_equal(info.cap_offset, 0);
	/* Nobody else gets the page meanwhile, whatever he says. */
	hello(&stranger, f.paths[0], json);
	check_plain(&stranger, 0x1000);
	wire_close(&w);
	wire_close(&stranger);
	close_family(&f);
}

/* One client at two sockets is one user of their group, until it has left both. */
static void one_client_at_several_sockets(void **state)
{
	static struct family f;
	struct wire w[DEVICES], stranger;
	char json[2][128];

	(void)state;
	snprintf(json[0], sizeof(json[0]), ASK, ",\"client_id\":\"6f5a\"");
	snprintf(json[1], sizeof(json[1]), ASK, ",\"client_id\":\"6f5b\"");
	open_family(&f, false);
	fill(&f);
	for (unsigned i = 0; i < DEVICES; i++)
		hello(&w[i], f.paths[i], json[0]);
	check_offsets(&w[0], 0x1000);
	check_offsets(&w[1], 0x2000);
	wire_close(&w[0]);
	hello(&stranger, f.paths[0], json[1]);
	check_plain(&stranger, 0x1000);
	check_offsets(&w[1], 0x2000);
	wire_close(&w[1]);
	wire_close(&stranger);
	/* The group is free again once the server has seen that they went. */
	hello(&w[1], f.paths[1], json[1]);
	hello(&w[0], f.paths[0], json[1]);
	check_offsets(&w[1], 0x2000);
	check_offsets(&w[0], 0x1000);
	wire_close(&w[0]);
	wire_close(&w[1]);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const bad[] = {"7", "\"\"", "null", "[\"a\"]"};
		char text[64];

		snprintf(text, sizeof(text), ",\"client_id\":%s", bad[i]);
		snprintf(json[0], sizeof(json[0]), ASK, text);
		wire_open(&w[0], f.paths[0]);
		assert_int_equal(wire_hello(&w[0], 1, json[0]), -EINVAL);
		wire_close(&w[0]);
	}
	close_family(&f);
}

/* Padded BARs are pages for everybody. */
static void padded_ones_are_pages(void **state)
{
	static struct family f;
	struct user_region_info info;
	struct wire w;
	char json[128];

	(void)state;
	snprintf(json, sizeof(json), ASK, "");
	open_family(&f, true);
	for (unsigned i = 0; i < 2; i++) {
		hello(&w, f.paths[0], i ? json : NULL);
		info = ask(&w, 2);
		assert_int_equal(info.offset, PAGE);
		assert_int_equal(info.size, SMALL);
		assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ |
					     VFIO_REGION_INFO_FLAG_WRITE |
					     VFIO_REGION_INFO_FLAG_MMAP);
		wire_drop_fds(&w);
		wire_close(&w);
	}
	close_family(&f);
}

/* ---- our client ----------------------------------------------------------------------------- */

static void client(struct family *f, struct vd_host *host, struct vd_group *group, unsigned n,
		   bool asks, struct vd_device **device, struct vd_user_client_info *info)
{
	struct vd_user_client_config config = {
		.env = &f->rig.test.env, .host = host, .path = f->paths[n], .page_offset = asks,
		.group = group, .info = info, .client_id = group ? "abcdef" : NULL,
	};
	struct vd_error error = {.text = ""};

	if (vd_user_client_create(&config, device, &error))
		fail_msg("%s", error.text);
}

static struct vd_host *client_host(struct family *f)
{
	struct vd_host_config config = {.env = &f->rig.test.env};
	struct vd_host *host;

	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
	return host;
}

static void our_client_uses_it(void **state)
{
	struct vd_host_object *object[2];
	static struct family f;
	struct vd_user_client_info info = {0};
	struct vd_device *device;
	struct vd_host *host;
	uint64_t at;

	(void)state;
	open_family(&f, false);
	fill(&f);
	host = client_host(&f);
	client(&f, host, NULL, 1, true, &device, &info);
	assert_true(info.page_offset);
	for (unsigned i = 0; i < 2; i++) {
		uint32_t *word, value = 0;

		assert_true(info.shared[2 * i]);
		assert_null(info.trapped[2 * i]);
		assert_int_equal(vd_device_map_area(device, 2 * i, 0, SMALL, &object[i], &at), 0);
		assert_int_equal(at, (2 + i) * SMALL);
		assert_int_equal(vd_device_region(device, 2 * i)->memory_offset, at);
		/* Its own bytes, both ways; what is behind them is not claimed. */
		assert_int_equal(vd_device_claimed(device, 2 * i).size, SMALL);
		assert_int_equal(vd_device_read(device, 2 * i, (vd_region_offset){0}, &value, 4), 0);
		assert_int_equal(value, 0x2000 + 2 * i);
		word = vd_device_memory(device, 2 * i, 0, 4);
		assert_int_equal(*word, value);
		vd_guest_copy(word, &(uint32_t){77 + i}, 4);
		assert_int_equal(server_word(&f, 1, 2 * i), 77 + i);
	}
	/* E5: one page, one object. */
	assert_ptr_equal(object[0], object[1]);
	assert_int_equal(vd_host_object_size(object[0]), PAGE);
	assert_int_equal(server_word(&f, 0, 0), 0x1000);
	assert_int_equal(server_word(&f, 0, 2), 0x1002);
	assert_int_equal(vd_device_reset(device, VD_RESET_BUS), 0);
	vd_device_put(device);
	vd_host_destroy(host);
	close_family(&f);
}

/* E5: two devices, two sockets, one page. */
static void our_client_at_several_sockets(void **state)
{
	struct vd_host_object *object[DEVICES];
	struct vd_user_client_info info = {0};
	struct vd_device *device[DEVICES];
	static struct family f;
	struct vd_group *group;
	struct vd_host *host;
	uint64_t at;

	(void)state;
	open_family(&f, false);
	fill(&f);
	host = client_host(&f);
	assert_int_equal(vd_group_create(&f.rig.test.env, host, "guest", &group, NULL), 0);
	for (unsigned i = 0; i < DEVICES; i++) {
		client(&f, host, group, i, true, &device[i], &info);
		assert_true(info.shared[0] && info.shared[2]);
		assert_int_equal(vd_device_map_area(device[i], 2, 0, SMALL, &object[i], &at), 0);
		assert_int_equal(at, (2 * i + 1) * SMALL);
	}
	assert_ptr_equal(object[0], object[1]);
	for (unsigned i = 0; i < DEVICES; i++)
		assert_int_equal(*(uint32_t *)vd_device_memory(device[i], 2, 0, 4),
				 0x1000 * (i + 1) + 2);
	/* One that is reset is reset for itself. */
	assert_int_equal(vd_device_reset(device[0], VD_RESET_BUS), 0);
	vd_device_put(device[0]);
	assert_int_equal(*(uint32_t *)vd_device_memory(device[1], 0, 0, 4), 0x2000);
	vd_device_put(device[1]);
	vd_group_put(group);
	vd_host_destroy(host);
	close_family(&f);
}

/* ---- in a guest ----------------------------------------------------------------------------- */

#define ECAM UINT64_C(0x30000000)
#define WINDOW UINT64_C(0x40000000)

static void no_message(void *context, uint64_t address, uint32_t data)
{
	(void)context;
	(void)address;
	(void)data;
}

static uint64_t config_address(unsigned slot, unsigned at)
{
	return ECAM + slot * 0x8000u + at;
}

static uint64_t bar_address(struct vd_mem *mem, unsigned slot, unsigned bar)
{
	uint64_t value = 0;

	assert_int_equal(vd_mem_mmio_read(mem, (vd_gpa){config_address(slot, 0x10 + 4 * bar)}, 4,
					  &value), 0);
	return value & ~UINT64_C(15);
}

static struct vd_slot_config slot_at(struct family *f, struct vd_mem *mem, uint64_t gpa)
{
	struct vd_slot_config config = {0};
	const struct vd_slot *slot;

	f->rig.test.env.read_enter(&f->rig.test.env);
	slot = vd_mem_find(mem, (vd_gpa){gpa}, NULL);
	if (slot)
		config = slot->config;
	f->rig.test.env.read_leave(&f->rig.test.env);
	return config;
}

/* Two devices of two sockets, plugged in: their page is mapped once, when all that is in it answers. */
static void a_guest_has_the_page(void **state)
{
	struct vd_user_client_info info = {0};
	struct vd_device *device[DEVICES];
	static struct family f;
	struct vd_mem_config mem_config = {.env = &f.rig.test.env};
	struct vd_pci_host_config config = {
		.env = &f.rig.test.env, .ecam = {ECAM}, .buses = 1, .low = {WINDOW},
		.low_size = 1u << 28, .high = {UINT64_C(1) << 40}, .high_size = UINT64_C(1) << 36,
		.direct = true, .share_pages = true, .msi = no_message,
	};
	struct vd_pci_host *bridge;
	struct vd_slot_config slot;
	struct vd_group *group;
	struct vd_host *host;
	struct vd_mem *mem;

	(void)state;
	open_family(&f, false);
	fill(&f);
	host = client_host(&f);
	mem_config.host = host;
	assert_int_equal(vd_mem_create(&mem_config, &mem, NULL), 0);
	config.mem = mem;
	assert_int_equal(vd_pci_host_create(&config, &bridge, NULL), 0);
	assert_int_equal(vd_group_create(&f.rig.test.env, host, "guest", &group, NULL), 0);
	for (unsigned i = 0; i < DEVICES; i++) {
		client(&f, host, group, i, true, &device[i], &info);
		assert_int_equal(vd_pci_host_plug(bridge, device[i], i, NULL), 0);
		vd_device_put(device[i]);
	}
	for (unsigned i = 0; i < DEVICES; i++) {
		assert_int_equal(vd_pci_host_direct_pages(bridge), 0);
		assert_int_equal(vd_mem_mmio_write(mem, (vd_gpa){config_address(i, 4)}, 2, 2), 0);
	}
	slot = slot_at(&f, mem, bar_address(mem, 0, 0));
	assert_int_equal(slot.kind, VD_SLOT_DEVICE);
	assert_int_equal(slot.size, PAGE);
	assert_int_equal(vd_pci_host_direct_pages(bridge), 1);
	for (unsigned i = 0; i < DEVICES; i++)
		for (unsigned bar = 0; bar <= 2; bar += 2) {
			uint64_t at = bar_address(mem, i, bar);
			struct vd_mem_page page;
			char *start;

			/* At the very place in the page, with its very bytes. */
			assert_int_equal(at - slot.base.value, (2 * i + bar / 2) * SMALL);
			assert_int_equal(vd_mem_gpa_to_pfn(mem, (vd_gpa){at}, VD_READ | VD_WRITE,
							   &page), 0);
			start = vd_host_pointer(vd_host_window_base(host), page.host.pfn, 12);
			assert_int_equal(*(uint32_t *)(void *)(start + at % PAGE),
					 0x1000 * (i + 1) + bar);
		}
	/* One is switched off: nothing of the page may answer for it. */
	assert_int_equal(vd_mem_mmio_write(mem, (vd_gpa){config_address(0, 4)}, 2, 0), 0);
	assert_int_equal(vd_pci_host_direct_pages(bridge), 0);
	assert_int_equal(slot_at(&f, mem, bar_address(mem, 1, 0)).kind, VD_SLOT_TRAP);
	vd_pci_host_destroy(bridge);
	vd_group_put(group);
	vd_mem_destroy(mem);
	vd_host_destroy(host);
	close_family(&f);
}

static void our_client_that_does_not_ask(void **state)
{
	struct vd_host_object *object;
	static struct family f;
	struct vd_user_client_info info = {0};
	struct vd_device *device;
	struct vd_host *host;
	uint32_t value = 0;
	uint64_t at;

	(void)state;
	open_family(&f, false);
	fill(&f);
	host = client_host(&f);
	client(&f, host, NULL, 1, false, &device, &info);
	assert_false(info.page_offset);
	assert_false(info.shared[2]);
	assert_int_equal(vd_device_map_area(device, 2, 0, SMALL, &object, &at), -EOPNOTSUPP);
	assert_int_equal(vd_device_read(device, 2, (vd_region_offset){0}, &value, 4), 0);
	assert_int_equal(value, 0x2002);
	value = 5;
	assert_int_equal(vd_device_write(device, 2, (vd_region_offset){0}, &value, 4), 0);
	assert_int_equal(vd_device_read(device, 2, (vd_region_offset){0}, &value, 4), 0);
	assert_int_equal(server_word(&f, 1, 2), 5);
	assert_int_equal(server_word(&f, 1, 0), 0x2000);
	vd_device_put(device);
	vd_host_destroy(host);
	close_family(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_clients_see_pages),
		cmocka_unit_test(who_asks_gets_the_offset),
		cmocka_unit_test(one_client_at_several_sockets),
		cmocka_unit_test(our_client_at_several_sockets),
		cmocka_unit_test(padded_ones_are_pages),
		cmocka_unit_test(our_client_uses_it),
		cmocka_unit_test(a_guest_has_the_page),
		cmocka_unit_test(our_client_that_does_not_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
