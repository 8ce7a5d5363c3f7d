/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IEEE 754 arithmetic in integers.
 *
 * Every operation has the same three steps: unpack the operands into normalized numbers, compute an
 * exact (or sticky-bit) result of up to 128 bits, round that once in vd_fp_round_pack(). A *sticky*
 * lowest bit stands for everything below it that was not zero: it keeps a value off a tie and off
 * exactness without carrying the lost bits along.
 */
#include "vcpu/riscv/fp_soft.h"

#include "vcpu/riscv/fp.h"

__extension__ typedef unsigned __int128 vd_fp_u128;

const struct vd_fp_format vd_fp_single = {
	.width = 32, .precision = 24, .emax = 127, .nan = VD_FP_NAN_S,
};
const struct vd_fp_format vd_fp_double = {
	.width = 64, .precision = 53, .emax = 1023, .nan = VD_FP_NAN_D,
};

enum vd_fp_kind {
	VD_FP_ZERO,
	VD_FP_FINITE,
	VD_FP_INFINITE,
	VD_FP_QUIET,
	VD_FP_SIGNALLING,
};

/* A finite value is sig * 2^(exp - 63), bit 63 of sig set. */
struct vd_fp_num {
	enum vd_fp_kind kind;
	bool sign;
	int exp;
	uint64_t sig;
};

/* sig * 2^(exp - 126): bit 127 is headroom for the carry of an addition. */
struct vd_fp_wide {
	bool sign;
	int exp;
	vd_fp_u128 sig;
};

static uint64_t vd_fp_infinity(const struct vd_fp_format *fmt, bool sign)
{
	uint64_t biased = 2 * (uint64_t)fmt->emax + 1;

	return (uint64_t)sign << (fmt->width - 1) | biased << (fmt->precision - 1);
}

static uint64_t vd_fp_zero(const struct vd_fp_format *fmt, bool sign)
{
	return (uint64_t)sign << (fmt->width - 1);
}

/* Fields of an encoding: sign, biased exponent, fraction of precision - 1 bits. */
static struct vd_fp_num vd_fp_unpack(const struct vd_fp_format *fmt, uint64_t bits)
{
	unsigned int fraction_bits = fmt->precision - 1;
	unsigned int biased_max = 2 * (unsigned int)fmt->emax + 1;
	unsigned int biased = (unsigned int)(bits >> fraction_bits) & biased_max;
	uint64_t fraction = bits & ((UINT64_C(1) << fraction_bits) - 1);
	struct vd_fp_num num = { .sign = bits >> (fmt->width - 1) & 1 };

	if (biased == biased_max && fraction) {
		num.kind = fraction >> (fraction_bits - 1) ? VD_FP_QUIET : VD_FP_SIGNALLING;
	} else if (biased == biased_max) {
		num.kind = VD_FP_INFINITE;
	} else if (biased) {
		num.kind = VD_FP_FINITE;
		num.exp = (int)biased - fmt->emax;
		num.sig = (UINT64_C(1) << fraction_bits | fraction) << (63 - fraction_bits);
	} else if (fraction) {
		int shift = __builtin_clzll(fraction);

		num.kind = VD_FP_FINITE;
		num.exp = 1 - fmt->emax + (63 - (int)fraction_bits) - shift;
		num.sig = fraction << shift;
	} else {
		num.kind = VD_FP_ZERO;
	}
	return num;
}

static bool vd_fp_is_nan(struct vd_fp_num num)
{
	return num.kind >= VD_FP_QUIET;
}

static uint64_t vd_fp_invalid(const struct vd_fp_format *fmt, unsigned int *fflags)
{
	*fflags |= VD_FP_NV;
	return fmt->nan;
}

/* The result of arithmetic with a NaN operand; quiet ones do not raise anything. */
static uint64_t vd_fp_propagate(const struct vd_fp_format *fmt, struct vd_fp_num a,
				struct vd_fp_num b, unsigned int *fflags)
{
	if (a.kind == VD_FP_SIGNALLING || b.kind == VD_FP_SIGNALLING)
		*fflags |= VD_FP_NV;
	return fmt->nan;
}

static uint64_t vd_fp_shift_right_sticky(uint64_t value, unsigned int count)
{
	if (count == 0)
		return value;
	if (count > 63)
		return value != 0;
	return value >> count | (value << (64 - count) != 0);
}

static vd_fp_u128 vd_fp_shift_right_sticky_wide(vd_fp_u128 value, unsigned int count)
{
	if (count == 0)
		return value;
	if (count > 127)
		return value != 0;
	return value >> count | (value << (128 - count) != 0);
}

/* Whether the bits below one unit in the last place, half being one half of it, round up. */
static bool vd_fp_rounds_up(bool sign, bool odd, uint64_t rest, uint64_t half, unsigned int rm)
{
	switch (rm) {
	case VD_FP_RNE:
		return rest > half || (rest == half && odd);
	case VD_FP_RMM:
		return rest >= half;
	case VD_FP_RDN:
		return sign && rest;
	case VD_FP_RUP:
		return !sign && rest;
	default:
		return false;
	}
}

static uint64_t vd_fp_overflow(const struct vd_fp_format *fmt, bool sign, unsigned int rm,
			       unsigned int *fflags)
{
	bool to_infinity = vd_fp_rounds_up(sign, true, 3, 2, rm);

	*fflags |= VD_FP_OF | VD_FP_NX;
	return vd_fp_infinity(fmt, sign) - !to_infinity;
}

/* Encode sig * 2^(exp - 63), bit 63 of sig set and bit 0 sticky. */
static uint64_t vd_fp_round_pack(const struct vd_fp_format *fmt, bool sign, int exp, uint64_t sig,
				 unsigned int rm, unsigned int *fflags)
{
	unsigned int drop = 64 - fmt->precision;
	uint64_t half = UINT64_C(1) << (drop - 1);
	uint64_t mask = 2 * half - 1;
	uint64_t kept = sig >> drop;
	int emin = 1 - fmt->emax;
	bool tiny = false;

	if (exp < emin) {
		/* Not tiny if an unbounded exponent would let it round up to the least normal. */
		tiny = exp < emin - 1 || kept != (UINT64_C(1) << fmt->precision) - 1 ||
		       !vd_fp_rounds_up(sign, true, sig & mask, half, rm);
		sig = vd_fp_shift_right_sticky(sig, (unsigned int)(emin - exp));
		kept = sig >> drop;
		exp = emin;
	}
	if (sig & mask) {
		*fflags |= tiny ? VD_FP_NX | VD_FP_UF : VD_FP_NX;
		kept += vd_fp_rounds_up(sign, kept & 1, sig & mask, half, rm);
	}
	/*
	 * A carry out of the fraction moves into the exponent by itself, as does the hidden bit,
	 * which is missing from a subnormal: hence the exponent one less than biased.
	 */
	kept += (uint64_t)(exp - emin) << (fmt->precision - 1);
	if (kept >= vd_fp_infinity(fmt, false))
		return vd_fp_overflow(fmt, sign, rm, fflags);
	return vd_fp_zero(fmt, sign) | kept;
}

static uint64_t vd_fp_round_pack_wide(const struct vd_fp_format *fmt, struct vd_fp_wide wide,
				      unsigned int rm, unsigned int *fflags)
{
	uint64_t high = (uint64_t)(wide.sig >> 64);
	int shift = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)wide.sig);
	vd_fp_u128 sig = wide.sig << shift;

	return vd_fp_round_pack(fmt, wide.sign, wide.exp + 1 - shift,
				(uint64_t)(sig >> 64) | ((uint64_t)sig != 0), rm, fflags);
}

static struct vd_fp_wide vd_fp_widen(struct vd_fp_num num)
{
	return (struct vd_fp_wide){ num.sign, num.exp, (vd_fp_u128)num.sig << 63 };
}

/* Exact: the lowest bit shifted out is zero, as significands have 53 bits of 64. */
static struct vd_fp_wide vd_fp_product(struct vd_fp_num a, struct vd_fp_num b)
{
	return (struct vd_fp_wide){
		.sign = a.sign ^ b.sign,
		.exp = a.exp + b.exp + 1,
		.sig = (vd_fp_u128)a.sig * b.sig >> 1,
	};
}

/*
 * The sum, with a sticky bit. Bits are lost only from an operand so much smaller that the sum keeps
 * all but its two highest bits, so the sticky bit stays far below the last place.
 */
static uint64_t vd_fp_add_wide(const struct vd_fp_format *fmt, struct vd_fp_wide a,
			       struct vd_fp_wide b, unsigned int rm, unsigned int *fflags)
{
	if (a.exp < b.exp) {
		struct vd_fp_wide swap = a;

		a = b;
		b = swap;
	}
	b.sig = vd_fp_shift_right_sticky_wide(b.sig, (unsigned int)(a.exp - b.exp));
	if (a.sign == b.sign) {
		a.sig += b.sig;
	} else if (a.sig > b.sig) {
		a.sig -= b.sig;
	} else if (a.sig < b.sig) {
		a.sig = b.sig - a.sig;
		a.sign = b.sign;
	} else {
		return vd_fp_zero(fmt, rm == VD_FP_RDN);
	}
	return vd_fp_round_pack_wide(fmt, a, rm, fflags);
}

/* The sum of two zeros. */
static uint64_t vd_fp_add_zeros(const struct vd_fp_format *fmt, bool a, bool b, unsigned int rm)
{
	return vd_fp_zero(fmt, a == b ? a : rm == VD_FP_RDN);
}

uint64_t vd_fp_soft_add(const struct vd_fp_format *fmt, uint64_t a_bits, uint64_t b_bits,
			unsigned int rm, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_num b = vd_fp_unpack(fmt, b_bits);

	if (vd_fp_is_nan(a) || vd_fp_is_nan(b))
		return vd_fp_propagate(fmt, a, b, fflags);
	if (a.kind == VD_FP_INFINITE && b.kind == VD_FP_INFINITE && a.sign != b.sign)
		return vd_fp_invalid(fmt, fflags);
	if (a.kind == VD_FP_ZERO && b.kind == VD_FP_ZERO)
		return vd_fp_add_zeros(fmt, a.sign, b.sign, rm);
	if (a.kind == VD_FP_INFINITE || b.kind == VD_FP_ZERO)
		return a_bits;
	if (b.kind == VD_FP_INFINITE || a.kind == VD_FP_ZERO)
		return b_bits;
	return vd_fp_add_wide(fmt, vd_fp_widen(a), vd_fp_widen(b), rm, fflags);
}

uint64_t vd_fp_soft_mul(const struct vd_fp_format *fmt, uint64_t a_bits, uint64_t b_bits,
			unsigned int rm, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_num b = vd_fp_unpack(fmt, b_bits);
	bool sign = a.sign ^ b.sign;

	if (vd_fp_is_nan(a) || vd_fp_is_nan(b))
		return vd_fp_propagate(fmt, a, b, fflags);
	if (a.kind == VD_FP_INFINITE || b.kind == VD_FP_INFINITE) {
		if (a.kind == VD_FP_ZERO || b.kind == VD_FP_ZERO)
			return vd_fp_invalid(fmt, fflags);
		return vd_fp_infinity(fmt, sign);
	}
	if (a.kind == VD_FP_ZERO || b.kind == VD_FP_ZERO)
		return vd_fp_zero(fmt, sign);
	return vd_fp_round_pack_wide(fmt, vd_fp_product(a, b), rm, fflags);
}

uint64_t vd_fp_soft_fma(const struct vd_fp_format *fmt, uint64_t a_bits, uint64_t b_bits,
			uint64_t c_bits, unsigned int rm, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_num b = vd_fp_unpack(fmt, b_bits);
	struct vd_fp_num c = vd_fp_unpack(fmt, c_bits);
	bool sign = a.sign ^ b.sign;
	bool infinite = a.kind == VD_FP_INFINITE || b.kind == VD_FP_INFINITE;
	bool zero = a.kind == VD_FP_ZERO || b.kind == VD_FP_ZERO;

	if (vd_fp_is_nan(a) || vd_fp_is_nan(b)) {
		if (c.kind == VD_FP_SIGNALLING)
			*fflags |= VD_FP_NV;
		return vd_fp_propagate(fmt, a, b, fflags);
	}
	/* Infinity times zero is invalid even if a quiet NaN is added to it ("F", FMADD). */
	if (infinite && zero)
		return vd_fp_invalid(fmt, fflags);
	if (vd_fp_is_nan(c))
		return vd_fp_propagate(fmt, c, c, fflags);
	if (infinite && c.kind == VD_FP_INFINITE && sign != c.sign)
		return vd_fp_invalid(fmt, fflags);
	if (infinite)
		return vd_fp_infinity(fmt, sign);
	if (zero && c.kind == VD_FP_ZERO)
		return vd_fp_add_zeros(fmt, sign, c.sign, rm);
	if (zero || c.kind == VD_FP_INFINITE)
		return c_bits;
	if (c.kind == VD_FP_ZERO)
		return vd_fp_round_pack_wide(fmt, vd_fp_product(a, b), rm, fflags);
	return vd_fp_add_wide(fmt, vd_fp_product(a, b), vd_fp_widen(c), rm, fflags);
}

uint64_t vd_fp_soft_div(const struct vd_fp_format *fmt, uint64_t a_bits, uint64_t b_bits,
			unsigned int rm, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_num b = vd_fp_unpack(fmt, b_bits);
	struct vd_fp_wide quotient = { .sign = a.sign ^ b.sign };
	vd_fp_u128 dividend;

	if (vd_fp_is_nan(a) || vd_fp_is_nan(b))
		return vd_fp_propagate(fmt, a, b, fflags);
	if (a.kind == b.kind && a.kind != VD_FP_FINITE)
		return vd_fp_invalid(fmt, fflags);
	if (a.kind == VD_FP_INFINITE)
		return vd_fp_infinity(fmt, quotient.sign);
	if (a.kind == VD_FP_ZERO || b.kind == VD_FP_INFINITE)
		return vd_fp_zero(fmt, quotient.sign);
	if (b.kind == VD_FP_ZERO) {
		*fflags |= VD_FP_DZ;
		return vd_fp_infinity(fmt, quotient.sign);
	}
	/* 63 or 64 bits of quotient, and a sticky bit below them. */
	dividend = (vd_fp_u128)a.sig << 63;
	quotient.sig = dividend / b.sig << 1 | (dividend % b.sig != 0);
	quotient.exp = a.exp - b.exp + 62;
	return vd_fp_round_pack_wide(fmt, quotient, rm, fflags);
}

/* The integer root, bit by bit, with a sticky bit below it. */
static vd_fp_u128 vd_fp_root(vd_fp_u128 square)
{
	vd_fp_u128 root = 0, rest = square;

	for (int bit = 126; bit >= 0; bit -= 2) {
		vd_fp_u128 trial = root + ((vd_fp_u128)1 << bit);

		root >>= 1;
		if (rest >= trial) {
			rest -= trial;
			root += (vd_fp_u128)1 << bit;
		}
	}
	return root << 1 | (rest != 0);
}

uint64_t vd_fp_soft_sqrt(const struct vd_fp_format *fmt, uint64_t a_bits, unsigned int rm,
			 unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_wide root = { .sign = false };
	int odd = a.exp & 1;

	if (vd_fp_is_nan(a))
		return vd_fp_propagate(fmt, a, a, fflags);
	if (a.kind == VD_FP_ZERO)
		return a_bits;
	if (a.sign)
		return vd_fp_invalid(fmt, fflags);
	if (a.kind == VD_FP_INFINITE)
		return a_bits;
	/* The square is a * 2^(126 - even exponent), so its root has 64 bits. */
	root.sig = vd_fp_root((vd_fp_u128)a.sig << (63 + odd));
	root.exp = (a.exp - odd) / 2 + 62;
	return vd_fp_round_pack_wide(fmt, root, rm, fflags);
}

uint64_t vd_fp_soft_convert(const struct vd_fp_format *to, const struct vd_fp_format *from,
			    uint64_t a_bits, unsigned int rm, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(from, a_bits);

	if (vd_fp_is_nan(a))
		return vd_fp_propagate(to, a, a, fflags);
	if (a.kind == VD_FP_INFINITE)
		return vd_fp_infinity(to, a.sign);
	if (a.kind == VD_FP_ZERO)
		return vd_fp_zero(to, a.sign);
	return vd_fp_round_pack(to, a.sign, a.exp, a.sig, rm, fflags);
}

/*
 * Comparisons go by encodings: with the magnitude negated under a sign they order like integers,
 * and the two zeros are equal.
 */
static int64_t vd_fp_order(const struct vd_fp_format *fmt, uint64_t bits)
{
	uint64_t sign = UINT64_C(1) << (fmt->width - 1);

	return bits & sign ? -(int64_t)(bits & ~sign) : (int64_t)bits;
}

static bool vd_fp_unordered(const struct vd_fp_format *fmt, uint64_t a_bits, uint64_t b_bits,
			    bool quiet, unsigned int *fflags)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	struct vd_fp_num b = vd_fp_unpack(fmt, b_bits);

	if (!vd_fp_is_nan(a) && !vd_fp_is_nan(b))
		return false;
	if (!quiet || a.kind == VD_FP_SIGNALLING || b.kind == VD_FP_SIGNALLING)
		*fflags |= VD_FP_NV;
	return true;
}

bool vd_fp_soft_eq(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags)
{
	return !vd_fp_unordered(fmt, a, b, true, fflags) &&
	       vd_fp_order(fmt, a) == vd_fp_order(fmt, b);
}

bool vd_fp_soft_lt(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags)
{
	return !vd_fp_unordered(fmt, a, b, false, fflags) &&
	       vd_fp_order(fmt, a) < vd_fp_order(fmt, b);
}

bool vd_fp_soft_le(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, unsigned int *fflags)
{
	return !vd_fp_unordered(fmt, a, b, false, fflags) &&
	       vd_fp_order(fmt, a) <= vd_fp_order(fmt, b);
}

static uint64_t vd_fp_pick(const struct vd_fp_format *fmt, uint64_t a, uint64_t b, bool larger,
			   unsigned int *fflags)
{
	bool first;

	if (vd_fp_unordered(fmt, a, b, true, fflags)) {
		if (!vd_fp_is_nan(vd_fp_unpack(fmt, a)))
			return a;
		return vd_fp_is_nan(vd_fp_unpack(fmt, b)) ? fmt->nan : b;
	}
	/* Equal values are the same encoding, or zeros: there the sign decides. */
	if (vd_fp_order(fmt, a) == vd_fp_order(fmt, b))
		return larger ? a & b : a | b;
	first = vd_fp_order(fmt, a) < vd_fp_order(fmt, b);
	return first != larger ? a : b;
}

uint64_t vd_fp_soft_min(const struct vd_fp_format *fmt, uint64_t a, uint64_t b,
			unsigned int *fflags)
{
	return vd_fp_pick(fmt, a, b, false, fflags);
}

uint64_t vd_fp_soft_max(const struct vd_fp_format *fmt, uint64_t a, uint64_t b,
			unsigned int *fflags)
{
	return vd_fp_pick(fmt, a, b, true, fflags);
}

unsigned int vd_fp_soft_classify(const struct vd_fp_format *fmt, uint64_t bits)
{
	struct vd_fp_num a = vd_fp_unpack(fmt, bits);

	switch (a.kind) {
	case VD_FP_INFINITE:
		return a.sign ? 1u << 0 : 1u << 7;
	case VD_FP_FINITE:
		if (a.exp < 1 - fmt->emax)
			return a.sign ? 1u << 2 : 1u << 5;
		return a.sign ? 1u << 1 : 1u << 6;
	case VD_FP_ZERO:
		return a.sign ? 1u << 3 : 1u << 4;
	case VD_FP_SIGNALLING:
		return 1u << 8;
	default:
		return 1u << 9;
	}
}

/* The end of the integer type's range on one side, as a 64-bit pattern. */
static uint64_t vd_fp_int_limit(struct vd_fp_int to, bool negative)
{
	uint64_t top = UINT64_C(1) << (to.width - 1);

	if (to.is_signed)
		return negative ? -top : top - 1;
	return negative ? 0 : UINT64_MAX;
}

uint64_t vd_fp_soft_to_int(const struct vd_fp_format *fmt, uint64_t a_bits, struct vd_fp_int to,
			   unsigned int rm, unsigned int *fflags)
{
	const uint64_t half = UINT64_C(1) << 63;
	struct vd_fp_num a = vd_fp_unpack(fmt, a_bits);
	bool negative = a.sign && !vd_fp_is_nan(a);
	uint64_t whole = 0, rest = 0, largest;

	if (a.kind == VD_FP_ZERO)
		return 0;
	if (a.kind != VD_FP_FINITE || a.exp > 63) {
		*fflags |= VD_FP_NV;
		return vd_fp_int_limit(to, negative);
	}
	if (a.exp >= 0)
		whole = a.sig >> (63 - a.exp);
	if (a.exp < 63)
		rest = a.exp >= 0 ? a.sig << (a.exp + 1) :
				    vd_fp_shift_right_sticky(a.sig, (unsigned int)(-1 - a.exp));
	/* No wrap: a whole part of 64 bits has no rest. */
	whole += vd_fp_rounds_up(a.sign, whole & 1, rest, half, rm);

	largest = UINT64_MAX >> (64 - to.width + to.is_signed);
	if (negative)
		largest = to.is_signed ? largest + 1 : 0;
	if (whole > largest) {
		*fflags |= VD_FP_NV;
		return vd_fp_int_limit(to, negative);
	}
	if (rest)
		*fflags |= VD_FP_NX;
	whole = negative ? -whole : whole;
	return to.width == 32 ? (uint64_t)(int32_t)whole : whole;
}

uint64_t vd_fp_soft_from_int(const struct vd_fp_format *fmt, uint64_t a, struct vd_fp_int from,
			     unsigned int rm, unsigned int *fflags)
{
	bool negative;
	int shift;

	if (from.width == 32)
		a = from.is_signed ? (uint64_t)(int32_t)a : (uint32_t)a;
	negative = from.is_signed && a >> 63;
	if (negative)
		a = -a;
	if (a == 0)
		return 0;
	shift = __builtin_clzll(a);
	return vd_fp_round_pack(fmt, negative, 63 - shift, a << shift, rm, fflags);
}
