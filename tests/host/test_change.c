/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Discard, protect, move and count: random histories, with steps that fail, against a plain shadow
 * of content and permissions; and under readers that must never see what was taken away.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/object.h"

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define PAGES 24u

static struct test_env test;
static struct vd_host *host;
static int zeroes; /* the device of that name */

/* ---- the model ------------------------------------------------------- */

struct shadow {
	struct vd_host_object *object;
	uint8_t *private; /* of a private object */
	uint8_t tag[PAGES]; /* first and last byte of the page */
	bool touched[PAGES]; /* may have memory behind it */
	bool read_only[PAGES];
	bool refuse;
	unsigned starts, ends;
	struct vd_listener listener;
};

static struct shadow shadow;

static uint8_t *bytes_at(uint64_t page, unsigned access)
{
	struct vd_host_page found;

	if (vd_host_object_lookup(shadow.object, page * PAGE, access, &found))
		return NULL;
	return vd_host_pointer(vd_host_window_base(host), found.pfn, 12);
}

/* Through the descriptor where there is one: looking must not make memory resident. */
static uint8_t tag_of(uint64_t page, uint64_t offset)
{
	uint64_t at, run;
	uint8_t tag = 0xee;
	int fd = vd_host_object_fd_range(shadow.object, page * PAGE + offset, &at, &run);

	if (fd < 0)
		return shadow.private[page * PAGE + offset];
	assert_int_equal(pread(fd, &tag, 1, (off_t)at), 1);
	return tag;
}

/* Whether the mapping takes a store; the kernel tries, so that nothing is raised here. */
static bool takes_store(uint64_t page)
{
	return pread(zeroes, bytes_at(page, VD_READ) + 1, 1, 0) == 1;
}

static void check_page(uint64_t page)
{
	struct vd_host_page found, next;

	assert_int_equal(tag_of(page, 0), shadow.tag[page]);
	assert_int_equal(tag_of(page, PAGE - 1), shadow.tag[page]);
	assert_int_equal(vd_host_object_lookup(shadow.object, page * PAGE, VD_READ, &found), 0);
	if (shadow.read_only[page])
		assert_false(found.writable);
	if (!shadow.private && shadow.touched[page])
		assert_int_equal(takes_store(page), !shadow.read_only[page]);
	assert_int_equal(found.run % PAGE, 0);
	for (uint64_t i = 1; i < found.run / PAGE; i++) {
		assert_int_equal(vd_host_object_lookup(shadow.object, (page + i) * PAGE, VD_READ,
						       &next), 0);
		assert_int_equal(next.pfn.value, found.pfn.value + i);
		assert_int_equal(next.writable, found.writable);
	}
}

/* No frame holds two pages, spares are empty, none is lost. */
static void check_frames(void)
{
	struct vd_host_object *object = shadow.object;
	bool used[2 * PAGES] = {false};
	uint8_t bytes[PAGE];

	if (!object->spare_used)
		return;
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t frame = pages_get(object, page).frame;

		assert_in_range(frame, 0, object->frames - 1);
		assert_false(used[frame]);
		used[frame] = true;
	}
	for (uint64_t frame = 0; frame < object->frames; frame++) {
		assert_int_equal(object->spare_used[frame / 64] >> (frame % 64) & 1, used[frame]);
		if (used[frame])
			continue;
		assert_int_equal(pread(object->fd, bytes, PAGE, (off_t)(frame * PAGE)), PAGE);
		for (size_t i = 0; i < PAGE; i++)
			assert_int_equal(bytes[i], 0);
	}
}

static void check_all(void)
{
	uint64_t bytes, most = 0;

	for (uint64_t page = 0; page < PAGES; page++) {
		check_page(page);
		most += shadow.touched[page] * PAGE;
	}
	check_frames();
	assert_int_equal(shadow.starts, shadow.ends);
	assert_int_equal(vd_host_object_resident(shadow.object, 0, PAGES * PAGE, &bytes), 0);
	assert_true(bytes <= most);
}

/* Mirrors are told before the change, and see the change at the end. */
static int shadow_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	if (shadow.refuse && !event->blockable)
		return -EAGAIN;
	shadow.starts++;
	assert_ptr_equal(event->object, shadow.object);
	for (uint64_t i = 0; i < event->length / PAGE; i++)
		assert_int_equal(tag_of(event->start / PAGE + i, 0),
				 shadow.tag[event->start / PAGE + i]);
	return 0;
}

static void shadow_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	shadow.ends++;
}

static const struct vd_listener_ops shadow_ops = {.invalidate_start = shadow_start,
						  .invalidate_end = shadow_end};

/* ---- steps of a history ---------------------------------------------- */

struct step {
	uint64_t page, count;
	bool blockable;
	bool writable;
	int expected; /* of an operation that cannot be */
};

static void do_write(const struct step *step, uint8_t tag)
{
	uint8_t *p = bytes_at(step->page, VD_READ | VD_WRITE);

	if (shadow.read_only[step->page]) {
		assert_null(p);
		return;
	}
	assert_non_null(p);
	p[0] = p[PAGE - 1] = shadow.tag[step->page] = tag;
	shadow.touched[step->page] = true;
}

/* Whether it succeeded; if not, that it failed as it should. */
static bool went_well(int result, const struct step *step)
{
	int injected = atomic_load(&test.fail_with);

	if (result == 0)
		return true;
	if (step->expected)
		assert_int_equal(result, step->expected);
	else if (test_env_failed(&test))
		assert_true(result == injected || result == -ENOMEM);
	else
		assert_true(shadow.refuse && !step->blockable && result == -EAGAIN);
	return false;
}

static void do_discard(const struct step *step)
{
	int result = vd_host_object_discard(shadow.object, step->page * PAGE, step->count * PAGE,
					    step->blockable);

	if (!went_well(result, step))
		return;
	memset(&shadow.tag[step->page], 0, step->count);
	if (!shadow.private) /* there, looking touches it again */
		memset(&shadow.touched[step->page], 0, step->count);
}

static void do_protect(const struct step *step)
{
	int result = vd_host_object_protect(shadow.object, step->page * PAGE, step->count * PAGE,
					    step->writable, step->blockable);

	if (!went_well(result, step))
		return;
	for (uint64_t i = 0; i < step->count; i++)
		shadow.read_only[step->page + i] = !step->writable;
}

static void do_move(const struct step *step)
{
	uint64_t before[PAGES];
	int result;

	for (uint64_t i = 0; i < PAGES; i++)
		before[i] = pages_get(shadow.object, i).frame;
	result = vd_host_object_move(shadow.object, step->page * PAGE, step->count * PAGE,
				     step->blockable);
	if (went_well(result, step)) {
		for (uint64_t i = 0; i < step->count; i++)
			before[step->page + i] = UINT64_MAX;
	}
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t now = pages_get(shadow.object, i).frame;

		if (before[i] != UINT64_MAX)
			assert_int_equal(now, before[i]);
	}
}

static void random_step(bool faults)
{
	uint64_t random = test_random(test_state());
	struct step step = {.page = random % PAGES, .blockable = random >> 8 & 1,
			    .writable = random >> 9 & 1};

	step.count = 1 + (random >> 16) % (PAGES - step.page);
	if (!(shadow.object->flags & VD_HOST_SPARES) && (random >> 32) % 8 == 7)
		step.expected = -EOPNOTSUPP;
	shadow.refuse = (random >> 48) % 8 == 0;
	test_env_fail(&test, faults && (random >> 24 & 1) ? (long)(1 + (random >> 25) % 6) : 0,
		      random >> 63 ? -ENOMEM : -EIO);
	switch ((random >> 32) % 8) {
	case 0: case 1: case 2: case 3:
		do_write(&step, (uint8_t)(1 + (random >> 40) % 255));
		break;
	case 4:
		do_discard(&step);
		break;
	case 5: case 6:
		do_protect(&step);
		break;
	default:
		do_move(&step);
		break;
	}
	test_env_fail(&test, 0, 0);
	check_all();
}

static void run_history(uint64_t seed, int steps, bool private, unsigned flags)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	test_start(seed);
	memset(&shadow, 0, sizeof(shadow));
	test_env_init(&test);
	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
	if (private) {
		shadow.private = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_int_equal(vd_host_private(host, "private", shadow.private, PAGES * PAGE, 0,
						 &shadow.object, NULL), 0);
		memset(shadow.touched, true, sizeof(shadow.touched));
	} else {
		assert_int_equal(vd_host_ram_create(host, "ram", PAGES * PAGE, flags,
						    &shadow.object, NULL), 0);
	}
	shadow.listener.ops = &shadow_ops;
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &shadow.listener), 0);
	for (int i = 0; i < steps; i++)
		random_step(i > steps / 4);
	vd_notifier_unregister(vd_host_notifier(host), &shadow.listener);
	vd_host_object_put(shadow.object);
	vd_host_destroy(host);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
	if (private)
		munmap(shadow.private, PAGES * PAGE);
}

static void random_histories_with_spares(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 15; seed++)
		run_history(seed, 100, false, VD_HOST_SPARES);
}

static void random_histories_without_spares(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++)
		run_history(seed, 100, false, 0);
}

static void random_histories_of_private_memory(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++)
		run_history(seed, 100, true, 0);
}

/* ---- single rules ---------------------------------------------------- */

static void make_ram(unsigned flags)
{
	struct vd_host_config config = {.env = &test.env, .window_size = UINT64_C(1) << 30};

	memset(&shadow, 0, sizeof(shadow));
	test_env_init(&test);
	assert_int_equal(vd_host_create(&config, &host, NULL), 0);
	assert_int_equal(vd_host_ram_create(host, "ram", PAGES * PAGE, flags, &shadow.object, NULL),
			 0);
}

static void drop_ram(void)
{
	vd_host_object_put(shadow.object);
	vd_host_destroy(host);
	vd_env_hosted_drain();
	assert_int_equal(test.blocks, 0);
}

static void bad_ranges_are_refused(void **state)
{
	static int (*const changes[])(struct vd_host_object *object, uint64_t offset,
				      uint64_t length, bool blockable) = {
		vd_host_object_discard, vd_host_object_move, vd_host_object_restore,
	};
	uint64_t bytes;

	(void)state;
	make_ram(VD_HOST_SPARES);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		assert_int_equal(changes[i](shadow.object, 1, PAGE, true), -EINVAL);
		assert_int_equal(changes[i](shadow.object, 0, PAGE - 1, true), -EINVAL);
		assert_int_equal(changes[i](shadow.object, 0, 0, true), -EINVAL);
		assert_int_equal(changes[i](shadow.object, 0, (PAGES + 1) * PAGE, true), -ERANGE);
		assert_int_equal(changes[i](shadow.object, PAGES * PAGE, PAGE, true), -ERANGE);
		assert_int_equal(changes[i](shadow.object, PAGE, UINT64_MAX - PAGE + 1, true),
				 -ERANGE);
	}
	assert_int_equal(vd_host_object_protect(shadow.object, 1, PAGE, true, true), -EINVAL);
	assert_int_equal(vd_host_object_resident(shadow.object, 0, (PAGES + 1) * PAGE, &bytes),
			 -ERANGE);
	drop_ram();
}

static void moves_stop_when_frames_run_out(void **state)
{
	uint8_t *p;

	(void)state;
	make_ram(VD_HOST_SPARES);
	p = bytes_at(3, VD_WRITE);
	p[0] = 7;
	assert_int_equal(vd_host_object_move(shadow.object, 0, PAGES * PAGE, true), 0);
	assert_ptr_not_equal(bytes_at(3, VD_READ), p);
	assert_int_equal(bytes_at(3, VD_READ)[0], 7);
	assert_int_equal(p[0], 0); /* the old frame reads as zero */
	/* frames that cannot be cleaned would be lost: with one less, all at once do not go */
	shadow.object->spare_used[0] |= 1;
	assert_int_equal(vd_host_object_move(shadow.object, 0, PAGES * PAGE, true), -ENOMEM);
	assert_int_equal(bytes_at(3, VD_READ)[0], 7);
	assert_int_equal(vd_host_object_move(shadow.object, 0, (PAGES - 1) * PAGE, true), 0);
	assert_int_equal(bytes_at(3, VD_READ)[0], 7);
	drop_ram();
}

/* Not only mirrors obey: the mapping itself refuses what a stale one might try. */
static void protection_reaches_the_mapping(void **state)
{
	uint8_t *p;
	int pipes[2];

	(void)state;
	make_ram(VD_HOST_SPARES);
	assert_int_equal(pipe(pipes), 0);
	p = bytes_at(2, VD_WRITE);
	p[0] = 1;
	assert_int_equal(vd_host_object_protect(shadow.object, 2 * PAGE, PAGE, false, true), 0);
	/* the kernel's own store tells without a signal */
	assert_int_equal(write(pipes[1], "xyz", 3), 3);
	assert_int_equal(read(pipes[0], p, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(vd_host_object_move(shadow.object, 2 * PAGE, PAGE, true), 0);
	assert_int_equal(read(pipes[0], bytes_at(2, VD_READ), 1), -1);
	assert_int_equal(read(pipes[0], p, 1), 1); /* the old frame is free again */
	p[0] = 0;
	assert_int_equal(vd_host_object_protect(shadow.object, 2 * PAGE, PAGE, true, true), 0);
	assert_int_equal(read(pipes[0], bytes_at(2, VD_WRITE), 1), 1);
	close(pipes[0]);
	close(pipes[1]);
	drop_ram();
}

static void moving_holes_makes_no_memory(void **state)
{
	uint64_t bytes;

	(void)state;
	make_ram(VD_HOST_SPARES);
	bytes_at(5, VD_WRITE)[9] = 1;
	assert_int_equal(vd_host_object_move(shadow.object, 0, PAGES * PAGE, true), 0);
	assert_int_equal(vd_host_object_resident(shadow.object, 0, PAGES * PAGE, &bytes), 0);
	assert_int_equal(bytes, PAGE);
	assert_int_equal(bytes_at(5, VD_READ)[9], 1);
	drop_ram();
}

static void discard_unused_keeps_what_is_there(void **state)
{
	struct shadow *s = &shadow;
	uint64_t bytes;

	(void)state;
	make_ram(VD_HOST_SPARES);
	bytes_at(5, VD_WRITE)[9] = 1;
	bytes_at(7, VD_WRITE)[9] = 2;
	assert_int_equal(vd_host_object_move(s->object, 7 * PAGE, PAGE, true), 0);
	s->listener.ops = &shadow_ops;
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &s->listener), 0);
	assert_int_equal(vd_host_object_discard_unused(s->object, 0, PAGES * PAGE, true), 0);
	assert_int_equal(s->starts, 1);
	assert_int_equal(s->ends, 1);
	assert_int_equal(bytes_at(5, VD_READ)[9], 1);
	assert_int_equal(bytes_at(7, VD_READ)[9], 2);
	assert_int_equal(vd_host_object_resident(s->object, 0, PAGES * PAGE, &bytes), 0);
	assert_int_equal(bytes, 2 * PAGE);
	s->refuse = true;
	assert_int_equal(vd_host_object_discard_unused(s->object, 0, PAGE, false), -EAGAIN);
	assert_int_equal(vd_host_object_discard_unused(s->object, 1, PAGE, true), -EINVAL);
	vd_notifier_unregister(vd_host_notifier(host), &s->listener);
	drop_ram();
}

/* ---- under readers --------------------------------------------------- */

static _Atomic bool stop;
static _Atomic long reads, waits;

/* Stands for every listener whose mirrors are read in read sections. */
static int wait_for_readers(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	test.env.synchronize(&test.env);
	return 0;
}

static void *read_pages(void *context)
{
	uint64_t seed = (uint64_t)(uintptr_t)context;
	struct vd_notifier *notifier = vd_host_notifier(host);

	while (!atomic_load(&stop)) {
		uint64_t page = test_random(&seed) % PAGES, seq, word = page + 1;
		uint8_t *p;
		bool retry;

		test.env.read_enter(&test.env);
		seq = vd_notifier_begin(notifier);
		p = bytes_at(page, VD_READ);
		retry = vd_notifier_retry(notifier, seq, page * PAGE, PAGE);
		if (!retry)
			word = vd_guest_load64(p + 8 * (test_random(&seed) % 512));
		test.env.read_leave(&test.env);
		atomic_fetch_add(retry ? &waits : &reads, 1);
		if (retry)
			vd_notifier_wait(notifier, page * PAGE, PAGE);
		if (word != page + 1)
			abort(); /* cmocka's assertions belong to its own thread */
	}
	return NULL;
}

static void readers_never_see_an_old_frame(void **state)
{
	static const struct vd_listener_ops ops = {.invalidate_start = wait_for_readers};
	struct vd_listener listener = {.ops = &ops};
	pthread_t threads[2];

	(void)state;
	make_ram(VD_HOST_SPARES);
	for (uint64_t page = 0; page < PAGES; page++)
		for (int i = 0; i < 512; i++)
			vd_guest_store64(bytes_at(page, VD_WRITE) + 8 * i, page + 1);
	assert_int_equal(vd_notifier_register(vd_host_notifier(host), &listener), 0);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, read_pages, (void *)i);
	test_start(21);
	for (int i = 0; i < 600 || atomic_load(&reads) < 5000; i++) {
		uint64_t page = test_random(test_state()) % PAGES;
		uint64_t count = 1 + test_random(test_state()) % (PAGES - page);

		assert_int_equal(vd_host_object_move(shadow.object, page * PAGE, count * PAGE,
						     true), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	vd_notifier_unregister(vd_host_notifier(host), &listener);
	drop_ram();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_histories_with_spares, test_seed_print),
		cmocka_unit_test_teardown(random_histories_without_spares, test_seed_print),
		cmocka_unit_test_teardown(random_histories_of_private_memory, test_seed_print),
		cmocka_unit_test(bad_ranges_are_refused),
		cmocka_unit_test(moves_stop_when_frames_run_out),
		cmocka_unit_test(protection_reaches_the_mapping),
		cmocka_unit_test(moving_holes_makes_no_memory),
		cmocka_unit_test(discard_unused_keeps_what_is_there),
		cmocka_unit_test_teardown(readers_never_see_an_old_frame, test_seed_print),
	};

	zeroes = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
