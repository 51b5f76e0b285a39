/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a DMA engine of the pool (docs/dma-engine.md) compute: it adds two vectors that lie in a segment of
 * this host, or of another one.
 *
 *     sisci_dma_engine FDID                  in this host's own memory
 *     sisci_dma_engine FDID NODE SEGMENT     in a segment of another host
 *     sisci_dma_engine show SEGMENT          shows such a segment until standard input ends
 *
 * The engine reaches nothing but what is mapped for it, by the addresses that mapping gives.
 */
#include <sisci_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ADAPTER 0
#define ELEMENTS 1024u
#define VECTOR_BYTES (ELEMENTS * 4u)
#define SEGMENT_SIZE (3u * VECTOR_BYTES) /* a, b and their sum */
#define RING_ENTRIES 16u
#define PATIENCE_S 10

/* Registers, in BAR0. */
enum {
    IDENTITY = 0x00,
    CONTROL = 0x10,
    STATUS = 0x14,
    RING_BASE_LOW = 0x20,
    RING_BASE_HIGH = 0x24,
    RING_ENTRIES_REGISTER = 0x28,
    TAIL = 0x1000
};
#define MAGIC 0x414d444cu
#define ENABLE 1u
#define RUNNING 1u
#define OPCODE_ADD 4u
#define DONE 1u

struct descriptor {
    uint16_t opcode, flags;
    uint32_t length;
    uint64_t source, destination, operand;
    uint64_t unused[3];
    uint32_t result, outcome;
};

static void check(const char* what, sci_error_t error) {
    if (error == SCI_ERR_OK) return;
    fprintf(stderr, "%s: %s\n", what, SCIGetErrorString(error));
    exit(EXIT_FAILURE);
}

static volatile uint32_t* reg(volatile void* bar, size_t offset) {
    return (volatile uint32_t*)((volatile unsigned char*)bar + offset);
}

/* Until the bits of MASK are VALUE. */
static void wait_for(const volatile uint32_t* place, uint32_t mask, uint32_t value, const char* what) {
    time_t end = time(NULL) + PATIENCE_S;
    while ((*place & mask) != value)
        if (time(NULL) > end) {
            fprintf(stderr, "the engine does not become %s\n", what);
            exit(EXIT_FAILURE);
        }
}

/* A segment of this host, prepared, available and mapped. */
static void* make_segment(sci_desc_t sd, unsigned int id, size_t size, sci_local_segment_t* segment,
                          sci_map_t* map) {
    sci_error_t error;
    void* bytes;
    SCICreateSegment(sd, segment, id, size, NULL, NULL, SCI_FLAG_AUTO_ID, &error);
    check("SCICreateSegment", error);
    SCIPrepareSegment(*segment, ADAPTER, 0, &error);
    check("SCIPrepareSegment", error);
    SCISetSegmentAvailable(*segment, ADAPTER, 0, &error);
    check("SCISetSegmentAvailable", error);
    bytes = SCIMapLocalSegment(*segment, map, 0, size, NULL, 0, &error);
    check("SCIMapLocalSegment", error);
    return bytes;
}

static void remove_segment(sci_local_segment_t segment, sci_map_t map) {
    sci_error_t error;
    SCIUnmapSegment(map, 0, &error);
    check("SCIUnmapSegment", error);
    do
        SCIRemoveSegment(segment, 0, &error);
    while (error == SCI_ERR_BUSY);
    check("SCIRemoveSegment", error);
}

/* The host that lends its memory. */
static void show(sci_desc_t sd, unsigned int id) {
    sci_local_segment_t segment;
    sci_map_t map;
    uint32_t* vectors = make_segment(sd, id, SEGMENT_SIZE, &segment, &map);
    printf("segment %u\n", SCIGetLocalSegmentId(segment));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    printf("the sum of the last elements is %u\n", (unsigned int)vectors[3 * ELEMENTS - 1]);
    remove_segment(segment, map);
}

/* Adds the vectors at IOADDR of the engine's. RING is this host's memory, RING_IOADDR where the engine finds
 * it. */
static void compute(volatile void* bar, struct descriptor* ring, sci_ioaddr_t ring_ioaddr,
                    sci_ioaddr_t ioaddr) {
    volatile uint32_t* outcome = &ring[0].outcome;
    memset(ring, 0, RING_ENTRIES * sizeof ring[0]);
    ring[0].opcode = OPCODE_ADD;
    ring[0].length = VECTOR_BYTES;
    ring[0].source = ioaddr;
    ring[0].operand = ioaddr + VECTOR_BYTES;
    ring[0].destination = ioaddr + 2 * VECTOR_BYTES;

    *reg(bar, RING_BASE_LOW) = (uint32_t)ring_ioaddr;
    *reg(bar, RING_BASE_HIGH) = (uint32_t)(ring_ioaddr >> 32);
    *reg(bar, RING_ENTRIES_REGISTER) = RING_ENTRIES;
    *reg(bar, CONTROL) = ENABLE;
    wait_for(reg(bar, STATUS), RUNNING, RUNNING, "ready");

    SCIFlush(NULL, 0); /* the descriptor is there before the engine is told */
    *reg(bar, TAIL) = 1;
    wait_for(outcome, UINT32_MAX, DONE, "done");

    *reg(bar, CONTROL) = 0;
    wait_for(reg(bar, STATUS), RUNNING, 0, "idle");
}

/* In memory of this host: mapped for the engine as a local segment. */
static void compute_here(sci_desc_t sd, sci_smartio_device_t engine, volatile void* bar,
                         struct descriptor* ring, sci_ioaddr_t ring_ioaddr) {
    sci_error_t error;
    sci_local_segment_t segment;
    sci_map_t map;
    sci_ioaddr_t ioaddr;
    uint32_t i, wrong = 0;
    uint32_t* vectors = make_segment(sd, 1, SEGMENT_SIZE, &segment, &map);
    for (i = 0; i < ELEMENTS; ++i) {
        vectors[i] = i;
        vectors[ELEMENTS + i] = 1000 * i;
    }
    SCIMapLocalSegmentForDevice(segment, ADAPTER, engine, &ioaddr, 0, SEGMENT_SIZE, 0, &error);
    check("SCIMapLocalSegmentForDevice", error);
    compute(bar, ring, ring_ioaddr, ioaddr);
    for (i = 0; i < ELEMENTS; ++i)
        wrong += vectors[2 * ELEMENTS + i] != 1001 * i;
    printf("added %u elements in this host's memory, %u wrong\n", ELEMENTS, (unsigned int)wrong);
    SCIUnmapLocalSegmentForDevice(segment, ADAPTER, engine, 0, &error);
    check("SCIUnmapLocalSegmentForDevice", error);
    remove_segment(segment, map);
    if (wrong) exit(EXIT_FAILURE);
}

/* In memory of another host: mapped for the engine as a remote segment. This host is not in between. */
static void compute_there(sci_desc_t sd, sci_smartio_device_t engine, volatile void* bar,
                          struct descriptor* ring, sci_ioaddr_t ring_ioaddr, unsigned int node,
                          unsigned int id) {
    sci_error_t error;
    sci_remote_segment_t segment;
    sci_map_t map;
    sci_ioaddr_t ioaddr;
    uint32_t i, wrong = 0;
    volatile uint32_t* vectors;
    SCIConnectSegment(sd, &segment, node, id, ADAPTER, NULL, NULL, 1000 * PATIENCE_S, 0, &error);
    check("SCIConnectSegment", error);
    vectors = SCIMapRemoteSegment(segment, &map, 0, SEGMENT_SIZE, NULL, 0, &error);
    check("SCIMapRemoteSegment", error);
    for (i = 0; i < ELEMENTS; ++i) {
        vectors[i] = 2 * i;
        vectors[ELEMENTS + i] = 3 * i;
    }
    SCIMapRemoteSegmentForDevice(segment, engine, &ioaddr, 0, SEGMENT_SIZE, 0, &error);
    check("SCIMapRemoteSegmentForDevice", error);
    compute(bar, ring, ring_ioaddr, ioaddr);
    for (i = 0; i < ELEMENTS; ++i)
        wrong += vectors[2 * ELEMENTS + i] != 5 * i;
    printf("added %u elements in node %u's memory, %u wrong\n", ELEMENTS, node, (unsigned int)wrong);
    SCIUnmapRemoteSegmentForDevice(segment, engine, 0, &error);
    check("SCIUnmapRemoteSegmentForDevice", error);
    SCIUnmapSegment(map, 0, &error);
    check("SCIUnmapSegment", error);
    SCIDisconnectSegment(segment, 0, &error);
    check("SCIDisconnectSegment", error);
    if (wrong) exit(EXIT_FAILURE);
}

int main(int argc, char** argv) {
    sci_error_t error;
    sci_desc_t sd;
    sci_smartio_device_t engine;
    sci_remote_segment_t registers;
    sci_local_segment_t ring_segment;
    sci_map_t registers_map, ring_map;
    sci_ioaddr_t ring_ioaddr;
    volatile void* bar;
    struct descriptor* ring;

    if (argc < 2 || argc > 4 || (strcmp(argv[1], "show") == 0) != (argc == 3)) {
        fprintf(stderr, "usage: %s FDID [NODE SEGMENT] | show SEGMENT\n", argv[0]);
        return 2;
    }
    SCIInitialize(0, &error);
    check("SCIInitialize", error);
    SCIOpen(&sd, 0, &error);
    check("SCIOpen", error);
    if (argc == 3) {
        show(sd, (unsigned int)strtoul(argv[2], NULL, 10));
    } else {
        SCIBorrowDevice(sd, &engine, (uint32_t)strtoul(argv[1], NULL, 16), SCI_FLAG_EXCLUSIVE, &error);
        check("SCIBorrowDevice", error);
        SCIConnectDeviceSegment(engine, &registers, 0, SCI_MEMTYPE_BAR, NULL, NULL, 0, &error);
        check("SCIConnectDeviceSegment", error);
        bar = SCIMapRemoteSegment(registers, &registers_map, 0, SCIGetRemoteSegmentSize(registers), NULL,
                                  SCI_FLAG_IO_MAP_IOSPACE, &error);
        check("SCIMapRemoteSegment", error);
        if (*reg(bar, IDENTITY) != MAGIC) {
            fprintf(stderr, "this is no DMA engine\n");
            return EXIT_FAILURE;
        }

        /* The descriptors lie in this host's memory. */
        ring = make_segment(sd, 2, RING_ENTRIES * sizeof ring[0], &ring_segment, &ring_map);
        SCIMapLocalSegmentForDevice(ring_segment, ADAPTER, engine, &ring_ioaddr, 0,
                                    RING_ENTRIES * sizeof ring[0], 0, &error);
        check("SCIMapLocalSegmentForDevice", error);

        if (argc == 2)
            compute_here(sd, engine, bar, ring, ring_ioaddr);
        else
            compute_there(sd, engine, bar, ring, ring_ioaddr, (unsigned int)strtoul(argv[2], NULL, 10),
                          (unsigned int)strtoul(argv[3], NULL, 10));

        SCIUnmapLocalSegmentForDevice(ring_segment, ADAPTER, engine, 0, &error);
        check("SCIUnmapLocalSegmentForDevice", error);
        remove_segment(ring_segment, ring_map);
        SCIUnmapSegment(registers_map, 0, &error);
        check("SCIUnmapSegment", error);
        SCIDisconnectSegment(registers, 0, &error);
        check("SCIDisconnectSegment", error);
        SCIReturnDevice(engine, 0, &error);
        check("SCIReturnDevice", error);
    }
    SCIClose(sd, 0, &error);
    SCITerminate();
    return EXIT_SUCCESS;
}
