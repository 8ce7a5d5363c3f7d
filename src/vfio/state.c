/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Saving and loading: an envelope around the device's own state, so that no device reads beyond its
 * own.
 */
#include <string.h>

#include "vfio/device.h"

#define STATE_MAGIC UINT64_C(0x3230564544445644) /* "DVDDEV02" */

/* The length of what follows, filled in when it is known. */
static void patch_u64(struct vd_stream *stream, size_t at, uint64_t value)
{
	if (stream->failed)
		return;
	for (unsigned i = 0; i < 8; i++)
		stream->data[at + i] = (uint8_t)(value >> i * 8);
}

static int save_locked(struct vd_device *device, struct vd_stream *stream)
{
	size_t at;
	int r = 0;

	vd_stream_put_u64(stream, STATE_MAGIC);
	vd_stream_put(stream, device->name, sizeof(device->name));
	device_irqs_save(device, stream);
	at = stream->length;
	vd_stream_put_u64(stream, 0);
	device->closed = true;
	if (device->ops->save)
		r = device->ops->save(device->context, stream);
	device->closed = false;
	patch_u64(stream, at, stream->length - at - 8);
	return r ? r : stream->failed ? -ENOMEM : 0;
}

int vd_device_save(struct vd_device *device, struct vd_stream *stream)
{
	int r;

	vd_device_lock(device);
	device_work_shut(device);
	r = device_quiesce_locked(device);
	if (!r) {
		r = save_locked(device, stream);
		device_resume_locked(device);
	}
	device_work_open(device);
	vd_device_unlock(device);
	device_work_run(device, true);
	if (r)
		stream->failed = true;
	return r;
}

/* Everything around the device's own state. */
static int open_envelope(const struct vd_device *device, struct vd_stream *stream,
			 struct device_irq_state *irqs, struct vd_stream *body,
			 struct vd_error *error)
{
	char name[sizeof(device->name)];
	uint64_t magic = vd_stream_get_u64(stream), length;
	bool good;

	vd_stream_get(stream, name, sizeof(name));
	good = device_irqs_parse(device, stream, irqs);
	length = vd_stream_get_u64(stream);
	if (stream->failed || magic != STATE_MAGIC)
		return vd_error_set(error, -EINVAL, "%s: this is no state of a device",
				    device->name);
	name[sizeof(name) - 1] = '\0';
	if (strcmp(name, device->name) != 0)
		return vd_error_set(error, -EINVAL, "%s: this is the state of another device",
				    device->name);
	if (!good)
		return vd_error_set(error, -EINVAL, "%s: the state of its interrupts is bad",
				    device->name);
	if (length > stream->length - stream->position)
		return vd_error_set(error, -EINVAL, "%s: the state is cut off: %llu bytes of %llu",
				    device->name,
				    (unsigned long long)(stream->length - stream->position),
				    (unsigned long long)length);
	*body = (struct vd_stream){.data = stream->data + stream->position, .length = length};
	stream->position += length;
	return 0;
}

static int load_locked(struct vd_device *device, const struct device_irq_state *irqs,
		       struct vd_stream *body)
{
	int r = device_quiesce_locked(device);

	if (r)
		return r;
	device->closed = true;
	if (device->ops->load)
		r = device->ops->load(device->context, body);
	else if (body->length)
		r = -EINVAL;
	device->closed = false;
	if (!r && body->failed)
		r = -EINVAL;
	if (!r)
		device_irqs_load(device, irqs);
	device_resume_locked(device);
	return r;
}

int vd_device_load(struct vd_device *device, struct vd_stream *stream, struct vd_error *error)
{
	struct device_irq_state irqs;
	struct vd_stream body;
	int r = open_envelope(device, stream, &irqs, &body, error);

	if (r)
		return r;
	vd_device_lock(device);
	device_work_shut(device);
	r = load_locked(device, &irqs, &body);
	device_work_open(device);
	vd_device_unlock(device);
	device_work_run(device, true);
	return r ? vd_error_set(error, r, "%s: the device refuses this state", device->name) : 0;
}
