/* SPDX-License-Identifier: BSD-2-Clause */
#include "fp_reference.h"

__extension__ typedef unsigned __int128 ref_u128;
__extension__ typedef __int128 ref_s128;

#define REF_WORDS 68
#define REF_UNIT 2176 /* bit REF_UNIT weighs one */

enum { NX = 1, UF = 2, OF = 4, DZ = 8, NV = 16 };
enum { RNE, RTZ, RDN, RUP, RMM };

const struct ref_format ref_single = { 32, 24, -126 };
const struct ref_format ref_double = { 64, 53, -1022 };

struct big {
	uint64_t word[REF_WORDS];
};

/* mantissa * 2^exponent, or one of the specials. */
struct value {
	bool nan, signalling, infinite, zero, sign;
	uint64_t mantissa;
	int exponent;
};

static bool big_bit(const struct big *x, int at)
{
	return at >= 0 && (x->word[at / 64] >> (at % 64) & 1);
}

static struct big big_shifted(ref_u128 value, int shift)
{
	struct big x = { { 0 } };

	for (int i = 0; i < 128; i++)
		if (value >> i & 1)
			x.word[(shift + i) / 64] |= UINT64_C(1) << ((shift + i) % 64);
	return x;
}

static int big_compare(const struct big *x, const struct big *y)
{
	for (int i = REF_WORDS - 1; i >= 0; i--)
		if (x->word[i] != y->word[i])
			return x->word[i] < y->word[i] ? -1 : 1;
	return 0;
}

static struct big big_add(const struct big *x, const struct big *y)
{
	struct big sum;
	ref_u128 carry = 0;

	for (int i = 0; i < REF_WORDS; i++) {
		carry += (ref_u128)x->word[i] + y->word[i];
		sum.word[i] = (uint64_t)carry;
		carry >>= 64;
	}
	return sum;
}

static struct big big_subtract(const struct big *x, const struct big *y)
{
	struct big difference;
	bool borrow = false;

	for (int i = 0; i < REF_WORDS; i++) {
		ref_u128 take = (ref_u128)y->word[i] + borrow;

		difference.word[i] = x->word[i] - (uint64_t)take;
		borrow = take > x->word[i];
	}
	return difference;
}

/* Divides in place. Return: whether a remainder is left. */
static bool big_divide(struct big *x, uint64_t divisor)
{
	ref_u128 rest = 0;

	for (int i = REF_WORDS - 1; i >= 0; i--) {
		rest = rest << 64 | x->word[i];
		x->word[i] = (uint64_t)(rest / divisor);
		rest %= divisor;
	}
	return rest != 0;
}

static int big_highest(const struct big *x)
{
	for (int i = REF_WORDS * 64 - 1; i >= 0; i--) {
		if (x->word[i / 64] == 0)
			i &= ~63;
		else if (big_bit(x, i))
			return i;
	}
	return -1;
}

static bool big_any_below(const struct big *x, int at)
{
	for (int i = 0; i < at / 64; i++)
		if (x->word[i])
			return true;
	return at > 0 && at % 64 && x->word[at / 64] << (64 - at % 64);
}

static uint64_t infinity_of(const struct ref_format *fmt, bool sign)
{
	uint64_t magnitude = fmt->width == 32 ? 0x7f800000u : UINT64_C(0x7ff0000000000000);

	return magnitude | (uint64_t)sign << (fmt->width - 1);
}

static struct ref_result special(uint64_t bits, unsigned int flags)
{
	return (struct ref_result){ bits, flags };
}

static struct ref_result nan_result(const struct ref_format *fmt, bool invalid)
{
	return special(fmt->width == 32 ? 0x7fc00000u : UINT64_C(0x7ff8000000000000),
		       invalid ? NV : 0);
}

static struct ref_result zero_result(const struct ref_format *fmt, bool sign)
{
	return special((uint64_t)sign << (fmt->width - 1), 0);
}

static struct value decode(const struct ref_format *fmt, uint64_t bits)
{
	uint64_t magnitude = bits & ~(UINT64_C(1) << (fmt->width - 1));
	uint64_t hidden = UINT64_C(1) << (fmt->precision - 1);
	uint64_t infinity = infinity_of(fmt, false);
	int biased = (int)(magnitude / hidden);
	struct value value = {
		.sign = bits != magnitude,
		.nan = magnitude > infinity,
		.signalling = magnitude > infinity && magnitude < infinity + hidden / 2,
		.infinite = magnitude == infinity,
		.zero = magnitude == 0,
		.mantissa = biased ? magnitude % hidden + hidden : magnitude,
		.exponent = fmt->emin - (int)fmt->precision + 1 + (biased ? biased - 1 : 0),
	};

	return value;
}

static bool round_away(unsigned int rm, bool sign, bool odd, bool half, bool rest)
{
	bool away[] = {
		[RNE] = half && (rest || odd),
		[RTZ] = false,
		[RDN] = sign && (half || rest),
		[RUP] = !sign && (half || rest),
		[RMM] = half,
	};

	return away[rm];
}

/* Rounds at bit position at. Return: the kept bits, as an integer. */
static uint64_t round_at(const struct big *x, bool sticky, int at, bool sign, unsigned int rm,
			 bool *inexact)
{
	bool half = big_bit(x, at - 1);
	bool rest = big_any_below(x, at - 1) || sticky;
	uint64_t kept = 0;

	for (int i = 0; i < 64; i++)
		kept |= (uint64_t)(at + i < REF_WORDS * 64 && big_bit(x, at + i)) << i;
	*inexact = half || rest;
	return kept + round_away(rm, sign, kept & 1, half, rest);
}

static struct ref_result encode(const struct ref_format *fmt, bool sign, const struct big *x,
				bool sticky, unsigned int rm)
{
	int precision = (int)fmt->precision;
	int highest = big_highest(x);
	int least = fmt->emin - precision + 1 + REF_UNIT;
	int at = highest - precision + 1 > least ? highest - precision + 1 : least;
	uint64_t hidden = UINT64_C(1) << (precision - 1);
	bool inexact, ignored, tiny;
	struct ref_result result = { 0, 0 };
	uint64_t kept = round_at(x, sticky, at, sign, rm, &inexact);
	uint64_t unbounded = round_at(x, sticky, highest - precision + 1, sign, rm, &ignored);

	tiny = highest < fmt->emin + REF_UNIT - 1 ||
	       (highest == fmt->emin + REF_UNIT - 1 && unbounded < 2 * hidden);
	if (kept == 2 * hidden) {
		kept = hidden;
		at++;
	}
	if (inexact)
		result.flags = tiny ? NX | UF : NX;
	if (kept < hidden)
		result.bits = kept;
	else
		result.bits = kept - hidden + (uint64_t)(at - least + 1) * hidden;
	if (result.bits >= infinity_of(fmt, false)) {
		result.flags = OF | NX;
		result.bits = infinity_of(fmt, false);
		if (!round_away(rm, sign, true, true, true))
			result.bits--;
	}
	result.bits |= (uint64_t)sign << (fmt->width - 1);
	return result;
}

static struct ref_result encode_sum(const struct ref_format *fmt, struct big x, bool x_sign,
				    struct big y, bool y_sign, unsigned int rm)
{
	int order = big_compare(&x, &y);
	struct big result;

	if (x_sign == y_sign) {
		result = big_add(&x, &y);
		if (big_highest(&result) < 0)
			return zero_result(fmt, x_sign);
		return encode(fmt, x_sign, &result, false, rm);
	}
	if (order == 0)
		return zero_result(fmt, rm == RDN);
	result = order > 0 ? big_subtract(&x, &y) : big_subtract(&y, &x);
	return encode(fmt, order > 0 ? x_sign : y_sign, &result, false, rm);
}

static struct big big_of(struct value v)
{
	return big_shifted(v.mantissa, v.exponent + REF_UNIT);
}

static struct ref_result add(const struct ref_format *fmt, struct value a, struct value b,
			     unsigned int rm)
{
	if (a.infinite && b.infinite && a.sign != b.sign)
		return nan_result(fmt, true);
	if (a.infinite || b.infinite)
		return special(infinity_of(fmt, a.infinite ? a.sign : b.sign), 0);
	return encode_sum(fmt, big_of(a), a.sign, big_of(b), b.sign, rm);
}

static struct ref_result fma_or_mul(const struct ref_format *fmt, struct value a, struct value b,
				    struct value c, unsigned int rm)
{
	bool sign = a.sign != b.sign;
	struct big product = big_shifted((ref_u128)a.mantissa * b.mantissa,
					 a.exponent + b.exponent + REF_UNIT);

	if ((a.infinite && b.zero) || (a.zero && b.infinite))
		return nan_result(fmt, true);
	if (a.infinite || b.infinite)
		return c.infinite && c.sign != sign ? nan_result(fmt, true) :
						      special(infinity_of(fmt, sign), 0);
	if (c.infinite)
		return special(infinity_of(fmt, c.sign), 0);
	return encode_sum(fmt, product, sign, big_of(c), c.sign, rm);
}

static struct ref_result divide(const struct ref_format *fmt, struct value a, struct value b,
				unsigned int rm)
{
	bool sign = a.sign != b.sign;
	struct big quotient;
	bool rest;

	if ((a.infinite && b.infinite) || (a.zero && b.zero))
		return nan_result(fmt, true);
	if (a.infinite || b.zero)
		return special(infinity_of(fmt, sign), a.infinite ? 0 : DZ);
	if (a.zero || b.infinite)
		return zero_result(fmt, sign);
	quotient = big_shifted(a.mantissa, a.exponent - b.exponent + REF_UNIT);
	rest = big_divide(&quotient, b.mantissa);
	return encode(fmt, sign, &quotient, rest, rm);
}

static struct ref_result square_root(const struct ref_format *fmt, struct value a, unsigned int rm)
{
	uint64_t low = 0, high = UINT64_MAX;
	int exponent = a.exponent;
	ref_u128 square = a.mantissa;
	struct big root;

	if (a.zero)
		return zero_result(fmt, a.sign);
	if (a.sign)
		return nan_result(fmt, true);
	if (a.infinite)
		return special(infinity_of(fmt, false), 0);
	while (square >> 124 == 0 || exponent % 2) {
		square <<= 1;
		exponent--;
	}
	/* Bisection keeps low^2 <= square < (high + 1)^2. */
	while (low < high) {
		uint64_t middle = low + (high - low) / 2 + 1;

		if ((ref_u128)middle * middle <= square)
			low = middle;
		else
			high = middle - 1;
	}
	root = big_shifted(low, exponent / 2 + REF_UNIT);
	return encode(fmt, false, &root, (ref_u128)low * low != square, rm);
}

struct ref_result ref_compute(const struct ref_format *fmt, enum ref_operation op, uint64_t a_bits,
			      uint64_t b_bits, uint64_t c_bits, unsigned int rm)
{
	struct value a = decode(fmt, a_bits);
	struct value b = decode(fmt, op == REF_SQRT ? 0 : b_bits);
	struct value c = decode(fmt, op == REF_FMA ? c_bits : 0);

	if (a.nan || b.nan || c.nan)
		return nan_result(fmt, a.signalling || b.signalling || c.signalling ||
				       (a.infinite && b.zero && op == REF_FMA) ||
				       (b.infinite && a.zero && op == REF_FMA));
	switch (op) {
	case REF_SUB:
		b.sign = !b.sign;
		return add(fmt, a, b, rm);
	case REF_ADD:
		return add(fmt, a, b, rm);
	case REF_MUL:
		/* Adding a zero of the product's sign changes nothing, in any mode. */
		c.sign = a.sign != b.sign;
		return fma_or_mul(fmt, a, b, c, rm);
	case REF_DIV:
		return divide(fmt, a, b, rm);
	case REF_SQRT:
		return square_root(fmt, a, rm);
	default:
		return fma_or_mul(fmt, a, b, c, rm);
	}
}

struct ref_result ref_convert(const struct ref_format *to, const struct ref_format *from,
			      uint64_t a_bits, unsigned int rm)
{
	struct value a = decode(from, a_bits);
	struct big x = big_of(a);

	if (a.nan)
		return nan_result(to, a.signalling);
	if (a.infinite)
		return special(infinity_of(to, a.sign), 0);
	return a.zero ? zero_result(to, a.sign) : encode(to, a.sign, &x, false, rm);
}

struct ref_result ref_to_int(const struct ref_format *fmt, uint64_t a_bits, unsigned int width,
			     bool is_signed, unsigned int rm)
{
	struct value a = decode(fmt, a_bits);
	ref_s128 lowest = is_signed ? -((ref_s128)1 << (width - 1)) : 0;
	ref_s128 highest = ((ref_s128)1 << (is_signed ? width - 1 : width)) - 1;
	struct big x = big_of(a);
	ref_s128 whole;
	bool inexact = false;
	unsigned int flags;

	if (a.nan || a.infinite || big_highest(&x) >= REF_UNIT + 66) {
		whole = a.sign && !a.nan ? lowest : highest;
		flags = NV;
	} else {
		/* Bits 64 and up only matter as "too large". */
		whole = (ref_s128)round_at(&x, false, REF_UNIT, a.sign, rm, &inexact);
		if (big_highest(&x) >= REF_UNIT + 64)
			whole += (ref_s128)1 << 64;
		whole = a.sign ? -whole : whole;
		flags = inexact ? NX : 0;
		if (whole < lowest || whole > highest) {
			whole = whole < lowest ? lowest : highest;
			flags = NV;
		}
	}
	return special(width == 32 ? (uint64_t)(int32_t)whole : (uint64_t)whole, flags);
}

struct ref_result ref_from_int(const struct ref_format *fmt, uint64_t a, unsigned int width,
			       bool is_signed, unsigned int rm)
{
	ref_s128 value = width == 32 ? (ref_s128)(uint32_t)a : (ref_s128)a;
	struct big x;

	if (is_signed && value >> (width - 1) & 1)
		value -= (ref_s128)1 << width;
	if (value == 0)
		return special(0, 0);
	x = big_shifted((ref_u128)(value < 0 ? -value : value), REF_UNIT);
	return encode(fmt, value < 0, &x, false, rm);
}

uint64_t ref_random_next(struct ref_random *random)
{
	/* xorshift64*: the seed must not be zero. */
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Fractions that make ties and exact results: all zeros or ones but for a few bits. */
static uint64_t random_fraction(struct ref_random *random, unsigned int bits)
{
	uint64_t mask = (UINT64_C(1) << bits) - 1;
	uint64_t pattern = ref_random_next(random);

	switch (ref_random_next(random) % 6) {
	case 0:
		return 0;
	case 1:
		return mask;
	case 2:
		return UINT64_C(1) << (pattern % bits);
	case 3:
		return mask & ~(UINT64_C(1) << (pattern % bits));
	case 4:
		return (pattern << (pattern >> 58) % bits) & mask;
	default:
		return pattern & mask;
	}
}

uint64_t ref_random_operand(struct ref_random *random, const struct ref_format *fmt)
{
	unsigned int bits = fmt->precision - 1;
	uint64_t biased_max = infinity_of(fmt, false) >> bits;
	uint64_t sign = (ref_random_next(random) & 1) << (fmt->width - 1);
	uint64_t fraction = random_fraction(random, bits);
	uint64_t jitter = ref_random_next(random) % 5;
	uint64_t biased;

	switch (ref_random_next(random) % 16) {
	case 0:
		biased = 0;
		break;
	case 1:
		biased = biased_max;
		break;
	case 2:
		biased = jitter;
		break;
	case 3:
		biased = biased_max - jitter;
		break;
	case 4:
	case 5: /* squares and products near the ends of the range */
		biased = biased_max / (ref_random_next(random) & 1 ? 4 : 2) + jitter;
		break;
	case 6:
	case 7: /* integers */
		biased = biased_max / 2 + ref_random_next(random) % 68;
		break;
	case 8:
		return sign; /* zero */
	default:
		biased = ref_random_next(random) % (biased_max + 1);
	}
	return sign | biased << bits | fraction;
}

uint64_t ref_random_near(struct ref_random *random, const struct ref_format *fmt, uint64_t near)
{
	uint64_t operand = ref_random_operand(random, fmt);
	unsigned int bits = fmt->precision - 1;
	uint64_t sign = UINT64_C(1) << (fmt->width - 1);
	uint64_t mask = (UINT64_C(1) << bits) - 1;
	uint64_t biased = (near & ~sign) >> bits;
	uint64_t distance = ref_random_next(random) % (2 * bits + 6);

	switch (ref_random_next(random) % 4) {
	case 0:
		return operand;
	case 1: /* neighbours */
		return (near ^ (operand & sign)) + ref_random_next(random) % 3;
	case 2:
		biased = biased > distance ? biased - distance : 0;
		return (operand & (sign | mask)) | biased << bits;
	default:
		return (operand & (sign | mask)) | biased << bits;
	}
}
