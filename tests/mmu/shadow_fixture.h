/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest with page tables of its own in its RAM, a shadow over it, and a walker that has no TLB:
 * whatever the shadow holds is seen at once.
 */
#ifndef VIADUCT_TESTS_MMU_SHADOW_FIXTURE_H
#define VIADUCT_TESTS_MMU_SHADOW_FIXTURE_H

#include "fixture.h"
#include "shadow_guest.h"

#include <viaduct/shadow.h>

#define GUEST_RAM (256 * MIB) /* where the 4 MiB of RAM lie */
#define GUEST_BAR (512 * MIB)
#define GUEST_ROM (768 * MIB) /* a part of the RAM once more, read-only */
#define GUEST_ROM_BYTES (256 * KIB)
#define GUEST_TRAP GIB

struct shadowed {
	struct fixture f;
	struct vd_shadow *shadow;
	const struct guest_kind *kind;
	uintptr_t window;
	uint32_t ram_slot;
	struct vd_host_object *ram;
};

static inline int no_trap_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context, (void)offset, (void)length;
	*value = 0;
	return 0;
}

static inline int no_trap_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	(void)context, (void)offset, (void)length, (void)value;
	return 0;
}

static inline int shadow_open_config(struct shadowed *s, const struct vd_mmu_format *format,
				     unsigned pages, struct vd_error *error)
{
	struct vd_shadow_config config = {
		.env = &s->f.checked.env, .mem = s->f.mem, .format = format,
		.flush = fixture_flush, .flush_context = &s->f, .pages = pages,
	};

	return vd_shadow_create(&config, &s->shadow, error);
}

/* @large: RAM in one piece, that cannot be moved. */
static inline void shadow_open_world(struct shadowed *s, const struct guest_kind *kind, bool large)
{
	static const struct vd_trap_ops ops = {no_trap_read, no_trap_write};
	struct vd_slot_config trap = {.base = {GUEST_TRAP}, .size = PAGE, .kind = VD_SLOT_TRAP,
				      .ops = &ops, .reason = "a test"};

	memset(s, 0, sizeof(*s));
	s->kind = kind;
	fixture_open_space(&s->f);
	s->window = vd_host_window_base(s->f.host);
	s->ram = large ? s->f.ram : s->f.spares;
	s->ram_slot = fixture_slot(&s->f, GUEST_RAM, SPARES_BYTES, s->ram, 0, false);
	fixture_slot(&s->f, GUEST_BAR, BAR_BYTES, s->f.bar, 0, false);
	fixture_slot(&s->f, GUEST_ROM, GUEST_ROM_BYTES, s->ram, SPARES_BYTES / 2, true);
	assert_int_equal(vd_mem_add_slot(s->f.mem, &trap, NULL, NULL), 0);
}

static inline void shadow_open(struct shadowed *s, const struct guest_kind *kind,
			       const struct vd_mmu_format *format, unsigned pages, bool large)
{
	struct vd_error error = {.text = ""};

	shadow_open_world(s, kind, large);
	if (shadow_open_config(s, format, pages, &error))
		fail_msg("%s", error.text);
}

static inline void shadow_close(struct shadowed *s)
{
	test_env_fail(&s->f.checked, 0, 0);
	vd_shadow_destroy(s->shadow);
	fixture_close(&s->f);
}

static inline void *gpa_pointer(struct shadowed *s, uint64_t gpa)
{
	struct vd_mem_page page;

	if (vd_mem_gpa_to_pfn(s->f.mem, (vd_gpa){gpa}, VD_READ, &page))
		return NULL;
	return (char *)vd_host_pointer(s->window, page.host.pfn, 12) + (gpa & (PAGE - 1));
}

/* Guest memory as it is, behind everybody's back. */
static inline uint64_t peek(struct shadowed *s, uint64_t gpa, unsigned bytes)
{
	void *p = gpa_pointer(s, gpa);

	assert_non_null(p);
	return bytes == 4 ? vd_guest_load32(p) : vd_guest_load64(p);
}

/* An entry before the shadow has seen its table. */
static inline void poke(struct shadowed *s, uint64_t gpa, uint64_t value)
{
	void *p = gpa_pointer(s, gpa);

	assert_non_null(p);
	if (s->kind->format->entry_bytes == 4)
		vd_guest_store32(p, (uint32_t)value);
	else
		vd_guest_store64(p, value);
}

static inline struct vd_shadow_root *root_of(struct shadowed *s, uint64_t table)
{
	struct vd_shadow_root *root = NULL;

	assert_int_equal(vd_shadow_root_get(s->shadow, s->kind->format, (vd_gpa){table}, &root), 0);
	return root;
}

static inline struct vd_shadow_stats shadow_stats(struct shadowed *s)
{
	struct vd_shadow_stats stats;

	vd_shadow_stats(s->shadow, &stats);
	return stats;
}

static inline int shadow_walk(struct shadowed *s, struct vd_shadow_root *root, uint64_t gva,
			      unsigned access, struct vd_shadow_leaf *leaf)
{
	struct vd_shadow_leaf none;

	return vd_shadow_walk(s->shadow, root, (vd_gva){gva}, access, leaf ? leaf : &none);
}

/*
 * What a hart does for one access. Return: 0 and the pointer; VD_SHADOW_EMULATE; or an error.
 */
static inline int shadow_access(struct shadowed *s, struct vd_shadow_root *root, uint64_t gva,
				unsigned access, void **host, struct vd_shadow_access *what)
{
	struct vd_shadow_leaf leaf;
	int ret;

	while (shadow_walk(s, root, gva, access, &leaf)) {
		ret = vd_shadow_fault(s->shadow, root, (vd_gva){gva}, access, what);
		if (ret)
			return ret;
	}
	*host = (char *)vd_host_pointer(s->window, leaf.leaf.pfn, 12) + (gva & (PAGE - 1));
	return 0;
}

/* A store of the guest's, wherever it goes. Return: as shadow_access(), with emulation done. */
static inline int shadow_store(struct shadowed *s, struct vd_shadow_root *root, uint64_t gva,
			       unsigned access, uint64_t value, unsigned bytes)
{
	struct vd_shadow_access what;
	struct vd_shadow_write write;
	void *host = NULL;
	int ret = shadow_access(s, root, gva, access | VD_WRITE, &host, &what);

	if (ret < 0)
		return ret;
	if (ret == VD_SHADOW_EMULATE) {
		if (vd_shadow_write_begin(s->shadow, what.gpa, bytes, &write))
			fail_msg("the store cannot be emulated");
		host = write.host;
	}
	vd_guest_copy(host, &value, bytes);
	if (ret == VD_SHADOW_EMULATE)
		vd_shadow_write_end(s->shadow, &write);
	return 0;
}

#endif
