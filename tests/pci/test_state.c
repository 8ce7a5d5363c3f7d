/* SPDX-License-Identifier: BSD-2-Clause */
/* The whole bus out of one machine and into another. */
#include "rig.h"

struct bus {
	struct rig rig;
	struct toy toys[2];
};

static void bus_open(struct bus *bus)
{
	rig_open(&bus->rig, true);
	for (unsigned i = 0; i < 2; i++) {
		toy_create(&bus->rig, &bus->toys[i]);
		assert_int_equal(vd_pci_host_plug(bus->rig.pci, bus->toys[i].device, 2 + i, NULL),
				 0);
	}
}

static void bus_close(struct bus *bus)
{
	for (unsigned i = 0; i < 2; i++)
		vd_device_put(bus->toys[i].device);
	rig_close(&bus->rig);
}

static void bus_save(struct bus *bus, struct vd_stream *stream)
{
	*stream = (struct vd_stream){.env = vd_env_hosted()};
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vd_device_save(bus->toys[i].device, stream), 0);
	assert_int_equal(vd_pci_host_save(bus->rig.pci, stream), 0);
}

static int bus_load(struct bus *bus, const struct vd_stream *saved, size_t length)
{
	struct vd_stream stream = {.data = saved->data, .length = length};
	struct vd_error error = {.text = ""};
	int rc = 0;

	for (unsigned i = 0; i < 2 && !rc; i++)
		rc = vd_device_load(bus->toys[i].device, &stream, &error);
	if (!rc)
		rc = vd_pci_host_load(bus->rig.pci, &stream, &error);
	assert_true(!rc || *error.text);
	return rc;
}

/* Toy 0 on; toy 1's BAR 4 on top of toy 0's, so that it has to wait. One vector is pending. */
static void bring_about(struct bus *bus)
{
	struct rig *rig = &bus->rig;
	uint64_t base;

	set_memory(rig, 2, true);
	config_write(rig, 2, PCI_BASE_ADDRESS_2, 4, LOW + 0x2000000);
	config_write(rig, 3, PCI_BASE_ADDRESS_4, 4, bar_address(rig, 2, 4));
	set_memory(rig, 3, true);
	base = bar_address(rig, 2, 0) + TOY_MSIX;
	guest_write(rig, base + 16, 8, 0x28000000);
	guest_write(rig, base + 24, 4, 77);
	guest_write(rig, base + 28, 4, 0);
	config_write(rig, 2, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	config_write(rig, 2, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vd_device_lock(bus->toys[0].device);
	vd_device_raise(bus->toys[0].device, VD_IRQ_MSIX, 1);
	vd_device_unlock(bus->toys[0].device);
	assert_int_equal(rig->messages, 0); /* no bus master */
}

static int same_area(void *context, const struct vd_pci_area_info *area)
{
	struct vd_pci_area_info *left = *(struct vd_pci_area_info **)context;

	assert_int_equal(left->slot, area->slot);
	assert_int_equal(left->bar, area->bar);
	assert_int_equal(left->offset, area->offset);
	assert_int_equal(left->placed, area->placed);
	assert_int_equal(left->gpa.value, area->gpa.value);
	++*(struct vd_pci_area_info **)context;
	return 0;
}

static int note_area(void *context, const struct vd_pci_area_info *area)
{
	*(*(struct vd_pci_area_info **)context)++ = *area;
	return 0;
}

static void test_round_trip(void **state)
{
	struct vd_pci_area_info areas[64], *at = areas;
	static struct bus from, to;
	struct vd_stream stream;

	(void)state;
	bus_open(&from);
	bring_about(&from);
	vd_pci_host_each_area(from.rig.pci, note_area, &at);
	bus_save(&from, &stream);
	bus_open(&to);
	/* Where it stood before must not matter. */
	set_memory(&to.rig, 3, true);
	set_memory(&to.rig, 2, true);
	assert_int_equal(bus_load(&to, &stream, stream.length), 0);
	check_windows(&to.rig);
	at = areas;
	vd_pci_host_each_area(to.rig.pci, same_area, &at);
	for (unsigned slot = 2; slot < 4; slot++)
		for (unsigned offset = 0; offset < 256; offset += 4)
			assert_int_equal(config_read(&to.rig, slot, offset, 4),
					 config_read(&from.rig, slot, offset, 4));
	for (unsigned offset = 0; offset < 5 * 16; offset += 8) {
		uint64_t gpa = bar_address(&to.rig, 2, 0) + TOY_MSIX + offset;

		assert_int_equal(guest_read(&to.rig, gpa, 8), guest_read(&from.rig, gpa, 8));
	}
	assert_int_equal(to.rig.messages, 0);
	config_write(&to.rig, 2, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(to.rig.messages, 1);
	assert_int_equal(to.rig.data, 77);
	vd_stream_fini(&stream);
	bus_close(&from);
	bus_close(&to);
}

/* Cut off anywhere, or with any byte changed: refused or taken, never half. */
static void test_hostile_streams(void **state)
{
	static struct bus from, to;
	struct vd_stream stream, devices = {.env = vd_env_hosted()}, before, after;
	size_t start;
	unsigned refused = 0;

	(void)state;
	bus_open(&from);
	bring_about(&from);
	bus_save(&from, &stream);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vd_device_save(from.toys[i].device, &devices), 0);
	start = devices.length;
	bus_open(&to);
	assert_int_equal(bus_load(&to, &stream, stream.length), 0);
	for (size_t length = 0; length < stream.length; length++)
		assert_int_equal(bus_load(&to, &stream, length), -EINVAL);
	for (size_t at = start; at < stream.length; at++) {
		struct vd_stream bad = {.data = stream.data, .length = stream.length,
					.position = start};
		int rc;

		bus_save(&to, &before);
		stream.data[at] ^= (uint8_t)(1u << below(8));
		rc = vd_pci_host_load(to.rig.pci, &bad, NULL);
		bus_save(&to, &after);
		if (rc) {
			refused++;
			assert_memory_equal(before.data, after.data, after.length);
		}
		check_windows(&to.rig);
		vd_stream_fini(&before);
		vd_stream_fini(&after);
	}
	assert_true(refused > 100);
	vd_stream_fini(&stream);
	vd_stream_fini(&devices);
	bus_close(&from);
	bus_close(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_hostile_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
