/* SPDX-License-Identifier: Apache-2.0 */
/* What a SISCI program is at least. Where no agent is, it says so. */
#include <dis/dis_types.h>
#include <sisci_api.h>
#include <sisci_error.h>
#include <sisci_types.h>
#include <stdio.h>

int main(void) {
    sci_error_t error;
    SCIInitialize(0, &error);
    printf("%s\n", SCIGetErrorString(error));
    return error == SCI_ERR_SYSTEM ? 0 : 1;
}
