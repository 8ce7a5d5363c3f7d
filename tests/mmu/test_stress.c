/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small harts with TLBs read and write through the tables, while the host moves and protects the
 * memory, ages it, logs and copies it, and a slot comes and goes. No hart may ever read a stale
 * word or lose a store, and the copy made from the log must be the memory in the end. For
 * ThreadSanitizer as well.
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>

#define HARTS 2u
#define PAGES 64u
#define TLB_ENTRIES 32u
#define CHANGES 400u /* at least, and until each hart has had as many */
#define FAULTS 400u
#define BASE (2 * GIB)
#define ALIAS (3 * GIB + PAGE) /* the same pages; replaced by the like, in one update */
#define FLEETING (4 * GIB)     /* the same; comes and goes */

struct tlb_entry {
	uint64_t tag; /* gpa, 0 for none */
	unsigned access;
	void *page;
};

/*
 * The protocol of the harts (DESIGN.md, TLB shoot-down): a flush raises @request, then waits
 * until the hart has taken it or is outside, where it holds no pointer. All seq_cst: either the
 * flush sees the hart outside, or the hart, which came in later, sees the request.
 */
struct hart {
	struct stress *stress;
	pthread_t thread;
	unsigned number;
	_Atomic bool inside;
	_Atomic bool request;
	struct tlb_entry tlb[TLB_ENTRIES];
	uint64_t expected[PAGES]; /* the hart's own word of each page */
	uint64_t seed;
	_Atomic uint64_t stores, faults;
	const char *_Atomic failure;
};

struct stress {
	struct fixture f;
	uintptr_t window;
	struct hart harts[HARTS];
	_Atomic bool stop;
	bool aliased;
	uint32_t slot, alias, fleeting;
	uint64_t seed;
	uint64_t copy[PAGES][HARTS];
};

static void hart_poll(struct hart *hart)
{
	if (!atomic_load(&hart->request))
		return;
	memset(hart->tlb, 0, sizeof(hart->tlb));
	atomic_store(&hart->request, false);
}

static void hart_enter(struct hart *hart)
{
	atomic_store(&hart->inside, true);
	hart_poll(hart);
}

static void hart_leave(struct hart *hart)
{
	atomic_store(&hart->inside, false);
}

static void stress_flush(void *context, vd_gpa start, uint64_t length)
{
	struct stress *stress = context;

	(void)start;
	(void)length;
	for (unsigned i = 0; i < HARTS; i++)
		atomic_store(&stress->harts[i].request, true);
	for (unsigned i = 0; i < HARTS; i++) {
		while (atomic_load(&stress->harts[i].inside) &&
		       atomic_load(&stress->harts[i].request))
			sched_yield();
	}
}

/* The page for one access, or NULL if the guest may not. */
static char *hart_page(struct hart *hart, uint64_t gpa, unsigned access)
{
	struct tlb_entry *entry = &hart->tlb[gpa / PAGE % TLB_ENTRIES];
	struct vd_mmu *mmu = hart->stress->f.mmu;
	struct vd_mmu_leaf leaf;

	if (entry->tag == gpa && entry->access & access)
		return entry->page;
	while (hart->number ? vd_mmu_walk(mmu, (vd_gpa){gpa}, access, &leaf)
			    : vd_mmu_walk_guarded(mmu, (vd_gpa){gpa}, access, &leaf)) {
		int rc;

		hart_leave(hart);
		rc = vd_mmu_fault(mmu, (vd_gpa){gpa}, access);
		hart_enter(hart);
		hart->faults++;
		/* A slot that is replaced is never seen missing. */
		if (rc && rc != -EACCES && !(rc == -ENOENT && gpa >= FLEETING))
			hart->failure = "fault";
		if (rc)
			return NULL;
	}
	*entry = (struct tlb_entry){
		gpa, access, vd_host_pointer(hart->stress->window, leaf.pfn, 12)};
	return entry->page;
}

static void hart_step(struct hart *hart)
{
	uint64_t r = test_random(&hart->seed);
	unsigned number = r % PAGES;
	unsigned access = r & 1 << 10 ? VD_WRITE : VD_READ;
	static const uint64_t bases[] = {BASE, ALIAS, FLEETING, ALIAS};
	uint64_t gpa = bases[hart->stress->aliased ? r >> 11 & 3 : 0] + number * PAGE;
	char *page = hart_page(hart, gpa, access);
	uint64_t *word;

	if (!page)
		return;
	word = (uint64_t *)(void *)page + hart->number;
	if (access == VD_WRITE) {
		vd_guest_store64(word, ++hart->expected[number]);
		hart->stores++;
	} else if (vd_guest_load64(word) != hart->expected[number]) {
		hart->failure = "stale word";
	}
}

static void *hart_run(void *context)
{
	struct hart *hart = context;

	hart_enter(hart);
	while (!atomic_load_explicit(&hart->stress->stop, memory_order_relaxed) && !hart->failure) {
		hart_step(hart);
		hart_poll(hart);
	}
	hart_leave(hart);
	return NULL;
}

/* What a migration does with what the log says. */
static void fetch_and_copy(struct stress *s)
{
	uint8_t bitmap[PAGES / 8];

	assert_int_equal(vd_mem_dirty_fetch(s->f.mem, s->slot, bitmap, sizeof(bitmap)), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		if (bitmap[i / 8] >> i % 8 & 1)
			assert_int_equal(vd_mem_read(s->f.mem, (vd_gpa){BASE + i * PAGE},
						     s->copy[i], sizeof(s->copy[i])), 0);
	}
}

/* Moves run out of spare frames now and then, until the harts have let go of some. */
static void change_memory(struct stress *s, uint64_t r)
{
	uint64_t offset = r / 16 % PAGES * PAGE;
	uint64_t length = (1 + r / 4096 % 3) * PAGE;
	int rc;

	if (length > PAGES * PAGE - offset)
		length = PAGE;
	if (r & 1 << 20) {
		rc = vd_host_object_move(s->f.spares, offset, length, true);
		assert_true(rc == 0 || rc == -ENOMEM);
	} else {
		rc = vd_host_object_protect(s->f.spares, offset, length, false, true);
		assert_int_equal(rc, 0);
		rc = vd_host_object_protect(s->f.spares, offset, length, true, true);
		assert_int_equal(rc, 0);
	}
}

static void change_slots(struct stress *s, bool replace)
{
	struct vd_slot_config config = {.base = {ALIAS}, .size = PAGES * PAGE, .kind = VD_SLOT_RAM,
					.object = s->f.spares, .name = "alias"};
	struct vd_mem_update *update;

	if (!s->aliased)
		return;
	if (replace) {
		assert_int_equal(vd_mem_begin(s->f.mem, &update), 0);
		assert_int_equal(vd_mem_remove(update, s->alias), 0);
		assert_int_equal(vd_mem_add(update, &config, &s->alias, NULL), 0);
		vd_mem_commit(update);
	} else if (s->fleeting) {
		assert_int_equal(vd_mem_remove_slot(s->f.mem, s->fleeting), 0);
		s->fleeting = 0;
	} else {
		s->fleeting =
			fixture_slot(&s->f, FLEETING, PAGES * PAGE, s->f.spares, 0, false);
	}
}

static void change(struct stress *s)
{
	uint64_t r = test_random(&s->seed);
	vd_gpa gpa = {BASE + r / 16 % PAGES * PAGE};

	switch (r % 16) {
	case 0:
		vd_mmu_zap(s->f.mmu, gpa, 8 * PAGE);
		break;
	case 1:
	case 2:
		vd_mmu_clear_young(s->f.mmu, gpa, 8 * PAGE);
		break;
	case 3:
	case 4:
		change_slots(s, r & 1 << 20);
		break;
	case 5:
	case 6:
		fetch_and_copy(s);
		break;
	default:
		change_memory(s, r);
		break;
	}
}

/* Whether a hart, not failed, has still to see more of it. */
static bool harts_lag(struct stress *s)
{
	for (unsigned i = 0; i < HARTS; i++) {
		if (s->harts[i].failure)
			return false;
	}
	for (unsigned i = 0; i < HARTS; i++) {
		if (s->harts[i].faults < FAULTS || s->harts[i].stores < FAULTS)
			return true;
	}
	return false;
}

static void run_stress(struct stress *s, bool aliased)
{
	struct vd_mmu_config config;

	memset(s, 0, sizeof(*s));
	fixture_open_space(&s->f);
	config = (struct vd_mmu_config){.env = &s->f.checked.env, .mem = s->f.mem,
					.format = &vd_mmu_format_sv48x4, .flush = stress_flush,
					.flush_context = s};
	assert_int_equal(vd_mmu_create(&config, &s->f.mmu, NULL), 0);
	*checked_mmu() = s->f.mmu;
	s->window = vd_host_window_base(s->f.host);
	s->seed = *test_seed() = 5 + aliased;
	s->aliased = aliased;
	s->slot = fixture_slot(&s->f, BASE, PAGES * PAGE, s->f.spares, 0, false);
	assert_int_equal(vd_mem_dirty_start(s->f.mem, s->slot), 0);
	if (aliased)
		s->alias = fixture_slot(&s->f, ALIAS, PAGES * PAGE, s->f.spares, 0, false);
	for (unsigned i = 0; i < HARTS; i++) {
		struct hart *hart = &s->harts[i];

		*hart = (struct hart){.stress = s, .number = i, .seed = 100 + i};
		assert_int_equal(pthread_create(&hart->thread, NULL, hart_run, hart), 0);
	}
	for (unsigned n = 0; n < CHANGES || harts_lag(s); n++)
		change(s);
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i < HARTS; i++)
		pthread_join(s->harts[i].thread, NULL);
	for (unsigned i = 0; i < HARTS; i++) {
		if (s->harts[i].failure)
			fail_msg("hart %u: %s", i, s->harts[i].failure);
	}
	fetch_and_copy(s);
}

static void no_hart_sees_a_change(void **state)
{
	static struct stress s;

	(void)state;
	run_stress(&s, true);
	fixture_close(&s.f);
}

/* Under-reporting is never allowed: what was copied by the log is all that was stored. */
static void copy_by_the_log_is_the_memory(void **state)
{
	static struct stress s;
	uint64_t words[HARTS];

	(void)state;
	run_stress(&s, false);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(vd_mem_read(s.f.mem, (vd_gpa){BASE + i * PAGE}, words,
					     sizeof(words)), 0);
		for (unsigned j = 0; j < HARTS; j++) {
			assert_int_equal(words[j], s.harts[j].expected[i]);
			assert_int_equal(s.copy[i][j], s.harts[j].expected[i]);
		}
	}
	fixture_close(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(no_hart_sees_a_change, test_seed_print),
		cmocka_unit_test_teardown(copy_by_the_log_is_the_memory, test_seed_print),
	};

	return cmocka_run_group_tests_name("mmu stress", tests, NULL, NULL);
}
