/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>

#include "remote.h"

static const unsigned both = VD_READ | VD_WRITE;

/* A page of RAM at 0, two remote maps of two pages each at 1 and 3, RAM again at 5. */
struct mixed {
	struct dma_fixture f;
	struct remote *remote;
};

static void mixed_open(struct mixed *m, uint64_t pin_limit_ms, uint64_t bounce_limit)
{
	struct vd_dma_config config = {.pin_limit_ms = pin_limit_ms, .bounce_limit = bounce_limit,
				       .mode = dma_mode()};
	struct vd_error error = {.text = ""};

	fixture_open(&m->f.base);
	config.env = m->f.base.env;
	config.host = m->f.base.host;
	if (vd_dma_space_create(&config, &m->f.space, &error))
		fail_msg("%s", error.text);
	m->remote = remote_open(m->f.space, PAGE);
	assert_int_equal(dma_map(&m->f, 0, PAGE, 0, both), 0);
	assert_int_equal(remote_map(m->remote, PAGE, 2 * PAGE, both), 0);
	assert_int_equal(remote_map(m->remote, 3 * PAGE, 2 * PAGE, both), 0);
	assert_int_equal(dma_map(&m->f, 5 * PAGE, PAGE, 5 * PAGE, both), 0);
}

static void mixed_close(struct mixed *m)
{
	assert_int_equal(stats_of(m->f.space).bounced_bytes, 0);
	assert_int_equal(stats_of(m->f.space).pinned_bytes, 0);
	dma_close_fixture(&m->f);
	free(m->remote);
}

static void fill(unsigned char *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 256 + seed);
}

/* ---- maps ----------------------------------------------------------------------------------- */

static void test_map_refusals(void **state)
{
	static const struct vd_dma_remote_ops no_write = {remote_read, NULL};
	static const struct vd_dma_remote_ops no_read = {NULL, remote_write};
	const vd_iova at = {8 * PAGE};
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	assert_int_equal(remote_map(m.remote, 8 * PAGE, 0, both), -EINVAL);
	assert_int_equal(remote_map(m.remote, 8 * PAGE + 1, PAGE, both), -EINVAL);
	assert_int_equal(remote_map(m.remote, 8 * PAGE, PAGE - 1, both), -EINVAL);
	assert_int_equal(remote_map(m.remote, 8 * PAGE, PAGE, 0), -EINVAL);
	assert_int_equal(remote_map(m.remote, 8 * PAGE, PAGE, VD_EXECUTE | VD_READ), -EINVAL);
	assert_int_equal(remote_map(m.remote, UINT64_MAX - PAGE + 1, 2 * PAGE, both), -EOVERFLOW);
	assert_int_equal(remote_map(m.remote, 4 * PAGE, 2 * PAGE, both), -EEXIST);
	assert_int_equal(remote_map(m.remote, 5 * PAGE, PAGE, both), -EEXIST);
	assert_int_equal(dma_map(&m.f, 2 * PAGE, PAGE, 0, both), -EEXIST);
	assert_int_equal(vd_dma_map_remote(m.f.space, at, PAGE, both, &no_write, NULL), -EINVAL);
	assert_int_equal(vd_dma_map_remote(m.f.space, at, PAGE, both, &no_read, NULL), -EINVAL);
	test_env_fail(&m.f.base.test, 1, -ENOMEM);
	assert_int_equal(remote_map(m.remote, 8 * PAGE, PAGE, both), -ENOMEM);
	test_env_fail(&m.f.base.test, 0, 0);
	assert_int_equal(stats_of(m.f.space).maps, 4);
	/* an operation is needed only where the access needs it */
	assert_int_equal(vd_dma_map_remote(m.f.space, at, PAGE, VD_READ, &no_write, NULL), 0);
	assert_int_equal(vd_dma_unmap(m.f.space, (vd_iova){PAGE}, PAGE, NULL), -EINVAL);
	assert_int_equal(vd_dma_unmap(m.f.space, (vd_iova){PAGE}, 4 * PAGE, NULL), 0);
	assert_int_equal(stats_of(m.f.space).maps, 3);
	assert_int_equal(m.remote->reads + m.remote->writes, 0);
	mixed_close(&m);
}

/* ---- copies --------------------------------------------------------------------------------- */

static void test_copies(void **state)
{
	static unsigned char out[6 * 4096], in[6 * 4096];
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	fill(out, sizeof(out), 1);
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){8}, out, 6 * PAGE - 16), 0);
	assert_int_equal(m.remote->writes, 2); /* one a map */
	assert_memory_equal(object_byte(&m.f.base, m.f.base.ram, 8), out, PAGE - 8);
	assert_memory_equal(m.remote->bytes, out + PAGE - 8, 4 * PAGE);
	assert_memory_equal(object_byte(&m.f.base, m.f.base.ram, 5 * PAGE), out + 5 * PAGE - 8,
			    PAGE - 8);
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){8}, in, 6 * PAGE - 16), 0);
	assert_memory_equal(in, out, 6 * PAGE - 16);
	assert_int_equal(m.remote->reads, 2);
	/* inside one map, and its last byte */
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){2 * PAGE - 1}, "ab", 2), 0);
	assert_memory_equal(remote_byte(m.remote, 2 * PAGE - 1), "ab", 2);
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){3 * PAGE - 1}, in, 1), 0);
	assert_int_equal(in[0], *remote_byte(m.remote, 3 * PAGE - 1));
	assert_int_equal(stats_of(m.f.space).remote_calls, 6);
	assert_int_equal(stats_of(m.f.space).faults, 0);
	mixed_close(&m);
}

/* What is not all there, or not all allowed, is not begun. */
static void test_copies_fault(void **state)
{
	static unsigned char bytes[8 * 4096];
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	assert_int_equal(remote_map(m.remote, 6 * PAGE, PAGE, VD_READ), 0);
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){0}, bytes, 6 * PAGE + 1), -EFAULT);
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){PAGE}, bytes, 6 * PAGE), -EFAULT);
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 6 * PAGE + 1), -EFAULT);
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){6 * PAGE}, bytes, 1), -EFAULT);
	assert_int_equal(m.remote->reads + m.remote->writes, 0);
	assert_int_equal(*object_byte(&m.f.base, m.f.base.ram, 0), 0);
	assert_int_equal(stats_of(m.f.space).faults, 4);
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 6 * PAGE), 0);
	mixed_close(&m);
}

static void test_copies_fail(void **state)
{
	static unsigned char bytes[6 * 4096];
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	memset(bytes, 'x', sizeof(bytes));
	m.remote->fail_at = 2;
	m.remote->fail_with = -ETIMEDOUT;
	assert_int_equal(vd_dma_write(m.f.space, (vd_iova){0}, bytes, sizeof(bytes)), -ETIMEDOUT);
	assert_int_equal(*object_byte(&m.f.base, m.f.base.ram, 0), 'x');
	assert_int_equal(*remote_byte(m.remote, PAGE), 'x');
	assert_int_equal(*remote_byte(m.remote, 3 * PAGE), 0);
	assert_int_equal(*object_byte(&m.f.base, m.f.base.ram, 5 * PAGE), 0);
	assert_int_equal(stats_of(m.f.space).remote_errors, 1);
	assert_int_equal(stats_of(m.f.space).faults, 0);
	/* errors that would mean something else here, and a fault of the client's own */
	m.remote->fail_at = 3;
	m.remote->fail_with = -EAGAIN;
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 1), -EIO);
	m.remote->fail_at = 4;
	m.remote->fail_with = -EREMOTE;
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 1), -EIO);
	m.remote->fail_at = 5;
	m.remote->fail_with = 1;
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 1), -EIO);
	m.remote->fail_at = 6;
	m.remote->fail_with = -EFAULT;
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){PAGE}, bytes, 1), -EFAULT);
	assert_int_equal(stats_of(m.f.space).remote_errors, 5);
	assert_int_equal(stats_of(m.f.space).faults, 1);
	mixed_close(&m);
}

static void test_no_guard(void **state)
{
	struct mixed m;
	void *pointer;
	uint64_t run;

	(void)state;
	mixed_open(&m, 0, 0);
	assert_int_equal(remote_map(m.remote, 6 * PAGE, PAGE, VD_READ), 0);
	vd_dma_guard_enter(m.f.space);
	assert_int_equal(vd_dma_translate(m.f.space, (vd_iova){PAGE}, both, &pointer, &run),
			 -EOPNOTSUPP);
	assert_int_equal(stats_of(m.f.space).faults, 0);
	assert_int_equal(vd_dma_translate(m.f.space, (vd_iova){6 * PAGE}, both, &pointer, &run),
			 -EFAULT);
	/* a local run ends where the remote map begins */
	assert_int_equal(vd_dma_translate(m.f.space, (vd_iova){0}, both, &pointer, &run), 0);
	assert_int_equal(run, PAGE);
	vd_dma_guard_leave(m.f.space);
	vd_dma_wait(m.f.space, (vd_iova){PAGE}, PAGE);
	vd_dma_mark_dirty(m.f.space, (vd_iova){PAGE}, PAGE);
	assert_int_equal(vd_dma_discard(m.f.space, (vd_iova){PAGE}, PAGE, &run), -EFAULT);
	mixed_close(&m);
}

/* ---- pins ----------------------------------------------------------------------------------- */

#define SEGMENTS 8u

struct pinned {
	struct vd_dma_range ranges[2];
	struct vd_dma_segment segments[SEGMENTS];
	struct vd_dma_pin pin;
	unsigned count;
};

static int pin(struct mixed *m, struct pinned *p, uint64_t iova, uint64_t length, unsigned access)
{
	*p = (struct pinned){.ranges = {{{iova}, length}}, .count = SEGMENTS};
	return vd_dma_pin(m->f.space, p->ranges, 1, access, NULL, &p->pin, p->segments, &p->count);
}

static void test_pin_reads(void **state)
{
	static unsigned char copy[4 * 4096];
	struct pinned p;
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	fill(m.remote->bytes, 4 * PAGE, 3);
	assert_int_equal(pin(&m, &p, 2 * PAGE - 4, 4 * PAGE, VD_READ), 0);
	assert_int_equal(m.remote->reads, 2);
	/* neighbours in one buffer, whichever map they came from */
	assert_int_equal(p.count, 2);
	assert_int_equal(p.segments[0].length, 3 * PAGE + 4);
	assert_memory_equal(p.segments[0].base, m.remote->bytes + PAGE - 4, 3 * PAGE + 4);
	assert_ptr_equal(p.segments[1].base, object_byte(&m.f.base, m.f.base.ram, 5 * PAGE));
	assert_int_equal(p.segments[1].length, PAGE - 4);
	assert_int_equal(stats_of(m.f.space).bounced_bytes, 3 * PAGE + 4);
	assert_int_equal(stats_of(m.f.space).pinned_bytes, 4 * PAGE);
	memset(p.segments[0].base, 0, 8);
	assert_int_equal(vd_dma_unpin(&p.pin), 0);
	assert_int_equal(m.remote->writes, 0);
	fill(copy, sizeof(copy), 3);
	assert_memory_equal(m.remote->bytes, copy, sizeof(copy));
	mixed_close(&m);
}

static void test_pin_writes(void **state)
{
	struct pinned p;
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	memset(m.remote->bytes, 'o', 4 * PAGE);
	assert_int_equal(pin(&m, &p, 0, 6 * PAGE, VD_WRITE), 0);
	assert_int_equal(m.remote->reads, 0);
	assert_int_equal(p.count, 3);
	for (unsigned i = 0; i < p.count; i++)
		fill(p.segments[i].base, p.segments[i].length - 8, i);
	assert_int_equal(*remote_byte(m.remote, PAGE), 'o');
	assert_int_equal(vd_dma_unpin(&p.pin), 0);
	assert_int_equal(m.remote->writes, 2);
	assert_int_equal(*remote_byte(m.remote, PAGE + 1), 8);
	assert_int_equal(*remote_byte(m.remote, 3 * PAGE), (unsigned char)(2 * 4096 * 7 + 32 + 1));
	assert_int_equal(*remote_byte(m.remote, 5 * PAGE - 1), 0); /* never stored to */
	/* both: what is not stored to stays */
	memset(m.remote->bytes, 'o', 4 * PAGE);
	assert_int_equal(pin(&m, &p, PAGE + 8, 8, both), 0);
	assert_int_equal(m.remote->reads, 1);
	memset(p.segments[0].base, 'n', 4);
	assert_int_equal(vd_dma_unpin(&p.pin), 0);
	assert_memory_equal(remote_byte(m.remote, PAGE + 4), "oooonnnnoooooooo", 16);
	mixed_close(&m);
}

static void test_pin_refusals(void **state)
{
	const uint64_t far = 1ull << 40;
	struct pinned p, held;
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 4 * PAGE);
	assert_int_equal(remote_map(m.remote, far, 1ull << 60, both), 0);
	assert_int_equal(pin(&m, &p, PAGE, 5 * PAGE + 1, both), -EFAULT);
	assert_int_equal(stats_of(m.f.space).faults, 1);
	/* the limit: of one pin, of all, and whatever sizes add up to */
	assert_int_equal(pin(&m, &p, far, 4 * PAGE + 1, VD_WRITE), -ENOBUFS);
	assert_int_equal(pin(&m, &p, far, 1ull << 60, VD_WRITE), -ENOBUFS);
	p = (struct pinned){.ranges = {{{far}, PAGE}, {{far}, (1ull << 60) - PAGE}}, .count = 8};
	assert_int_equal(vd_dma_pin(m.f.space, p.ranges, 2, VD_WRITE, NULL, &p.pin, p.segments,
				    &p.count), -ENOBUFS);
	assert_int_equal(pin(&m, &held, PAGE, PAGE, VD_WRITE), 0);
	assert_int_equal(pin(&m, &p, PAGE, 4 * PAGE, VD_WRITE), -ENOBUFS);
	assert_int_equal(pin(&m, &p, 2 * PAGE, 3 * PAGE, VD_WRITE), 0);
	assert_int_equal(vd_dma_unpin(&p.pin), 0);
	assert_int_equal(vd_dma_unpin(&held.pin), 0);
	assert_int_equal(pin(&m, &p, PAGE, 4 * PAGE, VD_WRITE), 0);
	assert_int_equal(vd_dma_unpin(&p.pin), 0);
	/* segments */
	p.count = 1;
	assert_int_equal(vd_dma_pin(m.f.space, &(struct vd_dma_range){{0}, 2 * PAGE}, 1, both, NULL,
				    &p.pin, p.segments, &p.count), -ENOSPC);
	assert_int_equal(p.count, 1);
	assert_int_equal(m.remote->reads, 0);
	assert_int_equal(stats_of(m.f.space).bounced_bytes, 0);
	assert_int_equal(stats_of(m.f.space).pins, 3);
	mixed_close(&m);
}

static void test_pin_failures(void **state)
{
	static unsigned char bytes[6 * PAGE];
	struct pinned p;
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	/* I/O page tables have what they can have of it */
	assert_int_equal(vd_dma_read(m.f.space, (vd_iova){0}, bytes, sizeof(bytes)), 0);
	test_env_fail(&m.f.base.test, 1, -ENOMEM);
	assert_int_equal(pin(&m, &p, 0, 6 * PAGE, both), -ENOMEM);
	assert_string_equal(m.f.base.test.failed_site, "iommu.bounce");
	test_env_fail(&m.f.base.test, 0, 0);
	assert_int_equal(stats_of(m.f.space).bounced_bytes, 0);
	for (unsigned call = 1; call <= 2; call++) {
		m.remote->reads = 0;
		m.remote->fail_at = call;
		m.remote->fail_with = -ECONNRESET;
		assert_int_equal(pin(&m, &p, 0, 6 * PAGE, both), -ECONNRESET);
		assert_int_equal(p.count, SEGMENTS);
		assert_int_equal(m.remote->reads, call);
		assert_int_equal(stats_of(m.f.space).remote_errors, call);
		assert_int_equal(stats_of(m.f.space).pins, 0);
		assert_int_equal(stats_of(m.f.space).pinned_bytes, 0);
	}
	/* at unpin it is too late to refuse: the rest is written, the first error told */
	m.remote->fail_at = 0;
	assert_int_equal(pin(&m, &p, 0, 6 * PAGE, VD_WRITE), 0);
	memset(p.segments[1].base, 'w', p.segments[1].length);
	m.remote->reads = 0;
	m.remote->fail_at = 1;
	m.remote->fail_with = -EPIPE;
	assert_int_equal(vd_dma_unpin(&p.pin), -EPIPE);
	assert_int_equal(m.remote->writes, 2);
	assert_int_equal(*remote_byte(m.remote, 3 * PAGE - 1), 0);
	assert_int_equal(*remote_byte(m.remote, 3 * PAGE), 'w');
	assert_int_equal(stats_of(m.f.space).remote_errors, 3);
	mixed_close(&m);
}

/* One pin over very many maps, of either kind, and over pieces of them in any order. */
static void test_pin_spans_maps(void **state)
{
	enum { MAPS = 64 };
	struct vd_dma_segment segments[MAPS];
	struct vd_dma_range ranges[MAPS];
	struct dma_fixture f;
	struct remote *remote;
	struct vd_dma_pin held;
	unsigned count = MAPS;

	(void)state;
	dma_open(&f);
	remote = remote_open(f.space, 0);
	for (unsigned i = 0; i < MAPS; i++) {
		uint64_t at = i * PAGE;

		assert_int_equal(i % 2 ? remote_map(remote, at, PAGE, both)
				       : dma_map(&f, at, PAGE, at, both), 0);
		memset(i % 2 ? remote_byte(remote, at) : object_byte(&f.base, f.base.ram, at),
		       (int)i, PAGE);
		ranges[MAPS - 1 - i] = (struct vd_dma_range){{at + i}, PAGE - 2 * i};
	}
	assert_int_equal(vd_dma_pin(f.space, &(struct vd_dma_range){{0}, MAPS * PAGE}, 1, VD_READ,
				    NULL, &held, segments, &count), 0);
	assert_int_equal(count, MAPS);
	for (unsigned i = 0; i < MAPS; i++) {
		assert_int_equal(segments[i].length, PAGE);
		assert_int_equal(*(unsigned char *)segments[i].base, i);
	}
	assert_int_equal(vd_dma_unpin(&held), 0);
	assert_int_equal(vd_dma_pin(f.space, ranges, MAPS, both, NULL, &held, segments, &count), 0);
	assert_int_equal(count, MAPS);
	for (unsigned i = 0; i < MAPS; i++) {
		unsigned char *bytes = segments[i].base;

		assert_int_equal(segments[i].length, ranges[i].length);
		assert_int_equal(bytes[0], MAPS - 1 - i);
		memset(bytes, 0x80 + (int)i, segments[i].length);
	}
	assert_int_equal(vd_dma_unpin(&held), 0);
	for (unsigned i = 1; i < MAPS; i++) {
		uint64_t at = (MAPS - 1 - i) * PAGE;
		unsigned char *bytes = i % 2 ? object_byte(&f.base, f.base.ram, at)
					     : remote_byte(remote, at);

		assert_int_equal(bytes[MAPS - 1 - i], 0x80 + i);
		if (i < MAPS - 1)
			assert_int_equal(bytes[MAPS - 2 - i], MAPS - 1 - i);
	}
	dma_close_fixture(&f);
	free(remote);
}

/* ---- the end of maps ------------------------------------------------------------------------ */

struct caller {
	struct mixed m;
	struct pinned p;
	pthread_t thread;
	bool pins;
	int result;
	_Atomic bool returned;
};

static void *run_call(void *context)
{
	struct caller *c = context;
	unsigned char byte = 0;

	c->result = c->pins ? pin(&c->m, &c->p, PAGE, 8, VD_READ)
			    : vd_dma_write(c->m.f.space, (vd_iova){PAGE}, &byte, 1);
	if (c->pins && !c->result)
		vd_dma_unpin(&c->p.pin);
	atomic_store(&c->returned, true);
	return NULL;
}

/* A call is under way on another thread. */
static struct caller *caller_start(uint64_t pin_limit_ms, bool pins)
{
	struct caller *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	mixed_open(&c->m, pin_limit_ms, 0);
	c->pins = pins;
	atomic_store(&c->m.remote->blocks, true);
	assert_int_equal(pthread_create(&c->thread, NULL, run_call, c), 0);
	while (atomic_load(&c->m.remote->step) != 1)
		sched_yield();
	return c;
}

/* What a transport does that is told to unmap: the call returns, with an error. */
static void caller_cancel(struct caller *c)
{
	c->m.remote->answer = -ECANCELED;
	atomic_store(&c->m.remote->blocks, false);
	atomic_store(&c->m.remote->step, 2);
}

static void caller_end(struct caller *c)
{
	pthread_join(c->thread, NULL);
	mixed_close(&c->m);
	free(c);
}

static void unmap_gives_up(bool pins)
{
	struct caller *c = caller_start(1, pins);
	uint64_t bytes = 1;

	assert_int_equal(vd_dma_unmap(c->m.f.space, (vd_iova){PAGE}, 2 * PAGE, &bytes), -EBUSY);
	assert_int_equal(bytes, 0);
	assert_false(atomic_load(&c->returned));
	assert_int_equal(stats_of(c->m.f.space).maps, 4);
	/* it serves nobody new; others are as before */
	assert_int_equal(vd_dma_write(c->m.f.space, (vd_iova){PAGE}, "x", 1), -EFAULT);
	atomic_store(&c->m.remote->blocks, false);
	assert_int_equal(vd_dma_write(c->m.f.space, (vd_iova){3 * PAGE}, "x", 1), 0);
	assert_int_equal(vd_dma_unmap(c->m.f.space, (vd_iova){3 * PAGE}, 2 * PAGE, &bytes), 0);
	caller_cancel(c);
	while (!atomic_load(&c->returned))
		sched_yield();
	assert_int_equal(vd_dma_unmap(c->m.f.space, (vd_iova){PAGE}, 2 * PAGE, &bytes), 0);
	assert_int_equal(bytes, 2 * PAGE);
	caller_end(c);
}

static void test_unmap_gives_up(void **state)
{
	(void)state;
	unmap_gives_up(false);
	unmap_gives_up(true);
}

static void *run_cancel(void *context)
{
	struct caller *c = context;
	unsigned char byte;

	/* until the map serves nobody new any more, so that whoever unmaps is waiting, or about to */
	while (vd_dma_read(c->m.f.space, (vd_iova){3 * PAGE}, &byte, 1) != -EFAULT)
		sched_yield();
	caller_cancel(c);
	return NULL;
}

static void ends_wait(bool pins, int (*end)(struct caller *c))
{
	struct caller *c = caller_start(0, pins);
	pthread_t thread;

	atomic_store(&c->m.remote->blocks, false); /* of calls to come */
	assert_int_equal(pthread_create(&thread, NULL, run_cancel, c), 0);
	assert_int_equal(end(c), 0);
	assert_int_equal(atomic_load(&c->m.remote->step), 2);
	pthread_join(thread, NULL);
	pthread_join(c->thread, NULL);
	assert_int_equal(c->result, -ECANCELED);
	dma_close_fixture(&c->m.f);
	free(c->m.remote);
	free(c);
}

static int end_by_unmap(struct caller *c)
{
	uint64_t bytes = 0;
	int r = vd_dma_unmap(c->m.f.space, (vd_iova){PAGE}, 4 * PAGE, &bytes);

	assert_int_equal(bytes, 4 * PAGE);
	return r;
}

static int end_by_unmap_all(struct caller *c)
{
	uint64_t bytes = 0;
	int r = vd_dma_unmap_all(c->m.f.space, &bytes);

	assert_int_equal(bytes, 6 * PAGE);
	assert_int_equal(stats_of(c->m.f.space).maps, 0);
	return r;
}

static int end_by_destroy(struct caller *c)
{
	vd_dma_space_get(c->m.f.space);
	vd_dma_space_destroy(c->m.f.space);
	assert_int_equal(stats_of(c->m.f.space).maps, 0);
	return 0;
}

static void test_unmap_waits(void **state)
{
	(void)state;
	ends_wait(false, end_by_unmap);
	ends_wait(true, end_by_unmap);
	ends_wait(false, end_by_unmap_all);
	ends_wait(true, end_by_unmap_all);
}

static void destroy_waits(bool pins)
{
	struct caller *c = caller_start(0, pins);
	pthread_t thread;

	atomic_store(&c->m.remote->blocks, false);
	assert_int_equal(pthread_create(&thread, NULL, run_cancel, c), 0);
	end_by_destroy(c);
	assert_int_equal(atomic_load(&c->m.remote->step), 2);
	pthread_join(thread, NULL);
	pthread_join(c->thread, NULL);
	/* the handle outlives it, and reaches nothing */
	assert_int_equal(remote_map(c->m.remote, PAGE, PAGE, both), -ESHUTDOWN);
	assert_int_equal(vd_dma_write(c->m.f.space, (vd_iova){PAGE}, "x", 1), -EFAULT);
	vd_dma_space_put(c->m.f.space);
	fixture_close(&c->m.f.base);
	free(c->m.remote);
	free(c);
}

static void test_destroy_waits(void **state)
{
	(void)state;
	destroy_waits(false);
	destroy_waits(true);
}

/* Who lets go when asked writes back from inside unmap, and the map still takes it. */
static void test_unmap_asks(void **state)
{
	struct holder holder;
	struct mixed m;

	(void)state;
	mixed_open(&m, 0, 0);
	assert_int_equal(holder_pin(&holder, m.f.space, PAGE, 8, VD_WRITE), 0);
	memset(holder.segment.base, 'z', 8);
	assert_int_equal(vd_dma_unmap(m.f.space, (vd_iova){PAGE}, 2 * PAGE, NULL), 0);
	assert_int_equal(holder.asked, 1);
	assert_memory_equal(remote_byte(m.remote, PAGE), "zzzzzzzz", 8);
	assert_int_equal(stats_of(m.f.space).remote_errors, 0);
	mixed_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_refusals),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_copies_fault),
		cmocka_unit_test(test_copies_fail),
		cmocka_unit_test(test_no_guard),
		cmocka_unit_test(test_pin_reads),
		cmocka_unit_test(test_pin_writes),
		cmocka_unit_test(test_pin_refusals),
		cmocka_unit_test(test_pin_failures),
		cmocka_unit_test(test_pin_spans_maps),
		cmocka_unit_test(test_unmap_gives_up),
		cmocka_unit_test(test_unmap_waits),
		cmocka_unit_test(test_destroy_waits),
		cmocka_unit_test(test_unmap_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
