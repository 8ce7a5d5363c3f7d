/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory balloon: virtio 1.2, section 5.5. What it does with memory is in balloon_work.c. */
#include <endian.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_balloon.h>

#include "device/balloon.h"

/* Saved state starts with this; the last digit is the version. */
#define STATE_MAGIC UINT64_C(0x314e4f4f4c4c4142) /* "BALLOON1" */
#define STATS_MAX 64u

_Static_assert(VD_BALLOON_STATS == VIRTIO_BALLOON_S_NR, "statistics have virtio's numbers");

/* ---- configuration: 5.5.4 ------------------------------------------------------------------- */

static void show_config(const struct vd_balloon *balloon, struct virtio_balloon_config *config)
{
	*config = (struct virtio_balloon_config){
		.num_pages = htole32(balloon->target_pages),
		.actual = htole32(balloon->actual_pages),
		.poison_val = htole32(balloon->poison),
	};
}

static void config_read(void *context, uint32_t offset, void *data, size_t length)
{
	struct virtio_balloon_config config;

	show_config(context, &config);
	memcpy(data, (const char *)&config + offset, length);
}

/* What the driver may not write does not change. */
static void config_write(void *context, uint32_t offset, const void *data, size_t length)
{
	struct vd_balloon *balloon = context;
	struct virtio_balloon_config config;

	show_config(balloon, &config);
	memcpy((char *)&config + offset, data, length);
	balloon->actual_pages = le32toh(config.actual);
	balloon->poison = le32toh(config.poison_val);
}

/* ---- queues that are emptied at once -------------------------------------------------------- */

/* 5.5.6.1: pages that leave the balloon work already; they are counted. */
static void deflate(struct vd_balloon *balloon)
{
	unsigned budget = VIRTIO_QUEUE_SIZE;

	while (budget-- &&
	       virtio_queue_peek(&balloon->virtio, BALLOON_DEFLATE, &balloon->scratch)) {
		uint64_t pages = virtio_chain_readable(&balloon->scratch) / sizeof(uint32_t);

		balloon->counters.deflated += pages << BALLOON_PAGE_SHIFT;
		virtio_queue_use(&balloon->virtio, BALLOON_DEFLATE, &balloon->scratch, 0);
	}
}

/* 5.5.6.3: the driver leaves its statistics here until it is asked for new ones. */
static void take_stats(struct vd_balloon *balloon)
{
	struct virtio_balloon_stat stats[STATS_MAX];
	long bytes;

	if (!virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_STATS_VQ) || balloon->stats_held ||
	    !virtio_queue_peek(&balloon->virtio, BALLOON_STATS, &balloon->scratch))
		return;
	bytes = virtio_chain_read(&balloon->virtio, &balloon->scratch, 0, stats, sizeof(stats));
	if (bytes < 0)
		return;
	balloon->stats_held = true;
	for (size_t i = 0; i < (size_t)bytes / sizeof(stats[0]); i++) {
		uint16_t tag = le16toh(stats[i].tag);

		if (tag >= VD_BALLOON_STATS)
			continue;
		balloon->counters.stats_known |= 1u << tag;
		balloon->counters.stats[tag] = le64toh(stats[i].val);
	}
}

static void ask_for_stats(struct vd_balloon *balloon)
{
	if (!balloon->stats_held || !virtio_runs(&balloon->virtio))
		return;
	balloon->stats_held = false;
	/* The buffer may have changed, but not where it lies in the ring. */
	if (virtio_queue_peek(&balloon->virtio, BALLOON_STATS, &balloon->scratch))
		virtio_queue_use(&balloon->virtio, BALLOON_STATS, &balloon->scratch, 0);
}

static void balloon_notify(void *context, unsigned queue)
{
	struct vd_balloon *balloon = context;

	if (queue == BALLOON_DEFLATE)
		deflate(balloon);
	else if (queue == BALLOON_STATS)
		take_stats(balloon);
	else
		vd_device_request_work(balloon->virtio.device);
}

/* ---- what the core asks for ----------------------------------------------------------------- */

static void forget_requests(struct vd_balloon *balloon)
{
	balloon->request.active = false;
	balloon->stats_held = false;
	if (balloon->virtio.device)
		vd_device_set_busy(balloon->virtio.device, false, -1);
}

/* The target is the host's and stays. */
static void balloon_reset(void *context)
{
	struct vd_balloon *balloon = context;

	forget_requests(balloon);
	balloon->actual_pages = 0;
	balloon->poison = 0;
	balloon->counters.stats_known = 0;
}

static void balloon_poll(void *context)
{
	struct vd_balloon *balloon = context;

	vd_device_request_work(balloon->virtio.device);
}

static void balloon_release(void *context)
{
	struct vd_balloon *balloon = context;

	close(balloon->ready_fd);
	balloon->env->release(balloon->env, balloon, sizeof(*balloon));
}

static void balloon_save(void *context, struct vd_stream *stream)
{
	struct vd_balloon *balloon = context;

	vd_stream_put_u64(stream, STATE_MAGIC);
	vd_stream_put_u64(stream, balloon->memory);
	vd_stream_put_u64(stream, balloon->target_pages);
	vd_stream_put_u64(stream, balloon->actual_pages);
	vd_stream_put_u64(stream, balloon->poison);
}

/* Requests that were under way are still in their rings: they are done again, without harm. */
static int balloon_load(void *context, struct vd_stream *stream)
{
	struct vd_balloon *balloon = context;
	uint64_t target, actual, poison;

	if (vd_stream_get_u64(stream) != STATE_MAGIC ||
	    vd_stream_get_u64(stream) != balloon->memory)
		return -EINVAL;
	target = vd_stream_get_u64(stream);
	actual = vd_stream_get_u64(stream);
	poison = vd_stream_get_u64(stream);
	if (stream->failed || target > balloon->memory >> BALLOON_PAGE_SHIFT ||
	    actual > UINT32_MAX || poison > UINT32_MAX)
		return -EINVAL;
	forget_requests(balloon);
	balloon->target_pages = (uint32_t)target;
	balloon->actual_pages = (uint32_t)actual;
	balloon->poison = (uint32_t)poison;
	return 0;
}

#define FEATURE(name) (UINT64_C(1) << VIRTIO_BALLOON_F_##name)
#define MODEL                                                                                      \
	.name = "balloon", .id = 5, .class_code = 0x00ff00, .queue_size = 128,                     \
	.config_size = sizeof(struct virtio_balloon_config), .config_read = config_read,           \
	.config_write = config_write, .notify = balloon_notify, .reset = balloon_reset,            \
	.poll = balloon_poll, .work = balloon_work, .release = balloon_release,                    \
	.save = balloon_save, .load = balloon_load

static const struct virtio_model plain_model = {
	.queues = BALLOON_REPORT_3,
	.features = FEATURE(STATS_VQ) | FEATURE(DEFLATE_ON_OOM),
	MODEL,
};

static const struct virtio_model reporting_model = {
	.queues = BALLOON_QUEUES,
	.features = FEATURE(STATS_VQ) | FEATURE(DEFLATE_ON_OOM) | FEATURE(PAGE_POISON) |
		    FEATURE(REPORTING),
	MODEL,
};

/* ---- creation ------------------------------------------------------------------------------- */

static uint32_t pages_to_give(uint64_t memory, uint64_t target)
{
	return (uint32_t)((memory - target) >> BALLOON_PAGE_SHIFT);
}

static int check_config(const struct vd_balloon_config *config, struct vd_error *error)
{
	if (!config->space || config->memory >> BALLOON_PAGE_SHIFT == 0 ||
	    config->memory >> BALLOON_PAGE_SHIFT > UINT32_MAX)
		return vd_error_set(error, -EINVAL, "a balloon needs a guest with memory");
	if (config->target > config->memory)
		return vd_error_set(error, -EINVAL,
				    "balloon: %llu MiB cannot remain of %llu MiB of memory",
				    (unsigned long long)(config->target >> 20),
				    (unsigned long long)(config->memory >> 20));
	return 0;
}

int vd_balloon_create(const struct vd_balloon_config *config, struct vd_balloon **result,
		      struct vd_device **device, struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_balloon *balloon;
	int rc = check_config(config, error);

	if (rc)
		return rc;
	balloon = vd_env_allocate(env, "balloon.create", sizeof(*balloon),
				  _Alignof(struct vd_balloon));
	if (!balloon)
		return vd_error_set(error, -ENOMEM, "no memory for a balloon");
	balloon->env = env;
	balloon->space = config->space;
	balloon->memory = config->memory;
	balloon->page_mask = (UINT64_C(1) << vd_host_page_shift(config->host)) - 1;
	if (config->target)
		balloon->target_pages = pages_to_give(config->memory, config->target);
	balloon->ready_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (balloon->ready_fd < 0)
		rc = vd_error_set(error, -errno, "cannot create an eventfd for a balloon");
	if (!rc)
		rc = virtio_create(&balloon->virtio,
				   config->reporting ? &reporting_model : &plain_model, balloon,
				   env, config->host, config->space, error);
	if (rc) {
		if (balloon->ready_fd >= 0)
			close(balloon->ready_fd);
		env->release(env, balloon, sizeof(*balloon));
		return rc;
	}
	*result = balloon;
	*device = balloon->virtio.device;
	return 0;
}

/* ---- the host's side ------------------------------------------------------------------------ */

int vd_balloon_set_target(struct vd_balloon *balloon, uint64_t bytes)
{
	uint32_t pages;

	if (bytes > balloon->memory)
		return -ERANGE;
	pages = pages_to_give(balloon->memory, bytes);
	vd_device_lock(balloon->virtio.device);
	if (pages != balloon->target_pages) {
		balloon->target_pages = pages;
		virtio_config_changed(&balloon->virtio);
	}
	vd_device_unlock(balloon->virtio.device);
	return 0;
}

void vd_balloon_status(struct vd_balloon *balloon, struct vd_balloon_status *status)
{
	uint64_t given;

	vd_device_lock(balloon->virtio.device);
	*status = balloon->counters;
	status->memory = balloon->memory;
	status->target =
		balloon->memory - ((uint64_t)balloon->target_pages << BALLOON_PAGE_SHIFT);
	/* The driver's word: it may be any. */
	given = (uint64_t)balloon->actual_pages << BALLOON_PAGE_SHIFT;
	status->actual = given < balloon->memory ? balloon->memory - given : 0;
	status->ready = virtio_runs(&balloon->virtio);
	status->reporting = status->ready &&
			    virtio_has(&balloon->virtio, VIRTIO_BALLOON_F_REPORTING);
	ask_for_stats(balloon);
	vd_device_unlock(balloon->virtio.device);
}
