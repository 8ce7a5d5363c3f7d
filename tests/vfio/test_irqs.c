/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts as a VFIO client sets them: the kernel's answers in a table, and what arrives where. */
#include <fcntl.h>

#include "irqs_rig.h"

static void test_info(void **state)
{
	static const uint32_t flags[VD_IRQ_COUNT] = {7, 9, 1, 9, 9};
	struct vd_irq_info info;
	struct client c;

	(void)state;
	client_open(&c);
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		assert_int_equal(vd_device_irq_info(c.device, i, &info), 0);
		assert_int_equal(info.flags, flags[i]);
		assert_int_equal(info.count, counts[i]);
	}
	assert_int_equal(vd_device_irq_info(c.device, VD_IRQ_COUNT, &info), -EINVAL);
	client_close(&c);
}

/*
 * One request each, with nothing (-1) or all vectors of @on set before; vfio-pci's errno, as
 * drivers/vfio/pci/vfio_pci_intrs.c and vfio_main.c of Linux 6.17 have it.
 */
static const struct {
	int on;
	uint32_t flags;
	unsigned index, start, count;
	int result;
} table[] = {
	/* numbers and flags */
	{-1, NONE | TRIGGER, VD_IRQ_COUNT, 0, 0, -EINVAL},
	{-1, NONE | TRIGGER, UINT32_MAX, 0, 0, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, VECTORS, 0, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, VECTORS, 1, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, 1, VECTORS, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, 1, UINT32_MAX, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, UINT32_MAX, 1, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, UINT32_MAX, UINT32_MAX, -EINVAL},
	{-1, EVENTFD | TRIGGER | 1u << 6, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{-1, EVENTFD | TRIGGER | 1u << 31, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{-1, EVENTFD | BOOL | TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{-1, EVENTFD | NONE | TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{-1, TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{-1, EVENTFD, VD_IRQ_MSIX, 0, 1, -ENOTTY},
	{-1, EVENTFD | TRIGGER | MASK, VD_IRQ_MSIX, 0, 1, -ENOTTY},
	{-1, EVENTFD | MASK | UNMASK, VD_IRQ_INTX, 0, 1, -ENOTTY},
	/* INTx */
	{-1, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1, 0},
	{-1, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 0, -EINVAL},
	{-1, NONE | TRIGGER, VD_IRQ_INTX, 0, 0, -EINVAL},
	{-1, NONE | TRIGGER, VD_IRQ_INTX, 0, 1, -EINVAL},
	{-1, NONE | UNMASK, VD_IRQ_INTX, 0, 1, -EINVAL},
	{-1, NONE | MASK, VD_IRQ_INTX, 0, 1, -EINVAL},
	{-1, EVENTFD | MASK, VD_IRQ_INTX, 0, 1, -EINVAL},
	{VD_IRQ_INTX, NONE | TRIGGER, VD_IRQ_INTX, 0, 0, 0},
	{VD_IRQ_INTX, NONE | TRIGGER, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, BOOL | TRIGGER, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, BOOL | TRIGGER, VD_IRQ_INTX, 0, 0, -EINVAL},
	{VD_IRQ_INTX, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, NONE | MASK, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, NONE | MASK, VD_IRQ_INTX, 0, 0, -EINVAL},
	{VD_IRQ_INTX, BOOL | MASK, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, EVENTFD | MASK, VD_IRQ_INTX, 0, 1, -ENOTTY},
	{VD_IRQ_INTX, NONE | UNMASK, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, BOOL | UNMASK, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, EVENTFD | UNMASK, VD_IRQ_INTX, 0, 1, 0},
	{VD_IRQ_INTX, EVENTFD | TRIGGER, VD_IRQ_MSI, 0, 1, -EINVAL},
	{VD_IRQ_INTX, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{VD_IRQ_INTX, NONE | TRIGGER, VD_IRQ_MSIX, 0, 0, -EINVAL},
	/* MSI, enabled with all four vectors */
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSI, 0, 1, 0},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSI, 3, 1, 0},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSI, 0, 0, -ERANGE},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSI, 2, 0, 0},
	{-1, NONE | TRIGGER, VD_IRQ_MSI, 0, 0, -EINVAL},
	{-1, NONE | TRIGGER, VD_IRQ_MSI, 0, 4, -EINVAL},
	{-1, NONE | MASK, VD_IRQ_MSI, 0, 1, -ENOTTY},
	{VD_IRQ_MSI, NONE | MASK, VD_IRQ_MSI, 0, 1, -ENOTTY},
	{VD_IRQ_MSI, EVENTFD | UNMASK, VD_IRQ_MSI, 0, 1, -ENOTTY},
	{VD_IRQ_MSI, NONE | TRIGGER, VD_IRQ_MSI, 0, 0, 0},
	{VD_IRQ_MSI, NONE | TRIGGER, VD_IRQ_MSI, 0, 4, 0},
	{VD_IRQ_MSI, NONE | TRIGGER, VD_IRQ_MSI, 0, 5, -EINVAL},
	{VD_IRQ_MSI, BOOL | TRIGGER, VD_IRQ_MSI, 1, 3, 0},
	{VD_IRQ_MSI, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{VD_IRQ_MSI, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1, -EINVAL},
	/* MSI-X */
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, VECTORS, 0},
	{-1, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 0, -ERANGE},
	{-1, BOOL | TRIGGER, VD_IRQ_MSIX, 0, 1, -EINVAL},
	{VD_IRQ_MSIX, NONE | UNMASK, VD_IRQ_MSIX, 0, 1, -ENOTTY},
	{VD_IRQ_MSIX, EVENTFD | TRIGGER, VD_IRQ_MSI, 0, 1, -EINVAL},
	{VD_IRQ_MSIX, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1, -EINVAL},
	{VD_IRQ_MSIX, NONE | TRIGGER, VD_IRQ_INTX, 0, 0, -EINVAL},
	{VD_IRQ_MSIX, NONE | TRIGGER, VD_IRQ_MSIX, 0, 0, 0},
	{VD_IRQ_MSIX, EVENTFD | TRIGGER, VD_IRQ_MSIX, 2, 0, 0},
	/* ERR and REQ go with any of them */
	{-1, EVENTFD | TRIGGER, VD_IRQ_ERR, 0, 1, 0},
	{-1, NONE | TRIGGER, VD_IRQ_ERR, 0, 0, -EINVAL},
	{-1, NONE | TRIGGER, VD_IRQ_ERR, 0, 1, -EINVAL},
	{-1, BOOL | TRIGGER, VD_IRQ_ERR, 0, 1, 0},
	{-1, BOOL | TRIGGER, VD_IRQ_ERR, 0, 0, -EINVAL},
	{-1, EVENTFD | TRIGGER, VD_IRQ_ERR, 0, 0, -EINVAL},
	{-1, EVENTFD | MASK, VD_IRQ_ERR, 0, 1, -ENOTTY},
	{-1, NONE | UNMASK, VD_IRQ_REQ, 0, 1, -ENOTTY},
	{VD_IRQ_MSIX, EVENTFD | TRIGGER, VD_IRQ_REQ, 0, 1, 0},
	{VD_IRQ_REQ, NONE | TRIGGER, VD_IRQ_REQ, 0, 1, 0},
	{VD_IRQ_REQ, NONE | TRIGGER, VD_IRQ_REQ, 0, 0, 0},
	{VD_IRQ_REQ, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1, 0},
};

static void test_table(void **state)
{
	struct client c;

	(void)state;
	client_open(&c);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r;

		vd_device_clear_irqs(c.device);
		if (table[i].on >= 0)
			assert_int_equal(set(&c, EVENTFD | TRIGGER, (unsigned)table[i].on, 0,
					     counts[table[i].on]), 0);
		r = set(&c, table[i].flags, table[i].index, table[i].start, table[i].count);
		if (r != table[i].result)
			fail_msg("case %zu: %d, not %d", i, r, table[i].result);
	}
	client_close(&c);
}

/* An index that the device does not have. */
static void test_absent(void **state)
{
	struct vd_irq_info info;
	struct rig rig;

	(void)state;
	rig_open(&rig); /* has INTx and MSI-X */
	assert_int_equal(vd_device_irq_info(rig.adder.device, VD_IRQ_MSI, &info), 0);
	assert_int_equal(info.count, 0);
	/* As the kernel: QEMU takes success for an error interrupt that is broken. */
	assert_int_equal(vd_device_irq_info(rig.adder.device, VD_IRQ_ERR, &info), -EINVAL);
	assert_int_equal(vd_device_irq_info(rig.adder.device, VD_IRQ_REQ, &info), -EINVAL);
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
		assert_int_equal(vd_device_set_irqs(rig.adder.device, EVENTFD | TRIGGER, i, 0, 1,
						    NULL, NULL),
				 i == VD_IRQ_INTX ? 0 : -EINVAL);
	vd_device_clear_irqs(rig.adder.device);
	assert_int_equal(vd_device_set_irqs(rig.adder.device, NONE | TRIGGER, VD_IRQ_ERR, 0, 0,
					    NULL, NULL), -EINVAL);
	rig_close(&rig);
}

static void test_descriptors(void **state)
{
	int pipes[2], fds[3], file;
	struct client c;

	(void)state;
	client_open(&c);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	file = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 2), 0);
	fds[0] = c.fds[VD_IRQ_MSIX][3];
	fds[1] = pipes[1];
	fds[2] = 99999;
	/* the good one is not taken either, and what was there still works */
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 2, NULL,
					    fds), -EINVAL);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSIX, 1, 1, NULL,
					    &file), -EINVAL);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSIX, 1, 1, NULL,
					    &fds[2]), -EBADF);
	raise_one(&c, VD_IRQ_MSIX, 0);
	raise_one(&c, VD_IRQ_MSIX, 1);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 0), 1);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 1), 1);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 3), 0);
	/* they are duplicates */
	close(c.fds[VD_IRQ_MSIX][0]);
	raise_one(&c, VD_IRQ_MSIX, 0);
	c.fds[VD_IRQ_MSIX][0] = -1;
	close(pipes[0]);
	close(pipes[1]);
	close(file);
	client_close(&c);
}

/* Each allocation and each descriptor that fails leaves all as it was. */
static void test_faults(void **state)
{
	struct client c;
	long step = 0;
	int r;

	(void)state;
	client_open(&c);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 2), 0);
	do {
		test_env_fail(&c.rig.f.test, ++step, -ENOMEM);
		r = vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 2, NULL,
				       &c.fds[VD_IRQ_MSIX][2]);
		raise_one(&c, VD_IRQ_MSIX, 0);
		assert_int_equal(arrived(&c, VD_IRQ_MSIX, r ? 0 : 2), 1);
		assert_int_equal(arrived(&c, VD_IRQ_MSIX, r ? 2 : 0), 0);
		if (r)
			assert_int_equal(r, -ENOMEM);
	} while (test_env_failed(&c.rig.f.test));
	assert_int_equal(r, 0);
	assert_int_equal(step, 4);
	client_close(&c);
}

/* Sub-ranges are set and cleared, the others stay. */
static void test_sub_ranges(void **state)
{
	static const uint8_t bools[3] = {1, 0, 1};
	struct client c;

	(void)state;
	client_open(&c);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, VECTORS), 0);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSIX, 2, 2, NULL,
					    NULL), 0);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_MSIX, 0, VECTORS), 0);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_int_equal(arrived(&c, VD_IRQ_MSIX, i), i != 2 && i != 3);
	assert_int_equal(vd_device_set_irqs(c.device, BOOL | TRIGGER, VD_IRQ_MSIX, 3, 3, bools,
					    NULL), 0);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_int_equal(arrived(&c, VD_IRQ_MSIX, i), i == 5);
	assert_int_equal(vd_device_set_irqs(c.device, BOOL | TRIGGER, VD_IRQ_MSIX, 3, 3, NULL,
					    NULL), -EINVAL);
	client_close(&c);
}

/* MSI has what it was enabled with; MSI-X grows. */
static void test_growth(void **state)
{
	struct client c;

	(void)state;
	client_open(&c);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSI, 0, 2), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSI, 1, 2), -EINVAL);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | TRIGGER, VD_IRQ_MSI, 2, 2, NULL,
					    NULL), 0);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_MSI, 0, 4), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(arrived(&c, VD_IRQ_MSI, i), i < 2);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_MSI, 0, 0), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 1), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 5, 1), 0);
	raise_one(&c, VD_IRQ_MSIX, 5);
	raise_one(&c, VD_IRQ_MSI, 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 5), 1);
	assert_int_equal(arrived(&c, VD_IRQ_MSI, 0), 0);
	client_close(&c);
}

/* A vector without a descriptor is masked: MSI-X keeps what it missed, until it is off. */
static void test_pending(void **state)
{
	struct client c;

	(void)state;
	client_open(&c);
	raise_one(&c, VD_IRQ_MSIX, 0); /* not on */
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 0), 0);
	raise_one(&c, VD_IRQ_MSIX, 1);
	raise_one(&c, VD_IRQ_MSIX, 1);
	raise_one(&c, VD_IRQ_MSIX, 2);
	raise_one(&c, VD_IRQ_MSI, 1); /* another index */
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 2), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 0), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 1), 1);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 1, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 1), 0);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_MSIX, 0, 0), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 3), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 2), 0);
	raise_one(&c, VD_IRQ_MSIX, 4);
	assert_int_equal(vd_device_reset(c.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 4, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 4), 0);
	raise_one(&c, VD_IRQ_MSIX, 4); /* a reset leaves what the client has set */
	assert_int_equal(arrived(&c, VD_IRQ_MSIX, 4), 1);
	client_close(&c);
}

/* Masked by firing; fires again when unmasked while asserted. */
static void test_level(void **state)
{
	struct client c;

	(void)state;
	client_open(&c);
	set_level(&c, true);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1); /* as it is asserted already */
	set_level(&c, false);
	set_level(&c, true);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	assert_int_equal(set(&c, NONE | UNMASK, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	assert_int_equal(set(&c, BOOL | UNMASK, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	set_level(&c, false);
	assert_int_equal(set(&c, NONE | UNMASK, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	assert_int_equal(set(&c, NONE | MASK, VD_IRQ_INTX, 0, 1), 0);
	set_level(&c, true);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_INTX, 0, 1), 0); /* loop-back */
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	assert_int_equal(set(&c, NONE | UNMASK, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	client_close(&c);
}

/* The command register's bit: masks, also what is set later, and fires again when it goes. */
static void test_intx_disable(void **state)
{
	struct client c;

	(void)state;
	client_open(&c);
	disable_intx(&c, true);
	set_level(&c, true);
	assert_true(vd_device_asserted(c.device));
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(set(&c, NONE | UNMASK, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(set(&c, NONE | TRIGGER, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	disable_intx(&c, false);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	disable_intx(&c, false);
	disable_intx(&c, true);
	disable_intx(&c, true);
	disable_intx(&c, false);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	set_level(&c, false);
	disable_intx(&c, true);
	disable_intx(&c, false);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	set_level(&c, true);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	client_close(&c);
}

static void test_unmask_eventfd(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;
	struct client c;

	(void)state;
	client_open(&c);
	assert_int_equal(vd_device_unmask_fd(c.device), -1);
	vd_device_unmask_poll(c.device);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1), 0);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | UNMASK, VD_IRQ_INTX, 0, 1, NULL,
					    &fd), 0);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | UNMASK, VD_IRQ_INTX, 0, 1, NULL,
					    &fd), -EBUSY);
	assert_true(vd_device_unmask_fd(c.device) >= 0);
	set_level(&c, true);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	vd_device_unmask_poll(c.device); /* does not wait, though the descriptor would */
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 0);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	vd_device_unmask_poll(c.device);
	vd_device_unmask_poll(c.device);
	assert_int_equal(arrived(&c, VD_IRQ_INTX, 0), 1);
	assert_int_equal(vd_device_set_irqs(c.device, EVENTFD | UNMASK, VD_IRQ_INTX, 0, 1, NULL,
					    NULL), 0);
	assert_int_equal(vd_device_unmask_fd(c.device), -1);
	close(fd);
	client_close(&c);
}

/* What was pending moves with the device; what a client has set does not. */
static void test_saved_state(void **state)
{
	struct vd_stream stream, in;
	struct client from, to;

	(void)state;
	client_open(&from);
	client_open(&to);
	stream = (struct vd_stream){.env = from.rig.f.env};
	assert_int_equal(set(&from, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, 1), 0);
	raise_one(&from, VD_IRQ_MSIX, 3);
	raise_one(&from, VD_IRQ_MSIX, 5);
	set_level(&from, true);
	assert_int_equal(vd_device_save(from.device, &stream), 0);
	assert_int_equal(set(&to, EVENTFD | TRIGGER, VD_IRQ_MSIX, 2, 2), 0);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(to.device, &in, NULL), 0);
	assert_int_equal(arrived(&to, VD_IRQ_MSIX, 2), 0);
	assert_int_equal(arrived(&to, VD_IRQ_MSIX, 3), 1);
	assert_true(vd_device_asserted(to.device));
	assert_int_equal(set(&to, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, VECTORS), 0);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_int_equal(arrived(&to, VD_IRQ_MSIX, i), i == 5);
	/* the level arrives at who has INTx */
	vd_device_clear_irqs(to.device);
	set_level(&to, false);
	assert_int_equal(set(&to, EVENTFD | TRIGGER, VD_IRQ_INTX, 0, 1), 0);
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(to.device, &in, NULL), 0);
	assert_int_equal(arrived(&to, VD_IRQ_INTX, 0), 1);
	vd_stream_fini(&stream);
	client_close(&from);
	client_close(&to);
}

static void test_saved_state_refusals(void **state)
{
	struct vd_stream stream, in;
	struct client c;

	(void)state;
	client_open(&c);
	stream = (struct vd_stream){.env = c.rig.f.env};
	assert_int_equal(vd_device_save(c.device, &stream), 0);
	/* behind magic and name: asserted, words, six vectors */
	static const struct { size_t at; uint8_t value; } bad[] = {
		{40, 2}, {47, 1}, {48, 0}, {48, 2}, {56, 0x40}, {63, 0x80},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vd_error error = {.text = ""};
		uint8_t good = stream.data[bad[i].at];

		stream.data[bad[i].at] = bad[i].value;
		in = (struct vd_stream){.data = stream.data, .length = stream.length};
		assert_int_equal(vd_device_load(c.device, &in, &error), -EINVAL);
		assert_non_null(strstr(error.text, "interrupts"));
		stream.data[bad[i].at] = good;
	}
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(c.device, &in, NULL), 0);
	vd_stream_fini(&stream);
	client_close(&c);
}

static void sink_count(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	(void)index;
	(void)vector;
	*(int *)context += level ? 1 : -100;
}

/* One listener an index. */
static void test_sinks(void **state)
{
	struct client c;
	int told = 0;

	(void)state;
	client_open(&c);
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		assert_int_equal(vd_device_set_sink(c.device, i, sink_count, &told), 0);
		assert_int_equal(set(&c, EVENTFD | TRIGGER, i, 0, 1), -EBUSY);
		assert_int_equal(vd_device_set_sink(c.device, i, NULL, NULL), 0);
		assert_int_equal(set(&c, EVENTFD | TRIGGER, i, 0, 1), 0);
		assert_int_equal(vd_device_set_sink(c.device, i, sink_count, &told), -EBUSY);
		assert_int_equal(vd_device_set_sink(c.device, i, NULL, NULL), 0);
		raise_one(&c, i, 0);
		assert_int_equal(arrived(&c, i, 0), 1);
		vd_device_clear_irqs(c.device);
	}
	assert_int_equal(told, 0);
	/* a sink sees INTx lowered while the command register disables it */
	vd_device_lock(c.device);
	vd_device_lower(c.device);
	vd_device_unlock(c.device);
	assert_int_equal(vd_device_set_sink(c.device, VD_IRQ_INTX, sink_count, &told), 0);
	set_level(&c, true);
	assert_int_equal(told, 1);
	disable_intx(&c, true);
	assert_int_equal(told, -99);
	set_level(&c, false);
	set_level(&c, true);
	assert_int_equal(vd_device_set_sink(c.device, VD_IRQ_INTX, sink_count, &told), 0);
	assert_int_equal(told, -99);
	disable_intx(&c, false);
	assert_int_equal(told, -98);
	client_close(&c);
}

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	/* Earlier tests' memory goes after a grace period, and what that deferred after another. */
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Nothing stays behind: not of a client that goes, nor of a device that does. */
static void test_clear(void **state)
{
	unsigned before;
	struct client c;

	(void)state;
	client_open(&c);
	before = open_descriptors();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(set(&c, EVENTFD | TRIGGER, i, 0, counts[i]), 0);
		assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_ERR, 0, 1), 0);
		assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_REQ, 0, 1), 0);
		if (i == VD_IRQ_INTX)
			assert_int_equal(set(&c, EVENTFD | UNMASK, i, 0, 1), 0);
		vd_device_clear_irqs(c.device);
		assert_int_equal(open_descriptors(), before);
		raise_one(&c, i, 0);
		assert_int_equal(arrived(&c, i, 0), 0);
	}
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_MSIX, 0, VECTORS), 0);
	assert_int_equal(set(&c, EVENTFD | TRIGGER, VD_IRQ_REQ, 0, 1), 0);
	client_close(&c);
	client_open(&c);
	assert_int_equal(open_descriptors(), before);
	client_close(&c);
}

static void test_too_many(void **state)
{
	static const unsigned most[VD_IRQ_COUNT] = {1, VD_IRQ_VECTORS_MAX, VD_IRQ_VECTORS_MAX, 1, 1};
	struct vd_device_config config;
	struct vd_error error;
	struct vd_device *device;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	config = adder_config(&rig.f, &rig.adder);
	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		unsigned irqs[VD_IRQ_COUNT];

		memcpy(irqs, most, sizeof(irqs));
		config.irqs = irqs;
		irqs[i]++;
		error = (struct vd_error){.text = ""};
		assert_int_equal(vd_device_create(&config, &device, &error), -EINVAL);
		assert_true(error.text[0]);
		irqs[i] = UINT32_MAX;
		assert_int_equal(vd_device_create(&config, &device, NULL), -EINVAL);
	}
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_sub_ranges),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_intx_disable),
		cmocka_unit_test(test_unmask_eventfd),
		cmocka_unit_test(test_saved_state),
		cmocka_unit_test(test_saved_state_refusals),
		cmocka_unit_test(test_sinks),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
