/* SPDX-License-Identifier: BSD-2-Clause */
/* `viaduct run`: its options, and the parts of its work that have files of their own. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <viaduct/device.h>
#include <viaduct/vm.h>

#include "cli/cli.h"

#define RUN_DEVICES_MAX 16u

struct run_options {
	const char *kernel, *initrd, *append, *name, *screenshot, *stats_json, *restore;
	const char *devices[RUN_DEVICES_MAX];
	unsigned device_count;
	uint64_t memory;
	enum vd_vm_memory memory_kind;
	enum vd_dma_mode dma;
	unsigned cpus;
	unsigned trace; /* bits of enum vd_trace_event */
	unsigned stress;
	bool memory_given, cpus_given, mmu_given;
	bool no_direct_mmio, stats, check_tlb, svadu, shadow, help;
};

#define STRESS_MOVE 1u
#define STRESS_DISCARD 2u
#define STRESS_PROTECT 4u
#define STRESS_AGE 8u
#define STRESS_FOREIGN 16u

/* options.c: 0, or a negative errno with the reason in @error */
int run_options_parse(int argc, char **argv, struct run_options *options, struct vd_error *error);
void run_options_help(void);
/* "512M", "1G", "4096"; false if it is no size */
bool parse_size(const char *text, uint64_t *size);

/* devices.c: the image= of a specification; its path is empty if it has none. */
struct run_image;
int run_device_image(const char *spec, struct run_image *image, struct vd_error *error);
/*
 * The same device with another image; @layered: which it only reads. To be freed; NULL: no memory
 */
char *run_device_with_image(const char *spec, const char *image, bool layered);
/* The first display among the machine's devices, or NULL. */
struct vd_device *run_find_display(struct vd_vm *vm);

/* terminal.c: stdin to the guest, in raw mode if it is a terminal; Ctrl-A x calls vd_vm_stop() */
struct terminal;
int terminal_start(struct vd_vm *vm, struct terminal **terminal, struct vd_error *error);
void terminal_stop(struct terminal *terminal);
/*
 * @context: struct vd_vm *_Atomic *, the machine whose stop ends waiting for a reader; may hold
 * NULL
 */
void terminal_write(void *context, const uint8_t *bytes, size_t length);

/* stats.c */
void stats_print(struct vd_vm *vm, struct vd_balloon *balloon);
/* stats_add_status() - of a machine that runs: what its devices' accesses cost so far */
struct json_object;
void stats_add_status(struct json_object *root, struct vd_vm *vm);
int stats_write_json(struct vd_vm *vm, struct vd_balloon *balloon, enum vd_vm_exit exit,
		     const char *path, struct vd_error *error);
const char *exit_name(enum vd_vm_exit exit);

/* balloon.c: what guest memory is resident, and the balloon, if not NULL, for stats and status */
struct json_object;
void balloon_add(struct json_object *object, struct vd_vm *vm, struct vd_balloon *balloon);
/* Sets the target. Return: NULL, or why not. */
const char *balloon_set(struct vd_balloon *balloon, const char *size);

/* control_server.c: the machine's socket in the user's runtime directory */
struct control;
struct run_record;
int control_start(struct vd_vm *vm, struct run_record *record, struct control **control,
		  struct vd_error *error);
/* Waits for a snapshot that is being written. */
void control_stop(struct control *control);

/* stress.c: changes to guest memory while it runs, for tests */
struct stress;
int stress_start(struct vd_vm *vm, unsigned what, struct stress **stress, struct vd_error *error);
void stress_stop(struct stress *stress);
/* bits of @what from "move,age" */
int stress_parse(const char *text, unsigned *what, struct vd_error *error);

/* trace.c: an environment that writes trace lines to stderr */
struct vd_env trace_environment(unsigned events);
int trace_parse(const char *text, unsigned *events, struct vd_error *error);

#endif
