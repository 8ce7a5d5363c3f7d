/* SPDX-License-Identifier: BSD-2-Clause */
#include "adder.h"

struct sink {
	unsigned calls;
	enum vd_irq_index index;
	unsigned vector;
	bool level;
};

static void sink_note(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct sink *sink = context;

	*sink = (struct sink){sink->calls + 1, index, vector, level};
}

static void raise_locked(struct rig *rig, enum vd_irq_index index, unsigned vector)
{
	vd_device_lock(rig->adder.device);
	vd_device_raise(rig->adder.device, index, vector);
	vd_device_unlock(rig->adder.device);
}

static void test_edges(void **state)
{
	struct sink sink = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	raise_locked(&rig, VD_IRQ_MSIX, 1); /* nobody listens */
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_MSIX, sink_note, &sink), 0);
	assert_int_equal(sink.calls, 0);
	raise_locked(&rig, VD_IRQ_MSIX, 3);
	raise_locked(&rig, VD_IRQ_MSIX, 3);
	assert_int_equal(sink.calls, 2);
	assert_int_equal(sink.index, VD_IRQ_MSIX);
	assert_int_equal(sink.vector, 3);
	assert_true(sink.level);
	/* what the device does not have cannot fire */
	raise_locked(&rig, VD_IRQ_MSIX, 4);
	raise_locked(&rig, VD_IRQ_MSIX, UINT32_MAX);
	raise_locked(&rig, VD_IRQ_MSI, 0);
	raise_locked(&rig, VD_IRQ_COUNT, 0);
	raise_locked(&rig, (enum vd_irq_index)-1, 0);
	assert_int_equal(sink.calls, 2);
	assert_int_equal(rig_stats(&rig).interrupts, 3);
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_MSIX, NULL, NULL), 0);
	raise_locked(&rig, VD_IRQ_MSIX, 0);
	assert_int_equal(sink.calls, 2);
	rig_close(&rig);
}

/* Index tables are apart: INTx does not go where MSI-X goes. */
static void test_level(void **state)
{
	struct sink intx = {0}, msix = {0}, late = {0};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_INTX, sink_note, &intx), 0);
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_MSIX, sink_note, &msix), 0);
	assert_int_equal(rig_write(&rig, 6, 1), 0);
	assert_int_equal(rig_write(&rig, 6, 1), 0);
	assert_int_equal(intx.calls, 1);
	assert_true(intx.level);
	/* who comes late hears of it; a level does not get lost */
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_INTX, sink_note, &late), 0);
	assert_int_equal(late.calls, 1);
	assert_true(late.level);
	assert_int_equal(rig_write(&rig, 6, 0), 0);
	assert_int_equal(rig_write(&rig, 6, 0), 0);
	assert_int_equal(late.calls, 2);
	assert_false(late.level);
	assert_int_equal(rig_write(&rig, 6, 1), 0);
	assert_int_equal(vd_device_reset(rig.adder.device, VD_RESET_BUS), 0);
	assert_int_equal(late.calls, 4);
	assert_false(late.level);
	assert_int_equal(intx.calls, 1);
	assert_int_equal(msix.calls, 0);
	rig_close(&rig);
}

static void test_counts(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_device_irq_count(rig.adder.device, VD_IRQ_INTX), 1);
	assert_int_equal(vd_device_irq_count(rig.adder.device, VD_IRQ_MSIX), 4);
	assert_int_equal(vd_device_irq_count(rig.adder.device, VD_IRQ_MSI), 0);
	assert_int_equal(vd_device_irq_count(rig.adder.device, VD_IRQ_COUNT), 0);
	assert_int_equal(vd_device_set_sink(rig.adder.device, VD_IRQ_COUNT, sink_note, NULL),
			 -EINVAL);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
