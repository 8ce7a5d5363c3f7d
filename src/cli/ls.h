/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct ls`: what a device is, and what of it a guest has directly. */
#ifndef CLI_LS_H
#define CLI_LS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;
struct vd_pci_bar_part;
struct vd_pci_capability_info;
struct vd_pci_identity;

/*
 * @what: an address on the PCI bus, a socket, or NULL for all of the host's devices
 * @sysfs: where it is mounted
 * @page: bytes of a page
 */
struct ls_options {
	const char *what, *sysfs;
	uint64_t page;
	bool json, isolated, shared_pages;
};

/* ls_host.c: the host's own devices. Return: an exit code. */
int ls_host(const struct ls_options *options);
/* ls_socket.c: what a vfio-user server serves. Return: an exit code. */
int ls_socket(const struct ls_options *options);

/* ---- ls_show.c: lines and objects that all sides have in common ---- */

#define LS_NAME_BYTES 200u
/* "Ethernet controller [0200]: Red Hat, Inc. Virtio network device [1af4:1041]" */
const char *ls_identity(const struct vd_pci_identity *identity, char text[LS_NAME_BYTES]);
/* Of one BAR, or whatever @label says: a line, or a line for each part. */
void ls_print_parts(const char *label, const struct vd_pci_bar_part *parts, unsigned count);
struct json_object *ls_json_parts(const struct vd_pci_bar_part *parts, unsigned count);
void ls_print_capabilities(const uint8_t *config, size_t length);
struct json_object *ls_json_capabilities(const uint8_t *config, size_t length);
/* Members that may be absent, and numbers without a sign. */
void ls_json_add_text(struct json_object *object, const char *key, const char *text);
void ls_json_add_number(struct json_object *object, const char *key, uint64_t value);
void ls_json_identity(struct json_object *object, const struct vd_pci_identity *identity);

/* ---- ls_names.c: names from pci.ids; false without libpci or the file ---- */

bool ls_name_device(unsigned vendor, unsigned device, char *text, size_t room);
bool ls_name_class(unsigned class_code, char *text, size_t room);

#endif
