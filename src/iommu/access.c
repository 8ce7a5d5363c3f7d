/* SPDX-License-Identifier: BSD-2-Clause */
/* DMA under a guard: a read section, for which whoever changes the memory waits. */
#include "iommu/space.h"

void vd_dma_guard_enter(struct vd_dma_space *space)
{
	space->env->read_enter(space->env);
}

void vd_dma_guard_leave(struct vd_dma_space *space)
{
	space->env->read_leave(space->env);
}

/* The short way, where the answer is known. */
static inline bool find(struct vd_dma_space *space, uint64_t iova, unsigned access, void **pointer,
			uint64_t *run)
{
	return iotlb_find(&space->iotlb, iova, access, pointer, run) &&
	       __builtin_expect(*space->ours != 0, 1);
}

static __attribute__((noinline)) int translate(struct vd_dma_space *space, uint64_t iova,
					       unsigned access, void **pointer, uint64_t *run)
{
	struct dma_piece piece;
	int r = dma_resolve_keep(space, iova, access, &piece);

	if (r == -EREMOTE)
		return -EOPNOTSUPP;
	if (r)
		return r == -EFAULT ? dma_fault(space) : r;
	if (piece.watched)
		return -EAGAIN;
	dma_count(space, 1);
	*pointer = piece.pointer;
	*run = piece.run;
	return 0;
}

int vd_dma_translate(struct vd_dma_space *space, vd_iova iova, unsigned access, void **pointer,
		     uint64_t *run)
{
	if (!find(space, iova.value, access, pointer, run))
		return translate(space, iova.value, access, pointer, run);
	dma_add(&dma_counter(space)->direct, 1);
	return 0;
}

void vd_dma_wait(struct vd_dma_space *space, vd_iova iova, uint64_t length)
{
	struct dma_piece piece;
	int r;

	dma_tell(space, iova.value, length);
	space->env->read_enter(space->env);
	r = dma_lookup(space, iova.value, VD_READ, &piece);
	space->env->read_leave(space->env);
	if (r != -EAGAIN)
		return;
	if (length && length < piece.run)
		piece.run = length;
	dma_wait_for(space, &piece);
}

void vd_dma_mark_dirty(struct vd_dma_space *space, vd_iova iova, uint64_t length)
{
	space->env->read_enter(space->env);
	dma_dirty(space, iova.value, length);
	/* Acquire as in dma_resolve(): if not closed, the guest's map stays for this section. */
	if (space->mem && !atomic_load_explicit(&space->closed, memory_order_acquire))
		vd_mem_mark_dirty(space->mem, (vd_gpa){iova.value}, length);
	space->env->read_leave(space->env);
}

/* One direction of a copy between a buffer of the device and its DMA address space. */
struct copy {
	struct vd_dma_space *space;
	uint64_t iova, length;
	unsigned char *to_buffer;
	const unsigned char *from_buffer;
	uint64_t told; /* by when the watchers were, before the store: vd_mem_watch_told() */
	bool watched; /* a part of it was, when last looked at */
	bool remote;  /* a part of it is reached by messages, outside of read sections */
};

static unsigned access_of(const struct copy *copy)
{
	return copy->to_buffer ? VD_READ : VD_WRITE;
}

static uint64_t piece_length(const struct copy *copy, const struct dma_piece *piece, uint64_t done)
{
	return piece->run < copy->length - done ? piece->run : copy->length - done;
}

static void copy_piece(const struct copy *copy, const struct dma_piece *piece, uint64_t done)
{
	uint64_t length = piece_length(copy, piece, done);

	if (copy->to_buffer) {
		vd_guest_copy(copy->to_buffer + done, piece->pointer, length);
		return;
	}
	vd_guest_copy(piece->pointer, copy->from_buffer + done, length);
	/*
	 * After the store, so that whoever takes the mark finds the data. The walk has marked its
	 * leaf: who takes that waits for this read section.
	 */
	if (!piece->walked)
		dma_dirty(copy->space, copy->iova + done, length);
	if (piece->dirty_log)
		vd_mem_mark_dirty(copy->space->mem, (vd_gpa){copy->iova + done}, length);
}

/* Whether all of it is there, from what is @done on; a failure must leave the memory untouched. */
static int check_rest(struct copy *copy, uint64_t done, struct dma_piece *piece)
{
	while (done < copy->length) {
		int r = dma_resolve(copy->space, copy->iova + done, access_of(copy), piece);

		if (r && r != -EREMOTE)
			return r;
		copy->watched |= piece->watched;
		copy->remote |= r == -EREMOTE;
		done += piece_length(copy, piece, done);
	}
	return 0;
}

/*
 * In a read section that has seen all of it, so that its content cannot change before it is left.
 * If a change has begun meanwhile, all is done again after it.
 */
static int copy_pieces(const struct copy *copy, struct dma_piece *piece)
{
	uint64_t done = 0, pieces = 1;

	for (;;) {
		copy_piece(copy, piece, done);
		done += piece_length(copy, piece, done);
		if (done == copy->length)
			break;
		if (dma_resolve(copy->space, copy->iova + done, access_of(copy), piece))
			return -EAGAIN;
		pieces++;
	}
	dma_count(copy->space, pieces);
	return 0;
}

/*
 * *@piece is what has to be waited for if this returns -EAGAIN; -EUCLEAN: watchers are to be told;
 * -EREMOTE: all is there, but not all can be copied here.
 */
static int copy_guarded(struct copy *copy, struct dma_piece *piece)
{
	const struct vd_env *env = copy->space->env;
	struct dma_piece first;
	int r;

	env->read_enter(env);
	r = dma_resolve_keep(copy->space, copy->iova, access_of(copy), piece);
	first = *piece;
	copy->watched = !r && piece->watched;
	copy->remote = r == -EREMOTE;
	if ((!r || copy->remote) && piece->run < copy->length)
		r = check_rest(copy, piece->run, piece);
	if (!r && copy->remote)
		r = -EREMOTE;
	if (!r && copy->watched && !vd_mem_watch_told(copy->space->mem, copy->told))
		r = -EUCLEAN;
	if (!r) {
		*piece = first;
		r = copy_pieces(copy, piece);
	}
	env->read_leave(env);
	return r;
}

/* What is @done on, as far as it is local and of one piece; @step is set to how far that was. */
static int copy_local(const struct copy *copy, uint64_t done, struct dma_piece *piece,
		      uint64_t *step)
{
	const struct vd_env *env = copy->space->env;
	int r;

	env->read_enter(env);
	r = dma_resolve(copy->space, copy->iova + done, access_of(copy), piece);
	*step = piece_length(copy, piece, done);
	if (!r) {
		copy_piece(copy, piece, done);
		dma_count(copy->space, 1);
	}
	env->read_leave(env);
	return r;
}

/* Piece by piece, messages outside of any guard: what has been seen may go meanwhile. */
static int copy_mixed(const struct copy *copy)
{
	struct dma_piece piece;
	uint64_t done = 0, step;

	while (done < copy->length) {
		int r = copy_local(copy, done, &piece, &step);

		if (r == -EAGAIN) {
			dma_wait_for(copy->space, &piece);
			continue;
		}
		if (r == -EREMOTE)
			r = dma_remote_copy(copy->space, copy->iova + done, access_of(copy),
					    copy->to_buffer
						    ? copy->to_buffer + done
						    : (unsigned char *)copy->from_buffer + done,
					    &step);
		if (r)
			return r;
		done += step;
	}
	return 0;
}

/*
 * All of it in a place that is known. Of a guest that is followed only I/O page tables know one:
 * not for stores to what is watched.
 */
static bool copy_known(const struct copy *copy)
{
	const struct vd_env *env = copy->space->env;
	struct dma_piece piece = {.walked = copy->space->table, .dirty_log = copy->space->mem};
	void *pointer;
	bool known;

	env->read_enter(env);
	known = find(copy->space, copy->iova, access_of(copy), &pointer, &piece.run) &&
		piece.run >= copy->length;
	if (known) {
		piece.pointer = pointer;
		copy_piece(copy, &piece, 0);
		dma_add(&dma_counter(copy->space)->direct, 1);
	}
	env->read_leave(env);
	return known;
}

static int copy_all(struct copy *copy)
{
	struct dma_piece piece;
	uint64_t end;
	int r;

	if (!copy->length)
		return 0;
	if ((copy->space->table || !copy->space->mem) && copy_known(copy)) {
		vd_trace(copy->space->env, VD_TRACE_DMA, copy->iova, copy->length, access_of(copy));
		return 0;
	}
	if (!vd_range_end(copy->iova, copy->length, &end))
		return dma_fault(copy->space);
	while ((r = copy_guarded(copy, &piece)) == -EAGAIN || r == -EUCLEAN) {
		if (r == -EAGAIN)
			dma_wait_for(copy->space, &piece);
		else
			copy->told = dma_tell(copy->space, copy->iova, copy->length);
	}
	if (r == -EREMOTE)
		r = copy_mixed(copy);
	if (r)
		return r == -EFAULT ? dma_fault(copy->space) : r;
	/* Whoever goes on watching hears of it once more when it is over. */
	if (copy->watched)
		dma_tell(copy->space, copy->iova, copy->length);
	vd_trace(copy->space->env, VD_TRACE_DMA, copy->iova, copy->length, access_of(copy));
	return 0;
}

int vd_dma_read(struct vd_dma_space *space, vd_iova iova, void *buffer, size_t length)
{
	struct copy copy = {.space = space, .iova = iova.value, .length = length,
			    .to_buffer = buffer};

	return copy_all(&copy);
}

int vd_dma_write(struct vd_dma_space *space, vd_iova iova, const void *buffer, size_t length)
{
	struct copy copy = {.space = space, .iova = iova.value, .length = length,
			    .from_buffer = buffer};

	return copy_all(&copy);
}
