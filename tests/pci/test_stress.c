/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Harts and device threads at once: configuration writes that move and hide BARs, accesses to what
 * moves, interrupts, resets, a device that comes and goes. Nothing may hang; whatever is read is
 * the device's, or all ones.
 */
#include <pthread.h>

#include "rig.h"

#define ROUNDS 1500u

struct stress {
	struct rig rig;
	struct toy toys[2];
	uint64_t homes[2][TOY_BARS];
	_Atomic bool stop;
	_Atomic unsigned reads, absent;
};

struct thread {
	pthread_t id;
	struct stress *stress;
	unsigned slot;
	uint64_t random;
};

static void put_back(struct stress *s, unsigned slot)
{
	for (unsigned i = 0; i < TOY_BARS; i++)
		config_write(&s->rig, slot, PCI_BASE_ADDRESS_0 + 4 * toy_bars[i],
			     toy_bars[i] == 2 ? 8 : 4, s->homes[slot][i]);
	config_write(&s->rig, slot, PCI_COMMAND, 2, 6);
	config_write(&s->rig, slot, TOY_MSIX_CAPABILITY + PCI_MSIX_FLAGS, 2, 0x8000);
}

/* A hart whose kernel keeps changing its mind about one device. */
static void *reconfigure(void *argument)
{
	struct thread *t = argument;
	struct stress *s = t->stress;

	for (unsigned round = 0; round < ROUNDS; round++) {
		switch (test_random(&t->random) % 8) {
		case 0:
			config_write(&s->rig, t->slot, TOY_EXPRESS + PCI_EXP_DEVCTL, 2, 0x8000);
			break;
		case 1:
			config_write(&s->rig, t->slot, PCI_BASE_ADDRESS_0, 4,
				     LOW + 0x1000000 * (1 + t->slot));
			break;
		case 2:
			/* On top of the other device. */
			config_write(&s->rig, t->slot, PCI_BASE_ADDRESS_0, 4,
				     s->homes[!t->slot][0]);
			break;
		case 3:
			config_write(&s->rig, t->slot, PCI_COMMAND, 2, 4);
			break;
		default:
			break;
		}
		put_back(s, t->slot);
	}
	return NULL;
}

/* A hart that uses the devices whatever happens to them. */
static void *use(void *argument)
{
	struct thread *t = argument;
	struct stress *s = t->stress;

	while (!s->stop) {
		unsigned slot = test_random(&t->random) % 2;
		uint64_t offset = test_random(&t->random) % 0x400 * 8, value;
		uint64_t gpa = s->homes[slot][0] + offset;

		guest_write(&s->rig, s->homes[slot][0] + TOY_MSIX + 12, 4, offset >> 3 & 1);
		value = guest_read(&s->rig, gpa, 8);
		s->reads++;
		if (value == UINT64_MAX)
			s->absent++;
		else
			assert_int_equal(value, toy_value(0, offset, 8));
		config_read(&s->rig, slot, PCI_VENDOR_ID, 4);
	}
	return NULL;
}

/* A device's own thread. */
static void *interrupt(void *argument)
{
	struct thread *t = argument;
	struct stress *s = t->stress;

	while (!s->stop) {
		for (unsigned i = 0; i < 2; i++) {
			vd_device_lock(s->toys[i].device);
			vd_device_raise(s->toys[i].device, VD_IRQ_MSIX,
					test_random(&t->random) % TOY_VECTORS);
			vd_device_unlock(s->toys[i].device);
		}
	}
	return NULL;
}

/* Management: another device, plugged in and out, and resets of the bus. */
static void *manage(void *argument)
{
	struct thread *t = argument;
	struct stress *s = t->stress;
	struct toy toy;

	toy_create(&s->rig, &toy);
	for (unsigned round = 0; !s->stop; round++) {
		if (round % 64 == 63)
			vd_pci_host_reset(s->rig.pci);
		assert_int_equal(vd_pci_host_plug(s->rig.pci, toy.device, 9, NULL), 0);
		config_write(&s->rig, 9, PCI_COMMAND, 2, 6);
		guest_read(&s->rig, bar_address(&s->rig, 9, 1), 4);
		assert_int_equal(vd_pci_host_unplug(s->rig.pci, 9), 0);
	}
	vd_device_put(toy.device);
	return NULL;
}

static void test_everybody_at_once(void **state)
{
	void *(*const work[])(void *) = {reconfigure, reconfigure, use, interrupt, manage};
	struct thread threads[5];
	static struct stress s;

	(void)state;
	rig_open(&s.rig, true);
	for (unsigned i = 0; i < 2; i++) {
		toy_create(&s.rig, &s.toys[i]);
		assert_int_equal(vd_pci_host_plug(s.rig.pci, s.toys[i].device, i, NULL), 0);
		for (unsigned k = 0; k < TOY_BARS; k++)
			s.homes[i][k] = bar_address(&s.rig, i, toy_bars[k]);
		put_back(&s, i);
	}
	for (unsigned i = 0; i < 5; i++) {
		threads[i] = (struct thread){.stress = &s, .slot = i % 2, .random = i};
		assert_int_equal(pthread_create(&threads[i].id, NULL, work[i], &threads[i]), 0);
	}
	for (unsigned i = 0; i < 5; i++) {
		pthread_join(threads[i].id, NULL);
		s.stop = i >= 1;
	}
	for (unsigned i = 0; i < 2; i++) {
		put_back(&s, i);
		vd_device_put(s.toys[i].device);
	}
	check_windows(&s.rig);
	assert_true(s.reads > s.absent);
	rig_close(&s.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everybody_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
