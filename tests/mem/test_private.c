/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private slots, which user calls neither see, spend nor delete; and internal guests, whose memory
 * lies at its own address.
 */
#include "fixture.h"

#define DEVICE UINT64_C(0x09000000)
#define RAM UINT64_C(0x40000000)
#define MIB (UINT64_C(1) << 20)

static struct vd_slot_config private_slot(uint64_t base, uint64_t size)
{
	struct vd_slot_config config = trap_slot(base, size, &trap_none, NULL);

	config.is_private = true;
	return config;
}

static int remove_private(struct fixture *f, uint32_t id)
{
	struct vd_mem_update *update;
	int r;

	assert_int_equal(vd_mem_begin(f->mem, &update), 0);
	r = vd_mem_remove_private(update, id);
	if (r)
		vd_mem_abort(update);
	else
		vd_mem_commit(update);
	return r;
}

#define SEEN_MAX 64u

/* In a read section: what is wrong is said later. */
struct seen {
	uint32_t count, private;
	uint32_t id[SEEN_MAX];
};

static int note(void *context, const struct vd_slot *slot)
{
	struct seen *seen = context;

	seen->private += slot->config.is_private || slot->id & VD_MEM_PRIVATE_ID;
	seen->id[seen->count++ % SEEN_MAX] = slot->id;
	return 0;
}

static void test_user_calls_do_not_see_them(void **state)
{
	struct seen seen = {0};
	uint32_t user, own;
	struct vd_slot_config config;
	struct vd_mem_update *update;
	struct vd_mem_page page;
	struct fixture f;
	uint8_t bits[64];

	(void)state;
	fixture_open(&f);
	config = ram_slot(&f, 0x10000, 0, 4 * PAGE);
	config.is_private = true;
	own = add_slot(&f, &config);
	user = add_ram(&f, 0x80000, 0, 4 * PAGE);
	assert_true(own & VD_MEM_PRIVATE_ID);
	assert_false(user & VD_MEM_PRIVATE_ID);
	assert_int_equal(vd_mem_slot_count(f.mem), 1);
	assert_int_equal(vd_mem_private_count(f.mem), 1);
	assert_int_equal(vd_mem_each(f.mem, note, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.private, 0);
	assert_int_equal(seen.id[0], user);
	/* nor name them */
	assert_int_equal(vd_mem_remove_slot(f.mem, own), -ENOENT);
	assert_int_equal(vd_mem_remove_slot(f.mem, own & ~VD_MEM_PRIVATE_ID), 0); /* the user's */
	user = add_ram(&f, 0x80000, 0, 4 * PAGE);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, own, (vd_gpa){0x200000}, NULL), -ENOENT);
	assert_int_equal(vd_mem_remove_private(update, user), -ENOENT);
	assert_int_equal(vd_mem_remove_private(update, VD_MEM_PRIVATE_ID | 77), -ENOENT);
	assert_int_equal(vd_mem_remove_private(update, 0), -ENOENT);
	assert_int_equal(vd_mem_remove_private(update, VD_MEM_PRIVATE_ID), -ENOENT);
	vd_mem_abort(update);
	assert_int_equal(vd_mem_dirty_start(f.mem, own), -ENOENT);
	assert_int_equal(vd_mem_dirty_stop(f.mem, own), -ENOENT);
	assert_int_equal(vd_mem_dirty_fetch(f.mem, own, bits, sizeof(bits)), -ENOENT);
	/* the guest does */
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0x10000}, VD_WRITE, &page), 0);
	assert_int_equal(page.slot_id, own);
	config = ram_slot(&f, 0x10000, 0, PAGE);
	assert_int_equal(vd_mem_add_slot(f.mem, &config, NULL, NULL), -EEXIST);
	assert_int_equal(remove_private(&f, own), 0);
	assert_int_equal(remove_private(&f, own), -ENOENT);
	assert_int_equal(vd_mem_private_count(f.mem), 0);
	assert_int_equal(vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0x10000}, VD_READ, &page), -ENOENT);
	fixture_close(&f);
}

/* Each kind can be used up while the other goes on. */
static void test_user_calls_do_not_spend_them(void **state)
{
	struct vd_mem_update *update;
	struct vd_slot_config config;
	struct fixture f;
	uint32_t id;

	(void)state;
	_Static_assert(VD_MEM_PRIVATE_SLOTS_MAX >= 256, "row C2");
	fixture_open(&f);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	/* one of them is there before, so that neither kind counts towards the other's limit */
	config = private_slot(UINT64_C(1) << 33, 16);
	assert_int_equal(vd_mem_add(update, &config, NULL, NULL), 0);
	for (uint32_t i = 0; i < VD_MEM_SLOTS_MAX; i++) {
		config = trap_slot(i * UINT64_C(16), 16, &trap_none, NULL);
		assert_int_equal(vd_mem_add(update, &config, NULL, NULL), 0);
	}
	config = trap_slot(UINT64_C(1) << 30, 16, &trap_none, NULL);
	assert_int_equal(vd_mem_add(update, &config, NULL, NULL), -ENOSPC);
	for (uint32_t i = 1; i < VD_MEM_PRIVATE_SLOTS_MAX; i++) {
		config = private_slot((UINT64_C(1) << 31) + i * UINT64_C(16), 16);
		assert_int_equal(vd_mem_add(update, &config, &id, NULL), 0);
		assert_true(id > VD_MEM_PRIVATE_ID && id <= (VD_MEM_PRIVATE_ID | 2048));
	}
	config = private_slot(UINT64_C(1) << 32, 16);
	assert_int_equal(vd_mem_add(update, &config, NULL, NULL), -ENOSPC);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_slot_count(f.mem), VD_MEM_SLOTS_MAX);
	assert_int_equal(vd_mem_private_count(f.mem), VD_MEM_PRIVATE_SLOTS_MAX);
	/* one leaves in the same update as one comes */
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_add(update, &config, NULL, NULL), -ENOSPC);
	assert_int_equal(vd_mem_remove_private(update, id), 0);
	assert_int_equal(vd_mem_add(update, &config, &id, NULL), 0);
	assert_int_equal(vd_mem_remove_private(update, id), 0);
	assert_int_equal(vd_mem_add(update, &config, &id, NULL), 0);
	vd_mem_abort(update);
	assert_int_equal(vd_mem_add_slot(f.mem, &config, &id, NULL), -ENOSPC);
	fixture_close(&f);
}

/* Random updates of both kinds, kept or forgotten, against two sets of ids. */
#define MODEL_SLOTS 40u

struct model {
	uint32_t id[MODEL_SLOTS]; /* 0: free */
	bool own[MODEL_SLOTS];
};

static void model_count(struct fixture *f, const struct model *model)
{
	size_t own = 0, users = 0;
	struct seen seen = {0};

	for (unsigned i = 0; i < MODEL_SLOTS; i++)
		if (model->id[i])
			*(model->own[i] ? &own : &users) += 1;
	assert_int_equal(vd_mem_private_count(f->mem), own);
	assert_int_equal(vd_mem_slot_count(f->mem), users);
	assert_int_equal(vd_mem_each(f->mem, note, &seen), 0);
	assert_int_equal(seen.count, users);
	assert_int_equal(seen.private, 0);
}

static void model_step(struct fixture *f, struct vd_mem_update *update, struct model *model)
{
	unsigned i = test_random(test_state()) % MODEL_SLOTS;
	bool own = test_random(test_state()) % 2;
	struct vd_slot_config config = trap_slot(i * PAGE, PAGE, &trap_none, NULL);

	(void)f;
	if (model->id[i]) {
		assert_int_equal((model->own[i] ? vd_mem_remove : vd_mem_remove_private)(
					 update, model->id[i]), -ENOENT);
		assert_int_equal((model->own[i] ? vd_mem_remove_private : vd_mem_remove)(
					 update, model->id[i]), 0);
		model->id[i] = 0;
		return;
	}
	config.is_private = own;
	assert_int_equal(vd_mem_add(update, &config, &model->id[i], NULL), 0);
	assert_int_equal(!!(model->id[i] & VD_MEM_PRIVATE_ID), own);
	model->own[i] = own;
	for (unsigned j = 0; j < MODEL_SLOTS; j++)
		assert_true(j == i || model->id[j] != model->id[i]);
}

static void test_model(void **state)
{
	struct model model = {0}, before;
	struct vd_mem_update *update;
	struct fixture f;

	(void)state;
	fixture_open(&f);
	test_start(0xc2);
	for (unsigned round = 0; round < 300; round++) {
		before = model;
		assert_int_equal(vd_mem_begin(f.mem, &update), 0);
		for (unsigned n = test_random(test_state()) % 8; n; n--)
			model_step(&f, update, &model);
		if (test_random(test_state()) % 3) {
			vd_mem_commit(update);
		} else {
			vd_mem_abort(update);
			model = before;
		}
		model_count(&f, &model);
	}
	fixture_close(&f);
}

static void test_every_allocation_may_fail(void **state)
{
	struct vd_slot_config config = private_slot(0, PAGE);
	struct fixture f;
	long step;
	int r;

	(void)state;
	for (step = 1;; step++) {
		fixture_open(&f);
		test_env_fail(&f.test, step, -ENOMEM);
		r = vd_mem_add_slot(f.mem, &config, NULL, NULL);
		if (!test_env_failed(&f.test))
			break;
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(vd_mem_private_count(f.mem), 0);
		fixture_close(&f);
	}
	assert_int_equal(r, 0);
	assert_true(step > 4);
	fixture_close(&f);
}

/* ---- internal guests ---- */

static const struct vd_physical_range board[] = {
	{DEVICE, 16 * PAGE, VD_PAGE_DEVICE, VD_MEMORY_UNCACHED, false},
	{RAM, 64 * MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, false},
};

static void test_predicate(void **state)
{
	struct vd_host_physical_config host_config = {vd_env_hosted(), 12, board, 2};
	struct vd_mem_config config = {.env = vd_env_hosted(), .internal = true};
	struct vd_host *physical;
	struct fixture f;
	struct vd_mem *mem = NULL;

	(void)state;
	fixture_open(&f);
	assert_false(vd_mem_is_internal(f.mem));
	config.host = f.host;
	assert_int_equal(vd_mem_create(&config, &mem, NULL), -EINVAL);
	assert_null(mem);
	assert_int_equal(vd_host_create_physical(&host_config, &physical, NULL), 0);
	config.host = physical;
	assert_int_equal(vd_mem_create(&config, &mem, NULL), 0);
	assert_true(vd_mem_is_internal(mem));
	vd_mem_destroy(mem);
	/* a guest of another kind over the machine's memory is an ordinary one */
	config.internal = false;
	assert_int_equal(vd_mem_create(&config, &mem, NULL), 0);
	assert_false(vd_mem_is_internal(mem));
	vd_mem_destroy(mem);
	vd_host_destroy(physical);
	fixture_close(&f);
}

static int add_at(struct vd_mem *mem, struct vd_host_object *object, uint64_t base,
		  uint64_t offset, enum vd_slot_kind kind, uint32_t *id)
{
	struct vd_slot_config config = {.base = {base}, .size = PAGE, .kind = kind,
					.object = object, .offset = offset};

	return vd_mem_add_slot(mem, &config, id, NULL);
}

static void test_memory_lies_at_its_own_address(void **state)
{
	struct vd_host_physical_config host_config = {vd_env_hosted(), 12, board, 2};
	struct vd_mem_config config = {.env = vd_env_hosted(), .internal = true,
				       .address_bits = 31};
	struct vd_slot_config trap = trap_slot(0, PAGE, &trap_none, NULL);
	struct vd_host_object *ram, *device;
	struct vd_mem_update *update;
	struct vd_mem_page page;
	struct vd_mem *mem;
	uint32_t id;

	(void)state;
	assert_int_equal(vd_host_create_physical(&host_config, &config.host, NULL), 0);
	assert_int_equal(vd_mem_create(&config, &mem, NULL), 0);
	assert_int_equal(vd_host_physical(config.host, "ram", RAM, MIB, 0, &ram, NULL), 0);
	assert_int_equal(vd_host_physical(config.host, "uart", DEVICE, PAGE, VD_HOST_DEVICE,
					  &device, NULL), 0);
	assert_int_equal(add_at(mem, ram, RAM, 0, VD_SLOT_RAM, &id), 0);
	assert_int_equal(add_at(mem, ram, RAM + PAGE, PAGE, VD_SLOT_RAM, NULL), 0);
	assert_int_equal(add_at(mem, ram, RAM + 2 * PAGE, 3 * PAGE, VD_SLOT_RAM, NULL),
			 -EADDRNOTAVAIL);
	assert_int_equal(add_at(mem, ram, 0, 0, VD_SLOT_RAM, NULL), -EADDRNOTAVAIL);
	assert_int_equal(add_at(mem, device, DEVICE, 0, VD_SLOT_RAM, NULL), -EINVAL);
	assert_int_equal(add_at(mem, device, DEVICE, 0, VD_SLOT_DEVICE, NULL), 0);
	assert_int_equal(vd_mem_add_slot(mem, &trap, NULL, NULL), -EOPNOTSUPP);
	/* beyond the IPA size, whatever lies there */
	assert_int_equal(add_at(mem, ram, UINT64_C(1) << 31, 0, VD_SLOT_RAM, NULL), -EOVERFLOW);
	assert_int_equal(vd_mem_begin(mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){RAM + 8 * PAGE}, NULL), -EADDRNOTAVAIL);
	vd_mem_abort(update);
	assert_int_equal(vd_mem_gpa_to_pfn(mem, (vd_gpa){RAM + PAGE}, VD_WRITE, &page), 0);
	assert_int_equal(page.host.pfn.value, (RAM + PAGE) >> 12);
	assert_int_equal(vd_mem_gpa_to_pfn(mem, (vd_gpa){DEVICE}, VD_WRITE, &page), 0);
	assert_int_equal(page.host.pfn.value, DEVICE >> 12);
	assert_int_equal(page.host.type, VD_MEMORY_UNCACHED);
	vd_mem_destroy(mem);
	vd_host_object_put(ram);
	vd_host_object_put(device);
	vd_host_destroy(config.host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user_calls_do_not_see_them),
		cmocka_unit_test(test_user_calls_do_not_spend_them),
		cmocka_unit_test_teardown(test_model, test_seed_print),
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_predicate),
		cmocka_unit_test(test_memory_lies_at_its_own_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
