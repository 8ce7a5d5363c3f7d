/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include "../base/locked.h"

static bool readable(struct vd_dma_space *space, uint64_t iova)
{
	char byte;

	return vd_dma_read(space, (vd_iova){iova}, &byte, 1) == 0;
}

/* ---- map ------------------------------------------------------------------------------------ */

static void test_map_refusals(void **state)
{
	const uint64_t top = UINT64_MAX - PAGE + 1;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 0, 0, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, 1, PAGE, 0, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, 0, PAGE + 1, 0, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, 0, PAGE, 8, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, 0), -EINVAL);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ | VD_EXECUTE), -EINVAL);
	assert_int_equal(dma_map(&f, top, 2 * PAGE, 0, VD_READ), -EOVERFLOW);
	assert_int_equal(dma_map(&f, 0, (RAM_PAGES + 1) * PAGE, 0, VD_READ), -ERANGE);
	assert_int_equal(dma_map(&f, 0, PAGE, RAM_PAGES * PAGE, VD_READ), -ERANGE);
	assert_int_equal(dma_map(&f, 0, PAGE, UINT64_MAX - PAGE + 1, VD_READ), -ERANGE);
	assert_int_equal(stats_of(f.space).maps, 0);
	/* the last page of the address space is one like any other */
	assert_int_equal(dma_map(&f, top, PAGE, 0, VD_READ), 0);
	assert_true(readable(f.space, UINT64_MAX));
	dma_close_fixture(&f);
}

static void test_map_overlap(void **state)
{
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 4 * PAGE, 4 * PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, 4 * PAGE, 4 * PAGE, 0, VD_READ), -EEXIST);
	assert_int_equal(dma_map(&f, 7 * PAGE, PAGE, 0, VD_READ), -EEXIST);
	assert_int_equal(dma_map(&f, 0, 5 * PAGE, 0, VD_READ), -EEXIST);
	assert_int_equal(dma_map(&f, 0, 16 * PAGE, 0, VD_READ), -EEXIST);
	assert_int_equal(dma_map(&f, 3 * PAGE, PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, 8 * PAGE, PAGE, 0, VD_READ), 0);
	assert_int_equal(stats_of(f.space).maps, 3);
	dma_close_fixture(&f);
}

static void test_map_protection(void **state)
{
	struct vd_host_object *rom, *elsewhere;
	struct vd_host_config config;
	struct vd_host *host;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(vd_host_import(f.base.host, "rom", vd_host_object_fd(f.base.other), 0,
					PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL,
					VD_HOST_READ_ONLY, &rom, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, PAGE, rom, 0, VD_WRITE), -EACCES);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, PAGE, rom, 0, VD_READ), 0);
	/* memory of another host is out of reach */
	config = (struct vd_host_config){.env = f.base.env};
	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
	assert_int_equal(vd_host_ram_create(host, "elsewhere", PAGE, 0, &elsewhere, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){PAGE}, PAGE, elsewhere, 0, VD_READ), -EXDEV);
	vd_host_object_put(elsewhere);
	vd_host_destroy(host);
	vd_host_object_put(rom);
	dma_close_fixture(&f);
}

static void test_map_limit(void **state)
{
	struct dma_fixture f;
	uint64_t unmapped;

	(void)state;
	dma_open(&f);
	for (uint64_t i = 0; i < 131072; i++)
		assert_int_equal(dma_map(&f, i * PAGE, PAGE, i % RAM_PAGES * PAGE, VD_READ), 0);
	assert_int_equal(dma_map(&f, 131072 * PAGE, PAGE, 0, VD_READ), -ENOSPC);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, &unmapped), 0);
	assert_int_equal(dma_map(&f, 131072 * PAGE, PAGE, 0, VD_READ), 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, UINT64_C(1) << 40, &unmapped), 0);
	assert_int_equal(unmapped, 131072 * PAGE);
	dma_close_fixture(&f);
}

/* Each step of a map fails once: then nothing has changed. */
static void test_map_faults(void **state)
{
	struct dma_fixture f;
	uint64_t failures = 0;

	(void)state;
	dma_open(&f);
	for (uint64_t i = 0; i < 2000; i++) {
		long step = 1;
		int r;

		do {
			test_env_fail(&f.base.test, step++, -ENOMEM);
			r = dma_map(&f, i * PAGE, PAGE, 0, VD_READ);
			if (r) {
				assert_int_equal(r, -ENOMEM);
				assert_int_equal(stats_of(f.space).maps, i);
				failures++;
			}
		} while (r);
		assert_false(test_env_failed(&f.base.test));
	}
	assert_true(failures > 2000); /* splits have steps of their own */
	for (uint64_t i = 0; i < 2000; i++)
		assert_true(readable(f.space, i * PAGE));
	dma_close_fixture(&f);
}

/* ---- unmap ---------------------------------------------------------------------------------- */

static void test_unmap_exactly(void **state)
{
	struct dma_fixture f;
	uint64_t unmapped = 1;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 4 * PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, 4 * PAGE, 4 * PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, 16 * PAGE, PAGE, 0, VD_READ), 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 5 * PAGE, &unmapped), -EINVAL);
	assert_int_equal(unmapped, 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){PAGE}, 7 * PAGE, &unmapped), -EINVAL);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){PAGE}, PAGE, &unmapped), -EINVAL);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 0, &unmapped), -EINVAL);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE + 1, &unmapped), -EINVAL);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){PAGE}, UINT64_MAX - PAGE + 1, &unmapped),
			 -EINVAL); /* ends with the address space, begins in a map */
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){2 * PAGE}, UINT64_MAX - PAGE + 1,
				      &unmapped), -EOVERFLOW);
	assert_int_equal(stats_of(f.space).maps, 3);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){8 * PAGE}, 8 * PAGE, &unmapped), 0);
	assert_int_equal(unmapped, 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 8 * PAGE, &unmapped), 0);
	assert_int_equal(unmapped, 8 * PAGE);
	assert_false(readable(f.space, 0));
	assert_false(readable(f.space, 7 * PAGE));
	assert_true(readable(f.space, 16 * PAGE));
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, UINT64_MAX - PAGE + 1, NULL), 0);
	assert_int_equal(stats_of(f.space).maps, 0);
	dma_close_fixture(&f);
}

/* A map keeps its memory, and unmap lets it go. */
static void test_map_keeps_object(void **state)
{
	struct vd_host_object *object;
	struct dma_fixture f;
	long blocks;

	(void)state;
	dma_open(&f);
	/* what translations are kept in stays with the space */
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_true(readable(f.space, 0));
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, NULL), 0);
	vd_env_hosted_drain();
	blocks = f.base.test.blocks;
	assert_int_equal(vd_host_ram_create(f.base.host, "short-lived", PAGE, 0, &object, NULL), 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, PAGE, object, 0, VD_READ), 0);
	vd_host_object_put(object);
	assert_true(readable(f.space, 0));
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, NULL), 0);
	vd_env_hosted_drain();
	assert_int_equal(f.base.test.blocks, blocks);
	dma_close_fixture(&f);
}

static void test_unmap_asks(void **state)
{
	struct dma_fixture f;
	struct holder holder;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, 8 * PAGE, 0, VD_READ | VD_WRITE), 0);
	assert_int_equal(holder_pin(&holder, f.space, PAGE, 2 * PAGE, VD_WRITE), 0);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 8 * PAGE, NULL), 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(holder.asked_start, PAGE);
	assert_int_equal(holder.asked_length, 2 * PAGE);
	assert_int_equal(stats_of(f.space).maps, 0);
	dma_close_fixture(&f);
}

/* Who does not let go: the map stays, closed, until he does. */
static void test_unmap_gives_up(void **state)
{
	struct dma_fixture f;
	struct holder holder, late;
	uint64_t unmapped;

	(void)state;
	fixture_open(&f.base);
	f.space = make_space(&f.base, 20);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_int_equal(dma_map(&f, PAGE, PAGE, PAGE, VD_READ), 0);
	assert_int_equal(holder_pin(&holder, f.space, 0, 16, VD_READ), 0);
	holder.lets_go = false;
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 2 * PAGE, &unmapped), -EBUSY);
	assert_int_equal(unmapped, 0);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(stats_of(f.space).maps, 2);
	assert_false(readable(f.space, 0));
	assert_int_equal(holder_pin(&late, f.space, PAGE, 16, VD_READ), -EFAULT);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), -EEXIST);
	holder_let_go(&holder);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 2 * PAGE, &unmapped), 0);
	assert_int_equal(unmapped, 2 * PAGE);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	dma_close_fixture(&f);
}

/* ---- follow --------------------------------------------------------------------------------- */

static void test_follow_refusals(void **state)
{
	struct vd_host_config host_config;
	struct vd_mem_config mem_config;
	struct vd_error error = {.text = ""};
	struct vd_mem *mem;
	struct vd_host *host;
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_int_equal(vd_dma_follow(f.space, f.base.mem, &error), -EBUSY);
	assert_true(error.text[0]);
	assert_true(readable(f.space, 0));
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, NULL), 0);

	host_config = (struct vd_host_config){.env = f.base.env};
	assert_int_equal(vd_host_create(&host_config, &host, NULL), 0);
	mem_config = (struct vd_mem_config){.env = f.base.env, .host = host};
	assert_int_equal(vd_mem_create(&mem_config, &mem, NULL), 0);
	assert_int_equal(vd_dma_follow(f.space, mem, &error), -EXDEV);
	vd_mem_destroy(mem);
	vd_host_destroy(host);

	assert_int_equal(vd_dma_follow(f.space, f.base.mem, &error), 0);
	assert_int_equal(vd_dma_follow(f.space, f.base.mem, &error), -EBUSY);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), -EBUSY);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, PAGE, NULL), -EBUSY);
	dma_close_fixture(&f);
}

/* A guest whose memory has been released is not followed; the space still works without it. */
static void test_follow_released(void **state)
{
	struct dma_fixture f;

	(void)state;
	dma_open(&f);
	vd_notifier_release(vd_mem_notifier(f.base.mem));
	assert_int_equal(vd_dma_follow(f.space, f.base.mem, NULL), -ESHUTDOWN);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_true(readable(f.space, 0));
	dma_close_fixture(&f);
}

/* Slots that come, move and go are followed without a word from the device. */
static void test_follow_slots(void **state)
{
	struct vd_mem_update *update;
	struct dma_fixture f;
	uint32_t id;

	(void)state;
	dma_open(&f);
	assert_int_equal(vd_dma_follow(f.space, f.base.mem, NULL), 0);
	assert_false(readable(f.space, GUEST_RAM));
	id = add_ram(&f.base, GUEST_RAM, 0, 4 * PAGE);
	assert_int_equal(stats_of(f.space).maps, 1);
	assert_true(readable(f.space, GUEST_RAM));
	assert_int_equal(vd_mem_begin(f.base.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){0}, NULL), 0);
	vd_mem_commit(update);
	assert_false(readable(f.space, GUEST_RAM));
	assert_true(readable(f.space, 0));
	assert_int_equal(vd_mem_remove_slot(f.base.mem, id), 0);
	assert_false(readable(f.space, 0));
	assert_int_equal(stats_of(f.space).maps, 0);
	dma_close_fixture(&f);
}

/* ---- creation, and all orders of the end ---------------------------------------------------- */

static int create_with(const struct fixture *f, unsigned page_shift, uint64_t pin_limit_ms)
{
	struct vd_dma_config config = {.env = f->env, .host = f->host, .page_shift = page_shift,
				       .pin_limit_ms = pin_limit_ms};
	struct vd_dma_space *space;
	struct vd_error error;

	return vd_dma_space_create(&config, &space, &error);
}

static void test_create_refusals(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	assert_int_equal(create_with(&f, 11, 0), -EINVAL);
	assert_int_equal(create_with(&f, 31, 0), -EINVAL);
	assert_int_equal(create_with(&f, 0, UINT64_MAX), -EINVAL);
	test_env_fail(&f.test, 1, -ENOMEM);
	assert_int_equal(create_with(&f, 0, 0), -ENOMEM);
	vd_notifier_release(vd_host_notifier(f.host));
	assert_int_equal(create_with(&f, 0, 0), -ESHUTDOWN);
	vd_dma_space_destroy(NULL);
	fixture_close(&f);
}

static void test_larger_pages(void **state)
{
	struct dma_fixture f;
	struct vd_dma_config config;

	(void)state;
	fixture_open(&f.base);
	config = (struct vd_dma_config){.env = f.base.env, .host = f.base.host, .page_shift = 16,
					.mode = dma_mode()};
	assert_int_equal(vd_dma_space_create(&config, &f.space, NULL), 0);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, PAGE, 16 * PAGE, 0, VD_READ), -EINVAL);
	assert_int_equal(dma_map(&f, 16 * PAGE, 16 * PAGE, 0, VD_READ), 0);
	dma_close_fixture(&f);
}

/* The device outlives the space, the space outlives the guest and the host. */
static void test_end_outside_in(void **state)
{
	struct vd_dma_space *own, *follows;
	struct dma_fixture f;
	struct holder holder;

	(void)state;
	dma_open_guest(&f);
	follows = vd_dma_space_get(f.space);
	own = make_space(&f.base, 0);
	assert_int_equal(vd_dma_map(own, (vd_iova){0}, PAGE, f.base.ram, 0, VD_READ), 0);
	assert_int_equal(holder_pin(&holder, follows, GUEST_RAM, PAGE, VD_WRITE), 0);
	vd_mem_destroy(f.base.mem);
	assert_int_equal(holder.asked, 1);
	assert_false(readable(follows, GUEST_RAM));
	assert_int_equal(holder_pin(&holder, follows, GUEST_RAM, PAGE, VD_READ), -EFAULT);
	assert_int_equal(stats_of(follows).maps, 0);
	vd_dma_wait(follows, (vd_iova){GUEST_RAM}, PAGE);
	vd_dma_mark_dirty(follows, (vd_iova){GUEST_RAM}, PAGE);
	vd_host_object_put(f.base.ram);
	vd_host_object_put(f.base.other);
	assert_true(readable(own, 0));
	vd_host_destroy(f.base.host);
	assert_false(readable(own, 0));
	vd_dma_space_destroy(f.space);
	vd_dma_space_destroy(own);
	assert_false(readable(follows, GUEST_RAM));
	vd_dma_space_put(follows);
	vd_env_hosted_drain();
	vd_env_hosted_drain();
	assert_int_equal(f.base.test.blocks, 0);
}

static void test_destroy_asks(void **state)
{
	struct dma_fixture f;
	struct holder holder;

	(void)state;
	dma_open(&f);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), 0);
	assert_int_equal(holder_pin(&holder, f.space, 0, 16, VD_READ), 0);
	vd_dma_space_get(f.space);
	vd_dma_space_destroy(f.space);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(dma_map(&f, 0, PAGE, 0, VD_READ), -ESHUTDOWN);
	assert_int_equal(stats_of(f.space).maps, 0);
	vd_dma_space_put(f.space);
	fixture_close(&f.base);
}

/* Memory whose changes nobody announces is locked while mapped; a map that fails locks none. */
static void test_maps_lock_what_may_change(void **state)
{
	char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
	struct vd_host_object *object;
	struct dma_fixture f;
	long step = 1;

	(void)state;
	dma_open(&f);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(vd_host_private(f.base.host, "private", memory, 4 * PAGE, 0, &object,
					 NULL), 0);
	for (;; step++) {
		test_env_fail(&f.base.test, step, -ENOMEM);
		if (!vd_dma_map(f.space, (vd_iova){0}, 2 * PAGE, object, PAGE, VD_READ))
			break;
		assert_locked(0);
		assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), 0);
	}
	assert_true(step > 2);
	test_env_fail(&f.base.test, 0, 0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){PAGE}, 3 * PAGE, object, 0, VD_READ),
			 -EEXIST);
	assert_locked(2 * PAGE);
	assert_int_equal(vd_host_object_discard(object, PAGE, PAGE, true), -EBUSY);
	assert_int_equal(vd_dma_unmap(f.space, (vd_iova){0}, 2 * PAGE, NULL), 0);
	assert_locked(0);
	assert_int_equal(vd_dma_map(f.space, (vd_iova){0}, PAGE, object, 0, VD_READ), 0);
	vd_host_object_put(object);
	dma_close_fixture(&f); /* with the map */
	assert_locked(0);
	munmap(memory, 4 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_refusals),
		cmocka_unit_test(test_map_overlap),
		cmocka_unit_test(test_map_protection),
		cmocka_unit_test(test_map_limit),
		cmocka_unit_test(test_map_faults),
		cmocka_unit_test(test_maps_lock_what_may_change),
		cmocka_unit_test(test_unmap_exactly),
		cmocka_unit_test(test_map_keeps_object),
		cmocka_unit_test(test_unmap_asks),
		cmocka_unit_test(test_unmap_gives_up),
		cmocka_unit_test(test_follow_refusals),
		cmocka_unit_test(test_follow_released),
		cmocka_unit_test(test_follow_slots),
		cmocka_unit_test(test_create_refusals),
		cmocka_unit_test(test_larger_pages),
		cmocka_unit_test(test_end_outside_in),
		cmocka_unit_test(test_destroy_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
