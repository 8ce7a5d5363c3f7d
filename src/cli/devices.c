/* SPDX-License-Identifier: BSD-2-Clause */
/* Device specifications: NAME,key=value,... as users of QEMU expect. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <viaduct/device.h>
#include <viaduct/vfio_user.h>

#include "cli/devices.h"
#include "cli/images.h"
#include "cli/plugin.h"
#include "cli/run.h"

#define SPEC_MAX 4096u
#define KEYS_MAX 12u

struct spec {
	char text[SPEC_MAX];
	const char *name;
	const char *keys[KEYS_MAX], *values[KEYS_MAX];
	unsigned count;
};

/* A comma in a value is written as two. */
static int split(const char *text, struct spec *spec, struct vd_error *error)
{
	char *out = spec->text, *part = spec->text;

	*spec = (struct spec){.name = spec->text};
	if (strlen(text) >= SPEC_MAX)
		return vd_error_set(error, -E2BIG, "device specification is too long");
	for (;; text++) {
		if (*text == ',' && text[1] == ',') {
			*out++ = *text++;
			continue;
		}
		if (*text && *text != ',') {
			*out++ = *text;
			continue;
		}
		*out++ = '\0';
		if (part != spec->text) {
			char *equals = strchr(part, '=');

			if (!equals || spec->count == KEYS_MAX)
				return vd_error_set(error, -EINVAL, "device %s: '%s' is not "
						    "key=value", spec->name, part);
			*equals = '\0';
			spec->keys[spec->count] = part;
			spec->values[spec->count++] = equals + 1;
		}
		if (!*text)
			return 0;
		part = out;
	}
}

static int check_keys(const struct spec *spec, const char *const *known, struct vd_error *error)
{
	for (unsigned i = 0; i < spec->count; i++) {
		const char *const *k = known;
		const char *near = nearest(spec->keys[i], known);

		while (*k && strcmp(*k, spec->keys[i]))
			k++;
		if (!*k)
			return vd_error_set(error, -EINVAL, "device %s has no property '%s'%s%s%s",
					    spec->name, spec->keys[i],
					    near ? "; did you mean '" : "", near ? near : "",
					    near ? "'?" : "");
	}
	return 0;
}

static const char *get(const struct spec *spec, const char *key)
{
	for (unsigned i = 0; i < spec->count; i++)
		if (!strcmp(spec->keys[i], key))
			return spec->values[i];
	return NULL;
}

static int get_switch(const struct spec *spec, const char *key, bool *on, struct vd_error *error)
{
	const char *value = get(spec, key);

	if (value && strcmp(value, "on") && strcmp(value, "off"))
		return vd_error_set(error, -EINVAL, "device %s: %s=%s: write on or off",
				    spec->name, key, value);
	*on = value && !strcmp(value, "on");
	return 0;
}

static int get_size(const struct spec *spec, const char *key, uint64_t *size,
		    struct vd_error *error)
{
	const char *value = get(spec, key);

	if (value && !parse_size(value, size))
		return vd_error_set(error, -EINVAL, "device %s: %s=%s is not a number or size",
				    spec->name, key, value);
	return 0;
}

static int create_nvme(const struct spec *spec, const struct device_place *place,
		       struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {"image", "snapshot", "readonly", "serial", "backing",
					    "flush", "cmb", NULL};
	struct vd_nvme_config config = {
		.env = place->env, .host = place->host, .space = place->space,
		.image = get(spec, "image"), .serial = get(spec, "serial"),
		.backing = get(spec, "backing"), .flush = get(spec, "flush"),
	};
	int rc = check_keys(spec, known, error);

	if (!rc && !config.image)
		rc = vd_error_set(error, -EINVAL, "device nvme needs image=FILE");
	if (!rc)
		rc = get_switch(spec, "snapshot", &config.snapshot, error);
	if (!rc)
		rc = get_switch(spec, "readonly", &config.read_only, error);
	if (!rc)
		rc = get_size(spec, "cmb", &config.cmb, error);
	return rc ? rc : vd_nvme_create(&config, device, error);
}

static int create_display(const struct spec *spec, const struct device_place *place,
			  struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {"memory", "width", "height", NULL};
	struct vd_display_config config = {.env = place->env, .host = place->host};
	uint64_t width = 0, height = 0, memory = 0;
	int rc = check_keys(spec, known, error);

	if (!rc)
		rc = get_size(spec, "memory", &memory, error);
	if (!rc)
		rc = get_size(spec, "width", &width, error);
	if (!rc)
		rc = get_size(spec, "height", &height, error);
	if (!rc && (width > 65535 || height > 65535))
		rc = vd_error_set(error, -EINVAL, "device display: width and height are at most "
				  "65535");
	config.memory_size = memory;
	config.width = (unsigned)width;
	config.height = (unsigned)height;
	return rc ? rc : vd_display_create(&config, device, error);
}

static int create_balloon(const struct spec *spec, const struct device_place *place,
			  struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {"size", "reporting", NULL};
	struct vd_balloon_config config = {
		.env = place->env, .host = place->host, .space = place->space,
		.memory = place->memory, .reporting = true,
	};
	int rc = check_keys(spec, known, error);

	if (!rc && !place->balloon)
		rc = vd_error_set(error, -EINVAL, "a balloon has to know the guest's memory: use "
				  "it with viaduct run");
	if (!rc && *place->balloon)
		rc = vd_error_set(error, -EEXIST, "a machine has one balloon at most");
	if (!rc)
		rc = get_size(spec, "size", &config.target, error);
	if (!rc && get(spec, "reporting"))
		rc = get_switch(spec, "reporting", &config.reporting, error);
	return rc ? rc : vd_balloon_create(&config, place->balloon, device, error);
}

static int create_edu(const struct spec *spec, const struct device_place *place,
		      struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {"dma_mask", NULL};
	struct vd_edu_config config = {
		.env = place->env, .host = place->host, .space = place->space,
	};
	int rc = check_keys(spec, known, error);

	if (!rc)
		rc = get_size(spec, "dma_mask", &config.dma_mask, error);
	return rc ? rc : vd_edu_create(&config, device, error);
}

static int create_bench(const struct spec *spec, const struct device_place *place,
			struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {NULL};
	struct vd_bench_config config = {
		.env = place->env, .host = place->host, .space = place->space,
	};
	int rc = check_keys(spec, known, error);

	return rc ? rc : vd_bench_create(&config, device, error);
}

/* All devices of one process are one client, whose name nobody else knows. */
static const char *client_id(struct vd_error *error)
{
	static char name[33];
	uint64_t bits[2];

	if (*name)
		return name;
	if (getrandom(bits, sizeof(bits), 0) != sizeof(bits)) {
		vd_error_set(error, -EIO, "no random numbers: %s", strerror(errno));
		return NULL;
	}
	snprintf(name, sizeof(name), "%016llx%016llx", (unsigned long long)bits[0],
		 (unsigned long long)bits[1]);
	return name;
}

/* Pages that BARs of several sockets share are mapped once. */
static int share_pages(const struct device_place *place, struct vd_user_client_config *config,
		       struct vd_error *error)
{
	int rc = 0;

	if (!place->group)
		return 0;
	config->client_id = client_id(error);
	if (!config->client_id)
		return error->code;
	if (!*place->group)
		rc = vd_group_create(place->env, place->host, "vfio-user", place->group, error);
	config->group = *place->group;
	return rc;
}

/* Another process's. Its memory may be cut under us at any time. */
static int create_user(const struct spec *spec, const struct device_place *place,
		       struct vd_device **device, struct vd_error *error)
{
	static const char *const known[] = {"socket", "timeout", "reconnect", NULL};
	struct vd_user_client_config config = {
		.env = place->env, .host = place->host, .space = place->space, .mem = place->mem,
		.path = get(spec, "socket"), .page_offset = true,
	};
	uint64_t timeout = 0, reconnect = 0;
	int rc = check_keys(spec, known, error);

	if (!rc && !config.path)
		rc = vd_error_set(error, -EINVAL, "device vfio-user needs socket=PATH");
	if (!rc)
		rc = get_size(spec, "timeout", &timeout, error);
	if (!rc && timeout > 3600000)
		rc = vd_error_set(error, -EINVAL, "device vfio-user: timeout is at most an hour, "
				  "in milliseconds");
	if (!rc)
		rc = get_size(spec, "reconnect", &reconnect, error);
	if (!rc && reconnect > 3600)
		rc = vd_error_set(error, -EINVAL, "device vfio-user: reconnect is at most an hour, "
				  "in seconds");
	if (!rc && !place->mem)
		rc = vd_error_set(error, -EINVAL, "a vfio-user device has to know the guest's "
				  "memory: use it with viaduct run");
	if (!rc)
		rc = vd_host_guard_install(error);
	if (!rc)
		rc = share_pages(place, &config, error);
	config.timeout_ms = (unsigned)timeout;
	config.reconnect_ms = (unsigned)reconnect * 1000;
	return rc ? rc : vd_user_client_create(&config, device, error);
}

/* A shared object's; how often it was loaded makes no difference. */
static int create_plugin(const struct spec *spec, const struct device_place *place,
			 struct vd_device **device, struct vd_error *error)
{
	static const char *const none[] = {NULL};
	const char *values[VD_DEVICE_PLUGIN_PROPERTIES_MAX] = {NULL};
	struct vd_device_plugin_config config = {
		.env = place->env, .host = place->host, .space = place->space, .values = values,
		.pad = place->pad, .group = place->small,
	};
	const struct vd_device_plugin *plugin;
	const char *const *keys = none;
	int rc = plugin_open(spec->name, &plugin, error);

	if (!rc) {
		keys = plugin->properties ? plugin->properties : none;
		rc = check_keys(spec, keys, error);
	}
	if (rc)
		return rc;
	for (unsigned i = 0; keys[i]; i++)
		values[i] = get(spec, keys[i]);
	if (error)
		error->text[0] = '\0';
	rc = plugin->create(&config, device, error);
	if (rc > 0 || (!rc && !*device))
		return vd_error_set(error, -EINVAL, "%s: .create returned %d and %s device",
				    spec->name, rc, *device ? "a" : "no");
	if (rc && error && !error->text[0])
		vd_error_set(error, rc, "%s: %s", spec->name, strerror(-rc));
	return rc;
}

static int no_such_device(const char *name, const char *const *known, struct vd_error *error)
{
	const char *near = nearest(name, known);
	size_t length = strlen(name);

	if (length > 3 && !strcmp(name + length - 3, ".so"))
		return vd_error_set(error, -EINVAL, "no such device: '%s'; did you mean the file "
				    "'./%s'?", name, name);
	return vd_error_set(error, -EINVAL, "no such device: '%s'%s%s%s", name,
			    near ? "; did you mean '" :
				   " (there are nvme, display, balloon, edu, bench and vfio-user)",
			    near ? near : "", near ? "'?" : "");
}

static const struct kind {
	const char *name;
	int (*create)(const struct spec *spec, const struct device_place *place,
		      struct vd_device **device, struct vd_error *error);
} kinds[] = {
	{"nvme", create_nvme},
	{"display", create_display},
	{"balloon", create_balloon},
	{"edu", create_edu},
	{"bench", create_bench},
	{"vfio-user", create_user},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

int device_create(const char *text, const struct device_place *place, struct vd_device **device,
		  struct vd_error *error)
{
	const char *names[KINDS + 1] = {NULL};
	struct spec spec;
	int rc = split(text, &spec, error);

	if (rc)
		return rc;
	*device = NULL;
	if (strchr(spec.name, '/'))
		return create_plugin(&spec, place, device, error);
	for (size_t i = 0; i < KINDS; i++) {
		names[i] = kinds[i].name;
		if (!strcmp(spec.name, kinds[i].name))
			return kinds[i].create(&spec, place, device, error);
	}
	return no_such_device(spec.name, names, error);
}

/* ---- the image behind a device ---- */

int run_device_image(const char *text, struct run_image *image, struct vd_error *error)
{
	struct spec spec;
	const char *path, *backing;
	int rc = split(text, &spec, error);

	*image = (struct run_image){.inode = 0};
	path = rc ? NULL : get(&spec, "image");
	if (!path)
		return rc;
	backing = get(&spec, "backing");
	image->is_volatile = backing && !strcmp(backing, "volatile");
	rc = get_switch(&spec, "snapshot", &image->layered, error);
	return rc ? rc : image_find(path, image, error);
}

/* Appends ",key=value", its commas doubled. */
static void append_value(FILE *out, const char *key, const char *value)
{
	fprintf(out, ",%s=", key);
	for (; *value; value++)
		fprintf(out, *value == ',' ? ",," : "%c", *value);
}

char *run_device_with_image(const char *text, const char *image, bool layered)
{
	struct spec spec;
	char *result = NULL;
	size_t length;
	FILE *out;

	if (split(text, &spec, NULL))
		return NULL;
	out = open_memstream(&result, &length);
	if (!out)
		return NULL;
	fputs(spec.name, out);
	append_value(out, "image", image);
	if (layered)
		append_value(out, "snapshot", "on");
	for (unsigned i = 0; i < spec.count; i++)
		if (strcmp(spec.keys[i], "image") && strcmp(spec.keys[i], "snapshot"))
			append_value(out, spec.keys[i], spec.values[i]);
	if (fclose(out)) {
		free(result);
		return NULL;
	}
	return result;
}

struct vd_device *run_find_display(struct vd_vm *vm)
{
	struct vd_device *device;

	for (unsigned i = 0; (device = vd_vm_device(vm, i)); i++)
		if (!strcmp(vd_device_name(device), "display"))
			return device;
	return NULL;
}
