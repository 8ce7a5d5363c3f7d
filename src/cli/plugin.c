/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared objects that are devices: whether one can be used is found out before it is used. */
#include <dlfcn.h>
#include <string.h>

#include "cli/plugin.h"

static const struct vd_device_plugin_abi own = VD_DEVICE_PLUGIN_ABI;

static int check_abi(const char *path, const struct vd_device_plugin *plugin,
		     struct vd_error *error)
{
	const struct vd_device_plugin_abi *abi = &plugin->abi;

	if (abi->magic != own.magic)
		return vd_error_set(error, -EINVAL, "%s: its " VD_DEVICE_PLUGIN_SYMBOL " does not "
				    "begin with .abi = VD_DEVICE_PLUGIN_ABI", path);
	if (abi->version != own.version)
		return vd_error_set(error, -EINVAL, "%s was built for version %u of the device "
				    "interface, this program has version %u: build it again with "
				    "this one's headers", path, abi->version, own.version);
	if (memcmp(abi->sizes, own.sizes, sizeof(own.sizes)) != 0)
		return vd_error_set(error, -EINVAL, "%s was built with headers of another Viaduct "
				    "than this one (" VD_VERSION "): build it again", path);
	return 0;
}

static int check_plugin(const char *path, const struct vd_device_plugin *plugin,
			struct vd_error *error)
{
	unsigned count = 0;
	int rc = check_abi(path, plugin, error);

	if (rc)
		return rc;
	if (!plugin->name || !plugin->create)
		return vd_error_set(error, -EINVAL, "%s: its " VD_DEVICE_PLUGIN_SYMBOL " needs "
				    ".name and .create", path);
	while (plugin->properties && plugin->properties[count])
		if (++count > VD_DEVICE_PLUGIN_PROPERTIES_MAX)
			return vd_error_set(error, -E2BIG, "%s has more than %u properties", path,
					    VD_DEVICE_PLUGIN_PROPERTIES_MAX);
	return 0;
}

int plugin_open(const char *path, const struct vd_device_plugin **out, struct vd_error *error)
{
	const struct vd_device_plugin *plugin;
	/* Now, so that a function that is not there is found now. */
	void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	int rc;

	if (!object)
		return vd_error_set(error, -ENOENT, "cannot load device %s", dlerror());
	plugin = dlsym(object, VD_DEVICE_PLUGIN_SYMBOL);
	if (plugin)
		rc = check_plugin(path, plugin, error);
	else
		rc = vd_error_set(error, -EINVAL, "%s is no device: it does not define "
				  VD_DEVICE_PLUGIN_SYMBOL " (viaduct/plugin.h)", path);
	if (rc) {
		dlclose(object);
		return rc;
	}
	/* Open from now on: what it deferred may run at any time. */
	*out = plugin;
	return 0;
}
