/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct ls SOCKET`: a device that a vfio-user server serves. It is only looked at. */
#include <json-c/json.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <unistd.h>

#include <viaduct/pci.h>
#include <viaduct/vfio_user.h>

#include "cli/cli.h"
#include "cli/ls.h"

#define CONFIG_BYTES 4096u

struct socket_view {
	const struct ls_options *options;
	struct vd_device *device;
	struct vd_user_client_info info;
	uint8_t config[CONFIG_BYTES];
	size_t config_length;
	struct vd_pci_msix_place msix;
};

static const char *const irq_names[VD_IRQ_COUNT] = {"INTx", "MSI", "MSI-X", "ERR", "REQ"};

static unsigned get16(const struct socket_view *view, unsigned at)
{
	return view->config[at] | (unsigned)view->config[at + 1] << 8;
}

static struct vd_pci_identity identity_of(const struct socket_view *view)
{
	return (struct vd_pci_identity){
		.vendor = (uint16_t)get16(view, PCI_VENDOR_ID),
		.device = (uint16_t)get16(view, PCI_DEVICE_ID),
		.subsystem_vendor = (uint16_t)get16(view, PCI_SUBSYSTEM_VENDOR_ID),
		.subsystem = (uint16_t)get16(view, PCI_SUBSYSTEM_ID),
		.class_code = get16(view, PCI_CLASS_PROG) |
			      (uint32_t)view->config[PCI_CLASS_PROG + 2] << 16,
		.revision = view->config[PCI_REVISION_ID],
	};
}

/* BARs of this device in the page of one of them; what others have there only the server knows. */
struct hood {
	unsigned bar, count;
	struct vd_pci_neighbour neighbours[VD_PCI_BARS];
	char names[VD_PCI_BARS][16];
};

static int add_neighbour(void *context, const struct vd_region_neighbour *of)
{
	struct hood *hood = context;

	if (of->region == hood->bar || hood->count == VD_PCI_BARS)
		return 0;
	snprintf(hood->names[hood->count], sizeof(hood->names[0]), "BAR %u", of->region);
	hood->neighbours[hood->count] = (struct vd_pci_neighbour){
		.name = hood->names[hood->count], .address = of->offset, .size = of->size,
		.same_group = true,
	};
	hood->count++;
	return 0;
}

/* As `viaduct run` would map it. */
static unsigned plan(const struct socket_view *view, unsigned bar,
		     struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX])
{
	const struct vd_region *region = vd_device_region(view->device, bar);
	struct hood hood = {.bar = bar};
	struct vd_pci_direct_facts facts = {
		.address = region->memory_offset,
		.size = region->size,
		.claimed = vd_device_claimed(view->device, bar),
		.neighbours = hood.neighbours,
		.group_whole = true,
		.platform = view->options->shared_pages,
		.unpadded = view->info.shared[bar],
		.page = view->options->page,
		.mappable = region->flags & VD_REGION_MMAP,
		.area_count = region->area_count,
		.areas = region->areas,
		.isolated = view->options->isolated,
	};

	if (view->info.shared[bar]) {
		(void)vd_device_each_neighbour(view->device, bar, add_neighbour, &hood);
		facts.neighbour_count = hood.count;
		/* Of the server's host. */
		facts.group.size = (uint64_t)sysconf(_SC_PAGESIZE);
	}
	if (view->msix.vectors && view->msix.table_bar == bar)
		facts.hidden[0] = view->msix.table;
	if (view->msix.vectors && view->msix.pba_bar == bar)
		facts.hidden[1] = view->msix.pba;
	return vd_pci_direct_plan(&facts, parts);
}

/* ---- text ---- */

static void print_bar(const struct socket_view *view, unsigned bar)
{
	const struct vd_region *region = vd_device_region(view->device, bar);
	unsigned type = view->config[PCI_BASE_ADDRESS_0 + 4 * bar];
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	unsigned count = plan(view, bar, parts);
	char label[16];

	if (!count)
		return;
	snprintf(label, sizeof(label), "BAR %u", bar);
	ls_print_parts(label, parts, count);
	if (type & PCI_BASE_ADDRESS_SPACE_IO)
		puts("        I/O ports");
	else if (type & (PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH))
		printf("        %s%s%s\n", type & PCI_BASE_ADDRESS_MEM_TYPE_64 ? "64 bits" : "",
		       (type & 0xc) == 0xc ? ", " : "",
		       type & PCI_BASE_ADDRESS_MEM_PREFETCH ? "prefetchable" : "");
	for (unsigned i = 0; i < region->area_count; i++)
		printf("        mappable: 0x%llx bytes from 0x%llx\n",
		       (unsigned long long)region->areas[i].size,
		       (unsigned long long)region->areas[i].offset);
	if (view->info.shared[bar])
		printf("        at 0x%llx of a page that BARs of its group share\n",
		       (unsigned long long)region->memory_offset);
	if (view->info.trapped[bar])
		printf("        announced as mappable, but %s\n", view->info.trapped[bar]);
}

static void print_irqs(const struct socket_view *view)
{
	const char *before = "    interrupts: ";

	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		unsigned count = vd_device_irq_count(view->device, i);

		if (!count)
			continue;
		printf("%s%u %s", before, count, irq_names[i]);
		before = ", ";
	}
	puts(*before == ',' ? "" : "    no interrupts");
}

static void print_server(const struct socket_view *view)
{
	const struct vd_user_client_info *info = &view->info;

	printf("    server: vfio-user 0.%u, %llu bytes and %llu descriptors a message, %llu maps%s"
	       "%s%s%s\n", info->minor, (unsigned long long)info->transfer_max,
	       (unsigned long long)info->fds_max, (unsigned long long)info->maps_max,
	       info->twin_socket ? ", a second socket" : "",
	       info->page_offset ? ", offsets in pages" : "", info->resettable ? ", reset" : "",
	       info->migration & VFIO_MIGRATION_STOP_COPY ? ", stop and save" : "");
}

static void print_view(const struct socket_view *view)
{
	struct vd_pci_identity identity = identity_of(view);
	const struct vd_region *rom = vd_device_region(view->device, VD_REGION_ROM);
	char text[LS_NAME_BYTES];

	printf("%s %s (rev %02x)\n", view->options->what, ls_identity(&identity, text),
	       identity.revision);
	print_server(view);
	for (unsigned i = 0; i < VD_PCI_BARS; i++)
		print_bar(view, i);
	if (rom->size)
		printf("    ROM: 0x%llx bytes\n", (unsigned long long)rom->size);
	print_irqs(view);
	ls_print_capabilities(view->config, view->config_length);
}

/* ---- JSON ---- */

static struct json_object *json_bar(const struct socket_view *view, unsigned bar,
				    const struct vd_pci_bar_part *parts, unsigned count)
{
	const struct vd_region *region = vd_device_region(view->device, bar);
	unsigned type = view->config[PCI_BASE_ADDRESS_0 + 4 * bar];
	struct json_object *o = json_object_new_object(), *areas = json_object_new_array();
	char label[16];

	snprintf(label, sizeof(label), "BAR %u", bar);
	ls_json_add_text(o, "label", label);
	ls_json_add_number(o, "bar", bar);
	ls_json_add_number(o, "size", region->size);
	ls_json_add_text(o, "kind", type & PCI_BASE_ADDRESS_SPACE_IO ? "io" : "memory");
	json_object_object_add(o, "is_64",
			       json_object_new_boolean(type & PCI_BASE_ADDRESS_MEM_TYPE_64));
	json_object_object_add(o, "prefetchable",
			       json_object_new_boolean(type & PCI_BASE_ADDRESS_MEM_PREFETCH));
	for (unsigned i = 0; i < region->area_count; i++) {
		struct json_object *area = json_object_new_object();

		ls_json_add_number(area, "offset", region->areas[i].offset);
		ls_json_add_number(area, "size", region->areas[i].size);
		json_object_array_add(areas, area);
	}
	json_object_object_add(o, "mappable", areas);
	json_object_object_add(o, "page_offset", view->info.shared[bar] ?
			       json_object_new_uint64(region->memory_offset) : NULL);
	ls_json_add_text(o, "not_mapped", view->info.trapped[bar]);
	json_object_object_add(o, "parts", ls_json_parts(parts, count));
	return o;
}

static struct json_object *json_server(const struct socket_view *view)
{
	const struct vd_user_client_info *info = &view->info;
	struct json_object *o = json_object_new_object();

	ls_json_add_number(o, "major", 0);
	ls_json_add_number(o, "minor", info->minor);
	ls_json_add_number(o, "max_data_xfer_size", info->transfer_max);
	ls_json_add_number(o, "max_msg_fds", info->fds_max);
	ls_json_add_number(o, "max_dma_maps", info->maps_max);
	json_object_object_add(o, "twin_socket", json_object_new_boolean(info->twin_socket));
	json_object_object_add(o, "page_offset", json_object_new_boolean(info->page_offset));
	json_object_object_add(o, "reset", json_object_new_boolean(info->resettable));
	ls_json_add_number(o, "migration", info->migration);
	return o;
}

static struct json_object *json_irqs(const struct socket_view *view)
{
	struct json_object *list = json_object_new_array();

	for (unsigned i = 0; i < VD_IRQ_COUNT; i++) {
		unsigned count = vd_device_irq_count(view->device, i);
		struct json_object *o;

		if (!count)
			continue;
		o = json_object_new_object();
		ls_json_add_text(o, "kind", irq_names[i]);
		ls_json_add_number(o, "count", count);
		ls_json_add_number(o, "flags", view->info.irq_flags[i]);
		json_object_array_add(list, o);
	}
	return list;
}

static void print_json(const struct socket_view *view)
{
	struct json_object *all = json_object_new_object(), *list = json_object_new_array();
	struct json_object *o = json_object_new_object(), *bars = json_object_new_array();
	struct vd_pci_identity identity = identity_of(view);
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];

	ls_json_add_text(o, "socket", view->options->what);
	ls_json_identity(o, &identity);
	json_object_object_add(o, "server", json_server(view));
	for (unsigned i = 0; i < VD_PCI_BARS; i++) {
		unsigned count = plan(view, i, parts);

		if (count)
			json_object_array_add(bars, json_bar(view, i, parts, count));
	}
	json_object_object_add(o, "bars", bars);
	ls_json_add_number(o, "rom", vd_device_region(view->device, VD_REGION_ROM)->size);
	json_object_object_add(o, "interrupts", json_irqs(view));
	json_object_object_add(o, "capabilities", ls_json_capabilities(view->config,
								       view->config_length));
	json_object_array_add(list, o);
	ls_json_add_number(all, "page_size", view->options->page);
	json_object_object_add(all, "devices", list);
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY));
	json_object_put(all);
}

/* ---- looking ---- */

static int look(struct socket_view *view, struct vd_host *host, struct vd_error *error)
{
	struct vd_user_client_config config = {
		.env = vd_env_hosted(), .host = host, .path = view->options->what,
		.page_offset = true, .inspect = true, .info = &view->info,
	};
	int r = vd_user_client_create(&config, &view->device, error);

	if (r)
		return r;
	view->config_length = vd_device_region(view->device, VD_REGION_CONFIG)->size;
	r = vd_device_read(view->device, VD_REGION_CONFIG, (vd_region_offset){0}, view->config,
			   view->config_length);
	if (r)
		vd_error_set(error, r, "%s: configuration space cannot be read",
			     view->options->what);
	vd_pci_find_msix(view->config, view->config_length, &view->msix);
	return r;
}

int ls_socket(const struct ls_options *options)
{
	static struct socket_view view;
	struct vd_host_config host_config = {.env = vd_env_hosted(), .window_size = 64ull << 30};
	struct vd_error error = {0};
	struct vd_host *host;
	int r;

	view.options = options;
	/* A server may cut the memory that it shows. */
	r = vd_host_guard_install(&error);
	if (r)
		return complain(EXIT_FAILED, "%s", error.text);
	r = vd_host_create(&host_config, &host, &error);
	if (r)
		return complain(EXIT_FAILED, "%s", error.text);
	r = look(&view, host, &error);
	if (r)
		complain(0, "%s", error.text);
	else if (options->json)
		print_json(&view);
	else
		print_view(&view);
	vd_device_put(view.device);
	vd_host_destroy(host);
	return r ? EXIT_FAILED : EXIT_OK;
}
