/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NVM Express Base Specification 1.4: numbers and layouts, with the sections they come from.
 * Structures are little-endian, as the hosts this is built for.
 */
#ifndef DEVICE_NVME_SPEC_H
#define DEVICE_NVME_SPEC_H

#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "NVMe structures are little-endian");

/* 3.1 Controller registers */
enum nvme_register {
	NVME_CAP = 0x00,
	NVME_VS = 0x08,
	NVME_INTMS = 0x0c,
	NVME_INTMC = 0x10,
	NVME_CC = 0x14,
	NVME_CSTS = 0x1c,
	NVME_NSSR = 0x20,
	NVME_AQA = 0x24,
	NVME_ASQ = 0x28,
	NVME_ACQ = 0x30,
	NVME_CMBLOC = 0x38,
	NVME_CMBSZ = 0x3c,
	NVME_CMBMSC = 0x50,
	NVME_CMBSTS = 0x58,
	NVME_REGISTERS_END = 0x1000,
};

#define NVME_CAP_CQR (1ull << 16)
#define NVME_CAP_TO(half_seconds) ((uint64_t)(half_seconds) << 24)
#define NVME_CAP_CSS_NVM (1ull << 37)
#define NVME_CAP_CMBS (1ull << 57)
#define NVME_CAP_MPSMAX(shift) ((uint64_t)((shift) - 12) << 52)

#define NVME_CC_EN (1u << 0)
#define NVME_CC_CSS(cc) ((cc) >> 4 & 7)
#define NVME_CC_MPS(cc) ((cc) >> 7 & 15)
#define NVME_CC_AMS(cc) ((cc) >> 11 & 7)
#define NVME_CC_SHN(cc) ((cc) >> 14 & 3)
#define NVME_CC_IOSQES(cc) ((cc) >> 16 & 15)
#define NVME_CC_IOCQES(cc) ((cc) >> 20 & 15)
#define NVME_CC_WRITABLE 0x00fffff1u

#define NVME_CSTS_RDY (1u << 0)
#define NVME_CSTS_CFS (1u << 1)
#define NVME_CSTS_SHST_DONE (2u << 2)
#define NVME_CSTS_SHST_MASK (3u << 2)

#define NVME_CMBSZ_SQS 1u
#define NVME_CMBMSC_CRE 1ull
#define NVME_CMBMSC_CMSE 2ull
#define NVME_CMBMSC_CBA (~0xfffull)
#define NVME_CMBSTS_CBAI 1u

/* 4.2 Submission queue entry */
struct nvme_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t metadata;
	uint64_t prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_command) == 64, "figure 104");
#define NVME_SQE_SHIFT 6u
#define NVME_FLAGS_FUSE 0x03u
#define NVME_FLAGS_PSDT 0xc0u

/* 4.6 Completion queue entry */
struct nvme_completion {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status; /* bit 0: phase */
};
_Static_assert(sizeof(struct nvme_completion) == 16, "figure 122");
#define NVME_CQE_SHIFT 4u

/* 4.6.1 Status field without the phase bit: code, type << 8, do not retry */
#define NVME_DNR 0x4000u
#define NVME_MORE 0x2000u
enum nvme_status {
	NVME_SUCCESS = 0,
	/* figure 127: generic */
	NVME_INVALID_OPCODE = 0x01 | NVME_DNR,
	NVME_INVALID_FIELD = 0x02 | NVME_DNR,
	NVME_DATA_TRANSFER_ERROR = 0x04,
	NVME_INTERNAL_ERROR = 0x06,
	NVME_ABORT_REQUESTED = 0x07,
	NVME_INVALID_NAMESPACE = 0x0b | NVME_DNR,
	NVME_COMMAND_SEQUENCE_ERROR = 0x0c | NVME_DNR,
	NVME_INVALID_CMB_USE = 0x12 | NVME_DNR,
	NVME_INVALID_PRP_OFFSET = 0x13 | NVME_DNR,
	NVME_WRITE_PROTECTED = 0x20 | NVME_DNR,
	/* figure 128: generic, NVM command set */
	NVME_LBA_OUT_OF_RANGE = 0x80 | NVME_DNR,
	NVME_CAPACITY_EXCEEDED = 0x81 | NVME_DNR,
	/* figure 130: command specific */
	NVME_CQ_INVALID = 0x100 | NVME_DNR,
	NVME_INVALID_QUEUE_ID = 0x101 | NVME_DNR,
	NVME_INVALID_QUEUE_SIZE = 0x102 | NVME_DNR,
	NVME_AER_LIMIT_EXCEEDED = 0x105 | NVME_DNR,
	NVME_INVALID_VECTOR = 0x108 | NVME_DNR,
	NVME_INVALID_LOG_PAGE = 0x109 | NVME_DNR,
	NVME_INVALID_QUEUE_DELETION = 0x10c | NVME_DNR,
	NVME_FEATURE_NOT_SAVEABLE = 0x10d | NVME_DNR,
	NVME_FEATURE_NOT_CHANGEABLE = 0x10e | NVME_DNR,
	/* figure 132: media and data integrity */
	NVME_WRITE_FAULT = 0x280,
	NVME_UNRECOVERED_READ = 0x281,
};
/* Not a status: the command stays outstanding and is completed later. */
#define NVME_PENDING 0xffffu

/* 5 Admin opcodes, 6 NVM opcodes */
enum nvme_admin_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
	NVME_ADMIN_DOORBELL_BUFFER = 0x7c,
};
enum nvme_io_opcode {
	NVME_IO_FLUSH = 0x00,
	NVME_IO_WRITE = 0x01,
	NVME_IO_READ = 0x02,
	NVME_IO_WRITE_ZEROES = 0x08,
	NVME_IO_DATASET_MANAGEMENT = 0x09,
};
#define NVME_NSID 1u
#define NVME_NSID_ALL 0xffffffffu

/* 5.15 Identify */
#define NVME_IDENTIFY_BYTES 4096u
enum nvme_cns {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_LIST = 0x02,
	NVME_CNS_DESCRIPTORS = 0x03,
};

/* 5.21.1 Features */
enum nvme_feature_id {
	NVME_FEATURE_ARBITRATION = 0x01,
	NVME_FEATURE_POWER = 0x02,
	NVME_FEATURE_TEMPERATURE = 0x04,
	NVME_FEATURE_ERROR_RECOVERY = 0x05,
	NVME_FEATURE_WRITE_CACHE = 0x06,
	NVME_FEATURE_QUEUES = 0x07,
	NVME_FEATURE_COALESCING = 0x08,
	NVME_FEATURE_VECTOR = 0x09,
	NVME_FEATURE_ATOMICITY = 0x0a,
	NVME_FEATURE_ASYNC_EVENTS = 0x0b,
	NVME_FEATURE_COUNT
};

/* 5.14.1 Log pages */
enum nvme_log_id {
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_HEALTH = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NAMESPACES = 0x04,
};

/* Figure 194: an error log entry */
struct nvme_error_entry {
	uint64_t count;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status;
	uint16_t parameter;
	uint64_t lba;
	uint32_t nsid;
	uint8_t reserved[36];
};
_Static_assert(sizeof(struct nvme_error_entry) == 64, "figure 194");

/* 5.2 Asynchronous events: type, and information of the error type (figures 147 and 148) */
enum nvme_event_type { NVME_EVENT_ERROR, NVME_EVENT_HEALTH, NVME_EVENT_NOTICE, NVME_EVENT_TYPES };
enum nvme_event_info {
	NVME_EVENT_INVALID_DOORBELL = 0,
	NVME_EVENT_INVALID_DOORBELL_VALUE = 1,
	NVME_EVENT_TEMPERATURE = 1,
};

/* 6.7 Dataset management */
struct nvme_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t lba;
};
#define NVME_RANGES_MAX 256u
#define NVME_DSM_DEALLOCATE 4u

#endif
