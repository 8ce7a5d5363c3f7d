/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that measures the way to its client and its client's memory. Times are taken in here, so
 * that they are those of one DMA or interrupt, and not of the access that asked for them.
 */
#include <string.h>

#include <viaduct/device.h>

#define BAR 2
#define BAR_SIZE 4096u
#define PIECE 4096u
#define TIMES_MAX (1u << 20) /* a client that asks for more gets that many */
/* The table and PBA of MSI-X are in a BAR of their own. */
#define MSIX_BAR 4
#define MSIX_BAR_SIZE (128u << 10)

/* Registers, in steps of 8 bytes. */
enum { ADDRESS = 1, TRANSFERS = 2, TRANSFERS_NS = 3, INTERRUPTS = 4, INTERRUPTS_NS = 5, REGISTERS };

struct bench {
	const struct vd_env *env;
	struct vd_dma_space *space;
	struct vd_device *device;
	uint64_t registers[REGISTERS];
	uint8_t piece[PIECE]; /* of @work alone */
};

static int bench_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	const struct bench *bench = context;

	memset(data, 0, length);
	if (region == BAR && offset < sizeof(bench->registers))
		memcpy(data, (const uint8_t *)bench->registers + offset, length);
	return 0;
}

static uint64_t at_most(uint64_t times)
{
	return times < TIMES_MAX ? times : TIMES_MAX;
}

static void interrupts(struct bench *bench)
{
	uint64_t times = at_most(bench->registers[INTERRUPTS]);
	uint64_t start = bench->env->clock_ns(bench->env);

	for (uint64_t i = 0; i < times; i++)
		vd_device_raise(bench->device, VD_IRQ_MSIX, 0);
	bench->registers[INTERRUPTS_NS] = bench->env->clock_ns(bench->env) - start;
}

static int bench_write(void *context, unsigned region, uint64_t offset, const void *data,
		       size_t length)
{
	struct bench *bench = context;

	if (region != BAR || length != 8 || offset >= sizeof(bench->registers))
		return 0;
	memcpy(&bench->registers[offset / 8], data, length);
	if (offset / 8 == TRANSFERS)
		vd_device_request_work(bench->device);
	else if (offset / 8 == INTERRUPTS)
		interrupts(bench);
	return 0;
}

/* Before the write that asked for it returns, and without the lock, as memory may be far away. */
static void bench_work(void *context)
{
	struct bench *bench = context;
	uint64_t times, start;
	vd_iova iova;
	int rc = 0;

	vd_device_lock(bench->device);
	times = at_most(bench->registers[TRANSFERS]);
	iova.value = bench->registers[ADDRESS];
	bench->registers[TRANSFERS] = 0;
	vd_device_unlock(bench->device);
	start = bench->env->clock_ns(bench->env);
	for (uint64_t i = 0; i < times && !rc; i++)
		rc = vd_dma_read(bench->space, iova, bench->piece, PIECE);
	start = bench->env->clock_ns(bench->env) - start;
	vd_device_lock(bench->device);
	/* All ones: that was no transfer at all. */
	bench->registers[TRANSFERS_NS] = rc ? UINT64_MAX : start;
	vd_device_unlock(bench->device);
}

static void bench_reset(void *context, enum vd_reset_kind kind)
{
	struct bench *bench = context;

	(void)kind;
	memset(bench->registers, 0, sizeof(bench->registers));
}

static void bench_release(void *context)
{
	struct bench *bench = context;

	bench->env->release(bench->env, bench, sizeof(*bench));
}

int vd_bench_create(const struct vd_bench_config *config, struct vd_device **device,
		    struct vd_error *error)
{
	static const struct vd_device_ops ops = {
		.read = bench_read, .write = bench_write, .work = bench_work, .reset = bench_reset,
		.release = bench_release,
	};
	struct bench *bench = vd_env_allocate(config->env, "bench", sizeof(*bench),
					      _Alignof(struct bench));
	int rc;

	if (!bench)
		return vd_error_set(error, -ENOMEM, "no memory for a bench device");
	bench->env = config->env;
	bench->space = config->space;
	rc = vd_pci_function_create(&(struct vd_pci_function_config){
		.env = config->env, .host = config->host, .space = config->space, .name = "bench",
		.identity = {.vendor = 0x1234, .device = 0x4e57, .class_code = 0xff0000},
		.bars = {[BAR] = {.size = BAR_SIZE}, [MSIX_BAR] = {.size = MSIX_BAR_SIZE}},
		.msix_vectors = 1, .msix_bar = MSIX_BAR, .ops = &ops, .context = bench,
		.state = bench->registers, .state_size = sizeof(bench->registers),
	}, &bench->device, error);
	if (rc)
		bench_release(bench);
	else
		*device = bench->device;
	return rc;
}
