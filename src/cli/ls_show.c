/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines and JSON that `viaduct ls` has for every kind of device. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include <viaduct/pci.h>

#include "cli/ls.h"

const char *ls_identity(const struct vd_pci_identity *identity, char text[LS_NAME_BYTES])
{
	char class_name[64], device[96];
	bool has_class = ls_name_class(identity->class_code, class_name, sizeof(class_name));
	bool has_device = ls_name_device(identity->vendor, identity->device, device,
					 sizeof(device));

	snprintf(text, LS_NAME_BYTES, "%s [%04x]: %s%s[%04x:%04x]",
		 has_class ? class_name : "class", identity->class_code >> 8,
		 has_device ? device : "", has_device ? " " : "",
		 identity->vendor, identity->device);
	return text;
}

void ls_print_parts(const char *label, const struct vd_pci_bar_part *parts, unsigned count)
{
	char text[VD_PCI_PART_TEXT_BYTES];
	uint64_t size = 0;

	if (count == 1) {
		printf("    %s: %s\n", label, vd_pci_part_text(parts, text, sizeof(text)));
		return;
	}
	for (unsigned i = 0; i < count; i++)
		size += parts[i].size;
	printf("    %s: 0x%llx bytes in %u parts\n", label, (unsigned long long)size, count);
	for (unsigned i = 0; i < count; i++)
		printf("        from 0x%llx: %s\n", (unsigned long long)parts[i].offset,
		       vd_pci_part_text(&parts[i], text, sizeof(text)));
}

/* ---- JSON ---- */

void ls_json_add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text && *text ? json_object_new_string(text) : NULL);
}

void ls_json_add_number(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

void ls_json_identity(struct json_object *object, const struct vd_pci_identity *identity)
{
	char text[96];

	ls_json_add_number(object, "vendor", identity->vendor);
	ls_json_add_number(object, "device", identity->device);
	ls_json_add_number(object, "subsystem_vendor", identity->subsystem_vendor);
	ls_json_add_number(object, "subsystem", identity->subsystem);
	ls_json_add_number(object, "class", identity->class_code);
	ls_json_add_number(object, "revision", identity->revision);
	ls_json_add_text(object, "class_name",
			 ls_name_class(identity->class_code, text, sizeof(text)) ? text : NULL);
	ls_json_add_text(object, "name", ls_name_device(identity->vendor, identity->device, text,
							sizeof(text)) ? text : NULL);
}

struct json_object *ls_json_parts(const struct vd_pci_bar_part *parts, unsigned count)
{
	struct json_object *list = json_object_new_array();

	for (unsigned i = 0; i < count; i++) {
		struct json_object *part = json_object_new_object();

		ls_json_add_number(part, "offset", parts[i].offset);
		ls_json_add_number(part, "size", parts[i].size);
		json_object_object_add(part, "direct",
				       json_object_new_boolean(parts[i].why == VD_PCI_DIRECT));
		ls_json_add_text(part, "reason", parts[i].reason);
		json_object_array_add(list, part);
	}
	return list;
}

/* ---- capabilities ---- */

static int print_capability(void *context, const struct vd_pci_capability_info *info)
{
	(void)context;
	printf("    capability %02x at 0x%03x%s: ", info->id, info->offset,
	       info->extended ? " (extended)" : "");
	printf("%s%s%s\n", info->name ? info->name : "unknown", *info->text ? ": " : "",
	       info->text);
	return 0;
}

void ls_print_capabilities(const uint8_t *config, size_t length)
{
	(void)vd_pci_each_capability(config, length, print_capability, NULL);
}

static int add_capability(void *context, const struct vd_pci_capability_info *info)
{
	struct json_object *one = json_object_new_object();

	ls_json_add_number(one, "id", info->id);
	ls_json_add_number(one, "offset", info->offset);
	json_object_object_add(one, "extended", json_object_new_boolean(info->extended));
	ls_json_add_text(one, "name", info->name);
	ls_json_add_text(one, "text", info->text);
	json_object_array_add(context, one);
	return 0;
}

struct json_object *ls_json_capabilities(const uint8_t *config, size_t length)
{
	struct json_object *list = json_object_new_array();

	(void)vd_pci_each_capability(config, length, add_capability, list);
	return list;
}
