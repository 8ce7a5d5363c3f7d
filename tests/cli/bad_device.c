/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared objects that are no good as devices, each in one way: BAD says which. */
#include <viaduct/plugin.h>

#define NO_SYMBOL 1
#define NO_ABI 2
#define OTHER_VERSION 3
#define OTHER_SIZES 4
#define NO_CREATE 5
#define UNDEFINED 6
#define NOTHING 7
#define FAILS 8

static int nothing(const struct vd_device_plugin_config *config, struct vd_device **device,
		   struct vd_error *error)
{
	(void)config;
	(void)device;
	(void)error;
	return BAD == FAILS ? -ENODEV : 0;
}

#if BAD == UNDEFINED
int vd_from_the_future(const struct vd_device_plugin_config *config, struct vd_device **device,
		       struct vd_error *error);
#define CREATE vd_from_the_future
#elif BAD == NO_CREATE
#define CREATE NULL
#else
#define CREATE nothing
#endif

#if BAD == NO_SYMBOL
#define NAME my_plugin
extern const struct vd_device_plugin my_plugin;
#else
#define NAME vd_device_plugin
#endif

const struct vd_device_plugin NAME = {
#if BAD == OTHER_VERSION
	.abi = {VD_DEVICE_PLUGIN_MAGIC, VD_DEVICE_PLUGIN_VERSION + 1, {0}},
#elif BAD == OTHER_SIZES
	.abi = {VD_DEVICE_PLUGIN_MAGIC, VD_DEVICE_PLUGIN_VERSION,
		{(uint16_t)sizeof(struct vd_pci_function_config) - 8}},
#elif BAD != NO_ABI
	.abi = VD_DEVICE_PLUGIN_ABI,
#endif
	.name = "bad",
	.create = CREATE,
};

/* Used in one of the cases only. */
extern const void *const bad_device_unused;
const void *const bad_device_unused = (const void *)nothing;
