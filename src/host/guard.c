/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault guard: memory that its owner took away reads as zero instead of ending the process.
 *
 * Signal handlers belong to the process, so this file alone has global state: what was installed
 * before, and a table of windows that the handler can read at any moment.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/object.h"
#include "host/skip.h"

#define WINDOWS 128

static struct {
	_Atomic uintptr_t base; /* 0: free */
	_Atomic uint64_t size;	/* 0: being set up or torn down */
	_Atomic bool foreign;
} windows[WINDOWS];

static const int signals[] = {SIGBUS, SIGSEGV};
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned installs;
static _Atomic bool active;
static struct sigaction before[2];

/* initial-exec: the handler must not reach the allocator through a lazily made TLS block */
static _Thread_local struct vd_host_guard *current_guard
	__attribute__((tls_model("initial-exec")));

int guard_add_window(uintptr_t base, uint64_t size, bool foreign)
{
	for (int i = 0; i < WINDOWS; i++) {
		uintptr_t none = 0;

		if (atomic_compare_exchange_strong(&windows[i].base, &none, base)) {
			atomic_store_explicit(&windows[i].foreign, foreign, memory_order_relaxed);
			/* release: pairs with find_window() */
			atomic_store_explicit(&windows[i].size, size, memory_order_release);
			return i;
		}
	}
	return -ENOSPC;
}

void guard_remove_window(int slot)
{
	if (slot < 0)
		return;
	atomic_store_explicit(&windows[slot].size, 0, memory_order_release);
	atomic_store_explicit(&windows[slot].base, 0, memory_order_release);
}

/* Return: whether the address is in a window; then *@foreign is set. */
static bool find_window(uintptr_t address, bool *foreign)
{
	for (int i = 0; i < WINDOWS; i++) {
		/* acquire: pairs with guard_add_window() */
		uint64_t size = atomic_load_explicit(&windows[i].size, memory_order_acquire);
		uintptr_t base = atomic_load_explicit(&windows[i].base, memory_order_relaxed);

		if (address - base < size) {
			*foreign = atomic_load_explicit(&windows[i].foreign, memory_order_relaxed);
			return true;
		}
	}
	return false;
}

/* A page of zeroes under the access. Not mmap(): sanitizers wrap that, and this is a handler. */
static bool put_zeroes(uintptr_t address)
{
	uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE);
	long result = syscall(SYS_mmap, address & ~(size - 1), size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return result != -1;
}

static bool guard_handles(const siginfo_t *info, void *context)
{
	struct vd_host_guard *guard = current_guard;
	uintptr_t address = (uintptr_t)info->si_addr;
	bool foreign;

	/* si_code > 0: a fault of this thread, not a signal somebody sent */
	if (!guard || info->si_code <= 0 || !atomic_load(&active) ||
	    !find_window(address, &foreign))
		return false;
	/* a mapping that is not ours stays as it is */
	if (!(foreign ? skip_access(context) : put_zeroes(address)))
		return false;
	atomic_fetch_add_explicit(&guard->hits, 1, memory_order_relaxed);
	if (guard->notify)
		/* release: who reads the bits sees the hit */
		atomic_fetch_or_explicit(guard->notify, guard->notify_bits, memory_order_release);
	return true;
}

/* As if this handler were not there: on return the access runs again and the default kills. */
static void chain(int number, siginfo_t *info, void *context)
{
	const struct sigaction *old = &before[number == SIGBUS ? 0 : 1];
	struct sigaction ends = {.sa_handler = SIG_DFL};
	bool faulted = info->si_code > 0; /* which cannot be ignored */

	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(number, info, context);
	} else if (old->sa_handler == SIG_DFL || (old->sa_handler == SIG_IGN && faulted)) {
		sigaction(number, &ends, NULL);
		if (!faulted)
			raise(number); /* was sent, will not come again by itself */
	} else if (old->sa_handler != SIG_IGN) {
		old->sa_handler(number);
	}
}

static void handle_fault(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	if (!guard_handles(info, context))
		chain(number, info, context);
	errno = saved;
}

static int install_one(unsigned i)
{
	struct sigaction ours = {.sa_sigaction = handle_fault};

	if (sigaction(signals[i], NULL, &before[i]))
		return -errno;
	/* what the chained handler asked for holds while it runs under ours */
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (before[i].sa_flags & (SA_NODEFER | SA_RESTART));
	ours.sa_mask = before[i].sa_mask;
	return sigaction(signals[i], &ours, NULL) ? -errno : 0;
}

static void uninstall_one(unsigned i)
{
	struct sigaction now;

	/* somebody came after us and chains to us: stay, and only pass on */
	if (sigaction(signals[i], NULL, &now) == 0 && now.sa_flags & SA_SIGINFO &&
	    now.sa_sigaction == handle_fault)
		sigaction(signals[i], &before[i], NULL);
}

int vd_host_guard_install(struct vd_error *error)
{
	int result = 0;

	pthread_mutex_lock(&install_lock);
	if (installs == 0) {
		result = install_one(0);
		if (!result) {
			result = install_one(1);
			if (result)
				uninstall_one(0);
		}
	}
	if (!result) {
		installs++;
		atomic_store(&active, true);
	}
	pthread_mutex_unlock(&install_lock);
	return result ? vd_error_set(error, result, "cannot install the fault guard") : 0;
}

void vd_host_guard_uninstall(void)
{
	pthread_mutex_lock(&install_lock);
	if (installs && --installs == 0) {
		atomic_store(&active, false);
		uninstall_one(0);
		uninstall_one(1);
	}
	pthread_mutex_unlock(&install_lock);
}

bool guard_installed(void)
{
	return atomic_load(&active);
}

void vd_host_guard_enter(struct vd_host_guard *guard)
{
	guard->outer = current_guard;
	current_guard = guard;
}

void vd_host_guard_leave(struct vd_host_guard *guard)
{
	vd_assert(current_guard == guard);
	current_guard = guard->outer;
}
