/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a change of memory pays for the notifier: when nobody listens, and with one listener that
 * has nothing to do. The peer is the same change without a notifier.
 */
#include <fcntl.h>
#include <unistd.h>

#include <viaduct/host.h>

#include "cli/bench.h"

#define PAGE 4096u
#define SIZE (2u << 20)

struct notified {
	struct vd_notifier chain;
	struct vd_host *host;
	struct vd_host_object *object;
	_Atomic uint64_t word;
	uint64_t failures;
	int fd;
};

static void change(struct notified *s, uint64_t i)
{
	atomic_store_explicit(&s->word, i, memory_order_relaxed);
}

static void change_alone(void *context, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		change(context, i);
}

static void change_notified(void *context, uint64_t n)
{
	struct notified *s = context;
	struct vd_invalidation event = {.length = PAGE, .blockable = true,
					.reason = VD_INVALIDATE_DISCARD};

	for (uint64_t i = 0; i < n; i++) {
		s->failures += vd_notifier_start(&s->chain, &event) != 0;
		change(s, i);
		vd_notifier_end(&s->chain, &event);
	}
}

/* Both sides punch pages that are there: put them back first. */
static void touch(void *context, uint64_t n)
{
	struct notified *s = context;
	char byte = 1;

	for (uint64_t i = 0; i < n; i++)
		s->failures += pwrite(s->fd, &byte, 1, (off_t)(i * PAGE)) != 1;
}

static void discard_bare(void *context, uint64_t n)
{
	struct notified *s = context;

	for (uint64_t i = 0; i < n; i++)
		s->failures += fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 (off_t)(i * PAGE), PAGE) != 0;
}

static void discard(void *context, uint64_t n)
{
	struct notified *s = context;

	for (uint64_t i = 0; i < n; i++)
		s->failures += vd_host_object_discard(s->object, i * PAGE, PAGE, true) != 0;
}

static int ignore(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener, (void)event;
	return 0;
}

static const struct vd_listener_ops idle_ops = {.invalidate_start = ignore};

static void measure(struct bench *bench, struct notified *s)
{
	struct bench_case unarmed = {.name = "start and end unarmed", .context = s,
				     .body = change_notified, .peer = "a store",
				     .peer_body = change_alone};
	struct bench_case armed = {.name = "start and end, 1 listener", .context = s,
				   .body = change_notified};
	struct bench_case page = {.name = "discard 4 KiB unarmed", .n = SIZE / PAGE, .context = s,
				  .prepare = touch, .body = discard, .peer = "fallocate",
				  .peer_prepare = touch, .peer_body = discard_bare};
	struct vd_listener listener = {.ops = &idle_ops};

	bench_one(bench, &unarmed);
	bench_one(bench, &page);
	s->failures += vd_notifier_register(&s->chain, &listener) != 0;
	bench_one(bench, &armed);
	vd_notifier_unregister(&s->chain, &listener);
}

int bench_notifier(struct bench *bench, struct vd_error *error)
{
	struct vd_host_config config = {.env = vd_env_hosted()};
	struct notified s = {.host = NULL};
	int rc = vd_host_create(&config, &s.host, error);

	vd_notifier_init(&s.chain, vd_env_hosted());
	if (!rc)
		rc = vd_host_ram_create(s.host, "bench", SIZE, 0, &s.object, error);
	if (!rc) {
		s.fd = vd_host_object_fd(s.object);
		measure(bench, &s);
		if (s.failures)
			rc = vd_error_set(error, -EIO, "%llu changes failed",
					  (unsigned long long)s.failures);
	}
	vd_notifier_fini(&s.chain);
	vd_host_object_put(s.object);
	if (s.host)
		vd_host_destroy(s.host);
	return rc;
}
