/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the program adds to a snapshot: a JSON text with the devices as they were asked for and
 * their disk images; and the way back from there to a command line.
 */
#include "cli/snapshot.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int run_record_device(struct run_record *record, unsigned device, struct vd_error *error)
{
	return run_device_image(record->options->devices[device], &record->images[device], error);
}

/* ---- taking --------------------------------------------------------------------------------- */

struct taking {
	struct run_record *record;
	const char *path;
	bool copy;
	uint32_t stamp; /* so that no copy takes the place of another snapshot's */
	struct run_image images[RUN_DEVICES_MAX]; /* as of the moment */
	bool copied[RUN_DEVICES_MAX];
	int (*report)(void *context, uint64_t done, uint64_t total);
	void *context;
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A file beside the snapshot. Return: false if the path is too long. */
static bool beside(const char *path, const char *name, char *out, size_t room)
{
	int n = snprintf(out, room, "%.*s%s", (int)(base_name(path) - path), path, name);

	return n >= 0 && (size_t)n < room;
}

static struct json_object *describe_image(const struct run_image *image)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "path", json_object_new_string(image->path));
	json_object_object_add(o, "inode", json_object_new_uint64(image->inode));
	json_object_object_add(o, "size", json_object_new_uint64(image->size));
	json_object_object_add(o, "mtime_ns", json_object_new_uint64(image->mtime_ns));
	if (*image->copy)
		json_object_object_add(o, "copy", json_object_new_string(image->copy));
	return o;
}

static struct json_object *describe(const struct taking *t)
{
	const struct run_options *options = t->record->options;
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	json_object_object_add(o, "program", json_object_new_string("viaduct " VD_VERSION));
	json_object_object_add(o, "mmu",
			       json_object_new_string(options->shadow ? "shadow" : "two-stage"));
	json_object_object_add(o, "devices", list);
	for (unsigned i = 0; i < options->device_count; i++) {
		struct json_object *device = json_object_new_object();

		json_object_object_add(device, "spec", json_object_new_string(options->devices[i]));
		if (*t->images[i].path)
			json_object_object_add(device, "image", describe_image(&t->images[i]));
		json_object_array_add(list, device);
	}
	return o;
}

static int moment(void *context, struct vd_stream *stream, struct vd_error *error)
{
	struct taking *t = context;
	struct json_object *o;
	const char *text;
	int rc = 0;

	for (unsigned i = 0; i < t->record->options->device_count && !rc; i++)
		if (*t->images[i].path)
			rc = image_record(&t->images[i], error);
	if (rc)
		return rc;
	o = describe(t);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	vd_stream_put(stream, text, strlen(text));
	json_object_put(o);
	return 0;
}

static int alive(void *context)
{
	struct taking *t = context;

	return t->report(t->context, 0, 1);
}

/* Disks stand still until this has returned. */
static int copy_images(void *context, struct vd_error *error)
{
	struct taking *t = context;
	char path[PATH_MAX];
	int rc = 0;

	for (unsigned i = 0; i < t->record->options->device_count && !rc; i++) {
		if (!*t->images[i].copy)
			continue;
		if (!beside(t->path, t->images[i].copy, path, sizeof(path)))
			return vd_error_set(error, -ENAMETOOLONG, "%s: the path is too long",
					    t->path);
		rc = image_copy(&t->images[i], path, alive, t, error);
		t->copied[i] = !rc;
	}
	return rc;
}

static void remove_copy(const char *path, const char *name)
{
	char copy[PATH_MAX];

	if (beside(path, name, copy, sizeof(copy)))
		unlink(copy);
}

static int progress(void *context, uint64_t done, uint64_t total)
{
	struct taking *t = context;

	return t->report(t->context, done, total);
}

/* The snapshot would take the place of a disk, which would be lost when the machine ends. */
static int check_place(const struct taking *t, struct vd_error *error)
{
	const struct run_record *record = t->record;
	struct stat st;

	if (stat(t->path, &st))
		return 0;
	for (unsigned i = 0; i < record->options->device_count; i++)
		if (*record->images[i].path && st.st_ino == record->images[i].inode &&
		    st.st_dev == record->images[i].device)
			return vd_error_set(error, -EBUSY, "%s is a disk image of this machine",
					    t->path);
	return 0;
}

static int name_images(struct taking *t, struct vd_error *error)
{
	const struct run_record *record = t->record;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	t->stamp = (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
	for (unsigned i = 0; i < record->options->device_count; i++) {
		struct run_image *image = &t->images[i];
		int n = 0, rc;

		*image = record->images[i];
		if (!*image->path)
			continue;
		rc = image_check(image, t->copy, error);
		if (rc)
			return rc;
		if (t->copy)
			n = snprintf(image->copy, sizeof(image->copy), "%s.disk%u-%08x",
				     base_name(t->path), i, t->stamp);
		if (n < 0 || (size_t)n >= sizeof(image->copy))
			return vd_error_set(error, -ENAMETOOLONG, "%s: the name is too long",
					    t->path);
	}
	return 0;
}

/* ---- reading what was written ---------------------------------------------------------------- */

static bool get_text(struct json_object *o, const char *key, const char **text)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_string) ||
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return false;
	*text = json_object_get_string(value);
	return true;
}

static bool get_number(struct json_object *o, const char *key, uint64_t *number)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_int))
		return false;
	*number = json_object_get_uint64(value);
	return true;
}

static bool read_image(struct json_object *o, struct run_image *image)
{
	const char *path, *copy = "";

	if (!get_text(o, "path", &path) || *path != '/' || strlen(path) >= sizeof(image->path) ||
	    !get_number(o, "inode", &image->inode) || !get_number(o, "size", &image->size) ||
	    !get_number(o, "mtime_ns", &image->mtime_ns))
		return false;
	if (json_object_object_get_ex(o, "copy", NULL) &&
	    (!get_text(o, "copy", &copy) || !*copy || strchr(copy, '/') || *copy == '.' ||
	     strlen(copy) >= sizeof(image->copy)))
		return false;
	strcpy(image->path, path);
	strcpy(image->copy, copy);
	return true;
}

/* The text of a snapshot; NULL if it is none of ours. To be put. */
static struct json_object *parse_program(const struct vd_snapshot_info *info)
{
	struct json_tokener *tokener;
	struct json_object *o, *list;

	if (info->program_length > (1u << 20))
		return NULL;
	tokener = json_tokener_new();
	o = tokener ? json_tokener_parse_ex(tokener, (const char *)info->program,
					    (int)info->program_length) : NULL;
	json_tokener_free(tokener);
	if (o && json_object_object_get_ex(o, "devices", &list) &&
	    json_object_is_type(list, json_type_array) &&
	    json_object_array_length(list) == info->devices && info->devices <= RUN_DEVICES_MAX)
		return o;
	json_object_put(o);
	return NULL;
}

/* A name as name_images() makes them for this snapshot; nobody else's file is to be removed. */
static bool is_copy_of(const char *path, const char *name)
{
	size_t length = strlen(base_name(path));
	unsigned device;
	int end = 0;

	return !strncmp(name, base_name(path), length) &&
	       sscanf(name + length, ".disk%2u-%n", &device, &end) == 1 && end &&
	       strspn(name + length + end, "0123456789abcdef") == 8 && !name[length + end + 8];
}

/* Copies that belong to a snapshot whose place another one has taken. */
static void remove_copies(const char *path, struct json_object *program)
{
	struct json_object *list, *o;
	struct run_image image;

	if (!program || !json_object_object_get_ex(program, "devices", &list))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_object_get_ex(json_object_array_get_idx(list, i), "image", &o) &&
		    read_image(o, &image) && is_copy_of(path, image.copy))
			remove_copy(path, image.copy);
}

static struct json_object *read_old(const struct vd_env *env, const char *path)
{
	struct json_object *program;
	struct vd_snapshot *old;

	if (vd_snapshot_open(env, path, &old, NULL))
		return NULL;
	program = parse_program(vd_snapshot_info(old));
	vd_snapshot_close(old);
	return program;
}

int snapshot_take(struct vd_vm *vm, struct run_record *record, const char *path, bool copy,
		  int (*report)(void *context, uint64_t done, uint64_t total), void *context,
		  struct vd_vm_snapshot_result *result, struct vd_error *error)
{
	const struct vd_vm_snapshot_ops ops = {moment, copy ? copy_images : NULL, progress};
	struct taking *t = calloc(1, sizeof(*t));
	struct json_object *old;
	int rc;

	if (!t)
		return vd_error_set(error, -ENOMEM, "out of memory for a snapshot");
	*t = (struct taking){.record = record, .path = path, .copy = copy, .report = report,
			     .context = context};
	old = read_old(vd_env_hosted(), path);
	rc = check_place(t, error);
	if (!rc)
		rc = name_images(t, error);
	if (!rc)
		rc = vd_vm_snapshot(vm, path, &ops, t, result, error);
	for (unsigned i = 0; i < record->options->device_count; i++) {
		if (rc && t->copied[i])
			remove_copy(path, t->images[i].copy);
		else if (!rc && *t->images[i].path)
			image_sync(&t->images[i]);
	}
	if (!rc)
		remove_copies(path, old);
	json_object_put(old);
	free(t);
	return rc;
}

/* ---- the way back ---------------------------------------------------------------------------- */

static int bad(const struct run_options *options, struct vd_error *error, const char *what)
{
	return vd_error_set(error, -EINVAL, "snapshot %s: %s", options->restore, what);
}

/* The copy in place of the image, which must not change: the next restore begins with it again. */
static int use_copy(const struct run_options *options, const struct run_image *image,
		    const char *spec, char **device, struct vd_error *error)
{
	char path[PATH_MAX];
	struct stat st;

	if (!beside(options->restore, image->copy, path, sizeof(path)) || stat(path, &st))
		return vd_error_set(error, -ENOENT, "snapshot %s: the copy of its disk image, %s, "
				    "is not beside it", options->restore, image->copy);
	if ((uint64_t)st.st_size != image->size)
		return vd_error_set(error, -ESTALE, "%s is not the copy that snapshot %s was taken "
				    "with: it has another size", path, options->restore);
	*device = run_device_with_image(spec, path, true);
	return *device ? 0 : vd_error_set(error, -ENOMEM, "out of memory");
}

static int restore_device(const struct run_options *options, struct json_object *o, char **device,
			  struct vd_error *error)
{
	struct run_image image = {.inode = 0};
	struct json_object *described;
	const char *spec;
	int rc;

	if (!get_text(o, "spec", &spec))
		return bad(options, error, "a device is not described");
	if (json_object_object_get_ex(o, "image", &described)) {
		if (!read_image(described, &image))
			return bad(options, error, "a disk image is not described");
		if (*image.copy)
			return use_copy(options, &image, spec, device, error);
		rc = image_unchanged(&image, error);
		if (rc)
			return rc;
		*device = run_device_with_image(spec, image.path, false);
	} else {
		/* An image that is opened is one that was looked at. */
		if (run_device_image(spec, &image, NULL) || *image.path)
			return bad(options, error, "a disk image is not described");
		*device = strdup(spec);
	}
	return *device ? 0 : vd_error_set(error, -ENOMEM, "out of memory");
}

static int restore_devices(struct run_options *options, struct run_restore *restore,
			   struct vd_error *error)
{
	struct json_object *program = parse_program(vd_snapshot_info(restore->snapshot)), *list;
	const char *mmu;
	int rc = 0;

	if (!program)
		return bad(options, error, "it does not say what devices there were");
	/* The guest cannot tell: the user may choose again. */
	if (!options->mmu_given && get_text(program, "mmu", &mmu))
		options->shadow = !strcmp(mmu, "shadow");
	json_object_object_get_ex(program, "devices", &list);
	for (size_t i = 0; i < json_object_array_length(list) && !rc; i++) {
		rc = restore_device(options, json_object_array_get_idx(list, i),
				    &restore->devices[i], error);
		options->devices[i] = restore->devices[i];
		restore->device_count += !rc;
	}
	options->device_count = restore->device_count;
	json_object_put(program);
	return rc;
}

static int check_options(const struct run_options *options, const struct vd_snapshot_info *info,
			 struct vd_error *error)
{
	if (options->memory_given && options->memory != info->memory)
		return vd_error_set(error, -EINVAL, "--memory: the snapshot is of a guest with "
				    "%llu MiB", (unsigned long long)(info->memory >> 20));
	if (options->cpus_given && options->cpus != info->cpus)
		return vd_error_set(error, -EINVAL, "--cpus: the snapshot is of a guest with %u",
				    info->cpus);
	if (options->svadu && !info->svadu)
		return vd_error_set(error, -EINVAL, "--svadu: the snapshot is of a guest without");
	return 0;
}

int snapshot_prepare(struct run_options *options, const struct vd_env *env,
		     struct run_restore *restore, struct vd_error *error)
{
	const struct vd_snapshot_info *info;
	int rc;

	*restore = (struct run_restore){.snapshot = NULL};
	if (options->kernel || options->initrd || options->append || options->device_count)
		return vd_error_set(error, -EINVAL, "--restore goes on with the kernel and the "
				    "devices of the snapshot: no --kernel, --initrd, --append, "
				    "--device");
	rc = vd_snapshot_open(env, options->restore, &restore->snapshot, error);
	if (rc)
		return rc;
	info = vd_snapshot_info(restore->snapshot);
	rc = check_options(options, info, error);
	if (rc)
		return rc;
	options->memory = info->memory;
	options->cpus = info->cpus;
	options->svadu = info->svadu;
	return restore_devices(options, restore, error);
}

void snapshot_finish(struct run_restore *restore)
{
	vd_snapshot_close(restore->snapshot);
	restore->snapshot = NULL;
	for (unsigned i = 0; i < RUN_DEVICES_MAX; i++)
		free(restore->devices[i]);
}
