/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives an NVMe drive of the pool from a program, wherever it sits: no driver of any operating system, no
 * copies, no interrupts. Says what the drive is, and reads blocks of it; with a text it writes that first.
 *
 *     sisci_read_blocks FDID [BLOCK [TEXT]]
 *
 * The registers are mapped into this process; the queues and the data lie in segments of this host, mapped
 * for the drive. What is written to the drive below is the NVM Express Base Specification's, revision 1.4.
 */
#include <sisci_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ADAPTER 0
#define PAGE 4096u
#define QUEUE_ENTRIES 16u
#define PATIENCE_S 20

/* Controller registers (3.1). */
enum { CAP = 0x00, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };
/* I/O queue entries of 64 and 16 bytes, enable. */
#define CC_ENABLED ((6u << 16) | (4u << 20) | 1u)
/* Opcodes (5, 6). */
enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, IDENTIFY = 0x06, WRITE = 0x01, READ = 0x02 };

struct command {
    uint32_t opcode_and_id, nsid, unused[4];
    uint64_t data[2];  /* what the drive has to use */
    uint32_t dword[6]; /* 10 to 15 */
};
struct completion {
    uint32_t result, unused;
    uint16_t sq_head, sq_id, id, phase_and_status;
};

/* Memory of this host that the drive reaches. */
struct shared_page {
    sci_local_segment_t segment;
    sci_map_t map;
    void* bytes;
    sci_ioaddr_t ioaddr;
};

struct queue {
    struct shared_page submissions, completions;
    volatile uint32_t *tail_doorbell, *head_doorbell;
    uint32_t tail, head, phase;
    uint16_t next_id;
};

static void check(const char* what, sci_error_t error) {
    if (error == SCI_ERR_OK) return;
    fprintf(stderr, "%s: %s\n", what, SCIGetErrorString(error));
    exit(EXIT_FAILURE);
}

static void give_up(const char* why, unsigned int value) {
    fprintf(stderr, "%s (%x)\n", why, value);
    exit(EXIT_FAILURE);
}

static volatile uint32_t* reg32(volatile void* bar, size_t offset) {
    return (volatile uint32_t*)((volatile unsigned char*)bar + offset);
}
static volatile uint64_t* reg64(volatile void* bar, size_t offset) {
    return (volatile uint64_t*)((volatile unsigned char*)bar + offset);
}

static struct shared_page share_page(sci_desc_t sd, sci_smartio_device_t drive) {
    struct shared_page page;
    sci_error_t error;
    SCICreateSegment(sd, &page.segment, 1, PAGE, NULL, NULL, SCI_FLAG_AUTO_ID, &error);
    check("SCICreateSegment", error);
    SCIPrepareSegment(page.segment, ADAPTER, 0, &error);
    check("SCIPrepareSegment", error);
    SCISetSegmentAvailable(page.segment, ADAPTER, 0, &error);
    check("SCISetSegmentAvailable", error);
    page.bytes = SCIMapLocalSegment(page.segment, &page.map, 0, PAGE, NULL, 0, &error);
    check("SCIMapLocalSegment", error);
    SCIMapLocalSegmentForDevice(page.segment, ADAPTER, drive, &page.ioaddr, 0, PAGE, 0, &error);
    check("SCIMapLocalSegmentForDevice", error);
    return page;
}

static void unshare_page(struct shared_page* page, sci_smartio_device_t drive) {
    sci_error_t error;
    do
        SCIUnmapLocalSegmentForDevice(page->segment, ADAPTER, drive, 0, &error);
    while (error == SCI_ERR_BUSY);
    check("SCIUnmapLocalSegmentForDevice", error);
    SCIUnmapSegment(page->map, 0, &error);
    check("SCIUnmapSegment", error);
    do
        SCIRemoveSegment(page->segment, 0, &error);
    while (error == SCI_ERR_BUSY);
    check("SCIRemoveSegment", error);
}

static struct queue make_queue(sci_desc_t sd, sci_smartio_device_t drive, volatile void* bar,
                               unsigned int number) {
    struct queue queue;
    size_t stride = 4u << (*reg64(bar, CAP) >> 32 & 0xf);
    memset(&queue, 0, sizeof queue);
    queue.submissions = share_page(sd, drive);
    queue.completions = share_page(sd, drive);
    queue.tail_doorbell = reg32(bar, DOORBELLS + 2 * number * stride);
    queue.head_doorbell = reg32(bar, DOORBELLS + (2 * number + 1) * stride);
    queue.phase = 1;
    return queue;
}

/* Submits a command, and polls until it is done. */
static void run(struct queue* queue, struct command command, const char* what) {
    struct command* slot = (struct command*)queue->submissions.bytes + queue->tail;
    volatile struct completion* done = (struct completion*)queue->completions.bytes + queue->head;
    time_t end = time(NULL) + PATIENCE_S;
    command.opcode_and_id |= (uint32_t)queue->next_id++ << 16;
    *slot = command;
    queue->tail = (queue->tail + 1) % QUEUE_ENTRIES;
    SCIFlush(NULL, 0); /* the command is there before the drive is told */
    *queue->tail_doorbell = queue->tail;

    while ((done->phase_and_status & 1u) != queue->phase)
        if (time(NULL) > end) give_up(what, 0xffff);
    if (done->phase_and_status >> 1 != 0) give_up(what, done->phase_and_status >> 1);
    queue->head = (queue->head + 1) % QUEUE_ENTRIES;
    if (queue->head == 0) queue->phase ^= 1u;
    *queue->head_doorbell = queue->head;
}

/* Resets the drive and gives it its first queues, for administration (7.6.1). */
static struct queue start(sci_desc_t sd, sci_smartio_device_t drive, volatile void* bar) {
    struct queue admin = make_queue(sd, drive, bar, 0);
    time_t end = time(NULL) + PATIENCE_S;
    *reg32(bar, CC) = 0;
    while (*reg32(bar, CSTS) & 1u)
        if (time(NULL) > end) give_up("the drive does not stop", *reg32(bar, CSTS));
    *reg32(bar, AQA) = (QUEUE_ENTRIES - 1) << 16 | (QUEUE_ENTRIES - 1);
    *reg64(bar, ASQ) = admin.submissions.ioaddr;
    *reg64(bar, ACQ) = admin.completions.ioaddr;
    *reg32(bar, CC) = CC_ENABLED;
    while ((*reg32(bar, CSTS) & 1u) == 0)
        if (time(NULL) > end) give_up("the drive does not start", *reg32(bar, CSTS));
    return admin;
}

/* One more pair of queues, for reading and writing. */
static struct queue make_io_queue(sci_desc_t sd, sci_smartio_device_t drive, volatile void* bar,
                                  struct queue* admin) {
    struct queue io = make_queue(sd, drive, bar, 1);
    struct command command;
    memset(&command, 0, sizeof command);
    command.opcode_and_id = CREATE_CQ;
    command.data[0] = io.completions.ioaddr;
    command.dword[0] = (QUEUE_ENTRIES - 1) << 16 | 1;
    command.dword[1] = 1; /* in one piece; no interrupts */
    run(admin, command, "no completion queue");
    command.opcode_and_id = CREATE_SQ;
    command.data[0] = io.submissions.ioaddr;
    command.dword[1] = 1u << 16 | 1; /* whose completions go to queue 1 */
    run(admin, command, "no submission queue");
    return io;
}

static void identify(struct queue* admin, struct shared_page* data, uint32_t what, uint32_t nsid) {
    struct command command;
    memset(&command, 0, sizeof command);
    command.opcode_and_id = IDENTIFY;
    command.nsid = nsid;
    command.data[0] = data->ioaddr;
    command.dword[0] = what;
    run(admin, command, "it does not say what it is");
}

/* One page from BLOCK on. */
static void transfer(struct queue* io, struct shared_page* data, uint32_t opcode, uint64_t block,
                     uint32_t blocks) {
    struct command command;
    memset(&command, 0, sizeof command);
    command.opcode_and_id = opcode;
    command.nsid = 1;
    command.data[0] = data->ioaddr;
    command.dword[0] = (uint32_t)block;
    command.dword[1] = (uint32_t)(block >> 32);
    command.dword[2] = blocks - 1;
    run(io, command, opcode == READ ? "it does not read" : "it does not write");
}

int main(int argc, char** argv) {
    sci_error_t error;
    sci_desc_t sd;
    sci_smartio_device_t drive;
    sci_remote_segment_t registers;
    sci_map_t map;
    volatile void* bar;
    struct queue admin, io;
    struct shared_page data;
    uint64_t block;
    uint32_t block_size;
    const unsigned char* said;

    if (argc < 2) {
        fprintf(stderr, "usage: %s FDID [BLOCK [TEXT]]\n", argv[0]);
        return 2;
    }
    block = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

    SCIInitialize(0, &error);
    check("SCIInitialize", error);
    SCIOpen(&sd, 0, &error);
    check("SCIOpen", error);

    /* Nobody else may have it: there is one pair of queues for administration. */
    SCIBorrowDevice(sd, &drive, (uint32_t)strtoul(argv[1], NULL, 16), SCI_FLAG_EXCLUSIVE, &error);
    check("SCIBorrowDevice", error);
    SCIConnectDeviceSegment(drive, &registers, 0, SCI_MEMTYPE_BAR, NULL, NULL, 0, &error);
    check("SCIConnectDeviceSegment", error);
    bar = SCIMapRemoteSegment(registers, &map, 0, SCIGetRemoteSegmentSize(registers), NULL,
                              SCI_FLAG_IO_MAP_IOSPACE, &error);
    check("SCIMapRemoteSegment", error);

    admin = start(sd, drive, bar);
    data = share_page(sd, drive);
    said = data.bytes;
    identify(&admin, &data, 1, 0);
    printf("%.40s, serial number %.20s\n", (const char*)said + 24, (const char*)said + 4);
    identify(&admin, &data, 0, 1);
    block_size = 1u << said[128 + 4 * (said[26] & 0xf) + 2]; /* of the format in use (5.15.2.1) */

    io = make_io_queue(sd, drive, bar, &admin);
    if (argc > 3) {
        memset(data.bytes, 0, PAGE);
        strncpy(data.bytes, argv[3], PAGE - 1);
        transfer(&io, &data, WRITE, block, PAGE / block_size);
        memset(data.bytes, 0, PAGE);
    }
    transfer(&io, &data, READ, block, PAGE / block_size);
    printf("block %llu: \"%.64s\"\n", (unsigned long long)block, (const char*)data.bytes);

    *reg32(bar, CC) = 0; /* it uses none of this memory any more */
    unshare_page(&data, drive);
    unshare_page(&io.submissions, drive);
    unshare_page(&io.completions, drive);
    unshare_page(&admin.submissions, drive);
    unshare_page(&admin.completions, drive);
    SCIUnmapSegment(map, 0, &error);
    check("SCIUnmapSegment", error);
    SCIDisconnectSegment(registers, 0, &error);
    check("SCIDisconnectSegment", error);
    SCIReturnDevice(drive, 0, &error);
    check("SCIReturnDevice", error);
    SCIClose(sd, 0, &error);
    SCITerminate();
    return EXIT_SUCCESS;
}
