/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLI_PLUGIN_H
#define CLI_PLUGIN_H

#include <viaduct/plugin.h>

/**
 * plugin_open() - load a shared object that is a device, for good
 * @path: with a slash, so that it is not looked for elsewhere
 * Return: 0; with the reason in @error: -ENOENT it cannot be loaded; -EINVAL it is no device, or
 *	built for another program; -E2BIG too many properties.
 */
int plugin_open(const char *path, const struct vd_device_plugin **plugin, struct vd_error *error);

#endif
