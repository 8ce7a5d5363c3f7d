/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images: one suite over every back end, against a model in memory; then what each adds. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/image/image.h"

#define SIZE (1u << 20)
#define SECTORS (SIZE / VD_IMAGE_SECTOR)

struct backend {
	const char *name;
	const char *backing;
	bool snapshot;
};

static const struct backend backends[] = {
	{"sync", "sync", false},
	{"uring", "uring", false},
	{"volatile", "volatile", false},
	{"snapshot", NULL, true},
};

/* ---- fault injection and files ----------------------------------------------------------- */

static const char *inject_site;
static int inject_code;

static int inject(const struct vd_env *env, const char *site)
{
	(void)env;
	return inject_site && strcmp(site, inject_site) == 0 ? inject_code : 0;
}

static struct vd_env environment(void)
{
	struct vd_env env = *vd_env_hosted();

	env.inject = inject;
	return env;
}

static struct vd_env env;
static char path[64];

static void make_file(size_t size)
{
	uint8_t *bytes = malloc(size + 1);
	int fd;

	snprintf(path, sizeof(path), "/tmp/vd-image-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 4096);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
	free(bytes);
}

static void read_file(uint8_t *bytes)
{
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, bytes, SIZE, 0), SIZE);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	env = environment();
	inject_site = NULL;
	make_file(SIZE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static struct vd_image *open_image(const struct backend *backend, bool read_only, bool noop)
{
	struct vd_image_config config = {
		.env = &env, .path = path, .backing = backend->backing,
		.snapshot = backend->snapshot, .read_only = read_only, .flush_is_noop = noop,
	};
	struct vd_image *image = NULL;
	struct vd_error error = {0};
	int rc = vd_image_open(&config, &image, &error);

	if (rc == -EOPNOTSUPP && strcmp(backend->name, "uring") == 0)
		return NULL;
	if (rc)
		print_error("%s: %s\n", backend->name, error.text);
	assert_int_equal(rc, 0);
	assert_string_equal(vd_image_backing(image), backend->name);
	return image;
}

/* ---- requests ---------------------------------------------------------------------------- */

struct job {
	struct vd_image_request request;
	struct iovec vector[32];
	bool done;
};

static void job_done(struct vd_image_request *request)
{
	((struct job *)request)->done = true;
}

static void job_fill(struct job *job, enum vd_image_op op, uint64_t offset, void *data,
		     uint64_t length, unsigned pieces)
{
	memset(job, 0, sizeof(*job));
	job->request = (struct vd_image_request){
		.op = op, .offset = offset, .length = length, .vector = job->vector,
		.count = pieces, .done = job_done,
	};
	for (unsigned i = 0; i < pieces; i++) {
		size_t piece = i + 1 == pieces ? length : rand() % (length + 1);

		job->vector[i] = (struct iovec){data, piece};
		data = (char *)data + piece;
		length -= piece;
	}
}

static void job_start(struct vd_image *image, struct job *job)
{
	job->done = vd_image_submit(image, &job->request);
}

static int job_wait(struct vd_image *image, struct job *job)
{
	vd_image_kick(image);
	for (int i = 0; !job->done && i < 10000; i++) {
		vd_image_wait(image, 1000);
		vd_image_reap(image);
	}
	assert_true(job->done);
	return job->request.result;
}

static int run(struct vd_image *image, enum vd_image_op op, uint64_t offset, void *data,
	       uint64_t length, bool durable)
{
	struct job job;

	job_fill(&job, op, offset, data, length, data ? 1 : 0);
	job.request.durable = durable;
	job_start(image, &job);
	return job_wait(image, &job);
}

/* ---- the suite every back end passes ----------------------------------------------------- */

static void step(struct vd_image *image, uint8_t *model, uint8_t *buffer)
{
	uint64_t sector = rand() % SECTORS;
	uint64_t count = 1 + rand() % (rand() % 4 ? 8 : 200);
	uint64_t offset, length;
	unsigned pieces = 1 + rand() % 32, kind = rand() % 16;
	struct job job;

	count = count < SECTORS - sector ? count : SECTORS - sector;
	offset = sector * VD_IMAGE_SECTOR;
	length = count * VD_IMAGE_SECTOR;
	if (kind < 7) {
		memset(buffer, 0xee, length);
		job_fill(&job, VD_IMAGE_READ, offset, buffer, length, pieces);
	} else if (kind < 13) {
		for (uint64_t i = 0; i < length; i++)
			buffer[i] = (uint8_t)rand();
		memcpy(model + offset, buffer, length);
		job_fill(&job, VD_IMAGE_WRITE, offset, buffer, length, pieces);
		job.request.durable = rand() % 16 == 0;
	} else if (kind == 13) {
		job_fill(&job, VD_IMAGE_FLUSH, 0, NULL, 0, 0);
	} else {
		memset(model + offset, 0, length);
		job_fill(&job, kind == 14 ? VD_IMAGE_ZERO : VD_IMAGE_DISCARD, offset, NULL, length,
			 0);
		job.request.unmap = rand() % 2;
		job.request.durable = rand() % 8 == 0;
	}
	job_start(image, &job);
	assert_int_equal(job_wait(image, &job), 0);
	if (kind < 7)
		assert_memory_equal(buffer, model + offset, length);
}

static void property_equals_model(void **state)
{
	uint8_t *model = malloc(SIZE), *buffer = malloc(SIZE), *file = malloc(SIZE);

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image = open_image(&backends[b], false, false);

		if (!image)
			continue;
		print_message("%s: seed %zu\n", backends[b].name, b + 1);
		srand((unsigned)b + 1);
		assert_int_equal(vd_image_size(image), SIZE);
		assert_true(vd_image_can_discard(image));
		assert_int_equal(run(image, VD_IMAGE_READ, 0, model, SIZE, false), 0);
		read_file(file);
		assert_memory_equal(model, file, SIZE);
		for (int i = 0; i < 800; i++)
			step(image, model, buffer);
		assert_int_equal(run(image, VD_IMAGE_READ, 0, buffer, SIZE, false), 0);
		assert_memory_equal(buffer, model, SIZE);
		assert_int_equal(run(image, VD_IMAGE_FLUSH, 0, NULL, 0, false), 0);
		vd_image_close(image);
		if (!backends[b].snapshot)
			memcpy(file, model, SIZE);
		read_file(buffer);
		assert_memory_equal(buffer, file, SIZE);
	}
	free(model);
	free(buffer);
	free(file);
}

static struct vd_image *reaped;

static void job_done_and_reap(struct vd_image_request *request)
{
	vd_image_reap(reaped);
	job_done(request);
}

/* Who is told that a request is over may wait for others who use the image: no lock is held. */
static void who_is_told_may_use_the_image(void **state)
{
	struct job jobs[8];

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		reaped = open_image(&backends[b], false, false);
		if (!reaped)
			continue;
		alarm(60); /* instead of waiting for itself for ever */
		for (unsigned i = 0; i < 8; i++) {
			job_fill(&jobs[i], VD_IMAGE_FLUSH, 0, NULL, 0, 0);
			jobs[i].request.done = job_done_and_reap;
			job_start(reaped, &jobs[i]);
		}
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(job_wait(reaped, &jobs[i]), 0);
		alarm(0);
		vd_image_close(reaped);
	}
}

/* Many at once: what is under way may finish in any order, but all of it finishes, once. */
static void many_at_once(void **state)
{
	struct job *jobs = calloc(VD_IMAGE_DEPTH, sizeof(*jobs));
	uint8_t *bytes = malloc(VD_IMAGE_DEPTH * 4096), *seen = malloc(SIZE);

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image = open_image(&backends[b], false, false);

		if (!image)
			continue;
		for (unsigned i = 0; i < VD_IMAGE_DEPTH; i++) {
			memset(bytes + i * 4096, (int)(i + b), 4096);
			job_fill(&jobs[i], VD_IMAGE_WRITE, i * 4096, bytes + i * 4096, 4096, 3);
			jobs[i].request.durable = true;
			job_start(image, &jobs[i]);
		}
		for (unsigned i = 0; i < VD_IMAGE_DEPTH; i++)
			assert_int_equal(job_wait(image, &jobs[i]), 0);
		assert_int_equal(run(image, VD_IMAGE_READ, 0, seen, VD_IMAGE_DEPTH * 4096, false),
				 0);
		assert_memory_equal(seen, bytes, VD_IMAGE_DEPTH * 4096);
		vd_image_close(image);
	}
	free(jobs);
	free(bytes);
	free(seen);
}

static void refuses_what_is_outside(void **state)
{
	uint8_t data[1024] = {0};

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image = open_image(&backends[b], false, false);

		if (!image)
			continue;
		assert_int_equal(run(image, VD_IMAGE_READ, SIZE, data, 512, false), -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_READ, SIZE - 512, data, 1024, false), -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_WRITE, UINT64_MAX - 511, data, 512, false),
				 -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_WRITE, 0, data, 0, false), -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_READ, 1, data, 512, false), -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_ZERO, 0, NULL, 2 * SIZE, false), -EINVAL);
		assert_int_equal(run(image, VD_IMAGE_READ, SIZE - 512, data, 512, false), 0);
		vd_image_close(image);
	}
}

static void read_only_writes_nothing(void **state)
{
	uint8_t data[512] = {0}, *before = malloc(SIZE), *after = malloc(SIZE);

	(void)state;
	read_file(before);
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image = open_image(&backends[b], true, false);

		if (!image)
			continue;
		assert_true(vd_image_read_only(image));
		assert_false(vd_image_can_discard(image));
		assert_int_equal(run(image, VD_IMAGE_WRITE, 0, data, 512, false), -EROFS);
		assert_int_equal(run(image, VD_IMAGE_ZERO, 0, NULL, 512, false), -EROFS);
		assert_int_equal(run(image, VD_IMAGE_DISCARD, 0, NULL, 512, false), -EROFS);
		assert_int_equal(run(image, VD_IMAGE_FLUSH, 0, NULL, 0, false), 0);
		assert_int_equal(run(image, VD_IMAGE_READ, 512, data, 512, false), 0);
		assert_memory_equal(data, before + 512, 512);
		vd_image_close(image);
	}
	read_file(after);
	assert_memory_equal(before, after, SIZE);
	free(before);
	free(after);
}

static void faults_come_back(void **state)
{
	static const struct { const char *site; enum vd_image_op op; } faults[] = {
		{"image.read", VD_IMAGE_READ}, {"image.write", VD_IMAGE_WRITE},
		{"image.flush", VD_IMAGE_FLUSH}, {"image.zero", VD_IMAGE_ZERO},
		{"image.discard", VD_IMAGE_DISCARD},
	};
	uint8_t data[512] = {0};

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image = open_image(&backends[b], false, false);

		for (size_t f = 0; image && f < sizeof(faults) / sizeof(faults[0]); f++) {
			bool moves = faults[f].op <= VD_IMAGE_WRITE;

			inject_site = faults[f].site;
			inject_code = -ENOSPC;
			assert_int_equal(
				run(image, faults[f].op, 0, moves ? data : NULL, 512, false),
				-ENOSPC);
			inject_site = NULL;
			assert_int_equal(
				run(image, faults[f].op, 0, moves ? data : NULL, 512, false), 0);
		}
		if (image)
			vd_image_close(image);
	}
}

static void shortened_image_is_an_error(void **state)
{
	uint8_t data[4096];

	(void)state;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct vd_image *image;

		assert_int_equal(truncate(path, SIZE), 0);
		image = open_image(&backends[b], false, false);
		if (!image)
			continue;
		assert_int_equal(truncate(path, SIZE / 2), 0);
		assert_int_equal(run(image, VD_IMAGE_READ, SIZE / 2 - 2048, data, 4096, false),
				 -EIO);
		vd_image_close(image);
	}
}

/* ---- opening ----------------------------------------------------------------------------- */

static void expect_refused(const struct vd_image_config *config, int code, const char *words)
{
	struct vd_image *image = NULL;
	struct vd_error error = {0};

	assert_int_equal(vd_image_open(config, &image, &error), code);
	assert_null(image);
	assert_int_equal(error.code, code);
	if (!strstr(error.text, words))
		fail_msg("'%s' does not say '%s'", error.text, words);
	assert_int_equal(vd_image_open(config, &image, NULL), code);
}

static void open_errors_are_clear(void **state)
{
	struct vd_image_config config = {.env = &env, .path = "/nonexistent/disk"};
	char fifo[80];

	(void)state;
	expect_refused(&config, -ENOENT, "truncate -s");
	config.path = "/tmp";
	expect_refused(&config, -EISDIR, "irectory");
	config.read_only = true;
	expect_refused(&config, -EISDIR, "is a directory");
	config.path = "/dev/null";
	expect_refused(&config, -EINVAL, "neither a file nor a block device");
	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	config.path = fifo;
	expect_refused(&config, -EINVAL, "neither a file nor a block device");
	unlink(fifo);
	config.path = path;
	config.read_only = false;
	config.backing = "floppy";
	expect_refused(&config, -EINVAL, "unknown backing 'floppy'");
	config.backing = "volatile";
	config.snapshot = true;
	expect_refused(&config, -EINVAL, "exclude each other");
	config.backing = NULL;
	config.snapshot = false;
	assert_int_equal(truncate(path, 1000), 0);
	expect_refused(&config, -EINVAL, "1000 bytes: not a multiple of 512");
	assert_int_equal(truncate(path, 0), 0);
	expect_refused(&config, -EINVAL, "is empty");
}

static void unwritable_image_says_what_to_do(void **state)
{
	struct vd_image_config config = {.env = &env, .path = path};

	(void)state;
	inject_site = "image.open";
	inject_code = -EACCES;
	expect_refused(&config, -EACCES, "snapshot=on");
}

static void busy_image_is_refused(void **state)
{
	struct vd_image_config config = {.env = &env, .path = path};
	struct vd_image *writer = open_image(&backends[0], false, false), *reader;

	(void)state;
	expect_refused(&config, -EBUSY, "in use by another process");
	config.read_only = true;
	expect_refused(&config, -EBUSY, "in use by another process");
	config.read_only = false;
	config.snapshot = true;
	expect_refused(&config, -EBUSY, "in use by another process");
	vd_image_close(writer);
	reader = open_image(&backends[3], false, false);
	writer = open_image(&backends[0], true, false);
	config.snapshot = false;
	expect_refused(&config, -EBUSY, "in use by another process");
	vd_image_close(reader);
	vd_image_close(writer);
	vd_image_close(open_image(&backends[0], false, false));
}

/* A failed open leaves neither a lock nor a descriptor behind. */
static void failed_set_up_leaves_nothing(void **state)
{
	static const char *const sites[] = {"image.allocate", "image.bitmap", "image.temporary",
					    "image.uring"};
	int before = dup(0), after;

	(void)state;
	close(before);
	for (size_t s = 0; s < sizeof(sites) / sizeof(sites[0]); s++) {
		for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
			struct vd_image_config config = {
				.env = &env, .path = path, .backing = backends[b].backing,
				.snapshot = backends[b].snapshot,
			};
			struct vd_image *image = NULL;

			inject_site = sites[s];
			inject_code = -ENOMEM;
			if (vd_image_open(&config, &image, NULL) == 0)
				vd_image_close(image);
		}
	}
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
	inject_site = NULL;
	vd_image_close(open_image(&backends[0], false, false));
}

static void falls_back_without_io_uring(void **state)
{
	struct vd_image_config config = {.env = &env, .path = path};
	struct vd_image *image;

	(void)state;
	inject_site = "image.uring";
	for (int i = 0; i < 2; i++) {
		inject_code = i ? -EPERM : -ENOSYS;
		config.backing = NULL;
		assert_int_equal(vd_image_open(&config, &image, NULL), 0);
		assert_string_equal(vd_image_backing(image), "sync");
		assert_int_equal(vd_image_fd(image), -1);
		vd_image_close(image);
		config.backing = "uring";
		image = NULL;
		expect_refused(&config, -EOPNOTSUPP, "backing=sync");
	}
}

static void identities_differ(void **state)
{
	struct vd_image *image = open_image(&backends[0], true, false);
	struct vd_image *same = open_image(&backends[3], false, false), *other;
	char first[64];

	(void)state;
	assert_int_equal(vd_image_identity(image), vd_image_identity(same));
	memcpy(first, path, sizeof(first));
	make_file(4096);
	other = open_image(&backends[0], false, false);
	assert_int_not_equal(vd_image_identity(image), vd_image_identity(other));
	vd_image_close(image);
	vd_image_close(same);
	vd_image_close(other);
	unlink(path);
	memcpy(path, first, sizeof(first));
}

/* ---- durability -------------------------------------------------------------------------- */

static void fill_sector(uint8_t *data, uint8_t value)
{
	memset(data, value, VD_IMAGE_SECTOR);
}

static uint8_t first_byte(unsigned sector)
{
	uint8_t byte = 0;
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, &byte, 1, sector * VD_IMAGE_SECTOR), 1);
	close(fd);
	return byte;
}

/* What a killed process leaves: flushed and durable writes are in the file, the others are not. */
static void volatile_loses_only_what_was_not_flushed(void **state)
{
	for (int noop = 0; noop < 2; noop++) {
		pid_t child;
		int status;
		uint8_t data[VD_IMAGE_SECTOR],
			old[4] = {first_byte(0), first_byte(1), first_byte(2), first_byte(3)};

		(void)state;
		child = fork();
		if (child == 0) {
			struct vd_image *image = open_image(&backends[2], false, noop);

			fill_sector(data, 0xa0);
			run(image, VD_IMAGE_WRITE, 0, data, sizeof(data), false);
			run(image, VD_IMAGE_FLUSH, 0, NULL, 0, false);
			fill_sector(data, 0xa1);
			run(image, VD_IMAGE_WRITE, 512, data, sizeof(data), true);
			fill_sector(data, 0xa2);
			run(image, VD_IMAGE_WRITE, 1024, data, sizeof(data), false);
			kill(getpid(), SIGKILL);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(first_byte(0), noop ? old[0] : 0xa0);
		assert_int_equal(first_byte(1), noop ? old[1] : 0xa1);
		assert_int_equal(first_byte(2), old[2]);
		assert_int_equal(first_byte(3), old[3]);
		teardown(NULL);
		setup(NULL);
	}
}

static void discard_gives_space_back(void **state)
{
	struct vd_image *image = open_image(&backends[0], false, false);
	struct stat before, after;

	(void)state;
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(run(image, VD_IMAGE_DISCARD, 0, NULL, SIZE / 2, false), 0);
	assert_int_equal(run(image, VD_IMAGE_FLUSH, 0, NULL, 0, false), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_size, SIZE);
	assert_true(after.st_blocks <= before.st_blocks / 2 + 16);
	vd_image_close(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(property_equals_model, setup, teardown),
		cmocka_unit_test_setup_teardown(many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(who_is_told_may_use_the_image, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(read_only_writes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(shortened_image_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(open_errors_are_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(unwritable_image_says_what_to_do, setup, teardown),
		cmocka_unit_test_setup_teardown(busy_image_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(failed_set_up_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(falls_back_without_io_uring, setup, teardown),
		cmocka_unit_test_setup_teardown(identities_differ, setup, teardown),
		cmocka_unit_test_setup_teardown(volatile_loses_only_what_was_not_flushed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(discard_gives_space_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
