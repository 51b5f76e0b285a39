/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a cluster, and types that belong to one.
 */
#ifndef DIS_DIS_TYPES_H
#define DIS_DIS_TYPES_H

/* Adapters of a host: numbers from 0 to one less than this are legal. lanepool has adapter 0 only. */
#define DIS_MAX_NSCIS 8

/* Nodes of a cluster that have one name, for lists of them. */
#define DIS_MAX_NODES_OF_NAME 16

/* Elements of the vector of one SCIStartDmaTransferVec(). */
#define DIS_DMA_MAX_VECLEN 256

/* The node id that means every node, where SCI_FLAG_BROADCAST is given (lanepool has no broadcast). */
#define DIS_BROADCAST_NODEID_GROUP_ALL 252

/* One part of a vector transfer. */
typedef struct {
    unsigned long long size;          /* bytes */
    unsigned long long local_offset;  /* of the local segment */
    unsigned long long remote_offset; /* of the remote segment */
    unsigned int flags;               /* 0 */
} dis_dma_vec_t;

/* Node ids, the unused ones 0. */
typedef unsigned int dis_nodeId_list_t[DIS_MAX_NODES_OF_NAME];

/* What kind of adapter a node is reached by. */
typedef unsigned int dis_virt_adapter_t;

#endif
