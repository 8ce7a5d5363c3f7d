/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfio-user on the wire: version 0.1 of the specification (QEMU, docs/interop/vfio-user.rst), whose
 * section names head the parts below. All in the byte order of the host. Structures are laid out
 * without holes; a message's payload has no alignment of its own: copy out of it and into it.
 *
 * Flags of VFIO itself (regions, interrupts, features, states of migration) are those of
 * <linux/vfio.h>; what the one of Debian 12 lacks is at the end.
 */
#ifndef VIADUCT_TRANSPORT_USER_PROTOCOL_H
#define VIADUCT_TRANSPORT_USER_PROTOCOL_H

#include <linux/vfio.h>
#include <stdint.h>

#define USER_MAJOR 0u
#define USER_MINOR 1u

/* "Commands" */
enum user_command {
	USER_VERSION = 1,
	USER_DMA_MAP = 2,
	USER_DMA_UNMAP = 3,
	USER_GET_INFO = 4,
	USER_GET_REGION_INFO = 5,
	USER_GET_REGION_IO_FDS = 6,
	USER_GET_IRQ_INFO = 7,
	USER_SET_IRQS = 8,
	USER_REGION_READ = 9,
	USER_REGION_WRITE = 10,
	USER_DMA_READ = 11,  /* from the server to the client */
	USER_DMA_WRITE = 12, /* likewise */
	USER_RESET = 13,
	USER_WRITE_MULTI = 15,
	USER_FEATURE = 16,
	USER_MIGRATION_READ = 17,
	USER_MIGRATION_WRITE = 18,
	USER_COMMANDS
};

/* "Header" */
#define USER_TYPE_MASK 0xfu
#define USER_TYPE_COMMAND 0u
#define USER_TYPE_REPLY 1u
#define USER_NO_REPLY 0x10u
#define USER_ERROR 0x20u

struct user_header {
	uint16_t id, command;
	uint32_t size; /* of the whole message */
	uint32_t flags, error;
};

/* "VFIO_USER_VERSION", followed by JSON with its NUL; what is assumed of a peer that is silent */
struct user_version {
	uint16_t major, minor;
};
#define USER_DEFAULT_FDS 1u
#define USER_DEFAULT_TRANSFER (1u << 20)
#define USER_DEFAULT_MAPS 65535u

/* "VFIO_USER_DMA_MAP" */
#define USER_DMA_READABLE 1u
#define USER_DMA_WRITABLE 2u
struct user_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

/*
 * "VFIO_USER_DMA_UNMAP". The flags are not in the specification any more, but peers have them as
 * VFIO_DMA_UNMAP_FLAG_*; with the first one a struct user_bitmap follows, and in the reply its bits
 */
#define USER_UNMAP_BITMAP 1u
#define USER_UNMAP_ALL 2u
struct user_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};
struct user_bitmap {
	uint64_t page_size, size;
};

/* "VFIO_USER_DEVICE_GET_INFO" */
struct user_device_info {
	uint32_t argsz, flags, regions, irqs;
};

/* "VFIO_USER_DEVICE_GET_REGION_INFO", as struct vfio_region_info, and what its capabilities hold */
struct user_region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};
struct user_capability {
	uint16_t id, version;
	uint32_t next; /* from the beginning of struct user_region_info */
};
struct user_sparse {
	struct user_capability header;
	uint32_t count, reserved;
};
/*
 * Not in the specification: a capability that only a client gets which said "page_offset". The page
 * holds other BARs of the device's group; where in it the region starts, the offset's low bits say
 */
#define USER_CAPABILITY_SHARED_PAGE 0xfd00u
struct user_area {
	uint64_t offset, size;
};

/* "VFIO_USER_DEVICE_GET_REGION_IO_FDS" */
#define USER_IOEVENTFD 0u
struct user_io_fds {
	uint32_t argsz, flags, index, count;
};
struct user_io_fd {
	uint64_t offset, size;
	uint32_t fd_index, type, flags, padding;
	uint64_t datamatch;
};

/* "VFIO_USER_DEVICE_GET_IRQ_INFO", "VFIO_USER_DEVICE_SET_IRQS" */
struct user_irq_info {
	uint32_t argsz, flags, index, count;
};
struct user_irq_set {
	uint32_t argsz, flags, index, start, count;
};

/* "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE", "VFIO_USER_REGION_WRITE_MULTI" */
struct user_region_access {
	uint64_t offset;
	uint32_t region, count;
};
struct user_write_multi {
	uint64_t count;
};
struct user_write {
	uint64_t offset;
	uint32_t region, count;
	uint8_t data[8];
};

/*
 * "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE". QEMU before 11.1 replies with a count of 32 bits:
 * USER_DMA_ACCESS_SHORT bytes before the data
 */
struct user_dma_access {
	uint64_t address, count;
};
#define USER_DMA_ACCESS_SHORT 12u

/* "VFIO_USER_DEVICE_FEATURE" and its data */
struct user_feature {
	uint32_t argsz, flags;
};
struct user_migration {
	uint64_t flags;
};
struct user_device_state {
	uint32_t state, data_fd;
};
struct user_logging {
	uint64_t page_size;
	uint32_t count, reserved;
};
struct user_logging_range {
	uint64_t iova, length;
};
struct user_logging_report {
	uint64_t iova, length, page_size;
};

/* "VFIO_USER_MIG_DATA_READ", "VFIO_USER_MIG_DATA_WRITE" */
struct user_migration_data {
	uint32_t argsz, size;
};

#define USER_SIZE(name, bytes) _Static_assert(sizeof(struct name) == (bytes), #name)
USER_SIZE(user_header, 16);
USER_SIZE(user_version, 4);
USER_SIZE(user_dma_map, 32);
USER_SIZE(user_dma_unmap, 24);
USER_SIZE(user_bitmap, 16);
USER_SIZE(user_device_info, 16);
USER_SIZE(user_region_info, 32);
USER_SIZE(user_capability, 8);
USER_SIZE(user_sparse, 16);
USER_SIZE(user_area, 16);
USER_SIZE(user_io_fds, 16);
USER_SIZE(user_io_fd, 40);
USER_SIZE(user_irq_info, 16);
USER_SIZE(user_irq_set, 20);
USER_SIZE(user_region_access, 16);
USER_SIZE(user_write_multi, 8);
USER_SIZE(user_write, 24);
USER_SIZE(user_dma_access, 16);
USER_SIZE(user_feature, 8);
USER_SIZE(user_migration, 8);
USER_SIZE(user_device_state, 8);
USER_SIZE(user_logging, 16);
USER_SIZE(user_logging_range, 16);
USER_SIZE(user_logging_report, 24);
USER_SIZE(user_migration_data, 8);
#undef USER_SIZE

/* The wire's structures are the kernel's where the specification says so. */
_Static_assert(sizeof(struct user_region_info) == sizeof(struct vfio_region_info), "region info");
_Static_assert(sizeof(struct user_irq_info) == sizeof(struct vfio_irq_info), "irq info");
_Static_assert(sizeof(struct user_irq_set) == sizeof(struct vfio_irq_set), "irq set");
_Static_assert(sizeof(struct user_feature) == sizeof(struct vfio_device_feature), "feature");

/* Linux 6.2 */
#ifndef VFIO_MIGRATION_PRE_COPY
#define VFIO_MIGRATION_PRE_COPY (1u << 2)
#endif

#endif
