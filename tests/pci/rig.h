/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's address space with a host bridge in it, for the tests of this floor. */
#ifndef VIADUCT_TESTS_PCI_RIG_H
#define VIADUCT_TESTS_PCI_RIG_H

#include "../base/test_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <viaduct/pci.h>

#include "pci/registers.h"

#define PAGE UINT64_C(4096)
#define ECAM UINT64_C(0x30000000)
#define LOW UINT64_C(0x40000000)
#define LOW_SIZE UINT64_C(0x10000000)
#define HIGH UINT64_C(0x400000000000)
#define HIGH_SIZE UINT64_C(0x100000000000)
#define RAM UINT64_C(0x80000000)
#define RAM_SIZE (64 * PAGE)

/* A random number below @limit, which is not 0. */
static inline uint32_t below(uint32_t limit)
{
	return (uint32_t)(test_random(test_state()) % limit);
}

struct rig {
	struct test_env test;
	struct vd_host *host;
	struct vd_host_object *ram;
	struct vd_mem *mem;
	struct vd_pci_host *pci;
	_Atomic unsigned messages;
	_Atomic uint64_t address;
	_Atomic uint32_t data;
};

void rig_open(struct rig *rig, bool direct);
/* With pages of other than 4 KiB, also on the host's side. */
void rig_open_host(struct rig *rig, bool direct, unsigned host_shift, unsigned page_shift);
/* With a guest page of other than 4 KiB. */
void rig_open_pages(struct rig *rig, bool direct, unsigned page_shift);
/* Everything must be given back. */
void rig_close(struct rig *rig);
struct vd_pci_host_config rig_config(struct rig *rig, bool direct);

/* ---- devices ---- */

/*
 * BAR 0: 64 KiB, 32 bits, trapped but [16 KiB, 32 KiB); MSI-X (5 vectors) at 48 KiB. BAR 1: 256
 * bytes, 32 bits. BAR 2: 2 MiB, 64 bits, prefetchable, all mappable. BAR 4: 4 KiB, 32 bits, all
 * mappable.
 */
struct toy {
	struct vd_device *device;
	struct vd_device_ops ops;
	_Atomic unsigned reads, writes, resets, bus_masters, releases;
	_Atomic uint64_t last_offset, last_value;
	_Atomic unsigned last_region;
	_Atomic bool bus_master;
	bool fail_load;
};

#define TOY_BARS 4u
#define TOY_VECTORS 5u
#define TOY_MSIX 0xc000u
#define TOY_DIRECT 0x4000u
#define TOY_DIRECT_SIZE 0x4000u
#define TOY_EXPRESS 0x54u /* behind power management and MSI-X */
#define TOY_POWER 0x40u
#define TOY_MSIX_CAPABILITY 0x48u

extern const unsigned toy_bars[TOY_BARS];
extern const uint64_t toy_sizes[TOY_BARS];

struct vd_pci_function_config toy_config(struct rig *rig, struct toy *toy);
/* The caller's reference is kept in toy->device. */
void toy_create(struct rig *rig, struct toy *toy);
/* What a trapped read of a toy's BAR gives. */
uint64_t toy_value(unsigned region, uint64_t offset, unsigned length);

/* ---- a guest's accesses ---- */

uint64_t config_read(struct rig *rig, unsigned slot, unsigned offset, unsigned length);
void config_write(struct rig *rig, unsigned slot, unsigned offset, unsigned length, uint64_t value);
uint64_t guest_read(struct rig *rig, uint64_t gpa, unsigned length);
void guest_write(struct rig *rig, uint64_t gpa, unsigned length, uint64_t value);
/* The memory bit of the command register. */
void set_memory(struct rig *rig, unsigned slot, bool on);
uint64_t bar_address(struct rig *rig, unsigned slot, unsigned bar);

/* What the slot at an address is; kind 0: none. The strings outlive it. */
struct vd_slot_config slot_at(struct rig *rig, uint64_t gpa);

/*
 * The windows are tiled by slots exactly: nothing overlaps, nothing is left out, RAM is where it
 * was. Direct pages are counted right.
 */
void check_windows(struct rig *rig);

#endif
