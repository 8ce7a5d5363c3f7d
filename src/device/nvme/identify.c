/* SPDX-License-Identifier: BSD-2-Clause */
/* Identify: NVMe 1.4, section 5.15. */
#include <stdio.h>
#include <string.h>

#include "device/nvme/nvme.h"

static void put16(uint8_t *data, unsigned offset, uint16_t value)
{
	memcpy(data + offset, &value, sizeof(value));
}

static void put32(uint8_t *data, unsigned offset, uint32_t value)
{
	memcpy(data + offset, &value, sizeof(value));
}

static void put64(uint8_t *data, unsigned offset, uint64_t value)
{
	memcpy(data + offset, &value, sizeof(value));
}

/* ASCII strings are padded with spaces (1.5). */
static void put_text(uint8_t *data, unsigned offset, size_t length, const char *text)
{
	memset(data + offset, ' ', length);
	memcpy(data + offset, text, strlen(text));
}

/* ONCS: a host must not deallocate where that would not make zeroes. */
static uint16_t optional_commands(const struct nvme_controller *nvme)
{
	uint16_t write_zeroes = 1u << 3, dataset_management = 1u << 2;

	return write_zeroes | (vd_image_can_discard(nvme->image) ? dataset_management : 0);
}

/* Figure 247. */
static void identify_controller(const struct nvme_controller *nvme, uint8_t *data)
{
	put16(data, 0, 0x1234);			 /* VID */
	put16(data, 2, 0x1234);			 /* SSVID */
	put_text(data, 4, 20, nvme->serial);	 /* SN */
	put_text(data, 24, 40, "Viaduct NVMe");	 /* MN */
	put_text(data, 64, 8, VD_VERSION);	 /* FR */
	data[72] = 0;				 /* RAB */
	data[77] = NVME_MDTS;			 /* MDTS, in units of CAP.MPSMIN */
	put16(data, 78, 1);			 /* CNTLID */
	put32(data, 80, 0x00010400);		 /* VER */
	put32(data, 92, 1u << 8);		 /* OAES: namespace attribute notices */
	data[111] = 1;				 /* CNTRLTYPE: I/O controller */
	put16(data, 256, 1u << 8);		 /* OACS: doorbell buffer config */
	data[258] = 3;				 /* ACL, zero-based */
	data[259] = NVME_EVENTS_MAX - 1;	 /* AERL, zero-based */
	data[260] = 0x03;			 /* FRMW: one slot, read-only */
	data[261] = 1u << 2;			 /* LPA: offsets in Get Log Page */
	data[262] = NVME_ERRORS_MAX - 1;	 /* ELPE, zero-based */
	put16(data, 266, 343);			 /* WCTEMP */
	put16(data, 268, 353);			 /* CCTEMP */
	data[512] = NVME_SQE_SHIFT << 4 | NVME_SQE_SHIFT; /* SQES */
	data[513] = NVME_CQE_SHIFT << 4 | NVME_CQE_SHIFT; /* CQES */
	put32(data, 516, 1);			 /* NN */
	put16(data, 520, optional_commands(nvme)); /* ONCS */
	data[525] = 0x07;			 /* VWC: present; flush of all namespaces */
	snprintf((char *)data + 768, 256, "nqn.2014-08.org.nvmexpress:1234:1234:%s",
		 nvme->serial);			 /* SUBNQN */
	put16(data, 2048, 2500);		 /* PSD0: 25 W, the only power state */
}

/* Figure 245. */
static void identify_namespace(const struct nvme_controller *nvme, uint8_t *data)
{
	uint64_t blocks = vd_image_size(nvme->image) >> NVME_LBA_SHIFT;

	put64(data, 0, blocks);	 /* NSZE */
	put64(data, 8, blocks);	 /* NCAP */
	put64(data, 16, blocks); /* NUSE */
	/* DLFEAT: deallocated blocks read as zeroes; write zeroes may deallocate. */
	data[33] = vd_image_can_discard(nvme->image) ? 0x09 : 0x00;
	data[99] = vd_image_read_only(nvme->image); /* NSATTR: write protected */
	memcpy(data + 120, &nvme->eui64, 8);	    /* EUI64 */
	data[128 + 2] = NVME_LBA_SHIFT;		    /* LBAF0.LBADS */
}

/* Figure 251: one descriptor, EUI-64; the rest is zero, which ends the list. */
static void identify_descriptors(const struct nvme_controller *nvme, uint8_t *data)
{
	data[0] = 1; /* NIDT */
	data[1] = 8; /* NIDL */
	memcpy(data + 4, &nvme->eui64, 8);
}

uint16_t nvme_identify(struct nvme_controller *nvme, const struct nvme_command *command)
{
	uint8_t data[NVME_IDENTIFY_BYTES] = {0};

	switch (command->cdw10 & 0xff) {
	case NVME_CNS_CONTROLLER:
		identify_controller(nvme, data);
		break;
	case NVME_CNS_NAMESPACE:
		if (command->nsid != NVME_NSID)
			return NVME_INVALID_NAMESPACE;
		identify_namespace(nvme, data);
		break;
	case NVME_CNS_DESCRIPTORS:
		if (command->nsid != NVME_NSID)
			return NVME_INVALID_NAMESPACE;
		identify_descriptors(nvme, data);
		break;
	case NVME_CNS_ACTIVE_LIST:
		if (command->nsid >= NVME_NSID_ALL - 1)
			return NVME_INVALID_NAMESPACE;
		if (command->nsid < NVME_NSID)
			put32(data, 0, NVME_NSID);
		break;
	default:
		return NVME_INVALID_FIELD;
	}
	return nvme_prp_copy(nvme, command, data, sizeof(data), true);
}
