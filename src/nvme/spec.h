// SPDX-License-Identifier: Apache-2.0
//
// What the NVM Express Base Specification 2.0 and the NVM Command Set Specification 1.0 define, and nothing
// else: shared by the driver and the model.
#pragma once

#include "nvme/spec/commands.h"
#include "nvme/spec/identify.h"
#include "nvme/spec/logs.h"
#include "nvme/spec/registers.h"
#include "nvme/spec/status.h"
