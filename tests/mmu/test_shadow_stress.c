/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two harts with TLBs run on shadows of tables that they edit themselves, both in the same pages,
 * while the host moves and protects that memory, ages it, and stores to the tables as a device
 * does. Each hart maps its own addresses to its own pages, so it knows what it must read: no stale
 * translation once it has flushed its TLB, no lost store, no dirty bit missing. For
 * ThreadSanitizer as well.
 */
#include "shadow_fixture.h"

#include <pthread.h>
#include <sched.h>

#define HARTS 2u
#define PAGES 24u	   /* of data, for each hart */
#define VAS 16u		   /* mapped by each hart */
#define CHANGES 300u	   /* at least, and until each hart has had as many */
#define EDITS 10000u
#define ROOT_TABLE GUEST_RAM /* shared by both; each hart has a middle one, the last is shared */
#define MIDDLE_TABLE(hart) (GUEST_RAM + PAGE + (hart) * PAGE)
#define LAST_TABLE (GUEST_RAM + 4 * PAGE)
#define DATA(hart, page) (GUEST_RAM + 16 * PAGE + ((hart) * PAGES + (page)) * PAGE)
#define TLB_ENTRIES 32u

struct tlb_entry {
	uint64_t tag; /* 0 for none */
	unsigned access;
	char *page;
};

struct hart {
	struct stress *stress;
	pthread_t thread;
	unsigned number;
	_Atomic bool inside, request;
	struct tlb_entry tlb[TLB_ENTRIES];
	struct vd_shadow_root *root, *bare;
	int maps[VAS];		 /* page that each address maps, -1 for none */
	uint64_t stored[PAGES];	 /* the hart's word of each */
	uint64_t seed;
	_Atomic uint64_t edits;
	const char *_Atomic failure;
};

struct stress {
	struct shadowed s;
	struct hart harts[HARTS];
	_Atomic bool stop;
	uint64_t seed;
};

/* ---- the protocol of test_stress.c ---------------------------------------------------------- */

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

/* ---- a hart --------------------------------------------------------------------------------- */

/* Never 0. */
static uint64_t va_of(const struct hart *hart, unsigned i)
{
	return (uint64_t)hart->number << 30 | (hart->number * 256 + 1 + i) << 12;
}

static uint64_t entry_of(const struct hart *hart, unsigned i)
{
	return LAST_TABLE + (hart->number * 256 + 1 + i) * 8;
}

static struct vd_shadow_root *take_root(struct hart *hart, const struct vd_guest_format *format)
{
	struct vd_shadow_root *root = NULL;

	if (vd_shadow_root_get(hart->stress->s.shadow, format, (vd_gpa){ROOT_TABLE}, &root))
		hart->failure = "no root";
	return root;
}

/* Inside on entry and return. Return: 0, the pointer in @host; or what a fault returned. */
static int hart_walk(struct hart *hart, bool paging, uint64_t va, unsigned access, char **host,
		     struct vd_shadow_access *what)
{
	struct shadowed *s = &hart->stress->s;
	struct vd_shadow_leaf leaf;
	int ret;

	for (;;) {
		struct vd_shadow_root *root = paging ? hart->root : hart->bare;

		ret = hart->number ? vd_shadow_walk(s->shadow, root, (vd_gva){va}, access, &leaf)
				   : vd_shadow_walk_guarded(s->shadow, root, (vd_gva){va}, access,
							    &leaf);
		if (!ret)
			break;
		hart_leave(hart);
		ret = vd_shadow_fault(s->shadow, root, (vd_gva){va}, access, what);
		if (ret == -ESTALE) {
			vd_shadow_root_put(s->shadow, root);
			hart->root = take_root(hart, s->kind->format);
			ret = 0;
		}
		hart_enter(hart);
		if (ret)
			return ret;
	}
	*host = (char *)vd_host_pointer(s->window, leaf.leaf.pfn, 12) + (va & (PAGE - 1));
	return 0;
}

/* A store with paging off, to a table or not. */
static bool hart_store(struct hart *hart, uint64_t gpa, uint64_t value)
{
	struct shadowed *s = &hart->stress->s;
	struct vd_shadow_access what;
	struct vd_shadow_write write;
	char *host = NULL;
	int ret = hart_walk(hart, false, gpa, VD_READ | VD_WRITE, &host, &what);

	if (!ret) {
		vd_guest_store64(host, value);
		return true;
	}
	if (ret == VD_SHADOW_EMULATE) {
		hart_leave(hart);
		ret = vd_shadow_write_begin(s->shadow, (vd_gpa){gpa}, 8, &write);
		if (!ret) {
			vd_guest_store64(write.host, value);
			vd_shadow_write_end(s->shadow, &write);
		}
		hart_enter(hart);
	}
	/* The host has taken the permission away for a moment. */
	if (ret && ret != -EACCES)
		hart->failure = "store";
	return !ret;
}

static uint64_t hart_load(struct hart *hart, uint64_t gpa)
{
	char *host = NULL;

	if (hart_walk(hart, false, gpa, VD_READ, &host, NULL)) {
		hart->failure = "load";
		return 0;
	}
	return vd_guest_load64(host);
}

static void hart_edit(struct hart *hart, unsigned i, uint64_t r)
{
	uint64_t gpa = entry_of(hart, i), entry = 0;
	int page = r % 8 ? (int)(r / 8 % PAGES) : -1;

	if (page >= 0)
		entry = guest_leaf(hart->stress->s.kind, DATA(hart->number, (unsigned)page),
				   VD_READ | VD_WRITE,
				   r & 1 << 20 ? GUEST_A : r & 1 << 21 ? GUEST_A | GUEST_D : 0, 0);
	if (!hart_store(hart, gpa, entry))
		return;
	hart->maps[i] = page;
	hart->tlb[va_of(hart, i) / PAGE % TLB_ENTRIES].tag = 0; /* sfence.vma */
	hart->edits++;
}

static char *hart_page(struct hart *hart, unsigned i, unsigned access, int *ret)
{
	uint64_t va = va_of(hart, i);
	struct tlb_entry *entry = &hart->tlb[va / PAGE % TLB_ENTRIES];
	struct vd_shadow_access what;
	char *host = NULL;

	*ret = 0;
	if (entry->tag == va && entry->access & access)
		return entry->page;
	*ret = hart_walk(hart, true, va, access | VD_SHADOW_SUM | VD_SHADOW_UPDATE, &host, &what);
	if (*ret)
		return NULL;
	*entry = (struct tlb_entry){va, access, host};
	return host;
}

static void hart_use(struct hart *hart, unsigned i, bool store)
{
	int ret, page = hart->maps[i];
	char *host = hart_page(hart, i, store ? VD_WRITE : VD_READ, &ret);
	uint64_t *words = (uint64_t *)(void *)host, gpa = entry_of(hart, i);

	if (page < 0) {
		if (ret != -ENXIO)
			hart->failure = "an address that maps nothing";
		return;
	}
	if (!host) {
		/* Data, or the table where a bit is to be set, is read-only for a moment. */
		if (ret != -EACCES && ret != -EADDRNOTAVAIL)
			hart->failure = "a fault that should not be";
		return;
	}
	if (vd_guest_load64(words) != DATA(hart->number, (unsigned)page)) {
		hart->failure = "stale translation";
	} else if (store) {
		vd_guest_store64(words + 1, ++hart->stored[page]);
		if ((hart_load(hart, gpa) & 0xc0) != 0xc0)
			hart->failure = "dirty not set";
	} else if (vd_guest_load64(words + 1) != hart->stored[page]) {
		hart->failure = "lost store";
	}
}

static void *hart_run(void *context)
{
	struct hart *hart = context;

	hart_enter(hart);
	while (!atomic_load_explicit(&hart->stress->stop, memory_order_relaxed) && !hart->failure) {
		uint64_t r = test_random(&hart->seed);

		if (r % 4 == 0)
			hart_edit(hart, r / 4 % VAS, r >> 16);
		else
			hart_use(hart, r / 4 % VAS, r & 1 << 12);
		hart_poll(hart);
	}
	hart_leave(hart);
	return NULL;
}

/* ---- everybody else ------------------------------------------------------------------------- */

static void change(struct stress *stress)
{
	struct shadowed *s = &stress->s;
	uint64_t r = test_random(&stress->seed), offset = r / 16 % 64 * PAGE;
	uint64_t length = (1 + r / 4096 % 3) * PAGE, nothing = 0;
	int ret = 0;

	switch (r % 8) {
	case 0:
		vd_shadow_zap(s->shadow, (vd_gpa){GUEST_RAM + offset}, length);
		break;
	case 1:
		vd_shadow_clear_young(s->shadow, (vd_gpa){GUEST_RAM + offset}, length);
		break;
	case 2: /* an entry of the shared table that no hart uses */
		ret = vd_mem_write(s->f.mem, (vd_gpa){LAST_TABLE + 8 * 500}, &nothing, 8);
		break;
	case 3:
		ret = vd_mem_write(s->f.mem, (vd_gpa){ROOT_TABLE + 8 * 100}, &nothing, 8);
		break;
	case 4:
		assert_int_equal(vd_host_object_protect(s->ram, offset, length, false, true), 0);
		assert_int_equal(vd_host_object_protect(s->ram, offset, length, true, true), 0);
		break;
	default:
		ret = vd_host_object_move(s->ram, offset, length, true);
		break;
	}
	assert_true(!ret || ret == -ENOMEM);
}

static bool harts_lag(struct stress *stress)
{
	for (unsigned i = 0; i < HARTS; i++) {
		if (stress->harts[i].failure)
			return false;
	}
	for (unsigned i = 0; i < HARTS; i++) {
		if (stress->harts[i].edits < EDITS)
			return true;
	}
	return false;
}

static void set_up(struct stress *stress)
{
	struct shadowed *s = &stress->s;
	struct vd_shadow_config config;

	memset(stress, 0, sizeof(*stress));
	shadow_open_world(s, &guest_kinds[0], false);
	config = (struct vd_shadow_config){
		.env = &s->f.checked.env, .mem = s->f.mem, .format = &vd_mmu_format_sv39,
		.flush = stress_flush, .flush_context = stress, .pages = VD_SHADOW_PAGES_MIN,
	};
	assert_int_equal(vd_shadow_create(&config, &s->shadow, NULL), 0);
	stress->seed = *test_seed() = 11;
	for (unsigned h = 0; h < HARTS; h++) {
		poke(s, ROOT_TABLE + 8 * h, guest_table(s->kind, MIDDLE_TABLE(h), 2));
		poke(s, MIDDLE_TABLE(h), guest_table(s->kind, LAST_TABLE, 1));
		for (unsigned i = 0; i < PAGES; i++)
			poke(s, DATA(h, i), DATA(h, i));
	}
}

static void no_hart_sees_an_old_entry(void **state)
{
	static struct stress stress;
	struct vd_shadow_stats stats;

	(void)state;
	set_up(&stress);
	for (unsigned i = 0; i < HARTS; i++) {
		struct hart *hart = &stress.harts[i];

		*hart = (struct hart){.stress = &stress, .number = i, .seed = 100 + i};
		memset(hart->maps, 0xff, sizeof(hart->maps));
		hart->root = take_root(hart, stress.s.kind->format);
		hart->bare = take_root(hart, &vd_guest_format_bare);
	}
	for (unsigned i = 0; i < HARTS; i++)
		assert_int_equal(pthread_create(&stress.harts[i].thread, NULL, hart_run,
						&stress.harts[i]), 0);
	for (unsigned n = 0; n < CHANGES || harts_lag(&stress); n++)
		change(&stress);
	atomic_store(&stress.stop, true);
	for (unsigned i = 0; i < HARTS; i++)
		pthread_join(stress.harts[i].thread, NULL);
	for (unsigned i = 0; i < HARTS; i++) {
		if (stress.harts[i].failure)
			fail_msg("hart %u: %s", i, stress.harts[i].failure);
		vd_shadow_root_put(stress.s.shadow, stress.harts[i].root);
		vd_shadow_root_put(stress.s.shadow, stress.harts[i].bare);
	}
	stats = shadow_stats(&stress.s);
	assert_true(stats.retries && stats.writes && stats.prefills && stats.foreign_writes);
	shadow_close(&stress.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(no_hart_sees_an_old_entry, test_seed_print),
	};

	return cmocka_run_group_tests_name("shadow stress", tests, NULL, NULL);
}
