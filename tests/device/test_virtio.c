/* SPDX-License-Identifier: BSD-2-Clause */
/* The transport: capabilities, registers, negotiation, reset, state. */
#include <pthread.h>

#include <linux/pci_regs.h>

#include "virtio_toy.h"

static uint64_t config_read(struct vrig *rig, uint64_t offset, size_t length)
{
	uint64_t value = 0;

	assert_int_equal(vd_device_read(rig->device, VD_REGION_CONFIG, (vd_region_offset){offset},
					&value, length), 0);
	return value;
}

static void config_write(struct vrig *rig, uint64_t offset, size_t length, uint64_t value)
{
	assert_int_equal(vd_device_write(rig->device, VD_REGION_CONFIG, (vd_region_offset){offset},
					 &value, length), 0);
}

/* The offset of a virtio capability; 0: there is none. */
static uint64_t find_capability(struct vrig *rig, unsigned type)
{
	uint64_t at = config_read(rig, PCI_CAPABILITY_LIST, 1);

	while (at && (config_read(rig, at, 1) != PCI_CAP_ID_VNDR ||
		      config_read(rig, at + VIRTIO_PCI_CAP_CFG_TYPE, 1) != type))
		at = config_read(rig, at + PCI_CAP_LIST_NEXT, 1);
	return at;
}

static void check_capability(struct vrig *rig, unsigned type, unsigned bytes, uint64_t offset,
			     uint64_t length)
{
	uint64_t at = find_capability(rig, type);

	assert_int_not_equal(at, 0);
	assert_int_equal(config_read(rig, at + VIRTIO_PCI_CAP_LEN, 1), bytes);
	assert_int_equal(config_read(rig, at + VIRTIO_PCI_CAP_BAR, 1), 0);
	assert_int_equal(config_read(rig, at + VIRTIO_PCI_CAP_OFFSET, 4), offset);
	assert_int_equal(config_read(rig, at + VIRTIO_PCI_CAP_LENGTH, 4), length);
}

static void test_capabilities(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	assert_int_equal(config_read(rig, PCI_VENDOR_ID, 4), 0x106a1af4);
	assert_true(config_read(rig, PCI_REVISION_ID, 1) >= 1);
	check_capability(rig, VIRTIO_PCI_CAP_COMMON_CFG, 16, VIRTIO_COMMON, 56);
	check_capability(rig, VIRTIO_PCI_CAP_NOTIFY_CFG, 20, VIRTIO_NOTIFY, 8);
	check_capability(rig, VIRTIO_PCI_CAP_ISR_CFG, 16, VIRTIO_ISR, 1);
	check_capability(rig, VIRTIO_PCI_CAP_DEVICE_CFG, 16, VIRTIO_CONFIG, 8);
	check_capability(rig, VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0);
	assert_int_equal(config_read(rig, find_capability(rig, VIRTIO_PCI_CAP_NOTIFY_CFG) +
				     VIRTIO_PCI_NOTIFY_CAP_MULT, 4), VIRTIO_NOTIFY_STEP);
	assert_int_equal(vd_device_irq_count(rig->device, VD_IRQ_MSIX), 3);
	toy_close(t);
}

/* 4.1.4.9: registers by way of the configuration space. */
static void test_window(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;
	uint64_t at = find_capability(rig, VIRTIO_PCI_CAP_PCI_CFG);

	(void)state;
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_COMMON + VRIG_AT(num_queues));
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	assert_int_equal(config_read(rig, at + 16, 2), 2);
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_CONFIG);
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	assert_int_equal(config_read(rig, at + 16, 4), 0x11223344);
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_COMMON + VRIG_AT(device_status));
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	config_write(rig, at + 16, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(vrig_get(rig, device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	/* what makes no sense does nothing: length, alignment, another BAR, beyond the registers */
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 3);
	config_write(rig, at + 16, 1, 0x82);
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_COMMON + 18);
	config_write(rig, at + 16, 4, 0x820000);
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, UINT32_MAX - 3);
	config_write(rig, at + 16, 4, 1);
	assert_int_equal(config_read(rig, at + 16, 4), 0);
	config_write(rig, at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_COMMON + VRIG_AT(device_status));
	config_write(rig, at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	config_write(rig, at + VIRTIO_PCI_CAP_BAR, 1, 3);
	config_write(rig, at + 16, 1, 0x82);
	assert_int_equal(vrig_get(rig, device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	toy_close(t);
}

/* 2.2, 3.1.1 */
static void test_features(void **state)
{
	const uint64_t version = UINT64_C(1) << VIRTIO_F_VERSION_1;
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	assert_int_equal(vrig_features(rig), version | TOY_FEATURE);
	vrig_set(rig, device_feature_select, 2);
	assert_int_equal(vrig_get(rig, device_feature), 0);
	assert_int_equal(vrig_negotiate(rig, TOY_FEATURE), 3); /* not without version 1 */
	assert_int_equal(vrig_negotiate(rig, version | 1), 3); /* nor what was not offered */
	assert_int_equal(vrig_negotiate(rig, version | UINT64_C(1) << VIRTIO_F_RING_PACKED), 3);
	/* a device that was not agreed upon does not start */
	vrig_set(rig, device_status, 7);
	assert_int_equal(vrig_get(rig, device_status), 3);
	assert_int_equal(vrig_negotiate(rig, version | TOY_FEATURE), 11);
	assert_true(virtio_has(&t->toy.virtio, 7));
	assert_false(virtio_has(&t->toy.virtio, 8));
	/* what was agreed upon stays */
	vrig_set(rig, guest_feature, 0);
	assert_true(virtio_has(&t->toy.virtio, 7));
	assert_true(virtio_has(&t->toy.virtio, VIRTIO_F_VERSION_1));
	vrig_set(rig, device_status, 0);
	assert_false(virtio_has(&t->toy.virtio, 7));
	toy_close(t);
}

static void test_registers(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	assert_int_equal(vrig_get(rig, num_queues), 2);
	assert_int_equal(vrig_get(rig, queue_size), 64);
	vrig_set(rig, queue_select, 1);
	assert_int_equal(vrig_get(rig, queue_notify_off), 1);
	vrig_set(rig, queue_select, 2);
	assert_int_equal(vrig_get(rig, queue_size), 0);
	vrig_set(rig, queue_size, 16);
	vrig_set(rig, queue_enable, 1);
	assert_int_equal(vrig_get(rig, queue_enable), 0);
	vrig_set(rig, queue_select, 0xffff);
	vrig_set(rig, queue_enable, 1);
	/* vectors: 4.1.5.1.2.1 */
	vrig_set(rig, msix_config, 2);
	assert_int_equal(vrig_get(rig, msix_config), 2);
	vrig_set(rig, msix_config, 3);
	assert_int_equal(vrig_get(rig, msix_config), VIRTIO_MSI_NO_VECTOR);
	vrig_set(rig, queue_select, 0);
	vrig_set(rig, queue_msix_vector, 700);
	assert_int_equal(vrig_get(rig, queue_msix_vector), VIRTIO_MSI_NO_VECTOR);
	/* device-specific configuration in any size, and nothing behind it */
	assert_int_equal(vrig_read(rig, VIRTIO_CONFIG + 1, 1), 0x33);
	vrig_write(rig, VIRTIO_CONFIG + 4, 4, 0x55667788);
	vrig_write(rig, VIRTIO_CONFIG, 4, 0);
	assert_int_equal(vrig_read(rig, VIRTIO_CONFIG, 8), 0x5566778811223344);
	vrig_write(rig, VIRTIO_CONFIG + 8, 8, UINT64_MAX);
	assert_int_equal(vrig_read(rig, VIRTIO_CONFIG + 8, 8), 0);
	/* registers of 64 bits at once */
	vrig_write(rig, VRIG_AT(queue_desc_lo), 8, 0x123456789abcdef0);
	assert_int_equal(vrig_get(rig, queue_desc_hi), 0x12345678);
	assert_int_equal(vrig_get(rig, queue_desc_lo), 0x9abcdef0);
	/* every byte of the BAR can be read and written */
	for (uint64_t i = 0; i < 4 * PAGE; i++)
		vrig_write(rig, i, 1, vrig_read(rig, i, 1));
	toy_close(t);
}

static void set_address(struct vrig *rig, uint64_t field, uint64_t value)
{
	vrig_write(rig, field, 8, value);
}

/* Whether a queue of these is taken; the device is reset before. */
static bool queue_is_taken(struct vrig *rig, uint16_t size, uint64_t desc, uint64_t avail,
			   uint64_t used)
{
	bool enabled;

	vrig_negotiate(rig, UINT64_C(1) << VIRTIO_F_VERSION_1);
	vrig_set(rig, queue_select, 0);
	vrig_set(rig, queue_size, size);
	set_address(rig, VRIG_AT(queue_desc_lo), desc);
	set_address(rig, VRIG_AT(queue_avail_lo), avail);
	set_address(rig, VRIG_AT(queue_used_lo), used);
	vrig_set(rig, queue_enable, 1);
	enabled = vrig_get(rig, queue_enable);
	assert_int_equal(enabled, !vrig_is_broken(rig));
	return enabled;
}

static void test_queue_set_up(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	assert_true(queue_is_taken(rig, 64, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	/* nothing of it changes any more */
	vrig_set(rig, queue_size, 8);
	set_address(rig, VRIG_AT(queue_desc_lo), 0);
	vrig_set(rig, queue_enable, 0);
	assert_int_equal(vrig_get(rig, queue_size), 64);
	assert_int_equal(vrig_get(rig, queue_desc_lo), VRIG_RAM);
	assert_int_equal(vrig_get(rig, queue_enable), 1);
	/* sizes that are none are not taken */
	assert_true(queue_is_taken(rig, 1, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	assert_int_equal(vrig_get(rig, queue_size), 1);
	assert_true(queue_is_taken(rig, 48, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	assert_int_equal(vrig_get(rig, queue_size), 64);
	assert_true(queue_is_taken(rig, 128, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	assert_int_equal(vrig_get(rig, queue_size), 64);
	assert_true(queue_is_taken(rig, 0, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	assert_int_equal(vrig_get(rig, queue_size), 64);
	/* 2.7: alignment, and an end */
	assert_false(queue_is_taken(rig, 64, VRIG_RAM + 8, VRIG_RAM + 0x1000, VRIG_RAM + 0x2000));
	assert_false(queue_is_taken(rig, 64, VRIG_RAM, VRIG_RAM + 0x1001, VRIG_RAM + 0x2000));
	assert_false(queue_is_taken(rig, 64, VRIG_RAM, VRIG_RAM + 0x1000, VRIG_RAM + 0x2002));
	assert_false(queue_is_taken(rig, 64, UINT64_MAX - 1007, VRIG_RAM, VRIG_RAM));
	assert_false(queue_is_taken(rig, 64, VRIG_RAM, UINT64_MAX - 63, VRIG_RAM));
	assert_false(queue_is_taken(rig, 64, VRIG_RAM, VRIG_RAM, UINT64_MAX - 63));
	toy_close(t);
}

/* 2.4: after it, the device is as new; ISR: 4.1.4.5 */
static void test_reset(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	vrig_start(rig, TOY_FEATURE, 2, 16);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(rig->interrupts[1], 1);
	assert_int_equal(vrig_read(rig, VIRTIO_ISR, 1), 1);
	assert_int_equal(vrig_read(rig, VIRTIO_ISR, 1), 0);
	virtio_config_changed(&t->toy.virtio);
	assert_int_equal(rig->interrupts[0], 1);
	assert_int_equal(vrig_read(rig, VIRTIO_ISR, 1), 2);
	vrig_set(rig, device_status, 0);
	assert_int_equal(vrig_get(rig, device_status), 0);
	assert_int_equal(vrig_get(rig, msix_config), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(vrig_get(rig, queue_enable), 0);
	assert_int_equal(vrig_get(rig, queue_size), 64);
	vrig_ring(rig, 0);
	assert_int_equal(t->toy.chains, 1);
	vrig_start(rig, 0, 2, 16);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(t->toy.chains, 2);
	assert_int_equal(vd_device_reset(rig->device, VD_RESET_FUNCTION), 0);
	assert_int_equal(vrig_get(rig, device_status), 0);
	assert_int_equal(vrig_get(rig, queue_enable), 0);
	toy_close(t);
}

/* Not set up, not master of the bus, failed, quiesced: nothing of the guest's is looked at. */
static void test_runs_only_when_it_may(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;

	(void)state;
	vrig_bus_master(rig, true);
	vrig_negotiate(rig, UINT64_C(1) << VIRTIO_F_VERSION_1);
	vrig_queue(rig, 0, 16);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(t->toy.notified, 0);
	/* what is there already is found then */
	vrig_set(rig, device_status, 15);
	assert_int_equal(t->toy.chains, 1);
	vrig_bus_master(rig, false);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(t->toy.chains, 1);
	vrig_bus_master(rig, true);
	assert_int_equal(t->toy.chains, 2);
	assert_int_equal(vd_device_quiesce(rig->device), 0);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(t->toy.chains, 2);
	vd_device_resume(rig->device);
	assert_int_equal(t->toy.chains, 3);
	vrig_set(rig, device_status, 0x80);
	vrig_send(rig, 0, VRIG_DATA, 16, false);
	assert_int_equal(t->toy.chains, 3);
	/* a doorbell for a queue that is not there */
	vrig_write(rig, VIRTIO_NOTIFY + 4, 4, 1);
	vrig_write(rig, VIRTIO_NOTIFY + 8, 4, 2);
	toy_close(t);
}

/* ---- a reset while the device works without its lock ---------------------------------------- */

static void *ring_bell(void *context)
{
	vrig_ring(context, 1);
	return NULL;
}

static void *write_zero(void *context)
{
	vrig_set((struct vrig *)context, device_status, 0);
	return NULL;
}

static void test_reset_waits_for_work(void **state)
{
	struct toy_rig *t = toy_open();
	struct vrig *rig = &t->rig;
	pthread_t worker, resetter;

	(void)state;
	vrig_start(rig, 0, 2, 16);
	vrig_desc(rig, 1, 0, VRIG_DATA, 16, 0, 0);
	vrig_offer(rig, 1, 0);
	t->toy.stop_inside = true;
	t->toy.resets = 0;
	assert_int_equal(pthread_create(&worker, NULL, ring_bell, rig), 0);
	while (!atomic_load(&t->toy.inside))
		sched_yield();
	assert_int_equal(pthread_create(&resetter, NULL, write_zero, rig), 0);
	for (bool asked = false; !asked; sched_yield()) {
		vd_device_lock(rig->device);
		asked = t->toy.virtio.reset_wanted;
		vd_device_unlock(rig->device);
	}
	/* 2.4.2: the driver sees that it is not done, and nothing it writes counts */
	assert_int_equal(vrig_get(rig, device_status), 15);
	vrig_set(rig, msix_config, 1);
	assert_int_equal(vrig_get(rig, msix_config), 0);
	assert_int_equal(t->toy.resets, 0);
	atomic_store(&t->toy.go, true);
	pthread_join(worker, NULL);
	pthread_join(resetter, NULL);
	assert_int_equal(vrig_get(rig, device_status), 0);
	assert_int_equal(t->toy.resets, 1);
	assert_int_equal(t->toy.chains, 0);
	toy_close(t);
}

/* ---- state ---------------------------------------------------------------------------------- */

static void test_save_and_load(void **state)
{
	struct toy_rig *t = toy_open(), *other = toy_open();
	struct vd_stream stream = {.env = &t->rig.test.env}, in;
	uint8_t ring[0x4000];

	(void)state;
	vrig_start(&t->rig, TOY_FEATURE, 2, 16);
	vrig_send(&t->rig, 0, VRIG_DATA, 16, false);
	vrig_write(&t->rig, VIRTIO_CONFIG + 4, 4, 77);
	assert_int_equal(vd_device_save(t->rig.device, &stream), 0);
	/* the other machine has the same memory */
	vrig_take(&t->rig, VRIG_RAM + 0x4000, ring, sizeof(ring));
	vrig_put(&other->rig, VRIG_RAM + 0x4000, ring, sizeof(ring));
	in = (struct vd_stream){.data = stream.data, .length = stream.length};
	assert_int_equal(vd_device_load(other->rig.device, &in, NULL), 0);
	memcpy(other->rig.queues, t->rig.queues, sizeof(other->rig.queues));
	assert_int_equal(vrig_get(&other->rig, device_status), 15);
	assert_int_equal(vrig_read(&other->rig, VIRTIO_CONFIG + 4, 4), 77);
	assert_true(virtio_has(&other->toy.virtio, 7));
	vrig_send(&other->rig, 0, VRIG_DATA, 24, false);
	assert_int_equal(other->toy.chains, 1);
	assert_int_equal(other->rig.interrupts[1], 1);
	vd_stream_fini(&stream);
	toy_close(t);
	toy_close(other);
}

/* A stream is hostile: it is refused, or it is a state that a driver could have made. */
static void test_load_hostile(void **state)
{
	struct toy_rig *t = toy_open();
	struct vd_stream stream = {.env = &t->rig.test.env}, in;
	unsigned refused = 0;
	uint8_t *bytes;

	(void)state;
	vrig_start(&t->rig, TOY_FEATURE, 2, 16);
	assert_int_equal(vd_device_save(t->rig.device, &stream), 0);
	bytes = malloc(stream.length);
	assert_non_null(bytes);
	for (size_t i = 0; i < stream.length; i++) {
		memcpy(bytes, stream.data, stream.length);
		bytes[i] ^= (uint8_t)(1 + i % 255);
		in = (struct vd_stream){.data = bytes, .length = stream.length};
		refused += vd_device_load(t->rig.device, &in, NULL) != 0;
		for (unsigned q = 0; q < 2; q++) {
			const struct virtio_queue *queue = &t->toy.virtio.queues[q];

			assert_true(queue->size && queue->size <= 64 &&
				    !(queue->size & (queue->size - 1)));
			assert_true(!queue->enabled || virtio_queue_check(queue));
			assert_true(queue->vector <= 2 || queue->vector == 0xffff);
		}
		vrig_ring(&t->rig, 0);
		in = (struct vd_stream){.data = stream.data, .length = i};
		assert_int_not_equal(vd_device_load(t->rig.device, &in, NULL), 0);
	}
	assert_true(refused > 50);
	free(bytes);
	vd_stream_fini(&stream);
	toy_close(t);
}

static void test_no_memory(void **state)
{
	struct toy toy = {0};
	struct vrig rig;
	long steps;

	(void)state;
	vrig_open(&rig);
	for (steps = 1;; steps++) {
		long blocks = rig.test.blocks;
		int r;

		test_env_fail(&rig.test, steps, -ENOMEM);
		r = virtio_create(&toy.virtio, &toy_model, &toy, &rig.test.env, rig.host, rig.space,
				  NULL);
		if (!test_env_failed(&rig.test)) {
			assert_int_equal(r, 0);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(rig.test.blocks, blocks);
	}
	assert_true(steps > 2);
	test_env_fail(&rig.test, 0, 0);
	rig.device = toy.virtio.device;
	vrig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_queue_set_up),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_runs_only_when_it_may),
		cmocka_unit_test(test_reset_waits_for_work),
		cmocka_unit_test(test_save_and_load),
		cmocka_unit_test(test_load_hostile),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
