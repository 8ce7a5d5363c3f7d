/* SPDX-License-Identifier: BSD-2-Clause */
#include "iommu/maps.h"

#define LEAF_SLOTS 16u
#define FANOUT 64u
/*
 * A node splits only when it is full, so each level costs whoever wants the tree to be high some
 * thirty times the operations of the level below.
 */
#define HEIGHT_MAX 12u
#define NO_START UINT64_MAX /* of a free slot: maps are page-aligned */

struct maps_node {
	uint32_t height; /* 0: a leaf */
	_Atomic uint32_t count; /* children; of a leaf: maps, which only writers look at */
	const struct vd_env *env;
	struct vd_deferred deferred;
};

struct leaf {
	struct maps_node node;
	_Alignas(64) _Atomic uint64_t start[LEAF_SLOTS];
	struct dma_map *_Atomic map[LEAF_SLOTS];
};

/* Child i holds the maps that start in [low[i], low[i + 1]); low[0] is not looked at. */
struct inner {
	struct maps_node node;
	_Alignas(64) _Atomic uint64_t low[FANOUT];
	struct maps_node *_Atomic child[FANOUT];
};

/* The way from the root to a leaf; level 0 is the leaf's parent. */
struct path {
	struct inner *inner[HEIGHT_MAX];
	unsigned index[HEIGHT_MAX];
	unsigned height;
	struct leaf *leaf;
};

static uint32_t count_of(const struct maps_node *node)
{
	/* Acquire pairs with the release in count_add(): so many children are there. */
	return atomic_load_explicit(&node->count, memory_order_acquire);
}

/* UINT32_MAX takes one away */
static void count_add(struct maps_node *node, uint32_t n)
{
	atomic_store_explicit(&node->count, count_of(node) + n, memory_order_release);
}

static bool is_full(const struct inner *inner)
{
	return count_of(&inner->node) == FANOUT;
}

static uint64_t low_of(const struct inner *inner, unsigned i)
{
	return atomic_load_explicit(&inner->low[i], memory_order_relaxed);
}

static struct maps_node *child_of(const struct inner *inner, unsigned i)
{
	/* Acquire pairs with the release in link_set(): the node is complete. */
	return atomic_load_explicit(&inner->child[i], memory_order_acquire);
}

static struct maps_node *root_of(const struct dma_maps *maps)
{
	/* Acquire pairs with the release in link_set(). */
	return atomic_load_explicit(&maps->root, memory_order_acquire);
}

static unsigned child_index(const struct inner *inner, uint64_t iova)
{
	unsigned base = 0, n = count_of(&inner->node);

	while (n > 1) {
		unsigned half = n / 2;
		bool above = low_of(inner, base + half) <= iova;

		/* As likely as not, so that compilers select instead of branching. */
		base = __builtin_expect_with_probability(above, 1, 0.5) ? base + half : base;
		n -= half;
	}
	return base;
}

/* Of the slots looked at so far, the one whose start is nearest before an address. */
struct nearest {
	uint64_t distance;
	unsigned slot;
};

static void nearer(struct nearest *nearest, const struct leaf *leaf, unsigned slot, uint64_t iova)
{
	/* a start after @iova wraps to a great distance */
	uint64_t distance = iova - atomic_load_explicit(&leaf->start[slot], memory_order_relaxed);
	bool better = distance < nearest->distance;

	nearest->slot = better ? slot : nearest->slot;
	nearest->distance = better ? distance : nearest->distance;
}

/* The slot that holds the map of @iova, if there is one. Two halves, so that neither waits. */
static unsigned leaf_slot(const struct leaf *leaf, uint64_t iova)
{
	struct nearest low = {UINT64_MAX, 0}, high = {UINT64_MAX, 0};

	iova &= ~UINT64_C(1); /* the same map, and never NO_START */
	for (unsigned i = 0; i < LEAF_SLOTS / 2; i++) {
		nearer(&low, leaf, i, iova);
		nearer(&high, leaf, i + LEAF_SLOTS / 2, iova);
	}
	return high.distance < low.distance ? high.slot : low.slot;
}

static struct dma_map *leaf_map(const struct leaf *leaf, unsigned slot)
{
	/* Acquire pairs with the release in slot_fill(). */
	return atomic_load_explicit(&leaf->map[slot], memory_order_acquire);
}

struct dma_map *dma_maps_find(const struct dma_maps *maps, uint64_t iova)
{
	const struct maps_node *node = root_of(maps);
	const struct leaf *leaf;
	struct dma_map *map;

	if (!node)
		return NULL;
	while (node->height) {
		const struct inner *inner = (const struct inner *)node;

		node = child_of(inner, child_index(inner, iova));
	}
	leaf = (const struct leaf *)node;
	map = leaf_map(leaf, leaf_slot(leaf, iova));
	return map && iova - map->start <= map->last - map->start ? map : NULL;
}

/* ---- what follows is for the writer --------------------------------------------------------- */

static void path_find(const struct dma_maps *maps, uint64_t iova, struct path *path)
{
	struct maps_node *node = root_of(maps);

	path->height = node->height;
	while (node->height) {
		struct inner *inner = (struct inner *)node;
		unsigned index = child_index(inner, iova), level = node->height - 1;

		path->inner[level] = inner;
		path->index[level] = index;
		node = child_of(inner, index);
	}
	path->leaf = (struct leaf *)node;
}

/* Where the next leaf begins; false if there is none. */
static bool path_bound(const struct path *path, uint64_t *bound)
{
	for (unsigned level = 0; level < path->height; level++) {
		unsigned next = path->index[level] + 1;

		if (next < count_of(&path->inner[level]->node)) {
			*bound = low_of(path->inner[level], next);
			return true;
		}
	}
	return false;
}

static struct dma_map *leaf_next(const struct leaf *leaf, uint64_t iova)
{
	struct dma_map *first = NULL;

	for (unsigned i = 0; i < LEAF_SLOTS; i++) {
		struct dma_map *map = leaf_map(leaf, i);

		if (map && map->last >= iova && (!first || map->start < first->start))
			first = map;
	}
	return first;
}

struct dma_map *dma_maps_next(const struct dma_maps *maps, uint64_t iova)
{
	struct dma_map *map;
	struct path path;

	if (!root_of(maps))
		return NULL;
	do {
		path_find(maps, iova, &path);
		map = leaf_next(path.leaf, iova);
	} while (!map && path_bound(&path, &iova));
	return map;
}

static void node_each(const struct maps_node *node,
		      void (*fn)(void *context, const struct dma_map *map), void *context)
{
	if (node->height) {
		for (unsigned i = 0; i < count_of(node); i++)
			node_each(child_of((const struct inner *)node, i), fn, context);
		return;
	}
	for (unsigned i = 0; i < LEAF_SLOTS; i++) {
		const struct dma_map *map = leaf_map((const struct leaf *)node, i);

		if (map)
			fn(context, map);
	}
}

void dma_maps_each(const struct dma_maps *maps,
		   void (*fn)(void *context, const struct dma_map *map), void *context)
{
	const struct maps_node *root = root_of(maps);

	if (root)
		node_each(root, fn, context);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static size_t node_size(const struct maps_node *node)
{
	return node->height ? sizeof(struct inner) : sizeof(struct leaf);
}

static void node_free(struct maps_node *node)
{
	node->env->release(node->env, node, node_size(node));
}

static void free_deferred(struct vd_deferred *item)
{
	node_free((struct maps_node *)((char *)item - offsetof(struct maps_node, deferred)));
}

/* Readers may still be in it. */
static void node_retire(struct maps_node *node)
{
	node->env->defer(node->env, &node->deferred, free_deferred);
}

static struct leaf *leaf_create(const struct vd_env *env)
{
	struct leaf *leaf =
		vd_env_allocate(env, "iommu.leaf", sizeof(*leaf), _Alignof(struct leaf));

	if (!leaf)
		return NULL;
	leaf->node.env = env;
	for (unsigned i = 0; i < LEAF_SLOTS; i++)
		atomic_init(&leaf->start[i], NO_START);
	return leaf;
}

static struct inner *inner_create(const struct vd_env *env, unsigned height)
{
	struct inner *inner =
		vd_env_allocate(env, "iommu.inner", sizeof(*inner), _Alignof(struct inner));

	if (!inner)
		return NULL;
	inner->node.env = env;
	inner->node.height = height;
	return inner;
}

static void slot_fill(struct leaf *leaf, unsigned slot, struct dma_map *map)
{
	atomic_store_explicit(&leaf->start[slot], map->start, memory_order_relaxed);
	/* Release pairs with the acquire in leaf_map(): the map is complete. */
	atomic_store_explicit(&leaf->map[slot], map, memory_order_release);
	count_add(&leaf->node, 1);
}

static void inner_append(struct inner *inner, uint64_t low, struct maps_node *child)
{
	uint32_t count = count_of(&inner->node);

	atomic_store_explicit(&inner->low[count], low, memory_order_relaxed);
	atomic_store_explicit(&inner->child[count], child, memory_order_release);
	count_add(&inner->node, 1);
}

/* Where the node at @level of the path (0: the leaf's parent) hangs: in its parent, or the root. */
static void link_set(struct dma_maps *maps, const struct path *path, unsigned level,
		     struct maps_node *node)
{
	struct maps_node *_Atomic *link = &maps->root;

	if (level + 1 < path->height)
		link = &path->inner[level + 1]->child[path->index[level + 1]];
	/* Release pairs with the acquire in root_of() and child_of(). */
	atomic_store_explicit(link, node, memory_order_release);
}

/* ---- insertion ------------------------------------------------------------------------------ */

/* Everything that an insertion may need, allocated before anything changes. */
struct reserve {
	struct leaf *leaf[2];
	struct inner *inner[2 * HEIGHT_MAX + 1];
	unsigned leaves, inners;
};

static void reserve_free(struct reserve *reserve)
{
	while (reserve->leaves)
		node_free(&reserve->leaf[--reserve->leaves]->node);
	while (reserve->inners)
		node_free(&reserve->inner[--reserve->inners]->node);
}

static int reserve_inner(struct reserve *reserve, const struct vd_env *env, unsigned level)
{
	struct inner *inner = inner_create(env, level + 1);

	if (!inner)
		return -ENOMEM;
	reserve->inner[reserve->inners++] = inner;
	return 0;
}

/* Two halves for each full node of the path, a copy of the first that is not, or a new root. */
static int reserve_fill(struct reserve *reserve, const struct vd_env *env, const struct path *path)
{
	unsigned level = 0;
	int r = 0;

	for (; reserve->leaves < 2; reserve->leaves++) {
		reserve->leaf[reserve->leaves] = leaf_create(env);
		if (!reserve->leaf[reserve->leaves])
			return -ENOMEM;
	}
	for (; !r && level < path->height && is_full(path->inner[level]); level++) {
		r = reserve_inner(reserve, env, level);
		if (!r)
			r = reserve_inner(reserve, env, level);
	}
	if (!r && level == HEIGHT_MAX)
		r = -ENOSPC;
	return r ? r : reserve_inner(reserve, env, level);
}

/*
 * No map is in the gap before the first one of the neighbour, so the separator may move over it.
 * Empty leaves that are left behind (see leaf_drop()) may make it several.
 */
static void raise_separators(const struct path *path, uint64_t last)
{
	for (unsigned level = 0; level < path->height; level++) {
		struct inner *inner = path->inner[level];

		for (unsigned i = path->index[level] + 1; i < count_of(&inner->node); i++) {
			if (low_of(inner, i) > last)
				return;
			/* Relaxed: whoever sees the map that is inserted next, sees this. */
			atomic_store_explicit(&inner->low[i], last + 1, memory_order_relaxed);
		}
	}
}

/* The maps of a full leaf and the new one, in order. */
static void leaf_sort(const struct leaf *leaf, struct dma_map *map,
		      struct dma_map *sorted[LEAF_SLOTS + 1])
{
	sorted[0] = map;
	for (unsigned n = 1; n <= LEAF_SLOTS; n++) {
		struct dma_map *next = leaf_map(leaf, n - 1);
		unsigned at = n;

		for (; at && sorted[at - 1]->start > next->start; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = next;
	}
}

/* Two nodes that take the place of one. */
struct halves {
	struct maps_node *left, *right;
	uint64_t low; /* of the right one */
};

static struct halves leaf_split(const struct leaf *leaf, struct dma_map *map,
				struct reserve *reserve)
{
	struct dma_map *sorted[LEAF_SLOTS + 1];
	struct leaf *left = reserve->leaf[0], *right = reserve->leaf[1];
	unsigned cut = LEAF_SLOTS / 2;

	leaf_sort(leaf, map, sorted);
	if (sorted[LEAF_SLOTS] == map)
		cut = LEAF_SLOTS; /* maps that come in order leave full leaves behind */
	for (unsigned i = 0; i <= LEAF_SLOTS; i++)
		slot_fill(i < cut ? left : right, i < cut ? i : i - cut, sorted[i]);
	return (struct halves){&left->node, &right->node, sorted[cut]->start};
}

/*
 * The children of @inner, with @halves in place of child @index, go to @left, from the @cut-th on
 * to @right.
 * Return: where @right begins.
 */
static uint64_t inner_fill(const struct inner *inner, unsigned index, const struct halves *halves,
			   struct inner *left, struct inner *right, unsigned cut)
{
	uint64_t right_low = 0;

	for (unsigned i = 0, to = 0; i < count_of(&inner->node); i++) {
		for (unsigned half = 0; half < (i == index ? 2u : 1u); half++, to++) {
			uint64_t low = half ? halves->low : low_of(inner, i);
			struct maps_node *child = i != index ? child_of(inner, i)
				: half ? halves->right : halves->left;

			if (to == cut)
				right_low = low;
			inner_append(to < cut ? left : right, low, child);
		}
	}
	return right_low;
}

static void grow_root(struct dma_maps *maps, const struct path *path, const struct halves *halves,
		      struct inner *root)
{
	inner_append(root, 0, halves->left);
	inner_append(root, halves->low, halves->right);
	link_set(maps, path, path->height, &root->node);
}

static void insert_by_split(struct dma_maps *maps, const struct path *path, struct dma_map *map,
			    struct reserve *reserve)
{
	struct halves halves = leaf_split(path->leaf, map, reserve);
	struct inner **spare = reserve->inner;
	unsigned level = 0;

	for (; level < path->height && is_full(path->inner[level]); level++) {
		unsigned index = path->index[level];
		unsigned cut = index == FANOUT - 1 ? FANOUT : FANOUT / 2;
		struct inner *left = *spare++, *right = *spare++;

		halves.low = inner_fill(path->inner[level], index, &halves, left, right, cut);
		halves.left = &left->node;
		halves.right = &right->node;
	}
	if (level == path->height) {
		grow_root(maps, path, &halves, *spare);
	} else {
		inner_fill(path->inner[level], path->index[level], &halves, *spare, NULL, FANOUT);
		link_set(maps, path, level, &(*spare)->node);
		node_retire(&path->inner[level]->node);
	}
	while (level)
		node_retire(&path->inner[--level]->node);
	node_retire(&path->leaf->node);
}

static int insert_with_split(struct dma_maps *maps, const struct path *path, struct dma_map *map)
{
	struct reserve reserve = {.leaves = 0};
	int r = reserve_fill(&reserve, maps->env, path);

	if (r) {
		reserve_free(&reserve);
		return r;
	}
	raise_separators(path, map->last);
	insert_by_split(maps, path, map, &reserve);
	return 0;
}

static int insert_first(struct dma_maps *maps, struct dma_map *map)
{
	struct leaf *leaf = leaf_create(maps->env);

	if (!leaf)
		return -ENOMEM;
	slot_fill(leaf, 0, map);
	/* Release pairs with the acquire in root_of(). */
	atomic_store_explicit(&maps->root, &leaf->node, memory_order_release);
	maps->count = 1;
	return 0;
}

/*
 * A map behind all others of a full leaf, and of its parent, gets a leaf of its own, which the
 * parent takes as its last child: maps that come in order leave full leaves behind.
 * Return: 0; -EAGAIN this is no such case; -ENOMEM.
 */
static int insert_behind(struct dma_maps *maps, const struct path *path, struct dma_map *map)
{
	struct inner *parent = path->inner[0];
	struct leaf *leaf;

	if (!path->height || count_of(&parent->node) == FANOUT ||
	    path->index[0] + 1 != count_of(&parent->node))
		return -EAGAIN;
	for (unsigned i = 0; i < LEAF_SLOTS; i++)
		if (leaf_map(path->leaf, i)->start > map->start)
			return -EAGAIN;
	leaf = leaf_create(maps->env);
	if (!leaf)
		return -ENOMEM;
	raise_separators(path, map->last);
	slot_fill(leaf, 0, map);
	inner_append(parent, map->start, &leaf->node);
	return 0;
}

int dma_maps_insert(struct dma_maps *maps, struct dma_map *map)
{
	struct path path;
	unsigned slot = 0;
	int r;

	if (!root_of(maps))
		return insert_first(maps, map);
	path_find(maps, map->start, &path);
	if (count_of(&path.leaf->node) == LEAF_SLOTS) {
		r = insert_behind(maps, &path, map);
		if (r == -EAGAIN)
			r = insert_with_split(maps, &path, map);
		if (r)
			return r;
	} else {
		while (leaf_map(path.leaf, slot))
			slot++;
		raise_separators(&path, map->last);
		slot_fill(path.leaf, slot, map);
	}
	maps->count++;
	return 0;
}

/* ---- removal -------------------------------------------------------------------------------- */

static void tree_retire(struct maps_node *node)
{
	if (node->height) {
		const struct inner *inner = (const struct inner *)node;

		for (unsigned i = 0; i < count_of(node); i++)
			tree_retire(child_of(inner, i));
	}
	node_retire(node);
}

/*
 * Takes an empty leaf out. Where there is no memory for that it stays: it is found, is empty, and
 * goes at the latest with the last map.
 */
static void leaf_drop(struct dma_maps *maps, const struct path *path)
{
	struct inner *old, *copy;
	unsigned level = 0;

	/* ancestors that have no other child go as well */
	while (count_of(&path->inner[level]->node) == 1)
		level++;
	old = path->inner[level];
	if (level + 1 == path->height && count_of(&old->node) == 2) {
		link_set(maps, path, level, child_of(old, !path->index[level]));
	} else {
		copy = inner_create(maps->env, level + 1);
		if (!copy)
			return;
		for (unsigned i = 0; i < count_of(&old->node); i++)
			if (i != path->index[level])
				inner_append(copy, low_of(old, i), child_of(old, i));
		link_set(maps, path, level, &copy->node);
	}
	for (unsigned i = 0; i <= level; i++)
		node_retire(&path->inner[i]->node);
	node_retire(&path->leaf->node);
}

void dma_maps_remove(struct dma_maps *maps, struct dma_map *map)
{
	struct path path;
	unsigned slot = 0;

	if (--maps->count == 0) {
		struct maps_node *root = root_of(maps);

		atomic_store_explicit(&maps->root, NULL, memory_order_relaxed);
		tree_retire(root);
		return;
	}
	path_find(maps, map->start, &path);
	while (leaf_map(path.leaf, slot) != map)
		slot++;
	atomic_store_explicit(&path.leaf->map[slot], NULL, memory_order_relaxed);
	atomic_store_explicit(&path.leaf->start[slot], NO_START, memory_order_relaxed);
	count_add(&path.leaf->node, UINT32_MAX);
	if (count_of(&path.leaf->node) == 0)
		leaf_drop(maps, &path);
}
