/* SPDX-License-Identifier: BSD-2-Clause */
/* A device out of the tree whose BARs 0 and 2 are smaller than a page, and mappable. */
#include <string.h>

#include <viaduct/plugin.h>

#define SIZE 256u

static int small_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	memset(data, 0, length);
	return 0;
}

static int small_write(void *context, unsigned region, uint64_t offset, const void *data,
		       size_t length)
{
	(void)context;
	(void)region;
	(void)offset;
	(void)data;
	(void)length;
	return 0;
}

static int small_create(const struct vd_device_plugin_config *config, struct vd_device **device,
			struct vd_error *error)
{
	static const struct vd_device_ops ops = {.read = small_read, .write = small_write};
	struct vd_pci_bar bar = {.size = SIZE, .area_count = 1, .areas = {{0, SIZE}}};

	return vd_pci_function_create(&(struct vd_pci_function_config){
		.env = config->env, .host = config->host, .space = config->space, .name = "small",
		.pad = config->pad, .group = config->group,
		.identity = {.vendor = 0x1234, .device = 0x0256, .class_code = 0xff0000},
		.bars = {[0] = bar, [2] = bar}, .ops = &ops,
	}, device, error);
}

const struct vd_device_plugin vd_device_plugin = {
	.abi = VD_DEVICE_PLUGIN_ABI,
	.name = "small",
	.create = small_create,
};
