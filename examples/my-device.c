/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device out of the tree, to copy and change.
 *
 *	cc -shared -fPIC -o my-device.so my-device.c $(pkg-config --cflags viaduct)
 *	viaduct serve ./my-device.so,greeting=hello --socket /tmp/my-device.sock
 *
 * BAR 0, registers of 32 bits: 0x00 what it is; 0x04 adds up what is written; 0x08 written with
 * anything: interrupt. BAR 2, a page of memory that the guest has mapped, with a greeting in it.
 */
#include <string.h>

#include <viaduct/plugin.h>

#define IDENTITY 0x00
#define SUM 0x04
#define DOORBELL 0x08
#define REGISTERS_SIZE (256u << 10) /* with the table of MSI-X in its second half */
#define MSIX_OFFSET (128u << 10)
#define MEMORY_SIZE (64u << 10) /* whole pages of any host */

struct my_device {
	const struct vd_env *env;
	struct vd_device *device;
	uint32_t sum;
};

/*
 * Operations run one at a time, with the device's lock held. The access is inside the region, 1, 2,
 * 4 or 8 bytes long, and aligned. Memory that is mapped never comes here.
 */
static int my_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	const struct my_device *my = context;
	uint32_t value = offset == IDENTITY ? 0x4d594456 : offset == SUM ? my->sum : 0;

	(void)region;
	memset(data, 0, length);
	memcpy(data, &value, length < sizeof(value) ? length : sizeof(value));
	return 0;
}

static int my_write(void *context, unsigned region, uint64_t offset, const void *data,
		    size_t length)
{
	struct my_device *my = context;
	uint32_t value;

	(void)region;
	if (length != sizeof(value))
		return 0;
	memcpy(&value, data, sizeof(value));
	if (offset == SUM)
		my->sum += value;
	else if (offset == DOORBELL)
		vd_device_raise(my->device, VD_IRQ_MSIX, 0);
	return 0;
}

static void my_reset(void *context, enum vd_reset_kind kind)
{
	struct my_device *my = context;

	(void)kind;
	my->sum = 0;
}

static void my_release(void *context)
{
	struct my_device *my = context;

	my->env->release(my->env, my, sizeof(*my));
}

static const struct vd_device_ops my_ops = {
	.read = my_read,
	.write = my_write,
	.reset = my_reset,
	.release = my_release,
};

/* The guest may change this memory at any time: it is looked at by these functions only. */
static void greet(struct vd_device *device, const char *greeting)
{
	void *memory = vd_device_memory(device, VD_REGION_BAR2, 0, MEMORY_SIZE);

	if (memory)
		vd_guest_copy(memory, greeting, strlen(greeting) + 1);
}

static const char *const my_properties[] = {"greeting", NULL};

static int my_create(const struct vd_device_plugin_config *config, struct vd_device **device,
		     struct vd_error *error)
{
	const char *greeting = config->values[0] ? config->values[0] : "hello";
	struct my_device *my;
	int rc;

	if (strlen(greeting) >= MEMORY_SIZE)
		return vd_error_set(error, -EINVAL, "a greeting of %zu bytes is too long",
				    strlen(greeting));
	my = vd_env_allocate(config->env, "my-device", sizeof(*my), _Alignof(struct my_device));
	if (!my)
		return vd_error_set(error, -ENOMEM, "no memory for my device");
	my->env = config->env;
	rc = vd_pci_function_create(&(struct vd_pci_function_config){
		.env = config->env, .host = config->host, .space = config->space,
		.name = "my-device", .pad = config->pad, .group = config->group,
		.identity = {.vendor = 0x1234, .device = 0xabcd, .class_code = 0xff0000},
		.bars = {
			[0] = {.size = REGISTERS_SIZE},
			[2] = {.size = MEMORY_SIZE, .area_count = 1, .areas = {{0, MEMORY_SIZE}}},
		},
		.msix_vectors = 1, .msix_bar = 0, .msix_offset = MSIX_OFFSET,
		.ops = &my_ops, .context = my,
		.state = &my->sum, .state_size = sizeof(my->sum),
	}, &my->device, error);
	if (rc) {
		my_release(my);
		return rc;
	}
	greet(my->device, greeting);
	*device = my->device;
	return 0;
}

const struct vd_device_plugin vd_device_plugin = {
	.abi = VD_DEVICE_PLUGIN_ABI,
	.name = "my-device",
	.properties = my_properties,
	.create = my_create,
};
