/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

const unsigned toy_bars[TOY_BARS] = {0, 1, 2, 4};
const uint64_t toy_sizes[TOY_BARS] = {0x10000, 0x100, 0x200000, 0x1000};

static void deliver(void *context, uint64_t address, uint32_t data)
{
	struct rig *rig = context;

	rig->address = address;
	rig->data = data;
	rig->messages++;
}

struct vd_pci_host_config rig_config(struct rig *rig, bool direct)
{
	return (struct vd_pci_host_config){
		.env = &rig->test.env,
		.mem = rig->mem,
		.ecam = {ECAM},
		.buses = 2,
		.low = {LOW},
		.low_size = LOW_SIZE,
		.high = {HIGH},
		.high_size = HIGH_SIZE,
		.direct = direct,
		.share_pages = true,
		.msi = deliver,
		.context = rig,
	};
}

void rig_open_host(struct rig *rig, bool direct, unsigned host_shift, unsigned page_shift)
{
	struct vd_host_config host = {.env = &rig->test.env, .page_shift = host_shift};
	struct vd_mem_config mem = {.env = &rig->test.env, .page_shift = page_shift};
	struct vd_slot_config ram = {.base = {RAM}, .size = RAM_SIZE, .kind = VD_SLOT_RAM,
				     .name = "ram"};
	struct vd_pci_host_config pci;
	struct vd_error error = {0};

	memset(rig, 0, sizeof(*rig));
	test_env_init(&rig->test);
	assert_int_equal(vd_host_create(&host, &rig->host, &error), 0);
	mem.host = rig->host;
	assert_int_equal(vd_mem_create(&mem, &rig->mem, &error), 0);
	assert_int_equal(vd_host_ram_create(rig->host, "ram", RAM_SIZE, 0, &rig->ram, &error), 0);
	ram.object = rig->ram;
	assert_int_equal(vd_mem_add_slot(rig->mem, &ram, NULL, &error), 0);
	pci = rig_config(rig, direct);
	if (vd_pci_host_create(&pci, &rig->pci, &error))
		fail_msg("%s", error.text);
}

void rig_open_pages(struct rig *rig, bool direct, unsigned page_shift)
{
	rig_open_host(rig, direct, 0, page_shift);
}

void rig_open(struct rig *rig, bool direct)
{
	rig_open_pages(rig, direct, 0);
}

void rig_close(struct rig *rig)
{
	test_env_fail(&rig->test, 0, 0);
	vd_pci_host_destroy(rig->pci);
	assert_int_equal(vd_mem_slot_count(rig->mem), 1);
	vd_mem_destroy(rig->mem);
	vd_host_object_put(rig->ram);
	vd_host_destroy(rig->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(rig->test.blocks, 0);
}

/* ---- devices ---- */

uint64_t toy_value(unsigned region, uint64_t offset, unsigned length)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < length; i++)
		value |= ((offset + i) * 7 + region * 31 + 1) % 251 << i * 8;
	return value;
}

static int toy_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct toy *toy = context;
	uint64_t value = toy_value(region, offset, (unsigned)length);

	toy->reads++;
	memcpy(data, &value, length);
	return 0;
}

static int toy_write(void *context, unsigned region, uint64_t offset, const void *data,
		     size_t length)
{
	struct toy *toy = context;
	uint64_t value = 0;

	memcpy(&value, data, length);
	toy->writes++;
	toy->last_region = region;
	toy->last_offset = offset;
	toy->last_value = value;
	return 0;
}

static void toy_reset(void *context, enum vd_reset_kind kind)
{
	struct toy *toy = context;

	(void)kind;
	toy->resets++;
}

static int toy_save(void *context, struct vd_stream *stream)
{
	(void)context;
	vd_stream_put_u64(stream, 4711);
	return 0;
}

static int toy_load(void *context, struct vd_stream *stream)
{
	struct toy *toy = context;

	return vd_stream_get_u64(stream) != 4711 || toy->fail_load ? -EINVAL : 0;
}

static void toy_release(void *context)
{
	struct toy *toy = context;

	toy->releases++;
}

static void toy_bus_master(void *context, bool on)
{
	struct toy *toy = context;

	toy->bus_master = on;
	toy->bus_masters++;
}

struct vd_pci_function_config toy_config(struct rig *rig, struct toy *toy)
{
	toy->ops = (struct vd_device_ops){
		.read = toy_read,
		.write = toy_write,
		.reset = toy_reset,
		.save = toy_save,
		.load = toy_load,
		.release = toy_release,
	};
	return (struct vd_pci_function_config){
		.env = &rig->test.env,
		.host = rig->host,
		.name = "toy",
		.identity = {.vendor = 0x1af4, .device = 0x4242, .subsystem_vendor = 0x1234,
			     .subsystem = 0x5678, .class_code = 0xff0001, .revision = 3},
		.bars = {
			[0] = {.size = toy_sizes[0], .area_count = 1,
			       .areas = {{TOY_DIRECT, TOY_DIRECT_SIZE}}},
			[1] = {.size = toy_sizes[1]},
			[2] = {.size = toy_sizes[2], .flags = VD_PCI_BAR_64 | VD_PCI_BAR_PREFETCH,
			       .area_count = 1, .areas = {{0, toy_sizes[2]}}},
			[4] = {.size = toy_sizes[3], .area_count = 1,
			       .areas = {{0, toy_sizes[3]}}},
		},
		.msix_vectors = TOY_VECTORS,
		.msix_bar = 0,
		.msix_offset = TOY_MSIX,
		.ops = &toy->ops,
		.context = toy,
		.bus_master = toy_bus_master,
	};
}

void toy_create(struct rig *rig, struct toy *toy)
{
	struct vd_pci_function_config config;
	struct vd_error error = {0};

	memset(toy, 0, sizeof(*toy));
	config = toy_config(rig, toy);
	if (vd_pci_function_create(&config, &toy->device, &error))
		fail_msg("%s", error.text);
}

/* ---- a guest's accesses ---- */

static vd_gpa config_gpa(unsigned slot, unsigned offset)
{
	return (vd_gpa){ECAM + slot * 0x8000u + offset};
}

uint64_t guest_read(struct rig *rig, uint64_t gpa, unsigned length)
{
	uint64_t value = 0;

	assert_int_equal(vd_mem_mmio_read(rig->mem, (vd_gpa){gpa}, length, &value), 0);
	return value;
}

void guest_write(struct rig *rig, uint64_t gpa, unsigned length, uint64_t value)
{
	assert_int_equal(vd_mem_mmio_write(rig->mem, (vd_gpa){gpa}, length, value), 0);
}

uint64_t config_read(struct rig *rig, unsigned slot, unsigned offset, unsigned length)
{
	return guest_read(rig, config_gpa(slot, offset).value, length);
}

void config_write(struct rig *rig, unsigned slot, unsigned offset, unsigned length, uint64_t value)
{
	guest_write(rig, config_gpa(slot, offset).value, length, value);
}

void set_memory(struct rig *rig, unsigned slot, bool on)
{
	uint64_t command = config_read(rig, slot, PCI_COMMAND, 2);

	command = on ? command | PCI_COMMAND_MEMORY : command & ~(uint64_t)PCI_COMMAND_MEMORY;
	config_write(rig, slot, PCI_COMMAND, 2, command);
}

uint64_t bar_address(struct rig *rig, unsigned slot, unsigned bar)
{
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t value = config_read(rig, slot, at, 4);

	if ((value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		value |= config_read(rig, slot, at + 4, 4) << 32;
	return value & ~UINT64_C(0xf);
}

struct vd_slot_config slot_at(struct rig *rig, uint64_t gpa)
{
	struct vd_slot_config config = {0};
	const struct vd_slot *slot;

	rig->test.env.read_enter(&rig->test.env);
	slot = vd_mem_find(rig->mem, (vd_gpa){gpa}, NULL);
	if (slot)
		config = slot->config;
	rig->test.env.read_leave(&rig->test.env);
	return config;
}

/* ---- the invariant ---- */

struct tiling {
	uint64_t next_low, next_high, direct;
	unsigned ram;
};

static int check_slot(void *context, const struct vd_slot *slot)
{
	uint64_t base = slot->config.base.value, size = slot->config.size;
	struct tiling *tiling = context;

	if (base >= LOW && base < LOW + LOW_SIZE) {
		assert_int_equal(base, tiling->next_low);
		tiling->next_low = base + size;
	} else if (base >= HIGH && base < HIGH + HIGH_SIZE) {
		assert_int_equal(base, tiling->next_high);
		tiling->next_high = base + size;
	} else if (slot->config.kind == VD_SLOT_RAM) {
		assert_int_equal(base, RAM);
		assert_int_equal(size, RAM_SIZE);
		tiling->ram++;
	} else {
		assert_int_equal(base, ECAM);
	}
	if (slot->config.kind == VD_SLOT_DEVICE)
		tiling->direct += size;
	else if (slot->config.kind == VD_SLOT_TRAP)
		assert_non_null(slot->config.reason);
	return 0;
}

void check_windows(struct rig *rig)
{
	struct tiling tiling = {.next_low = LOW, .next_high = HIGH};

	vd_mem_each(rig->mem, check_slot, &tiling);
	assert_int_equal(tiling.next_low, LOW + LOW_SIZE);
	assert_int_equal(tiling.next_high, HIGH + HIGH_SIZE);
	assert_int_equal(tiling.ram, 1);
	assert_int_equal(tiling.direct >> vd_mem_page_shift(rig->mem),
			 vd_pci_host_direct_pages(rig->pci));
}
