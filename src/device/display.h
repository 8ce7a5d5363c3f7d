/* SPDX-License-Identifier: BSD-2-Clause */
/* The display's registers (QEMU docs/specs/standard-vga.rst), for its own files. */
#ifndef VIADUCT_DEVICE_DISPLAY_H
#define VIADUCT_DEVICE_DISPLAY_H

#include <viaduct/device.h>

#define DISPLAY_VENDOR 0x1234u
#define DISPLAY_DEVICE 0x1111u

#define DISPLAY_BAR_MEMORY 0u
#define DISPLAY_BAR_REGISTERS 2u
#define DISPLAY_REGISTERS_SIZE 4096u

/* Within the register BAR. */
#define DISPLAY_EDID 0x0u
#define DISPLAY_EDID_SIZE 128u
#define DISPLAY_DISPI 0x500u
#define DISPLAY_EXTENDED 0x600u
#define DISPLAY_EXTENDED_SIZE 8u
#define DISPLAY_ENDIAN 0x604u

/* The byte order register holds one of these four times over. */
#define DISPLAY_ENDIAN_LITTLE 0x1eu
#define DISPLAY_ENDIAN_BIG 0xbeu

/* DISPI registers, 16 bits each. */
enum display_dispi {
	DISPI_ID, DISPI_WIDTH, DISPI_HEIGHT, DISPI_BITS, DISPI_ENABLE, DISPI_BANK,
	DISPI_VIRTUAL_WIDTH, DISPI_VIRTUAL_HEIGHT, DISPI_X, DISPI_Y, DISPI_MEMORY, DISPI_COUNT
};

#define DISPI_ID_5 0xb0c5u
#define DISPI_ENABLED 1u
#define DISPI_MEMORY_UNIT 0x10000u

#define DISPLAY_SIDE_MIN 64u
#define DISPLAY_SIDE_MAX 4095u

/* display_edid() - a monitor that prefers a mode; sides are within DISPLAY_SIDE_* */
void display_edid(uint8_t edid[DISPLAY_EDID_SIZE], unsigned width, unsigned height);

#endif
