/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles, callbacks and structures of the SISCI API. A handle is a name for something that the library
 * keeps: it is never followed, and one that is not valid any more is refused with SCI_ERR_ILLEGAL_PARAMETER.
 */
#ifndef SISCI_TYPES_H
#define SISCI_TYPES_H

#include "dis/dis_types.h"
#include "sisci_error.h"

#include <stddef.h>
#include <stdint.h>

#ifndef IN
#define IN
#endif
#ifndef OUT
#define OUT
#endif
#ifndef IN_OUT
#define IN_OUT
#endif

typedef struct sci_desc* sci_desc_t;
typedef struct sci_local_segment* sci_local_segment_t;
typedef struct sci_remote_segment* sci_remote_segment_t;
typedef struct sci_map* sci_map_t;
typedef struct sci_sequence* sci_sequence_t;
typedef struct sci_dma_queue* sci_dma_queue_t;
typedef struct sci_dma_channel* sci_dma_channel_t;
typedef struct sci_local_interrupt* sci_local_interrupt_t;
typedef struct sci_remote_interrupt* sci_remote_interrupt_t;
typedef struct sci_local_data_interrupt* sci_local_data_interrupt_t;
typedef struct sci_remote_data_interrupt* sci_remote_data_interrupt_t;
typedef struct sci_block_transfer* sci_block_transfer_t;
typedef struct sci_smartio_device* sci_smartio_device_t;

/* An address as a device (or an adapter) has to use it. */
typedef unsigned long long sci_ioaddr_t;

/* Why a segment's callback was called. */
typedef enum {
    SCI_CB_CONNECT = 1,     /* local: somebody has connected; never of a remote one */
    SCI_CB_DISCONNECT,      /* local: somebody has disconnected; remote: it is to be disconnected */
    SCI_CB_NOT_OPERATIONAL, /* never here: a host that does not answer is LOST */
    SCI_CB_OPERATIONAL,     /* never here */
    SCI_CB_LOST             /* it is gone for good: unmap and disconnect */
} sci_segment_cb_reason_t;

#define MAX_CB_REASON SCI_CB_LOST

typedef enum {
    SCI_DMAQUEUE_IDLE,    /* empty */
    SCI_DMAQUEUE_GATHER,  /* has transfers that are not posted */
    SCI_DMAQUEUE_POSTED,  /* at work */
    SCI_DMAQUEUE_DONE,    /* all transfers are done */
    SCI_DMAQUEUE_ABORTED, /* by SCIAbortDMAQueue() */
    SCI_DMAQUEUE_ERROR    /* a transfer failed */
} sci_dma_queue_state_t;

typedef enum {
    SCI_SEQ_OK,            /* all that was written since the last check has arrived */
    SCI_SEQ_RETRIABLE,     /* it has not: write it again */
    SCI_SEQ_NOT_RETRIABLE, /* it has not, and will not */
    SCI_SEQ_PENDING        /* not yet known: ask again */
} sci_sequence_status_t;

/* What a callback answers: whether it wants to be called again. */
typedef enum { SCI_CALLBACK_CANCEL = 1, SCI_CALLBACK_CONTINUE } sci_callback_action_t;

/* Callbacks come on a thread of the library, one at a time for one resource, and may call the API. */
typedef sci_callback_action_t (*sci_cb_local_segment_t)(void* arg, sci_local_segment_t segment,
                                                        sci_segment_cb_reason_t reason, unsigned int nodeId,
                                                        unsigned int localAdapterNo, sci_error_t error);
typedef sci_callback_action_t (*sci_cb_remote_segment_t)(void* arg, sci_remote_segment_t segment,
                                                         sci_segment_cb_reason_t reason, sci_error_t status);
typedef sci_callback_action_t (*sci_cb_interrupt_t)(void* arg, sci_local_interrupt_t interrupt,
                                                    sci_error_t status);
/* DATA is the library's, until the callback returns. */
typedef sci_callback_action_t (*sci_cb_data_interrupt_t)(void* arg, sci_local_data_interrupt_t interrupt,
                                                         void* data, unsigned int length, sci_error_t status);
typedef sci_callback_action_t (*sci_cb_dma_t)(void* arg, sci_dma_queue_t queue, sci_error_t status);
typedef int (*sci_cb_block_transfer_t)(void* arg, sci_block_transfer_t block, sci_error_t status);

/* Which engine copies. In lanepool all of them are a thread of the library. */
typedef unsigned int sci_dma_type_t;

/* What SCIQuery() takes and fills in: see there. */
typedef struct {
    char* str;           /* room for the text */
    unsigned int length; /* of that, in bytes */
} sci_query_string_t;

typedef struct {
    unsigned int localAdapterNo;
    unsigned int portNo; /* of the adapter's links; lanepool has one, 0 */
    unsigned int subcommand;
    void* data; /* an unsigned int */
} sci_query_adapter_t;

typedef struct {
    unsigned int subcommand;
    void* data; /* an unsigned int */
} sci_query_system_t;

typedef struct {
    sci_local_segment_t segment;
    unsigned int subcommand;
    union {
        sci_ioaddr_t ioaddr;
    } data;
} sci_query_local_segment_t;

typedef struct {
    sci_remote_segment_t segment;
    unsigned int subcommand;
    union {
        sci_ioaddr_t ioaddr;
    } data;
} sci_query_remote_segment_t;

typedef struct {
    sci_map_t map;
    unsigned int subcommand;
    unsigned long long data;
} sci_query_map_t;

typedef struct {
    unsigned int localAdapterNo;
    unsigned int subcommand;
    void* data; /* an unsigned int, or sci_dma_capabilities_t */
} sci_query_dma_t;

typedef struct {
    unsigned int num_channels;
    unsigned int max_transfer_size; /* bytes */
    unsigned int max_vector_length;
    unsigned int support_mem2io; /* 1: from memory to a device's memory */
    unsigned int support_io2mem;
    unsigned int support_io2io;
    unsigned int min_align_bytes;
    unsigned int suggested_align_bytes;
} sci_dma_capabilities_t;

typedef struct {
    unsigned long long fdid;
    unsigned int subcommand;
    void* data; /* sci_smartio_device_info_t */
} sci_smartio_query_device_t;

/* A device of the pool. In a filter of SCIGetDeviceList(), what is zero or empty is not looked at. */
typedef struct {
    unsigned long long fdid;
    unsigned short pci_device_id;
    unsigned short pci_vendor_id;
    unsigned int pci_class; /* class, subclass, interface: 0x010802 is an NVMe drive */
    unsigned short pci_subsystem_device_id;
    unsigned short pci_subsystem_vendor_id;
    unsigned long long pci_serial_number;
    unsigned short remote_bdf; /* 0: lanepool does not tell a borrower the lender's bus numbers */
    unsigned short local_bdf;  /* 0: it has none on a borrower */
    unsigned int adapter;      /* by which it is reached: 0 */
    unsigned int nodeid;       /* of the host in which it is */
    int physical_slot;         /* -1: not known */
    char user_name[64];        /* the pool's name for it */
    char uuid[37];             /* empty: devices of the pool have none */
} sci_smartio_device_info_t;

#endif
