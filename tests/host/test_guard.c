/* SPDX-License-Identifier: BSD-2-Clause */
/* The fault guard against a real truncation, and its place among other handlers. */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <viaduct/host.h>

#include "../base/test_env.h"

#define PAGE 4096u

static struct vd_host *host;

static int set_up(void **state)
{
	struct vd_host_config config = {.env = vd_env_hosted(), .window_size = UINT64_C(1) << 30};

	(void)state;
	return vd_host_create(&config, &host, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	vd_host_destroy(host);
	return 0;
}

/*
 * Runs one test with the guard on: cmocka sets handlers of its own for each test, so that it cannot
 * be installed in a set-up.
 */
static void guarded(void **state)
{
	void (*body)(void) = (void (*)(void))*state;

	assert_int_equal(vd_host_guard_install(NULL), 0);
	body();
	vd_host_guard_uninstall();
}

static int client_file(size_t pages)
{
	int fd = memfd_create("client", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(pages * PAGE)), 0);
	return fd;
}

static volatile uint8_t *pointer_to(struct vd_host_object *object, uint64_t offset)
{
	struct vd_host_page page;

	assert_int_equal(vd_host_object_lookup(object, offset, VD_READ, &page), 0);
	return (volatile uint8_t *)vd_host_pointer(vd_host_window_base(host), page.pfn, 12) +
		offset % PAGE;
}

static struct vd_host_object *import(int fd, size_t pages)
{
	struct vd_host_object *object;
	struct vd_error error = {0};

	if (vd_host_import(host, "client", fd, 0, pages * PAGE, VD_PAGE_RAM, VD_MEMORY_NORMAL, 0,
			   &object, &error))
		fail_msg("%s", error.text);
	return object;
}

/* A client shortens its file while we are about to use it. */
static void survives_a_truncation(void)
{
	int fd = client_file(8);
	struct vd_host_object *object = import(fd, 8);
	volatile uint8_t *kept = pointer_to(object, 0x1000), *lost = pointer_to(object, 0x5123);
	_Atomic uint32_t request = 1;
	struct vd_host_guard guard = {.notify = &request, .notify_bits = 4};
	struct vd_host_page page;

	*kept = 11;
	*lost = 22;
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	vd_host_guard_enter(&guard);
	assert_int_equal(*lost, 0);
	assert_int_equal(atomic_load(&guard.hits), 1);
	assert_int_equal(atomic_load(&request), 5);
	*lost = 33; /* a page of zeroes takes stores; nobody else sees them */
	assert_int_equal(*lost, 33);
	assert_int_equal(atomic_load(&guard.hits), 1);
	pointer_to(object, 0x1000);
	assert_int_equal(*kept, 11);
	vd_host_guard_leave(&guard);
	/* and from now on lookups say so */
	assert_int_equal(vd_host_object_lookup(object, 0x5000, VD_READ, &page), -EFAULT);
	assert_true(vd_pfn_is_bad(page.pfn));
	assert_int_equal(vd_host_object_lookup(object, 0x3000, VD_READ, &page), 0);
	assert_int_equal(page.run, PAGE);
	vd_host_object_put(object);
	close(fd);
}

/* The file grew again: the object shows it, not our zeroes. */
static void restores_what_came_back(void)
{
	int fd = client_file(4);
	struct vd_host_object *object = import(fd, 4);
	volatile uint8_t *p = pointer_to(object, 0x2000);
	struct vd_host_guard guard = {0};
	uint8_t value = 77;

	assert_int_equal(ftruncate(fd, 0), 0);
	vd_host_guard_enter(&guard);
	assert_int_equal(*p, 0);
	vd_host_guard_leave(&guard);
	assert_int_equal(atomic_load(&guard.hits), 1);
	assert_int_equal(vd_host_object_restore(object, 0x2000, PAGE, true), -EFAULT);
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	assert_int_equal(pwrite(fd, &value, 1, 0x2000), 1);
	assert_int_equal(*p, 0);
	assert_int_equal(vd_host_object_restore(object, 0x2000, PAGE, true), 0);
	assert_int_equal(*p, 77);
	vd_host_object_put(object);
	close(fd);
}

static void guards_nest(void)
{
	int fd = client_file(4);
	struct vd_host_object *object = import(fd, 4);
	volatile uint8_t *a = pointer_to(object, 0), *b = pointer_to(object, PAGE);
	struct vd_host_guard outer = {0}, inner = {0};

	assert_int_equal(ftruncate(fd, 0), 0);
	vd_host_guard_enter(&outer);
	vd_host_guard_enter(&inner);
	assert_int_equal(*a, 0);
	vd_host_guard_leave(&inner);
	assert_int_equal(*b, 0);
	vd_host_guard_leave(&outer);
	assert_int_equal(atomic_load(&inner.hits), 1);
	assert_int_equal(atomic_load(&outer.hits), 1);
	vd_host_object_put(object);
	close(fd);
}

static void refuses_such_files_without_the_guard(void)
{
	int fd = client_file(4);
	struct vd_host_object *object;
	struct vd_error error;

	vd_host_guard_uninstall();
	assert_int_equal(vd_host_import(host, "client", fd, 0, 4 * PAGE, VD_PAGE_RAM,
					VD_MEMORY_NORMAL, 0, &object, &error), -EPERM);
	assert_non_null(strstr(error.text, "F_SEAL_SHRINK"));
	assert_int_equal(vd_host_guard_install(NULL), 0);
	close(fd);
}

/* ---- children: what ends a process, and who else is asked ------------ */

/* Runs @body in a child. Return: its wait status. */
static int in_child(void (*body)(void))
{
	int status = -1;
	pid_t child;

	/* the thread of the deferred calls must not hold the allocator's lock in the copy */
	vd_env_hosted_drain();
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		static const struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void fault_outside(void)
{
	struct vd_host_guard guard = {0};
	char *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	vd_host_guard_enter(&guard);
	*(volatile char *)page;
}

static void touch_window(void)
{
	*(volatile char *)vd_host_window_base(host);
}

static void on_segv_exit(int number)
{
	_exit(number == SIGSEGV ? 42 : 43);
}

static void on_segv_exit_info(int number, siginfo_t *info, void *context)
{
	_exit(info->si_addr && context && number == SIGSEGV ? 44 : 45);
}

static void install_over(const struct sigaction *action)
{
	vd_host_guard_uninstall();
	sigaction(SIGSEGV, action, NULL);
	if (vd_host_guard_install(NULL))
		_exit(99);
}

static void chain_default(void)
{
	install_over(&(struct sigaction){.sa_handler = SIG_DFL});
	fault_outside();
}

static void chain_ignored(void)
{
	install_over(&(struct sigaction){.sa_handler = SIG_IGN});
	raise(SIGSEGV); /* sent: ignored, as before */
	fault_outside();
}

static void chain_plain(void)
{
	install_over(&(struct sigaction){.sa_handler = on_segv_exit});
	fault_outside();
}

static void chain_info(void)
{
	install_over(&(struct sigaction){.sa_sigaction = on_segv_exit_info,
					 .sa_flags = SA_SIGINFO});
	fault_outside();
}

static void chain_without_guard(void)
{
	install_over(&(struct sigaction){.sa_handler = on_segv_exit});
	touch_window();
}

static void chain_sent(void)
{
	struct vd_host_guard guard = {0};

	install_over(&(struct sigaction){.sa_handler = on_segv_exit});
	vd_host_guard_enter(&guard);
	raise(SIGSEGV);
}

/* Somebody sends a signal that says what a fault would say. */
static void chain_forged(void)
{
	struct vd_host_guard guard = {0};
	siginfo_t info = {.si_signo = SIGSEGV, .si_code = SI_QUEUE};

	install_over(&(struct sigaction){.sa_handler = on_segv_exit});
	info.si_addr = (void *)vd_host_window_base(host);
	vd_host_guard_enter(&guard);
	syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &info);
}

static void default_sent(void)
{
	install_over(&(struct sigaction){.sa_handler = SIG_DFL});
	raise(SIGSEGV);
}

static void late_uninstall(void)
{
	static struct sigaction ours;

	/* a later handler is on top when we leave: it stays */
	sigaction(SIGSEGV, NULL, &ours);
	sigaction(SIGSEGV, &(struct sigaction){.sa_handler = on_segv_exit}, NULL);
	vd_host_guard_uninstall();
	fault_outside();
}

static void guarded_window(void)
{
	struct vd_host_guard guard = {0};

	vd_host_guard_enter(&guard);
	touch_window();
	_exit(atomic_load(&guard.hits) == 1 ? 46 : 47);
}

static void assert_exits(void (*body)(void), int code)
{
	int status = in_child(body);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void assert_killed(void (*body)(void))
{
	int status = in_child(body);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* a sanitizer's report may come between the signal and the end */
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
#else
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
#endif
}

static void the_rest_reaches_earlier_handlers(void)
{
	assert_exits(chain_plain, 42);
	assert_exits(chain_info, 44);
	assert_exits(chain_without_guard, 42);
	assert_exits(chain_sent, 42);
	assert_exits(chain_forged, 42);
	assert_exits(late_uninstall, 42);
	assert_exits(guarded_window, 46);
}

static void the_default_still_kills(void)
{
	assert_killed(chain_default);
	assert_killed(chain_ignored);
	assert_killed(default_sent);
}

static void install_counts(void)
{
	struct sigaction before, now;

	sigaction(SIGBUS, NULL, &before);
	assert_int_equal(vd_host_guard_install(NULL), 0);
	vd_host_guard_uninstall();
	sigaction(SIGBUS, NULL, &now);
	assert_ptr_equal(now.sa_sigaction, before.sa_sigaction);
	vd_host_guard_uninstall();
	sigaction(SIGBUS, NULL, &now);
	assert_ptr_not_equal(now.sa_sigaction, before.sa_sigaction);
	vd_host_guard_uninstall(); /* one too many does nothing */
	assert_int_equal(vd_host_guard_install(NULL), 0);
}

int main(void)
{
#define GUARDED(body) {#body, guarded, NULL, NULL, (void *)body}
	const struct CMUnitTest tests[] = {
		GUARDED(survives_a_truncation),
		GUARDED(restores_what_came_back),
		GUARDED(guards_nest),
		GUARDED(refuses_such_files_without_the_guard),
		GUARDED(the_rest_reaches_earlier_handlers),
		GUARDED(the_default_still_kills),
		GUARDED(install_counts),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
