/* SPDX-License-Identifier: BSD-2-Clause */
/* A host with some memory and a space over it, for the tests of this floor. */
#ifndef VIADUCT_TESTS_MEM_FIXTURE_H
#define VIADUCT_TESTS_MEM_FIXTURE_H

#include "../base/test_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <viaduct/mem.h>

#define PAGE UINT64_C(4096)
#define RAM_PAGES UINT64_C(256)

struct fixture {
	struct test_env test;
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_host_object *ram;   /* RAM_PAGES, with spare frames */
	struct vd_host_object *other; /* the same */
	struct vd_mem *mem;
};

static inline void fixture_open(struct fixture *f)
{
	struct vd_host_config host_config = {.env = &f->test.env};
	struct vd_mem_config mem_config = {.env = &f->test.env};
	struct vd_error error;

	test_env_init(&f->test);
	f->env = &f->test.env;
	assert_int_equal(vd_host_create(&host_config, &f->host, &error), 0);
	assert_int_equal(vd_host_ram_create(f->host, "ram", RAM_PAGES * PAGE, VD_HOST_SPARES,
					    &f->ram, &error), 0);
	assert_int_equal(vd_host_ram_create(f->host, "other", RAM_PAGES * PAGE, VD_HOST_SPARES,
					    &f->other, &error), 0);
	mem_config.host = f->host;
	assert_int_equal(vd_mem_create(&mem_config, &f->mem, &error), 0);
}

/* Nothing may be left: every block that was taken is given back. */
static inline void fixture_close(struct fixture *f)
{
	test_env_fail(&f->test, 0, 0);
	vd_mem_destroy(f->mem);
	vd_host_object_put(f->ram);
	vd_host_object_put(f->other);
	vd_host_destroy(f->host);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(f->test.blocks, 0);
}

static inline struct vd_slot_config ram_slot(const struct fixture *f, uint64_t base,
					     uint64_t offset, uint64_t size)
{
	return (struct vd_slot_config){
		.base = {base},
		.size = size,
		.kind = VD_SLOT_RAM,
		.object = f->ram,
		.offset = offset,
		.name = "ram",
	};
}

static inline uint32_t add_slot(struct fixture *f, const struct vd_slot_config *config)
{
	struct vd_error error = {.text = ""};
	uint32_t id = 0;

	if (vd_mem_add_slot(f->mem, config, &id, &error))
		fail_msg("%s", error.text);
	assert_int_not_equal(id, 0);
	return id;
}

static inline uint32_t add_ram(struct fixture *f, uint64_t base, uint64_t offset, uint64_t size)
{
	struct vd_slot_config config = ram_slot(f, base, offset, size);

	return add_slot(f, &config);
}

static inline int trap_read_none(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context;
	(void)offset;
	(void)length;
	*value = UINT64_MAX;
	return 0;
}

static inline int trap_write_none(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context;
	(void)offset;
	(void)length;
	(void)value;
	return 0;
}

static const struct vd_trap_ops trap_none = {trap_read_none, trap_write_none};

static inline struct vd_slot_config trap_slot(uint64_t base, uint64_t size,
					      const struct vd_trap_ops *ops, void *context)
{
	return (struct vd_slot_config){
		.base = {base},
		.size = size,
		.kind = VD_SLOT_TRAP,
		.ops = ops,
		.context = context,
		.reason = "a test",
		.name = "trap",
	};
}

/* A mirror that notes which events it heard, and can refuse. */
#define HEARD_MAX 64u

struct ear {
	struct vd_listener listener;
	struct vd_invalidation starts[HEARD_MAX], ends[HEARD_MAX];
	unsigned start_count, end_count, release_count;
	_Atomic unsigned ended; /* end_count for other threads */
	int answer;
	bool young;
};

static inline int ear_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct ear *ear = (struct ear *)listener;

	if (ear->answer && !event->blockable)
		return ear->answer;
	ear->starts[ear->start_count++ % HEARD_MAX] = *event;
	return 0;
}

static inline void ear_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	struct ear *ear = (struct ear *)listener;

	ear->ends[ear->end_count++ % HEARD_MAX] = *event;
	atomic_fetch_add(&ear->ended, 1);
}

static inline bool ear_clear_young(struct vd_listener *listener,
				   const struct vd_invalidation *range)
{
	struct ear *ear = (struct ear *)listener;
	bool young = ear->young;

	(void)range;
	ear->young = false;
	return young;
}

static inline bool ear_test_young(struct vd_listener *listener, const struct vd_invalidation *range)
{
	(void)range;
	return ((struct ear *)listener)->young;
}

static inline void ear_release(struct vd_listener *listener)
{
	((struct ear *)listener)->release_count++;
}

static const struct vd_listener_ops ear_ops = {
	.invalidate_start = ear_start,
	.invalidate_end = ear_end,
	.clear_young = ear_clear_young,
	.test_young = ear_test_young,
	.release = ear_release,
};

static inline void ear_open(struct ear *ear, struct fixture *f)
{
	*ear = (struct ear){.listener.ops = &ear_ops};
	assert_int_equal(vd_notifier_register(vd_mem_notifier(f->mem), &ear->listener), 0);
}

static inline void ear_close(struct ear *ear, struct fixture *f)
{
	vd_notifier_unregister(vd_mem_notifier(f->mem), &ear->listener);
}

#endif
