/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's own PCI devices, from the files of sysfs and nothing else (Documentation/PCI/
 * sysfs-pci.rst of Linux). The tree may be anybody's: each name, file and number is bounded and
 * checked, and what makes no sense is left out.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pci/registers.h"

#include <viaduct/pci.h>

/* Flags of a resource (linux/ioport.h of the kernel, which shows them in `resource`). */
#define FLAG_IO 0x100u
#define FLAG_MEM 0x200u
#define FLAG_PREFETCH 0x2000u
#define FLAG_64 0x100000u
#define FLAG_UNSET 0x20000000u

#define NEIGHBOURS_MAX 64u
#define NAME_BYTES 48u

struct entry {
	struct vd_pci_sysfs_device device;
	bool bridge;
	bool placed[VD_PCI_RESOURCES]; /* has an address */
	unsigned members; /* of its group; 0: not known */
};

struct vd_pci_sysfs {
	const struct vd_env *env;
	unsigned count, left_out;
	struct entry *entries[VD_PCI_SYSFS_MAX];
};

/* ---- files ---- */

/* Return: bytes read, at most @room; -1: no such file, or it is not a plain one. */
static ssize_t read_bytes(int dir, const char *name, void *data, size_t room)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t have = 0;
	struct stat st;
	ssize_t got = -1;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -1;
	}
	while (have < room) {
		got = read(fd, (char *)data + have, room - have);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	close(fd);
	return have || !got ? (ssize_t)have : -1;
}

static bool read_number(int dir, const char *name, uint64_t limit, uint64_t *value)
{
	char text[32], *end;
	ssize_t length = read_bytes(dir, name, text, sizeof(text) - 1);

	if (length <= 0 || !isxdigit((unsigned char)text[0]))
		return false;
	text[length] = 0;
	errno = 0;
	*value = strtoull(text, &end, 16);
	return !errno && (*end == '\n' || !*end) && *value <= limit;
}

/* The last part of what a link points to; nothing of it need exist. */
static bool link_name(int dir, const char *name, char *text, size_t room)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(dir, name, target, sizeof(target) - 1);
	const char *base;

	if (length <= 0)
		return false;
	target[length] = 0;
	base = strrchr(target, '/');
	base = base ? base + 1 : target;
	if (!*base || strlen(base) >= room)
		return false;
	for (const char *c = base; *c; c++)
		if (!isgraph((unsigned char)*c))
			return false;
	memcpy(text, base, strlen(base) + 1);
	return true;
}

/* ---- addresses ---- */

static bool take_hex(const char **text, unsigned least, unsigned most, unsigned *value)
{
	unsigned digits = 0;

	for (*value = 0; digits < most && isxdigit((unsigned char)**text); digits++, (*text)++) {
		char digit[2] = {**text, 0};

		*value = *value << 4 | (unsigned)strtoul(digit, NULL, 16);
	}
	return digits >= least;
}

/* "0000:00:03.0"; with @short_form also "00:03.0" */
static bool parse_address(const char *text, bool short_form, struct vd_pci_sysfs_device *device)
{
	const char *rest = text;
	unsigned first;

	if (!take_hex(&rest, 2, 8, &first) || *rest++ != ':')
		return false;
	device->domain = first;
	if (!take_hex(&rest, 2, 2, &device->bus))
		return false;
	if (short_form && *rest == '.' && rest - text == 5) {
		device->slot = device->bus;
		device->bus = first;
		device->domain = 0;
	} else if (*rest++ != ':' || !take_hex(&rest, 2, 2, &device->slot)) {
		return false;
	}
	if (*rest++ != '.' || !take_hex(&rest, 1, 1, &device->function) || *rest)
		return false;
	return device->slot < 32 && device->function < 8 && device->bus < 256;
}

static int compare(const struct vd_pci_sysfs_device *a, const struct vd_pci_sysfs_device *b)
{
	uint64_t p = (uint64_t)a->domain << 32 | a->bus << 8 | a->slot << 3 | a->function;
	uint64_t q = (uint64_t)b->domain << 32 | b->bus << 8 | b->slot << 3 | b->function;

	return p < q ? -1 : p > q;
}

static void make_name(struct vd_pci_sysfs_device *device)
{
	int at = 0;

	if (device->domain)
		at = snprintf(device->name, sizeof(device->name), "%04x:", device->domain);
	snprintf(device->name + at, sizeof(device->name) - (size_t)at, "%02x:%02x.%x", device->bus,
		 device->slot, device->function);
}

/* ---- one device ---- */

static bool read_identity(int dir, struct vd_pci_identity *identity)
{
	uint64_t vendor, device, class_code, value;

	if (!read_number(dir, "vendor", 0xffff, &vendor) ||
	    !read_number(dir, "device", 0xffff, &device) ||
	    !read_number(dir, "class", 0xffffff, &class_code))
		return false;
	identity->vendor = (uint16_t)vendor;
	identity->device = (uint16_t)device;
	identity->class_code = (uint32_t)class_code;
	if (read_number(dir, "subsystem_vendor", 0xffff, &value))
		identity->subsystem_vendor = (uint16_t)value;
	if (read_number(dir, "subsystem_device", 0xffff, &value))
		identity->subsystem = (uint16_t)value;
	if (read_number(dir, "revision", 0xff, &value))
		identity->revision = (uint8_t)value;
	return true;
}

static void take_resource(struct entry *entry, unsigned i, uint64_t start, uint64_t end,
			  uint64_t flags)
{
	struct vd_pci_resource *resource = &entry->device.resources[i];

	if (!(flags & (FLAG_IO | FLAG_MEM)) || end < start || end - start == UINT64_MAX)
		return;
	resource->address = start;
	resource->size = end - start + 1;
	resource->flags = (flags & FLAG_IO ? VD_PCI_RESOURCE_IO : 0) |
			  (flags & FLAG_64 ? VD_PCI_RESOURCE_64 : 0) |
			  (flags & FLAG_PREFETCH ? VD_PCI_RESOURCE_PREFETCH : 0);
	entry->placed[i] = !(flags & FLAG_UNSET) && start;
}

/* A line a resource: start, end, flags. Of a bridge, BARs and ROM: its windows hold others. */
static void read_resources(int dir, struct entry *entry)
{
	char text[4096], *line = text;
	ssize_t length = read_bytes(dir, "resource", text, sizeof(text) - 1);

	if (length <= 0)
		return;
	text[length] = 0;
	for (unsigned i = 0; i < VD_PCI_RESOURCES && line; i++) {
		char *next = strchr(line, '\n'), *at = line;
		uint64_t values[3];
		unsigned n;

		if (next)
			*next++ = 0;
		for (n = 0; n < 3; n++) {
			char *end;

			errno = 0;
			values[n] = strtoull(at, &end, 16);
			if (errno || end == at)
				break;
			at = end;
		}
		if (n == 3 && !*at &&
		    !(entry->bridge && i > 1 && i != VD_PCI_RESOURCE_ROM))
			take_resource(entry, i, values[0], values[1], values[2]);
		line = next;
	}
}

static unsigned count_members(int dir)
{
	int fd = openat(dir, "iommu_group/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	unsigned count = 0;

	if (!list) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (count <= VD_PCI_SYSFS_MAX && (d = readdir(list)))
		count += d->d_name[0] != '.';
	closedir(list);
	return count;
}

static void read_group(int dir, struct entry *entry)
{
	char text[12], *end;
	long value;

	entry->device.group = -1;
	if (!link_name(dir, "iommu_group", text, sizeof(text)) || !isdigit((unsigned char)*text))
		return;
	value = strtol(text, &end, 10);
	if (*end || value > INT_MAX)
		return;
	entry->device.group = (int)value;
	entry->members = count_members(dir);
}

static bool read_entry(int dir, struct entry *entry)
{
	struct vd_pci_sysfs_device *device = &entry->device;
	ssize_t length;

	if (!read_identity(dir, &device->identity))
		return false;
	length = read_bytes(dir, "config", device->config, sizeof(device->config));
	device->config_length = length > 0 ? (size_t)length : 0;
	entry->bridge = device->identity.class_code >> 8 == 0x0604 ||
			(device->config_length > PCI_HEADER_TYPE &&
			 (device->config[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL);
	read_resources(dir, entry);
	read_group(dir, entry);
	if (!link_name(dir, "driver", device->driver, sizeof(device->driver)))
		device->driver[0] = 0;
	return true;
}

/* ---- all of them ---- */

static void insert(struct vd_pci_sysfs *sysfs, struct entry *entry)
{
	unsigned at = sysfs->count++;

	for (; at && compare(&sysfs->entries[at - 1]->device, &entry->device) > 0; at--)
		sysfs->entries[at] = sysfs->entries[at - 1];
	sysfs->entries[at] = entry;
}

static int add_device(struct vd_pci_sysfs *sysfs, int parent, const char *name)
{
	struct entry *entry;
	bool fine = false;
	int dir;

	if (sysfs->count == VD_PCI_SYSFS_MAX) {
		sysfs->left_out++;
		return 0;
	}
	entry = vd_env_allocate(sysfs->env, "pci.sysfs.device", sizeof(*entry),
				_Alignof(struct entry));
	if (!entry)
		return -ENOMEM;
	dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fine = parse_address(name, false, &entry->device) && read_entry(dir, entry);
		close(dir);
	}
	if (!fine) {
		sysfs->left_out++;
		sysfs->env->release(sysfs->env, entry, sizeof(*entry));
		return 0;
	}
	make_name(&entry->device);
	insert(sysfs, entry);
	return 0;
}

static int read_all(struct vd_pci_sysfs *sysfs, DIR *list)
{
	struct dirent *d;
	int rc = 0;

	while (!rc && sysfs->left_out < VD_PCI_SYSFS_MAX) {
		errno = 0;
		d = readdir(list);
		if (!d)
			return errno ? -errno : 0;
		if (d->d_name[0] != '.')
			rc = add_device(sysfs, dirfd(list), d->d_name);
	}
	return rc;
}

static int open_list(const char *root, DIR **list, struct vd_error *error)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd, rc;

	*list = NULL;
	if (dir < 0)
		return vd_error_set(error, -errno, "%s: %s", root, strerror(errno));
	fd = openat(dir, "bus/pci/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -errno : 0;
	close(dir);
	/* A machine without PCI. */
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return vd_error_set(error, rc, "%s/bus/pci/devices: %s", root, strerror(-rc));
	*list = fdopendir(fd);
	if (!*list) {
		close(fd);
		return vd_error_set(error, -ENOMEM, "no memory to read %s", root);
	}
	return 0;
}

int vd_pci_sysfs_open(const struct vd_env *env, const char *root, struct vd_pci_sysfs **out,
		      struct vd_error *error)
{
	struct vd_pci_sysfs *sysfs;
	DIR *list;
	int rc = open_list(root, &list, error);

	if (rc)
		return rc;
	sysfs = vd_env_allocate(env, "pci.sysfs", sizeof(*sysfs), _Alignof(struct vd_pci_sysfs));
	if (!sysfs) {
		if (list)
			closedir(list);
		return vd_error_set(error, -ENOMEM, "no memory for the devices of %s", root);
	}
	sysfs->env = env;
	if (list) {
		rc = read_all(sysfs, list);
		closedir(list);
	}
	if (rc) {
		vd_pci_sysfs_close(sysfs);
		return vd_error_set(error, rc, "%s/bus/pci/devices: %s", root, strerror(-rc));
	}
	*out = sysfs;
	return 0;
}

void vd_pci_sysfs_close(struct vd_pci_sysfs *sysfs)
{
	if (!sysfs)
		return;
	for (unsigned i = 0; i < sysfs->count; i++)
		sysfs->env->release(sysfs->env, sysfs->entries[i], sizeof(*sysfs->entries[i]));
	sysfs->env->release(sysfs->env, sysfs, sizeof(*sysfs));
}

unsigned vd_pci_sysfs_count(const struct vd_pci_sysfs *sysfs)
{
	return sysfs->count;
}

unsigned vd_pci_sysfs_left_out(const struct vd_pci_sysfs *sysfs)
{
	return sysfs->left_out;
}

const struct vd_pci_sysfs_device *vd_pci_sysfs_device(const struct vd_pci_sysfs *sysfs,
						      unsigned index)
{
	return index < sysfs->count ? &sysfs->entries[index]->device : NULL;
}

int vd_pci_sysfs_find(const struct vd_pci_sysfs *sysfs, const char *name)
{
	const char *base = strrchr(name, '/');
	struct vd_pci_sysfs_device wanted;

	if (!parse_address(base ? base + 1 : name, true, &wanted))
		return -EINVAL;
	for (unsigned i = 0; i < sysfs->count; i++)
		if (!compare(&sysfs->entries[i]->device, &wanted))
			return (int)i;
	return -ENOENT;
}

/* ---- groups ---- */

static bool is_users(const struct entry *entry)
{
	const char *driver = entry->device.driver;

	return !*driver || !strcmp(driver, "vfio-pci") || !strcmp(driver, "pci-stub") ||
	       entry->bridge;
}

bool vd_pci_sysfs_group_whole(const struct vd_pci_sysfs *sysfs, unsigned index)
{
	const struct entry *of = index < sysfs->count ? sysfs->entries[index] : NULL;
	unsigned seen = 0;

	if (!of || of->device.group < 0)
		return false;
	for (unsigned i = 0; i < sysfs->count; i++) {
		if (sysfs->entries[i]->device.group != of->device.group)
			continue;
		if (!is_users(sysfs->entries[i]))
			return false;
		seen++;
	}
	/* Somebody who is no PCI device, or was left out. */
	return !of->members || seen == of->members;
}

/* ---- the decision ---- */

struct neighbourhood {
	unsigned count;
	struct vd_pci_neighbour neighbours[NEIGHBOURS_MAX];
	char names[NEIGHBOURS_MAX][NAME_BYTES];
};

static void find_hidden(const struct entry *entry, unsigned resource,
			struct vd_region_area hidden[VD_PCI_HIDDEN_MAX])
{
	struct vd_pci_msix_place msix;

	vd_pci_find_msix(entry->device.config, entry->device.config_length, &msix);
	if (msix.vectors && msix.table_bar == resource)
		hidden[0] = msix.table;
	if (msix.vectors && msix.pba_bar == resource)
		hidden[1] = msix.pba;
}

static void name_resource(const struct entry *entry, unsigned i, char *text, size_t room)
{
	if (i < VD_PCI_BARS)
		snprintf(text, room, "%s BAR %u", entry->device.name, i);
	else if (i == VD_PCI_RESOURCE_ROM)
		snprintf(text, room, "%s ROM", entry->device.name);
	else
		snprintf(text, room, "%s VF BAR %u", entry->device.name,
			 i - VD_PCI_RESOURCE_ROM - 1);
}

static void add_neighbour(struct neighbourhood *hood, const struct entry *entry, unsigned i,
			  int group)
{
	const struct vd_pci_resource *resource = &entry->device.resources[i];
	struct vd_pci_neighbour *of;

	/* The last one stands for all that find no room, and is nobody's friend. */
	if (hood->count == NEIGHBOURS_MAX) {
		hood->neighbours[NEIGHBOURS_MAX - 1].same_group = false;
		return;
	}
	of = &hood->neighbours[hood->count];
	name_resource(entry, i, hood->names[hood->count], NAME_BYTES);
	*of = (struct vd_pci_neighbour){
		.name = hood->names[hood->count],
		.address = resource->address,
		.size = resource->size,
		.same_group = group >= 0 && entry->device.group == group,
	};
	find_hidden(entry, i, of->hidden);
	for (unsigned h = 0; h < VD_PCI_HIDDEN_MAX; h++)
		if (__builtin_add_overflow(of->hidden[h].offset, resource->address,
					   &of->hidden[h].offset))
			of->hidden[h].size = 0;
	hood->count++;
}

static void look_around(const struct vd_pci_sysfs *sysfs, const struct entry *of, unsigned resource,
			uint64_t page, struct neighbourhood *hood)
{
	const struct vd_pci_resource *own = &of->device.resources[resource];
	uint64_t first = own->address & ~(page - 1);
	uint64_t last = (own->address + own->size - 1) | (page - 1);

	for (unsigned n = 0; n < sysfs->count; n++) {
		const struct entry *entry = sysfs->entries[n];

		for (unsigned i = 0; i < VD_PCI_RESOURCES; i++) {
			const struct vd_pci_resource *other = &entry->device.resources[i];

			if (!other->size || !entry->placed[i] ||
			    other->flags & VD_PCI_RESOURCE_IO || (entry == of && i == resource))
				continue;
			if (other->address <= last &&
			    other->address + (other->size - 1) >= first)
				add_neighbour(hood, entry, i, of->device.group);
		}
	}
}

static unsigned one_part(const struct vd_pci_resource *resource, const char *reason,
			 struct vd_pci_bar_part *part)
{
	*part = (struct vd_pci_bar_part){0, resource->size, VD_PCI_WHY_MEMORY, ""};
	snprintf(part->reason, sizeof(part->reason), "%s", reason);
	return 1;
}

unsigned vd_pci_sysfs_plan(const struct vd_pci_sysfs *sysfs, unsigned index, unsigned resource,
			   const struct vd_pci_sysfs_view *view,
			   struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX])
{
	const struct entry *entry = index < sysfs->count ? sysfs->entries[index] : NULL;
	const struct vd_pci_resource *of;
	struct neighbourhood hood = {0};
	struct vd_pci_direct_facts facts;

	if (!entry || resource >= VD_PCI_RESOURCES || !entry->device.resources[resource].size)
		return 0;
	of = &entry->device.resources[resource];
	if (of->flags & VD_PCI_RESOURCE_IO)
		return one_part(of, "I/O ports are no memory", parts);
	if (!entry->placed[resource])
		return one_part(of, "the host gave it no address", parts);
	if (resource == VD_PCI_RESOURCE_ROM)
		return one_part(of, "an expansion ROM is read once", parts);
	look_around(sysfs, entry, resource, view->page, &hood);
	facts = (struct vd_pci_direct_facts){
		.address = of->address,
		.size = of->size,
		.page = view->page,
		.mappable = true,
		.isolated = view->isolated,
		.neighbours = hood.neighbours,
		.neighbour_count = hood.count,
		.group_whole = vd_pci_sysfs_group_whole(sysfs, index),
		.platform = view->platform,
	};
	find_hidden(entry, resource, facts.hidden);
	/* Such a platform gives a group whole pages: nobody else can come to be there. */
	if (view->platform && entry->device.group >= 0) {
		facts.group.offset = of->address & ~(view->page - 1);
		facts.group.size = ((of->address + (of->size - 1)) | (view->page - 1)) -
				   facts.group.offset + 1;
	}
	if (!strcmp(entry->device.driver, "vfio-pci") && !(of->address & (view->page - 1)))
		facts.claimed = (struct vd_region_area){
			of->address, (of->size + view->page - 1) & ~(view->page - 1)};
	return vd_pci_direct_plan(&facts, parts);
}
