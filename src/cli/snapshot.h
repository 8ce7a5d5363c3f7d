/* SPDX-License-Identifier: BSD-2-Clause */
/* Snapshots from the program's side: what it has to remember of a run, and how it begins again. */
#ifndef CLI_SNAPSHOT_H
#define CLI_SNAPSHOT_H

#include <pthread.h>

#include "cli/images.h"
#include "cli/run.h"

/*
 * struct run_record - how a machine was put together, for its snapshots
 * @options: of the run; outlives it
 * @images: one a device
 * @balloon: the machine's, or NULL
 */
struct run_record {
	const struct run_options *options;
	struct run_image images[RUN_DEVICES_MAX];
	struct vd_balloon *balloon;
};

/* Notes which file the image of a device is, right after the device was made. */
int run_record_device(struct run_record *record, unsigned device, struct vd_error *error);

/*
 * snapshot_take() - a snapshot, and copies of the disk images if @copy
 * @report: progress in bytes; not 0 gives it up
 */
int snapshot_take(struct vd_vm *vm, struct run_record *record, const char *path, bool copy,
		  int (*report)(void *context, uint64_t done, uint64_t total), void *context,
		  struct vd_vm_snapshot_result *result, struct vd_error *error);

/* struct run_restore - an opened snapshot, and the options that it stands for */
struct run_restore {
	struct vd_snapshot *snapshot;
	char *devices[RUN_DEVICES_MAX];
	unsigned device_count;
};

/*
 * snapshot_prepare() - open options->restore, check that its disk images are as they were, and fill
 * in what the snapshot decides; options that say otherwise are refused
 */
int snapshot_prepare(struct run_options *options, const struct vd_env *env,
		     struct run_restore *restore, struct vd_error *error);
void snapshot_finish(struct run_restore *restore);

/*
 * control_snapshot.c: takes a snapshot on a thread of its own, which is to be joined; replies to
 * @fd, of which it keeps a duplicate. 0, or -errno with nothing started
 */
int control_snapshot_start(struct vd_vm *vm, struct run_record *record, const char *path,
			   bool copy, int fd, pthread_t *thread);

#endif
