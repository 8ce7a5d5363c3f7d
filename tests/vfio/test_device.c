/* SPDX-License-Identifier: BSD-2-Clause */
#include "adder.h"

/* ---- creation ------------------------------------------------------------------------------- */

static void refuse(const struct fixture *f, const struct vd_device_config *config)
{
	struct vd_error error = {.text = ""};
	struct vd_device *device = NULL;

	(void)f;
	assert_int_equal(vd_device_create(config, &device, &error), -EINVAL);
	assert_int_equal(error.code, -EINVAL);
	assert_true(error.text[0]);
	assert_null(device);
}

static void test_create_refusals(void **state)
{
	enum { MMAP = VD_REGION_MMAP };
	static const struct vd_region bad[] = {
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 1, .areas = {{1, PAGE}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 1, .areas = {{0, 100}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 1, .areas = {{0, 0}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 1,
		 .areas = {{3 * PAGE, 2 * PAGE}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 1,
		 .areas = {{UINT64_MAX - PAGE + 1, PAGE}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = 2,
		 .areas = {{0, 2 * PAGE}, {PAGE, PAGE}}},
		{.size = ADDER_BAR1, .flags = MMAP, .area_count = VD_REGION_AREAS_MAX + 1},
		{.size = ADDER_BAR1, .flags = 0, .area_count = 1, .areas = {{0, PAGE}}},
		{.size = 0, .flags = MMAP},
		{.size = 100, .flags = MMAP, .area_count = 1, .areas = {{0, 64}}}, /* not all */
		{.size = PAGE + 100, .flags = MMAP}, /* no whole pages */
		{.size = UINT64_MAX - PAGE + 1, .flags = MMAP},
		{.size = ADDER_BAR1, .flags = 1u << 31},
	};
	struct vd_region regions[VD_REGION_COUNT];
	struct vd_device_config config;
	struct vd_device_ops ops = adder_ops;
	struct adder adder = {0};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	config = adder_config(&f, &adder);
	config.regions = regions;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(regions, adder_regions, sizeof(regions));
		regions[VD_REGION_BAR3] = bad[i];
		refuse(&f, &config);
	}
	/* configuration space is never mapped */
	memcpy(regions, adder_regions, sizeof(regions));
	regions[VD_REGION_CONFIG] = regions[VD_REGION_BAR2];
	refuse(&f, &config);
	config = adder_config(&f, &adder);
	config.irqs = NULL;
	refuse(&f, &config);
	config = adder_config(&f, &adder);
	config.regions = NULL;
	refuse(&f, &config);
	config = adder_config(&f, &adder);
	ops.write = NULL;
	config.ops = &ops;
	refuse(&f, &config);
	assert_int_equal(adder.releases, 0);
	fixture_close(&f);
}

/* Each step of creation fails once: nothing is left, and the device never heard of it. */
static void test_create_faults(void **state)
{
	struct vd_device *device = NULL;
	struct vd_device_config config;
	struct adder adder = {0};
	struct fixture f;
	long step = 0, blocks;
	int r;

	(void)state;
	fixture_open(&f);
	config = adder_config(&f, &adder);
	blocks = f.test.blocks;
	do {
		struct vd_error error = {.text = ""};

		test_env_fail(&f.test, ++step, -EMFILE);
		r = vd_device_create(&config, &device, &error);
		if (r) {
			assert_true(r == -EMFILE || r == -ENOMEM);
			assert_true(error.text[0]);
			vd_env_hosted_drain();
			assert_int_equal(f.test.blocks, blocks);
		}
	} while (r);
	assert_false(test_env_failed(&f.test));
	assert_true(step > 6);
	vd_device_put(device);
	fixture_close(&f);
}

static void test_description(void **state)
{
	const struct vd_region *region;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_string_equal(vd_device_name(rig.adder.device), "adder");
	assert_ptr_equal(vd_device_env(rig.adder.device), rig.f.env);
	assert_ptr_equal(vd_device_space(rig.adder.device), rig.space);
	assert_null(vd_device_region(rig.adder.device, VD_REGION_COUNT));
	region = vd_device_region(rig.adder.device, VD_REGION_BAR2);
	assert_int_equal(region->size, ADDER_BAR2);
	assert_int_equal(region->area_count, 1);
	assert_int_equal(region->areas[0].size, ADDER_BAR2);
	assert_int_equal(vd_device_region(rig.adder.device, VD_REGION_BAR4)->size, 0);
	rig_close(&rig);
}

/* ---- reset ---------------------------------------------------------------------------------- */

/*
 * What happens in which order when a device is reset: the mirrors are empty before it is touched.
 */
struct witness {
	struct vd_listener listener;
	struct adder *adder;
	unsigned starts, ends, resets_at_start, resets_at_end, releases_at_first;
	enum vd_invalidate_reason reason;
	int answer;
};

static int witness_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct witness *w = (struct witness *)listener;

	if (!w->starts++)
		w->releases_at_first = w->adder->releases;
	w->reason = event->reason;
	w->resets_at_start = w->adder->resets;
	return w->starts == 2 ? w->answer : 0;
}

static void witness_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct witness *w = (struct witness *)listener;

	(void)event;
	w->ends++;
	w->resets_at_end = w->adder->resets;
}

static const struct vd_listener_ops witness_ops = {
	.invalidate_start = witness_start,
	.invalidate_end = witness_end,
};

static void test_reset_zaps(void **state)
{
	struct witness w;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	w = (struct witness){.listener.ops = &witness_ops, .adder = &rig.adder};
	assert_int_equal(vd_notifier_register(vd_host_notifier(rig.f.host), &w.listener), 0);
	assert_int_equal(rig_write(&rig, 0, 7), 0);
	assert_int_equal(vd_device_reset(rig.adder.device, VD_RESET_BUS), 0);
	assert_int_equal(w.starts, 2); /* one an object */
	assert_int_equal(w.ends, 2);
	assert_int_equal(w.reason, VD_INVALIDATE_RESET);
	assert_int_equal(w.resets_at_start, 0);
	assert_int_equal(w.resets_at_end, 1);
	assert_int_equal(rig_read(&rig, 0), 0);
	/* a mirror that cannot let go: the device is not touched, and what had started has ended */
	w.starts = w.ends = 0;
	w.answer = -EBUSY;
	assert_int_equal(vd_device_reset(rig.adder.device, VD_RESET_BUS), -EBUSY);
	assert_int_equal(w.starts, 2);
	assert_int_equal(w.ends, 1);
	assert_int_equal(rig.adder.resets, 1);
	vd_notifier_unregister(vd_host_notifier(rig.f.host), &w.listener);
	rig_close(&rig);
}

/* Slots over the BAR hear of it through the guest's chain. */
static void test_reset_reaches_the_guest(void **state)
{
	struct vd_slot_config slot = {.base = {0x40000000}, .size = ADDER_BAR2,
				      .kind = VD_SLOT_DEVICE};
	struct rig rig;
	struct ear ear;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_device_map_area(rig.adder.device, VD_REGION_BAR2, 0, ADDER_BAR2,
					    &slot.object, &slot.offset), 0);
	add_slot(&rig.f, &slot);
	ear_open(&ear, &rig.f);
	assert_int_equal(vd_device_reset(rig.adder.device, VD_RESET_FUNCTION), 0);
	assert_int_equal(ear.start_count, 1);
	assert_int_equal(ear.end_count, 1);
	assert_int_equal(ear.starts[0].start, 0x40000000);
	assert_int_equal(ear.starts[0].length, ADDER_BAR2);
	ear_close(&ear, &rig.f);
	rig_close(&rig);
}

/* ---- quiesce -------------------------------------------------------------------------------- */

static void test_quiesce_nests(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_device_quiesce(rig.adder.device), 0);
	assert_int_equal(vd_device_quiesce(rig.adder.device), 0);
	assert_int_equal(rig.adder.quiesces, 1);
	vd_device_resume(rig.adder.device);
	assert_int_equal(rig.adder.resumes, 0);
	vd_device_resume(rig.adder.device);
	assert_int_equal(rig.adder.resumes, 1);
	vd_device_resume(rig.adder.device); /* one too many */
	assert_int_equal(rig.adder.resumes, 1);
	rig.adder.quiesce_result = -EIO;
	assert_int_equal(vd_device_quiesce(rig.adder.device), -EIO);
	vd_device_resume(rig.adder.device);
	assert_int_equal(rig.adder.resumes, 1);
	rig.adder.quiesce_result = 0;
	rig_close(&rig);
}

static void test_poll_when_busy(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	vd_device_poll(rig.adder.device);
	assert_int_equal(rig.adder.polls, 0);
	assert_int_equal(vd_device_poll_fd(rig.adder.device), -1);
	vd_device_set_busy(rig.adder.device, true, 5);
	vd_device_poll(rig.adder.device);
	assert_int_equal(rig.adder.polls, 1);
	assert_int_equal(vd_device_poll_fd(rig.adder.device), 5);
	vd_device_set_busy(rig.adder.device, false, 5);
	vd_device_poll(rig.adder.device);
	assert_int_equal(rig.adder.polls, 1);
	assert_int_equal(vd_device_poll_fd(rig.adder.device), -1);
	rig_close(&rig);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void test_last_reference(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	add_ram(&rig.f, 0, 0, PAGE);
	assert_int_equal(rig_write(&rig, 2, 4), 0);
	assert_int_equal(rig_write(&rig, 4, 1), 0);
	assert_true(rig.adder.pinned);
	assert_ptr_equal(vd_device_get(rig.adder.device), rig.adder.device);
	vd_device_put(rig.adder.device);
	assert_int_equal(rig.adder.releases, 0);
	vd_device_put(rig.adder.device);
	assert_int_equal(rig.adder.releases, 1);
	assert_int_equal(rig.adder.quiesces, 1);
	assert_false(rig.adder.pinned);
	vd_device_put(NULL);
	rig.adder.device = NULL;
	rig_close(&rig);
}

/* A slot outlives the device: its mirrors are emptied while the device is still there. */
static void test_put_zaps(void **state)
{
	struct vd_slot_config slot = {.size = ADDER_BAR2, .kind = VD_SLOT_DEVICE};
	struct witness w;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(vd_device_map_area(rig.adder.device, VD_REGION_BAR2, 0, ADDER_BAR2,
					    &slot.object, &slot.offset), 0);
	add_slot(&rig.f, &slot);
	w = (struct witness){.listener.ops = &witness_ops, .adder = &rig.adder};
	assert_int_equal(vd_notifier_register(vd_host_notifier(rig.f.host), &w.listener), 0);
	vd_device_put(rig.adder.device);
	rig.adder.device = NULL;
	assert_true(w.starts >= 2);
	assert_int_equal(w.starts, w.ends);
	assert_int_equal(w.reason, VD_INVALIDATE_UNMAP);
	assert_int_equal(w.releases_at_first, 0);
	vd_notifier_unregister(vd_host_notifier(rig.f.host), &w.listener);
	rig_close(&rig);
}

/* ---- an unpin request that outlasts the pin ---- */

struct lingering {
	struct rig rig;
	_Atomic int step; /* 1: the pin is gone, but not the request; 2: it may end */
	_Atomic unsigned releases_seen;
};

static void linger(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct adder *adder = (struct adder *)((char *)owner - offsetof(struct adder, owner));
	struct lingering *l = (struct lingering *)((char *)adder - offsetof(struct lingering,
									     rig.adder));

	adder_unpin_request(owner, start, length);
	atomic_store(&l->step, 1);
	while (atomic_load(&l->step) < 2)
		sched_yield();
	for (unsigned i = 0; i < 2000; i++)
		sched_yield();
	atomic_store(&l->releases_seen, atomic_load(&adder->releases));
}

static void *run_discard(void *context)
{
	struct lingering *l = context;

	assert_int_equal(vd_host_object_discard(l->rig.f.ram, 0, PAGE, true), 0);
	return NULL;
}

/* The owner is part of the device: it is not released while somebody is still talking to it. */
static void test_put_waits_for_requests(void **state)
{
	struct lingering *l = calloc(1, sizeof(*l));
	pthread_t thread;

	(void)state;
	assert_non_null(l);
	rig_open(&l->rig);
	l->rig.adder.owner.unpin_request = linger;
	add_ram(&l->rig.f, 0, 0, PAGE);
	assert_int_equal(rig_write(&l->rig, 2, 4), 0);
	assert_int_equal(rig_write(&l->rig, 4, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_discard, l), 0);
	while (atomic_load(&l->step) < 1)
		sched_yield();
	atomic_store(&l->step, 2);
	vd_device_put(l->rig.adder.device);
	l->rig.adder.device = NULL;
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&l->releases_seen), 0);
	assert_int_equal(l->rig.adder.releases, 1);
	rig_close(&l->rig);
	free(l);
}

/* Mapping, guest, host, space, device: whatever goes first, nobody falls over. */
static void test_any_order(void **state)
{
	enum { SLOT, MEM, SPACE, DEVICE, HOST, ENDS };

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		uint64_t random = seed;
		unsigned order[ENDS] = {SLOT, MEM, SPACE, DEVICE, HOST};
		struct vd_slot_config slot = {.size = ADDER_BAR2, .kind = VD_SLOT_DEVICE};
		struct rig rig;
		uint32_t id;
		bool mem = true;

		*test_seed() = seed;
		rig_open(&rig);
		assert_int_equal(vd_device_map_area(rig.adder.device, VD_REGION_BAR2, 0, ADDER_BAR2,
						    &slot.object, &slot.offset), 0);
		id = add_slot(&rig.f, &slot);
		add_ram(&rig.f, 0x10000, 0, PAGE);
		assert_int_equal(rig_write(&rig, 1, 0x10000), 0);
		assert_int_equal(rig_write(&rig, 2, 4), 0);
		assert_int_equal(rig_write(&rig, 4, 1), 0);
		for (unsigned i = ENDS; i > 1; i--) {
			unsigned k = (unsigned)(test_random(&random) % i), kept = order[i - 1];

			order[i - 1] = order[k];
			order[k] = kept;
		}
		for (unsigned i = 0; i < ENDS; i++) {
			if (order[i] == SLOT && mem)
				assert_int_equal(vd_mem_remove_slot(rig.f.mem, id), 0);
			if (order[i] == MEM) {
				vd_mem_destroy(rig.f.mem);
				mem = false;
			}
			if (order[i] == SPACE)
				vd_dma_space_destroy(rig.space);
			if (order[i] == DEVICE)
				vd_device_put(rig.adder.device);
			if (order[i] == HOST)
				vd_host_destroy(rig.f.host);
		}
		assert_int_equal(rig.adder.releases, 1);
		assert_false(rig.adder.pinned);
		vd_host_object_put(rig.f.ram);
		vd_host_object_put(rig.f.other);
		vd_env_hosted_drain();
		vd_env_hosted_drain();
		assert_int_equal(rig.f.test.blocks, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_refusals),
		cmocka_unit_test(test_create_faults),
		cmocka_unit_test(test_description),
		cmocka_unit_test(test_reset_zaps),
		cmocka_unit_test(test_reset_reaches_the_guest),
		cmocka_unit_test(test_quiesce_nests),
		cmocka_unit_test(test_poll_when_busy),
		cmocka_unit_test(test_last_reference),
		cmocka_unit_test(test_put_zaps),
		cmocka_unit_test(test_put_waits_for_requests),
		cmocka_unit_test_teardown(test_any_order, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
