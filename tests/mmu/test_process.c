/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest stays bound to the address space it was made in (B4): handles that a child inherits
 * answer with an error of their own on every floor, and never reach the child's copy of the
 * memory. A descriptor that is passed on is good for a host of the other process's own.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include "fixture.h"

static struct fixture f;
static char *private_memory;
static struct vd_host_object *private_object;
static int sockets[2];

static int set_up(void **state)
{
	(void)state;
	fixture_open(&f, &vd_mmu_format_sv48x4);
	private_memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);
	return vd_host_private(f.host, "private", private_memory, 4 * PAGE, VD_HOST_ANNOUNCED,
			       &private_object, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_object_put(private_object);
	fixture_close(&f);
	munmap(private_memory, 4 * PAGE);
	return 0;
}

/* Runs @fn in a child; it returns 0, or the number of the check that failed. */
static void in_child(int (*fn)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		alarm(20);
		_exit(fn());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int host_says_so(void)
{
	struct vd_host_object *made;
	struct vd_host_page page;
	uint64_t a, b;

	if (vd_host_is_ours(f.host))
		return 1;
	if (vd_host_object_lookup(f.ram, 0, VD_READ, &page) != -EOWNERDEAD ||
	    !vd_pfn_is_bad(page.pfn) ||
	    vd_host_object_lookup(private_object, 0, VD_READ, &page) != -EOWNERDEAD)
		return 2;
	if (vd_host_object_discard(f.ram, 0, PAGE, true) != -EOWNERDEAD ||
	    vd_host_object_discard_unused(f.ram, 0, PAGE, true) != -EOWNERDEAD ||
	    vd_host_object_protect(f.ram, 0, PAGE, false, true) != -EOWNERDEAD ||
	    vd_host_object_move(f.spares, 0, PAGE, true) != -EOWNERDEAD ||
	    vd_host_object_restore(f.ram, 0, PAGE, true) != -EOWNERDEAD ||
	    vd_host_object_resident(f.ram, 0, PAGE, &a) != -EOWNERDEAD)
		return 3;
	if (vd_host_object_fd(f.ram) != -EOWNERDEAD ||
	    vd_host_object_fd_range(f.ram, 0, &a, &b) != -EOWNERDEAD ||
	    vd_host_object_hold(f.ram, 0, PAGE, NULL) != -EOWNERDEAD ||
	    vd_host_object_hold(private_object, 0, PAGE, NULL) != -EOWNERDEAD)
		return 4;
	if (vd_host_ram_create(f.host, "ram", PAGE, 0, &made, NULL) != -EOWNERDEAD ||
	    vd_host_import(f.host, "import", 0, 0, PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0, &made,
			   NULL) != -EOWNERDEAD ||
	    vd_host_private(f.host, "private", private_memory, PAGE, 0, &made, NULL) !=
		    -EOWNERDEAD)
		return 5;
	return 0;
}

static void the_host_says_so(void **state)
{
	(void)state;
	assert_true(vd_host_is_ours(f.host));
	in_child(host_says_so);
}

static int guest_says_so(void)
{
	struct vd_mem_config config = {.env = &f.test.env, .host = f.host};
	struct vd_mem_update *update;
	struct vd_mem_page page;
	struct vd_mem *mem;
	char byte = 9;

	if (vd_mem_gpa_to_pfn(f.mem, (vd_gpa){0}, VD_READ, &page) != -EOWNERDEAD ||
	    !vd_pfn_is_bad(page.host.pfn))
		return 1;
	if (vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1) != -EOWNERDEAD || byte != 9 ||
	    vd_mem_write(f.mem, (vd_gpa){0}, &byte, 1) != -EOWNERDEAD ||
	    vd_mem_write(f.mem, (vd_gpa){GIB}, &byte, 1) != -EOWNERDEAD)
		return 2;
	if (vd_mem_begin(f.mem, &update) != -EOWNERDEAD || vd_mem_remove_slot(f.mem, 1) !=
							   -EOWNERDEAD)
		return 3;
	if (vd_mem_create(&config, &mem, NULL) != -EOWNERDEAD)
		return 4;
	if (fault(&f, 0, VD_READ) != -EOWNERDEAD || fault(&f, 0, VD_WRITE) != -EOWNERDEAD ||
	    fault(&f, GIB, VD_READ) != -EOWNERDEAD)
		return 5;
	return 0;
}

static void the_guest_space_and_its_tables_say_so(void **state)
{
	char byte = 1;

	(void)state;
	fixture_slot(&f, 0, MIB, f.ram, 0, false);
	fixture_slot(&f, GIB, 4 * PAGE, private_object, 0, false);
	touch(&f, GIB, VD_READ | VD_WRITE);
	in_child(guest_says_so);
	/* and the parent's goes on, unharmed */
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){GIB}, &byte, 1), 0);
	assert_int_equal(byte, 0);
}

/* ---- copy-on-write between processes (A9) ------------------------------ */

/* Bit 56 of a pagemap entry: mapped by this process only. Return: -1 where it cannot be read. */
static int exclusive(const char *address)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool got = fd >= 0 && pread(fd, &entry, sizeof(entry),
				    (off_t)((uintptr_t)address / PAGE * 8)) == sizeof(entry);

	if (fd >= 0)
		close(fd);
	return got && entry ? (int)(entry >> 56 & 1) : -1;
}

/* Faults for reading map what parent and child share, read-only; one for writing parts them. */
static void a_read_fault_keeps_a_forked_page_shared(void **state)
{
	int ask[2], answer[2];
	struct vd_mmu_leaf leaf;
	char c = 0;
	pid_t child;

	(void)state;
	fixture_slot(&f, GIB, 4 * PAGE, private_object, 0, false);
	memset(private_memory, 'p', 4 * PAGE);
	assert_int_equal(pipe(ask) | pipe(answer), 0);
	child = fork();
	if (child == 0) { /* tells what it sees in page 1 when asked */
		close(ask[1]);
		while (read(ask[0], &c, 1) == 1 && write(answer[1], private_memory + PAGE, 1) == 1)
			;
		_exit(0);
	}
	for (unsigned i = 0; i < 4; i++) {
		leaf = touch(&f, GIB + i * PAGE, VD_READ);
		assert_int_equal(leaf.access & VD_WRITE, 0);
		assert_int_equal(vd_guest_load8(vd_host_pointer(vd_host_window_base(f.host),
								leaf.pfn, 12)), 'p');
	}
	if (exclusive(private_memory) >= 0)
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(exclusive(private_memory + i * PAGE), 0);
	leaf = touch(&f, GIB + PAGE, VD_READ | VD_WRITE);
	assert_true(leaf.access & VD_WRITE);
	vd_guest_store8(vd_host_pointer(vd_host_window_base(f.host), leaf.pfn, 12), 'w');
	assert_int_equal(write(ask[1], "?", 1), 1);
	assert_int_equal(read(answer[0], &c, 1), 1);
	assert_int_equal(c, 'p'); /* the child's is its own */
	assert_int_equal(touch(&f, GIB, VD_READ).access & VD_WRITE, 0); /* its neighbours stay */
	if (exclusive(private_memory) >= 0)
		assert_int_equal(exclusive(private_memory), 0);
	for (unsigned i = 0; i < 2; i++)
		close(ask[i]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	for (unsigned i = 0; i < 2; i++)
		close(answer[i]);
}

/* ---- SCM_RIGHTS ------------------------------------------------------ */

static void send_descriptor(int fd)
{
	union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(sockets[0], &message, 0), 1);
}

static int receive_descriptor(void)
{
	union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
	char byte;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int fd = -1;

	if (recvmsg(sockets[1], &message, 0) == 1 && CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static int use_passed_descriptor(void)
{
	struct vd_host_config config = {.env = &f.test.env, .window_size = GIB};
	struct vd_host_object *object;
	struct vd_host_page page;
	struct vd_host *host;
	char *p;
	int fd = receive_descriptor();

	/* with the memory at hand, the inherited handle is as dead as before */
	if (fd < 0 || vd_host_object_lookup(f.ram, 0, VD_READ, &page) != -EOWNERDEAD ||
	    fault(&f, 0, VD_READ) != -EOWNERDEAD)
		return 1;
	if (vd_host_import(f.host, "passed", fd, 0, MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0, &object,
			   NULL) != -EOWNERDEAD)
		return 2;
	if (vd_host_create(&config, &host, NULL) ||
	    vd_host_import(host, "passed", fd, 0, MIB, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0, &object,
			   NULL) ||
	    vd_host_object_lookup(object, 0, VD_READ | VD_WRITE, &page))
		return 3;
	p = vd_host_pointer(vd_host_window_base(host), page.pfn, 12);
	if (vd_guest_load8(p) != 'a')
		return 4;
	vd_guest_store8(p, 'b');
	return 0;
}

static void a_passed_descriptor_needs_a_host_of_its_own(void **state)
{
	char byte = 'a';

	(void)state;
	fixture_slot(&f, 0, MIB, f.ram, 0, false);
	assert_int_equal(vd_mem_write(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	send_descriptor(vd_host_object_fd(f.ram));
	in_child(use_passed_descriptor);
	assert_int_equal(vd_mem_read(f.mem, (vd_gpa){0}, &byte, 1), 0);
	assert_int_equal(byte, 'b');
	close(sockets[0]);
	close(sockets[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_host_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_guest_space_and_its_tables_say_so, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_read_fault_keeps_a_forked_page_shared, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_passed_descriptor_needs_a_host_of_its_own, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
