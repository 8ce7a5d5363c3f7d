/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that does what the fuzzer's bytes say: configuration accesses, accesses to the windows,
 * interrupts. test_fuzz.c runs a fixed set and tests/fuzz/config.ar; `tools/fuzz
 * config` searches on.
 */
#include "rig.h"

#include "fuzz_config.h"

#define DEVICES 2u

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && input->left; i++, input->left--)
		value |= (uint64_t)*input->data++ << i * 8;
	return value;
}

/* An address in a window: small numbers hit BARs where firmware puts them. */
static uint64_t window_address(struct input *input, unsigned length)
{
	uint64_t at = take(input, 3);

	return (at & 1 ? HIGH : LOW) + (at >> 1 & ~(uint64_t)(length - 1));
}

static void step(struct rig *rig, struct toy *toys, struct input *input)
{
	unsigned what = (unsigned)take(input, 1), length = 1u << (what >> 6);
	unsigned offset;
	uint64_t gpa, value;

	switch (what % 8) {
	case 0:
	case 1:
	case 2:
		offset = (unsigned)take(input, 1);
		config_write(rig, what >> 3 & 1, offset, length, take(input, length));
		break;
	case 3:
		gpa = ECAM + take(input, 3) % 0x1ffff8;
		guest_write(rig, gpa, length, take(input, length));
		break;
	case 4:
		gpa = ECAM + take(input, 3) % 0x1ffff8;
		guest_read(rig, gpa, length);
		break;
	/* These may meet memory, where nothing is trapped. */
	case 5:
		gpa = window_address(input, length);
		(void)vd_mem_mmio_read(rig->mem, (vd_gpa){gpa}, length, &value);
		break;
	case 6:
		gpa = window_address(input, length);
		(void)vd_mem_mmio_write(rig->mem, (vd_gpa){gpa}, length, take(input, length));
		break;
	default:
		vd_device_lock(toys[what >> 3 & 1].device);
		vd_device_raise(toys[what >> 3 & 1].device, VD_IRQ_MSIX, what >> 4 & 7);
		vd_device_unlock(toys[what >> 3 & 1].device);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct toy toys[DEVICES];
	struct rig rig;

	rig_open(&rig, true);
	for (unsigned i = 0; i < DEVICES; i++) {
		toy_create(&rig, &toys[i]);
		assert_int_equal(vd_pci_host_plug(rig.pci, toys[i].device, i, NULL), 0);
		vd_device_put(toys[i].device);
	}
	while (input.left)
		step(&rig, toys, &input);
	check_windows(&rig);
	rig_close(&rig);
	return 0;
}
