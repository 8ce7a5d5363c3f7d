/* SPDX-License-Identifier: BSD-2-Clause */
/* A monitor's description for one preferred mode (VESA E-EDID 1.4, chapter 3). */
#include <string.h>

#include "device/display.h"

#define DESCRIPTORS 54u
#define DESCRIPTOR_SIZE 18u

static const uint8_t header[8] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};

/* sRGB primaries and white point (3.7). */
static const uint8_t srgb[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};

/* Three letters of five bits, 'A' is 1 (3.4.1). Not a registered maker. */
static void put_maker(uint8_t *at)
{
	unsigned id = ('V' - '@') << 10 | ('D' - '@') << 5 | ('U' - '@');

	at[0] = (uint8_t)(id >> 8);
	at[1] = (uint8_t)id;
}

struct timing {
	unsigned width, height;
	unsigned h_blank, v_blank;
	unsigned clock_10khz;
};

/* Any blanking will do: there is no cable. 60 Hz unless the clock does not fit its 16 bits then. */
static struct timing preferred(unsigned width, unsigned height)
{
	struct timing t = {width, height, 160, 30, 0};
	uint64_t clock = (uint64_t)(width + t.h_blank) * (height + t.v_blank) * 60 / 10000;

	t.clock_10khz = clock > UINT16_MAX ? UINT16_MAX : (unsigned)clock;
	return t;
}

/* Millimetres at 96 dots an inch. */
static unsigned millimetres(unsigned pixels)
{
	return pixels * 254 / 960;
}

/* 3.10.2: low bytes, then high nibbles in pairs. */
static void put_timing(uint8_t *at, const struct timing *t)
{
	const unsigned h_front = 48, h_sync = 32, v_front = 3, v_sync = 6;
	unsigned h_mm = millimetres(t->width), v_mm = millimetres(t->height);

	at[0] = (uint8_t)t->clock_10khz;
	at[1] = (uint8_t)(t->clock_10khz >> 8);
	at[2] = (uint8_t)t->width;
	at[3] = (uint8_t)t->h_blank;
	at[4] = (uint8_t)(t->width >> 8 << 4 | t->h_blank >> 8);
	at[5] = (uint8_t)t->height;
	at[6] = (uint8_t)t->v_blank;
	at[7] = (uint8_t)(t->height >> 8 << 4 | t->v_blank >> 8);
	at[8] = h_front;
	at[9] = h_sync;
	at[10] = v_front << 4 | v_sync;
	at[12] = (uint8_t)h_mm;
	at[13] = (uint8_t)v_mm;
	at[14] = (uint8_t)(h_mm >> 8 << 4 | v_mm >> 8);
	at[17] = 0x18; /* digital, separate syncs */
}

/* 3.10.3: display descriptors start with three zero bytes, a tag and a zero. */
static void put_name(uint8_t *at)
{
	at[3] = 0xfc;
	memcpy(at + 5, "Viaduct\n     ", 13);
}

static void put_limits(uint8_t *at, const struct timing *t)
{
	unsigned clock_mhz = t->clock_10khz / 100 + 1;

	at[3] = 0xfd;
	at[5] = 1;
	at[6] = 125;
	at[7] = 1;
	at[8] = 255;
	at[9] = (uint8_t)((clock_mhz + 9) / 10);
	at[10] = 1; /* no formula applies: only what is listed */
	memcpy(at + 11, "\n      ", 7);
}

/* 3.8: smaller modes that every system knows. */
static void put_established(uint8_t *edid, unsigned width, unsigned height)
{
	if (width >= 640 && height >= 480)
		edid[35] |= 1u << 5;
	if (width >= 800 && height >= 600)
		edid[35] |= 1u << 0;
	if (width >= 1024 && height >= 768)
		edid[36] |= 1u << 3;
}

void display_edid(uint8_t edid[DISPLAY_EDID_SIZE], unsigned width, unsigned height)
{
	struct timing timing = preferred(width, height);
	unsigned sum = 0;

	memset(edid, 0, DISPLAY_EDID_SIZE);
	memcpy(edid, header, sizeof(header));
	put_maker(edid + 8);
	edid[10] = 1;	     /* product */
	edid[16] = 1;	     /* week */
	edid[17] = 2026 - 1990;
	edid[18] = 1;
	edid[19] = 4;
	edid[20] = 0x80 | 0x20; /* digital, 8 bits a colour */
	edid[21] = (uint8_t)((millimetres(width) + 9) / 10);
	edid[22] = (uint8_t)((millimetres(height) + 9) / 10);
	edid[23] = 120;		/* gamma 2.2 */
	edid[24] = 0x06;	/* sRGB, the first timing is the preferred one */
	memcpy(edid + 25, srgb, sizeof(srgb));
	put_established(edid, width, height);
	memset(edid + 38, 0x01, 16); /* no standard timings */
	put_timing(edid + DESCRIPTORS, &timing);
	put_name(edid + DESCRIPTORS + DESCRIPTOR_SIZE);
	put_limits(edid + DESCRIPTORS + 2 * DESCRIPTOR_SIZE, &timing);
	edid[DESCRIPTORS + 3 * DESCRIPTOR_SIZE + 3] = 0x10; /* unused */
	for (unsigned i = 0; i < DISPLAY_EDID_SIZE - 1; i++)
		sum += edid[i];
	edid[DISPLAY_EDID_SIZE - 1] = (uint8_t)(0u - sum);
}
