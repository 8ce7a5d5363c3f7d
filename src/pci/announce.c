/* SPDX-License-Identifier: BSD-2-Clause */
/* What a client of a served device may map. */
#include <stdio.h>

#include <viaduct/pci.h>

#define NEIGHBOURS_MAX 64u

struct hood {
	const struct vd_device *device;
	unsigned region, count;
	struct vd_pci_neighbour neighbours[NEIGHBOURS_MAX];
	char names[NEIGHBOURS_MAX][48];
};

static int add_neighbour(void *context, const struct vd_region_neighbour *of)
{
	struct hood *hood = context;
	const struct vd_region *region = vd_device_region(of->device, of->region);

	if (of->device == hood->device && of->region == hood->region)
		return 0;
	if (hood->count == NEIGHBOURS_MAX) {
		hood->neighbours[NEIGHBOURS_MAX - 1].trapped = true;
		return 1;
	}
	snprintf(hood->names[hood->count], sizeof(hood->names[0]), "%s BAR %u",
		 vd_device_name(of->device), of->region);
	hood->neighbours[hood->count] = (struct vd_pci_neighbour){
		.name = hood->names[hood->count],
		.address = of->offset,
		.size = of->size,
		.same_group = true,
		.trapped = region->area_count != 1 || region->areas[0].size != region->size,
	};
	hood->count++;
	return 0;
}

/* The descriptor, and where in it the region starts. */
static int find_memory(struct vd_device *device, unsigned index, uint64_t *offset,
		       struct vd_host_object **object)
{
	const struct vd_region_area *area = &vd_device_region(device, index)->areas[0];
	uint64_t object_offset, run;
	int fd;

	if (vd_device_map_area(device, index, area->offset, area->size, object, &object_offset))
		return -1;
	fd = vd_host_object_fd_range(*object, object_offset, offset, &run);
	/* Another process's memory may begin with this area. */
	if (fd < 0 || *offset < area->offset)
		return -1;
	*offset -= area->offset;
	return fd;
}

static void take_parts(const struct vd_pci_bar_part *parts, unsigned count,
		       struct vd_pci_announcement *out)
{
	for (unsigned i = 0; i < count; i++) {
		if (parts[i].why != VD_PCI_DIRECT) {
			if (!out->reason[0])
				snprintf(out->reason, sizeof(out->reason), "%s", parts[i].reason);
		} else if (out->area_count < VD_REGION_AREAS_MAX) {
			out->areas[out->area_count++] =
				(struct vd_region_area){parts[i].offset, parts[i].size};
		}
	}
}

void vd_pci_announce(struct vd_device *device, unsigned index, uint64_t page, bool group,
		     struct vd_pci_announcement *out)
{
	const struct vd_region *region = vd_device_region(device, index);
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	struct hood hood = {.device = device, .region = index};
	struct vd_host_object *object;
	struct vd_pci_direct_facts facts = {.page = page, .group_whole = true, .platform = group};

	*out = (struct vd_pci_announcement){.fd = -1};
	if (!region || !region->size)
		return;
	facts.address = region->memory_offset;
	facts.size = region->size;
	facts.mappable = region->flags & VD_REGION_MMAP;
	facts.area_count = region->area_count;
	facts.areas = region->areas;
	if (facts.mappable) {
		facts.claimed = vd_device_claimed(device, index);
		facts.unpadded = facts.claimed.size == region->size;
		(void)vd_device_each_neighbour(device, index, add_neighbour, &hood);
		facts.neighbours = hood.neighbours;
		facts.neighbour_count = hood.count;
		out->fd = find_memory(device, index, &out->offset, &object);
		out->shared = out->fd >= 0 && group && facts.unpadded && region->size < page &&
			      vd_device_group(device);
		if (out->shared)
			facts.group.size = vd_host_object_size(object);
	}
	take_parts(parts, vd_pci_direct_plan(&facts, parts), out);
	if (out->fd < 0 || !out->area_count || (!group && out->offset & (page - 1))) {
		out->fd = -1;
		out->offset = 0;
		out->area_count = 0;
		out->shared = false;
		if (!out->reason[0])
			snprintf(out->reason, sizeof(out->reason), "there is no descriptor of it");
	}
}
