/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `viaduct snapshot` and `run --restore` from the command line: what is refused, and why.
 *
 * usage: test_snapshot VIADUCT
 */
#include "../vm/rig.h"
#include "program.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, SIGNAL = 5 };

#define PUT(byte) LI(17, SBI_DBCN), ADDI(16, 0, 2), ADDI(10, 0, byte), ECALL

static struct rig_file kernel; /* says "up" and runs for ever */
static char runtime[40], directory[64], image[64], file[64];
static struct program machine;

static int set_up(void **state)
{
	(void)state;
	snprintf(runtime, sizeof(runtime), "/tmp/viaduct-test-XXXXXX");
	if (!mkdtemp(runtime))
		return -1;
	snprintf(directory, sizeof(directory), "%s/viaduct", runtime);
	snprintf(image, sizeof(image), "%s/disk,1", runtime);
	snprintf(file, sizeof(file), "%s/saved", runtime);
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	RIG_KERNEL_CREATE(&kernel, PUT('u'), PUT('p'), PUT('\n'), JAL(0, 0));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_file_remove(&kernel);
	rmdir(directory);
	return rmdir(runtime);
}

static void make_image(size_t size)
{
	FILE *out = fopen(image, "w");

	assert_non_null(out);
	assert_int_equal(ftruncate(fileno(out), (off_t)size), 0);
	fputs("a disk", out);
	assert_int_equal(fclose(out), 0);
}

/* With the image, whose name has a comma in it. */
static void start_machine(const char *more)
{
	char device[128];

	snprintf(device, sizeof(device), "nvme,image=%s/disk,,1%s", runtime, more);
	program_start(&machine, (const char *const[]){"run", "--kernel", kernel.path, "--name",
						      "one", "--memory", "64M", "--device", device,
						      NULL});
	program_wait_for_output(&machine, "up\n");
}

static void end_machine(void)
{
	EXPECT(0, "\"name\"", "quit", "one");
	program_finish(&machine);
	assert_int_equal(machine.code, SIGNAL);
}

/* It runs for ever: up and answering is what there is to see. */
static void restore_and_end(void)
{
	static struct program status;

	program_start(&machine, (const char *const[]){"run", "--restore", file, "--name", "one",
						      NULL});
	for (unsigned tries = 0; tries < 1000; tries++) {
		program_start(&status, (const char *const[]){"status", "one", NULL});
		program_finish(&status);
		if (!status.code)
			break;
		usleep(10000);
	}
	end_machine();
}

/* Files whose names begin with the snapshot's. */
static unsigned count_files(void)
{
	DIR *dir = opendir(runtime);
	struct dirent *entry;
	unsigned count = 0;

	while ((entry = readdir(dir)))
		count += !strncmp(entry->d_name, "saved", 5);
	closedir(dir);
	return count;
}

static void remove_files(void)
{
	DIR *dir = opendir(runtime);
	struct dirent *entry;
	char path[400];

	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", runtime, entry->d_name);
		if (!strncmp(entry->d_name, "saved", 5))
			unlink(path);
	}
	closedir(dir);
}

static void command_lines_are_checked(void **state)
{
	(void)state;
	EXPECT(0, "--copy-image", "snapshot", "--help");
	EXPECT(USAGE, "usage", "snapshot");
	EXPECT(USAGE, "usage", "snapshot", "one");
	EXPECT(USAGE, "too much", "snapshot", "one", "file", "more");
	EXPECT(USAGE, "--nonsense", "snapshot", "--nonsense", "one", "file");
	EXPECT(USAGE, "no machine's name", "snapshot", "../one", "file");
	EXPECT(FAILED, "no machine named one", "snapshot", "one", "file");
	EXPECT(FAILED, "cannot open", "run", "--restore", "/nowhere/file");
	EXPECT(FAILED, "no snapshot of viaduct", "run", "--restore", kernel.path);
	EXPECT(FAILED, "no --kernel", "run", "--restore", kernel.path, "--kernel", kernel.path);
	EXPECT(FAILED, "--device", "run", "--restore", kernel.path, "--device", "display");
}

static void an_image_that_was_written_is_refused(void **state)
{
	(void)state;
	make_image(65536);
	start_machine("");
	EXPECT(FAILED, "/nowhere", "snapshot", "one", "/nowhere/file");
	EXPECT(FAILED, "not a regular file", "snapshot", "one", "/dev/null");
	EXPECT(FAILED, "disk image of this machine", "snapshot", "one", image);
	EXPECT(0, "the guest stood for", "snapshot", "one", file);
	EXPECT(0, "\"pause_ms\":", "snapshot", "--json", "one", file);
	EXPECT(FAILED, "in use", "run", "--restore", file);
	end_machine();
	assert_int_equal(count_files(), 1);
	EXPECT(FAILED, "64 MiB", "run", "--restore", file, "--memory", "128M");
	EXPECT(FAILED, "--cpus", "run", "--restore", file, "--cpus", "2");
	EXPECT(FAILED, "--svadu", "run", "--restore", file, "--svadu");
	restore_and_end();
	restore_and_end();
	make_image(65536);
	EXPECT(FAILED, "was written since", "run", "--restore", file);
	unlink(image);
	EXPECT(FAILED, "--copy-image", "run", "--restore", file);
	remove_files();
}

static void a_copy_stays_good(void **state)
{
	(void)state;
	make_image(65536);
	start_machine("");
	EXPECT(0, "the guest stood for", "snapshot", "--copy-image", "one", file);
	assert_int_equal(count_files(), 2);
	/* The copy of the one that is replaced goes with it. */
	usleep(2000);
	EXPECT(0, "the guest stood for", "snapshot", "one", "--copy-image", file);
	assert_int_equal(count_files(), 2);
	end_machine();
	make_image(4096);
	restore_and_end();
	unlink(image);
	restore_and_end();
	remove_files();
}

/* ---- files that somebody made up ---- */

static uint32_t crc32_of(const uint8_t *data, size_t length)
{
	uint32_t crc = ~0u;

	while (length--) {
		crc ^= *data++;
		for (unsigned i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* Other words, as long, in what the program said of itself, and all checksums to match. */
static void forge(const char *from, const char *to)
{
	uint64_t header[9], entry[5], at;
	static uint8_t text[4096], table[40 * 40];
	int fd = open(file, O_RDWR);
	uint8_t *found = NULL;

	assert_int_equal(strlen(from), strlen(to));
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pread(fd, table, header[6] * 40, (off_t)header[5]), header[6] * 40);
	for (at = 0; at < header[6] * 40; at += 40) {
		memcpy(entry, table + at, sizeof(entry));
		if (entry[0] == 2)
			break;
	}
	assert_int_equal(entry[0], 2);
	assert_true(entry[3] < sizeof(text));
	assert_int_equal(pread(fd, text, entry[3], (off_t)entry[2]), entry[3]);
	found = memmem(text, entry[3], from, strlen(from));
	assert_non_null(found);
	memcpy(found, to, strlen(to));
	entry[4] = crc32_of(text, entry[3]);
	memcpy(table + at, entry, sizeof(entry));
	header[7] = crc32_of(table, header[6] * 40);
	header[8] = crc32_of((const uint8_t *)header, 64);
	assert_int_equal(pwrite(fd, text, entry[3], (off_t)entry[2]), entry[3]);
	assert_int_equal(pwrite(fd, table, header[6] * 40, (off_t)header[5]), header[6] * 40);
	assert_int_equal(pwrite(fd, header, sizeof(header), 0), sizeof(header));
	close(fd);
}

/* The copy under another name, with a dot instead of the dash. */
static void rename_copy(void)
{
	DIR *dir = opendir(runtime);
	struct dirent *entry;
	char from[400], to[400];

	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, "saved.disk0-", 12))
			continue;
		snprintf(from, sizeof(from), "%s/%s", runtime, entry->d_name);
		snprintf(to, sizeof(to), "%s/saved.disk0.%s", runtime, entry->d_name + 12);
		assert_int_equal(rename(from, to), 0);
	}
	closedir(dir);
}

/* An image that no time of last write vouches for; a copy that is somebody else's file. */
static void a_forged_file_reaches_nobodys(void **state)
{
	(void)state;
	make_image(65536);
	start_machine("");
	EXPECT(0, "the guest stood for", "snapshot", "one", file);
	forge("\"image\":{", "\"imaga\":{");
	EXPECT(FAILED, "a disk image is not described", "run", "--restore", file);
	EXPECT(0, "the guest stood for", "snapshot", "--copy-image", "one", file);
	assert_int_equal(count_files(), 2);
	forge("saved.disk0-", "saved.disk0.");
	rename_copy();
	EXPECT(0, "the guest stood for", "snapshot", "one", file);
	assert_int_equal(count_files(), 2);
	end_machine();
	unlink(image);
	remove_files();
}

static void what_cannot_be_saved_is_refused(void **state)
{
	(void)state;
	make_image(65536);
	start_machine(",snapshot=on");
	EXPECT(FAILED, "snapshot=on", "snapshot", "one", file);
	EXPECT(FAILED, "snapshot=on", "snapshot", "--copy-image", "one", file);
	end_machine();
	start_machine("");
	unlink(image);
	make_image(65536);
	EXPECT(FAILED, "not the file any more", "snapshot", "one", file);
	EXPECT(FAILED, "not the file any more", "snapshot", "--copy-image", "one", file);
	end_machine();
	unlink(image);
	assert_int_equal(count_files(), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_lines_are_checked),
		cmocka_unit_test(an_image_that_was_written_is_refused),
		cmocka_unit_test(a_copy_stays_good),
		cmocka_unit_test(a_forged_file_reaches_nobodys),
		cmocka_unit_test(what_cannot_be_saved_is_refused),
	};

	if (argc != 2)
		return 2;
	program_set_path(argv[1]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
