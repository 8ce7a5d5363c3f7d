/* SPDX-License-Identifier: BSD-2-Clause */
/* What is given to a machine to boot: where it ends up, and what is said of what cannot be booted. */
#include "rig.h"

#include <fcntl.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GIB (1024 * RIG_MIB)

static void expect_failure(const struct vd_vm_config *config, int code, const char *words)
{
	struct vd_error error = {0};
	struct vd_vm *vm = NULL;

	assert_int_equal(vd_vm_create(config, &vm, &error), code);
	assert_null(vm);
	assert_int_equal(error.code, code);
	if (!strstr(error.text, words))
		fail_msg("'%s' does not say '%s'", error.text, words);
	assert_int_equal(vd_vm_create(config, &vm, NULL), code);
}

static void create_kernel(struct rig_file *kernel)
{
	RIG_KERNEL_CREATE(kernel, SD(10, 8, 0), SD(11, 8, 8), POWER_OFF);
}

/* Files that are no kernel. */
static void kernels_that_are_none_are_refused(void **state)
{
	static const unsigned char elf[128] = "\177ELF";
	struct rig_file file;
	struct vd_vm_config config;
	char path[] = "/tmp/viaduct-test-XXXXXX";

	(void)state;
	create_kernel(&file);
	rig_config(&config, &file);
	config.kernel = NULL;
	expect_failure(&config, -EINVAL, "--kernel");
	config.kernel = "/nowhere/Image";
	expect_failure(&config, -ENOENT, "/nowhere/Image");
	config.kernel = "";
	expect_failure(&config, -ENOENT, "kernel");
	config.kernel = "/tmp";
	expect_failure(&config, -EINVAL, "regular file");
	config.kernel = "/dev/zero";
	expect_failure(&config, -EINVAL, "regular file");
	assert_non_null(mkdtemp(path));
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
	config.kernel = path;
	expect_failure(&config, -EINVAL, "regular file");
	unlink(path);
	config.kernel = file.path;
	for (off_t length = 0; length < 64; length += 9) {
		assert_int_equal(truncate(file.path, length), 0);
		expect_failure(&config, -ENOEXEC, "Image");
	}
	rig_file_remove(&file);
	rig_file_create(&file, elf, sizeof(elf));
	config.kernel = file.path;
	expect_failure(&config, -ENOEXEC, "Image");
	rig_file_remove(&file);
}

static void write_image_size(const struct rig_file *file, uint64_t size)
{
	int fd = open(file->path, O_WRONLY);

	assert_int_equal(pwrite(fd, &size, sizeof(size), 16), sizeof(size));
	close(fd);
}

/* The number behind @words in the message. */
static unsigned long long number_after(const struct vd_vm_config *config, const char *words)
{
	struct vd_error error = {0};
	struct vd_vm *vm;
	const char *at;

	assert_int_equal(vd_vm_create(config, &vm, &error), -E2BIG);
	at = strstr(error.text, words);
	assert_non_null(at);
	return strtoull(at + strlen(words), NULL, 10);
}

static void kernels_must_fit(void **state)
{
	static const uint64_t lies[] = {RIG_MEMORY - 2 * RIG_MIB + 1, RIG_MEMORY, GIB, UINT64_C(1) << 40,
					UINT64_MAX - 2 * RIG_MIB, UINT64_MAX - RIG_MIB, UINT64_MAX};
	struct rig_file file;
	struct vd_vm_config config;

	(void)state;
	create_kernel(&file);
	rig_config(&config, &file);
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		write_image_size(&file, lies[i]);
		expect_failure(&config, -E2BIG, "--memory");
		assert_true(number_after(&config, "needs ") > RIG_MEMORY / RIG_MIB);
	}
	/* A file larger than its header says; it is sparse. */
	write_image_size(&file, 0);
	assert_int_equal(truncate(file.path, (off_t)RIG_MEMORY), 0);
	expect_failure(&config, -E2BIG, "--memory");
	/* Low memory is what counts: it lies in one piece. */
	config.memory = 4 * GIB;
	write_image_size(&file, GIB);
	expect_failure(&config, -E2BIG, "needs");
	rig_file_remove(&file);
}

/* A kernel that leaves no room for the device tree behind it. */
static void the_device_tree_needs_room(void **state)
{
	struct rig_file file;
	struct vd_vm_config config;
	char *text = calloc(1, 70000);

	(void)state;
	create_kernel(&file);
	rig_config(&config, &file);
	write_image_size(&file, RIG_MEMORY - 2 * RIG_MIB);
	expect_failure(&config, -EFAULT, "--memory");
	write_image_size(&file, 4096);
	memset(text, 'x', 69999);
	config.append = text;
	expect_failure(&config, -E2BIG, "command line");
	free(text);
	rig_file_remove(&file);
}

static void initrds_must_be_files_that_fit(void **state)
{
	struct rig_file kernel, initrd;
	struct vd_vm_config config;

	(void)state;
	create_kernel(&kernel);
	rig_file_create(&initrd, "x", 1);
	rig_config(&config, &kernel);
	config.initrd = "/nowhere/initrd";
	expect_failure(&config, -ENOENT, "/nowhere/initrd");
	config.initrd = "/tmp";
	expect_failure(&config, -EINVAL, "regular file");
	config.initrd = initrd.path;
	assert_int_equal(truncate(initrd.path, (off_t)(RIG_MEMORY - 4 * RIG_MIB)), 0);
	expect_failure(&config, -E2BIG, "does not fit");
	assert_int_equal(truncate(initrd.path, (off_t)UINT64_C(1) << 40), 0);
	expect_failure(&config, -E2BIG, "does not fit");
	rig_file_remove(&initrd);
	rig_file_remove(&kernel);
}

static void sizes_and_numbers_have_limits(void **state)
{
	static const uint64_t sizes[] = {0, 1, 62 * RIG_MIB, 64 * RIG_MIB + 4096, 65 * RIG_MIB,
					 512 * GIB + 2 * RIG_MIB, UINT64_MAX,
					 UINT64_MAX - 2 * RIG_MIB + 1};
	static const unsigned int cpus[] = {0, 33, 1000, UINT32_MAX};
	struct rig_file kernel;
	struct vd_vm_config config;

	(void)state;
	create_kernel(&kernel);
	rig_config(&config, &kernel);
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		config.memory = sizes[i];
		expect_failure(&config, -EINVAL, "memory");
	}
	config.memory = RIG_MEMORY;
	for (unsigned int i = 0; i < 4; i++) {
		config.cpus = cpus[i];
		expect_failure(&config, -EINVAL, "cpus");
	}
	rig_file_remove(&kernel);
}

/* Run the kernel. Return: its device tree, as hart 0 was given it. */
static void *boot(const struct vd_vm_config *config, struct vd_vm **vm)
{
	struct vd_error error = {0};
	uint64_t gpa;
	void *fdt = malloc(65536);

	if (vd_vm_create(config, vm, &error))
		fail_msg("%s", error.text);
	assert_int_equal(vd_vm_run(*vm, &error), VD_VM_EXIT_POWER_OFF);
	assert_int_equal(rig_read64(*vm, RIG_DATA), 0); /* hart id */
	gpa = rig_read64(*vm, RIG_DATA + 8);
	assert_int_equal(gpa % 8, 0);
	assert_int_equal(vd_mem_read(vd_vm_mem(*vm), (vd_gpa){gpa}, fdt, 4096), 0);
	assert_int_equal(fdt_check_header(fdt), 0);
	assert_int_equal(vd_mem_read(vd_vm_mem(*vm), (vd_gpa){gpa}, fdt, fdt_totalsize(fdt)), 0);
	assert_int_equal(fdt_check_full(fdt, 65536), 0);
	return fdt;
}

static uint64_t chosen(const void *fdt, const char *name)
{
	const fdt64_t *value = fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), name, NULL);

	assert_non_null(value);
	return fdt64_ld(value);
}

static void kernel_initrd_and_tree_lie_apart(void **state)
{
	static const uint64_t memories[] = {RIG_MEMORY, GIB, GIB + 2 * RIG_MIB, 4 * GIB};
	const size_t size = 3 * RIG_MIB + 17;
	struct rig_file kernel, initrd;
	struct vd_vm_config config;
	unsigned char *bytes = malloc(size), *back = malloc(size);

	(void)state;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 4096);
	create_kernel(&kernel);
	write_image_size(&kernel, 5 * RIG_MIB + 1);
	rig_file_create(&initrd, bytes, size);
	rig_config(&config, &kernel);
	config.initrd = initrd.path;
	for (unsigned int i = 0; i < 4; i++) {
		struct vd_vm *vm;
		uint64_t start, end, tree;
		void *fdt;

		config.memory = memories[i];
		fdt = boot(&config, &vm);
		start = chosen(fdt, "linux,initrd-start");
		end = chosen(fdt, "linux,initrd-end");
		tree = rig_read64(vm, RIG_DATA + 8);
		assert_int_equal(end - start, size);
		/* Beyond what the kernel will use, not what it fills of the file. */
		assert_true(start >= RIG_KERNEL + 5 * RIG_MIB + 1);
		assert_true(tree >= end);
		assert_int_equal(vd_mem_read(vd_vm_mem(vm), (vd_gpa){start}, back, size), 0);
		assert_memory_equal(bytes, back, size);
		if (memories[i] > GIB) {
			rig_write64(vm, 4 * GIB + memories[i] - GIB - 8, 5);
			assert_int_equal(vd_mem_read(vd_vm_mem(vm),
						     (vd_gpa){4 * GIB + memories[i] - GIB - 7}, back,
						     8), -EFAULT);
		}
		free(fdt);
		vd_vm_destroy(vm);
	}
	rig_file_remove(&initrd);
	rig_file_remove(&kernel);
	free(bytes);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernels_that_are_none_are_refused),
		cmocka_unit_test(kernels_must_fit),
		cmocka_unit_test(the_device_tree_needs_room),
		cmocka_unit_test(initrds_must_be_files_that_fit),
		cmocka_unit_test(sizes_and_numbers_have_limits),
		cmocka_unit_test(kernel_initrd_and_tree_lie_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
