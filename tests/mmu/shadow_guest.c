/* SPDX-License-Identifier: BSD-2-Clause */
#include "shadow_guest.h"

const struct guest_kind guest_kinds[] = {
	{&vd_guest_format_sv39, true, 3},     {&vd_guest_format_sv48, true, 4},
	{&vd_guest_format_sv57, true, 5},     {&vd_guest_format_x86_32, false, 2},
	{&vd_guest_format_x86_pae, false, 2}, {&vd_guest_format_x86_64, false, 3},
	{&vd_guest_format_x86_64_la57, false, 3},
};
const unsigned guest_kind_count = sizeof(guest_kinds) / sizeof(guest_kinds[0]);

#define BIT(n) (1ull << (n))

static bool is_pae_pointer(const struct guest_kind *kind, unsigned level)
{
	return kind->format == &vd_guest_format_x86_pae && level == 2;
}

uint64_t guest_table(const struct guest_kind *kind, uint64_t address, unsigned level)
{
	if (kind->riscv)
		return address >> 2 | 1;
	return address | (is_pae_pointer(kind, level) ? 1 : 7);
}

uint64_t guest_leaf(const struct guest_kind *kind, uint64_t address, unsigned access,
		    unsigned bits, unsigned level)
{
	uint64_t high;

	if (kind->riscv)
		return address >> 2 | 1 | (access & VD_READ ? BIT(1) : 0) |
		       (access & VD_WRITE ? BIT(2) : 0) | (access & VD_EXECUTE ? BIT(3) : 0) |
		       (access & VD_SHADOW_USER ? BIT(4) : 0) | (bits & GUEST_A ? BIT(6) : 0) |
		       (bits & GUEST_D ? BIT(7) : 0);
	high = access & VD_EXECUTE || kind->format->entry_bytes == 4 ? 0 : BIT(63);
	return address | 1 | (access & VD_WRITE ? BIT(1) : 0) |
	       (access & VD_SHADOW_USER ? BIT(2) : 0) | (bits & GUEST_A ? BIT(5) : 0) |
	       (bits & GUEST_D ? BIT(6) : 0) | (level ? BIT(7) : 0) | high;
}

/* What one entry says. */
struct meaning {
	bool present, bad, leaf, has_a;
	uint64_t address;
	unsigned access;
};

static struct meaning riscv_meaning(uint64_t e, unsigned level)
{
	struct meaning m = {.present = e & 1, .address = e >> 10 << 12 & (BIT(56) - 1)};

	m.leaf = e & (BIT(1) | BIT(3));
	m.has_a = m.leaf;
	m.bad = e >> 54 || ((e & BIT(2)) && !(e & BIT(1)));
	if (m.leaf && m.address % BIT(12 + 9 * level))
		m.bad = true;
	if (!m.leaf && (level == 0 || e & (BIT(4) | BIT(6) | BIT(7))))
		m.bad = true;
	m.access = !m.leaf ? 15u
			   : (unsigned)((e >> 1 & 1) | (e >> 2 & 1) << 1 | (e >> 3 & 1) << 2 |
					(e >> 4 & 1) << 3);
	return m;
}

static struct meaning x86_meaning(const struct guest_kind *kind, uint64_t e, unsigned level)
{
	bool narrow = kind->format->entry_bytes == 4;
	bool pae = kind->format == &vd_guest_format_x86_pae;
	struct meaning m = {.present = e & 1, .address = e & (BIT(52) - BIT(12)), .has_a = true};

	m.leaf = level == 0 || e & BIT(7);
	m.access = VD_READ | (e & BIT(1) ? VD_WRITE : 0) | (e >> 63 ? 0 : VD_EXECUTE) |
		   (e & BIT(2) ? VD_SHADOW_USER : 0);
	if (pae && (e >> 52 & 0x7ff))
		m.bad = true;
	if (pae && level == 2) {
		m.leaf = m.has_a = false;
		m.bad |= e >> 52 || e & 0x1e6;
		m.access = 15;
	} else if (m.leaf && level && narrow) {
		m.bad = e & BIT(21);
		m.address = (e & ~(BIT(22) - 1)) | (e >> 13 & 255) << 32;
	} else if (m.leaf && level) {
		m.bad |= level > 2 || m.address % BIT(12 + 9 * level) / BIT(13);
		m.address -= m.address % BIT(12 + 9 * level);
	}
	return m;
}

static bool may(const struct guest_kind *kind, unsigned allowed, unsigned access)
{
	bool user = access & VD_SHADOW_USER, user_page = allowed & VD_SHADOW_USER;

	if (user && !user_page)
		return false;
	if (access & VD_EXECUTE) {
		if (!user && user_page && (kind->riscv || !(access & VD_SHADOW_USER_CODE)))
			return false;
		if (!(allowed & VD_EXECUTE))
			return false;
	}
	if (access & (VD_READ | VD_WRITE) && !user && user_page && !(access & VD_SHADOW_SUM))
		return false;
	if (access & VD_READ && !(allowed & VD_READ) &&
	    !(access & VD_SHADOW_MXR && allowed & VD_EXECUTE))
		return false;
	return !(access & VD_WRITE) || allowed & VD_WRITE || (access & VD_SHADOW_NO_WP && !user);
}

static void finish(const struct guest_kind *kind, unsigned allowed, unsigned access,
		   struct guest_found *found)
{
	uint64_t a = kind->riscv ? BIT(6) : BIT(5), d = kind->riscv ? BIT(7) : BIT(6);
	unsigned last = found->levels - 1;

	found->result = 0;
	if (!may(kind, allowed, access)) {
		found->result = -EPERM;
		return;
	}
	for (unsigned i = 0; i < found->levels; i++) {
		if (kind->riscv ? i == last : !is_pae_pointer(kind, found->top - i))
			found->after[i] |= a;
	}
	if (access & VD_WRITE)
		found->after[last] |= d;
	found->dirty = found->after[last] & d;
	if (kind->riscv && !(access & VD_SHADOW_UPDATE) &&
	    found->after[last] != found->before[last]) {
		found->after[last] = found->before[last];
		found->result = -EPERM;
	}
}

void guest_walk_plain(const struct guest_kind *kind, uint64_t root, uint64_t gva, unsigned access,
		      int (*read)(void *context, uint64_t gpa, unsigned bytes, uint64_t *value),
		      void *context, struct guest_found *found)
{
	const struct vd_guest_format *shape = kind->format;
	unsigned allowed = 15, bytes = shape->entry_bytes;
	uint64_t table = root & shape->address_mask;

	*found = (struct guest_found){.result = -ENXIO, .top = shape->levels - 1};
	if (shape->flags & VD_GUEST_SIGNED
		    ? gva + BIT(shape->input_bits - 1) >= BIT(shape->input_bits)
		    : gva >= BIT(shape->input_bits))
		return;
	for (unsigned level = shape->levels; level-- > 0;) {
		uint64_t index = gva / BIT(shape->shift[level]) % BIT(shape->bits[level]);
		unsigned i = found->levels++;
		struct meaning m;

		found->entry_gpa[i] = table + index * bytes;
		found->result = -EADDRNOTAVAIL;
		if (read(context, found->entry_gpa[i], bytes, &found->before[i])) {
			found->levels--;
			return;
		}
		found->after[i] = found->before[i];
		m = kind->riscv ? riscv_meaning(found->before[i], level)
				: x86_meaning(kind, found->before[i], level);
		found->result = !m.present ? -ENXIO : -EBADMSG;
		if (!m.present || m.bad)
			return;
		allowed &= m.access;
		table = m.address;
		found->size = BIT(shape->shift[level]);
		if (m.leaf)
			break;
	}
	found->gpa = table + gva % found->size;
	finish(kind, allowed, access, found);
}
