/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All three kinds of mirror on one chain (B5): one with page tables, one with a TLB only, and a
 * remote one that has to sleep until its peer has answered. And what an invalidation does that may
 * not block.
 */
#include <pthread.h>
#include <sys/socket.h>

#include "fixture.h"

/* Only a TLB: it holds what it walked for, and drops all of it at any event. */
struct tlb {
	struct vd_listener listener;
	vd_pfn pfn;
	bool holds;
	unsigned starts, ends;
};

/* A mirror in another process, as the peer of a socket: it must hear of a change and answer. */
struct remote {
	struct vd_listener listener;
	int ours, theirs;
	pthread_t peer;
	unsigned starts, ends, refused;
	_Atomic unsigned dropped; /* by the peer */
	_Atomic bool holds;
};

static struct fixture f;
static struct tlb tlb;
static struct remote remote;

static int tlb_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	tlb.starts++;
	tlb.holds = false;
	return 0;
}

static void tlb_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	tlb.ends++;
}

static const struct vd_listener_ops tlb_ops = {
	.invalidate_start = tlb_start, .invalidate_end = tlb_end,
};

static int remote_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	uint64_t message[2] = {event->start, event->length};
	char answer;

	(void)listener;
	if (!event->blockable) {
		remote.refused++;
		return -EAGAIN;
	}
	remote.starts++;
	if (send(remote.ours, message, sizeof(message), 0) != sizeof(message) ||
	    recv(remote.ours, &answer, 1, 0) != 1)
		return -EIO;
	return 0;
}

static void remote_end(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	(void)event;
	remote.ends++;
}

static const struct vd_listener_ops remote_ops = {
	.invalidate_start = remote_start, .invalidate_end = remote_end,
};

static void *peer_thread(void *context)
{
	uint64_t message[2];

	(void)context;
	while (recv(remote.theirs, message, sizeof(message), MSG_WAITALL) == sizeof(message)) {
		atomic_store(&remote.holds, false);
		atomic_fetch_add(&remote.dropped, 1);
		assert_int_equal(send(remote.theirs, "", 1, 0), 1);
	}
	return NULL;
}

static int set_up(void **state)
{
	int pair[2];

	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	fixture_slot(&f, 0, MIB, f.spares, 0, false);
	fixture_slot(&f, GIB, MIB, f.spares, 0, false); /* the same memory */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	tlb = (struct tlb){.listener.ops = &tlb_ops};
	remote = (struct remote){.listener.ops = &remote_ops, .ours = pair[0], .theirs = pair[1]};
	assert_int_equal(pthread_create(&remote.peer, NULL, peer_thread, NULL), 0);
	/* after the page tables, in this order */
	assert_int_equal(vd_notifier_register(vd_mem_notifier(f.mem), &tlb.listener), 0);
	return vd_notifier_register(vd_mem_notifier(f.mem), &remote.listener);
}

static int tear_down(void **state)
{
	(void)state;
	vd_notifier_unregister(vd_mem_notifier(f.mem), &remote.listener);
	vd_notifier_unregister(vd_mem_notifier(f.mem), &tlb.listener);
	shutdown(remote.ours, SHUT_RDWR);
	pthread_join(remote.peer, NULL);
	close(remote.ours);
	close(remote.theirs);
	fixture_close(&f);
	return 0;
}

/* All three hold page 5. */
static void fill(void)
{
	struct vd_mmu_leaf leaf = touch(&f, 5 * PAGE, VD_READ | VD_WRITE);

	tlb.pfn = leaf.pfn;
	tlb.holds = true;
	atomic_store(&remote.holds, true);
}

static void each_has_let_go_before_the_change(void **state)
{
	struct vd_mmu_leaf leaf;
	vd_pfn before;

	(void)state;
	fill();
	before = pfn_now(&f, 5 * PAGE);
	assert_int_equal(vd_host_object_move(f.spares, 5 * PAGE, PAGE, true), 0);
	assert_int_not_equal(pfn_now(&f, 5 * PAGE).value, before.value);
	assert_int_equal(walk(&f, 5 * PAGE, VD_READ, &leaf), -ENOENT);
	assert_false(tlb.holds);
	assert_false(atomic_load(&remote.holds));
	assert_int_equal(tlb.starts, 2); /* two guest ranges */
	assert_int_equal(tlb.ends, 2);
	assert_int_equal(remote.starts, 2);
	assert_int_equal(remote.ends, 2);
	assert_int_equal(atomic_load(&remote.dropped), 2);
}

/* The last one would have to sleep: those before it have their end, and nothing has changed. */
static void who_must_sleep_refuses_what_may_not_block(void **state)
{
	uint64_t resident, after;
	char byte = 42;
	vd_pfn before;

	(void)state;
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){5 * PAGE}, &byte, 1), 0);
	fill();
	before = pfn_now(&f, 5 * PAGE);
	assert_int_equal(vd_host_object_resident(f.spares, 0, MIB, &resident), 0);
	assert_int_equal(vd_host_object_move(f.spares, 5 * PAGE, PAGE, false), -EAGAIN);
	assert_int_equal(vd_host_object_discard(f.spares, 5 * PAGE, PAGE, false), -EAGAIN);
	assert_int_equal(vd_host_object_protect(f.spares, 5 * PAGE, PAGE, false, false), -EAGAIN);
	assert_int_equal(remote.refused, 3);
	assert_int_equal(remote.starts, 0);
	assert_int_equal(remote.ends, 0); /* who refused has no end */
	assert_true(atomic_load(&remote.holds));
	assert_int_equal(tlb.starts, 3);
	assert_int_equal(tlb.ends, 3);
	assert_int_equal(pfn_now(&f, 5 * PAGE).value, before.value);
	assert_int_equal(vd_host_object_resident(f.spares, 0, MIB, &after), 0);
	assert_int_equal(after, resident);
	byte = 0;
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){5 * PAGE}, &byte, 1), 0);
	assert_int_equal(byte, 42);
	/* nothing is left active: a fault goes through, with the right to store */
	assert_int_equal(touch(&f, 5 * PAGE, VD_READ | VD_WRITE).pfn.value, before.value);
	assert_int_equal(touch(&f, GIB + 5 * PAGE, VD_READ | VD_WRITE).pfn.value, before.value);
	/* and the same with leave to block succeeds */
	assert_int_equal(vd_host_object_move(f.spares, 5 * PAGE, PAGE, true), 0);
	assert_int_equal(remote.starts, 2);
}

/* Without the sleeper, nothing here has to block but the guest space's wait for its copies. */
static void those_that_need_not_sleep_do_not_refuse(void **state)
{
	struct vd_invalidation event = {.start = 5 * PAGE, .length = PAGE};

	(void)state;
	fill();
	vd_notifier_unregister(vd_mem_notifier(f.mem), &remote.listener);
	assert_int_equal(vd_notifier_start(vd_mem_notifier(f.mem), &event), 0);
	vd_notifier_end(vd_mem_notifier(f.mem), &event);
	assert_int_equal(tlb.starts, 1);
	assert_int_equal(tlb.ends, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define LISTENER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		LISTENER_TEST(each_has_let_go_before_the_change),
		LISTENER_TEST(who_must_sleep_refuses_what_may_not_block),
		LISTENER_TEST(those_that_need_not_sleep_do_not_refuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
