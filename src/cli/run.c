/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <viaduct/device.h>

#include "cli/devices.h"
#include "cli/run.h"
#include "cli/snapshot.h"

/* What the signal handler ends; set while the machine may be stopped. */
static struct vd_vm *_Atomic running;

static void on_signal(int number)
{
	struct vd_vm *vm = atomic_load(&running);
	int saved = errno;

	(void)number;
	if (vm)
		vd_vm_stop(vm);
	errno = saved;
}

static void catch_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int add_devices(struct run_record *record, const struct vd_env *env, struct vd_vm *vm,
		       struct vd_group **group, struct vd_error *error)
{
	const struct run_options *options = record->options;
	const struct device_place place = {
		.env = env, .host = vd_vm_host(vm), .space = vd_vm_dma_space(vm),
		.mem = vd_vm_mem(vm), .memory = vd_host_object_size(vd_vm_ram(vm)),
		.balloon = &record->balloon, .group = group,
	};

	for (unsigned i = 0; i < options->device_count; i++) {
		struct vd_device *device;
		int rc = device_create(options->devices[i], &place, &device, error);

		if (rc)
			return rc;
		rc = run_record_device(record, i, error);
		if (!rc)
			rc = vd_vm_plug(vm, device, error);
		vd_device_put(device);
		if (rc)
			return rc;
	}
	if (options->screenshot && !run_find_display(vm))
		return vd_error_set(error, -EINVAL, "--screenshot needs --device display");
	return 0;
}

static int exit_code(enum vd_vm_exit exit)
{
	switch (exit) {
	case VD_VM_EXIT_POWER_OFF:
		return EXIT_OK;
	case VD_VM_EXIT_RESET:
		return EXIT_GUEST_RESET;
	case VD_VM_EXIT_PANIC:
		return EXIT_GUEST_PANIC;
	case VD_VM_EXIT_STOPPED:
		return EXIT_SIGNAL;
	default:
		return EXIT_FAILED;
	}
}

/* What the user asked to see of the run; the machine is stopped, its devices still exist. */
static int report(const struct run_record *record, struct vd_vm *vm, enum vd_vm_exit exit)
{
	const struct run_options *options = record->options;
	struct vd_error error = {0};
	int code = exit_code(exit);

	if (options->screenshot &&
	    vd_display_screenshot(run_find_display(vm), options->screenshot, &error))
		code = complain(EXIT_FAILED, "%s", error.text);
	if (options->stats_json &&
	    stats_write_json(vm, record->balloon, exit, options->stats_json, &error))
		code = complain(EXIT_FAILED, "%s", error.text);
	if (options->stats)
		stats_print(vm, record->balloon);
	return code;
}

static int run_machine(struct run_record *record, struct vd_vm *vm)
{
	const struct run_options *options = record->options;
	struct vd_error error = {0};
	struct terminal *terminal = NULL;
	struct control *control = NULL;
	struct stress *stress = NULL;
	enum vd_vm_exit exit = VD_VM_EXIT_ERROR;
	int rc;

	atomic_store(&running, vm);
	catch_signals();
	rc = control_start(vm, record, &control, &error);
	if (!rc)
		rc = terminal_start(vm, &terminal, &error);
	if (!rc && options->stress)
		rc = stress_start(vm, options->stress, &stress, &error);
	if (!rc)
		exit = vd_vm_run(vm, &error);
	stress_stop(stress);
	terminal_stop(terminal);
	control_stop(control);
	if (exit == VD_VM_EXIT_ERROR)
		complain(EXIT_FAILED, "%s", error.text);
	rc = report(record, vm, exit);
	atomic_store(&running, NULL);
	return rc;
}

/* The machine with its devices, in the state in which it shall begin. */
static int make_machine(const struct run_options *options, const struct vd_env *env,
			struct run_restore *restore, struct run_record *record, struct vd_vm **vm,
			struct vd_error *error)
{
	int rc = vd_vm_create(&(struct vd_vm_config){
		.env = env, .kernel = options->kernel, .initrd = options->initrd,
		.append = options->append, .memory = options->memory, .cpus = options->cpus,
		.direct_mmio = !options->no_direct_mmio, .check_tlb = options->check_tlb,
		.spare_frames = options->stress & STRESS_MOVE, .svadu = options->svadu,
		.shadow_paging = options->shadow, .dma = options->dma,
		.memory_kind = options->memory_kind, .restore = options->restore != NULL,
		.console_write = terminal_write, .context = (void *)&running,
	}, vm, error);
	struct vd_group *group = NULL;

	if (!rc)
		rc = add_devices(record, env, *vm, &group, error);
	vd_group_put(group); /* the devices have it */
	if (!rc && options->restore)
		rc = vd_vm_restore(*vm, restore->snapshot, error);
	return rc;
}

int command_run(int argc, char **argv)
{
	struct run_options options;
	struct run_restore restore = {.snapshot = NULL};
	static struct run_record record; /* large, and there is one machine */
	struct vd_error error = {0};
	struct vd_vm *vm = NULL;
	static struct vd_env env; /* what is freed late, on another thread, still looks at it */
	int rc = run_options_parse(argc, argv, &options, &error);

	if (rc)
		return complain(EXIT_USAGE, "%s", error.text);
	if (options.help) {
		run_options_help();
		return EXIT_OK;
	}
	env = trace_environment(options.trace);
	/* other code may take away memory of the guest at any time */
	if (options.memory_kind == VD_VM_MEMORY_PRIVATE && vd_host_guard_install(&error))
		return complain(EXIT_FAILED, "%s", error.text);
	record.options = &options;
	if (options.restore)
		rc = snapshot_prepare(&options, &env, &restore, &error);
	if (!rc)
		rc = make_machine(&options, &env, &restore, &record, &vm, &error);
	rc = rc ? complain(EXIT_FAILED, "%s", error.text) : run_machine(&record, vm);
	vd_vm_destroy(vm);
	snapshot_finish(&restore);
	return rc;
}
