/* SPDX-License-Identifier: BSD-2-Clause */
/* Devices from specifications on the command line, for whoever uses them. */
#ifndef CLI_DEVICES_H
#define CLI_DEVICES_H

#include <viaduct/device.h>

/**
 * struct device_place - where a device shall be
 * @env, @host, @space: as in struct vd_device_config
 * @mem: the guest's memory; NULL: it is in another process
 * @memory: bytes of RAM that the guest has, and
 * @balloon: its one balloon, *NULL if it has none yet; NULL: there can be none
 * @group: where its devices of other processes find pages that they share, *NULL if there is none
 *	yet; whoever gives it puts it
 * @pad, @small: how BARs smaller than a page are placed: padded to one, or in the group @small;
 *	NULL: in a group of the device's own
 */
struct device_place {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	struct vd_mem *mem;
	uint64_t memory;
	struct vd_balloon **balloon;
	struct vd_group **group;
	bool pad;
	struct vd_group *small;
};

/**
 * device_create() - from "nvme,image=FILE,snapshot=on"
 * Return: 0; a negative errno with the reason in @error.
 */
int device_create(const char *spec, const struct device_place *place, struct vd_device **device,
		  struct vd_error *error);

#endif
