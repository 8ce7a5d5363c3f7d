/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Live snapshots, for their files. A snapshot file, little-endian throughout:
 *
 *	0	header, 4 KiB, of which the first 72 bytes mean something
 *	4096	guest RAM, page by page where it was; pages that are not stored are holes
 *	then	sections, and behind them the table that says what and where they are
 *
 * Everything but the pages has a CRC-32 in the table, the pages have theirs in the index section.
 */
#ifndef VM_SNAPSHOT_H
#define VM_SNAPSHOT_H

#include "vm/machine.h"

#define SNAPSHOT_MAGIC UINT64_C(0x50414e5344414956) /* "VIADSNAP" */
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_PAGE 4096u
#define SNAPSHOT_SECTIONS_MAX (DEVICES_MAX + 8u)
/* No part of a machine but its RAM has more: a display's memory is the largest. */
#define SNAPSHOT_SECTION_BYTES_MAX (GIB)

enum snapshot_section {
	SNAPSHOT_CONFIG = 1, /* what the machine is like */
	SNAPSHOT_PROGRAM,    /* of the program around it, opaque here */
	SNAPSHOT_HARTS,
	SNAPSHOT_BOARD, /* time, serial port */
	SNAPSHOT_PCI,
	SNAPSHOT_DEVICE, /* one each, numbered */
	SNAPSHOT_INDEX,	 /* which pages are stored, and their checksums */
};

/* A section on its way into a file or out of it. */
struct snapshot_part {
	enum snapshot_section type;
	unsigned number;
	struct vd_stream stream;
};

/* ---- snapshot_file.c: the container ---------------------------------------------------------- */

/* A file that is being written under FILE.partial. */
struct snapshot_writer {
	const struct vd_env *env;
	const char *path;
	char partial[4096];
	int fd;
};

int snapshot_writer_open(struct snapshot_writer *writer, const struct vd_env *env,
			 const char *path, uint64_t memory, struct vd_error *error);
/* Sections, table and header; then it is made durable and gets its name. */
int snapshot_writer_finish(struct snapshot_writer *writer, const struct snapshot_part *parts,
			   unsigned count, uint64_t memory, uint64_t *bytes,
			   struct vd_error *error);
/* Closes; what has not got its name is removed. */
void snapshot_writer_close(struct snapshot_writer *writer);

/*
 * struct vd_snapshot - a file that was opened and checked but for its pages
 * @parts: their streams are to read from; the bytes are freed by vd_snapshot_close()
 */
struct vd_snapshot {
	const struct vd_env *env;
	const char *path;
	int fd;
	uint64_t size, memory;
	struct vd_snapshot_info info;
	unsigned count;
	struct snapshot_part parts[SNAPSHOT_SECTIONS_MAX];
};

/* The section's bytes from their start, to get from; its data is NULL if there is none. */
struct vd_stream snapshot_part(const struct vd_snapshot *snapshot, enum snapshot_section type,
			       unsigned number);
uint32_t snapshot_checksum(const void *data, size_t length);
int snapshot_write_at(int fd, const void *data, size_t length, uint64_t offset);
int snapshot_read_at(int fd, void *data, size_t length, uint64_t offset);

/* ---- snapshot_config.c: what the machine is like --------------------------------------------- */

void snapshot_put_config(struct vd_vm *vm, struct vd_stream *stream);
int snapshot_check_config(struct vd_snapshot *snapshot, struct vd_error *error);

/* ---- snapshot_pages.c: RAM, each page before its first write --------------------------------- */

struct snapshot_pages;

/* Everything that can fail or take long, before the harts stop. */
int snapshot_pages_create(struct vd_vm *vm, int fd, struct snapshot_pages **pages,
			  struct vd_error *error);
/* The moment: harts are stopped, devices quiesced. From here on no page changes unsaved. */
void snapshot_pages_arm(struct snapshot_pages *pages);
/* Saves what nobody has saved yet. Return: 0; -errno of the file; what @progress returned. */
int snapshot_pages_copy(struct snapshot_pages *pages,
			int (*progress)(void *context, uint64_t done, uint64_t total),
			void *context);
/* Nobody is held up any more. Return: 0; -errno of the file, also of writes by others. */
int snapshot_pages_disarm(struct snapshot_pages *pages);
/* The index section, once disarmed. */
void snapshot_pages_index(struct snapshot_pages *pages, struct vd_stream *stream);
uint64_t snapshot_pages_stored(const struct snapshot_pages *pages);
void snapshot_pages_destroy(struct snapshot_pages *pages);

#endif
