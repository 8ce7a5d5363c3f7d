/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "fixture.h"

#define CALLS_MAX 16u

struct device {
	unsigned calls;
	struct {
		uint64_t offset, value;
		unsigned length;
	} call[CALLS_MAX];
	int answer;
	unsigned fail_at;
	uint64_t read_value;
};

static int note(struct device *device, uint64_t offset, unsigned length, uint64_t value)
{
	unsigned i = device->calls++;

	assert_true(i < CALLS_MAX);
	device->call[i].offset = offset;
	device->call[i].length = length;
	device->call[i].value = value;
	return i == device->fail_at ? device->answer : 0;
}

static int device_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	struct device *device = context;

	*value = device->read_value >> offset * 8;
	return note(device, offset, length, 0);
}

static int device_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	return note(context, offset, length, value);
}

static const struct vd_trap_ops device_ops = {device_read, device_write};

static void test_dispatch(void **state)
{
	struct device device = {.read_value = UINT64_C(0x8877665544332211)};
	struct vd_slot_config slot = trap_slot(0x1000, 16, &device_ops, &device);
	struct fixture f;
	uint64_t value = 0;

	(void)state;
	fixture_open(&f);
	add_slot(&f, &slot);
	for (unsigned length = 1; length <= 8; length *= 2) {
		uint64_t mask = length == 8 ? UINT64_MAX : (UINT64_C(1) << length * 8) - 1;

		device.calls = 0;
		assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1000}, length, &value), 0);
		assert_true(value == (device.read_value & mask)); /* zero-extended */
		assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0x1008}, length, UINT64_MAX), 0);
		assert_int_equal(device.calls, 2);
		assert_int_equal(device.call[1].offset, 8);
		assert_int_equal(device.call[1].length, length);
		assert_true(device.call[1].value == mask);
	}
	device.calls = device.fail_at = 0;
	device.answer = -EIO;
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1000}, 4, &value), -EIO);
	fixture_close(&f);
}

/* Operations see naturally aligned pieces only; after one that fails there is no further one. */
static void test_misaligned_pieces(void **state)
{
	struct device device = {.read_value = UINT64_C(0x8877665544332211), .fail_at = CALLS_MAX};
	struct vd_slot_config slot = trap_slot(0x1000, 16, &device_ops, &device);
	struct fixture f;
	uint64_t value = 0;

	(void)state;
	fixture_open(&f);
	add_slot(&f, &slot);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1001}, 4, &value), 0);
	assert_int_equal(value, 0x55443322);
	assert_int_equal(device.calls, 3); /* 1 + 2 + 1 */
	assert_int_equal(device.call[1].offset, 2);
	assert_int_equal(device.call[1].length, 2);
	device.calls = 0;
	value = UINT64_C(0x1122334455667788);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0x1004}, 8, value), 0);
	assert_int_equal(device.calls, 2);
	assert_int_equal(device.call[0].value, 0x55667788);
	assert_int_equal(device.call[1].offset, 8);
	assert_int_equal(device.call[1].value, 0x11223344);
	device.calls = 0;
	device.fail_at = 1;
	device.answer = -EACCES;
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0x1001}, 4, 0), -EACCES);
	assert_int_equal(device.calls, 2);
	fixture_close(&f);
}

static void test_refusals(void **state)
{
	struct vd_slot_config slot = trap_slot(0x1000, 6, &trap_none, NULL);
	struct fixture f;
	uint64_t value = 7;

	(void)state;
	fixture_open(&f);
	add_slot(&f, &slot);
	add_ram(&f, 0x2000, 0, PAGE);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0xfff}, 1, &value), -ENOENT);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0xfff}, 2, &value), -ENOENT);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1004}, 4, &value), -ENOENT);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1006}, 1, &value), -ENOENT);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0x2000}, 1, 0), -ENOENT); /* RAM */
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1000}, 0, &value), -EINVAL);
	assert_int_equal(vd_mem_mmio_read(f.mem, (vd_gpa){0x1000}, 3, &value), -EINVAL);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0x1000}, 16, 0), -EINVAL);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){UINT64_MAX}, 8, 0), -EINVAL);
	assert_int_equal(value, 7);
	fixture_close(&f);
}

/* ---- operations that change the slot set ---- */

struct remover {
	struct fixture *f;
	uint32_t victim;
	_Atomic uint32_t inside, go_on;
	bool meet;
	int result;
	struct remover *other;
};

static void meet_other(struct remover *self)
{
	const struct vd_env *env = vd_env_hosted();

	atomic_store(&self->inside, 1);
	env->wake(env, &self->inside);
	while (!atomic_load(&self->other->inside))
		env->wait(env, &self->other->inside, 0);
}

static int remover_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	struct remover *self = context;

	(void)offset;
	(void)length;
	(void)value;
	if (self->other)
		meet_other(self);
	self->result = vd_mem_remove_slot(self->f->mem, self->victim);
	return 0;
}

static const struct vd_trap_ops remover_ops = {trap_read_none, remover_write};

static void test_removes_itself(void **state)
{
	struct fixture f;
	struct remover self = {.f = &f, .result = 1};
	struct vd_slot_config slot = trap_slot(0, 8, &remover_ops, &self);

	(void)state;
	fixture_open(&f);
	self.victim = add_slot(&f, &slot);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0}, 4, 0), 0);
	assert_int_equal(self.result, 0);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0}, 4, 0), -ENOENT);
	fixture_close(&f);
}

/*
 * An operation inside an operation, the inner one removing both its own slot and the outer one's.
 */
struct nest {
	struct fixture *f;
	uint32_t ids[2];
};

static int nest_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	struct nest *nest = context;
	struct vd_mem_update *update;

	if (value == 0)
		return vd_mem_mmio_write(nest->f->mem, (vd_gpa){PAGE + offset}, length, 1);
	assert_int_equal(vd_mem_begin(nest->f->mem, &update), 0);
	assert_int_equal(vd_mem_remove(update, nest->ids[0]), 0);
	assert_int_equal(vd_mem_remove(update, nest->ids[1]), 0);
	vd_mem_commit(update);
	return 0;
}

static void test_nested_removal(void **state)
{
	static const struct vd_trap_ops ops = {trap_read_none, nest_write};
	struct vd_slot_config slot;
	struct fixture f;
	struct nest nest = {.f = &f};

	(void)state;
	fixture_open(&f);
	for (unsigned i = 0; i < 2; i++) {
		slot = trap_slot(i * PAGE, 8, &ops, &nest);
		nest.ids[i] = add_slot(&f, &slot);
	}
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0}, 4, 0), 0);
	assert_int_equal(vd_mem_slot_count(f.mem), 0);
	fixture_close(&f);
}

static void *write_thread(void *argument)
{
	struct remover *self = argument;
	uint64_t base = self->victim == 2 ? 0 : PAGE; /* each removes the other's slot */

	assert_int_equal(vd_mem_mmio_write(self->f->mem, (vd_gpa){base}, 4, 0), 0);
	return NULL;
}

/* Two operations, each removing the slot the other one came through: neither waits for ever. */
static void test_remove_each_other(void **state)
{
	struct fixture f;
	struct remover a = {.f = &f}, b = {.f = &f, .other = &a};
	struct vd_slot_config slot;
	pthread_t threads[2];

	(void)state;
	a.other = &b;
	fixture_open(&f);
	slot = trap_slot(0, 8, &remover_ops, &a);
	b.victim = add_slot(&f, &slot);
	slot = trap_slot(PAGE, 8, &remover_ops, &b);
	a.victim = add_slot(&f, &slot);
	assert_int_equal(b.victim, 1);
	assert_int_equal(a.victim, 2);
	assert_int_equal(pthread_create(&threads[0], NULL, write_thread, &a), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, write_thread, &b), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(a.result, 0);
	assert_int_equal(b.result, 0);
	assert_int_equal(vd_mem_slot_count(f.mem), 0);
	fixture_close(&f);
}

/* ---- a removal waits for the operation on another thread ---- */

struct slow {
	struct fixture *f;
	uint32_t id;
	_Atomic uint32_t inside, go_on;
	_Atomic bool left, removed;
};

static int slow_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	const struct vd_env *env = vd_env_hosted();
	struct slow *slow = context;

	(void)offset;
	(void)length;
	(void)value;
	atomic_store(&slow->inside, 1);
	env->wake(env, &slow->inside);
	while (!atomic_load(&slow->go_on))
		env->wait(env, &slow->go_on, 0);
	atomic_store(&slow->left, true);
	return 0;
}

static void *slow_access(void *argument)
{
	struct slow *slow = argument;

	assert_int_equal(vd_mem_mmio_write(slow->f->mem, (vd_gpa){0}, 1, 0), 0);
	return NULL;
}

static void *slow_remove(void *argument)
{
	struct slow *slow = argument;

	assert_int_equal(vd_mem_remove_slot(slow->f->mem, slow->id), 0);
	assert_true(slow->left);
	atomic_store(&slow->removed, true);
	return NULL;
}

static void test_removal_waits(void **state)
{
	static const struct vd_trap_ops ops = {trap_read_none, slow_write};
	const struct vd_env *env = vd_env_hosted();
	struct fixture f;
	struct slow slow = {.f = &f};
	struct vd_slot_config slot = trap_slot(0, 8, &ops, &slow);
	pthread_t access, removal;

	(void)state;
	fixture_open(&f);
	slow.id = add_slot(&f, &slot);
	assert_int_equal(pthread_create(&access, NULL, slow_access, &slow), 0);
	while (!atomic_load(&slow.inside))
		env->wait(env, &slow.inside, 0);
	assert_int_equal(pthread_create(&removal, NULL, slow_remove, &slow), 0);
	/* the slot goes although an operation runs in it; others may update meanwhile */
	while (vd_mem_slot_count(f.mem))
		assert_false(slow.removed);
	add_ram(&f, PAGE, 0, PAGE);
	assert_false(slow.removed);
	atomic_store(&slow.go_on, 1);
	env->wake(env, &slow.go_on);
	pthread_join(access, NULL);
	pthread_join(removal, NULL);
	fixture_close(&f);
}

/* A move does not wait for operations: they keep their context. */
static void test_moves_itself(void **state)
{
	struct device device = {.fail_at = CALLS_MAX};
	struct vd_slot_config slot = trap_slot(0, 8, &device_ops, &device);
	struct vd_mem_update *update;
	struct fixture f;
	uint32_t id;

	(void)state;
	fixture_open(&f);
	id = add_slot(&f, &slot);
	assert_int_equal(vd_mem_begin(f.mem, &update), 0);
	assert_int_equal(vd_mem_move(update, id, (vd_gpa){64}, NULL), 0);
	vd_mem_commit(update);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){0}, 4, 0), -ENOENT);
	assert_int_equal(vd_mem_mmio_write(f.mem, (vd_gpa){68}, 4, 9), 0);
	assert_int_equal(device.call[0].offset, 4);
	assert_int_equal(device.call[0].value, 9);
	assert_int_equal(vd_mem_remove_slot(f.mem, id), 0);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_misaligned_pieces),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_removes_itself),
		cmocka_unit_test(test_nested_removal),
		cmocka_unit_test(test_remove_each_other),
		cmocka_unit_test(test_removal_waits),
		cmocka_unit_test(test_moves_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
