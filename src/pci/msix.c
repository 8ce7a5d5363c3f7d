/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MSI-X table and its pending bits. Messages are sent with the lock held: once a guest has
 * masked a vector and read the mask back, no message of it comes any more.
 */
#include "pci/msix.h"
#include "pci/registers.h"

#define CONTROL_HIGH_ENABLE (PCI_MSIX_FLAGS_ENABLE >> 8)
#define CONTROL_HIGH_MASK (PCI_MSIX_FLAGS_MASKALL >> 8)

enum { WORD_ADDRESS, WORD_UPPER_ADDRESS, WORD_DATA, WORD_CONTROL };

/* All but the reserved bits: two of the address, all but one of the control (6.8.2.9). */
static const uint32_t word_writable[4] = {
	[WORD_ADDRESS] = ~UINT32_C(3),
	[WORD_UPPER_ADDRESS] = UINT32_MAX,
	[WORD_DATA] = UINT32_MAX,
	[WORD_CONTROL] = PCI_MSIX_ENTRY_CTRL_MASKBIT,
};

static size_t entries_size(const struct vd_pci_msix *msix)
{
	return vd_pci_msix_table_size(msix->count);
}

static size_t pending_size(const struct vd_pci_msix *msix)
{
	return vd_pci_msix_pba_size(msix->count);
}

static void lock(struct vd_pci_msix *msix)
{
	msix->env->lock(msix->env, &msix->lock);
}

static void unlock(struct vd_pci_msix *msix)
{
	msix->env->unlock(msix->env, &msix->lock);
}

static void power_on(struct vd_pci_msix *msix)
{
	msix->enabled = msix->masked = msix->bus_master = false;
	for (unsigned i = 0; i < msix->count; i++)
		msix->entries[i] =
			(struct vd_pci_msix_entry){{[WORD_CONTROL] = PCI_MSIX_ENTRY_CTRL_MASKBIT}};
	for (size_t i = 0; i < pending_size(msix) / sizeof(*msix->pending); i++)
		msix->pending[i] = 0;
}

int vd_pci_msix_init(struct vd_pci_msix *msix, const struct vd_env *env)
{
	msix->env = env;
	if (!msix->count)
		return 0;
	msix->entries = vd_env_allocate(env, "pci.msix.table", entries_size(msix),
					_Alignof(struct vd_pci_msix_entry));
	if (!msix->entries)
		return -ENOMEM;
	msix->pending = vd_env_allocate(env, "pci.msix.pending", pending_size(msix),
					_Alignof(uint64_t));
	if (!msix->pending) {
		env->release(env, msix->entries, entries_size(msix));
		return -ENOMEM;
	}
	env->lock_init(env, &msix->lock);
	power_on(msix);
	return 0;
}

void vd_pci_msix_fini(struct vd_pci_msix *msix)
{
	if (!msix->count)
		return;
	msix->env->lock_destroy(msix->env, &msix->lock);
	msix->env->release(msix->env, msix->entries, entries_size(msix));
	msix->env->release(msix->env, msix->pending, pending_size(msix));
}

void vd_pci_msix_reset(struct vd_pci_msix *msix)
{
	if (!msix->count)
		return;
	lock(msix);
	power_on(msix);
	unlock(msix);
}

/* ---- messages, with the lock held ---- */

static bool can_send(const struct vd_pci_msix *msix, unsigned vector)
{
	return msix->enabled && !msix->masked && msix->bus_master &&
	       !(msix->entries[vector].words[WORD_CONTROL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void send(struct vd_pci_msix *msix, unsigned vector)
{
	const uint32_t *words = msix->entries[vector].words;
	uint64_t address = (uint64_t)words[WORD_UPPER_ADDRESS] << 32 | words[WORD_ADDRESS];

	atomic_fetch_add_explicit(msix->messages, 1, memory_order_relaxed);
	msix->msi(msix->context, address, words[WORD_DATA]);
}

static void send_pending(struct vd_pci_msix *msix, unsigned vector)
{
	uint64_t bit = UINT64_C(1) << vector % 64;

	if (msix->pending[vector / 64] & bit && can_send(msix, vector)) {
		msix->pending[vector / 64] &= ~bit;
		send(msix, vector);
	}
}

static void send_all_pending(struct vd_pci_msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		send_pending(msix, i);
}

void vd_pci_msix_sink(void *context, enum vd_irq_index index, unsigned vector, bool level)
{
	struct vd_pci_msix *msix = context;

	(void)index;
	if (!level || vector >= msix->count)
		return;
	lock(msix);
	if (!msix->enabled)
		atomic_fetch_add_explicit(msix->dropped, 1, memory_order_relaxed);
	else if (can_send(msix, vector))
		send(msix, vector);
	else
		msix->pending[vector / 64] |= UINT64_C(1) << vector % 64;
	unlock(msix);
}

void vd_pci_msix_control(struct vd_pci_msix *msix, uint8_t high)
{
	lock(msix);
	msix->enabled = high & CONTROL_HIGH_ENABLE;
	msix->masked = high & CONTROL_HIGH_MASK;
	/* What waited belongs to the configuration that is given up. */
	for (size_t i = 0; !msix->enabled && i < pending_size(msix) / sizeof(*msix->pending); i++)
		msix->pending[i] = 0;
	send_all_pending(msix);
	unlock(msix);
}

uint8_t vd_pci_msix_control_bits(struct vd_pci_msix *msix)
{
	uint8_t bits = 0;

	lock(msix);
	if (msix->enabled)
		bits |= CONTROL_HIGH_ENABLE;
	if (msix->masked)
		bits |= CONTROL_HIGH_MASK;
	unlock(msix);
	return bits;
}

void vd_pci_msix_bus_master(struct vd_pci_msix *msix, bool on)
{
	if (!msix->count)
		return;
	lock(msix);
	msix->bus_master = on;
	send_all_pending(msix);
	unlock(msix);
}

/* ---- the table and the PBA as bytes ---- */

bool vd_pci_msix_covers(const struct vd_pci_msix *msix, unsigned bar, uint64_t offset,
			unsigned length)
{
	if (!msix->count)
		return false;
	return (bar == msix->table_bar &&
		vd_ranges_overlap(offset, length, msix->table, entries_size(msix))) ||
	       (bar == msix->pba_bar &&
		vd_ranges_overlap(offset, length, msix->pba, pending_size(msix)));
}

static uint8_t read_byte(const struct vd_pci_msix *msix, unsigned bar, uint64_t offset)
{
	uint64_t at = offset - msix->table;

	if (bar == msix->table_bar && offset >= msix->table && at < entries_size(msix))
		return (uint8_t)(msix->entries[at / VD_PCI_MSIX_ENTRY].words[at / 4 % 4] >>
				 at % 4 * 8);
	at = offset - msix->pba;
	if (bar == msix->pba_bar && offset >= msix->pba && at < pending_size(msix))
		return (uint8_t)(msix->pending[at / 8] >> at % 8 * 8);
	return 0;
}

/* The PBA is read-only. */
static void write_byte(struct vd_pci_msix *msix, unsigned bar, uint64_t offset, uint8_t value)
{
	uint64_t at = offset - msix->table;
	uint32_t *word, mask;

	if (bar != msix->table_bar || offset < msix->table || at >= entries_size(msix))
		return;
	word = &msix->entries[at / VD_PCI_MSIX_ENTRY].words[at / 4 % 4];
	mask = word_writable[at / 4 % 4] & UINT32_C(0xff) << at % 4 * 8;
	*word = (*word & ~mask) | ((uint32_t)value << at % 4 * 8 & mask);
}

uint64_t vd_pci_msix_read(struct vd_pci_msix *msix, unsigned bar, uint64_t offset, unsigned length)
{
	uint64_t value = 0;

	lock(msix);
	for (unsigned i = 0; i < length; i++)
		value |= (uint64_t)read_byte(msix, bar, offset + i) << i * 8;
	unlock(msix);
	return value;
}

void vd_pci_msix_write(struct vd_pci_msix *msix, unsigned bar, uint64_t offset, unsigned length,
		       uint64_t value)
{
	lock(msix);
	for (unsigned i = 0; i < length; i++)
		write_byte(msix, bar, offset + i, (uint8_t)(value >> i * 8));
	/*
	 * At most 8 bytes meet at most two vectors; looking at all would let a guest buy 2048 steps
	 * with each store.
	 */
	if (bar == msix->table_bar && offset + length > msix->table) {
		uint64_t at = offset > msix->table ? offset - msix->table : 0;
		uint64_t last = offset + length - 1 - msix->table;

		for (uint64_t i = at / VD_PCI_MSIX_ENTRY;
		     i <= last / VD_PCI_MSIX_ENTRY && i < msix->count; i++)
			send_pending(msix, (unsigned)i);
	}
	unlock(msix);
}

/* ---- saving and loading ---- */

void vd_pci_msix_save(struct vd_pci_msix *msix, struct vd_stream *stream)
{
	vd_stream_put_u64(stream, msix->count);
	if (!msix->count)
		return;
	lock(msix);
	vd_stream_put_u64(stream, msix->enabled);
	vd_stream_put_u64(stream, msix->masked);
	for (unsigned i = 0; i < msix->count * 4; i++)
		vd_stream_put_u64(stream, msix->entries[i / 4].words[i % 4]);
	for (size_t i = 0; i < pending_size(msix) / sizeof(*msix->pending); i++)
		vd_stream_put_u64(stream, msix->pending[i]);
	unlock(msix);
}

/* With the lock held if @take. */
static bool load_vectors(struct vd_pci_msix *msix, struct vd_stream *stream, bool take)
{
	for (unsigned i = 0; i < msix->count * 4; i++) {
		uint64_t word = vd_stream_get_u64(stream);

		if (word & ~(uint64_t)word_writable[i % 4])
			return false;
		if (take)
			msix->entries[i / 4].words[i % 4] = (uint32_t)word;
	}
	for (unsigned i = 0; i < pending_size(msix) / sizeof(*msix->pending); i++) {
		uint64_t bits = vd_stream_get_u64(stream);
		unsigned left = msix->count - 64 * i;

		if (left < 64 && bits >> left)
			return false;
		if (take)
			msix->pending[i] = bits;
	}
	return !stream->failed;
}

bool vd_pci_msix_load(struct vd_pci_msix *msix, struct vd_stream *stream, bool take)
{
	uint64_t enabled, masked;
	bool good;

	if (vd_stream_get_u64(stream) != msix->count || stream->failed)
		return false;
	if (!msix->count)
		return true;
	enabled = vd_stream_get_u64(stream);
	masked = vd_stream_get_u64(stream);
	if (stream->failed || enabled > 1 || masked > 1)
		return false;
	if (!take)
		return load_vectors(msix, stream, false);
	lock(msix);
	msix->enabled = enabled;
	msix->masked = masked;
	good = load_vectors(msix, stream, true);
	send_all_pending(msix);
	unlock(msix);
	return good;
}
