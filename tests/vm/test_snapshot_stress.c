/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everybody who can store does, while snapshots are taken one after the other: harts by their
 * faults, threads by checked copies and by DMA, which no pause stops. Each writes one number after
 * the other into a row of pages: a file must hold a row as it was at one time.
 */
#include "snapshot_rig.h"

#define ROW 8u /* pages, that become watched all at once */
#define ROWS 4u
#define ROW_AT(row) (RIG_DATA + (4 + (row)) * RIG_MIB)
#define ROUNDS 12u

struct writer {
	struct machine *m;
	unsigned row;
	_Atomic bool *stop;
	_Atomic uint64_t written;
};

static void write_one(struct writer *w, uint64_t gpa, uint64_t value)
{
	if (w->row % 2)
		assert_int_equal(vd_dma_write(vd_vm_dma_space(w->m->vm), (vd_iova){gpa}, &value, 8),
				 0);
	else
		rig_write64(w->m->vm, gpa, value);
}

static void *write_row(void *context)
{
	struct writer *w = context;

	for (uint64_t value = 1; !atomic_load(w->stop); value++) {
		for (unsigned page = 0; page < ROW; page++)
			write_one(w, ROW_AT(w->row) + page * 4096, value);
		atomic_store(&w->written, value);
	}
	return NULL;
}

static void check_row(const char *path, struct writer *w, uint64_t before)
{
	uint64_t first = file_read64(path, ROW_AT(w->row)), last = first;

	assert_true(first >= before);
	for (unsigned page = 1; page < ROW; page++) {
		uint64_t value = file_read64(path, ROW_AT(w->row) + page * 4096);

		if (value > last || first - value > 1)
			fail_msg("row %u, page %u: %llu after %llu", w->row, page,
				 (unsigned long long)value, (unsigned long long)last);
		last = value;
	}
}

static void rows_are_as_of_one_moment(void **state)
{
	struct writer writers[ROWS];
	pthread_t threads[ROWS];
	uint64_t before[ROWS];
	_Atomic bool stop = false;
	struct machine m;
	struct place place;

	(void)state;
	place_open(&place);
	machine_create(&m, two_harts_kernel, 2, NULL);
	machine_start(&m);
	for (unsigned row = 0; row < ROWS; row++) {
		writers[row] = (struct writer){.m = &m, .row = row, .stop = &stop};
		assert_int_equal(pthread_create(&threads[row], NULL, write_row, &writers[row]), 0);
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned row = 0; row < ROWS; row++)
			before[row] = atomic_load(&writers[row].written);
		machine_snapshot(&m, place.path);
		for (unsigned row = 0; row < ROWS; row++)
			check_row(place.path, &writers[row], before[row]);
		assert_true(file_read64(place.path, RIG_DATA) - file_read64(place.path, FAR) <= 1);
	}
	atomic_store(&stop, true);
	for (unsigned row = 0; row < ROWS; row++)
		assert_int_equal(pthread_join(threads[row], NULL), 0);
	machine_close(&m);
	place_close(&place);
}

/* Video memory, registers and a disk's names, in a machine with both. */
static char image[64];

static void plug(struct vd_vm *vm)
{
	struct vd_display_config display = {.env = vd_env_hosted(), .host = vd_vm_host(vm),
					    .memory_size = 4 * RIG_MIB, .width = 640,
					    .height = 480};
	struct vd_nvme_config nvme = {.env = vd_env_hosted(), .host = vd_vm_host(vm),
				      .space = vd_vm_dma_space(vm), .image = image,
				      .read_only = true};
	struct vd_error error = {.text = ""};
	struct vd_device *device;

	if (vd_nvme_create(&nvme, &device, &error) || vd_vm_plug(vm, device, &error))
		fail_msg("%s", error.text);
	vd_device_put(device);
	if (vd_display_create(&display, &device, &error) || vd_vm_plug(vm, device, &error))
		fail_msg("%s", error.text);
	vd_device_put(device);
}

static void plug_nothing(struct vd_vm *vm)
{
	(void)vm;
}

static void devices_come_with_the_machine(void **state)
{
	const vd_region_offset at = {0x123450};
	struct vd_error error;
	struct rig_file file;
	struct machine m;
	struct place place;
	uint64_t value = 0x1122334455667788;

	(void)state;
	rig_file_create(&file, &value, sizeof(value));
	assert_int_equal(truncate(file.path, 4096), 0);
	snprintf(image, sizeof(image), "%s", file.path);
	place_open(&place);
	machine_create(&m, lockstep_kernel, 1, NULL);
	plug(m.vm);
	assert_int_equal(vd_device_write(vd_vm_device(m.vm, 1), VD_REGION_BAR0, at, &value, 8), 0);
	machine_start(&m);
	machine_wait(&m, FAR, 100);
	machine_snapshot(&m, place.path);
	machine_close(&m);
	assert_int_equal(machine_restore(&m, place.path, plug_nothing, &error), -EINVAL);
	assert_int_equal(machine_restore(&m, place.path, plug, &error), 0);
	value = 0;
	assert_int_equal(vd_device_read(vd_vm_device(m.vm, 1), VD_REGION_BAR0, at, &value, 8), 0);
	assert_int_equal(value, 0x1122334455667788);
	machine_close(&m);
	/* Another disk than the one that was saved. */
	assert_int_equal(truncate(file.path, 8192), 0);
	assert_int_equal(machine_restore(&m, place.path, plug, &error), -EINVAL);
	assert_non_null(strstr(error.text, "nvme"));
	place_close(&place);
	rig_file_remove(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_as_of_one_moment),
		cmocka_unit_test(devices_come_with_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
