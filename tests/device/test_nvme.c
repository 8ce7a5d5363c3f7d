/* SPDX-License-Identifier: BSD-2-Clause */
/* The NVMe controller's registers, set-up and shutdown. */
#include "nvme_rig.h"

static struct rig rig;

static int setup(void **state)
{
	(void)state;
	rig_open(&rig, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_inject_site = NULL;
	rig_close(&rig);
	return 0;
}

/* ---- registers --------------------------------------------------------------------------- */

static void registers_read_as_specified(void **state)
{
	uint64_t cap = rig_read64(&rig, NVME_CAP);
	uint8_t byte = 0;
	uint16_t half = 0;

	(void)state;
	assert_int_equal(cap & 0xffff, 1023);		/* MQES */
	assert_int_equal(cap >> 16 & 1, 1);		/* CQR */
	assert_true((cap >> 24 & 0xff) > 0);		/* TO */
	assert_int_equal(cap >> 32 & 15, 0);		/* DSTRD */
	assert_int_equal(cap >> 37 & 0xff, 1);		/* CSS: NVM */
	assert_int_equal(cap >> 48 & 15, 0);		/* MPSMIN: 4 KiB */
	assert_int_equal(cap >> 52 & 15, 4);		/* MPSMAX: 64 KiB */
	assert_int_equal(rig_read32(&rig, NVME_CAP), (uint32_t)cap);
	assert_int_equal(rig_read32(&rig, NVME_CAP + 4), cap >> 32);
	assert_int_equal(rig_read32(&rig, NVME_VS), 0x10400);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(rig_read64(&rig, 0x38), 0);	/* no CMB */
	assert_int_equal(vd_device_read(rig.device, 0, (vd_region_offset){NVME_VS + 2}, &half, 2),
			 0);
	assert_int_equal(half, 1);
	assert_int_equal(vd_device_read(rig.device, 0, (vd_region_offset){NVME_VS + 1}, &byte, 1),
			 0);
	assert_int_equal(byte, 4);
	assert_int_equal(vd_device_region(rig.device, 0)->size, 0x4000);
	assert_int_equal(vd_device_region(rig.device, 0)->flags & VD_REGION_MMAP, 0);
	assert_int_equal(vd_device_irq_count(rig.device, VD_IRQ_MSIX), 33);
}

static void interrupt_masks_are_harmless(void **state)
{
	(void)state;
	rig_write32(&rig, NVME_INTMS, 0xf0);
	assert_int_equal(rig_read32(&rig, NVME_INTMS), 0xf0);
	rig_write32(&rig, NVME_INTMC, 0x30);
	assert_int_equal(rig_read32(&rig, NVME_INTMC), 0xc0);
}

static void odd_accesses_do_nothing(void **state)
{
	uint64_t ones = UINT64_MAX;

	(void)state;
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC}, &ones, 1), 0);
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC + 2}, &ones, 4),
			 0);
	assert_int_equal(vd_device_write(rig.device, 0, (vd_region_offset){NVME_CC}, &ones, 3), 0);
	rig_write32(&rig, 0x38, 0xffffffff);
	rig_write32(&rig, NVME_CAP, 0xffffffff);
	rig_write32(&rig, NVME_NSSR, 0x4e564d65);
	assert_int_equal(rig_read32(&rig, NVME_CC), 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	assert_int_equal(rig_read32(&rig, 0x1000), 0);
}

static void enables_and_disables(void **state)
{
	(void)state;
	rig_bus_master(&rig, true);
	assert_int_equal(rig_enable(&rig), NVME_CSTS_RDY);
	/* The admin queue's registers are fixed while enabled. */
	rig_write32(&rig, NVME_AQA, 0);
	rig_write64(&rig, NVME_ASQ, 0);
	assert_int_equal(rig_read64(&rig, NVME_ASQ), RIG_ADMIN_SQ);
	assert_int_not_equal(rig_read32(&rig, NVME_AQA), 0);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	/* They survive a controller reset, not a function's. */
	assert_int_equal(rig_read64(&rig, NVME_ASQ), RIG_ADMIN_SQ);
	assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(rig_read64(&rig, NVME_ASQ), 0);
}

static void impossible_settings_are_fatal(void **state)
{
	static const struct { uint32_t cc, aqa; uint64_t asq; } bad[] = {
		{1 | 5 << 7, 0xf000f, RIG_ADMIN_SQ},	/* pages of 128 KiB */
		{1 | 1 << 4, 0xf000f, RIG_ADMIN_SQ},	/* unknown command set */
		{1 | 1 << 11, 0xf000f, RIG_ADMIN_SQ},	/* weighted arbitration */
		{1, 0x0000f, RIG_ADMIN_SQ},		/* queue of one entry */
		{1, 0xf0000, RIG_ADMIN_SQ},
		{1 | 4 << 7, 0xf000f, RIG_ADMIN_SQ},	/* not aligned to 64 KiB */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_write32(&rig, NVME_AQA, bad[i].aqa);
		rig_write64(&rig, NVME_ASQ, bad[i].asq);
		rig_write64(&rig, NVME_ACQ, RIG_ADMIN_CQ);
		rig_write32(&rig, NVME_CC, bad[i].cc);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_CFS);
		rig_doorbell(&rig, 0, false, 1);
		rig_write32(&rig, NVME_CC, 0);
		assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	}
	rig_start(&rig, 4);
}

static void shutdown_is_reported(void **state)
{
	(void)state;
	rig_start(&rig, 4);
	rig_write32(&rig, NVME_CC, rig_read32(&rig, NVME_CC) | 1 << 14);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	rig_write32(&rig, NVME_CC, 0);
	assert_int_equal(rig_read32(&rig, NVME_CSTS), 0);
	rig_start(&rig, 4);
	rig_inject_site = "image.flush";
	rig_inject_code = -EIO;
	rig_write32(&rig, NVME_CC, rig_read32(&rig, NVME_CC) | 1 << 14);
	assert_true(rig_read32(&rig, NVME_CSTS) & NVME_CSTS_CFS);
}

/* ---- set-up ------------------------------------------------------------------------------ */

static void bad_configurations_are_explained(void **state)
{
	static const struct { struct vd_nvme_config config; const char *words; } bad[] = {
		{{.queues = 129}, "1 to 128 queues"},
		{{.serial = "a serial number too long"}, "longer than 20"},
		{{.serial = "bell\a"}, "printable"},
		{{.flush = "never"}, "unknown flush"},
		{{.backing = "tape"}, "unknown backing"},
	};
	struct vd_device *device;

	(void)state;
	for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
		bool last = i == sizeof(bad) / sizeof(bad[0]);
		struct vd_nvme_config config = last ? (struct vd_nvme_config){0} : bad[i].config;
		struct vd_error error = {0};

		config.env = rig.env;
		config.host = rig.host;
		config.space = rig.space;
		config.image = last ? NULL : "/tmp";
		assert_int_equal(vd_nvme_create(&config, &device, &error), -EINVAL);
		assert_non_null(strstr(error.text, last ? "image=FILE" : bad[i].words));
	}
}

static void failed_creation_leaves_nothing(void **state)
{
	static const char *const sites[] = {"nvme.create", "nvme.requests", "nvme.descriptors",
					    "image.open", "image.allocate"};
	struct vd_device *device;

	(void)state;
	vd_device_put(rig.device);
	rig.device = NULL;
	for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++) {
		struct vd_nvme_config config = {.env = rig.env, .host = rig.host,
						.space = rig.space, .image = rig.path};
		int before = dup(0), after;

		close(before);
		rig_inject_site = sites[i];
		rig_inject_code = -ENOMEM;
		assert_int_equal(vd_nvme_create(&config, &device, NULL), -ENOMEM);
		rig_inject_site = NULL;
		after = dup(0);
		close(after);
		assert_int_equal(before, after);
		assert_int_equal(vd_nvme_create(&config, &device, NULL), 0);
		vd_device_put(device);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(registers_read_as_specified), TEST(interrupt_masks_are_harmless),
		TEST(odd_accesses_do_nothing), TEST(enables_and_disables),
		TEST(impossible_settings_are_fatal), TEST(shutdown_is_reported),
		TEST(bad_configurations_are_explained), TEST(failed_creation_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
