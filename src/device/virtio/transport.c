/* SPDX-License-Identifier: BSD-2-Clause */
/* The transport: virtio 1.2, section 4.1 (PCI) and 2.1 to 2.3 (status, features, notifications). */
#include <endian.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "device/virtio/virtio.h"

/* The registers of 4.1.4.3, as bytes: an access may have any size. */
union common {
	struct virtio_pci_common_cfg registers;
	uint8_t bytes[sizeof(struct virtio_pci_common_cfg)];
};

static unsigned vector_count(const struct virtio *virtio)
{
	return virtio->model->queues + 1;
}

static uint64_t offered(const struct virtio *virtio)
{
	return virtio->model->features | UINT64_C(1) << VIRTIO_F_VERSION_1;
}

bool virtio_runs(const struct virtio *virtio)
{
	return virtio->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	       !(virtio->status & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)) &&
	       virtio->bus_master && !virtio->quiesced && !virtio->reset_wanted;
}

bool virtio_has(const struct virtio *virtio, unsigned bit)
{
	return virtio->status & VIRTIO_CONFIG_S_FEATURES_OK && virtio->driver_features >> bit & 1;
}

void virtio_interrupt(struct virtio *virtio, uint8_t isr, uint16_t vector)
{
	virtio->isr |= isr;
	if (virtio->device && vector != VIRTIO_MSI_NO_VECTOR)
		vd_device_raise(virtio->device, VD_IRQ_MSIX, vector);
}

/* 2.1.2: the driver is told if it was ready. */
void virtio_broken(struct virtio *virtio)
{
	if (virtio->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	virtio->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio->generation++;
	if (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt(virtio, VIRTIO_PCI_ISR_CONFIG, virtio->config_vector);
}

void virtio_config_changed(struct virtio *virtio)
{
	virtio->generation++;
	/* 2.3: not before the driver is there; it reads the configuration then anyway. */
	if (virtio->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt(virtio, VIRTIO_PCI_ISR_CONFIG, virtio->config_vector);
}

void virtio_notify_all(struct virtio *virtio)
{
	for (unsigned i = 0; i < virtio->model->queues && virtio_runs(virtio); i++)
		if (virtio->queues[i].enabled)
			virtio->model->notify(virtio->context, i);
}

/* ---- reset: 2.4 ----------------------------------------------------------------------------- */

static void power_on(struct virtio *virtio)
{
	virtio->device_select = virtio->driver_select = 0;
	virtio->driver_features = 0;
	virtio->config_vector = VIRTIO_MSI_NO_VECTOR;
	virtio->queue_select = 0;
	virtio->status = virtio->isr = 0;
	virtio->reset_wanted = false;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		virtio->queues[i] = (struct virtio_queue){
			.size = i < virtio->model->queues ? virtio->model->queue_size : 0,
			.vector = VIRTIO_MSI_NO_VECTOR,
		};
}

static void reset(struct virtio *virtio)
{
	power_on(virtio);
	virtio->model->reset(virtio->context);
}

void virtio_hold(struct virtio *virtio)
{
	virtio->held = true;
}

bool virtio_let_go(struct virtio *virtio)
{
	virtio->held = false;
	if (!virtio->reset_wanted)
		return true;
	reset(virtio);
	return false;
}

/* ---- registers ------------------------------------------------------------------------------ */

static void show_queue(const struct virtio *virtio, struct virtio_pci_common_cfg *common)
{
	const struct virtio_queue *queue;

	/* 4.1.4.3.1: a size of 0 says that there is no such queue. */
	if (virtio->queue_select >= virtio->model->queues)
		return;
	queue = &virtio->queues[virtio->queue_select];
	common->queue_size = htole16(queue->size);
	common->queue_msix_vector = htole16(queue->vector);
	common->queue_enable = htole16(queue->enabled);
	common->queue_notify_off = htole16(virtio->queue_select);
	common->queue_desc_lo = htole32((uint32_t)queue->desc);
	common->queue_desc_hi = htole32((uint32_t)(queue->desc >> 32));
	common->queue_avail_lo = htole32((uint32_t)queue->avail);
	common->queue_avail_hi = htole32((uint32_t)(queue->avail >> 32));
	common->queue_used_lo = htole32((uint32_t)queue->used);
	common->queue_used_hi = htole32((uint32_t)(queue->used >> 32));
}

static uint32_t half(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static void show(const struct virtio *virtio, union common *common)
{
	struct virtio_pci_common_cfg *registers = &common->registers;

	*common = (union common){0};
	registers->device_feature_select = htole32(virtio->device_select);
	registers->device_feature = htole32(half(offered(virtio), virtio->device_select));
	registers->guest_feature_select = htole32(virtio->driver_select);
	registers->guest_feature = htole32(half(virtio->driver_features, virtio->driver_select));
	registers->msix_config = htole16(virtio->config_vector);
	registers->num_queues = htole16((uint16_t)virtio->model->queues);
	registers->device_status = virtio->status;
	registers->config_generation = virtio->generation;
	registers->queue_select = htole16(virtio->queue_select);
	show_queue(virtio, registers);
}

/* 4.1.5.1.2.1: a vector that does not exist reads back as none. */
static uint16_t checked_vector(const struct virtio *virtio, uint16_t vector)
{
	return vector < vector_count(virtio) ? vector : VIRTIO_MSI_NO_VECTOR;
}

/*
 * 2.1.1, 3.1.1: bits are only ever added, but by a reset. Features that make no sense together are
 * not confirmed; once they are, they stay.
 */
static void write_status(struct virtio *virtio, uint8_t status)
{
	bool ran = virtio->status & VIRTIO_CONFIG_S_DRIVER_OK;

	if (!status && virtio->held) {
		/* Whoever writes waits for who holds, then everything is done. */
		virtio->reset_wanted = true;
		vd_device_request_work(virtio->device);
		return;
	}
	if (!status) {
		reset(virtio);
		return;
	}
	if ((virtio->driver_features & ~offered(virtio)) ||
	    !(virtio->driver_features >> VIRTIO_F_VERSION_1 & 1))
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	/* A device that is not set up does not run. */
	if (!((virtio->status | status) & VIRTIO_CONFIG_S_FEATURES_OK))
		status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	virtio->status |= status & (uint8_t)~VIRTIO_CONFIG_S_NEEDS_RESET;
	if (!ran)
		virtio_notify_all(virtio);
}

static void write_features(struct virtio *virtio, uint32_t value)
{
	unsigned shift = 32 * virtio->driver_select;

	if (virtio->driver_select >= 2 || virtio->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	virtio->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	virtio->driver_features |= (uint64_t)value << shift;
}

static void write_queue(struct virtio *virtio, const struct virtio_pci_common_cfg *registers,
			bool enable)
{
	uint16_t size = le16toh(registers->queue_size);
	struct virtio_queue *queue, given;

	if (virtio->queue_select >= virtio->model->queues)
		return;
	queue = &virtio->queues[virtio->queue_select];
	queue->vector = checked_vector(virtio, le16toh(registers->queue_msix_vector));
	/* 4.1.4.3.2: nothing else may change then, so nothing does. */
	if (queue->enabled)
		return;
	given = *queue;
	if (size && !(size & (size - 1)) && size <= virtio->model->queue_size)
		given.size = size;
	given.desc = (uint64_t)le32toh(registers->queue_desc_hi) << 32 |
		     le32toh(registers->queue_desc_lo);
	given.avail = (uint64_t)le32toh(registers->queue_avail_hi) << 32 |
		      le32toh(registers->queue_avail_lo);
	given.used = (uint64_t)le32toh(registers->queue_used_hi) << 32 |
		     le32toh(registers->queue_used_lo);
	if (enable && registers->queue_enable == htole16(1)) {
		if (virtio_queue_check(&given))
			given.enabled = true;
		else
			virtio_broken(virtio);
	}
	*queue = given;
}

#define TOUCHES(field)                                                                             \
	vd_ranges_overlap(offset, length, offsetof(struct virtio_pci_common_cfg, field),           \
			  sizeof(((struct virtio_pci_common_cfg *)0)->field))

/* What is there now with the new bytes in it is what the registers shall be, one by one. */
static void write_common(struct virtio *virtio, uint64_t offset, const void *data, size_t length)
{
	union common common;

	/* 4.1.4.3.2: the driver waits until the status reads as 0. */
	if (virtio->reset_wanted)
		return;
	show(virtio, &common);
	memcpy(common.bytes + offset, data, length);
	if (TOUCHES(device_feature_select))
		virtio->device_select = le32toh(common.registers.device_feature_select);
	if (TOUCHES(guest_feature_select))
		virtio->driver_select = le32toh(common.registers.guest_feature_select);
	if (TOUCHES(guest_feature))
		write_features(virtio, le32toh(common.registers.guest_feature));
	if (TOUCHES(msix_config))
		virtio->config_vector =
			checked_vector(virtio, le16toh(common.registers.msix_config));
	/* With another queue selected, the registers that follow are another queue's. */
	if (TOUCHES(queue_select))
		virtio->queue_select = le16toh(common.registers.queue_select);
	else if (offset + length > offsetof(struct virtio_pci_common_cfg, queue_size))
		write_queue(virtio, &common.registers, TOUCHES(queue_enable));
	if (TOUCHES(device_status))
		write_status(virtio, common.registers.device_status);
}

static void notify(struct virtio *virtio, uint64_t offset)
{
	uint64_t index = offset / VIRTIO_NOTIFY_STEP;

	if (index < virtio->model->queues && virtio->queues[index].enabled && virtio_runs(virtio))
		virtio->model->notify(virtio->context, (unsigned)index);
}

/* One access, all of which lies in one of the structures; what lies elsewhere reads as zero. */
static bool inside(uint64_t offset, size_t length, uint64_t start, uint64_t size)
{
	return offset >= start && offset - start < size && length <= size - (offset - start);
}

static int bar_read(void *context, unsigned region, uint64_t offset, void *data, size_t length)
{
	struct virtio *virtio = context;
	union common common;

	(void)region;
	memset(data, 0, length);
	if (inside(offset, length, VIRTIO_COMMON, sizeof(common.bytes))) {
		show(virtio, &common);
		memcpy(data, common.bytes + (offset - VIRTIO_COMMON), length);
	} else if (offset == VIRTIO_ISR) {
		/* 4.1.4.5.1: reading clears it. */
		memcpy(data, &virtio->isr, 1);
		virtio->isr = 0;
	} else if (inside(offset, length, VIRTIO_CONFIG, virtio->model->config_size)) {
		virtio->model->config_read(virtio->context, (uint32_t)(offset - VIRTIO_CONFIG),
					   data, length);
	}
	return 0;
}

static int bar_write(void *context, unsigned region, uint64_t offset, const void *data,
		     size_t length)
{
	struct virtio *virtio = context;
	uint64_t bells = VIRTIO_NOTIFY_STEP * virtio->model->queues;

	(void)region;
	if (inside(offset, length, VIRTIO_COMMON, sizeof(struct virtio_pci_common_cfg)))
		write_common(virtio, offset - VIRTIO_COMMON, data, length);
	else if (inside(offset, length, VIRTIO_NOTIFY, bells))
		notify(virtio, offset - VIRTIO_NOTIFY);
	else if (inside(offset, length, VIRTIO_CONFIG, virtio->model->config_size) &&
		 !virtio->reset_wanted)
		virtio->model->config_write(virtio->context, (uint32_t)(offset - VIRTIO_CONFIG),
					    data, length);
	return 0;
}

/* ---- what the core asks for ----------------------------------------------------------------- */

static void device_reset(void *context, enum vd_reset_kind kind)
{
	(void)kind;
	reset(context);
}

static int device_quiesce(void *context)
{
	struct virtio *virtio = context;

	virtio->quiesced = true;
	if (virtio->model->quiesce)
		virtio->model->quiesce(virtio->context);
	return 0;
}

static void device_resume(void *context)
{
	struct virtio *virtio = context;

	virtio->quiesced = false;
	virtio_notify_all(virtio);
}

static void device_bus_master(void *context, bool on)
{
	struct virtio *virtio = context;

	virtio->bus_master = on;
	if (on)
		virtio_notify_all(virtio);
}

static void device_poll(void *context)
{
	struct virtio *virtio = context;

	if (virtio->model->poll)
		virtio->model->poll(virtio->context);
}

static void device_work(void *context)
{
	struct virtio *virtio = context;

	if (virtio->model->work)
		virtio->model->work(virtio->context);
}

static void device_release(void *context)
{
	struct virtio *virtio = context;

	virtio->device = NULL;
	virtio->model->release(virtio->context);
}

static const struct vd_device_ops device_ops = {
	.read = bar_read,
	.write = bar_write,
	.reset = device_reset,
	.quiesce = device_quiesce,
	.resume = device_resume,
	.save = virtio_save,
	.load = virtio_load,
	.poll = device_poll,
	.work = device_work,
	.release = device_release,
};

/* ---- capabilities: 4.1.4 -------------------------------------------------------------------- */

/*
 * 4.1.4.9: a window of the configuration space into the BAR, for firmware that has not mapped it.
 * Bytes of the window that lie outside the registers read as zero.
 */
static void window_access(void *context, uint8_t *bytes, unsigned offset, unsigned length,
			  bool write)
{
	const unsigned at = offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	struct virtio_pci_cfg_cap cap;
	uint64_t size;

	memcpy(&cap, bytes, sizeof(cap));
	size = le32toh(cap.cap.length);
	if (offset + length <= at || cap.cap.bar || (size != 1 && size != 2 && size != 4) ||
	    le32toh(cap.cap.offset) & (size - 1))
		return;
	if (write)
		bar_write(context, 0, le32toh(cap.cap.offset), bytes + at, size);
	else
		bar_read(context, 0, le32toh(cap.cap.offset), bytes + at, size);
}

static struct vd_pci_capability capability(unsigned type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {.cap_len = sizeof(struct virtio_pci_cap), .cfg_type = (uint8_t)type,
			.offset = htole32(offset), .length = htole32(length)},
		.notify_off_multiplier = htole32(VIRTIO_NOTIFY_STEP),
	};
	struct vd_pci_capability result = {.id = PCI_CAP_ID_VNDR};

	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG || type == VIRTIO_PCI_CAP_PCI_CFG)
		cap.cap.cap_len = sizeof(cap);
	result.length = cap.cap.cap_len;
	memcpy(result.bytes, &cap, result.length);
	return result;
}

static struct vd_pci_capability window_capability(void)
{
	struct vd_pci_capability cap = capability(VIRTIO_PCI_CAP_PCI_CFG, 0, 0);

	memset(cap.bytes + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 0, 4);
	cap.writable[offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(cap.writable + offsetof(struct virtio_pci_cap, offset), 0xff, 12);
	cap.access = window_access;
	return cap;
}

static int create_function(struct virtio *virtio, struct vd_host *host, struct vd_error *error)
{
	const struct virtio_model *model = virtio->model;
	uint64_t page = UINT64_C(1) << vd_host_page_shift(host);
	const struct vd_pci_capability capabilities[] = {
		capability(VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_COMMON,
			   sizeof(struct virtio_pci_common_cfg)),
		capability(VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_NOTIFY,
			   VIRTIO_NOTIFY_STEP * model->queues),
		capability(VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_ISR, 1),
		capability(VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_CONFIG, model->config_size),
		window_capability(),
	};
	struct vd_pci_function_config function = {
		.env = virtio->env,
		.host = host,
		.space = virtio->space,
		.name = model->name,
		/* 4.1.2.1: revision 1 or more says that it is not transitional. */
		.identity = {.vendor = VIRTIO_VENDOR,
			     .device = (uint16_t)(VIRTIO_DEVICE_BASE + model->id),
			     .subsystem_vendor = VIRTIO_VENDOR, .subsystem = 0x1100,
			     .class_code = model->class_code, .revision = 1},
		.bars = {[0] = {.size = 4 * page}},
		.msix_vectors = vector_count(virtio),
		.msix_bar = 0,
		.msix_offset = (uint32_t)page,
		.capabilities = capabilities,
		.capability_count = sizeof(capabilities) / sizeof(capabilities[0]),
		.ops = &device_ops,
		.context = virtio,
		.bus_master = device_bus_master,
	};

	return vd_pci_function_create(&function, &virtio->device, error);
}

int virtio_create(struct virtio *virtio, const struct virtio_model *model, void *context,
		  const struct vd_env *env, struct vd_host *host, struct vd_dma_space *space,
		  struct vd_error *error)
{
	vd_assert(model->queues <= VIRTIO_QUEUES_MAX && model->queue_size <= VIRTIO_QUEUE_SIZE &&
		  model->config_size <= VIRTIO_CONFIG_MAX);
	virtio->env = env;
	virtio->space = space;
	virtio->model = model;
	virtio->context = context;
	power_on(virtio);
	return create_function(virtio, host, error);
}
