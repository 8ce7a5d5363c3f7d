/* SPDX-License-Identifier: BSD-2-Clause */
/* A sysfs of PCI devices in a temporary directory. */
#ifndef VIADUCT_TESTS_PCI_SYSFS_TREE_H
#define VIADUCT_TESTS_PCI_SYSFS_TREE_H

#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_PATH 256u

struct tree {
	char root[64];
};

/* What has to work for a test to mean anything. */
#define TREE_MUST(condition)                                                                       \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			perror(#condition);                                                        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static inline void tree_path(const struct tree *tree, const char *device, const char *name,
			     char path[TREE_PATH])
{
	TREE_MUST(snprintf(path, TREE_PATH, "%s/bus/pci/devices/%s%s%s", tree->root, device,
			   name ? "/" : "", name ? name : "") < (int)TREE_PATH);
}

static inline void tree_shell(const char *format, const char *a)
{
	char command[TREE_PATH];

	TREE_MUST(snprintf(command, sizeof(command), format, a) < (int)sizeof(command));
	TREE_MUST(!system(command));
}

static inline void tree_create(struct tree *tree)
{
	char path[TREE_PATH];
	static const char *const parts[] = {"bus", "bus/pci", "bus/pci/devices", "kernel",
					    "kernel/iommu_groups"};

	strcpy(tree->root, "/tmp/viaduct-sysfs-XXXXXX");
	TREE_MUST(mkdtemp(tree->root));
	for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		snprintf(path, sizeof(path), "%s/%s", tree->root, parts[i]);
		TREE_MUST(!mkdir(path, 0700));
	}
}

static inline void tree_remove(struct tree *tree)
{
	tree_shell("rm -rf '%s'", tree->root);
}

static inline void tree_file(const struct tree *tree, const char *device, const char *name,
			     const void *data, size_t length)
{
	char path[TREE_PATH];
	int fd;

	tree_path(tree, device, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	TREE_MUST(fd >= 0 && write(fd, data, length) == (ssize_t)length && !close(fd));
}

static inline void tree_number(const struct tree *tree, const char *device, const char *name,
			       unsigned value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%04x\n", value);
	tree_file(tree, device, name, text, strlen(text));
}

static inline void tree_device(const struct tree *tree, const char *device, unsigned vendor,
			       unsigned id, unsigned class_code)
{
	static const char none[] = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
	char path[TREE_PATH], resources[13 * sizeof(none)] = "";
	uint8_t config[256] = {0};

	tree_path(tree, device, NULL, path);
	TREE_MUST(!mkdir(path, 0700));
	tree_number(tree, device, "vendor", vendor);
	tree_number(tree, device, "device", id);
	tree_number(tree, device, "class", class_code);
	for (unsigned i = 0; i < 13; i++)
		strcat(resources, none);
	tree_file(tree, device, "resource", resources, strlen(resources));
	tree_file(tree, device, "config", config, sizeof(config));
}

static inline void tree_resource(const struct tree *tree, const char *device, unsigned i,
				 uint64_t address, uint64_t size, unsigned flags)
{
	char path[TREE_PATH], line[64];
	int fd;

	tree_path(tree, device, "resource", path);
	snprintf(line, sizeof(line), "0x%016llx 0x%016llx 0x%016x\n", (unsigned long long)address,
		 (unsigned long long)(address + size - 1), flags);
	fd = open(path, O_WRONLY);
	TREE_MUST(fd >= 0 && pwrite(fd, line, 57, i * 57) == 57 && !close(fd));
}

static inline void tree_replace_link(const char *path, const char *target)
{
	(void)unlink(path);
	TREE_MUST(!symlink(target, path));
}

static inline void tree_link(const struct tree *tree, const char *device, const char *target)
{
	char path[TREE_PATH];

	tree_path(tree, device, NULL, path);
	tree_replace_link(path, target);
}

static inline void tree_group_link(const struct tree *tree, const char *device, const char *target)
{
	char path[TREE_PATH];

	tree_path(tree, device, "iommu_group", path);
	tree_replace_link(path, target);
}

static inline void tree_stranger(const struct tree *tree, unsigned group, const char *name)
{
	char path[TREE_PATH];

	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u", tree->root, group);
	(void)mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u/devices", tree->root, group);
	(void)mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u/devices/%s", tree->root, group,
		 name);
	tree_replace_link(path, "../nowhere");
}

static inline void tree_group(const struct tree *tree, const char *device, unsigned group)
{
	char target[TREE_PATH];

	tree_stranger(tree, group, device);
	snprintf(target, sizeof(target), "../../../../kernel/iommu_groups/%u", group);
	tree_group_link(tree, device, target);
}

static inline void tree_driver(const struct tree *tree, const char *device, const char *driver)
{
	char path[TREE_PATH], target[TREE_PATH];

	tree_path(tree, device, "driver", path);
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	tree_replace_link(path, target);
}

static inline void tree_pipe(const struct tree *tree, const char *device, const char *name)
{
	char path[TREE_PATH];

	tree_path(tree, device, name, path);
	(void)unlink(path);
	TREE_MUST(!mkfifo(path, 0600));
}

/* A list of capabilities of which MSI-X is the only one. */
static inline void tree_msix(const struct tree *tree, const char *device, unsigned vectors,
			     uint32_t table, uint32_t pba)
{
	uint8_t config[256] = {[6] = 0x10, [0x34] = 0x40, [0x40] = 0x11};

	config[0x42] = (uint8_t)(vectors - 1);
	memcpy(config + 0x44, &table, 4);
	memcpy(config + 0x48, &pba, 4);
	tree_file(tree, device, "config", config, sizeof(config));
}

#endif
