/* SPDX-License-Identifier: BSD-2-Clause */
/* Physical region pages: NVMe 1.4, section 4.3. */
#include "device/nvme/nvme.h"

static void add_range(struct vd_dma_range *ranges, unsigned *count, uint64_t iova, uint64_t length)
{
	struct vd_dma_range *last = *count ? &ranges[*count - 1] : NULL;

	if (last && iova != 0 && last->iova.value + last->length == iova)
		last->length += length;
	else
		ranges[(*count)++] = (struct vd_dma_range){{iova}, length};
}

/*
 * A list page ends with a pointer to the next one if not all fits. The first may begin anywhere;
 * all that follow are full pages, so a list that leads in a circle still ends with the data.
 */
static uint16_t read_list(struct nvme_controller *nvme, uint64_t list, uint64_t rest,
			  struct vd_dma_range *ranges, unsigned *count)
{
	uint64_t page = 1ull << nvme->page_shift;
	uint64_t entries[NVME_PAGES_MAX];

	if (list % sizeof(uint64_t) != 0)
		return NVME_INVALID_PRP_OFFSET;
	while (rest > 0) {
		uint64_t room = (page - (list & (page - 1))) / sizeof(uint64_t);
		uint64_t needed = (rest + page - 1) >> nvme->page_shift;
		bool chained = needed > room;
		uint64_t here = chained ? room - 1 : needed;

		if (vd_dma_read(nvme->space, (vd_iova){list}, entries,
				(here + chained) * sizeof(uint64_t)))
			return NVME_DATA_TRANSFER_ERROR;
		for (uint64_t i = 0; i < here + chained; i++) {
			if (entries[i] & (page - 1))
				return NVME_INVALID_PRP_OFFSET;
		}
		for (uint64_t i = 0; i < here; i++) {
			uint64_t piece = rest < page ? rest : page;

			add_range(ranges, count, entries[i], piece);
			rest -= piece;
		}
		list = chained ? entries[here] : 0;
	}
	return NVME_SUCCESS;
}

uint16_t nvme_prp_ranges(struct nvme_controller *nvme, uint64_t prp1, uint64_t prp2,
			 uint32_t length, struct vd_dma_range *ranges, unsigned *count)
{
	uint64_t page = 1ull << nvme->page_shift;
	uint64_t first = page - (prp1 & (page - 1));

	*count = 0;
	if (prp1 & 3)
		return NVME_INVALID_PRP_OFFSET;
	if (first > length)
		first = length;
	add_range(ranges, count, prp1, first);
	if (first == length)
		return NVME_SUCCESS;
	if (length - first > page)
		return read_list(nvme, prp2, length - first, ranges, count);
	if (prp2 & (page - 1))
		return NVME_INVALID_PRP_OFFSET;
	add_range(ranges, count, prp2, length - first);
	return NVME_SUCCESS;
}

uint16_t nvme_prp_copy(struct nvme_controller *nvme, const struct nvme_command *command,
		       void *buffer, uint32_t length, bool to_host)
{
	struct vd_dma_range ranges[2];
	unsigned count;
	uint8_t *bytes = buffer;
	uint16_t status = nvme_prp_ranges(nvme, command->prp1, command->prp2, length, ranges,
					  &count);

	for (unsigned i = 0; !status && i < count; i++) {
		vd_iova iova = ranges[i].iova;
		uint64_t piece = ranges[i].length;
		int rc = to_host ? vd_dma_write(nvme->space, iova, bytes, piece)
				 : vd_dma_read(nvme->space, iova, bytes, piece);

		if (rc)
			status = NVME_DATA_TRANSFER_ERROR;
		bytes += piece;
	}
	return status;
}
