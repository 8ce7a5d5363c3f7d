/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI for the guest. As with MSI-X, messages are sent with the lock held: once a guest has masked a
 * vector and read the mask back, no message of it comes any more.
 */
#include "pci/msi.h"
#include "pci/registers.h"

unsigned vd_pci_msi_bytes(unsigned control)
{
	unsigned bytes = control & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 + 2 : PCI_MSI_DATA_32 + 2;

	/* Two bytes are left out, then come mask and pending bits. */
	return control & PCI_MSI_FLAGS_MASKBIT ? bytes + 2 + 4 + 4 : bytes;
}

static void lock(struct vd_pci_msi *msi)
{
	msi->env->lock(msi->env, &msi->lock);
}

static void unlock(struct vd_pci_msi *msi)
{
	msi->env->unlock(msi->env, &msi->lock);
}

void vd_pci_msi_init(struct vd_pci_msi *msi, const struct vd_env *env)
{
	msi->env = env;
	if (msi->count)
		env->lock_init(env, &msi->lock);
}

void vd_pci_msi_fini(struct vd_pci_msi *msi)
{
	if (msi->count)
		msi->env->lock_destroy(msi->env, &msi->lock);
}

void vd_pci_msi_reset(struct vd_pci_msi *msi)
{
	if (!msi->count)
		return;
	lock(msi);
	msi->enabled = msi->bus_master = false;
	msi->mask = msi->pending = 0;
	unlock(msi);
}

/* ---- messages, with the lock held ---- */

static bool can_send(const struct vd_pci_msi *msi, unsigned vector)
{
	return msi->enabled && msi->bus_master && !(msi->mask >> vector & 1);
}

/* The low bits of the data tell the vectors apart (6.8.1.6). */
static void send(struct vd_pci_msi *msi, unsigned vector)
{
	atomic_fetch_add_explicit(msi->messages, 1, memory_order_relaxed);
	msi->msi(msi->context, msi->address, (msi->data & ~(msi->allowed - 1)) | vector);
}

static void send_pending(struct vd_pci_msi *msi)
{
	for (unsigned i = 0; i < msi->count && msi->pending; i++) {
		if (!(msi->pending >> i & 1) || !can_send(msi, i))
			continue;
		msi->pending &= ~(UINT32_C(1) << i);
		send(msi, i);
	}
}

/* Who was given fewer vectors than it has must make do with them (6.8.1.3). */
void vd_pci_msi_sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct vd_pci_msi *msi = context;

	(void)index;
	if (!level || vector >= msi->count)
		return;
	lock(msi);
	if (!msi->enabled) {
		atomic_fetch_add_explicit(msi->dropped, 1, memory_order_relaxed);
	} else {
		vector &= msi->allowed - 1;
		if (can_send(msi, vector))
			send(msi, vector);
		else
			msi->pending |= UINT32_C(1) << vector;
	}
	unlock(msi);
}

/* ---- registers ---- */

static void take_registers(struct vd_pci_msi *msi, const uint8_t *registers)
{
	unsigned control = vd_pci_get16(registers + PCI_MSI_FLAGS);
	bool wide = msi->control & PCI_MSI_FLAGS_64BIT;

	msi->enabled = control & PCI_MSI_FLAGS_ENABLE;
	msi->allowed = 1u << ((control & PCI_MSI_FLAGS_QSIZE) >> 4);
	/* More than it asked for is not for it to have. */
	if (msi->allowed > msi->count)
		msi->allowed = msi->count;
	msi->address = vd_pci_get32(registers + PCI_MSI_ADDRESS_LO) & ~UINT32_C(3);
	if (wide)
		msi->address |= (uint64_t)vd_pci_get32(registers + PCI_MSI_ADDRESS_HI) << 32;
	msi->data = vd_pci_get16(registers + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32));
	if (msi->control & PCI_MSI_FLAGS_MASKBIT)
		msi->mask = vd_pci_get32(registers + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32));
}

void vd_pci_msi_update(struct vd_pci_msi *msi, const uint8_t *registers)
{
	if (!msi->count)
		return;
	lock(msi);
	take_registers(msi, registers);
	/* What waited belongs to the configuration that is given up. */
	if (!msi->enabled)
		msi->pending = 0;
	send_pending(msi);
	unlock(msi);
}

void vd_pci_msi_bus_master(struct vd_pci_msi *msi, bool on)
{
	if (!msi->count)
		return;
	lock(msi);
	msi->bus_master = on;
	send_pending(msi);
	unlock(msi);
}

uint32_t vd_pci_msi_pending(struct vd_pci_msi *msi)
{
	uint32_t pending;

	if (!msi->count || !(msi->control & PCI_MSI_FLAGS_MASKBIT))
		return 0;
	lock(msi);
	pending = msi->pending;
	unlock(msi);
	return pending;
}

/* ---- saving and loading ---- */

void vd_pci_msi_save(struct vd_pci_msi *msi, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, msi->count);
	if (!msi->count)
		return;
	lock(msi);
	vd_stream_put_u64(stream, msi->pending);
	unlock(msi);
}

bool vd_pci_msi_load(struct vd_pci_msi *msi, struct vd_stream *stream, bool take)
{
	uint64_t pending;

	if (vd_stream_get_u64(stream) != msi->count || stream->failed)
		return false;
	if (!msi->count)
		return true;
	pending = vd_stream_get_u64(stream);
	if (stream->failed || pending >> msi->count)
		return false;
	if (!take)
		return true;
	lock(msi);
	msi->pending = msi->enabled ? (uint32_t)pending : 0;
	send_pending(msi);
	unlock(msi);
	return true;
}
