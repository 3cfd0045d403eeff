// SPDX-FileCopyrightText: The spigate contributors
//
// SPDX-License-Identifier: Apache-2.0

// In front of the other files: the board has a host link on a serial line.
`define SERIAL_LINK
