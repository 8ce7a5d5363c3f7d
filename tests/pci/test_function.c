/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

static uint64_t region_read(struct vd_device *device, unsigned region, uint64_t offset,
			    unsigned length)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(device, region, (vd_region_offset){offset}, &value, length),
			 0);
	return value;
}

static void region_write(struct vd_device *device, unsigned region, uint64_t offset,
			 unsigned length, uint64_t value)
{
	assert_int_equal(vd_device_write(device, region, (vd_region_offset){offset}, &value,
					 length), 0);
}

static void refuse(struct rig *rig, const struct vd_pci_function_config *config)
{
	struct vd_error error = {0};
	struct vd_device *device = NULL;
	long blocks = rig->test.blocks;

	assert_int_equal(vd_pci_function_create(config, &device, &error), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	assert_true(strlen(error.text) > 10);
	assert_null(device);
	assert_int_equal(rig->test.blocks, blocks);
}

static void test_bad_bars_are_refused(void **state)
{
	struct vd_pci_function_config good, bad;
	struct toy toy = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	good = toy_config(&rig, &toy);
	bad = good;
	bad.bars[1].size = 0x180;
	refuse(&rig, &bad);
	bad.bars[1].size = 8;
	refuse(&rig, &bad);
	bad.bars[1].size = UINT64_C(1) << 32;
	refuse(&rig, &bad);
	bad = good;
	bad.bars[1].flags = 8;
	refuse(&rig, &bad);
	bad = good;
	bad.bars[0].flags = VD_PCI_BAR_64;
	refuse(&rig, &bad);
	bad = good;
	bad.bars[5] = (struct vd_pci_bar){.size = 4096, .flags = VD_PCI_BAR_64};
	refuse(&rig, &bad);
	bad = good;
	bad.bars[2].areas[0] = (struct vd_region_area){0x800, 0x1000};
	refuse(&rig, &bad);
	bad.bars[2].areas[0] = (struct vd_region_area){0x1000, 0x200000};
	refuse(&rig, &bad);
	bad.bars[2].areas[0] = (struct vd_region_area){UINT64_MAX - 0xfff, 0x1000};
	refuse(&rig, &bad);
	bad.bars[2].areas[0] = (struct vd_region_area){0x1000, 0};
	refuse(&rig, &bad);
	bad = good;
	bad.bars[2].area_count = VD_REGION_AREAS_MAX + 1;
	refuse(&rig, &bad);
	rig_close(&rig);
}

static void test_bad_msix_and_identities_are_refused(void **state)
{
	struct vd_pci_function_config good, bad;
	struct vd_device_ops half = {0};
	struct toy toy = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	good = toy_config(&rig, &toy);
	bad = good;
	bad.msix_vectors = VD_PCI_MSIX_MAX + 1;
	refuse(&rig, &bad);
	bad = good;
	bad.msix_bar = 6;
	refuse(&rig, &bad);
	bad.msix_bar = 5;
	refuse(&rig, &bad);
	bad = good;
	bad.msix_offset = 0x10;
	refuse(&rig, &bad);
	bad.msix_offset = 0xf000; /* no room for the PBA's page */
	refuse(&rig, &bad);
	bad.msix_offset = 0xfffff000;
	refuse(&rig, &bad);
	bad.msix_offset = TOY_DIRECT + TOY_DIRECT_SIZE - 0x1000; /* would be mapped */
	refuse(&rig, &bad);
	bad.msix_offset = TOY_DIRECT - 0x1000;
	refuse(&rig, &bad);
	bad = good;
	bad.identity.vendor = 0xffff;
	refuse(&rig, &bad);
	bad = good;
	bad.identity.class_code = 0x1000000;
	refuse(&rig, &bad);
	bad = good;
	bad.ops = &half;
	refuse(&rig, &bad);
	rig_close(&rig);
}

static void test_regions_are_the_bars(void **state)
{
	const struct vd_region *region;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	for (unsigned i = 0; i < TOY_BARS; i++) {
		region = vd_device_region(toy.device, toy_bars[i]);
		assert_int_equal(region->size, toy_sizes[i]);
		assert_int_equal(!!(region->flags & VD_REGION_PREFETCH), i == 2);
		assert_int_equal(!!(region->flags & VD_REGION_MMAP), i != 1);
	}
	assert_int_equal(vd_device_region(toy.device, 3)->size, 0);
	assert_int_equal(vd_device_region(toy.device, VD_REGION_CONFIG)->size, 4096);
	assert_int_equal(vd_device_irq_count(toy.device, VD_IRQ_MSIX), TOY_VECTORS);
	assert_int_equal(vd_device_irq_count(toy.device, VD_IRQ_INTX), 0);
	vd_device_put(toy.device);
	assert_int_equal(toy.releases, 1);
	rig_close(&rig);
}

static void test_accesses_reach_the_author(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	assert_int_equal(region_read(toy.device, 1, 0x10, 4), toy_value(1, 0x10, 4));
	region_write(toy.device, 0, 0x20, 8, 0x1122334455667788);
	assert_int_equal(toy.last_region, 0);
	assert_int_equal(toy.last_offset, 0x20);
	assert_int_equal(toy.last_value, 0x1122334455667788);
	/* Neither configuration space nor the MSI-X pages are the author's. */
	toy.reads = toy.writes = 0;
	assert_int_equal(region_read(toy.device, 0, TOY_MSIX, 8), 0);
	assert_int_equal(region_read(toy.device, 0, TOY_MSIX + PAGE, 4), 0);
	region_write(toy.device, 0, TOY_MSIX + 12, 4, 0);
	region_write(toy.device, VD_REGION_CONFIG, PCI_INTERRUPT_LINE, 1, 9);
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_INTERRUPT_LINE, 1), 9);
	assert_int_equal(toy.reads + toy.writes, 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_bus_mastering_is_told(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_true(toy.bus_master);
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, 6);
	assert_int_equal(toy.bus_masters, 1);
	vd_device_reset(toy.device, VD_RESET_BUS);
	assert_false(toy.bus_master);
	assert_int_equal(toy.bus_masters, 2);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_both_resets_clear_configuration_space(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	for (unsigned i = 0; i < 2; i++) {
		region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, 6);
		region_write(toy.device, VD_REGION_CONFIG, PCI_BASE_ADDRESS_2, 8, UINT64_MAX);
		if (i)
			region_write(toy.device, VD_REGION_CONFIG, TOY_EXPRESS + PCI_EXP_DEVCTL, 2,
				     PCI_EXP_DEVCTL_BCR_FLR);
		else
			vd_device_reset(toy.device, VD_RESET_FUNCTION);
		assert_int_equal(toy.resets, i + 1);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2), 0);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_BASE_ADDRESS_2, 8),
				 0xc);
		assert_false(toy.bus_master);
	}
	vd_device_put(toy.device);
	rig_close(&rig);
}

/* What is saved comes back, in another device of the same kind. */
static void test_state_moves(void **state)
{
	struct vd_stream stream = {0};
	struct toy from, to;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &from);
	toy_create(&rig, &to);
	stream.env = &rig.test.env;
	region_write(from.device, VD_REGION_CONFIG, PCI_COMMAND, 2, 6);
	region_write(from.device, VD_REGION_CONFIG, PCI_BASE_ADDRESS_1, 4, 0x44556600);
	assert_int_equal(vd_device_quiesce(from.device), 0);
	assert_int_equal(vd_device_save(from.device, &stream), 0);
	vd_device_resume(from.device);
	stream.position = 0;
	assert_int_equal(vd_device_quiesce(to.device), 0);
	assert_int_equal(vd_device_load(to.device, &stream, NULL), 0);
	vd_device_resume(to.device);
	assert_int_equal(region_read(to.device, VD_REGION_CONFIG, PCI_COMMAND, 2), 6);
	assert_int_equal(region_read(to.device, VD_REGION_CONFIG, PCI_BASE_ADDRESS_1, 4),
			 0x44556600);
	assert_true(to.bus_master);
	vd_stream_fini(&stream);
	vd_device_put(from.device);
	vd_device_put(to.device);
	rig_close(&rig);
}

/* Cut short anywhere, or with any bit of it changed: refused, or harmless. */
static void test_hostile_state_changes_nothing_it_may_not(void **state)
{
	struct vd_stream stream = {0};
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	toy_create(&rig, &toy);
	stream.env = &rig.test.env;
	assert_int_equal(vd_device_quiesce(toy.device), 0);
	assert_int_equal(vd_device_save(toy.device, &stream), 0);
	for (size_t length = 0; length < stream.length; length++) {
		struct vd_stream cut = stream;

		cut.length = length;
		cut.position = 0;
		cut.failed = false;
		assert_int_not_equal(vd_device_load(toy.device, &cut, NULL), 0);
	}
	for (size_t at = 0; at < stream.length; at++) {
		struct vd_stream changed = stream;

		stream.data[at] ^= 0xff;
		changed.position = 0;
		changed.failed = false;
		(void)vd_device_load(toy.device, &changed, NULL);
		stream.data[at] ^= 0xff;
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_VENDOR_ID, 4),
				 0x42421af4);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_BASE_ADDRESS_0, 2),
				 0);
	}
	stream.position = 0;
	stream.failed = false;
	toy.fail_load = true;
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, 6);
	assert_int_not_equal(vd_device_load(toy.device, &stream, NULL), 0);
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2), 6);
	vd_device_resume(toy.device);
	vd_stream_fini(&stream);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_memory_may_be_short(void **state)
{
	struct vd_pci_function_config config;
	struct vd_error error;
	struct toy toy = {0};
	struct rig rig;
	long step;
	int rc;

	(void)state;
	rig_open(&rig, true);
	config = toy_config(&rig, &toy);
	for (step = 1; step < 1000; step++) {
		long blocks;

		vd_env_hosted_drain();
		blocks = rig.test.blocks;
		test_env_fail(&rig.test, step, -ENOMEM);
		rc = vd_pci_function_create(&config, &toy.device, &error);
		if (!test_env_failed(&rig.test))
			break;
		assert_int_not_equal(rc, 0);
		vd_env_hosted_drain();
		assert_int_equal(rig.test.blocks, blocks);
	}
	assert_int_equal(rc, 0);
	assert_true(step > 1 && step < 1000);
	vd_device_put(toy.device);
	rig_close(&rig);
}

/* ---- capabilities of the device's own ------------------------------------------------------- */

static struct { unsigned reads, writes, offset, length; } told;

/* Byte 4 counts reads; whatever is written to byte 5 reads as its complement. */
static void note_access(void *context, uint8_t *bytes, unsigned offset, unsigned length, bool write)
{
	(void)context;
	told.offset = offset;
	told.length = length;
	if (write) {
		told.writes++;
		bytes[5] = (uint8_t)~bytes[5];
	} else {
		bytes[4] = (uint8_t)++told.reads;
	}
}

static void test_own_capabilities(void **state)
{
	const struct vd_pci_capability own[] = {
		{.id = PCI_CAP_ID_VNDR, .length = 7, .bytes = {1, 2, 3, 4, 5, 6, 7}},
		{.id = PCI_CAP_ID_VNDR, .length = 8, .bytes = {0, 0, 8, 0x11, 0, 0, 0x22, 0x33},
		 .writable = {0xff, 0xff, 0, 0x0f, 0, 0xff, 0, 0}, .access = note_access},
	};
	struct vd_pci_function_config config;
	struct toy toy = {0};
	struct rig rig;
	uint64_t first = 0, second, at;

	(void)state;
	rig_open(&rig, true);
	config = toy_config(&rig, &toy);
	config.capabilities = own;
	config.capability_count = 2;
	assert_int_equal(vd_pci_function_create(&config, &toy.device, NULL), 0);
	at = region_read(toy.device, VD_REGION_CONFIG, PCI_CAPABILITY_LIST, 1);
	while (region_read(toy.device, VD_REGION_CONFIG, at + 1, 1)) {
		first = at;
		at = region_read(toy.device, VD_REGION_CONFIG, at + 1, 1);
	}
	second = at;
	assert_int_equal(second, first + 8);
	memset(&told, 0, sizeof(told)); /* the walk itself */
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, first, 8),
			 0x0007060504030009 | second << 8);
	assert_int_equal(told.reads, 0);
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, second, 8), 0x3322000111080009);
	assert_int_equal(told.reads, 1);
	assert_int_equal(told.length, 8);
	/* a part of it, with what lies before */
	region_write(toy.device, VD_REGION_CONFIG, first + 6, 4, 0xffffffff);
	assert_int_equal(told.writes, 1);
	assert_int_equal(told.offset, 0);
	region_write(toy.device, VD_REGION_CONFIG, second + 3, 4, 0xf00ff4);
	assert_int_equal(told.offset, 6);
	assert_int_equal(told.writes, 4); /* as 1, 2 and 1 bytes, naturally aligned */
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, second + 3, 1), 0x14);
	/* what does not fit */
	config.capability_count = VD_PCI_CAPABILITIES_MAX + 1;
	refuse(&rig, &config);
	config.capability_count = 1;
	config.capabilities = &(struct vd_pci_capability){.id = 9, .length = 2};
	refuse(&rig, &config);
	config.capabilities = &(struct vd_pci_capability){
		.id = 9, .length = VD_PCI_CAPABILITY_BYTES + 1,
	};
	refuse(&rig, &config);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_too_many_capabilities(void **state)
{
	struct vd_pci_capability own[VD_PCI_CAPABILITIES_MAX] = {0};
	struct vd_pci_function_config config;
	struct toy toy = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	config = toy_config(&rig, &toy);
	for (unsigned i = 0; i < VD_PCI_CAPABILITIES_MAX; i++)
		own[i] = (struct vd_pci_capability){.id = 9, .length = VD_PCI_CAPABILITY_BYTES};
	config.capabilities = own;
	config.capability_count = VD_PCI_CAPABILITIES_MAX;
	refuse(&rig, &config);
	config.capability_count = 3;
	assert_int_equal(vd_pci_function_create(&config, &toy.device, NULL), 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

/* ---- INTx and MSI ---- */

struct told {
	unsigned calls;
	bool level;
};

static void tell(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct told *hears = context;

	assert_int_equal(index, VD_IRQ_INTX);
	assert_int_equal(vector, 0);
	*hears = (struct told){hears->calls + 1, level};
}

static void set_intx(struct toy *toy, bool level)
{
	vd_device_lock(toy->device);
	if (level)
		vd_device_raise(toy->device, VD_IRQ_INTX, 0);
	else
		vd_device_lower(toy->device);
	vd_device_unlock(toy->device);
}

static void create_intx(struct rig *rig, struct toy *toy, unsigned msi_vectors)
{
	struct vd_pci_function_config config;

	memset(toy, 0, sizeof(*toy));
	config = toy_config(rig, toy);
	config.intx = true;
	config.msi_vectors = msi_vectors;
	assert_int_equal(vd_pci_function_create(&config, &toy->device, NULL), 0);
}

static bool interrupt_status(struct toy *toy)
{
	unsigned status = (unsigned)region_read(toy->device, VD_REGION_CONFIG, PCI_STATUS, 2);

	assert_int_equal(status & ~PCI_STATUS_INTERRUPT, PCI_STATUS_CAP_LIST);
	return status & PCI_STATUS_INTERRUPT;
}

static void test_intx_status_and_disable(void **state)
{
	struct told heard = {0};
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	create_intx(&rig, &toy, 0);
	assert_int_equal(vd_device_set_sink(toy.device, VD_IRQ_INTX, tell, &heard), 0);
	assert_false(interrupt_status(&toy));
	set_intx(&toy, true);
	assert_true(interrupt_status(&toy));
	assert_true(heard.level);
	/* the status tells the truth, disabled or not */
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_true(interrupt_status(&toy));
	assert_false(heard.level);
	set_intx(&toy, false);
	assert_false(interrupt_status(&toy));
	set_intx(&toy, true);
	assert_int_equal(heard.calls, 2);
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND + 1, 1, 0);
	assert_int_equal(heard.calls, 3);
	assert_true(heard.level);
	/* it cannot be written */
	region_write(toy.device, VD_REGION_CONFIG, PCI_STATUS, 2, 0xffff);
	assert_true(interrupt_status(&toy));
	/* a reset lowers and enables, and nothing fires on the way */
	region_write(toy.device, VD_REGION_CONFIG, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(heard.calls, 4);
	assert_int_equal(vd_device_reset(toy.device, VD_RESET_FUNCTION), 0);
	assert_false(interrupt_status(&toy));
	assert_int_equal(heard.calls, 4);
	set_intx(&toy, true);
	assert_int_equal(heard.calls, 5);
	vd_device_put(toy.device);
	rig_close(&rig);
}

static void test_intx_state_moves(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()};
	struct told heard = {0};
	struct toy from, to;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	create_intx(&rig, &from, 0);
	create_intx(&rig, &to, 0);
	set_intx(&from, true);
	region_write(from.device, VD_REGION_CONFIG, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(vd_device_save(from.device, &stream), 0);
	assert_int_equal(vd_device_set_sink(to.device, VD_IRQ_INTX, tell, &heard), 0);
	stream.position = 0;
	assert_int_equal(vd_device_load(to.device, &stream, NULL), 0);
	assert_true(interrupt_status(&to));
	assert_int_equal(heard.calls, 0);
	region_write(to.device, VD_REGION_CONFIG, PCI_COMMAND, 2, 0);
	assert_true(heard.level);
	/* and one that was not asserted lowers it */
	stream.length = stream.position = 0;
	set_intx(&from, false);
	assert_int_equal(vd_device_save(from.device, &stream), 0);
	stream.position = 0;
	assert_int_equal(vd_device_load(to.device, &stream, NULL), 0);
	assert_false(interrupt_status(&to));
	vd_stream_fini(&stream);
	vd_device_put(from.device);
	vd_device_put(to.device);
	rig_close(&rig);
}

static void test_msi_capability(void **state)
{
	struct vd_pci_function_config good, bad;
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	for (unsigned order = 0; order <= 5; order++) {
		create_intx(&rig, &toy, 1u << order);
		assert_int_equal(vd_device_irq_count(toy.device, VD_IRQ_MSI), 1u << order);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, TOY_EXPRESS, 1),
				 PCI_CAP_ID_MSI);
		region_write(toy.device, VD_REGION_CONFIG, TOY_EXPRESS + PCI_MSI_FLAGS, 2, 0xffff);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG,
					     TOY_EXPRESS + PCI_MSI_FLAGS, 2),
				 PCI_MSI_FLAGS_64BIT | order << 1 | PCI_MSI_FLAGS_QSIZE |
				 PCI_MSI_FLAGS_ENABLE);
		assert_int_equal(region_read(toy.device, VD_REGION_CONFIG, TOY_EXPRESS + 16, 1),
				 PCI_CAP_ID_EXP);
		vd_device_put(toy.device);
	}
	good = toy_config(&rig, &toy);
	bad = good;
	bad.msi_vectors = 3;
	refuse(&rig, &bad);
	bad.msi_vectors = 64;
	refuse(&rig, &bad);
	bad.msi_vectors = 1u << 31;
	refuse(&rig, &bad);
	rig_close(&rig);
}

/* ---- MSI-X anywhere ------------------------------------------------------------------------- */

#define TABLE 0x100u /* of TOY_VECTORS: 80 bytes */
#define PENDING 0x5008u

static void test_bad_places_of_pending_bits_are_refused(void **state)
{
	struct vd_pci_function_config good, bad;
	struct toy toy = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	good = toy_config(&rig, &toy);
	good.msix_offset = TABLE;
	good.msix_pba = PENDING;
	good.bars[0].areas[0] = (struct vd_region_area){0x1000, 0x4000};
	bad = good;
	bad.msix_pba = PENDING + 4;
	refuse(&rig, &bad);
	bad = good;
	bad.msix_offset = TABLE + 4;
	refuse(&rig, &bad);
	bad = good;
	bad.msix_pba = TABLE + TOY_VECTORS * 16 - 8;
	refuse(&rig, &bad);
	bad.msix_pba = (uint32_t)toy_sizes[0];
	refuse(&rig, &bad);
	bad.msix_pba = (uint32_t)toy_sizes[0] - 4;
	refuse(&rig, &bad);
	/* Both pages are the slow path's, whatever else is in them. */
	bad = good;
	bad.bars[0].areas[0] = (struct vd_region_area){0, 0x1000};
	refuse(&rig, &bad);
	bad.bars[0].areas[0] = (struct vd_region_area){0x1000, 0x5000};
	refuse(&rig, &bad);
	bad.msix_pba = TABLE + TOY_VECTORS * 16; /* right behind the table */
	toy.ops.release = NULL;
	assert_int_equal(vd_pci_function_create(&bad, &toy.device, NULL), 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

/* Table and pending bits in pages that are the device's otherwise: it has all that is beside them. */
static void test_pending_bits_beside_registers(void **state)
{
	struct vd_pci_function_config config;
	struct toy toy = {0};
	struct rig rig;
	uint64_t bar;

	(void)state;
	rig_open(&rig, true);
	config = toy_config(&rig, &toy);
	config.msix_offset = TABLE;
	config.msix_pba = PENDING;
	config.bars[0].areas[0] = (struct vd_region_area){0x1000, 0x4000};
	assert_int_equal(vd_pci_function_create(&config, &toy.device, NULL), 0);
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG,
				     TOY_MSIX_CAPABILITY + PCI_MSIX_TABLE, 4), TABLE);
	assert_int_equal(region_read(toy.device, VD_REGION_CONFIG,
				     TOY_MSIX_CAPABILITY + PCI_MSIX_PBA, 4), PENDING);
	/* To whom emulates no table it is empty; the byte before it and behind it are registers. */
	assert_int_equal(region_read(toy.device, 0, TABLE, 8), 0);
	assert_int_equal(region_read(toy.device, 0, PENDING, 8), 0);
	assert_int_equal(toy.reads, 0);
	assert_int_equal(region_read(toy.device, 0, TABLE - 8, 8), toy_value(0, TABLE - 8, 8));
	assert_int_equal(region_read(toy.device, 0, TABLE + TOY_VECTORS * 16, 8),
			 toy_value(0, TABLE + TOY_VECTORS * 16, 8));
	assert_int_equal(region_read(toy.device, 0, PENDING + 8, 4), toy_value(0, PENDING + 8, 4));
	assert_int_equal(region_read(toy.device, 0, PENDING - 4, 4), toy_value(0, PENDING - 4, 4));
	assert_int_equal(toy.reads, 4);
	region_write(toy.device, 0, PENDING, 8, UINT64_MAX);
	assert_int_equal(toy.writes, 0);
	region_write(toy.device, 0, PENDING + 8, 8, 1);
	assert_int_equal(toy.writes, 1);
	/* In a guest: a vector that is masked is pending there, and nowhere else. */
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, 1, NULL), 0);
	config_write(&rig, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	bar = bar_address(&rig, 1, 0);
	assert_int_equal(slot_at(&rig, bar).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, bar + 0x5000).kind, VD_SLOT_TRAP);
	assert_int_equal(slot_at(&rig, bar + 0x1000).kind, VD_SLOT_DEVICE);
	config_write(&rig, 1, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	guest_write(&rig, bar + TABLE + 3 * 16, 8, 0xfee01000);
	guest_write(&rig, bar + TABLE + 3 * 16 + 8, 4, 77);
	vd_device_lock(toy.device);
	vd_device_raise(toy.device, VD_IRQ_MSIX, 3);
	vd_device_unlock(toy.device);
	assert_int_equal(rig.messages, 0);
	assert_int_equal(guest_read(&rig, bar + PENDING, 8), 1 << 3);
	assert_int_equal(guest_read(&rig, bar + PENDING + 8, 4), toy_value(0, PENDING + 8, 4));
	guest_write(&rig, bar + TABLE + 3 * 16 + 12, 4, 0);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(rig.data, 77);
	assert_int_equal(guest_read(&rig, bar + PENDING, 8), 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_bars_are_refused),
		cmocka_unit_test(test_bad_msix_and_identities_are_refused),
		cmocka_unit_test(test_regions_are_the_bars),
		cmocka_unit_test(test_accesses_reach_the_author),
		cmocka_unit_test(test_bus_mastering_is_told),
		cmocka_unit_test(test_both_resets_clear_configuration_space),
		cmocka_unit_test(test_state_moves),
		cmocka_unit_test(test_hostile_state_changes_nothing_it_may_not),
		cmocka_unit_test(test_memory_may_be_short),
		cmocka_unit_test(test_own_capabilities),
		cmocka_unit_test(test_too_many_capabilities),
		cmocka_unit_test(test_intx_status_and_disable),
		cmocka_unit_test(test_intx_state_moves),
		cmocka_unit_test(test_msi_capability),
		cmocka_unit_test(test_bad_places_of_pending_bits_are_refused),
		cmocka_unit_test(test_pending_bits_beside_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
