/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The board as the guest reads it (Devicetree specification 0.4; Linux bindings of riscv,imsics and
 * pci-host-ecam-generic).
 */
#include <libfdt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vm/machine.h"

enum { PHANDLE_IMSIC = 1, PHANDLE_INTC = 2 /* and one a hart from here */ };

#define IRQ_S_EXTERNAL 9
#define PCI_MEMORY_32 0x02000000u
#define PCI_MEMORY_64_PREFETCH 0x43000000u

static int reg(void *fdt, uint64_t base, uint64_t size)
{
	fdt64_t cells[2] = {cpu_to_fdt64(base), cpu_to_fdt64(size)};

	return fdt_property(fdt, "reg", cells, sizeof(cells));
}

static int chosen(void *fdt, const struct device_tree_facts *facts)
{
	int rc = fdt_begin_node(fdt, "chosen");

	rc |= fdt_property_string(fdt, "bootargs", facts->append ? facts->append : "");
	rc |= fdt_property_string(fdt, "stdout-path", "/soc/serial@10000000");
	rc |= fdt_property(fdt, "rng-seed", facts->seed, sizeof(facts->seed));
	if (facts->initrd_end) {
		rc |= fdt_property_u64(fdt, "linux,initrd-start", facts->initrd_start);
		rc |= fdt_property_u64(fdt, "linux,initrd-end", facts->initrd_end);
	}
	return rc | fdt_end_node(fdt);
}

static int memory(void *fdt, uint64_t size)
{
	uint64_t low = size < RAM_LOW_MAX ? size : RAM_LOW_MAX;
	fdt64_t cells[4] = {cpu_to_fdt64(VD_BOARD_RAM), cpu_to_fdt64(low),
			    cpu_to_fdt64(RAM_HIGH), cpu_to_fdt64(size - low)};
	int rc = fdt_begin_node(fdt, "memory@80000000");

	rc |= fdt_property_string(fdt, "device_type", "memory");
	rc |= fdt_property(fdt, "reg", cells, size > low ? sizeof(cells) : sizeof(cells) / 2);
	return rc | fdt_end_node(fdt);
}

static int cpu(void *fdt, unsigned id, bool svadu)
{
	static const char extensions[] =
		"i\0m\0a\0f\0d\0c\0zicntr\0zicsr\0zifencei\0ssaia\0sstc\0svadu";
	const int listed = (int)(svadu ? sizeof(extensions) : sizeof(extensions) - sizeof("svadu"));
	char name[32], isa[80];
	int rc;

	snprintf(name, sizeof(name), "cpu@%x", id);
	snprintf(isa, sizeof(isa), "rv64imafdc_zicntr_zicsr_zifencei_ssaia_sstc%s",
		 svadu ? "_svadu" : "");
	rc = fdt_begin_node(fdt, name);
	rc |= fdt_property_string(fdt, "device_type", "cpu");
	rc |= fdt_property_string(fdt, "compatible", "riscv");
	rc |= fdt_property_u32(fdt, "reg", id);
	rc |= fdt_property_string(fdt, "status", "okay");
	rc |= fdt_property_string(fdt, "riscv,isa", isa);
	rc |= fdt_property_string(fdt, "riscv,isa-base", "rv64i");
	rc |= fdt_property(fdt, "riscv,isa-extensions", extensions, listed);
	rc |= fdt_property_string(fdt, "mmu-type", "riscv,sv57");
	rc |= fdt_begin_node(fdt, "interrupt-controller");
	rc |= fdt_property_string(fdt, "compatible", "riscv,cpu-intc");
	rc |= fdt_property_u32(fdt, "#interrupt-cells", 1);
	rc |= fdt_property(fdt, "interrupt-controller", NULL, 0);
	rc |= fdt_property_u32(fdt, "phandle", PHANDLE_INTC + id);
	rc |= fdt_end_node(fdt);
	return rc | fdt_end_node(fdt);
}

static int cpus(void *fdt, const struct device_tree_facts *facts)
{
	int rc = fdt_begin_node(fdt, "cpus");

	rc |= fdt_property_u32(fdt, "#address-cells", 1);
	rc |= fdt_property_u32(fdt, "#size-cells", 0);
	rc |= fdt_property_u32(fdt, "timebase-frequency", VD_BOARD_TIMEBASE);
	for (unsigned i = 0; i < facts->cpus; i++)
		rc |= cpu(fdt, i, facts->svadu);
	return rc | fdt_end_node(fdt);
}

static int imsics(void *fdt, unsigned harts)
{
	fdt32_t extended[2 * VD_BOARD_HARTS_MAX];
	int rc = fdt_begin_node(fdt, "interrupt-controller@28000000");

	for (unsigned i = 0; i < harts; i++) {
		extended[2 * i] = cpu_to_fdt32(PHANDLE_INTC + i);
		extended[2 * i + 1] = cpu_to_fdt32(IRQ_S_EXTERNAL);
	}
	rc |= fdt_property_string(fdt, "compatible", "riscv,imsics");
	rc |= reg(fdt, VD_BOARD_IMSIC, 4096ull * harts);
	rc |= fdt_property(fdt, "interrupt-controller", NULL, 0);
	rc |= fdt_property_u32(fdt, "#interrupt-cells", 0);
	rc |= fdt_property(fdt, "msi-controller", NULL, 0);
	rc |= fdt_property_u32(fdt, "#msi-cells", 0);
	rc |= fdt_property(fdt, "interrupts-extended", extended, (int)(8 * harts));
	rc |= fdt_property_u32(fdt, "riscv,num-ids", 255);
	rc |= fdt_property_u32(fdt, "phandle", PHANDLE_IMSIC);
	return rc | fdt_end_node(fdt);
}

static int serial(void *fdt)
{
	int rc = fdt_begin_node(fdt, "serial@10000000");

	rc |= fdt_property_string(fdt, "compatible", "ns16550a");
	rc |= reg(fdt, VD_BOARD_UART, 0x100);
	rc |= fdt_property_u32(fdt, "clock-frequency", 3686400);
	/* Without interrupts the driver sends one FIFO's worth a timer tick. */
	rc |= fdt_property_u32(fdt, "fifo-size", 256);
	return rc | fdt_end_node(fdt);
}

/*
 * One range: PCI address (3 cells), CPU address, size. Bus addresses are guest physical addresses.
 */
static void range(fdt32_t *cells, uint32_t flags, uint64_t base, uint64_t size)
{
	const uint32_t values[7] = {flags, (uint32_t)(base >> 32), (uint32_t)base,
				    (uint32_t)(base >> 32), (uint32_t)base,
				    (uint32_t)(size >> 32), (uint32_t)size};

	for (unsigned i = 0; i < 7; i++)
		cells[i] = cpu_to_fdt32(values[i]);
}

static int pci(void *fdt)
{
	fdt32_t ranges[14], buses[2] = {0, 0};
	int rc = fdt_begin_node(fdt, "pci@30000000");

	range(ranges, PCI_MEMORY_32, VD_BOARD_PCI_LOW, GIB);
	range(ranges + 7, PCI_MEMORY_64_PREFETCH, VD_BOARD_PCI_HIGH, VD_BOARD_PCI_HIGH_SIZE);
	rc |= fdt_property_string(fdt, "compatible", "pci-host-ecam-generic");
	rc |= fdt_property_string(fdt, "device_type", "pci");
	rc |= fdt_property_u32(fdt, "#address-cells", 3);
	rc |= fdt_property_u32(fdt, "#size-cells", 2);
	rc |= reg(fdt, VD_BOARD_ECAM, MIB);
	rc |= fdt_property(fdt, "bus-range", buses, sizeof(buses));
	rc |= fdt_property(fdt, "ranges", ranges, sizeof(ranges));
	rc |= fdt_property_u32(fdt, "msi-parent", PHANDLE_IMSIC);
	rc |= fdt_property(fdt, "dma-coherent", NULL, 0);
	return rc | fdt_end_node(fdt);
}

int vd_device_tree_build(const struct device_tree_facts *facts, void *fdt, size_t room)
{
	int rc;

	if (facts->cpus < 1 || facts->cpus > VD_BOARD_HARTS_MAX || room > INT_MAX)
		return -EINVAL;
	/* Nothing below may look for a tree where there is not even room for its header. */
	if (fdt_create(fdt, (int)room))
		return -ENOSPC;
	rc = fdt_finish_reservemap(fdt);
	rc |= fdt_begin_node(fdt, "");
	rc |= fdt_property_u32(fdt, "#address-cells", 2);
	rc |= fdt_property_u32(fdt, "#size-cells", 2);
	rc |= fdt_property_string(fdt, "compatible", "viaduct,board");
	rc |= fdt_property_string(fdt, "model", "Viaduct");
	rc |= chosen(fdt, facts);
	rc |= memory(fdt, facts->memory);
	rc |= cpus(fdt, facts);
	rc |= fdt_begin_node(fdt, "soc");
	rc |= fdt_property_string(fdt, "compatible", "simple-bus");
	rc |= fdt_property_u32(fdt, "#address-cells", 2);
	rc |= fdt_property_u32(fdt, "#size-cells", 2);
	rc |= fdt_property(fdt, "ranges", NULL, 0);
	rc |= imsics(fdt, facts->cpus);
	rc |= serial(fdt);
	rc |= pci(fdt);
	rc |= fdt_end_node(fdt);
	rc |= fdt_end_node(fdt);
	rc |= fdt_finish(fdt);
	return rc ? -ENOSPC : (int)fdt_totalsize(fdt);
}
