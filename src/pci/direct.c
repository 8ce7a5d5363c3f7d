/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one decision about direct mapping: walks a BAR from boundary to boundary, asks each rule
 * about the page there, and names what it meets.
 */
#include <stdio.h>

#include <viaduct/pci.h>

/*
 * @position: offset within the BAR
 * @end: of the part there, shrinks as boundaries are met
 */
struct walk {
	const struct vd_pci_direct_facts *facts;
	uint64_t position;
	uint64_t end;
};

/* What a rule says of a position; @of: the neighbour it is about, if it is about one. */
struct verdict {
	enum vd_pci_why why;
	const struct vd_pci_neighbour *of;
};

/* ---- ranges of addresses: the last byte, not the end, so that nothing wraps ---- */

struct range {
	uint64_t first, last;
};

static bool is_empty(struct range range)
{
	return range.first > range.last;
}

static struct range range_of(uint64_t address, uint64_t size)
{
	uint64_t last;

	if (!size)
		return (struct range){1, 0};
	if (__builtin_add_overflow(address, size - 1, &last))
		last = UINT64_MAX;
	return (struct range){address, last};
}

/* The whole pages that hold any of it. */
static struct range pages_of(const struct vd_pci_direct_facts *facts, struct range range)
{
	if (is_empty(range))
		return range;
	return (struct range){range.first & ~(facts->page - 1), range.last | (facts->page - 1)};
}

static struct range bar_range(const struct vd_pci_direct_facts *facts)
{
	return range_of(facts->address, facts->size);
}

static struct range page_at(const struct walk *walk)
{
	return pages_of(walk->facts, range_of(walk->facts->address + walk->position, 1));
}

static void boundary(struct walk *walk, uint64_t at)
{
	if (at > walk->position && at < walk->end)
		walk->end = at;
}

/* Whether the position lies in a range of addresses; both its ends are boundaries. */
static bool inside(struct walk *walk, struct range range)
{
	uint64_t base = walk->facts->address, at = base + walk->position;

	if (is_empty(range))
		return false;
	if (range.first > base)
		boundary(walk, range.first - base);
	if (range.last >= base && range.last != UINT64_MAX)
		boundary(walk, range.last + 1 - base);
	return at >= range.first && at <= range.last;
}

/* ---- the rules ---- */

static bool in_hidden_page(struct walk *walk, struct range hidden)
{
	return inside(walk, pages_of(walk->facts, hidden));
}

/* E6: whoever's table it is. */
static bool msix_rule(struct walk *walk, struct verdict *verdict)
{
	const struct vd_pci_direct_facts *facts = walk->facts;
	bool found = false;

	if (facts->isolated)
		return false;
	for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++) {
		const struct vd_region_area *hidden = &facts->hidden[i];
		uint64_t start;

		if (!__builtin_add_overflow(facts->address, hidden->offset, &start) &&
		    in_hidden_page(walk, range_of(start, hidden->size)))
			found = true;
	}
	if (found)
		*verdict = (struct verdict){.why = VD_PCI_WHY_MSIX};
	for (unsigned n = 0; n < facts->neighbour_count; n++) {
		const struct vd_pci_neighbour *of = &facts->neighbours[n];

		for (unsigned i = 0; i < VD_PCI_HIDDEN_MAX; i++) {
			if (!in_hidden_page(walk, range_of(of->hidden[i].offset,
							   of->hidden[i].size)) || found)
				continue;
			*verdict = (struct verdict){VD_PCI_WHY_MSIX, of};
			found = true;
		}
	}
	return found;
}

enum mappable { MAPPABLE_NO, MAPPABLE_EDGE, MAPPABLE_WHOLE };

/* How much of the BAR's part of the page lies in one area. */
static enum mappable in_area(struct walk *walk, uint64_t offset, uint64_t size)
{
	const struct vd_pci_direct_facts *facts = walk->facts;
	struct range bar = bar_range(facts), area, whole;

	if (offset >= facts->size || !size)
		return MAPPABLE_NO;
	area = range_of(facts->address + offset, size);
	if (area.last > bar.last)
		area.last = bar.last;
	if (!inside(walk, area))
		return MAPPABLE_NO;
	/* The first and last page need no more than the BAR has of them. */
	whole = area;
	if (area.first != bar.first && area.first & (facts->page - 1)) {
		if (__builtin_add_overflow(area.first | (facts->page - 1), 1, &whole.first))
			return MAPPABLE_EDGE;
	}
	if (area.last != bar.last && (area.last & (facts->page - 1)) != facts->page - 1) {
		if (area.last < facts->page)
			return MAPPABLE_EDGE;
		whole.last = (area.last & ~(facts->page - 1)) - 1;
	}
	return inside(walk, whole) ? MAPPABLE_WHOLE : MAPPABLE_EDGE;
}

static enum mappable in_mappable(struct walk *walk)
{
	const struct vd_pci_direct_facts *facts = walk->facts;
	enum mappable best = MAPPABLE_NO;

	if (!facts->mappable)
		return MAPPABLE_NO;
	if (!facts->area_count)
		return in_area(walk, 0, facts->size);
	for (unsigned i = 0; i < facts->area_count && i < VD_REGION_AREAS_MAX; i++) {
		enum mappable m = in_area(walk, facts->areas[i].offset, facts->areas[i].size);

		if (m > best)
			best = m;
	}
	return best;
}

static bool may_share(const struct vd_pci_direct_facts *facts, const struct vd_pci_neighbour *of)
{
	return of->same_group && facts->group_whole && facts->platform && !of->trapped;
}

/* Who else has something in the page that this user may not have, or must not have directly. */
static bool neighbour_rule(struct walk *walk, struct verdict *verdict)
{
	const struct vd_pci_direct_facts *facts = walk->facts;
	bool found = false;

	for (unsigned n = 0; n < facts->neighbour_count; n++) {
		const struct vd_pci_neighbour *of = &facts->neighbours[n];
		struct range range = pages_of(facts, range_of(of->address, of->size));

		if (!inside(walk, range) || found || may_share(facts, of))
			continue;
		*verdict = (struct verdict){VD_PCI_WHY_NEIGHBOUR, of};
		found = true;
	}
	return found;
}

/* From the first byte of a page to the last, over what is accounted for. */
struct sweep {
	uint64_t at, last;
	bool done;
};

/* Return: whether the range brought the sweep on. */
static bool sweep_over(struct sweep *sweep, struct range range)
{
	if (sweep->done || is_empty(range) || sweep->at < range.first || sweep->at > range.last)
		return false;
	if (range.last >= sweep->last)
		sweep->done = true;
	else
		sweep->at = range.last + 1;
	return true;
}

/* Whether all of a page that is the BAR's in part is accounted for. */
static bool is_covered(const struct vd_pci_direct_facts *facts, struct range page)
{
	struct sweep sweep = {page.first, page.last, false};
	bool moved;

	do {
		moved = sweep_over(&sweep, bar_range(facts)) ||
			sweep_over(&sweep, range_of(facts->claimed.offset, facts->claimed.size));
		if (facts->group_whole && facts->platform)
			moved |= sweep_over(&sweep,
					    range_of(facts->group.offset, facts->group.size));
		/* They may share, or the rule about them had spoken. */
		for (unsigned n = 0; n < facts->neighbour_count; n++)
			moved |= sweep_over(&sweep, range_of(facts->neighbours[n].address,
							     facts->neighbours[n].size));
	} while (moved && !sweep.done);
	return sweep.done;
}

/* The first and the last page of a BAR need not be all its own. */
static bool rest_rule(struct walk *walk, struct verdict *verdict)
{
	const struct vd_pci_direct_facts *facts = walk->facts;
	struct range bar = bar_range(facts), page = page_at(walk);

	(void)inside(walk, pages_of(facts, range_of(bar.first, 1)));
	(void)inside(walk, pages_of(facts, range_of(bar.last, 1)));
	if (is_covered(facts, page))
		return false;
	*verdict = (struct verdict){.why = VD_PCI_WHY_REST};
	return true;
}

/* Every rule is asked each time: a boundary of any of them ends the part. */
static struct verdict judge(struct walk *walk)
{
	struct verdict msix, neighbour, rest;
	bool is_msix = msix_rule(walk, &msix), shares = neighbour_rule(walk, &neighbour);
	bool is_open = rest_rule(walk, &rest);
	enum mappable mappable = in_mappable(walk);

	if (is_msix)
		return msix;
	if (mappable == MAPPABLE_NO)
		return (struct verdict){.why = VD_PCI_WHY_EMULATED};
	if (walk->facts->off)
		return (struct verdict){.why = VD_PCI_WHY_OFF};
	if (mappable == MAPPABLE_EDGE)
		return (struct verdict){.why = VD_PCI_WHY_EDGE};
	if (shares)
		return neighbour;
	return is_open ? rest : (struct verdict){.why = VD_PCI_DIRECT};
}

/* ---- words ---- */

static const char *name_of(const struct vd_pci_neighbour *of)
{
	return of->name ? of->name : "another BAR";
}

static void say_neighbour(const struct vd_pci_direct_facts *facts,
			  const struct vd_pci_neighbour *of, char *text, size_t room)
{
	const char *more = "";

	if (of->same_group)
		more = !facts->group_whole ? ", of a group that others use too" :
		       !facts->platform ? ", and the platform lets no group share one" :
		       ", which is trapped";
	snprintf(text, room, "shares its page with %s%s", name_of(of), more);
}

static void say(const struct vd_pci_direct_facts *facts, struct verdict verdict, char *text,
		size_t room)
{
	static const char *const words[] = {
		[VD_PCI_DIRECT] = "",
		[VD_PCI_WHY_MSIX] = "the page holds the MSI-X table or pending bits",
		[VD_PCI_WHY_EMULATED] = "registers that the device emulates",
		[VD_PCI_WHY_OFF] = "direct mapping is switched off",
		[VD_PCI_WHY_EDGE] = "shares its page with registers that the device emulates",
		[VD_PCI_WHY_REST] = "nothing keeps the rest of its page free",
	};

	if (verdict.why == VD_PCI_WHY_NEIGHBOUR)
		say_neighbour(facts, verdict.of, text, room);
	else if (verdict.why == VD_PCI_WHY_MSIX && verdict.of)
		snprintf(text, room, "shares its page with the MSI-X table of %s",
			 name_of(verdict.of));
	else if (verdict.why == VD_PCI_WHY_REST && facts->unpadded)
		snprintf(text, room, "its memory is not padded to a page");
	else
		snprintf(text, room, "%s", words[verdict.why]);
}

/* ---- the parts ---- */

static bool is_same(const struct vd_pci_bar_part *part, const struct verdict *last,
		    struct verdict now)
{
	return part->why == now.why && last->of == now.of;
}

unsigned vd_pci_direct_plan(const struct vd_pci_direct_facts *facts,
			    struct vd_pci_bar_part parts[VD_PCI_PARTS_MAX])
{
	struct walk walk = {.facts = facts};
	struct verdict last = {0};
	uint64_t end;
	unsigned count = 0;

	if (facts->size && __builtin_add_overflow(facts->address, facts->size - 1, &end)) {
		parts[0] = (struct vd_pci_bar_part){0, facts->size, VD_PCI_WHY_MEMORY, ""};
		snprintf(parts[0].reason, sizeof(parts[0].reason), "its end wraps");
		return 1;
	}
	while (walk.position < facts->size) {
		struct verdict verdict;

		walk.end = facts->size;
		verdict = judge(&walk);
		if (count && is_same(&parts[count - 1], &last, verdict)) {
			parts[count - 1].size += walk.end - walk.position;
		} else if (count == VD_PCI_PARTS_MAX) {
			struct vd_pci_bar_part *rest = &parts[count - 1];

			rest->size = facts->size - rest->offset;
			rest->why = VD_PCI_WHY_EDGE;
			snprintf(rest->reason, sizeof(rest->reason), "cut into too many parts");
			break;
		} else {
			struct vd_pci_bar_part *part = &parts[count++];

			*part = (struct vd_pci_bar_part){walk.position, walk.end - walk.position,
							 verdict.why, ""};
			say(facts, verdict, part->reason, sizeof(part->reason));
			last = verdict;
		}
		walk.position = walk.end;
	}
	return count;
}

const char *vd_pci_part_text(const struct vd_pci_bar_part *part, char *text, size_t room)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	uint64_t size = part->size;
	unsigned unit = 0;

	for (; unit < 4 && size && !(size & 1023); unit++)
		size >>= 10;
	snprintf(text, room, "%llu %s, %s%s%s", (unsigned long long)size, units[unit],
		 part->why == VD_PCI_DIRECT ? "direct" : "trapped", part->reason[0] ? ": " : "",
		 part->reason);
	return text;
}
