/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two programs on two hosts throw a number to each other: each has a segment into which the other writes.
 *
 *     sisci_pingpong serve NODE              on one host; NODE is the other's
 *     sisci_pingpong play NODE [ROUNDS]      on the other; prints how long a round trip takes
 *
 * Each side polls memory of its own, which is fast; what it writes goes to the other side's.
 */
#define _POSIX_C_SOURCE 200809L
#include <sched.h>
#include <sisci_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ADAPTER 0
#define SEGMENT_OF_SERVER 4000
#define SEGMENT_OF_PLAYER 4001
#define SEGMENT_SIZE 4096
#define PATIENCE_MS 10000
#define END UINT64_MAX

static void check(const char* what, sci_error_t error) {
    if (error == SCI_ERR_OK) return;
    fprintf(stderr, "%s: %s\n", what, SCIGetErrorString(error));
    exit(EXIT_FAILURE);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Waits until the other side has thrown something else than OLD. */
static uint64_t catch_next(const volatile uint64_t* ball, uint64_t old) {
    uint64_t value;
    unsigned int looks = 0;
    while ((value = *ball) == old)
        if (++looks % 1024 == 0) sched_yield(); /* whoever throws may need this processor */
    return value;
}

int main(int argc, char** argv) {
    sci_error_t error;
    sci_desc_t sd;
    sci_local_segment_t own;
    sci_remote_segment_t others;
    sci_map_t own_map, others_map;
    const volatile uint64_t* incoming;
    volatile uint64_t* outgoing;
    int serve;
    unsigned int node;
    uint64_t rounds, round;

    if (argc < 3 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "play") != 0)) {
        fprintf(stderr, "usage: %s serve|play NODE [ROUNDS]\n", argv[0]);
        return 2;
    }
    serve = strcmp(argv[1], "serve") == 0;
    node = (unsigned int)strtoul(argv[2], NULL, 10);
    rounds = argc > 3 ? strtoull(argv[3], NULL, 10) : 10000;

    SCIInitialize(0, &error);
    check("SCIInitialize", error);
    SCIOpen(&sd, 0, &error);
    check("SCIOpen", error);

    /* Memory of this host, for the other one to write to. It is full of zeroes. */
    SCICreateSegment(sd, &own, serve ? SEGMENT_OF_SERVER : SEGMENT_OF_PLAYER, SEGMENT_SIZE, NULL, NULL, 0,
                     &error);
    check("SCICreateSegment", error);
    SCIPrepareSegment(own, ADAPTER, 0, &error);
    check("SCIPrepareSegment", error);
    incoming = SCIMapLocalSegment(own, &own_map, 0, SEGMENT_SIZE, NULL, 0, &error);
    check("SCIMapLocalSegment", error);
    SCISetSegmentAvailable(own, ADAPTER, 0, &error);
    check("SCISetSegmentAvailable", error);

    /* The other host's, which may have to be waited for. */
    SCIConnectSegment(sd, &others, node, serve ? SEGMENT_OF_PLAYER : SEGMENT_OF_SERVER, ADAPTER, NULL, NULL,
                      PATIENCE_MS, 0, &error);
    check("SCIConnectSegment", error);
    outgoing = SCIMapRemoteSegment(others, &others_map, 0, SEGMENT_SIZE, NULL, 0, &error);
    check("SCIMapRemoteSegment", error);

    if (serve) {
        for (round = 0; round != END; *outgoing = round)
            round = catch_next(incoming, round);
    } else {
        uint64_t start = now_ns();
        for (round = 1; round <= rounds; ++round) {
            *outgoing = round;
            catch_next(incoming, round - 1);
        }
        printf("%llu round trips, %.0f ns each\n", (unsigned long long)rounds,
               (double)(now_ns() - start) / (double)rounds);
        *outgoing = END;
        catch_next(incoming, rounds); /* it has seen that this was the end */
    }

    SCIUnmapSegment(others_map, 0, &error);
    check("SCIUnmapSegment", error);
    SCIDisconnectSegment(others, 0, &error);
    check("SCIDisconnectSegment", error);
    SCIUnmapSegment(own_map, 0, &error);
    check("SCIUnmapSegment", error);
    do
        SCIRemoveSegment(own, 0, &error); /* BUSY until the other side has let go */
    while (error == SCI_ERR_BUSY);
    check("SCIRemoveSegment", error);
    SCIClose(sd, 0, &error);
    SCITerminate();
    return EXIT_SUCCESS;
}
