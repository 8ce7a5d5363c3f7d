/* SPDX-License-Identifier: BSD-2-Clause */
/* MSI as the bridge emulates it: by itself in all four forms, and through configuration space. */
#include "rig.h"

#include "pci/msi.h"

#define ADDRESS UINT64_C(0x128000040)
#define DATA 0x4560u
#define CAPABILITY 0x54u /* behind power management and MSI-X */
#define SLOT 3u

struct bench {
	struct test_env test;
	struct vd_pci_msi msi;
	_Atomic uint64_t messages, dropped;
	unsigned sent[VD_PCI_MSI_MAX];
	uint64_t address;
	uint8_t registers[VD_PCI_MSI_BYTES];
};

static void deliver(void *context, uint64_t address, uint32_t data)
{
	struct bench *b = context;

	assert_int_equal(data & ~31u, DATA);
	b->sent[data & 31]++;
	b->address = address;
}

static bool wide(const struct bench *b)
{
	return b->msi.control & PCI_MSI_FLAGS_64BIT;
}

static bool maskable(const struct bench *b)
{
	return b->msi.control & PCI_MSI_FLAGS_MASKBIT;
}

static void bench_open(struct bench *b, unsigned count, unsigned control)
{
	memset(b, 0, sizeof(*b));
	test_env_init(&b->test);
	b->msi = (struct vd_pci_msi){
		.msi = deliver, .context = b, .messages = &b->messages, .dropped = &b->dropped,
		.count = count, .control = control,
	};
	vd_pci_msi_init(&b->msi, &b->test.env);
	vd_pci_put32(b->registers + PCI_MSI_ADDRESS_LO, (uint32_t)ADDRESS);
	if (wide(b))
		vd_pci_put32(b->registers + PCI_MSI_ADDRESS_HI, ADDRESS >> 32);
	vd_pci_put16(b->registers + (wide(b) ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), DATA);
}

static void bench_close(struct bench *b)
{
	vd_pci_msi_fini(&b->msi);
	assert_int_equal(b->test.blocks, 0);
}

/* @order: log2 of the vectors given */
static void program(struct bench *b, bool enabled, unsigned order, uint32_t mask)
{
	vd_pci_put16(b->registers + PCI_MSI_FLAGS, b->msi.control | enabled | order << 4);
	if (maskable(b))
		vd_pci_put32(b->registers + (wide(b) ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), mask);
	vd_pci_msi_update(&b->msi, b->registers);
}

static void raise_vector(struct bench *b, unsigned vector)
{
	vd_pci_msi_sink(&b->msi, VD_IRQ_MSI, vector, true);
}

static void test_lengths(void **state)
{
	(void)state;
	assert_int_equal(vd_pci_msi_bytes(0), 10);
	assert_int_equal(vd_pci_msi_bytes(PCI_MSI_FLAGS_64BIT), 14);
	assert_int_equal(vd_pci_msi_bytes(PCI_MSI_FLAGS_MASKBIT), 20);
	assert_int_equal(vd_pci_msi_bytes(PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT), 24);
}

static void test_every_form(void **state)
{
	(void)state;
	for (unsigned form = 0; form < 4; form++) {
		unsigned control = (form & 1 ? PCI_MSI_FLAGS_64BIT : 0) |
				   (form & 2 ? PCI_MSI_FLAGS_MASKBIT : 0);
		struct bench b;

		bench_open(&b, 4, control);
		raise_vector(&b, 0);
		assert_int_equal(b.dropped, 1);
		program(&b, true, 2, 4);
		raise_vector(&b, 1); /* waits for bus mastering */
		raise_vector(&b, 2);
		assert_int_equal(b.messages, 0);
		assert_int_equal(vd_pci_msi_pending(&b.msi), form & 2 ? 6 : 0);
		vd_pci_msi_bus_master(&b.msi, true);
		assert_int_equal(b.sent[1], 1);
		assert_int_equal(b.sent[2], form & 2 ? 0 : 1); /* masked, if it can be */
		assert_int_equal(b.address, form & 1 ? ADDRESS : (uint32_t)ADDRESS);
		program(&b, true, 2, 0);
		assert_int_equal(b.sent[2], 1);
		assert_int_equal(vd_pci_msi_pending(&b.msi), 0);
		raise_vector(&b, 4); /* it has four */
		vd_pci_msi_sink(&b.msi, VD_IRQ_MSI, 0, false);
		assert_int_equal(b.messages, 2);
		/* fewer given than asked for */
		program(&b, true, 1, 0);
		raise_vector(&b, 3);
		assert_int_equal(b.sent[1], 2);
		/* more than asked for */
		program(&b, true, 7, 0);
		raise_vector(&b, 3);
		assert_int_equal(b.sent[3], 1);
		bench_close(&b);
	}
}

static void test_switched_off_means_lost(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, 2, PCI_MSI_FLAGS_MASKBIT);
	vd_pci_msi_bus_master(&b.msi, true);
	program(&b, true, 1, 3);
	raise_vector(&b, 0);
	program(&b, false, 1, 3);
	program(&b, true, 1, 0);
	assert_int_equal(b.messages, 0);
	program(&b, true, 1, 3);
	raise_vector(&b, 0);
	vd_pci_msi_reset(&b.msi);
	assert_int_equal(vd_pci_msi_pending(&b.msi), 0);
	vd_pci_msi_bus_master(&b.msi, true);
	raise_vector(&b, 0);
	assert_int_equal(b.messages, 0);
	assert_int_equal(b.dropped, 1);
	bench_close(&b);
}

static void test_saved_state(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()}, in;
	struct bench from, to, other, none;

	(void)state;
	bench_open(&from, 8, PCI_MSI_FLAGS_MASKBIT);
	bench_open(&to, 8, PCI_MSI_FLAGS_MASKBIT);
	bench_open(&other, 4, PCI_MSI_FLAGS_MASKBIT);
	bench_open(&none, 0, 0);
	vd_pci_msi_bus_master(&from.msi, true);
	program(&from, true, 3, 0xff);
	raise_vector(&from, 5);
	vd_pci_msi_save(&from.msi, &stream);
	vd_pci_msi_save(&none.msi, &stream);
	vd_pci_msi_bus_master(&to.msi, true);
	program(&to, true, 3, 0x0f); /* as the function's registers say by then */
	for (size_t length = 0; length < 16; length++) {
		in = (struct vd_stream){.data = stream.data, .length = length};
		assert_false(vd_pci_msi_load(&to.msi, &in, true));
	}
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_false(vd_pci_msi_load(&other.msi, &in, true));
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_true(vd_pci_msi_load(&to.msi, &in, false));
	assert_true(vd_pci_msi_load(&none.msi, &in, true));
	assert_int_equal(to.messages, 0);
	in.position = 0;
	assert_true(vd_pci_msi_load(&to.msi, &in, true));
	assert_int_equal(to.sent[5], 1);
	stream.data[8 + 1] = 1; /* a vector that it does not have */
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_false(vd_pci_msi_load(&to.msi, &in, false));
	vd_stream_fini(&stream);
	bench_close(&from);
	bench_close(&to);
	bench_close(&other);
	bench_close(&none);
}

/* Against a model: nothing is lost while enabled, nothing comes twice. */
static void test_random_steps(void **state)
{
	struct { bool on, master; unsigned order; uint32_t mask, pending; } m = {0};
	unsigned sent[8] = {0};
	struct bench b;

	(void)state;
	test_start(3);
	bench_open(&b, 8, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned vector = below(8);

		if (below(3)) {
			raise_vector(&b, vector);
			vector &= (1u << m.order) - 1;
			if (m.on)
				m.pending |= UINT32_C(1) << vector;
			if (m.on && m.master && !(m.mask >> vector & 1))
				sent[vector]++;
		} else if (below(2)) {
			m.master = below(4);
			vd_pci_msi_bus_master(&b.msi, m.master);
		} else {
			m.on = below(4);
			m.order = below(4);
			m.mask = below(256);
			program(&b, m.on, m.order, m.mask);
		}
		for (unsigned i = 0; i < 8; i++) {
			if (!m.on)
				m.pending = 0;
			if (!(m.pending >> i & 1) || !m.on || !m.master || m.mask >> i & 1)
				continue;
			m.pending &= ~(UINT32_C(1) << i);
			if (b.sent[i] == sent[i] + 1) /* one that had waited */
				sent[i]++;
		}
		assert_int_equal(vd_pci_msi_pending(&b.msi), m.pending);
		assert_memory_equal(b.sent, sent, sizeof(sent));
	}
	bench_close(&b);
}

/* ---- through configuration space ---- */

static void raise_toy(struct toy *toy, unsigned vector)
{
	vd_device_lock(toy->device);
	vd_device_raise(toy->device, VD_IRQ_MSI, vector);
	vd_device_unlock(toy->device);
}

static void plug(struct rig *rig, struct toy *toy, bool mask)
{
	struct vd_pci_function_config config;

	memset(toy, 0, sizeof(*toy));
	config = toy_config(rig, toy);
	config.msi_vectors = 4;
	config.msi_maskable = mask;
	assert_int_equal(vd_pci_function_create(&config, &toy->device, NULL), 0);
	assert_int_equal(vd_pci_host_plug(rig->pci, toy->device, SLOT, NULL), 0);
	vd_device_put(toy->device);
}

static void test_a_guest_sets_it_up(void **state)
{
	struct toy toy;
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	plug(&rig, &toy, true);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY, 1), PCI_CAP_ID_MSI);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2),
			 PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1);
	config_write(&rig, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_ADDRESS_LO, 4, 0x28000003);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_ADDRESS_HI, 4, 1);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_DATA_64, 2, 0x70);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_MASK_64, 4, UINT32_MAX);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_MASK_64, 4), 0xf);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);
	raise_toy(&toy, 2);
	assert_int_equal(rig.messages, 0);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_PENDING_64, 4), 4);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_PENDING_64 + 1, 1), 0);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_MASK_64, 8),
			 UINT64_C(0x40000000f));
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_MASK_64, 1, 0xb);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(rig.address, UINT64_C(0x128000000));
	assert_int_equal(rig.data, 0x72);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2, 0);
	raise_toy(&toy, 2);
	assert_int_equal(rig.messages, 1);
	/* reset by the guest */
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	config_write(&rig, SLOT, CAPABILITY + VD_PCI_MSI_BYTES + PCI_EXP_DEVCTL, 2,
		     PCI_EXP_DEVCTL_BCR_FLR);
	raise_toy(&toy, 2);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(config_read(&rig, SLOT, CAPABILITY + PCI_MSI_ADDRESS_LO, 8), 0);
	/* and of the bus */
	config_write(&rig, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	config_write(&rig, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	raise_toy(&toy, 0);
	assert_int_equal(rig.messages, 2);
	vd_pci_host_reset(rig.pci);
	raise_toy(&toy, 0);
	assert_int_equal(rig.messages, 2);
	rig_close(&rig);
}

/* Saved with one pending, loaded into another machine. */
static void test_moves_to_another_machine(void **state)
{
	struct vd_stream stream = {.env = vd_env_hosted()};
	struct rig from, to;
	struct toy a, b;

	(void)state;
	rig_open(&from, true);
	rig_open(&to, true);
	plug(&from, &a, true);
	plug(&to, &b, true);
	config_write(&from, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	config_write(&from, SLOT, CAPABILITY + PCI_MSI_ADDRESS_LO, 4, 0x28000000);
	config_write(&from, SLOT, CAPABILITY + PCI_MSI_MASK_64, 4, 1);
	config_write(&from, SLOT, CAPABILITY + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	raise_toy(&a, 3);
	assert_int_equal(vd_device_save(a.device, &stream), 0);
	assert_int_equal(vd_pci_host_save(from.pci, &stream), 0);
	stream.position = 0;
	assert_int_equal(vd_device_load(b.device, &stream, NULL), 0);
	assert_int_equal(vd_pci_host_load(to.pci, &stream, NULL), 0);
	assert_int_equal(to.messages, 0);
	config_write(&to, SLOT, CAPABILITY + PCI_MSI_MASK_64, 4, 0);
	assert_int_equal(to.messages, 1);
	assert_int_equal(to.address, 0x28000000);
	assert_int_equal(from.messages, 0);
	vd_stream_fini(&stream);
	rig_close(&from);
	rig_close(&to);
}

/* A device whose interrupts a VFIO client has already cannot be plugged in. */
static void test_somebody_elses(void **state)
{
	struct vd_pci_function_config config;
	struct vd_error error = {.text = ""};
	struct toy toy = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig, true);
	config = toy_config(&rig, &toy);
	config.msi_vectors = 1;
	assert_int_equal(vd_pci_function_create(&config, &toy.device, NULL), 0);
	/* MSI set to nothing: DATA_EVENTFD, ACTION_TRIGGER */
	assert_int_equal(vd_device_set_irqs(toy.device, 1 << 2 | 1 << 5, VD_IRQ_MSI, 0, 1, NULL,
					    NULL), 0);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, SLOT, &error), -EBUSY);
	assert_true(error.text[0]);
	/* nothing is left connected */
	vd_device_clear_irqs(toy.device);
	assert_int_equal(vd_device_set_irqs(toy.device, 1 << 2 | 1 << 5, VD_IRQ_MSIX, 0, 1, NULL,
					    NULL), 0);
	vd_device_clear_irqs(toy.device);
	assert_int_equal(vd_pci_host_plug(rig.pci, toy.device, SLOT, NULL), 0);
	assert_int_equal(vd_device_set_irqs(toy.device, 1 << 2 | 1 << 5, VD_IRQ_MSI, 0, 1, NULL,
					    NULL), -EBUSY);
	assert_int_equal(vd_pci_host_unplug(rig.pci, SLOT), 0);
	assert_int_equal(vd_device_set_irqs(toy.device, 1 << 2 | 1 << 5, VD_IRQ_MSI, 0, 1, NULL,
					    NULL), 0);
	vd_device_put(toy.device);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_every_form),
		cmocka_unit_test(test_switched_off_means_lost),
		cmocka_unit_test(test_saved_state),
		cmocka_unit_test_teardown(test_random_steps, test_seed_print),
		cmocka_unit_test(test_a_guest_sets_it_up),
		cmocka_unit_test(test_moves_to_another_machine),
		cmocka_unit_test(test_somebody_elses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
