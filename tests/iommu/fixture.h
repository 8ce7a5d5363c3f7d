/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory of a host, a guest over it, and a DMA space, for the tests of this floor. */
#ifndef VIADUCT_TESTS_IOMMU_FIXTURE_H
#define VIADUCT_TESTS_IOMMU_FIXTURE_H

#include "../mem/fixture.h"

#include <viaduct/iommu.h>

/* Most tests of this floor are run twice: what is answered is the same in both modes. */
static inline enum vd_dma_mode dma_mode(void)
{
	return getenv("VD_TEST_ASSIGNED") ? VD_DMA_ASSIGNED : VD_DMA_MEDIATED;
}

struct dma_fixture {
	struct fixture base;
	struct vd_dma_space *space;
};

static inline struct vd_dma_space *make_space(struct fixture *f, uint64_t pin_limit_ms)
{
	struct vd_dma_config config = {.env = f->env, .host = f->host,
				       .pin_limit_ms = pin_limit_ms, .mode = dma_mode()};
	struct vd_dma_space *space = NULL;
	struct vd_error error = {.text = ""};

	if (vd_dma_space_create(&config, &space, &error))
		fail_msg("%s", error.text);
	return space;
}

/* A space of its own maps. */
static inline void dma_open(struct dma_fixture *f)
{
	fixture_open(&f->base);
	f->space = make_space(&f->base, 0);
}

/* A space that follows the guest, which has RAM_PAGES of RAM at 0x100000. */
#define GUEST_RAM UINT64_C(0x100000)

static inline uint32_t dma_open_guest(struct dma_fixture *f)
{
	struct vd_error error = {.text = ""};

	dma_open(f);
	if (vd_dma_follow(f->space, f->base.mem, &error))
		fail_msg("%s", error.text);
	return add_ram(&f->base, GUEST_RAM, 0, RAM_PAGES * PAGE);
}

static inline void dma_close_fixture(struct dma_fixture *f)
{
	test_env_fail(&f->base.test, 0, 0);
	vd_dma_space_destroy(f->space);
	fixture_close(&f->base);
}

static inline int dma_map(struct dma_fixture *f, uint64_t iova, uint64_t length, uint64_t offset,
			  unsigned access)
{
	return vd_dma_map(f->space, (vd_iova){iova}, length, f->base.ram, offset, access);
}

static inline struct vd_dma_stats stats_of(const struct vd_dma_space *space)
{
	struct vd_dma_stats stats;

	vd_dma_stats(space, &stats);
	return stats;
}

/* The host's own view of a byte of an object. */
static inline unsigned char *object_byte(const struct fixture *f,
					 const struct vd_host_object *object, uint64_t offset)
{
	unsigned shift = vd_host_page_shift(f->host);
	struct vd_host_page page;

	assert_int_equal(vd_host_object_lookup(object, offset, VD_READ, &page), 0);
	return (unsigned char *)vd_host_pointer(vd_host_window_base(f->host), page.pfn, shift) +
	       (offset & (PAGE - 1));
}

/* Who holds one pin, and lets go when asked, or not. */
struct holder {
	struct vd_dma_owner owner;
	struct vd_dma_range range;
	struct vd_dma_pin pin;
	struct vd_dma_segment segment;
	unsigned asked;
	uint64_t asked_start, asked_length;
	bool lets_go, holds;
};

static inline void holder_let_go(struct holder *holder)
{
	if (holder->holds)
		vd_dma_unpin(&holder->pin);
	holder->holds = false;
}

static inline void holder_request(struct vd_dma_owner *owner, vd_iova start, uint64_t length)
{
	struct holder *holder = (struct holder *)owner;

	holder->asked++;
	holder->asked_start = start.value;
	holder->asked_length = length;
	if (holder->lets_go)
		holder_let_go(holder);
}

static inline int holder_pin(struct holder *holder, struct vd_dma_space *space, uint64_t iova,
			     uint64_t length, unsigned access)
{
	unsigned segments = 1;
	int r;

	*holder = (struct holder){.owner.unpin_request = holder_request,
				  .range = {{iova}, length}, .lets_go = true};
	r = vd_dma_pin(space, &holder->range, 1, access, &holder->owner, &holder->pin,
		       &holder->segment, &segments);
	holder->holds = !r;
	return r;
}

/* Another device's BAR memory. */
static inline struct vd_host_object *make_device_memory(struct fixture *f)
{
	struct vd_host_object *device = NULL;
	struct vd_error error = {.text = ""};

	if (vd_host_import(f->host, "bar", vd_host_object_fd(f->other), 0, 4 * PAGE, VD_PAGE_DEVICE,
			   VD_MEMORY_UNCACHED, 0, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

#endif
