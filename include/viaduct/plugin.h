/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * DOC: devices out of the tree
 *
 * A device of one's own is a shared object that defines one symbol, vd_device_plugin:
 *
 *	const struct vd_device_plugin vd_device_plugin = {
 *		.abi = VD_DEVICE_PLUGIN_ABI,
 *		.name = "my-device",
 *		.properties = my_properties,
 *		.create = my_create,
 *	};
 *
 * viaduct(1) takes its path in place of a device's name: `viaduct serve ./my-device.so,key=value`.
 * The functions of the other headers are found in the program that loads it, so nothing is linked:
 *
 *	cc -shared -fPIC -o my-device.so my-device.c $(pkg-config --cflags viaduct)
 *
 * docs/write-a-device.md is the whole way; examples/my-device.c the file to begin with.
 */
#ifndef VIADUCT_PLUGIN_H
#define VIADUCT_PLUGIN_H

#include <viaduct/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/** VD_DEVICE_PLUGIN_SYMBOL - what a shared object is asked for */
#define VD_DEVICE_PLUGIN_SYMBOL "vd_device_plugin"
/** VD_DEVICE_PLUGIN_PROPERTIES_MAX - how many properties a device can have */
#define VD_DEVICE_PLUGIN_PROPERTIES_MAX 32u

/**
 * struct vd_device_plugin_abi - what the device was built against; VD_DEVICE_PLUGIN_ABI fills it in
 * @magic, @version: the layout of struct vd_device_plugin, and what its functions mean
 * @sizes: of the structures that a device hands over: where one differs, it was built against other
 *	headers than the program that loads it
 */
struct vd_device_plugin_abi {
	uint32_t magic;
	uint16_t version;
	uint16_t sizes[5];
};
#define VD_DEVICE_PLUGIN_MAGIC UINT32_C(0x50445644) /* "DVDP" */
#define VD_DEVICE_PLUGIN_VERSION 2u
#define VD_DEVICE_PLUGIN_ABI                                                                       \
	{ VD_DEVICE_PLUGIN_MAGIC, VD_DEVICE_PLUGIN_VERSION,                                        \
	  { (uint16_t)sizeof(struct vd_pci_function_config),                                       \
	    (uint16_t)sizeof(struct vd_device_config), (uint16_t)sizeof(struct vd_device_ops),     \
	    (uint16_t)sizeof(struct vd_env), (uint16_t)sizeof(struct vd_dma_pin) } }

/**
 * struct vd_device_plugin_config - where a device shall be
 * @env, @host, @space: for struct vd_pci_function_config
 * @pad, @group: likewise, as its user wants BARs smaller than a page placed: hand them on
 * @values: of its properties, in their order; NULL for one that was not given. They go when
 *	@create returns
 */
struct vd_device_plugin_config {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_dma_space *space;
	bool pad;
	struct vd_group *group;
	const char *const *values;
};

/**
 * struct vd_device_plugin - a kind of device
 * @abi: VD_DEVICE_PLUGIN_ABI
 * @name: for messages
 * @properties: the keys it takes, ended by NULL; NULL for none
 * @create: makes a device as vd_edu_create() does. May be called several times. Return: 0 and a
 *	device; a negative errno, with the reason in @error (vd_error_set()) and nothing left
 *
 * The object is never unloaded.
 */
struct vd_device_plugin {
	struct vd_device_plugin_abi abi;
	const char *name;
	const char *const *properties;
	int (*create)(const struct vd_device_plugin_config *config, struct vd_device **device,
		      struct vd_error *error);
};

/** vd_device_plugin - the symbol, which the shared object defines */
extern const struct vd_device_plugin vd_device_plugin;

#ifdef __cplusplus
}
#endif
#endif
