/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server that clients come to and leave without a word, again and again: what it holds stays
 * flat. With VIADUCT_NIGHTLY=1 all of it: 1000 clients, a million maps, 100000 interrupts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "user/rig.h"

static unsigned times(unsigned nightly)
{
	const char *set = getenv("VIADUCT_NIGHTLY");

	return set && *set == '1' ? nightly : nightly / 100;
}

static long resident_pages(void)
{
	long size = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
	fclose(file);
	return resident;
}

/* Everything that is later held against it has been used once by then. */
struct held {
	int descriptors;
	long blocks, pages;
};

static struct held held_now(struct rig *rig)
{
	struct held held;

	vd_env_hosted_drain();
	vd_env_hosted_drain();
	held.descriptors = count_descriptors();
	held.blocks = atomic_load(&rig->test.blocks);
	held.pages = resident_pages();
	return held;
}

static void assert_flat(struct rig *rig, const struct held *before)
{
	struct held now = held_now(rig);

	if (getenv("VIADUCT_NIGHTLY"))
		print_message("%d descriptors (%d at first), %ld blocks (%ld), %ld pages (%ld)\n",
			      now.descriptors, before->descriptors, now.blocks, before->blocks,
			      now.pages, before->pages);
	assert_int_equal(now.descriptors, before->descriptors);
	assert_int_equal(now.blocks, before->blocks);
	/* Sanitizers keep what was freed for a while. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	if (now.pages > before->pages + 1024)
		fail_msg("%ld pages, %ld before", now.pages, before->pages);
#endif
}

/* Waits until the server has seen the last client go. */
static void wait_for_none(struct rig *rig)
{
	while (rig_stats(rig).clients)
		usleep(100);
}

/*
 * Introduces itself, has memory mapped, with and without a descriptor, interrupts set, something
 * under way, and is gone.
 */
static void come_and_go(struct rig *rig, int memory, unsigned round)
{
	struct wire w;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t command = PROBE_READ;

	wire_introduce(&w, rig->path);
	assert_int_equal(wire_map(&w, 0x100000, 16 * PAGE, memory, 0), 0);
	assert_int_equal(wire_map(&w, 0x200000, 16 * PAGE, -1, 0), 0);
	assert_int_equal(wire_set_irqs(&w, VFIO_IRQ_SET_DATA_EVENTFD |
				       VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_MSIX, 0, 1, &fd, 1), 0);
	assert_int_equal(probe_command(&w, PROBE_PIN, 0x100000, PAGE), 0);
	probe_set(&w, PROBE_ADDRESS, 0x200000);
	probe_set(&w, PROBE_LENGTH, PAGE);
	/* Every other one goes while the server waits for an answer to its DMA message. */
	if (round % 2)
		(void)wire_post(&w, VD_REGION_BAR0, 8 * PROBE_COMMAND, &command, 8);
	wire_close(&w);
	close(fd);
	wait_for_none(rig);
}

static void test_clients_that_die(void **state)
{
	int memory = rig_memory(16 * PAGE, true, 1);
	struct held before;
	struct rig rig;

	(void)state;
	rig_serve(&rig);
	for (unsigned i = 0; i < 4; i++)
		come_and_go(&rig, memory, i);
	before = held_now(&rig);
	for (unsigned i = 0; i < times(1000) * 2; i++)
		come_and_go(&rig, memory, i);
	assert_flat(&rig, &before);
	close(memory);
	rig.descriptors--;
	rig_close(&rig);
}

static void map_and_unmap(struct wire *w, int memory, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = 0x100000 + i % 64 * 0x10000;

		assert_int_equal(wire_map(w, at, PAGE, i % 2 ? memory : -1, 0), 0);
		if (i % 16 == 3)
			assert_int_equal(wire_map(w, at, PAGE, -1, 0), -EEXIST);
		assert_int_equal(wire_unmap(w, at, PAGE), 0);
	}
}

static void test_maps(void **state)
{
	int memory = rig_memory(16 * PAGE, true, 1);
	struct held before;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	map_and_unmap(&w, memory, 1000);
	before = held_now(&rig);
	map_and_unmap(&w, memory, times(1000000));
	assert_flat(&rig, &before);
	wire_close(&w);
	close(memory);
	rig.descriptors--;
	rig_close(&rig);
}

static void test_interrupts(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct held before;
	struct rig rig;
	struct wire w;
	uint64_t count = 0, fired = 0;
	unsigned all = times(100000);

	(void)state;
	rig_serve(&rig);
	wire_introduce(&w, rig.path);
	assert_int_equal(wire_set_irqs(&w, VFIO_IRQ_SET_DATA_EVENTFD |
				       VFIO_IRQ_SET_ACTION_TRIGGER, VD_IRQ_MSIX, 0, 1, &fd, 1), 0);
	before = held_now(&rig);
	for (unsigned i = 0; i < all; i++) {
		assert_int_equal(probe_command(&w, PROBE_RAISE, 0, 0), 0);
		/* The reply comes after it. */
		assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
		fired += count;
	}
	assert_int_equal(fired, all);
	assert_flat(&rig, &before);
	wire_close(&w);
	close(fd);
	rig.descriptors--;
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clients_that_die),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_interrupts),
	};

	return cmocka_run_group_tests_name("soak", tests, NULL, NULL);
}
