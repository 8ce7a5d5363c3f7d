/* SPDX-License-Identifier: BSD-2-Clause */
/* A client that gave no descriptor: its memory is reached by calls. */
#ifndef VIADUCT_TESTS_IOMMU_REMOTE_H
#define VIADUCT_TESTS_IOMMU_REMOTE_H

#include <sched.h>

#include "fixture.h"

#define REMOTE_PAGES 64u

struct remote {
	struct vd_dma_space *space;
	uint64_t base; /* IOVA of its first byte */
	unsigned char bytes[REMOTE_PAGES * 4096];
	_Atomic unsigned reads, writes;
	unsigned fail_at; /* the call, counted from 1, that fails; 0: none */
	int fail_with;
	/* While @blocks: a call raises @step to 1, and returns @answer when that is 2. */
	_Atomic bool blocks;
	_Atomic int step;
	int answer;
};

static inline int remote_call(struct remote *remote, vd_iova iova, size_t length)
{
	assert_true(iova.value >= remote->base && length > 0);
	assert_true(iova.value - remote->base + length <= sizeof(remote->bytes));
	/* no lock of the space is held, and no guard that somebody would wait for */
	stats_of(remote->space);
	vd_env_hosted()->synchronize(vd_env_hosted());
	if (atomic_load(&remote->blocks)) {
		atomic_store(&remote->step, 1);
		while (atomic_load(&remote->step) == 1)
			sched_yield();
		return remote->answer;
	}
	return remote->fail_at && remote->reads + remote->writes == remote->fail_at
		       ? remote->fail_with : 0;
}

static inline int remote_read(void *context, vd_iova iova, void *buffer, size_t length)
{
	struct remote *remote = context;
	int r;

	remote->reads++;
	r = remote_call(remote, iova, length);
	if (!r)
		memcpy(buffer, remote->bytes + (iova.value - remote->base), length);
	return r;
}

static inline int remote_write(void *context, vd_iova iova, const void *buffer, size_t length)
{
	struct remote *remote = context;
	int r;

	remote->writes++;
	r = remote_call(remote, iova, length);
	if (!r)
		memcpy(remote->bytes + (iova.value - remote->base), buffer, length);
	return r;
}

static const struct vd_dma_remote_ops remote_ops = {remote_read, remote_write};

static inline struct remote *remote_open(struct vd_dma_space *space, uint64_t base)
{
	struct remote *remote = calloc(1, sizeof(*remote));

	assert_non_null(remote);
	remote->space = space;
	remote->base = base;
	return remote;
}

static inline int remote_map(struct remote *remote, uint64_t iova, uint64_t length, unsigned access)
{
	return vd_dma_map_remote(remote->space, (vd_iova){iova}, length, access, &remote_ops,
				 remote);
}

static inline unsigned char *remote_byte(struct remote *remote, uint64_t iova)
{
	return remote->bytes + (iova - remote->base);
}

#endif
