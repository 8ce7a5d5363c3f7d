/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The S-level interrupt file of an IMSIC (Advanced Interrupt Architecture, chapter "Incoming MSI
 * Controller"), 255 identities. Other threads only set pending bits; the rest is the hart's own.
 */
#include "vcpu/riscv/hart.h"

#define IDENTITIES 256u

#define IPRIO0 0x30
#define EIDELIVERY 0x70
#define EITHRESHOLD 0x72
#define EIP0 0x80
#define EIE0 0xc0

void vd_hart_msi(struct vd_hart *h, uint32_t identity)
{
	if (identity == 0 || identity >= IDENTITIES)
		return;
	atomic_fetch_or_explicit(&h->imsic.pending[identity / 64], 1ull << (identity % 64),
				 memory_order_release);
	vd_hart_request(h, REQUEST_INTERRUPT);
}

uint64_t vd_imsic_top(struct vd_hart *h)
{
	for (unsigned i = 0; i < 4; i++) {
		/*
		 * acquire: pairs with vd_hart_msi()'s release; the device's DMA before it is seen
		 */
		uint64_t ready = atomic_load_explicit(&h->imsic.pending[i], memory_order_acquire) &
				 h->imsic.enabled[i];

		if (ready) {
			uint64_t identity = 64 * i + (unsigned)__builtin_ctzll(ready);

			if (h->imsic.threshold && identity >= h->imsic.threshold)
				return 0;
			return identity << 16 | identity;
		}
	}
	return 0;
}

bool vd_imsic_signals(struct vd_hart *h)
{
	return h->imsic.delivery == 1 && vd_imsic_top(h);
}

void vd_imsic_claim(struct vd_hart *h, uint64_t identity)
{
	atomic_fetch_and_explicit(&h->imsic.pending[identity / 64 % 4],
				  ~(1ull << (identity % 64)), memory_order_acq_rel);
}

/*
 * Registers that read as zero: of the interrupt file, and the priorities of major interrupts, which
 * are fixed.
 */
static bool reads_as_zero(uint64_t select)
{
	return select == EIDELIVERY + 1 || (select > EITHRESHOLD && select < EIP0) ||
	       (select >= IPRIO0 && select < IPRIO0 + 16 && !(select & 1));
}

/* EIP and EIE arrays: with RV64 only the even registers exist. */
static int array_index(uint64_t select, uint64_t base)
{
	if (select < base || select >= base + 64 || (select & 1))
		return -1;
	return (int)((select - base) / 2);
}

bool vd_imsic_read(struct vd_hart *h, uint64_t select, uint64_t *value)
{
	int i;

	*value = 0;
	if (select == EIDELIVERY)
		*value = h->imsic.delivery;
	else if (select == EITHRESHOLD)
		*value = h->imsic.threshold;
	else if ((i = array_index(select, EIP0)) >= 0)
		*value = i < 4 ? atomic_load_explicit(&h->imsic.pending[i], memory_order_relaxed)
			       : 0;
	else if ((i = array_index(select, EIE0)) >= 0)
		*value = i < 4 ? h->imsic.enabled[i] : 0;
	else
		return reads_as_zero(select);
	return true;
}

/* Only what the instruction changes: an MSI that came after it had read the register is kept. */
static void change_pending(struct vd_hart *h, int i, uint64_t old, uint64_t value)
{
	if (i == 0)
		value &= ~1ull;
	atomic_fetch_or_explicit(&h->imsic.pending[i], value & ~old, memory_order_relaxed);
	atomic_fetch_and_explicit(&h->imsic.pending[i], ~(old & ~value), memory_order_relaxed);
}

bool vd_imsic_write(struct vd_hart *h, uint64_t select, uint64_t old, uint64_t value)
{
	int i;

	if (select == EIDELIVERY)
		h->imsic.delivery = value & 1;
	else if (select == EITHRESHOLD)
		h->imsic.threshold = value & (IDENTITIES - 1);
	else if ((i = array_index(select, EIP0)) >= 0)
		i < 4 ? change_pending(h, i, old, value) : (void)0;
	else if ((i = array_index(select, EIE0)) >= 0)
		i < 4 ? (void)(h->imsic.enabled[i] = i ? value : value & ~1ull) : (void)0;
	else
		return reads_as_zero(select);
	return true;
}
