/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio driver out of its mind: each input is a series of register writes, descriptors, rings,
 * doorbells and resets. The normal test runs it over a fixed pseudo-random corpus
 * and over tests/fuzz/balloon.ar (test_balloon_hostile.c); `tools/fuzz balloon` searches on.
 *
 * Two slots of RAM are the machine's own: whatever the driver does, they keep their content.
 */
#include "balloon_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWN_PAGES 8u
#define OWN_READ_ONLY (VRIG_RAM - 64 * PAGE)
#define OWN_HIDDEN (VRIG_RAM + VRIG_RAM_SIZE + 64 * PAGE)

static struct balloon_rig b;
static struct vd_host_object *own;

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t next8(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->data++;
}

static uint32_t next32(struct input *input)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value = value << 8 | next8(input);
	return value;
}

/* Addresses that lead somewhere, or just next to it. */
static uint64_t address(struct input *input)
{
	static const uint64_t places[] = {
		VRIG_DATA, VRIG_DATA + MIB, VRIG_BUFFERS, VRIG_RAM + 0x4000, VRIG_RAM + 0x5000,
		VRIG_RAM + 0x6000, VRIG_RAM + 0x8000, VRIG_RAM + 0x10000, VRIG_RAM + 0x14000,
		VRIG_RAM - PAGE, VRIG_RAM + VRIG_RAM_SIZE - PAGE, 0, UINT64_MAX - 0xfff,
		OWN_READ_ONLY, OWN_HIDDEN, VRIG_RAM + VRIG_RAM_SIZE,
	};
	uint8_t choice = next8(input);
	uint64_t at = places[choice % 16];

	if (choice & 0x10)
		at += next8(input) * 16ull;
	if (choice & 0x20)
		at += next8(input);
	return choice == 0xff ? (uint64_t)next32(input) << 32 | next32(input) : at;
}

static void fuzz_register(struct input *input)
{
	uint8_t choice = next8(input);
	uint64_t offset = choice & 0x80 ? next32(input) % 0x4000 : choice % 64;
	size_t length = choice & 0x40 ? 8 : 1 + next8(input) % 8;
	uint64_t value = next8(input) & 1 ? address(input) : next32(input);

	if (offset + length > 0x4000)
		return;
	(void)vd_device_write(b.rig.device, 0, (vd_region_offset){offset}, &value, length);
	(void)vd_device_read(b.rig.device, 0, (vd_region_offset){offset}, &value, length);
}

static void put(uint64_t gpa, const void *data, size_t length)
{
	(void)vd_mem_write(b.rig.mem, (vd_gpa){gpa}, data, length);
}

static void fuzz_descriptor(struct input *input)
{
	uint8_t choice = next8(input);
	struct { uint64_t addr; uint32_t length; uint16_t flags, next; } desc = {
		.addr = address(input),
		.length = choice & 0x80 ? next32(input) : next8(input) * 64u,
		.flags = (choice & 0x08 ? 1 : 0) | (choice & 0x10 ? 2 : 0) |
			 ((choice & 0x67) == 0x67 ? 4 : 0),
		.next = next8(input) % 20,
	};

	put(b.rig.queues[choice % 5].desc + 16u * (next8(input) % 17), &desc, sizeof(desc));
}

static void fuzz_offer(struct input *input)
{
	unsigned queue = next8(input) % 5;
	struct vrig_queue *q = &b.rig.queues[queue];
	uint16_t head = next8(input) % 18;

	if (!q->size)
		return;
	put(q->avail + 4 + 2u * (q->available & (q->size - 1)), &head, 2);
	q->available++;
	if (next8(input) == 0xff)
		q->available = (uint16_t)next32(input);
	put(q->avail + 2, &q->available, 2);
	vrig_ring(&b.rig, queue);
}

static void fuzz_memory(struct input *input)
{
	uint64_t at = address(input);
	uint32_t words[32];

	for (int i = 0; i < 32; i++)
		words[i] = next8(input) & 1 ? (uint32_t)(address(input) / PAGE) : next32(input);
	put(at, words, sizeof(words));
}

static void fuzz_state(struct input *input)
{
	struct vd_stream stream = {.env = &b.rig.test.env}, in;

	assert_int_equal(vd_device_save(b.rig.device, &stream), 0);
	for (unsigned i = next8(input) % 4; i; i--)
		stream.data[48 + next32(input) % (stream.length - 48)] ^= next8(input);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	(void)vd_device_load(b.rig.device, &in, NULL);
	vd_stream_fini(&stream);
}

static void fuzz_rest(struct input *input)
{
	switch (next8(input) % 8) {
	case 0:
		assert_int_equal(vd_device_reset(b.rig.device, VD_RESET_FUNCTION), 0);
		break;
	case 1:
		vrig_bus_master(&b.rig, next8(input) & 1);
		break;
	case 2:
		assert_int_equal(vd_device_quiesce(b.rig.device), 0);
		vd_device_resume(b.rig.device);
		break;
	case 3:
		(void)vd_balloon_set_target(b.balloon, next32(input));
		break;
	case 4:
		fuzz_state(input);
		break;
	default:
		(void)status_of(&b);
		break;
	}
}

/* Whatever was done: the machine's own memory is as it was, and a sane driver is served. */
static void check_still_works(void)
{
	uint64_t value;

	for (unsigned i = 0; i < OWN_PAGES; i++) {
		struct vd_host_page page;

		assert_int_equal(vd_host_object_lookup(own, i * PAGE, VD_READ, &page), 0);
		memcpy(&value, vd_host_pointer(vd_host_window_base(b.rig.host), page.pfn, 12), 8);
		assert_int_equal(value, i + 1);
	}
	vrig_start(&b.rig, ALL_FEATURES | FEATURE(PAGE_POISON), 5, 16);
	mark(&b, VRIG_DATA, 4);
	send_pages(&b, BALLOON_INFLATE, VRIG_DATA + PAGE, 2);
	assert_int_equal(marked_pages(&b, VRIG_DATA, 4), 2);
}

static void add_own(uint64_t base, uint64_t offset)
{
	struct vd_slot_config slot = {
		.base = {base}, .size = OWN_PAGES / 2 * PAGE, .kind = VD_SLOT_RAM, .object = own,
		.offset = offset, .name = "own", .read_only = true,
	};

	assert_int_equal(vd_mem_add_slot(b.rig.mem, &slot, NULL, NULL), 0);
}

static void open_once(void)
{
	struct vd_host_page page;

	balloon_open(&b, 0, true);
	assert_int_equal(vd_host_ram_create(b.rig.host, "own", OWN_PAGES * PAGE, 0, &own, NULL), 0);
	for (uint64_t i = 0; i < OWN_PAGES; i++) {
		uint64_t value = i + 1;

		assert_int_equal(vd_host_object_lookup(own, i * PAGE, VD_READ | VD_WRITE, &page),
				 0);
		memcpy(vd_host_pointer(vd_host_window_base(b.rig.host), page.pfn, 12), &value, 8);
	}
	add_own(OWN_READ_ONLY, 0);
	add_own(OWN_HIDDEN, OWN_PAGES / 2 * PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	if (!b.rig.device)
		open_once();
	check_still_works();
	while (input.left > 0) {
		uint8_t choice = next8(&input);

		/* Not for ever: most is to be found in a device that runs. */
		if (choice >= 0xd0 && vrig_is_broken(&b.rig))
			check_still_works();
		switch (choice % 8) {
		case 0:
		case 1:
			fuzz_descriptor(&input);
			break;
		case 2:
		case 3:
		case 4:
			fuzz_offer(&input);
			break;
		case 5:
			fuzz_memory(&input);
			break;
		case 6:
			if (choice & 0x80)
				fuzz_register(&input);
			break;
		default:
			fuzz_rest(&input);
			break;
		}
		vd_device_poll(b.rig.device);
	}
	return 0;
}
