/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * docs/memory-changes.md, line by line (B8): each system call is made by a foreign thread while a
 * reader follows the retry protocol, and what is seen then and afterwards is what the line says.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <viaduct/foreign.h>

#include "../base/test_env.h"

#define PAGE UINT64_C(4096)
#define PAGES 16u
#define GAP (UINT64_C(64) << 20)
#define AT 5u /* the page that is looked at */
#define OLD 42
#define NEW 99
#define STORED 77

enum kind { OBJECT, VIEW, IMPORT, PRIVATE, FILE_VIEW, LOCKED };

static const char *const kind_names[] = {
	[OBJECT] = "object in the window", [VIEW] = "somebody's view of it",
	[IMPORT] = "imported file, not sealed", [PRIVATE] = "private, watched",
	[FILE_VIEW] = "private view of a memfd, watched", [LOCKED] = "private, locked",
};

enum sees { SAME, ZEROES, NEW_BYTES, SAME_OR_ZEROES, FAULT, STORE_FAULT };

static const char *const sees_names[] = {
	[SAME] = "the same", [ZEROES] = "zeroes", [NEW_BYTES] = "the new bytes",
	[SAME_OR_ZEROES] = "the same or zeroes", [FAULT] = "access fault",
	[STORE_FAULT] = "the same; access fault at a store",
};

enum report { NOTHING, FAILS, DISCARD, GUARD, GUARD_LOOKUP, UNMAP, UNMAP_REUSED, RELEASE };

/* How late, and what the library reports. */
static const char *const report_names[] = {
	[NOTHING] = "at once | nothing", [FAILS] = "never: the call fails | nothing",
	[DISCARD] = "before the call returns | invalidation, reason discard",
	[GUARD] = "at once | a hit of the fault guard",
	[GUARD_LOOKUP] = "at once | a hit of the fault guard; lookups answer -EFAULT",
	[UNMAP] = "before the call returns | invalidation; lookups answer -EFAULT",
	[UNMAP_REUSED] = ("before the call returns | invalidation, and release if it is in use again "
			  "by then; lookups answer -EFAULT"),
	[RELEASE] = "before the call returns | invalidation, release; lookups answer -EFAULT",
};

struct rig {
	struct vd_host *host;
	struct vd_foreign *foreign;
	struct vd_host_object *object;
	int fd;
	char *memory; /* where the foreign thread has it: a view, or the memory itself */
	char *beside;
	struct vd_listener listener;
	_Atomic unsigned discards, releases;
	_Atomic bool stop, skipped;
	int result; /* of the call */
	void (*call)(void);
};

static struct rig rig;

static char *page_at(void)
{
	return rig.memory + AT * PAGE;
}

/* ---- a mirror that only reads ----------------------------------------- */

static int on_start(struct vd_listener *listener, const struct vd_invalidation *event)
{
	(void)listener;
	atomic_fetch_add(&rig.discards, event->reason == VD_INVALIDATE_DISCARD);
	vd_env_hosted()->synchronize(vd_env_hosted());
	return 0;
}

static void on_release(struct vd_listener *listener)
{
	(void)listener;
	atomic_fetch_add(&rig.releases, 1);
}

static const struct vd_listener_ops ops = {.invalidate_start = on_start, .release = on_release};

struct seen { int result; uint8_t value; unsigned hits; };

/* One access as of a guest, under the fault guard. */
static struct seen look(bool store)
{
	const struct vd_env *env = vd_env_hosted();
	struct vd_notifier *chain = vd_host_notifier(rig.host);
	struct vd_host_guard guard = {0};
	struct seen seen = {0};
	struct vd_host_page page;
	bool stale;

	vd_host_guard_enter(&guard);
	do {
		uint64_t seq;
		char *p;

		env->read_enter(env);
		seq = vd_notifier_begin(chain);
		seen.result = vd_host_object_lookup(rig.object, AT * PAGE,
						    store ? VD_READ | VD_WRITE : VD_READ, &page);
		stale = vd_notifier_retry(chain, seq, AT * PAGE, PAGE);
		if (!stale && !seen.result) {
			p = vd_host_pointer(vd_host_window_base(rig.host), page.pfn, 12);
			if (store)
				vd_guest_store8(p, STORED);
			seen.value = vd_guest_load8(p);
		}
		env->read_leave(env);
		if (stale)
			vd_notifier_wait(chain, AT * PAGE, PAGE);
	} while (stale);
	vd_host_guard_leave(&guard);
	seen.hits = atomic_load(&guard.hits);
	return seen;
}

/* Nothing but what was there, what will be, or zeroes and a fault: never a crash, never junk. */
static void *reader(void *context)
{
	(void)context;
	while (!atomic_load(&rig.stop)) {
		struct seen seen = look(false);

		if (!seen.result && seen.value != OLD && seen.value != NEW && seen.value != 0 &&
		    seen.value != STORED)
			fail_msg("read %u", seen.value);
		if (seen.result && seen.result != -EFAULT)
			fail_msg("lookup %d", seen.result);
	}
	return NULL;
}

static void *foreign_thread(void *context)
{
	(void)context;
	rig.call();
	return NULL;
}

/* ---- the memory ------------------------------------------------------ */

/*
 * With a larger gap above it, which the kernel gives away first: an allocator's thread, or a
 * sanitizer, must not use a page again that is unmapped here.
 */
static char *map(int flags, int fd)
{
	char *p = mmap(NULL, PAGES * PAGE + GAP, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_ptr_equal(mmap(p, PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0),
			 p);
	assert_int_equal(munmap(p + PAGES * PAGE, GAP), 0);
	return p;
}

static void open_descriptor(enum kind kind)
{
	if (kind == OBJECT || kind == VIEW) {
		assert_int_equal(vd_host_ram_create(rig.host, "ram", PAGES * PAGE, 0, &rig.object,
						    NULL), 0);
		rig.fd = dup(vd_host_object_fd(rig.object));
	} else if (kind == IMPORT || kind == FILE_VIEW) {
		rig.fd = memfd_create("file", MFD_CLOEXEC);
		assert_int_equal(ftruncate(rig.fd, (off_t)(PAGES * PAGE)), 0);
	}
}

static void open_memory(enum kind kind)
{
	struct vd_foreign_config config = {.host = rig.host, .hold = kind == LOCKED};

	open_descriptor(kind);
	switch (kind) {
	case OBJECT:
	case VIEW:
	case IMPORT:
		rig.memory = map(MAP_SHARED, rig.fd);
		if (kind == IMPORT)
			assert_int_equal(vd_host_import(rig.host, "file", rig.fd, 0, PAGES * PAGE,
							VD_PAGE_RAM, VD_MEMORY_NORMAL, 0,
							&rig.object, NULL), 0);
		return;
	default:
		rig.memory = map(kind == FILE_VIEW ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS,
				 kind == FILE_VIEW ? rig.fd : -1);
		assert_int_equal(vd_foreign_create(&config, &rig.foreign, NULL), 0);
		assert_int_equal(vd_foreign_object(rig.foreign, "memory", rig.memory, PAGES * PAGE,
						   0, &rig.object, NULL), 0);
		assert_int_equal(vd_host_object_hold(rig.object, 0, PAGES * PAGE, NULL), 0);
		rig.skipped = kind != LOCKED && !vd_foreign_watches(rig.object);
	}
}

static void open_rig(enum kind kind)
{
	struct vd_host_config config = {.env = vd_env_hosted(), .window_size = UINT64_C(1) << 30};

	rig = (struct rig){.listener.ops = &ops, .fd = -1};
	assert_int_equal(vd_host_create(&config, &rig.host, NULL), 0);
	rig.beside = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	open_memory(kind);
	assert_int_equal(vd_notifier_register(vd_host_notifier(rig.host), &rig.listener), 0);
	memset(page_at(), OLD, PAGE);
}

static void close_rig(enum kind kind)
{
	vd_notifier_unregister(vd_host_notifier(rig.host), &rig.listener);
	if (kind >= PRIVATE)
		vd_host_object_unhold(rig.object, 0, PAGES * PAGE);
	vd_host_object_put(rig.object);
	vd_foreign_destroy(rig.foreign);
	vd_host_destroy(rig.host);
	munmap(rig.memory, PAGES * PAGE);
	munmap(rig.beside, PAGES * PAGE);
	if (rig.fd >= 0)
		close(rig.fd);
}

/* ---- what the foreign thread does ------------------------------------- */

#define CALL(name, expression)                                                                     \
	static void name(void)                                                                     \
	{                                                                                          \
		rig.result = (expression) ? errno : 0;                                             \
	}
CALL(dontneed, madvise(page_at(), PAGE, MADV_DONTNEED))
CALL(lazy_free, madvise(page_at(), PAGE, MADV_FREE))
CALL(remove_pages, madvise(page_at(), PAGE, MADV_REMOVE))
CALL(pageout, madvise(page_at(), PAGE, MADV_PAGEOUT))
CALL(cold, madvise(page_at(), PAGE, MADV_COLD))
CALL(read_only, mprotect(page_at(), PAGE, PROT_READ))
CALL(no_access, mprotect(page_at(), PAGE, PROT_NONE))
CALL(there_and_back, mprotect(page_at(), PAGE, PROT_READ) ||
			     mprotect(page_at(), PAGE, PROT_READ | PROT_WRITE))
CALL(lock, mlock(page_at(), PAGE))
CALL(unmap, munmap(page_at(), PAGE))
CALL(map_over, mmap(page_at(), PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
CALL(unmap_and_reuse, munmap(page_at(), PAGE) ||
			      mmap(page_at(), PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
				      MAP_FAILED)
CALL(move_away, mremap(page_at(), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, rig.beside) ==
			MAP_FAILED)
CALL(punch, fallocate(rig.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, AT * PAGE, PAGE))
CALL(cut, ftruncate(rig.fd, PAGE))
CALL(write_file, pwrite(rig.fd, "\x63", 1, AT * PAGE) != 1)

static void fork_and_write(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		vd_guest_store8(page_at(), NEW);
		_exit(0);
	}
	rig.result = waitpid(child, &status, 0) != child;
}

static void write_while_forked(void)
{
	int gate[2];
	pid_t child;
	char byte;

	rig.result = pipe(gate);
	child = fork();
	if (child == 0) {
		close(gate[1]);
		_exit((int)read(gate[0], &byte, 1));
	}
	vd_guest_store8(page_at(), NEW);
	close(gate[1]);
	waitpid(child, NULL, 0);
	close(gate[0]);
}

struct line {
	const char *call;
	enum kind kind;
	enum sees sees;
	enum report report;
	void (*fn)(void);
};

static const struct line lines[] = {
	{"fallocate(FALLOC_FL_PUNCH_HOLE)", OBJECT, ZEROES, NOTHING, punch},
	{"ftruncate(), smaller", OBJECT, SAME, FAILS, cut},
	{"write() to the descriptor", OBJECT, NEW_BYTES, NOTHING, write_file},
	{"madvise(MADV_DONTNEED)", VIEW, SAME, NOTHING, dontneed},
	{"madvise(MADV_FREE)", VIEW, SAME, FAILS, lazy_free},
	{"madvise(MADV_REMOVE)", VIEW, ZEROES, NOTHING, remove_pages},
	{"madvise(MADV_PAGEOUT)", VIEW, SAME, NOTHING, pageout},
	{"madvise(MADV_COLD)", VIEW, SAME, NOTHING, cold},
	{"mprotect(PROT_READ)", VIEW, SAME, NOTHING, read_only},
	{"mprotect(PROT_NONE)", VIEW, SAME, NOTHING, no_access},
	{"munmap()", VIEW, SAME, NOTHING, unmap},
	{"mmap(MAP_FIXED) over it", VIEW, SAME, NOTHING, map_over},
	{"mremap() away", VIEW, SAME, NOTHING, move_away},
	{"mlock()", VIEW, SAME, NOTHING, lock},
	{"fork(), the child stores", VIEW, NEW_BYTES, NOTHING, fork_and_write},
	{"fallocate(FALLOC_FL_PUNCH_HOLE)", IMPORT, ZEROES, NOTHING, punch},
	{"ftruncate(), smaller", IMPORT, FAULT, GUARD_LOOKUP, cut},
	{"write() to the descriptor", IMPORT, NEW_BYTES, NOTHING, write_file},
	{"madvise(MADV_DONTNEED)", PRIVATE, ZEROES, DISCARD, dontneed},
	{"madvise(MADV_FREE)", PRIVATE, SAME_OR_ZEROES, DISCARD, lazy_free},
	{"madvise(MADV_REMOVE)", PRIVATE, SAME, FAILS, remove_pages},
	{"madvise(MADV_PAGEOUT)", PRIVATE, SAME, NOTHING, pageout},
	{"madvise(MADV_COLD)", PRIVATE, SAME, NOTHING, cold},
	{"mprotect(PROT_READ)", PRIVATE, STORE_FAULT, GUARD, read_only},
	{"mprotect(PROT_NONE)", PRIVATE, FAULT, GUARD, no_access},
	{"mprotect(PROT_READ) and back", PRIVATE, SAME, NOTHING, there_and_back},
	{"munmap()", PRIVATE, FAULT, UNMAP, unmap},
	{"munmap(), then mmap() there", PRIVATE, FAULT, UNMAP_REUSED,
	 unmap_and_reuse},
	{"mmap(MAP_FIXED) over it", PRIVATE, FAULT, RELEASE, map_over},
	{"mremap() away", PRIVATE, FAULT, UNMAP, move_away},
	{"mlock()", PRIVATE, SAME, NOTHING, lock},
	{"fork(), the child stores", PRIVATE, SAME, NOTHING, fork_and_write},
	{"fork(), the parent stores", PRIVATE, NEW_BYTES, NOTHING, write_while_forked},
	{"madvise(MADV_DONTNEED)", FILE_VIEW, ZEROES, DISCARD, dontneed},
	{"fallocate(FALLOC_FL_PUNCH_HOLE)", FILE_VIEW, SAME, NOTHING, punch},
	{"ftruncate(), smaller", FILE_VIEW, FAULT, GUARD, cut},
	{"write() to the descriptor", FILE_VIEW, SAME, NOTHING, write_file},
	{"munmap()", FILE_VIEW, FAULT, UNMAP, unmap},
	{"madvise(MADV_DONTNEED)", LOCKED, SAME, FAILS, dontneed},
	{"mprotect(PROT_NONE)", LOCKED, FAULT, GUARD, no_access},
	{"munmap()", LOCKED, FAULT, GUARD, unmap},
};
#define LINES (sizeof(lines) / sizeof(lines[0]))

/* ---- what is seen afterwards ------------------------------------------ */

static void check_seen(const struct line *line)
{
	struct seen seen = look(false), stored;

	switch (line->sees) {
	case SAME:
	case STORE_FAULT:
		assert_int_equal(seen.result, 0);
		assert_int_equal(seen.value, OLD);
		break;
	case ZEROES:
		assert_int_equal(seen.result, 0);
		assert_int_equal(seen.value, 0);
		break;
	case NEW_BYTES:
		assert_int_equal(seen.result, 0);
		assert_int_equal(seen.value, NEW);
		break;
	case SAME_OR_ZEROES:
		assert_int_equal(seen.result, 0);
		assert_true(seen.value == OLD || seen.value == 0);
		break;
	case FAULT:
		/* a hart makes a fault of either */
		assert_true(seen.result == -EFAULT || seen.hits);
		break;
	}
	stored = look(true);
	if (line->sees == STORE_FAULT || line->sees == FAULT) {
		assert_true(stored.result == -EFAULT || stored.hits);
	} else {
		assert_int_equal(stored.result, 0);
		assert_int_equal(stored.hits, 0);
		assert_int_equal(stored.value, STORED);
	}
	if (line->sees == STORE_FAULT)
		assert_int_equal(stored.value, OLD);
}

static void check_report(const struct line *line)
{
	int lookup = look(false).result;

	assert_int_equal(rig.result != 0, line->report == FAILS);
	if (line->report != UNMAP_REUSED) /* whether the monitor looks before or after the reuse */
		assert_int_equal(atomic_load(&rig.releases), line->report == RELEASE);
	assert_int_equal(lookup, line->report == GUARD_LOOKUP || line->report == UNMAP ||
					 line->report == UNMAP_REUSED || line->report == RELEASE
					 ? -EFAULT
					 : 0);
	if (line->report == DISCARD)
		assert_int_equal(atomic_load(&rig.discards), 2); /* all of it, then the range */
	else if (line->report < DISCARD || line->report == GUARD ||
		 line->report == GUARD_LOOKUP)
		assert_int_equal(atomic_load(&rig.discards), 0);
}

/* Sanitizers make mlock() do nothing; on other processors the guard cannot skip an access. */
static bool can_run(const struct line *line)
{
	bool locks = true, skips = true;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	locks = false;
#endif
#ifndef __x86_64__
	skips = false;
#endif
	return !rig.skipped && (locks || line->kind != LOCKED) &&
	       (skips || line->report != GUARD);
}

static void run_line(const struct line *line)
{
	pthread_t threads[2];

	open_rig(line->kind);
	if (can_run(line)) {
		rig.call = line->fn;
		assert_int_equal(pthread_create(&threads[0], NULL, reader, NULL), 0);
		assert_int_equal(pthread_create(&threads[1], NULL, foreign_thread, NULL), 0);
		pthread_join(threads[1], NULL);
		while (line->report == RELEASE && !atomic_load(&rig.releases))
			sched_yield(); /* the last thing that the monitor does */
		check_seen(line);
		check_report(line);
		atomic_store(&rig.stop, true);
		pthread_join(threads[0], NULL);
	}
	close_rig(line->kind);
}

static void every_line_holds(void **state)
{
	(void)state;
	assert_int_equal(vd_host_guard_install(NULL), 0);
	for (unsigned i = 0; i < LINES; i++) {
		print_message("%s, %s\n", lines[i].call, kind_names[lines[i].kind]);
		run_line(&lines[i]);
	}
	vd_host_guard_uninstall();
}

/* The table in the manual is this one. */
static void the_manual_says_the_same(void **state)
{
	FILE *file = fopen(MEMORY_CHANGES, "r");
	char text[512], expected[512];
	unsigned i = 0;

	(void)state;
	assert_non_null(file);
	while (fgets(text, sizeof(text), file)) {
		if (text[0] != '|' || !strncmp(text, "| call", 6) || !strncmp(text, "| ---", 5))
			continue;
		assert_true(i < LINES);
		snprintf(expected, sizeof(expected), "| `%s` | %s | %s | %s |\n", lines[i].call,
			 kind_names[lines[i].kind], sees_names[lines[i].sees],
			 report_names[lines[i].report]);
		assert_string_equal(text, expected);
		i++;
	}
	fclose(file);
	assert_int_equal(i, LINES);
}

/* To write the table anew after a change: the program with any argument. */
static int print_table(void)
{
	for (unsigned i = 0; i < LINES; i++)
		printf("| `%s` | %s | %s | %s |\n", lines[i].call, kind_names[lines[i].kind],
		       sees_names[lines[i].sees], report_names[lines[i].report]);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_holds),
		cmocka_unit_test(the_manual_says_the_same),
	};

	(void)argv;
	return argc > 1 ? print_table() : cmocka_run_group_tests(tests, NULL, NULL);
}
