/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct ls [BDF]`: the host's own PCI devices, as far as sysfs tells. Nothing is touched. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include <viaduct/pci.h>

#include "cli/cli.h"
#include "cli/ls.h"

static void label_of(unsigned resource, char text[24])
{
	if (resource < VD_PCI_BARS)
		snprintf(text, 24, "BAR %u", resource);
	else if (resource == VD_PCI_RESOURCE_ROM)
		snprintf(text, 24, "ROM");
	else
		snprintf(text, 24, "VF BAR %u", resource - VD_PCI_RESOURCE_ROM - 1);
}

static struct vd_pci_sysfs_view view_of(const struct ls_options *options)
{
	return (struct vd_pci_sysfs_view){.page = options->page, .isolated = options->isolated,
					  .platform = options->shared_pages};
}

/* ---- text ---- */

static void print_place(const struct vd_pci_resource *resource)
{
	printf("        at 0x%llx%s%s\n", (unsigned long long)resource->address,
	       resource->flags & VD_PCI_RESOURCE_64 ? ", 64 bits" : "",
	       resource->flags & VD_PCI_RESOURCE_PREFETCH ? ", prefetchable" : "");
}

static void print_group(const struct vd_pci_sysfs *sysfs, unsigned index)
{
	const struct vd_pci_sysfs_device *of = vd_pci_sysfs_device(sysfs, index);
	const char *before = ", with";

	if (of->group < 0) {
		puts("    in no IOMMU group");
		return;
	}
	printf("    IOMMU group %d", of->group);
	for (unsigned i = 0; i < vd_pci_sysfs_count(sysfs); i++) {
		const struct vd_pci_sysfs_device *other = vd_pci_sysfs_device(sysfs, i);

		if (i == index || other->group != of->group)
			continue;
		printf("%s %s (%s)", before, other->name,
		       *other->driver ? other->driver : "no driver");
		before = ",";
	}
	puts(vd_pci_sysfs_group_whole(sysfs, index) ? "; can be one user's as a whole"
						    : "; not free to be one user's");
}

static void print_device(const struct vd_pci_sysfs *sysfs, unsigned index,
			 const struct ls_options *options)
{
	const struct vd_pci_sysfs_device *device = vd_pci_sysfs_device(sysfs, index);
	const struct vd_pci_sysfs_view view = view_of(options);
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	char text[LS_NAME_BYTES], label[24];

	printf("%s %s", device->name, ls_identity(&device->identity, text));
	if (device->group >= 0)
		printf(", group %d", device->group);
	printf(", %s%s\n", *device->driver ? "driver " : "no driver", device->driver);
	if (options->what)
		print_group(sysfs, index);
	for (unsigned i = 0; i < VD_PCI_RESOURCES; i++) {
		unsigned count = vd_pci_sysfs_plan(sysfs, index, i, &view, parts);

		if (!count)
			continue;
		label_of(i, label);
		ls_print_parts(label, parts, count);
		if (options->what)
			print_place(&device->resources[i]);
	}
	if (options->what)
		ls_print_capabilities(device->config, device->config_length);
}

/* ---- JSON ---- */

static struct json_object *json_resource(const struct vd_pci_resource *resource, unsigned i,
					 const struct vd_pci_bar_part *parts, unsigned count)
{
	struct json_object *o = json_object_new_object();
	char label[24];

	label_of(i, label);
	ls_json_add_text(o, "label", label);
	if (i < VD_PCI_BARS)
		ls_json_add_number(o, "bar", i);
	ls_json_add_number(o, "address", resource->address);
	ls_json_add_number(o, "size", resource->size);
	ls_json_add_text(o, "kind", resource->flags & VD_PCI_RESOURCE_IO ? "io" : "memory");
	json_object_object_add(o, "is_64", json_object_new_boolean(resource->flags &
								   VD_PCI_RESOURCE_64));
	json_object_object_add(o, "prefetchable",
			       json_object_new_boolean(resource->flags & VD_PCI_RESOURCE_PREFETCH));
	json_object_object_add(o, "parts", ls_json_parts(parts, count));
	return o;
}

static struct json_object *json_device(const struct vd_pci_sysfs *sysfs, unsigned index,
				       const struct ls_options *options)
{
	const struct vd_pci_sysfs_device *device = vd_pci_sysfs_device(sysfs, index);
	const struct vd_pci_sysfs_view view = view_of(options);
	struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX];
	struct json_object *o = json_object_new_object(), *bars = json_object_new_array();

	ls_json_add_text(o, "address", device->name);
	ls_json_identity(o, &device->identity);
	json_object_object_add(o, "group",
			       device->group < 0 ? NULL : json_object_new_int(device->group));
	json_object_object_add(o, "group_whole",
			       json_object_new_boolean(vd_pci_sysfs_group_whole(sysfs, index)));
	ls_json_add_text(o, "driver", device->driver);
	for (unsigned i = 0; i < VD_PCI_RESOURCES; i++) {
		unsigned count = vd_pci_sysfs_plan(sysfs, index, i, &view, parts);

		if (count)
			json_object_array_add(bars, json_resource(&device->resources[i], i, parts,
								  count));
	}
	json_object_object_add(o, "bars", bars);
	json_object_object_add(o, "capabilities", ls_json_capabilities(device->config,
								       device->config_length));
	return o;
}

static void print_json(const struct vd_pci_sysfs *sysfs, const struct ls_options *options,
		       unsigned first, unsigned count)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	ls_json_add_number(o, "page_size", options->page);
	ls_json_add_number(o, "left_out", vd_pci_sysfs_left_out(sysfs));
	for (unsigned i = first; i < first + count; i++)
		json_object_array_add(list, json_device(sysfs, i, options));
	json_object_object_add(o, "devices", list);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

int ls_host(const struct ls_options *options)
{
	unsigned first = 0, count;
	struct vd_error error = {0};
	struct vd_pci_sysfs *sysfs;

	if (vd_pci_sysfs_open(vd_env_hosted(), options->sysfs, &sysfs, &error))
		return complain(EXIT_FAILED, "%s", error.text);
	count = vd_pci_sysfs_count(sysfs);
	if (options->what) {
		int found = vd_pci_sysfs_find(sysfs, options->what);

		if (found < 0) {
			vd_pci_sysfs_close(sysfs);
			return complain(EXIT_FAILED, "%s: there is no such PCI device",
					options->what);
		}
		first = (unsigned)found;
		count = 1;
	}
	if (options->json)
		print_json(sysfs, options, first, count);
	else
		for (unsigned i = first; i < first + count; i++)
			print_device(sysfs, i, options);
	if (!options->json && vd_pci_sysfs_left_out(sysfs))
		complain(0, "%u devices left out: what sysfs says of them makes no sense",
			 vd_pci_sysfs_left_out(sysfs));
	vd_pci_sysfs_close(sysfs);
	return EXIT_OK;
}
