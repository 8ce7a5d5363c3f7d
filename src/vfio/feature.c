/* SPDX-License-Identifier: BSD-2-Clause */
/* Features of a device (linux/vfio.h, VFIO_DEVICE_FEATURE). Requests are hostile: copied once. */
#include <linux/vfio.h>
#include <string.h>

#include "vfio/migration.h"

/* Linux 6.2 and 6.3 */
#ifndef VFIO_MIGRATION_PRE_COPY
#define VFIO_MIGRATION_PRE_COPY (1u << 2)
#endif
#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#endif

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE

#define PAGE_LEAST 4096u
/* As many as the space takes. */
#define RANGES_MAX 1024u

/* A request, and where its reply goes. */
struct feature_call {
	const uint8_t *in;
	size_t in_length;
	uint8_t *out;
	size_t room, used;
};

/* Without the kernel's pointers at the end. */
struct logging_control {
	uint64_t page_size;
	uint32_t count, reserved;
};
struct logging_range {
	uint64_t iova, length;
};
struct logging_report {
	uint64_t iova, length, page_size;
};

static int reply(struct feature_call *call, const void *data, size_t length)
{
	if (call->room < length)
		return -EINVAL;
	memcpy(call->out, data, length);
	call->used = length;
	return 0;
}

static int request(const struct feature_call *call, void *data, size_t length)
{
	if (call->in_length < length)
		return -EINVAL;
	memcpy(data, call->in, length);
	return 0;
}

/* ---- migration ------------------------------------------------------------------------------ */

static int get_migration(struct vd_device *device, struct feature_call *call)
{
	uint64_t flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;

	(void)device;
	return reply(call, &flags, sizeof(flags));
}

static int get_state(struct vd_device *device, struct feature_call *call)
{
	struct vfio_device_feature_mig_state state = {vd_device_migration_state(device), -1};

	return reply(call, &state, sizeof(state));
}

/* Who leaves no room for it gets no reply, but what he asked for. */
static int set_state(struct vd_device *device, struct feature_call *call)
{
	struct vfio_device_feature_mig_state state;
	int r = request(call, &state, sizeof(state));

	if (!r)
		r = vd_device_migration_set(device, state.device_state, NULL);
	state.data_fd = -1;
	return r || call->room < sizeof(state) ? r : reply(call, &state, sizeof(state));
}

static int get_data_size(struct vd_device *device, struct feature_call *call)
{
	uint64_t size = vd_device_migration_size(device);

	return reply(call, &size, sizeof(size));
}

/* ---- logging of DMA ------------------------------------------------------------------------- */

/* What another file's contract says, in the kernel's words. */
static int logging_error(int r)
{
	return r == -EEXIST || r == -EALREADY || r == -ENODATA || r == -ENOSPC ? -EINVAL : r;
}

static int start_ranges(struct vd_device *device, struct feature_call *call,
			const struct logging_control *control)
{
	const struct vd_env *env = device->env;
	size_t size = control->count * sizeof(struct vd_dma_range);
	struct vd_dma_range *ranges;
	int r;

	ranges = vd_env_allocate(env, "vfio.feature", size, _Alignof(struct vd_dma_range));
	if (!ranges)
		return -ENOMEM;
	for (uint32_t i = 0; i < control->count; i++) {
		struct logging_range range;

		memcpy(&range, call->in + sizeof(*control) + i * sizeof(range), sizeof(range));
		ranges[i] = (struct vd_dma_range){{range.iova}, range.length};
	}
	r = vd_dma_dirty_start(device->space, ranges, control->count, control->page_size);
	env->release(env, ranges, size);
	return logging_error(r);
}

/* The page size is a hint; the reply has the one that was taken. */
static int start_logging(struct vd_device *device, struct feature_call *call)
{
	struct logging_control control;
	int r = request(call, &control, sizeof(control));

	if (r)
		return r;
	if (control.count > RANGES_MAX)
		return -E2BIG;
	if (!control.count || !control.page_size || control.page_size & (control.page_size - 1) ||
	    (call->in_length - sizeof(control)) / sizeof(struct logging_range) < control.count)
		return -EINVAL;
	if (control.page_size < PAGE_LEAST)
		control.page_size = PAGE_LEAST;
	r = start_ranges(device, call, &control);
	return r || call->room < sizeof(control) ? r : reply(call, &control, sizeof(control));
}

static int stop_logging(struct vd_device *device, struct feature_call *call)
{
	int r = vd_dma_dirty_stop(device->space);

	(void)call;
	return r == -ENODATA ? 0 : r;
}

static int report_logging(struct vd_device *device, struct feature_call *call)
{
	struct logging_report report;
	uint64_t end, pages, bytes;
	int r = request(call, &report, sizeof(report));

	if (r)
		return r;
	if (report.page_size < PAGE_LEAST || report.page_size & (report.page_size - 1) ||
	    !report.length)
		return -EINVAL;
	if (!vd_range_end(report.iova, report.length, &end))
		return -EOVERFLOW;
	pages = (report.length - 1) / report.page_size + 1;
	bytes = ((pages - 1) / 64 + 1) * 8;
	if (call->room < sizeof(report) || bytes > call->room - sizeof(report))
		return -EINVAL;
	r = vd_dma_dirty_report(device->space, (vd_iova){report.iova}, report.length,
				report.page_size, call->out + sizeof(report), bytes);
	if (r)
		return logging_error(r);
	memcpy(call->out, &report, sizeof(report));
	call->used = sizeof(report) + bytes;
	return 0;
}

/* ---- all of them ---------------------------------------------------------------------------- */

struct feature {
	int (*get)(struct vd_device *device, struct feature_call *call);
	int (*set)(struct vd_device *device, struct feature_call *call);
	bool logging;
};

static const struct feature features[] = {
	[VFIO_DEVICE_FEATURE_MIGRATION] = {.get = get_migration},
	[VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE] = {.get = get_state, .set = set_state},
	[VFIO_DEVICE_FEATURE_DMA_LOGGING_START] = {.set = start_logging, .logging = true},
	[VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP] = {.set = stop_logging, .logging = true},
	[VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT] = {.get = report_logging, .logging = true},
	[VFIO_DEVICE_FEATURE_MIG_DATA_SIZE] = {.get = get_data_size},
};

static const struct feature *find(const struct vd_device *device, uint32_t number)
{
	const struct feature *feature;

	if (number >= sizeof(features) / sizeof(features[0]))
		return NULL;
	feature = &features[number];
	if (!feature->get && !feature->set)
		return NULL;
	return (feature->logging ? device->space != NULL : device_migration_supported(device))
		       ? feature : NULL;
}

int vd_device_feature(struct vd_device *device, uint32_t flags, const void *in, size_t in_length,
		      void *out, size_t *out_length)
{
	struct feature_call call = {.in = in, .in_length = in_length, .out = out,
				    .room = *out_length};
	const struct feature *feature;
	int r;

	*out_length = 0;
	if (flags & ~(uint32_t)(VFIO_DEVICE_FEATURE_MASK | GET | SET | PROBE))
		return -EINVAL;
	/* Asked about, both may be meant; done, only one. */
	if (!(flags & PROBE) && (flags & GET) && (flags & SET))
		return -EINVAL;
	feature = find(device, flags & VFIO_DEVICE_FEATURE_MASK);
	if (!feature)
		return -ENOTTY;
	if ((flags & GET && !feature->get) || (flags & SET && !feature->set))
		return -EINVAL;
	if (flags & PROBE)
		return 0;
	if (!(flags & (GET | SET)))
		return -EINVAL;
	r = flags & GET ? feature->get(device, &call) : feature->set(device, &call);
	if (!r)
		*out_length = call.used;
	return r;
}
