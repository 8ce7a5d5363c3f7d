/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <viaduct/vfio.h>

#define ROOM_LEAST 256u

static bool stream_grow(struct vd_stream *stream, size_t needed)
{
	size_t room = stream->room > SIZE_MAX / 2 ? needed : stream->room * 2;
	uint8_t *data;

	if (room < needed)
		room = needed;
	if (room < ROOM_LEAST)
		room = ROOM_LEAST;
	data = vd_env_allocate(stream->env, "vfio.stream", room, _Alignof(max_align_t));
	if (!data)
		return false;
	if (stream->length)
		memcpy(data, stream->data, stream->length);
	if (stream->room)
		stream->env->release(stream->env, stream->data, stream->room);
	stream->data = data;
	stream->room = room;
	return true;
}

void vd_stream_put(struct vd_stream *stream, const void *data, size_t length)
{
	size_t needed;

	if (stream->failed || !length)
		return;
	if (!stream->env || __builtin_add_overflow(stream->length, length, &needed) ||
	    (needed > stream->room && !stream_grow(stream, needed))) {
		stream->failed = true;
		return;
	}
	memcpy(stream->data + stream->length, data, length);
	stream->length = needed;
}

void vd_stream_put_u64(struct vd_stream *stream, uint64_t value)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> i * 8);
	vd_stream_put(stream, bytes, sizeof(bytes));
}

void vd_stream_get(struct vd_stream *stream, void *data, size_t length)
{
	if (!length)
		return;
	if (stream->failed || stream->position > stream->length ||
	    length > stream->length - stream->position) {
		stream->failed = true;
		memset(data, 0, length);
		return;
	}
	memcpy(data, stream->data + stream->position, length);
	stream->position += length;
}

uint64_t vd_stream_get_u64(struct vd_stream *stream)
{
	uint64_t value = 0;
	uint8_t bytes[8];

	vd_stream_get(stream, bytes, sizeof(bytes));
	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)bytes[i] << i * 8;
	return value;
}

void vd_stream_fini(struct vd_stream *stream)
{
	if (stream->room)
		stream->env->release(stream->env, stream->data, stream->room);
	*stream = (struct vd_stream){.env = stream->env};
}
