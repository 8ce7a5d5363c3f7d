/* SPDX-License-Identifier: BSD-2-Clause */
/* Counters at exit: a table for people, one JSON object for scripts. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/run.h"
#include "cli/stats.h"

const char *exit_name(enum vd_vm_exit exit)
{
	switch (exit) {
	case VD_VM_EXIT_POWER_OFF:
		return "power-off";
	case VD_VM_EXIT_RESET:
		return "reset";
	case VD_VM_EXIT_PANIC:
		return "panic";
	case VD_VM_EXIT_STOPPED:
		return "stopped";
	default:
		return "error";
	}
}

static uint64_t trapped(struct vd_device *device, uint64_t *reads, uint64_t *writes)
{
	struct vd_device_stats stats;

	vd_device_stats(device, &stats);
	*reads = *writes = 0;
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		*reads += stats.trapped_reads[i];
		*writes += stats.trapped_writes[i];
	}
	return stats.interrupts;
}

static uint64_t peak_rss(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_maxrss * 1024;
}

#define LINE(label, format, ...) fprintf(stderr, "%-22s " format "\n", label, __VA_ARGS__)
#define U(x) ((unsigned long long)(x))

static void print_shadow(const struct vd_shadow_stats *s, uint64_t stores)
{
	LINE("shadow faults", "%llu, %llu spurious, %llu the guest's, %llu again", U(s->faults),
	     U(s->faults_spurious), U(s->guest_faults), U(s->retries));
	LINE("shadow pages", "%llu now, %llu made, %llu recycled, %llu leaves", U(s->pages),
	     U(s->pages_made), U(s->recycled), U(s->leaves));
	LINE("table stores", "%llu emulated, %llu prefills, %llu floods, %llu foreign", U(stores),
	     U(s->prefills), U(s->floods), U(s->foreign_writes));
	LINE("shadow zaps", "%llu leaves, %llu flushes", U(s->zaps), U(s->flushes));
}

void stats_print(struct vd_vm *vm, struct vd_balloon *balloon)
{
	struct vd_vm_stats s;
	struct vd_device *device;

	vd_vm_stats(vm, &s);
	fprintf(stderr, "\n%-22s %.3f s, %.1f M instructions, %.0f MIPS\n", "time",
		(double)s.wall_ns / 1e9, (double)s.instructions / 1e6,
		s.wall_ns ? (double)s.instructions * 1e3 / (double)s.wall_ns : 0);
	LINE("faults", "%llu RAM, %llu device, %llu spurious, %llu protection",
	     U(s.mmu.faults_ram), U(s.mmu.faults_device), U(s.mmu.faults_spurious),
	     U(s.mmu.faults_protection));
	LINE("mapped", "%llu x 1 GiB, %llu x 2 MiB, %llu x 4 KiB, %llu table pages",
	     U(s.mmu.mapped_1g), U(s.mmu.mapped_2m), U(s.mmu.mapped_4k), U(s.mmu.table_pages));
	if (s.shadow.pages_made)
		print_shadow(&s.shadow, s.harts.table_stores);
	LINE("MMIO", "%llu pages direct, %llu reads and %llu writes trapped", U(s.direct_pages),
	     U(s.harts.mmio_reads), U(s.harts.mmio_writes));
	LINE("DMA", "%llu translations, %llu pins, %llu faults", U(s.dma.translations),
	     U(s.dma.pins), U(s.dma.faults));
	if (s.dma.io_faults)
		LINE("I/O page tables", "%llu faults, IOTLB: %llu hits, %llu misses, %llu flushes",
		     U(s.dma.io_faults), U(s.dma.iotlb_hits), U(s.dma.iotlb_misses),
		     U(s.dma.iotlb_invalidations));
	LINE("zaps, flushes", "%llu leaves, %llu shoot-downs, %llu of the soft TLB",
	     U(s.mmu.zaps), U(s.tlb_shootdowns), U(s.harts.tlb_flushes));
	LINE("soft TLB", "%llu fills, %llu sfence.vma, %llu fence.i", U(s.harts.tlb_fills),
	     U(s.harts.sfences), U(s.harts.fence_is));
	LINE("code", "%llu pages decoded, %llu compared again", U(s.harts.code_pages),
	     U(s.harts.code_verifies));
	LINE("traps", "%llu exceptions, %llu interrupts", U(s.harts.exceptions),
	     U(s.harts.interrupts));
	for (unsigned i = 0; (device = vd_vm_device(vm, i)); i++) {
		uint64_t reads, writes, interrupts = trapped(device, &reads, &writes);
		char label[32];

		snprintf(label, sizeof(label), "00:%02x.0 %.16s", i + 1, vd_device_name(device));
		LINE(label, "%llu reads, %llu writes trapped, %llu interrupts", U(reads),
		     U(writes), U(interrupts));
	}
	if (balloon) {
		struct vd_balloon_status b;

		vd_balloon_status(balloon, &b);
		LINE("balloon", "%llu MiB given back, %llu inflated, %llu reported, %llu pinned",
		     U(b.discarded >> 20), U(b.inflated >> 20), U(b.reported >> 20),
		     U(b.pinned >> 20));
	}
	LINE("peak RSS", "%llu MiB", U(peak_rss() >> 20));
}

static void add(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static struct json_object *child(struct json_object *object, const char *key)
{
	struct json_object *c = json_object_new_object();

	json_object_object_add(object, key, c);
	return c;
}

static void add_counter(void *object, const char *name, uint64_t value)
{
	add(object, name, value);
}

/* E7: what took the slow path, by region. */
static void add_regions(struct json_object *o, struct vd_device *device)
{
	static const char *const names[VD_REGION_COUNT] = {
		"BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5", "ROM", "config", "VGA",
	};
	struct vd_device_stats stats;

	o = child(o, "regions");
	vd_device_stats(device, &stats);
	for (unsigned i = 0; i < VD_REGION_COUNT; i++) {
		struct json_object *region;

		if (!(stats.trapped_reads[i] | stats.trapped_writes[i]))
			continue;
		region = child(o, names[i]);
		add(region, "trapped_reads", stats.trapped_reads[i]);
		add(region, "trapped_writes", stats.trapped_writes[i]);
	}
}

static struct json_object *describe(struct vd_device *device)
{
	struct json_object *o = json_object_new_object();
	uint64_t reads, writes, interrupts = trapped(device, &reads, &writes);

	json_object_object_add(o, "name", json_object_new_string(vd_device_name(device)));
	add(o, "trapped_reads", reads);
	add(o, "trapped_writes", writes);
	add_regions(o, device);
	add(o, "interrupts", interrupts);
	vd_device_counters(device, add_counter, child(o, "counters"));
	return o;
}

static void add_devices(struct vd_vm *vm, struct json_object *root)
{
	struct json_object *list = json_object_new_array();
	struct vd_device *device;

	json_object_object_add(root, "devices", list);
	for (unsigned i = 0; (device = vd_vm_device(vm, i)); i++)
		json_object_array_add(list, describe(device));
}

void stats_add_status(struct json_object *root, struct vd_vm *vm)
{
	struct json_object *o = child(root, "mmio");
	struct vd_vm_stats s;

	vd_vm_stats(vm, &s);
	add(o, "direct_pages", s.direct_pages);
	add(o, "trapped", s.harts.mmio_reads + s.harts.mmio_writes);
	add_devices(vm, root);
}

static void add_dma(struct json_object *root, const struct vd_dma_stats *s)
{
	struct json_object *o = child(root, "dma");

	add(o, "translations", s->translations);
	add(o, "pins", s->pins);
	add(o, "faults", s->faults);
	add(o, "iotlb_hits", s->iotlb_hits);
	add(o, "iotlb_misses", s->iotlb_misses);
	add(o, "iotlb_invalidations", s->iotlb_invalidations);
	add(o, "io_faults", s->io_faults);
	add(o, "io_mapped_bytes", s->io_mapped_bytes);
}

static void add_shadow(struct json_object *root, const struct vd_shadow_stats *s, uint64_t stores)
{
	struct json_object *o = child(root, "shadow");

	add(o, "faults", s->faults);
	add(o, "spurious", s->faults_spurious);
	add(o, "guest_faults", s->guest_faults);
	add(o, "retries", s->retries);
	add(o, "pages", s->pages);
	add(o, "pages_made", s->pages_made);
	add(o, "leaves", s->leaves);
	add(o, "prefills", s->prefills);
	add(o, "table_stores", stores);
	add(o, "zaps", s->zaps);
	add(o, "flushes", s->flushes);
	add(o, "floods", s->floods);
	add(o, "foreign_writes", s->foreign_writes);
	add(o, "recycled", s->recycled);
}

static struct json_object *build(struct vd_vm *vm, struct vd_balloon *balloon,
				 enum vd_vm_exit exit)
{
	struct json_object *root = json_object_new_object(), *o;
	struct vd_vm_stats s;

	vd_vm_stats(vm, &s);
	json_object_object_add(root, "exit", json_object_new_string(exit_name(exit)));
	json_object_object_add(root, "wall_seconds",
			       json_object_new_double((double)s.wall_ns / 1e9));
	add(root, "instructions", s.instructions);
	o = child(root, "faults");
	add(o, "ram", s.mmu.faults_ram);
	add(o, "device", s.mmu.faults_device);
	add(o, "spurious", s.mmu.faults_spurious);
	o = child(root, "mmio");
	add(o, "direct_pages", s.direct_pages);
	add(o, "trapped", s.harts.mmio_reads + s.harts.mmio_writes);
	add_dma(root, &s.dma);
	o = child(root, "foreign");
	json_object_object_add(o, "watched", json_object_new_boolean(vd_vm_ram_watched(vm)));
	add(o, "discards", s.foreign.discards);
	add(o, "unmaps", s.foreign.unmaps + s.foreign.remaps);
	add_shadow(root, &s.shadow, s.harts.table_stores);
	add(root, "zaps", s.mmu.zaps + s.shadow.zaps);
	add(root, "tlb_flushes", s.harts.tlb_flushes);
	add(root, "tlb_shootdowns", s.tlb_shootdowns);
	add(root, "tlb_fills", s.harts.tlb_fills);
	add(root, "interrupts", s.interrupts);
	add(root, "peak_rss_bytes", peak_rss());
	balloon_add(root, vm, balloon);
	add_devices(vm, root);
	return root;
}

int stats_write(struct json_object *root, const char *path, struct vd_error *error)
{
	FILE *file = fopen(path, "w");
	int rc = 0;

	if (!file) {
		rc = -errno;
	} else {
		if (fprintf(file, "%s\n",
			    json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN)) < 0)
			rc = -EIO;
		if (fclose(file) && !rc)
			rc = -errno;
	}
	json_object_put(root);
	return rc ? vd_error_set(error, rc, "cannot write %s: %s", path, strerror(-rc)) : 0;
}

int stats_write_json(struct vd_vm *vm, struct vd_balloon *balloon, enum vd_vm_exit exit,
		     const char *path, struct vd_error *error)
{
	return stats_write(build(vm, balloon, exit), path, error);
}

/* ---- of a server ---- */

struct json_object *stats_server(const struct vd_user_server_stats *s, struct json_object **devices)
{
	struct json_object *root = json_object_new_object(), *o = child(root, "server");

	add(o, "clients", s->clients);
	add(o, "accepted", s->accepted);
	add(o, "refused", s->refused);
	add(o, "cut_off", s->cut_off);
	add(o, "messages", s->messages);
	add(o, "errors", s->errors);
	add(o, "dma_reads", s->dma_reads);
	add(o, "dma_writes", s->dma_writes);
	add(o, "dma_failed", s->dma_failed);
	add(root, "peak_rss_bytes", peak_rss());
	*devices = json_object_new_array();
	json_object_object_add(root, "devices", *devices);
	return root;
}

void stats_add_served(struct json_object *devices, const char *socket, struct vd_device *device,
		      struct vd_dma_space *space)
{
	struct json_object *o = device ? describe(device) : json_object_new_object();
	struct vd_dma_stats dma;

	json_object_object_add(o, "socket", json_object_new_string(socket));
	if (space) {
		vd_dma_stats(space, &dma);
		add_dma(o, &dma);
	}
	json_object_array_add(devices, o);
}
