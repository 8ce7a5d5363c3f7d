/* SPDX-License-Identifier: BSD-2-Clause */
/* QEMU's user mode as the reference: a program as static ELF in a memfd, its data from a pipe. */
#include "insn_qemu.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU "qemu-riscv64"
#define IMAGE_AT 0x1000 /* in the file: congruent to INSN_BASE modulo the page size */
#define SECONDS "60"	/* a program that never ends is ended by timeout(1) */

int insn_qemu_available(void)
{
	const char *path = getenv("PATH");
	char name[4096];

	while (path && *path) {
		int length = (int)strcspn(path, ":");

		snprintf(name, sizeof(name), "%.*s/" QEMU, length, path);
		if (access(name, X_OK) == 0)
			return true;
		path += length + (path[length] == ':');
	}
	return false;
}

static int write_all(int fd, const void *from, size_t bytes)
{
	while (bytes) {
		ssize_t done = write(fd, from, bytes);

		if (done < 0)
			return -errno;
		from = (const char *)from + done;
		bytes -= (size_t)done;
	}
	return 0;
}

/* Return: a descriptor of the executable, or -errno. */
static int make_executable(const struct insn_program *program)
{
	const struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
	} elf = {
		.header = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				     EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_RISCV,
			.e_version = EV_CURRENT,
			.e_entry = INSN_BASE,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_flags = EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE,
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 1,
		},
		.segment = {
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = IMAGE_AT,
			.p_vaddr = INSN_BASE,
			.p_paddr = INSN_BASE,
			.p_filesz = INSN_IMAGE_BYTES,
			.p_memsz = INSN_IMAGE_BYTES,
			.p_align = IMAGE_AT,
		},
	};
	int fd = memfd_create("insn", 0);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write_all(fd, &elf, sizeof(elf));
	if (!ret && lseek(fd, IMAGE_AT, SEEK_SET) < 0)
		ret = -errno;
	if (!ret)
		ret = write_all(fd, program->image, INSN_IMAGE_BYTES);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

/* Return: the bytes read before the end, at most @bytes + 1. */
static size_t read_all(int fd, void *to, size_t bytes)
{
	size_t have = 0;
	char extra;

	for (;;) {
		ssize_t done = have < bytes ? read(fd, (char *)to + have, bytes - have) :
					      read(fd, &extra, 1);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return have;
		have += (size_t)done;
		if (have > bytes)
			return have;
	}
}

int insn_qemu_run(const struct insn_program *program, struct insn_data *result)
{
	int image = make_executable(program);
	int output[2], status;
	char path[32];
	size_t have;
	pid_t pid;

	if (image < 0)
		return image;
	if (pipe2(output, O_CLOEXEC)) {
		close(image);
		return -EMFILE;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", image);
	pid = fork();
	if (pid == 0) {
		dup2(output[1], STDOUT_FILENO);
		execlp("timeout", "timeout", SECONDS, QEMU, path, (char *)NULL);
		_exit(127);
	}
	close(output[1]);
	close(image);
	have = pid < 0 ? 0 : read_all(output[0], result, sizeof(*result));
	close(output[0]);
	if (pid < 0)
		return -EAGAIN;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || have != sizeof(*result)) {
		fprintf(stderr, QEMU ": wait status %#x, %zu bytes\n", (unsigned int)status, have);
		return -EIO;
	}
	return 0;
}
