/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest's own page tables are to shadow paging: a shape, and functions that decode one
 * entry. Encoding is needed for accessed and dirty only. Entries are the guest's, and hostile.
 *
 * Levels are numbered as in format.h: 0 maps single pages, levels - 1 is the root.
 */
#ifndef MMU_GUEST_FORMAT_H
#define MMU_GUEST_FORMAT_H

#include <viaduct/shadow.h>

#include "mmu/format.h"

#define VD_GUEST_PAGE_SHIFT 12u /* of tables and of the smallest leaf, in all formats */
#define VD_GUEST_ACCESS_ALL (VD_READ | VD_WRITE | VD_EXECUTE | VD_SHADOW_USER)

/* Bits of vd_guest_format.flags. */
#define VD_GUEST_SIGNED 1u	 /* addresses are sign-extended from the top bit translated */
#define VD_GUEST_USER_CODE 2u	 /* VD_SHADOW_USER_CODE means something */
#define VD_GUEST_ALWAYS_UPDATE 4u /* accessed and dirty are always set by the processor */
#define VD_GUEST_ANYONE 8u	 /* user and supervisor mode are alike */

/*
 * @address: of the table or the block
 * @access: VD_READ, VD_WRITE, VD_EXECUTE, VD_SHADOW_USER: what this level allows
 * @accessed: false also for a table that has such a bit, and it is clear
 */
struct vd_guest_entry {
	enum vd_mmu_entry_kind kind;
	uint64_t address;
	unsigned access;
	bool accessed, dirty;
};

/*
 * @levels: 0 for a guest whose MMU is off
 * @entry_bytes: 4 or 8
 * @input_bits: of addresses translated
 * @address_mask: bits of the root's address that count
 * @decode: never VD_MMU_TABLE at level 0, nor VD_MMU_LEAF where no leaf can be
 * @used: the entry with accessed set, and dirty if it is a leaf and @access has VD_WRITE
 */
struct vd_guest_format {
	const char *name;
	unsigned flags;
	unsigned levels;
	unsigned entry_bytes;
	unsigned input_bits;
	uint64_t address_mask;
	unsigned char shift[VD_MMU_LEVELS_MAX];
	unsigned char bits[VD_MMU_LEVELS_MAX];
	struct vd_guest_entry (*decode)(uint64_t entry, unsigned level);
	uint64_t (*used)(uint64_t entry, unsigned access, unsigned level, bool leaf);
};

static inline unsigned vd_guest_index(const struct vd_guest_format *format, unsigned level,
				      uint64_t gva)
{
	return (unsigned)(gva >> format->shift[level]) & ((1u << format->bits[level]) - 1);
}

static inline bool vd_guest_canonical(const struct vd_guest_format *format, uint64_t gva)
{
	unsigned unused = 64 - format->input_bits;

	if (format->flags & VD_GUEST_SIGNED)
		return (uint64_t)((int64_t)(gva << unused) >> unused) == gva;
	return unused == 0 || gva >> format->input_bits == 0;
}

/*
 * Whether an access may go by what an entry, or a whole way, allows. The same for the guest's own
 * entries and for those of a shadow.
 */
static inline bool vd_guest_permits(const struct vd_guest_format *format, unsigned allowed,
				    unsigned access)
{
	if (format->flags & VD_GUEST_ANYONE) {
		access &= VD_READ | VD_WRITE | VD_EXECUTE;
	} else if (allowed & VD_SHADOW_USER) {
		if (!(access & VD_SHADOW_USER)) {
			if ((access & VD_EXECUTE) && !((access & VD_SHADOW_USER_CODE) &&
						       (format->flags & VD_GUEST_USER_CODE)))
				return false;
			if ((access & (VD_READ | VD_WRITE)) && !(access & VD_SHADOW_SUM))
				return false;
		}
	} else if (access & VD_SHADOW_USER) {
		return false;
	}
	if ((access & VD_SHADOW_MXR) && (allowed & VD_EXECUTE))
		allowed |= VD_READ;
	if ((access & VD_SHADOW_NO_WP) && !(access & VD_SHADOW_USER))
		allowed |= VD_WRITE;
	return !(access & (VD_READ | VD_WRITE | VD_EXECUTE) & ~allowed);
}

#endif
