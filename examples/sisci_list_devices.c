/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the devices of the pool.
 *
 *     sisci_list_devices              all of them
 *     sisci_list_devices 010802       those of a PCI class, in hexadecimal: NVMe drives
 */
#include <sisci_api.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what, sci_error_t error) {
    fprintf(stderr, "%s: %s\n", what, SCIGetErrorString(error));
    return EXIT_FAILURE;
}

int main(int argc, char** argv) {
    sci_error_t error;
    sci_desc_t sd;
    uint32_t ids[256];
    size_t count, i;

    /* What is zero in a filter is not looked at. */
    sci_smartio_device_info_t filter = {0};
    if (argc > 1) filter.pci_class = (unsigned int)strtoul(argv[1], NULL, 16);

    SCIInitialize(0, &error);
    if (error != SCI_ERR_OK) return fail("SCIInitialize", error);
    SCIOpen(&sd, 0, &error);
    if (error != SCI_ERR_OK) return fail("SCIOpen", error);

    count = SCIGetDeviceList(sd, ids, sizeof ids / sizeof ids[0], &filter, 0, &error);
    if (error != SCI_ERR_OK) return fail("SCIGetDeviceList", error);

    for (i = 0; i < count; ++i) {
        sci_smartio_device_info_t info;
        sci_smartio_query_device_t query = {0};
        query.fdid = ids[i];
        query.subcommand = SCI_Q_DEVICE_INFO;
        query.data = &info;
        SCIQuery(SCI_Q_DEVICE, &query, 0, &error);
        if (error == SCI_ERR_NO_SUCH_FDID) continue; /* it has left the pool meanwhile */
        if (error != SCI_ERR_OK) return fail("SCIQuery", error);
        printf("%x: class %06x, vendor %04x, device %04x, on node %u, \"%s\"\n", (unsigned int)info.fdid,
               info.pci_class, info.pci_vendor_id, info.pci_device_id, info.nodeid, info.user_name);
    }

    SCIClose(sd, 0, &error);
    SCITerminate();
    return EXIT_SUCCESS;
}
