/* SPDX-License-Identifier: BSD-2-Clause */
/* The educational device of QEMU's docs/specs/edu.rst, and an example: docs/write-a-device.md. */
#include <string.h>

#include <viaduct/device.h>

enum { BUFFER = 0x40000 /* as DMA addresses it */, BUFFER_SIZE = 4096, STATUS_INTERRUPT = 0x80 };
enum { CAUSE_FACTORIAL = 1, CAUSE_DMA = 0x100 };
enum { DMA_RUN = 1, DMA_TO_MEMORY = 2, DMA_INTERRUPT = 4 };

/* Where registers are, in steps of 4 bytes. Those from SOURCE on have 8. */
enum { IDENTITY = 0, INVERSE = 1, FACTORIAL = 2, STATUS = 8, CAUSES = 9, RAISE = 24,
       ACKNOWLEDGE = 25, SOURCE = 32, DESTINATION = 34, COUNT = 36, COMMAND = 38, REGISTERS };

struct edu {
	struct vd_edu_config config;
	struct vd_device *device;
	struct edu_state { uint64_t r[REGISTERS]; uint8_t buffer[BUFFER_SIZE]; } state;
};

/* Who uses the device listens to one of the two. */
static void interrupt(struct edu *edu, uint32_t causes)
{
	edu->state.r[CAUSES] |= causes;
	if (edu->state.r[CAUSES]) {
		vd_device_raise(edu->device, VD_IRQ_INTX, 0);
		vd_device_raise(edu->device, VD_IRQ_MSI, 0);
	}
}

/* The guest chose the number; from 34! on all are multiples of 2^32. */
static uint32_t factorial(uint32_t n)
{
	return n > 33 ? 0 : n > 1 ? n * factorial(n - 1) : 1;
}

/* With the lock held, as all but edu_work(). Accesses are aligned, of 1, 2, 4 or 8 bytes. */
static int edu_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	const struct edu *edu = context;
	bool allowed = length == 4 || (length == 8 && offset >= 4 * SOURCE);

	(void)region;
	memset(data, 0xff, length);
	if (allowed && offset < 4 * REGISTERS)
		memcpy(data, &edu->state.r[offset / 4], length);
	return 0;
}

static int edu_write(void *context, unsigned region, uint64_t offset, const void *data,
		     size_t length)
{
	struct edu *edu = context;
	uint64_t *r = edu->state.r, index = offset / 4, value = 0;
	bool allowed = length == 4 || (length == 8 && offset >= 4 * SOURCE);

	(void)region;
	if (!allowed || index >= REGISTERS || (index >= SOURCE && r[COMMAND] & DMA_RUN))
		return 0;
	memcpy(&value, data, length);
	if (index == INVERSE)
		r[index] = ~value;
	else if (index == FACTORIAL)
		r[index] = factorial((uint32_t)value);
	else if (index == STATUS)
		r[index] = value & STATUS_INTERRUPT;
	else if (index == ACKNOWLEDGE)
		r[CAUSES] &= ~value;
	else if (index >= SOURCE && index % 2 == 0 && (index != COMMAND || value & DMA_RUN))
		r[index] = value;
	if (index == RAISE || (index == FACTORIAL && r[STATUS] & STATUS_INTERRUPT))
		interrupt(edu, index == RAISE ? (uint32_t)value : CAUSE_FACTORIAL);
	if (!r[CAUSES])
		vd_device_lower(edu->device);
	/* Not here, with the lock held: memory may be far away, in another process. */
	if (index == COMMAND)
		vd_device_request_work(edu->device);
	return 0;
}

/* One at a time, and no reset meanwhile. DMA registers stay as they are while they say "run". */
static void edu_work(void *context)
{
	struct edu *edu = context;
	uint64_t *r = edu->state.r, count = r[COUNT];
	bool out = r[COMMAND] & DMA_TO_MEMORY;
	uint64_t at = (out ? r[SOURCE] : r[DESTINATION]) - BUFFER;
	vd_iova iova = {(out ? r[DESTINATION] : r[SOURCE]) & edu->config.dma_mask};

	if (!(r[COMMAND] & DMA_RUN))
		return;
	/* What is outside the buffer, or not mapped, is not transferred. */
	if (at <= BUFFER_SIZE && count <= BUFFER_SIZE - at)
		(void)(out ? vd_dma_write(edu->config.space, iova, edu->state.buffer + at, count)
			   : vd_dma_read(edu->config.space, iova, edu->state.buffer + at, count));
	vd_device_lock(edu->device);
	r[COMMAND] &= ~(uint64_t)DMA_RUN;
	if (r[COMMAND] & DMA_INTERRUPT)
		interrupt(edu, CAUSE_DMA);
	vd_device_unlock(edu->device);
}

/* A transfer may have been saved before it was done. */
static void edu_resume(void *context)
{
	vd_device_request_work(((struct edu *)context)->device);
}

static void edu_reset(void *context, enum vd_reset_kind kind)
{
	(void)kind;
	((struct edu *)context)->state = (struct edu_state){.r[IDENTITY] = 0x010000ed};
}

static void edu_release(void *context)
{
	struct edu *edu = context;

	edu->config.env->release(edu->config.env, edu, sizeof(*edu));
}

int vd_edu_create(const struct vd_edu_config *config, struct vd_device **device,
		  struct vd_error *error)
{
	static const struct vd_device_ops ops = {
		.read = edu_read, .write = edu_write, .work = edu_work, .resume = edu_resume,
		.reset = edu_reset, .release = edu_release,
	};
	struct edu *edu = vd_env_allocate(config->env, "edu", sizeof(*edu), _Alignof(struct edu));
	int rc;

	if (!edu)
		return vd_error_set(error, -ENOMEM, "no memory for an edu device");
	edu->config = *config;
	if (!config->dma_mask)
		edu->config.dma_mask = (1u << 28) - 1;
	edu_reset(edu, VD_RESET_BUS);
	rc = vd_pci_function_create(&(struct vd_pci_function_config){
		.env = config->env, .host = config->host, .space = config->space, .name = "edu",
		.identity = {.vendor = 0x1234, .device = 0x11e8, .class_code = 0xff0000},
		.bars = {[0] = {.size = 1 << 20}}, .intx = true, .msi_vectors = 1, .ops = &ops,
		.context = edu, .state = &edu->state, .state_size = sizeof(edu->state),
	}, &edu->device, error);
	if (rc)
		edu_release(edu);
	else
		*device = edu->device;
	return rc;
}
