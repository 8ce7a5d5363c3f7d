/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest virtio device: of each chain it takes the sum of the bytes it may read, and says it
 * had written as many bytes as it read. Queue 0 does so at once, queue 1 in @work.
 */
#ifndef TESTS_DEVICE_VIRTIO_TOY_H
#define TESTS_DEVICE_VIRTIO_TOY_H

#include "virtio_rig.h"

#define TOY_FEATURE (UINT64_C(1) << 7)
#define TOY_BYTES 4096u

struct toy {
	struct virtio virtio;
	uint32_t config[2]; /* the first is read-only */
	unsigned notified, resets, released, chains, segments;
	uint64_t sum;
	bool stop_inside; /* of @work, until the test says go */
	_Atomic bool inside, go;
	struct virtio_chain chain;
};

static inline void toy_config_read(void *context, uint32_t offset, void *data, size_t length)
{
	memcpy(data, (char *)((struct toy *)context)->config + offset, length);
}

static inline void toy_config_write(void *context, uint32_t offset, const void *data,
				    size_t length)
{
	if (offset >= 4)
		memcpy((char *)((struct toy *)context)->config + offset, data, length);
}

static inline void toy_finish(struct toy *toy, unsigned queue)
{
	uint64_t readable = virtio_chain_readable(&toy->chain);
	unsigned char bytes[TOY_BYTES];
	long count = virtio_chain_read(&toy->virtio, &toy->chain, 0, bytes, sizeof(bytes));

	if (count < 0)
		return;
	assert_int_equal(count, readable < sizeof(bytes) ? readable : sizeof(bytes));
	toy->sum = 0;
	for (long i = 0; i < count; i++)
		toy->sum += bytes[i];
	toy->chains++;
	toy->segments = toy->chain.count;
	virtio_queue_use(&toy->virtio, queue, &toy->chain, (uint32_t)readable);
}

static inline void toy_notify(void *context, unsigned queue)
{
	struct toy *toy = context;

	toy->notified++;
	if (queue == 1)
		vd_device_request_work(toy->virtio.device);
	while (queue == 0 && virtio_queue_peek(&toy->virtio, 0, &toy->chain))
		toy_finish(toy, 0);
}

static inline void toy_work(void *context)
{
	struct toy *toy = context;

	vd_device_lock(toy->virtio.device);
	if (virtio_queue_peek(&toy->virtio, 1, &toy->chain)) {
		virtio_hold(&toy->virtio);
		vd_device_unlock(toy->virtio.device);
		atomic_store(&toy->inside, true);
		while (toy->stop_inside && !atomic_load(&toy->go))
			sched_yield();
		vd_device_lock(toy->virtio.device);
		if (virtio_let_go(&toy->virtio))
			toy_finish(toy, 1);
	}
	vd_device_unlock(toy->virtio.device);
}

static inline void toy_reset(void *context)
{
	((struct toy *)context)->resets++;
}

static inline void toy_release(void *context)
{
	((struct toy *)context)->released++;
}

static inline void toy_save(void *context, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, ((struct toy *)context)->config[1]);
}

static inline int toy_load(void *context, struct vd_stream *stream)
{
	uint64_t value = vd_stream_get_u64(stream);

	if (stream->failed || value > UINT32_MAX)
		return -EINVAL;
	((struct toy *)context)->config[1] = (uint32_t)value;
	return 0;
}

static const struct virtio_model toy_model = {
	.name = "toy",
	.id = 42,
	.class_code = 0xff0000,
	.queues = 2,
	.queue_size = 64,
	.features = TOY_FEATURE,
	.config_size = 8,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
	.notify = toy_notify,
	.reset = toy_reset,
	.work = toy_work,
	.release = toy_release,
	.save = toy_save,
	.load = toy_load,
};

struct toy_rig {
	struct vrig rig;
	struct toy toy;
};

static inline struct toy_rig *toy_open(void)
{
	struct toy_rig *t = calloc(1, sizeof(*t));
	struct vd_error error = {.text = ""};

	assert_non_null(t);
	vrig_open(&t->rig);
	t->toy.config[0] = 0x11223344;
	if (virtio_create(&t->toy.virtio, &toy_model, &t->toy, &t->rig.test.env, t->rig.host,
			  t->rig.space, &error))
		fail_msg("%s", error.text);
	vrig_plug(&t->rig, t->toy.virtio.device);
	return t;
}

static inline void toy_close(struct toy_rig *t)
{
	vrig_close(&t->rig);
	assert_int_equal(t->toy.released, 1);
	free(t);
}

#endif
