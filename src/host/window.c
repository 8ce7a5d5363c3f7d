/* SPDX-License-Identifier: BSD-2-Clause */
/* The host and its window: one reservation of address space that gives every object its pfns. */
#include <sys/mman.h>
#include <unistd.h>

#include "host/object.h"

#define WINDOW_SIZE (UINT64_C(1) << 40)
#define WINDOW_LEAST (UINT64_C(1) << 36)
#define GIB (UINT64_C(1) << 30)
#define MIB2 (UINT64_C(2) << 20)

static void *map_nothing(void *at, uint64_t size)
{
	return mmap(at, size, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

/* Reserves with the base at a 1 GiB boundary, so that aligned pfns make aligned addresses. */
static int reserve_window(struct vd_host *host, uint64_t window_size)
{
	uint64_t size = window_size + GIB;
	uintptr_t raw, base;
	void *p = map_nothing(NULL, size);

	if (p == MAP_FAILED)
		return -errno;
	raw = (uintptr_t)p;
	base = (raw + GIB - 1) & ~(GIB - 1);
	if (base != raw)
		munmap(p, base - raw);
	if (base + window_size != raw + size)
		munmap((void *)(base + window_size), raw + size - base - window_size);
	host->window_base = base;
	host->window_size = window_size;
	return 0;
}

/* Who asks for no size in particular takes less where a limit or a sanitizer leaves less. */
static int reserve_some_window(struct vd_host *host, uint64_t wanted)
{
	uint64_t size = wanted ? (wanted + GIB - 1) & ~(GIB - 1) : WINDOW_SIZE;
	int result = vd_env_inject(host->env, "host.window");

	if (result)
		return result;
	while ((result = reserve_window(host, size)) && !wanted && size > WINDOW_LEAST)
		size /= 2;
	return result;
}

static int check_config(const struct vd_host_config *config, struct vd_error *error)
{
	unsigned own = (unsigned)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));

	if (config->page_shift && (config->page_shift < own || config->page_shift > 30))
		return vd_error_set(error, -EINVAL, "page shift %u: the host's pages need %u to 30",
				    config->page_shift, own);
	/* a pfn counts bytes modulo 2^56, with a sign */
	if (config->window_size > UINT64_C(1) << 54)
		return vd_error_set(error, -EINVAL, "a window of 0x%lx bytes is too large",
				    (unsigned long)config->window_size);
	return 0;
}

/*
 * A page that a child finds wiped after fork(): a handle that it inherits says so instead of
 * reaching the child's copy of the parent's memory.
 */
static int mark_process(struct vd_host *host)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	int result = vd_env_inject(host->env, "host.mark");
	uint32_t *mark;

	if (result)
		return result;
	mark = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mark == MAP_FAILED)
		return -ENOMEM;
	if (madvise(mark, size, MADV_WIPEONFORK)) {
		result = -errno;
		munmap(mark, size);
		return result;
	}
	*mark = 1;
	host->ours = mark;
	return 0;
}

void hosted_free_host(struct vd_host *host)
{
	munmap((void *)(uintptr_t)host->ours, (size_t)sysconf(_SC_PAGESIZE));
}

int vd_host_create(const struct vd_host_config *config, struct vd_host **out,
		   struct vd_error *error)
{
	const struct vd_env *env = config->env;
	struct vd_host *host;
	int result = check_config(config, error);

	if (result)
		return result;
	host = vd_env_allocate(env, "host.create", sizeof(*host), _Alignof(struct vd_host));
	if (!host)
		return vd_error_set(error, -ENOMEM, "no memory for a host");
	host->env = env;
	host->page_shift = config->page_shift ? config->page_shift
		: (unsigned)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
	result = mark_process(host);
	if (result) {
		env->release(env, host, sizeof(*host));
		return vd_error_set(error, result, "cannot bind guest memory to this process "
				    "(MADV_WIPEONFORK): errno %d", -result);
	}
	result = reserve_some_window(host, config->window_size);
	if (result) {
		hosted_free_host(host);
		env->release(env, host, sizeof(*host));
		return vd_error_set(error, result,
				    "cannot reserve address space for guest memory (is there a "
				    "ulimit -v?)");
	}
	host->backing = &hosted_backing;
	host_open(host);
	host->guard_slot = guard_add_window(host->window_base, host->window_size, false);
	*out = host;
	return 0;
}

void hosted_close_host(struct vd_host *host)
{
	struct window_range *range;

	holds_close(host);
	guard_remove_window(host->guard_slot);
	munmap((void *)host->window_base, host->window_size);
	host->env->lock(host->env, &host->lock);
	while ((range = host->ranges)) {
		host->ranges = range->next;
		host->env->release(host->env, range, sizeof(*range));
	}
	host->env->unlock(host->env, &host->lock);
}

/* ---- ranges of the window -------------------------------------------- */

/* Large objects are aligned so that large blocks of the tables can map them. */
static uint64_t natural_alignment(const struct vd_host *host, uint64_t size)
{
	return size >= GIB ? GIB : size >= MIB2 ? MIB2 : UINT64_C(1) << host->page_shift;
}

/* First fit; returns the link after which the range belongs. Lock held. */
static struct window_range **find_gap(struct vd_host *host, uint64_t size, uint64_t *start)
{
	uint64_t align = natural_alignment(host, size);
	struct window_range **link = &host->ranges;

	*start = 0;
	while (*link && (*link)->start - *start < size) {
		*start = ((*link)->start + (*link)->size + align - 1) & ~(align - 1);
		link = &(*link)->next;
		/* rounding up may have passed the next range's start */
		if (*link && (*link)->start < *start)
			*start = (*link)->start;
	}
	if (*start > host->window_size || host->window_size - *start < size)
		return NULL;
	return link;
}

int window_reserve(struct vd_host *host, uint64_t size, struct window_range **out)
{
	const struct vd_env *env = host->env;
	struct window_range *range, **link;
	int result;

	range = vd_env_allocate(env, "host.range", sizeof(*range), _Alignof(struct window_range));
	if (!range)
		return -ENOMEM;
	range->size = size;
	env->lock(env, &host->lock);
	result = host->destroyed ? -ESHUTDOWN : -ENOMEM;
	link = host->destroyed ? NULL : find_gap(host, size, &range->start);
	if (link) {
		range->next = *link;
		*link = range;
	}
	env->unlock(env, &host->lock);
	if (!link) {
		env->release(env, range, sizeof(*range));
		return result;
	}
	*out = range;
	return 0;
}

void window_release(struct vd_host *host, struct window_range *range)
{
	const struct vd_env *env = host->env;
	struct window_range **link = &host->ranges; /* @range is gone with a destroyed host */

	env->lock(env, &host->lock);
	if (!host->destroyed &&
	    map_nothing((void *)(host->window_base + range->start), range->size) != MAP_FAILED) {
		while (*link != range)
			link = &(*link)->next;
		*link = range->next;
		env->release(env, range, sizeof(*range));
	}
	env->unlock(env, &host->lock);
}
