/* SPDX-License-Identifier: BSD-2-Clause */
/* Snapshot files that are cut off, changed, of another machine, or made up. */
#include "../base/corpus.h"
#include "snapshot_rig.h"

#include <sys/mman.h>

#include "fuzz_snapshot.h"
#include "vm/snapshot.h"

#define HEADER 72u
#define SUM_AT 64u /* of the header, over what is before it */

/* The sections' part of a file and its header, to be put together again in a file of their own. */
struct sample {
	struct place place;
	uint8_t header[HEADER];
	uint8_t *tail;
	size_t tail_length;
};

static void sample_open(struct sample *s)
{
	struct machine m;
	struct stat st;
	int fd;

	place_open(&s->place);
	machine_create(&m, lockstep_kernel, 2, NULL);
	machine_start(&m);
	machine_wait(&m, FAR, 100);
	machine_snapshot(&m, s->place.path);
	machine_close(&m);
	fd = open(s->place.path, O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, s->header, HEADER, 0), HEADER);
	s->tail_length = (size_t)st.st_size - 4096 - RIG_MEMORY;
	s->tail = malloc(s->tail_length);
	assert_int_equal(pread(fd, s->tail, s->tail_length, 4096 + RIG_MEMORY), s->tail_length);
	close(fd);
}

static void sample_close(struct sample *s)
{
	free(s->tail);
	place_close(&s->place);
}

/* Opens a file with this header and tail, and nothing in memory. */
static int try_open(const uint8_t *header, size_t header_length, const uint8_t *tail,
		    size_t tail_length, struct vd_error *error)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC), rc;
	struct vd_snapshot *snapshot;
	char path[64];

	assert_int_equal(pwrite(fd, header, header_length, 0), header_length);
	if (tail)
		assert_int_equal(ftruncate(fd, 4096 + RIG_MEMORY), 0);
	if (tail_length)
		assert_int_equal(pwrite(fd, tail, tail_length, 4096 + RIG_MEMORY), tail_length);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*error = (struct vd_error){.text = ""};
	rc = vd_snapshot_open(vd_env_hosted(), path, &snapshot, error);
	if (!rc)
		vd_snapshot_close(snapshot);
	else
		assert_non_null(strstr(error->text, path));
	close(fd);
	return rc;
}

static void cut_off_anywhere_it_is_refused(void **state)
{
	struct vd_error error;
	struct sample s;

	(void)state;
	sample_open(&s);
	assert_int_equal(try_open(s.header, HEADER, s.tail, s.tail_length, &error), 0);
	for (size_t length = 0; length <= HEADER; length++)
		assert_int_equal(try_open(s.header, length, NULL, 0, &error), -EINVAL);
	assert_int_equal(try_open(s.header, HEADER, s.tail, 0, &error), -EINVAL);
	for (size_t length = s.tail_length; length-- > 0;) {
		if (length > 100 && length < s.tail_length - 500 && length % 97)
			continue;
		assert_int_equal(try_open(s.header, HEADER, s.tail, length, &error), -EINVAL);
		assert_non_null(strstr(error.text, "cut off"));
	}
	sample_close(&s);
}

static void any_changed_byte_is_found(void **state)
{
	struct vd_error error;
	struct sample s;

	(void)state;
	sample_open(&s);
	for (size_t at = 0; at < HEADER; at++) {
		s.header[at] ^= 0x10;
		assert_int_equal(try_open(s.header, HEADER, s.tail, s.tail_length, &error),
				 -EINVAL);
		s.header[at] ^= 0x10;
	}
	for (size_t at = 0; at < s.tail_length; at += at < s.tail_length - 400 ? 61 : 1) {
		s.tail[at] ^= 1;
		assert_int_equal(try_open(s.header, HEADER, s.tail, s.tail_length, &error),
				 -EINVAL);
		s.tail[at] ^= 1;
	}
	sample_close(&s);
}

/* With a checksum that fits: what the words say is looked at. */
static void no_word_of_the_header_is_believed(void **state)
{
	static const uint64_t values[] = {0, 1, 2, 4095, 4097, 1ull << 31, 1ull << 40, 1ull << 63,
					  UINT64_MAX, UINT64_MAX - 4095};
	struct vd_error error;
	struct sample s;

	(void)state;
	sample_open(&s);
	for (unsigned word = 0; word < 7; word++) {
		for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			uint8_t header[HEADER];
			uint64_t sum;

			memcpy(header, s.header, HEADER);
			if (!memcmp(header + 8 * word, &values[i], 8))
				continue;
			memcpy(header + 8 * word, &values[i], 8);
			sum = snapshot_checksum(header, SUM_AT);
			memcpy(header + SUM_AT, &sum, 8);
			assert_int_equal(try_open(header, HEADER, s.tail, s.tail_length, &error),
					 -EINVAL);
			if (word == 1 && values[i] == 2)
				assert_non_null(strstr(error.text, "format 2"));
		}
	}
	sample_close(&s);
}

/* Two sections that are the same bytes: a small file would fill a large memory. */
static void sections_do_not_overlap(void **state)
{
	uint64_t count, at, offset, sum;
	struct vd_error error;
	struct sample s;
	uint8_t *table;

	(void)state;
	sample_open(&s);
	memcpy(&at, s.header + 40, 8);
	memcpy(&count, s.header + 48, 8);
	table = s.tail + (at - 4096 - RIG_MEMORY);
	memcpy(&offset, table + 16, 8);
	memcpy(table + 40 + 16, &offset, 8);
	memcpy(table + 40 + 24, table + 24, 16);
	sum = snapshot_checksum(table, count * 40);
	memcpy(s.header + 56, &sum, 8);
	sum = snapshot_checksum(s.header, SUM_AT);
	memcpy(s.header + SUM_AT, &sum, 8);
	assert_int_equal(try_open(s.header, HEADER, s.tail, s.tail_length, &error), -EINVAL);
	assert_non_null(strstr(error.text, "table of sections"));
	sample_close(&s);
}

/* Two machines, one name: neither gets the other's memory. */
static void one_file_has_one_writer(void **state)
{
	struct snapshot_writer first, second;
	struct vd_error error = {.text = ""};
	struct place place;

	(void)state;
	place_open(&place);
	assert_int_equal(snapshot_writer_open(&first, vd_env_hosted(), place.path, RIG_MEMORY,
					      &error), 0);
	assert_int_equal(snapshot_writer_open(&second, vd_env_hosted(), place.path, RIG_MEMORY,
					      &error), -EBUSY);
	assert_int_equal(access(place.partial, F_OK), 0);
	snapshot_writer_close(&first);
	assert_int_equal(access(place.partial, F_OK), -1);
	assert_int_equal(snapshot_writer_open(&second, vd_env_hosted(), place.path, RIG_MEMORY,
					      &error), 0);
	snapshot_writer_close(&second);
	/* What is in the way and no file stays. */
	assert_int_equal(mkfifo(place.partial, 0600), 0);
	assert_int_equal(snapshot_writer_open(&first, vd_env_hosted(), place.path, RIG_MEMORY,
					      &error), -EEXIST);
	assert_int_equal(unlink(place.partial), 0);
	place_close(&place);
}

static void a_damaged_page_is_found(void **state)
{
	struct vd_error error;
	struct machine m;
	struct sample s;
	int fd;

	(void)state;
	sample_open(&s);
	fd = open(s.place.path, O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 4096 + RIG_DATA - VD_BOARD_RAM + 77), 1);
	close(fd);
	assert_int_equal(machine_restore(&m, s.place.path, NULL, &error), -EINVAL);
	assert_non_null(strstr(error.text, "page"));
	sample_close(&s);
}

static int restore_as(struct sample *s, uint64_t memory, unsigned cpus, bool svadu,
		      struct vd_error *error)
{
	struct vd_vm_config config = {.env = vd_env_hosted(), .restore = true, .memory = memory,
				      .cpus = cpus, .svadu = svadu};
	struct vd_snapshot *snapshot;
	struct vd_vm *vm;
	int rc;

	assert_int_equal(vd_snapshot_open(vd_env_hosted(), s->place.path, &snapshot, error), 0);
	assert_int_equal(vd_vm_create(&config, &vm, error), 0);
	rc = vd_vm_restore(vm, snapshot, error);
	vd_vm_destroy(vm);
	vd_snapshot_close(snapshot);
	return rc;
}

static void another_machine_is_refused(void **state)
{
	struct vd_error error;
	struct sample s;

	(void)state;
	sample_open(&s);
	assert_int_equal(restore_as(&s, RIG_MEMORY, 2, false, &error), 0);
	assert_int_equal(restore_as(&s, 2 * RIG_MEMORY, 2, false, &error), -EINVAL);
	assert_non_null(strstr(error.text, "64 MiB"));
	assert_int_equal(restore_as(&s, RIG_MEMORY, 1, false, &error), -EINVAL);
	assert_non_null(strstr(error.text, "2 cpus"));
	assert_int_equal(restore_as(&s, RIG_MEMORY, 2, true, &error), -EINVAL);
	sample_close(&s);
}

/* The fuzzer's input from a real file's sections. */
static size_t pack(const struct vd_snapshot *snapshot, uint8_t *out)
{
	size_t size = 0;

	for (unsigned i = 0; i < snapshot->count; i++) {
		const struct snapshot_part *part = &snapshot->parts[i];
		size_t length = part->stream.length;

		/* No page is stored, or the first that is missing would end it. */
		if (part->type == SNAPSHOT_INDEX)
			length = RIG_MEMORY / SNAPSHOT_PAGE / 8;
		assert_true(length < 65536);
		out[size] = (uint8_t)part->type;
		out[size + 1] = (uint8_t)part->number;
		out[size + 2] = (uint8_t)length;
		out[size + 3] = (uint8_t)(length >> 8);
		memcpy(out + size + 4, part->stream.data, length);
		if (part->type == SNAPSHOT_INDEX)
			memset(out + size + 4, 0, length);
		size += 4 + length;
	}
	return size;
}

/* Sections of a machine with a byte or two changed, cut, doubled; and noise. */
static void made_up_sections_do_no_harm(void **state)
{
	static uint8_t real[300000], data[300000];
	struct vd_snapshot *snapshot;
	struct vd_error error;
	struct sample s;
	size_t size;

	(void)state;
	test_start(0x5eed0060);
	sample_open(&s);
	assert_int_equal(vd_snapshot_open(vd_env_hosted(), s.place.path, &snapshot, &error), 0);
	size = pack(snapshot, real);
	vd_snapshot_close(snapshot);
	LLVMFuzzerTestOneInput(NULL, 0);
	for (unsigned round = 0; round < 150; round++) {
		size_t length = size;

		memcpy(data, real, size);
		for (unsigned i = 0; i <= round % 4; i++)
			data[test_random(test_state()) % size] ^=
				(uint8_t)(1u << test_random(test_state()) % 8);
		if (round % 5 == 0)
			length = test_random(test_state()) % size;
		if (round % 16 == 0)
			for (size_t i = 0; i < length; i++)
				data[i] = (uint8_t)(i % 700 < 4 ? test_random(test_state()) % 8
							       : test_random(test_state()));
		LLVMFuzzerTestOneInput(data, length);
	}
	sample_close(&s);
}

static void kept_corpus_does_no_harm(void **state)
{
	(void)state;
	corpus_run("snapshot", LLVMFuzzerTestOneInput);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_off_anywhere_it_is_refused),
		cmocka_unit_test(any_changed_byte_is_found),
		cmocka_unit_test(no_word_of_the_header_is_believed),
		cmocka_unit_test(sections_do_not_overlap),
		cmocka_unit_test(one_file_has_one_writer),
		cmocka_unit_test(a_damaged_page_is_found),
		cmocka_unit_test(another_machine_is_refused),
		cmocka_unit_test(kept_corpus_does_no_harm),
		cmocka_unit_test_teardown(made_up_sections_do_no_harm, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
