/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a client may get wrong, a line each: the message, its descriptors, the error of the reply,
 * and whether the connection ends. Each comes from a client of its own, which has four pages of
 * memory, reached by messages, at MAPPED; afterwards that client works on unless it was to be cut
 * off, another one's device has not noticed, and no descriptor and no client is left. At the end
 * no memory is. What takes more than one message is in test_memory.c, test_dma.c and
 * test_peer_faults.c.
 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAPPED UINT64_C(0x100000)
#define WORDS 16u
#define Q(value) (uint32_t)(value), (uint32_t)((uint64_t)(value) >> 32)
#define TOP (UINT64_MAX - PAGE + 1)

/* Descriptors, a letter each: see give(). */
struct row {
	const char *what;
	unsigned command;
	unsigned length; /* of the payload */
	uint32_t words[WORDS];
	const char *fds;
	int error;
	bool ends;
	uint32_t flags, size; /* of the header; 0: the right one */
};

#define MAP(...) USER_DMA_MAP, 32, {__VA_ARGS__}
#define UNMAP(...) USER_DMA_UNMAP, 24, {__VA_ARGS__}
#define UNMAP_BITS(...) USER_DMA_UNMAP, 40, {__VA_ARGS__}
#define INFO(...) USER_GET_INFO, 16, {__VA_ARGS__}
#define REGION(...) USER_GET_REGION_INFO, 32, {__VA_ARGS__}
#define IO_FDS(...) USER_GET_REGION_IO_FDS, 16, {__VA_ARGS__}
#define IRQ(...) USER_GET_IRQ_INFO, 16, {__VA_ARGS__}
#define SET(...) USER_SET_IRQS, 20, {__VA_ARGS__}
#define READ(...) USER_REGION_READ, 16, {__VA_ARGS__}
#define WRITE8(...) USER_REGION_WRITE, 24, {__VA_ARGS__}
#define MULTI(...) USER_WRITE_MULTI, 32, {__VA_ARGS__}
#define FEATURE(length, ...) USER_FEATURE, length, {__VA_ARGS__}
#define SHORT(command, length) command, length, {0}

#define GET VFIO_DEVICE_FEATURE_GET
#define PUT VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define STATE VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
#define START VFIO_DEVICE_FEATURE_DMA_LOGGING_START
#define STOP VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP
#define REPORT VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
#define EVENT (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NONE (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define BOOL (VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER)

/* What a line does not say is 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static const struct row headers[] = {
	{"no command 0", SHORT(0, 64), "", ENOTSUP},
	{"no command 14", SHORT(14, 64), "", ENOTSUP},
	{"no command 19", SHORT(USER_COMMANDS, 64), "", ENOTSUP},
	{"no command 255", SHORT(255, 64), "", ENOTSUP},
	{"no command 65535", SHORT(65535, 64), "mep", ENOTSUP},
	{"version again", USER_VERSION, 4, {0x10000}, "", EINVAL},
	{"the server's own read", SHORT(USER_DMA_READ, 16), "", ENOTSUP},
	{"the server's own write", SHORT(USER_DMA_WRITE, 32), "", ENOTSUP},
	{"type 2", SHORT(USER_RESET, 0), "", EINVAL, false, 2},
	{"type 15", SHORT(USER_RESET, 0), "", EINVAL, false, 15},
	{"a size of 1", SHORT(USER_RESET, 0), "", 0, true, 0, 1},
	{"a size of 15", SHORT(USER_RESET, 0), "", 0, true, 0, 15},
	{"a size beyond all", SHORT(USER_RESET, 0), "", 0, true, 0, (1u << 20) + 65537},
	{"a size of 2^31", SHORT(USER_RESET, 0), "", 0, true, 0, 1u << 31},
	{"a size of 2^32-1", SHORT(USER_RESET, 0), "me", 0, true, 0, UINT32_MAX},
	{"reset with bytes behind", SHORT(USER_RESET, 64), "", 0},
	{"reset with descriptors", SHORT(USER_RESET, 0), "mepd", 0},
	{"info with a descriptor", INFO(16), "e", 0},
	{"read with descriptors", READ(Q(0), 0, 8), "mm", 0},
	{"unmap with a descriptor", UNMAP(24, 0, Q(MAPPED), Q(4 * PAGE)), "m", 0},
	{"map that is cut", SHORT(USER_DMA_MAP, 31), "m", EINVAL},
	{"map without payload", SHORT(USER_DMA_MAP, 0), "m", EINVAL},
	{"unmap that is cut", SHORT(USER_DMA_UNMAP, 23), "", EINVAL},
	{"info that is cut", SHORT(USER_GET_INFO, 15), "", EINVAL},
	{"region info that is cut", SHORT(USER_GET_REGION_INFO, 31), "", EINVAL},
	{"io fds that are cut", SHORT(USER_GET_REGION_IO_FDS, 15), "", EINVAL},
	{"irq info that is cut", SHORT(USER_GET_IRQ_INFO, 15), "", EINVAL},
	{"irqs that are cut", SHORT(USER_SET_IRQS, 19), "e", EINVAL},
	{"read that is cut", SHORT(USER_REGION_READ, 15), "", EINVAL},
	{"write that is cut", SHORT(USER_REGION_WRITE, 15), "", EINVAL},
	{"multi that is cut", SHORT(USER_WRITE_MULTI, 7), "", EINVAL},
	{"feature that is cut", SHORT(USER_FEATURE, 7), "", EINVAL},
	{"state read that is cut", SHORT(USER_MIGRATION_READ, 7), "", EINVAL},
	{"state write that is cut", SHORT(USER_MIGRATION_WRITE, 7), "", EINVAL},
};

static const struct row memory[] = {
	{"argsz 0", MAP(0, 3, Q(0), Q(0), Q(PAGE)), "m", EINVAL},
	{"argsz 31", MAP(31, 3, Q(0), Q(0), Q(PAGE)), "m", EINVAL},
	{"no right", MAP(32, 0, Q(0), Q(0), Q(PAGE)), "m", EINVAL},
	{"an unknown right", MAP(32, 7, Q(0), Q(0), Q(PAGE)), "m", EINVAL},
	{"all rights", MAP(32, UINT32_MAX, Q(0), Q(0), Q(PAGE)), "m", EINVAL},
	{"no right by message", MAP(32, 0, Q(0), Q(0), Q(PAGE)), "", EINVAL},
	{"no size", MAP(32, 3, Q(0), Q(0), Q(0)), "m", EINVAL},
	{"no size by message", MAP(32, 3, Q(0), Q(0), Q(0)), "", EINVAL},
	{"a part of a page", MAP(32, 3, Q(0), Q(0), Q(PAGE + 8)), "m", EINVAL},
	{"a part of a page by message", MAP(32, 3, Q(0), Q(0), Q(8)), "", EINVAL},
	{"address in a page", MAP(32, 3, Q(0), Q(8), Q(PAGE)), "m", EINVAL},
	{"address in a page by message", MAP(32, 3, Q(0), Q(8), Q(PAGE)), "", EINVAL},
	{"offset in a page", MAP(32, 3, Q(8), Q(0), Q(PAGE)), "m", EINVAL},
	{"up to the end", MAP(32, 3, Q(0), Q(UINT64_MAX - 4 * PAGE + 1), Q(4 * PAGE)), "", 0},
	{"over the end", MAP(32, 3, Q(0), Q(TOP), Q(2 * PAGE)), "m", EOVERFLOW},
	{"over the end by message", MAP(32, 3, Q(0), Q(TOP), Q(2 * PAGE)), "", EOVERFLOW},
	{"size 2^64-1", MAP(32, 3, Q(0), Q(0), Q(UINT64_MAX)), "m", ENOSPC},
	{"size of all pages", MAP(32, 3, Q(0), Q(0), Q(TOP)), "m", ENOSPC},
	{"all of it by message", MAP(32, 3, Q(0), Q(PAGE), Q(TOP)), "", EEXIST},
	{"beyond the file", MAP(32, 3, Q(0), Q(0), Q(5 * PAGE)), "m", EINVAL},
	{"offset beyond the file", MAP(32, 3, Q(4 * PAGE), Q(0), Q(PAGE)), "m", EINVAL},
	{"offset and size wrap", MAP(32, 3, Q(TOP), Q(0), Q(2 * PAGE)), "m", EINVAL},
	{"offset 2^63", MAP(32, 3, Q(1ull << 63), Q(0), Q(PAGE)), "m", EINVAL},
	{"what is mapped", MAP(32, 3, Q(0), Q(MAPPED), Q(4 * PAGE)), "m", EEXIST},
	{"what is mapped, by message", MAP(32, 3, Q(0), Q(MAPPED), Q(PAGE)), "", EEXIST},
	{"over its beginning", MAP(32, 3, Q(0), Q(MAPPED - PAGE), Q(2 * PAGE)), "m", EEXIST},
	{"over its end", MAP(32, 3, Q(0), Q(MAPPED + 3 * PAGE), Q(2 * PAGE)), "m", EEXIST},
	{"two descriptors", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "mm", EINVAL},
	{"eight descriptors", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "mmmmmmmm", EINVAL},
	{"more than there may be", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "mmmmmmmmmmmmmmmmmmmm", EMFILE},
	{"a pipe", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "p", EACCES},
	{"a directory", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "d", EACCES},
	{"an eventfd", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "e", EINVAL},
	{"an empty file", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "z", EINVAL},
	{"a file to read only", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "r", EACCES},
	{"its own socket", MAP(32, 3, Q(0), Q(0), Q(PAGE)), "s", EINVAL},
	{"unmap: argsz 0", UNMAP(0, 0, Q(MAPPED), Q(4 * PAGE)), "", EINVAL},
	{"unmap: argsz 23", UNMAP(23, 0, Q(MAPPED), Q(4 * PAGE)), "", EINVAL},
	{"unmap: unknown flag", UNMAP(24, 4, Q(MAPPED), Q(4 * PAGE)), "", EINVAL},
	{"unmap: all flags", UNMAP(24, UINT32_MAX, Q(0), Q(0)), "", EINVAL},
	{"unmap: both flags", UNMAP(24, 3, Q(0), Q(0)), "", EINVAL},
	{"unmap: all, and a size", UNMAP(24, 2, Q(0), Q(PAGE)), "", EINVAL},
	{"unmap: all, and an address", UNMAP(24, 2, Q(PAGE), Q(0)), "", EINVAL},
	{"unmap: no size", UNMAP(24, 0, Q(MAPPED), Q(0)), "", EINVAL},
	{"unmap: nothing there", UNMAP(24, 0, Q(0), Q(PAGE)), "", ENOENT},
	{"unmap: its first page", UNMAP(24, 0, Q(MAPPED), Q(PAGE)), "", EINVAL},
	{"unmap: its last page", UNMAP(24, 0, Q(MAPPED + 3 * PAGE), Q(PAGE)), "", EINVAL},
	{"unmap: its middle", UNMAP(24, 0, Q(MAPPED + PAGE), Q(PAGE)), "", EINVAL},
	{"unmap: in a page", UNMAP(24, 0, Q(MAPPED + 8), Q(4 * PAGE)), "", EINVAL},
	{"unmap: over the end", UNMAP(24, 0, Q(TOP), Q(2 * PAGE)), "", EOVERFLOW},
	{"unmap: size 2^64-1", UNMAP(24, 0, Q(0), Q(UINT64_MAX)), "", EINVAL},
	{"unmap: bitmap missing", UNMAP(48, 1, Q(MAPPED), Q(4 * PAGE)), "", EINVAL},
	{"unmap: no room for bits", UNMAP_BITS(40, 1, Q(MAPPED), Q(4 * PAGE), Q(PAGE), Q(8)), "",
	 EINVAL},
	{"unmap: no page size", UNMAP_BITS(48, 1, Q(MAPPED), Q(4 * PAGE), Q(0), Q(8)), "", EINVAL},
	{"unmap: odd page size", UNMAP_BITS(48, 1, Q(MAPPED), Q(4 * PAGE), Q(4097), Q(8)), "",
	 EINVAL},
	{"unmap: too few bits", UNMAP_BITS(48, 1, Q(MAPPED), Q(4 * PAGE), Q(PAGE), Q(0)), "",
	 EINVAL},
	{"unmap: too many bits", UNMAP_BITS(UINT32_MAX, 1, Q(MAPPED), Q(4 * PAGE), Q(PAGE),
	 Q(UINT64_MAX)), "", EINVAL},
	{"unmap: more bits than fit", UNMAP_BITS(UINT32_MAX, 1, Q(0), Q(1ull << 60), Q(PAGE),
	 Q(1ull << 45)), "", EINVAL},
};

static const struct row information[] = {
	{"info: argsz 0", INFO(0), "", EINVAL},
	{"info: argsz 15", INFO(15), "", EINVAL},
	{"info: argsz 2^32-1", INFO(UINT32_MAX), "", 0},
	{"region: argsz 0", REGION(0, 0, 0), "", EINVAL},
	{"region: argsz 31", REGION(31, 0, 0), "", EINVAL},
	{"region: argsz 2^32-1", REGION(UINT32_MAX, 0, 1), "", 0},
	{"region 9", REGION(32, 0, 9), "", EINVAL},
	{"region 2^31", REGION(32, 0, 1u << 31), "", EINVAL},
	{"region 2^32-1", REGION(32, 0, UINT32_MAX), "", EINVAL},
	{"io fds: argsz 0", IO_FDS(0, 0, 0, 0), "", EINVAL},
	{"io fds: argsz 15", IO_FDS(15, 0, 0, 0), "", EINVAL},
	{"io fds: flags", IO_FDS(16, 1, 0, 0), "", EINVAL},
	{"io fds: region 9", IO_FDS(16, 0, 9, 0), "", EINVAL},
	{"io fds: region 2^32-1", IO_FDS(16, 0, UINT32_MAX, 0), "", EINVAL},
	{"io fds: count", IO_FDS(56, 0, 0, 1), "", EINVAL},
	{"io fds: count 2^32-1", IO_FDS(UINT32_MAX, 0, 0, UINT32_MAX), "", EINVAL},
	{"irq: argsz 0", IRQ(0, 0, 0), "", EINVAL},
	{"irq: argsz 15", IRQ(15, 0, 0), "", EINVAL},
	{"irq 5", IRQ(16, 0, 5), "", EINVAL},
	{"irq 2^32-1", IRQ(16, 0, UINT32_MAX), "", EINVAL},
};

static const struct row interrupts[] = {
	{"argsz 0", SET(0, EVENT, 2, 0, 1), "e", EINVAL},
	{"argsz 19", SET(19, EVENT, 2, 0, 1), "e", EINVAL},
	{"argsz beyond the message", SET(21, EVENT, 2, 0, 1), "e", EINVAL},
	{"argsz 2^32-1", SET(UINT32_MAX, EVENT, 2, 0, 1), "e", EINVAL},
	{"no flag", SET(20, 0, 2, 0, 1), "", EINVAL},
	{"no action", SET(20, VFIO_IRQ_SET_DATA_NONE, 2, 0, 1), "", ENOTTY},
	{"no data", SET(20, VFIO_IRQ_SET_ACTION_TRIGGER, 2, 0, 1), "", EINVAL},
	{"two kinds of data", SET(20, EVENT | VFIO_IRQ_SET_DATA_NONE, 2, 0, 1), "e", EINVAL},
	{"two actions", SET(20, EVENT | VFIO_IRQ_SET_ACTION_MASK, 2, 0, 1), "e", ENOTTY},
	{"an unknown flag", SET(20, EVENT | 1u << 6, 2, 0, 1), "e", EINVAL},
	{"all flags", SET(20, UINT32_MAX, 2, 0, 1), "e", EINVAL},
	{"index 5", SET(20, EVENT, 5, 0, 1), "e", EINVAL},
	{"index 2^32-1", SET(20, EVENT, UINT32_MAX, 0, 1), "e", EINVAL},
	{"start beyond the last", SET(20, EVENT, 2, 64, 1), "e", EINVAL},
	{"start 2^32-1", SET(20, EVENT, 2, UINT32_MAX, 1), "e", EINVAL},
	{"start and count wrap", SET(20, NONE, 2, UINT32_MAX, 2), "", EINVAL},
	{"count beyond the last", SET(20, NONE, 2, 63, 2), "", EINVAL},
	{"count 2^32-1", SET(20, NONE, 2, 1, UINT32_MAX), "", EINVAL},
	{"two INTx", SET(20, NONE, 0, 0, 2), "", EINVAL},
	{"a descriptor missing", SET(20, EVENT, 2, 0, 2), "e", EINVAL},
	{"a descriptor too many", SET(20, EVENT, 2, 0, 1), "ee", EINVAL},
	{"a descriptor for nothing", SET(20, NONE, 2, 0, 1), "e", EINVAL},
	{"descriptors for no vector", SET(20, EVENT, 2, 0, 0), "e", EINVAL},
	{"more than there may be", SET(20, EVENT, 2, 0, 20), "eeeeeeeeeeeeeeeeeeee", EMFILE},
	{"booleans missing", SET(20, BOOL, 2, 0, 4), "", EINVAL},
	{"booleans for 2^32-1", SET(20, BOOL, 2, 0, UINT32_MAX), "", EINVAL},
	{"mask by descriptor", SET(20, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, 0, 0,
	 1), "e", EINVAL},
	{"a pipe to be written", SET(20, EVENT, 2, 0, 1), "p", EINVAL},
	{"memory", SET(20, EVENT, 2, 0, 1), "m", EINVAL},
	{"a directory", SET(20, EVENT, 2, 0, 1), "d", EINVAL},
};

static const struct row accesses[] = {
	{"read: region 9", READ(Q(0), 9, 8), "", EINVAL},
	{"read: region 2^32-1", READ(Q(0), UINT32_MAX, 8), "", EINVAL},
	{"read: a region of no size", READ(Q(0), 8, 8), "", EINVAL},
	{"read: behind the end", READ(Q(PAGE), 0, 1), "", ERANGE},
	{"read: over the end", READ(Q(PAGE - 4), 0, 8), "", ERANGE},
	{"read: offset 2^63", READ(Q(1ull << 63), 0, 8), "", ERANGE},
	{"read: wraps", READ(Q(UINT64_MAX - 3), 0, 8), "", ERANGE},
	{"read: more than a transfer", READ(Q(0), 3, (1u << 20) + 1), "", EINVAL},
	{"read: 2^31", READ(Q(0), 3, 1u << 31), "", EINVAL},
	{"read: 2^32-1", READ(Q(0), 3, UINT32_MAX), "", EINVAL},
	{"read: over the ROM's end", READ(Q(8), 6, 9), "", ERANGE},
	{"read: over the configuration's end", READ(Q(252), 7, 8), "", ERANGE},
	{"read: bytes behind", USER_REGION_READ, 24, {Q(0), 0, 8}, "", EINVAL},
	{"write: region 9", WRITE8(Q(0), 9, 8), "", EINVAL},
	{"write: region 2^32-1", WRITE8(Q(0), UINT32_MAX, 8), "", EINVAL},
	{"write: a region of no size", WRITE8(Q(0), 8, 8), "", EINVAL},
	{"write: the ROM", WRITE8(Q(0), 6, 8), "", EACCES},
	{"write: behind the end", WRITE8(Q(PAGE), 0, 8), "", ERANGE},
	{"write: over the end", WRITE8(Q(PAGE - 4), 0, 8), "", ERANGE},
	{"write: wraps", WRITE8(Q(UINT64_MAX - 3), 0, 8), "", ERANGE},
	{"write: too few bytes", WRITE8(Q(0), 0, 9), "", EINVAL},
	{"write: too many bytes", WRITE8(Q(0), 0, 7), "", EINVAL},
	{"write: 2^32-1", WRITE8(Q(0), 0, UINT32_MAX), "", EINVAL},
	{"write: 2^32-8", WRITE8(Q(0), 0, UINT32_MAX - 7), "", EINVAL},
	{"multi: none, and bytes", MULTI(Q(0)), "", EINVAL},
	{"multi: one more", MULTI(Q(2), Q(0), 0, 8), "", EINVAL},
	{"multi: 2^64-1", MULTI(Q(UINT64_MAX), Q(0), 0, 8), "", EINVAL},
	{"multi: a count that wraps", MULTI(Q((1ull << 61) + 1), Q(0), 0, 8), "", EINVAL},
	{"multi: nine bytes", MULTI(Q(1), Q(0), 0, 9), "", EINVAL},
	{"multi: 2^32-1 bytes", MULTI(Q(1), Q(0), 0, UINT32_MAX), "", EINVAL},
	{"multi: region 9", MULTI(Q(1), Q(0), 9, 8), "", EINVAL},
	{"multi: behind the end", MULTI(Q(1), Q(PAGE), 0, 8), "", ERANGE},
	{"multi: wraps", MULTI(Q(1), Q(UINT64_MAX), 0, 8), "", ERANGE},
};

static const struct row features[] = {
	{"argsz 0", FEATURE(16, 0, GET | STATE), "", EINVAL},
	{"argsz 7", FEATURE(16, 7, GET | STATE), "", EINVAL},
	{"no method", FEATURE(16, 16, STATE), "", EINVAL},
	{"both methods", FEATURE(16, 16, GET | PUT | STATE), "", EINVAL},
	{"an unknown flag", FEATURE(16, 16, GET | STATE | 1u << 19), "", EINVAL},
	{"all flags", FEATURE(16, 16, UINT32_MAX), "", EINVAL},
	{"no feature 4095", FEATURE(16, 16, GET | 4095), "", ENOTTY},
	{"no feature 65535", FEATURE(16, 16, GET | 65535), "", ENOTTY},
	{"probe: no feature", FEATURE(8, 8, PROBE | 4095), "", ENOTTY},
	{"no room for a state", FEATURE(16, 8, GET | STATE), "", EINVAL},
	{"no state", FEATURE(8, 16, PUT | STATE), "", EINVAL},
	{"state 0", FEATURE(16, 16, PUT | STATE, 0), "", EINVAL},
	{"state 99", FEATURE(16, 16, PUT | STATE, 99), "", EINVAL},
	{"state 2^32-1", FEATURE(16, 16, PUT | STATE, UINT32_MAX), "", EINVAL},
	{"flags are not set", FEATURE(16, 16, PUT | VFIO_DEVICE_FEATURE_MIGRATION, 1), "", EINVAL},
	{"start is not got", FEATURE(24, 24, GET | START), "", ENOTTY},
	{"stop is not got", FEATURE(8, 8, GET | STOP), "", ENOTTY},
	{"reports are not set", FEATURE(32, 32, PUT | REPORT), "", ENOTTY},
	{"start that is cut", FEATURE(23, 23, PUT | START), "", EINVAL},
	{"start: reserved", FEATURE(24, 24, PUT | START, Q(PAGE), 0, 1), "", EINVAL},
	{"start: no page size", FEATURE(24, 24, PUT | START, Q(0), 0), "", EINVAL},
	{"start: odd page size", FEATURE(24, 24, PUT | START, Q(4097), 0), "", EINVAL},
	{"start: a range missing", FEATURE(24, 24, PUT | START, Q(PAGE), 1), "", EINVAL},
	{"start: 2^32-1 ranges", FEATURE(24, 24, PUT | START, Q(PAGE), UINT32_MAX), "", EINVAL},
	{"start: a range too many", FEATURE(40, 40, PUT | START, Q(PAGE), 0), "", EINVAL},
	{"start: a range wraps", FEATURE(40, 40, PUT | START, Q(PAGE), 1, 0, Q(TOP), Q(2 * PAGE)),
	 "", EOVERFLOW},
	{"start: a range of nothing", FEATURE(40, 40, PUT | START, Q(PAGE), 1, 0, Q(0), Q(0)), "",
	 EINVAL},
	{"report that is cut", FEATURE(31, 40, GET | REPORT), "", EINVAL},
	{"report: not started", FEATURE(32, 40, GET | REPORT, Q(MAPPED), Q(PAGE), Q(PAGE)), "",
	 ENODATA},
	{"report: no length", FEATURE(32, 40, GET | REPORT, Q(0), Q(0), Q(PAGE)), "", EINVAL},
	{"report: no page size", FEATURE(32, 40, GET | REPORT, Q(0), Q(PAGE), Q(0)), "", EINVAL},
	{"report: no room", FEATURE(32, 39, GET | REPORT, Q(0), Q(PAGE), Q(PAGE)), "", EINVAL},
	{"report: of all", FEATURE(32, UINT32_MAX, GET | REPORT, Q(0), Q(UINT64_MAX), Q(1)), "",
	 EINVAL},
	{"read: no argsz", USER_MIGRATION_READ, 8, {0, 8}, "", EINVAL},
	{"read: argsz too small", USER_MIGRATION_READ, 8, {15, 8}, "", EINVAL},
	{"read: more than a transfer", USER_MIGRATION_READ, 8, {UINT32_MAX, (1u << 20) + 1}, "",
	 EINVAL},
	{"read: 2^32-1", USER_MIGRATION_READ, 8, {UINT32_MAX, UINT32_MAX}, "", EINVAL},
	{"read: while it runs", USER_MIGRATION_READ, 8, {16, 8}, "", EINVAL},
	{"write: too few bytes", USER_MIGRATION_WRITE, 16, {16, 9}, "", EINVAL},
	{"write: too many bytes", USER_MIGRATION_WRITE, 16, {16, 7}, "", EINVAL},
	{"write: 2^32-1", USER_MIGRATION_WRITE, 16, {16, UINT32_MAX}, "", EINVAL},
	{"write: while it runs", USER_MIGRATION_WRITE, 16, {16, 8}, "", EINVAL},
};

static struct rig rig;
static struct wire other;
static struct vd_user_export *others;
static int kinds[6];

static void run(void)
{
	while (vd_user_server_run_once(rig.server, 0) > 0)
		;
}

/* Return: the reply's error; ECONNRESET */
static int say(struct wire *w, const struct row *row, const int *fds, unsigned fd_count)
{
	unsigned char bytes[sizeof(struct user_header) + 64];
	struct user_header header = {
		.id = 0x1234,
		.command = (uint16_t)row->command,
		.size = row->size ? row->size : (uint32_t)sizeof(header) + row->length,
		.flags = row->flags,
	};

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), row->words, sizeof(row->words));
	assert_int_equal(wire_raw(w->fd, bytes, sizeof(header) + row->length, fds, fd_count),
			 sizeof(header) + row->length);
	run();
	if (wire_receive(w, w->fd))
		return ECONNRESET;
	assert_int_equal(w->header.id, header.id);
	assert_int_equal(w->header.command, header.command);
	assert_int_equal(w->header.flags & USER_TYPE_MASK, USER_TYPE_REPLY);
	wire_drop_fds(w);
	if (!(w->header.flags & USER_ERROR))
		return 0;
	assert_int_equal(w->length, 0);
	return (int)w->header.error;
}

static int give(char kind, const struct wire *w)
{
	static const char letters[] = "mepdzr";

	return kind == 's' ? w->fd : kinds[strchr(letters, kind) - letters];
}

static void greet(struct wire *w)
{
	static const char json[] = "{\"capabilities\":{\"write_multiple\":true,\"max_msg_fds\":8}}";
	struct row hello = {.command = USER_VERSION, .length = 4 + sizeof(json),
			    .words = {0x10000}};

	_Static_assert(sizeof(json) <= sizeof(hello.words) - 4, "room");
	memcpy(hello.words + 1, json, sizeof(json));
	wire_open(w, rig.path);
	assert_int_equal(say(w, &hello, NULL, 0), 0);
}

/* It reads a register. */
static void check_works(struct wire *w)
{
	static const struct row scratch = {"", READ(Q(8 * PROBE_SCRATCH), 0, 8), ""};

	assert_int_equal(say(w, &scratch, NULL, 0), 0);
	assert_int_equal(w->length, 24);
}

static void try_row(const struct row *row)
{
	static const struct row map = {"", MAP(32, 3, Q(0), Q(MAPPED), Q(4 * PAGE)), ""};
	uint64_t cut_off = rig_stats(&rig).cut_off;
	int fds[32], before = count_descriptors(), error;
	unsigned count = (unsigned)strlen(row->fds);
	struct wire w;

	greet(&w);
	assert_int_equal(say(&w, &map, NULL, 0), 0);
	for (unsigned i = 0; i < count; i++)
		fds[i] = give(row->fds[i], &w);
	error = say(&w, row, fds, count);
	if (error != (row->ends ? ECONNRESET : row->error))
		fail_msg("%s: %s, not %s", row->what, strerror(error), strerror(row->error));
	assert_int_equal(rig_stats(&rig).cut_off - cut_off, row->ends);
	if (!row->ends)
		check_works(&w);
	check_works(&other);
	wire_close(&w);
	run();
	assert_int_equal(rig_stats(&rig).clients, 1);
	/* A file's memory goes after a grace period. */
	if (count_descriptors() != before)
		vd_env_hosted_drain();
	if (count_descriptors() != before)
		fail_msg("%s: %d descriptors, not %d", row->what, count_descriptors(), before);
}

static void open_all(void)
{
	int pipes[2];

	rig_open(&rig, 0);
	/* One of its own for the other client, and one that is kept for all that are hostile. */
	rig_make(&rig);
	others = rig.export;
	greet(&other);
	strcat(rig.path, "2");
	rig_keep(&rig);
	kinds[0] = rig_memory(4 * PAGE, true, 1);
	kinds[1] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	close(pipes[0]);
	kinds[2] = pipes[1];
	kinds[3] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kinds[4] = rig_memory(0, true, 0);
	kinds[5] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

static void close_all(void)
{
	wire_close(&other);
	run();
	vd_user_server_remove(others);
	for (unsigned i = 0; i < 6; i++)
		close(kinds[i]);
	rig_close(&rig);
}

#define TABLE(name)                                                                                \
	static void try_##name(void **state)                                                       \
	{                                                                                          \
		(void)state;                                                                       \
		open_all();                                                                        \
		for (size_t i = 0; i < sizeof(name) / sizeof((name)[0]); i++)                      \
			try_row(&(name)[i]);                                                       \
		close_all();                                                                       \
	}

TABLE(headers)
TABLE(memory)
TABLE(information)
TABLE(interrupts)
TABLE(accesses)
TABLE(features)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(try_headers),
		cmocka_unit_test(try_memory),
		cmocka_unit_test(try_information),
		cmocka_unit_test(try_interrupts),
		cmocka_unit_test(try_accesses),
		cmocka_unit_test(try_features),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
