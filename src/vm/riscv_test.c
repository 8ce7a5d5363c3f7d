/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bare machine: one hart in M mode, RAM, and the tohost word by which riscv-tests end
 * (riscv-tests README, HTIF).
 */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <viaduct/vm.h>

#define RAM_BASE 0x80000000ull
#define RAM_SIZE (8ull << 20)
#define PAGE 4096ull

struct bare {
	const struct vd_env *env;
	struct vd_host *host;
	struct vd_mem *mem;
	struct vd_mmu *mmu;
	struct vd_hart_group *group;
	struct vd_hart *hart;
	struct vd_host_object *ram;
	uint64_t entry, tohost, limit;
	uint64_t value; /* last written to tohost */
	bool done;
	const uint8_t *file;
	size_t size;
};

static int tohost_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	(void)context, (void)offset, (void)length;
	*value = 0;
	return 0;
}

/* Odd: the program ends, the rest of the value is the failed case. Console output is not shown. */
static int tohost_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	struct bare *b = context;

	(void)length;
	if (b->done || offset != (b->tohost & (PAGE - 1)) || !(value & 1) || value >> 48)
		return 0;
	b->value = value;
	b->done = true;
	vd_hart_request_stop(b->hart);
	return 0;
}

static const struct vd_trap_ops tohost_ops = {tohost_read, tohost_write};

static int bare_ecall(void *context, struct vd_hart *hart)
{
	(void)context, (void)hart;
	return 1; /* not reached: with M mode the guest takes its own */
}

static void bare_poll(void *context, struct vd_hart *hart)
{
	struct bare *b = context;
	struct vd_hart_stats stats;

	vd_hart_stats(hart, &stats);
	if (stats.instructions > b->limit)
		vd_hart_request_stop(hart);
}

static const struct vd_hart_ops bare_ops = {.ecall = bare_ecall, .poll = bare_poll};

static bool in_file(const struct bare *b, uint64_t offset, uint64_t length)
{
	return offset <= b->size && length <= b->size - offset;
}

static bool find_tohost(struct bare *b, const Elf64_Ehdr *ehdr)
{
	for (unsigned i = 0; i < ehdr->e_shnum; i++) {
		Elf64_Shdr section, strings;
		Elf64_Sym symbol;

		if (!in_file(b, ehdr->e_shoff + i * sizeof(section), sizeof(section)))
			return false;
		memcpy(&section, b->file + ehdr->e_shoff + i * sizeof(section), sizeof(section));
		if (section.sh_type != SHT_SYMTAB || section.sh_link >= ehdr->e_shnum ||
		    !in_file(b, section.sh_offset, section.sh_size) ||
		    !in_file(b, ehdr->e_shoff + section.sh_link * sizeof(strings),
			     sizeof(strings)))
			continue;
		memcpy(&strings, b->file + ehdr->e_shoff + section.sh_link * sizeof(strings),
		       sizeof(strings));
		for (uint64_t at = 0; at + sizeof(symbol) <= section.sh_size;
		     at += sizeof(symbol)) {
			memcpy(&symbol, b->file + section.sh_offset + at, sizeof(symbol));
			if (!in_file(b, strings.sh_offset + (uint64_t)symbol.st_name, 7) ||
			    memcmp(b->file + strings.sh_offset + symbol.st_name, "tohost", 7))
				continue;
			b->tohost = symbol.st_value;
			return true;
		}
	}
	return false;
}

static int load_segments(struct bare *b, const Elf64_Ehdr *ehdr)
{
	for (unsigned i = 0; i < ehdr->e_phnum; i++) {
		uint64_t at = ehdr->e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr segment;
		struct vd_host_page page;

		if (!in_file(b, at, sizeof(segment)))
			return -ENOEXEC;
		memcpy(&segment, b->file + at, sizeof(segment));
		if (segment.p_type != PT_LOAD || !segment.p_filesz)
			continue;
		if (!in_file(b, segment.p_offset, segment.p_filesz) ||
		    segment.p_paddr < RAM_BASE || segment.p_paddr - RAM_BASE > RAM_SIZE ||
		    segment.p_filesz > RAM_SIZE - (segment.p_paddr - RAM_BASE))
			return -ENOEXEC;
		if (vd_host_object_lookup(b->ram, segment.p_paddr - RAM_BASE, VD_READ | VD_WRITE,
					  &page) || page.run < segment.p_filesz)
			return -ENOMEM;
		vd_guest_copy((char *)vd_host_pointer(vd_host_window_base(b->host), page.pfn, 12) +
			      (segment.p_paddr & (PAGE - 1)),
			      b->file + segment.p_offset, segment.p_filesz);
	}
	return 0;
}

static int add_slots(struct bare *b, struct vd_error *error)
{
	uint64_t page = b->tohost & ~(PAGE - 1), before = page - RAM_BASE;
	struct vd_slot_config ram = {.kind = VD_SLOT_RAM, .object = b->ram, .name = "ram"};
	struct vd_slot_config trap = {.kind = VD_SLOT_TRAP, .base = {page}, .size = PAGE,
				      .ops = &tohost_ops, .context = b, .name = "tohost",
				      .reason = "the host watches this word"};
	uint32_t id;
	int rc = 0;

	if (before) {
		ram.base = (vd_gpa){RAM_BASE};
		ram.size = before;
		rc = vd_mem_add_slot(b->mem, &ram, &id, error);
	}
	ram.base = (vd_gpa){page + PAGE};
	ram.size = RAM_SIZE - before - PAGE;
	ram.offset = before + PAGE;
	if (!rc)
		rc = vd_mem_add_slot(b->mem, &ram, &id, error);
	return rc ? rc : vd_mem_add_slot(b->mem, &trap, &id, error);
}

static int load(struct bare *b, const char *path, struct vd_error *error)
{
	Elf64_Ehdr ehdr;
	int rc;

	if (b->size < sizeof(ehdr) || memcmp(b->file, ELFMAG, SELFMAG) ||
	    b->file[EI_CLASS] != ELFCLASS64)
		return vd_error_set(error, -ENOEXEC, "%s is not a 64-bit ELF file", path);
	memcpy(&ehdr, b->file, sizeof(ehdr));
	if (ehdr.e_machine != EM_RISCV)
		return vd_error_set(error, -ENOEXEC, "%s is not for RISC-V", path);
	b->entry = ehdr.e_entry;
	if (!find_tohost(b, &ehdr) || b->tohost < RAM_BASE || b->tohost & 7 ||
	    b->tohost >= RAM_BASE + RAM_SIZE - PAGE)
		return vd_error_set(error, -ENOEXEC,
				    "%s has no symbol tohost in RAM: not a riscv-tests program",
				    path);
	rc = load_segments(b, &ehdr);
	if (rc)
		return vd_error_set(error, rc, "%s does not fit into RAM at 0x80000000", path);
	return add_slots(b, error);
}

static int build(struct bare *b, const char *path, struct vd_error *error)
{
	struct vd_host_config host = {.env = b->env};
	struct vd_mem_config mem = {.env = b->env};
	struct vd_mmu_config mmu = {.env = b->env, .format = &vd_mmu_format_sv48x4,
				    .flush = vd_hart_group_flush};
	struct vd_hart_config hart = {.env = b->env, .flags = VD_HART_MACHINE,
				      .timebase_hz = VD_BOARD_TIMEBASE, .ops = &bare_ops,
				      .context = b};
	int rc;

	rc = vd_host_create(&host, &b->host, error);
	if (!rc)
		rc = vd_host_ram_create(b->host, "ram", RAM_SIZE, 0, &b->ram, error);
	mem.host = b->host;
	if (!rc)
		rc = vd_mem_create(&mem, &b->mem, error);
	if (!rc)
		rc = vd_hart_group_create(b->env, &b->group, error);
	mmu.mem = b->mem;
	mmu.flush_context = b->group;
	if (!rc)
		rc = vd_mmu_create(&mmu, &b->mmu, error);
	if (!rc)
		rc = vd_hart_group_listen(b->group, b->mem);
	hart.group = b->group;
	hart.mem = b->mem;
	hart.mmu = b->mmu;
	if (!rc)
		rc = vd_hart_create(&hart, &b->hart, error);
	return rc ? rc : load(b, path, error);
}

static void tear_down(struct bare *b)
{
	vd_hart_destroy(b->hart);
	vd_mmu_destroy(b->mmu); /* flushes through the group */
	vd_hart_group_destroy(b->group);
	vd_mem_destroy(b->mem);
	if (b->ram)
		vd_host_object_put(b->ram);
	vd_host_destroy(b->host);
}

static int map_file(struct bare *b, const char *path, struct vd_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p = MAP_FAILED;

	if (fd < 0)
		return vd_error_set(error, -errno, "cannot open %s: %s", path, strerror(errno));
	if (fstat(fd, &st) == 0 && st.st_size > 0)
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return vd_error_set(error, -ENOEXEC, "cannot read %s", path);
	b->file = p;
	b->size = (size_t)st.st_size;
	return 0;
}

int vd_vm_riscv_test(const struct vd_env *env, const char *path, uint64_t limit, uint64_t *failed,
		     struct vd_error *error)
{
	struct bare b = {.env = env, .limit = limit ? limit : 100000000u};
	int rc;

	rc = map_file(&b, path, error);
	if (rc)
		return rc;
	rc = build(&b, path, error);
	if (!rc) {
		vd_hart_reset(b.hart, (vd_gva){b.entry});
		vd_hart_run(b.hart);
		*failed = b.value >> 1;
		if (!b.done)
			rc = vd_error_set(error, -ETIMEDOUT,
					  "%s did not end within %llu instructions (pc 0x%llx)",
					  path, (unsigned long long)b.limit,
					  (unsigned long long)vd_hart_pc(b.hart).value);
	}
	tear_down(&b);
	munmap((void *)b.file, b.size);
	return rc;
}
