/* SPDX-License-Identifier: BSD-2-Clause */
/* Machines that run on another thread, and snapshots of them in a directory of the test's own. */
#ifndef VD_TESTS_VM_SNAPSHOT_RIG_H
#define VD_TESTS_VM_SNAPSHOT_RIG_H

#include "rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <viaduct/device.h>

#include "../base/test_env.h"

#define FAR (RIG_DATA + 16 * RIG_MIB) /* x20 in the kernels below */

/* x9 counts up; the word at x8 and the word at x20 follow, in this order. */
static inline void lockstep_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, LUI(20, 0x1000000), ADD(20, 20, 8), ADDI(9, 9, 1), SD(9, 8, 0),
			  SD(9, 20, 0), JAL(0, -12));
}

/* The same by two harts: the first writes, the second copies, the first waits for the copy. */
static inline void two_harts_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel,
		/* 0 */ LUI(20, 0x1000000), ADD(20, 20, 8), insn_u(INSN_AUIPC, 18, 0),
		ADDI(11, 18, 120), ADDI(12, 8, 0), ADDI(10, 0, 1), LI(17, SBI_HSM),
		ADDI(16, 0, 0), ECALL,
		/* 40 */ ADDI(9, 9, 1), SD(9, 8, 0),
		/* 48 */ LD(5, 20, 0), BNE(5, 9, -4), JAL(0, -16),
		/* 128: x11 is the first hart's x8 */
		[32] = LUI(20, 0x1000000), ADD(20, 20, 11), LD(9, 11, 0), SD(9, 20, 0),
		JAL(0, -8));
}

struct machine {
	struct vd_vm *vm;
	pthread_t thread;
	bool running;
	enum vd_vm_exit exit;
};

static inline void *machine_thread(void *argument)
{
	struct machine *m = argument;

	m->exit = vd_vm_run(m->vm, NULL);
	return NULL;
}

static inline void machine_start(struct machine *m)
{
	assert_int_equal(pthread_create(&m->thread, NULL, machine_thread, m), 0);
	m->running = true;
}

static inline void machine_create(struct machine *m, void (*kernel)(struct rig_file *),
				  unsigned cpus, const struct vd_env *env)
{
	struct vd_error error = {.text = ""};
	struct vd_vm_config config;
	struct rig_file file;

	*m = (struct machine){.running = false};
	kernel(&file);
	rig_config(&config, &file);
	config.cpus = cpus;
	config.env = env ? env : vd_env_hosted();
	config.spare_frames = true;
	if (vd_vm_create(&config, &m->vm, &error))
		fail_msg("%s", error.text);
	rig_file_remove(&file);
}

/* Until the word at @gpa has become larger. */
static inline void machine_wait(struct machine *m, uint64_t gpa, uint64_t than)
{
	while (rig_read64(m->vm, gpa) <= than)
		sched_yield();
}

static inline enum vd_vm_exit machine_finish(struct machine *m)
{
	if (m->running)
		assert_int_equal(pthread_join(m->thread, NULL), 0);
	m->running = false;
	return m->exit;
}

static inline void machine_close(struct machine *m)
{
	if (m->running) {
		vd_vm_stop(m->vm);
		machine_finish(m);
	}
	vd_vm_destroy(m->vm);
}

struct place {
	char directory[32], path[64], partial[80];
};

static inline void place_open(struct place *place)
{
	/* Where fsync() need not wait for a disk. */
	snprintf(place->directory, sizeof(place->directory), "%s/viaduct-snap-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	assert_non_null(mkdtemp(place->directory));
	snprintf(place->path, sizeof(place->path), "%s/file", place->directory);
	snprintf(place->partial, sizeof(place->partial), "%s.partial", place->path);
}

static inline void place_close(struct place *place)
{
	assert_int_not_equal(access(place->partial, F_OK), 0);
	unlink(place->path);
	assert_int_equal(rmdir(place->directory), 0);
}

static inline struct vd_vm_snapshot_result machine_snapshot(struct machine *m, const char *path)
{
	struct vd_error error = {.text = ""};
	struct vd_vm_snapshot_result result;

	if (vd_vm_snapshot(m->vm, path, NULL, NULL, &result, &error))
		fail_msg("%s", error.text);
	return result;
}

/* A machine in the state of the file, not running; @plug may be NULL. */
static inline int machine_restore(struct machine *m, const char *path,
				  void (*plug)(struct vd_vm *vm), struct vd_error *error)
{
	struct vd_vm_config config = {.env = vd_env_hosted(), .restore = true, .direct_mmio = true};
	struct vd_snapshot *snapshot;
	int rc;

	*m = (struct machine){.vm = NULL};
	*error = (struct vd_error){.code = 0};
	rc = vd_snapshot_open(vd_env_hosted(), path, &snapshot, error);
	if (rc)
		return rc;
	config.memory = vd_snapshot_info(snapshot)->memory;
	config.cpus = vd_snapshot_info(snapshot)->cpus;
	config.svadu = vd_snapshot_info(snapshot)->svadu;
	rc = vd_vm_create(&config, &m->vm, error);
	assert_int_equal(rc, 0);
	if (plug)
		plug(m->vm);
	rc = vd_vm_restore(m->vm, snapshot, error);
	vd_snapshot_close(snapshot);
	if (rc) {
		vd_vm_destroy(m->vm);
		m->vm = NULL;
	}
	return rc;
}

/* A word of the memory in the file. */
static inline uint64_t file_read64(const char *path, uint64_t gpa)
{
	int fd = open(path, O_RDONLY);
	uint64_t value = 0;

	assert_int_equal(pread(fd, &value, 8, (off_t)(4096 + gpa - VD_BOARD_RAM)), 8);
	close(fd);
	return value;
}

#endif
