/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes to an object. Each tells the chain, changes the memory, tells the chain again; the
 * object's lock is held only over the change itself.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/object.h"

#define COPY_BYTES 65536u

static int check_range(const struct vd_host_object *object, uint64_t offset, uint64_t length)
{
	uint64_t mask = (UINT64_C(1) << object->granule_shift) - 1;

	if (!vd_host_is_ours(object->host))
		return -EOWNERDEAD;
	if (vd_host_is_physical(object->host))
		return -EOPNOTSUPP;
	if (length == 0 || (offset | length) & mask)
		return -EINVAL;
	if (offset > object->size || length > object->size - offset)
		return -ERANGE;
	return 0;
}

static uint64_t page_of(const struct vd_host_object *object, uint64_t offset)
{
	return offset >> object->host->page_shift;
}

static uint64_t bytes_of(const struct vd_host_object *object, uint64_t pages)
{
	return pages << object->host->page_shift;
}

typedef int (*change_fn)(struct vd_host_object *object, uint64_t page, uint64_t count);

static inline int make_change(struct vd_host_object *object, uint64_t offset, uint64_t length,
			      change_fn change)
{
	return change(object, page_of(object, offset), page_of(object, length));
}

/* Somebody listens, or did a moment ago. */
static __attribute__((noinline)) int run_told(struct vd_host_object *object, uint64_t offset,
					      uint64_t length, bool blockable,
					      enum vd_invalidate_reason reason, change_fn change)
{
	struct vd_invalidation event = {object, offset, length, blockable, reason};
	bool told;
	int result = change_begin(object, &event, &told);

	if (result)
		return result;
	result = make_change(object, offset, length, change);
	change_end(object, &event, told);
	return result;
}

/*
 * Asks under the lock alone, which is enough: who has nobody to tell, as most have, pays a load, a
 * test and a branch. Who has takes the lock once more than he needs.
 */
static inline int run_change(struct vd_host_object *object, uint64_t offset, uint64_t length,
			     bool blockable, enum vd_invalidate_reason reason, change_fn change)
{
	struct vd_host *host = object->host;
	int result;

	host->env->lock(host->env, object->lock);
	if (vd_notifier_armed(&host->notifier)) {
		host->env->unlock(host->env, object->lock);
		return run_told(object, offset, length, blockable, reason, change);
	}
	result = make_change(object, offset, length, change);
	host->env->unlock(host->env, object->lock);
	return result;
}

/* ---- discard --------------------------------------------------------- */

static int punch_frames(const struct vd_host_object *object, uint64_t frame, uint64_t count)
{
	int result;

	do
		result = fallocate(object->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(object->fd_offset + bytes_of(object, frame)),
				   (off_t)bytes_of(object, count));
	while (result && errno == EINTR);
	return result ? -errno : 0;
}

static int discard_private(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	char *address = (char *)atomic_load_explicit(&object->address, memory_order_relaxed);
	int result = 0;

	if (address == (char *)ADDRESS_NONE)
		return -EFAULT;
	if (pages_gone(object, page) || pages_gone_run(object, page, count) < count)
		return -EFAULT;
	address += bytes_of(object, page);
	if (object->foreign)
		foreign_pause(object, (uintptr_t)address, bytes_of(object, count));
	/* nothing else is left to be invalid but that it is locked */
	if (madvise(address, bytes_of(object, count), MADV_DONTNEED))
		result = errno == EINVAL ? -EBUSY : -errno;
	if (object->foreign)
		foreign_resume(object, (uintptr_t)address, bytes_of(object, count));
	if (!result)
		pages_clear_written(object, page, count);
	return result;
}

static int change_discard(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	int result = vd_env_inject(object->host->env, "host.punch");

	if (result)
		return result;
	if (object->private)
		return discard_private(object, page, count);
	while (count && !result) {
		uint64_t run = pages_run(object, page, count);

		/*
		 * What can fail (no such operation, a seal) fails at the first run of frames,
		 * before anything has changed.
		 */
		result = punch_frames(object, pages_get(object, page).frame, run);
		page += run;
		count -= run;
	}
	return result == -EPERM ? -EOPNOTSUPP : result;
}

int hosted_discard(struct vd_host_object *object, uint64_t offset, uint64_t length, bool blockable)
{
	int result = check_range(object, offset, length);

	if (result)
		return result;
	if (object->kind == VD_PAGE_DEVICE || object->flags & VD_HOST_READ_ONLY)
		return -EOPNOTSUPP;
	if (holds_any(object, offset, length))
		return -EBUSY;
	return run_change(object, offset, length, blockable, VD_INVALIDATE_DISCARD, change_discard);
}

/* By the descriptor: unlike mincore(), it also knows what was swapped out. */
static bool is_hole(const struct vd_host_object *object, uint64_t frame)
{
	off_t start = (off_t)(object->fd_offset + bytes_of(object, frame));
	off_t data = lseek(object->fd, start, SEEK_DATA);

	return data < 0 ? errno == ENXIO : data >= start + (off_t)bytes_of(object, 1);
}

/* Nobody can fill a page between start and end, so what is empty here has nothing to lose. */
static int change_discard_unused(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	int result = 0;

	for (uint64_t i = 0; i < count && !result; i++)
		if (is_hole(object, pages_get(object, page + i).frame))
			result = change_discard(object, page + i, 1);
	return result;
}

int vd_host_object_discard_unused(struct vd_host_object *object, uint64_t offset, uint64_t length,
				  bool blockable)
{
	int result = check_range(object, offset, length);

	if (result)
		return result;
	if (object->private || object->kind == VD_PAGE_DEVICE || object->flags & VD_HOST_READ_ONLY)
		return -EOPNOTSUPP;
	return run_change(object, offset, length, blockable, VD_INVALIDATE_DISCARD,
			  change_discard_unused);
}

/* ---- protect --------------------------------------------------------- */

/* The window's own protection follows: a mirror that missed the event faults instead of writing. */
static int protect_frames(struct vd_host_object *object, uint64_t frame, uint64_t count,
			  bool writable)
{
	struct vd_host *host = object->host;
	uintptr_t address;
	int result = 0;

	/* the host's lock: the window is not unmapped meanwhile */
	host->env->lock(host->env, &host->lock);
	address = atomic_load_explicit(&object->address, memory_order_relaxed);
	if (address != ADDRESS_NONE &&
	    mprotect((void *)(address + bytes_of(object, frame)), bytes_of(object, count),
		     PROT_READ | (writable ? PROT_WRITE : 0)))
		result = -errno;
	host->env->unlock(host->env, &host->lock);
	return result;
}

/* Applies the protection to frames, all or none. */
static int protect_window(struct vd_host_object *object, uint64_t page, uint64_t count,
			  bool writable)
{
	uint64_t done = 0, run;
	int result = 0;

	if (object->private)
		return 0; /* not our mapping: the page state alone protects it */
	while (!result && done < count) {
		uint64_t frame = pages_get(object, page + done).frame;

		run = pages_run(object, page + done, count - done);
		result = vd_env_inject(object->host->env, "host.protect");
		if (!result)
			result = protect_frames(object, frame, run, writable);
		if (!result)
			done += run;
	}
	while (result && done) { /* the state still says what was */
		run = pages_run(object, page, done);
		protect_frames(object, pages_get(object, page).frame, run,
			       !pages_get(object, page).read_only);
		page += run;
		done -= run;
	}
	return result;
}

static int change_protect(struct vd_host_object *object, uint64_t page, uint64_t count,
			  bool writable)
{
	int result = pages_prepare(object, page, count);

	if (!result)
		result = protect_window(object, page, count, writable);
	if (!result)
		pages_set_read_only(object, page, count, !writable);
	return result;
}

static int change_protect_read(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	return change_protect(object, page, count, false);
}

static int change_protect_write(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	return change_protect(object, page, count, true);
}

int vd_host_object_protect(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool writable, bool blockable)
{
	int result = check_range(object, offset, length);

	if (result)
		return result;
	if (writable && object->flags & VD_HOST_READ_ONLY)
		return -EOPNOTSUPP;
	if (!writable && holds_any(object, offset, length))
		return -EBUSY;
	return run_change(object, offset, length, blockable, VD_INVALIDATE_PROTECT,
			  writable ? change_protect_write : change_protect_read);
}

/* ---- move ------------------------------------------------------------ */

static bool all_zero(const unsigned char *p, size_t length)
{
	return p[0] == 0 && memcmp(p, p + 1, length - 1) == 0;
}

/* Through the descriptor, not the mapping: reading a hole through a mapping would fill it. */
static int copy_frame(const struct vd_host_object *object, uint64_t to, uint64_t from,
		      unsigned char *buffer)
{
	uint64_t left = bytes_of(object, 1), at = 0;

	while (left) {
		size_t n = left < COPY_BYTES ? left : COPY_BYTES;
		ssize_t got = pread(object->fd, buffer, n, (off_t)(bytes_of(object, from) + at));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO;
		if (!all_zero(buffer, (size_t)got) &&
		    pwrite(object->fd, buffer, (size_t)got, (off_t)(bytes_of(object, to) + at)) !=
			    got)
			return -ENOMEM;
		at += (uint64_t)got;
		left -= (uint64_t)got;
	}
	return 0;
}

/* A frame that no page uses any more; one that cannot be cleaned is not used again. */
static void retire_frame(struct vd_host_object *object, uint64_t frame, bool read_only)
{
	if (punch_frames(object, frame, 1))
		return;
	if (read_only && protect_frames(object, frame, 1, true))
		return;
	spares_give(object, frame);
}

struct move {
	struct vd_host_object *object;
	uint64_t page;
	uint64_t count;
	uint32_t *to; /* new frames */
	uint64_t taken;
	unsigned char *buffer;
};

static void move_undo(struct move *move)
{
	while (move->taken) {
		uint64_t page = move->page + --move->taken;

		retire_frame(move->object, move->to[move->taken],
			     pages_get(move->object, page).read_only);
	}
}

/* Fills new frames; nobody sees them yet. */
static int move_prepare(struct move *move)
{
	struct vd_host_object *object = move->object;
	int result = pages_prepare(object, move->page, move->count);

	if (!result)
		result = spares_prepare(object);
	while (!result && move->taken < move->count) {
		struct page_state state = pages_get(object, move->page + move->taken);
		uint64_t frame = spares_take(object);

		if (frame == UINT64_MAX)
			return -ENOMEM;
		move->to[move->taken++] = (uint32_t)frame;
		result = vd_env_inject(object->host->env, "host.copy");
		if (!result)
			result = copy_frame(object, frame, state.frame, move->buffer);
		if (!result && state.read_only)
			result = protect_frames(object, frame, 1, false);
	}
	return result;
}

static void move_commit(struct move *move)
{
	for (uint64_t i = 0; i < move->count; i++) {
		struct page_state old = pages_get(move->object, move->page + i);

		pages_set_frame(move->object, move->page + i, move->to[i]);
		retire_frame(move->object, old.frame, old.read_only);
	}
}

static int change_move(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	const struct vd_env *env = object->host->env;
	struct move move = {.object = object, .page = page, .count = count};
	int result = -ENOMEM;

	move.to = vd_env_allocate(env, "host.move", count * sizeof(*move.to), _Alignof(uint32_t));
	move.buffer = vd_env_allocate(env, "host.move_buffer", COPY_BYTES, _Alignof(uint64_t));
	if (move.to && move.buffer)
		result = move_prepare(&move);
	if (result)
		move_undo(&move);
	else
		move_commit(&move);
	env->release(env, move.buffer, COPY_BYTES);
	env->release(env, move.to, count * sizeof(*move.to));
	return result;
}

int vd_host_object_move(struct vd_host_object *object, uint64_t offset, uint64_t length,
			bool blockable)
{
	int result = check_range(object, offset, length);

	if (result)
		return result;
	if (!(object->flags & VD_HOST_SPARES))
		return -EOPNOTSUPP;
	return run_change(object, offset, length, blockable, VD_INVALIDATE_MOVE, change_move);
}

/* ---- restore --------------------------------------------------------- */

static int change_restore(struct vd_host_object *object, uint64_t page, uint64_t count)
{
	struct vd_host *host = object->host;
	int protection = PROT_READ | (object->flags & VD_HOST_READ_ONLY ? 0 : PROT_WRITE);
	uintptr_t address;
	int result = vd_env_inject(host->env, "host.restore");

	if (result)
		return result;
	/* the host's lock: the window is not unmapped meanwhile */
	host->env->lock(host->env, &host->lock);
	address = atomic_load_explicit(&object->address, memory_order_relaxed);
	if (address == ADDRESS_NONE)
		result = -EFAULT;
	else if (mmap((void *)(address + bytes_of(object, page)), bytes_of(object, count),
		      protection, MAP_SHARED | MAP_FIXED, object->fd,
		      (off_t)(object->fd_offset + bytes_of(object, page))) == MAP_FAILED)
		result = -errno;
	host->env->unlock(host->env, &host->lock);
	return result;
}

int vd_host_object_restore(struct vd_host_object *object, uint64_t offset, uint64_t length,
			   bool blockable)
{
	int result = check_range(object, offset, length);

	if (result)
		return result;
	/* only these can be hit; they have no frames but their own */
	if (!object->truncatable)
		return -EOPNOTSUPP;
	if (object_present(object) < offset + length)
		return -EFAULT;
	return run_change(object, offset, length, blockable, VD_INVALIDATE_MOVE, change_restore);
}

/* ---- counting -------------------------------------------------------- */

static uint64_t count_resident(const unsigned char *vector, size_t pages)
{
	uint64_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += vector[i] & 1;
	return n;
}

static int resident_frames(const struct vd_host_object *object, uintptr_t address, uint64_t length,
			   uint64_t *bytes)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE); /* mincore counts the host's own */
	unsigned char vector[4096];

	(void)object;
	while (length) {
		uint64_t n = length < sizeof(vector) * page_size ? length
								 : sizeof(vector) * page_size;

		if (mincore((void *)address, n, vector))
			return -errno;
		*bytes += count_resident(vector, n / page_size) * page_size;
		address += n;
		length -= n;
	}
	return 0;
}

int vd_host_object_resident(const struct vd_host_object *object, uint64_t offset, uint64_t length,
			    uint64_t *bytes)
{
	uintptr_t address = atomic_load_explicit(&object->address, memory_order_acquire);
	uint64_t page = page_of(object, offset), count = page_of(object, length);
	int result = check_range(object, offset, length);

	*bytes = 0;
	if (!result && address == ADDRESS_NONE)
		result = -EFAULT;
	while (!result && count) {
		uint64_t run = pages_run(object, page, count);

		result = resident_frames(object,
					 address + bytes_of(object, pages_get(object, page).frame),
					 bytes_of(object, run), bytes);
		page += run;
		count -= run;
	}
	return result;
}
