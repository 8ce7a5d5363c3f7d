/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's state as a stream of records: kind, length, bytes; all numbers are little-endian words
 * of 64 bits.
 *
 *	BASE	the state while the device ran on
 *	DELTA	after a BASE: length of the final state, then offset, length and bytes of each run
 *		that differs
 *	FULL	without a BASE: the final state
 *	END	a hash of the final state: the stream is whole
 *
 * A state is what vd_device_save() puts out.
 */
#include <string.h>

#include "vfio/migration.h"

#define RECORD(a, b, c, d) \
	((uint64_t)(a) << 32 | (uint64_t)(b) << 40 | (uint64_t)(c) << 48 | (uint64_t)(d) << 56 |   \
	 UINT64_C(0x474d4456) /* "VDMG" */)
#define RECORD_BASE RECORD('B', 'A', 'S', 'E')
#define RECORD_DELTA RECORD('D', 'L', 'T', 'A')
#define RECORD_FULL RECORD('F', 'U', 'L', 'L')
#define RECORD_END RECORD('D', 'O', 'N', 'E')
#define RECORD_HEAD 16u

#define BLOCK 4096u

/* What a device may have besides the bytes of its mappable areas. */
#define ROOM_OTHER (UINT64_C(64) << 20)
#define GUESS_OTHER (UINT64_C(64) << 10)

struct bytes {
	const uint8_t *data;
	size_t length;
};

/* Not against malice, which could make up any state: against what got lost or mixed up. */
static uint64_t hash(const uint8_t *data, size_t length)
{
	uint64_t h = length;

	for (; length; length -= length < 8 ? length : 8) {
		uint64_t word = 0;

		memcpy(&word, data, length < 8 ? length : 8);
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
		data += length < 8 ? length : 8;
	}
	return h;
}

static void put_at(struct vd_stream *stream, size_t at, uint64_t value)
{
	for (unsigned i = 0; i < 8 && !stream->failed; i++)
		stream->data[at + i] = (uint8_t)(value >> i * 8);
}

/* ---- out ------------------------------------------------------------------------------------ */

static size_t record_open(struct vd_stream *data, uint64_t kind)
{
	vd_stream_put_u64(data, kind);
	vd_stream_put_u64(data, 0);
	return data->length;
}

static void record_close(struct vd_stream *data, size_t start)
{
	put_at(data, start - 8, data->length - start);
}

/* Back to what was there, when something has failed. */
static int finish(struct vd_stream *data, size_t before, int r)
{
	if (!r && data->failed)
		r = -ENOMEM;
	if (r) {
		data->length = before;
		data->failed = false;
	}
	return r;
}

int migration_put_base(struct vd_device *device, struct vd_stream *data)
{
	size_t before = data->length, start = record_open(data, RECORD_BASE);
	int r = vd_device_save(device, data);

	record_close(data, start);
	return finish(data, before, r);
}

/* Whole blocks, as comparing is cheap and a head is not. */
static void put_runs(struct vd_stream *data, size_t base, size_t base_length, struct bytes state)
{
	size_t at = 0, open = 0; /* where the head of the run under way is */

	while (at < state.length) {
		size_t n = state.length - at < BLOCK ? state.length - at : BLOCK;
		bool same = at + n <= base_length && !data->failed &&
			    !memcmp(data->data + base + at, state.data + at, n);

		if (!same && !open) {
			vd_stream_put_u64(data, at);
			open = data->length;
			vd_stream_put_u64(data, 0);
		}
		if (!same)
			vd_stream_put(data, state.data + at, n);
		else if (open)
			put_at(data, open, data->length - open - 8);
		if (same)
			open = 0;
		at += n;
	}
	if (open)
		put_at(data, open, data->length - open - 8);
}

static void put_state(struct vd_stream *data, struct bytes state)
{
	size_t start, base_length;

	if (!data->length) {
		start = record_open(data, RECORD_FULL);
		vd_stream_put(data, state.data, state.length);
		record_close(data, start);
		return;
	}
	/* There is nothing but the base. */
	base_length = data->length - RECORD_HEAD;
	start = record_open(data, RECORD_DELTA);
	vd_stream_put_u64(data, state.length);
	put_runs(data, RECORD_HEAD, base_length, state);
	record_close(data, start);
}

int migration_put_rest(struct vd_device *device, struct vd_stream *data)
{
	struct vd_stream state = {.env = data->env};
	size_t before = data->length, start;
	int r = vd_device_save(device, &state);

	if (!r) {
		put_state(data, (struct bytes){state.data, state.length});
		start = record_open(data, RECORD_END);
		vd_stream_put_u64(data, hash(state.data, state.length));
		record_close(data, start);
	}
	vd_stream_fini(&state);
	return finish(data, before, r);
}

/* ---- in: nothing here is to be trusted ------------------------------------------------------ */

static uint64_t mappable(const struct vd_device *device)
{
	uint64_t memory = 0;

	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		for (unsigned a = 0; a < device->regions[i].area_count; a++)
			memory += device->regions[i].areas[a].size;
	return memory;
}

uint64_t migration_guess(const struct vd_device *device)
{
	return mappable(device) + GUESS_OTHER;
}

/* A base and everything once more, with a head for each block. */
uint64_t migration_room(const struct vd_device *device)
{
	return 3 * mappable(device) + ROOM_OTHER;
}

/* What a stream is made of; @made: the final state, where it had to be put together. */
struct parsed {
	struct bytes base, state;
	uint8_t *made;
	size_t room;
	bool complete;
};

static bool apply_runs(uint8_t *to, size_t length, struct vd_stream *runs)
{
	while (runs->position < runs->length) {
		uint64_t at = vd_stream_get_u64(runs), n = vd_stream_get_u64(runs);

		if (runs->failed || at > length || n > length - at)
			return false;
		vd_stream_get(runs, to + at, n);
	}
	return !runs->failed;
}

static int take_delta(struct vd_device *device, struct parsed *p, struct bytes record)
{
	struct vd_stream runs = {.data = (uint8_t *)(uintptr_t)record.data,
				 .length = record.length};
	uint64_t length = vd_stream_get_u64(&runs);

	if (runs.failed || !length || length > migration_room(device))
		return -EINVAL;
	p->made = vd_env_allocate(device->env, "vfio.migration", length, _Alignof(max_align_t));
	if (!p->made)
		return -ENOMEM;
	p->room = length;
	memcpy(p->made, p->base.data, p->base.length < length ? p->base.length : length);
	p->state = (struct bytes){p->made, length};
	return apply_runs(p->made, length, &runs) ? 0 : -EINVAL;
}

static int take_record(struct vd_device *device, struct parsed *p, uint64_t kind,
		       struct bytes record)
{
	struct vd_stream word = {.data = (uint8_t *)(uintptr_t)record.data, .length = 8};

	if (kind == RECORD_BASE && !p->base.data && !p->state.data) {
		p->base = record;
		return 0;
	}
	if (kind == RECORD_FULL && !p->base.data && !p->state.data) {
		p->state = record;
		return 0;
	}
	if (kind == RECORD_DELTA && p->base.data && !p->state.data)
		return take_delta(device, p, record);
	if (kind != RECORD_END || !p->state.data || record.length != 8)
		return -EINVAL;
	p->complete = vd_stream_get_u64(&word) == hash(p->state.data, p->state.length);
	return p->complete ? 0 : -EINVAL;
}

static int parse(struct vd_device *device, struct vd_stream *in, struct parsed *p)
{
	int r = 0;

	while (!r && !p->complete) {
		uint64_t kind = vd_stream_get_u64(in), length = vd_stream_get_u64(in);

		if (in->failed || length > in->length - in->position)
			return -EINVAL;
		r = take_record(device, p, kind, (struct bytes){in->data + in->position, length});
		in->position += length;
	}
	return !r && in->position != in->length ? -EINVAL : r;
}

int migration_take(struct vd_device *device, const struct vd_stream *data, struct vd_error *error)
{
	struct vd_stream in = {.data = data->data, .length = data->length};
	struct parsed p = {0};
	int r = parse(device, &in, &p);

	if (r)
		vd_error_set(error, r, "%s: %s", device->name,
			     r == -ENOMEM ? "no memory for the device's state"
					  : "the device's state is incomplete, or none");
	if (!r) {
		in = (struct vd_stream){.data = (uint8_t *)(uintptr_t)p.state.data,
					.length = p.state.length};
		r = vd_device_load(device, &in, error);
	}
	device->env->release(device->env, p.made, p.room);
	return r;
}
