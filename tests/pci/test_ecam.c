/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "pci/config.h"

#define SLOT 5u
#define DEVICE_CONTROL (TOY_EXPRESS + PCI_EXP_DEVCTL)
#define MSIX_CONTROL (TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS)

static void open_with_toy(struct rig *rig, struct toy *toy)
{
	rig_open(rig, true);
	toy_create(rig, toy);
	assert_int_equal(vd_pci_host_plug(rig->pci, toy->device, SLOT, NULL), 0);
	vd_device_put(toy->device);
}

static void test_only_function_0_on_bus_0_answers(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	for (unsigned bus = 0; bus < 2; bus++)
		for (unsigned devfn = 0; devfn < 256; devfn++)
			assert_int_equal(guest_read(&rig,
						    ECAM + bus * 0x100000 + devfn * 0x1000, 4),
					 bus == 0 && devfn == SLOT * 8 ? 0x42421af4 : 0xffffffff);
	guest_write(&rig, ECAM + 0x1ffff8, 8, UINT64_MAX);
	rig_close(&rig);
}

/* Reads of 1, 2, 4 and 8 bytes at any offset agree with each other. */
static void test_every_size_at_every_offset(void **state)
{
	static uint8_t bytes[4096];
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	config_write(&rig, SLOT, MSIX_CONTROL, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned offset = 0; offset < 4096; offset++)
		bytes[offset] = (uint8_t)config_read(&rig, SLOT, offset, 1);
	assert_int_equal(bytes[MSIX_CONTROL + 1], 0xc0);
	for (unsigned length = 2; length <= 8; length *= 2) {
		for (unsigned offset = 0; offset + length <= 4096; offset++) {
			uint64_t wanted = 0;

			for (unsigned i = 0; i < length; i++)
				wanted |= (uint64_t)bytes[offset + i] << i * 8;
			assert_int_equal(config_read(&rig, SLOT, offset, length), wanted);
		}
	}
	rig_close(&rig);
}

static void test_messages_need_everything_switched_on(void **state)
{
	struct vd_pci_host_stats stats;
	struct toy toy;
	struct rig rig;
	uint64_t table;

	(void)state;
	open_with_toy(&rig, &toy);
	config_write(&rig, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	table = bar_address(&rig, SLOT, 0) + TOY_MSIX + 16 * 3;
	guest_write(&rig, table, 8, 0x28003000);
	guest_write(&rig, table + 8, 8, 77);
	vd_device_lock(toy.device);
	vd_device_raise(toy.device, VD_IRQ_MSIX, 3);
	vd_device_unlock(toy.device);
	assert_int_equal(rig.messages, 0);

	config_write(&rig, SLOT, MSIX_CONTROL, 2, PCI_MSIX_FLAGS_ENABLE);
	vd_device_lock(toy.device);
	vd_device_raise(toy.device, VD_IRQ_MSIX, 3);
	vd_device_unlock(toy.device);
	assert_int_equal(rig.messages, 0);
	assert_int_equal(guest_read(&rig, bar_address(&rig, SLOT, 0) + TOY_MSIX + PAGE, 8), 8);

	config_write(&rig, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(rig.address, 0x28003000);
	assert_int_equal(rig.data, 77);
	vd_device_lock(toy.device);
	vd_device_raise(toy.device, VD_IRQ_MSIX, 3);
	vd_device_unlock(toy.device);
	assert_int_equal(rig.messages, 2);
	vd_pci_host_stats(rig.pci, &stats);
	assert_int_equal(stats.messages, 2);
	assert_int_equal(stats.messages_dropped, 1);
	rig_close(&rig);
}

/* A mirror of the guest's map that counts what it had to drop. */
struct mirror {
	struct vd_listener listener;
	uint64_t start, length;
	unsigned zaps;
};

static int mirror_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct mirror *mirror = (struct mirror *)listener;

	if (vd_ranges_overlap(event->start, event->length, mirror->start, mirror->length))
		mirror->zaps++;
	return 0;
}

static const struct vd_listener_ops mirror_ops = {.invalidate_start = mirror_start};

static void test_function_level_reset(void **state)
{
	struct mirror mirror = {.listener.ops = &mirror_ops, .length = 0x200000};
	struct vd_pci_host_stats stats;
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	config_write(&rig, SLOT, PCI_COMMAND, 2, 6);
	config_write(&rig, SLOT, MSIX_CONTROL, 2, PCI_MSIX_FLAGS_ENABLE);
	mirror.start = bar_address(&rig, SLOT, 2);
	assert_int_equal(slot_at(&rig, mirror.start).kind, VD_SLOT_DEVICE);
	assert_int_equal(vd_notifier_register(vd_mem_notifier(rig.mem), &mirror.listener), 0);

	config_write(&rig, SLOT, DEVICE_CONTROL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(mirror.zaps, 1);
	assert_int_equal(toy.resets, 1);
	assert_int_equal(slot_at(&rig, mirror.start).kind, VD_SLOT_TRAP);
	assert_int_equal(guest_read(&rig, mirror.start, 4), 0xffffffff);
	assert_int_equal(vd_pci_host_direct_pages(rig.pci), 0);
	assert_int_equal(config_read(&rig, SLOT, PCI_COMMAND, 2), 0);
	assert_int_equal(config_read(&rig, SLOT, MSIX_CONTROL, 2), TOY_VECTORS - 1);
	assert_int_equal(bar_address(&rig, SLOT, 2), 0);
	vd_pci_host_stats(rig.pci, &stats);
	assert_int_equal(stats.function_resets, 1);

	/* The guest's driver puts back what it saved. */
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, mirror.start);
	config_write(&rig, SLOT, PCI_COMMAND, 2, 6);
	assert_int_equal(slot_at(&rig, mirror.start).kind, VD_SLOT_DEVICE);
	check_windows(&rig);
	vd_notifier_unregister(vd_mem_notifier(rig.mem), &mirror.listener);
	rig_close(&rig);
}

static void test_a_reset_that_finds_no_memory_is_dropped(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	set_memory(&rig, SLOT, true);
	test_env_fail(&rig.test, 1, -ENOMEM);
	config_write(&rig, SLOT, DEVICE_CONTROL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_true(test_env_failed(&rig.test));
	assert_int_equal(toy.resets, 0);
	assert_int_not_equal(vd_pci_host_direct_pages(rig.pci), 0);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_bars_are_gone_in_d3(void **state)
{
	uint64_t base;
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	set_memory(&rig, SLOT, true);
	base = bar_address(&rig, SLOT, 2);
	config_write(&rig, SLOT, TOY_POWER + PCI_PM_CTRL, 2, 3);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_TRAP);
	assert_int_equal(guest_read(&rig, base, 4), 0xffffffff);
	config_write(&rig, SLOT, TOY_POWER + PCI_PM_CTRL, 2, 0);
	assert_int_equal(slot_at(&rig, base).kind, VD_SLOT_DEVICE);
	assert_int_equal(bar_address(&rig, SLOT, 2), base);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_other_registers_disturb_no_bar(void **state)
{
	struct mirror mirror = {.listener.ops = &mirror_ops, .length = UINT64_MAX};
	struct toy toy;
	struct rig rig;

	(void)state;
	open_with_toy(&rig, &toy);
	set_memory(&rig, SLOT, true);
	assert_int_equal(vd_notifier_register(vd_mem_notifier(rig.mem), &mirror.listener), 0);
	config_write(&rig, SLOT, PCI_COMMAND, 2, 6);
	config_write(&rig, SLOT, PCI_COMMAND, 4, 0xffff0406);
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_1, 4,
		     config_read(&rig, SLOT, PCI_BASE_ADDRESS_1, 4));
	config_write(&rig, SLOT, PCI_INTERRUPT_LINE, 1, 1);
	config_write(&rig, SLOT, MSIX_CONTROL, 2, PCI_MSIX_FLAGS_ENABLE);
	config_write(&rig, SLOT, DEVICE_CONTROL, 2, 0x2810);
	config_write(&rig, SLOT, TOY_POWER + PCI_PM_CTRL, 2, 0x8000);
	assert_int_equal(mirror.zaps, 0);
	vd_notifier_unregister(vd_mem_notifier(rig.mem), &mirror.listener);
	rig_close(&rig);
}

/*
 * ---- the order: a device that looks at the guest's map whenever its configuration is written ----
 */

struct spy {
	struct rig *rig;
	struct vd_pci_config space;
	struct vd_device *device;
	uint64_t base;
	unsigned writes, still_there, resets;
	bool armed, refuses, wanders;
};

static int spy_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct spy *spy = context;

	if (region == VD_REGION_CONFIG)
		vd_pci_config_read(&spy->space, offset, data, length);
	else
		memset(data, 0x55, length);
	return 0;
}

static int spy_write(void *context, unsigned region, uint64_t offset, const void *data,
		     size_t length)
{
	struct spy *spy = context;

	if (region != VD_REGION_CONFIG)
		return 0;
	if (spy->armed) {
		spy->writes++;
		spy->still_there += slot_at(spy->rig, spy->base).kind == VD_SLOT_DEVICE;
	}
	if (!spy->refuses)
		vd_pci_config_write(&spy->space, offset, data, length);
	if (spy->wanders)
		vd_pci_put32(spy->space.bytes + PCI_BASE_ADDRESS_2, (uint32_t)spy->base + 0x200000);
	return 0;
}

static void spy_reset(void *context, enum vd_reset_kind kind)
{
	struct spy *spy = context;

	(void)kind;
	spy->resets++;
	spy->still_there += slot_at(spy->rig, spy->base).kind == VD_SLOT_DEVICE;
	vd_pci_config_reset(&spy->space);
}

static const struct vd_device_ops spy_ops = {
	.read = spy_read, .write = spy_write, .reset = spy_reset,
};

static void open_with_spy(struct rig *rig, struct spy *spy)
{
	const unsigned usable = VD_REGION_READ | VD_REGION_WRITE;
	struct vd_region regions[VD_REGION_COUNT] = {
		[VD_REGION_BAR2] = {.name = "BAR 2", .size = toy_sizes[2],
				    .flags = usable | VD_REGION_MMAP | VD_REGION_PREFETCH},
		[VD_REGION_CONFIG] = {.name = "config", .size = 256, .flags = usable},
	};
	const unsigned irqs[VD_IRQ_COUNT] = {0};
	struct vd_pci_function_config config;
	struct vd_device_config device = {
		.name = "spy", .ops = &spy_ops, .context = spy, .regions = regions, .irqs = irqs,
	};
	struct toy toy;

	rig_open(rig, true);
	memset(spy, 0, sizeof(*spy));
	spy->rig = rig;
	config = toy_config(rig, &toy);
	config.msix_vectors = 0;
	config.bars[0].size = config.bars[1].size = config.bars[4].size = 0;
	vd_pci_config_init(&spy->space, &config);
	device.env = &rig->test.env;
	device.host = rig->host;
	assert_int_equal(vd_device_create(&device, &spy->device, NULL), 0);
	assert_int_equal(vd_pci_host_plug(rig->pci, spy->device, SLOT, NULL), 0);
	vd_device_put(spy->device);
	/* Somewhere with bits set in both halves of the address. */
	spy->base = HIGH + 0x40200000;
	config_write(rig, SLOT, PCI_BASE_ADDRESS_2, 8, spy->base);
	set_memory(rig, SLOT, true);
	assert_int_equal(slot_at(rig, spy->base).kind, VD_SLOT_DEVICE);
	spy->armed = true;
}

static void test_bars_leave_before_the_device_is_touched(void **state)
{
	static const struct {
		unsigned reg, length;
		uint64_t value;
	} writes[] = {
		{PCI_COMMAND, 2, 0},
		{PCI_COMMAND, 1, 4},
		{PCI_BASE_ADDRESS_2, 4, 0},
		{PCI_BASE_ADDRESS_2, 8, UINT64_MAX},
		{PCI_BASE_ADDRESS_3, 4, 0},
		{PCI_BASE_ADDRESS_3 + 3, 1, 0xff},
		{TOY_POWER + PCI_PM_CTRL, 2, 3},
	};
	struct spy spy;
	struct rig rig;

	(void)state;
	open_with_spy(&rig, &spy);
	for (unsigned i = 0; i < sizeof(writes) / sizeof(*writes); i++) {
		spy.writes = 0;
		config_write(&rig, SLOT, writes[i].reg, writes[i].length, writes[i].value);
		assert_int_equal(spy.writes, 1);
		assert_int_equal(spy.still_there, 0);
		assert_int_equal(slot_at(&rig, spy.base).kind, VD_SLOT_TRAP);
		config_write(&rig, SLOT, TOY_POWER + PCI_PM_CTRL, 2, 0);
		config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, spy.base);
		config_write(&rig, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_int_equal(slot_at(&rig, spy.base).kind, VD_SLOT_DEVICE);
		spy.still_there = 0; /* memory was on already after some of these */
	}
	spy.writes = 0;
	config_write(&rig, SLOT, spy.space.express + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(spy.resets, 1);
	assert_int_equal(spy.still_there, 0);
	/* The reset was not forwarded as a write. */
	assert_int_equal(spy.writes, 0);
	rig_close(&rig);
}

static void test_the_devices_registers_decide(void **state)
{
	struct spy spy;
	struct rig rig;

	(void)state;
	open_with_spy(&rig, &spy);
	spy.refuses = true;
	config_write(&rig, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(spy.still_there, 0);
	/* It still decodes, so the guest still sees it. */
	assert_int_equal(slot_at(&rig, spy.base).kind, VD_SLOT_DEVICE);
	config_write(&rig, SLOT, PCI_BASE_ADDRESS_2, 8, spy.base + 0x200000);
	assert_int_equal(slot_at(&rig, spy.base).kind, VD_SLOT_DEVICE);
	check_windows(&rig);
	/* A BAR that goes elsewhere by itself is followed. */
	spy.refuses = false;
	spy.wanders = true;
	config_write(&rig, SLOT, PCI_COMMAND, 2, 6);
	assert_int_equal(slot_at(&rig, spy.base).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, spy.base + 0x200000).kind, VD_SLOT_DEVICE);
	check_windows(&rig);
	rig_close(&rig);
}

static void test_short_configuration_space_ends_in_ones(void **state)
{
	struct spy spy;
	struct rig rig;

	(void)state;
	open_with_spy(&rig, &spy);
	assert_int_equal(config_read(&rig, SLOT, 256, 4), 0xffffffff);
	assert_int_equal(config_read(&rig, SLOT, 252, 8), 0xffffffff00000000);
	config_write(&rig, SLOT, 4092, 4, 0);
	rig_close(&rig);
}

/* Garbage of any size anywhere in configuration space: the bridge's invariants hold. */
static void test_garbage(void **state)
{
	struct toy toys[2];
	struct rig rig;

	(void)state;
	test_start(0x5eed0020);
	rig_open(&rig, true);
	for (unsigned i = 0; i < 2; i++) {
		toy_create(&rig, &toys[i]);
		assert_int_equal(vd_pci_host_plug(rig.pci, toys[i].device, i, NULL), 0);
		vd_device_put(toys[i].device);
	}
	for (unsigned round = 0; round < 20000; round++) {
		unsigned length = 1u << below(4), slot = below(3);
		unsigned offset = below(below(4) ? 0x90 : 0x8000 - 8);

		if (below(3))
			config_write(&rig, slot, offset, length, test_random(test_state()));
		else
			config_read(&rig, slot, offset, length);
		if (round % 16 == 0)
			check_windows(&rig);
	}
	check_windows(&rig);
	assert_true(toys[0].resets > 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_function_0_on_bus_0_answers),
		cmocka_unit_test(test_every_size_at_every_offset),
		cmocka_unit_test(test_messages_need_everything_switched_on),
		cmocka_unit_test(test_function_level_reset),
		cmocka_unit_test(test_a_reset_that_finds_no_memory_is_dropped),
		cmocka_unit_test(test_bars_are_gone_in_d3),
		cmocka_unit_test(test_other_registers_disturb_no_bar),
		cmocka_unit_test(test_bars_leave_before_the_device_is_touched),
		cmocka_unit_test(test_the_devices_registers_decide),
		cmocka_unit_test(test_short_configuration_space_ends_in_ones),
		cmocka_unit_test_teardown(test_garbage, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
