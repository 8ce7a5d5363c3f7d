/* SPDX-License-Identifier: BSD-2-Clause */
/* Snapshots of machines that run, and machines that go on from them. */
#include "snapshot_rig.h"

#include <sys/mman.h>

static void assert_one_moment(const char *path)
{
	uint64_t near = file_read64(path, RIG_DATA), far = file_read64(path, FAR);

	if (near - far > 1)
		fail_msg("the words are %lld steps apart", (long long)(near - far));
}

/* Two words far apart, of which the file holds the same step, whenever each was copied. */
static void memory_is_as_of_one_moment(void **state)
{
	static void (*const kernels[])(struct rig_file *) = {lockstep_kernel, two_harts_kernel};
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t before = 0;

		machine_create(&m, kernels[i], i + 1, NULL);
		machine_start(&m);
		for (unsigned round = 0; round < 4; round++) {
			machine_wait(&m, FAR, before + 100);
			before = rig_read64(m.vm, FAR);
			machine_snapshot(&m, place.path);
			assert_one_moment(place.path);
			assert_true(file_read64(place.path, FAR) >= before);
		}
		machine_close(&m);
	}
	place_close(&place);
}

#define SWEPT 1024u

/* The count into a word of each of 1024 pages from x8 on, page after page. */
static void sweeping_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, LUI(20, SWEPT << 12), ADD(20, 20, 8), LUI(21, 0x1000),
			  ADDI(9, 9, 1), ADDI(5, 8, 0), SD(9, 5, 0), ADD(5, 5, 21),
			  BNE(5, 20, -8), JAL(0, -20));
}

/* Whoever has claimed pages takes its time: stores that do not wait for it get far ahead. */
static int dawdle(const struct vd_env *env, const char *site)
{
	uint64_t until = env->clock_ns(env) + 50000;

	while (!strcmp(site, "snapshot.claim") && env->clock_ns(env) < until)
		;
	return 0;
}

/* The copying thread meets the writer again and again: no page may be a step ahead. */
static void no_store_slips_in_while_a_page_is_copied(void **state)
{
	static uint8_t pages[SWEPT << 12];
	struct vd_env env = *vd_env_hosted();
	struct machine m;
	struct place place;

	(void)state;
	env.inject = dawdle;
	place_open(&place);
	machine_create(&m, sweeping_kernel, 1, &env);
	machine_start(&m);
	for (unsigned round = 0; round < 5; round++) {
		uint64_t first, last;
		int fd;

		machine_wait(&m, RIG_DATA, round * 10);
		machine_snapshot(&m, place.path);
		fd = open(place.path, O_RDONLY);
		assert_int_equal(pread(fd, pages, sizeof(pages),
				       4096 + RIG_DATA - VD_BOARD_RAM), sizeof(pages));
		close(fd);
		memcpy(&first, pages, 8);
		last = first;
		for (unsigned i = 0; i < SWEPT; i++) {
			uint64_t value;

			memcpy(&value, pages + ((size_t)i << 12), 8);
			if (value > last || first - value > 1)
				fail_msg("page %u: %llu after %llu, first %llu", i,
					 (unsigned long long)value, (unsigned long long)last,
					 (unsigned long long)first);
			last = value;
		}
	}
	machine_close(&m);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* they know the environment */
	place_close(&place);
}

#define PATTERN (RIG_DATA + 4 * RIG_MIB)

/* Between the moment and the copy: other frames for all, and a part of it goes. */
static int change_memory(void *context, struct vd_error *error)
{
	struct vd_host_object *ram = vd_vm_ram(context);
	uint64_t offset = PATTERN - VD_BOARD_RAM;

	(void)error;
	assert_int_equal(vd_host_object_discard(ram, offset, RIG_MIB / 2, false), -EAGAIN);
	assert_int_equal(vd_host_object_discard(ram, offset, RIG_MIB / 2, true), 0);
	assert_int_equal(vd_host_object_discard(ram, offset, RIG_MIB / 2, false), 0);
	return vd_host_object_move(ram, RIG_DATA - VD_BOARD_RAM, 8 * RIG_MIB, true);
}

static void changes_of_memory_wait_for_the_copy(void **state)
{
	static const struct vd_vm_snapshot_ops ops = {.images = change_memory};
	struct vd_vm_snapshot_result result;
	struct vd_error error = {.text = ""};
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	machine_create(&m, lockstep_kernel, 1, NULL);
	machine_start(&m);
	for (unsigned round = 0; round < 4; round++) {
		for (uint64_t at = 0; at < RIG_MIB; at += 4096)
			rig_write64(m.vm, PATTERN + at, at + round + 1);
		if (vd_vm_snapshot(m.vm, place.path, &ops, m.vm, &result, &error))
			fail_msg("%s", error.text);
		assert_one_moment(place.path);
		for (uint64_t at = 0; at < RIG_MIB; at += 4096)
			assert_int_equal(file_read64(place.path, PATTERN + at), at + round + 1);
		assert_int_equal(rig_read64(m.vm, PATTERN), 0);
		assert_int_equal(rig_read64(m.vm, PATTERN + RIG_MIB - 4096),
				 RIG_MIB - 4096 + round + 1);
	}
	machine_close(&m);
	place_close(&place);
}

/* x9 counts to a limit and x21 gathers; then both are stored and the machine ends. */
static void gathering_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, LUI(22, 3 << 20), ADDI(9, 9, 1), SD(9, 8, 0), SLLI(5, 21, 1),
			  ADD(21, 21, 5), ADD(21, 21, 9), SD(21, 8, 8), BNE(9, 22, -24),
			  SD(21, 8, 16), POWER_OFF);
}

static void a_restored_machine_goes_on(void **state)
{
	struct vd_error error;
	struct machine m;
	struct place place;
	uint64_t result;

	(void)state;
	place_open(&place);
	machine_create(&m, gathering_kernel, 1, NULL);
	machine_start(&m);
	machine_wait(&m, RIG_DATA, 1000);
	machine_snapshot(&m, place.path);
	assert_int_equal(machine_finish(&m), VD_VM_EXIT_POWER_OFF);
	result = rig_read64(m.vm, RIG_DATA + 16);
	machine_close(&m);
	assert_int_equal(file_read64(place.path, RIG_DATA + 16), 0);
	for (unsigned i = 0; i < 2; i++) {
		if (machine_restore(&m, place.path, NULL, &error))
			fail_msg("%s", error.text);
		machine_start(&m);
		assert_int_equal(machine_finish(&m), VD_VM_EXIT_POWER_OFF);
		assert_int_equal(rig_read64(m.vm, RIG_DATA + 16), result);
		machine_close(&m);
	}
	place_close(&place);
}

/* The guest stores to both words before any page is copied. */
static int wait_for_stores(void *context, struct vd_error *error)
{
	struct machine *m = context;

	(void)error;
	machine_wait(m, FAR, rig_read64(m->vm, FAR) + 10);
	return 0;
}

/* What the guest stores to meanwhile is mapped page by page; afterwards it has its blocks again. */
static void blocks_come_back(void **state)
{
	static const struct vd_vm_snapshot_ops ops = {.images = wait_for_stores};
	struct vd_vm_snapshot_result result;
	struct vd_error error = {.text = ""};
	struct vd_vm_stats before, after;
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	machine_create(&m, lockstep_kernel, 2, NULL);
	machine_start(&m);
	machine_wait(&m, FAR, 1000);
	vd_vm_stats(m.vm, &before);
	assert_true(before.mmu.mapped_2m >= 2);
	if (vd_vm_snapshot(m.vm, place.path, &ops, &m, &result, &error))
		fail_msg("%s", error.text);
	vd_vm_stats(m.vm, &after);
	assert_true(after.mmu.zaps > before.mmu.zaps);
	assert_true(after.mmu.mapped_2m >= before.mmu.mapped_2m);
	machine_close(&m);
	place_close(&place);
}

/* A hart that nobody started, one that sleeps; the user's pause stays a pause. */
static void harts_that_stand_are_saved_as_such(void **state)
{
	struct vd_error error;
	struct machine m, again;
	struct place place;
	uint64_t count;

	(void)state;
	place_open(&place);
	machine_create(&m, lockstep_kernel, 2, NULL);
	machine_start(&m);
	machine_wait(&m, FAR, 10);
	assert_int_equal(vd_vm_pause(m.vm), 0);
	machine_snapshot(&m, place.path);
	assert_true(vd_vm_paused(m.vm));
	count = rig_read64(m.vm, FAR);
	machine_snapshot(&m, place.path);
	assert_int_equal(file_read64(place.path, FAR), count);
	vd_vm_resume(m.vm);
	machine_wait(&m, FAR, count);
	machine_close(&m);
	assert_int_equal(machine_restore(&again, place.path, NULL, &error), 0);
	assert_int_equal(rig_read64(again.vm, FAR), count);
	machine_start(&again);
	machine_wait(&again, FAR, count + 10);
	machine_close(&again);
	place_close(&place);
}

/* The clock of the restored machine is the saved one's. */
static void clock_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, CSRR(9, 0xc01), SD(9, 8, 0), JAL(0, -8));
}

static void time_goes_on_from_the_moment(void **state)
{
	const uint64_t second = VD_BOARD_TIMEBASE;
	struct vd_error error;
	struct machine m;
	struct place place;
	uint64_t saved;

	(void)state;
	place_open(&place);
	machine_create(&m, clock_kernel, 1, NULL);
	machine_start(&m);
	machine_wait(&m, RIG_DATA, 0);
	machine_snapshot(&m, place.path);
	machine_close(&m);
	saved = file_read64(place.path, RIG_DATA);
	usleep(50000);
	assert_int_equal(machine_restore(&m, place.path, NULL, &error), 0);
	machine_start(&m);
	machine_wait(&m, RIG_DATA, saved);
	assert_in_range(rig_read64(m.vm, RIG_DATA), saved, saved + second);
	machine_close(&m);
	place_close(&place);
}

/* What was never touched takes no room, neither in the file nor, by the copying, in the host. */
static void untouched_memory_is_not_stored(void **state)
{
	struct vd_vm_snapshot_result result;
	struct machine m;
	struct place place;
	struct stat st;
	uint64_t before, after;

	(void)state;
	place_open(&place);
	machine_create(&m, lockstep_kernel, 1, NULL);
	vd_host_object_resident(vd_vm_ram(m.vm), 0, RIG_MEMORY, &before);
	result = machine_snapshot(&m, place.path);
	vd_host_object_resident(vd_vm_ram(m.vm), 0, RIG_MEMORY, &after);
	assert_int_equal(before, after);
	assert_true(result.memory_bytes > 0 && result.memory_bytes <= before);
	assert_int_equal(stat(place.path, &st), 0);
	assert_true(st.st_size > (off_t)RIG_MEMORY);
	assert_true((uint64_t)st.st_blocks * 512 < RIG_MIB);
	assert_int_equal(st.st_mode & 0777, 0600);
	machine_close(&m);
	place_close(&place);
}

/* ---- failures ---- */

static void assert_lives(struct machine *m)
{
	uint64_t count = rig_read64(m->vm, FAR);

	machine_wait(m, FAR, count + 10);
	assert_true(rig_read64(m->vm, RIG_DATA) - rig_read64(m->vm, FAR) <= 1 ||
		    rig_read64(m->vm, RIG_DATA) > count);
}

static void failures_leave_guest_and_file_alone(void **state)
{
	struct vd_vm_snapshot_result result;
	struct vd_error error = {.text = ""};
	struct machine m;
	struct test_env test;
	struct place place;
	unsigned steps = 0;
	bool failed;
	int rc;

	(void)state;
	place_open(&place);
	test_env_init(&test);
	machine_create(&m, lockstep_kernel, 1, &test.env);
	machine_start(&m);
	machine_wait(&m, FAR, 10);
	do {
		steps++;
		test_env_fail(&test, steps, steps % 2 ? -ENOMEM : -ENOSPC);
		rc = vd_vm_snapshot(m.vm, place.path, NULL, NULL, &result, &error);
		failed = test_env_failed(&test);
		if (rc) {
			assert_true(failed && *error.text);
			assert_int_not_equal(access(place.path, F_OK), 0);
			assert_int_not_equal(access(place.partial, F_OK), 0);
		} else if (failed) {
			/* It was the hart's, which takes a table for what it stores to. */
			unlink(place.path);
		}
		error.text[0] = '\0';
		assert_lives(&m);
	} while (failed && steps < 500);
	test_env_fail(&test, 0, 0);
	assert_true(steps > 8 && !rc);
	assert_one_moment(place.path);
	machine_close(&m);
	vd_env_hosted_drain();
	vd_env_hosted_drain(); /* what the first ones deferred */
	assert_int_equal(test.blocks, 0);
	place_close(&place);
}

static void places_that_cannot_be(void **state)
{
	struct vd_vm_snapshot_result result;
	struct vd_error error;
	struct machine m;

	(void)state;
	machine_create(&m, lockstep_kernel, 1, NULL);
	assert_int_equal(vd_vm_snapshot(m.vm, "/nowhere/file", NULL, NULL, &result, &error),
			 -ENOENT);
	assert_non_null(strstr(error.text, "/nowhere/file"));
	assert_int_equal(vd_vm_snapshot(m.vm, "/dev/null", NULL, NULL, &result, &error), -EINVAL);
	assert_int_equal(vd_vm_snapshot(m.vm, "/tmp", NULL, NULL, &result, &error), -EINVAL);
	machine_close(&m);
}

struct program {
	struct machine *m;
	const char *path;
	unsigned moments, images, progress;
	int give_up_at;
	bool nested;
};

static int program_moment(void *context, struct vd_stream *stream, struct vd_error *error)
{
	struct program *p = context;

	p->moments++;
	vd_stream_put(stream, "hello", 5);
	if (p->nested) {
		struct vd_vm_snapshot_result result;

		assert_int_equal(vd_vm_snapshot(p->m->vm, p->path, NULL, NULL, &result, error),
				 -EBUSY);
	}
	return p->give_up_at == 1 ? vd_error_set(error, -EPERM, "not now") : 0;
}

/* The harts run again by now. */
static int program_images(void *context, struct vd_error *error)
{
	struct program *p = context;

	p->images++;
	machine_wait(p->m, FAR, rig_read64(p->m->vm, FAR) + 10);
	return p->give_up_at == 2 ? vd_error_set(error, -ENOSPC, "no room") : 0;
}

static int program_progress(void *context, uint64_t done, uint64_t total)
{
	struct program *p = context;

	p->progress++;
	assert_true(done <= total && total == RIG_MEMORY);
	return p->give_up_at == 3 ? -ECANCELED : 0;
}

static void the_program_has_its_say(void **state)
{
	static const struct vd_vm_snapshot_ops ops = {program_moment, program_images,
						      program_progress};
	static const int codes[] = {0, -EPERM, -ENOSPC, -ECANCELED};
	struct vd_vm_snapshot_result result;
	const struct vd_snapshot_info *info;
	struct vd_snapshot *snapshot;
	struct vd_error error;
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	machine_create(&m, lockstep_kernel, 1, NULL);
	machine_start(&m);
	for (int at = 3; at >= 0; at--) {
		struct program p = {.m = &m, .path = place.path, .give_up_at = at, .nested = !at};

		assert_int_equal(vd_vm_snapshot(m.vm, place.path, &ops, &p, &result, &error),
				 codes[at]);
		assert_int_equal(p.moments, 1);
		assert_int_equal(p.images, at != 1);
		assert_int_equal(!access(place.path, F_OK), !at);
		assert_lives(&m);
	}
	assert_int_equal(vd_snapshot_open(vd_env_hosted(), place.path, &snapshot, &error), 0);
	info = vd_snapshot_info(snapshot);
	assert_int_equal(info->program_length, 5);
	assert_memory_equal(info->program, "hello", 5);
	vd_snapshot_close(snapshot);
	vd_vm_stop(m.vm);
	machine_finish(&m);
	assert_int_equal(vd_vm_snapshot(m.vm, place.path, NULL, NULL, &result, &error),
			 -ESHUTDOWN);
	machine_close(&m);
	place_close(&place);
}

/* ---- memory that other code changes meanwhile ---- */

/* A clock that runs fast from a moment on: a second whenever it is looked at. */
static _Atomic uint64_t clock_jumps, clock_ahead;

static uint64_t jumping_clock(const struct vd_env *env)
{
	uint64_t jump = atomic_load(&clock_jumps);

	return vd_env_hosted()->clock_ns(env) + atomic_fetch_add(&clock_ahead, jump) + jump;
}

static int move_all_slowly(void *context, uint64_t done, uint64_t total)
{
	struct machine *m = context;

	(void)done, (void)total;
	if (!atomic_load(&clock_ahead)) {
		atomic_store(&clock_jumps, 1000000000);
		assert_int_equal(vd_host_object_move(vd_vm_ram(m->vm), 0, RIG_MEMORY, true), 0);
		atomic_store(&clock_jumps, 0);
	}
	return 0;
}

static void a_change_waits_only_so_long(void **state)
{
	const struct vd_vm_snapshot_ops ops = {.progress = move_all_slowly};
	struct vd_env env = *vd_env_hosted();
	struct vd_vm_snapshot_result result;
	struct vd_error error;
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	env.clock_ns = jumping_clock;
	machine_create(&m, lockstep_kernel, 1, &env);
	for (uint64_t at = RIG_MIB; at < RIG_MEMORY; at += RIG_MIB)
		rig_write64(m.vm, VD_BOARD_RAM + at, at);
	assert_int_equal(vd_vm_snapshot(m.vm, place.path, &ops, &m, &result, &error), -ETIMEDOUT);
	assert_non_null(strstr(error.text, "the guest goes on"));
	machine_close(&m);
	vd_env_hosted_drain();
	place_close(&place);
}

static int unmap_a_page(void *context, uint64_t done, uint64_t total)
{
	char **page = context;

	(void)done, (void)total;
	if (*page)
		assert_int_equal(munmap(*page, 4096), 0);
	*page = NULL;
	return 0;
}

static void memory_that_is_unmapped_ends_the_snapshot_alone(void **state)
{
	const struct vd_vm_snapshot_ops ops = {.progress = unmap_a_page};
	struct vd_vm_config config;
	struct vd_vm_snapshot_result result;
	struct vd_host_page page;
	struct vd_error error;
	struct rig_file kernel;
	struct place place;
	struct vd_vm *vm;
	char *address;

	(void)state;
	if (vd_host_guard_install(&error))
		skip();
	place_open(&place);
	lockstep_kernel(&kernel);
	rig_config(&config, &kernel);
	config.memory_kind = VD_VM_MEMORY_PRIVATE;
	assert_int_equal(vd_vm_create(&config, &vm, &error), 0);
	rig_file_remove(&kernel);
	rig_write64(vm, VD_BOARD_RAM + 48 * RIG_MIB, 1);
	assert_int_equal(vd_host_object_lookup(vd_vm_ram(vm), 48 * RIG_MIB, VD_READ, &page), 0);
	address = vd_host_pointer(vd_host_window_base(vd_vm_host(vm)), page.pfn, 12);
	assert_int_equal(vd_vm_snapshot(vm, place.path, &ops, &address, &result, &error), -EFAULT);
	assert_non_null(strstr(error.text, "unmapped by other code"));
	vd_vm_destroy(vm);
	vd_host_guard_uninstall();
	place_close(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_as_of_one_moment),
		cmocka_unit_test(no_store_slips_in_while_a_page_is_copied),
		cmocka_unit_test(changes_of_memory_wait_for_the_copy),
		cmocka_unit_test(a_restored_machine_goes_on),
		cmocka_unit_test(blocks_come_back),
		cmocka_unit_test(harts_that_stand_are_saved_as_such),
		cmocka_unit_test(time_goes_on_from_the_moment),
		cmocka_unit_test(untouched_memory_is_not_stored),
		cmocka_unit_test(failures_leave_guest_and_file_alone),
		cmocka_unit_test(places_that_cannot_be),
		cmocka_unit_test(the_program_has_its_say),
		cmocka_unit_test(a_change_waits_only_so_long),
		cmocka_unit_test(memory_that_is_unmapped_ends_the_snapshot_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
