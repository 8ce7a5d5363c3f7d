/* SPDX-License-Identifier: BSD-2-Clause */
/* The host bridge: its making and end, and devices coming and going. */
#include "pci/host.h"

static void lock(struct vd_pci_host *host)
{
	host->env->lock(host->env, &host->lock);
}

static void unlock(struct vd_pci_host *host)
{
	host->env->unlock(host->env, &host->lock);
}

/* ---- creation and end ---- */

static int check_window(const struct vd_pci_host_config *config, vd_gpa base, uint64_t size,
			uint64_t limit, struct vd_error *error)
{
	uint64_t page_mask = ((uint64_t)1 << vd_mem_page_shift(config->mem)) - 1;

	if (!size)
		return 0;
	if ((base.value | size) & page_mask)
		return vd_error_set(error, -EINVAL, "a PCI window is not page-aligned");
	if (base.value >= limit || size > limit - base.value)
		return vd_error_set(error, -EINVAL, "PCI window at 0x%llx ends above 0x%llx",
				    (unsigned long long)base.value, (unsigned long long)limit);
	return 0;
}

static int check_config(const struct vd_pci_host_config *config, struct vd_error *error)
{
	int rc;

	if (!config->buses || config->buses > 256 || config->ecam.value & (VD_PCI_ECAM_BUS - 1))
		return vd_error_set(error, -EINVAL,
				    "PCI has 1 to 256 buses, from a multiple of 1 MiB on");
	if (!config->msi)
		return vd_error_set(error, -EINVAL, "a PCI host bridge needs a way to send MSIs");
	rc = check_window(config, config->low, config->low_size, UINT64_C(1) << 32, error);
	/* The top page is left out so that no end of a range is 2^64. */
	if (!rc)
		rc = check_window(config, config->high, config->high_size,
				  UINT64_MAX << vd_mem_page_shift(config->mem), error);
	if (!rc && config->low_size && config->high_size &&
	    vd_ranges_overlap(config->low.value, config->low_size, config->high.value,
			      config->high_size))
		rc = vd_error_set(error, -EINVAL, "the PCI windows overlap");
	return rc;
}

static int add_ecam(struct vd_pci_host *host, struct vd_error *error)
{
	struct vd_slot_config slot = {
		.base = host->config.ecam,
		.size = VD_PCI_ECAM_BUS * host->config.buses,
		.kind = VD_SLOT_TRAP,
		.ops = &vd_pci_ecam_ops,
		.context = host,
		.reason = "PCI configuration space",
		.name = "ECAM",
	};

	return vd_mem_add_slot(host->config.mem, &slot, &host->ecam_id, error);
}

/*
 * While there is a bridge it needs its slots gone before it goes: what is short comes back in time.
 */
static void remove_slot(struct vd_pci_host *host, uint32_t id)
{
	while (vd_mem_remove_slot(host->config.mem, id) == -ENOMEM)
		;
}

int vd_pci_host_create(const struct vd_pci_host_config *config, struct vd_pci_host **out,
		       struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_pci_host *host;
	int rc = check_config(config, error);

	if (rc)
		return rc;
	host = vd_env_allocate(env, "pci.host", sizeof(*host), _Alignof(struct vd_pci_host));
	if (!host)
		return vd_error_set(error, -ENOMEM, "no memory for a PCI host bridge");
	host->env = env;
	host->config = *config;
	host->page = UINT64_C(1) << vd_mem_page_shift(config->mem);
	host->windows[0] = (struct vd_region_area){config->low.value, config->low_size};
	host->windows[1] = (struct vd_region_area){config->high.value, config->high_size};
	env->lock_init(env, &host->lock);
	rc = add_ecam(host, error);
	if (!rc) {
		rc = vd_pci_map_apply(host);
		if (rc) {
			remove_slot(host, host->ecam_id);
			vd_error_set(error, rc, "cannot have PCI windows at 0x%llx and 0x%llx: %s",
				     (unsigned long long)config->low.value,
				     (unsigned long long)config->high.value,
				     rc == -EEXIST ? "something else is there" :
				     rc == -EOVERFLOW ? "the guest has too few address bits" :
				     "no memory");
		}
	}
	if (rc) {
		env->lock_destroy(env, &host->lock);
		env->release(env, host, sizeof(*host));
		return rc;
	}
	*out = host;
	return 0;
}

void vd_pci_host_destroy(struct vd_pci_host *host)
{
	if (!host)
		return;
	remove_slot(host, host->ecam_id);
	for (unsigned slot = 0; slot < VD_PCI_SLOTS; slot++)
		while (vd_pci_host_unplug(host, slot) == -ENOMEM)
			;
	for (unsigned i = 0; i < host->gap_count; i++)
		remove_slot(host, host->gaps[i].id);
	host->env->lock_destroy(host->env, &host->lock);
	host->env->release(host->env, host, sizeof(*host));
}

/* ---- devices ---- */

static void disconnect(struct vd_pci_seat *seat)
{
	if (seat->msix.count)
		(void)vd_device_set_sink(seat->device, VD_IRQ_MSIX, NULL, NULL);
	if (seat->msi.count)
		(void)vd_device_set_sink(seat->device, VD_IRQ_MSI, NULL, NULL);
}

static int connect_irqs(struct vd_pci_seat *seat)
{
	int rc = 0;

	if (seat->msix.count)
		rc = vd_device_set_sink(seat->device, VD_IRQ_MSIX, vd_pci_msix_sink, &seat->msix);
	if (!rc && seat->msi.count)
		rc = vd_device_set_sink(seat->device, VD_IRQ_MSI, vd_pci_msi_sink, &seat->msi);
	if (rc)
		disconnect(seat);
	return rc;
}

/* With the lock held: everything that can fail first, then the device is touched. */
static int attach(struct vd_pci_host *host, struct vd_pci_seat *seat, struct vd_error *error)
{
	int rc;

	if (host->seats[seat->slot])
		return vd_error_set(error, -EBUSY, "PCI slot %u is taken", seat->slot);
	rc = vd_pci_place(host, seat, error);
	if (rc)
		return rc;
	rc = vd_pci_write_homes(seat);
	if (!rc)
		rc = connect_irqs(seat);
	if (rc)
		return vd_error_set(error, rc, "%s does not let itself be set up",
				    vd_device_name(seat->device));
	vd_pci_refresh(seat);
	host->seats[seat->slot] = seat;
	vd_pci_map_sync(host);
	return 0;
}

static void leave_group(struct vd_device *device)
{
	struct vd_group *group = vd_device_group(device);

	if (group)
		vd_group_leave(group);
}

int vd_pci_host_plug(struct vd_pci_host *host, struct vd_device *device, unsigned slot,
		     struct vd_error *error)
{
	struct vd_group *group = vd_device_group(device);
	struct vd_pci_seat *seat;
	int rc;

	if (slot >= VD_PCI_SLOTS)
		return vd_error_set(error, -EINVAL, "a PCI bus has slots 0 to %u, not %u",
				    VD_PCI_SLOTS - 1, slot);
	if (group && vd_group_take(group, host))
		return vd_error_set(error, -EBUSY, "%s: others use devices of its group",
				    vd_device_name(device));
	rc = vd_pci_seat_create(host, device, slot, &seat, error);
	if (rc) {
		leave_group(device);
		return rc;
	}
	lock(host);
	rc = attach(host, seat, error);
	unlock(host);
	if (rc) {
		leave_group(device);
		vd_pci_seat_destroy(seat);
	}
	return rc;
}

int vd_pci_host_unplug(struct vd_pci_host *host, unsigned slot)
{
	static const uint8_t off[2];
	struct vd_pci_seat *seat;
	int rc;

	if (slot >= VD_PCI_SLOTS)
		return -ENOENT;
	lock(host);
	seat = host->seats[slot];
	rc = seat ? vd_pci_map_leave(seat, NULL) : -ENOENT;
	if (!rc) {
		host->seats[slot] = NULL;
		(void)vd_device_write(seat->device, VD_REGION_CONFIG,
				      (vd_region_offset){PCI_COMMAND}, off, sizeof(off));
		disconnect(seat);
		/* Another BAR may have waited for the place. */
		vd_pci_map_sync(host);
	}
	unlock(host);
	if (!rc) {
		leave_group(seat->device);
		vd_pci_seat_destroy(seat);
	}
	return rc;
}

void vd_pci_host_reset(struct vd_pci_host *host)
{
	struct vd_pci_seat *seat;

	lock(host);
	vd_pci_each_seat (host, seat) {
		/* Should memory be short, the reset itself zaps; vd_pci_map_sync() tries again. */
		(void)vd_pci_map_leave(seat, NULL);
		(void)vd_device_reset(seat->device, VD_RESET_BUS);
		vd_pci_msix_reset(&seat->msix);
		vd_pci_msi_reset(&seat->msi);
		(void)vd_pci_write_homes(seat);
		vd_pci_refresh(seat);
	}
	vd_pci_map_sync(host);
	unlock(host);
}

/* ---- what there is to see ---- */

static int show_bar(const struct vd_pci_seat *seat, unsigned i,
		    int (*fn)(void *context, const struct vd_pci_area_info *area), void *context)
{
	const struct vd_pci_guest_bar *bar = &seat->bars[i];
	int rc = 0;

	for (unsigned k = 0; k < bar->part_count && !rc; k++) {
		const struct vd_pci_bar_part *plan = &bar->parts[k].plan;
		struct vd_pci_area_info area = {
			.slot = seat->slot,
			.bar = i,
			.offset = plan->offset,
			.size = plan->size,
			.placed = bar->now.placed,
			.direct = plan->why == VD_PCI_DIRECT,
			.reason = plan->why == VD_PCI_DIRECT ? NULL : plan->reason,
			.absent = bar->now.placed ? NULL : bar->absent,
		};

		if (bar->small) {
			area.direct = bar->now.placed && bar->now.direct;
			area.reason = area.direct ? NULL : bar->now.placed ? bar->now.reason
									  : plan->reason;
		}
		if (area.placed)
			area.gpa.value = bar->now.base + plan->offset;
		rc = fn(context, &area);
	}
	return rc;
}

int vd_pci_host_each_area(struct vd_pci_host *host,
			  int (*fn)(void *context, const struct vd_pci_area_info *area),
			  void *context)
{
	struct vd_pci_seat *seat;
	int rc = 0;

	lock(host);
	vd_pci_each_seat (host, seat) {
		for (unsigned i = 0; i < VD_PCI_BARS && !rc; i++)
			rc = show_bar(seat, i, fn, context);
	}
	unlock(host);
	return rc;
}

uint64_t vd_pci_host_direct_pages(const struct vd_pci_host *host)
{
	return atomic_load_explicit(&host->direct_pages, memory_order_relaxed);
}

void vd_pci_host_stats(struct vd_pci_host *host, struct vd_pci_host_stats *stats)
{
	lock(host);
	*stats = host->stats;
	unlock(host);
	stats->absent_reads = atomic_load_explicit(&host->absent_reads, memory_order_relaxed);
	stats->messages = atomic_load_explicit(&host->messages, memory_order_relaxed);
	stats->messages_dropped =
		atomic_load_explicit(&host->messages_dropped, memory_order_relaxed);
}
