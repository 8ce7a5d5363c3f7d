/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device's side of PCI: between a device author's operations and the device core. All under the
 * device's lock.
 */
#include <string.h>

#include "pci/config.h"

/* Saved state starts with this; the last digit is the version. */
#define STATE_MAGIC UINT64_C(0x3149435044564956)

/* A capability of the device's own that wants to know of accesses. */
struct watched {
	void (*access)(void *context, uint8_t *bytes, unsigned offset, unsigned length, bool write);
	unsigned at, length;
};

struct function {
	const struct vd_env *env;
	struct vd_device *device;
	const struct vd_device_ops *ops;
	void *context;
	void (*bus_master)(void *context, bool on);
	void *state;
	size_t state_size;
	struct vd_pci_config space;
	/* Where the MSI-X table and PBA are; empty without MSI-X. */
	unsigned msix_bar;
	struct vd_region_area msix[2];
	struct watched watched[VD_PCI_CAPABILITIES_MAX];
};

static void tell_bus_master(struct function *fn)
{
	if (fn->bus_master)
		fn->bus_master(fn->context, vd_pci_config_bus_master(&fn->space));
}

static void tell_command(struct function *fn, unsigned events)
{
	if (events & VD_PCI_EVENT_BUS_MASTER)
		tell_bus_master(fn);
	if (events & VD_PCI_EVENT_INTX)
		vd_device_disable_intx(fn->device, vd_pci_config_intx_disabled(&fn->space));
}

static bool is_msix(const struct function *fn, unsigned region, uint64_t offset, size_t length)
{
	if (region != fn->msix_bar)
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (fn->msix[i].size && vd_ranges_overlap(offset, length, fn->msix[i].offset,
							  fn->msix[i].size))
			return true;
	return false;
}

static void tell_capabilities(struct function *fn, uint64_t offset, size_t length, bool write)
{
	for (unsigned i = 0; i < VD_PCI_CAPABILITIES_MAX; i++) {
		const struct watched *w = &fn->watched[i];
		uint64_t start = offset > w->at ? offset : w->at;
		uint64_t end = offset + length;

		if (!w->access || !vd_pci_touches(offset, length, w->at, w->length))
			continue;
		if (end > w->at + w->length)
			end = w->at + w->length;
		w->access(fn->context, fn->space.bytes + w->at, (unsigned)(start - w->at),
			  (unsigned)(end - start), write);
	}
}

static int function_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct function *fn = context;

	if (region == VD_REGION_CONFIG) {
		tell_capabilities(fn, offset, length, false);
		vd_pci_config_interrupt(&fn->space, vd_device_asserted(fn->device));
		vd_pci_config_read(&fn->space, offset, data, length);
		return 0;
	}
	if (is_msix(fn, region, offset, length)) {
		memset(data, 0, length);
		return 0;
	}
	return fn->ops->read(fn->context, region, offset, data, length);
}

static void function_reset(void *context, enum vd_reset_kind kind)
{
	struct function *fn = context;
	bool before = vd_pci_config_bus_master(&fn->space);

	vd_pci_config_reset(&fn->space);
	if (before)
		tell_bus_master(fn);
	if (fn->ops->reset)
		fn->ops->reset(fn->context, kind);
	/* In this order: what the reset ends must not fire once more. */
	vd_device_lower(fn->device);
	vd_device_disable_intx(fn->device, false);
}

static int function_write(void *context, unsigned region, uint64_t offset, const void *data,
			  size_t length)
{
	struct function *fn = context;
	unsigned events;

	if (is_msix(fn, region, offset, length))
		return 0;
	if (region != VD_REGION_CONFIG)
		return fn->ops->write(fn->context, region, offset, data, length);
	events = vd_pci_config_write(&fn->space, offset, data, length);
	/* By the core, without the lock: mirrors of BARs have to be emptied first. */
	if (events & VD_PCI_EVENT_RESET)
		vd_device_request_reset(fn->device, VD_RESET_FUNCTION);
	else
		tell_capabilities(fn, offset, length, true);
	tell_command(fn, events);
	return 0;
}

static int function_quiesce(void *context)
{
	struct function *fn = context;

	return fn->ops->quiesce ? fn->ops->quiesce(fn->context) : 0;
}

static void function_resume(void *context)
{
	struct function *fn = context;

	if (fn->ops->resume)
		fn->ops->resume(fn->context);
}

static int function_save(void *context, struct vd_stream *stream)
{
	struct function *fn = context;

	vd_stream_put_u64(stream, STATE_MAGIC);
	vd_stream_put(stream, fn->space.bytes, sizeof(fn->space.bytes));
	if (fn->ops->save)
		return fn->ops->save(fn->context, stream);
	vd_pci_flat_save(fn->device, fn->state, fn->state_size, stream);
	return 0;
}

static int load_own(struct function *fn, struct vd_stream *stream)
{
	if (fn->ops->load)
		return fn->ops->load(fn->context, stream);
	return vd_pci_flat_load(fn->device, fn->state, fn->state_size, stream);
}

/* Configuration space changes last: the device's own state is what may turn out to be bad. */
static int function_load(void *context, struct vd_stream *stream)
{
	struct function *fn = context;
	uint8_t saved[sizeof(fn->space.bytes)];
	int rc;

	if (vd_stream_get_u64(stream) != STATE_MAGIC)
		return -EINVAL;
	vd_stream_get(stream, saved, sizeof(saved));
	if (stream->failed || memcmp(saved, fn->space.initial, PCI_COMMAND))
		return -EINVAL;
	rc = load_own(fn, stream);
	if (rc)
		return rc;
	tell_command(fn, vd_pci_config_load(&fn->space, saved));
	return 0;
}

static void function_poll(void *context)
{
	struct function *fn = context;

	if (fn->ops->poll)
		fn->ops->poll(fn->context);
}

static void function_work(void *context)
{
	struct function *fn = context;

	if (fn->ops->work)
		fn->ops->work(fn->context);
}

static void function_counters(void *context,
			      void (*report)(void *to, const char *name, uint64_t value), void *to)
{
	struct function *fn = context;

	if (fn->ops->counters)
		fn->ops->counters(fn->context, report, to);
}

static void function_release(void *context)
{
	struct function *fn = context;

	if (fn->ops->release)
		fn->ops->release(fn->context);
	fn->env->release(fn->env, fn, sizeof(*fn));
}

static const struct vd_device_ops function_ops = {
	.read = function_read,
	.write = function_write,
	.reset = function_reset,
	.quiesce = function_quiesce,
	.resume = function_resume,
	.save = function_save,
	.load = function_load,
	.poll = function_poll,
	.work = function_work,
	.counters = function_counters,
	.release = function_release,
};

/* ---- checks ---- */

static int check_areas(const struct vd_pci_function_config *config, unsigned i,
		       struct vd_error *error)
{
	const struct vd_pci_bar *bar = &config->bars[i];
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(config->host)) - 1;

	if (bar->size <= page_mask)
		page_mask = bar->size - 1; /* all of it, or nothing */
	if (bar->area_count > VD_REGION_AREAS_MAX)
		return vd_error_set(error, -EINVAL, "%s: BAR %u has more than %u mappable areas",
				    config->name, i, VD_REGION_AREAS_MAX);
	for (unsigned a = 0; a < bar->area_count; a++) {
		const struct vd_region_area *area = &bar->areas[a];

		if (!area->size || (area->offset | area->size) & page_mask ||
		    area->offset > bar->size || area->size > bar->size - area->offset)
			return vd_error_set(error, -EINVAL,
					    "%s: mappable area %u of BAR %u is no pages of the BAR",
					    config->name, a, i);
	}
	return 0;
}

static int check_bar(const struct vd_pci_function_config *config, unsigned i,
		     struct vd_error *error)
{
	const struct vd_pci_bar *bar = &config->bars[i];
	bool is_64 = bar->flags & VD_PCI_BAR_64;

	if (bar->size < 16 || bar->size & (bar->size - 1) ||
	    (!is_64 && bar->size > UINT32_C(1) << 31))
		return vd_error_set(error, -EINVAL,
				    "%s: BAR %u has %llu bytes, not a power of two from 16 to 2^%u",
				    config->name, i, (unsigned long long)bar->size,
				    is_64 ? 63u : 31u);
	if (bar->flags & ~(VD_PCI_BAR_64 | VD_PCI_BAR_PREFETCH))
		return vd_error_set(error, -EINVAL, "%s: unknown flags of BAR %u", config->name, i);
	if (is_64 && (i + 1 == VD_PCI_BARS || config->bars[i + 1].size))
		return vd_error_set(error, -EINVAL, "%s: 64-bit BAR %u needs BAR %u as well",
				    config->name, i, i + 1);
	return check_areas(config, i, error);
}

/* Table and PBA: either whole pages for both, or just where they are. */
static int place_msix(const struct vd_pci_function_config *config, struct vd_region_area msix[2],
		      struct vd_error *error)
{
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(config->host)) - 1;
	uint64_t size = config->bars[config->msix_bar].size, table, pba;

	table = vd_pci_msix_table_size(config->msix_vectors);
	pba = vd_pci_msix_pba_size(config->msix_vectors);
	if (config->msix_pba) {
		msix[0] = (struct vd_region_area){config->msix_offset, table};
		msix[1] = (struct vd_region_area){config->msix_pba, pba};
		if ((config->msix_offset | config->msix_pba) & 7 ||
		    vd_ranges_overlap(config->msix_offset, table, config->msix_pba, pba))
			return vd_error_set(error, -EINVAL,
					    "%s: the MSI-X table and PBA overlap or are misaligned",
					    config->name);
	} else {
		table = (table + page_mask) & ~page_mask;
		msix[0] = (struct vd_region_area){config->msix_offset, table + page_mask + 1};
		if (config->msix_offset & page_mask)
			size = 0;
	}
	for (unsigned i = 0; i < 2; i++)
		if (msix[i].offset > size || msix[i].size > size - msix[i].offset)
			return vd_error_set(error, -EINVAL, "%s: MSI-X needs %llu bytes inside BAR "
					    "%u, at a page boundary unless msix_pba is given",
					    config->name, (unsigned long long)msix[i].size,
					    config->msix_bar);
	return 0;
}

static int check_msix(const struct vd_pci_function_config *config, struct vd_region_area msix[2],
		      struct vd_error *error)
{
	uint64_t page_mask = ((uint64_t)1 << vd_host_page_shift(config->host)) - 1;
	const struct vd_pci_bar *bar;
	int rc;

	if (!config->msix_vectors)
		return 0;
	if (config->msix_vectors > VD_PCI_MSIX_MAX || config->msix_bar >= VD_PCI_BARS)
		return vd_error_set(error, -EINVAL, "%s: MSI-X has 1 to %u vectors, in BAR 0 to 5",
				    config->name, VD_PCI_MSIX_MAX);
	rc = place_msix(config, msix, error);
	if (rc)
		return rc;
	bar = &config->bars[config->msix_bar];
	for (unsigned n = 0; n < 2 * bar->area_count; n++) {
		const struct vd_region_area *area = &bar->areas[n / 2], *hidden = &msix[n % 2];
		uint64_t start = hidden->offset & ~page_mask;
		uint64_t end = (hidden->offset + hidden->size + page_mask) & ~page_mask;

		/* Whole pages: nothing of them can be had by mapping what is beside it (E6). */
		if (hidden->size &&
		    vd_ranges_overlap(area->offset, area->size, start, end - start))
			return vd_error_set(error, -EINVAL, "%s: a mappable area holds a page of "
					    "the MSI-X table or PBA", config->name);
	}
	return 0;
}

/* What is made here, and what the device adds: each starts at a multiple of four. */
static int check_capabilities(const struct vd_pci_function_config *config, struct vd_error *error)
{
	unsigned room = PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF - VD_PCI_PM_BYTES -
			VD_PCI_MSIX_BYTES - (config->msi_vectors ? VD_PCI_MSI_BYTES : 0) -
			VD_PCI_EXPRESS_BYTES;

	if (config->capability_count > VD_PCI_CAPABILITIES_MAX)
		return vd_error_set(error, -EINVAL, "%s: more than %u capabilities", config->name,
				    VD_PCI_CAPABILITIES_MAX);
	for (unsigned i = 0; i < config->capability_count; i++) {
		unsigned length = config->capabilities[i].length;

		if (length < 3 || length > VD_PCI_CAPABILITY_BYTES || ((length + 3) & ~3u) > room)
			return vd_error_set(error, -EINVAL,
					    "%s: there is no room for a capability of %u bytes",
					    config->name, length);
		room -= (length + 3) & ~3u;
	}
	return 0;
}

static void watch_capabilities(struct function *fn, const struct vd_pci_function_config *config)
{
	for (unsigned i = 0; i < config->capability_count; i++)
		fn->watched[i] = (struct watched){config->capabilities[i].access, fn->space.own[i],
						  config->capabilities[i].length};
}

static int check_config(const struct vd_pci_function_config *config, struct vd_error *error)
{
	if (!config->ops || !config->ops->read || !config->ops->write)
		return vd_error_set(error, -EINVAL, "%s: a PCI function needs read and write",
				    config->name);
	if (config->msi_vectors > VD_PCI_MSI_MAX ||
	    config->msi_vectors & (config->msi_vectors - 1))
		return vd_error_set(error, -EINVAL, "%s: MSI has 1, 2, 4, 8, 16 or 32 vectors",
				    config->name);
	if (config->identity.vendor == 0xffff || config->identity.class_code >> 24)
		return vd_error_set(error, -EINVAL, "%s: vendor ffff or more than 24 bits of class",
				    config->name);
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		int rc = config->bars[i].size ? check_bar(config, i, error) : 0;

		if (rc)
			return rc;
	}
	return check_capabilities(config, error);
}

/* ---- creation ---- */

static void describe_regions(const struct vd_pci_function_config *config,
			     struct vd_region regions[VD_REGION_COUNT])
{
	static const char *const names[VD_PCI_BARS] = {"BAR 0", "BAR 1", "BAR 2",
						       "BAR 3", "BAR 4", "BAR 5"};

	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		const struct vd_pci_bar *bar = &config->bars[i];
		struct vd_region *region = &regions[VD_REGION_BAR0 + i];

		if (!bar->size)
			continue;
		region->name = names[i];
		region->size = bar->size;
		region->flags = VD_REGION_READ | VD_REGION_WRITE;
		if (bar->area_count)
			region->flags |= VD_REGION_MMAP;
		if (bar->flags & VD_PCI_BAR_PREFETCH)
			region->flags |= VD_REGION_PREFETCH;
		region->area_count = bar->area_count;
		memcpy(region->areas, bar->areas, sizeof(region->areas));
	}
	regions[VD_REGION_CONFIG] = (struct vd_region){
		.name = "configuration space",
		.size = PCI_CFG_SPACE_EXP_SIZE,
		.flags = VD_REGION_READ | VD_REGION_WRITE,
	};
}

static int create_device(const struct vd_pci_function_config *config, struct function *fn,
			 struct vd_device **device, struct vd_error *error)
{
	struct vd_region regions[VD_REGION_COUNT] = {0};
	unsigned irqs[VD_IRQ_COUNT] = {
		[VD_IRQ_INTX] = config->intx,
		[VD_IRQ_MSI] = config->msi_vectors,
		[VD_IRQ_MSIX] = config->msix_vectors,
		[VD_IRQ_ERR] = 1,
		[VD_IRQ_REQ] = 1,
	};
	struct vd_device_config core = {
		.env = config->env,
		.host = config->host,
		.space = config->space,
		.name = config->name,
		.ops = &function_ops,
		.context = fn,
		.regions = regions,
		.irqs = irqs,
		.yields = config->yields,
		.group = config->group,
		.pad = config->pad,
	};

	describe_regions(config, regions);
	return vd_device_create(&core, device, error);
}

int vd_pci_function_create(const struct vd_pci_function_config *config, struct vd_device **device,
			   struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct function *fn;
	struct vd_region_area msix[2] = {{0}};
	int rc = check_config(config, error);

	if (!rc)
		rc = check_msix(config, msix, error);
	if (rc)
		return rc;
	fn = vd_env_allocate(env, "pci.function", sizeof(*fn), _Alignof(struct function));
	if (!fn)
		return vd_error_set(error, -ENOMEM, "no memory for PCI function %s", config->name);
	fn->env = env;
	fn->ops = config->ops;
	fn->context = config->context;
	fn->bus_master = config->bus_master;
	fn->state = config->state;
	fn->state_size = config->state_size;
	fn->msix_bar = config->msix_bar;
	memcpy(fn->msix, msix, sizeof(msix));
	vd_pci_config_init(&fn->space, config);
	watch_capabilities(fn, config);
	rc = create_device(config, fn, &fn->device, error);
	if (rc) {
		env->release(env, fn, sizeof(*fn));
		return rc;
	}
	*device = fn->device;
	return 0;
}
