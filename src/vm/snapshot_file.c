/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The container of a snapshot: written under another name until it is complete, and read as what
 * it may be, a file that somebody made up.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "vm/snapshot.h"

/* Words of the header, and of an entry of the table, in their order. */
enum {
	HEADER_MAGIC, HEADER_VERSION, HEADER_PAGE, HEADER_MEMORY, HEADER_FILE, HEADER_TABLE,
	HEADER_COUNT, HEADER_TABLE_SUM, HEADER_SUM, HEADER_WORDS
};
enum { ENTRY_TYPE, ENTRY_NUMBER, ENTRY_OFFSET, ENTRY_LENGTH, ENTRY_SUM, ENTRY_WORDS };

uint32_t snapshot_checksum(const void *data, size_t length)
{
	return (uint32_t)crc32_z(0, data, length);
}

int snapshot_write_at(int fd, const void *data, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pwrite(fd, data, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data = (const char *)data + n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

int snapshot_read_at(int fd, void *data, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pread(fd, data, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data = (char *)data + n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static void put_words(struct vd_stream *stream, const uint64_t *words, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		vd_stream_put_u64(stream, words[i]);
}

static void get_words(struct vd_stream *stream, uint64_t *words, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		words[i] = vd_stream_get_u64(stream);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int write_failed(const struct snapshot_writer *writer, int code, struct vd_error *error)
{
	return vd_error_set(error, code, "cannot write the snapshot %s: %s", writer->path,
			    strerror(-code));
}

/*
 * What a writer that died has left is used again; what another one is writing is not: it is locked,
 * until it has got its name or is removed. Return: 0, -errno.
 */
static int open_partial(struct snapshot_writer *writer)
{
	struct stat ours, there;
	int rc;

	/* A guest's memory is nobody else's business. */
	writer->fd = open(writer->partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
			  0600);
	if (writer->fd < 0)
		return -errno;
	if (flock(writer->fd, LOCK_EX | LOCK_NB))
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else if (fstat(writer->fd, &ours) || lstat(writer->partial, &there))
		rc = -EBUSY;
	else if (!S_ISREG(ours.st_mode))
		rc = -EEXIST;
	else if (ours.st_ino != there.st_ino || ours.st_dev != there.st_dev)
		rc = -EBUSY; /* it has got its name meanwhile */
	else
		rc = fchmod(writer->fd, 0600) ? -errno : 0;
	if (!rc)
		return 0;
	close(writer->fd); /* and not removed: it is somebody else's */
	writer->fd = -1;
	return rc;
}

int snapshot_writer_open(struct snapshot_writer *writer, const struct vd_env *env,
			 const char *path, uint64_t memory, struct vd_error *error)
{
	int n = snprintf(writer->partial, sizeof(writer->partial), "%s.partial", path);
	struct stat st;
	int rc = 0;

	writer->env = env;
	writer->path = path;
	writer->fd = -1;
	if (n < 0 || (size_t)n >= sizeof(writer->partial))
		return write_failed(writer, -ENAMETOOLONG, error);
	/* A rename would replace a device or a pipe by a file. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return vd_error_set(error, -EINVAL, "%s is not a regular file", path);
	rc = open_partial(writer);
	if (rc == -EBUSY)
		return vd_error_set(error, rc, "another snapshot is being written to %s", path);
	if (rc)
		return vd_error_set(error, rc, "cannot write %s: %s", writer->partial,
				    strerror(-rc));
	rc = vd_env_inject(env, "snapshot.file");
	if (!rc && (ftruncate(writer->fd, 0) ||
		    ftruncate(writer->fd, (off_t)(SNAPSHOT_PAGE + memory))))
		rc = -errno;
	if (!rc)
		return 0;
	snapshot_writer_close(writer);
	return write_failed(writer, rc, error);
}

/* One section after the other from @at on; their places go into @table. */
static int write_parts(struct snapshot_writer *writer, const struct snapshot_part *parts,
		       unsigned count, uint64_t *at, struct vd_stream *table)
{
	for (unsigned i = 0; i < count; i++) {
		const struct vd_stream *stream = &parts[i].stream;
		const uint64_t entry[ENTRY_WORDS] = {
			[ENTRY_TYPE] = parts[i].type, [ENTRY_NUMBER] = parts[i].number,
			[ENTRY_OFFSET] = *at, [ENTRY_LENGTH] = stream->length,
			[ENTRY_SUM] = snapshot_checksum(stream->data, stream->length),
		};
		int rc = stream->failed ? -ENOMEM
			: snapshot_write_at(writer->fd, stream->data, stream->length, *at);

		if (rc)
			return rc;
		put_words(table, entry, ENTRY_WORDS);
		*at += stream->length;
	}
	return table->failed ? -ENOMEM
			     : snapshot_write_at(writer->fd, table->data, table->length, *at);
}

static int write_header(struct snapshot_writer *writer, const struct vd_stream *table,
			uint64_t table_at, uint64_t memory, uint64_t count)
{
	struct vd_stream header = {.env = writer->env};
	const uint64_t words[HEADER_SUM] = {
		[HEADER_MAGIC] = SNAPSHOT_MAGIC, [HEADER_VERSION] = SNAPSHOT_VERSION,
		[HEADER_PAGE] = SNAPSHOT_PAGE, [HEADER_MEMORY] = memory,
		[HEADER_FILE] = table_at + table->length, [HEADER_TABLE] = table_at,
		[HEADER_COUNT] = count,
		[HEADER_TABLE_SUM] = snapshot_checksum(table->data, table->length),
	};
	int rc;

	put_words(&header, words, HEADER_SUM);
	vd_stream_put_u64(&header, snapshot_checksum(header.data, header.length));
	rc = header.failed ? -ENOMEM
			   : snapshot_write_at(writer->fd, header.data, header.length, 0);
	vd_stream_fini(&header);
	return rc;
}

/* So that the new name is there after a crash as well. */
static void sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char directory[4096];
	int fd;

	snprintf(directory, sizeof(directory), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		 slash ? path : ".");
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)fsync(fd); /* some file systems cannot */
	close(fd);
}

int snapshot_writer_finish(struct snapshot_writer *writer, const struct snapshot_part *parts,
			   unsigned count, uint64_t memory, uint64_t *bytes,
			   struct vd_error *error)
{
	struct vd_stream table = {.env = writer->env};
	uint64_t at = SNAPSHOT_PAGE + memory;
	struct stat st;
	int rc = vd_env_inject(writer->env, "snapshot.finish");

	if (!rc)
		rc = write_parts(writer, parts, count, &at, &table);
	if (!rc)
		rc = write_header(writer, &table, at, memory, count);
	vd_stream_fini(&table);
	if (!rc && (fsync(writer->fd) || fstat(writer->fd, &st)))
		rc = -errno;
	if (!rc && rename(writer->partial, writer->path))
		rc = -errno;
	if (rc)
		return write_failed(writer, rc, error);
	*bytes = (uint64_t)st.st_blocks * 512;
	close(writer->fd);
	writer->fd = -1;
	sync_directory(writer->path);
	return 0;
}

void snapshot_writer_close(struct snapshot_writer *writer)
{
	if (writer->fd < 0)
		return;
	unlink(writer->partial); /* while it is locked */
	close(writer->fd);
	writer->fd = -1;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int bad(const struct vd_snapshot *s, struct vd_error *error, const char *what)
{
	return vd_error_set(error, -EINVAL, "snapshot %s: %s", s->path, what);
}

static int check_header(struct vd_snapshot *s, const uint64_t *words, uint32_t sum,
			struct vd_error *error)
{
	if (words[HEADER_MAGIC] != SNAPSHOT_MAGIC)
		return bad(s, error, "this is no snapshot of viaduct");
	if (words[HEADER_VERSION] != SNAPSHOT_VERSION)
		return vd_error_set(error, -EINVAL, "snapshot %s has format %llu; this program "
				    "reads %u", s->path, (unsigned long long)words[HEADER_VERSION],
				    SNAPSHOT_VERSION);
	if (words[HEADER_SUM] != sum)
		return bad(s, error, "its header is damaged");
	if (words[HEADER_FILE] != s->size)
		return vd_error_set(error, -EINVAL, "snapshot %s is cut off or was changed: it "
				    "has %llu bytes of %llu", s->path, (unsigned long long)s->size,
				    (unsigned long long)words[HEADER_FILE]);
	if (words[HEADER_PAGE] != SNAPSHOT_PAGE)
		return bad(s, error, "its pages are not of 4 KiB");
	if (words[HEADER_MEMORY] > s->size - SNAPSHOT_PAGE ||
	    words[HEADER_TABLE] < SNAPSHOT_PAGE + words[HEADER_MEMORY] ||
	    words[HEADER_TABLE] > s->size || words[HEADER_COUNT] > SNAPSHOT_SECTIONS_MAX ||
	    words[HEADER_COUNT] * ENTRY_WORDS * 8 != s->size - words[HEADER_TABLE])
		return bad(s, error, "its header contradicts itself");
	return 0;
}

static int read_header(struct vd_snapshot *s, uint64_t *words, struct vd_error *error)
{
	uint8_t bytes[HEADER_WORDS * 8];
	struct vd_stream stream = {.data = bytes, .length = sizeof(bytes)};

	/* As much as was truncated to by a writer that then died is no snapshot either. */
	if (s->size < SNAPSHOT_PAGE || snapshot_read_at(s->fd, bytes, sizeof(bytes), 0))
		return bad(s, error, "this is no snapshot of viaduct: it is too short");
	get_words(&stream, words, HEADER_WORDS);
	return check_header(s, words, snapshot_checksum(bytes, HEADER_SUM * 8), error);
}

/* One section behind the other, so that no byte of the file is read, or stored, twice. */
static int read_part(struct vd_snapshot *s, const uint64_t *entry, uint64_t *at, uint64_t table_at,
		     struct vd_error *error)
{
	struct snapshot_part *part = &s->parts[s->count];
	uint64_t offset = *at, length = entry[ENTRY_LENGTH];
	uint8_t *data;

	if (entry[ENTRY_TYPE] < SNAPSHOT_CONFIG || entry[ENTRY_TYPE] > SNAPSHOT_INDEX ||
	    entry[ENTRY_NUMBER] >= DEVICES_MAX || entry[ENTRY_OFFSET] != offset ||
	    length > table_at - offset ||
	    length > SNAPSHOT_SECTION_BYTES_MAX ||
	    snapshot_part(s, (enum snapshot_section)entry[ENTRY_TYPE],
			  (unsigned)entry[ENTRY_NUMBER]).data)
		return bad(s, error, "its table of sections is not to be believed");
	/* One more, so that an empty section is there as well. */
	data = vd_env_allocate(s->env, "snapshot.part", length + 1, 8);
	if (!data)
		return vd_error_set(error, -ENOMEM, "out of memory for the snapshot %s", s->path);
	*part = (struct snapshot_part){
		.type = (enum snapshot_section)entry[ENTRY_TYPE],
		.number = (unsigned)entry[ENTRY_NUMBER],
		.stream = {.data = data, .length = length},
	};
	s->count++;
	*at += length;
	if (snapshot_read_at(s->fd, data, length, offset))
		return bad(s, error, "it cannot be read");
	if (snapshot_checksum(data, length) != entry[ENTRY_SUM])
		return bad(s, error, "one of its sections is damaged");
	return 0;
}

static int read_parts(struct vd_snapshot *s, const uint64_t *header, struct vd_error *error)
{
	uint8_t bytes[SNAPSHOT_SECTIONS_MAX * ENTRY_WORDS * 8];
	struct vd_stream table = {.data = bytes, .length = s->size - header[HEADER_TABLE]};
	uint64_t at = SNAPSHOT_PAGE + s->memory;
	int rc = snapshot_read_at(s->fd, bytes, table.length, header[HEADER_TABLE]);

	if (rc || snapshot_checksum(bytes, table.length) != header[HEADER_TABLE_SUM])
		return bad(s, error, "its table of sections is damaged");
	for (uint64_t i = 0; i < header[HEADER_COUNT] && !rc; i++) {
		uint64_t entry[ENTRY_WORDS];

		get_words(&table, entry, ENTRY_WORDS);
		rc = read_part(s, entry, &at, header[HEADER_TABLE], error);
	}
	return rc;
}

static int read_all(struct vd_snapshot *s, struct vd_error *error)
{
	uint64_t header[HEADER_WORDS];
	struct stat st;
	int rc;

	if (fstat(s->fd, &st) || !S_ISREG(st.st_mode))
		return bad(s, error, "this is not a regular file");
	s->size = (uint64_t)st.st_size;
	rc = read_header(s, header, error);
	if (rc)
		return rc;
	s->memory = header[HEADER_MEMORY];
	rc = read_parts(s, header, error);
	return rc ? rc : snapshot_check_config(s, error);
}

int vd_snapshot_open(const struct vd_env *env, const char *path, struct vd_snapshot **result,
		     struct vd_error *error)
{
	struct vd_snapshot *s = vd_env_allocate(env, "snapshot.open", sizeof(*s), 16);
	int rc;

	if (!s)
		return vd_error_set(error, -ENOMEM, "out of memory for the snapshot %s", path);
	s->env = env;
	s->path = path;
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	rc = s->fd < 0 ? vd_error_set(error, -errno, "cannot open the snapshot %s: %s", path,
				      strerror(errno))
		       : read_all(s, error);
	if (rc) {
		vd_snapshot_close(s);
		return rc;
	}
	*result = s;
	return 0;
}

void vd_snapshot_close(struct vd_snapshot *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->count; i++)
		s->env->release(s->env, s->parts[i].stream.data, s->parts[i].stream.length + 1);
	if (s->fd >= 0)
		close(s->fd);
	s->env->release(s->env, s, sizeof(*s));
}

struct vd_stream snapshot_part(const struct vd_snapshot *s, enum snapshot_section type,
			       unsigned number)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->parts[i].type == type && s->parts[i].number == number)
			return s->parts[i].stream;
	return (struct vd_stream){.length = 0};
}

const struct vd_snapshot_info *vd_snapshot_info(const struct vd_snapshot *s)
{
	return &s->info;
}
