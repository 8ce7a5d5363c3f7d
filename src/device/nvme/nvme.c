/* SPDX-License-Identifier: BSD-2-Clause */
/* Making an NVMe controller, and what the device core asks of it. */
#include <stdio.h>
#include <string.h>

#include "device/nvme/nvme.h"

static void nvme_reset(void *context, enum vd_reset_kind kind)
{
	struct nvme_controller *nvme = context;

	(void)kind;
	nvme_forget_notes(nvme);
	nvme_disable(nvme);
	nvme->cc = nvme->csts = nvme->aqa = nvme->intm = 0;
	nvme->asq = nvme->acq = nvme->cmbmsc = 0;
}

static int nvme_quiesce(void *context)
{
	struct nvme_controller *nvme = context;

	nvme->quiesced = true;
	nvme_follow_notes(nvme);
	nvme_io_drain(nvme, &nvme->under_way);
	nvme_raise(nvme);
	nvme_io_poll_state(nvme);
	return 0;
}

static void nvme_resume(void *context)
{
	struct nvme_controller *nvme = context;

	nvme->quiesced = false;
	nvme_process(nvme);
}

static void nvme_poll(void *context)
{
	struct nvme_controller *nvme = context;

	if (nvme_enter(nvme)) {
		nvme_io_reap(nvme);
		nvme_leave(nvme);
		return;
	}
	/* Nobody need look here before that one is through. */
	nvme->poll_again = true;
	nvme->busy = false;
	vd_device_set_busy(nvme->device, false, -1);
}

void nvme_bus_master_changed(struct nvme_controller *nvme)
{
	if (nvme->bus_master)
		nvme_process(nvme);
	else
		nvme_io_drain(nvme, &nvme->under_way);
}

static void nvme_bus_master(void *context, bool on)
{
	struct nvme_controller *nvme = context;

	/* Who is inside looks at it before each command. */
	nvme->bus_master = on;
	if (!nvme_enter(nvme)) {
		nvme_note_bus_master(nvme);
		return;
	}
	nvme_bus_master_changed(nvme);
	nvme_leave(nvme);
}

static void nvme_counters(void *context,
			  void (*report)(void *to, const char *name, uint64_t value), void *to)
{
	const struct nvme_controller *nvme = context;

	report(to, "commands", nvme->fetched);
	report(to, "commands_in_cmb", nvme->fetched_cmb);
	report(to, "reads", nvme->counters.reads);
	report(to, "writes", nvme->counters.writes);
	report(to, "sectors_read", nvme->counters.sectors_read);
	report(to, "sectors_written", nvme->counters.sectors_written);
	report(to, "media_errors", nvme->counters.media_errors);
}

static void nvme_release(void *context)
{
	struct nvme_controller *nvme = context;
	const struct vd_env *env = nvme->env;

	nvme->device = NULL;
	/* Nobody is left to hear of an error; it was the guest that did not flush. */
	(void)nvme_io_flush(nvme);
	nvme_io_fini(nvme);
	vd_image_close(nvme->image);
	env->release(env, nvme, sizeof(*nvme));
}

static const struct vd_device_ops nvme_ops = {
	.read = nvme_read,
	.write = nvme_write,
	.reset = nvme_reset,
	.quiesce = nvme_quiesce,
	.resume = nvme_resume,
	.save = nvme_save,
	.load = nvme_load,
	.poll = nvme_poll,
	.counters = nvme_counters,
	.release = nvme_release,
};

static int check_config(const struct vd_nvme_config *config, struct vd_error *error)
{
	const char *serial = config->serial ? config->serial : "";

	if (!config->image || !*config->image)
		return vd_error_set(error, -EINVAL, "an NVMe device needs image=FILE");
	if (config->queues > NVME_QUEUES_MAX)
		return vd_error_set(error, -EINVAL, "an NVMe device has 1 to %u queues, not %u",
				    NVME_QUEUES_MAX, config->queues);
	if (config->cmb % NVME_CMB_UNIT || config->cmb > NVME_CMB_MAX)
		return vd_error_set(error, -EINVAL, "cmb is a multiple of 2M, at most 1G, not %llu",
				    (unsigned long long)config->cmb);
	if (strlen(serial) > 20)
		return vd_error_set(error, -EINVAL, "serial '%s' is longer than 20 characters",
				    serial);
	for (; *serial; serial++) {
		if (*serial < ' ' || *serial > '~')
			return vd_error_set(error, -EINVAL,
					    "a serial number has printable ASCII characters only");
	}
	if (config->flush && strcmp(config->flush, "noop") != 0)
		return vd_error_set(error, -EINVAL, "unknown flush '%s': only noop, for tests",
				    config->flush);
	return 0;
}

/*
 * Linux refuses a second namespace with the same identifier, so both the serial number and the
 * EUI-64 differ from image to image unless the user wants otherwise.
 */
static void choose_identity(struct nvme_controller *nvme, const char *serial)
{
	uint64_t hash = vd_image_identity(nvme->image);

	if (serial)
		snprintf(nvme->serial, sizeof(nvme->serial), "%s", serial);
	else
		snprintf(nvme->serial, sizeof(nvme->serial), "VD%016llx",
			 (unsigned long long)hash);
	hash = 0xcbf29ce484222325u;
	for (const char *c = nvme->serial; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
	/* Locally administered, so that it cannot be a maker's. */
	nvme->eui64 = (hash & ~0xffull) | 0x02;
}

static int create_function(struct nvme_controller *nvme, const struct vd_nvme_config *config,
			   struct vd_error *error)
{
	struct vd_pci_function_config function = {
		.env = config->env,
		.host = config->host,
		.space = config->space,
		.name = "nvme",
		/*
		 * Not QEMU's 1b36:0010, for which Linux has workarounds that this controller does
		 * not need.
		 */
		.identity = {.vendor = 0x1234, .device = 0x4e56, .subsystem_vendor = 0x1234,
			     .subsystem = 0x4e56, .class_code = 0x010802, .revision = 1},
		.bars = {[0] = {.size = NVME_BAR_SIZE, .flags = VD_PCI_BAR_64}},
		.msix_vectors = nvme->queue_limit + 1,
		.msix_bar = 0,
		.msix_offset = NVME_MSIX_OFFSET,
		.ops = &nvme_ops,
		.context = nvme,
		.bus_master = nvme_bus_master,
		.yields = true,
	};

	nvme_cmb_bar(nvme, &function.bars[NVME_CMB_BAR]);
	return vd_pci_function_create(&function, &nvme->device, error);
}

static int open_image(struct nvme_controller *nvme, const struct vd_nvme_config *config,
		      struct vd_error *error)
{
	struct vd_image_config image = {
		.env = config->env,
		.path = config->image,
		.backing = config->backing,
		.snapshot = config->snapshot,
		.read_only = config->read_only,
		.flush_is_noop = config->flush != NULL,
	};

	return vd_image_open(&image, &nvme->image, error);
}

int vd_nvme_create(const struct vd_nvme_config *config, struct vd_device **device,
		   struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct nvme_controller *nvme;
	int rc = check_config(config, error);

	if (rc)
		return rc;
	nvme = vd_env_allocate(env, "nvme.create", sizeof(*nvme), _Alignof(struct nvme_controller));
	if (!nvme)
		return vd_error_set(error, -ENOMEM, "no memory for an NVMe device");
	nvme->env = env;
	nvme->space = config->space;
	nvme->cmb_size = config->cmb;
	nvme->queue_limit = config->queues ? config->queues : NVME_QUEUES_DEFAULT;
	rc = open_image(nvme, config, error);
	if (rc)
		goto free_controller;
	rc = nvme_io_init(nvme);
	if (rc) {
		vd_error_set(error, rc, "no memory or descriptors left for an NVMe device");
		goto close_image;
	}
	choose_identity(nvme, config->serial);
	nvme_features_reset(nvme);
	rc = create_function(nvme, config, error);
	if (rc)
		goto fini_io;
	*device = nvme->device;
	return 0;

fini_io:
	nvme_io_fini(nvme);
close_image:
	vd_image_close(nvme->image);
free_controller:
	env->release(env, nvme, sizeof(*nvme));
	return rc;
}
